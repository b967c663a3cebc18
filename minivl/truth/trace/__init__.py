"""Traces: what every stage of a run gave, in a file; and the comparison of somebody else's run with it.

    format.py       the file: stages, arrays, coordinates      record.py     a run as such a file
    oracle.py       transformers, listened to                  names.py      which module is which stage
    importers.py    what toolchains leave behind               guess.py      what their names mean
    align.py        their rows in the golden order             metrics.py    how far two arrays are apart
    yardstick.py    how far rounding alone goes                verdict.py    exact, rounding, suspicious, wrong
    slices.py       where in an array a difference sits        local.py      each stage on the candidate's own inputs
    report.py       for a terminal and a program               page.py       for a browser
    recorder.py     to be carried to a device                  torch_recorder.py     for any module tree
    llama_recorder.py    for llama.cpp's Python binding

Plain data goes from one to the next. Read next: `truth/compare/compare.py`, which calls them in order;
docs/reference/trace-format.md.
"""

"""Traces: what every stage of a run gave, in a file; and the comparison of somebody else's run with it.

    format.py       the file: stages, arrays, coordinates          record.py     a run of minivl or of transformers into it
    importers.py    what toolchains leave behind, as arrays        yardstick.py  how far rounding alone goes
    align.py        the candidate's rows in the golden order       metrics.py    how far two arrays are apart
    verdict.py      exact, rounding, suspicious or wrong           report.py     for a terminal, a program, a browser

Plain data goes from one to the next. Read next: `compare.py`, which calls them in this order; docs/trace-format.md.
"""

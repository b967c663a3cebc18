"""Somebody's run beside the golden one, stage by stage: how far apart, what of it is rounding, and where
it begins.

    importers.py   what toolchains leave behind            guess.py     what their names mean
    align.py       their rows in the golden order          metrics.py   how far two arrays are apart
    yardstick.py   how far rounding alone goes             verdict.py   what an error is worth, in a word
    coarse.py      what weights of few bits cost           unplaced.py  arrays without a label
    slices.py      where in an array a difference sits     compare.py   all of it in order
    run_on.py      our stages on somebody's values         local.py     each stage on its own inputs
    report.py      for a terminal and a program            page.py      for a browser, of page_data.py

Plain data goes from one to the next. Read next: `compare.py`, which calls them in order.
"""

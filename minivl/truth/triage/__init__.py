"""Triage: a few hundred answers of another program, and what is wrong with them, before anybody records a stage.

    lines.py        the candidate's file, line by line         cache.py       what minivl ran before
    scorer.py       minivl's answers and scores of them        loss.py        how much worse, and is it rounding
    statistics.py   intervals and exact tests                  inputs.py      their grids and prompts beside ours
    hypotheses.py   other pixels, prompts, samplers            cause.py       pixels, settings or arithmetic
    properties.py   what the bad samples share                 smallest.py    one of them, ready for `minivl diff`
    triage.py       all of it in order                         report.py      for a terminal and a program

Plain data goes from one to the next. Read next: `triage.py`; docs/guide/triage.md.
"""

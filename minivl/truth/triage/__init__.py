"""Triage: a few hundred answers of another program, and what is wrong with them, before anybody
records a stage.

    lines.py        the candidate's file, line by line       cache.py       what minivl ran before
    scorer.py       minivl's answers and scores of them      loss.py        how much worse they are
    statistics.py   intervals and exact tests                inputs.py      their grids and prompts, ours
    hypotheses.py   other pixels, prompts                    samplers.py    other choices of tokens
    cause.py        pixels, settings or arithmetic           properties.py  what the bad samples share
    smallest.py     one of them, for `minivl diff`           report.py      for a terminal and a program
    triage.py       all of it in order

Plain data goes from one to the next. Read next: `triage.py`; docs/guide/triage.md.
"""

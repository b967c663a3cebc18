"""A candidate that can be run: another implementation, on this machine, that takes inputs and gives
logits.

    runnable.py   what a candidate has to be, and a check of everything that it gives
    load.py       FILE.py:NAME and command lines as candidates
    ours.py       minivl with replaced passes         module.py   a torch module, by its names
    engine.py     a program that exchanges files      judge.py    its logits against the golden ones
    bisect.py     which stretch between two cuts is guilty, last one first
    shadow.py     which stages are, all in one run
    scene.py      a prompt as plain data              reduce.py   the smallest prompt that still fails

Nothing here knows what a candidate is made of. Read next: `runnable.py`;
docs/guide/when-the-candidate-runs.md.
"""

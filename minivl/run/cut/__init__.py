"""One model on several machines, or on several cores: cut across its matrices (tensor) and along its
layers (pipeline).

    mpirun -n 4 minivl ask picture.png "What is this?" --parallel tensor=2,pipeline=2

Every rank runs the same program, over its share of the weights (`checkpoint/shares.py`); an interpreter
around another one sums, gathers and hands on (`machine.py`). The model knows nothing of it.

Read next: `plan.py` (who has what), then `machine.py`, `group.py` (who talks to whom), `volume.py` (how
    much).
"""

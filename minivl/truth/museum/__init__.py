"""The bug museum: wrong passes under the right label, each from a public incident.

    from minivl import faults
    found = faults.get("order-not-inverted")
    print(found.story)
    with minivl.session(replace=found.table()):          # the model, with the fault in it
        vlm.ask("picture.png", "Describe the image.")
    faults.guilty(found)                     # {pass: relative error}: one run beside the right passes

Read next: `fault.py` (what an exhibit is), then the families: `pictures.py`, `windows.py`,
`positions.py`, `attention.py`, `arithmetic.py`, `decoding.py`. `checks.py` and `score.py` say which
law finds which.
"""

from __future__ import annotations

# isort: off
from . import pictures, windows, positions, attention, arithmetic, decoding  # noqa: F401 - as data flow
# isort: on
from .assignment import Assignment, assignment, huntable, recorded
from .fault import FAULTS, Fault
from .hunt import Private, changes, get, guilty, private

__all__ = ["FAULTS", "Assignment", "Fault", "Private", "assignment", "changes", "get", "guilty",
           "huntable", "private", "recorded"]

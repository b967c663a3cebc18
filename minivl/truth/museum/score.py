"""The museum's score: which check finds which fault. `minivl faults --score` prints it, and
docs/made/bug-museum.md is it.

Read next: `checks.py`, where the checks are; `fault.py`, where the faults are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import numpy as np

from ...door.stage import Session
from ...text.template import plain_copy
from .checks import CHECKS, Check
from .fault import FAULTS, Fault
from .world import world

Score = dict[str, list[str]]


def score(names: Iterable[str] | None = None) -> Score:
    """Fault -> names of the checks that find it, each run on the random model with the fault in it.

    Raises AssertionError when a check does not hold without any fault: then it finds nothing.
    """
    faults = list(FAULTS.values()) if names is None else [FAULTS[name] for name in names]
    found: Score = {fault.name: [] for fault in faults}
    for check in CHECKS.values():
        with Session() as healthy:
            check.holds(world())
        for fault in faults:
            touched = any(fnmatchcase(label, fault.label) for label in healthy.met)
            if touched and finds(check, fault):           # who never runs the pass cannot find its fault
                found[fault.name].append(check.name)
    return found


RENDERED: dict[str, np.ndarray] = {}


def remembering(right: Callable) -> Callable:
    """The chat template's text, rendered once for each conversation: half of the time would go into
    compiling it."""
    def render(messages, *rest):
        key = json.dumps([plain_copy(messages), *rest])
        if key not in RENDERED:
            RENDERED[key] = right(messages, *rest)
        return RENDERED[key]
    return render


def finds(check: Check, fault: Fault) -> bool:
    """Whether the check fails with the fault in the model."""
    try:
        with Session(replace={"prompt.render": remembering, **fault.table()}, quiet=True):
            check.holds(world())
    except Exception:                                    # an assertion, or a shape that no longer fits
        return True
    return False

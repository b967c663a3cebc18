"""The lessons' exercises, by number: what `minivl.check("3.1", row_of_patch)` looks up.

`stages.py` has those that ask for a stage, which `teach/check` grades; the other files have the others,
as rows of inputs, right values and mistakes. `filing.py` says what a row is. `tests/teach/` gives each
of them right and wrong answers.

Not here: marks, and anything that stops a cheat.
"""

from __future__ import annotations

from collections.abc import Callable

from . import (  # noqa: F401 - they file their exercises
    answers,
    cutting,
    hunting,
    numbers,
    pictures,
    speed,
    stages,
    threads,
)
from .filing import FILED

__all__ = ["EXERCISES", "examine"]

EXERCISES = dict(sorted(FILED.items(), key=lambda filed: float(filed[0])))


def examine(number: str, answer: Callable) -> None:
    """Try the answer to an exercise. AssertionError begins with the exercise's number."""
    if not __debug__:
        raise RuntimeError("the checks are assertions, and this Python leaves assertions out: start it "
                           "without -O")
    try:
        EXERCISES[number].examine(answer)
    except AssertionError as error:
        raise AssertionError(f"exercise {number}: {error}") from None
    print(f"exercise {number}: right")

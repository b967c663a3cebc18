"""The checks of the lessons' exercises: one function for each, which says what is wrong and where.

    check("3.1", row_of_patch)      # prints "exercise 3.1: right", or raises AssertionError with a remark

Lessons call `check` and nothing else, so whoever puts another checker in its place does it there. A check
knows its right answers by hand, by loops or from the reference, never from the model's passes, and tries the usual
mistakes first, so that a remark can name them. `tests/teach/test_lessons.py` and `tests/test_exercises_*.py` give
each of them wrong answers.

Not here: marks, and anything that stops a cheat. Read next: a lesson's cells tagged `check`, under `notebooks/`, then
the file of its lesson here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from .filing import EXERCISES, Exercise

__all__ = ["EXERCISES", "Exercise", "check"]

for _module in iter_modules(__path__):                    # every lesson_NN.py files its checks
    if _module.name.startswith("lesson_"):
        import_module(f".{_module.name}", __name__)


def check(number: str, answer: Callable) -> None:
    """Try the answer to an exercise. Raises AssertionError, whose message begins with the exercise's number."""
    if not __debug__:
        raise RuntimeError("the checks are assertions, and this Python leaves assertions out: start it without -O")
    asked = EXERCISES[number]

    def given(*args: Any) -> Any:
        value = answer(*args)
        assert value is not None, f"{asked.name} gives None; fill it in and return {asked.gives}"
        return value

    try:
        asked.examine(given)
    except AssertionError as error:
        raise AssertionError(f"exercise {number}: {error}") from None
    print(f"exercise {number}: right")

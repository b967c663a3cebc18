"""How an exercise of a lesson is filed by its number: as a stage that `minivl.check` grades, or as rows.

A row of trials is an input, what is right for it, and what each usual mistake gives for it, with a
remark:

    @trials("2.2", "four numbers", four_floats)
    def box_to_photo():
        yield Trial(((161, 119, 322, 238), (476, 644), (480, 640)), [160, 120, 320, 240],
                    "should be {wanted}, not {got}",
                    {"turn the factors round": [162, 118, 324, 236]})

Right answers are known by hand, by loops or from the reference, never from the model's passes. Read
next: `stages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from ...door.contract import parse
from ..check.draws import Draws
from ..check.exercise import Exercise, Mistake
from ..check.grade import grade


class Asked(NamedTuple):
    """An exercise: the function that is asked for, what it gives, how it is graded, and its stage.

    examine: raises AssertionError with a remark unless the answer is right
    """
    name: str
    gives: str
    examine: Callable[[Callable], None]
    stage: Exercise | None = None


FILED: dict[str, Asked] = {}


# ----------------------------------------------------------------------------------- rows of trials

class Trial(NamedTuple):
    """One row. said: the remark about a wrong answer that is none of the mistakes, or a function of the
    answer and the right one that gives it. {got} and {wanted} stand for these two in every remark. near:
    how far numbers may be off, relatively and absolutely."""
    args: tuple
    wanted: Any
    said: str | Callable[[Any, Any], str]
    mistakes: Mapping[str, Any] = {}
    near: tuple[float, float] = (1e-5, 1e-9)


def trials(at: str, gives: str, form: Callable[[Any, Any], Any],
           call: Callable | None = None) -> Callable:
    """File rows under a number; the function that yields them has the name of the one that is asked for.

    form: an answer and the right one -> the answer to be compared, or AssertionError when it is of
    another form.
    call: how the student's function is called, where that is not plain.
    """
    def file(rows: Callable[[], Iterator[Trial]]) -> Callable[[], Iterator[Trial]]:
        def examine(mine: Callable) -> None:
            for row in rows():
                args = tuple(arg.copy() if isinstance(arg, np.ndarray) else arg for arg in row.args)
                with np.errstate(all="ignore"):
                    value = call(mine, *args) if call else mine(*args)
                assert value is not None, f"{rows.__name__} gives None; fill it in and return {gives}"
                try_row(row, form(value, row.wanted))
        FILED[at] = Asked(rows.__name__, gives, examine)
        return rows
    return file


def try_row(row: Trial, got: Any) -> None:
    """Raise AssertionError with the remark that fits, unless the answer is right."""
    if same(got, row.wanted, *row.near):
        return
    made = next((words for words, wrong in row.mistakes.items() if same(got, wrong, *row.near)),
                row.said)
    raise AssertionError(made(got, row.wanted) if callable(made) else
                         made.format(got=shown(got), wanted=shown(row.wanted)))


def same(one: Any, other: Any, relative: float, absolute: float) -> bool:
    """Whether two values are equal, numbers up to rounding."""
    with suppress(TypeError, ValueError):
        return np.shape(one) == np.shape(other) and bool(np.allclose(one, other, relative, absolute,
                                                                     equal_nan=True))
    return bool(one == other)


def shown(value: Any) -> str:
    """A value in a remark: numbers with as many digits as a reader wants."""
    return str(np.round(value, 4).tolist()) if isinstance(value, np.ndarray | float
                                                          | np.floating) else str(value)


# ---- forms of answers

def array(value: Any, wanted: Any) -> np.ndarray:
    """An array of the right shape."""
    found = np.asarray(value)
    shape = np.shape(wanted)
    assert found.shape == shape, f"should give the shape {shape}, yours is {found.shape}"
    return found


def integer(value: Any, wanted: Any) -> int:
    """A single integer."""
    assert isinstance(value,
                      int | np.integer), f"one integer should come out, not {type(value).__name__}"
    return int(value)


def number(value: Any, wanted: Any) -> float:
    """A single number."""
    return float(array(value, wanted))


# ----------------------------------------------------------------------------- stages with a number

def stage(at: str, name: str, gives: str, whole: Exercise, contract: str, draw: Callable[[Draws], tuple],
          lift: Callable,
          lower: Callable | None = None, calls: Callable | None = None,
          mistakes: Mapping[str, Callable] | None = None) -> None:
    """File a stage that `minivl.check` grades, with the arguments that the lesson asks for.

    draw, lift, lower: see `Exercise.narrowed`. calls: the student's function -> one of the drawn
    arguments.
    mistakes: words -> a wrong version, of the lesson's arguments, beside the mistakes of the stage.
    """
    narrow = whole.narrowed(f"exercise {at}", gives, contract, draw, lift, *([lower] if lower else []))
    narrow.mistakes[:0] = [Mistake(name, words, version) for words, version in (mistakes or {}).items()]
    several = len(parse(contract)[1]) > 1

    def called(mine: Callable) -> Callable:
        """The student's function of the drawn arguments; exceptions still tell its own line."""
        if calls is None:
            return mine
        function = wraps(mine)(calls(mine))
        vars(function)["__signature__"] = signature(lift)
        return function

    def examine(mine: Callable) -> None:
        result = grade(narrow, arrays_of(called(mine), several), seconds=10)
        assert result, "\n".join(line.removeprefix("  ") for line in result.message.split("\n")[1:])
    FILED[at] = Asked(name, gives, examine, narrow)


def arrays_of(function: Callable, several: bool) -> Callable:
    """The same function; lists and numbers that it gives become arrays."""
    @wraps(function)
    def given(*args: Any) -> Any:
        value = function(*args)
        if value is None or (several and not isinstance(value, tuple | list)):
            return value
        return tuple(map(np.asarray, value)) if several else np.asarray(value)
    return given

"""One run of a student's function on one drawn input, and what is wrong with what came of it.

What is right is the definition's result in float64. A float may be off by the rounding of the type that
went in, times the length of the longest sum; whole numbers must be equal. Everything else that can go
wrong (an exception, another type or shape, inputs that were written to) has a kind and words of its own
here; wrong numbers are explained in `diagnose.py`.

Read next: `result.py` for how it is told.
"""

from __future__ import annotations

import inspect
import linecache
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...door.contract import outputs
from ...door.stage import unwatched
from .arguments import arrays_in, changed, fresh, widened
from .draws import Case
from .exercise import Exercise

STEPS = 4  # units in the last place, for each number in the longest sum, that a result may be off
LEAST = 32              # and in every case this many


@dataclass(frozen=True)
class Verdict:
    """One run. kind: "right", or how it is wrong; place and wrong: which output, which numbers of it."""
    kind: str
    words: str = ""
    expected: tuple = ()
    got: tuple = ()
    place: int = 0
    wrong: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    remarks: tuple[str, ...] = ()


def run(function: Callable, args: tuple) -> Any:
    """Call it unseen by open sessions and with no warnings about numbers: what comes out says enough."""
    with unwatched(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*args)


def expected(exercise: Exercise, case: Case) -> tuple:
    """What is right, in float64 where it is a float."""
    return outputs(run(exercise.definition, tuple(map(widened, case.args))))


def judge(exercise: Exercise, function: Callable, case: Case) -> Verdict:
    """Run `function` on the case and compare what it gives with what is right."""
    args = tuple(fresh(arg, case.strided) for arg in case.args)
    wanted = expected(exercise, case)
    try:
        value = run(function, args)
    except Exception as error:
        return Verdict("raised", _raised(function, error), wanted)
    except KeyboardInterrupt as stop:
        stop.add_note(f"while {exercise.name} was being checked")
        raise
    spoilt = _spoilt(exercise, case.args, args)
    problem = _form(value, wanted, exercise)
    if problem:
        return Verdict(*problem, wanted, outputs(value))
    got = outputs(value)
    for place, (ours, theirs) in enumerate(zip(wanted, got, strict=True)):
        wrong = ~close(exercise, case, ours, theirs)
        if wrong.any():
            return Verdict("values", spoilt, wanted, got, place, wrong)
    if spoilt:
        return Verdict("changed", spoilt, wanted, got)
    return Verdict("right", expected=wanted, got=got, remarks=_remarks(value, args))


def close(exercise: Exercise, case: Case, ours: np.ndarray, theirs: np.ndarray,
          times: float = 1) -> np.ndarray:
    """Where two results of the same shape agree. Not-a-number never agrees with a number."""
    if theirs.dtype.kind not in "fiubV":
        return np.zeros(theirs.shape, bool)
    if theirs.dtype.kind in "iu" and exercise.slack == 0:
        return theirs == ours
    a, b = (exercise.see(np.asarray(x, np.float64)) for x in (ours, theirs))
    with np.errstate(all="ignore"):
        return (np.abs(a - b) <= times * tolerance(exercise, case,
                                                   a)) | (a == b) | (np.isnan(a) & np.isnan(b))


def tolerance(exercise: Exercise, case: Case, right: np.ndarray) -> float:
    """How far a number may be off: from the type that went in and the length of the longest sum."""
    steps = LEAST + STEPS * exercise.summands(*case.args)
    size = np.where(np.isfinite(right), np.abs(right), 0)
    return float(exercise.slack + np.finfo(np.float32).eps * steps * max(1.0, size.max(initial=0)))


# ------------------------------------------------------------------------------ all but the numbers

def misfit(function: Callable, exercise: Exercise) -> str:
    """Words for a function that cannot take the stage's arguments; empty when it can."""
    try:
        inspect.signature(function).bind(*exercise.names)
    except TypeError:
        return (f"your function takes {inspect.signature(function)}, but {exercise.name} is given "
                f"({', '.join(exercise.names)}), in this order")
    except ValueError:                                    # some functions written in C have no signature
        pass
    return ""


ASK_A_WEIGHT = "a weight is kept as its file stores it; ask it for its numbers: `.weight.dense(x.dtype)`"


def _raised(function: Callable, error: Exception) -> str:
    """The exception, and the student's own line that it came from."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    said = f"your function raised {type(error).__name__}: {error}"
    if own:
        line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip()
        said += f"\n  in line {own[-1].lineno}" + (f": {line}" if line else "")
    return said + (f"\n  {ASK_A_WEIGHT}" if "'Stored'" in str(error) else "")


def _form(value: Any, wanted: tuple, exercise: Exercise) -> tuple[str, str] | None:
    """Kind and words of the first thing wrong with the form of a result: count, type, dtype, shape."""
    if value is None:
        return "type", "your function gives None: fill it in (is its `return` missing?)"
    if len(wanted) > 1 and not (isinstance(value, tuple) and len(value) == len(wanted)):
        many = f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list)
                                              else "")
        return "count", f"your function gives {many}; it should give a tuple of {len(wanted)} arrays"
    if len(wanted) == 1 and isinstance(value, tuple) and len(value) != 1:
        return "count", f"your function gives {len(value)} values in a tuple; it should give one array"
    for place, (ours, theirs) in enumerate(zip(wanted, outputs(value), strict=True)):
        axes = exercise.axes[min(place, len(exercise.axes) - 1)]
        problem = _form_of_one(_which(place, wanted), ours, theirs, axes)
        if problem:
            return problem
    return None


def _which(place: int, wanted: tuple) -> str:
    return f"output {place}" if len(wanted) > 1 else "the output"


def _form_of_one(which: str, ours: np.ndarray, theirs: Any, axes: list[str]) -> tuple[str, str] | None:
    if not isinstance(theirs, np.ndarray | np.generic):
        return "type", f"{which} is a {type(theirs).__name__}; it should be a NumPy array: np.array(...)"
    if theirs.shape != ours.shape:
        return "shape", _shapes(which, ours.shape, theirs.shape, axes)
    kinds = {"f": "floating-point numbers", "i": "whole numbers", "u": "whole numbers"}
    kind = {"u": "i", "V": "f"}.get(theirs.dtype.kind, theirs.dtype.kind)
    if kind != {"u": "i"}.get(ours.dtype.kind, ours.dtype.kind):
        return "dtype", (f"{which} is {theirs.dtype}; it should hold {kinds[ours.dtype.kind]}"
                         + " (they are row numbers or ids, and index arrays)" * (ours.dtype.kind in "iu")
                         + " (the fractions are cut off)" * (kind == "i"))
    return None


def _shapes(which: str, ours: tuple[int, ...], theirs: tuple[int, ...], axes: list[str]) -> str:
    letters = f" ({' '.join(axes)})" if len(axes) == len(ours) and "_" not in axes else ""
    said = f"{which} has shape {list(theirs)}; it should be {list(ours)}{letters}"
    if len(theirs) != len(ours):
        return f"{said}: {len(theirs)} axes instead of {len(ours)}"
    if sorted(theirs) == sorted(ours):
        return f"{said}: the axes are in another order"
    axis = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    letter = f", {axes[axis]}," if letters else ""
    return f"{said}: axis {axis}{letter} is {theirs[axis]} instead of {ours[axis]}"


def _spoilt(exercise: Exercise, before: tuple, after: tuple) -> str:
    """Words for the first argument that the function has written to."""
    for name, old, new in zip(exercise.names, before, after, strict=True):
        for (path, a), (_, b) in zip(arrays_in(name, old), arrays_in(name, new), strict=False):
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                return (f"your function changes its input {path}: a stage must leave what it is given "
                        f"as it is, "
                        "because others read it too; work on a copy (`+=` and `x[...] =` write into the "
                        "original)")
    return ""


def _remarks(value: Any, args: tuple) -> tuple[str, ...]:
    """What is right but worth knowing."""
    floats = [a for arg in args for _, a in arrays_in("", arg) if a.dtype.kind == "f"]
    said = []
    wide = any(o.dtype == np.float64 for o in outputs(value))
    if floats and wide and all(a.dtype == np.float32 for a in floats):
        said.append("it gives float64 for float32: right, but in the model every later stage then works "
                    "in float64, more slowly; `.astype(x.dtype)` at the end keeps the type")
    given = [a for arg in args if isinstance(arg, np.ndarray) for a in [arg]]
    if any(np.may_share_memory(o, a) and np.shares_memory(o, a) for o in outputs(value) for a in given):
        said.append("what it gives is a view of what it was given: right, but whoever writes into one "
                    "changes the other")
    return tuple(said)


def same_as(exercise: Exercise, mistake: Callable, case: Case, verdict: Verdict) -> bool | None:
    """Whether a known wrong version gives on this case what the student's function gave; None when only
    one of the two
    raised an exception, which says little: the same mistake can be written so that it fails and so that
    it does not. Where a version gives None for one of several outputs, that one is not compared.
    """
    if verdict.kind == "changed":                         # the numbers were right
        return False
    args = tuple(changed(np.copy, arg) for arg in case.args)
    try:
        given = outputs(run(mistake, args))
    except Exception:
        return True if verdict.kind == "raised" else None
    if verdict.kind == "raised":
        return None
    return len(given) == len(verdict.got) and all(
        a is None or _alike(exercise, case, a, b, verdict.kind == "dtype")
        for a, b in zip(given, verdict.got, strict=True))


def _alike(exercise: Exercise, case: Case, one: Any, other: Any, of_a_kind: bool) -> bool:
    """Whether two outputs agree; of_a_kind: whole numbers with whole numbers only."""
    if not isinstance(other, np.ndarray | np.generic) or np.shape(one) != np.shape(other):
        return False
    a, b = np.asarray(one), np.asarray(other)
    return (not of_a_kind or (a.dtype.kind in "iu") == (b.dtype.kind in "iu")) and bool(
        close(exercise, case, a, b, times=4).all())

"""Wrong numbers in words: where they are, what they have in common, and when they come.

Nothing here knows a stage. Each look is one small function of the right array, the student's array and
the mask of what differs; it gives a sentence or nothing. A known mistake (`exercise.py`) says more, but
these find those that
nobody has thought of: rows in another order, a factor, a missing transpose, an argument not used.

Read next: `result.py`, which puts the sentences together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ...door.contract import AXES, ContractError, check_inputs, outputs
from .arguments import nudged
from .draws import Case
from .exercise import Exercise
from .judge import Verdict, expected, run, same_as, tolerance


@dataclass(frozen=True)
class Look:
    """Both arrays in float64, where they differ, their axis letters, sizes and arguments by name."""
    right: np.ndarray
    got: np.ndarray
    wrong: np.ndarray
    axes: list[str]
    sizes: dict[str, int]
    given: dict[str, object]
    slack: float

    def near(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two arrays agree but for rounding."""
        return a.shape == b.shape and bool((np.abs(a - b) <= self.slack).all())


def look_at(exercise: Exercise, case: Case, verdict: Verdict) -> Look:
    """The first wrong output of a verdict, ready to be looked at."""
    axes = exercise.axes[min(verdict.place, len(exercise.axes) - 1)]
    right, got = (exercise.see(np.asarray(x[verdict.place], np.float64))
                  for x in (verdict.expected, verdict.got))
    if len(axes) != right.ndim or "_" in axes:
        axes = [f"{n}" for n in range(right.ndim)]
    try:
        sizes = check_inputs("", exercise.door.contract, case.args)
    except ContractError:
        sizes = {}
    given = dict(zip(exercise.names, case.args, strict=True))
    return Look(right, got, verdict.wrong, axes, sizes, given, 4 * tolerance(exercise, case, right))


def first_difference(look: Look) -> str:
    """Which number is wrong first, in the order of reading."""
    at = tuple(np.argwhere(look.wrong)[0])
    place = ", ".join(f"{axis}={n}" for axis, n in zip(look.axes, at, strict=True))
    many = "all" if look.wrong.all() else f"{int(look.wrong.sum())} of {look.wrong.size} numbers"
    return (f"first wrong at {place or 'the only number'}: expected {number(look.right[at])}, got "
            f"{number(look.got[at])} ({many} are wrong)")


def number(value: float) -> str:
    return f"{value + 0.0:.6g}"                           # + 0.0: no -0


def where(look: Look) -> str:
    """Which axes the wrong numbers single out: `only o = 3..5`; empty when every axis is hit."""
    said = []
    for n, axis in enumerate(look.axes):
        hit = np.flatnonzero(look.wrong.any(axis=tuple(m for m in range(look.wrong.ndim) if m != n)))
        if len(hit) < look.wrong.shape[n]:
            of = f" of {look.wrong.shape[n]}" + (f" ({AXES[axis]})" if axis in AXES else "")
            said.append(f"only {axis} = {runs(hit)}{of}")
    return "; ".join(said)


def runs(numbers: Sequence[int] | np.ndarray, most: int = 6) -> str:
    """0 1 2 5 as `0..2, 5`."""
    parts = np.split(np.asarray(numbers), np.flatnonzero(np.diff(numbers) != 1) + 1)
    said = [f"{p[0]}..{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts]
    return ", ".join(said[:most]) + (" ..." if len(said) > most else "")


# -------------------------------------------------------------------- looks: a sentence, or nothing

def holes(look: Look) -> str:
    """Not-a-number or infinity."""
    bad = ~np.isfinite(look.got) & np.isfinite(look.right)
    if not bad.any():
        return ""
    found = sorted({str(value) for value in look.got[bad]})
    return (f"your result has {' and '.join(found)}: an overflow (exp of a large number?), or a "
            f"division by or a logarithm of zero")


def unchanged(look: Look) -> str:
    """An argument came back as it was."""
    for name, value in look.given.items():
        if (isinstance(value, np.ndarray) and value.size > 1
                and look.near(np.asarray(value, np.float64), look.got)):
            return f"what you give is the argument {name}, unchanged"
    return ""


def never_written(look: Look) -> str:
    if (look.got[look.wrong] == 0).all() and (look.right[look.wrong] != 0).mean() > 0.5:
        return "your wrong numbers are all 0: were they never written, or cut off?"
    return ""


def other_order(look: Look) -> str:
    """The right slices along one axis, in another order."""
    for n, axis in enumerate(look.axes):
        right, got = (np.moveaxis(x, n, 0).reshape(x.shape[n], -1) for x in (look.right, look.got))
        came = [_found(right, row, i, look.slack) for i, row in enumerate(got)]
        if -1 not in came and came != list(range(len(right))):
            twice = "" if len(set(came)) == len(came) else "; some come twice and others not at all"
            listed = " ".join(map(str, came[:24])) + (" ..." if len(came) > 24 else "")
            return (f"along axis {axis} you give right slices in the wrong order: at 0 1 2 ... yours "
                    f"are the expected ones number {listed}{twice}")
    return ""


def _found(right: np.ndarray, row: np.ndarray, own: int, slack: float) -> int:
    """Which of the right rows this one is: its own if it can be, else the first; -1 for none."""
    hits = np.flatnonzero((np.abs(right - row) <= slack).all(axis=1))
    return own if own in hits else int(hits[0]) if len(hits) else -1


def transposed(look: Look) -> str:
    """The right numbers, flattened in another order of axes."""
    flat = look.got.reshape(-1)
    for order in list(permutations(range(look.right.ndim)))[1:24]:
        if look.near(look.right.transpose(order).reshape(-1), flat):
            axes = " ".join(look.axes[n] for n in order)
            return f"your numbers are right but in the order of axes ({axes}): a transpose is missing"
    if look.right.size > 3 and look.near(np.sort(look.right.reshape(-1)), np.sort(flat)):
        return "all your numbers are right, but in wrong places: look at reshape, transpose and slices"
    return ""


def factor(look: Look) -> str:
    """One factor too many, everywhere or for each row or column."""
    safe = np.abs(look.right) > 1e-3
    if safe.sum() < 3:
        return ""
    ratio = np.where(safe, look.got / np.where(safe, look.right, 1), np.nan)
    if _flat(ratio):
        c = float(np.nanmedian(ratio))
        return f"every number is {number(c)} times the right one{_known_factor(c, look.sizes)}"
    return _along(ratio, look, "is off by a factor of its own", "a wrong axis of a sum, mean or weight?")


def offset(look: Look) -> str:
    """One sum too many or too few."""
    distance = look.got - look.right
    if distance.size > 2 and np.isfinite(distance).all() and _flat(distance,
                                                                   0.01 * np.abs(look.right).max()):
        first = distance.flat[0]
        return f"every number is too {'large' if first > 0 else 'small'} by {number(abs(first))}"
    return _along(distance, look, "is off by an amount of its own",
                  "a bias missing, or added along the wrong axis?")


def _along(table: np.ndarray, look: Look, what: str, cause: str) -> str:
    """Whether a table of ratios or distances has one value for each place on one axis."""
    for n, axis in enumerate(look.axes):
        rows = np.moveaxis(table, n, 0).reshape(table.shape[n], -1)
        if rows.shape[0] > 1 and rows.shape[1] > 1 and all(_flat(row) for row in rows):
            some = [f"{axis}={i}: {number(float(np.nanmedian(row)))}" for i, row in enumerate(rows[:4])]
            said = ", ".join(some + ["..."] * (len(rows) > 4))
            return f"each place along axis {axis} {what} ({said}): {cause}"
    return ""


def _flat(values: np.ndarray, scale: float = 0.0) -> bool:
    """Whether all finite values are one, as far as rounding shows."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or (np.isinf(values)).any():
        return False
    middle = np.median(finite)
    return bool((np.abs(finite - middle) <= 2e-4 * max(abs(middle), scale,
                                                       1e-6)).all()) and abs(middle) > 1e-6


def _known_factor(c: float, sizes: dict[str, int]) -> str:
    """A factor that is a size of the input, its root, or one over either, by name."""
    if abs(c + 1) < 1e-4:
        return ": the sign is wrong"
    for axis, n in sizes.items():
        for words, value in ((f"{axis}", n), (f"1/{axis}", 1 / n), (f"sqrt({axis})", n**0.5),
                             (f"1/sqrt({axis})", n**-0.5)):
            if n > 1 and abs(c - value) < 1e-4 * value:
                return f", which is {words} with {axis} = {n}"
    return ""


def wrong_sign(look: Look) -> str:
    if look.near(np.where(look.wrong, -look.got, look.got), look.right):
        return "where you are wrong, the sign alone is wrong"
    return ""


def nearly(look: Look) -> str:
    """Small errors everywhere: an approximation, not a slip of the axes."""
    size = np.abs(look.right).max(initial=0.0)
    error = np.abs(look.got - look.right).max(initial=0.0)
    if size and error / size < 0.02:
        return (f"you are close (off by {error / size:.1g} of the largest number): an approximation, an "
                f"eps in another place, or too few digits on the way?")
    return ""


LOOKS = (holes, unchanged, never_written, other_order, transposed, wrong_sign, factor, offset, nearly)


def common(looks: Sequence[Look]) -> str:
    """The first thing that a look finds on most of several inputs, in the words for one of them.

    A single small input deceives: where only two numbers are, any factor and any order can be seen.
    """
    for see in LOOKS:
        found = [said for look in looks if (said := see(look))]
        if 2 * len(found) > len(looks):
            return found[0]
    return ""


# --------------------------------------------------------------------------- over all of the inputs

def when(exercise: Exercise, cases: Sequence[Case], right: Sequence[bool]) -> str:
    """On which inputs it is wrong, by the exercise's facts: `wrong exactly where a window is ragged`."""
    bad = len(right) - sum(right)
    said = f"it is wrong on {bad} of {len(right)} inputs"
    if not sum(right):
        return f"{said}, whatever is drawn"
    for words, holds in exercise.facts.items():
        here = [holds(*case.args) for case in cases]
        if all(h != r for h, r in zip(here, right, strict=True)):
            return f"{said}: exactly on those with {words}"
    for words, holds in exercise.facts.items():
        here = [holds(*case.args) for case in cases]
        if all(h for h, r in zip(here, right, strict=True) if not r) and not all(here):
            return f"{said}: all of those have {words}, and no input without is wrong"
    return said


def partly(exercise: Exercise, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> str:
    """The known mistake that explains most wrong inputs, when none explains all: there may be two."""
    failed = [(case, v) for case, v in zip(cases, verdicts, strict=True) if v.kind != "right"]
    counts = [sum(same_as(exercise, version, case, v) is True for case, v in failed)
              for _, _, version in exercise.mistakes]
    most = max(counts, default=0)
    if most < max(2, len(failed) / 3):
        return ""
    words = exercise.mistakes[counts.index(most)].words
    if most == len(failed):
        return f"wherever it is wrong it gives what this mistake gives: {words}"
    many = f"{most} of the {len(failed)} wrong inputs"
    return f"there may be two mistakes; one of them explains {many}: {words}"


def unused(exercise: Exercise, function: Callable, cases: Sequence[Case]) -> str:
    """An argument that the right result depends on and the student's does not."""
    moved: dict[str, list[tuple[bool, ...]]] = {}
    for case in cases:
        try:
            before = expected(exercise, case), outputs(run(function, case.args))
            for path, args in nudged(exercise.names, case.args, exercise.reads):
                other = Case(args)
                after = expected(exercise, other), outputs(run(function, args))
                both = tuple(not same_results(*two) for two in zip(before, after, strict=True))
                moved.setdefault(path, []).append(both)
        except Exception:
            continue                                      # a changed input may be none; others will do
    idle = [path for path, seen in moved.items() if any(a for a, _ in seen)
            and not any(b for _, b in seen)]
    if not idle:
        return ""
    return f"your result does not depend on {' or '.join(idle)}; the right one does"


def same_results(one: tuple, other: tuple) -> bool:
    """Whether two results are equal number by number."""
    return len(one) == len(other) and all(
        np.array_equal(a, b, equal_nan=getattr(a, "dtype", np.dtype(object)).kind == "f")
        for a, b in zip(one, other, strict=True))

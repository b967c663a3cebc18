"""Arrays that no label was given for: what they could be, and how far they are off from it.

Nothing is dropped on the way to "the same". An array with the shape of a stage, or with numbers that are
none, may be the broken one; so it counts, until it is known to be a stage as it should be, or is left
out by hand (`"name": null` in a table of names).

Read next: `guess.py`, which says where arrays belong; `compare.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..trace.format import YARDSTICK, Trace
from . import align, metrics
from .guess import APART, Target, agreement, error_at, targets_of
from .numbers import meant, real
from .stored import as_stored, shown
from .taps import Candidate
from .verdict import Yard, limits

MANY = 3                                         # places that are named


@dataclass(frozen=True)
class Unplaced:
    """One array. places: (label, error) of the stages that it could be, the likeliest first; known: it
    is the first of them, within rounding."""
    name: str
    shape: tuple[int, ...]
    finite: bool
    places: tuple[tuple[str, float], ...]
    known: bool = False


def unplaced(golden: Trace, candidate: Candidate, words: Mapping[str, str]) -> list[Unplaced]:
    """The arrays without a label that may be stages. Others (of a shape that no stage has, and of whole
    numbers) are no matter of the comparison."""
    if golden.facts.get("local"):
        return []
    found = [*unheld(golden, candidate)]
    if candidate.loose:
        targets = targets_of(golden)
        found += [one for name, array in candidate.loose.items()
                  if (one := placed(name, array, golden, targets, candidate.precision))]
    return sorted(found, key=lambda one: (one.known, one.finite))


def unheld(golden: Trace, candidate: Candidate) -> Iterator[Unplaced]:
    """Arrays with a label of which the golden trace holds no array: all that can be seen is whether
    they are numbers."""
    for key in candidate.unheld(golden):
        for number, array in candidate.taps[key].items():
            if array.size and not all_finite(array):
                yield Unplaced(key if number is None else f"{key}:{number}", array.shape, False, ())


def all_finite(array: np.ndarray) -> bool:
    """Whether every number is one."""
    with np.errstate(invalid="ignore"):
        return not real(array) or bool(np.isfinite(array.astype(np.float64)).all())


def placed(name: str, array: np.ndarray, golden: Trace, targets: Mapping[str, Target],
           precision: str) -> Unplaced | None:
    """One array beside all stages; None where it cannot be one."""
    numbers, _ = meant(array)
    if not numbers.size:
        return Unplaced(name, array.shape, True, ())
    if numbers.dtype.kind not in "fV" or not real(numbers):
        return whole(name, numbers, golden, targets)
    finite = all_finite(numbers)
    off = agreement(numbers, targets) if numbers.size > 1 else {}
    nearest = sorted(off, key=lambda label: off[label])[:MANY]
    if not nearest and finite:
        return Unplaced(name, array.shape, True, ()) if some_rows(array, targets) else None
    if not finite:  # what is no number has no error: rows that agree say it
        nearest = [label for label in nearest if off[label] < APART]
    places = tuple((label, error_at(numbers, targets[label])) for label in nearest)
    places = tuple(sorted(places, key=lambda place: place[1]))
    return Unplaced(name, array.shape, finite, places,
                    bool(places) and finite and within(places[0], golden, targets, precision,
                                                            shown(numbers)))


def some_rows(array: np.ndarray, targets: Mapping[str, Target]) -> bool:
    """Whether an array may hold some rows of a stage, as a step of decoding does: rows of its width,
    fewer than it has. What has one axis only is a vector, of weights as a rule."""
    return array.ndim > 1 and any(array.shape[-len(shape):] == shape
                                  and 0 < array.size < target.array.size
                                  for target in targets.values() if (shape := target.array.shape[1:]))


def whole(name: str, array: np.ndarray, golden: Trace, targets: Mapping[str, Target]) -> Unplaced | None:
    """An array that holds no floats: it counts where it has the shape of a stage, in two axes or more.
    What is a line of whole numbers may be ids, lengths or a mask, and says too little."""
    small = np.squeeze(array)
    if small.ndim < 2:
        return None
    tables = [(key, one) for key in golden.recorded() for one in golden.arrays(key)
              if one.dtype.kind in "iub" and one.shape == small.shape and real(small)]
    places = tuple(sorted(((key, error(small, one)) for key, one in tables),
                          key=lambda place: place[1]))[:MANY]
    if places:
        return Unplaced(name, array.shape, True, places, places[0][1] == 0)
    fitting = any(way.padding == 0 and way.rows is None for target in targets.values()
                  for way in align.ways(array, target.array.shape, target.rows))
    return Unplaced(name, array.shape, True, ()) if fitting else None


def error(array: np.ndarray, golden: np.ndarray) -> float:
    """The relative error of whole numbers in the golden shape."""
    return metrics.relative(metrics.row_distances(array, golden, 0), metrics.row_norms(golden, 0))


def within(place: tuple[str, float], golden: Trace, targets: Mapping[str, Target], precision: str,
           storage: str) -> bool:
    """Whether an array is a stage within rounding, and within what its storage takes away."""
    label, off = place
    exact = targets[label].array
    name = label if label in golden.tables(f"{YARDSTICK}.{precision}") else f"{label}:0"
    yard = golden.tables(f"{YARDSTICK}.{precision}").get(name)
    norms = metrics.row_norms(exact, 0)
    own = 0.0 if yard is None else metrics.relative(yard, norms)
    kept = 0.0 if storage == precision else metrics.relative(
        metrics.row_distances(as_stored(exact, storage), exact, 0), norms)
    return off <= limits(Yard(own, own), precision, len(norms), Yard(kept, kept))[0]



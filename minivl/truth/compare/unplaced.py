"""Arrays that no label was given for: what they could be, and how far they are off from it.

Nothing is dropped on the way to "the same". An array with the shape of a stage, or with numbers that are
none, may be the broken one; so it counts, until it is known to be a stage as it should be, or is left out
by hand (`"name": null` in a table of names).

Read next: `guess.py`, which says where arrays belong; `compare.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..trace.format import YARDSTICK, Trace
from . import metrics
from .guess import Target, agreement, error_at, targets_of
from .numbers import meant
from .taps import Candidate
from .verdict import Yard, limits

MANY = 3                                         # places that are named


@dataclass(frozen=True)
class Unplaced:
    """One array. places: (label, error) of the stages that it could be, the likeliest first; known: it is
    the first of them, within rounding."""
    name: str
    shape: tuple[int, ...]
    finite: bool
    places: tuple[tuple[str, float], ...]
    known: bool = False


def unplaced(golden: Trace, candidate: Candidate, words: Mapping[str, str]) -> list[Unplaced]:
    """The arrays without a label that may be stages. Others (of a shape that no stage has, and of whole
    numbers) are no matter of the comparison."""
    if not candidate.loose or golden.facts.get("local"):
        return []
    targets = targets_of(golden)
    found = [one for name, array in candidate.loose.items() if (one := placed(name, array, golden, targets,
                                                                                candidate.precision))]
    return sorted(found, key=lambda one: (one.known, one.finite))


def placed(name: str, array: np.ndarray, golden: Trace, targets: Mapping[str, Target],
           precision: str) -> Unplaced | None:
    """One array beside all stages; None where it cannot be one."""
    numbers, _ = meant(array)
    if numbers.dtype.kind not in "fV" or numbers.size < 2:
        return None
    with np.errstate(invalid="ignore"):
        finite = bool(np.isfinite(numbers.astype(np.float64)).all())
    off = agreement(numbers, targets)
    nearest = sorted(off, key=lambda label: off[label])[:MANY]
    if not nearest and finite:
        return None
    places = tuple((label, error_at(numbers, targets[label])) for label in nearest)
    places = tuple(sorted(places, key=lambda place: place[1]))
    return Unplaced(name, array.shape, finite, places,
                    bool(places) and finite and within(places[0], golden, targets, precision))


def within(place: tuple[str, float], golden: Trace, targets: Mapping[str, Target], precision: str) -> bool:
    """Whether an array is a stage within rounding."""
    label, error = place
    name = label if label in golden.tables(f"{YARDSTICK}.{precision}") else f"{label}:0"
    yard = golden.tables(f"{YARDSTICK}.{precision}").get(name)
    norms = metrics.row_norms(targets[label].array, 0)
    own = 0.0 if yard is None else metrics.relative(yard, norms)
    return error <= limits(Yard(own, own), precision, len(norms))[0]



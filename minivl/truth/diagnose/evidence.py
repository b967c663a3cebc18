"""How near a run comes to what a candidate has: tap by tap, as a multiple of what rounding may do; and
for what is smaller than rounding, whether the candidate leans the way a fault does.

A number of bfloat16 is rounded by up to one part in 256, and a fault of one in 10,000 does not show in
any of them. In thousands of them it does: rounding goes up and down alike, a fault always goes its own
way. `Lean` is that way's share.

Read next: `rank.py`, which makes an order of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..compare import align
from ..compare.metrics import measure, relative, row_distances, row_norms
from ..compare.verdict import Judged, judge
from ..trace.format import row_axis
from .replay import Own, Tapped

FAR = 1e6        # a multiple of rounding that stands for integers that differ, or shapes that do not fit
SMALL = 0.01                   # errors above this share of an array say nothing by their size
SAME_SIZE = 0.3                # powers of ten: a factor of two
OWN = 2.0**-19                # two runs in float32 differ by less than this share through rounding alone
LEAST = 0.25                   # below this share of what rounding may do, nearer means nothing

Multiples = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """What rounding may do at each tap, as `diff --local` judges it: name of an array -> its limits, what
    its storage adds, the type that it was computed in. precision: of arrays that it could not judge."""
    precision: str
    judged: Mapping[str, Judged] = field(default_factory=dict)

    def storage(self, name: str) -> float:
        """What keeping an array in its type adds to its error."""
        return self.judged[name].storage.error if name in self.judged else 0.0

    def kinds(self, taps: Mapping[str, Tapped]) -> dict[str, str]:
        """Key -> the type that the tap was computed in."""
        return {key: next((self.judged[name].computed for name in tap.stage.arrays if name in self.judged),
                          self.precision) for key, tap in taps.items()}


def multiples(taps: Mapping[str, Tapped], own: Own, scale: Scale) -> Multiples:
    """Key -> how far the candidate is from what the run gave there, in multiples of rounding, at most
    FAR."""
    return {key: max((_multiple(tap, n, own.get(key, ()), scale, depth)
                      for n in range(len(tap.arrays))), default=0.0)
            for depth, (key, tap) in enumerate(taps.items(), 1)}


def _multiple(tap: Tapped, number: int, own: tuple, scale: Scale, depth: int) -> float:
    if number >= len(own):
        return FAR
    pair = laid(tap, number, own[number])
    if pair is None:
        return FAR
    theirs, ours = pair
    if ours.dtype.kind in "iub":
        return 0.0 if np.array_equal(theirs, ours) else min(max(FAR * _apart(theirs, ours), 2.0), FAR)
    axis = row_axis(tap.stage.axes[number])
    found = measure(*as_numbers(theirs, ours), axis)
    known = scale.judged.get(tap.name(number))
    if known is not None:
        limit = known.allowed
        return min(max(found.error / limit.error, found.worst / max(limit.worst, limit.error)), FAR)
    return min(judge(found, None, scale.precision, depth, ours.shape[axis])[1], FAR)


def _apart(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The relative error of integers: with this as well as without, one table may be nearer than
    another."""
    return relative(row_distances(theirs, ours, 0), row_norms(ours, 0))


def laid(tap: Tapped, number: int, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The candidate's array and the run's, of one shape; None where they fit in no way."""
    theirs = tap.arrays[number]
    if theirs.shape == ours.shape:
        return theirs, ours
    if tap.laid or ours.size == 0:
        return None
    found = align.fit(theirs, ours, row_axis(tap.stage.axes[number]))
    return None if found is None else (found.array, ours)


def as_numbers(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64; where both are the same and no number, both are nothing."""
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    same = ~np.isfinite(a) & ((np.isnan(a) & np.isnan(b)) | (a == b))
    return (np.where(same, 0.0, a), np.where(same, 0.0, b)) if same.any() else (a, b)


def nearer(right: Multiples, wrong: Multiples) -> float:
    """Powers of ten by which the candidate is nearer to the wrong run than to the right one, on
    average over the taps at which one of the two is further away than rounding; negative where the
    right one is nearer, 0 without such taps.
    """
    bad = [key for key in right if max(right[key], wrong[key]) > 1]
    gains = [np.log10(max(right[key], LEAST) / max(wrong[key], LEAST)) for key in bad]
    return float(np.mean(gains)) if gains else 0.0


def explained_share(right: Multiples, wrong: Multiples) -> float:
    """How much of the error is gone with the wrong run, on average over the taps at which one of the two
    is further away than rounding: 1 all of it, -1 where it makes errors of its own."""
    bad = [key for key in right if max(right[key], wrong[key]) > 1]
    shares = [1 - max(wrong[key] - 1, 0) / max(right[key] - 1, 1e-9) for key in bad]
    return float(np.mean(np.clip(shares, -1, 1))) if bad else 0.0


def akin(taps: Mapping[str, Tapped], right: Own, wrong: Own, bad: Iterable[str]) -> bool:
    """Whether the candidate is as far from the right run as the wrong run is, at each of several taps,
    and never far.

    bad: the taps at which one of the two is wrong. Rounding to a narrower type in another order of
        sums gives other numbers and errors of the same size. That says something of small errors
        only: large ones are all of the size of the array.
    """
    pairs = [sizes for key in bad for sizes in sizes_of(taps[key], right.get(key, ()),
                                                        wrong.get(key, ()))]
    sizes = [size for pair in pairs for size in pair]
    if len(pairs) < 2 or max(sizes) > SMALL or min(sizes) <= 0:
        return False
    return bool(max(abs(np.log10(theirs / fault)) for theirs, fault in pairs) < SAME_SIZE)


def sizes_of(tap: Tapped, right: tuple, wrong: tuple) -> Iterator[tuple[float, float]]:
    """How far the candidate, and the wrong run, are from the right run: relative, for every array;
    infinite where one does not fit."""
    if len(right) < len(tap.arrays):                          # the right run has broken off before
        yield float("inf"), float("inf")
    for number, ours in enumerate(right):
        pair = laid(tap, number, ours) if number < len(tap.arrays) else None
        other = wrong[number] if number < len(wrong) else None
        if pair is None or other is None or other.shape != pair[1].shape:
            yield float("inf"), float("inf")
        else:
            norms = row_norms(pair[1], 0)
            yield tuple(float(np.nan_to_num(relative(row_distances(x, pair[1], 0), norms), nan=np.inf))
                        for x in (pair[0], other))                                   # type: ignore[misc]


@dataclass(frozen=True)
class Lean:
    """How much of a fault's own difference a candidate has: `share` 1 is all of it, 0 none; `sigmas`
    how sure that is against rounding that goes up and down by chance: from number to number, and from
    row to row, for what one norm rounds moves its whole row."""
    share: float
    sigmas: float


def lean(taps: Mapping[str, Tapped], right: Own, wrong: Own, rounded: Own) -> Lean:
    """The share of the difference between two runs that a candidate has, each tap weighted by its
    rounding.

    rounded: the right run in the candidate's precision. Its rounding has a way of its own, that of
        the weights above all, which an honest candidate shares; what is looked at is what the
        candidate has beyond it.
    """
    along, size = [np.zeros(0)], [np.zeros(0)]                        # of each row of each tap
    for off, way in _ways(taps, right, wrong, rounded):                # n x, n x
        variance = np.vdot(off, off) / off.size
        if variance > 0:
            along.append((off * way).sum(axis=1) / variance)
            size.append((way * way).sum(axis=1) / variance)
    rows, sizes = np.concatenate(along), np.concatenate(size)
    if not sizes.any():
        return Lean(0.0, 0.0)
    share = rows.sum() / sizes.sum()
    chance = max(sizes.sum() ** 0.5, float(np.linalg.norm(rows - share * sizes)))
    return Lean(float(share), float(rows.sum() / chance))


def _ways(taps: Mapping[str, Tapped], right: Own, wrong: Own, rounded: Own
          ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(candidate - rounded, wrong - right) of every array of floats that all four have in one shape, as
    rows of numbers: n x."""
    for key, tap in taps.items():
        runs = zip(range(len(tap.arrays)), *(own.get(key, ()) for own in (right, wrong, rounded)),
                   strict=False)
        for number, r, w, n in runs:
            comparable = r.dtype.kind in "fV" and r.shape == w.shape == n.shape
            pair = laid(tap, number, n) if comparable else None
            if pair is None:
                continue
            theirs, ours = (x.astype(np.float64) for x in pair)
            off, way = theirs - ours, w.astype(np.float64) - r.astype(np.float64)
            # not where it is NaN
            if np.isfinite(off).all() and np.linalg.norm(way) > OWN * np.linalg.norm(ours):
                axis = row_axis(tap.stage.axes[number])
                yield tuple(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)     # type: ignore[misc]
                            for x in (off, way))

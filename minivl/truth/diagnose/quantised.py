"""Is this error what weights of 8 or 4 bits must cost, or a fault?

minivl's own weights are quantised in a few usual ways, and its own run on the candidate's values says
what that costs between any two taps. A candidate whose errors have that size at nearly every tap is a
quantised one: its yardstick is this run's error, and what lies beyond it is a fault still. An error in
one stage alone, however small, is none of that: quantisation shows wherever a matrix is.

Read next: `truth/compare/coarse.py` (the ways), `rank.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..compare.coarse import STEPS, coarse
from .evidence import Multiples, Scale, sizes_of
from .replay import Own, Replay

ALIKE = 2.0                        # times what a way costs, or a part of it, at a tap: of the same size
LEEWAY = 3.0                       # times what it costs may a tap be off that is no fault
MOSTLY, LEAST = 0.7, 3             # of the taps must be of that size, and so many of them


@dataclass(frozen=True)
class Cost:
    """A way of quantising whose cost the candidate's errors have. beyond: key -> times what it must
    cost, of the taps that it does not explain; off: by how many powers of ten errors are others, on
    average."""
    way: str
    alike: int
    taps: int
    beyond: dict[str, float]
    off: float

    @property
    def words(self) -> str:
        return (f"weights of {self.way} cost as much: {self.alike} of {self.taps} taps are off by what "
                "minivl itself is off with such weights")


def cost_of(run: Replay, right: Own, base: Multiples, scale: Scale) -> Cost | None:
    """The way of quantising whose cost comes nearest to the candidate's errors at nearly all taps; None
    where none does."""
    found = [one for kind in STEPS for one in [fits(run, right, base, scale, kind)] if one]
    return min(found, key=lambda one: (len(one.beyond), one.off), default=None)


def fits(run: Replay, right: Own, base: Multiples, scale: Scale, kind: str) -> Cost | None:
    """One way: how many taps are off by what it costs."""
    own = run.honest(scale.kinds(run.taps), coarse(kind, words=True))
    ratios: dict[str, float] = {}
    for key in base:
        tap = run.taps[key]
        pairs = [(theirs, np.hypot(ours, scale.storage(tap.name(n)))) for n, (theirs, ours) in
                 enumerate(sizes_of(tap, right.get(key, ()), own.get(key, ()))) if ours > 0]
        if pairs:
            # an array that does not fit is infinitely far off, whatever weights cost
            ratios[key] = max(theirs / ours if theirs < np.inf else np.inf for theirs, ours in pairs)
    alike = sum(1 / ALIKE <= ratio <= ALIKE for ratio in ratios.values())
    if alike < max(LEAST, MOSTLY * len(ratios)):
        return None
    beyond = {key: ratio for key, ratio in ratios.items() if ratio > LEEWAY and base[key] > 1}
    off = float(np.mean([abs(np.log10(ratio)) for ratio in ratios.values() if 0 < ratio < np.inf]))
    return Cost(STEPS[kind].says, alike, len(ratios), beyond, off)


def beyond_cost(base: Mapping[str, float], cost: Cost) -> Multiples:
    """The multiples of rounding, with those that the cost explains within it."""
    return {key: multiple if key in cost.beyond else min(multiple, 1.0)
            for key, multiple in base.items()}

"""Is this error what weights of 8 or 4 bits must cost, or a fault?

minivl's own weights are quantised in a few usual ways, and its own run on the candidate's values says
what that costs between any two taps. A candidate whose errors have that size at nearly every tap is a
quantised one: its yardstick is this run's error, and what lies beyond it is a fault still. An error in
one stage alone, however small, is none of that: quantisation shows wherever a matrix is.

Source: round to nearest with one scale for a row or for a group of columns, as in GPTQ's baseline
(arXiv 2210.17323, section 3). Read next: `rank.py`, which asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checkpoint.tree import Linear
from ...checkpoint.weight import weight as as_weight
from ...door.stage import Wrap
from .evidence import Multiples, sizes_of
from .replay import Own, Replay

# the usual ways, the finest first: bits, columns that share a scale (None: all of a row)
WAYS = {"8 bits, a scale for each 32 columns": (8, 32), "8 bits, a scale for each row": (8, None),
        "4 bits, a scale for each 32 columns": (4, 32), "4 bits, a scale for each 128 columns": (4, 128),
        "4 bits, a scale for each row": (4, None)}
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


def cost_of(run: Replay, right: Own, base: Multiples) -> Cost | None:
    """The way of quantising whose cost comes nearest to the candidate's errors at nearly all taps; None
    where none does."""
    found = [one for way, how in WAYS.items() for one in [fits(run, right, base, way, *how)] if one]
    return min(found, key=lambda one: (len(one.beyond), one.off), default=None)


def fits(run: Replay, right: Own, base: Multiples, way: str, bits: int, group: int | None
         ) -> Cost | None:
    """One way: how many taps are off by what it costs."""
    own = run.own(precision=run.precision, wraps=weights_of(bits, group))
    ratios: dict[str, float] = {}
    for key in base:
        pairs = [(theirs, ours) for theirs, ours in sizes_of(run.taps[key], right.get(key, ()),
                                                             own.get(key, ())) if ours > 0]
        if pairs:
            ratios[key] = max(theirs / ours for theirs, ours in pairs)
    alike = sum(1 / ALIKE <= ratio <= ALIKE for ratio in ratios.values())
    if alike < max(LEAST, MOSTLY * len(ratios)):
        return None
    beyond = {key: ratio for key, ratio in ratios.items() if ratio > LEEWAY and base[key] > 1}
    off = float(np.mean([abs(np.log10(ratio)) for ratio in ratios.values() if 0 < ratio < np.inf]))
    return Cost(way, alike, len(ratios), beyond, off)


def weights_of(bits: int, group: int | None) -> dict[str, Wrap]:
    """A wrap that gives every matrix this few bits; each is rounded once and kept."""
    kept: dict[int, tuple[Linear, Linear]] = {}

    def wrap(right: Callable) -> Callable:
        def linear(x: np.ndarray, w: Linear) -> Any:
            if id(w.weight) not in kept:
                dense = w.weight.dense(np.float32)
                kept[id(w.weight)] = (w, Linear(as_weight(quantised(dense, bits, group)), w.bias))
            return right(x, Linear(kept[id(w.weight)][1].weight, w.bias))
        return linear
    return {"kernel.linear": wrap}


def quantised(table: np.ndarray, bits: int, group: int | None) -> np.ndarray:
    """A matrix rounded to whole numbers of so many bits times a scale, symmetric: o d -> o d."""
    width = table.shape[1]
    size = width if group is None else min(group, width)
    spare = -width % size
    parts = np.pad(table, ((0, 0), (0, spare))).reshape(len(table), -1, size)          # -> o g size
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(parts).max(axis=-1, keepdims=True), 1e-12) / np.float32(top)
    rounded = np.clip(np.rint(parts / scale), -top, top) * scale
    return rounded.reshape(len(table), -1)[:, :width].astype(np.float32)


def beyond_cost(base: Mapping[str, float], cost: Cost) -> Multiples:
    """The multiples of rounding, with those that the cost explains within it."""
    return {key: multiple if key in cost.beyond else min(multiple, 1.0)
            for key, multiple in base.items()}

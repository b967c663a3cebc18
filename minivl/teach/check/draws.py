"""One drawing language for the inputs of an exercise, spoken by Hypothesis where it is installed and by
a few lines of our own where it is not (in a browser, say).

    def draw(d):
        rows, width = d.whole(1, 6), d.whole(1, 8)
        return d.floats(rows, width), d.norm(width)

Every decision comes down to `whole(low, high)`; smaller is simpler, and a failing input is made smaller
by lowering decisions. Numbers come from a generator whose seed is a decision too, so that decisions
alone say what an input is.

Read next: `exercise.py`, which holds such functions; `search` here, the smallest input that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from ...checkpoint.tree import MLP, Linear, Merger, Norm
from ...checkpoint.weight import weight
from .arguments import size_of

T = TypeVar("T")
Whole = Callable[[int, int], int]


@dataclass(frozen=True)
class Case:
    """One drawn input: a stage's arguments, and whether its arrays are handed over strided."""
    args: tuple
    strided: bool = False


class Draws:
    """Decisions from which inputs are made. `whole` is the only one that is not made of others."""

    def __init__(self, whole: Whole):
        self.whole = whole
        self._made = 0

    def pick(self, options: Sequence[T]) -> T:
        """One of several; the first is the simplest."""
        return options[self.whole(0, len(options) - 1)]

    def flag(self) -> bool:
        return bool(self.whole(0, 1))

    def generator(self) -> np.random.Generator:
        """Another one each time, even where all seeds have been lowered to 0: keys are not values."""
        self._made += 1
        return np.random.default_rng((self.whole(0, 999), self._made))

    def floats(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Numbers of about unit size with two digits after the point, which can be read: float32."""
        return (np.round(self.generator().normal(size=shape), 2) * scale).astype(np.float32)

    def order(self, length: int) -> np.ndarray:
        """A permutation of 0..length-1."""
        return self.generator().permutation(length)

    def linear(self, into: int, out: int, bias: bool | None = None) -> Linear:
        """A map whose results are about as large as its inputs; with a bias, without, or either."""
        bias = self.flag() if bias is None else bias
        matrix = self.floats(out, into, scale=max(into, 1) ** -0.5)
        return Linear(weight(matrix), weight(self.floats(out)) if bias else None)

    def norm(self, width: int) -> Norm:
        """Weights around one. The eps is at times large enough to show where it is added."""
        return Norm(weight(1 + self.floats(width, scale=0.25)), self.pick([1e-6, 0.5, 0.01]))

    def mlp(self, width: int, inner: int) -> MLP:
        bias = self.flag()
        return MLP(self.linear(width, 2 * inner, bias), self.linear(inner, width, bias))

    def merger(self, width: int, out: int, cell: int) -> Merger:
        inner = width * cell
        return Merger(self.norm(width), self.linear(inner, inner, True), self.linear(inner, out, True))

    def grids(self, most: int, side: int, merge: int = 2, frames: int = 3) -> np.ndarray:
        """Grids (i, 3) of up to `most` pictures and videos, up to `side` cells high and wide."""
        rows = [(self.whole(1, frames) if self.flag() else 1, merge * self.whole(1, side),
                 merge * self.whole(1, side))
                for _ in range(self.whole(1, most))]
        return np.array(rows, np.int64)


def deck(draw: Callable[[Draws], tuple], seed: int, count: int) -> list[Case]:
    """The same `count` cases for the same seed, with or without Hypothesis."""
    rng = np.random.default_rng(seed)
    return [_case(draw, Draws(_uneven(rng))) for _ in range(count)]


def _case(draw: Callable[[Draws], tuple], draws: Draws) -> Case:
    return Case(draw(draws), draws.flag())


def _uneven(rng: np.random.Generator) -> Whole:
    """A third of all decisions are at an end of their range, where most mistakes are."""
    def whole(low: int, high: int) -> int:
        at = rng.random()
        return low if at < 1 / 6 else high if at < 1 / 3 else int(rng.integers(low, high, endpoint=True))
    return whole


def search(draw: Callable[[Draws], tuple], fails: Callable[[Case], bool], seed: int, tries: int,
           until: float
           ) -> Case | None:
    """The smallest case found for which `fails` holds, or None.

    Gives up at the time `until`, and after three cases looked at for each of `tries`: shrinking could go
    on for long.
    """
    best: list[Case] = []
    looks = iter(range(3 * tries))

    def failing(case: Case) -> bool:
        if perf_counter() > until or next(looks, None) is None or not fails(case):
            return False
        if not best or weight_of(case) < weight_of(best[0]):
            best[:] = [case]
        return True
    try:
        _with_hypothesis(draw, failing, seed, tries)
    except ImportError:
        _by_hand(draw, failing, seed, tries)
    return best[0] if best else None


def weight_of(case: Case) -> tuple[int, bool]:
    """How small a case is: the smallest is shown."""
    return size_of(case.args), case.strided


def _with_hypothesis(draw: Callable[[Draws], tuple], fails: Callable[[Case], bool], seed: int,
                     tries: int) -> None:
    from random import Random

    import hypothesis as h
    from hypothesis import strategies

    @strategies.composite
    def cases(drawn: Any) -> Case:
        return _case(draw, Draws(lambda low, high: drawn(strategies.integers(low, high))))
    settings = h.settings(max_examples=tries, database=None, deadline=None,
                          suppress_health_check=list(h.HealthCheck),
                          phases=(h.Phase.generate, h.Phase.shrink))
    # An exception of its own says that nothing was found, or that a function fails by chance or the time
    # is over.
    with suppress(h.errors.HypothesisException, h.errors.Flaky):
        h.find(cases(), fails, settings=settings, random=Random(seed))


def _by_hand(draw: Callable[[Draws], tuple], fails: Callable[[Case], bool], seed: int,
             tries: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(tries):
        made: list[int] = []
        if fails(_case(draw, Draws(_noting(_uneven(rng), made)))):
            return _shrink(draw, fails, made)


def _noting(whole: Whole, made: list[int]) -> Whole:
    """The same decisions, each written down as its distance from the lowest."""
    def noted(low: int, high: int) -> int:
        value = whole(low, high)
        made.append(value - low)
        return value
    return noted


def _replaying(made: Sequence[int]) -> Whole:
    """Decisions as written down, as far as they fit; the simplest ones when there are no more."""
    left = iter(made)
    return lambda low, high: min(low + next(left, 0), high)


def _shrink(draw: Callable[[Draws], tuple], fails: Callable[[Case], bool], made: list[int],
            rounds: int = 3) -> None:
    """Lower one decision after the other for as long as the case still fails."""
    def still(place: int, lower: int) -> bool:
        trial = [*made[:place], lower, *made[place + 1:]]
        return fails(_case(draw, Draws(_replaying(trial))))
    for _ in range(rounds):
        before = list(made)
        for place in range(len(made)):
            while (lower := next((n for n in _lower(made[place]) if still(place, n)), None)) is not None:
                made[place] = lower
        if made == before:
            return


def _lower(value: int) -> Iterator[int]:
    yield from sorted({0, value // 2, value - 1} & set(range(value)))

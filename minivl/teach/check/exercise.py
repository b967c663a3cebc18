"""What is known about a stage that a student writes: its inputs, what is right, and the usual mistakes.

A mistake is a small wrong version with a name and with words for it. Whoever gives on every drawn input
what that version gives has made that mistake, and is told so.

    MERGE = Exercise("merge_2x2", "vision.merge_2x2", "four rows become one token", merge_2x2, draw)

    MERGE.wrong("norm_missing", lambda x, merger: ..., "your norm is missing")
    GELU.fault("gelu-by-tanh", "that is the tanh approximation")     # from the bug museum

Read next: `teach/check/stages/vision.py` for a few of them, `judge.py` for what is done with them.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ...door.contract import parse
from ...door.errors import ArgumentError
from .draws import Draws


class Mistake(NamedTuple):
    """A name to search for, words for the student, and the wrong version that makes the mistake."""
    name: str
    words: str
    version: Callable


class Variant(NamedTuple):
    """A rule other than the model's: its words, its definition, and inputs that suit it."""
    words: str
    definition: Callable
    draw: Callable[[Draws], tuple] | None = None


@dataclass(frozen=True)
class Exercise:
    """One stage or kernel.

    name, label: what the student says; where `minivl.using` takes the function
    does: the task in a line
    door: the stage of the model, which is the definition of what is right
    draw: decisions -> its arguments
    summands: arguments -> the length of the longest sum in it, for the tolerance
    facts: words -> whether they hold for arguments; so that a message can say *when* a version is wrong
    reads: the fields of a config that matter here
    slack: how far a number may be off beside rounding
    see: applied to what comes out before it is compared
    variants: draws a rule other than the model's, for graded work
    """
    name: str
    label: str
    does: str
    door: Any
    draw: Callable[[Draws], tuple]
    summands: Callable[..., int] = lambda *args: 1
    facts: Mapping[str, Callable[..., bool]] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    slack: float = 0.0
    see: Callable[[np.ndarray], np.ndarray] = lambda array: array
    variants: Callable[[Draws], Variant] | None = None
    asks: str = ""
    mistakes: list[Mistake] = field(default_factory=list)
    rule: Callable | None = None

    @property
    def definition(self) -> Callable:
        """What is right: the model's own pass, or the rule of a variant."""
        return self.rule or self.door.definition

    @property
    def names(self) -> list[str]:
        """The names of the arguments."""
        return list(inspect.signature(self.door.definition).parameters)

    @property
    def axes(self) -> list[list[str]]:
        """The axis letters of each array that comes out, from the contract."""
        return parse(self.door.contract)[1]

    def wrong(self, name: str, version: Callable, words: str) -> None:
        """Keep a small wrong version beside the stage."""
        self.mistakes.append(Mistake(name, words, version))

    def fault(self, name: str, words: str) -> None:
        """Keep a wrong pass of the bug museum that stands in for this very stage."""
        from ...truth.museum.fault import FAULTS
        self.wrong(name, partial(FAULTS[name].wrong, self.door.definition), words)

    def mistake(self, words: str) -> Callable[[Callable], Callable]:
        """The decorated function is a wrong version, under its own name."""
        def keep(version: Callable) -> Callable:
            self.wrong(version.__name__, version, words)
            return version
        return keep

    def narrowed(self, name: str, does: str, contract: str, draw: Callable[[Draws], tuple],
                 lift: Callable,
                 lower: Callable = lambda given, *asked: given) -> Exercise:
        """The stage as a lesson asks for it, of arguments of its own.

        lift: these arguments -> the stage's; lower: what the stage gives, and these arguments -> what is
        asked for.
        """
        def through(stages: Callable) -> Callable:
            return wraps(lift)(lambda *asked: lower(stages(*lift(*asked)), *asked))

        def of(fact: Callable) -> Callable:
            return lambda *asked: fact(*lift(*asked))
        return replace(
            self, name=name, label=name, does=does, draw=draw, variants=None, rule=None,
            door=SimpleNamespace(definition=through(self.definition), contract=contract),
            summands=of(self.summands), facts={words: of(fact) for words, fact in self.facts.items()},
            mistakes=[one._replace(version=through(one.version)) for one in self.mistakes])

    def varied(self, variant: object) -> Exercise:
        """Another rule, the same one for the same `variant`. ValueError when the exercise has none."""
        if self.variants is None:
            raise ArgumentError(f"{self.name} has no variants; these have: see `minivl.check()`")
        rng = np.random.default_rng(zlib.crc32(f"{self.name}/{variant}".encode()))
        draws = Draws(lambda low, high: int(rng.integers(low, high, endpoint=True)))
        words, rule, draw = self.variants(draws)
        own = Mistake("the_models_rule",
                      f"that is the model's own rule; your variant asks for another: {words}",
                      self.door.definition)
        return replace(self, rule=rule, asks=words, draw=draw or self.draw,
                       mistakes=[own, *self.mistakes])

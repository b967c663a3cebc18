"""The loop that writes: run the prompt once, choose a token, run the token, choose the next.

Several conversations go through it packed together; one that has stopped takes no further rows. The
loop is a generator, and the session is entered anew for each token, because a context held across a
`yield` would leak into the caller's code.

Read next: `passes/sampling.py` (how a token is chosen), `cache.py` (what makes a step cheap).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..checkpoint.tree import Model, Weight
from ..door.contract import outputs
from ..door.errors import ArgumentError, Error
from ..door.stage import Session, running
from ..door.visit import Visit
from ..kernels import Interpreter
from ..model import prefill, step
from ..passes.positions import advance
from ..passes.sampling import draw, most_likely, narrow_choice, penalise
from .cache import KVCache
from .inputs import Batch, Inputs

# what holds numbers that a precision does not
WIDER = {
    "float16": ("float32", "float32 and bfloat16 hold numbers up to 3.4e38, float16 up to 65,504"),
    "bfloat16": ("float64", "float64 holds numbers up to 1.8e308, bfloat16 up to 3.4e38"),
    "float32": ("float64", "float64 holds numbers up to 1.8e308, float32 up to 3.4e38"),
}
LEAST, MOST = 1e-6, 1e6           # scores of a float32 divided by the one or times the other stay finite


class NotFiniteError(Error):
    """Scores that are no numbers (infinite or NaN): no token can be chosen by them. The message names
    the first stage that gave such a number, and a precision that holds it."""


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _between(least: float, value: Any, most: float) -> bool:
    return isinstance(value, Real) and least <= float(value) <= most


@dataclass(frozen=True)
class Settings:
    """How tokens are chosen and when writing ends. Raises ArgumentError when a number is out of its
    range."""
    max_new_tokens: int
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    stop_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        rules = [("max_new_tokens", _whole(self.max_new_tokens, 1), "a whole number, at least 1"),
                 ("temperature", _between(LEAST, self.temperature, MOST),
                  f"above 0 (from {LEAST:g} to {MOST:g}); greedy decoding is do_sample=False, or "
                  "--temperature 0"),
                 ("top_k", self.top_k is None or _whole(self.top_k, 0),
                  "a whole number, 0 (off) or more"),
                 ("top_p", self.top_p is None or _between(LEAST, self.top_p, 1),
                  "above 0 and at most 1"),
                 ("repetition_penalty", _between(LEAST, self.repetition_penalty, MOST),
                  "above 0; 1 is off"),
                 ("stop_ids", isinstance(self.stop_ids, tuple | list)
                  and all(_whole(i, 0) for i in self.stop_ids),
                  "a list of token ids"),
                 ("seed", _whole(self.seed, 0), "a whole number, 0 or more")]
        for name, holds, rule in rules:
            if not holds:
                raise ArgumentError(f"{name} is {getattr(self, name)}; it must be {rule}")


def choose(logits: np.ndarray, prompts: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...],
           settings: Settings,
           number: int) -> np.ndarray:
    """The next token of each conversation: n v -> n. `number` counts the tokens written so far."""
    if settings.repetition_penalty != 1:
        logits = penalise(logits, prompts, answers, settings.repetition_penalty)
    if not settings.do_sample:
        return most_likely(logits)
    logits = narrow_choice(logits, settings.temperature, settings.top_k, settings.top_p)
    return draw(logits, settings.seed, number)


def chosen_on(machine: Interpreter, logits: Any, prompts: tuple[np.ndarray, ...],
              answers: tuple[np.ndarray, ...], settings: Settings, number: int) -> np.ndarray | None:
    """`choose`, or None where the scores are no numbers. A machine that can choose the likeliest token
    does so where the scores lie; everything else is the host's."""
    if not settings.do_sample and stood_in_for(most_likely, machine):
        tokens = choose(logits, prompts, answers, settings, number)
        return None if (tokens < 0).any() else tokens
    logits = machine.to_host(logits)
    return choose(logits, prompts, answers, settings, number) if np.isfinite(logits).all() else None


def stood_in_for(stage: Any, machine: Interpreter) -> bool:
    """Whether the machine has a function of its own for a stage."""
    return stage.definition in machine.functions


def write(conversations: Sequence[Inputs], model: Model, settings: Settings, machine: Interpreter
          ) -> Iterator[list[int | None]]:
    """Yield one list for each step: the new token of every conversation, None where it has stopped.

    A stop id is yielded too, as the last one. The model runs on `machine`. Raises NotFiniteError when
    the scores are no numbers.
    """
    dtype = model.decoder.dtype
    batch = Batch.of(conversations, model.config, dtype).on(machine.to_device)
    cache_size = batch.lengths + settings.max_new_tokens
    cache = KVCache(model.config.text, cache_size, dtype, machine.zeros)
    answers = [np.zeros(0, np.int64) for _ in conversations]
    rows, offsets = batch.lengths, batch.positions[:, batch.asked] - batch.lengths + 1        # n, 3 n
    going = np.ones(len(conversations), bool)
    tokens = np.zeros(len(conversations), np.int64)
    ran: list[Batch] = []
    for number in range(settings.max_new_tokens):
        ran.append(batch)
        with running(machine):
            logits = step(batch, batch.no_features, cache, model) if number else prefill(batch, cache, model)
            asked = np.flatnonzero(going).tolist()
            chosen = chosen_on(machine, logits, tuple(conversations[n].input_ids for n in asked),
                               tuple(answers[n] for n in asked), settings, number)
            if chosen is None:
                raise NotFiniteError(_why_not_finite(ran, cache_size, model, machine))
            tokens[going] = chosen
            place = advance(rows + number, offsets)
        yield [int(token) if on else None for token, on in zip(tokens, going, strict=True)]
        answers = [np.append(a, token) if on else a for a, token, on in zip(answers, tokens, going,
                                                                            strict=True)]
        going &= ~np.isin(tokens, settings.stop_ids)
        if not going.any():
            return
        batch = batch.followed_by(tokens, place, going)


# -------------------------------------------------------------------------- scores that are no numbers

def _why_not_finite(ran: Sequence[Batch], cache_size: np.ndarray, model: Model,
                    machine: Interpreter) -> str:
    """Run what has run once more, looking at every stage, and say which was the first to leave the
    numbers."""
    found: list[Visit] = []

    def look(visit: Visit) -> None:
        if not found and not _all_finite(visit.output):
            found.append(visit)

    dtype = model.decoder.dtype
    cache = KVCache(model.config.text, cache_size, dtype, machine.zeros)
    with np.errstate(all="ignore"), Session(quiet=True) as session:
        session.watchers.append(look)
        for number, batch in enumerate(ran):
            step(batch, batch.no_features, cache, model) if number else prefill(batch, cache, model)
            if found:
                break
    said = "the scores of the next token are not finite"
    if not found:
        return (f"{said}, yet no stage gives such numbers when it is run again: look at what stands in "
                "for a stage or kernel, a replacement or an interpreter")
    said += f": {found[0].key} is the first stage that gives such numbers"
    if not _weights_finite(found[0].args):
        return (f"{said}, and its weights hold some: no precision mends that; fetch the checkpoint "
                "again, or train it anew")
    if dtype.name not in WIDER:
        return f"{said}, and no precision is wider than {dtype.name}: look at what goes into it"
    wider, words = WIDER[dtype.name]
    return (f"{said}: they left the range of {dtype.name}; {words}: give precision={wider!r}, or "
            f"--precision {wider}")


def _all_finite(output: Any) -> bool:
    return all(np.isfinite(one).all() for one in outputs(output) if one.dtype.kind in "fV")


def _weights_finite(value: Any) -> bool:
    """Whether all weights in a stage's arguments are numbers, as far as they can be read."""
    if isinstance(value, tuple):
        return all(map(_weights_finite, value))
    return not isinstance(value, Weight) or bool(np.isfinite(value.dense(np.float64)).all())

"""The loop that writes: run the prompt once, choose a token, run the token, choose the next.

Several conversations go through it packed together; one that has stopped takes no further rows. The
loop is a generator, and the session is entered anew for each token, because a context held across a
`yield` would leak into the caller's code.

Read next: `passes/sampling.py` (how a token is chosen), `cache.py` (what makes a step cheap).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..checkpoint.tree import Model, Weight
from ..config import TextConfig
from ..door.contract import outputs
from ..door.errors import ArgumentError, Error
from ..door.stage import Session, running
from ..door.visit import Visit
from ..kernels import Interpreter
from ..kernels.stored import stored_as
from ..model import prefill, step
from ..passes.positions import advance
from ..passes.sampling import draw, most_likely, narrow_choice, penalise
from .cache import KVCache
from .inputs import Batch, Inputs
from .prompt_cache import PromptCache, continued, known_by, restored, usable

# what holds numbers that a precision does not
WIDER = {
    "float16": ("float32", "float32 and bfloat16 hold numbers up to 3.4e38, float16 up to 65,504"),
    "bfloat16": ("float64", "float64 holds numbers up to 1.8e308, bfloat16 up to 3.4e38"),
    "float32": ("float64", "float64 holds numbers up to 1.8e308, float32 up to 3.4e38"),
}
CONTEXT = 32_768                  # tokens of a conversation, unless somebody asks for more
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


@dataclass(frozen=True)
class Keeping:
    """How a run keeps its rows, and how many it may have.

    chunk: rows of the prompt that go through the decoder at a time; None: as many as the
        interpreter likes
    cache: the type that keys and values are stored in, of `kernels.stored.FORMATS`; None: the
        activations'
    reuse: where rows of earlier turns are kept, and this one's will be
    context: the most tokens of a conversation, prompt and answer together
    channels: sizes of the keys' channels, for a cache in bytes (`calibrate.py`)
    Raises ArgumentError when a number is out of its range.
    """
    chunk: int | None = None
    cache: str | None = None
    reuse: PromptCache | None = None
    context: int = CONTEXT
    channels: np.ndarray | None = None

    def __post_init__(self) -> None:
        rules = [("chunk", self.chunk is None or _whole(self.chunk, 1), "a whole number, at least 1"),
                 ("reuse", self.reuse is None or isinstance(self.reuse, PromptCache),
                  "a minivl.PromptCache"),
                 ("context", _whole(self.context, 2), "a whole number, at least 2")]
        for name, holds, rule in rules:
            if not holds:
                raise ArgumentError(f"{name} is {getattr(self, name)!r}; it must be {rule}")


AS_IT_COMES = Keeping()


def check_length(inputs: Inputs, new_tokens: int, config: TextConfig, context: int) -> None:
    """Raise ArgumentError for a conversation that would have more tokens than `context`, or
    positions that the model was not trained for."""
    rows = len(inputs.input_ids)
    if rows + new_tokens > context:
        fits = f"at most {context - rows:,} new tokens fit: give a smaller max_new_tokens; or " \
            if rows < context else ""
        raise ArgumentError(f"a prompt of {rows:,} tokens and max_new_tokens, {new_tokens:,}, must fit into "
                            f"a context of {context:,}: {fits}shorten the prompt, give smaller pictures "
                            f"(max_pixels), or more room (context={rows + new_tokens}, or --context)")
    last = max(int(inputs.position_ids.max()), int(inputs.position_ids[:, -1].max()) + new_tokens - 1)
    if last >= config.max_position_embeddings:
        raise ArgumentError(f"positions must stay below {config.max_position_embeddings:,}, which is as far "
                            f"as this model counts, and the last one would be {last:,}: shorten the prompt "
                            "or max_new_tokens; a checkpoint that may count further says so in config.json "
                            "(max_position_embeddings, and rope_scaling of type yarn)")


class Writing:
    """Conversations that are written together: what each has so far, and where its next token stands.

    answers, tokens, going: of each conversation, what it wrote, its newest token, and whether it
        goes on.
    whole: rows of each that every layer has stored; a step that was stopped in its midst counts for none
    """

    def __init__(self, conversations: Sequence[Inputs], model: Model, settings: Settings,
                 machine: Interpreter, keeping: Keeping):
        self.conversations, self.model = conversations, model
        self.settings, self.machine = settings, machine
        self.chunk = keeping.chunk or machine.chunk
        dtype, config = model.decoder.dtype, model.config
        self.lengths = np.array([len(one.input_ids) for one in conversations], np.int64)
        stored = stored_as(keeping.cache, dtype, machine.caches)
        self.cache = KVCache(config.text, self.lengths + settings.max_new_tokens, stored, machine.zeros,
                             channels=keeping.channels)
        self.reuse = usable(keeping.reuse, model, stored)
        new = [restored(one, j, self.cache, config, machine, self.reuse)
               for j, one in enumerate(conversations)]
        self.batch = Batch.of(new, config, dtype).on(machine.to_device)
        self.offsets = self.batch.positions[:, self.batch.asked] - self.lengths + 1             # 3 n
        self.answers = [np.zeros(0, np.int64) for _ in conversations]
        self.tokens, self.whole = np.zeros_like(self.lengths), np.zeros_like(self.lengths)
        self.going = np.ones(len(conversations), bool)
        self.steps: list[Batch] = []

    def run(self, number: int) -> None:
        """Run the prompt, or step `number`, and choose the next token of each conversation."""
        batch, cache, model = self.batch, self.cache, self.model
        if number:
            self.steps.append(batch)
        scores = ([step(batch, batch.no_features, cache, model)] if number
                  else prefill(batch, cache, model, self.chunk))
        asked = iter(np.flatnonzero(self.going).tolist())
        for logits in scores:  # n v: of those whose prompt ended
            if rows := list(islice(asked, logits.shape[0])):
                self.tokens[rows] = self.chosen(logits, rows, number)
        self.whole = cache.lengths.copy()

    def chosen(self, logits: Any, rows: list[int], number: int) -> np.ndarray:
        """The tokens of some conversations, whose scores these are: n v -> n."""
        prompts = tuple(self.conversations[n].input_ids for n in rows)
        answers = tuple(self.answers[n] for n in rows)
        found = chosen_on(self.machine, logits, prompts, answers, self.settings, number)
        if found is None:
            self.reuse = None
            prompt = Batch.of(self.conversations, self.model.config, self.model.decoder.dtype)
            ran = [prompt.on(self.machine.to_device), *self.steps]
            cache_size = self.lengths + self.settings.max_new_tokens
            raise NotFiniteError(why_not_finite(ran, cache_size, self.model, self.machine, self.chunk))
        return found

    def go_on(self, place: np.ndarray) -> bool:
        """Take up the tokens, which stand at `place` (3, n), as the next step; whether there is one."""
        self.answers = [np.append(a, token) if on else a
                        for a, token, on in zip(self.answers, self.tokens, self.going, strict=True)]
        self.going &= ~np.isin(self.tokens, self.settings.stop_ids)
        self.batch = self.batch.followed_by(self.tokens, place, self.going)
        return bool(self.going.any())

    def keep(self) -> None:
        """Hand the rows of all conversations to whoever keeps them for later."""
        for j, one in enumerate(self.conversations if self.reuse is not None else ()):
            assert self.reuse is not None
            table = continued(known_by(one, self.model.config), self.answers[j], self.offsets[:, j])
            n = min(int(self.whole[j]), len(table))
            if n:
                self.reuse.keep(table[:n], self.cache.taken(j, n, self.machine))


def write(conversations: Sequence[Inputs], model: Model, settings: Settings, machine: Interpreter,
          keeping: Keeping = AS_IT_COMES) -> Iterator[list[int | None]]:
    """Yield one list for each step: the new token of every conversation, None where it has stopped.

    A stop id is yielded too, as the last one. The model runs on `machine`. Raises NotFiniteError when
    the scores are no numbers, ArgumentError for a conversation that is too long.
    """
    for one in conversations:
        check_length(one, settings.max_new_tokens, model.config.text, keeping.context)
    writing = Writing(conversations, model, settings, machine, keeping)
    try:
        for number in range(settings.max_new_tokens):
            with running(machine):
                writing.run(number)
                place = advance(writing.lengths + number, writing.offsets)
            yield [int(token) if on else None
                   for token, on in zip(writing.tokens, writing.going, strict=True)]
            if not writing.go_on(place):
                return
    finally:
        writing.keep()


# -------------------------------------------------------------------------- scores that are no numbers

def why_not_finite(ran: Sequence[Batch], cache_size: np.ndarray, model: Model,
                   machine: Interpreter, chunk: int) -> str:
    """Run the prompt and all steps once more, looking at every stage, and say which was the first
    to leave the numbers.

    ran: the prompt, then each step; cache_size: rows of each conversation; chunk: rows of the prompt
        that go through the decoder at a time
    """
    found: list[Visit] = []

    def look(visit: Visit) -> None:
        if not found and not _all_finite(visit.output):
            found.append(visit)

    dtype = model.decoder.dtype
    cache = KVCache(model.config.text, cache_size, dtype, machine.zeros)
    with np.errstate(all="ignore"), Session(quiet=True) as session:
        session.watchers.append(look)
        for number, batch in enumerate(ran):
            (step(batch, batch.no_features, cache, model) if number
             else prefill(batch, cache, model, chunk))
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

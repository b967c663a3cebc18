"""An answer, token by token: what the model writes, what it cost, where it stops.

Log-probabilities come through the door: a session keeps the logits of the step that chose a token. So
does the end of a request that nobody waits for: each block of the model asks first whether to go on.
Both are sessions of one token, held in the thread that writes. Read next: `worker.py`, `replies.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...api import VLM
from ...door.stage import Session, Wrap
from ...kernels.definition import log_softmax
from ...run.inputs import Inputs
from ...text.tokenizer import Stream
from .fields import Wanted

LOGITS = "decoder.logits"
Goes = Callable[[], None]                 # raises where a request has come to its end before its answer


@dataclass(frozen=True)
class Token:
    """A token that was written, its log-probability and the likeliest others: by the model's own scores,
    before penalty, temperature, top_k and top_p."""
    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class AnswerPart:
    """More of an answer. text may be empty; ended: "stop" or "length" with the last piece; written:
    tokens so far, the one that ends the answer too."""
    text: str
    tokens: tuple[Token, ...]
    written: int
    ended: str | None = None


def answer(vlm: VLM, wanted: Wanted, inputs: Inputs, goes: Goes) -> Iterator[AnswerPart]:
    """Pieces of the answer as they are written. Raises Error, and whatever `goes` raises."""
    steps = vlm.tokens(inputs, wanted.max_new_tokens, wanted.temperature, **_options(vlm, wanted))
    text, until = Stream(vlm.tokenizer), Until(wanted.stop)
    written = 0
    for token in _through_the_door(steps, vlm, wanted.top, goes):
        written += 1
        if token.id in vlm.generation.eos_token_ids:
            yield until.last(text.flush(), written, "stop")
            return
        piece = until.push(text.push(token.id), token, written)
        if piece.ended:
            yield piece
            return
        if piece.text:
            yield piece
    yield until.last(text.flush(), written, "length")


def _options(vlm: VLM, wanted: Wanted) -> dict[str, Any]:
    """What `VLM.tokens` is given. Greedy decoding takes the likeliest token, whatever top_p and top_k
    would leave of the others."""
    greedy = wanted.temperature == 0 or (wanted.temperature is None and not vlm.generation.do_sample)
    drawing = {} if greedy else {"top_p": wanted.top_p, "top_k": wanted.top_k}
    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    return {**drawing, "repetition_penalty": wanted.repetition_penalty, "seed": seed}


def _through_the_door(steps: Iterator[int], vlm: VLM, top: int | None, goes: Goes) -> Iterator[Token]:
    """Each token, with its log-probability where they are asked for (`top` is not None)."""
    guards = _guards(vlm, goes)
    while True:
        goes()
        watched = top is not None
        asked = Session(replace=guards, record=LOGITS if watched else (), quiet=True)
        with asked if guards or watched else nullcontext():
            id = next(steps, None)
        if id is None:
            return
        guards = {}  # a step of one token is short: asking between two of them is enough
        yield _token(id, asked.trace, top)


def _guards(vlm: VLM, goes: Goes) -> dict[str, Wrap]:
    """Each block of tower and decoder, asking first whether to go on."""
    def wrap(block: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any) -> Any:
            goes()
            return block(*args)
        return asked
    towers = (("vision.blocks", vlm.config.vision.depth),
              ("decoder.layers", vlm.config.text.num_hidden_layers))
    # whole labels, no patterns: what is fused inside a block stays fused
    return {f"{name}.{n}": wrap for name, depth in towers for n in range(depth)}


def _token(id: int, trace: Mapping[str, Any], top: int | None) -> Token:
    """trace: logits of the runs that chose the token. Of a prompt that went through in chunks only the
    last has a row."""
    if top is None:
        return Token(id, 0.0, ())
    (row,) = log_softmax(np.concatenate(list(trace.values())).astype(np.float64))       # 1 v -> v
    best = np.argsort(-row, kind="stable")[:top]                                        # v -> top
    return Token(id, float(row[id]), tuple((int(n), float(row[n])) for n in best))


class Until:
    """Cuts an answer before the first of some stop strings. What may be the beginning of one is held
    back, and so are the tokens that it is of."""

    def __init__(self, stops: tuple[str, ...]):
        self.stops = stops
        self.held = ""                                          # text that is not given out
        self.tokens: list[tuple[int, Token]] = []  # those not given out, and where in `held` each begins

    def push(self, text: str, token: Token, written: int) -> AnswerPart:
        """What can be given out once a token has added this text; its last piece where a stop string is
        complete."""
        self.tokens.append((len(self.held), token))
        self.held += text
        found = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if found:
            kept = tuple(token for at, token in self.tokens if at < min(found))
            return AnswerPart(self.held[:min(found)], kept, written, "stop")
        return self._out(len(self.held) - self._begun(), written)

    def last(self, text: str, written: int, ended: str) -> AnswerPart:
        """The rest."""
        return AnswerPart(self.held + text, tuple(token for _, token in self.tokens), written, ended)

    def _begun(self) -> int:
        """How many of the last characters may begin a stop string."""
        lengths = (n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n]))
        return max(lengths, default=0)

    def _out(self, upto: int, written: int) -> AnswerPart:
        """The held text up to a place, with the tokens that begin before it; with none of them while no
        text goes out."""
        if not upto:
            return AnswerPart("", (), written)
        given = tuple(token for at, token in self.tokens if at < upto)
        self.tokens = [(at - upto, token) for at, token in self.tokens if at >= upto]
        text, self.held = self.held[:upto], self.held[upto:]
        return AnswerPart(text, given, written)

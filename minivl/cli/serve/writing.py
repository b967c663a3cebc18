"""An answer, token by token: its text, its log-probabilities, where it stops.

Tokens and the scores that chose them come from a conversation of `run/together.py`; nothing of the model is
called here. Read next: `worker.py`, `replies.py`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...api import VLM
from ...kernels.definition import log_softmax
from ...text.tokenizer import Stream
from .fields import Wanted


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


def options_of(vlm: VLM, wanted: Wanted) -> dict[str, Any]:
    """What `Together.join` is given. Greedy decoding takes the likeliest token, whatever top_p and top_k
    would leave of the others."""
    greedy = wanted.temperature == 0 or (wanted.temperature is None and not vlm.generation.do_sample)
    drawing = {} if greedy else {"top_p": wanted.top_p, "top_k": wanted.top_k}
    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    return vlm.choosing(wanted.temperature, **drawing, repetition_penalty=wanted.repetition_penalty,
                        seed=seed)


class Answer:
    """The answer to one request, while its tokens come. written: how many came; ended: whether it has."""

    def __init__(self, vlm: VLM, wanted: Wanted):
        self._stop_ids, self._top = vlm.generation.eos_token_ids, wanted.top
        self._text, self._until = Stream(vlm.tokenizer), Until(wanted.stop)
        self.written, self.ended = 0, False

    def push(self, id: int, scores: np.ndarray, last: bool) -> AnswerPart:
        """What can be given out once a token has come, by scores (v,). last: there will be no other."""
        self.written += 1
        if id in self._stop_ids:
            part = self._until.last(self._text.flush(), self.written, "stop")
        else:
            part = self._until.push(self._text.push(id), scored(id, scores, self._top), self.written)
            if last and not part.ended:
                rest = self._until.last(self._text.flush(), self.written, "length")
                part = replace(rest, text=part.text + rest.text, tokens=part.tokens + rest.tokens)
        self.ended = part.ended is not None
        return part


def scored(id: int, scores: np.ndarray, top: int | None) -> Token:
    """A token with its log-probability and the `top` likeliest where they are asked for; scores (v,)."""
    if top is None:
        return Token(id, 0.0, ())
    (row,) = log_softmax(scores[None].astype(np.float64))                               # v -> 1 v
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

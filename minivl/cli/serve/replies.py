"""Documents of the protocol: an answer as a whole, as chunks of a stream, the list of models.

Read next: `app.py`, which sends them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

from ...text.tokenizer import Tokenizer
from .writing import AnswerPart, Token

Document = dict[str, Any]


@dataclass
class Completion:
    """What is said of one request. shows: whether log-probabilities were asked for; prompt: its
    tokens; reused: of how many of them the rows were kept."""
    model: str
    tokenizer: Tokenizer
    shows: bool
    prompt: int = 0
    reused: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time()))

    def whole(self, pieces: Sequence[AnswerPart]) -> Document:
        """The answer in one document."""
        message = {"role": "assistant", "content": "".join(one.text for one in pieces), "refusal": None}
        tokens = [token for one in pieces for token in one.tokens]
        choice = {"index": 0, "message": message, "logprobs": self._logprobs(tokens),
                  "finish_reason": pieces[-1].ended}
        return {**self._head("chat.completion"), "choices": [choice],
                "usage": self.usage(pieces[-1].written)}

    def first(self) -> Document:
        """The chunk that begins a stream: who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, (), None)

    def chunks(self, piece: AnswerPart) -> Iterable[Document]:
        """The chunks of a piece: its text, then why it ended, if it did."""
        if piece.text or piece.tokens:
            yield self._chunk({"content": piece.text}, piece.tokens, None)
        if piece.ended:
            yield self._chunk({}, (), piece.ended)

    def counted(self, written: int) -> Document:
        """The chunk after the last, where a count was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(written)}

    def usage(self, written: int) -> Document:
        return {"prompt_tokens": self.prompt, "completion_tokens": written,
                "total_tokens": self.prompt + written,
                "prompt_tokens_details": {"cached_tokens": self.reused}}

    def _head(self, kind: str) -> Document:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: Document, tokens: Sequence[Token], ended: str | None) -> Document:
        choice = {"index": 0, "delta": delta, "logprobs": self._logprobs(tokens) if tokens else None,
                  "finish_reason": ended}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _logprobs(self, tokens: Sequence[Token]) -> Document | None:
        if not self.shows:
            return None
        return {"content": [{**self._scored(one.id, one.logprob),
                             "top_logprobs": [self._scored(*other) for other in one.top]}
                            for one in tokens],
                "refusal": None}

    def _scored(self, id: int, logprob: float) -> Document:
        """A token by its bytes: it may hold half a character."""
        data = self.tokenizer.bytes_of(id)
        return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}


def models(name: str, created: int) -> Document:
    """The list of models: the one that is served."""
    return {"object": "list", "data": [model(name, created)]}


def model(name: str, created: int) -> Document:
    return {"id": name, "object": "model", "created": created, "owned_by": "minivl"}


def event(document: Document) -> bytes:
    """A document as one event of a stream. Everything beyond ASCII is escaped: no line end is in it."""
    return b"data: " + json.dumps(document).encode("ascii") + b"\n\n"


END = b"data: [DONE]\n\n"

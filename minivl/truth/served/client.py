"""One request to a server that speaks the OpenAI protocol: a conversation out, an answer with its tokens
and their log-probabilities back, as far as the server gives them.

Nothing but the address that was named is asked. Read next: `ask.py`.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...door.errors import Error

LARGEST = 16 << 20                       # bytes of a reply; an answer of a few tokens is far below
SHOWN = 200                              # characters of a server's words that are quoted


class ServerError(Error):
    """A server that cannot be asked; the message says what it was asked and what it said. status: of
    HTTP, 0 where there was no reply."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """What came back. tokens: the bytes of each token, None where the server says none; logprobs: of
    these; prompt_tokens: how many the prompt had, by the server's count."""
    text: str
    tokens: tuple[bytes, ...] | None
    logprobs: tuple[float, ...] | None
    prompt_tokens: int | None


class _SamePlace(urllib.request.HTTPRedirectHandler):
    """A reply that sends elsewhere is none: only the address that was named is asked."""

    def redirect_request(self, *args: Any) -> None:
        return None


@dataclass(frozen=True)
class Server:
    """url: up to and with /v1, or without it; model: the name that the server knows it by; key: sent as
    a bearer's token where it is given; seconds: that a reply may take."""
    url: str
    model: str = ""
    key: str = ""
    seconds: float = 120.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise ServerError(f"--url is {self.url!r}; it should be the address of a server, such as "
                              "http://localhost:8000/v1")

    def answer(self, messages: list[dict[str, Any]], most: int) -> Reply:
        """The greedy answer of at most so many tokens. Raises ServerError."""
        body: dict[str, Any] = {"messages": messages, "max_tokens": most, "temperature": 0,
                                "logprobs": True, "stream": False}
        if self.model:
            body["model"] = self.model
        return read_reply(self._post("chat/completions", body), self.url)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        base = self.url.rstrip("/")
        where = f"{base if urlsplit(base).path else base + '/v1'}/{path}"
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(where, json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(_SamePlace)
        try:
            with opener.open(request, timeout=self.seconds) as reply:
                raw = reply.read(LARGEST + 1)
        except urllib.error.HTTPError as error:
            said = error.read(4 * SHOWN).decode("utf-8", "replace")[:SHOWN]
            raise ServerError(f"{where} answers {error.code}: {said}", error.code) from None
        except (OSError, ValueError) as error:
            raise ServerError(f"{where} cannot be asked: {error}; is the server running?") from None
        if len(raw) > LARGEST:
            raise ServerError(f"{where}: the reply is longer than {LARGEST:,} bytes")
        try:
            return json.loads(raw)
        except ValueError:
            raise ServerError(f"{where}: the reply is no JSON: {raw[:SHOWN]!r}") from None


def read_reply(document: Any, where: str) -> Reply:
    """A reply of `chat/completions`. Raises ServerError where its parts are not those of the
    protocol."""
    try:
        choice = document["choices"][0]
        text = choice["message"]["content"] or ""
        content = (choice.get("logprobs") or {}).get("content")
        count = (document.get("usage") or {}).get("prompt_tokens")
        tokens = numbers = None
        if content:
            tokens = tuple(bytes(one["bytes"]) if one.get("bytes") is not None
                           else one["token"].encode() for one in content)
            numbers = tuple(math.nan if one["logprob"] is None else float(one["logprob"])
                            for one in content)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(f"{where}: the reply is none of the protocol's ({error!r}); it should have "
                          "choices[0].message.content") from None
    return Reply(text, tokens, numbers, count if type(count) is int else None)

"""From a plan to the lines of a candidate's file: every question is sent, and what comes back written
down as `triage/lines.py` reads it.

Read next: `client.py`, `invariance.py`.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...api import VLM
from ...door.files import write_whole
from .client import Reply, Server, ServerError
from .plan import TOGETHER, TOKENS, Question

REFUSED = (400, 415, 422, 501)           # what servers say to a kind of content that they do not take
Row = dict[str, Any]


def ask(server: Server, questions: Sequence[Question], vlm: VLM, precision: str | None = None,
        say: Callable[[str], None] = lambda words: None, most: int = TOKENS
        ) -> tuple[list[Row], list[str]]:
    """(lines, notes): what was answered, and what could not be asked. Raises ServerError where the
    server cannot be asked at all."""
    ids = ids_by_bytes(vlm)
    rows: list[Row] = []
    refused: list[str] = []

    def send(one: Question) -> Reply | None:
        try:
            return server.answer(protocol(one.messages), most)
        except ServerError as error:
            if one.has_video and error.status in REFUSED:
                return None                      # videos are no part of the protocol
            raise
    alone = [one for one in questions if one.asked != TOGETHER]
    together = [one for one in questions if one.asked == TOGETHER]
    for number, one in enumerate(alone, 1):
        say(f"question {number} of {len(questions)}")
        reply = send(one)
        if reply is None:
            refused.append(one.name)
        else:
            rows.append(row_of(one, reply, ids, precision, most))
    if together:
        say(f"{len(together)} questions at one time")
        with ThreadPoolExecutor(len(together)) as pool:
            replies = list(pool.map(send, together))
        rows += [row_of(one, reply, ids, precision, most)
                 for one, reply in zip(together, replies, strict=True) if reply is not None]
    notes = [f"{len(refused)} questions were not taken by the server, and what they ask for is not "
             f"looked at: {', '.join(refused)}"] * bool(refused)
    return rows, notes


def row_of(one: Question, reply: Reply, ids: Mapping[bytes, int], precision: str | None,
           most: int) -> Row:
    """One line of a candidate's file."""
    row: Row = {"id": one.name, "messages": with_urls(one.messages), "text": reply.text,
                "asked": one.asked, "settings": {"max_new_tokens": most, "temperature": 0}}
    if precision:
        row["settings"]["precision"] = precision
    if reply.prompt_tokens is not None:
        row["prompt_tokens"] = reply.prompt_tokens
    if reply.tokens is not None and all(token in ids for token in reply.tokens):
        row["ids"] = [ids[token] for token in reply.tokens]
        row["logprobs"] = [one if math.isfinite(one) else None for one in reply.logprobs or ()]
    return row


def write(rows: Iterable[Row], path: Path) -> None:
    """Lines as `minivl triage FILE.jsonl` reads them."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def ids_by_bytes(vlm: VLM) -> dict[bytes, int]:
    """Every token's bytes, with special tokens by their names."""
    tokenizer = vlm.tokenizer
    known = ((tokenizer.bytes_of(n), n) for n in reversed(range(vlm.config.text.vocab_size)))
    return {token: n for token, n in known if token}


def protocol(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as the protocol has them: pictures as `image_url` with a data URL, frames of a video as a
    list of these."""
    def item(one: dict[str, Any]) -> dict[str, Any]:
        if "image" in one:
            return {"type": "image_url", "image_url": {"url": data_url(one["image"])}}
        if "video" in one:
            return {**one, "video": [data_url(frame) for frame in one["video"]]}
        return one
    return [{**message, "content": [item(one) for one in message["content"]]} for message in messages]


def with_urls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages in the official form, pictures as data URLs."""
    def item(one: dict[str, Any]) -> dict[str, Any]:
        if "image" in one:
            return {**one, "image": data_url(one["image"])}
        return {**one, "video": [data_url(f) for f in one["video"]]} if "video" in one else one
    return [{**message, "content": [item(one) for one in message["content"]]} for message in messages]


def data_url(pixels: np.ndarray) -> str:
    """A picture as a PNG in a URL: no pixel of it is lost on the way."""
    from PIL import Image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

"""The conversation of a run inside its trace, so that the run can be prepared again: by `minivl
diagnose`, which tries what a wrong resize or a wrong template would have made of it.

Pictures are kept as they came, turned upright; the messages as JSON, with a picture's number in its
place. Read next: `record.py`, which writes both; `truth/diagnose/replay.py`, which prepares the run
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...passes.prompt import media_in
from ...run.messages import one_form
from ...run.open_picture import as_frames, load_frames, load_picture
from .format import PICTURES, Trace, Writer

MESSAGES = "messages"


def keep(out: Writer, messages: Sequence[dict[str, Any]], template: str | None = None) -> None:
    """Write a conversation down, in one form. Raises what `prepare` raises for messages that are none, or
    pictures that are none."""
    messages = one_form(messages, template)
    media = iter(enumerate(media_in(messages)))
    out.facts[MESSAGES] = [{**message, "content": _without_media(message["content"], media, out)}
                           for message in messages]


def _without_media(content: Any, media: Any, out: Writer) -> Any:
    """The content of one message, each picture or video written as a table and replaced by its
    number."""
    if isinstance(content, str):
        return content
    kept = []
    for item in content:
        if "text" not in item:
            number, (kind, item) = next(media)
            pixels = load_frames(as_frames(item[kind])) if kind == "video" else load_picture(item[kind])
            out.table(PICTURES, str(number), pixels)
            item = {**item, kind: number}
        kept.append(dict(item))
    return kept


def conversation(trace: Trace) -> list[dict[str, Any]] | None:
    """The messages of a trace with their pictures as arrays; None where it was recorded without them."""
    if MESSAGES not in trace.facts:
        return None
    media = trace.tables(PICTURES)

    def whole(item: dict[str, Any]) -> dict[str, Any]:
        return {key: media[str(value)] if key in ("image", "video")
                else value for key, value in item.items()}
    return [{**message, "content": message["content"] if isinstance(message["content"], str)
             else [whole(item) for item in message["content"]]} for message in trace.facts[MESSAGES]]

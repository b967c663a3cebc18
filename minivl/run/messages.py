"""Messages of every dialect -> one form, checked: what the rest of the package works on.

    [{"role": ..., "content": a text, or a list of items}, ...]       an item is one of
        {"type": "text", "text": ...}
        {"type": "image", "image": whatever `load_picture` takes, sizes}
        {"type": "video", "video": a list of frames or a file, rates and sizes}

It stands before the check *and* before the template, which asks `'image' in item`: a data set gives
every item every key, and a key that holds nothing would be a picture (unslothai/unsloth-zoo#222).

Taken: rows of data sets (null keys, arrays of items, numbers of NumPy), `url`, `path` and `base64` of
transformers, `image_url` and `sample_fps` of qwen-vl-utils, content of OpenAI's two programs (and
`video_url`, as servers have it beside), their message objects. Not here: opening pictures
(`open_picture.py`) and video files (`footage.py`), which take what a key holds.
Read next: `passes/prompt.py`, which checks and renders this form.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..door.errors import brief
from ..passes.prompt import NUMBERS, WHOLE, PromptError, check_messages, is_file
from ..text.template import DEFAULT_TEMPLATE
from ..text.typed import Typed

ALIASES = {"input_text": "text", "output_text": "text", "input_image": "image_url",        # OpenAI's
           "input_video": "video_url"}
SOURCES = {"image": ("image", "image_url", "url", "path", "base64"),      # keys that hold the medium
           "image_url": ("image_url", "image", "url", "path", "base64"),
           "video": ("video", "video_url", "url", "path", "base64"),
           "video_url": ("video_url", "video", "url", "path", "base64")}
# keys of a message that carry what the model should see, whatever they hold
CARRIERS = ("image", "images", "video", "videos", "audio", "tool_calls", "function_call",
            "reasoning", "reasoning_content", "thinking")
PLACEHOLDERS = ("<|image_pad|>", "<|video_pad|>")
MARK = "CONTINUE_FINAL_MESSAGE_TAG "      # the reference's own; its last blank tells of trimming


def one_form(messages: Any, template: str | None = None) -> list[dict[str, Any]]:
    """Messages of any dialect in the form above, as fresh dicts. Raises PromptError, naming message,
    item and key, for whatever has no place in it.

    template: the checkpoint's, None for the family's; it may read keys of a message besides role and
        content.
    """
    given = as_list(messages)
    if isinstance(given, list):
        source = DEFAULT_TEMPLATE if template is None else template
        given = [_message(f"messages[{n}]", one, source) for n, one in enumerate(given)]
    check_messages(given)
    return list(given)


def as_list(value: Any) -> Any:
    """A sequence as a list, also an array of objects, as pandas gives one; anything else as it is."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
        return list(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return list(value)
    return value


def _as_dict(value: Any) -> Any:
    """A mapping, dataclass or pydantic model without its nulls; anything else as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif not isinstance(value, Mapping) and callable(getattr(value, "model_dump", None)):
        value = value.model_dump()
    return without_nulls(value) if isinstance(value, Mapping) else value


def without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same without keys that hold nothing: None, or a dict of nothing else (Arrow's null struct)."""
    kept = {key: _filled(one) if isinstance(one, Mapping) else one for key, one in value.items()}
    return {key: one for key, one in kept.items()
            if one is not None and not (isinstance(one, Mapping) and not one)}


def _filled(struct: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in struct.items() if one is not None}


# ---- messages and items --------------------------------------------------------------------------

def _message(where: str, message: Any, template: str) -> Any:
    message = _as_dict(message)
    if not isinstance(message, dict):
        return message
    for key, value in message.items():
        if key not in ("role", "content") and _carries(key, value) and not _reads(template, key):
            raise PromptError(f"{where} has the key {brief(key)}, which the chat template does not "
                              "read: what it holds would be lost. Pictures and videos go into the "
                              "content")
    content = as_list(message.get("content"))
    if isinstance(content, list):
        content = [_item(f"{where}['content'][{m}]", item) for m, item in enumerate(content)]
    return {**message, "content": content}


def _carries(key: str, value: Any) -> bool:
    """Whether a message's key holds content, and not a note such as a name or a number."""
    if isinstance(value, np.ndarray):
        return bool(value.size)
    return bool(value) and (key in CARRIERS or not isinstance(value, str | Real))


def _reads(template: str, key: str) -> bool:
    """Whether a template names the key as one that it looks up: `m.key`, `m['key']`, `m.get('key')`."""
    return re.search(rf"(\.|\[\s*['\"]|get\(\s*['\"]){re.escape(str(key))}\b", template) is not None


def _item(where: str, item: Any) -> Any:
    item = _as_dict(item)
    if not isinstance(item, dict):
        return item
    kind = item.get("type")
    if isinstance(kind, str) and kind in ALIASES:
        item["type"] = kind = ALIASES[kind]
    if kind is None:
        kind = next((one for one in ("text", *SOURCES) if one in item), None)
    item |= {key: _number(item[key], key in WHOLE) for key in NUMBERS if key in item}
    if not isinstance(kind, str) or kind not in SOURCES:
        return item
    return _medium(where, item, kind)


def _medium(where: str, item: dict[str, Any], kind: str) -> dict[str, Any]:
    """An item of a picture or video with what to open under `image` or `video`, whatever the key was."""
    given = [key for key in SOURCES[kind] if key in item]
    if len(given) != 1:
        found = " and ".join(given) or f"no {kind} (its keys are {', '.join(map(str, item))})"
        raise PromptError(f"{where} of type {kind} has {found}, should have one of "
                          f"{', '.join(SOURCES[kind])}")
    value, kind = item.pop(given[0]), "video" if kind.startswith("video") else "image"
    if given[0] in ("image_url", "video_url"):
        value = _of_url_object(where, given[0], value, item)
    elif given[0] == "base64":
        value = _of_base64(where, value)
    rest = {key: one for key, one in item.items() if key != "type"}
    return _with_rate(where, {"type": kind, kind: as_list(value) if kind == "video" else value, **rest})


def _of_url_object(where: str, key: str, value: Any, item: dict[str, Any]) -> Any:
    """What to open of OpenAI's `image_url`, or of `video_url` after it: a URL, or a dict with one; `detail`
    is in it or beside."""
    keys = dict(value) if isinstance(value, Mapping) else {"url": value}
    detail = keys.pop("detail", item.pop("detail", "auto"))
    if detail not in ("auto", "high"):
        raise PromptError(f"{where} has the detail {brief(detail)}; only auto and high are there, which "
                          "change nothing. For fewer tokens give max_pixels")
    if "url" not in keys:
        raise PromptError(f"{where}[{key!r}] has no key 'url'")
    if len(keys) > 1:
        other = next(one for one in keys if one != "url")
        raise PromptError(f"{where}[{key!r}] has the key {brief(other)}; it may have url and detail")
    return keys["url"]


def _of_base64(where: str, value: Any) -> str:
    """The text under `base64` as a data URL, so that it is never taken for a path."""
    text = bytes(value).decode("ascii", "replace") if isinstance(value, bytes | bytearray) else value
    if not isinstance(text, str):
        raise PromptError(f"{where}['base64'] is of type {type(value).__name__}, should be a text")
    return text if text[:5].lower() == "data:" else f"data:;base64,{text}"


def _number(value: Any, whole: bool) -> Any:
    """A number of any library as Python's own, 3.0 as 3 where whole ones are asked for; the rest as it
    is."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    return int(number) if whole and number.is_integer() else number


def _with_rate(where: str, item: dict[str, Any]) -> dict[str, Any]:
    """qwen-vl-utils' `sample_fps`, the rate of a list of frames, as `fps`.

    Its list is never sampled: `raw_fps` beside it is a note about where the frames come from, whereas
    `raw_fps` alone means here that frames are still to be chosen.
    """
    if item["type"] != "video" or "sample_fps" not in item or is_file(item["video"]):
        return item                              # beside a file it says nothing, and the check refuses it
    rate = item["sample_fps"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        return item                                                   # which the check refuses by name
    del item["sample_fps"]
    if item.setdefault("fps", rate) != rate:
        raise PromptError(f"{where} has fps {brief(item['fps'])} and sample_fps {brief(rate)}: both are "
                          "the rate of a list of frames; give one")
    item.pop("raw_fps", None)
    return item


# ---- special tokens that somebody typed ----------------------------------------------------------

def typed(messages: Sequence[dict[str, Any]], marks: Typed, special: bool) -> list[dict[str, Any]]:
    """The messages with their typed special tokens marked as text (`text/typed.py`); `special`: they are
    meant as tokens, but for placeholders, which are refused."""
    literals = PLACEHOLDERS if special else [one for one in PLACEHOLDERS if one not in marks.special]
    _refuse_placeholders(messages, literals)
    return [_typed(message, lambda texts: marks.marked(texts, not special)) for message in messages]


def _typed(message: dict[str, Any], mark: Callable[[list[str]], list[str]]) -> dict[str, Any]:
    """Texts that follow each other are looked at together: a token may begin in one and end in the
    next."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": mark([content])[0]}
    items: list[Any] = []
    for is_text, group in groupby(content, key=lambda item: "text" in item):
        run = list(group)
        texts = mark([item["text"] for item in run]) if is_text else []
        items += [{**item, "text": text} for item, text in zip(run, texts, strict=True)] if is_text else run
    return {**message, "content": items}


def _refuse_placeholders(messages: Sequence[Mapping[str, Any]], literals: Sequence[str]) -> None:
    """Raise PromptError for a text that holds a placeholder: it would take a picture's place
    (vllm-project/vllm#57740). One that is typed in pieces shows in the count, in `prompt.expand`."""
    for n, message in enumerate(messages):
        for text in _texts(message["content"]):
            for literal in literals:
                if literal in text:
                    raise PromptError(f"a text of messages[{n}] holds the literal {literal}: "
                                      f"{' and '.join(PLACEHOLDERS)} are placeholders of pictures and "
                                      "videos; take it out of the text, write it with a blank in it, or "
                                      "leave special_tokens out, so that it stays text")


# ---- what only a prompt that goes to the model must hold -----------------------------------------


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [item["text"] for item in content if "text" in item]


def marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with MARK behind its last text, for `continued`. Raises PromptError where there
    is none."""
    *before, last = messages
    if isinstance(last["content"], str):
        return [*before, {**last, "content": last["content"] + MARK}]
    items = list(last["content"])
    at = next((n for n in reversed(range(len(items))) if "text" in items[n]), None)
    if at is None:
        raise PromptError("continue_final_message needs a text to go on with; the last message has none")
    if at != len(items) - 1:
        raise PromptError("continue_final_message: a picture or video follows the last text, and would "
                          "be cut away; put the text last")
    items[at] = {**items[at], "text": items[at]["text"] + MARK}
    return [*before, {**last, "content": items}]


def continued(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """A rendered prompt up to the mark, as transformers cuts it: without the end of the turn. Where the
    template trims texts, the blanks before the mark go too."""
    said = _texts(messages[-1]["content"])[-1].removesuffix(MARK)
    if MARK.strip() not in text or said.strip() not in text:
        raise PromptError("continue_final_message: the chat template leaves out the last message")
    at = text.rindex(MARK.strip())
    return text[:at] if text.startswith(MARK, at) else text[:at].rstrip()

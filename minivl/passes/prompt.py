"""Messages to token ids: check the conversation, render it with the checkpoint's chat template, encode
it, and make room for the features of each picture and video.

    messages --render--> text, a <|image_pad|> for a picture --encode--> ids --expand--> ids, a pad a
    feature

It reads no pictures: how many rows a picture needs comes from its grid (`picture.py`). A text that
holds the literal `<|image_pad|>`, or another special token, gives that token here, as in the reference.
Where a prompt is prepared, typed ones are marked before (`run/messages.py`), and stay text. When a
typed one upsets the count of placeholders, `expand` and `check_features` say so.

Read next: `positions.py` (where each token stands), `text/template.py` (what a chat template is and
may do).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..door.errors import Error, brief
from ..door.stage import stage
from ..text.errors import TemplateError
from ..text.template import load_template, run
from ..text.tokenizer import Tokenizer

__all__ = ["PromptError", "TemplateError", "check_features", "check_messages", "encode", "expand",
           "load_template", "media_of", "render"]

Messages = Sequence[dict[str, Any]]

ROLES = ("system", "user", "assistant", "tool")
SAMPLING = ("raw_fps", "nframes", "min_frames", "max_frames", "video_start", "video_end")
SIZES = ("min_pixels", "max_pixels", "resized_height", "resized_width")
WHOLE = ("nframes", "min_frames", "max_frames", *SIZES)        # numbers that count something
NUMBERS = ("fps", "sample_fps", "total_pixels", *SAMPLING, *SIZES)
KEYS = {                                              # keys of an item, by its type
    "text": ("text",),
    "image": ("image", "image_url", *SIZES),
    "image_url": ("image_url", "image", *SIZES),
    "video": ("video", "fps", *SAMPLING, "sampler", "total_pixels", *SIZES),
}
SAMPLERS = ("official", "transformers", "time")           # who chooses the frames of a whole video


class PromptError(Error):
    """Messages that are no conversation, or placeholders that do not match the pictures and videos."""


# ---- messages ------------------------------------------------------------------------------------

def check_messages(messages: Messages) -> None:
    """Raise PromptError, saying which message, item and key is wrong and what is allowed, unless
    `messages` is a list of `{"role": ..., "content": text or list of items}`, with roles as in ROLES
    and items as in KEYS."""
    if not isinstance(messages, list | tuple):
        raise PromptError(f"messages is {_named(messages)}, should be a list of messages")
    if not messages:
        raise PromptError("messages is empty; there must be at least one message")
    for n, message in enumerate(messages):
        where = f"messages[{n}]"
        if not isinstance(message, dict):
            raise PromptError(f"{where} is {_named(message)}, should be a dict with role and content")
        if "role" not in message:
            raise PromptError(f"{where} has no role (its keys are {brief(list(message))}), should have "
                              "role and content")
        if message["role"] not in ROLES:
            allowed = ", ".join(ROLES)
            raise PromptError(f"{where}['role'] is {brief(message['role'])}, should be one of "
                              f"{allowed}")
        content = message.get("content")
        if not isinstance(content, str | list | tuple):
            raise PromptError(f"{where}['content'] is {_named(content)}, should be a text or a list of "
                              "items")
        for m, item in enumerate([] if isinstance(content, str) else content):
            _check_item(f"{where}['content'][{m}]", item)


def _check_item(where: str, item: Any) -> None:
    if not isinstance(item, dict):
        raise PromptError(f"{where} is {_named(item)}, should be a dict with a type: {', '.join(KEYS)}")
    kind = item.get("type", next((key for key in KEYS if key in item), None))
    if kind not in KEYS:
        raise PromptError(f"{where}['type'] is {brief(kind)}, should be one of {', '.join(KEYS)}")
    unknown = [key for key in item if key not in ("type", *KEYS[kind])]
    if unknown:
        allowed = ", ".join(KEYS[kind])
        raise PromptError(f"{where} has the key {brief(unknown[0])}; one of type {kind} may have "
                          f"{allowed}")
    if kind == "text" and not isinstance(item.get("text"), str):
        raise PromptError(f"{where}['text'] is {_named(item.get('text'))}, should be a text")
    given = [key for key in ("image", "image_url", "video") if item.get(key) is not None]
    if kind != "text" and len(given) != 1:
        found = " and ".join(given) or f"no {kind}"
        raise PromptError(f"{where} of type {kind} has {found}, should have one")
    if isinstance(item.get("image_url"), dict) and "url" not in item["image_url"]:
        raise PromptError(f"{where}['image_url'] has no key 'url'")
    _check_numbers(where, item)


def _check_numbers(where: str, item: dict[str, Any]) -> None:
    for key in NUMBERS:
        value, whole = item.get(key, 1), key in WHOLE
        least = 0 if key == "video_start" else math.nextafter(0, 1)           # the first frame is at 0
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) \
                or not least <= value < math.inf:
            raise PromptError(f"{where}[{key!r}] is {brief(value)}, should be a positive "
                              f"{'whole ' * whole}number")
    if ("resized_height" in item) != ("resized_width" in item):
        raise PromptError(f"{where} has only one of resized_height and resized_width; give both")
    _check_whole(where, item)
    _check_counts(where, item)


def _check_whole(where: str, item: dict[str, Any]) -> None:
    """Frames are chosen from a whole video alone: a file, which says its rate itself, or a list of frames
    with its raw_fps."""
    file = is_file(item.get("video"))
    lost = [key for key in (*SAMPLING[1:], "sampler") if key in item and "raw_fps" not in item]
    if lost and not file:
        raise PromptError(f"{where} has {lost[0]} without raw_fps: frames are chosen only from a whole "
                          "video, whose frames per second raw_fps says")
    if file and "raw_fps" in item:
        raise PromptError(f"{where} has raw_fps {brief(item['raw_fps'])} beside a video file, which "
                          "says its rate itself; leave it out")
    if item.get("sampler", "official") not in SAMPLERS:
        raise PromptError(f"{where}['sampler'] is {brief(item['sampler'])}, should be one of "
                          f"{', '.join(SAMPLERS)}")
    if item.get("sampler") == "time" and not file:
        raise PromptError(f"{where} has sampler 'time': frames of a list stand at no times of their "
                          "own; give the file, or official or transformers")


def is_file(video: Any) -> bool:
    """Whether a video is given as a file (or one that is opened, `Footage`), and not as frames."""
    given = (str, bytes, bytearray, memoryview, os.PathLike, Mapping)
    return isinstance(video, given) or hasattr(video, "shown")


def _check_counts(where: str, item: dict[str, Any]) -> None:
    """One way to say how many frames are shown: a rate (within bounds), or a count."""
    if "nframes" not in item:
        return
    if "fps" in item:
        raise PromptError(f"{where} has fps and nframes; frames are chosen by one of them")
    if not item.get("min_frames", 0) <= item["nframes"] <= item.get("max_frames", math.inf):
        raise PromptError(f"{where} has nframes {item['nframes']}, which is outside of its min_frames "
                          "and max_frames")


def _named(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


def media_of(messages: Messages) -> list[tuple[str, dict[str, Any]]]:
    """`("image" or "video", item)` for each picture and video, in the order of the prompt.

    What to open always stands under the item's key `image` or `video`, also where it came as an
    `image_url`.
    """
    check_messages(messages)
    return media_in(messages)


def media_in(messages: Messages) -> list[tuple[str, dict[str, Any]]]:
    """`media_of` for messages that are checked already."""
    items = [item for message in messages if not isinstance(message["content"], str)
             for item in message["content"] if "text" not in item]
    return [("video", item) if "video" in item else ("image", _as_image(item)) for item in items]


def _as_image(item: dict[str, Any]) -> dict[str, Any]:
    url = item.get("image_url")
    if url is None:
        return item
    rest = {key: value for key, value in item.items() if key in SIZES}
    return {"type": "image", "image": url["url"] if isinstance(url, dict) else url, **rest}


# ---- messages to text ----------------------------------------------------------------------------

def render(messages: Messages, template: str | None = None, add_generation_prompt: bool = True,
           add_vision_id: bool = False) -> str:
    """The prompt as text, with one placeholder for each picture and video.

    `template` is the checkpoint's own (`load_template`); None is the family's. `add_vision_id` numbers
    pictures and videos (`Picture 1: `). Raises PromptError for the messages and TemplateError for the
    template.
    """
    check_messages(messages)
    return text_of(messages, template, add_generation_prompt, add_vision_id)


def text_of(messages: Messages, template: str | None, add_generation_prompt: bool,
            add_vision_id: bool) -> str:
    """`render` for messages that are checked already."""
    text = render_bytes(messages, template, bool(add_generation_prompt), bool(add_vision_id))
    return text.tobytes().decode("utf-8", "surrogatepass")


@stage("prompt.render", "_, _, _, _ -> _")
def render_bytes(messages: Messages, template: str | None, add_generation_prompt: bool,
                 add_vision_id: bool
                 ) -> np.ndarray:
    """What `render` does, as bytes of UTF-8: uint8, because a stage gives numbers and a trace holds
    nothing else. The messages are checked already."""
    text = run(template, {"messages": messages, "add_generation_prompt": add_generation_prompt,
                          "add_vision_id": add_vision_id})
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


# ---- text to ids ---------------------------------------------------------------------------------

@stage("prompt.encode", "_, _ -> n")
def encode(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Ids of the rendered prompt, int64 (s,), with one placeholder for each picture and video."""
    return np.array(tokenizer.encode_marked(text), dtype=np.int64)


@stage("prompt.expand", "_, i, _ -> s")
def expand(ids: np.ndarray, counts: np.ndarray, pads: Sequence[int]) -> np.ndarray:
    """Repeat the j-th placeholder `counts[j]` times: once for each row of features that will stand
    there.

    ids: the prompt with single placeholders; counts (i,): feature rows of each picture and video, in the
    order of the prompt; pads: ids of the placeholders, `<|image_pad|>` and `<|video_pad|>`. Gives
    int64 (s,). Raises PromptError when there are more or fewer placeholders than pictures and videos.
    """
    ids, counts = np.asarray(ids, dtype=np.int64), np.asarray(counts, dtype=np.int64)
    here = np.isin(ids, np.asarray(pads))
    found = int(here.sum())
    if found != len(counts):
        raise PromptError(f"the prompt has {found} placeholders for {len(counts)} pictures and videos: "
                          + _cause(found, len(counts)))
    if (counts < 1).any():
        first = int(np.argmax(counts < 1))
        raise PromptError(f"picture or video {first} has {counts[first]} rows of features, needs at "
                          "least 1")
    # `repeat` takes no int64 where an index has 32 bits: in a browser
    times = np.ones(len(ids), dtype=np.intp)
    times[here] = counts
    return np.repeat(ids, times)                      # (tokens before) -> s


def check_features(ids: np.ndarray, pads: Sequence[int], features_count: int) -> None:
    """Raise PromptError unless `ids` holds as many placeholder tokens as there are rows of features."""
    found = int(np.isin(ids, np.asarray(pads)).sum())
    if found != features_count:
        raise PromptError(f"the prompt has {found} placeholder tokens for {features_count} rows of "
                          "features: "
                          + _cause(found, features_count))


def _cause(placeholders: int, wanted: int) -> str:
    if wanted == 0:
        return ("no pictures or videos were passed; pass them, or take the literal <|image_pad|> or "
                "<|video_pad|> out of the text")
    if placeholders == 0:
        return "the text was written without placeholders, or the chat template dropped them all"
    if placeholders > wanted:
        return ("a text holds a literal <|image_pad|> or <|video_pad|>, an answer that holds one was "
                "fed back, or a picture or video was not passed")
    return "the chat template dropped a picture or video, or more were passed than the messages show"

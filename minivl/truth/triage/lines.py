"""The candidate's file: JSON Lines, one sample a line, from whatever program answered.
docs/guide/triage.md describes it.

    {"id": "7", "image": "7.png", "prompt": "What number is written?", "text": "4071"}

Everything is checked before anything runs; an error names line, field and remedy. Nothing of the model
is known here. Read next: `scorer.py`.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...api import PRECISIONS
from ...door.errors import Error, brief
from ...door.files import MAX_JSON
from ...passes.prompt import media_in
from ...run.messages import one_form
from ..compare.numbers import kind_of

Triple = tuple[int, int, int]
FIELDS = ("id", "image", "images", "video", "fps", "prompt", "messages", "text", "ids", "prompt_ids",
          "logprobs", "grid", "settings", "expected", "teacher_forced", "prompt_tokens", "asked")
SETTINGS = ("precision", "temperature", "top_k", "top_p", "repetition_penalty", "max_new_tokens", "seed")
WHOLE = ("top_k", "max_new_tokens", "seed")
MOST_SAMPLES = 100_000
MOST = 1 << 31                           # of ids, grids and whatever else is counted
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{60,}={0,2}")


class LinesError(Error):
    """A candidate's file that cannot be read; the message names line, field and remedy."""


@dataclass(frozen=True)
class Line:
    """One sample as the candidate had it and answered it.

    ids, logprobs: tokens of the answer and the natural logarithm of each one's probability; NaN where
        it was not finite
    grid: (t, h, w) in patches of each picture or video
    settings: what the program was told
    expected: the true answer
    teacher_forced: the text was given to the program, which only scored it
    prompt_tokens: how many tokens the prompt had, by the program's count
    asked: how, where questions are asked in several ways: "alone", "again", "together", "long"
    """
    number: int
    name: str
    messages: list[dict[str, Any]]
    text: str
    ids: tuple[int, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    grid: tuple[Triple, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    expected: str | None = None
    teacher_forced: bool = False
    prompt_tokens: int | None = None
    asked: str = ""

    @property
    def max_new_tokens(self) -> int | None:
        """The most that the program was allowed to write, where that is known."""
        return self.settings.get("max_new_tokens")


def told_length(lines: Sequence[Line], most: int | None) -> list[Line]:
    """The lines with `--max-new-tokens` in those that do not say it themselves. Raises LinesError for a
    line that says another number."""
    if most is None:
        return list(lines)
    other = next((line for line in lines if line.max_new_tokens not in (None, most)), None)
    if other is not None:
        raise LinesError(f"line {other.number}: settings.max_new_tokens is {other.max_new_tokens}, and "
                         f"--max-new-tokens is {most}; leave the option out")
    return [replace(line, settings={**line.settings, "max_new_tokens": most}) for line in lines]


def read_lines(path: Path) -> list[Line]:
    """All samples of a file; empty lines are skipped. Paths of pictures are relative to the file.
    Raises LinesError, and OSError as the system does."""
    found: list[Line] = []
    first: dict[str, int] = {}
    for number, raw in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if not raw.strip():
            continue
        line = _line(number, raw, path)
        if line.name in first:
            raise LinesError(f"{path}, line {number}: id {brief(line.name)} is line {first[line.name]}'s "
                             "too; each sample needs its own")
        first[line.name] = number
        found.append(line)
        if len(found) > MOST_SAMPLES:
            raise LinesError(f"{path}: more than {MOST_SAMPLES:,} samples; a few hundred are enough")
    if not found:
        raise LinesError(f"{path}: holds no sample; each line should be one JSON object")
    return found


def _line(number: int, raw: bytes, path: Path) -> Line:
    """One line, checked."""
    def wrong(what: str) -> LinesError:
        return LinesError(f"{path}, line {number}: {what}")
    row = _object(raw, wrong)
    for name, value in row.items():
        _check_values(name, value, wrong)
    unknown = [name for name in row if name not in FIELDS]
    if unknown:
        raise wrong(f"field {brief(unknown[0])} is not known; fields are {', '.join(FIELDS)}")
    if not isinstance(row.get("text"), str):
        raise wrong("field 'text' is missing or no text; it should hold the answer as the program gave "
                    "it")
    messages = _messages(row, path.parent, wrong)
    ids, prompt = (_whole_numbers(row, name, wrong) for name in ("ids", "prompt_ids"))
    numbers = _logprobs(row, ids, wrong)
    grid = _grid(row, len(media_in(messages)), wrong)
    if not isinstance(row.get("teacher_forced", False), bool):
        raise wrong("field 'teacher_forced' should be true or false")
    if row.get("teacher_forced") and not numbers:
        raise wrong("field 'teacher_forced' says that the answer was given to the program: then only "
                    "'logprobs', with 'ids', say anything of it, and they are missing")
    if row.get("expected") is not None and not isinstance(row["expected"], str):
        raise wrong("field 'expected' should be a text: the true answer")
    count = row.get("prompt_tokens")
    if count is not None and (type(count) is not int or not 0 <= count < MOST):
        raise wrong("field 'prompt_tokens' should be a whole number: how many tokens the prompt had")
    if not isinstance(row.get("asked", ""), str):
        raise wrong("field 'asked' should be a text: how the question was asked")
    named = number if row.get("id") is None else row["id"]
    return Line(number, str(named), messages, row["text"], ids, prompt, numbers, grid,
                _settings(row, wrong), row.get("expected"), row.get("teacher_forced", False), count,
                row.get("asked", ""))


def clean(text: str) -> str:
    """A text without what decoders treat differently: blanks at its ends, and the end-of-turn mark."""
    return text.replace("<|im_end|>", "").replace("<|endoftext|>", "").strip()


Wrong = Callable[[str], LinesError]


def _object(raw: bytes, wrong: Wrong) -> dict[str, Any]:
    if len(raw) > MAX_JSON:
        raise wrong(f"is {len(raw):,} bytes long, more than {MAX_JSON:,}; give pictures as paths")
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise wrong("is not UTF-8; write the file with encoding='utf-8'") from None
    except (ValueError, RecursionError) as error:
        raise wrong(f"is no JSON ({error}); each line should be one object, as json.dumps writes it"
                    ) from None
    if not isinstance(row, dict):
        raise wrong(f"is a {type(row).__name__}, should be an object such as {{\"image\": ..., "
                    "\"prompt\": ..., \"text\": ...}")
    return row


def _check_values(name: str, value: Any, wrong: Wrong) -> None:
    """Refuse, at any depth of a field, numbers that no float holds and halves of characters."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
        elif type(one) is int and abs(one) >= 1 << 63:
            raise wrong(f"field {brief(name)} holds {_unquoted(one)}, too large a number")
        elif isinstance(one, str) and (half := re.search("[\ud800-\udfff]", one)):
            raise wrong(f"field {brief(name)} holds half of a surrogate pair, {half[0]!r}, which is no "
                        "character; decode the answer as a whole, not token by token")


def _unquoted(value: Any) -> str:
    """A value within an error: not all of it when it is long."""
    if not isinstance(value, str):
        return brief(value)
    return value if len(value) <= 80 else f"{value[:40]}..."


def _messages(row: dict[str, Any], folder: Path, wrong: Wrong) -> list[dict[str, Any]]:
    """The conversation: as it stands, or made of image, images or video and prompt."""
    short = [name for name in ("image", "images", "video", "prompt") if name in row]
    if ("messages" in row) == bool(short):
        raise wrong("give either 'messages', or 'prompt' with one of 'image', 'images', 'video' (or "
                    "none)")
    messages = row.get("messages") if "messages" in row else _short(row, wrong)
    try:
        messages = one_form(messages)
    except ValueError as error:
        raise wrong(f"field 'messages': {error}") from None
    field = "messages" if "messages" in row else next(name for name in short if name in row)

    def placed(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [_placed(item, folder, field, wrong) for item in content]
    assert messages is not None
    return [{**message, "content": placed(message["content"])} for message in messages]


def _short(row: dict[str, Any], wrong: Wrong) -> list[dict[str, Any]]:
    given = [name for name in ("image", "images", "video") if name in row]
    if len(given) > 1:
        raise wrong(f"fields {' and '.join(given)} are there; give one, or 'messages'")
    if not isinstance(row.get("prompt"), str):
        raise wrong("field 'prompt' is missing or no text; it should hold the question, without any "
                    "template")
    media: list[dict[str, Any]] = []
    if given == ["video"]:
        if not isinstance(row["video"], list) or not row["video"]:
            raise wrong("field 'video' should be a list of frames, at least one, each a picture's path")
        media = [{"type": "video", "video": row["video"],
                  **({"fps": row["fps"]} if "fps" in row else {})}]
    elif given:
        pictures = row[given[0]] if given == ["images"] else [row["image"]]
        if not isinstance(pictures, list):
            raise wrong("field 'images' should be a list of paths")
        media = [{"type": "image", "image": one} for one in pictures]
    return [{"role": "user", "content": [*media, {"type": "text", "text": row["prompt"]}]}]


def _placed(item: dict[str, Any], folder: Path, field: str, wrong: Wrong) -> dict[str, Any]:
    """An item whose pictures are looked for beside the file, and are there."""
    def place(source: Any) -> str:
        if not isinstance(source, str):
            raise wrong(f"field {field!r}: a picture is a {type(source).__name__}, should be a path or "
                        "a data: URL")
        if source.partition(":")[0].lower() in ("data", "file"):
            return source
        found = folder / source
        if not _is_file(found):
            remedy = ("base64 needs `data:image/png;base64,` in front" if BASE64.fullmatch(source) else
                      f"paths are relative to the folder of the file ({folder})")
            raise wrong(f"field {field!r}: picture {_unquoted(source)} is not there; {remedy}")
        return str(found)
    if isinstance(item.get("video"), list) and item["video"]:
        return {**item, "video": [place(frame) for frame in item["video"]]}
    if item.get("video") is not None:
        raise wrong(f"field {field!r}: a video should be a list of frames, at least one, each a "
                    "picture's path")
    return {**item, "image": place(item["image"])} if "image" in item else item


def _is_file(path: Path) -> bool:
    """Whether a file is there; what is no path at all is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):                          # too long for the system, or with a NUL in it
        return False


def _whole_numbers(row: dict[str, Any], name: str, wrong: Wrong) -> tuple[int, ...] | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(one) is int and 0 <= one < MOST for one in value):
        raise wrong(f"field {name!r} should be a list of token ids: whole numbers, 0 or more")
    return tuple(value)


def _logprobs(row: dict[str, Any], ids: tuple[int, ...] | None, wrong: Wrong
              ) -> tuple[float, ...] | None:
    """Natural logarithms of probabilities, one for each id; null stands for what was not finite. None
    where there are none: of an answer without a token they say nothing."""
    value = row.get("logprobs")
    if value is None:
        return None
    if not isinstance(value, list) or not all(one is None or type(one) in (int, float) for one in value):
        raise wrong("field 'logprobs' should be a list of numbers, one for each token of the answer")
    if ids is None or len(ids) != len(value):
        has = "are missing" if ids is None else f"are {len(ids)}"
        raise wrong(f"field 'logprobs' has {len(value)} numbers and 'ids' {has}; give the id of each "
                    "scored token")
    numbers = tuple(float(one) if one is not None and math.isfinite(one) else math.nan for one in value)
    high = next((one for one in numbers if one > 1e-3), None)
    if high is not None:
        raise wrong(f"field 'logprobs' holds {high}; a logarithm of a probability is at most 0")
    return numbers or None


def _grid(row: dict[str, Any], media: int, wrong: Wrong) -> tuple[Triple, ...] | None:
    value = row.get("grid")
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 3 and all(type(one) is int for one in value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(one, list) and len(one) == 3 and all(
            type(n) is int and 0 < n < MOST for n in one) for one in value):
        raise wrong("field 'grid' should be [t, h, w] in patches, or a list of such, one for each "
                    "picture or video")
    if len(value) != media:
        raise wrong(f"field 'grid' has {len(value)} rows for {media} pictures and videos; give one "
                    "for each, in the order of the prompt")
    return tuple((t, h, w) for t, h, w in value)


def _settings(row: dict[str, Any], wrong: Wrong) -> dict[str, Any]:
    value = row.get("settings", {})
    if not isinstance(value, dict):
        raise wrong(f"field 'settings' should be an object with any of {', '.join(SETTINGS)}")
    unknown = [name for name in value if name not in SETTINGS]
    if unknown:
        raise wrong(f"field 'settings' has {brief(unknown[0])}; it can have {', '.join(SETTINGS)}")
    if value.get("precision") is not None:
        kind = kind_of(value["precision"])                                    # bf16 is bfloat16
        if kind not in PRECISIONS:
            raise wrong(f"settings.precision is {brief(value['precision'])}; it can be {', '.join(PRECISIONS)}, "
                        "or a short name such as bf16")
        value = {**value, "precision": kind}
    for name, least in (("temperature", 0), ("repetition_penalty", 1e-6), ("top_p", 0), ("top_k", -1),
                        ("max_new_tokens", 1)):
        number = value.get(name)
        if number is not None and (type(number) not in (int, float) or not least <= number < math.inf):
            raise wrong(f"field 'settings': settings.{name} is {brief(number)}; it should be a "
                        f"number, at least {least}")
    for name in WHOLE:
        if value.get(name) is not None and type(value[name]) is not int:
            raise wrong(f"field 'settings': settings.{name} is {brief(value[name])}; it should be a "
                        "whole number")
    return {name: number for name, number in value.items() if number is not None}

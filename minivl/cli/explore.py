"""`minivl explore`: one run, or two side by side, as a page for the browser.

Read next: `explorer/` of the package, which makes the page; `run.py`, whose `--dump` writes what can
be shown later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api import VLM
from ..door.errors import ArgumentError
from ..door.files import PAGES, check_place
from ..door.watch import INDEX, read_dump
from ..show import explorer
from .console import line, note, size, working
from .given import Chosen, check_words, conversation, open_model, say_which

PICTURE = re.compile(r"\S+\.(png|jpe?g|webp|bmp|gif|tiff?)", re.IGNORECASE)


def explore(words: Sequence[str], beside: Sequence[str], output: Path, fps: float | None, chosen: Chosen,
            max_new_tokens: int, keeping: Mapping[str, Any]) -> None:
    """Write the page. Raises ArgumentError or OSError for whatever is wrong with the input, before
    anything takes long where it can be known."""
    check_place(output, *PAGES)
    asked = [split(words), *([other(beside, *split(words))] if beside else [])]
    with open_model(chosen) as vlm:
        runs = [follow(vlm, images, question, fps, max_new_tokens, keeping) for images, question in asked]
        with working("writing the page"):
            explorer.save(output, runs[0], runs[1] if beside else None)
    say_which(chosen.model)
    line(str(output))
    note(f"{size(output.stat().st_size)}; open it in a browser: it needs nothing else, and no network")


def split(words: Sequence[str]) -> tuple[list[str], str]:
    """Pictures and a question; or the folder of a dump alone, with no question."""
    if is_dump(words[-1]) and len(words) == 1:
        return list(words), ""
    if len(words) == 1:
        raise ArgumentError(f"{words[0]}: give pictures and then a question, or the folder of a dump "
                            "(minivl run --dump)")
    check_words(words[:-1], words[-1])
    return list(words[:-1]), words[-1]


def other(beside: Sequence[str], images: list[str], question: str) -> tuple[list[str], str]:
    """The second run: what `--beside` says in place of the first one's pictures, its question, or
    both."""
    if is_dump(beside[0]) and len(beside) == 1:
        return list(beside), ""
    pictures = [word for word in beside if is_picture(word)]
    questions = [word for word in beside if word not in pictures]
    if len(questions) > 1:
        raise ArgumentError(f"--beside has two questions, {questions[0]!r} and {questions[1]!r}; a page "
                            "shows two runs")
    if not question and not (pictures and questions):
        raise ArgumentError("beside a dump give another dump, or both a picture and a question")
    check_words(pictures)
    return pictures or images, questions[0] if questions else question


def is_dump(word: str) -> bool:
    """Whether a word names a folder that `--dump` has written."""
    return (Path(word) / INDEX).is_file()


def is_picture(word: str) -> bool:
    """Whether a word means a picture: a URL of one, a file or folder that is there, or a name that
    only a file has."""
    return bool(word.startswith(("data:", "file:")) or Path(word).exists() or PICTURE.fullmatch(word))


def follow(vlm: VLM, images: list[str], question: str, fps: float | None,
           max_new_tokens: int, keeping: Mapping[str, Any]) -> explorer.Run:
    """One run: read from a dump, or answered now."""
    if not question:
        with working(f"reading {images[0]}"):
            return explorer.from_trace(read_dump(images[0]), vlm, Path(images[0]).name)
    with working("looking at the picture"):
        return explorer.follow(vlm, conversation(images, question, fps), max_new_tokens, name_of(images),
                               **keeping)


def name_of(images: Sequence[str]) -> str:
    """What the page calls the pictures: file names, without the folders of this computer."""
    first = "a picture" if images[0].startswith("data:") else Path(images[0]).name
    return first if len(images) == 1 else f"{first} and {len(images) - 1} more"

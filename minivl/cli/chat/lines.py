"""What a user types, pastes or drags into the terminal: several lines as one message, and the paths of
pictures before a question.

Read next: `command.py`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...run.cut.group import Group
from ...run.footage import looks_like_video
from ..explore import PICTURE

BLOCK = '"""'  # alone on a line: a message of several lines begins or ends
# a dragged file comes in quotes, or with a backslash before each blank; on Windows a backslash is part
# of a path
BARE = r"[^\s]+" if os.name == "nt" else r"(?:\\.|[^\s\\])+"
WORD = re.compile(rf"""\s*(?:'([^']+)'|"([^"]+)"|({BARE}))(?:\s+|$)""")


def typed(prompt: str) -> Callable[[], str]:
    """What gives the next line, without its end: from a terminal with a prompt and a history, else from
    a pipe or a file. It raises EOFError at the end."""
    if not sys.stdin.isatty():
        return _piped
    with suppress(ImportError):  # Windows has none, and edits lines by itself
        import readline  # noqa: F401 - `input` uses it once it is there: arrows, history, pasted lines
    return lambda: input(prompt)


def of_first(next_line: Callable[[], str], world: Group) -> Callable[[], str]:
    """The lines of rank 0, on every rank of a job: only that one has a terminal or a pipe."""
    def line() -> str:
        data = np.zeros(0, np.uint8)
        ends = False
        if world.rank == 0:
            try:
                data = np.frombuffer(next_line().encode("utf-8", "surrogateescape"), np.uint8)
            except EOFError:
                ends = True
        (size,) = world.from_first(np.array([-1 if ends else len(data)]), "report").tolist()
        if size < 0:
            raise EOFError
        told = world.from_first(data if world.rank == 0 else np.zeros(size, np.uint8), "report")
        return told.tobytes().decode("utf-8", "surrogateescape")
    return line


def _piped() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def messages(next_line: Callable[[], str]) -> Iterator[str]:
    """Messages of one line or several: a backslash at its end joins a line with the next, and all
    between two lines of three quotes is one message. Ends where the lines do."""
    while True:
        try:
            line = next_line()
        except EOFError:
            return
        parts: list[str] = []
        with suppress(EOFError):
            if line.strip() == BLOCK:
                while (line := next_line()).strip() != BLOCK:
                    parts.append(line)
                line = ""
            while line.endswith("\\"):
                parts.append(line[:-1])
                line = next_line()
            parts.append(line)
        if message := "\n".join(parts).strip():
            yield message


def paths_first(line: str) -> tuple[list[str], str]:
    """The pictures and videos that a line begins with, and the rest of it."""
    paths, at = [], 0
    while (found := WORD.match(line, at)) and is_medium(word_of(found)):
        paths.append(word_of(found))
        at = found.end()
    return paths, line[at:].strip()


def missing_first(question: str) -> str:
    """The first word of a question that is called like a picture or a video, where no such file is
    there; else ""."""
    found = WORD.match(question)
    name = word_of(found) if found else ""
    return name if called_so(name) and not is_medium(name) else ""


def word_of(found: re.Match[str]) -> str:
    """What a word means, without the quotes or backslashes of a dragged name."""
    return found[1] or found[2] or (found[3] if os.name == "nt" else re.sub(r"\\(.)", r"\1", found[3]))


def is_medium(name: str) -> bool:
    """Whether a word is a picture or a video: a data: URL of one, or a file that is there and called
    so."""
    if name[:11].lower() == "data:image/":
        return True
    try:
        return called_so(name) and path_of(name).is_file()
    except (OSError, ValueError):  # no path at all: too long, a NUL in it
        return False


def called_so(name: str) -> bool:
    """Whether a file of this name would be a picture or a video."""
    path = path_of(name)
    return bool(PICTURE.fullmatch(path.name.replace(" ", "_"))) or looks_like_video(path)


def path_of(name: str) -> Path:
    """The path of a dragged name: some terminals give a `file:` URL; `~` is the user's home."""
    if name[:7].lower() == "file://":
        from urllib.parse import unquote
        name = unquote(name[7:])
    with suppress(RuntimeError):                                     # no home
        return Path(name).expanduser()
    return Path(name)

"""The lessons out of the installed package, into a folder of the learner's own.

    copied(Path("my_lessons"))                   # what is not there yet
    copied(Path("my_lessons"), update=True)      # and newer versions, beside those that were edited

A lesson is edited when the text of a cell differs from what was copied; running it changes outputs only.
What was copied is written down in the folder. Without that note a lesson counts as edited: nothing of
somebody's work is lost. The notebooks are those of the repository's `notebooks/`, which the wheel
carries in `course/notebooks/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

from ...door.errors import FileInTheWay, MissingFile
from ...door.files import write_whole

PACKED = Path(__file__).parent / "notebooks"               # in a wheel
CHECKOUT = Path(__file__).parents[3] / "notebooks"         # in the repository
NOTE = ".minivl-lessons.json"  # file -> digest of its cells when it was copied

# What the lessons need beside minivl: modules of which one must be there, and what it is for.
WANTED = ((("matplotlib",), "draws the figures"), (("ipykernel",), "runs the cells"),
          (("jupyterlab", "notebook"), "opens the notebooks"))
INSTALL = 'pip install "minivl[course]"'


class Done(NamedTuple):
    """What became of one file: "new", "same", "replaced", "kept", "older" or "beside"."""
    deed: str
    file: str
    words: str


def missing() -> list[str]:
    """What the lessons need and this Python does not have, as "matplotlib (draws the figures)"."""
    return [f"{modules[0]} ({use})" for modules, use in WANTED
            if not any(find_spec(name) for name in modules)]


def available() -> list[Path]:
    """The student's notebooks of this version, in order. FileNotFoundError when there are none."""
    for folder in (PACKED, CHECKOUT):
        if found := sorted(folder.glob("lesson_*.ipynb")):
            return found
    raise MissingFile(f"{PACKED}: the installed package holds no lessons; install minivl anew")


def copied(folder: Path, update: bool = False) -> Iterator[Done]:
    """Copy lessons into `folder`, and say of each what was done. Raises OSError as the system does."""
    lessons = available()
    if folder.exists() and not folder.is_dir():
        raise FileInTheWay(f"{folder} is a file, not a folder; name a folder for the lessons")
    folder.mkdir(parents=True, exist_ok=True)
    note = _note(folder)
    for lesson in lessons:
        done = _copy(lesson, folder, note, update)
        _write(folder / NOTE, (json.dumps(note, indent=1, sort_keys=True) + "\n").encode())
        yield done


def _copy(lesson: Path, folder: Path, note: dict[str, str], update: bool) -> Done:
    """One lesson, by three texts: the new one, the one that is there, the one that was copied."""
    name, target, new = lesson.name, folder / lesson.name, cells(lesson)
    if not target.exists():
        return _put(lesson, target, note, "new", "")
    there, before = cells(target), note.get(name)
    if there == new:
        note[name] = new
        return Done("same", name, "is this version already")
    if there != before:                                    # edited, or of unknown origin
        if before == new:
            return Done("kept", name, "is yours; there is no newer version")
        return _beside(lesson, folder, note) if update else Done(
            "kept", name, "is yours and stays; --update puts the new version beside it")
    if not update:
        return Done("older", name, "is an older version and untouched; --update replaces it")
    return _put(lesson, target, note, "replaced", "an older version that nobody had edited")


def _beside(lesson: Path, folder: Path, note: dict[str, str]) -> Done:
    """The new version under a name that says so; one that is there already and edited stays too."""
    number = 1
    while True:
        target = folder / f"{lesson.stem}.new{f'-{number}' if number > 1 else ''}.ipynb"
        there = cells(target) if target.exists() else None
        if there is not None and there == cells(lesson):
            return Done("same", target.name,
                        f"is the new version already; {lesson.name} is yours and stays")
        if there is None or there == note.get(target.name):
            return _put(lesson, target, note, "beside",
                        f"the new version; {lesson.name} is yours and stays")
        number += 1


def _put(lesson: Path, target: Path, note: dict[str, str], deed: str, words: str) -> Done:
    _write(target, lesson.read_bytes())
    note[target.name] = cells(lesson)
    return Done(deed, target.name, words)


def _write(target: Path, data: bytes) -> None:
    write_whole(target, methodcaller("write", data))


def _note(folder: Path) -> dict[str, str]:
    """What was copied here before; nothing when the note is spoilt: then all lessons are edited."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in note.items()} if isinstance(note, dict) else {}


def cells(path: Path) -> str:
    """A digest of the texts of a notebook's cells; of the whole file when it is no notebook."""
    raw = path.read_bytes()
    try:
        found = [(cell["cell_type"],
                  "".join(cell["source"])) for cell in json.loads(raw.decode("utf-8-sig"))["cells"]]
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(raw).hexdigest()
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()

"""The graded notebooks as they are handed out: a folder for each student, in the student's own variant.

    release(Path("autumn"), ["k7m2q5", "b3x9d4"], [ASSIGNMENTS["pictures"]])

    FOLDER/release/NAME/NAME.ipynb                for those who write their name themselves
           release-for/STUDENT/NAME/NAME.ipynb    with the name filled in
           source/, nbgrader_config.py, gradebook.db     where nbgrader is (the extra `teacher`)

The notebooks travel in the wheel as students get them, so this needs no checkout, and no solution is in
the package. What is in FOLDER under these names is written anew: it is made, not edited.

A retake is another attempt: `variant_of` names a variant in which no answer of an attempt before is
right, in every exercise. Read next: `roster.py`, `grade.py`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import Any

from ...door.errors import ArgumentError, MissingFile
from ...door.files import write_whole
from ..check import find as find_exercise
from ..check.draws import Case, deck
from ..check.exercise import Exercise
from ..check.judge import judge
from .assignments import Assignment
from .lessons import CHECKOUT, PACKED

BLANK = "...  # your code here"                 # what stands in the place of a solution
YOURS = "write your name here, as your teacher does"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
TRIES = 500                                     # names that are tried for a variant that is new
PROBES = 12                                     # drawn inputs on which two rules must differ
CONFIG = """\
# Made by minivl.
c = get_config()
c.CourseDirectory.course_id = "minivl"
c.CourseDirectory.root = {root!r}
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
"""


def release(folder: Path, students: Sequence[str], assignments: Sequence[Assignment],
            attempt: int = 1) -> list[Path]:
    """Write the notebooks of these assignments into `folder`; gives those that are for a student.

    attempt: 2 for the first retake. Raises ArgumentError when an exercise has no rule left that the
    student has not had, OSError as the system does, RuntimeError when nbgrader fails.
    """
    chosen = [(one, student, variant_of(student, one, attempt))
              for one in assignments for student in students]
    books = {one.name: notebook(one.name) for one in assignments}
    for name, book in books.items():
        _put(folder / "release" / name / f"{name}.ipynb", named(book, YOURS))
    if find_spec("nbgrader") is not None:
        for name, book in books.items():
            _put(folder / "source" / name / f"{name}.ipynb", with_markers(book))
        by_nbgrader(folder, list(books))
    made = []
    for one, student, variant in chosen:
        path = folder / "release-for" / student / one.name / f"{one.name}.ipynb"
        _put(path, named(books[one.name], variant))
        made.append(path)
    return made


def notebook(name: str) -> dict[str, Any]:
    """An assignment's notebook as it is handed out, without a student's name. MissingFile if it is gone."""
    for home in (PACKED, CHECKOUT):
        path = home / "graded" / f"{name}.ipynb"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise MissingFile(f"{PACKED / 'graded'}: the installed package holds no notebook {name}.ipynb; "
                      "install minivl anew")


def named(book: Any, student: str) -> Any:
    """The notebook with a student's name in the place of the one that stands there."""
    book = copy.deepcopy(book)
    for cell in book["cells"]:
        cell["source"] = re.sub(r"(?m)^STUDENT = .*$", lambda _: f"STUDENT = {student!r}",
                                "".join(cell["source"]))
    return book


def text_of(book: Any) -> bytes:
    """A notebook as the bytes of its file; a newline at the end, keys in order."""
    return (json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


# ---- variants of retakes -------------------------------------------------------------------------

def variant_of(student: str, assignment: Assignment, attempt: int = 1) -> str:
    """The name that a student's variant follows from: the student's own, and for a retake another one.

    The same for the same three. What was right in an attempt before is wrong now, in every exercise.
    Raises ArgumentError when an exercise has too few rules for that.
    """
    asked = [Rules(one.stage, student) for one in assignment.asked]
    variant = student
    for number in range(2, attempt + 1):
        names = (f"{student}, attempt {number}" + (f"-{n}" if n else "") for n in range(TRIES))
        variant = next((name for name in names if all(rules.new(name) for rules in asked)), "")
        if not variant:
            raise ArgumentError(f"each attempt must have a new rule in every exercise, but "
                                f"{assignment.name} has none left for attempt {number} of {student!r}: "
                                "give another assignment, or examine by word of mouth")
        for rules in asked:
            rules.take(variant)
    return variant


class Rules:
    """The rules of one exercise that a student has had."""

    def __init__(self, stage: str, student: str):
        self.exercise = find_exercise(stage)
        self.had: list[Exercise] = []
        self.known: dict[str, bool] = {}                   # what a variant asks for -> whether it is new
        self.take(student)

    def take(self, name: str) -> None:
        """Count the rule of that name among those that were had."""
        self.had.append(self.exercise.varied(name))
        self.known.clear()

    def new(self, name: str) -> bool:
        """Whether no answer to an earlier rule is right under the rule of that name."""
        now = self.exercise.varied(name)
        if now.asks not in self.known:
            cases = deck(now.draw, 0, PROBES)
            self.known[now.asks] = not any(_right(now, before, cases) for before in self.had)
        return self.known[now.asks]


def _right(now: Exercise, before: Exercise, cases: Sequence[Case]) -> bool:
    """Whether what was right before is right now, on all of these inputs."""
    return all(judge(now, before.definition, case).kind == "right" for case in cases)


# ---- nbgrader ------------------------------------------------------------------------------------

def with_markers(book: Any) -> Any:
    """The notebook as nbgrader wants its source: the place of each answer between its markers."""
    book = copy.deepcopy(book)
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            source = re.sub(rf"(?m)^(\s*){re.escape(BLANK)}$",
                            lambda m: f"{m[1]}{BEGIN}\n{m[0]}\n{m[1]}{END}", source)
        cell["source"] = source
    return book


def by_nbgrader(folder: Path, names: Sequence[str]) -> None:
    """Let nbgrader make release/ and gradebook.db of what is in source/. RuntimeError when it fails."""
    # nbgrader calls `alembic` by name: it lies beside this Python, whose environment may not be active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    from nbgrader.apps import NbGraderAPI  # type: ignore[import-not-found]
    from traitlets.config import Config
    write_config(folder)
    settings = Config()
    settings.CourseDirectory.root = str(folder.resolve())
    settings.CourseDirectory.course_id = "minivl"
    settings.ClearSolutions.code_stub = {"python": BLANK}
    interface = NbGraderAPI(config=settings)
    for name in names:
        done = interface.generate_assignment(name, force=True, create=True)
        if not done["success"]:
            why = done.get("error") or done.get("log")
            raise RuntimeError(f"nbgrader could not release {name}: {why}")


def write_config(folder: Path) -> None:
    """nbgrader's settings of the course folder."""
    text = CONFIG.format(root=str(folder.resolve()), stub=BLANK)
    _write(folder / "nbgrader_config.py", text.encode("utf-8"))


def _put(path: Path, book: Any) -> None:
    _write(path, text_of(book))


def _write(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, methodcaller("write", text))

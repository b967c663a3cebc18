"""The course as nbgrader keeps it: sources, and the release in which solutions and hidden tests are stripped.

    python -m tools.course.nbgrader FOLDER                       source/ and release/ of all lessons and assignments
    python -m tools.course.nbgrader FOLDER --seed ada            and the graded ones with a student's name filled in
    python -m tools.course.nbgrader FOLDER --roster class.txt    the same for each line of a file

    FOLDER/nbgrader_config.py, source/NAME/NAME.ipynb, release/NAME/NAME.ipynb, gradebook.db (with nbgrader)
           release-for/STUDENT/NAME/NAME.ipynb

With nbgrader installed (the extra `course`) its own generator makes the release and the gradebook; without it the same
cells are stripped here. What is in FOLDER under these names is written anew: it is made, not edited.
Not here: grading, which is `minivl course grade`. Read next: docs/teaching/grading.md, `lessons.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from operator import methodcaller
from pathlib import Path
from typing import Any

from minivl.teach.course.assignments import ASSIGNMENTS
from tools.course import lessons

GRADED = lessons.LESSONS / "graded"
YOURS = "write your name here, as your teacher does"
NAME = re.compile(r"[\w@.+-][\w@.+ -]*")                   # of a student: it becomes the name of a folder
CONFIG = """\
# Made by tools/course/nbgrader.py.
c = get_config()
c.CourseDirectory.course_id = "minivl"
c.CourseDirectory.root = {root!r}
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
"""


def sources() -> dict[str, str]:
    """Every assignment's name and solved source: the lessons, then the graded ones."""
    return {path.stem: path.read_text(encoding="utf-8") for path in [*lessons.sources(), *sorted(GRADED.glob("*.py"))]}


def graded() -> list[str]:
    """The names of the assignments that are asked in variants."""
    return [name for name in sources() if name in ASSIGNMENTS]


def build(folder: Path, students: list[str]) -> None:
    """Write sources and releases into `folder`. Raises OSError as the system does, RuntimeError when nbgrader fails."""
    for name, source in sources().items():
        _put(folder / "source" / name / f"{name}.ipynb", lessons.notebook(source))
    config = CONFIG.format(root=str(folder.resolve()), stub=lessons.BLANK)
    _write(folder / "nbgrader_config.py", config.encode("utf-8"))
    (_release_by_nbgrader if importlib.util.find_spec("nbgrader") else _release)(folder)
    for name in graded():
        book = _read(folder / "release" / name / f"{name}.ipynb")
        for student in students:
            _put(folder / "release-for" / student / name / f"{name}.ipynb", named(book, student))
        _put(folder / "release" / name / f"{name}.ipynb", named(book, YOURS))


def _release(folder: Path) -> None:
    """The release without nbgrader: the same cells, no gradebook."""
    for name, source in sources().items():
        _put(folder / "release" / name / f"{name}.ipynb", lessons.notebook(lessons.student_form(source)))
    print("nbgrader is not installed: the release was made without it, and there is no gradebook.db", file=sys.stderr)


def _release_by_nbgrader(folder: Path) -> None:
    # nbgrader calls `alembic` by name, which is found beside this Python whether or not its environment is activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    from nbgrader.apps import NbGraderAPI  # type: ignore[import-not-found]
    from traitlets.config import Config
    settings = Config()
    settings.CourseDirectory.root = str(folder.resolve())
    settings.CourseDirectory.course_id = "minivl"
    settings.ClearSolutions.code_stub = {"python": lessons.BLANK}
    interface = NbGraderAPI(config=settings)
    for name in sources():
        done = interface.generate_assignment(name, force=True, create=True)
        if not done["success"]:
            raise RuntimeError(f"nbgrader could not release {name}: {done.get('error') or done.get('log')}")


def named(book: Any, student: str) -> Any:
    """The notebook with a student's name in the place of the instructor's."""
    import copy
    book = copy.deepcopy(book)
    for cell in book.cells:
        cell["source"] = re.sub(r"(?m)^STUDENT = .*$", lambda _: f"STUDENT = {student!r}", cell["source"])
    return book


def _read(path: Path) -> Any:
    import nbformat
    return nbformat.read(path, as_version=4)


def _put(path: Path, book: Any) -> None:
    _write(path, lessons.text_of(book))


def _write(path: Path, text: bytes) -> None:
    from minivl.door.files import write_whole
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, methodcaller("write", text))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.course.nbgrader", description="Build the nbgrader release.")
    parser.add_argument("folder", type=Path, help="where to write; made if it does not exist")
    parser.add_argument("--seed", metavar="STUDENT", action="append", default=[],
                        help="fill in this student's name; may be given again")
    parser.add_argument("--roster", metavar="FILE", type=Path, help="fill in each of these names, one a line")
    wanted = parser.parse_args(arguments)
    lessons.require(lessons.WRITING)
    try:
        students = [*wanted.seed, *(wanted.roster.read_text(encoding="utf-8-sig").split("\n") if wanted.roster else [])]
        students = [name.strip() for name in students if name.strip()]
        odd = [name for name in students if not NAME.fullmatch(name)]
        if odd:
            parser.error(f"{odd[0]!r} cannot be the name of a folder: letters, digits and @ . + - _ are allowed")
        build(wanted.folder, students)
    except OSError as problem:
        parser.error(f"{problem.filename}: {problem.strerror}")
    print(f"{len(sources())} assignments, {len(graded())} of them graded in variants, are in {wanted.folder}"
          + (f"; for {len(students)} students by name" if students else ""))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The course as nbgrader keeps it: sources, and the release in which solutions and hidden tests are stripped.

    python -m tools.course.nbgrader FOLDER                       source/ and release/ of all lessons and assignments
    python -m tools.course.nbgrader FOLDER --seed ada            and the graded ones with a student's name filled in
    python -m tools.course.nbgrader FOLDER --roster class.csv    the same for each student of a roster

    FOLDER/nbgrader_config.py, source/NAME/NAME.ipynb, release/NAME/NAME.ipynb, gradebook.db (with nbgrader)
           release-for/STUDENT/NAME/NAME.ipynb

With nbgrader installed (the extra `teacher`) its own generator makes the release and the gradebook; without it the same
cells are stripped here. What is in FOLDER under these names is written anew: it is made, not edited.
A teacher without a checkout hands out with `minivl course release`, which has no solved sources and no hidden tests.
Not here: grading, which is `minivl course grade`. Read next: docs/teaching/grading.md, `lessons.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from operator import methodcaller
from pathlib import Path
from typing import Any

from minivl.teach.course import release, roster
from minivl.teach.course.assignments import ASSIGNMENTS
from tools.course import lessons


def sources() -> dict[str, str]:
    """Every assignment's name and solved source: the lessons, then the graded ones."""
    return {path.stem: path.read_text(encoding="utf-8") for path in [*lessons.sources(), *lessons.graded()]}


def graded() -> list[str]:
    """The names of the assignments that are asked in variants."""
    return [name for name in sources() if name in ASSIGNMENTS]


def build(folder: Path, students: list[str]) -> None:
    """Write sources and releases into `folder`. Raises OSError as the system does, RuntimeError when nbgrader fails."""
    for name, source in sources().items():
        _put(folder / "source" / name / f"{name}.ipynb", lessons.notebook(source))
    release.write_config(folder)
    if importlib.util.find_spec("nbgrader"):
        release.by_nbgrader(folder, list(sources()))
    else:
        _release(folder)
    for name in graded():
        book = _read(folder / "release" / name / f"{name}.ipynb")
        for student in students:
            _put(folder / "release-for" / student / name / f"{name}.ipynb", release.named(book, student))
        _put(folder / "release" / name / f"{name}.ipynb", release.named(book, release.YOURS))


def _release(folder: Path) -> None:
    """The release without nbgrader: the same cells, no gradebook."""
    for name, source in sources().items():
        _put(folder / "release" / name / f"{name}.ipynb", lessons.notebook(lessons.student_form(source)))
    print("nbgrader is not installed: the release was made without it, and there is no gradebook.db. "
          'To have one: pip install "minivl[teacher]"', file=sys.stderr)


def _read(path: Path) -> Any:
    import nbformat
    return nbformat.read(path, as_version=4)


def _put(path: Path, book: Any) -> None:
    from minivl.door.files import write_whole
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, methodcaller("write", lessons.text_of(book)))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.course.nbgrader", description="Build the nbgrader release.")
    parser.add_argument("folder", type=Path, help="where to write; made if it does not exist")
    parser.add_argument("--seed", metavar="STUDENT", action="append", default=[],
                        help="fill in this student's name; may be given again")
    parser.add_argument("--roster", metavar="FILE", type=Path,
                        help="fill in each student of this roster: a table with a head, or a name a line")
    wanted = parser.parse_args(arguments)
    lessons.require(lessons.WRITING)
    try:
        students = roster.everybody(wanted.roster, wanted.seed)
        build(wanted.folder, students)
    except OSError as problem:
        parser.error(f"{problem.filename}: {problem.strerror}")
    except ValueError as problem:
        parser.error(str(problem))
    print(f"{len(sources())} assignments, {len(graded())} of them graded in variants, are in {wanted.folder}"
          + (f"; for {len(students)} students by name" if students else ""))


if __name__ == "__main__":
    main(sys.argv[1:])

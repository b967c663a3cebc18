"""The lessons in their two forms: solved, as they are written, and as a student gets them, to be filled in.

    python tools/course/lessons.py                    the student's notebooks beside the sources, as git has them
    python tools/course/lessons.py FOLDER             the student's notebooks in a folder
    python tools/course/lessons.py FOLDER --solved    the solved notebooks there, executed, with their figures

One source holds both: what stands between `### BEGIN SOLUTION` and `### END SOLUTION` is replaced by a line to be
filled in, and what stands between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` is left out. These are
nbgrader's markers, and cells carry its metadata: the solved form is what it calls the source of an assignment. In
FOLDER a notebook may hold somebody's work: none is written over without --force.

`notebooks/lesson_*.ipynb` and `notebooks/graded/*.ipynb` are made of the sources alone, without outputs; a test keeps
them in step, and the wheel carries them. The solved form is made where it is needed: `notebook(source)` gives it. Not
here: handing out graded assignments (`nbgrader.py`, and `minivl course release`). Read next:
notebooks/README.md, `minivl/teach/lessons/`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HIDE, SHOW = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
PARTNER = {BEGIN: END, HIDE: SHOW}
BLANK = "...  # your code here"
WRITING = ["minivl", "jupytext", "nbformat"]
RUNNING = ["matplotlib", "nbclient", "ipykernel"]
LESSONS = Path(__file__).parent.parent.parent / "notebooks"
GRADED = LESSONS / "graded"
POINTS = 1                                    # of each exercise


def sources() -> list[Path]:
    """The lessons' source files, in order."""
    return sorted(LESSONS.glob("lesson_*.py"))


def graded() -> list[Path]:
    """The source files of the graded assignments, in order of their names."""
    return sorted(GRADED.glob("*.py"))


def student_form(source: str) -> str:
    """The source with every solution replaced by one line to fill in, indented as the solution was, and without hidden
    tests.

    Raises ValueError with the line number when a marker has no partner.
    """
    kept: list[str] = []
    opened, closing = 0, ""                               # the line of an open marker, and the marker that closes it
    for number, line in enumerate(source.splitlines(), start=1):
        marker = line.strip()
        if opened and marker == closing:
            opened = 0
        elif marker in PARTNER.values() or (opened and marker in PARTNER):
            raise ValueError(f"line {number}: {marker!r} without its partner (open since line {opened or number})")
        elif marker in PARTNER:
            opened, closing = number, PARTNER[marker]
            kept += [line.replace(BEGIN, BLANK)] if marker == BEGIN else []
        elif not opened:
            kept.append(line)
    if opened:
        raise ValueError(f"line {opened}: what begins there is never closed with {closing!r}")
    return "\n".join(kept) + "\n"


def solved_form(source: str) -> str:
    """The source with its solutions, without the markers and hidden tests: for somebody who looks them up."""
    kept, hidden = [], False
    for line in source.splitlines():
        marker = line.strip()
        hidden = marker == HIDE or (hidden and marker != SHOW)
        if not hidden and marker not in (BEGIN, END, SHOW):
            kept.append(line)
    return "\n".join(kept) + "\n"


def notebook(source: str) -> Any:
    """A py:percent source as an nbformat notebook; the same source gives the same notebook, to the byte."""
    import jupytext  # type: ignore[import-untyped]
    book = jupytext.reads(source, fmt="py:percent")
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                     "language_info": {"name": "python"}}
    for number, cell in enumerate(book.cells, start=1):
        cell["id"] = f"cell-{number}"
        if mark := _mark(cell):
            cell.metadata["nbgrader"] = {"grade": False, "locked": False, "solution": False, "task": False,
                                         "schema_version": 3, **mark}
    return book


def _mark(cell: Any) -> dict[str, Any]:
    """What nbgrader is to know about a cell: where an answer goes, and the check that gives points for it."""
    if BEGIN in cell.source or BLANK in cell.source:
        name = re.search(r"(?m)^def (\w+)", cell.source)
        return {"solution": True, "grade_id": name[1] if name else cell["id"]}
    if "check" in cell.metadata.get("tags", []):
        asked = re.search(r'check\("([\w.]+)"', cell.source)
        return {"grade": True, "locked": True, "points": POINTS,
                "grade_id": f"check_{asked[1].replace('.', '_')}" if asked else cell["id"]}
    return {}


def text_of(book: Any) -> bytes:
    """A notebook as the bytes of its file; a newline at the end, keys in order."""
    from minivl.teach.course import release
    return release.text_of(book)


def made() -> Iterator[tuple[Path, bytes]]:
    """Every student's notebook that is kept beside its source: its path, and what it should hold.

    A graded one has a place for the student's name, where its source has the instructor's.
    """
    from minivl.teach.course import release
    for path in [*sources(), *graded()]:
        book = notebook(student_form(path.read_text(encoding="utf-8")))
        named = release.named(book, release.YOURS) if path.parent == GRADED else book
        yield path.with_suffix(".ipynb"), text_of(named)


def executed(book: Any, allow_errors: bool = False) -> Any:
    """The notebook run from its first cell to its last, in place.

    The kernel does not get MPLBACKEND: a backend such as Agg would leave the notebook without figures.
    Raises nbclient.exceptions.CellExecutionError at the first cell that fails, unless errors are allowed.
    """
    from nbclient import NotebookClient
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(book, timeout=300, kernel_name="python3", allow_errors=allow_errors,
                            resources={"metadata": {"path": str(LESSONS)}})
    return client.execute(env=environment)


def require(modules: list[str]) -> None:
    """Raises SystemExit, with the names and what to install, when some of these modules are not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"lessons: not installed: {', '.join(missing)}. Install the extra for writing lessons: "
                 'pip install "minivl[lessons]", or in a checkout pip install -e ".[lessons]"')


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write the lessons as notebooks.")
    parser.add_argument("folder", type=Path, nargs="?", help="where to write; made if it does not exist. Without one: "
                        "the notebooks beside the sources are made anew")
    parser.add_argument("--solved", action="store_true", help="with the solutions, executed")
    parser.add_argument("--force", action="store_true", help="write over notebooks that are there, and lose them")
    wanted = parser.parse_args(arguments)
    if wanted.folder is None and (wanted.solved or wanted.force):
        parser.error("--solved and --force go with a folder")
    require(WRITING + RUNNING if wanted.solved else WRITING)
    if wanted.folder is None:
        for path, text in made():
            _write(path, text)
        return
    targets = {path: wanted.folder / path.with_suffix(".ipynb").name for path in sources()}
    there = [str(target) for target in targets.values() if target.exists()]
    if there and not wanted.force:
        parser.error(f"already there: {', '.join(there)}; nothing was written: name another folder, or --force")
    for path, target in targets.items():
        source = path.read_text(encoding="utf-8")
        _write(target, text_of(executed(notebook(source)) if wanted.solved else notebook(student_form(source))))


def _write(target: Path, text: bytes) -> None:
    from minivl.door.files import write_whole
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, methodcaller("write", text))
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])

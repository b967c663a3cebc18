"""The lessons in their two forms: as they stand (solved), and as a student gets them (to be filled in).

    python tools/lessons.py FOLDER             write the student's notebooks, not executed
    python tools/lessons.py FOLDER --solved    write the solved notebooks, executed, with their figures

A notebook that is there already may hold somebody's work: none is written over without --force.

One source holds both: what stands between `# BEGIN SOLUTION` and `# END SOLUTION` is replaced by a line
to be filled in. Not here: grading; each lesson checks its exercises itself. Read next: notebooks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from operator import methodcaller
from pathlib import Path
from typing import Any

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
BLANK = "...  # your code here"
WRITING = ["minivl", "jupytext", "nbformat"]
RUNNING = ["matplotlib", "nbclient", "ipykernel"]
LESSONS = Path(__file__).parent.parent / "notebooks"


def sources() -> list[Path]:
    """The lessons' source files, in order."""
    return sorted(LESSONS.glob("lesson_*.py"))


def student_form(source: str) -> str:
    """The source with every solution replaced by one line to fill in, indented as the solution was.

    Raises ValueError with the line number when a marker has no partner.
    """
    kept: list[str] = []
    opened = 0
    for number, line in enumerate(source.splitlines(), start=1):
        marker = line.strip()
        if marker == (BEGIN if opened else END):
            raise ValueError(f"line {number}: {marker!r} without its partner (open since line {opened or number})")
        if marker == BEGIN:
            opened = number
            kept.append(line.replace(BEGIN, BLANK))
        elif marker == END:
            opened = 0
        elif not opened:
            kept.append(line)
    if opened:
        raise ValueError(f"line {opened}: {BEGIN!r} is never closed")
    return "\n".join(kept) + "\n"


def notebook(source: str) -> Any:
    """A py:percent source as an nbformat notebook."""
    import jupytext  # type: ignore[import-untyped]
    book = jupytext.reads(source, fmt="py:percent")
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return book


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
        sys.exit(f"lessons: not installed: {', '.join(missing)}. Install the lessons' extra: "
                 'pip install "minivl[lessons]", or in a checkout pip install -e ".[lessons]"')


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write the lessons as notebooks.")
    parser.add_argument("folder", type=Path, help="where to write; made if it does not exist")
    parser.add_argument("--solved", action="store_true", help="with the solutions, executed")
    parser.add_argument("--force", action="store_true", help="write over notebooks that are there, and lose them")
    wanted = parser.parse_args(arguments)
    require(WRITING + RUNNING if wanted.solved else WRITING)
    targets = {path: wanted.folder / path.with_suffix(".ipynb").name for path in sources()}
    there = [str(target) for target in targets.values() if target.exists()]
    if there and not wanted.force:
        parser.error(f"already there: {', '.join(there)}; nothing was written: name another folder, or --force")
    import nbformat

    from minivl.files import write_whole
    wanted.folder.mkdir(parents=True, exist_ok=True)
    for path, target in targets.items():
        source = path.read_text(encoding="utf-8")
        book = executed(notebook(source)) if wanted.solved else notebook(student_form(source))
        text = nbformat.writes(book).encode("utf-8")
        write_whole(target, methodcaller("write", text))
        print(target)


if __name__ == "__main__":
    main(sys.argv[1:])

"""`minivl convert`: a checkpoint packed for the compiled interpreter. Read next: `checkpoint/convert.py`
of the package, which does the work.
"""

from __future__ import annotations

from pathlib import Path

from .. import api
from ..checkpoint.convert import work_folder
from .console import line, note, size, working


def convert(source: str, target: Path, weights: str) -> None:
    """Pack a folder, and say how. Raises Error or OSError for whatever is in the way."""
    with working("reading the checkpoint") as say:
        try:
            made = api.convert(source, target, weights, lambda what, done, all: say(
                f"{what}: {size(done)} of {size(all)}"))
        except BaseException:
            if work_folder(target).exists():
                note("the same command goes on where this one was stopped")
            raise
    files = [path.stat().st_size for path in made.iterdir()]
    line(f"{made}: {weights}, {size(sum(files))} in {len(files)} files; every tensor was read back")

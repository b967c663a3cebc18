"""`minivl convert`: a checkpoint packed for the compiled interpreter. Read next: `checkpoint/convert.py`
of the package, which does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import api
from ..checkpoint.packed_folder import ABOUT
from ..door.files import read_json
from .console import line, note, size, working


def convert(source: str, target: Path, weights: str) -> None:
    """Pack a folder, and say how, and what was lost. Raises Error or OSError for whatever is in the way."""
    with working("reading the checkpoint") as say:
        try:
            made = api.convert(source, target, weights, lambda what, done, all: say(
                f"{what}: {size(done)} of {size(all)}"))
        except BaseException as error:
            for one in unsaid_notes(error):
                note(one)
            raise
    files = [path.stat().st_size for path in made.iterdir()]
    line(f"{made}: {weights}, {size(sum(files))} in {len(files)} files; every tensor was read back")
    if lost := read_json(made / ABOUT).get("rounded"):
        line(rounding(lost))


def unsaid_notes(error: BaseException) -> list[str]:
    """The notes of an error that the line that tells it leaves out (`options.explained`): nothing is said of
    an interruption, and little of what names a file by itself."""
    said = isinstance(error, Exception) and not isinstance(error, MemoryError)
    return [] if said and not getattr(error, "filename", None) else getattr(error, "__notes__", [])


def rounding(lost: dict[str, Any]) -> str:
    """What packed.json says of numbers that were rounded, as a line."""
    count, kept = lost["matrices"], lost["to"]
    keeps = "; --weights f32 keeps them" if kept == "bfloat16" and "float64" not in lost["from"] else ""
    return (f"rounded from {' and '.join(lost['from'])} to {kept}: {count} "
            f"{'matrix' if count == 1 else 'matrices'}{keeps}")

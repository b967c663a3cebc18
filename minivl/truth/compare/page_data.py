"""What the diff page draws: a line of row errors for each array, where these rows lie, the pictures.

A line has at most MOST columns; of a longer array each column is the largest of several rows, so that no
row is left out. Read next: `page.py`, which puts it on the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...door.contract import AXES
from ...show.explorer.document import picture_url
from ...show.explorer.stages import what_of
from ..trace.format import COORDINATES, PICTURES, Trace
from . import report
from .compare import Comparison
from .verdict import Judged

MOST = 1024                                       # columns of a line
SIDE = 640                                        # pixels of the longer side of a picture on the page
PLACED = "pwcms"                                  # rows that have a place in a picture or in the prompt


def lines(found: Comparison, golden: Trace) -> list[dict[str, Any]]:
    """One line for each array, in the order of the run; one for a stage that the candidate lacks."""
    judged: dict[str, list[Judged]] = {}
    for row in found.judged:
        judged.setdefault(row.key, []).append(row)
    starts = first_rows(found, golden)
    made = []
    for key in golden.recorded():
        facts = {"key": key, "what": what_of(golden.stages[key].label)}
        for row in judged.get(key, []):
            made.append({**facts, "name": row.name, "word": row.word, "times": report.times(row),
                         **drawn(found, row.name), "start": starts.get(row.name)})
        if key not in judged:
            made.append({**facts, "name": key, "word": "not compared", "times": "",
                         "letter": "", "count": 0, "step": 1, "rows": None, "start": None})
    return made


def drawn(found: Comparison, name: str) -> dict[str, Any]:
    """The rows of one array: how many, and each column's error as a multiple of the limit; null is
    beyond all numbers."""
    rows, letter = found.rows.get(name), found.letters.get(name, "")
    if rows is None:
        return {"letter": letter, "count": 0, "step": 1, "rows": None}
    step = max(-(-len(rows) // MOST), 1)
    columns = np.maximum.reduceat(rows, np.arange(0, len(rows), step)) if len(rows) else rows
    return {"letter": letter, "count": len(rows), "step": step, "rows": rounded(columns)}


def rounded(values: np.ndarray) -> list[float | None]:
    """Row errors for JSON: three digits; null for what is not finite."""
    return [float(f"{v:.3g}") if np.isfinite(v) else None for v in values.tolist()]


def first_rows(found: Comparison, golden: Trace) -> dict[str, int]:
    """Name of an array -> where its first row stands in the table of places of its letter.

    A stage that runs once for each picture (`patches.patchify`, `@1`) has a part of the rows in each
    run. Arrays whose rows have no place are left out.
    """
    tables, starts = golden.tables(COORDINATES), dict[str, int]()
    for parts in _runs(found, golden):
        counts = [len(found.rows[name]) for name in parts]
        whole = len(tables.get(found.letters[parts[0]], ()))
        if found.letters[parts[0]] not in PLACED or not whole:
            continue
        if all(count == whole for count in counts):
            starts |= dict.fromkeys(parts, 0)
        elif sum(counts) == whole:
            starts |= dict(zip(parts, np.cumsum([0, *counts]).tolist(), strict=False))
    return starts


def _runs(found: Comparison, golden: Trace) -> Iterator[list[str]]:
    """Names of the same output of all runs of a stage, in order."""
    same: dict[tuple[str, int], list[str]] = {}
    for stage in golden.stages.values():
        for n, name in enumerate(stage.arrays):
            if name in found.rows:
                same.setdefault((stage.label, n), []).append(name)
    yield from same.values()


def places(golden: Trace) -> dict[str, dict[str, Any]]:
    """Axis letter -> what its rows are, and for each row its patches: medium, time, row, column."""
    return {letter: {"name": AXES[letter], "at": table.reshape(len(table), -1, 4).tolist()}
            for letter, table in golden.tables(COORDINATES).items() if letter in PLACED}


def pictures(golden: Trace) -> list[dict[str, Any]]:
    """Pictures and videos: kind, grid, size, and what the model sees of each; of a pair of frames the
    first. No frames where the trace has none."""
    resized = {kind: iter([key for key in golden.recorded() if golden.stages[key].label == label])
               for kind, label in (("image", "picture.resize"), ("video", "video.resize"))}
    kept, made = golden.tables(PICTURES), []
    for n, medium in enumerate(golden.facts.get("media", [])):
        key = next(resized[medium["kind"]], None)
        pixels = golden.arrays(key)[0] if key else kept.get(str(n))
        frames = [] if pixels is None else list(pixels[::2] if pixels.ndim == 4 else pixels[None])
        grid = medium["grid"]
        size = medium["size"] or [14 * grid[1], 14 * grid[2]]
        made.append({"kind": medium["kind"], "grid": grid, "size": size,
                     "frames": [picture_url(small(frame)) for frame in frames]})
    return made


def small(pixels: np.ndarray) -> np.ndarray:
    """Every so many pixels of a picture, at most SIDE on the longer side: h u 3 -> h u 3."""
    step = max(-(-max(pixels.shape[:2]) // SIDE), 1)
    return pixels[::step, ::step]

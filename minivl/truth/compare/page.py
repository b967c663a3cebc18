"""A comparison as one self-contained page: the report, a map of the difference (stage by row), and the
same on the picture. Here is what the page shows; `page.js` shows it.

Read next: `report.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...show.page import REPORT_STYLE, build
from ..trace.format import COORDINATES, Trace
from . import report
from .compare import Comparison

OWN = Path(__file__).parent
MOST = 2048                                                   # rows of a stage that are drawn
MAPS = {"vision": "Vision tower: rows are patches, and cells behind the merger",
        "decoder": "Decoder: rows are tokens"}


def html(found: Comparison, golden: Trace) -> str:
    """The page."""
    return build("minivl diff", OWN / "page.html", [REPORT_STYLE], [OWN / "page.js"],
                 {"data": data(found, golden)})


def data(found: Comparison, golden: Trace) -> dict[str, Any]:
    """Everything that the page shows."""
    rows = {name: rounded(values) for name, values in found.rows.items()}
    at = {letter: table.reshape(len(table), -1, 4)[:MOST].tolist()
          for letter, table in golden.tables(COORDINATES).items()}
    judged = {row.name: row for row in found.judged}
    first = next((row.name for row in found.judged if row.key == found.first_bad), None)
    return {"title": "different" if found.first_bad else "the same within rounding",
            "lines": report.headline(found) + report.logits_line(found), "notice": report.notice(),
            "columns": report.COLUMNS, "table": [report.cells(row) for row in judged.values()],
            "rows": rows, "letters": found.letters, "at": at, "media": golden.facts.get("media", []),
            "first": first, "maps": [map_of(title, part, rows) for part, title in MAPS.items()
                                     if any(name.startswith(f"{part}.") for name in rows)]}


def map_of(title: str, part: str, rows: dict[str, list[float | None]]) -> dict[str, Any]:
    """One map: the names of its lines, and how many columns the longest has."""
    names = [name for name in rows if name.startswith(f"{part}.")]
    return {"title": title, "names": names, "width": max(len(rows[name]) for name in names)}


def rounded(values: np.ndarray) -> list[float | None]:
    """Row errors for JSON: three digits; null for what is not finite."""
    return [float(f"{v:.3g}") if np.isfinite(v) else None for v in values[:MOST].tolist()]

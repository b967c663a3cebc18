"""A comparison as one self-contained page: what goes wrong first, a map of all stages in the order of
the run, and the error of a stage on the picture. Here is what the page shows; `page.js` shows it.

Read next: `report.py` (the same in words), `page_data.py` (rows, places and pictures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...show.page import COLOURS, build
from ..trace.format import Trace
from . import report
from .compare import UNLIKE, Comparison
from .page_data import lines, pictures, places
from .slices import MOVED, Slice
from .verdict import Judged

OWN = Path(__file__).parent


def html(found: Comparison, golden: Trace, looks_like: Sequence[str] = (),
         faults: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page.

    looks_like: what a diagnosis says, the answer first, then its reasons
    faults: known faults of the passes that may be guilty: name, seen, incidents as (text, address)
    """
    shown = {**data(found, golden), "looks_like": list(looks_like), "faults": list(faults)}
    return build(f"minivl diff: {shown['title']}", OWN / "page.html", [COLOURS, OWN / "page.css"],
                 [OWN / f"{name}.js" for name in ("page_map", "page_picture", "page")], {"data": shown})


def data(found: Comparison, golden: Trace) -> dict[str, Any]:
    """Everything that the page shows of a comparison."""
    return {"title": title(found), "bad": found.differs, "runs": runs(found),
            "first": first(found), "facts": facts(found), "suspects": found.suspects,
            "notes": notes(found), "said": report.headline(found) + report.logits_line(found),
            "notice": report.notice(found), "precision": found.precision, "lines": lines(found, golden),
            "places": places(golden), "media": pictures(golden), "columns": report.COLUMNS,
            "table": [report.cells(row) for row in found.judged]}


def title(found: Comparison) -> str:
    """The answer in one line."""
    if found.first_bad is None:
        return report.title(found)
    return f"{found.first_bad} goes wrong first"


def runs(found: Comparison) -> str:
    """What was compared with what; names of files without their folders."""
    golden, *more = found.golden.split(", ")
    beside = ", ".join([Path(golden).name, *more])
    missing = f"; {len(found.untapped)} stages are not in it" if found.untapped else ""
    return (f"{Path(found.candidate).name} ({found.producer}, {found.precision}) against {beside}. "
            f"{len(found.words)} stages compared: {report.counted(found)}{missing}.")


def worst_of(found: Comparison) -> Judged | None:
    """The array that the page opens with: the worst of the first bad stage, else what comes nearest to
    its limit."""
    bad = [row for row in found.judged if row.key == found.first_bad]
    return max(bad or found.judged, key=lambda row: row.ratio, default=None)


def first(found: Comparison) -> str:
    """The name of that array."""
    row = worst_of(found)
    return row.name if row else ""


def facts(found: Comparison) -> list[tuple[str, str]]:
    """(what, how it is) of that array: how far it is off, by what limit, where."""
    row = worst_of(found)
    if row is None:
        return []
    said = [("verdict", row.word), ("error", error(row)), ("how far", report.times(row))]
    said += [("note", note) for note in row.notes]
    said += [("where", where(one)) for one in found.slices.get(row.name, [])]
    words = report.logits_line(found)
    return said + [("for the words", line.removeprefix("logits: ")) for line in words]


def error(row: Judged) -> str:
    """The error of one array beside what rounding alone does."""
    if row.measure is UNLIKE:
        return "it cannot be measured"
    if not row.measure.finite:
        return f"it holds numbers that are not finite, first in row {row.measure.worst_row}"
    if row.yard.error == 0:
        return f"{report.number(100 * row.measure.differing)} % of its numbers differ"
    return (f"{report.number(row.measure.error)} of the golden value; rounding alone "
            f"{report.number(row.yard.error)}")


def where(one: Slice) -> str:
    """Where most of the difference sits, along one axis."""
    if one.by == MOVED:
        return one.text
    if one.by == "text":
        return one.text if one.places else "none of these rows is text"
    kind, _, number = one.by.partition(" ")                        # pictures count from 1 on a page
    by = f"picture {int(number) + 1}" if kind == "picture" else one.by
    return f"{by}: {one.text} ({one.places} of {one.of} hold nine tenths of the difference)"


def notes(found: Comparison) -> list[str]:
    """What a reader should know of the comparison itself."""
    return [*(f"aligned: {note}" for note in found.aligned), *found.warnings,
            *report.unplaced_lines(found)]

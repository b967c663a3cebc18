"""A comparison for a terminal and for a program. Plain data in, words out; nothing is measured or
judged here.

Read next: `page.py`, the same for a browser.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from .compare import UNLIKE, Comparison
from .metrics import WHY_NOT_PCC
from .verdict import SUSPICIOUS, WORDS, WRONG, Judged

COLUMNS = ("stage", "verdict", "error", "rounding", "x limit", "worst row", "cosine", "PCC")
MANY = 6                                                      # guilty passes that are named


def headline(found: Comparison) -> list[str]:
    """The answer in a few lines: what was compared, how it came out, what is wrong first and who may
    be guilty."""
    lines = [f"{found.candidate} ({found.producer}, {found.precision}) against {found.golden}",
             f"{len(found.words)} stages compared, {len(found.untapped)} of the golden trace not "
             f"tapped: {counted(found)}"]
    lines += [f"aligned: {note}" for note in found.aligned]
    few, many = ", ".join(found.unused[:4]), len(found.unused)
    lines += [f"names that mean nothing here: {few} ({many})"] * bool(many)
    lines += [f"note: {said}" for said in found.warnings]
    if found.local and found.first_bad:
        bad = [key for key, word in found.words.items() if word in (SUSPICIOUS, WRONG)]
        lines.append(f"each stage on the candidate's own inputs: {len(bad)} guilty: "
                     f"{', '.join(bad[:MANY])}"
                     + f" and {len(bad) - MANY} more" * (len(bad) > MANY))
    return lines + (verdict_lines(found) if found.first_bad else ["no difference beyond rounding"])


def counted(found: Comparison) -> str:
    """How many stages came out how."""
    counts = Counter(found.words.values())
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


def times(row: Judged) -> str:
    """How far an array is beyond its limit."""
    if row.measure is UNLIKE:
        return "another shape"
    if not math.isfinite(row.ratio):
        whole = row.measure.finite and not row.yard.error
        return "whole numbers differ" if whole else "beyond any limit"
    two = float(f"{row.ratio:.2g}")
    return f"{two:,.0f} x the limit" if 10 <= two < 1e9 else f"{two:g} x the limit"


def verdict_lines(found: Comparison) -> list[str]:
    """The first bad tap, the passes that may be guilty of it, and where in the array the difference
    sits."""
    key = found.first_bad
    worst = max((row for row in found.judged if row.key == key), key=lambda row: row.ratio)
    lines = [f"first bad tap: {worst.name} ({worst.word}): error {number(worst.measure.error)}, "
             f"rounding alone {number(worst.yard.error)}"]
    lines += [f"  {note}" for note in worst.notes]
    if not worst.measure.finite:
        lines.append(f"  it holds numbers that are not finite, first in row {worst.measure.worst_row}")
    guilty = found.suspects
    lines.append("guilty: " + (guilty[0] if len(guilty) == 1 else f"one of {len(guilty)} passes: "
                               + ", ".join(guilty[-MANY:]) +
                               (" and those before" if len(guilty) > MANY else "")))
    for name, rows in found.slices.items():
        lines += [f"  {name}: {row.by}: {row.places} of {row.of} hold nine tenths of the difference: "
                  f"{row.text}"
                  for row in rows]
    return lines


def logits_line(found: Comparison) -> list[str]:
    """What the difference means for the words."""
    at = found.logits
    if at is None:
        return []
    first = "the same best word everywhere" if at.first_differing_row is None else (
        f"another best word in {at.differing_rows} rows, first in row {at.first_differing_row} "
        f"(the golden lead there is {number(at.margin or 0.0)})")
    return [f"logits: KL {number(at.kl_mean)} nats on average, {number(at.kl_worst)} at most (row "
            f"{at.kl_worst_row}); top {at.k} shared {at.top_overlap:.1%}; {first}"]


def cells(row: Judged) -> tuple[str, ...]:
    """One array as a row of COLUMNS."""
    m = row.measure
    return (row.name, row.word, number(m.error), number(row.yard.error), f"{row.ratio:.2g}",
            f"{number(m.worst)} (row {m.worst_row})", f"{m.cosine:.6f}", f"{m.pcc:.6f}")


def shown(found: Comparison, everything: bool, most: int = 12) -> list[Judged]:
    """The rows to print: all, or the bad ones, or the largest where none is bad; never out of order."""
    bad = [row for row in found.judged if row.word in (SUSPICIOUS, WRONG)]
    if everything:
        return found.judged
    if bad:
        return bad[:most]
    # nothing is bad: what comes nearest to its limit says how much room is left
    largest = sorted(found.judged, key=lambda row: -row.ratio)[:most // 2]
    return [row for row in found.judged if row in largest]


def notice() -> str:
    """Why the verdict does not go by the columns that everybody knows."""
    return WHY_NOT_PCC


def number(value: float) -> str:
    """Three digits, as short as they go."""
    return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3g}"


def document(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it: numbers that are not finite are null."""
    made = {k: v for k, v in vars(found).items() if k not in ("rows", "judged", "logits", "slices")}
    return plain({**made, "judged": [asdict(row) for row in found.judged],
                   "logits": asdict(found.logits) if found.logits else None,
                   "slices": {name: [asdict(s) for s in rows] for name, rows in found.slices.items()}})


def plain(value: Any) -> Any:
    """The same for JSON: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""A comparison for a terminal and for a program. Plain data in, words out; nothing is measured or
judged here.

Read next: `page.py`, the same for a browser.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .compare import UNLIKE, Comparison
from .metrics import WHY_NOT_PCC
from .slices import MOVED, ranges
from .unplaced import Unplaced
from .verdict import SUSPICIOUS, WORDS, WRONG, Judged

COLUMNS = ("stage", "verdict", "error", "rounding", "x limit", "worst row", "cosine", "PCC")
COLUMNS_SAY = ("error: length of the difference over length of the golden value; rounding: the same of "
               "minivl's own run in this type; x limit: the error, or the worst row's, over what "
               "rounding and storage may do")
MANY = 6                                                      # guilty stages, and arrays, that are named
BLOCK = re.compile(r"(.+\.(?:blocks|layers))\.(\d+)\.(.+)")
WHOLE = (MOVED, "text")                                       # slices that say all in their text
FLATTERED = 0.99                                              # a PCC that would pass a wrong array


def headline(found: Comparison) -> list[str]:
    """The answer in a few lines: what was compared, how it came out, what is wrong first and who may
    be guilty."""
    lines = [f"{found.candidate} ({found.producer}, {found.precision}) against {found.golden}",
             f"{len(found.words)} stages compared, {len(found.untapped)} of the golden trace not "
             f"tapped: {counted(found)}"]
    lines += [f"aligned: {note}" for note in found.aligned]
    lines += [f"note: {said}" for said in found.warnings]
    if found.local and found.first_bad:
        bad = [key for key, word in found.words.items() if word in (SUSPICIOUS, WRONG)]
        lines.append(f"each stage on the candidate's own inputs: {len(bad)} guilty: "
                     f"{', '.join(bad[:MANY])}"
                     + f" and {len(bad) - MANY} more" * (len(bad) > MANY))
    if found.first_bad:
        return lines + unplaced_lines(found) + verdict_lines(found)
    of = " among the arrays with a label" * found.differs
    return [*lines, *unplaced_lines(found), f"no difference beyond rounding{of}"]


def title(found: Comparison) -> str:
    """The answer in a word."""
    if found.first_bad:
        return "different"
    if found.differs:
        return "not known to be the same: arrays without a place"
    return "the same within rounding"


def unplaced_lines(found: Comparison) -> list[str]:
    """Arrays that no label was given for: what they may be, and how far each is off from it; how many
    there are that can be no stage."""
    lines = []
    for one in found.unplaced:
        lines.append(f"no label: {one.name} {list(one.shape)}{unplaced_says(one)}")
    if found.differs and found.unplaced:
        lines.append("  give these a label, or null, with --names")
    named = {one.name for one in found.unplaced}
    rest = [name for name in found.unused if name not in named]
    few = ", ".join(rest[:4])
    said = f"names that mean nothing here, and no stage's shape: {few} ({len(rest)})"
    return [*lines, said] if rest else lines


def unplaced_says(one: Unplaced) -> str:
    """What is known of an array that has no label."""
    if one.known:
        return f": is {one.places[0][0]}, within rounding"
    near = [f"{label} (error {number(off)})" if one.finite else label for label, off in one.places
            if off < 1 or not one.finite]
    may = [f": may be {'; '.join(near)}"] if near else []
    if 0 in one.shape:
        return ": holds no numbers, so that nothing can be compared"
    if not one.finite:
        return "".join([", holds numbers that are not finite", *may])
    return may[0] if may else ": may be a stage by its shape, and is like none of that shape"


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
    off = (times(worst) if worst.measure is UNLIKE else
           f"error {number(worst.measure.error)}, rounding alone {number(worst.yard.error)}")
    lines = [f"first bad tap: {worst.name} ({worst.word}): {off}"]
    lines += [f"  {note}" for note in worst.notes]
    if not worst.measure.finite:
        lines.append(f"  it holds numbers that are not finite, first in row {worst.measure.worst_row}")
    guilty = found.suspects
    lines.append("guilty: " + (guilty[0] if len(guilty) == 1 else f"one of {len(guilty)} passes: "
                               + "; ".join(in_words(guilty))))
    lines += where(found, worst.key)
    # a fault in the last head, or in one window, shows best in the tap where it is worst
    bad = [row for row in found.judged if row.bad and row.key != key and found.slices.get(row.name)]
    if bad:
        most = max(bad, key=lambda row: row.ratio if math.isfinite(row.ratio) else 0.0)
        lines += [f"worst behind it: {most.name}: {times(most)}", *where(found, most.key)]
    return lines


def where(found: Comparison, key: str) -> list[str]:
    """Where the difference sits in the arrays of one stage."""
    names = {row.name for row in found.judged if row.key == key}
    return [f"  {name}: {row.by}: {row.text}" if row.by in WHOLE else
            f"  {name}: {row.by}: {row.places} of {row.of} hold nine tenths of the difference: "
            f"{row.text}"
            for name, rows in found.slices.items() if name in names for row in rows]


def in_words(keys: Sequence[str]) -> list[str]:
    """Passes, none left out: those of one block together, and blocks with the same ones together."""
    groups: list[tuple[str, list[int], list[str]]] = []                   # half, blocks, passes of each
    for key in keys:
        at = BLOCK.fullmatch(key)
        if at is None:
            groups.append((key, [], []))
        elif groups and groups[-1][0] == at[1] and groups[-1][1] == [int(at[2])]:
            groups[-1][2].append(at[3])
        else:
            groups.append((at[1], [int(at[2])], [at[3]]))
    merged: list[tuple[str, list[int], list[str]]] = []
    for half, blocks, passes in groups:
        if blocks and merged and merged[-1][0] == half and merged[-1][2] == passes:
            merged[-1][1].extend(blocks)
        else:
            merged.append((half, blocks, passes))
    return [half if not blocks else f"{half}.{ranges(np.array(blocks))}: {', '.join(passes)}"
            for half, blocks, passes in merged]


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
    # fingerprints know no rows, and what is not finite has no angle
    known = not (math.isnan(m.cosine) and m.finite)
    return (row.name, row.word, number(m.error), number(row.yard.error), f"{row.ratio:.2g}",
            f"{number(m.worst)} (row {m.worst_row})" if known else "",
            *("" if math.isnan(x) else f"{x:.6f}" for x in (m.cosine, m.pcc)))


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


def notice(found: Comparison) -> str:
    """Why the verdict does not go by the columns that everybody knows, where these would have passed
    what is wrong; else nothing."""
    return WHY_NOT_PCC if any(row.bad and row.measure.pcc > FLATTERED for row in found.judged) else ""


def number(value: float) -> str:
    """Three digits, as short as they go."""
    return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3g}"


def document(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it: numbers that are not finite are null."""
    made = {k: v for k, v in vars(found).items() if k not in ("rows", "judged", "logits", "slices")}
    return plain({**made, "judged": [asdict(row) for row in found.judged],
                   "logits": asdict(found.logits) if found.logits else None,
                   "slices": {name: [asdict(s) for s in rows] for name, rows in found.slices.items()},
                   "unplaced": [asdict(one) for one in found.unplaced], "differs": found.differs})


def plain(value: Any) -> Any:
    """The same for JSON: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

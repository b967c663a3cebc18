"""A diagnosis in words and as plain data: what it looks like, because of what, and what else was tried.

Read next: `rank.py`, whose numbers these are.
"""

from __future__ import annotations

import math
from typing import Any

from ..compare import report
from ..compare.compare import Comparison
from ..compare.report import number
from ..museum.relatives import Relative
from .rank import CLEARLY, Diagnosis, Suspect

NONE = "none of the known"
MANY = 6                                                     # pinned passes that are named
COLUMNS = ("fault", "parameters", "explains", "incident", "nearer", "wrong taps left",
           "tap that it explains best", "x rounding: right", "fault")


def headline(found: Diagnosis) -> list[str]:
    """The answer: what it looks like, and why."""
    if found.cost is not None and found.healthy:
        return [f"quantised, and no fault beyond it: {found.cost.words}"]
    if found.healthy:
        lost = [one.name for one in found.comparison.unplaced if not one.known]
        if lost:
            return [f"nothing is known of {len(lost)} arrays without a label: {', '.join(lost[:MANY])}",
                    "no difference beyond rounding in the others; `minivl diff` says what these may be"]
        return [f"{NONE}: no difference beyond rounding, and none that leans the way of a known fault"]
    if not found.known:
        return [f"{NONE}: {where(found.comparison)}", *of_none(found)]
    first = found.known[0]
    lines = [f"looks like: {spoken(first)}", *(f"because {reason}" for reason in reasons(found, first))]
    if found.cost is not None:
        lines.append(f"besides, {found.cost.words}")
    if len(found.known) > 1:
        lines.append("cannot be told from it on this input: " +
                     ", ".join(spoken(one) for one in found.known[1:]))
    return lines


def of_none(found: Diagnosis) -> list[str]:
    """What is known where no mechanism is: the passes that are pinned, and what comes nearest."""
    several = len(found.passes) != 1
    lines = [f"pinned to {len(found.passes)} pass{'es' * several}: {', '.join(found.passes[-MANY:])}"
             + f" and {len(found.passes) - MANY} before" * (len(found.passes) > MANY)]
    if found.cost is not None:
        worst = max(found.cost.beyond,
                    key=lambda key: found.cost.beyond[key])    # type: ignore[union-attr]
        lines.append(f"{found.cost.words}; beyond that {len(found.cost.beyond)} taps, most {worst}, "
                     f"{found.cost.beyond[worst]:.0f} times as much")
    nearest = max(found.ranking, key=lambda one: one.explained, default=None)
    if nearest is None or nearest.lean is not None:
        return [*lines, "no known mechanism lies there"]
    share = max(nearest.explained, 0.0)
    if share < 0.01:
        return [*lines, "none of the mechanisms that lie there explains any of it"]
    return [*lines, f"nearest of the mechanisms that lie there: {spoken(nearest)}, which explains "
                    f"{share:.0%} of the error, too little to be it"]


def spoken(one: Suspect) -> str:
    """A fault with the first of its incidents, and its parameters where they are not the incident's."""
    says = f", here: {one.fault.says}" if isinstance(one.fault, Relative) else ""
    return f"{one.fault.name.replace('-', ' ')} ({one.fault.incidents[0]}){says}"


def where(found: Comparison) -> str:
    """The first bad tap, and where in it the difference sits."""
    words = found.words[found.first_bad or ""]
    each = [row for one in found.slices.values() for row in one]
    rows = list(dict.fromkeys(row.text if row.by in report.WHOLE else
                              f"most of it in {row.by} {row.text}" for row in each))[:2]
    sits = f": {'; '.join(rows)}" if rows else ""
    return f"the first bad tap is {found.first_bad} ({words}){sits}"


def reasons(found: Diagnosis, one: Suspect) -> list[str]:
    """Why this fault: where it shows, and what it explains."""
    if one.lean is not None:
        return [f"suspicious: no tap is further from the golden value than rounding goes, and yet all "
                f"together lean this fault's way: {one.lean.share:.2f} of its own difference, "
                f"{one.lean.sigmas:.0f} sigmas from none"]
    assert one.at is not None
    key, right, wrong = one.at
    shared = [where(found.comparison),
              f"{one.fault.label} is one of the passes that may be guilty of it"]
    if one.nearer <= CLEARLY:
        return [*shared, "with this fault planted, errors come out at the same taps and of the same "
                "size, though not the same numbers: rounding to a narrower type does that"]
    return [*shared,
            "with this fault planted, minivl makes of the candidate's own values what the candidate "
            f"has: {one.explained:.0%} of the error is explained, {one.cured} of "
            f"{one.cured + one.left} wrong taps come right, {key} goes from {number(right)} times what "
            f"rounding may do to {number(wrong)}"]


def cells(one: Suspect) -> tuple[str, ...]:
    """One fault as a row of COLUMNS."""
    key, right, wrong = one.at or ("", math.nan, math.nan)
    says = one.fault.says if isinstance(one.fault, Relative) else "the incident's"
    if one.lean is not None:
        return (one.fault.name, says, "", one.fault.incidents[0], f"{one.lean.share:.2f} x its way", "0",
                f"{one.lean.sigmas:.1f} sigmas", "", "")
    return (one.fault.name, says, f"{max(one.explained, 0):.0%}", one.fault.incidents[0],
            f"{10 ** one.nearer:.3g} x", str(one.left), key, number(right), number(wrong))


def document(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON has it."""
    return {"healthy": found.healthy, "known": [one.fault.name for one in found.known],
            "first_bad": found.comparison.first_bad, "passes": found.passes, "words": headline(found),
            "cost": None if found.cost is None else vars(found.cost),
            "ranking": [_row(one) for one in found.ranking],
            "comparison": report.document(found.comparison)}


def _row(one: Suspect) -> dict[str, Any]:
    key, right, wrong = one.at or (None, None, None)
    return {"fault": one.fault.name, "label": one.fault.label, "incidents": one.fault.incidents,
            "parameters": one.fault.says if isinstance(one.fault, Relative) else None,
            "explained": one.explained, "nearer": one.nearer, "wrong_taps_left": one.left,
            "taps_explained": one.cured, "tap": key, "rounding_right": right, "rounding_fault": wrong,
            "lean": None if one.lean is None else vars(one.lean)}

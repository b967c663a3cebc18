"""A baseline: what is known to differ, by the name of an array or by a pattern of names.

    {"vision.merge_2x2": "wrong",                          as `--write-baseline` writes it
     "vision.blocks.*": {"error": 0.01},                   a relative error of at most so much
     "decoder.layers.*.attend": {"times": 3}}              so many times the limit that rounding has

A name counts before a pattern, a longer pattern before a shorter one. Read next: `verdict.py`, whose
words these are; `junit.py` and `sarif.py`, which tell a build what is new.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ...door.errors import brief
from ..trace.format import TraceError
from .verdict import ROUNDING, SUSPICIOUS, WORDS, WRONG, Judged

LIMITS = ("error", "times")
Baseline = Mapping[str, Any]


def checked(found: Mapping[str, Any], source: str) -> Baseline:
    """A baseline as read from a file. Raises TraceError that names the entry."""
    for name, entry in found.items():
        if isinstance(entry, str) and entry in WORDS:
            continue
        limits = entry if isinstance(entry, dict) else {}
        if not limits or any(key not in LIMITS or type(value) not in (int, float)
                             or not 0 <= value < math.inf
                             for key, value in limits.items()):
            raise TraceError(f"{source}: {name!r} should be {', '.join(WORDS)}, or an object with "
                             f"{' or '.join(LIMITS)} and a number from 0 on, but is "
                             f"{brief(entry)}: give what --write-baseline wrote, or thresholds by "
                             "pattern")
    return found


def entry_of(name: str, known: Baseline) -> Any:
    """What a baseline says of an array: by its name, else by the longest pattern; None where nothing."""
    if name in known:
        return known[name]
    fitting = [pattern for pattern in known if fnmatchcase(name, pattern)]
    return known[max(fitting, key=len)] if fitting else None


def is_news(row: Judged, known: Baseline) -> bool:
    """Whether an array is worse than its baseline allows. A threshold is the whole verdict: what is
    above it is bad even where rounding would allow it, and what is below is well."""
    entry = entry_of(row.name, known)
    if isinstance(entry, dict):
        return bool(row.measure.error > entry.get("error", math.inf)
                    or row.ratio > entry.get("times", math.inf) or not row.measure.finite)
    return row.word in (SUSPICIOUS, WRONG) and WORDS.index(row.word) > WORDS.index(entry or ROUNDING)


def news(judged: Sequence[Judged], known: Baseline) -> list[Judged]:
    """The arrays that are worse than what is written down."""
    return [row for row in judged if is_news(row, known)]

"""Two runs of which one is there in fingerprints only: in which stage they part, and by how much.

    compare_prints(golden, candidate)            # traces, either of them whole or fingerprints

A print tells an error to a fifth of itself, and nothing below its grain; so the limits are wider than
those of whole arrays, and no row, head or region is named. Read next: `truth/trace/prints.py`, which
makes them and says what they give away.
"""

from __future__ import annotations

from typing import Any

from ..trace.format import PRINTS, Trace, TraceError
from ..trace.prints import GRAIN, apart, name_of, prints_of
from . import verdict
from .compare import UNLIKE, Comparison
from .metrics import Measure
from .verdict import EPS, EXACT, ROUNDING, SUSPICIOUS, WRONG, Judged, Yard

LOOSE = 1.6  # sixteen sums tell an error to a fifth; three times that is chance
NAN = float("nan")


def has_prints(trace: Trace) -> bool:
    """Whether a trace is fingerprints only."""
    return PRINTS in trace.facts


def compare_prints(golden: Trace, candidate: Trace, key: str = "") -> Comparison:
    """Judge every array that both have a print of. key: of the fingerprints, where one trace is whole.
    Raises TraceError when there is none, and for another key."""
    check_keys(golden, candidate, key)
    right, mine = (trace.facts[PRINTS] if has_prints(trace) else dict(prints_of(trace, key))
                   for trace in (golden, candidate))
    judged = [judged_print(name, mine[name], right[name], candidate.precision) for name in right
              if name in mine]
    if not judged:
        raise TraceError(f"{candidate.path}: has no stage in common with the fingerprints of "
                         f"{golden.path}")
    words = verdict.by_stage(judged)
    first = verdict.first_bad(words, golden.stages)
    clear = verdict.clearing(first, judged) if first else None
    guilty = verdict.suspects(first, words, golden.stages, clear=clear) if first else []
    keys = dict.fromkeys(one["key"] for one in right.values())
    said = [f"fingerprints: differences below {2 * GRAIN:.1%} of an array are not seen, and none is "
            "placed in it"]
    return Comparison(str(golden.path), str(candidate.path), str(candidate.facts.get("producer", "")),
                      candidate.precision, judged, words, first, guilty,
                      untapped=[key for key in keys if key not in words], unused=[], aligned=[],
                      warnings=said,
                      logits=None, local=False)


def check_keys(golden: Trace, candidate: Trace, key: str) -> None:
    """Raise TraceError unless both are summed up with the same signs."""
    names = {str(trace.path): trace.facts.get("key") for trace in (golden, candidate)
             if has_prints(trace)}
    if len(names) == 1 and name_of(key) not in names.values():
        raise TraceError(f"{next(iter(names))} holds fingerprints of another key; give the one with "
                         "which it was made as --key, or fingerprints of both")
    if len(set(names.values())) > 1:
        raise TraceError(f"{golden.path} and {candidate.path} hold fingerprints of two keys, which "
                         "cannot be compared; make both with one --key")


def judged_print(name: str, mine: dict[str, Any], right: dict[str, Any], precision: str) -> Judged:
    """The verdict on one array."""
    error = apart(mine, right)
    own = right["rounding"].get(precision, EPS[precision] * 10)
    allowed = LOOSE * verdict.limits(Yard(own, own), precision, right["rows"])[0] + 2 * GRAIN
    ratio = error / allowed
    word = (EXACT if mine["sums"] == right["sums"] and mine["sums"] else ROUNDING if ratio <= 1
            else SUSPICIOUS if ratio <= 2 else WRONG)
    found = UNLIKE if mine["shape"] != right["shape"] else Measure(error, error, 0, NAN, NAN, NAN, 1.0,
                                                                    mine["size"] is not None)
    return Judged(name, right["key"], word, ratio, found, Yard(own, own), allowed=Yard(allowed, allowed))

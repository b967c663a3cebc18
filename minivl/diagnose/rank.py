"""The order of the museum's faults for one candidate, and whether the first of them is to be believed.

    1. `diff` finds the first bad tap and the passes that may be guilty of it: faults elsewhere are not tried
    2. the model runs on the candidate's values, right, and once with each fault that is left
    3. faults are ordered by how much nearer the candidate comes to them than to the right passes
    4. the first is believed when it is clearly nearer; else it is none of the known

Where `diff` finds nothing beyond rounding, every fault is tried, and one is believed when the candidate leans its way.

Read next: `evidence.py` (nearer, lean), `report.py` (the reasons in words).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..api import VLM
from ..faults.fault import FAULTS, Fault, plain
from ..trace.compare import Comparison, compare, fitted, ordered
from ..trace.format import Trace
from ..trace.importers import Candidate
from ..trace.yardstick import in_precision
from .evidence import Lean, Multiples, Scale, lean, multiples, nearer
from .replay import Run, tapped

CLEARLY = 0.5                  # powers of ten by which a fault must be nearer than the right passes
ALIKE = 0.02                   # two faults that are so near to each other cannot be told apart on this input
SURE = 6.0                     # sigmas; and the candidate must have more of the fault's difference than not:
SHARE = (0.5, 1.5)


@dataclass(frozen=True)
class Suspect:
    """One fault and what speaks for it. left, cured: taps that are wrong with it planted, and no more wrong with it;
    at: the tap that it brings nearest, with its multiple of rounding without and with the fault"""
    fault: Fault
    nearer: float
    left: int
    cured: int
    at: tuple[str, float, float] | None
    lean: Lean | None = None

    def is_clear(self) -> bool:
        """Whether the fault is believed."""
        if self.lean is not None:
            return self.lean.sigmas > SURE and SHARE[0] < self.lean.share < SHARE[1]
        return self.nearer > CLEARLY


@dataclass(frozen=True)
class Diagnosis:
    """What `diff` found, the faults that were tried, likeliest first, and those that are believed.

    known: the first of the ranking and all that cannot be told from it; empty when it is none of the known
    """
    comparison: Comparison
    ranking: list[Suspect]
    known: list[Suspect]
    passes: list[str]                                        # that may be guilty

    @property
    def healthy(self) -> bool:
        """No difference beyond rounding, and none that leans the way of a known fault."""
        return self.comparison.first_bad is None and not self.known


def diagnose(vlm: VLM, golden: Trace, candidate: Candidate) -> Diagnosis:
    """Rank the museum's faults against a candidate's trace; golden: the right run of the same inputs.

    Raises TraceError when nothing can be compared, or the golden trace does not say what was asked.
    """
    found = compare(golden, candidate)
    taps = tapped(golden, candidate, list(ordered(list(fitted(golden, candidate)), golden, candidate.native)))
    run = Run(in_precision(vlm, "float32"), golden, taps)
    scale = Scale(candidate.precision, {row.name: row.yard for row in found.judged if row.yard.error > 0})
    right = run.own()
    base = multiples(taps, right, scale)
    if found.first_bad is None:
        ranking = [_leaning(fault, lean(taps, right, run.own(fault))) for fault in FAULTS.values()]
        ranking.sort(key=lambda one: -one.lean.sigmas * one.is_clear() if one.lean else 0.0)
    else:
        tried = [(fault, multiples(taps, run.own(fault), scale)) for fault in possible(found.suspects)]
        ranking = sorted((_suspect(fault, base, with_it) for fault, with_it in tried), key=lambda one: -one.nearer)
    return Diagnosis(found, ranking, believed(ranking), found.suspects)


def possible(suspects: Iterable[str]) -> list[Fault]:
    """Faults that may lie in one of these passes."""
    labels = {plain(key) for key in suspects}
    return [fault for fault in FAULTS.values() if any(fnmatchcase(label, leaf) for label in labels
                                                      for leaf in fault.leaves)]


def believed(ranking: list[Suspect]) -> list[Suspect]:
    """The first when it is clear, with all that are as near."""
    if not ranking or not ranking[0].is_clear():
        return []
    first = ranking[0]
    return [one for one in ranking if one.is_clear() and (
        one is first or (one.lean is None and first.nearer - one.nearer < ALIKE))]


def _suspect(fault: Fault, base: Multiples, with_it: Multiples) -> Suspect:
    gains = {key: base[key] / max(with_it[key], 1e-9) for key in base if base[key] > 1}
    best = max(gains, key=lambda key: gains[key], default=None)
    return Suspect(fault, nearer(base, with_it), sum(m > 1 for m in with_it.values()),
                   sum(base[key] > 1 >= with_it[key] for key in base),
                   None if best is None else (best, base[best], with_it[best]))


def _leaning(fault: Fault, found: Lean) -> Suspect:
    return Suspect(fault, 0.0, 0, 0, None, found)

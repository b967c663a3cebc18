"""The order of the museum's faults for one candidate, and whether the first of them is to be believed.

    1. the model runs on the candidate's values: the first tap that comes out wrong, and the passes
       that lead to it
    2. it runs again up to that tap, with each mechanism that may lie in one of these: the exhibits and
       their relatives, which are the same mistakes with other parameters
    3. those that come nearest there run to the end, and are ordered by how much of the error they
       explain; of one mechanism the parameters that explain most
    4. the first is believed when it is clearly nearer and explains most; else it is none of the known

Where `diff` finds nothing beyond rounding, every fault is tried, and one is believed when the
candidate leans its way.

Read next: `evidence.py` (nearer, lean), `report.py` (the reasons in words).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ...api import VLM
from ...config import ModelConfig
from ..compare.compare import Comparison, compare
from ..compare.local import local_golden
from ..compare.taps import Candidate, Tap, fitted, ordered
from ..compare.verdict import ROUNDING, WRONG, first_bad, suspects
from ..museum.fault import FAULTS, Fault, plain
from ..museum.relatives import Relative, relatives
from ..trace.format import Trace
from .evidence import Lean, Multiples, Scale, akin, explained_share, lean, multiples, nearer
from .quantised import Cost, beyond_cost, cost_of
from .replay import Own, Replay, tapped
from .same_run import check_same_run

CLEARLY = 0.3        # powers of ten by which a fault must be nearer than the right passes: twice as near
MOST = 2 / 3                       # of the error at wrong taps must a fault explain that is believed
FIRST = 8                          # mechanisms that are run to the end
ALIKE = 0.02               # two faults that are so near to each other cannot be told apart on this input
SURE = 6.0                 # sigmas; and the candidate must have more of the fault's difference than not:
SHARE = (0.5, 1.5)
# Passes that made what these take, where a trace was recorded from ids and patches and does not have
# them.
BEFORE = {"vision.embed_patches": ("patches.patchify",),
          "decoder.angles": ("positions.mrope", "positions.ticks")}
# And where what goes from one to the other is no array, so that a trace does not know it: a text, a
# number of seconds.
UNSEEN = {"prompt.encode": "prompt.render", "positions.mrope": "positions.ticks"}


@dataclass(frozen=True)
class Suspect:
    """One fault and what speaks for it. explained: the share of the error at wrong taps that is gone
    with it planted, 1 where all of it is, below 0 where it makes others; left, cured: taps that are
    wrong with it planted, and no more wrong with it;
    at: the tap that it brings nearest, with its multiple of rounding without and with the fault;
    akin: not the same numbers, but small errors of the same size at the same taps
    """
    fault: Fault
    nearer: float
    left: int
    cured: int
    at: tuple[str, float, float] | None
    lean: Lean | None = None
    akin: bool = False
    explained: float = 1.0

    def is_clear(self) -> bool:
        """Whether the fault is believed."""
        if self.lean is not None:
            return self.lean.sigmas > SURE and SHARE[0] < self.lean.share < SHARE[1]
        return (self.nearer > CLEARLY and self.explained > MOST) or self.akin


@dataclass(frozen=True)
class Diagnosis:
    """What `diff` found, the faults that were tried, likeliest first, and those that are believed.

    known: the first of the ranking and all that cannot be told from it; empty when it is none of the
        known
    passes: that may be guilty of the first bad tap
    cost: the way of quantising whose cost the errors have, where there is one
    """
    comparison: Comparison
    ranking: list[Suspect]
    known: list[Suspect]
    passes: list[str]
    cost: Cost | None = None

    @property
    def healthy(self) -> bool:
        """No difference beyond rounding, or beyond what weights of few bits must cost; and none that
        leans the way of a known fault."""
        explained = self.comparison.first_bad is None or (self.cost is not None and not self.cost.beyond)
        return explained and not self.known


def diagnose(vlm: VLM, golden: Trace, candidate: Candidate) -> Diagnosis:
    """Rank the museum's faults against a candidate's trace; golden: the right run of the same inputs.

    Raises TraceError when nothing can be compared, when the golden trace does not say what was asked, or
    when the candidate ran another checkpoint, prompt or picture.
    """
    check_same_run(vlm, golden, candidate)
    found = compare(golden, candidate)
    scale = scale_of(vlm, golden, candidate, found)
    as_given = list(fitted(golden, candidate))
    as_laid = list(ordered(as_given, golden, candidate.native))

    def replay(taps: list[Tap]) -> Replay:
        return Replay(vlm, golden, tapped(golden, candidate, taps))
    if found.first_bad is None:
        return concluded(found, leaning(replay(as_laid), scale), [])
    first = concluded(found, *tried(replay(as_laid), golden, scale))
    if not first.known and any(a is not b for a, b in zip(as_given, as_laid, strict=True)):
        # another order may be the fault itself
        second = concluded(found, *tried(replay(as_given), golden, scale))
        if second.known:
            return second
    return first if first.known else beyond_quantising(first, replay(as_laid), golden, scale)


def scale_of(vlm: VLM, golden: Trace, candidate: Candidate, found: Comparison) -> Scale:
    """What rounding may do from tap to tap: as `diff --local` judges it, with what the storage of taps
    adds."""
    with local_golden(vlm, golden, candidate) as made:
        near = compare(made, candidate)
    return Scale(found.precision, {row.name: row for row in near.judged if row.allowed.error > 0})


def beyond_quantising(first: Diagnosis, run: Replay, golden: Trace, scale: Scale) -> Diagnosis:
    """The diagnosis where no mechanism is known: that of quantised weights, and of what goes beyond
    their cost."""
    right = run.own()
    base = multiples(run.taps, right, scale)
    cost = cost_of(run, right, base, scale)
    if cost is None:
        return first
    if not cost.beyond:
        return replace(first, ranking=[], passes=[], cost=cost)
    ranking, passes = tried(run, golden, scale, within=cost)
    return Diagnosis(first.comparison, ranking, believed(ranking), passes, cost)


def concluded(found: Comparison, ranking: list[Suspect], passes: list[str]) -> Diagnosis:
    """The diagnosis that a ranking is."""
    return Diagnosis(found, ranking, believed(ranking), passes)


def tried(run: Replay, golden: Trace, scale: Scale, within: Cost | None = None
          ) -> tuple[list[Suspect], list[str]]:
    """The ranking, and the passes in question: those that lead to the first tap that is bad by itself.

    Where the difference has only added up and no tap is bad by itself, what counts is the way that the
    candidate leans. within: what quantised weights cost is no error.
    """
    def apart(own: Own) -> Multiples:
        found = multiples(run.taps, own, scale)
        return found if within is None else beyond_cost(found, within)
    right = run.own()
    base = apart(right)
    words = {key: WRONG if multiple > 1 else ROUNDING for key, multiple in base.items()}
    bad = first_bad(words, golden.stages)
    if bad is None:
        return leaning(run, scale), []
    passes = suspects(bad, words, golden.stages, local=True)
    near = nearest_at(run, bad, base, possible(passes, golden.stages, run.vlm.config), scale)
    each = []
    for fault in near:
        wrong = run.own(fault)
        with_it = apart(wrong)
        same = akin(run.taps, right, wrong, [key for key in base if max(base[key], with_it[key]) > 1])
        each.append(_suspect(fault, base, with_it, same))
    return best_of_each(in_order(each, passes)), passes


def in_order(each: Sequence[Suspect], passes: Sequence[str]) -> list[Suspect]:
    """The nearest first. Of those that cannot be told from it, first what lies in a pinned pass itself,
    and not in one that made what that takes."""
    labels = [plain(key) for key in passes]

    def score(one: Suspect) -> float:
        return max(one.nearer, CLEARLY * one.akin)

    def outside(one: Suspect) -> bool:
        return not any(fnmatchcase(label, leaf) for label in labels for leaf in one.fault.leaves)
    ranking = sorted(each, key=lambda one: -score(one))
    alike = [one for one in ranking if score(ranking[0]) - score(one) < ALIKE]
    return [*sorted(alike, key=outside), *ranking[len(alike):]]


def nearest_at(run: Replay, key: str, base: Multiples, faults: Sequence[Fault], scale: Scale
               ) -> list[Fault]:
    """The faults that bring the candidate nearest at one tap, the FIRST of them, and every exhibit that
    changes anything there."""
    depth = list(run.taps).index(key) + 1
    taps = dict(list(run.taps.items())[:depth])

    def gain(fault: Fault) -> float:
        found = multiples(taps, run.own(fault, until=key), scale)
        return nearer({key: base[key]}, {key: found[key]})
    gains = [(gain(fault), fault) for fault in faults]
    first = sorted(gains, key=lambda pair: -pair[0])
    exhibits = [fault for size, fault in first[FIRST:] if size != 0 and not isinstance(fault, Relative)]
    return [fault for _, fault in first[:FIRST]] + exhibits


def best_of_each(ranking: list[Suspect]) -> list[Suspect]:
    """The first of every mechanism."""
    first: dict[str, Suspect] = {}
    for one in ranking:
        first.setdefault(one.fault.name, one)
    return list(first.values())


def leaning(run: Replay, scale: Scale) -> list[Suspect]:
    """Every fault, in the order of how sure it is that the candidate leans its way."""
    right, rounded = run.own(), run.honest(scale.kinds(run.taps))
    each = [Suspect(fault, 0.0, 0, 0, None, lean(run.taps, right, run.own(fault), rounded))
            for fault in FAULTS.values()]
    return sorted(each, key=lambda one: (not one.is_clear(), -one.lean.sigmas if one.lean else 0.0))


def possible(passes: Iterable[str], stages: Container[str], config: ModelConfig | None = None
             ) -> list[Fault]:
    """Exhibits and relatives that may lie in one of these passes, or in one that made the inputs where
    the trace begins behind it."""
    labels = {plain(key) for key in passes}
    labels |= {before for label in labels for before in BEFORE.get(label, ()) if before not in stages}
    labels |= {UNSEEN[label] for label in labels if label in UNSEEN}
    kin = relatives(config) if config is not None else []
    return [fault for fault in (*FAULTS.values(), *kin)
            if any(fnmatchcase(label, leaf) for label in labels for leaf in fault.leaves)]


def believed(ranking: list[Suspect]) -> list[Suspect]:
    """The first when it is clear, with all that cannot be told from it."""
    clear = [one for one in ranking if one.is_clear()]
    if not ranking or ranking[0] not in clear:
        return []
    first = ranking[0]
    if first.lean is not None:
        return [first]
    if first.nearer > CLEARLY:
        return [one for one in clear if first.nearer - one.nearer < ALIKE]
    return clear


def _suspect(fault: Fault, base: Multiples, with_it: Multiples, same_size: bool) -> Suspect:
    gains = {key: base[key] / max(with_it[key], 1e-9) for key in base if base[key] > 1}
    best = max(gains, key=lambda key: gains[key], default=None)
    return Suspect(fault, nearer(base, with_it), sum(m > 1 for m in with_it.values()),
                   sum(base[key] > 1 >= with_it[key] for key in base),
                   None if best is None else (best, base[best], with_it[best]), None, same_size,
                   explained_share(base, with_it))

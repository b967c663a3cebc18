"""Which it is: pixels, settings or arithmetic. Evidence first, then likelihood, and the rest is
arithmetic.

The inputs that the candidate reports are held beside ours. Then its answers to bad samples are scored
as if something else were so, a small list of hypotheses about pixels, prompts and samplers: the one
under which the loss falls to what rounding does is what it did. A hypothesis that contradicts what the
candidate reports is not tried.

Read next: `hypotheses.py`, `samplers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .choosing import GREEDY, OURS, SPOILT, by_sampler
from .hypotheses import ARITHMETIC, PIXELS, SETTINGS, UNDECIDED, Hypothesis, hypotheses, prompt_of
from .inputs import Evidence, beside_ours, by_count, cut_off
from .lines import Line
from .loss import LOGPROBS, REGRET, Measured, Sample, Tried, judged, limits, total, under
from .properties import of_pictures, resized
from .scorer import GOLDEN, Scorer
from .statistics import fisher_exact

FIRST, KEPT, TRIED = 6, 4, 24    # samples for all hypotheses, how many of these go on, samples for those
# bad samples without log-probabilities from which on a kind is named because a hypothesis explains them:
# to fewer one of the many fits by chance; and for a sampler that draws, which explains any answer, so that
# only the spread of many tokens speaks against it (`python -m tools.truth.triage --few`)
FEWEST, FEWEST_DRAWN = 4, 16
COVERS = 0.8                             # of the bad samples, at least, for evidence to be the cause
FEW, SURELY = 8, 1e-3        # samples without resizing that must be clean to speak for pixels; p of that


@dataclass(frozen=True)
class Cause:
    """The answer to (b). kind: None when nothing is wrong, UNDECIDED where so few samples are bad that
    one kind cannot be told from another; name: the hypothesis that explains it, None where none does;
    because: the sentence that decided."""
    kind: str | None
    name: str | None = None
    because: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_cause(samples: Sequence[Sample], bad: np.ndarray, measured: Sequence[Measured], scorer: Scorer,
               say: Callable[[str], None] = lambda words: None) -> Cause:
    """What is behind the loss. Without loss and without other inputs: nothing."""
    known = hypotheses()
    evidence = [*beside_ours(samples, scorer.vlm, known), *by_count(samples, scorer.vlm),
                *cut_off(samples, scorer.vlm)]
    lost = any(one.lost for one in measured)
    if not lost and not evidence:
        return Cause(None)
    covered = {n for one in evidence for n in one.samples}
    rest = [n for n in np.flatnonzero(bad).tolist() if n not in covered]
    notes = declared(samples, scorer)
    if evidence and len(rest) <= (1 - COVERS) * bad.sum():
        first = max(evidence, key=lambda one: (one.kind == PIXELS, len(one.samples)))
        if rest:
            notes.append(f"{len(rest)} bad samples have the inputs that they should have: there may be "
                         "more to find")
        return Cause(first.kind, None, first.words, evidence, [], notes)
    if not rest:
        rest = np.flatnonzero([total(one.losses, 0) > total(one.losses, 1) for one in samples]).tolist()
    fine = [one for one, wrong in zip(samples, bad, strict=True) if not wrong]
    rows = tried([samples[n] for n in rest], fine, known, scorer,
                 sum(limits(samples, scorer.precision).values()), say)
    kind, name, because = weighed(samples, bad, measured, rows)
    return Cause(kind, name, because, evidence, rows, notes)


def weighed(samples: Sequence[Sample], bad: np.ndarray, measured: Sequence[Measured],
            rows: Sequence[Tried]) -> tuple[str, str | None, str]:
    """(kind, name, because) where the inputs are ours as far as is known."""
    best = next((row for row in rows if row.holds), None)
    silent = any(wrong and one.line.logprobs is None for one, wrong in zip(samples, bad, strict=True))
    least = FEWEST_DRAWN if best and best.drawn else FEWEST
    if best and best.samples < least and silent:
        return UNDECIDED, None, (f"{best.name} would explain it, but to fewer than {least} bad samples "
                                 f"(here {best.samples}) it may fit by chance: record more samples, "
                                 "log-probabilities, or the settings")
    if best:
        return best.kind, best.name, (f"{best.name}: {best.explained:.0%} of the loss beyond rounding "
                                      "is gone when minivl does the same")
    by_name = {one.name: one for one in measured}
    numbers, words = by_name.get(LOGPROBS), by_name.get(REGRET)
    if numbers and words and words.lost and not numbers.lost and numbers_are_ours(samples, bad):
        return SETTINGS, None, ("the log-probabilities are ours, but other tokens were chosen than the "
                                "likeliest; no sampler of the list chooses these")
    if only_resized(samples, bad):
        return PIXELS, None, ("every bad sample has a picture that had to be resized, and every sample "
                              "whose pictures came in their final size is right; no resizing of the "
                              "list gives these answers")
    return ARITHMETIC, None, ("inputs are ours as far as they are known, and no other pixels or "
                              "settings explain it")


def numbers_are_ours(samples: Sequence[Sample], bad: np.ndarray) -> bool:
    """Whether log-probabilities of the bad samples lie as near to ours as rounding's do, within a
    factor of OURS. That nothing is lost over all samples does not say so: the right ones may be many."""
    found = [one.losses[LOGPROBS] for one, wrong in zip(samples, bad, strict=True) if wrong]
    theirs, rounding = np.nansum(np.reshape(found, (-1, 2)), axis=0)
    return bool(theirs <= OURS * rounding)


def only_resized(samples: Sequence[Sample], bad: np.ndarray) -> bool:
    """Whether resizing alone decides which samples with pictures are bad."""
    seen = [(resized(one), bool(wrong)) for one, wrong in zip(samples, bad, strict=True) if one.media]
    a, b = sum(r and w for r, w in seen), sum(r and not w for r, w in seen)
    c, d = sum(not r and w for r, w in seen), sum(not r and not w for r, w in seen)
    return c == 0 and d >= FEW and fisher_exact(a, b, c, d) < SURELY


def declared(samples: Sequence[Sample], scorer: Scorer) -> list[str]:
    """Settings that the candidate reports and that are not the checkpoint's."""
    own = scorer.vlm.generation
    drawn = own.do_sample and own.temperature > GREEDY
    ours = {"temperature": own.temperature if drawn else 0, "repetition_penalty": own.repetition_penalty}
    out = []
    for name, value in ours.items():
        other = {one.line.settings[name] for one in samples
                 if one.line.settings.get(name, value) != value}
        if other:
            told = ", ".join(f"{one:g}" for one in sorted(other))
            out.append(f"it was told {name} {told}; the checkpoint says {value:g}")
    return out


# ---- likelihood --------------------------------------------------------------------------------

def tried(chosen: Sequence[Sample], fine: Sequence[Sample], known: Sequence[Hypothesis],
          scorer: Scorer, limit: float, say: Callable[[str], None]) -> list[Tried]:
    """Every hypothesis, the best first. The worst samples say most: all are tried on a few, the best
    on more; and on some that are right, preferably with pictures, whose loss must stay below the
    limit."""
    worst = sorted(chosen, key=lambda one: -total(one.losses, 0))[:TRIED]
    if not worst:
        return []
    seen = of_pictures([*chosen, *fine], scorer.vlm.config.vision)
    rows = [by_sampler(one, worst, chosen, fine, seen, limit) for one in scorer.samplers[1:]]
    right = sorted(fine, key=lambda one: (not one.media, one.size))[:FIRST]

    prompts = {one.line.number: prompt_of(scorer.vlm, one.line) for one in [*worst, *right]}

    def by_inputs(hypothesis: Hypothesis, samples: Sequence[Sample]) -> Tried:
        say(f"trying: {hypothesis.name}")
        after = [as_if(hypothesis, one, scorer, prompts[one.line.number]) for one in samples]
        return judged(hypothesis.name, hypothesis.kind, samples, after)
    first = sorted(known, key=lambda one: -by_inputs(one, worst[:FIRST]).explained)
    for one in first[:KEPT]:
        row = by_inputs(one, worst)
        after = [as_if(one, sample, scorer, prompts[sample.line.number])
                 for sample in right if row.holds]
        spoilt = sum(loss > limit for loss in after)
        words = f"{spoilt} of {len(right)} right samples would be wrong"
        rows.append(replace(row, against=words if spoilt > SPOILT * len(right) else ""))
    return sorted(rows, key=lambda row: (not row.holds, row.after))


def as_if(hypothesis: Hypothesis, sample: Sample, scorer: Scorer, prompt: Mapping[str, Any]) -> float:
    """Loss of a sample if the hypothesis were so; as it is where that cannot be, or the candidate
    reports otherwise."""
    as_it_is = total(sample.losses, 0)
    try:
        inputs = hypothesis.prepare(scorer.vlm, sample.line, prompt)
    except ValueError:
        return as_it_is
    if contradicted(sample.line, inputs.input_ids, tuple(m.grid for m in inputs.media)):
        return as_it_is
    return under(sample, scorer.score(inputs, sample.tokens, GOLDEN))


def contradicted(line: Line, ids: np.ndarray, grids: tuple) -> bool:
    """Whether the candidate reports other ids or grids than these."""
    return (line.prompt_ids is not None and not np.array_equal(line.prompt_ids, ids)) or (
        line.grid is not None and line.grid != grids)


"""The same question, asked again and asked together with others: a server may compute it in another
batch, in other pieces, on rows that another request left in a cache, with padding on one side or none.
None of that may change the answer by more than rounding.

Read next: `truth/triage/cause.py`, for everything else that may be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..triage.hypotheses import ARITHMETIC, UNDECIDED
from ..triage.loss import LOGPROBS, REGRET, Sample
from ..triage.triage import Triage
from .plan import AGAIN, LONG, TOGETHER

# what differs between the two ways of asking, and so what may be wrong where the answers do
MEANS = {AGAIN: "the second time it may be read from a prefix cache, or prefilled in other pieces",
         TOGETHER: "together with others it is in a batch, with padding, beside other requests"}


@dataclass(frozen=True)
class Variation:
    """One way of asking otherwise. pairs: questions asked both ways; differing: names of those whose
    answers are further apart than rounding takes them; apart: the largest distance, in nats a token."""
    asked: str
    pairs: int
    differing: tuple[str, ...]
    apart: float

    @property
    def words(self) -> str:
        if not self.differing:
            return f"asked {self.asked}: {self.pairs} answers are the same within rounding"
        return (f"asked {self.asked}: {len(self.differing)} of {self.pairs} answers change, by "
                f"{self.apart:.2g} nats a token at most ({', '.join(self.differing[:3])}); "
                f"{MEANS[self.asked]}")


def with_variations(found: Triage, same_as: Mapping[str, str]) -> Triage:
    """A triage with what asking otherwise changed: a server whose answers change, and are not wrong for
    a reason that was found, computes something that it should not. So does one that is wrong in long
    prompts alone."""
    changed = variations(found.samples, same_as, found.limits)
    notes = [*found.notes, *(one.words for one in changed)]
    broken = next((one for one in changed if one.differing), None)
    cause, (said, alone) = found.cause, in_long_prompts(found)
    notes += [said] * bool(said)
    if broken is not None and cause.kind in (None, ARITHMETIC, UNDECIDED):
        cause = replace(cause, kind=ARITHMETIC, name=f"answers change when asked {broken.asked}",
                        because=broken.words)
    elif alone and cause.kind in (ARITHMETIC, UNDECIDED):
        cause = replace(cause, kind=ARITHMETIC, name="answers are wrong in long prompts alone", because=said)
    return replace(found, cause=cause, notes=notes)


def in_long_prompts(found: Triage) -> tuple[str, bool]:
    """What is to be said of prompts around a piece ("" where there are none), and whether they alone are
    bad. A question that was asked otherwise counts for none."""
    rows = [(len(one.prompt_ids), bool(bad), one.line.asked) for one, bad in
            zip(found.samples, found.bad, strict=True) if one.line.asked not in (AGAIN, TOGETHER)]
    long = sorted((size, bad) for size, bad, asked in rows if asked == LONG)
    wrong = [str(size) for size, bad in long if bad]
    right = [str(size) for size, bad in long if not bad]
    if not long:
        return "", False
    if not wrong:
        return f"long prompts, of {', '.join(right)} tokens: right within rounding", False
    said = (f"long prompts: of {', '.join(wrong)} tokens wrong, of {', '.join(right) or 'none'} right; "
            "where a prompt is read in pieces, or its beginning out of a cache, a later piece may miss what "
            "the first one left, or count its rows anew")
    return said, not any(bad for _, bad, asked in rows if asked != LONG)


def variations(samples: Sequence[Sample], same_as: Mapping[str, str], limits: Mapping[str, float]
               ) -> list[Variation]:
    """Every way of asking otherwise. same_as: name -> name of the same question asked alone; limits: of
    `loss.limits`."""
    known = {one.line.name: one for one in samples}
    out = []
    for how in (AGAIN, TOGETHER):
        pairs = [(known[name], known[other]) for name, other in same_as.items()
                 if name in known and other in known and known[name].line.asked == how]
        if pairs:
            gaps = [(apart(*pair), pair[0].line.name) for pair in pairs]
            bad = tuple(name for gap, name in gaps if gap > limits[LOGPROBS])
            out.append(Variation(how, len(pairs), bad, max(gap for gap, _ in gaps)))
    return out


def apart(one: Sample, other: Sample) -> float:
    """How far two answers to one question are apart, in nats a token: by log-probabilities of the tokens
    that they share, and the first that they do not share by how much likelier the better one is."""
    a, b = (np.asarray(x.line.logprobs if x.line.logprobs is not None else np.zeros(len(x.tokens)))
            for x in (one, other))
    n = min(len(a), len(b), len(one.tokens), len(other.tokens))
    same = one.tokens[:n] == other.tokens[:n]
    shared = n if same.all() else int(np.argmin(same))
    gaps = np.abs(a[:shared] - b[:shared])
    found = float(np.nan_to_num(gaps, nan=10.0).max(initial=0.0))
    if shared < n or len(one.tokens) != len(other.tokens):
        found = max(found, abs(one.losses[REGRET][0] - other.losses[REGRET][0]))
    return found

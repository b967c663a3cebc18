"""How much the candidate loses against the golden run, sample by sample, beside what rounding loses.

    log-probabilities  mean distance of the candidate's from the golden run's, in nats a token, on the
                       same tokens
    regret             how much less likely the answer is to the golden run than the best tokens in its
                       places, in nats
    other answers      the text is not the golden one's
    wrong answers      the text is not the true one, where that is known

The candidate has lost when a measure is beyond what minivl's own run in the same type does, for the
samples as a whole: a paired bootstrap over samples. One sample is *bad* when it alone is far beyond
that. A few that no rounding explains are a loss too, however many others are right.

Read next: `cause.py` (why), `properties.py` (which samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...run.inputs import Inputs
from ...show.samples import Sample as Graded
from .lines import Line, clean
from .samplers import OUR_OWN
from .scorer import GOLDEN, SAME, Score, Scorer
from .statistics import Interval, paired_interval

# So many times minivl's own rounding is allowed. In 16 bits the type decides and honest runs are
# alike; in 32 and 64 the order of a sum does (`truth/compare/verdict.py` allows as much).
LEEWAY = {"float64": 8.0, "float32": 8.0, "float16": 2.0, "bfloat16": 2.0}
# nats: programs print four digits, which costs half of the last one
LEAST = {"float64": 5e-5, "float32": 5e-5, "float16": 1e-3, "bfloat16": 1e-3}
FAR = 3.0                        # a bad sample is so many times what rounding does to nearly all
BEYOND = 10.0                    # and one that no rounding explains so many times what it does to any
MOST = 10.0          # nats that one token can count for, so that an impossible one does not outweigh all
LOGPROBS, REGRET = "log-probabilities", "regret"
OTHER_ANSWERS, WRONG_ANSWERS = "other answers", "wrong answers"
IN_NATS = (LOGPROBS, REGRET)
MEASURES = (*IN_NATS, OTHER_ANSWERS, WRONG_ANSWERS)
OUTLIERS = "beyond any rounding"
UNEVEN = "beyond the other samples"
A_TOKEN, AN_ANSWER, A_SHARE = "nats a token", "nats an answer", "share of samples"
UNITS = {LOGPROBS: A_TOKEN, REGRET: AN_ANSWER, OTHER_ANSWERS: A_SHARE, WRONG_ANSWERS: A_SHARE,
         OUTLIERS: A_SHARE, UNEVEN: A_TOKEN}
EXPLAINS = 2 / 3                         # of the loss beyond rounding, at least
FEW, ALL = 3, 0.95  # of fewer samples than FEW nearly ALL: one of many fits one by chance


@dataclass(frozen=True)
class Sample:
    """One line with minivl's runs of it. `mine` scores the candidate's tokens; losses are
    (candidate's, rounding's), NaN where there is nothing to measure. tokens_known: whether the line
    says which tokens were written, by its ids or by a text that can be encoded in one way; noise: by
    how much rounding moves log-probabilities of minivl's own answer, in nats a token."""
    line: Line
    prompt_ids: np.ndarray
    media: tuple
    tokens: np.ndarray
    answer: str                                  # the golden run's
    mine: Score
    losses: dict[str, tuple[float, float]]
    tokens_known: bool = True
    noise: float = 0.0

    @property
    def size(self) -> int:
        """How much there is to look at: patches and tokens."""
        return sum(one.patches for one in self.media) + len(self.prompt_ids)


@dataclass(frozen=True)
class Measured:
    """One measure over all samples that have it; the interval is of candidate minus rounding, the
    verdict allows for LEEWAY. lost: whether that is more than rounding does."""
    name: str
    samples: int
    candidate: float
    rounding: float
    interval: Interval
    lost: bool


def measure(line: Line, inputs: Inputs, scorer: Scorer) -> Sample:
    """Run minivl on one sample, golden and in the candidate's precision, and measure both against the
    golden run."""
    golden, same = (scorer.answer(inputs, who, line.max_new_tokens) for who in (GOLDEN, SAME))
    found = scorer.tokens(line, (golden, same))
    tokens = np.zeros(0, np.int64) if found is None else found
    mine = scorer.score(inputs, tokens, GOLDEN, every=True)
    said, own = (scorer.vlm.tokenizer.decode(ids) for ids in (golden, same))
    nothing = (np.nan, np.nan)
    losses = dict.fromkeys(MEASURES, nothing)
    if line.logprobs is not None:
        ours = scorer.score(inputs, tokens, SAME).logprobs
        losses[LOGPROBS] = (distance_under(line.logprobs, mine, OUR_OWN), distance(ours, mine.logprobs))
    if found is not None and not line.teacher_forced:
        losses[REGRET] = (min(mine.regret, MOST), min(scorer.score(inputs, same, GOLDEN).regret, MOST))
    if not line.teacher_forced:
        losses[OTHER_ANSWERS] = (float(clean(line.text) != clean(said)),
                                 float(clean(own) != clean(said)))
        if line.expected is not None:
            losses[WRONG_ANSWERS] = (float(not right(line.text, line.expected)),
                                     float(not right(own, line.expected)))
    noise = distance(scorer.score(inputs, same, SAME).logprobs,
                     scorer.score(inputs, same, GOLDEN).logprobs)
    return Sample(line, inputs.input_ids, inputs.media, tokens, said, mine, losses, found is not None,
                  noise)


def distance(theirs: Sequence[float] | np.ndarray, ours: np.ndarray) -> float:
    """Mean distance of log-probabilities in nats a token, each at most MOST; those that are no number
    count as MOST."""
    a = np.asarray(theirs, np.float64)
    if not len(a):
        return 0.0
    return float(np.nan_to_num(np.minimum(np.abs(a - ours[: len(a)]), MOST), nan=MOST).mean())


def distance_under(theirs: Sequence[float], ours: Score, sampler: str) -> float:
    """The same where it is not known whether the candidate gives log-probabilities before its penalty
    or after: of the two the nearer."""
    return min(distance(theirs, ours.logprobs), distance(theirs, ours.choices[sampler].logprobs))


def right(text: str, expected: str) -> bool:
    """Whether an answer is the true one: words, boxes, points or moments, as the samples of the
    package are judged."""
    return Graded("", (), None, "", expected, False, "").is_right(clean(text))


def measured(samples: Sequence[Sample], precision: str) -> list[Measured]:
    """Every measure that some sample has."""
    out = []
    for name in MEASURES:
        pairs = np.array([one.losses[name] for one in samples])
        pairs = pairs[~np.isnan(pairs[:, 0])]
        if not len(pairs):
            continue
        theirs, ours = pairs.T
        graded = name in IN_NATS
        factor, least = (LEEWAY[precision], LEAST[precision]) if graded else (1.0, 0.0)
        beyond = paired_interval(theirs - factor * ours)
        out.append(Measured(name, len(pairs), float(theirs.mean()), float(ours.mean()),
                            paired_interval(theirs - ours), beyond.low > least))
    apart = outliers(samples, precision)
    return [*out, Measured(OUTLIERS, len(apart), float(apart.mean()), 0.0, paired_interval(apart),
                           bool(apart.any()))]


def uneven(samples: Sequence[Sample], has: np.ndarray, precision: str) -> Measured | None:
    """Log-probabilities of samples with a property, beyond what rounding does to those without.

    Another program may round more than minivl, by one factor, which the samples without the property
    tell; what follows a property is no rounding. has: one truth value a sample. None where either side
    has no log-probabilities.
    """
    pairs = np.array([one.losses[LOGPROBS] for one in samples])
    known = ~np.isnan(pairs[:, 0])
    inside, outside = pairs[known & has], pairs[known & ~has]
    if not len(inside) or not outside.sum():
        return None
    factor = max(1.0, outside[:, 0].sum() / max(outside[:, 1].sum(), LEAST[precision]))
    theirs, ours = inside.T
    beyond = paired_interval(theirs - factor * ours)
    return Measured(UNEVEN, len(inside), float(theirs.mean()), float(factor * ours.mean()), beyond,
                    beyond.low > LEAST[precision])


def outliers(samples: Sequence[Sample], precision: str) -> np.ndarray:
    """Which samples are so far off that rounding cannot be the reason, one truth value each. Rounding
    tips a near tie in few samples, perhaps in none of these, and by no more than it moves
    log-probabilities."""
    noise = max((one.noise for one in samples), default=0.0)
    limit = {name: BEYOND * max([LEEWAY[precision] * LEAST[precision], noise, *rounding(samples, name)])
             for name in IN_NATS}
    return np.array([any(one.losses[name][0] > limit[name] for name in limit) for one in samples], bool)


def rounding(samples: Sequence[Sample], name: str) -> list[float]:
    """What rounding does to each sample that has this measure."""
    return [one.losses[name][1] for one in samples if not np.isnan(one.losses[name][1])]


def limits(samples: Sequence[Sample], precision: str) -> dict[str, float]:
    """From where on one sample is bad, by log-probabilities and by regret: beyond what rounding does
    to nearly all."""
    found = {}
    for name in IN_NATS:
        high = float(np.quantile(rounding(samples, name) or [0.0], 0.95))
        found[name] = max(FAR * high, LEEWAY[precision] * LEAST[precision])
    return found


def bad(samples: Sequence[Sample], precision: str) -> np.ndarray:
    """Which samples are bad, one truth value each."""
    limit = limits(samples, precision)
    return np.array([any(one.losses[name][0] > limit[name] for name in limit) for one in samples], bool)


# ---- the loss as if something else were so -----------------------------------------------------

@dataclass(frozen=True)
class Tried:
    """A hypothesis, and what is left of the loss under it: nats a sample, before and after; explained:
    the share of what was beyond rounding; low: least reduction, by bootstrap; against: what rules it
    out, "" where nothing does; drawn: whether it is a sampler that draws, which may have drawn anything."""
    name: str
    kind: str
    samples: int
    before: float
    after: float
    explained: float
    low: float
    against: str = ""
    drawn: bool = False

    @property
    def holds(self) -> bool:
        least = EXPLAINS if self.samples >= FEW else ALL
        return self.explained >= least and self.low > 0 and not self.against


def judged(name: str, kind: str, samples: Sequence[Sample], after: Sequence[float],
           against: str = "") -> Tried:
    """The row of one hypothesis."""
    before, least = (np.array([total(one.losses, whose) for one in samples]) for whose in (0, 1))
    gone, beyond = before - np.asarray(after), float((before - least).sum())
    explained = float(gone.sum()) / beyond if beyond > 0 else 0.0
    return Tried(name, kind, len(samples), float(before.mean()), float(np.mean(after)), explained,
                 paired_interval(gone).low, against)


def total(losses: dict[str, tuple[float, float]], whose: int) -> float:
    """Loss of a sample in nats: log-probabilities and regret; whose: 0 the candidate's, 1 rounding's."""
    return float(np.nansum([losses[name][whose] for name in IN_NATS]))


def under(sample: Sample, score: Score, sampler: str = OUR_OWN, drawn: bool = False) -> float:
    """Loss of a sample if its inputs were those of the score, and tokens were chosen by this sampler."""
    line = sample.line
    numbers = distance_under(line.logprobs, score, sampler) if line.logprobs is not None else 0.0
    if line.teacher_forced or drawn:
        return numbers
    return numbers + min(float(score.choices[sampler].regret.sum()), MOST)


def rounding_of(samples: Sequence[Sample], name: str) -> float:
    """What rounding does to these samples, on average."""
    return float(np.mean(rounding(samples, name) or [0.0]))

"""Whether a sampler explains the answers: what is left of the loss if it chose the tokens, and what
speaks against it.

A sampler changes which token is taken, and nothing else. So it is ruled out where something else has
changed: the log-probabilities before it, or which pictures are answered badly. It is ruled out too
where it would have chosen otherwise, and where the candidate was told another setting: what it was told
is believed unless its own log-probabilities show that only the choice of tokens can be different.

Read next: `samplers.py` (the list), `cause.py` (which weighs it with the rest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .hypotheses import SETTINGS
from .loss import LOGPROBS, MOST, Sample, Tried, distance, judged, rounding_of, under
from .properties import SURE, Test
from .samplers import Choice, Sampler, far_from_drawn, may_have_drawn
from .statistics import fisher_exact

OURS = 3                   # times what rounding does, at most, do log-probabilities that are ours differ
GREEDY = 1e-3                            # the official files say do_sample and a temperature of 1e-6
USUAL = 0.7                # the lowest temperature that programs have where nobody says one
DECIMALS = 6                             # of numbers that were shortened when they were written
SPOILT = 1 / 3                           # of the right samples, at most, may a hypothesis make wrong
Properties = Mapping[str, Test]


def by_sampler(sampler: Sampler, worst: Sequence[Sample], bad: Sequence[Sample], fine: Sequence[Sample],
               pictures: Properties, limit: float) -> Tried:
    """What is left of the loss of the worst samples if tokens were chosen by this sampler, and the first
    thing that speaks against it.

    bad, fine: all samples of each kind; pictures: properties of pictures, by name; limit: from where on
    a right sample is spoilt, in nats
    """
    drawn = sampler.temperature > 0
    after = [under(one, one.mine, sampler.name, drawn) for one in worst]
    against = (moved_numbers(sampler, bad) or other_than_told(sampler, bad)
               or (not_drawn(sampler, bad, fine, pictures) if drawn else spoilt(sampler, fine, limit)))
    return replace(judged(sampler.name, SETTINGS, worst, after, against), drawn=drawn)


def moved_numbers(sampler: Sampler, bad: Sequence[Sample]) -> str:
    """That log-probabilities of bad samples are further from ours than rounding takes them, before this
    sampler as well as after it."""
    scored = [one for one in bad if one.line.logprobs is not None]
    readings = [[distance(one.line.logprobs or (), numbers) for one, numbers in
                 ((one, numbers_of(one, name)) for one in scored)] for name in ("", sampler.name)]
    off = min((float(np.mean(each)) for each in readings if each), default=0.0)
    if off <= OURS * rounding_of(scored, LOGPROBS) + last_decimal(scored):
        return ""
    return f"log-probabilities are off by {off:.2g} nats, and no sampler moves those"


def last_decimal(scored: Sequence[Sample]) -> float:
    """Half a unit of the last decimal that log-probabilities are written with: what writing them moves
    them by, at most. 0 where they have more than DECIMALS, or are all zero."""
    numbers = np.array([number for one in scored for number in one.line.logprobs or () if number])
    for decimals in range(1, DECIMALS + 1) if numbers.size else ():
        if np.allclose(np.round(numbers, decimals), numbers, rtol=0, atol=1e-9):
            return float(0.5 * 10.0**-decimals)
    return 0.0


def numbers_of(one: Sample, sampler: str) -> np.ndarray:
    """Our log-probabilities of the candidate's tokens: after a sampler, or before any where none is
    named."""
    return one.mine.choices[sampler].logprobs if sampler else one.mine.logprobs


def other_than_told(sampler: Sampler, bad: Sequence[Sample]) -> str:
    """That the bad samples declare other settings, where their log-probabilities do not show that these
    cannot be so."""
    mute = [one for one in bad if one.line.logprobs is None]
    told = [said for one in mute for said in [contradiction(sampler, one.line.settings)] if said]
    if len(told) > SPOILT * len(bad):
        return f"the candidate was told {told[0]}"
    silent = [one for one in mute if "temperature" not in one.line.settings]
    if len(silent) > SPOILT * len(bad) and 0 < sampler.temperature < USUAL:
        return "no program draws so cold by default, and nobody says that this one does"
    return ""


def contradiction(sampler: Sampler, settings: Mapping[str, Any]) -> str:
    """The declared setting that this sampler has otherwise, in words; "" where it has all of them."""
    said = settings.get("temperature")
    if said is not None and (said > GREEDY or sampler.temperature > GREEDY) and not np.isclose(
            said, sampler.temperature):
        return f"temperature {said:g}"
    said = settings.get("repetition_penalty")
    if said is not None and not np.isclose(said, sampler.penalty):
        return f"repetition_penalty {said:g}"
    return ""


def spoilt(sampler: Sampler, fine: Sequence[Sample], limit: float) -> str:
    """That a greedy sampler would not have written what is right."""
    known = written(fine)
    worse = sum(min(float(one.mine.choices[sampler.name].regret.sum()), MOST) > limit for one in known)
    if worse <= SPOILT * len(known):
        return ""
    return f"it would not have chosen {worse} of {len(known)} answers that are right"


def not_drawn(sampler: Sampler, bad: Sequence[Sample], fine: Sequence[Sample],
              pictures: Properties) -> str:
    """That the answers do not look drawn by the sampler; where no log-probabilities show that the scores
    are ours, that they depend on a property of the picture, which no sampler sees, too."""
    bad, fine = written(bad), written(fine)
    if not may_have_drawn(choices_of([*bad, *fine], sampler)):
        return "the tokens are not those that it would have drawn"
    if all(one.line.logprobs is not None for one in bad):
        return ""
    several = 2 * len(pictures)
    for name, test in pictures.items():
        sides = [[one for one in [*bad, *fine] if test(one) == side] for side in (True, False)]
        if all(sides) and any(far_from_drawn(choices_of(part, sampler), several) for part in sides):
            return f"the unlikely tokens go with a property of the picture: {name}"
        with_it, all_with = sum(map(test, bad)), len(sides[0])
        p = fisher_exact(with_it, all_with - with_it, len(bad) - with_it,
                         len(fine) - (all_with - with_it))
        if p < SURE / len(pictures) and with_it * len(sides[1]) > (len(bad) - with_it) * all_with:
            return f"the bad samples go with a property of the picture: {name}"
    return ""


def written(samples: Sequence[Sample]) -> list[Sample]:
    """Those whose tokens the candidate chose itself, and said."""
    return [one for one in samples if not one.line.teacher_forced and one.tokens_known]


def choices_of(samples: Sequence[Sample], sampler: Sampler) -> list[Choice]:
    """What their tokens look like under the sampler."""
    return [one.mine.choices[sampler.name] for one in samples]

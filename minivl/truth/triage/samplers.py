"""Ways of choosing the next token, and what a given answer looks like under each: numbers for every
token.

The scores of one forward pass are enough for all of them. A greedy sampler is known by its
*regret*: how much less likely the chosen token is than the best one, 0 throughout when the answer
is its own. One that draws is known by its calibration: tokens are as surprising as it expects, and
their places in the cumulative distribution are uniform.

Read next: `scorer.py`, which makes the scores; `cause.py`, which compares samplers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import GenerationConfig
from ...kernels.definition import log_softmax, wide
from ...passes.sampling import narrow_choice, penalise
from .statistics import at_least, uniform

PENALTIES, TEMPERATURES = (1.0, 1.05, 1.1, 1.2, 1.3), (0.3, 0.5, 0.7, 1.0, 1.5)
COLDEST = 1e-3                                # scores over less overflow; it is greedy, to all intents
IMPOSSIBLE = -1e4                 # nats; a token that top-k has left out, in a number that can be summed
OUR_OWN = "as the checkpoint says"
RARE = (0.1, 0.01, 0.001, 1e-4)          # shares of the least likely tokens that are counted
UNIFORM, SURPRISED = 1e-3, 4.0  # least p, and most standard errors, of answers that a sampler has drawn


@dataclass(frozen=True)
class Sampler:
    """penalty 1 is none; on_prompt: tokens of the prompt are penalised too; temperature 0 is greedy."""
    name: str
    penalty: float = 1.0
    on_prompt: bool = True
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def scores(self, logits: np.ndarray, prompt: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """What the choice is made from: k v -> k v. tokens (k,): the answer; row n chose tokens[n]."""
        seen = prompt if self.on_prompt else prompt[:0]
        before = tuple(tokens[:n] for n in range(len(tokens)))
        out = wide(logits)
        if self.penalty != 1:
            out = penalise(logits, (seen,) * len(tokens), before, self.penalty)
        return narrow_choice(out, self.temperature, self.top_k, self.top_p) if self.temperature else out


@dataclass(frozen=True)
class Choice:
    """An answer under one sampler, token by token: k of each. logprobs after its penalty and
    temperature.

    Of a greedy sampler there is the regret, of one that draws the rest: places, tails (the share of all
    tokens that are no likelier) and surprise (in nats above what is expected) with its variance tell
    whether it may have drawn the answer. What there is not has no numbers.
    """
    logprobs: np.ndarray
    regret: np.ndarray
    places: np.ndarray
    surprise: np.ndarray
    variance: np.ndarray
    tails: np.ndarray


def samplers(generation: GenerationConfig, declared: Iterable[Mapping[str, Any]] = ()) -> list[Sampler]:
    """The checkpoint's own first; then what the candidate says that it was told, and a small list."""
    own = generation.repetition_penalty
    found = [Sampler(OUR_OWN, own)]
    for told in declared:
        temperature, penalty = (float(told.get(name, none)) for name, none in
                                (("temperature", 0), ("repetition_penalty", own)))
        top_k = int(told["top_k"]) if told.get("top_k", 0) > 0 else None
        found.append(Sampler(words(penalty, temperature) + ", as the candidate says", penalty, True,
                             max(temperature, COLDEST) if temperature else 0.0, top_k,
                             told.get("top_p") or None))
    found += [Sampler(words(p, 0), p) for p in PENALTIES if p != own]
    found += [Sampler(words(p, 0) + " on new tokens only", p, False) for p in PENALTIES if p != 1]
    found += [Sampler(words(own, t), own, True, t) for t in TEMPERATURES]
    drawn = max(generation.temperature, COLDEST)
    found.append(Sampler(f"drawn at temperature {drawn:g} from the checkpoint's own choice of tokens",
                         own, True, drawn, generation.top_k or None, generation.top_p or None))
    return list({sampler.name: sampler for sampler in found}.values())


def words(penalty: float, temperature: float) -> str:
    """A sampler in words."""
    said = f"repetition penalty {penalty:g}" if penalty != 1 else "no repetition penalty"
    return f"{said}, temperature {temperature:g}" if temperature else f"{said}, greedy"


def choice(sampler: Sampler, logits: np.ndarray, prompt: np.ndarray, tokens: np.ndarray,
           seed: int) -> Choice:
    """An answer under one sampler. seed: for the places within a token's share, which would be steps
    otherwise."""
    scores = sampler.scores(logits, prompt, tokens).astype(np.float64)                       # k v
    logp = np.maximum(log_softmax(scores), IMPOSSIBLE)
    own = logp[np.arange(len(tokens)), tokens]                                              # k
    none = np.zeros(0)
    if not sampler.temperature:
        return Choice(own, logp.max(axis=1) - own, none, none, none, none)
    share = np.exp(logp)
    mean = (share * np.where(share > 0, logp, 0)).sum(axis=1)                         # minus the entropy
    spread = (share * np.where(share > 0, logp - mean[:, None], 0) ** 2).sum(axis=1)
    above = np.where(logp > own[:, None], share, 0).sum(axis=1)
    places = above + np.random.default_rng(seed).random(len(tokens)) * np.exp(own)
    return Choice(own, none, np.minimum(places, 1), mean - own, spread, np.maximum(1 - above, 0))


def may_have_drawn(choices: list[Choice]) -> bool:
    """Whether these answers look drawn by the sampler: calibrated and uniform."""
    if not choices:
        return True
    return not far_from_drawn(choices) and uniform(np.concatenate(
        [one.places for one in choices])) >= UNIFORM


def far_from_drawn(choices: list[Choice], groups: int = 1) -> bool:
    """Whether the tokens are less surprising, or more, than the sampler's would be, beyond chance: in
    sum, or by how many are of the unlikely ones.

    A draw lies among the least likely tokens that together have a share of q in q of all cases at most.
    groups: of how many this is one; a sum that is nearly certain says nothing of one group.
    """
    surprise = np.concatenate([one.surprise for one in choices])
    spread = math.sqrt(float(sum(one.variance.sum() for one in choices)))
    if abs(float(surprise.sum())) > SURPRISED * max(spread, 1e-9) and (groups == 1 or spread >= 1):
        return True
    tails, level = np.concatenate([one.tails for one in choices]), UNIFORM / len(RARE) / groups
    return any(at_least(int((tails <= q).sum()), len(tails), q) < level for q in RARE)

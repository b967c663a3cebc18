"""Direct preference optimisation: of a right and a plausible wrong answer the right one should gain likelihood.

    loss = -log sigmoid(beta * ((log p(right) - log p0(right)) - (log p(wrong) - log p0(wrong))))

p is the network in training, p0 the one that the phase started from. Here the truth is known, so the pairs need no
judge: the wrong answer is the right one with one detail changed, the kind of slip the model makes.

Source: Rafailov et al., "Direct Preference Optimization" (2023), equation 7. Read next: `train.py`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from .grade import grade
from .network import Lean
from .packing import Sample, Turn
from .world import COLOUR_NAMES, SHAPES, Rng

BETA = 0.1
NAMES = re.compile(r"\b(" + "|".join([*COLOUR_NAMES, *SHAPES]) + r")\b")
FLIPS = {"Yes.": "No.", "No.": "Yes."}


def slip(rng: Rng, answer: str) -> str:
    """The answer with one detail wrong: yes for no, another colour or shape, or another digit."""
    if answer in FLIPS:
        return FLIPS[answer]
    spots = [m.span() for m in NAMES.finditer(answer.lower())] + [m.span() for m in re.finditer(r"\d", answer)
                                                                   if answer[m.start() - 1:m.end()] != "_2"]
    if not spots:
        return answer
    start, stop = spots[int(rng.integers(len(spots)))]
    old = answer[start:stop]
    pool = list("0123456789") if old.isdigit() else COLOUR_NAMES if old.lower() in COLOUR_NAMES else SHAPES
    new = str(rng.choice([word for word in pool if word != old.lower()]))
    text = answer[:start] + (new.capitalize() if old[0].isupper() else new) + answer[stop:]
    return re.sub(r"\b([Aa])n? (?=(\w))", lambda m: m[1] + ("n " if m[2] in "aeiou" else " "), text)


def paired(rng: Rng, sample: Sample) -> Sample:
    """Each question twice: with the right answer, then with a wrong one."""
    turns: list[Turn] = []
    for turn in sample.turns[:3]:
        wrong = slip(rng, turn.answer)
        task = "find" if turn.task == "find_text" else turn.task
        if not grade(task, wrong, turn.truth or turn.answer)["right"]:         # a box one pixel off is still right
            turns += [turn, replace(turn, answer=wrong)]
    return Sample(sample.clips, turns)


def log_probabilities(lean: Lean, b: dict[str, Any], features: torch.Tensor, read: Callable) -> torch.Tensor:
    """Log probability of every answer of a batch, in nats: (answers,). features: what the tower says, (m, d)."""
    logits = read(lean, b, features)[0].float()
    each = F.log_softmax(logits, dim=-1).gather(1, b["target"][:, None])[:, 0]
    return each.new_zeros(len(b["tasks"])).index_add(0, b["answer"], each)


class Preference:
    """The loss of a phase of preferences, in which the tower holds still; keeps a frozen copy of the network that it
    started from."""

    def __init__(self, lean: Lean):
        self.first = copy.deepcopy(lean).eval()
        for p in self.first.parameters():
            p.requires_grad_(False)

    def __call__(self, lean: Lean, b: dict[str, Any], features: torch.Tensor,
                 read: Callable) -> dict[str, torch.Tensor]:
        """`preference`, the loss, and the share of pairs in which the right answer gained on the wrong one. read:
        `Lean.read`, or `fused.read` for a batch in its layout."""
        with torch.no_grad():
            start = log_probabilities(self.first, b, features, read)
        gain = log_probabilities(lean, b, features, read) - start
        margin = gain[0::2] - gain[1::2]
        return {"preference": -F.logsigmoid(BETA * margin).mean(), "gained": (margin > 0).float().mean().detach()}

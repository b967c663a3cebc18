"""From logits to the next token: penalty, temperature, top-k, top-p, draw; in this order, as the
reference has it.

All of it runs in float32 (or float64) whatever the model's precision. Each row of logits (n, v) is one
conversation.

Read next: `run/generation.py`, the loop around these.
"""

from __future__ import annotations

import numpy as np

from ..door.stage import stage
from ..kernels.definition import least_first, log_softmax, wide


@stage("sampling.penalise", "n v, _, _, _ -> n v")
def penalise(logits: np.ndarray, prompts: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...],
             penalty: float
             ) -> np.ndarray:
    """Make every id that was seen, prompt and placeholders included, less likely: x/penalty, or
    x*penalty if negative.

    prompts, answers: the ids that each row was given and those that it has written so far; each id
        counts once.
    The official files ask for 1.05, also when decoding greedily, so an official answer is not the
    argmax of raw logits.
    Source: Keskar et al., 2019 (CTRL), section 4.1.
    """
    out = wide(logits).copy()
    factor = out.dtype.type(penalty)
    for row, prompt, answer in zip(out, prompts, answers, strict=True):
        known = np.union1d(prompt, answer)
        row[known] = np.where(row[known] < 0, row[known] * factor, row[known] / factor)
    return out


@stage("sampling.narrow_choice", "n v, _, _, _ -> n v")
def narrow_choice(logits: np.ndarray, temperature: float, top_k: int | None,
                  top_p: float | None) -> np.ndarray:
    """Logits over temperature, with everything outside the top k and the top share p set to the lowest
    finite number.

    top_k keeps ties with the k-th score. top_p keeps the smallest set of most likely tokens whose
    probabilities reach p, at least one (Holtzman et al., 2020).
    """
    out = wide(logits) / wide(logits).dtype.type(temperature)
    lowest = np.finfo(out.dtype).min                      # not -inf: what comes out of a stage is finite
    if top_k:
        place = -min(top_k, out.shape[-1])
        kth = np.partition(out, place, axis=-1)[:, place, None]                      # n 1
        out = np.where(out < kth, lowest, out)
    if top_p is not None and top_p < 1:
        order = least_first(out)                                                     # n v
        share = np.cumsum(np.exp(log_softmax(np.take_along_axis(out, order, -1))), axis=-1)
        drop = share <= 1 - top_p
        drop[:, -1] = False                                                  # the likeliest always stays
        np.put_along_axis(out, order, np.where(drop, lowest, np.take_along_axis(out, order, -1)), -1)
    return out


@stage("sampling.draw", "n v, _, _ -> n")
def draw(logits: np.ndarray, seed: int, step: int) -> np.ndarray:
    """One token for each row, with probability softmax(logits). The same seed and step draw the same
    number, whatever was drawn before and whichever conversations are packed beside, so that a run can
    be resumed at any token."""
    cumulative = np.cumsum(np.exp(log_softmax(logits).astype(np.float64)), axis=-1)      # n v
    at = np.random.default_rng((seed, step)).random() * cumulative[:, -1]                # n
    return np.array([np.searchsorted(row, u, side="right")
                     for row, u in zip(cumulative, at, strict=True)], np.int64)


@stage("sampling.most_likely", "n v -> n")
def most_likely(logits: np.ndarray) -> np.ndarray:
    """Greedy decoding: the highest score of each row, the first one among equals."""
    return np.argmax(wide(logits), axis=-1)

"""The exercises of lesson 14: how it was trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .filing import Trial, array, number, trials


def surprises(logits: np.ndarray, ids: list[int]) -> np.ndarray:
    """The surprise of each token but the first, by loops."""
    found = []
    for row, token in zip(logits.tolist(), ids[1:], strict=False):
        most = max(row)
        found.append(math.log(sum(math.exp(z - most) for z in row)) + most - row[token])
    return np.array(found)


@trials("14.1", "one number", number)
def sft_loss() -> Iterator[Trial]:
    draw = np.random.default_rng(141)
    logits, ids = 2 * draw.standard_normal((7, 5)), draw.integers(0, 5, 7)
    mask = np.array([1, 0, 0, 1, 1, 0, 1], bool)
    each = surprises(logits, ids.tolist())                                # of tokens 1 to 6
    here = surprises(logits, [0, *ids.tolist()])                          # of token i at row i
    wanted = each[mask[1:]].mean()
    yield Trial((logits, ids, mask), wanted, "should be {wanted}, yours is {got}", {
        "yours counts all tokens; the mask says which ones": each.mean(),
        "yours asks row i about token i, which it has read already; row i is about token i + 1": here[mask].mean(),
        "the mask is not shifted: mask[i] is about token i, so it goes with ids[1:]": each[mask[:-1]].mean(),
        "that is the sum; give the mean over the tokens that count": each[mask[1:]].sum(),
        "yours divides by all tokens; divide by those that count": each[mask[1:]].sum() / len(each),
        "yours divides by one too many: nothing predicts token 0": each[mask[1:]].sum() / mask.sum(),
        "the sign: a surprise is minus the logarithm of a probability, so never negative": -wanted,
        "that is log2; take the natural logarithm": wanted / math.log(2),
        "those are logits; softmax comes first": -logits[np.arange(6), ids[1:]][mask[1:]].mean()})
    yield Trial((np.array([[2000.0, 0], [0, 0]]), np.array([0, 1]), np.array([False, True])), 2000.0,
                "logits of 2000 and 0 should give a surprise of 2000, yours is {got}: subtract the largest before exp, and "
                "never take the logarithm of a probability that has become 0")


def infinite_when_it_overflows(mine: Callable, *numbers: float) -> Any:
    try:
        return mine(*numbers)
    except OverflowError:
        return math.inf


@trials("14.2", "one number", number, infinite_when_it_overflows)
def dpo_loss() -> Iterator[Trial]:
    def loss(margin: float, beta: float = 0.1) -> float:
        return math.log(1 + math.exp(-beta * margin))
    yield Trial((-3.0, -2.0, -3.5, -4.0, 0.1), loss(-1.5),                 # margin 0.5 - 2 = -1.5
                "a margin of -1.5 and beta 0.1 should give {wanted}, yours is {got}", {
        "the sign: when the right answer gains less than the wrong one, the loss is above ln 2 = 0.6931": loss(1.5),
        "yours leaves the log-probabilities from before out; it is about what each answer has gained": loss(-1.0),
        "beta is missing: it is multiplied by the margin": loss(-1.5, 1.0),
        "yours divides by beta; the margin is multiplied by it": loss(-1.5, 10.0),
        "the sign: the loss is minus the logarithm of a probability, so never negative": -loss(-1.5),
        "yours adds what the two answers have gained; take the difference": loss(2.5),
        "that is a sigmoid; the loss is minus its logarithm": 1 / (1 + math.exp(0.1 * -1.5)),
        "that is sigmoid(beta m); the loss is minus its logarithm": 1 / (1 + math.exp(-0.1 * -1.5))})
    yield Trial((-7.0, -9.0, -7.0, -9.0, 0.5), math.log(2), "before any step the loss is ln 2 = {wanted}, yours is {got}")
    for margin, wanted in ((-5000.0, 5000.0), (5000.0, 0.0)):
        yield Trial((margin, 0.0, 0.0, 0.0, 1.0), wanted, f"a margin of {margin:g} should give {{wanted}}, yours is "
                    "{got}: exp overflows; use np.logaddexp(0, x)")


def by_finite_difference(loss: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """The gradient, number by number: v d."""
    out = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        out[place] = (loss(up) - loss(down)) / 2e-5
    return out


def first_wrong_slope(got: np.ndarray, wanted: np.ndarray) -> str:
    at = tuple(np.argwhere(~np.isclose(got, wanted, 1e-4, 1e-7))[0])
    return (f"a finite difference at row {at[0]}, column {at[1]} gives {wanted[at]:.5f}, yours is {got[at]:.5f}")


@trials("14.3", "an array (v, d)", array)
def head_gradient() -> Iterator[Trial]:
    draw = np.random.default_rng(143)
    h, table, tokens = draw.standard_normal((3, 4)), draw.standard_normal((6, 4)), np.array([2, 5, 2])

    def slope(tau: float) -> np.ndarray:
        return by_finite_difference(lambda w: surprises(h @ w.T / tau, [0, *tokens.tolist()]).mean(), table)
    for tau in (1.0, 2.0):
        wanted, p = slope(tau), np.exp(h @ table.T / tau)
        p /= p.sum(axis=1, keepdims=True)
        yield Trial((h, table, tokens, tau), wanted, first_wrong_slope, {
            "the sign: this is the way down; the gradient is the way up": -wanted,
            "yours is the gradient of the sum; the mean divides by n": wanted * 3,
            "the factor 1/tau of the chain rule is missing: dz/dE is h / tau": wanted * tau,
            "the factors 1/tau of the chain rule and 1/n of the mean are missing": wanted * 3 * tau,
            "your softmax is of the undivided logits": slope(1.0),
            "yours has p alone; the token that came has p - 1": p.T @ h / (3 * tau)}, near=(1e-4, 1e-7))

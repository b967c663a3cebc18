"""The exercises about rounding and training: lessons 13 and 14."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .filing import Trial, array, number, trials

# ---- lesson 13

def to_eight_digits(x: np.ndarray, halves: Callable[[float], float] = round) -> np.ndarray:
    """To numbers of eight binary digits, as bfloat16 has them, by arithmetic; round is to even."""
    def one(number: float) -> float:
        unit = 2.0 ** (math.frexp(number)[1] - 8)                        # frexp: 0.5 <= |m| < 1
        return math.copysign(halves(abs(number) / unit) * unit, number)
    return np.array([one(float(number)) for number in x.ravel()], np.float32).reshape(x.shape)


def of_type(kind: Any, value: Any, wanted: Any) -> np.ndarray:
    found = array(value, wanted)
    assert found.dtype == kind, f"{np.dtype(kind)} should come out, yours is {found.dtype}"
    return found


def first_wrong(x: np.ndarray, got: np.ndarray, wanted: np.ndarray) -> str:
    bad = np.argwhere(got != wanted)
    at = tuple(bad[0])
    many = f"{len(bad)} of {x.size} are wrong"
    return f"{x[at]:.8g} should become {wanted[at]:.8g}, yours is {got[at]:.8g}; {many}"


@trials("13.1", "a float32 array", partial(of_type, np.float32))
def to_bfloat16() -> Iterator[Trial]:
    eighth = 2.0**-8
    x = np.array([1.0, -2.5, 0.0, 1 + eighth, 1 + 3 * eighth, -(1 + eighth), 1 + 1.5 * eighth, 1.996,
                  257.0, 1e-30, 3e38],
                 np.float32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    yield Trial((x,), to_eight_digits(x), partial(first_wrong, x), {
        "yours cuts the lower bits off; 1.996 lies next to 2, not "
        "1.9921875": to_eight_digits(x, math.floor),
        "that is float16: 3e38 became infinite; bfloat16 has 8 bits of exponent": half,
        "nothing is rounded: 1 + 1/256 has no bfloat16; the lower 16 bits must be 0": x,
        "1 + 1/256 lies in the middle between 1 and 1 + 1/128; the even neighbour is 1, yours goes up: "
        "a tie goes to the "
        "neighbour whose last bit is 0": to_eight_digits(x, lambda n: math.floor(n + 0.5)),
        "1 + 3/256 lies in the middle between 1 + 1/128 and 1 + 2/128; the even one is 1 + 2/128, yours "
        "goes down":
            to_eight_digits(x, lambda n: math.ceil(n - 0.5))}, near=(0, 0))
    many = (np.random.default_rng(13).standard_normal((40, 25)) * 10).astype(np.float32)
    yield Trial((many,), to_eight_digits(many), partial(first_wrong, many), near=(0, 0))


def how_often(got: np.ndarray, wanted: np.ndarray) -> str:
    return f"right up to rounding, but {(got != wanted).mean():.0%} of the numbers are rounded otherwise"


@trials("13.2", "a float16 array (n, d)", partial(of_type, np.float16))
def rms_norm_16() -> Iterator[Trial]:
    draw = np.random.default_rng(132)
    x = draw.standard_normal((6, 32)).astype(np.float16)
    weight = draw.uniform(0.5, 2, 32).astype(np.float16)

    def normed(x: np.ndarray) -> np.ndarray:
        y = x.astype(np.float32)
        return y / np.sqrt((y * y).mean(axis=1, keepdims=True) + np.float32(1e-6))
    wanted = normed(x).astype(np.float16) * weight
    yield Trial((x, weight, 1e-6), wanted, lambda got, wanted:
                f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}",
                {"the learned weight is missing": normed(x).astype(np.float16)}, near=(5e-3, 1e-3))
    loud = x * np.float16(400)
    yield Trial((loud, weight, 1e-6), normed(loud).astype(np.float16) * weight,
                "rows of size 400 give other numbers, 0, NaN or infinity: their squares overflow "
                "float16; form the mean in float32", near=(5e-3, 1e-3))
    yield Trial((x, weight, 1e-6), wanted, how_often, {
        "right, but rounded once too few. The reference rounds to float16 before it multiplies by the "
        "weight":
            (normed(x) * weight.astype(np.float32)).astype(np.float16)}, near=(0, 0))


# ---- lesson 14

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
        "yours asks row i about token i, which it has read already; row i is about token i + "
        "1": here[mask].mean(),
        "the mask is not shifted: mask[i] is about token i, so it goes with "
        "ids[1:]": each[mask[:-1]].mean(),
        "that is the sum; give the mean over the tokens that count": each[mask[1:]].sum(),
        "yours divides by all tokens; divide by those that count": each[mask[1:]].sum() / len(each),
        "yours divides by one too many: nothing predicts token 0": each[mask[1:]].sum() / mask.sum(),
        "the sign: a surprise is minus the logarithm of a probability, so never negative": -wanted,
        "that is log2; take the natural logarithm": wanted / math.log(2),
        "those are logits; softmax comes first": -logits[np.arange(6), ids[1:]][mask[1:]].mean()})
    yield Trial((np.array([[2000.0, 0], [0, 0]]), np.array([0, 1]), np.array([False, True])), 2000.0,
                "logits of 2000 and 0 should give a surprise of 2000, yours is {got}: subtract the "
                "largest before exp, and never take the logarithm of a probability that has become 0")


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
        "the sign: when the right answer gains less than the wrong one, the loss is above ln 2 = "
        "0.6931": loss(1.5),
        "yours leaves the log-probabilities from before out; it is about what each answer has "
        "gained": loss(-1.0),
        "beta is missing: it is multiplied by the margin": loss(-1.5, 1.0),
        "yours divides by beta; the margin is multiplied by it": loss(-1.5, 10.0),
        "the sign: the loss is minus the logarithm of a probability, so never negative": -loss(-1.5),
        "yours adds what the two answers have gained; take the difference": loss(2.5),
        "that is a sigmoid; the loss is minus its logarithm": 1 / (1 + math.exp(0.1 * -1.5)),
        "that is sigmoid(beta m); the loss is minus its logarithm": 1 / (1 + math.exp(-0.1 * -1.5))})
    yield Trial((-7.0, -9.0, -7.0, -9.0, 0.5), math.log(2),
                "before any step the loss is ln 2 = {wanted}, yours is {got}")
    for margin, wanted in ((-5000.0, 5000.0), (5000.0, 0.0)):
        yield Trial((margin, 0.0, 0.0, 0.0, 1.0), wanted,
                    f"a margin of {margin:g} should give {{wanted}}, yours is "
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
    return (f"a finite difference at row {at[0]}, column {at[1]} gives {wanted[at]:.5f}, yours is "
            f"{got[at]:.5f}")


@trials("14.3", "an array (v, d)", array)
def head_gradient() -> Iterator[Trial]:
    draw = np.random.default_rng(143)
    h, table, tokens = draw.standard_normal((3, 4)), draw.standard_normal((6, 4)), np.array([2, 5, 2])

    def slope(tau: float) -> np.ndarray:
        return by_finite_difference(lambda w: surprises(h @ w.T / tau, [0, *tokens.tolist()]).mean(),
                                    table)
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

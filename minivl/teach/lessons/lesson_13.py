"""The exercises of lesson 13: precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .filing import Trial, array, trials


def to_eight_digits(x: np.ndarray, halves: Callable[[float], float] = round) -> np.ndarray:
    """To numbers of eight binary digits, as bfloat16 has them, by arithmetic and not by bits; round is to even."""
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
    return f"{x[at]:.8g} should become {wanted[at]:.8g}, yours is {got[at]:.8g}; {len(bad)} of {x.size} are wrong"


@trials("13.1", "a float32 array", partial(of_type, np.float32))
def to_bfloat16() -> Iterator[Trial]:
    eighth = 2.0**-8
    x = np.array([1.0, -2.5, 0.0, 1 + eighth, 1 + 3 * eighth, -(1 + eighth), 1 + 1.5 * eighth, 1.996, 257.0, 1e-30, 3e38],
                 np.float32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    yield Trial((x,), to_eight_digits(x), partial(first_wrong, x), {
        "yours cuts the lower bits off; 1.996 lies next to 2, not 1.9921875": to_eight_digits(x, math.floor),
        "that is float16: 3e38 became infinite; bfloat16 has 8 bits of exponent": half,
        "nothing is rounded: 1 + 1/256 has no bfloat16; the lower 16 bits must be 0": x,
        "1 + 1/256 lies in the middle between 1 and 1 + 1/128; the even neighbour is 1, yours goes up: a tie goes to the "
        "neighbour whose last bit is 0": to_eight_digits(x, lambda n: math.floor(n + 0.5)),
        "1 + 3/256 lies in the middle between 1 + 1/128 and 1 + 2/128; the even one is 1 + 2/128, yours goes down":
            to_eight_digits(x, lambda n: math.ceil(n - 0.5))}, near=(0, 0))
    many = (np.random.default_rng(13).standard_normal((40, 25)) * 10).astype(np.float32)
    yield Trial((many,), to_eight_digits(many), partial(first_wrong, many), near=(0, 0))


def how_often(got: np.ndarray, wanted: np.ndarray) -> str:
    return f"right up to rounding, but {(got != wanted).mean():.0%} of the numbers are rounded otherwise"


@trials("13.2", "a float16 array (n, d)", partial(of_type, np.float16))
def rms_norm_16() -> Iterator[Trial]:
    draw = np.random.default_rng(132)
    x, weight = draw.standard_normal((6, 32)).astype(np.float16), draw.uniform(0.5, 2, 32).astype(np.float16)

    def normed(x: np.ndarray) -> np.ndarray:
        y = x.astype(np.float32)
        return y / np.sqrt((y * y).mean(axis=1, keepdims=True) + np.float32(1e-6))
    wanted = normed(x).astype(np.float16) * weight
    yield Trial((x, weight, 1e-6), wanted, lambda got, wanted:
                f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}",
                {"the learned weight is missing": normed(x).astype(np.float16)}, near=(5e-3, 1e-3))
    loud = x * np.float16(400)
    yield Trial((loud, weight, 1e-6), normed(loud).astype(np.float16) * weight,
                "rows of size 400 give other numbers, 0, NaN or infinity: their squares overflow float16; form the mean in "
                "float32", near=(5e-3, 1e-3))
    yield Trial((x, weight, 1e-6), wanted, how_often, {
        "right, but rounded once too few. The reference rounds to float16 before it multiplies by the weight":
            (normed(x) * weight.astype(np.float32)).astype(np.float16)}, near=(0, 0))

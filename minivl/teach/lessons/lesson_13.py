"""The checks of lesson 13: precision."""

from __future__ import annotations

import math

import numpy as np

from .filing import array, exercise


def _nearest(number: float) -> float:
    """The bfloat16 next to a number, ties to even: eight binary digits, by arithmetic and not by bits."""
    if number == 0:
        return 0.0
    _, exponent = math.frexp(number)                                     # 0.5 <= |m| < 1
    unit = 2.0 ** (exponent - 8)
    return round(number / unit) * unit                                   # Python rounds halves to even


def _cut(number: float) -> float:
    _, exponent = math.frexp(number)
    unit = 2.0 ** (exponent - 8)
    return math.trunc(number / unit) * unit


@exercise("13.1", "a float32 array")
def to_bfloat16(mine):
    eighth = 2.0**-8
    by_hand = [1.0, -2.5, 0.0, 1 + eighth, 1 + 3 * eighth, -(1 + eighth), 1 + 1.5 * eighth, 1.996, 257.0, 1e-30, 3e38]
    x = np.array(by_hand, np.float32)
    got = array(mine(x.copy()), x.shape, f"an array of {len(x)} numbers")
    assert got.dtype == np.float32, f"float32 should come out, yours is {got.dtype}"
    wanted = np.array([_nearest(float(n)) for n in x], np.float32)
    cut = np.array([_cut(float(n)) if n else 0.0 for n in x], np.float32)
    assert not np.array_equal(got, cut), "yours cuts the lower bits off; 1.996 lies next to 2, not 1.9921875"
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    assert not np.array_equal(got, half), "that is float16: 3e38 became infinite; bfloat16 has 8 bits of exponent"
    assert not np.array_equal(got, x), "nothing is rounded: 1 + 1/256 has no bfloat16; the lower 16 bits must be 0"
    assert got[3] == 1.0 or got[4] != wanted[4], (
        "1 + 1/256 lies in the middle between 1 and 1 + 1/128; the even neighbour is 1, yours goes up: a tie goes to "
        "the neighbour whose last bit is 0")
    assert got[4] == wanted[4], (
        f"1 + 3/256 lies in the middle between 1 + 1/128 and 1 + 2/128; the even one is {wanted[4]}, yours is {got[4]}")
    bad = np.flatnonzero(got != wanted)
    assert not len(bad), f"{x[bad[0]]:.8g} should become {wanted[bad[0]]:.8g}, yours is {got[bad[0]]:.8g}"
    many = (np.random.default_rng(13).standard_normal((40, 25)) * 10).astype(np.float32)
    wanted = np.array([[_nearest(float(n)) for n in row] for row in many], np.float32)
    got = array(mine(many.copy()), many.shape, "an array (40, 25)")
    bad_at = np.argwhere(got != wanted)
    assert not len(bad_at), (
        f"{many[tuple(bad_at[0])]:.8g} should become {wanted[tuple(bad_at[0])]:.8g}, yours is "
        f"{got[tuple(bad_at[0])]:.8g}; {len(bad_at)} of {many.size} are wrong")


@exercise("13.2", "a float16 array (n, d)")
def rms_norm_16(mine):
    draw = np.random.default_rng(132)
    x, weight = draw.standard_normal((6, 32)).astype(np.float16), draw.uniform(0.5, 2, 32).astype(np.float16)
    got = array(mine(x.copy(), weight, 1e-6), (6, 32), "x (6, 32)")
    assert got.dtype == np.float16, f"float16 should come out, yours is {got.dtype}"
    y = x.astype(np.float32)
    y = y / np.sqrt((y * y).mean(axis=1, keepdims=True) + np.float32(1e-6))
    wanted, late = y.astype(np.float16) * weight, (y * weight.astype(np.float32)).astype(np.float16)
    assert not np.array_equal(got, y.astype(np.float16)), "the learned weight is missing"
    assert np.allclose(got.astype(float), wanted.astype(float), rtol=5e-3, atol=1e-3), (
        f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}")
    with np.errstate(all="ignore"):
        loud = np.asarray(mine((x * np.float16(400)), weight, 1e-6)).astype(float)
    assert np.isfinite(loud).all() and np.abs(loud).max() > 0.1, (
        f"rows of size 400 give {'0' if np.isfinite(loud).all() else 'NaN or infinity'}: their squares overflow "
        "float16; form the mean in float32")
    same, also = (got == wanted).mean(), (got == late).mean()
    assert same > 0.999 or also <= same, (
        f"right, but rounded once too few: {1 - same:.0%} of the numbers differ. The reference rounds to float16 "
        "before it multiplies by the weight")
    assert same > 0.999, f"right up to rounding, but {1 - same:.0%} of the numbers are rounded otherwise"

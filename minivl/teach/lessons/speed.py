"""The exercises about kernels: lesson 17."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, array, number, trials

# ---- three parts

def summed(value: Any, wanted: Any) -> np.ndarray:
    """The sum of three parts in float64, which holds it exactly. AssertionError for other parts."""
    parts = array(value, np.zeros((3, *np.shape(wanted))))
    assert parts.dtype == np.float32, f"the parts should be float32, yours are {parts.dtype}"
    assert np.isfinite(parts).all(), ("a part is not finite: a number near 3e38 was rounded up; cut the "
                                      "lower bits off, so that no part is larger than the number")
    lower = np.ascontiguousarray(parts).view(np.uint32) & np.uint32(0xFFFF)
    assert not lower.any(), (f"{np.count_nonzero(lower)} of the parts' numbers are no bfloat16: their "
                             "lower 16 bits must be 0")
    total: np.ndarray = parts.astype(np.float64).sum(axis=0)
    return total


def upper_digits(x: np.ndarray) -> np.ndarray:
    """The upper 8 binary digits of each number, the others dropped, by arithmetic: float64."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    kept: np.ndarray = np.ldexp(np.trunc(fraction * 256) / 256, exponent)
    return kept


def how_far(got: np.ndarray, wanted: np.ndarray) -> str:
    """The remark about a sum that is not exact."""
    at = tuple(np.argwhere(got != wanted)[0])
    return (f"the sum of your parts should be {wanted[at]!r}, it is {got[at]!r}; "
            f"{(got != wanted).mean():.0%} of the numbers are off")


@trials("17.1", "three parts: float32 (3, ...)", summed)
def in_three() -> Iterator[Trial]:
    x = np.array([1.0, 1 / 3, -2 / 3, 257.0, 1 + 2.0**-23, 3.0e38, -1e-20, 0.0], np.float32)
    first = upper_digits(x)
    yield Trial((x,), x.astype(np.float64), how_far, {
        "those parts hold the upper 8 digits only; 24 are needed: go on with what is left": first,
        "two parts hold 16 digits; a float32 has 24: one more": first + upper_digits(x - first)},
        near=(0, 0))
    many = np.random.default_rng(171).standard_normal((30, 20)).astype(np.float32)
    yield Trial((many,), many.astype(np.float64), how_far, near=(0, 0))


# ---- rows in int8

def numbers_and_scales(value: Any, wanted: Any) -> np.ndarray:
    """Whole numbers and, as one column more, scales: (n, k + 1) float64."""
    assert isinstance(value, tuple) and len(value) == 2, "two things should come out: (numbers, scales)"
    rows, columns = wanted.shape[0], wanted.shape[1] - 1
    scales = np.asarray(value[1])
    assert scales.shape == (rows,), (f"one scale for each row, shape {[rows]}, yours is "
                                     f"{list(scales.shape)}")
    found = array(value[0], np.zeros((rows, columns)))
    assert found.dtype == np.int8, f"the numbers should be int8, yours are {found.dtype}"
    assert np.isfinite(scales).all() and (scales > 0).all(), (
        "a scale is 0 or not a number: a row of zeros needs a scale too, any one above 0")
    return np.concatenate([found, scales[:, None]], axis=1).astype(np.float64)


def by_rows(w: np.ndarray, rule: Any = round, steps: float = 127.0) -> np.ndarray:
    """Whole numbers and scales of each row, by loops, as `numbers_and_scales` puts them."""
    out = np.zeros((w.shape[0], w.shape[1] + 1))
    for row, numbers in enumerate(w.tolist()):
        scale = max(max(map(abs, numbers)), 1e-30) / steps
        out[row] = [*(max(-128, min(127, rule(value / scale))) for value in numbers), scale]
    return out


def in_words(got: np.ndarray, wanted: np.ndarray) -> str:
    """The remark about numbers or scales that are wrong."""
    row, column = np.argwhere(~np.isclose(got, wanted, rtol=1e-4, atol=0))[0]
    if column == wanted.shape[1] - 1:
        return f"the scale of row {row} should be {wanted[row, -1]:.6g}, yours is {got[row, -1]:.6g}"
    return (f"number {column} of row {row} should be {wanted[row, column]:.0f}, yours is "
            f"{got[row, column]:.0f}")


@trials("17.2", "whole numbers (n, k) and scales (n,)", numbers_and_scales)
def rows_in_int8() -> Iterator[Trial]:
    w = np.array([[1.0, -0.5, 0.26], [-4.0, 0.1, 2.0], [0.01, 0.02, -0.03]], np.float32)
    one = by_rows(w.reshape(1, -1))
    yield Trial((w,), by_rows(w), in_words, {
        "yours drops what is behind the point; take the nearest whole number": by_rows(w, int),
        "128 steps: then the largest number of a row becomes 128, which int8 does not have":
            by_rows(w, steps=128.0),
        "yours has one scale for the whole matrix; each row has its own": np.concatenate(
            [one[:, :-1].reshape(3, 3), np.full((3, 1), one[0, -1])], axis=1)}, near=(1e-4, 1e-12))
    zeros = np.array([[0, 0, 0], [3, -2, 1]], np.float32)
    got = by_rows(zeros)
    got[0, -1] = 1.0
    yield Trial((zeros,), got, "a row of zeros should become zeros, yours is {got}", near=(1e-4, 1e30))
    many = np.random.default_rng(172).standard_normal((7, 50)).astype(np.float32)
    yield Trial((many,), by_rows(many), in_words, near=(1e-4, 1e-12))


# ---- the least time

@trials("17.3", "one number, in seconds", number)
def least_seconds() -> Iterator[Trial]:
    yield Trial((1, 1000, 2000, 2, 1e9, 1e12), 0.004012, "should be {wanted}, yours is {got}", {
        "what goes in and out is missing: rows x (into + out) numbers of 4 bytes": 0.004,
        "that is the time of the products; here memory is the slower one": 4e-6,
        "that is the sum of both times; they pass at the same time: the longer one decides": 0.004016,
        "weights take `size` bytes each, not 4": 0.008012})
    yield Trial((500, 1000, 2000, 2, 2e9, 1e11), 0.02, "should be {wanted}, yours is {got}", {
        "that is the time of the memory; with 500 rows the products are the slower ones": 0.005,
        "a multiplication and its addition are two operations": 0.01,
        "that is the sum of both times; they pass at the same time: the longer one decides": 0.025})
    yield Trial((2, 128, 64, 0.5, 1e9, 1e12), (4096 + 1536) / 1e9, "should be {wanted}, yours is {got}",
                {"half a byte a weight is 4 bits: do not round `size`": 1536 / 1e9})

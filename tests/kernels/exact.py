"""Arithmetic that nobody doubts: numbers as fractions, one rounding by whole numbers, and an instruction's meaning
spelled out of them. It shares nothing with `emulator.py`, which is held to it.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

MANTISSA, LEAST = 24, -149                     # bits of a float32; its smallest step is 2^-149
NORMAL = Fraction(1, 2**126)


def float32(value: Fraction) -> float:
    """A fraction as the float32 that is nearest, of two equally near ones the even one; infinite beyond the largest."""
    if not value:
        return 0.0
    size = abs(value)
    top = size.numerator.bit_length() - size.denominator.bit_length()
    top -= size < Fraction(2) ** top           # 2^top <= size < 2^(top + 1)
    step = Fraction(2) ** max(top - MANTISSA + 1, LEAST)
    rounded = round(size / step) * step        # Python's own: to even
    return math.copysign(float(rounded) if rounded < 2**128 else math.inf, value)


def flush(x: float) -> float:
    """A denormal number as a zero of its sign."""
    return math.copysign(0.0, x) if abs(x) < NORMAL else x


def fma(x: float, y: float, z: float) -> float:
    """x * y + z of float32 numbers, rounded once."""
    if not all(map(math.isfinite, (x, y, z))):
        return x * y + z                       # infinities and NaN: float64 has the same rules and no overflow here
    value = Fraction(x) * Fraction(y) + Fraction(z)
    return float32(value) if value else x * y + z          # an exact zero has the sign that IEEE 754 says


def fma_flushed(x: float, y: float, z: float) -> float:
    """The same with denormals as zeros, in and out. A result is denormal when it is too small after rounding it as if
    exponents had no end: it does not become normal by being rounded up on the coarser grid of denormals."""
    x, y, z = flush(x), flush(y), flush(z)
    if not all(map(math.isfinite, (x, y, z))):
        return x * y + z
    value = Fraction(x) * Fraction(y) + Fraction(z)
    if value and abs(value) < 1 and abs(Fraction(float32(value * 2**64))) / 2**64 < NORMAL:
        return math.copysign(0.0, value)
    return float32(value) if value else x * y + z


def halves(word: int) -> tuple[float, float]:
    """The two bfloat16 numbers in a word, lower one first."""
    return tuple(float(np.array([bits << 16], np.uint32).view(np.float32)[0]) for bits in (word & 0xFFFF, word >> 16))


def bytes_of(word: int, signed: bool) -> list[int]:
    """The four bytes of a word, lowest first."""
    return [part - 256 if signed and part > 127 else part for part in (word >> 8 * i & 255 for i in range(4))]


def wrapped(value: int) -> int:
    """An integer as int32 keeps it."""
    return (value + 2**31) % 2**32 - 2**31


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same bits, signs of zeros too; one NaN is as good as another."""
    a, b = np.asarray(a, np.float32).reshape(-1), np.asarray(b, np.float32).reshape(-1)
    return a.shape == b.shape and bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))))

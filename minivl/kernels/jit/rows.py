"""Kernels that go through rows once: norms, rotation, activations, sums. Each rounds where its
definition rounds; statistics are float32.

Every function is `(me, team, ...)` over arrays in one piece, float32 or bfloat16 bits.

Read next: `__init__.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .numbers import F32, U32, exponential, get, put, rounded

Compile = Callable[[Any], Any]


def rms_norm(compile: Compile) -> Any:
    """Rows divided by their root mean square, rounded, then times the weight."""
    normalise = compile(normalise_row)

    def share(me: int, team: int, x: Any, weight: Any, eps: float, out: Any, height: int,
              d: int) -> None:
        """x, out (height * d), weight (d)"""
        for row in range(me * height // team, (me + 1) * height // team):
            normalise(x, row * d, weight, eps, out, row * d, d)
    return compile(share)


def normalise_row(x: Any, at: int, weight: Any, eps: float, out: Any, to: int, d: int) -> None:
    """x (d) from `at` -> out (d) from `to`"""
    squares = np.zeros(16, F32)                               # sums side by side: they become vectors
    for i in range(d // 16 * 16):
        squares[i % 16] += get(x, at + i) * get(x, at + i)
    for i in range(d // 16 * 16, d):
        squares[i % 16] += get(x, at + i) * get(x, at + i)
    total = 0.0
    for i in range(16):
        total += squares[i]
    factor = F32(F32(1) / F32(math.sqrt(F32(F32(total / d) + F32(eps)))))
    for i in range(d):
        put(out, to + i, rounded(out, get(x, at + i) * factor) * get(weight, i))


def rotate(compile: Compile) -> Any:
    """The pair (x[i], x[i + e/2]) of every head turned by its row's angle i, in the type of `cos`."""
    turn = compile(turn_head)

    def share(me: int, team: int, x: Any, cos: Any, sin: Any, out: Any, height: int, heads: int,
              half: int) -> None:
        """x, out (height * heads * 2 * half), cos, sin (height * half)"""
        for row in range(me * height // team, (me + 1) * height // team):
            for head in range(heads):
                first = (row * heads + head) * 2 * half
                turn(x, first, cos, sin, row * half, out, first, half)
    return compile(share)


def turn_head(x: Any, at: int, cos: Any, sin: Any, angle: int, out: Any, to: int, half: int) -> None:
    """One head (2 * half) from `at`, by the angles from `angle` -> out from `to`"""
    for i in range(half):
        c, s = get(cos, angle + i), get(sin, angle + i)
        a, b = get(x, at + i), get(x, at + half + i)
        put(out, to + i, rounded(cos, a * c) - rounded(cos, b * s))
        put(out, to + half + i, rounded(cos, b * c) + rounded(cos, a * s))


def swiglu(compile: Compile) -> Any:
    """silu(gate) * up, of rows that hold gate and up side by side."""
    def share(me: int, team: int, x: Any, out: Any, height: int, h: int) -> None:
        """x (height * 2 h) -> out (height * h); each thread does its columns of every row"""
        for row in range(height):
            for i in range(me * h // team, (me + 1) * h // team):
                gate = get(x, row * 2 * h + i)
                silu = rounded(out, gate / (F32(1) + exponential(F32(-gate))))
                put(out, row * h + i, silu * get(x, row * 2 * h + h + i))
    return compile(share)


def gelu(compile: Compile) -> Any:
    """x * Phi(x) by the exact error function, in float64 inside."""
    def share(me: int, team: int, x: Any, out: Any, size: int) -> None:
        """x, out (size)"""
        for i in range(me * size // team, (me + 1) * size // team):
            value = get(x, i)
            put(out, i, F32(value * F32(0.5) * (1 + math.erf(value * math.sqrt(0.5)))))
    return compile(share)


def add(compile: Compile) -> Any:
    """x + y"""
    def share(me: int, team: int, x: Any, y: Any, out: Any, size: int) -> None:
        """x, y, out (size)"""
        for i in range(me * size // team, (me + 1) * size // team):
            put(out, i, get(x, i) + get(y, i))
    return compile(share)


def least_first(compile: Compile) -> Any:
    """The order of the numbers of each row, least first: three passes of a radix sort, each by 11 bits and
    stable. float32 numbers as bits are in order once the sign is made a bit like others and negative ones
    are turned around."""
    def share(me: int, team: int, x: Any, out: Any, height: int, width: int) -> None:
        """x, out (height * width)"""
        keys, other = np.empty(width, U32), np.empty(width, np.int64)
        for row in range(me * height // team, (me + 1) * height // team):
            order = out[row * width:(row + 1) * width]
            for i in range(width):
                bits = F32(get(x, row * width + i) + F32(0)).view(U32)      # -0 is 0
                keys[i] = U32(~bits) if bits >> U32(31) else U32(bits | U32(0x80000000))
                other[i] = i
            for shift in (U32(0), U32(11), U32(22)):
                begins = np.zeros(2049, np.int64)
                for i in range(width):
                    begins[(keys[i] >> shift & U32(2047)) + U32(1)] += 1
                for digit in range(2048):
                    begins[digit + 1] += begins[digit]
                for i in range(width):
                    digit = keys[other[i]] >> shift & U32(2047)
                    order[begins[digit]] = other[i]
                    begins[digit] += 1
                other[:] = order
    return compile(share)

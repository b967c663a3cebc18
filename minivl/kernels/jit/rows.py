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

from .numbers import F32, exponential, get, put, rounded

Compile = Callable[[Any], Any]


def rms_norm(compile: Compile) -> Any:
    """Rows divided by their root mean square, rounded, then times the weight."""
    def share(me: int, team: int, x: Any, weight: Any, eps: float, out: Any, height: int,
              d: int) -> None:
        """x, out (height * d), weight (d)"""
        for row in range(me * height // team, (me + 1) * height // team):
            squares = np.zeros(16, F32)                       # sums side by side: they become vectors
            for i in range(d // 16 * 16):
                squares[i % 16] += get(x, row * d + i) * get(x, row * d + i)
            for i in range(d // 16 * 16, d):
                squares[i % 16] += get(x, row * d + i) * get(x, row * d + i)
            total = 0.0
            for i in range(16):
                total += squares[i]
            factor = F32(F32(1) / F32(math.sqrt(F32(F32(total / d) + F32(eps)))))
            for i in range(d):
                put(out, row * d + i, rounded(out, get(x, row * d + i) * factor) * get(weight, i))
    return compile(share)


def rotate(compile: Compile) -> Any:
    """The pair (x[i], x[i + e/2]) of every head turned by its row's angle i, in the type of `cos`."""
    def share(me: int, team: int, x: Any, cos: Any, sin: Any, out: Any, height: int, heads: int,
              half: int) -> None:
        """x, out (height * heads * 2 * half), cos, sin (height * half)"""
        for row in range(me * height // team, (me + 1) * height // team):
            for head in range(heads):
                first = (row * heads + head) * 2 * half
                for i in range(half):
                    c, s = get(cos, row * half + i), get(sin, row * half + i)
                    a, b = get(x, first + i), get(x, first + half + i)
                    put(out, first + i, rounded(cos, a * c) - rounded(cos, b * s))
                    put(out, first + half + i, rounded(cos, b * c) + rounded(cos, a * s))
    return compile(share)


def swiglu(compile: Compile) -> Any:
    """silu(gate) * up, of rows that hold gate and up side by side."""
    def share(me: int, team: int, x: Any, out: Any, height: int, h: int) -> None:
        """x (height * 2 h) -> out (height * h)"""
        for row in range(me * height // team, (me + 1) * height // team):
            for i in range(h):
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

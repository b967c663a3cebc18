"""Compiled loops between the products of matrices in training: each passes over its rows once.

Arrays are float32 or bfloat16 (torch tensors), and every loop takes either: what enters a product is
narrow where `network.ROUND` says so, and so is what comes out of it; sums, norms, softmax and the rows
that run past the layers are float32. Loops are made by Numba for the tier of this processor, with the
words of the compiled interpreter (`minivl/kernels/jit`), and kept on disk by the same rule.

Not here: attention (`attending.py`). Read next: `fused.py`, which makes functions of them.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba.extending import register_jitable

from minivl.kernels.jit.attention_bf16 import power_of_two
from minivl.kernels.jit.build import Maker
from minivl.kernels.jit.numbers import F32, LOG2_E, get, put
from minivl.kernels.jit.tiers import chosen

Compile = Callable[[Any], Any]
LANES = 16                                     # sums side by side: they become vectors


def compiler(source: str, *about: Any) -> Maker:
    """What compiles the loops of a file. about: what they are made with; code that is kept on disk is
    known by the file and by this."""
    made = Maker(chosen())
    made.key = ("tools.train_tiny", digest(source), *about)
    return made


@functools.cache
def digest(source: str) -> str:
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()


@functools.cache
def loop(make: Callable[[Compile], Any]) -> Any:
    """A compiled loop of this file by the function that makes it."""
    return make(compiler(__file__).compile)


def flat(x: torch.Tensor) -> np.ndarray:
    """A tensor in one piece as compiled code takes it: one axis, bfloat16 as bits; not copied."""
    x = x.detach().view(-1)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


# ------------------------------------------------------------------------------------------------- norms

def _total(x: Any, sums: Any) -> Any:
    """The sum of x, whose length is a multiple of LANES: so many are added up side by side, in `sums`."""
    sums[:] = 0
    for i in range(0, len(x), LANES):
        for lane in range(LANES):
            sums[lane] += get(x, i + lane)
    return sums.sum()


def normalising(compile: Compile) -> Any:
    """RMS norm without its gain."""
    total = compile(_total)

    def run(x: Any, out: Any, factors: Any, d: int, eps: float) -> None:
        """x (p * d) -> out (p * d), and the factor of each row (p)"""
        squares, sums = np.empty(d, F32), np.empty(LANES, F32)
        for row in range(len(factors)):
            for i in range(d):
                put(squares, i, get(x, row * d + i) * get(x, row * d + i))
            factor = F32(1 / math.sqrt(total(squares, sums) / d + eps))
            factors[row] = factor
            for i in range(d):
                put(out, row * d + i, get(x, row * d + i) * factor)
    return compile(run)


def normalising_back(compile: Compile) -> Any:
    """From the gradient g of what a norm gave to that of its rows: factor (g - n mean(g n)), and `past`,
    the gradient that went past the norm."""
    total = compile(_total)

    def run(g: Any, x: Any, factors: Any, past: Any, out: Any, d: int) -> None:
        """g, x, past, out (p * d), factors (p)"""
        products, sums = np.empty(d, F32), np.empty(LANES, F32)
        for row in range(len(factors)):
            for i in range(d):
                put(products, i, get(g, row * d + i) * get(x, row * d + i))
            factor = factors[row]
            along = F32(total(products, sums) * factor * factor / d)
            for i in range(d):
                inside = get(g, row * d + i) - get(x, row * d + i) * along
                put(out, row * d + i, get(past, row * d + i) + inside * factor)
    return compile(run)


def norm(x: torch.Tensor, narrow: torch.dtype, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (p, d) over their root mean square, in type `narrow`, and the factor of each (p)."""
    out, factors = torch.empty_like(x, dtype=narrow), x.new_empty(len(x))
    loop(normalising)(flat(x), flat(out), flat(factors), x.shape[1], eps)
    return out, factors


def norm_back(g: torch.Tensor, x: torch.Tensor, factors: torch.Tensor,
              past: torch.Tensor) -> torch.Tensor:
    """The gradient of x (p, d) from that of its norm."""
    out = torch.empty_like(x)
    loop(normalising_back)(flat(g), flat(x), flat(factors), flat(past), flat(out), x.shape[1])
    return out


# ------------------------------------------------------------------------------------------- activation

@register_jitable
def opening_of(x: Any) -> Any:
    """1 / (1 + exp(-x)) within 3e-6 of itself"""
    small = power_of_two(F32(-abs(x) * LOG2_E))
    return (F32(1) if x >= 0 else small) / (F32(1) + small)


def opening(compile: Compile) -> Any:
    """silu(gate) * up, of rows that hold gate and up side by side, with a bias before."""
    def run(inner: Any, bias: Any, out: Any, m: int) -> None:
        """inner (p * 2m), bias (2m) -> out (p * m)"""
        for row in range(len(out) // m):
            for i in range(m):
                gate = get(inner, 2 * row * m + i) + bias[np.uintp(i)]
                up = get(inner, 2 * row * m + m + i) + bias[np.uintp(m + i)]
                put(out, row * m + i, gate * opening_of(gate) * up)
    return compile(run)


def opening_back(compile: Compile) -> Any:
    """The gradient of `inner` from that of `opening`, and of the bias."""
    def run(g: Any, inner: Any, bias: Any, out: Any, sums: Any, m: int) -> None:
        """g (p * m), inner (p * 2m), bias (2m) -> out (p * 2m), sums (2m)"""
        for row in range(len(g) // m):
            for i in range(m):
                given = get(g, row * m + i)
                gate = get(inner, 2 * row * m + i) + bias[np.uintp(i)]
                up = get(inner, 2 * row * m + m + i) + bias[np.uintp(m + i)]
                share = opening_of(gate)
                d_up = given * gate * share
                d_gate = given * up * share * (F32(1) + gate * (F32(1) - share))
                sums[np.uintp(i)] += d_gate
                sums[np.uintp(m + i)] += d_up
                put(out, 2 * row * m + i, d_gate)
                put(out, 2 * row * m + m + i, d_up)
    return compile(run)


def opened(inner: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """silu(gate) * up (p, m) of inner (p, 2m), to which a bias (2m) belongs."""
    m = inner.shape[1] // 2
    out = inner.new_empty(len(inner), m)
    loop(opening)(flat(inner), _bias(bias, 2 * m), flat(out), m)
    return out


def opened_back(g: torch.Tensor, inner: torch.Tensor,
                bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of inner (p, 2m) and of its bias (2m)."""
    out, sums = torch.empty_like(inner), torch.zeros(inner.shape[1])
    loop(opening_back)(flat(g), flat(inner), _bias(bias, len(sums)), flat(out), flat(sums), g.shape[1])
    return out, sums


def _bias(bias: torch.Tensor | None, size: int) -> np.ndarray:
    return np.zeros(size, np.float32) if bias is None else flat(bias)


# ------------------------------------------------------------------------------------------------- sums

def summing(compile: Compile) -> Any:
    """x + y + bias"""
    def run(x: Any, y: Any, bias: Any, out: Any) -> None:
        """x, y, out (p * d), bias (d)"""
        d = len(bias)
        for row in range(len(out) // d):
            for i in range(d):
                put(out, row * d + i, get(x, row * d + i) + get(y, row * d + i) + bias[np.uintp(i)])
    return compile(run)


def narrowing(compile: Compile) -> Any:
    """Rows in another type, and the sum of each column as it was."""
    def run(x: Any, out: Any, sums: Any) -> None:
        """x (p * d) -> out (p * d), sums (d)"""
        d = len(sums)
        for row in range(len(x) // d):
            for i in range(d):
                sums[np.uintp(i)] += get(x, row * d + i)
                put(out, row * d + i, get(x, row * d + i))
    return compile(run)


def summed(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x + y + bias, float32: (p, d)."""
    out = torch.empty_like(x)
    loop(summing)(flat(x), flat(y), _bias(bias, x.shape[1]), flat(out))
    return out


def narrowed(x: torch.Tensor, narrow: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (p, d) in type `narrow`, and the sums of their columns (d)."""
    x = x.contiguous()
    out, sums = torch.empty_like(x, dtype=narrow), torch.zeros(x.shape[1])
    loop(narrowing)(flat(x), flat(out), flat(sums))
    return out, sums

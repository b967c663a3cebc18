"""Norms and the residual sum: rows of no whole vectors, rows that are nearly zero, rows of large numbers."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.tree import Norm
from minivl.checkpoint.weight import weight
from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, FLOAT32, HALF_DIGIT, TYPES, Case, U, drawn, sent, wide

EPS = 1e-6


def norm_case(rung: str, dtype: np.dtype, n: int, d: int, seed: int, scale: float = 1.0, more: bool = False) -> Case:
    rng = np.random.default_rng(seed)
    x, w = drawn(rng, (n, d), dtype, scale), drawn(rng, (d,), dtype)
    y = drawn(rng, (n, d), dtype, scale) if more else None
    stream = x if y is None else x + y
    exact = Norm(weight(wide(w)), EPS)
    expected = definition.rms_norm.definition(wide(stream), exact)
    digit = 1.01 * HALF_DIGIT[dtype.name]
    bound = np.abs(expected) * (2 * digit + (d + 16) * U) + 1e-30
    like = definition.rms_norm.definition(stream, Norm(weight(w), EPS))

    def run(machine):
        device_x, given = sent(machine, x), machine.device.upload(w.astype(np.float32))
        if y is None:
            return arrays.to_host(calls.rms_norm(device_x, given, EPS, rung))
        out = arrays.empty(machine, x.shape, dtype)
        calls.add_norm_into(device_x, sent(machine, y), given, EPS, out)
        return np.stack([arrays.to_host(out), arrays.to_host(device_x)])

    if more:
        expected, bound, like = (
            np.stack(pair) for pair in ((expected, wide(stream)), (bound, 0 * bound), (like, stream))
        )
    return Case(
        f"{rung} {dtype.name} {n} {d}, numbers of {scale:g}, more {more}",
        run,
        expected,
        bound,
        like if dtype == BFLOAT16 else None,
        0.97,
    )


def add_case(dtype: np.dtype, n: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    x, y = drawn(rng, (n, 3), dtype), drawn(rng, (n, 3), dtype)
    return Case(
        f"add {dtype.name} {n}",
        lambda machine: arrays.to_host(calls.add(sent(machine, x), sent(machine, y))),
        wide(x + y),
        0.0,
    )


def cases() -> list[Case]:
    found = []
    for dtype in TYPES:
        for rung in ("naive", "block", "vectorised"):
            found += [norm_case(rung, dtype, 3, 264, 0), norm_case(rung, dtype, 2, 2048, 1, 1e-4)]
        found += [
            norm_case("naive", dtype, 300, 5, 2),
            norm_case("block", dtype, 4, 301, 3),
            norm_case("vectorised", dtype, 3, 520, 4, more=True),
            add_case(dtype, 100, 5),
        ]
    return [*found, norm_case("block", FLOAT32, 1, 1, 6)]

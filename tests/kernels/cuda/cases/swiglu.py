"""silu(gate) * up, with gates so low that exp overflows."""

from __future__ import annotations

import numpy as np

from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, HALF_DIGIT, TYPES, Case, U, drawn, sent, wide


def swiglu_case(dtype: np.dtype, n: int, h: int, seed: int) -> Case:
    x = drawn(np.random.default_rng(seed), (n, 2 * h), dtype, 3.0)
    x[0, 0], x[-1, h - 1] = -1000.0, 60.0
    with np.errstate(over="ignore"):
        right, like = (definition.swiglu.definition(one) for one in (wide(x), x))
    gate = np.abs(wide(x)[:, :h])
    bound = (2.02 * HALF_DIGIT[dtype.name] + (8 + 4 * gate) * U) * np.abs(right) + 1e-30
    return Case(
        f"swiglu {dtype.name} {n} {h}",
        lambda machine: arrays.to_host(calls.swiglu(sent(machine, x))),
        right,
        bound,
        like if dtype == BFLOAT16 else None,
        0.97,
    )


def cases() -> list[Case]:
    return [swiglu_case(dtype, n, h, n) for dtype in TYPES for n, h in [(1, 300), (7, 37), (300, 1)]]

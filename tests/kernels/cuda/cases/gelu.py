"""The merger's GELU, far out on both sides."""

from __future__ import annotations

import numpy as np

from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, HALF_DIGIT, TYPES, Case, U, drawn, sent, wide


def gelu_case(dtype: np.dtype, n: int, seed: int) -> Case:
    x = drawn(np.random.default_rng(seed), (n, 3), dtype, 2.0)
    x[0], x[-1] = -9.0, 9.0
    right, like = (definition.gelu.definition(one) for one in (wide(x), x))
    # 1 + erf loses digits where x is low: its own rounding counts, times x / 2
    bound = 1.01 * HALF_DIGIT[dtype.name] * np.abs(right) + 8 * U * np.abs(wide(x))
    return Case(
        f"gelu {dtype.name} {n}",
        lambda machine: arrays.to_host(calls.gelu(sent(machine, x))),
        right,
        bound,
        like if dtype == BFLOAT16 else None,
        0.97,
    )


def cases() -> list[Case]:
    return [gelu_case(dtype, n, n) for dtype in TYPES for n in (1, 86, 200)]

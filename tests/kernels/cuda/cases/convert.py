"""From one storage to the other: halves to even, infinity, NaN, the smallest numbers; and a product's sums finished."""

from __future__ import annotations

import numpy as np

from minivl.kernels.cuda import arrays
from minivl.kernels.cuda.device import Launcher

from . import BFLOAT16, FLOAT32, HALF_DIGIT, TYPES, Case, U, drawn, sent, wide

# 1 + 2^-8 lies half way and goes down to even, 1 + 3 * 2^-8 goes up; 3.4e38 is beyond the largest bfloat16
TRAPS = np.array(
    [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 3.3895e38, 3.4e38, 1e-40, 2.0**-149, -1.5], np.float32
)


def bits(x: np.ndarray) -> np.ndarray:
    """Bits as numbers, so that NaN, -0 and infinity are compared too."""
    return x.view(np.uint16 if x.dtype == BFLOAT16 else np.uint32).astype(np.float64)


def narrow_case(n: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    any_bits = rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    x = np.concatenate([TRAPS, [np.inf, -np.inf], any_bits[np.isfinite(any_bits)]]).astype(np.float32)
    with np.errstate(over="ignore"):
        right = bits(x.astype(BFLOAT16))

    def run(machine: Launcher) -> np.ndarray:
        return bits(arrays.to_host(sent(machine, x).astype(BFLOAT16)))

    return Case(f"to bfloat16 {len(x)}", run, right)


def nan_case() -> Case:
    x = np.array([0x7F800001, 0x7FC00000, 0xFFFFFFFF, 0x7F80FFFF], np.uint32).view(np.float32)

    def run(machine: Launcher) -> np.ndarray:
        return np.isnan(arrays.to_host(sent(machine, x).astype(BFLOAT16)).astype(np.float32))

    return Case("NaN to bfloat16", run, np.ones(4))


def widen_case(n: int, seed: int) -> Case:
    x = np.random.default_rng(seed).integers(0, 2**16, n, dtype=np.uint16).view(BFLOAT16)
    x = x[np.isfinite(x.astype(np.float32))]
    return Case(
        f"to float32 {n}",
        lambda machine: bits(arrays.to_host(sent(machine, x).astype(FLOAT32))),
        bits(x.astype(np.float32)),
    )


def finish_case(dtype: np.dtype, n: int, d: int, bias: bool, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    x, b = drawn(rng, (n, d), FLOAT32), drawn(rng, (d,), FLOAT32)
    right = wide(x) + wide(b) * bias

    def run(machine: Launcher) -> np.ndarray:
        out = arrays.empty(machine, (n, d), dtype)
        args = (sent(machine, x).flat, sent(machine, b).flat, out.flat, np.int64(n), np.int32(d), np.int32(bias))
        machine("convert", "finish", (-(-n * d // 256),), 256, args, BF16=int(dtype == BFLOAT16))
        return arrays.to_host(out)

    return Case(
        f"finish {dtype.name} {n} {d}, bias {bias}",
        run,
        right,
        1.01 * HALF_DIGIT[dtype.name] * np.abs(right) + U * np.abs(right),
    )


def cases() -> list[Case]:
    return [
        narrow_case(600, 0),
        nan_case(),
        widen_case(700, 1),
        *(finish_case(dtype, 5, 77, bias, 2) for dtype in TYPES for bias in (False, True)),
    ]

"""Rotary embedding: rows that lie apart, both types of angles, and keys and values written into a cache."""

from __future__ import annotations

import numpy as np

from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, FLOAT32, HALF_DIGIT, Case, drawn, sent, wide


def angles(rng: np.random.Generator, n: int, e: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    turns = rng.uniform(-30, 30, size=(n, e // 2)).astype(np.float32)
    return definition.cos_sin.definition(turns, dtype)


def bounded(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The turned heads in float64, a bound (two products and a sum, each rounded to the type of the angles, then to
    that of x), and the definition's own."""
    right = definition.rotate.definition(wide(x), wide(cos), wide(sin))
    size = definition.rotate.definition(np.abs(wide(x)), np.abs(wide(cos)), -np.abs(wide(sin)))
    first = np.abs(size[..., : x.shape[-1] // 2])  # |a c| + |b s|
    second = np.abs(definition.rotate.definition(np.abs(wide(x)), np.abs(wide(cos)), np.abs(wide(sin))))
    sizes = np.concatenate([first, second[..., x.shape[-1] // 2 :]], axis=-1)
    digits = 2 * HALF_DIGIT[cos.dtype.name] + HALF_DIGIT[x.dtype.name]
    return right, 1.01 * digits * sizes + 1e-30, definition.rotate.definition(x, cos, sin)


def rotate_case(dtype: np.dtype, turn: np.dtype, e: int, heads: int, n: int, seed: int, apart: int = 0) -> Case:
    """apart: further heads in each row, which are not turned."""
    rng = np.random.default_rng(seed)
    x, (cos, sin) = drawn(rng, (n, heads + apart, e), dtype), angles(rng, n, e, turn)
    right, bound, like = bounded(x[:, :heads], cos, sin)

    def run(machine):
        whole = sent(machine, x)
        return arrays.to_host(calls.rotate(whole[:, :heads], sent(machine, cos), sent(machine, sin)))

    return Case(
        f"{dtype.name} by {turn.name} {n} {heads} {e}, {apart} apart",
        run,
        right,
        bound,
        like,
        0.9 if dtype == BFLOAT16 else 0.0,
    )


def cache_case(dtype: np.dtype, turn: np.dtype, e: int, heads: int, kv: int, n: int, seed: int) -> Case:
    """Queries, and a cache with rows before, between and after those that are written."""
    rng = np.random.default_rng(seed)
    qkv, (cos, sin) = drawn(rng, (n, heads + 2 * kv, e), dtype), angles(rng, n, e, turn)
    rows = 1 + 2 * rng.permutation(n)
    before = drawn(rng, (2, 2 * n + 2, kv, e), dtype)
    right, bound, _ = bounded(qkv[:, : heads + kv], cos, sin)
    expected, bounds = wide(before), np.zeros(before.shape)
    expected[0, rows], bounds[0, rows] = right[:, heads:], bound[:, heads:]
    expected[1, rows] = wide(qkv[:, heads + kv :])

    def run(machine):
        q, k, v = arrays.empty(machine, (n, heads, e), dtype), sent(machine, before[0]), sent(machine, before[1])
        calls.rotate_into_cache(
            sent(machine, qkv.reshape(n, -1)),
            sent(machine, cos),
            sent(machine, sin),
            arrays.integers(machine, rows),
            q,
            k,
            v,
        )
        return np.concatenate([arrays.to_host(one).reshape(-1) for one in (q, k, v)])

    return Case(
        f"into the cache {dtype.name} by {turn.name} {n} {heads}/{kv} {e}",
        run,
        np.concatenate([right[:, :heads].reshape(-1), expected.reshape(-1)]),
        np.concatenate([bound[:, :heads].reshape(-1), bounds.reshape(-1)]),
    )


def cases() -> list[Case]:
    return [
        rotate_case(FLOAT32, FLOAT32, 48, 3, 11, 0, apart=2),
        rotate_case(BFLOAT16, FLOAT32, 80, 4, 5, 1),
        rotate_case(BFLOAT16, BFLOAT16, 128, 1, 9, 2, apart=1),
        cache_case(FLOAT32, FLOAT32, 48, 4, 2, 7, 3),
        cache_case(BFLOAT16, BFLOAT16, 128, 3, 1, 3, 4),
        rotate_case(FLOAT32, FLOAT32, 64, 1, 1, 5),
    ]

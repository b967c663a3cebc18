"""Attention inside segments: ragged lengths, one-row segments, several query heads of a key-value head, heads that no
tile divides, segments that see more keys than they have queries, rows that see nothing."""

from __future__ import annotations

import numpy as np

from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, FLOAT32, HALF_DIGIT, Case, U, drawn, sent, wide

RUNGS = ("naive", "tiled", "vectorised")
# queries, and how many keys each run of them sees before its own
SHAPES = [((1, 33, 20), (0, 0, 0)), ((7,), (26,)), ((32, 5), (1, 64)), ((70,), (0,))]


def table(lengths: tuple[int, ...], before: tuple[int, ...], gap: int = 0) -> tuple[np.ndarray, int, int]:
    """Segments of so many queries, that see so many keys before their own; rows of q and k in all. gap: rows of q after
    the last, which nobody asks for."""
    rows, q0, k0 = [], 0, 0
    for n, earlier in zip(lengths, before, strict=True):
        rows.append((q0, q0 + n, k0, k0 + earlier + n))
        q0, k0 = q0 + n, k0 + earlier + n
    return np.array(rows, np.int64), q0 + gap, k0


def attention_case(
    rung: str,
    dtype: np.dtype,
    e: int,
    heads: tuple[int, int],
    lengths: tuple[int, ...],
    before: tuple[int, ...],
    causal: bool,
    seed: int,
    gap: int = 0,
    joined: bool = True,
    spread: float = 1.0,
) -> Case:
    """One call. joined: q, k and v are columns of one product, as in a block; else arrays of their own."""
    rng = np.random.default_rng(seed)
    (a, kv), (segments, n, r) = heads, table(lengths, before, gap)
    joined = joined and n == r
    q, k, v = drawn(rng, (n, a, e), dtype, spread), drawn(rng, (r, kv, e), dtype), drawn(rng, (r, kv, e), dtype)
    expected, bound = answer(q, k, v, segments, causal, tensor=rung == "tensor")

    def run(machine):
        if joined:
            whole = sent(machine, np.concatenate([q, k, v], axis=1).reshape(n, -1)).reshape(n, -1, e)
            parts = whole[:, :a], whole[:, a : a + kv], whole[:, a + kv :]
        else:
            parts = tuple(sent(machine, x) for x in (q, k, v))
        return arrays.to_host(calls.attend(*parts, segments, causal, rung))

    return Case(
        f"{rung} {dtype.name} {e} wide, {a}/{kv} heads, {lengths} after {before}, causal {causal}",
        run,
        expected,
        bound,
    )


def answer(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray, causal: bool, tensor: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The definition in float64, and a bound: the error of a score moves its weight, weights and their sum are rounded,
    and the result is rounded once. On tensor cores weights are rounded to bfloat16 first."""
    expected = definition.attend.definition(wide(q), wide(k), wide(v), segments, causal)
    weighed = definition.attend.definition(wide(q), wide(k), np.abs(wide(v)), segments, causal)
    e, keys = q.shape[2], int((segments[:, 3] - segments[:, 2]).max())
    largest = np.abs(wide(q)).max() * np.abs(wide(k)).max() * e**0.5  # of a score, before the sum is rounded
    relative = 2 * (e + 4) * U * largest + (keys + 8 + 4 * largest) * U + (2.0**-7 if tensor else 0)
    return expected, relative * weighed + HALF_DIGIT[q.dtype.name] * 1.01 * np.abs(expected) + 1e-30


def cases() -> list[Case]:
    found = []
    for e, heads, dtype in [
        (48, (4, 2), FLOAT32),
        (80, (3, 3), FLOAT32),
        (64, (3, 1), BFLOAT16),
        (128, (2, 1), BFLOAT16),
    ]:
        for rung in RUNGS:
            for seed, (lengths, before) in enumerate(SHAPES):
                found.append(attention_case(rung, dtype, e, heads, lengths, before, bool(seed % 2), seed))
    found.append(attention_case("tiled", FLOAT32, 48, (2, 2), (3, 4), (0, 0), False, 9, gap=2, joined=False))
    found.append(attention_case("vectorised", FLOAT32, 48, (2, 2), (40,), (0,), True, 10, spread=20.0))
    return found

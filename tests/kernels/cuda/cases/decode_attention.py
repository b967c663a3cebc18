"""Decoding: one query a conversation, conversations of different lengths, splits without keys."""

from __future__ import annotations

import numpy as np

from minivl.kernels.cuda import arrays, calls

from . import BFLOAT16, FLOAT32, Case, drawn, sent
from .attention import answer


def decode_case(
    dtype: np.dtype, e: int, heads: tuple[int, int], lengths: tuple[int, ...], splits: int, seed: int
) -> Case:
    """Conversations with so many rows in the cache, which has free rows behind each."""
    rng, (a, kv), n = np.random.default_rng(seed), heads, len(lengths)
    starts = np.cumsum([0, *(length + 3 for length in lengths)])
    segments = np.array(
        [(i, i + 1, start, start + length) for i, (start, length) in enumerate(zip(starts, lengths, strict=False))],
        np.int64,
    )
    q = drawn(rng, (n, a, e), dtype)
    k, v = drawn(rng, (int(starts[-1]), kv, e), dtype), drawn(rng, (int(starts[-1]), kv, e), dtype)
    expected, bound = answer(q, k, v, segments, True, tensor=False)

    def run(machine):
        x, y, z = (sent(machine, one) for one in (q, k, v))
        out = arrays.empty(machine, q.shape, dtype)
        calls.decode_into(
            x, y, z, arrays.integers(machine, segments[:, 2:]), splits, calls.decode_parts(x, splits), out
        )
        return arrays.to_host(out)

    return Case(f"{dtype.name} {e} wide, {a}/{kv} heads, {lengths} rows in {splits} splits", run, expected, bound)


def cases() -> list[Case]:
    return [
        decode_case(FLOAT32, 48, (4, 2), (1, 150, 31), 2, 0),
        decode_case(FLOAT32, 48, (4, 2), (300,), 1, 1),
        decode_case(FLOAT32, 80, (3, 1), (129, 7), 3, 2),
        decode_case(BFLOAT16, 64, (7, 1), (200,), 2, 3),
        decode_case(BFLOAT16, 128, (8, 1), (33, 130), 2, 4),
        decode_case(BFLOAT16, 48, (2, 2), (128, 5), 1, 5),
    ]

"""Rows by number, of both types: in any order, twice, from views, and of a table in the other type."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.weight import weight
from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.weights import Resident

from . import BFLOAT16, FLOAT32, TYPES, Case, drawn, sent, wide


def take_case(dtype: np.dtype, r: int, width: int, n: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    x, index = drawn(rng, (r, width), dtype), rng.integers(0, r, n)
    return Case(
        f"take {n} of {r} {width} {dtype.name}",
        lambda machine: arrays.to_host(calls.take_rows(sent(machine, x), index)),
        wide(x[index]),
    )


def put_case(dtype: np.dtype, r: int, width: int, n: int, seed: int) -> Case:
    """The rows are columns of a wider array."""
    rng = np.random.default_rng(seed)
    x, rows, index = drawn(rng, (r, width), dtype), drawn(rng, (n, width + 5), dtype), rng.permutation(r)[:n]
    right = wide(x)
    right[index] = wide(rows[:, 2 : 2 + width])

    def run(machine):
        out = sent(machine, x)
        arrays.put_rows(out, index, sent(machine, rows)[:, 2 : 2 + width])
        return arrays.to_host(out)

    return Case(f"put {n} of {r} {width} {dtype.name}", run, right)


def embed_case(stored: np.dtype, dtype: np.dtype, v: int, width: int, n: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    table, ids = drawn(rng, (v, width), stored), rng.integers(0, v, n)

    def run(machine):
        out = arrays.empty(machine, (n, width), dtype)
        calls.embed_into(arrays.integers(machine, ids), n, Resident(machine, weight(table), dtype), out)
        return arrays.to_host(out)

    return Case(f"embed {n} of {v} {width} {stored.name} in {dtype.name}", run, wide(table[ids].astype(dtype)))


def cases() -> list[Case]:
    found = [
        make(dtype, 9, width, 6, width) for dtype in TYPES for width in (3, 300) for make in (take_case, put_case)
    ]
    pairs = [(BFLOAT16, FLOAT32), (FLOAT32, FLOAT32), (BFLOAT16, BFLOAT16)]
    return found + [embed_case(stored, dtype, 12, 130, 5, 0) for stored, dtype in pairs]

"""Rows by number, of both types: in any order, twice, from views, and of a table in another type or of whole numbers
with scales; and all rows of such a table."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import weight
from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.weights import Resident

from . import BFLOAT16, FLOAT32, HALF_DIGIT, TYPES, Case, U, drawn, sent, wide


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


def packed_case(format: str, dtype: np.dtype, v: int, width: int, n: int | None, seed: int) -> Case:
    """Rows of a table of whole numbers, or all of it (n is None), against (number - zero) * scale in float64."""
    rng = np.random.default_rng(seed)
    ids = np.arange(v) if n is None else rng.integers(0, v, n)
    table = packed(weight(drawn(rng, (v, width), FLOAT32)), format)
    right = wide(table.rows(ids, np.float32))

    def run(machine):
        held = Resident(machine, table, dtype)
        if n is None:
            raw = held.dense_raw(dtype)
            return machine.device.download(raw).view(dtype).reshape(v, width)
        out = arrays.empty(machine, (n, width), dtype)
        calls.embed_into(arrays.integers(machine, ids), n, held, out)
        return arrays.to_host(out)

    digit = HALF_DIGIT[dtype.name] if dtype == BFLOAT16 else 0.0
    what = "all rows" if n is None else f"embed {n}"
    return Case(f"{what} of {v} {width} {format} in {dtype.name}", run, right, (1.01 * digit + 4 * U) * np.abs(right))


def expanded_case(seed: int) -> Case:
    """A table of bfloat16 as float32, exactly."""
    table = drawn(np.random.default_rng(seed), (7, 61), BFLOAT16)

    def run(machine):
        raw = Resident(machine, weight(table), FLOAT32).dense_raw(FLOAT32)
        return machine.device.download(raw).reshape(table.shape)

    return Case("all rows of bfloat16 in float32", run, wide(table))


def cases() -> list[Case]:
    found = [
        make(dtype, 9, width, 6, width) for dtype in TYPES for width in (3, 300) for make in (take_case, put_case)
    ]
    pairs = [(BFLOAT16, FLOAT32), (FLOAT32, FLOAT32), (BFLOAT16, BFLOAT16)]
    found += [embed_case(stored, dtype, 12, 130, 5, 0) for stored, dtype in pairs]
    return [
        *found,
        packed_case("int8", BFLOAT16, 9, 130, 5, 1),
        packed_case("int8", FLOAT32, 5, 37, None, 2),
        packed_case("int4", FLOAT32, 6, 300, 4, 3),
        packed_case("int4", BFLOAT16, 5, 130, None, 4),
        expanded_case(5),
    ]

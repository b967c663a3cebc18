"""A few rows times a matrix: widths that are no whole vectors, rows of w that begin in the middle of 16 bytes, an odd
number of rows, every format of weights, biases and the residual stream, slices."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import weight
from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.weights import Resident

from . import BFLOAT16, FLOAT32, HALF_DIGIT, U, Case, drawn, sent, wide

RUNGS = ("naive", "warp", "vectorised")


def made_weight(rng: np.random.Generator, n: int, k: int, format: str):
    """A weight of a format, in the values of its format."""
    numbers = drawn(rng, (n, k), FLOAT32, k**-0.5)
    if format in ("int8", "int4"):
        return packed(weight(numbers), format)
    return weight(numbers if format == "f32" else numbers.astype(BFLOAT16))


def gemv_case(rung: str, dtype: np.dtype, format: str, m: int, n: int, k: int, seed: int, bias: bool = False,
              residual: bool = False, slices: int | None = None) -> Case:
    rng = np.random.default_rng(seed)
    x, w, stored = drawn(rng, (m, k), dtype), None, made_weight(rng, n, k, format)
    b = drawn(rng, (n,), dtype) if bias else None
    r = drawn(rng, (m, n), dtype) if residual else None
    w = wide(stored.dense(np.float32 if format != "bf16" else BFLOAT16))
    if dtype == BFLOAT16 and format == "f32":
        w = wide(stored.dense(BFLOAT16))
    sums, sizes = wide(x) @ w.T, np.abs(wide(x)) @ np.abs(w).T
    y = sums + (0 if b is None else wide(b))
    expected = y + (0 if r is None else wide(r))
    digit = HALF_DIGIT[dtype.name]
    bound = (k + 8) * U * (sizes + abs(expected)) * 2 + 1.01 * digit * (np.abs(y) + np.abs(expected) * residual)

    def run(machine):
        resident = Resident(machine, stored, dtype)
        given = None if b is None else machine.device.upload(b.astype(np.float32))
        out = None if r is None else sent(machine, r)           # written over the stream, as a step does
        return arrays.to_host(calls.gemv(sent(machine, x), resident, given, out, rung, slices, out))
    like = share = None
    if dtype == BFLOAT16:
        exact = y.astype(np.float32).astype(dtype)
        like, share = (exact if r is None else (exact + r)), 0.9
    return Case(f"{rung} {dtype.name} times {format}, {m} {k} -> {n}, bias {bias}, residual {residual}, slices {slices}",
                run, expected, bound, like, share or 0.0)


def gate_up_case(dtype: np.dtype, format: str, m: int, n: int, k: int, seed: int, bias: bool = False,
                 slices: int | None = None) -> Case:
    """silu(gate) * up, each rounded as the definition rounds it."""
    rng = np.random.default_rng(seed)
    x, stored = drawn(rng, (m, k), dtype), made_weight(rng, 2 * n, k, format)
    b = drawn(rng, (2 * n,), dtype) if bias else np.zeros(2 * n, dtype)
    w = wide(stored.dense(np.float32))
    both = wide(x) @ w.T + wide(b)
    gate, up = both[:, :n], both[:, n:]
    gates = gate / (1 + np.exp(-gate))
    expected = gates * up
    moved = (k + 8) * U * 2 * (np.abs(wide(x)) @ np.abs(w).T + np.abs(both)) + 1.01 * HALF_DIGIT[dtype.name] * np.abs(both)
    digit = 1.01 * HALF_DIGIT[dtype.name] + 8 * U * (1 + np.abs(gate))
    bound = (1.1 * moved[:, :n] + digit * np.abs(gates)) * (np.abs(up) + moved[:, n:]) + moved[:, n:] * np.abs(gates) \
        + digit * np.abs(expected)

    def run(machine):
        resident = Resident(machine, stored, dtype)
        given = machine.device.upload(b.astype(np.float32)) if bias else None
        return arrays.to_host(calls.gate_up(sent(machine, x), resident, given, slices))
    like = definition.swiglu.definition(both.astype(np.float32).astype(dtype)) if dtype == BFLOAT16 else None
    return Case(f"gate and up {dtype.name} times {format}, {m} {k} -> {n}, bias {bias}, slices {slices}", run, expected,
                bound, like, 0.9 if like is not None else 0.0)


def cases() -> list[Case]:
    found = []
    for rung in RUNGS:
        found += [gemv_case(rung, FLOAT32, "bf16", 1, 37, 300, 0, bias=True),
                  gemv_case(rung, FLOAT32, "bf16", 3, 17, 83, 1, residual=True),
                  gemv_case(rung, BFLOAT16, "bf16", 1, 33, 171, 2, bias=True, residual=True),
                  gemv_case(rung, FLOAT32, "f32", 1, 19, 70, 3),
                  gemv_case(rung, BFLOAT16, "int8", 1, 21, 200, 4, bias=True),
                  gemv_case(rung, FLOAT32, "int4", 1, 20, 300, 5)]
    found += [gemv_case("vectorised", BFLOAT16, "bf16", 4, 35, 520, 6, bias=True, slices=4),
              gemv_case("vectorised", BFLOAT16, "bf16", 1, 9, 3420, 7, slices=8),
              gemv_case("vectorised", BFLOAT16, "bf16", 1, 300, 64, 8, slices=1),
              gemv_case("vectorised", FLOAT32, "int8", 2, 11, 1100, 9, slices=2),
              gemv_case("vectorised", BFLOAT16, "int4", 2, 40, 1300, 10, slices=8, residual=True),
              gate_up_case(FLOAT32, "bf16", 1, 21, 90, 11, bias=True), gate_up_case(BFLOAT16, "bf16", 2, 130, 264, 12),
              gate_up_case(BFLOAT16, "int4", 1, 17, 260, 13, slices=2), gate_up_case(FLOAT32, "int8", 1, 9, 40, 14)]
    return found

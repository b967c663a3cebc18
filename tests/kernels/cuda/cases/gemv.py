"""A few rows times a matrix: widths that are no whole vectors, rows of w that begin in the middle of 16 bytes, an odd
number of rows, every format of weights, biases and the residual stream, slices."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.packed import packed
from minivl.checkpoint.tree import Norm
from minivl.checkpoint.weight import weight
from minivl.kernels import definition
from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.weights import Resident

from . import BFLOAT16, FLOAT32, HALF_DIGIT, Case, U, drawn, sent, wide

RUNGS = ("naive", "warp", "vectorised")


def made_weight(rng: np.random.Generator, n: int, k: int, format: str):
    """A weight of a format, in the values of its format."""
    numbers = drawn(rng, (n, k), FLOAT32, k**-0.5)
    if format in ("int8", "int4"):
        return packed(weight(numbers), format)
    return weight(numbers if format == "f32" else numbers.astype(BFLOAT16))


def gemv_case(
    rung: str,
    dtype: np.dtype,
    format: str,
    m: int,
    n: int,
    k: int,
    seed: int,
    bias: bool = False,
    residual: bool = False,
    slices: int | None = None,
) -> Case:
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
        out = None if r is None else sent(machine, r)  # written over the stream, as a step does
        return arrays.to_host(calls.gemv(sent(machine, x), resident, given, out, rung, slices, out))

    like = share = None
    if dtype == BFLOAT16:
        exact = y.astype(np.float32).astype(dtype)
        like, share = (exact if r is None else (exact + r)), 0.9
    return Case(
        f"{rung} {dtype.name} times {format}, {m} {k} -> {n}, bias {bias}, residual {residual}, slices {slices}",
        run,
        expected,
        bound,
        like,
        share or 0.0,
    )


def gate_up_case(
    dtype: np.dtype, format: str, m: int, n: int, k: int, seed: int, bias: bool = False, slices: int | None = None
) -> Case:
    """silu(gate) * up, each rounded as the definition rounds it."""
    rng = np.random.default_rng(seed)
    x, stored = drawn(rng, (m, k), dtype), made_weight(rng, 2 * n, k, format)
    b = drawn(rng, (2 * n,), dtype) if bias else np.zeros(2 * n, dtype)
    w = wide(stored.dense(np.float32))
    both = wide(x) @ w.T + wide(b)
    gate, up = both[:, :n], both[:, n:]
    gates = gate / (1 + np.exp(-gate))
    expected = gates * up
    moved = (k + 8) * U * 2 * (np.abs(wide(x)) @ np.abs(w).T + np.abs(both)) + 1.01 * HALF_DIGIT[dtype.name] * np.abs(
        both
    )
    digit = 1.01 * HALF_DIGIT[dtype.name] + 8 * U * (1 + np.abs(gate))
    bound = (
        (1.1 * moved[:, :n] + digit * np.abs(gates)) * (np.abs(up) + moved[:, n:])
        + moved[:, n:] * np.abs(gates)
        + digit * np.abs(expected)
    )

    def run(machine):
        resident = Resident(machine, stored, dtype)
        given = machine.device.upload(b.astype(np.float32)) if bias else None
        return arrays.to_host(calls.gate_up(sent(machine, x), resident, given, slices))

    like = definition.swiglu.definition(both.astype(np.float32).astype(dtype)) if dtype == BFLOAT16 else None
    return Case(
        f"gate and up {dtype.name} times {format}, {m} {k} -> {n}, bias {bias}, slices {slices}",
        run,
        expected,
        bound,
        like,
        0.9 if like is not None else 0.0,
    )


def normed_case(dtype: np.dtype, m: int, n: int, k: int, seed: int) -> Case:
    """The norm of the rows in front of the product: in bfloat16 rounded twice before it, as by a kernel of its own."""
    rng = np.random.default_rng(seed)
    x, stored, weigh = drawn(rng, (m, k), dtype, 3.0), made_weight(rng, n, k, "bf16"), drawn(rng, (k,), dtype)
    rows = definition.rms_norm.definition(x, Norm(weight(weigh), 1e-5))
    w, exact = wide(stored.dense(BFLOAT16)), definition.rms_norm.definition(wide(x), Norm(weight(wide(weigh)), 1e-5))
    expected, sizes = exact @ w.T, np.abs(exact) @ np.abs(w).T
    digit = HALF_DIGIT[dtype.name]
    bound = (2.1 * digit + 3 * (k + 16) * U) * sizes + 1.01 * digit * np.abs(expected)

    def run(machine):
        given = calls.Normed(machine.device.upload(weigh.astype(np.float32)), 1e-5)
        return arrays.to_host(calls.gemv(sent(machine, x), Resident(machine, stored, dtype), norm=given))

    like = (wide(rows) @ w.T).astype(np.float32).astype(dtype) if dtype == BFLOAT16 else None
    return Case(
        f"norm before {dtype.name} {m} {k} -> {n}", run, expected, bound, like, 0.9 if like is not None else 0.0
    )


def qkv_case(
    dtype: np.dtype,
    m: int,
    heads: int,
    kv: int,
    e: int,
    k: int,
    seed: int,
    slices: int | None = None,
    norm: bool = False,
    bias: bool = True,
) -> Case:
    """Queries turned, keys turned into their rows of a cache, values into theirs; all other rows stay."""
    rng = np.random.default_rng(seed)
    x, n = drawn(rng, (m, k), dtype), (heads + 2 * kv) * e
    stored, b = made_weight(rng, n, k, "bf16"), drawn(rng, (n,), dtype)
    weigh, eps = drawn(rng, (k,), dtype), 1e-5
    cos, sin = definition.cos_sin.definition(rng.uniform(-9, 9, (m, e // 2)).astype(np.float32), dtype)
    rows, before = 2 * rng.permutation(m) + 1, drawn(rng, (2, 2 * m + 2, kv, e), dtype)
    given = definition.rms_norm.definition(wide(x), Norm(weight(wide(weigh)), eps)) if norm else wide(x)
    w = wide(stored.dense(BFLOAT16))
    parts = (given @ w.T + wide(b) * bias).reshape(m, -1, e)
    moved = (
        (3 * (k + 16) * U + 2.1 * HALF_DIGIT[dtype.name] * norm) * (np.abs(given) @ np.abs(w).T + np.abs(wide(b)))
    ).reshape(m, -1, e) + 1.01 * HALF_DIGIT[dtype.name] * np.abs(parts)
    right, bound = turned(parts, moved, wide(cos), wide(sin), HALF_DIGIT[dtype.name])
    caches, bounds = wide(before), np.zeros(before.shape)
    caches[0, rows], bounds[0, rows] = right[:, heads : heads + kv], bound[:, heads : heads + kv]
    caches[1, rows], bounds[1, rows] = parts[:, heads + kv :], moved[:, heads + kv :]
    like = None
    if dtype == BFLOAT16 and not norm:  # the definition's bits: each product of the angles is rounded
        small, alike = parts.astype(np.float32).astype(dtype), before.copy()
        both = definition.rotate.definition(small[:, : heads + kv], cos, sin)
        alike[0, rows], alike[1, rows] = both[:, heads:], small[:, heads + kv :]
        like = np.concatenate([both[:, :heads].reshape(-1), alike.reshape(-1)])

    def run(machine):
        q, (keys, values) = arrays.empty(machine, (m, heads, e), dtype), (sent(machine, one) for one in before)
        cached = calls.Cached(keys, values, arrays.integers(machine, rows))
        before_it = calls.Normed(machine.device.upload(weigh.astype(np.float32)), eps) if norm else None
        calls.qkv(
            sent(machine, x),
            Resident(machine, stored, dtype),
            machine.device.upload(b.astype(np.float32)) if bias else None,
            (sent(machine, cos), sent(machine, sin)),
            q,
            cached,
            slices,
            before_it,
        )
        return np.concatenate([arrays.to_host(one).reshape(-1) for one in (q, keys, values)])

    return Case(
        f"q k v {dtype.name} {m} {k} -> {heads}/{kv} of {e}, slices {slices}, norm {norm}, bias {bias}",
        run,
        np.concatenate([right[:, :heads].reshape(-1), caches.reshape(-1)]),
        np.concatenate([bound[:, :heads].reshape(-1), bounds.reshape(-1)]),
        like,
        0.98 if like is not None else 0.0,
    )


def turned(
    x: np.ndarray, moved: np.ndarray, cos: np.ndarray, sin: np.ndarray, digit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Heads (m, a, e) turned, and how far off they may be when they come with an error of `moved`."""
    right, half = definition.rotate.definition(x, cos, sin), x.shape[-1] // 2
    c, s = np.abs(cos)[:, None], np.abs(sin)[:, None]

    def sums(y):
        first, second = np.abs(y[..., :half]), np.abs(y[..., half:])
        return np.concatenate([first * c + second * s, second * c + first * s], axis=-1)

    return right, 1.01 * sums(moved) + 3.1 * digit * sums(x) + 1e-30


def cases() -> list[Case]:
    found = []
    for rung in RUNGS:
        found += [
            gemv_case(rung, FLOAT32, "bf16", 1, 37, 300, 0, bias=True),
            gemv_case(rung, FLOAT32, "bf16", 3, 17, 83, 1, residual=True),
            gemv_case(rung, BFLOAT16, "bf16", 1, 33, 171, 2, bias=True, residual=True),
            gemv_case(rung, FLOAT32, "f32", 1, 19, 70, 3),
            gemv_case(rung, BFLOAT16, "int8", 1, 21, 200, 4, bias=True),
            gemv_case(rung, FLOAT32, "int4", 1, 20, 300, 5),
        ]
    found += [
        gemv_case("vectorised", BFLOAT16, "bf16", 4, 35, 520, 6, bias=True, slices=4),
        gemv_case("vectorised", BFLOAT16, "bf16", 1, 9, 3420, 7, slices=8),
        gemv_case("vectorised", BFLOAT16, "bf16", 1, 300, 64, 8, slices=1),
        gemv_case("vectorised", FLOAT32, "int8", 2, 11, 1100, 9, slices=2),
        gemv_case("vectorised", BFLOAT16, "int4", 2, 40, 1300, 10, slices=8, residual=True),
        gate_up_case(FLOAT32, "bf16", 1, 21, 90, 11, bias=True),
        gate_up_case(BFLOAT16, "bf16", 2, 130, 257, 12),
        normed_case(FLOAT32, 2, 23, 90, 15),
        normed_case(BFLOAT16, 1, 40, 257, 16),
        normed_case(BFLOAT16, 4, 9, 520, 17),
        qkv_case(FLOAT32, 1, 4, 2, 48, 90, 18, norm=True),
        qkv_case(BFLOAT16, 1, 7, 1, 20, 257, 19, slices=4),
        qkv_case(BFLOAT16, 2, 2, 2, 6, 70, 20, norm=True),
        qkv_case(FLOAT32, 2, 1, 1, 8, 40, 21, slices=1, bias=False),
        gate_up_case(BFLOAT16, "int4", 1, 17, 260, 13, slices=2),
        gate_up_case(FLOAT32, "int8", 1, 9, 40, 14),
    ]
    return found

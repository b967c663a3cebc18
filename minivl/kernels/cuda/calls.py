"""Each kernel as a function of arrays: shapes become grids, and the rung is chosen that fits.

The same code runs on a GPU and on the runner. `rung` is for tests, lessons and measurements; None takes
the best one that the operands allow.

Read next: the .cu file of a kernel; `interpreter.py`, who calls these.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...door.errors import ArgumentError
from .arrays import FLOAT32, Array, bf16, copied, empty, integers, rows_of, zeros
from .device import Launcher, Raw
from .weights import WEIGHT, Resident

THREADS = 256                                   # of a block, where a thread takes one number
FEW = 4                                         # rows that a matrix is multiplied by without cuBLAS
QUERIES = {"naive": 32, "tiled": 32, "vectorised": 32, "tensor": 64}         # of a block of attention
WIDTHS = (16, 32, 48, 64, 80, 96, 112, 128)     # heads that attention on tensor cores takes
KEYS_AT_LEAST = 128                             # of a split of decoding: one tile of its four warps
MOST_SHARE = 8                                  # query heads of a key-value head in `decode_attend`
WARPS, TWO = 8, 2                               # of a block of gemv; rows of a warp
RESIDENT = 3                                    # blocks of gemv that a processor holds: its launch bounds
EARLIEST, AHEAD = 2, 16384                      # rounds whose weights gemv asks for early, bytes of each
IN_LOAD = {"bf16": 8, "f32": 4, "int8": 16, "int4": 32}


def blocks(n: int, each: int = THREADS) -> int:
    """How many blocks n numbers take."""
    return -(-n // each)


def packed(x: Array) -> Array:
    """The array itself where its numbers lie one after the other, else a copy."""
    return x if x.packed else copied(x)


# ---------------------------------------------------------------------------------------------- attention

def attend(q: Array, k: Array, v: Array, segments: np.ndarray, causal: bool, rung: str | None = None
           ) -> Array:
    """n a e, r k e, r k e, g 4 -> n a e"""
    heads, kv_heads, e = q.shape[1], k.shape[1], q.shape[2]
    rung = rung or best_rung(q, k, v, segments, causal)
    segments = segments[(segments[:, 1] > segments[:, 0]) & (segments[:, 3] > segments[:, 2])]
    whole = int((segments[:, 1] - segments[:, 0]).sum()) == len(q)          # else some rows see nothing
    out = (empty if whole else zeros)(q.machine, q.shape, q.dtype)
    if not len(segments) or not e:
        return out
    if rung == "decode":
        return decode(q, k, v, segments, out)
    table = tiles_of(segments, causal, QUERIES[rung])
    strides = [np.int32(rows_of(x)[1]) for x in (q, k, v)]
    args = (q.flat, k.flat, v.flat, out.flat, integers(q.machine, table), *strides,
            np.int32(heads // kv_heads), np.float32(e ** -0.5))
    file = "attention_tensor" if rung == "tensor" else "attention"
    q.machine(file, f"attend_{rung}", (len(table), heads), 128, args,
              attention_shared(rung, e), HEAD=e, BF16=bf16(q))
    return out


def tiles_of(segments: np.ndarray, causal: bool, queries: int) -> np.ndarray:
    """Rows of at most `queries` queries of one segment: g 4 -> t 5, as attention.cu takes them. The
    longest come first, so that no block is left over at the end."""
    rows = []
    for q0, q1, k0, k1 in segments.tolist():
        shift = k1 - q1 if causal else k1
        rows += [(at, min(at + queries, q1), k0, k1, shift) for at in range(q0, q1, queries)]
    table = np.array(rows, np.int64).reshape(-1, 5)
    keys = np.minimum(table[:, 3], table[:, 1] + table[:, 4]) - table[:, 2]
    return table[np.argsort(-keys, kind="stable")].astype(np.int32)


def attention_shared(rung: str, e: int) -> int:
    """Bytes of shared memory, as the kernels' texts say."""
    if rung == "tensor":
        return 2 * (64 + 32 + 32) * (e + 8) + 4 * (64 * 36 + 64)
    return {"naive": 0, "tiled": 4 * (32 * e + 32 * (e + 1) + 32 * e),
            "vectorised": 4 * (32 * e + 32 * (e + 4) + 32 * e + 32 * 32)}[rung]


def best_rung(q: Array, k: Array, v: Array, segments: np.ndarray, causal: bool) -> str:
    """The fastest rung whose conditions the operands meet."""
    heads, kv_heads, e = q.shape[1], k.shape[1], q.shape[2]
    if not all(at_16_bytes(x) for x in (q, k, v)) or e * q.dtype.itemsize % 16:
        return "tiled"
    one_each = (segments[:, 1] - segments[:, 0] == 1).all()
    if one_each and heads // kv_heads <= MOST_SHARE and e <= 128 and all(x.packed for x in (q, k, v)):
        return "decode"
    tensor = q.dtype.name == "bfloat16" and q.machine.device.tensor and e in WIDTHS
    return "tensor" if tensor else "vectorised"


def at_16_bytes(x: Array) -> bool:
    """Whether every row begins where 16 bytes begin."""
    size, (_, stride) = x.dtype.itemsize, rows_of(x)
    return x.at * size % 16 == 0 and stride * size % 16 == 0


def splits_of(machine: Launcher, conversations: int, kv_heads: int, keys: int) -> int:
    """How many parts the keys are split into: enough blocks for the card, none with too few keys."""
    wanted = blocks(4 * machine.device.processors, conversations * kv_heads)
    return max(1, min(wanted, blocks(keys, KEYS_AT_LEAST), 64))


def decode(q: Array, k: Array, v: Array, segments: np.ndarray, out: Array) -> Array:
    """One query a segment: n a e, r k e, r k e, n 4 -> n a e"""
    order = segments[:, 0]
    if len(order) != len(q) or (order != np.arange(len(q))).any():
        raise ArgumentError("decoding takes one segment for each query, in order: give others to a rung "
                            "of attention")
    splits = splits_of(q.machine, len(q), k.shape[1], int((segments[:, 3] - segments[:, 2]).max()))
    spans = integers(q.machine, segments[:, 2:])
    decode_into(q, k, v, spans, splits, decode_parts(q, splits), out)
    return out


def decode_parts(q: Array, splits: int) -> tuple[Raw, Raw, Raw, Raw]:
    """Memory for what the splits give: most, total, sums; and how many have given theirs: zeros, which each
    launch leaves as it found them."""
    new, n = q.machine.device.empty, q.shape[0] * q.shape[1] * splits
    arrived = q.machine.device.zeros(q.shape[0] * q.shape[1], np.uint32)
    return new(n, np.float32), new(n, np.float32), new(n * q.shape[2], np.float32), arrived


def decode_shared(share: int, e: int, itemsize: int) -> int:
    """Bytes of shared memory of `decode_attend`."""
    return 4 * (share * e + 4 * share * (32 + 2 + e) + 1) + 4 * 32 * (e * itemsize + 16)


def decode_into(q: Array, k: Array, v: Array, spans: Raw, splits: int, parts: tuple[Raw, ...], out: Array
                ) -> None:
    """Attention of decoding, on memory that is there (`decode_parts`)."""
    n, heads, e = q.shape
    kv_heads, share = k.shape[1], heads // k.shape[1]
    args = (q.flat, k.flat, v.flat, spans, *parts, out.flat, np.int32(kv_heads), np.float32(e ** -0.5))
    q.machine("decode_attention", "decode_attend", (splits, kv_heads, n), 128, args,
              decode_shared(share, e, q.dtype.itemsize), early=True, HEAD=e, BF16=bf16(q), SHARE=share)


# ----------------------------------------------------------------------------------------------- products

class Normed(NamedTuple):
    """The RMS norm in front of a product: weight (float32 on the device) and eps."""
    weight: Raw
    eps: float


def gemv(x: Array, w: Resident, bias: Raw | None = None, residual: Array | None = None,
         rung: str = "vectorised", slices: int | None = None, out: Array | None = None,
         norm: Normed | None = None) -> Array:
    """A few rows times a matrix, plus a bias, plus the residual stream: n d -> n o, n from 1 to 4. norm:
    of the rows, before; the rung "vectorised" alone has it."""
    (n, k), machine = x.shape, x.machine
    out = empty(machine, (n, w.shape[0]), x.dtype) if out is None else out
    args = [x.flat, w.numbers, *tables(w), unread(machine, bias),
            out.flat if residual is None else residual.flat, out.flat, np.int32(w.shape[0]), np.int32(k),
            np.int32(w.pitch), np.int32(bias is not None), np.int32(residual is not None)]
    if rung == "vectorised":
        slices = slices or slices_of(machine, w.shape[0])
        grid, shared = grid_of(machine, w.shape[0] * slices, WARPS * TWO), gemv_shared(x, w)
        args += [np.int32(slices), *before(machine, norm)]
    else:
        grid, shared = blocks(w.shape[0], THREADS if rung == "naive" else WARPS), 0
    machine("gemv", f"gemv_{rung}", (grid,), THREADS, args, shared, early=rung == "vectorised",
            **gemv_constants(x, w))
    return out


def before(machine: Launcher, norm: Normed | None) -> list[Any]:
    """The last arguments of a product that may have a norm before it."""
    if norm is None:
        return [machine.nothing, np.float32(0), np.int32(0)]
    return [norm.weight, np.float32(norm.eps), np.int32(1)]


def gate_up(x: Array, w: Resident, bias: Raw | None = None, slices: int | None = None,
            out: Array | None = None, norm: Normed | None = None) -> Array:
    """silu(gate) * up of a few rows, or of their norm: n d -> n h, w (2h, d)."""
    (n, k), machine, inner = x.shape, x.machine, w.shape[0] // 2
    out = empty(machine, (n, inner), x.dtype) if out is None else out
    slices = slices or slices_of(machine, 2 * inner)
    args = (x.flat, w.numbers, *tables(w), unread(machine, bias), out.flat, np.int32(inner), np.int32(k),
            np.int32(w.pitch), np.int32(bias is not None), np.int32(slices), *before(machine, norm))
    machine("gemv", "gemv_gate_up", (grid_of(machine, inner * slices, WARPS),), THREADS, args,
            gemv_shared(x, w), early=True, **gemv_constants(x, w))
    return out


class Cached(NamedTuple):
    """Where a step's keys and values go: one layer's caches (r k e), and the row of each token (int32)."""
    k: Array
    v: Array
    rows: Raw


def qkv(x: Array, w: Resident, bias: Raw | None, turn: tuple[Array, Array], q: Array, cached: Cached,
        slices: int | None = None, norm: Normed | None = None) -> None:
    """Queries, keys and values of a few rows, or of their norm: turned, into q (n a e) and the cache."""
    heads, e, kv_heads, machine = q.shape[1], q.shape[2], cached.k.shape[1], x.machine
    pairs = (heads + 2 * kv_heads) * e // 2
    slices = slices or slices_of(machine, w.shape[0])
    args = (x.flat, w.numbers, *tables(w), unread(machine, bias), turn[0].flat, turn[1].flat, cached.rows,
            q.flat, cached.k.flat, cached.v.flat, np.int32(heads), np.int32(kv_heads), np.int32(e // 2),
            np.int32(x.shape[1]), np.int32(w.pitch), np.int32(bias is not None), np.int32(slices),
            *before(machine, norm))
    machine("gemv", "gemv_qkv", (grid_of(machine, pairs * slices, WARPS),), THREADS, args,
            gemv_shared(x, w), early=True, **gemv_constants(x, w))


def tables(w: Resident) -> tuple[Raw, Raw]:
    """Scales and zeros; formats without them get something that is not read."""
    return unread(w.machine, w.scales), unread(w.machine, w.zeros)


def unread(machine: Launcher, raw: Raw | None) -> Raw:
    """Floats for an argument that a kernel does not read where there are none."""
    return machine.nothing if raw is None else raw


def gemv_constants(x: Array, w: Resident) -> dict[str, int]:
    """What gemv.cu is compiled with."""
    return {"ROWS": len(x), "WEIGHT": WEIGHT[w.kind], "BF16": bf16(x)}


def gemv_shared(x: Array, w: Resident) -> int:
    """Bytes of shared memory: the rows of x, and the sums of slices."""
    stretch = 32 * IN_LOAD[w.kind]
    return len(x) * blocks(w.pitch, stretch) * stretch * x.dtype.itemsize + WARPS * TWO * len(x) * 4


def slices_of(machine: Launcher, rows: int) -> int:
    """How many warps share two rows of w: as many as give the card as many warps as it holds."""
    warps, wanted = blocks(rows, TWO), RESIDENT * WARPS * machine.device.processors
    return next((slices for slices in (1, 2, 4) if warps * slices >= wanted), 8)


def grid_of(machine: Launcher, work: int, each: int) -> int:
    """Blocks for so much work, and at most those that the card holds: x is read once a block."""
    return min(blocks(work, each), RESIDENT * machine.device.processors)


def fits(x: Array, w: Resident) -> bool:
    """Whether so many rows go through `gemv`: few, and small enough for shared memory."""
    return len(x) <= FEW and gemv_shared(x, w) <= x.machine.device.shared


def linear(x: Array, w: Resident, bias: Raw | None = None) -> Array:
    """n d -> n o: a few rows by our own kernel, many by cuBLAS."""
    x = packed(x)
    if not x.size or not w.shape[0]:
        return zeros(x.machine, (len(x), w.shape[0]), x.dtype)
    if fits(x, w):
        return gemv(x, w, bias)
    n, k = w.shape
    sums = x.machine.device.product(x.flat, w.dense_raw(x.dtype), n, k)             # m n, float32
    out = empty(x.machine, (len(x), n), x.dtype)
    args = (sums, unread(x.machine, bias), out.flat, np.int64(len(x)), np.int32(n),
            np.int32(bias is not None))
    x.machine("convert", "finish", (blocks(out.size),), THREADS, args, BF16=bf16(x))
    return out


# ------------------------------------------------------------------------------------------ row by row

def rms_norm(x: Array, w: Raw, eps: float, rung: str | None = None) -> Array:
    """n d -> n d"""
    (n, d), x = x.shape, packed(x)
    out = empty(x.machine, x.shape, x.dtype)
    if not x.size:
        return out
    vectors = d * x.dtype.itemsize % 16 == 0 and at_16_bytes(x)
    rung = rung or ("vectorised" if vectors else "block")
    if rung == "vectorised":
        add_norm_into(x, None, w, eps, out)
        return out
    name, grid, sizes = (("rms_norm_naive", blocks(n), [np.int32(n)]) if rung == "naive"
                         else ("rms_norm", n, []))
    args = (x.flat, w, out.flat, *sizes, np.int32(d), np.float32(eps))
    x.machine("norm", name, (grid,), THREADS, args, 32, BF16=bf16(x))
    return out


def add_norm_into(x: Array, more: Array | None, w: Raw, eps: float, out: Array) -> None:
    """x + more written over x, and its norm into `out`."""
    added = x if more is None else more
    args = (x.flat, added.flat, w, out.flat, np.int32(x.shape[1]), np.float32(eps),
            np.int32(more is not None))
    x.machine("norm", "add_rms_norm", (len(x),), THREADS, args, 32, BF16=bf16(x))


def add(x: Array, y: Array) -> Array:
    """n d, n d -> n d"""
    x, y, out = packed(x), packed(y), empty(x.machine, x.shape, x.dtype)
    if x.size:
        x.machine("norm", "add", (blocks(x.size),), THREADS, (x.flat, y.flat, out.flat, np.int64(x.size)),
                  BF16=bf16(x))
    return out


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """n a e, n f, n f -> n a e"""
    n, heads, e = x.shape
    out = empty(x.machine, x.shape, x.dtype)
    if x.size:
        args = (x.flat, cos.flat, sin.flat, out.flat, np.int32(n), np.int32(heads),
                np.int32(rows_of(x)[1]))
        x.machine("rotary", "rotate", (blocks(n * heads * e // 2),), THREADS, args, HEAD=e, BF16=bf16(x),
                  TURN=8 * cos.dtype.itemsize)
    return out


def rotate_into_cache(qkv: Array, cos: Array, sin: Array, rows: Raw, q: Array, k: Array, v: Array
                      ) -> None:
    """n (a + 2k)e -> q (n a e), and rows of k and v in the cache (r k e)."""
    (n, heads, e), kv_heads = q.shape, k.shape[1]
    args = (qkv.flat, cos.flat, sin.flat, rows, q.flat, k.flat, v.flat, np.int32(n), np.int32(heads),
            np.int32(kv_heads))
    q.machine("rotary", "rotate_into_cache", (blocks(n * (heads + 2 * kv_heads) * e // 2),), THREADS, args,
              HEAD=e, BF16=bf16(q), TURN=8 * cos.dtype.itemsize)


def swiglu(x: Array) -> Array:
    """n 2h -> n h"""
    x, (n, inner) = packed(x), (len(x), x.shape[1] // 2)
    out = empty(x.machine, (n, inner), x.dtype)
    if out.size:
        x.machine("swiglu", "swiglu", (blocks(n * inner),), THREADS,
                  (x.flat, out.flat, np.int32(n), np.int32(inner)), BF16=bf16(x))
    return out


def gelu(x: Array) -> Array:
    """Any shape."""
    x, out = packed(x), empty(x.machine, x.shape, x.dtype)
    if x.size:
        x.machine("gelu", "gelu", (blocks(x.size),), THREADS, (x.flat, out.flat, np.int64(x.size)),
                  BF16=bf16(x))
    return out


def take_rows(x: Array, index: np.ndarray) -> Array:
    """Row index[i] of x; a row is of any shape."""
    x, width = packed(x), prod(x.shape[1:])
    out = empty(x.machine, (len(index), *x.shape[1:]), x.dtype)
    if out.size:
        x.machine("rows", "take_rows", (len(index),), 128,
                  (x.flat, integers(x.machine, index), out.flat, np.int32(width)), BF16=bf16(x))
    return out


def embed_into(ids: Raw, count: int, table: Resident, out: Array) -> None:
    """Rows of the embedding table, however it is kept."""
    args = (table.numbers, *tables(table), ids, out.flat, np.int32(table.shape[1]), np.int32(table.pitch))
    out.machine("rows", "embed", (count,), 128, args, WEIGHT=WEIGHT[table.kind], BF16=bf16(out))


# ----------------------------------------------------------------------------------------------- sampling

PARTS = 32                                      # shares of a row in `best_of_parts`


def most_likely(scores: Array) -> Raw:
    """The highest score of each row, the first among equals, -1 for a row that holds what is no finite
    number: n v -> n int32."""
    machine, scores = scores.machine, packed(scores)
    n, v = scores.shape
    best, at = machine.device.empty(n * PARTS, np.float32), machine.device.empty(n * PARTS, np.int32)
    ids = machine.device.empty(n, np.int32)
    machine("sampling", "best_of_parts", (PARTS, n), THREADS, (scores.flat, best, at, np.int32(v)), 64,
            BF16=bf16(scores))
    machine("sampling", "best_of_row", (n,), 32, (best, at, ids))
    return ids


def penalise(scores: Array, seen: Raw, penalty: float) -> Array:
    """Scores of tokens that were seen, times the penalty below 0, divided by it above: float32."""
    scores = packed(scores)
    out = empty(scores.machine, scores.shape, FLOAT32)
    scores.machine("sampling", "penalise", (blocks(scores.size),), THREADS,
                   (scores.flat, seen, out.flat, np.int64(scores.size), np.float32(penalty)),
                   BF16=bf16(scores))
    return out


def mark(machine: Launcher, rows: np.ndarray, ids: np.ndarray, seen: Raw, v: int) -> None:
    """Count ids[i] in row rows[i] of `seen` (n v int32)."""
    if len(ids):
        machine("sampling", "mark", (blocks(len(ids)),), THREADS,
                (integers(machine, rows), integers(machine, ids), seen, np.int32(len(ids)), np.int32(v)))


# ------------------------------------------------------------------------------------------------- pixels

def resize_axis(machine: Launcher, pixels: Raw, shape: tuple[int, int, int], first: np.ndarray,
                weights: np.ndarray) -> Raw:
    """One axis of a picture: (outer, n, inner) bytes -> (outer, o, inner)."""
    outer, n, inner = shape
    out = machine.device.empty(outer * len(first) * inner, np.uint8)
    args = (pixels, integers(machine, first), integers(machine, weights), out, np.int32(outer),
            np.int32(n), np.int32(inner), np.int32(len(first)), np.int32(weights.shape[1]))
    machine("pixels", "resize_axis", (blocks(outer * len(first) * inner),), THREADS, args)
    return out


def standardise(machine: Launcher, pixels: Raw, levels: np.ndarray, frames: int, area: int) -> Raw:
    """Bytes (frames, area, 3) through a table (3, 256) -> (frames, 3, area) float32."""
    out = machine.device.empty(frames * 3 * area, np.float32)
    args = (pixels, machine.device.upload(levels.reshape(-1)), out, np.int64(frames), np.int32(area))
    machine("pixels", "standardise", (blocks(frames * 3 * area),), THREADS, args)
    return out


def patchify(frames: Array, grid: tuple[int, int, int], size: int, pair: int, merge: int) -> Array:
    """n 3 h u -> p x; grid: pairs of frames, rows and columns of patches."""
    (t, gh, gw), machine, x = grid, frames.machine, packed(frames)
    out = empty(machine, (t * gh * gw, 3 * pair * size * size), FLOAT32)
    args = (x.flat, out.flat, *map(np.int32, (len(x), gh, gw, size, pair, merge)))
    machine("pixels", "patchify", (blocks(out.size),), THREADS, args)
    return out

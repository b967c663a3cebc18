"""The arithmetic of the model: a small closed set of kernels, each written as its definition in NumPy.

This is the file to read when you want to know what a kernel *means*. It works in any float type and is
not optimised: float64 gives the golden values, and a faster interpreter (another module with functions
of these names) is checked against it. What an interpreter lacks falls back to the definition, and no
pass knows which one runs.

Rounding is part of the meaning. As in the reference, statistics and sums are wide (float32, or float64
in a float64 model) and a result is rounded once to the type of the input. NumPy's own bfloat16 product
is never used: it rounds after every addition.

Read next: `passes/block.py`, where these are put together, and `door/stage.py` for the decorator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint.tree import MLP, Linear, Norm, Weight
from ..door.stage import kernel

STRIP = 1024                                                    # queries whose scores are held at a time

_erf = np.vectorize(math.erf, otypes=[np.float64])


def wide_type(dtype: DTypeLike) -> np.dtype:
    """The type that sums and statistics of `dtype` are formed in: float64 for float64, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def wide(x: np.ndarray) -> np.ndarray:
    """`x` in its wide type; exact, since bfloat16 and float16 values are float32 values too."""
    return x.astype(wide_type(x.dtype), copy=False)


def narrow(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Round once to `dtype`. A value too large for float16 becomes infinite, as on any other device."""
    with np.errstate(over="ignore"):
        return x.astype(dtype, copy=False)


@kernel("n d, _ -> n o", flops=lambda x, w: 2 * x.size * w.weight.shape[0])
def linear(x: np.ndarray, w: Linear) -> np.ndarray:
    """x @ W.T + b, with W (o, d) as PyTorch stores it: widened, multiplied and added, rounded once."""
    y = wide(x) @ wide(w.weight.dense(x.dtype)).T               # n d, d o -> n o
    if w.bias is not None:
        y += wide(w.bias.dense(x.dtype))
    return narrow(y, x.dtype)


@kernel("n d, _ -> n d", flops=lambda x, norm: 4 * x.size)
def rms_norm(x: np.ndarray, norm: Norm) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps), rounded to the type of x, then times the weight (Zhang and Sennrich,
    2019).

    Squares of float16 overflow beyond 256: statistics in float16 have zeroed whole rows
    (lablup/mlxcel#1601).
    """
    y = wide(x)
    mean_square = np.mean(y * y, axis=-1, keepdims=True)        # n d -> n 1
    y = y * (1 / np.sqrt(mean_square + y.dtype.type(norm.eps)))
    return narrow(y, x.dtype) * norm.weight.dense(x.dtype)


@kernel("n f, _ -> n f, n f")
def cos_sin(angles: np.ndarray, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the angles, rounded to `dtype`. A float64 model is float64 from here on."""
    wide = angles.astype(wide_type(dtype))
    return narrow(np.cos(wide), dtype), narrow(np.sin(wide), dtype)


@kernel("n a e, n f, n f -> n a e", flops=lambda x, cos, sin: 3 * x.size)
def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn the pair (x[i], x[i + e/2]) of every head by the angle i of its row (Su et al., 2021).

    It runs in the type of `cos`: float32 in the vision tower, the model's own type in the decoder.
    """
    y = x.astype(cos.dtype, copy=False)
    first, second = y[..., : y.shape[-1] // 2], y[..., y.shape[-1] // 2 :]       # n a e -> n a f, n a f
    c, s = cos[:, None], sin[:, None]                                            # n f -> n 1 f
    turned = np.concatenate([first * c - second * s, second * c + first * s], axis=-1)
    return narrow(turned, x.dtype)


def _attend_flops(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray,
                  causal: bool) -> int:
    pairs = sum(int((q1 - q0) * (k1 - k0)) for q0, q1, k0, k1 in segments)
    return 4 * pairs * q.shape[1] * q.shape[2]          # scores and the weighted sum; masked pairs count


@kernel("n a e, r k e, r k e, g 4, _ -> n a e", flops=_attend_flops)
def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray,
           causal: bool) -> np.ndarray:
    """Scaled dot-product attention inside segments (Vaswani et al., 2017), query head a with kv head a
    // (a/k).

    segments (g, 4): rows q0 q1 k0 k1, "queries q0..q1 see keys k0..k1". Windows, frames, packed
        prompts and decoding
        are all this one call: there is no mask array and no padding. Causal: query i of its segment sees
        key j when j <= i + (k1 - k0) - (q1 - q0), by row, never by MRoPE position
        (ggml-org/llama.cpp#15474).
    """
    out = np.zeros_like(q)
    group = q.shape[1] // k.shape[1]                             # query heads for each key-value head
    for q0, q1, k0, k1 in _strips(segments, causal):
        for head in range(q.shape[1]):
            query, key, value = q[q0:q1, head], k[k0:k1, head // group], v[k0:k1, head // group]
            out[q0:q1, head] = _attend_one(query, key, value, causal)
    return out


def _strips(segments: np.ndarray, causal: bool) -> Iterator[tuple[int, int, int, int]]:
    """The segments with at most STRIP queries each, so that memory stays linear: a 12-megapixel photo
    is one segment of 61,204 patches in a full block. Keys after the last query of a causal strip are
    not looked at."""
    for q0, q1, k0, k1 in segments.tolist():
        for start in range(q0, q1, STRIP):
            stop = min(start + STRIP, q1)
            yield start, stop, k0, k1 - (q1 - stop) if causal else k1


def _attend_one(query: np.ndarray, key: np.ndarray, value: np.ndarray, causal: bool) -> np.ndarray:
    """One head of one segment: n e, m e, m e -> n e."""
    return narrow(softmax_weights(query, key, causal) @ wide(value), query.dtype)       # n m, m e -> n e


def softmax_weights(query: np.ndarray, key: np.ndarray, causal: bool) -> np.ndarray:
    """How much of each key's value every query takes, in one head of one segment: n e, m e -> n m,
    wide."""
    score = wide(query) @ wide(key).T * wide_type(query.dtype).type(query.shape[-1] ** -0.5)     # -> n m
    if causal:
        seen = np.arange(len(query))[:, None] + len(key) - len(query)  # the last key each query may see
        score = np.where(np.arange(len(key)) <= seen, score, -np.inf)
    weight = np.exp(score - score.max(axis=-1, keepdims=True))             # shifted: exp never overflows
    weight /= weight.sum(axis=-1, keepdims=True)
    return weight


def _gated_mlp_flops(x: np.ndarray, w: MLP) -> int:
    inner, outer = w.down.weight.shape[1], w.down.weight.shape[0]
    return len(x) * inner * (2 * 2 * x.shape[1] + 5 + 2 * outer)    # gate and up, silu and product, down


@kernel("n d, _ -> n d", flops=_gated_mlp_flops, composite=True)
def gated_mlp(x: np.ndarray, w: MLP) -> np.ndarray:
    """down(silu(gate(x)) * up(x)): SwiGLU (Shazeer, 2020). Made of kernels alone, so that any of them
    can be replaced on any machine."""
    return linear(swiglu(linear(x, w.gate_up)), w.down)          # n d -> n 2h -> n h -> n d


@kernel("n 2h -> n h", flops=lambda x: 5 * x.size // 2)
def swiglu(x: np.ndarray) -> np.ndarray:
    """silu(gate) * up, of rows that hold gate and up side by side, gate first."""
    gate, up = np.split(x, 2, axis=-1)                           # n 2h -> n h, n h
    return silu(gate) * up


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), rounded to the type of x."""
    y = wide(x)
    with np.errstate(over="ignore"):                        # exp(-y) may be infinite: then y / inf is -0
        return narrow(y / (1 + np.exp(-y)), x.dtype)


@kernel("n d -> n d", flops=lambda x: 8 * x.size)
def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x) with the exact error function, not its tanh approximation (Hendrycks and Gimpel,
    2016)."""
    y = wide(x)
    return narrow((y * 0.5 * (1 + _erf(y * math.sqrt(0.5)))).astype(y.dtype), x.dtype) if x.size else x


@kernel("n d, n d -> n d", flops=lambda x, y: x.size)
def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The residual sum, rounded to the type of x."""
    return x + y


@kernel("_, n -> _")
def take_rows(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Row index[i] of x at place i; rows may be of any shape and type."""
    return x[index]


@kernel("_, m, _ -> _")
def put_rows(x: np.ndarray, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of x in which row index[i] is rows[i], cast to the type of x."""
    out = x.copy()
    out[index] = rows
    return out


@kernel("s, _, _ -> s d")
def embed(ids: np.ndarray, table: Weight, dtype: DTypeLike) -> np.ndarray:
    """Row ids[i] of the embedding table (v, d); only these rows are read from the file."""
    return table.rows(ids, dtype)


@kernel("n v -> n v", flops=lambda x: 5 * x.size)
def log_softmax(x: np.ndarray) -> np.ndarray:
    """log(exp(x) / sum(exp(x))) along the last axis, in the wide type."""
    y = wide(x)
    y = y - y.max(axis=-1, keepdims=True)
    return y - np.log(np.exp(y).sum(axis=-1, keepdims=True))


@kernel("n v -> n v")
def least_first(x: np.ndarray) -> np.ndarray:
    """The order of each row's numbers, least first; equal ones stay as they stand. No number is NaN."""
    return np.argsort(wide(x), axis=-1, kind="stable")

"""The interpreter that computes nothing: the shape of every result, and no numbers.

Its arrays have all strides zero, so they take no memory whatever their size, and NumPy itself answers every reshape and
slice of them. With `checkpoint.names.blank_tensors` the official 72B model runs in a moment, without a weight: its
shapes, and (`session(profile=True)`) its operations. Integer tables (orders, segments, positions) are real.

A kernel that is not here runs by its definition. Read next: `definition.py`.
"""

from __future__ import annotations

import numpy as np


def blank(*shape: int, dtype=np.float32) -> np.ndarray:
    """Zeros of any shape that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def linear(x, w):
    """n d -> n o"""
    return blank(len(x), w.weight.shape[0], dtype=x.dtype)


def rms_norm(x, norm):
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def cos_sin(angles, dtype):
    """n f -> n f, n f"""
    return blank(*angles.shape, dtype=dtype), blank(*angles.shape, dtype=dtype)


def rotate(x, cos, sin):
    """n a e -> n a e"""
    return blank(*x.shape, dtype=x.dtype)


def attend(q, k, v, segments, causal):
    """n a e -> n a e"""
    return blank(*q.shape, dtype=q.dtype)


def gated_mlp(x, w):
    """n d -> n d"""
    return blank(len(x), w.down.weight.shape[0], dtype=x.dtype)


def swiglu(x):
    """n 2h -> n h"""
    return blank(len(x), x.shape[1] // 2, dtype=x.dtype)


def gelu(x):
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def add(x, y):
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def take_rows(x, index):
    """Integers move, for they say where rows go; floats only change their number of rows."""
    return x[index] if x.dtype.kind == "i" else blank(len(index), *x.shape[1:], dtype=x.dtype)


def put_rows(x, index, rows):
    """s d -> s d"""
    return blank(*x.shape, dtype=x.dtype)


def embed(ids, table, dtype):
    """s -> s d"""
    return blank(len(ids), table.shape[1], dtype=dtype)

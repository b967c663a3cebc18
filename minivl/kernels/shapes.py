"""The interpreter that computes nothing: the shape of every result, and no numbers.

Its arrays have all strides zero, so they take no memory whatever their size, and NumPy itself answers
every reshape and slice of them. With `checkpoint.names.blank_tensors` the official 72B model runs in a
moment, without a weight: its shapes, and (`session(profile=True)`) its operations. Integer tables
(orders, segments, positions) are real.

A kernel that is not here runs by its definition. Read next: `definition.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint.tree import MLP, Linear, Norm, Weight
from . import Interpreter

Array = np.ndarray


class Ghost:
    """Memory of a KV cache that takes none: what is written is forgotten, what is read is zeros."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike):
        self.shape, self.dtype = shape, np.dtype(dtype)

    def __getitem__(self, layer: int) -> Ghost:
        return Ghost(self.shape[1:], self.dtype)

    def __setitem__(self, rows: object, value: object) -> None:
        """Nothing is kept."""


def blank(*shape: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Zeros of any shape that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def linear(x: Array, w: Linear) -> Array:
    """n d -> n o"""
    return blank(len(x), w.weight.shape[0], dtype=x.dtype)


def rms_norm(x: Array, norm: Norm) -> Array:
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def cos_sin(angles: Array, dtype: DTypeLike, factor: float = 1.0) -> tuple[Array, Array]:
    """n f -> n f, n f"""
    return blank(*angles.shape, dtype=dtype), blank(*angles.shape, dtype=dtype)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """n a e -> n a e"""
    return blank(*x.shape, dtype=x.dtype)


def attend(q: Array, k: Array, v: Array, segments: Array, causal: bool) -> Array:
    """n a e -> n a e"""
    return blank(*q.shape, dtype=q.dtype)


def gated_mlp(x: Array, w: MLP) -> Array:
    """n d -> n d"""
    return blank(len(x), w.down.weight.shape[0], dtype=x.dtype)


def swiglu(x: Array) -> Array:
    """n 2h -> n h"""
    return blank(len(x), x.shape[1] // 2, dtype=x.dtype)


def gelu(x: Array) -> Array:
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def add(x: Array, y: Array) -> Array:
    """n d -> n d"""
    return blank(*x.shape, dtype=x.dtype)


def take_rows(x: Array, index: Array) -> Array:
    """Integers move, for they say where rows go; floats only change their number of rows."""
    return x[index] if x.dtype.kind == "i" else blank(len(index), *x.shape[1:], dtype=x.dtype)


def put_rows(x: Array, index: Array, rows: Array) -> Array:
    """s d -> s d"""
    return blank(*x.shape, dtype=x.dtype)


def embed(ids: Array, table: Weight, dtype: DTypeLike) -> Array:
    """s -> s d"""
    return blank(len(ids), table.shape[1], dtype=dtype)


INTERPRETER = Interpreter("shapes", zeros=Ghost)

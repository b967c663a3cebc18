"""How rows of a KV cache are kept: as numbers of a type, or as bytes with scales.

    keys = zeros((layers, rows, kv_heads, width), INT8)
    keys[layer][index] = k                       # n k e, rounded to bytes
    keys[layer][a:b, head]                       # b-a e, float32 again

A cache is storage. Who reads it says which rows and which head, and gets numbers; a compiled kernel
takes the bytes and the scales as they lie. Nothing else of the model knows how rows are kept.

Read next: `run/cache.py`, which owns the rows; `definition.py`, `attend`, which reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint.weight import precision
from ..door.errors import ArgumentError

FORMATS = ("float32", "bfloat16", "int8")
MOST = 127  # of a byte: -127 to 127, so that both signs reach equally far
INT8 = np.dtype(np.int8)


class ByteRows:
    """Rows of heads (..., r, k, e) as bytes, and a float32 scale for each row and head: number =
    byte x scale, times the size of its channel where there are sizes.

    The largest number of a row and head becomes 127, so a number that is read differs from the one that
    was written by at most half a scale, 1/254 of that largest number, each taken in sizes of its
    channel. codes (..., r, k, e) int8          scales (..., r, k) float32
    channels: None, or sizes (layers, k, e) float32 of a table of layers, (k, e) of one layer's
    """

    dtype = np.dtype(np.float32)  # of what is read

    def __init__(self, codes: np.ndarray, scales: np.ndarray, channels: np.ndarray | None = None):
        self.codes, self.scales, self.channels = codes, scales, channels

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, key: Any) -> Any:
        """One layer (r, k, e), or some rows of all, as a view of the same kind; numbers (n, e)
        where rows and one head of a layer are named."""
        codes, scales = self.codes[key], self.scales[key]
        if scales.ndim == 1:  # n e, n
            numbers = codes * scales[:, None]
            return numbers if self.channels is None else numbers * self.channels[key[1]]
        if self.channels is None or codes.ndim == self.codes.ndim:
            return ByteRows(codes, scales, self.channels)
        return ByteRows(codes, scales, self.channels[key])

    def __setitem__(self, rows: Any, values: Any) -> None:
        """Numbers (n, k, e), rounded to bytes; rows of this kind are taken as they are."""
        kept = values if isinstance(values, ByteRows) else in_bytes(values, self.channels)
        self.codes[rows], self.scales[rows] = kept.codes, kept.scales

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """The numbers themselves, for whoever looks at a whole cache."""
        numbers = self.codes * self.scales[..., None]
        if self.channels is not None:
            numbers = numbers * self.channels[..., None, :, :]  # k e -> 1 k e
        return numbers.astype(dtype or self.dtype)

    def copy(self) -> ByteRows:
        """The same in memory of its own."""
        return ByteRows(self.codes.copy(), self.scales.copy(), self.channels)


def in_bytes(values: np.ndarray, channels: np.ndarray | None = None) -> ByteRows:
    """Numbers (n, k, e) as bytes, by sizes of channels (k, e). Infinities and NaN come back as NaN,
    in their row and head alone."""
    numbers = np.asarray(values).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = numbers if channels is None else numbers / channels
        scales = np.abs(numbers).max(axis=-1, initial=0) / np.float32(MOST)  # n k e -> n k
        by = np.where(scales > 0, scales, np.float32(1))[..., None]  # n k -> n k 1
        codes = np.clip(np.rint(numbers / by), -MOST, MOST)
        scales = np.where(np.isfinite(scales), scales, np.float32(np.nan))
        return ByteRows(np.nan_to_num(codes).astype(np.int8), scales.astype(np.float32), channels)


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Memory for rows (..., r, k, e) in the host's memory: an array of a float type, or bytes for
    int8."""
    if dtype == INT8:
        return ByteRows(np.zeros(shape, np.int8), np.zeros(shape[:-1], np.float32))
    return np.zeros(shape, dtype)


def stored_as(name: str | None, activations: np.dtype, kept: tuple[str, ...] = FORMATS) -> np.dtype:
    """The type that rows are kept in: one of FORMATS by name, that of the activations without one.

    kept: the types that the machine can keep beside that. Raises ArgumentError for another name.
    """
    if name is None or name == activations.name:
        return activations
    if name not in FORMATS:
        raise ArgumentError(f"cache is {name!r}; it can be {', '.join(FORMATS)}, or None: the type of the "
                            "activations")
    if name not in kept:
        raise ArgumentError(f"cache is {name!r}, and this interpreter keeps rows in the type of the "
                            f"activations, {activations.name}, alone: leave it out, or load with "
                            "kernels='jit' or 'definition'")
    return INT8 if name == "int8" else precision(name)


def stored_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes that rows of this shape (..., e) take, scales with them, without making them."""
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    return rows * (shape[-1] * dtype.itemsize + (4 if dtype == INT8 else 0))

"""A weight in the order of `layout.py`: what the compiled kernels multiply by, and a `Weight` to
everybody else. Also the two ways to make a weight smaller, by the plainest rule of each:

int8: a row divided by its largest number / 127, rounded. int4: 128 neighbours along k between their
least and their largest number in 15 steps, as AWQ keeps them (Lin et al., 2023, without its search for
scales). What they give back is `(number - zero) * scale`.

Read next: `drivers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checkpoint.tree import Weight
from ...checkpoint.weight import Stored, precision
from ...door.errors import ArgumentError, OutOfRange
from .layout import COLUMNS, IN_WORD, aligned, depth, pack, tile_shape, unpack_rows

BLOCKS = 64                                    # of 32 rows, packed at a time
NONE = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Packed:
    """Numbers in tiles. `dense`, `rows` and `fill` give them back, exactly as they are multiplied.

    tiles: `layout.tile_shape`; scales: (n) for int8, (blocks, steps, 32) for int4, else empty;
    zeros: as scales for int4, whole numbers, else empty
    """
    tiles: np.ndarray
    shape: tuple[int, int]
    format: str
    scales: np.ndarray
    zeros: np.ndarray

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index`, read through the tiles. Raises OutOfRange for one that is not there."""
        index = np.asarray(index)
        if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
            raise OutOfRange(f"rows {index.min()}..{index.max()} asked of a table of {self.shape[0]} "
                             "rows")
        flat = index.reshape(-1)
        numbers = unpack_rows(self.tiles, self.format, flat, self.shape[1])
        if self.format == "int8":
            numbers = numbers.astype(np.float32) * self.scales[flat, None]
        elif self.format == "int4":
            numbers = self._scaled(numbers, flat)
        kind = "bf16" if self.format == "bf16" else "f32"
        return Stored(numbers, kind).dense(dtype).reshape(*index.shape, self.shape[1])

    def _scaled(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        step = np.arange(self.shape[1]) // depth("int4")
        block, column = (rows // COLUMNS)[:, None], (rows % COLUMNS)[:, None]
        zero, scale = (table[block, step, column] for table in (self.zeros, self.scales))      # i k
        return (numbers - zero) * scale

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it as a model of precision `dtype` holds it."""
        out = np.empty(self.shape, precision(dtype))
        self.fill(out)
        return out

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`, some blocks at a time."""
        for start in range(0, self.shape[0], BLOCKS * COLUMNS):
            index = np.arange(start, min(start + BLOCKS * COLUMNS, self.shape[0]))
            out[start:start + len(index)] = self.rows(index, out.dtype)

    def __repr__(self) -> str:
        return f"Packed({self.format} {list(self.shape)})"


def packed(weight: Weight, format: str | None = None) -> Weight:
    """The weight in tiles of a format; without one in its own, where it is float32 or bfloat16, and as
    it is otherwise. Raises ArgumentError for a format that there is none of."""
    if isinstance(weight, Packed) or len(weight.shape) != 2:
        return weight
    format = format or weight.format
    if format not in IN_WORD:
        if format in ("f16", "f64"):
            return weight
        raise ArgumentError(f"weights are packed as {', '.join(IN_WORD)}, not as {format!r}")
    n, k = weight.shape
    tiles = aligned(tile_shape(n, k, format), np.uint32)
    scales, zeros = _tables(tiles, n, format)
    for start in range(0, len(tiles), BLOCKS):
        here = slice(start, start + BLOCKS)
        rows = np.arange(start * COLUMNS, min((start + BLOCKS) * COLUMNS, n))
        pack(_numbers(weight, rows, format, scales, zeros, here), format, tiles[here])
    return Packed(tiles, (n, k), format, scales, zeros)


def _tables(tiles: np.ndarray, n: int, format: str) -> tuple[np.ndarray, np.ndarray]:
    """Room for scales and zeros."""
    if format == "int8":
        return np.zeros(len(tiles) * COLUMNS, np.float32), NONE
    if format == "int4":
        shape = (len(tiles), tiles.shape[1], COLUMNS)
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    return NONE, NONE


def _numbers(weight: Weight, rows: np.ndarray, format: str, scales: np.ndarray, zeros: np.ndarray,
             blocks: slice) -> np.ndarray:
    """Rows of a weight as the numbers of a format; their scales and zeros go into the tables."""
    if format == "bf16":
        return weight.rows(rows, "bfloat16").view(np.uint16)
    x = weight.rows(rows, "float32")
    if format == "int8":
        scale = np.maximum(np.abs(x).max(axis=1), np.float32(1e-30)) / np.float32(127)
        scales[rows] = scale
        return np.rint(x / scale[:, None]).astype(np.int8)
    if format == "int4":
        return _fours(x, scales[blocks], zeros[blocks])
    return x


def _fours(x: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """Rows (n, k) as numbers 0..15 in groups of 128 along k; both tables are filled in place."""
    blocks, steps, _ = scales.shape
    whole = np.zeros((blocks * COLUMNS, steps * depth("int4")), np.float32)
    whole[:x.shape[0], :x.shape[1]] = x
    groups = whole.reshape(blocks, COLUMNS, steps, -1)
    least, most = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)     # zero stays zero
    scale = np.maximum(most - least, np.float32(1e-30)) / np.float32(15)
    zero = np.clip(np.rint(-least / scale), 0, 15)
    scales[:], zeros[:] = scale.transpose(0, 2, 1), zero.transpose(0, 2, 1)
    numbers = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, 15)
    return numbers.reshape(whole.shape)[:x.shape[0], :x.shape[1]].astype(np.uint8)

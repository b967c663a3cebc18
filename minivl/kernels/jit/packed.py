"""A weight in the order of `layout.py`: what the compiled kernels multiply by, and a `Weight` to
everybody else.

Read next: `drivers.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checkpoint.tree import Weight
from ...checkpoint.weight import Stored, precision
from ...door.errors import OutOfRange
from .layout import COLUMNS, aligned, pack, tile_shape, unpack_rows

BLOCKS = 64                                    # of 32 rows, packed at a time


class Packed:
    """bfloat16 numbers in tiles. `dense`, `rows` and `fill` give what the stored weight gives."""
    format = "bf16"

    def __init__(self, tiles: np.ndarray, shape: tuple[int, int]):
        self.tiles, self.shape = tiles, shape

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index`, read through the tiles. Raises IndexError for one that is not there."""
        index = np.asarray(index)
        if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
            raise OutOfRange(f"rows {index.min()}..{index.max()} of a weight of {self.shape[0]} rows")
        bits = unpack_rows(self.tiles, index.reshape(-1), self.shape[1])
        return Stored(bits, "bf16").dense(dtype).reshape(*index.shape, self.shape[1])

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


def packed(weight: Weight) -> Weight:
    """The weight in tiles where its numbers are bfloat16; any other kind as it is."""
    if weight.format != "bf16" or len(weight.shape) != 2 or isinstance(weight, Packed):
        return weight
    n, k = weight.shape
    tiles = aligned(tile_shape(n, k), np.uint16)
    for start in range(0, len(tiles), BLOCKS):
        rows = np.arange(start * COLUMNS, min((start + BLOCKS) * COLUMNS, n))
        pack(weight.rows(rows, "bfloat16").view(np.uint16), tiles[start:start + BLOCKS])
    return Packed(tiles, (n, k))

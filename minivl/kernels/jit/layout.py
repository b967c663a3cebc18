"""The order of packed weights in memory, the same bytes for every processor.

A weight (n, k) is cut into blocks of 32 rows, each into steps of 32 k, each into two *tiles* of 1 KB:
16 rows of the weight, which are 16 columns of the product, by 16 words, each of which holds two
neighbouring k:

    tiles[block, step, half, pair, column, parity]     # n/32 k/32 2 16 16 2, uint16

That is what a tile register reads in one load, what VDPBF16PS multiplies by one word of a row, and what
a vector unit widens with a shift and a mask; nothing is packed twice. Both sizes are padded with zeros.

Read next: `packed.py`, the weight that holds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

COLUMNS, DEPTH = 32, 32                        # of a block and of a step
LINE = 64                                      # bytes of a cache line: where tiles begin


def padded(size: int, unit: int) -> int:
    """The least multiple of `unit` that holds `size`."""
    return -(-size // unit) * unit


def tile_shape(n: int, k: int) -> tuple[int, ...]:
    """Shape of the tiles of a bfloat16 weight (n, k)."""
    return padded(n, COLUMNS) // COLUMNS, padded(k, DEPTH) // DEPTH, 2, 16, 16, 2


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An empty array that begins at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start:start + size].view(dtype).reshape(shape)


def pack(bits: np.ndarray, tiles: np.ndarray) -> None:
    """Put bfloat16 bits (n, k) into tiles of `tile_shape(n, k)`: the definition of the order."""
    whole = np.zeros((tiles.shape[0] * COLUMNS, tiles.shape[1] * DEPTH), np.uint16)
    whole[:bits.shape[0], :bits.shape[1]] = bits
    tiles[:] = whole.reshape(-1, 2, 16, tiles.shape[1], 16, 2).transpose(0, 3, 1, 4, 2, 5)


def unpack_rows(tiles: np.ndarray, index: np.ndarray, k: int) -> np.ndarray:
    """Rows `index` of the weight: -> (len(index), k), bits."""
    block, half, column = index // COLUMNS, index // 16 % 2, index % 16
    rows = tiles[block, :, half, :, column, :]                        # i steps 16 2
    return np.ascontiguousarray(rows.reshape(len(index), -1)[:, :k])


def split(x: np.ndarray, parts: int) -> np.ndarray:
    """float32 numbers as sums of `parts` bfloat16: (n, k) -> (parts, n, k), bits. Three parts are
    exact.

    Each part takes the upper 16 bits of what is left, so no part rounds up beyond what float32 holds;
    one part alone is rounded to nearest even. Infinity and NaN are wholly in the first part.
    """
    if parts == 1:
        return _nearest(x)[None]
    out = np.zeros((parts, *x.shape), np.uint16)
    rest = x.astype(np.float32)
    for part in range(parts):
        bits = rest.view(np.uint32)
        quiet = np.where(np.isnan(rest), np.uint32(0x400000), np.uint32(0))
        out[part] = (bits | quiet) >> np.uint32(16)
        with np.errstate(invalid="ignore"):
            rest = np.where(np.isfinite(rest), rest - (bits & np.uint32(0xFFFF0000)).view(np.float32), 0)
        rest = rest.astype(np.float32)
    return out


def _nearest(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.where(np.isnan(x), bits | np.uint32(0x400000), rounded).view(np.uint32) >> np.uint32(16)

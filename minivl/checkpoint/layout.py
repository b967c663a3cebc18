"""The order of packed weights in memory, the same bytes for every processor.

A weight (n, k) is cut into blocks of 32 rows, each into steps of k, each into two *tiles* of 1 KB: 16
rows of the weight, which are 16 columns of the product, by 16 words of 32 bits, each of which holds as
many neighbouring k as fit:

    tiles[block, step, half, word, column]                   # n/32 k/step 2 16 16, uint32

| format | k in a word | k in a step | and for each row of the weight                              |
|--------|-------------|-------------|-------------------------------------------------------------|
| bf16   | 2           | 32          |                                                             |
| f32    | 1           | 16          |                                                             |
| int8   | 4           | 64          | a scale                                                     |
| int4   | 8           | 128         | a scale and a zero for each step: groups of 128, as AWQ has |

That is what a tile register reads in one load, what VDPBF16PS multiplies by one word of a row, and what
a vector unit widens with a shift and a mask; nothing is packed twice. Both sizes are padded with zeros.

Not here: who multiplies by them (`kernels/jit`). Read next: `packed.py`, the weight that holds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

COLUMNS = 32                                   # of a block: rows of the weight
WORDS = 16                                     # of 32 bits along k, in a step
TILE = 256                                     # words
IN_WORD = {"f32": 1, "bf16": 2, "int8": 4, "int4": 8}
LINE = 64                                      # bytes of a cache line: where tiles begin


def depth(format: str) -> int:
    """How many k a step holds."""
    return WORDS * IN_WORD[format]


def tile_shape(n: int, k: int, format: str) -> tuple[int, int, int, int, int]:
    """Shape of the tiles of a weight (n, k)."""
    return -(-n // COLUMNS), -(-k // depth(format)), 2, WORDS, 16


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An empty array that begins at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start:start + size].view(dtype).reshape(shape)


def words_of(numbers: np.ndarray, format: str) -> np.ndarray:
    """Numbers along the last axis side by side in words: float32, bfloat16 bits, int8, or 0..15 for
    int4; the lowest k in the lowest bits."""
    if format != "int4":
        return np.ascontiguousarray(numbers).view(np.uint32)
    eights = numbers.reshape(*numbers.shape[:-1], -1, 8).astype(np.uint32)
    return np.bitwise_or.reduce(eights << np.arange(0, 32, 4, dtype=np.uint32), axis=-1)


def numbers_of(words: np.ndarray, format: str) -> np.ndarray:
    """The other way: words along the last axis as the numbers that they hold."""
    if format != "int4":
        return words.view({"f32": np.float32, "bf16": np.uint16, "int8": np.int8}[format])
    eights = words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & np.uint32(15)
    return eights.astype(np.uint8).reshape(*words.shape[:-1], -1)


def pack(numbers: np.ndarray, format: str, tiles: np.ndarray) -> None:
    """Put the numbers of a weight (n, k) into tiles of `tile_shape`: the definition of the order."""
    whole = np.zeros((len(tiles) * COLUMNS, tiles.shape[1] * depth(format)), numbers.dtype)
    whole[:numbers.shape[0], :numbers.shape[1]] = numbers
    words = words_of(whole, format)                                     # row word
    words = words.reshape(-1, 2, 16, tiles.shape[1], WORDS)             # block half column step word
    tiles[:] = words.transpose(0, 3, 1, 4, 2)


def unpack_rows(tiles: np.ndarray, format: str, index: np.ndarray, k: int) -> np.ndarray:
    """The numbers of rows `index` of the weight: -> (len(index), k)."""
    block, half, column = index // COLUMNS, index // 16 % 2, index % 16
    words = np.ascontiguousarray(tiles[block, :, half, :, column])                # i step word
    return numbers_of(words.reshape(len(index), tiles.shape[1] * WORDS), format)[:, :k]


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
    """float32 as bfloat16 bits, rounded to nearest even."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    kept = np.where(np.isnan(x), bits | np.uint32(0x400000), rounded)
    return (kept >> np.uint32(16)).astype(np.uint16)

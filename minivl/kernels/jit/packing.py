"""Weights into tiles, compiled: the same bits as `checkpoint/packed.pack_rows`, on the team's threads.

Not here: the rows of A (`drivers.py`). Read next: `checkpoint/packed.py`, the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...checkpoint.layout import COLUMNS, TILE, WORDS
from .drivers import shared
from .numbers import F32, ROUND, U32, get

Compile = Callable[[Callable[..., Any]], Any]
HALF = COLUMNS // 2                            # rows whose words lie side by side in a tile
LEAST = F32(1e-30)                             # of a scale, before it is divided


def words(compile: Compile) -> Any:
    """bfloat16 and float32: 32-bit words change places, and nothing else."""
    def share(me: int, team: int, x: Any, tiles: Any, height: int, width: int, first: int,
              steps: int) -> None:
        """x (height * width) words -> tiles, flat, of the whole weight, from row `first` on"""
        begin, end = shared(me, team, (height + COLUMNS - 1) // COLUMNS * 2)
        for half in range(begin, end):
            for step in range(steps):
                tile = ((first // HALF + half) // 2 * steps + step) * 2 * TILE + half % 2 * TILE
                for column in range(HALF):
                    row = half * HALF + column
                    source = row * width + step * WORDS
                    if row < height and (step + 1) * WORDS <= width:
                        for word in range(WORDS):
                            tiles[tile + word * HALF + column] = x[source + word]
                    else:
                        for word in range(WORDS):
                            inside = row < height and step * WORDS + word < width
                            tiles[tile + word * HALF + column] = x[source + word] if inside else U32(0)
    return compile(share)


def bytes_with_scales(compile: Compile) -> Any:
    """int8: each row in steps of its largest number / 127."""
    def share(me: int, team: int, x: Any, tiles: Any, scales: Any, height: int, depth: int, first: int,
              steps: int) -> None:
        """x (height * depth): bits of bfloat16, or float32"""
        begin, end = shared(me, team, (height + COLUMNS - 1) // COLUMNS * 2)
        line = np.zeros(steps * WORDS * 4, np.int8)
        for half in range(begin, end):
            for column in range(HALF):
                row = half * HALF + column
                if row < height:
                    size = U32(0)                              # sizes are in the order of their bits
                    for k in range(depth):
                        number = F32(get(x, row * depth + k))
                        size = max(size, U32(number.view(U32) & U32(0x7FFFFFFF)))
                    most = U32(size).view(F32)
                    scale = F32(max(most, LEAST) / F32(127))
                    scales[first + row] = scale if most < np.inf else F32(np.nan)
                    for k in range(depth):
                        y = F32(get(x, row * depth + k) / scale)
                        line[k] = np.int8(F32(F32(y + ROUND) - ROUND))
                else:
                    line[:] = 0
                packed = line.view(np.uint32)
                for step in range(steps):
                    tile = ((first // HALF + half) // 2 * steps + step) * 2 * TILE + half % 2 * TILE
                    for word in range(WORDS):
                        tiles[tile + word * HALF + column] = packed[step * WORDS + word]
    return compile(share)


def nibbles_with_scales(compile: Compile) -> Any:
    """int4: each group of 128 between its least and its largest number, in 15 steps."""
    deep = WORDS * 8

    def share(me: int, team: int, x: Any, tiles: Any, scales: Any, zeros: Any, height: int, depth: int,
              first: int, steps: int) -> None:
        """x (height * depth): bits of bfloat16, or float32"""
        begin, end = shared(me, team, (height + COLUMNS - 1) // COLUMNS * 2)
        line = np.zeros(deep, np.uint32)
        for half in range(begin, end):
            for column in range(HALF):
                row = half * HALF + column
                for step in range(steps):
                    count = min(deep, depth - step * deep) if row < height else 0
                    least, most, bad = F32(0), F32(0), False
                    for k in range(count):
                        y = get(x, row * depth + step * deep + k)
                        least, most = min(least, y), max(most, y)
                        bad |= not abs(y) < np.inf
                    scale = F32(max(F32(most - least), LEAST) / F32(15))
                    zero = F32(F32(F32(-least / scale) + ROUND) - ROUND)
                    zero = F32(min(max(zero, F32(0)), F32(15)) + F32(0))              # no -0
                    block = (first // HALF + half) // 2 * steps + step
                    table = block * COLUMNS + half % 2 * HALF + column
                    scales[table], zeros[table] = F32(np.nan) if bad else scale, zero
                    line[:] = 0
                    for k in range(count):
                        y = F32(get(x, row * depth + step * deep + k) / scale)
                        number = F32(F32(F32(y + ROUND) - ROUND) + zero)
                        line[k] = U32(min(max(number, F32(0)), F32(15)))
                    tile = block * 2 * TILE + half % 2 * TILE
                    for word in range(WORDS):
                        total = U32(0)
                        for k in range(8):
                            total |= U32(line[8 * word + k] << U32(4 * k))
                        tiles[tile + word * HALF + column] = total
    return compile(share)

"""From pixels to patches, compiled: stages of `passes/picture.py` and `passes/patches.py`, bit for bit.

Resizing is the same fixed point, a row at a time. A pixel has 256 levels, so normalising looks its
result up in a table that the definition itself fills. Cutting copies runs of 14 numbers.

Read next: `__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import register_jitable

from .numbers import get, put

Compile = Callable[[Any], Any]


@register_jitable
def level(value: Any) -> Any:
    """A sum as one of 256 levels."""
    return np.uint8(min(max(value, 0), 255))


def weigh_rows(bits: int, compile: Compile) -> Any:
    """Rows of a picture as weighted sums of source rows."""
    half = np.int32(1 << (bits - 1))

    def share(me: int, team: int, source: Any, first: Any, weights: Any, out: Any, width: int,
              last: int) -> None:
        """source (rows * width) uint8; first (o), weights (o, taps) int32 -> out (o * width); last: the
        last source row"""
        total = np.empty(width, np.int32)
        for row in range(me * len(first) // team, (me + 1) * len(first) // team):
            total[:] = half
            for tap in range(weights.shape[1]):
                weight = weights[row, tap]
                if weight != 0:
                    at = min(first[row] + tap, last) * width
                    for i in range(width):
                        total[i] += np.int32(get(source, at + i)) * weight
            for i in range(width):
                put(out, row * width + i, level(total[i] >> bits))
    return compile(share)


def weigh_columns(bits: int, compile: Compile) -> Any:
    """The same along the rows: columns of three colours."""
    half = np.int32(1 << (bits - 1))

    def share(me: int, team: int, source: Any, first: Any, weights: Any, out: Any, height: int,
              wide: int, last: int) -> None:
        """source (height * wide * 3) uint8 -> out (height * o * 3)"""
        made, taps = len(first), weights.shape[1]
        for row in range(me * height // team, (me + 1) * height // team):
            for column in range(made):
                red, green, blue = half, half, half
                for tap in range(taps):
                    weight = weights[column, tap]
                    at = (row * wide + min(first[column] + tap, last)) * 3
                    red += np.int32(get(source, at)) * weight
                    green += np.int32(get(source, at + 1)) * weight
                    blue += np.int32(get(source, at + 2)) * weight
                to = (row * made + column) * 3
                put(out, to, level(red >> bits))
                put(out, to + 1, level(green >> bits))
                put(out, to + 2, level(blue >> bits))
    return compile(share)


def look_up(compile: Compile) -> Any:
    """Levels of a colour as float32, colour first."""
    def share(me: int, team: int, pixels: Any, table: Any, out: Any, height: int, width: int) -> None:
        """pixels (height * width * 3) uint8, table (3 * 256) -> out (3 * height * width)"""
        for row in range(me * height // team, (me + 1) * height // team):
            for colour in range(3):
                for column in range(width):
                    at = row * width + column
                    level = np.int64(get(pixels, at * 3 + colour))
                    put(out, colour * height * width + at, get(table, colour * 256 + level))
    return compile(share)


def cut(compile: Compile) -> Any:
    """Frames as rows of patches, in 2x2 block order."""
    def share(me: int, team: int, frames: Any, out: Any, count: int, t: int, gh: int, gw: int, size: int,
              pair: int, merge: int) -> None:
        """frames (count * 3 * gh * size * gw * size) float32 -> out (t * gh * gw * 3 * pair * size^2)"""
        high, wide = gh * size, gw * size
        for patch in range(me * t * gh * gw // team, (me + 1) * t * gh * gw // team):
            inside, block = patch % (merge * merge), patch // (merge * merge)
            row = block // (gw // merge) % (gh // merge) * merge + inside // merge
            column = block % (gw // merge) * merge + inside % merge
            to = patch * 3 * pair * size * size
            for colour in range(3):
                for s in range(pair):
                    frame = min(patch // (gh * gw) * pair + s, count - 1)       # the last one is repeated
                    at = ((frame * 3 + colour) * high + row * size) * wide + column * size
                    for y in range(size):
                        for x in range(size):
                            put(out, to + x, get(frames, at + y * wide + x))
                        to += size
    return compile(share)

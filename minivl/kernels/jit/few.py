"""One to four rows by a packed weight: a token that is decoded. The weights pass once, at the speed of the
memory, so everything else has to stay out of their way.

    1. the rows as the innermost product reads them, widened, by every thread for itself
    2. blocks of 32 columns, piece by piece for whichever thread is free, as their speed is never quite the
       same: sums, scale, bias, one rounding

`layer.py` puts these together to a whole layer, without a way back to Python in between.

Read next: `layer.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ...checkpoint.layout import COLUMNS, IN_WORD, TILE, WORDS
from .drivers import PAIR, finish_row
from .numbers import F32, U32, get, put

Compile = Callable[[Callable[..., Any]], Any]
FEW = 4                                        # rows


class Table(NamedTuple):
    """A packed weight as compiled code takes it: flat arrays, as `Packed` has them; bias float32 or
    empty."""
    tiles: Any
    scales: Any
    zeros: Any
    bias: Any


def room_of(depth: int, steps: int) -> int:
    """Numbers of float32 that one thread needs: sums, sums of groups, and widened rows."""
    return FEW * (COLUMNS + steps + steps * depth)


class Product(NamedTuple):
    """Some rows of A by `columns` columns: the innermost product, for one to four rows."""
    run: Any
    columns: int


class Read(NamedTuple):
    """How rows are made ready for an innermost product: what does it, and bytes of a number then."""
    ready: Any
    bytes: int


def matrix_vector(format: str, products: tuple[Product, ...], read: Read, claim: Any, compile: Compile) -> Any:
    """One to four rows by a packed weight. products[r]: the one for r + 1 rows; read: `pair` or `widen`;
    claim: `meeting.claim`."""
    finish, grouped, depth = compile(finish_row), format == "int4", WORDS * IN_WORD[format]
    multiply, ready, deep = (_few_grouped if grouped else _few)(products, compile), read.ready, read.bytes * depth

    def share(me: int, team: int, met: Any, which: int, x: Any, table: Any, onto: Any, out: Any, room: Any,
              height: int, wide: int, width: int) -> None:
        """x (height * wide) -> out (height * width), float32 or bfloat16 bits, plus `onto` of the same shape,
        if it is not empty; table: a Table; room (team, `room_of`) float32; which: of the counts in `met`"""
        steps = (wide + depth - 1) // depth
        sums = room[me, :FEW * COLUMNS]
        below = room[me, FEW * COLUMNS:FEW * (COLUMNS + steps)]
        rows = room[me, FEW * (COLUMNS + steps):]
        ready(x, rows, below, height, wide, steps)
        blocks = table.tiles.size // (steps * PAIR)
        begin, mine = 0, claim(met, which)
        for number in range(blocks):           # every thread counts all pieces, and does those it claimed
            end = begin + piece(blocks - begin, team)
            if number == mine and begin < end:
                for n in range(begin, end):
                    if grouped:
                        multiply(rows, table.tiles, n * steps * PAIR, table.scales, table.zeros,
                                 n * steps * COLUMNS, below, sums, height, deep * steps, steps)
                    else:
                        multiply(rows, table.tiles, n * steps * PAIR, sums, height, deep * steps, steps)
                    first, last = n * COLUMNS, min((n + 1) * COLUMNS, width)
                    for row in range(height):
                        finish(sums, row * COLUMNS, table.scales[:0] if grouped else table.scales,
                               table.bias, out, row * width, first, last)
                        if onto.size:
                            for i in range(row * width + first, row * width + last):
                                put(out, i, get(out, i) + get(onto, i))
                mine = claim(met, which)
            begin = end
    return compile(share)


def to_the_end(product: Any, meet: Any, compile: Compile) -> Any:
    """A product as a call of its own: all threads meet at its end."""
    def share(me: int, team: int, met: Any, x: Any, table: Any, onto: Any, out: Any, room: Any, height: int,
              wide: int, width: int) -> None:
        product(me, team, met, 1, x, table, onto, out, room, height, wide, width)
        meet(met, team, 1)
    return compile(share)


@register_jitable
def piece(blocks: int, team: int) -> int:
    """How many of the blocks that are left are one thread's next piece: large ones first, because memory
    is read best in one go, small ones last, so that all end at the same time."""
    return blocks if team == 1 else min(blocks, max(1, blocks // (2 * team)))


def widen(format: str, in_place: bool, compile: Compile) -> Read:
    """Rows as float32, with zeros to the end of the last step; below: the sum of each step, for int4. in_place:
    four bits are converted where they lie, which makes them 16**i times as large, so numbers of a row are
    divided by that: exactly, down to 2**-102, below which float32 has no room for the quotient's last bits."""
    depth, grouped, add_up = WORDS * IN_WORD[format], format == "int4", compile(_add_up)
    parts = tuple(F32(16.0**-i) if in_place and i < 7 else F32(1) for i in range(8))

    def widened(x: Any, rows: Any, below: Any, height: int, wide: int, steps: int) -> None:
        for r in range(height):
            for k in range(wide):
                rows[r * steps * depth + k] = get(x, r * wide + k) * parts[k % 8]
            for k in range(wide, steps * depth):
                rows[r * steps * depth + k] = F32(0)
            if grouped:
                add_up(x, r * wide, wide, below, r * steps, depth)
    return Read(compile(widened), 4)


def pair(format: str, compile: Compile) -> Read:
    """Rows of bfloat16 in words of two numbers, in the order in which the halves of a packed word meet them:
    k and k + 4 of every eight for int4, k and k + 2 of every four for int8, neighbours for bf16. below: the
    sum of each step, for int4."""
    depth, grouped, half = WORDS * IN_WORD[format], format == "int4", IN_WORD[format] // 2
    add_up, whole = compile(_add_up), 2 * half

    def paired(x: Any, rows: Any, below: Any, height: int, wide: int, steps: int) -> None:
        words, last = rows.view(U32), np.zeros(8, np.uint16)                # the end of a row, and zeros
        for r in range(height):
            at, to = r * wide, r * steps * depth // 2
            words[to:to + steps * depth // 2] = 0
            for k in range(0, wide // whole * whole, whole):
                for i in range(half):
                    low, high = U32(x[at + k + i]), U32(x[at + k + half + i])
                    words[to + k // 2 + i] = U32(low | U32(high << U32(16)))
            k = wide // whole * whole
            if k < wide:
                for i in range(wide - k):
                    last[i] = x[at + k + i]
                for i in range(half):
                    words[to + k // 2 + i] = U32(U32(last[i]) | U32(U32(last[half + i]) << U32(16)))
            if grouped:
                add_up(x, at, wide, below, r * steps, depth)
    return Read(compile(paired), 2)


def _add_up(x: Any, at: int, wide: int, below: Any, to: int, depth: int) -> None:
    """The sum of every `depth` numbers of a row: sixteen sums side by side, which become vectors."""
    for first in range(0, wide, depth):
        turns, total = np.zeros(16, F32), F32(0)
        for k in range(first, min(first + depth, wide)):
            turns[(k - first) % 16] += get(x, at + k)
        for turn in turns:
            total += turn
        below[to + first // depth] = total


def _few(products: tuple[Product, ...], compile: Compile) -> Any:
    """One to four rows by a block of 32 columns, in as many innermost products as that takes."""
    one, two, three, four = (product.run for product in products)
    wide = tuple(product.columns for product in products)

    def multiply(a: Any, tiles: Any, at: int, sums: Any, height: int, deep: int, steps: int) -> None:
        """sums (height, 32) = a . tiles"""
        for c in range(0, COLUMNS, wide[height - 1]):
            place = at + c // 16 * TILE + c % 16
            if height == 1:
                one(a, 0, tiles, place, sums, c, 4 * COLUMNS, deep, steps)
            elif height == 2:
                two(a, 0, tiles, place, sums, c, 4 * COLUMNS, deep, steps)
            elif height == 3:
                three(a, 0, tiles, place, sums, c, 4 * COLUMNS, deep, steps)
            else:
                four(a, 0, tiles, place, sums, c, 4 * COLUMNS, deep, steps)
    return compile(multiply)


def _few_grouped(products: tuple[Product, ...], compile: Compile) -> Any:
    """The same for int4, with the scale and the zero of each group."""
    one, two, three, four = (product.run for product in products)
    wide = tuple(product.columns for product in products)

    def multiply(a: Any, tiles: Any, at: int, scales: Any, zeros: Any, table: int, below: Any, sums: Any,
                 height: int, deep: int, steps: int) -> None:
        """sums (height, 32) = a . (scales * (tiles - zeros))"""
        for c in range(0, COLUMNS, wide[height - 1]):
            place, t = at + c // 16 * TILE + c % 16, table + c
            if height == 1:
                one(a, 0, tiles, place, scales, t, zeros, t, below, 0, sums, c, 4 * COLUMNS, deep,
                    4 * steps, steps)
            elif height == 2:
                two(a, 0, tiles, place, scales, t, zeros, t, below, 0, sums, c, 4 * COLUMNS, deep,
                    4 * steps, steps)
            elif height == 3:
                three(a, 0, tiles, place, scales, t, zeros, t, below, 0, sums, c, 4 * COLUMNS, deep,
                      4 * steps, steps)
            else:
                four(a, 0, tiles, place, scales, t, zeros, t, below, 0, sums, c, 4 * COLUMNS, deep,
                     4 * steps, steps)
    return compile(multiply)

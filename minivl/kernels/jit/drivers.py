"""The loops around an innermost product: rows into the order that it reads, blocks that stay in the
caches, the bias, one rounding, and edges that are no multiple of anything.

Each function here is made once for a tier, with that tier's innermost products inside, and is compiled
as `(me, team, ...)`: thread `me` of `team` does its share. Without `compile` it is plain Python, which
with the emulator's products runs the whole of it one instruction at a time.

Read next: `__init__.py`, where the model's kernels are made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .layout import COLUMNS, DEPTH
from .numbers import F32, get, left_over, nearest, put, upper

Compile = Callable[[Callable[..., Any]], Any]
TILE_NUMBERS = 512                             # bfloat16 numbers in a tile
GROUP = 8                                      # blocks of columns whose weights stay in the cache
STRIP = 512                                    # rows whose sums stay in the cache


class Inner(NamedTuple):
    """An innermost product: `rows` of A by `columns` of B. first: from nothing, more: on what is
    there"""
    first: Any
    more: Any
    configure: Any
    release: Any
    rows: int
    columns: int
    deepest: int                               # steps at a time: what of A and B stays in the cache


def matrix_product(inner: Inner, compile: Compile) -> Any:
    """All rows of a packed A by this thread's share of the blocks of packed weights."""
    first, more, configure, release = inner.first, inner.more, inner.configure, inner.release
    rows, columns, deepest = inner.rows, inner.columns, inner.deepest
    in_strip = max(1, STRIP // rows)

    def share(me: int, team: int, a: Any, tiles: Any, bias: Any, out: Any, scratch: Any, form: Any,
              height: int, width: int, steps: int) -> None:
        """a: rows packed for `inner`, in one piece; out (height, width) in one piece, float32 or
        bfloat16 bits; bias (width) float32, or empty; scratch (team, sums of a strip and a group)"""
        configure(form, 0)
        blocks, row_blocks = tiles.size // (steps * 2 * TILE_NUMBERS), (height + rows - 1) // rows
        sums = scratch[me]
        a_block = a.size // row_blocks                             # numbers of one block of rows
        begin, end = me * blocks // team, (me + 1) * blocks // team
        for m0 in range(0, row_blocks, in_strip):
            m1 = min(m0 + in_strip, row_blocks)
            for n0 in range(begin, end, GROUP):
                n1 = min(n0 + GROUP, end)
                for k0 in range(0, steps, deepest):
                    depth = min(deepest, steps - k0)
                    for m in range(m0, m1):
                        a_at = m * a_block + k0 * (a_block // steps)
                        for n in range(n0, n1):
                            b_at = (n * steps + k0) * 2 * TILE_NUMBERS
                            c_at = (m - m0) * rows * GROUP * COLUMNS + (n - n0) * COLUMNS
                            for c in range(0, COLUMNS, columns):
                                inside = c // 16 * TILE_NUMBERS + c % 16 * 2
                                if k0 == 0:
                                    first(a, a_at, tiles, b_at + inside, sums, c_at + c,
                                          4 * GROUP * COLUMNS, depth)
                                else:
                                    more(a, a_at, tiles, b_at + inside, sums, c_at + c,
                                         4 * GROUP * COLUMNS, depth)
                for row in range(m0 * rows, min(m1 * rows, height)):
                    first_column, last = n0 * COLUMNS, min(n1 * COLUMNS, width)
                    finish(sums, (row - m0 * rows) * GROUP * COLUMNS, bias, out, row * width,
                           first_column, last)
        release()
    finish = compile(_finish)
    return compile(share)


def _finish(sums: Any, at: int, bias: Any, out: Any, row: int, first: int, last: int) -> None:
    """Sums of columns first..last into a row of the result: plus the bias, rounded once."""
    if bias.size:
        for n in range(first, last):
            put(out, row + n, sums[at + n - first] + bias[n])
    else:
        for n in range(first, last):
            put(out, row + n, sums[at + n - first])


def matrix_vector(products: tuple[Any, ...], columns: int, compile: Compile) -> Any:
    """One to four rows by this thread's share of the blocks. products[r]: the one for r + 1 rows."""
    one, two, three, four = products
    finish = compile(_finish)

    def share(me: int, team: int, a: Any, tiles: Any, bias: Any, out: Any, scratch: Any,
              height: int, width: int, steps: int) -> None:
        """a: float32 (height, steps * 32) in one piece, the rest as in `matrix_product`"""
        blocks = tiles.size // (steps * 2 * TILE_NUMBERS)
        sums = scratch[me]
        for n in range(me * blocks // team, (me + 1) * blocks // team):
            for c in range(0, COLUMNS, columns):
                b_at = n * steps * 2 * TILE_NUMBERS + c // 16 * TILE_NUMBERS + c % 16 * 2
                if height == 1:
                    one(a, 0, tiles, b_at, sums, c, 4 * COLUMNS, 4 * DEPTH * steps, steps)
                elif height == 2:
                    two(a, 0, tiles, b_at, sums, c, 4 * COLUMNS, 4 * DEPTH * steps, steps)
                elif height == 3:
                    three(a, 0, tiles, b_at, sums, c, 4 * COLUMNS, 4 * DEPTH * steps, steps)
                else:
                    four(a, 0, tiles, b_at, sums, c, 4 * COLUMNS, 4 * DEPTH * steps, steps)
            for row in range(height):
                finish(sums, row * COLUMNS, bias, out, row * width, n * COLUMNS,
                       min((n + 1) * COLUMNS, width))
    return compile(share)


# ------------------------------------------------------------------------ rows into the order of a tier

def pack_for_tiles(parts: int, compile: Compile) -> Any:
    """Rows as tiles: 32 rows by steps of 32 k, `parts` bfloat16 numbers for each (`layout.split`)."""
    def share(me: int, team: int, x: Any, a: Any, height: int, depth: int, steps: int) -> None:
        """x (height * depth) float32 or bfloat16 bits -> a (blocks, steps, parts, 2, 16, 32), flat"""
        blocks = (height + 31) // 32
        for m in range(me * blocks // team, (me + 1) * blocks // team):
            for r in range(32):
                row = m * 32 + r
                for k in range(steps * DEPTH):
                    at = (m * steps + k // 32) * parts * 1024 + r // 16 * 512 + r % 16 * 32 + k % 32
                    rest = F32(0)
                    if row < height and k < depth:
                        rest = get(x, row * depth + k)
                    if parts == 1:
                        a[at] = nearest(rest)
                    else:
                        for part in range(parts):
                            taken = upper(rest)
                            a[at + part * 1024] = taken
                            rest = left_over(rest, taken)
    return compile(share)


def pack_for_vectors(rows: int, pairs: bool, compile: Compile) -> Any:
    """Rows side by side, as vector units broadcast them: float32 [k][row], or [pair][row][2] in
    bfloat16."""
    def share(me: int, team: int, x: Any, a: Any, height: int, depth: int, steps: int) -> None:
        """x (height * depth) -> a (blocks, steps * 32, rows) float32 or bfloat16 bits, in one piece"""
        blocks = (height + rows - 1) // rows
        for m in range(me * blocks // team, (me + 1) * blocks // team):
            for r in range(rows):
                row = m * rows + r
                for k in range(steps * DEPTH):
                    value = F32(0)
                    if row < height and k < depth:
                        value = get(x, row * depth + k)
                    if pairs:
                        put(a, ((m * steps * 16 + k // 2) * rows + r) * 2 + k % 2, value)
                    else:
                        put(a, (m * steps * DEPTH + k) * rows + r, value)
    return compile(share)

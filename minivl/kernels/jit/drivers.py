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

import numpy as np
from numba.extending import register_jitable

from ...checkpoint.layout import COLUMNS, IN_WORD, TILE, WORDS
from .numbers import F32, U32, get, put

DEPTH = 32                                     # k in a step of bfloat16 tiles
LARGEST = np.finfo(F32).max                    # finite number

Compile = Callable[[Callable[..., Any]], Any]
PAIR = 2 * TILE                                # words of a step: two tiles
GROUP = 8                                      # blocks of columns whose weights stay in the cache
STRIP = 512                                    # rows whose sums stay in the cache
SUMS = GROUP * COLUMNS                         # numbers of a row of them


class Inner(NamedTuple):
    """An innermost product: `rows` of A by `columns` of B. first: from nothing, more: on what is
    there; deepest: steps at a time, of which A and B stay in the cache"""
    first: Any
    more: Any
    configure: Any
    release: Any
    rows: int
    columns: int
    deepest: int


def finish_row(sums: Any, at: int, scales: Any, bias: Any, out: Any, row: int, first: int,
            last: int) -> None:
    """Sums of columns first..last into a row of the result: times the scale, plus the bias, rounded
    once."""
    for n in range(first, last):
        total = sums[at + n - first]
        if scales.size:
            total = total * scales[n]
        if bias.size:
            total = total + bias[n]
        put(out, row + n, total)


def matrix_product(inner: Inner, compile: Compile, finish_row: Any = finish_row) -> Any:
    """All rows of a packed A by this thread's share of the blocks of packed weights. finish_row: what
    becomes of sums; `finish_whole` for those of whole numbers, and scales are a `Whole` then."""
    configure, release, rows, deepest = inner.configure, inner.release, inner.rows, inner.deepest
    in_strip = (STRIP + rows - 1) // rows
    multiply, finish = _panel(inner, compile), compile(finish_row)

    def share(me: int, team: int, a: Any, tiles: Any, scales: Any, bias: Any, out: Any, scratch: Any,
              form: Any, height: int, width: int, steps: int) -> None:
        """a: rows packed for `inner`, flat; tiles, flat; out (height * width), float32 or bfloat16 bits;
        scales, bias (width) float32, or empty; scratch (team, sums of a strip and a group)"""
        configure(form, 0)
        sums, row_blocks = scratch[me], (height + rows - 1) // rows
        begin, end = shared(me, team, tiles.size // (steps * PAIR))
        for m0 in range(0, row_blocks, in_strip):
            m1 = min(m0 + in_strip, row_blocks)
            for n0 in range(begin, end, GROUP):
                n1 = min(n0 + GROUP, end)
                for k0 in range(0, steps, deepest):
                    depth = min(deepest, steps - k0)
                    for m in range(m0, m1):
                        a_at = (m * steps + k0) * (a.size // (row_blocks * steps))
                        for n in range(n0, n1):
                            multiply(a, a_at, tiles, (n * steps + k0) * PAIR, sums,
                                     (m - m0) * rows * SUMS + (n - n0) * COLUMNS, depth, k0 > 0)
                for row in range(m0 * rows, min(m1 * rows, height)):
                    finish(sums, (row - m0 * rows) * SUMS, scales, bias, out, row * width, n0 * COLUMNS,
                           min(n1 * COLUMNS, width))
        release()
    return compile(share)


@register_jitable
def shared(me: int, team: int, blocks: int) -> tuple[int, int]:
    """Which blocks thread `me` of `team` does."""
    return me * blocks // team, (me + 1) * blocks // team


def _panel(inner: Inner, compile: Compile) -> Any:
    """A block of rows by a block of 32 columns, in as many innermost products as that takes."""
    first, more, columns = inner.first, inner.more, inner.columns

    def multiply(a: Any, a_at: int, b: Any, b_at: int, sums: Any, at: int, depth: int, on: bool) -> None:
        for c in range(0, COLUMNS, columns):
            place = b_at + c // 16 * TILE + c % 16
            if on:
                more(a, a_at, b, place, sums, at + c, 4 * SUMS, depth)
            else:
                first(a, a_at, b, place, sums, at + c, 4 * SUMS, depth)
    return compile(multiply)


class Whole(NamedTuple):
    """What sums of whole numbers are multiplied by, (width) and (height) float32, and how much those of a row
    are too large, (height) int32."""
    columns: Any
    rows: Any
    above: Any


def finish_whole(sums: Any, at: int, scales: Any, bias: Any, out: Any, row: int, first: int, last: int) -> None:
    """The same for sums of whole numbers. scales: a `Whole`; out has a row for each of its rows."""
    number = row * scales.rows.size // out.size
    above, scale = scales.above[number], scales.rows[number]
    for n in range(first, last):
        total = F32(sums[at + n - first] - above) * scales.columns[n] * scale
        if bias.size:
            total = total + bias[n]
        put(out, row + n, total)


def expanded_product(format: str, inner: Inner, add_scaled: Any, compile: Compile) -> Any:
    """The same for int8 and int4: some blocks of weights at a time become bfloat16 tiles, which hold
    their whole numbers exactly, and are multiplied as such. A scale comes after the sum that it is of:
    all of k for int8, a group of 128 for int4 (add_scaled: `products.add_scaled`)."""
    configure, release, rows = inner.configure, inner.release, inner.rows
    in_strip = (STRIP + rows - 1) // rows
    finish, grouped = compile(finish_row), format == "int4"
    multiply = _expanded_group(format, inner, add_scaled, compile)

    def share(me: int, team: int, a: Any, tiles: Any, scales: Any, zeros: Any, bias: Any, out: Any,
              scratch: Any, room: Any, form: Any, height: int, width: int, steps: int) -> None:
        """steps: of the format; scales, zeros: as `Packed` has them, flat; room (team, words of a group
        of blocks, as many steps of each as stay in the cache); the rest as in `matrix_product`"""
        configure(form, 0)
        sums, row_blocks = scratch[me], (height + rows - 1) // rows
        above = rows * SUMS                                    # the sums of one group come first
        begin, end = shared(me, team, tiles.size // (steps * PAIR))
        for m0 in range(0, row_blocks, in_strip):
            m1 = min(m0 + in_strip, row_blocks)
            for n0 in range(begin, end, GROUP):
                n1 = min(n0 + GROUP, end)
                sums[:] = 0
                multiply(a, a.size // (row_blocks * steps), tiles, scales, zeros, sums, room[me],
                         m0, m1, n0, n1, steps)
                for row in range(m0 * rows, min(m1 * rows, height)):
                    finish(sums, above + (row - m0 * rows) * SUMS, scales[:0] if grouped else scales,
                           bias, out, row * width, n0 * COLUMNS, min(n1 * COLUMNS, width))
        release()
    return compile(share)


def _expanded_group(format: str, inner: Inner, add_scaled: Any, compile: Compile) -> Any:
    """Blocks of rows by a group of blocks of columns: some steps are expanded, then multiplied."""
    rows, in_step, grouped = inner.rows, IN_WORD[format] // 2, format == "int4"
    deepest = max(1, inner.deepest // in_step)                 # each is `in_step` bfloat16 steps
    multiply = _panel(inner, compile)
    expand = _expander(format, deepest, compile)

    def group(a: Any, a_step: int, tiles: Any, scales: Any, zeros: Any, sums: Any, buffer: Any,
              m0: int, m1: int, n0: int, n1: int, steps: int) -> None:
        """a_step: numbers of a block of rows in one step"""
        for k0 in range(0, steps, deepest):
            depth = min(deepest, steps - k0)
            expand(tiles, zeros, buffer, n0, n1, k0, depth, steps)
            for m, n in _pairs(m0, m1, n0, n1):
                a_at, b_at = (m * steps + k0) * a_step, (n - n0) * deepest * in_step * PAIR
                at = (1 + m - m0) * rows * SUMS + (n - n0) * COLUMNS
                if not grouped:
                    multiply(a, a_at, buffer, b_at, sums, at, depth * in_step, k0 > 0)
                else:
                    for k in range(depth):
                        multiply(a, a_at + k * a_step, buffer, b_at + k * in_step * PAIR, sums, 0,
                                 in_step, False)
                        add_scaled(sums, 0, scales, (n * steps + k0 + k) * COLUMNS, sums, at, 4 * SUMS, rows)
    return compile(group)


@register_jitable
def _pairs(m0: int, m1: int, n0: int, n1: int) -> Any:
    """Blocks of rows, and for each of them blocks of columns."""
    for m in range(m0, m1):
        for n in range(n0, n1):
            yield m, n


def _expander(format: str, deepest: int, compile: Compile) -> Any:
    """int8 or int4 weights as bfloat16 tiles: half as many or a quarter of the numbers in a word."""
    in_word = IN_WORD[format]
    bits, half = 32 // in_word, in_word // 2

    def step(tiles: Any, at: int, zeros: Any, zero_at: int, out: Any, out_at: int) -> None:
        """One step (512 words) as `half` steps of bfloat16"""
        for side in range(2):
            for word in range(WORDS * half):                              # of bfloat16, along k
                place = out_at + (word // WORDS * 2 + side) * TILE + word % WORDS * 16
                source = at + side * TILE + word // half * 16
                shift = U32(word % half * 2 * bits)
                for column in range(16):
                    low = U32(tiles[source + column] >> shift)
                    if in_word == 4:
                        first = F32(np.int8(low & U32(255)))
                        second = F32(np.int8(low >> U32(8) & U32(255)))
                    else:
                        zero = zeros[zero_at + side * 16 + column]
                        first = F32(F32(low & U32(15)) - zero)
                        second = F32(F32(low >> U32(4) & U32(15)) - zero)
                    out[place + column] = U32(U32(first.view(U32) >> U32(16))
                                              | U32(second.view(U32) & U32(0xFFFF0000)))
    step = compile(step)

    def expand(tiles: Any, zeros: Any, out: Any, n0: int, n1: int, k0: int, depth: int,
               steps: int) -> None:
        """Blocks n0..n1 of steps k0..k0 + depth -> out, `deepest` steps of room for each block"""
        for n in range(n0, n1):
            for k in range(depth):
                index = n * steps + k0 + k
                step(tiles, index * PAIR, zeros, index * COLUMNS, out,
                     ((n - n0) * deepest + k) * half * PAIR)
    return compile(expand)


# ------------------------------------------------------------------------ rows into the order of a tier

def pack_for_tiles(lanes: int, split: Any, compile: Compile) -> Any:
    """Rows as tiles: 32 rows by steps of 32 k. split: makes three bfloat16 numbers of each of `lanes`
    float32 ones; without it rows are bfloat16 as they are."""
    parts = 3 if split else 1

    def line(x: Any, at: int, a: Any, to: int) -> None:
        """32 numbers of a row, into the row of a tile and into those of the other parts"""
        if parts == 1:
            for i in range(32):
                put(a, to + i, get(x, at + i))
        else:
            for i in range(0, 32, lanes):
                split(x, at + i, a, to + i)
    line = compile(line)

    def share(me: int, team: int, x: Any, a: Any, height: int, depth: int, padded: int) -> None:
        """x (height * depth), float32 or bfloat16 bits -> a (blocks, padded / 32, parts, 2, 16, 32)"""
        rest = np.zeros(32, x.dtype)                               # the end of a row, and zeros
        begin, end = shared(me, team, (height + 31) // 32)
        for m in range(begin, end):
            if (m + 1) * 32 > height or depth < padded:
                a[m * 32 * padded * parts:(m + 1) * 32 * padded * parts] = 0
            for k in range(0, depth, 32):                          # tile by tile: each is written once
                for r in range(min(32, height - m * 32)):
                    at = (m * 32 + r) * depth + k
                    to = (m * padded + k) * 32 * parts + r // 16 * 512 + r % 16 * 32
                    if k + 32 <= depth:
                        line(x, at, a, to)
                    else:
                        for i in range(depth - k):
                            rest[i] = x[at + i]
                        line(rest, 0, a, to)
    return compile(share)


def pack_for_vectors(rows: int, pairs: bool, compile: Compile) -> Any:
    """Rows side by side, as vector units broadcast them: float32 [k][row], or [pair][row][2] in
    bfloat16."""
    def share(me: int, team: int, x: Any, a: Any, height: int, depth: int, padded: int) -> None:
        """x (height * depth) -> a (blocks, padded, rows) float32 or bfloat16 bits, flat"""
        begin, end = shared(me, team, (height + rows - 1) // rows)
        for m in range(begin, end):
            if (m + 1) * rows > height or depth < padded:
                a[m * padded * rows:(m + 1) * padded * rows] = 0
            for r in range(min(rows, height - m * rows)):
                at, to = (m * rows + r) * depth, m * padded * rows
                if pairs:
                    for k in range(depth):
                        put(a, to + k // 2 * 2 * rows + 2 * r + k % 2, get(x, at + k))
                else:
                    for k in range(depth):
                        put(a, to + k * rows + r, get(x, at + k))
    return compile(share)


def pack_bytes(compile: Compile) -> Any:
    """Rows of 8 bits as tiles: each number divided by its row's largest / 127, and rounded. What stands
    behind the end of a row meets zeros of the weight, and rows that are none are not looked at."""
    def share(me: int, team: int, x: Any, a: Any, scales: Any, above: Any, height: int, depth: int,
              padded: int) -> None:
        """x (height * depth) -> a (blocks, padded / 64, 2, 16, 64) int8, flat; scales (height); above (height):
        how much a product is too large, which none is (`pack_bytes_by_words`)"""
        begin, end = shared(me, team, (height + 31) // 32)
        for m in range(begin, end):
            for r in range(min(32, height - m * 32)):
                at = (m * 32 + r) * depth
                scale = _scale(x, at, depth)
                scales[m * 32 + r], above[m * 32 + r] = scale, 0
                for k in range(depth):
                    to = (m * padded + k // 64 * 64) * 32 + r // 16 * 1024 + r % 16 * 64 + k % 64
                    put(a, to, _byte(get(x, at + k), scale))
    return compile(share)


def pack_bytes_by_words(rows: int, compile: Compile) -> Any:
    """The same for vector units, which broadcast words of four numbers of a row: [four k][row]."""
    def share(me: int, team: int, x: Any, a: Any, scales: Any, above: Any, height: int, depth: int,
              padded: int) -> None:
        """x (height * depth) -> a (blocks, padded / 4, rows, 4) int8, flat; scales (height); above (height): what a
        product with weights of 128 more is too large by"""
        begin, end = shared(me, team, (height + rows - 1) // rows)
        for m in range(begin, end):
            a[m * padded * rows:(m + 1) * padded * rows] = 0
            for r in range(min(rows, height - m * rows)):
                at, total = (m * rows + r) * depth, 0
                scale = _scale(x, at, depth)
                scales[m * rows + r] = scale
                for k in range(depth):
                    byte = _byte(get(x, at + k), scale)
                    put(a, (m * padded + k // 4 * 4) * rows + 4 * r + k % 4, byte)
                    total += int(byte)
                above[m * rows + r] = 128 * total
    return compile(share)


@register_jitable
def _scale(x: Any, at: int, depth: int) -> Any:
    """A row's largest number / 127; NaN for a row with a number that is not finite: all of its results are."""
    largest = F32(0)
    for k in range(depth):
        size = abs(get(x, at + k))
        if not size <= LARGEST:
            return F32(np.nan)
        largest = max(largest, size)
    return largest / F32(127)


@register_jitable
def _byte(value: Any, scale: Any) -> Any:
    """A number in steps of `scale`; -127 to 127, although the scale of tiny numbers has lost its last bits."""
    return np.int8(min(max(np.rint(value / scale), F32(-127)), F32(127)) if scale > 0 else 0)

"""Matrix products at the level of the processor: what happens between two rows of registers.

Each kernel here is the innermost part of a product, written once against the words of `emulator.py`
and run in two ways: by the emulator, one instruction after the other, and as machine code. The loops
around them are in `drivers.py`, the order of the numbers in memory in `checkpoint/layout.py`.

Read next: `checkpoint/layout.py`.
"""

from __future__ import annotations

from typing import Any

from ...checkpoint.layout import COLUMNS, IN_WORD, WORDS

TILE = 1024                                    # bytes
PAIRS = WORDS                                  # a word of a bfloat16 tile is a pair of k
AHEAD = {4: 2048, 8: 2048, 16: 32768}          # bytes to what is asked for, with few rows: by the lanes of a tier
NEAR = 16384                                   # the same with many rows
IN_TABLES = 16                                 # times as far in tiles as in scales and zeros


def configure(m: Any, form: Any) -> None:
    """Eight whole tiles for this thread; before the first product on tiles, once a call."""
    m.configure(form)


def release(m: Any) -> None:
    """Tiles back: a thread that keeps them is slower to be switched."""
    m.release()


def tiles_bf16(parts: int, resume: bool) -> Any:
    """32 rows of A times 32 columns of B on four tiles. float32 rows are `parts` = 3 bfloat16 numbers,
    which add up to them exactly; each product with a bfloat16 weight is exact in float32.

    resume: add to what is in C
    """
    def product(m: Any, a: Any, b: Any, c: Any, width: Any, steps: Any) -> None:
        """a: `steps` x parts x 2 tiles, b: `steps` x 2 tiles, c: float32 rows, `width` bytes apart."""
        corners = _corners(m, c, width, resume)
        for k in m.loop(steps):
            m.tile_load(6, b + k * (2 * TILE))
            m.tile_load(7, b + (k * (2 * TILE) + TILE))
            for part in range(parts):                                   # B stays, A comes in parts
                rows = a + (k * (parts * 2 * TILE) + part * 2 * TILE)
                m.tile_load(4, rows)
                m.tile_load(5, rows + TILE)
                for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    m.tile_dot_bf16(2 * i + j, 4 + i, 6 + j)
        for tile, place in corners:
            m.tile_store(tile, place, width)
    return product


def tiles_s8(resume: bool) -> Any:
    """32 rows of bytes times 32 columns of bytes, on four tiles of whole numbers."""
    def product(m: Any, a: Any, b: Any, c: Any, width: Any, steps: Any) -> None:
        """a, b: `steps` x 2 tiles, c: int32 rows, `width` bytes apart."""
        corners = _corners(m, c, width, resume)
        for k in m.loop(steps):
            for half in (0, 1):
                m.tile_load(4 + half, a + (k * (2 * TILE) + half * TILE))
                m.tile_load(6 + half, b + (k * (2 * TILE) + half * TILE))
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                m.tile_dot_s8(2 * i + j, 4 + i, 6 + j)
        for tile, place in corners:
            m.tile_store(tile, place, width)
    return product


def words_s8(rows: int, vectors: int, resume: bool) -> Any:
    """`rows` rows of bytes times `vectors` vectors of columns of bytes, by VPDPBUSD: a word of A, which holds
    four bytes, against a word of each column. VPDPBUSD takes one side without a sign, so 128 is added to every
    weight; a number of the result is then too large by 128 times the sum of its row."""
    def product(m: Any, a: Any, b: Any, c: Any, width: Any, steps: Any) -> None:
        """a: words [four k][row]; b: `steps` x 2 tiles; c: int32 rows, `width` bytes apart."""
        total = _totals(m, rows, vectors, c, width, resume)
        for k in m.loop(steps):
            for word in range(WORDS):
                place = b + (k * (2 * TILE) + 64 * word)
                columns = [m.lifted(m.load_words(place + _column(m, v))) for v in range(vectors)]
                _ask(m, word, place, vectors, NEAR)
                for r in range(rows):
                    x = m.splat_word(a + (k * (4 * rows * WORDS) + 4 * (rows * word + r)))
                    for v in range(vectors):
                        added = m.dot_u8s8(m.as_words(total[r][v].value), columns[v], x)
                        total[r][v].value = m.as_floats(added)
        _put(m, total, c, width)
    return product


def split_in_three(m: Any, x: Any, a: Any) -> None:
    """float32 numbers as sums of three bfloat16, exactly: each part is the upper 16 bits of what is
    left, so none rounds up beyond what float32 holds. Infinity and NaN are wholly in the first.

    a: 16-bit numbers of the first part; those of the next are two tiles on"""
    rest = m.quiet(m.load(x))
    for part in range(3):
        m.store_upper(a + part * 2 * TILE, rest)
        if part < 2:
            rest = m.without_nan(m.subtract(rest, m.high(m.as_words(rest))))


def pairs_bf16(rows: int, vectors: int, resume: bool) -> Any:
    """`rows` rows of A times `vectors` vectors of columns, by VDPBF16PS: one word of A, which holds two
    bfloat16, against one word of each column."""
    def product(m: Any, a: Any, b: Any, c: Any, width: Any, steps: Any) -> None:
        """a: words [pair][row]; b: `steps` x 2 tiles; c: float32 rows, `width` bytes apart."""
        total = _totals(m, rows, vectors, c, width, resume)
        for k in m.loop(steps):
            for pair in range(PAIRS):
                word = b + (k * (2 * TILE) + 64 * pair)
                columns = [m.load_words(word + _column(m, v)) for v in range(vectors)]
                _ask(m, pair, word, vectors, NEAR)
                for r in range(rows):
                    x = m.splat_word(a + (k * (4 * rows * PAIRS) + 4 * (rows * pair + r)))
                    for v in range(vectors):
                        total[r][v].value = m.dot_bf16(total[r][v].value, columns[v], x)
        _put(m, total, c, width)
    return product


def widened(format: str, rows: int, vectors: int, resume: bool) -> Any:
    """The same with float32 rows on any processor. bfloat16 is the upper half of a float32, so a shift
    and a mask widen two weights at once; float32 weights are there already. Words are read anew for the mask:
    AVX2 has 16 registers, of which 12 hold sums, and one that waits takes the place of another."""
    in_word = IN_WORD[format]

    def product(m: Any, a: Any, b: Any, c: Any, width: Any, steps: Any) -> None:
        """a: float32 [k][row]; b: `steps` x 2 tiles; c: float32 rows, `width` bytes apart."""
        total = _totals(m, rows, vectors, c, width, resume)
        again = m.renamed(b)
        for k in m.loop(steps):
            for word in range(WORDS):
                for part in range(in_word):
                    place = (again if part else b) + (k * (2 * TILE) + 64 * word)
                    columns = [m.load_words(place + _column(m, v)) for v in range(vectors)]
                    wide = [_number(m, format, words, part) for words in columns]
                    for r in range(rows):
                        at = k * (4 * in_word * rows * WORDS) + 4 * (rows * (in_word * word + part) + r)
                        x = m.splat(a + at)
                        for v in range(vectors):
                            total[r][v].value = m.multiply_add(wide[v], x, total[r][v].value)
        _put(m, total, c, width)
    return product


def add_scaled(m: Any, sums: Any, scales: Any, total: Any, width: Any, rows: Any) -> None:
    """The sums of one group of k, times the scales of its 32 columns, onto the sums of all: `rows` rows,
    `width` bytes apart in both."""
    for r in m.loop(rows):
        for column in range(0, COLUMNS, m.lanes):
            place = r * width + 4 * column
            added = m.multiply_add(m.load(sums + place), m.load(scales + 4 * column), m.load(total + place))
            m.store(total + place, added)


def matrix_vector(format: str, rows: int, vectors: int, pairs: bool) -> Any:
    """At most four rows: weights come from memory once and are widened on the way; or meet rows of bfloat16
    (pairs) by VDPBF16PS, which takes fewer instructions: so more of what was asked for is on its way at a
    time."""
    one_step = _one_step_by_pairs if pairs else _one_step

    def product(m: Any, a: Any, b: Any, c: Any, width: Any, deep: Any, steps: Any) -> None:
        """a: float32, or words of pairs (`few.py`), rows `deep` bytes apart; c: float32 rows, `width`
        bytes apart; b: `steps` x 2 tiles."""
        sums = _in_turn(m, format, rows, vectors)
        for k in m.loop(steps):
            one_step(m, format, a, b, k, deep, sums)
        _put(m, [[_together(m, turns) for turns in row] for row in sums], c, width)
    return product


def grouped_vector(rows: int, vectors: int, pairs: bool) -> Any:
    """The same for int4, a step of which is a group: scale * (products - zero * sum of x)."""
    one_step = _one_step_by_pairs if pairs else _one_step

    def product(m: Any, a: Any, b: Any, scales: Any, zeros: Any, below: Any, c: Any, width: Any,
                deep: Any, groups: Any, steps: Any) -> None:
        """scales, zeros: of 32 columns for each step; below: a sum of x for each step, rows `groups`
        bytes apart; the rest as in `matrix_vector`"""
        total = [[m.register() for _ in range(vectors)] for _ in range(rows)]
        for k in m.loop(steps):
            sums = _in_turn(m, "int4", rows, vectors)
            one_step(m, "int4", a, b, k, deep, sums)
            _scaled(m, sums, total, scales, zeros, below, k, groups)
        _put(m, total, c, width)
    return product


def _one_step_by_pairs(m: Any, format: str, a: Any, b: Any, k: Any, deep: Any,
                       sums: list[list[list[Any]]]) -> None:
    """Step k of some rows of bfloat16, by VDPBF16PS: two numbers of a word at a time, in the order in which
    a word of A holds theirs."""
    vectors, parts, in_word = len(sums[0]), 1 if format == "bf16" else 4, IN_WORD[format] // 2
    for word in range(WORDS):
        place = b + (k * (2 * TILE) + 64 * word)
        columns = [m.load_words(place + _column(m, v)) for v in range(vectors)]
        _ask(m, word, place, vectors, AHEAD[m.lanes])
        for part in range(parts):
            pairs = [_two_numbers(m, format, words, part) for words in columns]
            at = 4 * (in_word * word + part * in_word // parts)
            for r, row in enumerate(sums):
                x = m.splat_word(a + (deep * r + k * (4 * in_word * WORDS) + at))
                for turns, pair in zip(row, pairs, strict=True):
                    total = turns[(word * parts + part) % len(turns)]
                    total.value = m.dot_bf16(total.value, pair, x)


def _two_numbers(m: Any, format: str, words: Any, part: int) -> Any:
    """Two numbers of each word as bfloat16: of int4 those in nibbles `part` and `part` + 4. A whole number up
    to 15 is a bfloat16; a byte is 16 times its upper nibble, with a sign, plus its lower one, so of int8
    both nibbles of a byte meet the same number."""
    return words if format == "bf16" else m.nibble_pair(words, part, format == "int8" and part % 2 == 1)


def _scaled(m: Any, sums: list[list[list[Any]]], total: list[list[Any]], scales: Any, zeros: Any, below: Any,
            k: Any, groups: Any) -> None:
    """The products of group k, less zero * sum of x, times the scale, onto the sums of all groups."""
    for v in range(len(sums[0])):
        table = k * (4 * COLUMNS) + 4 * m.lanes * v
        scale, zero = m.load(scales + table), m.load(zeros + table)
        for place in (scales, zeros):
            m.ahead(place + (table + AHEAD[m.lanes] // IN_TABLES))
        for r, row in enumerate(sums):
            lower = m.multiply(zero, m.splat(below + (groups * r + k * 4)))
            group = m.subtract(_together(m, row[v]).value, lower)
            total[r][v].value = m.multiply_add(scale, group, total[r][v].value)


def _in_turn(m: Any, format: str, rows: int, vectors: int) -> list[list[list[Any]]]:
    """Sums of every row and vector of columns, at zero: some for each, which take turns, so that an
    addition does not wait for the one before; half of the registers hold sums, of 16 at the most."""
    turns = min(IN_WORD[format], max(m.lanes // 8, 8 // (rows * vectors)))
    return [[[m.register() for _ in range(turns)] for _ in range(vectors)] for _ in range(rows)]


def _one_step(m: Any, format: str, a: Any, b: Any, k: Any, deep: Any,
              sums: list[list[list[Any]]]) -> None:
    """Step k of some rows. Weights are asked for long before they are used: a processor that finds out
    by itself what comes next stops at the end of each page, and reads at half the speed of its
    memory."""
    in_word = IN_WORD[format]
    for word in range(WORDS):
        place = b + (k * (2 * TILE) + 64 * word)
        columns = [m.load_words(place + _column(m, v)) for v in range(len(sums[0]))]
        _ask(m, word, place, len(columns), AHEAD[m.lanes])
        for part in range(in_word):
            wide = [_number(m, format, words, part) for words in columns]
            for r, row in enumerate(sums):
                at = k * (4 * in_word * WORDS) + 4 * (in_word * word + part)
                x = m.splat(a + (deep * r + at))
                for turns, number in zip(row, wide, strict=True):
                    total = turns[part % len(turns)]
                    total.value = m.multiply_add(number, x, total.value)


def _together(m: Any, turns: list[Any]) -> Any:
    """Sums that took turns, as one."""
    for other in turns[1:]:
        turns[0].value = m.add(turns[0].value, other.value)
    return turns[0]


def _number(m: Any, format: str, words: Any, part: int) -> Any:
    """One of the numbers in each word, as float32."""
    if format == "f32":
        return m.as_floats(words)
    if format == "bf16":
        return m.high(words) if part else m.low(words)
    if format == "int8":
        return m.signed_byte(words, part)
    return m.nibble_in_place(words, part) if in_place(format, m.lanes) else m.nibble(words, part)


def in_place(format: str, lanes: int) -> bool:
    """Are four bits converted to float32 where they lie in their word (`few.widen`)? AVX-512 looks them up in a
    table of sixteen numbers instead."""
    return format == "int4" and lanes < 16


def strided(rows: int, vectors: int, resume: bool) -> Any:
    """float32 products whose left side lies anywhere: attention's scores (keys by queries, over the
    width of a head) and its sums (widths by queries, over keys)."""
    def product(m: Any, a: Any, b: Any, c: Any, along: Any, down: Any, line: Any, width: Any,
                depth: Any) -> None:
        """a: numbers `along` bytes apart from k to k, `down` from row to row; b, c: rows `line` and
        `width` bytes apart"""
        total = _totals(m, rows, vectors, c, width, resume)
        for k in m.loop(depth):
            columns = [m.load(b + (k * line + 4 * m.lanes * v)) for v in range(vectors)]
            for r in range(rows):
                x = m.splat(a + (k * along + down * r))
                for v in range(vectors):
                    total[r][v].value = m.multiply_add(columns[v], x, total[r][v].value)
        _put(m, total, c, width)
    return product


def strided_pairs(rows: int, vectors: int, resume: bool) -> Any:
    """The same by VDPBF16PS, with words of two bfloat16 for numbers."""
    def product(m: Any, a: Any, b: Any, c: Any, along: Any, down: Any, line: Any, pairs: Any) -> None:
        """a: words `along` bytes apart from pair to pair, `down` from row to row; b, c: rows `line` bytes
        apart"""
        total = _totals(m, rows, vectors, c, line, resume)
        for k in m.loop(pairs):
            columns = [m.load_words(b + (k * line + 4 * m.lanes * v)) for v in range(vectors)]
            for r in range(rows):
                x = m.splat_word(a + (k * along + down * r))
                for v in range(vectors):
                    total[r][v].value = m.dot_bf16(total[r][v].value, columns[v], x)
        _put(m, total, c, line)
    return product


def short_pairs(rows: int, vectors: int, resume: bool) -> Any:
    """The same, and the left side is packed: words of its rows side by side."""
    def product(m: Any, a: Any, b: Any, c: Any, down: Any, line: Any, width: Any, pairs: Any) -> None:
        """a: words [pair][row]; b: words [pair][column], rows `line` bytes apart; c: float32 rows,
        `width` bytes apart; `down` is for tiles"""
        total = _totals(m, rows, vectors, c, width, resume)
        for k in m.loop(pairs):
            columns = [m.load_words(b + (k * line + 4 * m.lanes * v)) for v in range(vectors)]
            for r in range(rows):
                x = m.splat_word(a + (k * (4 * rows) + 4 * r))
                for v in range(vectors):
                    total[r][v].value = m.dot_bf16(total[r][v].value, columns[v], x)
        _put(m, total, c, width)
    return product


def short_tiles(resume: bool) -> Any:
    """The same on tiles: 32 rows, 32 columns, 16 pairs a step."""
    def product(m: Any, a: Any, b: Any, c: Any, down: Any, line: Any, width: Any, steps: Any) -> None:
        """a: rows of words, `down` bytes apart; b, c: as in `short_pairs`"""
        corners = _corners(m, c, width, resume)
        for k in m.loop(steps):
            for half in (0, 1):
                m.tile_load(4 + half, a + (k * 64 + down * (16 * half)), down)
                m.tile_load(6 + half, b + (k * (line * 16) + 64 * half), line)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                m.tile_dot_bf16(2 * i + j, 4 + i, 6 + j)
        for tile, place in corners:
            m.tile_store(tile, place, width)
    return product


def _corners(m: Any, c: Any, width: Any, resume: bool) -> list[tuple[int, Any]]:
    """The four tiles of sums, each with its place in C: what is there, or zeros."""
    corners = [(2 * i + j, c + (width * (16 * i) + 64 * j)) for i in (0, 1) for j in (0, 1)]
    for tile, place in corners:
        if resume:
            m.tile_load(tile, place, width)
        else:
            m.tile_zero(tile)
    return corners


def _ask(m: Any, word: int, place: Any, vectors: int, distance: int) -> None:
    """Ask for the words of these columns that come `distance` bytes later: a line for each, or for some
    together."""
    for column in range(0, vectors * m.lanes, 16):
        if word % m.lines_an_ask == 0:
            m.ahead(place + (column // 16 * TILE + distance))


def _column(m: Any, vector: int) -> int:
    """Where a vector of columns begins in a row of words of two tiles, in bytes."""
    column = vector * m.lanes
    return column // 16 * TILE + column % 16 * 4


def _totals(m: Any, rows: int, vectors: int, c: Any, width: Any, resume: bool) -> list[list[Any]]:
    total = [[m.register() for _ in range(vectors)] for _ in range(rows)]
    if resume:
        for r in range(rows):
            for v in range(vectors):
                total[r][v].value = m.load(c + (width * r + 4 * m.lanes * v))
    return total


def _put(m: Any, total: list[list[Any]], c: Any, width: Any) -> None:
    for r, row in enumerate(total):
        for v, register in enumerate(row):
            m.store(c + (width * r + 4 * m.lanes * v), register.value)

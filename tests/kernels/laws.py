"""Laws of the order of numbers in memory, of the module that a caller gives: `test_products.py` holds the real one to
them, `test_mutants.py` changed ones.
"""

from __future__ import annotations

import numpy as np

from .compiled import BF16

F32 = np.float32
BITS = {"f32": 32, "bf16": 16, "int8": 8, "int4": 4}
HELD = {"f32": np.float32, "bf16": np.uint16, "int8": np.int8, "int4": np.uint8}


def numbers(format, shape, seed):
    """Random numbers of a format, every one of them different from 0."""
    rng = np.random.default_rng(seed)
    if format == "f32":
        return rng.normal(size=shape).astype(F32)
    least, most = {"bf16": (1, 2**16), "int8": (-128, 0), "int4": (1, 16)}[format]
    return rng.integers(least, most, shape).astype(HELD[format])


def as_bits(number, format):
    """A number as the whole number that its bits are."""
    return int(np.asarray(number).reshape(1).view({4: np.uint32, 2: np.uint16, 1: np.uint8}[number.itemsize])[0])


def laws_of_tiles(layout, n, k, format, seed):
    """Every number is where the drawing says, zeros are around, and rows come back."""
    held = numbers(format, (n, k), seed)
    shape = layout.tile_shape(n, k, format)
    in_word = 32 // BITS[format]
    deep = 16 * in_word
    assert layout.depth(format) == deep
    assert shape == ((n + 31) // 32, (k + deep - 1) // deep, 2, 16, 16)
    tiles = np.full(shape, 77, np.uint32)
    layout.pack(held, format, tiles)
    rng = np.random.default_rng(seed)
    for row, column in [(0, 0), (n - 1, k - 1), *zip(rng.integers(0, n, 20), rng.integers(0, k, 20), strict=True)]:
        word = tiles[row // 32, column // deep, row // 16 % 2, column % deep // in_word, row % 16]
        part = int(word) >> BITS[format] * (column % in_word) & (1 << BITS[format]) - 1
        assert part == as_bits(held[row, column], format)
    whole = layout.unpack_rows(tiles, format, np.arange(32 * shape[0]), deep * shape[1])
    assert not whole[n:].any() and not whole[:, k:].any()                       # padded with zeros
    index = rng.permutation(n)
    back = layout.unpack_rows(tiles, format, index, k)
    assert back.dtype == held.dtype and np.array_equal(back, held[index])


def laws_of_words(layout, format, count, seed):
    """Words are little-endian, and give their numbers back."""
    held = numbers(format, (3, 32 // BITS[format] * count), seed)
    words = layout.words_of(held, format)
    assert words.dtype == np.uint32 and words.shape == (3, count)
    for row in range(3):
        for at, number in enumerate(held[row]):
            word, part = divmod(at, 32 // BITS[format])
            assert int(words[row, word]) >> BITS[format] * part & (1 << BITS[format]) - 1 == as_bits(number, format)
    back = layout.numbers_of(words, format)
    assert back.dtype == held.dtype and np.array_equal(back, held)


def rows_of_every_size():
    """float32 (8, 40): ordinary, huge, tiny, with all bits set; infinities and NaN in the last two rows."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(8, 40)) * 2.0 ** rng.integers(-90, 90, (8, 40))).astype(F32)
    x[1] = rng.integers(0, 2**23, 40) + F32(2**23 - 1)
    x[2, :4] = np.finfo(F32).max, -np.finfo(F32).max, 1 - 2**-24, -(1 + 2**-23)
    x[6, :3], x[7, 5] = (np.inf, -np.inf, 0), np.nan
    return x


def laws_of_packing(layout):
    """Three bfloat16 numbers are a float32, the first one wholly what is not finite; one is the nearest."""
    x = rows_of_every_size()
    parts = layout.split(x, 3)
    assert parts.dtype == np.uint16 and parts.shape == (3, *x.shape)
    numbers = parts.view(BF16).astype(np.float64)
    assert np.array_equal(numbers.sum(axis=0), x, equal_nan=True)
    assert not parts[1:, ~np.isfinite(x)].any()
    two = np.abs(numbers[:2, :6].sum(axis=0) - x[:6].astype(np.float64))
    assert (two <= np.abs(x[:6].astype(np.float64)) * 2.0**-14).all()
    one = layout.split(x, 1)
    assert one.dtype == np.uint16 and one.shape == (1, *x.shape)
    assert np.array_equal(one[0].view(BF16).astype(F32), x.astype(BF16).astype(F32), equal_nan=True)
    quiet = np.array([[0x7F800001, 0xFFFFFFFF]], np.uint32).view(F32)             # NaN whose upper half is infinity
    for count in (1, 3):
        assert np.isnan(layout.split(quiet, count)[0].view(BF16).astype(F32)).all()


def packed_by(drivers, tier_rows, parts, pairs, x, padded, threads=1):
    """What a packer of `drivers` makes of rows x, as float64 (blocks * rows, padded)."""
    height, depth = x.shape
    blocks = -(-height // tier_rows)
    if parts:
        pack = drivers.pack_for_tiles(parts, lambda f: f)
        a = np.full(blocks * 32 * padded * parts, 77, np.uint16)
    else:
        pack = drivers.pack_for_vectors(tier_rows, pairs, lambda f: f)
        a = np.full(blocks * tier_rows * padded, 77, np.uint16 if pairs else F32)
    flat = (x.view(np.uint16) if x.dtype == BF16 else x).reshape(-1)
    for me in range(threads):
        pack(me, threads, flat, a, height, depth, padded)
    return a


def laws_of_packers(drivers, layout):
    """Rows in a tier's order, by index from the drawing in each packer's words."""
    x, padded = rows_of_every_size()[:5, :37], 64
    x = np.concatenate([x] * 7 + [x[:1]])                                          # 36 rows: two blocks of tiles
    for parts in (1, 3):
        a = packed_by(drivers, 32, parts, False, x, padded, threads=3).reshape(2, 2, parts, 2, 16, 32)
        rows = a.transpose(2, 0, 3, 4, 1, 5).reshape(parts, 64, 64)
        whole = np.zeros((64, 64), F32)
        whole[:36, :37] = x
        assert np.array_equal(rows, layout.split(whole, parts))
    for rows, pairs in ((6, False), (6, True), (4, False)):
        a = packed_by(drivers, rows, 0, pairs, x, padded, threads=2)
        blocks = -(-36 // rows)
        whole = np.zeros((blocks * rows, 64), F32)
        whole[:36, :37] = x
        if pairs:
            got = a.view(BF16).reshape(blocks, 32, rows, 2).transpose(0, 2, 1, 3).reshape(blocks * rows, 64)
            assert np.array_equal(got.astype(F32), whole.astype(BF16).astype(F32))
        else:
            assert np.array_equal(a.reshape(blocks, 64, rows).transpose(0, 2, 1).reshape(-1, 64), whole)
    narrow = x.astype(BF16)                                                        # bfloat16 rows, as their bits
    a = packed_by(drivers, 4, 0, False, narrow, padded)
    assert np.array_equal(a.reshape(9, 64, 4).transpose(0, 2, 1).reshape(36, 64)[:, :37], narrow.astype(F32))

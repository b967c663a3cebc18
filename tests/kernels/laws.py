"""Laws of the order of numbers in memory, of the module that a caller gives: `test_products.py` holds the real one to
them, `test_mutants.py` changed ones.
"""

from __future__ import annotations

import numpy as np

from minivl.kernels.jit import tiers
from minivl.kernels.jit.build import Maker
from minivl.kernels.jit.emulator import Emulator

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
    """float32 (8, 40): ordinary, huge, tiny, with all bits set, halfway between two bfloat16; infinities and NaN in
    the last two rows."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(8, 40)) * 2.0 ** rng.integers(-90, 90, (8, 40))).astype(F32)
    x[1] = rng.integers(0, 2**23, 40) + F32(2**23 - 1)
    x[2, :4] = np.finfo(F32).max, -np.finfo(F32).max, 1 - 2**-24, -(1 + 2**-23)
    x[3] = (np.arange(40).astype(np.uint32) * np.uint32(0x8000) + np.uint32(0x3F800000)).view(F32)     # halfway
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


def packed_by(tier, exact, x, padded, threads=1):
    """What a tier's packer makes of rows x on the emulator: (blocks, numbers of a block)."""
    about = tiers.TIERS[tier]
    packing = Maker(about, Emulator(about.lanes)).inner_product(exact)[1]
    height, depth = x.shape
    blocks = -(-height // packing.rows)
    a = np.full(blocks * packing.rows * padded * packing.parts, 77, packing.dtype)
    for me in reversed(range(threads)):
        packing.pack(me, threads, (x.view(np.uint16) if x.dtype == BF16 else x).reshape(-1), a, height, depth, padded)
    return a.reshape(blocks, -1)


def laws_of_packers():
    """Rows in each tier's order, padded with zeros: number by number from the drawing in words."""
    x = np.concatenate([rows_of_every_size()[:, :37]] * 5)[:35]                     # two blocks of tiles
    short, narrow = x[:, :32], x.astype(BF16)
    for tier, exact, rows, padded, threads in (
            ("amx", True, x, 96, 3), ("amx", False, narrow, 96, 1), ("amx", True, short, 32, 2),
            ("amx", False, narrow[:32, :32], 32, 2), ("avx512-bf16", False, narrow, 96, 2), ("avx2", True, x, 96, 2),
            ("portable", False, narrow, 64, 1), ("avx2", True, short, 32, 3), ("portable", True, short[:7], 32, 2),
            ("avx512-bf16", False, narrow[:, :32], 32, 3)):
        a = packed_by(tier, exact, rows, padded, threads)
        block_rows = {"amx": 32, "avx512-bf16": 12, "avx2": 6, "portable": 4}[tier]
        whole = np.zeros((len(a) * block_rows, padded), rows.dtype)
        whole[:len(rows), :rows.shape[1]] = rows
        blocks = whole.reshape(len(a), block_rows, padded)
        if tier == "amx":                      # block step part half row k
            parts = three_parts(blocks) if exact else blocks.astype(BF16).view(np.uint16)[None]
            wanted = parts.reshape(len(parts), len(a), 2, 16, padded // 32, 32).transpose(1, 4, 0, 2, 3, 5)
        elif tier == "avx512-bf16":            # block pair row parity
            wanted = blocks.view(np.uint16).reshape(len(a), block_rows, -1, 2).transpose(0, 2, 1, 3)
        else:                                  # block k row
            wanted = blocks.astype(F32).transpose(0, 2, 1)
        assert same_bits(a.reshape(wanted.shape), wanted), tier


def three_parts(x):
    """float32 as three bfloat16 (bits), each the upper half of what the others leave, by float64."""
    out, rest = np.zeros((3, *x.shape), np.uint16), x.astype(np.float64)
    for part in range(3):
        out[part] = rest.astype(F32).view(np.uint32) >> 16
        with np.errstate(invalid="ignore"):
            rest = np.where(np.isfinite(x), rest - out[part].view(BF16).astype(np.float64), 0)
    return out


def same_bits(a, b):
    """Equal arrays of bits or of numbers, where one NaN is as good as another."""
    if a.dtype != np.uint16:
        return np.array_equal(a, b, equal_nan=True)
    return np.array_equal(a.view(BF16).astype(F32), b.view(BF16).astype(F32), equal_nan=True)

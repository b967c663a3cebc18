"""The instructions that fast kernels are made of, executed exactly in NumPy.

A kernel of `products.py` is written once, against the words of this class. `machine.py` has the same
words and makes machine code of them; here they run one by one, bit for bit as the processor runs them,
so a machine without tiles tests the kernels for tiles. Every address is checked, tiles keep what their
configuration says, and an instruction before a configuration is an error.

Rounding is the processor's: bfloat16 products treat denormals as zero on the way in and on the way out,
and round each sum once to nearest even (Intel 64 and IA-32 Architectures Software Developer's Manual,
volume 2: TDPBF16PS, VDPBF16PS, TDPBSSD, VPDPBUSD). A sum of a product is rounded once here; a processor
without FMA, which runs the tier `portable`, may round the product first.

Read next: `products.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
TILE_ROWS, TILE_BYTES = 16, 64                 # of a whole tile: 1 KB
SMALLEST = np.float32(np.finfo(np.float32).smallest_normal)


class Trap(Exception):
    """What the processor would not survive, or would do in silence: an address outside of its array, a
    tile that is not configured."""


@dataclass(frozen=True)
class Pointer:
    """A place in an array, in bytes from its start. `+` moves it by bytes."""
    memory: Array                              # flat, uint8: the array's own bytes
    offset: int

    def __add__(self, more: int) -> Pointer:
        return Pointer(self.memory, self.offset + int(more))

    def bytes(self, size: int) -> Array:
        """The next `size` bytes, not copied. Raises Trap where they are not all inside of the array."""
        if self.offset < 0 or self.offset + size > len(self.memory):
            raise Trap(f"bytes {self.offset}..{self.offset + size} of an array of {len(self.memory)}")
        return self.memory[self.offset:self.offset + size]


def pointer(array: Array, index: int = 0) -> Pointer:
    """A pointer to element `index` of an array, whose memory must be in one piece."""
    return Pointer(array.reshape(-1).view(np.uint8), int(index) * array.itemsize)


class Register:
    """A vector that a loop carries from one turn to the next."""

    def __init__(self, value: Array):
        self.value = value


class Emulator:
    """A processor with vectors of `lanes` 32-bit numbers and, when configured, eight tiles."""

    def __init__(self, lanes: int = 16):
        self.lanes, self.lines_an_ask = lanes, 1
        self.tiles: list[Array | None] = [None] * 8
        self.counts: dict[str, int] = {}

    # ---- loops and registers

    def loop(self, times: int) -> Iterator[int]:
        """Every number below `times`, which is at least 1 as in the machine code."""
        if times < 1:
            raise Trap(f"a loop of {times} turns")
        return iter(range(times))

    def register(self) -> Register:
        """A register that holds zeros."""
        return Register(np.zeros(self.lanes, np.float32))

    # ---- vectors: float32 or uint32, `lanes` of them

    def load(self, at: Pointer) -> Array:
        """float32 vector"""
        return at.bytes(4 * self.lanes).view(np.float32).copy()

    def load_words(self, at: Pointer) -> Array:
        """uint32 vector"""
        return at.bytes(4 * self.lanes).view(np.uint32).copy()

    def renamed(self, at: Pointer) -> Pointer:
        """The same place, where a compiler must not take it for the same."""
        return at

    def store(self, at: Pointer, vector: Array) -> None:
        """Write a float32 vector."""
        at.bytes(4 * self.lanes)[:] = np.asarray(vector, np.float32).view(np.uint8)

    def splat(self, at: Pointer) -> Array:
        """The float32 there, in every lane."""
        return np.repeat(at.bytes(4).view(np.float32), self.lanes)

    def splat_word(self, at: Pointer) -> Array:
        """The uint32 there, in every lane."""
        return np.repeat(at.bytes(4).view(np.uint32), self.lanes)

    def ahead(self, at: Pointer) -> None:
        """Ask for the memory there, which will be read soon; nothing where none is."""

    def as_floats(self, words: Array) -> Array:
        """The same bits, as float32."""
        return words.view(np.float32)

    def as_words(self, x: Array) -> Array:
        """The same bits, as uint32."""
        return x.view(np.uint32)

    def quiet(self, x: Array) -> Array:
        """NaN with a bit set that its upper half keeps; other numbers as they are."""
        words = x.view(np.uint32)
        return np.where(np.isnan(x), words | np.uint32(0x400000), words).view(np.float32)

    def without_nan(self, x: Array) -> Array:
        """Zero in the place of NaN."""
        return np.where(np.isnan(x), np.float32(0), x)

    def store_upper(self, at: Pointer, x: Array) -> None:
        """Write the upper 16 bits of each number."""
        halves = (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        at.bytes(2 * self.lanes)[:] = halves.view(np.uint8)

    def low(self, words: Array) -> Array:
        """The bfloat16 in the lower half of each word, as float32."""
        return (words << np.uint32(16)).view(np.float32)

    def high(self, words: Array) -> Array:
        """The bfloat16 in the upper half of each word, as float32."""
        return (words & np.uint32(0xFFFF0000)).view(np.float32)

    def signed_byte(self, words: Array, number: int) -> Array:
        """Byte 0 (lowest) to 3 of each word, a signed number, as float32."""
        return words.view(np.int8).reshape(-1, 4)[:, number].astype(np.float32)

    def lifted(self, words: Array) -> Array:
        """The four signed bytes of each word, each plus 128, as unsigned ones."""
        return words ^ np.uint32(0x80808080)

    def nibble(self, words: Array, number: int) -> Array:
        """Four bits of each word, number 0 (lowest) to 7, a number from 0 to 15, as float32."""
        return (words >> np.uint32(4 * number) & np.uint32(15)).astype(np.float32)

    def nibble_in_place(self, words: Array, number: int) -> Array:
        """The same times 16**number, as it lies in its word, but number 7 as it is: exact, it has four bits."""
        return (words & np.uint32(15 << 4 * number) if number < 7 else words >> np.uint32(28)).astype(np.float32)

    def nibble_pair(self, words: Array, number: int, upper: bool) -> Array:
        """Nibbles `number` (0 to 3) and `number + 4` of each word as the two bfloat16 of a word. upper: they
        are the upper half of a signed byte, 16 times a number from -8 to 7."""
        pair = [self.nibble(words, nibble) for nibble in (number, number + 4)]
        if upper:
            pair = [np.where(x < 8, x, x - 16).astype(np.float32) * np.float32(16) for x in pair]
        low, high = (x.view(np.uint32) for x in pair)
        return low >> np.uint32(16) | high

    def add(self, x: Array, y: Array) -> Array:
        """x + y"""
        with np.errstate(all="ignore"):
            return x + y

    def subtract(self, x: Array, y: Array) -> Array:
        """x - y"""
        with np.errstate(all="ignore"):
            return x - y

    def multiply(self, x: Array, y: Array) -> Array:
        """x * y"""
        with np.errstate(all="ignore"):
            return x * y

    def multiply_add(self, x: Array, y: Array, z: Array) -> Array:
        """x * y + z, rounded once."""
        return fused(x, y, z)

    def dot_bf16(self, total: Array, x: Array, y: Array) -> Array:
        """total + the products of the two bfloat16 in each word of x and y: VDPBF16PS."""
        self._count("vdpbf16ps")
        odd = fused_flushed(flushed(self.high(x)), flushed(self.high(y)), flushed(total))
        return fused_flushed(flushed(self.low(x)), flushed(self.low(y)), odd)

    def dot_u8s8(self, total: Array, x: Array, y: Array) -> Array:
        """total (int32 in words) + the products of four unsigned bytes in each word of x with four
        signed bytes in that of y; a sum that int32 does not hold wraps around: VPDPBUSD."""
        self._count("vpdpbusd")
        unsigned = x.view(np.uint8).reshape(-1, 4).astype(np.int64)
        signed = y.view(np.int8).reshape(-1, 4).astype(np.int64)
        return (total.view(np.int32) + (unsigned * signed).sum(axis=1)).astype(np.int32).view(np.uint32)

    # ---- tiles

    def configure(self, at: Pointer) -> None:
        """Rows and bytes of every tile, from 64 bytes in memory: LDTILECFG. Tiles are zeros after it."""
        form = at.bytes(64)
        if form[0] != 1:
            raise Trap(f"a tile configuration of palette {form[0]}")
        widths, rows = form[16:32].view(np.uint16), form[48:56]
        if rows.max() > TILE_ROWS or widths.max() > TILE_BYTES:
            raise Trap(f"tiles of {rows.max()} rows of {widths.max()} bytes")
        self.tiles = [np.zeros((r, w), np.uint8) for r, w in zip(rows, widths[:8], strict=True)]

    def release(self) -> None:
        """No tile is configured any more: TILERELEASE."""
        self.tiles = [None] * 8

    def tile(self, number: int) -> Array:
        """The bytes of a tile (rows, width). Raises Trap for one that is not configured."""
        found = self.tiles[number]
        if found is None or not found.size:
            raise Trap(f"tile {number} is not configured")
        return found

    def tile_zero(self, number: int) -> None:
        """TILEZERO"""
        self.tile(number)[:] = 0

    def tile_load(self, number: int, at: Pointer, stride: int = TILE_BYTES) -> None:
        """The rows of a tile, `stride` bytes apart in memory: TILELOADD."""
        for i, row in enumerate(self.tile(number)):
            row[:] = (at + i * stride).bytes(len(row))

    def tile_store(self, number: int, at: Pointer, stride: int = TILE_BYTES) -> None:
        """The rows of a tile, `stride` bytes apart in memory: TILESTORED."""
        for i, row in enumerate(self.tile(number)):
            (at + i * stride).bytes(len(row))[:] = row

    def tile_dot_bf16(self, total: int, x: int, y: int) -> None:
        """total (16, 16 float32) += x (16, 32 bfloat16) times y (16, 16 pairs of bfloat16): TDPBF16PS.

        Products of even and of odd places are added up apart, each in the order of k, then together.
        """
        self._count("tdpbf16ps")
        a, b, c = self._operands(total, x, y)
        a, b = a.view(np.uint16), b.view(np.uint16)                          # r 2k, k 2n
        sums = []
        for part in (0, 1):
            left, right = _widened(a[:, part::2]), _widened(b[:, part::2])   # r k, k n
            partial = np.zeros((len(a), right.shape[1]), np.float32)
            for k in range(left.shape[1]):
                partial = fused_flushed(left[:, k, None], right[k], partial)
            sums.append(partial)
        both = flushed(self.add(sums[0], sums[1]))
        c.view(np.float32)[:] = flushed(self.add(flushed(c.view(np.float32)), both))

    def tile_dot_s8(self, total: int, x: int, y: int) -> None:
        """total (16, 16 int32) += x (16, 64 int8) times y (16, 16 fours of int8): TDPBSSD."""
        self._count("tdpbssd")
        a, b, c = self._operands(total, x, y)
        left = a.view(np.int8).astype(np.int64)                              # r 4k
        fours = b.view(np.int8).reshape(len(b), -1, 4)                       # k n 4
        right = fours.transpose(0, 2, 1).reshape(4 * len(b), -1).astype(np.int64)        # 4k n
        c.view(np.int32)[:] = (c.view(np.int32) + left @ right).astype(np.int32)

    def _operands(self, total: int, x: int, y: int) -> tuple[Array, Array, Array]:
        a, b, c = self.tile(x), self.tile(y), self.tile(total)
        if len({total, x, y}) < 3:
            raise Trap(f"tiles {total}, {x}, {y} of a product are not three")
        if a.shape[1] != 4 * len(b) or c.shape != (len(a), b.shape[1]):
            raise Trap(f"tiles of {a.shape} and {b.shape} bytes do not give one of {c.shape}")
        return a, b, c

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def _widened(bits: Array) -> Array:
    """bfloat16 bits as float32, denormals as zero."""
    return flushed((bits.astype(np.uint32) << np.uint32(16)).view(np.float32))


def flushed(x: Array) -> Array:
    """Denormal numbers as zeros of their sign."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x).astype(np.float32)


def fused(x: Any, y: Any, z: Any) -> Array:
    """x * y + z of float32 numbers, rounded once."""
    with np.errstate(all="ignore"):
        return _fused_to_odd(x, y, z).astype(np.float32)


def fused_flushed(x: Any, y: Any, z: Any) -> Array:
    """`fused`, and denormal results as zeros. Too small is what is so after rounding as if exponents had
    no end: a sum just below the normal numbers, which only the denormals' coarser grid rounds up to
    them, is zero."""
    with np.errstate(all="ignore"):
        total = _fused_to_odd(x, y, z)
        small = np.abs((total * 2.0**100).astype(np.float32)) < SMALLEST * np.float32(2.0**100)
        return np.where(small, np.copysign(0, total), total).astype(np.float32)


def _fused_to_odd(x: Any, y: Any, z: Any) -> Array:
    """x * y + z of float32 numbers in float64. The product is exact there. The sum is rounded to odd,
    which makes the second rounding, to float32, that of the exact sum."""
    product = np.asarray(x, np.float64) * np.asarray(y, np.float64)
    addend = np.asarray(z, np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)         # exact: total + error is the whole sum
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where((error != 0) & np.isfinite(error) & even, np.nextafter(total, towards), total)

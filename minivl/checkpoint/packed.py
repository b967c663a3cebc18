"""A weight in the order of `layout.py`: what the compiled kernels multiply by, and a `Weight` to
everybody else. Also the two ways to make a weight smaller, by the plainest rule of each:

int8: a row divided by its largest number / 127, rounded. int4: 128 neighbours along k between their
least and their largest number in 15 steps, as AWQ keeps them (Lin et al., 2023, without its search for
scales). What they give back is `(number - zero) * scale`.

Not here: files of packed weights (`packed_folder.py`). Read next: `kernels/jit/drivers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from ..door.errors import ArgumentError, OutOfRange
from .awq import FourBit
from .layout import COLUMNS, IN_WORD, aligned, depth, pack, tile_shape, unpack_rows
from .tree import Weight
from .weight import Absent, CheckpointError, Joined, Reshaped, Stored, let_go, precision

PIECE = 1 << 21                                # numbers that are packed at a time
BLOCKS = 64                                    # of 32 rows, given back at a time
NONE = np.zeros(0, np.float32)

Array = np.ndarray


class Packed:
    """Numbers in tiles. `dense`, `rows` and `fill` give them back, exactly as they are multiplied.

    tiles: `layout.tile_shape`, uint32; scales: (32 blocks) for int8, (blocks, steps, 32) for int4, else
    empty; zeros: as scales for int4, whole numbers, else empty
    """

    def __init__(self, tiles: Array, shape: tuple[int, int], format: str, scales: Array = NONE,
                 zeros: Array = NONE):
        self._arrays = {"tiles": tiles, "scales": scales, "zeros": zeros}
        self.shape, self.format = shape, format

    def array(self, name: str) -> Array:
        """Tiles, scales or zeros."""
        return self._arrays[name]

    @property
    def tiles(self) -> Array:
        return self.array("tiles")

    @property
    def scales(self) -> Array:
        return self.array("scales")

    @property
    def zeros(self) -> Array:
        return self.array("zeros")

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles and of both tables."""
        return sum(4 * prod(shape) for _, shape in array_shapes(self.shape, self.format).values())

    def rows(self, index: Array, dtype: Any) -> Array:
        """Rows `index`, read through the tiles. Raises OutOfRange for one that is not there."""
        index = np.asarray(index)
        if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
            raise OutOfRange(f"rows {index.min()}..{index.max()} asked of a table of {self.shape[0]} "
                             "rows")
        flat = index.reshape(-1)
        numbers = unpack_rows(self.tiles, self.format, flat, self.shape[1])
        if self.format == "int8":
            numbers = numbers.astype(np.float32) * self.scales[flat, None]
        elif self.format == "int4":
            numbers = self._scaled(numbers, flat)
        kind = "bf16" if self.format == "bf16" else "f32"
        return Stored(numbers, kind).dense(dtype).reshape(*index.shape, self.shape[1])

    def _scaled(self, numbers: Array, rows: Array) -> Array:
        step = np.arange(self.shape[1]) // depth("int4")
        block, column = (rows // COLUMNS)[:, None], (rows % COLUMNS)[:, None]
        zero, scale = (table[block, step, column] for table in (self.zeros, self.scales))      # i k
        return (numbers - zero) * scale

    def dense(self, dtype: Any) -> Array:
        """All of it as a model of precision `dtype` holds it."""
        out = np.empty(self.shape, precision(dtype))
        self.fill(out)
        return out

    def fill(self, out: Array) -> None:
        """Write `dense(out.dtype)` into `out`, some blocks at a time."""
        for start in range(0, self.shape[0], BLOCKS * COLUMNS):
            index = np.arange(start, min(start + BLOCKS * COLUMNS, self.shape[0]))
            out[start:start + len(index)] = self.rows(index, out.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.format} {list(self.shape)})"


def array_shapes(shape: tuple[int, int], format: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The arrays of a packed weight (n, k), in Python's own integers: name -> (dtype, shape)."""
    tiles = tile_shape(*shape, format)
    found: dict[str, tuple[str, tuple[int, ...]]] = {"tiles": ("U32", tiles)}
    if format == "int8":
        found["scales"] = ("F32", (tiles[0] * COLUMNS,))
    if format == "int4":
        found |= dict.fromkeys(("scales", "zeros"), ("F32", (tiles[0], tiles[1], COLUMNS)))
    return found


def end_format(format: str | None) -> str | None:
    """The format of the ends of a model (patches, merger, embedding, head) whose blocks have `format`:
    four bits are too few for them."""
    return "int8" if format == "int4" else format


# --------------------------------------------------------------------------------------------- packing

Packer = Callable[[Array, int, Packed], None]


def packed(weight: Weight, format: str | None = None, packer: Packer | None = None,
           wide: str = "f32") -> Weight:
    """The weight in tiles of a format; without one in its own, where tiles have it. Otherwise four bits
    of AWQ stay the numbers that they are, float64 stays as it is, and the rest is unpacked to `wide`,
    which is exact for float32. Pages of a file that were read for it are given back.

    packer: what packs rows, instead of `pack_rows`; it gives the same bits.
    Raises ArgumentError for a format that there is none of, and CheckpointError for numbers that are not
    finite where they would be rounded to steps of their largest.
    """
    if isinstance(weight, Packed | Absent) or len(weight.shape) != 2:
        return weight
    fours = fours_in(weight) if format in (None, "int4") else []
    format = format or ("int4" if fours else weight.format if weight.format in (*IN_WORD, "f64") else wide)
    if format not in IN_WORD:
        if format == "f64":
            return weight
        raise ArgumentError(f"weights are packed as {', '.join(IN_WORD)}, not as {format!r}")
    n, k = weight.shape
    tables = array_shapes((n, k), format)
    out = Packed(aligned(tables.pop("tiles")[1], np.uint32), (n, k), format,
                 **{name: np.zeros(shape, np.float32) for name, (_, shape) in tables.items()})
    if fours:
        pack_fours(fours, out)
    for first, numbers, source in pieces(weight, format) if not fours else ():
        (packer or pack_rows)(numbers, first, out)
        let_go(source)
    if not np.isfinite(out.scales).all():
        raise CheckpointError(f"a weight {list(weight.shape)} holds infinity or NaN: {format} has neither; "
                              "keep it in bf16 or f32")
    return out


def pieces(weight: Weight, format: str) -> Iterator[tuple[int, Array, Weight | None]]:
    """The rows of a weight, in order: (first row, numbers (rows, k), the weight that is done with them).

    Numbers are the bits of bfloat16 (uint16) or float32. What is stored so comes in one piece and is
    not copied; a piece begins at a multiple of 32 rows.
    """
    for first, part in _parts(weight, 0):
        wide = part.format == "f32" and format != "bf16"
        if isinstance(part, Stored) and (part.format == "bf16" or wide):
            stored = part.stored
            if stored.flags.c_contiguous:
                yield first, stored.reshape(part.shape[0], -1), part
                continue
        yield from _converted(first, part, format)


def _parts(weight: Weight, first: int) -> list[tuple[int, Weight]]:
    """The stored weights that one is made of, each with its first row; itself where a part would begin
    within a block."""
    if isinstance(weight, Reshaped):
        return _parts(weight.weight, first)
    if not isinstance(weight, Joined):
        return [(first, weight)]
    starts = [first + sum(part.shape[0] for part in weight.parts[:i]) for i in range(len(weight.parts))]
    if any(start % COLUMNS for start in starts):
        return [(first, weight)]
    return [one for part, start in zip(weight.parts, starts, strict=True) for one in _parts(part, start)]


def _converted(first: int, part: Weight, format: str) -> Iterator[tuple[int, Array, Weight | None]]:
    """The rows of any other weight, some blocks at a time, rounded once."""
    width = prod(part.shape[1:])
    step = max(1, PIECE // (COLUMNS * max(1, width))) * COLUMNS
    for start in range(0, part.shape[0], step):
        index = np.arange(start, min(start + step, part.shape[0]))
        numbers = part.rows(index, "bfloat16" if format == "bf16" else "float32")
        bits = numbers.view(np.uint16) if format == "bf16" else numbers
        last = index[-1] + 1 == part.shape[0]
        yield first + start, bits.reshape(len(index), width), part if last else None


def pack_rows(numbers: Array, first: int, out: Packed) -> None:
    """Rows (n, k) from row `first` on, a multiple of 32, into tiles and tables: the definition.

    numbers: bits of bfloat16 (uint16), or float32
    """
    step = max(1, PIECE // (COLUMNS * max(1, numbers.shape[1]))) * COLUMNS
    for start in range(0, len(numbers), step):
        rows = numbers[start:start + step]
        block = (first + start) // COLUMNS
        blocks = slice(block, block + -(-len(rows) // COLUMNS))
        pack(_numbers(rows, first + start, out, blocks), out.format, out.tiles[blocks])


def fours_in(weight: Weight) -> list[FourBit]:
    """The matrices of AWQ that a weight is made of, when all of it is in groups that tiles of int4 have;
    else none."""
    parts = list(weight.parts) if isinstance(weight, Joined) else [weight]
    fours = [part for part in parts if isinstance(part, FourBit) and part.group % depth("int4") == 0]
    return fours if len(fours) == len(parts) else []


def pack_fours(parts: list[FourBit], out: Packed) -> None:
    """Matrices one above the other into tiles and tables: the numbers that they hold, not rounded
    again."""
    starts = np.cumsum([0, *(part.shape[0] for part in parts)])
    step = max(1, PIECE // (COLUMNS * max(1, out.shape[1]))) * COLUMNS
    for first in range(0, out.shape[0], step):
        last = min(first + step, out.shape[0])
        found = [part.numbers(np.arange(max(first, start) - start, min(last, start + part.shape[0]) - start))
                 for part, start in zip(parts, starts, strict=False)
                 if start < last and first < start + part.shape[0]]
        numbers, scales, zeros = (np.concatenate(tables) for tables in zip(*found, strict=True))
        blocks = slice(first // COLUMNS, -(-last // COLUMNS))
        pack(numbers, "int4", out.tiles[blocks])
        group = np.arange(out.tiles.shape[1]) * scales.shape[1] // out.tiles.shape[1]        # of each step
        for table, values in ((out.scales, scales), (out.zeros, zeros)):
            whole = np.zeros((table[blocks].shape[0] * COLUMNS, len(group)), np.float32)
            whole[:len(values)] = values[:, group]
            table[blocks] = whole.reshape(-1, COLUMNS, len(group)).transpose(0, 2, 1)
    for part in parts:
        part.let_go()


def _numbers(rows: Array, first: int, out: Packed, blocks: slice) -> Array:
    """Rows as the numbers of a format; their scales and zeros go into the tables."""
    if out.format == "bf16":
        return rows
    x = Stored(rows, "bf16" if rows.dtype == np.uint16 else "f32").dense(np.float32)
    if out.format == "int8":
        with np.errstate(invalid="ignore"):                # infinity and NaN: refused when all is packed
            scale = np.maximum(np.abs(x).max(axis=1), np.float32(1e-30)) / np.float32(127)
            out.scales[first:first + len(x)] = scale
            return np.rint(x / scale[:, None]).astype(np.int8)
    if out.format == "int4":
        with np.errstate(invalid="ignore"):
            return _fours(x, out.scales[blocks], out.zeros[blocks])
    return x


def _fours(x: Array, scales: Array, zeros: Array) -> Array:
    """Rows (n, k) as numbers 0..15 in groups of 128 along k; both tables are filled in place."""
    blocks, steps, _ = scales.shape
    whole = np.zeros((blocks * COLUMNS, steps * depth("int4")), np.float32)
    whole[:x.shape[0], :x.shape[1]] = x
    groups = whole.reshape(blocks, COLUMNS, steps, -1)
    least, most = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)     # zero stays zero
    scale = np.maximum(most - least, np.float32(1e-30)) / np.float32(15)
    zero = np.clip(np.rint(-least / scale), 0, 15) + np.float32(0)                     # no -0
    scales[:], zeros[:] = scale.transpose(0, 2, 1), zero.transpose(0, 2, 1)
    numbers = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, 15)
    return numbers.reshape(whole.shape)[:x.shape[0], :x.shape[1]].astype(np.uint8)

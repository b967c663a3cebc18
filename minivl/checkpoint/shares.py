"""Which part of each tensor a rank has, when several ranks run one layer together.

A matrix is cut in one of two ways. By *rows*, each rank makes some of the results from all of the input;
by *columns*, each rank makes a part of every result from some of the input, and the parts must be
summed. One after the other, rows and then columns, they need one sum for two matrices:

| place | cut by | so a rank has |
|---|---|---|
| `qkv` | rows, of q, of k and of v | some heads, and the key heads that they use |
| `out` | columns | what these heads give |
| `gate_up` | rows, of gate and of up | some columns of the inner layer |
| `down` | columns | what these columns give |
| `merger.inner`, `merger.outer` | rows, columns | the same of the merger |
| `embed`, `head` | rows | some words of the vocabulary |

All else (norms, biases behind a sum, the kernels of patches) every rank has whole.

Not here: who sums (`run/cut/`). Read next: `names.py`, whose `build` takes `place`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..config import ModelConfig, TextConfig, VisionConfig
from ..door.errors import ArgumentError
from .layout import COLUMNS, aligned, depth, pack, tile_shape, unpack_rows
from .names import Place, place_shapes, wanted
from .packed import Packed
from .safetensors import ITEM, Mapped
from .tree import Weight
from .weight import Absent, CheckpointError, Joined, Stored, let_go

Span = tuple[int, int]
Array = np.ndarray
BY_ROWS = ("qkv.weight", "qkv.bias", "gate_up.weight", "gate_up.bias", "inner.weight", "inner.bias",
           "embed", "head")
AT_ONCE = 64 * COLUMNS                         # rows that are put into tiles anew at a time
ELSEWHERE = ("this weight lies on another rank of this job; a tool that looks inside of all layers needs "
             "a job without pipeline stages")
BY_COLUMNS = ("out.weight", "down.weight", "outer.weight")


def check_divides(config: ModelConfig, of: int) -> None:
    """Raises ArgumentError that names every size of a model which cannot be cut into so many equal
    parts."""
    v, t = config.vision, config.text
    sizes = {"the decoder's heads": t.heads, "its key heads": t.kv_heads,
             "its inner width": t.intermediate_size, "the vocabulary": t.vocab_size}
    if v.depth:
        sizes |= {"the tower's heads": v.heads, "its inner width in the tower": v.intermediate_size,
                  "the merger's width": v.hidden_size * v.spatial_merge_size ** 2}
    odd = [f"{name} ({count})" for name, count in sizes.items() if count % of]
    if odd:
        raise ArgumentError(f"tensor={of} does not divide {', '.join(odd)}: give a number that divides "
                            "all of them, and more pipeline stages instead")


def share_of_heads(part: Any, of: int) -> Any:
    """The configuration of a block with a rank's share of the heads; a head stays as wide."""
    if isinstance(part, VisionConfig):
        return replace(part, num_heads=part.heads // of)
    assert isinstance(part, TextConfig)
    return replace(part, num_attention_heads=part.heads // of, num_key_value_heads=part.kv_heads // of)


def sharing(config: ModelConfig, shard: int, of: int, here: Callable[[str], bool]) -> Place:
    """The `place=` of `names.build` for rank `shard` of `of`.

    here: whether a place of the tree is on this rank at all; what is not is Absent, and takes nothing.
    """
    table = wanted(config)                                # made once: it has a row for every tensor
    names = {name: (place, i) for place, sources in table.items() for i, name in enumerate(sources)}
    names |= {place: (place, -1) for place in place_shapes(config)}

    def place(name: str, weight: Weight) -> Weight:
        where, source = names[name]
        if not here(where):
            return Absent(weight.shape, ELSEWHERE)
        return share(where, weight, stacks(where, config, table[where], source), shard, of)
    return place


def stacks(where: str, config: ModelConfig, sources: Mapping[str, tuple[int, ...]],
           source: int) -> list[int]:
    """Heights of the matrices that stand one above the other in a tensor, each of which is cut by
    itself.

    sources: the tensors of its place, with their shapes; source: which of them it is, -1: all of them in
        one
    """
    if where.startswith("vision.blocks") and ".qkv." in where:
        return [config.vision.hidden_size] * 3
    heights = [shape[0] for shape in sources.values()]
    return heights if source < 0 else heights[source:source + 1]


def share(where: str, weight: Weight, heights: Sequence[int], shard: int, of: int) -> Weight:
    """A rank's share of one tensor. Raises CheckpointError for a kind of weight that cannot be cut, or
    not there."""
    rows, columns = (where.endswith(ends) for ends in (BY_ROWS, BY_COLUMNS))
    if of == 1 or not (rows or columns):
        return weight
    if not isinstance(weight, Stored | Packed):
        raise CheckpointError(f"{where} is kept as {weight.format}, which cannot be cut: pack the "
                              "checkpoint first (minivl convert), and cut that")
    if columns:
        return columns_of(weight, part(weight.shape[1], shard, of), where)
    starts = np.cumsum([0, *heights]).tolist()
    spans = [(start + a, start + b) for start, height in zip(starts, heights, strict=False)
             for a, b in [part(height, shard, of)]]
    return rows_of(weight, spans)


def part(size: int, shard: int, of: int) -> Span:
    """The range of rank `shard` out of `of` equal ones."""
    return size * shard // of, size * (shard + 1) // of


# ------------------------------------------------------------------------------------- kinds of parts

class Columns(Stored):
    """Some columns of a stored weight; not copied."""

    def __init__(self, weight: Stored, span: Span):
        self.weight, self.span, self.format = weight, span, weight.format
        self.shape = (weight.shape[0], span[1] - span[0])

    @property
    def stored(self) -> Array:
        return self.weight.stored[:, self.span[0]:self.span[1]]

    def let_go(self) -> None:
        """Give the pages that were read for it back to the system."""
        let_go(self.weight)


def rows_of(weight: Stored | Packed, spans: Sequence[Span]) -> Weight:
    """Some ranges of rows, one above the other: of a file's tensor mapped as before, of tiles in memory
    of their own unless it is one range that begins and ends with a block."""
    if not isinstance(weight, Packed):
        found = [mapped_rows(weight, span) for span in spans]
        return found[0] if len(found) == 1 else Joined(found)
    if any(at % COLUMNS and at != weight.shape[0] for span in spans for at in span) \
            or any((b - a) % COLUMNS for a, b in spans[:-1]):
        index = np.concatenate([np.arange(a, b) for a, b in spans])
        return tiled_anew(weight, index, (0, weight.shape[1]))
    return blocks_of(weight, spans)


def mapped_rows(weight: Stored, span: Span) -> Stored:
    """Rows of a stored weight; in a file a smaller tensor of it."""
    start, stop = span
    if not isinstance(weight, Mapped):
        return Stored(weight.stored[start:stop], weight.format)
    row = prod(weight.shape[1:]) * ITEM[weight.format.upper()]
    shape = (stop - start, *weight.shape[1:])
    return Mapped(weight.file, weight.format, shape, weight.start + start * row)


def columns_of(weight: Stored | Packed, span: Span, where: str) -> Weight:
    """Some columns: of tiles in memory of their own. Raises CheckpointError for four bits that would be
    cut inside of a group."""
    if not isinstance(weight, Packed):
        return Columns(weight, span)
    if weight.format == "int4" and any(at % depth("int4") and at != weight.shape[1] for at in span):
        raise CheckpointError(f"{where} would be cut at {span[0]} and {span[1]}, inside of a group of "
                              f"{depth('int4')} numbers that share a scale: take fewer shards, or pack "
                              "the checkpoint as int8 or bf16")
    return tiled_anew(weight, np.arange(weight.shape[0]), span)


def blocks_of(weight: Packed, spans: Sequence[Span]) -> Packed:
    """Ranges of whole blocks of rows; a single one stays where it lies."""
    blocks = [slice(a // COLUMNS, -(-b // COLUMNS)) for a, b in spans]
    of_row = [slice(one.start * COLUMNS, one.stop * COLUMNS) for one in blocks]
    cuts = of_row if weight.format == "int8" else blocks          # what a table of scales is counted in
    shape = (sum(b - a for a, b in spans), weight.shape[1])
    tables = [np.concatenate([table[cut] for cut in cuts]) if len(table) else table
              for table in (weight.scales, weight.zeros)]
    tiles = weight.tiles[blocks[0]]
    if len(blocks) > 1:
        tiles = aligned(tile_shape(*shape, weight.format), np.uint32)
        np.concatenate([weight.tiles[one] for one in blocks], out=tiles)
    return Packed(tiles, shape, weight.format, *tables)


def tiled_anew(weight: Packed, index: Array, span: Span) -> Packed:
    """Rows `index` and a range of columns in tiles of their own: the very numbers, with their scales."""
    (first, last), format = span, weight.format
    shape = (len(index), last - first)
    tiles = aligned(tile_shape(*shape, format), np.uint32)
    for start in range(0, len(index), AT_ONCE):
        numbers = unpack_rows(weight.tiles, format, index[start:start + AT_ONCE], weight.shape[1])
        blocks = slice(start // COLUMNS, -(-min(start + AT_ONCE, len(index)) // COLUMNS))
        pack(np.ascontiguousarray(numbers[:, first:last]), format, tiles[blocks])
    padded = len(tiles) * COLUMNS
    if format == "int8":
        scales = np.zeros(padded, np.float32)
        scales[:len(index)] = weight.scales[index]
        return Packed(tiles, shape, format, scales)
    if format == "int4":
        return Packed(tiles, shape, format, *(groups_of(table, index, span, padded)
                                              for table in (weight.scales, weight.zeros)))
    return Packed(tiles, shape, format)


def groups_of(table: Array, index: Array, span: Span, padded: int) -> Array:
    """Scales or zeros of four bits for rows `index` and the groups of a range of columns: blocks steps
    32."""
    steps = slice(span[0] // depth("int4"), -(-span[1] // depth("int4")))
    of_row = table.transpose(0, 2, 1).reshape(-1, table.shape[1])[index, steps]          # row step
    whole = np.zeros((padded, of_row.shape[1]), np.float32)
    whole[:len(index)] = of_row
    return np.ascontiguousarray(whole.reshape(-1, COLUMNS, of_row.shape[1]).transpose(0, 2, 1))

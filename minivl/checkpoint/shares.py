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
from .layout import COLUMNS, aligned, depth
from .names import place_shapes, wanted
from .packed import Packed
from .safetensors import ITEM, Mapped
from .tree import Weight
from .weight import Absent, CheckpointError, Joined, Stored, let_go

Span = tuple[int, int]
Array = np.ndarray
BY_ROWS = ("qkv.weight", "qkv.bias", "gate_up.weight", "gate_up.bias", "inner.weight", "inner.bias", "embed", "head")
ELSEWHERE = ("this weight lies on another rank of this job; a tool that looks inside of all layers needs a job "
             "without pipeline stages")
BY_COLUMNS = ("out.weight", "down.weight", "outer.weight")


def check_divides(config: ModelConfig, of: int) -> None:
    """Raises ArgumentError that names every size of a model which cannot be cut into so many equal
    parts."""
    v, t = config.vision, config.text
    sizes = {"the decoder's heads": t.heads, "its key heads": t.kv_heads, "its inner width": t.intermediate_size,
             "the vocabulary": t.vocab_size}
    if v.depth:
        sizes |= {"the tower's heads": v.heads, "its inner width in the tower": v.intermediate_size,
                  "the merger's width": v.hidden_size * v.spatial_merge_size ** 2}
    odd = [f"{name} ({count})" for name, count in sizes.items() if count % of]
    if odd:
        raise ArgumentError(f"tensor={of} does not divide {', '.join(odd)}: give a number that divides all of them, "
                            "and more pipeline stages instead")


def share_of_heads(part: Any, of: int) -> Any:
    """The configuration of a block with a rank's share of the heads; a head stays as wide."""
    if isinstance(part, VisionConfig):
        return replace(part, num_heads=part.heads // of)
    assert isinstance(part, TextConfig)
    return replace(part, num_attention_heads=part.heads // of, num_key_value_heads=part.kv_heads // of)


def sharing(config: ModelConfig, shard: int, of: int, here: Callable[[str], bool]) -> Callable[[str, Weight], Weight]:
    """The `place=` of `names.build` for rank `shard` of `of`.

    here: whether a place of the tree is on this rank at all; what is not is Absent, and takes nothing.
    """
    table = wanted(config)                                             # made once: it has a row for every tensor
    names = {name: (place, i) for place, sources in table.items() for i, name in enumerate(sources)}
    names |= {place: (place, -1) for place in place_shapes(config)}

    def place(name: str, weight: Weight) -> Weight:
        where, source = names[name]
        if not here(where):
            return Absent(weight.shape, ELSEWHERE)
        return share(where, weight, stacks(where, config, table[where], source), shard, of)
    return place


def stacks(where: str, config: ModelConfig, sources: Mapping[str, tuple[int, ...]], source: int) -> list[int]:
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
        raise CheckpointError(f"{where} is kept as {weight.format}, which cannot be cut: pack the checkpoint first "
                              "(minivl convert), and cut that")
    if columns:
        return columns_of(weight, part(weight.shape[1], shard, of), where)
    starts = np.cumsum([0, *heights]).tolist()
    spans = [(start + a, start + b) for start, height in zip(starts, heights, strict=False)
             for a, b in [part(height, shard, of)]]
    return rows_of(weight, spans, where)


def part(size: int, shard: int, of: int) -> Span:
    """The range of rank `shard` out of `of` equal ones."""
    return size * shard // of, size * (shard + 1) // of


# ------------------------------------------------------------------------------------------ kinds of parts

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


def rows_of(weight: Stored | Packed, spans: Sequence[Span], where: str) -> Weight:
    """Some ranges of rows, one above the other: of a file's tensor mapped as before, of tiles in memory
    of their own where there are several ranges. Raises CheckpointError where tiles cannot be cut
    there."""
    if isinstance(weight, Packed):
        return tiles_of(weight, [(check(a, COLUMNS, weight.shape[0], where), check(b, COLUMNS, weight.shape[0], where))
                                 for a, b in spans])
    found = [mapped_rows(weight, span) for span in spans]
    return found[0] if len(found) == 1 else Joined(found)


def mapped_rows(weight: Stored, span: Span) -> Stored:
    """Rows of a stored weight; in a file a smaller tensor of it."""
    start, stop = span
    if not isinstance(weight, Mapped):
        return Stored(weight.stored[start:stop], weight.format)
    row = prod(weight.shape[1:]) * ITEM[weight.format.upper()]
    return Mapped(weight.file, weight.format, (stop - start, *weight.shape[1:]), weight.start + start * row)


def columns_of(weight: Stored | Packed, span: Span, where: str) -> Weight:
    """Some columns: of tiles in memory of their own. Raises CheckpointError where tiles cannot be cut
    there."""
    if not isinstance(weight, Packed):
        return Columns(weight, span)
    unit = depth(weight.format)
    first, last = (-(-check(at, unit, weight.shape[1], where) // unit) for at in span)
    tiles = in_memory([weight.tiles[:, first:last]])
    if weight.format == "int4":                                        # a scale and a zero for each step
        tables = [np.ascontiguousarray(table[:, first:last]) for table in (weight.scales, weight.zeros)]
    else:
        tables = [np.array(weight.scales), np.array(weight.zeros)]
    return Packed(tiles, (weight.shape[0], span[1] - span[0]), weight.format, *tables)


def tiles_of(weight: Packed, spans: Sequence[Span]) -> Packed:
    """Ranges of rows of a weight in tiles; one range stays where it lies."""
    blocks = [slice(a // COLUMNS, -(-b // COLUMNS)) for a, b in spans]
    of_row = [slice(one.start * COLUMNS, one.stop * COLUMNS) for one in blocks]
    shape = (sum(b - a for a, b in spans), weight.shape[1])
    cuts = of_row if weight.format == "int8" else blocks               # what a table of scales is counted in
    tables = [np.concatenate([table[cut] for cut in cuts]) if len(table) else table
              for table in (weight.scales, weight.zeros)]
    return Packed(in_memory([weight.tiles[one] for one in blocks]), shape, weight.format, *tables)


def in_memory(parts: Sequence[Array]) -> Array:
    """Tiles one after the other, as they lie where there is one piece, else copied to the beginning of a
    line."""
    if len(parts) == 1 and parts[0].flags.c_contiguous:
        return parts[0]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return np.concatenate(parts, out=aligned(shape, np.uint32))


def check(at: int, unit: int, size: int, where: str) -> int:
    """A place where tiles can be cut. Raises CheckpointError for one inside of a tile."""
    if at % unit and at != size:
        raise CheckpointError(f"{where} would be cut at {at}, inside of a tile of {unit}: take fewer parts, or the "
                              "checkpoint that was packed")
    return at

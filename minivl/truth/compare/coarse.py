"""The definitions on weights of few bits: what a quantised candidate must cost, and not more.

    vlm.on("float64", coarse("int8")).logits(inputs)         # every matrix with a scale for each row

int8 and int4 are what `minivl convert` makes (`checkpoint/packed.py`); the others are usual elsewhere.

Source: round to nearest with one scale for a row or for a group of columns, as in GPTQ's baseline
(arXiv 2210.17323, section 3). Read next: `yardstick.py` and `truth/diagnose/quantised.py`, which ask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...checkpoint.packed import packed
from ...checkpoint.tree import MLP, Block, Decoder, Linear, Merger, Model, Vision, Weight
from ...checkpoint.weight import Absent
from ...checkpoint.weight import weight as as_weight
from ...kernels import Interpreter

WEIGHTS = ("int8", "int4")                       # what a candidate's matrices may be said to be kept in


class Steps(NamedTuple):
    """A way of rounding matrices: in words; of the blocks; of the ends (patches, merger, head)."""
    says: str
    blocks: Callable[[Weight], Weight]
    ends: Callable[[Weight], Weight]


def rounded(weight: Weight, bits: int, group: int | None) -> Weight:
    """A weight whose numbers are `nearest`; one that is not there stays so."""
    if isinstance(weight, Absent):
        return weight
    return as_weight(nearest(weight.dense(np.float32), bits, group))


def nearest(table: np.ndarray, bits: int, group: int | None) -> np.ndarray:
    """A matrix rounded to whole numbers of so many bits times a scale, symmetric: o d -> o d. group:
    columns that share a scale, None for all of a row."""
    width = table.shape[1]
    size = width if group is None else min(group, width)
    spare = -width % size
    parts = np.pad(table, ((0, 0), (0, spare))).reshape(len(table), -1, size)          # -> o g size
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(parts).max(axis=-1, keepdims=True), 1e-12) / np.float32(top)
    whole = np.clip(np.rint(parts / scale), -top, top) * scale
    return whole.reshape(len(table), -1)[:, :width].astype(np.float32)


def _everywhere(says: str, way: Callable[[Weight], Weight]) -> Steps:
    return Steps(says, way, way)


INT8 = partial(packed, format="int8")
STEPS = {
    "int8": _everywhere("8 bits, a scale for each row", INT8),
    "int4": Steps("4 bits, a scale and a zero for each 128 columns", partial(packed, format="int4"), INT8),
    "int8 by 32": _everywhere("8 bits, a scale for each 32 columns", partial(rounded, bits=8, group=32)),
    "int4 by 32": _everywhere("4 bits, a scale for each 32 columns", partial(rounded, bits=4, group=32)),
    "int4 by 128": _everywhere("4 bits, a scale for each 128 columns",
                               partial(rounded, bits=4, group=128)),
    "int4 by row": _everywhere("4 bits, a scale for each row", partial(rounded, bits=4, group=None))}


def coarse(kind: str, words: bool = False) -> Interpreter:
    """The definitions on weights of fewer bits, by one of STEPS. Biases and norms stay, and so does the
    table of words; words: not where it is the head."""
    def prepare(model: Model) -> Model:
        return _in_steps(model, STEPS[kind].blocks, STEPS[kind].ends, words)
    return Interpreter(f"definition, weights in {kind}", {}, prepare=prepare)


def _in_steps(part: Any, way: Callable[[Weight], Weight], ends: Callable[[Weight], Weight],
              words: bool) -> Any:
    """Every matrix of a tree, but for the table of words, in steps."""
    def inside(one: Any) -> Any:
        return _in_steps(one, way, ends, words)

    def end(one: Any) -> Any:
        return _in_steps(one, ends, ends, words)
    if isinstance(part, Linear):
        return part._replace(weight=way(part.weight))
    if isinstance(part, Decoder):
        tied = part.head.weight is part.embed
        return part._replace(layers=tuple(map(inside, part.layers)),
                             head=part.head if tied and not words else end(part.head))
    if isinstance(part, Vision):
        return part._replace(blocks=tuple(map(inside, part.blocks)), merger=end(part.merger),
                             patch_embed=end(part.patch_embed))
    if isinstance(part, Model | Block | MLP | Merger):
        return part._replace(**{name: inside(own) for name, own in part._asdict().items()})
    return part

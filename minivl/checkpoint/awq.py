"""Weights of an AWQ checkpoint: four bits in groups along the input, as AutoAWQ's "gemm" keeps them.

A matrix (n, k) of the model is three tensors of the file, the other way round:

    qweight  (k, n/8)  int32     eight neighbours of n in a word, in the order 0 2 4 6 1 3 5 7
    qzeros   (k/g, n/8) int32    the zero of each group of g, in the same order
    scales   (k/g, n)  float16   the step of each group

and a number is (qweight - qzeros) * scales: exact in float32, which holds 5 + 11 bits. Which matrices
are quantised the tensors say themselves (`modules_to_not_convert` of the config says the same). The format
is that of Lin et al., 2023, arXiv:2306.00978, as github.com/casper-hansen/AutoAWQ writes it.

Not here: tiles of four bits (`packed.py`). Read next: `names.py`, which knows what it becomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ..config.rules import is_allowed
from ..door.errors import brief
from .safetensors import Mapped
from .tree import Weight
from .weight import CheckpointError, Stored, checked_rows, precision

PLACES = np.array([0, 4, 1, 5, 2, 6, 3, 7], np.uint32)     # of the eight neighbours: nibbles of a word
PARTS = ("qweight", "qzeros", "scales")
PIECE = 1 << 21                                # numbers that are made at a time
OTHER = "take the official AWQ release, or the bf16 one"
MUST = {"bits": (4,), "version": ("gemm", "GEMM", None), "zero_point": (True, None)}
Array = np.ndarray


class FourBit:
    """A matrix (n, k) of an AWQ checkpoint, in the three tensors of its file. group: numbers along k
    that share a scale and a zero."""
    format = "awq"

    def __init__(self, qweight: Mapped, qzeros: Mapped, scales: Mapped, group: int):
        self.parts, self.group = (qweight, qzeros, scales), group
        self.shape = (scales.shape[1], qweight.shape[0])

    @property
    def nbytes(self) -> int:
        """Its bytes in the file."""
        return sum(part.size for part in self.parts)

    def numbers(self, index: Array) -> tuple[Array, Array, Array]:
        """Rows `index` (i,) as they are kept: numbers (i, k) 0 to 15, and for each group scales and
        zeros (i, k/g), float32. Raises OutOfRange for a row that is not there."""
        index = checked_rows(index, self.shape[0])
        weight, zeros, scales = self.parts
        steps = Stored(scales.stored[:, index], scales.format).dense(np.float32)          # g i
        return _nibbles(weight, index).T, steps.T, _nibbles(zeros, index).T.astype(np.float32)

    def rows(self, index: Array, dtype: Any) -> Array:
        """Rows `index`, each `(number - zero) * scale`, rounded once to `dtype`."""
        index = np.asarray(index)
        numbers, scales, zeros = self.numbers(index.reshape(-1))
        group = np.arange(self.shape[1]) // self.group
        with np.errstate(invalid="ignore"):                    # a scale may be infinity or NaN
            found = (numbers - zeros[:, group]) * scales[:, group]
        return Stored(found, "f32").dense(dtype).reshape(*index.shape, self.shape[1])

    def dense(self, dtype: Any) -> Array:
        """All of it as a model of precision `dtype` holds it."""
        out = np.empty(self.shape, precision(dtype))
        self.fill(out)
        return out

    def fill(self, out: Array) -> None:
        """Write `dense(out.dtype)` into `out`, some rows at a time."""
        step = max(1, PIECE // (8 * max(1, self.shape[1]))) * 8
        for start in range(0, self.shape[0], step):
            index = np.arange(start, min(start + step, self.shape[0]))
            out[start:start + len(index)] = self.rows(index, out.dtype)

    def let_go(self) -> None:
        """Give its pages back to the system."""
        for part in self.parts:
            part.let_go()

    def __repr__(self) -> str:
        return f"FourBit({list(self.shape)}, groups of {self.group})"


def _nibbles(part: Mapped, index: Array) -> Array:
    """Columns `index` of a tensor of words: (a, n/8) int32 -> (a, i) uint8."""
    words = part.file.array(np.dtype("<u4"), part.shape, part.start)[:, index // 8]
    return (words >> 4 * PLACES[index % 8] & np.uint32(15)).astype(np.uint8)


def four_bit(tensors: Mapping[str, Weight], said: Mapping[str, Any]) -> dict[str, Weight]:
    """Tensors of an AWQ checkpoint with each three as the one that the table of names knows.

    said: config.json's quantization_config. Raises CheckpointError, naming the key or the tensor, for
    another version of the format and for tensors that do not belong together.
    """
    for key, allowed in MUST.items():
        if not is_allowed(said.get(key), allowed):
            raise CheckpointError(f"quantization_config: {key} = {brief(said.get(key))}, should be "
                                  f"{brief(allowed[0])}; {OTHER}")
    group = said.get("group_size")
    if type(group) is not int or not (group == -1 or 0 < group < 1 << 20):
        raise CheckpointError(f"quantization_config: group_size = {brief(group)}, should be a count "
                              f"such as 128; {OTHER}")
    found: dict[str, Weight] = dict(tensors)
    for name in sorted(name for name in tensors if name.endswith(".qweight")):
        stem = name.removesuffix("qweight")
        if f"{stem}weight" in found:
            raise CheckpointError(f"{brief(name)}: {brief(f'{stem}weight')} is there as well; {OTHER}")
        parts = [found.pop(stem + part, None) for part in PARTS]
        found[f"{stem}weight"] = _together(stem, parts, group)
    return found


def _together(stem: str, parts: list[Weight | None], group: int) -> FourBit:
    """Three tensors as a matrix, when they are of one size."""
    for name, part, formats in zip(PARTS, parts, (("i32",), ("i32",), ("f16", "bf16", "f32")), strict=True):
        if not isinstance(part, Mapped):
            raise CheckpointError(f"{brief(stem + name)} is missing; {OTHER}")
        if part.format not in formats or len(part.shape) != 2 or not prod(part.shape):
            raise CheckpointError(f"{brief(stem + name)} is {part.format} {list(part.shape)}, should be a matrix in "
                                  f"{' or '.join(formats)}")
    weight, zeros, scales = (part for part in parts if isinstance(part, Mapped))
    k, n = weight.shape[0], weight.shape[1] * 8
    size = k if group == -1 else group
    for name, part, width in (("qzeros", zeros, n // 8), ("scales", scales, n)):
        if k % size or part.shape != (k // size, width):
            raise CheckpointError(f"{brief(stem + name)} is {list(part.shape)}, should be {[k / size, width]} for "
                                  f"qweight {list(weight.shape)} in groups of {size}")
    return FourBit(weight, zeros, scales, size)

"""A weight as the model sees it, and the tree of weights that the passes walk.

A weight stays as its file stores it (bf16 in two bytes, mapped and unread) until a kernel asks for it:
`dense(dtype)` gives what a model held in that precision holds, rounded once and to nearest even. Passes hand
weights on and look at `.shape` only; that q, k and v are three tensors of the file, one table of three
heights here, never shows in a pass.

This is not a reader (`safetensors.py`) and knows no tensor's name (`names.py`). Read next: `names.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..config import ModelConfig, TextConfig, VisionConfig

STORED: dict[str, np.dtype[Any]] = {
    "bf16": np.dtype("<u2"), "f16": np.dtype("<f2"), "f32": np.dtype("<f4"), "f64": np.dtype("<f8"),
}


class CheckpointError(ValueError):
    """A checkpoint cannot be read as this model; the message names the file, the tensor and what to do."""


class Weight:
    """Numbers as they are stored, in the dtype `STORED[format]`: bf16 is kept as its 16 bits, in uint16."""

    def __init__(self, stored: np.ndarray, format: str):
        if format not in STORED or stored.dtype != STORED[format]:
            raise ValueError(f"a {format} weight is stored as {STORED.get(format)}, not as {stored.dtype}")
        self._stored = stored
        self.shape: tuple[int, ...] = stored.shape
        self.format = format

    @property
    def stored(self) -> np.ndarray:
        """The stored numbers, not copied."""
        return self._stored

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it as a model of precision `dtype` holds it; not copied where that is what is stored."""
        return _convert(self.stored, self.format, dtype)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index` (integers of any shape): `dense(dtype)[index]`, but only these rows are read.

        Raises IndexError for a row outside the table, a negative one too: NumPy would count it from the end.
        """
        index = np.asarray(index)
        if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
            raise IndexError(f"rows {index.min()}..{index.max()} asked of a table of {self.shape[0]} rows")
        return _convert(self.stored[index], self.format, dtype)                                # v d, n -> n d

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`."""
        _fill(out, self.stored, self.format)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.format} {list(self.shape)})"


class Joined(Weight):
    """Weights stacked on axis 0 without a copy (q, k, v; gate, up): the parts stay as they are until asked."""

    def __init__(self, parts: Sequence[Weight]):
        if not parts or len({part.shape[1:] for part in parts}) != 1:
            raise ValueError(f"cannot stack shapes {[list(part.shape) for part in parts]} on axis 0")
        formats = {part.format for part in parts}
        self.parts = tuple(parts)
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        self.format = formats.pop() if len(formats) == 1 else "f32"        # f32 holds bf16 and f16 exactly

    @property
    def stored(self) -> np.ndarray:
        """The parts' stored numbers in a new array; their values in f32 when the parts differ in format."""
        if any(part.format != self.format for part in self.parts):
            return self.dense(np.float32)
        return np.concatenate([part.stored for part in self.parts])

    def dense(self, dtype: Any) -> np.ndarray:
        """One new array, filled part by part."""
        out = np.empty(self.shape, dtype)
        self.fill(out)
        return out

    def fill(self, out: np.ndarray) -> None:
        start = 0
        for part in self.parts:
            part.fill(out[start:start + part.shape[0]])
            start += part.shape[0]


class Reshaped(Weight):
    """Another weight's numbers in another shape, in the same order and not copied."""

    def __init__(self, weight: Weight, shape: tuple[int, ...]):
        if prod(weight.shape) != prod(shape):
            raise ValueError(f"cannot reshape {list(weight.shape)} to {list(shape)}")
        self.weight, self.shape, self.format = weight, shape, weight.format

    @property
    def stored(self) -> np.ndarray:
        return self.weight.stored.reshape(self.shape)


class Blank(Weight):
    """A weight of zeros that takes no memory (all strides are zero), for the costs of models too big to hold."""

    def __init__(self, shape: tuple[int, ...], format: str = "bf16"):
        super().__init__(np.broadcast_to(np.zeros((), STORED[format]), shape), format)

    def dense(self, dtype: Any) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), self.shape)


def precision(dtype: Any) -> np.dtype:
    """A dtype of activations from a dtype or its name; "bfloat16" is ml_dtypes', which NumPy does not know by
    name.

    Raises ValueError for anything that is no floating-point type.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        from ml_dtypes import bfloat16 as dtype
    found = np.dtype(dtype)
    if found.name not in ("float64", "float32", "float16", "bfloat16"):
        raise ValueError(f"a model runs in float64, float32, float16 or bfloat16, not in {found.name}")
    return found


def weight(array: np.ndarray) -> Weight:
    """A weight of an array in memory: float32, float16, float64 or ml_dtypes.bfloat16. Not copied."""
    for format, stored in STORED.items():
        if array.dtype == stored and format != "bf16":
            return Weight(array, format)
    if array.dtype.name == "bfloat16":
        return Weight(array.view(np.uint16), "bf16")
    raise ValueError(f"a weight is of floating-point numbers, not of {array.dtype}")


def reshaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    """The weight in another shape: the patch kernel (V, 3, 2, 14, 14) as the matrix (V, 1176)."""
    return weight if weight.shape == tuple(shape) else Reshaped(weight, tuple(shape))


def _convert(stored: np.ndarray, format: str, dtype: Any) -> np.ndarray:
    dtype = precision(dtype)
    if format == "bf16" and dtype.name == "bfloat16":
        return stored.view(dtype)
    if format != "bf16" and stored.dtype == dtype:
        return stored
    out = np.empty(stored.shape, dtype)
    _fill(out, stored, format)
    return out


def _fill(out: np.ndarray, stored: np.ndarray, format: str) -> None:
    """Convert into `out`: exact widening, then one rounding to nearest even. Only float64 comes to bfloat16 by way
    of float32, in ml_dtypes as in PyTorch.
    """
    if format != "bf16":
        out[...] = stored
    elif out.dtype.name == "bfloat16":
        out.view(np.uint16)[...] = stored
    elif out.dtype == np.float32:
        _widen(stored, out.view(np.uint32))
    else:
        out[...] = _widen(stored, np.empty(stored.shape, np.uint32)).view(np.float32)


def _widen(bits: np.ndarray, out: np.ndarray) -> np.ndarray:
    """bf16 is the upper half of a float32. The dtype must be said: uint16 << 16 is 0 before it is widened."""
    return np.left_shift(bits, 16, out=out, dtype=np.uint32)


class Linear(NamedTuple):
    """y = x @ weight.T + bias; weight (out, in), bias (out) or None."""
    weight: Weight
    bias: Weight | None


class Norm(NamedTuple):
    """RMS norm: division by the root mean square, then times `weight` (d); `eps` is added to the mean square."""
    weight: Weight
    eps: float


class MLP(NamedTuple):
    """down(silu(gate(x)) * up(x)); gate_up holds gate above up: (2 inner, d)."""
    gate_up: Linear
    down: Linear


class Block(NamedTuple):
    """One transformer block, of vision and decoder alike. qkv holds q above k above v, each heads * width rows."""
    norm1: Norm
    qkv: Linear
    out: Linear
    norm2: Norm
    mlp: MLP
    config: VisionConfig | TextConfig


class Merger(NamedTuple):
    """2x2 patches to one visual token: norm over d, inner (4d, 4d), GELU, outer (o, 4d)."""
    norm: Norm
    inner: Linear
    outer: Linear


class Vision(NamedTuple):
    """The vision tower; patch_embed is (d, values of a patch) without bias. `dtype` is the precision it runs
    in.
    """
    patch_embed: Linear
    blocks: tuple[Block, ...]
    merger: Merger
    config: VisionConfig
    dtype: np.dtype


class Decoder(NamedTuple):
    """The language model; a tied head's weight is `embed` itself. `dtype` is the precision it runs in."""
    embed: Weight
    layers: tuple[Block, ...]
    norm: Norm
    head: Linear
    config: TextConfig
    dtype: np.dtype


class Model(NamedTuple):
    """All weights of the model, each in its place."""
    vision: Vision
    decoder: Decoder
    config: ModelConfig

"""Kinds of weights: stored, joined, reordered, interleaved, reshaped, blank, absent.

A weight stays as its file stores it (bf16 in two bytes, mapped and unread) until a kernel asks for it:
`dense(dtype)` gives what a model held in that precision holds, rounded once and to nearest even.
Passes hand weights on and look at `.shape` only; that q, k and v are three tensors of the file, one
table of three heights here, never shows in a pass.

Not here: reading files (`safetensors.py`), tensors' names (`names.py`). Read next: `tree.py`, what a
weight must have.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ..door.errors import ArgumentError, Error, OutOfRange
from .tree import Weight

STORED: dict[str, np.dtype[Any]] = {
    "bf16": np.dtype("<u2"), "f16": np.dtype("<f2"), "f32": np.dtype("<f4"), "f64": np.dtype("<f8"),
}


class CheckpointError(Error):
    """A checkpoint cannot be read as this model; the message names the file, the tensor and what to
    do."""


class Stored:
    """Numbers as they are stored, in the dtype `STORED[format]`: bf16 is kept as its 16 bits, in
    uint16."""

    def __init__(self, stored: np.ndarray, format: str):
        if format not in STORED or stored.dtype != STORED[format]:
            raise ArgumentError(f"a {format} weight is stored as {STORED.get(format)}, not as "
                                f"{stored.dtype}")
        self._stored = stored
        self.shape: tuple[int, ...] = stored.shape
        self.format = format

    @property
    def stored(self) -> np.ndarray:
        """The stored numbers, not copied."""
        return self._stored

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it as a model of precision `dtype` holds it; not copied where that is what is
        stored."""
        return _convert(self.stored, self.format, dtype)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index` (integers of any shape): `dense(dtype)[index]`, but only these rows are read."""
        return _convert(self.stored[checked_rows(index, self.shape[0])], self.format, dtype)  # v d, n -> n d

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`."""
        _fill(out, self.stored, self.format)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.format} {list(self.shape)})"


class Blank(Stored):
    """A weight of zeros that takes no memory (all strides are zero), for the costs of models too big
    to hold."""

    def __init__(self, shape: tuple[int, ...], format: str = "bf16"):
        super().__init__(np.broadcast_to(np.zeros((), STORED[format]), shape), format)

    def dense(self, dtype: Any) -> np.ndarray:
        return np.broadcast_to(np.zeros((), precision(dtype)), self.shape)


class Absent:
    """The place of a weight that this model does without: its shape, and no numbers. Raises
    CheckpointError, which says `why`, when they are asked for."""
    format = "none"

    def __init__(self, shape: tuple[int, ...], why: str):
        self.shape, self.why = shape, why

    def dense(self, dtype: Any) -> np.ndarray:
        raise CheckpointError(self.why)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        raise CheckpointError(self.why)

    def fill(self, out: np.ndarray) -> None:
        raise CheckpointError(self.why)

    def __repr__(self) -> str:
        return f"Absent({list(self.shape)})"


class Reordered:
    """Another weight's rows in another order; not copied. order (n) integers: row i is the other's row
    `order[i]`."""

    def __init__(self, weight: Weight, order: np.ndarray):
        if len(order) != weight.shape[0]:
            raise ArgumentError(f"an order of {len(order)} rows is none of a table of {weight.shape[0]}")
        self.weight, self.order, self.shape, self.format = weight, order, weight.shape, weight.format

    def dense(self, dtype: Any) -> np.ndarray:
        return self.weight.dense(dtype)[self.order]

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        return self.weight.rows(self.order[checked_rows(index, self.shape[0])], dtype)

    def fill(self, out: np.ndarray) -> None:
        out[...] = self.dense(out.dtype)

    def let_go(self) -> None:
        let_go(self.weight)

    def __repr__(self) -> str:
        return f"Reordered({self.weight!r})"


class Interleaved:
    """Weights of one shape side by side on a new axis: two kernels of pictures (v c y b) as one of pairs
    of frames (v c 2 y b)."""

    def __init__(self, parts: Sequence[Weight], axis: int):
        if not parts or len({part.shape for part in parts}) != 1 or not 0 < axis <= len(parts[0].shape):
            raise ArgumentError(f"cannot put shapes {[list(part.shape) for part in parts]} side by side "
                                f"on axis {axis}")
        shape = parts[0].shape
        self.parts, self.axis, self.format = tuple(parts), axis, parts[0].format
        self.shape = (*shape[:axis], len(parts), *shape[axis:])

    def dense(self, dtype: Any) -> np.ndarray:
        return np.stack([part.dense(dtype) for part in self.parts], axis=self.axis)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        axis = self.axis - 1 + np.ndim(index)
        return np.stack([part.rows(index, dtype) for part in self.parts], axis=axis)

    def fill(self, out: np.ndarray) -> None:
        out[...] = self.dense(out.dtype)

    def let_go(self) -> None:
        for part in self.parts:
            let_go(part)

    def __repr__(self) -> str:
        return f"Interleaved({', '.join(map(repr, self.parts))})"


class Joined:
    """Weights stacked on axis 0 without a copy (q, k, v; gate, up): the parts stay as they are until
    asked."""

    def __init__(self, parts: Sequence[Weight]):
        if not parts or len({part.shape[1:] for part in parts}) != 1:
            raise ArgumentError(f"cannot stack shapes {[list(part.shape) for part in parts]} on axis 0")
        formats = {part.format for part in parts}
        self.parts = tuple(parts)
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        # f32 holds bf16 and f16 exactly
        self.format = formats.pop() if len(formats) == 1 else "f64" if "f64" in formats else "f32"

    def dense(self, dtype: Any) -> np.ndarray:
        """One new array, filled part by part."""
        out = np.empty(self.shape, precision(dtype))
        self.fill(out)
        return out

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index` of the whole, each read from the part in which it lies."""
        index = checked_rows(index, self.shape[0])
        out = np.empty((*index.shape, *self.shape[1:]), precision(dtype))
        start = 0
        for part in self.parts:
            here = (index >= start) & (index < start + part.shape[0])
            out[here] = part.rows(index[here] - start, dtype)
            start += part.shape[0]
        return out

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`, part by part."""
        start = 0
        for part in self.parts:
            part.fill(out[start:start + part.shape[0]])
            start += part.shape[0]

    def let_go(self) -> None:
        for part in self.parts:
            let_go(part)

    def __repr__(self) -> str:
        return f"Joined({', '.join(map(repr, self.parts))})"


class Reshaped:
    """Another weight's numbers, the same on axis 0, in another shape behind it; in the same order, not
    copied."""

    def __init__(self, weight: Weight, shape: tuple[int, ...]):
        if weight.shape[:1] != shape[:1] or prod(weight.shape) != prod(shape):
            raise ArgumentError(f"cannot reshape {list(weight.shape)} to {list(shape)} row by row")
        self.weight, self.shape, self.format = weight, shape, weight.format

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it, in this shape."""
        return self.weight.dense(dtype).reshape(self.shape)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index`, each in this shape."""
        return self.weight.rows(index, dtype).reshape(*np.shape(index), *self.shape[1:])

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`."""
        self.weight.fill(out.reshape(self.weight.shape))

    def let_go(self) -> None:
        let_go(self.weight)

    def __repr__(self) -> str:
        return f"Reshaped({self.weight!r}, {list(self.shape)})"


def let_go(weight: Weight | None) -> None:
    """Give the pages of mapped files that a weight was read from back to the system."""
    release = getattr(weight, "let_go", None)
    if release is not None:
        release()


def checked_rows(index: np.ndarray, height: int) -> np.ndarray:
    """Row numbers as an array, each of a row that is there. A negative one is not: NumPy would count
    from the end."""
    index = np.asarray(index)
    if index.size and not 0 <= index.min() <= index.max() < height:
        raise OutOfRange(f"rows {index.min()}..{index.max()} asked of a table of {height} rows")
    return index


@cache                                         # a dtype's name is made anew each time that it is asked for
def precision(dtype: Any) -> np.dtype:
    """A dtype of activations from a dtype or its name; "bfloat16" is ml_dtypes', which NumPy does not
    know by name.

    Raises ArgumentError for anything that is no floating-point type.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        from ml_dtypes import bfloat16 as dtype
    found = np.dtype(dtype)
    if found.name not in ("float64", "float32", "float16", "bfloat16"):
        raise ArgumentError(f"a model runs in float64, float32, float16 or bfloat16, not in {found.name}")
    return found


def weight(array: np.ndarray) -> Stored:
    """A weight of an array in memory: float32, float16, float64 or ml_dtypes.bfloat16. Not copied."""
    for format, stored in STORED.items():
        if array.dtype == stored and format != "bf16":
            return Stored(array, format)
    if array.dtype.name == "bfloat16":
        return Stored(array.view(np.uint16), "bf16")
    raise ArgumentError(f"a weight is of floating-point numbers, not of {array.dtype}")


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
    """Convert into `out`: exact widening, then one rounding to nearest even. Only float64 comes to
    bfloat16 by way of float32, in ml_dtypes as in PyTorch.
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
    """bf16 is the upper half of a float32. The dtype must be said: uint16 << 16 is 0 before it is
    widened."""
    return np.left_shift(bits, 16, out=out, dtype=np.uint32)

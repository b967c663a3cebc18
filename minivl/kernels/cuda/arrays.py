"""Arrays of a device: a shape over raw memory, and views of it. Nothing is computed here, and nothing
goes to the host unless `to_host` is called: NumPy is refused.

bfloat16 is kept as its 16 bits. Only what the passes do between two kernels is there: reshape, slices,
rows of the cache.

Read next: `calls.py`, the kernels on these arrays.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...checkpoint.weight import precision
from ...door.errors import OutOfRange
from .device import Launcher, Raw

FLOAT32 = np.dtype(np.float32)
STORED: dict[str, np.dtype[Any]] = {                          # how a type is kept
    "float32": np.dtype(np.float32), "bfloat16": np.dtype(np.uint16)}


class Array:
    """A view of a device's memory.

    raw: the whole memory; at: where the first number lies; strides: numbers from one to the next along
    each axis. dtype: what the numbers mean, float32 or bfloat16; or a picture's bytes, for pixels.cu alone
    """

    __array_ufunc__ = None                     # takes no part in NumPy's arithmetic

    def __init__(self, machine: Launcher, raw: Raw, shape: tuple[int, ...], dtype: np.dtype, at: int = 0,
                 strides: tuple[int, ...] | None = None):
        self.machine, self.raw, self.shape, self.dtype, self.at = machine, raw, shape, dtype, at
        self.strides = packed_strides(shape) if strides is None else strides

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def packed(self) -> bool:
        """Whether the numbers lie one after the other."""
        wanted = packed_strides(self.shape)
        return all(n < 2 or a == b for n, a, b in zip(self.shape, self.strides, wanted, strict=True))

    @property
    def flat(self) -> Raw:
        """The memory from the first number to the last, as a kernel takes it."""
        if not self.size:
            return self.raw[:1]
        span = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        return self.raw[self.at : self.at + span]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise TypeError("an array of the device was taken for NumPy's: to_host brings it to the host")

    def __iter__(self) -> Any:
        raise TypeError("the rows of a device's array are not walked through one by one")

    def reshape(self, *shape: Any) -> Array:
        """Another shape of the same memory; a view that is not packed keeps its rows."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        if -1 in wanted:
            known = -prod(wanted)
            wanted = tuple(self.size // known if n == -1 else n for n in wanted)
        source = self if self.packed else copied(self)
        return Array(self.machine, source.raw, tuple(map(int, wanted)), self.dtype, source.at)

    def __getitem__(self, key: Any) -> Array:
        """Whole numbers, slices of step 1, and None for an axis of 1, from the first axis on."""
        at, shape, strides = self.at, list(self.shape), list(self.strides)
        axis = 0
        for one in key if isinstance(key, tuple) else (key,):
            if one is None:
                shape.insert(axis, 1)
                strides.insert(axis, 0)
                axis += 1
            elif isinstance(one, slice):
                start, stop, step = one.indices(shape[axis])
                if step != 1:
                    raise TypeError("a device's array is sliced in steps of 1")
                at, shape[axis] = at + start * strides[axis], max(0, stop - start)
                axis += 1
            elif isinstance(one, int | np.integer):
                index = int(one) + shape[axis] * int(one < 0)
                if not 0 <= index < shape[axis]:
                    raise OutOfRange(f"row {one} asked of an array of {shape[axis]}")
                at += index * strides[axis]
                del shape[axis], strides[axis]
            else:
                raise TypeError("a device's array is indexed by whole numbers and slices; for rows by "
                                "number use take_rows")
        return Array(self.machine, self.raw, tuple(shape), self.dtype, at, tuple(strides))

    def __setitem__(self, rows: np.ndarray, value: Array) -> None:
        """Rows by number, host integers: what the cache does with new keys and values."""
        put_rows(self, rows, value)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Any:
        """The same numbers in the other type of the device; in any other type an array of the host."""
        wanted = precision(dtype)
        if wanted == self.dtype:
            return self
        if wanted.name not in STORED:
            return to_host(self).astype(wanted)
        return converted(self if self.packed else copied(self), wanted)


def packed_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers from one to the next along each axis, where they lie one after the other."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def empty(machine: Launcher, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An array of whatever lies there."""
    return Array(machine, machine.device.empty(max(1, prod(shape)), STORED[dtype.name]), shape, dtype)


def zeros(machine: Launcher, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An array of zeros."""
    return Array(machine, machine.device.zeros(max(1, prod(shape)), STORED[dtype.name]), shape, dtype)


def to_device(machine: Launcher, value: Any) -> Any:
    """A host's array of float32 or bfloat16 on the device; everything else as it is."""
    if not isinstance(value, np.ndarray) or value.dtype.name not in STORED:
        return value
    flat = np.ascontiguousarray(value).reshape(-1).view(STORED[value.dtype.name])
    return Array(machine, machine.device.upload(flat if flat.size else np.zeros(1, flat.dtype)),
                 value.shape, value.dtype)


def to_host(value: Any) -> Any:
    """A device's array as NumPy's, a copy; everything else as it is."""
    if not isinstance(value, Array):
        return value
    if not value.size:
        return np.zeros(value.shape, value.dtype)
    packed = value if value.packed else copied(value)
    return packed.machine.device.download(packed.flat).view(packed.dtype).reshape(packed.shape)


def integers(machine: Launcher, numbers: Any) -> Raw:
    """Whole numbers of the host as int32 on the device."""
    return machine.device.upload(np.ascontiguousarray(numbers, np.int32).reshape(-1))


# ------------------------------------------------------------ kernels that arrays themselves are made with

def bf16(array: Array) -> int:
    """The constant BF16 of kernels on an array."""
    return int(array.dtype.name == "bfloat16")


def rows_of(x: Array) -> tuple[int, int]:
    """How long a row is and how far apart rows are; within a row numbers lie one after the other."""
    width = prod(x.shape[1:])
    inner = Array(x.machine, x.raw, x.shape[1:], x.dtype, x.at, x.strides[1:])
    if not inner.packed:
        raise TypeError("the numbers of a row do not lie one after the other")
    return width, x.strides[0] if len(x) > 1 else width


def copied(x: Array) -> Array:
    """The rows of a view, one after the other."""
    out = empty(x.machine, x.shape, x.dtype)
    if x.size:
        put_rows(out, np.arange(len(x)), x)
    return out


def put_rows(out: Array, index: np.ndarray, rows: Array) -> None:
    """out[index[i]] = rows[i]; rows are cast to the type of `out`."""
    if rows.dtype != out.dtype:
        rows = rows.astype(out.dtype)
    width, stride = rows_of(rows)
    if len(index) and width:
        args = (out.flat, integers(out.machine, index), rows.flat, np.int32(width), np.int32(stride))
        out.machine("rows", "put_rows", (len(index),), 128, args, BF16=bf16(out))


def converted(x: Array, dtype: np.dtype) -> Array:
    """Packed numbers in the other type."""
    out = empty(x.machine, x.shape, dtype)
    if x.size:
        name = "to_bfloat16" if dtype.name == "bfloat16" else "to_float32"
        x.machine("convert", name, (-(-x.size // 256),), 256, (x.flat, out.flat, np.int64(x.size)))
    return out

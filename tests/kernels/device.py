"""A stand-in for another machine: arrays that NumPy must not touch, and an interpreter that computes on them.

`Far` has the parts of an array that the program uses (shape, dtype, views, `astype`); whatever would turn it into a
NumPy array without being asked raises. The kernels here are the definitions on what lies inside.
"""

from __future__ import annotations

import numpy as np

from minivl.kernels import Interpreter, definition


class Far:
    """An array in another machine's memory."""

    def __init__(self, near: np.ndarray):
        self.near = near

    shape = property(lambda self: self.near.shape)
    dtype = property(lambda self: self.near.dtype)
    size = property(lambda self: self.near.size)

    def __len__(self):
        return len(self.near)

    def __getitem__(self, key):
        return Far(self.near[key])

    def __setitem__(self, key, value):
        self.near[key] = value.near                            # a NumPy array here would be a silent copy: refused

    def reshape(self, *shape):
        return Far(self.near.reshape(*shape))

    def astype(self, dtype, **options):
        return Far(self.near.astype(dtype, **options))

    def __array__(self, *args, **options):
        raise AssertionError("an array of another machine was turned into a NumPy array without being asked")

    __array_ufunc__ = None                                     # nor does it take part in NumPy's arithmetic

    def __iter__(self):
        raise AssertionError("the rows of another machine's array were walked through one by one")


def near(value):
    return value.near if isinstance(value, Far) else value


def to_host(value):
    """A copy: the machine may write to its own memory again."""
    return value.near.copy() if isinstance(value, Far) else value


def to_device(value):
    return Far(np.array(value)) if isinstance(value, np.ndarray) and value.dtype.kind in "fV" else value


def far(function):
    """A definition on what lies inside; integers (tables of rows) stay with the host, as they do on any device."""
    def run(*args):
        made = function(*map(near, args))
        return tuple(map(to_device, made)) if isinstance(made, tuple) else to_device(made)
    return run


NAMES = ("linear", "rms_norm", "cos_sin", "rotate", "attend", "swiglu", "gelu", "add", "take_rows", "put_rows", "embed")
KERNELS = {getattr(definition, name).definition: far(getattr(definition, name).definition) for name in NAMES}


def zeros(shape, dtype):
    return Far(np.zeros(shape, dtype))


def machine(**more):
    """The interpreter; `more` adds functions of the stages that it fuses, by definition."""
    functions = {**KERNELS, **more.pop("functions", {})}
    return Interpreter("far", functions, zeros=zeros, to_device=to_device, to_host=to_host, **more)

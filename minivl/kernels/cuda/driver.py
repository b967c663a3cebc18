"""A kernel that begins before the one in front of it has ended: the launch that CuPy has no word for.

    launch_early(driver(), kernel.kernel.ptr, Shape((132,), 256, 4096), stream, (x, w, np.int32(n)))

Between two kernels of a stream a card stands still: the last blocks of the first one end, the second
one is started, and its first loads are on their way. A launch with the attribute of programmatic stream
serialization lets the second kernel start as soon as all blocks of the first have said so
(`let_next_begin` in `minivl.cuh`); it waits for the end of the first one itself (`wait_for_former`).
Source: CUDA Programming Guide, "Programmatic Dependent Launch and Synchronization"; structures: cuda.h
of CUDA 12 and 13. On a card it has not run yet.

Read next: `device.py`, who calls this; `cuda/gemv.cu`, what a kernel does before it waits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...door.errors import Error

SERIALIZATION = 6                               # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


class LaunchRefused(Error):
    """The driver refused a launch; the message holds its code, which cuda.h names."""


class Shape(NamedTuple):
    """Of a launch: blocks, threads of a block, bytes of dynamic shared memory."""
    grid: Sequence[int]
    block: int
    shared: int


class Attribute(ctypes.Structure):
    """CUlaunchAttribute: an id of 4 bytes, 4 that are not used, and a value of 64 bytes."""
    _fields_ = (("id", ctypes.c_int), ("unused", ctypes.c_int), ("allowed", ctypes.c_int),
                ("rest", ctypes.c_char * 60))


class Config(ctypes.Structure):
    """CUlaunchConfig"""
    _fields_ = (*((name, ctypes.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
                ("stream", ctypes.c_void_p), ("attributes", ctypes.POINTER(Attribute)),
                ("count", ctypes.c_uint))


def driver() -> Any | None:
    """The driver's library; None where it knows no launch with attributes (before CUDA 12)."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library if hasattr(library, "cuLaunchKernelEx") else None
    return None


def launch_early(library: Any, function: int, shape: Shape, stream: int, args: Sequence[Any]) -> None:
    """Launch a kernel (its CUfunction) that may begin early. args: CuPy's arrays, and NumPy's numbers of
    exactly the kernel's types. Raises LaunchRefused with the driver's code."""
    values = [word(one) for one in args]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    attribute = Attribute(SERIALIZATION, 0, 1)
    x, y, z = (*shape.grid, 1, 1)[:3]
    config = Config(x, y, z, shape.block, 1, 1, shape.shared, stream, ctypes.pointer(attribute), 1)
    code = library.cuLaunchKernelEx(ctypes.byref(config), ctypes.c_void_p(function), pointers, None)
    if code:
        raise LaunchRefused(f"cuLaunchKernelEx failed with CUDA error {code}: grid {tuple(shape.grid)}, "
                            f"block {shape.block}, {shape.shared} bytes of shared memory; cuda.h says what "
                            "the code means")


def word(value: Any) -> Any:
    """An argument as the bytes that a kernel gets: the address of an array, or the number itself."""
    if isinstance(value, np.generic):
        return (ctypes.c_char * value.nbytes).from_buffer_copy(value.tobytes())
    return ctypes.c_void_p(value.data.ptr)

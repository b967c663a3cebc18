"""The runner's structures as Python sees them, and a launch inside this process.

They mirror `cuda/host/machine.h`; `loaded` compares their sizes. Read next: `runner.py`.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple

from ...door.errors import Error

KINDS = ("fine", "deadlock", "not in mask", "out of bounds", "wild", "race", "uninitialised", "misaligned",
         "undefined", "trap", "read-only", "too early")
SCHEDULES = ("forward", "reverse", "random")
ARGUMENT, DYNAMIC, STATIC = 0, 1, 2                        # kinds of regions


class Index(ctypes.Structure):
    """x, y, z"""
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))

    @property
    def three(self) -> tuple[int, int, int]:
        return self.x, self.y, self.z


class Group(ctypes.Structure):
    """Threads that wait at one place."""
    _fields_ = (("what", ctypes.c_char * 40), ("file", ctypes.c_char * 200), ("line", ctypes.c_int),
                ("mask", ctypes.c_uint), ("threads", ctypes.c_uint), ("first", Index))


class Report(ctypes.Structure):
    """What went wrong."""
    _fields_ = (*((name, ctypes.c_int) for name in ("kind", "line", "other_line", "region", "groups")),
                *((name, ctypes.c_uint) for name in ("bytes", "writes", "other_writes", "atomic", "mask")),
                ("byte", ctypes.c_int64), ("pc", ctypes.c_uint64), ("other_pc", ctypes.c_uint64),
                *((name, Index) for name in ("block", "thread", "other_block", "other_thread")),
                ("what", ctypes.c_char * 200), ("file", ctypes.c_char * 200), ("group", Group * 8))


class Region(ctypes.Structure):
    """A piece of memory that a kernel may touch."""
    _fields_ = (("start", ctypes.c_uint64), ("bytes", ctypes.c_uint64), ("kind", ctypes.c_int),
                ("read_only", ctypes.c_int))


class Launch(ctypes.Structure):
    """A launch, but for the kernel and its arguments."""
    _fields_ = (("grid", Index), ("block", Index), ("shared", ctypes.c_uint64), ("seed", ctypes.c_uint64),
                ("schedule", ctypes.c_int), ("regions", ctypes.c_int), ("early", ctypes.c_int),
                ("unused", ctypes.c_int), ("region", ctypes.POINTER(Region)))


class Parameter(ctypes.Structure):
    """A parameter of a kernel, as its C++ type says it (`cuda/host/launch.h`)."""
    _fields_ = (("kind", ctypes.c_char), ("pointee", ctypes.c_char), ("constant", ctypes.c_char),
                ("unused", ctypes.c_char), ("size", ctypes.c_uint), ("pointee_size", ctypes.c_uint))


class Shared(NamedTuple):
    """A static shared array: its name, the function that it stands in, where it lies in the file, bytes."""
    name: str
    function: str
    offset: int
    bytes: int


class Loaded(NamedTuple):
    """A compiled kernel file in this process. One launch at a time: `lock`."""
    library: Any
    base: int
    shared: tuple[Shared, ...]
    lock: threading.Lock


def loaded(path: Path) -> Loaded:
    """Load a compiled file. Raises Error when it is not what this module takes it for."""
    library = ctypes.CDLL(str(path))
    sizes = library.cuda_host_report_bytes(), library.cuda_host_launch_bytes()
    if sizes != (ctypes.sizeof(Report), ctypes.sizeof(Launch)):
        raise Error(f"{path}: was built by another version of the runner; empty the folder of compiled code")
    symbols, shared = symbols_of(path)
    here = ctypes.cast(library.cuda_host_launch, ctypes.c_void_p).value or 0
    return Loaded(library, here - symbols["cuda_host_launch"], shared, threading.Lock())


def symbols_of(path: Path) -> tuple[dict[str, int], tuple[Shared, ...]]:
    """Places of functions in a compiled file, and its static shared arrays: the static variables of functions."""
    places: dict[str, int] = {}
    shared = []
    for raw, plain in zip(listed(path), listed(path, "--demangle"), strict=True):
        address, size, symbol = raw
        places[symbol] = address
        if symbol.startswith("_ZZ") and not symbol.startswith("_ZZN9cuda_host"):        # inside a function
            scope, _, variable = plain[2].rpartition("::")
            shared.append(Shared(variable, scope.removeprefix("(anonymous namespace)::"), address, size))
    return places, tuple(shared)


def listed(path: Path, *options: str) -> list[tuple[int, int, str]]:
    """Symbols of a file that have a size and are variables or functions: address, size, name."""
    command = ["nm", "--print-size", "--no-sort", "--defined-only", *options, str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [re.fullmatch(r"([0-9a-f]{16}) ([0-9a-f]{16}) [bBdDtT] (.+)", line) for line in lines]
    return [(int(one[1], 16), int(one[2], 16), one[3]) for one in found if one]

"""What a kernel takes, as its C++ type says it, and whether arguments are that.

CuPy passes whatever it is given: a Python float becomes 8 bytes, of which a `float` parameter reads the lower
four. Here such an argument is refused, so wrappers that run here are right there.

Read next: `memory.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...door.errors import ArgumentError
from . import machine
from .build import Kernel

MOST = 256                                                 # parameters of a kernel
# C++'s and NumPy's kinds: B and H are bfloat16 and float16, which NumPy may keep as the bits of uint16
KINDS = {"f": "f", "i": "i", "u": "u", "b": "b", "B": "uV", "H": "uf"}
WORDS = {"f": "float", "i": "int", "u": "uint", "b": "bool", "B": "bfloat16 as uint", "H": "float"}


class Parameter(NamedTuple):
    """A parameter: its name; kind, or the kind behind a pointer; whether it is one; const; bytes of one."""
    name: str
    kind: str
    pointer: bool
    constant: bool
    size: int


def named(raw: Sequence[machine.Parameter], kernel: Kernel) -> tuple[Parameter, ...]:
    """Parameters with their names."""
    found = []
    for i, one in enumerate(raw):
        name = kernel.parameters[i] if i < len(kernel.parameters) else f"argument {i}"
        pointer = one.kind == b"p"
        kind = (one.pointee if pointer else one.kind).decode()
        size = one.pointee_size if pointer else one.size
        found.append(Parameter(name, kind, pointer, one.constant == b"\x01", size))
    return tuple(found)


def described(library: Any, kernel: Kernel) -> tuple[tuple[Parameter, ...], int]:
    """Parameters of a kernel of a compiled file in this process, and the threads that its block may have."""
    raw = (machine.Parameter * MOST)()
    most = ctypes.c_int()
    count = getattr(library, f"cuda_host_parameters_{kernel.name}")(raw, ctypes.byref(most))
    return named(raw[:count], kernel), most.value


def checked(kernel: str, parameters: Sequence[Parameter], args: Sequence[Any]) -> list[Any]:
    """The arguments as NumPy has them. Raises ArgumentError for a wrong number, kind or size."""
    if len(args) != len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise ArgumentError(f"{kernel} takes {len(parameters)} arguments ({names}), got {len(args)}")
    for number, (parameter, value) in enumerate(zip(parameters, args, strict=True)):
        where = f"{kernel}: argument {number} ({parameter.name})"
        (check_array if parameter.pointer else check_number)(where, parameter, value)
    return list(args)


def declared(parameter: Parameter) -> str:
    """The NumPy type that a parameter asks for, in words."""
    if parameter.kind not in WORDS:
        return f"{parameter.size} bytes"
    return "bool" if parameter.kind == "b" else f"{WORDS[parameter.kind]}{8 * parameter.size}"


def check_number(where: str, parameter: Parameter, value: Any) -> None:
    """A number of NumPy with exactly the kernel's kind and size."""
    if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
        raise ArgumentError(f"{where} must be a NumPy number, np.{declared(parameter)}(...), got the Python "
                            f"{type(value).__name__} {value!r}: CuPy would pass 8 bytes for it, whatever the "
                            "kernel declares")
    if not isinstance(value, np.generic) or value.dtype.itemsize != parameter.size or (
            parameter.kind in KINDS and value.dtype.kind not in KINDS[parameter.kind]):
        said = value.dtype if isinstance(value, np.generic | np.ndarray) else type(value).__name__
        shape = f" of shape {list(value.shape)}" if isinstance(value, np.ndarray) else ""
        raise ArgumentError(f"{where} must be a number, np.{declared(parameter)}(...), got {said}{shape}")


def check_array(where: str, parameter: Parameter, value: Any) -> None:
    """An array in one piece with elements of the kernel's kind; a null pointer is None."""
    if value is None:
        return
    if not isinstance(value, np.ndarray):
        raise ArgumentError(f"{where} is a pointer: pass a NumPy array, got a {type(value).__name__}")
    if not value.flags.c_contiguous:
        raise ArgumentError(f"{where} must lie in one piece: pass np.ascontiguousarray(...)")
    kinds = KINDS.get(parameter.kind)
    if kinds is not None and (value.dtype.kind not in kinds or value.dtype.itemsize != parameter.size):
        raise ArgumentError(f"{where} must be an array of {declared(parameter)}, got {value.dtype}")
    if not (parameter.constant or value.flags.writeable):
        raise ArgumentError(f"{where} is not const in the kernel, and this array is read-only: pass a copy")


def bound(values: Sequence[Any], addresses: Sequence[int | None]) -> list[Any]:
    """Each argument as the bytes that a kernel reads."""
    words = []
    for value, address in zip(values, addresses, strict=True):
        if isinstance(value, np.generic):
            words.append(ctypes.create_string_buffer(value.tobytes(), max(value.nbytes, 16)))
        else:
            words.append(ctypes.create_string_buffer((address or 0).to_bytes(8, "little"), 16))
    return words

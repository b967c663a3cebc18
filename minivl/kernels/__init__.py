"""Interpreters: what runs the program of `model.py`. The definitions are one; each other one is a
module here whose functions stand in for kernels of the same names.

    interpreter("shapes")                      # imported when it is asked for, never with `import minivl`

Read next: `definition.py`, what each kernel means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint.tree import Model
from ..door.errors import ArgumentError
from . import definition

Function = Callable[..., Any]
NAMES = tuple(name for name, value in vars(definition).items()
              if getattr(value, "label", "") == f"kernel.{name}")
INTERPRETERS = ("definition", "shapes")                   # modules of this folder


def same(value: Any) -> Any:
    """What needs no preparing and no way from one memory to another."""
    return value


class Interpreter(NamedTuple):
    """One machine that runs the model.

    functions: definition of a kernel or a stage -> what stands in for it; what is missing runs as it
        is defined. One that stands in for a stage made of others (a whole block) changes the cache
        itself where that one does; the door takes the definition instead as soon as somebody looks
        inside
    prepare: weights into this machine's layout, once, when the model is loaded; it gives a new tree
    zeros: memory of the KV cache, `zeros(shape, dtype)`
    to_device, to_host: an array's way to this machine's memory and back. What `to_host` gives nobody
        writes to any
        more: a machine that reuses its buffers gives a copy
    """
    name: str
    functions: Mapping[Function, Function] = {}
    prepare: Callable[[Model], Model] = same
    zeros: Callable[..., Any] = np.zeros
    to_device: Callable[[Any], Any] = same
    to_host: Callable[[Any], Any] = same


def interpreter(name: str) -> Interpreter:
    """The interpreter of a name; "auto" is the definitions, until a faster one is there.

    Raises ArgumentError for a name that there is none of.
    """
    if name not in ("auto", *INTERPRETERS):
        raise ArgumentError(f"kernels must be 'auto' or {' or '.join(map(repr, INTERPRETERS))}, got "
                            f"{name!r}")
    if name in ("auto", "definition"):
        return Interpreter("definition")
    module = import_module(f".{name}", __name__)
    found: Interpreter = module.INTERPRETER
    return found._replace(functions={**stand_ins(module), **found.functions})


def stand_ins(module: ModuleType) -> dict[Function, Function]:
    """A module's functions by the definitions of the kernels whose names they have."""
    return {getattr(definition, name).definition: getattr(module, name) for name in NAMES
            if hasattr(module, name)}

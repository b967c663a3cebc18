"""Interpreters: what runs the program of `model.py`. The definitions are one; each other one is a
module here whose functions stand in for kernels of the same names.

    interpreter("shapes")                      # imported when it is asked for, never with `import minivl`

Read next: `definition.py`, what each kernel means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

from ..checkpoint.names import parameters
from ..checkpoint.packed import Packer
from ..checkpoint.tree import Model
from ..door.errors import ArgumentError, MissingExtra
from . import definition, stored

Function = Callable[..., Any]
NAMES = tuple(name for name, value in vars(definition).items()
              if getattr(value, "label", "") == f"kernel.{name}")
MODULES = {"jit": "jit.decoding", "jit-int8": "jit.int8", "cuda": "cuda.on_gpu", "cuda-runner": "cuda.on_runner",
           "shapes": "shapes"}                                               # of this folder, by name
INTERPRETERS = ("definition", *MODULES)
COMPILED_FROM = 50_000_000                     # parameters from which "auto" compiles
COMPILED = ("float32", "bfloat16")             # precisions that compiled kernels run in


def same(value: Any) -> Any:
    """What needs no preparing and no way from one memory to another."""
    return value


class Interpreter(NamedTuple):
    """One machine that runs the model.

    functions: a kernel or a stage -> what stands in for it; what is missing runs as it is defined. One
        that stands in for a stage made of others (a whole block) changes the cache itself where that
        one does; the door takes the definition instead as soon as somebody looks inside
    prepare: weights into this machine's layout, once, when the model is loaded; it gives a new tree
    zeros: memory of the KV cache, `zeros(shape, dtype)`; int8 is bytes with scales (`stored.py`)
    caches: the types, beside that of the activations, in which it can keep rows of the cache
    chunk: rows of a prompt that go through the decoder at a time, unless somebody says otherwise
    to_device, to_host: an array's way to this machine's memory and back. What `to_host` gives nobody
        writes to any more: a machine that reuses its buffers gives a copy
    """
    name: str
    functions: Mapping[Function, Function] = {}
    prepare: Callable[[Model], Model] = same
    zeros: Callable[..., Any] = stored.zeros
    to_device: Callable[[Any], Any] = same
    to_host: Callable[[Any], Any] = same
    caches: tuple[str, ...] = stored.FORMATS
    chunk: int = 1024


def interpreter(name: str | Interpreter, model: Model | None = None) -> Interpreter:
    """The interpreter of a name; "auto" is the one that `fitting` names for the model. One of your own
    is checked: its functions may be keyed by kernels and stages, or by their definitions.

    Raises ArgumentError for a name that there is none of, for a key that is no kernel or stage, and for
    settings of compiled kernels that this machine cannot have (`jit.ready`).
    """
    if isinstance(name, Interpreter):
        return name._replace(functions={defined(key): function
                                        for key, function in name.functions.items()})
    if not isinstance(name, str) or name not in ("auto", *INTERPRETERS):
        said = repr(name) if name is None or isinstance(name, str | int) else f"a {type(name).__name__}"
        near = get_close_matches(name, INTERPRETERS, 1) if isinstance(name, str) else []
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"kernels must be 'auto' or {' or '.join(map(repr, INTERPRETERS))} or an "
                            f"Interpreter, got {said}{meant}")
    if name == "auto":
        name = fitting(model)
    if name == "definition":
        return Interpreter("definition")
    try:
        module = import_module("." + MODULES[name], __name__)
    except ImportError as error:
        raise MissingExtra(f"kernels={name!r} needs the package {error.name}: "
                           'pip install "minivl[jit]"') from error
    if hasattr(module, "ready"):
        module.ready()
    found: Interpreter = module.INTERPRETER
    own = {defined(key): function for key, function in found.functions.items()}
    return found._replace(functions={**stand_ins(module), **own})


def fitting(model: Model | None) -> str:
    """What "auto" means: "jit" for a model of at least `COMPILED_FROM` parameters that runs in float32
    or bfloat16, where Numba is installed; else "definition".

    Below that a program answers sooner by the definitions: to import Numba and to load compiled code
    takes about a second, and the first run on a computer compiles for half a minute.
    """
    if model is None or model.decoder.dtype.name not in COMPILED:
        return "definition"
    big = parameters(model) >= COMPILED_FROM
    return "jit" if big and has_compiler() else "definition"


def has_compiler() -> bool:
    """Whether Numba is installed; it is not imported."""
    return find_spec("numba") is not None


def processors() -> int:
    """Processors that this process may use, which in a container are fewer than the computer has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def packer() -> Packer | None:
    """What packs weights fastest here: compiled code, or None for the definition. Raises ArgumentError for
    settings that this machine cannot have."""
    if not has_compiler():
        return None
    module = import_module(".jit", __name__)
    module.ready()
    found: Packer = module.pack
    return found


def defined(key: Any) -> Function:
    """The definition behind a key of `Interpreter.functions`. Raises ArgumentError for what has none."""
    found = getattr(key, "definition", key)
    if not callable(found) or not hasattr(found, "composite"):
        raise ArgumentError(f"functions of an interpreter are keyed by kernels or stages, got {key!r}: "
                            "for example minivl.kernels.definition.gelu")
    return found


def stand_ins(module: ModuleType) -> dict[Function, Function]:
    """A module's functions by the definitions of the kernels whose names they have."""
    return {getattr(definition, name).definition: getattr(module, name) for name in NAMES
            if hasattr(module, name)}

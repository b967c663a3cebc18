"""Compiled code, kept on disk: a second process starts without a compiler.

Numba's own cache looks at the file of one function; a kernel here is made of several, and of values in
closures. So the key is all that the code follows from: every source of this package and of the tiles'
order, the versions of Numba and llvmlite, the processor with its features, the kernel, and the types of
its arguments. It lies in MINIVL_CACHE, or where the system keeps caches; a file that cannot be read is
compiled anew. Nothing is written when MINIVL_CACHE is "off". Files that nobody used for UNUSED days, of
older sources for example, are removed when something new is kept.

Reading such a file runs what stands in it: who may write to the folder may run code as whoever reads it
(SECURITY.md, E-7). So a folder to which others may write is neither read nor written (`kept_files.py`).

Read next: `build.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ...checkpoint import layout
from ...door.files import write_whole
from ..kept import folder as folder
from ..kept_files import distrust, make_private, remove_unused, trusted, used

PATIENCE = 3.0                                 # seconds of compiling before somebody is told
OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.\w+")     # a file that is written here, and half of one


@functools.cache
def sources() -> str:
    """A hash of everything that compiled code is made of."""
    total = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(layout.__file__)):
        total.update(path.read_bytes())
    return total.hexdigest()


def named(function: Callable[..., Any], key: tuple[Any, ...]) -> Any:
    """A copy of a function whose name in machine code is its key's alone.

    Numba numbers functions of one name in the order in which a process compiles them. Two kernels made
    of one function by two processes may so have one symbol, and a third process, which loads both,
    would run the first one for both.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__,
                        function.__defaults__, function.__closure__)
    copy.__qualname__ = f"{function.__name__}_{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
    return copy


class KeptOnDisk(NullCache):
    """What Numba asks before it compiles a function, and tells after it did."""

    def __init__(self, key: tuple[Any, ...]):
        self.key = key

    def path(self, signature: Any, codegen: Any) -> Path | None:
        """The file of a function with these types; None where nothing is kept."""
        where = folder()
        if where is None or not trusted(where):
            return None
        text = repr((sources(), self.key, str(signature), codegen.magic_tuple()))
        return where / hashlib.sha256(text.encode()).hexdigest()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        target_context.refresh()
        path = self.path(signature, target_context.codegen())
        with contextlib.suppress(Exception):   # a file of another time, half a file, none: compile
            if path is not None:
                found = CompileResult._rebuild(target_context, *pickle.loads(path.read_bytes()))
                used(path)
                return found
        told()
        return None

    def save_overload(self, signature: Any, data: Any) -> None:
        """Keep it; a folder that cannot be written to is no error."""
        path = self.path(signature, data.codegen)
        if path is None or data.library.has_dynamic_globals:
            return
        with contextlib.suppress(OSError):
            make_private(path.parent)
            payload = dumps(data._reduce())
            write_whole(path, lambda file: file.write(payload))
            remove_unused(path.parent, OURS)


# ---- what a reader is told

_first: float | None = None                    # when this process compiled something for the first time
_said = False                                  # whether the reader knows


def told() -> None:
    """Say once that kernels are being compiled, when somebody watches and it takes a while."""
    global _first, _said
    now = time.monotonic()
    if _first is None:
        _first = now
    if _said or now - _first <= PATIENCE or not sys.stderr.isatty():
        return
    _said = True
    why = unkept()
    times = f"as every process does, because {why}" if why else "once"
    print(f"compiling kernels for this processor, {times}: about half a minute", file=sys.stderr)


def unkept() -> str:
    """Why compiled code is not kept; nothing where it is."""
    where = folder()
    if where is None:
        return 'MINIVL_CACHE is "off"'
    if why := distrust(where):
        return f"the folder {where} is ignored: {why}"
    try:
        make_private(where)
    except OSError as error:
        return f"the folder {where} cannot be made ({error.strerror}); MINIVL_CACHE names another one"
    if not os.access(where, os.W_OK | os.X_OK):
        return f"the folder {where} may not be written to; MINIVL_CACHE names another one"
    return ""

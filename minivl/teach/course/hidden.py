"""Code that a submission makes of text or bytes while it runs: who may do that, and who may not.

What is read off the text of a submission (`refusal.py`) is read off its cells. A solution that is
unpickled, unmarshalled, compiled, or imported from a file that a cell has written stands in no cell,
so it is refused where it comes to life. Honest code comes there as well: an import compiles a module,
`namedtuple` and `dataclass` write functions. Those are let through, each by what is true of it alone:

- a statement of a cell: its code object was compiled before the submission began;
- a module of a library: its text is what stands in a file outside of the submission's folder;
- a type: it is one of those that drawn inputs are made of.

It answers audit events and changes nothing. Read next: `confine.py`, which asks it;
docs/teaching/grading.md.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import importlib
import pickle
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

EVENTS = ("compile", "exec", "code.__new__", "marshal.load", "pickle.find_class", "import",
          "cpython.PyInterpreterState_New")
LOADER = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
UNMARSHAL = importlib._bootstrap_external._compile_bytecode.__code__      # type: ignore[attr-defined]
GENERATORS = {name: value.__code__ for name, value in vars(dataclasses).items()
              if hasattr(value, "__code__")}


def classes_in(pickles: Iterable[bytes]) -> set[tuple[str, str]]:
    """Module and name of every type that these pickles are made of."""
    found = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add((module, name))
            return super().find_class(module, name)
    for one in pickles:
        Noting(BytesIO(one)).load()
    return found


class Hidden:
    """What an audit event makes of text or bytes, and whether that is allowed.

    code: the statements of the cells. classes: module and name of types that may be unpickled. trusted:
    path -> whether a file is one that a library may be imported from.
    """

    def __init__(self, code: Iterable[CodeType], classes: set[tuple[str, str]],
                 trusted: Callable[[Any], bool]):
        self.code = {id(one): one for one in code}  # kept, so that their numbers stay theirs
        self.classes, self.trusted = frozenset(classes), trusted

    def refuses(self, event: str, args: tuple, frame: FrameType | None) -> bool:
        """Whether what `frame` is about to do makes code of what stands in no cell."""
        if event == "pickle.find_class":
            return tuple(args[:2]) not in self.classes
        if event == "import":                             # a library of native code, by its file
            return isinstance(args[1], str | bytes) and not self.trusted(args[1])
        if event == "exec":
            made_of_text = args[0].co_filename == "<string>"
            return made_of_text and id(args[0]) not in self.code and not self._of_a_library(frame)
        if event == "compile" and frame is not None:
            if frame.f_code is ast.parse.__code__:        # a tree, which nothing runs
                return False
            return not (self._is_module(frame, *args[:2]) or self._of_a_library(frame)
                        or _is_type(frame, args[0]))
        if event.startswith("marshal.load"):
            return not self._is_bytecode(frame, args[0] if args else b"")
        return event == "cpython.PyInterpreterState_New" or not self._of_a_library(frame)

    def _is_module(self, frame: FrameType, source: Any, path: Any) -> bool:
        """Whether an import compiles the very text of a file that it may read."""
        if frame.f_code.co_filename not in LOADER or not isinstance(source, bytes):
            return False
        return self.trusted(path) and _bytes_of(path) == source

    def _is_bytecode(self, frame: FrameType | None, data: Any) -> bool:
        """Whether an import reads the very bytes of a compiled module behind its heading."""
        if frame is None or frame.f_code is not UNMARSHAL:
            return False
        path = frame.f_locals.get("bytecode_path")
        return self.trusted(path) and _bytes_of(path)[16:] == bytes(data)

    def _of_a_library(self, frame: FrameType | None) -> bool:
        """Whether a library makes code of its own: in its import, for a namedtuple or a dataclass."""
        if frame is None or frame.f_code is collections.namedtuple.__code__:
            return frame is not None
        if frame.f_code.co_filename == dataclasses.__file__:
            return _plain_dataclass(frame)
        for inner in _outwards(frame):
            if inner.f_code.co_name == "<module>" and self.trusted(inner.f_code.co_filename):
                outer = inner.f_back
                return outer is not None and outer.f_code.co_filename in LOADER
        return False


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and its callers, up to the first cell."""
    while frame is not None and not frame.f_code.co_filename.startswith("<cell"):
        yield frame
        frame = frame.f_back


def _is_type(frame: FrameType, source: Any) -> bool:
    """Whether `typing` reads the words of an annotation, which call nothing."""
    words = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
    return (frame.f_code is typing.ForwardRef.__init__.__code__ and isinstance(words, str)
            and re.fullmatch(r"[\w.,|\[\] ]*", words) is not None)


def _plain_dataclass(frame: FrameType) -> bool:
    """Whether `dataclasses` itself, as it came, makes functions for fields with ordinary names."""
    now = vars(dataclasses)
    if any(getattr(now.get(name), "__code__", None) is not code for name, code in GENERATORS.items()):
        return False
    for inner in _outwards(frame):
        if inner.f_code.co_filename != dataclasses.__file__:
            return False
        if inner.f_code is GENERATORS["_process_class"]:
            fields = inner.f_locals.get("fields")
            return type(fields) is dict and all(
                type(one) is dataclasses.Field and type(one.name) is str and one.name.isidentifier()
                for one in fields.values())
    return False


def _bytes_of(path: Any) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""

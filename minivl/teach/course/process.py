"""A submission's process seen from outside: start it, wait, end it, read what it has written down.

What comes back is data: types, shapes and bytes of arrays. Nothing of it is unpickled, imported or run,
and nothing in it is believed but as an answer. When the process dies or has to be ended, the function at
fault is left out and the others get another process, so that one endless loop costs one mark.

Read next: `child.py`, the other end; `grade.py`, which judges.
"""

from __future__ import annotations

import builtins
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..check.draws import Case
from .notebook import Code

PACKAGE = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("child.py").resolve()
OPTIONS = ("-I", "-B", "-X", "utf8", "-W", "ignore")    # a warning would quote a line of the package
STARTING = 10.0              # seconds of a processor for a process to start
WAITING = 3.0  # seconds by the clock for each of a processor, on a busy machine or for one that sleeps

DENIED = {"frames", "hidden code", "native code", "tracing", "programs", "network",
          "reading the package", "writing the package",
          "reading outside its folder", "writing outside its folder"}
EXCEPTIONS = {name for name, kind in vars(builtins).items() if isinstance(kind, type)
              and issubclass(kind, BaseException)} | {"LinAlgError", "AxisError", "UFuncTypeError"}
TYPES = {"list", "dict", "str", "bytes", "bool", "int", "float", "complex", "set", "tuple", "function",
         "generator", "type", "map", "zip", "range", "filter", "subclass"}


@dataclass(frozen=True)
class Limits:
    """What one submission may use. memory: bytes; patience: seconds of a processor for one function, and
    for one statement of a cell; output: bytes of any file, printed text included."""
    memory: int = 2 * 2**30
    patience: float = 5.0
    output: int = 32 * 2**20


@dataclass(frozen=True)
class Foreign:
    """Stands for something that a function gave and that is no plain array of numbers."""
    words: str


class Run(NamedTuple):
    """One call: what it gave, or the exception and its place; digests of its inputs afterwards."""
    kind: str
    value: Any = None
    exception: str = ""
    where: str = ""
    touched: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What came of a function. kind: "ran", "missing", "signature", "time", "memory", "output",
    "died"."""
    kind: str
    runs: tuple[Run, ...] = ()
    where: str = ""


@dataclass
class Seen:
    """What came of a submission: an outcome for each function; what was tried and denied, in which cell
    or function; whether the kernel stood by."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    denied: list[tuple[str, str]] = field(default_factory=list)
    locked: bool = True


def run(code: Sequence[Code], asked: Mapping[str, Sequence[Case]], limits: Limits) -> Seen:
    """Run the cells, then each function on its cases, in processes. OSError when none starts."""
    seen, left = Seen(), dict(asked)
    while left:
        frames, ended = _once(code, left, limits)
        at = _take(frames, left, seen)
        for name in [name for name in left if name in seen.outcomes]:
            del left[name]
        if ended == "whole" or not left:
            break
        if at in left:                                    # this one is to blame; on with those after it
            seen.outcomes[at] = Outcome(ended)
            del left[at]
        else:
            seen.outcomes |= {name: Outcome(ended, where=at) for name in left}
            break
    seen.outcomes |= {name: Outcome("died") for name in asked if name not in seen.outcomes}
    return seen


def _once(code: Sequence[Code], asked: Mapping[str, Sequence[Case]], limits: Limits
          ) -> tuple[list[tuple[dict[str, Any], bytes]], str]:
    """One process: its frames, and how it ended: "whole", "time" or "died"."""
    longest = STARTING + limits.patience * (2 + len(asked))
    with tempfile.TemporaryDirectory(prefix="minivl-graded-", ignore_cleanup_errors=True) as folder:
        job = {"cells": [tuple(one) for one in code], "memory": limits.memory, "seconds": int(longest),
               "output": limits.output, "patience": limits.patience, "package": str(PACKAGE), "asked": [
                   {"function": name,
                    "cases": [(pickle.dumps(case.args), case.strided) for case in cases]}
                   for name, cases in asked.items()]}
        process = subprocess.Popen([sys.executable, *OPTIONS, str(CHILD), folder], cwd=folder,
                                   env=_environment(folder), stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        ended = "died"
        try:
            process.communicate(pickle.dumps(job), timeout=WAITING * longest)
            ended = "time" if process.returncode == -signal.SIGXCPU else "died"
        except subprocess.TimeoutExpired:
            ended = "time"
        finally:
            _end(process)
        frames = list(_frames(Path(folder) / "results"))
    whole = bool(frames) and frames[-1][0].get("at") == "end"
    return frames, "whole" if whole else ended


def _environment(folder: str) -> dict[str, str]:
    """Nothing of the teacher's environment but where programs are; one thread, which saves addresses."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "MPLBACKEND": "Agg",
            **threads}


def _end(process: subprocess.Popen) -> None:
    """End the process and what it may have started; it leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()


def _frames(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The frames of a results file, up to the first that is none."""
    data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        try:
            head = json.loads(data[at + 4 : at + 4 + length])
            size = int(head["bytes"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        at += 4 + length + size
        if size < 0 or at > len(data) or not _in_form(head):
            return
        yield head, data[at - size : at]


STOPS = ("missing", "signature", "time", "memory", "output")
WORDS, LISTS = ("at", "asked", "denied", "kind", "exception", "where"), ("touched", "arrays")
PLACE = re.compile(r"cell \d{1,6}(, line \d{1,6})?")


def _in_form(head: Mapping[str, Any]) -> bool:
    """Whether a frame's head holds texts and lists as `child.py` writes them; others may write too."""
    return (all(isinstance(head.get(key, ""), str) for key in WORDS)
            and all(isinstance(head.get(key, []), list) for key in LISTS))


def _where(head: Mapping[str, Any], key: str = "where") -> str:
    """A place in the submission, or nothing: frames that a submission has written could tell."""
    said = str(head.get(key, ""))
    return said if PLACE.fullmatch(said) else ""


def _take(frames: list[tuple[dict[str, Any], bytes]], asked: Mapping[str, Sequence[Case]],
          seen: Seen) -> str:
    """Sort frames into `seen`; gives the cell or function that was running last."""
    at, runs = "start", {name: list[Run]() for name in asked}
    for head, data in frames:
        name = head.get("asked")
        if "at" in head:
            at = str(head["at"]) if head["at"] in asked else _where(head, "at")
        elif head.get("denied") in DENIED:
            seen.denied.append((str(head["denied"]), at))
        elif "locked" in head:
            seen.locked = seen.locked and bool(head["locked"])
        elif name in runs and name not in seen.outcomes:
            if head.get("kind") in ("values", "raised"):
                runs[name].append(_run(head, data))
            elif head.get("kind") in STOPS:
                seen.outcomes[name] = Outcome(str(head["kind"]), where=_where(head))
    for name, done in runs.items():
        if name not in seen.outcomes and len(done) == len(asked[name]) + 1:
            seen.outcomes[name] = Outcome("ran", tuple(done))
    return at


def _run(head: dict[str, Any], data: bytes) -> Run:
    if head["kind"] == "raised":
        return Run("raised",
                   exception=_known(head.get("exception"), EXCEPTIONS, "an exception of its own"),
                   where=_where(head))
    return Run("values", _value(head, data), touched=tuple(map(str, head.get("touched", ()))))


def _known(name: Any, names: set[str], other: str) -> str:
    """A name that is everybody's; one that a submission made up could say what it was given."""
    return name if name in names else other


def _value(head: dict[str, Any], data: bytes) -> Any:
    """What a function gave, made anew from types, shapes and bytes."""
    values: list[Any] = []
    at = 0
    try:
        for form in head["arrays"]:
            if form["type"] == "none":
                values.append(None)
            elif form["type"] != "array":
                values.append(Foreign(_known(form["type"], TYPES, "an object of its own class")))
            else:
                kind, shape = np.dtype(str(form["dtype"])), tuple(int(n) for n in form["shape"])
                size = prod(shape) * kind.itemsize
                plain = kind.kind in "fiub" and min(shape, default=0) >= 0
                values.append(np.frombuffer(data[at : at + size], kind).reshape(shape) if plain else
                              Foreign("an array of something else than plain numbers"))
                at += size
    except (ValueError, TypeError, KeyError, OverflowError, SyntaxError):
        return Foreign("something that cannot be read")
    return tuple(values) if head.get("tuple") else values[0] if values else Foreign("an empty tuple")

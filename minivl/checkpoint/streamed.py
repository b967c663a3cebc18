"""Weights that stay in their file: each block is read ahead while the block before it computes, and
given back when the next one begins.

A model larger than memory runs so at the speed of the disk. Nobody asks for a block: the first weight of
it that a kernel reads says that the block has begun. One thread reads the file ahead, in order and with
plain reads, into the system's cache of pages, which is where the mapped weights find it.
(`madvise(WILLNEED)` would be the word for it, but Linux cuts what it reads ahead down to a megabyte a
call.)

Not here: how much memory a model may take (`run/streaming.py`). Read next: `safetensors.py`, the mapped
    file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .packed import Packed
from .safetensors import MappedFile
from .tree import Weight

PIECE = 4 << 20                                # bytes of one read: a disk is fast from 1 MiB on


class Span(NamedTuple):
    """Bytes of a mapped file."""
    file: MappedFile
    start: int
    size: int


@dataclass
class Times:
    """What happened to one block so far. read: seconds in which the disk was read, by the thread; wait:
    seconds for which the model stood still; compute: seconds of its own work; runs: how often it ran;
    bytes: that were read"""
    read: float = 0.0
    wait: float = 0.0
    compute: float = 0.0
    runs: int = 0
    bytes: int = 0


class Part(NamedTuple):
    """One block, with all that it weighs. kept: whether its pages stay once they were read; part: of the
    model, the tower's blocks or the decoder's, which run again for every token."""
    name: str
    part: str
    spans: tuple[Span, ...]
    kept: bool

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        return sum(span.size for span in self.spans)


class Reader:
    """Reads parts ahead in their order; the last one is followed by the first of the same part of the
    model.

    .times: what happened to each part. `close` ends the thread.
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts, self.times = tuple(parts), [Times() for _ in parts]
        self._there = [threading.Event() for _ in parts]           # read, and not given back since
        self._asked: set[int] = set()
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._files: dict[Path, BinaryIO] = {}
        self._failed: Exception | None = None
        self._at, self._since = -1, perf_counter()
        self._thread = threading.Thread(target=self._read_on, name="reads weights ahead", daemon=True)
        self._thread.start()

    def arrive(self, at: int) -> None:
        """A weight of part `at` is about to be read: called before every read, so what is not the first
        of a part costs a comparison. Raises what the thread has met: OSError when the file cannot be read."""
        if at == self._at:
            return
        began = perf_counter()
        self._leave(began)
        self._ask(at)
        self._ask(self.after(at))
        self._there[at].wait()
        if self._failed is not None:
            raise self._failed
        self._at, self._since = at, perf_counter()
        self.times[at].wait += self._since - began
        self.times[at].runs += 1

    def pause(self) -> None:
        """The model has nothing to do with the weights for now: what follows is not the last part's
        work."""
        self._leave(perf_counter())

    def after(self, at: int) -> int:
        """The next part that has to be read: one that is kept is there already."""
        order = [*range(at + 1, len(self.parts)), *self._again(at)]
        return next((n for n in order if not self._there[n].is_set()), at)

    def _again(self, at: int) -> Iterator[int]:
        """Parts from the first of the decoder on: the next token begins there."""
        first = next((n for n, part in enumerate(self.parts) if part.part == self.parts[-1].part), 0)
        return iter(range(first, at))

    def _leave(self, now: float) -> None:
        """The part that ran has ended: its pages are given back unless they are kept."""
        at, self._at = self._at, -1
        if at < 0:
            return
        self.times[at].compute += now - self._since
        if not self.parts[at].kept:
            self._there[at].clear()
            self._asked.discard(at)
            for span in self.parts[at].spans:
                give_back(span, self._file(span.file.path))

    def _ask(self, at: int) -> None:
        if at not in self._asked:
            self._asked.add(at)
            self._wanted.put(at)

    def _read_on(self) -> None:
        """The thread: parts as they are asked for."""
        room = memoryview(bytearray(PIECE))
        while (at := self._wanted.get()) is not None:
            began = perf_counter()
            try:
                for span in self.parts[at].spans:
                    file = self._file(span.file.path)
                    self.times[at].bytes += read_through(file, span.start, span.size, room)
            except Exception as problem:           # told by the next `arrive`, in the model's own thread
                self._failed = problem
            self.times[at].read += perf_counter() - began
            self._there[at].set()

    def _file(self, path: Path) -> BinaryIO:
        if path not in self._files:
            self._files[path] = path.open("rb", buffering=0)
        return self._files[path]

    def close(self) -> None:
        """End the thread and close its files."""
        self._wanted.put(None)
        self._thread.join()
        for file in self._files.values():
            file.close()


def read_through(file: BinaryIO, start: int, size: int, room: memoryview) -> int:
    """Read bytes of a file and throw them away: afterwards they are in the system's cache. Gives how
    many there were."""
    file.seek(start)
    left = size
    while left:
        count = file.readinto(room[:min(left, len(room))])            # type: ignore[attr-defined]
        if not count:
            break
        left -= count
    return size - left


def give_back(span: Span, file: BinaryIO) -> None:
    """Take a span's pages out of this process, and out of the system's cache where it can be told so."""
    span.file.let_go(span.start, span.size)
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), span.start, span.size, os.POSIX_FADV_DONTNEED)


def spans_of(weight: Weight | None) -> list[Span]:
    """Where a weight lies in mapped files; nowhere for one in memory."""
    file = getattr(weight, "file", None)
    if isinstance(file, MappedFile):
        where: Any = weight
        return [Span(file, where.start, where.size if hasattr(where, "size") else where.nbytes)]
    parts = getattr(weight, "parts", None)
    inner = parts.values() if isinstance(parts, dict) else parts or [getattr(weight, "weight", None)]
    return [span for part in inner if part is not None for span in spans_of(part)]


# ---------------------------------------------------------------------------------------------- weights

class OfPart:
    """A weight of part `at`, which is read ahead: it says so whenever it is read."""

    def __init__(self, weight: Any, reader: Reader, at: int):
        self.weight, self.reader, self.at = weight, reader, at
        self.shape, self.format = weight.shape, weight.format


class Streamed(OfPart):
    """What it gives is the inner weight's."""

    def dense(self, dtype: Any) -> np.ndarray:
        """All of it, as soon as it is there."""
        self.reader.arrive(self.at)
        found: np.ndarray = self.weight.dense(dtype)
        return found

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows `index`, as soon as they are there."""
        self.reader.arrive(self.at)
        found: np.ndarray = self.weight.rows(index, dtype)
        return found

    def fill(self, out: np.ndarray) -> None:
        """Write `dense(out.dtype)` into `out`, as soon as it is there."""
        self.reader.arrive(self.at)
        self.weight.fill(out)

    def __repr__(self) -> str:
        return f"Streamed({self.weight!r})"


class StreamedTiles(OfPart, Packed):
    """Tiles, multiplied where they lie."""

    def array(self, name: str) -> np.ndarray:
        """Tiles, scales or zeros, as soon as they are there."""
        self.reader.arrive(self.at)
        found: np.ndarray = self.weight.array(name)
        return found


def streamed(weight: Weight, reader: Reader, at: int) -> Weight:
    """A weight as one of part `at`."""
    kind: type[Any] = StreamedTiles if isinstance(weight, Packed) else Streamed
    found: Weight = kind(weight, reader, at)
    return found

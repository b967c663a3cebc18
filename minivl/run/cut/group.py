"""Ranks that talk to each other: posting and taking arrays, and what is made of these two.

A sum is made in the order of the ranks, whichever message comes first, so that a run gives the same
numbers every
time: each rank gets one piece from everybody, adds the pieces in order, and hands the result to
    everybody. That is
as much traffic as a ring needs: twice the array, but for each rank's own piece.

Here are the counting, and ranks that are threads of one process, for tests and lessons. Read next:
`mpi.py`, the same over MPI; `machine.py`, which asks for all this.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...door.errors import Error

Array = np.ndarray
PATIENCE = 0.05                                # seconds between two looks at whether others failed


class RankLost(Error):
    """Another rank of this job has failed, so this one cannot go on."""


class Group:
    """`size` ranks, of which this is `rank`. `.sent` counts bytes by kind, of this rank alone."""

    def __init__(self, rank: int, size: int, sent: Counter[str] | None = None):
        self.rank, self.size = rank, size
        self.sent: Counter[str] = Counter() if sent is None else sent

    # ---- what a kind of group has of its own

    def post(self, x: Array, to: int) -> None:
        """Send an array; it is not written to until `settle`."""
        raise NotImplementedError

    def take(self, shape: tuple[int, ...], dtype: DTypeLike, source: int) -> Array:
        """The next array from a rank: wait for it."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until everything that was posted has left."""

    # ---- what all of them have

    def send(self, x: Array, to: int, kind: str) -> None:
        """Hand an array on."""
        self.count(x.nbytes, kind)
        self.post(np.ascontiguousarray(x), to)
        self.settle()

    def count(self, bytes: int, kind: str) -> None:
        """Note bytes that this rank sends."""
        self.sent[kind] += bytes

    def swap(self, parts: Sequence[Array], shapes: Sequence[tuple[int, ...]], kind: str) -> list[Array]:
        """Part j goes to rank j; what comes from rank j has shape j. Gives all of them in the order of
        ranks."""
        others = [(self.rank + step) % self.size for step in range(1, self.size)]
        for other in others:
            self.count(parts[other].nbytes, kind)
            self.post(np.ascontiguousarray(parts[other]), other)
        found = {other: self.take(shapes[other], parts[other].dtype, other) for other in others}
        self.settle()
        return [parts[j] if j == self.rank else found[j] for j in range(self.size)]

    def sum(self, x: Array, kind: str = "sums") -> Array:
        """The sum of every rank's array, added in the order of ranks, in the array's own type."""
        if self.size == 1:
            return x
        pieces = np.array_split(x.reshape(-1), self.size)
        mine = pieces[self.rank].shape
        total, *others = self.swap(pieces, [mine] * self.size, kind)
        total = total.copy()
        for one in others:
            total += one
        whole = self.swap([total] * self.size, [piece.shape for piece in pieces], kind)
        return np.concatenate(whole).reshape(x.shape)

    def gather(self, x: Array, kind: str = "scores") -> Array:
        """Every rank's array, side by side on the last axis."""
        if self.size == 1:
            return x
        return np.concatenate(self.swap([x] * self.size, [x.shape] * self.size, kind), axis=-1)

    def from_first(self, x: Array, kind: str = "tokens") -> Array:
        """Rank 0's array, on every rank."""
        if self.rank:
            return self.take(x.shape, x.dtype, 0)
        for other in range(1, self.size):
            self.count(x.nbytes, kind)
            self.post(np.ascontiguousarray(x), other)
        self.settle()
        return x


# ------------------------------------------------------------------------------ ranks in one process

class Hall:
    """Where ranks of one process meet: a queue from each to each, and whether one of them has failed."""

    def __init__(self, size: int):
        self.size, self.failed = size, threading.Event()
        self.queues: dict[tuple[int, int], SimpleQueue[Array]] = {
            (a, b): SimpleQueue() for a in range(size) for b in range(size)}


class Threads(Group):
    """Some ranks of a hall, `members` by their numbers in it; one thread each."""

    def __init__(self, hall: Hall, members: Sequence[int], me: int, sent: Counter[str] | None = None):
        super().__init__(list(members).index(me), len(members), sent)
        self.hall, self.members, self.me = hall, tuple(members), me

    def post(self, x: Array, to: int) -> None:
        self.hall.queues[self.me, self.members[to]].put(x.copy())

    def take(self, shape: tuple[int, ...], dtype: DTypeLike, source: int) -> Array:
        queue = self.hall.queues[self.members[source], self.me]
        while True:
            try:
                return queue.get(timeout=PATIENCE)
            except Empty:
                if self.hall.failed.is_set():
                    raise RankLost(f"rank {self.members[source]} does not answer: a rank of this job "
                                   "has failed; its own message says why") from None


def in_threads(size: int, run: Callable[[Callable[..., Group], int], Any]) -> list[Any]:
    """Run a function once a rank, each in a thread, and give what they return, in order. It gets a maker
    of groups, `make(members)`, and its rank. Raises what the first rank that failed has raised."""
    hall, found, errors = Hall(size), [None] * size, dict[int, BaseException]()

    def one(rank: int) -> None:
        try:
            found[rank] = run(lambda members, sent=None: Threads(hall, members, rank, sent), rank)
        except BaseException as error:
            errors[rank] = error
            hall.failed.set()
    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in sorted(errors, key=lambda rank: (isinstance(errors[rank], RankLost), rank)):
        raise errors[rank]
    return found


class Paper(Group):
    """A rank alone that counts what it would send: what it would get is its own part, or zeros."""

    def post(self, x: Array, to: int) -> None:
        """Nothing is sent."""

    def take(self, shape: tuple[int, ...], dtype: DTypeLike, source: int) -> Array:
        return np.broadcast_to(np.zeros((), dtype), shape)

    def swap(self, parts: Sequence[Array], shapes: Sequence[tuple[int, ...]], kind: str) -> list[Array]:
        self.count(sum(part.nbytes for j, part in enumerate(parts) if j != self.rank), kind)
        return [part if j == self.rank else self.take(shapes[j], part.dtype, j)
                for j, part in enumerate(parts)]

    def sum(self, x: Array, kind: str = "sums") -> Array:
        mine = len(np.array_split(np.broadcast_to(np.int8(0), (x.size,)), self.size)[self.rank])
        self.count((x.size - mine + mine * (self.size - 1)) * x.dtype.itemsize, kind)
        return x

    def gather(self, x: Array, kind: str = "scores") -> Array:
        self.count(x.size * x.dtype.itemsize * (self.size - 1), kind)
        return np.broadcast_to(np.zeros((), x.dtype), (*x.shape[:-1], x.shape[-1] * self.size))

"""Ranks over MPI, through mpi4py: processes that `mpirun` has started, on one machine or many.

Arrays travel as bytes, straight from NumPy's memory. What fails on one rank ends the job on all of them:
a rank that waits for another one would wait for ever.

Read next: `group.py`, whose counting and sums these groups share.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...door.errors import MissingExtra
from .group import Array, Group

GRACE = 0.5                                    # seconds that rank 0 has to tell what fails on every rank


class Processes(Group):
    """Some processes of a job, over a communicator of their own."""

    def __init__(self, comm: Any, sent: Counter[str] | None = None):
        super().__init__(comm.rank, comm.size, sent)
        self.comm = comm
        self._leaving: list[tuple[Any, Array]] = []

    def post(self, x: Array, to: int) -> None:
        self._leaving.append((self.comm.Isend(as_bytes(x), to), x))

    def take(self, shape: tuple[int, ...], dtype: DTypeLike, source: int) -> Array:
        found = np.empty(shape, dtype)
        self.comm.Recv(as_bytes(found), source)
        return found

    def settle(self) -> None:
        for request, _ in self._leaving:
            request.Wait()
        self._leaving.clear()


def as_bytes(x: Array) -> Array:
    """The bytes of an array in one piece, as MPI takes them: bfloat16 is no type of its."""
    return x.reshape(-1).view(np.uint8)


def started() -> tuple[Callable[..., Group], int, int]:
    """A maker of groups, this process's rank, and how many there are. From here on an error that nobody
    catches ends the whole job. Raises MissingExtra without mpi4py, or without the library that it stands
    on."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(f"parallel= needs mpi4py and an MPI library ({str(error).splitlines()[0]}): "
                           'pip install "minivl[mpi]" mpich, or the MPI of your system') from error
    world = MPI.COMM_WORLD
    sys.excepthook = ending(world)

    def make(members: Sequence[int], sent: Counter[str] | None = None) -> Group:
        group = world.group.Incl(list(members))
        return Processes(world.Create_group(group), sent)
    return make, world.rank, world.size


def ending(world: Any) -> Callable[[type[BaseException], BaseException, TracebackType | None], Any]:
    """What is done about an error that nobody has caught."""
    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if world.rank:
            sleep(GRACE)
        said = "".join(traceback.format_exception(kind, error, where))
        end(world, f"{said}minivl: rank {world.rank} of {world.size} has failed, so the job ends", 1)
    return hook


def end(world: Any, text: str, code: int) -> None:
    """Say why, and end every rank of the job."""
    print(text, file=sys.__stderr__, flush=True)
    world.Abort(code)


@contextmanager
def one_voice(explained: Callable[[Exception], tuple[str, int]]) -> Iterator[bool]:
    """The command line of a job: rank 0 speaks, the others are silent unless they alone fail. Whatever
    fails ends the job, with the words and the exit code that `explained` gives. Gives whether this is
    rank 0."""
    _, rank, size = started()
    from mpi4py import MPI
    if rank:
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        yield rank == 0
    except Exception as error:
        if rank:
            sleep(GRACE)
        words, code = explained(error)
        end(MPI.COMM_WORLD, f"minivl: rank {rank} of {size}: {words}; the job ends", code)

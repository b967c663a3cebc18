"""Ranks of a job, however they are started: by `mpirun`, as threads of one process, or on paper.

    minivl.load(folder, parallel="tensor=2,pipeline=2")            # in a program that mpirun has started
    in_one_process(Cut(2, 2), lambda rank: minivl.load(folder, parallel=rank).ask(picture, question))

Read next: `machine.py`, what a rank does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ...config import ModelConfig
from ...door.errors import ArgumentError
from .group import Group, Paper, in_threads
from .machine import Rank
from .plan import Cut, Seat, cut_from, seats

Make = Callable[..., Group]
Joined = Callable[[ModelConfig], Rank]


def seated(make: Make, rank: int, seat: Seat, config: ModelConfig) -> Rank:
    """A rank with its groups, which count what they send in one place."""
    sent: Counter[str] = Counter()
    cut = seat.cut
    shards = [seat.stage * cut.tensor + j for j in range(cut.tensor)]
    return Rank(seat, config, make(shards, sent), make(list(range(cut.ranks)), sent), sent)


def by_mpi(text: str) -> Joined:
    """This process's rank of the job that `mpirun` has started. Raises ArgumentError when it has started
    another number of processes."""
    from .mpi import started
    cut = cut_from(text)
    make, rank, size = started()
    if size != cut.ranks:
        raise ArgumentError(f"parallel {cut} needs {cut.ranks} ranks, this job has {size}: start it "
                            f"with mpirun -n {cut.ranks} minivl ...")
    return lambda config: seated(make, rank, seats(config, cut)[rank], config)


def joined(parallel: str | Joined) -> Joined:
    """What `load` is given as `parallel=`: a text means MPI. Raises ArgumentError for one that means
    nothing."""
    return by_mpi(parallel) if isinstance(parallel, str) else parallel


def in_one_process(cut: Cut, run: Callable[[Joined], Any]) -> list[Any]:
    """Run a function once a rank, in threads: it gets what `load` takes as `parallel=`. Gives all
    results in the order of ranks; raises what the first rank that failed has raised."""
    def one(make: Make, rank: int) -> Any:
        return run(lambda config: seated(make, rank, seats(config, cut)[rank], config))
    return in_threads(cut.ranks, one)


def on_paper(config: ModelConfig, cut: Cut) -> list[Rank]:
    """Every rank alone, counting what it would send."""
    def make(rank: int) -> Make:
        return lambda members, sent: Paper(members.index(rank), len(members), sent)
    return [seated(make(seat.rank), seat.rank, seat, config) for seat in seats(config, cut)]

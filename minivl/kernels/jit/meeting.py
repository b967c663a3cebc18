"""Threads that wait for each other, and share out work, inside of compiled code.

    meet(met, team, times)                     # goes on when all of `team` have come `times` times
    number = claim(met, 1)                     # 0, 1, 2, ... of a count, each for one thread alone

`met` holds the counts of one call of the team (`Team.run_together`): of arrivals, then of what is
claimed. A thread that waits gives its
processor away, so that on a busy machine the last one comes sooner. Where a call has failed on one
thread, the team sets the count to RELEASED, and nobody waits for it.

Read next: `layer.py`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...door.errors import ArgumentError

RELEASED = 2**60                               # more than any team's arrivals
COUNTS, APART = 5, 8                           # how many, and how far apart: a line of the cache
TURNS = 2000                                   # looks at the count before the processor is given away
LONG = ir.IntType(64)


def counts() -> np.ndarray:
    """Counts at zero, each alone in its line of the cache."""
    return np.zeros(COUNTS * APART, np.int64)


def _place(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, value=value).data


@intrinsic
def counted(context: Any, met: Any, place: Any) -> Any:
    """met[place], and one more is there: whole, and what this thread wrote before can be read by whoever
    sees it."""
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        where = builder.gep(_place(context, builder, signature.args[0], values[0]), [values[1]])
        return builder.atomic_rmw("add", where, LONG(1), "acq_rel")
    return types.int64(met, types.int64), emit


@intrinsic
def seen(context: Any, met: Any) -> Any:
    """met[0] as it is in memory now."""
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(context, builder, signature.args[0], values[0])
        return builder.load_atomic(place, "acquire", 8)
    return types.int64(met), emit


GIVES_AWAY = sys.platform != "win32"           # there, it is left at looking
sched_yield = types.ExternalFunction("sched_yield", types.int32())


def meet(met: Any, team: int, times: int) -> None:
    """Wait until all have come `times` times."""
    counted(met, 0)                            # type: ignore[call-arg]
    looks = 0
    while seen(met) < team * times:
        looks += 1
        if GIVES_AWAY and looks > TURNS:
            sched_yield()


def claim(met: Any, which: int) -> int:
    """The next number of count `which`, from 1 on."""
    return counted(met, which * APART)          # type: ignore[call-arg]


def meet_alone(met: Any, team: int, times: int) -> None:
    """`meet` of an emulator, whose threads work one after the other, so none can wait for the next.
    Raises ArgumentError where one would."""
    if team != 1:
        raise ArgumentError("threads of an emulator work one after the other and cannot wait for each other: a "
                            f"team must be 1 thread, got {team}")


def pass_by(met: Any, team: int, times: int) -> None:
    """`meet` of an emulator at the end of a call."""


def claim_alone(met: Any, which: int) -> int:
    """`claim` of an emulator, whose threads work one after the other."""
    met[which * APART] += 1
    return int(met[which * APART] - 1)

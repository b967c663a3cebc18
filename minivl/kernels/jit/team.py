"""Threads of our own: every kernel is a function `(me, team, ...)` that does its share.

Compiled kernels release the interpreter's lock, so plain threads are enough; they wait for work without
spinning. How the work is split never changes a result: each number is computed by one thread, in one
order. Small work stays on the thread that asks, for a switch costs about 20 microseconds.

Read next: `drivers.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ...door.errors import ArgumentError, brief
from .. import processors
from .meeting import RELEASED, counts

SMALL = 2_000_000                              # operations that one thread does sooner alone


class Team:
    """`size` threads, the one that asks among them."""

    def __init__(self, size: int):
        if not isinstance(size, int) or not 1 <= size <= 1024:
            raise ArgumentError(f"threads must be a number from 1 to 1024, got {size!r}")
        self.size = size
        self.lock = threading.Lock()
        self.jobs: list[SimpleQueue[Any]] = []

    def run(self, function: Callable[..., None], *args: Any, work: int | None = None) -> None:
        """function(me, team, *args) on every thread; on one where `work`, in operations, is small.
        What a thread raises is raised here."""
        if self.size == 1 or (work is not None and work < SMALL):
            function(0, 1, *args)
            return
        self._run(function, args, None)

    def run_together(self, function: Callable[..., None], *args: Any, work: int) -> None:
        """The same for a function (me, team, met, ...) whose threads share out work or wait for each other
        (`meeting.py`), and meet at its end: then nobody has to wake up to hear that it is done."""
        met = counts()
        if self.size == 1 or work < SMALL:
            function(0, 1, met, *args)
        else:
            self._run(function, (met, *args), met)

    def _run(self, function: Callable[..., None], args: tuple[Any, ...], met: Any) -> None:
        """On every thread, this one among them. An interruption while the others work leaves them to it:
        what they say then is heard by nobody, and nobody waits for who does not come."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        with self.lock:                        # two callers share the threads, one after the other
            self._begin()
            try:
                for me, queue in enumerate(self.jobs, 1):
                    queue.put((function, me, self.size, args, done, met))
                failures = [_failure(function, 0, self.size, args, met)]
                if met is None or met[0] >= RELEASED:          # else they have met: all is done
                    failures += [done.get() for _ in self.jobs]
            except BaseException:
                released(met)
                raise
        for failure in failures:
            if failure is not None:
                raise failure

    def _begin(self) -> None:
        while len(self.jobs) < self.size - 1:
            queue: SimpleQueue[Any] = SimpleQueue()
            threading.Thread(target=self._serve, args=(queue,), daemon=True, name="minivl").start()
            self.jobs.append(queue)

    def _serve(self, queue: SimpleQueue[Any]) -> None:
        while True:
            function, me, team, args, done, met = queue.get()
            done.put(_failure(function, me, team, args, met))
            del function, args, met            # or an array lives until the next job


def _failure(function: Callable[..., None], me: int, team: int, args: tuple[Any, ...], met: Any
             ) -> BaseException | None:
    """What a thread's share raises."""
    try:
        function(me, team, *args)
    except BaseException as error:
        released(met)
        return error
    return None


def released(met: Any) -> None:
    """Nobody waits any more for threads that are counted in `met`."""
    if met is not None:
        met[0] = RELEASED


_team: Team | None = None


def team() -> Team:
    """The threads of this process: as many as it may use processors, or MINIVL_THREADS."""
    global _team
    if _team is None:
        asked = os.environ.get("MINIVL_THREADS") or str(min(processors(), 1024))
        if not asked.isdecimal() or len(asked) > 4 or not 1 <= int(asked) <= 1024:
            raise ArgumentError(f"MINIVL_THREADS must be a number from 1 to 1024, got {brief(asked)}")
        set_threads(int(asked))
    assert _team is not None
    return _team


def set_threads(size: int) -> None:
    """Use `size` threads from now on; the result of every kernel is the same for any number."""
    global _team
    _team = Team(size)


def after_fork() -> None:
    """Threads do not survive a fork: the child makes its own."""
    global _team
    _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)

"""The one thread that writes. Jobs wait in order; what is written goes to the event loop that waits for
it.

The model is touched by this thread alone. A job whose client hung up, or whose time is over, is stopped
at the next block of the model, and costs nothing when it has not begun. Read next: `writing.py`;
`app.py`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

from ...api import VLM
from ...door.errors import Error
from ...run.generation import NotFiniteError
from .fields import Wanted
from .limits import ServerLimits
from .pictures import check_length
from .refused import Refused
from .writing import AnswerPart, answer


class Job:
    """One request that waits for its answer. Made in the event loop that takes the answer. prompt: how
    many tokens it has, known once a piece is there."""

    def __init__(self, wanted: Wanted, messages: list[dict[str, Any]], limits: ServerLimits):
        self.wanted, self.messages, self.limits = wanted, messages, limits
        self.end, self.prompt = monotonic() + limits.seconds, 0
        self._loop, self._out = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self._stopped: Refused | None = None

    def stop(self, why: Refused) -> None:
        """Nobody waits any more, or nobody may. Any thread may say so."""
        self._stopped = self._stopped or why
        self.tell(why)

    def goes(self) -> None:
        """Raise Refused where the job has come to its end before its answer has."""
        if self._stopped is None and monotonic() > self.end:
            self.stop(too_slow(self.limits))
        if self._stopped is not None:
            raise self._stopped

    def tell(self, what: Any) -> None:
        """Hand on a part of the answer, or what was raised, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._out.put_nowait, what)
        except RuntimeError:  # the loop is closed: nobody is there to listen
            self._stopped = self._stopped or hung_up()

    async def pieces(self) -> AsyncIterator[AnswerPart]:
        """Pieces of the answer, the last of which says why it ended. Raises what it ended with instead,
        and Refused when its time is over."""
        while True:
            try:
                async with asyncio.timeout(max(0.0, self.end - monotonic())):
                    part = await self._out.get()
            except TimeoutError:
                self.stop(too_slow(self.limits))
                part = self._stopped
            if isinstance(part, BaseException):
                raise part
            yield part
            if part.ended:
                return


class Worker:
    """The thread, its queue, and the model."""

    def __init__(self, vlm: VLM, limits: ServerLimits):
        self.vlm, self.limits = vlm, limits
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._there: set[Job] = set()
        self._thread = threading.Thread(target=self._work, name="minivl writes", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn. Called in the event loop, as `done` is."""
        self._there.add(job)
        self._jobs.put(job)

    def done(self, job: Job) -> None:
        """Nobody waits for a job any more, whether it was answered or not."""
        job.stop(hung_up())
        self._there.discard(job)

    def stop(self) -> None:
        """End every job, then the thread, after the block of the model that it is in."""
        for job in tuple(self._there):
            job.stop(Refused("the server is being stopped", 503, code="stopping"))
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.goes()
                inputs = self.vlm.prepare(job.messages)
                check_length(inputs, self.limits)
                job.prompt = len(inputs.input_ids)
                for piece in answer(self.vlm, job.wanted, inputs, job.goes):
                    job.tell(piece)
            except Refused as refused:
                job.tell(refused)
            except NotFiniteError as error:
                job.tell(Refused(str(error), 500, code="not_finite"))
            except Error as error:
                job.tell(Refused(str(error), code="invalid_value"))
            except MemoryError:
                job.tell(Refused("out of memory; send smaller pictures, or a shorter prompt", 503,
                                 code="out_of_memory"))
            except Exception as error:  # a defect: the reply says no more than that
                job.tell(error)
            job = None  # its pictures go before the next one is waited for


def too_slow(limits: ServerLimits) -> Refused:
    return Refused(f"there was no answer within {limits.seconds:g} seconds, waiting included; ask for "
                   "fewer tokens, or when the server has less to do", 504, code="timeout")


def hung_up() -> Refused:
    return Refused("the client hung up", 499, code="hung_up")

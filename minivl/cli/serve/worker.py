"""The two threads that answer. One prepares requests in order: pictures are decoded, videos read. The
other one writes: a conversation of `run/together.py` for each, up to so many at a time, one step after the
other; what is written goes to the event loop that waits for it.

Weights are touched by the thread that writes alone. A job whose client hung up, or whose time is over,
leaves the others, and where it was the only one the model stops at its next stage; it costs nothing when it
has not begun. Read next: `run/together.py`; `writing.py`; `app.py`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from ...api import VLM
from ...door.errors import Error
from ...run.generation import NotFiniteError
from ...run.inputs import Inputs
from ...run.prompt_cache import PromptCache
from ...run.together import Talk
from .fields import Wanted
from .limits import ServerLimits
from .pictures import check_length
from .refused import Refused
from .writing import Answer, AnswerPart, options_of


class Job:
    """One request that waits for its answer. Made in the event loop that takes the answer. prompt: how
    many tokens it has; reused: of how many of them the rows were kept; known once a piece is there."""

    def __init__(self, limits: ServerLimits):
        self.limits, self.end = limits, monotonic() + limits.seconds
        self.prompt = self.reused = 0
        self._loop, self._out = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self._stopped: Refused | None = None
        self._talk: Talk | None = None

    def asks(self, wanted: Wanted, messages: list[dict[str, Any]]) -> None:
        """What is asked for, and messages with opened pictures."""
        self.wanted, self.messages = wanted, messages

    def stop(self, why: Refused) -> None:
        """Nobody waits any more, or nobody may. Any thread may say so."""
        self._stopped = self._stopped or why
        self.tell(why)
        if self._talk is not None:
            self._talk.leave()

    def goes(self) -> None:
        """Raise Refused where the job has come to its end before its answer has."""
        if self._stopped is None and monotonic() > self.end:
            self.stop(too_slow(self.limits))
        if self._stopped is not None:
            raise self._stopped

    def seated(self, talk: Talk) -> None:
        """The conversation that writes the answer."""
        self._talk = talk
        if self._stopped is not None:
            talk.leave()

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


class Writing(NamedTuple):
    """A job while its answer is written."""
    job: Job
    talk: Talk
    answer: Answer


class Worker:
    """Both threads, their queues, and the model. options: of `VLM.together`, how rows are kept."""

    def __init__(self, vlm: VLM, limits: ServerLimits, **options: Any):
        self.vlm, self.limits = vlm, limits
        self.room = vlm.together(limits.rows, reuse=PromptCache(limits.kept), **options,
                                 context=max(2, limits.prompt_tokens + limits.new_tokens))
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[Job, Inputs] | None] = queue.SimpleQueue()
        self._places = threading.Semaphore(limits.together)  # of those that are prepared or written
        self._there: set[Job] = set()
        self._threads = [threading.Thread(target=run, name=f"minivl {name}", daemon=True)
                         for run, name in ((self._prepare, "prepares"), (self._write, "writes"))]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn. Called in the event loop, as `done` is."""
        self._there.add(job)
        self._jobs.put(job)

    def done(self, job: Job) -> None:
        """Nobody waits for a job any more, whether it was answered or not."""
        job.stop(hung_up())
        self._there.discard(job)

    def stop(self) -> None:
        """End every job, then the threads, after the stage of the model that runs."""
        for job in tuple(self._there):
            job.stop(Refused("the server is being stopped", 503, code="stopping"))
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)

    # ---- the thread that prepares

    def _prepare(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._places.acquire()
            try:
                job.goes()
                inputs = self.vlm.prepare(job.messages)
                check_length(inputs, self.limits)
                job.prompt, job.messages = len(inputs.input_ids), []
                self._ready.put((job, inputs))
                del inputs  # or its patches would be held until the next ones are there
            except Exception as error:
                self._places.release()
                job.tell(refusal_of(error))
            job = None
        self._ready.put(None)

    # ---- the thread that writes

    def _write(self) -> None:
        writing: list[Writing] = []
        going, stopping = False, False
        while going or not stopping:
            with suppress(queue.Empty):
                new = self._ready.get(block=not going)
                stopping = stopping or new is None
                writing += self._joined(*new) if new else []
                new = None  # its patches go with the conversation
            try:
                going = self.room.step()
            except Exception:  # those whom it concerns are told of it
                going = bool(self.room.seated or self.room.waiting)
            writing = [one for one in writing if self._goes_on(one)]

    def _joined(self, job: Job, inputs: Inputs) -> list[Writing]:
        """A job's conversation; none where it is refused."""
        try:
            job.goes()
            answer = Answer(self.vlm, job.wanted)
            talk = self.room.join(inputs, job.wanted.max_new_tokens, **options_of(self.vlm, job.wanted))
        except Exception as error:
            self._places.release()
            job.tell(refusal_of(error))
            return []
        job.seated(talk)
        return [Writing(job, talk, answer)]

    def _goes_on(self, one: Writing) -> bool:
        """Hand on what the last step has added; whether more may come."""
        job, talk, answer = one
        job.reused = talk.reused
        try:
            if talk.scores is not None and len(talk.tokens) > answer.written:     # a step adds one
                part = answer.push(talk.tokens[-1], talk.scores, talk.reason == "length")
                if part.text or part.ended:
                    job.tell(part)
            if talk.error is not None:
                raise talk.error
        except Exception as error:
            job.tell(refusal_of(error))
            answer.ended = True
        if not talk.over and not answer.ended:
            return True
        talk.leave()
        self._places.release()
        return False


def refusal_of(error: BaseException) -> BaseException:
    """What a request is told that ends so; a defect stays what it is, and the reply says no more than
    that."""
    if isinstance(error, NotFiniteError):
        return Refused(str(error), 500, code="not_finite")
    if isinstance(error, Error) and not isinstance(error, Refused):
        return Refused(str(error), code="invalid_value")
    if isinstance(error, MemoryError):
        return Refused("out of memory; send smaller pictures, or a shorter prompt", 503,
                       code="out_of_memory")
    return error


def too_slow(limits: ServerLimits) -> Refused:
    return Refused(f"there was no answer within {limits.seconds:g} seconds, waiting included; ask for "
                   "fewer tokens, or when the server has less to do", 504, code="timeout")


def hung_up() -> Refused:
    return Refused("the client hung up", 499, code="hung_up")

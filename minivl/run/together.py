"""Conversations that are written together, and join and leave while others run.

    room = vlm.together(rows=65536)                        # memory for so many tokens, of all together
    one = room.join(vlm.prepare(messages), max_new_tokens=200)
    two = room.join(vlm.prepare(others))                   # at any time, from any thread
    for token in one: ...                                  # runs both; two.leave() ends one early
    two.text()

Each step runs one new token of every conversation whose prompt is through, and at most one chunk of one
prompt: nobody waits longer than a chunk takes. They are packed as rows of one sequence, and the table of
segments says that each row sees its own conversation alone; nothing else connects them. What a
conversation writes is therefore what it would write by itself: bit for bit where a product's rows do not
depend on how many there are, and up to rounding elsewhere. Numbers are drawn by its own seed and count.

Read next: `cache.py` (`join`, `leave`), `generation.py` (conversations that begin and run in step).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..checkpoint.tree import Model
from ..door.errors import ArgumentError
from ..door.stage import altered, running
from ..kernels import Interpreter
from ..kernels.stored import stored_as
from ..model import step, vision
from ..passes.positions import advance
from ..text.tokenizer import Stream, Tokenizer
from .cache import KVCache
from .generation import Keeping, NotFiniteError, Settings, check_length, choose, why_not_finite
from .inputs import Batch, Inputs
from .prompt_cache import continued, known_by, restored, usable

CHUNK = 512                    # rows of a prompt in one step, while others wait for a token
NONE = np.zeros(0, np.int64)


class Talk:
    """A conversation of a `Together`.

    .tokens: what it wrote so far, the stop id included       .over: whether it has ended
    .reason: why it ended: "stop", "length", "left" or "error"; None while it goes on
    .error: what was raised for it, or None
    """

    def __init__(self, room: Together, inputs: Inputs, settings: Settings):
        self.room, self.inputs, self.settings = room, inputs, settings
        self.tokens: list[int] = []
        self.reason: str | None = None
        self.error: BaseException | None = None
        self.slot = -1  # its number in the cache
        self.leaving = False
        self.parts: Iterator[Batch] = iter(())  # of its prompt, that are not through
        self.part: Batch | None = None  # the next of them
        self.unseen: Batch | None = None  # whose pictures nobody has looked at yet
        self.features: Any = None  # of its pictures
        self.offset = inputs.position_ids[:, -1:] - len(inputs.input_ids) + 1  # 3 1

    @property
    def over(self) -> bool:
        return self.reason is not None

    @property
    def capacity(self) -> int:
        """Rows that it may take."""
        return len(self.inputs.input_ids) + self.settings.max_new_tokens

    def newest(self) -> Batch:
        """Its newest token, as a batch of one row."""
        config, rows = self.room.model.config, len(self.inputs.input_ids) + len(self.tokens) - 1
        place = advance(np.array([rows]), self.offset)  # 1, 3 1 -> 3 1
        no_patches = np.zeros((0, config.vision.patch_values), np.float32)                  # p x
        return Batch(np.array(self.tokens[-1:]), place, NONE, np.ones(1, np.int64), np.zeros(1, np.int64),
                     no_patches, np.zeros((0, 3), np.int64), self.room.no_features)

    def leave(self) -> None:
        """End it; its rows are free from the next step on. From any thread."""
        with self.room.news:
            self.leaving = True
            self.room.news.notify_all()

    def __iter__(self) -> Iterator[int]:
        """Its tokens, from the first one on, as they come; whoever waits here runs the steps,
        unless a thread does (`Together.run_until`). Raises what went wrong with it."""
        given = 0
        while True:
            if given < len(self.tokens):
                given += 1
                yield self.tokens[given - 1]
            elif self.over:
                if self.error is not None:
                    raise self.error
                return
            else:
                self.room.wait_for(self, given)

    def pieces(self) -> Iterator[str]:
        """Its text as it comes, never half a character."""
        text = Stream(self.room.tokenizer())
        for token in self:
            if piece := text.push(token):
                yield piece
        if piece := text.flush():
            yield piece

    def text(self) -> str:
        """All of its text, when it has ended."""
        return "".join(self.pieces())


class Together:
    """A model, and memory for `rows` tokens of all conversations that are open at a time.

    `join` and `Talk.leave` may be called from any thread. Steps are run by whoever calls `step`, `run`,
    `run_until` or walks through a talk's tokens; one at a time.
    """

    def __init__(self, model: Model, machine: Interpreter, settings: Callable[..., Settings],
                 tokenizer: Callable[[], Tokenizer], rows: int, keeping: Keeping):
        self.model, self.machine, self.settings, self.tokenizer = model, machine, settings, tokenizer
        self.chunk, self.context = keeping.chunk or CHUNK, keeping.context
        stored = stored_as(keeping.cache, model.decoder.dtype, machine.caches)
        self.reuse = usable(keeping.reuse, model, stored)
        self.cache = KVCache(model.config.text, NONE, stored, machine.zeros, rows, keeping.channels)
        nothing = np.zeros((0, model.config.text.hidden_size), model.decoder.dtype)
        self.no_features = machine.to_device(nothing)
        self.waiting: deque[Talk] = deque()
        self.seated: list[Talk] = []  # those that have rows, in the order of joining
        self.news = threading.Condition()  # somebody joined or left, a token came
        self.stepping = threading.Lock()
        self.driven = False  # a thread runs the steps

    # ---- from any thread

    def join(self, inputs: Inputs, max_new_tokens: int = 128, do_sample: bool = False, **options: Any
             ) -> Talk:
        """Open a conversation; options as for `generate`. It waits until there are rows for it,
        those that came before it first. Raises ArgumentError for one that never has room, and for
        wrong options."""
        talk = Talk(self, inputs, self.settings(max_new_tokens, do_sample, **options))
        check_length(inputs, max_new_tokens, self.model.config.text, self.context)
        if talk.capacity > self.cache.shape[1]:
            raise ArgumentError(f"a prompt of {len(inputs.input_ids):,} tokens and {max_new_tokens:,} new "
                                f"ones need as many rows, and there are {self.cache.shape[1]:,} for all "
                                "together: make more with together(rows=...), or ask for fewer tokens")
        with self.news:
            self.waiting.append(talk)
            self.news.notify_all()
        return talk

    def wait_for(self, talk: Talk, count: int) -> None:
        """Run a step; or, where a thread runs them, wait until the talk has more tokens than `count`."""
        with self.news:
            if self.driven:
                self.news.wait_for(lambda: talk.over or len(talk.tokens) > count or not self.driven)
                return
        self.step()

    # ---- in one thread at a time

    def run(self) -> None:
        """Run steps until nobody is left."""
        while self.step():
            pass

    def run_until(self, closed: threading.Event, pause: float = 0.1) -> None:
        """Run steps, and wait where there are none, until `closed` is set: the loop of a server's
        thread.

        pause: seconds after which a closed event is noticed while nobody is there."""
        with self.news:
            self.driven = True
        try:
            while not closed.is_set():
                if not self.step():
                    with self.news:
                        self.news.wait_for(lambda: bool(self.waiting), pause)
        finally:
            with self.news:
                self.driven = False
                self.news.notify_all()

    def step(self) -> bool:
        """One step: those that leave, those that join, then one run of the model; whether anybody
        is left."""
        with self.stepping:
            try:
                self.let_go()
                self.let_in()
                if self.seated:
                    with running(self.machine):
                        self.run_once()
            except BaseException as error:  # rows may be half written: nobody can go on
                for talk in list(self.seated):
                    self.end(talk, "error", error, keep=False)
                raise
            return bool(self.seated or self.waiting)

    def let_go(self) -> None:
        """Those who have said that they leave."""
        for talk in [talk for talk in self.seated if talk.leaving]:
            self.end(talk, "left")
        with self.news:
            gone = [talk for talk in self.waiting if talk.leaving]
            self.waiting = deque(talk for talk in self.waiting if not talk.leaving)
        for talk in gone:
            self.end(talk, "left")

    def let_in(self) -> None:
        """Those who wait and for whom there are rows, first come first served."""
        while True:
            with self.news:
                if not self.waiting:
                    return
                talk = self.waiting[0]
                slot = self.cache.join(talk.capacity)
                if slot is None:
                    return
                self.waiting.popleft()
            talk.slot = slot
            self.seated.append(talk)
            rest = restored(talk.inputs, slot, self.cache, self.model.config, self.machine, self.reuse)
            batch = Batch.of([rest], self.model.config, self.model.decoder.dtype).on(self.machine.to_device)
            talk.unseen, talk.features = batch if len(batch.grids) else None, self.no_features
            talk.parts = batch.parts(self.chunk)
            talk.part = next(talk.parts)

    def run_once(self) -> None:
        """One run: the next part of the first prompt that is not through, and a token of each other."""
        reading = next((talk for talk in self.seated if talk.part is not None), None)
        on = sorted((talk for talk in self.seated if talk.part is None or talk is reading),
                    key=lambda talk: talk.slot)
        batch, features = packed(on, len(self.cache.capacities)), self.see(reading)
        logits = self.machine.to_host(step(batch, features, self.cache, self.model))  # n v
        asking = [talk for talk in on if talk.part is None or len(talk.part.asked)]
        if reading is not None:
            reading.part = next(reading.parts, None)
        for row, talk in enumerate(asking):
            self.take(talk, logits[row:row + 1])

    def see(self, talk: Talk | None) -> Any:
        """The visual tokens of the rows that a prompt runs now; its pictures are looked at once."""
        if talk is None or talk.part is None:
            return self.no_features
        if talk.unseen is not None:
            talk.features = vision(talk.unseen.patches, talk.unseen.grids, self.model.vision)
            talk.unseen = None
        return talk.features[talk.part.seen]

    def take(self, talk: Talk, logits: np.ndarray) -> None:
        """Choose the next token of a talk by its scores (1, v), and see whether it ends."""
        if not np.isfinite(logits).all():
            self.end(talk, "error", NotFiniteError(self.why(talk)), keep=False)
            return
        settings, written = talk.settings, np.array(talk.tokens, np.int64)
        (token,) = choose(logits, (talk.inputs.input_ids,), (written,), settings, len(written)).tolist()
        with self.news:
            talk.tokens.append(token)
            self.news.notify_all()
        if token in settings.stop_ids:
            self.end(talk, "stop")
        elif len(talk.tokens) == settings.max_new_tokens:
            self.end(talk, "length")

    def why(self, talk: Talk) -> str:
        """Which stage left the numbers first, by a run of the talk alone."""
        alone = Batch.of([talk.inputs], self.model.config, self.model.decoder.dtype)
        batch = alone.on(self.machine.to_device)
        if talk.tokens:
            batch = batch.with_answer(np.array([*talk.tokens, 0], np.int64))
        return why_not_finite([batch], batch.lengths, self.model, self.machine, self.chunk)

    def end(self, talk: Talk, reason: str, error: BaseException | None = None, keep: bool = True) -> None:
        """A talk is over: its rows are free, and kept for later where somebody asked for that."""
        if talk in self.seated:
            self.seated.remove(talk)
            if keep:
                self.keep(talk)
            self.cache.leave(talk.slot)
        with self.news:
            talk.error, talk.reason = error, reason
            talk.unseen, talk.features, talk.parts = None, None, iter(())
            self.news.notify_all()

    def keep(self, talk: Talk) -> None:
        """Hand the rows of a talk to whoever keeps them for later."""
        n = int(self.cache.lengths[talk.slot])
        if self.reuse is None or altered() or not n:
            return
        table = continued(known_by(talk.inputs, self.model.config), np.array(talk.tokens, np.int64),
                          talk.offset[:, 0])
        self.reuse.keep(table[:n], self.cache.taken(talk.slot, n, self.machine))


def packed(talks: list[Talk], slots: int) -> Batch:
    """One run of several talks, in the order of their slots, as a batch; pictures are not part of it."""
    pieces = [talk.part or talk.newest() for talk in talks]
    starts = np.cumsum([0, *(len(piece.ids) for piece in pieces)])[:-1].tolist()
    lengths = np.zeros(slots, np.int64)
    lengths[[talk.slot for talk in talks]] = [len(piece.ids) for piece in pieces]
    rows = [piece.placeholders + at for piece, at in zip(pieces, starts, strict=True)]
    asked = [piece.asked + at for piece, at in zip(pieces, starts, strict=True)]
    return replace(pieces[0], lengths=lengths, placeholders=np.concatenate(rows), asked=np.concatenate(asked),
                   ids=np.concatenate([piece.ids for piece in pieces]),
                   positions=np.concatenate([piece.positions for piece in pieces], axis=1))           # 3 s

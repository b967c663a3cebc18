"""Rows of earlier turns, so that the next turn computes only what is new in it.

    kept = minivl.PromptCache(limit=2**30)
    vlm.chat(messages, reuse=kept)             # keeps the rows of this turn
    vlm.chat([*messages, answer, question], reuse=kept)

A row may be used again when everything that it depends on is the same: the tokens up to it, their
positions, and the content of the pictures and videos among them. So that is what a row is known by, and
the longest common beginning of a prompt and of something that is kept is taken. Rows lie on the host, in
the type that the cache has them in, within a limit of bytes; what was used longest ago goes first.

The rows that are taken are bit for bit the ones that were computed, but a token that was decoded
alone and
one that went through in a prompt are summed in another order: scores may differ from those without a
`PromptCache` by rounding, as those of any other split into chunks do.

Read next: `cache.py`, where rows come from and go to; `generation.py`, which asks for them.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ..checkpoint.tree import Model
from ..config import ModelConfig
from ..door.errors import ArgumentError
from ..door.stage import altered
from ..kernels import Interpreter
from .cache import KVCache, Rows
from .inputs import Inputs, after, media_rows

GIBIBYTE = 2**30


class PromptCache:
    """Rows of conversations with one model, at most `limit` bytes of them.

    .nbytes: what they take now          .reused: tokens that were taken from here instead of computed
    It may be used from several threads. Raises ArgumentError for a limit that is no number of bytes.
    """

    def __init__(self, limit: int = GIBIBYTE) -> None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise ArgumentError(f"limit is {limit!r}; it must be a number of bytes, 0 or more")
        self.limit, self.reused = limit, 0
        self._kept: list[tuple[np.ndarray, Rows]] = []  # the one that was used last is the last
        self._of: tuple[Any, np.dtype] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that are kept, and of what they are known by."""
        return sum(table.nbytes + rows.nbytes for table, rows in list(self._kept))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def belongs_to(self, model: Model, dtype: np.dtype) -> None:
        """Rows are of one model, stored in one type. Raises ArgumentError for another one."""
        with self._lock:
            if self._of is None:
                self._of = (model.decoder, dtype)
            if self._of[0] is not model.decoder or self._of[1] != dtype:
                raise ArgumentError("this PromptCache holds rows of another model, precision or cache "
                                    "type: make one for each")

    def longest(self, table: np.ndarray) -> tuple[int, Rows | None]:
        """How many rows at the beginning of a table are kept, of the entry that has most; and its
        rows."""
        with self._lock:
            lengths = [common(table, kept) for kept, _ in self._kept]
            best = max(lengths, default=0)
            if not best:
                return 0, None
            entry = self._kept.pop(lengths.index(best))
            self._kept.append(entry)
            return best, entry[1]

    def keep(self, table: np.ndarray, rows: Rows) -> None:
        """Keep a conversation's rows. What is the beginning of it goes; nothing is kept twice, nor
        what is larger than the limit."""
        if table.nbytes + rows.nbytes > self.limit:
            return
        with self._lock:
            if any(common(table, kept) == len(table) for kept, _ in self._kept):
                return
            self._kept = [(kept, own) for kept, own in self._kept if common(table, kept) < len(kept)]
            self._kept.append((table, rows))
            while self.nbytes > self.limit:
                self._kept.pop(0)


def common(a: np.ndarray, b: np.ndarray) -> int:
    """How many rows two tables begin with alike."""
    n = min(len(a), len(b))
    other = np.flatnonzero((a[:n] != b[:n]).any(axis=1))
    return int(other[0]) if len(other) else n


def known_by(inputs: Inputs, config: ModelConfig) -> np.ndarray:
    """What each row of a conversation is known by: s 6, int64: the token, its three positions, and
    a hash of the picture or video that it belongs to, 0 for text."""
    import hashlib  # it takes milliseconds, and most runs keep nothing

    table = np.zeros((len(inputs.input_ids), 6), np.int64)
    table[:, 0], table[:, 1:4] = inputs.input_ids, inputs.position_ids.T
    for medium, (first, end) in zip(inputs.media, media_rows(inputs, config), strict=True):
        patches = np.ascontiguousarray(inputs.patches[medium.rows])
        total = hashlib.blake2b(repr((medium.grid, patches.shape)).encode(), digest_size=16)
        total.update(patches.data)
        table[first:end, 4:] = np.frombuffer(total.digest(), np.int64)
    return table


def continued(table: np.ndarray, answer: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The same with the tokens that were written after it; offsets (3,): from a row to its positions."""
    rows = np.zeros((len(answer), 6), np.int64)
    rows[:, 0] = answer
    rows[:, 1:4] = len(table) + np.arange(len(answer))[:, None] + offsets  # n 1, 3 -> n 3
    return np.concatenate([table, rows])


def usable(reuse: PromptCache | None, model: Model, dtype: np.dtype) -> PromptCache | None:
    """The cache to use in this run: none while a session changes what stages give, whose rows are
    not the model's."""
    if reuse is None or altered():
        return None
    reuse.belongs_to(model, dtype)
    return reuse


def restored(inputs: Inputs, j: int, cache: KVCache, config: ModelConfig, machine: Interpreter,
             reuse: PromptCache | None) -> Inputs:
    """Put the rows of conversation j that are kept into the cache; what is left to compute. At least one
    row is, which gives the scores, and no picture is cut."""
    if reuse is None:
        return inputs
    found, rows = reuse.longest(known_by(inputs, config))
    count = min(found, len(inputs.input_ids) - 1)
    count = min([count, *(first for first, end in media_rows(inputs, config) if first < count < end)])
    if not count or rows is None:
        return inputs
    cache.put(j, rows.first(count), machine)
    reuse.reused += count
    return after(inputs, count, config)

"""The KV cache: keys and values of every token so far, so that a new token only computes its own.

One arena of rows for each layer, one range of rows in it for each conversation. Keys are stored after
rotation, at the number of key-value heads. The cache is the model's only state, and it is changed by
plain functions that always run: they store whatever the door let through.

A conversation may join while others run, and leave; the rows of one that has left are used again.

Read next: `model.py` (where it is used), `kernels/definition.py` (`attend`, which reads the segments),
`kernels/stored.py` (how rows are kept).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..config import TextConfig
from ..door.errors import ArgumentError
from ..kernels import Interpreter, stored


class Rows(NamedTuple):
    """Keys and values (layers, n, k, e) of n tokens, on the host, as they were stored."""
    k: Any
    v: Any

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return int(self.k.nbytes + self.v.nbytes)

    def first(self, n: int) -> Rows:
        """The rows of the first n tokens; not copied."""
        return Rows(self.k[:, :n], self.v[:, :n])


class KVCache:
    """Room for `capacities` (one number of tokens for each conversation) in every layer of a decoder.

    dtype: what rows are stored in; int8 is bytes with scales
    zeros: gives the memory, on whatever machine runs the model
    channels: sizes of the keys' channels (layers, k, e), by which bytes are measured (`calibrate.py`)
    rows: of the whole arena, for conversations that join later; the sum of the capacities unless said
    .k, .v: one table (r, k, e) a layer         .lengths (conversations,): tokens stored so far
    .rows (s,): where the tokens of this step go       .segments (g, 4): who sees whom in this step
    """

    def __init__(self, config: TextConfig, capacities: np.ndarray, dtype: DTypeLike,
                 zeros: Callable[..., Any] = stored.zeros, rows: int | None = None,
                 channels: np.ndarray | None = None):
        self.capacities = np.asarray(capacities, np.int64)
        self.starts = np.cumsum(self.capacities) - self.capacities
        self.lengths = np.zeros_like(self.capacities)
        total = int(self.capacities.sum()) if rows is None else rows
        shape = (config.num_hidden_layers, total, config.kv_heads, config.head_dim)
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.k, self.v = zeros(shape, self.dtype), zeros(shape, self.dtype)
        if hasattr(self.k, "channels"):  # bytes
            self.k.channels = channels
        self.rows, self.segments = np.zeros(0, np.int64), np.zeros((0, 4), np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return 2 * stored.stored_bytes(self.shape, self.dtype)

    def admit(self, lengths: np.ndarray) -> None:
        """Make room for lengths[j] new tokens of conversation j; they come packed, conversation after
        conversation.

        Raises ArgumentError when a conversation outgrows its capacity.
        """
        over = np.flatnonzero(self.lengths + lengths > self.capacities)
        if len(over):
            j = int(over[0])
            wanted = self.lengths[j] + lengths[j]
            raise ArgumentError(f"conversation {j} would hold {wanted} tokens, its cache has room for "
                                f"{self.capacities[j]}: ask for more when making the cache")
        q1 = np.cumsum(lengths)
        k0, k1 = self.starts, self.starts + self.lengths + lengths
        self.rows = np.concatenate([np.arange(end - n, end) for end, n in zip(k1, lengths, strict=True)])
        self.segments = np.stack([q1 - lengths, q1, k0, k1], axis=1)[np.asarray(lengths) > 0]
        self.lengths = self.lengths + lengths

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store this step's keys and values (s, k, e) of one layer; give all its rows (r, k, e)."""
        self.k[layer][self.rows], self.v[layer][self.rows] = k, v
        return self.k[layer], self.v[layer]

    # ---- conversations that join and leave

    def join(self, capacity: int) -> int | None:
        """The number of a new conversation with room for so many tokens; None while no range of rows is
        long enough. The first free range is taken."""
        taken = self.capacities > 0
        starts, ends = self.starts[taken], (self.starts + self.capacities)[taken]
        order = np.argsort(starts)
        gaps = zip([0, *ends[order].tolist()], [*starts[order].tolist(), self.shape[1]], strict=True)
        start = next((a for a, b in gaps if b - a >= capacity), None)
        if start is None:
            return None
        free = np.flatnonzero(~taken)
        if not len(free):
            free = np.array([len(self.capacities)])
            self.capacities, self.starts, self.lengths = (
                np.append(table, 0) for table in (self.capacities, self.starts, self.lengths))
        j = int(free[0])
        self.capacities[j], self.starts[j], self.lengths[j] = capacity, start, 0
        return j

    def leave(self, j: int) -> None:
        """Give back the rows of conversation j, and its number."""
        self.capacities[j] = self.lengths[j] = 0

    # ---- rows that are kept elsewhere

    def taken(self, j: int, n: int, machine: Interpreter) -> Rows:
        """A copy of the first n rows of conversation j, on the host."""
        part = slice(int(self.starts[j]), int(self.starts[j]) + n)
        return Rows(*(machine.to_host(table[:, part]).copy() for table in (self.k, self.v)))

    def put(self, j: int, rows: Rows, machine: Interpreter) -> None:
        """Make these rows the first of conversation j, which has none yet."""
        n = rows.k.shape[1]
        where = np.arange(self.starts[j], self.starts[j] + n)
        for table, kept in ((self.k, rows.k), (self.v, rows.v)):
            for layer in range(self.shape[0]):
                table[layer][where] = machine.to_device(kept[layer])
        self.lengths[j] = n

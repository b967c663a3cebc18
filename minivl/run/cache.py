"""The KV cache: keys and values of every token so far, so that a new token only computes its own.

One arena of rows for each layer, one range of rows in it for each conversation. Keys are stored after
rotation, at the number of key-value heads. The cache is the model's only state, and it is changed by
plain functions that always run: they store whatever the door let through.

Read next: `model.py` (where it is used), `kernels/definition.py` (`attend`, which reads the segments).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..config import TextConfig
from ..door.errors import ArgumentError


class KVCache:
    """Room for `capacities` (one number of tokens for each conversation) in every layer of a decoder.

    zeros: gives the memory, on whatever machine runs the model
    .k, .v: one array (r, k, e) a layer         .lengths (conversations,): tokens stored so far
    .rows (s,): where the tokens of this step go       .segments (g, 4): who sees whom in this step
    """

    def __init__(self, config: TextConfig, capacities: np.ndarray, dtype: DTypeLike,
                 zeros: Callable[..., Any] = np.zeros):
        self.capacities = np.asarray(capacities, np.int64)
        self.starts = np.cumsum(self.capacities) - self.capacities
        self.lengths = np.zeros_like(self.capacities)
        shape = (config.num_hidden_layers, int(self.capacities.sum()), config.kv_heads, config.head_dim)
        self.k, self.v = zeros(shape, dtype), zeros(shape, dtype)
        self.rows, self.segments = np.zeros(0, np.int64), np.zeros((0, 4), np.int64)

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

"""A step of decoding: one token of each conversation through all layers, on memory that is taken once.

    ids -> rows of the table -> for each layer: (norm, q k v, turned, into the cache), attention in splits,
    out onto the stream, (norm, gate and up), down onto the stream -> (norm, scores)

Five launches a layer (what stands in brackets is one), each of which begins before the one in front of it
has ended where the card can, and nothing of it waits for the host: what changes from token to token
(ids, positions, rows of the cache) lies in memory that is written before the step. So on a GPU the step
is recorded once, as one graph, and replayed. `decoder` of `model.py` says what it means; the door runs
that as soon as somebody looks inside.

Read next: `cuda/gemv.cu`, where the time goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ... import model
from ...checkpoint.tree import Block, Decoder, Linear, Norm
from ...passes.positions import mrope_angles
from .. import definition
from . import calls
from .arrays import STORED, Array, empty
from .device import Launcher
from .weights import Resident, resident


class Room(NamedTuple):
    """Memory of one step of n tokens: the stream and what a layer makes on the way."""
    stream: Array
    q: Array
    attended: Array
    inner: Array
    cos: Array
    sin: Array
    logits: Array


class Step:
    """The launches of one cache's steps with n conversations."""

    def __init__(self, machine: Launcher, n: int, cache: Any, w: Decoder):
        self.machine, self.n, self.cache, self.w = machine, n, cache, w
        self.room = room(machine, n, w)
        self.whole = machine.device.zeros(4 * n, np.int32)     # ids, rows of the cache, spans in it
        self.splits = calls.splits_of(machine, n, w.config.kv_heads, int(cache.capacities.max()))
        self.parts = calls.decode_parts(self.room.q, self.splits)
        self.replay: Callable[[], None] | None = None
        self.warm = False

    def run(self, ids: np.ndarray, positions: np.ndarray) -> Array:
        """Scores of the next token of each conversation: n, 3 n -> n v."""
        self.write(ids, positions)
        if self.warm and self.replay is None:
            self.replay = self.machine.device.recorded(self.launch)
        (self.replay or self.launch)()
        self.warm = True
        return self.room.logits

    def write(self, ids: np.ndarray, positions: np.ndarray) -> None:
        """What this token needs to know, to where the launches read it."""
        device, cache = self.machine.device, self.cache
        numbers = [ids, cache.rows, cache.segments[:, 2:].reshape(-1)]
        device.write(self.whole, np.concatenate(numbers).astype(np.int32))
        angles = mrope_angles.definition(positions, self.w.config)         # type: ignore[attr-defined]
        yarn = self.w.config.yarn
        by = 1.0 if yarn is None else yarn.attention
        turn = definition.cos_sin.definition(angles, self.w.dtype, by)     # type: ignore[attr-defined]
        for array, host in zip((self.room.cos, self.room.sin), turn, strict=True):
            device.write(array.raw, np.ascontiguousarray(host).reshape(-1).view(STORED[host.dtype.name]))

    def launch(self) -> None:
        """The step itself: launches alone."""
        r, w, n = self.room, self.w, self.n
        calls.embed_into(self.whole[:n], n, resident(w.embed), r.stream)
        for i, layer in enumerate(w.layers):
            self.attention(i, layer)
            calls.gate_up(r.stream, resident(layer.mlp.gate_up.weight), vector(layer.mlp.gate_up), out=r.inner,
                          norm=normed(layer.norm2))
            calls.gemv(r.inner, resident(layer.mlp.down.weight), vector(layer.mlp.down), r.stream, out=r.stream)
        calls.gemv(r.stream, resident(w.head.weight), vector(w.head), out=r.logits, norm=normed(w.norm))

    def attention(self, i: int, layer: Block) -> None:
        """The first half of a layer, onto the stream."""
        r, n, k, v = self.room, self.n, self.cache.k[i], self.cache.v[i]
        calls.qkv(r.stream, resident(layer.qkv.weight), vector(layer.qkv), (r.cos, r.sin), r.q,
                  calls.Cached(k, v, self.whole[n : 2 * n]), norm=normed(layer.norm1))
        calls.decode_into(r.q, k, v, self.whole[2 * n :], self.splits, self.parts, r.attended)
        attended = r.attended.reshape(n, -1)                             # n a e -> n (a e)
        calls.gemv(attended, resident(layer.out.weight), vector(layer.out), r.stream, out=r.stream)


def vector(part: Linear) -> Any:
    """A bias on the device; None for a product without one."""
    return None if part.bias is None else part.bias.numbers            # type: ignore[attr-defined]


def normed(norm: Norm) -> calls.Normed:
    """A norm's weight on the device, and its eps."""
    return calls.Normed(norm.weight.numbers, norm.eps)                 # type: ignore[attr-defined]


def room(machine: Launcher, n: int, w: Decoder) -> Room:
    """Memory of a step."""
    c, dtype, d = w.config, w.dtype, w.embed.shape[1]
    shapes = {"stream": (n, d), "q": (n, c.heads, c.head_dim), "attended": (n, c.heads, c.head_dim),
              "inner": (n, w.layers[0].mlp.down.weight.shape[1]), "cos": (n, c.head_dim // 2),
              "sin": (n, c.head_dim // 2), "logits": (n, w.head.weight.shape[0])}
    return Room(**{name: empty(machine, shape, dtype) for name, shape in shapes.items()})


class Steps:
    """The stand-in for `decoder`: steps that `Step` can do, and the definition for all others."""

    def __init__(self, machine: Launcher):
        self.machine = machine
        self.kept: WeakKeyDictionary[Any, dict[int, Step]] = WeakKeyDictionary()

    def decoder(self, ids: np.ndarray, positions: np.ndarray, placeholders: np.ndarray, features: Any,
                asked: np.ndarray, cache: Any, w: Decoder) -> Any:
        """s, 3 s, m, m d, n, _, _ -> n v"""
        plain: Any = model.decoder.definition                              # type: ignore[attr-defined]
        if not self.takes(ids, placeholders, asked, cache, w):
            return plain(ids, positions, placeholders, features, asked, cache, w)
        steps = self.kept.setdefault(cache, {})
        if len(ids) not in steps:
            steps[len(ids)] = Step(self.machine, len(ids), cache, w)
        return steps[len(ids)].run(ids, positions)

    def takes(self, ids: np.ndarray, placeholders: np.ndarray, asked: np.ndarray, cache: Any, w: Decoder
              ) -> bool:
        """Whether this is one new token of each of a few conversations, in sizes that the kernels of a
        step take."""
        c, n = w.config, len(ids)
        if not (0 < n <= calls.FEW and isinstance(cache.k, Array) and n == len(asked) == len(cache.segments)
                and not len(placeholders)):
            return False
        matrices = [m.weight for layer in w.layers[:1]
                    for m in (layer.qkv, layer.out, layer.mlp.gate_up, layer.mlp.down)]
        if not all(isinstance(m, Resident) for m in (w.embed, *matrices)):
            return False
        rows = [empty_rows(self.machine, n, m.shape[1], w.dtype) for m in matrices]
        return (c.head_dim * cache.k.dtype.itemsize % 16 == 0 and c.head_dim <= 128
                and c.heads // c.kv_heads <= calls.MOST_SHARE
                and all(calls.fits(x, resident(m)) for x, m in zip(rows, matrices, strict=True)))


def empty_rows(machine: Launcher, n: int, d: int, dtype: np.dtype) -> Array:
    """A shape without memory."""
    return Array(machine, None, (n, d), dtype)

"""The compiled interpreter, and its step of decoding: the stand-in for a decoder layer where each
conversation adds one token.

The layer is then one call of the team (`layer.py`), and its keys and values are written into the cache by
the threads that turn them. Everything else (a prompt, more than four rows, weights of mixed formats, a
cache of another type) goes on as `model.decoder_layer` says, and so does a layer that somebody looks into.

What does not change from token to token is made once: on small formats, whose weights pass in 15
milliseconds, two of them had gone into Python.

Read next: `layer.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from ... import model
from ...checkpoint.packed import Packed
from ...checkpoint.tree import Block, Linear
from .. import Interpreter, jit
from .attention import blocks_of
from .few import FEW, Table, room_of
from .layer import Room, Sizes, Stored, Weights

Array = np.ndarray


class Prepared(NamedTuple):
    """A layer as the compiled one takes it: what it was made of, its weights in a precision, their format,
    sizes for one row, and the operations of a row. weights is None where one call does not do it."""
    parts: tuple[Callable[[], Any], ...]
    weights: Weights | None
    format: str
    sizes: Sizes
    work: int


_layers: WeakKeyDictionary[Packed, dict[np.dtype, Prepared]] = WeakKeyDictionary()
_rooms = threading.local()


def decoder_layer(i: int, x: Array, turn: tuple[Array, Array], cache: Any, w: Block) -> Array:
    """_, s d -> s d. Raises CheckpointError when the file of the weights has been closed."""
    kept = kept_for(x, turn, cache, w)
    if kept is None:
        plain: Any = model.decoder_layer.definition                        # type: ignore[attr-defined]
        return np.asarray(plain(i, x, turn, cache, w))
    sizes, team = kept.sizes._replace(s=len(x)), jit.crew()
    blocks = blocks_of(cache.segments, jit.maker().tier.lanes // (sizes.a // sizes.k))
    stored = Stored(jit.flat(cache.k[i]), jit.flat(cache.v[i]), cache.rows, blocks, *map(jit.flat, turn))
    out = np.empty(x.shape, x.dtype)
    team.run_together(jit.function("decoder_layer", kept.format, x.dtype == jit.FLOAT32), jit.flat(x),
                      jit.flat(out), kept.weights, stored, room(sizes, x.dtype, team.size, kept.format),
                      sizes, w.norm1.eps, w.norm2.eps, work=len(x) * kept.work)
    return out


def kept_for(x: Array, turn: tuple[Array, Array], cache: Any, w: Block) -> Prepared | None:
    """The layer, where this is a step that one call does."""
    weight = w.qkv.weight
    fits = (0 < len(x) <= FEW and len(cache.segments) == len(x) and isinstance(cache.k, np.ndarray)
            and cache.k.dtype == cache.v.dtype == x.dtype and x.dtype in jit.FAST
            and turn[0].dtype in jit.FAST)
    if not isinstance(weight, Packed) or not fits or not weight.tiles.size:    # a closed file says so here
        return None
    found, parts = _layers.setdefault(weight, {}), parts_of(w)
    kept = found.get(x.dtype)
    if kept is None or not all(part() is now for part, now in zip(kept.parts, parts, strict=True)):
        kept = found[x.dtype] = made(w, x.shape[1], x.dtype)   # somebody may have put another part into it
    return kept if kept.weights is not None else None


def parts_of(w: Block) -> list[Any]:
    """All weights of a layer, and None for a bias that it has not."""
    return [w.qkv.weight, w.out.weight, w.mlp.gate_up.weight, w.mlp.down.weight, w.qkv.bias, w.out.bias,
            w.mlp.gate_up.bias, w.mlp.down.bias, w.norm1.weight, w.norm2.weight]


def made(w: Block, d: int, dtype: np.dtype) -> Prepared:
    """A layer for steps of decoding in a precision: where its weights are all packed in one format, and
    its heads fit into a vector."""
    matrices, c, parts = (w.qkv, w.out, w.mlp.gate_up, w.mlp.down), w.config, parts_of(w)
    held, weak = parts[:4], tuple((lambda: None) if part is None else ref(part) for part in parts)
    sizes = Sizes(1, d, c.heads, c.kv_heads, c.head_dim, held[3].shape[1])
    fits = (all(isinstance(one, Packed) and one.format == held[0].format for one in held)
            and c.heads // c.kv_heads <= jit.maker().tier.lanes and c.head_dim % 2 == 0)
    if not fits:
        return Prepared(weak, None, "", sizes, 0)
    norms = (jit.flat(norm.weight.dense(dtype)) for norm in (w.norm1, w.norm2))
    weights = Weights(*(table_of(m, dtype) for m in matrices), *norms)
    return Prepared(weak, weights, held[0].format, sizes, 2 * sum(prod(one.shape) for one in held))


def table_of(m: Linear, dtype: np.dtype) -> Table:
    """A packed weight and its bias, rounded to the precision that runs."""
    bias = np.empty(0, np.float32) if m.bias is None else m.bias.dense(dtype).astype(np.float32)
    return Table(*jit.tables_of(m.weight), bias)                           # type: ignore[arg-type]


def room(z: Sizes, dtype: np.dtype, threads: int, format: str) -> Room:
    """This thread's memory of a step, the same for every layer; the last one is kept."""
    wanted = (z, dtype, threads, format)
    if getattr(_rooms, "wanted", None) != wanted:
        widths = {"projected": (z.a + 2 * z.k) * z.e, "q": z.a * z.e, "attended": z.a * z.e,
                  "stream": z.d, "inner": 2 * z.h, "gated": z.h}
        held = {name: jit.flat(np.empty(z.s * width, dtype)) for name, width in widths.items()}
        normed = jit.flat(np.empty(threads * z.s * z.d, dtype)).reshape(threads, -1)
        most = max(z.d, z.h, z.a * z.e)
        sums = np.empty((threads, room_of(*jit.steps_for(format, most))), np.float32)
        _rooms.wanted, _rooms.held = wanted, Room(normed=normed, **held, sums=sums)
    found: Room = _rooms.held
    return found


INTERPRETER = Interpreter("jit", {**jit.STAGES, model.decoder_layer: decoder_layer}, prepare=jit.prepare,
                          chunk=2048)


def __getattr__(name: str) -> Any:
    """The kernels are those of `jit`."""
    return getattr(jit, name)

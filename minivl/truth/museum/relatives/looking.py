"""Relatives of faults of attention: keys that are nothing, other heads, other types and other bases of
the softmax.

Read next: `order.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ....config import ModelConfig
from ....kernels.definition import narrow, wide
from ..rounding import ROUNDED
from .relative import LAYERS, TOWER, Relative, instead, relative, within

BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128)
PARTS = {"in the tower": (f"{TOWER}.attend",), "in the decoder": (f"{LAYERS}.attend",),
         "in both parts": (f"{TOWER}.attend", f"{LAYERS}.attend")}
Change = Callable[[np.ndarray], np.ndarray]


def same(x: np.ndarray) -> np.ndarray:
    return x


def attention_as(q, k, v, segments, causal, scores: Change = same, weights: Change = same,
                 shares: Change = same) -> np.ndarray:
    """Attention with something done to scores, to their exponentials, or to the shares that these
    become: n a e, r k e, r k e, g 4 -> n a e."""
    out, group = np.zeros_like(q), q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments.tolist():
        seen = np.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0)
        for head in range(q.shape[1]):
            key, value = wide(k[k0:k1, head // group]), wide(v[k0:k1, head // group])
            score = scores(wide(q[q0:q1, head]) @ key.T * np.float32(q.shape[-1] ** -0.5))     # -> n m
            if causal:
                score = np.where(np.arange(k1 - k0) <= seen, score, -np.inf)
            weight = weights(np.exp(score - score.max(axis=-1, keepdims=True)))
            share = shares(weight / weight.sum(axis=-1, keepdims=True))
            out[q0:q1, head] = narrow(wide(share) @ value, q.dtype)
    return out


def softmaxes(config: ModelConfig) -> Iterator[Relative]:
    """Scores, exponentials or shares in sixteen bits; another base; another scale."""
    for where, leaves in PARTS.items():
        for said, how in ways_of_softmax():
            wrong = instead(lambda right, *args, how: attention_as(*args, **how), how=how)
            yield relative("softmax-in-half-precision", f"{said}, {where}",
                           within(leaves, "attend", wrong), leaves)


def ways_of_softmax() -> Iterator[tuple[str, dict[str, Change]]]:
    """What may be done, in words and as what `attention_as` takes."""
    def cut(kind: str) -> Change:
        return lambda x: ROUNDED[kind](x).astype(np.float32)
    for kind in ROUNDED:
        yield f"scores in {kind}", {"scores": cut(kind)}
        yield f"shares in {kind}", {"shares": cut(kind)}
        for other in ROUNDED:
            yield (f"scores in {kind}, exponentials and shares in {other}",
                   {"scores": cut(kind), "weights": cut(other), "shares": cut(other)})
    yield "base 2", {"scores": lambda x: x * np.float32(np.log(2))}
    yield "base 2 of scores that were scaled for e", {"scores": lambda x: x * np.float32(np.log2(np.e))}


def buckets(config: ModelConfig) -> Iterator[Relative]:
    """Keys of zeros behind each segment, up to a multiple of some number."""
    for size in BUCKETS:
        yield relative("padded-rows-attended", f"every segment filled up to a multiple of {size}",
                       {f"{TOWER}.attend": instead(filled, size=size)})


def filled(right, q, k, v, segments, size):
    parts, at, table = [], 0, []
    for q0, q1, k0, k1 in segments.tolist():
        whole = -(-(k1 - k0) // size) * size
        spare = np.zeros((whole - (k1 - k0), *k.shape[1:]), k.dtype)
        parts.append((np.concatenate([k[k0:k1], spare]), np.concatenate([v[k0:k1], spare])))
        table.append((q0, q1, at, at + whole))
        at += whole
    keys, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return right(q, keys, values, np.array(table, np.int64).reshape(-1, 4))


def heads(config: ModelConfig) -> Iterator[Relative]:
    """Query heads that look through the keys of other groups."""
    count, groups = config.text.heads, config.text.kv_heads
    own = np.arange(count) // (count // groups)
    known = {tuple(own.tolist()), tuple((np.arange(count) % groups).tolist())}
    ways = {"groups from the last to the first": groups - 1 - own, "the first group for all": own * 0,
            **{f"groups in turn, from group {n} on": (np.arange(count) + n) % groups
               for n in range(1, min(groups, 8))},
            **{f"each head {n} groups further": (own + n) % groups for n in range(1, min(groups, 8))}}
    for said, table in ways.items():
        if tuple(table.tolist()) not in known:
            known.add(tuple(table.tolist()))
            yield relative("wrong-kv-head", said, {f"{LAYERS}.attend": instead(through, table=table)})


def through(right, q, k, v, segments, table):
    return right(q, k[:, table], v[:, table], segments)

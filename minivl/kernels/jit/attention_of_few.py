"""Attention of tokens that are decoded, by products of bfloat16. A token meets every key once, so nothing is
packed beforehand:

    1. scores  (key, lane)    = k (key, e) . q (e, lane)         keys where the cache has them
    2. weights (pair, lane)                                      as in `attention_bf16.py`
    3. values of a block, two rows side by side                  into this thread's memory
    4. sums    (lane, e)     += weights (key, lane)^T . v (key, e)

Keys and values that are kept as bytes become bfloat16 a block at a time, keys as whole numbers, whose scale
comes after the score, values times their scale.

Lanes are queries until the weights are there; then vectors go along the width of a head, which fills them
however few queries share a key.

Read next: `products.py`, `strided_pairs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .attention import KEYS
from .attention_bf16 import begin_in_pairs, weigh_in_pairs
from .numbers import F32, LOG2_E, U16, U32, nearest, put

Compile = Callable[[Any], Any]
CACHE_LINE = 32                                # numbers of bfloat16 in a line of the cache; sums have whole ones
TOKENS = 8                                     # rows of sums at once
uintp = np.uintp                               # an index that cannot count from the end


class ProductsOfFew(NamedTuple):
    """`products.strided_pairs`: scores of `rows` keys and of one, each for one vector of queries, and sums of
    TOKENS queries and CACHE_LINE columns on what is there."""
    rows: int
    scores: Any
    one_score: Any
    sums: Any


def attention_of_few(inner: ProductsOfFew, in_bytes: bool, lanes: int, compile: Compile) -> Any:
    """This thread's share of all blocks, called as `attention.attention` is, with queries of bfloat16, and keys
    and values of bfloat16 or as bytes with scales."""
    block, size = _block(inner, in_bytes, lanes, compile), KEYS if in_bytes else 0

    def share(me: int, team: int, q: Any, k: Any, k_scales: Any, v: Any, v_scales: Any, out: Any,
              blocks: Any, heads: int, kv_heads: int, e: int, causal: bool) -> None:
        """q, out (s, heads, e), k, v (r, kv_heads, e): bits or bytes, flat; scales (r, kv_heads) of bytes;
        blocks (b, 6): first query, how many, first key, end of keys, last key that the first query sees, and
        one that is not used"""
        wide = (e + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        memory = (np.zeros(e // 2 * lanes, U32), np.empty(KEYS * lanes, F32),
                  np.zeros(KEYS // 2 * lanes, U32), np.empty(lanes * wide, F32),
                  np.empty(lanes, np.int64), np.empty(lanes, F32), np.empty(lanes, F32),
                  np.empty(lanes, F32), np.zeros(KEYS // 2 * wide, U32),
                  np.empty(size * e, U16), np.empty(size * e, U16))
        for task in range(me, len(blocks) * kv_heads, team):
            first, count, k0, k1, last, _ = blocks[task % len(blocks)]
            block(q.view(U32), k, k_scales, v, v_scales, out, memory, first, count, k0, k1, last,
                  task // len(blocks), heads, kv_heads, e, wide, causal)
    return compile(share)


def _block(inner: ProductsOfFew, in_bytes: bool, lanes: int, compile: Compile) -> Any:
    """The steps, for one block of queries and all keys that it sees."""
    weigh, begin = weigh_in_pairs(lanes, compile), begin_in_pairs(lanes, compile)
    scores_of, add = _scores(inner, lanes, compile), _add(inner, lanes, compile)
    numbers, scale_rows = _of_bytes(lanes, compile) if in_bytes else _as_they_are(compile)

    def block(q: Any, k: Any, k_scales: Any, v: Any, v_scales: Any, out: Any, memory: Any, first: int,
              count: int, k0: int, k1: int, last: int, head: int, heads: int, kv_heads: int, e: int,
              wide: int, causal: bool) -> None:
        """`count` queries from row `first`, the first of which sees keys up to `last` when causal"""
        group, scale = heads // kv_heads, F32(F32(e ** -0.5) * LOG2_E)         # weights are powers of 2
        query, score, weight, sums, seen, largest, total, shrink, values, some_k, some_v = memory
        begin(q, first, count, last, head, group, heads, e // 2, query, seen, largest, total, sums)
        end = min(k1, last + count) if causal else k1
        for key in range(k0, end, KEYS):
            here, row = min(KEYS, end - key), key * kv_heads + head
            keys, rows, at, line = numbers(k, v, v_scales, some_k, some_v, row, here, kv_heads, e)
            scores_of(keys, at // 2, line // 2, query, score, here, e // 2)
            scale_rows(score, k_scales, row, here, kv_heads)
            weigh(score, here, seen, key, causal, scale, largest, total, shrink, weight)
            add(rows, at, line, weight, shrink, sums, values, here, count * group, e, wide)
        for lane in range(count * group):
            at = ((first + lane // group) * heads + head * group + lane % group) * e
            part = F32(1) / total[lane]
            for i in range(e):
                put(out, at + i, sums[uintp(lane * wide + i)] * part)
    return compile(block)


def _as_they_are(compile: Compile) -> tuple[Any, Any]:
    """A block of keys, in words, and of values, where the cache has them: both arrays, where the block begins
    and how many numbers a row is from the next. And what scores are still to be multiplied by: nothing."""
    def numbers(k: Any, v: Any, v_scales: Any, some_k: Any, some_v: Any, row: int, count: int, heads: int,
                e: int) -> Any:
        return k.view(U32), v, row * e, heads * e

    def scale_rows(score: Any, scales: Any, row: int, count: int, heads: int) -> None:
        pass
    return compile(numbers), compile(scale_rows)


def _of_bytes(lanes: int, compile: Compile) -> tuple[Any, Any]:
    """The same of a cache in bytes, by way of this thread's memory: a whole number up to 127 is a bfloat16."""
    def numbers(k: Any, v: Any, v_scales: Any, some_k: Any, some_v: Any, row: int, count: int, heads: int,
                e: int) -> Any:
        for r in range(count):
            at, to, scale = (row + r * heads) * e, r * e, v_scales[row + r * heads]
            for i in range(e):
                some_k[uintp(to + i)] = U16(U32(F32(k[uintp(at + i)]).view(U32) >> U32(16)))
                some_v[uintp(to + i)] = nearest(F32(F32(v[uintp(at + i)]) * scale))
        return some_k.view(U32), some_v, 0, e

    def scale_rows(score: Any, scales: Any, row: int, count: int, heads: int) -> None:
        for r in range(count):
            for lane in range(lanes):
                put(score, r * lanes + lane, score[uintp(r * lanes + lane)] * scales[row + r * heads])
    return compile(numbers), compile(scale_rows)


def _scores(inner: ProductsOfFew, lanes: int, compile: Compile) -> Any:
    """Step 1."""
    rows, many, one, line = inner.rows, inner.scores, inner.one_score, 4 * lanes

    def scores(k: Any, at: int, down: int, query: Any, score: Any, count: int, pairs: int) -> None:
        """k: words, `down` of them from a key to the next"""
        for r in range(0, count // rows * rows, rows):
            many(k, at + r * down, query, 0, score, r * lanes, 4, 4 * down, line, pairs)
        for r in range(count // rows * rows, count):
            one(k, at + r * down, query, 0, score, r * lanes, 4, 4 * down, line, pairs)
    return compile(scores)


def _add(inner: ProductsOfFew, lanes: int, compile: Compile) -> Any:
    """Steps 3 and 4, after what was summed before has shrunk."""
    pair_up, product = compile(_pair_up), inner.sums

    def add(v: Any, at: int, line: int, weight: Any, shrink: Any, sums: Any, values: Any, count: int,
            queries: int, e: int, wide: int) -> None:
        """v: bits, `line` of them from a row to the next"""
        pair_up(v, at, line, values, count, e, wide)
        for lane in range(queries):
            if shrink[lane] != 1:
                for i in range(wide):
                    sums[uintp(lane * wide + i)] *= shrink[lane]
        for lane in range(0, queries, TOKENS):
            for column in range(0, wide, CACHE_LINE):
                product(weight, lane, values, column, sums, lane * wide + column, 4 * lanes, 4, 4 * wide,
                        (count + 1) // 2)
    return compile(add)


def _pair_up(v: Any, at: int, line: int, values: Any, count: int, e: int, wide: int) -> None:
    """Rows of values two by two: -> values (pairs, wide) words; a row without another stands beside zeros."""
    for pair in range(count // 2):
        low, to = at + 2 * pair * line, pair * wide
        for i in range(e):
            upper = U32(U32(v[uintp(low + line + i)]) << U32(16))
            values[uintp(to + i)] = U32(U32(v[uintp(low + i)]) | upper)
    if count % 2:
        low, to = at + (count - 1) * line, count // 2 * wide
        for i in range(e):
            values[uintp(to + i)] = U32(v[uintp(low + i)])

"""Attention in blocks: scores never stand in memory, only those of one block of queries and keys.

Lanes are queries, so the softmax of a query never leaves its lane. A block of queries is `lanes` columns
(all heads that share a key head stand side by side in it); keys come in blocks of KEYS:

    1. scores  (key, lane) = k (key, e) . q (e, lane)
    2. causal: a key after the last one that a lane may see scores -infinity
    3. the largest score so far, per lane; what was summed before shrinks by exp(old - new)
    4. weights (key, lane) = exp(score - largest), in place
    5. sums    (e, lane)  += v (key, e) . weights (key, lane)

and at the end each lane's sums are divided by the sum of its weights (Milakov and Gimelshein, 2018;
Dao et al., 2022). Keys and values of 16 bits, or of bytes with scales, are widened a block at a time; all
sums are float32.

Read next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .numbers import F32, exponential, get, put

KEYS = 64                                      # of a block: scores and widened keys stay in the cache


Compile = Callable[[Any], Any]


class Strided(NamedTuple):
    """`products.strided` in four forms: `rows` at once and the rows that are left, from nothing and on
    what is there."""
    rows: int
    many: Any
    many_more: Any
    one: Any
    one_more: Any


def attention(inner: Strided, lanes: int, compile: Compile) -> Any:
    """This thread's share of all blocks: `lanes` queries of one key head's group each."""
    block = _block(inner, lanes, compile)

    def share(me: int, team: int, q: Any, k: Any, k_scales: Any, v: Any, v_scales: Any, out: Any,
              blocks: Any, heads: int, kv_heads: int, e: int, causal: bool) -> None:
        """q, out (s, heads, e), k, v (r, kv_heads, e), each in one piece; scales (r, kv_heads) of bytes, none
        of floats; blocks (b, 6): first query, how many, first key, end of keys, last key that the first query
        sees, and one that is not used"""
        memory = (np.empty(e * lanes, F32), np.empty(KEYS * lanes, F32), np.empty(e * lanes, F32),
                  np.empty(lanes, np.int64), np.empty(lanes, F32), np.empty(lanes, F32),
                  np.empty(lanes, F32), np.empty(KEYS * e, F32))
        for task in range(me, len(blocks) * kv_heads, team):   # head by head: its keys stay in a cache
            first, count, k0, k1, last, _ = blocks[task % len(blocks)]
            block(q, k, k_scales, v, v_scales, out, memory, first, count, k0, k1, last, task // len(blocks),
                  heads, kv_heads, e, causal)
    return compile(share)


def _block(inner: Strided, lanes: int, compile: Compile) -> Any:
    """The five steps, for one block of queries and all keys that it sees."""
    multiply, weigh = _multiply(inner, lanes, compile), _weigh(lanes, compile)
    take, widen = _copies(lanes, compile)

    def block(q: Any, k: Any, k_scales: Any, v: Any, v_scales: Any, out: Any, memory: Any, first: int,
              count: int, k0: int, k1: int, last: int, head: int, heads: int, kv_heads: int, e: int,
              causal: bool) -> None:
        """`count` queries from row `first`, the first of which sees keys up to `last` when causal"""
        group = heads // kv_heads
        query, score, sums, seen, largest, total, shrink, wide = memory
        take(q, first, count, head, group, heads, e, query)
        for lane in range(lanes):
            seen[lane] = last + min(lane // group, count - 1)
            largest[lane], total[lane] = -np.inf, 0
        sums[:e * lanes] = 0
        end = min(k1, last + count) if causal else k1
        for key in range(k0, end, KEYS):
            rows_here = min(KEYS, end - key)
            widen(k, k_scales, key, rows_here, head, kv_heads, e, wide)
            multiply(wide, 0, 4, 4 * e, query, score, rows_here, e, False)
            weigh(score, rows_here, seen, key, causal, largest, total, shrink)
            for i in range(e):
                for lane in range(lanes):
                    put(sums, i * lanes + lane, get(sums, i * lanes + lane) * shrink[lane])
            widen(v, v_scales, key, rows_here, head, kv_heads, e, wide)
            multiply(wide, 0, 4 * e, 4, score, sums, e, rows_here, True)
        for lane in range(count * group):
            at = ((first + lane // group) * heads + head * group + lane % group) * e
            for i in range(e):
                put(out, at + i, get(sums, i * lanes + lane) / total[lane])
    return compile(block)


def _multiply(inner: Strided, lanes: int, compile: Compile) -> Any:
    """c (height, lanes) = or += a (height, depth) . b (depth, lanes)"""
    rows, many, many_more, one, one_more = inner

    def multiply(a: Any, a_at: int, along: int, down: int, b: Any, c: Any, height: int, depth: int,
                 more: bool) -> None:
        line = 4 * lanes
        for r in range(0, height // rows * rows, rows):
            at = a_at + r * (down // 4)
            if more:
                many_more(a, at, b, 0, c, r * lanes, along, down, line, line, depth)
            else:
                many(a, at, b, 0, c, r * lanes, along, down, line, line, depth)
        for r in range(height // rows * rows, height):
            at = a_at + r * (down // 4)
            if more:
                one_more(a, at, b, 0, c, r * lanes, along, down, line, line, depth)
            else:
                one(a, at, b, 0, c, r * lanes, along, down, line, line, depth)
    return compile(multiply)


def _copies(lanes: int, compile: Compile) -> tuple[Any, Any]:
    """Queries into lanes, and rows of keys or values as float32."""
    def take(q: Any, first: int, count: int, head: int, group: int, heads: int, e: int,
             query: Any) -> None:
        """Queries of a block, scaled: -> query (e, lanes)"""
        scale = F32(e ** -0.5)
        query[:] = 0
        for lane in range(count * group):
            at = ((first + lane // group) * heads + head * group + lane % group) * e
            for i in range(e):
                put(query, i * lanes + lane, get(q, at + i) * scale)

    def widen(x: Any, scales: Any, first: int, count: int, head: int, heads: int, e: int,
              out: Any) -> None:
        """Rows of one head, side by side: -> out (count, e)"""
        for row in range(count):
            at = ((first + row) * heads + head) * e
            for i in range(e):
                put(out, row * e + i, get(x, at + i))
            if len(scales):
                scale = scales[(first + row) * heads + head]
                for i in range(e):
                    put(out, row * e + i, get(out, row * e + i) * scale)
    return compile(take), compile(widen)


def largest_so_far(lanes: int, compile: Compile) -> Any:
    """Steps 2 and 3 but for the exponential: `before` is what a lane's largest score was until now."""
    def look(score: Any, count: int, seen: Any, key: int, causal: bool, largest: Any,
             before: Any) -> None:
        if causal:
            for row in range(count):
                if key + row > seen[0]:                        # the first lane sees the fewest keys
                    for lane in range(lanes):
                        if key + row > seen[lane]:
                            put(score, row * lanes + lane, F32(-np.inf))
        for lane in range(lanes):
            before[lane] = largest[lane]
        for row in range(count):
            for lane in range(lanes):
                largest[lane] = max(largest[lane], get(score, row * lanes + lane))
    return compile(look)


def _weigh(lanes: int, compile: Compile) -> Any:
    """Scores of a block into weights, in place; `shrink` is what earlier sums are worth now."""
    look = largest_so_far(lanes, compile)

    def weigh(score: Any, count: int, seen: Any, key: int, causal: bool, largest: Any, total: Any,
              shrink: Any) -> None:
        look(score, count, seen, key, causal, largest, shrink)
        for lane in range(lanes):
            shrink[lane] = exponential(F32(shrink[lane] - largest[lane]))
            total[lane] = total[lane] * shrink[lane]
        for row in range(count):
            for lane in range(lanes):
                weight = exponential(F32(get(score, row * lanes + lane) - largest[lane]))
                put(score, row * lanes + lane, weight)
                total[lane] += weight
    return compile(weigh)


def blocks_of(segments: np.ndarray, queries: int, begins: np.ndarray | None = None) -> np.ndarray:
    """Segments (g, 4) in blocks of at most `queries` queries: -> (b, 6), as `attention` takes them; the
    last column is the number of the segment's first block of packed keys (g), where there are any."""
    found, begins = [], np.zeros(len(segments), np.int64) if begins is None else begins
    for (q0, q1, k0, k1), begin in zip(segments.tolist(), begins.tolist(), strict=True):
        for first in range(q0, q1, queries):
            found.append((first, min(queries, q1 - first), k0, k1, k1 - (q1 - first), begin))
    return np.array(found, np.int64).reshape(-1, 6)

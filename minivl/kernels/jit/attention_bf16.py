"""Attention by products of bfloat16: on pairs of numbers (`avx512-bf16`) or on tiles (`amx`).

The steps are those of `attention.py`. What differs is the order in memory, for these instructions add
up pairs along the axis that both sides share:

    scores  (key, lane) = k (key, e) . q (e, lane)          pairs along e
    sums    (e, lane)  += v (e, key) . weights (key, lane)  pairs along the keys

So keys and values are packed once a call, a block of KEYS at a time, values with their axes changed;
every block of queries then reads them as they lie. Weights are rounded to bfloat16 before they meet the
values; the sum that they are divided by is of what they were before.

Not here: tokens that are decoded, whose keys are not packed (`attention_of_few.py`). Read next:
`products.py`, `short_pairs` and `short_tiles`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from .attention import KEYS, largest_so_far
from .numbers import F32, LOG2_E, ROUND, U32, get, put

Compile = Callable[[Any], Any]
WIDE = 32                                      # heads are padded to a whole tile of k
TERMS = tuple(F32(term) for term in (0.0095701, 0.05591786, 0.24024745, 0.69312181, 0.99999926))
uintp = np.uintp                               # an index that cannot count from the end
HALF_STEP, UPPER = U32(0x8000), U32(0xFFFF0000)


@register_jitable
def power_of_two(t: Any) -> Any:
    """2^t of a float32 t <= 0 within 3e-6, where a bfloat16 keeps 4e-3: 2^n by its bits, 2^f by a
    polynomial, with n the nearest whole number and f the rest. 0 below 2^-125; NaN stays."""
    nearest = F32(t + ROUND)
    f = F32(t - F32(nearest - ROUND))
    y = TERMS[0]
    y = F32(F32(y * f) + TERMS[1])
    y = F32(F32(y * f) + TERMS[2])
    y = F32(F32(y * f) + TERMS[3])
    y = F32(F32(y * f) + TERMS[4])
    y = U32(y.view(U32) + U32(nearest.view(U32) << U32(23))).view(F32)
    return F32(0) if t < F32(-125) else y


class Products(NamedTuple):
    """Products of pairs: (height, 2 * pairs) times (2 * pairs, lanes). first: from nothing, more: on
    what is there; rows: of one; pairs: of one step; beside: how many rows have their words side by
    side"""
    first: Any
    more: Any
    rows: int
    pairs: int
    beside: int
    configure: Any
    release: Any


def packing(inner: Products, compile: Compile) -> Any:
    """Keys and values in blocks: this thread's share of them."""
    pack_keys, pack_values = _pack_keys(inner.beside, compile), _pack_values(inner.beside, compile)

    def share(me: int, team: int, k: Any, v: Any, keys: Any, values: Any, blocks: Any, kv_heads: int,
              e: int, padded: int) -> None:
        """k (r * kv_heads * e / 2) words, v (r * kv_heads * e) bits; blocks (b, 2): first row, how many
        -> keys (b, kv_heads, KEYS, padded / 2), values (b, kv_heads, padded, KEYS / 2), words in the
        order of `inner`, flat; zeros where there are no numbers"""
        size = KEYS * padded // 2
        for task in range(me, len(blocks) * kv_heads, team):
            first, count = blocks[task // kv_heads]
            keys[task * size:(task + 1) * size] = 0
            values[task * size:(task + 1) * size] = 0
            at = (first * kv_heads + task % kv_heads) * e
            pack_keys(k, at // 2, kv_heads * e // 2, keys, task * size, count, e // 2, padded // 2)
            pack_values(v, at, kv_heads * e, values, task * size, count, e)
    return compile(share)


def _pack_keys(rows: int, compile: Compile) -> Any:
    """Rows of words, `rows` of them side by side."""
    def pack(k: Any, at: int, line: int, keys: Any, to: int, count: int, pairs: int,
             padded: int) -> None:
        """line: words from a row of k to the next; padded: words of a row of keys"""
        for first in range(0, count, rows):
            here, place = at + first * line, to + first * padded
            if first + rows <= count:
                for pair in range(pairs):
                    for row in range(rows):
                        keys[uintp(place + pair * rows + row)] = k[uintp(here + row * line + pair)]
            else:
                for pair in range(pairs):
                    for row in range(count - first):
                        keys[uintp(place + pair * rows + row)] = k[uintp(here + row * line + pair)]
    return compile(pack)


def _pack_values(rows: int, compile: Compile) -> Any:
    """The numbers of a row below each other, beside those of the next row."""
    def pack(v: Any, at: int, line: int, values: Any, to: int, count: int, e: int) -> None:
        """line: numbers from a row of v to the next"""
        for pair in range((count + 1) // 2):
            low = at + 2 * pair * line
            high, there = low + line, U32(0xFFFF0000)
            if 2 * pair + 1 == count:
                high, there = low, U32(0)
            for first in range(0, e, rows):
                place = to + (first * (KEYS // 2)) + pair * rows
                for i in range(min(rows, e - first)):
                    upper = U32(U32(U32(v[uintp(high + first + i)]) << U32(16)) & there)
                    values[uintp(place + i)] = U32(U32(v[uintp(low + first + i)]) | upper)
    return compile(pack)


def attention(inner: Products, lanes: int, compile: Compile) -> Any:
    """This thread's share of all blocks: `lanes` queries of one key head's group each."""
    block = _block(inner, lanes, compile)
    configure, release = inner.configure, inner.release

    def share(me: int, team: int, q: Any, keys: Any, values: Any, out: Any, form: Any, blocks: Any,
              heads: int, kv_heads: int, e: int, padded: int, causal: bool) -> None:
        """q (s * heads * e / 2) words, out (s * heads * e) bits; keys, values: words, as `packing` left
        them; blocks (b, 6): first query, how many, first key, end of keys, last key that the first query
        sees, first block of keys"""
        configure(form, 0)
        memory = (np.zeros(padded // 2 * lanes, U32), np.empty(KEYS * lanes, F32),
                  np.zeros(KEYS // 2 * lanes, U32), np.empty(padded * lanes, F32),
                  np.empty(lanes, np.int64), np.empty(lanes, F32), np.empty(lanes, F32),
                  np.empty(lanes, F32))
        for task in range(me, len(blocks) * kv_heads, team):   # head by head: its keys stay in a cache
            first, count, k0, k1, last, packed = blocks[task % len(blocks)]
            block(q, keys, values, out, memory, first, count, k0, k1, last, packed, task // len(blocks),
                  heads, kv_heads, e, padded, causal)
        release()
    return compile(share)


def _block(inner: Products, lanes: int, compile: Compile) -> Any:
    """One block of queries and all keys that it sees."""
    multiply, weigh = _multiply(inner, lanes, compile), weigh_in_pairs(lanes, compile)
    begin = begin_in_pairs(lanes, compile)

    def block(q: Any, keys: Any, values: Any, out: Any, memory: Any, first: int, count: int, k0: int,
              k1: int, last: int, packed: int, head: int, heads: int, kv_heads: int, e: int, padded: int,
              causal: bool) -> None:
        """`count` queries from row `first`, the first of which sees keys up to `last` when causal"""
        group, scale = heads // kv_heads, F32(F32(e ** -0.5) * LOG2_E)         # weights are powers of 2
        query, score, weight, sums, seen, largest, total, shrink = memory
        begin(q, first, count, last, head, group, heads, e // 2, query, seen, largest, total, sums)
        end = min(k1, last + count) if causal else k1
        for key in range(k0, end, KEYS):
            at = ((packed + (key - k0) // KEYS) * kv_heads + head) * KEYS * padded // 2
            here = min(KEYS, end - key)
            multiply(keys, at, padded // 2, query, score, here, e // 2, False)
            weigh(score, here, seen, key, causal, scale, largest, total, shrink, weight)
            if shrink.min() != 1:
                for i in range(e):
                    for lane in range(lanes):
                        put(sums, i * lanes + lane, get(sums, i * lanes + lane) * shrink[lane])
            multiply(values, at, KEYS // 2, weight, sums, e, (here + 1) // 2, True)
        for lane in range(lanes):
            total[lane] = F32(1) / total[lane]
        for lane in range(count * group):
            at = ((first + lane // group) * heads + head * group + lane % group) * e
            for i in range(e):
                put(out, at + i, get(sums, i * lanes + lane) * total[lane])
    return compile(block)


def _multiply(inner: Products, lanes: int, compile: Compile) -> Any:
    """c (height, lanes) = or += a (height, 2 * pairs) . b (2 * pairs, lanes); height and pairs are
    rounded up to whole products, for which there is room"""
    first, more, rows, in_step = inner.first, inner.more, inner.rows, inner.pairs
    line = 4 * lanes

    def multiply(a: Any, a_at: int, along: int, b: Any, c: Any, height: int, pairs: int,
                 on: bool) -> None:
        """along: words of a row of a, pairs and what they are padded with"""
        steps = (pairs + in_step - 1) // in_step
        for r in range(0, height, rows):
            if on:
                more(a, a_at + r * along, b, 0, c, r * lanes, 4 * along, line, line, steps)
            else:
                first(a, a_at + r * along, b, 0, c, r * lanes, 4 * along, line, line, steps)
    return compile(multiply)


def begin_in_pairs(lanes: int, compile: Compile) -> Any:
    """Queries of a block into lanes, pair by pair; and nothing is seen or summed yet."""
    def begin(q: Any, first: int, count: int, last: int, head: int, group: int, heads: int, pairs: int,
              query: Any, seen: Any, largest: Any, total: Any, sums: Any) -> None:
        """q (s * heads * pairs) words -> query (pairs, lanes); lanes without a query are zeros. seen: the last
        key of each lane, where the first query sees keys up to `last`"""
        query[:] = 0
        for lane in range(count * group):
            at = ((first + lane // group) * heads + head * group + lane % group) * pairs
            for pair in range(pairs):
                query[uintp(pair * lanes + lane)] = q[uintp(at + pair)]
        for lane in range(lanes):
            seen[lane] = last + min(lane // group, count - 1)
            largest[lane], total[lane] = -np.inf, 0
        sums[:] = 0
    return compile(begin)


def weigh_in_pairs(lanes: int, compile: Compile) -> Any:
    """Scores of a block into weights, pairs of keys in words; `shrink` is what earlier sums are worth
    now."""
    look = largest_so_far(lanes, compile)

    def weigh(score: Any, count: int, seen: Any, key: int, causal: bool, scale: Any, largest: Any,
              total: Any, shrink: Any, weight: Any) -> None:
        look(score, count, seen, key, causal, largest, shrink)
        for lane in range(lanes):
            less = power_of_two(F32(F32(shrink[lane] - largest[lane]) * scale))
            shrink[lane] = F32(1) if shrink[lane] == largest[lane] else less
            total[lane] = total[lane] * shrink[lane]
        for at in range(count * lanes, KEYS * lanes):                  # no keys: their weight is zero
            put(score, at, F32(-np.inf))
        for pair in range(KEYS // 2):
            at = 2 * pair * lanes
            for lane in range(lanes):
                low = power_of_two(F32(F32(get(score, at + lane) - largest[lane]) * scale))
                high = power_of_two(F32(F32(get(score, at + lanes + lane) - largest[lane]) * scale))
                total[lane] += low + high
                lower = U32(U32(F32(low).view(U32) + HALF_STEP) >> U32(16))
                upper = U32(U32(F32(high).view(U32) + HALF_STEP) & UPPER)
                weight[pair * lanes + lane] = U32(upper | lower)
    return compile(weigh)


def blocks_of_keys(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys of segments (g, 4) in blocks, each range of keys once: -> (b, 2) first row and how many,
    and for each segment the number of its first block (g)."""
    ranges, which = np.unique(segments[:, 2:], axis=0, return_inverse=True)
    counts = -(-(ranges[:, 1] - ranges[:, 0]) // KEYS)
    begins = np.cumsum(counts) - counts
    inside = np.arange(counts.sum()) - np.repeat(begins, counts)
    first = np.repeat(ranges[:, 0], counts) + inside * KEYS
    many = np.minimum(KEYS, np.repeat(ranges[:, 1], counts) - first)
    return np.stack([first, many], axis=1).astype(np.int64), begins[which.reshape(-1)]

"""Compiled attention with its backward pass, for the tower and for the trees of the decoder alike.

What is attended together is a *segment*: some tokens, some queries, and perhaps the shared start of all
prompts, which every query of the segment sees. Of the tokens a query sees those before its `until`, and
those from its `own` up to itself:

    a window or a frame of the tower    until = its end, own = nothing
    a token of a prompt                 until = itself, inclusive, own = nothing
    a token of a branch                 until = the end of its prompt, own = the branch's first token

Queries are taken `lanes` at a time, all heads that share a head of keys side by side. Scores stand as
(key, lane), so that a softmax never leaves its lane, and in memory that a cache holds. The backward pass
makes shares anew from the logarithm of each lane's sum:

    1. scores (key, lane) = k (key, e) . q (e, lane)      shares = 2^(scores - logarithm)
    2. given  (key, lane) = v (key, e) . d_o (e, lane)
    3. ds     (key, lane) = shares (given - sum of shares given over the keys)
    4. d_q (lane, e) = ds . k,   d_k (key, e) += ds . q,   d_v (key, e) += shares . d_o

All of it is float32. Biases are added and heads are rotated where numbers are read, and gradients are
rotated back where they are written. Queries carry e^-1/2 / ln 2, so that shares are powers of two.
Read next: `fused.py`.

Source: Dao et al., "FlashAttention" (2022), of the shares that are made anew.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numba.extending import register_jitable

from minivl.kernels.jit import products
from minivl.kernels.jit.attention_bf16 import power_of_two
from minivl.kernels.jit.numbers import F32, LOG2_E, get, put
from minivl.kernels.jit.tiers import chosen

from .loops import Compile, compiler, flat

ROWS = 8                                       # of a product; keys are padded to as many
VECTORS = 3                                    # of the width of a head at once
NOWHERE = 1 << 30                              # the first own token of a query that has none
Side = tuple[torch.Tensor, torch.Tensor]
ONE, LN_2 = F32(1), F32(0.6931471805599453)


class Plan(NamedTuple):
    """Who sees whom. segments: (g, 4) first and last token, first and last query, ends exclusive, in
    their order; queries: (q, 3) token, until, own; shared: tokens at the very start that
    all segments see; wide: are most segments larger than one vector?"""
    segments: np.ndarray
    queries: np.ndarray
    shared: int
    wide: bool


class Heads(NamedTuple):
    """Where heads stand: numbers from row to row of queries and of keys, the first one of keys and of
    values in their rows, heads of queries and of keys, and the width of one."""
    q_line: int
    kv_line: int
    k_first: int
    v_first: int
    heads: int
    kv_heads: int
    e: int


# ------------------------------------------------------------------------------------------- the pieces

def _multiplying(lanes: int, columns: int, more: bool) -> Any:
    """c (height, columns) = or += a (height, depth) . b (depth, columns); height in whole ROWS."""
    made = compiler(__file__, lanes, columns, more)
    wide = made.tier.lanes
    rows = ROWS if wide == 16 else ROWS // 2
    vectors = columns // wide if columns == lanes else VECTORS
    inner = made.inner(products.strided(rows, vectors, more), 3)
    step, line = vectors * wide, 4 * columns

    def multiply(a: Any, a_at: int, along: int, down: int, b: Any, b_at: int, c: Any, c_at: int,
                 height: int, depth: int) -> None:
        """along, down: numbers from one to the next in a row of a, and from row to row"""
        for column in range(0, columns, step):
            for r in range(0, height, rows):
                inner(a, a_at + r * down, b, b_at + column, c, c_at + r * columns + column, 4 * along,
                      4 * down, line, line, depth)
    return made.compile(multiply)


def _taking(e: int, compile: Compile) -> Any:
    """One head of a row with its bias, rotated by the row's angles, times `scale`."""
    half = e // 2

    def take(x: Any, at: int, bias: Any, first: int, cos: Any, sin: Any, angle: int, scale: Any,
             out: Any, to: int) -> None:
        for i in range(half):
            a = get(x, at + i) + get(bias, first + i)
            b = get(x, at + half + i) + get(bias, first + half + i)
            c, s = get(cos, angle + i), get(sin, angle + i)
            put(out, to + i, (a * c - b * s) * scale)
            put(out, to + half + i, (b * c + a * s) * scale)
    return compile(take)


def _giving(e: int, compile: Compile) -> Any:
    """The gradient of `_taking`: written where the head was read, and added to that of the bias."""
    half = e // 2

    def give(x: Any, at: int, cos: Any, sin: Any, angle: int, scale: Any, out: Any, to: int, sums: Any,
             first: int) -> None:
        for i in range(half):
            a, b = get(x, at + i) * scale, get(x, at + half + i) * scale
            c, s = get(cos, angle + i), get(sin, angle + i)
            before, after = a * c + b * s, b * c - a * s
            put(out, to + i, before)
            put(out, to + half + i, after)
            put(sums, first + i, get(sums, first + i) + before)
            put(sums, first + half + i, get(sums, first + half + i) + after)
    return compile(give)


def _keys(e: int, compile: Compile) -> Any:
    """One head of keys and values of some tokens, and zeros behind them up to whole ROWS."""
    take = _taking(e, compile)

    def gather(kv: Any, bias: Any, cos: Any, sin: Any, form: Any, first: int, count: int, head: int,
               k: Any, v: Any, to: int) -> None:
        """tokens first:first + count -> k, v from row `to` on"""
        key, value = form.k_first + head * e, form.v_first + head * e
        for row in range(count):
            at = (first + row) * form.kv_line
            take(kv, at + key, bias, key, cos, sin, (first + row) * (e // 2), ONE, k, (to + row) * e)
            for i in range(e):
                put(v, (to + row) * e + i, get(kv, at + value + i) + get(bias, value + i))
        end = (to + count) * e
        k[end:end + ROWS * e] = 0
        v[end:end + ROWS * e] = 0
    return compile(gather)


def _giving_keys(e: int, compile: Compile) -> Any:
    """The gradient of `_keys`."""
    give = _giving(e, compile)

    def scatter(dk: Any, dv: Any, at: int, cos: Any, sin: Any, form: Any, first: int, count: int,
                head: int, out: Any, sums: Any) -> None:
        """dk, dv from row `at` on -> out at tokens first:first + count"""
        key, value = form.k_first + head * e, form.v_first + head * e
        for row in range(count):
            to = (first + row) * form.kv_line
            give(dk, (at + row) * e, cos, sin, (first + row) * (e // 2), LN_2, out, to + key, sums, key)
            for i in range(e):
                given = get(dv, (at + row) * e + i)
                put(out, to + value + i, given)
                put(sums, value + i, get(sums, value + i) + given)
    return compile(scatter)


def _turning(lanes: int, e: int, compile: Compile) -> Any:
    """Rows (lane, e) turned around: (e, lane)."""
    def turn(rows: Any, out: Any) -> None:
        for lane in range(lanes):
            for i in range(e):
                put(out, i * lanes + lane, get(rows, lane * e + i))
    return compile(turn)


def _queries(lanes: int, e: int, compile: Compile) -> Any:
    """Queries of a block, all heads of a group: rows (lane, e), and turned around."""
    take, turn = _taking(e, compile), _turning(lanes, e, compile)

    def gather(q: Any, bias: Any, cos: Any, sin: Any, plan: Any, form: Any, first: int, count: int,
               head: int, rows: Any, turned: Any) -> None:
        group = form.heads // form.kv_heads
        rows[count * group * e:lanes * e] = 0
        scale = F32(F32(e ** -0.5) * LOG2_E)
        for lane in range(count * group):
            query, channel = first + lane // group, (head * group + lane % group) * e
            take(q, query * form.q_line + channel, bias, channel, cos, sin, plan[query, 0] * (e // 2),
                 scale, rows, lane * e)
        turn(rows, turned)
    return compile(gather)


def _giving_queries(e: int, compile: Compile) -> Any:
    """The gradient of `_queries`."""
    give = _giving(e, compile)

    def scatter(rows: Any, cos: Any, sin: Any, plan: Any, form: Any, first: int, count: int, head: int,
                out: Any, sums: Any) -> None:
        group, scale = form.heads // form.kv_heads, F32(e ** -0.5)
        for lane in range(count * group):
            query, channel = first + lane // group, (head * group + lane % group) * e
            give(rows, lane * e, cos, sin, plan[query, 0] * (e // 2), scale, out,
                 query * form.q_line + channel, sums, channel)
    return compile(scatter)


def _answering(e: int, compile: Compile) -> Any:
    """What a block gives: sums over totals, and the logarithm of each total."""
    def answer(rows: Any, largest: Any, total: Any, form: Any, first: int, count: int, head: int,
               out: Any, logs: Any) -> None:
        group = form.heads // form.kv_heads
        for lane in range(count * group):
            at = (first + lane // group) * form.heads + head * group + lane % group
            logs[at] = largest[lane] + math.log2(total[lane])
            for i in range(e):
                put(out, at * e + i, get(rows, lane * e + i) / total[lane])
    return compile(answer)


def _hearing(lanes: int, e: int, compile: Compile) -> Any:
    """The gradient of what a block gave, rows (lane, e) and turned around, and its logarithms."""
    turn = _turning(lanes, e, compile)

    def hear(d_out: Any, logs: Any, form: Any, first: int, count: int, head: int, rows: Any,
             turned: Any, log: Any) -> None:
        group = form.heads // form.kv_heads
        rows[count * group * e:] = 0
        log[count * group:] = 0                           # of lanes without a query: their scores are 0
        for lane in range(count * group):
            at = (first + lane // group) * form.heads + head * group + lane % group
            log[lane] = logs[at]
            for i in range(e):
                put(rows, lane * e + i, get(d_out, at * e + i))
        turn(rows, turned)
    return compile(hear)


def _looking(lanes: int, compile: Compile) -> Any:
    """Which keys a block sees, by their rows in a segment's memory: all of 0:least, some of
    least:before, and of begin:end, which are own ones of branches. seen (3, lane): each lane's token,
    until, own."""
    def look(plan: Any, first: int, count: int, group: int, back: int, seen: Any) -> Any:
        """back: a token's number less this is its row"""
        least, before, begin, end = NOWHERE, 0, NOWHERE, 0
        for lane in range(lanes):
            query = first + min(lane // group, count - 1)
            token, until, own = plan[query, 0] - back, plan[query, 1] - back, plan[query, 2] - back
            seen[lane], seen[lanes + lane], seen[2 * lanes + lane] = token, until, own
            least, before = min(least, until), max(before, until)
            if own <= token:
                begin, end = min(begin, own), max(end, token + 1)
        begin = max(before, begin)
        return least, before, begin, max(begin, end)
    return compile(look)


def _products_of_both(lanes: int, e: int, compile: Compile) -> Any:
    """rows (key, e) . turned (e, lane) -> out (key, lane), for both ranges of keys one after the other,
    each from a whole number of ROWS on; gives how many rows there are."""
    multiply = _multiplying(lanes, lanes, False)

    def fill(rows: Any, turned: Any, ranges: Any, out: Any) -> int:
        _, before, begin, end = ranges
        first, own = whole(before), whole(end - begin)
        multiply(rows, 0, 1, e, turned, 0, out, 0, first, e)
        if own:
            multiply(rows, begin * e, 1, e, turned, 0, out, first * lanes, own, e)
        return first + own
    return compile(fill)


@register_jitable
def whole(count: int) -> int:
    """The next multiple of ROWS."""
    return (count + ROWS - 1) // ROWS * ROWS


def _scores(fill: Any, lanes: int, compile: Compile) -> Any:
    """Step 1: scores of a block, -infinity where a lane does not see a key; gives how many rows. fill:
    `_products_of_both`"""
    def hide(score: Any, seen: Any, row: int, key: int, stop: int, end: int) -> None:
        """rows from `row` on, which are keys key:stop; those from `end` on are padding"""
        for here in range(key, stop):
            at = (row + here - key) * lanes
            for lane in range(lanes):
                there = (here < get(seen, lanes + lane)) | (
                    (here >= get(seen, 2 * lanes + lane)) & (here <= get(seen, lane)))
                put(score, at + lane, get(score, at + lane) if there & (here < end) else F32(-np.inf))
    hide = compile(hide)

    def make(k: Any, turned: Any, seen: Any, ranges: Any, score: Any) -> int:
        least, before, begin, end = ranges
        rows, first = fill(k, turned, ranges, score), whole(before)
        hide(score, seen, least, least, first, before)
        hide(score, seen, first, begin, begin + rows - first, end)
        return rows
    return compile(make)


def _mixing(lanes: int, e: int, compile: Compile) -> Any:
    """weights (key, lane) turned . rows (key, e) -> out (lane, e), of both ranges."""
    first, more = _multiplying(lanes, e, False), _multiplying(lanes, e, True)

    def mix(weights: Any, rows: Any, ranges: Any, out: Any) -> None:
        _, before, begin, end = ranges
        first(weights, 0, lanes, 1, rows, 0, out, 0, lanes, before)
        if end > begin:
            more(weights, whole(before) * lanes, lanes, 1, rows, begin * e, out, 0, lanes, end - begin)
    return compile(mix)


def _adding(lanes: int, e: int, compile: Compile) -> Any:
    """weights (key, lane) . rows (lane, e), added to out (key, e), of both ranges."""
    more = _multiplying(lanes, e, True)

    def add(weights: Any, rows: Any, ranges: Any, out: Any) -> None:
        _, before, begin, end = ranges
        more(weights, 0, 1, lanes, rows, 0, out, 0, whole(before), lanes)
        if end > begin:
            more(weights, whole(before) * lanes, 1, lanes, rows, 0, out, begin * e, whole(end - begin),
                 lanes)
    return compile(add)


def _weighing(lanes: int, compile: Compile) -> Any:
    """Scores into weights, in place: powers of two of how far they are below each lane's largest."""
    def weigh(score: Any, rows: int, largest: Any, total: Any) -> None:
        largest[:] = -np.inf
        total[:] = 0
        for row in range(rows):
            for lane in range(lanes):
                put(largest, lane, max(get(largest, lane), get(score, row * lanes + lane)))
        for row in range(rows):
            for lane in range(lanes):
                weight = power_of_two(F32(get(score, row * lanes + lane) - get(largest, lane)))
                put(score, row * lanes + lane, weight)
                put(total, lane, get(total, lane) + weight)
    return compile(weigh)


def _sloping(lanes: int, compile: Compile) -> Any:
    """Step 3: scores into shares, and `given` into ds, in place."""
    def slope(score: Any, given: Any, rows: int, logs: Any, along: Any) -> None:
        along[:] = 0
        for row in range(rows):
            for lane in range(lanes):
                at = row * lanes + lane
                put(score, at, power_of_two(F32(get(score, at) - get(logs, lane))))
        for row in range(rows):
            for lane in range(lanes):
                at = row * lanes + lane
                put(along, lane, get(along, lane) + get(score, at) * get(given, at))
        for row in range(rows):
            for lane in range(lanes):
                at = row * lanes + lane
                put(given, at, get(score, at) * (get(given, at) - get(along, lane)))
    return compile(slope)


# ------------------------------------------------------------------------------------------- both passes

def forward(lanes: int, e: int, compile: Compile) -> Any:
    """Attention of all segments, one head of keys after the other."""
    keys, queries, look = _keys(e, compile), _queries(lanes, e, compile), _looking(lanes, compile)
    scores = _scores(_products_of_both(lanes, e, compile), lanes, compile)
    weigh, mix = _weighing(lanes, compile), _mixing(lanes, e, compile)
    answer = _answering(e, compile)

    def run(q: Any, q_bias: Any, kv: Any, kv_bias: Any, cos: Any, sin: Any, segments: Any, plan: Any,
            shared: int, form: Any, most: int, out: Any, logs: Any) -> None:
        """q (n * q_line), kv (s * kv_line), biases of their lines, cos, sin (s * e/2); most: rows of the
        largest segment -> out (n * heads * e), logs (n * heads): of each sum, to the base of two"""
        group = form.heads // form.kv_heads
        k, v = np.zeros(most * e, F32), np.zeros(most * e, F32)
        score = np.empty(most * lanes, F32)
        rows, turned = np.empty(lanes * e, F32), np.empty(lanes * e, F32)
        seen, largest, total = np.empty(3 * lanes, np.int32), np.empty(lanes, F32), np.empty(lanes, F32)
        for head in range(form.kv_heads):
            keys(kv, kv_bias, cos, sin, form, 0, shared, head, k, v, 0)
            for i in range(len(segments)):
                start, stop, first, last = segments[i]
                mine, back = start >= shared, max(0, start - shared)      # or the shared start itself
                if mine:
                    keys(kv, kv_bias, cos, sin, form, start, stop - start, head, k, v, shared)
                for block in range(first, last, lanes // group):
                    count = min(lanes // group, last - block)
                    queries(q, q_bias, cos, sin, plan, form, block, count, head, rows, turned)
                    ranges = look(plan, block, count, group, back, seen)
                    weigh(score, scores(k, turned, seen, ranges, score), largest, total)
                    mix(score, v, ranges, rows)
                    answer(rows, largest, total, form, block, count, head, out, logs)
    return compile(run)


def backward(lanes: int, e: int, compile: Compile) -> Any:
    """The gradients of all that `forward` read but the angles."""
    keys, queries, look = _keys(e, compile), _queries(lanes, e, compile), _looking(lanes, compile)
    fill = _products_of_both(lanes, e, compile)
    scores, slope = _scores(fill, lanes, compile), _sloping(lanes, compile)
    mix, add, hear = _mixing(lanes, e, compile), _adding(lanes, e, compile), _hearing(lanes, e, compile)
    give_queries, give_keys = _giving_queries(e, compile), _giving_keys(e, compile)

    def run(q: Any, q_bias: Any, kv: Any, kv_bias: Any, cos: Any, sin: Any, segments: Any, plan: Any,
            shared: int, form: Any, most: int, d_out: Any, logs: Any, d_q: Any, q_sums: Any, d_kv: Any,
            kv_sums: Any) -> None:
        """As `forward`; d_q, q_sums, d_kv and kv_sums are of the form of q, q_bias, kv and kv_bias"""
        group = form.heads // form.kv_heads
        sides, blocks = np.zeros((4, most * e), F32), np.empty((4, lanes * e), F32)
        k, v, dk, dv = sides[0], sides[1], sides[2], sides[3]
        rows, turned, d_rows, d_turned = blocks[0], blocks[1], blocks[2], blocks[3]
        score, given = np.empty(most * lanes, F32), np.empty(most * lanes, F32)
        seen, log, along = np.empty(3 * lanes, np.int32), np.zeros(lanes, F32), np.empty(lanes, F32)
        for head in range(form.kv_heads):
            keys(kv, kv_bias, cos, sin, form, 0, shared, head, k, v, 0)
            sides[2:, :shared * e] = 0
            for i in range(len(segments)):
                start, stop, first, last = segments[i]
                mine, back = start >= shared, max(0, start - shared)      # or the shared start itself
                if mine:
                    keys(kv, kv_bias, cos, sin, form, start, stop - start, head, k, v, shared)
                sides[2:, shared * e:(shared + stop - start + ROWS) * e] = 0
                for block in range(first, last, lanes // group):
                    count = min(lanes // group, last - block)
                    ranges = look(plan, block, count, group, back, seen)
                    hear(d_out, logs, form, block, count, head, d_rows, d_turned, log)
                    fill(v, d_turned, ranges, given)
                    queries(q, q_bias, cos, sin, plan, form, block, count, head, rows, turned)
                    slope(score, given, scores(k, turned, seen, ranges, score), log, along)
                    add(score, d_rows, ranges, dv)
                    add(given, rows, ranges, dk)
                    mix(given, k, ranges, rows)
                    give_queries(rows, cos, sin, plan, form, block, count, head, d_q, q_sums)
                if mine:
                    give_keys(dk, dv, shared, cos, sin, form, start, stop - start, head, d_kv, kv_sums)
            give_keys(dk, dv, 0, cos, sin, form, 0, shared, head, d_kv, kv_sums)
    return compile(run)


# ------------------------------------------------------------------------------------------- for tensors

@functools.cache
def compiled(which: Any, wide: bool, e: int) -> Any:
    """`forward` or `backward`, for blocks of one vector of queries or of two."""
    lanes = (1 + wide) * chosen().lanes
    return which(lanes, e, compiler(__file__, which.__name__, lanes, e).compile)


def rows_of(plan: Plan) -> int:
    """How many rows the memory of the largest segment has, with what rounds both ranges up."""
    return plan.shared + int((plan.segments[:, 1] - plan.segments[:, 0]).max()) + 2 * ROWS


def attend(q: Side, kv: Side, turn: Side, plan: Plan, form: Heads) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (n, heads * e) of the queries of a plan, in the type of q, and the logarithm of each of
    its sums (n, heads). q, kv: rows and their bias; turn: cosine and sine of each token's angles."""
    n = len(q[0])
    out, logs = q[0].new_empty(n, form.heads * form.e), torch.empty(n, form.heads)
    compiled(forward, plan.wide, form.e)(*_flat(q, kv, turn), *_flat_plan(plan), form, rows_of(plan),
                                         flat(out), flat(logs))
    return out, logs


def attend_back(q: Side, kv: Side, turn: Side, plan: Plan, form: Heads, d_out: torch.Tensor,
                logs: torch.Tensor) -> tuple[Side, Side]:
    """The gradients of q and kv, rows and bias; where both are one, so are these."""
    d_q = torch.empty_like(q[0]), torch.zeros_like(q[1])
    d_kv = d_q if kv[0] is q[0] else (torch.empty_like(kv[0]), torch.zeros_like(kv[1]))
    compiled(backward, plan.wide, form.e)(*_flat(q, kv, turn), *_flat_plan(plan), form, rows_of(plan),
                                          flat(d_out), flat(logs), *map(flat, (*d_q, *d_kv)))
    return d_q, d_kv


def _flat(*sides: Side) -> list[np.ndarray]:
    return [flat(one) for side in sides for one in side]


def _flat_plan(plan: Plan) -> tuple[np.ndarray, np.ndarray, int]:
    return plan.segments, plan.queries, plan.shared

"""The lessons' exercises that ask for a stage of the model, or for a part of one: a row each.

A row says which stage it is and how the lesson's arguments become the stage's. Drawn inputs, the
definition and the mistakes are those of `teach/check/stages`; a mistake that only the lesson's form of
the question allows stands here. The sizes of lessons 4, 8 and 11 are those of their text: students write
them down as numbers.

Read next: `teach/check/stages/kernels.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...checkpoint.tree import MLP as MLPWeights
from ...checkpoint.tree import Linear, Merger, Norm
from ...checkpoint.weight import weight
from ..check.draws import Draws
from ..check.stages.decoder import EXPAND
from ..check.stages.kernels import ATTEND, LINEAR, MLP, NORM, ROTATE, SOFTMAX
from ..check.stages.kernels import softmax as shares
from ..check.stages.patches import PATCHIFY
from ..check.stages.picture import SIZE, draw_size
from ..check.stages.positions import MROPE, SPATIAL
from ..check.stages.sampling import NARROW, PENALISE, draw_narrow
from ..check.stages.small import bias, matrix, picture, vision
from ..check.stages.vision import MERGE
from ..check.stages.windows import ORDER
from .filing import stage

PAD = 60                     # the id of a placeholder; other ids are below


def wide(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Drawn numbers in float64, NumPy's own type, as the arrays of the lessons are."""
    return tuple(array.astype(np.float64) for array in arrays)


def linear(matrix: np.ndarray, bias: np.ndarray | None = None) -> Linear:
    return Linear(weight(matrix), None if bias is None else weight(bias))


# ---- lesson 1

def draw_map(d: Draws) -> tuple:
    into, out = d.whole(1, 8), d.whole(1, 8)
    return wide(d.floats(d.whole(1, 6), into), d.floats(out, into), d.floats(out))


stage("1.1", "linear_map", "an array (n, o)", LINEAR, "n d, o d, o -> n o", draw_map,
      lambda x, weight, bias: (x, linear(weight, bias)), mistakes={
          "the bias was added down the columns: number o of the bias belongs to column o of every row":
              lambda x, weight, bias: x @ weight.T + bias[:, None]})


def draw_surprise(d: Draws) -> tuple:
    rows, words = d.whole(1, 4), d.whole(2, 6)
    logits = d.floats(rows, words, scale=d.pick([1.0, 2000.0]))    # exp(2000) overflows, exp(-2000) is 0
    return *wide(logits), d.generator().integers(0, words, rows)


def chosen(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return table[np.arange(len(ids)), ids]                         # n v, n -> n


stage("1.2", "surprise", "one number for each row", SOFTMAX, "n v, n -> n", draw_surprise,
      lambda logits, ids: (logits,), lambda given, logits, ids: -chosen(given, ids), mistakes={
          "those are the probabilities; the surprise is minus their logarithm":
              lambda logits, ids: chosen(shares(logits), ids),
          "the sign: a probability is at most 1, so its logarithm is at most 0":
              lambda logits, ids: chosen(SOFTMAX.definition(logits), ids),
          "those are logits; softmax makes probabilities of them first": lambda logits,
          ids: -chosen(logits, ids),
          "that is about the likeliest token of each row; take the token that really came, ids[i]":
              lambda logits, ids: -SOFTMAX.definition(logits).max(1)})


# ---- lessons 2 and 3

def draw_sides(d: Draws) -> tuple:
    (y, b, _), config = draw_size(d, steps=(28,))
    return y, b, config.min_pixels, config.max_pixels


stage("2.1", "target_size", "height and width", SIZE, "_, _, _, _ -> _", draw_sides,
      lambda y, b, least, most: ((y, b, 3), picture(min_pixels=least, max_pixels=most)), mistakes={
          "height comes first, and neither limit of the area is looked at":
              lambda y, b, least, most: np.array([28 * round(b / 28), 28 * round(y / 28)]),
          "a half goes to its even neighbour with round(), and neither limit of the area is looked at":
              lambda y, b, least, most: np.array([28 * int(y / 28 + 0.5), 28 * int(b / 28 + 0.5)])})


def numbered(gh: int, gw: int) -> tuple:
    """A frame of patches of one pixel, whose values are their numbers in reading order: 1 3 h u."""
    numbers = np.arange(gh * gw).reshape(1, 1, gh, gw)
    return np.repeat(numbers, 3, 1) * 1.0, picture(patch_size=1, temporal_patch_size=1)


def rows_of(given: np.ndarray, gh: int, gw: int) -> np.ndarray:
    """In which row of the patches each of them is: p x -> h u."""
    return np.argsort(given[:, 0]).reshape(gh, gw)


def for_all_patches(mine: Callable) -> Callable:
    """What the student's function gives for all patches of a grid; None when it gives none."""
    def given(gh: int, gw: int) -> Any:
        numbers = [[mine(row, col, gw) for col in range(gw)] for row in range(gh)]
        return None if numbers[0][0] is None else numbers
    return given


def row_with(rule: Callable) -> Callable:
    """A wrong rule for a patch's row: of its cell's row and column, its place inside, and gw."""
    def version(gh: int, gw: int) -> np.ndarray:
        row, col = np.indices((gh, gw))
        return rule(row // 2, col // 2, 2 * (row % 2) + col % 2, gw)
    return version


stage("3.1", "row_of_patch", "one integer", PATCHIFY, "_, _ -> h u",
      lambda d: (2 * d.whole(1, 4), 2 * d.whole(1, 4)),
      numbered, rows_of, for_all_patches, {
          "each cell before it holds 4 patches": row_with(lambda r, c, inside,
                                                          gw: r * (gw // 2) + c + inside),
          "the place inside the cell is missing": row_with(lambda r, c, inside,
                                                           gw: 4 * (r * (gw // 2) + c)),
          "gw counts patches, not cells": row_with(lambda r, c, inside, gw: 4 * (r * gw + c) + inside),
          "all yours are one too high; rows are counted from 0":
              row_with(lambda r, c, inside, gw: 4 * (r * (gw // 2) + c) + inside + 1),
          "all yours are one too low; rows are counted from 0":
              row_with(lambda r, c, inside, gw: 4 * (r * (gw // 2) + c) + inside - 1)})


# ---- lesson 4

def draw_masked(d: Draws) -> tuple:
    """Each query sees a run of keys. Heads are 4 wide; scores may be so large that exp fails."""
    queries, keys = d.whole(1, 4), d.whole(2, 5)
    first = [d.whole(0, keys - 1) for _ in range(queries)]
    seen = np.array([(np.arange(keys) >= k) & (np.arange(keys) < d.whole(k + 1, keys)) for k in first])
    q, k, v = wide(d.floats(queries, 4), d.floats(keys, 4), d.floats(keys, 4))
    return q * d.pick([1.0, 1e4, 4e30]), k, v, seen


def one_head(q, k, v, seen) -> tuple:
    """Query i is a segment of its own, and its keys are those that it sees."""
    k0, i = seen.argmax(1), np.arange(len(q))
    return q[:, None], k[:, None], v[:, None], np.stack([i, i + 1, k0, k0 + seen.sum(1)], 1), False


def masked(low: float = -np.inf, axis: int = 1, late: bool = False, rest: bool = False) -> Callable:
    """Masked attention with one thing at a time made another way."""
    def attend(q, k, v, seen):
        scores = q @ k.T / 2                                       # n m
        found = shares(scores if late or rest else np.where(seen, scores, low), axis)
        found = found * seen if late or rest else found
        return (found / found.sum(1, keepdims=True) if late else found) @ v
    return attend


stage("4.1", "attend_masked", "an array (n, e)", ATTEND, "n e, m e, m e, n m -> n e", draw_masked,
      one_head,
      lambda given, *asked: given[:, 0], mistakes={
          "a forbidden key has a share: your result changes with its value":
              lambda q, k, v, seen: shares(q @ k.T / 2) @ v,
          "your shares sum to one for each key, down the columns; they should for each query, along the "
          "rows":
              masked(axis=0),
          "do the shares sum to one? What is left after masking must": masked(rest=True),
          "NaN or infinity comes out: 0 times infinity is no number; np.where chooses without a product":
              lambda q, k, v, seen: shares(q @ k.T / 2 + ~seen * -np.inf) @ v,
          "mask before the softmax, and take the largest after masking": masked(late=True),
          **{f"a forbidden key has the score {low:g}, and seen keys may have lower ones: no finite "
             f"number is low "
             "enough for a mask; which score has the power 0?": masked(low) for low in (-100.0, -1e9)}})


def draw_grouped(d: Draws) -> tuple:
    queries, keys = d.whole(1, 5), d.whole(1, 6)
    return wide(d.floats(queries, 4, 3), d.floats(keys, 2, 3), d.floats(keys, 2, 3))


def one_segment(q, k, v) -> tuple:
    return q, k, v, np.array([[0, len(q), 0, len(k)]]), False


stage("4.2", "attend_grouped", "an array (n, a, e)", ATTEND, "n a e, m k e, m k e -> n a e",
      draw_grouped, one_segment,
      mistakes={"the right values but wrong shares; which keys are used?":
                lambda q, k, v: ATTEND.definition(*one_segment(q, k[:, ::-1], v))})

# ---- lesson 5

stage("5.1", "cells_by_window", "the cell numbers, window after window", ORDER, "_, _, _ -> c",
      lambda d: (d.whole(1, 8), d.whole(1, 8), d.pick([2, 4, 3, 1])),
      lambda rows, columns,
      side: (np.array([[1, 2 * rows, 2 * columns]]), vision(window_size=28 * side)))


# ---- lesson 6

def draw_row(d: Draws) -> tuple:
    half = d.whole(1, 4)
    return wide(d.floats(2 * half), d.floats(half, scale=3.0))


def one_row(row, angles) -> tuple:
    return row[None, None], np.cos(angles)[None], np.sin(angles)[None]


stage("6.1", "turn", "an array (e,)", ROTATE, "e, f -> e", draw_row, one_row, lambda given,
      *asked: given[0, 0], mistakes={
    "every pair turns by the first angle in yours; does each pair get its own angle?":
        lambda row, angles: ROTATE.definition(*one_row(row, np.full_like(angles, angles[0])))[0, 0]})

stage("6.2", "angles_2d", "an array (n, width / 2)", SPATIAL, "n 2, _ -> n f",
      lambda d: (d.generator().integers(0, 40, (d.whole(1, 5), 2)), 4 * d.whole(1, 4)),
      lambda at, width: (at, vision(hidden_size=width, num_heads=1, rope_theta=1e4)))


# ---- lesson 7

def draw_norm(d: Draws) -> tuple:
    """An eps of 0 among others: without one the other mistakes of a version that forgets it are told."""
    x, norm = NORM.draw(d)
    return *wide(x, norm.weight.dense(np.float64)), d.pick([norm.eps, 0.0, 0.0])


stage("7.1", "rms_norm", "an array (n, d)", NORM, "n d, d, _ -> n d", draw_norm,
      lambda x, weights, eps: (x, Norm(weight(weights), eps)))


def draw_swiglu(d: Draws) -> tuple:
    width, inner = d.whole(1, 6), d.whole(1, 6)
    return wide(d.floats(d.whole(1, 5), width), *(d.floats(inner, width) for _ in range(2)),
                d.floats(d.whole(1, 6), inner))


stage("7.2", "swiglu", "an array (n, d)", MLP, "n d, h d, h d, o h -> n o", draw_swiglu,
      lambda x, gate, up, down: (x, MLPWeights(linear(np.concatenate([gate, up])), linear(down))))


# ---- lesson 8

def draw_cells(d: Draws) -> tuple:
    """Two cells of patches of width 3, as in the lesson."""
    x, (norm, *maps) = d.floats(8, 3, scale=d.pick([1.0, 10.0])), d.merger(3, d.whole(1, 6), 4)
    inner, outer = ((matrix(one), bias(one)) for one in maps)
    return *wide(x, norm.weight.dense(np.float64)), inner, outer


stage("8.1", "merge", "an array (n / 4, o)", MERGE, "n d, d, _, _ -> c o", draw_cells,
      lambda x, norm, inner,
      outer: (x, Merger(Norm(weight(norm), 1e-6), linear(*inner), linear(*outer))))


# ---- lessons 9 and 10

def draw_prompt(d: Draws) -> tuple:
    rng, ids, grids = d.generator(), [], []
    for _ in range(d.whole(0, 3)):
        ids += [*rng.integers(0, 50, d.whole(0, 2)), PAD]
        grids.append((d.whole(1, 3), 2 * d.whole(1, 3), 2 * d.whole(1, 3)))
    ids += [*rng.integers(0, 50, d.whole(1, 3))]
    return np.array(ids, np.int64), np.array(grids, np.int64).reshape(-1, 3), PAD


def counted(ids, grids, pad) -> tuple:
    """The lesson's arguments as those of `expand`: a grid has four patches for each visual token."""
    return ids, grids.prod(1) // 4, (pad, -1)


def every_id(ids, grids, pad) -> np.ndarray:
    """Every id as often as the picture before it asks for, the first ones as the first."""
    counts, before = grids.prod(1) // 4, np.cumsum(ids == pad)
    return np.repeat(ids, counts[np.maximum(before - 1, 0)]) if len(counts) else ids


def first_pad(ids, grids, pad) -> np.ndarray:
    first = (ids == pad) & (np.cumsum(ids == pad) == 1)
    return np.repeat(ids, np.where(first, grids[0].prod() // 4, 1)) if len(grids) else ids


stage("9.2", "make_room", "an array of ids", EXPAND, "n, i 3, _ -> s", draw_prompt, counted, mistakes={
    "yours leaves out the time: a video has several pairs of frames":
        lambda ids, grids, pad: EXPAND.definition(*counted(ids, grids[:, 1:], pad)),
    "yours counts patches; four of them, a cell, are one visual token":
        lambda ids, grids, pad: EXPAND.definition(ids, grids.prod(1), (pad, -1)),
    "yours repeats every id, words too": every_id, "yours repeats the first pad only": first_pad})


def draw_medium(d: Draws) -> tuple:
    grid = d.whole(1, 4), 2 * d.whole(1, 3), 2 * d.whole(1, 3)
    return grid, d.pick([2.75, 1.0, 2.0, 0.75, 2.5]), d.pick([10, 0, 7, 3])


def after_text(grid, tick, start) -> tuple:
    """A prompt of `start` words and the medium."""
    ids = np.array([0] * start + [PAD] * (grid[0] * grid[1] * grid[2] // 4))
    return ids, np.array([grid]), np.array([tick], np.float32), (PAD, -1), 2, "max_plus_one"


def whole_numbers(mine: Callable) -> Callable:
    """The student's function; places may come as floats, as np.floor gives them, when they are whole."""
    def given(*asked: Any) -> Any:
        value = mine(*asked)
        if value is None or (np.asarray(value) != np.floor(value)).any():
            return value
        return np.asarray(value).astype(np.int64)
    return given


def misplaced(change: Callable) -> Callable:
    """A wrong version: of tick, start and each cell's pair, row and column to its three places."""
    def version(grid, tick, start) -> np.ndarray:
        cells = np.indices((grid[0], grid[1] // 2, grid[2] // 2)).reshape(3, -1)
        return np.floor(np.stack(np.broadcast_arrays(*change(tick, start, *cells)))).astype(np.int64)
    return version


stage("10.1", "cells_of", "an array (3, n)", MROPE, "_, _, _ -> 3 n", draw_medium, after_text,
      lambda given, grid, tick, start: given[:, start:], whole_numbers, {
          "yours adds `start` to the time only; height and width begin there too":
              misplaced(lambda tick, start, k, r, c: (start + np.floor(k * tick), r, c)),
          "tick belongs to the time alone, not to rows and columns":
              misplaced(lambda tick, start, *cell: [start + np.floor(n * tick) for n in cell]),
          "yours multiplies `start` by tick too":
              misplaced(lambda tick, start, k, r,
                        c: (np.floor((start + k) * tick), start + r, start + c))})


# ---- lesson 11

def draw_next(d: Draws) -> tuple:
    """A row of four heads of width 3, two heads of keys and values, and caches of so many rows."""
    old = d.whole(0, 6)
    q, k, v, keys, values = wide(d.floats(4, 3), *(d.floats(2, 3) for _ in range(2)),
                                 *(d.floats(old, 2, 3) for _ in range(2)))
    return q * d.pick([1.0, 1e4]), k, v, keys, values


def last_row(q, k, v, keys, values) -> tuple:
    """The new row behind the cached ones, as a segment of one query."""
    segment = np.array([[0, 1, 0, len(keys) + 1]])
    return q[None], np.concatenate([keys, k[None]]), np.concatenate([values, v[None]]), segment, True


def old_rows_only(q, k, v, keys, values) -> np.ndarray:
    return ATTEND.definition(q[None], keys, values, np.array([[0, 1, 0, len(keys)]]), False)[0]


stage("11.1", "attend_next", "what the row collects and both longer caches", ATTEND,
      "a e, k e, k e, r k e, r k e -> a e, s k e, s k e", draw_next, last_row,
      lambda given, *asked: (given[0], *last_row(*asked)[1:3]), mistakes={
          "the new key stands first in yours; rows are in the order of the text":
              lambda q, k, v, keys, values: (None, np.concatenate([k[None], keys]), None),
          "the new key was put into the cache of values":
              lambda q, k, v, keys, values: (None, None, np.concatenate([values, k[None]])),
          "the new value was put into the cache of keys":
              lambda q, k, v, keys, values: (None, np.concatenate([keys, v[None]]), None),
          "yours looks at the old rows only; a row sees itself too":
              lambda *asked: (old_rows_only(*asked), None, None),
          "yours sees itself only; the rows in the cache are what it is kept for":
              lambda q, k, v, keys, values: (np.repeat(v, 2, 0), None, None)})


def draw_scores(d: Draws) -> tuple:
    """Five scores, ids of the prompt and of the answer, as lists."""
    prompt, answer = ([d.whole(0, 4) for _ in range(d.whole(0, 3))] for _ in range(2))
    return *wide(d.floats(5)), prompt, answer, d.pick([2.0, 1.5, 4.0])


stage("11.2", "push_down", "an array (v,)", PENALISE, "v, _, _, _ -> v", draw_scores,
      lambda scores, prompt, answer,
      r: (scores[None], (np.array(prompt, int),), (np.array(answer, int),), r),
      lambda given, *asked: given[0])


def draw_nucleus(d: Draws) -> tuple:
    """Scores without equals, a share between two sums; with a shift exp overflows."""
    logits, _, _, p = draw_narrow(d, ("p",))
    return logits[0].astype(float) + d.pick([0.0, 1000.0]), p


def likeliest_first(given: np.ndarray, scores: np.ndarray, p: float) -> np.ndarray:
    """The ids that were not pushed to the lowest number: v -> m."""
    return np.argsort(-scores)[: int((given[0] > -1e30).sum())]


def nucleus_of(scores: np.ndarray, p: float) -> np.ndarray:
    return likeliest_first(NARROW.definition(scores[None], 1.0, None, p), scores, p)


def by_plain_powers(scores: np.ndarray, p: float) -> np.ndarray:
    powers = np.exp(scores)
    order = np.argsort(-powers / powers.sum())
    return order[: np.searchsorted(np.cumsum(powers[order] / powers.sum()), p) + 1]


stage("11.3", "nucleus", "ids, likeliest first", NARROW, "v, _ -> m", draw_nucleus,
      lambda scores, p: (scores[None], 1.0, None, p), likeliest_first, mistakes={
          "exp overflows on large scores; subtract the largest first": by_plain_powers,
          "the token that reaches p belongs to the set": lambda *asked: nucleus_of(*asked)[:-1],
          "yours gives places in the sorted row; what is asked are "
          "ids": lambda *asked: np.arange(len(nucleus_of(*asked))),
          "ids should come likeliest first": lambda *asked: np.sort(nucleus_of(*asked))[::-1],
          "yours begins with the least likely": lambda scores,
          p: np.argsort(scores)[: len(nucleus_of(scores, p))]})

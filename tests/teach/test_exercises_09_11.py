"""The checks of lessons 9 to 11 take right answers in any style, and name the usual mistake of wrong ones."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import minivl
from minivl.teach import lessons as exercises


def softmax(z, axis=-1):
    powers = np.exp(z - z.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def bytes_of(word):
    return [word[n : n + 1] for n in range(len(word))]


def learned(words, steps, times=None, tie=min, from_left=True, join=True, cut=bytes_of):
    """The pairs that byte pair encoding learns, or one that makes a mistake."""
    parts, found = {word: cut(word) for word in words}, []
    for _ in range(steps):
        counts = Counter()
        for word, line in parts.items():
            for pair in pairwise(line):
                counts[pair] += words[word] if times is None else times
        left = {pair: n for pair, n in counts.items() if join or pair not in found}
        if not left:
            break
        found.append(tie(pair for pair, n in left.items() if n == max(left.values())))
        if join:
            parts = {word: joined(line, found[-1], from_left) for word, line in parts.items()}
    return found


def joined(parts, pair, from_left):
    line, out = parts if from_left else [part[::-1] for part in reversed(parts)], []
    wanted = pair if from_left else (pair[1][::-1], pair[0][::-1])
    for part in line:
        if out and out[-1] == [wanted[0]] and part == wanted[1]:
            out[-1] = [wanted[0], part]
        else:
            out.append([part])
    out = [b"".join(piece) for piece in out]
    return out if from_left else [part[::-1] for part in reversed(out)]


def repeated(ids, grids, pad, count=lambda grid: math.prod(grid) // 4, order=1):
    counts = iter([count(grid) for grid in grids.tolist()][::order])
    return np.array([id for token in ids.tolist() for id in [token] * (next(counts) if token == pad else 1)])


def moment(k, tick):
    return int(np.float32(k) * np.float32(tick))


def cells(grid, tick, start, time=moment, order=(0, 1, 2), shift=(1, 1, 1)):
    places = [(time(k, tick), r, c) for k in range(grid[0]) for r in range(grid[1] // 2) for c in range(grid[2] // 2)]
    return np.array(places)[:, list(order)].T + start * np.array(shift)[:, None]


def offset(grids, ticks, plus=1, cells_of=4, largest=lambda k, r, c: max(k, r, c), last=1):
    return sum(largest(int((t - last) * tick), h // 2 - 1, w // 2 - 1) + plus - t * h * w // cells_of
               for (t, h, w), tick in zip(grids, ticks, strict=True))


def collect(q, keys, values, partner=(0, 0, 1, 1), scale=True, shift=True):
    scores = np.einsum("ae,rae->ar", q, keys[:, list(partner)]) / (q.shape[1] ** 0.5 if scale else 1)
    shares = softmax(scores) if shift else np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return np.einsum("ar,rae->ae", shares, values[:, list(partner)])


def grown(keys, k):
    return np.concatenate([keys, k[None]])


def after(q, k, v, keys, values, **options):
    keys, values = grown(keys, k), grown(values, v)
    return collect(q, keys, values, **options), keys, values


def in_place(q, k, v, keys, values):
    result = after(q, k, v, keys, values)
    keys += 1
    return result


def pushed(scores, seen, r, low=lambda z, r: z * r, high=lambda z, r: z / r):
    return np.array([(low if z < 0 else high)(z, r) if id in seen else z for id, z in enumerate(scores)])


def pushed_each_time(scores, prompt, answer, r):
    for id in [*prompt, *answer]:
        scores = pushed(scores, [id], r)
    return scores


def pushed_in_place(scores, prompt, answer, r):
    scores[:] = pushed(scores, {*prompt, *answer}, r)
    return scores


def kept(scores, p, shift=True):
    shares = softmax(scores) if shift else np.exp(scores) / np.exp(scores).sum()
    order = np.argsort(-shares)
    return order[: np.searchsorted(np.cumsum(shares[order]), p) + 1]


RIGHT = [           # loops, lists, einsum, padding by blocks
    ("learn_pairs", learned),
    ("make_room", repeated),
    ("make_room", lambda ids, grids, pad: np.concatenate([np.zeros(0, int), *(
        np.full(n, id) for id, n in zip(ids, np.where(ids == pad, 0, 1) + np.bincount(
            np.flatnonzero(ids == pad), grids.prod(axis=1) // 4, len(ids)).astype(int), strict=True))])),
    ("cells_of", cells),
    ("cells_of", lambda grid, tick, start: np.stack(np.meshgrid(
        np.floor(np.arange(grid[0]) * tick), np.arange(grid[1] // 2), np.arange(grid[2] // 2), indexing="ij"),
        axis=0).reshape(3, -1) + start),
    ("offset_of", offset),
    ("offset_of", lambda grids, ticks: int(sum(cells(g, t, 0).max() + 1 - cells(g, t, 0).shape[1]
                                               for g, t in zip(grids, ticks, strict=True)))),
    ("attend_next", after),
    ("attend_next", lambda q, k, v, keys, values: [
        [softmax(grown(keys, k)[:, h // 2] @ q[h] / 3**0.5) @ grown(values, v)[:, h // 2] for h in range(4)],
        [*keys, k], [*values, v]]),
    ("push_down", lambda scores, prompt, answer, r: pushed(scores, {*prompt, *answer}, r)),
    ("push_down", lambda scores, prompt, answer, r: [
        min(z * r, z / r) if id in prompt or id in answer else z for id, z in enumerate(scores.tolist())]),
    ("nucleus", kept),
    ("nucleus", lambda z, p: sorted(range(len(z)), key=lambda i: -z[i])[: 1 + sum(
        np.cumsum(np.sort(softmax(z))[::-1]) < p)]),
]

MISTAKES = [
    ("learn_pairs", lambda words, steps: learned(words, steps, times=1), "counts each word once"),
    ("learn_pairs", lambda words, steps: learned(words, steps, tie=max), "of equals take the smaller"),
    ("learn_pairs", lambda words, steps: learned(words, steps, join=False), "must be joined in all words"),
    ("learn_pairs", lambda words, steps: learned(words, steps, from_left=False), "joined from the left"),
    ("learn_pairs", lambda words, steps: [a + b for a, b in learned(words, steps)], "a pair of bytes"),
    ("learn_pairs", lambda words, steps: learned(words, 1) * steps, "yours gives"),
    ("learn_pairs", lambda words, steps: {1: 2}, "not dict"),
    ("learn_pairs", lambda words, steps: learned(words, steps) + [(b"", b"")] * (steps > 4), "ends after it"),
    ("learn_pairs", lambda words, steps: learned(words, steps, cut=lambda word: [
        char.encode() for char in word.decode()]), "an accented e has two"),
    ("learn_pairs", lambda words, steps: learned(words, min(steps, 5)), "step 6 should be .*missing"),
    ("make_room", lambda ids, grids, pad: repeated(ids, grids, pad, math.prod), "counts patches"),
    ("make_room", lambda ids, grids, pad: repeated(ids, grids, pad, lambda g: g[1] * g[2] // 4),
     "leaves out the time"),
    ("make_room", lambda ids, grids, pad: repeated(ids, grids, pad, order=-1), "from the last to the first"),
    ("make_room", lambda ids, grids, pad: np.repeat(ids, [6, 6, 6, 4, 4]), "raised ValueError"),
    ("make_room", lambda ids, grids, pad: [id for n, id in enumerate(ids) for _ in range(
        grids[max(list(ids[: n + 1]).count(pad) - 1, 0)].prod() // 4 if len(grids) else 1)], "every id"),
    ("make_room", lambda ids, grids, pad: np.repeat(ids, [1, 6, 1, 1, 1]), "raised ValueError"),
    ("make_room", lambda ids, grids, pad: [id for n, id in enumerate(ids) for _ in range(
        grids[0].prod() // 4 if id == pad and pad not in ids[:n] else 1)], "first pad only"),
    ("make_room", lambda ids, grids, pad: ids, "nothing is repeated"),
    ("make_room", lambda ids, grids, pad: np.sort(repeated(ids, grids, pad)), "in the wrong order"),
    ("make_room", lambda ids, grids, pad: repeated(ids, grids, pad) if len(grids) else ids[:0], "it should be .1."),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, 0), "starts at 0"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, shift=(1, 0, 0)), "to the time only"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, time=lambda k, tick: k), "`ticks` is ignored"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, time=lambda k, t: k * int(t)),
     "floor `ticks` before the product"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, time=lambda k, tick: k * tick), "whole numbers"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, time=lambda k, t: round(k * t)), "you round t"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start, order=(0, 2, 1)), "rows and columns are swapped"),
    ("cells_of", lambda grid, tick, start: cells(
        grid, tick, start, time=lambda k, tick: int((start + k) * tick) - start),
     "multiplies `start`"),
    ("cells_of", lambda grid, tick, start: np.floor(tick * cells(grid, 1, 0)) + start, "to the time alone"),
    ("cells_of", lambda grid, tick, start: cells((grid[0], 2 * grid[1], 2 * grid[2]), tick, start), "it should be"),
    ("cells_of", lambda grid, tick, start: cells(grid, tick, start) + (start == 7), "too large by 1"),
    ("offset_of", lambda grids, ticks: -offset(grids, ticks), "turn the sign round"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, plus=0), "plus one"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, cells_of=1), "counts patches"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, largest=lambda k, r, c: max(r, c)),
     "leaves out the time"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, largest=lambda k, r, c: max(k, min(r, c))),
     "the shorter"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, largest=lambda k, r, c: k + r + c), "not their sum"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks, last=0), "5 \\* tick"),
    ("offset_of", lambda grids, ticks: offset(grids, np.sign(ticks)), "counts pairs"),
    ("offset_of", lambda grids, ticks: offset(grids, np.ceil(ticks)), "times 0 0 1 2"),
    ("offset_of", lambda grids, ticks: offset(grids[:1], ticks[:1]), "several add up"),
    ("offset_of", lambda grids, ticks: float(offset(grids, ticks)), "one integer"),
    ("offset_of", lambda grids, ticks: offset(grids, ticks) + 1, "the offset is 0"),
    ("attend_next", lambda q, k, v, keys, values: (collect(q, keys, values), grown(keys, k), grown(values, v)),
     "itself too"),
    ("attend_next", lambda *args: after(*args, partner=(0, 1, 0, 1)), "dealt out in turn .a % k"),
    ("attend_next", lambda *args: after(*args, partner=(0, 0, 0, 0)), "head 0"),
    ("attend_next", lambda *args: after(*args, scale=False), "scores are divided by sqrt"),
    ("attend_next", lambda *args: after(*args, shift=False), "overflow"),
    ("attend_next", in_place, "changes its input keys"),
    ("attend_next", lambda *args: after(*args)[0], "tuple of 3 arrays"),
    ("attend_next", lambda q, k, v, keys, values: (after(q, k, v, keys, values)[0], keys, values), "it should be"),
    ("attend_next", lambda q, k, v, keys, values: (q, [k, *keys], [v, *values]), "stands first"),
    ("attend_next", lambda q, k, v, keys, values: (q, grown(keys, k), grown(values, k)), "cache of values"),
    ("attend_next", lambda q, k, v, keys, values: (q, grown(keys, v), grown(values, v)),
     "put into the cache of keys"),
    ("attend_next", lambda q, k, v, keys, values: (q, grown(keys, k), grown(values, v + 1)),
     "is the argument q, unchanged"),
    ("attend_next", lambda q, k, v, keys, values: (np.repeat(v, 2, 0), [*keys, k], [*values, v]), "itself only"),
    ("attend_next", lambda q, k, v, keys, values: (after(q, k, k, keys, keys)[0], grown(keys, k), grown(values, v)),
     "sum keys where values belong"),
    ("attend_next", lambda q, k, v, keys, values: (q, grown(keys, k), grown(values, v)),
     "is the argument q, unchanged"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, {*prompt, *answer}, r, low=lambda z, r: z / r),
     "multiplied"),
    ("push_down", pushed_each_time, "punished twice"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, answer, r), "the prompt is forgotten"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, prompt, r), "the answer is forgotten"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, {*prompt, *answer}, 1 / r), "the two cases are swapped"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, range(5), r), "only ids that were seen"),
    ("push_down", lambda z, prompt, answer, r: pushed(
        z, {*prompt, *answer}, r, lambda z, r: z - r, lambda z, r: z - r), "the penalty is subtracted"),
    ("push_down", pushed_in_place, "work on a copy"),
    ("push_down", lambda z, prompt, answer, r: pushed(pushed(z, {*prompt}, r), {*answer}, r),
     "in the prompt and in the answer"),
    ("push_down", lambda z, prompt, answer, r: z / r, "first wrong"),
    ("push_down", lambda z, prompt, answer, r: z[:2], "it should be"),
    ("push_down", lambda z, prompt, answer, r: pushed(z, {*prompt, *answer} or {0}, r), "first wrong"),
    ("nucleus", lambda z, p: kept(z, p)[:-1], "reaches p belongs"),
    ("nucleus", lambda z, p: np.sort(kept(z, p))[::-1], "likeliest first"),
    ("nucleus", lambda z, p: [3, 0, 2], "it should be"),
    ("nucleus", lambda z, p: np.argsort(z)[: len(kept(z, p))], "least likely"),
    ("nucleus", lambda z, p: kept(z, p + 0.2), "it should be"),
    ("nucleus", lambda z, p: np.arange(len(kept(z, p))), "places in the sorted row"),
    ("nucleus", lambda z, p: softmax(z), "whole numbers|it should be"),
    ("nucleus", lambda z, p: kept(z, p, shift=False), "overflow"),
    ("nucleus", lambda z, p: kept(z, p)[: 9 if p > 0.5 else 0], "it should be"),
    ("nucleus", lambda z, p: kept(z, min(p, 0.7)), "it should be"),
    ("nucleus", lambda z, p: kept(z, min(p, 0.9)), "it should be"),
    ("nucleus", lambda z, p: [0, 3], "does not depend on scores or p"),
]


def number_of(name):
    (number,) = [key for key, asked in exercises.EXERCISES.items() if asked.name == name]
    return number


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_check_takes_a_right_answer_in_any_style(name, answer):
    minivl.check(number_of(name), answer)


@pytest.mark.parametrize(("name", "answer", "remark"), MISTAKES)
def test_a_check_names_the_usual_mistake(name, answer, remark):
    number = number_of(name)
    with pytest.raises(AssertionError, match=f"(?i)exercise {number}: .*(?:{remark})"), np.errstate(all="ignore"):
        minivl.check(number, answer)

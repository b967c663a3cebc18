"""The checks of lesson 9: the prompt."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .filing import array, exercise


@exercise("9.1", "a list of pairs of bytes")
def learn_pairs(mine):
    def learned(words: dict[bytes, int], steps: int) -> list[tuple[bytes, bytes]]:
        got = mine(dict(words), steps)
        assert isinstance(got, list | tuple), f"a list of pairs should come out, not {type(got).__name__}"
        return [_pair(pair) for pair in got]

    got = learned({b"ab": 2, b"cd": 2}, 1)
    assert got != [(b"c", b"d")], "(a, b) and (c, d) come twice each: of equals take the smaller one, (a, b)"
    got = learned({b"xy": 5, b"ab": 1, b"abc": 1}, 1)
    assert got != [(b"a", b"b")], (
        "the word xy comes 5 times, so its pair counts 5; yours counts each word once and takes (a, b)")
    got = learned({b"aab": 2, b"ab": 1}, 2)
    assert got != [(b"a", b"b"), (b"a", b"a")], (
        "after a step the pair must be joined in all words before pairs are counted again: aab is then a, ab")
    assert got == [(b"a", b"b"), (b"a", b"ab")], (
        f"two steps on aab (twice) and ab (once) give (a, b), then (a, ab); yours gives {_said(got)}")
    got = learned({b"aaa": 1}, 2)
    assert got != [(b"a", b"a"), (b"a", b"aa")], "pairs are joined from the left: a a a becomes aa a"
    assert got == [(b"a", b"a"), (b"aa", b"a")], (
        f"two steps on aaa give (a, a), then (aa, a); yours gives {_said(got)}")
    got = learned({b"ab": 1}, 5)
    assert got == [(b"a", b"b")], f"ab has one pair only, so the list ends after it; yours has {len(got)}: {_said(got)}"
    word = "\N{LATIN SMALL LETTER E WITH ACUTE}".encode()
    assert learned({word: 1}, 1) == [(word[:1], word[1:])], "parts are single bytes at first: an accented e has two"
    draw = np.random.default_rng(9)
    words = {bytes(draw.choice(list(b"abc"), 5).tolist()): int(draw.integers(1, 9)) for _ in range(12)}
    got, wanted = learned(words, 8), _learned(words, 8)
    first = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    assert got == wanted, (f"right on small examples; on {words} step {first + 1} should be "
                           f"{_said(wanted[first : first + 1])}, yours is {_said(got[first : first + 1]) or 'missing'}")


def _pair(pair: Any) -> tuple[bytes, bytes]:
    assert isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, bytes) for part in pair), (
        f"each item should be a pair of bytes, such as (b'a', b'b'); one of yours is {pair!r}")
    return pair[0], pair[1]


def _said(pairs: list[tuple[bytes, bytes]]) -> str:
    return ", ".join(f"({a.decode('latin-1')}, {b.decode('latin-1')})" for a, b in pairs)


def _learned(words: dict[bytes, int], steps: int) -> list[tuple[bytes, bytes]]:
    """The definition, as texts: parts are separated by a bar, and a pair is joined by taking its bar out."""
    cut = {"|" + "|".join(word.decode()) + "|": times for word, times in words.items()}
    found = []
    for _ in range(steps):
        parts = [text.strip("|").split("|") for text in cut]
        pairs = sorted({pair for line in parts for pair in pairwise(line)})
        if not pairs:
            break
        counts = [sum(times * sum(pair == two for two in pairwise(line))
                      for line, times in zip(parts, cut.values(), strict=True)) for pair in pairs]
        a, b = pairs[int(np.argmax(counts))]                       # argmax takes the first of equals: the smallest
        cut = {text.replace(f"|{a}|{b}|", f"|{a}{b}|").replace(f"|{a}|{b}|", f"|{a}{b}|"): times
               for text, times in cut.items()}
        found.append((a.encode(), b.encode()))
    return found


@exercise("9.2", "an array of ids")
def make_room(mine):
    ids, grids, pad = np.array([5, 9, 6, 9, 7]), np.array([[1, 4, 6], [2, 2, 4]]), 9
    got = np.asarray(mine(ids.copy(), grids.copy(), pad))
    wanted = [5] + 6 * [9] + [6] + 4 * [9] + [7]
    lengths = {"yours counts patches; four of them, a cell, are one visual token": 3 + 24 + 16,
               "yours leaves out the time: the second one has two pairs of frames": 3 + 6 + 2,
               "yours repeats the first pad only": 4 + 6,
               "yours repeats every id, words too": 6 + 6 + 6 + 4 + 4}
    for remark, length in lengths.items():
        assert got.shape != (length,), remark
    got = array(got, (13,), "two pictures of 6 and 4 cells among 3 words")
    assert got.tolist() != [5] + 4 * [9] + [6] + 6 * [9] + [7], (
        "the pictures are exchanged: the first pad belongs to the first grid")
    assert got.tolist() == wanted, f"should be {wanted}, yours is {got.tolist()}"
    text = np.array([3, 1, 2])
    assert np.asarray(mine(text, np.zeros((0, 3), int), 9)).tolist() == [3, 1, 2], "without a picture nothing changes"

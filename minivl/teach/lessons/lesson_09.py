"""The exercise of lesson 9 that is no stage: learning byte pairs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from .filing import Trial, trials

Pairs = list[tuple[bytes, bytes]]


def pairs_of_bytes(value: Any, wanted: Any) -> Pairs:
    assert isinstance(value, list | tuple), f"a list of pairs should come out, not {type(value).__name__}"
    for pair in value:
        assert isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, bytes) for part in pair), (
            f"each item should be a pair of bytes, such as (b'a', b'b'); one of yours is {pair!r}")
    return [(a, b) for a, b in value]


def learned(words: dict[bytes, int], steps: int) -> Pairs:
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


def first_wrong_step(got: Pairs, wanted: Pairs) -> str:
    n = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    return (f"right on small examples; on twelve words of a, b, c step {n + 1} should be {wanted[n : n + 1]}, yours is "
            f"{got[n : n + 1] or 'missing'}")


@trials("9.1", "a list of pairs of bytes", pairs_of_bytes)
def learn_pairs() -> Iterator[Trial]:
    a, b, ab, aa = b"a", b"b", b"ab", b"aa"
    yields = "the pairs are {wanted}; yours gives {got}"
    yield Trial(({b"ab": 2, b"cd": 2}, 1), [(a, b)], yields, {
        "(a, b) and (c, d) come twice each: of equals take the smaller one, (a, b)": [(b"c", b"d")]})
    yield Trial(({b"xy": 5, b"ab": 1, b"abc": 1}, 1), [(b"x", b"y")], yields, {
        "the word xy comes 5 times, so its pair counts 5; yours counts each word once and takes (a, b)": [(a, b)]})
    yield Trial(({b"aab": 2, b"ab": 1}, 2), [(a, b), (a, ab)], f"two steps on aab (twice) and ab (once): {yields}", {
        "after a step the pair must be joined in all words before pairs are counted again: aab is then a, ab":
            [(a, b), (a, a)]})
    yield Trial(({b"aaa": 1}, 2), [(a, a), (aa, a)], f"two steps on aaa: {yields}", {
        "pairs are joined from the left: a a a becomes aa a": [(a, a), (a, aa)]})
    yield Trial(({b"ab": 1}, 5), [(a, b)], "ab has one pair only, so the list ends after it; yours is {got}")
    word = "\N{LATIN SMALL LETTER E WITH ACUTE}".encode()
    yield Trial(({word: 1}, 1), [(word[:1], word[1:])], "parts are single bytes at first: an accented e has two")
    draw = np.random.default_rng(9)
    words = {bytes(draw.choice(list(b"abc"), 5).tolist()): int(draw.integers(1, 9)) for _ in range(12)}
    yield Trial((words, 8), learned(words, 8), first_wrong_step)

"""The exercises about tokens, and about boxes in an answer: lessons 0, 9 and 12."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ... import api
from .filing import Trial, array, trials

# ---- lesson 0

def ids_and_probabilities(value: Any, wanted: Any) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(value, tuple) and len(value) == 2, "return two arrays: ids, probabilities"
    ids, p = map(np.asarray, value)
    assert ids.shape == (2,), f"n = 2 asks for ids of shape (2,), yours have {ids.shape}"
    assert ids.tolist() == wanted[0], f"the most likely ids are {wanted[0]}; yours are {ids.tolist()}"
    assert p.shape == (2,) and p.dtype.kind in "fiu", (
        f"two ids need two probabilities, theirs; yours have shape {p.shape} and are {p.dtype}")
    return ids, p


@trials("0.1", "two arrays: ids and probabilities", ids_and_probabilities)
def top_tokens() -> Iterator[Trial]:
    said = "ids and probabilities should be {wanted}, yours are {got}"
    yield Trial((np.log([1.0, 5.0, 4.0]), 2), ([1, 2], [0.5, 0.4]), said, {
        "your probabilities sum to one over the n tokens; they should over the whole "
        "row": ([1, 2], [5 / 9, 4 / 9])})
    yield Trial((np.array([1000.0, 999.0]), 2), ([0, 1], [0.7310586, 0.2689414]), said, {
        "scores of 1000 give NaN: exp overflows; subtract the largest score "
        "first": ([0, 1], [np.nan, np.nan])})


def token_ids(value: Any, wanted: Any) -> list[int]:
    assert isinstance(value, list | tuple | np.ndarray), (
        f"return a list of ids, one integer a token, not {type(value).__name__}")
    odd = [token for token in value if not isinstance(token, int | np.integer)]
    assert not odd, f"each id should be an integer, one of yours is {type(odd[0]).__name__}"
    assert len(value), "your list is empty; does the loop run, and append each id?"
    return [int(token) for token in value]


def without_prompt(mine: Any, vlm: Any, inputs: Any, *rest: Any) -> Any:
    """What the student's function gives, unless it gives the prompt too."""
    ids, prompt = mine(vlm, inputs, *rest), inputs.input_ids.tolist()
    with_prompt = isinstance(ids, list) and ids[: len(prompt)] == prompt
    assert not with_prompt, "give back the new ids only, without the prompt"
    return ids


def what_differs(got: list[int], wanted: list[int]) -> str:
    n = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
    if n is not None:
        return f"token {n} should be {wanted[n]}, yours is {got[n]}; of which row is your argmax?"
    many = f"{len(got)} tokens where {len(wanted)} are right"
    early = len(got) < len(wanted)
    return many + (": yours ends too early" if early else "; do you stop after a stop id?")


@trials("0.2", "a list of ids", token_ids, without_prompt)
def write_greedily() -> Iterator[Trial]:
    vlm = api.load()
    disc = np.full((84, 112, 3), 200, np.uint8)
    disc[np.hypot(*np.ogrid[-40:44, -60:52]) < 20] = (222, 40, 40)
    content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]
    inputs, stop_ids = vlm.prepare([{"role": "user", "content": content}]), vlm.generation.eos_token_ids
    wanted = vlm.generate(inputs, max_new_tokens=20, repetition_penalty=1.0)
    yield Trial((vlm, inputs, stop_ids, 20), wanted, what_differs, {
        "all tokens are right but the stop token is missing: it belongs to the answer": wanted[:-1]})
    yield Trial((vlm, inputs, stop_ids, 2), wanted[:2],
                "with most=2 there should be two tokens, {wanted}")


# ---- lesson 9

Pairs = list[tuple[bytes, bytes]]


def pairs_of_bytes(value: Any, wanted: Any) -> Pairs:
    kind = type(value).__name__
    assert isinstance(value, list | tuple), f"a list of pairs should come out, not {kind}"
    for pair in value:
        assert isinstance(pair, list | tuple) and list(map(type, pair)) == [bytes, bytes], (
            f"each item should be a pair of bytes, such as (b'a', b'b'); one of yours is {pair!r}")
    return [(a, b) for a, b in value]


def learned(words: dict[bytes, int], steps: int) -> Pairs:
    """The definition, as texts: parts are separated by a bar, and a pair loses its bar."""
    cut = {"|" + "|".join(word.decode()) + "|": times for word, times in words.items()}
    found = []
    for _ in range(steps):
        parts = [text.strip("|").split("|") for text in cut]
        pairs = sorted({pair for line in parts for pair in pairwise(line)})
        if not pairs:
            break
        counts = [sum(times * sum(pair == two for two in pairwise(line))
                      for line, times in zip(parts, cut.values(), strict=True)) for pair in pairs]
        a, b = pairs[int(np.argmax(counts))]  # argmax takes the first of equals: the smallest
        cut = {text.replace(f"|{a}|{b}|", f"|{a}{b}|").replace(f"|{a}|{b}|", f"|{a}{b}|"): times
               for text, times in cut.items()}
        found.append((a.encode(), b.encode()))
    return found


def first_wrong_step(got: Pairs, wanted: Pairs) -> str:
    n = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b),
             min(len(got), len(wanted)))
    return (f"right on small examples; on twelve words of a, b, c step {n + 1} should be "
            f"{wanted[n : n + 1]}, yours is {got[n : n + 1] or 'missing'}")


@trials("9.1", "a list of pairs of bytes", pairs_of_bytes)
def learn_pairs() -> Iterator[Trial]:
    a, b, ab, aa = b"a", b"b", b"ab", b"aa"
    yields = "the pairs are {wanted}; yours gives {got}"
    yield Trial(({b"ab": 2, b"cd": 2}, 1), [(a, b)], yields, {
        "(a, b) and (c, d) come twice each: of equals take the smaller one, (a, b)": [(b"c", b"d")]})
    yield Trial(({b"xy": 5, b"ab": 1, b"abc": 1}, 1), [(b"x", b"y")], yields, {
        "the word xy comes 5 times, so its pair counts 5; yours counts each word once and takes (a, "
        "b)": [(a, b)]})
    yield Trial(({b"aab": 2, b"ab": 1}, 2), [(a, b), (a, ab)],
                f"two steps on aab (twice) and ab (once): {yields}", {
        "after a step the pair must be joined in all words before pairs are counted again: aab is then "
        "a, ab":
            [(a, b), (a, a)]})
    yield Trial(({b"aaa": 1}, 2), [(a, a), (aa, a)], f"two steps on aaa: {yields}", {
        "pairs are joined from the left: a a a becomes aa a": [(a, a), (a, aa)]})
    yield Trial(({b"ab": 1}, 5), [(a, b)],
                "ab has one pair only, so the list ends after it; yours is {got}")
    word = "\N{LATIN SMALL LETTER E WITH ACUTE}".encode()
    yield Trial(({word: 1}, 1), [(word[:1], word[1:])],
                "parts are single bytes at first: an accented e has two")
    draw = np.random.default_rng(9)
    words = {bytes(draw.choice(list(b"abc"), 5).tolist()): int(draw.integers(1, 9)) for _ in range(12)}
    yield Trial((words, 8), learned(words, 8), first_wrong_step)


# ---- lesson 12

def counted(a: list[int], b: list[int]) -> float:
    """IoU of two boxes of whole numbers, by counting squares."""
    one, other = ({(x, y) for x in range(x0, x1) for y in range(y0, y1)} for x0, y0, x1, y1 in (a, b))
    return len(one & other) / len(one | other) if one | other else 0.0


def finite(value: Any, wanted: Any) -> np.ndarray:
    table = array(value, wanted)
    assert np.isfinite(table).all(), "a box without area gives NaN: 0 / 0; IoU with nothing is 0"
    return table


def first_wrong_pair(a: list, b: list, got: np.ndarray, wanted: np.ndarray) -> str:
    n, m = np.argwhere(~np.isclose(got, wanted))[0]
    return f"{a[n]} and {b[m]} have IoU {wanted[n, m]:.4f}, yours says {got[n, m]:.4f}"


@trials("12.1", "an array (n, m)", finite)
def iou() -> Iterator[Trial]:
    box = [0, 0, 4, 2]
    yield Trial((np.array([box]), np.array([box])), [[1]],
                "a box with itself has IoU 1, yours says {got}", {
        "yours divides by both areas; what is shared is in both, and counts once": [[1 / 2]],
        "that is the shared area; divide it by the area that at least one covers": [[8]]})
    # shared 2 x 1 = 2, areas 8 and 12
    yield Trial((np.array([box]), np.array([[2, 1, 6, 4]])), [[2 / 18]],
                "two boxes that share 2 of 18 should give {wanted}, yours is {got}", {
        "yours divides by one box's area; divide by what either of them covers": [[2 / 8]],
        "yours divides by one box's area, the second's; divide by what either of them "
        "covers": [[2 / 12]],
        "yours adds 1 to each side: borders are distances, 0 to 4 is 4 wide": [[6 / 29]]})
    yield Trial((np.array([box]), np.array([[6, 6, 8, 8]])), [[0]],
                "boxes that are apart both ways have IoU 0, yours says {got}: two negative sides make "
                "an area; cut each at 0 before multiplying")
    for a, b in (([box, [10, 10, 12, 14]], [[2, 1, 6, 4], box, [6, 6, 8, 8]]), many()):
        wanted = np.array([[counted(one, other) for other in b] for one in a])
        yield Trial((np.array(a), np.array(b)), wanted, partial(first_wrong_pair, a, b))


def many() -> tuple[list, list]:
    """Five boxes and six; some are empty."""
    corners = np.random.default_rng(12).integers(0, 9, (2, 5, 2, 2))
    a, b = np.sort(corners, axis=2).reshape(2, 5, 4).tolist()                  # x0 <= x1, y0 <= y1
    return a, [*b, [3, 3, 3, 7]]


def whatever_comes(mine: Callable, answer: str) -> Any:
    try:
        return mine(answer)
    except Exception as error:
        raise AssertionError(f"{answer!r} raises {type(error).__name__}: {error}; give what is "
                             f"complete, whatever comes"
                             ) from error


def labels_and_numbers(value: Any, wanted: Any) -> list[tuple[str, list]]:
    assert isinstance(value, list), f"a list should come out, not {type(value).__name__}"
    odd = [found for found in value if not (isinstance(found, tuple | list) and len(found) == 2)]
    assert not odd, f"each entry is (label, numbers), one of yours is {odd[0]!r}"
    kinds = {type(n).__name__ for _, numbers in value for n in numbers} - {"int"}
    assert not kinds, f"numbers should be int, yours are {', '.join(kinds)}"
    return [(label, list(numbers)) for label, numbers in value]


def what_is_complete(what: str, got: list, wanted: list) -> str:
    many = f"{what}: {len(wanted)} complete, you give {len(got)}"
    if len(got) > len(wanted):
        return f"{many}: {got[-1]}. What is not closed may go on: the next digit makes another number"
    return many if len(got) < len(wanted) else f"{what}: should be {wanted}, yours is {got}"


@trials("12.2", "a list of (label, four numbers)", labels_and_numbers, whatever_comes)
def read_boxes() -> Iterator[Trial]:
    one = '{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}'
    two = '{"bbox_2d": [7, 9, 110, 40], "label": "bar"}'
    first, second = ("red circle", [12, 30, 60, 88]), ("bar", [7, 9, 110, 40])
    whole = f"[{one}, {two}]"
    for answer, wanted, what in [
            (f"[{one}]", [first], "one whole box"), (whole, [first, second], "two whole boxes"),
            ("There is no red circle.", [], "an answer without a box"), ("", [], "an empty answer"),
            (f"Here it is:\n```json\n[{one}]\n```", [first], "a box behind prose, in a fence"),
            (whole[:-1], [first, second], "an answer whose last bracket is missing"),
            (whole.replace(", ", ","), [first, second], "an answer without spaces"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 11', [first], "an answer cut within a number"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40', [first],
             "an answer cut before the bracket of a box"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40], "label": "ba', [first],
             "an answer cut within a label"),
            ('[{"bbox_2d": [7, 9, 110], "label": "bar"}]', [], "a box of three numbers")]:
        yield Trial((answer,), wanted, partial(what_is_complete, what))

"""The checks of the lessons' exercises: one function for each, which says what is wrong and where.

    check("3.1", row_of_patch)      # prints "exercise 3.1: right", or raises AssertionError with a remark

Lessons call `check` and nothing else of this file, so whoever puts another checker in its place does it there. A check
knows its right answers by hand, by loops or from the reference, never from the model's passes, and tries the usual
mistakes first, so that a remark can name them. `tests/test_lessons.py` gives each of them wrong answers.

Not here: marks, and anything that stops a cheat. Read next: a lesson's cells tagged `check`, under `notebooks/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import api


class Exercise(NamedTuple):
    """The name of the function that is asked for, what it should give, and the check."""
    name: str
    gives: str
    examine: Callable[[Callable], None]


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, gives: str) -> Callable[[Callable[[Callable], None]], Callable[[Callable], None]]:
    """File a check under the number of its exercise; its name is the name of the function that is asked for."""
    def file(examine: Callable[[Callable], None]) -> Callable[[Callable], None]:
        EXERCISES[number] = Exercise(examine.__name__, gives, examine)
        return examine
    return file


def check(number: str, answer: Callable) -> None:
    """Try the answer to an exercise. Raises AssertionError, whose message begins with the exercise's number."""
    if not __debug__:
        raise RuntimeError("the checks are assertions, and this Python leaves assertions out: start it without -O")
    asked = EXERCISES[number]

    def given(*args: Any) -> Any:
        value = answer(*args)
        assert value is not None, f"{asked.name} gives None; fill it in and return {asked.gives}"
        return value

    try:
        asked.examine(given)
    except AssertionError as error:
        raise AssertionError(f"exercise {number}: {error}") from None
    print(f"exercise {number}: right")


def _array(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """An answer as an array of this shape, or a remark."""
    array = np.asarray(value)
    assert array.shape == shape, f"{what} should give the shape {shape}, yours is {array.shape}"
    return array


# ------------------------------------------------------------------------------------------------------ 0: a run

@exercise("0.1", "two arrays: ids and probabilities")
def top_tokens(mine):
    got = mine(np.log([1.0, 5.0, 4.0]), 2)
    assert isinstance(got, tuple) and len(got) == 2, "return two arrays: ids, probabilities"
    ids, p = map(np.asarray, got)
    assert ids.shape == (2,), f"n = 2 asks for ids of shape (2,), yours have {ids.shape}"
    assert ids.tolist() == [1, 2], (
        "of scores log 1, log 5, log 4 the two most likely ids are 1, 2; yours are "
        f"{ids.tolist()}")
    assert p.shape == (2,) and p.dtype.kind in "fiu", (
        f"two ids need two probabilities, theirs; yours have shape {p.shape} and are {p.dtype}")
    assert not np.allclose(p, [5 / 9, 4 / 9]), (
        "your probabilities sum to one over the n tokens; they should over the whole row")
    assert np.allclose(p, [0.5, 0.4]), (
        f"the probabilities should be 0.5 and 0.4, yours are {p.round(4).tolist()}")
    with np.errstate(all="ignore"):
        p = np.asarray(mine(np.array([1000.0, 999.0]), 2)[1])
    assert np.isfinite(p).all(), (
        "scores of 1000 give NaN: exp overflows; subtract the largest score first")
    assert np.allclose(p, [0.7310586, 0.2689414]), (
        f"scores 1000 and 999 should give 0.731 and 0.269, not {p.round(4).tolist()}")


@exercise("0.2", "a list of ids")
def write_greedily(mine):
    vlm = api.load()
    disc = np.full((84, 112, 3), 200, np.uint8)
    disc[np.hypot(*np.ogrid[-40:44, -60:52]) < 20] = (222, 40, 40)
    content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    stop_ids = vlm.generation.eos_token_ids
    wanted = vlm.generate(inputs, max_new_tokens=20, repetition_penalty=1.0)
    got = mine(vlm, inputs, stop_ids, 20)
    assert isinstance(got, list | tuple | np.ndarray), (
        f"return a list of ids, one integer a token, not {type(got).__name__}")
    got = list(got)
    odd = [token for token in got if not isinstance(token, int | np.integer)]
    assert not odd, f"each id should be an integer, one of yours is {type(odd[0]).__name__}"
    got = [int(token) for token in got]
    assert got, "your list is empty; does the loop run, and append each id?"
    assert got != wanted[:-1], (
        "all tokens are right but the stop token is missing: it belongs to the answer")
    assert got[: len(inputs.input_ids)] != inputs.input_ids.tolist(), (
        "give back the new ids only, without the prompt")
    for n, (a, b) in enumerate(zip(got, wanted, strict=False)):
        assert a == b, (
            f"token {n} should be {b} ({vlm.tokenizer.decode([b], False)!r}), yours is {a}; "
            "which row did you take the argmax of?")
    assert len(got) >= len(wanted), (
        f"{len(got)} tokens where {len(wanted)} are right: yours ends too early")
    assert len(got) == len(wanted), (
        f"{len(got)} tokens where {len(wanted)} are right; do you stop after a stop id?")
    assert len(mine(vlm, inputs, stop_ids, 2)) == 2, "with most=2 there should be two tokens"


# ----------------------------------------------------------------------------------------------------- 2: pixels

@exercise("2.1", "height and width")
def target_size(mine):
    """The wanted sizes were taken from the reference, not from minivl."""
    cases = [  # y, b, most, wanted, what it tests
        (480, 640, 12_845_056, (476, 644), "plain rounding"),
        (42, 42, 12_845_056, (56, 56), "42 / 28 = 1.5 rounds to 2"),
        (70, 70, 12_845_056, (56, 56), "70 / 28 = 2.5 rounds to 2, the even neighbour, not to 3"),
        (4000, 6000, 12_845_056, (2912, 4368), "too big: round down"),
        (1080, 1920, 1_003_520, (728, 1316), "too big under a lower limit"),
        (28, 5000, 12_845_056, (28, 5012), "long and thin"),
        (14, 14, 12_845_056, (56, 56), "rounds to 0 x 0, too small: round up from the original size"),
        (10, 30, 12_845_056, (56, 112), "too small: the scale comes from the original area"),
        (13, 100, 12_845_056, (28, 168), "a side that rounds to 0 stays 0 when the area is tested"),
    ]
    for y, b, most, wanted, reason in cases:
        got = mine(y, b, 3136, most)
        assert isinstance(got, tuple | list | np.ndarray) and np.shape(got) == (2,), (
            f"return two integers, height and width; yours is {got!r}")
        assert all(isinstance(side, int | np.integer) for side in got), (
            f"height and width should be integers, yours are {type(got[0]).__name__} and "
            f"{type(got[1]).__name__}")
        got = tuple(int(side) for side in got)
        assert got != wanted[::-1] or y == b, f"{y} x {b}: height comes first, then width"
        assert got == wanted, f"{y} x {b} should become {wanted}, yours is {got} ({reason})"


@exercise("2.2", "four numbers")
def box_to_photo(mine):
    seen, photo = (476, 644), (480, 640)
    got = mine((161, 119, 322, 238), seen, photo)
    got = np.asarray(got)
    assert got.shape == (4,), f"four numbers should come out, yours have shape {got.shape}"
    assert got.dtype.kind == "f", f"four floats should come out, yours are {got.dtype}"
    swapped = np.array([161 * 480 / 476, 119 * 640 / 644, 322 * 480 / 476, 238 * 640 / 644])
    assert not np.allclose(got, swapped), (
        "x was scaled with the height; sizes are (height, width), boxes (x, y)")
    inverse = np.array([161 * 644 / 640, 119 * 476 / 480, 322 * 644 / 640, 238 * 476 / 480])
    assert not np.allclose(got, inverse), (
        "that is the way from the photo to what the model saw; turn the factors round")
    assert np.allclose(got, [160, 120, 320, 240]), (
        f"a quarter to a half should be 160, 120, 320, 240, not {got.tolist()}")
    got = np.asarray(mine((10.5, 20.25, 30.75, 40.5), seen, photo))
    wanted = np.array([10.5 * 640 / 644, 20.25 * 480 / 476, 30.75 * 640 / 644, 40.5 * 480 / 476])
    assert np.allclose(got, wanted), (
        f"the box 10.5, 20.25, 30.75, 40.5 should become {wanted.round(3).tolist()}, yours is "
        f"{got.tolist()}" + ("; keep the fractions of a pixel" if np.array_equal(got, np.rint(got)) else ""))
    got = np.asarray(mine((-3, 0, 646, 476), seen, photo))
    assert np.allclose(got, [0, 0, 640, 480]), (
        f"a box beyond the border should be cut at 0, 0, 640, 480, yours is {got.tolist()}")


# ---------------------------------------------------------------------------------------------------- 3: patches

@exercise("3.1", "one integer")
def row_of_patch(mine):
    wide = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3), (0, 4), (0, 5), (1, 4), (1, 5),
            (2, 0), (2, 1), (3, 0), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3), (2, 4), (2, 5), (3, 4), (3, 5)]
    narrow = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    for gw, order in ((6, wide), (2, narrow)):
        got = [mine(row, col, gw) for row, col in order]
        odd = [number for number in got if not isinstance(number, int | np.integer)]
        assert not odd, (
            f"return one integer (// divides without a rest), not {type(odd[0]).__name__}")
        wrong = [n for n, number in enumerate(got) if number != n]
        if wrong:
            row, col = order[wrong[0]]
            said = got[wrong[0]]
            n = wrong[0]
            mistakes = [  # what a mistake would give for all patches, and the remark about it
                ([r * gw + c for r, c in order], "that is raster order"),
                ([4 * (m // 4) + [0, 2, 1, 3][m % 4] for m in range(len(order))],
                 "inside a block, go along the row first"),
                ([4 * (r // 2 * gw + c // 2) + 2 * (r % 2) + c % 2 for r, c in order],
                 "gw counts patches, not blocks"),
                ([m // 4 + m % 4 for m in range(len(order))], "each block before it holds 4 patches"),
                ([m // 4 * 4 for m in range(len(order))], "the place inside the block is missing"),
                ([m + 1 for m in range(len(order))], "all yours are one too high; rows are counted from 0"),
                ([m - 1 for m in range(len(order))], "all yours are one too low; rows are counted from 0"),
            ]
            why = next((remark for rows, remark in mistakes if got == rows),
                       f"{n // 4} whole blocks come before its own, and {n % 4} patches of its own block")
            raise AssertionError(f"{gw} patches wide, patch ({row}, {col}) is row {wrong[0]}, "
                                 f"you say {said}: {why}")


@exercise("3.2", "the picture")
def to_picture(mine):
    for gh, gw in ((2, 2), (4, 6), (6, 2)):
        numbers = np.random.default_rng(gh).permutation(3 * 14 * gh * 14 * gw)
        wanted = numbers.reshape(3, 14 * gh, 14 * gw) + 1.0  # all different and positive
        rows = []
        for block_row, block_col, in_row, in_col in np.ndindex(gh // 2, gw // 2, 2, 2):
            y, x = 14 * (2 * block_row + in_row), 14 * (2 * block_col + in_col)
            patch = wanted[:, y : y + 14, x : x + 14]
            rows.append(np.stack([patch, -patch], axis=1).reshape(-1))  # the second frame is the negative
        got = mine(np.array(rows), gh, gw)
        got = np.asarray(got)
        assert got.shape == wanted.shape, (f"a grid of {gh} x {gw} should give {wanted.shape}, "
                                           f"yours has {got.shape}")
        assert not np.array_equal(got, -wanted), (
            "that is the second frame; take the first, t = 0")
        bad = np.argwhere(got != wanted)
        if len(bad):
            c, y, x = bad[0].tolist()
            at = np.argwhere(wanted == got[c, y, x])
            truth = (f"comes from {at[0].tolist()}" if len(at) == 1 else
                     "is one of the second frame's" if (wanted == -got[c, y, x]).any() else
                     f"is {got[c, y, x]:g}, a number that neither frame holds")
            raise AssertionError(f"grid {gh} x {gw}: {len(bad)} of {got.size} values are "
                                 f"wrong; the first, at (colour, row, column) {[c, y, x]}, {truth}")


# -------------------------------------------------------------------------------------------------- 4: attention

@exercise("4.1", "an array (n, e)")
def attend_masked(mine):
    q = np.array([[2.0, 0, 0, 0], [0, 0, 0, 0]])
    k = np.array([[np.log(3), 0, 0, 0], [0, 0, 0, 0], [9, 0, 0, 0]])
    v, seen = np.array([[4.0], [8.0], [100.0]]), np.array([[True, True, False], [True, False, False]])
    got = mine(q, k, v, seen)
    got = np.asarray(got)
    assert got.shape == (2, 1), (
        f"two queries and values of width 1 should give (2, 1), yours is {got.shape}")
    everything = np.ones((2, 3), bool)
    with np.errstate(all="ignore"):
        shares = np.asarray(mine(q, k, np.eye(3), everything))  # such values give the shares
    assert not np.allclose(shares.sum(axis=0), 1), (
        "your shares sum to one for each key, down the columns; they should for each query, "
        "along the rows")
    assert np.isfinite(got).all(), (
        "NaN or infinity comes out; print the scores and the powers: where does it begin?")
    hidden = np.asarray(mine(q, k, np.array([[4.0], [8.0], [0.0]]), seen))
    assert np.allclose(hidden, got), (
        "a forbidden key has a share: your result changes with its value (100, then 0)")
    # the exact answers: scores log 3 and 0 give shares 3/4 and 1/4; a single key has all of it
    assert not np.isclose(got[0, 0], (4 * 9 + 8) / 10), (
        "divide the scores by sqrt(e); the width e is 4")
    assert np.isclose(got[1, 0], 4), (f"a row that sees one key must give its value, 4, not "
                                      f"{got[1, 0]:.3g}; do the shares sum to one?")
    assert np.isclose(got[0, 0], 5), (
        f"shares 3/4 and 1/4 of 4 and 8 are 5, yours is {got[0, 0]:.3g}")
    with np.errstate(all="ignore"):
        far, far_open = (np.asarray(mine(1e4 * q, k, v, mask)) for mask in (seen, everything))
        low = np.asarray(mine(np.array([[-4e30, 0, 0, 0]]), np.eye(4)[[0, 0, 1]], v, seen[:1]))
    assert np.isfinite(far_open).all(), "large scores overflow; subtract the largest of the row"
    assert np.isfinite(far).all(), (
        "NaN where a forbidden key has by far the largest score: mask before the softmax, and "
        "take the largest after masking")
    assert np.isclose(far[0, 0], 4), (
        f"with q 10,000 times as large the first row should give 4, yours is {far[0, 0]:.3g}")
    assert np.allclose(low, 6), (
        f"two seen keys with scores of -2e30 each should give (4 + 8) / 2 = 6, yours is "
        f"{low.ravel()[0]:.3g}: no finite number is low enough for a mask; which score has the power 0?")


@exercise("4.2", "an array (n, a, e)")
def attend_grouped(mine):
    draw = np.random.default_rng(1)
    q, k = draw.standard_normal((5, 4, 3)), draw.standard_normal((7, 2, 3))
    only = np.zeros((7, 2, 3)) + np.array([10.0, 20.0])[None, :, None]  # head 0 holds tens, head 1 twenties
    got = mine(q, k, only)
    got = np.asarray(got)
    assert got.shape == (5, 4, 3), (
        f"q of (5, 4, 3) should give (5, 4, 3), yours is {got.shape}")
    partners = got.mean(axis=(0, 2)).round(6).tolist()
    assert partners != [10, 20, 10, 20], (
        "heads 0 1 2 3 read heads 0 1 0 1: that is %, it should be // : 0 0 1 1")
    assert partners == [10, 10, 20, 20], (
        f"values of heads 0 0 1 1 are 10 10 20 20, yours are {partners}")
    v = draw.standard_normal((7, 2, 3))
    got = np.asarray(mine(q, k, v))
    for head in range(4):
        powers = np.exp(q[:, head] @ k[:, head // 2].T / 3**0.5)
        wanted = powers / powers.sum(axis=1, keepdims=True) @ v[:, head // 2]
        assert np.allclose(got[:, head], wanted), (
            f"query head {head} has the right values but wrong shares; which keys are used?")


# ------------------------------------------------------------------------------------------ 1: arrays that learned

@exercise("1.1", "an array (n, o)")
def linear_map(mine):
    x, weight, bias = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1.0, 0, 0], [0, 10, 1]]), np.array([0.5, 0])
    got = _array(mine(x, weight, bias), (2, 2), "x (2, 3) and a weight (2, 3)")
    wanted = np.array([[1.5, 23], [4.5, 56]])                             # by hand: 10*2 + 1*3, 10*5 + 1*6
    assert not np.allclose(got, wanted - bias), "the bias is missing: it is added to every row"
    assert not np.allclose(got, wanted - bias + bias[:, None]), (
        "the bias was added down the columns: number o of the bias belongs to column o of every row")
    assert np.allclose(got, wanted), f"should be {wanted.tolist()}, yours is {got.tolist()}"
    square = np.array([[1.0, 2], [3, 4]])
    got = np.asarray(mine(np.eye(2), square, np.zeros(2)))
    assert not np.allclose(got, square), (
        "right here, but with a square weight yours gives x @ W: row o of the weight belongs to number o of the result")
    assert np.allclose(got, square.T), f"the rows 1 0 and 0 1 should give {square.T.tolist()}, yours {got.tolist()}"
    x, weight = np.random.default_rng(0).standard_normal((2, 4, 5))
    wanted = np.array([[sum(a * b for a, b in zip(row, line, strict=True)) for line in weight] for row in x])
    got = _array(mine(x, weight, np.zeros(4)), (4, 4), "x (4, 5) and a weight (4, 5)")
    assert np.allclose(got, wanted), "right on small numbers, but not on four random rows"


@exercise("1.2", "one number for each row")
def surprise(mine):
    logits, ids = np.log(np.array([[1.0, 2, 5], [6, 1, 1]])), np.array([2, 1])
    got = _array(mine(logits, ids), (2,), "two rows and two ids")
    wanted = -np.log([5 / 8, 1 / 8])                                      # the rows sum to 8
    assert not np.allclose(got, np.exp(-wanted)), "those are the probabilities; the surprise is minus their logarithm"
    assert not np.allclose(got, -wanted), "the sign: a probability is at most 1, so its logarithm is at most 0"
    assert not np.allclose(got, wanted / np.log(2)), "that is log2; take the natural logarithm, np.log"
    assert not np.allclose(got, -logits[[0, 1], ids]), "those are logits; softmax makes probabilities of them first"
    assert not np.allclose(got, -np.log([5 / 8, 6 / 8])), (
        "that is about the likeliest token of each row; take the token that really came, ids[i]")
    assert np.allclose(got, wanted), (
        f"5 of 8 and 1 of 8 give {wanted.round(4).tolist()}, yours is {got.round(4).tolist()}")
    with np.errstate(all="ignore"):
        far = np.asarray(mine(np.array([[1000.0, 0.0], [1000.0, 0.0]]), np.array([0, 1])))
    assert np.isfinite(far).all(), (
        "logits of 1000 and 0 give NaN or infinity: subtract the largest, and never take the log of a probability that "
        "has become 0: log p = (z - max) - log(sum(exp(z - max)))")
    assert np.allclose(far, [0, 1000]), f"logits of 1000 and 0 should give 0 and 1000, yours are {far.tolist()}"


# --------------------------------------------------------------------------------------------------- 5: windows

def _windows_by_loops(rows: int, columns: int, side: int) -> list[list[int]]:
    """The cells of each window, numbered as one reads."""
    return [[r * columns + c for r in range(top, min(top + side, rows)) for c in range(left, min(left + side, columns))]
            for top in range(0, rows, side) for left in range(0, columns, side)]


@exercise("5.1", "the cell numbers, window after window")
def cells_by_window(mine):
    for rows, columns, side in ((4, 4, 2), (2, 6, 2), (3, 5, 2), (5, 7, 4), (1, 1, 4)):
        wanted = np.concatenate(_windows_by_loops(rows, columns, side))
        where = f"{rows} x {columns} cells, windows of {side}"
        got = _array(mine(rows, columns, side), (rows * columns,), where)
        assert got.dtype.kind in "iu", f"cell numbers are integers, yours are {got.dtype}"
        assert sorted(got.tolist()) == list(range(rows * columns)), (
            f"{where}: every cell should come exactly once; yours repeats or leaves out some. In the last row or "
            "column of windows there are fewer cells, and nothing is put in their place")
        assert not (got == np.argsort(wanted)).all() or (wanted == np.argsort(wanted)).all(), (
            f"{where}: yours is the inverse: it says for each cell at which place it comes; asked is which cell comes "
            "at each place")
        turned = np.concatenate(_windows_by_loops(columns, rows, side))     # the same, read downwards
        downwards = turned % rows * columns + turned // rows
        assert not (got == downwards).all() or (wanted == downwards).all(), (
            f"{where}: yours goes down first; windows and cells are read along rows")
        bad = np.flatnonzero(got != wanted)
        assert not len(bad), f"{where}: place {bad[0]} should hold cell {wanted[bad[0]]}, yours holds {got[bad[0]]}"


@exercise("5.2", "one integer")
def pairs_in_windows(mine):
    for rows, columns, side in ((4, 4, 4), (4, 6, 4), (5, 7, 4), (1, 9, 4), (2, 2, 4), (17, 23, 4)):
        where = f"{rows} x {columns} cells, windows of {side}"
        sizes = [len(cells) for cells in _windows_by_loops(rows, columns, side)]
        wanted = sum((4 * size) ** 2 for size in sizes)
        got = mine(rows, columns, side)
        assert isinstance(got, int | np.integer), f"{where}: one integer should come out, not {type(got).__name__}"
        assert got != sum(size**2 for size in sizes), f"{where}: yours counts cells; each cell is 4 patches, each a row"
        assert got != (4 * rows * columns) ** 2 or got == wanted, (
            f"{where}: that is without windows; square each window's patches, then add")
        assert got != len(sizes) * (4 * side * side) ** 2 or got == wanted, (
            f"{where}: yours counts every window as a whole one; those at the right and lower edge are smaller")
        assert got == wanted, f"{where}: {wanted:,} pairs of patches, you say {got:,}"


# ---------------------------------------------------------------------------------------------------- 6: rotary

@exercise("6.1", "an array (e,)")
def turn(mine):
    row, angles = np.array([1.0, 2, 3, 4]), np.array([math.pi / 2, 0])
    got = _array(mine(row, angles), (4,), "a row of 4 and 2 angles")
    wanted = np.array([-3.0, 2, 1, 4])                         # (1, 3) by 90 degrees is (-3, 1); (2, 4) stays
    assert not np.allclose(got, [-2, 1, 3, 4]), (
        "yours turns neighbours, (0, 1) and (2, 3); here pair i is made of numbers i and i + e/2: (0, 2) and (1, 3)")
    assert not np.allclose(got, [3, 2, -1, 4]), "yours turns the other way round: look at the two signs of the sine"
    assert not np.allclose(got, [-3, 2, -1, 4]), "both sines have a minus in yours; only the first may"
    assert not np.allclose(got, [3, 2, 1, 4]), "one of the sines must have a minus, or the length of the pair changes"
    assert np.allclose(got, wanted), f"1 2 3 4 turned by 90 and 0 degrees is -3 2 1 4, yours is {got.round(3).tolist()}"
    row, angles = np.random.default_rng(2).standard_normal(6), np.array([0.3, -1.1, 2.0])
    turned = (row[:3] + 1j * row[3:]) * np.exp(1j * angles)    # a complex number turns by a product
    got = np.asarray(mine(row, angles))
    assert np.isclose((got**2).sum(), (row**2).sum()), "the length of the row has changed; turning keeps it"
    assert np.allclose(got, np.concatenate([turned.real, turned.imag])), (
        "right for 90 degrees, wrong for 0.3, -1.1 and 2 radians; does each pair get its own angle?")


@exercise("6.2", "an array (n, width / 2)")
def angles_2d(mine):
    at, width, base = np.array([[1, 0], [0, 1], [2, 3]]), 8, 10000.0
    got = _array(mine(at, width), (3, 4), "three places and a width of 8")
    speed = np.array([1.0, 0.01])                              # base^0 and base^(-2/4): there are width/4 = 2
    wanted = np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1)
    swapped = np.concatenate([at[:, 1:] * speed, at[:, :1] * speed], axis=1)
    mixed = (at[:, None, :] * speed[:, None]).reshape(3, 4)
    one = base ** (-np.arange(0, 4, 2) / width)
    slow = np.concatenate([at[:, :1] * one, at[:, 1:] * one], axis=1)
    assert not np.allclose(got, swapped), "yours has the columns first; the first half of the angles counts rows"
    assert not np.allclose(got, mixed), "yours mixes them; first all angles of the row, then all of the column"
    assert not np.allclose(got, slow), (
        "the speeds: each axis is a rotary embedding of its own of width / 2, so the exponent is -2i / (width / 2)")
    assert not np.allclose(got[:, :2], got[:, 2:]) or np.allclose(wanted[:, :2], wanted[:, 2:]), (
        "both halves of yours are equal; one counts rows, the other columns")
    bad = np.argwhere(~np.isclose(got, wanted))
    assert not len(bad), (f"place {at[bad[0][0]].tolist()}, angle {bad[0][1]} should be {wanted[tuple(bad[0])]:.4g}, "
                          f"yours is {got[tuple(bad[0])]:.4g}; the speeds of a width of 8 are 1 and 0.01 for each axis")
    got = np.asarray(mine(np.array([[5, 7]]), 16))
    wanted = np.concatenate([n * base ** (-np.arange(4) / 4) for n in (5, 7)])
    assert got.shape == (1, 8) and np.allclose(got[0], wanted), (
        f"right for a width of 8, but place (5, 7) and a width of 16 should give {wanted.round(4).tolist()}, yours is "
        f"{got.round(4).tolist()}")


# --------------------------------------------------------------------------------------------------- 7: a block

@exercise("7.1", "an array (n, d)")
def rms_norm(mine):
    x, weight = np.array([[3.0, 4, 0, 0], [0, 0, 0, 2]]), np.array([1.0, 2, 1, 1])
    got = _array(mine(x, weight, 0.0), (2, 4), "two rows of four")
    wanted = np.array([[1.2, 3.2, 0, 0], [0, 0, 0, 2]])        # mean squares 25/4 and 1
    centred = x - x.mean(axis=1, keepdims=True)
    assert not np.allclose(got, centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)) * weight), (
        "yours takes the mean away first; that is LayerNorm, RMS norm only divides")
    assert not np.allclose(got, x / np.linalg.norm(x, axis=1, keepdims=True) * weight), (
        "yours divides by the length, the root of the sum; take the mean of the squares")
    assert not np.allclose(got, wanted / weight), "the learned weight is missing: one factor for each channel"
    assert not np.allclose(got, wanted / weight * (1 + weight)), (
        "yours multiplies by 1 + weight, as some other models do; here it is the weight itself")
    with np.errstate(all="ignore"):
        assert not np.allclose(got, x / np.sqrt((x**2).mean(axis=0)) * weight, equal_nan=True), (
            "yours takes the mean down the columns; every row is normalised by itself, along the last axis")
    assert not np.allclose(got, x / (x**2).mean(axis=1, keepdims=True) * weight), "the root is missing"
    assert np.allclose(got, wanted), f"should be {wanted.tolist()}, yours is {got.round(4).tolist()}"
    with np.errstate(all="ignore"):
        dark = np.asarray(mine(np.zeros((1, 4)), weight, 1e-6))
    assert np.isfinite(dark).all(), "a row of zeros gives NaN: eps must be added to the mean square, inside the root"
    small = np.asarray(mine(np.full((1, 4), 1e-3), np.ones(4), 1e-6))   # mean square 1e-6: eps doubles it
    assert np.allclose(small, 2**-0.5), (
        f"a row of 0.001 with eps 1e-6 should give {2**-0.5:.4f}, yours is {small[0, 0]:.4f}; eps is added to the mean "
        "square, before the root")


@exercise("7.2", "an array (n, d)")
def swiglu(mine):
    draw = np.random.default_rng(3)
    x, gate, up = draw.standard_normal((3, 4)), draw.standard_normal((6, 4)), draw.standard_normal((6, 4))
    down = draw.standard_normal((5, 6))
    got = _array(mine(x, gate, up, down), (3, 5), "x (3, 4), gate and up (6, 4), down (5, 6)")
    g, u = x @ gate.T, x @ up.T

    def sigmoid(y):
        return 1 / (1 + np.exp(-y))
    wanted = (g * sigmoid(g) * u) @ down.T
    mistakes = {
        "yours puts silu on up; it belongs on gate": (g * u * sigmoid(u)) @ down.T,
        "that gate is a plain sigmoid; silu(g) is g times sigmoid(g)": (sigmoid(g) * u) @ down.T,
        "up is missing: the opened gate is multiplied by it": (g * sigmoid(g)) @ down.T,
        "yours multiplies first and then applies silu; only gate goes through silu": (g * u * sigmoid(g * u)) @ down.T,
        "yours adds gate and up; they are multiplied": (g * sigmoid(g) + u) @ down.T,
        "there is no silu in yours": (g * u) @ down.T,
        "yours cuts negative numbers off (relu); silu is smooth": (np.maximum(g, 0) * u) @ down.T,
    }
    for remark, wrong in mistakes.items():
        assert not np.allclose(got, wrong), remark
    assert np.allclose(got, wanted), f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}"


# -------------------------------------------------------------------------------------------------- 8: the merger

def _gelu(y: np.ndarray) -> np.ndarray:
    return np.array([z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in y.ravel()]).reshape(y.shape)


@exercise("8.1", "an array (n / 4, o)")
def merge(mine):
    draw = np.random.default_rng(4)
    x, norm = draw.standard_normal((8, 3)) * np.geomspace(0.1, 10, 8)[:, None], draw.uniform(0.5, 2, 3)
    inner, b1, outer, b2 = (draw.standard_normal(s) for s in ((12, 12), (12,), (5, 12), (5,)))
    got = _array(mine(x, norm, (inner, b1), (outer, b2)), (2, 5), "8 patches of width 3 and an outer map to 5")

    def normal(y, weight):
        return y / np.sqrt((y * y).mean(axis=-1, keepdims=True) + 1e-6) * weight

    def through(cells, act=_gelu):
        return act(cells @ inner.T + b1) @ outer.T + b2
    four = normal(x, norm)
    wanted = through(four.reshape(2, 12))

    def tanh(y):
        return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    mistakes = {
        "yours joins first and norms rows of 4d; each patch is normalised by itself, before they are joined":
            through(normal(x.reshape(2, 12), np.tile(norm, 4))),
        "the norm is missing": through(x.reshape(2, 12)),
        "the norm's weight is missing": through(normal(x, 1).reshape(2, 12)),
        "the GELU between the two maps is missing": through(four.reshape(2, 12), lambda y: y),
        "that is SiLU; the merger is the one place that has a GELU":
            through(four.reshape(2, 12), lambda y: y / (1 + np.exp(-y))),
        "yours joins rows 0 2 4 6 and 1 3 5 7; the four of a cell are consecutive":
            through(four.reshape(4, 2, 3).transpose(1, 0, 2).reshape(2, 12)),
        "yours is channel by channel; put whole rows side by side, with a plain reshape":
            through(four.reshape(2, 4, 3).transpose(0, 2, 1).reshape(2, 12)),
    }
    for remark, wrong in mistakes.items():
        assert not np.allclose(got, wrong), remark
    assert not np.allclose(got, through(four.reshape(2, 12), tanh), atol=1e-7), (
        "that is GELU's tanh approximation; off by up to 0.0005 here, use the exact one with erf")
    assert np.allclose(got, wanted, atol=1e-6), (
        f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}")


@exercise("8.2", "one integer")
def token_of_pixel(mine):
    photo, seen = (480, 640), (476, 644)                       # 17 x 23 cells
    for y, x, wanted in ((0, 0, 0), (0, 639, 22), (27, 0, 0), (29, 0, 23), (479, 639, 390), (240, 320, 195)):
        got = mine(y, x, photo, seen)
        assert isinstance(got, int | np.integer), f"one integer should come out, not {type(got).__name__}"
        where = f"a photo of 480 x 640 seen as 476 x 644, pixel (row {y}, column {x})"
        h, w = y * seen[0] / photo[0], x * seen[1] / photo[1]
        patches = int(h // 14) * 46 + int(w // 14)
        assert got != patches or got == wanted, f"{where}: that counts patches of 14 pixels; a token covers 28 x 28"
        assert got != int(h // 28) + int(w // 28) * 17 or got == wanted, (
            f"{where}: tokens are numbered along the rows: cell row times cells in a row, plus cell column")
        assert got != int(h // 28) * 17 + int(w // 28) or got == wanted, (
            f"{where}: a row has 644 / 28 = 23 cells, not 17")
        assert got == wanted, f"{where}: token {wanted}, you say {got}"
    got, wanted = mine(700, 100, (1400, 700), (700, 336)), 12 * 12 + 1    # 25 x 12 cells; (350, 48) is in cell (12, 1)
    assert got != 25 * 12 + 3, "yours does not go to the picture that the model sees: scale y and x first"
    assert got == wanted, (f"a photo of 1400 x 700 seen as 700 x 336, pixel (row 700, column 100): token {wanted}, you "
                           f"say {got}; height and width have a factor each")

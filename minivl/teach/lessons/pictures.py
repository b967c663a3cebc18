"""The exercises about places in a picture that are no stage: lessons 2, 3, 5, 8 and 10."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, array, integer, trials

# ---- lesson 2

def four_floats(value: Any, wanted: Any) -> np.ndarray:
    box = np.asarray(value)
    assert box.shape == (4,), f"four numbers should come out, yours have shape {box.shape}"
    assert box.dtype.kind == "f", f"four floats should come out, yours are {box.dtype}"
    return box


@trials("2.2", "four numbers", four_floats)
def box_to_photo() -> Iterator[Trial]:
    sizes = (476, 644), (480, 640)                         # what the model saw, and the photo
    down, across = 480 / 476, 640 / 644
    yield Trial(((161, 119, 322, 238), *sizes), [160, 120, 320, 240],
                "a quarter to a half should be {wanted}, not {got}", {
        "x was scaled with the height; sizes are (height, width), boxes (x, y)":
            [161 * down, 119 * across, 322 * down, 238 * across],
        "that is the way from the photo to what the model saw; turn the factors round":
            [161 / across, 119 / down, 322 / across, 238 / down]})
    wanted = np.array([10.5 * across, 20.25 * down, 30.75 * across, 40.5 * down])
    yield Trial(((10.5, 20.25, 30.75, 40.5), *sizes), wanted,
                "the box 10.5, 20.25, 30.75, 40.5 should become {wanted}, yours is {got}",
                {"yours is {got}, should be {wanted}: keep the fractions of a pixel": np.rint(wanted)})
    yield Trial(((-3, 0, 646, 476), *sizes), [0, 0, 640, 480],
                "a box beyond the border should be cut at {wanted}, yours is {got}")


# ---- lesson 3

def where_it_is_from(got: np.ndarray, wanted: np.ndarray) -> str:
    """The first wrong value, and where the picture holds it."""
    bad = np.argwhere(got != wanted)
    c, y, x = bad[0].tolist()
    at = np.argwhere(wanted == got[c, y, x])
    truth = (f"comes from {at[0].tolist()}" if len(at) == 1 else
             "is one of the second frame's" if (wanted == -got[c, y, x]).any() else
             f"is {got[c, y, x]:g}, a number that neither frame holds")
    return (f"a grid of {wanted.shape[1] // 14} x {wanted.shape[2] // 14}: {len(bad)} of {got.size} "
            f"values are wrong; the first, at (colour, row, column) {[c, y, x]}, {truth}")


@trials("3.2", "the picture", array)
def to_picture() -> Iterator[Trial]:
    for gh, gw in ((2, 2), (4, 6), (6, 2)):
        numbers = np.random.default_rng(gh).permutation(3 * 14 * gh * 14 * gw)
        wanted = numbers.reshape(3, 14 * gh, 14 * gw) + 1.0          # all different and positive
        rows = []
        for block_row, block_col, in_row, in_col in np.ndindex(gh // 2, gw // 2, 2, 2):
            y, x = 14 * (2 * block_row + in_row), 14 * (2 * block_col + in_col)
            patch = wanted[:, y : y + 14, x : x + 14]
            # the second frame is the negative
            rows.append(np.stack([patch, -patch], axis=1).reshape(-1))
        yield Trial((np.array(rows), gh, gw), wanted, where_it_is_from,
                    {"that is the second frame; take the first, t = 0": -wanted}, near=(0, 0))


# ---- lesson 5

@trials("5.2", "one integer", integer)
def pairs_in_windows() -> Iterator[Trial]:
    for rows, columns, side in ((4, 4, 4), (4, 6, 4), (5, 7, 4), (1, 9, 4), (2, 2, 4), (17, 23, 4)):
        sizes = [min(side, rows - top) * min(side, columns - left)       # cells of each window
                 for top in range(0, rows, side) for left in range(0, columns, side)]
        where = f"{rows} x {columns} cells, windows of {side}"
        yield Trial((rows, columns, side), sum((4 * size) ** 2 for size in sizes),
                    f"{where}: {{wanted}} pairs of patches, you say {{got}}", {
            f"{where}: yours counts cells; each cell is 4 patches, each a "
            f"row": sum(size**2 for size in sizes),
            f"{where}: that is without windows; square each window's patches, then "
            f"add": (4 * rows * columns) ** 2,
            f"{where}: yours counts every window as a whole one; those at the right and lower edge are "
            f"smaller":
                len(sizes) * (4 * side * side) ** 2})


# ---- lesson 8

@trials("8.2", "one integer", integer)
def token_of_pixel() -> Iterator[Trial]:
    photo, seen = (480, 640), (476, 644)                       # 17 x 23 cells
    for y, x, wanted in ((0, 0, 0), (0, 639, 22), (27, 0, 0), (29, 0, 23), (479, 639, 390),
                         (240, 320, 195)):
        where = f"a photo of 480 x 640 seen as 476 x 644, pixel (row {y}, column {x})"
        h, w = y * seen[0] / photo[0], x * seen[1] / photo[1]
        yield Trial((y, x, photo, seen), wanted, f"{where}: token {{wanted}}, you say {{got}}", {
            f"{where}: that counts patches of 14 pixels; a token covers 28 x 28": int(h // 14) * 46
            + int(w // 14),
            f"{where}: tokens are numbered along the rows: cell row times cells in a row, plus cell "
            f"column":
                int(h // 28) + int(w // 28) * 17,
            f"{where}: a row has 644 / 28 = 23 cells, not 17": int(h // 28) * 17 + int(w // 28)})
    # 25 x 12 cells; (350, 48) is in cell (12, 1)
    yield Trial((700, 100, (1400, 700), (700, 336)), 12 * 12 + 1,
                "a photo of 1400 x 700 seen as 700 x 336, pixel (row 700, column 100): token {wanted}, "
                "you say {got}; height and width have a factor each",
                {"yours does not go to the picture that the model sees: scale y and x first": 25 * 12
                 + 3})


# ---- lesson 10

@trials("10.2", "one integer", integer)
def offset_of() -> Iterator[Trial]:
    yield Trial(([], []), 0,
                "without pictures numbers and rows are the same: the offset is 0, yours is {got}")
    yield Trial(([(1, 4, 10)], [1]), 5 - 10,                   # 2 x 5 cells: ten rows, numbers 0 1 2 3 4
                "one picture of 4 x 10 patches: 5 numbers minus 10 rows is {wanted}, yours is {got}", {
        "turn the sign round: numbers used minus rows used": 5,
        "text goes on at the largest number *plus one*": 4 - 10,
        "yours counts patches; rows of the prompt are cells of four patches": 5 - 40,
        "yours counts patches; rows and columns of the prompt are cells of four patches": 10 - 40,
        "a picture uses as many numbers as its longer side has cells; yours takes the shorter "
        "one": 2 - 10,
        "the largest number is over all axes, not their sum": 6 - 10})
    yield Trial(([(6, 4, 4)], [2.0]), 11 - 24,                 # times 0 2 .. 10: 11 numbers, 24 rows
                "a video (6, 4, 4) with tick 2: 11 numbers minus 24 rows is {wanted}, yours is {got}", {
        "yours leaves out the time: the last pair of this video stands at 10, and text goes on at "
        "11": 2 - 24,
        "the first pair stands at 0, so the last of 6 pairs stands at 5 * tick": 13 - 24,
        "yours counts pairs of frames; the last pair stands at the floor of 5 * tick": 6 - 24})
    yield Trial(([(4, 2, 2)], [0.75]), 3 - 4,
                "a video (4, 2, 2) with tick 0.75: times 0 0 1 2; 3 numbers minus 4 rows is {wanted}, "
                "not {got}")
    yield Trial(([(1, 4, 6), (6, 4, 4), (1, 8, 2)], [1, 2.0, 1]), -3 - 13 + 0,
                "several add up: -3, -13 and 0 are {wanted}, yours is {got}")

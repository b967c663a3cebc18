"""The exercise of lesson 10 that is no stage: how far positions lag behind rows."""

from __future__ import annotations

from collections.abc import Iterator

from .filing import Trial, integer, trials


@trials("10.2", "one integer", integer)
def offset_of() -> Iterator[Trial]:
    yield Trial(([], []), 0, "without pictures numbers and rows are the same: the offset is 0, yours is {got}")
    yield Trial(([(1, 4, 10)], [1]), 5 - 10,                   # 2 x 5 cells: ten rows, numbers 0 1 2 3 4
                "one picture of 4 x 10 patches: 5 numbers minus 10 rows is {wanted}, yours is {got}", {
        "turn the sign round: numbers used minus rows used": 5,
        "text goes on at the largest number *plus one*": 4 - 10,
        "yours counts patches; rows of the prompt are cells of four patches": 5 - 40,
        "yours counts patches; rows and columns of the prompt are cells of four patches": 10 - 40,
        "a picture uses as many numbers as its longer side has cells; yours takes the shorter one": 2 - 10,
        "the largest number is over all axes, not their sum": 6 - 10})
    yield Trial(([(6, 4, 4)], [2.0]), 11 - 24,                 # times 0 2 .. 10: 11 numbers, 24 rows
                "a video (6, 4, 4) with tick 2: 11 numbers minus 24 rows is {wanted}, yours is {got}", {
        "yours leaves out the time: the last pair of this video stands at 10, and text goes on at 11": 2 - 24,
        "the first pair stands at 0, so the last of 6 pairs stands at 5 * tick": 13 - 24,
        "yours counts pairs of frames; the last pair stands at the floor of 5 * tick": 6 - 24})
    yield Trial(([(4, 2, 2)], [0.75]), 3 - 4,
                "a video (4, 2, 2) with tick 0.75: times 0 0 1 2; 3 numbers minus 4 rows is {wanted}, not {got}")
    yield Trial(([(1, 4, 6), (6, 4, 4), (1, 8, 2)], [1, 2.0, 1]), -3 - 13 + 0,
                "several add up: -3, -13 and 0 are {wanted}, yours is {got}")

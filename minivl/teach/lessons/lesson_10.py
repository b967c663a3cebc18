"""The checks of lesson 10: MRoPE."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


@exercise("10.1", "an array (3, n)")
def cells_of(mine):
    got = array(mine((3, 4, 4), 2.75, 10), (3, 12), "three pairs of 2 x 2 cells")
    assert np.array_equal(got, np.floor(got)), (
        f"places are integers; yours has {got[got != np.floor(got)][0]:g}: take the floor after the product")
    k, r, c = np.indices((3, 2, 2)).reshape(3, -1)
    time = np.floor(2.75 * k)                                  # 0 2 5
    mistakes = {
        "yours does not begin at `start`: the first cell should be at (10, 10, 10)": np.stack([time, r, c]),
        "yours adds `start` to the time only; height and width begin there too": np.stack([10 + time, r, c]),
        "tick belongs to the time alone, not to rows and columns": 10 + np.floor(2.75 * np.stack([k, r, c])),
        "yours counts pairs of frames; the pair k stands at floor(k * tick)": 10 + np.stack([k, r, c]),
        "form the product k * tick first, then take the floor": 10 + np.stack([2 * k, r, c]),
        "the time is cut to an integer, not rounded: 1 * 2.75 becomes 2": 10 + np.stack([np.ceil(2.75 * k), r, c]),
        "height and width are exchanged": 10 + np.stack([time, c, r]),
        "yours multiplies `start` by tick too": np.stack([np.floor(2.75 * (10 + k)), 10 + r, 10 + c]),
    }
    for remark, wrong in mistakes.items():
        assert not np.array_equal(got, wrong), remark
    _same(got, 10 + np.stack([time, r, c]), "grid (3, 4, 4), tick 2.75, start 10")
    for grid, tick, start in (((3, 4, 6), 0.75, 0), ((5, 2, 8), 2 / 3, 7), ((1, 6, 4), 1, 3), ((4, 6, 2), 2.5, 40)):
        cells = [(start + int(np.float32(k) * np.float32(tick)), start + r, start + c)
                 for k in range(grid[0]) for r in range(grid[1] // 2) for c in range(grid[2] // 2)]
        got = array(mine(grid, tick, start), (3, len(cells)), f"a grid of {grid}")
        _same(got, np.array(cells).T, f"grid {grid}, tick {tick:.3g}, start {start}")


def _same(got: np.ndarray, wanted: np.ndarray, where: str) -> None:
    bad = np.argwhere(got.T != wanted.T)
    if len(bad):
        cell, axis = bad[0]
        name = ("time", "height", "width")[axis]
        raise AssertionError(f"{where}: the {name} of cell {cell} should be {wanted[axis, cell]:g}, yours is "
                             f"{got[axis, cell]:g}")


@exercise("10.2", "one integer")
def offset_of(mine):
    def offset(grids: list[tuple[int, int, int]], ticks: list[float]) -> int:
        got = mine(list(grids), list(ticks))
        assert isinstance(got, int | np.integer), f"one integer should come out, not {type(got).__name__}"
        return int(got)

    assert offset([], []) == 0, "without pictures numbers and rows are the same: the offset is 0"
    got = offset([(1, 4, 10)], [1])                            # 2 x 5 cells: ten rows, numbers 0 1 2 3 4
    for remark, wrong in {
        "turn the sign round: numbers used minus rows used": 5,
        "text goes on at the largest number *plus one*": 4 - 10,
        "yours counts patches; rows of the prompt are cells of four patches": 5 - 40,
        "yours counts patches; rows and columns of the prompt are cells of four patches": 10 - 40,
        "a picture uses as many numbers as its longer side has cells; yours takes the shorter one": 2 - 10,
        "the largest number is over all axes, not their sum": 6 - 10,
    }.items():
        assert got != wrong, remark
    assert got == -5, f"one picture of 4 x 10 patches: 5 numbers minus 10 rows is -5, yours is {got}"
    got = offset([(6, 4, 4)], [2.0])                           # times 0 2 .. 10: 11 numbers, 24 rows
    assert got != 2 - 24, "yours leaves out the time: the last pair of this video stands at 10, and text goes on at 11"
    assert got != 13 - 24, "the first pair stands at 0, so the last of 6 pairs stands at 5 * tick"
    assert got != 6 - 24, "yours counts pairs of frames; the last pair stands at the floor of 5 * tick"
    assert got == 11 - 24, f"a video (6, 4, 4) with tick 2: 11 numbers minus 24 rows is -13, yours is {got}"
    got = offset([(4, 2, 2)], [0.75])
    assert got == 3 - 4, f"a video (4, 2, 2) with tick 0.75: times 0 0 1 2; 3 numbers minus 4 rows is -1, not {got}"
    got = offset([(1, 4, 6), (6, 4, 4), (1, 8, 2)], [1, 2.0, 1])
    assert got == -3 - 13 + 0, f"several add up: -3, -13 and 0 are -16, yours is {got}"

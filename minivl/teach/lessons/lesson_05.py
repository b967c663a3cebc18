"""The checks of lesson 5: attention at scale."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


def _windows_by_loops(rows: int, columns: int, side: int) -> list[list[int]]:
    """The cells of each window, numbered as one reads."""
    return [[r * columns + c for r in range(top, min(top + side, rows)) for c in range(left, min(left + side, columns))]
            for top in range(0, rows, side) for left in range(0, columns, side)]


@exercise("5.1", "the cell numbers, window after window")
def cells_by_window(mine):
    for rows, columns, side in ((4, 4, 2), (2, 6, 2), (3, 5, 2), (5, 7, 4), (1, 1, 4)):
        wanted = np.concatenate(_windows_by_loops(rows, columns, side))
        where = f"{rows} x {columns} cells, windows of {side}"
        got = array(mine(rows, columns, side), (rows * columns,), where)
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

"""The exercise of lesson 5 that is no stage: what windows cost."""

from __future__ import annotations

from collections.abc import Iterator

from .filing import Trial, integer, trials


@trials("5.2", "one integer", integer)
def pairs_in_windows() -> Iterator[Trial]:
    for rows, columns, side in ((4, 4, 4), (4, 6, 4), (5, 7, 4), (1, 9, 4), (2, 2, 4), (17, 23, 4)):
        sizes = [min(side, rows - top) * min(side, columns - left)       # cells of each window
                 for top in range(0, rows, side) for left in range(0, columns, side)]
        where = f"{rows} x {columns} cells, windows of {side}"
        yield Trial((rows, columns, side), sum((4 * size) ** 2 for size in sizes),
                    f"{where}: {{wanted}} pairs of patches, you say {{got}}", {
            f"{where}: yours counts cells; each cell is 4 patches, each a row": sum(size**2 for size in sizes),
            f"{where}: that is without windows; square each window's patches, then add": (4 * rows * columns) ** 2,
            f"{where}: yours counts every window as a whole one; those at the right and lower edge are smaller":
                len(sizes) * (4 * side * side) ** 2})

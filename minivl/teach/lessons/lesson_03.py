"""The exercise of lesson 3 that is no stage: the way back from patches to a picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .filing import Trial, array, trials


def where_it_is_from(got: np.ndarray, wanted: np.ndarray) -> str:
    """The first wrong value, and where the picture holds it."""
    bad = np.argwhere(got != wanted)
    c, y, x = bad[0].tolist()
    at = np.argwhere(wanted == got[c, y, x])
    truth = (f"comes from {at[0].tolist()}" if len(at) == 1 else
             "is one of the second frame's" if (wanted == -got[c, y, x]).any() else
             f"is {got[c, y, x]:g}, a number that neither frame holds")
    return (f"a grid of {wanted.shape[1] // 14} x {wanted.shape[2] // 14}: {len(bad)} of {got.size} values are wrong; "
            f"the first, at (colour, row, column) {[c, y, x]}, {truth}")


@trials("3.2", "the picture", array)
def to_picture() -> Iterator[Trial]:
    for gh, gw in ((2, 2), (4, 6), (6, 2)):
        numbers = np.random.default_rng(gh).permutation(3 * 14 * gh * 14 * gw)
        wanted = numbers.reshape(3, 14 * gh, 14 * gw) + 1.0          # all different and positive
        rows = []
        for block_row, block_col, in_row, in_col in np.ndindex(gh // 2, gw // 2, 2, 2):
            y, x = 14 * (2 * block_row + in_row), 14 * (2 * block_col + in_col)
            patch = wanted[:, y : y + 14, x : x + 14]
            rows.append(np.stack([patch, -patch], axis=1).reshape(-1))   # the second frame is the negative
        yield Trial((np.array(rows), gh, gw), wanted, where_it_is_from,
                    {"that is the second frame; take the first, t = 0": -wanted}, near=(0, 0))

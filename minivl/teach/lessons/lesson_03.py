"""The checks of lesson 3: patches and the 2x2 order."""

from __future__ import annotations

import numpy as np

from .filing import exercise


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
                 "inside a cell, go along the row first"),
                ([4 * (r // 2 * gw + c // 2) + 2 * (r % 2) + c % 2 for r, c in order],
                 "gw counts patches, not cells"),
                ([m // 4 + m % 4 for m in range(len(order))], "each cell before it holds 4 patches"),
                ([m // 4 * 4 for m in range(len(order))], "the place inside the cell is missing"),
                ([m + 1 for m in range(len(order))], "all yours are one too high; rows are counted from 0"),
                ([m - 1 for m in range(len(order))], "all yours are one too low; rows are counted from 0"),
            ]
            why = next((remark for rows, remark in mistakes if got == rows),
                       f"{n // 4} whole cells come before its own, and {n % 4} patches of its own cell")
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

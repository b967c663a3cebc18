"""The checks of lesson 2: pixels and resizing."""

from __future__ import annotations

import numpy as np

from .filing import exercise


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

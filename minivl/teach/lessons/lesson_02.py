"""The exercise of lesson 2 that is no stage: from the model's picture back to the photo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, trials


def four_floats(value: Any, wanted: Any) -> np.ndarray:
    box = np.asarray(value)
    assert box.shape == (4,), f"four numbers should come out, yours have shape {box.shape}"
    assert box.dtype.kind == "f", f"four floats should come out, yours are {box.dtype}"
    return box


@trials("2.2", "four numbers", four_floats)
def box_to_photo() -> Iterator[Trial]:
    sizes = (476, 644), (480, 640)                         # what the model saw, and the photo
    down, across = 480 / 476, 640 / 644
    yield Trial(((161, 119, 322, 238), *sizes), [160, 120, 320, 240], "a quarter to a half should be {wanted}, not {got}", {
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

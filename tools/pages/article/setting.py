"""What the checks share: official settings, the embedded model, seeded numbers, a model that costs nothing.

The embedded model stands in wherever a *mechanism* is shown: such a check holds for any weights.
"""

from __future__ import annotations

from functools import cache

import numpy as np

import minivl
from minivl.checkpoint.names import blank_tensors, build
from minivl.config import OFFICIAL_PICTURES as PICTURES
from minivl.config import official_config
from minivl.door.stage import running
from minivl.kernels import interpreter
from minivl.kernels.shapes import blank
from minivl.model import vision
from minivl.passes.picture import target_size

CONFIG = official_config("7B")
TRAINED = 32_768                                               # tokens of the longest training sequences


def seeded() -> np.random.Generator:
    """The same random numbers in every check and every run."""
    return np.random.default_rng(83)


@cache
def embedded() -> minivl.VLM:
    """The model that comes with the package."""
    return minivl.load()


def sized(height: int, width: int) -> tuple[int, int]:
    """Height and width that the official settings give a picture."""
    h, w = target_size((height, width), PICTURES)
    return int(h), int(w)


def cells(height: int, width: int) -> int:
    """Visual tokens of a picture of this height and width."""
    h, w = sized(height, width)
    return h * w // PICTURES.factor**2


def tower_flops(side: int) -> dict[str, int]:
    """Operations of each stage of the official tower (7B) on a square picture of `side` pixels.

    Keys are labels inside of `vision`. The model's own passes run, on arrays without numbers; the door counts
    what their kernels would do.
    """
    grid = np.array([[1, side // 14, side // 14]])
    weights = build(blank_tensors(CONFIG), CONFIG, np.dtype(np.float32))
    with minivl.session(profile=True) as s, running(interpreter("shapes")):
        vision(blank(int(grid.prod()), CONFIG.vision.patch_values), grid, weights.vision)
    return {key.partition(".")[2]: cost.flops for key, cost in s.profile.items()}

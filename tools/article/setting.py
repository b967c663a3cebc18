"""What the checks share: official settings, the embedded model, seeded numbers, a model that costs nothing.

The embedded model stands in wherever a *mechanism* is shown: such a check holds for any weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

import minivl
from minivl.checkpoint.names import blank_tensors, build
from minivl.config import PreprocessorConfig, official_config
from minivl.model import vision
from minivl.passes.picture import target_size

CONFIG = official_config("7B")
PICTURES = PreprocessorConfig(                                 # preprocessor_config.json of the releases
    min_pixels=4 * 28**2, max_pixels=16384 * 28**2, patch_size=14, temporal_patch_size=2, merge_size=2,
    image_mean=(0.48145466, 0.4578275, 0.40821073), image_std=(0.26862954, 0.26130258, 0.27577711))
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


def blank(*shape: int) -> np.ndarray:
    """Zeros of any shape that take no memory: all strides are zero."""
    return np.broadcast_to(np.float32(0), shape)


COSTS_NOTHING: dict[str, Callable] = {                     # kernels that give the right shape and no numbers
    "kernel.linear": lambda x, w: blank(len(x), w.weight.shape[0]),
    "kernel.rms_norm": lambda x, norm: blank(*x.shape),
    "kernel.rotate": lambda x, cos, sin: blank(*x.shape),
    "kernel.attend": lambda q, k, v, segments, causal: blank(*q.shape),
    "kernel.gated_mlp": lambda x, w: blank(len(x), w.down.weight.shape[0]),
    "kernel.gelu": lambda x: blank(*x.shape),
    "kernel.add": lambda x, y: blank(*x.shape),
}


def tower_flops(side: int) -> dict[str, int]:
    """Operations of each stage of the official tower (7B) on a square picture of `side` pixels.

    Keys are labels inside of `vision`. The model's own passes run, on arrays without numbers; the door counts
    what their kernels would do.
    """
    grid = np.array([[1, side // 14, side // 14]])
    weights = build(blank_tensors(CONFIG), CONFIG, np.dtype(np.float32))
    with minivl.session(profile=True) as s, minivl.using(COSTS_NOTHING):
        vision(blank(int(grid.prod()), CONFIG.vision.patch_values), grid, weights.vision)
    return {key.partition(".")[2]: cost.flops for key, cost in s.profile.items()}

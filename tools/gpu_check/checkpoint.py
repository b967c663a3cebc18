"""A model of any shape with random weights, in memory. Not trained, so its answers mean nothing; its kernels, stages
and bytes are those of the real one.

Read next: `parity.py`, which compares its stages with float64.
"""

from __future__ import annotations

from math import prod

import numpy as np

from minivl.api import VLM, assembled
from minivl.checkpoint.names import blank_tensors
from minivl.checkpoint.tree import Weight
from minivl.checkpoint.weight import Stored, precision
from minivl.config import ModelConfig
from minivl.kernels import Interpreter
from minivl.run.inputs import Inputs

DRAWN = 1 << 20  # different numbers of all weights together


def tensors(config: ModelConfig, seed: int = 0) -> dict[str, Weight]:
    """Normal weights of width^-1/2, norms near 1, small biases; bfloat16. Large ones repeat the same numbers from
    another start: drawing three thousand million takes minutes."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=DRAWN).astype(np.float32)
    found: dict[str, Weight] = {}
    for name, blank in blank_tensors(config).items():
        size, fan = prod(blank.shape), prod(blank.shape[1:])
        scale, shift = (fan**-0.5, 0.0) if len(blank.shape) > 1 else (0.1, float("norm" in name or "ln_q" in name))
        block = (scale * numbers + shift).astype(precision("bfloat16")).view(np.uint16)
        start = int(rng.integers(DRAWN))
        found[name] = Stored(np.resize(np.roll(block, start), size).reshape(blank.shape), "bf16")
    return found


def model(
    config: ModelConfig, name: str, kernels: str | Interpreter, weights: dict[str, Weight] | None = None
) -> VLM:
    """The random model in a precision on an interpreter."""
    return assembled(weights or tensors(config), config, name, None, kernels)


def prompt(config: ModelConfig, rows: int, picture: tuple[int, int] | None, seed: int = 0) -> Inputs:
    """Random text around a random picture of so many patches down and across."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, min(config.text.vocab_size, config.image_token_id, 600), rows)
    if picture is None:
        return Inputs.from_ids(words, config)
    down, across = picture
    cells = down * across // config.vision.spatial_merge_size**2
    ids = np.concatenate(
        [
            words[: rows // 2],
            [config.vision_start_token_id],
            np.full(cells, config.image_token_id),
            words[rows // 2 :],
        ]
    )
    width = config.vision.in_channels * config.vision.temporal_patch_size * config.vision.patch_size**2
    pixels = rng.normal(size=(down * across, width)).astype(np.float32)
    return Inputs.from_ids(ids, config, pixels, np.array([[1, down, across]]))

"""Pictures: resized both ways on each axis, bit for bit; normalised; frames cut into patches, an odd last frame too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minivl import load
from minivl.api import TINY
from minivl.config import PreprocessorConfig, read_preprocessor
from minivl.kernels.cuda import arrays, interpreter
from minivl.passes import patches, picture

from . import FLOAT32, Case, drawn, sent


def resize_case(shape: tuple[int, int], size: tuple[int, int], seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pixels = rng.choice([0, 255, 128, 7], size=(*shape, 3)).astype(np.uint8)
    return Case(
        f"resize {shape} to {size}",
        lambda machine: arrays.to_host(interpreter.resize(machine, pixels, np.array(size))),
        picture.bicubic(pixels, np.array(size)),
    )


def normalise_case(shape: tuple[int, ...], config: PreprocessorConfig, seed: int) -> Case:
    """A picture (h, u, 3), or frames (t, h, u, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Case(
        f"normalise {shape}",
        lambda machine: arrays.to_host(interpreter.normalise(machine, pixels, config)),
        picture.standardise(pixels, config),
    )


def patchify_case(frames: int, gh: int, gw: int, config: PreprocessorConfig, seed: int) -> Case:
    size = config.patch_size
    pixels = drawn(np.random.default_rng(seed), (frames, 3, gh * size, gw * size), FLOAT32)
    return Case(
        f"patchify {frames} frames of {gh} {gw}",
        lambda machine: interpreter.patchify(sent(machine, pixels), config),
        patches.patchify.definition(pixels, config),
    )


def cases() -> list[Case]:
    small = replace(read_preprocessor(TINY, load().config), patch_size=2)
    return [
        resize_case((13, 21), (28, 9), 0),
        resize_case((40, 6), (7, 30), 1),
        resize_case((9, 9), (9, 20), 2),
        normalise_case((5, 9, 3), small, 6),
        normalise_case((3, 4, 35, 3), small, 7),
        patchify_case(3, 4, 6, small, 3),
        patchify_case(1, 2, 4, small, 4),
        patchify_case(2, 6, 2, small, 5),
    ]

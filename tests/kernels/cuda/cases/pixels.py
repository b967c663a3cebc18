"""Pictures: resized both ways on each axis, bit for bit; frames cut into patches, an odd last frame too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minivl import load
from minivl.api import TINY
from minivl.config import PreprocessorConfig, read_preprocessor
from minivl.kernels.cuda import calls
from minivl.kernels.cuda.interpreter import resize
from minivl.passes import patches, picture

from . import Case


def resize_case(shape: tuple[int, int], size: tuple[int, int], seed: int) -> Case:
    rng = np.random.default_rng(seed)
    pixels = rng.choice([0, 255, 128, 7], size=(*shape, 3)).astype(np.uint8)
    return Case(
        f"resize {shape} to {size}",
        lambda machine: resize(machine, pixels, np.array(size)),
        picture.bicubic(pixels, np.array(size)),
    )


def patchify_case(frames: int, gh: int, gw: int, config: PreprocessorConfig, seed: int) -> Case:
    size = config.patch_size
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, gh * size, gw * size, 3), dtype=np.uint8)
    levels = picture.standardise(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2), config)[:, 0]
    right = patches.patchify.definition(picture.standardise(pixels, config), config)

    def run(machine):
        raw = calls.patchify(
            machine,
            machine.device.upload(pixels.reshape(-1)),
            levels,
            (frames, gh, gw),
            size,
            config.temporal_patch_size,
            config.merge_size,
        )
        return machine.device.download(raw).reshape(right.shape)

    return Case(f"patchify {frames} frames of {gh} {gw}", run, right)


def cases() -> list[Case]:
    small = replace(read_preprocessor(TINY, load().config), patch_size=2)
    return [
        resize_case((13, 21), (28, 9), 0),
        resize_case((40, 6), (7, 30), 1),
        resize_case((9, 9), (9, 20), 2),
        patchify_case(3, 4, 6, small, 3),
        patchify_case(1, 2, 4, small, 4),
        patchify_case(2, 6, 2, small, 5),
    ]

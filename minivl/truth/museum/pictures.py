"""Faults of the pixels: how a picture is sized, filtered and cut. The model reads another picture, and
reads well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...config import PreprocessorConfig
from ...passes.patches import from_merge_block, grid_of
from . import cases
from .fault import fault


def _filtered(pixels: np.ndarray, size: np.ndarray, kernel: Callable, antialias: bool) -> np.ndarray:
    """Resize both axes by a filter; antialiasing stretches it over all source pixels that one outgoing
    pixel covers."""
    for axis in (0, 1):
        scale = pixels.shape[axis] / int(size[axis])
        centre = (np.arange(int(size[axis])) + 0.5) * scale - 0.5
        distance = (np.arange(pixels.shape[axis]) - centre[:, None])                     # o n
        weights = kernel(np.abs(distance / (max(scale, 1.0) if antialias else 1.0)))
        weights /= weights.sum(axis=1, keepdims=True)                                    # o n
        rows = np.tensordot(weights, pixels.astype(np.float64), (1, axis))          # o n, n ... -> o ...
        pixels = np.rint(np.clip(np.moveaxis(rows, 0, axis), 0, 255)).astype(np.uint8)
    return pixels


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@fault("picture.resize", ["huggingface/transformers#39591", "vllm-project/vllm#19789"], 2025,
       "fine text is misread, and only in large pictures",
       shows=cases.shrunk, passes=("same", cases.small))
def resize_without_antialias(right, pixels, size):
    """The fast path filters with four taps a pixel however much the picture shrinks, the slow one with
    as many as are covered. Both are called bicubic, and on a picture that is not shrunk they are the
    same. Thin strokes fall between the taps."""
    return _filtered(pixels, size, lambda x: _cubic(x, -0.5), False)


@fault("picture.resize", ["alibaba/MNN#4595", "huggingface/transformers#47233"], 2026,
       "edges ring, small text is misread",
       shows=cases.enlarged, passes=("same", cases.small))
def resize_with_another_cubic(right, pixels, size):
    """Bicubic is a family: the parameter is -0.5 in Pillow, with which the model was trained, and
    -0.75 in OpenCV and elsewhere. Every picture that is resized has other pixels by a few levels. A
    picture whose sides are multiples of 28 is not resized, and that is what tests show."""
    return _filtered(pixels, size, lambda x: _cubic(x, -0.75), True)


@fault("picture.resize", ["ikawrakow/ik_llama.cpp#1969", "ggml-org/llama.cpp#24629"], 2026,
       "small text is misread, charts are read a little wrong",
       shows=cases.enlarged, passes=("same", cases.small))
def resize_bilinear(right, pixels, size):
    """The filter of another model family was the default, and these models took it over. Bilinear
    blurs where bicubic sharpens. Pictures are described as before; words of a few pixels height are
    not read."""
    return _filtered(pixels, size, lambda x: np.maximum(0.0, 1 - x), True)


@fault("picture.resize", ["sgl-project/sglang#12390"], 2025,
       "tokens and boxes a little off",
       shows=cases.cell, passes=("same", cases.exact_either_way))
def resize_twice(right, pixels, size):
    """The server sized each picture for one model, to multiples of 28, and the processor sized it
    again for another, to multiples of 32; here the steps are the other way round. Each step is right,
    and two of them blur. Test pictures of 224 or 448 pixels suit both and pass."""
    first = np.maximum(1, np.rint(np.array(pixels.shape[:2]) / 32)).astype(np.int64) * 32
    return right(right(pixels, first), size)


@fault("picture.resize", ["airockchip/rknn-llm#387"], 2025,
       "easy text is read wrongly, shapes are flattened",
       shows=cases.wide, passes=("same", cases.square))
def picture_padded_to_square(right, pixels, size):
    """A device takes one size of picture only, so that each is padded to a square with the mean colour
    first: the habit of models that see squares. This model sees pictures in their own shape, and the
    content gets smaller or flatter than it was in training. Square pictures come out the same."""
    height, width = pixels.shape[:2]
    square = np.full((max(height, width),) * 2 + (3,), (122, 116, 104), np.uint8)
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    square[top : top + height, left : left + width] = pixels
    return right(square, size)


@fault("picture.target_size", ["QwenLM/Qwen3-VL#830", "QwenLM/Qwen3-VL#1355",
                               "modelscope/ms-swift#4027"], 2025,
       "boxes shifted and scaled in large pictures",
       shows=cases.largest, passes=("same", cases.smaller))
def limits_of_another_tool(right, shape, config: PreprocessorConfig):
    """Two tools resize the same picture to different sizes, because each has its own limit for the area.
    Boxes are in pixels of the resized picture, and whoever draws them with the other tool's size draws
    them elsewhere. Small pictures are within every limit."""
    return right(shape, replace(config, max_pixels=max(config.min_pixels, config.max_pixels // 4)))


@fault("patches.patchify", ["kekzl/imp#1167", "lablup/mlxcel#1619"], 2026,
       "fluent answers about another picture",
       shows=cases.wide, passes=("same", cases.cell))
def patches_in_raster_order(right, frames, config: PreprocessorConfig):
    """Patches are written row by row, as one would expect. The tower wants the four patches of a 2x2
    cell one after the other, because the merger joins them by reshaping; in raster order it joins
    strips. All shapes are right."""
    rows = right(frames, config)
    return from_merge_block(rows, grid_of(frames.shape, config), config.merge_size).reshape(rows.shape)


@fault("patches.patchify", ["lablup/mlxcel#1619", "QwenLM/Qwen3-VL#263"], 2026,
       "answers about colours and textures only",
       shows=cases.cell, passes=("smoke", cases.small))
def patch_axes_swapped(right, frames, config: PreprocessorConfig):
    """The values of a patch are written colour last, as pictures are stored. The matrix that reads
    them was trained with colour first. Both are 1,176 numbers of the same size, and no shape
    disagrees."""
    rows = right(frames, config)
    return rows.reshape(len(rows), 3, -1).swapaxes(1, 2).reshape(rows.shape)         # p (c n) -> p (n c)

"""From the pixels of a picture to the float array that is cut into patches.

    target_size    y b -> 2              the height and width the model sees: multiples of 28
    resize         y b 3 -> h u 3        bicubic, bit for bit what Pillow 13 gives
    normalise      h u 3 -> 3 h u        float32, bit for bit what the PIL backend of transformers gives

Not here: opening whatever a picture comes as (`run/open_picture.py`), other filters. Read next:
`patches.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..config import PreprocessorConfig
from ..door.errors import ArgumentError, Error
from ..door.stage import stage

if TYPE_CHECKING:
    pass

MAX_SOURCE_PIXELS = 1024**3 // 4 // 3     # a quarter of a GiB of RGB: about 9,459 x 9,459
MAX_ASPECT = 200                          # long side over short side, as in the reference


class PictureError(Error):
    """A source cannot be made into pixels, or a picture or video has a size that the model does not
    take."""


def check_size(height: int, width: int) -> None:
    """Raise PictureError for a picture without pixels, or with more than are decoded."""
    if height < 1 or width < 1:
        raise PictureError(f"picture of {height} x {width} (height x width) has no pixels")
    if height * width > MAX_SOURCE_PIXELS:
        raise PictureError(f"picture of {height} x {width} (height x width) has {height * width:,} "
                           f"pixels, the limit is {MAX_SOURCE_PIXELS:,}; shrink it first")


# ----------------------------------------------------------------------------- the size the model sees

@stage("picture.target_size", "_ -> 2")
def target_size(shape: tuple[int, ...], config: PreprocessorConfig) -> np.ndarray:
    """(height, width) to resize to, int64: multiples of `config.factor` (28), area within its limits.

    shape: (y, b, ...) of the source, in pixels. Raises PictureError beyond an aspect of 200.
    Traps: Python rounds halves to even (42 -> 56, and 70 -> 56); the *rounded* area is tested, but the
    scale comes from the *original* one; qwen-vl-utils lifts sides to 28 before the test, so its thin
    pictures differ (13 x 100 gives 28 x 112 there, 28 x 168 here). Limits that differ between tools
    shift every box: QwenLM/Qwen3-VL#830.
    """
    if config.min_pixels > config.max_pixels:
        raise PictureError(f"min_pixels is {config.min_pixels:,}, more than max_pixels, "
                           f"{config.max_pixels:,}")
    size = fitted(int(shape[0]), int(shape[1]), config.factor, config.min_pixels, config.max_pixels)
    return np.array(size, np.int64)


def fitted(y: int, b: int, factor: int, least: float, most: float, lift: bool = False) -> tuple[int, int]:
    """What `target_size` does, for limits that are no settings. `lift`: sides are lifted to `factor`
    before the area is tested, as qwen-vl-utils does."""
    if min(y, b) < 1 or max(y, b) / min(y, b) > MAX_ASPECT:
        raise PictureError(f"picture of {y} x {b} (height x width): the long side may be at most "
                           f"{MAX_ASPECT} times the short one; crop it first")
    h, u = (max(factor * lift, round(side / factor) * factor) for side in (y, b))
    if h * u > most:
        shrink = math.sqrt((y * b) / most)
        h, u = (max(factor, math.floor(side / shrink / factor) * factor) for side in (y, b))
    elif h * u < least:
        grow = math.sqrt(least / (y * b))
        h, u = (math.ceil(side * grow / factor) * factor for side in (y, b))
    check_size(h, u)
    return h, u


# ---------------------------------------------------------------- bicubic resize, bit for bit Pillow's

FRACTION_BITS = 22                  # Pillow's fixed point: 32 bits less 8 of a pixel and 2 for overshoot
STRIP = 64                                # outgoing rows at a time: bounds memory, changes no result

Weigh = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@stage("picture.resize", "y b 3, 2 -> h u 3")
def resize(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Bicubic with antialiasing, uint8 -> uint8: bit for bit `Image.resize((u, h), BICUBIC)` of Pillow
    13.

    Fixed point, one axis after the other, and a whole picture of uint8 between the two, so that the
    order of the axes shows: by tens of levels on noise. Another bicubic (OpenCV, or torch without
    antialias: a = -0.75) gives other pixels, and small text is misread: ikawrakow/ik_llama.cpp#1969,
    huggingface/transformers#39591.
    """
    return bicubic(pixels, size)


def bicubic(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What `resize` does, for callers that are a stage of their own (a video's frames)."""
    if pixels.dtype != np.uint8 or min(size) < 1:
        raise ArgumentError(f"resizing takes uint8 pixels and a positive size, not {pixels.dtype} to "
                            f"{size}")
    return _each_axis(pixels, size, _weigh_fixed)


def resize_float(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The same filter without its rounding, float64: what `resize` means. Clipped to 0..255 after each
    axis, as there.

    The two differ by half a level for the last rounding and, for the one between the axes, by half a
    level times the sum of absolute weights, which is at most 1.3: less than 1.2 grey levels.
    """
    return _each_axis(pixels, size, _weigh_clipped)


def _each_axis(pixels: np.ndarray, size: np.ndarray, weigh: Weigh) -> np.ndarray:
    for axis in (0, 1) if height_first(pixels.shape, size) else (1, 0):
        n_in, n_out = pixels.shape[axis], int(size[axis])
        if n_in != n_out:                            # an axis of the right length is not filtered at all
            rows = np.ascontiguousarray(pixels.swapaxes(0, axis))
            pixels = weigh(rows, *bicubic_weights(n_in, n_out)).swapaxes(0, axis)
    return np.ascontiguousarray(pixels)


def height_first(shape: tuple[int, ...], size: np.ndarray) -> bool:
    """Which axis Pillow 13 filters first: the height when it loses more than twice as many rows as the
    width columns.

    (A width that grows loses a negative number.) Before python-pillow/Pillow#9549 the width was always
    first.
    """
    rows_lost, columns_lost = shape[0] - int(size[0]), shape[1] - int(size[1])
    return rows_lost > max(0, 2 * columns_lost)


def bicubic_weights(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The non-zero band of the (n_out, n_in) filter matrix: first index (o,) int64 and weights (o, taps)
    float64.

    Outgoing row i is the sum over k of weights[i, k] * source[first[i] + k]; the weights of a row sum
    to one. Shrinking stretches the filter over all source pixels that one outgoing pixel covers: that
    is the antialiasing.
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    reach = 2.0 * stretch                           # the cubic ends two stretched pixels from its centre
    centre = (np.arange(n_out) + 0.5) * scale
    first = np.maximum(0, (centre - reach + 0.5).astype(np.int64))
    last = np.minimum(n_in, (centre + reach + 0.5).astype(np.int64))
    tap = np.arange((last - first).max())
    distance = (tap + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch)           # o -> o taps
    weights = np.where(tap < (last - first)[:, None], cubic(distance), 0.0)
    return first, weights / np.cumsum(weights, axis=1)[:, -1:]  # cumsum adds left to right, as Pillow


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic (1981) with a = -0.5, not the -0.75 of OpenCV and of torch without antialias."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def fixed_point(weights: np.ndarray) -> np.ndarray:
    """Weights as int32 in units of 2**-22, halves rounded away from zero."""
    return np.trunc(weights * 2.0**FRACTION_BITS + np.copysign(0.5, weights)).astype(np.int32)


def weigh_rows(rows: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of source rows, in the dtype of the weights: (n, ...), (o,), (o, taps) -> (o,
    ...)."""
    total = np.zeros((len(first), *rows.shape[1:]), weights.dtype)                       # n ... -> o ...
    for k in range(weights.shape[1]):
        source = rows[np.minimum(first + k, len(rows) - 1)]     # beyond the edge the weight is zero
        total += source * weights[:, k].reshape(-1, *[1] * (rows.ndim - 1))
    return total


def _weigh_fixed(rows: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`weigh_rows` in int32, rounded to nearest (halves up) by a half added before the shift, clipped:
    uint8."""
    out = np.empty((len(first), *rows.shape[1:]), np.uint8)                              # n ... -> o ...
    weights, half = fixed_point(weights), 1 << (FRACTION_BITS - 1)
    for at in range(0, len(first), STRIP):
        strip = slice(at, at + STRIP)
        out[strip] = np.clip((weigh_rows(rows, first[strip], weights[strip]) + half) >> FRACTION_BITS,
                             0, 255)
    return out


def _weigh_clipped(rows: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.clip(weigh_rows(rows, first, weights), 0, 255)


# ------------------------------------------------------------------------------------------- normalise

@stage("picture.normalise", "h u 3 -> 3 h u")
def normalise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """(x/255 - mean) / std, colour first, float32."""
    return standardise(pixels, config)


def standardise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """What `normalise` does, for any axes before the last three: (..., h, u, 3) -> (..., 3, h, u).

    The division by 255 is a product in float64, all else is float32: the casts of the reference's PIL
    backend, and so its bits. Its torchvision backend folds 255 into mean and std, which moves the last
    bit.
    """
    mean, std = (np.asarray(value, np.float32) for value in (config.image_mean, config.image_std))
    scaled = (pixels * np.float64(config.rescale_factor)).astype(np.float32)
    return np.moveaxis((scaled - mean) / std, -1, -3)                                    # h u 3 -> 3 h u

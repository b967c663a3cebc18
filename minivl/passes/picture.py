"""From whatever a picture comes as to the float array that is cut into patches.

    load_picture   anything -> y b 3     uint8, upright, RGB, transparency laid on white
    target_size    y b -> 2              the height and width the model sees: multiples of 28
    resize         y b 3 -> h u 3        bicubic, bit for bit what Pillow 13 gives
    normalise      h u 3 -> 3 h u        float32, bit for bit what the PIL backend of transformers gives

Not here: other filters, colour management, downloads. Read next: `patches.py`.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import PreprocessorConfig
from ..door.stage import stage

if TYPE_CHECKING:
    from PIL import Image

MAX_SOURCE_PIXELS = 1024**3 // 4 // 3     # a quarter of a GiB of RGB: about 9,459 x 9,459
MAX_ASPECT = 200                          # long side over short side, as in the reference
ORIENTATION = 0x0112                      # the EXIF tag


class PictureError(ValueError):
    """A source cannot be made into pixels, or a picture or video has a size that the model does not take."""


# ------------------------------------------------------------------------------------ load: anything -> y b 3

def load_picture(source: Any) -> np.ndarray:
    """Pixels of a picture: (y, b, 3) uint8, upright, transparency laid on white, first frame of an animation.

    source: path (str or Path), bytes, `file:` or `data:` URL, PIL image, or an array (y, b) or (y, b, 1|3|4),
    colour last, of bool, uint8, uint16 (0..65535) or floating point (0..1). Refused rather than guessed at:
    floating arrays beyond 0..1, other integers, 32-bit files (modes I, F) that are not plainly grey levels
    0..255. 16-bit grey is scaled by 1/257; Pillow's own conversion would clip all above 255 to white.
    Raises PictureError, and nothing else, for whatever cannot be read.
    """
    from PIL import Image  # when first needed: it takes a while to import
    if isinstance(source, np.ndarray):
        return _to_rgb(Image.fromarray(_eight_bit(source)))
    if isinstance(source, Image.Image):
        return _decode(source)
    name, opened = _open(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)         # `_check_size` has the last word
            with Image.open(opened) as image:
                return _decode(image)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: {error} Here the limit is {MAX_SOURCE_PIXELS:,} pixels") from error
    except Exception as error:              # decoders raise nearly every type there is on a damaged file
        raise PictureError(f"{name}: not a picture that can be read ({_reason(error)})") from error


def _open(source: Any) -> tuple[str, Any]:
    """A name for messages, and what Pillow opens."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return f"picture of {len(data)} bytes", io.BytesIO(data)
    if isinstance(source, os.PathLike):
        return str(source), _regular_file(Path(source))
    if not isinstance(source, str):
        raise PictureError("a picture is a path, bytes, a URL, a PIL image or an array, "
                           f"not {type(source).__name__}")
    scheme = source.partition(":")[0].lower()
    if scheme in ("http", "https"):
        raise PictureError(f"{source}: download the picture first; only files and data URLs are opened")
    if scheme == "data":
        return "data URL", io.BytesIO(_data_of_url(source))
    path = _path_of_url(source) if scheme == "file" else Path(source)
    return str(path), _regular_file(path)


def _path_of_url(url: str) -> Path:
    """The path of a `file:` URL."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname
    return Path(url2pathname(urlsplit(url).path))


def _regular_file(path: Path) -> Path:
    """The path itself, when a file is there. A pipe or a device is refused: one could wait on it for ever."""
    try:
        regular, there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:                      # a name too long for the system, a NUL in it
        raise PictureError(f"{str(path)[:80]!r}: not a usable path ({error})") from error
    if not regular:
        raise PictureError(f"{path}: {'not a regular file' if there else 'no such file'}")
    return path


def _data_of_url(url: str) -> bytes:
    """The bytes of `data:[type][;base64],...`."""
    from urllib.parse import unquote_to_bytes
    head, comma, body = url.partition(",")
    if not comma:
        raise PictureError("data URL: no comma before the data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(re.sub(rb"\s", b"", data), validate=True)
    except binascii.Error as error:
        raise PictureError(f"data URL: its base64 is damaged ({error})") from error


def _decode(image: Image.Image) -> np.ndarray:
    """An opened image -> (y, b, 3) uint8. The header is checked before a pixel is decoded."""
    if image.format == "EPS":
        raise PictureError("PostScript is a program, not a picture; convert it to PNG first")
    _check_size(image.height, image.width)
    try:
        image.load()
        return upright(_to_rgb(image), _orientation(image))
    except PictureError:
        raise
    except Exception as error:                                  # as above: decoders raise nearly every type
        raise PictureError(f"cannot be decoded: damaged or cut short ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "its bytes are of no known format" if "cannot identify image file" in text else text


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise PictureError(f"picture of {height} x {width} (height x width) has no pixels")
    if height * width > MAX_SOURCE_PIXELS:
        raise PictureError(f"picture of {height} x {width} (height x width) has {height * width:,} pixels, "
                           f"the limit is {MAX_SOURCE_PIXELS:,}; shrink it first")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """An image of any mode -> (y, b, 3) uint8. Transparency is the reference's: as RGBA, over opaque
    white."""
    if image.mode[0] in "IF":                                   # I, I;16*, F: grey deeper than 8 bits
        return np.repeat(_grey_levels(image)[:, :, None], 3, axis=2)                      # y b -> y b 3
    if image.mode == "La":                                    # premultiplied grey has one way out, through LA
        image = image.convert("LA")
    if image.has_transparency_data:
        from PIL import Image
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _grey_levels(image: Image.Image) -> np.ndarray:
    """Grey of 16 or 32 bits -> (y, b) uint8."""
    levels = np.asarray(image)
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):    # I: 16-bit PGM
        clear = levels == image.info.get("transparency", -1)
        return np.where(clear, np.uint8(255), _scale_16(levels))
    if not (levels.min() >= 0 and levels.max() <= 255):         # so written that a NaN fails
        raise PictureError(f"mode {image.mode} holds {levels.min()}..{levels.max()}, grey levels go 0..255: "
                           "scale it, or give an array (uint16, or floating point 0..1)")
    if image.mode == "F" and 0 < levels.max() <= 1:
        raise PictureError("mode F holds 0..1, which may mean nearly black or the whole range: multiply "
                           "by 255, or give an array, whose range is 0..1")
    return np.rint(levels).astype(np.uint8)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """An array of a picture as uint8, grey without a colour axis; the rule is in `load_picture`."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]                                                          # y b 1 -> y b
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        raise PictureError(f"array of shape {list(pixels.shape)} is no picture: it must be [y b], [y b 1], "
                           "[y b 3] or [y b 4], colour last")
    _check_size(*pixels.shape[:2])
    dtype = pixels.dtype.newbyteorder("=")
    if dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if dtype == np.bool_:
        return pixels * np.uint8(255)
    if dtype == np.uint16:
        return _scale_16(pixels)
    if not np.issubdtype(dtype, np.floating):
        raise PictureError(f"an array of {dtype} does not say its range: give uint8 (0..255), "
                           "uint16 (0..65535) or floating point (0..1)")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise PictureError(f"{dtype} array holds {pixels.min()}..{pixels.max()}, "
                           "floating pixels go 0..1")
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _scale_16(levels: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, to the nearest: 65535 = 255 * 257."""
    return ((levels.astype(np.int64) + 128) // 257).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """The camera's note of how it was held, 1..8. A damaged note is no note, as in every viewer."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror (y, b, 3) as EXIF orientation 1..8 asks; any other value changes nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)                                                    # y b 3 -> b y 3
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# ------------------------------------------------------------------------------------ the size the model sees

@stage("picture.target_size", "_ -> 2")
def target_size(shape: tuple[int, ...], config: PreprocessorConfig) -> np.ndarray:
    """(height, width) to resize to, int64: multiples of `config.factor` (28), area within the limits of
    `config`.

    shape: (y, b, ...) of the source, in pixels. Raises PictureError beyond an aspect of 200.
    Traps: Python rounds halves to even (42 -> 56, and 70 -> 56); the *rounded* area is tested, but the scale
    comes from the *original* one; qwen-vl-utils lifts sides to 28 before the test, so its thin pictures
    differ (13 x 100 gives 28 x 112 there, 28 x 168 here). Limits that differ between tools shift every box:
    QwenLM/Qwen3-VL#830.
    """
    y, b, factor = int(shape[0]), int(shape[1]), config.factor
    if min(y, b) < 1 or max(y, b) / min(y, b) > MAX_ASPECT:
        raise PictureError(f"picture of {y} x {b} (height x width): the long side may be at most "
                           f"{MAX_ASPECT} times the short one; crop it first")
    if config.min_pixels > config.max_pixels:
        raise PictureError(f"min_pixels is {config.min_pixels:,}, more than max_pixels, {config.max_pixels:,}")
    h, u = (round(side / factor) * factor for side in (y, b))
    if h * u > config.max_pixels:
        shrink = math.sqrt((y * b) / config.max_pixels)
        h, u = (max(factor, math.floor(side / shrink / factor) * factor) for side in (y, b))
    elif h * u < config.min_pixels:
        grow = math.sqrt(config.min_pixels / (y * b))
        h, u = (math.ceil(side * grow / factor) * factor for side in (y, b))
    _check_size(h, u)
    return np.array([h, u], np.int64)


# ----------------------------------------------------------------------- bicubic resize, bit for bit Pillow's

FRACTION_BITS = 22                       # Pillow's fixed point: 32 bits less 8 of a pixel and 2 for overshoot
STRIP = 64                                # outgoing rows at a time: bounds memory, changes no result

Weigh = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@stage("picture.resize", "y b 3, 2 -> h u 3")
def resize(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Bicubic with antialiasing, uint8 -> uint8: bit for bit `Image.resize((u, h), BICUBIC)` of Pillow 13.

    Fixed point, one axis after the other, and a whole picture of uint8 between the two, so that the order of
    the axes shows: by tens of levels on noise. Another bicubic (OpenCV, or torch without antialias: a =
    -0.75) gives other pixels, and small text is misread: ikawrakow/ik_llama.cpp#1969,
    huggingface/transformers#39591.
    """
    return bicubic(pixels, size)


def bicubic(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What `resize` does, for callers that are a stage of their own (a video's frames)."""
    if pixels.dtype != np.uint8 or min(size) < 1:
        raise ValueError(f"resizing takes uint8 pixels and a positive size, not {pixels.dtype} to {size}")
    return _each_axis(pixels, size, _weigh_fixed)


def resize_float(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The same filter without its rounding, float64: what `resize` means. Clipped to 0..255 after each axis,
    as there.

    The two differ by half a level for the last rounding and, for the one between the axes, by half a level
    times the sum of absolute weights, which is at most 1.3: less than 1.2 grey levels.
    """
    return _each_axis(pixels, size, _weigh_clipped)


def _each_axis(pixels: np.ndarray, size: np.ndarray, weigh: Weigh) -> np.ndarray:
    for axis in (0, 1) if height_first(pixels.shape, size) else (1, 0):
        n_in, n_out = pixels.shape[axis], int(size[axis])
        if n_in != n_out:                                 # an axis of the right length is not filtered at all
            rows = np.ascontiguousarray(pixels.swapaxes(0, axis))
            pixels = weigh(rows, *bicubic_weights(n_in, n_out)).swapaxes(0, axis)
    return np.ascontiguousarray(pixels)


def height_first(shape: tuple[int, ...], size: np.ndarray) -> bool:
    """Which axis Pillow 13 filters first: the height when it loses more than twice as many rows as the width
    columns.

    (A width that grows loses a negative number.) Before python-pillow/Pillow#9549 the width was always first.
    """
    rows_lost, columns_lost = shape[0] - int(size[0]), shape[1] - int(size[1])
    return rows_lost > max(0, 2 * columns_lost)


def bicubic_weights(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The non-zero band of the (n_out, n_in) filter matrix: first index (o,) int64 and weights (o, taps)
    float64.

    Outgoing row i is the sum over k of weights[i, k] * source[first[i] + k]; the weights of a row sum to one.
    Shrinking stretches the filter over all source pixels that one outgoing pixel covers: that is the
    antialiasing.
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    reach = 2.0 * stretch                                # the cubic ends two stretched pixels from its centre
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
    """Weighted sums of source rows, in the dtype of the weights: (n, ...), (o,), (o, taps) -> (o, ...)."""
    total = np.zeros((len(first), *rows.shape[1:]), weights.dtype)                        # n ... -> o ...
    for k in range(weights.shape[1]):
        source = rows[np.minimum(first + k, len(rows) - 1)]     # beyond the edge the weight is zero
        total += source * weights[:, k].reshape(-1, *[1] * (rows.ndim - 1))
    return total


def _weigh_fixed(rows: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`weigh_rows` in int32, rounded to nearest (halves up) by a half added before the shift, clipped:
    uint8."""
    out = np.empty((len(first), *rows.shape[1:]), np.uint8)                               # n ... -> o ...
    weights, half = fixed_point(weights), 1 << (FRACTION_BITS - 1)
    for at in range(0, len(first), STRIP):
        strip = slice(at, at + STRIP)
        out[strip] = np.clip((weigh_rows(rows, first[strip], weights[strip]) + half) >> FRACTION_BITS, 0, 255)
    return out


def _weigh_clipped(rows: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.clip(weigh_rows(rows, first, weights), 0, 255)


# -------------------------------------------------------------------------------------------------- normalise

@stage("picture.normalise", "h u 3 -> 3 h u")
def normalise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """(x/255 - mean) / std, colour first, float32."""
    return standardise(pixels, config)


def standardise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """What `normalise` does, for any axes before the last three: (..., h, u, 3) -> (..., 3, h, u).

    The division by 255 is a product in float64, all else is float32: the casts of the reference's PIL
    backend, and so its bits. Its torchvision backend folds 255 into mean and std, which moves the last bit.
    """
    mean, std = (np.asarray(value, np.float32) for value in (config.image_mean, config.image_std))
    scaled = (pixels * np.float64(config.rescale_factor)).astype(np.float32)
    return np.moveaxis((scaled - mean) / std, -1, -3)                                     # h u 3 -> 3 h u

"""Pictures: `target_size`, `resize`, `picture.normalise`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ....passes import picture as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .small import picture

# -------------------------------------------------------------------------------------- target_size


def draw_size(d: Draws, steps: tuple[int, ...] = (28, 32)) -> tuple:
    """Sides that are near and on half a step, and pictures that are small, large, thin."""
    step = d.pick(steps)
    least, most = d.whole(1, 6) ** 2, d.whole(7, 12) ** 2
    config = picture(patch_size=step // 2, min_pixels=least * step**2, max_pixels=most * step**2)
    sides = [d.pick([d.whole(1, 12) * step // 2, d.whole(1, 800)]) for _ in range(2)]
    return (*[max(side, -(-max(sides) // 150)) for side in sides], 3), config


def _size(shape, config, *, to=round, grow=math.ceil, shrink=math.floor, least=True, most=True):
    """The two sides with one rule at a time made another way."""
    y, b = shape[:2]
    h, u = (to(side / config.factor) * config.factor for side in (y, b))
    if most and h * u > config.max_pixels:
        scale = math.sqrt(y * b / config.max_pixels)
        h, u = (max(config.factor, shrink(side / scale / config.factor) * config.factor)
                for side in (y, b))
    elif least and h * u < config.min_pixels:
        scale = math.sqrt(config.min_pixels / (y * b))
        h, u = (grow(side * scale / config.factor) * config.factor for side in (y, b))
    return np.array([h, u])


def _small(shape, config):
    h, u = _size(shape, config, least=False, most=False)
    return h * u < config.min_pixels


def _large(shape, config):
    h, u = _size(shape, config, least=False, most=False)
    return h * u > config.max_pixels


def _size_variant(d: Draws) -> Variant:
    up, square = d.flag(), d.flag()
    return Variant(f"sides go {'up to the next' if up else 'down to the last'} multiple of the step, at "
                   f"least one"
                   + (", and the result is a square with the longer side" if square else "")
                   + "; the limits of area are not looked at", plain.stepping(up, square))


SIZE = Exercise(
    "target_size", "picture.target_size", "height and width to multiples of 28, the area within limits",
    passes.target_size, draw_size,
    facts={"a picture that is too small": _small, "a picture that is too large": _large,
           "a picture that is neither too small nor too large":
               lambda s, c: not _small(s, c) and not _large(s, c),
           "a side of a whole number of steps and a half":
               lambda s, c: any(side % c.factor == c.factor / 2 for side in s[:2])},
    reads=("patch_size", "merge_size", "min_pixels", "max_pixels"), variants=_size_variant)
SIZE.wrong("halves_up", lambda *args: _size(*args, to=lambda n: math.floor(n + 0.5)),
           "your halves go up: round() sends 1.5 and 2.5 to 2 (to even), and so does the model")
SIZE.wrong("rounded_down", lambda *args: _size(*args, to=math.floor),
           "you round down; sides go to the nearest multiple, with round()")
SIZE.wrong("rounded_up", lambda *args: _size(*args, to=math.ceil),
           "you round up; sides go to the nearest multiple, with round()")
SIZE.wrong("no_upper_limit", lambda *args: _size(*args, most=False),
           "the largest area is not looked at: beyond max_pixels both sides shrink by one factor")
SIZE.wrong("no_lower_limit", lambda *args: _size(*args, least=False),
           "the smallest area is not looked at: below min_pixels both sides grow by one factor")
SIZE.wrong("no_limits", lambda *args: _size(*args, least=False, most=False),
           "neither limit of the area is looked at")
SIZE.wrong("width_first", lambda s, c: _size(s, c)[::-1], "you give (width, height); it is height first")
SIZE.wrong("grown_to_nearest", lambda *args: _size(*args, grow=round),
           "when growing you round to the nearest; it must go up, or the area stays too small")
SIZE.wrong("shrunk_to_nearest", lambda *args: _size(*args, shrink=round),
           "when shrinking you round to the nearest; it must go down, or the area stays too large")
SIZE.wrong("step_of_a_patch", lambda s, c: _size(s, replace(c, merge_size=1)),
           "your step is the patch alone: it is patch_size x merge_size, 28 in the model")


@SIZE.mistake("the scale comes from the rounded sides: the rounded area is tested, but the scale is "
              "that of the original one")
def scale_of_rounded_sides(shape, config):
    h, u = _size(shape, config, least=False, most=False)
    if _small(shape, config) or _large(shape, config):
        limit, to = ((config.min_pixels, math.ceil) if _small(shape, config)
                     else (config.max_pixels, math.floor))
        scale = math.sqrt(limit / (h * u)) if h * u else 1
        h, u = (max(1, to(side * scale / config.factor)) * config.factor for side in shape[:2])
    return np.array([h, u])


@SIZE.mistake("a side that rounds to 0 is lifted to one step before the area is tested: it stays 0 "
              "there")
def lifted_to_one_step(shape, config):
    h, u = (max(config.factor, side) for side in _size(shape, config, least=False, most=False))
    small, large = h * u < config.min_pixels, h * u > config.max_pixels
    return _size(shape, replace(config, min_pixels=config.min_pixels if small else 0,
                                max_pixels=config.max_pixels if large
                                else 10**9)) if small or large else np.array([h, u])


# ------------------------------------------------------------------------------------------- resize

def _draw_resize(d: Draws) -> tuple:
    """Where both sides change, colours are so far from the ends that nothing is clipped between the two:
    which axis comes first, which is a matter of speed in Pillow, then shows in the last level only."""
    y, b = d.whole(1, 9), d.whole(1, 9)
    size = np.array([d.pick([d.whole(1, 9), y]), d.pick([d.whole(1, 9), b])])
    low, high = (70, 186) if size[0] != y and size[1] != b else (0, 256)
    return d.generator().integers(low, high, (y, b, 3)).astype(np.uint8), size


def _filtered(pixels, size, *, filter=passes.cubic, reach=2, middle=0.5, clip=True):
    """Each axis times a matrix of filter weights, in float64."""
    out = pixels.astype(np.float64)
    for axis in (0, 1):
        n, m = out.shape[axis], int(size[axis])
        scale = n / m
        distance = (np.arange(n) + middle - (np.arange(m)[:, None] + middle) * scale) / max(scale, 1)
        table = np.where(np.abs(distance) < reach, filter(distance), 0)
        if n != m:
            sums = table.sum(1, keepdims=True)
            out = np.moveaxis(np.tensordot(table / np.where(sums == 0, 1, sums), out, (1, axis)), 0,
                              axis)
            out = np.clip(np.rint(out), 0, 255) if clip else out
    return np.rint(out).astype(np.int64).astype(np.uint8)


def _shrinks(pixels, size):
    return bool((np.array(pixels.shape[:2]) > size).any())


def _grows(pixels, size):
    return bool((np.array(pixels.shape[:2]) < size).any())


RESIZE = Exercise(
    "resize", "picture.resize",
    "bicubic (a = -0.5) with antialiasing, uint8; two levels off are let through",
    passes.resize, _draw_resize, slack=2.0,
    facts={"a side that shrinks": _shrinks, "a side that grows": _grows})
RESIZE.fault("resize-without-antialias", "the antialiasing is missing: when a side shrinks, the filter "
             "is stretched by the same factor")
RESIZE.fault("resize-with-another-cubic", "your cubic has a = -0.75 (OpenCV's); it is -0.5")
RESIZE.fault("resize-bilinear", "that is bilinear; it is bicubic")


@RESIZE.mistake("that is nearest neighbour; it is bicubic")
def nearest_neighbour(pixels, size):
    at = [np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1) for n, m in
          zip(pixels.shape, size, strict=False)]
    return pixels[at[0]][:, at[1]]


RESIZE.wrong("half_a_pixel_off", lambda *args: _filtered(*args, middle=0.0),
             "your pixels are half a pixel off: their centres are at 0.5, 1.5, ..., not at 0, 1, ...")
RESIZE.wrong("wraps_around", lambda *args: _filtered(*args, clip=False),
             "values beyond 0..255 wrap around in uint8: clip them first (a cubic overshoots)")
RESIZE.wrong("box_filter",
             lambda *args: _filtered(*args, filter=lambda x: ((x > -0.5) & (x <= 0.5)) * 1.0, reach=1),
             "that is the mean of the pixels that each new one covers (a box filter); it is bicubic")


# ---------------------------------------------------------------------------------------- normalise

def _draw_pixels(d: Draws) -> tuple:
    pixels = d.generator().integers(0, 256, (d.whole(1, 5), d.whole(1, 5), 3)).astype(np.uint8)
    return pixels, picture()


def _colours(config):
    return np.array(config.image_mean), np.array(config.image_std)


def _colour_first(x):
    return np.moveaxis(x, -1, 0)


def _coloured(scale, move=_colour_first):
    """Pixels scaled by a rule of them, mean and std, then their axes moved."""
    return lambda pixels, config: move(scale(pixels, *_colours(config)))


def _colour_variant(d: Draws) -> Variant:
    order, sign = d.pick([(2, 1, 0), (1, 2, 0), (2, 0, 1)]), d.flag()
    return Variant(f"the colours come out in the order {order} of the channels that go in (mean and std "
                   f"are those of the channel that goes in)"
                   + (", and every number has its sign changed" if sign else ""),
                   plain.colouring(order, -1 if sign else 1))


NORMALISE = Exercise("picture.normalise", "picture.normalise",
                     "(x/255 - mean) / std, colour first: h u 3 -> 3 h u",
                     passes.normalise, _draw_pixels, reads=("image_mean", "image_std"),
                     variants=_colour_variant)
NORMALISE.wrong("not_by_255", _coloured(lambda x, mean, std: (x - mean) / std),
                "the division by 255 is missing: mean and std are for colours of 0..1")
NORMALISE.wrong("mean_kept", lambda pixels, c: _colour_first(pixels / 255 / _colours(c)[1]),
                "the mean is not taken off")
NORMALISE.wrong("std_missing", lambda pixels, c: _colour_first(pixels / 255 - _colours(c)[0]),
                "the division by std is missing")
NORMALISE.wrong("colour_last", _coloured(lambda x, mean, std: (x / 255 - mean) / std, move=np.array),
                "colour is still last: (h, u, 3); it goes first, (3, h, u)")
NORMALISE.wrong("colour_by_reshape",
                _coloured(lambda x, mean, std: (x / 255 - mean) / std,
                          move=lambda x: x.reshape(3, *x.shape[:2])),
                "colour goes first by reshape, which mixes pixels up: an axis is moved with transpose")
NORMALISE.wrong("colours_backwards", _coloured(lambda x, mean, std: (x[..., ::-1] / 255 - mean) / std),
                "the colours are in the order blue, green, red")
NORMALISE.wrong("picture_transposed",
                _coloured(lambda x, mean, std: (x / 255 - mean) / std, move=np.transpose),
                "the picture is transposed: (3, u, h); it is (3, h, u)")
NORMALISE.wrong("minus_one_to_one", lambda pixels, c: _colour_first(pixels / 127.5 - 1),
                "pixels go to -1..1; the model wants (x/255 - mean) / std of its training data")
NORMALISE.wrong("by_256", _coloured(lambda x, mean, std: (x / 256 - mean) / std),
                "you divide by 256; the largest value is 255")
NORMALISE.wrong("times_std", _coloured(lambda x, mean, std: (x / 255 - mean) * std),
                "you multiply by std; it is divided by")

EXERCISES = [SIZE, RESIZE, NORMALISE]

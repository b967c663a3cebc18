"""`patchify`: frames into patches, in 2x2 block order."""

from __future__ import annotations

import numpy as np

from ....passes import patches as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .small import picture


def _draw(d: Draws, merge: int = 2) -> tuple:
    size, pair = d.whole(1, 3), d.pick([2, 1, 3])
    frames = d.floats(d.whole(1, 4), 3, merge * size * d.whole(1, 3), merge * size * d.whole(1, 3))
    return frames, picture(patch_size=size, temporal_patch_size=pair, merge_size=merge)


def _cut(frames, config, *, order=(0, 3, 6, 4, 7, 2, 1, 5, 8), fill="last"):
    """Frames with every axis split, put into `order`: t s c row in_row py col in_col px are 0..8."""
    pair, size, merge = config.temporal_patch_size, config.patch_size, config.merge_size
    missing = -len(frames) % pair
    last = frames[-1:] if fill == "last" else frames[:1] if fill == "first" else frames[-1:] * 0
    frames = np.concatenate([frames, *[last] * missing])
    t, _, h, u = frames.shape
    rows, columns = h // size // merge, u // size // merge
    split = frames.reshape(t // pair, pair, 3, rows, merge, size, columns, merge, size)
    return split.transpose(order).reshape(t // pair * rows * columns * merge**2, -1)


def _variant(d: Draws) -> Variant:
    merge, order = d.pick([3, 1]), d.pick(["scyx", "yxcs", "cyxs", "sycx"])
    words = {"s": "frame of the pair", "c": "colour", "y": "pixel row", "x": "pixel column"}
    return Variant(f"cells are {merge} x {merge} patches, and the values of a patch are in the order "
                   + ", ".join(words[letter] for letter in order), plain.cutting(order),
                   lambda other: _draw(other, merge))


PATCHIFY = Exercise(
    "patchify", "patches.patchify", "frames into patches, rows in 2x2 block order: t 3 h u -> p x",
    passes.patchify,
    _draw, facts={"an odd last frame": lambda f, c: len(f) % c.temporal_patch_size != 0,
                  "more than one frame": lambda f, c: len(f) > 1,
                  "more than one cell across": lambda f, c: f.shape[3] > c.factor,
                  "patches of more than one pixel": lambda f, c: c.patch_size > 1},
    reads=("patch_size", "temporal_patch_size", "merge_size"), variants=_variant)
PATCHIFY.fault("patches-in-raster-order", "your rows are in raster order, patch row after patch row; "
               "the four patches of a 2x2 cell must stand one after the other")
PATCHIFY.wrong("cell_down_the_columns", lambda *args: _cut(*args, order=(0, 3, 6, 7, 4, 2, 1, 5, 8)),
               "inside a cell your patches go down the columns; they go along the rows: 00 01 10 11")
PATCHIFY.wrong("cells_down_the_columns", lambda *args: _cut(*args, order=(0, 6, 3, 4, 7, 2, 1, 5, 8)),
               "your cells go down the columns; cells go in reading order, along the rows")
PATCHIFY.wrong("frame_before_colour", lambda *args: _cut(*args, order=(0, 3, 6, 4, 7, 1, 2, 5, 8)),
               "the frame comes before the colour; a row is colour, frame, pixel row, pixel column")
PATCHIFY.fault("patch-axes-swapped", "within a row the colour comes last; it is colour, frame, pixel "
               "row, pixel column")
PATCHIFY.wrong("pixels_transposed", lambda *args: _cut(*args, order=(0, 3, 6, 4, 7, 2, 1, 8, 5)),
               "your patches are transposed: within a row pixel columns come before pixel rows")
PATCHIFY.wrong("filled_with_zeros", lambda *args: _cut(*args, fill="zeros"),
               "a pair that lacks a frame is filled with zeros; the last frame is repeated")
PATCHIFY.wrong("filled_with_the_first", lambda *args: _cut(*args, fill="first"),
               "a pair that lacks a frame is filled with the first frame; the last one is repeated")
PATCHIFY.wrong("incomplete_pair_dropped",
               lambda frames, c: _cut(frames[: len(frames) - len(frames) % c.temporal_patch_size], c),
               "an incomplete last pair of frames is dropped; its last frame is repeated")


@PATCHIFY.mistake("patches are cut by reshape alone, which takes runs of pixels and no squares: the "
                  "axes are to be split, then transposed")
def reshaped_only(frames, config):
    x = 3 * config.temporal_patch_size * config.patch_size**2
    missing = -len(frames) % config.temporal_patch_size
    return np.concatenate([frames, *[frames[-1:]] * missing]).reshape(-1, x)


EXERCISES = [PATCHIFY]

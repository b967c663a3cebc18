"""Relatives of faults of rows and places: windows, who sees whom, gathers, patches, positions, angles.

Read next: `relative.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from ....config import ModelConfig, VisionConfig
from ....passes.positions import inverse_frequencies
from ..positions import _runs
from ..rounding import ROUNDED
from .relative import Relative, instead, relative, within

SCHEDULE, SORTED, RESTORED = "vision.schedule", "vision.order_by_window", "vision.restore_order"
GATHERS = {"of patches into windows": SORTED, "of cells back": RESTORED,
           "of the tower's angles": "vision.angles.order_by_window"}
AXES = ("time", "height", "width")
OF_A_PATCH = ("colour", "frame", "row", "column")


# ---- windows -----------------------------------------------------------------------------------

def full_blocks(config: ModelConfig) -> Iterator[Relative]:
    """Full blocks that are counted otherwise, one too few, or one too many."""
    full, depth = config.vision.fullatt_block_indexes, config.vision.depth

    def seen_by(kin: str, said: str, blocks: tuple[int, ...]) -> Relative:
        return relative(kin, said, {SCHEDULE: instead(with_full, blocks=blocks)})
    for step in (-1, 1):
        yield seen_by("windows-swapped-with-full", f"full blocks counted {step:+d}",
                      tuple(n + step for n in full))
    for block in range(depth):
        if block in full:
            yield seen_by("full-attention-never-used", f"block {block} has windows",
                          tuple(n for n in full if n != block))
        else:
            yield seen_by("windows-missing", f"block {block} sees the whole picture", (*full, block))


def with_full(right, grids, config: VisionConfig, blocks):
    return right(grids, replace(config, fullatt_block_indexes=blocks))


def window_sizes(config: ModelConfig) -> Iterator[Relative]:
    """Windows of another size, in the order of rows and in the tables, or in the tables alone."""
    cell = config.vision.patch_size * config.vision.spatial_merge_size
    for cells in {2 * config.vision.window_cells, max(1, config.vision.window_cells // 2),
                  config.vision.window_cells + 1} - {config.vision.window_cells}:
        other = instead(of_size, pixels=cells * cell)
        for said, labels in ((f"windows of {cells} x {cells} cells", (SCHEDULE, "vision.window_order")),
                             (f"tables for windows of {cells} x {cells} cells", (SCHEDULE,))):
            yield relative("windows-wrong-at-the-edges", said, dict.fromkeys(labels, other),
                           (*labels, SORTED, "vision.angles.*", RESTORED)[: 5 if len(labels) > 1 else 1])


def of_size(right, grids, config: VisionConfig, pixels):
    return right(grids, replace(config, window_size=pixels))


# ---- gathers -----------------------------------------------------------------------------------

def gathers(config: ModelConfig) -> Iterator[Relative]:
    """An index that has few bits, or another permutation."""
    for where, label in GATHERS.items():
        for bits in range(4, 12):
            wrap = instead(by_narrow_index, bits=bits)
            yield relative("gather-index-too-narrow", f"an index of {bits} bits, {where}",
                           within([label], "take_rows", wrap), [label])
    yield relative("order-not-inverted", "cells stay in the order of windows",
                   {RESTORED: instead(lambda right, cells, order: cells)})
    yield relative("order-not-inverted", "the inverse used where the order belongs",
                   {SORTED: instead(lambda right, rows, order: right(rows, np.argsort(order)))})


def by_narrow_index(right, x, index, bits):
    """Rows by an index that keeps its first bits: what lies behind the last row is the last row."""
    whole = np.asarray(index, np.int64)
    step = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(whole, 1))) - (bits - 1), 0)
    return right(x, np.minimum(np.rint(whole / step) * step, len(x) - 1).astype(np.int64))


# ---- patches -----------------------------------------------------------------------------------

def patches(config: ModelConfig) -> Iterator[Relative]:
    """The values of a patch in another order of its axes."""
    vision = config.vision
    shape = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    for axes in permutations(range(4)):
        if axes not in ((0, 1, 2, 3), (1, 2, 3, 0)):
            said = "values by " + ", ".join(OF_A_PATCH[n] for n in axes)
            yield relative("patch-axes-swapped", said,
                           {"patches.patchify": instead(rearranged, shape=shape, axes=axes)})
    yield relative("patch-axes-swapped", "blue before red",
                   {"patches.patchify": instead(rearranged, shape=shape, axes=(0, 1, 2, 3), flip=True)})


def rearranged(right, frames, config, shape, axes, flip=False):
    rows = right(frames, config)
    parts = rows.reshape(len(rows), *shape)
    parts = parts[:, ::-1] if flip else parts
    return parts.transpose(0, *(n + 1 for n in axes)).reshape(rows.shape)


# ---- positions and angles ----------------------------------------------------------------------

def positions(config: ModelConfig) -> Iterator[Relative]:
    """Text after a picture that goes on elsewhere; axes that are exchanged."""
    for step in (-2, 1, 2):
        said = f"text goes on {abs(step)} {'further' if step > 0 else 'nearer'}"
        yield relative("text-after-picture-off-by-one", said,
                       {"positions.mrope": instead(text_moved, step=step)})
    yield relative("text-after-picture-off-by-one", "text goes on as if each cell were a token",
                   {"positions.mrope": instead(text_after_cells)})
    for order in permutations(range(3)):
        if order not in ((0, 1, 2), (0, 2, 1)):
            said = "axes given as " + ", ".join(AXES[n] for n in order)
            yield relative("height-and-width-swapped", said,
                           {"positions.mrope": instead(axes_of, order=list(order))})


def text_moved(right, ids, grids, ticks, pads, *rest, step):
    place = right(ids, grids, ticks, pads, *rest).copy()
    for rows in _runs(ids, pads):
        place[:, rows[-1] + 1:] += step
    return place


def text_after_cells(right, ids, grids, ticks, pads, *rest):
    place = right(ids, grids, ticks, pads, *rest).copy()
    for rows in _runs(ids, pads):
        place[:, rows[-1] + 1:] += rows[-1] + 1 - place[0, rows[-1] + 1] if rows[-1] + 1 < len(ids) else 0
    return place


def axes_of(right, *args, order):
    return right(*args)[order]


def angles(config: ModelConfig) -> Iterator[Relative]:
    """Angles of other axes, or in sixteen bits."""
    yield relative("height-and-width-swapped", "in the tower's rotary",
                   {"vision.angles.spatial_angles": instead(columns_first)})
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            said = "sections turn by " + ", ".join(AXES[n] for n in order)
            yield relative("mrope-interleaved", said,
                           {"decoder.angles": instead(sections_of, order=list(order))})
    for kind in ROUNDED:
        for what in ("positions", "frequencies", "product"):
            for part, label in (("decoder", "decoder.angles"), ("tower", "vision.angles.spatial_angles")):
                yield relative("angles-in-bf16", f"{what} in {kind}, {part}",
                               {label: instead(ANGLES[part], kind=kind, what=what)})


def columns_first(right, at, config):
    return right(at[:, ::-1], config)


def sections_of(right, place, config, order):
    return right(place[order], config)


def rounded_where(kind: str, what: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """What rounds the one thing and leaves the others."""
    return lambda name, x: (ROUNDED[kind](x) if name == what else x).astype(np.float32)


def narrow_mrope(right, place, config, kind, what):
    at = rounded_where(kind, what)
    axis = np.repeat(np.arange(3), config.mrope_section)
    turned = at("positions", place.astype(np.float32))[axis].T
    return at("product", turned * at("frequencies", inverse_frequencies(config.head_dim, config.rope_theta)))


def narrow_spatial(right, place, config, kind, what):
    at = rounded_where(kind, what)
    frequency = at("frequencies", inverse_frequencies(config.head_dim // 2, config.rope_theta))
    turned = at("positions", place.astype(np.float32))[:, :, None] * frequency
    return at("product", turned.reshape(len(place), -1))


ANGLES = {"decoder": narrow_mrope, "tower": narrow_spatial}

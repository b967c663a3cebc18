"""What is right in a variant: the model's pass with another order, size or rate, or its own short rule.

Each function here takes what a variant asks for and gives the function that is right then. With the
model's own sizes they give what the passes give; the tests state that, and hold each against versions
that were written without it.

Read next: `stages/`, where variants are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from ...config import VisionConfig
from ...kernels import definition as kernels
from ...passes import patches, picture, positions, vision, windows


def own(stage: Any) -> Callable:
    """The model's own pass, without its door."""
    return stage.definition


def stepping(up: bool, square: bool) -> Callable:
    """target_size: sides to the next or the last multiple of the step."""
    def target_size(shape, config):
        to = math.ceil if up else math.floor
        sides = [max(1, to(side / config.factor)) * config.factor for side in shape[:2]]
        return np.array([max(sides)] * 2 if square else sides, np.int64)
    return target_size


def colouring(order: Sequence[int], sign: int) -> Callable:
    """picture.normalise with the channels in another order."""
    def normalise(pixels, config):
        return sign * own(picture.normalise)(pixels, config)[list(order)]                # 3 h u
    return normalise


def cutting(order: str) -> Callable:
    """patchify with the values of a patch in another order: s frame, c colour, y x pixel."""
    def patchify(frames, config):
        rows = own(patches.patchify)(frames, config)
        sides = 3, config.temporal_patch_size, config.patch_size, config.patch_size
        axes = [1 + "csyx".index(letter) for letter in order]
        # p x -> p c s y x -> p x
        return rows.reshape(-1, *sides).transpose(0, *axes).reshape(rows.shape)
    return patchify


def placing(order: Sequence[int], rate: float | None) -> Callable:
    """mrope with its rows in another order and another time rate (None: as `ticks` says)."""
    def mrope(ids, grids, ticks, pads, merge, after_video):
        ticks = ticks if rate is None else np.full_like(ticks, rate)
        return own(positions.mrope)(ids, grids, ticks, pads, merge, "max_plus_one")[list(order)]
    return mrope


def spatial(columns_first: bool, interleaved: bool) -> Callable:
    """spatial_angles with the axes in another order."""
    def spatial_angles(at, config):
        angles = own(positions.spatial_angles)(at[:, ::-1] if columns_first else at, config)
        axes = angles.reshape(len(at), 2, -1)  # w f -> w 2 f/2
        return (axes.swapaxes(1, 2) if interleaved else axes).reshape(angles.shape)
    return spatial_angles


def sharing(order: Sequence[int], turns: bool) -> Callable:
    """mrope_angles with sections in another order, or axes in turn."""
    def mrope_angles(at, config):
        if not turns:
            return own(positions.mrope_angles)(at[list(order)], config)
        f = np.arange(config.head_dim // 2)
        return at[np.array(order)[f % 3]].T * config.rope_theta ** (-f / len(f))  # 3 s -> f s -> s f
    return mrope_angles


def moving_on(steps: Sequence[int]) -> Callable:
    """advance by another step on each axis."""
    def advance(rows, offsets):
        return own(positions.advance)(rows, offsets) - 1 + np.array(steps)[:, None]     # 3 n
    return advance


def window_ordering(tall: int | None, wide: int | None, by_columns: bool) -> Callable:
    """window_order with windows of another shape (None: as the config says); by_columns: windows, and
    the cells inside, go down first."""
    def window_order(grids, config):
        out, start = [], 0
        for t, h, w in _cells(grids, config):
            for frame in range(t):
                for window in _windows(h, w, tall or config.window_cells, wide or config.window_cells,
                                       by_columns):
                    out += [start + (frame * h + y) * w + x for y, x in window]
            start += t * h * w
        return np.array(out, np.int64)
    return window_order


def _cells(grids: np.ndarray, config: VisionConfig) -> list[tuple[int, int, int]]:
    merge = config.spatial_merge_size
    return [(t, h // merge, w // merge) for t, h, w in grids.tolist()]


def _windows(h: int, w: int, tall: int, wide: int, by_columns: bool) -> list[list[tuple[int, int]]]:
    """The cells of each window of one frame, in reading order, or down the columns throughout."""
    if by_columns:
        turned = _windows(w, h, wide, tall, False)
        return [[(y, x) for x, y in window] for window in turned]
    return [[(y, x) for y in range(top, min(top + tall, h)) for x in range(left, min(left + wide, w))]
            for top, left in product(range(0, h, tall), range(0, w, wide))]


def scheduling(every: int | None, tall: int | None, wide: int | None) -> Callable:
    """schedule with other full blocks and windows (None: as the config says)."""
    def schedule(grids, config):
        patches = config.spatial_merge_size**2
        tables: list[list[int]] = [[], []]                         # lengths in patches: windowed, full
        for t, h, w in _cells(grids, config):
            windows = _windows(h, w, tall or config.window_cells, wide or config.window_cells, False)
            tables[0] += [len(window) * patches for window in windows] * t
            tables[1] += [h * w * patches] * t
        full = [b for b in range(config.depth)
                if b % every == 0] if every else config.fullatt_block_indexes
        return tuple(_runs(tables[block in full]) for block in range(config.depth))
    return schedule


def _runs(lengths: list[int]) -> np.ndarray:
    """Segments of these lengths, each seeing itself: g -> g 4."""
    ends = np.cumsum(np.array(lengths, np.int64))
    return np.stack([ends - lengths, ends] * 2, axis=1)


def moving(patches: int, back: bool, flip: bool) -> Callable:
    """order_by_window with other cells, the other way round, or with the rows of a cell in reverse."""
    def order_by_window(rows, order):
        cells = rows.reshape(len(order), patches, -1)[np.argsort(order) if back else order]
        return (cells[:, ::-1] if flip else cells).reshape(rows.shape)
    return order_by_window


def restoring(step: int) -> Callable:
    """restore_order, and then round by a step."""
    def restore_order(cells, order):
        return np.roll(own(windows.restore_order)(cells, order), step, axis=0)           # m o
    return restore_order


def merging(order: Sequence[int]) -> Callable:
    """merge_2x2 with the rows of a cell in another order."""
    def merge(x, merger):
        cells = x.reshape(len(x) // 4, 4, -1)[:, list(order)]
        return own(vision.merge_2x2)(cells.reshape(x.shape), merger)
    return merge


def power_norm(power: int, weight_first: bool) -> Callable:
    """rms_norm with another mean than that of squares."""
    def rms_norm(x, norm):
        weight = norm.weight.dense(np.float64)
        y = x * weight if weight_first else x.astype(np.float64)
        root = ((np.abs(y) ** power).mean(-1, keepdims=True) + norm.eps) ** (1 / power)
        return y / root * (1 if weight_first else weight)
    return rms_norm


def rotation(interleaved: bool, backwards: bool) -> Callable:
    """rotate with other pairs, or the other way round."""
    def rotate(x, cos, sin):
        place = np.arange(x.shape[2])
        # the first of each pair, then the second
        pairs = place.reshape(-1, 2).T.ravel() if interleaved else place
        out = np.empty(x.shape)
        out[..., pairs] = own(kernels.rotate)(x[..., pairs], cos, -sin if backwards else sin)
        return out
    return rotate


GATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": lambda v: v / (1 + np.exp(-v)), "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0)}


def gating(gate: str, up_first: bool) -> Callable:
    """gated_mlp with another gate, or with up above it."""
    def gated_mlp(x, w):
        halves = np.split(own(kernels.linear)(x, w.gate_up), 2, axis=1)
        up, gates = halves if up_first else halves[::-1]
        return own(kernels.linear)(GATES[gate](gates) * up, w.down)
    return gated_mlp


def filling(back: bool, add: bool) -> Callable:
    """place_features from the end, or as a sum."""
    def place_features(x, placeholders, features):
        out, at = x.copy(), placeholders[::-1] if back else placeholders
        out[at] = x[at] + features if add else features
        return out
    return place_features


def charging(each: bool, power: int) -> Callable:
    """penalise by a sum that is taken off."""
    def penalise(logits, prompts, answers, penalty):
        out = logits.astype(np.float64)
        for row, prompt, answer in zip(out, prompts, answers, strict=True):
            ids = prompt.tolist() + answer.tolist()
            for i in ids if each else set(ids):
                row[i] -= penalty**power
        return out
    return penalise


def narrowing(share: float) -> Callable:
    """narrow_choice by a share of the likeliest."""
    def narrow_choice(logits, temperature, top_k, top_p):
        out = logits.astype(np.float64) / temperature
        for row in out:
            least = sorted(row.tolist(), reverse=True)[min(top_k or len(row), len(row)) - 1]
            least = max(least, max(row.tolist()) + math.log(share))
            row[row < least] = np.finfo(np.float64).min
        return out
    return narrow_choice

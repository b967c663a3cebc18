"""Plain definitions with their sizes and orders as arguments, for the variants of graded work.

Each function here takes what a variant asks for and gives the function that is right then: loops over single numbers,
independent of the passes. With the model's own sizes they give what the passes give, which the tests state.

Read next: `exercises/`, where variants are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from ...checkpoint.tree import MLP, Linear, Merger, Norm
from ...config import PreprocessorConfig, TextConfig, VisionConfig


def stepping(up: bool, square: bool) -> Callable:
    """target_size: sides to the next or the last multiple of the step."""
    def target_size(shape: tuple[int, ...], config: PreprocessorConfig) -> np.ndarray:
        to = math.ceil if up else math.floor
        sides = [max(1, to(side / config.factor)) * config.factor for side in shape[:2]]
        return np.array([max(sides)] * 2 if square else sides, np.int64)
    return target_size


def colouring(order: Sequence[int], sign: int) -> Callable:
    """picture.normalise with the channels in another order."""
    def normalise(pixels: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
        out = np.empty((3, *pixels.shape[:2]))
        for place, c in enumerate(order):
            out[place] = sign * (pixels[:, :, c] / 255 - config.image_mean[c]) / config.image_std[c]
        return out
    return normalise


def cutting(order: str) -> Callable:
    """patchify with the values of a patch in another order: s frame, c colour, y x pixel; cells as the config says."""
    def patchify(frames: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
        pair, size, merge = config.temporal_patch_size, config.patch_size, config.merge_size
        high, wide = frames.shape[2] // size // merge, frames.shape[3] // size // merge
        rows = []
        for t, y, x, v, h in product(range(0, len(frames), pair), range(high), range(wide), range(merge), range(merge)):
            top, left = (y * merge + v) * size, (x * merge + h) * size
            steps = {"s": range(t, t + pair), "c": range(3), "y": range(top, top + size), "x": range(left, left + size)}
            row = []
            for at in product(*(steps[letter] for letter in order)):
                where = dict(zip(order, at, strict=True))
                row.append(frames[min(where["s"], len(frames) - 1), where["c"], where["y"], where["x"]])
            rows.append(row)
        return np.array(rows, frames.dtype)
    return patchify


def placing(order: Sequence[int], rate: float | None) -> Callable:
    """mrope with its rows in another order and another time rate (None: as `ticks` says)."""
    def mrope(ids: np.ndarray, grids: np.ndarray, ticks: np.ndarray, pads: tuple[int, ...], merge: int, after_video: str
              ) -> np.ndarray:
        out: list[tuple[int, ...]] = []
        at = p = 0
        for (t, h, w), tick in zip(grids.tolist(), ticks.tolist(), strict=True):
            while ids[at] not in pads:
                out.append((p, p, p))
                at, p = at + 1, p + 1
            cells = [(math.floor(n * (tick if rate is None else rate)), y, x)
                     for n, y, x in product(range(t), range(h // merge), range(w // merge))]
            out += [tuple(p + cell[n] for n in order) for cell in cells]
            at, p = at + len(cells), p + max(max(cell) for cell in cells) + 1
        out += [(p + n,) * 3 for n in range(len(ids) - at)]
        return np.array(out, np.int64).reshape(-1, 3).T
    return mrope


def spatial(columns_first: bool, interleaved: bool) -> Callable:
    """spatial_angles with the axes in another order."""
    def spatial_angles(at: np.ndarray, config: VisionConfig) -> np.ndarray:
        count = config.head_dim // 4
        out = np.empty((len(at), 2 * count))
        for n, i, axis in product(range(len(at)), range(count), range(2)):
            place = 2 * i + axis if interleaved else axis * count + i
            out[n, place] = at[n, 1 - axis if columns_first else axis] * config.rope_theta ** (-i / count)
        return out
    return spatial_angles


def sharing(order: Sequence[int], turns: bool) -> Callable:
    """mrope_angles with sections in another order, or axes in turn."""
    def mrope_angles(positions: np.ndarray, config: TextConfig) -> np.ndarray:
        count = config.head_dim // 2
        owner = [order[i % 3] for i in range(count)] if turns else [
            axis for axis, n in zip(order, config.mrope_section, strict=True) for _ in range(n)]
        return np.array([[row[owner[i]] * config.rope_theta ** (-i / count) for i in range(count)]
                         for row in positions.T.tolist()]).reshape(-1, count)
    return mrope_angles


def moving_on(steps: Sequence[int]) -> Callable:
    """advance by another step on each axis."""
    def advance(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        last = (rows - 1 + offsets).tolist()
        return np.array([[p + step for p in row] for row, step in zip(last, steps, strict=True)], np.int64)
    return advance


def window_ordering(tall: int | None, wide: int | None, by_columns: bool) -> Callable:
    """window_order with windows of another shape (None: as the config says) and order."""
    def window_order(grids: np.ndarray, config: VisionConfig) -> np.ndarray:
        out, start = [], 0
        for t, h, w in _cells(grids, config):
            for frame in range(t):
                for window in _windows(h, w, tall or config.window_cells, wide or config.window_cells, by_columns):
                    out += [start + (frame * h + y) * w + x for y, x in window]
            start += t * h * w
        return np.array(out, np.int64)
    return window_order


def _cells(grids: np.ndarray, config: VisionConfig) -> list[tuple[int, int, int]]:
    merge = config.spatial_merge_size
    return [(t, h // merge, w // merge) for t, h, w in grids.tolist()]


def _windows(h: int, w: int, tall: int, wide: int, by_columns: bool) -> list[list[tuple[int, int]]]:
    """The cells of each window of one frame, in reading order."""
    corners = list(product(range(0, h, tall), range(0, w, wide)))
    if by_columns:
        corners.sort(key=lambda corner: (corner[1], corner[0]))
    return [[(y, x) for y in range(top, min(top + tall, h)) for x in range(left, min(left + wide, w))]
            for top, left in corners]


def scheduling(every: int | None, tall: int | None, wide: int | None) -> Callable:
    """schedule with other full blocks and windows (None: as the config says)."""
    def schedule(grids: np.ndarray, config: VisionConfig) -> tuple[np.ndarray, ...]:
        patches = config.spatial_merge_size**2
        tables: list[list[int]] = [[], []]                         # lengths in patches: windowed, full
        for t, h, w in _cells(grids, config):
            windows = _windows(h, w, tall or config.window_cells, wide or config.window_cells, False)
            tables[0] += [len(window) * patches for window in windows] * t
            tables[1] += [h * w * patches] * t
        full = [b for b in range(config.depth) if b % every == 0] if every else config.fullatt_block_indexes
        return tuple(_runs(tables[block in full]) for block in range(config.depth))
    return schedule


def _runs(lengths: list[int]) -> np.ndarray:
    rows, at = [], 0
    for n in lengths:
        rows.append([at, at + n, at, at + n])
        at += n
    return np.array(rows, np.int64).reshape(-1, 4)


def moving(patches: int, back: bool, flip: bool) -> Callable:
    """order_by_window with other cells, the other way round, or with the rows of a cell in reverse."""
    def order_by_window(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
        out = np.empty_like(rows)
        for i, j in enumerate(order.tolist()):
            here, there = (j, i) if back else (i, j)
            for n in range(patches):
                out[here * patches + n] = rows[there * patches + (patches - 1 - n if flip else n)]
        return out
    return order_by_window


def restoring(step: int) -> Callable:
    """restore_order, and then round by a step."""
    def restore_order(cells: np.ndarray, order: np.ndarray) -> np.ndarray:
        out = np.empty_like(cells)
        for i, j in enumerate(order.tolist()):
            out[(j + step) % len(order)] = cells[i]
        return out
    return restore_order


def merging(order: Sequence[int]) -> Callable:
    """merge_2x2 with the rows of a cell in another order."""
    def merge(x: np.ndarray, merger: Merger) -> np.ndarray:
        out = []
        for top in range(0, len(x), len(order)):
            row = [value for n in order for value in _normed(x[top + n], merger.norm)]
            out.append(_mapped([_gelu(value) for value in _mapped(row, merger.inner)], merger.outer))
        return np.array(out).reshape(len(x) // len(order), -1)
    return merge


def _normed(row: np.ndarray, norm: Norm) -> list[float]:
    root = math.sqrt(sum(float(v) ** 2 for v in row) / len(row) + norm.eps)
    return [float(v) / root * float(w) for v, w in zip(row, norm.weight.dense(np.float64), strict=True)]


def _mapped(row: Sequence[float], w: Linear) -> list[float]:
    bias = np.zeros(w.weight.shape[0]) if w.bias is None else w.bias.dense(np.float64)
    return [sum(a * float(b) for a, b in zip(row, line, strict=True)) + float(c)
            for line, c in zip(w.weight.dense(np.float64), bias, strict=True)]


def _gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def power_norm(power: int, weight_first: bool) -> Callable:
    """rms_norm with another mean than that of squares."""
    def rms_norm(x: np.ndarray, norm: Norm) -> np.ndarray:
        out = []
        for row in x.astype(np.float64):
            weight = norm.weight.dense(np.float64)
            row = row * weight if weight_first else row
            root = (sum(abs(float(v)) ** power for v in row) / len(row) + norm.eps) ** (1 / power)
            out.append(row / root * (1 if weight_first else weight))
        return np.array(out)
    return rms_norm


def rotation(interleaved: bool, backwards: bool) -> Callable:
    """rotate with other pairs, or the other way round."""
    def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        out, half = np.empty(x.shape), x.shape[2] // 2
        for n, a, i in product(range(x.shape[0]), range(x.shape[1]), range(half)):
            one, two = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
            c, s = cos[n, i], -sin[n, i] if backwards else sin[n, i]
            out[n, a, one] = x[n, a, one] * c - x[n, a, two] * s
            out[n, a, two] = x[n, a, two] * c + x[n, a, one] * s
        return out
    return rotate


GATES: dict[str, Callable[[float], float]] = {
    "silu": lambda v: v / (1 + math.exp(-v)), "sigmoid": lambda v: 1 / (1 + math.exp(-v)), "tanh": math.tanh,
    "relu": lambda v: max(v, 0.0)}


def gating(gate: str, up_first: bool) -> Callable:
    """gated_mlp with another gate, or with up above it."""
    def gated_mlp(x: np.ndarray, w: MLP) -> np.ndarray:
        out = []
        for row in x.tolist():
            both = _mapped(row, w.gate_up)
            half = len(both) // 2
            gates, ups = (both[half:], both[:half]) if up_first else (both[:half], both[half:])
            out.append(_mapped([GATES[gate](g) * u for g, u in zip(gates, ups, strict=True)], w.down))
        return np.array(out)
    return gated_mlp


def filling(back: bool, add: bool) -> Callable:
    """place_features from the end, or as a sum."""
    def place_features(x: np.ndarray, placeholders: np.ndarray, features: np.ndarray) -> np.ndarray:
        out = x.copy()
        for i, row in enumerate(features):
            at = placeholders[len(features) - 1 - i if back else i]
            out[at] = x[at] + row if add else row
        return out
    return place_features


def charging(each: bool, power: int) -> Callable:
    """penalise by a sum that is taken off."""
    def penalise(logits: np.ndarray, prompts: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...], penalty: float
                 ) -> np.ndarray:
        out = logits.astype(np.float64)
        for row, prompt, answer in zip(out, prompts, answers, strict=True):
            ids = prompt.tolist() + answer.tolist()
            for i in ids if each else set(ids):
                row[i] -= penalty**power
        return out
    return penalise


def narrowing(share: float) -> Callable:
    """narrow_choice by a share of the likeliest."""
    def narrow_choice(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
        out = logits.astype(np.float64) / temperature
        for row in out:
            least = sorted(row.tolist(), reverse=True)[min(top_k or len(row), len(row)) - 1]
            least = max(least, max(row.tolist()) + math.log(share))
            row[row < least] = np.finfo(np.float64).min
        return out
    return narrow_choice

"""Faults of who sees whom in the tower, and of the order of its cells. On a picture of one window they
all vanish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...config import VisionConfig
from ...kernels.definition import take_rows
from . import cases
from .fault import fault


def _segments(lengths) -> np.ndarray:
    """Runs of these lengths, each seeing itself: g -> g 4."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    return np.stack([ends - lengths, ends, ends - lengths, ends], axis=1)


def _blocks(tables: tuple[np.ndarray, ...], config: VisionConfig, full=None,
            windowed=None) -> tuple[np.ndarray, ...]:
    """The tables with those of full blocks, or of windowed ones, exchanged for another."""
    choice = [full if block in config.fullatt_block_indexes else windowed
              for block in range(len(tables))]
    return tuple(own if other is None else other for own, other in zip(tables, choice, strict=True))


@fault("vision.schedule", ["vllm-project/vllm#15200", "vllm-project/vllm#15197"], 2025,
       "a tenth of the words of a page are missing, boxes are useless",
       shows=cases.ragged, passes=("same", cases.two_windows))
def windows_wrong_at_the_edges(right, grids, config: VisionConfig):
    """What the windows see was worked out once, ahead of the blocks, and wrongly for larger pictures.
    Here each frame is cut into runs of whole windows, as if none were smaller at the edge: from the
    first ragged one on, all are shifted. The model's own tests used small pictures and passed."""
    whole = config.window_cells**2 * config.spatial_merge_size**2
    frames = [gh * gw for t, gh, gw in grids.tolist() for _ in range(t)]
    lengths = [min(whole, frame - at) for frame in frames for at in range(0, frame, whole)]
    return _blocks(right(grids, config), config, windowed=_segments(lengths))


@fault("vision.schedule", ["alibaba/Pai-Megatron-Patch#552", "alibaba/Pai-Megatron-Patch#554"], 2025,
       "training does not converge to the published quality",
       shows=cases.two_windows, passes=("same", cases.one_window))
def windows_swapped_with_full(right, grids, config: VisionConfig):
    """Two tables of the same form went into a function in the wrong order. Blocks that should see the
    whole picture see windows, and the other way round. A picture of one window has only one table."""
    others = tuple(block for block in range(config.depth) if block not in config.fullatt_block_indexes)
    return right(grids, replace(config, fullatt_block_indexes=others))


@fault("vision.schedule", ["Emericen/tiny-qwen", "lablup/mlxcel#866"], 2025,
       "small text and layout get worse with size",
       shows=cases.two_windows, passes=("same", cases.one_window))
def windows_missing(right, grids, config: VisionConfig):
    """The tower was taken over from the model before, which has no windows. Every block sees the whole
    picture, every weight loads and every shape is right. Small pictures give the same numbers."""
    return right(grids, replace(config, fullatt_block_indexes=tuple(range(config.depth))))


@fault("vision.schedule", ["nvidia-cosmos/cosmos-rl#171", "huggingface/trl#5805"], 2025,
       "objects that span windows are not recognised",
       shows=cases.two_windows, passes=("same", cases.one_window))
def full_attention_never_used(right, grids, config: VisionConfig):
    """A block's number was the text "7", which is in no list of integers, so that no block was ever a
    full one. A tiny test model whose full blocks lie beyond its depth hides the same thing. Windows
    never hear of each other."""
    return right(grids, replace(config, fullatt_block_indexes=()))


@fault("vision.schedule", ["sgl-project/sglang#12261", "sgl-project/sglang#9426"], 2025,
       "events of a video run together",
       shows=cases.two_frames, passes=("same", cases.ragged))
def frames_see_each_other(right, grids, config: VisionConfig):
    """Segments were counted for each picture or video; the tower has one for each frame. In full
    blocks all frames of a video attend to each other. A picture has one frame, and videos were not in
    the tests."""
    return _blocks(right(grids, config), config, full=_segments(np.prod(grids, axis=1)))


@fault("vision.schedule", ["vllm-project/tpu-inference#769", "sgl-project/sglang-jax#1289"], 2025,
       "answers mix up two pictures",
       shows=cases.two_pictures, passes=("same", cases.ragged))
def pictures_see_each_other(right, grids, config: VisionConfig):
    """The bounds of segments were given to a kernel that took none. In full blocks every picture of a
    request, and of other requests in the same batch, attends to every other. One picture at a time is
    right."""
    return _blocks(right(grids, config), config, full=_segments([np.prod(grids, axis=1).sum()]))


@fault("vision.restore_order", ["lablup/mlxcel#1601"], 2026,
       "places and objects do not belong together",
       shows=cases.ragged, passes=("same", cases.one_window))
def order_not_inverted(right, cells, order):
    """Cells went back by the same permutation that had sorted them into windows, and not by its inverse.
    Where a window has as many rows of cells as the picture has windows across, the two are the same:
    448 x 448 pixels, the size of the test picture, is such a grid. At other sizes every cell lands
    somewhere else."""
    return take_rows(cells, order)

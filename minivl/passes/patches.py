"""From normalised frames to the rows the vision tower reads: one row a patch of 14 x 14 pixels x 2 frames.

The order of the rows is the thing to know here. It is not raster order: the four patches of a 2x2 block stand one after
the other, because a later stage joins each block to one token by plain reshaping. `by_merge_block` owns that order; the
rotary positions and the map from tokens back to pixels call the same function on coordinates. Readers get it wrong both
ways (QwenLM/Qwen3-VL#263, #485, #633), ports get it wrong silently (kekzl/imp#1167).

Not here: window order, a second and later permutation (`windows.py`). Read next: `windows.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..stage import stage


def by_merge_block(grid: np.ndarray, merge: int) -> np.ndarray:
    """Rows of a grid, block after block: (t, gh, gw, ...) -> (p, ...) for any dtype and any further axes.

    Order: frame pair, block row, block column, row in the block, column in the block. With merge 2 on a 4 x 6 grid:
    (0,0) (0,1) (1,0) (1,1)  (0,2) (0,3) (1,2) (1,3)  ...
    """
    t, gh, gw, *rest = grid.shape
    if gh % merge or gw % merge:
        raise ValueError(f"grid of {gh} x {gw} patches does not divide into blocks of {merge} x {merge}")
    blocks = grid.reshape(t, gh // merge, merge, gw // merge, merge, *rest)   # t gh gw ... -> t rows in_row cols in_col ...
    blocks = blocks.swapaxes(2, 3)                                            # -> t rows cols in_row in_col ...
    return blocks.reshape(t * gh * gw, *rest)                                 # -> p ...


def from_merge_block(rows: np.ndarray, grid: np.ndarray, merge: int) -> np.ndarray:
    """The inverse of `by_merge_block`: (p, ...) -> (t, gh, gw, ...)."""
    t, gh, gw = (int(n) for n in grid)
    rest = rows.shape[1:]
    blocks = rows.reshape(t, gh // merge, gw // merge, merge, merge, *rest)   # p ... -> t rows cols in_row in_col ...
    return blocks.swapaxes(2, 3).reshape(t, gh, gw, *rest)                    # -> t gh gw ...


def grid_of(frames_shape: tuple[int, ...], config: Any) -> np.ndarray:
    """(t, gh, gw) int64: pairs of frames, rows and columns of patches, for frames (t, 3, h, u).

    An odd frame counts as a pair of its own. Raises ValueError when h or u is no multiple of 28 (patch times merge).
    """
    t, _, h, u = frames_shape
    if t < 1 or h < 1 or u < 1 or h % config.factor or u % config.factor:
        raise ValueError(f"{t} frames of {h} x {u} pixels: both sides must be multiples of {config.factor}; "
                         "resize to picture.target_size first")
    return np.array([-(-t // config.temporal_patch_size), h // config.patch_size, u // config.patch_size])


@stage("patches.patchify", "t 3 h u -> p x")
def patchify(frames: np.ndarray, config: Any) -> np.ndarray:
    """Cut frames into patches: (t, 3, h, u) -> (p, 1176), in 2x2 block order, of the dtype of the frames.

    Within a row the value of colour c, frame s of the pair, pixel (py, px) stands at c*392 + s*196 + py*14 + px.
    The last frame is repeated up to a whole pair, so a picture is shown twice.
    """
    t, gh, gw = grid_of(frames.shape, config)
    size, pair = config.patch_size, config.temporal_patch_size
    missing = t * pair - len(frames)
    frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]) if missing else frames
    cut = frames.reshape(t, pair, 3, gh, size, gw, size)                      # 2t 3 h u -> t s c gh py gw px
    cut = cut.transpose(0, 3, 5, 2, 1, 4, 6)                                  # -> t gh gw c s py px
    return by_merge_block(cut, config.merge_size).reshape(t * gh * gw, -1)    # -> p c s py px -> p x


def unpatchify(patches: np.ndarray, grid: np.ndarray, config: Any) -> np.ndarray:
    """The inverse of `patchify`: (p, 1176) -> (2t, 3, h, u). A repeated frame comes back as two equal ones."""
    t, gh, gw = (int(n) for n in grid)
    size, pair = config.patch_size, config.temporal_patch_size
    cut = patches.reshape(-1, 3, pair, size, size)                            # p x -> p c s py px
    cut = from_merge_block(cut, grid, config.merge_size)                      # -> t gh gw c s py px
    return cut.transpose(0, 4, 3, 1, 5, 2, 6).reshape(t * pair, 3, gh * size, gw * size)   # -> 2t 3 h u

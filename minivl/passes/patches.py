"""From normalised frames to the rows that the vision tower reads: a row for each 14 x 14 pixels x 2
frames.

What to know here is the order of the rows. It is not raster order: the four patches of a 2x2 block
stand one after the other, because a later stage joins each block to one token by plain reshaping.
`by_merge_block` owns that order; the rotary positions and the map from tokens back to pixels call it
too, on coordinates. Readers take it for a bug (QwenLM/Qwen3-VL#263, #485, #633); ports that use raster
order fail without an error (kekzl/imp#1167).

Not here: the order by windows, which is a second permutation. Read next: `windows.py`.
"""

from __future__ import annotations

import numpy as np

from ..config import PreprocessorConfig
from ..door.errors import ArgumentError
from ..door.stage import stage


def by_merge_block(grid: np.ndarray, merge: int) -> np.ndarray:
    """Rows of a grid, block after block: (t, gh, gw, ...) -> (p, ...), for any dtype and any further
    axes.

    Order: t, block row, block column, row in the block, column in the block. On a 4 x 6 grid with
        merge 2:
    (0,0) (0,1) (1,0) (1,1), then (0,2) (0,3) (1,2) (1,3), and so on. ArgumentError when blocks do not
    fit.
    """
    t, gh, gw, *rest = grid.shape
    if gh % merge or gw % merge:
        raise ArgumentError(f"a grid of {gh} x {gw} patches has no whole blocks of {merge} x {merge}")
    cut = grid.reshape(t, gh // merge, merge, gw // merge, merge, *rest)     # -> t row in_row col in_col
    return cut.swapaxes(2, 3).reshape(t * gh * gw, *rest)               # -> t row col in_row in_col -> p


def from_merge_block(rows: np.ndarray, grid: np.ndarray, merge: int) -> np.ndarray:
    """The inverse of `by_merge_block`: (p, ...) and grid (t, gh, gw) -> (t, gh, gw, ...)."""
    t, gh, gw = (int(n) for n in grid)
    rest = rows.shape[1:]
    cut = rows.reshape(t, gh // merge, gw // merge, merge, merge, *rest)  # p -> t row col in_row in_col
    return cut.swapaxes(2, 3).reshape(t, gh, gw, *rest)                      # -> t row in_row col in_col


def grid_of(frames_shape: tuple[int, ...], config: PreprocessorConfig) -> np.ndarray:
    """(t, gh, gw) int64 of frames (t, 3, h, u): pairs of frames, rows of patches, columns of patches.

    An odd last frame makes a pair of its own. Raises ArgumentError when h or u is no multiple of 28
    pixels.
    """
    frames, _, h, u = frames_shape
    if frames < 1 or h < 1 or u < 1 or h % config.factor or u % config.factor:
        raise ArgumentError(f"{frames} frames of {h} x {u} pixels (height x width): at least one is "
                            f"needed, and sides that are multiples of {config.factor}; resize to "
                            "picture.target_size first")
    pairs = -(-frames // config.temporal_patch_size)                          # rounded up
    return np.array([pairs, h // config.patch_size, u // config.patch_size], np.int64)


@stage("patches.patchify", "t 3 h u -> p x")
def patchify(frames: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """Cut frames into patches: (t, 3, h, u) -> (p, 1176), rows in 2x2 block order, the dtype unchanged.

    Within a row, colour c of frame s of the pair at pixel (py, px) stands at c*392 + s*196 + py*14 + px.
    The last frame is repeated until the pair is whole: a picture is shown twice.
    """
    t, gh, gw = (int(n) for n in grid_of(frames.shape, config))
    size, pair = config.patch_size, config.temporal_patch_size
    missing = t * pair - len(frames)
    if missing:
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    cut = frames.reshape(t, pair, 3, gh, size, gw, size)                  # 2t 3 h u -> t s c gh py gw px
    cut = cut.transpose(0, 3, 5, 2, 1, 4, 6)                                  # -> t gh gw c s py px
    return by_merge_block(cut, config.merge_size).reshape(t * gh * gw, -1)    # -> p c s py px -> p x


def unpatchify(patches: np.ndarray, grid: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """The inverse of `patchify`: (p, 1176) and grid (t, gh, gw) -> (2t, 3, h, u), repeated frames
    included."""
    t, gh, gw = (int(n) for n in grid)
    size, pair = config.patch_size, config.temporal_patch_size
    cut = patches.reshape(-1, 3, pair, size, size)                            # p x -> p c s py px
    cut = from_merge_block(cut, grid, config.merge_size)                      # -> t gh gw c s py px
    cut = cut.transpose(0, 4, 3, 1, 5, 2, 6)                                  # -> t s c gh py gw px
    return cut.reshape(t * pair, 3, gh * size, gw * size)                     # -> 2t 3 h u

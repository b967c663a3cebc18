"""Who sees whom in the vision tower: the order of cells by window, and the table of segments of every
block.

A *cell* is a 2x2 square of patches: four consecutive rows (see `patches.by_merge_block`), one visual
token after the merger. A *window* is `window_size` pixels a side, 112 in the official models: 4x4
cells, 8x8 patches. Sorting the cells by window once, before the first block, makes every window a run
of consecutive rows, so that attention inside a window is attention inside a segment. Windows at the
right and lower edge are smaller; nothing is padded.

Read next: `vision.py`, and `kernels/definition.py` for what `attend` does with segments.
"""

from __future__ import annotations

import numpy as np

from ..config import VisionConfig
from ..door.stage import stage
from ..kernels.definition import take_rows


@stage("window_order", "i 3, _ -> c")
def window_order(grids: np.ndarray, config: VisionConfig) -> np.ndarray:
    """Cell numbers, window after window: row j of the ordered cells is cell window_order[j] of the
    prompt order.

    grids (i, 3): pairs of frames, patch rows and patch columns of each picture or video. Windows go in
        reading order
        inside a frame and never cross frames or pictures; inside a window cells keep their reading
        order.
    Source: Qwen2.5-VL technical report (arXiv 2502.13923), section 2.1.1.
    """
    offset, parts = 0, []
    for grid in grids:
        windows = _window_of_cell(grid, config)
        # stable: reading order stays inside a window
        parts.append(offset + np.argsort(windows, kind="stable"))
        offset += len(windows)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@stage("schedule", "i 3, _ -> _ 4 *")
def schedule(grids: np.ndarray, config: VisionConfig) -> tuple[np.ndarray, ...]:
    """One table of segments for each block: (g, 4) rows of q0 q1 k0 k1, counted in patches of the
    window order.

    A windowed block attends inside windows, a full one (`fullatt_block_indexes`) inside *frames*: no
    block of the tower ever looks across frames or pictures. The table is made per block so that no
    block asks which kind it is; the two kinds have been swapped (alibaba/Pai-Megatron-Patch#552) and
    never told apart (nvidia-cosmos/cosmos-rl#171).
    """
    patches = config.spatial_merge_size ** 2
    windows = [np.bincount(_window_of_cell(grid, config)) * patches for grid in grids]
    frames = [np.full(grid[0], grid[1] * grid[2]) for grid in grids]
    tables = {True: _segments(frames), False: _segments(windows)}
    return tuple(tables[block in config.fullatt_block_indexes] for block in range(config.depth))


def _window_of_cell(grid: np.ndarray, config: VisionConfig) -> np.ndarray:
    """The number of the window that each cell of one picture or video lies in, cells in reading
    order."""
    t, gh, gw = (int(n) for n in grid)
    side = config.window_cells
    frame, row, col = np.indices((t, gh // config.spatial_merge_size,
                                  gw // config.spatial_merge_size)).reshape(3, -1)
    down, across = -(-gh // config.spatial_merge_size // side), -(-gw // config.spatial_merge_size // side)
    return (frame * down + row // side) * across + col // side


def _segments(lengths: list[np.ndarray]) -> np.ndarray:
    """Segments that see themselves, one after the other: lengths of g runs -> g 4."""
    flat = np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, np.int64)
    ends = np.cumsum(flat)
    return np.stack([ends - flat, ends, ends - flat, ends], axis=1)


@stage("order_by_window", "p d, c -> w d")
def order_by_window(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Patches as cut -> patches by window. Whole cells move: four rows at a time, whatever a row
    holds."""
    cells = rows.reshape(len(order), -1, *rows.shape[1:])                # p d -> m 4 d
    return take_rows(cells, order).reshape(rows.shape)                   # m 4 d -> c 4 d -> w d


@stage("restore_order", "c o, c -> m o")
def restore_order(cells: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Cells by window -> cells in prompt order, so that row i belongs to placeholder i.

    The inverse permutation is `argsort(order)`; `order` itself is right only on grids whose order is
    its own inverse, which is how this bug hides (lablup/mlxcel#1601).
    """
    return take_rows(cells, np.argsort(order))

"""Order and windows: `window_order`, `schedule`, `order_by_window`, `restore_order`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....passes import windows as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .small import vision


def _draw_grids(d: Draws) -> tuple:
    side = d.pick([2, 4, 3, 1])                                    # cells along a window
    return d.grids(3, 7), vision(window_size=28 * side)


def _cells(grid, config):
    return tuple(int(n) for n in (grid[0], grid[1] // config.spatial_merge_size,
                                  grid[2] // config.spatial_merge_size))


def _ragged(grids, config):
    return any(n % config.window_cells for grid in grids for n in _cells(grid, config)[1:])


FACTS = {"a window that is cut off at an edge (ragged)": _ragged,
         "several pictures": lambda grids, config: len(grids) > 1,
         "more than one pair of frames": lambda grids, config: bool((grids[:, 0] > 1).any()),
         "a picture of more than one window": lambda grids, config: any(
             max(_cells(grid, config)[1:]) > config.window_cells for grid in grids),
         "a grid that is not square": lambda grids, config: bool((grids[:, 1] != grids[:, 2]).any())}


def _order(grids, config, *, key=None, inner=None, offset=True, side=None):
    """Cells sorted by window, with one thing at a time made another way."""
    side, parts, start = side or config.window_cells, [], 0
    for grid in grids:
        t, h, w = np.indices(_cells(grid, config)).reshape(3, -1)
        window = key(t, h // side, w // side) if key else (t, h // side, w // side)
        within = inner(h % side, w % side) if inner else (h % side, w % side)
        parts.append(np.lexsort((*within[::-1], *window[::-1])) + start)
        start += len(t) if offset else 0
    return np.concatenate(parts)


# ------------------------------------------------------------------------------------- window_order

def _order_variant(d: Draws) -> Variant:
    # Both sides above 1: windows of one row of cells, read row by row, are plain reading order. And
    # cells in a window go as the windows do: with one down, the other across, one side would not count.
    (tall, wide), by_columns = d.pick([(2, 4), (4, 2), (2, 3), (3, 2)]), d.flag()
    way = "column by column, and so do" if by_columns else "row by row, and so do"
    return Variant(f"windows are {tall} x {wide} cells (height x width), whatever the config says, and "
                   f"go {way} the cells inside a window",
                   plain.window_ordering(tall, wide, by_columns))


ORDER = Exercise("window_order", "vision.window_order",
                 "the cells' numbers, window after window: i 3 -> c",
                 passes.window_order, _draw_grids, facts=FACTS,
                 reads=("window_size", "patch_size", "spatial_merge_size"), variants=_order_variant)
ORDER.wrong("raster_order", lambda *args: _order(*args, side=999),
            "your cells are in raster order: no window is looked at, or windows are too large "
            "(window_size is in pixels; a window is window_size / patch_size / spatial_merge_size "
            "cells wide)")
ORDER.wrong("windows_down", lambda *args: _order(*args, key=lambda t, y, x: (t, x, y)),
            "your windows go down the columns; they go in reading order, along the rows")
ORDER.wrong("all_down",
            lambda *args: _order(*args, key=lambda t, y, x: (t, x, y), inner=lambda y, x: (x, y)),
            "yours goes down first, windows and cells alike; both are read along rows")
ORDER.wrong("inside_down", lambda *args: _order(*args, inner=lambda y, x: (x, y)),
            "inside a window your cells go down the columns; they keep their reading order")
ORDER.wrong("counts_from_zero", lambda *args: _order(*args, offset=False),
            "each picture counts from 0: the cells of the next one go on after its last")
ORDER.wrong("across_frames", lambda *args: _order(*args, key=lambda t, y, x: (y, x, t)),
            "your windows reach across frames: every frame has windows of its own")
ORDER.wrong("twice_as_wide", lambda g, c: _order(g, c, side=c.window_size // c.patch_size),
            "your windows are twice as wide: you divide by the patch alone, cells are 2x2 patches")
ORDER.wrong("order_inverted", lambda g, c: np.argsort(_order(g, c)),
            "that is the inverse: for each cell its new place. Asked is which cell comes at each place")
ORDER.wrong("always_four", lambda *args: _order(*args, side=4),
            "your windows are always 4 cells wide; their size comes from the config")


@ORDER.mistake("cells at the ragged edge are left out: windows there are smaller, but they are "
               "windows")
def edge_left_out(grids, config):
    side, parts, start = config.window_cells, [], 0
    for grid in grids:
        t, h, w = np.indices(_cells(grid, config)).reshape(3, -1)
        whole = (h < grid[1] // 2 // side * side) & (w < grid[2] // 2 // side * side)
        order = np.lexsort((w, h, w // side, h // side, t))
        parts.append(order[whole[order]] + start)
        start += len(t)
    return np.concatenate(parts)


# ----------------------------------------------------------------------------------------- schedule

def _draw_schedule(d: Draws) -> tuple:
    grids, config = _draw_grids(d)
    depth = d.whole(1, 4)
    full = tuple(block for block in range(depth) if d.flag())
    return grids, replace(config, depth=depth, fullatt_block_indexes=full)


def _tables(grids, config, full=None, *, whole=None, patches=4, keys=None, windows=None):
    """One table for each block, with one thing at a time made another way."""
    full = config.fullatt_block_indexes if full is None else full
    side = config.window_cells
    small = [n for grid in grids for n in (windows(grid) if windows
                                           else _window_sizes(grid, config, side, patches))]
    large = [n * patches // 4 for grid in grids for n in (whole(grid) if whole else
                                                          [int(grid[1] * grid[2])] * int(grid[0]))]
    return tuple(_table(large if block in full else small, keys) for block in range(config.depth))


def _window_sizes(grid, config, side, patches=4):
    t, h, w = _cells(grid, config)
    return [patches * min(side, h - y) * min(side, w - x) for _ in range(t)
            for y in range(0, h, side) for x in range(0, w, side)]


def _table(lengths, keys=None):
    ends = np.cumsum(lengths)
    table = np.stack([ends - lengths, ends, ends - lengths, ends], 1)
    return keys(table) if keys else table


def _schedule_variant(d: Draws) -> Variant:
    every, tall, wide = d.pick([2, 3]), *d.pick([(1, 2), (2, 1), (3, 2)])
    return Variant(f"block b is full when b is a multiple of {every}, whatever the config says; windows "
                   f"are {tall} x {wide} cells (height x width)", plain.scheduling(every, tall, wide))


SCHEDULE = Exercise(
    "schedule", "vision.schedule", "for each block a table q0 q1 k0 k1: who sees whom", passes.schedule,
    _draw_schedule,
    facts={**FACTS, "a full block": lambda g, c: bool(c.fullatt_block_indexes),
           "a windowed block": lambda g, c: len(c.fullatt_block_indexes) < c.depth},
    reads=("depth", "fullatt_block_indexes", "window_size", "patch_size", "spatial_merge_size"),
    variants=_schedule_variant)
SCHEDULE.fault("windows-swapped-with-full", "windowed and full blocks are swapped")
SCHEDULE.fault("full-attention-never-used", "no block is ever full: those in fullatt_block_indexes see "
               "their whole frame")
SCHEDULE.fault("windows-missing", "every block is full: only those in fullatt_block_indexes are")
SCHEDULE.wrong("counted_in_cells", lambda *args: _tables(*args, patches=1),
               "rows are counted in cells; a cell is four patches, and rows are patches")
SCHEDULE.fault("frames-see-each-other", "your full blocks see across the frames of a video: they see "
               "one frame")
SCHEDULE.fault("pictures-see-each-other", "your full blocks see across pictures: they see one frame of "
               "one picture")
SCHEDULE.wrong("ends_off_by_one", lambda *args: _tables(*args, keys=lambda table: table - [0, 1, 0, 1]),
               "ends are off by one: q1 and k1 are the first row that is no longer part of the segment")
SCHEDULE.wrong("columns_mixed", lambda *args: _tables(*args, keys=lambda table: table[:, [0, 2, 1, 3]]),
               "columns are q0 q1 k0 k1: start and end of the queries, then of the keys")
SCHEDULE.wrong("lengths_for_ends",
               lambda *args: _tables(*args,
                                     keys=lambda t: np.stack([t[:, 0], t[:, 1] - t[:, 0]] * 2, 1)),
               "you give lengths where the ends belong")
SCHEDULE.wrong("whole_windows_at_edges", lambda g, c: _tables(g, c, windows=lambda grid: [
    4 * c.window_cells**2] * len(_window_sizes(grid, c, c.window_cells))),
               "windows at the ragged edge are counted as whole ones")
SCHEDULE.wrong("blocks_from_one",
               lambda grids, c: _tables(grids, c, [b - 1 for b in c.fullatt_block_indexes]),
               "block numbers count from 1; fullatt_block_indexes counts from 0")


# ------------------------------------------------------------------------- order_by_window, restore

def _draw_order(d: Draws, patches: int = 4) -> tuple:
    cells = d.whole(1, 7)
    return d.floats(patches * cells, d.whole(1, 3)), d.order(cells)


def _moved(rows, order):
    return rows.reshape(len(order), 4, -1)[order].reshape(rows.shape)


def _own_inverse(rows, order):
    return not np.array_equal(order[order], np.arange(len(order)))


def _by_window_variant(d: Draws) -> Variant:
    patches, back = d.pick([2, 9, 3]), d.flag()
    flip = not back or d.flag()  # one of the two, or the model's own pass is right
    return Variant(f"a cell has {patches} patches, "
                   + ("cell i goes to place order[i]" if back else "cell order[i] comes to place i")
                   + ", and inside a cell the rows come in reverse" * flip,
                   plain.moving(patches, back, flip), lambda other: _draw_order(other, patches))


BY_WINDOW = Exercise(
    "order_by_window", "vision.order_by_window", "rows into window order, four at a time: p d, c -> w d",
    passes.order_by_window, _draw_order, facts={"an order that is not its own inverse": _own_inverse},
    variants=_by_window_variant)
BY_WINDOW.wrong("order_unused", lambda rows, order: rows.copy(),
                "your rows are in raster order still: they come out as they went in")
BY_WINDOW.wrong("single_rows_moved",
                lambda rows, order: np.concatenate([rows[order], rows[len(order):]]),
                "you move single rows: `order` numbers cells, four rows that stay together")
BY_WINDOW.wrong("order_inverse", lambda rows, order: _moved(rows, np.argsort(order)),
                "that is the inverse: cell order[i] must come to place i")
BY_WINDOW.wrong("rows_of_cell_reversed",
                lambda rows, order: rows.reshape(len(order), 4, -1)[order][:, ::-1].reshape(rows.shape),
                "the four rows of a cell come out in reverse")
BY_WINDOW.wrong("quarters",
                lambda rows, order: rows.reshape(4, len(order), -1)[:, order].reshape(rows.shape),
                "a cell's rows are taken from the four quarters of the array; they are four "
                "neighbours: reshape to (cells, 4, d), not (4, cells, d)")
BY_WINDOW.wrong("cells_not_split", lambda rows, order: rows.reshape(len(order), -1)[order],
                "you give (cells, 4 d): the rows must come apart again")
BY_WINDOW.wrong("first_row_only", lambda rows, order: np.repeat(rows[order * 4], 4, axis=0),
                "only the first row of each cell moves, four times")
BY_WINDOW.wrong("cells_reversed", lambda rows, order: _moved(rows, order[::-1]),
                "your cells come in reverse")


def _draw_restore(d: Draws) -> tuple:
    cells = d.whole(1, 8)
    return d.floats(cells, d.whole(1, 3)), d.order(cells)


def _restore_variant(d: Draws) -> Variant:
    step = d.whole(1, 3)
    return Variant(f"after they are back in prompt order, cells are moved round by {step}: cell i comes "
                   f"to place i + {step}, the last ones to the front", plain.restoring(step))


RESTORE = Exercise(
    "restore_order", "vision.restore_order", "cells by window back into prompt order: c o, c -> m o",
    passes.restore_order, _draw_restore, facts={"an order that is not its own inverse": _own_inverse},
    variants=_restore_variant)
RESTORE.fault("order-not-inverted", "you apply `order` once more; asked is its inverse (argsort). The "
              "two agree only on grids whose order is its own inverse")
RESTORE.wrong("restore_unused", lambda cells, order: cells.copy(),
              "your cells stay in window order: they come out as they went in")
RESTORE.wrong("values_sorted", lambda cells, order: np.sort(cells, axis=0),
              "you sort the values: it is the rows that move, whole")
RESTORE.wrong("prompt_reversed", lambda cells, order: cells[np.argsort(order)[::-1]],
              "your cells come in reverse prompt order")
RESTORE.wrong("order_reversed", lambda cells, order: cells[order[::-1]],
              "you reverse the order; that is no inverse")
RESTORE.wrong("inverse_twice", lambda cells, order: cells[np.argsort(order)][np.argsort(order)],
              "the inverse is applied twice")

EXERCISES = [ORDER, SCHEDULE, BY_WINDOW, RESTORE]

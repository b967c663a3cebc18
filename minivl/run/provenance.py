"""Which pixels a row of an array comes from. Derived, never carried.

The passes that move rows do not care what a row is. So they are run once more on a table of
coordinates, and whatever they do to the patches they do to the coordinates: no second copy of the
geometry exists that could disagree.

    at = provenance(inputs, config)
    at["w"][5]     # (medium, time, row, column) of the patch in row 5 of any array whose rows are `w`
    at["m"][137]   # the four patches behind visual token 137

An array's letter is the first one that comes out by its stage's contract (`contract.rows_of`). Passes
that vision blocks and decoder layers share say `n`: theirs are `w` rows in the tower, `s` rows in the
decoder.

Read next: `passes/windows.py`, whose functions are run here; `where` below answers `minivl where`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config import ModelConfig
from ..door.errors import ArgumentError, OutOfRange
from ..door.stage import unwatched
from ..kernels.definition import put_rows
from ..passes.positions import grid_coordinates
from ..passes.windows import order_by_window, restore_order, schedule, window_order
from .inputs import Inputs, placeholders

COLUMNS = ("medium", "time", "row", "column")


def provenance(inputs: Inputs, config: ModelConfig) -> dict[str, np.ndarray]:
    """Coordinates (medium, time, row, column) of the patches behind every row, by axis letter.

    p, w: (rows, 4), one patch each       c, m: (rows, 4, 4), the four patches of a cell
    s: (rows, 4, 4), -1 where a token is text       r: the same as s, for the cache of a single conversation
    """
    merge = config.vision.spatial_merge_size
    if not len(inputs.grids):                                               # nothing to move: text alone
        none = np.zeros((0, 4), np.int64)
        text = np.full((len(inputs.input_ids), merge**2, 4), -1)
        return {"p": none, "w": none, "c": text[:0], "m": text[:0], "s": text, "r": text}
    with unwatched():
        order = window_order(inputs.grids, config.vision)
        patches = [_with_medium(n, grid_coordinates(grid, merge)) for n, grid in enumerate(inputs.grids)]
        at = {"p": np.concatenate([*patches, np.zeros((0, 4), np.int64)])}
        at["w"] = order_by_window(at["p"], order)                                    # p 4 -> w 4
        cells = at["w"].reshape(len(order), -1)                            # w 4 -> c 16, as in merge_2x2
        at["c"] = cells.reshape(len(order), -1, 4)
        at["m"] = restore_order(cells, order).reshape(at["c"].shape)                 # c 16 -> m 4 4
        text = np.full((len(inputs.input_ids), *at["c"].shape[1:]), -1)
        # m 4 4 -> s 4 4
        at["s"] = at["r"] = put_rows(text, placeholders(inputs.input_ids, config), at["m"])
    return at


def _with_medium(number: int, coordinates: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((len(coordinates), 1), number), coordinates], axis=1)     # p 3 -> p 4


@dataclass(frozen=True)
class Where:
    """One visual token and all its places. Boxes are x0, y0, x1, y1 in pixels, x1 and y1 not
    included."""
    token: int                                   # its number among visual tokens (m)
    sequence: int                                # its row in the prompt (s)
    medium: int                                  # which picture or video
    time: int                                    # which pair of frames
    cell: tuple[int, int]                        # row and column among merged cells
    patches: tuple[int, ...]                     # its rows in pixel_values (p), counted over all media
    window_rows: tuple[int, ...]                 # its rows in arrays in window order (w)
    segments: tuple[tuple[int, int], ...]       # for each block, the rows (w) that its patches attend to
    position: tuple[int, int, int]               # MRoPE time, height, width
    box: tuple[int, int, int, int]               # in the resized picture
    source_box: tuple[float, float, float, float] | None      # in the picture as it came

    def __str__(self) -> str:
        return "\n".join(f"{name:<12} {value}" for name, value in vars(self).items())


def where_token(inputs: Inputs, config: ModelConfig, token: int) -> Where:
    """Everything about visual token number `token` (m). Raises OutOfRange when there is no such
    token."""
    at = provenance(inputs, config)
    if not 0 <= token < len(at["m"]):
        raise OutOfRange(f"there is no visual token {token}: the prompt has {len(at['m'])}, numbered "
                         "from 0")
    medium, time, row, column = at["m"][token].min(axis=0).tolist()
    rows = _find(at["w"], at["m"][token])
    with unwatched():
        tables = schedule(inputs.grids, config.vision)
    size, merge = config.vision.patch_size, config.vision.spatial_merge_size
    box = (column * size, row * size, (column + merge) * size, (row + merge) * size)
    sequence = int(placeholders(inputs.input_ids, config)[token])
    return Where(token, sequence, medium, time, (row // merge, column // merge),
                 _find(at["p"], at["m"][token]), rows,
                 tuple(_segment_of(rows[0], table) for table in tables),
                 tuple(inputs.position_ids[:, sequence].tolist()), box, _to_source(box, inputs, medium))


def where_pixel(inputs: Inputs, config: ModelConfig, x: float, y: float, medium: int = 0,
                time: int = 0) -> Where:
    """Everything about the visual token that pixel (x, y) of a picture as it came ends up in: the one
    that its centre lies in, which sees most of it.

    x, y: column and row of the pixel; a fraction names the same pixel. time: which pair of frames.
    Raises OutOfRange when the pixel lies outside of the picture, ArgumentError when the picture's size
    is not known.
    """
    if not 0 <= medium < len(inputs.media):
        raise OutOfRange(f"there is no picture {medium}: the prompt has {len(inputs.media)}, numbered "
                         "from 0")
    item = inputs.media[medium]
    if not 0 <= time < item.grid[0]:
        raise OutOfRange(f"medium {medium} has {item.grid[0]} pairs of frames, numbered from 0; there "
                         f"is no {time}")
    if item.source_size is None or item.size is None:
        raise ArgumentError(f"picture {medium} came as patches: the size of its source is not known")
    height, width = item.source_size
    if not (0 <= x < width and 0 <= y < height):
        raise OutOfRange(f"pixel ({x}, {y}) lies outside of the picture, which is {width} wide and "
                         f"{height} high")
    side = config.vision.patch_size * config.vision.spatial_merge_size
    row, column = (_cell_of(at, whole, seen, side) for at, whole, seen in
                   zip((y, x), item.source_size, item.size, strict=True))
    merge = config.vision.spatial_merge_size
    wanted = np.array([medium, time, row * merge, column * merge])
    first = provenance(inputs, config)["m"].min(axis=1)                              # m 4 4 -> m 4
    return where_token(inputs, config, _find(first, wanted[None])[0])


def _cell_of(at: float, whole: int, seen: int, side: int) -> int:
    """Which cell, of `side` pixels, the centre of pixel `at` of a side of `whole` pixels falls into when
    `seen` are left of it. Resizing keeps centres in place, not corners; in whole numbers nothing is
    rounded."""
    return (2 * int(at) + 1) * seen // (2 * whole * side)


def _find(table: np.ndarray, rows: np.ndarray) -> tuple[int, ...]:
    """Where each of `rows` stands in `table`, both (n, 4)."""
    return tuple(int(np.flatnonzero((table == row).all(axis=1))[0]) for row in rows)


def _segment_of(row: int, table: np.ndarray) -> tuple[int, int]:
    q0, q1 = next((int(a), int(b)) for a, b, _, _ in table if a <= row < b)
    return q0, q1


def _to_source(box: tuple[int, int, int, int], inputs: Inputs, medium: int
               ) -> tuple[float, float, float, float] | None:
    """A box in the resized picture as a box in the picture as it came; None when that one's size is
    not known."""
    item = inputs.media[medium]
    if item.source_size is None or item.size is None:
        return None
    down, across = item.source_size[0] / item.size[0], item.source_size[1] / item.size[1]
    return (box[0] * across, box[1] * down, box[2] * across, box[3] * down)

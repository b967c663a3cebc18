"""Pictures and the grids over them: patches, cells, windows, and the boxes of an answer.

A video is drawn as a strip: its frames side by side, GAP pixels of white between. Where a row of an
array lies comes from the passes themselves (`window_order`, `schedule`). Read next: `placed.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from ...door.stage import unwatched
from ...passes.patches import unpatchify
from ...passes.positions import grid_coordinates
from ...passes.windows import order_by_window, schedule, window_order
from . import axes
from .axes import BLUE, COLOURS, GREEN, INK, ORANGE, PAPER

GAP = 14                    # pixels between two frames of a video
LEAST_POINTS = 6.0          # numbers smaller than this are not drawn
PIXELS = ("column (pixels)", "row (pixels)")


def picture(pixels: np.ndarray, config: Any = None, ax: Any = None) -> Any:
    """A picture (y, b, 3) or the frames of a video (t, y, b, 3), uint8; axes in pixels.

    Normalised ones, (3, h, u) or (t, 3, h, u) floating, need the PreprocessorConfig that they were
    normalised with.
    """
    frames = frames_of(pixels, config)
    height, width = frames.shape[1:3]
    ax = axes.or_new(ax)
    ax.imshow(strip(frames))
    many = f"{len(frames)} frames of " if len(frames) > 1 else ""
    return axes.dress(ax, f"{many}{height} x {width} pixels", *PIXELS)


def found(pixels: np.ndarray, things: Sequence[Any], ax: Any = None) -> Any:
    """A picture (y, b, 3) as it came, with what `VLM.ground` gives: boxes and points, from 1 on."""
    ax = picture(pixels, ax=ax)
    for number, thing in enumerate(things):
        x0, y0, x1, y1 = (n - 0.5 for n in thing.box or thing.point * 2)      # imshow: pixel 0 is at 0
        colour = COLOURS[number % len(COLOURS)]
        if thing.box:
            axes.frame(ax, x0, x1, y0, y1, PAPER, 3.4)
            axes.frame(ax, x0, x1, y0, y1, colour, 2)
        else:
            ax.plot([x0], [y0], "o", color=colour, mec=PAPER, ms=8)
        leftwards, below = x0 > pixels.shape[1] * 0.7, y0 < pixels.shape[0] * 0.1
        name = f"{number + 1} {thing.label[:40]}".strip()
        _tag(ax, (x1 if leftwards else x0, y0), name, colour, leftwards, below)
    return axes.dress(ax, f"{len(things)} found", *PIXELS)


def _tag(ax: Any, at: tuple[float, float], text: str, colour: str, leftwards: bool, below: bool) -> None:
    """A name at a place: above it unless the picture begins there. It takes no room of its own."""
    note = ax.annotate(text.replace("$", r"\$"), at, (0, -6 if below else 6), textcoords="offset points",
                       ha="right" if leftwards else "left", va="top" if below else "bottom", size=8,
                       color=PAPER, clip_on=True,
                       bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5})
    note.set_in_layout(False)


def patch_grid(pixels: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """A resized picture under its grid: thin lines between patches (14 pixels), thick for cells (28).

    pixels (h, u, 3) or (2t, h, u, 3) as `picture.resize` gives it, grid (3,); config: any of the
    model's. Of a pair of frames the first is drawn.
    """
    ax = axes.or_new(ax)
    frames = first_of_pairs(frames_of(pixels, config), grid)                  # 2t h u 3 -> t h u 3
    ax.imshow(strip(frames))
    size, merge = sizes(config)
    for left in lefts(frames):
        ruling(ax, left, frames.shape[1:3], size, PAPER, 0.5, 0.75)
        ruling(ax, left, frames.shape[1:3], size * merge, INK, 1.1, 0.9)
    t, gh, gw = (int(n) for n in grid)
    pairs = f"{t} pairs of frames, " if t > 1 else ""
    return axes.dress(ax, f"{pairs}{gh} x {gw} patches, {gh // merge} x {gw // merge} cells", *PIXELS)


def patches(values: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """Patches (p, 1176) pulled apart, each with the number of its row: four of a cell follow each other.

    config: the PreprocessorConfig that they were cut with. The line goes from row to row, so it jumps
    where the order is not reading order. Of the two frames in a patch the first is drawn.
    """
    ax = axes.or_new(ax)
    frames = frames_of(unpatchify(values, grid, config), config)              # p x -> 2t h u 3
    frames = first_of_pairs(frames, grid)                                     # 2t h u 3 -> t h u 3
    size, merge = sizes(config)
    sheet, centres = _pull_apart(frames, grid, size, merge)                   # t h u 3 -> y x 3, p 2
    ax.imshow(sheet)
    _order_line(ax, centres, size * 1.6, 0.8)
    _numbers(ax, centres, sheet.shape, size, merge**2)
    return axes.dress(axes.without_ticks(ax), f"{len(values)} rows in the order they are cut")


def windows(pixels: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """A resized picture under its attention windows: in each cell stands its place in the window order.

    pixels and grid as for `patch_grid`; config: the model's or its vision part. The line follows the
    order; windows at the right and lower edge may be smaller.
    """
    ax = axes.or_new(ax)
    frames = first_of_pairs(frames_of(pixels, config), grid)                  # 2t h u 3 -> t h u 3
    ax.imshow(strip(frames), alpha=0.75)
    vision = getattr(config, "vision", config)
    centres, runs = _window_cells(np.asarray(grid), vision, frames.shape[2])
    side = vision.patch_size * vision.spatial_merge_size
    _order_line(ax, centres, side * 1.5)
    for number, (start, end) in enumerate(runs):
        _window(ax, centres[start:end], side, (ORANGE, GREEN)[number % 2])
    _numbers(ax, centres, strip(frames).shape, side, runs[0][1])
    size = f"{vision.window_size} x {vision.window_size}"
    return axes.dress(ax, f"{len(runs)} windows of up to {size} pixels, {len(centres)} cells", *PIXELS)


def _order_line(ax: Any, centres: np.ndarray, near: float, width: float = 1.1) -> None:
    """A line from row to row: solid to a neighbour, hardly there where the order jumps."""
    steps = np.stack([centres[:-1], centres[1:]], axis=1)                     # c 2 -> c-1 2 2
    jumps = np.hypot(*(steps[:, 1] - steps[:, 0]).T) > near
    lines = axes.matplotlib("collections").LineCollection
    ax.add_collection(lines(steps[jumps], colors=INK, linewidths=0.7, alpha=0.35, linestyles="dotted"))
    ax.add_collection(lines(steps[~jumps], colors=PAPER, linewidths=2.2 * width, alpha=0.7))
    ax.add_collection(lines(steps[~jumps], colors=BLUE, linewidths=width))


def _window(ax: Any, centres: np.ndarray, side: int, colour: str) -> None:
    """The border of one window, a little inside of it, so that neighbours do not cover each other."""
    (x0, y0), (x1, y1) = centres.min(axis=0) - side / 2 + 1, centres.max(axis=0) + side / 2 - 1
    axes.block(ax, x0, x1, y0, y1, colour, alpha=0.18)
    axes.frame(ax, x0, x1, y0, y1, colour, 2.2)


def _window_cells(grid: np.ndarray, config: Any, width: int
                  ) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Centres (x, y) of the cells in window order, c 2, in pixels, and each window's run of cells."""
    merge = config.spatial_merge_size
    with unwatched():
        order = window_order(grid[None], config)
        at = order_by_window(grid_coordinates(grid, merge), order)            # p 3 -> w 3
        tables = schedule(grid[None], config)
    windowed = [b for b in range(config.depth) if b not in config.fullatt_block_indexes] or [0]
    runs = [(int(q0) // merge**2, int(q1) // merge**2) for q0, q1, _, _ in tables[windowed[0]]]
    time, row, column = at.reshape(len(order), -1, 3).mean(axis=1).T          # w 3 -> c 4 3 -> c 3
    x = time * (width + GAP) + (column + 0.5) * config.patch_size - 0.5
    return np.stack([x, (row + 0.5) * config.patch_size - 0.5], axis=1), runs


def _pull_apart(frames: np.ndarray, grid: np.ndarray, size: int, merge: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """Patches on white, gaps small inside a cell and large between: y x 3, and their centres p 2."""
    small, large = 1, 6
    at = grid_coordinates(np.asarray(grid), merge)                            # p 3
    time, corner = at[:, 0], at[:, 1:] * (size + small) + at[:, 1:] // merge * (large - small)
    bottom, right = corner.max(axis=0) + size
    corner = corner + np.stack([0 * time, time * (right + 2 * large)], axis=1)      # frames side by side
    out = np.full((bottom, int(corner[:, 1].max()) + size, 3), 255, np.uint8)
    for (t, row, column), (y, x) in zip(at * (1, size, size), corner, strict=True):
        out[y : y + size, x : x + size] = frames[t, row : row + size, column : column + size]
    return out, corner[:, ::-1] + size / 2 - 0.5


def _numbers(ax: Any, centres: np.ndarray, shape: tuple[int, ...], side: int, group: int) -> None:
    """Numbers on things `side` pixels wide in a drawn array of this shape. Where they would be too small
    to read, there is one for each group of that many, and none where these are too small as well."""
    box = ax.get_window_extent()
    points = 0.4 * side * min(box.width / shape[1], box.height / shape[0]) * 72 / ax.figure.dpi
    every = 1 if points >= LEAST_POINTS else group
    points *= every ** 0.5
    if points >= LEAST_POINTS:
        for number in range(0, len(centres), every):
            axes.write(ax, centres[number], str(number), float(np.clip(points, 8, 11)))


# ---- frames ----------------------------------------------------------------------------------------

def frames_of(pixels: np.ndarray, config: Any) -> np.ndarray:
    """Any picture or video as (t, y, b, 3) uint8. Raises ArgumentError for what is neither."""
    pixels = np.asarray(pixels)
    stack = pixels if pixels.ndim == 4 else pixels[None]
    if stack.ndim == 4 and stack.dtype == np.uint8 and stack.shape[3] == 3:
        return stack
    if stack.ndim == 4 and stack.dtype.kind == "f" and stack.shape[1] == 3:
        if not hasattr(config, "image_mean"):
            raise ArgumentError("normalised pixels need the PreprocessorConfig that they were "
                                "normalised with: give vlm.processor.preprocessor as config")
        stack = stack.transpose(0, 2, 3, 1)                                   # t 3 h u -> t h u 3
        colours = stack * config.image_std + config.image_mean
        return np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    raise ArgumentError(f"{pixels.dtype} {list(pixels.shape)} is not a picture: uint8 [y b 3] or "
                        "[t y b 3], or normalised floats [3 h u] or [t 3 h u]")


def first_of_pairs(frames: np.ndarray, grid: Sequence[int] | np.ndarray) -> np.ndarray:
    """The first frame of each pair; a picture stays as it is."""
    pairs = int(grid[0])
    if len(frames) not in (pairs, 2 * pairs - 1, 2 * pairs):
        grid = list(map(int, grid))
        raise ArgumentError(f"{len(frames)} frames do not fit a grid of {pairs} pairs ({grid})")
    return frames if len(frames) == pairs else frames[::2]


def strip(frames: np.ndarray) -> np.ndarray:
    """Frames side by side with white between them: (t, y, b, 3) -> (y, t (b + GAP) - GAP, 3)."""
    wide = np.pad(frames, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return wide.swapaxes(0, 1).reshape(frames.shape[1], -1, 3)[:, :-GAP]


def lefts(frames: np.ndarray) -> list[int]:
    """The column of a strip at which each frame begins."""
    return [n * (frames.shape[2] + GAP) for n in range(len(frames))]


def sizes(config: Any) -> tuple[int, int]:
    """Pixels of a patch and patches of a cell, along a side, from any of the configurations."""
    config = getattr(config, "vision", config)
    return config.patch_size, getattr(config, "merge_size", None) or config.spatial_merge_size


def ruling(ax: Any, left: int, shape: tuple[int, ...], step: int, colour: str, width: float,
           alpha: float) -> None:
    """Lines every `step` pixels over one frame of this shape."""
    bottom, right = shape[0] - 0.5, left + shape[1] - 0.5
    across, down = (np.arange(0, side + 1, step) - 0.5 for side in (shape[1], shape[0]))
    ax.vlines(left + across, -0.5, bottom, color=colour, lw=width, alpha=alpha)
    ax.hlines(down, left - 0.5, right, color=colour, lw=width, alpha=alpha)

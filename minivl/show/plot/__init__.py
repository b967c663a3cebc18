"""Arrays as pictures: one function for each kind of array that a pass gives, drawn on an Axes and returned as one.

    from minivl import plot
    plot.windows(pixels, grid, vlm.config).figure.savefig("windows.png")
    plot.rows(trace["vision.blocks.4.add_mlp"], "w", provenance(inputs, vlm.config), pixels=pixels)

What an array means is not decided here: positions of rows come from the passes themselves (`window_order`, `schedule`,
`provenance`), so a drawing cannot disagree with the model. Needs matplotlib, which is imported when the first figure is
drawn; pyplot is never touched, so no state is left behind and no window opens. Videos are drawn as a strip of frames.

Not here: interactive pages, and any judgement of an array. Read next: `run/provenance.py`, `show/demo.py`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from ...door.contract import AXES, rows_of
from ...door.stage import unwatched
from ...passes.patches import unpatchify
from ...passes.positions import grid_coordinates
from ...passes.windows import order_by_window, schedule, window_order

# Okabe and Ito's colours, which stay apart for every kind of colour vision
BLUE, ORANGE, GREEN, INK, PAPER = "#0072B2", "#E69F00", "#009E73", "#222222", "#ffffff"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#D55E00")      # for things that are told apart by number
MAGNITUDE, SIGNED = "viridis", "RdBu_r"
GAP = 14                    # pixels between two frames of a video
LEAST_POINTS = 4.0          # numbers smaller than this are not drawn


# ------------------------------------------------------------------------------------------- figures and axes

def board(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.0, 4.2), **options: Any) -> Any:
    """A figure of rows x columns empty axes (`.axes`, in reading order), `size` in inches, 100 dots an inch.

    It shows itself in a notebook. Raises ImportError without matplotlib.
    """
    figure = _figure_type()(figsize=size, dpi=100, layout="constrained")
    figure.subplots(rows, columns, **options)
    return figure


@lru_cache(maxsize=1)
def _figure_type() -> type:
    module = _matplotlib("figure")

    class Board(module.Figure):              # type: ignore[name-defined]
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()
    return Board


def _matplotlib(name: str) -> ModuleType:
    import importlib
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "minivl[plot]"') from error


def _axes(ax: Any) -> Any:
    return board().axes[0] if ax is None else ax


def _label(ax: Any, at: np.ndarray, text: str, size: float = 8, colour: str = PAPER, **options: Any) -> None:
    """Text that can be read on any background: an outline of the opposite lightness."""
    stroke = _matplotlib("patheffects").withStroke(linewidth=size / 5, foreground=INK if colour == PAPER else PAPER)
    ax.text(*at, text, size=size, color=colour, ha="center", va="center", path_effects=[stroke], **options)


def _colour_bar(ax: Any, image: Any, label: str) -> None:
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.035, 1)))           # as high as the picture
    bar.set_label(label, size=8)
    bar.ax.tick_params(labelsize=7)


def _dress(ax: Any, title: str, x: str, y: str) -> Any:
    ax.set_title(title, size=9)
    ax.set_xlabel(x, size=8)
    ax.set_ylabel(y, size=8)
    ax.tick_params(labelsize=7)
    return ax


# ----------------------------------------------------------------------------------------- pictures and grids

def picture(pixels: np.ndarray, config: Any = None, ax: Any = None) -> Any:
    """A picture (y, b, 3) or the frames of a video (t, y, b, 3), uint8; axes in pixels.

    Normalised ones, (3, h, u) or (t, 3, h, u) floating, need the PreprocessorConfig that they were normalised with.
    """
    frames = _frames(pixels, config)
    height, width = frames.shape[1:3]
    ax = _axes(ax)
    ax.imshow(_strip(frames))
    many = f"{len(frames)} frames of " if len(frames) > 1 else ""
    return _dress(ax, f"{many}{height} x {width} pixels", "column (pixels)", "row (pixels)")


def found(pixels: np.ndarray, things: Sequence[Any], ax: Any = None) -> Any:
    """A picture (y, b, 3) as it came, with the boxes and points that `VLM.ground` gives, numbered from 1."""
    ax = picture(pixels, ax=ax)
    for number, thing in enumerate(things):
        x0, y0, x1, y1 = (n - 0.5 for n in thing.box or thing.point * 2)              # imshow: pixel 0 is at 0
        colour = COLOURS[number % len(COLOURS)]
        if thing.box:
            ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=PAPER, lw=3.4)
            ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=2)
        else:
            ax.plot([x0], [y0], "o", color=colour, mec=PAPER, ms=8)
        corner = (x0 > pixels.shape[1] * 0.7, y0 < pixels.shape[0] * 0.1)
        _tag(ax, (x1 if corner[0] else x0, y0), f"{number + 1} {thing.label[:40]}".strip(), colour, *corner)
    return _dress(ax, f"{len(things)} found", "column (pixels)", "row (pixels)")


def _tag(ax: Any, at: tuple[float, float], text: str, colour: str, leftwards: bool, below: bool) -> None:
    """A name at a place: above it unless the picture begins there. It takes no room of its own."""
    note = ax.annotate(text.replace("$", r"\$"), at, (0, -6 if below else 6), textcoords="offset points",
                       ha="right" if leftwards else "left", va="top" if below else "bottom", size=7, color=PAPER,
                       clip_on=True, bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5})
    note.set_in_layout(False)


def patch_grid(pixels: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """A resized picture under its grid: thin lines between patches (14 pixels), thick ones between cells (28).

    pixels (h, u, 3) or (2t, h, u, 3) as `picture.resize` gives it, grid (3,); config: any of the model's. Of a pair of
    frames the first is drawn.
    """
    ax = _axes(ax)
    frames = _pairs(_frames(pixels, config), grid)
    ax.imshow(_strip(frames))
    size, merge = _sizes(config)
    for left in _lefts(frames):
        _ruling(ax, left, frames.shape[1:3], size, PAPER, 0.5, 0.75)
        _ruling(ax, left, frames.shape[1:3], size * merge, INK, 1.1, 0.9)
    t, gh, gw = (int(n) for n in grid)
    pairs = f"{t} pairs of frames, " if t > 1 else ""
    title = f"{pairs}{gh} x {gw} patches, {gh // merge} x {gw // merge} cells"
    return _dress(ax, title, "column (pixels)", "row (pixels)")


def patches(values: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """Patches (p, 1176) pulled apart, each with the number of its row: four of a cell follow each other.

    config: the PreprocessorConfig that they were cut with. The line goes from row to row, so it jumps where the order
    is not reading order. Of the two frames in a patch the first is drawn.
    """
    ax = _axes(ax)
    frames = _pairs(_frames(unpatchify(values, grid, config), config), grid)          # p x -> t h u 3
    size, merge = _sizes(config)
    board_, centres = _pull_apart(frames, grid, size, merge)
    ax.imshow(board_)
    _order_line(ax, centres, size * 1.6, 0.8)
    _numbers(ax, centres, board_.shape, size, merge**2)
    ax.set_xticks([])
    ax.set_yticks([])
    return _dress(ax, f"{len(values)} rows in the order they are cut", "", "")


def windows(pixels: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None) -> Any:
    """A resized picture under its attention windows: borders, and in each cell its place in the window order.

    pixels and grid as for `patch_grid`; config: the model's or its vision part. The line follows the order; windows at
    the right and lower edge may be smaller.
    """
    ax = _axes(ax)
    frames = _pairs(_frames(pixels, config), grid)
    ax.imshow(_strip(frames), alpha=0.75)
    vision = getattr(config, "vision", config)
    centres, runs = _window_cells(np.asarray(grid), vision, frames.shape[2])
    side = vision.patch_size * vision.spatial_merge_size
    _order_line(ax, centres, side * 1.5)
    for number, (start, end) in enumerate(runs):
        _window(ax, centres[start:end], side, number)
    _numbers(ax, centres, _strip(frames).shape, side, runs[0][1])
    title = f"{len(runs)} windows of up to {vision.window_size} x {vision.window_size} pixels, {len(centres)} cells"
    return _dress(ax, title, "column (pixels)", "row (pixels)")


def _order_line(ax: Any, centres: np.ndarray, near: float, width: float = 1.1) -> None:
    """A line from row to row: solid to a neighbour, hardly there where the order jumps."""
    steps = np.stack([centres[:-1], centres[1:]], axis=1)                             # c 2 -> c-1 2 2
    jumps = np.hypot(*(steps[:, 1] - steps[:, 0]).T) > near
    lines = _matplotlib("collections").LineCollection
    ax.add_collection(lines(steps[jumps], colors=INK, linewidths=0.7, alpha=0.35, linestyles="dotted"))
    ax.add_collection(lines(steps[~jumps], colors=PAPER, linewidths=2.2 * width, alpha=0.7))
    ax.add_collection(lines(steps[~jumps], colors=BLUE, linewidths=width))


def _window(ax: Any, centres: np.ndarray, side: int, number: int) -> None:
    """The border of one window, a little inside of it, so that neighbours do not cover each other."""
    (x0, y0), (x1, y1) = centres.min(axis=0) - side / 2 + 1, centres.max(axis=0) + side / 2 - 1
    colour = (ORANGE, GREEN)[number % 2]
    ax.fill([x0, x1, x1, x0], [y0, y0, y1, y1], facecolor=colour, alpha=0.18)
    ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=2.2)


def _window_cells(grid: np.ndarray, config: Any, width: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Centres (x, y) in pixels of the cells in window order, (c, 2), and the runs of cells that form a window."""
    merge = config.spatial_merge_size
    with unwatched():
        order = window_order(grid[None], config)
        at = order_by_window(grid_coordinates(grid, merge), order)                    # p 3 -> w 3
        tables = schedule(grid[None], config)
    windowed = [b for b in range(config.depth) if b not in config.fullatt_block_indexes] or [0]
    runs = [(int(q0) // merge**2, int(q1) // merge**2) for q0, q1, _, _ in tables[windowed[0]]]
    cells = at.reshape(len(order), -1, 3).mean(axis=1)                                # w 3 -> c 4 3 -> c 3
    time, row, column = cells.T
    x = time * (width + GAP) + (column + 0.5) * config.patch_size - 0.5
    return np.stack([x, (row + 0.5) * config.patch_size - 0.5], axis=1), runs


def _frames(pixels: np.ndarray, config: Any) -> np.ndarray:
    """Any picture or video as (t, y, b, 3) uint8."""
    pixels = np.asarray(pixels)
    stack = pixels if pixels.ndim == 4 else pixels[None]
    if stack.ndim == 4 and stack.dtype == np.uint8 and stack.shape[3] == 3:
        return stack
    if stack.ndim == 4 and stack.dtype.kind == "f" and stack.shape[1] == 3:
        if not hasattr(config, "image_mean"):
            raise ValueError("normalised pixels need the PreprocessorConfig that they were normalised with: "
                             "give vlm.processor.preprocessor as config")
        colours = stack.transpose(0, 2, 3, 1) * config.image_std + config.image_mean  # t 3 h u -> t h u 3
        return np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    raise ValueError(f"{pixels.dtype} {list(pixels.shape)} is not a picture: uint8 [y b 3] or [t y b 3], "
                     "or normalised floats [3 h u] or [t 3 h u]")


def _pairs(frames: np.ndarray, grid: Sequence[int] | np.ndarray) -> np.ndarray:
    """The first frame of each pair; a picture stays as it is."""
    pairs = int(grid[0])
    if len(frames) not in (pairs, 2 * pairs - 1, 2 * pairs):
        raise ValueError(f"{len(frames)} frames do not fit a grid of {pairs} pairs ({list(map(int, grid))})")
    return frames if len(frames) == pairs else frames[::2]


def _strip(frames: np.ndarray) -> np.ndarray:
    """Frames side by side with white between them: (t, y, b, 3) -> (y, t (b + GAP) - GAP, 3)."""
    wide = np.pad(frames, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return wide.swapaxes(0, 1).reshape(frames.shape[1], -1, 3)[:, :-GAP]


def _lefts(frames: np.ndarray) -> list[int]:
    return [n * (frames.shape[2] + GAP) for n in range(len(frames))]


def _sizes(config: Any) -> tuple[int, int]:
    """Pixels of a patch and patches of a cell, along a side, from any of the configurations."""
    config = getattr(config, "vision", config)
    return config.patch_size, getattr(config, "merge_size", None) or config.spatial_merge_size


def _ruling(ax: Any, left: int, shape: tuple[int, ...], step: int, colour: str, width: float, alpha: float) -> None:
    bottom, right = shape[0] - 0.5, left + shape[1] - 0.5
    ax.vlines(left + np.arange(0, shape[1] + 1, step) - 0.5, -0.5, bottom, color=colour, lw=width, alpha=alpha)
    ax.hlines(np.arange(0, shape[0] + 1, step) - 0.5, left - 0.5, right, color=colour, lw=width, alpha=alpha)


def _pull_apart(frames: np.ndarray, grid: np.ndarray, size: int, merge: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches on white with small gaps inside a cell and large ones between: the picture, and centres (p, 2) by row."""
    small, large = 1, 6
    at = grid_coordinates(np.asarray(grid), merge)                                    # p 3
    time, corner = at[:, 0], at[:, 1:] * (size + small) + at[:, 1:] // merge * (large - small)
    bottom, right = corner.max(axis=0) + size
    corner = corner + np.stack([0 * time, time * (right + 2 * large)], axis=1)        # frames side by side
    out = np.full((bottom, int(corner[:, 1].max()) + size, 3), 255, np.uint8)
    for (t, row, column), (y, x) in zip(at, corner, strict=True):
        out[y : y + size, x : x + size] = frames[t, row * size : (row + 1) * size, column * size : (column + 1) * size]
    return out, corner[:, ::-1] + size / 2 - 0.5


def _numbers(ax: Any, centres: np.ndarray, shape: tuple[int, ...], side: int, group: int) -> None:
    """Numbers on things `side` pixels wide in a drawn array of this shape; when they are too small to read, one for
    each group of that many, and when there is no room for these either, none."""
    box = ax.get_window_extent()
    points = 0.4 * side * min(box.width / shape[1], box.height / shape[0]) * 72 / ax.figure.dpi
    every = 1 if points >= LEAST_POINTS else group
    points *= every ** 0.5
    if points >= LEAST_POINTS:
        for number in range(0, len(centres), every):
            _label(ax, centres[number], str(number), float(np.clip(points, 5, 11)))


# ----------------------------------------------------------------------------------- rows placed on a picture

def rows(array: np.ndarray, contract: Any, at: dict[str, np.ndarray], ax: Any = None, *, channel: int | None = None,
         medium: int = 0, pixels: np.ndarray | None = None, label: str | None = None) -> Any:
    """One number for each row, at the place in the picture that the row comes from.

    array (rows, ...): the root mean square of each row, or its value in `channel`; an array of one axis is drawn as it
    is. contract: an axis letter, a contract or a stage; at: what `provenance` gives. pixels: the resized picture, drawn
    in grey below. Axes in patches; rows of text are left out. Raises ValueError when rows and places do not fit.
    """
    letter = axis_letter(contract)
    if letter not in at:
        known = ", ".join(f"{key} ({AXES[key]})" for key in at)
        raise ValueError(f"rows {letter!r} have no fixed place in a picture; say which these are: {known}")
    values = row_values(array, channel)
    maps = on_grid(values, at[letter], at["p"], medium)                               # n -> t gh gw
    ax = _axes(ax)
    if pixels is not None:
        _underlay(ax, _pairs(_frames(pixels, None), maps.shape), maps)
    image = ax.imshow(_map_strip(maps), alpha=None if pixels is None else 0.72, interpolation="nearest", **_scale(maps))
    _colour_bar(ax, image, label or _what(array, channel))
    return _dress(ax, f"{len(values)} rows ({letter}) on the picture", "column (patches)", "row (patches)")


def _what(array: np.ndarray, channel: int | None) -> str:
    if np.ndim(array) == 1:
        return "value of a row"
    return "rms of a row" if channel is None else f"channel {channel}"


def _scale(values: np.ndarray) -> dict[str, Any]:
    """Colours from 0 or the least value up; two colours about zero when there are negative values."""
    seen = values[np.isfinite(values)]
    if not seen.size or seen.min() >= 0:
        return {"cmap": MAGNITUDE}
    return {"cmap": SIGNED, "vmin": -abs(seen).max(), "vmax": abs(seen).max()}


def axis_letter(contract: Any) -> str:
    """The letter of the rows: of a letter itself, of a contract such as "c o, c -> m o", or of a stage's contract."""
    text = getattr(contract, "contract", contract)
    return rows_of(text) if "->" in text else text


def row_values(array: np.ndarray, channel: int | None = None) -> np.ndarray:
    """One float64 for each row: root mean square over all its values, or the value of one channel: (n, ...) -> n."""
    if np.ndim(array) == 1:
        return np.asarray(array).astype(np.float64)
    flat = np.asarray(array).astype(np.float64).reshape(len(array), -1)               # n ... -> n d
    if channel is None:
        return np.sqrt((flat * flat).mean(axis=1))
    if not -flat.shape[1] <= channel < flat.shape[1]:
        raise ValueError(f"there is no channel {channel}: a row has {flat.shape[1]} values")
    return flat[:, channel]


def on_grid(values: np.ndarray, places: np.ndarray, patch_places: np.ndarray, medium: int = 0) -> np.ndarray:
    """Values of rows spread over the patches behind them: n -> t gh gw, NaN where no row stands for a patch.

    places: (n, 4) or (n, 4, 4) from provenance; patch_places: its "p", which says how large the grid is.
    """
    if len(values) != len(places):
        raise ValueError(f"{len(values)} rows, but provenance places {len(places)} of them")
    own = patch_places[patch_places[:, 0] == medium]
    if not len(own):
        raise ValueError(f"there is no picture {medium} in these rows")
    maps = np.full(own[:, 1:].max(axis=0) + 1, np.nan)
    spread = places.reshape(len(places), -1, 4)                                       # n 4 or n 4 4 -> n k 4
    for value, four in zip(values, spread, strict=True):
        here = four[four[:, 0] == medium]
        maps[here[:, 1], here[:, 2], here[:, 3]] = value
    return maps


def attention(q: np.ndarray, k: np.ndarray, segments: np.ndarray, row: int, contract: Any, at: dict[str, np.ndarray],
              ax: Any = None, *, causal: bool = False, head: int | None = None, **options: Any) -> Any:
    """What one row looks at: its attention weights laid on the picture, the mean of all heads or one head.

    q (n, a, e) and k (r, k, e) as `rotate` gives them; contract: the letter of the rows of k ("w" in the tower, "s" in
    a decoder's prefill, there with causal=True). Further options are those of `rows`.
    """
    weights = attention_weights(q, k, segments, row, causal)                          # a r
    chosen = weights.mean(axis=0) if head is None else weights[head]
    label = "attention, mean of heads" if head is None else f"attention of head {head}"
    ax = rows(chosen, contract, at, ax, **{"label": label, **options})
    ax.set_title(f"what row {row} looks at", size=9)
    return ax


def attention_weights(q: np.ndarray, k: np.ndarray, segments: np.ndarray, row: int, causal: bool = False) -> np.ndarray:
    """Softmax weights (a, r) of query `row` over all keys, float64; 0 outside of its segment."""
    out = np.zeros((q.shape[1], len(k)))
    found = [tuple(map(int, s)) for s in segments if s[0] <= row < s[1]]
    if not found:
        raise IndexError(f"row {row} is in no segment")
    q0, q1, k0, k1 = found[0]
    seen = k0 + (k1 - k0) - (q1 - q0) + (row - q0) + 1 if causal else k1
    keys = np.repeat(k[k0:seen].astype(np.float64), q.shape[1] // k.shape[1], axis=1)  # r k e -> r a e
    score = np.einsum("ae,rae->ar", q[row].astype(np.float64), keys) / np.sqrt(q.shape[-1])
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    out[:, k0:seen] = weight / weight.sum(axis=1, keepdims=True)
    return out


def _underlay(ax: Any, frames: np.ndarray, maps: np.ndarray) -> None:
    """The picture in grey below the maps, in units of patches."""
    size = frames.shape[1] // maps.shape[1]
    for n, frame in enumerate(frames):
        left = n * (maps.shape[2] + 1) - 0.5
        extent = (left, left + frame.shape[1] / size, frame.shape[0] / size - 0.5, -0.5)
        ax.imshow(frame.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)


def _map_strip(maps: np.ndarray) -> np.ndarray:
    """Maps side by side, one empty column between: (t, gh, gw) -> (gh, t (gw + 1) - 1)."""
    wide = np.pad(maps, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return wide.swapaxes(0, 1).reshape(maps.shape[1], -1)[:, :-1]


# ------------------------------------------------------------------------------------------- tables and lines

def segments(table: np.ndarray, ax: Any = None, *, causal: bool = False) -> Any:
    """Who sees whom: each row q0 q1 k0 k1 of the table (g, 4) as a block of queries (down) by keys (across)."""
    ax = _axes(ax)
    corners = [_seen(row.tolist(), causal) for row in np.asarray(table)]
    for number, (x, y) in enumerate(corners):
        ax.fill(x, y, facecolor=(BLUE, ORANGE)[number % 2], alpha=0.85, lw=0)
    rows_, keys = (int(max(table[:, n], default=1)) for n in (1, 3))
    ax.set_xlim(0, keys)
    ax.set_ylim(rows_, 0)
    ax.set_aspect("equal" if 0.2 < rows_ / keys < 5 else "auto")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    many = "1 segment" if len(table) == 1 else f"{len(table)} segments"
    return _dress(ax, f"who sees whom: {many}", "row of the key", "row of the query")


def _seen(segment: list[int], causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Outline of what the queries of one segment see: a rectangle, or a staircase."""
    q0, q1, k0, k1 = segment
    if not causal:
        return np.array([k0, k1, k1, k0]), np.array([q0, q0, q1, q1])
    steps = k1 - (q1 - q0) + 1 + np.arange(q1 - q0)                                  # end of what each query sees
    edges = q0 + np.arange(q1 - q0 + 1)
    return np.r_[k0, np.repeat(steps, 2), k0], np.r_[q0, np.repeat(edges, 2)[1:-1], q1]


def positions(position_ids: np.ndarray, ax: Any = None) -> Any:
    """MRoPE positions (3, s): time, height and width of every token. They agree on text and part on pictures."""
    ax = _axes(ax)
    place = np.asarray(position_ids)
    rows_ = np.arange(place.shape[1])
    apart = (place != place[:1]).any(axis=0)
    ax.fill_between(rows_, place.min() - 1, place.max() + 1, where=apart, step="mid", color=INK, alpha=0.08, lw=0,
                    label="the three differ")
    for name, line, colour, width, style in zip(("time", "height", "width"), place, (BLUE, ORANGE, GREEN),
                                                (3.6, 2.2, 1.1), ("-", "-", "-"), strict=True):
        ax.step(rows_, line, where="mid", color=colour, lw=width, ls=style, label=name)
    ax.legend(fontsize=7, loc="upper left")
    ax.margins(x=0.01)
    ax.set_ylim(place.min() - 1, place.max() + 1)
    return _dress(ax, f"MRoPE positions of {place.shape[1]} tokens", "token (row of the sequence)", "position")


def cell_positions(place: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None, *, pixels: np.ndarray | None = None
                   ) -> Any:
    """The three positions of each cell of one picture or video, written where the cell lies: time, height, width.

    place (3, n): the columns of `position_ids` that belong to its placeholders; grid (3,); config: any of the model's;
    pixels: the resized picture or frames, drawn below. Pairs of frames stand side by side.
    """
    size, merge = _sizes(config)
    t, rows_, columns = int(grid[0]), int(grid[1]) // merge, int(grid[2]) // merge
    place = np.asarray(place)
    if place.shape != (3, t * rows_ * columns):
        raise ValueError(f"positions of shape {list(place.shape)} do not fit a grid of {list(map(int, grid))}: its "
                         f"{t * rows_ * columns} cells need {[3, t * rows_ * columns]}")
    side = size * merge
    blank = np.full((t, rows_ * side, columns * side, 3), 230, np.uint8)
    frames = blank if pixels is None else _pairs(_frames(pixels, config), grid)
    ax = _axes(ax)
    ax.imshow(_strip(frames), alpha=0.45)
    lefts = _lefts(frames)
    for left in lefts:
        _ruling(ax, left, frames.shape[1:3], side, INK, 1.1, 0.5)
    for (time, row, column), three in zip(np.ndindex(t, rows_, columns), place.T, strict=True):
        centre = np.array([lefts[time] + (column + 0.5) * side - 0.5, (row + 0.5) * side - 0.5])
        _label(ax, centre, " ".join(map(str, three)), 8, INK)
    ax.set_axis_off()
    return _dress(ax, "time, height, width of each cell", "", "")


def position_space(position_ids: np.ndarray, ax: Any = None) -> Any:
    """MRoPE positions (3, s) as points in space: text climbs the diagonal, a picture is a sheet, a video several.

    ax: one with three dimensions, as `board(1, 1, subplot_kw={"projection": "3d"})` makes it.
    """
    time, height, width = np.asarray(position_ids)
    text = (time == height) & (height == width)
    ax = board(1, 1, subplot_kw={"projection": "3d"}).axes[0] if ax is None else ax
    ax.plot(time, width, height, color=INK, lw=0.6, alpha=0.5)
    for rows_, colour, marker, name in ((text, BLUE, "o", "three equal numbers"), (~text, ORANGE, "s", "they differ")):
        ax.scatter(time[rows_], width[rows_], height[rows_], color=colour, marker=marker, s=22, depthshade=False,
                   label=name)
    ax.set_zlabel("height", size=8)
    ax.invert_zaxis()                                      # row 0 of a picture is on top
    ax.view_init(elev=20, azim=-55)
    ax.legend(fontsize=7, loc="upper left")
    return _dress(ax, f"{len(time)} tokens in time, height and width", "time", "width")


def logits(row: np.ndarray, tokenizer: Any, k: int = 8, ax: Any = None) -> Any:
    """The k likeliest next tokens of one row of logits (v,), as bars of probability on a logarithmic axis."""
    ax = _axes(ax)
    ids, chances = top_tokens(row, k)
    names = [token_name(tokenizer, token) for token in ids]
    bars = ax.barh(range(len(ids)), chances, color=[ORANGE] + [BLUE] * (len(ids) - 1), height=0.72)
    ax.bar_label(bars, [f"{100 * p:.3g} %" if p >= 1e-5 else "" for p in chances], size=7, padding=3)
    ax.set_yticks(range(len(ids)), names, size=8, family="monospace")
    ax.set_xscale("log")
    ax.set_xlim(1e-6, 20)                                 # room for the label of a sure token
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1])
    ax.invert_yaxis()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax = _dress(ax, f"the {len(ids)} likeliest next tokens", "probability", "")
    ax.tick_params(axis="y", labelsize=8)
    return ax


def top_tokens(row: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and probabilities of the k likeliest tokens, likeliest first; of equals the lower id comes first."""
    row = np.asarray(row).astype(np.float64)
    if row.ndim != 1 or not len(row):
        raise ValueError(f"give one row of logits, (v,), not {list(row.shape)}: logits[-1] is the last token's")
    chances = np.exp(row - row.max())
    ids = np.argsort(-row, kind="stable")[:k]
    return ids, (chances / chances.sum())[ids]


def token_name(tokenizer: Any, token: int) -> str:
    """A token as it can be read in a plot: its text with visible spaces and line ends, or its number."""
    try:
        text = tokenizer.decode([int(token)], skip_special_tokens=False)
    except (ValueError, IndexError, KeyError):
        text = ""
    return _readable(text) or f"#{int(token)}"


def resize_weights(first: np.ndarray, weights: np.ndarray, ax: Any = None) -> Any:
    """The filter matrix of one axis, from `bicubic_weights`: first (o,) and weights (o, taps); negative lobes in red.

    Row i shows which source pixels, and with what weight, one outgoing pixel is made of.
    """
    used = first[:, None] + np.arange(weights.shape[1])                               # o -> o taps
    matrix = np.zeros((len(first), int(used[weights != 0].max()) + 1))
    inside = used < matrix.shape[1]
    np.add.at(matrix, (np.nonzero(inside)[0], used[inside]), weights[inside])
    ax = _axes(ax)
    most = abs(matrix).max()
    image = ax.imshow(matrix, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest", aspect="equal")
    _colour_bar(ax, image, "weight")
    return _dress(ax, f"{matrix.shape[1]} source pixels to {matrix.shape[0]}", "source pixel", "outgoing pixel")


def heat(array: np.ndarray, ax: Any = None) -> Any:
    """Any array as colours, one line a row: (n,) or (n, ...) with all further axes side by side. NaN stays white.

    Two colours about zero when there are negative values; the colour bar gives the range.
    """
    values = np.asarray(array).astype(np.float64)
    if not values.size:
        raise ValueError(f"an array of shape {list(values.shape)} has nothing to draw")
    flat = values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(1, -1)      # n ... -> n d
    ax = _axes(ax)
    image = ax.imshow(flat, aspect="auto", interpolation="nearest", **_scale(flat))
    _colour_bar(ax, image, "value")
    return _dress(ax, f"{np.asarray(array).dtype} {list(values.shape)}", "value in the row", "row")


def table(array: np.ndarray, ax: Any = None, title: str = "", rows: Sequence[str] = (), columns: Sequence[str] = (),
          form: str = "{:.3g}") -> Any:
    """A small array (n, d) with its numbers in it, pale red above zero and pale blue below; 0.0 is written as a dot.

    rows, columns: names for the two axes. Raises ValueError for more numbers than can be read.
    """
    values = np.atleast_2d(np.asarray(array))
    if values.ndim != 2 or values.size > 400:
        raise ValueError(f"a table shows up to 400 numbers on two axes, not {list(values.shape)}; see `heat`")
    ax = _axes(ax)
    most = 1.8 * float(np.abs(values).max(initial=0)) or 1.0
    ax.imshow(values.astype(np.float64), cmap=SIGNED, vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        shown = form.format(value) if value or values.dtype.kind in "iu" else "\N{MIDDLE DOT}"
        shown = shown if shown.strip("-0.") else shown.lstrip("-")            # -0.0 would raise a question
        ax.text(column, row, shown, ha="center", va="center", size=8)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    return _dress(ax, title or f"{np.asarray(array).dtype} {list(np.shape(array))}", "", "")


def similarity(array: np.ndarray, names: Sequence[str] = (), ax: Any = None) -> Any:
    """How alike the rows of (n, d) are: the cosine between each two, 1 for the same direction, 0 for a right angle."""
    cosine = cosines(array)
    ax = _axes(ax)
    image = ax.imshow(cosine, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    _colour_bar(ax, image, "cosine")
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    return _dress(ax, f"how alike {len(cosine)} rows are", "", "")


def cosines(array: np.ndarray) -> np.ndarray:
    """Cosine between each two rows, n d -> n n, in float64; a row of zeros is like none, itself included."""
    flat = np.asarray(array).astype(np.float64).reshape(len(array), -1)               # n ... -> n d
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    return unit @ unit.T


def filters(matrix: np.ndarray, config: Any, ax: Any = None, *, count: int = 24, across: int = 12) -> Any:
    """Rows of the matrix that patches meet first, (d, 1176), as small pictures: what each of them looks for.

    config: the PreprocessorConfig that patches are cut with. The `count` rows with the largest numbers are drawn, each
    scaled by itself, zero in mid-grey; of the two frames in a patch the first.
    """
    values = np.asarray(matrix).astype(np.float64)
    pair, size = config.temporal_patch_size, config.patch_size
    if values.ndim != 2 or values.shape[1] != 3 * pair * size * size:
        raise ValueError(f"a row of {list(values.shape)} is no patch of 3 x {pair} x {size} x {size} numbers")
    strongest = np.argsort(-np.abs(values).mean(axis=1), kind="stable")[:count]
    frames = values[strongest].reshape(-1, 3, pair, size, size)[:, :, 0].transpose(0, 2, 3, 1)      # x -> py px c
    frames = 0.5 + 0.5 * frames / np.abs(frames).max(axis=(1, 2, 3), keepdims=True, initial=1e-30)
    across = min(across, len(frames))
    tiles = np.ones((-(-len(frames) // across) * across, size + 2, size + 2, 3))
    tiles[: len(frames), 1:-1, 1:-1] = frames
    sheet = tiles.reshape(-1, across, size + 2, size + 2, 3).swapaxes(1, 2)           # line n y x -> line y n x
    ax = _axes(ax)
    ax.imshow(sheet.reshape(-1, across * (size + 2), 3), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    return _dress(ax, f"{len(frames)} of the {len(values)} rows, as pictures", "", "")


# ------------------------------------------------------------------------------------------------- rotary angles

def angles(array: np.ndarray, ax: Any = None, *, sections: Sequence[tuple[str, int]] = ()) -> Any:
    """Rotary angles (n, f), in radians, as colours that come round again after a full turn.

    sections: (name, how many) of the columns, such as [("row", 10), ("column", 10)], drawn as borders.
    """
    values = np.asarray(array).astype(np.float64)
    ax = _axes(ax)
    image = ax.imshow(np.angle(np.exp(1j * values)), cmap="twilight", vmin=-np.pi, vmax=np.pi, aspect="auto",
                      interpolation="nearest")
    _colour_bar(ax, image, "angle within a turn (radians)")
    start = 0
    for name, many in sections:
        ax.axvline(start - 0.5, color=ORANGE, lw=1.6)
        ax.text(start + many / 2 - 0.5, -0.02 * len(values) - 0.5, name, ha="center", va="bottom", size=8)
        start += many
    if sections:
        ax.set_title(" ", size=9)                          # room for the names
    return _dress(ax, "" if sections else f"angles {list(values.shape)}", "number of the angle", "row")


def turned(before: np.ndarray, after: np.ndarray, ax: Any = None) -> Any:
    """What `rotate` does to one row of one head, (e,): each pair (i, i + e/2), dotted before, solid after."""
    pairs = [np.asarray(row).astype(np.float64).reshape(2, -1) for row in (before, after)]        # e -> 2 f
    ax = _axes(ax)
    for number in range(pairs[0].shape[1]):
        colour = (BLUE, ORANGE, GREEN, INK)[number % 4]
        for pair, style in zip(pairs, (":", "-"), strict=True):
            ax.plot([0, pair[0, number]], [0, pair[1, number]], style, color=colour, lw=1.6)
        ax.plot(*pairs[1][:, number], "o", color=colour, ms=4)
        ax.annotate(str(number), pairs[1][:, number], textcoords="offset points", xytext=(4, 4), size=8, color=colour)
    most = 1.15 * max(np.hypot(*pair).max() for pair in pairs) or 1.0
    ax.set_xlim(-most, most)
    ax.set_ylim(-most, most)
    ax.set_aspect("equal")
    ax.axhline(0, color=INK, lw=0.4)
    ax.axvline(0, color=INK, lw=0.4)
    return _dress(ax, f"{pairs[0].shape[1]} pairs, dotted before and solid after", "number i", "number i + e/2")


# ------------------------------------------------------------------------------------------------------- text

def pieces(lines: Sequence[Sequence[str]], ax: Any = None, names: Sequence[str] = ()) -> Any:
    """A text cut into pieces, once on each line: boxes as wide as their pieces are long, spaces made visible.

    lines: one list of pieces for each line, such as the steps of joining bytes; names: one for each line.
    """
    ax = _axes(ax)
    for number, line in enumerate(lines):
        left = 0
        for piece in line:
            right = left + len(piece)
            ax.fill([left, right, right, left], [number - 0.38] * 2 + [number + 0.38] * 2,
                    facecolor=BLUE if len(piece) > 1 else "#bbbbbb", alpha=0.3, edgecolor=INK, lw=0.8)
            ax.text((left + right) / 2, number, _readable(piece), ha="center", va="center", size=8, family="monospace")
            left = right
    ax.set_xlim(-0.2, max((sum(map(len, line)) for line in lines), default=1) + 0.2)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xticks([])
    ax.set_yticks(range(len(names)), names, size=8)
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)
    return ax


def tokens(ids: np.ndarray, tokenizer: Any, pads: Sequence[int] = (), ax: Any = None, *, across: int = 14) -> Any:
    """A sequence of ids (s,) as boxes in reading order, `across` to a line, each with its text and the row it has.

    Text is blue, special tokens are grey, and the placeholders (`pads`) orange, with the number of the visual token
    that takes their row.
    """
    ids = np.asarray(ids)
    is_pad = np.isin(ids, np.asarray(pads, np.int64))
    number = np.cumsum(is_pad) - 1
    ax = _axes(ax)
    for row, token in enumerate(ids.tolist()):
        x, y = row % across, row // across
        colour = ORANGE if is_pad[row] else "#999999" if token in tokenizer.special_ids else BLUE
        ax.fill([x, x + 0.94, x + 0.94, x], [y, y, y + 0.8, y + 0.8], facecolor=colour, alpha=0.3, lw=0)
        name = f"visual\n{number[row]}" if is_pad[row] else _folded(token_name(tokenizer, token))
        ax.text(x + 0.47, y + 0.46, name, ha="center", va="center", size=7, family="monospace")
        ax.text(x + 0.03, y + 0.03, str(row), ha="left", va="top", size=5, color=INK)
    ax.set_xlim(-0.1, across + 0.04)
    ax.set_ylim(-(-len(ids) // across), -0.1)
    ax.set_axis_off()
    ax.set_title(f"{len(ids)} tokens, {is_pad.sum()} of them placeholders", size=9)
    return ax


def _folded(name: str, width: int = 9) -> str:
    """A long name on two lines, cut at an underscore where there is one."""
    if len(name) <= width:
        return name
    cut = name.find("_") + 1 or len(name) // 2
    return f"{name[:cut]}\n{name[cut:]}"


def _readable(text: str) -> str:
    """Visible spaces and line ends; a dollar would start a formula."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text).replace(" ", "\N{OPEN BOX}")
    return shown.replace("$", r"\$")


# --------------------------------------------------------------------------------------------- size along a run

def stream(trace: dict[str, Any], part: str = "vision.blocks", ax: Any = None) -> Any:
    """How large the residual stream is after each half of each block: its rms, and the largest number in it.

    trace: what a session recorded, at least `PART.*.add_*`; part: "vision.blocks" or "decoder.layers" (with "decoder@1"
    for a step of decoding). Raises ValueError when nothing of it is there.
    """
    keys = [key for key in trace if key.startswith(part + ".") and key.endswith((".add_attended", ".add_mlp"))]
    if not keys:
        raise ValueError(f"the trace holds no {part}.N.add_attended or add_mlp: record \"{part}.*\"")
    arrays = [np.asarray(trace[key]).astype(np.float64) for key in keys]
    ax = _axes(ax)
    ax.plot([np.abs(array).max() for array in arrays], "s-", color=ORANGE, ms=4, label="largest")
    ax.plot([np.sqrt((array**2).mean()) for array in arrays], "o-", color=BLUE, ms=4, label="rms")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(_matplotlib("ticker").StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(_matplotlib("ticker").NullFormatter())
    names = [key[len(part) + 1 :].replace(".add_attended", " attn").replace(".add_mlp", " mlp") for key in keys]
    every = -(-len(keys) // 24)
    ax.set_xticks(range(0, len(keys), every), names[::every], rotation=90)
    ax.legend(fontsize=7)
    return _dress(ax, f"the residual stream of {part}", "after", "size of its numbers")


def channels(array: np.ndarray, ax: Any = None, *, name: int = 3) -> Any:
    """The largest |number| in each channel of (n, d), as bars; the `name` largest channels are numbered.

    Real checkpoints have a few channels far larger than all others (outliers), on which float16 breaks.
    """
    most = np.abs(np.asarray(array).astype(np.float64)).reshape(-1, np.shape(array)[-1]).max(axis=0)     # n d -> d
    ax = _axes(ax)
    ax.vlines(np.arange(len(most)), 0, most, color=BLUE, lw=max(0.5, 180 / len(most)))
    usual = float(np.median(most))
    ax.axhline(usual, color=ORANGE, lw=1, label=f"median {usual:.3g}")
    for channel in np.argsort(-most, kind="stable")[:name]:
        ax.annotate(f"{channel}: {most[channel]:.3g}", (channel, most[channel]), textcoords="offset points",
                    xytext=(0, 3), ha="center", size=7)
    ax.set_ylim(0, 1.12 * float(most.max()) or 1.0)
    ax.legend(fontsize=7, loc="upper right")
    return _dress(ax, f"{len(most)} channels of {len(np.asarray(array))} rows", "channel", "largest |number|")


def costs(profile: dict[str, Any], ax: Any = None) -> Any:
    """Operations of each kind of stage, from a session with profile=True: blocks added up, the dearest at the top."""
    sums: dict[str, int] = {}
    for key, cost in profile.items():
        part, *_, last = key.split(".")
        name = f"{part.partition('@')[0]}.{last.partition('@')[0]}"
        sums[name] = sums.get(name, 0) + cost.flops
    ranked = sorted(((n, name) for name, n in sums.items() if n), reverse=True)
    ax = _axes(ax)
    bars = ax.barh([name for _, name in ranked], [n for n, _ in ranked], color=BLUE)
    ax.bar_label(bars, [f"{100 * n / sum(sums.values()):.1f} %" for n, _ in ranked], size=7, padding=3)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max((n for n, _ in ranked), default=1))
    return _dress(ax, f"{sum(sums.values()):.3g} floating-point operations", "operations", "")


# ------------------------------------------------------------------------------------------ tokens, bits, errors

def token_bars(names: Sequence[str], values: np.ndarray, counted: np.ndarray | None = None, ax: Any = None, *,
               label: str = "value") -> Any:
    """One number (s,) for each token, as bars over their texts; those that are not counted (a mask, (s,)) are pale.

    names: what `token_name` gives, one for each value. Raises ValueError when the lengths differ.
    """
    values = np.asarray(values).astype(np.float64)
    kept = np.ones(len(values), bool) if counted is None else np.asarray(counted, bool)
    if not len(names) == len(values) == len(kept):
        raise ValueError(f"{len(names)} names, {len(values)} values and a mask of {len(kept)}: one for each token")
    ax = _axes(ax)
    ax.bar(np.flatnonzero(~kept), values[~kept], color=INK, alpha=0.15, width=0.85)
    ax.bar(np.flatnonzero(kept), values[kept], color=BLUE, width=0.85)
    _dress(ax, f"{kept.sum()} of {len(kept)} tokens count" if counted is not None else f"{len(kept)} tokens", "", label)
    ax.set_xticks(range(len(names)), names, rotation=90, size=7, family="monospace")
    ax.margins(x=0.01)
    return ax


FIELDS = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23), "float64": (11, 52)}     # exponent, fraction


def bits(numbers: Sequence[Any], ax: Any = None) -> Any:
    """The bits of NumPy numbers of any float type, a line each: sign, exponent and fraction in their own colours."""
    ax = _axes(ax)
    for line, number in enumerate(numbers):
        for place, (bit, colour) in enumerate(zip(*bits_of(number), strict=True)):
            ax.add_patch(_matplotlib("patches").Rectangle((place, line), 1, 1, facecolor=colour, edgecolor=PAPER,
                                                          alpha=1.0 if bit else 0.28))
            ax.text(place + 0.5, line + 0.52, str(bit), ha="center", va="center", size=7)
    ax.set_xlim(0, 8 * max(np.asarray(number).dtype.itemsize for number in numbers))
    ax.set_ylim(len(numbers), 0)
    names = [f"{np.asarray(number).dtype.name}  {float(number):.9g}" for number in numbers]
    ax.set_yticks(np.arange(len(numbers)) + 0.5, names, family="monospace")
    ax.set_xticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    return _dress(ax, "sign (green), exponent (orange), fraction (blue); a one is full, a zero pale", "", "")


def bits_of(number: Any) -> tuple[list[int], list[str]]:
    """Bits of one number, the highest first, and the colour of the field that each is in. ValueError for no float."""
    value = np.asarray(number)
    if value.dtype.name not in FIELDS or value.ndim:
        raise ValueError(f"{value.dtype} {list(value.shape)} is no single number of {', '.join(FIELDS)}")
    exponent, fraction = FIELDS[value.dtype.name]
    whole = int.from_bytes(value.tobytes(), sys.byteorder)
    digits = [whole >> place & 1 for place in reversed(range(1 + exponent + fraction))]
    return digits, [GREEN] + [ORANGE] * exponent + [BLUE] * fraction


def errors(runs: Mapping[str, Mapping[str, float]], ax: Any = None) -> Any:
    """Relative errors along a run, one line for each precision or program: {name: {stage: error}}, logarithmic.

    The stages of the first line are the axis. An error of 0 is not drawn, one that is infinite or NaN as a cross on the
    upper border.
    """
    ax = _axes(ax)
    stages = list(next(iter(runs.values())))
    for number, (name, found) in enumerate(runs.items()):
        values = np.array([found.get(stage, np.nan) for stage in stages], np.float64)
        broken = np.array([stage in found for stage in stages]) & ~np.isfinite(values)
        drawn = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(drawn, ".-", color=colour, lw=1.2, ms=5, label=name)
        ax.plot(np.flatnonzero(broken), np.ones(broken.sum()), "x", color=colour, ms=6, clip_on=False,
                transform=ax.get_xaxis_transform())
    ax.set_yscale("log")
    every = -(-len(stages) // 40)
    ax.set_xticks(range(0, len(stages), every), stages[::every], rotation=90)
    ax.grid(axis="y", color=INK, alpha=0.12)
    ax.margins(x=0.01)
    ax.legend(fontsize=7)
    ax = _dress(ax, f"error along {len(stages)} stages", "", "relative error")
    ax.tick_params(axis="x", labelsize=6)
    return ax


# ---------------------------------------------------------------------------------------- two arrays that differ

def differences(right: np.ndarray, got: np.ndarray, wrong: np.ndarray, rows: str = "row", columns: str = "column",
                title: str = "") -> Any:
    """A figure of three panes, all (n, m): what was expected, what came, and which cells are wrong."""
    figure = board(1, 3, size=(10.0, 3.6))
    finite = right[np.isfinite(right)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    for ax, array, name in zip(figure.axes, (right, got, wrong), ("expected", "yours", "wrong cells"), strict=True):
        cmap, ends = ("Greys", (0.0, 1.0)) if array is wrong else (MAGNITUDE, (low, high))
        ax.imshow(array, aspect="auto", interpolation="nearest", cmap=cmap, vmin=ends[0], vmax=ends[1])
        _dress(ax, name, columns, rows)
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(integer=True)
        for y, x in np.argwhere(wrong):
            ax.plot(x, y, marker="x", color=ORANGE, markersize=6)
    figure.suptitle(title, size=10)
    return figure

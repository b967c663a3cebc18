"""Who sees whom, and where each row stands: segments, MRoPE positions, rotary angles.

Read next: `tables.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from . import axes
from .axes import BLUE, GREEN, INK, ORANGE
from .pictures import first_of_pairs, frames_of, lefts, ruling, sizes, strip


def segments(table: np.ndarray, ax: Any = None, *, causal: bool = False) -> Any:
    """Who sees whom: each row q0 q1 k0 k1 of a table (g, 4) as a block, queries down, keys across."""
    ax = axes.or_new(ax)
    corners = [_seen(row.tolist(), causal) for row in np.asarray(table)]
    for number, (x, y) in enumerate(corners):
        ax.fill(x, y, facecolor=(BLUE, ORANGE)[number % 2], alpha=0.85, lw=0)
    queries, keys = (int(max(table[:, n], default=1)) for n in (1, 3))
    ax.set_xlim(0, keys)
    ax.set_ylim(queries, 0)
    ax.set_aspect("equal" if 0.2 < queries / keys < 5 else "auto")
    axes.count_in_whole_numbers(ax)
    many = "1 segment" if len(table) == 1 else f"{len(table)} segments"
    return axes.dress(ax, f"who sees whom: {many}", "row of the key", "row of the query")


def _seen(segment: list[int], causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Outline of what the queries of one segment see: a rectangle, or a staircase."""
    q0, q1, k0, k1 = segment
    if not causal:
        return np.array([k0, k1, k1, k0]), np.array([q0, q0, q1, q1])
    steps = k1 - (q1 - q0) + 1 + np.arange(q1 - q0)                      # end of what each query sees
    edges = q0 + np.arange(q1 - q0 + 1)
    return np.r_[k0, np.repeat(steps, 2), k0], np.r_[q0, np.repeat(edges, 2)[1:-1], q1]


def positions(position_ids: np.ndarray, ax: Any = None) -> Any:
    """MRoPE positions (3, s): time, height, width of each token. They part on pictures."""
    ax = axes.or_new(ax)
    place = np.asarray(position_ids)
    tokens, low, high = np.arange(place.shape[1]), place.min() - 1, place.max() + 1
    apart = (place != place[:1]).any(axis=0)                                  # 3 s -> s
    ax.fill_between(tokens, low, high, where=apart, step="mid", color=INK, alpha=0.08, lw=0,
                    label="the three differ")
    for name, line, colour, width in zip(("time", "height", "width"), place, (BLUE, ORANGE, GREEN),
                                         (3.6, 2.2, 1.1), strict=True):
        ax.step(tokens, line, where="mid", color=colour, lw=width, label=name)
    ax.legend(fontsize=8, loc="upper left")
    ax.margins(x=0.01)
    ax.set_ylim(low, high)
    title = f"MRoPE positions of {place.shape[1]} tokens"
    return axes.dress(ax, title, "token (row of the sequence)", "position")


def cell_positions(place: np.ndarray, grid: np.ndarray, config: Any, ax: Any = None, *,
                   pixels: np.ndarray | None = None) -> Any:
    """Time, height, width of each cell of one picture or video, written where the cell lies.

    place (3, n): the columns of `position_ids` that belong to its placeholders; grid (3,); config: any
    of the model's; pixels: the resized picture or frames, drawn below. Pairs stand side by side.
    """
    size, merge = sizes(config)
    t, down, across = int(grid[0]), int(grid[1]) // merge, int(grid[2]) // merge
    place, side = np.asarray(place), size * merge
    if place.shape != (3, t * down * across):
        raise ArgumentError(f"positions of shape {list(place.shape)} do not fit a grid of "
                            f"{list(map(int, grid))}: its {t * down * across} cells need "
                            f"{[3, t * down * across]}")
    blank = np.full((t, down * side, across * side, 3), 230, np.uint8)
    frames = blank if pixels is None else first_of_pairs(frames_of(pixels, config), grid)
    ax = axes.or_new(ax)
    ax.imshow(strip(frames), alpha=0.45)
    starts = lefts(frames)
    for left in starts:
        ruling(ax, left, frames.shape[1:3], side, INK, 1.1, 0.5)
    for (time, row, column), three in zip(np.ndindex(t, down, across), place.T, strict=True):
        centre = np.array([starts[time] + (column + 0.5) * side - 0.5, (row + 0.5) * side - 0.5])
        axes.write(ax, centre, " ".join(map(str, three)), 8, INK)
    ax.set_axis_off()
    return axes.dress(ax, "time, height, width of each cell")


def position_space(position_ids: np.ndarray, ax: Any = None) -> Any:
    """MRoPE positions (3, s) as points in space: text climbs the diagonal, a picture is a sheet.

    ax: one with three dimensions, as `board(1, 1, subplot_kw={"projection": "3d"})` makes it.
    """
    time, height, width = np.asarray(position_ids)
    text = (time == height) & (height == width)
    ax = axes.board(1, 1, subplot_kw={"projection": "3d"}).axes[0] if ax is None else ax
    ax.plot(time, width, height, color=INK, lw=0.6, alpha=0.5)
    for some, colour, marker, name in ((text, BLUE, "o", "three equal numbers"),
                                       (~text, ORANGE, "s", "they differ")):
        ax.scatter(time[some], width[some], height[some], color=colour, marker=marker, s=22,
                   depthshade=False, label=name)
    ax.set_zlabel("height", size=8)
    ax.invert_zaxis()                                      # row 0 of a picture is on top
    ax.view_init(elev=20, azim=-55)
    ax.legend(fontsize=8, loc="upper left")
    return axes.dress(ax, f"{len(time)} tokens in time, height and width", "time", "width")


def angles(array: np.ndarray, ax: Any = None, *, sections: Sequence[tuple[str, int]] = ()) -> Any:
    """Rotary angles (n, f), in radians, as colours that come round again after a full turn.

    sections: (name, how many) of the columns, such as [("row", 10), ("column", 10)], drawn as borders.
    """
    values = np.asarray(array).astype(np.float64)
    within, name = np.angle(np.exp(1j * values)), "angle within a turn (radians)"
    ax = axes.coloured(ax, within, name, cmap="twilight", vmin=-np.pi, vmax=np.pi, aspect="auto")
    start = 0
    for name, many in sections:
        ax.axvline(start - 0.5, color=ORANGE, lw=1.6)
        middle, above = start + many / 2 - 0.5, -0.02 * len(values) - 0.5
        ax.text(middle, above, name, ha="center", va="bottom", size=8)
        start += many
    title = "" if sections else f"angles {list(values.shape)}"
    return axes.dress(ax, title, "number of the angle", "row")


def turned(before: np.ndarray, after: np.ndarray, ax: Any = None) -> Any:
    """What `rotate` does to a row of one head, (e,): pairs (i, i + e/2), dotted before."""
    pairs = [np.asarray(row).astype(np.float64).reshape(2, -1) for row in (before, after)]     # e -> 2 f
    ax = axes.or_new(ax)
    for number in range(pairs[0].shape[1]):
        colour, end = (BLUE, ORANGE, GREEN, INK)[number % 4], pairs[1][:, number]
        for pair, style in zip(pairs, (":", "-"), strict=True):
            ax.plot([0, pair[0, number]], [0, pair[1, number]], style, color=colour, lw=1.6)
        ax.plot(*end, "o", color=colour, ms=4)
        ax.annotate(str(number), end, (4, 4), textcoords="offset points", size=8, color=colour)
    most = 1.15 * max(np.hypot(*pair).max() for pair in pairs) or 1.0
    ax.set_xlim(-most, most)
    ax.set_ylim(-most, most)
    ax.set_aspect("equal")
    ax.axhline(0, color=INK, lw=0.4)
    ax.axvline(0, color=INK, lw=0.4)
    title = f"{pairs[0].shape[1]} pairs, dotted before and solid after"
    return axes.dress(ax, title, "number i", "number i + e/2")

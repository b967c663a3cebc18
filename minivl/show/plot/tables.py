"""Arrays as tables: colours, numbers, likeness of rows, rows of a matrix as pictures, two that differ.

Read next: `text.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from . import axes
from .axes import MAGNITUDE, ORANGE, SIGNED


def heat(array: np.ndarray, ax: Any = None) -> Any:
    """Any array as colours, a line a row: (n,) or (n, ...), further axes side by side. NaN is white.

    Two colours about zero when there are negative values; the colour bar gives the range.
    """
    values = np.asarray(array).astype(np.float64)
    if not values.size:
        raise ArgumentError(f"an array of shape {list(values.shape)} has nothing to draw")
    flat = values.reshape(len(values) if values.ndim > 1 else 1, -1)          # n ... -> n d
    ax = axes.coloured(ax, flat, "value", aspect="auto")
    return axes.dress(ax, f"{np.asarray(array).dtype} {list(values.shape)}", "value in the row", "row")


def table(array: np.ndarray, ax: Any = None, title: str = "", rows: Sequence[str] = (),
          columns: Sequence[str] = (), form: str = "{:.3g}") -> Any:
    """A small array (n, d) with its numbers in it, red above zero and blue below; 0.0 is a dot.

    rows, columns: names for the two axes. Raises ArgumentError for more numbers than can be read.
    """
    values = np.atleast_2d(np.asarray(array))
    if values.ndim != 2 or values.size > 400:
        raise ArgumentError(f"a table shows up to 400 numbers on two axes, not {list(values.shape)}; "
                            "see `heat`")
    ax = axes.or_new(ax)
    most = 1.8 * float(np.abs(values).max(initial=0)) or 1.0
    ax.imshow(values.astype(np.float64), cmap=SIGNED, vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        shown = form.format(value) if value or values.dtype.kind in "iu" else "\N{MIDDLE DOT}"
        shown = shown if shown.strip("-0.") else shown.lstrip("-")       # -0.0 would raise a question
        ax.text(column, row, shown, ha="center", va="center", size=8)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    return axes.dress(ax, title or f"{np.asarray(array).dtype} {list(np.shape(array))}")


def similarity(array: np.ndarray, names: Sequence[str] = (), ax: Any = None) -> Any:
    """How alike the rows of (n, d) are: cosines, 1 for the same direction, 0 for a right angle."""
    cosine = cosines(array)
    ax = axes.coloured(ax, cosine, "cosine", cmap=SIGNED, vmin=-1, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    return axes.dress(ax, f"how alike {len(cosine)} rows are")


def cosines(array: np.ndarray) -> np.ndarray:
    """Cosine between each two rows, n d -> n n, float64. A row of zeros is like none."""
    flat = np.asarray(array).astype(np.float64).reshape(len(array), -1)       # n ... -> n d
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    return unit @ unit.T


def resize_weights(first: np.ndarray, weights: np.ndarray, ax: Any = None) -> Any:
    """The filter matrix of one axis, from `bicubic_weights`: first (o,), weights (o, taps).

    Row i shows which source pixels, and with what weight, one outgoing pixel is made of.
    """
    used = first[:, None] + np.arange(weights.shape[1])                       # o -> o taps
    matrix = np.zeros((len(first), int(used[weights != 0].max()) + 1))
    inside = used < matrix.shape[1]
    np.add.at(matrix, (np.nonzero(inside)[0], used[inside]), weights[inside])
    most = abs(matrix).max()
    ax = axes.coloured(ax, matrix, "weight", cmap="RdBu", vmin=-most, vmax=most, aspect="equal")
    title = f"{matrix.shape[1]} source pixels to {matrix.shape[0]}"
    return axes.dress(ax, title, "source pixel", "outgoing pixel")


def filters(matrix: np.ndarray, config: Any, ax: Any = None, *, count: int = 24, across: int = 12
            ) -> Any:
    """Rows of the matrix that patches meet first, (d, 1176), as small pictures of what each looks for.

    config: the PreprocessorConfig that patches are cut with. The `count` rows with the largest numbers
    are drawn, each scaled by itself, zero in mid-grey; of the two frames in a patch the first.
    """
    values = np.asarray(matrix).astype(np.float64)
    pair, size = config.temporal_patch_size, config.patch_size
    if values.ndim != 2 or values.shape[1] != 3 * pair * size * size:
        raise ArgumentError(f"a row of {list(values.shape)} is no patch of "
                            f"3 x {pair} x {size} x {size} numbers")
    strongest = np.argsort(-np.abs(values).mean(axis=1), kind="stable")[:count]
    pairs = values[strongest].reshape(-1, 3, pair, size, size)                # n x -> n 3 pair y x
    frames = pairs[:, :, 0].transpose(0, 2, 3, 1)                             # n 3 pair y x -> n y x 3
    frames = 0.5 + 0.5 * frames / np.abs(frames).max(axis=(1, 2, 3), keepdims=True, initial=1e-30)
    across = min(across, len(frames))
    tiles = np.ones((-(-len(frames) // across) * across, size + 2, size + 2, 3))
    tiles[: len(frames), 1:-1, 1:-1] = frames
    lines = tiles.reshape(-1, across, size + 2, size + 2, 3).swapaxes(1, 2)   # line n y x -> line y n x
    ax = axes.or_new(ax)
    ax.imshow(lines.reshape(-1, across * (size + 2), 3), interpolation="nearest")
    return axes.dress(axes.without_ticks(ax), f"{len(frames)} of the {len(values)} rows, as pictures")


def differences(right: np.ndarray, got: np.ndarray, wrong: np.ndarray, rows: str = "row",
                columns: str = "column", title: str = "") -> Any:
    """A figure of three panes, all (n, m): what was expected, what came, and which cells are wrong."""
    figure = axes.board(1, 3, size=(10.0, 3.6))
    finite = right[np.isfinite(right)]
    range_ = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    panes = (("expected", right, MAGNITUDE, range_), ("yours", got, MAGNITUDE, range_),
             ("wrong cells", wrong, "Greys", (0.0, 1.0)))
    for ax, (name, array, colours, (low, high)) in zip(figure.axes, panes, strict=True):
        ax.imshow(array, aspect="auto", interpolation="nearest", cmap=colours, vmin=low, vmax=high)
        axes.dress(ax, name, columns, rows)
        axes.count_in_whole_numbers(ax)
        for y, x in np.argwhere(wrong):
            ax.plot(x, y, marker="x", color=ORANGE, markersize=6)
    figure.suptitle(title, size=10)
    return figure

"""Figures and axes: what every drawing is made on, and what all of them have in common.

Matplotlib is imported when the first figure is drawn; pyplot is never touched, so no state is left
behind and no window opens. Read next: `pictures.py`.
"""

from __future__ import annotations

import importlib
import io
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

# Okabe and Ito's colours, which stay apart for every kind of colour vision
BLUE, ORANGE, GREEN, INK, PAPER = "#0072B2", "#E69F00", "#009E73", "#222222", "#ffffff"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#D55E00")      # for things that are told apart by number
MAGNITUDE, SIGNED = "viridis", "RdBu_r"


def board(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.0, 4.2), **options: Any
          ) -> Any:
    """A figure of rows x columns empty axes (`.axes`, in reading order), `size` in inches.

    It shows itself in a notebook. Raises ImportError without matplotlib.
    """
    figure = _figure_type()(figsize=size, dpi=100, layout="constrained")
    figure.subplots(rows, columns, **options)
    return figure


@lru_cache(maxsize=1)
def _figure_type() -> type:
    module = matplotlib("figure")

    class Board(module.Figure):              # type: ignore[name-defined]
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()
    return Board


def matplotlib(name: str) -> ModuleType:
    """A part of matplotlib, imported now. Raises ImportError that says what to install."""
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "minivl[plot]"') from error


def or_new(ax: Any) -> Any:
    return board().axes[0] if ax is None else ax


def dress(ax: Any, title: str, x: str = "", y: str = "") -> Any:
    """The axes with their title and what is counted along each of them."""
    ax.set_title(title, size=9)
    ax.set_xlabel(x, size=8)
    ax.set_ylabel(y, size=8)
    ax.tick_params(labelsize=8)
    return ax


def without_ticks(ax: Any) -> Any:
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def without_frame(ax: Any, *sides: str) -> None:
    for side in sides or ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)


def count_in_whole_numbers(ax: Any) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)


def block(ax: Any, x0: float, x1: float, y0: float, y1: float, colour: str, **options: Any) -> None:
    """A filled rectangle."""
    ax.fill([x0, x1, x1, x0], [y0, y0, y1, y1], facecolor=colour, **options)


def frame(ax: Any, x0: float, x1: float, y0: float, y1: float, colour: str, width: float) -> None:
    """The border of a rectangle."""
    ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=width)


def write(ax: Any, at: np.ndarray, text: str, size: float = 8, colour: str = PAPER) -> None:
    """Text that can be read on any background: an outline of the opposite lightness."""
    edge = INK if colour == PAPER else PAPER
    stroke = matplotlib("patheffects").withStroke(linewidth=size / 5, foreground=edge)
    ax.text(*at, text, size=size, color=colour, ha="center", va="center", path_effects=[stroke])


def coloured(ax: Any, values: np.ndarray, label: str, **options: Any) -> Any:
    """Values (y, x) as colours, on axes or on new ones, and a bar that says which number is which.

    Without a `cmap` colours go from the least value up, or both ways from zero when one is negative.
    """
    ax = or_new(ax)
    scale = options if "cmap" in options else {**_scale(values), **options}
    image = ax.imshow(values, interpolation="nearest", **scale)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.035, 1)))      # as high as the picture
    bar.set_label(label, size=8)
    bar.ax.tick_params(labelsize=8)
    return ax


def _scale(values: np.ndarray) -> dict[str, Any]:
    seen = values[np.isfinite(values)]
    if not seen.size or seen.min() >= 0:
        return {"cmap": MAGNITUDE}
    return {"cmap": SIGNED, "vmin": -abs(seen).max(), "vmax": abs(seen).max()}


def thinned(ax: Any, names: Any, most: int) -> None:
    """Names under the axis, upright, at most so many that they can be read."""
    every = -(-len(names) // most)
    ax.set_xticks(range(0, len(names), every), names[::every], rotation=90)

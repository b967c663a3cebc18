"""The sheet of figures: filing them, writing one as SVG, and the page that lists them.

Read next: `pixels.py`, where the figures begin.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from minivl.door.files import write_whole
from minivl.show import plot

THUMBNAIL = 320                                     # pixels across, on the list


class Figure(NamedTuple):
    """A figure of the course: its file's name, the lesson it belongs to, what it shows, and what draws it."""
    name: str
    lesson: int
    caption: str
    draw: Callable[[], Any]


FIGURES: dict[str, Figure] = {}


def figure(name: str, lesson: int, caption: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """File a function that draws a Matplotlib figure. Names are the files' names, without ".svg"."""
    def file(draw: Callable[[], Any]) -> Callable[[], Any]:
        if name in FIGURES:
            raise ValueError(f"two figures are called {name!r}")
        FIGURES[name] = Figure(name, lesson, caption, draw)
        return draw
    return file


def svg_of(one: Figure) -> bytes:
    """The figure as an SVG file: text as text, no date, the same bytes each time."""
    import matplotlib
    import matplotlib.style
    with matplotlib.style.context("default"), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": one.name}):
        drawn = one.draw()
        _plain_text(drawn)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="svg", metadata={"Title": one.caption, "Date": None, "Creator": "minivl"})
    return buffer.getvalue()


def _plain_text(drawn: Any) -> None:
    """An outline around letters makes Matplotlib write them as paths; a pale box behind them is as readable."""
    from matplotlib.text import Text
    for text in drawn.findobj(Text):
        if text.get_path_effects():
            text.set_path_effects([])
            text.set_color(plot.INK)
            text.set_bbox({"facecolor": plot.PAPER, "alpha": 0.75, "edgecolor": "none", "pad": 0.8})


def list_page(figures: Sequence[Figure]) -> str:
    """figures.md: a table with a thumbnail of each figure, by lesson."""
    lines = ["# Figures for slides", "",
             f"{len(figures)} figures, made by `python -m tools.pages.figures`. "
             "The numbers of a model are those of the embedded one.", "",
             "| figure | file | lesson | shows |", "|---|---|---|---|"]
    for one in figures:
        picture = f'<img src="{one.name}.svg" alt="{one.name}" width="{THUMBNAIL}">'
        lines.append(f"| [{picture}]({one.name}.svg) | {one.name}.svg | {one.lesson} | {one.caption} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write these figures, or all of them and their list, into a folder that is made when it is not there.

    Raises KeyError for a name that no figure has, before anything is written; OSError as the system does.
    """
    chosen = [FIGURES[name] for name in names] or sorted(FIGURES.values(), key=lambda one: one.lesson)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in chosen:
        paths.append(folder / f"{one.name}.svg")
        write_whole(paths[-1], methodcaller("write", svg_of(one)))
    if not names:
        paths.append(folder / "figures.md")
        write_whole(paths[-1], methodcaller("write", list_page(chosen).encode("utf-8")))
    return paths

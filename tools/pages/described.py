"""Figures that say what they show: a PNG of Matplotlib's with its description and the size of its smallest letters.

    from tools.pages import described
    described.install()              # from now on every figure that is written as PNG carries both

The site reads them from the files: the description becomes the picture's alternative text, and no figure is shown so
small that its letters cannot be read. A lesson's kernel does this as it starts (`site.py`). Not here: drawing.
Read next: tools/pages/sphinx/conf.py, which uses what is written here.
"""

from __future__ import annotations

import re
from functools import wraps
from pathlib import Path
from typing import Any

DESCRIPTION, LETTERS = "Description", "Smallest letters"         # names of the two texts in a PNG file


def install() -> None:
    """Let Matplotlib write both into every PNG. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    plain = FigureCanvasAgg.print_png
    if getattr(plain, "describes", False):
        return

    @wraps(plain)                                     # with its module: Matplotlib passes its own what they take
    def print_png(canvas: Any, file: Any, *, metadata: Any = None, pil_kwargs: Any = None) -> None:
        canvas.draw()                                                # tick labels have their text from here on
        said = {DESCRIPTION: description(canvas.figure), LETTERS: f"{smallest_letters(canvas.figure):.2f}"}
        plain(canvas, file, metadata={**said, **(metadata or {})}, pil_kwargs=pil_kwargs)

    print_png.describes = True                                       # type: ignore[attr-defined]
    FigureCanvasAgg.print_png = print_png                            # type: ignore[method-assign]


def description(figure: Any) -> str:
    """What a figure shows, in words: its own label if it has one (`figure.set_label`), or what stands on its panels."""
    if figure.get_label():
        return str(figure.get_label())
    panels = [text for text in map(_panel, _panels(figure)) if text]
    title = figure.get_suptitle()
    count = f"{len(panels)} panels: " if len(panels) > 1 else ""
    return _one_line(f"{title + '. ' if title else ''}{count}{'; '.join(dict.fromkeys(panels))}")


def _panels(figure: Any) -> list[Any]:
    return [ax for ax in figure.axes if ax.get_visible() and not hasattr(ax, "_colorbar")]


def _panel(ax: Any) -> str:
    """A panel's title, its kind, and what is counted along its axes."""
    titles = " ".join(filter(None, (ax.get_title(loc) for loc in ("left", "center", "right"))))
    kind = "picture" if ax.images else "bars" if ax.containers else "curves" if ax.lines else "drawing"
    across, up = ax.get_xlabel(), ax.get_ylabel()
    axes = ", ".join([*([f"across: {across}"] if across else []), *([f"up: {up}"] if up else [])])
    legend = ax.get_legend()
    names = ", ".join(text.get_text() for text in legend.get_texts()) if legend else ""
    drawn = [text.get_text() for text in ax.texts if text.get_text().strip()]
    said = "; ".join(filter(None, [titles, axes, f"shown are {names}" if names else ""]))
    if said:
        return f"{said} ({kind})"
    return f"{kind} with the words {', '.join(drawn[:8])}" if drawn else ""


def _one_line(text: str) -> str:
    return " ".join(text.replace("$", "").split())


def smallest_letters(figure: Any) -> float:
    """The size of the smallest letters that a figure shows, in pixels of the PNG: the size of its type, line to line.
    Infinite where it shows none."""
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    hidden = {text for ax in figure.findobj(Axes) if not (ax.axison and ax.get_visible())
              for axis in (ax.xaxis, ax.yaxis) for text in axis.findobj(Text)}
    shown = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())
    sizes = [text.get_fontsize() for text in shown if text not in hidden]
    return min(sizes, default=float("inf")) * figure.dpi / 72


def read(path: Path) -> tuple[str, float, tuple[int, int]]:
    """What a picture file, PNG or SVG, says about itself: description, smallest letters in its own pixels (infinite
    where it does not say), and its size in pixels, across and down. Raises OSError when it is no picture."""
    if path.suffix == ".svg":
        return _read_svg(path.read_text(encoding="utf-8"))
    from PIL import Image
    with Image.open(path) as image:
        told = image.info
        return told.get(DESCRIPTION, ""), float(told.get(LETTERS, "inf")), image.size


def _read_svg(text: str) -> tuple[str, float, tuple[int, int]]:
    title = re.search(r"<title[^>]*>([^<]*)</title>", text)
    sizes = [float(size) for size in re.findall(r"font-size[=:]\s*\"?([\d.]+)", text)]
    box = re.search(r'viewBox="[-\d.]+[ ,]+[-\d.]+[ ,]+([\d.]+)[ ,]+([\d.]+)"', text)
    width, height = map(float, box.groups()) if box else (0.0, 0.0)
    return title[1] if title else "", min(sizes, default=float("inf")), (round(width), round(height))

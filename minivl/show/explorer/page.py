"""The page of a run: as text, as a file, inline in a notebook. Read next: `show/page.py`, `data.js`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from ...door.files import write_whole
from ..page import COLOURS, build
from .document import BUDGET, document
from .run import Run

OWN = Path(__file__).parent
SCRIPTS = ("data", "rows", "weights", "maps", "picture", "words", "panels", "main")


def html(run: Run, beside: Run | None = None, budget: int = BUDGET) -> str:
    """The page of one run, or of two side by side, as text. budget: bytes of attention weights a run
    (`attention.all_attention`)."""
    found, packed = document([run] if beside is None else [run, beside], budget)
    return build(f"{found['runs'][0]['question']} - minivl explorer", OWN / "page.html",
                 [COLOURS, OWN / "style.css"], [OWN / f"{name}.js" for name in SCRIPTS],
                 {"document": found, "packed": packed})


def save(path: str | Path, run: Run, beside: Run | None = None, budget: int = BUDGET) -> Path:
    """Write the page. Nothing is left behind when that fails; raises OSError."""
    text = html(run, beside, budget).encode("utf-8")
    path = Path(path)
    write_whole(path, lambda file: file.write(text))
    return path


@dataclass(frozen=True)
class Shown:
    """A page that shows itself in a notebook, in a frame of its own that cannot reach the notebook."""
    html: str
    height: int = 900

    def _repr_html_(self) -> str:
        return (f'<iframe sandbox="allow-scripts" srcdoc="{escape(self.html)}" title="minivl explorer" '
                f'style="width:100%;height:{int(self.height)}px;border:0"></iframe>')


def show(run: Run, beside: Run | None = None, height: int = 900, budget: int = BUDGET) -> Shown:
    """The page of a run, or of two side by side, inline in a notebook."""
    return Shown(html(run, beside, budget), height)

"""The file: the document between the page's own sources, joined into one HTML that asks for nothing.

Its content security policy lets run exactly the script and the style that were joined here, by their hashes, and lets
nothing be loaded: neither a token that looks like markup nor a picture's name can do more than be shown.

The page's sources are `page.html`, `style.css` and the scripts in SCRIPTS, plain files that a browser's debugger shows
as they are. Read next: `data.js`.
"""

from __future__ import annotations

import base64
import hashlib
import html as markup
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...door.files import write_whole
from .document import BUDGET, document
from .run import Run

SOURCES = Path(__file__).parent
SCRIPTS = ("data.js", "rows.js", "weights.js", "maps.js", "picture.js", "words.js", "panels.js", "main.js")


def html(run: Run, beside: Run | None = None, budget: int = BUDGET) -> str:
    """The page of one run, or of two side by side, as text. budget: bytes of attention weights a run, see
    `attention.all_attention`."""
    found, packed = document([run] if beside is None else [run, beside], budget)
    script = "\n".join(_read(name) for name in SCRIPTS)
    style = _read("style.css")
    title = f"{found['runs'][0]['question']} - minivl explorer"
    parts = {"TITLE": markup.escape(title), "STYLE": style, "SCRIPT": script, "DOCUMENT": as_json(found),
             "PACKED": packed, "POLICY": policy(script, style)}
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def as_json(found: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no `<` is left in it."""
    text = json.dumps(_finite(found), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def policy(script: str, style: str) -> str:
    """Nothing from anywhere; this script and this style only; pictures from within the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
              for text in (script, style)]
    return (f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; "
            "base-uri 'none'; form-action 'none'")


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
        return (f'<iframe sandbox="allow-scripts" srcdoc="{markup.escape(self.html)}" title="minivl explorer" '
                f'style="width:100%;height:{int(self.height)}px;border:0"></iframe>')


def show(run: Run, beside: Run | None = None, height: int = 900, budget: int = BUDGET) -> Shown:
    """The page of a run, or of two side by side, inline in a notebook."""
    return Shown(html(run, beside, budget), height)

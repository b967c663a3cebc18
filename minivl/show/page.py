"""One self-contained page out of a body, styles, scripts and data: it asks for nothing.

Its content security policy lets exactly these scripts and styles run, by their hashes, and lets nothing
be loaded: neither a token that looks like markup nor a file's name can do more than be shown. Data goes
in as JSON in which no `<` is left, so it closes no tag.

Sources are plain files, which a browser's debugger shows as they are. Around them stands `page.html`,
before the scripts of each page `page.js`. Read next: `explorer/page.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

OWN = Path(__file__).parent
COLOURS = OWN / "colours.css"                    # of every page
REPORT_STYLE = OWN / "report.css"                # of pages that are headings, tables and verdicts


def build(title: str, body: Path, styles: Sequence[Path], scripts: Sequence[Path],
          data: Mapping[str, Any]) -> str:
    """The page. body: what stands in its body; data: what a script finds as `dataOf(name)`."""
    style, script = _joined(styles), _joined([OWN / "page.js", *scripts])
    blocks = [f'<script type="application/json" id="{name}">{as_json(value)}</script>'
              for name, value in data.items()]
    parts = {"POLICY": policy(script, style), "TITLE": escape(title), "STYLE": style, "SCRIPT": script,
             "BODY": _joined([body]), "DATA": "\n".join(blocks)}
    return re.sub("@([A-Z]+)@", lambda place: parts[place[1]], _joined([OWN / "page.html"]))


def _joined(sources: Sequence[Path]) -> str:
    return "\n".join(source.read_text(encoding="utf-8") for source in sources)


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element; null where a number is not finite."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def policy(script: str, style: str) -> str:
    """Nothing from anywhere; this script and this style only; pictures from within the page."""
    digests = [hashlib.sha256(text.encode()).digest() for text in (script, style)]
    hashes = [base64.b64encode(digest).decode() for digest in digests]
    return (f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
            "img-src data:; base-uri 'none'; form-action 'none'")

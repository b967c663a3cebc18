"""A parity report as one self-contained page: a verdict for each run, and each run's stages. Read next: `page.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parent / "page.html"


def html(report: Mapping[str, Any]) -> str:
    """The page. The report itself lies in it, so that the page can be verified as well."""
    text = json.dumps(report, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("DATA", text, 1)

"""A parity report as one self-contained page: verdicts, and the stages behind each. Read next: `page.js`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...show.page import COLOURS, REPORT_STYLE, build

OWN = Path(__file__).parent


def html(report: Mapping[str, Any]) -> str:
    """The page. The report itself lies in it, so that the page can be verified as well."""
    return build("minivl parity", OWN / "page.html", [COLOURS, REPORT_STYLE], [OWN / "page.js"], {"data": report})

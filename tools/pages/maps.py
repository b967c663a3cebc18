"""The map at the head of a lesson, as the site shows it: one row for each line, in the order in which the passes run.

In a notebook a map is a block of text: names of passes, three spaces between them, and a remark behind. On a telephone
its right half would be out of sight; here passes and remark stand beside each other, or below where that does not fit.
Read next: `site.py`, which puts it in.
"""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple

HERE = "you are here"
BLOCK = re.compile(rf"(?ms)^```\n(?P<rows>(?:(?!```).)*?{HERE}.*?)^```$")
LABEL = re.compile(r"[a-z_]+(\.[a-z0-9_]+)+")


class Row(NamedTuple):
    """A line of a map: labels of passes or words in their place, a remark, and whether the lesson is about them."""
    passes: tuple[str, ...]
    note: str
    here: bool


def rows(block: str) -> list[Row]:
    """The lines of a map's text."""
    return [_row(line) for line in block.splitlines() if line.strip()]


def _row(line: str) -> Row:
    *left, last = re.split(r" {3,}", " " * 3 + line.strip())
    marked = last.startswith("<==")
    if not marked and (not any(left) or LABEL.fullmatch(last)):
        left, last = [*left, last], ""
    return Row(tuple(filter(None, left)), last.removeprefix("<==").strip(), marked)


def labels(block: str) -> list[str]:
    """The passes that a map names, in its order."""
    return [name for row in rows(block) for name in row.passes if LABEL.fullmatch(name)]


def shown(text: str) -> str:
    """The text of a cell with its map as HTML; a cell without one is left as it is."""
    return BLOCK.sub(lambda block: _html(rows(block["rows"])), text)


def _html(table: list[Row]) -> str:
    lines = []
    for row in table:
        passes = " ".join(f"<code>{escape(name)}</code>" if LABEL.fullmatch(name) else _with_code(name)
                          for name in row.passes)
        lines.append(f'<li{" class=here" if row.here else ""}><span class="passes">{passes}</span> '
                     f'<span class="note">{"&#8592; " if row.here else ""}{_with_code(row.note)}</span></li>')
    return '<ol class="lesson-map">\n' + "\n".join(lines) + "\n</ol>"


def _with_code(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))

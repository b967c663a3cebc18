"""A page that was read (`documents.py`) as Markdown: headings, paragraphs, lists, tables, code, and a
comment where a picture stands.

What Markdown has no form for is written as its text. Read next: `documents.py`.
"""

from __future__ import annotations

import re

from .documents import Node

SIGNS = re.compile(r"([\\`*_<>\[\]|#])")
BEGINS = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)")            # what would begin a list
INLINE = ("b", "strong", "i", "em", "s", "code", "span", "a", "sub", "sup", "u", "br")
AROUND = {"b": "**", "strong": "**", "i": "*", "em": "*", "s": "~~", "code": "`"}


def markdown(page: Node) -> str:
    """The text of a page as Markdown, ending in one line end."""
    return "\n\n".join(_blocks(page)).strip() + "\n"


def _blocks(node: Node) -> list[str]:
    """What an element holds, block after block."""
    found: list[str] = []
    line = ""
    for part in node.parts:
        if isinstance(part, str) or part.name in INLINE:
            line += _inline(part)
        else:
            found += [*_plain(line), *_block(part)]
            line = ""
    return found + _plain(line)


def _plain(line: str) -> list[str]:
    text = re.sub(r"[ \t\n]*\n[ \t\n]*", "\n", re.sub(r"[ \t]+", " ", line)).strip()
    return [BEGINS.sub(r"\1\\\2", text)] if text else []


def _block(node: Node) -> list[str]:
    if re.fullmatch(r"h[1-6]", node.name):
        return [f"{'#' * int(node.name[1])} {' '.join(_blocks(node))}"]
    if node.name in ("ul", "ol"):
        return [_list(node)]
    if node.name == "table":
        return [_table(node)]
    if node.name == "pre":
        return [f"```\n{''.join(part for part in node.parts if isinstance(part, str)).strip()}\n```"]
    if node.name == "img":
        return [f"<!-- picture {node.attributes.get('data-bbox', '')} -->".replace("  ", " ")]
    if node.name == "hr":
        return ["---"]
    blocks = _blocks(node)
    return ["> " + line.replace("\n", "\n> ")
            for line in blocks] if node.name == "blockquote" else blocks


def _inline(part: Node | str) -> str:
    if isinstance(part, str):
        return SIGNS.sub(r"\\\1", " ".join(part.split("\n")))
    if part.name in ("br", "img"):
        return "\n" if part.name == "br" else ""
    inner = "".join(map(_inline, part.parts))
    sign = AROUND.get(part.name, "")
    return f"{sign}{inner}{sign}" if inner.strip() else inner


def _list(node: Node) -> str:
    lines = []
    items = [part for part in node.parts if not isinstance(part, str)]
    for n, item in enumerate(items, 1):
        mark = f"{n}. " if node.name == "ol" else "- "
        text = "\n".join(_blocks(item)) if item.name == "li" else "\n".join(_block(item))
        lines.append(mark + text.replace("\n", "\n" + " " * len(mark)))
    return "\n".join(lines)


def _table(node: Node) -> str:
    """Rows with lines between the cells; the first row is the head, which Markdown must have. A cell
    over several columns is followed by empty ones."""
    rows = [_cells(row) for row in _rows(node)]
    width = max(map(len, rows), default=0)
    if not width:
        return " ".join(_blocks(Node("p", {}, node.parts)))
    rows = [row + [""] * (width - len(row)) for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _rows(node: Node) -> list[Node]:
    inside = [part for part in node.parts if not isinstance(part, str)]
    return [row for part in inside for row in ([part] if part.name == "tr" else _rows(part))]


def _cells(row: Node) -> list[str]:
    found: list[str] = []
    for cell in row.parts:
        if isinstance(cell, Node):
            span = cell.attributes.get("colspan", "1")
            text = " ".join(" ".join(_blocks(cell)).split())
            found += [text, *[""] * (min(int(span), 100) - 1 if span.isdecimal() else 0)]
    return found

"""Tables in an answer: a line of column names, then rows, in Markdown or with commas between.

    | object     | x1 | y1 | x2 | y2 |          object,x1,y1,x2,y2
    |------------|----|----|----|----|          red circle,12,30,60,88
    | red circle | 12 | 30 | 60 | 88 |

Cut into cells here, each with its place in the text. What a column name means is not known here. The time
grows with the length of the text. Read next: `answers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .brackets import Atom

RULE = re.compile(r"[ \t]*+\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*+")
BARE = re.compile(r"[A-Za-z_][\w ]{0,30}+(?:,[ \t]*+[A-Za-z_][\w ]{0,30}+)++")     # names with commas between
REMARK = re.compile(r"\([^()]*+\)|\[[^\[\]]*+\]|[*`_]")                           # beside a column's name


class Table(NamedTuple):
    """names: of the columns, without remarks; rows: a cell for each of them, as texts."""
    start: int
    end: int
    names: list[str]
    rows: list[list[Atom]]


def tables(text: str) -> Iterator[Table]:
    """Every table, in order."""
    lines = list(re.finditer(r"[^\n]++", text))
    at = 0
    while at + 1 < len(lines):
        first, second = lines[at], lines[at + 1]
        ruled = "|" in first[0] and "|" in second[0] and RULE.fullmatch(second[0].rstrip("\r"))
        mark = "|" if ruled else "," if BARE.fullmatch(first[0].strip()) else None
        if mark is None or second.start() != first.end() + 1:
            at += 1
            continue
        names, found = [REMARK.sub("", str(cell.value)) for cell in _cells(first, mark)], []
        before, at = second if ruled else first, at + 1 + bool(ruled)
        while at < len(lines) and mark in lines[at][0] and lines[at].start() == before.end() + 1:
            found.append(_cells(lines[at], mark)[:len(names)])
            before, at = lines[at], at + 1
        yield Table(first.start(), before.end(), names, found)


def _cells(line: re.Match[str], mark: str) -> list[Atom]:
    """The cells of a line; a mark within brackets or quotes does not end a cell."""
    inside = r"""\[[^\[\]\n]*+\]|\([^()\n]*+\)|"[^"\n]*+"|""" if mark == "," else ""
    cells = []
    for part in re.finditer(rf"(?:{inside}[^{mark}])*+(?:{re.escape(mark)}|$)", line[0]):
        value = part[0].removesuffix(mark)
        text, start = value.strip(), line.start() + part.start() + len(value) - len(value.lstrip())
        cells.append(Atom(text.strip("\"`* "), start, start + len(text)))
    while cells and cells[-1].start == cells[-1].end:
        cells.pop()
    return cells[1:] if mark == "|" and line[0].lstrip().startswith("|") else cells

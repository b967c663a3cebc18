"""A page that the model has written, as HTML whose boxes are in pixels of the picture as it came.

    found = read_page('<h2 data-bbox="10 12 90 30">Invoice</h2>', size, source_size)
    found.document, found.elements, found.problems, found.notes

The form is that of the technical report (arXiv:2502.13923, section 2.2.1) and of the cookbook
(QwenLM/Qwen2.5-VL, cookbooks/document_parsing.ipynb). What comes out is written anew from what was read:
known elements, known attributes, escaped text. So it asks for nothing and runs nothing in a browser,
whatever a picture says. Mended is what can mean one thing alone, with a note; what can mean several is a
problem, and then there is no document. Read next: `forms.py` (JSON), `grounding.py` (boxes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from typing import Any

import numpy as np

from ..passes.answer import boxes_to_original
from .answers import Said
from .brackets import LEVELS, NUMBERS
from .grounding import settle

ELEMENTS = frozenset((
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "span", "a", "br", "hr", "pre", "code", "blockquote",
    "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "ol", "li", "img", "figure",
    "figcaption", "b", "strong", "i", "em", "u", "s", "sub", "sup"))
EMPTY = frozenset(("br", "hr", "img"))                     # elements that have no end
AROUND = frozenset(("html", "body"))  # the report's own example closes them the wrong way round
# blanks in them say nothing
HOLDERS = frozenset(("", "table", "thead", "tbody", "tfoot", "tr", "ul", "ol", "div"))
UNSHOWN = frozenset(("style", "script", "head", "title"))  # what they hold is no text of the page
KEPT = ("class", "colspan", "rowspan", "format")  # attributes besides data-bbox and data-polygon
FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
OPENED = re.compile(r"\s*```[\w-]*[ \t]*\n")
Size = tuple[int, int]


@dataclass
class ReadDocument:
    """What an answer comes to. document: HTML text, or a value of JSON; None where there are problems.

    elements: what has a place, in order: {"kind", "box", "text"}; boxes are x0, y0, x1, y1 in pixels of
        the picture as it came; a point is a box of two numbers
    notes: what was mended or left out; problems: why it is not what was asked for
    """
    document: Any = None
    elements: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    page: Node | None = None                                   # of HTML: the tree of its elements


@dataclass
class Node:
    """An element: its name, its attributes, and what it holds: elements and texts."""
    name: str
    attributes: dict[str, str]
    parts: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, blanks as one."""
        return " ".join("".join(_texts(self)).split())


def _texts(node: Node) -> Iterator[str]:
    for part in node.parts:
        yield from ([part] if isinstance(part, str) else _texts(part))
    if node.name not in ("b", "i", "u", "s", "em", "strong", "sub", "sup", "code", "span", "a"):
        yield " "


def read_page(answer: str, size: Size, source_size: Size) -> ReadDocument:
    """An answer about a picture of `source_size`, seen at `size` (both height, width), as HTML. Whatever
    the answer is, nothing is raised."""
    found = ReadDocument()
    text = unfenced(answer, found)
    page = PageReader(text, Placing(size, source_size, found), found)
    found.elements = [{"kind": node.name, "box": box, "text": node.text} for node, box in page.placed]
    if not found.problems and not any(isinstance(part, Node) for part in page.root.parts):
        found.problems.append("the answer must hold elements of a page, such as <p data-bbox=...>; it "
                              "says: "
                              + shown(answer))
    if not found.problems:
        body = "".join(map(_written, page.root.parts)).strip()
        found.document = f"<!DOCTYPE html>\n<html><body>\n{body}\n</body></html>\n"
        found.page = page.root
    return found


def unfenced(answer: str, found: ReadDocument) -> str:
    """An answer without the fence of a block of code, when all of it stands in one."""
    if block := FENCE.fullmatch(answer):
        return block[1]
    if (start := OPENED.match(answer)) and "```" not in answer[start.end():]:
        return answer[start.end():]  # its end is missing: what it holds shows whether it was cut
    return answer.strip()


def shown(answer: str) -> str:
    """The beginning of an answer, on one line."""
    said = " ".join(answer.split())
    return (said[:120] + "..." if len(said) > 120 else said) or "(nothing)"


class Placing:
    """Boxes and points of an answer in pixels of the picture as it came; what lies nowhere is a
    problem."""

    def __init__(self, size: Size, source_size: Size, found: ReadDocument):
        self.size, self.source_size, self.found = size, source_size, found

    def placed(self, numbers: Sequence[float], name: str) -> list[float] | None:
        """Two numbers or four; None, with a problem, where they are no place in the picture."""
        notes: list[str] = []
        place = settle(Said(name, tuple(numbers)), self.size, notes, self.source_size)
        if place is None:
            self.found.problems += notes
            return None
        self.found.notes += notes
        (row,) = boxes_to_original(np.array([place], np.float64), np.array(self.size),
                                   np.array(self.source_size)).tolist()                       # 1 4 -> 4
        return [round(n, 2) for n in row[:len(numbers)]]


class PageReader(HTMLParser):
    """The elements of a page. `root.parts` are those at the top."""

    def __init__(self, text: str, places: Placing, found: ReadDocument):
        super().__init__()
        self.places, self.found = places, found
        self.root = Node("", {})
        self.open = [self.root]
        self.unshown: list[str] = []                         # elements whose text is left out
        self.placed: list[tuple[Node, list[float]]] = []
        self.feed(text)
        tail = text[text.rfind("<"):] if "<" in text else ""
        self.close()
        still = [node.name for node in self.open[1:]] + self.unshown
        if still or (tail and ">" not in tail and re.match(r"<[/!a-zA-Z]?", tail)):
            inside = " in ".join(f"<{name}>" for name in reversed(still)) or "a tag"
            found.problems.append(f"the answer ends inside of {inside}: it was cut short")

    # ---- what the parser meets

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in UNSHOWN:
            self.unshown.append(tag)
        if self.unshown or tag in AROUND:
            return
        if tag not in ELEMENTS:
            return self._note(f"<{tag}> is no element of such a page: left out, its text kept")
        if len(self.open) > LEVELS:
            return self._problem(f"elements lie more than {LEVELS} deep in each other")
        node = Node(tag, {})
        self._give(node, attrs)
        self.open[-1].parts.append(node)
        if tag not in EMPTY:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.unshown:
            if tag in self.unshown:
                self._note(f"<{tag}> is left out")
                del self.unshown[self.unshown.index(tag):]
            return
        if tag in AROUND or tag not in ELEMENTS or tag in EMPTY:
            return
        if self.open[-1].name == tag:
            self.open.pop()
        elif any(node.name == tag for node in self.open):
            self._problem(f"</{tag}> comes while <{self.open[-1].name}> is open")
            while self.open.pop().name != tag:
                pass
        else:
            self._problem(f"</{tag}> closes what was not opened")

    def handle_data(self, data: str) -> None:
        if self.unshown or (self.open[-1].name in HOLDERS and not data.strip()):
            return
        if len(self.open) == 1:
            self._note("text outside of any element is kept as it is")
            self.root.parts.append(data)
        else:
            self.open[-1].parts.append(data)

    def _give(self, node: Node, attrs: list[tuple[str, str | None]]) -> None:
        """The attributes that are known, with places in the picture's own pixels."""
        for name, value in attrs:
            numbers = [float(n) for n in NUMBERS.findall(value or "")]
            if name in KEPT:
                node.attributes[name] = value or ""
            elif name == "data-bbox" and len(numbers) != 4:
                self._problem(f"data-bbox of <{node.name}> is {shown(value or '')}; a box has 4 numbers")
            elif name == "data-bbox":
                if box := self.places.placed(numbers, node.name):
                    node.attributes[name] = spelt(box)
                    self.placed.append((node, box))
            elif name == "data-polygon":
                if points := self._points(numbers, node.name):
                    node.attributes[name] = spelt(points)
            else:
                self._note(f"the attribute {name[:40]} of <{node.name}> is left out")

    def _points(self, numbers: list[float], tag: str) -> list[float]:
        """The corners of a polygon, x y after x y."""
        if len(numbers) < 6 or len(numbers) % 2:
            self._problem(f"data-polygon of <{tag}> has {len(numbers)} numbers; it takes 3 corners of 2 "
                          "or more")
            return []
        pairs = [self.places.placed(numbers[n:n + 2], tag) for n in range(0, len(numbers), 2)]
        return [] if None in pairs else [n for pair in pairs if pair for n in pair]

    def _note(self, words: str) -> None:
        if words not in self.found.notes:
            self.found.notes.append(words)

    def _problem(self, words: str) -> None:
        if words not in self.found.problems:
            self.found.problems.append(words)


def spelt(numbers: Sequence[float]) -> str:
    """Numbers with blanks between them, to a hundredth."""
    return " ".join(f"{n:.2f}".rstrip("0").rstrip(".") for n in numbers)


def _written(part: Node | str) -> str:
    """An element or a text as HTML."""
    if isinstance(part, str):
        return escape(part, quote=False)
    given = "".join(f' {name}="{escape(value)}"' for name, value in part.attributes.items())
    if part.name in EMPTY:
        return f"<{part.name}{given}>"
    end = "\n" if re.fullmatch(r"h\d|p|div|table|tr|ul|ol|li|pre|blockquote|figure", part.name) else ""
    return f"<{part.name}{given}>{''.join(map(_written, part.parts))}</{part.name}>{end}"

"""From the text of an answer to the boxes and points that it names: tolerant of what models really
write.

    said, notes = read('[{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}]')
    said[0]        # Said(label="red circle", numbers=(12.0, 30.0, 60.0, 88.0))

Taken, each as it stands in the text and in its order:
  JSON, fenced or bare, prose around it, in pieces; brackets, commas and quotes may be missing or wrong
  a box is four numbers, a point two, under the keys of BOXES and POINTS; lists of them; a box as two
  corners
    or with named sides ({"x1": ...}); numbers with a fraction or in quotes; a list of numbers without
    any key
  the label is what stands under a key of LABELS, else the key (or the label) of the object around it
  a key that comes again in one object starts the next one (a forgotten brace), which keeps the label
  of the
    one before if it has none
  an answer cut short gives what was complete
and, where an answer holds none of these, `<points x1="12" y1="30" alt="...">` and
`label(12,30),(60,88)`: what official models write when they are asked for XML or with the grounding
words of Qwen2-VL.

Whatever looks like a box or a point but cannot be read is told in a note. Nothing here knows a
picture: the order of corners and the border are for `grounding.py`, which is to be read next.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

BOXES = ("bbox_2d", "bbox", "box", "bboxes", "boxes", "bounding_box")
POINTS = ("point_2d", "point", "points_2d", "points", "coordinate", "coordinates")
LABELS = ("label", "text_content", "name", "text", "category", "class", "type", "description")
NAMED = (("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"),
         ("left", "top", "right", "bottom"), ("x", "y"))
LEVELS = 40                  # brackets inside brackets; an answer that goes deeper goes round in circles

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
TOKEN = re.compile(rf"""\s*(?: (?P<open>[\[{{(])  | (?P<close>[\]}})]) | (?P<mark>[:,])
                             | (?P<text>"(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'?)
                             | (?P<number>{NUMBER.pattern})
                             | (?P<word>[^\s\[\]{{}}(),:"'][^\s\[\]{{}}(),:"]*) )""",
                   re.VERBOSE)
OPENING = re.compile(r"[\[{]")
KEYED = re.compile(rf"""["'](?:{'|'.join((*BOXES, *POINTS))})["']\s*:""", re.IGNORECASE)
TAGS = re.compile(r"<points?\b([^<>]*)>([^<>]*)")
ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*["']([^"'<>]*)["']""")
CORNERS = re.compile(r"\((\d+), ?(\d+)\), ?\((\d+), ?(\d+)\)")


@dataclass(frozen=True)
class Said:
    """A box (four numbers, x0 y0 x1 y1) or a point (two, x y), in pixels of the resized picture."""
    label: str
    numbers: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.label} [{', '.join(f'{n:.6g}' for n in self.numbers)}]".lstrip()


def read(answer: str) -> tuple[list[Said], list[str]]:
    """Everything that an answer names, and notes about what could not be read. Never raises."""
    notes: list[str] = []
    said = list(_Reader(answer, notes).everything()) or [*_tags(answer), *_corners(answer)]
    kept = list(dict.fromkeys(said))
    if len(kept) < len(said):
        notes.append(f"{len(said) - len(kept)} repeated word for word: left out")
    return kept, notes


# ---- brackets ------------------------------------------------------------------------------------

@dataclass
class Group:
    """What stands inside a pair of brackets: (key, value) pairs, the key None where there is none.
    Lists and objects are the same, so that either may stand for the other."""
    opened: str
    start: int
    end: int = 0                                         # 0: the text ended first
    items: list[tuple[str | None, Any]] = field(default_factory=list)


PAIRS = {"]": "[", "}": "{", ")": "("}


def groups(text: str) -> Iterator[Group]:
    """The outermost groups of a text; prose between them is skipped."""
    at = 0
    while opening := OPENING.search(text, at):
        top, at = _group(text, opening.start())
        yield top


def _group(text: str, at: int) -> tuple[Group, int]:
    """One outermost group and where the reading goes on."""
    root = Group("", at)
    stack, key = [root], None
    while token := TOKEN.match(text, at):
        at, kind, word = token.end(), token.lastgroup, token[token.lastgroup or 0]
        if kind == "close":
            _close(stack, PAIRS[word], at)
            if len(stack) == 1:
                break
        elif kind == "mark":
            key = _key(stack[-1]) if word == ":" else None
        else:
            value = Group(word, token.start(kind or 0)) if kind == "open" else _value(kind, word)
            stack[-1].items.append((key, value))
            key = None
            if isinstance(value, Group):
                stack.append(value)
        if len(stack) > LEVELS:
            return root.items[0][1], len(text)
    return root.items[0][1], at if len(stack) == 1 else len(text)


def _close(stack: list[Group], opened: str, at: int) -> None:
    """Close the nearest group of this kind and all inside it. A bracket that fits none closes a group
    that ends in a number (`[1, 2, 3, 4}`) and is overlooked otherwise."""
    fitting = [n for n, group in enumerate(stack) if group.opened == opened]
    ends = bool(stack[-1].items) and isinstance(stack[-1].items[-1][1], float)
    keep = fitting[-1] if fitting else len(stack) - ends
    for group in stack[keep:]:
        group.end = at
    del stack[keep:]


def _key(group: Group) -> str | None:
    """A colon makes the text before it a key."""
    if group.items and group.items[-1][0] is None and isinstance(group.items[-1][1], str):
        return group.items.pop()[1]
    return None


def _value(kind: str | None, word: str) -> Any:
    if kind == "number":
        return float(word)                               # beyond floats it is inf, and refused later
    if kind == "word":
        return None if word in ("null", "None") else word
    inside = word[1:-1] if len(word) > 1 and word[-1] == word[0] else word[1:]
    with suppress(ValueError):
        inside = json.loads(f'"{inside}"', strict=False)
    return inside.encode("utf-8", "replace").decode("utf-8")  # an escape can be half a character: \ud800


# ---- what the groups say -------------------------------------------------------------------------

class _Reader:
    """Walks the groups of one answer, once."""

    def __init__(self, text: str, notes: list[str]):
        self.text, self.notes, self.keys, self.cut = text, notes, 0, False

    def everything(self) -> Iterator[Said]:
        for group in groups(self.text):
            self.cut = self.cut or not group.end
            yield from self.walk(group, "")
        lost = len(KEYED.findall(self.text)) - self.keys
        if self.cut:
            self.notes.append("the answer ends before its brackets are closed: it may have been cut "
                              "short")
        if lost > 0:
            self.notes.append(f"{lost} more {'was' if lost == 1 else 'were'} named, too damaged to be "
                              "read")

    def walk(self, group: Group, label: str) -> Iterator[Said]:
        """All that a group names; `label` is what it is called by whatever is around it."""
        if _numbers(group):
            yield from self.bare(group, label)
            return
        for run in _runs(group.items):
            own, spoken = _label(run), any(_is(key, BOXES + POINTS) for key, _ in run)
            label = own or label                    # the next run keeps it, unless it has one of its own
            if group.end and not spoken and (numbers := _by_name(run)):
                yield Said(label, numbers)
            for key, value in run:
                if _is(key, BOXES + POINTS):
                    self.keys += 1
                    yield from self.shapes(value, 4 if _is(key, BOXES) else 2, label)
                elif isinstance(value, Group) and (key is None or not _numbers(value)):
                    yield from self.walk(value, own or key or label)
                elif isinstance(value, Group) and not (own or spoken) and len(_numbers(value)) == 4:
                    yield from self.shapes(value, 4, key or label)         # {"red circle": [1, 2, 3, 4]}

    def bare(self, group: Group, label: str) -> Iterator[Said]:
        """A list of numbers under no key; a single number is a footnote of the prose."""
        count = len(_numbers(group))
        if count > 1:
            yield from self.shapes(group, 2 if count == 2 else 4, label)

    def shapes(self, value: Any, wanted: int, label: str) -> Iterator[Said]:
        """Boxes or points under one key: one, several, or an object that holds them."""
        items = value.items if isinstance(value, Group) else []
        parts = [part for _, part in items if isinstance(part, Group)]
        corners = wanted == 4 and len(parts) == 2 and all(len(_numbers(part)) == 2 for part in parts)
        if any(key is not None for key, _ in items):
            found = list(self.walk(value, label))
        elif parts and not corners:
            found = [one for part in parts for one in self.shapes(part, wanted, label)]
        elif any(not part.end for part in (parts or [value]) if isinstance(part, Group)):
            return                                       # digits may be missing; `everything` says so
        else:
            numbers = sum(map(_numbers, parts), ()) if corners else _numbers(value)
            readable = len(numbers) == wanted and all(map(math.isfinite, numbers))
            found = [Said(label, numbers)] if readable else []
        yield from found
        if not found and not parts:
            kind = "box" if wanted == 4 else "point"
            self.notes.append(f"not read: {self.shown(value, label)}, where a {kind} has {wanted} "
                              "numbers")

    def shown(self, value: Any, label: str) -> str:
        """A value as it stands in the answer, shortened."""
        words = self.text[value.start:value.end or None] if isinstance(value, Group) else json.dumps(value)
        return " ".join([label, words if len(words) <= 60 else f"{words[:60]}..."]).strip()


def _is(key: str | None, names: tuple[str, ...]) -> bool:
    return key is not None and key.strip().lower() in names


def _numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a list that holds nothing else, or of a text ("12, 30, 60, 88"); else none."""
    if isinstance(value, str):
        return tuple(map(float, NUMBER.findall(value)))
    if not isinstance(value, Group):
        return ()
    found = [float(item) if isinstance(item, str) and NUMBER.fullmatch(item.strip()) else item
             for key, item in value.items if key is None]
    whole = len(found) == len(value.items) and all(isinstance(item, float) for item in found)
    return tuple(found) if whole else ()


def _by_name(items: list[tuple[str | None, Any]]) -> tuple[float, ...]:
    """The numbers of {"x1": 12, "y1": 30, "x2": 60, "y2": 88} in order; none when names are missing,
    and none for a corner with a width and a height, which no official model writes: it would pass for
    a point."""
    named = {key.strip().lower(): value for key, value in items if key and isinstance(value, float)}
    if named.keys() & {"width", "height", "w", "h"}:
        return ()
    names = next((names for names in NAMED if named.keys() >= set(names)), ())
    return tuple(named[name] for name in names)


def _runs(items: list[tuple[str | None, Any]]) -> Iterator[list[tuple[str | None, Any]]]:
    """Items up to where a key comes again; one run when none does."""
    run: list[tuple[str | None, Any]] = []
    for key, value in items:
        if key is not None and any(key == other for other, _ in run):
            yield run
            run = []
        run.append((key, value))
    yield run


def _label(run: list[tuple[str | None, Any]]) -> str:
    """What an object calls itself, on one line."""
    found = {key.strip().lower(): value for key, value in run if key and isinstance(value, str | float)}
    value = next((found[name] for name in LABELS if name in found), "")
    return f"{value:g}" if isinstance(value, float) else " ".join(value.split())


# ---- other notations -----------------------------------------------------------------------------

def _tags(text: str) -> Iterator[Said]:
    """`<points x1="12" y1="30" x2="40" y2="31" alt="a key">a key</points>`"""
    for inside, words in TAGS.findall(text):
        held = dict(ATTRIBUTE.findall(inside))
        label = " ".join((held.get("alt") or words).split())
        for name, x in held.items():
            y = held.get(f"y{name[1:]}", "") if name.startswith("x") else ""
            if NUMBER.fullmatch(x) and NUMBER.fullmatch(y):
                yield Said(label, (float(x), float(y)))


def _corners(text: str) -> Iterator[Said]:
    """`a dog(221,423),(569,886)`: what is left of Qwen2-VL's notation without its special tokens."""
    at = 0
    for found in CORNERS.finditer(text):
        label = text[at:found.start()].rpartition("\n")[2]
        yield Said(" ".join(label.split()), tuple(map(float, found.groups())))
        at = found.end()

"""From the text of an answer to the boxes and points that it names, as models really write them.

    said, notes = read('[{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}]')
    said[0]        # Said(label="red circle", numbers=(12.0, 30.0, 60.0, 88.0))

First the part that answers is found: not the thoughts before it, nor what the model takes back. Then
the text is read from left to right, and the first form that begins at a place takes it:
  tables      of Markdown, or with commas between: the column names say what the numbers are
  brackets    JSON, or what is nearly JSON
  calls       click(start_box='(12,30)'), pyautogui.click(x=12, y=30), swipe(1, 2, 3, 4): two points
  tags        <point>12 30</point>, <click x=12 y=30/>, <|box_start|>(12,30),(60,88)<|box_end|>,
              and the pages that these models write: <h2 data-bbox="12 30 60 88">a title</h2>
  prose       where nothing else was found: `a dog(12,30),(60,88)`, `x=12, y=30`, `at (12, 30)`; and two
              points, `drag from (12, 30) to (60, 88)`
Of several fenced blocks all are read; where a later one names again what an earlier one has named, the
later one counts, and a note says what the earlier one said.
At last a sweep: two numbers or more that stand side by side, and were neither read nor noted, are
noted. Nothing is rescaled and nothing raised, and the time grows with the length of the text.

Nothing here knows a picture: whether numbers can be its pixels is for `grounding.py`. Read next:
`brackets.py`, `tables.py`, `grounding.py`.
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from dataclasses import dataclass
from typing import Any

from .brackets import (
    NAMELESS,
    NUMBER,
    NUMBERS,
    Atom,
    Pairs,
    Piece,
    atom_of,
    atoms_of,
    items,
    numbers_of,
    plain,
    runs,
    shown,
)
from .tables import Table, tables

# How many numbers stand under a key. Keys are compared as small letters and digits alone.
PLACES = {
    **dict.fromkeys(("bbox2d", "bbox", "box", "bboxes", "boxes", "boundingbox"), (4,)),
    **dict.fromkeys(("point2d", "point", "points2d", "points", "clickpoint"), (2,)),
    **dict.fromkeys(("coordinate", "coordinates", "coords", "coordinate2", "startcoordinate",
                     "endcoordinate", "startbox", "endbox", "startpoint", "endpoint", "position",
                     "location", "bounds"), (2, 4))}
LABELS = ("label", "textcontent", "name", "text", "category", "class", "type", "description")
NAMED = (("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"),
         ("startx", "starty", "endx", "endy"), ("left", "top", "right", "bottom"), ("x", "y"))
AXES = {name for names in NAMED for name in names}
COLUMNS = PLACES | {**dict.fromkeys(("center", "centre", "clickpoint", "pixel", "xy"), (2,)),
                    "region": (4,)}                          # a table's, where a word alone says it
CORNERS = (("topleft", "bottomright"), ("upperleft", "lowerright"), ("start", "end"), ("from", "to"))
THINGS = (*LABELS, "object", "element", "item", "control", "button", "target", "thing", "class")
HOLDERS = ("arguments", "action", "answer", "code", "command", "function", "parameters", "response",
           "result")        # texts under these keys are read like an answer
SHOWN = 20                   # places that the sweep shows; the others are counted

TOP = re.compile(r"""
    (?P<open> [\[{] )
  | <\|?(?:object_)?ref(?:_start)?\|?>(?P<ref>[^<>]*+)
  | <(?P<tag>\|?(?:points?|box|bbox|click|tap|coordinates?)(?:_start)?\|?)(?![\w|])(?P<held>[^<>]*+)>
        (?P<inside>[^<>]*+)
  | <(?P<element>[a-zA-Z]\w{0,15}+)\s++(?P<given>[^<>]*+)>(?P<content>[^<>]*+)
  | (?<![\w.])(?P<call>[\w.]++)\s*+(?=\()""", re.VERBOSE)
ATTRIBUTE = re.compile(r"""(\w++)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'<>/]++)""")
GIVEN = re.compile(r"""\b(data-bbox)\s*+=\s*+("[^"]*+"|'[^']*+')""")
VERB = re.compile(r"""
    (?=.*(?:click|tap|press|hover|touch|swipe|drag|scroll|double|single|mouse_?move|move_?to))
    (?:(?:left|right|middle|double|triple|long|single|mouse|click|tap|press|hover|touch|swipe|drag|scroll
          |move|to|at|on|drop|and|element)_?)++""", re.IGNORECASE | re.VERBOSE)
TYPED = re.compile(r"(?:type|write|typewrite|input|fill|press|key|hotkey|finish|answer|respond)\w*+",
                   re.IGNORECASE)             # what these calls are given is text
DRAG = re.compile(r"(?:\w*_)?(?:drag|swipe)(?:_\w*)?", re.IGNORECASE)

THOUGHTS = re.compile(r"""<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)
    | ^[ \t*#]*+Thought[ \t*]*+[:\uff1a].*?(?=^[ \t*#]*+(?:Action|Answer|Final)\b|\Z)""",
                      re.DOTALL | re.IGNORECASE | re.MULTILINE | re.VERBOSE)
ANSWER = re.compile(r"</think(?:ing)?>|<answer>|^[ \t*#]*+(?:the\s)?final\sanswer\b",
                    re.IGNORECASE | re.MULTILINE)
TAKEN_BACK = re.compile(r"\b(?:wait|actually|sorry|correction|corrected|revised|updated"
                        r"|let me (?:correct|refine|adjust|revise))\b", re.IGNORECASE)
PAIR = rf"\(\s*+({NUMBER})\s*+,\s*+({NUMBER})\s*+\)"
TO = r"(?:\bto\b|[-=]>|→|到|至)"
QUAD = rf"\(\s*+{', *'.join([f'({NUMBER})'] * 4)}\s*+\)"
NAME = r"\b{}\b\s*+[:=>]\s*+({})(?:px)?(?:</\w{{1,20}}>)?[\s,;|]*+(?:and\s)?(?:<(?:parameter=)?)?"
PROSE = re.compile("|".join((
    rf"(?P<ends>)(?:(?:\bfrom\b|从)[^\n\d()\[]{{0,30}}{PAIR}[^\n\d()\[]{{0,30}}{TO}[^\n\d()\[]{{0,30}}{PAIR}"
    rf"|{PAIR}\s*+{TO}\s*+{PAIR})",
    rf"{PAIR}\s*+,\s*+{PAIR}",
    rf"(?:top|upper)[ -]left[^\n\d()\[]{{0,30}}{PAIR}[^\n\d()\[]{{0,40}}"
    rf"(?:bottom|lower)[ -]right[^\n\d()\[]{{0,30}}{PAIR}",
    rf"(?<!color)(?<!colour)\s?[:=]\s*+{QUAD}",
    *("".join(NAME.format(name, NUMBER) for name in names) for names in NAMED),
    rf"(?:\b(?:at|points?|coordinates?|position|location|cent(?:er|re))\b|坐标|位置|点)"
    rf"(?:(?!left|right|corner|size)[^\n\d()\[]){{0,30}}{PAIR}")), re.IGNORECASE)
MOVED = re.compile(r"\b(?:drag|swip|scroll|slid|mov|pull|pan|draw)\w{0,6}|拖|滑", re.IGNORECASE)
BOXED = re.compile(r"box|rectang|region|area|extend|span|stretch|cover|frame", re.IGNORECASE)
ONE = rf"""(?:["']?\b(?:[xy]\d?|left|top|right|bottom|width|height)["']?\s*+[:=]\s*+)?+
    (?<![\w.]){NUMBER}(?:px|%)?"""
SWEEP = re.compile(rf"""{ONE}(?:(?:[\s,;|"'()\[\]{{}}]|</?[\w=]{{0,20}}>)++{ONE})++""",
                   re.IGNORECASE | re.VERBOSE)
DAMAGED = re.compile(rf"""\b(?:bbox_2d|point_2d|{'|'.join(PLACES)})["']\s*+:(?!\s*+\0)""", re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """A box (four numbers, x0 y0 x1 y1) or a point (two, x y), in pixels of the resized picture."""
    label: str
    numbers: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.label} [{', '.join(f'{n:.6g}' for n in self.numbers)}]".lstrip()


def read(answer: str) -> tuple[list[Said], list[str]]:
    """Everything that an answer names, and notes about what could not be read. Never raises."""
    reader = _Reader(answer)
    reader.everything()
    said = [one for one, _ in reader.said]
    kept = list(dict.fromkeys(said))
    if len(kept) < len(said):
        reader.notes.append(f"{len(said) - len(kept)} repeated word for word: left out")
    return kept, reader.notes


class _Reader:
    """Reads one text, once. `passed` are the stretches that some form has taken, `told` those that a
    note is about or that are keys; `old` is whether Qwen2-VL's notation was met."""

    def __init__(self, text: str, inner: int = 0):
        self.text, self.inner, self.cut, self.old = text, inner, False, False
        self.said: list[tuple[Said, list[Atom]]] = []
        self.pieces: list[tuple[Said, list[Atom]]] = []          # of those, what stands in brackets
        self.notes: list[str] = []
        self.told: list[tuple[int, int]] = []
        self.passed: list[tuple[int, int]] = []

    def everything(self) -> None:
        answer = _answering(self.text)
        at, ref = 0, NAMELESS
        for table in tables(answer):
            at, ref = self.forms(answer, at, table.start, ref)
            if at <= table.start and self.table(table, at):
                at = table.end
        self.forms(answer, at, len(answer), ref)
        self.last_blocks(answer)
        if not self.said:
            self.prose(_blanked(answer, self.passed))
        if self.cut:
            self.notes.append("the answer ends before its brackets are closed: it may have been cut "
                              "short")
        if self.old:
            self.notes.append("in the notation of Qwen2-VL numbers are thousandths of the picture: "
                              "these were read as pixels")
        self.sweep(answer)

    def forms(self, text: str, at: int, end: int, ref: Atom) -> tuple[int, Atom]:
        """Every form that begins between two places; where the reading goes on, and what the tag before
        has named."""
        while found := TOP.search(text, at, end):
            self.take_back(text, at, found.start())
            at = found.end()
            if found["open"]:
                at = self.piece(text, found.start())
            elif found["tag"]:
                self.tag(found, ref)
            elif found["element"]:
                at = found.end() if self.element(found) else found.start("given")
            elif found["call"]:
                at = self.called(text, found)
            if found["open"] or found["tag"] or at > found.end():
                self.passed.append((found.start(), at))
            ref = atom_of(found, "ref") if found["ref"] else ref if found["tag"] else NAMELESS
        return at, ref

    def take_back(self, text: str, at: int, end: int) -> None:
        """Forget what was said when the words between two places say so."""
        if self.said and TAKEN_BACK.search(text, at, end):
            self.notes.append("the model takes back what it named before; what it names last is read")
            self.said.clear()

    # ---- tables and blocks -----------------------------------------------------------------------

    def table(self, table: Table, at: int) -> bool:
        """Rows whose columns are named as places; whether there are such columns. at: where the words
        before the table begin."""
        names = [plain(name) for name in table.names]
        pair = next((pair for pair in CORNERS if names.count(pair[0]) == names.count(pair[1]) == 1), ())
        axes = next((axes for axes in NAMED if set(axes) <= set(names)), ())
        places = [n for n, name in enumerate(names) if name in COLUMNS]
        if not (pair or axes or places):
            return False
        self.take_back(self.text, at, table.start)
        other = [n for n, name in enumerate(names) if name not in {*pair, *AXES, *COLUMNS}]
        here = [n for n in range(len(names)) if n not in other]
        label = next((n for n in other if names[n] in THINGS), other[0] if other else None)
        for row in table.rows:
            name = row[label] if label is not None and label < len(row) else NAMELESS
            if len(row) < len(names) or any("%" in str(row[n].value) for n in here):
                continue                                # cut short, or of another unit: for the sweep
            if axes:
                self.named(Pairs(zip(names, row, strict=True)), name)
            elif pair:
                ends = [row[names.index(end)] for end in pair]
                self.between(name, ends, moved=pair[0] in ("start", "from"))
            for n in () if axes or pair else places:
                self.shapes(row[n], COLUMNS[names[n]], name)
        self.passed.append((table.start, table.end))
        return True

    def between(self, label: Atom, ends: list[Atom], moved: bool) -> None:
        """Two corners, or the two ends of a movement."""
        numbers = [numbers_of(end) for end in ends]
        if {len(one) for one in numbers} != {2}:
            return
        for pair in numbers if moved else [numbers[0] + numbers[1]]:
            self.say(label, pair, *ends)

    def last_blocks(self, text: str) -> None:
        """Of what stands in brackets in fenced blocks under one label, keep what the last block says."""
        marks = [found.start() for found in re.finditer("```", text)]
        block = {id(one): bisect(marks, one[1][-1].start) for one in self.pieces}
        inside = [one for one in self.said if block.get(id(one), 0) % 2]
        last = {one[0].label: block[id(one)] for one in inside}
        kept = {one[0] for one in inside if block[id(one)] == last[one[0].label]}
        gone = [one for one in inside if one[0] not in kept]
        if gone:
            drop = set(map(id, gone))
            self.said = [one for one in self.said if id(one) not in drop]
            self.told += [atom[1:] for _, atoms in gone for atom in atoms]
            shown = "; ".join(str(one) for one, _ in gone[:SHOWN]) + "; ..." * (len(gone) > SHOWN)
            self.notes.append(f"a later block names the same again, and that is read; before it was: {shown}")

    # ---- brackets --------------------------------------------------------------------------------

    def piece(self, text: str, at: int) -> int:
        """What a pair of brackets holds; where the reading goes on."""
        piece, before = self.taken(text, at), len(self.said)
        for value in piece.values():
            self.walk(value, NAMELESS)
        self.pieces += self.said[before:]
        return piece.end

    def taken(self, text: str, at: int) -> Piece:
        """The brackets that begin there; their keys need no note."""
        piece = Piece(text, at, keeps=PLACES)
        self.told += [span for key, span in piece.keys if plain(key) not in AXES]
        self.cut = self.cut or not piece.whole
        return piece

    def walk(self, value: Any, label: Atom) -> None:
        """All that a value names; `label` is what it is called by whatever is around it."""
        if isinstance(value, Atom):
            self.bare(value, label)
            return
        for run in runs(items(value)):
            own, spoken = _label(run), any(plain(key) in PLACES for key, _ in run)
            label = own or label                    # the next run keeps it, unless it has one of its own
            if not spoken:
                self.named(run, label)
            for key, part in run:
                counts = PLACES.get(plain(key))
                outer = own or (Atom(key) if key else label)
                if counts:
                    self.shapes(part, counts, label)
                elif not isinstance(part, Atom):
                    self.walk(part, outer)
                elif isinstance(part.value, str):
                    self.within(key, part, label)
                elif key is None:
                    self.bare(part, label)
                elif not (own or spoken) and len(part.value or ()) == 4:
                    self.shapes(part, (4,), outer)                   # {"red circle": [1, 2, 3, 4]}

    def bare(self, atom: Atom, label: Atom) -> None:
        """A list of numbers under no key; a single number is a footnote of the prose."""
        if not isinstance(atom.value, str) and len(atom.value or ()) > 1:
            self.shapes(atom, (2,) if len(atom.value or ()) == 2 else (4,), label)

    def shapes(self, value: Any, counts: tuple[int, ...], label: Atom) -> None:
        """Boxes or points under one key: one, several, or an object that holds them."""
        parts = [] if isinstance(value, Atom) else [
            part for _, part in items(value) if not isinstance(part, Atom) or len(numbers_of(part)) > 1]
        before = len(self.said) + len(self.notes)
        if isinstance(value, Pairs):
            self.walk(value, label)
        elif 4 in counts and len(parts) == 2 and all(len(numbers_of(part)) == 2 for part in parts):
            self.say(label, numbers_of(parts[0]) + numbers_of(parts[1]), *parts)          # two corners
        elif parts:
            for part in parts:
                self.shapes(part, counts, label)
        elif len(numbers_of(value)) in counts:
            self.say(label, numbers_of(value), value)
        if before == len(self.said) + len(self.notes) and not parts:
            self.tell(value, counts, label)

    def named(self, run: Pairs, label: Atom) -> None:
        """The numbers of {"x1": 12, "y1": 30, "x2": 60, "y2": 88} in order. A corner with a width and a
        height is noted: it may be the middle as well."""
        held = {plain(key): part for key, part in run if key and len(numbers_of(part)) == 1}
        names = next((names for names in NAMED if held.keys() >= set(names)), ())
        if names and held.keys() & {"width", "height", "w", "h"}:
            self.tell(run, (4,), NAMELESS)
        elif names:
            atoms = [held[name] for name in names]
            numbers = sum(map(numbers_of, atoms), ())
            words = [part.value for key, part in run if plain(key) in ("action", "type", "name")]
            dragged = names[0] == "startx" or any(DRAG.fullmatch(str(word)) for word in words)
            for pair in (numbers[:2], numbers[2:]) if dragged else (numbers,):
                self.say(label, pair, *atoms)

    def within(self, key: str | None, atom: Atom, label: Atom) -> None:
        """A text that may hold an answer of its own: {"arguments": "{\\"coordinate\\": [1, 2]}"}."""
        if plain(key) in HOLDERS and self.inner < 3 and re.search(r"[(\[{<]", str(atom.value)):
            inside = _Reader(str(atom.value), self.inner + 1)
            inside.everything()
            for one, _ in inside.said:
                self.say(Atom(one.label) if one.label else label, one.numbers, atom)
            self.notes += inside.notes
            self.told.append(atom[1:])

    # ---- calls, tags, prose ----------------------------------------------------------------------

    def called(self, text: str, found: re.Match[str]) -> int:
        """A word before a bracket; where the reading goes on."""
        name = str(found["call"]).rpartition(".")[2]
        if VERB.fullmatch(name):
            return self.call(text, found.end(), Atom(name, *found.span("call")))
        return Piece(text, found.end()).end if TYPED.fullmatch(name) else found.end()

    def call(self, text: str, at: int, name: Atom) -> int:
        """click(660, 59), click(start_box='(660,59)'), drag((1, 2), (3, 4)). Distances are no places:
        scroll(0, -500) is left for the sweep."""
        piece = self.taken(text, at)
        bare = [atom for key, atom in piece.flat
                if atom and key is None and isinstance(atom.value, tuple)]
        numbers = sum(map(numbers_of, bare), ())
        dragged, word = DRAG.fullmatch(str(name.value)), str(name.value).lower()
        if dragged and len(numbers) == 2 and not word.endswith("to"):
            return at                                     # `drag (1, 2) -> (3, 4)`: left to the prose
        if piece.whole and dragged and len(numbers) == 4 and not word.endswith("to"):
            self.say(name, numbers[:2], *bare)
            self.say(name, numbers[2:], *bare)
        elif piece.whole and len(numbers) in (2, 4) and not dragged and "scroll" not in word:
            self.say(name, numbers, *bare)
        for row in piece.rows():
            keyed = [one for one in row if one[0] and ("scroll" not in word or plain(one[0]) in PLACES)]
            self.walk(Pairs([*keyed, ("action", name)]), name)
        return piece.end

    def tag(self, found: re.Match[str], ref: Atom) -> None:
        """<points x1="." y1="." alt="">, <box x1=.>, <point>12 30</point>, <box>(1,2),(3,4)</box>."""
        start, inside = found.start("held"), atom_of(found, "inside")
        held = {plain(one[1]): Atom(one[2].strip("\"'"), start + one.start(2), start + one.end(2))
                for one in ATTRIBUTE.finditer(found["held"])}
        label, numbers = held.get("alt") or (inside if held else ref), numbers_of(inside)
        points = re.match("point|click|tap", found["tag"].strip("|")) is not None
        suffixes = [name[1:] for name in held if name[0] == "x" and f"y{name[1:]}" in held]
        if suffixes and not points:
            self.named(Pairs(held.items()), label)
        elif suffixes:
            for end in suffixes:
                pair = held[f"x{end}"], held[f"y{end}"]
                self.say(label, numbers_of(pair[0]) + numbers_of(pair[1]), *pair)
        else:
            step = 2 if points or len(numbers) == 2 else 4
            self.old |= found["tag"][0] == "|" and step == 4
            for n in range(0, 0 if len(numbers) % step else len(numbers), step):
                self.say(ref, numbers[n:n + step], inside)

    def element(self, found: re.Match[str]) -> bool:
        """A part of a page, <p data-bbox="12 30 60 88">words</p>; whether it says where it is."""
        start = found.start("given")
        held = next((Atom(one[2].strip("\"'"), start + one.start(2), start + one.end(2))
                     for one in GIVEN.finditer(found["given"])), None)
        if held is None:
            return False
        words = str(found["content"]).strip()
        self.say(atom_of(found, "content") if words else atom_of(found, "element"), numbers_of(held), held)
        return True

    def prose(self, text: str) -> None:
        """Numbers between words. In `a dog(221,423),(569,886)`, Qwen2-VL's notation without its special
        words, the label stands before them."""
        at = 0
        for found in PROSE.finditer(text):
            numbers = tuple(float(one) for one in found.groups() if one)
            start = max(at, text.rfind("\n", at, found.start()) + 1)
            words = re.sub(r"<[^<>]*>", "", text[start:found.start()]).strip(" \t\0*-(`")
            if found["ends"] is not None:
                self.ends(f"{words} {found[0]}", numbers, Atom(None, *found.span()))
            else:
                label = words if found[0][0] in "(:= " else ""
                self.say(Atom(label), numbers, Atom(None, *found.span()))
                self.old |= found[0][0] == "("
            at = found.end()
        if self.said:
            self.notes.append("read from prose: no box or point stands in a form of its own")

    def ends(self, words: str, numbers: tuple[float, ...], where: Atom) -> None:
        """`from (12, 30) to (60, 88)`: where a movement begins and ends, unless the words are about a
        box."""
        verb = MOVED.search(words)
        if not verb and BOXED.search(words):
            self.say(NAMELESS, numbers, where)
            return
        for pair in (numbers[:2], numbers[2:]):
            self.say(Atom(verb[0].lower() if verb else ""), pair, where)

    # ---- what comes out --------------------------------------------------------------------------

    def say(self, label: Atom, numbers: tuple[float, ...], *atoms: Atom) -> None:
        """Keep a box or a point, and where its words and numbers stand."""
        if len(numbers) in (2, 4) and all(map(math.isfinite, numbers)):
            self.said.append((Said(_spoken(label), numbers), [label, *atoms]))

    def tell(self, value: Any, counts: tuple[int, ...], label: Atom) -> None:
        """Note what stands under a key of places and is none."""
        words = shown(value, self.text)
        if len(counts) == 1 or NUMBERS.search(words):
            kinds = " and ".join({4: "a box has 4 numbers", 2: "a point has 2 numbers"}[count]
                                 for count in counts)
            words = words if len(words) <= 60 else f"{words[:60]}..."
            self.notes.append(f"not read: {f'{_spoken(label)} {words}'.strip()}, where {kinds}")
            self.told += [atom[1:] for atom in atoms_of(value)]

    def sweep(self, answer: str) -> None:
        """Note what is left."""
        done = [*self.told, *(atom[1:] for _, atoms in self.said for atom in atoms)]
        lost = len(DAMAGED.findall(_blanked(answer, done)))
        if lost:
            self.notes.append(f"{lost} more {'was' if lost == 1 else 'were'} named, too damaged to be "
                              "read")
        left = [one.span() for one in SWEEP.finditer(_blanked(self.text, done))]
        if left:
            shown = "; ".join(" ".join(self.text[start:end][:60].split()) for start, end in left[:SHOWN])
            self.notes.append(f"{len(left)} more {'was' if len(left) == 1 else 'were'} written, and not "
                              f"read: {shown}" + "; ..." * (len(left) > SHOWN))


def _answering(text: str) -> str:
    """The text with blanks for what is thought before it is answered, and around <answer>."""
    text = _blanked(text, [found.span() for found in THOUGHTS.finditer(text)])
    marks = list(ANSWER.finditer(text))
    if not marks:
        return text
    end = text.find("</answer>", marks[-1].end())
    return _blanked(text, [(0, marks[-1].end()), (end if end >= 0 else len(text), len(text))])


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with \0 for every character of these stretches."""
    parts, at = [], 0
    for start, end in sorted(spans):
        if end > at:
            parts += [text[at:start], "\0" * (end - max(start, at))]
            at = end
    return "".join([*parts, text[at:]])


def _label(run: Pairs) -> Atom | None:
    """What an object calls itself."""
    found = {plain(key): part for key, part in run if isinstance(part, Atom) and part.value}
    return next((found[name] for name in LABELS if name in found), None)


def _spoken(label: Atom) -> str:
    """A label on one line; it may be a number."""
    if isinstance(label.value, str):
        return " ".join(label.value.split())
    return " ".join(f"{n:g}" for n in label.value or ())

"""From the text of an answer to the boxes and points that it names: tolerant of what models really
write.

    said, notes = read('[{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}]')
    said[0]        # Said(label="red circle", numbers=(12.0, 30.0, 60.0, 88.0))

First the part that answers is found: not the thoughts before it, nor what the model takes back. Then
the text is read from left to right, and the first form that begins at a place takes it:
  brackets    a piece that `json.loads` reads after repairs (quotes, round brackets, a comma at the
              end); where it cannot, because a mark is missing or the end was cut off, the same tokens
              are read as one flat row of keys and values
  calls       click(start_box='(12,30)'), pyautogui.click(x=12, y=30), swipe(1, 2, 3, 4): two points
  tags        <point>12 30</point>, <click x=12 y=30/>, <|box_start|>(12,30),(60,88)<|box_end|>
  prose       where nothing else was found: `a dog(12,30),(60,88)`, `x=12, y=30`, `at (12, 30)`
At last a sweep: two numbers or more that stand side by side, and were neither read nor noted, are
noted. Nothing is rescaled and nothing raised. The time grows with the length of the text, no faster:
an expression that repeats never gives back what it took (`++`, `*+`).

Nothing here knows a picture: whether numbers can be its pixels is for `grounding.py`: read it next.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

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
HOLDERS = ("arguments", "action", "answer", "code", "command", "function", "parameters", "response",
           "result")        # texts under these keys are read like an answer
LEVELS = 40                  # brackets inside brackets; an answer that goes deeper goes round in circles
SHOWN = 20                   # places that the sweep shows; the others are counted

NUMBER = r"[-+]?(?>\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
NUMBERS = re.compile(rf"(?<![\w.]){NUMBER}")
TEXT = r'"(?:[^"\\\n]|\\.)*+"|\'(?:[^\'\\\n]|\\.)*+\''
WORD = r"""[^\s\[\]{}(),:="'][^\s\[\]{}(),:="]*+"""
QUOTED = rf"""["']?+{NUMBER}["']?+"""
TOKEN = re.compile(rf"""
    (?P<numbers> [\[({{]\s*+{QUOTED}(?:[\s,;]++{QUOTED})*+[\s,]*+[\])}}] )    # a list of numbers is one
  | (?P<key>     (?:{TEXT}|{WORD})(?=\s*+[:=]) )
  | (?P<text>    {TEXT} | ["'](?:[^"'\\\n]|\\.)*+ )                           # its quote may be missing
  | (?P<open>    [\[{{(] ) | (?P<close> [\])}}] )
  | (?P<last>    ,(?=\s*+[\])}}]) ) | (?P<mark> [:=,] )
  | (?P<number>  {NUMBER}(?![^\s\[\]{{}}(),:="']) )                            # a word of its own
  | (?P<word>    {WORD} )""", re.VERBOSE)
TOP = re.compile(r"""
    (?P<open> [\[{] )
  | <\|?(?:object_)?ref(?:_start)?\|?>(?P<ref>[^<>]*+)
  | <(?P<tag>\|?(?:points?|box|bbox|click|tap|coordinates?)(?:_start)?\|?)(?![\w|])(?P<held>[^<>]*+)>
        (?P<inside>[^<>]*+)
  | (?<![\w.])(?P<call>[\w.]++)\s*+(?=\()""", re.VERBOSE)
ATTRIBUTE = re.compile(r"""(\w++)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'<>/]++)""")
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
QUAD = rf"\(\s*+{', *'.join([f'({NUMBER})'] * 4)}\s*+\)"
NAME = r"\b{}\b\s*+[:=>]\s*+({})(?:px)?(?:</\w{{1,20}}>)?[\s,;|]*+(?:and\s)?(?:<(?:parameter=)?)?"
PROSE = re.compile("|".join((
    rf"{PAIR}\s*+,\s*+{PAIR}",
    rf"(?:top|upper)[ -]left[^\n\d()\[]{{0,30}}{PAIR}[^\n\d()\[]{{0,40}}"
    rf"(?:bottom|lower)[ -]right[^\n\d()\[]{{0,30}}{PAIR}",
    rf"(?<!color)(?<!colour)\s?[:=]\s*+{QUAD}",
    *("".join(NAME.format(name, NUMBER) for name in names) for names in NAMED),
    rf"(?:\b(?:at|points?|coordinates?|position|location|cent(?:er|re))\b|坐标|位置|点)"
    rf"(?:(?!left|right|corner|size)[^\n\d()\[]){{0,30}}{PAIR}")), re.IGNORECASE)
ONE = rf"""(?:["']?\b(?:[xy]\d?|left|top|right|bottom|width|height)["']?\s*+[:=]\s*+)?+
    (?<![\w.]){NUMBER}(?:px)?"""
SWEEP = re.compile(rf"""{ONE}(?:(?:[\s,;|"'()\[\]{{}}]|</?[\w=]{{0,20}}>)++{ONE})++""",
                   re.IGNORECASE | re.VERBOSE)
DAMAGED = re.compile(rf"""\b(?:bbox_2d|point_2d|{'|'.join(PLACES)})["']\s*+:""", re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """A box (four numbers, x0 y0 x1 y1) or a point (two, x y), in pixels of the resized picture."""
    label: str
    numbers: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.label} [{', '.join(f'{n:.6g}' for n in self.numbers)}]".lstrip()


class Atom(NamedTuple):
    """A text, a number or a list of numbers, and where it stands in the answer."""
    value: str | tuple[float, ...] | None
    start: int = 0
    end: int = 0


class Pairs(list[tuple[str | None, Any]]):
    """What an object holds, in order. A key may come again: a forgotten brace."""


NAMELESS = Atom("")


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
        self.notes: list[str] = []
        self.told: list[tuple[int, int]] = []
        self.passed: list[tuple[int, int]] = []

    def everything(self) -> None:
        answer = _answering(self.text)
        self.forms(answer)
        if not self.said:
            self.prose(_blanked(answer, self.passed))
        if self.cut:
            self.notes.append("the answer ends before its brackets are closed: it may have been cut "
                              "short")
        if self.old:
            self.notes.append("in the notation of Qwen2-VL numbers are thousandths of the picture: "
                              "these were read as pixels")
        self.sweep(answer)

    def forms(self, text: str) -> None:
        at, ref = 0, NAMELESS
        while found := TOP.search(text, at):
            if self.said and TAKEN_BACK.search(text, at, found.start()):
                self.notes.append("the model takes back what it named before; what it names last is "
                                  "read")
                self.said.clear()
            at = found.end()
            if found["open"]:
                at = self.piece(text, found.start())
            elif found["tag"]:
                self.tag(found, ref)
            elif found["call"]:
                name = found["call"].rpartition(".")[2]
                if VERB.fullmatch(name):
                    at = self.call(text, at, Atom(name, *found.span("call")))
                elif TYPED.fullmatch(name):
                    at = _tokens(text, at)[1]
            if found["open"] or found["tag"] or at > found.end():
                self.passed.append((found.start(), at))
            ref = _atom(found, "ref") if found["ref"] else ref if found["tag"] else NAMELESS

    # ---- brackets --------------------------------------------------------------------------------

    def piece(self, text: str, at: int) -> int:
        """What a pair of brackets holds; where the reading goes on."""
        tokens, end, whole = _tokens(text, at)
        mended, flat = self.mended(tokens)
        self.cut = self.cut or not whole
        with suppress(ValueError):
            if whole:
                value = json.loads(mended, object_pairs_hook=Pairs, parse_int=lambda n: flat[int(n)][1])
                self.walk(value, NAMELESS)
                return end
        for row in _rows(flat, whole):
            self.walk(row, NAMELESS)
        return end

    def mended(self, tokens: list[re.Match[str]]) -> tuple[str, Pairs]:
        """The tokens as JSON, in which a whole number is the index of an atom of the flat row."""
        out, flat, key = [], Pairs(), None
        for token in tokens:
            kind, word = token.lastgroup or "", token[0]
            if kind in ("open", "close", "last", "mark"):
                out.append({"(": "[", ")": "]", "=": ":"}.get(word, word) if kind != "last" else "")
                flat += [(None, None)] * (word == "}")                           # a row ends here
            elif kind == "key":
                key = _words(word)
                out.append(json.dumps(key))
                self.told += [token.span()] * (_plain(key) not in AXES)
            else:
                out.append(f" {len(flat)} ")
                flat.append((key, Atom(_value(kind, word), *token.span())))
                key = key if kind == "numbers" and _plain(key) in PLACES else None
        return "".join(out), flat

    def walk(self, value: Any, label: Atom) -> None:
        """All that a value names; `label` is what it is called by whatever is around it."""
        if isinstance(value, Atom):
            self.bare(value, label)
            return
        for run in _runs(_items(value)):
            own, spoken = _label(run), any(_plain(key) in PLACES for key, _ in run)
            label = own or label                    # the next run keeps it, unless it has one of its own
            if not spoken:
                self.named(run, label)
            for key, part in run:
                counts = PLACES.get(_plain(key))
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
            part for _, part in _items(value) if not isinstance(part, Atom) or len(_numbers(part)) > 1]
        before = len(self.said) + len(self.notes)
        if isinstance(value, Pairs):
            self.walk(value, label)
        elif 4 in counts and len(parts) == 2 and all(len(_numbers(part)) == 2 for part in parts):
            self.say(label, _numbers(parts[0]) + _numbers(parts[1]), *parts)          # two corners
        elif parts:
            for part in parts:
                self.shapes(part, counts, label)
        elif len(_numbers(value)) in counts:
            self.say(label, _numbers(value), value)
        if before == len(self.said) + len(self.notes) and not parts:
            self.tell(value, counts, label)

    def named(self, run: Pairs, label: Atom) -> None:
        """The numbers of {"x1": 12, "y1": 30, "x2": 60, "y2": 88} in order. A corner with a width and a
        height is noted: it may be the middle as well."""
        held = {_plain(key): part for key, part in run if key and len(_numbers(part)) == 1}
        names = next((names for names in NAMED if held.keys() >= set(names)), ())
        if names and held.keys() & {"width", "height", "w", "h"}:
            self.tell(run, (4,), NAMELESS)
        elif names:
            atoms = [held[name] for name in names]
            numbers = sum(map(_numbers, atoms), ())
            words = [part.value for key, part in run if _plain(key) in ("action", "type", "name")]
            dragged = names[0] == "startx" or any(DRAG.fullmatch(str(word)) for word in words)
            for pair in (numbers[:2], numbers[2:]) if dragged else (numbers,):
                self.say(label, pair, *atoms)

    def within(self, key: str | None, atom: Atom, label: Atom) -> None:
        """A text that may hold an answer of its own: {"arguments": "{\\"coordinate\\": [1, 2]}"}."""
        if _plain(key) in HOLDERS and self.inner < 3 and re.search(r"[(\[{<]", str(atom.value)):
            inside = _Reader(str(atom.value), self.inner + 1)
            inside.everything()
            for one, _ in inside.said:
                self.say(Atom(one.label) if one.label else label, one.numbers, atom)
            self.notes += inside.notes
            self.told.append(atom[1:])

    # ---- calls, tags, prose ----------------------------------------------------------------------

    def call(self, text: str, at: int, name: Atom) -> int:
        """click(660, 59), click(start_box='(660,59)'), drag((1, 2), (3, 4)). Distances are no places:
        scroll(0, -500) is left for the sweep."""
        tokens, end, whole = _tokens(text, at)
        _, flat = self.mended(tokens)
        self.cut = self.cut or not whole
        plain = [atom for key, atom in flat if atom and key is None and isinstance(atom.value, tuple)]
        numbers = sum(map(_numbers, plain), ())
        dragged, word = DRAG.fullmatch(str(name.value)), str(name.value).lower()
        if whole and dragged and len(numbers) == 4 and not word.endswith("to"):
            self.say(name, numbers[:2], *plain)
            self.say(name, numbers[2:], *plain)
        elif whole and len(numbers) in (2, 4) and not dragged and "scroll" not in word:
            self.say(name, numbers, *plain)
        for row in _rows(flat, whole):
            keyed = [one for one in row if one[0] and ("scroll" not in word or _plain(one[0]) in PLACES)]
            self.walk(Pairs([*keyed, ("action", name)]), name)
        return end

    def tag(self, found: re.Match[str], ref: Atom) -> None:
        """<points x1="." y1="." alt="">, <box x1=.>, <point>12 30</point>, <box>(1,2),(3,4)</box>."""
        start, inside = found.start("held"), _atom(found, "inside")
        held = {_plain(one[1]): Atom(one[2].strip("\"'"), start + one.start(2), start + one.end(2))
                for one in ATTRIBUTE.finditer(found["held"])}
        label, numbers = held.get("alt") or (inside if held else ref), _numbers(inside)
        points = re.match("point|click|tap", found["tag"].strip("|")) is not None
        suffixes = [name[1:] for name in held if name[0] == "x" and f"y{name[1:]}" in held]
        if suffixes and not points:
            self.named(Pairs(held.items()), label)
        elif suffixes:
            for end in suffixes:
                pair = held[f"x{end}"], held[f"y{end}"]
                self.say(label, _numbers(pair[0]) + _numbers(pair[1]), *pair)
        else:
            step = 2 if points or len(numbers) == 2 else 4
            self.old |= found["tag"][0] == "|" and step == 4
            for n in range(0, 0 if len(numbers) % step else len(numbers), step):
                self.say(ref, numbers[n:n + step], inside)

    def prose(self, text: str) -> None:
        """Numbers between words. In `a dog(221,423),(569,886)`, Qwen2-VL's notation without its special
        words, the label stands before them."""
        at = 0
        for found in PROSE.finditer(text):
            numbers = tuple(float(one) for one in found.groups() if one)
            start = max(at, text.rfind("\n", at, found.start()) + 1)
            words = re.sub(r"<[^<>]*>", "", text[start:found.start()]).strip(" \t\0*-(`")
            self.say(Atom(words if found[0][0] in "(:= " else ""), numbers, Atom(None, *found.span()))
            self.old |= found[0][0] == "("
            at = found.end()
        if self.said:
            self.notes.append("read from prose: no box or point stands in a form of its own")

    # ---- what comes out --------------------------------------------------------------------------

    def say(self, label: Atom, numbers: tuple[float, ...], *atoms: Atom) -> None:
        """Keep a box or a point, and where its words and numbers stand."""
        if len(numbers) in (2, 4) and all(map(math.isfinite, numbers)):
            self.said.append((Said(_spoken(label), numbers), [label, *atoms]))

    def tell(self, value: Any, counts: tuple[int, ...], label: Atom) -> None:
        """Note what stands under a key of places and is none."""
        words = _shown(value, self.text)
        if len(counts) == 1 or NUMBERS.search(words):
            kinds = " and ".join({4: "a box has 4 numbers", 2: "a point has 2 numbers"}[count]
                                 for count in counts)
            words = words if len(words) <= 60 else f"{words[:60]}..."
            self.notes.append(f"not read: {f'{_spoken(label)} {words}'.strip()}, where {kinds}")
            self.told += [atom[1:] for atom in _atoms(value)]

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


def _tokens(text: str, at: int) -> tuple[list[re.Match[str]], int, bool]:
    """The tokens from a bracket to the one that closes it, where they end, and whether it is there.
    Kinds of brackets are not told apart: models mix them up."""
    tokens, depth = [], 0
    for token in TOKEN.finditer(text, at):
        tokens.append(token)
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        if depth <= 0:
            return tokens, token.end(), True
        if depth > LEVELS:
            break
    return tokens, len(text), False


def _rows(flat: Pairs, whole: bool) -> Iterator[Pairs]:
    """The flat row up to each closed object. Where the end was cut off, a number that stands alone may
    lack digits: left out."""
    row = Pairs()
    for key, atom in [*flat, (None, None)]:
        if atom is None:
            yield row
            row = Pairs()
        elif whole or not isinstance(atom.value, tuple) or len(atom.value) > 1:
            row.append((key, atom))


def _value(kind: str, word: str) -> str | tuple[float, ...] | None:
    if kind in ("number", "numbers"):
        return tuple(map(float, NUMBERS.findall(word)))  # beyond floats it is inf, and refused later
    return None if word in ("null", "None") else _words(word)


def _words(word: str) -> str:
    """A text without its quotes."""
    if word[0] in "\"'":
        word = word[1:-1] if len(word) > 1 and word[-1] == word[0] else word[1:]
        with suppress(ValueError):
            word = str(json.loads(f'"{word}"', strict=False))
    return word.encode("utf-8", "replace").decode("utf-8")  # an escape can be half a character: \ud800


def _plain(key: str | None) -> str:
    return "".join(filter(str.isalnum, key or "")).lower()


def _numbers(value: Any) -> tuple[float, ...]:
    """The numbers of an atom: of a list, or of a text ("12, 30, 60, 88")."""
    if not isinstance(value, Atom):
        return ()
    if isinstance(value.value, str):
        return tuple(map(float, NUMBERS.findall(value.value)))
    return value.value or ()


def _items(value: Any) -> list[tuple[str | None, Any]]:
    return value if isinstance(value, Pairs) else [(None, part) for part in value]


def _atoms(value: Any) -> Iterator[Atom]:
    if isinstance(value, Atom):
        yield value
    else:
        for _, part in _items(value):
            yield from _atoms(part)


def _shown(value: Any, text: str) -> str:
    """A value as it stands in the answer."""
    if isinstance(value, Atom):
        return text[value.start:value.end]
    parts = [f'"{key}": ' * bool(key) + _shown(part, text) for key, part in _items(value)]
    return ("{%s}" if isinstance(value, Pairs) else "[%s]") % ", ".join(parts)


def _runs(items: Sequence[tuple[str | None, Any]]) -> Iterator[Pairs]:
    """Items up to where a key comes again; one run when none does."""
    run, keys = Pairs(), set[str | None]()
    for key, value in items:
        if key is not None and key in keys:
            yield run
            run, keys = Pairs(), set()
        keys.add(key)
        run.append((key, value))
    yield run


def _label(run: Pairs) -> Atom | None:
    """What an object calls itself."""
    found = {_plain(key): part for key, part in run if isinstance(part, Atom) and part.value}
    return next((found[name] for name in LABELS if name in found), None)


def _atom(found: re.Match[str], group: str) -> Atom:
    return Atom(found[group], *found.span(group))


def _spoken(label: Atom) -> str:
    """A label on one line; it may be a number."""
    if isinstance(label.value, str):
        return " ".join(label.value.split())
    return " ".join(f"{n:g}" for n in label.value or ())

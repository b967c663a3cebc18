"""Text in brackets as models write it: JSON, or nearly. Read with the place of everything it holds.

    piece = Piece("a [{'bbox_2d': (12, 30, 60, 88), label: cat},]", 2)
    piece.end, piece.whole         # 45, True
    next(piece.values())           # Pairs, lists and Atoms, as `json.loads` nests them

The tokens are cut first. Written as JSON again (double quotes, square brackets, no comma at the end),
they go through `json.loads`; where it refuses them, because a mark is missing or the end was cut off,
the same tokens are one flat row of keys and values. The time grows with the length of the text, no
faster: an expression that repeats never gives back what it took (`++`, `*+`).

What a key means is not known here. Read next: `answers.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

LEVELS = 40                  # brackets inside brackets; an answer that goes deeper goes round in circles

NUMBER = r"[-+]?(?>\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
NUMBERS = re.compile(rf"(?<![\w.]){NUMBER}")
TEXT = r'"(?:[^"\\\n]|\\.)*+"|\'(?:[^\'\\\n]|\\.)*+\''
WORD = r"""[^\s\[\]{}(),:="'][^\s\[\]{}(),:="]*+"""
QUOTED = rf"""["']?+{NUMBER}["']?+"""
TOKEN = re.compile(rf"""
    (?P<numbers> [\[({{]\s*+{QUOTED}(?:[\s,;]++{QUOTED})*+[\s,]*+[\])}}] )    # a list of numbers is one
  | (?P<remark>  //[^\n]*+ )
  | (?P<key>     (?:{TEXT}|{WORD})(?=\s*+[:=]) )
  | (?P<text>    {TEXT} | ["'](?:[^"'\\\n]|\\.)*+ )                           # its quote may be missing
  | (?P<open>    [\[{{(] ) | (?P<close> [\])}}] )
  | (?P<last>    ,(?=\s*+[\])}}]) ) | (?P<mark> [:=,] )
  | (?P<number>  {NUMBER}(?![^\s\[\]{{}}(),:="']) )                            # a word of its own
  | (?P<word>    {WORD} )""", re.VERBOSE)


class Atom(NamedTuple):
    """A text, a number or a list of numbers, and where it stands in the answer."""
    value: str | tuple[float, ...] | None
    start: int = 0
    end: int = 0


class Pairs(list[tuple[str | None, Any]]):
    """What an object holds, in order. A key may come again: a forgotten brace."""


NAMELESS = Atom("")


class Piece:
    """From a bracket to the one that closes it; kinds are not told apart, since models mix them up.

    flat: key -> atom, in order, with (None, None) where an object ends
    keys: every key and where it stands
    end: where the reading goes on; whole: whether the closing bracket is there
    """

    def __init__(self, text: str, at: int, keeps: Container[str] = ()):
        """keeps: keys, as `plain` makes them, that hold for all lists of numbers behind them."""
        self.end, self.whole = len(text), False
        self.flat, self.keys = Pairs(), list[tuple[str, tuple[int, int]]]()
        self._json: list[str] = []
        key, depth = None, 0
        for token in TOKEN.finditer(text, at):
            key = self._take(token, key, keeps)
            depth += (token.lastgroup == "open") - (token.lastgroup == "close")
            if depth <= 0:
                self.end, self.whole = token.end(), True
            if depth <= 0 or depth > LEVELS:
                break

    def _take(self, token: re.Match[str], key: str | None, keeps: Container[str]) -> str | None:
        """One token, as JSON in which a whole number is the index of an atom; the key that holds next."""
        kind, word = token.lastgroup or "", token[0]
        if kind == "remark":
            return key
        if kind in ("open", "close", "last", "mark"):
            self._json.append({"(": "[", ")": "]", "=": ":"}.get(word, word) if kind != "last" else "")
            self.flat += [(None, None)] * (word == "}")
        elif kind == "key":
            key = _unquoted(word)
            self._json.append(json.dumps(key))
            self.keys.append((key, token.span()))
        else:
            self._json.append(f" {len(self.flat)} ")
            self.flat.append((key, Atom(_value(kind, word), *token.span())))
            key = key if kind == "numbers" and plain(key) in keeps else None
        return key

    def values(self) -> Iterator[Any]:
        """What it holds: one value, or rows where that cannot be read."""
        if self.whole:
            with suppress(ValueError):
                value = json.loads("".join(self._json), object_pairs_hook=Pairs,
                                   parse_int=lambda n: self.flat[int(n)][1])
                yield value
                return
        yield from self.rows()

    def rows(self) -> Iterator[Pairs]:
        """The flat row up to each closed object. Where the end was cut off, a number that stands alone
        may lack digits: left out."""
        row = Pairs()
        for key, atom in [*self.flat, (None, None)]:
            if atom is None:
                yield row
                row = Pairs()
            elif self.whole or not isinstance(atom.value, tuple) or len(atom.value) > 1:
                row.append((key, atom))


def atom_of(found: re.Match[str], group: str) -> Atom:
    """A group of a match, and where it stands."""
    return Atom(found[group], *found.span(group))


def _value(kind: str, word: str) -> str | tuple[float, ...] | None:
    if kind in ("number", "numbers"):
        return tuple(map(float, NUMBERS.findall(word)))  # beyond floats it is inf, and refused later
    return None if word in ("null", "None") else _unquoted(word)


def _unquoted(word: str) -> str:
    """A text without its quotes."""
    if word[0] in "\"'":
        word = word[1:-1] if len(word) > 1 and word[-1] == word[0] else word[1:]
        with suppress(ValueError):
            word = str(json.loads(f'"{word}"', strict=False))
    return word.encode("utf-8", "replace").decode("utf-8")  # an escape can be half a character: \ud800


def plain(key: str | None) -> str:
    """A key as small letters and digits alone."""
    return "".join(filter(str.isalnum, key or "")).lower()


def numbers_of(value: Any) -> tuple[float, ...]:
    """The numbers of an atom: of a list, or of a text ("12, 30, 60, 88")."""
    if not isinstance(value, Atom):
        return ()
    if isinstance(value.value, str):
        return tuple(map(float, NUMBERS.findall(value.value)))
    return value.value or ()


def items(value: Any) -> list[tuple[str | None, Any]]:
    """Keys and parts; the parts of a list have no keys."""
    return value if isinstance(value, Pairs) else [(None, part) for part in value]


def atoms_of(value: Any) -> Iterator[Atom]:
    """All of a value's atoms, in order."""
    if isinstance(value, Atom):
        yield value
    else:
        for _, part in items(value):
            yield from atoms_of(part)


def shown(value: Any, text: str) -> str:
    """A value as it stands in the answer."""
    if isinstance(value, Atom):
        return text[value.start:value.end]
    parts = [f'"{key}": ' * bool(key) + shown(part, text) for key, part in items(value)]
    return ("{%s}" if isinstance(value, Pairs) else "[%s]") % ", ".join(parts)


def runs(items: Sequence[tuple[str | None, Any]]) -> Iterator[Pairs]:
    """Items up to where a key comes again; one run when none does."""
    run, keys = Pairs(), set[str | None]()
    for key, value in items:
        if key is not None and key in keys:
            yield run
            run, keys = Pairs(), set()
        keys.add(key)
        run.append((key, value))
    yield run

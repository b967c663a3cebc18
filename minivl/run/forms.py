"""JSON that the model has written, held against a schema, its boxes in pixels of the picture as it came.

    found = read_json(answer, size, source_size)      # [{"bbox_2d": [10, 12, 90, 30], "label": "x"},]
    found.document          # the same list, the box in the picture's own pixels; the comma is noted

Mended is what can mean one thing alone: a fence around it, words before or after it, a comma before a
closing bracket. Everything else is a problem, above all an end that is missing: what would have stood
there is not guessed at. Read next: `documents.py` (HTML, and what both give), `grounding.py`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..door.errors import ArgumentError, MissingExtra
from .answers import LABELS, PLACES
from .brackets import plain
from .documents import Placing, ReadDocument, Size, shown, unfenced

STRING = r'"(?:[^"\\]|\\.)*+"'
COMMA = re.compile(rf"({STRING})|,(?=\s*+[\]}}])", re.DOTALL)
SIGN = re.compile(rf'{STRING}|([\[{{])|([\]}}])|"', re.DOTALL)        # a quote that is left has no end
OPEN = re.compile(r"[\[{]")
FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
LARGEST = 1e9                            # a coordinate; no picture is as wide
MOST_SHOWN = 20                          # violations of a schema that are told
SCHEMAS = 'a schema needs the package jsonschema: pip install "minivl[schema]"'


def read_json(answer: str, size: Size, source_size: Size, schema: Any = None) -> ReadDocument:
    """An answer about a picture of `source_size`, seen at `size` (both height, width), as a value of
    JSON.

    Under keys such as bbox_2d and point_2d, four numbers are a box and two a point. schema: a JSON
    Schema that the value, with these boxes, must fit. Raises ArgumentError for a schema that is none,
    and MissingExtra without the package jsonschema; whatever the answer is, nothing is raised.
    """
    check = checker(schema) if schema is not None else None
    found = ReadDocument()
    value = _value(_bracketed(answer, found), found)
    if found.problems:
        return found
    value = _placed(value, Placing(size, source_size, found), found)
    found.problems += check(value) if check and not found.problems else []
    found.document = None if found.problems else value
    return found


# ---- from the answer to one value ------------------------------------------------------------------

def _bracketed(answer: str, found: ReadDocument) -> str:
    """The part of an answer that is its JSON: what stands in brackets, when it is one piece."""
    blocks = FENCED.findall(answer)
    if len(blocks) > 1:
        found.problems.append(f"the answer must be one piece of JSON; it has {len(blocks)} blocks of "
                              "code")
        return ""
    text = blocks[0] if blocks else unfenced(answer, found)
    pieces, whole = outermost(text)
    if not pieces:
        found.problems.append(f"the answer must be JSON, an object or a list; it says: {shown(answer)}")
    elif not whole:
        found.problems.append("the answer ends before its brackets and quotes are closed: it was cut "
                              "short")
    elif len(pieces) > 1:
        found.problems.append(f"the answer must be one piece of JSON; it has {len(pieces)}")
    if found.problems:
        return ""
    ((start, end),) = pieces
    if text[:start].strip() or text[end:].strip():
        found.notes.append("words around the JSON are left out")
    return text[start:end]


def outermost(text: str) -> tuple[list[tuple[int, int]], bool]:
    """Where each outermost pair of brackets begins and ends, and whether the last is closed. Quotes
    count inside of brackets alone: around them is prose."""
    pieces: list[tuple[int, int]] = []
    at = 0
    while first := OPEN.search(text, at):
        at = _closed(text, first.start())
        pieces.append((first.start(), at or len(text)))
        if not at:
            return pieces, False
    return pieces, True


def _closed(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed; 0 where it is not."""
    depth = 0
    for sign in SIGN.finditer(text, start):
        if sign[0] == '"':
            return 0
        depth += bool(sign[1]) - bool(sign[2])
        if not depth:
            return sign.end()
    return 0


def _value(text: str, found: ReadDocument) -> Any:
    """A value of JSON; None, with a problem, where it is none."""
    if found.problems:
        return None
    mended = COMMA.sub(lambda one: one[1] or "", text)
    if mended != text:
        found.notes.append("a comma before a closing bracket is left out")
    try:
        return json.loads(mended, object_pairs_hook=_pairs, parse_constant=_constant,
                          parse_float=_float)
    except RecursionError:
        found.problems.append("the JSON is nested too deeply to be read")
    except ValueError as error:
        found.problems.append(f"the answer is no JSON: {error}")
    return None


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError for a key that is given twice: readers disagree on which one
    counts."""
    if len(found := dict(items)) < len(items):
        raise ArgumentError("a key is given twice in one object")
    return found


def _constant(text: str) -> Any:
    raise ArgumentError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ArgumentError(f"{text[:20]} is beyond all numbers")
    return number


# ---- places ---------------------------------------------------------------------------------------

def _placed(value: Any, places: Placing, found: ReadDocument) -> Any:
    """The value with boxes and points in the picture's own pixels."""
    if isinstance(value, list):
        return [_placed(one, places, found) for one in value]
    if not isinstance(value, dict):
        return value
    label = next((value[key] for key in value if plain(key) in LABELS and isinstance(value[key], str)),
                 "")
    return {key: _place(one, key, label, places, found) if plain(key) in PLACES
            else _placed(one, places, found)
            for key, one in value.items()}


def _place(value: Any, key: str, label: str, places: Placing, found: ReadDocument) -> Any:
    """What stands under a key of places: one, or a list of them; anything else as it is, with a note."""
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        return [_place(one, key, label, places, found) for one in value]
    numbers = isinstance(value, list) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < LARGEST for n in value)
    if not numbers or len(value) not in PLACES[plain(key)]:
        if value is not None:
            found.notes.append(f"{key} is {shown(json.dumps(value))}, which is no place: left as it is")
        return value
    box = places.placed(value, label)
    if box is not None:
        found.elements.append({"kind": key, "box": box, "text": label})
    return box


# ---- a schema --------------------------------------------------------------------------------------

def checker(schema: Any) -> Any:
    """What gives the violations of a schema, as lines. Nothing is fetched: a schema that refers to
    another place is refused when that is met. Raises ArgumentError and MissingExtra."""
    try:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        raise MissingExtra(SCHEMAS) from None
    if not isinstance(schema, dict | bool):
        raise ArgumentError("a JSON Schema must be an object, true or false")
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ArgumentError(f"the schema is none: {error.message} (at {error.json_path})") from None
    registry: Any = Registry()  # an empty one, or jsonschema would fetch what is referred to

    def violations(value: Any) -> list[str]:
        try:
            errors = sorted(kind(schema, registry=registry).iter_errors(value),
                            key=lambda one: one.json_path)
        except Unresolvable as error:
            raise ArgumentError(f"the schema refers to {error.ref}, which is not in it; put it under "
                                "$defs") from None
        told = [f"{error.json_path}: {shown(error.message)}" for error in errors[:MOST_SHOWN]]
        more = len(errors) - len(told)
        return told + [f"and {more} more"] * bool(more)
    return violations

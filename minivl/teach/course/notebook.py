"""A submission as code, whatever an editor has made of its file.

Notebooks come back renamed, saved by other editors (nbformat 3 to 4.5, a byte order mark, CRLF, cells
without ids, another kernel's name), with cells deleted, retyped as text, or broken. What counts is the
code: cells are taken as text, and only a file that holds no notebook at all is given up, with the
reason.

Not here: nbformat's validation, which asks for more than grading needs. Read next: `refusal.py`.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LARGEST = 64 * 2**20         # bytes of a notebook file
LONGEST = 200_000            # characters of all code together; an assignment's own has 3000
CHECKPOINTS = ".ipynb_checkpoints"


class Unreadable(ValueError):
    """A submission that holds no notebook; the message is the reason for its mark."""


class Code(NamedTuple):
    """The code of one cell; cells are counted from 1, as a reader does."""
    cell: int
    source: str


class Submission(NamedTuple):
    """What was handed in: the file, its code, and what is worth knowing about it."""
    path: Path
    code: tuple[Code, ...]
    notes: tuple[str, ...]


class Parsed(NamedTuple):
    """A cell's syntax tree, or None and why there is none."""
    cell: int
    source: str
    tree: ast.Module | None
    error: str


def find(folder: Path, assignment: str, functions: Sequence[str]) -> Submission:
    """The notebook of an assignment below a student's folder: under its own name, else the one that
    defines most of the functions. Raises Unreadable with the reason when there is none.
    """
    here = folder / assignment if (folder / assignment).is_dir() else folder
    if here.is_symlink():
        raise Unreadable("the folder is a link to another one")
    files = sorted(path for path in here.rglob("*") if path.is_file() and not path.is_symlink()
                   and CHECKPOINTS not in path.parts and not path.name.startswith("."))
    if not files:
        raise Unreadable("nothing was handed in")
    named = [path for path in files if path.name == f"{assignment}.ipynb"]
    if named:
        return read(named[0])
    found, problems = [], []
    for path in files:
        try:
            found.append(read(path))
        except Unreadable as problem:
            problems.append(f"{_printable(path.name)}: {problem}")
    if not found:
        raise Unreadable("; ".join(problems[:3]))
    best = max(found, key=lambda one: sum(defines(one.code, name) for name in functions))
    return best._replace(notes=(f"the file is called {_printable(best.path.name)}, not "
                                f"{assignment}.ipynb", *best.notes))


def _printable(name: str) -> str:
    """A file's name as it may stand in a table of marks: on one line, and not for pages."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown if len(shown) <= 80 else f"{shown[:76]} ..."


def defines(code: Sequence[Code], name: str) -> bool:
    """Whether some cell defines a function of that name, going by its text."""
    pattern = re.compile(rf"(?m)^[ \t]*+(?:(?:def|class)[ \t]++{name}\b|{name}[ \t]*+=)")
    return any(pattern.search(one.source) for one in code)


def read(path: Path) -> Submission:
    """A notebook's code. Unreadable when the file is none, OSError as the system does."""
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("the file is empty")
    if size > LARGEST:
        raise Unreadable(f"the file has {size >> 20} MB, more than {LARGEST >> 20}: clear the "
                         f"notebook's outputs")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("the file is no notebook: its text is not JSON") from None
    code, notes = _code(document)
    return Submission(path, code, notes)


def _code(document: Any) -> tuple[tuple[Code, ...], tuple[str, ...]]:
    """The cells of a notebook of any version that hold code."""
    if not isinstance(document, dict):
        raise Unreadable("the file is no notebook: it has no cells")
    cells = document.get("cells")
    if cells is None:                                     # nbformat 3 kept them in worksheets
        cells = [cell for sheet in _dicts(document.get("worksheets") or [])
                 for cell in _dicts(sheet.get("cells", []))]
    code, notes = [], []
    for number, cell in enumerate(_dicts(cells), start=1):
        retyped = cell.get("cell_type") != "code" and _was_code(cell)
        if retyped:
            kind = cell.get("cell_type")
            shown = kind if kind in ("markdown", "raw", "heading") else "something else"
            notes.append(f"cell {number} was turned into {shown}; it is read as code")
        if retyped or cell.get("cell_type") == "code":
            code.append(Code(number, _source(cell)))
    if not code:
        raise Unreadable("the notebook has no code cell")
    if (size := sum(len(one.source) for one in code)) > LONGEST:
        raise Unreadable(f"the notebook has {size} characters of code, more than {LONGEST}: hand in "
                         "the cells of the assignment alone")
    return tuple(code), tuple(notes)


def _dicts(found: Any) -> list[dict[str, Any]]:
    """A list of cells or of sheets. Unreadable when it is something else."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Unreadable("the file is no notebook: it has no cells")
    return found


def _was_code(cell: dict[str, Any]) -> bool:
    """Whether nbgrader's metadata say that this cell was handed out for an answer."""
    mark = cell.get("metadata")
    mark = mark.get("nbgrader") if isinstance(mark, dict) else None
    return isinstance(mark, dict) and bool(mark.get("solution"))


def _source(cell: dict[str, Any]) -> str:
    """The text of a cell, which is a string or a list of lines."""
    source = cell.get("source", cell.get("input", ""))
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return without_magics(text.replace("\r\n", "\n").replace("\r", "\n"))


def without_magics(source: str) -> str:
    """The source with what only a notebook understands taken out, line for line."""
    lines = source.split("\n")
    if lines[0].startswith("%%") and not lines[0].startswith(("%%time", "%%capture")):
        return "\n".join("" for _ in lines)               # another language, or a file to be written
    magic = re.compile(r"^(\s*)([%!].*|\?.*|[\w.]+\?+)$")
    return "\n".join(magic.sub(r"\1pass", line) for line in lines)


def parsed(code: Sequence[Code]) -> Iterator[Parsed]:
    """The syntax tree of each cell."""
    for cell, source in code:
        try:
            yield Parsed(cell, source, _tree(source), "")
        except SyntaxError as error:
            yield Parsed(cell, source, None,
                         f"cell {cell}, line {error.lineno or 1}: syntax error, {error.msg}")
        except ValueError as error:
            yield Parsed(cell, source, None, f"cell {cell} cannot be read: {error}")
        except (RecursionError, MemoryError):
            yield Parsed(cell, source, None, f"cell {cell} cannot be read: it is nested too deeply")


def _tree(source: str) -> ast.Module:
    """The syntax tree of a source that compiles too. Python's warnings are not for a teacher to see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
        compile(tree, "<cell>", "exec", dont_inherit=True)
    return tree

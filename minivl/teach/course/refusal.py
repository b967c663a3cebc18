"""Why a solution has no points whatever it gives: it uses minivl itself, or it is a copy of it.

The fence is the process that runs a submission: no pass, kernel or answer is in it, so that whatever a
submission calls, reads or bends there gains nothing (`child.py`, `confine.py`). Two things are read off
the text all the same. A solution that reaches for minivl is told so, instead of the exception that it
would get. And a pasted definition runs anywhere: it is known by runs of symbols, with the names of
variables left out, so that renaming, comments and moved lines change little.

Only code that the asked function reaches counts: what it names, what those names are bound to, and so
on. Whoever compares with the model's own pass in another cell has done nothing wrong. Read next:
`grade.py`.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from .notebook import Parsed

PACKAGE = Path(__file__).resolve().parents[2]
SOURCES = ("passes/*.py", "kernels/*.py", "teach/check/plain.py", "teach/check/stages/*.py")
GRAM, LEAST, SHARE = 8, 40, 0.7  # symbols in a run; runs of a source; share of them that must come again
HARMLESS = re.compile(r"minivl\.(config|checkpoint\.(weight|tree))\b")     # what inputs are made of
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Found(NamedTuple):
    """Something that is not allowed: where, and what in words."""
    cell: int
    line: int
    words: str

    def __str__(self) -> str:
        return f"cell {self.cell}, line {self.line}: {self.words}"


class Bound(NamedTuple):
    """A statement that gives names their meaning."""
    cell: int
    node: Any


def refused(cells: Sequence[Parsed], function: str) -> Found | None:
    """The first thing that speaks against the solution `function`, or None."""
    reached = list(_reached(cells, function))
    return min((found for bound in reached for found in _uses(bound)), default=None) or _copied(reached)


def _uses(bound: Bound) -> Iterator[Found]:
    """Imports of minivl in a statement, but for what inputs are made of."""
    for node in ast.walk(bound.node):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}".removesuffix(".*") for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "minivl" and not HARMLESS.match(name):
                words = f"uses minivl itself ({name}): the solution must be your own code"
                yield Found(bound.cell, node.lineno, words)


# -------------------------------------------------------------------------- what a function reaches

def _reached(cells: Sequence[Parsed], function: str) -> Iterator[Bound]:
    """The statements that the function consists of: its own and those of every name it uses, as met."""
    table: dict[str, list[Bound]] = {}
    for cell in cells:
        for node in _statements(cell.tree.body if cell.tree else []):
            for name in _names(node, "STORE_NAME", "STORE_GLOBAL") | _changed(node):
                table.setdefault(name, []).append(Bound(cell.cell, node))
    waiting, done, given = [function], {function}, set[int]()
    for name in waiting:                                  # which grows while it is read
        for bound in table.get(name, table.get("*", []) if not hasattr(builtins, name) else []):
            if id(bound.node) not in given:
                given.add(id(bound.node))
                yield bound
                new = sorted(_names(bound.node, "LOAD_NAME", "LOAD_GLOBAL") - done)
                waiting += new
                done.update(new)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements one by one, also inside of `if`, `for`, `with` and `try`; imports name by name."""
    for node in body:
        inner = [part for block in [node, *getattr(node, "handlers", [])]
                 for field in ("body", "orelse", "finalbody") for part in getattr(block, field, [])]
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:                      # `import numpy as np, minivl` is two things
                yield ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), "names": [alias]}),
                                        node)
        elif isinstance(node, DEFINITIONS) or not inner:
            yield node
        else:
            yield from _statements(inner)
            if isinstance(node, ast.For | ast.With):      # their heads bind names as well
                head = {**dict(ast.iter_fields(node)), "body": [ast.copy_location(ast.Pass(), node)],
                        "orelse": []}
                yield ast.copy_location(type(node)(**head), node)


def _names(node: ast.stmt, *kinds: str) -> set[str]:
    """Names that a statement loads or stores, in functions too where they are not local."""
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        return {"*"} if "STORE_NAME" in kinds else set()
    module = ast.Module([node], [])
    with warnings.catch_warnings():                       # told to the student, by the notebook
        warnings.simplefilter("ignore")
        waiting: list[CodeType] = [compile(module, "<cell>", "exec",
                                           __future__.annotations.compiler_flag, True)]
    found = set()
    for code in waiting:
        found |= {step.argval for step in dis.get_instructions(code)
                  if step.opname in kinds
                  and (code is waiting[0] or not step.opname.startswith("STORE_NAME"))}
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
    return found


def _changed(node: ast.stmt) -> set[str]:
    """Names whose parts are assigned to: `table["f"] = ...` changes `table`."""
    found = set()
    for inner in ast.walk(node) if not isinstance(node, DEFINITIONS) else ():
        if isinstance(inner, ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store):
            base: ast.expr = inner
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            found |= {base.id} if isinstance(base, ast.Name) else set()
    return found


# ------------------------------------------------------------------------------------------ copying

Grams = frozenset[tuple[str, ...]]


class Source(NamedTuple):
    """A function of the package: its name, where it stands, and its runs of symbols."""
    name: str
    file: str
    grams: Grams


def _copied(reached: Sequence[Bound]) -> Found | None:
    """The source of the package of which most comes again in the reached code."""
    mine = Grams().union(*(grams(bound.node) for bound in reached))
    share, source = max((len(source.grams & mine) / len(source.grams), source) for source in sources())
    if share < SHARE:
        return None
    bound = max(reached, key=lambda one: len(grams(one.node) & source.grams))
    return Found(bound.cell, bound.node.lineno,
                 f"is a copy: {share:.0%} of {source.name} in minivl/{source.file} comes again")


@cache
def sources() -> tuple[Source, ...]:
    """Every function of the passes, kernels and definitions that is long enough to be known again."""
    files = sorted(path for pattern in SOURCES for path in PACKAGE.glob(pattern))
    found = [Source(node.name, path.relative_to(PACKAGE).as_posix(), grams(node)) for path in files
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.FunctionDef)]
    return tuple(source for source in found if len(source.grams) >= LEAST)


# An attribute, a keyword's name, a number, a word, a mark.
SYMBOL = re.compile(r"\.\w+|\w+=(?!=)|\d[\w.]*|\w+|[^\w\s]")
KEPT = re.compile(r"\W|\w+=|\d|(for|in|if|else|while|not|and|or|lambda|return)$")


def grams(node: ast.AST) -> Grams:
    """Runs of GRAM symbols of a piece of code in one form of writing; variables have no name in it."""
    body = node.body if isinstance(node, ast.FunctionDef) else [node]
    text = "\n".join(ast.unparse(part) for part in body
                     if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)))
    words = [word if KEPT.match(word) else "name" for word in SYMBOL.findall(text)]
    return frozenset(tuple(words[n : n + GRAM]) for n in range(len(words) - GRAM + 1))

"""What a graded solution must not do, read off its syntax: call or copy the answer, look at callers, bend comparison.

Only code that the asked function reaches counts: whoever compares with the model's own pass in another cell has done
nothing wrong. Reached is what the function names, what those names are bound to, and so on.

This gives reasons; it is not the fence. In the process that runs a submission there is no answer to call (`child.py`).
Copying is found with runs of nodes of the syntax tree, names of variables left out: renaming, comments and moved
lines change little of it. Read next: `grade.py`.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .notebook import Parsed

PACKAGE = Path(__file__).resolve().parents[2]
SOURCES = ("passes/*.py", "kernels/*.py", "teach/check/plain.py", "teach/check/stages/*.py")
GRAM, LEAST, SHARE = 8, 40, 0.7         # nodes in a run; runs that a source must have; share that must come again

READERS = {"inspect", "gc", "traceback", "ctypes", "cffi", "dis", "faulthandler", "tracemalloc", "linecache"}
OUTSIDE = {"importlib", "builtins", "os", "subprocess", "socket", "multiprocessing", "threading", "_thread", "signal",
           "pickle", "marshal", "runpy", "pkgutil", "mmap", "code", "codeop", "shutil", "pathlib", "io", "urllib"}
HARMLESS = {"minivl.config", "minivl.checkpoint.weight"}       # what inputs are made of
FRAMES = {"_getframe", "_current_frames", "f_back", "f_locals", "f_globals", "f_code", "tb_frame", "gi_frame",
          "cr_frame", "ag_frame", "__traceback__", "settrace", "setprofile", "currentframe"}
HIDDEN = {"__globals__", "__closure__", "__code__", "__subclasses__", "__builtins__", "__dict__", "__loader__",
          "__spec__", "__import__", "modules", "meta_path"}
CALLS = {"eval", "exec", "compile", "__import__", "globals", "locals", "vars", "open", "input", "breakpoint",
         "setattr", "delattr", "__builtins__"}
COMPARING = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__hash__", "__array__",
             "__array_ufunc__", "__array_function__", "__array_finalize__", "__array_wrap__", "__array_priority__",
             "__array_interface__", "__array_struct__", "__instancecheck__", "__subclasscheck__", "__class__"}
ARRAYS = {"ndarray", "matrix", "recarray", "memmap", "chararray", "MaskedArray", "generic", "number", "float64",
          "float32", "int64", "int32", "float", "int", "tuple"}


class Found(NamedTuple):
    """Something that is not allowed: where, and what in words."""
    cell: int
    line: int
    words: str

    def __str__(self) -> str:
        return f"cell {self.cell}, line {self.line}: {self.words}"


class Bound(NamedTuple):
    """A piece of code that gives names their meaning."""
    cell: int
    node: ast.AST


def refused(cells: Sequence[Parsed], function: str) -> Found | None:
    """The first thing that speaks against the solution `function`, or None."""
    bent = next(_bending(cells), None)
    if bent:
        return bent
    reached = list(_reached(cells, function))
    found = [one for bound in reached for one in _forbidden(bound)]
    return min(found) if found else _copied(reached)


# ------------------------------------------------------------------------------------------- what is reached

def _reached(cells: Sequence[Parsed], function: str) -> Iterator[Bound]:
    """The code that the function consists of: its own, and that of every name it uses, in the order met."""
    table: dict[str, list[Bound]] = {}
    for cell in cells:
        for node in cell.tree.body if cell.tree else ():
            for name, bound in _bindings(cell.cell, node):
                table.setdefault(name, []).append(bound)
    waiting, done, given = [function], set[str](), set[int]()
    while waiting:
        name = waiting.pop(0)
        if name in done:
            continue
        done.add(name)
        foreign = name not in table and not hasattr(builtins, name)
        for bound in table.get("*", []) if foreign else table.get(name, []):
            if id(bound.node) not in given:
                given.add(id(bound.node))
                yield bound
                waiting += _names(bound.node)


def _bindings(cell: int, node: ast.AST) -> Iterator[tuple[str, Bound]]:
    """The names that a statement binds, each with the code it comes from."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:                          # one by one: `import numpy as np, minivl` is two things
            single = ast.copy_location(
                ast.Import([alias]) if isinstance(node, ast.Import) else
                ast.ImportFrom(node.module, [alias], node.level), node)
            yield (alias.asname or alias.name.partition(".")[0]), Bound(cell, single)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, Bound(cell, node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Global):
                yield from ((name, Bound(cell, node)) for name in inner.names)
    elif isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
        for part in ast.iter_child_nodes(node):
            yield from _bindings(cell, part)
            for inner in ast.iter_child_nodes(part) if isinstance(part, ast.ExceptHandler) else ():
                yield from _bindings(cell, inner)
        yield from ((name, Bound(cell, node)) for name in _stored(node, False))
    elif isinstance(node, ast.stmt) and not isinstance(node, ast.Expr):
        yield from ((name, Bound(cell, node)) for name in _stored(node, True))


def _stored(node: ast.AST, deep: bool) -> Iterator[str]:
    """Names that are assigned to, also through an index or an attribute: `table["f"] = ...` changes `table`."""
    targets = [node] if deep else [getattr(node, "target", None), *(item.optional_vars for item in
                                                                    getattr(node, "items", ()))]
    for inner in (inner for target in targets if target is not None for inner in ast.walk(target)):
        if isinstance(getattr(inner, "ctx", None), ast.Store):
            while isinstance(inner, ast.Attribute | ast.Subscript):
                inner = inner.value
            if isinstance(inner, ast.Name):
                yield inner.id


FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _names(node: ast.AST) -> Iterator[str]:
    """Names that a piece of code reads and does not bind itself, annotations left out: they do nothing."""
    if isinstance(node, ast.Name):
        yield from [node.id] if isinstance(node.ctx, ast.Load) else []
    elif isinstance(node, FUNCTIONS):
        own = _locals(node)
        outer = [*node.args.defaults, *(one for one in node.args.kw_defaults if one),
                 *getattr(node, "decorator_list", ())]
        yield from (name for part in outer for name in _names(part))
        yield from (name for part in _parts(node) if part not in outer for name in _names(part) if name not in own)
    else:
        yield from (name for part in _parts(node) for name in _names(part))


def _locals(function: ast.AST) -> set[str]:
    """Names that are a function's own: arguments, and what is assigned in it and not declared global."""
    own, foreign = set[str](), set[str]()
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            own.add(node.id)
        elif isinstance(node, ast.Global):
            foreign.update(node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.alias):
            own.add(node.asname or node.name.partition(".")[0])
        if not isinstance(node, FUNCTIONS):               # what is inside is that one's own
            waiting += ast.iter_child_nodes(node)
    return own - foreign


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes in order of reading, without annotations and docstrings."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(list(_parts(node)))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment"):
            continue
        for part in value if isinstance(value, list) else [value]:
            words = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
            if isinstance(part, ast.AST) and not words:
                yield part


# ------------------------------------------------------------------------------------------ what is forbidden

def _forbidden(bound: Bound) -> Iterator[Found]:
    """What a piece of reached code has that it must not have."""
    for node in _walk(bound.node):
        for words in _words(node):
            yield Found(bound.cell, getattr(node, "lineno", 1), words)


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (words for alias in node.names if (words := _module(alias.name)))
    elif isinstance(node, ast.ImportFrom):
        yield from (words for alias in node.names
                    if (words := _module(node.module or "") and _module(f"{node.module}.{alias.name}")))
    elif isinstance(node, ast.Name) and node.id in CALLS:
        yield f"uses {node.id}, which hides what is called"
    elif isinstance(node, ast.Attribute):
        yield from _attribute(node.attr)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("__"):
        yield from _attribute(node.value)                 # getattr(x, "__globals__")
    elif isinstance(node, ast.ClassDef):
        yield from _class(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "type" and len(node.args) == 3:
            yield "makes a class at run time"
        if node.func.id == "getattr" and not (len(node.args) > 1 and isinstance(node.args[1], ast.Constant)):
            yield "uses getattr with a name that is computed, which hides what is called"


def _module(name: str) -> str:
    root = name.partition(".")[0]
    if root == "minivl" and not any(name == one or name.startswith(one + ".") for one in HARMLESS):
        return f"uses minivl itself ({name}): the solution must be your own code"
    if root in READERS:
        return f"reads what callers hold (module {root})"
    return f"reaches outside (module {root}), which no stage needs" if root in OUTSIDE else ""


def _attribute(name: str) -> Iterator[str]:
    if name in FRAMES:
        yield f"reads callers' frames ({name})"
    elif name in HIDDEN:
        yield f"looks inside functions and modules ({name}), which hides what is called"
    elif name in COMPARING:
        yield f"changes how results compare ({name})"


def _class(node: ast.ClassDef) -> Iterator[str]:
    """A class whose objects could pass for arrays, or compare as they like."""
    bases = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
    if bases & ARRAYS:
        yield f"makes a kind of array or number of its own (class {node.name})"
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    names = methods | {target.id for part in node.body if isinstance(part, ast.Assign) for target in part.targets
                       if isinstance(target, ast.Name)}
    for name in sorted(names & COMPARING):
        yield f"changes how results compare ({name} in class {node.name})"


def _bending(cells: Sequence[Parsed]) -> Iterator[Found]:
    """Assignments into imported modules, wherever they stand: `np.array_equal = lambda *both: True`."""
    trees = [(cell.cell, node) for cell in cells if cell.tree for node in ast.walk(cell.tree)]
    modules = {alias.asname or alias.name.partition(".")[0] for _, node in trees if isinstance(node, ast.Import)
               for alias in node.names}
    for cell, node in trees:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in modules:
                yield Found(cell, node.lineno, f"replaces a part of a module ({ast.unparse(node)})")


# ------------------------------------------------------------------------------------------------- copying

Grams = frozenset[tuple[str, ...]]


class Source(NamedTuple):
    """A function of the package: its name, where it stands, and its runs of nodes."""
    name: str
    file: str
    grams: Grams


def _copied(reached: Sequence[Bound]) -> Found | None:
    """The source of the package of which most comes again in the reached code."""
    mine = frozenset[tuple[str, ...]]().union(*(grams(bound.node) for bound in reached))
    shares = [(len(source.grams & mine) / len(source.grams), source) for source in sources()]
    share, source = max(shares, key=lambda pair: pair[0])
    if share < SHARE:
        return None
    bound = max(reached, key=lambda one: len(grams(one.node) & source.grams))
    return Found(bound.cell, getattr(bound.node, "lineno", 1),
                 f"is a copy: {share:.0%} of {source.name} in minivl/{source.file} comes again")


@cache
def sources() -> tuple[Source, ...]:
    """Every function of the passes, kernels and definitions that is long enough to be known again."""
    found = []
    for path in sorted(path for pattern in SOURCES for path in PACKAGE.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                runs = grams(node)
                if len(runs) >= LEAST:
                    found.append(Source(node.name, path.relative_to(PACKAGE).as_posix(), runs))
    return tuple(found)


def grams(node: ast.AST) -> Grams:
    """Runs of GRAM nodes of a tree in order of reading; variables have no name in it, attributes and numbers do."""
    body = node.body if isinstance(node, ast.FunctionDef) else [node]
    words = [_word(inner) for part in body for inner in _walk(part) if not isinstance(inner, ast.expr_context)]
    return frozenset(tuple(words[n : n + GRAM]) for n in range(len(words) - GRAM + 1))


def _word(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    if isinstance(node, ast.Constant):
        return repr(node.value)[:20]
    if isinstance(node, ast.keyword):
        return f"{node.arg}="
    return type(node).__name__

"""The order of the wings, read off the import statements: a wing imports itself and wings before it,
files import each other in no circle, and what comes from outside when a file is imported is NumPy, or
named in docs/guide/architecture.md.

Imports inside of functions and under TYPE_CHECKING count for the order: a room that knows another one
knows it whenever it says so.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minivl

PACKAGE = Path(minivl.__file__).parent
ORDER = ("door", "config", "checkpoint", "text", "kernels", "passes", "model", "kernels.jit", "kernels.cuda", "run",
         "api", "show", "truth", "teach", "cli")
FILES = {".".join(("minivl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
         for path in sorted(PACKAGE.rglob("*.py"))}
PAGE = PACKAGE.parent / "docs" / "guide" / "architecture.md"


def imports(name: str, path: Path, source: str | None = None) -> Iterator[tuple[str, bool]]:
    """What a file imports, by its full name, and whether that happens when the file is imported
    itself."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node, at_once in walked(tree, True):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole if whole in FILES else module), at_once


def walked(node: ast.AST, at_once: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every statement, and whether it runs when the file is imported: not in a function, not for type
    checkers."""
    yield node, at_once
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from walked(child, at_once and not inside and not typing)


def wing_of(name: str) -> str:
    """An interpreter stands in for stages, so it stands above the model; `kernels` imports it by its name alone."""
    for interpreter in ("kernels.jit", "kernels.cuda"):
        if name.startswith(f"minivl.{interpreter}"):
            return interpreter
    return name.split(".")[1] if "." in name else ""


def wrong_way(name: str, path: Path, source: str | None = None) -> list[str]:
    """The imports of a file that point up, or at the package itself, whose `__init__` stands above all
    wings."""
    mine = wing_of(name)
    found = []
    for other, _ in imports(name, path, source):
        if other == "minivl" or (other.startswith("minivl.")
                                 and ORDER.index(wing_of(other)) > ORDER.index(mine)):
            found.append(f"{name} imports {other}")
    return found


def test_every_wing_has_its_place():
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or
             (path / "__init__.py").exists()}
    assert there - {"__init__"} == set(ORDER) - {"kernels.jit", "kernels.cuda"}


def test_ls_shows_what_a_newcomer_can_take_in():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 16, sorted(entries)


@pytest.mark.parametrize("name", [name for name in FILES
                                  if name not in ("minivl", "minivl.teach.course.child")])
def test_no_import_points_up(name):
    assert wrong_way(name, FILES[name]) == []


def test_an_import_that_points_up_is_noticed():
    for source in ("from ..truth.compare import metrics", "def f():\n    from ..cli import words",
                   "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..api import VLM",
                   "from .. import __version__", "import minivl.show.plot"):
        assert len(wrong_way("minivl.passes.block", FILES["minivl.passes.block"], source)) == 1, source
    assert wrong_way("minivl.passes.block", FILES["minivl.passes.block"],
                     "from ..door import stage") == []


def test_files_import_each_other_in_no_circle():
    graph = {name: {other for other, _ in imports(name, path) if other in FILES and other != name}
             for name, path in FILES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "a circle: " + " -> ".join([*way[way.index(name):], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)
    for name in graph:
        visit(name, ())


def told() -> dict[str, set[str]]:
    """File -> packages, from the table of docs/guide/architecture.md."""
    section = PAGE.read_text(encoding="utf-8").partition("## What is imported from outside")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for file, packages in re.findall(r"^\| `([\w/.*]+)` \| ([^|]+) \|", section, re.MULTILINE):
        found.setdefault(file.removeprefix("minivl/"), set()).update(re.findall(r"\w+", packages))
    return found


def outside(name: str, path: Path) -> set[str]:
    """Packages that are no part of Python and are imported together with a file."""
    roots = {other.partition(".")[0] for other, at_once in imports(name, path) if at_once}
    return {root for root in roots if root not in sys.stdlib_module_names
            and root not in ("minivl", "numpy")}


def test_what_is_imported_from_outside_is_told():
    found = {path.relative_to(PACKAGE).as_posix(): outside(name, path) for name, path in FILES.items()}
    assert {file: packages for file, packages in found.items() if packages} == told()

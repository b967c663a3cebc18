"""The page of refusals: every message with which minivl refuses something, by kind, with what to do about it.

    python -m tools.pages.refusals        writes docs/made/refusals.md

Nothing is written by hand: the kinds are the subclasses of `minivl.Error` with their documentation, the messages are
read off the `raise` statements. A part of a message that is filled in when it is raised stands in braces.

Read next: `minivl/door/errors.py`.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import minivl

PACKAGE = Path(minivl.__file__).parent
PAGE = PACKAGE.parent / "docs" / "made" / "refusals.md"
HEAD = """# What minivl refuses, and what to do

Every refusal is a `minivl.Error`, which is a `ValueError`: `except minivl.Error as error` catches them all, and the
command line prints the message in one line and exits with 2 (1 when a contract was broken). A message says what must
hold, what was found and what to do; what stands in braces is filled in.

Written by `python -m tools.pages.refusals` from the code; do not edit.
"""
OTHERS = {
    "TypeError": "an argument of a kind that Python itself would refuse: pass what the message names",
    "KeyError": "a name that is not in a table: the message lists those that are",
    "RuntimeError": "something is used in a way that it is not made for, such as opening a session twice",
    "AssertionError": "an exercise of a lesson is not right yet, or a promise that the package makes itself is broken",
    "OSError": "the system refuses to read or write: the message is the system's own",
    "ImportError": "an optional package is missing: the message has the command that installs it",
    "ModuleNotFoundError": "an optional package is missing: the message has the command that installs it",
    "PermissionError": "a submission reached out of its process: the mark says so",
    "AttributeError": "a name that the package does not have",
    "Trap": "a kernel on the emulator did what a processor would not survive: the kernel is wrong",
}                                             # what is raised besides: Python's own words for Python's own mistakes


class Refusal(NamedTuple):
    """One `raise` statement: the class, the message with its holes, and the file."""
    kind: str
    words: str
    file: str


def kinds() -> dict[str, type[minivl.Error]]:
    """Every subclass of minivl.Error, by name, in the order of the wings."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("minivl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        # two that run, one that needs torch, one that needs a GPU
        if not name.endswith(("__main__", "course.child", "trace.oracle", "cuda.on_gpu")):
            importlib.import_module(name)
    found: dict[str, type[minivl.Error]] = {}
    waiting = [minivl.Error]
    while waiting:
        kind = waiting.pop(0)
        found[kind.__name__] = kind
        waiting += sorted(kind.__subclasses__(), key=lambda one: one.__name__)
    return {name: kind for name, kind in found.items() if kind.__module__.startswith("minivl")}


def refusals() -> Iterator[Refusal]:
    """Every `raise Kind(message)` of the package, in the order of files and lines."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                kind = ast.unparse(node.exc.func).rpartition(".")[2]
                message = node.exc.args[0] if node.exc.args else None
                yield Refusal(kind, words_of(message), path.relative_to(PACKAGE).as_posix())


def words_of(message: ast.expr | None) -> str:
    """A message's text: of several that are chosen from or joined, the parts that are written out."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{" + named(part) + "}"
                       for part in message.values)
    if isinstance(message, ast.BinOp):
        return words_of(message.left) + words_of(message.right)
    if isinstance(message, ast.IfExp):
        return f"{words_of(message.body)} / {words_of(message.orelse)}"
    return "" if message is None else "{" + re.sub(r"\W+", " ", ast.unparse(message)).strip() + "}"


def named(part: ast.AST) -> str:
    """What fills a hole, in the words of the code: its last name."""
    names = re.findall(r"[A-Za-z_]\w*", ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else "")
    return next((name for name in names if name not in ("f", "brief", "repr", "str", "int", "self", "join", "list",
                                                        "len", "type", "__name__", "map", "sorted")), "...")


def page() -> str:
    """The page."""
    said: dict[str, list[Refusal]] = {}
    for refusal in refusals():
        said.setdefault(refusal.kind, []).append(refusal)
    lines = [HEAD]
    for name, kind in kinds().items():
        lines += [f"## {name}\n", " ".join((kind.__doc__ or "").split()) + "\n"]
        lines += [f"- {marked(one.words)} (`{one.file}`)" for one in said.get(name, []) if one.words] + [""]
    lines += ["## Python's own\n", *(f"- `{name}`: {why}" for name, why in OTHERS.items()), ""]
    return "\n".join(lines)


def marked(words: str) -> str:
    """A message as one line of Markdown, in which nothing is markup."""
    words = re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(words.split()))
    return words.replace("--", r"\-\-")                         # the site makes a dash of two hyphens


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(PAGE)


if __name__ == "__main__":
    main()

"""The kernels' sources, as text that a compiler takes: their own header stands in it.

CuPy's cache does not see a header that a kernel includes, so a changed header would change nothing. `text`
therefore puts `minivl.cuh` into the place of its #include; line numbers stay those of the two files.

Read next: `cuda/gemv.cu`, or any `.cu` beside it.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...door.errors import MissingFile

PACKED = Path(__file__).parent / "cu"                      # in a wheel
CHECKOUT = Path(__file__).parents[3] / "cuda"              # in the repository
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[^\n]*$', re.MULTILINE)


def folder() -> Path:
    """Where the .cu files lie. Raises MissingFile when the installed package holds none."""
    for place in (PACKED, CHECKOUT):
        if (place / "host" / "machine.h").is_file():
            return place
    raise MissingFile(f"{PACKED}: the installed package holds no CUDA sources; install minivl anew")


def host() -> Path:
    """The folder of the CPU runner's own C++."""
    return folder() / "host"


def names() -> list[str]:
    """The kernels' files, such as "gemv.cu", in order."""
    return sorted(path.name for path in folder().glob("*.cu"))


def text(name: str) -> str:
    """A kernel's file with its headers inside. Raises MissingFile for a name that there is none of."""
    path = folder() / name
    if not path.is_file():
        raise MissingFile(f"{name}: there is no such kernel file; there are {', '.join(names())}")
    return inlined(path.read_text(encoding="utf-8"), path)


def inlined(code: str, path: Path) -> str:
    """Code with every header in quotation marks in its place, each once. Raises MissingFile for one that
    does not lie beside `path`."""
    done: set[str] = set()

    def header(found: re.Match[str]) -> str:
        name, line = found[1], code.count("\n", 0, found.start()) + 2
        beside = path.parent / name
        if name in done:
            return ""
        if not beside.is_file():
            raise MissingFile(f"{path.name}: includes {name!r}, which does not lie beside it")
        done.add(name)
        body = beside.read_text(encoding="utf-8").replace("#pragma once", "")
        return f'#line 1 "{name}"\n{body}\n#line {line} "{path.name}"'
    return INCLUDE.sub(header, code)

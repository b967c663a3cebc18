"""The kernels' texts: `cuda/NAME.cu` of the repository, which the wheel carries here in `cu/`, with
`minivl.cuh` in the place of its #include. So a text is complete: what a compiler or CuPy's cache is
given is all that it depends on.

Read next: `cuda/minivl.cuh`, then the `.cu` file of a kernel; `device.py`, who compiles them.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...door.errors import MissingFile

PACKED = Path(__file__).parent / "cu"                          # in a wheel
CHECKOUT = Path(__file__).parents[3] / "cuda"                  # in the repository
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def folder() -> Path:
    """Where the .cu files lie. Raises MissingFile."""
    for place in (PACKED, CHECKOUT):
        if (place / "minivl.cuh").exists():
            return place
    raise MissingFile(f"the kernels' texts are neither in {PACKED} nor in {CHECKOUT}: install minivl "
                      "from a wheel, or work in a checkout")


def names() -> tuple[str, ...]:
    """All .cu files, without the ending, in order."""
    return tuple(sorted(path.stem for path in folder().glob("*.cu")))


def text(name: str) -> str:
    """One .cu file, complete. Lines keep their numbers: what is put in begins and ends with #line."""
    def included(found: re.Match[str]) -> str:
        after = source[: found.end()].count("\n") + 2
        inside = (folder() / found[1]).read_text(encoding="utf-8")
        return f'#line 1 "{found[1]}"\n{inside}#line {after} "{name}.cu"'

    path = folder() / f"{name}.cu"
    if not path.exists():
        raise MissingFile(f"there is no kernel file {path}; there are {', '.join(names())}")
    source = path.read_text(encoding="utf-8")
    return INCLUDE.sub(included, source)


def kernels_in(source: str) -> tuple[str, ...]:
    """The kernels of a text, in order."""
    found = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(', source)
    return tuple(found)

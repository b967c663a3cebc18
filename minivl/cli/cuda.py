"""`minivl cuda check`: somebody's kernel on the CPU, in every build and schedule; and what `minivl doctor` says about
CUDA.

Read next: `kernels/cuda/checking.py` of the package.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ..door.errors import ArgumentError, Error
from .console import line, note, print_json, working


def check(path: Path, kernel: str | None, grid: str | None, block: str | None, shared: int | None,
          as_json: bool) -> int:
    """Print the verdict; 0 when nothing is wrong, else 1."""
    from ..kernels.cuda.checking import check as checked
    with working(f"running {path.name} in every build and schedule"):
        verdict = checked(path, kernel, sizes("--grid", grid), sizes("--block", block), shared=shared)
    if as_json:
        found = [finding._asdict() for finding in verdict.findings]
        print_json({"kernel": verdict.kernel, "file": verdict.file, "ok": verdict.ok, "runs": verdict.runs,
                    "compared": verdict.compared, "findings": found})
    else:
        for text in str(verdict).splitlines():
            line(text)
        if not verdict.compared:
            note("nothing was compared: say what must come out, as //: y == ...")
    return 0 if verdict.ok else 1


def sizes(option: str, said: str | None) -> tuple[int, ...] | None:
    """`4` or `4,2` as whole numbers. Raises ArgumentError."""
    if said is None:
        return None
    if not re.fullmatch(r"\d+(,\d+){0,2}", said):
        raise ArgumentError(f"{option} is one to three whole numbers with commas between them, such as 4 or 4,2; "
                            f"got {said!r}")
    return tuple(map(int, said.split(",")))


# ---- minivl doctor

def examine() -> dict[str, Any]:
    """What there is for kernels="cuda" and for checking kernels; a reason for each thing that is not."""
    from ..kernels.cuda import build, compilers, device
    return {"lacking": device.missing(), "cxx": found(build.compiler_path),
            "nvcc": found(lambda: str(compilers.nvcc())),
            "nvrtc": found(lambda: str(compilers.nvrtc())),
            "cupy": cupy(), "driver": driver(), "gpu": gpu()}


def found(find: Callable[[], str]) -> dict[str, str]:
    """{"found": what} or {"missing": why}."""
    try:
        return {"found": find()}
    except Error as error:
        return {"missing": str(error)}


def cupy() -> dict[str, str]:
    """CuPy's version; it has a name for each version of CUDA, and is not imported."""
    names = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda14x", "cupy")
    for name in names:
        try:
            return {"found": f"{name} {metadata.version(name)}"}
        except metadata.PackageNotFoundError:
            continue
    return {"missing": 'kernels="cuda" needs CuPy: pip install "minivl[cuda]"'}


def driver() -> dict[str, str]:
    """The library of NVIDIA's driver."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            return {"found": ctypes.CDLL(name)._name}
    return {"missing": "NVIDIA's driver (libcuda) is not here"}


def gpu() -> dict[str, str]:
    """The name of the first GPU, from the driver itself: no package is needed."""
    if "missing" in driver():
        return {"missing": "no GPU without a driver; kernels run on the CPU, to be checked"}
    library = ctypes.CDLL(driver()["found"])
    name, count = ctypes.create_string_buffer(256), ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return {"missing": "the driver is here and finds no GPU"}
    library.cuDeviceGetName(name, len(name), 0)
    others = f" and {count.value - 1} more" if count.value > 1 else ""
    return {"found": name.value.decode("utf-8", "replace") + others}


def rows(findings: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a reader."""
    if "error" in findings:
        return [("CUDA", f"failed: {findings['error']}")]
    names = {"cxx": "kernels on the CPU", "nvcc": "nvcc", "nvrtc": "NVRTC", "cupy": "CuPy", "driver": "driver",
             "gpu": "GPU"}
    said = [(f"  {name}", findings[key].get("found") or f"missing: {findings[key]['missing']}")
            for key, name in names.items()]
    able = 'kernels="cuda" cannot run here, kernels="cuda-runner" does: the same kernels on the CPU, slowly'
    return [("CUDA", able if findings["lacking"] else 'kernels="cuda" can run'), *said]

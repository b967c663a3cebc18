"""`minivl doctor`: what is installed, what this computer is, and whether the embedded model answers on
it.

Read next: `api.py` of the package (where checkpoints are looked for).
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from ..door.version import VERSION
from ..kernels import processors
from . import cuda, kernels
from .console import facts, has_failed, heading, line, print_json, said, size, table, working

NEEDED = ("numpy", "pillow", "jinja2", "typer", "rich")
OPTIONAL = {
    "tokenizers": "fast text to ids; else our own, slower",
    "ml_dtypes": "precision bfloat16",
    "numba": "compiled kernels: minivl[jit]",
    "mpi4py": "several processes: minivl[mpi]",
    "matplotlib": "plots: minivl[plot]",
    "jupytext": "writing lessons: minivl[lessons]",
    "nbgrader": "a gradebook for teachers: minivl[teacher]",
    "torch": "comparison with the reference: minivl[oracle]",
    "transformers": "comparison with the reference: minivl[oracle]",
    "threadpoolctl": "the number of BLAS threads, here",
}


def doctor(as_json: bool) -> bool:
    """Print the findings; True when minivl is usable."""
    with working("asking the embedded model"):
        found = examine()
    print_json(found) if as_json else show(found)
    return found["usable"]


def examine() -> dict[str, Any]:
    """All findings as plain data; nothing here raises."""
    answer = tried(answering)
    packages = [{"package": name, "version": version(name), "needed": True, "for": "minivl itself"}
                for name in NEEDED]
    packages += [{"package": name, "version": version(name), "needed": False, "for": use}
                 for name, use in OPTIONAL.items()]
    return {"usable": "error" not in answer, "minivl": VERSION, "python": platform.python_version(),
            "executable": sys.executable, "platform": platform.platform(), "machine": platform.machine(),
            "cores": processors(), "memory": tried(memory), "blas": tried(blas),
            "kernels": tried(kernels.examine), "cuda": tried(cuda.examine),
            "mpi": tried(mpi),
            "resize": tried(resize_probe),
            "packages": packages, "embedded_model": answer, "hub": tried(hub),
            "lessons": tried(lessons)}


def tried(find: Callable[[], Any]) -> Any:
    """What `find` gives, or {"error": why it could not}."""
    try:
        return find()
    except Exception as error:                        # a broken installation fails in every possible way
        return {"error": f"{type(error).__name__}: {error}"}


def version(package: str) -> str | None:
    """The installed version, without importing anything."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory() -> int | None:
    """Bytes of this computer's memory, or None where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory() -> int | None:
    import ctypes
    kilobytes = ctypes.c_ulonglong()
    kernel = getattr(ctypes, "windll").kernel32                # noqa: B009 - only there on Windows
    if not kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return None
    return kilobytes.value * 1024


def blas() -> dict[str, Any]:
    """NumPy's library for matrix products, and its threads where threadpoolctl can tell."""
    import numpy as np
    built: Any = np.show_config(mode="dicts")
    about = built.get("Build Dependencies", {}).get("blas", {})
    found: dict[str, Any] = {"name": about.get("name"), "version": about.get("version"), "threads": None}
    if version("threadpoolctl") is None:
        return found
    pools = [pool for pool in import_module("threadpoolctl").threadpool_info()
             if pool.get("user_api") == "blas"]
    return found | {"threads": pools[0]["num_threads"] if pools else None}


def resize_probe() -> dict[str, Any]:
    """Our bicubic resize against the installed Pillow's, where the order of its two passes shows.

    Ours follows Pillow 13; before that the width always came first, and a few pixels differ.
    """
    import numpy as np
    from PIL import Image

    from ..passes.picture import resize
    pixels = np.random.default_rng(0).integers(0, 256, (97, 61, 3), np.uint8)
    cases = []
    for height, width in ((28, 56), (56, 28), (140, 84)):
        theirs = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        ours = resize(pixels, np.array([height, width]))
        cases.append(int(np.abs(theirs.astype(int) - ours).max()))
    return {"equal": max(cases) == 0, "largest_difference": max(cases)}


def answering() -> dict[str, Any]:
    """The embedded model's answer about a sample picture, and the seconds that it took from nothing."""
    from .. import api
    from .given import sample
    start = perf_counter()
    image, question = sample()
    with api.load() as vlm:
        return {"question": question, "answer": vlm.ask(image, question),
                "seconds": perf_counter() - start}


def hub() -> dict[str, Any]:
    """Where checkpoints are looked for by name, and those of this family that are there."""
    from ..checkpoint.hub import cache
    folder = cache()
    configs = folder.glob("models--*Qwen2.5-VL*/snapshots/*/config.json")
    there = sorted({path.parent.parent.parent.name for path in configs})
    return {"folder": str(folder), "exists": folder.is_dir(),
            "checkpoints": [name.removeprefix("models--").replace("--", "/") for name in there]}


def mpi() -> dict[str, Any]:
    """The MPI library that mpi4py finds, and the program that starts ranks; None for what is not here."""
    here = str(Path(sys.executable).parent)
    launcher = shutil.which("mpirun") or shutil.which("mpirun", path=here)
    if version("mpi4py") is None:
        return {"library": None, "launcher": launcher}
    import_module("mpi4py").rc.initialize = False                     # asked for its name, not begun
    library = import_module("mpi4py.MPI").Get_library_version()
    return {"library": " ".join(library.replace("\0", "").split()[:3]), "launcher": launcher}


def lessons() -> dict[str, Any]:
    """What the lessons need and is not here, and the command that brings it."""
    from ..teach.course.lessons import INSTALL, missing
    return {"missing": missing(), "install": INSTALL}


# ---- showing -------------------------------------------------------------------------------------

def show(found: dict[str, Any]) -> None:
    """The findings, the verdict last, where it is seen."""
    facts([("minivl", found["minivl"]), ("Python", f"{found['python']}, {found['executable']}"),
           ("platform", found["platform"]), ("cores", found["cores"]),
           ("memory", said(found["memory"], lambda n: size(n) if n else "unknown")),
           *kernels.rows(found["kernels"]), *cuda.rows(found["cuda"]),
           ("BLAS", said(found["blas"], blas_words)), ("resize", said(found["resize"], resize_words)),
           ("MPI", said(found["mpi"], mpi_words)),
           ("hub checkpoints", said(found["hub"], hub_words)),
           ("lessons", said(found["lessons"], lessons_words)),
           ("embedded model", said(found["embedded_model"], answer_words))])
    line()
    heading("packages")
    rows = [(f"  {p['package']}", p["version"] or ("MISSING" if p["needed"] else "absent"), p["for"])
            for p in found["packages"]]
    table(("  package", "version", "for"), rows)
    failed = [name for name, value in found.items() if has_failed(value)]
    if any(map(has_failed, found["kernels"].values())):            # a setting; the other rows stand
        failed.append("kernels")
    line("NOT USABLE: the embedded model does not answer" if not found["usable"]
         else f"usable, but for what failed above: {', '.join(failed)}" if failed else "ok")


def blas_words(blas: dict[str, Any]) -> str:
    threads = f"threads: {blas['threads']}" if blas["threads"] else "threads unknown (threadpoolctl would tell)"
    return f"{blas['name']} {blas['version']}, {threads}"


def resize_words(probe: dict[str, Any]) -> str:
    if probe["equal"]:
        return "ours equals the installed Pillow's"
    return (f"the installed Pillow differs from ours by up to {probe['largest_difference']} grey "
            "levels: ours is Pillow 13's; pictures resized with this Pillow give slightly other "
            "pixels")


def hub_words(hub: dict[str, Any]) -> str:
    return f"{hub['folder']}: " + (", ".join(hub["checkpoints"]) or "none of this family")


def mpi_words(found: dict[str, Any]) -> str:
    library = found["library"] or 'no mpi4py: pip install "minivl[mpi]" mpich'
    return f"{library}; started by {found['launcher'] or 'no mpirun: there is none here'}"


def lessons_words(found: dict[str, Any]) -> str:
    if not found["missing"]:
        return "can run here"
    return f"still need {', '.join(found['missing'])}: {found['install']}"


def answer_words(answer: dict[str, Any]) -> str:
    return f"answers in {answer['seconds']:.2f} s: {answer['question']}  {answer['answer']}"

"""What a benchmark measured, kept as JSON beside the facts of the machine that it was measured on.

    keep("answers", [Figure("load", 0.3, "s"), ...])    # results/answers-20261129T021500Z.json
    kept("answers")                                     # all that lie there, the oldest first

A figure alone says nothing: it belongs to a processor, a BLAS, a number of threads and to what else
was running. So the facts stand in the same file. Not here: how anything is measured. Read next:
`compare.py`, which shows the last two results side by side.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minivl.door.files import write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "tools" / "bench" / "results"
GIB = 2**30
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


class Figure(NamedTuple):
    """One number of a benchmark. Less is better, but for units that count work in a time (`GFLOP/s`)."""
    name: str
    value: float
    unit: str


class Result(NamedTuple):
    """One run of a benchmark: what it was, when, of which commit, on which machine, and its figures."""
    bench: str
    date: str
    commit: str
    machine: dict[str, Any]
    figures: list[Figure]


# ---- facts ----------------------------------------------------------------------------------------

def machine() -> dict[str, Any]:
    """What a figure depends on besides the code. A fact that this system does not tell is None."""
    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment, call-overload]
    blas, simd = config["Build Dependencies"]["blas"], config["SIMD Extensions"]
    return {
        "processor": processor(), "architecture": platform.machine(),
        "flags": sorted([*simd.get("baseline", []), *simd.get("found", [])]),
        "cores": os.cpu_count(), "memory_gib": memory_gib(), "system": platform.platform(),
        "python": platform.python_version(), "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}", "blas_kernel": blas_kernel(),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "load_average": load_average()}


def processor() -> str | None:
    """The processor's name; Linux says it in /proc/cpuinfo only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or None)


def memory_gib() -> float | None:
    """Memory of the machine in GiB, to a tenth. None where the system has no sysconf (Windows)."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)


def blas_kernel() -> str | None:
    """Which kernels the BLAS chose for this processor, and its threads. None without the package threadpoolctl."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    told = (f"{pool.get('architecture')}, threads: {pool['num_threads']}" for pool in pools)
    return ", ".join(told) or None


def load_average() -> float | None:
    """How many processes wanted a core, on average over the last minute. None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit() -> str:
    """The commit of this checkout, with a plus behind it when files differ from it; "unknown" without git."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return name + "+" * bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    return done.stdout.strip()


# ---- files ----------------------------------------------------------------------------------------

def keep(bench: str, figures: Sequence[Figure], folder: Path = RESULTS,
         facts: dict[str, Any] | None = None) -> Path:
    """Write one result; the path of its file. Older ones stay. facts: of the machine, taken before."""
    now = datetime.now(UTC)
    result = Result(bench, now.isoformat(timespec="seconds"), commit(), facts or machine(), list(figures))
    path = folder / f"{bench}-{now:%Y%m%dT%H%M%SZ}.json"            # no colon: Windows has none in names
    folder.mkdir(exist_ok=True)
    document = result._asdict() | {"figures": [figure._asdict() for figure in figures]}
    write_whole(path, methodcaller("write", (json.dumps(document, indent=1) + "\n").encode("utf-8")))
    return path


def read(path: Path) -> Result:
    """A result from its file. Raises ValueError, with the file's name, for what is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        figures = [Figure(**figure) for figure in document["figures"]]
        return Result(**{**document, "figures": figures})
    except (ValueError, TypeError, KeyError) as problem:
        raise ValueError(f"{path}: is no result of a benchmark: {problem}. A result is a file that --keep wrote, as "
                         "those in tools/bench/results: JSON of a benchmark's figures, with the machine, date and "
                         "commit") from None


def kept(bench: str, folder: Path = RESULTS) -> list[Result]:
    """The results of one benchmark, the oldest first."""
    return [read(path) for path in sorted(folder.glob(f"{bench}-????????T??????Z.json"))]


def say(bench: str, figures: Sequence[Figure], wanted: bool) -> None:
    """Keep the figures when that is wanted, and say on stderr where they are."""
    if wanted:
        print(f"kept in {keep(bench, figures).relative_to(ROOT).as_posix()}", file=sys.stderr)

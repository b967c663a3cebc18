"""Seconds that `import minivl` takes: the median of some fresh processes.

    python -m tools.bench.import_time [--runs 5] [--modules 12] [--keep]

Each process also starts Python itself; that share is measured the same way and printed beside. A first run, which
writes byte code and fills the disk's cache, is not counted. With --modules the slowest imports are listed, by their own
time. Not a test: a time that fails a build says nothing about the code. `tests/test_install.py` asserts the cause
instead: which modules are not loaded.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from .record import Figure, say

ROOT = Path(__file__).resolve().parent.parent.parent
GOAL = 0.4                  # seconds


def seconds(code: str) -> float:
    """Wall-clock seconds of one fresh Python that runs `code`."""
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    return perf_counter() - start


def slowest(count: int) -> list[tuple[float, str]]:
    """(milliseconds, module): the imports that take longest themselves, what they import not counted."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import minivl"], check=True, cwd=ROOT,
                          capture_output=True, encoding="utf-8")
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()]
    times = [(int(own) / 1000, module.strip()) for own, _, module in rows if own.strip().isdigit()]
    return sorted(times, reverse=True)[:count]


def main() -> None:
    """Print the medians, and the slowest modules when asked for."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--runs", type=int, default=5, help="fresh processes (5)")
    options.add_argument("--modules", type=int, default=0, help="list so many of the slowest imports (0)")
    options.add_argument("--keep", action="store_true", help="write the figures into tools/bench/results/")
    chosen, figures = options.parse_args(), []
    for code in ("pass", "import numpy", "import minivl"):
        seconds(code)
        times = [seconds(code) for _ in range(chosen.runs)]
        note = f"   goal: under {GOAL} s" if "minivl" in code else ""
        figures.append(Figure(f"a fresh Python: {code}", statistics.median(times), "s"))
        print(f"{code:<14} {statistics.median(times):.3f} s   {min(times):.3f}..{max(times):.3f}{note}")
    for milliseconds, module in slowest(chosen.modules) if chosen.modules else []:
        print(f"{milliseconds:9.1f} ms  {module}")
    say("import_time", figures, chosen.keep)


if __name__ == "__main__":
    main()

"""One side in a process of its own: load it, run every row once, print what that took as JSON.

    python -m tools.bench.speed.worker minivl-jit-bf16-float32 FOLDER --threads 2 [--quick]

The process holds one model and one array beside it, at least as large as the caches. That array is read
before each timed run, so that no weight is in a cache that would not be there in a longer run; and in
turns with the tokens that are decoded, over as many bytes as a token reads: a plain read of the same
bytes in the same moments. Read next: `__main__.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from minivl.run.roofline import cold_bytes, read

from . import workload
from .sides import GOLDEN, SIDES
from .workload import FULL, QUICK, Size

SHORT = 5.0                                    # seconds; what takes less is run twice, the second counts
FIRST = 16                                     # tokens of the prompt to the first token of `load`


def pin(threads: int) -> None:
    """Keep this process on so many processors, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def seconds(work: Callable[[], Any]) -> float:
    """By the clock."""
    start = perf_counter()
    work()
    return perf_counter() - start


def resident_gib() -> float | None:
    """The most memory that was resident so far, pages of mapped files included. None off Linux."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 2**20 if found else None


class Bench:
    """The rows of one side, of those that are asked for. memory: the array that is read; it is not the model's."""

    def __init__(self, name: str, folder: Path, threads: int, size: Size, asked: Sequence[str] = ("*",)):
        self.size, self.threads, self.side, self.asked = size, threads, SIDES[name], asked
        self.config = workload.config(size)
        self.memory = np.ones((2**20 if size.small else cold_bytes()) // 4, np.uint32)
        first = workload.tokens(self.config, FIRST)
        start = perf_counter()
        self.engine = self.side.start(folder, threads)
        self.engine.prefill(first)
        self.rows: dict[str, float] = {workload.LOAD: perf_counter() - start}
        self.reads: dict[str, float] = {}

    def wants(self, row: str) -> bool:
        """Whether a row is asked for."""
        return any(fnmatchcase(row, pattern) for pattern in self.asked)

    def cold(self, work: Callable[[], Any]) -> float:
        """Seconds of some work whose weights are in no cache."""
        read(self.memory, self.threads)
        took = seconds(work)
        if took < SHORT:                       # now everything that is made on first use is there
            read(self.memory, self.threads)
            took = seconds(work)
        return took

    def run(self) -> None:
        """Every row that this side has."""
        if hasattr(self.engine, "vision"):
            for picture in filter(lambda one: self.wants(workload.vision_row(one)), self.size.pictures):
                given = workload.patches(self.config, picture)
                took = self.cold(lambda given=given: self.engine.vision(*given))
                self.rows[workload.vision_row(picture)] = took
        for count in filter(lambda one: self.wants(f"prefill {one}"), self.size.prompts):
            ids = workload.tokens(self.config, count)
            self.rows[f"prefill {count}"] = self.cold(lambda ids=ids: self.engine.prefill(ids))
        held = resident_gib()
        if held is not None:
            self.rows[workload.MEMORY] = held - self.memory.nbytes / 2**30
        for context in filter(lambda one: self.wants(f"decode at {one}"), self.size.contexts):
            self.decode(context)
        if self.side.photo and self.wants(workload.PHOTO):
            pixels = workload.photo(self.size)
            self.rows[workload.PHOTO] = self.cold(lambda: self.engine.prepare_photo(pixels))

    def decode(self, context: int) -> None:
        """Tokens, in turns with plain reads of as many bytes; medians of both."""
        one = self.engine.decoding(context, self.size.steps)
        words = max(self.engine.read_a_token() // 4, 1)
        if words > len(self.memory):
            self.memory = np.ones(words, np.uint32)
        read(self.memory, self.threads)
        one()
        pairs = [(seconds(one), seconds(lambda: read(self.memory[:words], self.threads)))
                 for _ in range(self.size.steps)]
        name = f"decode at {context}"
        self.rows[name] = statistics.median(token for token, _ in pairs)
        self.reads[name] = statistics.median(plain / token for token, plain in pairs)

    def errors(self, golden: Path) -> dict[str, float]:
        """Relative error of logits and of visual tokens against the float64 run in a file."""
        with np.load(golden) as right:
            found = {"logits": off(self.engine.logits(golden_ids(self.config)), right["logits"])}
            if hasattr(self.engine, "vision"):
                seen = self.engine.vision(*workload.patches(self.config, workload.GOLDEN_PICTURE))
                found["vision"] = off(seen, right["vision"])
        return found


def golden_ids(config: Any) -> list[int]:
    """The prompt by which errors are measured."""
    return workload.tokens(config, workload.GOLDEN_TOKENS)


def off(got: np.ndarray, right: np.ndarray) -> float:
    """Length of the difference over the length of what is right."""
    return float(np.linalg.norm(got.astype(np.float64) - right) / np.linalg.norm(right))


def write_golden(folder: Path, size: Size, target: Path) -> None:
    """Logits and visual tokens of the definitions in float64."""
    config, engine = workload.config(size), GOLDEN(folder, 1)
    np.savez(target, logits=engine.logits(golden_ids(config)),
             vision=engine.vision(*workload.patches(config, workload.GOLDEN_PICTURE)))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tools.bench.speed.worker")
    options.add_argument("side", choices=[*SIDES, "golden"])
    options.add_argument("folder", type=Path)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rows", nargs="+", default=["*"])
    options.add_argument("--make", action="store_true", help="only what the side needs made: files, compiled code")
    options.add_argument("--golden", type=Path, help="compare with this file, or write it")
    given = options.parse_args()
    size = QUICK if given.quick else FULL
    pin(given.threads)
    if given.side == "golden":
        write_golden(given.folder, size, given.golden)
        return
    if given.make:
        SIDES[given.side].makes(given.folder)
        return
    bench = Bench(given.side, given.folder, given.threads, size, given.rows)
    bench.run()
    errors = bench.errors(given.golden) if given.golden else {}
    print(json.dumps({"rows": bench.rows, "reads": bench.reads, "errors": errors,
                      "facts": bench.engine.facts()}))


if __name__ == "__main__":
    main()

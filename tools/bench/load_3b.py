"""What a model of the 3B size costs on this machine: seconds to load and for a token, memory, and why.

    python -m tools.checkpoints.make_checkpoint 3B /tmp/minivl-3b
    python -m tools.bench.load_3b /tmp/minivl-3b

A fresh process loads the checkpoint and writes 8 tokens about a 448x448 picture. The parent prints its
figures and holds them against LIMITS. Memory is measured on Linux only. Read next: README.md, on each figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import Figure  # late: the measured process imports NumPy and minivl by the clock

TOKENS = 8
SIDE = 448                                            # pixels: 1024 patches, 256 visual tokens
LIMITS = {"load_seconds": 5.0, "peak_anonymous_gib": 12.0}
GIB = 2**30


class AnonymousPeak(threading.Thread):
    """The largest RssAnon of this process while the thread runs, looked up every 5 ms; None off Linux.

    RssAnon is memory that only this process has: arrays, and no page of a mapped file.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes: int | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        while (now := anonymous_bytes()) is not None:
            self.bytes = max(self.bytes or 0, now)
            if self._ended.wait(0.005):
                return

    def end(self) -> int | None:
        self._ended.set()
        self.join()
        return self.bytes


def anonymous_bytes() -> int | None:
    """RssAnon of this process; None where /proc does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def max_resident_bytes() -> int | None:
    """ru_maxrss: the most that was ever resident, pages of the mapped file included. None off Linux."""
    if not sys.platform.startswith("linux"):
        return None
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- the measured process ----------------------------------------------------------------------------------

def measure(folder: Path, precision: str, kernels: str) -> dict[str, Any]:
    """Load, prepare and write in this process; everything that the report needs, as plain JSON values."""
    start = perf_counter()
    import numpy as np

    import minivl
    imported = perf_counter()
    memory = AnonymousPeak()
    memory.start()
    vlm = minivl.load(folder, precision, kernels)
    loaded, after_load = perf_counter(), anonymous_bytes()
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is in this picture?"}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    prepared, worked = perf_counter(), process_time()
    with minivl.session(profile=True) as session:
        tokens = vlm.generate(inputs, TOKENS, stop_ids=())              # no stop id: noise must not end early
    written = perf_counter()
    return {"kernels": vlm.interpreter.name, "import_seconds": imported - start, "load_seconds": loaded - imported,
            "prepare_seconds": prepared - loaded, "generate_seconds": written - prepared,
            "generate_cpu_seconds": process_time() - worked, "prompt_tokens": len(inputs.input_ids),
            "tokens": tokens, "after_load_bytes": after_load, "anonymous_bytes": memory.end(),
            "resident_bytes": max_resident_bytes(), "load_average": load_average(),
            "profile": {key: list(cost) for key, cost in session.profile.items()}}


def load_average() -> float | None:
    """How many processes wanted a core, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


# ---- the report --------------------------------------------------------------------------------------------

Groups = dict[str, tuple[float, int]]                                   # stage group -> seconds, operations


def grouped(profile: Mapping[str, tuple[float, int]]) -> dict[str, Groups]:
    """Seconds and operations by phase ("prompt", "token") and group of stages: `vision.blocks.*.attend`."""
    table: dict[str, Groups] = {"prompt": {}, "token": {}}
    for key, (seconds, flops) in profile.items():
        root, dot, rest = key.partition(".")
        groups = table["token" if "@" in root else "prompt"]
        group = re.sub(r"\.\d+\.", ".*.", root.partition("@")[0] + dot + rest)
        known = groups.get(group, (0.0, 0))
        groups[group] = known[0] + seconds, known[1] + flops
    return table


def report(found: Mapping[str, Any], folder: Path) -> bool:
    """Print the figures; True when all limits hold."""
    table = grouped(found["profile"])
    prompt, token = (sum(seconds for seconds, _ in groups.values()) for groups in table.values())
    files = list(folder.glob("*.safetensors"))
    stored = sum(path.stat().st_size for path in files)
    wall, cpu = found["generate_seconds"], found["generate_cpu_seconds"]
    rows = [
        ("checkpoint", f"{stored / 1e9:8.2f} GB", f"in {len(files)} files"),
        ("machine", f"{os.cpu_count():8} cores", f"load average {found['load_average']}, Python "
                                                 f"{platform.python_version()}"),
        ("import", f"{found['import_seconds']:8.2f} s", ""),
        ("load", f"{found['load_seconds']:8.2f} s", f"limit {LIMITS['load_seconds']:g}"),
        ("prepare", f"{found['prepare_seconds']:8.2f} s", f"{found['prompt_tokens']} tokens"),
        ("prefill", f"{prompt:8.2f} s", "all stages up to the first token"),
        ("each further token", f"{token / (TOKENS - 1):8.2f} s", "all stages, on average"),
        ("outside the stages", f"{wall - prompt - token:8.2f} s", f"cache, loop, all {TOKENS} tokens"),
        ("writing", f"{wall:8.2f} s", f"in all; {cpu:.2f} s of CPU time"),
        *memory_rows(found)]
    for name, figure, remark in rows:
        print(f"{name:<20} {figure:<14} {remark}".rstrip())
    for phase, groups in table.items():
        print_groups(phase, groups)
    print(f"tokens {found['tokens']}")
    return holds(found)


def figures_of(found: Mapping[str, Any]) -> list[Figure]:
    """What is kept of a run: figures that hold on a busy machine too, so no time by the clock but that of loading."""
    from .record import Figure
    name = "3B" if found["kernels"] == "definition" else f"3B, {found['kernels']}"
    memory = "weights stay mapped" if found["kernels"] == "definition" else "packed weights among them, unless mapped"
    rows = [Figure(f"{name}: load, all tensors audited", found["load_seconds"], "s"),
            Figure(f"{name}: a prompt of {found['prompt_tokens']} tokens and {TOKENS} new ones",
                   found["generate_cpu_seconds"], "s of CPU time")]
    if found["anonymous_bytes"] is not None:
        rows.append(Figure(f"{name}: most memory of its own; {memory}", found["anonymous_bytes"] / GIB, "GiB"))
    return rows


def memory_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if found["anonymous_bytes"] is None:
        return [("memory", "not measured", "RssAnon is a figure of Linux")]
    return [("anonymous, loaded", f"{found['after_load_bytes'] / GIB:8.2f} GiB", "when load() returns"),
            ("anonymous, peak", f"{found['anonymous_bytes'] / GIB:8.2f} GiB",
             f"limit {LIMITS['peak_anonymous_gib']:g}; what only this process has, no mapped page"),
            ("resident, peak", f"{found['resident_bytes'] / GIB:8.2f} GiB",
             "with pages of the mapped files, which the system takes back when it needs them")]


def print_groups(phase: str, groups: Groups) -> None:
    """Groups by share of time; those below one per cent together in the last line."""
    total = sum(seconds for seconds, _ in groups.values())
    print(f"\n{phase:<34} {'seconds':>8} {'share':>6} {'GFLOP/s':>8}")
    for group, (seconds, flops) in sorted(groups.items(), key=lambda item: -item[1][0]):
        if seconds >= total / 100:
            print(f"  {group:<32} {seconds:8.2f} {seconds / total:6.1%} {flops / seconds / 1e9:8.1f}")
    rest = sum(seconds for seconds, _ in groups.values() if seconds < total / 100)
    print(f"  {'all others':<32} {rest:8.2f} {rest / total:6.1%}\n")


def holds(found: Mapping[str, Any]) -> bool:
    """Say which limit is broken, if any. Speed of writing has none: it is the machine's."""
    peak = (found["anonymous_bytes"] or 0) / GIB
    over = [f"load took {found['load_seconds']:.2f} s"] * (found["load_seconds"] >= LIMITS["load_seconds"])
    over += [f"{peak:.2f} GiB of memory"] * (peak >= LIMITS["peak_anonymous_gib"])
    print("over the limit: " + ", ".join(over) if over else "all within limits")
    return not over


# ---- command line ------------------------------------------------------------------------------------------

def forget_pages(folder: Path) -> None:
    """Ask the system to drop these files from its page cache, so that they come from the disk. Linux only."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("--cold needs posix_fadvise, which this system does not have")
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())                                     # only clean pages are dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.load_3b",
                                     description="Time and memory of a checkpoint of the 3B size.")
    parser.add_argument("folder", type=Path, help="a checkpoint, for example from tools.checkpoints.make_checkpoint")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--kernels", default="definition", help="definition, jit, or auto")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache first")
    parser.add_argument("--keep", action="store_true", help="write the figures into tools/bench/results/")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)      # in the fresh process
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.folder, given.precision, given.kernels)))
        return 0
    if given.cold:
        forget_pages(given.folder)
    command = [sys.executable, "-m", "tools.bench.load_3b", str(given.folder), "--precision", given.precision,
               "--kernels", given.kernels, "--measure"]
    child = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if child.returncode:
        return child.returncode
    found = json.loads(child.stdout)
    from .record import say
    say("load_3b", figures_of(found), given.keep)
    return 0 if report(found, given.folder) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a streamed model costs: memory that only its process has, seconds, how much of the disk's speed
is reached, and whether it writes the same tokens as one in memory.

    python -m tools.checkpoints.make_checkpoint 3B /tmp/minivl-3b
    python -m tools.bench.streamed /tmp/minivl-3b --memory 3GiB
    python -m tools.bench.streamed /tmp/minivl-7b-of-4 --make 7B --layers 4         # makes the
    checkpoint first

Each run is a process of its own; the checkpoint's pages are dropped from the system's cache before.
Linux only.
Read next: `minivl/run/streaming.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from .load_3b import AnonymousPeak

GIB = 2**30
SIDE = 448                                            # pixels: 1024 patches, 256 visual tokens


def make(name: str, layers: int, target: Path) -> None:
    """A checkpoint of a released size's width with fewer layers in its decoder."""
    from ..checkpoints.make_checkpoint import config_of, make_checkpoint
    config = config_of(name)
    make_checkpoint(replace(config, text=replace(config.text, num_hidden_layers=layers)), target)


def measure(folder: Path, precision: str, kernels: str, memory: str | None, tokens: int) -> dict[str, Any]:
    """Load and write in this process; everything that the report needs, as plain JSON values."""
    import numpy as np

    import minivl
    from minivl.run.streaming import reader_of, spent
    drop(folder)
    peak, start = AnonymousPeak(), perf_counter()
    peak.start()
    with minivl.load(folder, precision, kernels, memory=memory) as vlm:
        loaded = perf_counter()
        picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is in this picture?"}]
        inputs = vlm.prepare([{"role": "user", "content": content}])
        ids, ends = [], []
        for (token,) in vlm._write([inputs], vlm._settings(tokens, stop_ids=())):
            ids.append(token), ends.append(perf_counter())
        found: dict[str, Any] = {
            "kernels": vlm.interpreter.name, "load_seconds": loaded - start, "first_seconds": ends[0] - loaded,
            "token_seconds": (ends[-1] - ends[0]) / max(1, len(ends) - 1), "tokens": ids}
        if reader := reader_of(vlm.weights):
            times = spent(reader)
            rows = [(name, kept, size, *vars(one).values()) for name, kept, size, one in times.rows]
            found |= {"rows": rows, "plain": times.plain, "reached": times.reached}
    return found | {"peak_anonymous": peak.end()}


def drop(folder: Path) -> None:
    """The folder's files out of the system's cache."""
    import os
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_a_process(options: argparse.Namespace, memory: str | None) -> dict[str, Any]:
    """`measure` in a fresh process."""
    words = [sys.executable, "-m", "tools.bench.streamed", str(options.folder), "--child", "--precision",
             options.precision, "--kernels", options.kernels, "--tokens", str(options.tokens)]
    done = subprocess.run([*words, *(["--memory", memory] if memory else [])], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def report(name: str, found: dict[str, Any]) -> None:
    """One run, in words."""
    print(f"{name}: {found['kernels']}, loaded in {found['load_seconds']:.2f} s, first token after "
          f"{found['first_seconds']:.2f} s, then {found['token_seconds']:.2f} s each; peak of anonymous memory "
          f"{found['peak_anonymous'] / GIB:.2f} GiB")
    if found.get("plain"):
        plain, reached = found["plain"] / 1e9, found["reached"] / 1e9
        print(f"  read at {reached:.2f} GB/s, {reached / plain:.0%} of a plain read ({plain:.2f} GB/s)")


def main(arguments: list[str] | None = None) -> int:
    """Run both, compare, say; exit code 1 when the tokens differ."""
    words = argparse.ArgumentParser(prog="python -m tools.bench.streamed", description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--memory", default=None)
    words.add_argument("--kernels", default="jit")
    words.add_argument("--precision", default="bfloat16")
    words.add_argument("--tokens", type=int, default=4)
    words.add_argument("--make", metavar="SIZE")
    words.add_argument("--layers", type=int, default=4)
    words.add_argument("--alone", action="store_true", help="do not run it in memory beside")
    words.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = words.parse_args(arguments)
    if options.child:
        print(json.dumps(measure(options.folder, options.precision, options.kernels, options.memory, options.tokens)))
        return 0
    if options.make and not options.folder.exists():
        make(options.make, options.layers, options.folder)
    streamed = in_a_process(options, options.memory or "8GiB")
    report("streamed", streamed)
    for name, kept, size, *times in streamed["rows"]:
        read, wait, compute, runs, count = times
        print(f"  {name:20} {'kept' if kept else 'read':4} {size / 1e6:8.1f} MB  read {read:6.2f} s  wait {wait:6.2f} s"
              f"  compute {compute:6.2f} s  {runs} runs, {count / 1e6:.0f} MB")
    if options.alone:
        return 0
    held = in_a_process(options, None)
    report("in memory", held)
    same = held["tokens"] == streamed["tokens"]
    print("the same tokens" if same else f"other tokens: {streamed['tokens']}, in memory {held['tokens']}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a long prompt costs in memory: 3B widths with two decoder layers, one fresh process a length.

    python -m tools.bench.long_prompt [--tokens 4096 32768] [--precision float32] [--folder FOLDER]

Attention holds no scores beyond one block, and products a strip of rows at a time, so memory grows with
the number of tokens and not with its square. Read next: `README.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from tools.checkpoints.make_checkpoint import config_of, make_checkpoint

from .load_3b import AnonymousPeak, anonymous_bytes
from .record import ROOT

LAYERS, BLOCKS, VOCABULARY = 2, 1, 4096


def checkpoint(folder: Path) -> Path:
    """The model, made where it is not there yet. A small vocabulary: its table is none of the question."""
    if not (folder / "config.json").exists():
        whole = config_of("3B")
        vision = replace(whole.vision, depth=BLOCKS, fullatt_block_indexes=(0,))
        text = replace(whole.text, num_hidden_layers=LAYERS, vocab_size=VOCABULARY)
        make_checkpoint(replace(whole, vision=vision, text=text), folder)
    return folder


def measured(folder: Path, tokens: int, precision: str) -> dict[str, float]:
    """In this process: seconds, and the most anonymous memory beyond what the loaded model holds."""
    import minivl
    from minivl import Inputs

    from .speed.workload import tokens as drawn
    vlm = minivl.load(folder, precision, "jit")
    ids = drawn(vlm.config, tokens)

    def answer(some: list[int]) -> None:
        vlm.generate(Inputs.from_ids(some, vlm.config), 1, stop_ids=(), repetition_penalty=1.0,
                     context=tokens + 1)
    answer(ids[:600])                                          # compiled, and threads are there
    before, memory = anonymous_bytes(), AnonymousPeak()
    memory.start()
    start = perf_counter()
    answer(ids)
    took, peak = perf_counter() - start, memory.end()
    if before is None or peak is None:
        raise SystemExit("anonymous memory is a figure of Linux: /proc/self/status does not say it here")
    return {"seconds": took, "bytes": peak - before}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tools.bench.long_prompt",
                                      description=__doc__.split("\n", 1)[0])
    options.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    options.add_argument("--folder", type=Path, help="where the checkpoint is kept between runs (0.5 GB)")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = checkpoint(given.folder or Path(made) / "model")
        if given.one:
            print(json.dumps(measured(folder, given.one, given.precision)))
            return
        print(f"{'tokens':>8} {'seconds':>8} {'memory':>10} {'a token':>9}")
        for tokens in given.tokens:
            command = [sys.executable, "-m", "tools.bench.long_prompt", "--one", str(tokens), "--folder",
                       str(folder), "--precision", given.precision]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{tokens:8,} {found['seconds']:8.1f} {found['bytes'] / 2**20:6.0f} MiB "
                  f"{found['bytes'] / tokens / 1024:5.1f} KiB", flush=True)


if __name__ == "__main__":
    main()

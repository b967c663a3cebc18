"""A model over several ranks on this machine: the same tokens as one process, what each rank holds, and
what it sends beside the formula.

    python -m tools.bench.streamed /tmp/minivl-7b-of-4 --make 7B --layers 4        # 7B's width, four
    layers python -m tools.bench.cut /tmp/minivl-7b-of-4 tensor=2 tensor=2,pipeline=2

Each cut is one job of mpirun. A rank's memory is its own (RssAnon) at its most, less what a rank of the
embedded model takes; its share is what its weights and its cache weigh. Read next:
`minivl/run/cut/volume.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from .load_3b import AnonymousPeak, anonymous_bytes

SIDE = 224                                            # pixels: 256 patches, 64 visual tokens
MIB = 2**20


def measure(folder: Path, precision: str, kernels: str, parallel: str | None, tokens: int) -> dict[str, Any] | None:
    """One rank, or the only process: rank 0 gives the findings of all."""
    import numpy as np

    import minivl
    from minivl.run.costs import size_of
    from minivl.run.cut.volume import KINDS, held, volume_of_answer
    warm(kernels, precision)
    before, peak = anonymous_bytes() or 0, AnonymousPeak()
    peak.start()
    with minivl.load(folder, precision, kernels, parallel=parallel) as vlm:
        picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is in this picture?"}]
        inputs = vlm.prepare([{"role": "user", "content": content}])
        ids = vlm.generate(inputs, tokens, stop_ids=())
        text = vlm.config.text
        whole = (text.num_hidden_layers, len(inputs.input_ids) + tokens, text.kv_heads, text.head_dim)
        cache = 2 * size_of(vlm.interpreter.zeros(whole, vlm.dtype))
        own = [held(vlm.weights), cache, (peak.end() or 0) - before]
        if vlm.rank is None:
            return {"tokens": ids, "ranks": [own]}
        row = np.array([*own, *(vlm.rank.sent[kind] for kind in KINDS)], np.int64)
        rows = vlm.rank.world.gather(row, "report").reshape(-1, len(row))
        told = volume_of_answer(vlm.config, vlm.rank.seat.cut, len(inputs.input_ids), len(inputs.patches), tokens,
                                vlm.dtype)
        if vlm.rank.world.rank:
            return None
        sent = Counter(dict(zip(KINDS, rows[:, 3:].sum(axis=0).tolist(), strict=True)))
        return {"tokens": ids, "ranks": rows[:, :3].tolist(), "sent": sent, "formula": told}


def warm(kernels: str, precision: str) -> None:
    """Run the embedded model first: libraries, compiled code and threads are no part of a share."""
    import minivl
    with minivl.load(None, precision, kernels) as tiny:
        tiny.generate(minivl.Inputs.from_ids([1, 2, 3], tiny.config), 2)


def in_a_job(options: argparse.Namespace, parallel: str | None) -> dict[str, Any]:
    """`measure` in a process of its own, or in as many as a cut has ranks."""
    from minivl.run.cut.plan import cut_from
    words = [sys.executable, "-m", "tools.bench.cut", str(options.folder), *([parallel] if parallel else []), "--child",
             "--precision", options.precision, "--kernels", options.kernels, "--tokens", str(options.tokens)]
    if parallel:
        mpirun = shutil.which("mpirun", path=Path(sys.executable).parent) or shutil.which("mpirun") or "mpirun"
        words = [mpirun, "-n", str(cut_from(parallel).ranks), *words]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def report(name: str, found: dict[str, Any], right: list[int]) -> bool:
    """One cut, in words; whether all is as it must be."""
    same = found["tokens"] == right
    print(f"{name}: {'the same tokens' if same else 'OTHER TOKENS'}")
    good = same
    for rank, (weights, cache, memory) in enumerate(found["ranks"]):
        share = weights + cache
        print(f"  rank {rank}: share {share / MIB:8.1f} MiB, memory of its own {memory / MIB:8.1f} MiB "
              f"({memory / share - 1:+.1%})")
    for kind, count in found.get("formula", {}).items():
        equal = found["sent"][kind] == count
        good &= equal
        print(f"  {kind:7} {found['sent'][kind]:>14,} bytes, {'as' if equal else 'NOT AS'} the formula says")
    return good


def main(arguments: list[str] | None = None) -> int:
    """Run one process and every cut; exit code 1 when something differs."""
    words = argparse.ArgumentParser(prog="python -m tools.bench.cut", description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("cuts", nargs="*", default=[])
    words.add_argument("--kernels", default="jit")
    words.add_argument("--precision", default="bfloat16")
    words.add_argument("--tokens", type=int, default=4)
    words.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = words.parse_args(arguments)
    if options.child:
        found = measure(options.folder, options.precision, options.kernels, (options.cuts or [None])[0], options.tokens)
        if found is not None:
            print(json.dumps(found))
        return 0
    alone = in_a_job(options, None)
    print(f"one process: tokens {alone['tokens']}")
    good = report("one process", alone, alone["tokens"])
    return 0 if all([report(cut, in_a_job(options, cut), alone["tokens"]) for cut in options.cuts] + [good]) else 1


if __name__ == "__main__":
    sys.exit(main())

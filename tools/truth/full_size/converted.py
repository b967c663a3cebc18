"""Every conversion of a checkpoint: how long it takes, how large it is, how much memory it needs, and
what it costs in accuracy.

`minivl convert` reads all that it wrote back from the disk before the folder is there, so that is in the
seconds. Each folder then scores the answer of `parity`, which must have run before, on some of its
prompts.
Read next: `kills.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import minivl
from minivl.checkpoint.packed_folder import damaged

from ...bench.load_3b import AnonymousPeak
from . import report, sides
from .sides import FIRST, PACKED, WIDE, Side

AS_IT_IS = Side("minivl", "jit", "bfloat16")  # the checkpoint itself, which packs when it loads
COUNT = 3  # prompts, spread over all


def place_of(out: Path, weights: str) -> Path:
    """Where the folder of a format lies."""
    return out / f"packed-{weights}"


def pack(source: Path, target: Path, weights: str) -> dict[str, float]:
    """Convert in this process: seconds, memory of its own, bytes of the folder."""
    peak, start = AnonymousPeak(), perf_counter()
    peak.start()
    minivl.convert(source, target, weights)
    seconds = perf_counter() - start
    return {
        "seconds": seconds,
        "peak": peak.end() or 0,
        "bytes": sum(path.stat().st_size for path in target.iterdir()),
    }


def main(given: argparse.Namespace) -> int:
    """Convert to what is not there, let each folder score, say all."""
    if given.weights:
        print(json.dumps(pack(given.folder, place_of(given.out, given.weights), given.weights)))
        return 0
    missing = [
        side.name
        for side in (FIRST, WIDE, report.SHIPPED, AS_IT_IS)
        if report.read(given.out, side) is None
    ]
    if missing:
        raise SystemExit(
            f"{given.out} has no {', '.join(missing)}: run the command parity first, with the same -o"
        )
    costs = {weights: converted(given, weights) for weights in PACKED}
    for weights, side in PACKED.items():
        if report.read(given.out, side) is None:
            sides.in_a_process(side, place_of(given.out, weights), given.out, COUNT, COUNT, 0, None)
    return 0 if said(given.out, costs) else 1


def converted(given: argparse.Namespace, weights: str) -> dict[str, float]:
    """What a conversion cost: measured now, or kept beside the folder."""
    kept = given.out / f"packed-{weights}.json"
    if not kept.exists():
        words = [
            sys.executable,
            "-m",
            "tools.truth.full_size",
            "convert",
            str(given.folder),
            "-o",
            str(given.out),
            "--weights",
            weights,
        ]
        done = subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        kept.write_text(done.stdout, encoding="utf-8")
    found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def said(out: Path, costs: dict[str, dict[str, float]]) -> bool:
    """Print the table; True when bf16 lost nothing and every folder is as it was packed."""
    as_it_is, wide, given = (report.read(out, side) for side in (AS_IT_IS, WIDE, FIRST))
    assert as_it_is and wide and given
    good = True
    print("| weights | seconds | GB | memory to convert | to run | error beside bf16 | beside float32 "
          "| the same tokens |\n|---|---|---|---|---|---|---|---|")
    for weights, side in PACKED.items():
        found, cost = report.read(out, side), costs[weights]
        assert found
        row = report.line(found, wide, given, wide)
        beside = [
            report.relative(scores, as_it_is.scores[name]) for name, scores in found.scores.items()
        ]
        whole = not damaged(place_of(out, weights))
        good &= whole and (weights != "bf16" or not any(beside))
        errors = f"{max(beside):.2e} | {max(row.errors.values()):.2e} | {row.same} of {row.places}"
        memory = f"{cost['peak'] / 2**30:.2f} GiB | {found.peak / 2**30:.2f} GiB"
        print(f"| {weights} | {cost['seconds']:.0f} | {cost['bytes'] / 1e9:.2f} | {memory} | {errors} |"
              + " DAMAGED" * (not whole))
    return good

"""minivl, transformers, llama.cpp and OpenVINO at 3B widths, in turns. tools/bench/README.md tells how to read it.

    python -m tools.bench.speed [--quick] [--only PATTERN ...] [--rows PATTERN ...] [--tier NAME] [--keep] [-o FOLDER]
    python -m tools.bench.speed --table FILE
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from minivl.door.errors import ArgumentError
from minivl.kernels import processors

from ..compare import BUSY, about, comparison
from ..record import ROOT, Result, commit, keep, kept, load_average, machine, read
from . import report, workload
from .report import Round
from .sides import SIDES, USUAL, Side
from .workload import FULL, QUICK, Size

BASE = "transformers-bfloat16-sdpa"
OTHERS = 0.1                                   # share of the processors that others may have had
# what holds programs to the instructions of a tier: PyTorch's own kernels, oneDNN, MKL, OpenBLAS, and the loops that
# Numba compiles around the products of MINIVL_TIER. Numba has to be given a processor and features, else it adds those
# of the processor that it runs on. No lower tier than avx2, for MKL does not listen to that on every processor
HELD = {"avx2": ("avx2", "AVX2", "AVX2", "Haswell", "haswell", "+avx2"),
        "avx512": ("avx512", "AVX512_CORE", "AVX512", "SkylakeX", "skylake-avx512", "+avx512f"),
        "avx512-vnni": ("avx512", "AVX512_CORE_VNNI", "AVX512_E1", "SkylakeX", "cascadelake", "+avx512vnni"),
        "avx512-bf16": ("avx512", "AVX512_CORE_BF16", "AVX512_E3", "Cooperlake", "cooperlake", "+avx512bf16")}
BY = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE",
      "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")


def main() -> int:
    """Measure, print, compare, keep. 1 when no side gave anything, 2 for what cannot be done."""
    options = arguments()
    given = options.parse_args()
    if given.table:
        try:
            result = read(given.table)
        except (OSError, ValueError) as problem:
            options.error(str(problem))
        if not result.bench.startswith("speed"):
            options.error(f"{given.table} is of the benchmark {result.bench!r}, and --table shows those of this one")
        tables = [text for text in (report.table(result.figures), report.as_fast(result.figures)) if text]
        print("\n".join([*tables, about(result)]))
        return 0
    if wrong := wrong_number(given) or wrong_tier(given.tier):
        options.error(wrong)
    size = QUICK if given.quick else FULL
    sides = chosen(given.only, given.tier)
    if not sides:
        options.error(f"no side matches {' or '.join(given.only)}; they are {', '.join(SIDES)}")
    if given.base and given.base not in (names := [side.name for side in sides]):
        options.error(f"--base must be a side that runs, got {given.base!r}; they are {', '.join(names)}")
    load = load_average() or 0.0
    if load > BUSY * (os.cpu_count() or 1):
        words = f"the machine is busy: load average {load} on {os.cpu_count()} cores"
        if given.keep:
            options.error(f"{words}. A result that is kept must come from an idle one: wait, or leave "
                          "--keep out")
        note(f"warning: {words}; these times are worth nothing")
    if idle := [row for row in given.rows if not any(fnmatchcase(one, row) for one in workload.rows(size))]:
        options.error(f"no row matches {' or '.join(idle)}; they are {', '.join(workload.rows(size))}")
    if given.keep and given.quick:
        options.error("--quick runs tiny sizes, whose times are not worth keeping: leave one of the two "
                      "out")
    facts = {**machine(), "load_average": load, "threads_pinned": given.threads, "tier": given.tier or "its own"}
    if given.tier:
        facts["held"] = held(given.tier)
    before = processor_seconds()
    try:
        rounds = measured(sides, size, given)
    except OSError as problem:                 # the folder is taken, the disk is full
        options.error(str(problem))
    if not any(rounds):
        note("no side gave a result")
        return 1
    others = share_of_others(before)
    depends = {side: got["facts"] for one in rounds for side, got in one.items()}
    facts |= {"others": others, "sides": depends, "rounds": len(rounds)}
    return told(rounds, size, facts, given)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m tools.bench.speed",
                                      description=__doc__.split("\n", 1)[0])
    options.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs")
    options.add_argument("--only", nargs="+", default=USUAL, metavar="PATTERN",
                         help="sides by name, for example 'minivl-jit-*' transformers-bfloat16-sdpa "
                         f"({' '.join(USUAL)})")
    options.add_argument("--rows", nargs="+", default=["*"], metavar="PATTERN",
                         help="rows that are run, for example 'decode*' 'prefill 512'; load and memory always are")
    options.add_argument("--rounds", type=int, help="turns of every side (5; with --quick 2)")
    options.add_argument("--threads", type=int, default=processors(),
                         help=f"of every side, pinned to as many processors ({processors()}: all that there are)")
    options.add_argument("--tier", choices=HELD,
                         help="hold all programs to the instructions of this tier, below the processor's own; "
                         "programs that cannot be held are left out")
    options.add_argument("--base", metavar="SIDE",
                         help=f"the side that ratios are formed to ({BASE}; where it does not run, the first one)")
    options.add_argument("--folder", type=Path,
                         help="where the checkpoint is kept between runs (2 GB; its packed forms, beside it, 4 GB)")
    options.add_argument("--keep", action="store_true",
                         help="write the figures into tools/bench/results/")
    options.add_argument("--table", type=Path, metavar="FILE",
                         help="run nothing: print the tables of a result that was kept")
    options.add_argument("-o", "--output", type=Path, metavar="FOLDER",
                         help="write speed.md and speed.png there")
    return options


def wrong_number(given: argparse.Namespace) -> str:
    """What is wrong with the rounds or the threads, or nothing."""
    if given.rounds is not None and given.rounds < 1:
        return f"--rounds must be at least 1, got {given.rounds}"
    if not 1 <= given.threads <= processors():
        return (f"--threads must be from 1 to {processors()}, the processors that this process may use; got "
                f"{given.threads}")
    return ""


def wrong_tier(name: str | None) -> str:
    """Why this machine cannot be held to a tier, or nothing."""
    if name is None:
        return ""
    try:
        from minivl.kernels.jit.tiers import TIERS, usable
    except ImportError:
        return 'to know the tiers of this machine, --tier needs Numba: pip install "minivl[jit]"'
    try:
        usable(TIERS[name], " (--tier)")
    except ArgumentError as error:
        return str(error)
    return ""


def held(tier: str) -> dict[str, str]:
    """The variables by which programs are held to a tier."""
    return {"MINIVL_TIER": tier, **dict(zip(BY, HELD[tier], strict=True))}


def kind(given: argparse.Namespace) -> str:
    """The name under which results are kept: those of different instructions are not compared."""
    return f"speed-{given.tier}" if given.tier else "speed"


def chosen(patterns: Sequence[str], tier: str | None = None) -> list[Side]:
    """The sides that are named, installed, and can be held to a tier; the others are told."""
    found = [side for side in SIDES.values() if any(fnmatchcase(side.name, one) for one in patterns)]
    for side in found if tier else ():
        if side.free:
            note(f"{side.name}: left out, it cannot be held to {tier}: {side.free}")
    found = [side for side in found if not (tier and side.free)]
    for side in found:
        if side.missing:
            note(f"{side.name}: left out, not installed: {', '.join(side.missing)}")
    return [side for side in found if not side.missing]


def measured(sides: list[Side], size: Size, given: argparse.Namespace) -> list[Round]:
    """The rounds; every side has its turn in each of them."""
    parent = Path(tempfile.gettempdir())
    folder = (given.folder or parent / ("minivl-speed-quick" if given.quick else "minivl-speed")).resolve()
    note(f"checkpoint: {workload.checkpoint(size, folder)}; threads: {given.threads}")
    folders = {format: workload.packed_checkpoint(folder, format)
               for format in dict.fromkeys(side.packed for side in sides) if format is not None}
    for side in sides:
        if side.makes:                         # in a process of its own: no row holds its time or memory
            turn(side.name, folders.get(side.packed, folder), given, None, "--make")
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as room:
        golden = Path(room) / "golden.npz"
        turn("golden", folder, given, golden)
        for number in range(given.rounds or (2 if given.quick else 5)):
            rounds.append({})
            for side in sides:
                where = folders.get(side.packed, folder)
                got = turn(side.name, where, given, golden if number == 0 else None)
                if got is not None:
                    rounds[-1][side.name] = got
                    note(f"round {number + 1}, {side.name}: "
                         + ", ".join(f"{row} {value:.3g}" for row, value in got["rows"].items()))
    return rounds


def turn(name: str, folder: Path, given: argparse.Namespace,
         golden: Path | None, *words: str) -> dict[str, Any] | None:
    """One process; None, and why on stderr, when it fails. words: more of its command line."""
    count = str(given.threads)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                             "MINIVL_THREADS"), count)
    if given.tier:
        threads |= held(given.tier)
    command = [sys.executable, "-m", "tools.bench.speed.worker", name, str(folder), "--threads", count, *words]
    command += ["--rows", *given.rows]
    if given.quick:
        command.append("--quick")
    if golden:
        command += ["--golden", str(golden)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **threads}, capture_output=True,
                          encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        note(f"{name}: ended with {done.returncode}: {last[0]}")
        return None
    found: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    return found


def told(rounds: list[Round], size: Size, facts: dict[str, Any], given: argparse.Namespace) -> int:
    """Print the table and what has changed; write what was asked for."""
    there = report.names(rounds)
    base = given.base or BASE
    if base not in there:
        if given.base:
            note(f"{base} gave no result: ratios are formed to {there[0]}")
        base = there[0]
    units = workload.rows(size)
    now = datetime.now(UTC)
    figures = report.figures(rounds, base, units)
    result = Result(kind(given), now.isoformat(timespec="seconds"), commit(), facts, figures)
    page = report.page(rounds, base, units, about(result), size.photo[0] * size.photo[1] / 1e6)
    print(page)
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "speed.md").write_text(page, encoding="utf-8")
        report.picture(rounds, base, units, given.output / "speed.png")
        note(f"written: {given.output / 'speed.md'}, {given.output / 'speed.png'}")
    if not given.quick and (older := kept(kind(given))):
        print("\n".join(comparison(older[-1], result)))
    if facts["others"] is not None and facts["others"] > OTHERS:
        note(f"warning: other programs had {facts['others']:.0%} of the processors meanwhile"
             + ("; nothing is kept" if given.keep else ""))
    elif given.keep:
        note(f"kept in {keep(kind(given), figures, facts=facts).relative_to(ROOT).as_posix()}")
    return 0


# ---- what else ran -----------------------------------------------------------------------------------

def processor_seconds() -> tuple[float, float] | None:
    """Seconds of CPU: of everything on this machine, and of this process and its ended children. None
    off Linux."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as file:
            numbers = [int(number) for number in file.readline().split()[1:]]
    except OSError:
        return None
    busy = sum(numbers) - numbers[3] - numbers[4]                   # all but idle, and idle for a disk
    mine = os.times()
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return busy / os.sysconf("SC_CLK_TCK"), own


def share_of_others(before: tuple[float, float] | None) -> float | None:
    """Which part of the time that processors worked since then was not ours."""
    now = processor_seconds()
    if before is None or now is None or now[0] <= before[0]:
        return None
    busy, own = now[0] - before[0], now[1] - before[1]
    return round(max(0.0, 1 - own / busy), 3)


def note(text: str) -> None:
    """A line on stderr, as it happens."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

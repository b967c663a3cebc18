"""A conversion that is killed (SIGKILL) at random moments, and goes on each time.

Moments are drawn over all that a conversion says while it works: packing a matrix, reading the source
for its hash, reading a tensor back. A conversion is killed EACH times, each time further on, and then
comes to its end. After each kill the target must not be there, or be whole: every byte that of a folder
which nothing stopped.
Read next: `minivl/checkpoint/convert.py`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minivl.checkpoint.convert import JOURNAL, work_folder
from minivl.door.files import sha256

EACH = 20  # kills of one conversion
LATE = 0.05  # seconds after a word, at most, until the kill
PROGRAM = """
import sys, minivl
minivl.convert(*sys.argv[1:4], tell=lambda what, done, total: print(what, flush=True))
"""


class Stop(NamedTuple):
    """What a run of the conversion did until it ended. killed: it did not end by itself; said: the words
    that it said"""

    killed: bool
    said: list[str]


def main(given: argparse.Namespace) -> int:
    """Convert once in peace, then kill; exit code 1 when anything is not as it must be."""
    whole, target = given.out / f"whole-{given.weights}", given.out / "killed" / "target"
    target.parent.mkdir()
    words = in_peace(given.folder, whole, given.weights)
    right, chance = hashes(whole), random.Random(given.seed)
    kills, ends, where, done = 0, 0, Counter[str](), list[int]()
    while kills < given.times:
        for limit in [*drawn(chance, words, min(EACH, given.times - kills)), None]:
            stop = run(given.folder, target, given.weights, limit, chance.uniform(0, LATE))
            if stop.killed:
                kills += 1
                where[phase(stop.said)] += 1
                done.append(lines(target))
            if found := harm(target):
                print(f"kill {kills}: {found}")
                return 1
            if not stop.killed or target.exists():  # whole, or that is found below
                break
        ends += 1
        if (there := hashes(target)) != right:
            print(f"end {ends}: not what nothing stopped: {sorted(there.items() ^ right.items())}")
            return 1
        shutil.rmtree(target)
    print(f"{kills} kills, {ends} conversions that came to their end, each with the bytes of one that "
          "nothing stopped")
    print("killed while " + ", ".join(f"{what} ({count})" for what, count in where.most_common()))
    print("tensors in the journal at each kill: " + " ".join(map(str, done)))
    return 0


def in_peace(source: Path, whole: Path, weights: str) -> int:
    """How many words a conversion says that nothing stops; its folder may be there from before."""
    count = whole.with_suffix(".words")
    if not count.exists():
        count.write_text(str(len(run(source, whole, weights, None, 0.0).said)), encoding="utf-8")
    return int(count.read_text(encoding="utf-8"))


def drawn(chance: random.Random, words: int, count: int) -> Iterator[int]:
    """So many moments of a conversion that says so many words, in order."""
    return iter(sorted(chance.sample(range(words), min(count, words))))


def run(source: Path, target: Path, weights: str, limit: int | None, late: float) -> Stop:
    """A conversion in a process of its own, to its end, or until so many words and seconds later."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(target), weights]
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        while limit is None or len(said) < limit:
            if not (word := process.stdout.readline()):
                break
            said.append(word)
        if limit is not None:
            time.sleep(late)
            process.kill()
        said += process.stdout.readlines()
    if process.returncode > 0:
        raise SystemExit(f"the conversion ended with exit code {process.returncode}")
    return Stop(process.returncode < 0, said)


def harm(target: Path) -> str:
    """What lies beside the target and its folder of work, and must not."""
    found = {path.name for path in target.parent.iterdir()} - {target.name, work_folder(target).name}
    return f"there is {', '.join(sorted(found))}" if found else ""


def phase(said: list[str]) -> str:
    """What was done when it was killed, by the last word."""
    last = said[-1].split() if said else ["starting"]
    return " ".join(last[: 2 if last[0] == "reading" else 1])


def lines(target: Path) -> int:
    """Tensors that the journal holds: those that the next run need not pack again."""
    path = work_folder(target) / JOURNAL
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file; the journal, which a kill may leave behind the last moment, is none of them."""
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != JOURNAL}

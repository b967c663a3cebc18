"""Parity and conversions at a released size, on a checkpoint of random numbers in the official layout.

    python -m tools.checkpoints.make_checkpoint 3B /tmp/minivl-3b                # 7.5 GB
    python -m tools.truth.full_size parity /tmp/minivl-3b -o build/full-size     # beside transformers
    python -m tools.truth.full_size convert /tmp/minivl-3b -o build/full-size    # bf16, int8 and int4
    python -m tools.truth.full_size kills /tmp/minivl-3b -o build/full-size      # a conversion, killed

Each side and each conversion is a process of its own, so that one model is in memory at a time. `parity`
goes on where it was stopped: a side whose file is there is not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minivl.checkpoint.convert import FORMATS

from . import converted, kills, report
from .prompts import PROMPTS
from .sides import BY_NAME, SIDES, in_a_process, run


def parity(given: argparse.Namespace) -> int:
    """Run the sides that are missing, then compare all."""
    for one in SIDES:
        if report.read(given.out, one) is None:
            print(f"{one.name}:", flush=True)
            in_a_process(
                one, given.folder, given.out, given.prompts, given.few, given.tokens, given.memory
            )
    return 0 if report.report(given.out, given.folder) else 1


def side(given: argparse.Namespace) -> int:
    """Run one side in this process."""
    run(
        BY_NAME[given.name],
        given.folder,
        given.out,
        given.prompts,
        given.few,
        given.tokens,
        given.memory,
    )
    return 0


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(
        prog="python -m tools.truth.full_size",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = words.add_subparsers(required=True, metavar="COMMAND")
    same = commands.add_parser("parity", help="scores and answers beside transformers")
    one = commands.add_parser("side", help="one side of parity alone")
    pack = commands.add_parser("convert", help="every format: time, size, memory, errors")
    stop = commands.add_parser("kills", help="a conversion that is killed again and again")
    one.add_argument("name", choices=BY_NAME)
    for command, function in ((same, parity), (one, side), (pack, converted.main), (stop, kills.main)):
        command.set_defaults(run=function)
        command.add_argument("folder", type=Path)
        command.add_argument(
            "-o", "--out", type=Path, required=True, help="a folder for what is made; it may be there"
        )
    for command in (same, one):
        command.add_argument(
            "--prompts", type=int, default=len(PROMPTS), choices=range(1, len(PROMPTS) + 1), metavar="N"
        )
        command.add_argument("--few", type=int, default=2, help="prompts of the sides that are slow")
        command.add_argument("--tokens", type=int, default=8, help="of each answer")
        command.add_argument("--memory", help="as of minivl.load, for what is larger than memory")
    pack.add_argument(
        "--weights", choices=FORMATS, help="convert to this one and say what it cost, no more"
    )
    stop.add_argument("--times", type=int, default=40)
    stop.add_argument("--seed", type=int, default=0)
    stop.add_argument("--weights", choices=FORMATS, default="int8")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return int(given.run(given))


if __name__ == "__main__":
    sys.exit(main())

"""A step of training the embedded model: the plain form of the network beside its own functions.

    python -m tools.bench.train_step
    python -m tools.bench.train_step joint --rounds 8

For each kind of phase the same half batches go forward and backward in turns, in one process with one
thread, from the drawn rows on: the plain form (`network.Lean`; every set of questions looks anew), and
the form that training uses (`fused.py`; a still tower looks once for `again` sets of questions). Every
round has batches of its own, so that neither form knows their shapes. Milliseconds of CPU a sample over
all rounds but the first, in which code is compiled or loaded, and their ratio.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import typer

from tools.train_tiny import network
from tools.train_tiny.optimiser import FAST_HALVES
from tools.train_tiny.packing import Packer, collate
from tools.train_tiny.phases import PHASES, Phase
from tools.train_tiny.tokens import load_tokenizer
from tools.train_tiny.train import POOL, Run, half_step, halves, pool, whole_step

KINDS = {"tower": "lines", "joint": "together", "decoder": "settle"}      # kind of phase -> one of them


Form = Callable[[], object]


def steps_of(run: Run, packer: Packer, number: int) -> tuple[Form, Form, int]:
    """Both forms of the first worker's half of a pool, and the samples in it."""
    drawn = pool(run.phase, number, 5, packer, run.batch)

    def plain() -> None:
        for _, rows in drawn:
            whole_step(run, collate(rows[::2]))

    def own() -> None:
        for half, _ in halves(run.phase, number, drawn, 0):
            half_step(run, half)
    return plain, own, POOL * run.phase.again * len(drawn[0][1][::2])


def measure(phase: Phase, rounds: int) -> tuple[float, float]:
    """Milliseconds of CPU a sample of both forms."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(phase, Path(folder), None, phase.steps, phase.batch, 1)
    run.flat.collect_in(0)
    packer, took, seen = Packer(load_tokenizer()), [0.0, 0.0], 0
    for number in range(rounds + 1):
        *forms, samples = steps_of(run, packer, number)
        for i, form in enumerate(forms):
            start = time.process_time()
            form()
            took[i] += 1e3 * (time.process_time() - start) * (number > 0)
        seen += samples * (number > 0)
    return took[0] / seen, took[1] / seen


def main(kinds: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(KINDS)}; all")] = None,
         rounds: Annotated[int, typer.Option(min=1)] = 3) -> None:
    """Time the kinds of phase."""
    torch.set_num_threads(1)
    network.ROUND = FAST_HALVES
    for kind in kinds or KINDS:
        if kind not in KINDS:
            raise typer.BadParameter(f"a kind of phase is {', '.join(KINDS)}, got {kind!r}")
        plain, own = measure(PHASES[KINDS[kind]], rounds)
        print(f"{kind:8} plain {plain:6.1f} ms a sample, own functions {own:6.1f} ms, "
              f"ratio {plain / own:.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)

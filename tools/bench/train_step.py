"""A step of training the embedded model: the plain form of the network beside its own functions.

    python -m tools.bench.train_step
    python -m tools.bench.train_step joint --rounds 8
    python -m tools.bench.train_step --each               # and each saving of its own functions undone by itself

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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import typer

from tools.train_tiny import fused, layout, network
from tools.train_tiny.optimiser import FAST_HALVES
from tools.train_tiny.packing import Packer, collate
from tools.train_tiny.phases import PHASES, Phase
from tools.train_tiny.tokens import load_tokenizer
from tools.train_tiny.train import POOL, Run, half_step, halves, pool, whole_step

KINDS = {"tower": "lines", "joint": "together", "decoder": "settle"}      # kind of phase -> one of them
PLAIN, OWN = "plain", "own functions"

Step = tuple[int, list[Any]]                              # of `train.pool`


def plainly(run: Run, number: int, drawn: list[Step]) -> None:
    """The first worker's half of a pool, by the plain form."""
    for _, rows in drawn:
        whole_step(run, collate(rows[::2]))


def by_own_functions(run: Run, number: int, drawn: list[Step]) -> None:
    for half, _ in halves(run.phase, number, drawn, 0):
        half_step(run, half)


def looking_anew(run: Run, number: int, drawn: list[Step]) -> None:
    """The tower looks for every set of questions about the same pictures."""
    for again, (i, rows) in enumerate(drawn):
        half_step(run, layout.lay(rows[::2]) | {"key": (number, i + again * POOL)})


@contextmanager
def every_query() -> Iterator[None]:
    """The last layer asks at every token, not only at those before an answer's."""
    apply, plans = fused.ReadingAttention.apply, list[Any]()

    def asking_all(*given: Any) -> torch.Tensor:
        *rest, plan, asked = given
        if asked is None:
            plans[:] = [plan]
            return apply(*given)
        return apply(*rest, *plans, None).index_select(0, asked)
    with patch.object(fused.ReadingAttention, "apply", asking_all):
        yield


# What is undone -> the kinds of phases in which it was saved, the step, and what changes meanwhile.
Undone = tuple[tuple[str, ...], Callable[[Run, int, list[Step]], None], Callable[[], AbstractContextManager[Any]]]
UNDONE: dict[str, Undone] = {
    "two equal frames of a picture": (
        ("tower", "joint", "decoder"), by_own_functions,
        lambda: patch.object(layout, "stands_still", lambda patches: False)),
    "the start of the prompt in every row": (
        ("joint", "decoder"), by_own_functions, lambda: patch.object(layout, "start_of_all", lambda rows: 0)),
    "every query of the last layer": (("joint", "decoder"), by_own_functions, every_query),
    "a look for every set of questions": (("decoder",), looking_anew, nullcontext)}


def measure(kind: str, phase: Phase, rounds: int, each: bool) -> dict[str, float]:
    """Milliseconds of CPU a sample: of both forms, and with each saving undone."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(phase, Path(folder), None, phase.steps, phase.batch, 1)
    run.flat.collect_in(0)
    forms: dict[str, Undone] = {PLAIN: ((kind,), plainly, nullcontext), OWN: ((kind,), by_own_functions, nullcontext)}
    if each:
        forms |= {name: one for name, one in UNDONE.items() if kind in one[0]}
    packer, took, seen = Packer(load_tokenizer()), dict.fromkeys(forms, 0.0), 0
    for number in range(rounds + 1):
        drawn = pool(run.phase, number, 5, packer, run.batch)
        for name, (_, step, changed) in forms.items():
            run.kept.clear()
            with changed():
                start = time.process_time()
                step(run, number, drawn)
                took[name] += 1e3 * (time.process_time() - start) * (number > 0)
        seen += POOL * phase.again * len(drawn[0][1][::2]) * (number > 0)
    return {name: one / seen for name, one in took.items()}


def main(kinds: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(KINDS)}; all")] = None,
         rounds: Annotated[int, typer.Option(min=1)] = 3,
         each: Annotated[bool, typer.Option("--each", help="undo each saving by itself")] = False) -> None:
    """Time the kinds of phase."""
    torch.set_num_threads(1)
    network.ROUND = FAST_HALVES
    for kind in kinds or KINDS:
        if kind not in KINDS:
            raise typer.BadParameter(f"a kind of phase is {', '.join(KINDS)}, got {kind!r}")
        plain, own, *rest = (found := measure(kind, PHASES[KINDS[kind]], rounds, each)).values()
        print(f"{kind:8} plain {plain:6.1f} ms a sample, own functions {own:6.1f} ms, "
              f"ratio {plain / own:.2f}", flush=True)
        for name, one in zip(list(found)[2:], rest, strict=True):
            print(f"{'':8} with {name:36} {one:6.1f} ms, {one / own:.2f} times", flush=True)


if __name__ == "__main__":
    typer.run(main)

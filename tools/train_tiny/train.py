"""Training in phases, resumable after a kill at any time.

Two worker processes, each with one thread and half of every batch, share their parameters (`optimiser.py`); a third
draws the data. Everything is a function of the seed and the step, so that a run that was killed goes on as if nothing
had happened: the checkpoint holds parameters, moments and the step, and is replaced as a whole.

Read next: `phases.py`, the recipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import multiprocessing as mp
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import network
from .network import Lean, answer_loss, config_for, new_model, tensors
from .optimiser import FAST_HALVES, WORKERS, Flat, Mover
from .packing import Packer, collate, cost, see
from .phases import Phase, draw
from .preference import Preference
from .tokens import load_tokenizer

POOL, WARM_UP = 4, 60                                     # batches drawn and sorted together; steps
SAVE_SECONDS, LOOK_SECONDS, SAY_STEPS = 120, 300, 25
PATIENCE = 900                                            # seconds until a worker takes another for dead
EVERY_STEP = {"kind": 1.0, "colour": 1.0, "outline": 2.0, "glyph": 1.0, "place": 0.4, "line": 0.6, "cell": 0.4,
              "offset": 0.4, "reach": 3.0, "tens": 1.0, "units": 1.0, "event": 1.0, "moment": 1.0,
              "event_colour": 0.3, "event_kind": 0.3}     # weights of the dense losses against each other


# ------------------------------------------------------------------------------------------------- data

def pool(phase: Phase, number: int, seed: int, packer: Packer, batch: int, progress: float = 1.0) -> list[list[Any]]:
    """Pool `number` of a phase: POOL batches of like-sized rows, each split in two halves for the workers."""
    rng = np.random.default_rng([seed, phase.number, number])
    make = see if phase.trains == "tower" else packer.pack
    rows = [make(draw(rng, phase, progress)) for _ in range(POOL * batch)]
    rows.sort(key=lambda row: cost(row) + rng.uniform(0, 40))
    batches = [rows[i:i + batch] for i in range(0, len(rows), batch)]
    rng.shuffle(batches)                                  # type: ignore[arg-type]
    return [[collate(one[worker::WORKERS]) for worker in range(WORKERS)] for one in batches]


def feed(queues: list[Any], phase: Phase, seed: int, steps: int, batch: int, first: int) -> None:
    """The process that draws: from step `first` on, a half batch for each worker."""
    os.nice(1)
    torch.set_num_threads(1)
    packer = Packer(load_tokenizer(), phase.time_axis)
    for number in range(first // POOL, -(-steps // POOL)):
        for i, halves in enumerate(pool(phase, number, seed, packer, batch, number * POOL / steps)):
            if number * POOL + i >= first:
                for queue, half in zip(queues, halves, strict=True):
                    queue.put(half)


# ------------------------------------------------------------------------------------------------- one run

class Run:
    """A phase being trained in a folder: `checkpoint.pt` while it lasts, `weights.pt` when it is done."""

    def __init__(self, phase: Phase, folder: Path, start: Path | None, steps: int, batch: int, seed: int):
        self.phase, self.folder, self.steps, self.batch, self.seed = phase, folder, steps, batch, seed
        self.lean = Lean(new_model(config_for(load_tokenizer()), seed))
        if start is not None:
            load_weights(self.lean, start)
        folder.mkdir(parents=True, exist_ok=True)
        self.preference = Preference(self.lean) if phase.preference else None
        self.flat = Flat(self.lean)
        self.step = self.seen = 0
        self.seconds = 0.0
        if self.checkpoint.exists():
            self._restore()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _restore(self) -> None:
        saved = torch.load(self.checkpoint, weights_only=True)
        asked = self.asked()
        if (known := {name: saved.get(name, value) for name, value in asked.items()}) != asked:
            raise ValueError(f"{self.checkpoint} was begun with {known}, and this run asks for {asked}: "
                             "ask for the same, or give another --run")
        self.flat.restore(saved["flat"])
        self.step, self.seen, self.seconds = saved["step"], saved["seen"], saved["seconds"]
        print(f"goes on at step {self.step}", flush=True)

    def save(self) -> None:
        """Replace the checkpoint as a whole: a kill while writing leaves the old one."""
        state = {"flat": self.flat.state(), "step": self.step, "seen": self.seen, "seconds": self.seconds,
                 **self.asked()}
        written = self.checkpoint.with_suffix(".part")
        torch.save(state, written)
        written.replace(self.checkpoint)

    def asked(self) -> dict[str, Any]:
        """What a run goes on with, or not at all."""
        return {"phase": self.phase.name, "seed": self.seed, "batch": self.batch, "rate": self.phase.matrix_rate}

    def trained(self) -> list[str]:
        """Names of what moves. All heads are among them; one that has no gradient only decays."""
        part = {"tower": lambda name: "visual" in name, "decoder": lambda name: "visual" not in name,
                "all": lambda name: True}[self.phase.trains]
        return [name for name in self.flat.names if part(name) or name.startswith("heads.")]

    def rates(self) -> tuple[float, float]:
        """Learning rates of this step: warm-up, then a cosine between the phase's two ends."""
        part = self.step / self.steps
        low, high = self.phase.rate_end, self.phase.rate_start
        level = low + (high - low) * 0.5 * (1 + math.cos(math.pi * part))
        level *= min(1.0, (self.step + 1) / WARM_UP)
        return level * self.phase.matrix_rate, level * self.phase.plain_rate

    def log(self, **facts: Any) -> None:
        facts = {"phase": self.phase.name, "step": self.step, "samples": self.seen,
                 "minutes": round(self.seconds / 60, 2)} | facts
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
        print(json.dumps(facts), flush=True)


def load_weights(lean: Lean, path: Path) -> None:
    """Weights of an earlier phase (.pt, with the heads that it had) or of an exported folder (a warm restart, heads
    anew). Raises ValueError for those of another network."""
    if path.is_dir():
        from transformers import Qwen2_5_VLForConditionalGeneration
        shipped = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
        lean.model.load_state_dict(shipped.state_dict())
    else:
        lacking, unknown = lean.load_state_dict(torch.load(path, weights_only=True), strict=False)
        if strange := [name for name in lacking + unknown if not name.startswith("heads.")]:
            raise ValueError(f"{path} holds another network: {', '.join(strange[:3])} in one of the two alone")


def half_step(run: Run, half: dict[str, Any]) -> dict[str, float]:
    """Forward and backward of a half batch; the losses, as numbers."""
    b = tensors(half)
    if run.preference is not None:
        losses = run.preference(run.lean, b)
        total = losses["preference"]                      # the other is a figure to be told
    else:
        losses = losses_of(run, b)
        total = sum((loss if name == "answer" else run.phase.dense * EVERY_STEP[name] * loss)
                    for name, loss in losses.items())
    total.backward()
    return {name: float(loss.detach()) for name, loss in losses.items()}


def losses_of(run: Run, b: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The losses of what the phase trains: dense targets of the tower, then those of the decoder, and answers."""
    lean, trains, losses = run.lean, run.phase.trains, dict[str, torch.Tensor]()
    with torch.set_grad_enabled(trains != "decoder"):
        features = lean.see(b)
    if run.phase.dense and trains != "decoder":
        losses |= lean.dense(b, features)
    if trains != "tower":
        logits, early = lean.read(b, features)
        losses |= lean.dense_early(b, early) if run.phase.dense else {}
        losses["answer"] = answer_loss(logits, b)
    return losses


def give_back_memory() -> None:
    """Return what is free to the system: with a new shape every step, glibc's heap grows by megabytes a step."""
    with contextlib.suppress(AttributeError, OSError):    # another C library
        ctypes.CDLL(None).malloc_trim(0)


def worker(run: Run, index: int, queue: Any, barrier: Any, look: Any) -> None:
    """Steps until the phase is done. Worker 0 also saves, says and looks at the held-out samples. One that fails breaks
    the barrier, so that the other does not wait for it."""
    try:
        _work(run, index, queue, barrier, look)
    except BaseException:
        barrier.abort()
        raise


def _work(run: Run, index: int, queue: Any, barrier: Any, look: Any) -> None:
    torch.set_num_threads(1)
    network.ROUND = FAST_HALVES
    run.flat.collect_in(index)
    mover = Mover(run.flat, index, run.trained())
    means: dict[str, float] = {}
    saved = looked = time.time()
    while run.step < run.steps:
        begin = time.time()
        half = queue.get(timeout=PATIENCE)
        run.flat.gradients[index].zero_()
        losses = half_step(run, half)
        barrier.wait()
        run.step += 1
        mover.move(run.step, *run.rates())
        barrier.wait()
        run.seen += run.batch
        run.seconds += time.time() - begin
        for name, value in losses.items():
            means[name] = 0.96 * means.get(name, value) + 0.04 * value
        if run.step % SAY_STEPS == 0:
            give_back_memory()
        if index:
            continue
        if run.step % SAY_STEPS == 0:
            run.log(rate=round(run.rates()[0], 5), speed=round(run.batch / (time.time() - begin), 1),
                    **{name: round(value, 4) for name, value in means.items()})
        if time.time() - saved > SAVE_SECONDS:
            run.save()
            saved = time.time()
        if time.time() - looked > LOOK_SECONDS or run.step == run.steps:
            run.log(held_out=look(run.lean))
            looked = time.time()


def train(phase: Phase, folder: Path, start: Path | None = None, steps: int | None = None, batch: int | None = None,
          seed: int = 1) -> Path:
    """Train one phase to its end and write its weights; the path of the weights.

    Killed, it is called again in the same way and goes on from the last checkpoint (at most two minutes are lost).
    """
    from .looking import Look
    torch.set_num_threads(1)
    weights = folder / "weights.pt"
    run = Run(phase, folder, start, steps or phase.steps, batch or phase.batch, seed)
    context = mp.get_context("fork")
    queues = [context.Queue(8) for _ in range(WORKERS)]
    barrier = context.Barrier(WORKERS, timeout=PATIENCE)
    helpers = [context.Process(target=feed, args=(queues, phase, seed, run.steps, run.batch, run.step), daemon=True),
               context.Process(target=worker, args=(run, 1, queues[1], barrier, None), daemon=True)]
    for process in helpers:
        process.start()
    try:
        worker(run, 0, queues[0], barrier, Look(phase))
    finally:
        for process in helpers:
            process.terminate()
    torch.save(run.lean.state_dict(), weights.with_suffix(".part"))
    weights.with_suffix(".part").replace(weights)
    run.save()
    return weights

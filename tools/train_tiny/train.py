"""Training in phases, resumable after a kill at any time.

Two worker processes, each with one thread and half of every batch, share their parameters (`optimiser.py`); a third
draws the data. Everything is a function of the seed and the step, so that a run that was killed goes on as if nothing
had happened: the checkpoint holds parameters, moments, their average and the step, and is replaced as a whole.

On another device (`--device cuda`) one process trains on whole batches with the plain form of the network, and as many
as there are cores draw; the rest is the same code.

Read next: `phases.py`, the recipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import math
import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import fused, layout, network
from .network import Lean, answer_loss, config_for, distance_loss, new_model, tensors
from .optimiser import FAST_HALVES, WORKERS, Flat, Mover
from .packing import Packer, Row, Sample, collate, cost, see
from .phases import Phase, draw
from .preference import Preference
from .tokens import load_tokenizer

POOL, WARM_UP, OLD = 4, 60, 100_000                       # batches drawn and sorted together; steps; many steps
SPAN = 400                                                # steps after which workers are started anew: heaps grow
SAVE_SECONDS, LOOK_SECONDS, SAY_STEPS = 120, 1800, 25
PATIENCE = 900                                            # seconds until a worker takes another for dead
EVERY_STEP = {"kind": 1.0, "colour": 1.0, "outline": 2.0, "glyph": 1.0, "place": 0.4, "line": 0.6, "cell": 0.4,
              "offset": 0.4, "reach": 3.0, "beside": 1.0, "alike": 1.0, "tens": 1.0, "units": 1.0, "event": 1.0,
              "moment": 1.0, "event_colour": 0.3, "event_kind": 0.3}    # weights of the dense losses against each other
ALWAYS = {"answer": 1.0, "distance": 0.1, "named": 0.3, "sought": 0.3, "again": 0.3, "preference": 1.0,
          "gained": 0.0}                                  # losses that no phase scales


# ------------------------------------------------------------------------------------------------- data

def pool(phase: Phase, number: int, seed: int, packer: Packer, batch: int,
         progress: float = 1.0) -> list[tuple[int, list[Row]]]:
    """Pool `number` of a phase: POOL batches of like-sized rows, in the order of the steps. Each comes `phase.again`
    times, with other questions about the same pictures; with its place among the batches."""
    rng = np.random.default_rng([seed, phase.number, number])
    rows = [_questioned(draw(rng, phase, progress), phase, packer) for _ in range(POOL * batch)]
    rows.sort(key=lambda sets: cost(sets[0]) + rng.uniform(0, 40))
    batches = [rows[i:i + batch] for i in range(0, len(rows), batch)]
    order = [int(i) for i in rng.permutation(len(batches))]
    return [(i, [sets[again] for sets in batches[i]]) for again in range(phase.again) for i in order]


def _questioned(sample: Sample, phase: Phase, packer: Packer) -> list[Row]:
    """A row for each set of questions about a sample; the pictures are cut up once."""
    seen = see(sample)
    if phase.trains == "tower":
        return [seen] * phase.again
    sets = [sample.turns[i::phase.again] or sample.turns for i in range(phase.again)]
    return [packer.pack(Sample(sample.clips, turns), seen) for turns in sets]


def halves(phase: Phase, number: int, steps: list[tuple[int, list[Row]]], first: int) -> Iterator[list[dict[str, Any]]]:
    """Steps of a pool from its `first` on, for the two workers. While the tower holds still its pictures are sent with
    the first questions about them alone."""
    sent: set[int] = set()
    for i, rows in steps[first:]:
        parts = [rows[worker::WORKERS] for worker in range(WORKERS)]
        new = phase.trains != "decoder" or i not in sent
        yield [(layout.lay(part) if new else layout.questions(part)) | {"key": (number, i)} for part in parts]
        sent.add(i)


def feed(queues: list[Any], phase: Phase, seed: int, steps: int, batch: int, first: int, stop: int) -> None:
    """The process that draws: from step `first` up to `stop`, a half batch for each worker."""
    _end_with_parent()
    os.nice(1)
    torch.set_num_threads(1)
    packer, each = Packer(load_tokenizer(), phase.time_axis), POOL * phase.again
    for number in range(first // each, -(-stop // each)):
        drawn = pool(phase, number, seed, packer, batch, number * each / steps)
        for both in halves(phase, number, drawn, max(0, first - number * each)):
            for queue, half in zip(queues, both, strict=True):
                queue.put(half)


def feed_whole(queue: Any, phase: Phase, seed: int, steps: int, batch: int, numbers: range) -> None:
    """A process that draws for another device: the pools of these numbers, whole batches in the plain layout."""
    _end_with_parent()
    torch.set_num_threads(1)
    packer, each = Packer(load_tokenizer(), phase.time_axis), POOL * phase.again
    for number in numbers:
        for _, rows in pool(phase, number, seed, packer, batch, number * each / steps):
            queue.put(collate(rows))


# ------------------------------------------------------------------------------------------------- one run

class Run:
    """A phase being trained in a folder: `checkpoint.pt` while it lasts, `weights.pt` when it is done.

    start: weights to begin from (`load_weights`), or the checkpoint.pt of the phase before, whose moments and average
    then go on too.
    """

    def __init__(self, phase: Phase, folder: Path, start: Path | None, steps: int, batch: int, seed: int,
                 device: str | None = None):
        self.phase, self.folder, self.steps, self.batch, self.seed = phase, folder, steps, batch, seed
        self.device, self.halves = device, FAST_HALVES or device not in (None, "cpu")       # products in bfloat16
        self.lean = Lean(new_model(config_for(load_tokenizer()), seed))
        before = None if start is None else load_weights(self.lean, start)
        folder.mkdir(parents=True, exist_ok=True)
        self.lean.to(device or "cpu")
        self.preference = Preference(self.lean) if phase.preference else None
        self.flat = Flat(self.lean, WORKERS if device is None else 1)
        self.since = 0                                    # the step at which the moments began
        if before is not None:
            self.flat.restore(before)
            self.since = -OLD if before["second"].any() else 0            # another machine's stayed behind
        self.step, self.clock = 0, torch.zeros(1, dtype=torch.float64).share_memory_()
        self.looked = torch.full((1,), time.time(), dtype=torch.float64).share_memory_()    # workers come and go
        self.kept: dict[tuple[int, int], Any] = {}        # features of the still tower, of one pool
        if self.checkpoint.exists():
            self._restore()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def seen(self) -> int:
        """Samples so far; one that is asked again counts again."""
        return self.step * self.batch

    @property
    def seconds(self) -> float:
        return float(self.clock)

    def _restore(self) -> None:
        saved = torch.load(self.checkpoint, weights_only=True)
        asked = self.asked()
        if (known := {name: saved.get(name, value) for name, value in asked.items()}) != asked:
            raise ValueError(f"{self.checkpoint} was begun with {known}, and this run asks for {asked}: "
                             "ask for the same, or give another --run")
        self.flat.restore(saved["flat"])
        self.step, self.since = saved["step"], saved["since"]
        self.clock.fill_(saved["seconds"])
        print(f"goes on at step {self.step}", flush=True)

    def save(self) -> None:
        """Replace the checkpoint as a whole: a kill while writing leaves the old one."""
        state = {"flat": self.flat.state(), "step": self.step, "seconds": self.seconds, "since": self.since,
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
        level *= min(1.0, (self.step - self.since + 1) / WARM_UP)
        return level * self.phase.matrix_rate, level * self.phase.plain_rate

    def log(self, **facts: Any) -> None:
        facts = {"phase": self.phase.name, "step": self.step, "samples": self.seen,
                 "minutes": round(self.seconds / 60, 2)} | facts
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
        print(json.dumps(facts), flush=True)


def load_weights(lean: Lean, path: Path) -> dict[str, torch.Tensor] | None:
    """Weights of an earlier phase (.pt, with the heads that it had) or of an exported folder (a warm restart, heads
    anew). Of a checkpoint in training: what `Flat.restore` takes. Raises ValueError for those of another network."""
    if path.is_dir():
        from transformers import Qwen2_5_VLForConditionalGeneration
        shipped = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
        lean.model.load_state_dict(shipped.state_dict())
        return None
    state = torch.load(path, weights_only=True)
    if "flat" in state:
        return state["flat"]
    network.fill(lean, state, path)
    return None


def half_step(run: Run, half: dict[str, Any]) -> dict[str, float]:
    """Forward and backward of a half batch in the layout of the network's own functions; the losses, as numbers."""
    lean, b = run.lean, fused.tensors(half, run.lean)
    if run.phase.trains == "decoder":
        b, features = _features_kept(run, b)
    else:
        features = fused.see(lean, b)
    return _backward(run, b, features, fused.read)


def _features_kept(run: Run, b: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    """What the still tower says of a batch's pictures, looked at once for all questions of a pool."""
    number, i = b["key"]
    if "frames" in b:
        run.kept = {key: value for key, value in run.kept.items() if key[0] == number}
        with torch.no_grad():
            run.kept[number, i] = {name: b[name] for name in layout.SEEN}, fused.see(run.lean, b)
    pictures, features = run.kept[number, i]
    return pictures | b, features


def whole_step(run: Run, batch: dict[str, Any]) -> dict[str, float]:
    """The same of a whole batch on another device, by the plain form."""
    b = tensors(batch, run.device)
    with torch.set_grad_enabled(run.phase.trains != "decoder"):
        features = run.lean.see(b)
    return _backward(run, b, features, Lean.read)


def _backward(run: Run, b: dict[str, Any], features: torch.Tensor, read: Callable) -> dict[str, float]:
    if run.preference is not None:
        losses = run.preference(run.lean, b, features, read)
    else:
        losses = losses_of(run, b, features, read)
    total = sum(ALWAYS.get(name, run.phase.dense * EVERY_STEP.get(name, 0.0)) * loss for name, loss in losses.items())
    total.backward()                                      # type: ignore[union-attr]
    return {name: float(loss.detach()) for name, loss in losses.items()}


def losses_of(run: Run, b: dict[str, Any], features: torch.Tensor, read: Callable) -> dict[str, torch.Tensor]:
    """The losses of what the phase trains: dense targets of the tower, then those of the decoder, and answers. read:
    `Lean.read` or `fused.read`."""
    lean, trains, losses = run.lean, run.phase.trains, dict[str, torch.Tensor]()
    if run.phase.dense and trains != "decoder":
        losses |= lean.dense(b, features)
    if trains != "tower":
        logits, left = read(lean, b, features)
        losses |= lean.dense_early(b, left) if run.phase.dense else {}
        losses |= {"answer": answer_loss(logits, b), "distance": distance_loss(logits, b)} | lean.looks(b, left)
    return losses


def check(run: Run, worker: int) -> None:
    """Raises FloatingPointError for a gradient that is not finite, before it reaches weights and checkpoint."""
    if not math.isfinite(float(run.flat.gradients[worker].sum())):
        raise FloatingPointError(f"every gradient must be finite, and one of step {run.step + 1} is not: the "
                                 f"checkpoint in {run.folder} is of before; mend the cause and go on from it")


def give_back_memory() -> None:
    """Return what is free to the system: with a new shape every step, glibc's heap grows by megabytes a step."""
    with contextlib.suppress(AttributeError, OSError):    # another C library
        ctypes.CDLL(None).malloc_trim(0)


class Teller:
    """What one worker does beside the steps: it says how it goes, saves, and looks at held-out samples. later: samples
    of the phases after this one."""

    def __init__(self, run: Run, look: Any, later: float):
        self.run, self.look, self.later, self.means = run, look, later, dict[str, float]()
        self.saved = self.said = time.time()

    def after(self, losses: dict[str, float]) -> None:
        """After every step."""
        run = self.run
        for name, value in losses.items():
            self.means[name] = 0.96 * self.means.get(name, value) + 0.04 * value
        if run.step % SAY_STEPS == 0:
            speed = SAY_STEPS * run.batch / (time.time() - self.said)
            run.log(rate=round(run.rates()[0], 5), speed=round(speed, 1),
                    hours_left=round(((run.steps - run.step) * run.batch + self.later) / speed / 3600, 2),
                    **{name: round(value, 4) for name, value in self.means.items()})
            self.said = time.time()
        if time.time() - self.saved > SAVE_SECONDS:
            run.save()
            self.saved = time.time()
        if time.time() - float(run.looked) > LOOK_SECONDS or run.step == run.steps:
            run.log(held_out=self.look(run.flat.state_of_average()))
            self.said = time.time()
            run.looked.fill_(self.said)


def worker(run: Run, index: int, stop: int, queue: Any, barrier: Any, teller: Teller | None) -> None:
    """Steps up to `stop`. One that fails breaks the barrier, so that the other does not wait for it."""
    _end_with_parent()
    try:
        _work(run, index, stop, queue, barrier, teller)
    except BaseException:
        barrier.abort()
        raise


def _end_with_parent() -> None:
    """A run that was killed leaves no process behind that would train or draw on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def _work(run: Run, index: int, stop: int, queue: Any, barrier: Any, teller: Teller | None) -> None:
    torch.set_num_threads(1)
    network.ROUND = run.halves
    run.flat.collect_in(index)
    mover = Mover(run.flat, index, run.trained(), run.halves)
    while run.step < stop:
        begin = time.time()
        half = queue.get(timeout=PATIENCE)
        run.flat.gradients[index].zero_()
        losses = half_step(run, half)
        check(run, index)
        barrier.wait()
        run.step += 1
        mover.move(run.step, run.since, *run.rates())
        barrier.wait()
        if run.step % SAY_STEPS == 0:
            give_back_memory()
        if teller is not None:
            run.clock += time.time() - begin
            teller.after(losses)


def _span(run: Run, stop: int, teller: Teller) -> None:
    """The steps up to `stop` in processes of their own."""
    context = mp.get_context("fork")
    queues = [context.Queue(8) for _ in range(WORKERS)]
    barrier = context.Barrier(WORKERS, timeout=PATIENCE)
    feeder = context.Process(target=feed, daemon=True,
                             args=(queues, run.phase, run.seed, run.steps, run.batch, run.step, stop))
    workers = [context.Process(target=worker, daemon=True,
                               args=(run, i, stop, queues[i], barrier, None if i else teller))
               for i in range(WORKERS)]
    try:
        for process in (feeder, *workers):
            process.start()
        for process in workers:
            process.join()
    finally:
        for process in (feeder, *workers):
            process.terminate()
    if any(process.exitcode for process in workers):
        raise RuntimeError(f"a worker of phase {run.phase.name} failed after step {run.step}: see above")
    run.step = stop


def _alone(run: Run, teller: Teller, drawers: int) -> None:
    """All steps in this process, on the run's device; `drawers` processes draw."""
    context, each = mp.get_context("fork"), POOL * run.phase.again
    first = run.step // each
    queues = [context.Queue(2 * each) for _ in range(drawers)]
    helpers = [context.Process(target=feed_whole, daemon=True, args=(
        queue, run.phase, run.seed, run.steps, run.batch, range(first + i, -(-run.steps // each), drawers)))
        for i, queue in enumerate(queues)]
    order = (queue for queue in itertools.cycle(queues) for _ in range(each))
    try:
        for process in helpers:
            process.start()
        for _ in range(run.step - first * each):          # of a pool that a kill broke off
            next(order).get(timeout=PATIENCE)
        _whole_steps(run, teller, order)
    finally:
        for process in helpers:
            process.terminate()


def _whole_steps(run: Run, teller: Teller, order: Iterator[Any]) -> None:
    """The steps that are left, on batches from these queues in turn."""
    network.ROUND = run.halves
    run.flat.collect_in(0)
    mover = Mover(run.flat, 0, run.trained(), run.halves)
    while run.step < run.steps:
        begin, batch = time.time(), next(order).get(timeout=PATIENCE)
        run.flat.gradients[0].zero_()
        losses = whole_step(run, batch)
        check(run, 0)
        run.step += 1
        mover.move(run.step, run.since, *run.rates())
        run.clock += time.time() - begin
        teller.after(losses)


def train(phase: Phase, folder: Path, start: Path | None = None, steps: int | None = None, batch: int | None = None,
          seed: int = 1, device: str | None = None, later: float = 0.0) -> Path:
    """Train one phase to its end and write its weights, the average of the last steps; the path of the weights.

    Killed, it is called again in the same way and goes on from the last checkpoint (at most two minutes are lost).
    device: None for two processes on the CPU; "cuda", or "cpu" for a test, for one process with the plain network.
    later: samples that are still to come after this phase, for the hours left.
    """
    from .looking import Look
    torch.set_num_threads(1)
    weights = folder / "weights.pt"
    run = Run(phase, folder, start, steps or phase.steps, batch or phase.batch, seed, device)
    teller = Teller(run, Look(phase, device), later)
    if device is not None and run.step < run.steps:
        _alone(run, teller, os.cpu_count() or 1)
    while run.step < run.steps:
        _span(run, min(run.steps, run.step + SPAN), teller)
    torch.save(run.flat.state_of_average(), weights.with_suffix(".part"))
    weights.with_suffix(".part").replace(weights)
    run.save()
    return weights

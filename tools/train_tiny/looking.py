"""A look at held-out samples while training: cheap, teacher-forced, the same samples every time.

A whole answer counts as right when each of its tokens is the most likely one after the true tokens before it, which for
greedy decoding is the same as writing it. The evaluation that counts is `evaluate.py`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from . import fused
from .layout import lay
from .network import Lean, config_for, new_model, tensors
from .packing import Packer, collate, cost, see
from .phases import Phase, draw
from .tokens import load_tokenizer

SAMPLES, BATCH, HELD_OUT = 320, 32, 987_654_321


class Look:
    """Draws its samples at the first look and keeps them; has a network of its own for the weights it is given.
    device: where the plain form looks; None for the own functions on the CPU."""

    def __init__(self, phase: Phase, device: str | None = None):
        self.phase, self.device, self.batches = phase, device, list[dict[str, Any]]()
        self.lean = Lean(new_model(config_for(load_tokenizer()), 0)).to(device or "cpu")
        self.see, self.read = (fused.see, fused.read) if device is None else (Lean.see, Lean.read)

    def _draw(self) -> None:
        packer, rng = Packer(load_tokenizer(), self.phase.time_axis), np.random.default_rng(HELD_OUT)
        phase = replace(self.phase, preference=False)
        make = see if phase.trains == "tower" else packer.pack
        rows = sorted((make(draw(rng, phase)) for _ in range(SAMPLES)), key=cost)
        lay_out = lay if self.device is None else collate
        self.batches = [lay_out(rows[i:i + BATCH]) for i in range(0, len(rows), BATCH)]

    def _tensors(self, batch: dict[str, Any]) -> dict[str, Any]:
        return fused.tensors(batch, self.lean) if self.device is None else tensors(batch, self.device)

    @torch.no_grad()
    def __call__(self, weights: dict[str, torch.Tensor]) -> dict[str, float]:
        """Losses of a tower's phase, or shares of answers that are exactly right, task by task."""
        lean = self.lean
        lean.load_state_dict(weights)
        if not self.batches:
            self._draw()
        if self.phase.trains == "tower":
            parts = [self._dense(self._tensors(batch)) for batch in self.batches]
            return {name: round(float(np.mean([part[name] for part in parts])), 4) for name in parts[0]}
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for batch in self.batches:
            b = self._tensors(batch)
            right = self.read(lean, b, self.see(lean, b))[0].argmax(dim=-1) == b["target"]
            for number, task in enumerate(b["tasks"]):
                counts[task][0] += bool(right[b["answer"] == number].all())
                counts[task][1] += 1
        return {task: round(good / all_, 3) for task, (good, all_) in sorted(counts.items())}

    def _dense(self, b: dict[str, Any]) -> dict[str, float]:
        return {name: float(loss) for name, loss in self.lean.dense(b, self.see(self.lean, b)).items()}

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

from .network import Lean, tensors
from .packing import Packer, collate, cost, see
from .phases import Phase, draw
from .tokens import load_tokenizer

SAMPLES, BATCH, HELD_OUT = 320, 32, 987_654_321


class Look:
    """Draws its samples at the first look and keeps them."""

    def __init__(self, phase: Phase):
        self.phase, self.batches = phase, list[dict[str, Any]]()

    def _draw(self) -> None:
        packer, rng = Packer(load_tokenizer(), self.phase.time_axis), np.random.default_rng(HELD_OUT)
        phase = replace(self.phase, preference=False)
        make = see if phase.trains == "tower" else packer.pack
        rows = sorted((make(draw(rng, phase)) for _ in range(SAMPLES)), key=cost)
        self.batches = [collate(rows[i:i + BATCH]) for i in range(0, len(rows), BATCH)]

    @torch.no_grad()
    def __call__(self, lean: Lean) -> dict[str, float]:
        if not self.batches:
            self._draw()
        if self.phase.trains == "tower":
            parts = [self._dense(lean, tensors(batch)) for batch in self.batches]
            return {name: round(float(np.mean([part[name] for part in parts])), 4) for name in parts[0]}
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for batch in self.batches:
            b = tensors(batch)
            right = lean.read(b, lean.see(b))[0].argmax(dim=-1) == b["target"]
            for number, task in enumerate(b["tasks"]):
                counts[task][0] += bool(right[b["answer"] == number].all())
                counts[task][1] += 1
        return {task: round(good / all_, 3) for task, (good, all_) in sorted(counts.items())}

    @staticmethod
    def _dense(lean: Lean, b: dict[str, Any]) -> dict[str, float]:
        return {name: float(loss) for name, loss in lean.dense(b, lean.see(b)).items()}

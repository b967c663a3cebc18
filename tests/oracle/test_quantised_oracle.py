"""Every quantised format against transformers on the dequantised numbers: the scores of a prompt with a picture are no
further from the float64 golden value than the reference's own in float32, and greedy answers are the same tokens.

The reference never sees the quantised file: its weights are what the package `gguf` reads, or what an independent
packer of AWQ put in (`tests/checkpoint/quantised_files.py`), saved as a plain float32 checkpoint.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minivl
from tests.checkpoint import quantised_files as files

from .comparison import SHARE
from .reference import Inputs, golden, greedy, logits, positions, reference

FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "awq")
STEPS = 6
NOISE = np.random.default_rng(3).integers(0, 256, (70, 110, 3), np.uint8)
QUESTION = [{"role": "user", "content": [{"type": "image", "image": NOISE}, {"type": "text", "text": "Two red?"}]}]


@pytest.mark.parametrize("format", [
    one if one in ("Q4_K", "Q6_K", "awq") else pytest.param(one, marks=pytest.mark.full) for one in FORMATS])
@pytest.mark.parametrize("kernels", ["definition", pytest.param("jit", marks=pytest.mark.full)])
def test_scores_and_answers_are_the_references(format, kernels, tmp_path):
    if format != "awq":
        pytest.importorskip("gguf", reason="the package gguf is not installed")
    source = tmp_path / "source"
    made = files.awq_folder(source) if format == "awq" else files.gguf_pair(source, format)
    plain = files.plain(tmp_path / "plain", made)
    model, exact = reference(plain, torch.float32), golden(plain)
    with minivl.load(source, kernels=kernels) as vlm:
        inputs = vlm.prepare(QUESTION)
        place = positions(model, inputs)
        ours, theirs, right = vlm.logits(inputs), logits(model, inputs, place), logits(exact, inputs, place)
        ours, theirs = (np.linalg.norm(one - right) / np.linalg.norm(right) for one in (ours, theirs))
        assert 0 < ours < max(SHARE * theirs, 1e-6), (ours, theirs)
        answer = vlm.generate(inputs, STEPS, repetition_penalty=1.0)
        given = Inputs(inputs.input_ids, inputs.pixel_values, inputs.image_grid_thw)
        assert answer == greedy(model, given, STEPS)

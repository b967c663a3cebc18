"""The reference's side of every comparison: transformers' Qwen2.5-VL, and what tests need of it besides.

    folder = make_checkpoint(config, seed, folder)       a random model of healthy signal scale, official layout
    model  = reference(folder, torch.bfloat16)           the reference as it is shipped, in any precision
    exact  = golden(folder)                              the same model in true float64: the value both are judged by
    taps(model, inputs, positions(model, inputs))        label -> what the reference has there, minivl's row order

What it is not: no number here or in `minivl.truth.trace.oracle`, where the reference is listened to, is computed by
minivl, so that no expected value comes from the code under test.

Read next: `strategies.py` (what is drawn), `test_golden_float64.py` (why this file is to be believed).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging

from minivl.truth.trace.oracle import golden, logits, positions, reference, running, taps, token_types

__all__ = ["Inputs", "extended", "golden", "greedy", "logits", "make_checkpoint", "positions", "reference", "taps",
           "token_types"]

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()

Module = Any                             # torch.nn.Module, whose attributes have no types of their own


@dataclass(frozen=True)
class Inputs:
    """One prompt under the reference's names; what is absent is None. Pixels are float32, grids and ids int64."""
    input_ids: np.ndarray                                # s
    pixel_values: np.ndarray | None = None               # n 1176, pictures only
    image_grid_thw: np.ndarray | None = None             # i 3
    pixel_values_videos: np.ndarray | None = None
    video_grid_thw: np.ndarray | None = None
    second_per_grid_ts: np.ndarray | None = None         # seconds per pair of frames, one a video, float32


# Checkpoints and models

def make_checkpoint(config: dict, seed: int, folder: Path, dtype: torch.dtype = torch.float32,
                    flat: bool = False) -> Path:
    """A random checkpoint in the official layout, written by the reference; `flat`: config.json as the hub has it.

    Weights N(0, 1/fan_in), biases N(0, 0.05^2), norms 1 + 0.1 N: each stage's rms stays near 1. The reference's own
    start (N(0, 0.02^2), biases 0, norms 1) would leave forgotten biases and norm weights without any effect.
    """
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(_healthy(name, weight, config["tie_word_embeddings"], generator))
    model.tie_weights()
    model.to(dtype).save_pretrained(folder)
    if flat:
        _flatten(folder / "config.json")
    return folder


def _healthy(name: str, weight: torch.Tensor, tied: bool, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(weight.shape, generator=generator)
    if "norm" in name or "ln_q" in name:
        return 1 + 0.1 * noise
    if name.endswith("bias"):
        return 0.05 * noise
    if "embed_tokens" in name and not tied:              # a lookup has no fan-in; a tied one is the head's too
        return noise
    return noise / (weight.numel() / weight.shape[0]) ** 0.5


def _flatten(path: Path) -> None:
    """Rewrite a nested config.json in the hub's form: the decoder's keys at the top, `rope_scaling`, `in_chans`."""
    nested = json.loads(path.read_text(encoding="utf-8"))
    text = nested.pop("text_config")
    rope = text.pop("rope_parameters")
    vision = nested["vision_config"]
    vision["in_chans"] = vision.pop("in_channels")
    vision.pop("rope_parameters", None)
    flat = {**{k: v for k, v in text.items() if k not in ("model_type", "layer_types")}, **nested,
            "rope_theta": rope["rope_theta"],
            "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    path.write_text(json.dumps(flat, indent=1), encoding="utf-8")


# Greedy decoding

def greedy(model: Module, inputs: Any, steps: int, repetition_penalty: float = 1.0) -> list[int]:
    """transformers' own `generate`, greedy: the new tokens. A stop token ends it and is the last of them."""
    given = {name: torch.tensor(np.asarray(value)) for name in Inputs.__dataclass_fields__
             if name != "input_ids" and (value := getattr(inputs, name)) is not None}
    ids = torch.tensor(inputs.input_ids)[None]
    with running(model):
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **given, do_sample=False,
                             mm_token_type_ids=torch.tensor(token_types(model, inputs.input_ids))[None],
                             max_new_tokens=steps, repetition_penalty=repetition_penalty)
    return out[0, ids.shape[1]:].tolist()


def extended(inputs: Any, tokens: list[int]) -> Inputs:
    """The same prompt with generated tokens at its end."""
    names = Inputs.__dataclass_fields__
    base = Inputs(**{name: getattr(inputs, name) for name in names})
    return replace(base, input_ids=np.concatenate([base.input_ids, np.asarray(tokens, np.int64)]))

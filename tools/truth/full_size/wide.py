"""transformers in float32 on a checkpoint of bf16, in little more than the checkpoint's memory.

Each block is widened while it runs and is narrow again behind it. A bf16 number is the same number in
float32, so this is the model that `from_pretrained(dtype=float32)` gives, to the bit; tests hold that.
Read next: `sides.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from minivl.truth.trace.oracle import reference

Module = Any


def float32_by_blocks(folder: Path) -> Module:
    """The reference in float32, whose weights are in memory as bf16."""
    model = reference(folder, torch.bfloat16)
    large = [*model.model.visual.blocks, *model.model.language_model.layers, model.lm_head]
    inside = {id(part) for one in large for part in one.modules()} | {
        id(model.model.language_model.embed_tokens)
    }
    for part in model.modules():
        if id(part) not in inside:
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.float()
    model.model.language_model.embed_tokens.register_forward_hook(
        lambda module, args, rows: rows.float()
    )
    for one in large:
        _widened_while_it_runs(one)
    return model


def _widened_while_it_runs(block: Module) -> None:
    narrow: list[torch.Tensor] = []

    def widen(module: Module, args: Any) -> None:
        narrow[:] = [parameter.data for parameter in module.parameters()]
        for parameter in module.parameters():
            parameter.data = parameter.data.float()

    def restore(module: Module, args: Any, output: Any) -> None:
        for parameter, stored in zip(module.parameters(), narrow, strict=True):
            parameter.data = stored
        narrow.clear()

    block.register_forward_pre_hook(widen)
    block.register_forward_hook(restore)

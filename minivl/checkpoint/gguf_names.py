"""What llama.cpp's files call the tensors of this model: one table, beside that of `names.py`.

Each row gives a tensor by its hub's name and those of the file that fill it. Two things of the model are
cut in the file: q, k and v of the tower, and its kernel of two frames. The decoder of a text model of
Llama's architecture is this one with biases of zero, and its q and k are in another order: llama.cpp
turns neighbours (2i, 2i + 1) where this model turns (i, i + half), and its converter reorders their rows
for that (`LlamaModel.permute`); those of the architectures `qwen2` and `qwen2vl` stay as they are.

Checked against the tables of the package `gguf` by the tests; what the converter does besides is its
public source, `conversion/qwenvl.py` and `conversion/llama.py` of github.com/ggml-org/llama.cpp.
Read next: `gguf_model.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..config import ModelConfig
from .names import BLOCK, LAYER
from .tree import Weight
from .weight import Blank, Interleaved, Joined, Reordered

LANGUAGE: dict[str, tuple[str, ...]] = {
    "model.embed_tokens.weight": ("token_embd.weight",),
    LAYER + "input_layernorm.weight": ("blk.*.attn_norm.weight",),
    LAYER + "self_attn.q_proj.weight": ("blk.*.attn_q.weight",),
    LAYER + "self_attn.k_proj.weight": ("blk.*.attn_k.weight",),
    LAYER + "self_attn.v_proj.weight": ("blk.*.attn_v.weight",),
    LAYER + "self_attn.q_proj.bias": ("blk.*.attn_q.bias",),
    LAYER + "self_attn.k_proj.bias": ("blk.*.attn_k.bias",),
    LAYER + "self_attn.v_proj.bias": ("blk.*.attn_v.bias",),
    LAYER + "self_attn.o_proj.weight": ("blk.*.attn_output.weight",),
    LAYER + "post_attention_layernorm.weight": ("blk.*.ffn_norm.weight",),
    LAYER + "mlp.gate_proj.weight": ("blk.*.ffn_gate.weight",),
    LAYER + "mlp.up_proj.weight": ("blk.*.ffn_up.weight",),
    LAYER + "mlp.down_proj.weight": ("blk.*.ffn_down.weight",),
    "model.norm.weight": ("output_norm.weight",),
    "lm_head.weight": ("output.weight",),                # a tied model has none
}
TOWER: dict[str, tuple[str, ...]] = {
    "visual.patch_embed.proj.weight": ("v.patch_embd.weight", "v.patch_embd.weight.1"),
    BLOCK + "norm1.weight": ("v.blk.*.ln1.weight",),
    BLOCK + "attn.qkv.weight": ("v.blk.*.attn_q.weight", "v.blk.*.attn_k.weight", "v.blk.*.attn_v.weight"),
    BLOCK + "attn.qkv.bias": ("v.blk.*.attn_q.bias", "v.blk.*.attn_k.bias", "v.blk.*.attn_v.bias"),
    BLOCK + "attn.proj.weight": ("v.blk.*.attn_out.weight",),
    BLOCK + "attn.proj.bias": ("v.blk.*.attn_out.bias",),
    BLOCK + "norm2.weight": ("v.blk.*.ln2.weight",),
    BLOCK + "mlp.gate_proj.weight": ("v.blk.*.ffn_gate.weight",),
    BLOCK + "mlp.gate_proj.bias": ("v.blk.*.ffn_gate.bias",),
    BLOCK + "mlp.up_proj.weight": ("v.blk.*.ffn_up.weight",),
    BLOCK + "mlp.up_proj.bias": ("v.blk.*.ffn_up.bias",),
    BLOCK + "mlp.down_proj.weight": ("v.blk.*.ffn_down.weight",),
    BLOCK + "mlp.down_proj.bias": ("v.blk.*.ffn_down.bias",),
    "visual.merger.ln_q.weight": ("v.post_ln.weight",),
    "visual.merger.mlp.0.weight": ("mm.0.weight",),
    "visual.merger.mlp.0.bias": ("mm.0.bias",),
    "visual.merger.mlp.2.weight": ("mm.2.weight",),
    "visual.merger.mlp.2.bias": ("mm.2.bias",),
}
EMBEDDING, HEAD, FRAMES = "token_embd.weight", "output.weight", 2    # FRAMES: the axis of a patch's frames


class Architecture(NamedTuple):
    """How a file of an architecture departs from this model: biased: whether q, k and v have biases;
    turned: whether rows of q and k are in llama.cpp's order; sections: whether it says MRoPE's"""
    biased: bool
    turned: bool
    sections: bool


ARCHITECTURES = {"qwen2vl": Architecture(True, False, True), "qwen2": Architecture(True, False, False),
                 "llama": Architecture(False, True, False)}


def hub_tensors(tensors: Mapping[str, Weight], config: ModelConfig,
                architecture: Architecture) -> dict[str, Weight]:
    """The tensors of a language model's file, and of its tower's, by the hub's names. What the table
    does not know keeps its name, for the audit to find."""
    rest, found = dict(tensors), {}
    for name, parts in rows(config):
        if all(part in rest for part in parts):
            found[name] = made(name, [rest.pop(part) for part in parts], config, architecture)
        elif name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")) and not architecture.biased:
            heads = config.text.heads if name.endswith("q_proj.bias") else config.text.kv_heads
            found[name] = Blank((heads * config.text.head_dim,), "f32")
    return found | rest


def rows(config: ModelConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The table for one model: each tensor of the hub with those of the file."""
    for table, count in ((LANGUAGE, config.text.num_hidden_layers), (TOWER, config.vision.depth)):
        for name, parts in table.items():
            for i in range(count if "*" in name else 1):
                yield name.replace("*", str(i)), tuple(part.replace("*", str(i)) for part in parts)


def made(name: str, parts: list[Weight], config: ModelConfig, architecture: Architecture) -> Weight:
    """One tensor of the hub out of the file's."""
    if len(parts) == 2:
        return Interleaved(parts, FRAMES)
    if len(parts) > 1:
        return Joined(parts)
    text, (part,) = config.text, parts
    heads = text.heads if ".q_proj." in name else text.kv_heads if ".k_proj." in name else 0
    turned = heads and architecture.turned and part.shape[0] == heads * text.head_dim
    return Reordered(part, halves_apart(heads, text.head_dim)) if turned else part


def halves_apart(heads: int, width: int) -> np.ndarray:
    """Where the rows of q or k lie that a converter put beside their partners: row i of the first half
    of a head is at 2i, of the second at 2i + 1."""
    return np.arange(heads * width).reshape(heads, width // 2, 2).transpose(0, 2, 1).reshape(-1)

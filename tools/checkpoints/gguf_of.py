"""A checkpoint's decoder as a GGUF file, the format that llama.cpp and OpenVINO read: for tests and benchmarks
that ask the real bindings.

    write(minivl.load(), tmp_path / "decoder.gguf")          # float32; needs the package `gguf`

Names of tensors and of metadata are those of llama.cpp's architecture `qwen2vl`; OpenVINO knows `qwen2`, which is
the same for text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from minivl import VLM

NORMAL, CONTROL, UNUSED = 1, 3, 5                        # types of tokens in the format


def write(vlm: VLM, path: Path, architecture: str = "qwen2vl", halves: bool = False) -> None:
    """The decoder, its head tied to the embedding, and the vocabulary. halves: matrices in float16."""
    import gguf
    out, config = gguf.GGUFWriter(str(path), architecture), vlm.config.text
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if halves else gguf.LlamaFileType.ALL_F32)
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_freq_base(config.rope_theta)
    if architecture == "qwen2vl":
        out.add_rope_dimension_sections([*config.mrope_section, 0])
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    _vocabulary(out, vlm.folder, config.vocab_size)
    for name, array in tensors(vlm).items():
        out.add_tensor(name, np.ascontiguousarray(array, np.float16 if halves and array.ndim == 2 else np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def tensors(vlm: VLM) -> dict[str, np.ndarray]:
    """All weights of the decoder under llama.cpp's names."""
    decoder = vlm.weights.decoder
    found = {"token_embd.weight": decoder.embed, "output_norm.weight": decoder.norm.weight}
    for number, layer in enumerate(decoder.layers):
        found |= {f"blk.{number}.{name}": array for name, array in _layer(layer, vlm.config.text).items()}
    return {name: array if isinstance(array, np.ndarray) else array.dense(np.float32)
            for name, array in found.items()}


def _layer(layer, config) -> dict[str, Any]:
    """The weights of one layer; what minivl keeps joined is cut again."""
    width = config.hidden_size // config.num_attention_heads
    heads = np.cumsum([config.num_attention_heads, config.num_key_value_heads]) * width
    weight, bias = (np.split(one.dense(np.float32), heads) for one in layer.qkv)
    gate, up = np.split(layer.mlp.gate_up[0].dense(np.float32), 2)
    return {"attn_norm.weight": layer.norm1.weight, "ffn_norm.weight": layer.norm2.weight,
            **{f"attn_{name}.weight": part for name, part in zip("qkv", weight, strict=True)},
            **{f"attn_{name}.bias": part for name, part in zip("qkv", bias, strict=True)},
            "attn_output.weight": layer.out[0], "ffn_gate.weight": gate, "ffn_up.weight": up,
            "ffn_down.weight": layer.mlp.down[0]}


def _vocabulary(out, folder: Path, size: int) -> None:
    """Words, their kinds and merges, from the one file of the tokenizer that every checkpoint has."""
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {one["content"]: one["id"] for one in whole["added_tokens"]}
    words, kinds = [f"[unused {i}]" for i in range(size)], [UNUSED] * size
    for kind, known in ((NORMAL, whole["model"]["vocab"]), (CONTROL, added)):
        for word, number in known.items():
            words[number], kinds[number] = word, kind
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(words)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_eos_token_id(added["<|im_end|>"])
    out.add_bos_token_id(added["<|endoftext|>"])
    out.add_add_bos_token(False)


FORMATS = {"bf16": "LLAMA_FTYPE_MOSTLY_BF16", "q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
           "q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0", "q4_K_M": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}


def quantised(folder: Path, format: str, architecture: str = "qwen2vl") -> Path:
    """The decoder of the checkpoint in `folder` as GGUF, beside its files; made once. format: one of FORMATS, which
    llama.cpp writes, or f16.

    Needs the package gguf, and llama_cpp but for f16. Raises RuntimeError when llama.cpp refuses.
    """
    name = "decoder" if architecture == "qwen2vl" else architecture
    whole, target = folder / f"{name}-f32.gguf", folder / f"{name}-{format}.gguf"
    if target.exists():
        return target
    if format == "f16":
        return _written(folder, target, architecture, True)
    import ctypes

    import llama_cpp
    if not whole.exists():
        _written(folder, whole, architecture, False)
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, FORMATS[format])
    partial = target.with_suffix(".partial")
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(partial).encode(), ctypes.byref(options)):
        raise RuntimeError(f"llama.cpp could not write {target} as {format}")
    return partial.replace(target)


def _written(folder: Path, target: Path, architecture: str, halves: bool) -> Path:
    """A whole file or none."""
    import minivl
    partial = target.with_suffix(".partial")
    with minivl.load(folder) as vlm:
        write(vlm, partial, architecture, halves)
    return partial.replace(target)

"""A checkpoint's decoder as a GGUF file, the format that llama.cpp reads: for tests that ask the real binding.

    write(minivl.load(), tmp_path / "decoder.gguf")          # float32; needs the package `gguf`

Names of tensors and of metadata are those of llama.cpp's architecture `qwen2vl`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from minivl import VLM

NORMAL, CONTROL, UNUSED = 1, 3, 5                        # types of tokens in the format


def write(vlm: VLM, path: Path) -> None:
    """The decoder, its head tied to the embedding, and the vocabulary."""
    import gguf
    out, config = gguf.GGUFWriter(str(path), "qwen2vl"), vlm.config.text
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_freq_base(config.rope_theta)
    out.add_rope_dimension_sections([*config.mrope_section, 0])
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    _vocabulary(out, vlm.folder, config.vocab_size)
    for name, array in tensors(vlm).items():
        out.add_tensor(name, np.ascontiguousarray(array, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def tensors(vlm: VLM) -> dict[str, np.ndarray]:
    """All weights of the decoder under llama.cpp's names."""
    decoder, config = vlm.weights.decoder, vlm.config.text
    width = config.hidden_size // config.num_attention_heads
    heads = np.cumsum([config.num_attention_heads, config.num_key_value_heads]) * width
    found = {"token_embd.weight": decoder.embed.dense(np.float32),
             "output_norm.weight": decoder.norm.weight.dense(np.float32)}
    for number, layer in enumerate(decoder.layers):
        parts = {"attn_norm": [layer.norm1.weight], "ffn_norm": [layer.norm2.weight], "attn_output": layer.out,
                 "ffn_down": layer.mlp.down}
        for names, joined, at in ((("attn_q", "attn_k", "attn_v"), layer.qkv, heads),
                                  (("ffn_gate", "ffn_up"), layer.mlp.gate_up, [config.intermediate_size])):
            pieces = [np.split(one.dense(np.float32), at) for one in joined if one is not None]
            parts |= dict(zip(names, zip(*pieces, strict=True), strict=True))
        for name, arrays in parts.items():
            for kind, array in zip(("weight", "bias"), arrays, strict=False):
                if array is not None:
                    found[f"blk.{number}.{name}.{kind}"] = array if isinstance(array, np.ndarray) else array.dense(
                        np.float32)
    return found


def _vocabulary(out, folder: Path, size: int) -> None:
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    added = {one["content"]: one["id"] for one in
             json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]}
    words, kinds = [f"[unused {i}]" for i in range(size)], [UNUSED] * size
    for kind, known in ((NORMAL, ids), (CONTROL, added)):
        for word, number in known.items():
            words[number], kinds[number] = word, kind
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(words)
    out.add_token_types(kinds)
    out.add_token_merges([line for line in merges if line and not line.startswith("#version")])
    out.add_eos_token_id(added["<|im_end|>"])
    out.add_bos_token_id(added["<|endoftext|>"])
    out.add_add_bos_token(False)

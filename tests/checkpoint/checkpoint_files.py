"""Small checkpoints for the tests of config and checkpoint reading, written byte by byte and by no code under test.

`CONFIG` is a whole model of two vision blocks and three decoder layers with no two widths alike, so that no swapped
shape can pass unseen. `shapes` spells out its tensors by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np

CONFIG = {
    "model_type": "qwen2_5_vl", "tie_word_embeddings": False, "image_token_id": 20, "video_token_id": 21,
    "vision_start_token_id": 22, "vision_end_token_id": 23, "bos_token_id": 24, "eos_token_id": 25,
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 10, "vocab_size": 29, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "max_position_embeddings": 128, "hidden_act": "silu", "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 1]},
    "vision_config": {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 7, "in_chans": 3,
                      "patch_size": 2, "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 8,
                      "fullatt_block_indexes": [1], "tokens_per_second": 2, "out_hidden_size": 24,
                      "hidden_act": "silu"},
}
PREPROCESSOR = {"min_pixels": 16, "max_pixels": 4096, "patch_size": 2, "temporal_patch_size": 2, "merge_size": 2,
                "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
GENERATION = {"do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.05,
              "eos_token_id": [25, 24], "pad_token_id": 24}


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of CONFIG in the hub's names, in the order of the file."""
    found: dict[str, tuple[int, ...]] = {"visual.patch_embed.proj.weight": (16, 3, 2, 2, 2)}
    for i in range(2):
        found |= {f"visual.blocks.{i}.{name}": shape for name, shape in {
            "norm1.weight": (16,), "norm2.weight": (16,), "attn.qkv.weight": (48, 16), "attn.qkv.bias": (48,),
            "attn.proj.weight": (16, 16), "attn.proj.bias": (16,), "mlp.gate_proj.weight": (7, 16),
            "mlp.gate_proj.bias": (7,), "mlp.up_proj.weight": (7, 16), "mlp.up_proj.bias": (7,),
            "mlp.down_proj.weight": (16, 7), "mlp.down_proj.bias": (16,)}.items()}
    found |= {"visual.merger.ln_q.weight": (16,), "visual.merger.mlp.0.weight": (64, 64),
              "visual.merger.mlp.0.bias": (64,), "visual.merger.mlp.2.weight": (24, 64),
              "visual.merger.mlp.2.bias": (24,), "model.embed_tokens.weight": (29, 24)}
    for i in range(3):
        found |= {f"model.layers.{i}.{name}": shape for name, shape in {
            "input_layernorm.weight": (24,), "post_attention_layernorm.weight": (24,),
            "self_attn.q_proj.weight": (24, 24), "self_attn.q_proj.bias": (24,),
            "self_attn.k_proj.weight": (12, 24), "self_attn.k_proj.bias": (12,),
            "self_attn.v_proj.weight": (12, 24), "self_attn.v_proj.bias": (12,),
            "self_attn.o_proj.weight": (24, 24), "mlp.gate_proj.weight": (10, 24), "mlp.up_proj.weight": (10, 24),
            "mlp.down_proj.weight": (24, 10)}.items()}
    return found | {"model.norm.weight": (24,), "lm_head.weight": (29, 24)}


def tensors(dtype=ml_dtypes.bfloat16, seed: int = 7) -> dict[str, np.ndarray]:
    """Random tensors for CONFIG."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes().items()}


def in_memory_name(name: str) -> str:
    """What the reference calls a tensor in memory."""
    if name.startswith("visual."):
        return "model." + name
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


def header_of(arrays: dict[str, np.ndarray]) -> dict:
    names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32"}
    header, end = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    return header


def pack(header: dict | bytes, data: bytes) -> bytes:
    """The bytes of a .safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8")
    return len(text).to_bytes(8, "little") + text + data


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    return pack(header_of(arrays), b"".join(array.tobytes() for array in arrays.values()))


def as_json(value: dict) -> bytes:
    return json.dumps(value).encode("utf-8")


def single(arrays: dict[str, np.ndarray], config: dict = CONFIG) -> dict[str, bytes]:
    """File name -> bytes of a checkpoint in one file."""
    return {"config.json": as_json(config), "preprocessor_config.json": as_json(PREPROCESSOR),
            "generation_config.json": as_json(GENERATION), "model.safetensors": safetensors(arrays)}


def sharded(arrays: dict[str, np.ndarray], config: dict = CONFIG, count: int = 3) -> dict[str, bytes]:
    """File name -> bytes of a checkpoint in `count` shards with an index."""
    shard = {name: f"model-{n % count + 1:05d}-of-{count:05d}.safetensors" for n, name in enumerate(arrays)}
    files = {file: safetensors({name: arrays[name] for name in arrays if shard[name] == file})
             for file in sorted(set(shard.values()))}
    index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())}, "weight_map": shard}
    rest = {name: data for name, data in single({}, config).items() if name.endswith(".json")}
    return rest | files | {"model.safetensors.index.json": as_json(index)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder

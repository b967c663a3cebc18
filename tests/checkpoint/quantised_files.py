"""Quantised checkpoints for the tests, written by no code under test: .gguf files by the package `gguf`, under the
names that its own tables give, and AWQ folders by the public description of their order.

CONFIG is a whole model whose widths are multiples of 256, a block of llama.cpp's largest kind, and of 128, a group of
AWQ; no two that a transposition could exchange are alike. The tokenizer is the embedded model's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from minivl.api import TINY

VISION = {"depth": 4, "hidden_size": 256, "num_heads": 4, "intermediate_size": 512, "in_chans": 3, "patch_size": 14,
          "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [1, 3],
          "tokens_per_second": 2, "out_hidden_size": 512, "hidden_act": "silu"}
CONFIG = {"model_type": "qwen2_5_vl", "tie_word_embeddings": False, "image_token_id": 630, "video_token_id": 631,
          "vision_start_token_id": 627, "vision_end_token_id": 628, "bos_token_id": 618, "eos_token_id": 620,
          "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
          "intermediate_size": 768, "vocab_size": 640, "rms_norm_eps": 1e-6, "rope_theta": 1000.0,
          "max_position_embeddings": 4096, "hidden_act": "silu", "use_sliding_window": False,
          "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}, "vision_config": VISION}


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of CONFIG in the hub's names."""
    found: dict[str, tuple[int, ...]] = {"visual.patch_embed.proj.weight": (256, 3, 2, 14, 14)}
    for i in range(4):
        found |= {f"visual.blocks.{i}.{name}": shape for name, shape in {
            "norm1.weight": (256,), "norm2.weight": (256,), "attn.qkv.weight": (768, 256), "attn.qkv.bias": (768,),
            "attn.proj.weight": (256, 256), "attn.proj.bias": (256,), "mlp.gate_proj.weight": (512, 256),
            "mlp.gate_proj.bias": (512,), "mlp.up_proj.weight": (512, 256), "mlp.up_proj.bias": (512,),
            "mlp.down_proj.weight": (256, 512), "mlp.down_proj.bias": (256,)}.items()}
    found |= {"visual.merger.ln_q.weight": (256,), "visual.merger.mlp.0.weight": (1024, 1024),
              "visual.merger.mlp.0.bias": (1024,), "visual.merger.mlp.2.weight": (512, 1024),
              "visual.merger.mlp.2.bias": (512,), "model.embed_tokens.weight": (640, 512)}
    for i in range(3):
        found |= {f"model.layers.{i}.{name}": shape for name, shape in {
            "input_layernorm.weight": (512,), "post_attention_layernorm.weight": (512,),
            "self_attn.q_proj.weight": (512, 512), "self_attn.q_proj.bias": (512,),
            "self_attn.k_proj.weight": (128, 512), "self_attn.k_proj.bias": (128,),
            "self_attn.v_proj.weight": (128, 512), "self_attn.v_proj.bias": (128,),
            "self_attn.o_proj.weight": (512, 512), "mlp.gate_proj.weight": (768, 512),
            "mlp.up_proj.weight": (768, 512), "mlp.down_proj.weight": (512, 768)}.items()}
    return found | {"model.norm.weight": (512,), "lm_head.weight": (640, 512)}


def arrays(seed: int = 5) -> dict[str, np.ndarray]:
    """Random float32 tensors that keep signals healthy: N(0, 1/fan_in), biases N(0, 0.05^2), norms 1 + 0.1 N."""
    random = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes().items():
        noise = random.standard_normal(shape).astype(np.float32)
        if "norm" in name or "ln_q" in name:
            found[name] = 1 + np.float32(0.1) * noise
        elif len(shape) == 1:
            found[name] = np.float32(0.05) * noise
        else:
            found[name] = noise * np.float32(np.prod(shape[1:]) ** -0.5)
    return found


# ---- GGUF --------------------------------------------------------------------------------------------------------

def blocks_of(x: np.ndarray, kind: str) -> np.ndarray:
    """Rows (n, k) as blocks (n, bytes) of a type of llama.cpp's, by the plainest rule. Some are packed here, as
    the package has no packer for those of 256 numbers; what they mean is for its reader to say."""
    import gguf
    if kind == "Q8_0":                                       # the package's own rounds digit by digit, and takes long
        groups = x.reshape(-1, 32)
        d = (np.abs(groups).max(-1, keepdims=True) / 127).astype(np.float16)
        numbers = np.rint(groups / d.astype(np.float32)).astype(np.int8)
        return np.concatenate([d.view(np.uint8), numbers.view(np.uint8)], 1).reshape(len(x), -1)
    if not kind.endswith("_K"):
        return gguf.quants.quantize(x, gguf.GGMLQuantizationType[kind])
    groups = x.reshape(-1, 16, 16) if kind == "Q6_K" else x.reshape(-1, 8, 32)
    half = lambda value: value.astype(np.float16).astype(np.float32)                     # noqa: E731
    if kind == "Q6_K":
        scale = np.abs(groups).max(-1) / 31
        d = half(scale.max(-1, keepdims=True) / 127)
        steps = np.clip(np.rint(scale / d), 1, 127)
        numbers = np.clip(np.rint(groups / (d * steps)[..., None]) + 32, 0, 63).astype(np.uint8).reshape(-1, 2, 4, 32)
        low = (numbers[:, :, :2] & 15) | (numbers[:, :, 2:] & 15) << 4
        high = sum((numbers[:, :, i] >> 4) << np.uint8(2 * i) for i in range(4))
        parts = [low.reshape(-1, 128), high.reshape(-1, 64), steps.astype(np.int8).view(np.uint8), d.astype(np.float16)]
        return np.concatenate([part.view(np.uint8) for part in parts], 1).reshape(len(x), -1)
    most = 15 if kind == "Q4_K" else 31
    lowest = np.maximum(-groups.min(-1), 0)
    scale = (groups.max(-1) + lowest) / most
    d, dmin = (half(one.max(-1, keepdims=True) / 63) for one in (scale, lowest))
    steps, least = np.clip(np.rint(scale / d), 1, 63).astype(np.uint8), np.rint(lowest / dmin).astype(np.uint8)
    numbers = np.clip(np.rint((groups + (dmin * least)[..., None]) / (d * steps)[..., None]), 0, most).astype(np.uint8)
    tables = np.concatenate([steps[:, :4] | steps[:, 4:] >> 4 << 6, least[:, :4] | least[:, 4:] >> 4 << 6,
                             steps[:, 4:] & 15 | least[:, 4:] << 4], 1)
    pairs = (numbers & 15).reshape(-1, 4, 2, 32)
    parts = [d.astype(np.float16), dmin.astype(np.float16), tables]
    if kind == "Q5_K":
        parts.append(sum((numbers[:, i] >> 4) << np.uint8(i) for i in range(8)))
    parts.append((pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128))
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], 1).reshape(len(x), -1)


def gguf_pair(folder: Path, kind: str = "Q8_0", tower: str = "F16", seed: int = 5, tied: bool = False,
              write_tower: bool = True) -> dict[str, np.ndarray]:
    """A language model and its tower as .gguf files in a folder; gives its tensors by the hub's names, as the package
    reads what was written."""
    import gguf
    tensors = arrays(seed)
    if tied:
        del tensors["lm_head.weight"]
    read = {name: written(array, kind if not name.startswith("visual") else tower)[1]
            for name, array in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    out = gguf.GGUFWriter(str(folder / f"model-{kind}.gguf"), "qwen2vl")
    language_metadata(out)
    for name, array in tensors.items():
        if not name.startswith("visual"):
            add(out, hub_to_gguf(gguf.MODEL_ARCH.QWEN2VL, name, 3), array, kind)
    finish(out)
    if not write_tower:
        return {name: array for name, array in read.items() if not name.startswith("visual")}
    out = gguf.GGUFWriter(str(folder / f"mmproj-model-{tower}.gguf"), "clip")
    tower_metadata(out)
    for name, array in tensors.items():
        if name.startswith("visual"):
            for part, piece in cut(name, array):
                add(out, part, piece, tower)
    finish(out)
    return read


def written(array: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """An array as the bytes of a type, and as the package reads these. Vectors and what has no whole blocks stay
    float32 or become float16, as llama.cpp keeps them."""
    import gguf
    if array.ndim == 1 or kind == "F32":
        return array, array
    if kind == "F16" or array.shape[-1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]:
        return array.astype(np.float16), array.astype(np.float16).astype(np.float32)
    raw = blocks_of(array, kind)
    return raw, gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind]).reshape(array.shape)


def add(out, name: str, array: np.ndarray, kind: str) -> None:
    import gguf
    raw, _ = written(array, kind)
    if raw.dtype == np.uint8:
        out.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    else:
        out.add_tensor(name, np.ascontiguousarray(raw))


def finish(out) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def hub_to_gguf(arch, name: str, layers: int) -> str:
    """What the package calls a tensor of the hub."""
    import gguf
    found = gguf.get_tensor_name_map(arch, layers).get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return found


def cut(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A tensor of the tower as the converter cuts it: q, k and v apart, and a kernel for each of two frames."""
    import gguf
    if "patch_embed" in name:
        return [("v.patch_embd.weight", array[:, :, 0]), ("v.patch_embd.weight.1", array[:, :, 1])]
    parts = zip("qkv", np.split(array, 3), strict=True) if ".qkv." in name else [("qkv", array)]
    return [(hub_to_gguf(gguf.MODEL_ARCH.MMPROJ, name.replace("qkv", part), 4), piece) for part, piece in parts]


def language_metadata(out, config: dict = CONFIG, sections: bool = True) -> None:
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if sections:
        out.add_rope_dimension_sections([*config["rope_scaling"]["mrope_section"], 0])
    vocabulary(out, config["vocab_size"])


def vocabulary(out, size: int) -> None:
    """The embedded model's tokenizer as metadata."""
    import gguf
    file = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    words, kinds = [f"[PAD{i}]" for i in range(size)], [gguf.TokenType.UNUSED] * size
    for word, number in file["model"]["vocab"].items():
        words[number], kinds[number] = word, gguf.TokenType.NORMAL
    for one in file["added_tokens"]:
        kind = gguf.TokenType.CONTROL if one["special"] else gguf.TokenType.USER_DEFINED
        words[one["id"]], kinds[one["id"]] = one["content"], kind
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(words)
    out.add_token_types(kinds)
    out.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in file["model"]["merges"]])
    out.add_eos_token_id(CONFIG["eos_token_id"])
    out.add_bos_token_id(CONFIG["bos_token_id"])
    out.add_add_bos_token(False)
    out.add_chat_template(json.loads((TINY / "chat_template.json").read_text(encoding="utf-8"))["chat_template"])


def tower_metadata(out) -> None:
    out.add_clip_has_vision_encoder(True)
    out.add_clip_projector_type("qwen2.5vl_merger")
    out.add_vision_use_silu(True)
    out.add_vision_n_wa_pattern(2)
    out.add_vision_attention_layernorm_eps(1e-6)
    out.add_vision_image_size(560)
    out.add_vision_patch_size(14)
    out.add_vision_embedding_length(VISION["hidden_size"])
    out.add_vision_feed_forward_length(VISION["intermediate_size"])
    out.add_vision_projection_dim(VISION["out_hidden_size"])
    out.add_vision_block_count(VISION["depth"])
    out.add_vision_head_count(VISION["num_heads"])
    out.add_vision_image_mean([0.48145466, 0.4578275, 0.40821073])
    out.add_vision_image_std([0.26862954, 0.26130258, 0.27577711])
    out.add_uint32("clip.vision.window_size", VISION["window_size"])         # the releases' 112 is not in their files


# ---- a plain checkpoint ------------------------------------------------------------------------------------------

def plain(folder: Path, tensors: dict[str, np.ndarray], config: dict = CONFIG) -> Path:
    """The same model as the hub has it: for the reference, with the numbers of a quantised one."""
    from safetensors.numpy import save_file
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for path in (*TINY.glob("tokenizer*"), *TINY.glob("chat_template*"), TINY / "preprocessor_config.json"):
        shutil.copyfile(path, folder / path.name)
    return folder


# ---- AWQ ---------------------------------------------------------------------------------------------------------

QUANTISATION = {"bits": 4, "group_size": 128, "modules_to_not_convert": ["visual"], "quant_method": "awq",
                "version": "gemm", "zero_point": True}
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]                  # nibble i of a word holds neighbour ORDER[i]


def is_converted(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("_proj.weight")


def awq_of(matrix: np.ndarray, group: int = 128) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A matrix (n, k) as AWQ's three tensors, and what they mean, number by number."""
    n, k = matrix.shape
    groups = matrix.reshape(n, k // group, group)
    least, most = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    scales = np.maximum((most - least) / 15, 1e-5).astype(np.float16)                    # n g
    zeros = np.clip(np.rint(-least / scales), 0, 15).astype(np.int64)
    numbers = np.clip(np.rint(groups / scales[..., None].astype(np.float32)) + zeros[..., None], 0, 15).astype(np.int64)
    exact = ((numbers - zeros[..., None]).astype(np.float64) * scales[..., None].astype(np.float64)).reshape(n, k)
    return {"qweight": in_words(numbers.reshape(n, k).T), "qzeros": in_words(zeros.T),
            "scales": np.ascontiguousarray(scales.T)}, exact.astype(np.float32)


def in_words(numbers: np.ndarray) -> np.ndarray:
    """(a, n) integers 0 to 15 as (a, n/8) int32."""
    words = np.zeros((numbers.shape[0], numbers.shape[1] // 8), np.int64)
    for column in range(words.shape[1]):
        for nibble, neighbour in enumerate(ORDER):
            words[:, column] |= numbers[:, 8 * column + neighbour] << 4 * nibble
    return words.astype(np.uint32).view(np.int32)


def awq_tensors(seed: int = 5, group: int = 128) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The tensors of an AWQ checkpoint, and those of a plain one that they mean, in float32."""
    file, meant = {}, {}
    for name, array in arrays(seed).items():
        if is_converted(name):
            parts, meant[name] = awq_of(array, group)
            file |= {name.removesuffix("weight") + part: value for part, value in parts.items()}
        else:
            file[name] = array.astype(np.float16)
            meant[name] = file[name].astype(np.float32)
    return file, meant


def awq_folder(folder: Path, seed: int = 5, group: int = 128) -> dict[str, np.ndarray]:
    """An AWQ checkpoint as it is released; gives the tensors that it means."""
    file, meant = awq_tensors(seed, group)
    said = QUANTISATION | {"group_size": group}
    plain(folder, file, CONFIG | {"torch_dtype": "float16", "quantization_config": said})
    return meant

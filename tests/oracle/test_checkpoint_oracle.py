"""Checkpoints that the reference wrote are read with every tensor bit-equal, and the reference's own model has the
tensors that the table of names expects, at every released size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from minivl.checkpoint.names import audit, hub_name, shapes
from minivl.checkpoint.read import load_model, read_tensors
from minivl.config import config_from, official_config, read_config, read_generation, to_flat_json, to_nested_json

TINY = {
    "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 97, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "rope_theta": 1e5, "hidden_act": "silu", "rope_scaling": {"type": "mrope", "mrope_section": [1, 2, 3]},
    "use_sliding_window": False, "bos_token_id": 90, "eos_token_id": 91, "image_token_id": 92, "video_token_id": 93,
    "vision_start_token_id": 94, "vision_end_token_id": 95,
    "vision_config": {"depth": 3, "hidden_size": 24, "num_heads": 3, "intermediate_size": 20, "in_channels": 3,
                      "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 56,
                      "fullatt_block_indexes": [0, 2], "tokens_per_second": 2, "out_hidden_size": 48,
                      "hidden_act": "silu"},
}


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view({2: torch.uint16, 4: torch.uint32}[tensor.element_size()]).numpy()


def saved(folder: Path, tied: bool, dtype: torch.dtype, **options) -> dict[str, torch.Tensor]:
    """A random model written by the reference into `folder`; its tensors, under the hub's names."""
    torch.manual_seed(3)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**TINY, tie_word_embeddings=tied)).to(dtype).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_()
    model.save_pretrained(folder, **options)
    return {hub_name(name): tensor for name, tensor in model.state_dict().items()
            if not (tied and name == "lm_head.weight")}


def check(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    dtype = next(iter(expected.values())).dtype
    name = str(dtype).removeprefix("torch.")
    model, tensors = load_model(folder, name)
    with tensors:
        assert {hub_name(n) for n in tensors} == expected.keys()
        for n, weight in tensors.items():
            theirs = expected[hub_name(n)]
            assert weight.shape == tuple(theirs.shape)
            assert np.array_equal(weight.dense(model.decoder.dtype).view(f"u{theirs.element_size()}"), bits(theirs)), n
            half = theirs.to(torch.float16)                           # in another precision: rounded as PyTorch does
            assert np.array_equal(weight.dense(np.float16).view(np.uint16), bits(half)), n
        assert audit(tensors, model.config).ok


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"max_shard_size": "40KB"}])
def test_what_the_reference_saves_is_read_bit_for_bit(tied, dtype, options, tmp_path):
    expected = saved(tmp_path, tied, dtype, **options)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(options)
    check(tmp_path, expected)
    config = read_config(tmp_path)
    assert config.tie_word_embeddings == tied
    assert config == config_from({**TINY, "model_type": "qwen2_5_vl", "tie_word_embeddings": tied})
    assert read_generation(tmp_path, config).eos_token_ids == (91,)


@pytest.mark.parametrize("tied", [True, False])
def test_in_memory_names_are_read_alike(tied, tmp_path):
    expected = saved(tmp_path, tied, torch.bfloat16)
    renamed = {("model." + name if name.startswith("visual.") else
                name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name): tensor
               for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    check(tmp_path, expected)


def test_in_memory_names_are_the_references_own():
    model = meta(TINY | {"tie_word_embeddings": False})
    assert any(name.startswith("model.visual.") for name in model.state_dict())
    assert any(name.startswith("model.language_model.") for name in model.state_dict())


def test_float32_asked_in_bf16_is_rounded_as_pytorch_does(tmp_path):
    expected = saved(tmp_path, False, torch.float32)
    with read_tensors(tmp_path) as tensors:
        for name, weight in tensors.items():
            rounded = expected[hub_name(name)].to(torch.bfloat16)
            assert np.array_equal(weight.dense("bfloat16").view(np.uint16), bits(rounded)), name


def meta(values: dict) -> torch.nn.Module:
    """The reference's model without any numbers."""
    with torch.device("meta"):
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**values))


@pytest.mark.parametrize(("name", "layout"), [
    ("3B", to_flat_json), pytest.param("3B", to_nested_json, marks=pytest.mark.full), ("7B", to_nested_json),
    pytest.param("32B", to_flat_json, marks=pytest.mark.full),
    pytest.param("72B", to_flat_json, marks=pytest.mark.full)])
def test_released_sizes_have_the_references_tensors(name, layout):
    config = official_config(name)
    values = json.loads(json.dumps(layout(config)))
    model = meta({key: value for key, value in values.items() if key not in ("architectures", "model_type")})
    theirs = {hub_name(n): tuple(tensor.shape) for n, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        assert theirs.pop("lm_head.weight") == theirs["model.embed_tokens.weight"]
    assert theirs == shapes(config)


def test_written_configs_mean_the_same_to_the_reference(tmp_path):
    config = config_from({**TINY, "model_type": "qwen2_5_vl", "tie_word_embeddings": True})
    for layout in (to_flat_json, to_nested_json):
        (tmp_path / "config.json").write_text(json.dumps(layout(config)), encoding="utf-8")
        theirs = Qwen2_5_VLConfig.from_pretrained(tmp_path)
        rope = theirs.text_config.rope_parameters
        assert (rope["rope_theta"], tuple(rope["mrope_section"])) == (1e5, (1, 2, 3))
        assert theirs.tie_word_embeddings and theirs.vision_config.in_channels == 3
        assert theirs.vision_config.window_size == 56 and theirs.text_config.eos_token_id == 91
        theirs.save_pretrained(tmp_path)                              # and what it makes of them, read again
        assert read_config(tmp_path) == config

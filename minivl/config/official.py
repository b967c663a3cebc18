"""The released sizes, and a configuration written as JSON in both layouts. Read next: `read.py`, which
reads them."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from .dimensions import ModelConfig, PreprocessorConfig, TextConfig, VisionConfig
from .rules import ConfigError

# name: vision inner width, decoder width, layers, heads, kv heads, inner width, vocabulary, tied.
# 3B and 7B have a vision inner width of 3420; the report's table says 3456 for all.
OFFICIAL = {
    "3B": (3420, 2048, 36, 16, 2, 11008, 151936, True),
    "7B": (3420, 3584, 28, 28, 4, 18944, 152064, False),
    "32B": (3456, 5120, 64, 40, 8, 27648, 152064, False),
    "72B": (3456, 8192, 80, 64, 8, 29568, 152064, False),
}

OFFICIAL_PICTURES = PreprocessorConfig(    # preprocessor_config.json of every release: 4 to 16384 tokens
    min_pixels=4 * 28**2, max_pixels=16384 * 28**2, patch_size=14, temporal_patch_size=2, merge_size=2,
    image_mean=(0.48145466, 0.4578275, 0.40821073), image_std=(0.26862954, 0.26130258, 0.27577711),
    source="the official releases")


def official_config(name: str) -> ModelConfig:
    """The configuration of a released size: "3B", "7B", "32B" or "72B". Else raises ConfigError."""
    if name not in OFFICIAL:
        raise ConfigError(f"no release is called {name!r}; there are {', '.join(OFFICIAL)}")
    inner, width, layers, heads, kv_heads, text_inner, vocab, tied = OFFICIAL[name]
    vision = VisionConfig(depth=32, hidden_size=1280, num_heads=16, intermediate_size=inner,
                          in_channels=3,
                          patch_size=14, temporal_patch_size=2, spatial_merge_size=2, window_size=112,
                          fullatt_block_indexes=(7, 15, 23, 31), tokens_per_second=2,
                          out_hidden_size=width)
    text = TextConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                      num_key_value_heads=kv_heads, intermediate_size=text_inner, vocab_size=vocab,
                      rms_norm_eps=1e-6, rope_theta=1e6, mrope_section=(16, 24, 24),
                      max_position_embeddings=128000)
    return ModelConfig(vision, text, tied, image_token_id=151655, video_token_id=151656,
                       vision_start_token_id=151652, vision_end_token_id=151653, bos_token_id=151643,
                       eos_token_id=151645)


def to_flat_json(config: ModelConfig) -> dict[str, Any]:
    """The JSON object of a config.json in the hub's flat layout."""
    vision, text = _plain(config.vision), _plain(config.text)
    vision["in_chans"] = vision.pop("in_channels")
    del vision["rope_theta"], vision["rms_norm_eps"]             # not in the hub's files, but fixed
    rope = {"type": "mrope", "mrope_section": text.pop("mrope_section"), **_stretched(text, "type")}
    return {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
            "tie_word_embeddings": config.tie_word_embeddings, **_ids(config), **text,
            "use_sliding_window": False, "rope_scaling": rope,
            "vision_config": vision}


def to_nested_json(config: ModelConfig) -> dict[str, Any]:
    """The JSON object of a config.json in the newer nested layout."""
    vision, text, ids = _plain(config.vision), _plain(config.text), _ids(config)
    del vision["rms_norm_eps"]
    vision["rope_parameters"] = {"rope_type": "axial", "rope_theta": vision.pop("rope_theta")}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta"),
                               "mrope_section": text.pop("mrope_section"),
                               **_stretched(text, "rope_type")}
    text |= {key: ids.pop(key) for key in ("bos_token_id", "eos_token_id")}
    return {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
            "tie_word_embeddings": config.tie_word_embeddings, **ids,
            "text_config": {"model_type": "qwen2_5_vl_text", **text, "use_sliding_window": False},
            "vision_config": {"model_type": "qwen2_5_vl_vision", **vision}}


def _stretched(text: dict[str, Any], kind: str) -> dict[str, Any]:
    """What YaRN adds to the rotary settings, under the files' names; taken out of the decoder's
    fields."""
    yarn = text.pop("yarn")
    said = {key: value for key, value in (yarn or {}).items() if value is not None}
    return {kind: "yarn", **said} if yarn else {}


def _ids(config: ModelConfig) -> dict[str, Any]:
    return {f.name: _listed(getattr(config, f.name)) for f in fields(config)
            if f.name.endswith("_token_id")}


def _plain(part: VisionConfig | TextConfig) -> dict[str, Any]:
    """The fields under the files' names; the width of a head follows from two others and is in no
    file."""
    return {key: _listed(value) for key, value in asdict(part).items() if key != "head_dim"}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

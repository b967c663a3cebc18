"""The official JSON files as configurations.

Two layouts of config.json are read: flat (the hub's: the decoder's keys at the top level,
`rope_scaling`) and nested (`text_config`, `rope_parameters`). Every value is checked before anything
is built from it: its type first, then the rules. This file holds no preset and no branch for other
models.

Read next: `rules.py`, then `checkpoint/names.py`, which derives every tensor's shape from these numbers.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..door.files import read_json
from .dimensions import GenerationConfig, ModelConfig, PreprocessorConfig, TextConfig, VisionConfig
from .rules import (
    FIXED_GENERATION,
    FIXED_MODEL,
    FIXED_PREPROCESSOR,
    FIXED_TEXT,
    FIXED_TEXT_ROPE,
    FIXED_VISION,
    FIXED_VISION_ROPE,
    GENERATION_RULES,
    MODEL_RULES,
    PREPROCESSOR_RULES,
    TEXT_RULES,
    VISION_RULES,
    ConfigError,
    as_tuple,
    check,
    check_fixed,
    fill,
    section,
    typed,
)

# Some writers leave out of `vision_config` what equals the reference's own default, so an absent key
# means that value. `hidden_size` and `tokens_per_second` are not here: no release has their default,
# so a file without them is broken.
LEFT_OUT = {"depth": 32, "num_heads": 16, "intermediate_size": 3420, "in_channels": 3, "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112,
            "out_hidden_size": 3584,
            "fullatt_block_indexes": (7, 15, 23, 31)}


def read_config(folder: str | Path) -> ModelConfig:
    """`config.json` of a checkpoint's folder, flat or nested. Raises ConfigError."""
    path = Path(folder) / "config.json"
    return config_from(read_json(path, ConfigError), str(path))


def config_from(values: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """A model's configuration from the object of a config.json, which errors call `where`."""
    check_fixed(values, FIXED_MODEL, where)
    vision, nested = (section(values, key, where) for key in ("vision_config", "text_config"))
    if not vision:
        raise ConfigError(f"{where}: vision_config is missing: without it this is a text model")
    # the token ids stand at the root or beside the decoder's numbers, and so does the tie in older
    # nested files; the reference ties when either place says so
    shared = {**_given(nested), **_given(values)}
    ties = [typed("bool", part["tie_word_embeddings"], where, "tie_word_embeddings")
            for part in (values, nested) if part.get("tie_word_embeddings") is not None]
    parts = {"vision": _vision(vision, f"{where}, vision_config"), "tie_word_embeddings": any(ties),
             "text": _text(nested, f"{where}, text_config") if nested else _text(values, where)}
    return check(fill(ModelConfig, {**shared, **parts}, where), MODEL_RULES, where)


def _vision(values: Mapping[str, Any], where: str) -> VisionConfig:
    check_fixed(values, FIXED_VISION, where)
    rope = section(values, "rope_parameters", where)
    check_fixed(rope, FIXED_VISION_ROPE, f"{where}, rope_parameters")
    channels = _given({"in_channels": values.get("in_chans")})                # the hub's name for it
    theta = _given({"rope_theta": rope.get("rope_theta")})
    values = {**LEFT_OUT, **channels, **_given(values), **theta}
    return check(fill(VisionConfig, values, where), VISION_RULES, where)


def _text(values: Mapping[str, Any], where: str) -> TextConfig:
    check_fixed(values, FIXED_TEXT, where)
    rope = section(values, "rope_scaling", where) or section(values, "rope_parameters", where)
    check_fixed(rope, FIXED_TEXT_ROPE, f"{where}, rope_scaling or rope_parameters")
    kinds = values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise ConfigError(f"{where}: layer_types = {reprlib.repr(kinds)}: all should be 'full_attention'")
    rotary = _given({key: rope.get(key) for key in ("rope_theta", "mrope_section")})
    return check(fill(TextConfig, {**values, **rotary}, where), TEXT_RULES, where)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null."""
    return {key: value for key, value in values.items() if value is not None}


def read_preprocessor(folder: str | Path, config: ModelConfig | None = None) -> PreprocessorConfig:
    """`preprocessor_config.json` (or the `image_processor` of a newer `processor_config.json`), checked
    against the model's configuration, which is read from the same folder when it is not given. Raises
    ConfigError.
    """
    path = Path(folder) / "preprocessor_config.json"
    newer = path.with_name("processor_config.json")
    if newer.is_file() and not path.is_file():
        path = newer
        values = section(read_json(path, ConfigError), "image_processor", str(path))
    else:
        values = read_json(path, ConfigError)
    where = str(path)
    check_fixed(values, FIXED_PREPROCESSOR, where)
    values = {**values, **_pixels(values, where)}
    found = check(fill(PreprocessorConfig, values, where), PREPROCESSOR_RULES, where)
    vision = (config or read_config(folder)).vision
    for key, theirs in (("patch_size", "patch_size"), ("temporal_patch_size", "temporal_patch_size"),
                        ("merge_size", "spatial_merge_size")):
        if getattr(found, key) != getattr(vision, theirs):
            raise ConfigError(f"{where}: {key} = {getattr(found, key)}: should be {theirs} of "
                              f"config.json's vision_config, {getattr(vision, theirs)}")
    return found


def _pixels(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`size` gives *areas* under names that say edge; `min_pixels` and `max_pixels` win over it."""
    size = section(values, "size", where)
    named = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    return {key: values[key] if values.get(key) is not None else edge for key, edge in named.items()}


GENERATION_DEFAULTS = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
                       "repetition_penalty": 1.0}


def read_generation(folder: str | Path, config: ModelConfig) -> GenerationConfig:
    """`generation_config.json`; without the file, or for keys it leaves out, the reference's defaults,
    with the end tokens of `config`; padding is the first end token unless said. Raises ConfigError.
    """
    path = Path(folder) / "generation_config.json"
    values = _given(read_json(path, ConfigError)) if path.exists() else {}
    where = str(path)
    check_fixed(values, FIXED_GENERATION, where)
    ends = values.get("eos_token_id", config.eos_token_id)
    ends = as_tuple(typed("int | tuple[int, ...]", ends, where, "eos_token_id"))
    padding = {"pad_token_id": ends[0]} if ends else {}
    values = {**GENERATION_DEFAULTS, **padding, **values, "eos_token_ids": ends}
    found = check(fill(GenerationConfig, values, where), GENERATION_RULES, where)
    vocabulary = config.text.vocab_size
    if not all(0 <= token < vocabulary for token in (*found.eos_token_ids, found.pad_token_id)):
        raise ConfigError(f"{where}: eos_token_id = {reprlib.repr(found.eos_token_ids)}, pad_token_id = "
                          f"{found.pad_token_id}: should be 0 to {vocabulary - 1}, as config.json has it")
    return found

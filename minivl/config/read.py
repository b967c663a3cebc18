"""config.json as the model's configuration.

Two layouts of it are read: flat (the hub's: the decoder's keys at the top level,
`rope_scaling`) and nested (`text_config`, `rope_parameters`). Every value is checked before anything
is built from it: its type first, then the rules. This file holds no preset and no branch for other
models.

Read next: `rules.py`, `pictures.py` and `generation.py` (the other official files), then
`checkpoint/names.py`, which derives every tensor's shape from these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..door.errors import brief
from ..door.files import read_json
from .dimensions import ModelConfig, TextConfig, VisionConfig, Yarn
from .rules import (
    FIXED_MODEL,
    FIXED_TEXT,
    FIXED_TEXT_ROPE,
    FIXED_VISION,
    FIXED_VISION_ROPE,
    MODEL_RULES,
    TEXT_RULES,
    VISION_RULES,
    YARN_RULES,
    ConfigError,
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
# The same of the decoder; its widths and counts of layers and heads are in every file that is whole.
TEXT_LEFT_OUT = {"vocab_size": 152064, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
                 "max_position_embeddings": 32768}


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
        raise ConfigError(f"{where}: layer_types = {brief(kinds)}: all should be 'full_attention'")
    rotary = _given({key: rope.get(key) for key in ("rope_theta", "mrope_section")})
    said = _given(values)
    if values.get("num_key_value_heads", 0) is None:                  # null: one for each query head
        said["num_key_value_heads"] = values.get("num_attention_heads")
    values = {**TEXT_LEFT_OUT, **said, **rotary}
    values["yarn"] = _yarn(rope, values, f"{where}, rope_scaling or rope_parameters")
    return check(fill(TextConfig, values, where), TEXT_RULES, where)


def _yarn(rope: Mapping[str, Any], text: Mapping[str, Any], where: str) -> Yarn | None:
    """How angles are stretched; None where they are not. As the reference reads it: the trained length
    stands beside the decoder's numbers, else in the object, else it is max_position_embeddings; a factor
    that is null is the ratio of the two."""
    kind = rope.get("type") if rope.get("rope_type") is None else rope["rope_type"]
    if kind != "yarn" and rope.get("type") == "yarn":
        raise ConfigError(f"{where}: type is 'yarn' and rope_type is {brief(kind)}: the reference goes by "
                          "rope_type alone and would stretch nothing; say 'yarn' in both, or in none")
    if kind != "yarn":
        return None
    if "factor" not in rope:
        raise ConfigError(f"{where}: rope_type or type is 'yarn', and factor is missing: say how many "
                          "times as long as the trained context, or take YaRN out")
    longest, key = text.get("max_position_embeddings"), "original_max_position_embeddings"
    said = {**rope, key: text.get(key, rope.get(key, longest))}
    if said["factor"] is None:
        trained = typed("int", said[key], where, key)
        said["factor"] = typed("int", longest, where, "max_position_embeddings") / max(1, trained)
    return check(fill(Yarn, said, where), YARN_RULES, where)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null."""
    return {key: value for key, value in values.items() if value is not None}

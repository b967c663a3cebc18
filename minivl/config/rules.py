"""What must hold of a configuration: its values' types, then one row for each rule.

An error names the file, the key, the value and the rule. Read next: `read.py`, which applies them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from ..door.errors import Error, brief
from .dimensions import ModelConfig, TextConfig, VisionConfig, Yarn

T = TypeVar("T")


class ConfigError(Error):
    """A config file cannot be used: the message names the file, the key, the value and the rule it
    breaks."""


# -------------------------------------------------------------------------------------- values by type

def _integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 62       # to Python, `True` is an int too


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and len(value) <= 4096 and all(map(check,
                                                                                            value))


_integers, _numbers = _list_of(_integer), _list_of(_number)


class Kind(NamedTuple):
    """What an annotation demands of a JSON value: in words, as a check, and how it is kept."""
    words: str
    check: Callable[[Any], bool]
    keep: Callable[[Any], Any]


KINDS = {
    "int": Kind("an integer", _integer, int),
    "float": Kind("a finite number", _number, float),
    "bool": Kind("true or false", lambda v: type(v) is bool, bool),
    "str": Kind("a text", lambda v: isinstance(v, str), str),
    "int | None": Kind("an integer or null", lambda v: v is None or _integer(v), lambda v: v),
    # cosmos-rl#171: block numbers that are strings equal no block's number, and no block is ever "full"
    "tuple[int, ...]": Kind("a list of integers (no strings)", _integers, tuple),
    "tuple[float, ...]": Kind("a list of numbers", _numbers, lambda v: tuple(map(float, v))),
    "int | tuple[int, ...]": Kind("an integer or a list of integers",
                                  lambda v: _integer(v) or _integers(v),
                                  lambda v: v if isinstance(v, int) else tuple(v)),
    "float | None": Kind("a finite number or null", lambda v: v is None or _number(v),
                         lambda v: None if v is None else float(v)),
    "Yarn | None": Kind("a Yarn", lambda v: v is None or isinstance(v, Yarn), lambda v: v),
    "VisionConfig": Kind("a VisionConfig", lambda v: isinstance(v, VisionConfig), lambda v: v),
    "TextConfig": Kind("a TextConfig", lambda v: isinstance(v, TextConfig), lambda v: v),
}


def typed(annotation: str, value: Any, where: str, key: str) -> Any:
    kind = KINDS[annotation]
    if not kind.check(value):
        raise ConfigError(f"{where}: {key} = {brief(value)}, should be {kind.words}")
    return kind.keep(value)


def fill(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """One dataclass from JSON values; null counts as absent, and an absent key needs a default."""
    kept = {}
    for field in fields(cls):                                                    # type: ignore[arg-type]
        value = values.get(field.name)
        if value is None and field.default is not MISSING:
            value = field.default
        if value is None and "None" not in str(field.type):
            raise ConfigError(f"{where}: {field.name} is missing")
        kept[field.name] = typed(str(field.type), value, where, field.name)
    return cls(**kept)


def section(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A sub-object that may be absent or null."""
    found = {} if values.get(key) is None else values[key]
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} = {brief(found)}, should be an object {{...}}")
    return found


# ------------------------------------------------------------------------------------------- the rules

class Rule(NamedTuple):
    """A row of what must hold: the key to blame, the condition, and the condition in words."""
    key: str
    holds: Callable[[Any], bool]
    words: str


def check(config: T, rules: list[Rule], where: str) -> T:
    for key, holds, words in rules:
        if not holds(config):
            raise ConfigError(f"{where}: {key} = {brief(attrgetter(key)(config))}: {words}")
    return config


def _between(low: float, high: float, *keys: str) -> list[Rule]:
    def row(key: str) -> Rule:
        return Rule(key, lambda c: low <= getattr(c, key) <= high, f"should be {low} to {high}")
    return [row(key) for key in keys]


VISION_RULES = [
    *_between(0, 4096, "depth"),                                  # without blocks: a model of text alone
    *_between(1, 4096, "num_heads", "in_channels", "patch_size", "temporal_patch_size",
              "spatial_merge_size", "tokens_per_second"),
    *_between(1, 1 << 20, "hidden_size", "intermediate_size", "window_size", "out_hidden_size"),
    *_between(1, 10**12, "rope_theta"), *_between(1e-30, 1, "rms_norm_eps"),
    Rule("hidden_act", lambda c: c.hidden_act == "silu", "only 'silu' is part of this model"),
    Rule("hidden_size", lambda c: c.hidden_size % c.num_heads == 0, "should be a multiple of num_heads"),
    Rule("head_dim", lambda c: c.head_dim * c.num_heads == c.hidden_size,
         "should be hidden_size / num_heads"),
    Rule("hidden_size", lambda c: c.head_dim % 4 == 0,
         "hidden_size / num_heads should be divisible by 4: rows and columns each rotate half, in pairs"),
    Rule("spatial_merge_size", lambda c: c.spatial_merge_size == 2,
         "only 2x2 merging is part of this model"),
    Rule("window_size", lambda c: c.window_size % (c.patch_size * c.spatial_merge_size) == 0,
         "in pixels, should be a multiple of patch_size * spatial_merge_size"),
    Rule("fullatt_block_indexes", lambda c: all(0 <= i < c.depth for i in c.fullatt_block_indexes),
         "each should be a block's number, 0 to depth - 1"),
    Rule("fullatt_block_indexes", lambda c: len(set(c.fullatt_block_indexes)) ==
         len(c.fullatt_block_indexes),
         "a block is named twice"),
]

TEXT_RULES = [
    *_between(1, 4096, "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *_between(1, 1 << 20, "hidden_size", "intermediate_size"), *_between(1, 1 << 24, "vocab_size"),
    *_between(1, 1 << 31, "max_position_embeddings"),
    *_between(1, 10**12, "rope_theta"), *_between(1e-30, 1, "rms_norm_eps"),
    Rule("hidden_act", lambda c: c.hidden_act == "silu", "only 'silu' is part of this model"),
    Rule("hidden_size", lambda c: c.hidden_size % c.num_attention_heads == 0,
         "should be a multiple of num_attention_heads"),
    Rule("head_dim", lambda c: c.head_dim * c.num_attention_heads == c.hidden_size,
         "should be hidden_size / num_attention_heads"),
    Rule("hidden_size", lambda c: c.head_dim % 2 == 0,
         "hidden_size / num_attention_heads should be even: a head rotates in pairs"),
    Rule("num_key_value_heads", lambda c: c.num_attention_heads % c.num_key_value_heads == 0,
         "should divide num_attention_heads"),
    Rule("mrope_section", lambda c: len(c.mrope_section) == 3 and min(c.mrope_section) >= 0,
         "should be three counts: time, row, column"),
    Rule("rope_theta", lambda c: c.yarn is None or c.rope_theta > 1,
         "should be above 1 where YaRN stretches"),
    Rule("mrope_section", lambda c: sum(c.mrope_section) * 2 == c.head_dim,
         "should sum to half of hidden_size / num_attention_heads"),
]

YARN_RULES = [
    *_between(1, 1 << 20, "factor"), *_between(2, 1 << 31, "original_max_position_embeddings"),
    *_between(1e-6, 1e6, "beta_fast", "beta_slow"),
    Rule("beta_fast", lambda c: c.beta_fast >= c.beta_slow, "should be at least beta_slow"),
    Rule("attention_factor", lambda c: c.attention_factor is None or 0 < c.attention_factor < 1e6,
         "should be above 0"),
    Rule("mscale", lambda c: c.mscale is None or 0 <= c.mscale < 1e6, "should be 0 or more"),
    Rule("mscale_all_dim", lambda c: c.mscale_all_dim is None or 0 <= c.mscale_all_dim < 1e6,
         "should be 0 or more"),
]

TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def as_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _in_vocabulary(key: str) -> Rule:
    """A token's id, or each of several, has a row in the embedding; null is no token."""
    def holds(c: ModelConfig) -> bool:
        ids = getattr(c, key)
        if key in TOKENS and not c.vision.depth and ids < 0:       # a model of text may have no such token
            return True
        return ids is None or (ids != () and all(0 <= i < c.text.vocab_size for i in as_tuple(ids)))
    return Rule(key, holds, "should be 0 to vocab_size - 1")


MODEL_RULES = [
    *map(_in_vocabulary, (*TOKENS, "bos_token_id", "eos_token_id")),
    Rule("image_token_id", lambda c: len({getattr(c, key) for key in TOKENS}) == 4,
         f"{', '.join(TOKENS)} should be four different ids"),
    Rule("vision.out_hidden_size", lambda c: c.vision.out_hidden_size == c.text.hidden_size,
         "should equal the decoder's hidden_size: visual tokens stand in for word embeddings"),
]

CROSSING = Rule("min_pixels", lambda c: c.min_pixels <= c.max_pixels,
                "an area, should not exceed max_pixels")
PREPROCESSOR_RULES = [
    *_between(1, 4096, "patch_size", "temporal_patch_size", "merge_size"),
    *_between(1, 1 << 40, "min_pixels", "max_pixels"), *_between(1e-9, 1e9, "rescale_factor"),
    CROSSING,
    Rule("max_pixels", lambda c: c.max_pixels >= c.factor ** 2, "should hold at least one merged cell"),
    Rule("image_mean", lambda c: len(c.image_mean) == 3, "should be three numbers: red, green, blue"),
    Rule("image_std", lambda c: len(c.image_std) == 3 and min(c.image_std) > 0,
         "should be three positive numbers: red, green, blue"),
]

# of one value each, since a value that no way of decoding uses is not checked
GENERATION_RULES = [
    Rule("temperature", lambda v: v > 0, "should be positive; for greedy, do_sample is false"),
    Rule("top_k", lambda v: 0 <= v <= 1 << 24, f"should be 0 to {1 << 24}"),
    Rule("top_p", lambda v: 0 <= v <= 1, "should be 0 to 1"),
    Rule("repetition_penalty", lambda v: v > 0, "should be positive; 1 is none"),
]


# ------------------------------------------------------------------------- values that leave no choice

class Fixed(NamedTuple):
    """A key, and the values of it that mean what this model does (None: absent); others are refused."""
    key: str
    allowed: tuple[Any, ...]
    words: str


NO_SCALING = "this rotary scaling is not supported: remove it"
FIXED_MODEL = [Fixed("model_type", ("qwen2_5_vl",), "this reads Qwen2.5-VL only ('qwen2_5_vl')")]
FIXED_VISION = [Fixed("model_type", (None, "qwen2_5_vl_vision", "qwen2_5_vl"), "not this vision tower")]
FIXED_TEXT = [
    Fixed("model_type", (None, "qwen2_5_vl_text", "qwen2_5_vl"), "not this model's decoder"),
    Fixed("use_sliding_window", (None, False),
          "no release slides windows in the decoder; not supported"),
]
FIXED_VISION_ROPE = [Fixed(key, (None, "axial", "default"), NO_SCALING) for key in ("rope_type", "type")]
FIXED_TEXT_ROPE = [Fixed(key, (None, "mrope", "default", "yarn"), f"{NO_SCALING}, or say 'yarn'")
                   for key in ("rope_type", "type")]
# A step whose key is absent is taken; to the reference null means that it is left out, like false.
FIXED_PREPROCESSOR = [
    *[Fixed(key, (True,), "this step cannot be left out")
      for key in ("do_resize", "do_rescale", "do_normalize")],
    Fixed("do_convert_rgb", (True, None), "pictures are always made RGB: this step cannot be left out"),
    Fixed("resample", (3,), "only 3 (bicubic) is part of this model"),
    Fixed("image_processor_type",
          (None, *(f"Qwen2{name}VLImageProcessor{end}" for name in ("", "_5_")
                   for end in ("", "Fast", "Pil"))),
          "another model's processor"),
    Fixed("video_processor_type", (None, "Qwen2VLVideoProcessor", "Qwen2_5_VLVideoProcessor"),
          "another model's processor"),
]
NOT_OURS = ("this logits processor is not supported; take the key out of the file, or choose tokens "
            "yourself from logits")
FIXED_GENERATION = [
    Fixed("num_beams", (1,), "beam search is not supported; take the key out of the file"),
    Fixed("num_beam_groups", (1,), "beam search is not supported; take the key out of the file"),
    *[Fixed(key, (0,), NOT_OURS)
      for key in ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens",
                  "penalty_alpha", "diversity_penalty")],
    *[Fixed(key, (1,), NOT_OURS) for key in ("guidance_scale", "encoder_repetition_penalty")],
    *[Fixed(key, (False, []), NOT_OURS)
      for key in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias",
                  "stop_strings", "forced_bos_token_id", "forced_eos_token_id", "max_time",
                  "exponential_decay_length_penalty", "token_healing", "watermarking_config",
                  "constraints", "force_words_ids", "dola_layers")],
]
FIXED_SAMPLING = [                                   # what greedy decoding does not use
    *[Fixed(key, (0,), NOT_OURS) for key in ("min_p", "epsilon_cutoff", "eta_cutoff")],
    *[Fixed(key, (1,), NOT_OURS) for key in ("typical_p", "top_h")],
]


def is_allowed(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Whether a JSON value is one of these; 1.0 is 1, but `true` is not."""
    return any((type(value) is bool) == (type(one) is bool) and value == one for one in allowed)


def check_fixed(values: Mapping[str, Any], rows: list[Fixed], where: str) -> None:
    for key, allowed, words in rows:
        if not any(type(values.get(key)) is type(a) and values.get(key) == a for a in allowed):
            raise ConfigError(f"{where}: {key} = {brief(values.get(key))}: {words}")

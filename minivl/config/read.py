"""The model's dimensions, as frozen dataclasses with the official field names, read from the official JSON
files.

Two layouts of config.json are read: flat (the hub's: the decoder's keys at the top level, `rope_scaling`) and
nested (`text_config`, `rope_parameters`). Every value is checked before anything is built from it: its type
first, then the rules below, one row each. An error names the file, the key, the value and the rule.

This file holds no preset logic and no branch for other models. Read next: `checkpoint/names.py`, which
derives every tensor's shape from these numbers.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
MAX_JSON = 1 << 22          # bytes; the largest official file (an index of 1,353 tensors) has 0.1 million


class ConfigError(ValueError):
    """A config file cannot be used: the message names the file, the key, the value and the rule it breaks."""


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower. Widths are numbers of values, `window_size` is in pixels, blocks count from 0."""
    depth: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    window_size: int
    fullatt_block_indexes: tuple[int, ...]
    tokens_per_second: int
    out_hidden_size: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"

    @property
    def heads(self) -> int:
        return self.num_heads

    @property
    def kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def window_cells(self) -> int:
        """Merged cells along a window's side: `window_size` is in pixels, a cell is 28 of them."""
        return self.window_size // self.patch_size // self.spatial_merge_size

    @property
    def patch_values(self) -> int:
        """Values of one patch: 3 colours x 2 frames x 14 x 14 = 1176."""
        return self.in_channels * self.temporal_patch_size * self.patch_size ** 2


@dataclass(frozen=True)
class TextConfig:
    """The decoder. `mrope_section` counts rotary angles (half a head's width) of time, row and column."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, ...]
    max_position_embeddings: int
    hidden_act: str = "silu"

    @property
    def heads(self) -> int:
        return self.num_attention_heads

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class ModelConfig:
    """The whole model: both parts and the ids of the tokens that stand for pictures."""
    vision: VisionConfig
    text: TextConfig
    tie_word_embeddings: bool
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    bos_token_id: int | None
    eos_token_id: int | tuple[int, ...]


@dataclass(frozen=True)
class PreprocessorConfig:
    """From pixels to patches. `min_pixels` and `max_pixels` are areas of the resized picture."""
    min_pixels: int
    max_pixels: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    rescale_factor: float = 1 / 255

    @property
    def factor(self) -> int:
        """Both sides of a resized picture are multiples of this many pixels (28)."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True)
class GenerationConfig:
    """How the next token is chosen; what the file leaves out has the reference's default."""
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    eos_token_ids: tuple[int, ...]
    pad_token_id: int


# ---- JSON, strictly ----------------------------------------------------------------------------------------

def parse_json(data: bytes, where: str, error: type[ValueError] = ConfigError) -> dict[str, Any]:
    """A JSON object as a dict. Refuses, with `error`: other encodings than UTF-8, a key given twice, NaN,
    infinity, absurd nesting, more than MAX_JSON bytes, anything that is no object.
    """
    if len(data) > MAX_JSON:
        raise error(f"{where}: {len(data)} bytes of JSON; at most {MAX_JSON} are read")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [name for name, _ in items]
            twice = next(name for n, name in enumerate(names) if name in names[:n])
            raise error(f"{where}: key {reprlib.repr(twice)} is given twice")
        return found

    def constant(text: str) -> Any:
        raise error(f"{where}: {text} is no JSON number")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except error:
        raise
    except UnicodeDecodeError as problem:
        raise error(f"{where}: not UTF-8 (byte {problem.start}); save the file as UTF-8") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply to be read") from None
    except ValueError as problem:
        raise error(f"{where}: not valid JSON: {problem}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: holds a {type(found).__name__}, should be a JSON object {{...}}")
    return found


def read_json(path: Path, error: type[ValueError] = ConfigError) -> dict[str, Any]:
    """The JSON object in a file; see `parse_json`. A missing or unreadable file is an `error` too."""
    return parse_json(_read(path, MAX_JSON, error), str(path), error)


def read_text(path: Path, limit: int, error: type[ValueError] = ConfigError) -> str:
    """A text file of at most `limit` bytes of UTF-8, line ends as `\\n`. Raises `error`, naming the file."""
    try:
        text = _read(path, limit, error).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 (byte {problem.start}); is it damaged? Get it anew") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: Path, limit: int, error: type[ValueError]) -> bytes:
    try:
        check_regular(path, error)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    if len(data) > limit:
        raise error(f"{path}: is too large for what it should be; at most {limit:,} bytes of it are read")
    return data


def check_regular(path: Path, error: type[ValueError]) -> None:
    """Raise `error` unless `path` is a regular file: reading a pipe of that name would never end."""
    if not path.is_file():
        raise error(f"{path}: {'is not a regular file' if path.exists() else 'there is no such file'}; "
                    "name the folder of a Qwen2.5-VL checkpoint")


# ---- values by type ----------------------------------------------------------------------------------------

def _integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 62       # to Python, `True` is an int too


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and len(value) <= 4096 and all(map(check, value))


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
    "int | tuple[int, ...]": Kind("an integer or a list of integers", lambda v: _integer(v) or _integers(v),
                                  lambda v: v if isinstance(v, int) else tuple(v)),
    "VisionConfig": Kind("a VisionConfig", lambda v: isinstance(v, VisionConfig), lambda v: v),
    "TextConfig": Kind("a TextConfig", lambda v: isinstance(v, TextConfig), lambda v: v),
}


def _typed(annotation: str, value: Any, where: str, key: str) -> Any:
    kind = KINDS[annotation]
    if not kind.check(value):
        raise ConfigError(f"{where}: {key} = {reprlib.repr(value)}, should be {kind.words}")
    return kind.keep(value)


def _fill(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """One dataclass from JSON values; null counts as absent, and an absent key needs a default."""
    kept = {}
    for field in fields(cls):                                                        # type: ignore[arg-type]
        value = values.get(field.name)
        if value is None and field.default is not MISSING:
            value = field.default
        if value is None and "None" not in str(field.type):
            raise ConfigError(f"{where}: {field.name} is missing")
        kept[field.name] = _typed(str(field.type), value, where, field.name)
    return cls(**kept)


def _section(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A sub-object that may be absent or null."""
    found = {} if values.get(key) is None else values[key]
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} = {reprlib.repr(found)}, should be an object {{...}}")
    return found


# ---- the rules ---------------------------------------------------------------------------------------------

class Rule(NamedTuple):
    """A row of what must hold: the key to blame, the condition, and the condition in words."""
    key: str
    holds: Callable[[Any], bool]
    words: str


def _check(config: T, rules: list[Rule], where: str) -> T:
    for key, holds, words in rules:
        if not holds(config):
            raise ConfigError(f"{where}: {key} = {reprlib.repr(attrgetter(key)(config))}: {words}")
    return config


def _between(low: float, high: float, *keys: str) -> list[Rule]:
    def row(key: str) -> Rule:
        return Rule(key, lambda c: low <= getattr(c, key) <= high, f"should be {low} to {high}")
    return [row(key) for key in keys]


VISION_RULES = [
    *_between(1, 4096, "depth", "num_heads", "in_channels", "patch_size", "temporal_patch_size",
              "spatial_merge_size", "tokens_per_second"),
    *_between(1, 1 << 20, "hidden_size", "intermediate_size", "window_size", "out_hidden_size"),
    *_between(1, 10**12, "rope_theta"), *_between(1e-30, 1, "rms_norm_eps"),
    Rule("hidden_act", lambda c: c.hidden_act == "silu", "only 'silu' is part of this model"),
    Rule("hidden_size", lambda c: c.hidden_size % c.num_heads == 0, "should be a multiple of num_heads"),
    Rule("hidden_size", lambda c: c.head_dim % 4 == 0,
         "hidden_size / num_heads should be divisible by 4: rows and columns each rotate half, in pairs"),
    Rule("spatial_merge_size", lambda c: c.spatial_merge_size == 2, "only 2x2 merging is part of this model"),
    Rule("window_size", lambda c: c.window_size % (c.patch_size * c.spatial_merge_size) == 0,
         "in pixels, should be a multiple of patch_size * spatial_merge_size"),
    Rule("fullatt_block_indexes", lambda c: all(0 <= i < c.depth for i in c.fullatt_block_indexes),
         "each should be a block's number, 0 to depth - 1"),
    Rule("fullatt_block_indexes", lambda c: len(set(c.fullatt_block_indexes)) == len(c.fullatt_block_indexes),
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
    Rule("hidden_size", lambda c: c.head_dim % 2 == 0,
         "hidden_size / num_attention_heads should be even: a head rotates in pairs"),
    Rule("num_key_value_heads", lambda c: c.num_attention_heads % c.num_key_value_heads == 0,
         "should divide num_attention_heads"),
    Rule("mrope_section", lambda c: len(c.mrope_section) == 3 and min(c.mrope_section) >= 0,
         "should be three counts: time, row, column"),
    Rule("mrope_section", lambda c: sum(c.mrope_section) * 2 == c.head_dim,
         "should sum to half of hidden_size / num_attention_heads"),
]

TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def _tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _in_vocabulary(key: str) -> Rule:
    """A token's id, or each of several, has a row in the embedding; null is no token."""
    def holds(c: ModelConfig) -> bool:
        ids = getattr(c, key)
        return ids is None or (ids != () and all(0 <= i < c.text.vocab_size for i in _tuple(ids)))
    return Rule(key, holds, "should be 0 to vocab_size - 1")


MODEL_RULES = [
    *map(_in_vocabulary, (*TOKENS, "bos_token_id", "eos_token_id")),
    Rule("image_token_id", lambda c: len({getattr(c, key) for key in TOKENS}) == 4,
         f"{', '.join(TOKENS)} should be four different ids"),
    Rule("vision.out_hidden_size", lambda c: c.vision.out_hidden_size == c.text.hidden_size,
         "should equal the decoder's hidden_size: visual tokens stand in for word embeddings"),
]

PREPROCESSOR_RULES = [
    *_between(1, 4096, "patch_size", "temporal_patch_size", "merge_size"),
    *_between(1, 1 << 40, "min_pixels", "max_pixels"), *_between(1e-9, 1e9, "rescale_factor"),
    Rule("min_pixels", lambda c: c.min_pixels <= c.max_pixels, "an area, should not exceed max_pixels"),
    Rule("max_pixels", lambda c: c.max_pixels >= c.factor ** 2, "should hold at least one merged cell"),
    Rule("image_mean", lambda c: len(c.image_mean) == 3, "should be three numbers: red, green, blue"),
    Rule("image_std", lambda c: len(c.image_std) == 3 and min(c.image_std) > 0,
         "should be three positive numbers: red, green, blue"),
]

GENERATION_RULES = [
    Rule("temperature", lambda c: c.temperature > 0, "should be positive; for greedy, do_sample is false"),
    *_between(0, 1 << 24, "top_k"), *_between(0, 1, "top_p"),
    Rule("repetition_penalty", lambda c: c.repetition_penalty > 0, "should be positive; 1 is none"),
    Rule("eos_token_ids", lambda c: len(c.eos_token_ids) > 0, "should name at least one token"),
]


class Fixed(NamedTuple):
    """A key, and the values of it that mean what this model does (None: absent); others are refused."""
    key: str
    allowed: tuple[Any, ...]
    words: str


NO_SCALING = "this rotary scaling is not supported; nor is YaRN, which harms localisation: remove it"
FIXED_MODEL = [Fixed("model_type", ("qwen2_5_vl",), "this reads Qwen2.5-VL only ('qwen2_5_vl')")]
FIXED_VISION = [Fixed("model_type", (None, "qwen2_5_vl_vision", "qwen2_5_vl"), "not this vision tower")]
FIXED_TEXT = [
    Fixed("model_type", (None, "qwen2_5_vl_text", "qwen2_5_vl"), "not this model's decoder"),
    Fixed("use_sliding_window", (None, False), "no release slides windows in the decoder; not supported"),
]
FIXED_VISION_ROPE = [Fixed(key, (None, "axial", "default"), NO_SCALING) for key in ("rope_type", "type")]
FIXED_TEXT_ROPE = [Fixed(key, (None, "mrope", "default"), NO_SCALING) for key in ("rope_type", "type")]
FIXED_PREPROCESSOR = [
    *[Fixed(key, (None, True), "this step cannot be left out")
      for key in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")],
    Fixed("resample", (None, 3), "only 3 (bicubic) is part of this model"),
]
FIXED_GENERATION = [
    Fixed("num_beams", (None, 1), "beam search is not supported"),
    Fixed("no_repeat_ngram_size", (None, 0), "this logits processor is not supported"),
    *[Fixed(key, (None,), "this logits processor is not supported") for key in ("min_p", "penalty_alpha")],
]


def _check_fixed(values: Mapping[str, Any], rows: list[Fixed], where: str) -> None:
    for key, allowed, words in rows:
        if not any(type(values.get(key)) is type(a) and values.get(key) == a for a in allowed):
            raise ConfigError(f"{where}: {key} = {reprlib.repr(values.get(key))}: {words}")


# ---- readers -----------------------------------------------------------------------------------------------

# Some writers leave out of `vision_config` what equals the reference's own default, so an absent key means
# that value. `hidden_size` and `tokens_per_second` are not here: no release has their default, so a file
# without them is broken.
LEFT_OUT = {"depth": 32, "num_heads": 16, "intermediate_size": 3420, "in_channels": 3, "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112, "out_hidden_size": 3584,
            "fullatt_block_indexes": (7, 15, 23, 31)}


def read_config(folder: str | Path) -> ModelConfig:
    """`config.json` of a checkpoint's folder, flat or nested. Raises ConfigError."""
    path = Path(folder) / "config.json"
    return config_from(read_json(path), str(path))


def config_from(values: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """A model's configuration from the object of a config.json, which errors call `where`."""
    _check_fixed(values, FIXED_MODEL, where)
    vision, nested = (_section(values, key, where) for key in ("vision_config", "text_config"))
    if not vision:
        raise ConfigError(f"{where}: vision_config is missing: without it this is a text model")
    # the token ids stand at the root or beside the decoder's numbers, and so does the tie in older nested
    # files; the reference ties when either place says so
    shared = {**_given(nested), **_given(values)}
    ties = [_typed("bool", part["tie_word_embeddings"], where, "tie_word_embeddings")
            for part in (values, nested) if part.get("tie_word_embeddings") is not None]
    parts = {"vision": _vision(vision, f"{where}, vision_config"), "tie_word_embeddings": any(ties),
             "text": _text(nested, f"{where}, text_config") if nested else _text(values, where)}
    return _check(_fill(ModelConfig, {**shared, **parts}, where), MODEL_RULES, where)


def _vision(values: Mapping[str, Any], where: str) -> VisionConfig:
    _check_fixed(values, FIXED_VISION, where)
    rope = _section(values, "rope_parameters", where)
    _check_fixed(rope, FIXED_VISION_ROPE, f"{where}, rope_parameters")
    channels = _given({"in_channels": values.get("in_chans")})                # the hub's name for it
    theta = _given({"rope_theta": rope.get("rope_theta")})
    values = {**LEFT_OUT, **channels, **_given(values), **theta}
    return _check(_fill(VisionConfig, values, where), VISION_RULES, where)


def _text(values: Mapping[str, Any], where: str) -> TextConfig:
    _check_fixed(values, FIXED_TEXT, where)
    rope = _section(values, "rope_scaling", where) or _section(values, "rope_parameters", where)
    _check_fixed(rope, FIXED_TEXT_ROPE, f"{where}, rope_scaling or rope_parameters")
    kinds = values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise ConfigError(f"{where}: layer_types = {reprlib.repr(kinds)}: all should be 'full_attention'")
    rotary = _given({key: rope.get(key) for key in ("rope_theta", "mrope_section")})
    found = _check(_fill(TextConfig, {**values, **rotary}, where), TEXT_RULES, where)
    if values.get("head_dim") not in (None, found.head_dim):
        raise ConfigError(f"{where}: head_dim = {reprlib.repr(values['head_dim'])}: should be hidden_size / "
                          f"num_attention_heads = {found.head_dim}")
    return found


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
        values = _section(read_json(path), "image_processor", str(path))
    else:
        values = read_json(path)
    where = str(path)
    _check_fixed(values, FIXED_PREPROCESSOR, where)
    values = {**values, **_pixels(values, where)}
    found = _check(_fill(PreprocessorConfig, values, where), PREPROCESSOR_RULES, where)
    vision = (config or read_config(folder)).vision
    for key, theirs in (("patch_size", "patch_size"), ("temporal_patch_size", "temporal_patch_size"),
                        ("merge_size", "spatial_merge_size")):
        if getattr(found, key) != getattr(vision, theirs):
            raise ConfigError(f"{where}: {key} = {getattr(found, key)}: should be {theirs} of config.json's "
                              f"vision_config, {getattr(vision, theirs)}")
    return found


def _pixels(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`size` gives *areas* under names that say edge; `min_pixels` and `max_pixels` win over it."""
    size = _section(values, "size", where)
    named = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    return {key: values[key] if values.get(key) is not None else edge for key, edge in named.items()}


GENERATION_DEFAULTS = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
                       "repetition_penalty": 1.0}


def read_generation(folder: str | Path, config: ModelConfig) -> GenerationConfig:
    """`generation_config.json`; without the file, or for keys it leaves out, the reference's defaults, with
    the end tokens of `config`; padding is the first end token unless said. Raises ConfigError.
    """
    path = Path(folder) / "generation_config.json"
    values = _given(read_json(path)) if path.exists() else {}
    where = str(path)
    _check_fixed(values, FIXED_GENERATION, where)
    ends = values.get("eos_token_id", config.eos_token_id)
    ends = _tuple(_typed("int | tuple[int, ...]", ends, where, "eos_token_id"))
    padding = {"pad_token_id": ends[0]} if ends else {}
    values = {**GENERATION_DEFAULTS, **padding, **values, "eos_token_ids": ends}
    found = _check(_fill(GenerationConfig, values, where), GENERATION_RULES, where)
    vocabulary = config.text.vocab_size
    if not all(0 <= token < vocabulary for token in (*found.eos_token_ids, found.pad_token_id)):
        raise ConfigError(f"{where}: eos_token_id = {reprlib.repr(found.eos_token_ids)}, pad_token_id = "
                          f"{found.pad_token_id}: should be 0 to {vocabulary - 1}, as config.json has it")
    return found


# ---- the released sizes, and writing -----------------------------------------------------------------------

# name: vision inner width, decoder width, layers, heads, kv heads, inner width, vocabulary, tied.
# 3B and 7B have a vision inner width of 3420; the report's table says 3456 for all.
OFFICIAL = {
    "3B": (3420, 2048, 36, 16, 2, 11008, 151936, True),
    "7B": (3420, 3584, 28, 28, 4, 18944, 152064, False),
    "32B": (3456, 5120, 64, 40, 8, 27648, 152064, False),
    "72B": (3456, 8192, 80, 64, 8, 29568, 152064, False),
}

OFFICIAL_PICTURES = PreprocessorConfig(               # preprocessor_config.json of every release: 4 to 16384 tokens
    min_pixels=4 * 28**2, max_pixels=16384 * 28**2, patch_size=14, temporal_patch_size=2, merge_size=2,
    image_mean=(0.48145466, 0.4578275, 0.40821073), image_std=(0.26862954, 0.26130258, 0.27577711))


def official_config(name: str) -> ModelConfig:
    """The configuration of a released size: "3B", "7B", "32B" or "72B". Else raises ConfigError."""
    if name not in OFFICIAL:
        raise ConfigError(f"no release is called {name!r}; there are {', '.join(OFFICIAL)}")
    inner, width, layers, heads, kv_heads, text_inner, vocab, tied = OFFICIAL[name]
    vision = VisionConfig(depth=32, hidden_size=1280, num_heads=16, intermediate_size=inner, in_channels=3,
                          patch_size=14, temporal_patch_size=2, spatial_merge_size=2, window_size=112,
                          fullatt_block_indexes=(7, 15, 23, 31), tokens_per_second=2, out_hidden_size=width)
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
    section = text.pop("mrope_section")
    return {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
            "tie_word_embeddings": config.tie_word_embeddings, **_ids(config), **text,
            "use_sliding_window": False, "rope_scaling": {"type": "mrope", "mrope_section": section},
            "vision_config": vision}


def to_nested_json(config: ModelConfig) -> dict[str, Any]:
    """The JSON object of a config.json in the newer nested layout."""
    vision, text, ids = _plain(config.vision), _plain(config.text), _ids(config)
    del vision["rms_norm_eps"]
    vision["rope_parameters"] = {"rope_type": "axial", "rope_theta": vision.pop("rope_theta")}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta"),
                               "mrope_section": text.pop("mrope_section")}
    text |= {key: ids.pop(key) for key in ("bos_token_id", "eos_token_id")}
    return {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
            "tie_word_embeddings": config.tie_word_embeddings, **ids,
            "text_config": {"model_type": "qwen2_5_vl_text", **text, "use_sliding_window": False},
            "vision_config": {"model_type": "qwen2_5_vl_vision", **vision}}


def _ids(config: ModelConfig) -> dict[str, Any]:
    return {f.name: _listed(getattr(config, f.name)) for f in fields(config) if f.name.endswith("_token_id")}


def _plain(part: VisionConfig | TextConfig) -> dict[str, Any]:
    return {key: _listed(value) for key, value in asdict(part).items()}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

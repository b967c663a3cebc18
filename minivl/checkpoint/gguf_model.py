"""A model of llama.cpp's files: the language model in one .gguf, its vision tower in a second one beside
it (`mmproj-*.gguf`). The metadata are said again as the object of a config.json, so that every value
goes through the same rules.

Without a tower's file the model reads text alone. What no metadata say has the value of every release:
the window of 112 pixels, 2x2 merging, frames in pairs, two steps of time a second; and numbers that were
written as float32 (1e-06) are the shortest decimals that have those bits.

Not here: the tokenizer (`text/gguf_vocabulary.py`). Read next: `gguf.py` (files), `gguf_names.py`
(tensors), `read.py` (which asks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import OFFICIAL_PICTURES, ConfigError, config_from
from ..door.errors import brief
from .gguf import GGUF
from .gguf_names import ARCHITECTURES, EMBEDDING, HEAD, hub_tensors
from .tree import Weight
from .weight import CheckpointError

ENDING, TOWER = ".gguf", "mmproj"                       # of every file; in the name of a tower's
OURS = (".safetensors", ".safetensors.index.json", "packed.json")      # endings that decide before it
TEXT_KEYS = {                                           # of config.json -> of the metadata
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length", "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon", "rope_theta": "rope.freq_base",
}
YARN_KEYS = {"original_max_position_embeddings": "original_context_length",
             "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}
VISION_KEYS = {
    "hidden_size": "embedding_length", "depth": "block_count", "num_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length", "patch_size": "patch_size",
    "out_hidden_size": "projection_dim", "rms_norm_eps": "attention.layer_norm_epsilon",
}
RELEASES = {"temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112, "tokens_per_second": 2}
MARKS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
         "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
PROJECTOR = "qwen2.5vl_merger"


class Pair(NamedTuple):
    """The two files of a model; tower: None when there is none beside it."""
    language: Path
    tower: Path | None


class Described(NamedTuple):
    """All that a pair says beside its numbers. config: as config.json has it; metadata: of the language
    model; pictures: as preprocessor_config.json has it; where: the file to name"""
    config: dict[str, Any]
    metadata: Mapping[str, Any]
    pictures: dict[str, Any]
    where: Path


def pair_of(path: Path) -> Pair | None:
    """The files of a model by one of them, or by their folder when nothing else is in it that could be
    meant; None for whatever is no model of llama.cpp's.

    Raises CheckpointError when several could be meant.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not (path.name.lower().endswith(ENDING) and path.is_file()):
        return None
    every = sorted(p.name for p in folder.iterdir())
    if path.is_dir() and any(name.endswith(OURS) for name in every):
        return None
    names = [name for name in every if name.lower().endswith(ENDING)]
    towers = [name for name in names if TOWER in name.lower()]
    models = [name for name in names if name not in towers] if path.is_dir() else [path.name]
    if not names:
        return None
    if not models or models[0] in towers:
        raise CheckpointError(f"{path}: is a vision tower without its language model; put both files into "
                              "a folder and name that")
    for found, what in ((models, "language models"), (towers, "vision towers")):
        if len(found) > 1:
            name_it = "name the file" if found is models else "leave the one that is meant there"
            raise CheckpointError(f"{folder}: holds {len(found)} {what} ({', '.join(found)}): {name_it}")
    return Pair(folder / models[0], folder / towers[0] if towers else None)


def read_pair(pair: Pair) -> tuple[Described, dict[str, Weight], list[GGUF]]:
    """What a pair says, its tensors by the hub's names, and the open files that they lie in.

    Raises CheckpointError or ConfigError, naming file and key; nothing stays open then.
    """
    files: list[GGUF] = []
    try:
        for path in filter(None, pair):
            files.append(GGUF(path))
        said = described(files)
        config = config_from(said.config, str(said.where))
        tensors = {name: weight for file in files for name, weight in file.tensors.items()}
        return said, hub_tensors(tensors, config, ARCHITECTURES[_architecture(files[0])]), files
    except BaseException:
        for file in files:
            file.close()
        raise


def described(files: list[GGUF]) -> Described:
    """What the metadata of a language model and of its tower say."""
    language, towers = files[0], files[1:]
    meta = Metadata(language, _architecture(language))
    if meta.whole("split.count", 1) != 1:
        raise CheckpointError(f"{language.path}: is one of several parts of a model; join them first with "
                              "llama-gguf-split --merge")
    embedding = language.tensors.get(EMBEDDING)
    if embedding is None:
        raise CheckpointError(f"{language.path}: holds no {EMBEDDING}; take a file of the whole model")
    text = {key: meta.need(theirs) for key, theirs in TEXT_KEYS.items()}
    config = {"model_type": "qwen2_5_vl", **text, "hidden_act": "silu", "use_sliding_window": False,
              "vocab_size": embedding.shape[0], "tie_word_embeddings": HEAD not in language.tensors,
              "rope_scaling": {**_scaling(meta), "mrope_section": _sections(meta, text)},
              **_token_ids(meta), "vision_config": _vision(towers, text["hidden_size"])}
    pictures = _pictures(Metadata(towers[0] if towers else language, "clip.vision"))
    return Described(config, language.metadata, pictures, language.path)


class Metadata:
    """Metadata of a file, the keys under a prefix. Raises ConfigError, which names file and key."""

    def __init__(self, file: GGUF, prefix: str):
        self.file, self.prefix, self.where = file, prefix, str(file.path)

    def get(self, key: str, default: Any = None) -> Any:
        """A value as JSON would have it, by its key under the prefix."""
        value = self.file.metadata.get(f"{self.prefix}.{key}", default)
        if isinstance(value, np.ndarray):
            value = value[:4097].tolist()                # no list of a config is as long
            return [_shortest(one) for one in value]
        return _shortest(value)

    def need(self, key: str) -> Any:
        """A value that must be there."""
        value = self.get(key)
        if value is None:
            raise ConfigError(f"{self.where}: {self.prefix}.{key} is missing; convert the model anew")
        return value

    def whole(self, key: str, default: int) -> int:
        """An integer by its full key."""
        value = self.file.metadata.get(key, default)
        if type(value) is not int:
            raise ConfigError(f"{self.where}: {key} = {brief(value)}, should be an integer")
        return value

    def must(self, key: str, *allowed: Any) -> None:
        """Raise unless a value that leaves no choice is one of these."""
        if (value := self.get(key)) not in allowed:
            raise ConfigError(f"{self.where}: {self.prefix}.{key} = {brief(value)}, should be "
                              f"{' or '.join(map(repr, allowed))}: another is no part of this model")


def _shortest(value: Any) -> Any:
    """A float32 as the decimal that its writer meant: 1e-06, not 9.999999974752427e-07."""
    if type(value) is not float:
        return value
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    return float(str(narrow)) if float(narrow) == value else value


def _architecture(file: GGUF) -> str:
    found = file.metadata.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise ConfigError(f"{file.path}: general.architecture is {brief(found)}, can be "
                          f"{', '.join(ARCHITECTURES)} (Qwen2.5-VL is 'qwen2vl'): another model's file")
    return found


def _scaling(meta: Metadata) -> dict[str, Any]:
    """How angles are stretched for contexts beyond the trained length: config.json's rope_scaling.

    llama.cpp forms them as the reference does by such a config.json. The reference itself, given the .gguf,
    passes the metadata by and stretches nothing, so what it then writes beyond the trained length is another
    model's. What only llama.cpp can do beside YaRN is refused.
    """
    meta.must("rope.scaling.type", None, "none", "yarn")
    meta.must("rope.scale_linear", None, 1.0)                    # what older files say
    if meta.get("rope.scaling.type") != "yarn":
        return {"type": "mrope"}
    for key, plain in (("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0), ("alpha", None)):
        meta.must(f"rope.scaling.{key}", None, plain)
    said = {ours: meta.get(f"rope.scaling.{theirs}") for ours, theirs in YARN_KEYS.items()}
    found = {key: value for key, value in said.items() if value is not None}
    found = {"factor": meta.need("rope.scaling.factor"), **found, "type": "yarn"}
    by = [meta.get(f"rope.scaling.{key}", 1.0) for key in ("attn_factor", "yarn_attn_factor")]
    if by == [1.0, 1.0]:
        return found
    if any(type(one) is not float or not one > 0 for one in by) or type(found["factor"]) is not float:
        raise ConfigError(f"{meta.where}: {meta.prefix}.rope.scaling.factor, attn_factor and "
                          f"yarn_attn_factor must be positive numbers, are {brief(found['factor'])}, {brief(by[0])} "
                          f"and {brief(by[1])}")
    rule = 0.1 * math.log(max(found["factor"], 1.0)) + 1.0
    return {**found, "attention_factor": by[0] * by[1] * rule}


def _sections(meta: Metadata, text: Mapping[str, Any]) -> list[int]:
    """How many angles turn with time, row and column; all of them with time in a model of text."""
    if ARCHITECTURES[meta.prefix].sections:
        found = meta.need("rope.dimension_sections")
        if not isinstance(found, list) or len(found) != 4 or found[3] != 0:
            raise ConfigError(f"{meta.where}: {meta.prefix}.rope.dimension_sections should be four "
                              f"counts, of time, row, column, and 0, is {brief(found)}")
        return found[:3]
    heads, width = text["num_attention_heads"], text["hidden_size"]
    if type(heads) is not int or type(width) is not int or heads < 1:
        raise ConfigError(f"{meta.where}: {meta.prefix}.attention.head_count and embedding_length should "
                          f"be counts, are {brief(heads)} and {brief(width)}")
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        meta.must(key, None, width // heads)
    return [width // heads // 2, 0, 0]


def _token_ids(meta: Metadata) -> dict[str, Any]:
    """Ids of the tokens that the model knows by their number. A model of text has none for pictures:
    numbers below zero, which no text has."""
    tokens = meta.file.metadata.get("tokenizer.ggml.tokens")
    known = tokens if isinstance(tokens, list) else []
    places = {token: n for n, token in enumerate(known) if token in MARKS.values()}
    ids = {key: places.get(token, -1 - n) for n, (key, token) in enumerate(MARKS.items())}
    said = meta.file.metadata
    return {**ids, "bos_token_id": said.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": meta.whole("tokenizer.ggml.eos_token_id", 0)}


def _vision(towers: list[GGUF], width: Any) -> dict[str, Any]:
    """config.json's vision_config: the tower's, or none that has blocks."""
    if not towers:
        return {"depth": 0, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, **RELEASES,
                "fullatt_block_indexes": [], "out_hidden_size": width}
    meta = Metadata(towers[0], "clip")
    Metadata(towers[0], "general").must("architecture", "clip")
    projector = "projector_type" if meta.get("projector_type") is not None else "vision.projector_type"
    meta.must(projector, PROJECTOR)
    meta.must("use_silu", True)
    vision = Metadata(towers[0], "clip.vision")
    said = {key: vision.need(theirs) for key, theirs in VISION_KEYS.items()}
    others = {key: vision.get(key, value) for key, value in RELEASES.items()}
    every, depth = vision.need("n_wa_pattern"), said["depth"]
    if type(every) is not int or type(depth) is not int or not 0 < every <= depth <= 4096:
        raise ConfigError(f"{meta.where}: clip.vision.n_wa_pattern = {brief(every)}, should be 1 to "
                          f"block_count, {brief(depth)}: each so many blocks, one sees the picture")
    full = list(range(every - 1, depth, every))
    return {**said, **others, "in_chans": 3, "hidden_act": "silu", "fullatt_block_indexes": full}


def _pictures(vision: Metadata) -> dict[str, Any]:
    """preprocessor_config.json's object: the releases', with what the tower says of colours and
    limits."""
    values = {key: value for key, value in asdict(OFFICIAL_PICTURES).items() if key != "source"}
    keys = {"min_pixels": "image_min_pixels", "max_pixels": "image_max_pixels", "patch_size": "patch_size",
            "image_mean": "image_mean", "image_std": "image_std"}
    said = {key: vision.get(theirs) for key, theirs in keys.items()}
    return values | {key: value for key, value in said.items() if value is not None}

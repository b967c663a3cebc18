"""Which tensor of a checkpoint stands where in the model: one table, and the audit of a checkpoint
against it.

Tensor names appear here and nowhere else. Each row gives a place in the tree of `tree.py` and the
tensors that fill it, stacked on axis 0 in this order, each with its shape in the terms of `terms`. The
names are the hub's; `LAYOUTS` turns the other layout (what the reference calls its tensors in memory)
into them. A packed checkpoint (`packed_folder.py`) calls its tensors by their places.

Read next: `read.py` (files), `tree.py` (the tree).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..config import ModelConfig, TextConfig, VisionConfig
from ..door.errors import brief
from .awq import four_bit
from .tree import MLP, Block, Decoder, Linear, Merger, Model, Norm, Vision, Weight
from .weight import STORED, Absent, Blank, CheckpointError, Joined, Stored, precision, reshaped

Place = Callable[[str, Weight], Weight]
BLOCK, LAYER = "visual.blocks.*.", "model.layers.*."         # `*` runs over the blocks of the part
TABLE: dict[str, dict[str, str]] = {
    "vision.patch_embed.weight": {"visual.patch_embed.proj.weight": "V C T P P"},
    "vision.blocks.*.norm1": {BLOCK + "norm1.weight": "V"},
    "vision.blocks.*.qkv.weight": {BLOCK + "attn.qkv.weight": "3V V"},
    "vision.blocks.*.qkv.bias": {BLOCK + "attn.qkv.bias": "3V"},
    "vision.blocks.*.out.weight": {BLOCK + "attn.proj.weight": "V V"},
    "vision.blocks.*.out.bias": {BLOCK + "attn.proj.bias": "V"},
    "vision.blocks.*.norm2": {BLOCK + "norm2.weight": "V"},
    "vision.blocks.*.gate_up.weight": {BLOCK + "mlp.gate_proj.weight": "J V",
                                       BLOCK + "mlp.up_proj.weight": "J V"},
    "vision.blocks.*.gate_up.bias": {BLOCK + "mlp.gate_proj.bias": "J",
                                     BLOCK + "mlp.up_proj.bias": "J"},
    "vision.blocks.*.down.weight": {BLOCK + "mlp.down_proj.weight": "V J"},
    "vision.blocks.*.down.bias": {BLOCK + "mlp.down_proj.bias": "V"},
    "vision.merger.norm": {"visual.merger.ln_q.weight": "V"},
    "vision.merger.inner.weight": {"visual.merger.mlp.0.weight": "M M"},
    "vision.merger.inner.bias": {"visual.merger.mlp.0.bias": "M"},
    "vision.merger.outer.weight": {"visual.merger.mlp.2.weight": "H M"},
    "vision.merger.outer.bias": {"visual.merger.mlp.2.bias": "H"},
    "decoder.embed": {"model.embed_tokens.weight": "N H"},
    "decoder.layers.*.norm1": {LAYER + "input_layernorm.weight": "H"},
    "decoder.layers.*.qkv.weight": {LAYER + "self_attn.q_proj.weight": "Q H",
                                    LAYER + "self_attn.k_proj.weight": "K H",
                                    LAYER + "self_attn.v_proj.weight": "K H"},
    "decoder.layers.*.qkv.bias": {LAYER + "self_attn.q_proj.bias": "Q",
                                  LAYER + "self_attn.k_proj.bias": "K",
                                  LAYER + "self_attn.v_proj.bias": "K"},
    "decoder.layers.*.out.weight": {LAYER + "self_attn.o_proj.weight": "H Q"},
    "decoder.layers.*.norm2": {LAYER + "post_attention_layernorm.weight": "H"},
    "decoder.layers.*.gate_up.weight": {LAYER + "mlp.gate_proj.weight": "I H",
                                        LAYER + "mlp.up_proj.weight": "I H"},
    "decoder.layers.*.down.weight": {LAYER + "mlp.down_proj.weight": "H I"},
    "decoder.norm": {"model.norm.weight": "H"},
    "decoder.head": {"lm_head.weight": "N H"},        # a tied model has none: its head is the embedding
}
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"

# beginnings of the other layouts: the reference's names in memory, and those of its model without a head
LAYOUTS = (
    ("model.visual.", "visual."), ("model.language_model.", "model."),
    ("language_model.layers.", "model.layers."), ("language_model.norm.", "model.norm."),
    ("language_model.embed_tokens.", "model.embed_tokens."),
)
HARMLESS = ("rotary_emb.inv_freq", "rotary_pos_emb.inv_freq")        # some tools write them; never read
TAKE = "of quantised checkpoints AWQ and GGUF are read; take one of these, or the bf16 release"
MLX = r"(vision_tower|language_model\.model|language_model\.lm_head|merger|model\.vision_tower)\."
# what names of tensors tell that the table does not know; the first that fits is said
HINTS = (
    (r".*\.(lora_|base_layer\.|modules_to_save\.|original_module\.|lora_magnitude|hada_|oft_|ia3_)"
     r"|base_model\.model\.",
     "these are adapters (of peft, such as LoRA) that were never merged: merge them into the model "
     "(merge_and_unload()) and save that"),
    (r".*\.(qweight|qzeros|g_idx|scales|qscales)$", "this is quantised: of AWQ config.json should have the "
     f"quantization_config; if it is GPTQ, {TAKE}"),
    (r".*\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[\w.]+)$|.*\.SCB$",
     f"this is quantised (by bitsandbytes, in 4 or 8 bits): {TAKE}"),
    (r".*(weight_scale|weight_scale_inv|input_scale|_scale|weight_packed|weight_shape|weight_zero_point|"
     r"scale_inv|_scales_and_zp|weight_global_scale|input_global_scale|tensor_meta|_zp|_blocks)$",
     f"this is quantised (8 bits or fewer, such as FP8): {TAKE}"),
    (MLX, "this is a conversion for MLX: take the model's own release, in the hub's names"),
    (r"(module|_orig_mod|_fsdp_wrapped_module)\.",
     "a wrapper's name stands in front (module., _orig_mod.): save the model inside of the wrapper"),
    (r"(thinker|talker|token2wav)\.", "this is Qwen2.5-Omni, another model; it is not read"),
)


def terms(config: ModelConfig) -> dict[str, int]:
    """What the letters in the table's shapes stand for."""
    v, t = config.vision, config.text
    return {"V": v.hidden_size, "J": v.intermediate_size, "C": v.in_channels, "T": v.temporal_patch_size,
            "P": v.patch_size, "M": v.hidden_size * v.spatial_merge_size ** 2,
            "H": t.hidden_size, "I": t.intermediate_size, "N": t.vocab_size,
            "Q": t.heads * t.head_dim, "K": t.kv_heads * t.head_dim}


def wanted(config: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """The table for one model: place -> {tensor: shape}, in the table's order."""
    sizes = terms(config)
    return {place: {name: _shape(shape, sizes) for name, shape in sources.items()}
            for place, sources in _rows(config)}


def place_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every place of the tree with the shape of all that stands there: q, k and v as one matrix. A
    packed checkpoint names its tensors so."""
    found = {}
    for place, sources in wanted(config).items():
        heights, rests = zip(*((shape[0], shape[1:]) for shape in sources.values()), strict=True)
        found[place] = (sum(heights), *((prod(rests[0]),) if rests[0] else ()))
    return found


def weights_of(model: Model) -> dict[str, Weight]:
    """Every weight of a tree by its place; a tied head, which is the embedding, not again."""
    return {place: _weight_at(model, place) for place, _ in _rows(model.config)}


def _weight_at(model: Model, place: str) -> Weight:
    part: Any = model
    for word in place.split("."):
        if word.isdigit():
            part = part[int(word)]
        else:
            part = getattr(part, word) if hasattr(part, word) else getattr(part.mlp, word)
    found: Weight = part.weight if isinstance(part, Linear | Norm) else part
    return found


def parameters(model: Model) -> int:
    """How many numbers a model has, a tied table once."""
    return sum(prod(weight.shape) for weight in weights_of(model).values())


def formats(model: Model) -> str:
    """How the numbers of a model are kept, the format of most of them first: "bf16", "int8, bf16"."""
    counts = Counter[str]()
    for weight in weights_of(model).values():
        counts[weight.format] += prod(weight.shape)
    return ", ".join(format for format, _ in counts.most_common())


def _rows(config: ModelConfig) -> Iterator[tuple[str, dict[str, str]]]:
    for place, sources in TABLE.items():
        count = config.vision.depth if place.startswith("vision") else config.text.num_hidden_layers
        if place == "decoder.head" and config.tie_word_embeddings:
            continue
        if place.startswith("vision") and not config.vision.depth:        # a model of text has no tower
            continue
        for i in range(count if "*" in place else 1):
            yield place.replace("*", str(i)), {name.replace("*", str(i)): s
                                               for name, s in sources.items()}


def _shape(text: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """`"3V V"` -> (3 * sizes["V"], sizes["V"])."""
    return tuple(int(term[:-1] or 1) * sizes[term[-1]] for term in text.split())


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint, by its name in the hub's layout, with its shape."""
    return {name: shape for sources in wanted(config).values() for name, shape in sources.items()}


def expected_of(tensors: Iterable[str], config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What a checkpoint with tensors of these names must hold: with one that is called by its place,
    all places; else all tensors by the hub's names."""
    places = place_shapes(config)
    return shapes(config) if places.keys().isdisjoint(tensors) else places


def blank_tensors(config: ModelConfig, format: str = "bf16") -> dict[str, Weight]:
    """A checkpoint of zeros that takes no memory, for any size: `build(blank_tensors(c), c, dtype)`."""
    return {name: Blank(shape, format) for name, shape in shapes(config).items()}


def hub_name(name: str) -> str:
    """The hub's name of a tensor that either layout names."""
    for theirs, ours in LAYOUTS:
        if name.startswith(theirs):
            return ours + name[len(theirs):]
    return name


@dataclass
class Audit:
    """How a checkpoint departs from its configuration, a line a tensor. Only `unused` is tolerated."""
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)
    wrong_dtype: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def hint(self) -> str | None:
        """What kind of checkpoint the names and formats tell of, and what to do."""
        names = [line.split(" ")[0] for line in self.unexpected]
        for pattern, words in HINTS:
            if any(re.match(pattern, name) for name in names):
                return words
        return _quantised(line.split(" ")[1].rstrip(",") for line in self.wrong_dtype)

    @property
    def ok(self) -> bool:
        return not any(found for kind, found in vars(self).items() if kind != "unused")

    def __str__(self) -> str:
        lines = []
        for kind, found in vars(self).items():
            if found:
                lines.append(f"{kind.replace('_', ' ')} ({len(found)}):")
                lines += [f"  {line[:240]}" for line in found[:10]]
                lines += [f"  ... and {len(found) - 10} more"] if len(found) > 10 else []
        lines += [hint] if (hint := self.hint()) else []
        return "\n".join(lines) or "every tensor in its place, each used once"


def _quantised(formats: Iterable[str]) -> str | None:
    """What formats of numbers tell that no weight of this model has."""
    bits8 = sorted({one for one in formats if one.startswith("f8") or one in ("i8", "u8")})
    words = "8 bits, such as FP8 or INT8, or 4 bits packed into them"
    return f"this is quantised ({', '.join(bits8)}: {words}): {TAKE}" if bits8 else None


def audit(tensors: Mapping[str, Weight], config: ModelConfig) -> Audit:
    """Hold a checkpoint's tensors against the table: their names are the hub's, or places of the tree.
    Reads no data, unless a tied model has a head as well."""
    report, found = Audit(), _by_hub_name(tensors)
    for name, group in found.items():
        if len(group) > 1:
            report.conflicting.append(f"{name} is there {len(group)} times, as {', '.join(group)}")
    expected = expected_of(tensors, config)
    for name, shape in expected.items():
        if name not in found:
            hint = "; with a tied head config.json should say tie_word_embeddings: true" * (name == HEAD)
            report.missing.append(f"{name} {list(shape)}{hint}")
            continue
        weight = tensors[found[name][0]]
        if weight.shape != shape:
            report.wrong_shape.append(f"{name} {list(weight.shape)}, should be {list(shape)}")
        if isinstance(weight, Stored) and weight.format not in STORED:       # other kinds know their own
            report.wrong_dtype.append(f"{name} {weight.format}, should be one of {', '.join(STORED)}")
    for name in found.keys() - expected.keys():
        if name == HEAD and EMBED in found:
            _tied_head(tensors[found[EMBED][0]], tensors[found[HEAD][0]], report)
        else:
            (report.unused if name.endswith(HARMLESS) else report.unexpected).append(name)
    report.unexpected.sort()
    return report


def _by_hub_name(tensors: Mapping[str, Weight]) -> dict[str, list[str]]:
    """hub name -> the names under which the checkpoint has it: one, unless layouts are mixed."""
    found: dict[str, list[str]] = {}
    for name in tensors:
        found.setdefault(hub_name(name), []).append(name)
    return found


def _tied_head(embed: Weight, head: Weight, report: Audit) -> None:
    """A tied model needs no head; an equal copy is tolerated, another head means that the tie is
    wrong."""
    alike = embed.shape == head.shape and embed.format == head.format and head.format in STORED
    if alike and _equal(embed, head):
        report.unused.append(f"{HEAD}: an equal copy of {EMBED}; the model is tied and needs none")
    else:
        report.conflicting.append(f"{HEAD} differs from {EMBED}, but config.json ties them; if the "
                                  "head was trained apart, set tie_word_embeddings to false")


def _equal(a: Weight, b: Weight, rows: int = 4096) -> bool:
    """Compare bit by bit, some rows at a time, so that no copy of a vocabulary is made."""
    if not isinstance(a, Stored) or not isinstance(b, Stored):
        return False
    bits = [weight.stored.view(f"u{weight.stored.itemsize}") for weight in (a, b)]
    return all(np.array_equal(bits[0][i:i + rows], bits[1][i:i + rows])
               for i in range(0, a.shape[0], rows))


def unpacked(tensors: Mapping[str, Weight], quantisation: Mapping[str, Any] |
              None) -> Mapping[str, Weight]:
    """Tensors as weights of the model, before they are audited: where several tensors of a quantised
    file (packed numbers, scales, zeros) become one weight under the name that the table knows.

    quantisation: config.json's `quantization_config`, None for a file of plain numbers.
    Raises CheckpointError for a method that cannot be unpacked: today that is every one but AWQ's.
    """
    if quantisation:
        method = quantisation.get("quant_method") if isinstance(quantisation, Mapping) else quantisation
        if method == "awq" and isinstance(quantisation, Mapping):
            return four_bit(tensors, quantisation)
        raise CheckpointError(f"quantization_config says {brief(method)}: {TAKE}"
                              + (" (this is a conversion for MLX)" if method == "mlx" else ""))
    return tensors


def build(tensors: Mapping[str, Weight], config: ModelConfig, dtype: Any,
          place: Place | None = None) -> Model:
    """The model's tree over these tensors, in the precision `dtype`; nothing is copied or read.

    place: `place(name, weight)` gives what stands for a tensor (by its hub's name), before q, k and v
        or gate and up are joined: one machine's layout. A rank's share of the rows also needs blocks
        whose configuration has its share of the heads (`Block.config`).
    Raises CheckpointError with the whole audit when it is not `ok`.
    """
    report = audit(tensors, config)
    if not report.ok:
        raise CheckpointError(f"the checkpoint does not fit its configuration\n{report}")
    parts, v, t = Parts(tensors, config, place), config.vision, config.text
    layers = tuple(parts.block(f"decoder.layers.{i}", t) for i in range(t.num_hidden_layers))
    embed, norm = parts.take("decoder.embed"), parts.norm("decoder.norm", t)
    head = Linear(embed if config.tie_word_embeddings else parts.take("decoder.head"), None)
    dtype = precision(dtype)
    return Model(parts.tower(v, dtype) if v.depth else no_tower(v, dtype),
                 Decoder(embed, layers, norm, head, t, dtype),
                 config)


class Parts:
    """Parts of the tree by their place in the table, out of a checkpoint's tensors."""

    def __init__(self, tensors: Mapping[str, Weight], config: ModelConfig, place: Place | None):
        found = _by_hub_name(tensors)
        self.tensors = {name: tensors[group[0]] for name, group in found.items()}
        self.places, self.place = wanted(config), place or (lambda name, weight: weight)

    def take(self, where: str) -> Weight:
        """The weight of a place: the one of its name, or its tensors, each put where it belongs, joined
        when there are several."""
        if where in self.tensors:
            return self.place(where, self.tensors[where])
        parts = [self.place(name, self.tensors[name]) for name in self.places[where]]
        return parts[0] if len(parts) == 1 else Joined(parts)

    def tower(self, v: VisionConfig, dtype: np.dtype) -> Vision:
        """The vision tower; its kernels of patches as one matrix."""
        # V C T P P -> d x
        patch = reshaped(self.take("vision.patch_embed.weight"), (v.hidden_size, v.patch_values))
        merger = Merger(self.norm("vision.merger.norm", v), self.linear("vision.merger.inner"),
                        self.linear("vision.merger.outer"))
        blocks = tuple(self.block(f"vision.blocks.{i}", v) for i in range(v.depth))
        return Vision(Linear(patch, None), blocks, merger, v, dtype)

    def linear(self, where: str) -> Linear:
        """A matrix with its bias, when the table has one."""
        bias = f"{where}.bias"
        return Linear(self.take(f"{where}.weight"), self.take(bias) if bias in self.places else None)

    def norm(self, where: str, part: VisionConfig | TextConfig) -> Norm:
        """A norm's weight, with the part's epsilon."""
        return Norm(self.take(where), part.rms_norm_eps)

    def block(self, where: str, part: VisionConfig | TextConfig) -> Block:
        """One block of the tower or one layer of the decoder."""
        mlp = MLP(self.linear(f"{where}.gate_up"), self.linear(f"{where}.down"))
        return Block(self.norm(f"{where}.norm1", part), self.linear(f"{where}.qkv"),
                     self.linear(f"{where}.out"),
                     self.norm(f"{where}.norm2", part), mlp, part)


def no_tower(v: VisionConfig, dtype: np.dtype) -> Vision:
    """What stands in the place of a tower in a model of text: its shapes, and no numbers."""
    def absent(*shape: int) -> Weight:
        return Absent(shape, "this model has no vision tower and reads text alone; load it together with "
                      "its tower, for a .gguf its mmproj file")
    wide = v.hidden_size * v.spatial_merge_size ** 2
    merger = Merger(Norm(absent(v.hidden_size), v.rms_norm_eps), Linear(absent(wide, wide), None),
                    Linear(absent(v.out_hidden_size, wide), None))
    return Vision(Linear(absent(v.hidden_size, v.patch_values), None), (), merger, v, dtype)

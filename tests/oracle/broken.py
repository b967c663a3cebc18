"""Known faults written anew, in PyTorch, into a copy of the reference: what a port with that fault looks like.

None of it shares a line with `minivl/truth/museum/`. Each breaks a fresh copy of the model, or what it is given, in
the way that the incident tells: a number of a block that is a text, positions made by another loop, a norm in another
type. `STRANGE` are faults that the museum does not have.

    with broken("windows-missing", model, given):
        logits(model, given.inputs, given.positions)

Read next: `test_diagnose_oracle.py`, which lets `diagnose` name them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MethodType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

from .reference import Inputs, token_types
from .strategies import Case, Medium

Breaker = Callable[[Any, "Given", ExitStack], None]
KNOWN: dict[str, tuple[Breaker, Case]] = {}
STRANGE: dict[str, tuple[Breaker, Case]] = {}

# Other depths, widths, heads, windows and grids than the embedded model's and the museum's own.
MODEL = {"depth": 4, "vision_heads": 2, "vision_head_dim": 20, "window_size": 84, "full": (0, 2), "layers": 3,
         "kv_heads": 3, "queries_per_kv": 2, "mrope_section": (3, 2, 3), "rope_theta": 1e4, "seed": 11}
RAGGED = Case((Medium((1, 14, 8)),), **MODEL)                               # windows of 6 patches, cut off both ways
PICTURES = Case((Medium((1, 6, 10)), Medium((1, 8, 4), text_before=3)), **MODEL)
VIDEO = Case((Medium((3, 4, 6), 3.0), Medium((1, 4, 8))), **MODEL)          # a video, then a picture
FAST = Case((Medium((4, 4, 4), 0.5),), **MODEL)
LONG = Case((Medium((1, 4, 4)),), text_after=270, **MODEL)
LARGE = Case((Medium((1, 34, 34)),), **MODEL)                               # 289 cells
TIED = replace(RAGGED, tied=True)


@dataclass
class Given:
    """What the model is asked: a fault before the model changes this."""
    inputs: Inputs
    positions: np.ndarray

    def visual(self, model: Any) -> list[tuple[int, int, int]]:
        """(kind, start, end) of the rows of each picture (1) and video (2)."""
        types = token_types(model, self.inputs.input_ids)
        ends = [0, *(np.flatnonzero(np.diff(types)) + 1).tolist(), len(types)]
        return [(int(types[a]), a, b) for a, b in pairwise(ends) if types[a]]


def known(case: Case) -> Callable[[Breaker], Breaker]:
    """Enter a fault of the museum, under its name."""
    def enter(breaker: Breaker) -> Breaker:
        KNOWN[breaker.__name__.replace("_", "-")] = breaker, case
        return breaker
    return enter


def strange(case: Case) -> Callable[[Breaker], Breaker]:
    """Enter a fault that the museum does not have."""
    def enter(breaker: Breaker) -> Breaker:
        STRANGE[breaker.__name__.replace("_", " ")] = breaker, case
        return breaker
    return enter


@contextmanager
def broken(breaker: Breaker | None, model: Any, given: Given) -> Iterator[None]:
    """The model with the fault in it, while it is open."""
    with ExitStack() as stack:
        if breaker:
            breaker(model, given, stack)
        yield


# ---- patches ------------------------------------------------------------------------------------------------

def pictures(given: Given) -> list[np.ndarray]:
    """The patches of each picture."""
    counts = given.inputs.image_grid_thw.prod(axis=1)
    return np.split(given.inputs.pixel_values, np.cumsum(counts)[:-1])


@known(RAGGED)
def patches_in_raster_order(model, given, stack):
    (rows,), (grid,) = pictures(given), given.inputs.image_grid_thw
    flat = np.empty_like(rows)
    number = 0
    for block_row in range(0, grid[1], 2):
        for block_column in range(0, grid[2], 2):
            for row in (block_row, block_row + 1):
                for column in (block_column, block_column + 1):
                    flat[row * grid[2] + column] = rows[number]
                    number += 1
    given.inputs = replace(given.inputs, pixel_values=flat)


@known(RAGGED)
def patch_axes_swapped(model, given, stack):
    rows = given.inputs.pixel_values.reshape(-1, 3, 2, 14, 14)
    given.inputs = replace(given.inputs, pixel_values=np.moveaxis(rows, 1, -1).reshape(len(rows), -1).copy())


# ---- windows ------------------------------------------------------------------------------------------------

def sees(model, stack, which, ends: Callable[[Any], torch.Tensor]) -> None:
    """Other segments for the blocks that `which` picks."""
    for number, block in enumerate(model.model.visual.blocks):
        if which(number):
            def other(module, args, kwargs):
                return args, {**kwargs, "cu_seqlens": ends(kwargs["cu_seqlens"])}
            stack.callback(block.attn.register_forward_pre_hook(other, with_kwargs=True).remove)


@known(RAGGED)
def windows_missing(model, given, stack):
    model.model.visual.fullatt_block_indexes = range(1000)


@known(RAGGED)
def full_attention_never_used(model, given, stack):
    model.model.visual.fullatt_block_indexes = [str(n) for n in model.model.visual.fullatt_block_indexes]


@known(RAGGED)
def windows_swapped_with_full(model, given, stack):
    visual = model.model.visual
    visual.fullatt_block_indexes = [n for n, _ in enumerate(visual.blocks) if n not in visual.fullatt_block_indexes]


@known(RAGGED)
def windows_wrong_at_the_edges(model, given, stack):
    visual = model.model.visual
    whole = (visual.window_size // visual.patch_size) ** 2
    sees(model, stack, lambda n: n not in visual.fullatt_block_indexes,
         lambda ends: torch.tensor([*range(0, int(ends[-1]), whole), int(ends[-1])], dtype=ends.dtype))


@known(VIDEO)
def frames_see_each_other(model, given, stack):
    visual = model.model.visual
    sizes = [given.inputs.video_grid_thw[0].prod(), given.inputs.image_grid_thw[0].prod()]
    sees(model, stack, lambda n: n in visual.fullatt_block_indexes,
         lambda ends: torch.tensor([0, sizes[0], sum(sizes)], dtype=ends.dtype))


@known(PICTURES)
def pictures_see_each_other(model, given, stack):
    visual = model.model.visual
    sees(model, stack, lambda n: n in visual.fullatt_block_indexes, lambda ends: ends[[0, -1]])


@known(RAGGED)
def order_not_inverted(model, given, stack):
    visual = model.model.visual

    def wrong(module, args, kwargs, out):
        index, _ = modeling.get_vision_window_index(kwargs["grid_thw"], spatial_merge_size=2, patch_size=14,
                                                    window_size=visual.window_size)
        out.pooler_output = out.pooler_output[index][index]
        return out
    stack.callback(visual.register_forward_hook(wrong, with_kwargs=True).remove)


@known(LARGE)
def gather_index_too_narrow(model, given, stack):
    ask = modeling.get_vision_window_index

    def rounded(*args, **kwargs):
        index, ends = ask(*args, **kwargs)
        return index.bfloat16().long().clamp(max=len(index) - 1), ends
    stack.enter_context(patch.object(modeling, "get_vision_window_index", rounded))


# ---- positions ----------------------------------------------------------------------------------------------

def loops(model, given: Given, gap: int = 1, seconds: Any = None, until: int = 1000) -> np.ndarray:
    """Positions made by loops: text goes on at the largest number plus `gap`; from medium `until` on all is text."""
    inputs, columns, at = given.inputs, [], 0
    grids = {1: iter([] if inputs.image_grid_thw is None else inputs.image_grid_thw.tolist()),
             2: iter([] if inputs.video_grid_thw is None else inputs.video_grid_thw.tolist())}
    per_second = model.config.vision_config.tokens_per_second
    seconds = iter([] if inputs.second_per_grid_ts is None else seconds or inputs.second_per_grid_ts.tolist())
    media = {start: (kind, end) for kind, start, end in given.visual(model)[:until]}
    row, start = 0, 0
    while row < len(inputs.input_ids):
        if row not in media:
            columns.append((start, start, start))
            row, start = row + 1, start + 1
            continue
        kind, end = media[row]
        frames, height, width = next(grids[kind])
        tick = next(seconds) * per_second if kind == 2 else 1.0
        columns += [(start + int(f * tick), start + y, start + x) for f in range(frames)
                    for y in range(height // 2) for x in range(width // 2)]
        at = max(max(column) for column in columns)
        row, start = end, at + gap
    return np.array(columns).T


@known(RAGGED)
def text_after_picture_off_by_one(model, given, stack):
    given.positions = loops(model, given, gap=0)


@known(RAGGED)
def prompt_with_1d_positions(model, given, stack):
    given.positions = np.arange(3 * len(given.inputs.input_ids)).reshape(3, -1) % len(given.inputs.input_ids)


@known(PICTURES)
def second_picture_as_text(model, given, stack):
    given.positions = loops(model, given, until=1)


@known(RAGGED)
def height_and_width_swapped(model, given, stack):
    time, height, width = loops(model, given)
    given.positions = np.stack([time, width, height])


@known(PICTURES)
def pictures_scaled_by_time(model, given, stack):
    given.positions = loops(model, given).copy()
    for _, start, end in given.visual(model):
        given.positions[0, start:end] *= model.config.vision_config.tokens_per_second


@known(VIDEO)
def video_in_one_moment(model, given, stack):
    given.positions = loops(model, given).copy()
    kind, start, end = given.visual(model)[0]
    assert kind == 2
    given.positions[0, start:end] = given.positions[0, start:end].min()


@known(VIDEO)
def seconds_per_grid_ignored(model, given, stack):
    given.positions = loops(model, given, seconds=[1.0])


@known(FAST)
def seconds_per_grid_truncated(model, given, stack):
    given.positions = loops(model, given, seconds=[int(s) or 1e-9 for s in given.inputs.second_per_grid_ts])


@known(RAGGED)
def mrope_interleaved(model, given, stack):
    rotary = model.model.language_model.rotary_emb

    def interleaved(self, freq):
        axes = [n % 3 if n // 3 < self.mrope_section[n % 3] else 0 for n in range(freq.shape[-1])]
        mixed = torch.stack([freq[axis, ..., n] for n, axis in enumerate(axes)], dim=-1)
        return torch.cat([mixed, mixed], dim=-1)
    rotary.recomposition_frequencies = MethodType(interleaved, rotary)


@known(LONG)
def angles_in_bf16(model, given, stack):
    rotary = model.model.language_model.rotary_emb

    def forward(self, x, position_ids):
        angles = position_ids.bfloat16()[..., None] * self.inv_freq.bfloat16()
        both = self.recomposition_frequencies(angles.float())
        return both.cos().to(x.dtype), both.sin().to(x.dtype)
    rotary.forward = MethodType(forward, rotary)


# ---- attention ----------------------------------------------------------------------------------------------

def masked(model, given, stack, visible: Callable[[np.ndarray], np.ndarray]) -> None:
    """Another mask for the decoder, made from the time of each row: s -> s s, true where a row is seen."""
    seen = torch.tensor(visible(given.positions[0]))

    def other(module, args, kwargs):
        least = torch.finfo(module.q_proj.weight.dtype).min
        mask = torch.where(seen, 0.0, least).to(module.q_proj.weight.dtype)
        return args, {**kwargs, "attention_mask": mask[None, None]}
    for layer in model.model.language_model.layers:
        stack.callback(layer.self_attn.register_forward_pre_hook(other, with_kwargs=True).remove)


@known(RAGGED)
def causal_mask_from_positions(model, given, stack):
    masked(model, given, stack, lambda time: time[:, None] >= time)


@known(RAGGED)
def packing_guessed_from_positions(model, given, stack):
    def visible(time):
        document = np.cumsum(np.diff(time, prepend=-1) != 1)
        return (document[:, None] == document) & np.tri(len(time), dtype=bool)
    masked(model, given, stack, visible)


@known(RAGGED)
def wrong_kv_head(model, given, stack):
    for layer in model.model.language_model.layers:
        heads, group = layer.self_attn.k_proj, layer.self_attn.num_key_value_groups
        width = layer.self_attn.head_dim
        order = torch.arange(heads.weight.shape[0] // width * group).reshape(-1, group).T.reshape(-1)   # 0 2 4 1 3 5
        rows = (order[:, None] * width + torch.arange(width)).reshape(-1)
        back = torch.argsort(rows)
        with torch.no_grad():                     # queries and outputs in another order is keys in another order
            layer.self_attn.q_proj.weight.copy_(layer.self_attn.q_proj.weight[back])
            layer.self_attn.q_proj.bias.copy_(layer.self_attn.q_proj.bias[back])
            layer.self_attn.o_proj.weight.copy_(layer.self_attn.o_proj.weight[:, back])


def attending(stack, tower: Callable | None, decoder: Callable | None = None) -> None:
    """Other attention (the model is an eager one): functions of module, query, key, value, mask."""
    right = modeling.eager_attention_forward

    def forward(module, query, key, value, attention_mask, scaling, **kwargs):
        other = tower if isinstance(module, modeling.Qwen2_5_VLVisionAttention) else decoder
        if other is None:
            return right(module, query, key, value, attention_mask, scaling, **kwargs)
        group = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        return other(query, key, value, attention_mask, scaling).transpose(1, 2), None
    stack.enter_context(patch.object(modeling, "eager_attention_forward", forward))


@known(RAGGED)
def padded_rows_attended(model, given, stack):
    def padded(query, key, value, mask, scaling):
        rows = (0, 0, 0, -key.shape[2] % 16)
        key, value = nn.functional.pad(key, rows), nn.functional.pad(value, rows)
        return (query @ key.mT * scaling).softmax(-1) @ value
    attending(stack, padded)


@known(LONG)
def softmax_in_half_precision(model, given, stack):
    def halved(query, key, value, mask, scaling):
        scores = (query.float() @ key.float().mT * scaling).bfloat16()
        scores = scores if mask is None else scores.masked_fill(mask < -1, -torch.inf)
        return (scores.softmax(-1, dtype=torch.bfloat16).to(torch.float32) @ value.float()).to(query.dtype)
    attending(stack, halved, halved)


# ---- arithmetic ---------------------------------------------------------------------------------------------

def norms(model) -> Iterator[Any]:
    return (m for m in model.modules() if isinstance(m, modeling.Qwen2_5_VLRMSNorm))


def bright(given: Given, factor: float) -> None:
    """The first patch times a factor."""
    pixels = given.inputs.pixel_values.copy()
    pixels[0] *= np.float32(factor)
    given.inputs = replace(given.inputs, pixel_values=pixels)


@known(RAGGED)
def norm_plus_one(model, given, stack):
    with torch.no_grad():
        for norm in norms(model):
            norm.weight += 1


@known(RAGGED)
def eps_outside_the_root(model, given, stack):
    def forward(self, x):
        size = x.float().square().mean(-1, keepdim=True).sqrt() + self.variance_epsilon
        return self.weight * (x.float() / size).to(x.dtype)
    for norm in norms(model):
        norm.forward = MethodType(forward, norm)


@known(RAGGED)
def norm_overflows_in_f16(model, given, stack):
    def forward(self, x):
        size = x.half().square().mean(-1, keepdim=True).float()
        return self.weight * (x.float() * torch.rsqrt(size + self.variance_epsilon)).to(x.dtype)
    for norm in norms(model):
        norm.forward = MethodType(forward, norm)


@known(RAGGED)
def gelu_by_tanh(model, given, stack):
    model.model.visual.merger.mlp[1] = nn.GELU(approximate="tanh")


@known(RAGGED)
def rotary_pairs_interleaved(model, given, stack):
    def turned(x, cos, sin):
        half = cos.shape[-1] // 2
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
        phase = torch.complex(cos[..., :half].float(), sin[..., :half].float())
        return torch.view_as_real(pairs * phase).flatten(-2).to(x.dtype)
    for name, axis in (("apply_rotary_pos_emb", 1), ("apply_rotary_pos_emb_vision", -2)):
        def both(q, k, cos, sin, axis=axis):
            cos, sin = cos.unsqueeze(axis), sin.unsqueeze(axis)
            return turned(q, cos, sin), turned(k, cos, sin)
        stack.enter_context(patch.object(modeling, name, both))


@known(RAGGED)
def qkv_bias_dropped(model, given, stack):
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                linear.bias.zero_()


@known(RAGGED)
def tower_in_f16(model, given, stack):
    model.model.visual.half()


@known(RAGGED)
def mlp_overflows_in_f16(model, given, stack):
    for block in model.model.visual.blocks:
        dtype = block.mlp.up_proj.weight.dtype
        block.mlp.half()
        stack.callback(block.mlp.register_forward_pre_hook(lambda m, args: (args[0].half(),)).remove)
        stack.callback(block.mlp.register_forward_hook(lambda m, a, out, dtype=dtype: out.to(dtype)).remove)


# ---- both ends ----------------------------------------------------------------------------------------------

@known(VIDEO)
def placeholders_mixed(model, given, stack):
    def mixed(module, args, kwargs):
        runs, x = given.visual(model), kwargs["inputs_embeds"].clone()
        (_, a, b), (_, c, d) = runs                                    # a video, then a picture
        features = torch.cat([x[:, c:d], x[:, a:b]], dim=1)            # pictures first
        x[:, a:b], x[:, c:d] = features[:, :b - a], features[:, b - a:]
        return args, {**kwargs, "inputs_embeds": x}
    stack.callback(model.model.language_model.register_forward_pre_hook(mixed, with_kwargs=True).remove)


@known(TIED)
def head_not_tied(model, given, stack):
    drawn = torch.empty_like(model.lm_head.weight)
    nn.init.normal_(drawn, std=0.02, generator=torch.Generator().manual_seed(5))
    model.lm_head.weight = nn.Parameter(drawn, requires_grad=False)


# ---- faults that the museum does not have ---------------------------------------------------------------------

@strange(RAGGED)
def scores_divided_by_the_width(model, given, stack):
    for layer in model.model.language_model.layers:
        layer.self_attn.scaling = layer.self_attn.scaling ** 2


@strange(RAGGED)
def gelu_in_the_decoders_mlp(model, given, stack):
    for layer in model.model.language_model.layers:
        layer.mlp.act_fn = nn.GELU()


@strange(RAGGED)
def keys_and_values_exchanged_in_a_block(model, given, stack):
    qkv = model.model.visual.blocks[1].attn.qkv
    with torch.no_grad():
        for part in (qkv.weight, qkv.bias):
            q, k, v = part.chunk(3)
            part.copy_(torch.cat([q, v, k]))

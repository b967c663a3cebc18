"""transformers' Qwen2.5-VL on PyTorch, seen through minivl's labels. The only file of the package that
imports torch; whoever wants it imports it when it is wanted.

    model = reference(folder, torch.bfloat16)            the reference as it is shipped, in any precision
    exact = golden(folder)                               the same model in true float64
    taps(model, inputs, positions(model, inputs))        label -> what the reference has there, our rows

What it is not: no number here is computed by minivl, so that none can be compared with itself.
`inputs` is any object with the reference's names as attributes: `input_ids`, `pixel_values`,
`image_grid_thw`, ...

Read next: `names.py` (which module is which stage), `record.py`; the tests of the oracle say why
`golden` is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from types import MethodType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling
from transformers.utils import logging

from ...checkpoint.packed_folder import is_packed
from ...door.errors import ArgumentError
from .names import Tap, taps_of
from .torch_recorder import hook

IMAGE, VIDEO = 1, 2                      # the reference's mm_token_type_ids; text is 0
Module = Any                             # torch.nn.Module, whose attributes have no types of their own
Put = Callable[[str, Any], None]


# Models

def load(folder: Path, precision: str, attention: str) -> tuple[Module, str]:
    """The reference by the name of its precision, and what it is in words; float64 is the golden
    model."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    exact = precision == "float64"
    model = golden(folder) if exact else reference(folder, getattr(torch, precision), attention)
    kind = "golden" if exact else attention
    return model, f"transformers {transformers.__version__} {kind}, torch {torch.__version__}"


def reference(folder: Path, dtype: torch.dtype = torch.float32, attn: str = "sdpa") -> Module:
    """The reference as it is shipped. Loaded in `dtype`, never cast to it: `.to(bfloat16)` rounds
    `inv_freq` too."""
    if is_packed(Path(folder)):
        raise ArgumentError(f"transformers reads no packed weights: instead of {folder}, name the checkpoint "
                            "that it was made of")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, attn_implementation=attn)
    return model.eval()


def golden(folder: Path) -> Module:
    """The same model in true float64. The shipped one still rounds to float32 in RMSNorm, both
    rotaries and softmax.

    Rotary angles stay float32: they are data, the same in every precision, and only their cos and sin
    are float64. The two module-level functions that round are replaced while a model runs, see
    `running`.
    """
    model = reference(folder, torch.float64, "eager")
    for module in model.modules():
        if isinstance(module, modeling.Qwen2_5_VLRMSNorm):
            module.forward = MethodType(_exact_norm, module)  # type: ignore[method-assign]
        if isinstance(module, modeling.Qwen2_5_VLVisionRotaryEmbedding |
                      modeling.Qwen2_5_VLRotaryEmbedding):
            module.forward = MethodType(_exact_rotary, module)  # type: ignore[method-assign]
    return model


def _exact_norm(module: Module, x: torch.Tensor) -> torch.Tensor:
    return module.weight * x / (x.square().mean(-1, keepdim=True) + module.variance_epsilon).sqrt()


def _exact_rotary(module: Module, x: torch.Tensor, position_ids: torch.Tensor
                  ) -> tuple[torch.Tensor, torch.Tensor]:
    angles = rotary_angles(module, position_ids).double()
    both = torch.cat([angles, angles], dim=-1)
    return both.cos() * module.attention_scaling, both.sin() * module.attention_scaling    # YaRN's; else 1


def rotary_angles(module: Module, position_ids: torch.Tensor) -> torch.Tensor:
    """The float32 angles of either rotary embedding, chosen axis by axis and not yet duplicated: ...
    f."""
    every = position_ids[..., None].float() * module.inv_freq.float()
    return half(module.recomposition_frequencies(every))


def half(x: torch.Tensor) -> torch.Tensor:
    """The first half of what the reference holds twice: ... 2f -> ... f."""
    return x[..., : x.shape[-1] // 2]


def _exact_rotation(q, k, cos, sin):
    """The vision tower's rotation, in float64: w a e, w 2f -> w a e."""
    cos, sin = cos[:, None], sin[:, None]
    return tuple(x * cos + modeling.rotate_half(x) * sin for x in (q, k))


def _exact_attention(module, query, key, value, attention_mask, scaling, **kwargs):
    """Eager attention whose softmax stays in float64: 1 a s e -> 1 s a e."""
    group = module.num_key_value_groups
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    score = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        score = score + attention_mask
    return (score.softmax(-1) @ value).transpose(1, 2).contiguous(), None


# Running the reference

@contextmanager
def running(model: Module, put: Put = lambda label, value: None) -> Iterator[None]:
    """While it is open, the golden model is float64 throughout, and rotated queries and keys are told
    to `put`."""
    exact = next(model.parameters()).dtype == torch.float64
    tower = _exact_rotation if exact else modeling.apply_rotary_pos_emb_vision
    decoder = modeling.apply_rotary_pos_emb
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for name, function in [
            ("apply_rotary_pos_emb_vision", _telling(tower, put, "vision.blocks.{}.rotate",
                                                     as_they_are)),
            ("apply_rotary_pos_emb", _telling(decoder, put, "decoder.layers.{}.rotate", heads_last)),
        ] + [("eager_attention_forward", _exact_attention)] * exact:
            stack.enter_context(patch.object(modeling, name, function))
        yield


def _telling(function: Callable, put: Put, label: str, arrange: Callable) -> Callable:
    """`function`, whose n-th call also puts its outputs under the label with n in it."""
    calls = iter(range(1 << 30))

    def told(*args):
        output = function(*args)
        put(label.format(next(calls)), tuple(arrange(x) for x in output))
        return output
    return told


def as_they_are(x: torch.Tensor) -> torch.Tensor:
    return x


def heads_last(x: torch.Tensor) -> torch.Tensor:
    return x[0].transpose(0, 1)                          # 1 a s e -> s a e


def runs(model: Module, ids: np.ndarray) -> list[tuple[int, int, int]]:
    """Runs of text, picture and video tokens as (type, start, end): placeholders of one picture are
    one run."""
    ends, start = [], 0
    for kind, run in groupby(token_types(model, ids).tolist()):
        length = len(list(run))
        ends.append((kind, start, start + length))
        start += length
    return ends


def token_types(model: Module, ids: np.ndarray) -> np.ndarray:
    """0 for text, 1 for a picture's placeholders, 2 for a video's: s -> s."""
    return IMAGE * (ids == model.config.image_token_id) + VIDEO * (ids == model.config.video_token_id)


def positions(model: Module, inputs: Any, after_video: str = "tf5") -> np.ndarray:
    """MRoPE positions from the reference's `get_rope_index`: s -> 3 s.

    Its rule for text after a video is "tf5"; under "max_plus_one" each run starts one above all before
    it, so what follows a visual run is shifted by as much as the reference's own numbers fall short of
    that.
    """
    grids = {name: None if (grid := getattr(inputs, name)) is None else torch.tensor(np.asarray(grid))
             for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
    at = model.model.get_rope_index(torch.tensor(inputs.input_ids)[None],
                                    torch.tensor(token_types(model, inputs.input_ids))[None],
                                    **grids)[0][:, 0].numpy()
    if after_video == "tf5":
        return at
    shift = np.zeros(at.shape[1], at.dtype)
    for kind, start, end in runs(model, inputs.input_ids):
        if kind != 0 and end < at.shape[1]:
            shift[end:] += at[:, start:end].max() + 1 - at[0, end]
    return at + shift


def see(model: Module, inputs: Any) -> dict[str, BaseModelOutputWithPooling]:
    """Run the tower once on all pictures and videos in prompt order; its features by kind, as
    `forward` takes them.

    The reference runs pictures and videos apart. No segment spans two of them, so one run gives the
    same rows, in the order in which the tower of minivl has them
    (`test_one_run_of_the_tower_is_the_references_two`).
    """
    pixels = {IMAGE: _pieces(inputs.pixel_values, inputs.image_grid_thw),
              VIDEO: _pieces(inputs.pixel_values_videos, inputs.video_grid_thw)}
    kinds = [kind for kind, _, _ in runs(model, inputs.input_ids) if kind]
    if not kinds:
        return {}
    rows, grids = zip(*[next(pixels[kind]) for kind in kinds], strict=True)
    visual = model.model.visual
    seen = visual(torch.cat(rows).to(visual.dtype), grid_thw=torch.stack(grids)).pooler_output
    cells = [int(grid.prod()) // visual.spatial_merge_unit for grid in grids]
    parts = list(zip(kinds, seen.split(cells), strict=True))
    of = {kind: tuple(part for k, part in parts if k == kind) for kind in kinds}
    return {name: BaseModelOutputWithPooling(pooler_output=of[kind])  # type: ignore[arg-type]
            for name, kind in (("image", IMAGE), ("video", VIDEO)) if kind in kinds}


def _pieces(pixels: np.ndarray | None, grids: np.ndarray |
            None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if pixels is None or grids is None:
        return iter(())
    table = torch.tensor(np.asarray(grids))
    return zip(torch.tensor(np.asarray(pixels)).split(table.prod(-1).tolist()), table, strict=True)


def logits(model: Module, inputs: Any, position_ids: np.ndarray, put: Put = lambda label,
           value: None) -> np.ndarray:
    """The reference's logits at every token: s -> s v."""
    with running(model, put):
        features = see(model, inputs)
        put("positions.mrope", torch.tensor(position_ids))
        output = model(input_ids=torch.tensor(inputs.input_ids)[None], mm_encoder_outputs=features,
                       position_ids=torch.tensor(position_ids)[:, None], use_cache=False)
        if features:
            put("vision.restore_order", _restored(model, inputs, features))
    return to_numpy(output.logits[0])


def _restored(model: Module, inputs: Any, features: dict) -> torch.Tensor:
    """The tower's output in prompt order, put together again from its parts by kind: m o."""
    parts = {IMAGE: iter(features["image"].pooler_output if "image" in features else ()),
             VIDEO: iter(features["video"].pooler_output if "video" in features else ())}
    return torch.cat([next(parts[kind]) for kind, _, _ in runs(model, inputs.input_ids) if kind])


def taps(model: Module, inputs: Any, position_ids: np.ndarray | None = None) -> dict[str, Any]:
    """What the reference has at every stage: minivl's label -> NumPy array or tuple of arrays, in
    minivl's row order.

    `position_ids` (3, s) defaults to the reference's own. 16-bit values come as float32, which holds
    each exactly.
    """
    found: dict[str, Any] = {}

    def put(label: str, value: Any) -> None:
        if label in found:
            raise AssertionError(f"the reference came to {label} twice")
        found[label] = tuple(map(to_numpy, value)) if isinstance(value, tuple) else to_numpy(value)

    listen(model, inputs, positions(model, inputs) if position_ids is None else position_ids, put)
    return found


def listen(model: Module, inputs: Any, position_ids: np.ndarray, put: Put) -> None:
    """Run the reference and tell `put` each stage's label and tensors, or tuple of tensors, as they
    come."""
    tables: list[torch.Tensor] = []
    parts: dict[str, list[torch.Tensor]] = {}
    with ExitStack() as stack:
        for name, tap in taps_of(name for name, _ in model.named_modules()):
            see = _whole(tap, arrangement(model, tap.label), parts, put)
            stack.callback(hook(model.get_submodule(name), tap.after, see).remove)
        for block in model.model.visual.blocks:
            stack.callback(block.attn.register_forward_pre_hook(
                lambda module, args, named: tables.append(named["cu_seqlens"]), with_kwargs=True).remove)
        _listen_to_windows(model.model.visual, put, stack)
        _listen_to_angles(model.model.language_model, put, stack)
        logits(model, inputs, position_ids, put)
    if tables:
        put("vision.schedule", tuple(map(_segments, tables)))


def to_numpy(x: torch.Tensor) -> np.ndarray:
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy().copy()


def as_stored(x: torch.Tensor) -> np.ndarray:
    """The same numbers in the same type; bfloat16 is ml_dtypes'."""
    x = x.detach().contiguous()
    if x.dtype != torch.bfloat16:
        return x.numpy()
    from ml_dtypes import bfloat16
    return x.view(torch.int16).numpy().view(bfloat16)


def _segments(ends: torch.Tensor) -> torch.Tensor:
    """Cumulative lengths (g+1,), as the reference has them, as minivl's rows q0 q1 k0 k1: g 4."""
    return torch.stack([ends[:-1], ends[1:], ends[:-1], ends[1:]], dim=1).long()


# Where to listen: names.py says at which modules. A rotation has no module, see `running`.

def arrangement(model: Module, label: str) -> Callable:
    """What makes minivl's axes of the tensor that the reference has at a label."""
    vision, stage = label.startswith("vision."), label.rpartition(".")[2]
    heads = model.model.visual.config.num_heads
    width = model.model.language_model.layers[0].self_attn.head_dim
    if stage == "project_qkv":
        return (lambda x: x.unflatten(-1, (3, heads, -1)).unbind(1)) if vision else _split(width)
    if stage == "attend":
        return (lambda x: x.unflatten(-1, (heads, -1))) if vision else _split(width)
    return as_they_are if vision else first


def first(x: torch.Tensor) -> torch.Tensor:
    return x[0]                                                              # 1 s d -> s d


def _split(width: int) -> Callable:
    return lambda x: x[0].unflatten(-1, (-1, width))                         # 1 s ae -> s a e


def _whole(tap: Tap, arrange: Callable, parts: dict[str, list[torch.Tensor]], put: Put) -> Callable:
    """A `put` for one module; queries, keys and values of the decoder wait in `parts` for each other."""
    def told(x: torch.Tensor) -> None:
        if tap.part is None:
            return put(tap.label, arrange(x))
        waiting = parts.setdefault(tap.label, [])
        waiting.append(arrange(x))
        if len(waiting) == 3:
            put(tap.label, tuple(parts.pop(tap.label)))
    return told


def _listen_to_windows(visual: Module, put: Put, stack: ExitStack) -> None:
    """The window order as the tower asks for it, and the rotary angles put into that order."""
    ask = modeling.get_vision_window_index
    order: list[torch.Tensor] = []

    def asked(*args, **kwargs):
        order[:] = ask(*args, **kwargs)
        put("vision.window_order", order[0])
        return tuple(order)

    def turned(module, args, output):
        rows = args[1], rotary_angles(module, args[1]), *map(half, output)   # p 2, p f, p f, p f
        at, angles, cos, sin = (visual.permute_input_for_window_attn(x, order[0], len(x)) for x in rows)
        put("vision.angles.order_by_window", at)                             # row and column: w 2
        put("vision.angles.spatial_angles", angles)                          # w f
        put("vision.cos_sin", (cos, sin))

    stack.enter_context(patch.object(modeling, "get_vision_window_index", asked))
    stack.callback(visual.rotary_pos_emb.register_forward_hook(turned).remove)


def _listen_to_angles(text: Module, put: Put, stack: ExitStack) -> None:
    def turned(module, args, output):
        put("decoder.angles", rotary_angles(module, args[1])[0])             # 1 s f -> s f
        put("decoder.cos_sin", tuple(half(x)[0] for x in output))

    stack.callback(text.rotary_emb.register_forward_hook(turned).remove)

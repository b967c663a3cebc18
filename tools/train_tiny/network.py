"""The network in training: the transformers class holds the weights; a lean forward pass computes the same numbers.

`Lean` gathers windows into padded batches instead of looping over them, shares one pass of the tower and of the prompt
among all questions about a picture, pads nothing but what is attended together, and scores answers only. A test holds
its logits to those of the class itself.

Not here: what is learned (`targets.py`, `tasks.py`) and in which order (`train.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .packing import LEARNED, MOST
from .targets import (
    ACROSS,
    BESIDE,
    COLOUR_COUNT,
    GLYPH_COUNT,
    KIND_COUNT,
    LINE,
    LINE_COUNT,
    MOMENTS,
    TENS,
    UNASKED,
    UNITS,
)
from .tokens import digit_ids
from .world import FACTOR

WIDTH, HEADS, KV_HEADS, LAYERS, MLP = 192, 4, 2, 5, 512
DEPTH, FULL_BLOCKS, WINDOW = 6, (1, 3, 5), 56
SECTIONS, THETA = (6, 9, 9), 1000.0
EARLY = 2                                                 # layers of the decoder below its own dense heads
LOOKS = {"named": (EARLY - 1, 0), "sought": (EARLY, 0), "again": (EARLY + 1, 3)}    # layer, head: told where to look
EVENT = {"event": 3, "moment": MOMENTS, "event_colour": COLOUR_COUNT, "event_kind": KIND_COUNT}      # name -> classes
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ROUND = False                                             # products of matrices in bfloat16; float32 for tests


def config_for(tokenizer: Any) -> Qwen2_5_VLConfig:
    """The architecture: 12 MB in bfloat16, and every mechanism of the official sizes in use."""
    ids = {name: tokenizer.token_to_id(f"<|{name}|>") for name in
           ("endoftext", "im_end", "image_pad", "video_pad", "vision_start", "vision_end")}
    vocabulary = -(-tokenizer.get_vocab_size() // 64) * 64
    turn = {"rope_type": "default", "rope_theta": THETA, "mrope_section": list(SECTIONS)}
    text = {"vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "use_sliding_window": False, "rope_parameters": turn,
            "bos_token_id": ids["endoftext"], "eos_token_id": ids["im_end"], "pad_token_id": ids["endoftext"]}
    vision = {"depth": DEPTH, "hidden_size": WIDTH, "intermediate_size": MLP, "num_heads": HEADS, "in_channels": 3,
              "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "tokens_per_second": 2,
              "window_size": WINDOW, "out_hidden_size": WIDTH, "fullatt_block_indexes": list(FULL_BLOCKS)}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True,
                            image_token_id=ids["image_pad"], video_token_id=ids["video_pad"],
                            vision_start_token_id=ids["vision_start"], vision_end_token_id=ids["vision_end"])


def new_model(config: Qwen2_5_VLConfig, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Fan-in initialisation: the class's own 0.02 is far too small for so narrow a network, and a tied embedding as
    small as that would be drowned, so it starts at 0.5 and the final norm's gain at 0.15 keeps logits near one."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2:
                p.normal_(0, _spread(name, p))
            elif name.endswith("bias"):
                p.zero_()
            elif name == "model.language_model.norm.weight":
                p.fill_(0.15)
    return model


def _spread(name: str, p: torch.Tensor) -> float:
    if "embed_tokens" in name:
        return 0.5
    fan_in = p[0].numel() ** -0.5
    if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
        return fan_in / (2 * LAYERS) ** 0.5
    return 0.6 * fan_in if name.endswith("merger.mlp.2.weight") else fan_in


def fill(lean: Lean, state: dict[str, torch.Tensor], where: Path) -> None:
    """Put a state that was read from a file into the network. Heads come and go between recipes: those that the state
    lacks stay as they are. Raises ValueError for another network's."""
    lacking, unknown = lean.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    tied = "model.lm_head.weight"
    if strange := [name for name in lacking + unknown if not name.startswith("heads.") and name != tied]:
        raise ValueError(f"{where} holds another network: {', '.join(strange[:3])} in one of the two alone")


# ------------------------------------------------------------------------------------------------- operations

def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    if not ROUND:
        return F.linear(x, layer.weight, layer.bias)
    bias = None if layer.bias is None else layer.bias.bfloat16()
    return F.linear(x.bfloat16(), layer.weight.bfloat16(), bias)


def rms_norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * gain


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The two halves of each head turned against each other, float32."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def gated_mlp(x: torch.Tensor, gain: torch.Tensor, mlp: Any) -> torch.Tensor:
    h = rms_norm(x, gain)
    h = h.bfloat16() if ROUND else h
    return x + linear(F.silu(linear(h, mlp.gate_proj)) * linear(h, mlp.up_proj), mlp.down_proj).float()


class Gather(torch.autograd.Function):
    """x (p, d) -> (l, d) by a table in which every row of x stands once; index p is a row of zeros."""

    @staticmethod
    def forward(ctx, x, table, place):
        ctx.save_for_backward(place)
        return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, table)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class Scatter(torch.autograd.Function):
    """The inverse of `Gather`: (l, d) -> (p, d)."""

    @staticmethod
    def forward(ctx, y, table, place):
        ctx.save_for_backward(table)
        return y.index_select(0, place)

    @staticmethod
    def backward(ctx, grad):
        table, = ctx.saved_tensors
        return torch.cat([grad, grad.new_zeros(1, grad.shape[1])]).index_select(0, table), None, None


def attend(rows: torch.Tensor, b: dict[str, Any], name: str, one: Any) -> torch.Tensor:
    """Queries, keys and values (p, w) -> (p, d); `one(part, mask)` attends in a group: (g, n, w) -> (g, h, n, e)."""
    table, place, shapes = b[f"{name}_table"], b[f"{name}_place"], b[f"{name}_shapes"]
    parts = Gather.apply(rows, table, place).split([g * n for g, n in shapes])
    out = [one(part.view(g, n, -1), mask).transpose(1, 2).reshape(g * n, WIDTH)
           for (g, n), part, mask in zip(shapes, parts, b[f"{name}_masks"], strict=True)]
    return Scatter.apply(torch.cat(out), table, place)


def inside(part: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """All of a segment sees all of it: windows and frames."""
    q, k, v = part.view(*part.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Branching:
    """Attention of the decoder in a batch of trees: prompts first, then branches, which see their prompt's keys too."""

    def __init__(self, owners: list[torch.Tensor]):
        self.owners, self.prompts = iter(owners), None

    def __call__(self, part: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        q, kv = part.view(*part.shape[:2], HEADS + 2 * KV_HEADS, -1).split([HEADS, 2 * KV_HEADS], dim=2)
        if self.prompts is None:
            self.prompts = kv
        else:
            kv = torch.cat([self.prompts.index_select(0, next(self.owners)), kv], dim=1)
        k, v = kv.repeat_interleave(HEADS // KV_HEADS, dim=2).transpose(1, 2).chunk(2, dim=1)
        return F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask, is_causal=mask is None)


# ------------------------------------------------------------------------------------------------- the network

class Lean(nn.Module):
    """Tower, merger, decoder and the heads of pre-training, on the batches of `packing.collate`."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration):
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict({
            "colour": nn.Linear(WIDTH, 8 * COLOUR_COUNT), "kind": nn.Linear(WIDTH, 8 * KIND_COUNT),
            "outline": nn.Linear(WIDTH, 64), "glyph": nn.Linear(WIDTH, 8 * GLYPH_COUNT),
            "place": nn.Linear(WIDTH, 8 * (LINE + 1)), "line": nn.Linear(WIDTH, LINE * LINE_COUNT),
            "cell": nn.Linear(WIDTH, 4 * ACROSS), "offset": nn.Linear(WIDTH, 4 * FACTOR), "reach": nn.Linear(WIDTH, 4),
            "beside": nn.Linear(WIDTH, 2 * BESIDE), "alike": nn.Linear(WIDTH, 3 * BESIDE),
            "tens": nn.Linear(WIDTH, 4 * TENS), "units": nn.Linear(WIDTH, 4 * UNITS),
            **{name: nn.Linear(WIDTH, classes) for name, classes in EVENT.items()}})
        vision_width, text_width = WIDTH // HEADS // 2, WIDTH // HEADS
        self.register_buffer("vision_turn", 1e4 ** -(torch.arange(0, vision_width, 2).float() / vision_width), False)
        self.register_buffer("text_turn", THETA ** -(torch.arange(0, text_width, 2).float() / text_width), False)
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1), False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(STD).view(1, 3, 1)), False)

    def see(self, b: dict[str, torch.Tensor]) -> torch.Tensor:
        """Visual tokens (m, d), in prompt order."""
        tower = self.model.model.visual
        p = len(b["patches"])
        x = ((b["patches"].view(p, 3, -1).float() - self.mean) * self.scale).view(p, -1)
        weight = tower.patch_embed.proj.weight.view(WIDTH, -1)
        x = F.linear(x.bfloat16(), weight.bfloat16()).float() if ROUND else F.linear(x, weight)
        turn = torch.cat([b["rows"][:, None] * self.vision_turn, b["columns"][:, None] * self.vision_turn], dim=-1)
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        for i, block in enumerate(tower.blocks):
            qkv = linear(rms_norm(x, block.norm1.weight), block.attn.qkv).view(p, 3, HEADS, -1)
            qk = rotate(qkv[:, :2], cos, sin).reshape(p, -1)
            rows = torch.cat([qk, qkv[:, 2].reshape(p, -1).float()], dim=1)
            o = attend(rows, b, "frame" if i in FULL_BLOCKS else "window", inside)
            x = gated_mlp(x + linear(o, block.attn.proj).float(), block.norm2.weight, block.mlp)
        merger = tower.merger
        x = rms_norm(x, merger.ln_q.weight).view(p // 4, -1)
        return linear(F.gelu(linear(x, merger.mlp[0])), merger.mlp[2]).float()

    def read(self, b: dict[str, torch.Tensor], features: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (n, v) of the tokens of all answers, and all tokens (s, d) as each layer but the last left them."""
        decoder = self.model.model.language_model
        vocabulary = decoder.embed_tokens.weight.shape[0]
        ids = b["ids"].clone()
        ids[b["visual"]] = vocabulary + torch.arange(len(features), device=ids.device)
        x = F.embedding(ids, torch.cat([decoder.embed_tokens.weight, features]))
        turn = self.angles(b["positions"])
        cos, sin = turn.cos()[:, None], turn.sin()[:, None]
        left = []
        for layer in decoder.layers:
            x = self._layer(x, layer, cos, sin, b)
            left.append(x)
        x = F.embedding(b["asked"], x)
        return F.linear(rms_norm(x, decoder.norm.weight), decoder.embed_tokens.weight), left[:-1]

    def angles(self, positions: torch.Tensor) -> torch.Tensor:
        """Of MRoPE at (3, s) positions: (s, f)."""
        parts = (positions[..., None].float() * self.text_turn).split(SECTIONS, dim=-1)
        return torch.cat([part[i] for i, part in enumerate(parts)], dim=-1)

    @staticmethod
    def _layer(x, layer, cos, sin, b):
        h, a = rms_norm(x, layer.input_layernorm.weight), layer.self_attn
        h = h.bfloat16() if ROUND else h
        q = rotate(linear(h, a.q_proj).view(len(x), HEADS, -1), cos, sin)
        k = rotate(linear(h, a.k_proj).view(len(x), KV_HEADS, -1), cos, sin)
        rows = torch.cat([q.view(len(x), -1), k.view(len(x), -1), linear(h, a.v_proj).float()], dim=1)
        o = attend(rows, b, "text", Branching(b["owners"]))
        return gated_mlp(x + linear(o, a.o_proj).float(), layer.post_attention_layernorm.weight, layer.mlp)

    def dense(self, b: dict[str, torch.Tensor], features: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses of visual pre-training on the tower's tokens (m, d), nats; `reach` in cells."""
        written, known = b["line"][:, 0] != UNASKED, b["edges"][:, 0] >= 0
        asked, placed = b["glyph"].reshape(-1) != UNASKED, b["beside"][:, 0] != UNASKED
        edges = b["edges"][known]
        corner = b["corners"].flip(1).repeat(1, 2)[known]           # x and y of each cell, in cells
        away = F.smooth_l1_loss(self.heads["reach"](features[known]), edges / FACTOR - corner, beta=0.1,
                                reduction="none")
        return {
            "colour": _balanced(self._say("colour", features, COLOUR_COUNT), b["colour"].reshape(-1)),
            "kind": _balanced(self._say("kind", features, KIND_COUNT), b["kind"].reshape(-1)),
            "outline": F.binary_cross_entropy_with_logits(self.heads["outline"](features), b["outline"].float()),
            "glyph": _balanced(self._say("glyph", features, GLYPH_COUNT)[asked], b["glyph"].reshape(-1)[asked]),
            "place": _balanced(self._say("place", features, LINE + 1)[asked], b["place"].reshape(-1)[asked]),
            "line": _balanced(self._say("line", features[written], LINE_COUNT), b["line"][written].reshape(-1)),
            "cell": _cross(self._say("cell", features[known], ACROSS), edges.reshape(-1) // FACTOR),
            "offset": _cross(self._say("offset", features[known], FACTOR), edges.reshape(-1) % FACTOR),
            "reach": _mean(away.mean(dim=1)),
            **{name: _cross(self._say(name, features[placed], BESIDE), b[name][placed].reshape(-1))
               for name in ("beside", "alike")}}

    def looks(self, b: dict[str, torch.Tensor], left: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """How far each head of `LOOKS` is from looking at what an answer speaks of: -log of the share that the cells of
        this thing, or of characters on it, get of the attention on the picture, nats; where it reads a character, those
        in which that stands; of
        n things, the mean of -log of n times the share of each, so that none is left out. left: (s, d) of each layer
        but the last.

        What a question names and what the picture shows have to be laid beside each other somewhere; the loss of
        answers alone leaves a long time to find out where. `sought` looks at the thing itself; `again`, a layer later,
        at the same, for what takes a second look, like the odd one; `named`, a layer earlier, at the thing that was
        named last, from which the other two find the next one of a list."""
        wanted = dict.fromkeys(LOOKS, (b["sought"], b["spot"]))
        wanted["named"] = named_last(b), torch.zeros_like(b["spot"])
        return {name: self._look(b, *wanted[name], number, head, left[number - 1])
                for name, (number, head) in LOOKS.items()}

    def _look(self, b: dict[str, torch.Tensor], wanted: torch.Tensor, spot: torch.Tensor, number: int, head: int,
              x: torch.Tensor) -> torch.Tensor:
        """The loss of one head, for the things (n, MANY) that each token of an answer should find, and the character
        (n,) of it; x: (s, d), its input."""
        asked = torch.nonzero((torch.isin(wanted, b["shown"]) | torch.isin(wanted, b["written_on"])).any(dim=1))[:, 0]
        tokens, seen, spot, wanted = b["asked"][asked], b["visual"], spot[asked], wanted[asked]
        layer = self.model.model.language_model.layers[number]
        q, k = (_turned(rms_norm(F.embedding(rows, x), layer.input_layernorm.weight), one, which,
                        self.angles(b["positions"][:, rows]))
                for rows, one, which in ((tokens, layer.self_attn.q_proj, head),
                                         (seen, layer.self_attn.k_proj, head * KV_HEADS // HEADS)))
        shares, mine, of = [], wanted.amax(dim=1) // MOST, b["shown"] // MOST
        for row in torch.unique(mine):
            ours, cells = torch.nonzero(mine == row)[:, 0], torch.nonzero(of == row)[:, 0]
            there = _cells_of(wanted[ours], spot[ours], *(b[name][cells] for name in ("shown", "written_on", "place")))
            shares.append(_all_of(F.log_softmax(q[ours] @ k[cells].T, dim=1), there))
        return -_mean(torch.cat(shares)) if shares else x.new_zeros(())

    def dense_early(self, b: dict[str, torch.Tensor], left: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The losses on visual tokens in the decoder, nats; left: all tokens (s, d) of each layer, of which those of
        `EARLY` layers are asked. It alone knows where in the picture a token stands, so it says edges as the answers
        write them, and it alone sees more than two frames, or the picture before, so it says what happened."""
        early = rms_norm(F.embedding(b["visual"], left[EARLY - 1]), left[0].new_ones(WIDTH))
        known = b["edges"][:, 0] >= 0
        edges = b["edges"][known].reshape(-1)
        losses = {"tens": _cross(self._say("tens", early[known], TENS), edges // 10),
                  "units": _cross(self._say("units", early[known], UNITS), edges % 10)}
        for i, (name, classes) in enumerate(EVENT.items()):
            rows, loss = b["event"][:, i] != UNASKED, _cross if i else _balanced
            losses[name] = loss(self._say(name, early[rows], classes), b["event"][rows, i])
        return losses

    def _say(self, name: str, tokens: torch.Tensor, classes: int) -> torch.Tensor:
        return self.heads[name](tokens).view(-1, classes)


def _turned(x: torch.Tensor, layer: nn.Linear, head: int, turn: torch.Tensor) -> torch.Tensor:
    """Queries or keys (n, e) of one head, as attention multiplies them: both scaled by the root of its scale."""
    e = WIDTH // HEADS
    mine = slice(head * e, head * e + e)
    return rotate(F.linear(x, layer.weight[mine], layer.bias[mine]), turn.cos(), turn.sin()) * e ** -0.25


def named_last(b: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, 1) The thing that was named last before each token of an answer; -1 where there is none, and while a name is
    being written."""
    one = torch.where(b["sought"][:, 1] < 0, b["sought"][:, 0], -1)
    at = torch.where(one >= 0, torch.arange(len(one), device=one.device), -1).cummax(dim=0).values
    before = torch.cat([at.new_tensor([-1]), at])[:-1]
    known = (before >= 0) & (b["answer"][before] == b["answer"]) & (one[before] != one)
    return torch.where(known, one[before], -1)[:, None]


def _cells_of(wanted: torch.Tensor, spot: torch.Tensor, shown: torch.Tensor, written_on: torch.Tensor,
              place: torch.Tensor) -> torch.Tensor:
    """(n, MANY, cells) Which cells show each wanted thing (n, MANY), or a character on it; where a character is read,
    spot (n,) above 0, the cells of this character of the first thing; if no slot asks for it, of the one before or
    after it; if not these either, as if nothing were read. shown: (cells,), written_on and place: (cells, 8)."""
    things = torch.unique(wanted)
    held = (things[:, None] == shown) | (things[:, None, None] == written_on).any(dim=2)           # things cells
    there = held[torch.searchsorted(things, wanted)]
    away = (place - spot[:, None, None]).abs()                                                  # n cells 8
    away = away.masked_fill(written_on != wanted[:, :1, None], LINE + 1).amin(dim=2)
    nearest = away.amin(dim=1, keepdim=True)
    read = ((spot > 0)[:, None] & (nearest <= 1))[:, None]
    first = torch.arange(wanted.shape[1], device=wanted.device)[:, None] == 0
    return torch.where(read, (away == nearest)[:, None] & first, there)


def _all_of(logs: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """(n,) Mean of log(n times share) over n things. logs: (n, cells) of shares; there: (n, MANY, cells), the cells of
    each thing."""
    seen = there.any(dim=2)
    count = seen.sum(dim=1)
    each = logs[:, None].masked_fill(~there, -torch.inf)[seen].logsumexp(dim=1)                # one for each seen
    owner = torch.nonzero(seen)[:, 0]
    return logs.new_zeros(len(logs)).index_add(0, owner, each) / count + count.log()


def _mean(values: torch.Tensor) -> torch.Tensor:
    """The mean; of nothing, zero."""
    return values.sum() / max(1, len(values))


def _cross(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return _mean(F.cross_entropy(logits, truth, reduction="none"))


def _balanced(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what is there and, apart from it, of where nothing is (class 0): most of a picture is ground,
    and most of a page is blank, so that one mean over all would hardly ask which character stands there."""
    each, there = F.cross_entropy(logits, truth, reduction="none"), truth > 0
    return 0.8 * _mean(each[there]) + 0.2 * _mean(each[~there])


def widen(b: dict[str, torch.Tensor]) -> None:
    """Targets as PyTorch wants classes, in place."""
    for name in ("colour", "kind", "glyph", "place", "line", "edges", "beside", "alike", "event"):
        b[name] = b[name].long()


def tensors(batch: dict[str, Any], device: str | None = None) -> dict[str, Any]:
    """A batch of `packing.collate` as tensors, with the masks and inverse tables that follow from it."""
    b: dict[str, Any] = {name: torch.from_numpy(np.ascontiguousarray(value)).to(device)
                         for name, value in batch.items() if isinstance(value, np.ndarray)}
    widen(b)
    b["rows"], b["columns"] = b["rows"].float(), b["columns"].float()
    b["corners"] = torch.stack([b["rows"][::4], b["columns"][::4]], dim=1).long() // 2
    for name in ("window", "frame"):
        b |= _tables(name, b, len(b["patches"]))
        b[f"{name}_masks"] = [None if bool(real.all()) else real[:, None, None] for real in b[f"{name}_real"]]
    b["tasks"] = batch["tasks"]
    if "ids" in b:
        b |= _tables("text", b, len(b["ids"]))
        b |= _trees(b)
    return b


def _tables(name: str, b: dict[str, Any], count: int) -> dict[str, Any]:
    """Where each of `count` rows stands in a table, the shapes of its groups, and which of their places are taken."""
    table, shapes = b[f"{name}_table"], b[f"{name}_shapes"].tolist()
    real = table < count
    place = torch.empty(count, dtype=torch.long, device=table.device)
    place[table[real]] = torch.nonzero(real)[:, 0]
    parts = real.split([g * n for g, n in shapes])
    return {f"{name}_place": place, f"{name}_shapes": shapes,
            f"{name}_real": [part.view(g, n) for part, (g, n) in zip(parts, shapes, strict=True)]}


def _trees(b: dict[str, Any]) -> dict[str, Any]:
    """Who sees whom among tokens, and the targets that are asked. Padding stands at the end, where the causal rule
    alone hides it from a prompt; a branch sees all of its prompt, and itself by the causal rule."""
    prompts, *branches = b["text_real"]
    owners, masks = b["owner"].split([len(real) for real in branches]), [None]
    for real, owner in zip(branches, owners, strict=True):
        g, n = real.shape
        before = prompts[owner][:, None].expand(g, n, -1)
        itself = torch.ones(n, n, dtype=torch.bool, device=owner.device).tril().expand(g, n, n)
        masks.append(torch.cat([before, itself], dim=2)[:, None])
    asked = torch.nonzero(b["target"] >= 0)[:, 0]
    flat = {name: b[name][asked] for name in LEARNED}
    return {"owners": list(owners), "text_masks": masks, "asked": asked, **flat}


def answer_loss(logits: torch.Tensor, b: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of answer tokens, each answer weighted by its length to the power 1/4, digits of boxes more."""
    each = F.cross_entropy(logits.float(), b["target"], reduction="none")
    return (each * b["weight"]).sum() / b["weight"].sum()


def distance_loss(logits: torch.Tensor, b: dict[str, torch.Tensor]) -> torch.Tensor:
    """How far from the true digit of a coordinate the said one is to be expected: 52 is near 53, which cross-entropy
    does not know."""
    asked = b["digit"] >= 0
    shares = F.softmax(logits[asked][:, list(digit_ids())].float(), dim=-1)                # n 10
    away = (torch.arange(10, device=shares.device) - b["digit"][asked][:, None]).abs()
    return _mean((shares * away).sum(dim=1))

"""The network of `network.Lean` by functions that bring their own backward pass: what training uses.

PyTorch would keep and pass over many arrays between two products of matrices. Here each half of a block
(attention, gated MLP) is one function: gains of norms go into the matrices behind them, what stands
between two products is one compiled loop (`loops.py`, `attending.py`), and the last layer of the decoder
asks only what an answer needs. Where the processor multiplies bfloat16, products take and give it, and
what runs past them is float32; elsewhere they are NumPy's, whose BLAS is faster than PyTorch's.

`network.Lean.see` and `read` are the definition; a test holds logits and gradients of both equal. p:
patches, s: tokens, q: queries, d: width, h: heads, c: heads of keys, m: width inside of the MLP, e:
width of a head. Read next: `train.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from . import loops, network
from .attending import Heads, attend, attend_back
from .layout import ASKED
from .network import FULL_BLOCKS, HEADS, KV_HEADS, MLP, WIDTH, Lean

HEAD, KEYS = WIDTH // HEADS, KV_HEADS * (WIDTH // HEADS)
EPS = 1e-6
SEEING = Heads(3 * WIDTH, 3 * WIDTH, WIDTH, 2 * WIDTH, HEADS, HEADS, HEAD)
READING = Heads(WIDTH, 2 * KEYS, 0, KEYS, HEADS, KV_HEADS, HEAD)


def narrow() -> torch.dtype:
    """The type in which numbers enter and leave products."""
    return torch.bfloat16 if network.ROUND else torch.float32


def narrowed(x: torch.Tensor) -> torch.Tensor:
    """A matrix as products take it."""
    return x.detach().to(narrow())


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrices (n, k) times (k, m), both as `narrowed` gives them; so is what comes out."""
    if network.ROUND:
        return a @ b
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))


def with_gain(weight: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """A matrix (o, d) behind a norm, the norm's gain (d) in it, as products take it."""
    return narrowed(weight * gain)


def without_gain(d_weight: torch.Tensor, weight: torch.Tensor,
                 gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of matrix (o, d) and gain (d) from that of `with_gain`."""
    d_weight = d_weight.float()
    return d_weight * gain, (d_weight * weight).sum(dim=0)


class Linear(torch.autograd.Function):
    """x (n, k) -> (n, m), float32."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        x = narrowed(x)
        ctx.save_for_backward(x, weight)
        y = product(x, narrowed(weight).t()).float()
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), (wants_x, wants_weight, wants_bias) = ctx.saved_tensors, ctx.needs_input_grad
        g = narrowed(grad)
        return (product(g, narrowed(weight)).float() if wants_x else None,
                product(g.t(), x).float() if wants_weight else None,
                grad.sum(dim=0) if wants_bias else None)


class GatedMLP(torch.autograd.Function):
    """x (p, d) -> x + down(silu(gate(norm(x))) * up(norm(x))), the norm among it."""

    @staticmethod
    def forward(ctx, x, gain, gate, gate_bias, up, up_bias, down, down_bias):
        n, factors = loops.norm(x, narrow(), EPS)
        both = torch.cat([gate, up])                                        # 2m d
        bias = None if gate_bias is None else torch.cat([gate_bias, up_bias])
        inner = product(n, with_gain(both, gain).t())                       # p 2m
        act = loops.opened(inner, bias)
        ctx.save_for_backward(x, n, factors, inner, bias, act, gain, both, down)
        return loops.summed(x, product(act, narrowed(down).t()), down_bias)

    @staticmethod
    def backward(ctx, grad):
        x, n, factors, inner, bias, act, gain, both, down = ctx.saved_tensors
        g, d_down_bias = loops.narrowed(grad, narrow())
        d_inner, d_bias = loops.opened_back(product(g, narrowed(down)), inner, bias)
        dx = loops.norm_back(product(d_inner, with_gain(both, gain)), x, factors, grad)
        if not ctx.needs_input_grad[2]:
            return (dx, *[None] * 7)
        d_both, d_gain = without_gain(product(d_inner.t(), n), both, gain)
        (d_gate, d_up), (d_gate_bias, d_up_bias) = d_both.split(MLP), d_bias.split(MLP)
        biases = (None,) * 3 if bias is None else (d_gate_bias, d_up_bias, d_down_bias)
        return dx, d_gain, d_gate, biases[0], d_up, biases[1], product(g.t(), act).float(), biases[2]


# ------------------------------------------------------------------------------------------- the tower

class SeeingAttention(torch.autograd.Function):
    """x (p, d) -> x + proj(attention(norm(x))) of one block of the tower. turn, plan: `attend`."""

    @staticmethod
    def forward(ctx, x, gain, qkv, qkv_bias, proj, proj_bias, turn, plan):
        n, factors = loops.norm(x, narrow(), EPS)
        rows = product(n, with_gain(qkv, gain).t())                         # p 3d
        o, logs = attend((rows, qkv_bias), (rows, qkv_bias), turn, plan, SEEING)
        ctx.save_for_backward(x, n, factors, rows, o, logs, gain, qkv, qkv_bias, proj, *turn)
        ctx.plan = plan
        return loops.summed(x, product(o, narrowed(proj).t()), proj_bias)

    @staticmethod
    def backward(ctx, grad):
        x, n, factors, rows, o, logs, gain, qkv, qkv_bias, proj, *turn = ctx.saved_tensors
        g, d_proj_bias = loops.narrowed(grad, narrow())
        (d_rows, d_bias), _ = attend_back((rows, qkv_bias), (rows, qkv_bias), turn, ctx.plan, SEEING,
                                          product(g, narrowed(proj)), logs)
        dx = loops.norm_back(product(d_rows, with_gain(qkv, gain)), x, factors, grad)
        d_qkv, d_gain = without_gain(product(d_rows.t(), n), qkv, gain)
        return dx, d_gain, d_qkv, d_bias, product(g.t(), o).float(), d_proj_bias, None, None


def see(lean: Lean, b: dict[str, Any]) -> torch.Tensor:
    """Visual tokens (m, d), in prompt order."""
    tower = lean.model.model.visual
    x = _embedded(lean, tower.patch_embed.proj.weight.view(WIDTH, 3, 2, -1), b)
    for i, block in enumerate(tower.blocks):
        attn, mlp = block.attn, block.mlp
        x = SeeingAttention.apply(x, block.norm1.weight, *matrix(attn.qkv), *matrix(attn.proj),
                                  b["seeing_turn"], b["seeing"][i in FULL_BLOCKS])
        x = GatedMLP.apply(x, block.norm2.weight, *matrix(mlp.gate_proj), *matrix(mlp.up_proj),
                           *matrix(mlp.down_proj))
    merger = tower.merger
    x = network.rms_norm(x, merger.ln_q.weight).view(len(x) // 4, -1)
    x = F.gelu(Linear.apply(x, *matrix(merger.mlp[0])))
    return Linear.apply(x, *matrix(merger.mlp[2])).index_select(0, b["places"])


def matrix(layer: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    return layer.weight, layer.bias


def _embedded(lean: Lean, weight: torch.Tensor, b: dict[str, Any]) -> torch.Tensor:
    """Patches (p, d): mean and scale of pixels go into the matrix, and for still pictures, whose two
    frames are one, the sum of both halves of it."""
    scaled = weight * lean.scale[0, :, :, None, None].view(1, 3, 1, 1)
    bias = -(scaled * lean.mean.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    parts = [Linear.apply(b[name], one.reshape(WIDTH, -1), bias)
             for name, one in (("still", scaled.sum(dim=2)), ("moving", scaled)) if len(b[name])]
    return torch.cat(parts)


# ----------------------------------------------------------------------------------------- the decoder

class ReadingAttention(torch.autograd.Function):
    """x (s, d) -> x + o_proj(attention(norm(x))) of one layer of the decoder, for all tokens or for
    those that are `asked` (q)."""

    @staticmethod
    def forward(ctx, x, gain, q_w, q_b, k_w, k_b, v_w, v_b, o_w, turn, plan, asked):
        n, factors = loops.norm(x, narrow(), EPS)
        kv_w, kv_b = torch.cat([k_w, v_w]), torch.cat([k_b, v_b])
        n_q = n if asked is None else n.index_select(0, asked)
        q, kv = product(n_q, with_gain(q_w, gain).t()), product(n, with_gain(kv_w, gain).t())
        o, logs = attend((q, q_b), (kv, kv_b), turn, plan, READING)
        ctx.save_for_backward(x, n, n_q, factors, q, kv, o, logs, gain, q_w, q_b, kv_w, kv_b, o_w, *turn)
        ctx.plan, ctx.asked = plan, asked
        return loops.summed(x if asked is None else x.index_select(0, asked),
                            product(o, narrowed(o_w).t()), None)

    @staticmethod
    def backward(ctx, grad):
        x, n, n_q, factors, q, kv, o, logs, gain, q_w, q_b, kv_w, kv_b, o_w, *turn = ctx.saved_tensors
        g, _ = loops.narrowed(grad, narrow())
        (d_q, d_qb), (d_kv, d_kvb) = attend_back((q, q_b), (kv, kv_b), turn, ctx.plan, READING,
                                                 product(g, narrowed(o_w)), logs)
        d_n, d_nq = product(d_kv, with_gain(kv_w, gain)), product(d_q, with_gain(q_w, gain))
        past = grad
        if ctx.asked is None:
            d_n += d_nq
        else:
            d_n.index_add_(0, ctx.asked, d_nq)
            past = torch.zeros_like(x).index_add_(0, ctx.asked, grad)
        dx = loops.norm_back(d_n, x, factors, past)
        d_qw, d_gain = without_gain(product(d_q.t(), n_q), q_w, gain)
        d_kvw, more = without_gain(product(d_kv.t(), n), kv_w, gain)
        (d_k, d_v), (d_kb, d_vb) = d_kvw.split(KEYS), d_kvb.split(KEYS)
        return (dx, d_gain + more, d_qw, d_qb, d_k, d_kb, d_v, d_vb, product(g.t(), o).float(),
                None, None, None)


class Logits(torch.autograd.Function):
    """x (n, d) times the embedding (v, d): (n, v), float32; gradients by products as elsewhere."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return torch.from_numpy(np.matmul(x.detach().numpy(), weight.detach().numpy().T))

    @staticmethod
    def backward(ctx, grad):
        (x, weight), count = ctx.saved_tensors, len(grad)
        g, x = (narrowed(F.pad(one, (0, 0, 0, -count % ASKED))) for one in (grad, x))
        return product(g, narrowed(weight))[:count].float(), product(g.t(), x).float()


def read(lean: Lean, b: dict[str, Any], features: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits (n, v) of the tokens of all answers, and all tokens (s, d) as each layer but the last left them."""
    decoder = lean.model.model.language_model
    vocabulary = decoder.embed_tokens.weight.shape[0]
    ids = b["ids"].clone()
    ids[b["visual"]] = vocabulary + torch.arange(len(features))
    x = F.embedding(ids, torch.cat([decoder.embed_tokens.weight, features]))
    left = []
    for number, layer in enumerate(decoder.layers):
        a, mlp, last = layer.self_attn, layer.mlp, number + 1 == len(decoder.layers)
        x = ReadingAttention.apply(x, layer.input_layernorm.weight, *matrix(a.q_proj), *matrix(a.k_proj),
                                   *matrix(a.v_proj), a.o_proj.weight, b["reading_turn"],
                                   b["reading"][last], b["asking"] if last else None)
        x = GatedMLP.apply(x, layer.post_attention_layernorm.weight, *matrix(mlp.gate_proj),
                           *matrix(mlp.up_proj), *matrix(mlp.down_proj))
        left.append(x)
    x = network.rms_norm(x, decoder.norm.weight)[:len(b["target"])]         # without what fills it up
    return Logits.apply(x, decoder.embed_tokens.weight), left[:-1]


# --------------------------------------------------------------------------------------------- batches

def tensors(batch: dict[str, Any], lean: Lean) -> dict[str, Any]:
    """A batch of `layout.lay` as tensors, with cosine and sine of the angles of patches and tokens."""
    b: dict[str, Any] = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                         for name, value in batch.items()}
    if "at" in b:
        network.widen(b)
        turn = torch.cat([at[:, None] * lean.vision_turn for at in b["at"]], dim=1)
        b["seeing_turn"] = turn.cos(), turn.sin()                           # p e/2
    if "ids" in b:
        turn = lean.angles(b["positions"])
        b["reading_turn"] = turn.cos(), turn.sin()                          # s e/2
    return b

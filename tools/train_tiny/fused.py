"""The network of `network.Lean` by functions that bring their own backward pass: what training uses.

PyTorch would keep and pass over many arrays between two products of matrices. Here each half of a block
(attention, gated MLP) is one function: gains of norms go into the matrices behind them, rotations are
products of complex numbers in place, attention takes slices as `layout.py` lays them, and the last layer
of the decoder asks only what an answer needs. Products are NumPy's, whose BLAS is faster than PyTorch's
where there is no bfloat16 (by a third on a core of its own, by a tenth where two threads share a core).

`network.Lean.see` and `read` are the definition; a test holds logits and gradients of both equal. p:
patches, s: tokens, q: queries, d: width, h: heads, c: heads of keys, g: queries' heads for each of them,
e: width of a head. Read next: `train.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from . import network
from .layout import Branches, Frames, Tree
from .network import EARLY, FULL_BLOCKS, HEADS, KV_HEADS, MLP, SECTIONS, WIDTH, Lean

HEAD, KEYS, GROUP = WIDTH // HEADS, KV_HEADS * (WIDTH // HEADS), HEADS // KV_HEADS
EPS = 1e-6


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrices (n, k) times (k, m), float32; rounded to bfloat16 first where `network.ROUND` says so."""
    if network.ROUND:
        return (a.bfloat16() @ b.bfloat16()).float()
    return torch.from_numpy(np.matmul(a.detach().numpy(), b.detach().numpy()))


def paired(heads: int) -> torch.Tensor:
    """Rows of a projection such that what turns together is neighbours: (heads * e,)."""
    return torch.arange(heads * HEAD).view(heads, 2, HEAD // 2).transpose(1, 2).reshape(-1)


PAIRED = {heads: paired(heads) for heads in (HEADS, KV_HEADS, 2 * HEADS)}
PAIRED_ROWS = torch.cat([PAIRED[2 * HEADS], torch.arange(2 * WIDTH, 3 * WIDTH)])    # of the tower's qkv


def normed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm without its gain: (p, d), and the factor of each row: (p, 1)."""
    rows = x.detach().numpy()
    factor = torch.from_numpy(np.einsum("pd,pd->p", rows, rows))[:, None]
    factor = factor.div_(x.shape[1]).add_(EPS).rsqrt_()
    return x * factor, factor


def normed_backward(grad: torch.Tensor, n: torch.Tensor, factor: torch.Tensor,
                    past: torch.Tensor) -> torch.Tensor:
    """From the gradient of n, which it overwrites, to that of x; `past` is what went past the norm."""
    along = torch.from_numpy(np.einsum("pd,pd->p", grad.numpy(), n.numpy()))[:, None].div_(-n.shape[1])
    return torch.addcmul(past, grad.addcmul_(n, along), factor)


def turn_(rows: torch.Tensor, turn: torch.Tensor) -> None:
    """Rotate the first columns of rows (p, w) in place. turn: (p, n) complex, for 2 n columns."""
    torch.view_as_complex(rows.view(len(rows), -1, 2))[:, :turn.shape[1]].mul_(turn)


def softmax(scores: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(scores), dim=-1).numpy()


def softmax_backward(grad: np.ndarray, shares: np.ndarray) -> np.ndarray:
    g, p = torch.from_numpy(grad), torch.from_numpy(shares)
    return torch._softmax_backward_data(g, p, -1, torch.float32).numpy()


def by_head(rows: np.ndarray, heads: int) -> np.ndarray:
    """(..., n, h e) -> (..., h, n, e), a view."""
    return rows.reshape(*rows.shape[:-1], heads, HEAD).swapaxes(-3, -2)


class Linear(torch.autograd.Function):
    """x (n, k) -> (n, m)."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        y = product(x, weight.t())
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), (wants_x, wants_weight, wants_bias) = ctx.saved_tensors, ctx.needs_input_grad
        return (product(grad, weight) if wants_x else None,
                product(grad.t(), x) if wants_weight else None, grad.sum(dim=0) if wants_bias else None)


class GatedMLP(torch.autograd.Function):
    """x (p, d) -> x + down(silu(gate(norm(x))) * up(norm(x))), the norm among it."""

    @staticmethod
    def forward(ctx, x, gain, gate, gate_bias, up, up_bias, down, down_bias):
        n, factor = normed(x)
        both = torch.cat([gate, up])                                        # 2m d
        inner = product(n, (both * gain).t())                               # p 2m
        if gate_bias is not None:
            inner.add_(torch.cat([gate_bias, up_bias]))
        opened = F.silu(inner[:, :MLP])
        act = opened * inner[:, MLP:]
        y = product(act, down.t()).add_(x)
        ctx.save_for_backward(n, factor, inner, opened, act, gain, both, down)
        ctx.biased = gate_bias is not None
        return y.add_(down_bias) if ctx.biased else y

    @staticmethod
    def backward(ctx, grad):
        n, factor, inner, opened, act, gain, both, down = ctx.saved_tensors
        d_act, d_inner = product(grad, down), torch.empty_like(inner)
        torch.mul(d_act, opened, out=d_inner[:, MLP:])
        torch.ops.aten.silu_backward.grad_input(d_act.mul_(inner[:, MLP:]), inner[:, :MLP],
                                                grad_input=d_inner[:, :MLP])
        dx = normed_backward(product(d_inner, both * gain), n, factor, grad)
        if not ctx.needs_input_grad[2]:
            return (dx, *[None] * 7)
        d_both = product(d_inner.t(), n)                  # of the matrix with the gain in it
        d_gain = (d_both * both).sum(dim=0)
        d_gate, d_up = d_both.mul_(gain).split(MLP)
        biases = d_inner.sum(dim=0).split(MLP) if ctx.biased else (None, None)
        return (dx, d_gain, d_gate, biases[0], d_up, biases[1], product(grad.t(), act),
                grad.sum(dim=0) if ctx.biased else None)


# ------------------------------------------------------------------------------------------- the tower

def segments(rows: torch.Tensor, frames: list[Frames], full: bool) -> list[np.ndarray]:
    """Views (t, k, n, w) of rows (p, w): k segments of n patches in each of t frames, which are windows
    or, with `full`, the frame itself."""
    out, width = [], rows.shape[1]
    for start, count, patches, windows in frames:
        part = rows.numpy()[start:start + count * patches].reshape(count, patches, width)
        for first, many, size in (((0, 1, patches),) if full else windows):
            out.append(part[:, first:first + many * size].reshape(count, many, size, width))
    return out


def thirds(rows: np.ndarray) -> list[np.ndarray]:
    """Queries, keys and values (..., n, 3d) -> (..., h, n, e) each, views."""
    return [by_head(rows[..., i:i + WIDTH], HEADS) for i in range(0, 3 * WIDTH, WIDTH)]


class SeeingAttention(torch.autograd.Function):
    """x (p, d) -> x + proj(attention(norm(x))) of one block of the tower."""

    @staticmethod
    def forward(ctx, x, gain, qkv, qkv_bias, proj, proj_bias, turn, frames, full):
        n, factor = normed(x)
        plain = qkv[PAIRED_ROWS]
        rows = product(n, (plain * gain).t()).add_(qkv_bias[PAIRED_ROWS])   # p 3d
        turn_(rows, turn)
        o, shares = torch.empty_like(x), []
        for part, out in zip(segments(rows, frames, full), segments(o, frames, full), strict=True):
            q, k, v = thirds(part)
            shares.append(softmax(np.matmul(q, k.swapaxes(-1, -2))))        # t k h n n
            np.matmul(shares[-1], v, out=by_head(out, HEADS))
        ctx.save_for_backward(n, factor, rows, o, gain, plain, proj, turn)
        ctx.frames, ctx.full, ctx.shares = frames, full, shares
        return product(o, proj.t()).add_(x).add_(proj_bias)

    @staticmethod
    def backward(ctx, grad):
        n, factor, rows, o, gain, plain, proj, turn = ctx.saved_tensors
        d_o, d_rows = product(grad, proj), torch.empty_like(rows)
        parts = [segments(one, ctx.frames, ctx.full) for one in (rows, d_rows, d_o)]
        for part, d_part, out, p in zip(*parts, ctx.shares, strict=True):
            (q, k, v), (dq, dk, dv) = thirds(part), thirds(d_part)
            out = by_head(out, HEADS)
            ds = softmax_backward(np.matmul(out, v.swapaxes(-1, -2)), p)
            np.matmul(ds, k, out=dq)
            np.matmul(ds.swapaxes(-1, -2), q, out=dk)
            np.matmul(p.swapaxes(-1, -2), out, out=dv)
        turn_(d_rows, turn.conj())
        d_plain = product(d_rows.t(), n)
        d_gain = (d_plain * plain).sum(dim=0)
        d_qkv, d_bias = torch.empty_like(plain), d_rows.new_empty(3 * WIDTH)
        d_qkv[PAIRED_ROWS], d_bias[PAIRED_ROWS] = d_plain.mul_(gain), d_rows.sum(dim=0)
        dx = normed_backward(product(d_rows, plain * gain), n, factor, grad)
        return dx, d_gain, d_qkv, d_bias, product(grad.t(), o), grad.sum(dim=0), None, None, None


def see(lean: Lean, b: dict[str, Any]) -> torch.Tensor:
    """Visual tokens (m, d), in prompt order."""
    tower = lean.model.model.visual
    x = _embedded(lean, tower.patch_embed.proj.weight.view(WIDTH, 3, 2, -1), b)
    for i, block in enumerate(tower.blocks):
        attn, mlp = block.attn, block.mlp
        x = SeeingAttention.apply(x, block.norm1.weight, *matrix(attn.qkv), *matrix(attn.proj),
                                  b["seeing_turn"], b["frames"], i in FULL_BLOCKS)
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
    parts = [Linear.apply(b[name].float(), one.reshape(WIDTH, -1), bias)
             for name, one in (("still", scaled.sum(dim=2)), ("moving", scaled)) if len(b[name])]
    return torch.cat(parts)


# ----------------------------------------------------------------------------------------- the decoder

class ReadingAttention(torch.autograd.Function):
    """x (s, d) -> x + o_proj(attention(norm(x))) of one layer of the decoder, for queries (q, d)."""

    @staticmethod
    def forward(ctx, x, gain, q_w, q_b, k_w, k_b, v_w, v_b, o_w, turns, b, plan):
        n, factor = normed(x)
        asked = b["asked"] if plan else None
        plain_q, plain_kv = q_w[PAIRED[HEADS]], torch.cat([k_w[PAIRED[KV_HEADS]], v_w])
        n_q = n if asked is None else n.index_select(0, asked)
        q = product(n_q, (plain_q * gain).t()).add_(q_b[PAIRED[HEADS]])                   # q d
        kv = product(n, (plain_kv * gain).t()).add_(torch.cat([k_b[PAIRED[KV_HEADS]], v_b]))      # s 2c
        turn_(q, turns[0] if asked is None else turns[0].index_select(0, asked))
        turn_(kv, turns[1])
        o, shares = torch.empty_like(q), []
        shared = 0 if plan else b["shared"]
        if shared:
            shares.append(_attend_shared(q.numpy()[:shared], kv.numpy()[:shared], o.numpy()[:shared]))
        for tree in b["trees"][plan]:
            shares.append(_attend_tree(q.numpy(), kv.numpy(), o.numpy(), b["shared"], tree))
        ctx.save_for_backward(n, n_q, factor, q, kv, o, gain, plain_q, plain_kv, o_w, *turns)
        ctx.b, ctx.plan, ctx.shares = b, plan, shares
        return product(o, o_w.t()).add_(x if asked is None else x.index_select(0, asked))

    @staticmethod
    def backward(ctx, grad):
        n, n_q, factor, q, kv, o, gain, plain_q, plain_kv, o_w, *turns = ctx.saved_tensors
        b, asked = ctx.b, ctx.b["asked"] if ctx.plan else None
        d_o, d_q, d_kv = product(grad, o_w), torch.empty_like(q), torch.zeros_like(kv)
        arrays = [one.numpy() for one in (q, kv, d_o, d_q, d_kv)]
        shares, shared = list(ctx.shares), 0 if ctx.plan else b["shared"]
        if shared:
            _shared_backward(*[one[:shared] for one in arrays], shares.pop(0))
        for tree, p in zip(b["trees"][ctx.plan], shares, strict=True):
            _tree_backward(*arrays, b["shared"], tree, p)
        turn_(d_q, turns[0].conj() if asked is None else turns[0].index_select(0, asked).conj())
        turn_(d_kv, turns[1].conj())
        d_n, d_nq = product(d_kv, plain_kv * gain), product(d_q, plain_q * gain)
        if asked is None:
            dx = normed_backward(d_n.add_(d_nq), n, factor, grad)
        else:
            past = torch.zeros_like(n).index_copy_(0, asked, grad)
            dx = normed_backward(d_n.index_add_(0, asked, d_nq), n, factor, past)
        d_plain_q, d_plain_kv = product(d_q.t(), n_q), product(d_kv.t(), n)
        d_gain = (d_plain_q * plain_q).sum(dim=0) + (d_plain_kv * plain_kv).sum(dim=0)
        d_k, d_v = d_plain_kv.mul_(gain).split(KEYS)
        d_kb, d_vb = d_kv.sum(dim=0).split(KEYS)
        return (dx, d_gain, _unpaired(d_plain_q.mul_(gain), HEADS), _unpaired(d_q.sum(dim=0), HEADS),
                _unpaired(d_k, KV_HEADS), _unpaired(d_kb, KV_HEADS), d_v, d_vb, product(grad.t(), o),
                None, None, None)


def _unpaired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of taking rows by `PAIRED`."""
    out = torch.empty_like(rows)
    out[PAIRED[heads]] = rows
    return out


def hidden(queries: int, keys: int) -> np.ndarray:
    """What the causal rule adds to scores when the queries are the last of the keys: (queries, keys)."""
    return _hidden(512 * -(-keys // 512))[keys - queries:keys, :keys]


@functools.lru_cache(maxsize=4)
def _hidden(size: int) -> np.ndarray:
    return np.triu(np.full((size, size), -np.inf, np.float32), 1)


def queries_of(rows: np.ndarray) -> np.ndarray:
    """(..., n, d) -> (..., c, g, n, e), a view: heads of queries by the head of keys that they share."""
    return rows.reshape(*rows.shape[:-1], KV_HEADS, GROUP, HEAD).swapaxes(-4, -3).swapaxes(-3, -2)


def keys_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of (..., n, 2c e) -> (..., c, 1, n, e) each, views."""
    k, v = by_head(rows[..., :KEYS], KV_HEADS), by_head(rows[..., KEYS:], KV_HEADS)
    return k[..., None, :, :], v[..., None, :, :]


def _attend_shared(q: np.ndarray, kv: np.ndarray, o: np.ndarray) -> np.ndarray:
    """The start of the prompt, which sees itself alone; gives the shares (c, g, n, n)."""
    k, v = keys_of(kv)
    shares = softmax(np.matmul(queries_of(q), k.swapaxes(-1, -2)) + hidden(len(q), len(q)))
    np.matmul(shares, v, out=queries_of(o))
    return shares


def _shared_backward(q, kv, d_o, d_q, d_kv, shares):
    (k, v), (d_k, d_v) = keys_of(kv), keys_of(d_kv)
    ds = softmax_backward(np.matmul(queries_of(d_o), v.swapaxes(-1, -2)), shares)
    np.matmul(ds, k, out=queries_of(d_q))
    _add_keys(d_k, ds, queries_of(q))
    _add_keys(d_v, shares, queries_of(d_o))


def _add_keys(total: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> None:
    """To keys or values (..., c, 1, n, e) what rows (..., c, g, q, e) give by weights (..., c, g, q,
    n)."""
    total += np.matmul(weights.swapaxes(-1, -2), rows).sum(axis=-3, keepdims=True)


def _attend_tree(q: np.ndarray, kv: np.ndarray, o: np.ndarray, shared: int, tree: Tree) -> np.ndarray:
    """A row: all of its queries see the prompt, those of a branch also the branch up to themselves.
    Gives the shares (c, g, q, prompt + longest branch)."""
    k, v = keys_of(np.concatenate([kv[:shared], kv[tree.start:tree.prompt]]))
    mine, before = queries_of(q[tree.first:tree.last]), k.shape[-2]
    longest = max(part.keys for part in tree.branches)
    scores = np.full((*mine.shape[:3], before + longest), -np.inf, np.float32)
    np.matmul(mine, k.swapaxes(-1, -2), out=scores[..., :before])
    if tree.asks:
        scores[..., :tree.asks, shared:before] += hidden(tree.asks, tree.asks)
    for part in tree.branches:
        own = _own(scores, tree, part, before)
        np.matmul(_queries(q, part), keys_of(_keys(kv, part))[0].swapaxes(-1, -2), out=own)
        own += hidden(part.queries, part.keys)
    shares = softmax(scores)
    np.matmul(shares[..., :before], v, out=queries_of(o[tree.first:tree.last]))
    for part in tree.branches:
        out = _queries(o, part)
        out += np.matmul(_own(shares, tree, part, before), keys_of(_keys(kv, part))[1])
    return shares


def _tree_backward(q, kv, d_o, d_q, d_kv, shared, tree, shares):
    """Writes d_q of the row's queries and adds to d_kv of all that they saw."""
    seen = np.concatenate([kv[:shared], kv[tree.start:tree.prompt]])
    (k, v), d_seen, before = keys_of(seen), np.zeros_like(seen), len(seen)
    mine, given = queries_of(q[tree.first:tree.last]), queries_of(d_o[tree.first:tree.last])
    d_shares = np.zeros_like(shares)
    np.matmul(given, v.swapaxes(-1, -2), out=d_shares[..., :before])
    for part in tree.branches:
        np.matmul(_queries(d_o, part), keys_of(_keys(kv, part))[1].swapaxes(-1, -2),
                  out=_own(d_shares, tree, part, before))
    ds = softmax_backward(d_shares, shares)
    np.matmul(ds[..., :before], k, out=queries_of(d_q[tree.first:tree.last]))
    d_k, d_v = keys_of(d_seen)
    _add_keys(d_k, ds[..., :before], mine)
    _add_keys(d_v, shares[..., :before], given)
    d_kv[:shared] += d_seen[:shared]
    d_kv[tree.start:tree.prompt] += d_seen[shared:]
    for part in tree.branches:
        own, d_mine = _own(ds, tree, part, before), _queries(d_q, part)
        d_k, d_v = keys_of(_keys(d_kv, part))
        d_mine += np.matmul(own, keys_of(_keys(kv, part))[0])
        _add_keys(d_k, own, _queries(q, part))
        _add_keys(d_v, _own(shares, tree, part, before), _queries(d_o, part))


def _queries(rows: np.ndarray, part: Branches) -> np.ndarray:
    """Of (q, d) those of some branches: (count, c, g, queries, e), a view."""
    mine = rows[part.query:part.query + part.count * part.queries]
    return queries_of(mine.reshape(part.count, part.queries, WIDTH))


def _keys(rows: np.ndarray, part: Branches) -> np.ndarray:
    """Of (s, 2c e) those of some branches: (count, keys, 2c e), a view."""
    return rows[part.key:part.key + part.count * part.keys].reshape(part.count, part.keys, 2 * KEYS)


def _own(scores: np.ndarray, tree: Tree, part: Branches, before: int) -> np.ndarray:
    """Of (c, g, q, prompt + longest) what branches say to themselves: (count, c, g, queries, keys)."""
    first = part.query - tree.first
    mine = scores[:, :, first:first + part.count * part.queries, before:before + part.keys]
    return mine.reshape(KV_HEADS, GROUP, part.count, part.queries, part.keys).transpose(2, 0, 1, 3, 4)


def read(lean: Lean, b: dict[str, Any], features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, v) of the tokens of all answers, and visual tokens (m, d) as `EARLY` layers left
    them."""
    decoder = lean.model.model.language_model
    vocabulary = decoder.embed_tokens.weight.shape[0]
    ids = b["ids"].clone()
    ids[b["visual"]] = vocabulary + torch.arange(len(features))
    x = F.embedding(ids, torch.cat([decoder.embed_tokens.weight, features]))
    for number, layer in enumerate(decoder.layers):
        a, mlp, plan = layer.self_attn, layer.mlp, int(number + 1 == len(decoder.layers))
        x = ReadingAttention.apply(x, layer.input_layernorm.weight, *matrix(a.q_proj), *matrix(a.k_proj),
                                   *matrix(a.v_proj), a.o_proj.weight, b["reading_turns"], b, plan)
        x = GatedMLP.apply(x, layer.post_attention_layernorm.weight, *matrix(mlp.gate_proj),
                           *matrix(mlp.up_proj), *matrix(mlp.down_proj))
        if number + 1 == EARLY:
            early = F.embedding(b["visual"], x)
    return F.linear(network.rms_norm(x, decoder.norm.weight), decoder.embed_tokens.weight), early


# --------------------------------------------------------------------------------------------- batches

def tensors(batch: dict[str, Any], lean: Lean) -> dict[str, Any]:
    """A batch of `layout.lay` as tensors, with the rotations as complex numbers of length one; those of
    queries also hold the scale of the scores."""
    b: dict[str, Any] = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                         for name, value in batch.items()}
    scale = HEAD ** -0.5
    if "at" in b:
        network.widen(b)
        turn = torch.cat([at[:, None] * lean.vision_turn for at in b["at"]], dim=1)
        turn = torch.polar(torch.ones_like(turn), turn)
        b["seeing_turn"] = torch.cat([(turn * scale).repeat(1, HEADS), turn.repeat(1, HEADS)], dim=1)
    if "ids" in b:
        parts = (b["positions"][..., None].float() * lean.text_turn).split(SECTIONS, dim=-1)
        turn = torch.cat([part[i] for i, part in enumerate(parts)], dim=-1)
        turn = torch.polar(torch.ones_like(turn), turn)
        b["reading_turns"] = [(turn * scale).repeat(1, HEADS), turn.repeat(1, KV_HEADS)]
    return b

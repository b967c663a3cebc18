"""Who looked at whom, with what weight: softmax of the recorded queries and keys inside the recorded segments.

A trace holds queries, keys, values and what `attend` made of them, not the weights between. They are formed here once
more, and held against the trace: weights times the recorded values must give the recorded output (`Attention.error`).

Weights go into the page as float16, which has three figures. Two things may be done to keep the file small, and the
page says when they were: rows of a cell are pooled (mean of its four queries, sum over its four keys), and heads are
averaged. Read next: `page.py`, which chooses between these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...door.watch import relative_error
from .run import Run


@dataclass(frozen=True)
class Attention:
    """The weights of one block of the tower or layer of the decoder.

    weights: float16, flat. Tower: segment after segment, each (heads, queries, keys). Decoder: (heads, s (s + 1) / 2),
    row i with its i + 1 keys.
    """
    room: str                    # "vision" or "decoder"
    number: int                  # of the block or layer
    heads: int                   # 1 when they were averaged
    pooled: bool                 # rows are cells (c), not patches (w)
    weights: np.ndarray
    error: float                 # of weights times values against the recorded output, relative


def softmax_weights(q: np.ndarray, k: np.ndarray, causal: bool) -> np.ndarray:
    """One head of one segment: n e, m e -> n m, float64; causal rows end at their own key."""
    score = q.astype(np.float64) @ k.astype(np.float64).T * q.shape[-1] ** -0.5            # n m
    if causal:
        score[np.triu_indices(len(q), 1)] = -np.inf
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def pool_cells(weight: np.ndarray, size: int) -> np.ndarray:
    """Patches to cells of `size` rows: the mean over a cell's queries of the sum over a cell's keys: n m -> n/4 m/4."""
    n, m = (side // size for side in weight.shape)
    return weight.reshape(n, size, m, size).mean(axis=1).sum(axis=2)


def attention_of(run: Run, room: str, number: int, pooled: bool = False, one_head: bool = False) -> Attention:
    """The weights of one block or layer, pooled to cells or averaged over heads when that is asked for."""
    label = f"{room}.{'blocks' if room == 'vision' else 'layers'}.{number}"
    q, k, v = run.rows(f"{label}.rotate", 0), run.rows(f"{label}.rotate", 1), run.rows(f"{label}.project_qkv", 2)
    causal = room == "decoder"
    segments = np.array([[0, len(q), 0, len(q)]]) if causal else run.trace["vision.schedule"][number]
    again, parts, group = np.zeros(q.shape), [], q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments.tolist():
        heads = []
        for head in range(q.shape[1]):
            weight = softmax_weights(q[q0:q1, head], k[k0:k1, head // group], causal)
            again[q0:q1, head] = weight @ v[k0:k1, head // group].astype(np.float64)
            heads.append(_packed(weight, run, causal, pooled))
        parts.append(np.stack([np.mean(heads, axis=0)] if one_head else heads).astype(np.float16).ravel())
    error = relative_error(again, run.rows(f"{label}.attend"))
    return Attention(room, number, 1 if one_head else q.shape[1], pooled, np.concatenate(parts), error)


def _packed(weight: np.ndarray, run: Run, causal: bool, pooled: bool) -> np.ndarray:
    if causal:
        return weight[np.tril_indices(len(weight))]                                        # n n -> n (n + 1) / 2
    return pool_cells(weight, run.vlm.config.vision.spatial_merge_size ** 2) if pooled else weight


def all_attention(run: Run, budget: int) -> list[Attention]:
    """Every block and layer, as exact as `budget` bytes of weights allow: all heads of all patches if they fit, else
    cells in place of patches where a block looks at whole frames, else the mean of heads as well."""
    vision, layers = run.vlm.config.vision, run.vlm.config.text.num_hidden_layers
    plan = _plan(run, budget)
    full = vision.fullatt_block_indexes
    tower = [attention_of(run, "vision", n, plan["cells"] and n in full, plan["one_head"]) for n in range(vision.depth)]
    return tower + [attention_of(run, "decoder", n, False, plan["one_head"]) for n in range(layers)]


def _plan(run: Run, budget: int) -> dict[str, bool]:
    vision, text = run.vlm.config.vision, run.vlm.config.text
    tables, cell = run.trace["vision.schedule"], vision.spatial_merge_size ** 2
    pairs = [sum(int((s[1] - s[0]) * (s[3] - s[2])) for s in table) for table in tables]
    full = sum(pairs[n] for n in vision.fullatt_block_indexes)
    tower, decoder = sum(pairs) - full, text.num_hidden_layers * len(run.ids) * (len(run.ids) + 1) // 2
    per_head = {False: full, True: full // cell**2}
    for cells in (False, True):
        if 2 * ((tower + per_head[cells]) * vision.num_heads + decoder * text.num_attention_heads) <= budget:
            return {"cells": cells, "one_head": False}
    return {"cells": True, "one_head": True}

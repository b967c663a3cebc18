"""Who looked at whom, with what weight: softmax of recorded queries and keys in recorded segments.

A trace holds queries, keys, values and what `attend` made of them, not the weights between. They are
formed here once more, and held against the trace: weights times the recorded values must give the
recorded output (`Attention.error`).

Weights go into the page as float16, which has three figures. Two things may be done to keep the file
small, and the page says when they were: rows of a cell are pooled (mean of its four queries, sum over
its four keys), and heads are averaged. Read next: `document.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...door.watch import relative_error
from ...kernels.definition import softmax_weights
from .run import Run


@dataclass(frozen=True)
class Attention:
    """The weights of one block of the tower or layer of the decoder.

    weights: float16, flat. Tower: segment after segment, each (heads, queries, keys). Decoder:
    (heads, s (s + 1) / 2), row i with its i + 1 keys.
    """
    room: str                    # "vision" or "decoder"
    number: int                  # of the block or layer
    heads: int                   # 1 when they were averaged
    pooled: bool                 # rows are cells (c), not patches (w)
    weights: np.ndarray
    error: float                 # of weights times values against the recorded output, relative


def pool_cells(weight: np.ndarray, size: int) -> np.ndarray:
    """Patches to cells of `size` rows: mean over a cell's queries of the sum over a cell's keys."""
    n, m = (side // size for side in weight.shape)
    return weight.reshape(n, size, m, size).mean(axis=1).sum(axis=2)          # 4n 4m -> n 4 m 4 -> n m


def attention_of(run: Run, room: str, number: int, pooled: bool = False, one_head: bool = False
                 ) -> Attention:
    """The weights of one block or layer; if asked for, pooled to cells or averaged over heads."""
    label = f"{room}.{'blocks' if room == 'vision' else 'layers'}.{number}"
    q, k, v = (run.rows(f"{label}.{stage}", n).astype(np.float64)             # s a e, s k e, s k e
               for stage, n in (("rotate", 0), ("rotate", 1), ("project_qkv", 2)))
    causal = room == "decoder"
    segments = np.array([[0, len(q), 0, len(q)]]) if causal else run.trace["vision.schedule"][number]
    again, parts, group = np.zeros(q.shape), [], q.shape[1] // k.shape[1]
    for q0, q1, k0, k1 in segments.tolist():
        heads = []
        for head in range(q.shape[1]):
            weight = softmax_weights(q[q0:q1, head], k[k0:k1, head // group], causal)      # n m
            again[q0:q1, head] = weight @ v[k0:k1, head // group]
            heads.append(_packed(weight, run, causal, pooled))
        kept = [np.mean(heads, axis=0)] if one_head else heads
        parts.append(np.stack(kept).astype(np.float16).ravel())
    error = relative_error(again, run.rows(f"{label}.attend"))
    return Attention(room, number, 1 if one_head else q.shape[1], pooled, np.concatenate(parts), error)


def _packed(weight: np.ndarray, run: Run, causal: bool, pooled: bool) -> np.ndarray:
    if causal:
        return weight[np.tril_indices(len(weight))]                           # n n -> n (n + 1) / 2
    return pool_cells(weight, run.vlm.config.vision.spatial_merge_size ** 2) if pooled else weight


def all_attention(run: Run, budget: int) -> list[Attention]:
    """Every block and layer, as exact as `budget` bytes of weights allow: all heads of all patches, else
    cells in place of patches where a block looks at whole frames, else the mean of heads as well."""
    vision, layers = run.vlm.config.vision, run.vlm.config.text.num_hidden_layers
    cells, one_head = _plan(run, budget)
    pooled = [cells and n in vision.fullatt_block_indexes for n in range(vision.depth)]
    tower = [attention_of(run, "vision", n, pooled[n], one_head) for n in range(vision.depth)]
    return tower + [attention_of(run, "decoder", n, False, one_head) for n in range(layers)]


def _plan(run: Run, budget: int) -> tuple[bool, bool]:
    """Whether cells are pooled, and whether heads are averaged."""
    vision, text = run.vlm.config.vision, run.vlm.config.text
    tables, cell = run.trace["vision.schedule"], vision.spatial_merge_size ** 2
    pairs = [sum(int((s[1] - s[0]) * (s[3] - s[2])) for s in table) for table in tables]
    full = sum(pairs[n] for n in vision.fullatt_block_indexes)
    windows, s = sum(pairs) - full, len(run.ids)
    decoder = text.num_hidden_layers * s * (s + 1) // 2 * text.num_attention_heads
    for cells, looking in ((False, full), (True, full // cell**2)):
        if 2 * ((windows + looking) * vision.num_heads + decoder) <= budget:  # float16: two bytes each
            return cells, False
    return True, True

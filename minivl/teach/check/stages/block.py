"""A block's own passes: `project_qkv` and `add_attended`."""

from __future__ import annotations

import numpy as np

from ....config import TextConfig, VisionConfig
from ....passes import block as passes
from ..draws import Draws
from ..exercise import Exercise
from .small import bias, lin, matrix, text, vision


def _draw_qkv(d: Draws) -> tuple:
    kv, group, head = d.whole(1, 2), d.whole(1, 3), 2 * d.whole(1, 2)
    heads = kv * group
    config: TextConfig | VisionConfig = text(hidden_size=heads * head, num_attention_heads=heads,
                                             num_key_value_heads=kv)
    if d.flag():                                                   # the tower's: as many of each
        kv, config = heads, vision(hidden_size=heads * head, num_heads=heads)
    return d.floats(d.whole(1, 4), heads * head), d.linear(heads * head, (heads + 2 * kv) * head), config


def _grouped(x, qkv, config):
    return config.kv_heads < config.heads


QKV = Exercise(
    "project_qkv", "*.project_qkv", "query, key and value of every head: n d -> n a e, n k e, n k e",
    passes.project_qkv, _draw_qkv, lambda x, qkv, config: x.shape[1],
    {"fewer key-value heads than query heads": _grouped,
     "more than one query head": lambda x, qkv, config: config.heads > 1,
     "the tower's config": lambda x, qkv, config: isinstance(config, VisionConfig)},
    reads=("heads", "kv_heads", "head_dim"))


def _after(change):
    """The right q, k and v, changed."""
    return lambda *args: change(*QKV.definition(*args))


QKV.wrong("kv_swapped", _after(lambda q, k, v: (q, v, k)),
          "key and value are swapped: the rows of the matrix are q, then k, then v")
QKV.wrong("equal_thirds",
          lambda x, w, c: tuple(y.reshape(len(x), -1, c.head_dim) for y in np.split(lin(x, w), 3, 1)),
          "q, k and v are read as three equal thirds: with fewer key-value heads, k and v are narrower")
QKV.wrong("head_by_head",
          lambda x, qkv, c: tuple(np.moveaxis(lin(x, qkv).reshape(len(x), c.heads, 3, -1), 2, 0)),
          "q, k and v are read head by head (q k v of head 0, then of head 1): all of q comes first")
QKV.wrong("heads_cut_across",
          _after(lambda *parts: tuple(p.reshape(len(p), p.shape[2], -1).swapaxes(1, 2) for p in parts)),
          "heads are cut across: (e, a) swapped. A head is e neighbours: reshape to (n, a, e), with no "
          "transpose")
QKV.fault("qkv-bias-dropped", "your bias is missing")
QKV.wrong("kv_repeated",
          _after(lambda q, *kv: (q, *(np.repeat(part, q.shape[1] // part.shape[1], 1) for part in kv))),
          "k and v are repeated up to the number of query heads: they stay few; `attend` pairs them")
QKV.wrong("q_scaled_here", _after(lambda q, k, v: (q / np.sqrt(q.shape[2]), k, v)),
          "q is scaled by 1/sqrt(e) here: that is part of `attend`, and would come twice")
QKV.wrong("heads_first", _after(lambda *parts: tuple(part.swapaxes(0, 1) for part in parts)),
          "heads come first, (a, n, e): rows stay first, (n, a, e)")
QKV.wrong("qk_swapped", _after(lambda q, k, v: (k, q, v)),
          "queries and keys are swapped: the rows of the matrix are q, then k, then v")


# ------------------------------------------------------------------------------------- add_attended

def _draw_attended(d: Draws) -> tuple:
    heads, head, n = d.whole(1, 3), d.whole(1, 4), d.whole(1, 4)
    width = heads * head
    return d.floats(n, width), d.floats(n, heads, head), d.linear(width, width)


ATTENDED = Exercise(
    "add_attended", "*.add_attended",
    "the heads side by side, through a matrix, onto the stream: n d, n a e -> n d",
    passes.add_attended, _draw_attended, lambda x, attended, out: x.shape[1],
    {"more than one head": lambda x, attended, out: attended.shape[1] > 1,
     "a bias": lambda x, attended, out: out.bias is not None})
ATTENDED.wrong("not_added", lambda x, y, out: lin(y.reshape(len(x), -1), out),
               "x is not added: a block adds to the residual stream, it does not replace it")
ATTENDED.wrong("heads_interleaved", lambda x, y, out: x + lin(y.swapaxes(1, 2).reshape(len(x), -1), out),
               "the heads are interleaved: (e, a) instead of (a, e). Each head stays together")
ATTENDED.wrong("rows_and_heads_mixed",
               lambda x, y, out: x + lin(y.swapaxes(0, 1).reshape(len(x), -1), out),
               "heads and rows are mixed up by a transpose before the reshape: reshape (n, a, e) to "
               "(n, a e)")
ATTENDED.wrong("out_matrix_missing", lambda x, y, out: x + y.reshape(len(x), -1),
               "the matrix is left out: the heads are added to x as they are")
ATTENDED.wrong("out_bias_missing", lambda x, y, out: x + y.reshape(len(x), -1) @ matrix(out).T,
               "your bias is missing: in some models `out` has one")
ATTENDED.wrong("x_through_the_matrix", lambda x, y, out: lin(x + y.reshape(len(x), -1), out),
               "x goes through the matrix as well; only what was attended does")
ATTENDED.wrong("out_not_transposed",
               lambda x, y, out: x + y.reshape(len(x), -1) @ matrix(out) + bias(out),
               "the matrix is not transposed: it is stored (out, in)")
ATTENDED.wrong("x_subtracted", lambda x, y, out: lin(y.reshape(len(x), -1), out) - x, "x is subtracted")
ATTENDED.wrong("x_added_twice", lambda x, y, out: lin(y.reshape(len(x), -1), out) + 2 * x,
               "x is added twice")

EXERCISES = [QKV, ATTENDED]

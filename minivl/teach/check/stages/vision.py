"""The two ends of the vision tower: `embed_patches` and `merge_2x2`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ....passes import vision as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .kernels import GELU, NORM, exact_gelu
from .small import FLOAT32, lin, matrix, normed


def _draw_embed(d: Draws) -> tuple:
    patch, width = d.whole(1, 12), d.whole(1, 8)
    return d.floats(d.whole(1, 6), patch), d.linear(patch, width, False), FLOAT32


EMBED = Exercise(
    "embed_patches", "vision.embed_patches", "each patch times one matrix: p x -> p d",
    passes.embed_patches,
    _draw_embed, lambda patches, embed, dtype: patches.shape[1])
EMBED.wrong("embed_reshaped", lambda x, w, _: x @ matrix(w).reshape(w.weight.shape[::-1]),
            "the matrix is reshaped to fit; it is stored (out, in), and must be transposed")
EMBED.wrong("patch_mean", lambda x, w, _: x @ matrix(w).T / x.shape[1],
            "you scale the sum by the number of values in a patch: it is a sum, not a mean")
EMBED.wrong("patch_backwards", lambda x, w, _: x[:, ::-1] @ matrix(w).T,
            "your patches run backwards: the values of each are reversed, as in a textbook "
            "convolution; this one does not flip its kernel")
EMBED.wrong("last_value_missing", lambda x, w, _: x[:, :-1] @ matrix(w).T[:-1],
            "the last value of each patch is left out")
EMBED.wrong("activation_after", lambda x, w, _: np.maximum(x @ matrix(w).T, 0),
            "you apply an activation after the product; here is none")
EMBED.wrong("patches_last", lambda x, w, _: matrix(w) @ x.T,
            "you give (d, p): rows of the result are patches, so it is patches @ W.T")
EMBED.wrong("patch_mean_off", lambda x, w, _: (x - x.mean(1, keepdims=True)) @ matrix(w).T,
            "you take the mean off each patch first; pixels were normalised long before")


# ---------------------------------------------------------------------------------------- merge_2x2

def _draw_merge(d: Draws) -> tuple:
    width = d.whole(1, 5)
    return d.floats(4 * d.whole(1, 5), width), d.merger(width, d.whole(1, 6), 4)


def _merge(x, merger, gelu=exact_gelu, inner=None):
    """The merger from its joined cells on."""
    cells = normed(x, merger.norm).reshape(len(x) // 4, -1) if inner is None else inner
    return lin(gelu(lin(cells, merger.inner)), merger.outer)


def _joined(join):
    """The merger with the normalised rows joined to cells in another way."""
    return lambda x, m: _merge(x, m, inner=join(normed(x, m.norm)).reshape(len(x) // 4, -1))


def _bare(w):
    return w._replace(bias=None)


def _merge_with_norm(norm, x, merger):
    """The merger with another norm."""
    return _merge(x, merger, inner=norm(x, merger.norm).reshape(len(x) // 4, -1))


def _variant(d: Draws) -> Variant:
    order = d.pick([(0, 2, 1, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
    return Variant(f"before they are joined, the four rows of each cell are put into the order {order}, "
                   f"so that row {order[0]} of the four comes first", plain.merging(order))


MERGE = Exercise(
    "merge_2x2", "vision.merge_2x2",
    "four rows of a cell side by side, through two linear maps: one visual token",
    passes.merge_2x2, _draw_merge, lambda x, merger: 4 * x.shape[1],
    {"more than one cell": lambda x, m: len(x) > 4,
     "an eps that counts": lambda x, m: m.norm.eps > 1e-3},
    variants=_variant)
MERGE.wrong("cells_in_raster_order", _joined(lambda y: y.reshape(4, len(y) // 4, -1).swapaxes(0, 1)),
            "your rows are in raster order: you join row i of each quarter of x, but the four rows of "
            "a cell stand one after the other (x.reshape(cells, 4 * d))")
MERGE.wrong("rows_interleaved", _joined(lambda y: y.reshape(len(y) // 4, 4, -1).swapaxes(1, 2)),
            "you interleave the four rows of a cell: first value of each, then second of each; they go "
            "side by side, one whole row after the other")
MERGE.wrong("norm_missing", lambda x, m: _merge(x, m, inner=x.reshape(len(x) // 4, -1)),
            "the norm is missing: rows are normalised before they are joined")


@MERGE.mistake("you normalise the joined row of 4d values: the mean square is formed over each of "
               "the four rows, of d values, before they are joined")
def norm_after_joining(x, merger):
    cells = x.reshape(len(x) // 4, -1)
    scale = np.sqrt((cells * cells).mean(-1, keepdims=True) + merger.norm.eps)
    return _merge(x, merger, inner=cells / scale * np.tile(merger.norm.weight.dense(np.float64), 4))


MERGE.wrong("gelu_missing", lambda x, m: _merge(x, m, lambda y: y),
            "the GELU between the two linear maps is missing")
MERGE.wrong("gelu_at_the_end", lambda x, m: exact_gelu(_merge(x, m)),
            "there is a GELU too many, after the second linear map")
MERGE.wrong("merger_biases_missing",
            lambda x, m: _merge(x, m._replace(inner=_bare(m.inner), outer=_bare(m.outer))),
            "your biases are missing: both linear maps of the merger have one")
MERGE.wrong("mean_of_four", _joined(lambda y: np.tile(y.reshape(len(y) // 4, 4, -1).mean(1), 4)),
            "you take the mean of the four rows of a cell; they are put side by side")
MERGE.wrong("inner_missing",
            lambda x, m: lin(exact_gelu(normed(x, m.norm).reshape(len(x) // 4, -1)), m.outer),
            "the first linear map is left out")


# A merger holds a GELU and a norm: their mistakes can be made here too.
for name, words, version in GELU.mistakes:
    MERGE.wrong(name, partial(_merge, gelu=version), f"in your GELU: {words}")
for name, words, version in NORM.mistakes:
    MERGE.wrong(name, partial(_merge_with_norm, version), f"in your norm: {words}")

EXERCISES = [EMBED, MERGE]

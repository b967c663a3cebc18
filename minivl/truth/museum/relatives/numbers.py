"""Relatives of faults of kernels, weights and types: norms, activations, rotations, biases.

Read next: `looking.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....checkpoint.tree import Linear, Norm
from ....checkpoint.weight import weight as as_weight
from ....config import ModelConfig
from ....kernels.definition import narrow, wide
from ..rounding import ROUNDED
from .relative import LAST, LAYERS, MERGER, TOWER, Relative, instead, relative, within

NORMS = {"everywhere": (f"{TOWER}.normalise", f"{TOWER}.add_mlp", MERGER, f"{LAYERS}.normalise",
                        f"{LAYERS}.add_mlp", LAST),
         "in the tower's blocks": (f"{TOWER}.normalise", f"{TOWER}.add_mlp"),
         "in the merger": (MERGER,),
         "in the decoder": (f"{LAYERS}.normalise", f"{LAYERS}.add_mlp", LAST),
         "in the last norm": (LAST,)}
EPSILONS = (1e-8, 1e-5, 1e-4, 1e-3, 1e-2)
BIASES = {"the tower's queries, keys and values": f"{TOWER}.project_qkv",
          "the tower's attention": f"{TOWER}.add_attended",
          "the tower's gated product": f"{TOWER}.add_mlp", "the merger": MERGER,
          "the decoder's queries, keys and values": f"{LAYERS}.project_qkv"}


def norms(config: ModelConfig) -> Iterator[Relative]:
    """Norms with another weight, another epsilon, or statistics that are rounded on the way."""
    for where, leaves in NORMS.items():
        for step in (1, -1):
            if (where, step) != ("everywhere", 1):
                said = f"one {'more' if step > 0 else 'less'}, {where}"
                yield relative("norm-plus-one", said,
                               within(leaves, "rms_norm", instead(other_weight, step=step)))
        for eps in EPSILONS:
            yield relative("eps-outside-the-root", f"an epsilon of {eps:g}, {where}",
                           within(leaves, "rms_norm", instead(other_epsilon, eps=eps)))
        for kind in ROUNDED:
            for what in ("squares", "mean", "root"):
                yield relative("norm-overflows-in-f16", f"the {what} in {kind}, {where}",
                               within(leaves, "rms_norm", instead(narrow_norm, kind=kind, what=what)))


def other_weight(right, x, norm, step):
    return right(x, Norm(as_weight(norm.weight.dense(np.float32) + np.float32(step)), norm.eps))


def other_epsilon(right, x, norm, eps):
    return right(x, Norm(norm.weight, eps))


def narrow_norm(right, x, norm, kind, what):
    """Squares, their mean, or the root that divides, in sixteen bits: n d -> n d."""
    y, rounded = wide(x), ROUNDED[kind]
    squares = rounded(np.float32(1) * y * y) if what == "squares" else y * y
    mean = np.mean(wide(squares), axis=-1, keepdims=True)
    mean = rounded(mean).astype(y.dtype) if what == "mean" else mean
    root = 1 / np.sqrt(mean + y.dtype.type(norm.eps))
    root = rounded(root).astype(y.dtype) if what == "root" else root
    return narrow(y * root, x.dtype) * norm.weight.dense(x.dtype)


def activations(config: ModelConfig) -> Iterator[Relative]:
    """Other functions that are called gelu, and none."""
    shapes = {"by a logistic function (1.702 x)": lambda y: y / (1 + np.exp(-1.702 * y)),
              "silu in its place": lambda y: y / (1 + np.exp(-y)),
              "relu in its place": lambda y: np.maximum(y, 0)}
    for said, shape in shapes.items():
        yield relative("gelu-by-tanh", said, {"kernel.gelu": instead(shaped, shape=shape)}, [MERGER])


def shaped(right, x, shape):
    with np.errstate(over="ignore"):
        y = wide(x)
        return narrow(shape(y).astype(y.dtype), x.dtype)


def biases(config: ModelConfig) -> Iterator[Relative]:
    """Biases that are left out, or added twice, in all matrices of a pass or in one of the two."""
    for said, leaf in BIASES.items():
        kinds = ("", ", gate and up", ", down") if leaf.endswith("add_mlp") else ("",)
        for times in (0, 2):
            for kind in kinds if (times, leaf) != (0, f"{LAYERS}.project_qkv") else ():
                words = f"{'left out of' if times == 0 else 'added twice in'} {said}{kind}"
                wrap = instead(other_bias, times=times, kind=kind.strip(", "))
                yield relative("qkv-bias-dropped", words, within([leaf], "linear", wrap), [leaf])


def other_bias(right, x, linear, times, kind):
    out, into = linear.weight.shape
    if linear.bias is None or (kind and (kind == "down") != (out < into)):
        return right(x, linear)
    scaled = as_weight(linear.bias.dense(np.float32) * np.float32(times)) if times else None
    return right(x, Linear(linear.weight, scaled))


def rotations(config: ModelConfig) -> Iterator[Relative]:
    """Rotations of other pairs, or the other way round, in one part of the model."""
    from ..arithmetic import rotary_pairs_interleaved
    parts = {"in the tower": [f"{TOWER}.rotate"], "in the decoder": [f"{LAYERS}.rotate"]}
    for where, leaves in parts.items():
        yield relative("rotary-pairs-interleaved", f"neighbours turned, {where}",
                       within(leaves, "rotate", instead(rotary_pairs_interleaved)), leaves)
        yield relative("rotary-pairs-interleaved", f"turned the other way, {where}",
                       within(leaves, "rotate", instead(backwards)), leaves)


def backwards(right, x, cos, sin):
    return right(x, cos, -sin)

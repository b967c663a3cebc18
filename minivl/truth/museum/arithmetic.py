"""Faults of kernels, weights and types: norms, activations, rotations, biases, and sixteen bits where
it takes more."""

from __future__ import annotations

import numpy as np

from ...checkpoint.tree import Linear, Norm
from ...checkpoint.weight import weight as as_weight
from ...kernels.definition import narrow, wide
from . import cases
from .fault import fault
from .rounding import to_bfloat16, to_float16

NORMED = ("vision.blocks.*.normalise", "vision.blocks.*.add_mlp", "vision.merge_2x2",
          "decoder.layers.*.normalise", "decoder.layers.*.add_mlp", "decoder.normalise")
GATHERED = ("vision.order_by_window", "vision.angles.order_by_window", "vision.restore_order",
            "decoder.select_rows")


@fault("kernel.rms_norm", ["lablup/mlxcel#1601", "lablup/mlxcel#1596"], 2026,
       "an object is missing from every description",
       shows=cases.bright, passes=("cosine", cases.text), leaves=NORMED)
def norm_overflows_in_f16(right, x, norm):
    """Squares were formed in float16, which ends at 65,504: a value of 256 has an infinite square. Its
    row is divided by infinity and becomes zero; few rows have such values, and those say most. The
    rest of the picture is described correctly."""
    y, half = wide(x), to_float16(x)
    with np.errstate(over="ignore"):
        mean_square = np.mean(wide(half * half), axis=-1, keepdims=True)
    y = y / np.sqrt(mean_square + y.dtype.type(norm.eps))
    return narrow(y, x.dtype) * norm.weight.dense(x.dtype)


@fault("kernel.rms_norm", ["Blaizzy/mlx-vlm#1548", "Blaizzy/mlx-vlm#1556"], 2026,
       "nonsense after a model was converted",
       shows=cases.text, leaves=NORMED)
def norm_plus_one(right, x, norm):
    """Some models of the family store a norm's weight less one, and a converter adds it: to weights
    that were converted before, and to those of models that store all of it. Every norm is about twice
    too strong. It is seen at once, which is its one good side."""
    return right(x, Norm(as_weight(norm.weight.dense(np.float32) + np.float32(1)), norm.eps))


@fault("kernel.rms_norm", ["allenai/OLMo#281"], 2023,
       "slightly other numbers than everybody else's",
       shows=cases.faint, passes=("cosine", cases.small), leaves=NORMED)
def eps_outside_the_root(right, x, norm):
    """The small number that keeps a norm from dividing by zero stands under the root; here it is added
    to the root. Rows of ordinary size cannot tell. Rows near zero, such as a patch of exactly the mean
    colour, come out with another length."""
    y = wide(x)
    root = np.sqrt(np.mean(y * y, axis=-1, keepdims=True))
    return narrow(y / (root + y.dtype.type(norm.eps)), x.dtype) * norm.weight.dense(x.dtype)


@fault("kernel.gelu", ["sgl-project/sglang#2365", "sgl-project/sglang#2112"], 2024,
       "a little worse than the reference",
       shows=cases.cell, passes=("cosine", cases.small), leaves=["vision.merge_2x2"])
def gelu_by_tanh(right, x):
    """There are three functions of this name, and ports took the one at hand. This one replaces the
    error function by a hyperbolic tangent. The curves differ in the fourth digit, and that is how much
    the answers differ."""
    y = wide(x)
    inner = y.dtype.type(np.sqrt(2 / np.pi)) * (y + y.dtype.type(0.044715) * y**3)
    return narrow(0.5 * y * (1 + np.tanh(inner)), x.dtype)


@fault("kernel.rotate", ["huggingface/candle#3410"], 2026,
       "thirty good words, then repetition",
       shows=cases.text, leaves=["vision.blocks.*.rotate", "decoder.layers.*.rotate"])
def rotary_pairs_interleaved(right, x, cos, sin):
    """A rotation turns pairs of numbers: the first with the one half a head further in this family,
    neighbours in others. Weights of the one kind turned in the way of the other give scores that fall
    off wrongly with distance. Near the start of a text the angles are small, and so is the damage."""
    y = x.astype(cos.dtype, copy=False)
    first, second, c, s = y[..., 0::2], y[..., 1::2], cos[:, None], sin[:, None]  # n a e -> n a f, n 1 f
    turned = np.stack([first * c - second * s, second * c + first * s], axis=-1)       # -> n a f 2
    return narrow(turned.reshape(x.shape), x.dtype)


@fault("decoder.layers.*.project_qkv", ["sbryngelson/ANEForge#253", "EricLBuehler/candle-vllm#167",
                                        "ServiceNow/Fast-LLM#398"], 2025,
       "garbled text in many languages",
       shows=cases.text)
def qkv_bias_dropped(right, x, qkv, config):
    """Queries, keys and values have biases in this family and in few others. A loader that was written
    for the others skips names that it does not know. The family has large biases in its keys, and
    nothing sensible comes out."""
    return right(x, Linear(qkv.weight, None), config)


@fault("vision.*", ["NVIDIA/TensorRT-LLM#3223", "huggingface/transformers#33294"], 2024,
       "a cosine of 0.14 to the reference",
       shows=cases.bright, passes=("cosine", cases.small), leaves=["vision.*"])
def tower_in_f16(right, *args):
    """All of the tower was compiled in float16, norms and gates included. A few rows of a real picture
    have values beyond 65,504 in the last blocks: they become infinite, then not numbers. A small model
    and a small picture stay within."""
    arrays = [x for x in args if isinstance(x, np.ndarray) and x.dtype.kind in "fV"]
    with np.errstate(all="ignore"):
        out = right(*map(_half, args))
    if isinstance(out, tuple):
        return tuple(x.astype(arrays[0].dtype) if arrays and x.dtype == np.float16 else x for x in out)
    return out.astype(arrays[0].dtype) if arrays and out.dtype == np.float16 else out


def _half(value):
    """float16 in place of any other floating type, or of an array of one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fV":
        return to_float16(value)
    if isinstance(value, np.dtype):
        return np.dtype(np.float16)
    return tuple(map(_half, value)) if type(value) is tuple else value


@fault("vision.blocks.*.add_mlp", ["ggml-org/llama.cpp#17534", "ollama/ollama#18070",
                                   "huggingface/transformers#33312"], 2024,
       "nothing but question marks, for some sizes of picture",
       shows=cases.bright, passes=("cosine", cases.small))
def mlp_overflows_in_f16(right, x, norm, mlp):
    """The product of gate and up reaches thousands in the last block, and its sum over thousands of
    channels passes 65,504 in float16. One row is infinite, the next norm makes it not a number, and
    attention spreads it. It takes certain pictures, which no test had."""
    with np.errstate(all="ignore"):
        return right(to_float16(x), norm, mlp).astype(x.dtype)


@fault("kernel.take_rows", ["airockchip/rknn-toolkit2#425"], 2025,
       "a large picture is read in the wrong order",
       shows=cases.long_text, passes=("same", cases.small), leaves=GATHERED)
def gather_index_too_narrow(right, x, index):
    """A device computes in one type of floating numbers, and gathers rows by an index of that type too.
    float16 counts to 2,048 without a gap; here it is bfloat16, which counts to 256, so that a small
    input shows it. Beyond that two rows share an index, and one is read twice."""
    return right(x, to_bfloat16(np.asarray(index, np.float32)).astype(np.int64))

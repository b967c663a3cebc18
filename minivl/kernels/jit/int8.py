"""The compiled interpreter with activations of 8 bits: faster on tiles and with VNNI, and coarser, so only
by choice.

    vlm = minivl.load(folder, kernels="jit-int8")

Weights are int8 (packed at load where they are not yet). Each row that meets a matrix is divided by its
largest number / 127 and rounded; the product of whole numbers is exact, and is multiplied by the scales
of its row and its column. On tiles that is TDPBSSD over the packed bytes as they lie; with VNNI, and for up to
four rows on tiles too, VPDPBUSD; other tiers multiply the rounded row as float32, with the same
meaning.

Source: Dettmers et al., "LLM.int8()" (2022), its row-wise part. Read next: `__init__.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ...checkpoint.layout import depth
from ...checkpoint.names import weights_of
from ...checkpoint.packed import Packed
from ...checkpoint.tree import MLP, Linear, Model
from ...checkpoint.weight import Absent
from ...door.errors import ArgumentError
from .. import Interpreter, definition, jit
from . import (
    STAGES,
    defined,
    flat,
    in_fast_precision,
    in_strips,
    prepare,
    steps_of,
    tables_of,
    workspace,
)
from .build import tile_form
from .drivers import STRIP, SUMS, Whole
from .few import FEW

Array = np.ndarray
MOST = np.float32(127)


@in_fast_precision
def linear(x: Array, w: Linear) -> Array:
    """n d -> n o, with x rounded to 8 bits"""
    if not isinstance(w.weight, Packed):
        return np.asarray(defined("linear")(x, w))
    out = np.empty((len(x), w.weight.shape[0]), x.dtype)
    bias = w.bias.dense(x.dtype).astype(np.float32) if w.bias is not None else np.empty(0, np.float32)
    if len(x):
        (whole_numbers if jit.maker().tier.byte_rows else rounded_rows)(x, w.weight, bias, flat(out))
    return out


def rounded_rows(x: Array, weight: Packed, bias: Array, out: Array) -> None:
    """Rounded rows as float32, by the usual products."""
    rows = x.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):               # a row of zeros stays one
        scale = np.abs(rows).max(axis=1, keepdims=True) / MOST
        rows = np.where(scale == 0, rows, np.rint(rows / scale) * scale)          # one number is NaN, all are
    (jit.few_rows if len(x) <= FEW else jit.many_rows)(rows, weight, bias, out)


def whole_numbers(x: Array, weight: Packed, bias: Array, out: Array) -> None:
    """Rounded rows as bytes, times the bytes of the weight: sums of whole numbers, exactly, then their scales."""
    (height, width), steps, crew = (len(x), weight.shape[0]), steps_of(weight), jit.crew()
    pack, multiply, rows = jit.function("byte_product", height <= FEW)
    padded, work = steps * depth("int8"), 2 * height * prod(weight.shape)
    a = workspace("rows", (-(-height // rows) * rows * padded,), np.int8)
    scales, above = np.empty(height, np.float32), np.empty(height, np.int32)
    crew.run(pack, flat(x), a, scales, above, height, x.shape[1], padded, work=height * padded * 8)
    sums = workspace("sums", (crew.size, -(-STRIP // rows) * rows * SUMS), np.int32)
    tiles, columns, _ = tables_of(weight)
    crew.run(multiply, a, tiles, Whole(columns, scales, above), bias, out, sums, tile_form(), height, width, steps,
             work=work)


@in_fast_precision
def gated_mlp(x: Array, w: MLP) -> Array:
    """n d -> n d, some rows at a time"""
    return in_strips(x, w, linear)


def prepare_int8(model: Model) -> Model:
    """All matrices in int8 tiles. Raises ArgumentError for one that is packed in another format, by its place, and
    in a precision whose rows would not be rounded."""
    if model.decoder.dtype not in jit.FAST:
        raise ArgumentError(f"activations of 8 bits stand for those of float32 or bfloat16, and this model runs in "
                            f"{model.decoder.dtype.name}: take one of those, or other kernels")
    made = prepare(model, "int8")
    for place, weight in weights_of(made).items():
        if len(weight.shape) == 2 and weight.format != "int8" and not isinstance(weight, Absent):
            raise ArgumentError(f"activations of 8 bits need int8 weights, and {place} is packed as {weight.format}: "
                                "convert the checkpoint that the folder was made of with --weights int8")
    return made


INTERPRETER = Interpreter("jit-int8", {**STAGES, definition.linear: linear,
                                       definition.gated_mlp: gated_mlp}, prepare=prepare_int8, chunk=2048)


def __getattr__(name: str) -> Any:
    """The other kernels are those of `jit`."""
    return getattr(jit, name)

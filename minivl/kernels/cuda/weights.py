"""Weights on the device: uploaded once, when the model is loaded, and multiplied where they lie.

Rows lie one after the other, as the file has them: bfloat16 as 16 bits, float32; int8 with a scale for
each row, padded to 16 numbers; int4 with a scale and a zero for 128 neighbours, padded to those.

Read next: `cuda/gemv.cu`, who reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checkpoint.layout import COLUMNS, depth, unpack_rows, words_of
from ...checkpoint.packed import Packed
from ...checkpoint.tree import Block, Linear, Model, Norm, Weight
from ...checkpoint.weight import precision
from .device import Launcher, Raw

GROUP = 128                                     # neighbours along k with one scale in int4
FLOAT32 = np.dtype(np.float32)
MULTIPLE = {"int8": 16, "int4": GROUP}          # to which rows are padded
WEIGHT = {"bf16": 16, "f32": 32, "int8": 8, "int4": 4}         # a kind as weights.cuh says it: its bits


class Resident:
    """A matrix (n, k) on the device, and to everybody else the weight that it was made of.

    kind: "bf16", "f32", "int8" or "int4": how the numbers are kept. numbers: raw memory, `pitch` numbers
    a row; scales: (n) for int8, (n, pitch / 128) for int4, else None; zeros: as scales for int4
    """

    def __init__(self, machine: Launcher, weight: Weight, dtype: np.dtype):
        self.weight, self.machine = weight, machine
        self.shape: tuple[int, ...] = weight.shape
        self.format = weight.format
        self.scales: Raw | None = None
        self.zeros: Raw | None = None
        packed = isinstance(weight, Packed) and weight.format in MULTIPLE
        self.kind = weight.format if packed else kind_of(weight, dtype)
        self.pitch = self.shape[1]
        if packed:
            self._upload_integers(weight)
        else:
            self.numbers = machine.device.upload(bits_of(weight, self.kind).reshape(-1))

    def _upload_integers(self, weight: Any) -> None:
        (n, k), upload = weight.shape, self.machine.device.upload
        self.pitch = -(-k // MULTIPLE[self.kind]) * MULTIPLE[self.kind]
        rows = unpack_rows(weight.tiles, self.kind, np.arange(n), k)
        whole = np.zeros((n, self.pitch), rows.dtype)
        whole[:, :k] = rows
        self.numbers = upload((words_of(whole, "int4") if self.kind == "int4" else whole).reshape(-1))
        if self.kind == "int8":
            self.scales = upload(weight.scales[:n].astype(np.float32))
            return
        block, column = np.arange(n) // COLUMNS, np.arange(n) % COLUMNS
        steps = self.pitch // depth("int4")
        self.scales, self.zeros = (upload(np.ascontiguousarray(table[block, :steps, column]).reshape(-1))
                                   for table in (weight.scales, weight.zeros))       # n step

    def dense(self, dtype: Any) -> np.ndarray:
        """The host's numbers."""
        return self.weight.dense(dtype)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """The host's rows."""
        return self.weight.rows(index, dtype)

    def fill(self, out: np.ndarray) -> None:
        """The host's numbers, into `out`."""
        self.weight.fill(out)

    def dense_raw(self, dtype: np.dtype) -> Raw:
        """The numbers in the type of the activations, as a large product takes them: where they lie, or
        a copy that lives as long as the product."""
        wanted = "bf16" if dtype.name == "bfloat16" else "f32"
        if self.kind == wanted:
            return self.numbers
        (n, k), machine = self.shape, self.machine
        out = machine.device.empty(n * k, np.uint16 if wanted == "bf16" else np.float32)
        scales, zeros = (machine.nothing if one is None else one for one in (self.scales, self.zeros))
        args = (self.numbers, scales, zeros, out, np.int32(n), np.int32(k), np.int32(self.pitch))
        machine("rows", "expand", (-(-n * k // 128),), 128, args, WEIGHT=WEIGHT[self.kind],
                BF16=int(wanted == "bf16"))
        return out

    def __repr__(self) -> str:
        return f"Resident({self.kind} {list(self.shape)})"


def kind_of(weight: Weight, dtype: np.dtype) -> str:
    """A model in bfloat16 has all its weights in it; one in float32 keeps bfloat16 as it is."""
    return "bf16" if dtype.name == "bfloat16" or weight.format == "bf16" else "f32"


def bits_of(weight: Weight, kind: str) -> np.ndarray:
    """A weight's numbers as the device keeps them: bfloat16 as 16 bits, or float32."""
    if kind == "f32":
        return np.ascontiguousarray(weight.dense(np.float32))
    return np.ascontiguousarray(weight.dense(precision("bfloat16"))).view(np.uint16)


class Vector:
    """A bias, or the weight of a norm: on the device float32 of the numbers that a model of its precision
    holds; to everybody else the weight that it was made of."""

    def __init__(self, machine: Launcher, weight: Weight, dtype: np.dtype):
        self.weight, self.shape, self.format = weight, weight.shape, weight.format
        self.numbers = machine.device.upload(weight.dense(dtype).astype(np.float32).reshape(-1))

    def dense(self, dtype: Any) -> np.ndarray:
        """The host's numbers."""
        return self.weight.dense(dtype)

    def rows(self, index: np.ndarray, dtype: Any) -> np.ndarray:
        """The host's rows."""
        return self.weight.rows(index, dtype)

    def fill(self, out: np.ndarray) -> None:
        """The host's numbers, into `out`."""
        self.weight.fill(out)


def resident(weight: Weight) -> Resident:
    """The matrix on the device. TypeError for one that was never uploaded."""
    if not isinstance(weight, Resident):
        raise TypeError(f"{weight!r} is not on the device: run a model that `prepare` has uploaded")
    return weight


# ------------------------------------------------------------------------------------------ a whole model

def uploaded(machine: Launcher, model: Model) -> Model:
    """All weights on the device; a tied head and its table are one. A model in float64 or float16 stays
    with the host."""
    dtype, vision, decoder = model.decoder.dtype, model.vision, model.decoder
    if dtype.name not in ("float32", "bfloat16"):
        return model

    def matrix(w: Linear) -> Linear:
        return Linear(Resident(machine, w.weight, dtype),
                      None if w.bias is None else Vector(machine, w.bias, dtype))

    def norm(w: Norm) -> Norm:
        return w._replace(weight=Vector(machine, w.weight, dtype))

    def block(w: Block) -> Block:
        mlp = w.mlp._replace(gate_up=matrix(w.mlp.gate_up), down=matrix(w.mlp.down))
        return w._replace(norm1=norm(w.norm1), qkv=matrix(w.qkv), out=matrix(w.out), norm2=norm(w.norm2),
                          mlp=mlp)

    table = Resident(machine, decoder.embed, dtype)
    tied = decoder.head.weight is decoder.embed
    merger = vision.merger._replace(norm=norm(vision.merger.norm), inner=matrix(vision.merger.inner),
                                    outer=matrix(vision.merger.outer))
    return model._replace(
        vision=vision._replace(patch_embed=matrix(vision.patch_embed), merger=merger,
                               blocks=tuple(map(block, vision.blocks))),
        decoder=decoder._replace(
            embed=table, layers=tuple(map(block, decoder.layers)), norm=norm(decoder.norm),
            head=Linear(table, None) if tied else matrix(decoder.head)))

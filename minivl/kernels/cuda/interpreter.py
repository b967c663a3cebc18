"""Which kernel stands in for which definition, on one device.

A function here gets either the device's arrays or the host's: models in float64 and float16, positions
and angles are the host's, and run by the definitions.

Read next: `calls.py`, the kernels; `step.py`, a whole step of decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ... import model
from ...checkpoint.tree import MLP, Linear, Norm, Weight
from ...checkpoint.weight import precision
from ...passes import picture, sampling
from .. import Interpreter, definition
from . import arrays, calls
from .arrays import Array
from .device import Device, Launcher, Raw
from .step import Steps
from .weights import Resident, Vector, resident, uploaded

Function = Callable[..., Any]


def made(device: Device, name: str) -> Interpreter:
    """The interpreter of a device."""
    machine = Launcher(device)

    def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        fast = precision(dtype).name in arrays.STORED
        return arrays.zeros(machine, shape, precision(dtype)) if fast else np.zeros(shape, dtype)

    return Interpreter(name, functions(machine), lambda tree: uploaded(machine, tree), zeros,
                       lambda value: arrays.to_device(machine, value), arrays.to_host, caches=())


def functions(machine: Launcher) -> dict[Function, Function]:
    """Kernels, and stages, by their definitions."""
    kernels: dict[str, Function] = {
        "linear": linear, "rms_norm": rms_norm, "rotate": calls.rotate, "attend": calls.attend,
        "gated_mlp": gated_mlp, "swiglu": calls.swiglu, "gelu": calls.gelu, "add": add,
        "take_rows": calls.take_rows, "put_rows": put_rows}
    found = {plain(name): on_device(plain(name), run) for name, run in kernels.items()}
    steps = Steps(machine)
    return found | {
        plain("cos_sin"): lambda angles, dtype: cos_sin(machine, angles, dtype),
        plain("embed"): lambda ids, table, dtype: embed(machine, ids, table, dtype),
        model.decoder: steps.decoder,
        sampling.penalise: on_device(stage(sampling.penalise), penalise),
        sampling.most_likely: on_device(stage(sampling.most_likely), most_likely),
        picture.resize: lambda pixels, size: resize(machine, pixels, size)}


def plain(name: str) -> Function:
    """A kernel's definition."""
    return stage(getattr(definition, name))


def stage(door: Any) -> Function:
    """What is behind a door."""
    found: Function = door.definition
    return found


def on_device(definition: Function, run: Function) -> Function:
    """The kernel where the first argument is the device's, else the definition."""
    def chosen(x: Any, *others: Any) -> Any:
        return run(x, *others) if isinstance(x, Array) else definition(x, *others)
    return chosen


# ---------------------------------------------------------------------------------------------- kernels

def linear(x: Array, w: Linear) -> Array:
    """n d -> n o"""
    return calls.linear(x, resident(w.weight), numbers(w.bias))


def numbers(weight: Weight | None) -> Raw | None:
    """A bias or a norm's weight as float32 on the device."""
    if weight is not None and not isinstance(weight, Vector):
        raise TypeError(f"{weight!r} is not on the device: run a model that `prepare` has uploaded")
    return None if weight is None else weight.numbers


def rms_norm(x: Array, norm: Norm) -> Array:
    """n d -> n d"""
    return calls.rms_norm(x, numbers(norm.weight), norm.eps)


def gated_mlp(x: Array, w: MLP) -> Array:
    """n d -> n d: a few rows in two kernels, many in three with two large products."""
    gate_up = resident(w.gate_up.weight)
    if calls.fits(x, gate_up):
        inner = calls.gate_up(calls.packed(x), gate_up, numbers(w.gate_up.bias))
    else:
        inner = calls.swiglu(linear(x, w.gate_up))                       # n d -> n 2h -> n h
    return linear(inner, w.down)


def add(x: Array, y: Array) -> Array:
    """n d, n d -> n d"""
    return calls.add(x, y.astype(x.dtype))


def put_rows(x: Array, index: np.ndarray, rows: Array) -> Array:
    """A copy of x with other rows at `index`."""
    out = arrays.copied(x)
    arrays.put_rows(out, index, rows)
    return out


def cos_sin(machine: Launcher, angles: np.ndarray, dtype: DTypeLike) -> tuple[Any, Any]:
    """Angles are the host's: a few numbers a row. Their cosine and sine are uploaded."""
    cos, sin = plain("cos_sin")(angles, dtype)
    return arrays.to_device(machine, cos), arrays.to_device(machine, sin)


def embed(machine: Launcher, ids: np.ndarray, table: Weight, dtype: DTypeLike) -> Any:
    """s -> s d; rows of a table of integers are scaled by the host."""
    wanted = precision(dtype)
    if not isinstance(table, Resident) or wanted.name not in arrays.STORED:
        return plain("embed")(ids, table, dtype)
    if table.scales is not None:
        return arrays.to_device(machine, table.rows(ids, wanted))
    out = arrays.empty(machine, (len(ids), table.shape[1]), wanted)
    calls.embed_into(arrays.integers(machine, ids), len(ids), table, out)
    return out


# ----------------------------------------------------------------------------------------------- stages

def penalise(scores: Array, prompts: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...],
             penalty: float) -> Array:
    """n v, _, _, _ -> n v"""
    machine, (n, v) = scores.machine, scores.shape
    seen = machine.device.zeros(n * v, np.int32)
    known = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
    rows = np.repeat(np.arange(n), [len(ids) for ids in known])
    calls.mark(machine, rows, np.concatenate(known), seen, v)
    return calls.penalise(scores, seen, penalty)


def most_likely(scores: Array) -> np.ndarray:
    """n v -> n: all that a step of greedy decoding hands the host."""
    return scores.machine.device.download(calls.most_likely(scores)).astype(np.int64)


def resize(machine: Launcher, pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """y b 3, 2 -> h u 3: there and back, because what follows is the host's."""
    if pixels.dtype != np.uint8 or min(size) < 1:
        return picture.bicubic(pixels, size)
    shape = list(pixels.shape)
    raw = machine.device.upload(np.ascontiguousarray(pixels).reshape(-1))
    for axis in (0, 1) if picture.height_first(pixels.shape, size) else (1, 0):
        if shape[axis] == size[axis]:
            continue
        first, weights = picture.bicubic_weights(shape[axis], int(size[axis]))
        outer, inner = (1, shape[1] * 3) if axis == 0 else (shape[0], 3)
        raw = calls.resize_axis(machine, raw, (outer, shape[axis], inner), first,
                                picture.fixed_point(weights))
        shape[axis] = int(size[axis])
    return machine.device.download(raw).reshape(shape)

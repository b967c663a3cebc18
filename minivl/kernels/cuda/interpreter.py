"""Which kernel stands in for which definition, on one device.

A function here gets either the device's arrays or the host's: models in float64 and float16, positions
and angles are the host's, and run by the definitions.

Read next: `calls.py`, the kernels; `step.py`, a whole step of decoding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ... import model
from ...checkpoint.tree import MLP, Linear, Norm, Weight
from ...checkpoint.weight import precision
from ...config import PreprocessorConfig
from ...passes import patches, picture, sampling, video
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
        plain("cos_sin"): lambda angles, dtype, factor=1.0: cos_sin(machine, angles, dtype, factor),
        plain("embed"): lambda ids, table, dtype: embed(machine, ids, table, dtype),
        model.decoder: steps.decoder,
        sampling.penalise: on_device(stage(sampling.penalise), Seen().penalise),
        sampling.most_likely: on_device(stage(sampling.most_likely), most_likely),
        picture.resize: lambda pixels, size: resize(machine, pixels, size),
        picture.normalise: lambda pixels, config: normalise(machine, pixels, config),
        video.normalise_frames: lambda frames, config: normalise(machine, frames, config),
        patches.patchify: on_device(stage(patches.patchify), patchify)}


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


def cos_sin(machine: Launcher, angles: np.ndarray, dtype: DTypeLike, factor: float) -> tuple[Any, Any]:
    """Angles are the host's: a few numbers a row. Their cosine and sine are uploaded."""
    cos, sin = plain("cos_sin")(angles, dtype, factor)
    return arrays.to_device(machine, cos), arrays.to_device(machine, sin)


def embed(machine: Launcher, ids: np.ndarray, table: Weight, dtype: DTypeLike) -> Any:
    """s -> s d"""
    wanted = precision(dtype)
    if not isinstance(table, Resident) or wanted.name not in arrays.STORED:
        return plain("embed")(ids, table, dtype)
    out = arrays.empty(machine, (len(ids), table.shape[1]), wanted)
    calls.embed_into(arrays.integers(machine, ids), len(ids), table, out)
    return out


# ----------------------------------------------------------------------------------------------- stages

class Seen:
    """Which ids each conversation knows, on the device: uploaded once, and then what was written since."""

    def __init__(self) -> None:
        self.counts: Raw = None                                        # n v int32
        self.shape: tuple[int, ...] = ()
        self.known: list[np.ndarray] = []
        self.lock = threading.Lock()

    def penalise(self, scores: Array, prompts: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...],
                 penalty: float) -> Array:
        """n v, _, _, _ -> n v"""
        known = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
        with self.lock:
            self._mark(scores, known)
            return calls.penalise(scores, self.counts, penalty)

    def _mark(self, scores: Array, known: list[np.ndarray]) -> None:
        if not self.goes_on(scores, known):
            self.shape, self.known = scores.shape, [ids[:0] for ids in known]
            self.counts = scores.machine.device.zeros(scores.size, np.int32)
        new = [ids[len(old):] for ids, old in zip(known, self.known, strict=True)]
        rows = np.repeat(np.arange(len(new)), [len(ids) for ids in new])
        calls.mark(scores.machine, rows, np.concatenate(new), self.counts, self.shape[1])
        self.known = known

    def goes_on(self, scores: Array, known: list[np.ndarray]) -> bool:
        """Whether these are the conversations of the last call, each with the same ids or more."""
        return scores.shape == self.shape and all(
            np.array_equal(ids[:len(old)], old) for ids, old in zip(known, self.known, strict=True))


def most_likely(scores: Array) -> np.ndarray:
    """n v -> n: all that a step of greedy decoding hands the host."""
    return scores.machine.device.download(calls.most_likely(scores)).astype(np.int64)


# ------------------------------------------------------------------------------------------------ pixels

BYTES = np.dtype(np.uint8)


def resize(machine: Launcher, pixels: np.ndarray, size: np.ndarray) -> Any:
    """y b 3, 2 -> h u 3, bytes that stay on the device."""
    if pixels.dtype != np.uint8 or min(size) < 1:
        return picture.bicubic(pixels, size)
    shape, raw = list(pixels.shape), uploaded_bytes(machine, pixels).raw
    for axis in (0, 1) if picture.height_first(pixels.shape, size) else (1, 0):
        if shape[axis] == size[axis]:
            continue
        first, weights = picture.bicubic_weights(shape[axis], int(size[axis]))
        outer, inner = (1, shape[1] * 3) if axis == 0 else (shape[0], 3)
        raw = calls.resize_axis(machine, raw, (outer, shape[axis], inner), first,
                                picture.fixed_point(weights))
        shape[axis] = int(size[axis])
    return Array(machine, raw, tuple(shape), BYTES)


def uploaded_bytes(machine: Launcher, pixels: np.ndarray) -> Array:
    """A host's pixels on the device."""
    flat = np.ascontiguousarray(pixels).reshape(-1)
    return Array(machine, machine.device.upload(flat), pixels.shape, BYTES)


def normalise(machine: Launcher, pixels: Any, config: PreprocessorConfig) -> Any:
    """h u 3 -> 3 h u, and t h u 3 -> t 3 h u: by a table of all levels, which the definition makes."""
    if pixels.dtype != np.uint8 or not all(pixels.shape):
        return picture.standardise(pixels, config)
    held = pixels if isinstance(pixels, Array) else uploaded_bytes(machine, pixels)
    every = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)          # 1 256 3
    levels = picture.standardise(every, config)                                          # -> 3 1 256
    *frames, h, u, _ = pixels.shape
    raw = calls.standardise(machine, held.flat, np.ascontiguousarray(levels), prod(frames), h * u)
    return Array(machine, raw, (*frames, 3, h, u), arrays.FLOAT32)


def patchify(frames: Array, config: PreprocessorConfig) -> np.ndarray:
    """t 3 h u -> p x, back on the host: rows of all pictures become the inputs of a conversation there."""
    t, gh, gw = map(int, patches.grid_of(frames.shape, config))
    cut = calls.patchify(frames, (t, gh, gw), config.patch_size, config.temporal_patch_size,
                         config.merge_size)
    made: np.ndarray = arrays.to_host(cut)
    return made

"""How fast each kernel is, beside what the same card copies and multiplies at most; tokens a second; prefill.

Times are a device's own (events on a GPU), each the median of several; on the processor they are a clock's, and say
nothing about a GPU.

Read next: `plan.py`, the bytes and operations; `beside_torch.py`, who else does the same work.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from minivl.api import VLM
from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.device import Device, Launcher
from minivl.kernels.cuda.weights import Resident

from .checkpoint import prompt
from .plan import Call, calls_of
from .sizes import Sizes

TRIES = 20


class Clock:
    """Seconds of what a device does."""

    def __init__(self, device: Device, seconds: float):
        self.cupy = getattr(device, "cupy", None)
        self.most = seconds

    def once(self, work: Callable[[], Any]) -> float:
        """Seconds of one run, from its first launch to its last."""
        if self.cupy is None:
            start = perf_counter()
            work()
            return perf_counter() - start
        begin, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(begin, end)) / 1000

    def __call__(self, work: Callable[[], Any]) -> float:
        """The median of up to TRIES runs within the time that one measurement may take; the first one, which
        compiles, is not counted."""
        self.once(work)
        taken: list[float] = []
        while len(taken) < TRIES and (not taken or sum(taken) < self.most):
            taken.append(self.once(work))
        return statistics.median(taken)


class Ceiling(NamedTuple):
    """What this card does at most: bytes a second copied, operations a second in large products of both types."""

    bandwidth: float
    bfloat16: float
    float32: float


def ceilings(device: Device, sizes: Sizes) -> Ceiling:
    """Measured here: a large copy, and two large products."""
    clock, n = Clock(device, sizes.seconds), sizes.side
    source = device.zeros(sizes.copied // 4, np.float32)
    target = device.zeros(sizes.copied // 4, np.float32)

    def copy() -> None:
        target[:] = source

    moved = 2 * sizes.copied / clock(copy)
    rates = []
    for dtype in (np.uint16, np.float32):
        x, w = device.zeros(n * n, dtype), device.zeros(n * n, dtype)
        rates.append(2 * n**3 / clock(lambda x=x, w=w: device.product(x, w, n, n)))
    return Ceiling(moved, *rates)


class Timed(NamedTuple):
    """A kernel's seconds, and the rates that its planned bytes and operations make of them."""

    call: Call
    seconds: float

    @property
    def bandwidth(self) -> float:
        return self.call.bytes / self.seconds

    @property
    def rate(self) -> float:
        return self.call.flops / self.seconds


def kernels(device: Device, sizes: Sizes) -> list[Timed]:
    """Every kernel at the sizes of the model: a step of decoding, and a prompt."""
    clock, machine = Clock(device, sizes.seconds), Launcher(device)
    return [Timed(call, clock(work_of(machine, call))) for call in calls_of(sizes)]


def blank(machine: Launcher, *shape: int) -> arrays.Array:
    """bfloat16 zeros: what is moved and computed is the same for all numbers."""
    return arrays.zeros(machine, shape, arrays.precision("bfloat16"))


def work_of(machine: Launcher, call: Call) -> Callable[[], Any]:
    """The launches of one call of the plan."""
    return WORK[call.kernel](machine, **call.shape)


def matrix(machine: Launcher, n: int, k: int, kind: str = "bf16") -> Resident:
    """A weight of zeros on the device, without one on the host."""
    made = Resident.__new__(Resident)
    made.machine, made.shape, made.format, made.kind = machine, (n, k), kind, kind
    made.pitch = -(-k // 128) * 128 if kind in ("int8", "int4") else k
    dtype, numbers = {
        "bf16": (np.uint16, n * made.pitch),
        "int8": (np.int8, n * made.pitch),
        "int4": (np.uint32, n * made.pitch // 8),
    }[kind]
    made.numbers = machine.device.zeros(numbers, dtype)
    scales = {"int8": n, "int4": n * made.pitch // 128}.get(kind)
    made.scales = None if scales is None else machine.device.zeros(scales, np.float32)
    made.zeros = machine.device.zeros(scales or 1, np.float32) if kind == "int4" else None
    return made


def gemv_work(rung: str = "vectorised") -> Callable[..., Callable[[], Any]]:
    def made(machine: Launcher, n: int, k: int, kind: str = "bf16") -> Callable[[], Any]:
        x, w, out = blank(machine, 1, k), matrix(machine, n, k, kind), blank(machine, 1, n)
        return lambda: calls.gemv(x, w, rung=rung, out=out)

    return made


def gate_up_work(machine: Launcher, n: int, k: int, kind: str = "bf16") -> Callable[[], Any]:
    x, w, out = blank(machine, 1, k), matrix(machine, 2 * n, k, kind), blank(machine, 1, n)
    return lambda: calls.gate_up(x, w, out=out)


def qkv_work(machine: Launcher, n: int, k: int, heads: int, kv_heads: int, kind: str = "bf16") -> Callable[[], Any]:
    e = n // (heads + 2 * kv_heads)
    x, w, q = blank(machine, 1, k), matrix(machine, n, k, kind), blank(machine, 1, heads, e)
    keys, values, cos, sin = (blank(machine, *shape) for shape in ((8, kv_heads, e),) * 2 + ((1, e // 2),) * 2)
    cached = calls.Cached(keys, values, arrays.integers(machine, [3]))
    norm = calls.Normed(machine.device.zeros(k, np.float32), 1e-6)
    return lambda: calls.qkv(x, w, None, (cos, sin), q, cached, norm=norm)


def attend_work(rung: str) -> Callable[..., Callable[[], Any]]:
    def made(
        machine: Launcher, rows: int, heads: int, kv_heads: int, e: int, segment: int, causal: bool
    ) -> Callable[[], Any]:
        q, k, v = (blank(machine, rows, count, e) for count in (heads, kv_heads, kv_heads))
        ends = np.minimum(np.arange(0, rows, segment) + segment, rows)
        starts = np.arange(0, rows, segment)
        segments = np.stack([starts, ends, starts, ends], axis=1)
        return lambda: calls.attend(q, k, v, segments, causal, rung)

    return made


def decode_work(machine: Launcher, keys: int, heads: int, kv_heads: int, e: int) -> Callable[[], Any]:
    q, k, v = blank(machine, 1, heads, e), blank(machine, keys, kv_heads, e), blank(machine, keys, kv_heads, e)
    splits, out = calls.splits_of(machine, 1, kv_heads, keys), blank(machine, 1, heads, e)
    parts, spans = calls.decode_parts(q, splits), arrays.integers(machine, [0, keys])
    return lambda: calls.decode_into(q, k, v, spans, splits, parts, out)


def norm_work(machine: Launcher, rows: int, d: int) -> Callable[[], Any]:
    x, out, w = blank(machine, rows, d), blank(machine, rows, d), machine.device.zeros(d, np.float32)
    return lambda: calls.add_norm_into(x, None, w, 1e-6, out)


def rotate_work(machine: Launcher, rows: int, heads: int, kv_heads: int, e: int) -> Callable[[], Any]:
    qkv, q = blank(machine, rows, (heads + 2 * kv_heads) * e), blank(machine, rows, heads, e)
    k, v, cos, sin = (blank(machine, *shape) for shape in ((rows, kv_heads, e),) * 2 + ((rows, e // 2),) * 2)
    index = arrays.integers(machine, np.arange(rows))
    return lambda: calls.rotate_into_cache(qkv, cos, sin, index, q, k, v)


def swiglu_work(machine: Launcher, rows: int, h: int) -> Callable[[], Any]:
    x = blank(machine, rows, 2 * h)
    return lambda: calls.swiglu(x)


def gelu_work(machine: Launcher, rows: int, d: int) -> Callable[[], Any]:
    x = blank(machine, rows, d)
    return lambda: calls.gelu(x)


def likely_work(machine: Launcher, v: int) -> Callable[[], Any]:
    scores = blank(machine, 1, v)
    return lambda: calls.most_likely(scores)


WORK: dict[str, Callable[..., Callable[[], Any]]] = {
    "gemv_naive": gemv_work("naive"),
    "gemv_warp": gemv_work("warp"),
    "gemv_vectorised": gemv_work(),
    "gemv_gate_up": gate_up_work,
    "gemv_qkv": qkv_work,
    "attend_naive": attend_work("naive"),
    "attend_tiled": attend_work("tiled"),
    "attend_vectorised": attend_work("vectorised"),
    "attend_tensor": attend_work("tensor"),
    "decode_attend": decode_work,
    "add_rms_norm": norm_work,
    "rotate_into_cache": rotate_work,
    "swiglu": swiglu_work,
    "gelu": gelu_work,
    "best_of_parts": likely_work,
}


# ------------------------------------------------------------------------------------------ a whole model


def decoding(vlm: VLM, device: Device, sizes: Sizes) -> dict[str, float]:
    """Tokens a second after a prompt of `cached` rows, and seconds of a prompt of `rows` (with a picture): the host's
    clock, around what a user calls."""
    text = prompt(vlm.config, sizes.cached, None)
    starts = []
    for _ in vlm._write([text], vlm._settings(sizes.tokens + 3, stop_ids=())):
        starts.append(perf_counter())
    seen = prompt(vlm.config, sizes.rows, sizes.picture)
    clock = []
    for _ in range(3):
        begin = perf_counter()
        vlm.generate(seen, 1, stop_ids=())
        clock.append(perf_counter() - begin)
    steps = starts[2:]  # the first steps compile and record
    return {"tokens_per_second": (len(steps) - 1) / (steps[-1] - steps[0]), "prefill_seconds": min(clock)}

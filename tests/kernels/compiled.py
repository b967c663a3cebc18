"""The compiled interpreter on any tier, on the processor or on the emulator, and how exact its products must be.

    with running("amx", emulated=True, threads=3):
        y = jit.linear(x, w)                   # a product for tiles on a machine that may have none

Read next: `test_products.py`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from types import SimpleNamespace
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from minivl import model
from minivl.checkpoint.packed import packed
from minivl.checkpoint.tree import MLP, Block, Linear, Norm
from minivl.checkpoint.weight import weight
from minivl.door.stage import running as on_machine
from minivl.kernels import interpreter, jit
from minivl.kernels.jit import build, decoding, tiers
from minivl.kernels.jit.build import Maker
from minivl.kernels.jit.emulator import Emulator, Trap, _widened, flushed
from minivl.kernels.jit.few import FEW
from minivl.kernels.jit.meeting import counts
from minivl.kernels.jit.team import SMALL, Team
from minivl.run.cache import KVCache

PATIENCE = 60
BF16 = np.dtype(ml_dtypes.bfloat16)
PRECISIONS = {"float32": np.dtype(np.float32), "bfloat16": BF16}
HALF_STEP = {"float32": 2.0**-24, "bfloat16": 2.0**-8}      # the most that one rounding moves a number, of its size
TIERS = [name for name, tier in tiers.TIERS.items() if not tier.adds_bytes_alone]


def ways(names):
    """A test for each of these tiers on the emulator, and for those that this processor has on it too."""
    found = [(name, True) for name in names] + [(name, False) for name in here(names)]
    ids = [f"{name}{'' if emulated else '-here'}" for name, emulated in found]
    return pytest.mark.parametrize(("tier", "emulated"), found, ids=ids)


def here(names):
    return [name for name in names if not tiers.lacking(tiers.TIERS[name])]


HERE = here(TIERS)
everywhere, everywhere_with_bytes = ways(TIERS), ways(tiers.TIERS)
on_this_processor = pytest.mark.parametrize("tier", HERE)


class Quick(Emulator):
    """The emulator with sums that are not rounded after each step: for tests with bounds, many at a time. A product
    that takes PATIENCE seconds is a Trap: a wrong bound of a loop can make it run for hours."""

    def __init__(self, lanes):
        super().__init__(lanes)
        self.end = time.monotonic() + PATIENCE

    def loop(self, times):
        if time.monotonic() > self.end:
            raise Trap(f"not done after {PATIENCE} seconds")
        return super().loop(times)

    def multiply_add(self, x, y, z):
        with np.errstate(all="ignore"):
            return (x.astype(np.float64) * y + z).astype(np.float32)

    def dot_bf16(self, total, x, y):
        with np.errstate(all="ignore"):
            low, high = (flushed(half(x)).astype(np.float64) * flushed(half(y)) for half in (self.low, self.high))
            return (total + low + high).astype(np.float32)

    def tile_dot_bf16(self, total, x, y):
        a, b, c = self._operands(total, x, y)
        left, right = (_widened(part.view(np.uint16)).astype(np.float64) for part in (a, b))     # r 2k, k 2n
        with np.errstate(all="ignore"):
            both = left[:, ::2] @ right[:, ::2] + left[:, 1::2] @ right[:, 1::2]
            c.view(np.float32)[:] = c.view(np.float32) + both


class InTurn:
    """Threads one after another, the last one first: an emulator is one processor."""

    def __init__(self, size):
        self.size = size

    def run(self, function, *args, work=None):
        for me in reversed(range(self.size)):
            function(me, self.size, *args)

    def run_together(self, function, *args, work=None):
        self.run(function, counts(), *args)


class AtOnce(Team):
    """Threads for small work too."""

    def run(self, function, *args, work=None):
        super().run(function, *args)

    def run_together(self, function, *args, work=None):
        super().run_together(function, *args, work=SMALL)


class SmallCaches(Maker):
    """Blocks so small that little arrays have several of each: 2 steps, 2 blocks of rows, 2 of columns."""

    def inner_product(self, exact, format="bf16"):
        inner, packing = super().inner_product(exact, format)
        return inner._replace(deepest={"int8": 4, "int4": 8}.get(format, 2)), packing


@functools.cache
def made_here(tier, name, *args):
    """A compiled kernel of a tier, made once for all tests."""
    return Maker(tiers.TIERS[tier]).made(name, *args)


def spoilt(name, shape, dtype):
    """`jit.workspace`, in which anything may stand: every number of it is NaN, or -1."""
    memory = np.empty(shape, dtype)
    memory.view(np.uint8)[...] = 255
    return memory


@contextlib.contextmanager
def running(tier, emulated, threads=1, small=False, kind=Emulator):
    """`minivl.kernels.jit` works on this tier until the end. small: with SmallCaches, on the emulator alone."""
    about = tiers.TIERS[tier]
    with pytest.MonkeyPatch.context() as patch:
        make = (SmallCaches if small else Maker)(about, kind(about.lanes) if emulated else None)
        patch.setattr(jit, "maker", lambda: make)
        patch.setattr(jit, "function", functools.cache(make.made) if emulated else functools.partial(made_here, tier))
        if emulated:
            patch.setattr(jit, "workspace", spoilt)
        crew = (InTurn if emulated else AtOnce)(threads)
        patch.setattr(jit, "team", lambda: crew)
        if small:
            assert emulated
            for module in (jit, build.drivers):
                patch.setattr(module, "GROUP", 2)
                patch.setattr(module, "SUMS", 64)
                patch.setattr(module, "STRIP", 2 * (32 if about.tiles else about.rows))
        yield


class Product(NamedTuple):
    """A drawn product: rows x, a packed weight, a bias or None."""
    x: np.ndarray
    w: Linear

    @property
    def exact(self):
        """The product in float64, of the numbers that the weight holds."""
        with np.errstate(all="ignore"):
            y = self.x.astype(np.float64) @ self.w.weight.dense("float64").T
        return y if self.w.bias is None else y + self.w.bias.dense(self.x.dtype).astype(np.float64)

    @property
    def size(self):
        """What was added up to get there, by absolute value: the scale of rounding errors."""
        held = self.w.weight
        largest = np.abs(held.dense("float64"))
        if held.format == "int4":              # whole numbers up to 15 are multiplied, zeros are taken off later
            step = np.arange(held.shape[1]) // 128
            row = np.arange(held.shape[0])[:, None]
            largest = 15 * held.scales[row // 32, step, row % 32].astype(np.float64)
        y = np.abs(self.x.astype(np.float64)) @ largest.T
        return y if self.w.bias is None else y + np.abs(self.w.bias.dense("float64"))


def drawn(height, n, k, precision="float32", format="bf16", bias=True, seed=0):
    """Rows (height, k) of a precision and a weight (n, k) in tiles of a format, with numbers of many sizes."""
    rng = np.random.default_rng([height, n, k, seed])
    x = (rng.normal(size=(height, k)) * 2.0 ** rng.integers(-6, 6, (height, 1))).astype(PRECISIONS[precision])
    kind = np.float32 if format == "f32" else BF16
    w = packed(weight(rng.normal(size=(n, k)).astype(kind)), format)
    return Product(x, Linear(w, weight(rng.normal(size=n).astype(np.float32)) if bias else None))


def plain(product):
    """The same product in NumPy's float32, as exact as float32 is."""
    y = product.x.astype(np.float32) @ product.w.weight.dense("float32").T
    return y if product.w.bias is None else y + product.w.bias.dense("float32")


def assert_exact_enough(product, y):
    """Each number within what so many roundings can do, and in float32 all of them together no more than four times
    as far from the exact product as NumPy's float32 product is, which has more sums side by side. int4 is apart:
    NumPy multiplies its numbers when their zeros are taken off, the kernel before."""
    assert y.shape == product.exact.shape and y.dtype == product.x.dtype
    error, eps = np.abs(y.astype(np.float64) - product.exact), HALF_STEP[y.dtype.name]
    sums = 2.0**-24 * (product.x.shape[1] + 6) * product.size
    assert (error <= 1.01 * eps * np.abs(product.exact) + sums + 1e-36).all(), error.max()
    if y.dtype == np.float32 and product.w.weight.format != "int4":
        theirs = np.linalg.norm(plain(product) - product.exact)
        ours, one = np.linalg.norm(error), eps * np.linalg.norm(product.exact)
        assert ours <= 4 * theirs + 2 * one, (ours, theirs, one)


def guarded(x, w):
    """`jit.linear` into the middle of an array of sevens; nothing beside the result may change."""
    height, n = len(x), w.weight.shape[0]
    memory = np.full(height * n + 256, 7, np.uint16 if x.dtype == BF16 else np.float32)
    bias = w.bias.dense(x.dtype).astype(np.float32) if w.bias is not None else np.empty(0, np.float32)
    multiply = jit.few_rows if height <= FEW else jit.many_rows
    multiply(x, w.weight, bias, memory[128:-128])
    assert (memory[:128] == 7).all() and (memory[-128:] == 7).all()
    return memory[128:-128].view(x.dtype).reshape(height, n)


def meant(x, w):
    """The product of float64: each row rounded to 127 steps of its largest number, weights as they are given back."""
    rows = np.asarray(x, np.float32)
    scale = (np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)).astype(np.float64)
    rounded = np.rint(rows / np.where(scale > 0, scale, 1)) * scale
    return rounded @ w.weight.dense("float64").T + (0 if w.bias is None else w.bias.dense(x.dtype).astype(np.float64))


def drawn_layer(heads, kv_heads, half, d, h, format, seed, bias=True):
    """A layer of any sizes with packed weights."""
    rng = np.random.default_rng(seed)
    e = 2 * half
    config = SimpleNamespace(heads=heads, kv_heads=kv_heads, head_dim=e, num_hidden_layers=2)

    def matrix(o, i, with_bias):
        numbers = rng.normal(size=(o, i)).astype(np.float32) / np.float32(i**0.5)
        held = numbers if format == "f32" else numbers.astype(ml_dtypes.bfloat16)
        return Linear(packed(weight(held), format),
                      weight(rng.normal(size=o).astype(np.float32)) if with_bias else None)

    def norm():
        return Norm(weight((1 + rng.normal(size=d) / 9).astype(np.float32)), 1e-6)
    mlp = MLP(matrix(2 * h, d, False), matrix(d, h, False))
    return Block(norm(), matrix((heads + 2 * kv_heads) * e, d, bias), matrix(d, heads * e, False), norm(), mlp, config)


def steps_of(layer, d, conversations, precision, fused, count=2):
    """What `count` steps of a layer give, and what stands in the cache behind them."""
    dtype, rng = PRECISIONS[precision], np.random.default_rng(1)
    n, half, config = len(conversations), layer.config.head_dim // 2, layer.config
    cache = KVCache(config, np.array(conversations) + count + 1, dtype)
    for table in (cache.k, cache.v):
        table[:] = rng.normal(size=table.shape).astype(np.float32)
    cache.lengths = np.array(conversations)
    machine, found = interpreter("jit"), []
    if not fused:
        machine = machine._replace(functions={key: value for key, value in machine.functions.items()
                                              if value is not decoding.decoder_layer})
    with on_machine(machine):
        for _ in range(count):
            cache.admit(np.ones(n, np.int64))
            x = rng.normal(size=(n, d)).astype(dtype)
            angles = rng.normal(size=(n, half)).astype(np.float32)
            turn = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
            found.append(model.decoder_layer(1, x, turn, cache, layer))
    return [array.tobytes() for array in (*found, cache.k, cache.v)]

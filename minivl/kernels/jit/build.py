"""Every tier's functions, made when they are first used: compiled with Numba and kept on disk
(`cache.py`), or as plain Python on the emulator.

Read next: `__init__.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...checkpoint.layout import COLUMNS
from . import attention as attend
from . import attention_bf16, attention_of_few, drivers, few, layer, meeting, packing, pixels, products, rows
from .drivers import DEPTH, Inner
from .emulator import Emulator, pointer
from .few import FEW
from .tiers import Tier, usable


class Packing(NamedTuple):
    """How rows are packed for an innermost product: what does it, rows of a block, numbers for each
    number of a row, and their type."""
    pack: Any
    rows: int
    parts: int
    dtype: Any


class Maker:
    """What makes functions of a tier: from Numba's compiler, or as plain Python on an emulator."""

    def __init__(self, tier: Tier, emulator: Emulator | None = None):
        self.tier, self.emulator = tier if emulator else usable(tier), emulator
        self.key: tuple[Any, ...] = ()
        self.all: dict[tuple[Any, ...], Any] = {}
        self.named: dict[str, tuple[Any, ...]] = {}        # what is under this key so far: name -> code and closure
        self.lock = threading.RLock()

    def made(self, name: str, *args: Any) -> Any:
        """What a method of this class makes, by the method's name: the key under which it is kept. What is
        part of several others is made once, by whichever thread asks first."""
        key = (self.tier.name, name, args)
        with self.lock:
            if key not in self.all:
                before = self.key, self.named
                self.key, self.named = key, {}
                try:
                    self.all[key] = getattr(self, name)(*args)
                finally:                                   # an interruption leaves nothing half made
                    self.key, self.named = before
            return self.all[key]

    def inner(self, kernel: Callable[..., None], places: int) -> Any:
        """An innermost kernel, called with arrays and element numbers."""
        if self.emulator is not None:
            return _emulated(kernel, self.emulator, places)
        from .machine import compiled
        return compiled(kernel, self.tier.lanes, places)

    def compile(self, function: Callable[..., Any]) -> Any:
        """A loop around it. Compiled code is kept under the key and the function's name, so under one key no
        two functions may have one name: the code of one would be run for the other."""
        if self.emulator is not None:
            return function
        import numba

        from .cache import KeptOnDisk, named
        name, key = function.__qualname__, (*self.key, function.__qualname__)
        parts = (function.__code__, *(cell.cell_contents for cell in function.__closure__ or ()))
        assert self.named.setdefault(name, parts) == parts, f"two functions are called {key}: give each its own name"
        made: Any = numba.njit(nogil=True, error_model="numpy", boundscheck=False)(named(function, key))
        made._cache = KeptOnDisk(key)
        return made

    # ---- products

    def edges(self, tiles: bool) -> tuple[Any, Any]:
        """What a thread does before and after products: it configures tiles, or nothing."""
        if tiles:
            return self.inner(products.configure, 1), self.inner(products.release, 0)
        return self.compile(_no_tiles), self.compile(_nothing)

    def inner_product(self, exact: bool, format: str = "bf16") -> tuple[Inner, Packing]:
        """Many rows of float32 (exact) or of bfloat16, by bfloat16 or float32 tiles."""
        tier, floats = self.tier, format == "f32"
        if tier.tiles and not floats:
            parts = 3 if exact else 1
            first, more = (self.inner(products.tiles_bf16(parts, again), 3) for again in (False, True))
            split = self.inner(products.split_in_three, 2) if exact else None
            pack = drivers.pack_for_tiles(tier.lanes, split, self.compile)
            packing = Packing(pack, 32, parts, np.uint16)
            return Inner(first, more, *self.edges(True), 32, COLUMNS, 64), packing
        pairs = bool(tier.pair_rows) and not exact and not floats
        rows = tier.pair_rows if pairs else tier.rows
        make = products.pairs_bf16 if pairs else partial(products.widened, "f32" if floats else "bf16")
        first, more = (self.inner(make(rows, tier.vectors, again), 3) for again in (False, True))
        packing = Packing(drivers.pack_for_vectors(rows, pairs, self.compile), rows, 1,
                          np.uint16 if pairs else np.float32)
        deepest = 32 if pairs else 16          # a step of float32 rows has twice as many bytes, or of f32 weights
        return Inner(first, more, *self.edges(False), rows, tier.vectors * tier.lanes, deepest), packing

    def product(self, format: str, exact: bool) -> tuple[Any, Inner, Packing]:
        """Many rows by weights of a format: the loops, the innermost product, how rows are packed."""
        inner, packing = self.inner_product(exact, format)
        if format in ("int8", "int4"):
            add_scaled = self.inner(products.add_scaled, 3)
            return drivers.expanded_product(format, inner, add_scaled, self.compile), inner, packing
        return drivers.matrix_product(inner, self.compile), inner, packing

    def byte_product(self, few: bool) -> tuple[Any, Any, int]:
        """Rows of 8 bits by int8 weights: what rounds and packs the rows, the loops, and the rows of a block.
        On tiles; by VPDPBUSD where there are none, and for the few rows of a token."""
        tier, tiles = self.tier, self.tier.tiles and not few
        rows = 32
        if not tiles:
            rows = FEW if few else tier.byte_rows
        make = products.tiles_s8 if tiles else partial(products.words_s8, rows, tier.vectors)
        first, more = (self.inner(make(again), 3) for again in (False, True))
        columns, deepest = (COLUMNS, 64) if tiles else (tier.vectors * tier.lanes, 32)
        inner = Inner(first, more, *self.edges(tiles), rows, columns, deepest)
        pack = drivers.pack_bytes(self.compile) if tiles else drivers.pack_bytes_by_words(rows, self.compile)
        return pack, drivers.matrix_product(inner, self.compile, drivers.finish_whole), rows

    def meeting(self) -> tuple[Any, Any, Any]:
        """How threads wait for each other, at the end of a call too, and claim work: `meeting.py`."""
        if self.emulator is not None:
            return meeting.meet_alone, meeting.pass_by, meeting.claim_alone
        meet = self.compile(meeting.meet)
        return meet, meet, self.compile(meeting.claim)

    def few_rows(self, format: str, exact: bool) -> Any:
        """`few.matrix_vector`, to be put into something larger."""
        tier, grouped = self.tier, format == "int4"
        pairs = format != "f32" and bool(tier.pair_rows) and not exact
        make = products.grouped_vector if grouped else partial(products.matrix_vector, format)
        four = [few.Product(self.inner(make(rows, vectors, pairs), 6 if grouped else 3), vectors * tier.lanes)
                for rows, vectors in enumerate(tier.vectors_of_few, 1)]
        if pairs:
            read = few.pair(format, self.compile)
        else:
            read = few.widen(format, products.in_place(format, tier.lanes), self.compile)
        return few.matrix_vector(format, tuple(four), read, self.made("meeting")[2], self.compile)

    def vector_product(self, format: str, exact: bool) -> Any:
        """One to four rows of float32 (exact) or of bfloat16 by weights of a format."""
        return few.to_the_end(self.made("few_rows", format, exact), self.made("meeting")[1], self.compile)

    def decoder_layer(self, format: str, exact: bool) -> Any:
        """A whole layer for one to four rows over weights of a format."""
        product, (meet, last, _) = self.made("few_rows", format, exact), self.made("meeting")
        return layer.decoder_layer(product, self.made("attention_of_few", exact), meet, last,
                                   self.compile)

    def attention(self, vectors: int) -> Any:
        """Blocks of `vectors` vectors of queries times heads of a group."""
        rows = 4 if self.tier.lanes <= 8 else 8 if vectors > 1 else 16
        forms = [self.inner(products.strided(count, vectors, again), 3)
                 for count in (rows, 1) for again in (False, True)]
        lanes = vectors * self.tier.lanes
        return attend.attention(attend.Strided(rows, *forms), lanes, self.compile)

    def attention_of_few(self, exact: bool, in_bytes: bool = False) -> Any:
        """A token that is decoded, over keys and values as the cache has them."""
        tier = self.tier
        if exact or not tier.pair_rows:
            return self.made("attention", 1)
        of_sums = attention_of_few.TOKENS, attention_of_few.CACHE_LINE // tier.lanes, True
        made = (self.inner(products.strided_pairs(*kind), 3) for kind in ((16, 1, False), (1, 1, False), of_sums))
        inner = attention_of_few.ProductsOfFew(16, *made)
        return attention_of_few.attention_of_few(inner, in_bytes, tier.lanes, self.compile)

    def attention_bf16(self) -> tuple[Any, Any, int]:
        """Keys and values packed, blocks of queries, and how many lanes those have."""
        tier = self.tier
        if tier.tiles:
            make, lanes, shape = products.short_tiles, COLUMNS, (32, DEPTH // 2, 1)
        else:
            make, lanes = partial(products.short_pairs, 8, tier.vectors), tier.vectors * tier.lanes
            shape = (8, 1, 8)
        first, more = (self.inner(make(again), 3) for again in (False, True))
        inner = attention_bf16.Products(first, more, *shape, *self.edges(tier.tiles))
        packing = attention_bf16.packing(inner, self.compile)
        return packing, attention_bf16.attention(inner, lanes, self.compile), lanes

    # ---- weights

    def packer(self, format: str) -> Any:
        """Rows of a weight into tiles: `packing.py`"""
        make = {"int8": packing.bytes_with_scales, "int4": packing.nibbles_with_scales}
        return make.get(format, packing.words)(self.compile)

    # ---- rows

    def rms_norm(self) -> Any:
        """`rows.rms_norm`"""
        return rows.rms_norm(self.compile)

    def rotate(self) -> Any:
        """`rows.rotate`"""
        return rows.rotate(self.compile)

    def swiglu(self) -> Any:
        """`rows.swiglu`"""
        return rows.swiglu(self.compile)

    def gelu(self) -> Any:
        """`rows.gelu`"""
        return rows.gelu(self.compile)

    def add(self) -> Any:
        """`rows.add`"""
        return rows.add(self.compile)

    def least_first(self) -> Any:
        """`rows.least_first`"""
        return rows.least_first(self.compile)

    # ---- pixels

    def weigh(self, axis: int, bits: int) -> Any:
        """`pixels.weigh_rows` or `pixels.weigh_columns`"""
        return (pixels.weigh_columns if axis else pixels.weigh_rows)(bits, self.compile)

    def look_up(self) -> Any:
        """`pixels.look_up`"""
        return pixels.look_up(self.compile)

    def cut(self) -> Any:
        """`pixels.cut`"""
        return pixels.cut(self.compile)


def _no_tiles(form: Any, at: int) -> None:
    """In the place of `products.configure`."""


def _nothing() -> None:
    """In the place of `products.release`."""


def _emulated(kernel: Callable[..., None], emulator: Emulator, places: int) -> Any:
    def run(*args: Any) -> None:
        places_given = [pointer(args[2 * i], args[2 * i + 1]) for i in range(places)]
        kernel(emulator, *places_given, *args[2 * places:])
    return run


def tile_form() -> np.ndarray:
    """A configuration of eight whole tiles: 16 rows of 64 bytes."""
    form = np.zeros(64, np.uint8)
    form[0] = 1
    form[16:32].view(np.uint16)[:] = 64
    form[48:56] = 16
    return form

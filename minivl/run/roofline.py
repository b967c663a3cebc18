"""What this machine can do at most, and where the model's passes lie on it.

    roof = measured()                          # reads memory, multiplies matrices: some seconds
    for part in parts(official_config("3B")):
        print(part.name, part.intensity, roof.rate(part.intensity))

A pass that does `flops` operations on `moved` bytes takes no less than flops / peak, and no less than
moved / bandwidth. The *arithmetic intensity*, flops / moved, decides which of the two is longer: left of
the roof's edge a pass waits for the memory, right of it the units for products are busy (Williams,
Waterman and Patterson, 2009).

Not here: how long a pass really takes (`session(profile=True)`). Read next: `costs.py`, whose
operations and bytes these are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checkpoint.layout import COLUMNS, tile_shape
from ..checkpoint.packed import NONE, Packed, packed
from ..checkpoint.weight import precision, weight
from ..config import OFFICIAL_PICTURES, ModelConfig
from ..kernels import processors
from .costs import Cost, costs

if TYPE_CHECKING:                                # it needs Numba
    from ..kernels.jit.tiers import Tier

MEMORY, MOST = 256 * 2**20, 512 * 2**20          # bytes that are read at a time, at least and at most
ROWS, INNER, OUTER = 256, 2048, 2048             # of the product by which a peak is measured
SECONDS = 10.0                                   # after which nothing more is begun; compiling counts
TRIES, ENOUGH = 5, 0.5                           # of each; seconds after which no other one is begun
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
ONES = 0x3F803F80                                # a word of two bfloat16 numbers, both 1.0


class Roof(NamedTuple):
    """bandwidth: bytes a second, the most that was measured. peaks: what multiplies -> operations a second.
    weights: bytes of weights a second in the compiled product with one row, None without Numba.
    lacking: what was not measured -> why. plain: bytes a second in a plain read by all threads, None where
    that is the bandwidth; on a busy machine it may be less, and no roof lies below what was measured under it."""
    bandwidth: float
    peaks: dict[str, float]
    weights: float | None
    threads: int
    lacking: dict[str, str]
    plain: float | None = None

    @property
    def read(self) -> float:
        """Bytes a second in a plain read."""
        return self.plain or self.bandwidth

    @property
    def peak(self) -> float:
        """The highest of the peaks."""
        return max(self.peaks.values())

    @property
    def edge(self) -> float:
        """Operations for each byte at which memory and products take equally long."""
        return self.peak / self.bandwidth

    def rate(self, intensity: float) -> float:
        """At most so many operations a second, at so many operations for each byte."""
        return min(self.peak, self.bandwidth * intensity)


class Part(NamedTuple):
    """Some passes of the model together: operations, and bytes that they read and write."""
    name: str
    flops: int
    moved: int

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / max(self.moved, 1)


# ---- the model

KINDS = {"products": ("project_qkv", "add_attended", "add_mlp", "embed_patches", "merge_2x2", "logits"),
         "attention": ("attend_inside", "attend_backwards", "attend")}


def parts(config: ModelConfig, prompt: int = 512, context: int = 512,
          picture: tuple[int, int] = (448, 448)) -> list[Part]:
    """A picture (height, width in pixels), a prompt and one step of decoding, each as its products with
    weights and its attention. Weights count as bf16, activations as float32."""
    seen = costs(config, OFFICIAL_PICTURES, [picture])
    read = costs(config, OFFICIAL_PICTURES, (), prompt)
    told = costs(config, OFFICIAL_PICTURES, (), context, new_tokens=2)
    vision = [row for row in seen.prefill if row.label.startswith("vision.")]
    runs = {f"vision {picture[0]}x{picture[1]}": vision, f"prefill {prompt}": read.prefill,
            f"decode at {context}": told.last}
    return [part for name, rows in runs.items() for part in kinds(name, rows)]


def kinds(name: str, rows: list[Cost]) -> Iterator[Part]:
    """Rows of a run as one part for each of KINDS; what is in neither does hardly any operations."""
    for kind, labels in KINDS.items():
        mine = [row for row in rows if row.label.rpartition(".")[2] in labels]
        yield Part(f"{name}, {kind}", sum(row.flops for row in mine), sum(row.moved for row in mine))


# ---- the machine

def measured(seconds: float = SECONDS) -> Roof:
    """Bandwidth and peaks of this machine now; whatever else runs on it makes both lower. What has not begun
    when the seconds are over is left out, and said. Raises ArgumentError, before anything is measured, for a
    wrong MINIVL_THREADS or MINIVL_TIER."""
    until, threads, used = perf_counter() + seconds, team_size(), used_tier()
    peaks: dict[str, float] = {}
    lacking: dict[str, str] = {}
    memory = np.full(cold_bytes() // 4, ONES, np.uint32)
    plain = memory.nbytes / best(lambda: read(memory, threads), until)
    weights = weights_rate(memory, until, lacking)
    for name, product in products(used, lacking):
        if peaks and perf_counter() > until:
            lacking[name] = over(seconds, used is not None and name.startswith(f"{used.name}, "))
        else:
            peaks[name] = 2 * ROWS * INNER * OUTER / best(product, until)
    return Roof(max(plain, weights or 0.0), peaks, weights, threads, lacking, plain)


def used_tier() -> Tier | None:
    """The tier by which compiled kernels multiply floats here, None without Numba. Raises ArgumentError for a
    wrong MINIVL_TIER."""
    try:
        from ..kernels.jit.tiers import TIERS, chosen
    except ImportError:
        return None
    every, tier = list(TIERS.values()), chosen()
    return every[every.index(tier) - 1] if tier.adds_bytes_alone else tier


def over(seconds: float, used: bool) -> str:
    """Why a product was not measured, and what to do. used: whether compiled kernels use it here."""
    from ..kernels.jit.cache import unkept
    again = "run it again. Compiled kernels are kept, so the next run has time for more"
    if why := unkept():
        again = f"compiled kernels are not kept, because {why}. Change that, and run it twice"
    wrong = "This is what kernels run here: the roof may be too low, and \"ms at the least\" too long"
    return f"the {seconds:g} seconds were over before its turn: {again}" + (f". {wrong}" if used else "")


def team_size() -> int:
    """Threads that measure: those of compiled kernels, or a thread for each processor where there are none."""
    try:
        from ..kernels.jit.team import team
    except ImportError:
        return 1 if sys.platform == "emscripten" else processors()           # a browser starts no thread
    return team().size


def cold_bytes() -> int:
    """So much memory that reading it leaves little else in the caches: twice the largest one that Linux
    names, within MEMORY and MOST."""
    sizes = [MEMORY]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        sizes.append(2 * int(text.rstrip("KMG")) * UNITS.get(text[-1:], 1))
    return min(max(sizes), MOST)


def read(memory: np.ndarray, threads: int) -> None:
    """Read an array (n,) of uint32 once, in vectors, every thread its share: the largest of all."""
    if threads == 1:
        memory.max()
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.max, np.array_split(memory, threads)))


def weights_rate(memory: np.ndarray, until: float, lacking: dict[str, str]) -> float | None:
    """Bytes a second of packed weights in the product with one row: the same memory, as bfloat16 tiles.
    None, and why in `lacking`, where kernels cannot be compiled."""
    try:
        from ..kernels.jit import few_rows
    except ImportError as error:
        lacking["compiled kernels"] = f'they need the package {error.name}: pip install "minivl[jit]"'
        return None
    block = tile_shape(COLUMNS, INNER, "bf16")                   # 1 steps 2 16 16
    blocks = len(memory) // prod(block)
    tiles = memory[:blocks * prod(block)].reshape(blocks, *block[1:])
    matrix = Packed(tiles, (blocks * COLUMNS, INNER), "bf16")
    x, out = np.ones((1, INNER), np.float32), np.empty(matrix.shape[0], np.float32)
    return tiles.nbytes / best(lambda: few_rows(x, matrix, NONE, out), until)


def products(used: Tier | None, lacking: dict[str, str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What multiplies here, by name: the tier that compiled kernels use, in both precisions; NumPy; then the
    other tiers, the best one first. What this machine has no way to run goes into `lacking`."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((ROWS, INNER), np.float32)
    w = draw.standard_normal((OUTER, INNER), np.float32)
    tiles = packed(weight(w), "bf16")
    if used is not None:                         # first: compiling may take all the time that there is
        yield from tier_products(used, x, tiles)
    yield "NumPy, float32", lambda: x @ w.T
    if used is None:
        return
    from ..kernels.jit.tiers import TIERS
    from ..kernels.jit.tiers import lacking as missing
    for tier in reversed(TIERS.values()):
        if tier.adds_bytes_alone or tier == used:
            continue                             # it multiplies floats like the tier below, or had its turn
        if names := missing(tier):
            lacking[tier.name] = f"this machine lacks {', '.join(names)}"
        else:
            yield from tier_products(tier, x, tiles)


def tier_products(tier: Tier, x: np.ndarray, tiles: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The products of a tier, in both precisions, by name."""
    from ..kernels.jit import FAST
    from ..kernels.jit.build import Maker
    for kind in FAST:
        yield f"{tier.name}, {kind}", tier_product(Maker(tier), x.astype(precision(kind)), tiles)


def tier_product(maker: Any, x: np.ndarray, tiles: Any) -> Callable[[], Any]:
    """The product of rows (n, k) with a packed weight, by the functions of one tier."""
    from ..kernels.jit import flat, many_rows
    out, made = np.empty((len(x), tiles.shape[0]), x.dtype), cache(maker.made)
    return lambda: many_rows(x, tiles, NONE, flat(out), made)


def best(work: Callable[[], Any], until: float) -> float:
    """Seconds of the fastest of some tries, after one that is not counted (it may compile)."""
    work()
    times: list[float] = []
    while len(times) < TRIES and (not times or (sum(times) < ENOUGH and perf_counter() < until)):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)

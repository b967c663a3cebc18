"""The GPU ladder: the rungs of two kernels of `cuda/`, each run by the processor and checked, with what
it is planned to move.

    from minivl.teach import gpu_ladder
    print(gpu_ladder.source("attend_tiled"))       # the text of a rung
    gpu_ladder.climb("attention")                  # each rung against float64; bytes and operations

No GPU is needed, and nothing is timed: the runner says whether a rung is right, the shapes say what it
must move. What follows for a card is a prediction, by the roofline. Read next: lesson 18, then
`cuda/attention.cu`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint.weight import precision, weight
from ..door.errors import ArgumentError
from .check import Page
from .ladder import in_bf16

ITEM = 2                                       # bytes of a number: bfloat16
QUERIES = {"naive": 1, "tiled": 32, "vectorised": 32, "tensor": 64}     # that share one reading of k and v
OFF = 2.0 ** -6                                # of the largest number: bfloat16 has 8 digits


class Work(NamedTuple):
    """What a rung must do at some size: bytes that it asks memory for, and operations."""
    bytes: int
    operations: int

    @property
    def intensity(self) -> float:
        return self.operations / self.bytes

    def least(self, bandwidth: float, peak: float) -> float:
        """Seconds that it takes at the least: the slower of memory (bytes a second) and products
        (operations a second)."""
        return max(self.bytes / bandwidth, self.operations / peak)


class Rung(NamedTuple):
    """One kernel of a `.cu` file: its name there, the file, and what is new in it."""
    kernel: str
    file: str
    says: str

    @property
    def name(self) -> str:
        return self.kernel.partition("_")[2]


class Ladder(NamedTuple):
    """Rungs of the same work: error of a rung on the runner, and its work at a size."""
    does: str
    rungs: tuple[Rung, ...]
    error: Callable[[Any, str], float]
    work: Callable[..., Work]
    size: tuple[int, ...]
    letters: str


def gemv_work(rung: str, n: int, k: int) -> Work:
    """One row (k) times a matrix (n, k), both in bfloat16: every weight passes once, on every rung."""
    return Work(ITEM * (n * k + n + k), 2 * n * k)


def attention_work(rung: str, n: int, a: int, k: int, e: int) -> Work:
    """n queries over n keys, all seen: a query heads, k key-value heads, e wide. Keys and values are
    asked for once for each tile of queries and query head."""
    tiles = -(-n // QUERIES[rung])
    return Work(ITEM * (2 * n * a * e + 2 * tiles * n * a * e), 4 * n * n * a * e)


def gemv_error(machine: Any, rung: str) -> float:
    """Of a product on the runner, on sizes that fit no tile: relative to the largest number."""
    from ..kernels.cuda import arrays, calls
    from ..kernels.cuda.weights import Resident
    draw, bf16 = np.random.default_rng(18), precision("bfloat16")
    w, x = (in_bf16(draw.standard_normal(shape, np.float32)) for shape in ((37, 75), (1, 75)))
    there = Resident(machine, weight(w.astype(bf16)), bf16)
    got = arrays.to_host(calls.gemv(arrays.to_device(machine, x.astype(bf16)), there, rung=rung))
    return off(got, x.astype(float) @ w.T.astype(float))


def attention_error(machine: Any, rung: str) -> float:
    """Of attention on the runner, 37 rows of 2 heads with one key-value head: as `gemv_error`."""
    from ..kernels.cuda import arrays, calls
    draw, bf16 = np.random.default_rng(18), precision("bfloat16")
    q, k, v = (in_bf16(draw.standard_normal((37, heads, 48), np.float32)) for heads in (2, 1, 1))
    one, two, three = (arrays.to_device(machine, one.astype(bf16)) for one in (q, k, v))
    got = arrays.to_host(calls.attend(one, two, three, np.array([[0, 37, 0, 37]]), False, rung))
    score = np.einsum("nae,me->anm", q.astype(float), k[:, 0].astype(float)) / 48**0.5
    share = np.exp(score - score.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return off(got, np.einsum("anm,me->nae", share, v[:, 0].astype(float)))


def off(got: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    return float(np.abs(got.astype(float) - right).max() / np.abs(right).max())


LADDERS = {
    "matrix_vector": Ladder("one row times a matrix", (
        Rung("gemv_naive", "gemv", "a thread a row of w: neighbours read numbers a row apart"),
        Rung("gemv_warp", "gemv", "a warp a row: neighbours read neighbours"),
        Rung("gemv_vectorised", "gemv", "16 bytes a load, x in shared memory")),
        gemv_error, gemv_work, (11008, 2048), "n k"),
    "attention": Ladder("attention, every query sees every key", (
        Rung("attend_naive", "attention", "a warp a query: each reads all keys and values"),
        Rung("attend_tiled", "attention", "32 queries share a tile of 32 keys in shared memory"),
        Rung("attend_vectorised", "attention", "the same tiles, 16 bytes a load, 8 queries at once"),
        Rung("attend_tensor", "attention_tensor", "16 x 16 x 16 products by one instruction of a warp")),
        attention_error, attention_work, (1024, 16, 2, 128), "n a k e"),
}


def ladder(name: str) -> Ladder:
    """The ladder of a kernel. Raises ArgumentError for a name that there is none of."""
    if name not in LADDERS:
        raise ArgumentError(f"GPU ladders are {', '.join(LADDERS)}, got {name!r}")
    return LADDERS[name]


def work(name: str, rung: str, *size: int) -> Work:
    """Bytes and operations of a rung, at the ladder's own size unless told. Raises ArgumentError."""
    of = ladder(name)
    if rung not in [one.name for one in of.rungs]:
        known = ", ".join(one.name for one in of.rungs)
        raise ArgumentError(f"rungs of {name} are {known}, got {rung!r}")
    return of.work(rung, *(size or of.size))


def source(kernel: str) -> str:
    """The text of a rung, from its kernel's head to the closing brace. Raises ArgumentError."""
    from ..kernels.cuda import sources
    rungs = {rung.kernel: rung for of in LADDERS.values() for rung in of.rungs}
    if kernel not in rungs:
        raise ArgumentError(f"rungs are {', '.join(rungs)}, got {kernel!r}")
    text = (sources.folder() / f"{rungs[kernel].file}.cu").read_text(encoding="utf-8")
    found = re.search(rf'(?ms)^extern "C" __global__ [^{{]*\n{kernel}\(.*?^\}}$', text)
    assert found, kernel
    return found[0]


def climbed(name: str) -> list[tuple[Rung, str]]:
    """Each rung with what the runner says of it, in the build that looks at every access."""
    from ..kernels.cuda.build import NoCompiler
    from ..kernels.cuda.device import Launcher, Processor
    from ..kernels.cuda.faults import KernelFault
    of, said = ladder(name), []
    machine = Launcher(Processor(build="check", schedule="random", seed=1))
    for rung in of.rungs:
        try:
            error = of.error(machine, rung.name)
            said.append((rung, "right" if error <= OFF else f"WRONG: off by {error:.1g}"))
        except NoCompiler as lacking:
            said.append((rung, f"not run: {lacking}"))
        except KernelFault as fault:
            said.append((rung, f"WRONG: {fault}"))
    return said


def climb(name: str) -> Page:
    """The ladder as a table: what the runner says of each rung, and its work at the ladder's size.

    No speed is in it. Raises ArgumentError for another name.
    """
    of = ladder(name)
    size = ", ".join(f"{letter} = {n}" for letter, n in zip(of.letters.split(), of.size, strict=True))
    lines = [f"{name}: {of.does}; bytes and operations for {size}",
             f"  {'rung':11s} {'on the runner':14s} {'megabytes':>9s} {'operations':>10s} "
             f"{'per byte':>8s}"]
    for rung, said in climbed(name):
        planned = of.work(rung.name, *of.size)
        short = said if said == "right" else said.partition(":")[0]
        lines.append(f"  {rung.name:11s} {short:14s} {planned.bytes / 1e6:9.1f} "
                     f"{planned.operations:10.2e} {planned.intensity:8.1f}   {rung.says}")
        lines += [] if said == "right" else [f"      {said}"]
    return Page("\n".join(lines))

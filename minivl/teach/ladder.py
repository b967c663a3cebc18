"""The kernel ladder: three kernels, each written again and again, every time nearer to the processor.

    from minivl.teach import ladder
    ladder.LADDERS["matrix_vector"].rungs          # loops, NumPy, Numba, packed in bf16, int8, int4
    ladder.climb("matrix_vector")                  # each rung checked against the first, then timed

The first rung says what the kernel means: plain loops. Each other rung is graded against it by what
grades the exercises. The last rungs are the model's own compiled kernels. A rung that this machine
cannot run says what it would need; the rung on tiles is then run instruction by instruction in NumPy,
so that its logic is checked everywhere.

Not here: how the last rungs are made (`kernels/jit`). Read next: lesson 17, then
`kernels/jit/products.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint import packed as weights
from ..checkpoint.packed import NONE
from ..checkpoint.weight import precision, weight
from ..door.errors import ArgumentError
from .check import Page
from .check.draws import Draws
from .check.exercise import Exercise
from .check.grade import grade

TURNS = 3                                      # of every rung, one after the other; the median counts


class Rung(NamedTuple):
    """One way to write a kernel.

    made: gives the function; it may need what this machine lacks, and raises ImportError or
        ArgumentError then
    prepare: what is done to the first argument once, before any call: weights are packed
    sees: the weights that it multiplies by, where they are not those that it was given
    emulated: the same instructions run one by one in NumPy, where the processor lacks them
    slow: timed on the small size
    """
    name: str
    says: str
    made: Callable[[], Callable]
    prepare: Callable[[np.ndarray], Any] = lambda first: first
    sees: Callable[[np.ndarray], np.ndarray] | None = None
    emulated: Callable[[], Callable] | None = None
    slow: bool = False


class Ladder(NamedTuple):
    """A kernel: what grades it, its rungs, and arguments of a small and of a large size."""
    exercise: Exercise
    rungs: tuple[Rung, ...]
    small: tuple[int, ...]
    large: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], tuple[np.ndarray, ...]]
    operations: Callable[..., int]


class Step(NamedTuple):
    """What became of a rung: "right", or what is wrong or lacking; operations a second, or None."""
    rung: Rung
    verdict: str
    rate: float | None


# ------------------------------------------------------------------------ first rungs: what is meant

def vector_by_loops(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """o d, d -> o: each row of w times x, summed."""
    out = np.zeros(len(w), x.dtype)
    for row in range(w.shape[0]):
        total = 0.0
        for i in range(w.shape[1]):
            total += w[row, i] * x[i]
        out[row] = total
    return out


def product_by_loops(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """o d, n d -> n o: every row of x times every row of w."""
    out = np.zeros((len(x), len(w)), x.dtype)
    for n in range(x.shape[0]):
        for row in range(w.shape[0]):
            total = 0.0
            for i in range(w.shape[1]):
                total += w[row, i] * x[n, i]
            out[n, row] = total
    return out


def attention_by_loops(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """n e, m e, m e -> n e: one head; every query sees every key."""
    out, share = np.zeros(q.shape, q.dtype), np.zeros(len(k))
    scale = 1 / math.sqrt(q.shape[1])
    for n in range(q.shape[0]):
        largest = -math.inf
        for m in range(k.shape[0]):                                   # 1. scores, and the largest
            total = 0.0
            for i in range(q.shape[1]):
                total += q[n, i] * k[m, i]
            share[m] = total * scale
            largest = max(largest, share[m])
        whole = 0.0
        for m in range(k.shape[0]):                                   # 2. weights, and their sum
            share[m] = math.exp(share[m] - largest)
            whole += share[m]
        for i in range(q.shape[1]):                                   # 3. values, weighed
            total = 0.0
            for m in range(k.shape[0]):
                total += share[m] * v[m, i]
            out[n, i] = total / whole
    return out


# ---------------------------------------------------------------------- second and third rungs

def attention_by_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """n e, m e, m e -> n e, with all scores in memory: n m."""
    score = q @ k.T * q.dtype.type(q.shape[1] ** -0.5)
    share = np.exp(score - score.max(axis=1, keepdims=True))
    return share @ v / share.sum(axis=1, keepdims=True)


def attention_in_blocks(q: np.ndarray, k: np.ndarray, v: np.ndarray, block: int = 64) -> np.ndarray:
    """The same with the scores of `block` keys at a time: what was summed before shrinks whenever a
    larger score comes (Milakov and Gimelshein, 2018)."""
    largest = np.full((len(q), 1), -np.inf, q.dtype)
    whole, out = np.zeros((len(q), 1), q.dtype), np.zeros(q.shape, q.dtype)
    for start in range(0, len(k), block):
        score = q @ k[start:start + block].T * q.dtype.type(q.shape[1] ** -0.5)           # n block
        new = np.maximum(largest, score.max(axis=1, keepdims=True))
        shrink, share = np.exp(largest - new), np.exp(score - new)
        out = out * shrink + share @ v[start:start + block]
        whole = whole * shrink + share.sum(axis=1, keepdims=True)
        largest = new
    return out / whole


@cache
def compiled(function: Callable) -> Callable:
    """The loops of a first rung as machine code. Sums may be formed in another order, or the compiler
    could not use vectors: four running sums give another rounding than one.

    Raises ImportError without Numba.
    """
    import numba
    made = numba.njit(fastmath={"reassoc", "contract"}, nogil=True)(function)
    return lambda *arrays: made(*map(np.ascontiguousarray, arrays))


# ------------------------------------------------------------------------------------- last rungs

def packed(format: str) -> Callable[[np.ndarray], Any]:
    """Packs a matrix once, as a model does when it is loaded."""
    def pack(w: np.ndarray) -> Any:
        return weights.packed(weight(np.ascontiguousarray(w)), format)
    return pack


def unpacked(format: str) -> Callable[[np.ndarray], np.ndarray]:
    """What a packed format keeps of the weights: int8 and int4 have fewer steps."""
    return lambda w: packed(format)(w.astype(np.float32)).dense(np.float64)


def few_rows() -> Callable:
    """The model's kernel for one row: weights pass once, and are widened on the way."""
    from ..checkpoint.tree import Linear
    from ..kernels import jit
    return lambda w, x: jit.linear(x[None], Linear(w, None))[0]


def on_tier(tiles: bool) -> Callable[[], Callable]:
    """The model's kernel for many rows, on vectors or on tiles. What it gives raises ArgumentError where
    the processor has no tiles."""
    def made() -> Callable:
        from ..kernels.jit.build import Maker
        return product_of(Maker(best_tier(tiles)))
    return made


def best_tier(tiles: bool) -> Any:
    """The best tier of this machine with tiles, or without. Raises ArgumentError where there are none."""
    from ..kernels.jit.tiers import TIERS, lacking
    found = [tier for tier in TIERS.values() if tier.tiles == tiles and not lacking(tier)]
    if not found:
        raise ArgumentError(f"it needs {', '.join(lacking(TIERS['amx']))}")
    return found[-1]


def product_of(maker: Any) -> Callable:
    """Many rows by a packed weight, by the functions of one tier."""
    from ..kernels.jit import flat, many_rows
    made = cache(maker.made)

    def product(w: Any, x: np.ndarray) -> np.ndarray:
        out = np.empty((len(x), w.shape[0]), x.dtype)
        many_rows(x, w, NONE, flat(out), made)
        return out
    return product


def emulated_tiles() -> Callable:
    """The rung on tiles, run instruction by instruction in NumPy."""
    from ..kernels.jit.build import Maker
    from ..kernels.jit.emulator import Emulator
    from ..kernels.jit.tiers import TIERS
    return product_of(Maker(TIERS["amx"], Emulator()))


def model_attention() -> Callable:
    """The model's kernel of attention: blocks of queries in the lanes of vectors, blocks of keys."""
    from ..kernels import jit

    def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        segments = np.array([[0, len(q), 0, len(k)]])
        return jit.attend(q[:, None], k[:, None], v[:, None], segments, False)[:, 0]
    return attention


# ---------------------------------------------------------------------------------------- ladders

def in_bf16(array: np.ndarray) -> np.ndarray:
    """The nearest numbers that two bytes hold, as float32: what a checkpoint stores."""
    return array.astype(precision("bfloat16")).astype(np.float32)


def _exercise(name: str, does: str, contract: str, loops: Callable, draw: Callable[[Draws], tuple]
              ) -> Exercise:
    return Exercise(name, name, does, SimpleNamespace(definition=loops, contract=contract), draw,
                    lambda first, *others: 8 * max(np.shape(first) + np.shape(others[-1])))


def _length(d: Draws, beyond: int) -> int:
    """Short, or longer than a block of the kernels."""
    return d.pick((d.whole(1, 12), beyond))


def _draw_vector(d: Draws) -> tuple:
    into, out = _length(d, 35), _length(d, 35)
    return in_bf16(d.floats(out, into)), d.floats(into)


def _draw_product(d: Draws) -> tuple:
    into, out, rows = _length(d, 35), _length(d, 35), d.whole(5, 12)       # up to four go another way
    return in_bf16(d.floats(out, into)), d.floats(rows, into)


def _draw_heads(d: Draws) -> tuple:
    width, keys = d.whole(1, 8), _length(d, 70)
    scale = d.pick([1.0, 40.0])                                # large scores: exp alone overflows
    return d.floats(d.whole(1, 8), width, scale=scale), d.floats(keys, width), d.floats(keys, width)


def _large(draw: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """w (o, d) in bf16, x (d) or (n, d)."""
    *rows, out, into = shape
    w = in_bf16(draw.standard_normal((out, into), np.float32))
    return w, draw.standard_normal((*rows, into), np.float32)


def _heads(draw: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    n, m, e = shape
    q, k, v = (draw.standard_normal((rows, e), np.float32) for rows in (n, m, m))
    return q, k, v


LOOPS, NUMPY, NUMBA = "loops", "NumPy", "Numba"
LADDERS = {
    "matrix_vector": Ladder(
        _exercise("matrix_vector", "a matrix times one row", "o d, d -> o", vector_by_loops,
                  _draw_vector),
        (Rung(LOOPS, "what is meant", lambda: vector_by_loops, slow=True),
         Rung(NUMPY, "w @ x: the library's own kernel, 4 bytes a weight",
              lambda: lambda w, x: w @ x),
         Rung(NUMBA, "the same loops, compiled", lambda: compiled(vector_by_loops)),
         Rung("packed, bf16", "vectors, 2 bytes a weight, all cores", few_rows, packed("bf16")),
         Rung("packed, int8", "1 byte a weight, other weights", few_rows, packed("int8"),
              unpacked("int8")),
         Rung("packed, int4", "half a byte a weight, other weights", few_rows, packed("int4"),
              unpacked("int4"))),
        (128, 128), (4096, 2048), _large, lambda w, x: 2 * w.size),
    "matrix_product": Ladder(
        _exercise("matrix_product", "a matrix times many rows", "o d, n d -> n o", product_by_loops,
                  _draw_product),
        (Rung(LOOPS, "what is meant", lambda: product_by_loops, slow=True),
         Rung(NUMPY, "x @ w.T: the library's own kernel", lambda: lambda w, x: x @ w.T),
         Rung(NUMBA, "the same loops, compiled", lambda: compiled(product_by_loops)),
         Rung("packed, vectors", "rows and columns in registers, all cores", on_tier(tiles=False),
              packed("bf16")),
         Rung("packed, tiles", "32 x 32 sums by one instruction after the other", on_tier(tiles=True),
              packed("bf16"), emulated=emulated_tiles)),
        (8, 48, 48), (128, 1024, 1024), _large, lambda w, x: 2 * w.size * len(x)),
    "attention": Ladder(
        _exercise("attention", "one head: every query sees every key", "n e, m e, m e -> n e",
                  attention_by_loops, _draw_heads),
        (Rung(LOOPS, "what is meant", lambda: attention_by_loops, slow=True),
         Rung(NUMPY, "all scores in memory", lambda: attention_by_numpy),
         Rung("NumPy, in blocks", "scores of 64 keys at a time", lambda: attention_in_blocks),
         Rung(NUMBA, "the same loops, compiled", lambda: compiled(attention_by_loops)),
         Rung("vectors", "blocks of queries and keys, all cores", model_attention)),
        (16, 16, 16), (256, 512, 64), _heads,
        lambda q, k, v: 4 * len(q) * k.size),
}


# ------------------------------------------------------------------------------------- climbing it

def ladder(name: str) -> Ladder:
    """The ladder of a kernel. Raises ArgumentError for a name that there is none of."""
    if name not in LADDERS:
        raise ArgumentError(f"ladders are {', '.join(LADDERS)}, got {name!r}")
    return LADDERS[name]


def verdict(of: Ladder, rung: Rung, function: Callable, seconds: float = 20.0) -> str:
    """"right", or what is wrong: the rung against the first one, as an exercise is graded."""
    exercise = of.exercise
    if rung.sees is not None:
        sees = rung.sees
        exercise = replace(exercise, rule=lambda w, x: exercise.door.definition(sees(w), x))

    def whole(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
        return function(rung.prepare(first), *others)
    result = grade(exercise, whole, seconds=seconds)
    return "right" if result else result.message


def climbed(name: str, turns: int = TURNS) -> list[Step]:
    """Every rung of a ladder, checked and timed; they take turns, so that all meet the same load."""
    of, draw = ladder(name), np.random.default_rng(0)
    small, large = of.draw(draw, of.small), of.draw(draw, of.large)
    said: dict[Rung, str] = {}
    work: dict[Rung, tuple[Callable, tuple, int]] = {}
    for rung in of.rungs:
        try:
            function = rung.made()
            said[rung] = verdict(of, rung, function)
        except (ImportError, ArgumentError) as lacking:
            said[rung] = f"not here: {_why(lacking)}{_emulated(of, rung, lacking)}"
            continue
        first, *others = small if rung.slow else large
        work[rung] = function, (rung.prepare(first), *others), of.operations(first, *others)
    times = _times({rung: (function, args) for rung, (function, args, _) in work.items()}, turns)
    return [Step(rung, said[rung], work[rung][2] / times[rung] if rung in work else None)
            for rung in of.rungs]


def _why(error: Exception) -> str:
    if isinstance(error, ImportError) and error.name:
        return f'it needs the package {error.name}: pip install "minivl[jit]"'
    return str(error)


def _emulated(of: Ladder, rung: Rung, lacking: Exception) -> str:
    if rung.emulated is None or isinstance(lacking, ImportError):
        return ""
    return f". Its instructions, run one by one in NumPy: {verdict(of, rung, rung.emulated())}"


def _times(work: dict[Rung, tuple[Callable, tuple]], turns: int) -> dict[Rung, float]:
    """Seconds of each, the median of its turns, after one that is not counted."""
    times: dict[Rung, list[float]] = {rung: [] for rung in work}
    for turn in range(turns + 1):
        for rung, (function, args) in work.items():
            start = perf_counter()
            function(*args)
            times[rung] += [perf_counter() - start] * (turn > 0)
    return {rung: statistics.median(taken) for rung, taken in times.items()}


def climb(name: str, turns: int = TURNS) -> Page:
    """The ladder as a table: whether each rung is right, and how many times as fast as the first one.

    One run on one machine: the ratios are what to look at. Raises ArgumentError for another name.
    """
    steps = climbed(name, turns)
    return Page("\n".join(_lines(name, steps)))


def _lines(name: str, steps: Sequence[Step]) -> list[str]:
    first = steps[0].rate or 1.0
    lines = [f"{name}: {ladder(name).exercise.does}",
             f"  {'rung':17s} {'against loops':14s} {'GFLOP/s':>8s} {'times loops':>12s}"]
    for rung, said, rate in steps:
        if rate is None:
            lines.append(f"  {rung.name:17s} {said}")
        else:
            short = said if said == "right" else "WRONG"
            fast = f"{rate / 1e9:8.3f} {rate / first:12,.0f}"
            lines.append(f"  {rung.name:17s} {short:14s} {fast}   {rung.says}")
            lines += [] if said == "right" else [f"      {line}" for line in said.splitlines()]
    return lines

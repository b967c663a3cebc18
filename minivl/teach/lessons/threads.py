"""The exercises in CUDA C: lesson 18. An answer is a function that gives the body of a kernel.

The body runs on the CPU, by the runner: first on one fixed launch in every build and schedule, where a
race, an access out of bounds, shared memory that nobody wrote or a deadlock is found; then, as a function
of arrays, through what grades every exercise, with drawn inputs, the smallest wrong one and the usual
mistakes in words.

Without Linux and a compiler nothing can be checked, and the check says that: an answer that was not run
is not right. Read next: `kernels/cuda/checking.py`, `stages.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ...checkpoint.tree import Norm
from ...checkpoint.weight import weight
from ..check.draws import Draws
from ..check.exercise import Exercise
from ..check.stages.kernels import NORM
from .filing import FILED, stage

SECONDS = 10                             # of processor time for a launch: a loop that never ends
FORGOTTEN = np.float32(np.nan)           # what an output holds before: a number not written is seen


class Launch(NamedTuple):
    """A grid, a block, a value for each parameter by its name; the last array is what comes out."""
    grid: tuple[int, ...]
    block: tuple[int, ...]
    values: dict[str, Any]

    @property
    def out(self) -> np.ndarray:
        found: np.ndarray = self.values["y"]
        return found


class Frame(NamedTuple):
    """What stands around a body: the kernel's name and parameters, and how arrays become a launch."""
    name: str
    parameters: str
    launch: Callable[..., Launch]

    def text(self, body: str) -> str:
        """The whole kernel. The head stands on the body's first line: lines keep their numbers."""
        return f'extern "C" __global__ void {self.name}({self.parameters}) {{{body}\n}}\n'


def body_of(mine: Callable) -> str:
    """What the student's function gives. AssertionError when it is no text, or a whole kernel."""
    body = mine()
    assert body is not None, (f"{mine.__name__} gives None; fill it in and return the body of the kernel, "
                              "a text")
    assert isinstance(body, str), ("the body of a kernel should come out, a text, not "
                                   f"{type(body).__name__}")
    assert "__global__" not in body, ("give the body alone: the line with __global__ is written for "
                                      "you")
    return body


def found_in(frame: Frame, body: str, launch: Launch) -> None:
    """Run the body in every build and schedule. AssertionError with the runner's report, or the
    compiler's words."""
    from ...kernels.cuda import check
    from ...kernels.cuda.build import BuildError, NoCompiler
    try:
        verdict = check(frame.text(body), frame.name, launch.grid, launch.block, launch.values,
                        name=f"{frame.name}.cu")
    except NoCompiler as lacking:
        raise AssertionError(f"not checked: {lacking}") from None
    except BuildError as error:
        raise AssertionError(f"it does not compile:\n{error}") from None
    assert verdict.ok, str(verdict)


def launched(frame: Frame, mine: Callable) -> Callable:
    """The body as a function of arrays, run in the build that looks at every access. Raises
    KernelFault."""
    from ...kernels.cuda.checking import arguments_of, case_of
    from ...kernels.cuda.runner import RawModule
    text = frame.text(body_of(mine))
    module = RawModule(text, build="check", name=f"{frame.name}.cu", isolated=True, seconds=SECONDS)
    kernel, nothing = module.get_function(frame.name), case_of("", None)

    def run(*args: Any) -> np.ndarray:
        launch = frame.launch(*(np.array(arg, order="C") for arg in args))      # in one piece
        case = nothing._replace(kernel=frame.name, values=launch.values)
        arguments = arguments_of(kernel, case, f"{frame.name}.cu")
        kernel(launch.grid, launch.block, arguments)
        out: np.ndarray = arguments[list(launch.values).index("y")]
        return out.reshape(launch.out.shape)
    return run


def in_cuda(at: str, name: str, whole: Exercise, contract: str, draw: Callable[[Draws], tuple],
            lift: Callable, frame: Frame, fixed: tuple, mistakes: Mapping[str, Callable] | None = None
            ) -> None:
    """File a stage whose answer is the body of a kernel. fixed: arrays of the launch that all builds
    run."""
    stage(at, name, "the body of a kernel, a text", whole, contract, draw, lift,
          calls=partial(launched, frame), mistakes=mistakes)
    asked = FILED[at]

    def examine(mine: Callable) -> None:
        found_in(frame, body_of(mine), frame.launch(*fixed))
        asked.examine(mine)
    FILED[at] = asked._replace(examine=examine)


def numbers(*shape: int, scale: float = 1.0) -> np.ndarray:
    """The fixed launch's numbers: float32."""
    drawn: np.ndarray = (scale * np.random.default_rng(18).standard_normal(shape)).astype(np.float32)
    return drawn


# ---- the RMS norm of rows: a block a row

def launch_norm(x: np.ndarray, w: np.ndarray, eps: Any) -> Launch:
    n, d = x.shape
    return Launch((n,), (64,), {"x": x, "w": w, "y": np.full((n, d), FORGOTTEN), "d": d,
                                "eps": float(eps)})


def draw_norm(d: Draws) -> tuple:
    width = d.pick((d.whole(1, 9), 150))             # a row shorter than a block, or longer than two
    return (d.floats(d.whole(1, 4), width, scale=d.pick([1.0, 30.0])), 1 + d.floats(width, scale=0.25),
            d.pick([1e-6, 0.5]))


ROWS_NORMED = Frame("norm_of_rows", "const float* x, const float* w, float* y, int d, float eps",
                    launch_norm)
in_cuda("18.1", "norm_of_rows", NORM, "n d, d, _ -> n d", draw_norm,
        lambda x, w, eps: (x, Norm(weight(w), float(eps))),
        ROWS_NORMED, (numbers(3, 150), numbers(150), 1e-6), {
            "only the first 64 numbers of a row are summed: a thread takes i, i + 64, i + 128, ...":
                lambda x, w, eps: x / np.sqrt((x[:, :64] ** 2).sum(1, keepdims=True) / x.shape[1] + eps) * w,
            "each thread divides by its own sum: all 64 must be added up before anybody divides":
                lambda x, w, eps: x / np.sqrt(by_thread(x) / x.shape[1] + eps) * w,
            "the sums of one warp only: 64 threads are two warps, and a shuffle does not leave its own":
                lambda x, w, eps: x / np.sqrt(first_warp(x) / x.shape[1] + eps) * w})


def by_thread(x: np.ndarray, threads: int = 64) -> np.ndarray:
    """For each number the sum of squares that its own thread has: n d"""
    own = np.arange(x.shape[1]) % threads
    return (x * x) @ (own[:, None] == own[None]).astype(float)


def first_warp(x: np.ndarray) -> np.ndarray:
    """The sum of squares of the first warp's threads: n 1"""
    total: np.ndarray = (x * x * (np.arange(x.shape[1]) % 64 < 32)).sum(1, keepdims=True)
    return total


def as_rms_norm(mine: Callable) -> Callable:
    """The body of exercise 18.1 as the stage `rms_norm`, of rows and a norm: so it is graded in a
    variant, `minivl.check("rms_norm", as_rms_norm(norm_of_rows), variant="Ada")`."""
    run = launched(ROWS_NORMED, mine)
    return lambda x, norm: run(x, norm.weight.dense(np.float32), norm.eps)


# ---- a matrix times one row: x in tiles of shared memory

ROWS, TILE = 4, 32                             # rows of w a block, numbers of x a tile


def launch_product(w: np.ndarray, x: np.ndarray) -> Launch:
    n, k = w.shape
    return Launch((-(-n // ROWS),), (TILE, ROWS),
                  {"w": w, "x": x, "y": np.full(n, FORGOTTEN), "n": n, "k": k})


def draw_product(d: Draws) -> tuple:
    into, out = d.pick((d.whole(1, 8), 32, 75)), d.pick((d.whole(1, 5), 8))
    return d.floats(out, into), d.floats(into)


def product_by_loops(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """o d, d -> o"""
    out = np.zeros(len(w), x.dtype)
    for row, column in np.ndindex(w.shape):
        out[row] += w[row, column] * x[column]
    return out


PRODUCT = Exercise("matrix_vector", "matrix_vector", "a matrix times one row",
                   SimpleNamespace(definition=product_by_loops, contract="o d, d -> o"), draw_product,
                   lambda w, x: len(x), {"a last tile that is not full": lambda w, x: len(x) % TILE > 0,
                                         "a last block that is not full": lambda w, x: len(w) % ROWS > 0})
PRODUCT.wrong("one_tile", lambda w, x: w[:, :TILE] @ x[:TILE],
              "only the first tile is summed: go on with k0 = 32, 64, ... while k0 < k")
PRODUCT.wrong("whole_tiles", lambda w, x: w[:, :len(x) // TILE * TILE] @ x[:len(x) // TILE * TILE],
              "what is left behind the last whole tile is not summed: k need not be a multiple of 32")
PRODUCT.wrong("last_tile",
              lambda w, x: w[:, (len(x) - 1) // TILE * TILE:] @ x[(len(x) - 1) // TILE * TILE:],
              "only the last tile is left: the sum must outlive the loop over the tiles")
PRODUCT.wrong("tile_again", lambda w, x: w @ np.resize(x[:TILE], len(x)) if len(x) > TILE else w @ x,
              "every tile has the first 32 numbers of x: number t of the tile from k0 on is x[k0 + t]")
in_cuda("18.2", "matrix_vector", PRODUCT, "o d, d -> o", draw_product, lambda w, x: (w, x),
        Frame("matrix_vector", "const float* w, const float* x, float* y, int n, int k", launch_product),
        (numbers(6, 75), numbers(75)))


# ---- parts of attention, put together

def launch_parts(most: np.ndarray, total: np.ndarray, sums: np.ndarray) -> Launch:
    heads, splits, e = sums.shape
    return Launch((heads,), (32,), {"most": most, "total": total, "sums": sums,
                                    "y": np.full((heads, e), FORGOTTEN), "splits": splits, "e": e})


def merged_by_loops(most: np.ndarray, total: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """a g, a g, a g e -> a e: what a softmax over all keys gives, from what it gives over each split."""
    out = np.zeros(sums[:, 0].shape, sums.dtype)
    for head in range(len(most)):
        largest, whole = max(most[head]), 0.0
        for split in range(len(most[head])):
            share = math.exp(most[head, split] - largest)
            whole += share * total[head, split]
            out[head] += share * sums[head, split]
        out[head] /= whole
    return out


def draw_parts(d: Draws) -> tuple:
    """Of splits of keys: the largest score, the sum of exp(score - largest), the values weighed so."""
    heads, splits, e = d.whole(1, 3), d.whole(1, 4), d.pick((d.whole(1, 6), 40))
    keys, scale, empty = d.whole(1, 4), d.pick([1.0, 120.0]), d.flag()
    score, v = d.floats(heads, splits, keys, scale=scale), d.floats(heads, splits, keys, e)
    most = score.max(-1)
    share = np.exp(score - most[..., None])
    total, sums = share.sum(-1), np.einsum("asm,asme->ase", share, v)
    if empty and splits > 1:                   # the last split has no keys, as attention leaves it
        most[:, -1], total[:, -1], sums[:, -1] = -1e30, 0, 0
    return most, total, sums.astype(np.float32)


def unshifted(most: np.ndarray, total: np.ndarray, sums: np.ndarray) -> np.ndarray:
    share = np.exp(most.astype(np.float32))
    found: np.ndarray = (share[..., None] * sums).sum(1) / (share * total).sum(1)[:, None]
    return found


def shifted(most: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(most - most.max(1, keepdims=True))
    return found


PARTS = Exercise("merge_splits", "merge_splits", "parts of attention over splits of the keys, joined",
                 SimpleNamespace(definition=merged_by_loops, contract="a g, a g, a g e -> a e"),
                 draw_parts,
                 lambda most, total, sums: 8 * sums.shape[1],
                 {"several splits": lambda most, total, sums: most.shape[1] > 1,
                  "large scores": lambda most, total, sums: np.abs(most[most > -1e29]).max() > 80,
                  "heads wider than a warp": lambda most, total, sums: sums.shape[2] > 32})
PARTS.wrong("overflow", unshifted,
            "exp overflows on large scores: take the largest of all splits off first")
PARTS.wrong("mean_of_splits", lambda most, total, sums: (
    sums / np.maximum(total, 1e-30)[..., None]).mean(1),
            "every split counts alike: one with larger scores has more to say, by exp(most - largest)")
PARTS.wrong("not_scaled", lambda most, total, sums: sums.sum(1) / total.sum(1)[:, None],
            "totals and sums were formed with another largest score each: scale each by exp(most - largest)")
PARTS.wrong("total_not_scaled", lambda most, total, sums: (
    (shifted(most)[..., None] * sums).sum(1) / total.sum(1)[:, None]),
            "the totals are not scaled: exp(most - largest) belongs to them as to the sums")
PARTS.wrong("not_divided", lambda most, total, sums: (shifted(most)[..., None] * sums).sum(1),
            "the sum is not divided by the total of all splits")
PARTS.wrong("first_split", lambda most, total, sums: sums[:, 0] / total[:, :1],
            "that is the first split alone")
in_cuda("18.3", "merge_splits", PARTS, "a g, a g, a g e -> a e", draw_parts,
        lambda most, total, sums: (most, total, sums),
        Frame("merge_splits", "const float* most, const float* total, const float* sums, float* y, "
              "int splits, int e", launch_parts),
        (numbers(2, 3), 1 + np.abs(numbers(2, 3)), numbers(2, 3, 40)))

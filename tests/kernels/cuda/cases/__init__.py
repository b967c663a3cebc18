"""What each kernel must give: small inputs, ragged on purpose, and the right answers with bounds.

    from tests.kernels.cuda.cases import FILES, wrong
    for case in FILES["gemv"]():
        assert not wrong(case, Launcher(Processor(build="check")))

FILES maps the name of a .cu file to its `cases()`. A case runs on any machine (a GPU's too), so that tests,
`tools.gpu_check` and the mutants ask the same questions. Answers come from the definitions in float64, bounds from
the arithmetic: u = 2^-24 for each addition, half a digit of the storage for each rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import numpy as np

from minivl.checkpoint.weight import precision
from minivl.kernels.cuda import arrays
from minivl.kernels.cuda.arrays import Array
from minivl.kernels.cuda.device import Launcher

U = 2.0**-24  # half the last digit of a float32
HALF_DIGIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
FLOAT32, BFLOAT16 = np.dtype(np.float32), precision("bfloat16")
TYPES = (FLOAT32, BFLOAT16)


class Case(NamedTuple):
    """One call of a kernel.

    run: gives what the kernel made, on the host. expected, bound: the right answer and how far off each number may
    be. like: the definition's answer in the same type; at least `share` of all numbers must have its very bits, which
    is what sees a missing or a second rounding
    """

    name: str
    run: Callable[[Launcher], np.ndarray]
    expected: np.ndarray
    bound: np.ndarray | float = 0.0
    like: np.ndarray | None = None
    share: float = 0.0


def wrong(case: Case, machine: Launcher) -> str:
    """What is wrong with what the kernel gives; nothing when it is right. Faults of the runner are raised."""
    got = case.run(machine)
    if got.shape != case.expected.shape:
        return f"{case.name}: shape {got.shape}, wanted {case.expected.shape}"
    if not got.size:
        return ""
    wide = got.astype(np.float64)
    distance = np.abs(wide - case.expected)
    bad = ~(distance <= case.bound)  # NaN is bad too
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        bound = np.broadcast_to(case.bound, got.shape)[at]
        return (
            f"{case.name}: {int(bad.sum())} of {got.size} numbers are off, the first at {at}: {wide[at]:.9g}, wanted "
            f"{case.expected[at]:.9g} within {bound:.3g}"
        )
    if case.like is not None:
        share = float(np.mean(got == case.like))
        if share < case.share:
            return f"{case.name}: {share:.1%} of the numbers have the definition's bits, wanted {case.share:.0%}"
    return ""


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, scale: float = 1.0) -> np.ndarray:
    """Normal numbers in a type."""
    return (scale * rng.normal(size=shape)).astype(np.float32).astype(dtype)


def sent(machine: Launcher, x: np.ndarray) -> Array:
    """An array on the machine."""
    return arrays.to_device(machine, x)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


NAMES = (
    "attention",
    "attention_tensor",
    "convert",
    "decode_attention",
    "gelu",
    "gemv",
    "norm",
    "pixels",
    "rotary",
    "rows",
    "sampling",
    "swiglu",
)


def _lazily(name: str) -> Callable[[], list[Case]]:
    return lambda: import_module(f"{__name__}.{name}").cases()


FILES: dict[str, Callable[[], list[Case]]] = {name: _lazily(name) for name in NAMES}

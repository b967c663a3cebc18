"""How far minivl and the reference each are from the golden value, stage by stage, and how far they may be.

The question is never "are the two equal?" but "is minivl further from the exact value than the reference is?".
Integers, rows that are only moved, and whatever the reference gets exactly right have to be exact here too.

Read next: `test_stages.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import minivl
from minivl.api import dtype_of

from .reference import Inputs, golden, make_checkpoint, positions, reference, taps
from .strategies import Case

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
          "float64": torch.float64}
EPS = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10, "float64": 2.0**-52}
SHARE = 1.5                              # minivl's error over the reference's may be at most this
# What rounding does to one stage, in eps: float32 also sums up in float32, 16 bits only round what they have summed up.
CHANCE = {"float32": 4.0, "bfloat16": 0.5, "float16": 0.5}

# Rotary angles are data: float32 tables, the same in every precision. PyTorch's power function is not always rounded
# to the nearest float32 (frequency 37 of the official 64 is not), and which digits are off depends on its vector
# unit. So both models turn by the reference's angles, and minivl's own are judged as a stage of their own: a
# frequency may differ in its last digit, which makes two with the product rounded.
ANGLES = ("vision.angles.spatial_angles", "decoder.angles")
LAST_DIGITS = 2 * EPS["float32"]

_folders = tempfile.TemporaryDirectory(prefix="minivl-oracle-")


class Error(NamedTuple):
    """Relative L2 errors of one array of one stage against the golden value, and the most that minivl's may be."""
    stage: str
    ours: float
    theirs: float
    bound: float


@cache
def checkpoint(case: Case, stored: str = "bfloat16") -> Path:
    """The folder of the case's checkpoint. Weights stored in 16 bits mean the same number in every precision, as on
    the hub: rounding them is no part of anyone's error."""
    folder = Path(tempfile.mkdtemp(dir=_folders.name))
    return make_checkpoint(case.config(), case.seed, folder, DTYPES[stored], case.flat)


def minivl_inputs(inputs: Inputs, config: Any, after_video: str) -> minivl.Inputs:
    given = dict(vars(inputs))
    return minivl.Inputs.from_ids(given.pop("input_ids"), config, **given, after_video=after_video)


def minivl_trace(case: Case, precision: str, stored: str = "bfloat16", going_on_with: Mapping[str, Any] | None = None,
                 replace: Mapping[str, Callable] | None = None, kernels: str = "definition") -> dict[str, Any]:
    """Every leaf of one run of minivl that asks for all logits, positions included; verified at each door.

    Where `going_on_with` has a stage, the run goes on with that value, while the trace keeps what minivl made itself.
    """
    own: dict[str, Any] = {}
    instead = {stage: _keeping(own, stage, value) for stage, value in (going_on_with or {}).items()}
    vlm = minivl.load(checkpoint(case, stored), precision=precision, kernels=kernels)
    with minivl.session(record="*", verify=True, replace={**(replace or {}), **instead}) as seen:
        logits = vlm.logits(minivl_inputs(case.inputs(), vlm.config, case.after_video))
    np.testing.assert_array_equal(logits, seen.trace["decoder.logits"])
    seen.trace.pop("positions.ticks", None)               # the reference forms them inside of its positions: no tap
    return {**seen.trace, **own}


def _keeping(own: dict[str, Any], stage: str, value: Any) -> Callable:
    """A wrap that notes what the stage gives, and gives `value`."""
    def wrap(original):
        def run(*args):
            own[stage] = original(*args)
            return value
        return run
    return wrap


def reference_traces(case: Case, precision: str, stored: str = "bfloat16") -> tuple[dict[str, Any], dict[str, Any]]:
    """What the golden model and the reference in `precision` have at each stage."""
    folder, inputs = checkpoint(case, stored), case.inputs()
    exact, shipped = golden(folder), reference(folder, DTYPES[precision])
    at = positions(exact, inputs, case.after_video)
    return taps(exact, inputs, at), taps(shipped, inputs, at)


def in_16_bits(trace: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The float stages of a reference's trace in the types that minivl has there: tables of the tower stay float32."""
    dtype = dtype_of(precision)

    def typed(stage: str, x: np.ndarray) -> np.ndarray:
        return x if stage in (*ANGLES, "vision.cos_sin") else x.astype(dtype)
    return {stage: tuple(typed(stage, x) for x in value) if isinstance(value, tuple) else typed(stage, value)
            for stage, value in trace.items() if not is_integer(value)}


def angles_of(trace: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {stage: trace[stage] for stage in ANGLES if stage in trace}


def integers_that_differ(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Integer stages (window order, segments, positions) that are not exactly the reference's."""
    return [stage for stage, value in theirs.items() if is_integer(value) and not _same(ours[stage], value)]


def is_integer(value: Any) -> bool:
    return arrays(value)[0].dtype.kind == "i"


def _same(ours: Any, theirs: Any) -> bool:
    a, b = arrays(ours), arrays(theirs)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def arrays(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def errors(ours: Mapping[str, Any], exact: Mapping[str, Any], theirs: Mapping[str, Any],
           precision: str) -> list[Error]:
    """One row for each array of each float stage, in the order in which minivl runs them."""
    table = []
    for number, stage in enumerate([stage for stage in ours if not is_integer(exact[stage])], 1):
        triples = zip(*(arrays(trace[stage]) for trace in (ours, exact, theirs)), strict=True)
        for n, (a, b, c) in enumerate(triples):
            name = f"{stage}[{n}]" if isinstance(exact[stage], tuple) else stage
            theirs_is = relative_l2(c, b)
            bound = LAST_DIGITS if stage in ANGLES else most(theirs_is, number, precision)
            table.append(Error(name, relative_l2(a, b), theirs_is, bound))
    return table


def most(theirs: float, stages: int, precision: str) -> float:
    """The most that minivl's error may be where the reference's is `theirs`, after so many float stages.

    1.5 times as much. Below CHANCE eps sqrt(stages) both round by chance and their ratio means nothing. Where the
    reference is exact (rows looked up or moved) there is nothing to round, and minivl has to be exact too.
    """
    return max(SHARE * theirs, CHANCE[precision] * EPS[precision] * stages**0.5) if theirs else 0.0


def relative_l2(value: np.ndarray, exact: np.ndarray) -> float:
    """||value - exact|| / ||exact|| in float64; infinite where shapes differ or a value is not finite."""
    if value.shape != exact.shape:
        return float("inf")
    a, b = value.astype(np.float64), exact.astype(np.float64)
    distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if not np.isfinite(distance):
        return float("inf")
    return distance / size if size else float(distance > 0)

"""How far rounding alone goes: minivl's own run in the candidate's precision, against the golden
value, row by row.

A candidate may be as far from the golden value as this run is, within a factor (`verdict.py`). So the
run rounds as roughly as an honest implementation may: it takes every liberty that known good ones take
and ours does not.

    angles      the last digit of each rotary frequency depends on the mathematics library; at position
                1,000 that moves cosines by 5e-5, in every precision
    attention   in 16 bits scores and probabilities may be rounded where they are stored

Read next: `truth/trace/record.py`, which writes the result into the golden trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.stage import Wrap, session
from ...door.visit import Visit
from ...kernels.definition import narrow, wide
from ...run.inputs import Inputs
from ..trace.format import YARDSTICK, Writer, row_axis
from .coarse import WEIGHTS, coarse
from .metrics import row_distances

Cut = Callable[[np.ndarray, str], np.ndarray]


def add_yardstick(out: Writer, vlm: VLM, inputs: Inputs, precision: str, cut: Cut) -> None:
    """Measure one precision's rounding and write each row's distance from the golden arrays that `out`
    holds. Of a kind of weights (WEIGHTS): how far these are from the exact ones' results."""
    golden = {stage.key: stage for stage in out.stages if stage.arrays}
    kind = f"{YARDSTICK}.{precision}"
    out.facts.setdefault(kind, {})

    def look(visit: Visit) -> None:
        stage = golden.get(visit.key)
        if stage is None:
            return
        trio = zip(stage.arrays, stage.axes, outputs(visit.output), out.read_back(stage), strict=True)
        for name, axes, ours, exact in trio:
            if exact.dtype.kind in "fV":
                out.table(kind, name, row_distances(cut(ours, axes), exact,
                                                    row_axis(axes)).astype(np.float32))
    kept = precision in WEIGHTS
    with session(replace={} if kept else liberties(precision), quiet=True) as s:
        s.watchers.append(look)
        vlm.on("float64" if kept else precision, coarse(precision) if kept
               else "definition").logits(inputs)


def liberties(precision: str) -> dict[str, Wrap]:
    """Wraps that round as roughly as is honest in this precision."""
    angles: dict[str, Wrap] = {"decoder.angles": _nudging, "vision.angles.spatial_angles": _nudging}
    return angles | {"kernel.attend": _stored} if precision in ("float16", "bfloat16") else angles


def _nudging(original: Callable) -> Callable:
    """Angles whose frequencies are off by their last digit, up and down in turn."""
    def nudged(*args: Any) -> np.ndarray:
        angles = original(*args)
        sign = np.where(np.arange(angles.shape[-1]) % 2, 1, -1)               # f: one way, the other way
        return (angles * (1 + sign * 2.0**-23)).astype(np.float32)      # w f: one unit of the last digit
    return nudged


def _stored(original: Callable) -> Callable:
    """Attention that rounds scores and probabilities to the type of the queries, as if they were
    stored."""
    def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray,
               causal: bool) -> np.ndarray:
        out = np.zeros_like(q)
        group = q.shape[1] // k.shape[1]                            # query heads for each key-value head
        for q0, q1, k0, k1 in segments.tolist():
            for head in range(q.shape[1]):
                out[q0:q1, head] = _attend_one(q[q0:q1, head], k[k0:k1, head // group],
                                               v[k0:k1, head // group], causal)
        return out
    return attend


# Not the definition's: that keeps scores and probabilities wide, and here they are rounded in between.
def _attend_one(query: np.ndarray, key: np.ndarray, value: np.ndarray, causal: bool) -> np.ndarray:
    """One head of one segment: n e, m e, m e -> n e."""
    score = narrow(wide(query) @ wide(key).T, query.dtype)                                       # -> n m
    score = wide(narrow(wide(score) * np.float32(query.shape[-1] ** -0.5), query.dtype))
    if causal:
        seen = np.arange(len(query))[:, None] + len(key) - len(query)
        score = np.where(np.arange(len(key)) <= seen, score, -np.inf)           # n m
    weight = np.exp(score - score.max(axis=-1, keepdims=True))
    weight = narrow(weight / weight.sum(axis=-1, keepdims=True), query.dtype)
    return narrow(wide(weight) @ wide(value), query.dtype)                              # n m, m e -> n e

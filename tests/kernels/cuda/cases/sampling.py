"""The likeliest token, among equals the first, beside numbers that are none; the penalty on what was seen."""

from __future__ import annotations

import numpy as np

from minivl.kernels.cuda import arrays, calls
from minivl.kernels.cuda.interpreter import Seen
from minivl.passes import sampling

from . import BFLOAT16, FLOAT32, TYPES, Case, U, drawn, sent, wide


def likely_case(dtype: np.dtype, scores: np.ndarray, what: str) -> Case:
    scores = scores.astype(dtype)
    right = np.where(np.isfinite(wide(scores)).all(axis=1), np.argmax(wide(scores), axis=1), -1)
    return Case(
        f"most likely of {scores.shape} {dtype.name}, {what}",
        lambda machine: machine.device.download(calls.most_likely(sent(machine, scores))),
        right,
    )


def planted(scores: np.ndarray, places: list[tuple[int, int]], value: float) -> np.ndarray:
    out = scores.copy()
    for place in places:
        out[place] = value
    return out


def penalise_case(dtype: np.dtype, n: int, v: int, seed: int) -> Case:
    """Ids that come again and again count once; the last ones come by a second call."""
    rng = np.random.default_rng(seed)
    scores = drawn(rng, (n, v), dtype)
    prompts = tuple(rng.integers(0, v, 40 + i) for i in range(n))
    answers = tuple(rng.integers(0, v, 5) if i % 2 else np.zeros(0, np.int64) for i in range(n))
    right = sampling.penalise.definition(scores, prompts, answers, 1.3)

    def run(machine):
        seen, given = Seen(), sent(machine, scores)
        seen.penalise(given, prompts, tuple(ids[:2] for ids in answers), 1.3)
        return arrays.to_host(seen.penalise(given, prompts, answers, 1.3))

    return Case(
        f"penalise {dtype.name} {n} {v}",
        run,
        wide(right),
        2 * U * np.abs(wide(right)),
    )


def cases() -> list[Case]:
    rng, found = np.random.default_rng(0), []
    low, wide_rows = drawn(rng, (3, 640), FLOAT32) - 9, drawn(rng, (2, 9000), FLOAT32)
    for dtype in TYPES:
        found += [
            likely_case(dtype, low, "all negative"),
            likely_case(dtype, planted(wide_rows, [(0, 8999), (0, 700), (0, 4000), (1, 0)], 50), "equals"),
            likely_case(dtype, planted(low, [(0, 639)], np.nan), "a NaN"),
            likely_case(dtype, planted(low, [(1, 3)], np.inf), "infinity"),
            likely_case(dtype, planted(low, [(2, 5)], -np.inf), "minus infinity"),
            penalise_case(dtype, 3, 130, 1),
        ]
    return [*found, likely_case(BFLOAT16, low[:1, :1], "one word"), penalise_case(FLOAT32, 1, 3, 2)]

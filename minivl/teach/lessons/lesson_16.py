"""The exercises of lesson 16: the bug hunt. Everybody's second answer is another one; it is marked by the name in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, trials
from .lesson_15 import name


@trials("16.1", 'the key of a pass, or "none"', name)
def first_wrong() -> Iterator[Trial]:
    draw = np.random.default_rng(16)
    right: dict[str, Any] = {
        "resize": draw.integers(0, 256, (4, 4)), "embed": draw.standard_normal((6, 3)),
        "rotate": (draw.standard_normal((6, 2)), draw.standard_normal((6, 2))),
        "merge": draw.standard_normal((3, 2)), "logits": 1000 * draw.standard_normal((3, 5))}

    def but(**changed: Any) -> tuple:
        return dict(right), {**right, **changed}
    yield Trial(but(embed=right["embed"] * (1 + 1e-7), logits=right["logits"] + 1e-4), "none",
                "within rounding everywhere the answer is 'none', yours is {got}", {
        "one part in ten million is rounding: a pass is wrong from a relative error of 1e-5 on": "embed",
        "0.0001 on numbers of 1000 is rounding: divide the length of the difference by the length of the right array":
            "logits"})
    yield Trial(but(embed=right["embed"] * 1.01, logits=right["logits"] * 5), "embed",
                "embed is the first that differs, yours is {got}",
                {"yours looks for the largest error; what comes first in the run is asked": "logits"})
    yield Trial(but(rotate=(right["rotate"][0], right["rotate"][1] + 1), logits=right["logits"] * 2), "rotate",
                "the second array of rotate differs, yours is {got}",
                {"rotate gives two arrays, and its second one is wrong: look at every array of a tuple": "logits"})
    yield Trial(but(merge=draw.standard_normal((4, 2))), "merge",
                "merge has another shape: that is wrong too; yours is {got}")
    broken = right["merge"].copy()
    broken[1, 1] = np.nan
    yield Trial(but(merge=broken), "merge",
                "merge holds NaN, which is not above a limit and not below it: ask for not error < limit")
    yield Trial((dict(right), {key: value for key, value in right.items() if key != "merge"}), "merge",
                "the wrong run has no merge at all, as when it broke off there; yours is {got}")


def judged(value: Any, wanted: Any) -> str:
    """The remark about a name and a fault; empty when the fault is the one that belongs to the name."""
    from ...truth.museum import assignment
    assert isinstance(value, tuple) and len(value) == 2 and all(isinstance(word, str) for word in value), (
        f"two texts should come out, your name and the name of the fault, not {value!r}")
    student, fault = value
    assert student.strip(), "your name is empty; the fault is the one that belongs to it"
    try:
        return assignment(student).judge(fault)
    except ValueError as problem:
        return str(problem)


@trials("16.2", "your name, and the name of the fault", judged)
def my_fault() -> Iterator[Trial]:
    yield Trial((), "", "{got}")

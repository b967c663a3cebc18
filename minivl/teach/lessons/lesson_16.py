"""The checks of lesson 16: the bug hunt. Everybody's second answer is another one; it is marked by the name in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .filing import exercise


@exercise("16.1", "the key of a pass, or \"none\"")
def first_wrong(mine):
    draw = np.random.default_rng(16)
    right: dict[str, Any] = {
        "resize": draw.integers(0, 256, (4, 4)), "embed": draw.standard_normal((6, 3)),
        "rotate": (draw.standard_normal((6, 2)), draw.standard_normal((6, 2))),
        "merge": draw.standard_normal((3, 2)), "logits": 1000 * draw.standard_normal((3, 5))}

    def of(**changed):
        return mine(dict(right), {**right, **changed})
    tiny = {"embed": right["embed"] * (1 + 1e-7), "logits": right["logits"] + 1e-4}
    got = of(**tiny)
    assert got != "embed", "one part in ten million is rounding: a pass is wrong from a relative error of 1e-5 on"
    assert got != "logits", ("0.0001 on numbers of 1000 is rounding: divide the length of the difference by the length "
                             "of the right array")
    assert got == "none", f"within rounding everywhere the answer is 'none', yours is {got!r}"
    got = of(embed=right["embed"] * 1.01, logits=right["logits"] * 5)
    assert got != "logits", "yours looks for the largest error; what comes first in the run is asked"
    assert got == "embed", f"embed is the first that differs, yours is {got!r}"
    got = of(rotate=(right["rotate"][0], right["rotate"][1] + 1), logits=right["logits"] * 2)
    assert got != "logits", "rotate gives two arrays, and its second one is wrong: look at every array of a tuple"
    assert got == "rotate", f"the second array of rotate differs, yours is {got!r}"
    got = of(merge=draw.standard_normal((4, 2)))
    assert got == "merge", f"merge has another shape: that is wrong too; yours is {got!r}"
    broken = right["merge"].copy()
    broken[1, 1] = np.nan
    with np.errstate(all="ignore"):
        got = of(merge=broken)
    assert got == "merge", "merge holds NaN, which is not above a limit and not below it: ask for not error < limit"
    lost = {key: value for key, value in right.items() if key != "merge"}
    got = mine(dict(right), lost)
    assert got == "merge", f"the wrong run has no merge at all, as when it broke off there; yours is {got!r}"


@exercise("16.2", "your name, and the name of the fault")
def my_fault(mine):
    from ...truth.museum import assignment
    got = mine()
    assert isinstance(got, tuple) and len(got) == 2 and all(isinstance(word, str) for word in got), (
        f"two texts should come out, your name and the name of the fault, not {got!r}")
    name, fault = got
    assert name.strip(), "your name is empty; the fault is the one that belongs to it"
    try:
        remark = assignment(name).judge(fault)
    except ValueError as problem:
        raise AssertionError(str(problem)) from None
    assert not remark, remark

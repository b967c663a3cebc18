"""The exercises about wrong runs: lessons 15 and 16. The answer to 16.2 is marked by the name in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, trials

# ---- lesson 15

def row_and_error(value: Any, wanted: Any) -> tuple[int, float]:
    right = isinstance(value, tuple) and len(value) == 2
    assert right, f"two things should come out, (row, error), not {value!r}"
    return int(value[0]), float(value[1])


def about_the_row(got: tuple[int, float], wanted: tuple[int, float]) -> str:
    remarks = {4: "yours looks for the largest difference; divide by the length of the golden row, row "
               "by row",
               6: "row 6 is nearly nothing, and a grain on it counts as a mountain in yours: the "
               "divisor is at least a "
                  "tenth of the median length"}
    return remarks.get(got[0], f"should be row {wanted[0]} with the error {wanted[1]}, yours is row "
                       f"{got[0]} with {got[1]:.4g}")


@trials("15.1", "the number of a row and its error", row_and_error)
def worst_row() -> Iterator[Trial]:
    golden = np.random.default_rng(15).standard_normal((9, 4))
    golden[4] *= 20                                            # a long row
    golden[6] *= 1e-9                                          # nearly nothing
    candidate = golden.copy()
    candidate[2] += 0.5 * golden[2]                            # error 0.5
    candidate[4] += [4, 0, 0, 0]                               # the largest difference
    candidate[6] += 1e-7
    off, lengths = np.linalg.norm(candidate[2] - golden[2]), np.linalg.norm(golden, axis=1)
    yield Trial((candidate, golden), (2, 0.5), about_the_row, {
        "yours divides by the candidate's row; the golden one is the "
        "measure": (2, off / np.linalg.norm(candidate[2])),
        "yours divides by the length of the whole table; each row by its "
        "own": (2, off / np.linalg.norm(golden)),
        "that is the square of the error; the root is missing": (2, 0.25)})
    shift = 0.09 * np.median(lengths)                          # the same in every row
    errors = shift / np.maximum(lengths, 0.1 * np.median(lengths))
    yield Trial((golden + np.array([shift, 0, 0, 0]), golden), (int(errors.argmax()), errors.max()),
                "with the same difference in every row the worst row and its error are {wanted}, yours "
                "are {got}: a short row is measured against a tenth of the median length")
    for bad in (np.nan, np.inf):
        hole = candidate.copy()
        hole[7, 1] = bad
        yield Trial((hole, golden), (7, np.inf),
                    f"row 7 holds {bad}: it is the worst, with the error inf; yours is {{got}}")


PARENTS = {"pixels": [], "patches": ["pixels"], "tower": ["patches"], "merger": ["tower"], "words": [],
           "layer": ["words", "merger"], "logits": ["layer"]}
FORTH, BACK = list(PARENTS), list(reversed(PARENTS))


def errors_of(bad: dict[str, float], order: list[str]) -> tuple:
    """Errors of all stages in an order, their yardsticks of 0.001, and what each comes from."""
    errors = {name: bad.get(name, 1e-3) for name in order}
    return errors, dict.fromkeys(reversed(order), 1e-3), dict(PARENTS)


def name(value: Any, wanted: Any) -> Any:
    return value


@trials("15.2", "the name of a stage", name)
def first_bad() -> Iterator[Trial]:
    yield Trial(errors_of({"merger": 0.1, "layer": 0.5, "logits": 0.3}, BACK), "merger",
                "merger, layer and logits are bad, and layer comes from merger; yours is {got}", {
        "yours looks for the largest error; what comes from a bad stage is no news, however "
        "large": "layer",
        "yours takes the order of the dictionary; only `parents` says what comes first": "logits"})
    yield Trial(errors_of({"tower": 0.1, "logits": 0.2}, BACK), "tower",
                "tower and logits are bad; yours is {got}", {
        "tower is bad, merger and layer behind it are good, logits are bad again: they come from tower "
        "over the others; go on through good stages": "logits"})
    yield Trial(errors_of({"words": 0.1, "layer": 0.2}, FORTH), "words",
                "words and layer are bad, and layer comes from words; yours is {got}")
    yield Trial(errors_of({}, FORTH), "none",
                "no stage is more than 3 times its yardstick: the answer is 'none'")
    yield Trial(errors_of({"tower": 2.9e-3}, FORTH), "none",
                "an error of 2.9 times the yardstick is not bad")
    wide = dict.fromkeys(PARENTS, 1e-3) | {"logits": 0.1}
    yield Trial(({name: 2 * value for name, value in wide.items()}, wide, dict(PARENTS)), "none",
                "every stage has a yardstick of its own; yours compares with one number")


# ---- lesson 16

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
        "0.0001 on numbers of 1000 is rounding: divide the length of the difference by the length of "
        "the right array":
            "logits"})
    yield Trial(but(embed=right["embed"] * 1.01, logits=right["logits"] * 5), "embed",
                "embed is the first that differs, yours is {got}",
                {"yours looks for the largest error; what comes first in the run is asked": "logits"})
    yield Trial(but(rotate=(right["rotate"][0], right["rotate"][1] + 1), logits=right["logits"] * 2),
                "rotate",
                "the second array of rotate differs, yours is {got}",
                {"rotate gives two arrays, and its second one is wrong: look at every array of a "
                 "tuple": "logits"})
    yield Trial(but(merge=draw.standard_normal((4, 2))), "merge",
                "merge has another shape: that is wrong too; yours is {got}")
    broken = right["merge"].copy()
    broken[1, 1] = np.nan
    yield Trial(but(merge=broken), "merge",
                "merge holds NaN, which is not above a limit and not below it: ask for not error < "
                "limit")
    yield Trial((dict(right), {key: value for key, value in right.items() if key != "merge"}), "merge",
                "the wrong run has no merge at all, as when it broke off there; yours is {got}")


def judged(value: Any, wanted: Any) -> str:
    """The remark about a name and a fault; empty when the fault is the one that belongs to the name."""
    from ...truth.museum import assignment
    assert isinstance(value, tuple) and list(map(type, value)) == [str, str], (
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

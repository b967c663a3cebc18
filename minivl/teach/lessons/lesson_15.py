"""The checks of lesson 15: parity."""

from __future__ import annotations

import numpy as np

from .filing import exercise


@exercise("15.1", "the number of a row and its error")
def worst_row(mine):
    draw = np.random.default_rng(15)
    golden = draw.standard_normal((9, 4))
    golden[4] *= 20                                            # a long row
    golden[6] *= 1e-9                                          # nearly nothing
    candidate = golden.copy()
    candidate[2] += 0.5 * golden[2]                            # error 0.5
    candidate[4] += [4, 0, 0, 0]                               # the largest difference
    candidate[6] += 1e-7
    row, size = _answer(mine, candidate, golden)
    lengths = np.linalg.norm(golden, axis=1)
    assert row != 4, "yours looks for the largest difference; divide by the length of the golden row, row by row"
    assert row != 6, ("row 6 is nearly nothing, and a grain on it counts as a mountain in yours: the divisor is at "
                      "least a tenth of the median length")
    with np.errstate(all="ignore"):
        by_candidate = np.linalg.norm(candidate[2] - golden[2]) / np.linalg.norm(candidate[2])
    assert not np.isclose(size, by_candidate), "yours divides by the candidate's row; the golden one is the measure"
    by_all = np.linalg.norm(candidate[2] - golden[2]) / np.linalg.norm(golden)
    assert not np.isclose(size, by_all), "yours divides by the length of the whole table; each row by its own"
    assert not np.isclose(size, 0.25), "that is the square of the error; the root is missing"
    assert row == 2 and np.isclose(size, 0.5), f"should be row 2 with the error 0.5, yours is row {row} with {size:.4g}"
    wanted = 0.09 * np.median(lengths) / np.maximum(lengths, 0.1 * np.median(lengths))
    got = _answer(mine, golden + np.array([0.09 * np.median(lengths), 0, 0, 0]), golden)
    assert np.isclose(got[1], wanted.max()), (
        f"with the same difference in every row the worst error is {wanted.max():.4f}, yours is {got[1]:.4f}: a short "
        "row is measured against a tenth of the median length")
    for bad in (np.nan, np.inf):
        hole = candidate.copy()
        hole[7, 1] = bad
        with np.errstate(all="ignore"):
            got = _answer(mine, hole, golden)
        assert got == (7, np.inf), f"row 7 holds {bad}: it is the worst, with the error inf; yours is {got}"


def _answer(mine, candidate, golden) -> tuple[int, float]:
    got = mine(candidate, golden)
    assert isinstance(got, tuple) and len(got) == 2, f"two things should come out, (row, error), not {got!r}"
    return int(got[0]), float(got[1])


PARENTS = {"pixels": [], "patches": ["pixels"], "tower": ["patches"], "merger": ["tower"], "words": [],
           "layer": ["words", "merger"], "logits": ["layer"]}


@exercise("15.2", "the name of a stage")
def first_bad(mine):
    def of(bad: dict[str, float], order: list[str]) -> str:
        errors = {name: bad.get(name, 1e-3) for name in order}
        return mine(errors, dict.fromkeys(reversed(order), 1e-3), dict(PARENTS))
    forth, back = list(PARENTS), list(reversed(PARENTS))
    got = of({"merger": 0.1, "layer": 0.5, "logits": 0.3}, back)
    assert got != "layer", "yours looks for the largest error; what comes from a bad stage is no news, however large"
    assert got != "logits", "yours takes the order of the dictionary; only `parents` says what comes first"
    assert got == "merger", f"merger, layer and logits are bad, and layer comes from merger; yours is {got!r}"
    got = of({"tower": 0.1, "logits": 0.2}, back)
    assert got != "logits", ("tower is bad, merger and layer behind it are good, logits are bad again: they come from "
                             "tower over the others; go on through good stages")
    assert got == "tower", f"tower and logits are bad; yours is {got!r}"
    got = of({"words": 0.1, "layer": 0.2}, forth)
    assert got == "words", f"words and layer are bad, and layer comes from words; yours is {got!r}"
    assert of({}, forth) == "none", "no stage is more than 3 times its yardstick: the answer is 'none'"
    assert of({"tower": 2.9e-3}, forth) == "none", "an error of 2.9 times the yardstick is not bad"
    wide = dict.fromkeys(PARENTS, 1e-3) | {"logits": 0.1}
    got = mine({name: 2 * value for name, value in wide.items()}, wide, dict(PARENTS))
    assert got == "none", "every stage has a yardstick of its own; yours compares with one number"

"""minivl against the reference at every stage: integers equal, floats no further from the exact value.

Whole models are drawn (depth, widths, windows, heads, MRoPE sections, tied or not) with pictures, videos and text
in any order. A wrong pass fails here under its own name: stages are judged one by one, from the first on.

Read next: `comparison.py` (the bounds), `report.py` (the numbers as a table), `strategies.py` (what is drawn).
"""

import numpy as np
import pytest
from hypothesis import given

from .comparison import (
    ANGLES,
    EPS,
    LAST_DIGITS,
    Error,
    angles_of,
    arrays,
    errors,
    in_16_bits,
    integers_that_differ,
    minivl_trace,
    reference_traces,
    relative_l2,
)
from .strategies import FIXTURES, Case, cases, examples


def judged(case: Case, precision: str, stored: str = "bfloat16", **replace) -> list[Error]:
    """The errors of one run, after the checks that have no tolerance: the same stages, the same integers."""
    exact, theirs = reference_traces(case, precision, stored)
    ours = minivl_trace(case, precision, stored, angles_of(exact), **replace)
    assert set(ours) == set(exact), "minivl and the reference disagree on which stages there are"
    assert integers_that_differ(ours, exact) == []
    return errors(ours, exact, theirs, precision)


def too_far(table: list[Error]) -> list[Error]:
    return [row for row in table if not row.ours <= row.bound]


@pytest.mark.parametrize("name", FIXTURES)
def test_float32_is_within_5e_6_of_the_golden_value_at_every_stage(name):
    table = judged(FIXTURES[name], "float32")
    assert too_far(table) == []
    assert max(row.ours for row in table) < 5e-6


@examples(3)
@given(cases())
def test_float32_is_no_further_from_the_golden_value_than_the_reference(case):
    assert too_far(judged(case, "float32")) == []


@examples(6)
@given(cases())
def test_float32_checkpoints_too(case):
    assert too_far(judged(case, "float32", stored="float32")) == []


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FIXTURES)
def test_16_bits_are_no_further_from_the_golden_value_than_the_reference(name, precision):
    """Where the reference has no error (word embeddings, and what only moves them) minivl has none either."""
    table = judged(FIXTURES[name], precision)
    assert too_far(table) == []
    assert any(row.theirs == 0 for row in table)


@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 0.005), ("float16", 0.03)])
@pytest.mark.parametrize("name", FIXTURES)
def test_each_stage_by_itself_has_the_references_bits_in_16_bits(name, precision, share):
    """Every stage runs on what the *reference* had before it, so that nothing adds up and almost every number has to
    be the very same: this is what sees a cast in the wrong place, which drowns in the rounding of a whole run.

    A sum in another order rounds otherwise now and then. Attention is apart: the reference's fused one rounds its
    probabilities to 16 bits, minivl does not, so they differ by that one rounding.
    """
    _, theirs = reference_traces(FIXTURES[name], precision)
    ours = minivl_trace(FIXTURES[name], precision, going_on_with=in_16_bits(theirs, precision))
    for stage in in_16_bits(theirs, precision):
        for a, b in zip(arrays(ours[stage]), arrays(theirs[stage]), strict=True):
            if stage.endswith("attend"):
                assert relative_l2(a, b) < EPS[precision] / 2, stage
            elif stage in (*ANGLES, "vision.cos_sin"):               # float32 tables
                assert relative_l2(a, b) <= LAST_DIGITS, stage
            else:
                # the merger is two products in one stage, and a digit that the first rounds otherwise goes through the
                # second; processors with bfloat16 products of their own (AVX512-BF16) round more of them so
                room = 3 if stage.endswith("merge_2x2") else 1
                assert np.mean(a.astype(np.float32) != b) <= room * share, stage


@examples(6)
@given(cases())
def test_bfloat16_of_any_model(case):
    assert too_far(judged(case, "bfloat16")) == []


def test_an_error_of_three_millionths_is_seen_where_it_is_made():
    """The comparison itself. Bugs are a thousand times larger, rounding at this stage is a quarter of it."""
    def slightly_wrong(original):
        return lambda *args: original(*args) * np.float32(1 + 3e-6)

    table = judged(FIXTURES["ragged both ways"], "float32", replace={"vision.blocks.0.attend": slightly_wrong})
    assert too_far(table)[0].stage == "vision.blocks.0.attend"

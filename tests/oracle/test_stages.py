"""minivl against the reference at every stage: integers equal, floats no further from the exact value.

Whole models are drawn (depth, widths, windows, heads, MRoPE sections, tied or not) with pictures, videos and text
in any order. A wrong pass fails here under its own name: stages are judged one by one, from the first on.

Read next: `comparison.py` (the bounds), `report.py` (the numbers as a table), `strategies.py` (what is drawn).
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivl
from tests.kernels.cuda.machines import has_compiler

from .comparison import (
    ANGLES,
    EPS,
    LAST_DIGITS,
    Error,
    angles_of,
    arrays,
    checkpoint,
    errors,
    in_16_bits,
    integers_that_differ,
    minivl_inputs,
    minivl_trace,
    reference_traces,
    relative_l2,
)
from .strategies import FIXTURES, Case, cases, examples

# the CUDA kernels on the processor, where kernels can be compiled for it
on_runner = pytest.param("cuda-runner", marks=pytest.mark.skipif(not has_compiler(), reason="needs g++ or clang++"))
interpreters = pytest.mark.parametrize("kernels", ["definition", "jit", on_runner])


def judged(case: Case, precision: str, stored: str = "bfloat16", **replace) -> list[Error]:
    """The errors of one run, after the checks that have no tolerance: the same stages, the same integers."""
    exact, theirs = reference_traces(case, precision, stored)
    ours = minivl_trace(case, precision, stored, angles_of(exact), **replace)
    assert set(ours) == set(exact), "minivl and the reference disagree on which stages there are"
    assert integers_that_differ(ours, exact) == []
    return errors(ours, exact, theirs, precision)


def too_far(table: list[Error]) -> list[Error]:
    return [row for row in table if not row.ours <= row.bound]


@interpreters
@pytest.mark.parametrize("name", FIXTURES)
def test_float32_is_within_5e_6_of_the_golden_value_at_every_stage(name, kernels):
    table = judged(FIXTURES[name], "float32", kernels=kernels)
    assert too_far(table) == []
    assert max(row.ours for row in table) < 5e-6


@examples(3)
@given(cases())
def test_float32_is_no_further_from_the_golden_value_than_the_reference(case):
    assert too_far(judged(case, "float32")) == []


@examples(6)
@given(cases(), st.sampled_from(["bfloat16", "float32"]))
def test_compiled_float32_is_no_further_from_the_golden_value_than_the_reference(case, stored):
    """The bounds of the definitions, with weights of both kinds."""
    assert too_far(judged(case, "float32", stored, kernels="jit")) == []


@examples(6)
@given(cases())
def test_float32_checkpoints_too(case):
    assert too_far(judged(case, "float32", stored="float32")) == []


@pytest.mark.parametrize(("precision", "kernels"), [("bfloat16", "definition"), ("float16", "definition"),
                                                    ("bfloat16", "jit"), ("bfloat16", "cuda-runner")])
@pytest.mark.parametrize("name", FIXTURES)
def test_16_bits_are_no_further_from_the_golden_value_than_the_reference(name, precision, kernels):
    """Where the reference has no error (word embeddings, and what only moves them) minivl has none either."""
    table = judged(FIXTURES[name], precision, kernels=kernels)
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


@examples(6)
@given(cases())
def test_compiled_bfloat16_of_any_model(case):
    assert too_far(judged(case, "bfloat16", kernels="jit")) == []


@pytest.mark.parametrize("name", ["ragged both ways", "picture, video, picture"])
def test_float64_never_runs_compiled(name):
    """The other precisions are the definitions, on weights that were packed."""
    found = [minivl_trace(FIXTURES[name], "float64", kernels=kernels) for kernels in ("definition", "jit")]
    assert list(found[0]) == list(found[1])
    for stage in found[0]:
        for a, b in zip(arrays(found[0][stage]), arrays(found[1][stage]), strict=True):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), stage


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fused_kernels_are_the_same_program(precision):
    """A run that nobody looks into, where kernels may be one, and a run that gives every stage: the same logits within
    the last digits."""
    case = FIXTURES["picture, video, picture"]
    vlm = minivl.load(checkpoint(case), precision=precision, kernels="jit")
    inputs = minivl_inputs(case.inputs(), vlm.config, case.after_video)
    with minivl.session(record="*"):
        watched = vlm.logits(inputs)
    assert relative_l2(vlm.logits(inputs), watched.astype(np.float64)) <= 4 * EPS[precision]


def test_an_error_of_three_millionths_is_seen_where_it_is_made():
    """The comparison itself. Bugs are a thousand times larger, rounding at this stage is a quarter of it."""
    def slightly_wrong(original):
        return lambda *args: original(*args) * np.float32(1 + 3e-6)

    table = judged(FIXTURES["ragged both ways"], "float32", replace={"vision.blocks.0.attend": slightly_wrong})
    assert too_far(table)[0].stage == "vision.blocks.0.attend"

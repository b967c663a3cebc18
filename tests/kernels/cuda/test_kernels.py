"""Every kernel on every build of the runner: right numbers, no race, no step out of bounds, in several orders of
threads.

Cases (`cases/`) are seeded and ragged; Hypothesis draws further shapes for the kernels whose shapes have corners."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivl.kernels.cuda import sources
from minivl.kernels.cuda.device import Launcher, Processor

from .cases import BFLOAT16, FILES, FLOAT32, NAMES, wrong
from .cases.attention import attention_case
from .cases.decode_attention import decode_case
from .cases.gemv import gate_up_case, gemv_case
from .cases.norm import norm_case
from .cases.rotary import cache_case
from .machines import machine, needs_compiler

BUILDS = ("plain", "address", "check")
SCHEDULES = [
    (build, *order) for build in BUILDS for order in (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))
]
FIRST = {("plain", "random", 1), ("address", "reverse", 0), ("check", "random", 2)}  # one of each build


pytestmark = needs_compiler


def test_every_kernel_file_has_cases():
    assert tuple(name.removesuffix(".cu") for name in sources.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(one, id=" ".join(map(str, one)), marks=() if one in FIRST else pytest.mark.full)
        for one in SCHEDULES
    ],
)
def test_kernels_give_the_right_numbers(name, order):
    assert [said for case in FILES[name]() if (said := wrong(case, machine(*order)))] == []


def examples(few: int):
    return settings(max_examples=few, deadline=None, suppress_health_check=list(HealthCheck))


lengths = st.lists(st.tuples(st.integers(1, 70), st.sampled_from([0, 0, 1, 31, 40])), min_size=1, max_size=4)
builds = st.sampled_from(BUILDS)
types = st.sampled_from([FLOAT32, BFLOAT16])
heads_of = {48: (4, 2), 64: (3, 1), 80: (3, 3), 128: (2, 1)}
HEADS = {FLOAT32: (48, 80), BFLOAT16: (64, 128)}  # what cases compile; the others are marked full


@examples(9)
@given(
    builds,
    types,
    st.sampled_from([0, 1]),
    st.sampled_from(["naive", "tiled", "vectorised"]),
    lengths,
    st.booleans(),
    st.integers(0, 9),
)
def test_attention_of_any_segments(build, dtype, which, rung, segments, causal, seed):
    e = HEADS[dtype][which]
    case = attention_case(rung, dtype, e, heads_of[e], *zip(*segments, strict=True), causal, seed)
    assert not wrong(case, machine(build))


@examples(6)
@given(builds, st.sampled_from([48, 80, 128]), lengths, st.booleans(), st.integers(0, 9))
def test_attention_on_tensor_cores_of_any_segments(build, e, segments, causal, seed):
    case = attention_case("tensor", BFLOAT16, e, heads_of[e], *zip(*segments, strict=True), causal, seed)
    assert not wrong(case, machine(build))


@examples(6)
@given(
    builds,
    st.sampled_from([(FLOAT32, 48, (4, 2)), (BFLOAT16, 128, (8, 1))]),
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_decoding_of_any_conversations(build, kind, rows, splits, seed):
    assert not wrong(decode_case(*kind, tuple(rows), splits, seed), machine(build))


@examples(9)
@given(
    builds,
    st.sampled_from([(FLOAT32, "bf16"), (BFLOAT16, "bf16"), (BFLOAT16, "int8"), (FLOAT32, "int4")]),
    st.sampled_from(["naive", "warp", "vectorised"]),
    st.integers(1, 60),
    st.integers(1, 700),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 9),
)
def test_a_row_times_any_matrix(build, kind, rung, n, k, bias, residual, slices, seed):
    assert not wrong(gemv_case(rung, *kind, 1, n, k, seed, bias, residual, slices), machine(build))


@examples(4)
@given(builds, st.integers(1, 40), st.integers(1, 400), st.sampled_from([1, 2, 4, 8]), st.integers(0, 9))
def test_gate_and_up_of_any_matrix(build, n, k, slices, seed):
    assert not wrong(gate_up_case(FLOAT32, "bf16", 1, n, k, seed, slices=slices), machine(build))


@examples(4)
@given(builds, types, st.integers(1, 5), st.integers(1, 700), st.integers(0, 9))
def test_norms_of_any_rows(build, dtype, n, d, seed):
    assert not wrong(norm_case("block", dtype, n, d, seed), machine(build))


@examples(4)
@given(builds, st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_keys_go_to_their_rows_of_the_cache(build, n, kv, share, seed):
    assert not wrong(cache_case(FLOAT32, FLOAT32, 48, kv * share, kv, n, seed), machine(build))


def test_a_wrong_kernel_is_noticed():
    """The cases themselves: a key too many, a scale forgotten, a barrier left out."""
    changes = [
        ("attention", "min(t.k1, row + t.shift + 1)", "min(t.k1, row + t.shift + 2)", "plain"),
        ("swiglu", "rounded(gate / (1.f + expf(-gate)))", "(gate / (1.f + expf(-gate)))", "plain"),
        ("norm", "  __syncthreads();\n  int lane = threadIdx.x % WARP;", "  int lane = threadIdx.x % WARP;", "check"),
    ]
    for name, right, changed, build in changes:
        source = sources.text(f"{name}.cu")
        assert right in source
        text = source.replace(right, changed)
        broken = Launcher(Processor(build=build, schedule="random", seed=1, text=lambda file, text=text: text))
        assert any(fails(case, broken) for case in FILES[name]()), name


def fails(case, on: Launcher) -> bool:
    """Whether a case is wrong or the runner raises."""
    from minivl.kernels.cuda.faults import KernelFault

    try:
        return bool(wrong(case, on))
    except KernelFault:
        return True


def test_memory_that_nobody_wrote_is_noticed():
    """`empty` gives NaN, so that a number which a kernel forgets is one."""
    assert np.isnan(Processor().empty(3, np.float32)).all()

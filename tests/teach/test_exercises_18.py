"""The exercises of lesson 18, in CUDA C: right bodies in several styles are taken, the usual faults are named with the
student's line, and what was not run is not right. The GPU ladder says what the plan says."""

import importlib

import numpy as np
import pytest

import minivl
from minivl.door.errors import ArgumentError
from minivl.kernels.cuda import build
from minivl.teach import gpu_ladder
from minivl.teach.check import check
from minivl.teach.lessons import threads
from tools.gpu_check import plan

from ..kernels.cuda.runs import needs_compiler

SUM = "for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);"
NORM = f"""
  __shared__ float parts[2];
  const float* row = x + blockIdx.x * d;
  float sum = 0.f;
  for (int i = threadIdx.x; i < d; i += 64) sum += row[i] * row[i];
  {SUM}
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  float turn = 1.f / sqrtf((parts[0] + parts[1]) / d + eps);
  for (int i = threadIdx.x; i < d; i += 64) y[blockIdx.x * d + i] = row[i] * turn * w[i];
"""
TREE = """
  __shared__ float parts[64];
  int t = threadIdx.x;
  parts[t] = 0.f;
  for (int i = t; i < d; i += 64) parts[t] += x[blockIdx.x * d + i] * x[blockIdx.x * d + i];
  for (int step = 32; step > 0; step /= 2) {
    __syncthreads();
    if (t < step) parts[t] += parts[t + step];
  }
  __syncthreads();
  for (int i = t; i < d; i += 64) y[blockIdx.x * d + i] = x[blockIdx.x * d + i] * rsqrtf(parts[0] / d + eps) * w[i];
"""
PRODUCT = f"""
  __shared__ float tile[32];
  int row = blockIdx.x * 4 + threadIdx.y, t = threadIdx.x;
  float sum = 0.f;
  for (int k0 = 0; k0 < k; k0 += 32) {{
    __syncthreads();
    if (threadIdx.y == 0) tile[t] = k0 + t < k ? x[k0 + t] : 0.f;
    __syncthreads();
    if (row < n && k0 + t < k) sum += w[row * k + k0 + t] * tile[t];
  }}
  {SUM}
  if (row < n && t == 0) y[row] = sum;
"""
MERGE = """
  const float* its = most + blockIdx.x * splits;
  float largest = its[0], whole = 0.f;
  for (int s = 1; s < splits; s++) largest = fmaxf(largest, its[s]);
  for (int s = 0; s < splits; s++) whole += expf(its[s] - largest) * total[blockIdx.x * splits + s];
  for (int c = threadIdx.x; c < e; c += 32) {
    float sum = 0.f;
    for (int s = 0; s < splits; s++) sum += expf(its[s] - largest) * sums[(blockIdx.x * splits + s) * e + c];
    y[blockIdx.x * e + c] = sum / whole;
  }
"""
FIRST = "    __syncthreads();\n    if (threadIdx.y"
ANSWERS = {"18.1": NORM, "18.2": PRODUCT, "18.3": MERGE}


def body(text):
    """A student's function that gives a text."""
    return lambda: text


@needs_compiler
@pytest.mark.parametrize(("number", "text"), [*ANSWERS.items(), ("18.1", TREE)])
def test_right_bodies_are_taken(number, text, capsys):
    minivl.check(number, body(text))
    assert capsys.readouterr().out == f"exercise {number}: right\n"


FAULTS = [
    ("18.1", "  __syncthreads();\n", "", r"thread 0 of block 0 reads parts\[1\], which nobody wrote(?s:.*)>    8 \|"),
    ("18.2", FIRST, "    if (threadIdx.y", r"race, line 8 of matrix_vector.cu"),
    ("18.2", "  float sum", "  if (row >= n) return;\n  float sum", r"deadlock:\n  block 1 waits for ever"),
    ("18.3", "sum / whole", "sum", "not divided by the total"),
]
MORE = [
    ("18.1", "i < d; i += 64) y", "i <= d; i += 64) y", r"reads w\[150\], and argument 'w' has 150 elements"),
    ("18.1", "float sum", "flaot sum", r"it does not compile:(?s:.*)norm_of_rows.cu:4:.*'flaot'"),
    ("18.1", "/ d + eps", "/ d", "eps is missing"),
    ("18.1", "/ d + eps", "+ eps", "sum of squares instead of their mean"),
    ("18.1", " * w[i]", "", "the weight is missing"),
    ("18.1", "parts[0] + parts[1]", "parts[0]", "the sums of one warp only"),
    ("18.1", "i += 64) sum", "i += d) sum", "only the first 64 numbers"),
    ("18.1", "(parts[0] + parts[1])", "own", "each thread divides by its own sum"),
    ("18.2", " : 0.f", " : x[k0 + t]", r"reads x\[75\], and argument 'x' has 75 elements"),
    ("18.2", "32) {", "32) {\n    sum = 0.f;", "only the last tile is left"),
    ("18.2", "k0 < k;", "k0 + 31 < k;", "behind the last whole tile"),
    ("18.2", "k0 < k;", "k0 < 32;", "only the first tile is summed"),
    ("18.2", "k ? x[k0 + t]", "k ? x[t]", "every tile has the first 32 numbers"),
    ("18.3", "its[s] - largest", "its[s]", "exp overflows on large scores"),
    ("18.3", "expf(its[s] - largest)", "1.f", "totals and sums were formed with another largest"),
    ("18.3", "whole += expf(its[s] - largest) *", "whole +=", "the totals are not scaled"),
    ("18.3", "s < splits", "s < 1", "that is the first split alone"),
    ("18.3", "c += 32", "c += 64", "heads wider than a warp"),
]


def test_a_fault_changes_its_body():
    assert [old for number, old, _, _ in FAULTS + MORE if old not in ANSWERS[number]] == []


@needs_compiler
@pytest.mark.parametrize(("number", "old", "new", "remark"), [
    *FAULTS, *(pytest.param(*fault, marks=pytest.mark.full) for fault in MORE)])
def test_a_check_names_the_fault(number, old, new, remark):
    text = ANSWERS[number].replace(old, new)
    if new == "own":
        text = text.replace("  for (int step", "  float own = sum;\n  for (int step")
    with pytest.raises(AssertionError, match=rf"(?i)exercise {number}: (?s:.*){remark}"):
        minivl.check(number, body(text))


@pytest.mark.parametrize(("answer", "remark"), [
    (None, "fill it in and return the body"), (7, "a text, not int"),
    ('extern "C" __global__ void norm_of_rows() {}', "give the body alone")])
def test_what_is_no_body_is_refused(answer, remark):
    with pytest.raises(AssertionError, match=f"exercise 18.1: .*{remark}"):
        minivl.check("18.1", body(answer))


def test_without_a_compiler_an_answer_is_not_checked_and_not_right(monkeypatch, capsys):
    build.compiler.cache_clear()
    monkeypatch.setenv("MINIVL_CXX", "no-such-compiler")
    try:
        with pytest.raises(AssertionError, match="exercise 18.1: not checked: .*no-such-compiler is not here"):
            minivl.check("18.1", body(NORM))
        assert "not run: " in gpu_ladder.climb("matrix_vector") and capsys.readouterr().out == ""
    finally:
        build.compiler.cache_clear()


@needs_compiler
def test_a_body_is_graded_under_another_rule_as_the_stage_that_it_is():
    assert "own rule" in check("rms_norm", threads.as_rms_norm(body(NORM)), variant="Ada").message
    assert check("rms_norm", threads.as_rms_norm(body(NORM)), seconds=20)


# ---- the ladder

@needs_compiler
@pytest.mark.parametrize("name", gpu_ladder.LADDERS)
def test_every_rung_is_right_on_the_runner(name):
    assert [said for _, said in gpu_ladder.climbed(name)] == ["right"] * len(gpu_ladder.ladder(name).rungs)


@needs_compiler
def test_a_wrong_rung_is_told(monkeypatch):
    device = importlib.import_module("minivl.kernels.cuda.device")
    text = device.sources.text

    def wrong(name):
        return text(name).replace("i < k; i++) sum +=", "i < k - 1; i++) sum +=").replace(
            "for (int i = lane; i < k; i", "for (int i = lane; i <= k; i")
    monkeypatch.setattr(device.Processor.__init__, "__defaults__", ("plain", "forward", 0, 2, wrong))
    naive, warp, vectorised = (said for _, said in gpu_ladder.climbed("matrix_vector"))
    assert naive.startswith("WRONG: off by") and "out of bounds in 'gemv_warp'" in warp and vectorised == "right"


@pytest.mark.parametrize("rung", ["naive", "warp", "vectorised"])
def test_the_ladders_work_on_a_matrix_is_the_plans(rung):
    planned = plan.gemv(f"gemv_{rung}", 11008, 2048)
    assert gpu_ladder.work("matrix_vector", rung) == (planned.bytes, planned.flops)


def test_the_ladders_work_on_attention_is_the_plans_where_each_head_has_its_keys():
    """The plan counts what must move once; a rung that has all queries in one tile asks for just that."""
    for rung, tile in gpu_ladder.QUERIES.items():
        planned = plan.attention(f"attend_{rung}", tile, 4, 4, 80, tile, False)
        assert gpu_ladder.work("attention", rung, tile, 4, 4, 80) == (planned.bytes, planned.flops)
    naive, tiled = (gpu_ladder.work("attention", rung, 320, 4, 2, 80) for rung in ("naive", "tiled"))
    rows = 2 * 2 * 320 * 4 * 80                                            # q and o
    assert naive.bytes - rows == 32 * (tiled.bytes - rows) and naive.operations == tiled.operations


def test_a_rung_is_found_in_its_file_and_another_name_is_refused():
    for of in gpu_ladder.LADDERS.values():
        for rung in of.rungs:
            text = gpu_ladder.source(rung.kernel)
            assert text.count("__global__") == 1 and text.count("{") == text.count("}")
    for call in (lambda: gpu_ladder.climb("gemm"), lambda: gpu_ladder.source("gemv_fast"),
                 lambda: gpu_ladder.work("attention", "warp")):
        with pytest.raises(ArgumentError):
            call()


def test_the_least_time_is_that_of_the_slower_of_memory_and_products():
    work = gpu_ladder.Work(1000, 5000)
    assert work.least(10.0, 1000.0) == 100 and np.isclose(work.least(1000.0, 10.0), 500) and work.intensity == 5

"""`check` and `minivl cuda check`: what somebody who writes a kernel is told."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minivl.door.errors import ArgumentError
from minivl.kernels.cuda import check, checking

from .runs import needs_compiler

pytestmark = needs_compiler
HEAD = """// Each row of 64 in reverse.
//: flip<<<rows, 64>>>
//: rows = 2
//: x = rng.normal(size=128)
//: y = np.full(128, np.nan)
//: y == x.reshape(2, 64)[:, ::-1].reshape(-1)
"""
BODY = """extern "C" __global__ void flip(const float* x, float* y) {
  __shared__ float tile[64];
  int t = threadIdx.x;
  tile[t] = x[blockIdx.x * 64 + t];
  BARRIER
  y[blockIdx.x * 64 + t] = tile[63 - t];
}
"""
RIGHT = HEAD + BODY.replace("BARRIER", "__syncthreads();")
RACY = HEAD + BODY.replace("BARRIER", "")


def test_a_right_kernel_is_said_to_be_right():
    verdict = check(RIGHT, name="flip.cu")
    assert verdict.ok and verdict.compared == 1
    assert str(verdict).startswith(f"flip of flip.cu: nothing is wrong in {len(checking.RUNS)} runs")


def test_a_missing_barrier_is_told_with_the_line_and_what_it_does_to_the_numbers():
    verdict = check(RACY, name="flip.cu")
    first, second = verdict.findings
    assert (first.kind, first.line) == ("uninitialised shared memory", 12)
    assert first.runs == ["check forward", "check random 1"]
    assert second.kind == "wrong" and "y[0] is nan, should be" in second.words
    assert "of 128 elements of y are" in second.words
    said = str(verdict)
    assert "2 things are wrong" in said and "  >   12 |   y[blockIdx.x * 64 + t] = tile[63 - t];" in said
    assert "thread 0 of block 0 reads tile[63], which nobody wrote" in said


@pytest.fixture
def few(monkeypatch):
    """Two runs where all would say the same."""
    monkeypatch.setattr(checking, "RUNS", (("check", "forward", 0), ("plain", "random", 1)))


@pytest.mark.usefixtures("few")
def test_a_wrong_number_is_told_with_its_place():
    verdict = check(RIGHT.replace("tile[63 - t]", "tile[62 - t + (t == 63)]"), name="flip.cu")
    assert [one.kind for one in verdict.findings] == ["wrong"] and "62 of 128" not in str(verdict)
    assert "y[0] is" in str(verdict) and len(verdict.findings[0].runs) == len(checking.RUNS)


@pytest.mark.usefixtures("few")
def test_the_same_is_said_in_python(tmp_path):
    x = np.arange(128.0)
    y = x.reshape(2, 64)[:, ::-1].reshape(-1)
    code = RIGHT.replace("//:", "//")
    assert check(code, "flip", (2,), (64,), {"x": x, "y": 0 * x}, {"y": y}).ok
    wrong = check(code, "flip", (2,), (64,), {"x": x, "y": 0 * x}, {"y": y + (x == 5)})
    assert "y[5] is 58, should be 59; 1 of 128 elements of y are wrong" in str(wrong)
    path = tmp_path / "flip.cu"
    path.write_text(RIGHT, encoding="utf-8")
    assert check(path, block=(32,)).findings[0].kind == "uninitialised shared memory"


@pytest.mark.usefixtures("few")
def test_values_take_the_types_of_the_kernel():
    code = """
//: mixed<<<1, 32, 128>>>
//: x = np.linspace(-3, 3, 32)
//: h = np.linspace(-3, 3, 32)
//: b = np.arange(32)
//: n = 32
//: s = 0.5
//: y = np.zeros(32)
//: y == 0.5 * x + b
extern "C" __global__ void mixed(const __nv_bfloat16* x, const __half* h, const signed char* b, int n, float s,
                                 __nv_bfloat16* y) {
  extern __shared__ float room[];
  int t = threadIdx.x;
  room[t] = __bfloat162float(x[t]) + 0.f * __half2float(h[t]);
  if (t < n) y[t] = __float2bfloat16(s * room[t] + b[t]);
}
"""
    assert check(code).ok, str(check(code))
    assert not check(code.replace("s * room[t]", "s + room[t]")).ok


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("change, words", [
    (("//: x = rng.normal(size=128)\n", ""), "//: y == x.reshape(2, 64)[:, ::-1].reshape(-1): NameError"),
    (("//: y = np.full(128, np.nan)\n", ""), "flip takes y, which no value is given for: write //: y = ..."),
    (("//: flip<<<rows, 64>>>\n", ""), "say how it is launched, in its first lines, as //: kernel<<<"),
    (("flip<<<rows, 64>>>", "flip<<<none, 64>>>"), "//: flip<<<none, 64>>>: NameError"),
    (("//: rows = 2", "//: print(rows)"), "//: print(rows): ArgumentError: it is neither `name = value` nor"),
    (("flip<<<rows", "flop<<<rows"), "there is no kernel 'flop': this text defines 'flip'")])
def test_what_is_missing_in_the_first_lines_is_said(change, words):
    with pytest.raises(ArgumentError) as refused:
        check(RIGHT.replace(*change), name="flip.cu")
    assert words in str(refused.value)


@pytest.mark.usefixtures("few")
def test_of_several_launches_one_is_chosen():
    code = RIGHT + RIGHT.replace("flip", "flap").replace("tile[63 - t]", "tile[t]")
    assert check(code).ok and not check(code, "flap").ok


def command(*words):
    return subprocess.run([sys.executable, "-m", "minivl.cli", "cuda", "check", *map(str, words)], capture_output=True,
                          encoding="utf-8", timeout=300)


def test_the_command_tells_the_same_and_its_code_says_whether_all_is_well(tmp_path):
    good, bad = tmp_path / "good.cu", tmp_path / "bad.cu"
    good.write_text(RIGHT, encoding="utf-8")
    bad.write_text(RACY, encoding="utf-8")
    done = command(good)
    assert done.returncode == 0 and "nothing is wrong" in done.stdout, done.stderr
    done = command(bad, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and not found["ok"] and found["findings"][0]["line"] == 12
    done = command(good, "--block", "64,1,1,1")
    assert done.returncode == 2 and "--block is one to three whole numbers" in done.stderr
    assert command(tmp_path / "none.cu").returncode == 2

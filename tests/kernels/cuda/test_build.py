"""Compiled kernels are kept and shared by processes; a text that does not compile is refused with its own lines;
sources are found and put together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.door.errors import ArgumentError, MissingFile
from minivl.kernels.cuda import build, machine, sources
from minivl.kernels.cuda.runner import RawModule

from .runs import PLANTED, needs_compiler

ROOT = Path(minivl.__file__).parent.parent
DOUBLE = 'extern "C" __global__ void twice(float* y) {\n  y[threadIdx.x] *= 2;\n}\n'


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder of compiled code with nothing in it."""
    monkeypatch.setenv("MINIVL_CACHE", str(tmp_path))
    for kept in (build.place, build.machine, build.server):
        kept.cache_clear()
    yield tmp_path / "kernels" / "cuda"
    for kept in (build.place, build.machine, build.server):
        kept.cache_clear()


def doubled(code=DOUBLE, **more):
    y = np.arange(32, dtype=np.float32)
    RawModule(code, **more).get_function("twice")((1,), (32,), (y,))
    return y.tolist()


@needs_compiler
def test_a_text_is_compiled_once(empty, monkeypatch):
    right = [2.0 * i for i in range(32)]
    assert doubled() == right
    kept = {path.name: path.stat().st_mtime_ns for path in empty.iterdir()}
    assert sorted(name.partition("-")[2] for name in kept) == ["kernel.o", "kernel.so", "machine.o"]
    monkeypatch.setattr(build.subprocess, "run", lambda *args, **more: pytest.fail("the compiler ran"))
    assert build.built(DOUBLE, "file.cu", "plain").is_file()
    assert {path.name: path.stat().st_mtime_ns for path in empty.iterdir()} == kept


@needs_compiler
def test_another_text_flag_or_build_is_another_file(empty):
    paths = {build.built(DOUBLE, "file.cu", "plain"), build.built(DOUBLE + " ", "file.cu", "plain"),
             build.built(DOUBLE, "other.cu", "plain"), build.built(DOUBLE, "file.cu", "check"),
             build.built(DOUBLE, "file.cu", "plain", ("-DN=1",))}
    assert len(paths) == 5 and all(path.parent == empty for path in paths)
    assert build.built(DOUBLE, "file.cu", "plain", ("--use_fast_math",)) in paths      # only definitions count


@needs_compiler
def test_definitions_stand_behind_the_runners_own_headers():
    """Whose names are no kernel's business: N, M, T."""
    code = DOUBLE.replace("*= 2", "*= N * (M + TWO + T)")
    assert doubled(code, options=("-DN=2", "-DT=0", "-DM=-TWO", "-DTWO=(1+0)", "-DK")) == [0.0] * 32
    assert doubled(code, options=("-DN=2", "-DT=1", "-DM=0", "-DTWO=0", "-DK")) == [2.0 * i for i in range(32)]


@needs_compiler
def test_several_processes_build_at_once(tmp_path):
    code = ("import numpy as np\nfrom minivl.kernels.cuda.runner import RawModule\n"
            f"y = np.arange(32, dtype=np.float32)\nm = RawModule({DOUBLE!r}, build='check')\n"
            "m.get_function('twice')((1,), (32,), (y,))\nprint(y.sum())")
    env = {**os.environ, "MINIVL_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0 and float(out) == 992, err.decode()
    left = sorted(path.name.partition("-")[2] for path in (tmp_path / "kernels" / "cuda").iterdir())
    assert left == ["kernel.o", "kernel.so", "machine.o", "memory.o"]


@needs_compiler
def test_without_a_place_to_keep_it_a_process_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVL_CACHE", "off")
    build.place.cache_clear()
    try:
        assert doubled() == [2.0 * i for i in range(32)]
        assert "minivl-cuda-" in str(build.place())
    finally:
        build.place.cache_clear()


@needs_compiler
def test_a_file_of_another_runner_is_refused(monkeypatch):
    path = build.built(DOUBLE, "file.cu", "plain")
    monkeypatch.setattr(machine, "Report", machine.Launch)
    with pytest.raises(minivl.Error, match="was built by another version of the runner; empty the folder"):
        machine.loaded(path)


@needs_compiler
def test_a_text_that_does_not_compile_is_refused_with_its_own_lines():
    wrong = DOUBLE.replace("*= 2", "*= two")
    with pytest.raises(build.BuildError, match=r"twice.cu:2:\d+: error: .*two.* was not declared"):
        RawModule(wrong, name="twice.cu")
    with pytest.raises(build.BuildError, match="under #ifdef MINIVL_CPU"):
        RawModule('extern "C" __global__ void k(float* y) { float z; asm("mov.f32 %0, 1.0;" : "=f"(z)); *y = z; }')


def test_no_compiler_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setenv("MINIVL_CXX", "no-such-compiler")
    with pytest.raises(build.NoCompiler, match="no-such-compiler is not here: apt install g\\+\\+"):
        build.compiler_path()
    monkeypatch.setattr(build.sys, "platform", "darwin")
    with pytest.raises(build.NoCompiler, match="on macOS a Linux container"):
        build.compiler_path()


# ---- reading a text

def test_kernels_are_found_with_their_bounds_and_parameters():
    code = '''
/* extern "C" __global__ void in_a_comment(int a) */
// __global__ void in_a_line(int a)
extern "C" __global__ void
__launch_bounds__(WARPS * 32, 2)
first(const float* __restrict__ x, unsigned short *y, int n, float scale) {}
extern "C" __global__ void __launch_bounds__(size(3)) second() {}
template <class T> __global__ void none(T* x) {}
__global__ __launch_bounds__(64) void third(float4* out) {}
'''
    found = {kernel.name: kernel for kernel in build.kernels_of(code)}
    assert list(found) == ["first", "second", "third"]
    assert found["first"].bounds == "WARPS * 32" and found["first"].parameters == ("x", "y", "n", "scale")
    assert found["second"].bounds == "size(3)" and found["second"].parameters == ()
    assert found["third"].bounds == "64" and found["third"].parameters == ("out",)


def test_lines_stay_where_they_are():
    text = build.translated(PLANTED, "planted.cu")
    _, _, body = text.partition('#line 1 "planted.cu"\n')
    assert [line for line in body.splitlines()[:len(PLANTED.splitlines())] if "extern __shared__" in line] == []
    for number, line in enumerate(PLANTED.splitlines()):
        assert "extern __shared__" in line or body.splitlines()[number] == line


def test_elements_of_shared_arrays_are_known_by_their_type():
    sizes, dynamic = build.shared_of(
        "__shared__ unsigned short a[4], b[2][3]; __shared__ __align__(16) float4 c[2];\n"
        "extern __shared__ __nv_bfloat16 room[]; __shared__ Thing d[2]; __shared__ unsigned long long e;")
    assert sizes == {"a": 2, "b": 2, "c": 16, "room": 2, "d": 0, "e": 8} and dynamic == ("room", 2)


# ---- sources

def test_the_headers_of_a_kernel_stand_in_its_text(tmp_path):
    (tmp_path / "own.cuh").write_text("#pragma once\nint in_header;\n", encoding="utf-8")
    code = 'int before;\n#include "own.cuh"\n#include <cuda_bf16.h>\n#include "own.cuh"\nint after;\n'
    text = sources.inlined(code, tmp_path / "k.cu")
    assert text.count("int in_header;") == 1 and "pragma once" not in text and "#include <cuda_bf16.h>" in text
    assert text.startswith('int before;\n#line 1 "own.cuh"\n') and '#line 3 "k.cu"\n#include <cuda_bf16.h>' in text
    with pytest.raises(MissingFile, match="includes 'none.cuh', which does not lie beside it"):
        sources.inlined('#include "none.cuh"\n', tmp_path / "k.cu")


def test_the_sources_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch):
    assert sources.folder() == ROOT / "cuda" and (sources.host() / "machine.cpp").is_file()
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "machine.h").touch()
    (tmp_path / "some.cu").write_text("// some\n", encoding="utf-8")
    monkeypatch.setattr(sources, "PACKED", tmp_path)
    assert sources.names() == ["some.cu"] and sources.text("some.cu") == "// some\n"
    with pytest.raises(MissingFile, match="there is no such kernel file; there are some.cu"):
        sources.text("other.cu")
    monkeypatch.setattr(sources, "PACKED", tmp_path / "none")
    monkeypatch.setattr(sources, "CHECKOUT", tmp_path / "none")
    with pytest.raises(MissingFile, match="holds no CUDA sources; install minivl anew"):
        sources.folder()


def test_a_build_that_there_is_none_of_is_refused():
    with pytest.raises(ArgumentError, match="build must be 'plain' or 'address' or 'check', got 'fast'"):
        build.flags_of("fast")

"""Every kernel for every generation of cards: no spills, no stack frame, registers under a ceiling; and once through the
compiler that CuPy calls."""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path

import pytest

from minivl.kernels.cuda import sources
from tools.gpu_check import cubins

needs_nvcc = pytest.mark.skipif(cubins.nvcc() is None, reason="needs nvcc: a CUDA toolkit, or pip install nvidia-cuda-nvcc "
                                                              "nvidia-cuda-cccl")
ONE_OF_EACH = {one.file: one for one in reversed(cubins.variants())}


@needs_nvcc
@pytest.mark.parametrize("one", cubins.variants(), ids=lambda one: one.name)
def test_nothing_is_spilled_and_registers_stay_under_their_ceiling(one):
    rows = cubins.built(one)
    archs = {row.arch for row in rows}
    assert archs == {arch for arch in cubins.ARCHS if one.file != "attention_tensor" or arch >= cubins.TENSOR_FROM}
    assert cubins.broken(rows) == []


def test_every_kernel_has_a_ceiling_and_every_file_a_variant():
    assert {one.file for one in cubins.variants()} == {name.removesuffix(".cu") for name in sources.names()}
    assert {name for one in cubins.variants() for name in cubins.sources_of(one)} == set(cubins.CEILINGS)


def test_what_breaks_the_rules_is_told():
    one = cubins.variant("gemv", ROWS=1)
    rows = [cubins.Built(one, "gemv_warp", 90, 500, 8, 16), cubins.Built(one, "gemv_warp", 80, 20, 0, 0)]
    assert cubins.broken(rows) == ["gemv_warp (gemv ROWS=1, sm_90): 16 bytes spilled, a stack frame of 8",
                                   "gemv_warp (gemv ROWS=1, sm_90): 500 registers, at most 80"]
    with pytest.raises(RuntimeError, match="told of"):
        cubins.read(one, "nothing")


# ------------------------------------------------------------------------------------ as CuPy compiles it

def nvrtc() -> ctypes.CDLL | None:
    """The library that CuPy compiles with, from a toolkit or from pip."""
    places = [*Path("/usr/local/cuda/lib64").glob("libnvrtc.so.*"),
              *Path(sysconfig.get_path("purelib")).glob("nvidia/*/lib/libnvrtc.so.*"),
              *(place for path in __import__("sys").path for place in Path(path).glob("nvidia/*/lib/libnvrtc.so.*"))]
    for place in places:
        try:
            return ctypes.CDLL(str(place))
        except OSError:
            continue
    return None


def headers() -> list[str]:
    """Folders in which the compiler finds cuda_bf16.h and mma.h."""
    compiler = cubins.nvcc()
    found = [Path("/usr/local/cuda/include"), *([Path(compiler).resolve().parent.parent / "include"] if compiler else [])]
    return [f"--include-path={folder}" for folder in found if (folder / "mma.h").exists()]


def compiled(source: str, options: list[str]) -> str:
    """What NVRTC says of a text: nothing when it compiles."""
    library, program = nvrtc(), ctypes.c_void_p()
    assert library is not None
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed, size = library.nvrtcCompileProgram(program, len(options), words), ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() if failed else ""


@pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: a CUDA toolkit, or pip install nvidia-cuda-nvrtc")
@pytest.mark.parametrize("one", ONE_OF_EACH.values(), ids=lambda one: one.name)
def test_the_compiler_of_cupy_takes_it(one):
    if one.file == "attention_tensor" and not headers():
        pytest.skip("mma.h is not here: pip install nvidia-cuda-runtime nvidia-cuda-crt")
    options = ["--gpu-architecture=compute_80", "-std=c++17", *headers(), *(f"-D{key}={value}" for key, value in one.defines)]
    assert compiled(sources.text(f"{one.file}.cu"), options) == ""


@pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: a CUDA toolkit, or pip install nvidia-cuda-nvrtc")
def test_what_does_not_compile_is_told():
    assert "expected" in compiled("__global__ void wrong( {", ["--gpu-architecture=compute_80"])

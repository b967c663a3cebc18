"""CUDA's own compilers, where they are: what they say of a kernel, and what they refuse. No GPU is needed."""

import subprocess
from pathlib import Path

import pytest

from minivl.kernels.cuda import build, compilers
from minivl.kernels.cuda.compilers import CARDS, NoToolkit, Usage

CODE = """#include <cuda_bf16.h>
extern "C" __global__ void __launch_bounds__(128) mirror(const __nv_bfloat16* x, float* y) {
  __shared__ float line[128];
  line[threadIdx.x] = __bfloat162float(x[threadIdx.x]);
  __syncthreads();
  y[threadIdx.x] = line[127 - threadIdx.x];
}
extern "C" __global__ void spilling(float* y, int n) {
  float own[256];
  for (int i = 0; i < 256; i++) own[i] = y[i];
  y[n] = own[n];
}
"""


def there(find):
    try:
        find()
    except NoToolkit:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not there(compilers.nvcc), reason=f"needs nvcc: {compilers.INSTALL}")
needs_nvrtc = pytest.mark.skipif(not there(compilers.nvrtc), reason=f"needs NVRTC: {compilers.INSTALL}")


@needs_nvcc
def test_nvcc_tells_what_a_kernel_takes_on_each_card():
    found = compilers.usage("mirror.cu", CODE, (75, 90))
    assert set(found) == {(name, card) for name in ("mirror", "spilling") for card in (75, 90)}
    for card in (75, 90):
        mirror, spilling = found["mirror", card], found["spilling", card]
        assert 4 <= mirror.registers <= 32 and mirror.stack == mirror.spills == 0 and mirror.shared == 512
        assert spilling.stack >= 1024                          # an array that a register file cannot hold


@needs_nvcc
def test_what_was_compiled_is_kept(monkeypatch):
    first = compilers.usage("mirror.cu", CODE, (75, 90))
    monkeypatch.setattr(compilers, "compiled", lambda *args: pytest.fail("nvcc ran"))
    assert compilers.usage("mirror.cu", CODE, (75, 90)) == first


@needs_nvcc
def test_what_nvcc_refuses_is_said_with_its_line():
    with pytest.raises(build.BuildError, match=r'nvcc refuses k.cu:\n.*k.cu\(1\): error: identifier "two"'):
        compilers.usage("k.cu", 'extern "C" __global__ void k(float* y) { *y = two; }', (80,))


@needs_nvrtc
def test_nvrtc_compiles_as_cupy_does():
    assert compilers.through_nvrtc("mirror.cu", CODE)[:4] == b"\x7fELF"
    with pytest.raises(build.BuildError, match=r'NVRTC refuses k.cu:\n.*identifier "two" is undefined'):
        compilers.through_nvrtc("k.cu", 'extern "C" __global__ void k(float* y) { *y = two; }')


def test_the_words_of_ptxas_are_read():
    said = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_75'
ptxas info    : Function properties for a
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 128 bytes smem, 368 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_120'
ptxas info    : Function properties for b
    40 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""
    rows = {(name, card): Usage(int(registers), int(stack), int(stores) + int(loads), compilers.shared(rest))
            for name, card, stack, stores, loads, registers, rest in compilers.SAID.findall(said)}
    assert rows == {("a", "75"): Usage(12, 0, 0, 128), ("b", "120"): Usage(255, 40, 20, 0)}
    assert CARDS == (75, 80, 86, 89, 90, 100, 120)


def toolkit(folder: Path) -> Path:
    """A folder that looks like CUDA's toolkit."""
    for name in ("bin/nvcc", "lib64/libnvrtc.so.13", "include/cuda_bf16.h"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.1, V13.1.5'\n", encoding="utf-8")
        path.chmod(0o755)
    return folder


@pytest.fixture
def fresh():
    for kept in (compilers.nvcc, compilers.nvrtc):
        kept.cache_clear()
    yield
    for kept in (compilers.nvcc, compilers.nvrtc):
        kept.cache_clear()


def test_a_toolkit_is_found_where_its_variable_points(tmp_path, monkeypatch, fresh):
    home = toolkit(tmp_path / "cuda 13")
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert compilers.nvcc() == home / "bin" / "nvcc" and compilers.version_of(compilers.nvcc()) == "13.1"
    assert compilers.nvrtc() == home / "lib64" / "libnvrtc.so.13"
    assert compilers.headers(compilers.nvrtc()) == [home / "include"]


def test_without_a_toolkit_the_command_that_brings_it_is_said(monkeypatch, fresh):
    monkeypatch.setattr(compilers, "homes", lambda: iter(()))
    monkeypatch.setattr(compilers.shutil, "which", lambda name: None)
    for find in (compilers.nvcc, compilers.nvrtc):
        with pytest.raises(NoToolkit, match="no GPU is needed.*pip install nvidia-cuda-nvcc"):
            find()


def test_the_doctor_says_what_is_missing(monkeypatch, fresh):
    from minivl.cli import cuda
    monkeypatch.setattr(compilers, "homes", lambda: iter(()))
    monkeypatch.setattr(compilers.shutil, "which", lambda name: None)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: pytest.fail("a program ran"))
    rows = dict(cuda.rows(cuda.examine()))
    assert rows["CUDA"].startswith('kernels="cuda" cannot run here')
    for name, words in (("kernels on the CPU", ""), ("nvcc", "pip install nvidia-cuda-nvcc"), ("NVRTC", "pip install"),
                        ("driver", "NVIDIA's driver"), ("GPU", "no GPU without a driver")):
        assert rows[f"  {name}"].startswith("missing: ") and words in rows[f"  {name}"]

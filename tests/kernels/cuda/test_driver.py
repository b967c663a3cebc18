"""A launch that begins early, against a driver of ours with cuda.h's own structures: what arrives there is what was
asked for."""

import ctypes
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from minivl.kernels.cuda import compilers, driver
from minivl.kernels.cuda.driver import LaunchRefused, Shape, launch_early

from .runs import has_compiler

DRIVER = """
#define cuLaunchKernelEx declared_there
#include <cuda.h>
#undef cuLaunchKernelEx
static unsigned shape[7]; static void *stream, *x; static int allowed[3]; static float scale; static long n;
extern "C" int cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void** args, void** extra) {
  unsigned seen[7] = {c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ,
                      c->sharedMemBytes};
  for (int i = 0; i < 7; i++) shape[i] = seen[i];
  stream = c->hStream;
  allowed[0] = c->numAttrs;
  allowed[1] = c->attrs[0].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  allowed[2] = c->attrs[0].value.programmaticStreamSerializationAllowed;
  x = *(void**)args[0], n = *(long*)args[1], scale = *(float*)args[2];
  return f == (CUfunction)0x51 ? 0 : 1;
}
extern "C" void told(unsigned* s, void** p, int* a, long* m, float* f) {
  for (int i = 0; i < 7; i++) s[i] = shape[i];
  for (int i = 0; i < 3; i++) a[i] = allowed[i];
  p[0] = stream, p[1] = x, *m = n, *f = scale;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Built with the toolkit's cuda.h, whose structures are the ones that a real driver reads."""
    headers = next((home / "include" for home in compilers.homes() if (home / "include" / "cuda.h").is_file()), None)
    if headers is None or not has_compiler():
        pytest.skip(f"needs g++ and cuda.h: a CUDA toolkit, or {compilers.INSTALL}")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER)
    subprocess.run(["g++", "-shared", "-fPIC", f"-I{headers}", "-o", folder / "driver.so", folder / "driver.cpp"],
                   check=True)
    return ctypes.CDLL(str(folder / "driver.so"))


def test_an_early_launch_says_all_that_was_asked_for(library):
    x = SimpleNamespace(data=SimpleNamespace(ptr=0x7F0012345678))
    launch_early(library, 0x51, Shape((5, 7), 96, 4321), 0xABC, (x, np.int64(-3), np.float32(0.25)))
    shape, places, allowed = (ctypes.c_uint * 7)(), (ctypes.c_void_p * 2)(), (ctypes.c_int * 3)()
    n, scale = ctypes.c_long(), ctypes.c_float()
    library.told(shape, places, allowed, ctypes.byref(n), ctypes.byref(scale))
    assert list(shape) == [5, 7, 1, 96, 1, 1, 4321] and list(places) == [0xABC, 0x7F0012345678]
    assert list(allowed) == [1, 1, 1] and n.value == -3 and scale.value == 0.25


def test_a_refusal_is_told(library):
    x = SimpleNamespace(data=SimpleNamespace(ptr=0))
    with pytest.raises(LaunchRefused, match=r"CUDA error 1: grid \(2,\), block 64"):
        launch_early(library, 0x52, Shape((2,), 64, 0), 0, (x, np.int64(1), np.float32(1)))


def test_a_machine_without_a_driver_has_none(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(driver.ctypes, "CDLL", absent)
    assert driver.driver() is None

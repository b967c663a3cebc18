"""Every kernel for every generation of cards: no spills, no stack frame, registers under a ceiling; and once through
the compiler that CuPy calls. `make test` compiles each file with the constants that the released models need most; the
others are for `make test-full` and `python -m tools.gpu_check cubins`."""

from __future__ import annotations

import pytest

from minivl.kernels.cuda import compilers, sources
from tools.gpu_check import cubins

needs_nvcc = pytest.mark.skipif(not cubins.have_nvcc(), reason=f"needs nvcc: a CUDA toolkit, or {compilers.INSTALL}")
ONE_OF_EACH = {one.file: one for one in reversed(cubins.variants())}
MOST = {
    cubins.variant("attention", HEAD=128, BF16=1),
    cubins.variant("attention_tensor", HEAD=128, BF16=1),
    cubins.variant("decode_attention", HEAD=128, SHARE=8, BF16=1),
    cubins.variant("gemv", WEIGHT=4, ROWS=4, BF16=0),  # of all products the one with most registers
    cubins.variant("rotary", HEAD=128, TURN=16, BF16=1),
    *(one for one in cubins.variants() if one.file in ("norm", "swiglu", "gelu", "convert", "sampling") and
      one.defines == (("BF16", 1),)),
    cubins.variant("rows", WEIGHT=4, BF16=1),
    cubins.variant("pixels"),
}


def test_each_file_is_compiled_in_every_run():
    assert {one.file for one in MOST} == set(ONE_OF_EACH) and set(cubins.variants()) >= MOST


@needs_nvcc
@pytest.mark.parametrize(
    "one",
    [pytest.param(one, id=one.name, marks=() if one in MOST else pytest.mark.full) for one in cubins.variants()],
)
def test_nothing_is_spilled_and_registers_stay_under_their_ceiling(one):
    rows = cubins.built(one)
    archs = {arch for arch in cubins.ARCHS if one.file != "attention_tensor" or arch >= cubins.TENSOR_FROM}
    assert {(row.kernel, row.arch) for row in rows} == {
        (name, arch) for name in cubins.sources_of(one) for arch in archs
    }
    assert cubins.broken(rows) == []


def test_every_kernel_has_a_ceiling_and_every_file_a_variant():
    assert {one.file for one in cubins.variants()} == {name.removesuffix(".cu") for name in sources.names()}
    assert {name for one in cubins.variants() for name in cubins.sources_of(one)} == set(cubins.CEILINGS)


def test_what_breaks_the_rules_is_told():
    one = cubins.variant("gemv", ROWS=1)
    rows = [cubins.Built(one, "gemv_warp", 90, 500, 8, 16), cubins.Built(one, "gemv_warp", 80, 20, 0, 0)]
    assert cubins.broken(rows) == [
        "gemv_warp (gemv ROWS=1, sm_90): 16 bytes spilled, a stack frame of 8",
        "gemv_warp (gemv ROWS=1, sm_90): 500 registers, at most 80",
    ]


def have_nvrtc() -> bool:
    try:
        return bool(compilers.nvrtc())
    except compilers.NoToolkit:
        return False


@pytest.mark.skipif(not have_nvrtc(), reason=f"needs NVRTC: {compilers.INSTALL}")
@pytest.mark.parametrize("one", ONE_OF_EACH.values(), ids=lambda one: one.name)
def test_the_compiler_of_cupy_takes_it(one):
    options = [f"-D{key}={value}" for key, value in one.defines]
    assert compilers.through_nvrtc(f"{one.file}.cu", sources.text(f"{one.file}.cu"), options=options)

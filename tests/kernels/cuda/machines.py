"""Machines to run kernels on in tests: one for each build and order of threads, so that a kernel is loaded once."""

from __future__ import annotations

from functools import cache

import pytest

from minivl.kernels.cuda.build import NoCompiler, compiler
from minivl.kernels.cuda.device import Launcher, Processor


def have_compiler() -> bool:
    """Whether kernels can be compiled for the processor."""
    try:
        compiler()
    except NoCompiler:
        return False
    return True


needs_compiler = pytest.mark.skipif(
    not have_compiler(), reason="kernels run on the processor with g++ or clang++, on Linux"
)


@cache
def machine(build: str, schedule: str = "random", seed: int = 1) -> Launcher:
    """The runner with one build and one order of threads."""
    return Launcher(Processor(build=build, schedule=schedule, seed=seed))

"""What the tests of the runner share: compiled modules, one for each build, and who may run at all."""

import functools
from pathlib import Path

import pytest

from minivl.kernels.cuda.build import NoCompiler, compiler
from minivl.kernels.cuda.runner import RawModule

PLANTED = (Path(__file__).parent / "planted.cu").read_text(encoding="utf-8")
ORDERS = (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))


def has_compiler():
    try:
        compiler()
    except NoCompiler:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="the runner needs Linux and g++: apt install g++")


@functools.cache
def module(build, schedule="forward", seed=0, isolated=True, seconds=0.5):
    """The planted kernels; a process of its own for each order."""
    return RawModule(PLANTED, build=build, schedule=schedule, seed=seed, name="planted.cu", isolated=isolated,
                     seconds=seconds)


def line_of(words, number=0):
    """The line of the planted kernels that has these words."""
    return [n + 1 for n, line in enumerate(PLANTED.splitlines()) if words in line][number]

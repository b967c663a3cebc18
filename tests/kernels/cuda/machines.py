"""Machines to run kernels on in tests: one for each build and order of threads, so that a kernel is loaded once."""

from __future__ import annotations

from functools import cache

from minivl.kernels.cuda.device import Launcher, Processor

from .runs import has_compiler, needs_compiler

__all__ = ["has_compiler", "machine", "needs_compiler"]


@cache
def machine(build: str, schedule: str = "random", seed: int = 1) -> Launcher:
    """The runner with one build and one order of threads."""
    return Launcher(Processor(build=build, schedule=schedule, seed=seed))

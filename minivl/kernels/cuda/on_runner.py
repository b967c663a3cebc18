"""`kernels="cuda-runner"`: the same interpreter on the processor, for machines without a GPU."""

from __future__ import annotations

from .device import on_processor
from .interpreter import made

INTERPRETER = made(on_processor(), "cuda-runner")

"""`kernels="cuda"`: the interpreter of the first GPU. Importing it raises NoDevice where there is none."""

from __future__ import annotations

from .device import gpu
from .interpreter import made

INTERPRETER = made(gpu(), "cuda")

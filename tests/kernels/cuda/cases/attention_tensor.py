"""Attention on tensor cores: the same inputs in bfloat16, and tiles of 64 queries."""

from __future__ import annotations

from . import BFLOAT16, Case
from .attention import attention_case


def cases() -> list[Case]:
    found = []
    for e, heads in [(48, (4, 2)), (64, (3, 1)), (80, (3, 3)), (128, (2, 1))]:
        for seed, (lengths, before) in enumerate([((1, 65, 20), (0, 0, 0)), ((9,), (50,)), ((70,), (0,))]):
            found.append(attention_case("tensor", BFLOAT16, e, heads, lengths, before, bool(seed % 2), seed))
    found.append(attention_case("tensor", BFLOAT16, 48, (2, 2), (40,), (0,), True, 10, spread=20.0))
    return found

"""Every kernel compiled for every generation of cards, and what the assembler says of it: registers, spills, stack.

    python -m tools.gpu_check cubins              # a table; exit code 1 when a kernel breaks its rules

The rules: nothing is spilled, no stack frame, and no more registers than `CEILINGS` gives, which is what leaves room
for as many blocks as the kernel was planned for. Needs nvcc (`minivl doctor` says whether it is here), and no GPU.

Read next: `plan.py`, what kernels are planned to move and to compute.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from minivl.kernels.cuda import compilers, sources

ARCHS = compilers.CARDS
TENSOR_FROM = 80  # bfloat16 on tensor cores

# The most registers a thread may have, on any card: 65,536 over the threads that are to be there at a time.
CEILINGS = {
    "attend_naive": 64,
    "attend_tiled": 128,
    "attend_vectorised": 168,
    "attend_tensor": 255,
    "decode_attend": 160,
    "gemv_naive": 64,
    "gemv_warp": 80,
    "gemv_vectorised": 200,
    "gemv_gate_up": 200,
    "gemv_qkv": 200,
    "rms_norm_naive": 64,
    "rms_norm": 48,
    "add_rms_norm": 64,
    "add": 32,
    "rotate": 48,
    "rotate_into_cache": 48,
    "swiglu": 48,
    "gelu": 48,
    "take_rows": 48,
    "put_rows": 48,
    "embed": 48,
    "expand": 48,
    "to_float32": 32,
    "to_bfloat16": 32,
    "finish": 40,
    "best_of_parts": 48,
    "best_of_row": 32,
    "penalise": 32,
    "mark": 32,
    "resize_axis": 64,
    "standardise": 48,
    "patchify": 64,
}


class Variant(NamedTuple):
    """A .cu file with its constants."""

    file: str
    defines: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return " ".join([self.file, *(f"{key}={value}" for key, value in self.defines)])


class Built(NamedTuple):
    """What the assembler says of one kernel for one card: bytes of stack and of spills, registers."""

    variant: Variant
    kernel: str
    arch: int
    registers: int
    stack: int
    spilled: int


def variant(file: str, **defines: int) -> Variant:
    return Variant(file, tuple(sorted(defines.items())))


def variants() -> list[Variant]:
    """What models run with: heads of the embedded model and of the official ones, both storages."""
    found = [
        variant("attention", HEAD=e, BF16=b) for e, b in ((48, 0), (64, 1), (80, 0), (80, 1), (128, 0), (128, 1))
    ]
    found += [variant("attention_tensor", HEAD=e, BF16=1) for e in (48, 64, 80, 128)]
    found += [
        variant("decode_attention", HEAD=e, SHARE=share, BF16=b)
        for e, share, b in ((48, 2, 0), (80, 3, 1), (128, 7, 1), (128, 8, 0), (128, 8, 1))
    ]
    found += [
        variant("gemv", WEIGHT=w, ROWS=m, BF16=b)
        for w, m, b in (
            (16, 1, 1),
            (16, 4, 1),
            (16, 1, 0),
            (16, 4, 0),
            (32, 1, 0),
            (8, 1, 1),
            (8, 4, 0),
            (4, 1, 1),
            (4, 4, 0),
        )
    ]
    found += [variant("rotary", HEAD=e, TURN=t, BF16=b) for e, t, b in ((48, 32, 0), (80, 32, 1), (128, 16, 1))]
    found += [
        variant(file, BF16=b) for file in ("norm", "swiglu", "gelu", "convert", "sampling") for b in (0, 1)
    ]
    found += [variant("rows", WEIGHT=w, BF16=b) for w, b in ((16, 0), (16, 1), (32, 0), (8, 1), (4, 1))]
    return [*found, variant("pixels")]


def have_nvcc() -> bool:
    """Whether CUDA's compiler is here."""
    try:
        return bool(compilers.nvcc())
    except compilers.NoToolkit:
        return False


def built(one: Variant, archs: Iterable[int] = ARCHS) -> list[Built]:
    """One variant's kernels for cards. Raises BuildError with what the compiler said."""
    cards = [arch for arch in archs if one.file != "attention_tensor" or arch >= TENSOR_FROM]
    options = [f"-D{key}={value}" for key, value in one.defines]
    name = f"{one.file}.cu"
    found = compilers.usage(name, sources.text(name), cards, options)
    return [
        Built(one, kernel, card, said.registers, said.stack, said.spills) for (kernel, card), said in found.items()
    ]


def sources_of(one: Variant) -> list[str]:
    """The kernels of a file."""
    return re.findall(
        r'extern "C" __global__ void __launch_bounds__\([^)]*\)\s+(\w+)\(', sources.text(f"{one.file}.cu")
    )


def broken(rows: Iterable[Built]) -> list[str]:
    """The rules that are broken, in words."""
    found = []
    for row in rows:
        where = f"{row.kernel} ({row.variant.name}, sm_{row.arch})"
        if row.spilled or row.stack:
            found.append(f"{where}: {row.spilled} bytes spilled, a stack frame of {row.stack}")
        if row.registers > CEILINGS[row.kernel]:
            found.append(f"{where}: {row.registers} registers, at most {CEILINGS[row.kernel]}")
    return found


def all_built(archs: Iterable[int] = ARCHS, only: str = "") -> list[Built]:
    """All variants, on all processors of this machine."""
    chosen = [one for one in variants() if one.file.startswith(only)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for rows in pool.map(lambda one: built(one, tuple(archs)), chosen) for row in rows]


def main() -> int:
    if not have_nvcc():
        print(f"no nvcc: install a CUDA toolkit, or {compilers.INSTALL}", file=sys.stderr)
        return 2
    rows = all_built()
    most: dict[tuple[str, str], list[Built]] = {}
    for row in rows:
        most.setdefault((row.kernel, row.variant.name), []).append(row)
    print(f"| kernel | constants | {' | '.join(f'sm_{arch}' for arch in ARCHS)} | ceiling |")
    print("|---|---|" + "---|" * (len(ARCHS) + 1))
    for (kernel, name), group in most.items():
        by = {row.arch: str(row.registers) for row in group}
        print(
            f"| {kernel} | {name.partition(' ')[2]} | {' | '.join(by.get(arch, '') for arch in ARCHS)} "
            f"| {CEILINGS[kernel]} |"
        )
    for line in broken(rows):
        print(line, file=sys.stderr)
    return 1 if broken(rows) else 0

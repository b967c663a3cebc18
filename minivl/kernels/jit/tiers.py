"""Which instructions this processor has, and which kernels that chooses.

A *tier* is a way to multiply: `portable` (vectors of four numbers, on any processor), `avx2`, `avx512`,
both also with products of four bytes (`avx2-vnni`, `avx512-vnni`), `avx512-bf16` (products of bfloat16
pairs too) and `amx` (tiles). The best one that is there is taken; a lower one can be asked for, a higher
one is refused with what it would need. `MINIVL_TIER` sets it for programs that cannot be changed. It
says how kernels multiply; loops around that are compiled for the processor all the same.

Read next: `products.py`, what each tier runs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ...door.errors import ArgumentError, brief

XFEATURE_REQUEST, TILE_DATA = 0x1023, 18       # arch_prctl(ARCH_REQ_XCOMP_PERM, tile data)
ARCH_PRCTL = 158                               # its number among Linux' system calls, x86-64


class Tier(NamedTuple):
    """A way to multiply.

    needs: flags of the processor, as Linux names them; lanes: numbers in a vector; rows: of A in one
    innermost product of float32, pair_rows in one of bfloat16 and byte_rows in one of bytes, where the
    tier has one; vectors: of columns in all; vectors_of_few: of columns beside one, two, three and four
    rows of a token that is decoded. Where four vectors have the 32 columns of a block, its weights are
    read in one go
    """
    name: str
    needs: frozenset[str]
    lanes: int
    rows: int
    vectors: int
    pair_rows: int = 0
    byte_rows: int = 0
    tiles: bool = False
    vectors_of_few: tuple[int, int, int, int] = (2, 2, 2, 2)

    @property
    def adds_bytes_alone(self) -> bool:
        """Are its products those of the tier before it, but for those of bytes?"""
        return bool(self.byte_rows) and not self.pair_rows


AVX2 = frozenset(("avx2", "fma"))
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
VNNI = AVX512 | {"avx512_vnni"}
BF16 = VNNI | {"avx512_bf16"}
TIERS = {tier.name: tier for tier in (
    Tier("portable", frozenset(), 4, 4, 2),
    Tier("avx2", AVX2, 8, 6, 2, vectors_of_few=(4, 4, 2, 2)),
    Tier("avx2-vnni", AVX2 | {"avx_vnni"}, 8, 6, 2, byte_rows=6, vectors_of_few=(4, 4, 2, 2)),
    Tier("avx512", AVX512, 16, 12, 2),
    Tier("avx512-vnni", VNNI, 16, 12, 2, byte_rows=12),
    Tier("avx512-bf16", BF16, 16, 12, 2, pair_rows=12, byte_rows=12),
    Tier("amx", BF16 | {"amx_tile", "amx_bf16", "amx_int8"}, 16, 12, 2, pair_rows=12, byte_rows=12, tiles=True),
)}


@cache
def about() -> dict[str, str]:
    """What Linux says of the first processor, by name; nothing elsewhere."""
    source = Path("/proc/cpuinfo")
    if sys.platform != "linux" or not source.exists():
        return {}
    first = source.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    return {name.strip(): said.strip() for name, _, said in (line.partition(":") for line in first.splitlines())}


@cache
def flags() -> frozenset[str]:
    """What the processor has, as Linux names it; elsewhere what LLVM finds, in the same names."""
    if about():
        return frozenset(about().get("flags", "").split())
    from llvmlite import binding
    try:
        found = binding.get_host_cpu_features()
    except RuntimeError:
        return frozenset()
    names = {"avx512bf16": "avx512_bf16", "avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni",
             "amx-tile": "amx_tile", "amx-bf16": "amx_bf16", "amx-int8": "amx_int8"}
    return frozenset(names.get(name, name) for name, there in found.items() if there)


def lines_an_ask() -> int:
    """How many lines of 64 bytes are asked for ahead of time by asking for one of them. A processor that
    stops at the end of each page has to be asked for every line; AMD's family 26 (Zen 5) goes on by itself,
    and more than one request a KB keeps it from its own, by a sixth with int8 weights."""
    zen5 = about().get("vendor_id") == "AuthenticAMD" and about().get("cpu family") == "26"
    return 16 if zen5 else 1


@cache
def may_use_tiles() -> bool:
    """Ask the system for the tiles' memory, once a process: Linux gives it on request alone."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    libc = ctypes.CDLL(None)
    return libc.syscall(ARCH_PRCTL, XFEATURE_REQUEST, TILE_DATA) == 0


def lacking(tier: Tier) -> list[str]:
    """What this machine would need for a tier, by name; empty where it can be used."""
    missing = sorted(tier.needs - flags())
    if not missing and tier.tiles and not may_use_tiles():
        missing = ["the system's permission for tiles (Linux 5.16 or newer)"]
    return missing


def best() -> Tier:
    """The highest tier that this machine has."""
    return [tier for tier in TIERS.values() if not lacking(tier)][-1]


def chosen(name: str | None = None) -> Tier:
    """The tier of a name; without one that of MINIVL_TIER, or the best.

    Raises ArgumentError for an unknown name, and for a tier that this machine lacks.
    """
    asked = None if name else os.environ.get("MINIVL_TIER")
    name = name or asked or best().name
    by = " (MINIVL_TIER)" if asked else ""
    if name not in TIERS:
        near = get_close_matches(name.lower(), TIERS, 1)
        what = f"did you mean {near[0]!r}?" if near else f"the best that this machine has is {best().name!r}"
        raise ArgumentError(f"{'MINIVL_TIER' if asked else 'a tier'} must be {', '.join([*TIERS][:-1])} or "
                            f"{[*TIERS][-1]}, got {brief(name)}; {what}")
    return usable(TIERS[name], by)


def usable(tier: Tier, by: str = "") -> Tier:
    """The tier. Raises ArgumentError where this machine lacks what it needs; by: who asked for it."""
    if missing := lacking(tier):
        raise ArgumentError(f"the tier {tier.name!r}{by} needs {', '.join(missing)}, which this machine lacks: "
                            f"the best that it has is {best().name!r}")
    return tier

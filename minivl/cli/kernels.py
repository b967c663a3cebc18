"""`minivl doctor` about interpreters: which one "auto" takes, and what the compiled one finds here.

Read next: `kernels/jit/tiers.py` of the package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..kernels import COMPILED_FROM, has_compiler
from .console import size


def examine() -> dict[str, Any]:
    """The compiled interpreter on this machine: its tier, the others with what each would need, threads,
    and the folder of compiled code; `installed` alone where Numba is not there."""
    if not has_compiler():
        return {"installed": False, "compiled_from": COMPILED_FROM}
    from ..kernels.jit import tiers
    from ..kernels.jit.cache import folder
    from ..kernels.jit.team import team
    asked, tier = os.environ.get("MINIVL_TIER"), tiers.chosen()
    return {"installed": True, "compiled_from": COMPILED_FROM, "tier": tier.name,
            "because": "MINIVL_TIER asks for it" if asked else "the highest that this processor has",
            "needs": {tier.name: tiers.lacking(tier) for tier in tiers.TIERS.values()},
            "jit-int8": "on tiles, up to four rows by VPDPBUSD" if tier.tiles
            else "by VPDPBUSD" if tier.pair_rows else "rounded to 8 bits, then multiplied as float32",
            "threads": team().size, **kept(folder())}


def kept(folder: Path | None) -> dict[str, Any]:
    """Compiled code on disk."""
    files = [path for path in folder.glob("*") if path.is_file()] if folder and folder.is_dir() else []
    return {"cache": str(folder) if folder else None, "cached": len(files),
            "cache_bytes": sum(path.stat().st_size for path in files)}


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a reader, line by line."""
    if "error" in found:
        return [("kernels", f"failed: {found['error']}")]
    if not found["installed"]:
        return [("kernels", 'the definitions; compiled ones come with pip install "minivl[jit]"')]
    lacking = [f"{name} needs {', '.join(needs)}" for name, needs in found["needs"].items() if needs]
    others = [name for name, needs in found["needs"].items() if not needs and name != found["tier"]]
    where = found["cache"] or 'none (MINIVL_CACHE is "off")'
    here = [f"also here: {', '.join(others)}"] if others else []
    return [("kernels", f"compiled from {found['compiled_from'] / 1e6:.0f} million parameters on, below "
                        "that the definitions"),
            ("  tier", f"{found['tier']}: {found['because']}"),
            ("  other tiers", "; ".join([*here, *lacking]) or "none"),
            ("  jit-int8", f"rows {found['jit-int8']}"),
            ("  threads", str(found["threads"])),
            ("  compiled code", f"{where}: {found['cached']} kernels, {size(found['cache_bytes'])}")]

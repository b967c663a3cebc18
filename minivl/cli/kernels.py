"""`minivl doctor` about interpreters: which one "auto" takes, and what the compiled one finds here.

Read next: `kernels/jit/tiers.py` of the package.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..door.errors import Error
from ..kernels import COMPILED_FROM, has_compiler
from .console import said, size


def examine() -> dict[str, Any]:
    """The compiled interpreter on this machine: its tier, the others with what each would need, threads,
    and the folder of compiled code; `installed` alone where Numba is not there. What a wrong setting keeps
    from being found is {"error": what it must be}, and the rest is there all the same."""
    if not has_compiler():
        return {"installed": False, "compiled_from": COMPILED_FROM}
    from ..kernels.jit import tiers
    from ..kernels.jit.cache import folder
    from ..kernels.jit.team import team
    tier = or_error(tiers.chosen)
    known = isinstance(tier, tiers.Tier)
    asked = os.environ.get("MINIVL_TIER")
    return {"installed": True, "compiled_from": COMPILED_FROM, "tier": tier.name if known else tier,
            "because": "MINIVL_TIER asks for it" if asked else "the highest that this processor has",
            "needs": {one.name: tiers.lacking(one) for one in tiers.TIERS.values()},
            "jit-int8": int8_words(tier) if known else None,
            "threads": or_error(lambda: team().size), **cache_findings(folder())}


def or_error(find: Callable[[], Any]) -> Any:
    """What `find` gives, or {"error": why it could not}."""
    try:
        return find()
    except Error as error:
        return {"error": str(error)}


def int8_words(tier: Any) -> str:
    """How rows of 8 bits are multiplied."""
    if tier.tiles:
        return "on tiles, up to four rows by VPDPBUSD"
    return "by VPDPBUSD" if tier.byte_rows else "rounded to 8 bits, then multiplied as float32"


def cache_findings(folder: Path | None) -> dict[str, Any]:
    """Compiled code on disk."""
    try:
        files = file_sizes(folder) if folder else []
    except OSError as error:
        why = f"{folder} cannot be read ({error.strerror}); MINIVL_CACHE names another folder"
        return {"cache": str(folder), "cached": {"error": why}, "cache_bytes": None}
    return {"cache": str(folder) if folder else None, "cached": len(files), "cache_bytes": sum(files)}


def file_sizes(folder: Path) -> list[int]:
    """Bytes of each file of a folder; none where there is no folder yet."""
    try:
        return [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    except FileNotFoundError:
        return []


def rows(findings: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a reader, line by line."""
    if "error" in findings:
        return [("kernels", f"failed: {findings['error']}")]
    if not findings["installed"]:
        return [("kernels", 'the definitions; compiled ones come with pip install "minivl[jit]"')]
    lacking = [f"{name} needs {', '.join(needs)}" for name, needs in findings["needs"].items() if needs]
    others = [name for name, needs in findings["needs"].items() if not needs and name != findings["tier"]]
    here = [f"also here: {', '.join(others)}"] if others else []
    by_bytes = [("  jit-int8", f"rows {findings['jit-int8']}")] if findings["jit-int8"] else []
    return [("kernels", f"compiled from {findings['compiled_from'] / 1e6:.0f} million parameters on, below "
                        "that the definitions"),
            ("  tier", said(findings["tier"], lambda name: f"{name}: {findings['because']}")),
            ("  other tiers", "; ".join([*here, *lacking]) or "none"),
            *by_bytes,
            ("  threads", said(findings["threads"], str)),
            ("  compiled code", said(findings["cached"], lambda files: cache_words(findings, files)))]


def cache_words(findings: dict[str, Any], files: int) -> str:
    """Where compiled code lies, and how much of it."""
    if not findings["cache"]:
        return 'none (MINIVL_CACHE is "off")'
    return f"{findings['cache']}: {files} file{'s' * (files != 1)}, {size(findings['cache_bytes'])}"

"""Where compiled code lies between two processes: MINIVL_CACHE, or where the system keeps caches.

Nothing is kept when MINIVL_CACHE is "off", in small or large letters. Who keeps something there adds a
folder or a key of its own (`jit/cache.py`, `cuda/build.py`).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def folder() -> Path | None:
    """Where compiled code lies; None when it is not to be kept."""
    if named := os.environ.get("MINIVL_CACHE"):
        return None if named.lower() == "off" else at_home(Path(named)) / "kernels"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "minivl" / "kernels"


def at_home(path: Path) -> Path:
    """The path with ~ as the home folder; as it is where there is no such home."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path

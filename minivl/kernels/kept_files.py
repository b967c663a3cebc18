"""A folder of compiled code: made for its owner alone, left alone where others may write, and cleaned.

Whoever can write there can run code as whoever reads it (SECURITY.md, E-7). So a folder is read only when it
belongs to this user and nobody else may write to it. What is above it is not looked at.

Not here: where the folder is (`kept.py`), what lies in it (`jit/cache.py`, `cuda/build.py`).
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..door.files import is_mine

DAY = 24 * 60 * 60.0                           # seconds
UNUSED = 60                                    # days after which a file that nobody used is removed
SHARED = stat.S_IWGRP | stat.S_IWOTH           # rights that no folder of code may have


def make_private(where: Path) -> None:
    """Make a folder and what is missing above it, each for this user alone. Raises OSError."""
    if not where.parent.exists():
        make_private(where.parent)             # `parents=True` would make it with the usual rights
    where.mkdir(exist_ok=True, mode=0o700)


def trusted(where: Path) -> bool:
    """Whether what lies in a folder may be run; says once why not. A folder that is not there may."""
    why = distrust(where)
    if why:
        warn(f"{where}: {why}, so the compiled code in it is ignored; remove the folder, or let MINIVL_CACHE "
             "name another one")
    return not why


def distrust(where: Path) -> str:
    """Why nothing in a folder may be run; "" where it may, and on Windows, whose rights are others."""
    if not hasattr(os, "geteuid"):
        return ""
    try:
        found = [where.lstat()]
        if stat.S_ISLNK(found[0].st_mode):     # a link's owner says where it leads; its rights say nothing
            found.append(where.stat())
    except OSError:                            # it is not there, or cannot be read anyway
        return ""
    if not all(map(is_mine, found)):
        return "it must belong to you, and belongs to another user"
    if found[-1].st_mode & SHARED:
        return f"only you must be able to write to it, and its mode is {stat.S_IMODE(found[-1].st_mode):04o}"
    return ""


@functools.cache
def warn(words: str) -> None:
    """Say something once a process."""
    warnings.warn(words, stacklevel=2)


def used(path: Path) -> None:
    """Note by the file's time that somebody uses it; once a day is enough."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)


@functools.cache
def remove_unused(where: Path, ours: re.Pattern[str]) -> None:
    """Remove what was written here and not used for UNUSED days, by its name; a process looks once."""
    limit = time.time() - UNUSED * DAY
    found: list[Path] = []
    with suppress(OSError):
        found = list(where.iterdir())
    for path in found:
        with suppress(OSError):                # another process removes it too
            if ours.fullmatch(path.name) and path.lstat().st_mtime < limit:
                remover(path)(path)


def remover(path: Path) -> Callable[[Path], object]:
    """What removes a file or link, or a folder with all that is in it."""
    return shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink

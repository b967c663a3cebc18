"""Where a file or a folder may be written, and writing it so that a reader never meets half of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


def check_place(path: Path, *endings: str) -> None:
    """Raise ValueError, before anything takes long, for a path that no such file can be written to."""
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{path}: name a file that ends in {' or '.join(endings)}")
    parent = path.absolute().parent
    if path.is_dir() or not parent.is_dir():
        raise ValueError(f"{path}: {'is a folder' if path.is_dir() else 'its folder is not there'}; name a file")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{path}: its folder may not be written to; name another place")


def check_new_folder(folder: Path) -> None:
    """Raise OSError unless a new folder can be written here: asked before the work as well, which takes long."""
    check_vacant(folder)
    if folder.resolve() == Path.cwd():
        raise FileExistsError(f"{folder} is the folder in which this runs; name a new one")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder} cannot be made: {folder.parent} is no folder")
    import tempfile  # when first needed: it takes a while to import
    try:
        Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")).rmdir()
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}") from None


def check_vacant(folder: Path) -> None:
    """Raise FileExistsError for a file, and for a folder in which something lies."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there and is not empty; name a new folder")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError as the system does."""
    import hashlib  # when first needed: it takes a while to import
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a file beside the target, then move it there. When anything fails nothing is left, and an older
    file stays as it was. Raises OSError as the system does."""
    import tempfile  # when first needed: it takes a while to import
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
        try:
            write(file)
            file.close()                                  # Windows moves no open file
            partial.chmod(0o644)                          # a temporary file is born private
            partial.replace(path)
        except BaseException:
            file.close()
            with suppress(OSError):
                partial.unlink()
            raise

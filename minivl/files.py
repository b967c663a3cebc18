"""Writing a file so that a reader never meets half of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


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

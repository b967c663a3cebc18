"""What minivl ran before, so that a second triage of the same samples is quick: one JSON object a
line, appended as it comes. Keys are hashes of everything that decides a result, so that nothing in the
file can be out of date; a last line that was cut off is dropped. The file may be deleted at any time.

Read next: `scorer.py`, which makes keys and values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...door.errors import Error


class Cache:
    """`get(parts, compute)`: what was computed under these parts before, or now. Without a path it
    lasts as long as it is held. `.hits` and `.misses` count."""

    def __init__(self, path: Path | None = None):
        self.path, self.hits, self.misses = path, 0, 0
        self.known: dict[str, Any] = {}
        if path is not None and path.exists():
            try:
                entries = [json.loads(row) for row in _whole_lines(path).split("\n") if row]
                self.known = {entry["key"]: entry["value"] for entry in entries}
            except (ValueError, KeyError, TypeError):
                raise Error(f"{path}: is no cache of `minivl triage`, or a damaged one; delete "
                            "it, or name another file with --cache") from None

    def has(self, parts: tuple) -> bool:
        """Whether this was computed before."""
        return digest(*parts) in self.known

    def get(self, parts: tuple, compute: Callable[[], Any]) -> Any:
        """parts: text, numbers, arrays and tuples of them; the value must be JSON."""
        key = digest(*parts)
        if key in self.known:
            self.hits += 1
            return self.known[key]
        self.misses += 1
        value = compute()
        self.known[key] = value
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}, separators=(",", ":")) + "\n")
        return value


def _whole_lines(path: Path) -> str:
    """The file up to its last whole line; what follows is cut off. Raises Error for what is
    surely no cache."""
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    if text and not text.startswith(b'{"key":'):
        raise Error(f"{path}: does not begin as a cache does")
    if end < len(text):
        with path.open("r+b") as file:
            file.truncate(end)
    return text[:end].decode("utf-8")


def digest(*parts: Any) -> str:
    """A hash of texts, numbers, arrays, and tuples of them: the same for the same, in every process."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str} {part.shape} ".encode() +
                         np.ascontiguousarray(part).tobytes())
        elif isinstance(part, tuple):
            found.update(digest(*part).encode())
        else:
            found.update(repr(part).encode() + b"\0")
    return found.hexdigest()

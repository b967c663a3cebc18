"""Files: where one may be written, writing it so that a reader never meets half of it, and reading
text and JSON that may come from anywhere.

Read next: `config/read.py`, what the official JSON files say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .errors import ArgumentError, Error, FileInTheWay, MissingFile, brief
from .looks import kind_of

PAGES = (".html", ".htm")  # endings of what a browser opens
A_CHECKPOINT = "name the folder of a Qwen2.5-VL checkpoint"
MAX_JSON = 1 << 22         # bytes; the largest official file (an index of 1,353 tensors) has 0.1 million


# --------------------------------------------------------------------------------------------- writing

def check_place(path: Path, *endings: str, reads: Iterable[str | Path | None] = ()) -> None:
    """Raise ArgumentError, before anything takes long, for a path that no such file can be written to,
    and for one of the files that are read."""
    if endings and path.suffix.lower() not in endings:
        raise ArgumentError(f"{path}: name a file that ends in {' or '.join(endings)}")
    # Before the work: a run of minutes must not end in a path that cannot be written.
    parent = path.absolute().parent
    if path.is_dir() or not parent.is_dir():
        raise ArgumentError(f"{path}: {'is a folder' if path.is_dir() else 'its folder is not there'}; "
                            "name a file")
    if not os.access(parent, os.W_OK):
        raise ArgumentError(f"{path}: its folder may not be written to; name another place")
    if any(is_same(path, Path(one)) for one in reads if one is not None):
        raise ArgumentError(f"{path}: is one of the files that are read, and would be written over; name "
                            "another file")


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file that is there."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):                       # not there, a URL, or no path at all
        return False


def check_new_folder(folder: Path) -> None:
    """Raise FileInTheWay, MissingFile or OSError unless a new folder can be written here. Ask before
    the work too."""
    check_vacant(folder)
    if folder.resolve() == Path.cwd():
        raise FileInTheWay(f"{folder} is the folder in which this runs; name a new one")
    if not folder.parent.is_dir():
        raise MissingFile(f"{folder} cannot be made: {folder.parent} is no folder")
    import tempfile  # when first needed: it takes a while to import
    try:                                                # asking for permission lies on some file systems
        Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")).rmdir()
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}") from None


def check_vacant(folder: Path) -> None:
    """Raise FileInTheWay for a file, and for a folder in which something lies."""
    if folder.exists() and not folder.is_dir():
        raise FileInTheWay(f"{folder} is a file; name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileInTheWay(f"{folder} is there and is not empty; name a new folder")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError as the system does."""
    import hashlib  # when first needed: it takes a while to import
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[IO[bytes]], Any], mode: int = 0o644) -> None:
    """Let `write` fill a file beside the target, then move it there. When anything fails nothing is
    left, and an older file stays as it was. mode: who may read it. Raises OSError as the system does,
    about the target."""
    import tempfile  # when first needed: it takes a while to import
    try:
        # In the same folder: a move to another file system is a copy, and a copy can be half done.
        beside = tempfile.NamedTemporaryFile(  # noqa: SIM115 - entered below
            dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    with beside as file:
        partial = Path(file.name)
        try:
            write(file)
            file.close()                                  # Windows moves no open file
            partial.chmod(mode)                           # a temporary file is born private
            partial.replace(path)
        except BaseException:
            file.close()
            with suppress(OSError):
                partial.unlink()
            raise


# --------------------------------------------------------------------------------------------- reading

def parse_json(data: bytes, where: str, error: type[Error] = Error, limit: int = MAX_JSON
               ) -> dict[str, Any]:
    """A JSON object as a dict. Refuses, with `error`: other encodings than UTF-8, a key given twice,
    NaN, infinity, absurd nesting, more than `limit` bytes, anything that is no object.
    """
    if len(data) > limit:
        raise error(f"{where}: {len(data)} bytes of JSON; at most {limit} are read")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)                              # readers disagree on which of two values counts
        if len(found) != len(items):
            names = [name for name, _ in items]
            twice = next(name for n, name in enumerate(names) if name in names[:n])
            raise error(f"{where}: key {brief(twice)} is given twice")
        return found

    def constant(text: str) -> Any:
        raise error(f"{where}: {text} is no JSON number")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except error:
        raise
    except UnicodeDecodeError as problem:
        raise error(f"{where}: not UTF-8 (byte {problem.start}){_looks(data)}; save the file as "
                    "UTF-8") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply to be read") from None
    except ValueError as problem:
        raise error(f"{where}: not valid JSON: {problem}{_looks(data)}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: holds a {type(found).__name__}, should be a JSON object {{...}}")
    return found


def _looks(data: bytes) -> str:
    """What lies there instead, for the end of a message."""
    kind = kind_of(data)
    return f". It is {kind}" if kind and not kind.startswith("JSON") else ""


def read_json(path: Path, error: type[Error] = Error, remedy: str = A_CHECKPOINT) -> dict[str, Any]:
    """The JSON object in a file; see `parse_json`. A missing or unreadable file is an `error` too.
    remedy: what to name where there is none."""
    return parse_json(_read(path, MAX_JSON, error, remedy), str(path), error)


def read_text(path: Path, limit: int, error: type[Error] = Error) -> str:
    """A text file of at most `limit` bytes of UTF-8, line ends as `\\n`. Raises `error`, naming the
    file."""
    try:
        text = _read(path, limit, error).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 (byte {problem.start}); is it damaged? Get it anew") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: Path, limit: int, error: type[Error], remedy: str = A_CHECKPOINT) -> bytes:
    try:
        check_regular(path, error, remedy)
        with path.open("rb") as file:
            data = file.read(limit + 1)                   # one byte more tells that there is more
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    if len(data) > limit:
        raise error(f"{path}: is too large for what it should be; at most {limit:,} bytes of it are read")
    return data


def check_regular(path: Path, error: type[Error], remedy: str = A_CHECKPOINT) -> None:
    """Raise `error` unless `path` is a regular file: reading a pipe of that name would never end."""
    if not path.is_file():
        raise error(f"{path}: {'is not a regular file' if path.exists() else 'there is no such file'}; "
                    f"{remedy}")


def is_mine(about: os.stat_result) -> bool:
    """Whether what `stat` speaks of belongs to this user; true where the system has no such users (Windows)."""
    user = getattr(os, "geteuid", None)
    return user is None or about.st_uid == user()

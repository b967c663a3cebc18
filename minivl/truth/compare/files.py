"""Files that toolchains leave behind, as arrays by name: .npz, folders of .npy, .safetensors, raw .bin.

Raw numbers need a list of what they are, in the order in which they lie: NAME.json or NAME.txt beside
NAME.bin, shapes.json or shapes.txt in a folder of .bin files, one an array. As JSON it is a list of
{"name", "dtype", "shape"}, or {name: {"dtype", "shape"}}; as text a line an array:

    blk.0/attn_out  fp32  1x80x512           # types and shapes as they are usually written

Nothing is unpickled, and no name leads out of the folder. Read next: `importers.py`, which gives arrays
their labels.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from ...checkpoint.safetensors import File
from ...door.errors import brief
from ..trace.format import TraceError, read_array
from .numbers import NAMES, from_bytes, kind_of, plain, size_of

SHAPES = ("shapes.json", "shapes.txt")
# what NumPy says of damaged files, or of objects to unpickle
UNREADABLE = (ValueError, EOFError, BadZipFile, zlib.error, MemoryError, NotImplementedError)
FORM = "a line is NAME DTYPE SHAPE, as in `blk.0/attn_out fp32 1x80x512`"
MOST = 2**48                                                       # numbers of one array


class Row(NamedTuple):
    """One array of a list; `at` says where it stands: file and line."""
    name: str
    kind: str
    shape: tuple[int, ...]
    at: str

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * size_of(self.kind)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name from a file or folder, in types of this machine. Nothing is unpickled. Raises
    TraceError or OSError saying what is wrong."""
    return {name: plain(array) for name, array in _as_they_lie(path).items()}


def _as_they_lie(path: Path) -> dict[str, np.ndarray]:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise TraceError(f"{path}: {'is no file' if path.exists() else 'there is no such file'}; give "
                         "a trace that `minivl trace record` wrote, or arrays as .npz, .safetensors, "
                         ".bin or a folder")
    if path.suffix == ".safetensors":
        file = File(path)
        return {name: read_array(file, name) for name in file.tensors}
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as found:
                return dict(found)
        except UNREADABLE:
            raise TraceError(f"{path}: cannot be read as .npz; it should hold numbers, as np.savez "
                             "writes") from None
    if path.suffix == ".bin":
        beside = next((p for p in map(path.with_suffix, (".json", ".txt")) if p.is_file()), None)
        if beside is None:
            raise TraceError(f"{path}: raw numbers need a list of their names, types and shapes: write "
                             f"{path.with_suffix('.txt')}, where {FORM}")
        return _consecutive(path, list(listed(beside)))
    raise TraceError(f"{path}: is neither .safetensors, .npz, .bin nor a folder of .npy or .bin files")


def _folder(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for file in sorted(path.rglob("*.npy")):
        try:
            arrays[file.relative_to(path).with_suffix("").as_posix()] = np.load(file, allow_pickle=False)
        except UNREADABLE:
            raise TraceError(f"{file}: cannot be read as .npy; it should hold numbers, as np.save "
                             "writes") from None
    read: set[Path] = set()
    for shapes in (path / name for name in SHAPES if (path / name).is_file()):
        for row in listed(shapes):
            read.add(file := _file_of(path, row))
            arrays |= _consecutive(file, [row])
    left = sorted(set(path.rglob("*.bin")) - read) if read else []
    if left:
        raise TraceError(f"{left[0]}: is in no list of shapes, so that it would not be compared; add a "
                         f"line for it ({FORM}), or take it out of the folder")
    if not arrays:
        raise TraceError(f"{path}: holds no .npy files, and no .bin files with a {SHAPES[0]} of name, "
                         f"dtype, shape, or a {SHAPES[1]}, where {FORM}")
    return arrays


def _file_of(folder: Path, row: Row) -> Path:
    """The file of an array: its name, where a slash is a folder or one of the characters that usually
    stand for it."""
    if row.name.startswith(("/", "~")) or ".." in Path(row.name).parts or ":" in row.name[:3]:
        raise TraceError(f"{row.at}: {brief(row.name)} leads out of the folder; a name should be that of a "
                         "file in it, without .bin")
    stem = row.name.removesuffix(".bin")
    tried = [folder / f"{stem.replace('/', slash)}.bin" for slash in ("/", "_", ".", "__", "-")]
    found = next((file for file in tried if file.is_file()), None)
    if found is None:
        raise TraceError(f"{row.at}: there is no {tried[0]} for {brief(row.name)}; name the file as the "
                         "array is named, with .bin behind it")
    return found


def _consecutive(path: Path, rows: list[Row]) -> dict[str, np.ndarray]:
    """Raw numbers, one array after the other."""
    data, at, arrays = np.fromfile(path, np.uint8), 0, {}
    for row in rows:
        part = data[at:at + row.size]
        if len(part) != row.size:
            raise TraceError(f"{path}: ends within {row.name}: {row.kind} {list(row.shape)} takes "
                             f"{row.size} bytes, {len(part)} are left ({row.at})")
        arrays[row.name] = from_bytes(part, row.kind).reshape(row.shape)
        at += row.size
    if at != len(data):
        raise TraceError(f"{path}: has {len(data)} bytes, the list of shapes speaks of {at}")
    return arrays


# ---- lists of shapes ---------------------------------------------------------------------------

def listed(path: Path) -> Iterator[Row]:
    """The arrays of a list, as JSON or as text. Raises TraceError with file, line and what to write."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is no text; {FORM}") from None
    names: set[str] = set()
    for row in _of_json(path, text) if path.suffix == ".json" else _of_text(path, text):
        if row.name in names:
            raise TraceError(f"{row.at}: {brief(row.name)} comes a second time; names should differ")
        names.add(row.name)
        yield row


def _of_text(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            at = f"{path}, line {number}"
            name, rest = words[0].rstrip(":,="), words[1:]
            kinds = [word for word in rest if kind_of(word.strip(",;:"))
                     and not word.strip(",;:").isdecimal()]
            if len(kinds) != 1:
                raise TraceError(f"{at}: should have one type among {', '.join(list(NAMES)[:4])}, ... "
                                 f"but has {', '.join(kinds) or 'none'}: {brief(line.strip())}; {FORM}")
            shape = " ".join(word for word in rest if word != kinds[0])
            yield row_of(name, kinds[0].strip(",;:"), shape, at)


def _of_json(path: Path, text: str) -> Iterator[Row]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as problem:
        line = f", line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else ""
        raise TraceError(f"{path}{line}: should be a list of name, dtype and shape, but is no JSON: "
                         f"{problem}") from None
    if isinstance(found, dict) and not {"name", "dtype", "shape"} <= set(found):
        found = [{"name": name, **(row if isinstance(row, dict) else {"row": row})}
                 for name, row in found.items()]
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        at = f"{path}, entry {number}"
        if not isinstance(row, dict) or not {"name", "dtype", "shape"} <= set(row):
            raise TraceError(f"{at}: should be a list of name, dtype and shape; has "
                             f"{brief(row)}: write "
                             '{"name": "blk.0/attn_out", "dtype": "fp32", "shape": [1, 80, 512]}')
        yield row_of(row["name"], row["dtype"], row["shape"], at)


def row_of(name: Any, kind: Any, shape: Any, at: str) -> Row:
    """One array of a list. Raises TraceError for a type or a shape that is none."""
    found = kind_of(kind)
    if found is None:
        raise TraceError(f"{at}: {brief(kind)} is no type; it can be {', '.join(NAMES)}, or f32, "
                         "fp32, bf16, half and the like")
    if not isinstance(name, str) or not name:
        raise TraceError(f"{at}: the name is {brief(name)}; it should be a text")
    return Row(name, found, sizes(shape, at), at)


def sizes(shape: Any, at: str) -> tuple[int, ...]:
    """A shape as it is usually written: [1, 80, 512], "1x80x512", "(1, 80, 512)". Raises TraceError."""
    words = shape
    if isinstance(shape, str):
        words = re.split(r"[x×*,;\s]+", shape.strip().strip("[](){}").strip())
    words = [words] if isinstance(words, int) else words
    try:
        found = tuple(int(word) for word in words if word != "")
    except (TypeError, ValueError):
        found = (-1,)
    if any(n < 0 for n in found) or int(np.prod(found, dtype=object)) > MOST \
            or any(isinstance(word, bool | float) for word in words):
        raise TraceError(f"{at}: {brief(shape)} is no shape; write it as "
                         "[1, 80, 512] or 1x80x512")
    return found

"""What toolchains leave behind, as arrays under minivl's labels: traces, .npz, folders of .npy,
.safetensors, raw .bin.

    read_candidate("out.npz", golden, names={"blk.0.attn": "vision.blocks.0.attend", ...})

`names` says what their names mean: a label; `label:1` for the second array of a stage; or an object
with `label` and what has to be undone: `scale` and `zero` (a number, or the name of an array) of
quantised values, `dtype` "bfloat16" for 16 bits that were stored as integers. A raw .bin comes with
NAME.json, a list of {"name", "dtype", "shape"} in the order in which the arrays lie; a folder of .bin
files with shapes.json, the same list, one file an array.

Layouts and row orders are no matter of this file (`align.py`), nor is finding the names out
(`guess.py`).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...checkpoint.safetensors import File
from ...door.contract import outputs
from ...door.watch import INDEX, read_dump
from ..trace.format import NOTE, Trace, TraceError, read_array

SHAPES = "shapes.json"
# what NumPy says of damaged files, or of objects to unpickle
UNREADABLE = (ValueError, EOFError, BadZipFile)
Names = Mapping[str, Any]


@dataclass
class Candidate:
    """Somebody's arrays. `taps` maps golden key -> array number -> array; number None is the whole
    stage in one array.

    native: the labels are minivl's own, so that they say the order of rows too.
    """
    source: str
    producer: str
    precision: str
    native: bool
    taps: dict[str, dict[int | None, np.ndarray]]
    unused: list[str] = field(default_factory=list)          # arrays that no label was given for
    facts: dict[str, Any] = field(default_factory=dict)


def read_candidate(path: str | Path, golden: Trace, names: Names | None = None,
                   precision: str | None = None) -> Candidate:
    """Read whatever `path` is. Raises TraceError when nothing in it can be matched with the golden
    trace."""
    path = Path(path)
    # 1. labels of our own: a dump, a trace
    if path.is_dir() and (path / INDEX).is_file():
        dump = read_dump(path)
        taps: dict[str, dict[int | None, np.ndarray]] = {k: dict(enumerate(outputs(v)))
                                                         for k, v in dump.items()}
        return Candidate(str(path), "a dump of minivl", precision or precision_of(dump.values()), True,
                         taps)
    if names is None and is_trace(path):
        trace = Trace(path)
        taps = {key: dict(enumerate(trace.arrays(key))) for key in trace.recorded()}
        return Candidate(str(path), str(trace.facts.get("producer", "")), precision or trace.precision,
                         True, taps, facts=trace.facts)
    # 2. anybody's names
    return named(str(path), read_arrays(path), golden, names, precision)


def is_trace(path: Path) -> bool:
    """Whether a file carries the manifest of a trace."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    file = File(path)
    try:
        return NOTE in file.notes
    finally:
        file.close()


def named(source: str, arrays: Mapping[str, np.ndarray], golden: Trace, names: Names | None,
          precision: str | None) -> Candidate:
    """Arrays of any names as taps. Without a table of names those count that are labels already."""
    table = {name: name for name in arrays} if names is None else names
    known = set(golden.stages) | {f"{key}:{n}" for key, stage in golden.stages.items()
                                  for n in range(len(stage.axes))}
    found = {name: entry for name, entry in table.items() if name in arrays and _label(entry) in known}
    # a table with a misspelt line would compare less than its author believes
    if names is not None and (strange := [n for n in names if n not in found]):
        first = strange[0]
        what = f"means {_label(names[first])!r}, no label" if first in arrays else "is not in the file"
        raise TraceError(f"{source}: of --names, {first!r} {what}; `minivl trace show` of the "
                         "golden trace lists its labels")
    if not found:
        few = ", ".join(list(arrays)[:3]) or "none"
        raise TraceError(f"{source}: none of its {len(arrays)} names is a label of the golden trace "
                         f"({few}, ...): give --names FILE.json, or let --guess propose it")
    taps: dict[str, dict[int | None, np.ndarray]] = {}
    for name, entry in found.items():
        key, _, part = _label(entry).partition(":")
        taps.setdefault(key, {})[int(part) if part else None] = undone(name, arrays, entry)
    used = set(found) | {v for e in found.values() if isinstance(e, dict) for v in e.values()
                         if isinstance(v, str)}
    values = [a for parts in taps.values() for a in parts.values()]
    return Candidate(source, "arrays of others", precision or precision_of(values), False, taps,
                     [name for name in arrays if name not in used])


def _label(entry: Any) -> str:
    return str(entry["label"] if isinstance(entry, dict) else entry)


def undone(name: str, arrays: Mapping[str, np.ndarray], entry: Any) -> np.ndarray:
    """An array with its quantisation undone: (stored - zero) * scale, scales along the last axis."""
    array = arrays[name]
    if not isinstance(entry, dict):
        return array
    if entry.get("dtype") == "bfloat16":
        # the upper half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if "scale" not in entry:
        return array
    scale, zero = (np.asarray(arrays[v] if isinstance(v, str) else v, np.float32)
                   for v in (entry["scale"], entry.get("zero", 0)))
    return (array.astype(np.float32) - zero) * scale                            # ... x, x -> ... x


def precision_of(values: Any) -> str:
    """The type that numbers were computed in, as far as they show: bfloat16 kept in float32 has its
    low bits zero."""
    arrays = [a for value in values for a in outputs(value) if a.dtype.kind in "fV" and a.size]
    kinds = {a.dtype.name for a in arrays}
    for name in ("bfloat16", "float16"):
        if name in kinds:
            return name
    # every bit that some number has set: 16 bits widened to float32 leave the low ones alone
    bits = np.uint32(0)
    for array in arrays:
        if array.dtype == np.float32:
            bits |= np.bitwise_or.reduce(np.ascontiguousarray(array).view(np.uint32), axis=None)
    if arrays and kinds == {"float64"}:
        return "float64"
    # 7, 10, 23 bits
    return "bfloat16" if not bits & 0xFFFF else "float16" if not bits & 0x1FFF else "float32"


# ---- files -------------------------------------------------------------------------------------

def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name from a file or folder. Nothing is unpickled. Raises TraceError or OSError saying
    what is wrong."""
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
        return _consecutive(path, _shapes(path.with_suffix(".json")))
    raise TraceError(f"{path}: is neither .safetensors, .npz, .bin nor a folder of .npy or .bin files")


def _folder(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for file in sorted(path.glob("*.npy")):
        try:
            arrays[file.stem] = np.load(file, allow_pickle=False)
        except UNREADABLE:
            raise TraceError(f"{file}: cannot be read as .npy; it should hold numbers, as np.save "
                             "writes") from None
    if (path / SHAPES).is_file():
        for row in _shapes(path / SHAPES):
            arrays |= _consecutive(path / f"{row['name']}.bin", [row])
    if not arrays:
        raise TraceError(f"{path}: holds no .npy files, and no .bin files with a {SHAPES} of name, "
                         "dtype, shape")
    return arrays


def _shapes(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise TraceError(f"{path}: should be a list of name, dtype and shape, but is no JSON: "
                         f"{problem}") from None
    for row in rows if isinstance(rows, list) else [rows]:
        if not isinstance(row, dict) or not {"name", "dtype", "shape"} <= set(row):
            raise TraceError(f"{path}: should be a list of name, dtype and shape; has "
                             f"{reprlib.repr(row)}")
        if Path(str(row["name"])).name != row["name"]:
            raise TraceError(f"{path}: {row['name']!r} is no plain name")
    return rows


def _consecutive(path: Path, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Raw numbers, one array after the other."""
    data, at, arrays = np.fromfile(path, np.uint8), 0, {}
    for row in rows:
        short = row["dtype"] == "bfloat16"
        dtype = np.dtype(np.uint16 if short else row["dtype"]).newbyteorder("<")  # as devices write them
        size = int(np.prod(row["shape"], dtype=np.int64)) * dtype.itemsize
        part = data[at:at + size]
        if len(part) != size:
            raise TraceError(f"{path}: ends within {row['name']}: {row['dtype']} {row['shape']} takes "
                             f"{size} bytes, {len(part)} are left")
        array = part.view(dtype).reshape(row["shape"])
        arrays[row["name"]] = (array.astype(np.uint32) << 16).view(np.float32) if short else array
        at += size
    if at != len(data):
        raise TraceError(f"{path}: has {len(data)} bytes, the list of shapes speaks of {at}")
    return arrays

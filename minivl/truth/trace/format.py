"""The trace file: one .safetensors whose header carries a JSON manifest.

docs/reference/trace-format.md describes it.

    with Writer("golden.safetensors", facts) as out:     # streamed: an array goes to disk as it comes
        out.stage(stage, arrays)
    with Trace("golden.safetensors") as trace:           # mapped: an array is read when it is asked for
        trace.stages["vision.blocks.0.attend"].axes; trace.arrays("vision.blocks.0.attend")

Anyone with a safetensors library can read the arrays; the manifest says what they are. Nothing of the
model is known here. Read next: `record.py`, which fills a file; `recorder.py`, which lays out the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint.safetensors import File, Mapped
from ...door.errors import Error, brief
from ...door.files import parse_json
from .recorder import Recorder

NAME, VERSION = "minivl-trace", 1
NOTE = "minivl_trace"                                # the manifest's name in the header's `__metadata__`
DUMPS = (".npz", ".npy", ".bin")                     # endings of what is surely no trace
# first word of array names
COORDINATES, YARDSTICK, ROWS, INPUT = "coordinates", "yardstick", "rows", "inputs"
PICTURES, PRINTS = "pictures", "prints"
# of a local trace only: see `truth/compare/local.py`
BESIDE, LEANS, CARRIED = "beside", "leans", "carried"
ROW_LETTERS = "pwcmsrn"                   # axis letters whose rows have coordinates, or are the caller's
DTYPES = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i16": "<i2", "i8": "i1",
          "u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "u1", "bool": "?"}


class TraceError(Error):
    """A file is no trace, or not one that this version can read; the message names the file and what
    to do."""


@dataclass(frozen=True)
class Stage:
    """One leaf of a run. `arrays` names what is in the file: none where the stage was left out by a
    selection.

    axes: for each array its axis letters, `"w a e"`; parents: the leaves whose output went in
    """
    key: str
    label: str
    contract: str = ""
    axes: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()

    def axes_of(self, name: str) -> str:
        """The axis letters of one of its arrays, by the name that it has in a file: a trace that was
        imported may hold some of them only."""
        number = name[len(self.key) + 1:].partition("@")[0] if name.startswith(f"{self.key}:") else "0"
        return self.axes[int(number)] if number.isdecimal() and int(number) < len(self.axes) else ""


def row_axis(axes: str) -> int:
    """Which axis of an array counts its rows: the first with a row letter, else the first."""
    letters = axes.split()
    return next((n for n, letter in enumerate(letters) if letter in ROW_LETTERS), 0)


class Writer:
    """A trace being written. `facts` go into the manifest as they are; arrays are not kept."""

    def __init__(self, path: str | Path, facts: Mapping[str, Any] | None = None):
        self.recorder = Recorder(path)
        self.facts: dict[str, Any] = {"format": NAME, "version": VERSION, **(facts or {})}
        self.stages: list[Stage] = []

    def stage(self, stage: Stage, arrays: Sequence[np.ndarray]) -> None:
        """Write one stage; no arrays means that it was met and left out."""
        many = len(arrays) > 1
        names = (self.recorder.put(f"{stage.key}:{n}" if many else stage.key, a)
                 for n, a in enumerate(arrays))
        self.stages.append(replace(stage, arrays=tuple(names)))

    def table(self, kind: str, name: str, array: np.ndarray) -> None:
        """Write an array that is no stage's output: coordinates, kept rows, an input, a yardstick."""
        self.facts.setdefault(kind, {})[name] = self.recorder.put(f"{kind}.{name}", array)

    def read_back(self, stage: Stage) -> tuple[np.ndarray, ...]:
        """The arrays of a stage written before, from the disk."""
        return tuple(self._read(name) for name in stage.arrays)

    def _read(self, name: str) -> np.ndarray:
        entry, file = self.recorder.entries[name], self.recorder.file
        start, end = entry["data_offsets"]
        file.seek(8 + self.recorder.room + start)
        return _typed(np.frombuffer(file.read(end - start), np.uint8), entry["dtype"].lower(),
                      entry["shape"])

    def close(self) -> None:
        """Write the manifest and give the file its name."""
        manifest = {**self.facts, "stages": [asdict(stage) for stage in self.stages]}
        self.recorder.notes[NOTE] = json.dumps(manifest, separators=(",", ":"))
        self.recorder.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            return self.close()
        self.recorder.__exit__(kind, error, traceback)


class Trace:
    """A trace, open. `.stages` maps key -> Stage in order of execution, `.facts` is the manifest's
    rest."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            found = "is no file" if self.path.exists() else "there is no such file"
            raise TraceError(f"{path}: {found}; give a trace that `minivl trace record` wrote")
        if self.path.suffix in DUMPS:
            raise TraceError(f"{path}: is a dump, and here a trace is read, one that `minivl trace record` "
                             "or `minivl trace import` wrote; `minivl diff` takes the golden one first")
        self.file = File(self.path)
        try:
            self.facts = self._manifest()
            self.stages = {row["key"]: _stage(row) for row in self.facts.pop("stages")}
            missing = [n for s in self.stages.values() for n in s.arrays if n not in self.file.tensors]
        except (KeyError, TypeError, AttributeError) as problem:
            self.file.close()
            raise TraceError(f"{path}: the manifest is not whole: {problem!r}; record it again"
                             ) from None
        except BaseException:
            self.file.close()
            raise
        if missing:
            self.file.close()
            raise TraceError(f"{path}: the manifest names {brief(missing[0])}, which is not in the file")

    def _manifest(self) -> dict[str, Any]:
        if NOTE not in self.file.notes:
            raise TraceError(f"{self.path}: holds arrays but no manifest of a trace; give one that "
                             "`minivl trace record` wrote: `minivl diff` takes the golden one first")
        manifest = parse_json(self.file.notes[NOTE].encode(), f"{self.path}: manifest", TraceError)
        if (manifest.get("format"), manifest.get("version")) != (NAME, VERSION):
            raise TraceError(f"{self.path}: is {manifest.get('format')} version "
                             f"{manifest.get('version')}; this minivl reads {NAME} version {VERSION}")
        return manifest

    @property
    def precision(self) -> str:
        """The type of the activations: float64 in a golden trace."""
        return str(self.facts.get("precision", "float32"))

    def recorded(self, patterns: Iterable[str] = ("*",)) -> list[str]:
        """Keys of the stages that have arrays and that a pattern matches, in order of execution."""
        asked = tuple(patterns)
        return [key for key, stage in self.stages.items()
                if stage.arrays and any(fnmatchcase(key, p)
                                        or fnmatchcase(stage.label, p) for p in asked)]

    def arrays(self, key: str) -> tuple[np.ndarray, ...]:
        """What a stage gave: one array or several, as views of the file."""
        return tuple(self.array(name) for name in self.stages[key].arrays)

    def array(self, name: str) -> np.ndarray:
        """One array by its name in the file."""
        return read_array(self.file, name)

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """Arrays that are no stage's output: `tables("coordinates")` maps axis letter -> table."""
        return {name: self.array(stored) for name, stored in self.facts.get(kind, {}).items()}

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _stage(row: Mapping[str, Any]) -> Stage:
    return Stage(row["key"], row["label"], row["contract"],
                 *(tuple(map(str, row[name])) for name in ("axes", "parents", "arrays")))


def read_array(file: File, name: str) -> np.ndarray:
    """One array of any .safetensors; bfloat16 as ml_dtypes' where that is installed, else widened to
    float32."""
    found = file.tensors[name]
    assert isinstance(found, Mapped)
    kind = "u16" if found.format == "bf16" else found.format
    if kind not in DTYPES:
        raise TraceError(f"{file.path}: {name} is in {found.format}, which has no meaning here; "
                         "convert it to float16")
    flat = file.array(np.dtype(DTYPES[kind]), found.shape, found.start)
    return _typed(flat, found.format, found.shape)


def _typed(numbers: np.ndarray, kind: str, shape: Sequence[int]) -> np.ndarray:
    """Stored numbers as an array of their type."""
    if kind != "bf16":
        return numbers.view(DTYPES[kind]).reshape(shape)
    bits = numbers.view(np.uint16).reshape(shape)
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(bfloat16)

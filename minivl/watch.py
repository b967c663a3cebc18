"""What a session can do with the output of a leaf stage: print it, keep it, write it down, cost it, or compare it with
a candidate's. Each is one small function of (session, visit); a new ability is a new function here and no change
elsewhere. Nothing in the model knows this file.

Read next: `stage.py`, which calls these.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .contract import outputs

if TYPE_CHECKING:
    from .stage import Session, Visit, Wrap

Watcher = Callable[["Session", "Visit"], None]


class Cost(NamedTuple):
    """What one run of a stage cost: wall-clock seconds and floating-point operations (a multiply-add is two)."""
    seconds: float
    flops: int


def patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern, or several, or several with commas between them, as a tuple."""
    return tuple(p for p in given.split(",") if p) if isinstance(given, str) else tuple(given)


def _wanted(visit: Visit, asked: tuple[str, ...]) -> bool:
    return any(fnmatchcase(visit.label, p) or fnmatchcase(visit.key, p) for p in asked)


def recorder(asked: tuple[str, ...], trace: dict[str, Any]) -> Watcher:
    """Keep outputs by key, in order of execution."""
    def look(session: Session, visit: Visit) -> None:
        if _wanted(visit, asked):
            trace[visit.key] = visit.output
    return look


def printer(asked: tuple[str, ...]) -> Watcher:
    """Print one line for each output: label, dtype, shape, range and root mean square."""
    def look(session: Session, visit: Visit) -> None:
        if _wanted(visit, asked):
            print(f"  {visit.key:<36} " + "   ".join(summary(array) for array in outputs(visit.output)))
    return look


def summary(array: np.ndarray) -> str:
    """`float32 [64, 192]  -2.1..1.9  rms 0.53`: one array in one phrase; small integer arrays in full."""
    head = f"{array.dtype} {list(array.shape)}"
    if array.size == 0:
        return f"{head} empty"
    if array.dtype.kind in "iu":
        return f"{head} {array.tolist()}" if array.size <= 8 else f"{head} {array.min()}..{array.max()}"
    wide = array.astype(np.float64)
    return f"{head} {wide.min():.3g}..{wide.max():.3g} rms {np.sqrt((wide * wide).mean()):.4g}"


def profiler(profile: dict[str, Cost]) -> Watcher:
    """Keep seconds and floating-point operations by key."""
    def look(session: Session, visit: Visit) -> None:
        profile[visit.key] = Cost(visit.seconds, visit.flops)
    return look


def shadower(table: Mapping[str, Wrap], guilty: dict[str, float], tolerance: float) -> Watcher:
    """Run the candidate on the same inputs as the model's own pass; note it when it differs; go on with ours."""
    def look(session: Session, visit: Visit) -> None:
        with session.beside(table, visit.label.rpartition(".")[0]) as other:
            theirs = other.enter(visit.door, visit.args)
        error = max(map(relative_error, outputs(theirs), outputs(visit.output)), default=0.0)
        if not error <= tolerance or len(outputs(theirs)) != len(outputs(visit.output)):
            guilty[visit.key] = error
    return look


def relative_error(candidate: np.ndarray, reference: np.ndarray) -> float:
    """||candidate - reference|| / ||reference||, in float64; infinite when shapes differ or a NaN comes in."""
    if np.shape(candidate) != np.shape(reference):
        return float("inf")
    a, b = np.asarray(candidate).astype(np.float64), np.asarray(reference).astype(np.float64)
    distance, size = np.linalg.norm(a - b), np.linalg.norm(b)
    if not np.isfinite(distance):
        return float("inf")
    return float(distance / size) if size else float("inf") if distance else 0.0


def dumper(folder: Path) -> Watcher:
    """Write each output into `folder` as NNNN-key.npy, and after each one the index of all that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder for the dump")
    index: list[dict[str, Any]] = []

    def look(session: Session, visit: Visit) -> None:
        files = []
        for n, array in enumerate(outputs(visit.output)):
            files.append(f"{len(index):04d}-{visit.key}{f'.{n}' if isinstance(visit.output, tuple) else ''}.npy")
            _write(folder / files[-1], functools.partial(_save, array))
        index.append({"key": visit.key, "label": visit.label, "contract": visit.door.contract, "files": files,
                      "dtypes": [str(a.dtype) for a in outputs(visit.output)],
                      "tuple": isinstance(visit.output, tuple)})
        text = json.dumps({"format": "minivl dump 1", "stages": index}, indent=1)
        _write(folder / "index.json", lambda file: file.write(text.encode("utf-8")))
    return look


def read_dump(folder: str | Path) -> dict[str, Any]:
    """A folder written by `session(dump=folder)` as a trace: key -> array or tuple of arrays, in order of execution.

    Raises FileNotFoundError without an index, ValueError when the folder's format is another.
    """
    folder = Path(folder)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if index.get("format") != "minivl dump 1":
        raise ValueError(f"{folder / 'index.json'}: format is {index.get('format')!r}, this reads 'minivl dump 1'")
    trace: dict[str, Any] = {}
    for row in index["stages"]:
        arrays = tuple(_typed(np.load(folder / f), dtype) for f, dtype in zip(row["files"], row["dtypes"], strict=True))
        trace[row["key"]] = arrays if row["tuple"] else arrays[0]
    return trace


def _save(array: np.ndarray, file: Any) -> None:
    np.save(file, _plain(array))


def _plain(array: np.ndarray) -> np.ndarray:
    """bfloat16 has no .npy form: its values go as float32, which holds each of them exactly."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != "bfloat16":
        return array
    from ml_dtypes import bfloat16
    return array.astype(bfloat16)


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    """Write beside the target and move it there, so that a reader never meets half a file."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        write(file)
    partial.replace(path)

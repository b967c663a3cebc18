"""What a session can do with the output of a leaf stage: print it, keep it, write it down, cost it, or
compare it with a candidate's. Each is one small function of a `visit`; a new ability is a new function
here and no change elsewhere. Nothing in the model knows this file.

Read next: `stage.py`, which calls these.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .contract import outputs
from .errors import Error, MissingFile
from .files import check_vacant, write_whole
from .visit import Visit, Watcher

INDEX = "index.jsonl"                # of a dump: one line of JSON for each output, in order of execution


class Cost(NamedTuple):
    """What one run of a stage cost: wall-clock seconds and floating-point operations (a multiply-add
    is two)."""
    seconds: float
    flops: int


def patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern, or several, or several with commas between them, as a tuple."""
    return tuple(p for p in given.split(",") if p) if isinstance(given, str) else tuple(given)


def wanted(visit: Visit, asked: tuple[str, ...]) -> bool:
    """Whether one of the patterns matches this leaf's label or key."""
    return any(fnmatchcase(visit.label, p) or fnmatchcase(visit.key, p) for p in asked)


def recorder(asked: tuple[str, ...], trace: dict[str, Any]) -> Watcher:
    """Keep outputs by key, in order of execution."""
    def look(visit: Visit) -> None:
        if wanted(visit, asked):
            trace[visit.key] = visit.output
    return look


def printer(asked: tuple[str, ...]) -> Watcher:
    """Print one line for each output: label, dtype, shape, range and root mean square."""
    def look(visit: Visit) -> None:
        if wanted(visit, asked):
            print(f"  {visit.key:<36} " + "   ".join(summary(array) for array in outputs(visit.output)))
    return look


def summary(array: np.ndarray) -> str:
    """`float32 [64, 192]  -2.1..1.9  rms 0.53`: one array in one phrase; small integer arrays in
    full."""
    head = f"{array.dtype} {list(array.shape)}"           # also of an array without a single number
    if array.size == 0:
        return f"{head} empty"
    if array.dtype.kind in "iu":
        return f"{head} {array.tolist()}" if array.size <= 8 else f"{head} {array.min()}..{array.max()}"
    wide = array.astype(np.float64)                       # squares of float16 overflow beyond 256
    return f"{head} {wide.min():.3g}..{wide.max():.3g} rms {np.sqrt((wide * wide).mean()):.4g}"


def profiler(profile: dict[str, Cost]) -> Watcher:
    """Keep seconds and floating-point operations by key."""
    def look(visit: Visit) -> None:
        profile[visit.key] = Cost(visit.seconds, visit.flops)
    return look


def shadower(beside: Callable[[Visit], Any], guilty: dict[str, float], failures: dict[str, Exception],
             tolerance: float) -> Watcher:
    """Compare the candidate with the model's own pass on the same inputs; note it when it differs; go
    on with ours.

    beside: runs the candidate for a visit and gives what it made, on the host.
    """
    def look(visit: Visit) -> None:
        try:
            theirs = outputs(beside(visit))              # on read-only views: it cannot spoil our inputs
        except Exception as error:                               # one run is to name all guilty stages
            guilty[visit.key], failures[visit.key] = float("inf"), error
            return
        except SystemExit as error:                    # a candidate may not end the program that asks it
            guilty[visit.key] = float("inf")
            failures[visit.key] = RuntimeError(f"it called sys.exit({error})")
            return
        ours = outputs(visit.output)
        # Shapes first: arrays that NumPy would broadcast against each other are not the same.
        same = [_shape(a) for a in theirs] == [_shape(a) for a in ours]
        distance = max(map(relative_error, theirs, ours), default=0.0) if same else float("inf")
        if not distance <= tolerance:                            # not `>`: a NaN is guilty as well
            guilty[visit.key] = distance
        if not distance < float("inf"):
            failures[visit.key] = Error("gave a number that is not finite" if same else
                                        f"gave {_kinds(theirs)}, the model's own pass {_kinds(ours)}")
    return look


def _shape(value: Any) -> tuple[int, ...] | None:
    return value.shape if isinstance(value, np.ndarray | np.generic) else None


def _kinds(values: tuple[Any, ...]) -> str:
    return " and ".join(f"an array {list(v.shape)}" if isinstance(v, np.ndarray)
                        else f"a {type(v).__name__}"
                        for v in values)


def relative_error(candidate: np.ndarray, reference: np.ndarray) -> float:
    """||candidate - reference|| / ||reference||, in float64; infinite when shapes differ or a NaN
    comes in."""
    if candidate is None or np.shape(candidate) != np.shape(reference):
        return float("inf")
    a, b = np.asarray(candidate).astype(np.float64), np.asarray(reference).astype(np.float64)
    distance, size = np.linalg.norm(a - b), np.linalg.norm(b)
    # A NaN or an infinity in one of them makes the distance one; two zeros are no distance apart.
    if not np.isfinite(distance):
        return float("inf")
    return float(distance / size) if size else float("inf") if distance else 0.0


def dumper(folder: Path) -> Watcher:
    """Write each output into `folder` as NNNN-key.npy, then a line about it into the index of all that
    is there."""
    check_vacant(folder)
    count = 0

    def look(visit: Visit) -> None:
        nonlocal count
        folder.mkdir(parents=True, exist_ok=True)    # with the first output: an early end leaves nothing
        files = []
        for n, array in enumerate(outputs(visit.output)):
            files.append(f"{count:04d}-{visit.key}{f'.{n}' if isinstance(visit.output, tuple) else ''}.npy")
            write_whole(folder / files[-1], functools.partial(_save, array))
        count += 1
        # The line goes last: a dump that is cut off names no file that is not whole.
        row = {"key": visit.key, "label": visit.label, "contract": visit.door.contract, "files": files,
               "dtypes": [str(a.dtype) for a in outputs(visit.output)],
               "tuple": isinstance(visit.output, tuple)}
        with (folder / INDEX).open("a", encoding="utf-8", newline="\n") as index:
            index.write(json.dumps(row) + "\n")
    return look


def read_dump(folder: str | Path) -> dict[str, Any]:
    """A folder written by `session(dump=folder)` as a trace: key -> array or tuple of arrays, in order
    of execution.

    A last line of the index that was cut off is left out, with a warning. Raises MissingFile without
    an index, Error for another line that is none of ours.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise MissingFile(f"{folder} is no dump: it has no {INDEX}")
    *lines, rest = (folder / INDEX).read_text(encoding="utf-8").split("\n")
    if rest:
        warnings.warn(f"{folder / INDEX} ends within a line: the dump was cut off after {len(lines)} "
                      "outputs",
                      stacklevel=2)
    trace: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            pairs = zip(row["files"], row["dtypes"], strict=True)
            # No pickles: a dump may come from anywhere.
            arrays = tuple(_typed(np.load(folder / name, allow_pickle=False), dtype)
                           for name, dtype in pairs)
            trace[row["key"]] = arrays if row["tuple"] else arrays[0]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Error(f"{folder / INDEX}, line {number}: not a line of a dump ({error})") from error
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

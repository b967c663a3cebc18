"""What toolchains leave behind, as arrays under minivl's labels.

    read_candidate("out.npz", golden, names={"blk.0.attn": "vision.blocks.0.attend", ...})

`names` says what their names mean: a label; `label:1` for the second array of a stage; null for an array
that is left out on purpose; or an object with `label` and what is known of the array (ENTRY):

    dtype       of 16-bit integers: "bfloat16" or "float16". Of floats: the type they are stored in
    precision   the type that they were computed in
    scale, zero a number, or the name of an array: quantised values are (stored - zero) * scale
    element     which of several prompts, along the first axis
    axes        the order of axes, as numpy.transpose takes it
    rows        [first, last + 1]: the rows of this prompt
    tokens      [first, last + 1]: the rows of the golden run that it has, as a step of decoding has one
    instead     other labels that fit as well, as a guess notes them

Files are no matter of this file (`files.py`), nor are layouts and row orders (`align.py`), nor finding
the names out (`guess.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint.safetensors import File
from ...door.contract import outputs
from ...door.errors import brief
from ...door.watch import INDEX, read_dump
from ..trace.format import NOTE, Trace, TraceError
from .files import read_arrays
from .numbers import from_bits, kind_of, real
from .steps import Step
from .stored import arithmetic, precision_of, rest
from .taps import Candidate, Kept, Part, laid
from .verdict import EPS

ENTRY = ("label", "dtype", "precision", "scale", "zero", "element", "axes", "rows", "tokens", "instead")
# of a trace that `understood.py` wrote
KEPT, KEPT_ROWS, LOOSE, STEPS = "kept", "kept_rows", "loose", "steps"
Names = Mapping[str, Any]

__all__ = ["Candidate", "precision_of", "read_arrays", "read_candidate"]


def read_candidate(path: str | Path, golden: Trace, names: Names | None = None,
                   precision: str | None = None, weights: str = "") -> Candidate:
    """Read whatever `path` is. weights: how the candidate keeps its matrices, where that costs accuracy.
    Raises TraceError when nothing in it can be matched with the golden trace."""
    path = Path(path)
    candidate = _read(path, golden, names, precision)
    candidate.weights = weights
    if not candidate.native and not candidate.declared:
        candidate.precision = rest(arithmetic(golden, laid(golden, candidate)))
    return candidate


def _read(path: Path, golden: Trace, names: Names | None, precision: str | None) -> Candidate:
    # 1. labels of our own: a dump, a trace
    if path.is_dir() and (path / INDEX).is_file():
        dump = read_dump(path)
        taps: dict[str, dict[int | None, np.ndarray]] = {k: dict(enumerate(outputs(v)))
                                                         for k, v in dump.items()}
        return Candidate(str(path), "a dump of minivl", precision or precision_of(dump.values()), True,
                         taps)
    if names is None and is_trace(path):
        return of_trace(Trace(path), precision)
    # 2. anybody's names
    return named(str(path), read_arrays(path), golden, names, precision)


def of_trace(trace: Trace, precision: str | None) -> Candidate:
    """A trace as a candidate; what `minivl trace import` noted of its arrays comes along."""
    taps: dict[str, dict[int | None, np.ndarray]] = {}
    kept: dict[Part, Kept] = {}
    partial: dict[Part, np.ndarray] = {}
    noted, rows, steps = trace.facts.get(KEPT, {}), trace.tables(KEPT_ROWS), trace.tables(STEPS)
    for key in trace.recorded():
        names = trace.stages[key].arrays
        for name, array in zip(names, trace.arrays(key), strict=True):
            # a stage of several arrays may have been imported in part: its names say which
            number = int(name.rpartition(":")[2]) if name != key else 0
            taps.setdefault(key, {})[number] = array
            if name in noted:
                kept[key, number] = Kept(noted[name]["stored"], noted[name]["computed"], steps.get(name))
            if name in rows:
                partial[key, number] = rows[name]
    return Candidate(str(trace.path), str(trace.facts.get("producer", "")), precision or trace.precision,
                     True, taps, dict(trace.tables(LOOSE)), trace.facts, bool(precision), kept,
                     list(trace.facts.get("doubts", [])), partial)


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
    aside = {name for name, entry in table.items() if entry is None and name in arrays}
    found = {name: entry for name, entry in table.items()
             if name in arrays and name not in aside and _label(entry) in known}
    # a table with a misspelt line would compare less than its author believes
    if names is not None and (strange := [n for n in names if n not in found and n not in aside]):
        first = strange[0]
        if first in arrays and isinstance(names[first], dict) and names[first]["label"] is None:
            raise TraceError(f"{source}: of --names, {brief(first)} has no label; write null instead of an "
                             "object to leave it out")
        if first not in arrays:
            raise TraceError(f"{source}: of --names, {brief(first)} is not in the file, which holds "
                             f"{', '.join(list(arrays)[:6]) or 'no arrays'}{', ...' * (len(arrays) > 6)}")
        raise TraceError(f"{source}: of --names, {brief(first)} means {brief(_label(names[first]))}, no label; "
                         "`minivl trace show` of the golden trace lists its labels")
    if names is not None and len(aside) == len(arrays):
        raise TraceError(f"{source}: --names leaves out all of its {len(arrays)} arrays, so that nothing is "
                         "compared; give one of them a label")
    if not found:
        few = ", ".join(list(arrays)[:3]) or "none"
        raise TraceError(f"{source}: none of its {len(arrays)} names is a label of the golden trace "
                         f"({few}, ...): say what they mean with --names FILE.json, or "
                         "read the file with `minivl trace import`, which guesses")
    taps, kept, doubts, steps = placed(source, arrays, found)
    used = set(found) | aside | {v for e in found.values() if isinstance(e, dict) for v in e.values()
                                 if isinstance(v, str)}
    loose = {name: array for name, array in arrays.items() if name not in used}
    if aside:
        doubts.append(f"left out by hand: {', '.join(sorted(aside))}")
    values = [a for parts in taps.values() for a in parts.values()]
    return Candidate(source, "arrays of others", precision or precision_of(values), False, taps,
                     loose, declared=precision is not None, kept=kept, doubts=doubts, steps=steps)


def placed(source: str, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any]
           ) -> tuple[dict[str, dict[int | None, np.ndarray]], dict[Part, Kept], list[str],
                      dict[Part, list[Step]]]:
    """Arrays under their labels, with what was said of each, what is uncertain, and the pieces of
    stages that come step by step. Raises TraceError where two have one label, or one row."""
    taps: dict[str, dict[int | None, np.ndarray]] = {}
    kept: dict[Part, Kept] = {}
    doubts, owner, steps = [], dict[Part, str](), dict[Part, list[Step]]()
    for name, entry in found.items():
        key, _, number = _label(entry).partition(":")
        part: Part = (key, int(number) if number else None)
        if isinstance(entry, dict) and "tokens" in entry:
            array, kept[part] = undone(source, name, arrays, entry)
            steps.setdefault(part, []).append(step_of(source, name, entry, array, steps.get(part, [])))
            taps.setdefault(key, {})[part[1]] = array
            continue
        if part in owner or part in steps:
            other = owner.get(part, "a step of decoding")
            raise TraceError(f"{source}: {brief(other)} and {brief(name)} both mean {brief(_label(entry))}; two arrays "
                             "cannot be one stage: give one of them another label, or null to leave it "
                             "out")
        owner[part] = name
        taps.setdefault(key, {})[part[1]], kept[part] = undone(source, name, arrays, entry)
        if isinstance(entry, dict) and entry.get("instead"):
            doubts.append(f"{name} was taken for {_label(entry)}; {' and '.join(entry['instead'])} fit"
                          f"{'s' if len(entry['instead']) == 1 else ''} nearly as well")
    return taps, kept, doubts, steps


def step_of(source: str, name: str, entry: Mapping[str, Any], array: np.ndarray,
            others: list[Step]) -> Step:
    """An array that holds some rows of a golden one. Raises TraceError for rows that are none, or that
    another array has."""
    said = entry["tokens"]
    at = f"{source}: of --names, {brief(name)}"
    if not isinstance(said, list) or [type(n) for n in said] != [int, int] or not 0 <= said[0] < said[1]:
        raise TraceError(f"{at} has the tokens {brief(said)}; write the first golden row and the "
                         "last + 1, as in [60, 61]")
    if any(said[0] < other.end and other.first < said[1] for other in others):
        raise TraceError(f"{at} has the tokens {said}, of which another array of {brief(_label(entry))} has "
                         "some; each row can come once")
    return Step(said[0], said[1], array)


def _label(entry: Any) -> str:
    return str(entry["label"] if isinstance(entry, dict) else entry)


def undone(source: str, name: str, arrays: Mapping[str, np.ndarray], entry: Any) -> tuple[np.ndarray,
                                                                                          Kept]:
    """An array as it was meant, and what was said of it. Raises TraceError for an entry that says what
    cannot be."""
    array, at = arrays[name], f"{source}: of --names, {brief(name)}"
    if not real(array):
        raise TraceError(f"{at} is an array of {array.dtype.name}, and a stage holds floats or whole "
                         "numbers; give its label to another array, or null to leave it out")
    if not isinstance(entry, dict):
        return array, Kept()
    if strange := [word for word in entry if word not in ENTRY]:
        raise TraceError(f"{at} has {brief(strange[0])}; an entry can have {', '.join(ENTRY)}")
    array, storage = read_as(at, array, entry)
    computed = entry.get("precision")
    if computed is not None and kind_of(computed) not in EPS:
        raise TraceError(f"{at} has the precision {brief(computed)}; it can be {', '.join(EPS)}")
    array, step = scaled(at, array, arrays, entry)
    return cut_out(at, array, entry), Kept(storage, kind_of(computed) if computed else None, step)


def read_as(at: str, array: np.ndarray, entry: Mapping[str, Any]) -> tuple[np.ndarray, str | None]:
    """The numbers that integers hold; of floats, the type that they are said to be stored in."""
    if "dtype" not in entry:
        return array, None
    kind = kind_of(entry["dtype"])
    if array.dtype.kind in "iu" and array.dtype.itemsize == 2 and kind in ("bfloat16", "float16"):
        return (from_bits(array) if kind == "bfloat16"
                else np.ascontiguousarray(array).view(np.float16)), kind
    if array.dtype.kind in "fV" and kind in EPS:
        return array, kind
    raise TraceError(f"{at} has the dtype {brief(entry['dtype'])}, and the array is {array.dtype.name}: "
                     f"16-bit integers can be bfloat16 or float16, floats can be {', '.join(EPS)}")


def scaled(at: str, array: np.ndarray, arrays: Mapping[str, np.ndarray], entry: Mapping[str, Any]
           ) -> tuple[np.ndarray, np.ndarray | None]:
    """Quantisation undone: (stored - zero) * scale, scales along the last axis; and the scale."""
    if "scale" not in entry:
        return array, None
    found = []
    for word in ("scale", "zero"):
        value = entry.get(word, 0)
        if isinstance(value, str) and value not in arrays:
            raise TraceError(f"{at} has the {word} {brief(value)}, and there is no such array")
        if not isinstance(value, str | int | float):
            raise TraceError(f"{at} has the {word} {brief(value)}; write a number, or the name "
                             "of an array")
        found.append(np.asarray(arrays[value] if isinstance(value, str) else value, np.float32))
    try:
        return (array.astype(np.float32) - found[1]) * found[0], found[0]          # ... x, x -> ... x
    except ValueError:
        raise TraceError(f"{at}: a scale of shape {list(found[0].shape)} does not fit an array of "
                         f"{list(array.shape)}; scales lie along the last axis") from None


def cut_out(at: str, array: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    """One prompt of several, axes in another order, some rows: whatever the entry says."""
    try:
        if "element" in entry:
            array = array[int(entry["element"])]
        if "axes" in entry:
            array = array.transpose(entry["axes"])
        if "rows" in entry:
            first, end = map(int, entry["rows"])
            if not 0 <= first < end <= len(array):
                raise ValueError
            array = array[first:end]
    except (ValueError, IndexError, TypeError):
        said = {word: entry[word] for word in ("element", "axes", "rows") if word in entry}
        raise TraceError(f"{at}: {brief(said)} cannot be taken of an array of "
                         f"{list(array.shape)}: element is a number along the first axis, axes an order "
                         "of all, rows a first one and an end") from None
    return array

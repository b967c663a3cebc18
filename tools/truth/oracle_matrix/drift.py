"""Each version against the pinned one and against minivl: which stages moved, and how a prompt is numbered.

    found = matrix(results, pinned, vlm, prompts)        # plain data; `page.py` writes it down

A stage of a version has *moved* when it is further from the pinned version's than rounding explains (twice what
`minivl diff` allows one run, for both round), and is *rounded otherwise* when bits differ and that is all. The stages
run on the same positions; how a version numbers a prompt itself is a table of its own.

Read next: `page.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from minivl import VLM
from minivl.truth.compare.align import fit
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.metrics import measure, relative, row_norms
from minivl.truth.compare.verdict import Yard, multiple
from minivl.truth.trace.format import YARDSTICK, Trace, read_array, row_axis
from minivl.truth.trace.record import record

from .prompts import MIXED, inputs
from .venvs import Result
from .worker import ATTENTION, TYPES

SAME, ROUNDED, MOVED, ABSENT = "same bits", "rounded otherwise", "moved", "not there"
RULES = {"max_plus_one": "largest number so far + 1", "tf5": "start of the video + larger side of its grid"}
BOTH = 2.0                               # two runs round
WAYS = tuple((precision, attention) for precision in TYPES for attention in ATTENTION)


@dataclass(frozen=True)
class Numbered:
    """How a version numbers a prompt: the rules whose numbers these are, and some of the numbers."""
    rules: tuple[str, ...]
    time: tuple[int, ...]                # of each pair of frames of the first medium (of a picture: one number)
    after: int                           # the first text behind the last picture or video
    start: int                           # where the last picture or video starts


class Against(NamedTuple):
    """The array of a way's prompts that is furthest from minivl: times the limit, verdict, name, prompt."""
    ratio: float
    word: str
    name: str
    prompt: str


@dataclass
class Version:
    """One version's row of every table."""
    version: str
    error: str | None = None
    loading: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    positions: dict[str, Numbered] = field(default_factory=dict)
    drift: dict[tuple[str, str, str], tuple[str, float]] = field(default_factory=dict)   # stage, type, attention
    against: dict[tuple[str, str], Against] = field(default_factory=dict)                # type, attention


@dataclass
class Matrix:
    """All versions, in the order in which they came out."""
    pinned: str
    torch: str
    prompts: list[str]
    versions: list[Version]


def matrix(results: list[Result], pinned: str, vlm: VLM, prompts: Mapping[str, Path]) -> Matrix:
    """Compare everything that the workers left. Raises ValueError when the pinned version did not run."""
    base = next((r for r in results if r.version == pinned), None)
    if base is None or base.error or base.found["errors"]:
        raise ValueError(f"the pinned version {pinned} has to be one of the versions, and to run without an error: "
                         f"{base and (base.error or base.found['errors'])}")
    versions = [Version(r.version, r.error, r.found.get("loading", {}), r.found.get("errors", {})) for r in results]
    for name, path in prompts.items():
        with TemporaryDirectory(prefix="minivl-drift-") as folder:
            golden = Path(folder) / "golden.safetensors"
            record(vlm.on("float64", "definition"), inputs(vlm, name), golden, yardsticks=TYPES)
            with Trace(golden) as trace:
                for row, made in zip(versions, results, strict=True):
                    if made.error is None:
                        add_prompt(row, made, base, trace, path.stem, ("decoder.",) if name in MIXED else ("",))
                        add_positions(row, made, vlm, name, path.stem)
    return Matrix(pinned, base.found["torch"], list(prompts), versions)


def add_prompt(row: Version, made: Result, base: Result, golden: Trace, stem: str, parts: tuple[str, ...]) -> None:
    """One prompt's stages in every type and attention; a stage kind has the worst of its blocks and prompts.

    parts: how the labels of the stages begin that are compared
    """
    for precision, attention in WAYS:
        name = f"{stem}-{precision}-{attention}.safetensors"
        if not (made.runs / name).is_file():
            continue
        for kind, word, error in drifted(made.runs / name, base.runs / name, golden, precision):
            if not kind.startswith(parts):
                continue
            old = row.drift.get((kind, precision, attention), (SAME, 0.0))
            row.drift[kind, precision, attention] = max(old, (word, error), key=gravity)
        theirs = read_candidate(made.runs / name, golden, precision=precision)
        theirs.taps = {key: tap for key, tap in theirs.taps.items() if key.startswith(parts)}
        worst = max(compare(golden, theirs).judged, key=lambda array: array.ratio)
        here = Against(worst.ratio, worst.word, worst.name, stem)
        row.against[precision, attention] = max(here, row.against.get((precision, attention), here))


def gravity(found: tuple[str, float]) -> tuple[int, float]:
    return (SAME, ABSENT, ROUNDED, MOVED).index(found[0]), found[1]


def drifted(theirs: Path, pinned: Path, golden: Trace, precision: str) -> Iterator[tuple[str, str, float]]:
    """(stage kind, word, relative error) for each array that the pinned version gave."""
    from minivl.checkpoint.safetensors import File
    a, b = File(theirs), File(pinned)
    yards = golden.tables(f"{YARDSTICK}.{precision}")
    try:
        for name in b.tensors:
            key, _, part = name.partition(":")
            if key not in golden.stages:
                continue
            kind = re.sub(r"\.\d+\.", ".N.", key)
            if name not in a.tensors:
                yield kind, ABSENT, float("inf")
                continue
            exact, yard, axis = golden_side(golden, yards, key, part)
            yield kind, *moved(read_array(a, name), read_array(b, name), yard, exact, axis, precision)
    finally:
        a.close(), b.close()


def golden_side(golden: Trace, yards: Mapping[str, np.ndarray], key: str, part: str
                ) -> tuple[np.ndarray, np.ndarray | None, int]:
    """The golden array of one of a stage's outputs, the distance of each row that rounding alone makes, and its axis of
    rows; of a stage whose outputs lie side by side in one array, as the tower's queries, keys and values do, so too."""
    stage = golden.stages[key]
    if part or len(stage.arrays) == 1:
        n = int(part or 0)
        return golden.array(stage.arrays[n]), yards.get(stage.arrays[n]), row_axis(stage.axes[n])
    packed = np.concatenate([array.reshape(len(array), -1) for array in golden.arrays(key)], axis=1)
    known = [yards[name].astype(np.float64) ** 2 for name in stage.arrays if name in yards]
    return packed, np.sqrt(sum(known)) if known else None, 0


def moved(theirs: np.ndarray, pinned: np.ndarray, yard: np.ndarray | None, exact: np.ndarray, axis: int, precision: str
          ) -> tuple[str, float]:
    """How far one array is from the pinned version's, in a word and as a relative error."""
    if theirs.shape == pinned.shape and np.array_equal(theirs, pinned):
        return SAME, 0.0
    laid, base = fit(theirs, exact, axis), fit(pinned, exact, axis)
    if laid is None or base is None:
        return MOVED, float("inf")
    found = measure(laid.array, base.array, axis)
    if not found.differing:                               # but for a batch axis
        return SAME, 0.0
    norms = row_norms(exact, axis)
    known = Yard(0.0, 0.0) if yard is None else Yard(
        relative(yard, norms), float((yard / np.maximum(norms, 1e-30)).max(initial=0.0)))
    return (ROUNDED if multiple(found, known, precision, len(norms)) <= BOTH else MOVED), found.error


# ---- positions ---------------------------------------------------------------------------------------------

def add_positions(row: Version, made: Result, vlm: VLM, name: str, stem: str) -> None:
    """How the version numbers a prompt, where it came to that."""
    path = made.runs / f"{stem}-positions.npy"
    if path.is_file():
        row.positions[name] = numbered(np.load(path), vlm, name)


def numbered(at: np.ndarray, vlm: VLM, name: str) -> Numbered:
    """A version's positions 3 s as rules and numbers."""
    prompt = inputs(vlm, name)
    rules = tuple(rule for rule in RULES if np.array_equal(at, inputs(vlm, name, rule).position_ids))
    pads = (vlm.config.image_token_id, vlm.config.video_token_id)
    rows = np.flatnonzero(np.isin(prompt.input_ids, pads))
    first = rows[: np.flatnonzero(np.diff(rows, append=-1) != 1)[0] + 1]              # the first picture or video
    last = rows[np.flatnonzero(np.diff(rows, prepend=-2) != 1)[-1]]                    # where the last one starts
    return Numbered(rules, tuple(dict.fromkeys(at[0, first].tolist())), int(at[0, rows[-1] + 1]), int(at[1, last]))

"""A candidate's run against a golden trace: align, measure, judge, and say where it goes wrong first.

    with Trace("golden.safetensors") as golden:
        found = compare(golden, read_candidate("mine.npz", golden, names))
    found.first_bad, found.suspects, found.judged

NumPy only: no weights are opened and nothing of the model is run (`local.py` does that). Read next: `align.py`,
`metrics.py`, `verdict.py`, in the order of their use; `report.py` shows what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..trace.format import BESIDE, COORDINATES, LEANS, ROWS, YARDSTICK, Stage, Trace, TraceError, row_axis
from . import align
from .importers import Candidate
from .metrics import (
    LogitsMeasure,
    Measure,
    measure,
    measure_logits,
    relative,
    relative_rows,
    row_distances,
    row_norms,
    sigmas,
)
from .slices import Slice, slices
from .verdict import (
    EPS,
    EXACT,
    LEANING,
    ROUNDING,
    SHORT,
    SUSPICIOUS,
    WIDE,
    WRONG,
    Judged,
    Yard,
    by_stage,
    first_bad,
    judge,
    kind_of,
    suspects,
    unlike,
)

LOGITS, SCHEDULE = "decoder.logits", "vision.schedule"
BLOCK = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")
UNLIKE = Measure(float("inf"), float("inf"), 0, float("inf"), float("nan"), float("nan"), 1.0, True)


@dataclass
class Comparison:
    """Everything that a report says, as plain data.

    rows: name of an array -> each row's error as a multiple of what rounding may do; letters: what its rows are;
    untapped: golden stages that the candidate lacks
    """
    golden: str
    candidate: str
    producer: str
    precision: str
    judged: list[Judged]
    words: dict[str, str]                                    # key -> word
    first_bad: str | None
    suspects: list[str]
    untapped: list[str]
    unused: list[str]
    aligned: list[str]
    warnings: list[str]
    logits: LogitsMeasure | None
    local: bool                                              # each stage by itself: all bad ones are guilty
    slices: dict[str, list[Slice]] = field(default_factory=dict)             # of the first bad tap's arrays
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)


class Tap(NamedTuple):
    """One array of one stage on both sides; `found` is None where the candidate's fits in no way."""
    name: str
    stage: Stage
    axes: str
    golden: np.ndarray
    found: align.Fitted | None
    shape: tuple[int, ...]

    @property
    def letter(self) -> str:
        """What the rows are."""
        return (self.axes.split() or ["n"])[row_axis(self.axes)]


def compare(golden: Trace, candidate: Candidate) -> Comparison:
    """Judge every array that both sides have. Raises TraceError when there is none."""
    taps = list(ordered(list(fitted(golden, candidate)), golden, candidate.native))
    if not taps:
        raise TraceError(f"{candidate.source}: has no stage in common with {golden.path}")
    if candidate.precision not in EPS:
        raise TraceError(f"{candidate.source}: precision {candidate.precision!r} is none of {', '.join(EPS)}")
    judged, rows, local = [], {}, bool(golden.facts.get("local"))
    yards, beside = golden.tables(f"{YARDSTICK}.{candidate.precision}"), golden.tables(BESIDE)
    depths = dict(zip(golden.stages, accumulate(len(stage.axes) for stage in golden.stages.values()), strict=True))
    for tap in taps:
        word, multiples = judged_tap(tap, yards.get(tap.name), candidate.precision, depths[tap.stage.key])
        if tap.name in beside:
            word = beside_ours(word, tap, beside[tap.name], candidate.precision)
        judged.append(word)
        if multiples is not None:
            rows[tap.name] = multiples
    judged = leaning(judged, golden.tables(LEANS), candidate.precision)
    words = by_stage(judged)
    first = first_bad(words, golden.stages)
    return Comparison(
        str(golden.path), candidate.source, candidate.producer, candidate.precision, judged, words, first,
        suspects(first, words, golden.stages, local) if first else [], [k for k in golden.recorded() if k not in words],
        candidate.unused, sorted({note for tap in taps if tap.found for note in tap.found.notes}),
        warnings_of(golden, candidate, bool(yards)), None if local else logits_of(taps), local,
        slices_of(taps, first, golden), rows, {t.name: t.letter for t in taps})


def fitted(golden: Trace, candidate: Candidate) -> Iterator[Tap]:
    """Pairs of arrays, the candidate's in the golden shape, in the golden order of execution."""
    kept, full = golden.tables(ROWS), golden.facts.get("letters", {})
    for key in golden.recorded():
        parts, stage = candidate.taps.get(key, {}), golden.stages[key]
        exact = golden.arrays(key)
        whole = parts.get(None)
        if whole is not None and len(exact) > 1 and not candidate.native:
            packed = align.unpack(whole, exact)
        for n, (name, axes, array) in enumerate(zip(stage.arrays, stage.axes, exact, strict=True)):
            theirs = parts.get(n, whole)
            if theirs is None:
                continue
            letter = (axes.split() or ["n"])[row_axis(axes)]
            if letter in kept and len(kept[letter]) != full.get(letter):
                theirs = some_rows(theirs, kept[letter], full.get(letter), row_axis(axes))
            if n not in parts and len(exact) > 1:
                found = packed[n]
            elif candidate.native:
                found = align.Fitted(theirs) if theirs.shape == array.shape else None
            else:
                found = align.fit(theirs, array, row_axis(axes))
            yield Tap(name, stage, axes, array, found, np.shape(theirs))


def some_rows(array: np.ndarray, rows: np.ndarray, of: int | None, axis: int) -> np.ndarray:
    """The rows that the golden trace kept, of a candidate that has all of them."""
    return np.take(array, rows, axis) if array.ndim > axis and array.shape[axis] == of else array


def ordered(taps: list[Tap], golden: Trace, native: bool) -> Iterator[Tap]:
    """The taps with patches and cells in the golden order, where the candidate keeps another one throughout."""
    at = golden.tables(COORDINATES)
    known = {} if native else {letter: align.orders(letter, at) for letter in "pwc"}
    votes: dict[str, list[str]] = {}
    for tap in taps:
        if tap.found is not None and known.get(tap.letter):
            votes.setdefault(tap.letter, []).append(align.vote(tap.found.array, tap.golden, known[tap.letter]))
    chosen = align.elected(votes)
    for tap in taps:
        word = chosen.get(tap.letter, align.AS_IT_IS)
        if tap.found is None or word == align.AS_IT_IS:
            yield tap
        else:
            note = f"rows {tap.letter} came {word}, in {votes[tap.letter].count(word)} of {len(votes[tap.letter])} taps"
            array = tap.found.array[known[tap.letter][word]]
            yield tap._replace(found=align.Fitted(array, (*tap.found.notes, note), tap.found.padding))


def judged_tap(tap: Tap, yard: np.ndarray | None, precision: str, depth: int) -> tuple[Judged, np.ndarray | None]:
    """The verdict on one array, and for floats each row's error as a multiple of what rounding may do."""
    if tap.found is None:
        note = f"shape {list(tap.shape)} cannot be laid on {list(tap.golden.shape)}"
        return Judged(tap.name, tap.stage.key, WRONG, float("inf"), UNLIKE, Yard(0, 0), (note,)), None
    axis, array = row_axis(tap.axes), tap.found.array
    found = measure(array, tap.golden, axis)
    if tap.golden.dtype.kind in "iub":
        word = WRONG if found.differing else EXACT
        return Judged(tap.name, tap.stage.key, word, float("inf") if found.differing else 0.0, found, Yard(0, 0),
                      tap.found.notes), None
    norms = row_norms(tap.golden, axis)
    known = None if yard is None else Yard(relative(yard, norms),
                                           float(relative_rows(yard.astype(np.float64), norms).max(initial=0.0)))
    exact_type = "float32" if yard is None and tap.golden.dtype == np.float32 else precision
    word, ratio, used = judge(found, known, exact_type, depth, len(norms))
    errors = relative_rows(row_distances(array, tap.golden, axis), norms)
    limit = max(used.worst, EPS[exact_type])
    return Judged(tap.name, tap.stage.key, word, ratio, found, used, tap.found.notes), np.nan_to_num(
        errors / limit, nan=np.inf, posinf=np.inf)


def beside_ours(row: Judged, tap: Tap, distances: np.ndarray, precision: str) -> Judged:
    """The verdict of a local run, which knows what minivl's own stage rounds to on the same inputs as well."""
    beside = relative(distances, row_norms(tap.golden, row_axis(tap.axes)))
    if not unlike(tap.stage.key, row.word, beside, row.yard, precision):
        return row
    note = f"as near to the exact value as rounding is, but {beside:.1e} away from what the reference rounds to"
    return replace(row, word=SUSPICIOUS, ratio=max(row.ratio, 1.0), notes=(*row.notes, note))


def leaning(judged: list[Judged], leans: Mapping[str, np.ndarray], precision: str) -> list[Judged]:
    """The verdicts of a local run in 16 bits, where stages of one kind together lean one way: suspicious.

    A fault of one part in 100,000 changes few rounded numbers, but all of them the same way; in one stage that may be
    chance. Attention is apart, as in `unlike`, and so are tables of angles, whose frequencies differ in their last
    digit from library to library.
    """
    if precision not in SHORT:
        return judged
    kinds: dict[str, list[np.ndarray]] = {}
    for row in judged:
        if may_lean(row, leans):
            kinds.setdefault(kind_of(row.key), []).append(leans[row.name])
    sure = {kind: sigmas(np.concatenate(found)) for kind, found in kinds.items()}
    return [replace(row, word=SUSPICIOUS, ratio=max(row.ratio, 1.0), notes=(*row.notes, said(sure[kind_of(row.key)])))
            if row.word == ROUNDING and may_lean(row, leans) and abs(sure[kind_of(row.key)]) > LEANING else row
            for row in judged]


def may_lean(row: Judged, leans: Mapping[str, np.ndarray]) -> bool:
    """Whether an array is of those that `leaning` looks at."""
    return row.name in leans and row.yard.error > WIDE and not row.key.endswith((".attend", ".angles", ".cos_sin"))


def said(sure: float) -> str:
    """That a kind of stage leans, in words."""
    way = "larger" if sure > 0 else "smaller"
    return f"within rounding, but all stages of this kind lean towards {way} numbers: {abs(sure):.0f} sigmas"


def logits_of(taps: list[Tap]) -> LogitsMeasure | None:
    """What the difference means for the words, where both sides have logits of the same rows."""
    tap = next((t for t in taps if t.stage.label == LOGITS and t.found), None)
    return None if tap is None or tap.found is None else measure_logits(tap.found.array, tap.golden)


def slices_of(taps: list[Tap], key: str | None, golden: Trace) -> dict[str, list[Slice]]:
    """Where the difference sits in each array of the first bad tap."""
    at, media = golden.tables(COORDINATES), golden.facts.get("media", [])
    patch = next((m["size"][0] // m["grid"][1] for m in media if m.get("size")), 14)
    block = BLOCK.search(f"{key}.")
    tables = golden.arrays(SCHEDULE) if SCHEDULE in golden.recorded() else ()
    segments = tables[int(block[1])] if block and int(block[1]) < len(tables) else next(iter(tables), None)
    return {t.name: slices(t.found.array, t.golden, t.axes, at, segments, patch)
            for t in taps if t.stage.key == key and t.found}


def warnings_of(golden: Trace, candidate: Candidate, has_yard: bool) -> list[str]:
    """What makes the comparison less than it could be."""
    said = []
    if golden.precision != "float64":
        said.append(f"the golden trace is {golden.precision}, not float64: its own rounding counts as the candidate's")
    if not has_yard:
        said.append(f"no yardstick of {candidate.precision} was recorded: a rule of thumb stands in for it")
    for what in ("input_hashes", "checkpoint"):
        ours, theirs = golden.facts.get(what, {}), candidate.facts.get(what, {})
        other = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if other:
            said.append(f"the two runs had different {'inputs' if what == 'input_hashes' else 'checkpoints'}: "
                        f"{', '.join(other)}")
    return said

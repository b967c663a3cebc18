"""A candidate's run against a golden trace: align, measure, judge, and say where it goes wrong first.

    with Trace("golden.safetensors") as golden:
        found = compare(golden, read_candidate("mine.npz", golden, names))
    found.first_bad, found.suspects, found.judged

NumPy only: no weights are opened and nothing of the model is run (`local.py` does that). Read next:
`align.py`, `metrics.py`, `verdict.py`, in the order of their use; `report.py` shows what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..trace import format as stored
from ..trace.format import Stage, Trace, TraceError, row_axis
from . import align, metrics, verdict
from .importers import Candidate
from .metrics import LogitsMeasure, Measure
from .slices import Slice, slices
from .verdict import EPS, ROUNDING, SUSPICIOUS, WRONG, Judged, Yard

LOGITS, SCHEDULE = "decoder.logits", "vision.schedule"
BLOCK = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")
UNLIKE = Measure(float("inf"), float("inf"), 0, float("inf"), float("nan"), float("nan"), 1.0, True)


@dataclass
class Comparison:
    """Everything that a report says, as plain data.

    rows: name of an array -> each row's error as a multiple of its limit, which is what rounding may
        do to a row; infinite where whole numbers differ
    letters: what its rows are
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
    local: bool                                           # each stage by itself: all bad ones are guilty
    slices: dict[str, list[Slice]] = field(default_factory=dict)          # of the first bad tap's arrays
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)


class Tap(NamedTuple):
    """One array of one stage on both sides; `found` is None where the candidate's fits in no way."""
    name: str
    stage: Stage
    axes: str
    golden: np.ndarray
    found: align.Fitted | None
    theirs: np.ndarray                                       # as it came

    @property
    def letter(self) -> str:
        """What the rows are."""
        return (self.axes.split() or ["n"])[row_axis(self.axes)]


def compare(golden: Trace, candidate: Candidate) -> Comparison:
    """Judge every array that both sides have. Raises TraceError when there is none."""
    precision = candidate.precision
    if precision not in EPS:
        raise TraceError(f"{candidate.source}: precision {precision!r} is none of {', '.join(EPS)}")
    # 1. the candidate's arrays in golden shapes and golden row orders
    taps = list(ordered(list(fitted(golden, candidate)), golden, candidate.native))
    if not taps:
        raise TraceError(f"{candidate.source}: has no stage in common with {golden.path}")
    # 2. a word for every array: by itself, then (in a local trace) beside minivl's own, then all of a
    # kind together
    judged, rows = judged_taps(taps, golden, precision)
    judged = leaning(judged, golden.tables(stored.LEANS), precision)
    # 3. a word for every stage, the first bad one, and the passes that lead to it
    words, local = verdict.by_stage(judged), bool(golden.facts.get("local"))
    first = verdict.first_bad(words, golden.stages)
    guilty = verdict.suspects(first, words, golden.stages, local) if first else []
    # 4. all of it as plain data
    return Comparison(
        str(golden.path), candidate.source, candidate.producer, precision, judged, words, first, guilty,
        untapped=[key for key in golden.recorded() if key not in words],
        unused=candidate.unused,
        aligned=sorted({note for tap in taps if tap.found for note in tap.found.notes}),
        warnings=warnings_of(golden, candidate),
        # on given values the last stage says nothing of the words
        logits=None if local else logits_of(taps), local=local,
        slices=slices_of(taps, first, golden), rows=rows, letters={tap.name: tap.letter for tap in taps})


def judged_taps(taps: list[Tap], golden: Trace, precision: str
                ) -> tuple[list[Judged], dict[str, np.ndarray]]:
    """Every array's verdict; and by name each row's error as a multiple of its limit."""
    yards, beside = golden.tables(f"{stored.YARDSTICK}.{precision}"), golden.tables(stored.BESIDE)
    # how many arrays of the run came up to a stage, recorded or not: the rule of thumb for rounding
    # needs it
    depths = dict(zip(golden.stages, accumulate(len(s.axes) for s in golden.stages.values()),
                      strict=True))
    judged, rows = [], {}
    for tap in taps:
        row, multiples = judged_tap(tap, yards.get(tap.name), precision, depths[tap.stage.key])
        judged.append(beside_ours(row, tap, beside[tap.name], precision) if tap.name in beside else row)
        if multiples is not None:
            rows[tap.name] = multiples
    return judged, rows


def fitted(golden: Trace, candidate: Candidate) -> Iterator[Tap]:
    """Pairs of arrays, the candidate's in the golden shape, in the golden order of execution."""
    kept, full = golden.tables(stored.ROWS), golden.facts.get("letters", {})
    for key in golden.recorded():
        parts, stage = candidate.taps.get(key, {}), golden.stages[key]
        exact = golden.arrays(key)                                         # one array, or several: q k v
        whole = parts.get(None)
        if whole is not None and len(exact) > 1 and not candidate.native:
            packed = align.unpack(whole, exact)
        for n, (name, axes, array) in enumerate(zip(stage.arrays, stage.axes, exact, strict=True)):
            theirs = parts.get(n, whole)                                 # its own, or all of them in one
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
            yield Tap(name, stage, axes, array, found, np.asarray(theirs))


def some_rows(array: np.ndarray, rows: np.ndarray, of: int | None, axis: int) -> np.ndarray:
    """The rows that the golden trace kept, of a candidate that has all of them."""
    return np.take(array, rows, axis) if array.ndim > axis and array.shape[axis] == of else array


def ordered(taps: list[Tap], golden: Trace, native: bool) -> Iterator[Tap]:
    """The taps with patches and cells in the golden order, where the candidate keeps another one
    throughout."""
    at = golden.tables(stored.COORDINATES)
    known = {} if native else {letter: align.orders(letter, at) for letter in "pwc"}
    votes: dict[str, list[str]] = {}
    for tap in taps:
        if tap.found is not None and known.get(tap.letter):
            word = align.vote(tap.found.array, tap.golden, known[tap.letter])
            votes.setdefault(tap.letter, []).append(word)
    chosen = align.elected(votes)                                 # one order for all taps with such rows
    for tap in taps:
        word = chosen.get(tap.letter, align.AS_IT_IS)
        if tap.found is None or word == align.AS_IT_IS:
            yield tap
        else:
            same = votes[tap.letter].count(word)
            note = f"rows {tap.letter} came {word}, in {same} of {len(votes[tap.letter])} taps"
            array = tap.found.array[known[tap.letter][word]]             # p ... -> p ... in golden order
            yield tap._replace(found=align.Fitted(array, (*tap.found.notes, note), tap.found.padding))


def judged_tap(tap: Tap, yard: np.ndarray | None, precision: str, depth: int
               ) -> tuple[Judged, np.ndarray | None]:
    """The verdict on one array, and each row's error as a multiple of its limit.

    yard (n,): each row's distance from the golden value in minivl's own run; depth: see `verdict.judge`
    """
    name, key, axis = tap.name, tap.stage.key, row_axis(tap.axes)
    # 1. no layout fits: nothing can be measured
    if tap.found is None:
        note = f"shape {list(tap.theirs.shape)} cannot be laid on {list(tap.golden.shape)}"
        return Judged(name, key, WRONG, float("inf"), UNLIKE, Yard(0, 0), (note,)), None
    array, notes = tap.found.array, tap.found.notes
    found = metrics.measure(array, tap.golden, axis)
    # 2. integers and truth values are right or wrong
    if tap.golden.dtype.kind in "iub":
        word, ratio = (WRONG, float("inf")) if found.differing else (verdict.EXACT, 0.0)
        differing = metrics.row_distances(array, tap.golden, axis) > 0                     # n ... -> n
        return Judged(name, key, word, ratio, found, Yard(0, 0), notes), np.where(differing, np.inf, 0.0)
    # 3. floats are measured by what rounding does
    norms = metrics.row_norms(tap.golden, axis)                                    # n ... -> n
    known = None if yard is None else Yard(
        metrics.relative(yard, norms),
        float(metrics.relative_rows(yard.astype(np.float64), norms).max(initial=0.0)))
    # tables of angles are float32 in every precision; a yardstick, where there is one, knows that
    exact_type = "float32" if yard is None and tap.golden.dtype == np.float32 else precision
    word, ratio, used = verdict.judge(found, known, exact_type, depth, len(norms))
    errors = metrics.relative_rows(metrics.row_distances(array, tap.golden, axis), norms)      # n
    # rows that only move, and tables, are judged as float32 in 16 bits too: see `verdict.judge`
    narrow = exact_type in verdict.SHORT and used.error >= verdict.WIDE
    kind = exact_type if narrow or exact_type not in verdict.SHORT else "float32"
    limit = verdict.limits(used, kind, len(norms))[1]
    multiples = np.nan_to_num(errors / limit, nan=np.inf, posinf=np.inf)
    return Judged(name, key, word, ratio, found, used, notes), multiples


def beside_ours(row: Judged, tap: Tap, distances: np.ndarray, precision: str) -> Judged:
    """The verdict of a local run, which knows what minivl's own stage rounds to on the same inputs as
    well.

    distances (n,): of each row from that
    """
    beside = metrics.relative(distances, metrics.row_norms(tap.golden, row_axis(tap.axes)))
    if not verdict.unlike(tap.stage.key, row.word, beside, row.yard, precision):
        return row
    return doubted(row, f"as near to the exact value as rounding is, but {beside:.1e} away from what "
                        "the reference rounds to")


def doubted(row: Judged, note: str) -> Judged:
    """The same array, suspicious for a reason that its error alone does not show."""
    return replace(row, word=SUSPICIOUS, ratio=max(row.ratio, 1.0), notes=(*row.notes, note))


def leaning(judged: list[Judged], leans: Mapping[str, np.ndarray], precision: str) -> list[Judged]:
    """The verdicts of a local run in 16 bits, where stages of one kind together lean one way:
    suspicious.

    A fault of one part in 100,000 changes few rounded numbers, but all of them the same way; in one
    stage that may be chance. Attention is apart, as in `unlike`, and so are tables of angles, whose
    frequencies differ in their last digit from library to library.
    """
    if precision not in verdict.SHORT:
        return judged
    # 1. leans of each row, put together over the blocks: {kind: [n, n, ...]}
    kinds: dict[str, list[np.ndarray]] = {}
    for row in judged:
        if may_lean(row, leans):
            kinds.setdefault(verdict.kind_of(row.key), []).append(leans[row.name])
    # 2. which kinds lean for sure
    sure = {kind: metrics.sigmas(np.concatenate(found)) for kind, found in kinds.items()}
    # 3. whatever is of such a kind, and was called rounding
    return [doubted(row, said(sure[verdict.kind_of(row.key)]))
            if row.word == ROUNDING and may_lean(row, leans)
            and abs(sure[verdict.kind_of(row.key)]) > verdict.LEANING else row
            for row in judged]


def may_lean(row: Judged, leans: Mapping[str, np.ndarray]) -> bool:
    """Whether an array is of those that `leaning` looks at."""
    apart = row.key.endswith((".attend", ".angles", ".cos_sin"))
    return row.name in leans and row.yard.error > verdict.WIDE and not apart


def said(sure: float) -> str:
    """That a kind of stage leans, in words."""
    way = "larger" if sure > 0 else "smaller"
    return (f"within rounding, but all stages of this kind lean towards {way} numbers: "
            f"{abs(sure):.0f} sigmas")


def logits_of(taps: list[Tap]) -> LogitsMeasure | None:
    """What the difference means for the words, where both sides have logits of the same rows."""
    tap = next((t for t in taps if t.stage.label == LOGITS and t.found), None)
    if tap is None or tap.found is None:
        return None
    return metrics.measure_logits(tap.found.array, tap.golden)


def slices_of(taps: list[Tap], key: str | None, golden: Trace) -> dict[str, list[Slice]]:
    """Where the difference sits in each array of the first bad tap."""
    at, media = golden.tables(stored.COORDINATES), golden.facts.get("media", [])
    patch = next((m["size"][0] // m["grid"][1] for m in media if m.get("size")), 14)
    block = BLOCK.search(f"{key}.")
    tables = golden.arrays(SCHEDULE) if SCHEDULE in golden.recorded() else ()
    of_block = int(block[1]) if block and int(block[1]) < len(tables) else 0
    segments = tables[of_block] if tables else None                                               # g 4
    return {t.name: slices(t.found.array, t.golden, t.axes, at, segments, patch)
            for t in taps if t.stage.key == key and t.found}


def warnings_of(golden: Trace, candidate: Candidate) -> list[str]:
    """What makes the comparison less than it could be."""
    said = []
    if golden.precision != "float64":
        said.append(f"the golden trace is {golden.precision}, not float64: its own rounding counts as "
                    "the candidate's")
    if not golden.tables(f"{stored.YARDSTICK}.{candidate.precision}"):
        said.append(f"no yardstick of {candidate.precision} was recorded: a rule of thumb stands in "
                    "for it")
    for what in ("input_hashes", "checkpoint"):
        ours, theirs = golden.facts.get(what, {}), candidate.facts.get(what, {})
        other = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if other:
            said.append("the two runs had different "
                        f"{'inputs' if what == 'input_hashes' else 'checkpoints'}: {', '.join(other)}")
    return said

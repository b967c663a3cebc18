"""A candidate's run against a golden trace: align, measure, judge, and say where it goes wrong first.

    with Trace("golden.safetensors") as golden:
        found = compare(golden, read_candidate("mine.npz", golden, names))
    found.first_bad, found.suspects, found.judged, found.unplaced

NumPy only: no weights are opened and nothing of the model is run (`local.py` does that). Read next:
`taps.py`, `stored.py`, `metrics.py`, `verdict.py`, in the order of their use; `unplaced.py` (arrays
without a label); `report.py` shows what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from ...door.contract import AXES
from ..trace import format as stored
from ..trace.format import Trace, TraceError, row_axis
from . import metrics, verdict
from .metrics import LogitsMeasure, Measure
from .slices import Slice, slices
from .stored import arithmetic, floats, lost, rest, said_of, storage_of
from .taps import LOGITS, SCHEDULE, Candidate, Tap, fitted, laid, ordered
from .unplaced import Unplaced, unplaced
from .verdict import EPS, NOTHING, ROUNDING, SUSPICIOUS, WRONG, Judged, Yard

__all__ = ["Comparison", "Tap", "compare", "fitted", "judged_tap", "ordered"]
BLOCK = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")
NEARLY = 0.01                            # of a difference that is left over, or of a sum that is 1
FINER = 1.1  # an error of no more than this times what storage takes away
UNLIKE = Measure(float("inf"), float("inf"), 0, float("inf"), float("nan"), float("nan"), 1.0, True)


@dataclass
class Comparison:
    """Everything that a report says, as plain data.

    rows: name of an array -> each row's error as a multiple of its limit, which is what rounding may
        do to a row; infinite where whole numbers differ
    letters: what its rows are
    untapped: golden stages that the candidate lacks
    unplaced: arrays that no label was given for, and that may be stages
    computed: name of an array -> the type that it was computed in, as far as can be told
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
    slices: dict[str, list[Slice]] = field(default_factory=dict)          # of the bad taps' arrays
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)
    unplaced: list[Unplaced] = field(default_factory=list)
    computed: dict[str, str] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether it cannot be called the same: a bad tap, or an array that has no place."""
        return self.first_bad is not None or any(not one.known for one in self.unplaced)


def compare(golden: Trace, candidate: Candidate) -> Comparison:
    """Judge every array that both sides have. Raises TraceError when there is none."""
    if candidate.precision not in EPS:
        raise TraceError(f"{candidate.source}: the precision must be {', '.join(EPS)}, got "
                         f"{candidate.precision!r}")
    # 1. the candidate's arrays in golden shapes and golden row orders
    taps = laid(golden, candidate)
    if not taps:
        raise TraceError(f"{candidate.source}: has no stage in common with {golden.path}")
    # 2. how each is stored, and how the run was computed
    made = computed_in(golden, candidate, taps)
    # 3. a word for every array: by itself, then (in a local trace) beside minivl's own, then all of a
    # kind together
    judged, rows = judged_taps(taps, golden, made, candidate.weights)
    leans = golden.tables(stored.LEANS)
    judged = leaning(judged, {tap.name: leans[tap.name] for tap, row in zip(taps, judged, strict=True)
                              if tap.name in leans and comparable(
                                  tap, row, golden, golden.tables(stored.CARRIED).get(tap.name))})
    # 4. a word for every stage, the first bad one, and the passes that lead to it
    words, local = verdict.by_stage(judged), bool(golden.facts.get("local"))
    first = verdict.first_bad(words, golden.stages)
    clear = verdict.clearing(first, judged) if first and not local else None
    guilty = verdict.suspects(first, words, golden.stages, local, clear) if first else []
    # 5. all of it as plain data
    return Comparison(
        str(golden.path), candidate.source, candidate.producer, rest(made), judged, words, first, guilty,
        untapped=[key for key in golden.recorded() if key not in words],
        unused=candidate.unused, aligned=aligned(taps),
        warnings=warnings_of(golden, candidate, taps, made) + other_scores(taps, words),
        # on given values the last stage says nothing of the words
        logits=None if local else logits_of(taps), local=local,
        slices=slices_of(taps, judged, golden), rows=rows,
        letters={tap.name: tap.letter for tap in taps},
        unplaced=unplaced(golden, candidate, words), computed=made)


def computed_in(golden: Trace, candidate: Candidate, taps: list[Tap]) -> dict[str, str]:
    """Name of each array -> the type that it was computed in: as was said, or as the numbers show. A
    local trace knows."""
    if "computed" in golden.facts:
        return dict(golden.facts["computed"])
    if candidate.native and not candidate.kept:
        return {tap.name: candidate.precision for tap in taps}
    return arithmetic(golden, taps, candidate.precision if candidate.declared else "")


def aligned(taps: list[Tap]) -> list[str]:
    """What was done to lay arrays right, each thing once, with the number of arrays."""
    notes: dict[str, int] = {}
    for note in (note for tap in taps if tap.found for note in dict.fromkeys(tap.found.notes)):
        notes[note] = notes.get(note, 0) + 1
    return sorted(notes)


def judged_taps(taps: list[Tap], golden: Trace, made: Mapping[str, str], weights: str = ""
                ) -> tuple[list[Judged], dict[str, np.ndarray]]:
    """Every array's verdict; and by name each row's error as a multiple of its limit.

    made: the type that each was computed in; weights: how the candidate keeps its matrices
    """
    tables = {kind: golden.tables(f"{stored.YARDSTICK}.{kind}") for kind in set(made.values())}
    coarse = golden.tables(f"{stored.YARDSTICK}.{weights}") if weights else {}
    carried, beside = golden.tables(stored.CARRIED), golden.tables(stored.BESIDE)
    # how many arrays of the run came up to a stage, recorded or not: the rule of thumb for rounding
    # needs it
    depths = dict(zip(golden.stages, accumulate(len(s.axes) for s in golden.stages.values()),
                      strict=True))
    judged, rows = [], {}
    for tap in taps:
        kind = made[tap.name]
        kept = [own for own in (carried.get(tap.name), coarse.get(tap.name)) if own is not None]
        row, multiples = judged_tap(tap, tables[kind].get(tap.name), kind, depths[tap.stage.key], kept)
        alike = tap.name in beside and comparable(tap, row, golden, carried.get(tap.name))
        judged.append(beside_ours(row, tap, beside[tap.name]) if alike else row)
        if multiples is not None:
            rows[tap.name] = multiples
    return judged, rows


def judged_tap(tap: Tap, yard: np.ndarray | None, precision: str, depth: int,
               carried: Sequence[np.ndarray] = ()) -> tuple[Judged, np.ndarray | None]:
    """The verdict on one array, and each row's error as a multiple of its limit.

    yard (n,): each row's distance from the golden value in minivl's own run; depth: see `verdict.judge`
    carried (n,): what the storage of earlier taps, and of weights, adds to each row
    """
    name, key, axis = tap.name, tap.stage.key, row_axis(tap.axes)
    # 1. no layout fits: nothing can be measured
    if tap.found is None:
        return Judged(name, key, WRONG, float("inf"), UNLIKE, Yard(0, 0), (misfit(tap),)), None
    array, notes = tap.found.array, tap.found.notes
    found = metrics.measure(array, tap.golden, axis)
    if tap.rows is not None and len(tap.rows):
        found = replace(found, worst_row=int(tap.rows[found.worst_row]))
    # 2. integers and truth values are right or wrong
    if tap.golden.dtype.kind in "iub":
        word, ratio = (WRONG, float("inf")) if found.differing else (verdict.EXACT, 0.0)
        differing = metrics.row_distances(array, tap.golden, axis) > 0                     # n ... -> n
        return Judged(name, key, word, ratio, found, Yard(0, 0), notes), np.where(differing, np.inf, 0.0)
    # 3. floats are measured by what rounding does, and by what their storage adds
    norms = metrics.row_norms(tap.golden, axis)                                    # n ... -> n
    known = None if yard is None else yard_of(yard if tap.rows is None else yard[tap.rows], norms)
    # tables of angles are float32 in every precision; a yardstick, where there is one, knows that
    exact_type = "float32" if yard is None and tap.golden.dtype == np.float32 else precision
    kind = storage_of(tap) if tap.found.array.dtype.kind in "fV" else precision
    kept = storage_yard(tap, norms, kind != exact_type, carried)
    word, ratio, used = verdict.judge(found, known, exact_type, depth, len(norms), kept)
    errors = metrics.relative_rows(metrics.row_distances(array, tap.golden, axis), norms)      # n
    # rows that only move, and tables, are judged as float32 in 16 bits too: see `verdict.judge`
    narrow = exact_type in verdict.SHORT and used.error >= verdict.WIDE
    limits = verdict.limits(used, exact_type if narrow or exact_type not in verdict.SHORT else "float32",
                            len(norms), kept)
    with np.errstate(invalid="ignore"):
        multiples = np.nan_to_num(errors / limits[1], nan=np.inf, posinf=np.inf)
    row = Judged(name, key, word, ratio, found, used, notes, kept, kind, precision, Yard(*limits))
    return row, multiples


def yard_of(distances: np.ndarray, norms: np.ndarray) -> Yard:
    """Distances of rows (n,) as the relative error of the whole and of the worst row."""
    return Yard(metrics.relative(distances, norms),
                float(metrics.relative_rows(distances.astype(np.float64), norms).max(initial=0.0)))


def storage_yard(tap: Tap, norms: np.ndarray, apart: bool, carried: Sequence[np.ndarray]) -> Yard:
    """What storage adds to one array: its own where it is another type than that of the computation, and
    what it inherits."""
    own = lost(tap) if apart or tap.kept.step is not None else np.zeros(len(norms))
    for more in carried:
        own = np.hypot(own, more if tap.rows is None else more[tap.rows])
    return yard_of(own, norms) if own.any() else NOTHING


def misfit(tap: Tap) -> str:
    """Why an array cannot be laid on the golden one: which axis has no match."""
    theirs, ours = list(np.squeeze(tap.theirs).shape), list(tap.golden.shape)
    letters = tap.axes.split() or [""] * len(ours)
    alone = [f"{letter or 'axis'} = {size} ({AXES.get(letter, 'numbers')})"
             for letter, size in zip(letters, ours, strict=False) if size not in theirs]
    why = f"; it has no axis of {', '.join(alone)}" if alone else ""
    return f"shape {list(tap.theirs.shape)} cannot be laid on {ours}{why}"


def comparable(tap: Tap, row: Judged, golden: Trace, carried: np.ndarray | None) -> bool:
    """Whether an honest run has the numbers that minivl's own has at a tap of a local trace.

    It has where one stage lies between, where that starts from what the candidate really had, and
    where the type of the tap is that of its computation. What is as near as its storage allows was
    computed more finely, and is no fault.
    """
    if tap.stage.key not in golden.facts.get("single", ()) or row.stored != row.computed:
        return False
    if carried is not None and np.linalg.norm(carried) > 0:
        return False
    # sixteen bits in the file may be storage alone; in wider numbers they are what was computed
    if not golden.facts.get("told") and (tap.kept.storage or tap.theirs.dtype.itemsize < 4):
        return False
    norms = metrics.row_norms(tap.golden, row_axis(tap.axes))
    return row.measure.error > FINER * yard_of(lost(tap), norms).error


def beside_ours(row: Judged, tap: Tap, distances: np.ndarray) -> Judged:
    """The verdict of a local run, which knows what minivl's own stage rounds to on the same inputs as
    well.

    distances (n,): of each row from that
    """
    norms = metrics.row_norms(tap.golden, row_axis(tap.axes))
    beside = metrics.relative(distances if tap.rows is None else distances[tap.rows], norms)
    if not verdict.unlike(tap.stage.key, row.word, beside, row.yard, row.computed):
        return row
    return doubted(row, f"as near to the exact value as rounding is, but {beside:.1e} away from what "
                        "the reference rounds to")


def doubted(row: Judged, note: str) -> Judged:
    """The same array, suspicious for a reason that its error alone does not show."""
    return replace(row, word=SUSPICIOUS, ratio=max(row.ratio, 1.0), notes=(*row.notes, note))


def leaning(judged: list[Judged], leans: Mapping[str, np.ndarray]) -> list[Judged]:
    """The verdicts of a local run in 16 bits, where stages of one kind together lean one way:
    suspicious.

    A fault of one part in 100,000 changes few rounded numbers, but all of them the same way; in one
    stage that may be chance. Attention is apart, as in `unlike`, and so are tables of angles, whose
    frequencies differ in their last digit from library to library.
    """
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
    told = row.name in leans and row.computed in verdict.SHORT
    return told and row.yard.error > verdict.WIDE and not apart


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
    found = metrics.measure_logits(tap.found.array, tap.golden)
    if tap.rows is None:
        return found
    first = found.first_differing_row
    return replace(found, kl_worst_row=int(tap.rows[found.kl_worst_row]),
                   first_differing_row=None if first is None else int(tap.rows[first]))


def other_scores(taps: list[Tap], words: Mapping[str, str]) -> list[str]:
    """What bad logits are instead, where they are these after a step of a sampler."""
    tap = next((t for t in taps if t.stage.label == LOGITS and t.found), None)
    if tap is None or tap.found is None or words[tap.stage.key] in (verdict.EXACT, verdict.ROUNDING):
        return []
    theirs, ours = (np.asarray(x, np.float64) for x in (tap.found.array, tap.golden))          # n v, n v
    if not np.isfinite(theirs).all():
        return []
    if (theirs >= 0).all() and np.abs(theirs.sum(axis=1) - 1).max() < NEARLY:
        return [f"{tap.name}: each row adds up to 1: these are probabilities; record the scores before "
                "the softmax"]
    apart = theirs - ours
    if np.linalg.norm(apart - apart.mean(axis=1, keepdims=True)) < NEARLY * np.linalg.norm(apart):
        return [f"{tap.name}: each row is off by one number alone, the same for every word: these are scores "
                "after a log-softmax, or less their largest; no sampler notices, but record those before it"]
    return []


def slices_of(taps: list[Tap], judged: list[Judged], golden: Trace) -> dict[str, list[Slice]]:
    """Where the difference sits in each array that is bad."""
    at, media = golden.tables(stored.COORDINATES), golden.facts.get("media", [])
    patch = next((m["size"][0] // m["grid"][1] for m in media if m.get("size")), 14)
    tables = golden.arrays(SCHEDULE) if SCHEDULE in golden.recorded() else ()
    bad = {row.name: row for row in judged if row.bad}

    def segments(key: str) -> np.ndarray | None:
        block = BLOCK.search(f"{key}.")
        return tables[int(block[1]) if block and int(block[1]) < len(tables) else 0] if tables else None
    return {t.name: slices(t.found.array, t.golden, t.axes, at if t.rows is None else {},
                           segments(t.stage.key), patch, bad[t.name].allowed.worst)
            for t in taps if t.name in bad and t.found}


def warnings_of(golden: Trace, candidate: Candidate, taps: list[Tap],
                made: Mapping[str, str]) -> list[str]:
    """What makes the comparison less than it could be."""
    said = []
    if golden.precision != "float64":
        said.append(f"the golden trace is {golden.precision}, not float64: its own rounding counts as "
                    "the candidate's")
    for kind in dict.fromkeys(made.values()):
        if not golden.tables(f"{stored.YARDSTICK}.{kind}"):
            said.append(f"no yardstick of {kind} was recorded: a rule of thumb stands in for it")
    if not candidate.native and not golden.facts.get("local"):
        said += said_of({tap.name: storage_of(tap) for tap in floats(taps)}, made)
    for what in ("input_hashes", "checkpoint"):
        ours, theirs = golden.facts.get(what, {}), candidate.facts.get(what, {})
        other = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if other:
            said.append("the two runs had different "
                        f"{'inputs' if what == 'input_hashes' else 'checkpoints'}: {', '.join(other)}")
    lacking = [key for key in candidate.unheld(golden)         # positions are inputs here, held by their hash
               if any(array.dtype.kind in "fV" for array in candidate.taps[key].values())]
    if lacking and not golden.facts.get("local"):
        said.append(f"{len(lacking)} stages of the candidate are not compared, for the golden trace "
                    f"holds no array of them: {', '.join(lacking[:4])}{', ...' * (len(lacking) > 4)}")
    return said + candidate.doubts

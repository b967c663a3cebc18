"""A candidate's arrays beside the golden ones, in the golden layout and row order: `laid`.

    candidate.taps                        somebody's arrays under minivl's labels, as they came
    laid(golden, candidate)               the same, tap by tap, as they can be subtracted

Read next: `align.py` (layouts and orders), `stored.py` (the types of these arrays), `compare.py`, which
judges them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..trace import format as stored
from ..trace.format import Stage, Trace, TraceError, row_axis
from . import align
from .steps import Step, joined

LOGITS, SCHEDULE = "decoder.logits", "vision.schedule"
# stages whose last row alone is what many engines keep
LAST_ROW = (LOGITS, "decoder.normalise", "decoder.select_rows")
Part = tuple[str, int | None]                     # key of a stage, and number of its array: None for all


@dataclass(frozen=True)
class Kept:
    """What was said of one array by hand. storage: the type that its numbers are kept in; precision: the
    one that they were computed in; step (x or none): of quantised numbers, from one to the next."""
    storage: str | None = None
    precision: str | None = None
    step: np.ndarray | None = None


@dataclass
class Candidate:
    """Somebody's arrays. `taps` maps golden key -> array number -> array; number None is the whole
    stage in one array.

    precision: the type that the run was computed in; declared: somebody said so
    native: the labels are minivl's own, so that they say the order of rows too
    loose: arrays that no label was given for, by their own names
    kept: what was said of single arrays
    doubts: what makes the names uncertain, in words
    partial: arrays that have some rows only: which golden ones
    """
    source: str
    producer: str
    precision: str
    native: bool
    taps: dict[str, dict[int | None, np.ndarray]]
    loose: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    declared: bool = False
    kept: dict[Part, Kept] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    partial: dict[Part, np.ndarray] = field(default_factory=dict)
    steps: dict[Part, list[Step]] = field(default_factory=dict)        # stages that come row by row
    weights: str = ""                             # how its matrices are kept, where that costs accuracy
    found: list[Tap] = field(default_factory=list, repr=False)         # by `laid`, against a golden run

    def unheld(self, golden: Trace) -> list[str]:
        """Keys of the stages that it has and of which the golden trace holds no array."""
        recorded = set(golden.recorded())
        return [key for key in self.taps if key not in recorded]

    @property
    def unused(self) -> list[str]:
        """Names of the arrays that no label was given for."""
        return list(self.loose)


class Tap(NamedTuple):
    """One array of one stage on both sides; `found` is None where the candidate's fits in no way.

    golden: the rows that the candidate has, as `rows` says: None for all
    kept: what was said of it by hand
    """
    name: str
    stage: Stage
    axes: str
    golden: np.ndarray
    found: align.Fitted | None
    theirs: np.ndarray                                       # as it came
    rows: np.ndarray | None = None
    kept: Kept = Kept()

    @property
    def letter(self) -> str:
        """What the rows are."""
        return (self.axes.split() or ["n"])[row_axis(self.axes)]


def laid(golden: Trace, candidate: Candidate) -> list[Tap]:
    """All taps that both sides have, in golden shapes and row orders, in the golden order of execution.

    A local trace holds other values at the same places: there arrays lie as they were laid against the
    golden run that it was made from.
    """
    if golden.facts.get("local") and candidate.found:
        return [anew(tap, golden) for tap in candidate.found if tap.stage.key in golden.recorded()]
    taps = list(ordered(list(fitted(golden, candidate)), golden, candidate.native))
    if not golden.facts.get("local"):
        candidate.found = taps
    return taps


def anew(tap: Tap, golden: Trace) -> Tap:
    """The same array beside another run's value."""
    stage = golden.stages[tap.stage.key]
    here = dict(zip(stage.arrays, golden.arrays(stage.key), strict=True))
    array = here[tap.name] if tap.rows is None else np.take(here[tap.name], tap.rows, row_axis(tap.axes))
    return tap._replace(golden=array, stage=stage)


def fitted(golden: Trace, candidate: Candidate) -> Iterator[Tap]:
    """Pairs of arrays, the candidate's in the golden shape, in the golden order of execution."""
    known = known_rows(golden)
    if not candidate.native:
        known = known_rows(golden, taken_alike(golden, candidate, known))
    packings = {} if candidate.native else packed_alike(golden, candidate, known)
    for key in golden.recorded():
        parts, stage = candidate.taps.get(key, {}), golden.stages[key]
        exact = golden.arrays(key)                                         # one array, or several: q k v
        whole = parts.get(None)
        packed: list[align.Fitted | None] = []
        if whole is not None and len(exact) > 1 and not candidate.native:
            packed = align.unpack(whole, exact, known(packed_rows(key), stage.label),
                                  packings.get(part_of(key), ""))
        for n, (name, axes, array) in enumerate(zip(stage.arrays, stage.axes, exact, strict=True)):
            theirs = parts.get(n, whole)                                 # its own, or all of them in one
            if theirs is None:
                continue
            part = (key, n if n in parts else None)
            yield beside(Tap(name, stage, axes, array, None, np.asarray(theirs), None,
                             candidate.kept.get(part, Kept())), candidate, golden, known,
                     packed[n] if n not in parts and packed else None, part)


def beside(tap: Tap, candidate: Candidate, golden: Trace, known: Any, packed: align.Fitted | None,
           part: Part) -> Tap:
    """One tap with the candidate's array laid."""
    theirs, exact, axis = tap.theirs, tap.golden, row_axis(tap.axes)
    kept, full = golden.tables(stored.ROWS), golden.facts.get("letters", {})
    if tap.letter in kept and len(kept[tap.letter]) != full.get(tap.letter):
        theirs = some_rows(theirs, kept[tap.letter], full.get(tap.letter), axis)
    if part in candidate.steps:
        if theirs is not tap.theirs or tap.letter in kept:
            raise TraceError(f"{candidate.source}: {tap.name} comes step by step, and {golden.path} has "
                             "some rows only; record the golden run without --rows")
        found = joined(candidate.steps[part], exact, axis)
    elif candidate.native:
        found = as_labelled(tap._replace(theirs=theirs), candidate.partial.get(part))
    else:
        found = packed or align.fit(theirs, exact, axis, known(tap.letter, tap.stage.label))
    if found is None or found.rows is None:
        return tap._replace(found=found, theirs=np.asarray(theirs))
    return tap._replace(found=found, theirs=np.asarray(theirs), rows=found.rows,
                        golden=np.take(exact, found.rows, axis))


def as_labelled(tap: Tap, rows: np.ndarray | None) -> align.Fitted | None:
    """An array under minivl's own label, in the golden shape as it stands; `rows` says which golden rows
    it has. A run that was asked for one token has the last row of LAST_ROW alone."""
    theirs, axis = tap.theirs, row_axis(tap.axes)
    if rows is None and theirs.shape == tap.golden.shape:
        return align.Fitted(theirs)
    if rows is None and tap.stage.label in LAST_ROW:
        rows = np.array([tap.golden.shape[axis] - 1])
    if rows is None or theirs.shape != np.take(tap.golden, rows, axis).shape:
        return None
    return align.Fitted(theirs, rows=rows)


def part_of(key: str) -> str:
    """The half of the model that a stage belongs to."""
    return key.partition(".")[0]


def packed_rows(key: str) -> str:
    """The axis letter of the rows of queries, keys and values."""
    return "w" if key.startswith("vision.") else "s"


def known_rows(golden: Trace, agreed: Mapping[str, Mapping[frozenset[str], str]] | None = None) -> Any:
    """(axis letter, label) -> what is known of such rows. agreed: by axis letter, see `taken_alike`."""
    at = golden.tables(stored.COORDINATES)
    orders = {letter: align.orders(letter, at) for letter in "pwc"}
    tables = golden.arrays(SCHEDULE) if SCHEDULE in golden.recorded() else ()
    lengths = dict.fromkeys(tuple((table[:, 1] - table[:, 0]).tolist()) for table in tables
                            if len(table) > 1)
    windows = {"w": tuple(lengths),
               "c": tuple(tuple(n // 4 for n in one) for one in lengths if all(n % 4 == 0 for n in one))}

    def known(letter: str, label: str) -> align.Rows:
        return align.Rows(orders.get(letter, {}), windows.get(letter, ()), label in LAST_ROW,
                          (agreed or {}).get(letter, {}))
    return known


def taken_alike(golden: Trace, candidate: Candidate, known: Any
                ) -> dict[str, dict[frozenset[str], str]]:
    """Axis letter -> which rows are padding, and which prompt's are meant, where an array may be read in
    several ways: all of these -> what most arrays say. A fault moves numbers, and may bring one array
    nearer in a way in which none was kept."""
    votes: dict[str, dict[frozenset[str], list[str]]] = {}
    for key, parts in candidate.taps.items():
        if key not in golden.recorded():
            continue
        stage = golden.stages[key]
        for n, (name, axes) in enumerate(zip(stage.arrays, stage.axes, strict=True)):
            theirs = parts.get(n, parts.get(None) if len(stage.arrays) == 1 else None)
            if theirs is None or (key, n if n in parts else None) in candidate.steps:
                continue
            axis = row_axis(axes)
            letter = (axes.split() or ["n"])[axis]
            found = align.vote_on_rows(theirs, golden.array(name), axis, known(letter, stage.label))
            if found is not None:
                votes.setdefault(letter, {}).setdefault(found[0], []).append(found[1])
    return {letter: align.elected(each) for letter, each in votes.items()}


def packed_alike(golden: Trace, candidate: Candidate, known: Any) -> dict[str, str]:
    """Half of the model -> the packing in which most of its queries, keys and values come."""
    votes: dict[str, list[str]] = {}
    for key, parts in candidate.taps.items():
        exact = golden.arrays(key) if key in golden.stages else ()
        if parts.get(None) is not None and len(exact) > 1:
            rows = known(packed_rows(key), golden.stages[key].label)
            first, *rest = align.unpack(parts[None], exact, rows)
            if first is not None:
                near = all(one is not None and align.in_any_order(one, g, rows.orders) < align.NOWHERE
                           for one, g in zip((first, *rest), exact, strict=True))
                votes.setdefault(part_of(key), []).append(align.packing_of(first) if near else "")
    return align.elected(votes)


def some_rows(array: np.ndarray, rows: np.ndarray, of: int | None, axis: int) -> np.ndarray:
    """The rows that the golden trace kept, of a candidate that has all of them."""
    return np.take(array, rows, axis) if array.ndim > axis and array.shape[axis] == of else array


def ordered(taps: Sequence[Tap], golden: Trace, native: bool) -> Iterator[Tap]:
    """The taps with patches and cells in the golden order, where the candidate keeps another one
    throughout. Pictures with axes of their own for height and width are apart from rows in a line."""
    at = golden.tables(stored.COORDINATES)
    known = {} if native else {letter: align.orders(letter, at) for letter in "pwc"}
    votes: dict[str, list[str]] = {}
    for tap in taps:
        if tap.found is not None and tap.rows is None and known.get(tap.letter):
            word = align.vote(tap.found.array, tap.golden, known[tap.letter])
            votes.setdefault(alike(tap), []).append(word)
    chosen = align.elected(votes)                                 # one order for all taps with such rows
    for tap in taps:
        word = chosen.get(alike(tap), align.AS_IT_IS)
        if tap.found is None or tap.rows is not None or word == align.AS_IT_IS:
            yield tap
            continue
        yield turned(tap, word, known[tap.letter], votes[alike(tap)])


def alike(tap: Tap) -> str:
    """Taps whose rows are kept in one order have one word here."""
    return f"{tap.letter}{tap.found.counted if tap.found else 1}"


def turned(tap: Tap, word: str, known: Mapping[str, np.ndarray], votes: Sequence[str]) -> Tap:
    """A tap whose rows came in the order `word`, in the golden one."""
    assert tap.found is not None
    note = f"rows {tap.letter} came {word}, in {votes.count(word)} of {len(votes)} taps"
    array = tap.found.array[known[word]]                            # p ... -> p ... in golden order
    return tap._replace(found=replace(tap.found, array=array, notes=(*tap.found.notes, note)))

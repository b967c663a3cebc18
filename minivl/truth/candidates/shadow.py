"""All guilty stages in one run: at every cut the candidate computes on golden values and its own
result is judged, then the run goes on with the golden one.

    found = shadow(golden, Checked(candidate, "mine.py:port"), vlm)       # whatever can be entered
    found = shadow_passes(vlm, messages, table)                           # minivl with replaced passes

A candidate's result is compared with what minivl gives on the *same rounded* inputs, and rounding is
measured by minivl's own stages in the candidate's type, so that nothing adds up from stage to stage.
Replaced passes of minivl are run beside the model's own at the door; every leaf is a cut there.

Read next: `bisect.py`, for candidates that give nothing where they are given something;
`truth/compare/local.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.stage import Session, Wrap
from ...door.visit import Visit
from ..compare.align import fit
from ..compare.compare import Tap, judged_tap
from ..compare.metrics import row_distances
from ..compare.run_on import run_on
from ..compare.verdict import Judged, by_stage
from ..compare.yardstick import liberties
from ..museum.hunt import TOLERANCE
from ..trace.format import INPUT, Trace, row_axis
from .bisect import line_of
from .judge import END, check_whole, is_clean, value_of
from .ours import check_reached, noting
from .runnable import LOGITS, CandidateError, Checked, Crashed, Value, in_type


@dataclass
class Shadowed:
    """What one run found, as plain data. errors: guilty stage -> relative error; failures: stage ->
    what it raised."""
    candidate: str
    precision: str
    compared: list[str]
    errors: dict[str, float]
    failures: dict[str, str] = field(default_factory=dict)
    # cuts at which it gave nothing when it was given something
    silent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)


def shadow_passes(vlm: VLM, messages: Sequence[dict[str, Any]], table: Mapping[str, Wrap],
                  name: str = "replaced passes", tolerance: float = TOLERANCE) -> Shadowed:
    """minivl beside itself with passes replaced, from the picture to the logits. tolerance: relative,
    of an output."""
    if not table:
        raise CandidateError(f"{name}: it replaces no pass, so that there is nothing to compare")
    now: set[str] = set()                                  # patterns under which this leaf ran otherwise
    reached: set[str] = set()
    compared: list[str] = []

    def count(visit: Visit) -> None:
        if now:
            compared.append(visit.key)
        reached.update(now)
        now.clear()
    s = Session(shadow=noting(table, now), tolerance=tolerance, quiet=True)
    s.watchers.append(count)                                      # behind the one that runs the table
    right = vlm.on(kernels="definition")
    with s:
        right.logits(right.prepare(list(messages)))
    whole = [pattern for pattern in table if s.met.get(pattern) == "composite"]
    notes = [f"{pattern} is made of other stages, and shadow compares single ones; give functions for "
             "those, or use `minivl bisect`" for pattern in whole]
    if notes and not reached:
        raise CandidateError(f"{name}: {notes[0]}")
    notes += check_reached({pattern: wrap for pattern, wrap in table.items() if pattern not in whole},
                           reached, name)
    return Shadowed(name, vlm.dtype.name, compared, s.guilty,
                    {key: str(error) for key, error in s.failures.items()}, notes=notes)


def shadow(golden: Trace, candidate: Checked, vlm: VLM) -> Shadowed:
    """One run with golden values at every cut. Raises CandidateError when that tells nothing."""
    check_whole(golden)
    line, notes = line_of(golden, candidate)
    given = {cut: in_type(value_of(golden, cut), candidate.precision) for cut in line}
    try:
        made = candidate.run(golden.tables(INPUT), given)
    except Crashed as error:
        raise CandidateError(f"{candidate.name}: does not run with golden values at its cuts: {error}"
                             ) from None
    theirs: dict[str, Value] = {**{cut: made[cut] for cut in line if cut in made}, END: made[LOGITS]}
    if len(theirs) == 1:
        raise CandidateError(f"{candidate.name}: it gave nothing of its own at the cuts at which it "
                             "was given something, so that one run tells nothing; use `minivl bisect`")
    judged = list(judge_each(golden, theirs, given, vlm, candidate.precision))
    words = by_stage(judged)
    errors = {key: max(row.measure.error for row in judged if row.key == key)
              for key, word in words.items() if not is_clean(word)}
    failures = {key: said for key in errors if (said := failure_of(golden, key, theirs[key]))}
    silent = [cut for cut in line if cut not in made]
    return Shadowed(candidate.name, candidate.precision, list(words), errors, failures, silent, notes,
                    judged)


def failure_of(golden: Trace, key: str, value: Value) -> str:
    """Why a value cannot be measured at all; "" when it can."""
    for array, ours, axes in zip(outputs(value), golden.arrays(key), golden.stages[key].axes,
                                 strict=True):
        if fit(array, ours, row_axis(axes)) is None:
            return f"shape {list(np.shape(array))}, ours {list(ours.shape)}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return "gave a number that is not finite"
    return ""


def judge_each(golden: Trace, theirs: Mapping[str, Value], given: Mapping[str, Value], vlm: VLM,
               precision: str) -> list[Judged]:
    """The verdict on every array that the candidate made, against minivl's own stages on the same
    given values."""
    goes_on = {key: outputs(value) for key, value in given.items()} | {END: golden.arrays(END)}
    exact = run_on(vlm, golden, goes_on, "float64")
    rounded = run_on(vlm, golden, goes_on, precision, None if precision == "float64"
                     else liberties(precision))
    found = []
    for key, value in theirs.items():
        stage = golden.stages[key]
        wanted = exact.get(key, golden.arrays(key))  # positions are no stage of the run: they are exact
        if len(outputs(value)) != len(wanted):
            raise CandidateError(f"{key}: the candidate gave {len(outputs(value))} arrays, minivl "
                                 f"{len(wanted)}")
        for n, (name, axes) in enumerate(zip(stage.arrays, stage.axes, strict=True)):
            array, axis = np.asarray(outputs(value)[n]), row_axis(axes)
            tap = Tap(name, stage, axes, wanted[n], fit(array, wanted[n], axis), array)
            yard = row_distances(rounded[key][n], wanted[n], axis) if key in rounded else None
            found.append(judged_tap(tap, yard, precision, 1)[0])
    return found

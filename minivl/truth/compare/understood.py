"""What was understood of a dump, as a trace: `minivl trace import`.

Names, layouts, orders of rows, types of storage and of computation are worked out once, looked at by a
person, and kept: every array lies under its label as minivl has it, and the manifest says what was
done. A trace that was written so is compared without names and without guessing.

Read next: `importers.py` (`of_trace`, which reads it).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..trace.format import Trace, Writer
from .compare import aligned, computed_in
from .importers import KEPT, KEPT_ROWS, LOOSE, STEPS
from .numbers import real
from .stored import rest, storage_of
from .taps import Candidate, Tap, laid


def write_understood(golden: Trace, candidate: Candidate, path: str | Path) -> list[Tap]:
    """Write the trace; the taps that it holds."""
    taps = laid(golden, candidate)
    made = computed_in(golden, candidate, taps)
    facts: dict[str, Any] = {"producer": candidate.producer, "precision": rest(made),
                             "imported": candidate.source,
                             "aligned": aligned(taps), "doubts": candidate.doubts, KEPT: {}}
    with Writer(path, facts) as out:
        found: dict[str, list[Tap]] = {}
        for tap in taps:
            found.setdefault(tap.stage.key, []).append(tap)
        for key, stage in golden.stages.items():
            names = [out.recorder.put(tap.name, array_of(tap)) for tap in found.get(key, [])]
            out.stages.append(replace(stage, arrays=tuple(names)))
        for tap in taps:
            describe(out, tap, made[tap.name])
        for name, array in candidate.loose.items():                       # nothing is dropped
            if real(array):
                out.table(LOOSE, name, array)
            else:
                kind = array.dtype.name
                candidate.doubts.append(f"left out: {name} holds {kind}, which no stage does")
    return taps


def describe(out: Writer, tap: Tap, computed: str) -> None:
    """What is known of one array beside its numbers."""
    if tap.found is not None and tap.golden.dtype.kind in "fV" and tap.found.array.dtype.kind in "fV":
        out.facts[KEPT][tap.name] = {"stored": storage_of(tap), "computed": computed}
    if tap.rows is not None:
        out.table(KEPT_ROWS, tap.name, tap.rows)
    if tap.kept.step is not None:
        out.table(STEPS, tap.name, np.asarray(tap.kept.step))


def array_of(tap: Tap) -> np.ndarray:
    """An array as it is laid; as it came, where it fits in no way: that is told again when it is
    read."""
    return tap.theirs if tap.found is None else tap.found.array

"""`minivl diff --local`: every stage by itself, on the candidate's own inputs, so that nothing adds up
and one run names all guilty stages.

The model is run once in float64, and wherever the candidate recorded a stage's output the run goes on
with *that*, while what the stage itself gave becomes the golden value. A second run in the candidate's
precision gives the yardstick. Where taps are few, minivl's own stages bridge the gap: a verdict is on
all passes since the taps before.

Two runs of the model, and its weights are needed; the golden trace lends the inputs. Read next:
`compare.py`, which judges what comes out like any other trace.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...api import VLM
from ..trace.format import BESIDE, COORDINATES, LEANS, YARDSTICK, Trace, TraceError, Writer, row_axis
from ..trace.record import checkpoint_hashes
from .compare import Tap, fitted, ordered
from .importers import Candidate
from .metrics import row_distances, row_leans
from .run_on import POSITIONS, run_on
from .yardstick import liberties


@contextmanager
def local_golden(vlm: VLM, golden: Trace, candidate: Candidate) -> Iterator[Trace]:
    """A golden trace whose every stage ran on the candidate's values; its file is gone afterwards.

    Raises TraceError when the golden trace has no inputs, or another checkpoint's.
    """
    check_checkpoint(vlm, golden)
    with tempfile.TemporaryDirectory(prefix="minivl-local-") as folder:
        path = Path(folder) / "local.safetensors"
        taps = list(ordered(list(fitted(golden, candidate)), golden, candidate.native))
        write_local(vlm, golden, taps, candidate.precision, path)
        with Trace(path) as made:
            yield made


def check_checkpoint(vlm: VLM, golden: Trace) -> None:
    """Raise TraceError when a golden trace was recorded with another checkpoint than this model's."""
    was, now = golden.facts.get("checkpoint", {}), checkpoint_hashes(vlm.folder)
    if other := [name for name, digest in now.items() if was.get(name, digest) != digest]:
        raise TraceError(f"{golden.path} was recorded with another checkpoint than {vlm.folder}: "
                         f"{', '.join(other)} differs; name the right one with --model")


def write_local(vlm: VLM, golden: Trace, taps: list[Tap], precision: str, path: Path) -> None:
    """The file of `local_golden`."""
    values = whole_stages(golden, taps)
    with Writer(path, {**{k: v for k, v in golden.facts.items() if not isinstance(v, dict)},
                       "local": True}) as out:
        copy_what_is_not_run(golden, out)

        def keep(key: str, own: tuple) -> None:
            out.stage(replace(golden.stages[key], arrays=()), own)

        def compare(key: str, own: tuple) -> None:
            stage = next(stage for stage in out.stages if stage.key == key)
            rows = zip(stage.arrays, stage.axes, own, values[key], out.read_back(stage), strict=True)
            for name, axes, ours, theirs, value in rows:
                if value.dtype.kind == "f" and theirs.shape == value.shape:
                    axis = row_axis(axes)                          # what is counted along it: n ... -> n
                    # ours from the exact run; theirs from ours
                    out.table(f"{YARDSTICK}.{precision}", name, row_distances(ours, value, axis))
                    out.table(BESIDE, name, row_distances(theirs, ours, axis))
                    out.table(LEANS, name, row_leans(theirs, ours, axis))
        # 1. the exact run: what each stage makes of the candidate's values is its golden value
        run_on(vlm, golden, values, "float64", take=keep)
        # 2. the same in the candidate's precision: how far rounding goes, read back beside the golden
        # values
        run_on(vlm, golden, values, precision, liberties(precision), take=compare)
        finish(out, golden)


def finish(out: Writer, golden: Trace) -> None:
    """List the stages that the candidate does not have, and all in order of execution."""
    there = {stage.key for stage in out.stages}
    out.stages += [replace(stage, arrays=()) for key, stage in golden.stages.items() if key not in there]
    order = {key: n for n, key in enumerate(golden.stages)}
    out.stages.sort(key=lambda stage: order[stage.key])


def whole_stages(golden: Trace, taps: list[Tap]) -> dict[str, tuple]:
    """Key -> the candidate's arrays in the golden layout, for stages of the run that it has all arrays
    of."""
    found: dict[str, list[np.ndarray]] = {}
    for tap in taps:
        if tap.found is not None and tap.stage.key.startswith(("vision.", "decoder.", POSITIONS)):
            found.setdefault(tap.stage.key, []).append(tap.found.array)
    return {key: tuple(arrays) for key, arrays in found.items()
            if len(arrays) == len(golden.stages[key].axes)}


def copy_what_is_not_run(golden: Trace, out: Writer) -> None:
    """Preparing is exact and is not run again: its stages keep their golden values."""
    for key, stage in golden.stages.items():
        if not key.startswith(("vision.", "decoder.")):
            out.stage(replace(stage, arrays=()), golden.arrays(key))
    for letter, table in golden.tables(COORDINATES).items():
        out.table(COORDINATES, letter, table)

"""`minivl diff --local`: every stage by itself, on the candidate's own inputs, so that nothing adds up
and one run names all guilty stages.

The model is run once in float64, and wherever the candidate recorded a stage's output the run goes on
with *that*, while what the stage itself gave becomes the golden value. A second run in the candidate's
precision gives the yardstick. Where taps are few, minivl's own stages bridge the gap: a verdict is on
all passes since the taps before, and the yardstick has their rounding in it, for it ran from the same
recorded values to the same tap.

A tap that is stored more roughly than it was computed starts the next stretch a little off. How far that
goes is measured as well: a third run, from values shaken within their storage.

The model's weights are needed; the golden trace lends the inputs. Read next: `compare.py`, which judges
what comes out like any other trace.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...api import VLM
from ..trace.format import (
    BESIDE,
    CARRIED,
    COORDINATES,
    LEANS,
    YARDSTICK,
    Trace,
    TraceError,
    Writer,
    row_axis,
)
from ..trace.record import checkpoint_hashes
from .coarse import coarse
from .importers import Candidate
from .metrics import row_distances, row_leans
from .run_on import POSITIONS, run_on
from .stored import arithmetic, lost, storage_of
from .taps import Tap, laid
from .verdict import EPS, single, stretch
from .yardstick import liberties

SHAKE = 0.75  # of half a last digit: what rounding to a type moves numbers, on average


@contextmanager
def local_golden(vlm: VLM, golden: Trace, candidate: Candidate) -> Iterator[Trace]:
    """A golden trace whose every stage ran on the candidate's values; its file is gone afterwards.

    Raises TraceError when the golden trace has no inputs, or another checkpoint's.
    """
    check_checkpoint(vlm, golden)
    with tempfile.TemporaryDirectory(prefix="minivl-local-") as folder:
        path = Path(folder) / "local.safetensors"
        taps = laid(golden, candidate)
        told = candidate.declared or (candidate.native and not candidate.kept)
        write_local(vlm, golden, taps, computed_alone(golden, taps, candidate), path, candidate.weights,
                    told)
        with Trace(path) as made:
            yield made


def computed_alone(golden: Trace, taps: list[Tap], candidate: Candidate) -> dict[str, str]:
    """Name of each array -> the roughest type in the stretch that leads to it, from the taps before."""
    if candidate.native and not candidate.kept:
        return {tap.name: candidate.precision for tap in taps}
    declared, tapped = candidate.precision if candidate.declared else "", {tap.stage.key for tap in taps}
    own, both = (arithmetic(golden, taps, declared, alone) for alone in (True, False))
    through = {key for key in tapped  # with the tower in it, or a part of that
               if any(k.startswith("vision.") for k in stretch(key, tapped, golden.stages))}
    return {tap.name: (both if tap.stage.key in through else own)[tap.name] for tap in taps}


def check_checkpoint(vlm: VLM, golden: Trace) -> None:
    """Raise TraceError when a golden trace was recorded with another checkpoint than this model's."""
    was, now = golden.facts.get("checkpoint", {}), checkpoint_hashes(vlm.folder)
    if other := [name for name, digest in now.items() if was.get(name, digest) != digest]:
        raise TraceError(f"{golden.path} was recorded with another checkpoint than {vlm.folder}: "
                         f"{', '.join(other)} differs; name the right one with --model")


def write_local(vlm: VLM, golden: Trace, taps: list[Tap], made: Mapping[str, str], path: Path,
                weights: str = "", told: bool = True) -> None:
    """The file of `local_golden`. made: the type that each array was computed in; told: somebody said
    so, and it is no guess."""
    values = whole_stages(golden, taps)
    noted = {**dict.fromkeys(tap.stage.key for tap in taps if runs(tap)), **values}
    with Writer(path, {**{k: v for k, v in golden.facts.items() if not isinstance(v, dict)},
                       "local": True, "computed": dict(made), "told": told,
                       "single": [key for key in noted if single(key, values.keys(),
                                                                 golden.stages)]}) as out:
        copy_what_is_not_run(golden, out)
        # 1. the exact run: what each stage makes of the candidate's values is its golden value
        run_on(vlm, golden, noted, "float64",
               take=lambda key, own: out.stage(replace(golden.stages[key], arrays=()), own))
        # 2. the same in the candidate's precision: how far rounding goes, read back beside the golden
        # values; in both halves' where they have two
        for kind in dict.fromkeys(made.values()):
            run_on(vlm, golden, noted, kind, liberties(kind), take=rounded(out, values, made, kind))
        # 3. the same from values as far off as storage leaves them, and with weights that are kept so
        shaken = shaken_values(taps, values, made)
        if shaken:
            run_on(vlm, golden, {**noted, **shaken}, "float64", take=beside(out, CARRIED))
        if weights:
            run_on(vlm, golden, noted, "float64", take=beside(out, f"{YARDSTICK}.{weights}"),
                   machine=coarse(weights))
        finish(out, golden)


def rounded(out: Writer, values: Mapping[str, tuple], made: Mapping[str, str], kind: str
            ) -> Callable[[str, tuple], None]:
    """What notes a run in one type: its rounding, and how far the candidate is from it."""
    def take(key: str, own: tuple) -> None:
        stage = next(stage for stage in out.stages if stage.key == key)
        theirs = values.get(key, (None,) * len(own))
        rows = zip(stage.arrays, stage.axes, own, out.read_back(stage), theirs, strict=True)
        for name, axes, ours, value, candidates in rows:
            if value.dtype.kind != "f" or made.get(name, kind) != kind:
                continue
            axis = row_axis(axes)                                  # what is counted along it: n ... -> n
            # ours from the exact run; theirs from ours
            out.table(f"{YARDSTICK}.{kind}", name, row_distances(ours, value, axis))
            if candidates is not None and candidates.shape == value.shape:
                out.table(BESIDE, name, row_distances(candidates, ours, axis))
                out.table(LEANS, name, row_leans(candidates, ours, axis))
    return take


def beside(out: Writer, table: str) -> Callable[[str, tuple], None]:
    """What notes how far a run's arrays are from the exact run's, row by row."""
    def take(key: str, own: tuple) -> None:
        stage = next(stage for stage in out.stages if stage.key == key)
        for name, axes, ours, value in zip(stage.arrays, stage.axes, own, out.read_back(stage),
                                           strict=True):
            if value.dtype.kind == "f":
                out.table(table, name, row_distances(ours, value, row_axis(axes)))
    return take


def shaken_values(taps: list[Tap], values: Mapping[str, tuple], made: Mapping[str, str]
                  ) -> dict[str, tuple]:
    """The values of stages that are stored more roughly than they were computed, moved at random by what
    their storage may have taken from them; none where nothing is."""
    random = np.random.default_rng(0)
    rough = {tap.name: tap for tap in taps if tap.found is not None and tap.golden.dtype.kind in "fV"
             and (tap.kept.step is not None or (tap.found.array.dtype.kind in "fV"
                                                and storage_of(tap) != made[tap.name]))
             and lost(tap).any()}
    found: dict[str, tuple] = {}
    for key, arrays in values.items():
        names = [key] if len(arrays) == 1 else [f"{key}:{n}" for n in range(len(arrays))]
        if any(name in rough for name in names):
            found[key] = tuple(shaken(array, rough[name], random) if name in rough else array
                               for name, array in zip(names, arrays, strict=True))
    return found


def shaken(array: np.ndarray, tap: Tap, random: np.random.Generator) -> np.ndarray:
    """Numbers moved by at most half a last digit, or half a step of their quantisation."""
    wide, noise = array.astype(np.float64), random.uniform(-1, 1, array.shape)
    if tap.kept.step is not None:
        return wide + noise * tap.kept.step / 2
    return wide + noise * np.abs(wide) * SHAKE * EPS[storage_of(tap)] / 2


def runs(tap: Tap) -> bool:
    """Whether a stage is of the model's run, not of its preparation."""
    return tap.stage.key.startswith(("vision.", "decoder.", POSITIONS))


def finish(out: Writer, golden: Trace) -> None:
    """List the stages that the candidate does not have, and all in order of execution."""
    there = {stage.key for stage in out.stages}
    out.stages += [replace(stage, arrays=()) for key, stage in golden.stages.items() if key not in there]
    order = {key: n for n, key in enumerate(golden.stages)}
    out.stages.sort(key=lambda stage: order[stage.key])


def whole_stages(golden: Trace, taps: list[Tap]) -> dict[str, tuple]:
    """Key -> the candidate's arrays in the golden layout, for stages of the run that it has all arrays
    and all rows of."""
    found: dict[str, list[np.ndarray]] = {}
    for tap in taps:
        if tap.found is not None and tap.rows is None and runs(tap):
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

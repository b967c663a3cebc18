"""One run of minivl on a candidate's values: at every tap it goes on with what the candidate has there, so that each
stretch between two taps is judged by itself.

With no fault planted the run says where the candidate differs from the right passes; with a fault it says what that
fault would have made of the same values. Both run in float32: what is asked is which of two comes nearer. A third run,
in the candidate's precision, says what honest rounding makes of them.

Read next: `evidence.py`, which measures what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...api import VLM
from ...config import OFFICIAL_PICTURES, VisionConfig
from ...door.contract import outputs
from ...door.stage import Wrap, session
from ...passes.patches import patchify, unpatchify
from ...passes.positions import AFTER_VIDEO
from ...run.inputs import Inputs
from ..compare.compare import Tap
from ..compare.importers import Candidate
from ..museum.fault import Fault
from ..museum.hunt import quietly
from ..trace.conversation import conversation
from ..trace.format import INPUT, Stage, Trace, TraceError

GIVEN = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
PREPARING = ("picture.", "video.", "patches.", "prompt.", "positions.")        # labels of passes before the model runs
Own = dict[str, tuple]


@dataclass(frozen=True)
class Tapped:
    """What the candidate has at one stage, all arrays of it. `laid`: they are in the golden layout and row order."""
    stage: Stage
    arrays: tuple[np.ndarray, ...]
    laid: bool


def tapped(golden: Trace, candidate: Candidate, taps: list[Tap]) -> dict[str, Tapped]:
    """Key -> what the candidate has there, for stages of which it has every array, in order of execution."""
    found: dict[str, list[Tap]] = {}
    for tap in taps:
        found.setdefault(tap.stage.key, []).append(tap)
    return {key: Tapped(rows[0].stage, tuple(_array(tap, n, candidate) for n, tap in enumerate(rows)),
                        candidate.native or all(tap.found is not None for tap in rows))
            for key, rows in found.items() if len(rows) == len(golden.stages[key].axes)}


def _array(tap: Tap, number: int, candidate: Candidate) -> np.ndarray:
    """A tap's array as it was laid, or as it came where it fits in no way."""
    if tap.found is not None:
        return tap.found.array
    parts = candidate.taps[tap.stage.key]
    return np.asarray(parts.get(number, parts.get(None)))


class Run:
    """A run that can be repeated: the same inputs and the same values at the taps, with another fault each time.

    precision: of the candidate.     Raises TraceError when the golden trace does not say what was asked.
    """

    def __init__(self, vlm: VLM, golden: Trace, taps: Mapping[str, Tapped], precision: str = "float32"):
        self.vlm, self.rounding, self.taps = vlm.on("float32", "definition"), vlm.on(precision, "definition"), taps
        self.messages = conversation(golden)
        self.given = golden.tables(INPUT)
        if not self.given or golden.facts.get("rows"):
            raise TraceError(f"{golden.path}: the run is repeated, which needs whole inputs: record the golden trace "
                             "without --no-pixels and --rows")
        self.after_video = self._after_video()
        self.prepared = self._prepared(None)

    def _after_video(self) -> str:
        """How the golden run counted text after a video."""
        for rule in AFTER_VIDEO:
            if self.messages is None and np.array_equal(self._from_ids(rule).position_ids, self.given["position_ids"]):
                return rule
        return AFTER_VIDEO[0]

    def _from_ids(self, rule: str) -> Inputs:
        parts: dict[str, Any] = {name: self.given[name] if len(self.given[name]) else None for name in GIVEN}
        for pixels, grids in (GIVEN[:2], GIVEN[2:4]):
            if parts[pixels] is not None:
                parts[pixels] = cut_again(parts[pixels], parts[grids], self.vlm.config.vision)
        return Inputs.from_ids(self.given["input_ids"], self.vlm.config, **parts, after_video=rule)

    def own(self, fault: Fault | None = None) -> Own:
        """Key -> what each tapped stage gave itself. A run that breaks off, as a fault may make it, gives what it had.
        """
        if fault is None or fault.label.startswith(PREPARING):
            inputs, found = self._prepared(fault)
        else:
            inputs, found = self.prepared
        if inputs is None:
            return found
        return found | self._noted(fault, lambda: self.vlm.logits(inputs))[1]

    def rounded(self) -> Own:
        """The same of the right passes in the candidate's precision: what an honest candidate has there."""
        inputs, found = self.prepared
        return found if inputs is None else found | self._noted(None, lambda: self.rounding.logits(inputs))[1]

    def _prepared(self, fault: Fault | None) -> tuple[Inputs | None, Own]:
        """The inputs, made anew: from the conversation where the trace has it, else from ids and patches."""
        return self._noted(fault, lambda: self._from_ids(self.after_video) if self.messages is None
                           else self.vlm.prepare(self.messages))

    def _noted(self, fault: Fault | None, run: Callable[[], Any]) -> tuple[Any, Own]:
        """What comes of a part of the run, None where it broke off, and what its tapped stages gave themselves."""
        found: Own = {}
        table = {} if fault is None else fault.table()
        with quietly(), np.errstate(all="ignore"), session(replace=table), session(replace=dict(self._going_on(found))):
            try:
                return run(), found
            except (ValueError, IndexError, TypeError):
                return None, found

    def _going_on(self, found: Own) -> Iterator[tuple[str, Wrap]]:
        """For each label a wrap that notes what the stage gives and goes on with the candidate's value.

        A label that comes again (the second picture) is met in the order of its keys.
        """
        by_label: dict[str, list[tuple[str, Tapped]]] = {}
        for key, tap in self.taps.items():
            by_label.setdefault(tap.stage.label, []).append((key, tap))
        for label, keys in by_label.items():
            yield label, _noting(iter(keys), found)


def cut_again(pixels: np.ndarray, grids: np.ndarray, config: VisionConfig) -> np.ndarray:
    """Patches put together to pictures and cut anew, through the door, so that a fault of cutting can be tried."""
    sizes = replace(OFFICIAL_PICTURES, patch_size=config.patch_size, temporal_patch_size=config.temporal_patch_size,
                    merge_size=config.spatial_merge_size)
    each = np.split(pixels, np.cumsum(grids.prod(axis=1))[:-1])
    return np.concatenate([patchify(unpatchify(rows, grid, sizes), sizes)
                           for rows, grid in zip(each, grids, strict=True)])


def _noting(keys: Iterator[tuple[str, Tapped]], found: Own) -> Wrap:
    def wrap(original: Callable) -> Callable:
        def stage(*args: Any) -> Any:
            own = original(*args)
            key, tap = next(keys, ("", None))
            if tap is None:
                return own
            found[key] = outputs(own)
            if not tap.laid or len(tap.arrays) != len(outputs(own)):
                return own
            theirs = tuple(a.astype(o.dtype) for a, o in zip(tap.arrays, outputs(own), strict=True))
            return theirs if isinstance(own, tuple) else theirs[0]
        return stage
    return wrap

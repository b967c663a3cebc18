"""One run of minivl on a candidate's values: at every tap it goes on with what the candidate has
there, so that each stretch between two taps is judged by itself.

With no fault planted the run says where the candidate differs from the right passes; with a fault it
says what that fault would have made of the same values. Both run in float32: what is asked is which of
two comes nearer. Runs in the types that the taps were computed in say what honest rounding makes of them.

Read next: `evidence.py`, which measures what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np

from ...api import VLM
from ...config import OFFICIAL_PICTURES, VisionConfig
from ...kernels import Interpreter
from ...passes.patches import patchify, unpatchify
from ...passes.positions import AFTER_VIDEO
from ...run.inputs import Inputs
from ..compare.run_on import going_on, run_on, whole_inputs
from ..compare.taps import Candidate, Tap
from ..museum.fault import Fault
from ..trace.conversation import conversation
from ..trace.format import Stage, Trace, row_axis

# patches, and the grids by which they are cut
PATCHES = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}
# labels of passes before the model runs
PREPARING = ("picture.", "video.", "patches.", "prompt.", "positions.")
Own = dict[str, tuple]


@dataclass(frozen=True)
class Tapped:
    """What the candidate has at one stage, all arrays of it. `laid`: they are in the golden layout and
    row order; `rows`: of each array the golden rows that it has, None for all."""
    stage: Stage
    arrays: tuple[np.ndarray, ...]
    laid: bool
    rows: tuple[np.ndarray | None, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it has all rows, so that a run can go on with it."""
        return all(rows is None for rows in self.rows)

    def name(self, number: int) -> str:
        """Of one of its arrays, as it is judged."""
        arrays = self.stage.arrays
        return arrays[number] if number < len(arrays) else self.stage.key

    def same_rows(self, own: tuple) -> tuple:
        """What a run made there, at the rows that the candidate has."""
        if self.whole:
            return own
        pairs = zip(own, self.rows, self.stage.axes, strict=False)
        return tuple(x if rows is None or x.ndim <= row_axis(axes) else np.take(x, rows, row_axis(axes))
                     for x, rows, axes in pairs)


def tapped(golden: Trace, candidate: Candidate, taps: list[Tap]) -> dict[str, Tapped]:
    """Key -> what the candidate has there, for stages of which it has every array, in order of
    execution."""
    found: dict[str, list[Tap]] = {}
    for tap in taps:
        found.setdefault(tap.stage.key, []).append(tap)
    return {key: Tapped(rows[0].stage,
                        tuple(tap.found.array if tap.found else tap.theirs for tap in rows),
                        candidate.native or all(tap.found for tap in rows),
                        tuple(tap.rows for tap in rows))
            for key, rows in found.items() if len(rows) == len(golden.stages[key].axes)}


class Replay:
    """A run that can be repeated: the same inputs and the same values at the taps, with another fault
    each time.

    It runs on the definitions. Raises TraceError for a golden trace without whole inputs. A value that
    is not laid is compared and not gone on with; where one has another shape than the stage makes, the
    run breaks off.
    """

    def __init__(self, vlm: VLM, golden: Trace, taps: Mapping[str, Tapped]):
        self.vlm, self.taps = vlm.on("float32", "definition"), taps
        self.values = {key: tap.arrays if tap.laid and tap.whole else None for key, tap in taps.items()}
        self.messages = conversation(golden)
        self.given = whole_inputs(golden)
        self.place = self.given.pop("position_ids")
        self.after_video = self._after_video()
        self.prepared = self._prepared(None)

    def _after_video(self) -> str:
        """How the golden run counted text after a video."""
        for rule in AFTER_VIDEO:
            if self.messages is None and np.array_equal(self._cut_again(rule).position_ids, self.place):
                return rule
        return AFTER_VIDEO[0]

    def _cut_again(self, rule: str) -> Inputs:
        """Inputs from ids and patches of the golden run."""
        vision = self.vlm.config.vision
        patches = {name: cut_again(self.given[name], self.given[grids], vision)
                   for name, grids in PATCHES.items() if len(self.given[name])}
        return Inputs.from_arrays(self.given | patches, self.vlm.config, rule)

    def own(self, fault: Fault | None = None, precision: str = "float32", until: str | None = None,
            machine: str | Interpreter = "definition") -> Own:
        """Key -> what each tapped stage gave itself. A run that breaks off, as a fault may make it,
        gives what it had.

        until: the last stage that is asked for; machine: the definitions, or with other weights.
        """
        anew = fault is not None and fault.label.startswith(PREPARING)
        inputs, before = self._prepared(fault) if anew else self.prepared
        found = dict(before)
        if inputs is not None:
            table = fault.table() if fault else {}
            last = until if until in self.values and not until.startswith(PREPARING) else None
            with breaking_off():
                run_on(self.vlm, inputs, self.values, precision, table, until=last,
                       take=found.__setitem__, machine=machine)
        return {key: self.taps[key].same_rows(own) if key in self.taps else own
                for key, own in found.items()}

    def honest(self, kinds: Mapping[str, str], machine: str | Interpreter = "definition") -> Own:
        """What an honest candidate has at each tap. kinds: key -> the type that the tap was computed
        in."""
        found: Own = {}
        for kind in dict.fromkeys(kinds.values()):
            own = self.own(precision=kind, machine=machine)
            found |= {key: arrays for key, arrays in own.items() if kinds.get(key) == kind}
        return found

    def _prepared(self, fault: Fault | None) -> tuple[Inputs | None, Own]:
        """The inputs, made anew: from the conversation where the trace has it, else from ids and
        patches. None where that broke off; and what the tapped stages gave."""
        inputs: Inputs | None = None
        found: Own = {}
        with breaking_off(), going_on(self.values, found.__setitem__, fault.table() if fault else None):
            inputs = (self._cut_again(self.after_video) if self.messages is None
                      else self.vlm.prepare(self.messages))
        return inputs, found


@contextmanager
def breaking_off() -> Iterator[None]:
    """What runs inside may end early, with what a fault may make passes raise."""
    with np.errstate(all="ignore"), suppress(ValueError, IndexError, TypeError):
        yield


def cut_again(pixels: np.ndarray, grids: np.ndarray, config: VisionConfig) -> np.ndarray:
    """Patches put together to pictures and cut anew, through the door, so that a fault of cutting can
    be tried."""
    sizes = replace(OFFICIAL_PICTURES, patch_size=config.patch_size,
                    temporal_patch_size=config.temporal_patch_size,
                    merge_size=config.spatial_merge_size)
    each = np.split(pixels, np.cumsum(grids.prod(axis=1))[:-1])
    return np.concatenate([patchify(unpatchify(rows, grid, sizes), sizes)
                           for rows, grid in zip(each, grids, strict=True)])

"""A trace as one conversation: its inputs, its answer, and the rows of every stage.

While an answer is written each stage of the decoder runs again, one row a token. `Run.rows` lays these
runs one after the other, so that row i of a stage is row i of the whole sequence.

Read next: `attention.py`, `stages.py`, `lens.py`, which read a `Run`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.errors import ArgumentError
from ...door.stage import session
from ...passes.patches import grid_of
from ...run.inputs import Inputs
from ...run.provenance import provenance

CHOICES = ("sampling.most_likely", "sampling.draw")
REMEDY = ('record every stage of one run, from the picture to the answer: session(record="*"), '
          'or minivl run --dump without --record')


@dataclass(frozen=True)
class Run:
    """One conversation and what came out of its stages: `.trace` is key -> output, in order."""
    trace: Mapping[str, Any]
    inputs: Inputs
    vlm: VLM
    name: str = ""

    @cached_property
    def runs(self) -> dict[str, list[tuple[np.ndarray, ...]]]:
        """Label -> what came out of each run of it: the pictures of a prompt, the steps of decoding."""
        found: dict[str, list[tuple[np.ndarray, ...]]] = {}
        for key, output in self.trace.items():
            found.setdefault(re.sub(r"@\d+", "", key), []).append(outputs(output))
        return found

    def rows(self, label: str, n: int = 0) -> np.ndarray:
        """Output n of a stage, its runs one after the other. Raises ArgumentError when there is none."""
        if label not in self.runs:
            raise ArgumentError(f"the trace has no {label}; {REMEDY}")
        return np.concatenate([each[n] for each in self.runs[label]])

    @cached_property
    def written(self) -> list[int]:
        """Ids of the answer, the stop id included."""
        return [int(array[0]) for label in CHOICES for (array,) in self.runs.get(label, [])]

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of all rows of the decoder: the prompt, then the answer without its last token."""
        steps = max(len(self.written) - 1, 0)
        return np.concatenate([self.inputs.input_ids, np.array(self.written[:steps], np.int64)])

    @cached_property
    def positions(self) -> np.ndarray:
        """MRoPE time, height and width of all rows: 3 s."""
        after = [each[0] for each in self.runs.get("positions.advance", [])]
        return np.concatenate([self.inputs.position_ids, *after], axis=1)[:, : len(self.ids)]

    @cached_property
    def at(self) -> dict[str, np.ndarray]:
        """Where rows come from, by axis letter (`provenance`); rows of the answer are text."""
        at = provenance(self.inputs, self.vlm.config)
        text = np.full((len(self.ids) - len(at["s"]), *at["s"].shape[1:]), -1)
        return {**at, "s": np.concatenate([at["s"], text])}


def follow(vlm: VLM, messages: Sequence[Mapping[str, Any]], max_new_tokens: int = 64, name: str = "",
           **options: Any) -> Run:
    """Answer and keep what every stage gives. Open sessions hold: your own passes are shown.

    options: of `VLM.generate`; without them the answer is greedy.
    Raises ArgumentError for a conversation without picture or video.
    """
    with session(record="*") as s:
        inputs = vlm.prepare(messages)
        _check_media(inputs)
        vlm.generate(inputs, max_new_tokens, **options)
    return _checked(Run(s.trace, inputs, vlm, name))


def from_trace(trace: Mapping[str, Any], vlm: VLM, name: str = "") -> Run:
    """A recorded run of this model: `session(record="*").trace`, or `read_dump` of a folder.

    The size of a picture as it came and the rate of a video are not in a trace, and so not on the page.
    Raises ArgumentError when stages are missing, several runs were recorded, or another model ran.
    """
    if "prompt.expand@1" in trace:
        raise ArgumentError("the trace has several conversations, a page shows one: record one at a time")
    for key in ("prompt.expand", "positions.mrope"):
        if key not in trace:
            raise ArgumentError(f"the trace has no {key}; {REMEDY}")
    inputs = _inputs(trace, vlm)
    _check_media(inputs)
    return _checked(Run(trace, inputs, vlm, name))


def _inputs(trace: Mapping[str, Any], vlm: VLM) -> Inputs:
    """Inputs as they were when the trace was recorded; positions are the trace's own."""
    frames = [(key.split(".")[0], array) for key, array in trace.items()
              if re.fullmatch(r"(picture|video)\.normalise(@\d+)?", key)]
    cuts = [array for key, array in trace.items() if re.fullmatch(r"patches\.patchify(@\d+)?", key)]
    if len(cuts) != len(frames):
        raise ArgumentError(f"the trace has {len(frames)} pictures and videos but patches of "
                            f"{len(cuts)}; {REMEDY}")
    stacks = [array if kind == "video" else array[None] for kind, array in frames]    # 3 h u -> 1 3 h u
    grids = [grid_of(stack.shape, vlm.processor.preprocessor) for stack in stacks]
    given: dict[str, Any] = {}
    for kind, values, grid in (("picture", "pixel_values", "image_grid_thw"),
                               ("video", "pixel_values_videos", "video_grid_thw")):
        own = [n for n, (found, _) in enumerate(frames) if found == kind]
        if own:
            given[values] = np.concatenate([cuts[n] for n in own])              # p x of each -> p x
            given[grid] = np.stack([grids[n] for n in own])                     # 3 of each -> i 3
    if "video_grid_thw" in given:
        given["second_per_grid_ts"] = [0.0] * len(given["video_grid_thw"])
    inputs = Inputs.from_ids(trace["prompt.expand"], vlm.config, **given)
    sized = zip(inputs.media, stacks, strict=True)
    media = tuple(replace(medium, size=stack.shape[2:]) for medium, stack in sized)
    return replace(inputs, position_ids=trace["positions.mrope"], media=media)


def _check_media(inputs: Inputs) -> None:
    if not inputs.media:
        raise ArgumentError("the conversation has no picture and no video: there is nothing to point at")


def _checked(run: Run) -> Run:
    """The run, if it is one run of its model from end to end. Raises ArgumentError."""
    vision, text = run.vlm.config.vision, run.vlm.config.text
    pictures = [f"{'picture' if m.kind == 'image' else 'video'}.resize" for m in run.inputs.media]
    for label in [*pictures, "vision.schedule"]:
        if len(run.runs.get(label, [])) < max(pictures.count(label), 1):
            raise ArgumentError(f"the trace has no {label}, or too few; {REMEDY}")
    for n in range(vision.depth):
        _check_block(run, f"vision.blocks.{n}", len(run.at["w"]), vision.hidden_size)
    for n in range(text.num_hidden_layers):
        _check_block(run, f"decoder.layers.{n}", len(run.ids), text.hidden_size)
    return run


def _check_block(run: Run, block: str, rows: int, width: int) -> None:
    found = {each[0].shape[1] for each in run.runs.get(f"{block}.add_mlp", [])}
    if found - {width}:
        raise ArgumentError(f"{block}.add_mlp has rows of width {min(found)}, this model's have "
                            f"{width}: name the model that the run was recorded with")
    for label in (f"{block}.{stage}" for stage in ("project_qkv", "rotate", "attend", "add_mlp")):
        if len(run.rows(label)) != rows:
            raise ArgumentError(f"{label} has {len(run.rows(label))} rows in the trace, one run of this "
                                f"conversation has {rows}; {REMEDY}")

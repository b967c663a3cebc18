"""minivl itself as a candidate: with passes replaced, in any precision. What tests are made of, and
how a pass that a student or a port's author wrote in NumPy is tried.

    Ours(vlm, {"vision.restore_order": wrap})              # wraps, as a session's `replace` takes them
    Ours.of_functions(vlm, {"vision.restore_order": function})  # functions of the stage's own arguments

Every leaf stage can be a cut; without `cuts=` the places are those at which foreign engines can be
entered, between blocks. Read next: `runnable.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...api import VLM
from ...door.stage import Session, Wrap, functions
from ...run.inputs import Inputs
from .runnable import LOGITS, CandidateError, Value, Values

POSITIONS = "position_ids"


class Ours:
    """minivl under a table of wraps. `.vlm` is the model, `.precision` that of its activations. It
    runs on whatever machine the model runs on: that is a part of the candidate."""

    def __init__(self, vlm: VLM, table: Mapping[str, Wrap] | None = None,
                 cuts: Sequence[str] | None = None):
        self.vlm, self.table, self.precision = vlm, dict(table or {}), vlm.dtype.name
        self._cuts = list(between_blocks(vlm) if cuts is None else cuts)
        self.reached: set[str] = set()            # patterns of the table under which anything was run

    @classmethod
    def of_functions(cls, vlm: VLM, table: Mapping[str, Callable],
                     cuts: Sequence[str] | None = None) -> Ours:
        """A callable for each stage: {pattern: function of the stage's own arguments}."""
        return cls(vlm, functions(table), cuts)

    def cuts(self) -> list[str]:
        """Labels of leaves."""
        return self._cuts

    def prepare(self, messages: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Pictures and text to inputs, through the replaced passes."""
        with Session(replace=noting(self.table, self.reached), quiet=True):
            return self.vlm.prepare(list(messages)).arrays()

    def run(self, inputs: Mapping[str, np.ndarray], given: Values) -> dict[str, Value]:
        """The prompt's logits, and what each cut's stage gave itself."""
        put = {cut: given.get(cut) for cut in self._cuts}
        known = {name: array for name, array in inputs.items() if name != POSITIONS}
        with Session(replace=noting(self.table, self.reached), put=put, quiet=True) as s:
            # positions are made anew: a pass
            logits = self.vlm.logits(Inputs.from_arrays(known, self.vlm.config))
        return {**s.made, LOGITS: logits}


def noting(table: Mapping[str, Wrap], reached: set[str]) -> dict[str, Wrap]:
    """The same wraps; a pattern is put into `reached` when something is about to run under it."""
    def noted(pattern: str, wrap: Wrap, original: Callable) -> Callable:
        reached.add(pattern)
        return wrap(original)
    return {pattern: functools.partial(noted, pattern, wrap) for pattern, wrap in table.items()}


def check_reached(table: Mapping[str, Wrap], reached: set[str], name: str) -> list[str]:
    """What is to be said about patterns under which nothing ran. Raises CandidateError when that is
    all of them."""
    idle = [pattern for pattern in table if pattern not in reached]
    said = f"this run never came to {', '.join(idle)}"
    if idle and not reached:
        raise CandidateError(f"{name}: {said}, so that nothing of it was tried; give a prompt that "
                             "needs it, or `minivl shadow` or `minivl reduce` for what prepares the "
                             "inputs")
    return [said] if idle else []


def between_blocks(vlm: VLM) -> list[str]:
    """Where an engine can commonly be entered: the positions, and the stream of rows between two
    blocks."""
    tower, decoder = range(vlm.config.vision.depth), range(vlm.config.text.num_hidden_layers)
    return ["positions.mrope", "vision.order_by_window", *(f"vision.blocks.{n}.add_mlp" for n in tower),
            "vision.restore_order", "decoder.place_features",
            *(f"decoder.layers.{n}.add_mlp" for n in decoder)]

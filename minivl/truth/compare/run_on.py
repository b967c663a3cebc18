"""minivl's own stages on somebody's values: a stage runs, what it made is kept, and the run goes on
with what somebody else has there.

    own = run_on(vlm, golden, {"vision.merge_2x2": theirs}, "float64")
    own["vision.merge_2x2"]                   # what minivl makes there; the decoder ran on `theirs`

So each stretch between two values is judged by itself, and nothing adds up. Four rooms ask: `local.py`
(every stage on the candidate's own inputs), `candidates/shadow.py` and `candidates/bisect.py` (golden
values at the cuts), and `diagnose/replay.py` (the same with a fault planted).

Read next: `door/stage.py` (`put`, which does it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.stage import Stopped, Wrap, session
from ...door.visit import Visit
from ...kernels import Interpreter
from ...run.inputs import Inputs
from ..trace.format import INPUT, ROWS, Trace, TraceError

POSITIONS = "positions.mrope"            # made when inputs are prepared, before the model runs
Arrays = tuple[np.ndarray, ...]
Values = Mapping[str, Any]               # key of a stage -> an array, a tuple of arrays, or None
Take = Callable[[str, Arrays], None]


def run_on(vlm: VLM, golden: Trace | Inputs, values: Values, precision: str,
           fault: Mapping[str, Wrap] | None = None,
           *, until: str | None = None, take: Take | None = None,
           machine: str | Interpreter = "definition") -> dict[str, Arrays]:
    """Key -> what the definitions make at every stage that has a value, where the run goes on with the
    values.

    vlm: the checkpoint; whatever it runs on, the definitions are asked
    golden: the trace that lends the inputs, or these. Of a trace, positions are those in `values`
        where they are there
    values: arrays in the shapes and row orders of the stages; None for a stage that is only to be noted.
        Names that no stage of this run has are left to whoever read them (`Comparison.unused`)
    precision: the type of the activations, into which values are cast
    fault: wraps that stand in passes or kernels (`Fault.table()`, `yardstick.liberties(precision)`)
    until: the last stage that runs
    take: told key and arrays as each stage has run, which then are not kept: a file of a large model's
        stages is written like that. Without it all are given back
    machine: the definitions, or with other weights (`coarse.py`)

    Raises TraceError for a trace without whole inputs, ContractError for a value of another shape than
    its stage makes (ArgumentError for positions), and whatever a fault makes the passes raise; `take`
    has then been told of every stage that had run.
    """
    inputs = golden if isinstance(golden, Inputs) else inputs_of(golden, vlm, values)
    own: dict[str, Arrays] = {}
    with going_on(values, take or own.__setitem__, fault, until):
        vlm.on(precision, machine).logits(inputs)
    return own


@contextmanager
def going_on(values: Values, take: Take, fault: Mapping[str, Wrap] | None = None,
             until: str | None = None) -> Iterator[None]:
    """While it is open, whatever runs goes on with the values. The words are those of `run_on`."""
    def look(visit: Visit) -> None:
        if visit.key in asked.made:
            take(visit.key, outputs(asked.made.pop(visit.key)))
    asked = session(put=values, replace=fault, stop_after=until, quiet=True)
    asked.watchers.append(look)
    try:
        with asked:
            yield
    except Stopped as stop:
        if stop.key != until:                            # somebody else's, of a session around this one
            raise
    finally:
        for key, made in asked.made.items():          # of a stage whose value did not fit, and no leaf's
            take(key, outputs(made))


def inputs_of(golden: Trace, vlm: VLM, values: Values) -> Inputs:
    """The inputs of a golden run; positions are somebody's where `values` has them. Raises
    TraceError."""
    inputs = Inputs.from_arrays(whole_inputs(golden), vlm.config)
    theirs = outputs(values.get(POSITIONS, inputs.position_ids))
    return inputs.with_positions(theirs[0])                                                        # 3 s


def whole_inputs(golden: Trace) -> dict[str, np.ndarray]:
    """A trace's inputs by the reference's names. Raises TraceError when they are not all there."""
    given = golden.tables(INPUT)
    if not given or ROWS in golden.facts:
        raise TraceError(f"{golden.path}: the model is run again, which needs whole inputs: record "
                         "the golden trace without --no-pixels and --rows")
    return given

"""A candidate's logits against the golden ones, with the words of `minivl diff`; and a golden trace as
bisecting and shadowing need it. Read next: `truth/compare/verdict.py`, which decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...api import VLM
from ...door.stage import Session
from ...run.inputs import Inputs
from ..compare.align import Fitted, fit
from ..compare.compare import Tap, judged_tap
from ..compare.metrics import row_distances
from ..compare.verdict import EXACT, ROUNDING, Judged
from ..compare.yardstick import liberties
from ..trace.format import INPUT, ROWS, YARDSTICK, Stage, Trace, TraceError
from ..trace.record import record
from .runnable import CandidateError, Value

END = "decoder.logits"


def is_clean(word: str) -> bool:
    """Whether a verdict means: no difference beyond rounding."""
    return word in (EXACT, ROUNDING)


def check_whole(golden: Trace) -> None:
    """Raise TraceError unless a golden trace can be run from: with inputs, all rows, and logits."""
    wanted = {"its inputs (it was recorded with --no-pixels)": INPUT in golden.facts,
              "all of its rows (it was recorded with --rows)": ROWS not in golden.facts,
              "the logits (it was recorded with --select)": END in golden.recorded()}
    lacking = [what for what, there in wanted.items() if not there]
    if lacking:
        raise TraceError(f"{golden.path} lacks {', '.join(lacking)}: record it whole, as `minivl "
                         "trace record` does without options")


def value_of(golden: Trace, key: str) -> Value:
    """What a stage gave in the golden run: an array or a tuple of arrays."""
    found = golden.arrays(key)
    return found if len(found) > 1 else found[0]


def judged_logits(golden: Trace, logits: np.ndarray, precision: str) -> Judged:
    """The verdict on the logits of every row. Raises CandidateError for a shape that fits in no way."""
    stage, (exact,) = golden.stages[END], golden.arrays(END)
    laid = fit(logits, exact, 0)
    if laid is None:
        raise CandidateError(f"{END}: the candidate gave shape {list(logits.shape)}, the golden one is "
                             f"{list(exact.shape)}")
    depth = sum(golden.arrays(key)[0].dtype.kind == "f" for key in golden.recorded())
    yard = golden.tables(f"{YARDSTICK}.{precision}").get(END)
    return judged_tap(Tap(END, stage, stage.axes[0], exact, laid, logits), yard, precision,
                      depth)[0]


@contextmanager
def golden_of(vlm: VLM, prompt: Any | Inputs, precision: str) -> Iterator[Trace]:
    """A golden trace of one prompt with the yardstick of one precision; its file is gone afterwards."""
    with TemporaryDirectory(prefix="minivl-golden-") as folder:
        path = Path(folder) / "golden.safetensors"
        record(vlm.on("float64", "definition"), prompt, path, yardsticks=(precision,))
        with Trace(path) as trace:
            yield trace


def judged_anew(vlm: VLM, inputs: Inputs, logits: np.ndarray, precision: str) -> Judged:
    """The verdict on logits of inputs that no trace was recorded of: minivl runs twice, exactly and in
    `precision`."""
    exact = vlm.on("float64", "definition").logits(inputs)
    if np.shape(logits) != exact.shape:
        raise CandidateError(f"the candidate gave logits {list(np.shape(logits))}, minivl's are "
                             f"{list(exact.shape)}: a row for each token of the prompt, a column for "
                             "each word")
    with Session(replace=liberties(precision), quiet=True):
        rounded = vlm.on(precision, "definition").logits(inputs)
    tap = Tap(END, Stage(END, END), "s v", exact, Fitted(np.asarray(logits)), logits)
    return judged_tap(tap, row_distances(rounded, exact, 0), precision, 1)[0]

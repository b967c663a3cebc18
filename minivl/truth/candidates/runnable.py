"""What a candidate has to be so that it can be run with golden values in the place of its own: four
lines.

    class Mine:
        precision = "bfloat16"                        # of its activations; float32 when it is left out
        def cuts(self): return ["vision.blocks.0.add_mlp", ...]  # stages after which it can be entered
        def run(self, inputs, given): return {"logits": ...} # and, where it can, its value at each cut

`inputs` are one conversation under the reference's names (`Inputs` says which); what is empty has
length 0. `given` maps cuts to arrays, in minivl's shapes and row orders: the run goes on from there
with these, as if they were its own. All cuts before the last given one are given too, so that a side
branch (positions, say) comes along. What comes back is what the candidate made itself, at given cuts
too where it made anything there; `logits` (s, v) has a row for each token.

A candidate with pictures and text of its own may have `prepare(messages)`, which gives `inputs`; only
`reduce` asks. Read next: `ours.py` and `module.py`, two candidates; `bisect.py`, which asks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...door.errors import Error
from ..compare.verdict import EPS

Value = np.ndarray | tuple[np.ndarray, ...]
Values = Mapping[str, Value]
LOGITS = "logits"


class Runnable(Protocol):
    """See the module's text."""

    def cuts(self) -> Sequence[str]: ...

    def run(self, inputs: Mapping[str, np.ndarray], given: Values) -> Values: ...


class CandidateError(Error):
    """A candidate is none, or gave what cannot be used; the message names it, what it did and what to
    do."""


class Crashed(Exception):
    """A candidate raised something while it ran; the text says what."""


class Checked:
    """A candidate whose answers are checked, whose failures are told apart, and whose runs are
    counted."""

    def __init__(self, candidate: Runnable, name: str):
        self.candidate, self.name, self.runs = candidate, name, 0
        missing = [word for word in ("cuts", "run") if not callable(getattr(candidate, word, None))]
        if missing:
            raise CandidateError(f"{name} is a {type(candidate).__name__} without "
                                 f"{' and '.join(missing)}: a candidate has cuts() and run(inputs, "
                                 "given); docs/guide/when-the-candidate-runs.md shows one")
        try:
            self.precision = str(getattr(candidate, "precision", "float32"))
        except (Exception, SystemExit) as error:
            raise CandidateError(f"{name}: .precision raised {type(error).__name__}: {error}") from error
        if self.precision not in EPS:
            raise CandidateError(f"{name}: precision is {self.precision!r}; it can be {', '.join(EPS)}")

    def cuts(self) -> list[str]:
        """Labels of stages after which the candidate can be entered. Raises CandidateError."""
        try:
            found = self.candidate.cuts()
            cuts = None if found is None or isinstance(found, str) else list(found)
        except CandidateError:
            raise
        except (Exception, SystemExit) as error:                 # it is the candidate's, as in `run`
            raise CandidateError(f"{self.name}: cuts() raised {type(error).__name__}: {error}; it "
                                 "should give a list of labels") from error
        if cuts is None or not all(isinstance(cut, str) for cut in cuts):
            raise CandidateError(f"{self.name}: cuts() gave {found!r}; it should be a list of labels")
        return list(dict.fromkeys(cuts))

    def run(self, inputs: Mapping[str, np.ndarray], given: Values) -> dict[str, Value]:
        """One run. Raises Crashed with what the candidate raised, CandidateError for an answer that is
        none."""
        self.runs += 1
        try:
            found = self.candidate.run(dict(inputs), dict(given))
        except (Exception, SystemExit) as error:                # whatever it is: it is the candidate's
            raise Crashed(f"{type(error).__name__}: {error}") from error
        if not isinstance(found, Mapping) or LOGITS not in found:
            what = f"a {type(found).__name__}" if not isinstance(found, Mapping) else \
                ', '.join(map(str, found)) or "nothing"
            raise CandidateError(f"{self.name}: run gave {what}; it should be a table of arrays with "
                                 f"{LOGITS!r} in it")
        if isinstance(found[LOGITS], tuple | list):
            raise CandidateError(f"{self.name}: {LOGITS} is a {type(found[LOGITS]).__name__} of "
                                 f"{len(found[LOGITS])}; it should be one array (s, v), a row for "
                                 "each token")
        return {name: self._arrays(name, value) for name, value in found.items()}

    def _arrays(self, name: str, value: Any) -> Value:
        if isinstance(value, tuple | list):
            return tuple(self.array(name, one) for one in value)
        return self.array(name, value)

    def array(self, name: str, value: Any) -> np.ndarray:
        """Anything that the candidate gave, as an array of numbers. Raises CandidateError."""
        try:
            array = np.asarray(value)
        except Exception as error:                      # a tensor that wants a gradient, a jagged list
            raise CandidateError(f"{self.name}: {name} is no array: {error}") from None
        if array.dtype.kind not in "fiubV" or array.dtype.names:
            raise CandidateError(f"{self.name}: {name} is an array of {array.dtype}; numbers are wanted")
        return array



def in_type(value: Value, precision: str) -> Value:
    """Golden values as a candidate is given them: rounded to its type; 16-bit numbers come in
    float32."""
    from ...api import dtype_of
    dtype = dtype_of(precision)
    keep = np.float64 if precision == "float64" else np.float32

    def typed(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype).astype(keep) if array.dtype.kind in "fV" else array
    return tuple(map(typed, value)) if isinstance(value, tuple) else typed(value)

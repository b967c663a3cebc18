"""Which stretch of a candidate is guilty, when it can only be entered at cuts: transplant golden
values and look at the logits.

    found = bisect(golden, Checked(candidate, "mine.py:port"), healer(vlm, golden))
    found.guilty                                  # stretches between two cuts, the last one first

With golden values up to a cut only the passes behind it can spoil the logits. So the first cut from
which on the logits are right ends the *last* guilty stretch, and a binary search finds it. Then minivl
computes that stretch, from what the candidate has at its beginning (it is *healed*), and the search
begins again before it, until the logits are right.

What it is not: a comparison of what the candidate gives at the cuts. A candidate that gives only
logits is bisected as far as its last guilty stretch; to heal that, its value at the beginning must be
read.

Read next: `runnable.py` (what a candidate is), `judge.py` (what right means), `shadow.py` (all at
once, where a candidate computes on although it was given a value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...api import VLM
from ...door.contract import outputs
from ...door.watch import relative_error
from ..compare.align import fit
from ..compare.run_on import run_on
from ..compare.verdict import EXACT, suspects
from ..trace.format import INPUT, Trace, row_axis
from .judge import END, check_whole, is_clean, judged_logits, value_of
from .runnable import LOGITS, CandidateError, Checked, Crashed, Value, in_type

CRASHED = "crashed"
Heal = Callable[[Mapping[str, Value], str], Value]


class Stretch(NamedTuple):
    """The passes after one cut, up to and with another; None is the very beginning."""
    after: str | None
    until: str


@dataclass(frozen=True)
class Trial:
    """One question to the candidate: golden up to `cut` (None: nothing), `healed` computed by minivl;
    the answer."""
    cut: str | None
    healed: tuple[str, ...]              # ends of the healed stretches
    word: str                            # a verdict on the logits, or "crashed"
    ratio: float                         # of what rounding may do
    runs: int                            # of the candidate
    note: str = ""


@dataclass(frozen=True)
class Guilty:
    """A stretch that is guilty, its passes in order, and the cuts in it at which the candidate could
    not be entered."""
    after: str | None
    until: str
    passes: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass
class Bisection:
    """Everything that was asked and found, as plain data. `settled`: healed in all guilty stretches it
    is right."""
    candidate: str
    golden: str
    precision: str
    cuts: list[str]
    trials: list[Trial] = field(default_factory=list)
    guilty: list[Guilty] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    runs: int = 0
    settled: bool = False


class Unreadable(Exception):
    """The candidate gives no value at a cut at which it would have to be read."""


def bisect(golden: Trace, candidate: Checked, heal: Heal) -> Bisection:
    """Find all guilty stretches, the last one first. Raises CandidateError or TraceError when that
    cannot be done."""
    check_whole(golden)
    bench = Bench(golden, candidate, heal)
    found = Bisection(candidate.name, str(golden.path), candidate.precision, list(bench.line))
    found.notes += bench.notes
    found.notes += check_runs_alike(bench)
    healed: list[Stretch] = []
    last: str | None = END
    try:
        while not is_clean(bench.ask(None, healed).word):
            stretch = last_guilty(bench, healed, last)
            if stretch is None:
                found.notes.append("it stays wrong with golden values at every cut before what is "
                                   "healed: entering it changes more than its values, or it keeps "
                                   "something from run to run")
                break
            healed.append(stretch)
            found.guilty.append(described(bench, stretch))
            last = stretch.after
        else:
            found.settled = True
    except Unreadable as problem:
        found.notes.append(f"it stops here: {problem}")
    found.trials, found.runs = list(bench.trials.values()), candidate.runs
    return found


class Bench:
    """The candidate, the golden values, and every trial so far. `.line` are the cuts in the order of
    the passes."""

    def __init__(self, golden: Trace, candidate: Checked, heal: Heal):
        self.golden, self.candidate, self.heal = golden, candidate, heal
        self.inputs = golden.tables(INPUT)
        self.trials: dict[tuple, Trial] = {}
        self.alone: np.ndarray | None = None              # the logits of the run without help
        self.line, self.notes = line_of(golden, candidate)
        self.values = {cut: in_type(value_of(golden, cut), candidate.precision) for cut in self.line}

    def ask(self, cut: str | None, healed: list[Stretch]) -> Trial:
        """One trial; the same question is asked once. Raises Unreadable."""
        behind = [s for s in healed if cut is None or self.place(s.until) > self.place(cut)]
        question = (cut, tuple(behind))
        if question not in self.trials:
            before = self.candidate.runs
            try:
                row = judged_logits(self.golden, self.logits(cut, behind), self.candidate.precision)
                word, ratio, note = row.word, row.ratio, "" if row.measure.finite else "not finite"
            except Crashed as error:
                word, ratio, note = CRASHED, float("inf"), str(error)
            self.trials[question] = Trial(cut, tuple(s.until for s in behind), word, ratio,
                                          self.candidate.runs - before, note)
        return self.trials[question]

    def place(self, cut: str | None) -> int:
        """Where a cut stands in the line; the beginning is -1, the logits are the last."""
        return -1 if cut is None else len(self.line) if cut == END else self.line.index(cut)

    def logits(self, cut: str | None, healed: list[Stretch]) -> np.ndarray:
        """The logits with golden values up to a cut, and minivl's own passes in the healed stretches
        behind it."""
        if cut is None and not healed and self.alone is not None:
            return self.alone
        known: dict[str, Value] = {name: self.values[name] for name in self.line[: self.place(cut) + 1]}
        for stretch in sorted(healed, key=lambda s: self.place(s.until)):
            if stretch.after is not None and stretch.after not in known:
                known |= self.read(known, stretch.after)
            known[stretch.until] = in_type(self.heal(known, stretch.until), self.candidate.precision)
        if END in known:
            return np.asarray(known[END])
        return np.asarray(self.candidate.run(self.inputs, known)[LOGITS])

    def read(self, known: Mapping[str, Value], until: str) -> dict[str, Value]:
        """What the candidate has at the cuts that are not known yet, up to one of them. Raises
        Unreadable."""
        made = self.candidate.run(self.inputs, known)
        found = {name: self.laid(name, made[name]) for name in self.line[: self.place(until) + 1]
                 if name in made and name not in known}
        if until not in found:
            raise Unreadable(f"run gives no value at {until}, from where minivl would have to compute "
                             "on to heal what lies behind; have it return its own value there")
        return found

    def laid(self, name: str, value: Value) -> Value:
        """A value of the candidate in the golden shape: without a batch axis, heads apart. Raises
        CandidateError."""
        golden, axes = outputs(self.values[name]), self.golden.stages[name].axes
        found = [fit(np.asarray(theirs), ours, row_axis(axis))
                 for theirs, ours, axis in zip(outputs(value), golden, axes, strict=False)]
        if len(outputs(value)) != len(golden) or None in found:
            raise CandidateError(f"{self.candidate.name}: at {name} it gave {_shapes(outputs(value))}, "
                                 f"minivl has {_shapes(golden)}; arrange it so in run")
        arrays = tuple(one.array for one in found if one is not None)
        return arrays if len(arrays) > 1 else arrays[0]


def line_of(golden: Trace, candidate: Checked) -> tuple[list[str], list[str]]:
    """The candidate's cuts that the golden trace holds, in its order, and what is to be said about the
    others."""
    asked = candidate.cuts()
    recorded = set(golden.recorded())
    strange = [cut for cut in asked if cut not in golden.stages]
    absent = [cut for cut in asked if cut in golden.stages and cut not in recorded]
    line = [key for key in golden.stages if key in asked and key in recorded and key != END]
    if not line:
        raise CandidateError(f"{candidate.name}: none of its {len(asked)} cuts "
                             f"({', '.join(asked[:3]) or 'none'}) is a stage of the golden trace; "
                             "`minivl trace show` lists those")
    notes = [f"cuts that are no stages of this prompt: {', '.join(strange)}"] if strange else []
    return line, notes + ([f"cuts that the golden trace left out: {', '.join(absent)}"] if absent
                          else [])


def check_runs_alike(bench: Bench) -> list[str]:
    """Run the candidate twice without help. A note when the runs differ; CandidateError when that is
    beyond rounding, or when it does not run at all."""
    try:
        first, second = (np.asarray(bench.candidate.run(bench.inputs, {})[LOGITS]) for _ in range(2))
    except Crashed as error:
        raise CandidateError(f"{bench.candidate.name}: does not run on the golden inputs: {error}"
                             ) from None
    bench.alone = first
    if first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
        return []
    apart, limit = relative_error(second, first), limit_of(bench.golden, bench.candidate.precision)
    if not apart <= limit:
        raise CandidateError(f"{bench.candidate.name}: two runs on the same inputs are {apart:.1e} "
                             f"apart in the logits, and rounding is {limit:.1e}: it cannot be "
                             "bisected before it repeats itself (threads, dropout, state from one run "
                             "to the next?)")
    return [f"two runs on the same inputs are {apart:.1e} apart; that is within rounding ({limit:.1e})"]


def limit_of(golden: Trace, precision: str) -> float:
    """How far the logits may be from golden in this precision, as a relative error."""
    row = judged_logits(golden, np.zeros_like(golden.arrays(END)[0]), precision)
    return row.measure.error / row.ratio


def last_guilty(bench: Bench, healed: list[Stretch], end: str | None) -> Stretch | None:
    """The last guilty stretch before the healed ones, which begin at `end`; None when no cut makes it
    right.

    Golden at `end` it is right, for nothing behind is guilty any more: the search is among the cuts
    before.
    """
    if end is None:
        return None
    cuts: list[str | None] = [None, *(cut for cut in bench.line
                                      if bench.place(cut) < bench.place(end)), end]
    low, high = 0, len(cuts) - 1                          # wrong from `low`, right from `high`
    while high - low > 1:
        middle = (low + high) // 2
        word = bench.ask(cuts[middle], healed).word
        if word == CRASHED:                       # it cannot be entered here: the stretch spans this cut
            del cuts[middle]
            high -= 1
        elif is_clean(word):
            high = middle
        else:
            low = middle
    after, until = cuts[low], cuts[high]
    assert until is not None
    return Stretch(after, until)


def described(bench: Bench, stretch: Stretch) -> Guilty:
    """A guilty stretch with its passes, from what goes into what in the golden run."""
    first, last = bench.place(stretch.after), bench.place(stretch.until)
    shielding = dict.fromkeys(bench.line[: first + 1], EXACT)
    given = {key: EXACT for key in bench.golden.stages
             if not key.startswith(("vision.", "decoder.", "positions."))}
    passes = suspects(stretch.until, {**shielding, **given}, bench.golden.stages)
    return Guilty(stretch.after, stretch.until, tuple(passes), tuple(bench.line[first + 1 : last]))


def healer(vlm: VLM, golden: Trace) -> Heal:
    """minivl in float64 as what heals: from known values at cuts to the value at a later one."""
    def heal(known: Mapping[str, Value], until: str) -> Value:
        if until.startswith("positions."):                # made when inputs are prepared, and exact
            return value_of(golden, until)
        own = run_on(vlm, golden, {**known, until: None}, "float64", until=until)[until]
        return own if len(own) > 1 else own[0]
    return heal


def _shapes(arrays: tuple[np.ndarray, ...]) -> str:
    return " and ".join(str(list(np.shape(array))) for array in arrays)

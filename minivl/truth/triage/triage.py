"""All of triage in order: measure every sample, then say whether, which, where and show the smallest.

    found = triage(read_lines(path), minivl.load(), "bfloat16")

Read next: `loss.py`, `cause.py`, `properties.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...api import VLM
from ...run.inputs import Inputs
from .cache import Cache
from .cause import Cause, find_cause
from .lines import Line, LinesError, told_length
from .loss import LOGPROBS, Measured, Sample, bad, limits, measure, measured, uneven
from .properties import Shared, named, properties, shared
from .samplers import samplers
from .scorer import Scorer

FINER = {"bfloat16": "float32", "float16": "float32", "float32": "float64", "float64": "float64"}
DEFAULT = "bfloat16"                     # what most programs run in, where nobody says


@dataclass(frozen=True)
class Triage:
    """What was found. bad: one truth value a sample; different: lost, or given other inputs."""
    precision: str
    golden: str
    samples: list[Sample]
    bad: np.ndarray
    limits: dict[str, float]
    measured: list[Measured]
    cause: Cause
    shared: list[Shared]
    notes: list[str] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """(a): more is lost than rounding loses."""
        return any(one.lost for one in self.measured)

    @property
    def different(self) -> bool:
        return self.cause.kind is not None

    @property
    def named(self) -> list[str]:
        """(c): what the bad samples share."""
        return named(self.shared)


def precision_of(lines: Sequence[Line], said: str | None) -> str:
    """The candidate's type: as said on the command line, or in its lines. Raises LinesError when these
    disagree."""
    told = {line.settings["precision"]: line.number for line in lines if "precision" in line.settings}
    if len(told) > 1:
        raise LinesError(f"settings.precision is {' and '.join(sorted(told))} in one file (line "
                         f"{max(told.values())}); give one file for each")
    return said or next(iter(told), DEFAULT)


def triage(lines: Sequence[Line], vlm: VLM, precision: str, golden: str | None = None,
           cache: Cache | None = None, max_new_tokens: int | None = None,
           say: Callable[[str], None] = lambda words: None) -> Triage:
    """Compare a candidate's answers with minivl's own. Raises LinesError for a sample that cannot be
    prepared, and for log-probabilities that are no model's."""
    lines = told_length(lines, max_new_tokens)
    golden, vlm = golden or FINER[precision], vlm.on(kernels="definition")
    declared = {repr(line.settings): line.settings for line in lines
                if {"temperature", "repetition_penalty", "top_k", "top_p"} & line.settings.keys()}
    scorer = Scorer(vlm, precision, golden, samplers(vlm.generation, declared.values()),
                    cache or Cache())
    samples = []
    for n, line in enumerate(lines):
        say(f"sample {n + 1} of {len(lines)}")
        samples.append(measure(line, prepared(line, vlm), scorer))
    notes = left_out(samples)
    wrong, found = bad(samples, precision), measured(samples, precision)
    refuse_certainties(samples, found)
    table = shared(samples, wrong, vlm.config.vision)
    if named(table):
        holds = properties(samples, vlm.config.vision)[named(table)[0]]
        apart = uneven(samples, np.array([holds(one) for one in samples]), precision)
        found += [apart] if apart else []
    cause = find_cause(samples, wrong, found, scorer, say)
    return Triage(precision, golden, samples, wrong, limits(samples, precision), found, cause, table,
                  notes)


def left_out(samples: Sequence[Sample]) -> list[str]:
    """What is said of answers whose texts do not say which tokens were written. Raises LinesError when
    that is all there is."""
    unknown = [one for one in samples if not one.tokens_known]
    if not unknown:
        return []
    first = unknown[0].line
    what = (f"{len(unknown)} of {len(samples)} answers are texts that do not say which tokens were "
            f"written (line {first.number} first: it holds U+FFFD, which stands for bytes that are no "
            "character, or its model does not write as the tokenizer does)")
    if len(unknown) == len(samples):
        raise LinesError(f"{what}; give 'ids', the tokens of each answer, and 'logprobs' if you can")
    return [f"{what}; only whether they are other texts than the golden ones counts"]


def refuse_certainties(samples: Sequence[Sample], found: Sequence[Measured]) -> None:
    """Raise LinesError when every log-probability is 0 and minivl is not as sure: a sampler with top_k 1
    or next to no temperature leaves such numbers, whatever the model's were
    (vllm-project/vllm#11397)."""
    given = [value for one in samples for value in one.line.logprobs or ()]
    lost = any(one.name == LOGPROBS and one.lost for one in found)
    if given and lost and not any(given):
        raise LinesError(f"field 'logprobs' holds 0 for each of {len(given)} tokens: these are scores "
                         "after the sampler (top_k, temperature), and say nothing of the model; record "
                         "those before it, or leave the field out")


def prepared(line: Line, vlm: VLM) -> Inputs:
    """The inputs of one line. Raises LinesError that names it."""
    try:
        return vlm.prepare(line.messages)
    except ValueError as error:
        raise LinesError(f"line {line.number} (id {line.name}): {error}") from error

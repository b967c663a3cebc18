"""The comparisons of a parity report: transformers' run of each prompt, in each type and attention,
against minivl.

minivl's run in float64 is the golden one. transformers made exact (float64 throughout) must be the
same as that, and transformers as it is shipped may be no further from it than minivl's own run in the
same type is, within the factor of `truth/compare/verdict.py`. So each verdict is one on both: had
minivl another value at a stage, every run of transformers would be *wrong* there.

Text after a video is counted as the model was trained to (the largest position so far plus one);
docs/made/oracle-drift.md says which versions of transformers count otherwise. Read next: `seal.py`,
which makes a report of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...api import VLM
from ..compare.compare import Comparison, compare
from ..compare.importers import read_candidate
from ..compare.report import plain
from ..compare.verdict import worst_word
from ..museum import cases
from ..trace.format import Trace
from ..trace.record import record, record_reference
from .parts import output_parts

PROMPTS = {case.name: case for case in (cases.ragged, cases.two_pictures, cases.picture_last,
                                        cases.video_first, cases.fast_video)}
WAYS = (("float64", "exact"), ("float32", "sdpa"), ("float32", "eager"), ("bfloat16", "sdpa"),
        ("bfloat16", "eager"))
DIGITS = 4                               # of the figures in a report


@dataclass(frozen=True)
class RunName:
    """A run of transformers by name: of which prompt, in which type of activations, with which
    attention."""
    prompt: str
    precision: str
    attention: str

    def __str__(self) -> str:
        return f"{self.prompt}, {self.precision} {self.attention}"


def runs(prompts: tuple[str, ...] = tuple(PROMPTS), ways: tuple[tuple[str, str], ...] = WAYS
         ) -> Iterator[RunName]:
    """All comparisons of a report."""
    return (RunName(prompt, *way) for prompt in prompts for way in ways)


def compared(vlm: VLM, chosen: list[RunName], say: Callable[[str], None] = lambda words: None
             ) -> Iterator[dict[str, Any]]:
    """One entry of the report for each comparison. Raises ModuleNotFoundError without torch and
    transformers."""
    exact = vlm.on("float64", "definition")
    for prompt in dict.fromkeys(run.prompt for run in chosen):
        inputs = PROMPTS[prompt].prepare(exact)[0]
        mine = [run for run in chosen if run.prompt == prompt]
        with TemporaryDirectory(prefix="minivl-parity-") as folder:
            path, theirs = Path(folder) / "golden.safetensors", Path(folder) / "theirs.safetensors"
            record(exact, inputs, path, yardsticks=sorted({run.precision for run in mine}))
            for run in mine:
                say(str(run))
                record_reference(vlm, inputs, theirs, run.precision, "eager" if run.attention == "exact"
                                 else run.attention)
                with Trace(path) as golden, Trace(theirs) as other:
                    yield entry(run, compare(golden, read_candidate(theirs, golden)), golden, other)


def entry(run: RunName, found: Comparison, golden: Trace, theirs: Trace) -> dict[str, Any]:
    """What a report says of one comparison: verdicts, figures, and the hashes of what went in and came
    out."""
    return plain({
        "prompt": run.prompt, "precision": run.precision, "attention": run.attention,
        "producer": found.producer,
        "verdict": worst_word(list(found.words.values())), "first_bad": found.first_bad,
        "stages": [{"name": row.name, "verdict": row.word, "error": figure(row.measure.error),
                    "rounding": figure(row.yard.error), "ratio": figure(row.ratio)}
                   for row in found.judged],
        "logits": {} if found.logits is None else {
            "kl_worst": figure(found.logits.kl_worst), "top_overlap": figure(found.logits.top_overlap),
            "differing_rows": found.logits.differing_rows},
        "inputs": golden.facts["input_hashes"], "outputs": output_parts(theirs)})


def figure(value: float) -> float:
    """A number of few digits, so that a report can be read."""
    return float(f"{value:.{DIGITS}g}")

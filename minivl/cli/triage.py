"""`minivl triage`: answers of another program, judged as a whole. What is worked out stands in the
package `triage`."""

from __future__ import annotations

from pathlib import Path

from ..api import PRECISIONS
from ..door.errors import ArgumentError
from ..truth.triage import report
from ..truth.triage.cache import Cache
from ..truth.triage.lines import read_lines
from ..truth.triage.smallest import Smallest, smallest, write
from ..truth.triage.triage import FINER, Triage, precision_of
from ..truth.triage.triage import triage as examine
from .console import heading, line, note, print_json, table, working
from .given import Chosen, open_model

CACHE = "minivl-triage-cache.jsonl"


def triage(candidate: Path, model: str | None, precision: str | None, golden: str | None,
           cache: Path | None,
           output: Path, max_new_tokens: int | None, as_json: bool) -> int:
    """Compare, report, and give the exit code: 0 the same within rounding, 1 different. Raises
    ValueError or OSError when nothing can be compared."""
    for name, given in (("--precision", precision), ("--golden", golden)):
        if given is not None and given not in PRECISIONS:
            raise ArgumentError(f"{name} is {given}; it can be {', '.join(PRECISIONS)}")
    lines = read_lines(candidate)
    theirs = precision_of(lines, precision)
    if PRECISIONS.index(golden or FINER[theirs]) > PRECISIONS.index(theirs):
        raise ArgumentError(f"--golden is {golden}, coarser than the candidate's {theirs}: leave it out")
    kept = Cache(cache or candidate.with_name(CACHE))
    with open_model(Chosen(model, kernels="definition")) as vlm:
        with working("reading samples") as say:
            found = examine(lines, vlm, theirs, golden, kept, max_new_tokens, say)
        shown = None
        if found.different:
            with working("recording the smallest bad sample"):
                one = smallest(found.samples, found.bad)
                shown = write(one, vlm, theirs, model, found.limits, output)
    if as_json:
        print_json(report.document(found, str(candidate), shown))
    else:
        tell(found, str(candidate), shown)
    if kept.hits:
        note(f"{kept.hits} of {kept.hits + kept.misses} runs of minivl were known from {kept.path}")
    return 1 if found.different else 0


def tell(found: Triage, candidate: str, shown: Smallest | None) -> None:
    """The triage on the terminal."""
    heading(report.headline(found))
    for said in report.summary(found, candidate):
        line(said)
    heading("\n(a) is more lost than rounding loses?")
    table(report.LOST, [report.lost_row(one) for one in found.measured], right=report.LOST[1:4])
    if not found.different:
        return
    heading("\n(b) pixels, settings or arithmetic?")
    for said in report.cause_lines(found.cause):
        line(said)
    if found.cause.tried:
        table(report.TRIED, [report.tried_row(one) for one in found.cause.tried[: report.MOST_TRIED]],
              right=report.TRIED[2:6], droppable=("samples", "loss before"))
    heading("\n(c) what do the bad samples share?")
    line(report.shared_line(found))
    table(report.SHARED, [report.shared_row(one) for one in found.shared[: report.MOST_SHARED]],
          right=report.SHARED[1:])
    if shown:
        heading("\n(d) where to go on")
        for said in report.smallest_lines(shown):
            line(said)

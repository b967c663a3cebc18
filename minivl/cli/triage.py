"""`minivl triage`: answers of another program, judged as a whole. What is worked out stands in the
package `triage`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..api import PRECISIONS
from ..door.errors import ArgumentError
from ..truth.compare.numbers import kind_of
from ..truth.served import Server, ask, plan
from ..truth.served import write as write_answers
from ..truth.served.invariance import with_variations
from ..truth.triage import report
from ..truth.triage.cache import Cache
from ..truth.triage.lines import read_lines
from ..truth.triage.smallest import Smallest, smallest, write
from ..truth.triage.triage import FINER, Triage, precision_of
from ..truth.triage.triage import triage as examine
from .console import heading, line, note, print_json, table, working
from .given import Chosen, open_model

CACHE, ANSWERS = "minivl-triage-cache.jsonl", "minivl-triage-served.jsonl"
KEY = "MINIVL_SERVER_KEY"                # of the environment: what a server wants as a bearer's token


def triage_served(url: str, served_model: str | None, questions: int, pieces: Sequence[int],
                  candidate: Path | None,
                  model: str | None, precision: str | None, golden: str | None, cache: Path | None,
                  output: Path, as_json: bool) -> int:
    """Ask a server, write its answers down, and go on with them as with any others. Raises as `triage`
    does, and ServerError where the server cannot be asked."""
    path = candidate or Path(ANSWERS)
    with open_model(Chosen(model, kernels="definition")) as vlm:
        asked = plan(vlm, questions, pieces=pieces)
        with working("asking") as say:
            server = Server(url, served_model or "", os.environ.get(KEY, ""))
            rows, notes = ask(server, asked, vlm, precision, say)
    write_answers(rows, path)
    note(f"{len(rows)} answers are in {path}; `minivl triage {path}` reads them again")
    for said in notes:
        note(said)
    same = {one.name: one.same_as for one in asked if one.same_as}
    return triage(path, model, precision, golden, cache, output, None, as_json, same)


def triage(candidate: Path, model: str | None, precision: str | None, golden: str | None,
           cache: Path | None,
           output: Path, max_new_tokens: int | None, as_json: bool,
           same_as: Mapping[str, str] | None = None) -> int:
    """Compare, report, and give the exit code: 0 the same within rounding, 1 different. same_as: names
    of questions that were asked twice -> of the first time. Raises ValueError or OSError when nothing
    can be compared."""
    for name, given in (("--precision", precision), ("--golden", golden)):
        if given is not None and kind_of(given) not in PRECISIONS:
            raise ArgumentError(f"{name} is {given}; it can be {', '.join(PRECISIONS)}")
    precision, golden = (kind_of(given) if given else None for given in (precision, golden))
    if output.exists() and not output.is_dir():
        raise ArgumentError(f"-o is {output}, which is a file; name a folder for the smallest bad sample")
    lines = read_lines(candidate)
    theirs = precision_of(lines, precision)
    if PRECISIONS.index(golden or FINER[theirs]) > PRECISIONS.index(theirs):
        raise ArgumentError(f"--golden is {golden}, coarser than the candidate's {theirs}: leave it out")
    kept = Cache(cache or candidate.with_name(CACHE))
    with open_model(Chosen(model, kernels="definition")) as vlm:
        with working("reading samples") as say:
            found = examine(lines, vlm, theirs, golden, kept, max_new_tokens, say)
        if same_as:
            found = with_variations(found, same_as)
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

"""`minivl bisect`, `minivl shadow` and `minivl reduce`: what can be done with a candidate that runs.

Read next: the package `candidates`, which does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..api import VLM
from ..door.files import check_new_folder
from ..truth.candidates.bisect import CRASHED, Bisection, bisect, healer
from ..truth.candidates.engine import Engine
from ..truth.candidates.judge import golden_of
from ..truth.candidates.load import as_candidate, load_object
from ..truth.candidates.ours import Ours, check_reached
from ..truth.candidates.reduce import WORDS, Reduction, Step, reduce
from ..truth.candidates.runnable import CandidateError, Checked
from ..truth.candidates.scene import size_of
from ..truth.candidates.shadow import Shadowed, shadow, shadow_passes
from ..truth.candidates.smallest import CANDIDATE, GOLDEN, write
from ..truth.compare.local import check_checkpoint
from ..truth.compare.report import number, plain
from ..truth.trace.format import Trace
from .console import heading, line, note, print_json, table, working
from .given import Chosen, check_words, conversation, open_model, sample
from .labels import check_patterns, replaceable

MANY = 6                                 # passes of a stretch that are named


def chosen(candidate: str | None, command: str | None, fault: str | None, precision: str | None,
           exchange: str | None, vlm: VLM) -> Checked:
    """The candidate that the words name. Raises CandidateError."""
    given = [words for words in (candidate, command, fault) if words is not None]
    if len(given) != 1:
        raise CandidateError("name one candidate: --candidate FILE.py:NAME, --command 'PROGRAM WORDS' "
                             "or --fault NAME")
    if command is not None:
        return Checked(Engine(command, precision or "float32", exchange or "safetensors"), command)
    if precision is not None:
        raise CandidateError("--precision is for --command; a Python candidate says its own, in "
                             ".precision")
    if exchange is not None:
        raise CandidateError("--exchange is for --command; a Python candidate is given arrays, not files")
    if candidate is not None:
        found = as_candidate(load_object(candidate), vlm)
        if isinstance(found, Ours):
            check_patterns(found.table, replaceable(vlm.processor))
        return Checked(found, candidate)
    from ..truth.museum import get
    return Checked(Ours(vlm, get(str(fault)).table()), f"minivl with {fault}")


def reached(theirs: Checked) -> list[str]:
    """What is to be said about replaced passes that no run came to. Raises CandidateError when it came
    to none."""
    ours = theirs.candidate
    return check_reached(ours.table, ours.reached, theirs.name) if isinstance(ours, Ours) else []


# ---- bisect --------------------------------------------------------------------------------------

def run_bisect(golden: Path, candidate: str | None, command: str | None, fault: str | None,
               precision: str | None,
               exchange: str | None, model: str | None, as_json: bool) -> int:
    """Print the guilty stretches; 1 when there are any. Raises ValueError or OSError when none can be
    looked for."""
    with Trace(golden) as trace, open_model(Chosen(model, kernels="definition")) as vlm:
        check_checkpoint(vlm, trace)
        theirs = chosen(candidate, command, fault, precision, exchange, vlm)
        with working("running the candidate"):
            found = bisect(trace, theirs, healer(vlm, trace))
        found.notes += reached(theirs)
    wrong = bool(found.guilty) or not found.settled
    if as_json:
        print_json(plain({**asdict(found), "verdict": "guilty" if wrong else "clean"}))
    else:
        tell_bisection(found)
    return 1 if wrong else 0


def tell_bisection(found: Bisection) -> None:
    """The answer, then the trials that led to it."""
    heading(f"guilty stretches: {len(found.guilty)}" if found.guilty else
            "clean: no difference beyond rounding" if found.settled
            else "different, and no stretch could be named")
    line(f"{found.candidate} ({found.precision}) against {found.golden}: {found.runs} runs, "
         f"{len(found.cuts)} cuts")
    for n, one in enumerate(found.guilty, 1):
        line(f"{n}. after {one.after or 'the inputs'}, up to {one.until}")
        line(f"   one of {len(one.passes)} passes: {', '.join(one.passes[-MANY:])}"
             + " and those before" * (len(one.passes) > MANY))
        if one.skipped:
            line(f"   it could not be entered at {', '.join(one.skipped)}: more cuts that work would "
                 "say more")
    for said in found.notes:
        line(f"note: {said}")
    if found.guilty and found.settled:
        line("with these healed its logits are right")
    line()
    table(("golden up to", "healed", "logits", "x limit", "runs", "said"), [
        (t.cut or "nothing", ", ".join(t.healed) or "-", t.word,
         "-" if t.word == CRASHED else f"{t.ratio:.2g}", t.runs,
         t.note) for t in found.trials], right=("x limit", "runs"), droppable=("said",))


# ---- shadow --------------------------------------------------------------------------------------

def run_shadow(words: Sequence[str], fps: float | None, candidate: str | None, command: str | None,
               fault: str | None,
               precision: str | None, exchange: str | None, model: str | None, tolerance: float,
               as_json: bool) -> int:
    """Name every guilty stage of one run; 1 when there are any."""
    messages = messages_of(words, fps)
    with open_model(Chosen(model, kernels="definition")) as vlm:
        theirs = chosen(candidate, command, fault, precision, exchange, vlm)
        with working("running the candidate on golden values"):
            if isinstance(theirs.candidate, Ours):
                found = shadow_passes(theirs.candidate.vlm, messages, theirs.candidate.table,
                                      theirs.name, tolerance)
            else:
                with golden_of(vlm, messages, theirs.precision) as trace:
                    found = shadow(trace, theirs, vlm)
    if as_json:
        print_json(plain(asdict(found)))
    else:
        tell_shadow(found)
    return 1 if found.errors else 0


def tell_shadow(found: Shadowed) -> None:
    """The guilty stages, each with its error on golden inputs."""
    heading(f"guilty stages: {len(found.errors)}" if found.errors
            else "clean: no difference beyond rounding")
    count = len(found.compared)
    line(f"{found.candidate} ({found.precision}): {count} {'stage' if count == 1 else 'stages'} "
         "compared in one run")
    for said in found.notes:
        line(f"note: {said}")
    if found.silent:
        line(f"note: it gave nothing of its own at {', '.join(found.silent[:MANY])} "
             f"({len(found.silent)})")
    if found.errors:
        table(("guilty", "error", "said"), [(key, number(error), found.failures.get(key, ""))
                                           for key, error in found.errors.items()], right=("error",))


# ---- reduce --------------------------------------------------------------------------------------

def run_reduce(words: Sequence[str], fps: float | None, output: Path, candidate: str | None,
               command: str | None,
               fault: str | None, precision: str | None, exchange: str | None, model: str | None,
               most: int,
               as_json: bool) -> int:
    """Write the smallest prompt that still fails; 1 when there is one, 0 when the candidate does not
    fail."""
    check_new_folder(output)
    messages = messages_of(words, fps)
    with open_model(Chosen(model, kernels="definition")) as vlm:
        theirs = chosen(candidate, command, fault, precision, exchange, vlm)
        with working("trying smaller prompts") as say:
            found = reduce(vlm, theirs, messages, most,
                           (lambda step: say(step.text)) if as_json else tell_step)
        for said in [] if found else reached(theirs):
            note(said)
        files = write(found, vlm, theirs, output) if found else []
    if as_json:
        print_json(document(found, output, files))
    else:
        tell_reduction(found, output, files)
    return 1 if found else 0


def tell_step(step: Step) -> None:
    """One accepted step."""
    line(f"{step.text}: {step.size}")


def document(found: Reduction | None, output: Path, files: Sequence[str]) -> dict[str, Any]:
    """What --json says."""
    if found is None:
        return {"verdict": "clean"}
    return {"verdict": "fails", "failure": asdict(found.failure), "first": found.first._asdict(),
            "last": size_of(found.scene)._asdict(),
            "steps": [{"text": step.text, **step.size._asdict()} for step in found.steps],
            "trials": found.trials,
            "whole": found.whole, "folder": str(output), "files": list(files)}


def tell_reduction(found: Reduction | None, output: Path, files: Sequence[str]) -> None:
    """What is left, where it lies, and what to do with it."""
    if found is None:
        return heading("clean: the candidate does not fail on this prompt")
    heading(f"{WORDS[found.failure.kind]}: {found.failure.text}")
    line(f"from  {found.first}")
    line(f"to    {size_of(found.scene)}, in {len(found.steps)} steps and {found.trials} trials")
    if not found.whole:
        note("the trials ran out before no step was left: more with --most")
    line(f"written to {output}: {', '.join(files)}")
    if CANDIDATE in files:
        line(f"minivl diff {output / GOLDEN} {output / CANDIDATE}")


def messages_of(words: Sequence[str], fps: float | None = None) -> list[dict[str, Any]]:
    """Pictures, then a question, as messages; without words a sample."""
    images, question = (list(words[:-1]), words[-1]) if words else ([], "")
    if not words:
        first, question = sample()
        images = [first]
    check_words(images, question)
    return conversation(images, question, fps)

"""`minivl trace` and `minivl diff`: record a run, look into a trace, compare a candidate with it.

Read next: the package `trace`, which does the work.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..api import PRECISIONS
from ..door.errors import ArgumentError
from ..door.files import PAGES, check_place, read_json, write_whole
from ..truth.compare import report
from ..truth.compare.by_prints import compare_prints, has_prints
from ..truth.compare.coarse import WEIGHTS
from ..truth.compare.compare import Comparison, compare, computed_in, misfit
from ..truth.compare.guess import Guess, guess, table_of
from ..truth.compare.importers import Candidate, is_trace, read_arrays, read_candidate
from ..truth.compare.junit import junit
from ..truth.compare.numbers import kind_of
from ..truth.compare.page import html
from ..truth.compare.sarif import sarif
from ..truth.compare.stored import storage_of
from ..truth.compare.taps import Tap
from ..truth.compare.thresholds import Baseline, checked, news
from ..truth.compare.understood import write_understood
from ..truth.compare.unplaced import unplaced
from ..truth.compare.verdict import EPS, baseline
from ..truth.trace.format import ROW_LETTERS, YARDSTICK, Trace, TraceError
from ..truth.trace.prints import new_key, write_prints
from .console import heading, line, note, print_json, size, table, working
from .given import Chosen, check_words, conversation, open_model, sample
from .labels import check_leaves, labels

SOURCES, ATTENTION = ("minivl", "transformers"), ("sdpa", "eager")


def record(images: Sequence[str], question: str | None, output: Path, source: str, chosen: Chosen,
           precision: str | None, attention: str, patterns: Sequence[str],
           layers: str | None,
           rows: Sequence[str], pixels: bool, key: str | None, yardsticks: Sequence[str] | None,
           answer: int) -> None:
    """Write the trace of one run. Raises ArgumentError or OSError for whatever is wrong with the
    input."""
    from ..truth.trace.record import Selection, record, record_reference, with_answer
    if source not in SOURCES or attention not in ATTENTION:
        raise ArgumentError(f"--from is {' or '.join(SOURCES)}, --attention {' or '.join(ATTENTION)}")
    ours = source == "minivl"
    precision = precision or ("float64" if ours else "float32")
    which = chosen._replace(precision=precision) if ours else Chosen(chosen.model, kernels="definition")
    if yardsticks is None:
        yardsticks = PRECISIONS if ours and precision == "float64" else ()
    if yardsticks and not ours:
        raise ArgumentError("a yardstick is measured against minivl's own run: record that, with --from "
                            "minivl")
    check_place(output, reads=images)
    if not images:
        first, asked = sample()
        images, question = [first], question or asked
    check_words(images, question)
    messages: list[dict[str, Any]] = conversation(images, question or "Describe the image.")
    with open_model(which) as vlm:
        if patterns:
            check_leaves(patterns, labels(vlm.processor))
        selected = Selection(tuple(patterns) or ("*",), numbers(layers) if layers else None,
                           dict(map(row_choice, rows)), pixels, key or new_key())
        selected.check_layers(vlm.config)
        with working(f"recording {source}"):
            if answer:
                messages = with_answer(vlm, messages, answer)
            if ours:
                record(vlm, messages, output, selected, yardsticks)
            else:
                record_reference(vlm, messages, output, precision, attention, selected)
    note(f"written to {output}, {size(output.stat().st_size)}")
    if not pixels:
        say_key(selected.key)


def say_key(key: str) -> None:
    """What a key is for."""
    note(f"made with --key {key}: other fingerprints of this key can be compared with these. It is as "
         "secret as the picture")


def numbers(text: str) -> tuple[int, ...]:
    """`0,2,5-7` as numbers. Raises ArgumentError."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise ArgumentError(f"{text!r} is no list of numbers such as 0,2,5-7")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def row_choice(text: str) -> tuple[str, np.ndarray]:
    """`s=0,5-9` as an axis letter and row numbers. Raises ArgumentError."""
    letter, _, rows = text.partition("=")
    if len(letter) != 1 or letter not in ROW_LETTERS:
        raise ArgumentError(f"--rows is {text!r}; it should be LETTER=NUMBERS, as in s=0,5-9, with a "
                            f"letter of {', '.join(ROW_LETTERS)}")
    return letter, np.array(numbers(rows), np.int64)


def show(path: Path, pattern: str, as_json: bool) -> None:
    """What is in a trace: who made it, and its stages."""
    with Trace(path) as trace:
        kept = [trace.stages[key] for key in trace.recorded([pattern])]
        if as_json:
            return print_json({**trace.facts, "stages": [vars(stage) for stage in kept]})
        weights = f", weights in {trace.facts['weights']}" if "weights" in trace.facts else ""
        heading(f"{trace.facts.get('producer')}, {trace.precision}{weights}: {len(kept)} of "
                f"{len(trace.stages)} stages")
        shapes = [[trace.file.tensors[name] for name in stage.arrays] for stage in kept]
        table(("stage", "axes", "arrays"), [
            (stage.key, ", ".join(stage.axes), "  ".join(f"{w.format} {list(w.shape)}" for w in weights))
            for stage, weights in zip(kept, shapes, strict=True)], droppable=("axes",))


def diff(golden: Path, candidate: Path, names: Path | None, guessed: Path | None,
         precision: str | None, weights: str | None, key: str | None, local: bool,
         model: str | None, everything: bool, as_json: bool, page: Path | None, known: Path | None,
         write_known: Path | None, xml: Path | None = None, findings: Path | None = None) -> int:
    """Compare, report, and give the exit code: 0 the same within rounding, 1 different. Raises
    ValueError or OSError when nothing can be compared, or what is asked for cannot be written."""
    for place, endings in ((page, PAGES), (guessed, ()), (write_known, ()), (xml, ()), (findings, ())):
        if place:
            check_place(place, *endings, reads=(golden, candidate, names))
    expected = read_baseline(known) if known else {}
    with Trace(golden) as trace:
        found = by_prints(trace, candidate, key) or by_arrays(
            trace, candidate, names, guessed, precision, weights, local, model)
        if page:
            text = html(found, trace, faults=known_faults(found, trace))
            write_whole(page, lambda file: file.write(text.encode()))
        if as_json:
            print_json(report.document(found))
        else:
            tell(found, everything)
    bad = news(found.judged, expected)
    names_of_bad = {row.name for row in bad}
    if xml:
        text = junit(found, names_of_bad)
        write_whole(xml, lambda file: file.write(text.encode()))
    if findings:
        text = json.dumps(sarif(found, names_of_bad), indent=1, allow_nan=False) + "\n"
        write_whole(findings, lambda file: file.write(text.encode()))
    if write_known:
        text = json.dumps(baseline(found.judged), indent=1) + "\n"
        write_whole(write_known, lambda file: file.write(text.encode()))
    if known and not as_json:
        line(f"{len(bad)} arrays are worse than {known} says")
    return 1 if bad or any(not one.known for one in found.unplaced) else 0


def by_arrays(trace: Trace, candidate: Path, names: Path | None, guessed: Path | None,
              precision: str | None, weights: str | None, local: bool, model: str | None) -> Comparison:
    """The comparison of whole arrays."""
    if guessed:
        propose(candidate, trace, guessed)
    table_of_names = read_names(names or guessed) if names or guessed else None  # type: ignore[arg-type]
    theirs = read_candidate(candidate, trace, table_of_names, kind_named(precision),
                            weights_of(weights, trace, local))
    return compare_local(trace, theirs, model) if local else compare(trace, theirs)


def by_prints(golden: Trace, candidate: Path, key: str | None) -> Comparison | None:
    """The comparison where one of the two is fingerprints; None where neither is. Raises TraceError
    for arrays of others, which cannot be laid beside fingerprints."""
    if not is_trace(candidate):
        if has_prints(golden):
            raise TraceError(f"{candidate}: arrays of others are laid beside whole arrays, and "
                             f"{golden.path} holds fingerprints; import them where the whole golden "
                             "trace is (`minivl trace import`)")
        return None
    with Trace(candidate) as theirs:
        if not has_prints(golden) and not has_prints(theirs):
            return None
        return compare_prints(golden, theirs, key or "")


def fingerprint(path: Path, output: Path, key: str | None) -> None:
    """Write the fingerprints of a trace. Raises TraceError or OSError."""
    check_place(output, reads=(path,))
    if path.exists() and not is_trace(path):
        raise TraceError(f"{path}: is no trace; read it with `minivl trace import {path}` first")
    with Trace(path) as trace:
        if has_prints(trace):
            raise TraceError(f"{path}: holds fingerprints already")
        write_prints(trace, output, key := key or new_key())
    note(f"written to {output}, {size(output.stat().st_size)}")
    say_key(key)


def weights_of(weights: str | None, golden: Trace, local: bool) -> str:
    """The kind of the candidate's weights, where it is told. Raises ArgumentError for one that there is
    none of, TraceError where the golden trace does not know what they cost."""
    if weights is None:
        return ""
    if weights not in WEIGHTS:
        raise ArgumentError(f"--weights is {weights!r}; it can be {' or '.join(WEIGHTS)}: weights of 16 "
                            "bits and more need no word")
    if not local and not golden.tables(f"{YARDSTICK}.{weights}"):
        raise TraceError(f"{golden.path} does not know what weights in {weights} cost: record it with "
                         f"--yardstick {weights} besides the others, or ask with --local")
    return weights


def known_faults(found: Comparison, golden: Trace) -> list[dict[str, Any]]:
    """Faults of the museum that lie in the passes that may be guilty, as the page lists them."""
    from ..truth.diagnose.rank import possible
    from ..truth.museum.fault import address
    return [{"name": fault.name, "seen": fault.symptom,
             "incidents": [(incident, address(incident)) for incident in fault.incidents]}
            for fault in possible(found.suspects, golden.stages)]


def propose(candidate: Path, golden: Trace, path: Path | None) -> dict[str, Any]:
    """Guess what the candidate's names mean, write the table and show it. Raises TraceError when
    nothing is found."""
    arrays = read_arrays(candidate)
    with working("looking at fingerprints"):
        found = guess(arrays, golden)
    if not found:
        raise TraceError(f"{candidate}: none of its {len(arrays)} arrays looks like a stage of the "
                         "golden trace; were the inputs the same?")
    named = table_of(found)
    if path:
        text = json.dumps(named, indent=1) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))
    for g in found:
        note(f"{g.name} = {g.label}  ({how(g)}{', or ' + ', '.join(g.instead) if g.instead else ''})")
    where = f", written to {path}: look it through, then use --names {path}" if path else ""
    note(f"{len(found)} of {len(arrays)} names guessed{where}")
    return named


def how(g: Guess) -> str:
    """By what an array was recognised."""
    if g.distance is not None:
        return f"fingerprint {report.number(g.distance)}"
    return "by its name" if g.off is None else f"by name and shape; its rows are off by {g.off:.0%}"


def import_dump(candidate: Path, output: Path, golden: Path, names: Path | None,
                precision: str | None) -> None:
    """Write a dump as a trace under minivl's labels, and show what was understood. Raises ValueError or
    OSError when nothing is."""
    check_place(output, reads=(candidate, golden, names))
    with Trace(golden) as trace:
        known = read_names(names) if names else None
        if known is None and not is_trace(candidate):
            known = propose(candidate, trace, None)
        theirs = read_candidate(candidate, trace, known, kind_named(precision))
        if not theirs.taps:
            raise TraceError(f"{candidate}: holds no arrays of stages, only "
                             "fingerprints or tables; `minivl diff` compares fingerprints as they are")
        taps = write_understood(trace, theirs, output)
        made = computed_in(trace, theirs, taps)
        table(("stage", "rows", "came as", "stored", "computed", "done"), [
            (tap.name, tap.letter, str(list(tap.theirs.shape)), came_as(tap), made.get(tap.name, ""),
             "; ".join(tap.found.notes) if tap.found else misfit(tap)) for tap in taps])
    for name in theirs.loose:
        note(f"{name} has no label; it is kept, and `minivl diff` says what it may be")
    note(f"written to {output}, {size(output.stat().st_size)}: `minivl diff {golden} {output}`")


def came_as(tap: Tap) -> str:
    """The type in which an array is stored; "" where it fits in no way."""
    if tap.found is None:
        return ""
    return storage_of(tap) if tap.found.array.dtype.kind in "fV" else tap.found.array.dtype.name


def compare_local(golden: Trace, candidate: Candidate, model: str | None) -> Comparison:
    """Every stage by itself, against a golden trace made for this candidate, which is thrown away."""
    from ..truth.compare.local import local_golden
    with open_model(Chosen(model, kernels="definition")) as vlm, \
            working("running each stage on the candidate's values"), \
            local_golden(vlm, golden, candidate) as made:
        found = compare(made, candidate)
        return replace(found, golden=f"{golden.path}, stage by stage",
                       unplaced=unplaced(golden, candidate, found.words))


def read_names(path: Path) -> dict[str, Any]:
    """A table of names: their name -> label or entry. Raises TraceError."""
    found = read_json(path, TraceError, "name a table, as `minivl diff --guess FILE.json` writes one")
    if not all(e is None or isinstance(e, str) or (isinstance(e, dict) and "label" in e)
               for e in found.values()):
        raise TraceError(f"{path}: should map their names to labels, to objects with a label, or to "
                         "null for an array that is left out")
    return found


def kind_named(precision: str | None) -> str | None:
    """A candidate's precision by the name that minivl has for it: bf16 is bfloat16. Raises
    ArgumentError."""
    kind = kind_of(precision) if precision else None
    if precision and kind not in EPS:
        raise ArgumentError(f"--precision must be {', '.join(EPS)}, or a short name such as bf16; got "
                            f"{precision!r}")
    return kind


def read_baseline(path: Path) -> Baseline:
    """What is known to differ: name or pattern -> word or thresholds. Raises TraceError."""
    return checked(read_json(path, TraceError, "--write-baseline makes one"), str(path))


def tell(found: Comparison, everything: bool) -> None:
    """The comparison on the terminal."""
    heading(report.title(found))
    for said in report.headline(found) + report.logits_line(found):
        line(said)
    line()
    table(report.COLUMNS, [report.cells(row) for row in report.shown(found, everything)],
          right=report.COLUMNS[2:], droppable=("PCC", "cosine", "worst row"))
    note(report.COLUMNS_SAY)
    if report.notice(found):
        note(report.notice(found))

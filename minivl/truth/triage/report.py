"""A triage for a terminal and for a program. Plain data in, words out; nothing is measured or judged
here."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from ..compare.report import plain
from .cause import Cause
from .loss import UNITS, Measured, Tried
from .properties import SURE, Shared
from .smallest import THEIRS, Smallest
from .statistics import LEVEL
from .triage import Triage

MOST_TRIED, MOST_SHARED = 6, 8
LOST = ("measure", "samples", "candidate", "rounding", f"difference, {LEVEL:.0%} interval",
        "more than rounding")
TRIED = ("if it were so", "kind", "samples", "loss before", "after", "explained", "holds")
SHARED = ("property", "bad with it", "bad without it", "p, corrected", "p beyond the first")


def headline(found: Triage) -> str:
    """The verdict in a few words."""
    if not found.different:
        return "the same within rounding"
    return f"different: {found.cause.kind}" + (f" ({found.cause.name})" if found.cause.name else "")


def summary(found: Triage, candidate: str) -> list[str]:
    """What was compared, and whether something was lost."""
    lines = [f"{candidate}: {len(found.samples)} samples in {found.precision}, against minivl in "
             f"{found.golden}",
             f"{int(found.bad.sum())} samples are bad: further from the golden run than rounding takes "
             "any sample"]
    if found.different and not found.lost:
        lines.append("nothing is lost beyond rounding, but its inputs are not ours")
    return lines + [f"note: {said}" for said in found.notes]


def lost_row(one: Measured) -> tuple[str, ...]:
    """One measure as a row under LOST."""
    low, high = (number(value) for value in (one.interval.low, one.interval.high))
    return (f"{one.name} ({UNITS[one.name]})", str(one.samples), number(one.candidate),
            number(one.rounding),
            f"{number(one.interval.mean)}  ({low} to {high})", "yes" if one.lost else "no")


def cause_lines(cause: Cause) -> list[str]:
    """Why it is this and nothing else."""
    if cause.kind is None:
        return []
    return [f"{cause.kind}: {cause.because}", *(f"seen: {one.words}" for one in cause.evidence
                                              if one.words != cause.because),
            *(f"note: {n}" for n in cause.notes)]


def tried_row(one: Tried) -> tuple[str, ...]:
    """One hypothesis as a row under TRIED."""
    return (one.name, one.kind, str(one.samples), number(one.before), number(one.after),
            f"{one.explained:.0%}", "yes" if one.holds else f"no: {one.against}" if one.against
            else "no")


def shared_line(found: Triage) -> str:
    """What the bad samples share, in a sentence."""
    if not found.bad.any():
        return "no sample is bad by itself"
    if found.bad.all():
        return "every sample is bad: no property tells them apart"
    if not found.named:
        return f"the bad samples share no property of the list (no corrected p below {SURE})"
    return "the bad samples share: " + ", and beside it ".join(found.named)


def shared_row(one: Shared) -> tuple[str, ...]:
    """One property as a row under SHARED."""
    return (one.name, f"{one.bad_with} of {one.all_with}", f"{one.bad_without} of {one.all_without}",
            number(one.p), "-" if math.isnan(one.beyond) else number(one.beyond))


def smallest_lines(one: Smallest) -> list[str]:
    """The smallest bad sample, and how to go on with it."""
    prompt = "its prompt" + " and the golden answer as the assistant's turn" * one.with_answer
    return [f"smallest bad sample: {one.name} ({one.size} patches and tokens), written to {one.folder}",
            f"record your program's run of {prompt} as {one.folder}/{THEIRS} "
            "(docs/reference/trace-format.md), then",
            *(f"  {command}" for command in one.commands)]


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def document(found: Triage, candidate: str, shown: Smallest | None) -> dict[str, Any]:
    """What `--json` prints. Numbers that are not there are null."""
    return plain({
        "candidate": candidate, "verdict": found.cause.kind or "same", "precision": found.precision,
        "golden": found.golden, "samples": len(found.samples), "lost": found.lost,
        "notes": found.notes,
        "bad": [one.line.name for one, wrong in zip(found.samples, found.bad, strict=True) if wrong],
        "limits": found.limits, "measured": [{**asdict(one), "interval": one.interval._asdict()}
                                             for one in found.measured],
        "cause": {"kind": found.cause.kind, "name": found.cause.name, "because": found.cause.because,
                  "evidence": [{**asdict(one), "samples": [found.samples[n].line.name
                                                           for n in one.samples]}
                               for one in found.cause.evidence],
                  "tried": [{**asdict(one), "holds": one.holds} for one in found.cause.tried],
                  "notes": found.cause.notes},
        "shared": {"named": found.named, "table": [asdict(one) for one in found.shared]},
        "answers": {one.line.name: one.answer for one in found.samples},
        "losses": {one.line.name: {name: pair for name, pair in one.losses.items()
                                   if not math.isnan(pair[0])}
                   for one in found.samples},
        "smallest": asdict(shown) if shown else None})

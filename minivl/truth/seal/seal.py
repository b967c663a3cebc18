"""A report that can be checked: each section has a hash, and everything in it can be made again.

    report = made(vlm)                              # compares, and seals
    findings = verify(report, vlm)                  # what does not fit, and why

A seal is no signature: whoever changes a section can seal it anew. So verifying does both: it checks
the seals, and it makes everything again, and compares whole entries. What is found falls into four
kinds.

    tampered   a section does not fit its seal; or a figure is another although no part is, so that
               nothing but a hand can have changed it
    drifted    a part is another than it was: a file of the checkpoint, of minivl, a version, the machine
    changed    a verdict, a figure or anything else of a run that came out otherwise
    missing    a comparison of `run.py` that the report does not hold

On another machine, or with another version of anything, sums are formed in another order: figures then
may differ by a factor of `NEAR`, verdicts may not. Read next: `run.py` (the comparisons), `page.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...api import VLM
from ...door.errors import Error, brief
from . import parts
from .run import PROMPTS, WAYS, RunName, compared, runs

NAME, VERSION = "minivl-parity", 1
SECTIONS = ("versions", "checkpoint", "package", "runs")
WHOLE = {"format", "version", "seals", *SECTIONS}
NEAR = 2.0
SAME = 1e-3                       # of figures on the same machine with the same parts: they were rounded
VERIFIED, TAMPERED, DRIFTED, INCOMPLETE = "verified", "tampered", "drifted", "incomplete"
KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "text or null": lambda value: isinstance(value, str | None),
    "number or null": lambda value: (
        value is None or (type(value) in (int, float) and -1e300 < value < 1e300))}
EACH = "*"                               # in a shape: whatever names there are
TEXTS = {EACH: "text"}
STAGE = {"name": "text", "verdict": "text", "error": "number or null", "rounding": "number or null",
         "ratio": "number or null"}
RUN = {"prompt": "text", "precision": "text", "attention": "text", "producer": "text", "verdict": "text",
       "first_bad": "text or null", "stages": [STAGE], "logits": {EACH: "number or null"},
       "inputs": TEXTS,
       "outputs": TEXTS}
REPORT = {"versions": TEXTS, "checkpoint": TEXTS, "package": TEXTS, "seals": TEXTS, "runs": [RUN]}


class ParityError(Error):
    """A file is no report, or one that this version cannot check; the message says what to do."""


@dataclass
class Findings:
    """What verifying found, in words; all empty when the report holds."""
    tampered: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The gravest kind: tampering before drift, drift before what is missing."""
        return (TAMPERED if self.tampered else DRIFTED if self.drifted or self.changed else
                INCOMPLETE if self.missing else VERIFIED)


def made(vlm: VLM, chosen: list[RunName] | None = None, say: Callable[[str], None] = lambda words: None
         ) -> dict[str, Any]:
    """The sealed report of a checkpoint. Raises ModuleNotFoundError without torch and transformers."""
    report: dict[str, Any] = {"format": NAME, "version": VERSION, "versions": parts.versions(),
                              "checkpoint": parts.checkpoint_parts(vlm.folder),
                              "package": parts.package_parts(),
                              "runs": list(compared(vlm, chosen or list(runs()), say))}
    return report | {"seals": {name: seal_of(report[name]) for name in SECTIONS}}


def seal_of(section: Any) -> str:
    """SHA-256 of a section's canonical JSON."""
    return hashlib.sha256(json.dumps(section, sort_keys=True, separators=(",", ":"),
                                     allow_nan=False).encode()
                          ).hexdigest()


def read(path: Path) -> dict[str, Any]:
    """A report from its file. Raises ParityError for what is none."""
    if not path.is_file():
        raise ParityError(f"{path}: there is no such file")
    try:
        # of a large model it has more than a config may
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ParityError(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(report, dict) or (report.get("format"), report.get("version")) != (NAME, VERSION):
        raise ParityError(f"{path}: is no report of this version; give the .json that `minivl parity` "
                          "wrote")
    wrong = next(flaws(report, REPORT), None)
    if wrong:
        raise ParityError(f"{path}: {wrong}; make the report anew")
    return report


def flaws(value: Any, shape: Any, inside: str = "", name: str = "") -> Iterator[str]:
    """Where a value is not of a shape, the outermost first, so that all else can rely on it."""
    path = ".".join(word for word in (inside, name) if word)
    kind = shape if isinstance(shape, str) else "list" if isinstance(shape, list) else "object"
    if not (KINDS[shape](value) if isinstance(shape, str) else isinstance(value, type(shape))):
        found = f"{inside}: {name}" if inside else name or "the report"
        yield f"{found} is {brief(value)}, should be {'an' if kind == 'object' else 'a'} {kind}"
    elif isinstance(shape, list):
        for n, one in enumerate(value):
            yield from flaws(one, shape[0], inside, f"{name}[{n}]")
    elif isinstance(shape, dict):
        for key in value if EACH in shape else shape:
            if key in value:
                yield from flaws(value[key], shape.get(key, shape.get(EACH)), path, key)
            else:
                yield f"{path or 'the report'} has no {key}"


def verify(report: Mapping[str, Any], vlm: VLM, say: Callable[[str], None] = lambda words: None
           ) -> Findings:
    """Check the seals, and make everything again. Raises ParityError when the report names what there
    is not."""
    found = Findings()
    found.tampered += [f"section {name!r} was changed after it was sealed" for name in SECTIONS
                       if seal_of(report[name]) != report["seals"].get(name)]
    more = (report.keys() - WHOLE) | (report["seals"].keys() - {*SECTIONS})
    found.tampered += [f"{name!r} is no part of a report" for name in sorted(more)]
    found.missing += [str(run) for run in runs() if run not in runs_of(report)]
    now = made(vlm, runs_of(report), say)
    for section in ("versions", "checkpoint", "package"):
        found.drifted += different(section, report[section], now[section])
    same_parts = not found.drifted
    made_again = {run_of(entry): entry for entry in now["runs"]}
    for was in report["runs"]:
        again = made_again[run_of(was)]
        found.drifted += [f"{run_of(was)}: other inputs: {name}" for name in sorted(was["inputs"].keys()
                          | again["inputs"].keys())
                          if was["inputs"].get(name) != again["inputs"].get(name)]
        found.changed += changes(str(run_of(was)), was, again, SAME if same_parts else NEAR)
    if found.changed and not found.drifted and not found.tampered:
        found.tampered.append("every part is the same and yet runs differ: the report was changed and "
                              "sealed anew, or a run does not repeat itself on this machine")
    return found


def runs_of(report: Mapping[str, Any]) -> list[RunName]:
    """The comparisons that a report holds. Raises ParityError for one that this minivl does not know,
    or twice."""
    found = [run_of(entry) for entry in report["runs"]]
    strange = [run for run in found if run.prompt not in PROMPTS
               or (run.precision, run.attention) not in WAYS]
    if strange or not found:
        raise ParityError(f"the report holds {strange[0] if strange else 'no run'}; this minivl makes "
                          "other ones")
    if twice := next((run for run in found if found.count(run) > 1), None):
        raise ParityError(f"the report holds {twice} twice; make it anew")
    return found


def run_of(entry: Mapping[str, Any]) -> RunName:
    """Which comparison an entry is of."""
    return RunName(entry["prompt"], entry["precision"], entry["attention"])


def different(section: str, was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Parts that are new, gone or changed."""
    return [f"{section}: {name} was {short(was.get(name))}, is {short(now.get(name))}"
            for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]


def short(value: str | None) -> str:
    """A hash by its first digits; nothing as such."""
    return "not there" if value is None else value[:12] if len(value) == 64 else value


def changes(where: str, was: Mapping[str, Any], now: Mapping[str, Any], near: float) -> list[str]:
    """All that differs between two entries of one run: figures further apart than `near`, anything
    else at all.

    Inputs are parts (`verify`). With other parts (`near` is not SAME) two things may be others: the
    bits of what transformers gave, and its name and version.
    """
    aside = {"inputs", "stages"} | (set() if near == SAME else {"outputs", "producer"})
    old, new = ({name: value for name, value in entry.items() if name not in aside}
                for entry in (was, now))
    found = [*unlike(where, old, new, near)]
    if near != SAME:
        found += unlike(f"{where}: outputs", dict.fromkeys(was["outputs"]),
                        dict.fromkeys(now["outputs"]), near)
    before, after = ({row["name"]: row for row in entry["stages"]} for entry in (was, now))
    found += unlike(where, before, after, near)
    orders = [[row["name"] for row in entry["stages"]] for entry in (was, now)]
    if before.keys() == after.keys() and orders[0] != orders[1]:
        found.append(f"{where}: the stages come in another order, or one comes twice")
    return found


def unlike(where: str, was: Any, now: Any, near: float) -> Iterator[str]:
    """Where two values differ, at any depth; numbers may as much as `near` says."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted(was.keys() | now.keys()):
            if name not in was or name not in now:
                yield f"{where}: {name} {'is not there any more' if name in was else 'was not there'}"
            else:
                yield from unlike(f"{where}: {name}", was[name], now[name], near)
    elif not (alike(was, now, near) if {type(was), type(now)} <= {int, float} else was == now):
        yield f"{where} was {told(was)}, is {told(now)}"


def told(value: Any) -> str:
    """A value within a finding."""
    if isinstance(value, str):
        return short(value)
    return "nothing" if value is None else brief(value)


def alike(was: float | None, now: float | None, near: float) -> bool:
    """Whether two figures are the same number within `near`: a share of it, or from 1 on a factor."""
    if was is None or now is None or was == now:
        return was == now
    if near < 1:
        return abs(was - now) <= near * max(abs(was), abs(now))
    low, high = sorted((abs(was), abs(now)))
    return high <= near * low

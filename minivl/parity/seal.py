"""A report that can be checked: each section has a hash, and everything in it can be made again.

    report = made(vlm)                              # compares, and seals
    findings = verify(report, vlm)                  # what does not fit, and why

A seal is no signature: whoever changes a section can seal it anew. So verifying does both: it checks the seals, and it
makes everything again. What is found falls into three kinds.

    tampered       a section does not fit its seal; or a figure is another although no part is, so that nothing but a
                   hand can have changed it
    drifted        a part is another than it was: a file of the checkpoint, of minivl, a version, the machine
    changed        a verdict or a figure that came out otherwise

On another machine, or with another version of anything, sums are formed in another order: figures then may differ by a
factor of `NEAR`, verdicts may not. Read next: `run.py` (the comparisons), `page.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..api import VLM
from . import parts
from .run import PROMPTS, WAYS, Run, compared, runs

NAME, VERSION = "minivl-parity", 1
RUN = {"prompt", "precision", "attention", "stages", "inputs", "outputs"}
STAGE = {"name", "verdict", "error", "rounding", "ratio"}
SECTIONS = ("versions", "checkpoint", "package", "runs")
NEAR = 2.0
SAME = 1e-3                              # of figures on the same machine with the same parts: they were rounded
VERIFIED, TAMPERED, DRIFTED = "verified", "tampered", "drifted"


class ParityError(ValueError):
    """A file is no report, or one that this version cannot check; the message says what to do."""


@dataclass
class Findings:
    """What verifying found, in words; all empty when the report holds."""
    tampered: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The gravest kind: tampering before drift."""
        return TAMPERED if self.tampered else DRIFTED if self.drifted or self.changed else VERIFIED


def made(vlm: VLM, chosen: list[Run] | None = None, say: Callable[[str], None] = lambda words: None) -> dict[str, Any]:
    """The sealed report of a checkpoint. Raises ModuleNotFoundError without torch and transformers."""
    report: dict[str, Any] = {"format": NAME, "version": VERSION, "versions": parts.versions(),
                              "checkpoint": parts.checkpoint_parts(vlm.folder), "package": parts.package_parts(),
                              "runs": list(compared(vlm, chosen or list(runs()), say))}
    return report | {"seals": {name: seal_of(report[name]) for name in SECTIONS}}


def seal_of(section: Any) -> str:
    """SHA-256 of a section's canonical JSON."""
    return hashlib.sha256(json.dumps(section, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
                          ).hexdigest()


def read(path: Path) -> dict[str, Any]:
    """A report from its file. Raises ParityError for what is none."""
    if not path.is_file():
        raise ParityError(f"{path}: there is no such file")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))     # of a large model it has more than a config may
    except ValueError as problem:
        raise ParityError(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(report, dict) or (report.get("format"), report.get("version")) != (NAME, VERSION):
        raise ParityError(f"{path}: is no report of this version; give the .json that `minivl parity` wrote")
    kinds = {name: list if name == "runs" else dict for name in (*SECTIONS, "seals")}
    lacking = [name for name, kind in kinds.items() if not isinstance(report.get(name), kind)]
    if not lacking and not all(map(is_run, report["runs"])):
        lacking = ["whole entry for each run"]
    if lacking:
        raise ParityError(f"{path}: has no {', '.join(lacking)}; make the report anew")
    return report


def is_run(entry: Any) -> bool:
    """Whether an entry of `runs` has everything that is compared."""
    return (isinstance(entry, dict) and entry.keys() >= RUN and isinstance(entry["stages"], list)
            and all(isinstance(row, dict) and row.keys() >= STAGE for row in entry["stages"])
            and all(isinstance(entry[name], dict) for name in ("inputs", "outputs")))


def verify(report: Mapping[str, Any], vlm: VLM, say: Callable[[str], None] = lambda words: None) -> Findings:
    """Check the seals, and make everything again. Raises ParityError when the report names what there is not."""
    found = Findings()
    found.tampered += [f"section {name!r} was changed after it was sealed" for name in SECTIONS
                       if seal_of(report[name]) != report["seals"].get(name)]
    now = made(vlm, runs_of(report), say)
    for section in ("versions", "checkpoint", "package"):
        found.drifted += different(section, report[section], now[section])
    same_parts = not found.drifted
    for was, again in zip(report["runs"], now["runs"], strict=True):
        where = f"{was['prompt']}, {was['precision']} {was['attention']}"
        found.drifted += [f"{where}: other inputs: {name}" for name in again["inputs"]
                          if was["inputs"].get(name) != again["inputs"][name]]
        found.changed += changes(where, was, again, SAME if same_parts else NEAR)
    if found.changed and not found.drifted and not found.tampered:
        found.tampered.append("every part is the same and yet figures differ: the report was changed and sealed anew, "
                              "or a run does not repeat itself on this machine")
    return found


def runs_of(report: Mapping[str, Any]) -> list[Run]:
    """The comparisons that a report holds. Raises ParityError for one that this minivl does not know."""
    found = [Run(run["prompt"], run["precision"], run["attention"]) for run in report["runs"]]
    strange = [run for run in found if run.prompt not in PROMPTS or (run.precision, run.attention) not in WAYS]
    if strange or not found:
        raise ParityError(f"the report holds {strange[0] if strange else 'no run'}; this minivl makes other ones")
    return found


def different(section: str, was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Parts that are new, gone or changed."""
    return [f"{section}: {name} was {short(was.get(name))}, is {short(now.get(name))}"
            for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]


def short(value: str | None) -> str:
    """A hash by its first digits; nothing as such."""
    return "not there" if value is None else value[:12] if len(value) == 64 else value


def changes(where: str, was: Mapping[str, Any], now: Mapping[str, Any], near: float) -> list[str]:
    """Verdicts that are others, figures further apart than `near`, transformers' bits where they must be the same."""
    before = {row["name"]: row for row in was["stages"]}
    found = [f"{where}: {row['name']} was {old['verdict'] if old else 'not there'}, is {row['verdict']}"
             for row in now["stages"] for old in (before.get(row["name"]),)
             if old is None or old["verdict"] != row["verdict"]]
    gone = before.keys() - {row["name"] for row in now["stages"]}
    found += [f"{where}: {name} is not there any more" for name in sorted(gone)]
    found += [f"{where}: {row['name']}: {word} was {old[word]}, is {row[word]}"
              for row in now["stages"] if (old := before.get(row["name"])) for word in ("error", "rounding", "ratio")
              if not alike(old[word], row[word], near)]
    if near == SAME:
        found += [f"{where}: transformers' own {name} has other bits" for name, digest in now["outputs"].items()
                  if was["outputs"].get(name) != digest]
    return found


def alike(was: float | None, now: float | None, near: float) -> bool:
    """Whether two figures are the same number within `near`: a share of it, or from 1 on a factor."""
    if was is None or now is None or was == now:
        return was == now
    if near < 1:
        return abs(was - now) <= near * max(abs(was), abs(now))
    low, high = sorted((abs(was), abs(now)))
    return high <= near * low

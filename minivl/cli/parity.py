"""`minivl parity`: the sealed report of a checkpoint against transformers, and its verification.

Read next: the package `parity`, which does the work.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..door.files import check_place, write_whole
from ..truth.seal.page import html
from ..truth.seal.run import WAYS
from ..truth.seal.seal import VERIFIED, Findings, ParityError, made, read, verify
from .console import heading, line, note, print_json, table, working
from .given import Chosen, open_model

MANY = 12                                # findings of one kind that are told


def run_parity(model: str | None, output: Path, report: Path | None, as_json: bool) -> int:
    """Write the report and its page, or verify one; 0 when all is well, 1 when something differs."""
    need_the_reference()
    was = None if report is None else read(report)
    beside = output.with_suffix(".json")
    if was is None:
        check_output(output, beside)
    with open_model(Chosen(model, kernels="definition")) as vlm:
        if was is not None and report is not None:
            with working("making everything again") as say:
                found = verify(was, vlm, say)
            return tell_findings(found, report, as_json)
        with working("comparing") as say:
            document = made(vlm, say=say)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_whole(beside, lambda file: file.write(text.encode()))
    write_whole(output, lambda file: file.write(html(document).encode()))
    return tell(document, output, beside, as_json)


def need_the_reference() -> None:
    """Raise ParityError unless torch and transformers are there."""
    lacking = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if lacking:
        raise ParityError(f"minivl is compared with transformers, which needs {' and '.join(lacking)}: "
                          "pip install 'minivl[oracle]'")


def check_output(output: Path, beside: Path) -> None:
    """Raise, before minutes of work, for a page that is none or that cannot be written."""
    if output.suffix != ".html":
        raise ParityError(f"-o is {output}; name a page, as in report.html: the .json is written "
                          "beside it")
    check_place(output)
    check_place(beside)


def tell(document: dict[str, Any], output: Path, beside: Path, as_json: bool) -> int:
    """A table of verdicts; the exit code."""
    runs = document["runs"]
    bad = [run for run in runs if run["first_bad"]]
    if as_json:
        print_json(document)
    else:
        heading("different" if bad else "the same within rounding")
        words = {(run["prompt"], run["precision"], run["attention"]): run["verdict"] for run in runs}
        prompts = dict.fromkeys(prompt for prompt, _, _ in words)
        table(("prompt", *(" ".join(way) for way in WAYS)),
              [(prompt, *(words.get((prompt, *way), "") for way in WAYS)) for prompt in prompts])
        for run in bad:
            line(f"{run['prompt']}, {run['precision']} {run['attention']}: first bad stage "
                 f"{run['first_bad']}")
    note(f"written to {output} and {beside}")
    return 1 if bad else 0


def tell_findings(found: Findings, report: Path, as_json: bool) -> int:
    """What verifying found; the exit code."""
    if as_json:
        print_json({"verdict": found.verdict, **vars(found)})
    else:
        heading(f"{report}: {found.verdict}")
        for words, rows in (("tampered", found.tampered), ("drifted", found.drifted),
                            ("changed", found.changed),
                            ("missing", found.missing)):
            for row in rows[:MANY]:
                line(f"{words}: {row}")
            if len(rows) > MANY:
                line(f"{words}: and {len(rows) - MANY} more (--json has all)")
    return 0 if found.verdict == VERIFIED else 1

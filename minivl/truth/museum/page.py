"""The museum as a page: `minivl faults --score --markdown` writes docs/made/bug-museum.md.

Read next: `score.py`, whose table it prints.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

from .checks import CHECKS
from .fault import FAULTS, Fault, address
from .score import Score

TITLE = """\
# The bug museum

Each exhibit is a wrong pass or kernel under the right label, learnt from a public incident: a
program that ran this model, or one of its family, and was wrong without an error. What is shown is
our form of the mistake, not the code of that program. `minivl faults NAME` shows an exhibit beside
the right pass, `minivl run PICTURE QUESTION --fault NAME` runs it, `minivl faults NAME --shadow`
runs it beside the model and names the passes that differ.

Do not edit this page: `minivl faults --score --markdown > docs/made/bug-museum.md` writes it.
"""
LETTERS = string.ascii_lowercase + string.ascii_uppercase
NOT_HERE = """\
## Not in the museum

Reports that name no cause: QwenLM/Qwen3-VL#1835, ggml-org/llama.cpp#16334 and #17131,
Blaizzy/mlx-vlm#1737. Answers that depend on the shape of a batch in bfloat16
(vllm-project/vllm#9567, huggingface/transformers#26869, unslothai/unsloth#9708) are rounding, not a
fault.
"""


def letters() -> dict[str, str]:
    """Check -> the letter that stands for it in a table; ordinary checks come first."""
    return dict(zip(CHECKS, LETTERS, strict=False))


def legend() -> list[tuple[str, str, str]]:
    """(letter, check, what it says) of every check."""
    return [(letter, name, CHECKS[name].words) for name, letter in letters().items()]


def totals(score: Score) -> list[str]:
    """What each ordinary check finds, and what the laws find, one line each."""
    laws = sum(any(CHECKS[name].law for name in found) for found in score.values())
    counts = [(check.words, sum(name in found for found in score.values()))
              for name, check in CHECKS.items() if not check.law]
    return [f"{words}: {count} of {len(score)} faults found" for words, count in counts] + \
           [f"The laws: {laws} of {len(score)} faults found"]


def rows(score: Score) -> list[list[str]]:
    """The table: a fault, then for each check its letter where it finds the fault."""
    return [[name, *(letter if check in found else "" for check, letter in letters().items())]
            for name, found in score.items()]


def markdown(score: Score) -> str:
    """The whole page."""
    heads = ["fault", *letters().values()]
    table = [heads, ["---"] * len(heads), *rows(score)]
    exhibits = [line for fault in FAULTS.values() for line in _exhibit(fault)]
    return "\n".join([TITLE, "## Which check finds which fault\n",
                      *(f"- {line}" for line in totals(score)), "",
                      *("| " + " | ".join(row) + " |" for row in table), "",
                      *_legend(score), "", *exhibits, NOT_HERE])


def _legend(score: Score) -> Iterator[str]:
    yield from ("| | check | | finds |", "|---|---|---|---|")
    for letter, name, words in legend():
        yield f"| {letter} | {name} | {words} | {sum(name in found for found in score.values())} |"


def _exhibit(fault: Fault) -> Iterator[str]:
    facts: Mapping[str, str] = {
        "Where": f"`{fault.label}`",
        "Incidents": f"{', '.join(map(_link, fault.incidents))}; {fault.year}",
        "Seen": fault.symptom, "Shows on": fault.shows.name, "Ordinary check": fault.visible}
    yield from (f"## {fault.name}\n", " ".join(fault.story.split()), "")
    yield from (f"- {name}: {value}" for name, value in facts.items())
    yield ""


def _link(incident: str) -> str:
    return f"[{incident}]({address(incident)})"

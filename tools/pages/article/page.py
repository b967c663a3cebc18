"""The page: a summary of all claims, then each claim with its verdict, reasons, figures and command."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping

from .finding import CLAIMS, VERDICTS, Claim, Finding

HEAD = """# An article, claim by claim

Much of what is written about a model like Qwen2.5-VL is right, some of it is right with a condition, and
some has been copied from one article to the next. This page takes one widely read article, "Qwen2.5-VL:
AI at the Intersection of Vision & Language", and holds {count} of its claims against the model itself:
the passes of minivl, which are proven equal to the reference, and the official configurations.

- **true**: a run shows it.
- **loose**: right in the main, but taken literally it misleads; the text says where.
- **wrong**: a run, or the definition of the thing, says otherwise.
- **not testable here**: about training, or about how good the official weights are. The text says what
  the claim rests on and what would test it. It is no verdict against the claim.

Claims are in our words. Nothing here is measured in seconds: costs are floating-point operations (FLOP),
so that the page is the same on every computer. `python -m tools.pages.article` runs all checks and writes this
page anew; `python -m tools.pages.article 5` runs one and prints its evidence. What the small embedded model
answers is printed by the command and never stands on this page, because it says little about the official
weights.

## Summary

"""


def page(findings: Mapping[int, Finding]) -> str:
    """The whole page as Markdown, for the claims in `findings`."""
    counts = Counter(finding.verdict for finding in findings.values())
    totals = [(verdict, str(counts[verdict])) for verdict in VERDICTS]
    rows = [_row(CLAIMS[n], findings[n]) for n in sorted(findings)]
    lines = [HEAD.format(count=len(findings)), *table([("verdict", "claims"), *totals]), "",
             *table([("claim", "", "verdict"), *rows]), ""]
    for n in sorted(findings):
        lines += section(CLAIMS[n], findings[n])
    return "\n".join(lines).rstrip() + "\n"


def _row(claim: Claim, finding: Finding) -> tuple[str, ...]:
    return f"[{claim.number}](#claim-{claim.number})", claim.text, finding.verdict


def table(rows: list[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> list[str]:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def section(claim: Claim, finding: Finding) -> list[str]:
    """One claim on the page."""
    reasons = textwrap.wrap(f"**{sentence(finding.verdict)}** {claim.why}", 118, break_on_hyphens=False)
    lines = [f"## Claim {claim.number}", "", f"> {claim.text}", "", *reasons, ""]
    lines += [f"- {figure}" for figure in finding.figures]
    if finding.table:
        lines += ["", *table(finding.table)]
    return [*lines, "", f"Shown by `python -m tools.pages.article {claim.number}`.", ""]


def evidence(claim: Claim, finding: Finding) -> str:
    """One claim on the terminal, with what the embedded model answers."""
    lines = [f"{claim.number}. {claim.text}", f"   {finding.verdict}", "",
             *(f"   {line}" for line in finding.figures)]
    if finding.table:
        widths = [max(map(len, column)) for column in zip(*finding.table, strict=True)]
        lines += ["", *("   " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in finding.table)]
    if finding.live:
        lines += ["", *(f"   {line}" for line in finding.live())]
    return "\n".join([*lines, "", textwrap.indent(textwrap.fill(claim.why, 97), "   ")])


def sentence(words: str) -> str:
    """`wrong` as `Wrong.`"""
    return f"{words[0].upper()}{words[1:]}."

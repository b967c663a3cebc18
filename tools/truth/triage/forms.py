"""The six forms in which the same answers come, and what can be told from each.

    for form in FORMS: path = form.write(whole, healthy, folder)

With declared settings and without; as texts alone, with the ids of their tokens, with log-probabilities. A fault that
changes nothing of what a form holds cannot be seen in it: there the truth is "the same". Texts of a model that writes
bytes are no evidence, and the truth is "refused". Read next: `__main__.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED, SAME = "refused", "same"
TEXT, IDS, LOGPROBS = EVIDENCE = ("text", "ids", "log-probabilities")
LEFT_OUT = {TEXT: ("ids", "logprobs", "prompt_ids", "grid"), IDS: ("logprobs",), LOGPROBS: ()}
Row = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """declared: whether each line says its settings; without, the length is told on the command line."""
    evidence: str
    declared: bool

    @property
    def name(self) -> str:
        return f"{self.evidence}, {'declared' if self.declared else 'undeclared'}"

    def of(self, row: Row) -> Row:
        """A whole line in this form."""
        kept = {name: value for name, value in row.items() if name not in LEFT_OUT[self.evidence]}
        if not self.declared:
            kept["settings"] = {"precision": row["settings"]["precision"]}
        return kept

    def write(self, rows: Sequence[Row], path: Path) -> None:
        """All lines in this form."""
        path.write_text("".join(json.dumps(self.of(row)) + "\n" for row in rows), encoding="utf-8")

    def truth(self, kind: str | None, rows: Sequence[Row], healthy: Sequence[Row]) -> str:
        """What is to be said: the kind, "same" where nothing of the form differs from a healthy run's, "refused" where
        the texts do not say which tokens were written."""
        if self.evidence == TEXT and all("\ufffd" in row["text"] for row in rows):
            return REFUSED
        names = [name for name in ("text", "ids", "logprobs", "prompt_ids", "grid")
                 if name not in LEFT_OUT[self.evidence]]
        seen = any(row.get(name, other.get(name)) != other.get(name, row.get(name))
                   for row, other in zip(rows, healthy, strict=True) for name in names)
        return (kind or SAME) if seen else SAME


FORMS = tuple(Form(evidence, declared) for evidence in EVIDENCE for declared in (True, False))


def read_rows(path: Path) -> list[Row]:
    """The lines of a candidate's file."""
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]

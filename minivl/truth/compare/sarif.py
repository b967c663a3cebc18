"""A comparison as code hosts read findings: SARIF 2.1.0, one result for each array that is worse than
the baseline allows.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0. Read next: `junit.py`.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from ...door.version import VERSION
from .compare import Comparison
from .report import number, plain, times, unplaced_says
from .verdict import SUSPICIOUS, WRONG, Judged

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {SUSPICIOUS: "warning", WRONG: "error"}
RULES = {SUSPICIOUS: "An array is further from the golden value than rounding takes honest runs.",
         WRONG: "An array is another one than the golden run has.",
         "unplaced": "An array may be a stage, and nothing says which.",
         "threshold": "An array is beyond the threshold that the baseline has for it."}


def sarif(found: Comparison, bad: Container[str]) -> dict[str, Any]:
    """The document. bad: names of arrays that are worse than the baseline allows."""
    rules = [{"id": name, "shortDescription": {"text": said}} for name, said in RULES.items()]
    driver = {"name": "minivl", "version": VERSION, "rules": rules}
    results = [result(row, found) for row in found.judged if row.name in bad]
    results += [finding("unplaced", f"{one.name} has no label{unplaced_says(one)}", one.name, found)
                for one in found.unplaced if not one.known]
    return {"$schema": SCHEMA, "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}]}


def result(row: Judged, found: Comparison) -> dict[str, Any]:
    """One array. Its logical place is the stage; the file is the candidate's."""
    rule = row.word if row.word in LEVELS else "threshold"
    said = (f"{row.name} is {row.word}: error {number(row.measure.error)}, rounding alone "
            f"{number(row.yard.error)} ({times(row)})")
    if row.key == found.first_bad:
        said += "; the first bad tap, guilty is one of: " + ", ".join(found.suspects[-6:])
    return {**finding(rule, said, row.key, found),
            "properties": plain({"error": row.measure.error, "rounding": row.yard.error,
                                 "times": row.ratio,
                                 "notes": list(row.notes)})}


def finding(rule: str, said: str, place: str, found: Comparison) -> dict[str, Any]:
    """One result. place: the stage, or the array, that it is about."""
    file = {"artifactLocation": {"uri": Path(found.candidate).as_posix()}}
    return {"ruleId": rule, "ruleIndex": list(RULES).index(rule), "level": LEVELS.get(rule, "error"),
            "message": {"text": said},
            "locations": [{"physicalLocation": file,
                           "logicalLocations": [{"fullyQualifiedName": place, "kind": "function"}]}]}

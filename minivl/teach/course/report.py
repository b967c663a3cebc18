"""What grading writes down: a table for the teacher, one for the gradebook, a page for each student.

    RESULTS/ASSIGNMENT/marks.csv, marks.md          a row a student: mark, and why
    RESULTS/ASSIGNMENT-attempt-2/...                the same of a retake
                       grades.csv                   the columns of `nbgrader export`
                       feedback/STUDENT.md          to be handed back; shows no test
                       grading.json                 the seed of the drawn inputs, the package, the limits

Read next: `grade.py`, where the reasons come from.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any

from ...door.files import write_whole
from .assignments import Assignment
from .grade import Row

# nbgrader's own columns, in its order
GRADEBOOK = ("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
             "raw_score", "late_submission_penalty", "score", "max_score")


def write(folder: Path, assignment: Assignment, rows: Sequence[Row], record: dict[str, Any],
          attempt: int = 1) -> Path:
    """Write everything about one assignment, and give its folder. OSError as the system does."""
    home = folder / home_of(assignment.name, attempt)
    (home / "feedback").mkdir(parents=True, exist_ok=True)
    _put(home / "marks.csv", _csv(marks(assignment, rows)))
    _put(home / "marks.md", page(assignment, rows))
    _put(home / "grades.csv", _csv(grades(rows)))
    _put(home / "grading.json", json.dumps(record, indent=1) + "\n")
    for row in rows:
        _put(home / "feedback" / f"{row.student}.md", feedback(row))
    return home


def home_of(assignment: str, attempt: int) -> str:
    """The name of the folder that an attempt's marks are in."""
    return assignment if attempt == 1 else f"{assignment}-attempt-{attempt}"


def marks(assignment: Assignment, rows: Sequence[Row]) -> list[list[Any]]:
    """A row a student: the points of each exercise, all of them, and the reason."""
    head = ["student_id", "assignment", *(asked.function for asked in assignment.asked), "score",
            "max_score", "reason"]
    return [head, *([harmless(row.student), row.assignment, *(mark.score for mark in row.marks),
                     row.score, row.points, harmless(row.reason)] for row in rows)]


def grades(rows: Sequence[Row]) -> list[list[Any]]:
    """The same marks in the columns of nbgrader's export."""
    return [list(GRADEBOOK), *([row.assignment, "", "", row.student, "", "", "", row.score, 0, row.score,
                                row.points] for row in rows)]


def page(assignment: Assignment, rows: Sequence[Row]) -> str:
    """The table for reading."""
    whole = sum(row.score == row.points for row in rows)
    lines = [f"# {assignment.name} ({assignment.lessons}): {len(rows)} students, {whole} with all "
             f"{assignment.points} points", "", "| student | points | reason |", "|---|---|---|"]
    lines += [f"| {_cell(row.student)} | {row.score} of {row.points} | {_cell(row.reason)} |"
              for row in rows]
    return "\n".join(lines) + "\n"


def feedback(row: Row) -> str:
    """What a student gets back: mark and reason for each exercise, and how to look further."""
    lines = [f"# {row.assignment}: {row.score} of {row.points} points", ""]
    lines += [f"- `{mark.asked.function}`: {mark.score} of {mark.asked.points}. "
              f"{mark.words}" for mark in row.marks]
    lines += [f"- note: {note}" for note in row.notes]
    wrong = next((mark.asked for mark in row.marks if mark.score < mark.asked.points), None)
    if wrong:
        variant = row.variant or row.student
        lines += ["", "To see an input that yours is wrong on, run in your notebook:", "",
                  f"    minivl.check({wrong.stage!r}, {wrong.function}, variant={variant!r})"]
    return "\n".join(lines) + "\n"


def write_table(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """A table with names in it, which its owner alone can read. OSError as the system does."""
    write_whole(path, methodcaller("write", _csv(rows).encode("utf-8")), mode=0o600)


def harmless(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _put(path: Path, text: str) -> None:
    write_whole(path, methodcaller("write", text.encode("utf-8")))

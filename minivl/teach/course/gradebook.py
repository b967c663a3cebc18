"""All marks of a course in one table, in the columns that a learning platform reads.

    table("moodle", read(Path("graded")), roster.read(Path("roster.csv")))

| form | columns before the assignments |
|---|---|
| plain | pseudonym, and the roster's name and address where there are any |
| moodle | those of Moodle's export that the roster has; one of them must tell who is meant |
| canvas | Student, ID, SIS User ID, SIS Login ID, Section; below the head a row of possible points |

Here alone pseudonyms and names meet. Read next: `report.py`, which writes what is read here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...door.errors import ArgumentError
from .assignments import ASSIGNMENTS
from .report import harmless, home_of
from .roster import PSEUDONYM, Roster, name_of

FORMS = ("plain", "moodle", "canvas")
MOODLE = ("First name", "Last name", "Surname", "ID number", "Username", "Email address")
MOODLE_KNOWS = ("Email address", "ID number", "Username")   # what its import can find a user by
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
CANVAS_KNOWS = ("ID", "SIS User ID", "SIS Login ID")
POSSIBLE = "    Points Possible"                       # how Canvas marks that row, spaces included
COUNTS = ("best", "last")

Scores = dict[str, dict[str, float]]                   # assignment -> student -> points


def read(folder: Path, counts: str = "best") -> Scores:
    """The points in a folder of results, by assignment and student.

    counts: which of several attempts does, "best" or "last". Raises ArgumentError for another word, and
    when nothing was graded there; OSError as the system does.
    """
    if counts not in COUNTS:
        raise ArgumentError(f"the attempt that counts must be one of {', '.join(COUNTS)}, "
                            f"got {counts!r}")
    found: Scores = {}
    for name in ASSIGNMENTS:
        attempts: list[dict[str, float]] = []
        while (path := folder / home_of(name, len(attempts) + 1) / "grades.csv").is_file():
            attempts.append(_points(path))
        if attempts:
            found[name] = _counted(attempts, counts)
    if not found:
        raise ArgumentError(f"{folder} must hold what `minivl course grade` writes (NAME/grades.csv), "
                            f"but no folder of an assignment is there: {', '.join(ASSIGNMENTS)}")
    return found


def _points(path: Path) -> dict[str, float]:
    """student -> points, out of a file of grades. ArgumentError when it is not as grading has written it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            found = {row["student_id"]: float(row["score"]) for row in rows}
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ArgumentError(f"{path} must have a student_id and a number as score in each line, with "
                                f"commas between, but line {rows.line_num} has not ({error}): save it as CSV "
                                "with commas, or grade again") from None
    return found


def _counted(attempts: Sequence[dict[str, float]], counts: str) -> dict[str, float]:
    """The attempt that counts, for each student; who was not graded in the last one keeps the one before."""
    if counts == "last":
        return {student: points for one in attempts for student, points in one.items()}
    students = {student for one in attempts for student in one}
    return {name: max(one[name] for one in attempts if name in one) for name in sorted(students)}


def table(form: str, scores: Scores, roster: Roster) -> list[list[Any]]:
    """The lines of the table: the head, and a line for each student of the roster.

    Raises ArgumentError for another form, and when the roster lacks the columns that the platform finds
    a student by.
    """
    if form not in FORMS:
        raise ArgumentError(f"a table of grades must be for one of {', '.join(FORMS)}, got {form!r}")
    heads = {"plain": _plain, "moodle": _moodle, "canvas": _canvas}[form](roster)
    nothing = "-" if form == "moodle" else ""
    lines: list[list[Any]] = [[*heads, *scores]]
    if form == "canvas":
        possible = (ASSIGNMENTS[name].points for name in scores)
        lines.append([POSSIBLE, *[""] * (len(CANVAS) - 1), *possible])
    for student, row in roster.by_student.items():
        points = [given.get(student) for given in scores.values()]
        lines.append([*(harmless(_cell(head, student, row)) for head in heads),
                      *(nothing if one is None else f"{one:g}" for one in points)])
    return lines


def strangers(scores: Scores, roster: Roster) -> list[str]:
    """Students who have marks and are not in the roster."""
    return sorted({name for given in scores.values() for name in given} - set(roster.students))


def _cell(head: str, student: str, row: Mapping[str, str]) -> str:
    """What stands under a head: the roster's own text, else what is known otherwise."""
    known = {PSEUDONYM: student, "Student": name_of(row)}
    return row.get(head) or known.get(head, "")


def _plain(roster: Roster) -> list[str]:
    return [PSEUDONYM, *(head for head in roster.heads if head != PSEUDONYM)]


def _moodle(roster: Roster) -> list[str]:
    if not set(MOODLE_KNOWS) & set(roster.heads):
        raise ArgumentError(_lacking("Moodle", MOODLE_KNOWS, roster))
    return [head for head in MOODLE if head in roster.heads]


def _canvas(roster: Roster) -> list[str]:
    if not set(CANVAS_KNOWS) & set(roster.heads):
        raise ArgumentError(_lacking("Canvas", CANVAS_KNOWS, roster))
    return list(CANVAS)


def _lacking(platform: str, known: Sequence[str], roster: Roster) -> str:
    """What to say of a roster in which a platform would find nobody."""
    return (f"{platform} finds a student by one of {', '.join(known)}, but the roster has the columns "
            f"{', '.join(roster.heads)}: export it from {platform} (Grades, Export), then "
            "`minivl course pseudonyms`")

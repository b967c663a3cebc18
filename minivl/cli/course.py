"""`minivl course`: lessons for learners, grading for teachers.

Read next: `teach/course/__init__.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..door.errors import ArgumentError
from ..door.files import check_place
from .console import clean, line, note, working

if TYPE_CHECKING:
    from ..teach.course.assignments import Assignment
    from ..teach.course.process import Limits


def copy(folder: Path, update: bool) -> None:
    """Copy the lessons and print a line for each file; at the end what is missing to run them."""
    from ..teach.course import lessons
    for done in lessons.copied(folder, update):
        line(f"{done.deed:<9} {done.file}" + (f"  {done.words}" if done.words else ""))
    if absent := lessons.missing():
        note(f"To run the lessons you still need {', '.join(absent)}: {lessons.INSTALL}")


def pseudonyms(people: Path, output: Path) -> None:
    """Give each student of a table a pseudonym, by lot, and keep those that `output` has."""
    from ..teach.course import roster
    now = roster.read(people, folders=False)
    before = roster.read(output) if output.exists() else roster.Roster((), ())
    made = roster.with_pseudonyms(roster.merged(before, now))
    check_place(output, ".csv")
    roster.write(output, made)
    new = len(made.rows) - len(before.rows)
    line(f"{output}: {_some('student', len(made.rows))}, {new} of them new")
    note("It says who is who, and you alone can read it: keep it out of folders that others see.")


def release(folder: Path, roster: Path | None, students: Sequence[str], names: Sequence[str],
            attempt: int) -> None:
    """Write the graded notebooks, for the students of a roster and those that are named."""
    from ..teach.course import assignments
    from ..teach.course import roster as rosters
    from ..teach.course.release import release as released
    everybody = rosters.everybody(roster, students)
    asked = [assignments.find(name) for name in names] or list(assignments.ASSIGNMENTS.values())
    made = released(folder, everybody, asked, attempt)
    line(f"{folder / 'release'}: {', '.join(one.name for one in asked)}")
    if made:
        whom = _some("student", len(everybody))
        line(f"{folder / 'release-for'}: {_some('notebook', len(made))} for {whom}")
    if find_spec("nbgrader") is None:
        note('nbgrader is not installed, so there is no gradebook.db: pip install "minivl[teacher]" '
             "if you want one; `minivl course grade` needs none")


def grades(results: Path, roster: Path, output: Path, form: str, counts: str) -> None:
    """Write the table of all marks that a learning platform reads."""
    from ..teach.course import gradebook, report
    from ..teach.course.roster import read
    check_place(output, ".csv")
    people, scores = read(roster), gradebook.read(results, counts)
    report.write_table(output, gradebook.table(form, scores, people))
    if others := gradebook.strangers(scores, people):
        note(f"{len(others)} with marks are not in the roster and not in the table: {', '.join(others)}")
    line(f"{output}: {_some('student', len(people.rows))}, {', '.join(scores)}")


def _some(thing: str, count: int) -> str:
    """1 student, 2 students."""
    return f"{count} {thing}" + "s" * (count != 1)


def grade(folder: Path, assignment: str | None, output: Path, seed: int | None, memory: int,
          patience: float, roster: Path | None, attempt: int) -> int:
    """Grade a folder of submissions; without an assignment all that are there. Gives how many could
    not be graded."""
    if find_spec("resource") is None:
        raise ArgumentError("grading needs Linux: this system cannot limit what a submission uses; "
                            "docs/teaching/grading.md says what to do")
    from ..teach.course import assignments
    from ..teach.course.grade import students
    from ..teach.course.process import Limits
    names = _expected(students(folder), roster, attempt)
    handed = [one for one in assignments.ASSIGNMENTS if any((folder / name / one).is_dir()
                                                            for name in names)]
    if not assignment and not handed:
        raise ArgumentError(f"no folder of a student in {folder} is named after an assignment; say with "
                            f"--assignment which one is meant: {', '.join(assignments.ASSIGNMENTS)}")
    asked = [assignments.find(name) for name in ([assignment] if assignment else handed)]
    output.mkdir(parents=True, exist_ok=True)             # an hour later would be late to find out
    seed = secrets.randbelow(2**31) if seed is None else seed
    limits = Limits(memory << 20, patience)
    return sum(_grade(folder, names, one, output, seed, limits, attempt) for one in asked)


def _expected(handed: list[str], roster: Path | None, attempt: int) -> list[str]:
    """Who gets a row: who handed in, and at the first attempt everybody in the roster."""
    from ..teach.course.roster import read
    if roster is None:
        return handed
    known = read(roster).students
    if others := sorted(set(handed) - set(known)):
        note(f"{len(others)} folders are of nobody in the roster and are graded all the same: "
             f"{', '.join(others)}")
    return sorted({*handed, *(known if attempt == 1 else ())})


def _grade(folder: Path, names: list[str], asked: Assignment, output: Path, seed: int,
           limits: Limits, attempt: int) -> int:
    """One assignment: the tables, and a line for each student."""
    from ..teach.course import report
    from ..teach.course.grade import Guard
    from ..teach.course.grade import grade as graded
    from ..teach.course.process import PACKAGE
    rows = []
    with working("grading") as say:
        say(names[0])
        for number, row in enumerate(graded(folder, asked, seed, limits, attempt, names), start=1):
            rows.append(row)
            line(clean(f"{row.student}  {row.score} of {row.points}  {row.reason}"))
            say(names[number] if number < len(names) else "writing")
    home = report.write(output, asked, rows, {
        "assignment": asked.name, "attempt": attempt, "seed": seed, "students": len(rows),
        "limits": asdict(limits), "package_sha256": Guard(PACKAGE).digest()}, attempt)
    note(f"{_some('student', len(rows))}; marks, gradebook and feedback are in {home}")
    return sum(mark.kind == "ungraded" for row in rows for mark in row.marks[:1])

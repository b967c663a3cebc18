"""`minivl course`: lessons for learners, grading for teachers.

Read next: `teach/course/__init__.py`.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..door.errors import ArgumentError
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


def grade(folder: Path, assignment: str | None, output: Path, seed: int | None, memory: int,
          patience: float) -> int:
    """Grade a folder of submissions; without an assignment all that are there. Gives how many could
    not be graded."""
    if find_spec("resource") is None:
        raise ArgumentError("grading needs Linux: this system cannot limit what a submission uses; "
                            "docs/teaching/grading.md says what to do")
    from ..teach.course import assignments
    from ..teach.course.grade import students
    from ..teach.course.process import Limits
    names = students(folder)
    handed = [one for one in assignments.ASSIGNMENTS if any((folder / name / one).is_dir()
                                                            for name in names)]
    if not assignment and not handed:
        raise ArgumentError(f"no folder of a student in {folder} is named after an assignment; say with "
                            f"--assignment which one is meant: {', '.join(assignments.ASSIGNMENTS)}")
    asked = [assignments.find(name) for name in ([assignment] if assignment else handed)]
    output.mkdir(parents=True, exist_ok=True)             # an hour later would be late to find out
    seed = secrets.randbelow(2**31) if seed is None else seed
    return sum(_grade(folder, names, one, output, seed, Limits(memory << 20, patience)) for one in asked)


def _grade(folder: Path, names: list[str], asked: Assignment, output: Path, seed: int,
           limits: Limits) -> int:
    """One assignment: the tables, and a line for each student."""
    from ..teach.course import report
    from ..teach.course.grade import Guard
    from ..teach.course.grade import grade as graded
    from ..teach.course.process import PACKAGE
    rows = []
    with working("grading") as say:
        say(names[0])
        for number, row in enumerate(graded(folder, asked, seed, limits), start=1):
            rows.append(row)
            line(clean(f"{row.student}  {row.score} of {row.points}  {row.reason}"))
            say(names[number] if number < len(names) else "writing")
    home = report.write(output, asked, rows, {
        "assignment": asked.name, "seed": seed, "students": len(rows), "limits": asdict(limits),
        "package_sha256": Guard(PACKAGE).digest()})
    note(f"{len(rows)} students; marks, gradebook and feedback are in {home}")
    return sum(mark.kind == "ungraded" for row in rows for mark in row.marks[:1])

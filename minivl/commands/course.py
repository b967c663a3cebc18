"""`minivl course`: lessons for learners, grading for teachers.

Read next: `../course/__init__.py`.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from pathlib import Path

from .console import clean, line, note, working


def copy(folder: Path, update: bool) -> None:
    """Copy the lessons and print a line for each file."""
    from ..course.lessons import copied
    for done in copied(folder, update):
        line(f"{done.deed:<9} {done.file}" + (f"  {done.words}" if done.words else ""))


def grade(folder: Path, assignment: str, output: Path, seed: int | None, memory: int, patience: float) -> int:
    """Grade a folder of submissions, write the tables, print a line for each student. Gives how many were ungraded."""
    try:
        import resource  # noqa: F401 - the limits of a submission's process
    except ImportError:
        raise ValueError("grading needs Linux or macOS: this system cannot limit what a submission uses; "
                         "docs/teaching/grading.md says how to grade in a container") from None
    from ..course import assignments, report
    from ..course.grade import Guard, students
    from ..course.grade import grade as graded
    from ..course.process import PACKAGE, Limits
    asked = assignments.find(assignment)
    names = students(folder)
    output.mkdir(parents=True, exist_ok=True)             # an hour later would be late to find out
    limits = Limits(memory << 20, patience)
    seed = secrets.randbelow(2**31) if seed is None else seed
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

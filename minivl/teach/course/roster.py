"""The roster of a class: who is who is in one file on the teacher's machine, all else has pseudonyms.

    pseudonym,name,email                        a table with a head; or, without one, a name a line
    k7m2q5,Ada Lovelace,ada@example.org

A roster without a column `pseudonym` is a list of names: folders and notebooks then carry these. All
other columns are kept as the learning platform exported them, so that grades go back under its own
heads (`gradebook.py`). Read next: `release.py`, `gradebook.py`.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections.abc import Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

from ...door.errors import ArgumentError
from ...door.files import write_whole

PSEUDONYM = "pseudonym"
NAMES = ("name", "Name", "Student", "Full name")           # heads under which whole names stand
PARTS = (("First name", "Last name"), ("First name", "Surname"))
FOLDER = re.compile(r"[\w@+-](?:[\w@.+ -]*[\w@.+-])?")     # what a name must be to be a folder's too
LETTERS, DIGITS = "bcdfghjkmnpqrstvwxz", "23456789"        # no vowels, so no words; no two look alike


class Roster(NamedTuple):
    """The heads of a class's table, and its rows: head -> text."""
    heads: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    @property
    def students(self) -> list[str]:
        """What each student's folder is called: the pseudonym, or the name where there is none."""
        return [row.get(PSEUDONYM) or name_of(row) for row in self.rows]

    @property
    def by_student(self) -> dict[str, Mapping[str, str]]:
        """A student's row by what the folder is called."""
        return dict(zip(self.students, self.rows, strict=True))


def name_of(row: Mapping[str, str]) -> str:
    """The whole name in a row, under whichever head it stands; "" when there is none."""
    whole = next((row[head] for head in NAMES if row.get(head)), "")
    parts = (" ".join(row[part] for part in pair if row.get(part)) for pair in PARTS)
    return whole or max(parts, key=len)


def read(path: Path, folders: bool = True) -> Roster:
    """The roster in a file: a table with a head, or a name a line; Canvas' row of points is left out.

    folders: whether students' folders are to be called so. Raises ArgumentError when a row names nobody,
    two rows the same, or a name cannot be a folder's; OSError as the system does.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ArgumentError(f"{path} must be UTF-8 text; save it as CSV in UTF-8") from None
    first = text.lstrip().partition("\n")[0]
    mark = max(",;\t", key=first.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text), delimiter=mark)]
    lines = [line for line in lines if any(line)]
    if mark not in first and first.strip() not in (*NAMES, PSEUDONYM):
        found = Roster(("name",), tuple({"name": line[0]} for line in lines))
    else:
        found = _table(lines)
    _hold(found, path, folders)
    return found


def _table(lines: Sequence[Sequence[str]]) -> Roster:
    """A roster out of the lines of a table, whose head is the first."""
    head, *rest = lines
    rows = tuple(dict(zip(head, line, strict=False)) for line in rest
                 if not line[0].startswith("Points Possible"))
    return Roster(tuple(head), rows)


def _hold(found: Roster, path: Path, folders: bool) -> None:
    """Refuse names that are missing, twice there, or no name for a folder."""
    students = found.students
    heads = ", ".join((PSEUDONYM, *NAMES, " and ".join(PARTS[0])))
    if not students or "" in students:
        which = f"row {students.index('') + 1} has none" if students else "the file is empty"
        raise ArgumentError(f"{path}: each row must name a student under one of {heads}; {which}")
    marks = students if folders else [_person(row) for row in found.rows]
    if twice := sorted({mark for mark in marks if marks.count(mark) > 1}):
        raise ArgumentError(f"{path}: each student must be there once, but {twice[0]!r} is there twice; "
                            "add what tells them apart, such as an address")
    if folders and (odd := [name for name in students if not can_be_a_folder(name)]):
        raise ArgumentError(f"{path}: {odd[0]!r} cannot be the name of a folder: letters, digits and "
                            "@ . + - _ are allowed; `minivl course pseudonyms` gives names that can")


def can_be_a_folder(name: str) -> bool:
    """Whether a student may be called so: the name becomes that of a folder."""
    return bool(FOLDER.fullmatch(name))


def with_pseudonyms(found: Roster) -> Roster:
    """The roster with a pseudonym in every row; those that are there stay."""
    taken = {row[PSEUDONYM] for row in found.rows if row.get(PSEUDONYM)}
    rows = []
    for row in found.rows:
        own = row.get(PSEUDONYM) or _drawn(taken)
        taken.add(own)
        rows.append({PSEUDONYM: own, **{head: text for head, text in row.items() if head != PSEUDONYM}})
    return Roster((PSEUDONYM, *(head for head in found.heads if head != PSEUDONYM)), tuple(rows))


def _drawn(taken: set[str]) -> str:
    """A new pseudonym such as k7m2q5, by lot: nothing about the student can be read off it."""
    while True:
        name = "".join(secrets.choice(LETTERS) + secrets.choice(DIGITS) for _ in range(3))
        if name not in taken:
            return name


def merged(before: Roster, now: Roster) -> Roster:
    """`now` with the pseudonyms that `before` gave to the same people; who is not in `now` stays too."""
    given = {_person(row): row[PSEUDONYM] for row in before.rows if row.get(PSEUDONYM)}
    rows = [{**row, PSEUDONYM: row.get(PSEUDONYM) or given.get(_person(row), "")} for row in now.rows]
    here = {_person(row) for row in now.rows}
    left = [row for row in before.rows if _person(row) not in here]
    heads = dict.fromkeys((PSEUDONYM, *now.heads, *before.heads))
    return Roster(tuple(heads), tuple(rows + left))


def _person(row: Mapping[str, str]) -> str:
    """What tells a person from others: the address or number that the platform has, else the name."""
    marks = ("Email address", "email", "ID number", "SIS User ID", "SIS Login ID", "ID", "Username")
    return next((row[mark] for mark in marks if row.get(mark)), name_of(row))


def write(path: Path, found: Roster) -> None:
    """Write the table so that its owner alone can read it. OSError as the system does."""
    out = io.StringIO()
    table = csv.DictWriter(out, found.heads, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(found.rows)
    write_whole(path, methodcaller("write", out.getvalue().encode("utf-8")), mode=0o600)

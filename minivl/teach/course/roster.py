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
import unicodedata
from collections.abc import Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

from ...door.errors import ArgumentError
from ...door.files import write_whole

PSEUDONYM = "pseudonym"
NAMES = ("name", "Name", "Student", "Full name")           # heads under which whole names stand
PARTS = (("First name", "Last name"), ("First name", "Surname"))
MARKS = ("Email address", "email", "ID number", "SIS User ID", "SIS Login ID", "ID", "Username")
HEADS = (PSEUDONYM, *NAMES, *dict.fromkeys(sum(PARTS, ())), *MARKS)     # of columns that are read here
FOLDER = re.compile(r"[\w@+-](?:[\w@.+ -]*[\w@.+-])?")     # what a name must be to be a folder's too
LONGEST = 100                                              # letters of such a name
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
        text = unicodedata.normalize("NFC", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} must be UTF-8 text, but its byte {error.start + 1} belongs to "
                            "another encoding: save it as CSV in UTF-8") from None
    first = text.lstrip().partition("\n")[0].strip()
    mark = max(",;\t", key=first.count)
    try:
        lines = [[cell.strip() for cell in line]
                 for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)]
    except csv.Error as error:
        raise ArgumentError(f"{path} must be a table as a spreadsheet saves it, with a quote at both "
                            f"ends of a quoted name, but cannot be read: {error}") from None
    lines = [line for line in lines if any(line)]
    if mark not in first and first not in HEADS:
        found = Roster(("name",), tuple({"name": line[0]} for line in lines))
    else:
        found = _table(path, lines)
    _hold(found, path, folders)
    return found


def _table(path: Path, lines: Sequence[Sequence[str]]) -> Roster:
    """A roster out of the lines of a table, whose head is the first."""
    head, *rest = lines
    heads = tuple(head[:max(n for n, cell in enumerate(head, start=1) if cell)])  # no empty ones behind
    if twice := [one for one in HEADS if heads.count(one) > 1]:
        raise ArgumentError(f"{path}: a column must be there once, but {twice[0]!r} is there twice: "
                            "take one of them out")
    if long := [" | ".join(line)[:80] for line in rest if any(line[len(heads):])]:
        raise ArgumentError(f"{path}: a row must have no more cells than the head, which has "
                            f"{len(heads)}, but one is {long[0]!r}: put a name with a comma in quotes")
    rows = tuple(dict(zip(heads, line, strict=False)) for line in rest
                 if not line[0].startswith("Points Possible"))
    return Roster(heads, rows)


def _hold(found: Roster, path: Path, folders: bool) -> None:
    """Refuse names that are missing, twice there, or no name for a folder."""
    students = found.students
    heads = ", ".join((PSEUDONYM, *NAMES, " and ".join(PARTS[0])))
    if not students:
        raise ArgumentError(f"{path} must name a student in each row, but there is none: write one name "
                            "a line, or export the table of your class")
    if "" in students:
        raise ArgumentError(f"{path}: each row must name a student under one of {heads}, but student "
                            f"{students.index('') + 1} has none there; the columns are "
                            f"{', '.join(found.heads)[:200]}")
    own = [row[PSEUDONYM] for row in found.rows if row.get(PSEUDONYM)]
    _once(path, own, "take one of the two out, and `minivl course pseudonyms` gives another")
    if folders:
        _once(path, students, "`minivl course pseudonyms` gives each a name of its own")
    else:
        people = [_person(row) for row in found.rows]
        _once(path, people, "add what tells them apart, such as an address")
    if folders:
        _hold_folders(f"{path}: ", students, "; `minivl course pseudonyms` gives names that can")


def _once(path: Path, marks: Sequence[str], advice: str) -> None:
    """Refuse what marks a student when it marks another one too."""
    if twice := sorted({mark for mark in marks if marks.count(mark) > 1}):
        raise ArgumentError(f"{path}: each student must be there once, but {twice[0]!r} is there twice; "
                            f"{advice}")


def everybody(path: Path | None, named: Sequence[str]) -> list[str]:
    """The students of a roster's file, if there is one, and those that are named; each once.

    Raises ArgumentError when a name cannot be a folder's, and as `read` does.
    """
    _hold_folders("", named)
    return list(dict.fromkeys([*(read(path).students if path else []), *named]))


def _hold_folders(where: str, names: Sequence[str], advice: str = "") -> None:
    """Refuse a name that cannot become that of a folder."""
    odd = [name for name in names if not FOLDER.fullmatch(name) or len(name) > LONGEST]
    if odd:
        raise ArgumentError(f"{where}{odd[0][:80]!r} cannot be the name of a folder: up to {LONGEST} "
                            f"letters, digits and @ . + - _ are allowed{advice}")


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
    rows, left = [], list(before.rows)
    for row in now.rows:
        known = [one for one in left if _same(one, row)]
        alone = len(known) == 1 and sum(_same(known[0], other) for other in now.rows) == 1
        if alone:                                         # else nobody knows who of several is meant
            left.remove(known[0])
        given = known[0].get(PSEUDONYM, "") if alone else ""
        rows.append({**row, PSEUDONYM: row.get(PSEUDONYM) or given})
    heads = dict.fromkeys((PSEUDONYM, *now.heads, *before.heads))
    return Roster(tuple(heads), tuple(rows + left))


def _person(row: Mapping[str, str]) -> str:
    """What tells a person from others: the address or number that the platform has, else the name."""
    return next((row[mark] for mark in MARKS if row.get(mark)), name_of(row))


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two rows are one person's: by an address or number that both have, else by the name."""
    common = [mark for mark in (PSEUDONYM, *MARKS) if one.get(mark) and other.get(mark)]
    if common:
        return any(one[mark] == other[mark] for mark in common)
    return name_of(one) == name_of(other)


def write(path: Path, found: Roster) -> None:
    """Write the table so that its owner alone can read it. OSError as the system does."""
    out = io.StringIO()
    table = csv.DictWriter(out, found.heads, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(found.rows)
    write_whole(path, methodcaller("write", out.getvalue().encode("utf-8")), mode=0o600)

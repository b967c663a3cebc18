"""Submissions to marks: what may not be is refused, what ran is compared here with what is right.

    rows = list(grade(Path("submitted"), find("pictures"), 7, Limits()))

Folders as nbgrader has them: `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`; the student's name is the
variant. Each row has a mark and a reason for each exercise. Nothing that a student hands in stops the
run, and no word of a reason shows a drawn input or an expected number: an exception is told by its name
and place, not by its message, which a submission could fill with what it was given.

Read next: `process.py` (how it is run), `refusal.py` (what is refused), `report.py` (what is written).
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from ...door.contract import outputs
from ...door.errors import ArgumentError
from ...door.files import write_whole
from ..check import find as find_exercise
from ..check.arguments import arrays_in
from ..check.diagnose import same_results, when
from ..check.draws import Case, deck
from ..check.exercise import Exercise
from ..check.grade import known_mistake
from ..check.judge import Verdict, judge
from .assignments import Asked, Assignment
from .notebook import Code, Parsed, Submission, Unreadable, defines, find, parsed
from .process import PACKAGE, Foreign, Limits, Outcome, Run, Seen, run
from .refusal import refused
from .release import variant_of

LONGEST_NAME = 200           # bytes; names of files have 255, and this one gets an ending
CASES = 40                   # drawn inputs for each function
GRAVE = ("frames", "reading the package", "writing the package")   # in cells too; others in functions
DEEDS = {"frames": "reads callers' frames", "native code": "calls native code",
         "hidden code": "makes code of text or bytes while it runs",
         "tracing": "traces other code",
         "programs": "starts programs or signals them", "network": "opens a network connection",
         "reading the package": "reads the package's files",
         "writing the package": "writes into the package",
         "reading outside its folder": "reads files that are none of its business",
         "writing outside its folder": "writes outside its folder"}


class Mark(NamedTuple):
    """The points of one exercise, of how many, and why. kind: of `minivl.check`, or "refused", ..."""
    asked: Asked
    score: int
    kind: str
    words: str


class Row(NamedTuple):
    """One student's assignment."""
    student: str
    assignment: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()
    variant: str = ""            # the name that the rules follow from, where it is not the student's
    locked: bool = True          # whether the kernel kept the submission off everybody's files

    @property
    def score(self) -> int:
        return sum(mark.score for mark in self.marks)

    @property
    def points(self) -> int:
        return sum(mark.asked.points for mark in self.marks)

    @property
    def reason(self) -> str:
        """All of it in one line."""
        same = {mark.words for mark in self.marks}
        each = [f"{mark.asked.function}: {mark.words}" for mark in self.marks]
        said = [f"all: {same.pop()}"] if len(same) == 1 else each
        return "; ".join([*said, *self.notes])


def students(folder: Path) -> list[str]:
    """The students' names: the folders inside. ValueError when there is none, with what is expected."""
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is no folder; name the one that holds a folder for each student")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()
                   and not path.name.startswith("."))
    if not names:
        raise ArgumentError(f"{folder} holds no folders; expected is "
                         f"{folder / 'STUDENT' / 'ASSIGNMENT.ipynb'}")
    if handed_out := {"release", "release-for"}.intersection(names):
        raise ArgumentError(f"{folder} must hold a folder for each student, but {min(handed_out)}/ "
                            "holds what you hand out: name the folder with what was handed in, such as "
                            f"{folder / 'submitted'}")
    for name in names:                                    # it becomes that of a file too
        if not name.isprintable() or len(name.encode()) > LONGEST_NAME:
            raise ArgumentError(f"a student's folder must have a name in printable letters, of at most "
                                f"{LONGEST_NAME} bytes in UTF-8, but {folder} holds {name!r}: rename it")
    return names


def grade(folder: Path, assignment: Assignment, seed: int, limits: Limits, attempt: int = 1,
          names: Sequence[str] = ()) -> Iterator[Row]:
    """A row for each student. seed: of the drawn inputs; with it and the package one knows them.

    attempt: 2 for the first retake. names: of the students; without any, those that have a folder.
    """
    sys.dont_write_bytecode = True                        # else the package would change by itself
    guard = Guard(PACKAGE)
    for student in names or students(folder):
        try:
            row = grade_one(folder / student, student, assignment, seed, limits, attempt)
        except Exception as error:  # a defect here must not cost the others their marks
            words = f"could not be graded ({type(error).__name__}): look at it by hand"
            row = _all(student, assignment, "ungraded", words)
        if changed := guard.changed():
            if row.locked:                                # then it was another program: an editor, pip
                row = _all(student, assignment, "ungraded", "could not be graded: another program "
                           f"has changed minivl's {changed[0]} meanwhile; grade again")
                guard = Guard(PACKAGE)
            else:
                guard.restore()
                row = _all(student, assignment, "refused",
                           f"writes into the package ({changed[0]}; it was restored)")
        yield row


def grade_one(folder: Path, student: str, assignment: Assignment, seed: int, limits: Limits,
              attempt: int = 1) -> Row:
    """The row of one student, whose files are in `folder`."""
    functions = [asked.function for asked in assignment.asked]
    try:
        handed = find(folder, assignment.name, functions)
    except (Unreadable, OSError) as problem:
        return _all(student, assignment, "unreadable",
                    str(problem) if isinstance(problem, Unreadable) else
                    f"the file cannot be read ({type(problem).__name__})")
    cells = list(parsed(handed.code))
    against = {name: found for name in functions if (found := _against(cells, name))}
    variant = variant_of(student, assignment, attempt)
    tests = {asked.function: Test(asked, variant, seed) for asked in assignment.asked}
    looked_at = [Code(cell.cell, cell.source) for cell in cells if cell.tree]  # the rest is not run
    seen = run(looked_at, {name: test.cases for name, test in tests.items() if name not in against},
               limits)
    marks = [_refusal(asked, against, seen)
             or tests[asked.function].mark(seen.outcomes[asked.function], handed, cells)
             for asked in assignment.asked]
    notes = (*handed.notes, *_notes(seen))
    return Row(student, assignment.name, tuple(marks), notes, variant, seen.locked)


def _against(cells: Sequence[Parsed], function: str) -> str:
    """What speaks against a solution going by its text; empty when nothing does."""
    try:
        found = refused(cells, function)
    except RecursionError:
        return "its code is nested too deeply to be read"
    return str(found) if found else ""


def _all(student: str, assignment: Assignment, kind: str, words: str) -> Row:
    return Row(student, assignment.name,
               tuple(Mark(asked, 0, kind, words) for asked in assignment.asked))


def _refusal(asked: Asked, against: dict[str, str], seen: Seen) -> Mark | None:
    """The mark of an exercise that is refused, for its text or for what it tried."""
    if asked.function in against:
        return Mark(asked, 0, "refused", f"refused: {against[asked.function]}")
    for what, at in seen.denied:
        if at == asked.function or (what in GRAVE and at not in seen.outcomes):
            return Mark(asked, 0, "refused", f"refused: {DEEDS[what]} (while {at or 'starting'} ran)")
    return None


def _notes(seen: Seen) -> tuple[str, ...]:
    """What cells tried that was denied and cost no mark, once for each kind."""
    said = {f"{at}: {what} was denied" for what, at in seen.denied if what not in GRAVE
            and at not in seen.outcomes}
    unlocked = () if seen.locked else ("the system has no Landlock: writes were denied by Python alone",)
    return (*sorted(said)[:5], *unlocked)


# ------------------------------------------------------------------------------ one function judged

class Test:
    """The drawn inputs of one exercise for one student's variant, and what the answers are worth."""

    __test__ = False                                      # not pytest's

    def __init__(self, asked: Asked, student: str, seed: int):
        self.asked = asked
        self.exercise: Exercise = find_exercise(asked.stage).varied(student)
        self.cases = deck(self.exercise.draw, zlib.crc32(f"{seed}/{student}/{asked.stage}".encode()),
                          CASES)

    def mark(self, outcome: Outcome, handed: Submission, cells: Sequence[Parsed]) -> Mark:
        """Points and reason. Expected values are computed here and nowhere else."""
        if outcome.kind != "ran":
            return Mark(self.asked, 0, outcome.kind, self._stopped(outcome, handed, cells))
        *runs, again = outcome.runs
        verdicts = [self._verdict(run, case) for run, case in zip(runs, self.cases, strict=True)]
        kind = next((v.kind for v in verdicts if v.kind != "right"), "right")
        if kind == "right" and not _same(runs[-1], again):
            kind = "unstable"
        words = "right" if kind == "right" else self._words(kind, runs, verdicts)
        return Mark(self.asked, self.asked.points if kind == "right" else 0, kind, words)

    def _verdict(self, run: Run, case: Case) -> Verdict:
        """What `minivl.check` would say to a function that gives what the student's gave."""
        verdict = judge(self.exercise, _replay(run), case)
        spoilt = run.kind == "values" and list(run.touched) != _digests(case.args)
        return Verdict("changed", expected=verdict.expected, got=verdict.got) if spoilt else verdict

    def _words(self, kind: str, runs: Sequence[Run], verdicts: Sequence[Verdict]) -> str:
        """Why it is wrong, without a number of the inputs or of what was expected."""
        first = next((run for run, v in zip(runs, verdicts, strict=True) if v.kind == kind), runs[-1])
        if kind == "raised":
            return f"{first.exception} in {first.where}" if first.where else first.exception
        if kind == "type" and all(run.value is None for run in runs):
            return "gives None: not filled in, or `return` is missing"
        if kind in ("changed", "unstable"):
            return FORMS[kind]
        mistake = known_mistake(self.exercise, self.cases, verdicts)
        if kind in FORMS and not mistake:
            return FORMS[kind].format(_kind_of(first.value))
        right = [verdict.kind == "right" for verdict in verdicts]
        return f"{mistake or 'wrong numbers'}; {when(self.exercise, self.cases, right)}"

    def _stopped(self, outcome: Outcome, handed: Submission, cells: Sequence[Parsed]) -> str:
        """Why a function gave nothing that could be judged."""
        name = self.asked.function
        if outcome.kind == "missing":
            broken = [cell for cell in cells if cell.error]
            own = [cell for cell in broken if defines([Code(cell.cell, cell.source)], name)] or broken
            return own[0].error if own else f"no code cell defines {name}"
        place = f" in {outcome.where}" if outcome.where else ""
        return STOPS[outcome.kind].format(place)


FORMS = {
    "changed": "refused: changes its inputs; a stage must leave what it is given as it is",
    "unstable": "gives two results when called twice on the same input",
    "type": "gives {}; asked for is a plain NumPy array",
    "count": "gives another number of arrays than asked for",
    "shape": "gives an array of another shape than asked for",
    "dtype": "gives numbers of another kind than asked for (whole numbers, or floating-point ones)",
}
STOPS = {
    "signature": "takes other arguments than the stage is given{}",
    "time": "does not end: it was stopped{}",
    "memory": "asks for more memory than there is{}",
    "output": "prints or gives back too much{}",
    "died": "ended its process{}",
}


def _replay(run: Run) -> Callable[..., Any]:
    """A function that gives what was given in another process."""
    def replay(*args: Any) -> Any:
        if run.kind == "raised":
            raise RuntimeError(run.exception)
        return run.value
    return replay


def _same(one: Run, other: Run) -> bool:
    return one.kind == other.kind and (one.kind == "raised"
                                       or same_results(outputs(one.value), outputs(other.value)))


def _kind_of(value: Any) -> str:
    found = next((one for one in outputs(value) if isinstance(one, Foreign)), None)
    if found is None:
        return "something"
    if found.words == "subclass":
        return "an array of its own class"
    article = "an" if found.words[0] in "aeiou" else "a"
    return found.words if " " in found.words else f"{article} {found.words}"


def _digests(args: tuple) -> list[str]:
    """As the other process forms them of its inputs afterwards."""
    from .child import digest
    return [digest(array) for n, arg in enumerate(args) for _, array in arrays_in(str(n), arg)]


# -------------------------------------------------------------------------------------- the package

class Guard:
    """The package's files as they were, to be put back when a submission has got at them after all."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.held = self._files()

    def _files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def digest(self) -> str:
        """Of all files together, for the record."""
        whole = hashlib.sha256()
        for path, data in self.held.items():
            whole.update(f"{path.relative_to(self.folder).as_posix()} {len(data)}\n".encode() + data)
        return whole.hexdigest()

    def changed(self) -> list[str]:
        """Names of the files that were changed, taken away or added."""
        differ = {path for path, _ in self.held.items() ^ self._files().items()}
        return sorted(path.relative_to(self.folder).as_posix() for path in differ)

    def restore(self) -> list[str]:
        """Put back what was changed or taken away, remove what was added; gives these files' names."""
        names = self.changed()
        for path in map(self.folder.joinpath, names):
            if path in self.held:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, methodcaller("write", self.held[path]))
            else:
                path.unlink()
        return names

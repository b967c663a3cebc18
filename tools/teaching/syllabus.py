"""The syllabi of docs/teaching: what is done in class and at home, with the minutes that the lessons themselves
state, where the graded assignments stand, and how the marks add up.

Reading times come from the table of notebooks/README.md, those of exercises and graded assignments from their
headings; only what no notebook states (talk, questions, the exam) has its minutes here. A lesson that is not
there yet is named so. Pages for students name an exam and the notes for each hour, and link neither.
Read next: docs/teaching/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minivl.teach.course.assignments import ASSIGNMENTS
from tools.course.lesson_index import slug_of

from .key import PAGES

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSON_ROW = re.compile(r"(?m)^\| (\d+) \| \[([^\]]+)\]\(([\w.]+)\).*\| (\d+) min \| (\d+) min \|$")
EXERCISE = re.compile(r"(?m)^# ## (Exercise (\d+\.\d+): .*\(about (\d+) minutes\))$")


class Lesson(NamedTuple):
    """A row of the lessons' table: title, notebook, minutes of reading."""
    title: str
    notebook: str
    reading: int


class Read(NamedTuple):
    """The class goes through a lesson, or a student does at home."""
    lesson: int


class Do(NamedTuple):
    """One exercise of a lesson, such as "5.1"."""
    exercise: str


class Graded(NamedTuple):
    """A graded assignment is given out; it is due a week later."""
    assignment: str


class Ask(NamedTuple):
    """Concept questions: minutes, and the first and last of each run of them."""
    minutes: int
    runs: tuple[tuple[int, int], ...]

    @property
    def numbers(self) -> list[int]:
        return [n for first, last in self.runs for n in range(first, last + 1)]


class Mark(NamedTuple):
    """A part of the mark: what it is, its points, and its share of the whole in percent."""
    what: str
    points: int
    share: int


class Talk(NamedTuple):
    """Something that no lesson states the minutes of."""
    minutes: int
    what: str


Item = Read | Do | Graded | Ask | Talk


class Week(NamedTuple):
    """One week: what it is about, what is done in class, what at home."""
    about: str
    in_class: tuple[Item, ...]
    at_home: tuple[Item, ...]


class Course(NamedTuple):
    """A syllabus: the name of its page, its head, the minutes of class there are in a week, its weeks, its marks."""
    page: str
    head: str
    class_minutes: int
    weeks: tuple[Week, ...]
    marks: tuple[Mark, ...]


def questions(first: int, last: int, minutes: int) -> Ask:
    """One run of concept questions."""
    return Ask(minutes, ((first, last),))


def assignments(share: int) -> Mark:
    """The graded assignments as a part of the mark."""
    each = {one.points for one in ASSIGNMENTS.values()}
    asked = f"{len(ASSIGNMENTS)} [graded assignments](grading.md)"
    return Mark(f"{asked}, {each.pop()} points each" if len(each) == 1 else asked,
                sum(one.points for one in ASSIGNMENTS.values()), share)


HOW = """Minutes are those that the lessons state. Students are slower in their first week and faster from the third
on. What is done in class is done with the notebook open: the teacher reads the question aloud, and the class writes
down what it expects of each *now break it* cell before the cell is run. Teachers have notes with the plan of each
hour. Exercises that are in no table are for those who want more. A graded assignment is due a week after it is given
out; it asks for what its lessons' exercises have practised, under another rule for each student."""

SIX = Course("syllabus-6-weeks", f"""# Six weeks

Two sessions of 90 minutes a week, and one to three hours at home. For students who know NumPy well. Lessons 14 and
16 to 19 are not needed for the exam; give them to those who ask for more. The project is [port a stage, or find a
fault](project-port-or-fault.md); the larger one fits into twelve weeks.

{HOW}
""", 180, (
    Week("A run, arrays that learned, pixels",
         (Talk(10, "what the course is; `minivl demo` on everybody's laptop"), Read(0), Do("0.1"), Read(1), Do("1.1"),
          Read(2), Do("2.1"), questions(1, 13, 20)),
         (Do("0.2"), Do("1.2"), Do("2.2"), Talk(20, "one more fault for a *now break it* cell, with its prediction"))),
    Week("Patches, attention, windows",
         (Read(3), Do("3.1"), Read(4), Do("4.1"), Read(5), questions(14, 27, 25)),
         (Do("3.2"), Do("4.2"), Do("5.1"), Do("5.2"), Graded("pictures"))),
    Week("Rotary positions, a whole block, the merger",
         (Read(6), Do("6.1"), Read(7), Do("7.1"), Read(8), questions(28, 40, 25)),
         (Do("6.2"), Do("7.2"), Do("8.1"), Do("8.2"), Read(9), Graded("windows"))),
    Week("Positions of a prompt, and the decoder",
         (Talk(15, "the prompt of lesson 9 at the board: marks, placeholders, one row for each cell"), Read(10),
          Read(11), questions(41, 53, 25)),
         (Do("9.2"), Do("10.1"), Do("11.1"), Do("11.2"), Read(12), Graded("blocks"))),
    Week("Precision, and a port that is wrong",
         (Read(13), Read(15), Ask(15, ((56, 57), (59, 60))),
          Talk(30, "a fault of the [bug museum](../made/bug-museum.md) that the teacher has planted, found in groups"),
          Talk(10, "the [project](project-port-or-fault.md): topics, rubric, date")),
         (Do("13.1"), Do("15.1"), Do("15.2"), Talk(60, "project: the topic, and the first failing test"),
          Graded("positions"))),
    Week("Grounding, and the exam",
         (Talk(40, "three students show one plot of their project"), questions(54, 55, 10),
          Talk(90, "exam, on paper")),
         (Do("12.1"), Talk(60, "project: the report"), Graded("decoding"))),
), (assignments(30), Mark("[project](project-port-or-fault.md)", 60, 30), Mark("exam, 90 minutes", 60, 40)))

TWELVE = Course("syllabus-12-weeks", f"""# Twelve weeks

One session of 90 minutes a week; at home an hour or less in the first weeks, two hours and more in the last ones. For
students who have used NumPy in one course before. All lessons but 17 to 19, on kernels and on several machines, which
are for those who want more; the project is [your own minivl](project-own-minivl.md), which grows from the exercises, so
it begins in week 3. The exam takes 120 minutes and is held after the last week.

{HOW}
""", 90, (
    Week("A run in one minute",
         (Talk(20, "what the course is; installing; `minivl demo` on everybody's laptop"), Read(0), Do("0.1"),
          questions(1, 4, 10)), (Do("0.2"), Talk(15, "the passes of a picture of your own: `minivl passes PICTURE`"))),
    Week("Arrays that learned", (Read(1), Do("1.1"), questions(5, 8, 15)), (Do("1.2"),)),
    Week("Pixels and resizing", (Read(2), Do("2.1"), questions(9, 13, 15),
                                 Talk(10, "the [project](project-own-minivl.md): what it is, how it is marked")),
         (Do("2.2"), Talk(30, "project: `target_size` and `picture.normalise` in the table"))),
    Week("Patches and the 2x2 order", (Read(3), Do("3.1"), questions(14, 17, 15)),
         (Do("3.2"), Talk(30, "project: `patchify`"), Graded("pictures"))),
    Week("Attention on six patches", (Read(4), Do("4.1"), questions(18, 21, 15)),
         (Do("4.2"), Talk(30, "project: `project_qkv` and `attend_inside`"))),
    Week("Attention at scale", (Read(5), Do("5.1"), questions(22, 27, 20)),
         (Do("5.2"), Talk(45, "project: `window_order`, `schedule`, `order_by_window`, `restore_order`"))),
    Week("Rotary positions", (Read(6), Do("6.1"), questions(28, 32, 15)),
         (Do("6.2"), Talk(30, "project: `spatial_angles`, `cos_sin`, `rotate`"), Graded("windows"))),
    Week("A whole block, and the merger", (Read(7), Read(8), questions(33, 40, 15)),
         (Do("7.1"), Do("7.2"), Do("8.1"), Do("8.2"), Read(9),
          Talk(30, "project: `rms_norm`, `add_mlp`, `merge_2x2`"))),
    Week("The prompt and its positions", (Read(10), Do("10.1"), questions(41, 49, 15)),
         (Do("9.1"), Do("9.2"), Do("10.2"), Talk(30, "project: `expand`, `mrope`, `mrope_angles`"),
          Graded("blocks"))),
    Week("The decoder, and boxes", (Read(11), Do("11.1"), questions(50, 53, 15)),
         (Do("11.2"), Read(12), Do("12.1"), Do("12.2"),
          Talk(20, "project: `attend_backwards`, `most_likely`, `advance`"), Graded("positions"))),
    Week("Precision, and how it was trained", (Read(13), Do("13.1"), questions(54, 57, 15)),
         (Do("13.2"), Read(14), Do("14.1"), Do("14.2"), Talk(30, "project: the first answer with nothing borrowed"),
          Graded("decoding"))),
    Week("A port that is wrong", (Read(15), questions(58, 60, 10),
                                  Talk(20, "three projects: one figure each")),
         (Do("15.1"), Do("15.2"), Read(16), Do("16.1"), Talk(40, "project: the report"))),
), (assignments(25), Mark("[project](project-own-minivl.md)", 100, 35), Mark("exam, 120 minutes", 100, 40)))
COURSES = (SIX, TWELVE)


@cache
def lessons() -> dict[int, Lesson]:
    """The lessons that are there, by number."""
    table = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    return {int(row[1]): Lesson(row[2], row[3], int(row[4])) for row in LESSON_ROW.finditer(table)}


@cache
def exercises() -> dict[str, tuple[str, int]]:
    """Anchor and minutes of each exercise that is there, by number."""
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(NOTEBOOKS.glob("lesson_*.py")))
    return {row[2]: (slug_of(row[1]), int(row[3])) for row in EXERCISE.finditer(sources)}


@cache
def minutes_of(assignment: str) -> int:
    """How long a graded assignment takes by its own headings."""
    source = (NOTEBOOKS / "graded" / f"{assignment}.py").read_text(encoding="utf-8")
    return sum(map(int, re.findall(r"(?m)^# ## .+\(about (\d+) minutes\)$", source)))


def line(item: Item) -> tuple[str, int]:
    """What is done, as a cell of a table, and its minutes; 0 for what is not there yet."""
    if isinstance(item, Talk):
        return item.what, item.minutes
    if isinstance(item, Ask):
        runs = " and ".join(f"{first} to {last}" for first, last in item.runs)
        return f"[concept questions](concept-questions.md) {runs}, in pairs, then together", item.minutes
    if isinstance(item, Graded):
        names = ", ".join(f"`{one.function}`" for one in ASSIGNMENTS[item.assignment].asked)
        return f"**[graded](grading.md): `{item.assignment}`** ({names})", minutes_of(item.assignment)
    number = item.lesson if isinstance(item, Read) else int(item.exercise.split(".")[0])
    if number not in lessons():
        return f"{_named(item)} (not written yet)", 0
    lesson = lessons()[number]
    if isinstance(item, Read):
        return f"[{_named(item)}](../../notebooks/{lesson.notebook}): {lesson.title}", lesson.reading
    if item.exercise not in exercises():
        raise ValueError(f"lesson {number} has no exercise {item.exercise}: mend the plan in syllabus.py")
    anchor, long = exercises()[item.exercise]
    return f"[{_named(item)}](../../notebooks/{lesson.notebook}#{anchor})", long


def _named(item: Read | Do) -> str:
    return f"lesson {item.lesson}" if isinstance(item, Read) else f"exercise {item.exercise}"


def minutes(items: tuple[Item, ...]) -> int:
    return sum(line(item)[1] for item in items)


def week_text(number: int, week: Week) -> str:
    lines = [f"## Week {number}: {week.about}", "", "| where | what | minutes |", "|---|---|---|"]
    for where, items in (("in class", week.in_class), ("at home", week.at_home)):
        for n, item in enumerate(items):
            what, long = line(item)
            lines.append(f"| {where if n == 0 else ''} | {what} | {long or ''} |")
        lines.append(f"| | *{where}, together* | *{minutes(items)}* |")
    return "\n".join(lines)


MARKS = """Nothing else is marked: the lessons' own exercises and the concept questions are for learning. An assignment
may be taken once more, in another variant, within two weeks of its mark; the better attempt counts. Teachers may
change the shares before the course begins."""


def marks_text(course: Course) -> str:
    """The table of marks; a point's worth is in percent of the whole."""
    lines = ["## How the marks add up", "", "| what | points | share | one point is |", "|---|---|---|---|"]
    lines += [f"| {one.what} | {one.points} | {one.share} % | {one.share / one.points:.2g} % |" for one in course.marks]
    lines.append(f"| *together* | | *{sum(one.share for one in course.marks)} %* | |")
    return "\n".join([*lines, "", MARKS])


def pages() -> Iterator[tuple[Path, bytes]]:
    """Both syllabi: the path of each page and what it should hold."""
    for course in COURSES:
        weeks = [week_text(n, week) for n, week in enumerate(course.weeks, start=1)]
        parts = [course.head.strip(), *weeks, marks_text(course), "Written by `python -m tools.teaching`."]
        yield PAGES / f"{course.page}.md", ("\n\n".join(parts) + "\n").encode("utf-8")

"""The material for teachers: keys are what the package computes, points add up, and whatever a page names is there.

A lesson or page that is not written yet is skipped by its name.
"""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from minivl.cli import words as cli
from minivl.kernels import definition
from minivl.teach.check.own import PLACES
from minivl.teach.course.assignments import ASSIGNMENTS
from minivl.truth import museum as faults
from tools.pages.figures import __main__ as figures
from tools.teaching import FOR_TEACHERS, key, syllabus, wrong_rules
from tools.teaching import __main__ as command

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "teaching"
PAGES = sorted(FOLDER.glob("*.md"))
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
EXAMS = {"exam-6-weeks": 60, "exam-12-weeks": 100}
LEFT_OUT = {"syllabus-6-weeks": {14, 16, 17, 18, 19}, "syllabus-12-weeks": {17, 18, 19}}  # as the pages say
FOR_MORE = {"11.3", "14.3", "16.2", "17.1", "17.2", "17.3", "18.1", "18.2", "18.3", "19.1", "19.2",
            "19.3"}                                                        # exercises in no syllabus
WRITTEN = {int(path.name.split("_")[1]) for path in (ROOT / "notebooks").glob("lesson_*.py")}
LESSON_LINK = re.compile(r"notebooks/(lesson_(\d+)\w*)\.ipynb")


# ---- keys --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", key.KEYS)
def test_what_stands_in_bold_in_a_key_is_what_the_package_computes(page):
    computed = {number: key.values(page, number) for number in key.KEYS[page]}
    assert {number: bold for number, bold in key.on_page(page).items() if bold} == computed


def said(values):
    """Values as a key writes them."""
    return [key.written(value) for value in (values if isinstance(values, list) else [values])]


@pytest.mark.parametrize("rule", wrong_rules.RULES, ids=lambda rule: f"{rule.page[:7]} {rule.number}: {rule.words}")
def test_a_usual_wrong_rule_gives_another_number_than_the_key(rule):
    assert said(rule.values) != key.values(rule.page, rule.number)


def test_every_computed_part_of_an_exam_has_its_wrong_rules():
    held = {(rule.page, rule.number) for rule in wrong_rules.RULES}
    asked = {(page, number) for page in key.KEYS for number in key.KEYS[page] if page.startswith("exam")}
    assert asked <= held, sorted(asked - held)
    assert len({(rule.page, rule.number, rule.words) for rule in wrong_rules.RULES}) == len(wrong_rules.RULES)


def test_rules_that_once_gave_the_right_number_would_be_found():
    """A head whose remainder is its partner, the corner window, a reference that cancels: as it was asked before."""
    assert 13 // 7 == 13 % 4 and 11 // 8 == 11 % 2
    assert 5 // 4 * 3 + 8 // 4 == 8 // 4 * 2 + 5 // 4
    assert wrong_rules.shrunk(600, 1000, (600_000 / 200_704) ** 0.5) == wrong_rules.shrunk(
        600, 1000, (588 * 1008 / 200_704) ** 0.5)


def test_a_wrong_key_would_be_found(monkeypatch, tmp_path):
    (tmp_path / "exam-6-weeks-answers.md").write_text("1a. **588 x 1009**, **7**.\n\n2b. None.\n", encoding="utf-8")
    monkeypatch.setattr(key, "PAGES", tmp_path)
    assert key.on_page("exam-6-weeks-answers") == {"1a": ["588 x 1009", "7"], "2b": []}
    assert key.values("exam-6-weeks-answers", "1a") == ["588 x 1008"]


def test_questions_are_numbered_and_each_has_an_answer():
    asked = [int(number) for number in re.findall(r"(?m)^(\d+)\. ", TEXT["concept-questions.md"])]
    assert asked == list(range(1, 67)) and TEXT["concept-questions.md"].startswith("# Sixty-six concept questions")
    assert list(key.on_page("concept-answers")) == [str(number) for number in asked]
    assert len(key.KEYS["concept-answers"]) >= 40


def test_questions_and_answers_stand_under_the_same_lessons():
    def under(page):
        parts = re.split(r"(?m)^## (.+)$", TEXT[page])[1:]
        return {title: re.findall(r"(?m)^(\d+)\. ", text) for title, text in zip(parts[::2], parts[1::2], strict=True)}
    assert under("concept-questions.md") == under("concept-answers.md")


@pytest.mark.parametrize("page", key.KEYS)
def test_an_answer_that_begins_with_a_number_is_a_computed_one(page):
    begin = re.findall(r"(?m)^(\d+[a-z]?)\. (?:At |By |Row |Place |Head |Window )?(?=-?[\d(])", TEXT[f"{page}.md"])
    assert begin == []


@pytest.mark.parametrize(("exam", "total"), EXAMS.items())
def test_points_of_an_exam_add_up(exam, total):
    text = TEXT[f"{exam}.md"]
    parts = re.split(r"(?m)^## \d+\. .+ \((\d+) points\)$", text)
    assert f"{total} points" in parts[0]
    sections = list(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    for points, section in sections:
        assert sum(map(int, re.findall(r"(?m)^\d+[a-z]\. \((\d+)\)", section))) == points, section
    assert sum(points for points, _ in sections) == total


@pytest.mark.parametrize("exam", EXAMS)
def test_every_part_of_an_exam_has_an_answer(exam):
    parts = re.findall(r"(?m)^(\d+[a-z])\. ", TEXT[f"{exam}.md"])
    assert len(parts) == len(set(parts)) and parts == list(key.on_page(f"{exam}-answers"))
    headings = re.findall(r"(?m)^## .+$", TEXT[f"{exam}.md"])
    assert headings == re.findall(r"(?m)^## .+$", TEXT[f"{exam}-answers.md"])


@pytest.mark.parametrize("page", ["project-own-minivl.md", "project-port-or-fault.md"])
def test_points_of_a_rubric_add_up(page):
    total, rubric = re.search(r"## Marking, (\d+) points\n(.+?)\n\n[^|\n]", TEXT[page], re.DOTALL).groups()
    assert sum(map(int, re.findall(r"\| (\d+) \|$", rubric, re.MULTILINE))) == int(total)


# ---- syllabi -----------------------------------------------------------------------------------------------

def test_the_syllabi_are_as_the_lessons_are_now():
    stale = [path.name for path, text in syllabus.pages() if path.read_bytes() != text]
    assert not stale, "write them anew: python -m tools.teaching"


@pytest.mark.parametrize("course", syllabus.COURSES, ids=lambda course: course.page)
def test_a_week_fits_into_its_sessions_and_no_lesson_is_forgotten(course):
    for week in course.weeks:
        assert syllabus.minutes(week.in_class) <= course.class_minutes, week.about
    items = [item for week in course.weeks for item in (*week.in_class, *week.at_home)]
    read = [item.lesson for item in items if isinstance(item, syllabus.Read)]
    left_out = LEFT_OUT[course.page]
    assert sorted(read) == sorted(set(syllabus.lessons()) - left_out)
    given = {item.exercise for item in items if isinstance(item, syllabus.Do)}
    assert course is syllabus.SIX or set(syllabus.exercises()) <= given | FOR_MORE
    asked = [n for item in items if isinstance(item, syllabus.Ask) for n in item.numbers]
    assert sorted(asked) == [n for n, about in lessons_of_questions().items() if about - left_out]


def lessons_of_questions():
    """Concept question -> the lessons that it stands under."""
    found = {}
    for title, text in re.findall(r"(?ms)^## (Lessons? [^\n]+)\n(.+?)(?=^## |\Z)", TEXT["concept-questions.md"]):
        about = set(map(int, re.findall(r"\d+", title.partition(":")[0])))
        found |= {int(number): about for number in re.findall(r"(?m)^(\d+)\. ", text)}
    return found


def heard(course):
    """Each week with the lessons that have been read when its session ends: at home only in weeks before."""
    read = set()
    for week in course.weeks:
        read |= {item.lesson for item in week.in_class if isinstance(item, syllabus.Read)}
        yield week, set(read)
        read |= {item.lesson for item in week.at_home if isinstance(item, syllabus.Read)}


@pytest.mark.parametrize("course", syllabus.COURSES, ids=lambda course: course.page)
def test_no_concept_question_is_about_a_lesson_that_is_still_to_come(course):
    early = [(week.about, n) for week, read in heard(course) for item in week.in_class
             if isinstance(item, syllabus.Ask) for n in item.numbers if not lessons_of_questions()[n] & read]
    assert early == []


@pytest.mark.parametrize("course", syllabus.COURSES, ids=lambda course: course.page)
def test_each_graded_assignment_is_given_out_once_when_its_lessons_have_been_read(course):
    given = [(item.assignment, read) for week, read in heard(course) for item in (*week.in_class, *week.at_home)
             if isinstance(item, syllabus.Graded)]
    assert sorted(name for name, _ in given) == sorted(ASSIGNMENTS)
    for name, read in given:
        first, *rest = map(int, re.findall(r"\d+", ASSIGNMENTS[name].lessons))
        needed = set(range(first, rest[0] + 1)) if " to " in ASSIGNMENTS[name].lessons else {first, *rest}
        assert needed <= read, name
        assert f"`{name}`**" in TEXT[f"{course.page}.md"]
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "graded").glob("*.py")}
    assert all(syllabus.line(syllabus.Graded(name))[1] >= 30 for name in sources)


@pytest.mark.parametrize("course", syllabus.COURSES, ids=lambda course: course.page)
def test_the_marks_add_up_and_their_points_are_those_of_the_pages(course):
    assert sum(one.share for one in course.marks) == 100
    graded, project, exam = course.marks
    assert graded.points == sum(one.points for one in ASSIGNMENTS.values())
    assert len(ASSIGNMENTS) == int(graded.what.split()[0])
    assert exam.points == EXAMS[course.page.replace("syllabus", "exam")]
    minutes = re.search(r"(\d+) minutes", TEXT[f"{course.page.replace('syllabus', 'exam')}.md"])[1]
    assert f"{minutes} minutes" in exam.what
    page = re.search(r"\((project-[\w-]+\.md)\)", project.what)[1]
    assert f"## Marking, {project.points} points" in TEXT[page]
    table = TEXT[f"{course.page}.md"].partition("## How the marks add up")[2]
    rows = re.findall(r"(?m)^\| .+ \| (\d+) \| (\d+) % \| ([\d.]+) % \|$", table)
    assert [(int(points), int(share)) for points, share, _ in rows] == [(one.points, one.share) for one in course.marks]
    assert all(abs(float(worth) * int(points) - int(share)) < 0.05 * int(share) for points, share, worth in rows)


# ---- what students do not get ------------------------------------------------------------------------------

def test_keys_exams_and_notes_are_for_teachers_alone():
    assert set(FOR_TEACHERS) <= set(TEXT)
    secret = {name for name in TEXT if re.search(r"exam|answers|notes|key", name)}
    assert secret == set(FOR_TEACHERS)


def test_pages_for_students_link_to_none_of_them():
    pages = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/**/*.*")]
             if path.suffix in (".md", ".py", ".ipynb") and path.name not in FOR_TEACHERS]
    assert len(pages) > 40
    names = "|".join(map(re.escape, FOR_TEACHERS))
    linking = [path.name for path in pages if re.search(rf"\]\([^)]*({names})", path.read_text(encoding="utf-8"))]
    assert linking == ["README.md"]                                # of docs/teaching, which is the teachers' own map


def test_minutes_are_those_of_the_lessons():
    for number, lesson in syllabus.lessons().items():
        source = (ROOT / "notebooks" / lesson.notebook).with_suffix(".py").read_text(encoding="utf-8")
        said = re.search(r"[Rr]eading\s+(?:it\s+)?takes\s+about\s+(\d+)\s+minutes", source.replace("\n#", "\n"))
        assert said and int(said[1]) == lesson.reading, f"lesson {number}"
        own = [minutes for name, (_, minutes) in syllabus.exercises().items() if name.startswith(f"{number}.")]
        assert len(own) >= 2
        assert syllabus.line(syllabus.Do(f"{number}.1"))[1] == own[0]
    assert set(syllabus.lessons()) == WRITTEN


# ---- whatever a page names is there ------------------------------------------------------------------------

def links():
    return sorted({(page, target) for page, text in TEXT.items()
                   for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in target})


@pytest.mark.parametrize(("page", "target"), links())
def test_a_link_leads_somewhere(page, target):
    assert (FOLDER / target).exists()


def test_every_page_is_in_the_index():
    index = TEXT["README.md"]
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("number", range(18))
def test_every_lesson_has_notes_under_its_own_name(number):
    title = re.search(rf"(?m)^## Lesson {number}: (.+)$", TEXT["instructor-notes.md"])
    assert title
    assert f"lesson_{number:02d}_" in TEXT["instructor-notes.md"]


def test_notes_have_all_their_parts():
    sections = re.split(r"(?m)^## ", TEXT["instructor-notes.md"])[1:]
    for section in sections:
        for part in ("**Aim.**", "**Plan.**", "| they believe | say | cell |", "**Where they get stuck.**"):
            assert section.count(part) == 1, (section.splitlines()[0], part)
        plan = section.partition("**Plan.**")[2].partition("\n\n")[0]
        starts, ends = zip(*re.findall(r"\b(\d+)-(\d+)\s", plan), strict=True)
        assert [*starts, "60"] == ["0", *ends], plan                                  # no gap, no overlap


def test_exercises_that_are_named_are_there():
    named = {number for text in TEXT.values() for number in re.findall(r"[Ee]xercise (\d+\.\d)", text)}
    assert len(named) > 20
    assert {number for number in named if int(number.split(".")[0]) in WRITTEN} <= set(syllabus.exercises())


def test_slides_that_are_named_are_figures():
    lines = re.findall(r"(?ms)^Slides: (.+?)\.$", TEXT["instructor-notes.md"])
    named = [name for line in lines for name in re.findall(r"`([a-z0-9-]+)`", line)]
    assert len(named) == len(set(named)) + 1                                          # prompt-tokens serves two
    assert set(named) == set(figures.FIGURES)


def commands():
    return sorted({span for text in TEXT.values() for span in re.findall(r"`((?:minivl|python|make|pip) [^`]+)`", text)}
                  | {line.strip() for text in TEXT.values() for line in re.findall(r"(?m)^ {4,}(python .+)$", text)})


@pytest.mark.parametrize("line", commands())
def test_a_command_that_is_named_is_there(line):
    words = line.split()
    if words[0] == "minivl":
        assert words[1] in get_command(cli.app).commands
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "make":
        assert re.search(rf"(?m)^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"))
    else:
        assert words[:2] == ["pip", "install"]


def test_code_is_python_and_names_what_the_package_has():
    blocks = [block for text in TEXT.values() for block in re.findall(r"```python\n(.+?)```", text, re.DOTALL)]
    assert len(blocks) >= 3
    for block in blocks:
        ast.parse(block)
    table = TEXT["project-own-minivl.md"].partition("| week | functions |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([\w.]+)`", table)) <= set(PLACES) | set(dir(definition))
    exhibits = re.search(r"among=\[([^\]]+)\]", TEXT["project-port-or-fault.md"])[1]
    assert set(re.findall(r'"([^"]+)"', exhibits)) <= set(faults.FAULTS)


def test_the_project_asks_for_every_pass_that_a_run_needs():
    from minivl.teach.check.own import missing
    page = TEXT["project-own-minivl.md"].partition("| week | functions |")[2].partition("\n\n")[0]
    assert missing(dict.fromkeys(re.findall(r"`([\w.]+)`", page), print)) == []


def test_the_command_prints_the_key(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teaching", "--key"])
    command.main()
    assert "exam-6-weeks-answers 1a: 588 x 1008\n" in capsys.readouterr().out


def test_the_command_refuses_what_it_does_not_know():
    done = subprocess.run([sys.executable, "-m", "tools.teaching", "--keys-of-all"], cwd=ROOT, capture_output=True,
                          text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr

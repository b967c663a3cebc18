"""A class: the roster and its pseudonyms, notebooks for each student, retakes, and grades for learning platforms."""

import csv
import json
import re
import stat
import sys

import pytest

from minivl.door.errors import ArgumentError
from minivl.teach.check import find as find_stage
from minivl.teach.check.draws import deck
from minivl.teach.check.judge import judge
from minivl.teach.course import gradebook, release, report, roster
from minivl.teach.course.assignments import ASSIGNMENTS, Asked, Assignment
from minivl.teach.course.grade import Mark, Row
from tools.course import class_of_sixty as sixty
from tools.course import lessons as forms

from ..cli.test_cli import minivl_, refused

MOODLE = ("First name,Last name,ID number,Email address\n"
          "Ada,Lovelace,17,ada@x.org\nGrace,\"Hopper, Dr\",18,grace@x.org\n")
CANVAS = ("Student,ID,SIS User ID,SIS Login ID,Section,Old (9)\n    Points Possible,,,,,3\n"
          "\"Lovelace, Ada\",501,s17,ada,A,2\n\"Hopper, Grace\",502,s18,grace,A,1\n")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limits of a submission's process are Linux's")


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def people(tmp_path):
    """A roster with pseudonyms, of Moodle's export; and the folder it is in."""
    (tmp_path / "class.csv").write_text(MOODLE, encoding="utf-8")
    minivl_("course", "pseudonyms", tmp_path / "class.csv", "-o", tmp_path / "roster.csv")
    return tmp_path / "roster.csv"


# ---- rosters -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "names"), [
    ("ada\nben b.\n\nÉva\n", ["ada", "ben b.", "Éva"]), ("\ufeffada\r\nben\r\n", ["ada", "ben"]),
    ("name;email\nada;a@x\nben;b@x\n", ["ada", "ben"]), ("pseudonym\nk7\nb2\n", ["k7", "b2"]),
    ("name,email,\nada,a@x,\n", ["ada"]), ("J\u006f\u0308rg\n", ["J\u00f6rg"]),
    ("First name\tSurname\nAda\tLovelace\n", ["Ada Lovelace"]), ("Full name,Email address\nAda,a@x\n,\n", ["Ada"])])
def test_a_roster_is_a_list_or_a_table(text, names, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    assert roster.read(tmp_path / "a.csv").students == names


@pytest.mark.parametrize(("text", "said"), [
    ("", "there is none"), ("name,email\n", "there is none"), ("../up\n", "cannot be the name of a folder"),
    ("ada\nada\n", "'ada' is there twice; `minivl course pseudonyms`"), ("a" * 101, "up to 100 letters"),
    ("name,email\nada,a@x\n,b@x\n", "student 2 has none there; the columns are name, email"),
    ("mail,number\na@x,3\n", "student 1 has none there; the columns are mail, number"),
    ("name,email\nHopper, Grace,g@x\n", "head, which has 2, but one is 'Hopper \\| Grace \\| g@x'"),
    ("name,email\n\"Ada,a@x\nBen,b@x\n", "a quote at both ends"),
    ("name,email\nada,\"" + "x" * 200_000, "cannot be read"),
    ("name,name\nada,ben\n", "'name' is there twice"),
    ("pseudonym,name\nk7,Ada\nk7,Ben\n", "'k7' is there twice; take"),
    ("name,email\n\"Hopper, Grace\",g@x\n", "minivl course pseudonyms")])
def test_a_roster_that_names_nobody_or_somebody_twice_is_refused(text, said, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError, match=said):
        roster.read(tmp_path / "a.csv")


def test_people_without_pseudonyms_are_told_apart_by_more_than_the_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,email\nJo M,j1@x\nJo M,j2@x\n", encoding="utf-8")
    assert len(roster.read(path, folders=False).rows) == 2
    path.write_text("Jo M\nJo M\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="add what tells them apart"):
        roster.read(path, folders=False)
    path.write_bytes(b"J\xf6rg\n")
    with pytest.raises(ArgumentError, match="its byte 2 belongs to another encoding"):
        roster.read(path, folders=False)


def test_a_pseudonym_stays_when_an_address_comes_later_and_is_nobodys_when_two_could_be_meant():
    names = roster.with_pseudonyms(roster.Roster(("name",), ({"name": "Ada L"}, {"name": "Jo M"})))
    now = [{"name": "Ada L", "email": "a@x"}, {"name": "Jo M", "email": "j1@x"}, {"name": "Jo M", "email": "j2@x"}]
    then = roster.with_pseudonyms(roster.merged(names, roster.Roster(("name", "email"), tuple(now))))
    ada, one, two, left = then.students
    assert [ada, left] == names.students and len({ada, one, two, left}) == 4


def test_pseudonyms_say_nothing_and_stay_with_their_people(tmp_path, people):
    first = roster.read(people)
    assert all(re.fullmatch(r"([b-df-hj-np-tv-z][2-9]){3}", name) for name in first.students)
    assert people.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) == 0
    later = MOODLE.replace("Ada,Lovelace,17", "Augusta,King,17") + "Emmy,Noether,19,emmy@x.org\n"
    (tmp_path / "class.csv").write_text(later, encoding="utf-8")
    out, err = minivl_("course", "pseudonyms", tmp_path / "class.csv", "-o", people)
    assert "3 students, 1 of them new" in out and "keep it out of folders" in err
    second = roster.read(people)
    assert second.students[:2] == first.students and second.rows[0]["First name"] == "Augusta"
    (tmp_path / "class.csv").write_text(MOODLE.split("Ada")[0] + "Emmy,Noether,19,emmy@x.org\n", encoding="utf-8")
    minivl_("course", "pseudonyms", tmp_path / "class.csv", "-o", people)
    assert set(roster.read(people).students) == set(second.students)            # who has left keeps a row


# ---- handing out -------------------------------------------------------------------------------------------

def test_the_packed_notebooks_are_those_of_the_sources():
    assert release.BLANK == forms.BLANK and (release.BEGIN, release.END) == (forms.BEGIN, forms.END)
    assert {path.stem for path in forms.graded()} == set(ASSIGNMENTS)
    stale = [path.name for path, text in forms.made() if path.parent == forms.GRADED and path.read_bytes() != text]
    assert not stale, "write them anew: python tools/course/lessons.py"
    for name in ASSIGNMENTS:
        text = json.dumps(release.notebook(name))
        assert not re.search(r"BEGIN|END (SOLUTION|HIDDEN)|seed=20|instructor", text) and forms.BLANK in text
        marked = "\n".join("".join(cell["source"]) for cell in release.with_markers(release.notebook(name))["cells"])
        blanks = forms.student_form(marked).count(forms.BLANK)
        assert blanks == marked.count(release.BEGIN) == len(ASSIGNMENTS[name].asked)


def test_with_pseudonyms_no_name_is_in_what_is_handed_out(tmp_path, people):
    out, _ = minivl_("course", "release", tmp_path / "c", "--roster", people, "--student", "guest")
    students = [*roster.read(people).students, "guest"]
    assert f"{5 * 3} notebooks for 3 students" in out and "pictures, windows, positions" in out
    for student in students:
        for name in ASSIGNMENTS:
            text = (tmp_path / "c" / "release-for" / student / name / f"{name}.ipynb").read_text(encoding="utf-8")
            assert f"STUDENT = '{student}'" in text
    written = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert not [path for path in written if re.search(b"Lovelace|Hopper|x[.]org", path.read_bytes())]


def test_what_cannot_be_handed_out_is_refused(tmp_path, monkeypatch):
    assert "did you mean 'pictures'" in refused("course", "release", tmp_path / "c", "--assignment", "picture")
    assert "cannot be the name of a folder" in refused("course", "release", tmp_path / "c", "--student", "../up")
    assert "none.csv" in refused("course", "release", tmp_path / "c", "--roster", tmp_path / "none.csv")
    assert not (tmp_path / "c").exists()
    monkeypatch.setattr(release, "PACKED", tmp_path)
    monkeypatch.setattr(release, "CHECKOUT", tmp_path)
    assert "install minivl anew" in refused("course", "release", tmp_path / "c")


def all_right(exercise, function):
    """Whether a function is right on forty inputs that are not those by which variants are chosen."""
    return all(judge(exercise, function, case).kind == "right" for case in deck(exercise.draw, 77, 40))


# ---- retakes -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_retake_asks_for_another_rule_in_every_exercise(name):
    assignment = ASSIGNMENTS[name]
    for student in ("student 0", "student 1", "f8m8x8", "k5j3w7"):      # the last two need more than other words
        variants = [release.variant_of(student, assignment, attempt) for attempt in (1, 2, 3)]
        assert variants[0] == student and variants == [release.variant_of(student, assignment, n) for n in (1, 2, 3)]
        for asked in assignment.asked:
            rules = [find_stage(asked.stage).varied(variant) for variant in variants]
            for n, m in ((0, 1), (0, 2), (1, 2), (2, 1)):
                assert not all_right(rules[m], rules[n].definition), (student, asked.stage)
            assert all_right(rules[1], rules[1].definition)                          # else this would say nothing


def test_a_retake_that_would_repeat_a_rule_is_refused():
    few = Assignment("few", "", (Asked("penalise", "penalise"),))
    rules = len({find_stage("penalise").varied(n).asks for n in range(300)})
    assert release.variant_of("ada", few, rules)
    with pytest.raises(ValueError, match=f"none left for attempt {rules + 1}"):
        release.variant_of("ada", few, rules + 1)


@LINUX
def test_a_retake_is_graded_by_its_own_rule_and_the_roster_shows_who_is_missing(tmp_path, people):
    ada, grace = roster.read(people).students
    again = release.variant_of(ada, ASSIGNMENTS["pictures"], 2)
    for folder, variant in (("first", ada), ("second", again)):
        for path, text in sixty.file(sixty.book(variant, sixty.right(variant))).items():
            (tmp_path / folder / ada / path).parent.mkdir(parents=True)
            (tmp_path / folder / ada / path).write_bytes(text)
    common = ("--roster", people, "-o", tmp_path / "graded", "--seed", "3")
    out, _ = minivl_("course", "grade", tmp_path / "first", *common)
    assert f"{ada}  3 of 3  all: right" in out and f"{grace}  0 of 3  all: nothing was handed in" in out
    out, _ = minivl_("course", "grade", tmp_path / "first", *common, "--attempt", "2")
    assert f"{ada}  0 of 3" in out and grace not in out                         # the old rule is wrong now
    out, _ = minivl_("course", "grade", tmp_path / "second", *common, "--attempt", "2")
    assert f"{ada}  3 of 3  all: right" in out
    record = json.loads((tmp_path / "graded" / "pictures-attempt-2" / "grading.json").read_text(encoding="utf-8"))
    assert record["attempt"] == 2 and record["students"] == 1


def test_feedback_names_the_variant_that_was_asked_for():
    row = Row("ada", "pictures", (Mark(Asked("patchify", "patchify"), 0, "wrong", "no"),), (), "ada, attempt 2")
    assert "variant='ada, attempt 2')" in report.feedback(row) and "variant='ada')" in report.feedback(
        row._replace(variant=""))


# ---- grades ------------------------------------------------------------------------------------------------

def results(folder, students, points):
    """RESULTS as grading writes them: home -> points of each student."""
    for home, given in points.items():
        name = home.partition("-attempt-")[0]
        (folder / home).mkdir(parents=True)
        rows = [Row(student, name, tuple(Mark(asked, int(n < one), "", "") for n, asked in
                                         enumerate(ASSIGNMENTS[name].asked)))
                for student, one in zip(students, given, strict=False)]
        report.write_table(folder / home / "grades.csv", report.grades(rows))


def test_moodle_gets_its_own_columns_and_a_dash_for_nothing(tmp_path, people):
    results(tmp_path / "g", roster.read(people).students, {"pictures": (3, 1), "blocks": (2,)})
    minivl_("course", "grades", tmp_path / "g", "--roster", people, "--for", "moodle", "-o", tmp_path / "m.csv")
    assert table(tmp_path / "m.csv") == [
        ["First name", "Last name", "ID number", "Email address", "pictures", "blocks"],
        ["Ada", "Lovelace", "17", "ada@x.org", "3", "2"], ["Grace", "Hopper, Dr", "18", "grace@x.org", "1", "-"]]
    assert (tmp_path / "m.csv").stat().st_mode & 0o077 == 0


def test_canvas_gets_its_five_columns_and_the_row_of_possible_points(tmp_path):
    (tmp_path / "class.csv").write_text(CANVAS, encoding="utf-8")
    minivl_("course", "pseudonyms", tmp_path / "class.csv", "-o", tmp_path / "roster.csv")
    people = roster.read(tmp_path / "roster.csv")
    results(tmp_path / "g", people.students, {"windows": (3,)})
    minivl_("course", "grades", tmp_path / "g", "--roster", tmp_path / "roster.csv", "--for", "canvas",
            "-o", tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text(encoding="utf-8") == (
        "Student,ID,SIS User ID,SIS Login ID,Section,windows\n    Points Possible,,,,,3\n"
        "\"Lovelace, Ada\",501,s17,ada,A,3\n\"Hopper, Grace\",502,s18,grace,A,\n")


def test_of_several_attempts_the_best_or_the_last_counts(tmp_path, people):
    ada, grace = roster.read(people).students
    results(tmp_path / "g", [ada, grace], {"pictures": (3, 1), "pictures-attempt-2": (2,)})
    assert gradebook.read(tmp_path / "g") == {"pictures": {ada: 3, grace: 1}}
    assert gradebook.read(tmp_path / "g", "last") == {"pictures": {ada: 2, grace: 1}}


@pytest.mark.parametrize("text", ["student_id;score\nk7;3\n", "student_id,score\nk7\n", "student_id,score\nk7,x\n"])
def test_marks_that_a_spreadsheet_has_changed_are_told(text, tmp_path):
    path = tmp_path / "pictures" / "grades.csv"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError, match="line 2 has not .*save it as CSV with commas"):
        gradebook.read(tmp_path)
    path.write_text("\ufeffstudent_id,score\nk7,2.5\n", encoding="utf-8")
    assert gradebook.read(tmp_path) == {"pictures": {"k7": 2.5}}


def test_marks_of_nobody_in_the_roster_are_told_and_left_out(tmp_path, people):
    results(tmp_path / "g", ["stranger"], {"pictures": (3,)})
    _, err = minivl_("course", "grades", tmp_path / "g", "--roster", people, "-o", tmp_path / "p.csv")
    assert "1 with marks are not in the roster" in err
    head, *rows = table(tmp_path / "p.csv")
    assert head[0] == "pseudonym" and [row[-1] for row in rows] == ["", ""]


def test_a_platform_that_could_find_nobody_is_refused(tmp_path, people):
    results(tmp_path / "g", ["ada"], {"pictures": (3,)})
    (tmp_path / "names.txt").write_text("ada\n", encoding="utf-8")
    words = ("course", "grades", tmp_path / "g", "-o", tmp_path / "m.csv", "--roster")
    said = refused(*words, tmp_path / "names.txt", "--for", "moodle")
    assert "Moodle finds a student by one of Email address" in said
    assert "Canvas finds a student by one of ID" in refused(*words, people, "--for", "canvas")
    assert "must be for one of plain, moodle, canvas" in refused(*words, people, "--for", "blackboard")
    assert "must be one of best, last" in refused(*words, people, "--counts", "mean")
    assert "NAME/grades.csv" in refused("course", "grades", tmp_path, "--roster", people, "-o", tmp_path / "m.csv")


def test_a_name_is_no_formula_in_a_spreadsheet(tmp_path):
    people = roster.Roster(("name",), ({"name": "=1+1"},))
    assert gradebook.table("plain", {"pictures": {}}, people)[1] == ["'=1+1", "'=1+1", ""]

"""`minivl course copy`: nothing of a learner's work is ever written over. And the course as nbgrader keeps it."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

from minivl.cli import doctor
from minivl.teach.check import find as find_stage
from minivl.teach.course import lessons, release
from minivl.teach.course.assignments import ASSIGNMENTS
from tools.course import lessons as forms
from tools.course import nbgrader as course

from ..cli.test_cli import minivl_, refused
from ..notebook_cells import failures_of

ROOT = Path(__file__).parent.parent.parent
NAMES = [path.name for path in sorted((ROOT / "notebooks").glob("lesson_*.ipynb"))]


def edited(path, text="# mine", outputs=()):
    """Change a cell of a notebook, or only what it has printed, as Jupyter saves it."""
    book = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    cell["source"] = cell["source"] if outputs else text
    cell["outputs"] = list(outputs)
    path.write_text(json.dumps(book, indent=2), encoding="utf-8")


def deeds(folder, update=False):
    return {done.file: done.deed for done in lessons.copied(folder, update)}


@pytest.fixture
def newer(tmp_path, monkeypatch):
    """Call it, and the package's first three lessons are those of a later version."""
    def release():
        later = tmp_path / "later version"
        later.mkdir()
        for path in lessons.available():
            (later / path.name).write_bytes(path.read_bytes())
        for name in NAMES[:3]:
            edited(later / name, "# the new version")
        monkeypatch.setattr(lessons, "PACKED", later)
        return {name: (later / name).read_bytes() for name in NAMES}
    return release


# ---- copy --------------------------------------------------------------------------------------------------

def test_a_first_copy_is_the_lessons_and_a_second_changes_nothing(tmp_path):
    folder = tmp_path / "my lessons" / "é"
    assert deeds(folder) == dict.fromkeys(NAMES, "new")
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert held.keys() == {*NAMES, lessons.NOTE}
    assert all(held[name] == (ROOT / "notebooks" / name).read_bytes() for name in NAMES)
    assert deeds(folder) == deeds(folder, update=True) == dict.fromkeys(NAMES, "same")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held


def test_an_update_replaces_what_nobody_edited_and_goes_beside_what_somebody_did(tmp_path, newer):
    folder = tmp_path / "mine"
    deeds(folder)
    edited(folder / NAMES[0])
    edited(folder / NAMES[1], outputs=[{"output_type": "stream", "name": "stdout", "text": "run"}])
    edited(folder / NAMES[4])
    mine = {name: (folder / name).read_bytes() for name in (NAMES[0], NAMES[4])}
    later = newer()
    assert deeds(folder) == {name: "kept" if name in mine else "older" if name in NAMES[:3] else "same"
                             for name in NAMES}
    beside = f"{NAMES[0].removesuffix('.ipynb')}.new.ipynb"
    done = deeds(folder, update=True)
    assert done == {beside: "beside", NAMES[1]: "replaced", NAMES[2]: "replaced", NAMES[4]: "kept",
                    **dict.fromkeys([NAMES[3], *NAMES[5:]], "same")}
    assert {name: (folder / name).read_bytes() for name in mine} == mine
    assert [(folder / name).read_bytes() for name in (beside, NAMES[1], NAMES[2])] == [
        later[name] for name in NAMES[:3]]
    assert deeds(folder, update=True)[beside] == "same"


def test_an_edited_new_version_is_somebodys_work_too(tmp_path, newer):
    folder = tmp_path / "mine"
    deeds(folder)
    edited(folder / NAMES[0])
    newer()
    stem = NAMES[0].removesuffix(".ipynb")
    deeds(folder, update=True)
    edited(folder / f"{stem}.new.ipynb")
    assert deeds(folder, update=True)[f"{stem}.new-2.ipynb"] == "beside"
    assert b"# mine" in (folder / f"{stem}.new.ipynb").read_bytes()


@pytest.mark.parametrize("note", [None, b"", b"[1]", b'{"lesson": '])
def test_without_a_note_of_what_was_copied_every_older_lesson_counts_as_edited(note, tmp_path, newer):
    folder = tmp_path / "mine"
    deeds(folder)
    before = (folder / NAMES[0]).read_bytes()
    (folder / lessons.NOTE).unlink()
    if note is not None:
        (folder / lessons.NOTE).write_bytes(note)
    newer()
    assert deeds(folder, update=True)[f"{NAMES[0].removesuffix('.ipynb')}.new.ipynb"] == "beside"
    assert (folder / NAMES[0]).read_bytes() == before


def test_a_lesson_that_is_no_notebook_any_more_is_left_alone(tmp_path, newer):
    folder = tmp_path / "mine"
    deeds(folder)
    (folder / NAMES[0]).write_bytes(b"an evening's work")
    (folder / NAMES[1]).unlink()
    newer()
    done = deeds(folder, update=True)
    assert (folder / NAMES[0]).read_bytes() == b"an evening's work" and done[NAMES[1]] == "new"


def test_on_the_command_line_it_says_a_line_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "WANTED", [(("json",), "is there")])
    out, err = minivl_("course", "copy", tmp_path / "a")
    assert [line.split() for line in out.splitlines()] == [["new", name] for name in NAMES] and err == ""
    edited(tmp_path / "a" / NAMES[0])
    out, _ = minivl_("course", "copy", tmp_path / "a", "--update")
    assert re.search(rf"kept +{NAMES[0]} +is yours; there is no newer version\n", out)


def test_copy_and_doctor_say_what_is_missing_to_run_the_lessons(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "WANTED", [(("json",), "is there"), (("absent_a", "absent_b"), "opens them"),
                                            (("absent_c", "json"), "is there too")])
    said = 'absent_a (opens them): pip install "minivl[course]"'
    assert minivl_("course", "copy", tmp_path / "a")[1] == f"To run the lessons you still need {said}\n"
    found = doctor.lessons()
    assert found == {"missing": ["absent_a (opens them)"], "install": 'pip install "minivl[course]"'}
    assert doctor.lessons_words(found) == f"still need {said}"
    assert doctor.lessons_words({**found, "missing": []}) == "can run here"


def test_the_extra_course_is_all_that_the_lessons_need_and_no_more():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brought = {re.split(r"[^\w-]", one)[0] for one in extras["course"]}
    assert brought == {modules[0] for modules, _ in lessons.WANTED}
    assert extras["teacher"][0] == "minivl[course]" and any(one.startswith("nbgrader") for one in extras["teacher"])
    needed = {name.partition(".")[0] for path in forms.sources()
              for name in re.findall(r"(?m)^(?:import|from) ([\w.]+)", path.read_text(encoding="utf-8"))}
    core = {"minivl", "numpy", "PIL", "ml_dtypes"} | set(sys.stdlib_module_names)
    assert needed <= core | brought


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    said = refused("course", "copy", tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file, not a folder" in " ".join(said.split())
    assert "Missing argument" in refused("course", "copy")


def test_an_installation_without_lessons_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "PACKED", tmp_path)
    monkeypatch.setattr(lessons, "CHECKOUT", tmp_path)
    assert f"{tmp_path}: the installed package holds no lessons" in refused("course", "copy", tmp_path / "a")
    assert not (tmp_path / "a").exists()


# ---- graded assignments ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", course.graded())
def test_a_graded_assignment_is_solved_in_its_source_and_asked_in_its_release(name):
    source = course.sources()[name]
    solved, released = (forms.notebook(form) for form in (source, forms.student_form(source)))
    assert failures_of(solved) == {}
    failed = failures_of(released)
    checks = [n for n, cell in enumerate(released.cells) if "check" in cell.metadata.get("tags", [])]
    assert list(failed) == checks
    for asked, said in zip(ASSIGNMENTS[name].asked, failed.values(), strict=True):
        assert said.startswith(f"AssertionError: {asked.stage}: not right yet.\n  Your function gives None")
    # An answer that is right for one student is not for one whose variant differs in every exercise.
    other = next(f"student {n}" for n in range(99) if all(
        find_stage(one.stage).varied(f"student {n}").asks != find_stage(one.stage).varied("instructor").asks
        for one in ASSIGNMENTS[name].asked))
    assert list(failures_of(release.named(solved, other))) == checks


def test_the_table_of_assignments_is_what_the_sources_ask():
    assert sorted(ASSIGNMENTS) == course.graded() == sorted(path.stem for path in forms.GRADED.glob("*.py"))
    assert sum(len(one.asked) for one in ASSIGNMENTS.values()) >= 8
    for name, assignment in ASSIGNMENTS.items():
        source = course.sources()[name]
        found = re.findall(r'(?m)^result = minivl\.check\("([\w.]+)", (\w+), variant=STUDENT\)$', source)
        assert found == [(asked.stage, asked.function) for asked in assignment.asked]
        assert all(find_stage(asked.stage).variants and asked.points == forms.POINTS for asked in assignment.asked)
        assert all(source.count(f"\ndef {asked.function}(") == 1 for asked in assignment.asked)


def test_every_graded_stage_has_a_few_variants_as_the_page_says():
    page = (ROOT / "docs" / "teaching" / "grading.md").read_text(encoding="utf-8")
    low, high = map(int, re.search(r"stages have between (\d+) and (\d+) variants", page).groups())
    counts = [len({find_stage(asked.stage).varied(n).asks for n in range(200)})
              for one in ASSIGNMENTS.values() for asked in one.asked]
    assert (min(counts), max(counts)) == (low, high)


def released(folder):
    return {path.parent.name: nbformat.read(path, as_version=4) for path in (folder / "release").glob("*/*.ipynb")}


def holds_no_answer(book):
    text = "\n".join(cell.source for cell in book.cells)
    return not re.search(r"BEGIN|END (SOLUTION|HIDDEN)|seed=20", text) and forms.BLANK in text


def test_the_release_has_no_solution_and_no_hidden_test(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=importlib.util.find_spec:
                        None if name == "nbgrader" else there(name))
    (tmp_path / "class.txt").write_text("ben b.\n\nÉva\n", encoding="utf-8")
    course.main([str(tmp_path / "c"), "--seed", "ada", "--roster", str(tmp_path / "class.txt")])
    said = capsys.readouterr()
    assert "for 3 students by name" in said.out and "nbgrader is not installed" in said.err
    books = released(tmp_path / "c")
    assert books.keys() == course.sources().keys() and all(map(holds_no_answer, books.values()))
    for name, book in books.items():
        nbformat.validate(book)
        whole = nbformat.read(tmp_path / "c" / "source" / name / f"{name}.ipynb", as_version=4)
        assert any("BEGIN SOLUTION" in cell.source for cell in whole.cells)
    assert f"STUDENT = {release.YOURS!r}" in books["pictures"].cells[1].source
    for student in ("ada", "ben b.", "Éva"):
        mine = nbformat.read(tmp_path / "c" / "release-for" / student / "blocks" / "blocks.ipynb", as_version=4)
        assert f"STUDENT = {student!r}\n" in mine.cells[1].source + "\n" and holds_no_answer(mine)


def test_the_release_by_nbgrader_is_the_same(tmp_path, monkeypatch):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install 'minivl[teacher]'")
    some = {name: text for name, text in course.sources().items() if name in ("pictures", Path(NAMES[3]).stem)}
    monkeypatch.setattr(course, "sources", lambda: some)
    course.build(tmp_path / "c", ["ada"])
    books = released(tmp_path / "c")
    assert books.keys() == course.sources().keys() and all(map(holds_no_answer, books.values()))
    for name, source in course.sources().items():
        ours = release.named(forms.notebook(forms.student_form(source)), release.YOURS)
        assert [cell.source.strip() for cell in books[name].cells] == [cell.source.strip() for cell in ours.cells], name
    assert (tmp_path / "c" / "gradebook.db").exists()


def test_without_a_checkout_nbgrader_releases_the_same(tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install 'minivl[teacher]'")
    release.release(tmp_path / "c", ["ada"], [ASSIGNMENTS["pictures"]])
    ours = release.notebook("pictures")["cells"]
    theirs = released(tmp_path / "c")["pictures"].cells
    assert ["".join(cell["source"]).strip() for cell in ours] == [cell.source.strip() for cell in theirs]
    assert (tmp_path / "c" / "gradebook.db").exists() and (tmp_path / "c" / "release-for" / "ada").is_dir()


@pytest.mark.parametrize(("words", "said"), [
    (["--seed", "../up"], "cannot be the name of a folder"), (["--roster", "none.txt"], "none.txt: No such file")])
def test_what_cannot_be_released_is_refused(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        course.main([str(tmp_path / "c"), *words])
    assert left.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("source", [
    "### BEGIN HIDDEN TESTS\nx = 1\n", "x = 1\n### END HIDDEN TESTS\n",
    "### BEGIN SOLUTION\n### BEGIN HIDDEN TESTS\n", "### BEGIN HIDDEN TESTS\n### END SOLUTION\n"])
def test_hidden_tests_without_their_partner_are_refused(source):
    with pytest.raises(ValueError, match="line "):
        forms.student_form(source)

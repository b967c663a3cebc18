"""Grading: a mark and a reason for whatever is handed in, the answer key out of reach, and no test in the feedback.

Submissions are those of `tools/course/class_of_sixty.py`; what they deserve is written there by hand.
"""

import ast
import csv
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minivl.teach.check import find as find_stage
from minivl.teach.check.draws import deck
from minivl.teach.course import grade, notebook, process, refusal, report
from minivl.teach.course.assignments import ASSIGNMENTS, Asked, Assignment
from minivl.teach.course.grade import Test as Drawn
from minivl.teach.course.process import Limits, Outcome, Run
from tools.course import class_of_sixty as sixty

from ..cli.test_cli import minivl_, refused
from .check.versions import load

PICTURES = ASSIGNMENTS["pictures"]
FUNCTIONS = [asked.function for asked in PICTURES.asked]
CLASS = {student.name: student for student in sixty.members()}
EIGHT = ("ada5", "karl", "xaver", "nils", "uwe", "vicky", "wanda", "xenia")
QUICK = Limits(patience=1.0)
NO_LIMITS = pytest.mark.skipif(sys.platform != "linux", reason="the limits of a submission's process are Linux's")

ODD_FILES = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names, and links need rights there")


# ---- the whole way -----------------------------------------------------------------------------------------

def graded(folder, names, *words):
    """Hand in, grade with one command, and give the rows of marks.csv."""
    sixty.write(folder / "submitted", [CLASS[name] for name in names])
    out, err = minivl_("course", "grade", folder / "submitted", "--assignment", "pictures", "-o", folder / "graded",
                       "--seed", "5", *words)
    assert len(out.splitlines()) == len(names) and f"{len(names)} students" in err
    with (folder / "graded" / "pictures" / "marks.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def examine(folder, names, rows):
    """One row a student with the mark deserved and a reason; tables that agree; feedback without a test in it."""
    home = folder / "graded" / "pictures"
    assert [row["student_id"] for row in rows] == sorted(names)
    assert [told for row in rows if (told := sixty.unfair(CLASS[row["student_id"]], int(row["score"]),
                                                          row["reason"]))] == []
    with (home / "grades.csv").open(encoding="utf-8", newline="") as table:
        exported = list(csv.DictReader(table))
    assert list(exported[0]) == list(report.GRADEBOOK)
    assert [(r["student_id"], r["score"], r["max_score"]) for r in exported] == [
        (r["student_id"], r["score"], "3") for r in rows]
    assert (home / "marks.md").read_text(encoding="utf-8").count("\n| ") == len(names) + 1
    record = json.loads((home / "grading.json").read_text(encoding="utf-8"))
    assert record["seed"] == 5 and record["students"] == len(names) and len(record["package_sha256"]) == 64
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (home / "feedback").iterdir()}
    assert pages.keys() == set(names)
    for text in pages.values():
        assert not re.search(rf"\d\.\d|{sixty.SECRET}|HIDDEN|seed|expected(?! ':')|array\(|\[\d", text), text


@NO_LIMITS
def test_eight_of_the_class_get_what_they_deserve(tmp_path):
    before = (sixty.PACKAGE / "passes" / "patches.py").read_bytes()
    examine(tmp_path, EIGHT, graded(tmp_path, EIGHT, "--patience", "2"))
    assert (sixty.PACKAGE / "passes" / "patches.py").read_bytes() == before


@pytest.mark.full
@NO_LIMITS
def test_all_sixty_get_what_they_deserve(tmp_path):
    assert len(CLASS) == 60
    examine(tmp_path, list(CLASS), graded(tmp_path, list(CLASS)))


def test_what_cannot_be_graded_is_refused(tmp_path):
    assert "is no folder" in refused("course", "grade", tmp_path / "none", "--assignment", "pictures")
    assert "holds no folders" in refused("course", "grade", tmp_path, "--assignment", "pictures")
    (tmp_path / "ada").mkdir()
    said = refused("course", "grade", tmp_path, "--assignment", "picture")
    assert "no assignment 'picture'; did you mean 'pictures'?" in said
    assert "--assignment" in refused("course", "grade", tmp_path)
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    assert "out" in refused("course", "grade", tmp_path, "--assignment", "pictures", "-o", tmp_path / "out")


@ODD_FILES
def test_a_folder_that_would_spoil_the_tables_is_refused_before_anything_is_graded(tmp_path):
    odd = {"release-for": "what you hand out", "a\nb": "rename it", "x" * 201: "200 bytes", "é" * 101: "200 bytes"}
    for n, (name, said) in enumerate(odd.items()):
        (tmp_path / str(n) / name / "pictures").mkdir(parents=True)
        assert said in refused("course", "grade", tmp_path / str(n))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name of a file is Unicode")
def test_a_folders_name_in_another_encoding_is_told_before_anything_is_graded(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/j\xf6rg")).mkdir()
    with pytest.raises(ValueError, match=r"holds 'j\\udcf6rg': rename it"):
        grade.students(tmp_path)


def test_a_defect_of_grading_costs_one_row_and_says_so(tmp_path, monkeypatch):
    for name in ("ada", "ben"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(grade, "grade_one", lambda folder, student, *rest: 1 // (student != "ada") and
                        grade.Row(student, "pictures", ()))
    ada, ben = grade.grade(tmp_path, PICTURES, 0, QUICK)
    assert "could not be graded (ZeroDivisionError): look at it by hand" in ada.reason and ben.student == "ben"


# ---- files -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("student", list(sixty.in_files()), ids=lambda student: student.name)
def test_whatever_an_editor_made_of_it_the_code_is_read(student, tmp_path):
    sixty.write(tmp_path, [student])
    try:
        found = notebook.find(tmp_path / student.name, "pictures", FUNCTIONS)
    except notebook.Unreadable as reason:
        assert student.points == 0 and re.search(student.reason.removeprefix("^all: "), str(reason))
        return
    defined = [name for name in FUNCTIONS if notebook.defines(found.code, name)]
    broken = [cell.error for cell in notebook.parsed(found.code) if cell.error]
    assert len(defined) - len(broken) == student.points
    assert not any("\r" in code.source for code in found.code)


@pytest.mark.parametrize(("text", "reason"), [
    (b"\xff\xfe\x00", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[1]", "no cells"), (b'{"cells": 3}', "no cells"),
    (b'{"cells": [3]}', "no cells"), (b'{"cells": []}', "no code cell"), (b'{"worksheets": null}', "no code cell"),
    (b'{"worksheets": 5}', "no cells"), (b'{"worksheets": [1]}', "no cells"),
    (b'{"worksheets": [{"cells": [1]}]}', "no cells"),
    (json.dumps({"cells": [{"cell_type": "code", "source": "#" * 100_000}] * 3}).encode(), "300000 characters")])
def test_what_is_no_notebook_is_told(text, reason, tmp_path):
    (tmp_path / "pictures.ipynb").write_bytes(text)
    with pytest.raises(notebook.Unreadable, match=reason):
        notebook.find(tmp_path, "pictures", FUNCTIONS)


def test_of_several_notebooks_the_one_with_the_functions_is_taken(tmp_path):
    book = {"cells": [{"cell_type": "code", "source": "def patchify(a, b):\n    return a\n", "metadata": {}}]}
    (tmp_path / "b.ipynb").write_text(json.dumps(book), encoding="utf-8")
    book["cells"][0]["source"] = "x = 1"
    for name in ("a.ipynb", "c.ipynb", ".ipynb_checkpoints/pictures.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(book), encoding="utf-8")
    assert notebook.find(tmp_path, "pictures", FUNCTIONS).path.name == "b.ipynb"


@ODD_FILES
def test_a_students_own_words_write_no_line_in_the_teachers_tables(tmp_path):
    cell = {"cell_type": "x\nben  3 of 3  right", "source": "a = 1", "metadata": {"nbgrader": {"solution": 1}}}
    book = {"cells": [cell]}
    (tmp_path / "\x1b[2J\nben  3 of 3.ipynb").write_text(json.dumps(book), encoding="utf-8")
    (tmp_path / ("y" * 200)).write_text(json.dumps(book), encoding="utf-8")
    for _ in range(2):
        found = notebook.find(tmp_path, "pictures", FUNCTIONS)
        assert all(note.isprintable() and len(note) < 130 for note in found.notes) and len(found.notes) == 2
        found.path.unlink()
    (tmp_path / "\x1b[2J").write_text("no notebook", encoding="utf-8")
    with pytest.raises(notebook.Unreadable) as reason:
        notebook.find(tmp_path, "pictures", FUNCTIONS)
    assert str(reason.value).isprintable()


@ODD_FILES
def test_a_link_to_somebody_elses_folder_is_not_followed(tmp_path):
    sixty.write(tmp_path, [CLASS["ada5"]])
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "pictures").symlink_to(tmp_path / "ada5" / "pictures", target_is_directory=True)
    with pytest.raises(notebook.Unreadable, match="link to another"):
        notebook.find(tmp_path / "ben", "pictures", FUNCTIONS)


def test_looking_for_a_function_takes_no_longer_in_odd_text():
    """A million empty lines, each of which once was a place to begin at: seconds would be hours."""
    start = time.process_time()
    assert not notebook.defines([notebook.Code(1, "\n" * 1_000_000)], "f")
    assert time.process_time() - start < 5
    assert notebook.defines([notebook.Code(1, "if 1:\n\tdef  f (x): pass")], "f")
    assert not notebook.defines([notebook.Code(1, "def f2(x): pass\ng.f = 1")], "f")


def test_magics_are_taken_out_line_for_line():
    source = "%matplotlib inline\nx = 5 % 3\n  !ls\nnp.sum?\n?np\nif x != 1:\n    print('100 %!')\n"
    assert notebook.without_magics(source) == (
        "pass\nx = 5 % 3\n  pass\npass\npass\nif x != 1:\n    print('100 %!')\n")
    assert notebook.without_magics("%%bash\nrm -r /\n") == "\n\n"


# ---- what is refused by its text ---------------------------------------------------------------------------

def cells(*sources):
    return list(notebook.parsed([notebook.Code(n, source) for n, source in enumerate(sources, start=1)]))


def against(student, name):
    """What speaks against a student's function, in words; empty when nothing does."""
    made = json.loads(next(iter(student.make(student.name).values())))
    code, _ = notebook._code(made)
    return str(refusal.refused(list(notebook.parsed(code)), name) or "")


@pytest.mark.parametrize("student", list(sixty.refused()), ids=lambda one: one.name)
def test_a_solution_that_cheats_is_refused_with_the_reason(student):
    said = against(student, "patchify")
    assert said and re.search(student.reason.removeprefix("^all: "), f"patchify: refused: {said}"), said
    assert not against(student, "target_size") and not against(student, "normalise")


@NO_LIMITS
@pytest.mark.parametrize("student", list(sixty.fenced()), ids=lambda one: one.name)
def test_what_is_not_refused_by_its_text_gains_nothing_in_the_process(student, tmp_path):
    sixty.write(tmp_path, [student])
    row = grade.grade_one(tmp_path / student.name, student.name, PICTURES, 5, QUICK)
    assert sixty.unfair(student, row.score, row.reason) == ""
    assert against(student, "patchify") == ""                   # the fence alone has stopped it


DEEP = ("pixels" + ".a" * 900, "pixels" + ".a" * 2900, "+".join(["pixels"] * 2000), "pixels" + "[0]" * 900)


@NO_LIMITS
@pytest.mark.parametrize("deep", DEEP, ids=lambda text: text[-6:])
def test_a_solution_that_nobody_can_read_has_no_points_and_a_reason(deep, tmp_path):
    """What is too deep for the look at the text does not run either: it could be a copy."""
    sixty.write(tmp_path, [CLASS["ada5"]])
    path = tmp_path / "ada5" / "pictures" / "pictures.ipynb"
    book = json.loads(path.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        text = "".join(cell["source"])
        start = text.find("def normalise")
        if cell["cell_type"] == "code" and start >= 0:
            head, _, body = text[start:].partition("\n")
            cell["source"] = f"{text[:start]}{head}\n    if 0: {deep}\n{body}"
    path.write_text(json.dumps(book), encoding="utf-8")
    row = grade.grade_one(tmp_path / "ada5", "ada5", PICTURES, 5, QUICK)
    assert row.score == 2 and "nested too deeply" in row.reason


def test_what_python_warns_of_in_a_cell_is_not_the_teachers(recwarn):
    assert refusal.refused(cells("def f(x):\n    assert (x, 'a')\n    return 1 is 1, '\\d'"), "f") is None
    assert not recwarn.list


@pytest.mark.parametrize("student", list(sixty.in_style()), ids=lambda one: one.name)
def test_right_solutions_are_not_refused_whatever_else_is_in_the_notebook(student):
    assert [against(student, name) for name in FUNCTIONS] == [""] * 3


@pytest.mark.parametrize(("source", "words"), [
    ("def f(x):\n    import minivl\n    return minivl.passes.f(x)", "line 2: uses minivl itself"),
    ("from minivl.passes.windows import *\ndef f(x):\n    return restore_order(x, x)", "uses minivl itself"),
    ("import minivl\ng = minivl.passes\ndef h(x): return g.f(x)\nclass A:\n    run = h\ndef f(x): return A.run(x)",
     "line 1: uses minivl itself"),
    ("import minivl\nhelp = []\nhelp[0:] = [minivl.passes]\ndef f(x): return help[0](x)", "uses minivl itself"),
    ("import minivl\ndef f(x, g=minivl.passes.g): return g(x)", "uses minivl itself"),
    ("import minivl\ndef keep():\n    global g\n    g = minivl.passes.g\ndef f(x): return g(x)",
     "uses minivl itself"),
    ("import minivl\nfor g in [minivl.passes.g]: pass\ndef f(x): return g(x)", "uses minivl itself"),
    ("import minivl\n@minivl.door.stage('a', 'b')\ndef f(x): return x", "uses minivl itself"),
    ("import minivl as np\ndef f(x): return np.passes.g(x)", "uses minivl itself"),
])
def test_other_ways_to_the_answer_are_refused(source, words):
    assert words in str(refusal.refused(cells("import numpy as np", source), "f"))


# Ways to the answer, to callers and around comparison that no text betrays: what the process makes of each.
ATTACKS = [
    ("def f(x, order): return __import__('minivl').passes", "AttributeError"),
    ("def f(x, order): return globals()['minivl'].passes", "KeyError"),
    ("import minivl.config as c\ndef f(x, order): return c.minivl.passes", "AttributeError"),
    ("def f(x, order): return eval('x.__globals__')", "hidden code"),
    ("def f(x, order): return getattr(x, '__glob' + 'als__')", "AttributeError"),
    ("def f(x, order): return getattr(f, '__globals__')", "Foreign(words='dict')"),
    ("def f(x, order): return (lambda: 0).__globals__", "Foreign(words='dict')"),
    ("def f(x, order): return [c for c in object.__subclasses__()]", "Foreign(words='list')"),
    ("def f(x, order):\n    try: 1 / 0\n    except Exception as e: return e.__traceback__.tb_frame.f_back",
     "an object of its own class"),
    ("def g(): yield g\ndef f(x, order): return g().gi_frame", "an object of its own class"),
    ("import gc\ndef f(x, order): return gc.get_referrers(x)", "frames"),
    ("import sys\ndef f(x, order): return sys._getframe(1).f_locals", "frames"),
    ("from traceback import walk_stack\ndef f(x, order): return list(walk_stack(None))", "frames"),
    ("import inspect\ndef f(x, order): return inspect.currentframe().f_back", "frames"),
    ("from ctypes import string_at\ndef f(x, order): return string_at(1)", "native code"),
    ("import os\ndef f(x, order): return os.environ", "an object of its own class"),
    ("def f(x, order): return open('/etc/passwd').read()", "reading outside its folder"),
    ("import numpy as np\nclass A(np.ndarray): pass\ndef f(x, order): return x.view(A)", "Foreign(words='subclass')"),
    ("class A:\n    __eq__ = lambda a, b: True\ndef f(x, order): return A()", "an object of its own class"),
    ("class A:\n    def __array_function__(self, *all): return 1\ndef f(x, order): return A()", "of its own class"),
    ("class A: pass\nA.__eq__ = lambda a, b: True\ndef f(x, order): return A()", "an object of its own class"),
    ("def f(x, order): return type('A', (object,), {})()", "an object of its own class"),
    ("import numpy as np\nnp.testing.assert_equal = np.array_equal = np.allclose = None\n"
     "def f(x, order): return x + 1", "array("),
]


@NO_LIMITS
def test_other_ways_to_the_answer_gain_nothing_in_the_process():
    code = [notebook.Code(n, re.sub(r"\b([fA])(?=\W)", rf"\g<1>{n}", source))
            for n, (source, _) in enumerate(ATTACKS)]
    seen = process.run(code, {f"f{n}": cases(2) for n in range(len(ATTACKS))}, QUICK)
    for n, (source, words) in enumerate(ATTACKS):
        denied = [what for what, at in seen.denied if at == f"f{n}"]
        assert words in f"{denied} {seen.outcomes[f'f{n}']}", (source, denied, seen.outcomes[f"f{n}"])
        right = [find_stage("order_by_window").definition(*case.args) for case in cases(2)]
        assert not any(isinstance(run.value, np.ndarray) and np.array_equal(run.value, wanted)
                       for run, wanted in zip(seen.outcomes[f"f{n}"].runs, right, strict=False)), source


@pytest.mark.parametrize("source", [
    "import minivl\nwanted = minivl.load()\nminivl.check('f', f)\ndef f(x):\n    wanted = x + 1\n    return wanted",
    "import numpy as np, minivl\ndef f(x): return np.ones(3)",
    "from minivl.config import VisionConfig\ndef f(x, config: VisionConfig) -> VisionConfig: return x",
    "import minivl\ndef f(x: minivl.AXES): return x",
    "import math, itertools, functools\nfrom collections import Counter\ndef f(x): return math.erf(len(Counter(x)))",
    "import sys\ndef f(x): return min(x, sys.maxsize)",
    "def f(x):\n    '''Like minivl.passes, __globals__ and sys._getframe.'''\n    return x",
    "def f(x): return getattr(x, 'shape', None)",
])
def test_honest_code_is_not_refused(source):
    assert refusal.refused(cells(source), "f") is None


def pasted():
    """Every rule of a variant as somebody pastes it, with other names for its variables."""
    path = refusal.PACKAGE / "teach" / "check" / "plain.py"
    for outer in ast.parse(path.read_text(encoding="utf-8")).body:
        for node in ast.walk(outer) if isinstance(outer, ast.FunctionDef) else ():
            if isinstance(node, ast.FunctionDef) and len(refusal.grams(node)) >= refusal.LEAST:
                names = {one.id if isinstance(one, ast.Name) else one.arg for one in ast.walk(node)
                         if isinstance(one, ast.Name | ast.arg)} - set(dir(__builtins__)) - {"np", "math"}
                text = ast.unparse(node)
                for n, name in enumerate(sorted(names)):
                    text = re.sub(rf"(?<![.\w]){name}\b(?!=[^=])", f"own_{n}", text)
                yield pytest.param(re.sub(r"^def \w+", "def f", text), id=node.name)


@pytest.mark.parametrize("source", list(pasted()))
def test_a_pasted_definition_is_known_again_by_its_shape(source):
    lines = source.split("\n")
    middle = "\n".join([lines[0], "    print('mine')", "    note = 1 + 1", *lines[1:]])
    for text in (source, middle):
        found = str(refusal.refused(cells(text), "f"))
        assert "is a copy" in found and "check/plain.py" in found, found


def test_what_others_wrote_on_their_own_is_no_copy():
    """The versions of `tests/teach/check/` were written without the package's text at hand."""
    load()
    worst = 0.0
    for path in sorted(Path(__file__).with_name("check").glob("versions_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        helpers = {node.name: refusal.grams(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in tree.body:
            mine = refusal.grams(node).union(*(helpers[n] for n in refusal._names(node, "LOAD_NAME", "LOAD_GLOBAL")
                                               if n in helpers))
            worst = max([worst, *(len(one.grams & mine) / len(one.grams) for one in refusal.sources())])
    assert 0.05 < worst < refusal.SHARE - 0.2


# ---- what is judged ----------------------------------------------------------------------------------------

def ran(test, give, **changes):
    """The outcome of a process in which a function gave `give(args)` for every input."""
    runs = [Run("values", give(*case.args), touched=tuple(grade._digests(case.args))) for case in test.cases]
    return Outcome("ran", tuple(run._replace(**changes) for run in [*runs, runs[-1]]))


@pytest.mark.parametrize("assignment", ASSIGNMENTS.values(), ids=lambda one: one.name)
def test_a_variants_own_rule_gets_the_points_and_the_models_rule_is_told_by_name(assignment):
    for asked in assignment.asked:
        test = Drawn(asked, "ada", 7)
        mark = partial(test.mark, handed=None, cells=())
        right = mark(ran(test, test.exercise.rule))
        models = mark(ran(test, find_stage(asked.stage).definition))
        assert (right.score, right.words) == (1, "right")
        assert models.score == 0 and models.words.startswith("that is the model's own rule; your variant"), models


def test_other_inputs_are_drawn_for_other_students_and_seeds():
    asked = Asked("rms_norm", "rms_norm")
    def shown(*who):
        return repr([case.args[0].tolist() for case in Drawn(asked, *who).cases])
    assert shown("ada", 1) == shown("ada", 1) and len({shown("ada", 1), shown("ada", 2), shown("ben", 1)}) == 3


@pytest.mark.parametrize(("changes", "words"), [
    ({"touched": ("0",)}, "refused: changes its inputs"), ({"value": None}, "gives None"),
    ({"value": process.Foreign("list")}, "gives a list; asked for is a plain NumPy array"),
    ({"value": process.Foreign("subclass")}, "gives an array of its own class"),
    ({"value": np.zeros(7)}, "another shape"), ({"value": (np.zeros(7),) * 2}, "another number of arrays"),
    ({"kind": "raised", "exception": "IndexError", "where": "cell 3, line 4"}, "IndexError in cell 3, line 4"),
])
def test_what_is_wrong_is_said_without_a_number(changes, words):
    test = Drawn(Asked("rotate", "rotate"), "ada", 7)
    mark = test.mark(ran(test, test.exercise.rule, **changes), None, ())
    assert mark.score == 0 and words in mark.words


def test_a_result_that_changes_from_call_to_call_is_refused():
    test = Drawn(Asked("rotate", "rotate"), "ada", 7)
    outcome = ran(test, test.exercise.rule)
    again = outcome.runs[-1]._replace(value=outcome.runs[-1].value * (1 + 1e-9))
    assert test.mark(outcome._replace(runs=(*outcome.runs[:-1], again)), None, ()).kind == "unstable"


# ---- the process -------------------------------------------------------------------------------------------

def cases(count=3):
    return deck(find_stage("order_by_window").draw, 1, count)


@NO_LIMITS
def test_what_is_tried_in_the_process_is_denied_and_told():
    tries = {"writing outside its folder": "import os\nos.open('/tmp/mine', os.O_CREAT | os.O_WRONLY)",
             "reading the package": f"open({str(process.PACKAGE / 'passes' / 'windows.py')!r}).read()",
             "writing the package": f"import os\nos.remove({str(process.PACKAGE / 'api.py')!r})",
             "reading outside its folder": f"open({str(Path(__file__).with_name('check') / 'versions.py')!r}).read()",
             "network": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
             "programs": "import subprocess\nsubprocess.run(['true'])", "tracing": "import sys\nsys.settrace(print)",
             "native code": "import ctypes\nctypes.CDLL(None)", "frames": "import inspect\ninspect.stack()"}
    harmless = ["open('notes.txt', 'w').write('mine')", "from dataclasses import make_dataclass as m\nm('A', ['b'])",
                "from dataclasses import dataclass\n@dataclass(order=True)\nclass A:\n    b: int = 1\nA(2) < A()",
                "from typing import NamedTuple\nclass B(NamedTuple):\n    c: int\nB(1)",
                "import ast\nast.literal_eval('[1]')",
                "import statistics, fractions, decimal, string, textwrap, difflib, colorsys",
                "import numpy as np\nnp.save('a.npy', np.ones(2))\nnp.load('a.npy')",
                "import minivl\nminivl.check('a', 1)\nfrom minivl import check\ncheck('1.1', 2)",
                "import minivl.passes.windows", "import minivl\nminivl.load()", "import matplotlib",
                "import colorsys, numpy.polynomial.chebyshev",
                "import numpy as np\nnp.random.default_rng().normal()\nnp.einsum('ij->ji', np.ones((2, 2)))"]
    code = [notebook.Code(n, text) for n, text in enumerate([*tries.values(), *harmless], start=1)]
    answer = notebook.Code(99, "def f(rows, order):\n    return rows * 2.0, len(order), None")
    seen = process.run([*code, answer], {"f": cases()}, QUICK)
    assert [(what, at) for what, at in seen.denied] == [(what, f"cell {n}") for n, what in enumerate(tries, start=1)]
    assert (process.PACKAGE / "api.py").exists() and not Path("/tmp/mine").exists()
    for run, case in zip(seen.outcomes["f"].runs, cases(), strict=False):
        assert np.array_equal(run.value[0], case.args[0] * 2.0) and run.value[1:] == (process.Foreign("int"), None)
        assert list(run.touched) == grade._digests(case.args)


@NO_LIMITS
def test_odd_results_and_warnings_are_told_as_what_they_are():
    """Not as reading the package, which a traceback or a warning's line would do."""
    odd = {"a": "class A:\n        nbytes = 'x'\n    return A()", "b": "return (0,) * (2 * 10**6)",
           "c": "class A:\n        nbytes = property(lambda self: 1 // 0)\n    return A()",
           "d": "import warnings\n    warnings.warn('mine', stacklevel=2)\n    return 1"}
    code = [notebook.Code(n, f"def {name}(rows, order):\n    {body}") for n, (name, body) in enumerate(odd.items(), 1)]
    warned = notebook.Code(99, "import warnings\nwarnings.warn('mine', stacklevel=2)")
    seen = process.run([*code, warned], dict.fromkeys(odd, cases(1)), QUICK)
    assert seen.denied == []
    assert {name: outcome.kind for name, outcome in seen.outcomes.items()} == {"a": "ran", "b": "output", "c": "ran",
                                                                              "d": "ran"}
    assert [seen.outcomes[name].runs[0].exception for name in "ac"] == ["ValueError", "ZeroDivisionError"]


TEXT = "text = [40, 2][0] + 2"
HIDDEN = {  # ways to code that stands in no cell
    "exec": f"exec({TEXT!r})", "eval": "text = eval('42')", "compile": "text = eval(compile('42', '<cell 1>', 'eval'))",
    "pickle": 'import pickle\ntext = pickle.loads(b"cbuiltins\\neval\\n(S\'42\'\\ntR.")',
    "pickle in Python": 'import io, pickle\ntext = pickle._loads(b"cbuiltins\\neval\\n(S\'42\'\\ntR.")',
    "np.load": "import io, numpy as np\nclass A:\n    def __reduce__(self): return eval, ('42',)\nfile = io.BytesIO()\n"
               "np.save(file, np.array([A()], object), allow_pickle=True)\nfile.seek(0)\n"
               "text = np.load(file, allow_pickle=True)",
    "marshal": "import marshal\ntext = eval(marshal.loads(marshal.dumps((lambda: 42).__code__)))",
    "marshal from a file": "import marshal\nmarshal.dump((lambda: 42).__code__, open('a', 'wb'))\n"
                           "text = eval(marshal.load(open('a', 'rb')))",
    "np.fromfile": "import marshal, numpy as np\nmarshal.dump((lambda: 42).__code__, open('a.pyc', 'wb'))\n"
                   "text = eval(marshal.loads(np.fromfile('a.pyc', np.uint8).tobytes()))",
    "another code object": "text = eval((lambda: 41).__code__.replace(co_consts=(None, 42)))",
    "a module written by a cell": f"import sys\nopen('mine.py', 'w').write({TEXT!r})\nsys.path.insert(0, '.')\n"
                                  "from mine import text",
    "a compiled module": "import importlib.machinery as m, marshal\n"
                         "import importlib.util as u\nwords = marshal.dumps((lambda: 42).__code__)\n"
                         "open('a.pyc', 'wb').write(u.MAGIC_NUMBER + bytes(12) + words)\n"
                         "text = m.SourcelessFileLoader('a', 'a.pyc').get_code('a')",
    "the importer's own compiler": "import importlib.machinery as m, os\nfile = os.__file__\n"
                                   "text = eval(m.SourceFileLoader('a', file).source_to_code(b'42', file))",
    "the importer's caller": "import importlib, timeit\nfound = []\nimportlib._bootstrap._call_with_frames_removed("
                             "timeit.timeit, 'found.append(42)', globals={'found': found}, number=1)\ntext = found[0]",
    "a library of native code": "import glob, importlib.util as u, shutil, sys\nhere = sys.base_prefix\n"
                                "found = glob.glob(here + '/lib/python*/lib-dynload/_bisect*.so')\n"
                                "open('_bisect.so', 'wb').write(open(found[0], 'rb').read())\n"
                                "spec = u.spec_from_file_location('_bisect', './_bisect.so')\n"
                                "text = u.module_from_spec(spec)",
    "timeit": "import timeit\nfound = []\ntimeit.timeit('a.append(42)', globals={'a': found}, number=1)\n"
              "text = found[0]",
    "runpy": f"import runpy\nopen('mine.py', 'w').write({TEXT!r})\ntext = runpy.run_path('mine.py')['text']",
    "typing": "import typing\ntext = typing.ForwardRef('[42][0]')._evaluate({}, {}, frozenset())",
    "a dataclass's own writer": "import dataclasses\ntext = dataclasses._create_fn('f', [], ['return 42'])()",
    "a dataclass that was changed": "import dataclasses\ndataclasses._init_param = lambda f: 'x=[42][0]'\n"
                                    "@dataclasses.dataclass\nclass A:\n    x: int\ntext = A().x",
    "another interpreter": "import _xxsubinterpreters as s\ntext = s.create()",
    "the process's own runner": "import __main__\ntext = __main__.guarded(lambda: eval('42'), 5)[0] + 0",
    "the process's own reader": "import __main__\ntext = list(__main__.statements([(1, 'a = 42')]))[0]",
}


@NO_LIMITS
@pytest.mark.parametrize("way", HIDDEN)
def test_text_and_bytes_become_no_code(way):
    """Neither in a cell nor in the function itself, where it costs the points; and the kind is told."""
    body = "\n".join("    " + line for line in HIDDEN[way].split("\n"))
    answer = "def f(rows, order):\n    import numpy as np\n    return np.array([len(str(text))])"
    inside = f"def g(rows, order):\n{body}\n    return np.zeros(1)"
    texts = (HIDDEN[way], answer, "import numpy as np", inside)
    code = [notebook.Code(n, text) for n, text in enumerate(texts, start=1)]
    seen = process.run(code, {"f": cases(1), "g": cases(1)}, QUICK)
    assert ("hidden code", "cell 1") in seen.denied and ("hidden code", "g") in seen.denied
    assert {run.kind for name in "fg" for run in seen.outcomes[name].runs} == {"raised"}, seen


@NO_LIMITS
def test_the_package_stays_closed_when_the_hook_is_got_around():
    """Python's own fence can be bent from inside; the kernel's cannot, and the package is behind both."""
    file = str(process.PACKAGE / "passes" / "windows.py")
    bent = {"other paths": "import posixpath\nposixpath.realpath = lambda path, **options: '/usr/x'\n"
                           f"posixpath._joinrealpath = lambda *all: ('/usr/x', True)\ntext = open({file!r}).read()",
            "another hook": "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\n"
                            "except PermissionError as error:\n    at = error.__traceback__\n    while at:\n"
                            "        names = at.tb_frame.f_globals\n"
                            "        if '_forbidden' in names: names['_forbidden'] = lambda *all: ''\n"
                            f"        at = at.tb_next\ntext = open({file!r}).read()",
            "no Python": f"import tkinter\ntext = tkinter.Tcl().eval('read [open {{{file}}}]')"}
    answer = notebook.Code(2, "import numpy as np\ndef f(rows, order):\n    return np.array([len(text)])")
    for way, source in bent.items():
        seen = process.run([notebook.Code(1, source), answer], {"f": cases(1)}, QUICK)
        if not seen.locked:
            pytest.skip("this kernel has no Landlock")
        assert {run.kind for run in seen.outcomes["f"].runs} == {"raised"}, way


@NO_LIMITS
def test_in_the_process_there_is_no_answer_to_be_found():
    look = ("import sys, types\nfound = [name for name in sys.modules if name.startswith('minivl')]\n"
            "waiting, seen = list(sys.modules.values()), set()\n"
            "while waiting:\n    one = waiting.pop()\n    if id(one) in seen: continue\n    seen.add(id(one))\n"
            "    if isinstance(one, types.FunctionType): found.append(one.__module__ + '.' + one.__name__)\n"
            "    inside = getattr(one, '__dict__', None)\n"
            "    if inside and str(getattr(one, '__name__', '')).startswith('minivl'): waiting += inside.values()\n"
            "def f(rows, order):\n    import numpy as np\n    return np.array([ord(c) for c in ' '.join(found)])")
    seen = process.run([notebook.Code(1, look)], {"f": cases()}, QUICK)
    found = "".join(map(chr, seen.outcomes["f"].runs[0].value)).split()
    assert {"minivl.config", "minivl.checkpoint.weight"} <= set(found)
    assert not [name for name in found if re.search(r"passes|kernels|check\.(?!arguments)|definition", name)]


@NO_LIMITS
def test_a_function_that_ends_the_process_costs_its_own_mark_only():
    code = [notebook.Code(1, "import os\ndef a(rows, order):\n    os._exit(0)\ndef b(rows, order):\n    return rows\n"
                             "def c(rows):\n    return rows\nd = 3")]
    seen = process.run(code, dict.fromkeys("abcd", cases()), QUICK)
    assert {name: one.kind for name, one in seen.outcomes.items()} == {
        "a": "died", "b": "ran", "c": "signature", "d": "missing"}


LOCKED = """
import os, socket, sys
from minivl.teach.course.confine import lock
print(lock(sys.argv[1], sys.argv[4]))
for what in ("os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)", "os.open(sys.argv[1] + '/x', os.O_CREAT | os.O_WRONLY)",
             "open(sys.argv[1] + '/x').read()", "open(sys.argv[4] + '/api.py').read()", "open('/etc/hostname').read()",
             "os.execv('/bin/true', ['true'])", "os.kill(os.getppid(), 0)",
             "socket.create_connection(('127.0.0.1', int(sys.argv[3])))"):
    try:
        eval(what)
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


@NO_LIMITS
def test_the_kernel_itself_refuses_what_python_is_tricked_into(tmp_path):
    """With no audit hook: only Landlock is in the way."""
    (tmp_path / "own").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [str(tmp_path / "own"), str(tmp_path / "other"), str(server.getsockname()[1]), str(process.PACKAGE)]
        done = subprocess.run([sys.executable, "-c", LOCKED, *words], capture_output=True, encoding="utf-8",
                              timeout=300, cwd=Path(__file__).parent.parent.parent)
    locked, *said = done.stdout.split()
    if locked == "False":
        pytest.skip("this kernel has no Landlock")
    no = "PermissionError"
    assert said[:6] == [no, "done", "done", no, no, no], done
    assert set(said[6:]) <= {no, "done"}                      # signals and TCP: kernels from 6.12 and 6.7 on
    assert not (tmp_path / "other").exists()


def frame(data=b"", **head):
    line = json.dumps({"bytes": len(data), **head}).encode()
    return struct.pack("<I", len(line)) + line + data


def taken_from(path, *frames):
    """What is made of a results file that a submission has written itself."""
    seen = process.Seen()
    path.write_bytes(b"".join(frames))
    process._take(list(process._frames(path)), {"f": cases(1)}, seen)
    return seen


def test_what_a_process_writes_is_data_and_shows_nothing(tmp_path):
    taken = partial(taken_from, tmp_path / "results")
    secret = "0.57 -2.68"
    seen = taken(frame(at=secret), frame(denied=secret), frame(denied="network"),
                 frame(asked="f", kind="raised", exception=secret, where=secret),
                 frame(asked="f", kind="raised", exception="KeyError", where="cell 1, line 2"))
    assert secret not in repr(seen) and seen.denied == [("network", "")]
    assert [run.exception for run in seen.outcomes["f"].runs] == ["an exception of its own", "KeyError"]
    for form in ({"type": secret}, {"type": "array", "dtype": "|O8", "shape": [1]}, {"type": "array"},
                 {"type": "array", "dtype": "<f8", "shape": [-1]},
                 {"type": "array", "dtype": "<f8", "shape": [2**60]},
                 {"type": "array", "dtype": "<f8", "shape": [float("inf")]}, {"type": "array", "dtype": "(1,"}, 5,
                 {"type": "array", "dtype": secret, "shape": [1]}):
        value = taken(*[frame(b"12345678", asked="f", kind="values", arrays=[form])] * 2).outcomes["f"].runs[0].value
        assert isinstance(value, process.Foreign) and secret not in repr(value)
    assert not taken(frame(asked="f", kind=secret)).outcomes
    for junk in (b"\xff" * 9, struct.pack("<I", 2**31) + b"{}", b"\x02\x00\x00\x00{}", frame(bytes=-5, asked="f"),
                 frame(bytes=float("inf")), frame(at=[1]), frame(asked={}), frame(denied=[]),
                 frame(asked="f", kind="raised", exception=[]), frame(asked="f", kind="values", arrays=[], touched=5)):
        assert not taken(junk, frame(asked="f", kind="missing")).outcomes


# ---- the package, and the tables ---------------------------------------------------------------------------

def test_the_package_is_put_back_as_it_was(tmp_path):
    for name in ("a.py", "deep/b.py", "c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    guard = grade.Guard(tmp_path)
    digest = guard.digest()
    assert guard.restore() == []
    (tmp_path / "a.py").write_bytes(b"spoilt")
    (tmp_path / "c.py").unlink()
    (tmp_path / "deep" / "new.pyc").write_bytes(b"added")
    assert guard.restore() == ["a.py", "c.py", "deep/new.pyc"] and guard.restore() == []
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")} == {
        name: name.encode() for name in ("a.py", "deep/b.py", "c.py")}
    assert grade.Guard(tmp_path).digest() == digest


@pytest.mark.parametrize("locked", [True, False])
def test_who_changes_the_package_while_another_is_graded_is_not_taken_for_a_submission(locked, tmp_path, monkeypatch):
    """With the kernel's lock it cannot have been the submission: nobody is accused, nothing of an edit is undone."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("before", encoding="utf-8")

    def one(folder, student, assignment, *rest):
        if student == "ben":
            (package / "a.py").write_text("edited", encoding="utf-8")
        marks = (grade.Mark(assignment.asked[0], 1, "right", "right"),)
        return grade.Row(student, assignment.name, marks, locked=locked)
    monkeypatch.setattr(grade, "PACKAGE", package)
    monkeypatch.setattr(grade, "grade_one", one)
    rows = list(grade.grade(tmp_path, PICTURES, 0, QUICK, names=["ada", "ben", "cleo"]))
    assert [row.marks[0].kind for row in rows] == ["right", "ungraded" if locked else "refused", "right"]
    said = "another program has changed minivl's a.py" if locked else "writes into the package (a.py"
    assert said in rows[1].reason
    assert (package / "a.py").read_text(encoding="utf-8") == ("edited" if locked else "before")


def test_tables_are_safe_in_a_spreadsheet_and_whole_in_markdown(tmp_path):
    mark = grade.Mark(Asked("rotate", "rotate"), 0, "values", "a | b, \"c\"")
    rows = [grade.Row(name, "one", (mark,)) for name in ("=cmd()", "ada")]
    home = report.write(tmp_path, Assignment("one", "lesson 1", (mark.asked,)), rows, {})
    with (home / "marks.csv").open(encoding="utf-8", newline="") as table:
        assert list(csv.reader(table))[1:] == [["'=cmd()", "one", "0", "0", "1", 'all: a | b, "c"'],
                                               ["ada", "one", "0", "0", "1", 'all: a | b, "c"']]
    assert '| ada | 0 of 1 | all: a \\| b, "c" |' in (home / "marks.md").read_text(encoding="utf-8")
    assert "minivl.check('rotate', rotate, variant='ada')" in (home / "feedback" / "ada.md").read_text(encoding="utf-8")


def test_the_page_for_teachers_says_what_holds():
    page = Path(__file__).parent.parent.parent.joinpath("docs", "teaching", "grading.md").read_text(encoding="utf-8")
    limits = Limits()
    for words in (f"`--memory`, {limits.memory >> 20} MB", f"`--patience`, {limits.patience:g} s of a processor",
                  f"the whole process has {process.STARTING:g} s more", f"{limits.output >> 20} MB of any file",
                  f"{grade.CASES} inputs are drawn", f"Below {refusal.LEAST} runs of eight symbols"):
        assert words in page, words
    assert process.WAITING == 3 and "three times that by the clock" in page and refusal.GRAM == 8
    for one in ASSIGNMENTS.values():
        assert f"| `{one.name}` | {one.lessons} | " + ", ".join(f"`{a.function}`" for a in one.asked) + " |" in page

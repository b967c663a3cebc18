"""The wheel is small, whole and pure; installed, it works with no network, compiler or git; and what need not be there
is not needed. Read next: `test_platforms.py` (strange places), `tools/bench/import_time.py` (seconds, not tested).
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import minivl
from minivl.show.samples import load_samples
from tools.course.class_of_sixty import right

from .test_platforms import PACKAGE, ROOT, clashes, python, refused_by_windows

CORE = {"numpy", "pillow", "tokenizers", "ml_dtypes", "jinja2", "typer", "rich"}
IMPORTED_AS = {"pillow": "PIL"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain(requirement):
    """The name in a requirement, as pyproject.toml writes it."""
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("-", "_")


# ---- the wheel ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline with what is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, timeout=300, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


def test_the_wheel_is_for_every_platform_and_small(wheel):
    assert wheel.name == f"minivl-{minivl.__version__}-py3-none-any.whl" and PROJECT["version"] == minivl.__version__
    assert wheel.stat().st_size < 20_000_000


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {info.filename: info for info in archive.infolist()}
        assert archive.testzip() is None
        about = f"minivl-{minivl.__version__}.dist-info"
        assert {name.partition("/")[0] for name in held} == {"minivl", about}
        assert f"{about}/licenses/LICENSE" in held
        for path in PACKAGE.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = f"minivl/{path.relative_to(PACKAGE).as_posix()}"
                assert archive.read(name) == path.read_bytes(), name
        home = ROOT / "notebooks"
        sources = [*home.glob("lesson_*.ipynb"), *home.glob("graded/*.ipynb")]
        lessons = {f"minivl/teach/course/notebooks/{path.relative_to(home).as_posix()}": path for path in sources}
        assert lessons and {name for name in held if name.endswith(".ipynb")} == lessons.keys()
        assert all(archive.read(name) == path.read_bytes() for name, path in lessons.items())
    data = {"minivl/py.typed", "minivl/tiny/model.safetensors", "minivl/tiny/chat_template.json",
            "minivl/tiny/README.md", "minivl/tiny/training.json", "minivl/show/samples/samples.json"}
    assert data <= held.keys()
    assert not [name for name in held if re.search(r"(^|/)(tests?|solved)/|__pycache__|\.(pyc|partial)$", name)]
    assert not [name for name, info in held.items() if info.external_attr >> 16 & 0o170000 == 0o120000]     # links
    assert not clashes(list(held)) and max(map(len, held)) < 120
    assert not [name for name in held if any(map(refused_by_windows, name.split("/")))]


def test_the_wheel_asks_for_the_eight_packages_and_offers_a_command(wheel):
    about = f"minivl-{minivl.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        said = BytesParser().parsebytes(archive.read(f"{about}/METADATA"))
        assert "minivl = minivl.cli:main" in archive.read(f"{about}/entry_points.txt").decode("utf-8")
    needed = [one for one in said.get_all("Requires-Dist") if "extra ==" not in one]
    assert {plain(one) for one in needed} == CORE and len(needed) == len(CORE)
    assert said["Requires-Python"] == ">=3.11" and said["License-Expression"] == "Apache-2.0"


# Stands at the start of every Python in the fresh environment: whatever reaches out fails.
NOTHING_OUTSIDE = """
import os
import sys
OUTSIDE = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "subprocess.Popen",
           "os.system", "os.exec", "os.posix_spawn", "os.fork")
def refuse(event, args):
    if event in OUTSIDE and not (event == "subprocess.Popen" and "MAY_START_PROGRAMS" in os.environ):
        raise OSError(f"{event} is not to be had here")
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder of the programs of a fresh environment: the wheel is installed in it, its dependencies are borrowed."""
    home = tmp_path_factory.mktemp("a fresh environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=300)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    inside = shutil.which("python", path=programs)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", inside, "install", "--quiet",
           "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, timeout=300)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    site = Path(paths["purelib"])
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8", newline="\n")
    (site / "sitecustomize.py").write_text(NOTHING_OUTSIDE, encoding="utf-8", newline="\n")
    return programs


def in_the_environment(installed, folder, program, *words, **variables):
    """Run a program of the fresh environment in an empty folder, with no other program on the path and no home."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HF_"))}
    env |= {"PATH": str(folder / "none"), "HOME": str(folder / "none"), "PYTHONIOENCODING": "utf-8",
            "MPLCONFIGDIR": str(folder.parent / "cache"), "XDG_CACHE_HOME": str(folder.parent / "cache"), **variables}
    (made,) = [path for path in installed.iterdir() if path.stem == program]
    done = subprocess.run([str(made), *words], capture_output=True, cwd=folder, env=env, timeout=300, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_it_answers_with_no_network_compiler_or_git(installed, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    said = in_the_environment(installed, empty, "minivl", "demo")
    assert said.count("    says  ") == len(load_samples()) and "in all" in said
    assert {path.name for path in empty.iterdir()} <= {"minivl-demo.png"}


def test_installed_it_has_the_lessons_with_it(installed, tmp_path):
    said = in_the_environment(installed, tmp_path, "minivl", "course", "copy", "my lessons")
    lessons = {path.name: path.read_bytes() for path in (ROOT / "notebooks").glob("lesson_*.ipynb")}
    assert said.count("\nnew ") == len(lessons) - 1 and said.startswith("new ")
    assert {path.name: path.read_bytes() for path in (tmp_path / "my lessons").glob("*.ipynb")} == lessons


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of a submission's process are Linux's")
def test_installed_a_teacher_hands_out_and_grades_with_no_checkout(installed, tmp_path):
    """The whole way from a list of names to a table for Moodle, with nothing but the wheel."""
    def minivl_(*words):
        return in_the_environment(installed, tmp_path, "minivl", "course", *words, MAY_START_PROGRAMS="1")
    (tmp_path / "class.csv").write_text("First name,Last name,Email address\nAda,Lovelace,a@x.org\n", encoding="utf-8")
    minivl_("pseudonyms", "class.csv")
    minivl_("release", "course", "--roster", "roster.csv")
    released = sorted(path.name for path in (tmp_path / "course" / "release-for").glob("*/*/*.ipynb"))
    assert released == sorted(path.name for path in (ROOT / "notebooks" / "graded").glob("*.ipynb"))
    (ada,) = [path.name for path in (tmp_path / "course" / "release-for").iterdir()]
    handed = tmp_path / "submitted" / ada / "pictures" / "pictures.ipynb"
    handed.parent.mkdir(parents=True)
    book = json.loads((tmp_path / "course" / "release-for" / ada / "pictures" / handed.name).read_bytes())
    solved = right(ada)
    for cell in book["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        cell["source"] = solved.get(name, cell["source"])
    handed.write_text(json.dumps(book), encoding="utf-8")
    assert f"{ada}  3 of 3  all: right" in minivl_("grade", "submitted", "--roster", "roster.csv", "-o", "graded")
    minivl_("grades", "graded", "--roster", "roster.csv", "--for", "moodle", "-o", "moodle.csv")
    assert (tmp_path / "moodle.csv").read_text(encoding="utf-8") == (
        "First name,Last name,Email address,pictures\nAda,Lovelace,a@x.org,3\n")


def test_what_ran_was_the_wheel(installed, tmp_path):
    code = ("import socket, minivl, minivl.show.samples\nprint(minivl.__file__)\n"
            "try:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError as error:\n    print(error)")
    where, refused = in_the_environment(installed, tmp_path, "python", "-c", code).splitlines()
    assert Path(where).resolve().is_relative_to(installed.parent.resolve())
    assert "not to be had" in refused                        # else the test before this one says nothing


# ---- what is declared --------------------------------------------------------------------------------------

def test_the_core_needs_eight_packages():
    assert {plain(one) for one in PROJECT["dependencies"]} == CORE and len(PROJECT["dependencies"]) == len(CORE)
    extras = PROJECT["optional-dependencies"]
    assert {plain(one) for one in extras["plot"]} == {"matplotlib"}
    assert "hatchling" in {plain(one) for one in extras["test"]}                # the wheel is built in a test


def test_the_package_imports_nothing_that_is_not_declared():
    """The adapter that listens to the reference is the one file that may know PyTorch, and nothing loads it unasked."""
    optional = {"matplotlib", "hypothesis", "nbgrader", "traitlets",              # the last two: the extra teacher
                "numba", "llvmlite",                                              # the extra jit; numba brings llvmlite
                "cupy", "av", "huggingface_hub", "mpi4py",                        # the extras cuda, video, hub, mpi
                "starlette", "uvicorn", "h11",                                    # the extra serve; uvicorn brings h11
                "jsonschema", "referencing"}                                      # the extra schema brings both
    declared = {IMPORTED_AS.get(name, name) for name in CORE} | optional | set(sys.stdlib_module_names)
    adapter = PACKAGE / "truth" / "trace" / "oracle.py"
    child = PACKAGE / "teach" / "course" / "child.py"                  # a script of its own: its imports are absolute
    for file in set(PACKAGE.rglob("*.py")) - {adapter}:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [])
            known = declared | ({"minivl"} if file == child else set())
            assert {name.partition(".")[0] for name in names} <= known, file


def test_importing_loads_nothing_heavy():
    """The cause of a slow start, not its seconds."""
    heavy = {"torch", "numba", "matplotlib", "transformers", "tokenizers", "safetensors", "ml_dtypes", "jinja2",
             "typer", "rich", "cupy", "threadpoolctl", "minivl.show.plot", "minivl.cli", "minivl.show.demo",
             "minivl.text.sandbox", "PIL", "urllib.request", "http.client", "socket", "ssl"}
    loaded = json.loads(python("import sys, json, minivl\nprint(json.dumps(sorted(sys.modules)))"))
    assert "minivl.model" in loaded and not heavy & set(loaded)
    comparing = ("import sys, json, minivl.truth.compare.compare, minivl.truth.compare.local\n"
                 "print(json.dumps(sorted(sys.modules)))")
    assert not (heavy - {"ml_dtypes"}) & set(json.loads(python(comparing)))


# ---- what can be missing -----------------------------------------------------------------------------------

WITHOUT = """
import sys
ABSENT = sys.argv[1].split(",")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ERROR(f"{name} is not to be had here", name=name)

sys.meta_path.insert(0, Absent())
import minivl
from minivl.show.demo import main
if "matplotlib" in ABSENT:
    main()
with minivl.load() as vlm:
    print(vlm.generate(vlm.prepare([{"role": "user", "content": "How many objects? Gr\\u00fcn \\u732b 12"}]), 4))
try:
    minivl.load(None, "bfloat16").close()
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("error", ["ModuleNotFoundError", "ImportError"])      # the latter: a DLL is missing
def test_without_the_three_fast_packages_the_demo_still_answers(error, tmp_path):
    def said(absent):
        code = WITHOUT.replace("ERROR", error)
        return python(code, absent, cwd=tmp_path, PYTHONIOENCODING="utf-8").decode("utf-8").splitlines()
    *demo, ids, refused = said("tokenizers,safetensors,ml_dtypes,matplotlib")
    assert sum(line.startswith("    says  ") for line in demo) == len(load_samples())
    assert refused == "precision 'bfloat16' needs the package ml_dtypes: pip install ml_dtypes"
    assert said("nothing") == [ids]                          # with them the same tokens, and bfloat16
    assert not list(tmp_path.iterdir())

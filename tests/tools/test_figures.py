"""The figures for slides: one command writes them, each is an SVG that parses, and its text is text."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.pages.figures import __main__ as command
from tools.pages.figures.sheet import FIGURES, figure, svg_of, write

ROOT = Path(__file__).parent.parent.parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All figures and their list, written once."""
    path = tmp_path_factory.mktemp("figures") / "made when it is not there"
    write(path)
    return path


def words(path: Path) -> list[str]:
    """The texts of a figure, in the order in which they stand in the file."""
    tree = ElementTree.parse(path)
    return ["".join(text.itertext()).strip() for text in tree.iter(f"{SVG}text")]


def numbers(path: Path) -> list[int]:
    return [int(word) for word in words(path) if word.isdigit()]


def test_there_are_enough_figures_for_every_lesson_of_the_core():
    assert len(FIGURES) >= 20
    assert set(range(9)) <= {one.lesson for one in FIGURES.values()}
    assert command.FIGURES is FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_an_svg_whose_text_is_text(name, folder):
    assert re.fullmatch(r"[a-z0-9-]+", name)
    text = (folder / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert FIGURES[name].caption in text.replace("&gt;", ">").replace("&lt;", "<")     # its title
    assert any(words(folder / f"{name}.svg"))
    assert "DejaVuSans-" not in text                                                   # no letter drawn as a path
    assert "<dc:date>" not in text and "xlink:href=\"http" not in text                  # no day, no request


@pytest.mark.parametrize("name", ["windows", "patch-order", "scores-and-shares", "faults-per-stage"])
def test_the_same_figure_has_the_same_bytes(name, folder):
    assert svg_of(FIGURES[name]) == (folder / f"{name}.svg").read_bytes()


def test_the_users_own_style_does_not_change_a_figure(folder):
    import matplotlib
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 20, "axes.facecolor": "black"}):
        assert svg_of(FIGURES["rms-norm"]) == (folder / "rms-norm.svg").read_bytes()


def test_the_list_shows_every_figure_once(folder):
    page = (folder / "figures.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r'<img src="([^"]+)"', page)) == sorted(path.name for path in folder.glob("*.svg"))
    assert len(list(folder.iterdir())) == len(FIGURES) + 1                             # nothing half-written
    lessons = [int(row) for row in re.findall(r"\| (\d+) \|", page)]
    assert lessons == sorted(lessons)


def test_numbers_in_figures_are_those_of_the_reference(folder):
    """Worked examples that were run with the reference: a prompt with a picture, and a window order."""
    places = [[0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7, 8, 9, 10], [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7, 8, 9, 10],
              [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9, 10]]
    assert numbers(folder / "mrope-triples.svg")[-42:] == [n for row in places for n in row]
    order = [*range(4), *range(7, 11), *range(14, 18), *range(21, 25), 4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27,
             *range(28, 35)]
    drawn = numbers(folder / "order-and-its-inverse.svg")
    assert any(drawn[n : n + 35] == order for n in range(len(drawn)))
    assert "they differ at [14, 70, 126, 182]" in words(folder / "size-rule.svg")


def test_numbers_on_a_picture_are_text_too(folder):
    """5 x 7 cells and 10 x 14 patches: their outlines would have made paths of them."""
    assert set(range(35)) <= set(numbers(folder / "windows.svg"))
    assert set(range(140)) <= set(numbers(folder / "patch-order.svg"))


def test_two_figures_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two figures are called 'windows'"):
        figure("windows", 5, "again")(lambda: None)


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "tools.pages.figures", *arguments], cwd=ROOT, capture_output=True,
    text=True,
                          encoding="utf-8", timeout=120)


def test_the_command_writes_what_it_is_asked_for(tmp_path):
    done = run(str(tmp_path / "out"), "rms-norm", "softmax")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rms-norm.svg", "softmax.svg"]


@pytest.mark.parametrize(("arguments", "says"), [
    (["out", "window"], "there is no figure 'window'; there are "),
    (["file", "softmax"], "cannot write: "),
])
def test_what_is_wrong_is_said_without_a_traceback(arguments, says, tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    done = run(str(tmp_path / arguments[0]), *arguments[1:])
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

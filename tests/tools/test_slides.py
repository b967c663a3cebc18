"""Slides: every figure where it belongs, an alternative text for each, nothing loaded, nothing cut off, no answers."""

import re
from pathlib import Path

import pytest

from tools.pages.figures import __main__ as figures
from tools.teaching import slides
from tools.teaching.syllabus import exercises, lessons

from .. import browser

ROOT = Path(__file__).parent.parent.parent
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><text x="1">side <tspan>in</tspan> pixels</text><text>12</text></svg>'


def fake(name):
    return f"caption of {name}", SVG


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every lesson's page, with figures that take no time."""
    folder = tmp_path_factory.mktemp("slides")
    paths = list(slides.write(folder, draw=fake))
    assert [path.name for path in paths] == [*(f"lesson_{n:02d}.html" for n in sorted(lessons())), "index.html"]
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def test_every_figure_stands_in_a_section_of_its_lesson():
    placed = {name for names in slides.PLACES.values() for name in names}
    assert placed == set(figures.FIGURES)
    for number, names in slides.PLACES.items():
        source = (slides.NOTEBOOKS / lessons()[number].notebook).with_suffix(".py").read_text(encoding="utf-8")
        assert set(names.values()) <= {one.number for one in slides.sections(source)}, number
        own = {name for name, one in figures.FIGURES.items() if one.lesson == number}
        assert own <= set(names), number


@pytest.mark.parametrize("number", sorted(lessons()))
def test_a_lesson_is_there_with_its_headings_figures_exercises_and_questions(number, made):
    page = made[f"lesson_{number:02d}"]
    source = (slides.NOTEBOOKS / lessons()[number].notebook).with_suffix(".py").read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^# ## (\d+\. .+)$", source)
    assert len(headings) >= 5 and all(f"<h2>{slides.inline(one)}</h2>" in page for one in headings)
    pictures = re.findall(r'<img alt="([^"]*)"', page)
    assert pictures == [f"caption of {name}. Written in the figure: side in pixels."
                        for name, _ in sorted(slides.PLACES.get(number, {}).items(), key=lambda item: item[1])]
    assert all(f"<li>{name}: " in page for name in exercises() if name.startswith(f"{number}."))
    assert page.count("<h2>Question ") == len(slides.questions_of(number)) > 0
    assert not re.search(r"BEGIN SOLUTION|END SOLUTION|\0", page)


def test_every_concept_question_is_on_a_slide(made):
    asked = {int(n) for page in made.values() for n in re.findall(r"<h2>Question (\d+)</h2>", page)}
    page = (ROOT / "docs" / "teaching" / "concept-questions.md").read_text(encoding="utf-8")
    assert asked == {int(n) for n in re.findall(r"(?m)^(\d+)\. ", page)}


def test_a_page_loads_nothing(made):
    for name, page in made.items():
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert [one[:40] for one in loaded if not one.startswith(("data:image/svg+xml;", "lesson_"))] == [], name
        assert 'lang="en"' in page and page.count("<h1>") == 1


def test_words_become_html():
    assert slides.inline("a **b** *c* `x * y <z>` [d](e.md) f & g") == (
        "a <strong>b</strong> <em>c</em> <code>x * y &lt;z&gt;</code> d f &amp; g")
    assert slides.first_sentences("One. Two (x/y#12). " + "Three " * 60) == "One. Two."
    assert slides.alternative_text("c", "<text>1</text>") == "c."


def test_letters_of_a_figure_can_be_read_on_a_slide():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = pyplot.figure(figsize=(16, 4))
    small, large = figure.text(0, 0, "small", fontsize=3), figure.text(0, 0, "large", fontsize=40)
    slides.enlarged(figure)
    pixels = small.get_fontsize() * 1156 / (16 * 72)
    assert pixels == pytest.approx(slides.SMALLEST) and large.get_fontsize() == 40
    pyplot.close(figure)


def test_no_slide_is_cut_off_in_a_browser_and_keys_turn_them(made, tmp_path):
    with browser.chromium() as started:
        page = started.new_page()
        for name in sorted(made):
            (tmp_path / "a.html").write_text(made[name], encoding="utf-8")
            page.set_viewport_size({"width": 1280, "height": 720})
            page.goto((tmp_path / "a.html").as_uri())
            cut = page.evaluate("""[...document.querySelectorAll(".slide")].map((one, n) => [n + 1,
                one.scrollHeight - one.clientHeight, one.scrollWidth - one.clientWidth]).filter(one => one[1] > 1
                || one[2] > 1)""")
            assert cut == [], name
        (tmp_path / "a.html").write_text(made["lesson_02"], encoding="utf-8")
        page.goto((tmp_path / "a.html").as_uri())
        for key in ("ArrowRight", "PageDown", " ", "ArrowLeft"):
            page.keyboard.press(key)
        assert page.evaluate("here()") == 2
        page.keyboard.press("End")
        assert page.evaluate("here() + 1 === slides.length")

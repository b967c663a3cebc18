"""What goes into the site: pages by pattern, links that hold, docstrings that can be read, maps in the order of the
run, and what students do not get. Building it with Sphinx is for `make site` and, on one lesson, for the slow sweeps;
test_site_looks.py looks at all of it in a browser.
"""

import json
import os
import re
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np
import pytest

import minivl
from tools.course import lessons
from tools.course.lesson_index import slug_of
from tools.pages import described, maps, site
from tools.teaching import FOR_TEACHERS

LINK = re.compile(r"\]\((?P<path>[^)#:\s]*)(?P<place>#[^)\s]*)?\)")
FENCED = re.compile(r"(?ms)^(`{3,}|~{3,}).*?^\1\s*$")


@pytest.fixture(scope="module")
def pages():
    return dict(site.pages(readers="teachers"))


@pytest.fixture(scope="module")
def for_students():
    return dict(site.pages())


def headings_of(text):
    """The places in a page: slugs of its headings, and what stands in it with an id."""
    headings = re.findall(r"(?m)^#+ +(.+?) *$", text)
    return ({slug_of(re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", one)) for one in headings}
            | set(re.findall(r'(?:id|name)="([^"]+)"', text)))


def prose_of(name, data):
    """The text of a page or of the text cells of a lesson, without blocks of code; nothing for a picture."""
    if name.endswith(".ipynb"):
        cells = json.loads(data)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = data.decode("utf-8") if name.endswith(".md") else ""
    return FENCED.sub("", text)


def test_all_lessons_and_pages_are_in_by_pattern(pages):
    here = {path.relative_to(site.ROOT).as_posix() for path in (site.ROOT / "docs").rglob("*.md")}
    assert here | {f"notebooks/{path.stem}.ipynb" for path in lessons.sources()} <= pages.keys()
    assert {"index.md", "explorer.md", "api.md", "api/minivl.md", "api/minivl.passes.vision.md", "README.md",
            "minivl/tiny/README.md", "CONTRIBUTING.md", "notebooks/README.md", "CHANGELOG.md", "SECURITY.md",
            "docs/README.md", "api/minivl.run.prepare.md", "api/minivl.truth.museum.md"} <= pages.keys()


@pytest.mark.parametrize("readers", site.READERS)
def test_links_between_pages_lessons_and_sources_hold(readers):
    pages = dict(site.pages(readers=readers))
    places = {name: headings_of(prose_of(name, data)) for name, data in pages.items()}
    seen, wrong = 0, []
    for name, data in pages.items():
        if name.startswith("source/"):
            continue
        for link in LINK.finditer(re.sub(r"`[^`]*`", "`code`", prose_of(name, data))):
            target = os.path.normpath(PurePosixPath(name).parent / unquote(link["path"])) if link["path"] else name
            place = (link["place"] or "#")[1:]
            seen += 1
            if target not in pages or (place and place not in places[target]):
                wrong.append(f"{name}: {link[0]}")
    assert not wrong, "\n".join(wrong)
    assert seen > 100


def test_a_link_to_a_source_leads_to_a_page_that_shows_it(pages):
    assert "](source/minivl/model.py.md)" in pages["README.md"].decode("utf-8")
    shown = pages["source/minivl/model.py.md"].decode("utf-8")
    assert (site.ROOT / "minivl" / "model.py").read_text(encoding="utf-8") in shown
    page = site.ROOT / "docs" / "reference" / "glossary.md"
    other = site.with_sources(page.read_text(encoding="utf-8"), page, {"docs/reference/glossary.md"}, set())
    assert "[x](nowhere.py)" not in other and "](../../notebooks/lesson_00" in other     # a lesson is a page already


def test_students_get_no_page_of_the_teachers_no_source_behind_one_and_no_link(pages, for_students):
    withheld = {name for name in pages if site.matches(name.removeprefix("source/"), site.WITHHELD)}
    assert {f"docs/teaching/{name}" for name in FOR_TEACHERS} <= withheld and not withheld & for_students.keys()
    readme = for_students["docs/teaching/README.md"].decode("utf-8")
    assert "| Instructor notes |" in readme and "instructor-notes.md" not in readme         # its words are left
    assert "](grading.md)" in readme and "](instructor-notes.md)" in pages["docs/teaching/README.md"].decode("utf-8")


MAKING = re.compile(r"(?i)do not edit( this page|\.)|writes (it|this page)\.|written by\s+`(python|minivl)|"
                    r"golden answers are made")


def test_no_page_but_those_on_working_on_it_says_how_it_is_made(for_students):
    about = ("CONTRIBUTING", "CHANGELOG", "tools/", "source/", "api", "minivl.", "docs/made/the-article")
    found = {name: MAKING.findall(prose_of(name, data)) for name, data in for_students.items()}
    assert not {name: said for name, said in found.items() if said and not name.startswith(about)}
    assert MAKING.search((site.ROOT / "docs" / "made" / "refusals.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def order():
    """Labels in the order in which a run gives them: a prompt with a picture and a video, two tokens that are the
    likeliest, then two that are drawn by lot, and boxes in pixels."""
    pixels = np.full((56, 84, 3), 90, np.uint8)
    content = [{"type": "image", "image": pixels}, {"type": "video", "video": [pixels] * 4, "fps": 2.0},
               {"type": "text", "text": "What?"}]
    with minivl.load() as vlm, minivl.session(record="*") as session:
        inputs = vlm.prepare([{"role": "user", "content": content}])
        for options in ({"repetition_penalty": 1.2}, {"do_sample": True}):
            vlm.generate(inputs, max_new_tokens=2, **options)
        seen = list(session.trace)
    return [*seen, "answer.boxes_to_original"]


@pytest.mark.parametrize("path", lessons.sources(), ids=lambda path: path.stem)
def test_the_map_of_a_lesson_has_the_order_of_the_run(path, order):
    cells = lessons.notebook(path.read_text(encoding="utf-8")).cells
    blocks = [block["rows"] for cell in cells for block in maps.BLOCK.finditer(cell.source)]
    assert len(blocks) == 1 and any(row.here for row in maps.rows(blocks[0]))
    named = maps.labels(blocks[0])
    assert len(named) >= 5 and named == sorted(named, key=order.index)


def test_a_map_is_a_list_of_rows_on_the_site():
    block = ("a.b   c_d.e.0.f    what `a` is\na.g   a.h\nthe next: <one>   <== section 2\n"
             "                     <== you are here: x\n")
    assert maps.rows(block) == [(("a.b", "c_d.e.0.f"), "what `a` is", False), (("a.g", "a.h"), "", False),
                                (("the next: <one>",), "section 2", True), ((), "you are here: x", True)]
    assert maps.labels(block) == ["a.b", "c_d.e.0.f", "a.g", "a.h"]
    page = maps.shown(f"Text\n\n```\ncode\n```\n\n```\n{block}```\n\nMore")
    assert page.startswith("Text\n\n```\ncode\n```\n\n<ol class") and page.endswith("</ol>\n\nMore")
    assert '<li class=here><span class="passes">the next: &lt;one&gt;</span>' in page and "<code>a</code> is" in page
    lesson = dict(site.pages("lesson_03*"))["notebooks/lesson_03_patches_and_the_2x2_order.ipynb"].decode("utf-8")
    assert "lesson-map" in lesson and "<==" not in lesson


def test_a_figure_says_in_its_file_what_it_shows_and_how_large_its_letters_are(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from minivl.show import plot
    plain = FigureCanvasAgg.print_png
    described.install()
    try:
        figure = plot.board(1, 2, (6, 3))
        left, right = figure.axes
        left.plot([0, 1], label="rms")
        left.legend(fontsize=6)
        plot.heat(np.eye(3), right)
        left.set(title="two numbers", xlabel="block")
        figure.savefig(tmp_path / "a.png")
        right.set_axis_off()
        figure.set_label("Said by its maker")
        left.legend(fontsize=12)
        left.tick_params(labelsize=11)
        figure.savefig(tmp_path / "b.png", dpi=72)
    finally:
        FigureCanvasAgg.print_png = plain
    said, letters, size = described.read(tmp_path / "a.png")
    assert said.startswith("2 panels: two numbers; across: block; shown are rms (curves); float64 [3, 3]; ")
    assert letters == pytest.approx(6 * 100 / 72, abs=0.01) and size == (600, 300)
    said, letters, _ = described.read(tmp_path / "b.png")
    assert said == "Said by its maker" and 7 <= letters < 11


def test_what_has_not_changed_is_left_untouched_and_what_is_gone_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "pages", lambda only, readers: iter([("a.md", b"one"), ("docs/b.md", b"two")]))
    site.gather(tmp_path)
    os.utime(tmp_path / "a.md", ns=(0, 0))
    (tmp_path / "old.md").write_bytes(b"gone")
    monkeypatch.setattr(site, "pages", lambda only, readers: iter([("a.md", b"one"), ("docs/b.md", b"three")]))
    site.gather(tmp_path)
    assert (tmp_path / "a.md").stat().st_mtime_ns == 0
    assert (tmp_path / "docs" / "b.md").read_bytes() == b"three" and not (tmp_path / "old.md").exists()


def test_docstrings_are_text_code_and_blocks():
    said = site.rst_of("Rows (*w d*) of `x`s | y_ go in.\nAnd `out: `.\n\n    f(*args)\n\nleft: a_b\n  more\n\nEnd.")
    assert said == ("Rows (\\*w d\\*) of \\ ``x``\\ s \\| y\\_ go in.\nAnd \\ ``out:``\\ .\n\n::\n\n       f(*args)\n\n"
                    "::\n\n   left: a_b\n     more\n\nEnd.")


def test_a_solution_is_shown_without_its_markers_and_without_hidden_tests():
    source = ("def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n"
              "check(f)\n### BEGIN HIDDEN TESTS\ncheck(f, 20)\n### END HIDDEN TESTS\nprint(1)\n")
    assert lessons.solved_form(source) == "def f(x):\n    return x\ncheck(f)\nprint(1)\n"
    for path in lessons.sources():
        text = lessons.solved_form(path.read_text(encoding="utf-8"))
        assert not any(marker in text for marker in (lessons.BEGIN, lessons.END, lessons.BLANK))


def test_a_table_of_contents_with_nothing_in_it_is_left_out():
    table = "```{{toctree}}\n:glob:\n\n{}\n```"
    full, empty = table.format("docs/a*\ndocs/none*"), table.format("docs/teaching/*")
    assert site._without_empty_lists(f"{full}\n\n{empty}\n", ["docs/all.md", "b.md"]).split() == full.split()


PAGE = '<html><body><h1 id="top">x</h1>{}</body></html>'


@pytest.mark.parametrize(("written", "said"), [
    ('<a href="other.html#there">x</a><a href="#top">x</a><a href="https://elsewhere.org">x</a>', None),
    ('<a href="gone.html">x</a>', "there is no gone.html"),
    ('<a href="other.html#gone">x</a>', "other.html has no place of that name"),
    ('<a href="#gone">x</a>', "index.html has no place of that name"),
    ('<a href="../outside.html">x</a>', "there is no"),
    ('<img src="gone.png">', "there is no gone.png"),
    ('<script src="https://elsewhere.org/x.js"></script>', "is loaded from elsewhere"),
    ('<link rel="stylesheet" href="//elsewhere.org/x.css">', "is loaded from elsewhere"),
    ('<img src="data:image/png;base64,xx">', None),
])
def test_a_link_that_leads_nowhere_is_found(written, said, tmp_path):
    (tmp_path / "index.html").write_text(PAGE.format(written), encoding="utf-8")
    (tmp_path / "other.html").write_text(PAGE.format('<p id="there"></p>'), encoding="utf-8")
    found = list(site.broken_links(tmp_path))
    assert not found if said is None else len(found) == 1 and said in found[0]
    assert not list(site.broken_links(tmp_path, ["gone*", "outside*", "elsewhere*"]))    # left out on purpose


def test_another_file_in_the_package_is_another_key(tmp_path, monkeypatch):
    (tmp_path / "minivl" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(site, "ROOT", tmp_path)
    keys = []
    for name, data in [("model.py", b"1"), ("model.py", b"2"), ("tiny.safetensors", b""), ("__pycache__/x.pyc", b"")]:
        (tmp_path / "minivl" / name).write_bytes(data)
        keys.append(site.key_of(tmp_path / "minivl"))
    assert len(set(keys)) == 3 and keys[2] == keys[3]            # what Python keeps beside the sources does not count


def test_bad_wishes_end_with_a_message_and_nothing_written(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        site.main(["--to", str(tmp_path)])
    said = capsys.readouterr().err
    assert left.value.code == 2 and ("holds something else" in said or "not installed" in said)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_type_of_pythons_own_is_no_link_to_a_member_of_its_name(tmp_path, monkeypatch):
    for name in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(name, reason="the extra `site` is not installed")
    sized = 'class {}:\n    """A class."""\n\n    @property\n    def bytes(self) -> int:\n        """Its size."""\n'
    text = f'{sized.format("Part")}\n{sized.format("Span")}\ndef read(data: bytes) -> bytes:\n    """Reads."""\n'
    (tmp_path / "sized.py").write_text(text, encoding="utf-8")
    (tmp_path / "site-extra").mkdir()
    (tmp_path / "pages").mkdir()
    page = "# A page\n\n```{eval-rst}\n.. automodule:: sized\n   :members:\n```\n"
    (tmp_path / "pages" / "index.md").write_text(page, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(site, "BUILD", tmp_path)
    site.run_sphinx(tmp_path, tmp_path / "cache", "students")            # two members fit: a warning is an error
    made = (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    assert 'id="sized.Span.bytes"' in made and 'title="sized.Part.bytes"' not in made


@pytest.mark.full
def test_a_site_with_one_lesson_is_built_without_a_warning(tmp_path):
    for name in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(name, reason="the extra `site` is not installed")
    site.build(tmp_path / "site", "lesson_03*")                    # that of students
    lesson = (tmp_path / "site" / "notebooks" / "lesson_03_patches_and_the_2x2_order.html").read_text(encoding="utf-8")
    assert "your code here" not in lesson and "BEGIN SOLUTION" not in lesson
    folded = re.findall(r"(?s)<details><summary>One solution.*?</details>", lesson)
    assert len(folded) == 2 and all("return" in re.sub(r"<[^>]+>", "", one) for one in folded)
    assert lesson.rindex("One solution") < lesson.rindex("</details>") < lesson.rindex(": right")
    assert "<math" in lesson and "cell_output" in lesson                       # formulas, and it has run
    assert "normalise" in (tmp_path / "site" / "api" / "minivl.passes.block.html").read_text(encoding="utf-8")

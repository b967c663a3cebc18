"""What goes into the site: pages by pattern, links that hold, docstrings that can be read, answers that stay hidden.
Building it with Sphinx is for `make site` and, on one lesson, for the slow sweeps.
"""

import json
import os
import re
from pathlib import PurePosixPath
from urllib.parse import unquote

import pytest

from tools.course import lessons
from tools.course.lesson_index import slug_of
from tools.pages import site

LINK = re.compile(r"\]\((?P<path>[^)#:\s]*)(?P<place>#[^)\s]*)?\)")
FENCED = re.compile(r"(?ms)^(`{3,}|~{3,}).*?^\1\s*$")


@pytest.fixture(scope="module")
def pages():
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


def test_links_between_pages_lessons_and_sources_hold(pages):
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
    other = site._with_sources(site.ROOT / "docs" / "reference" / "glossary.md", {"docs/reference/glossary.md"}, set())
    assert "[x](nowhere.py)" not in other and "](../../notebooks/lesson_00" in other     # a lesson is a page already


def test_what_has_not_changed_is_left_untouched_and_what_is_gone_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "pages", lambda only: iter([("a.md", b"one"), ("docs/b.md", b"two")]))
    site.gather(tmp_path)
    os.utime(tmp_path / "a.md", ns=(0, 0))
    (tmp_path / "old.md").write_bytes(b"gone")
    monkeypatch.setattr(site, "pages", lambda only: iter([("a.md", b"one"), ("docs/b.md", b"three")]))
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
        keys.append(site.package_key())
    assert len(set(keys)) == 3 and keys[2] == keys[3]            # what Python keeps beside the sources does not count


def test_bad_wishes_end_with_a_message_and_nothing_written(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        site.main(["--to", str(tmp_path)])
    said = capsys.readouterr().err
    assert left.value.code == 2 and ("holds something else" in said or "not installed" in said)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.full
def test_a_site_with_one_lesson_is_built_without_a_warning(tmp_path):
    for name in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(name, reason="the extra `site` is not installed")
    site.build(tmp_path / "site", "lesson_03*")
    lesson = (tmp_path / "site" / "notebooks" / "lesson_03_patches_and_the_2x2_order.html").read_text(encoding="utf-8")
    assert "your code here" not in lesson and "BEGIN SOLUTION" not in lesson
    folded = re.findall(r"(?s)<details><summary>One solution.*?</details>", lesson)
    assert len(folded) == 2 and all("return" in re.sub(r"<[^>]+>", "", one) for one in folded)
    assert lesson.rindex("One solution") < lesson.rindex("</details>") < lesson.rindex(": right")
    assert "<math" in lesson and "cell_output" in lesson                       # formulas, and it has run
    assert "normalise" in (tmp_path / "site" / "api" / "minivl.passes.block.html").read_text(encoding="utf-8")

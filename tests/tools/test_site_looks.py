"""How the pages of the site look in a browser, at the width of a laptop and of a telephone: nothing cut, nothing that
makes the page scroll sideways, every picture described, letters in figures large enough; and what students do not get.

The site is built first (minutes, less when the lessons have run before), so this is for the slow sweeps.
MINIVL_SITE=FOLDER looks at a site that is there, with its teachers' beside it.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.browser import chromium
from tools.course import lessons
from tools.pages import described, site
from tools.teaching import FOR_TEACHERS

pytestmark = pytest.mark.full
LAPTOP, TELEPHONE = 1280, 390                   # pixels across
LETTERS = 9                                     # pixels, at least, of the letters of a figure
UNLOOKED = ("search.html", "explorer-example.html")
OTHER = "docs/teaching/*", "notebooks/*", "index.html"          # pages of the teachers' site that are not the students'

# What is wider than its box and can be scrolled to is no fault; what is hidden, or sticks out of the window, is.
FAULTS = r"""
() => {
  const said = [], root = document.documentElement;
  const name = e => `${e.tagName.toLowerCase()}${e.className.baseVal ?? (e.className ? '.' + e.className : '')}`
                    + ` "${(e.alt || e.textContent).trim().slice(0, 50)}"`;
  const scrolls = e => { for (let box = e; box && box !== document.body; box = box.parentElement)
                           if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return true; };
  if (root.scrollWidth > innerWidth) said.push(`the page is ${root.scrollWidth} pixels wide`);
  for (const e of document.querySelectorAll('article *')) {
    if (e.parentElement.closest('svg, math') || getComputedStyle(e).display === 'inline' || !e.clientWidth) continue;
    const style = getComputedStyle(e).overflowX, over = e.scrollWidth - e.clientWidth;
    if (over > 1 && ['hidden', 'clip'].includes(style)) said.push(`cut by ${over}: ${name(e)}`);
    if (e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e)) said.push(`sticks out: ${name(e)}`);
  }
  return said;
}"""
SCROLLING = r"""
() => [...document.querySelectorAll('.cell_input pre, .lesson-map, #two-commands pre')]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => `${e.className} ${e.textContent.trim().slice(0, 60)}`)"""
PICTURES = r"""
() => [...document.querySelectorAll('article img:not(.toggler), article iframe, article svg')].map(e => ({
  tag: e.tagName.toLowerCase(), file: e.tagName === 'IMG' ? e.currentSrc : '', width: e.getBoundingClientRect().width,
  said: e.alt || e.title || e.getAttribute('aria-label') || ''}))"""


@pytest.fixture(scope="module")
def built():
    """The students' site and the teachers'."""
    if given := os.environ.get("MINIVL_SITE"):
        return Path(given), Path(given + "-teachers")
    for name in ("sphinx", "myst_nb", "furo", "playwright"):
        pytest.importorskip(name, reason="the extra `site`, or playwright, is not installed")
    folders = site.BUILD / "looked-at", site.BUILD / "looked-at-teachers"
    for folder, readers in zip(folders, site.READERS, strict=True):
        site.build(folder, readers=readers)
    return folders


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def looked_at(browser, folder, width, script, wanted=("*",)):
    """What a script says about each page of a site, or about those wanted: (name, answer)."""
    window = browser.new_page(viewport={"width": width, "height": 900})
    for page in sorted(folder.rglob("*.html")):
        name = page.relative_to(folder).as_posix()
        if site.matches(name, wanted) and not site.matches(name, UNLOOKED):
            window.goto(page.resolve().as_uri())
            yield name, window.evaluate(script)
    window.close()


@pytest.mark.parametrize("width", [LAPTOP, TELEPHONE])
def test_nothing_is_cut_and_no_page_scrolls_sideways(width, built, browser):
    looked = [pair for folder, wanted in zip(built, (["*"], OTHER), strict=True)
              for pair in looked_at(browser, folder, width, FAULTS, wanted)]
    wrong = [f"{name}: {fault}" for name, said in looked for fault in said]
    assert not wrong, f"at {width} pixels:\n" + "\n".join(wrong)
    assert len(looked) > 200


def test_a_laptop_shows_the_code_and_the_maps_of_lessons_whole(built, browser):
    wanted = ["notebooks/*", "index.html"]                 # of the teachers' site, whose solutions stand open
    wrong = [f"{name}: {box}" for name, said in looked_at(browser, built[1], LAPTOP, SCROLLING, wanted) for box in said]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("width", [LAPTOP, TELEPHONE])
def test_pictures_are_described_and_their_letters_can_be_read(width, built, browser):
    wrong, seen = [], 0
    for name, pictures in looked_at(browser, built[0], width, PICTURES):
        for picture in pictures:
            seen += 1
            file = Path(unquote(picture["file"].removeprefix("file://"))) if picture["file"] else None
            if len(picture["said"]) < 12:
                wrong.append(f"{name}: {file or picture['tag']} has no description: {picture['said']!r}")
            if file and (letters := letters_of(file, picture["width"])) < LETTERS - 0.05:
                wrong.append(f"{name}: letters of {letters:.1f} pixels in {picture['said'][:60]!r}, {file.name}")
    assert not wrong, "\n".join(wrong)
    assert seen > 80


def letters_of(file, width):
    """How large the smallest letters of a picture are when it is so many pixels wide."""
    if file.suffix == ".svg":
        text = file.read_text(encoding="utf-8")
        own = float(re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+)', text)[1])
        return min(map(float, re.findall(r'font-size[=:]"?\s*([\d.]+)', text)), default=99) * width / own
    _, letters, (own, _) = described.read(file)
    return letters * width / own                                 # infinite: a photo, or a picture that does not say


SENTENCE = re.compile(r"[^.?!|#\n`*\[\]()]{40,}")


def sentences(text):
    """What could be recognised of a page: stretches of plain words, without marks, links and numbers of cells."""
    return {" ".join(one.split()) for one in SENTENCE.findall(re.sub(r"\[([^\]]*)\]\([^)]*\)", "|", text))}


def words_of(path):
    """The words that a file of a site holds, its marks removed."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("&quot;", '"').replace("&#39;", "'").split())


def test_students_get_no_key_no_exam_and_no_notes(built):
    students, teachers = built
    docs = site.ROOT / "docs"
    public = [path.read_text(encoding="utf-8") for path in docs.rglob("*.md") if path.name not in FOR_TEACHERS]
    public += [re.sub(r"(?m)^# ?>? ?", "", path.read_text(encoding="utf-8")) for path in lessons.sources()]
    common = " ".join(" ".join(public).split())               # a key may say what a page that all can read says too
    texts = {name: (docs / "teaching" / name).read_text(encoding="utf-8") for name in FOR_TEACHERS}
    asked = {name: {one for one in sentences(text) if one not in common} for name, text in texts.items()}
    assert all(len(found) > 10 for found in asked.values()), {name: len(found) for name, found in asked.items()}
    everything = {kind: "\n".join(words_of(path) for path in sorted(folder.rglob("*"))
                                  if path.suffix in (".html", ".js", ".txt", ".md", ".ipynb", ".inv"))
                  for kind, folder in (("students", students), ("teachers", teachers))}
    leaked = [f"{name}: {one}" for name, found in asked.items() for one in found if one in everything["students"]]
    assert not leaked, "\n".join(leaked)
    for name, found in asked.items():            # the same search finds them where they are
        assert sum(one in everything["teachers"] for one in found) > 0.7 * len(found), name


def test_students_search_finds_no_page_of_the_teachers(built):
    names = [Path(name).stem for name in FOR_TEACHERS]
    index = [(folder / "searchindex.js").read_text(encoding="utf-8") for folder in built]
    assert not [name for name in names if f"docs/teaching/{name}" in index[0]]
    assert all(f"docs/teaching/{name}" in index[1] for name in names)
    assert not [path for path in built[0].rglob("*") if path.stem in names]


def test_a_solved_exercise_shows_its_solution(built):
    heads = "<details><summary>One solution", "<details open><summary>One solution"
    for folder, head in zip(built, heads, strict=True):
        for source in lessons.sources():
            page = (folder / "notebooks" / f"{source.stem}.html").read_text(encoding="utf-8")
            solutions = source.read_text(encoding="utf-8").count(lessons.BEGIN)
            assert page.count(head) == solutions > 0, source.stem
            assert "your code here" not in page and "SOLUTION" not in page, source.stem

"""The glossary and the questions point at cells that are there, and no lesson uses a term before it is defined."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

_spec = importlib.util.spec_from_file_location("lesson_index", ROOT / "tools" / "course" / "lesson_index.py")
assert _spec is not None and _spec.loader is not None
index = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(index)

TERMS = index.terms()
QUESTIONS = index.QUESTIONS.read_text(encoding="utf-8")
PAGES = [index.GLOSSARY, index.QUESTIONS, ROOT / "README.md", ROOT / "notebooks" / "README.md"]


def test_the_glossary_is_in_order_and_names_nothing_twice():
    assert len(TERMS) > 50
    assert sorted(set(TERMS), key=str.lower) == TERMS


@pytest.mark.parametrize("term", TERMS)
def test_no_lesson_uses_a_term_before_the_cell_that_defines_it(term):
    assert index.early_uses(term) == []


def test_links_are_as_the_lessons_are_now():
    linking = [(page, index.filled_links) for page in index.linking()]
    for path, fill in ((index.GLOSSARY, index.filled_glossary), *linking):
        text = path.read_text(encoding="utf-8")
        assert fill(text) == text, f"{path.name}: write it anew, python tools/course/lesson_index.py"


def test_every_question_has_a_link_to_a_cell_or_says_that_its_lesson_is_to_come():
    entries = re.split(r"(?m)^### ", QUESTIONS)[1:]
    assert len(entries) > 20
    without = [entry.splitlines()[0] for entry in entries if not re.search(r"lesson \d+, cell \d|\*[Ll]ater lesson\*",
                                                                        " ".join(entry.split()))]
    assert not without


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_of_a_page_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_a_thread_that_a_question_names_is_linked_and_lies_where_it_says():
    """`[owner/name#7](https://github.com/owner/name/issues/7)`; a bare #8 belongs to the repository before it."""
    plain = re.sub(r"\[[^\]]*\]\([^)]*\)", "", QUESTIONS)
    assert re.findall(r"[\w.-]+/[\w.-]+#\d+|(?<=[ (])#\d+", plain) == []
    repository = ""
    for named, number, target in re.findall(r"\[([\w./-]*)#(\d+)\]\(([^)]*)\)", QUESTIONS):
        repository = named or repository
        assert target == f"https://github.com/{repository}/issues/{number}"
    assert repository


def numbered(text):
    """Lines that pages make items of a list of, although they begin none and go on with none."""
    found, last = [], 0
    for line in re.sub(r"(?ms)^```.*?^```$", "", text).splitlines():
        item = re.match(r"(\d+)\. ", line)
        if item and int(item[1]) not in (1, last + 1):
            found.append(line)
        last = int(item[1]) if item else 0 if line.startswith("#") else last
    return found


@pytest.mark.parametrize("folder", ["guide", "reference"])
def test_no_sentence_begins_as_an_item_of_a_list(folder):
    assert numbered("14. Four patches are one cell.") and not numbered("1. one\n   more\n2. two")
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / folder).glob("*.md")}
    assert {name: lines for name, text in texts.items() if (lines := numbered(text))} == {}


def lesson_of(monkeypatch, *texts):
    """A world of one lesson with these text cells."""
    cells = tuple(index.Cell("lesson_00_x", n, text, index.words_of_text(text), "") for n, text in enumerate(texts, 1))
    monkeypatch.setattr(index, "cells", lambda: cells)


def test_an_early_use_is_found_in_whatever_form_but_not_in_code(monkeypatch):
    lesson_of(monkeypatch, "a title", "two visual\ntokens", "`visual token` $visual token$", "a **Visual Token**")
    assert [use.partition(": ")[0] for use in index.early_uses("visual token")] == ["lesson_00_x, cell 2"]
    assert index.early_uses("visual token (of attention)") == []
    with pytest.raises(ValueError, match="no lesson defines 'window'"):
        index.early_uses("window")


def test_a_definition_is_linked_by_the_section_in_which_it_stands(monkeypatch):
    lesson_of(monkeypatch, "# A title", "## 1. One: *two*\na **patch**\n## 2. Three\na **cell**")
    cell, at = index.definition("cell")
    assert cell.link(at) == "[lesson 0, cell 2](../../notebooks/lesson_00_x.ipynb#2-three)"
    assert index.definition("patch")[0].link(20).endswith("#1-one-two)")


def test_a_link_to_a_section_that_is_gone_is_an_error(monkeypatch):
    lesson_of(monkeypatch, "# A title")
    linked = index.filled_links("see [x](../notebooks/lesson_00_x.ipynb#a-title)")
    assert linked == "see [lesson 0, cell 1](../notebooks/lesson_00_x.ipynb#a-title)"
    with pytest.raises(ValueError, match="no section of this name"):
        index.filled_links("[](../notebooks/lesson_00_x.ipynb#gone)")
    later = "[lesson 7, cell 2](../notebooks/lesson_07_y.ipynb#gone)"
    assert index.filled_links(later) == later                                 # not written yet


def test_code_is_read_for_what_it_says_to_a_reader():
    assert index.words_of_code("logits = f(softmax)  # the scores\nprint('two words', 'token')\n") == (
        "# the scores 'two words'")

"""Which cell of which lesson: the links of the glossary, the questions and docs/teaching, and terms used too early.

    python tools/course/lesson_index.py        write these files anew, with the cells as they are now

A term is defined where it first stands in **bold** in a lesson. The last column of the glossary is made from that. In
the other files the text of a link to a section of a lesson is made from where that section begins. Cells are counted
from 1, as they stand in the notebook. A glossary term with words in brackets, "key (of attention)", is an everyday
word: its definition is looked for, its earlier uses are not. Read next: docs/reference/glossary.md,
tests/tools/test_lesson_index.py.
"""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
LESSONS = ROOT / "notebooks"
GLOSSARY, QUESTIONS = ROOT / "docs" / "reference" / "glossary.md", ROOT / "docs" / "guide" / "questions.md"
ROW = re.compile(r"^\| (?P<term>[^|]+) \| (?P<meaning>[^|]+) \|[^|]*\|$", re.MULTILINE)
HEADING = re.compile(r"(?m)^#+ (.+)$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>(?:\.\./)+notebooks/(?P<name>lesson_\w+)\.ipynb#(?P<slug>[\w-]+))\)")


class Cell(NamedTuple):
    """A cell of a lesson: its number from 1, its text, what a reader reads in it, and the section that it begins in."""
    lesson: str
    number: int
    text: str
    prose: str
    slug: str

    @property
    def name(self) -> str:
        return f"lesson {int(self.lesson.split('_')[1])}, cell {self.number}"

    def link(self, at: int) -> str:
        """A link to the section that holds character `at` of the text."""
        slugs = [self.slug, *map(slug_of, HEADING.findall(self.text[:at]))]
        return f"[{self.name}](../../notebooks/{self.lesson}.ipynb#{slugs[-1]})"


@cache
def cells() -> tuple[Cell, ...]:
    """All cells of all lessons, in order."""
    import jupytext  # type: ignore[import-untyped]
    found = []
    for path in sorted(LESSONS.glob("lesson_*.py")):
        slug = ""
        for number, cell in enumerate(jupytext.read(path, fmt="py:percent").cells, start=1):
            code = cell.cell_type == "code"
            prose = words_of_code(cell.source) if code else words_of_text(cell.source)
            found.append(Cell(path.stem, number, "" if code else cell.source, prose, slug))
            if not code and (headings := HEADING.findall(cell.source)):
                slug = slug_of(headings[-1])
    return tuple(found)


def slug_of(heading: str) -> str:
    """The anchor of a heading, as pages make it: lower case, words joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def words_of_text(source: str) -> str:
    """A text cell without its headings and what names arrays and labels: fenced and inline code, formulas."""
    return re.sub(r"(?sm)^#+ .*?$|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", source)


def words_of_code(source: str) -> str:
    """What a code cell says to its reader: comments, and strings that hold more than one word."""
    said = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string.strip()):
            said.append(token.string)
    return " ".join(said)


def terms() -> list[str]:
    """The terms of the glossary, in its order."""
    rows = [match["term"] for match in ROW.finditer(GLOSSARY.read_text(encoding="utf-8"))]
    return [term for term in rows if term not in ("term", "---")]


def definition(term: str) -> tuple[Cell, int]:
    """The first cell in which the term stands in bold, and where in its text. Raises ValueError when there is none."""
    bold = re.compile(rf"\*\*{_pattern(term)}\*\*", re.IGNORECASE)
    for cell in cells():
        if match := bold.search(cell.text):
            return cell, match.start()
    raise ValueError(f"no lesson defines {term!r}: it stands nowhere in bold")


def early_uses(term: str) -> list[str]:
    """Where a term is used in a cell before the one that defines it: `lesson, cell: the words around`."""
    if "(" in term:
        return []
    defined, word = definition(term)[0], re.compile(rf"(?i)\b{_pattern(term)}\b")
    found = []
    for cell in cells()[: cells().index(defined)]:
        if cell.number == 1 and cell.lesson == defined.lesson:                # the question that the lesson answers
            continue
        if match := word.search(cell.prose):
            around = cell.prose[max(0, match.start() - 40) : match.end() + 30]
            found.append(f"{cell.lesson}, cell {cell.number}: ...{' '.join(around.split())}...")
    return found


def _pattern(term: str) -> str:
    """A term without its bracket, one or many, broken over lines or not."""
    plain = term.partition(" (")[0]
    return r"\s+".join(re.escape(word) for word in plain.split()) + "(?:e?s)?"


def filled_glossary(text: str) -> str:
    """The glossary with the last column as the lessons are now."""
    def row(match: re.Match) -> str:
        if match["term"] in ("term", "---"):
            return match[0]
        cell, at = definition(match["term"])
        return f"| {match['term']} | {match['meaning']} | {cell.link(at)} |"
    return ROW.sub(row, text)


def linking() -> list[Path]:
    """The pages whose links to lessons' sections are named here; the syllabi are made by `python -m tools.teaching`."""
    teaching = sorted((ROOT / "docs" / "teaching").glob("*.md"))
    return [QUESTIONS, *(page for page in teaching if not page.name.startswith("syllabus"))]


def filled_links(text: str) -> str:
    """A page with the text of each link to a lesson's section as the lessons are now.

    Raises ValueError for a link to a section that is not there. A lesson that is not written yet keeps its links.
    """
    written = {cell.lesson.split("_")[1] for cell in cells()}

    def link(match: re.Match) -> str:
        if match["name"].split("_")[1] not in written:
            return match[0]
        for cell in cells():
            if cell.lesson == match["name"] and match["slug"] in map(slug_of, HEADING.findall(cell.text)):
                return f"[{cell.name}]({match['target']})"
        raise ValueError(f"{match['target']}: the lesson has no section of this name")
    return LINK.sub(link, text)


def main() -> None:
    from minivl.door.files import write_whole
    for path, fill in ((GLOSSARY, filled_glossary), *((page, filled_links) for page in linking())):
        text = fill(path.read_text(encoding="utf-8"))
        write_whole(path, methodcaller("write", text.encode("utf-8")))
        print(path)
    for term in terms():
        for use in early_uses(term):
            print(f"used before it is defined: {term}: {use}")


if __name__ == "__main__":
    main()

"""Slides of every lesson, out of its headings, its first sentences and the figures of the course.

    python -m tools.teaching slides [DIR]        DIR/index.html and a page for each lesson; build/slides by default
    make slides                                  the same, and installs what it needs

A page is one file: figures, style and keys are inside, nothing is loaded. Arrow keys, space and Page Down turn the
slides; printing it from a browser gives a PDF with a slide a page. Every figure has an alternative text: its caption
and the words in it. Concept questions stand at the end, one a slide, without their answers.

Needs Matplotlib (the extra `slides`, which has latex2mathml too; without that formulas stay as they are typed).
Read next: `tools/pages/figures/`, which draws; `syllabus.py`, which knows the lessons.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from minivl.door.files import write_whole

from .key import PAGES
from .syllabus import NOTEBOOKS, Lesson, exercises, lessons

SENTENCES = 260                                     # characters of text on a slide, a sentence more or less
LINES, COLUMNS = 16, 98                             # of code on a slide
SMALLEST = 13                                       # pixels of the letters in a figure, on a slide of 1280 x 720
LABELS = 400                                        # characters of a figure's words in its alternative text

# In which section of its lesson a figure stands.
PLACES = {
    0: {"picture-as-array": 2, "prompt-tokens": 3, "next-token": 5},
    1: {"linear-map": 2, "patch-filters": 2, "softmax": 4},
    2: {"before-and-after-resizing": 1, "size-rule": 2, "resize-weights": 3, "two-cubics": 3},
    3: {"raster-and-block-order": 3, "patch-order": 4, "patch-grid": 5, "one-row-of-numbers": 5},
    4: {"scores-and-shares": 5, "heads-by-reshape": 6, "looking-back-only": 8, "attention-maps": 9},
    5: {"pairs-by-size": 1, "windows": 2, "order-and-its-inverse": 3, "window-segments": 4, "how-news-travels": 6,
        "video-windows": 7, "where-the-operations-are": 8},
    6: {"turning-a-pair": 2, "rotary-speeds": 3, "near-me": 4, "rotary-in-two-dimensions": 4},
    7: {"residual-stream": 1, "rms-norm": 2, "soft-switches": 3, "who-writes-where": 4, "outliers": 5},
    8: {"four-rows-side-by-side": 1, "patches-to-tokens": 4, "torn-and-restored": 5},
    9: {"prompt-tokens": 6},
    10: {"mrope-triples": 2, "mrope-picture": 2, "mrope-video-rates": 3, "mrope-sections": 7},
    11: {"grouped-heads": 1, "decoder-looks-at-picture": 2, "prefill-and-decode": 4, "temperature": 6,
         "repetition-penalty": 7},
    12: {"box-to-photo": 2},
    13: {"number-formats": 1, "error-per-stage": 6},
    14: {"dialogue-loss": 3, "preference-loss": 5},
    15: {"faults-per-stage": 4},
}

PREDICT = ("<p><strong>Before the cell is run, write down:</strong> which fault moves the numbers most, "
           "which least?</p>")


class Section(NamedTuple):
    """A part of a lesson: its number (0 for what comes before the first), its heading, the number of the cell that
    begins with it, and the text of its cells."""
    number: int
    heading: str
    cell: int
    text: str


class Slide(NamedTuple):
    """What is on one slide: a heading, what is below it as HTML, and a word for the foot."""
    heading: str
    body: str
    foot: str = ""


# ---- reading a lesson --------------------------------------------------------------------------------------

def cells(source: str) -> list[str]:
    """The cells of a py:percent source: the text of one of Markdown; of one of code that text as a block of code."""
    parts = re.split(r"(?m)^# %%(.*)\n", source)[1:]
    return [re.sub(r"(?m)^# ?", "", text) if "[markdown]" in head else f"```\n{text.strip()}\n```\n"
            for head, text in zip(parts[::2], parts[1::2], strict=True)]


def sections(source: str) -> list[Section]:
    """A lesson's numbered parts in order; the first is what stands before them."""
    found = [Section(0, "", 1, "")]
    for number, text in enumerate(cells(source), start=1):
        before, *parts = re.split(r"(?m)^## (?:(\d+)\. )?(.+)\n", text)
        found[-1] = found[-1]._replace(text=f"{found[-1].text}\n\n{before}")
        for at, heading, own in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            found.append(Section(int(at or 0), heading, number, own))
    return [one for one in found if one.number or one is found[0]]


def paragraph(text: str) -> str:
    """The first sentences of a text: of its first paragraph that is no formula, list, table or code."""
    for block in re.split(r"\n\s*\n", text):
        if block.strip() and not re.match(r"\s*(\$\$|[-*|#>]|\d+\. |```)", block):
            return first_sentences(" ".join(block.split()))
    return ""                                                                      # a section that begins with code


def code_of(text: str) -> str:
    """The code that a section begins with, where it fits on a slide and draws nothing; else ""."""
    block = next(iter(re.findall(r"(?ms)^```\n(.+?)\n```$", text)), "")
    lines = block.split("\n")
    fits = len(lines) <= LINES and max(map(len, lines)) <= COLUMNS
    return block if fits and not re.search(r"\b(plt|plot|figure)\b", block) else ""


def first_sentences(text: str) -> str:
    """Whole sentences from the beginning, of about SENTENCES characters; at least one."""
    text = re.sub(r" \([^()]*\w+/[\w.-]+#\d+[^()]*\)", "", text)                   # an issue is for the reader
    kept = ""
    for sentence in re.split(r"(?<=[.?!])(?<!e\.g\.) (?=[A-Z*`(])", text):
        if kept and len(kept) + len(sentence) > SENTENCES:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


def formulas(text: str) -> list[str]:
    """The formulas that stand alone in a text, two at most."""
    return [" ".join(one.split()) for one in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)][:2]


def questions_of(number: int) -> list[tuple[int, str]]:
    """The concept questions of a lesson: number and text."""
    page = (PAGES / "concept-questions.md").read_text(encoding="utf-8")
    found = []
    for title, text in re.findall(r"(?ms)^## (Lessons? [^\n]+)\n(.+?)(?=^## |\Z)", page):
        if str(number) in re.findall(r"\d+", title.partition(":")[0]):
            found += [(int(one[1]), " ".join(one[2].split()))
                      for one in re.finditer(r"(?ms)^(\d+)\. (.+?)(?=^\d+\. |\Z)", text)]
    return found


# ---- words to HTML -----------------------------------------------------------------------------------------

def inline(text: str) -> str:
    """Markdown within a paragraph as HTML: code, bold, emphasis, formulas; of a link its words."""
    kept: list[str] = []

    def keep(made: str) -> str:
        kept.append(made)
        return f"\0{len(kept) - 1}\0"
    text = re.sub(r"`([^`]+)`", lambda m: keep(f"<code>{html.escape(m[1])}</code>"), text)
    text = re.sub(r"\$([^$]+)\$", lambda m: keep(formula(m[1])), text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
    while "\0" in text:
        text = re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text)
    return text


def formula(tex: str, alone: bool = False) -> str:
    """A formula as MathML, which browsers draw themselves; as it is typed where latex2mathml is not installed."""
    if importlib.util.find_spec("latex2mathml") is None:
        return f"<code>{html.escape(tex)}</code>"
    from latex2mathml.converter import convert  # type: ignore[import-untyped]
    return convert(tex, display="block" if alone else "inline")


def picture(name: str, draw: Callable[[str], tuple[str, bytes]]) -> str:
    """A figure with its caption and its alternative text, all inside the page."""
    caption, svg = draw(name)
    data = base64.b64encode(svg).decode()
    alternative = html.escape(alternative_text(caption, svg.decode("utf-8")))
    return (f'<figure><img alt="{alternative}" src="data:image/svg+xml;base64,{data}">'
            f'<figcaption aria-hidden="true">{inline(caption)}</figcaption></figure>')


def alternative_text(caption: str, svg: str) -> str:
    """What a figure shows for those who do not see it: its caption, and the words that are written in it."""
    written = [html.unescape(" ".join(re.sub(r"<[^>]+>", " ", one).split()))
               for one in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)]
    words = list(dict.fromkeys(one for one in written if re.search(r"[A-Za-z]{2}", one)))
    kept = ""
    for word in words:
        if len(kept) + len(word) > LABELS:
            break
        kept = f"{kept}; {word}" if kept else word
    return f"{caption}. Written in the figure: {kept}." if kept else f"{caption}."


# ---- slides ------------------------------------------------------------------------------------------------

def slides_of(number: int, lesson: Lesson, draw: Callable[[str], tuple[str, bytes]]) -> Iterator[Slide]:
    """All slides of a lesson, in the order of the hour."""
    source = (NOTEBOOKS / lesson.notebook).with_suffix(".py").read_text(encoding="utf-8")
    opening, *parts = sections(source)
    asked = re.search(r"\*\*The question\.\*\* (.+?)\n\s*\n", opening.text, re.DOTALL)
    question = inline(" ".join(asked[1].split())) if asked else ""
    yield Slide(f"Lesson {number}: {lesson.title}", f'<p class="question">{question}</p>', "cell 1")
    plan = "".join(f"<li>{inline(one.heading)}</li>" for one in parts)
    yield Slide("The hour", f"<ol>{plan}</ol>", f"{lesson.reading} minutes")
    for one in parts:
        yield from _of_section(one, [name for name, at in PLACES.get(number, {}).items() if at == one.number], draw)
    own = [(name, title, long) for name, (title, long) in _exercises().items() if name.startswith(f"{number}.")]
    listed = "".join(f"<li>{name}: {inline(title)} ({long} minutes)</li>" for name, title, long in own)
    yield Slide("Exercises", f'<ul>{listed}</ul><p>Each has three hints, and a cell that checks your answer.</p>')
    for one, text in questions_of(number):
        yield Slide(f"Question {one}", f'<p class="question">{inline(text)}</p>'
                    "<p>One minute alone, two minutes in pairs, then together.</p>")


def _exercises() -> dict[str, tuple[str, int]]:
    """Number of each exercise -> its name and minutes."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("lesson_*.py")):
        for number, title in re.findall(r"(?m)^# ## Exercise (\d+\.\d+): (.+) \(about \d+ minutes\)$",
                                        path.read_text(encoding="utf-8")):
            found[number] = (title, exercises()[number][1])
    return found


def _of_section(one: Section, figures: Sequence[str], draw: Callable[[str], tuple[str, bytes]]) -> Iterator[Slide]:
    """A slide with the first words of a section, and one for each of its figures."""
    said = f"<p>{inline(paragraph(one.text))}</p>"
    shown = "".join(f'<div class="formula">{formula(tex, alone=True)}</div>' for tex in formulas(one.text))
    if not shown and not figures and (code := code_of(one.text)):
        shown = f"<pre><code>{html.escape(code)}</code></pre>"
    if not shown:
        said = re.sub(r":</p>$", ".</p>", said)
    if "break it" in one.heading.lower():
        said += PREDICT
    yield Slide(f"{one.number}. {one.heading}", said + shown, f"cell {one.cell}")
    for name in figures:
        yield Slide(f"{one.number}. {one.heading}", picture(name, draw), f"cell {one.cell}")


# ---- pages -------------------------------------------------------------------------------------------------

STYLE = """
:root { --ink: #14181f; --paper: #ffffff; --accent: #0b57a4; --pale: #eef2f7 }
* { box-sizing: border-box }
html { scroll-snap-type: y mandatory; font-size: min(2.1875vw, 3.889vh) }
body { margin: 0; color: var(--ink); background: var(--paper); font-family: system-ui, sans-serif; line-height: 1.4 }
.slide { position: relative; height: 100vh; padding: 1.4rem 2.2rem 1.8rem; scroll-snap-align: start; overflow: hidden;
  display: flex; flex-direction: column; justify-content: flex-start; border-bottom: 1px solid var(--pale) }
h1, h2 { margin: 0 0 .7rem; font-size: 1.5rem; line-height: 1.2; color: var(--accent) }
h1 { font-size: 2.1rem; margin-top: 22vh }
p, li { margin: 0 0 .6rem; max-width: 40em }
ol li { margin-bottom: .35rem }
.question { font-size: 1.25rem }
code { font-family: ui-monospace, monospace; font-size: .92em; background: var(--pale); padding: 0 .2em }
pre { margin: .4rem 0; font-size: .64rem; line-height: 1.35; background: var(--pale); padding: .5rem .8rem }
pre code { padding: 0; background: none; font-size: 1em }
ol { columns: 1; line-height: 1.25 }
.formula { margin: .6rem 0; font-size: 1.1rem; overflow-x: auto }
figure { margin: 0; flex: 1; min-height: 0; display: flex; flex-direction: column; align-items: center }
figure img { flex: 1; min-height: 0; width: 100%; object-fit: contain }
figcaption { font-size: .8rem; padding-top: .4rem; text-align: center }
footer { position: absolute; right: 2.2rem; bottom: .5rem; font-size: .6rem; color: #4a5361 }
a { color: var(--accent) }
:focus-visible { outline: 3px solid var(--accent) }
@page { size: 1280px 720px; margin: 0 }
@media print {
  html { font-size: 28px }
  .slide { height: 720px; width: 1280px; break-after: page; border: 0 }
  h1 { margin-top: 160px }
}
"""
KEYS = """
const slides = [...document.querySelectorAll(".slide")];
const here = () => slides.reduce((best, one, n) => Math.abs(one.getBoundingClientRect().top)
  < Math.abs(slides[best].getBoundingClientRect().top) ? n : best, 0);
const go = n => { const one = slides[Math.max(0, Math.min(slides.length - 1, n))];
  one.scrollIntoView(); one.focus({preventScroll: true}); };
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  const to = by ? here() + (event.shiftKey && event.key === " " ? -1 : by)
    : {Home: 0, End: slides.length - 1}[event.key];
  if (to === undefined) return;
  event.preventDefault();
  go(to);
});
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{slides}
</main>
<script>{keys}</script>
</body>
</html>
"""


def page(title: str, slides: Sequence[Slide]) -> str:
    """One file of HTML with these slides."""
    made = []
    for number, one in enumerate(slides, start=1):
        level = "h1" if number == 1 else "h2"
        foot = " | ".join(filter(None, (title if number > 1 else "", one.foot, f"{number} of {len(slides)}")))
        made.append(f'<section class="slide" tabindex="-1" aria-label="Slide {number} of {len(slides)}">'
                    f"<{level}>{inline(one.heading)}</{level}>{one.body}<footer>{html.escape(foot)}</footer></section>")
    return PAGE.format(title=html.escape(title), style=STYLE, keys=KEYS, slides="\n".join(made))


def drawn(name: str) -> tuple[str, bytes]:
    """A figure's caption and its SVG, with letters that can be read from the last row."""
    from tools.pages.figures import __main__ as figures
    from tools.pages.figures.sheet import svg_of
    one = figures.FIGURES[name]
    return one.caption, svg_of(one._replace(draw=lambda: enlarged(one.draw())))


def enlarged(drawing: Any) -> Any:
    """A Matplotlib figure whose smallest letters have SMALLEST pixels where it fills a slide."""
    from matplotlib.text import Text
    wide, high = drawing.get_size_inches() * 72
    least = SMALLEST / min(1156 / wide, 540 / high)                # points; a slide has so many pixels for a figure
    for text in drawing.findobj(Text):
        if text.get_fontsize() < least:
            text.set_fontsize(least)
    return drawing


def write(folder: Path, numbers: Sequence[int] = (),
          draw: Callable[[str], tuple[str, bytes]] = drawn) -> Iterator[Path]:
    """Write the pages of these lessons, or of all of them and the list, into a folder that is made when it is not
    there. Raises OSError as the system does."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = numbers or sorted(lessons())
    for number in chosen:
        lesson = lessons()[number]
        text = page(f"Lesson {number}: {lesson.title}", list(slides_of(number, lesson, draw)))
        yield _put(folder / f"lesson_{number:02d}.html", text)
    if not numbers:
        yield _put(folder / "index.html", index())


def index() -> str:
    """The page that lists all lessons, as one slide that may be long."""
    links = "".join(f'<li><a href="lesson_{number:02d}.html">Lesson {number}: {html.escape(one.title)}</a></li>'
                    for number, one in sorted(lessons().items()))
    body = (f"<ul>{links}</ul><p>Arrow keys, space and Page Down turn the slides. Print a page from the browser to "
            "have it as PDF, a slide a page.</p>")
    style = STYLE + "\n.slide { height: auto } h1 { margin-top: 0 } ul { columns: 2 } li { margin-bottom: .3rem }\n"
    return PAGE.format(title="Slides", style=style, keys="",
                       slides=f'<section class="slide"><h1>Slides</h1>{body}</section>')


def _put(path: Path, text: str) -> Path:
    write_whole(path, methodcaller("write", text.encode("utf-8")))
    return path

"""Settings of the site, for Sphinx. `tools/pages/site.py` gathers the pages and calls it; docs/guide/site.md says how.

Five things are made here because nobody else makes them: docstrings, which are plain text, become readable pages;
a type of Python's own in a signature is no link; formulas become MathML, which browsers show by themselves, so that no
page asks for a script; the solution of an exercise, which the check below it has judged, is folded away until a reader
asks for it; and a figure gets the description that stands in its file, and a width at which its letters can be read.
Read next: tools/pages/site.py.
"""

import builtins
import math
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from docutils import nodes  # noqa: E402
from latex2mathml import converter  # noqa: E402
from sphinx.addnodes import pending_xref  # noqa: E402
from sphinx.writers.html5 import HTML5Translator  # noqa: E402

import minivl  # noqa: E402
from tools.course import lessons  # noqa: E402
from tools.pages import described  # noqa: E402
from tools.pages.site import rst_of  # noqa: E402

project, author, version = "minivl", "The minivl authors", minivl.__version__
copyright = "The minivl authors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "index"

html_theme = "furo"
html_title = f"minivl {version}{', for teachers' if tags.has('teachers') else ''}"            # noqa: F821
html_show_sphinx = html_copy_source = False
html_math_renderer = "mathml"
html_static_path, html_css_files = ["static"], ["site.css"]
highlight_language = "text"                                    # of a block that names none: commands, listings
LETTERS = 9.0                                                  # pixels on the page, at least, of a figure's letters

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 6
myst_heading_slug_func = "tools.course.lesson_index.slug_of"          # the anchors that links to lessons are made with
nb_execution_mode = "cache"                                    # where the cache is, tools/pages/site.py says
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
# Links are checked by tools/pages/site.py, in the pages as they are written.
suppress_warnings = ["myst.xref_missing"]


def make_readable(app, what, name, obj, options, lines) -> None:
    """The docstring, under the label and the contract of a pass or a kernel."""
    said = rst_of("\n".join(lines).rstrip())
    if isinstance(contract := getattr(obj, "contract", None), str):
        said = f"**{obj.label}** ``{contract}``\n\n{said}"
    lines[:] = [*said.splitlines(), ""]


def leave_types(app, tree) -> None:
    """`bytes` in a signature is Python's: Sphinx would look for any member of that name, and lead to it."""
    for link in list(tree.findall(pending_xref)):
        if link.get("refdomain") == "py" and link.get("reftarget") in vars(builtins):
            link.replace_self(link.children)


SUMMARY = "One solution. Try it yourself first; the check below has judged this one."


def fold_solutions(app, tree) -> None:
    """A cell that holds an answer: the answer without its markers, to be unfolded; teachers find it open."""
    opened = " open" if app.tags.has("teachers") else ""
    for cell in list(tree.findall(nodes.container)):
        if cell.get("nb_element") == "cell_code" and lessons.BEGIN in cell.astext():
            shown = next(cell.findall(nodes.literal_block))
            text = lessons.solved_form(shown.astext()).rstrip("\n")
            shown.rawsource, shown.children = text, []
            shown += nodes.Text(text)
            cell["classes"].append("solution")
            cell.insert(0, nodes.raw("", f"<details{opened}><summary>{SUMMARY}</summary>", format="html"))
            cell += nodes.raw("", "</details>", format="html")


def describe_figures(app, tree) -> None:
    """The text that stands for a picture where it cannot be seen, and the width below which it would be unreadable."""
    for image in tree.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix not in (".png", ".svg") or not path.is_file():
            continue
        said, letters, (width, _) = described.read(path)
        if said and not image.get("alt"):
            image["alt"] = said
        if math.isfinite(letters):
            image["least"] = min(width, math.ceil(width * LETTERS / letters))


def write_image(page, node) -> None:
    """An image as Sphinx writes it; one with letters is never narrower than they allow, and its box scrolls instead."""
    HTML5Translator.visit_image(page, node)
    if least := node.get("least"):
        page.body[-1] = page.body[-1].replace("<img ", f'<img style="min-width: {least}px" ', 1)


def write_inline_formula(page, node) -> None:
    page.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def write_formula(page, node) -> None:
    page.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def mathml(formula: str, block: bool) -> str:
    """A formula as MathML. Raises ValueError with the formula where it cannot be read."""
    try:
        return converter.convert(formula, display="block" if block else "inline")
    except Exception as error:                # its own kinds have no base in common
        raise ValueError(f"the formula {formula!r}: {type(error).__name__} {error}") from error


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (write_inline_formula, None), (write_formula, None))
    app.connect("autodoc-process-docstring", make_readable)
    app.connect("doctree-read", leave_types)
    app.connect("doctree-read", fold_solutions)
    app.connect("doctree-read", describe_figures)
    app.add_node(nodes.image, override=True, html=(write_image, None))

"""The site: lessons as they ran, pages, and the reference of the package, as a folder of HTML that asks for nothing.

    python -m tools.pages.site                        build/site for students, build/site-teachers with everything
    python -m tools.pages.site --readers students     one of the two
    python -m tools.pages.site --only 'lesson_00*'    with some of the lessons, for a quick look

Pages are gathered by pattern, at the places that they have in the repository, so that their links hold; a lesson goes
there solved, and Sphinx runs it. What ran is kept in build/lesson-cache under a name made of the files that it depends
on: the same lessons with the same package are not run twice. Students get no page of `FOR_TEACHERS`, no source behind
one, and no link to either. At the end every link from page to page is followed; a warning or a link that leads nowhere
is an error. Needs the extra `site`, and no network.

Read next: tools/pages/sphinx/conf.py (Sphinx's settings), maps.py, docs/guide/site.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from hashlib import sha256
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.course import lessons
from tools.pages import maps
from tools.teaching import FOR_TEACHERS

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build"
OWN = ROOT / "tools" / "pages" / "sphinx"                  # pages that only the site has; they go to its top
KERNEL = ROOT / "tools" / "pages" / "described.py"         # what a lesson's kernel takes in besides the package
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md", "notebooks/README.md",
         "minivl/*/README.md", "tools/*/README.md")
WINGS = ("door", "config", "checkpoint", "text", "kernels", "passes", "run", "show", "truth", "teach")
UNSHOWN = ("minivl.text.sandbox", "minivl.show.samples")     # a fence, and pictures: nothing that a reader calls
PICTURES = ("docs/**/*.png", "docs/**/*.svg")
READERS = ("students", "teachers")
WITHHELD = (*(f"docs/teaching/{name}" for name in FOR_TEACHERS), "tools/teaching/*")      # from students
TO_FILE = re.compile(r"(?P<text>\[[^\[\]]*)?\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
# how a page is made is for whoever makes it, and stands in CONTRIBUTING.md
MAKING = re.compile(r"Do not edit this page: `[^`]+` writes it\.[ \n]?|"
                    r"\b(?:[A-Z][a-z ]+ written|Written) by\s`python [^`]+`(?:[^.`]|`[^`]*`)*\.[ \n]?")
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".js": "javascript", ".cu": "cuda"}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--to", type=Path, default=BUILD / "site", help="the folder of the students' site, made anew; "
                        "the teachers' has this name with -teachers behind it")
    parser.add_argument("--readers", choices=READERS, help="build the site of these alone")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of the lessons to take in; links to the "
                        "others are then not followed")
    wanted = parser.parse_args(arguments)
    missing = [name for name in ("sphinx", "myst_nb", "furo", "matplotlib") if find_spec(name) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}. Install the site's extra: pip install -e \".[site]\"")
    folders = {"students": wanted.to, "teachers": wanted.to.with_name(wanted.to.name + "-teachers")}
    try:
        for readers in [wanted.readers] if wanted.readers else READERS:
            build(folders[readers], wanted.only, readers)
            print(f"for {readers}: {folders[readers] / 'index.html'}")
    except (ValueError, OSError) as error:
        parser.error(str(error))


def build(target: Path, only: str = "*", readers: str = "students") -> None:
    """Make the site of these readers in `target`, which is written over when everything has gone well.

    Raises ValueError with what Sphinx said, or with the links that lead nowhere.
    """
    if target.exists() and any(target.iterdir()) and not (target / "genindex.html").exists():
        raise ValueError(f"{target} holds something else; name another folder, or empty it")
    key = key_of(ROOT / "minivl")
    work = BUILD / f"site-for-{readers}"
    gather(work / "pages", only, readers)
    example(BUILD / "site-extra" / "explorer-example.html", key)
    made = work / "made"                      # begun empty: no page of yesterday is left
    shutil.rmtree(made, ignore_errors=True)
    run_sphinx(work, BUILD / "lesson-cache" / f"{key}-{key_of(KERNEL)}", readers)
    others = () if only == "*" else ("lesson_*",)
    if broken := list(broken_links(made, others)):
        raise ValueError("links that lead nowhere:\n" + "\n".join(broken))
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, target)


def key_of(folder: Path) -> str:
    """A name for what a folder holds, or a file: another file in it, another name."""
    taken = sha256()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.is_file() and "__pycache__" not in path.parts:
            taken.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return taken.hexdigest()[:16]


# ---- the pages -----------------------------------------------------------------------------------------------

def gather(folder: Path, only: str = "*", readers: str = "students") -> None:
    """Write all pages into the folder and take away what is none; a page that has not changed is left untouched."""
    wanted = dict(pages(only, readers))
    for old in [path for path in folder.rglob("*") if path.is_file()]:
        if old.relative_to(folder).as_posix() not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)


def pages(only: str = "*", readers: str = "students") -> Iterator[tuple[str, bytes]]:
    """Every file that Sphinx is to read: its place, and what it holds."""
    found = dict(_pages(only, WITHHELD if readers == "students" else ()))
    yield from found.items()
    for path in sorted(OWN.glob("*.md")):
        yield path.name, _without_empty_lists(path.read_text(encoding="utf-8"), found).encode()


def _pages(only: str, withheld: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    found = {path.relative_to(ROOT).as_posix(): path for pattern in PAGES for path in sorted(ROOT.glob(pattern))}
    written = {name: path for name, path in found.items() if not matches(name, withheld)}
    linked: set[Path] = set()
    for name, path in written.items():
        text = path.read_text(encoding="utf-8")
        yield name, with_sources(without_making(name, text), path, set(written), linked, withheld).encode()
    for path in lessons.sources():
        if fnmatch(path.stem, only):
            yield f"notebooks/{path.stem}.ipynb", lesson_page(path.read_text(encoding="utf-8"))
    for pattern in PICTURES:
        for path in ROOT.glob(pattern):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    for path in sorted(linked):
        yield f"source/{path.relative_to(ROOT).as_posix()}.md", source_page(path).encode()
    yield from reference_pages()


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def lesson_page(source: str) -> bytes:
    """A lesson, solved, with its map as a list of rows."""
    book = lessons.notebook(source)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = maps.shown(cell.source)
    return lessons.text_of(book)


def without_making(name: str, text: str) -> str:
    """A page's text without what it says about the command that writes it; pages on working on minivl keep that."""
    return text if name.startswith(("CONTRIBUTING", "tools/")) else MAKING.sub("", text)


def with_sources(text: str, page: Path, written: set[str], linked: set[Path], withheld: Sequence[str] = ()) -> str:
    """A page's text; a link to a file of the repository that is no page goes to one that shows the file, which is
    added to `linked`; a link to a folder goes to its README; of one to a withheld file its words are left."""
    def moved(link: re.Match) -> str:
        target = Path(os.path.normpath(page.parent / link["path"]))
        if target.is_dir() and (target / "README.md").is_file():
            target /= "README.md"
        inside = target.is_file() and target.is_relative_to(ROOT)
        if not inside or target.suffix in (".png", ".svg", ".ipynb"):
            return link[0]
        name = target.relative_to(ROOT).as_posix()
        if matches(name, withheld):
            return (link["text"] or "")[1:]
        if name not in written:
            linked.add(target)
            name = f"source/{name}.md"
        to = os.path.relpath(ROOT / name, page.parent).replace(os.sep, "/")
        return f"{link['text'] or ''}]({to}{link['anchor'] or ''})"
    return TO_FILE.sub(moved, text)


def _without_empty_lists(text: str, names: Iterable[str]) -> str:
    """A page's text without the tables of contents that would hold nothing, at which Sphinx complains."""
    documents = [name.rpartition(".")[0] for name in names]

    def kept(table: re.Match) -> str:
        wanted = [re.sub(r".*<(.*)>", r"\1", line) for line in table[0].splitlines()[1:-1]]
        return table[0] if any(fnmatch(name, line) for name in documents for line in wanted) else ""
    return re.sub(r"(?ms)^```\{toctree\}$.*?^```$", kept, text)


def source_page(path: Path) -> str:
    """A file of the repository as a page; searching and reading it needs no checkout."""
    fence = "`" * 10
    name = path.relative_to(ROOT).as_posix()
    return (f"---\norphan: true\n---\n\n# {name}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n"
            f"{path.read_text(encoding='utf-8')}{fence}\n")


def reference_pages() -> Iterator[tuple[str, bytes]]:
    """The reference of the package: a page for each module that a user or a reader calls, and their list."""
    package = ROOT / "minivl"
    groups = {"What most need": ["minivl", "minivl.api", "minivl.model"],
              **{f"The wing {wing}": _wing(package / wing) for wing in WINGS}}
    listed = ["# The package\n\n`minivl` itself holds what most need; the passes are the model. Each page begins with "
              "what its file is, what it is not, and what to read next.\n"]
    for title, names in groups.items():
        entries = "\n".join(f"api/{name}" for name in names)
        listed.append(f"## {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n")
        for name in names:
            file = _file_of(name)
            # what a package takes from its modules is named on their pages; here it is only shown
            taken = "__all__" in file.read_text(encoding="utf-8")
            options = "   :members:\n" + "   :no-index:\n" * taken
            shown = f"source/{file.relative_to(ROOT).as_posix()}.md"
            text = (f"# {name}\n\n[Source](../{shown})\n\n"
                    f"```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n")
            yield f"api/{name}.md", text.encode()
            yield shown, source_page(file).encode()
    yield "api.md", "\n".join(listed).encode()


def _wing(folder: Path) -> list[str]:
    """Dotted names of what a wing holds: the wing itself and its rooms where their `__init__` says something, and
    modules that stand in no room."""
    rooms = [path.parent for path in [folder / "__init__.py", *sorted(folder.glob("*/__init__.py"))]
             if path.stat().st_size]
    modules = [path.with_suffix("") for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
    names = [".".join(path.relative_to(ROOT).parts) for path in [*rooms, *modules]]
    return [name for name in names if name not in UNSHOWN]


def _file_of(module: str) -> Path:
    folder = ROOT.joinpath(*module.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def rst_of(text: str) -> str:
    """A docstring of this project as reStructuredText: paragraphs with code in single backticks, and blocks that stand
    as they are written wherever a line is indented. Nothing else has a meaning in one: stars are stars."""
    return "\n\n".join(
        "::\n\n" + textwrap.indent(block, "   ") if re.search(r"(?m)^ ", block) else _paragraph(block)
        for block in re.split(r"\n[ \t]*\n", text.strip("\n")))


def _paragraph(text: str) -> str:
    """`code` to ``code``, whatever stands beside it; the signs of the markup escaped."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(rf"\ ``{part.strip()}``\ " if n % 2 else re.sub(r"([\\*_|`])", r"\\\1", part)
                   for n, part in enumerate(parts))


def example(page: Path, key: str) -> None:
    """A run of the embedded model in the explorer, made anew when the package (`key`) has changed."""
    mark = f"<!-- {key} -->"
    if page.exists() and page.read_text(encoding="utf-8").endswith(mark):
        return
    import minivl
    from minivl.door.files import write_whole
    from minivl.show import explorer
    from minivl.show.samples import load_samples
    sample = next(sample for sample in load_samples() if not sample.fps)
    with minivl.load() as vlm:
        text = explorer.html(explorer.follow(vlm, sample.messages(), name=sample.name))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, lambda file: file.write((text + mark).encode()))


def run_sphinx(work: Path, cache: Path, readers: str) -> None:
    """Make the pages in `work` a site, in `made` beside them; a warning is an error. Raises ValueError with what Sphinx
    said."""
    # Notebooks are run by kernels that inherit this: figures go into the page and are described there, and the package
    # is this checkout's.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment["IPYTHONDIR"] = str(BUILD / "site-kernel")
    startup = BUILD / "site-kernel" / "profile_default" / "startup" / "described.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text("from tools.pages import described\ndescribed.install()\ndel described\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-c", str(OWN),
               "-t", readers, "-d", str(work / "doctrees"), "-D", f"nb_execution_cache_path={cache}",
               "-D", f"html_extra_path={BUILD / 'site-extra'}", str(work / "pages"), str(work / "made")]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise ValueError(f"Sphinx:\n{done.stdout[-3000:]}{done.stderr[-6000:]}")


# ---- links ---------------------------------------------------------------------------------------------------

class Page(HTMLParser):
    """What a page refers to, and the places in it that can be referred to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []           # by the browser itself, without a click
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.places.update(given[name] for name in ("id", "name") if name in given)
        if "src" in given or (tag == "link" and "href" in given and given.get("rel") != "canonical"):
            self.loaded.append(given.get("src") or given["href"])
        elif "href" in given:
            self.links.append(given["href"])


def broken_links(site: Path, others: Iterable[str] = ()) -> Iterator[str]:
    """Every link from a page to a file or a place of the site that is not there, and everything that a page would load
    from elsewhere. others: patterns of pages that this site leaves out."""
    read = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in read.items():
        for link in [*page.links, *page.loaded]:
            wrong = _wrong(site, path, link, link in page.loaded, read)
            if wrong and not any(fnmatch(f"{link} {wrong}", f"*{pattern}*") for pattern in others):
                yield f"{path.relative_to(site).as_posix()}: {link}: {wrong}"


def _wrong(site: Path, path: Path, link: str, loaded: bool, read: dict[Path, Page]) -> str:
    """What is wrong with a link, or nothing."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "is loaded from elsewhere" if loaded and parts.scheme != "data" else ""
    target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
    if not target.is_relative_to(site) or not target.is_file():
        return f"there is no {os.path.relpath(target, site)}"
    place = unquote(parts.fragment)
    if place and target in read and place not in read[target].places:
        return f"{os.path.relpath(target, site)} has no place of that name"
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])

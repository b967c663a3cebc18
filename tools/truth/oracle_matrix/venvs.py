"""A virtual environment for each version of transformers, and what its worker left there.

The environment holds transformers and what pip takes with it. Torch is the caller's: a .pth file puts the caller's
packages behind the environment's own, so that one build of torch serves all versions. Read next: `worker.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SECONDS = 3600


@dataclass
class Result:
    """What came of one version. `error`: why it did not come to runs at all; `runs`: the folder of what it gave."""
    version: str
    runs: Path
    error: str | None = None
    found: dict[str, Any] = field(default_factory=dict)


def pinned() -> str:
    """The version that this Python has: the one that tests hold minivl against."""
    return installed("transformers")


def result(version: str, model: Path, prompts: dict[str, Path], cache: Path) -> Result:
    """Install and run one version, unless a run of it is there already."""
    runs = cache / f"runs-{version}"
    made = Result(version, runs)
    if not (runs / "result.json").is_file():
        print(f"transformers {version}", flush=True)
        python = Path(sys.executable) if version == pinned() else environment(version, cache, made)
        if made.error is None:
            work(python, model, prompts, made)
    if made.error is None:
        made.found = json.loads((runs / "result.json").read_text(encoding="utf-8"))
    return made


def environment(version: str, cache: Path, made: Result) -> Path:
    """The Python of a version's environment, made where it is missing; `made.error` says why it could not be."""
    folder = cache / f"transformers-{version}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        venv.create(folder, with_pip=False)
    have = subprocess.run([python, "-c", "from importlib.metadata import version; print(version('transformers'))"],
                          capture_output=True, text=True, check=False).stdout.strip()
    if have != version:
        done = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
                               f"transformers=={version}"], capture_output=True, text=True, check=False)
        if done.returncode:
            made.error = "cannot be installed: " + last_line(done.stderr)
            return python
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
                              capture_output=True, text=True, check=True).stdout.strip()
    callers = sysconfig.get_paths()["purelib"]
    (Path(packages) / "torch-of-the-caller.pth").write_text(callers + "\n", encoding="utf-8")
    return python


def work(python: Path, model: Path, prompts: dict[str, Path], made: Result) -> None:
    """Run the worker; `made.error` says why it ended early."""
    made.runs.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([python, "-m", "tools.truth.oracle_matrix.worker", str(model), str(made.runs),
                           *map(str, prompts.values())], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=SECONDS, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        made.error = "cannot be run: " + last_line(done.stderr)


def last_line(text: str) -> str:
    """The last line of what was written to stderr: the error."""
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]

"""What a comparison was made of: versions, and the SHA-256 of every file and array. Read next:
`run.py`."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ...door.files import sha256
from ...door.version import VERSION
from ..trace.format import Trace

PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "safetensors", "ml_dtypes", "pillow",
            "jinja2")
PACKAGE = Path(__file__).parents[2]
CODE = (".py", ".html", ".js", ".css", ".json", ".jinja")


def versions() -> dict[str, str]:
    """Of Python, of minivl, of each package that takes part, and the kind of machine."""
    found = {"python": platform.python_version(), "minivl": VERSION, "machine": platform.machine(),
             "system": platform.system()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def checkpoint_parts(folder: Path) -> dict[str, str]:
    """Every file of a checkpoint's folder, by name: weights, configs, tokenizer, template."""
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def package_parts() -> dict[str, str]:
    """Every file of minivl's own code."""
    return {path.relative_to(PACKAGE).as_posix(): sha256(path) for path in sorted(PACKAGE.rglob("*"))
            if path.is_file() and path.suffix in CODE and PACKAGE / "tiny" not in path.parents}


def output_parts(trace: Trace) -> dict[str, str]:
    """Every array that a run gave."""
    return {name: array_hash(trace.array(name)) for key in trace.recorded()
            for name in trace.stages[key].arrays}


def array_hash(array: np.ndarray) -> str:
    """SHA-256 of type, shape and numbers."""
    said = f"{array.dtype.name} {list(array.shape)} ".encode()
    return hashlib.sha256(said + np.ascontiguousarray(array).tobytes()).hexdigest()

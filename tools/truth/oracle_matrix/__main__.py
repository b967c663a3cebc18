"""Run versions of transformers on the embedded model, and write down where they differ from the pinned one.

    python -m tools.truth.oracle_matrix [--cache DIR] [--versions 4.57.6,5.3.0] [--model DIR]

A virtual environment for each version is made under the cache (~/.cache/minivl/oracle) with pip, unless it is there;
torch is that of the Python that runs this, so that nothing but transformers differs. Each version loads the
checkpoint in its own way and runs every prompt in both types and both attentions (`worker.py`); what its stages gave
is compared with the pinned version's and with minivl (`drift.py`), and docs/made/oracle-drift.md is written
(`page.py`).

A version that cannot be installed, loaded or run stands in the table with its error.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import minivl

from . import drift, page, prompts, venvs

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PAGE = ROOT / "docs" / "made" / "oracle-drift.md"
# The first with this model; before and after `language_model`; the last of 4; two early 5 (the second with the known
# fault of video positions); the pinned one; a later one.
VERSIONS = ("4.49.0", "4.51.3", "4.55.4", "4.57.6", "5.0.0", "5.3.0", "5.23.0", "5.24.0")


def main() -> None:
    """Make what is missing, run everything, write the page."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--cache", type=Path, default=default_cache(), help="where environments and runs are kept")
    options.add_argument("--versions", default=",".join(VERSIONS), help="versions of transformers, with commas")
    options.add_argument("--model", default=None, help="a checkpoint's folder (the embedded model)")
    options.add_argument("--page", type=Path, default=PAGE, help="the page to write (docs/made/oracle-drift.md)")
    chosen = options.parse_args()
    chosen.cache.mkdir(parents=True, exist_ok=True)
    with minivl.load(chosen.model) as vlm:
        asked = prompts.write(vlm, chosen.cache / "prompts")
        results = [venvs.result(version, vlm.folder, asked, chosen.cache) for version in chosen.versions.split(",")]
        pinned = venvs.pinned()
        found = drift.matrix(results, pinned, vlm, asked)
    chosen.page.write_text(page.markdown(found), encoding="utf-8")
    print(f"written to {chosen.page}")


def default_cache() -> Path:
    """Where caches go on this system."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minivl" / "oracle"


if __name__ == "__main__":
    main()

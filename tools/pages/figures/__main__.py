"""The command: python -m tools.pages.figures DIR [NAME ...]"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from . import numbers, pixels, text, tower  # noqa: F401  each files its figures when it is imported
from .sheet import FIGURES, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pages.figures",
                                     description="Write the figures of the course.")
    parser.add_argument("folder", type=Path, help="where to write; made if it does not exist")
    parser.add_argument("names", nargs="*", help="only these figures; without a name all of them, and figures.md")
    wanted = parser.parse_args()
    if unknown := [name for name in wanted.names if name not in FIGURES]:
        parser.error(f"there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    if importlib.util.find_spec("matplotlib") is None:
        parser.error('figures need Matplotlib: pip install "minivl[plot]"')
    try:
        for path in write(wanted.folder, wanted.names):
            print(path)
    except OSError as error:
        parser.error(f"cannot write: {error}")


if __name__ == "__main__":
    main()

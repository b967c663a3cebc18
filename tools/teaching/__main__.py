"""The command: python -m tools.teaching [--key], and python -m tools.teaching slides [DIR]"""

from __future__ import annotations

import argparse
import importlib.util
from operator import methodcaller
from pathlib import Path

from minivl.door.files import write_whole

from . import exams, questions, slides  # noqa: F401  two file their answers when they are imported
from .key import KEYS, values
from .syllabus import pages


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.teaching", description="Write the syllabi.")
    parser.add_argument("--key", action="store_true", help="print the computed values of the answer keys instead")
    parser.add_argument("what", nargs="?", choices=["slides"], help="write the slides of all lessons instead")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/slides"), help="where slides go")
    wanted = parser.parse_args()
    if wanted.what == "slides":
        if importlib.util.find_spec("matplotlib") is None:
            parser.error('slides need Matplotlib: pip install "minivl[slides]"')
        for path in slides.write(wanted.folder):
            print(path)
        return
    if wanted.key:
        for page, numbers in KEYS.items():
            for number in numbers:
                print(f"{page} {number}: {' | '.join(values(page, number))}")
        return
    for path, text in pages():
        write_whole(path, methodcaller("write", text))
        print(path)


if __name__ == "__main__":
    main()

"""The command: python -m tools.teaching [--key]"""

from __future__ import annotations

import argparse
from operator import methodcaller

from minivl.door.files import write_whole

from . import exams, questions  # noqa: F401  each files its answers when it is imported
from .key import KEYS, values
from .syllabus import pages


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.teaching", description="Write the syllabi.")
    parser.add_argument("--key", action="store_true", help="print the computed values of the answer keys instead")
    if parser.parse_args().key:
        for page, numbers in KEYS.items():
            for number in numbers:
                print(f"{page} {number}: {' | '.join(values(page, number))}")
        return
    for path, text in pages():
        write_whole(path, methodcaller("write", text))
        print(path)


if __name__ == "__main__":
    main()

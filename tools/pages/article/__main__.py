"""Check what an article says about the model.

    python -m tools.pages.article              run all checks and write docs/made/the-article.md
    python -m tools.pages.article 5 12         run these and print their evidence; nothing is written

Read next: `finding.py` (what a check gives), `pictures.py` (the first checks).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import attention, language, pictures, positions, training, uses  # noqa: F401  (enlist their checks)
from .finding import CLAIMS, Finding
from .page import evidence, page

PAGE = Path(__file__).parents[3] / "docs" / "made" / "the-article.md"


def run(numbers: list[int] | None = None) -> dict[int, Finding]:
    """The findings of these claims, or of all."""
    return {n: CLAIMS[n].check() for n in numbers or sorted(CLAIMS)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pages.article", description="Check an article's claims.")
    parser.add_argument("claims", type=int, nargs="*", metavar="CLAIM",
                        help=f"1 to {max(CLAIMS)}; without any: check all, and write the page")
    numbers = parser.parse_args(arguments).claims
    unknown = [n for n in numbers if n not in CLAIMS]
    if unknown:
        parser.error(f"there is no claim {unknown[0]}; they are numbered 1 to {max(CLAIMS)}")
    if numbers:
        print("\n\n".join(evidence(CLAIMS[n], finding) for n, finding in run(numbers).items()))
        return
    text = page(run())
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    print(f"{PAGE}: {len(CLAIMS)} claims")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")         # type: ignore[union-attr]  # Windows may have cp1252
    main()

"""What a check of one claim gives, and the list of all checks.

    @claim(7, "four layers of the tower attend to everything")
    def full_layers() -> Finding:
        '''What the page says about it, in two to five sentences.'''

Not here: the checks themselves (`pictures.py`, `attention.py`, `positions.py`, `language.py`, `training.py`,
`uses.py`) and the page (`page.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TRUE, LOOSE, WRONG, UNTESTED = VERDICTS = ("true", "loose", "wrong", "not testable here")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    verdict: one of VERDICTS. figures: what was measured, a line each. table: rows, the first one its head.
    live: lines that depend on the embedded checkpoint's answers; the command prints them, the page leaves
    them out, so that another checkpoint changes no page.
    """
    verdict: str
    figures: tuple[str, ...]
    table: tuple[tuple[str, ...], ...] = ()
    live: Callable[[], list[str]] | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r}: it is one of {', '.join(VERDICTS)}")


class Claim(NamedTuple):
    """A claim in our words, and the check of it, whose docstring is the text on the page."""
    number: int
    text: str
    check: Callable[[], Finding]

    @property
    def why(self) -> str:
        """The reasons, as one paragraph."""
        return " ".join((self.check.__doc__ or "").split())


CLAIMS: dict[int, Claim] = {}


def claim(number: int, text: str) -> Callable[[Callable[[], Finding]], Callable[[], Finding]]:
    """Put a check on the list under the claim's number. Raises ValueError when the number is taken."""
    def enlist(check: Callable[[], Finding]) -> Callable[[], Finding]:
        if number in CLAIMS:
            raise ValueError(f"claim {number} is checked twice: {CLAIMS[number].check.__name__} is the first")
        CLAIMS[number] = Claim(number, text, check)
        return check
    return enlist


def verdict(holds: bool, otherwise: str = WRONG) -> str:
    """TRUE when what the claim says held in the run, else the verdict given."""
    return TRUE if holds else otherwise


def yes(holds: object) -> str:
    """How a page says that something held, or did not."""
    return "yes" if holds else "no"

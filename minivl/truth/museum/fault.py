"""What a fault is: a wrong pass or kernel under the right label, with the public incident that it was
learnt from.

    @fault("vision.restore_order", ["lablup/mlxcel#1601"], 2026, "...",
           shows=ragged, passes=("same", one_window))
    def order_not_inverted(right, cells, order):
        \"\"\"The story, in about three sentences.\"\"\"
        return take_rows(cells, order)

The function takes what the pass takes, after `right`: the pass it stands in for, which most faults
call on something wrong, or whose result they spoil. Its name with hyphens is the fault's name, its
docstring the story. Nothing in the model knows of faults: they come in through the door
(`session(replace=found.table())`).

Read next: `cases.py` (the smallest inputs), any of `pictures.py` ... `decoding.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from ...door.stage import Wrap
from .cases import Case

Passes = tuple[str, Case]


@dataclass(frozen=True)
class Fault:
    """One exhibit. `table()` is what a session takes as `replace` or as `shadow`."""
    name: str
    label: str                           # the pass or kernel that it stands in for; may be a pattern
    incidents: tuple[str, ...]           # owner/repository#number
    year: int                            # of the first of them
    symptom: str                         # what users saw
    shows: Case                          # the smallest input on which the output changes
    passes: Passes | None           # an ordinary check that it passes, and on what; None: always visible
    leaves: tuple[str, ...]              # the passes that a shadow run must name, and no other
    hears: Any                  # makes something that listens at another pass; see `attention.Positions`
    wrong: Callable

    @property
    def story(self) -> str:
        """What went wrong, and why nobody saw it."""
        return inspect.cleandoc(self.wrong.__doc__ or "")

    @property
    def visible(self) -> str:
        """What it takes to see it, in words."""
        return "always visible" if self.passes is None else f"passes: {check_words(*self.passes)}"

    def table(self) -> dict[str, Wrap]:
        """{pattern: wrap}, made anew for each session."""
        if self.hears is None:
            return {self.label: lambda right: partial(self.wrong, right)}
        heard = self.hears()
        return {heard.label: heard.listen, self.label: lambda right: partial(self.wrong, heard, right)}

    def is_named_by(self, guilty: Iterable[str]) -> bool:
        """Whether these keys name the right passes: at least one, and none that the fault has no part
        in."""
        labels = [plain(key) for key in guilty]
        return bool(labels) and all(any(fnmatchcase(label, leaf) for leaf in self.leaves)
                                    for label in labels)


FAULTS: dict[str, Fault] = {}
WORDS = {"same": "the same logits on {}", "smoke": "the right shapes and finite numbers on {}",
         "cosine": "a cosine above 0.99 between the logits on {}"}


def check_words(check: str, case: Case) -> str:
    """An ordinary check in words."""
    return WORDS[check].format(case.name)


def address(incident: str) -> str:
    """Where an incident can be read: `owner/repository#number`, or a repository as a whole."""
    repository, _, number = incident.partition("#")
    return f"https://github.com/{repository}{f'/issues/{number}' if number else ''}"


def plain(key: str) -> str:
    """A key as its label: `decoder@2.logits` -> `decoder.logits`."""
    return ".".join(part.partition("@")[0] for part in key.split("."))


def fault(label: str, incidents: Iterable[str], year: int, symptom: str, *, shows: Case,
          passes: Passes | None = None,
          leaves: Iterable[str] = (), hears: Any = None) -> Callable[[Callable], Callable]:
    """Put a wrong pass into the museum. See the module's text, and `Fault` for the words."""
    def enter(wrong: Callable) -> Callable:
        name = wrong.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, label, tuple(incidents), year, symptom, shows, passes,
                             tuple(leaves) or (label,), hears, wrong)
        return wrong
    return enter

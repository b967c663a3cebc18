"""`minivl faults`: the museum's list, one exhibit beside the right pass, the score; and faults for
other commands.

Read next: `truth/museum/fault.py`, what an exhibit is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..door.errors import ArgumentError
from ..door.stage import Session
from .console import console, facts, heading, line, note, print_json, table, working

SIDE_BY_SIDE = 160                 # columns of a terminal on which two functions stand beside each other


def faults(name: str | None, score: bool, shadow: bool, markdown: bool, as_json: bool) -> int:
    """Print what is asked for; the exit code. Raises ArgumentError for a name that there is not."""
    from ..truth.museum import FAULTS, get
    if markdown and not score:
        raise ArgumentError("--markdown is the page with the score: say --score --markdown")
    if name is not None and score:
        raise ArgumentError("--score is about all faults: leave the name out")
    if score:
        return show_score(markdown, as_json)
    chosen = [get(name)] if name else list(FAULTS.values())
    if shadow:
        return show_shadow(chosen, as_json)
    if as_json:
        print_json([document(one) for one in chosen])
    elif name:
        show_fault(chosen[0])
    else:
        show_list(chosen)
    return 0


def document(fault) -> dict[str, Any]:
    """What `--json` says about one fault."""
    return {"name": fault.name, "label": fault.label, "incidents": fault.incidents, "year": fault.year,
            "symptom": fault.symptom, "story": " ".join(fault.story.split()),
            "shows_on": fault.shows.name,
            "ordinary_check": fault.visible}


def show_list(chosen) -> None:
    """One line for each fault."""
    table(("fault", "pass", "year", "incident", "seen"),
          [(one.name, one.label, one.year, one.incidents[0], one.symptom) for one in chosen],
          droppable=("seen", "incident", "year"))
    note(f"{len(chosen)} faults; `minivl faults NAME` shows one beside the right pass, --score which "
         "check finds which")


def show_fault(fault) -> None:
    """One exhibit: its story, then the wrong code beside the right one."""
    from ..truth.museum.hunt import code_of, right_of
    heading(fault.name)
    facts([("pass", fault.label), ("incidents", f"{', '.join(fault.incidents)}; {fault.year}"),
           ("seen", fault.symptom),
           ("shows on", fault.shows.name), ("ordinary", fault.visible)])
    line()
    line(" ".join(fault.story.split()))
    line()
    right = right_of(fault)
    beside(code_of(right) if right else f"every pass that {fault.label} matches, as it is",
           code_of(fault.wrong))


def beside(right: str, wrong: str) -> None:
    """Two pieces of code in two columns, or one below the other where two do not fit."""
    if console().width >= SIDE_BY_SIDE:
        pairs = [right.splitlines(), wrong.splitlines()]
        longest = max(map(len, pairs))
        columns = [lines + [""] * (longest - len(lines)) for lines in pairs]
        return table(("right", "wrong"), list(zip(*columns, strict=True)))
    for name, code in (("right", right), ("wrong", wrong)):
        heading(name)
        line(code + "\n")


def show_shadow(chosen, as_json: bool) -> int:
    """Each fault beside the model on its smallest input, one run each: which passes differ. 1 unless
    all are right."""
    from ..truth.museum import guilty
    found = []
    with working("running faults beside the model") as say:
        for fault in chosen:
            say(fault.name)
            start = time.perf_counter()
            named = guilty(fault)
            found.append({"name": fault.name, "label": fault.label, "guilty": named,
                          "right": fault.is_named_by(named),
                          "seconds": time.perf_counter() - start})
    if as_json:
        print_json(found)
    else:
        table(("fault", "pass", "named", "largest error", "seconds", "right"), [
            (row["name"], row["label"], first_of(row["guilty"]),
             f"{max(row['guilty'].values(), default=0):.3g}",
             f"{row['seconds']:.2f}", "yes" if row["right"] else "NO") for row in found],
              right=("seconds",))
    return 0 if all(row["right"] for row in found) else 1


def first_of(named: dict[str, float]) -> str:
    """The first guilty pass, and how many more there are."""
    return "none" if not named else next(iter(named)) + (f" and {len(named) - 1} more" if len(named) > 1 else "")


def show_score(as_page: bool, as_json: bool) -> int:
    """Which check finds which fault; 1 when a fault is found by none."""
    from ..truth.museum import page
    from ..truth.museum.score import score
    with working("running every check with every fault"):
        found = score()
    if as_page:
        sys.stdout.write(page.markdown(found))
    elif as_json:
        print_json(found)
    else:
        table(("fault", *page.letters().values()), page.rows(found))
        line()
        for letter, name, words in page.legend():
            line(f"{letter}  {name}: {words}")
        line()
        for text in page.totals(found):
            line(text)
    return 0 if all(found.values()) else 1


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Run the body with a fault in the model, and say so; without a name as it is. Raises ArgumentError
    for the name."""
    if name is None:
        yield
        return
    from ..truth.museum import get
    fault = get(name)
    note(f"with the fault {fault.name} in {fault.label}")
    with Session(replace=fault.table(), quiet=True) as s:
        yield
    say_unless_met(fault, s)


def say_unless_met(fault, s: Session) -> None:
    """A note when the run has not been anywhere near the fault."""
    from fnmatch import fnmatchcase
    if not any(fnmatchcase(label, fault.label) for label in s.met):
        note(f"the fault was not met: nothing ran under {fault.label}; it shows on {fault.shows.name}")

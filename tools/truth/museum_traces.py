"""What `minivl diff` says about each fault of the museum from a trace alone: in float32, bfloat16, stage by stage.

    python -m tools.truth.museum_traces                        # the table
    python -m tools.truth.museum_traces --markdown > docs/made/museum-traces.md

Each fault runs on the smallest input that shows it, on the small random model of `minivl/truth/museum/world.py`, so
that the table is one and the same whatever checkpoint the package holds. A fault that is no part of reading a prompt
(how the answer goes on, the penalty, boxes) leaves nothing in its trace.

Read next: `minivl/truth/compare/compare.py`, which is asked; tests/truth/test_museum_traces.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivl.door.stage import session
from minivl.truth.compare.compare import Comparison, compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.diagnose import diagnose
from minivl.truth.museum import FAULTS, Fault, cases
from minivl.truth.museum.world import world
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record

AFTER_THE_PROMPT = ("positions.advance", "sampling.", "answer.")
COLUMNS = ("fault", "float32: first bad tap", "bfloat16: first bad tap", "bfloat16, stage by stage",
           "bfloat16, against the museum")
LARGER = {"gelu-by-tanh": cases.many_cells}              # where the smallest input shows nothing in bfloat16
PAGE = """\
# The museum in traces

What `minivl diff` says about a trace that holds all passes of a run with one fault in it: the first bad tap and its
word. In bfloat16 rounding hides what is smaller; where a trace alone says nothing, `minivl diff --local` runs each
stage on the candidate's own values, with the model at hand. Each fault runs on the smallest input that shows it.

The last column is `minivl diagnose`, asked where the two before it say nothing: no number is further off than
rounding goes, and yet all of them together lean the way of one known fault.

Do not edit this page: `python -m tools.truth.museum_traces --markdown > docs/made/museum-traces.md` writes it.

"""
WHY = """
What bfloat16 hides, and what shows it:

- `gelu-by-tanh` moves a number by at most one part in 2,000, and bfloat16 rounds by one in 256. One cell holds too few
  numbers to tell one from the other, so that in bfloat16 this fault is looked for in a picture of 13 x 13 cells.
- A fault of one part in 100,000 in one stage of one block is not seen in bfloat16; `--local` sees such a fault when all
  stages of its kind have it, by the way their last digits lean.

Faults of decoding, of the penalty and of boxes happen after a prompt has been read, and leave its trace as it is.
"""


class Row(NamedTuple):
    """What is said about one fault: (first bad tap, its word) or None where all is within rounding.

    right: each tap that was named is one of the fault's own passes
    """
    fault: Fault
    in_trace: bool
    float32: tuple[str, str] | None
    bfloat16: tuple[str, str] | None
    local: tuple[str, str] | None
    leans: str                                               # the fault that it leans to, "" for none
    right: bool

    @property
    def seen(self) -> bool:
        """Whether bfloat16 shows it in one of three ways."""
        return bool(self.bfloat16 or self.local or self.leans)

    def cells(self) -> tuple[str, ...]:
        """The row as texts."""
        if not self.in_trace:
            return (self.fault.name, "after the prompt", "", "", "")
        looks = (self.float32, self.bfloat16, self.local)
        said = ["nothing" if one is None else f"{one[0]}, {one[1]}" for one in looks]
        asked = 2 if self.bfloat16 else 3 if self.local else 4
        return (self.fault.name, *[*said, self.leans and f"{self.leans}, suspicious"][:asked], *[""] * (4 - asked))


def rows(faults: Iterable[Fault]) -> Iterator[Row]:
    """The table, row by row."""
    with tempfile.TemporaryDirectory() as folder:
        for fault in faults:
            yield row(fault, Path(folder))


def row(fault: Fault, folder: Path) -> Row:
    """One fault, in both types."""
    if fault.label.startswith(AFTER_THE_PROMPT):
        return Row(fault, False, None, None, None, "", True)
    exact, leans = world().on("float64", "definition"), ""
    found: dict[str, Comparison] = {}
    for precision in ("float32", "bfloat16"):
        vlm, path = world().on(precision, "definition"), folder / f"{precision}.safetensors"
        case = LARGER.get(fault.name, fault.shows) if precision == "bfloat16" else fault.shows
        record(exact, case.build(exact)[0], folder / "golden.safetensors", yardsticks=(precision,))
        with session(replace=fault.table(), quiet=True), np.errstate(all="ignore"):
            record(vlm, case.build(vlm)[0], path)
        with Trace(folder / "golden.safetensors") as golden:
            candidate = read_candidate(path, golden)
            found[precision] = compare(golden, candidate)
            if precision == "bfloat16" and found[precision].first_bad is None:
                with local_golden(exact, golden, candidate) as local:
                    found["local"] = compare(local, candidate)
                if found["local"].first_bad is None:
                    leans = ", ".join(one.fault.name for one in diagnose(exact, golden, candidate).known)
    named = {kind: one.first_bad for kind, one in found.items() if one.first_bad}
    said = {kind: (key, found[kind].words[key]) for kind, key in named.items()}
    return Row(fault, True, said.get("float32"), said.get("bfloat16"), said.get("local"), leans,
               leans in ("", fault.name) and all(fault.is_named_by([key]) for key in named.values()))


def markdown(table: Iterable[Row]) -> str:
    """The page."""
    cells = [COLUMNS, ("---",) * len(COLUMNS), *(one.cells() for one in table)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return PAGE + "\n".join(lines) + "\n" + WHY


def main() -> None:
    parser = argparse.ArgumentParser(description="What minivl diff says about each fault of the museum.")
    parser.add_argument("names", nargs="*", help="faults; all without them")
    parser.add_argument("--markdown", action="store_true", help="the page docs/made/museum-traces.md")
    wanted = parser.parse_args()
    table = rows([FAULTS[name] for name in wanted.names] or FAULTS.values())
    if wanted.markdown:
        print(markdown(table), end="")
        return
    for one in table:
        print("".join(f"{cell:44s}" for cell in one.cells()), "" if one.right else "NOT ITS PASS", flush=True)


if __name__ == "__main__":
    main()

"""What `minivl diff` says about each fault of the museum from a trace alone: in float32, bfloat16, stage by stage.

    python -m tools.museum_traces                        # the table
    python -m tools.museum_traces --markdown > docs/museum-traces.md

Each fault runs on the smallest input that shows it, on the small random model of `minivl/faults/world.py`, so that the
table is one and the same whatever checkpoint the package holds. A fault that is no part of reading a prompt (how the
answer goes on, the penalty, boxes) leaves nothing in its trace.

Read next: `minivl/trace/compare.py`, which is asked; tests/test_museum_traces.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivl.faults import FAULTS, Fault
from minivl.faults.hunt import quietly
from minivl.faults.world import world
from minivl.stage import session
from minivl.trace.compare import Comparison, compare
from minivl.trace.format import Trace
from minivl.trace.importers import read_candidate
from minivl.trace.local import local_golden
from minivl.trace.record import record
from minivl.trace.yardstick import in_precision

AFTER_THE_PROMPT = ("positions.advance", "sampling.", "answer.")
COLUMNS = ("fault", "float32: first bad tap", "bfloat16: first bad tap", "bfloat16, stage by stage")
PAGE = """\
# The museum in traces

What `minivl diff` says about a trace that holds all passes of a run with one fault in it: the first bad tap and its
word. In bfloat16 rounding hides what is smaller; where a trace alone says nothing, `minivl diff --local` runs each
stage on the candidate's own values, with the model at hand. Each fault runs on the smallest input that shows it.

Do not edit this page: `python -m tools.museum_traces --markdown > docs/museum-traces.md` writes it.

"""
WHY = """
What stays unseen in bfloat16, and why:

- `softmax-in-half-precision`: float16 has three bits more than bfloat16. In a bfloat16 model this fault rounds more
  finely than the reference's own eager attention, which keeps its probabilities in bfloat16. A verdict on it would
  be a verdict on every eager run.
- `gelu-by-tanh`: it moves a number by at most one part in 2,000, and bfloat16 rounds by one in 256. On the smallest
  input there is one cell, too few numbers to tell one from the other; float32 shows it there, and `minivl diagnose`
  on a larger picture by the way in which all numbers lean.
- A fault of one part in 100,000 in one stage of one block: `--local` sees such a fault when all stages of its kind have
  it, by the way their last digits lean.

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
    right: bool

    def cells(self) -> tuple[str, ...]:
        """The row as texts."""
        if not self.in_trace:
            return (self.fault.name, "after the prompt", "", "")
        said = ["nothing" if one is None else f"{one[0]}, {one[1]}" for one in (self.float32, self.bfloat16)]
        return (self.fault.name, *said, "" if self.bfloat16 else "nothing" if self.local is None else
                f"{self.local[0]}, {self.local[1]}")


def rows(faults: Iterable[Fault]) -> Iterator[Row]:
    """The table, row by row."""
    with tempfile.TemporaryDirectory() as folder:
        for fault in faults:
            yield row(fault, Path(folder))


def row(fault: Fault, folder: Path) -> Row:
    """One fault, in both types."""
    if fault.label.startswith(AFTER_THE_PROMPT):
        return Row(fault, False, None, None, None, True)
    exact = in_precision(world(), "float64")
    record(exact, fault.shows.build(exact)[0], folder / "golden.safetensors", yardsticks=("float32", "bfloat16"))
    found: dict[str, Comparison] = {}
    for precision in ("float32", "bfloat16"):
        vlm, path = in_precision(world(), precision), folder / f"{precision}.safetensors"
        with quietly(), session(replace=fault.table()), np.errstate(all="ignore"):
            record(vlm, fault.shows.build(vlm)[0], path)
        with Trace(folder / "golden.safetensors") as golden:
            candidate = read_candidate(path, golden)
            found[precision] = compare(golden, candidate)
            if precision == "bfloat16" and found[precision].first_bad is None:
                with local_golden(exact, golden, candidate) as local:
                    found["local"] = compare(local, candidate)
    named = {kind: one.first_bad for kind, one in found.items() if one.first_bad}
    said = {kind: (key, found[kind].words[key]) for kind, key in named.items()}
    return Row(fault, True, said.get("float32"), said.get("bfloat16"), said.get("local"),
               all(fault.is_named_by([key]) for key in named.values()))


def markdown(table: Iterable[Row]) -> str:
    """The page."""
    cells = [COLUMNS, ("---",) * len(COLUMNS), *(one.cells() for one in table)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return PAGE + "\n".join(lines) + "\n" + WHY


def main() -> None:
    parser = argparse.ArgumentParser(description="What minivl diff says about each fault of the museum.")
    parser.add_argument("names", nargs="*", help="faults; all without them")
    parser.add_argument("--markdown", action="store_true", help="the page docs/museum-traces.md")
    wanted = parser.parse_args()
    table = rows([FAULTS[name] for name in wanted.names] or FAULTS.values())
    if wanted.markdown:
        print(markdown(table), end="")
        return
    for one in table:
        print("".join(f"{cell:44s}" for cell in one.cells()), "" if one.right else "NOT ITS PASS", flush=True)


if __name__ == "__main__":
    main()

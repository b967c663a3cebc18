"""The foreign port's variants through `minivl diagnose`, dumped in several ways, and the table of what it says.

    python -m tools.truth.diagnosis --folder runs/diagnosis > table.md
    python -m tools.truth.diagnosis --folder runs/diagnosis --ways names --only merger-norm-plus-one

A relative of a fault of the museum is to be first of the ranking and believed, alone or with those that do the very
same on this input; a healthy port and a fault that no catalogue has are to be none of the known. Right tables of names
are given: guessing them is another matter. Exit code 1 when less than 85 % are right, or a wrong one is believed. Read
next: `foreign/variants.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minivl.api import VLM
from minivl.run.inputs import Inputs
from minivl.truth.compare.importers import read_candidate
from minivl.truth.diagnose import Diagnosis, diagnose
from minivl.truth.diagnose.report import spoken
from minivl.truth.trace.format import Trace

from .foreign.dumps import WAYS, Facts, dump
from .foreign.scenes import SCENES, golden, model
from .foreign.variants import VARIANTS, Variant, variant

COLUMNS = ("variant", "way", "kin", "first bad tap", "passes pinned", "said", "right")
NONE = "none of the known"
USUAL = ("names", "mixed", "partial", "transposed", "padded", "bits", "channels-first")


@dataclass(frozen=True)
class Outcome:
    """One variant, dumped in one way, and what was said."""
    variant: Variant
    way: str
    found: Diagnosis

    @property
    def said(self) -> str:
        if self.found.known:
            return "; or ".join(map(spoken, self.found.known))
        return f"quantised: {self.found.cost.way}" if self.found.cost and self.found.healthy else NONE

    @property
    def is_right(self) -> bool:
        names = [one.fault.name for one in self.found.known]
        if self.variant.kin:
            return self.variant.kin in names or (self.found.healthy and not names)           # it hides in this storage
        return not names and (self.variant.kind != "healthy" or self.found.healthy)

    @property
    def is_wrong(self) -> bool:
        """Whether faults are believed of which it has none."""
        return bool(self.found.known) and self.variant.kin not in [one.fault.name for one in self.found.known]

    def cells(self) -> tuple[str, ...]:
        """The row under COLUMNS."""
        verdict = "yes" if self.is_right else "WRONG" if self.is_wrong else "no"
        return (self.variant.name, self.way, self.variant.kin or self.variant.kind,
                self.found.comparison.first_bad or "none", str(len(self.found.passes)), self.said, verdict)


def outcomes(variants: Sequence[Variant], ways: Sequence[str], folder: Path, hidden: bool = False) -> Iterator[Outcome]:
    """One after the other. hidden: on the input on which each makes no difference."""
    vlm = model()
    known: dict[str, Inputs] = {}
    for one in variants:
        scene = one.hides if hidden else one.shows
        trace = folder / f"{scene.replace(' ', '-')}.safetensors"
        if scene not in known:
            asked = SCENES[scene](vlm) if trace.exists() else golden(vlm, scene, trace)
            known[scene] = asked if isinstance(asked, Inputs) else vlm.prepare(asked)
        inputs = known[scene]
        tapped = one.port(vlm.folder).run(inputs.arrays())
        for way in ways:
            dumped = dump(tapped, way, folder / one.name / way, facts_of(vlm, inputs))
            with Trace(trace) as right:
                theirs = read_candidate(dumped.path, right, dumped.names, one.precision)
                yield Outcome(one, way, diagnose(vlm, right, theirs))


def facts_of(vlm: VLM, inputs: Inputs) -> Facts:
    """What a way of dumping needs to know of a run."""
    grids = tuple((int(t), int(h), int(w)) for t, h, w in (one.grid for one in inputs.media))
    config = vlm.config
    return Facts(grids, config.vision.window_cells, config.text.heads, config.text.kv_heads, config.vision.heads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where golden traces and dumps are kept")
    parser.add_argument("--ways", nargs="*", choices=[name for name in WAYS if name != "batch"], default=USUAL)
    parser.add_argument("--only", nargs="*", choices=[one.name for one in VARIANTS], help="these variants")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    chosen = [variant(name) for name in given.only] if given.only else VARIANTS
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    found = []
    for one in outcomes(chosen, given.ways, given.folder):
        found.append(one)
        print("| " + " | ".join(one.cells()) + " |", flush=True)
    right, wrong = sum(one.is_right for one in found), sum(one.is_wrong for one in found)
    print(f"\n{right} of {len(found)} are right ({right / len(found):.0%}); a wrong fault is believed in {wrong}.")
    return 0 if right >= 0.85 * len(found) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())

"""Variants, dumped in ways, brought to `minivl diff`; and what the truth is.

The truth of a fault is measured on the port alone: the same port without the fault, in the same arithmetic, is run on
the same prompt, and both are rounded to the storage of each tap. A tap is surely bad where the two differ by far more
than this port's own rounding and its storage do, and surely good where they are nearly the same; between the two
either word is right.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import minivl
from minivl.truth.compare.compare import Comparison, compare
from minivl.truth.compare.guess import guess, table_of
from minivl.truth.compare.importers import read_arrays, read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.trace.format import Trace

from .dumps import Dumped, Facts, dump
from .port import Arithmetic, Port, cut, label_of
from .scenes import golden, model
from .variants import HEALTHY, Variant, variant

SURE, NEVER = 6.0, 0.7                 # a fault's size, in units of rounding, from which it must, and cannot, be seen
IN_32 = 30.0                           # the same where nothing is rounded to 16 bits: orders of sums differ more


@dataclass(frozen=True)
class Row:
    """What was said of one dump, and what is right. named: taps under a right label, under a wrong one, under none."""
    variant: Variant
    way: str
    found: Comparison | None
    wanted: frozenset[str]              # labels of taps that may be called first; "" for none
    named: tuple[int, int, int]
    problem: str = ""

    @property
    def first(self) -> str:
        return (self.found.first_bad or "") if self.found else "?"

    @property
    def right(self) -> bool:
        return self.first_right and self.interval_right

    @property
    def accused(self) -> bool:
        return self.variant.kind == HEALTHY and (self.found is None or self.found.differs)

    @property
    def first_right(self) -> bool:
        if self.variant.kind == HEALTHY:
            return not self.accused
        return self.first in self.wanted or (not self.first and bool(self.found and self.found.differs))

    @property
    def seen(self) -> bool:
        return "" not in self.wanted

    @property
    def interval_right(self) -> bool:
        return not self.first or self.variant.kind == HEALTHY or \
            any(self.variant.is_guilty(label) for label in (self.found.suspects if self.found else []))

    def told(self) -> str:
        words = {True: "right", False: "NOT right"}
        passes = self.found.suspects if self.found else []
        interval = f"{len(passes)} passes, {words[self.interval_right]}" if self.first and self.found else "-"
        unplaced = len(self.found.unplaced) if self.found else 0
        return (f"{self.variant.name:24} {self.way:15} {words[self.right]:9} first {self.first or '-':34} "
                f"wanted {' '.join(sorted(self.wanted)) or '-'} | {interval} | names {self.named} "
                f"unplaced {unplaced} {self.problem}")


class Sweep:
    """Golden traces are made once, in a folder that is gone afterwards."""

    def __init__(self, local: bool = False, named: bool = False, hidden: bool = False, folder=None):
        self.local, self.named, self.hidden = local, named, hidden
        self.folder = folder or minivl.api.TINY
        self.vlm = model(folder)
        self.place = tempfile.TemporaryDirectory(prefix="minivl-foreign-")
        self.traces: dict[str, Trace] = {}
        self.inputs: dict[str, minivl.Inputs] = {}
        self.own, self.ran = cache(self._own), cache(self._ran)

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *error: object) -> None:
        for trace in self.traces.values():
            trace.close()
        self.place.cleanup()

    def scene(self, name: str) -> Trace:
        if name not in self.traces:
            path = Path(self.place.name) / f"{name}.safetensors"
            self.inputs[name] = golden(self.vlm, name, path)
            self.traces[name] = Trace(path)
        return self.traces[name]

    def _own(self, arithmetic: Arithmetic, scene: str) -> dict[str, np.ndarray]:
        """A healthy run of the port."""
        self.scene(scene)
        return dict(Port(self.folder, arithmetic).run(self.inputs[scene].arrays()))

    def _ran(self, name: str, scene: str) -> dict[str, np.ndarray]:
        """A variant's run."""
        self.scene(scene)
        return dict(variant(name).port(self.folder).run(self.inputs[scene].arrays()))

    def facts(self, scene: str) -> Facts:
        grids = tuple(tuple(map(int, m["grid"])) for m in self.scene(scene).facts["media"])
        vision = self.vlm.config.vision
        return Facts(grids, vision.window_cells, self.vlm.config.text.num_attention_heads,
                     self.vlm.config.text.num_key_value_heads, vision.num_heads)

    def dumped(self, one: Variant, way: str, scene: str, folder: Path) -> tuple[Dumped, dict[str, np.ndarray]]:
        """One variant's run of a scene, left behind in a way; and the run itself."""
        tapped = self.ran(one.name, scene)
        other = self.ran(one.name, "text") if way == "batch" else None
        return dump(tapped, way, folder, self.facts(scene), other), tapped

    def judge(self, one: Variant, way: str) -> Row | None:
        """What is said of one dump; None where there is nothing to ask."""
        if self.hidden and not one.hides:
            return None
        scene = one.hides if self.hidden else one.shows
        trace = self.scene(scene)
        with tempfile.TemporaryDirectory() as folder:
            made, tapped = self.dumped(one, way, scene, Path(folder) / "dump")
            names = made.names
            if not self.named:
                names = table_of(guess(read_arrays(made.path), trace))
            named = counted(names, made.names)
            wanted = self.truth(one, made, tapped, scene)
            try:
                candidate = read_candidate(made.path, trace, names, weights=one.arithmetic.matrices)
                if self.local:
                    with local_golden(self.vlm, trace, candidate) as beside:
                        found = compare(beside, candidate)
                else:
                    found = compare(trace, candidate)
            except minivl.Error as problem:
                return Row(one, way, None, wanted, named, str(problem))
        return Row(one, way, found, wanted, named)

    def truth(self, one: Variant, made: Dumped, tapped: Mapping[str, np.ndarray], scene: str) -> frozenset[str]:
        """Labels of the taps that may rightly be called the first bad one; "" where none need be."""
        if one.kind == HEALTHY:
            return frozenset({""})
        right, exact = self.own(one.arithmetic, scene), self.own(Arithmetic(), scene)
        may: list[str] = []
        stored = {own: made.stored[name] for name, own in made.of.items()}
        for name in [name for name in tapped if name in stored]:
            size = seen(tapped[name], right[name], exact[name], stored[name], one.arithmetic)
            if size > NEVER:
                may.append(label_of(name).partition(":")[0])
            if size > SURE:
                return frozenset(may)
        return frozenset([*may, ""])


def seen(wrong: np.ndarray, right: np.ndarray, exact: np.ndarray, kind: str, arithmetic: Arithmetic) -> float:
    """How large a fault is in one tap, in units of this port's own rounding and storage: of all, or of a row."""
    shape = (len(wrong), -1)
    a, b, c = (np.asarray(x, np.float64).reshape(shape) for x in (wrong, right, exact))
    narrow = cut(exact, kind).reshape(shape)
    short = kind != "float32" or arithmetic.of("tower") != "float32" or arithmetic.of("decoder") != "float32"
    with np.errstate(all="ignore"):
        noise = np.hypot(np.linalg.norm(b - c, axis=1), np.linalg.norm(narrow - c, axis=1))
        off, norms = np.linalg.norm(a - b, axis=1), np.linalg.norm(c, axis=1)
        if not np.isfinite(off).all():
            return float("inf")
        floor = 2.0**-23 * np.linalg.norm(norms)
        return float(np.linalg.norm(off) / max(np.linalg.norm(noise), floor) * (1.0 if short else SURE / IN_32))


def counted(guessed: Mapping[str, object], right: Mapping[str, object]) -> tuple[int, int, int]:
    def label(entry):
        return entry["label"] if isinstance(entry, dict) else entry
    good = sum(label(guessed[n]) == label(right[n]) for n in right if n in guessed)
    there = sum(n in guessed for n in right)
    return good, there - good, len(right) - there


def table(rows: Sequence[Row]) -> str:
    """The acceptance figures, in all and by way."""
    lines = [f"{'way':16} {'healthy accused':>16} {'first bad tap right':>20} {'interval right':>16} "
             f"{'names right':>12}"]
    ways = list(dict.fromkeys(row.way for row in rows))
    for way in [*ways, "all"]:
        own = [row for row in rows if way in (row.way, "all")]
        healthy = [row for row in own if row.variant.kind == HEALTHY]
        faulty = [row for row in own if row.variant.kind != HEALTHY and row.seen]
        named = [row for row in own if row.variant.kind != HEALTHY and row.first]
        counts = Counter({n: sum(row.named[n] for row in own) for n in range(3)})
        lines.append(f"{way:16} {sum(row.accused for row in healthy):>8} of {len(healthy):<4} "
                     f"{sum(row.first_right for row in faulty):>12} of {len(faulty):<5}"
                     f"{sum(row.interval_right for row in named):>10} of {len(named):<4}"
                     f"{counts[0]:>6} of {sum(counts.values())} ({counts[1]} wrong)")
    hidden = [row for row in rows if row.variant.kind != HEALTHY and not row.seen]
    lines.append(f"faults that do not show in their storage: {len(hidden)}, of which "
                 f"{sum(not row.first_right for row in hidden)} were given a first bad tap that is none")
    return "\n".join(lines)

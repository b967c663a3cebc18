"""Which of somebody's arrays is which stage: a proposal from the numbers, for a person to look through.

Two fingerprints survive any order of rows and of channels: the sorted lengths of all rows, and of all
columns. Rotation keeps the first and changes the second, so that queries before and after it are told
apart. What a bug has already changed has no fingerprint left; there names help: when `blk.0.attn` was
found to be `vision.blocks.0.attend`, then `blk.7.attn` is likely `vision.blocks.7.attend`.

Where two stages hold the same rows (before and after they are put in order) the rows as they stand
decide. Read next: `align.py` (the layouts that are tried), `importers.py` (which takes the table).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..trace.format import Trace, row_axis
from . import align

CLOSE = 0.03                   # fingerprints this near are one array in another rounding
DOUBT = 3.0                    # another stage that is nearer than so many times is named too
OUTSIDE = ("picture.", "video.", "prompt.")                      # pixels and text are no taps of a model


class Print(NamedTuple):
    """Sorted lengths of rows and of columns."""
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Guess:
    """One proposal. `distance` is that of the fingerprints, None where the name alone said so;
    `instead`: other labels that are nearly as near."""
    name: str
    label: str
    distance: float | None
    instead: tuple[str, ...] = ()


def guess(arrays: Mapping[str, np.ndarray], golden: Trace) -> list[Guess]:
    """Proposals, in the golden order; each array and each label at most once."""
    # 1. every array beside every stage
    targets = targets_of(golden)
    prints = {label: fingerprint(array) for label, array in targets.items()}
    scored = [(score, name, label) for name, array in arrays.items()
              for label, score in scores(array, targets, prints).items()]
    # 2. the nearest pairs first; what is taken is taken
    chosen: dict[str, Guess] = {}
    for score, name, label in sorted(scored):
        if score < CLOSE and name not in chosen and label not in {g.label for g in chosen.values()}:
            near = tuple(other for s, n, other in scored if n == name and other != label
                         and s < DOUBT * score)
            chosen[name] = Guess(name, label, score, near[:3])
    # 3. what a bug has changed beyond recognition, by its name
    found = [*chosen.values(), *by_name(arrays, targets, list(chosen.values()))]
    place = {label: n for n, label in enumerate(targets)}
    return sorted(found, key=lambda g: place[g.label])


def targets_of(golden: Trace) -> dict[str, np.ndarray]:
    """Every array of floats that can be tapped, rows first: label, or label:n -> array; queries, keys
    and values also side by side."""
    found: dict[str, np.ndarray] = {}
    for key in golden.recorded():
        stage, exact = golden.stages[key], golden.arrays(key)
        if exact[0].dtype.kind != "f" or key.startswith(OUTSIDE):
            continue
        moved = [np.moveaxis(a, row_axis(axes), 0) for a, axes in zip(exact, stage.axes, strict=True)]
        for n, array in enumerate(moved):
            found[f"{key}:{n}" if len(moved) > 1 else key] = array
        if len(moved) == 3:
            # q k v side by side: n x
            found[key] = np.concatenate([a.reshape(len(a), -1) for a in moved], axis=1)
    return found


def fingerprint(array: np.ndarray) -> Print:
    """Of an array with rows first."""
    table = array.reshape(len(array), -1).astype(np.float64)                    # n ... -> n x
    squared = table * table
    return Print(np.sort(np.sqrt(squared.sum(axis=1))), np.sort(np.sqrt(squared.sum(axis=0))))  # n, x


def scores(array: np.ndarray, targets: Mapping[str, np.ndarray],
           prints: Mapping[str, Print]) -> dict[str, float]:
    """How near an array comes to every label that it could be, in the nearest layout; a little off
    where, of two equal fingerprints, the rows stand otherwise."""
    if array.dtype.kind not in "fVi" or array.size < 2:
        return {}
    made: dict[tuple[int, ...], list[tuple[Print, np.ndarray]]] = {}
    found: dict[str, tuple[float, np.ndarray]] = {}
    for label, target in targets.items():
        if target.shape not in made:
            made[target.shape] = [(fingerprint(way.array), way.array)
                                  for way in align.ways(array, target.shape)]
        near = [(distance(p, prints[label]), n) for n, (p, _) in enumerate(made[target.shape])]
        if near:
            best, n = min(near)
            found[label] = (best, made[target.shape][n][1])
    # stages with the same rows in another order have one fingerprint: there the rows as they stand
    # decide
    least = min((d for d, _ in found.values()), default=0.0)
    return {label: d + 1e-3 * (min(1.0, align.distance(way, targets[label]))
                               if d < DOUBT * least + CLOSE / 10 else 1.0)
            for label, (d, way) in found.items()}


def distance(a: Print, b: Print) -> float:
    """Relative distance of two fingerprints, the larger of the two; infinite where it is no number."""
    if a.rows.shape != b.rows.shape or a.columns.shape != b.columns.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        parts = [float(np.linalg.norm(x - y)) / max(float(np.linalg.norm(y)), 1e-300)
                 for x, y in zip(a, b, strict=True)]
    return float(max(parts)) if np.isfinite(parts).all() else float("inf")


# ---- by name -----------------------------------------------------------------------------------

BLOCK = re.compile(r"(blocks|layers)\.(\d+)\.")


def by_name(arrays: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray],
            known: list[Guess]) -> Iterable[Guess]:
    """Arrays that are called like known ones of another block, and have the shape that they then
    should have."""
    taken = {g.label for g in known} | {g.name for g in known}
    for template in sorted({t for g in known for t in templates(g)}):
        before, after, base, label = template
        for name, array in arrays.items():
            alike = name.startswith(before) and name.endswith(after)
            middle = name[len(before):len(name) - len(after)] if alike else ""
            wanted = BLOCK.sub(rf"\g<1>.{int(middle) - base}.", label) if middle.isdecimal() else ""
            if wanted not in targets or {name, wanted} & taken:
                continue
            if any(align.ways(array, targets[wanted].shape)):
                taken |= {name, wanted}
                yield Guess(name, wanted, None)


def templates(known: Guess) -> list[tuple[str, str, int, str]]:
    """What stands before and after the block's number in a name, the number that block 0 has there,
    and the label."""
    block = BLOCK.search(known.label)
    if not block:
        return []
    return [(known.name[:n.start()], known.name[n.end():], int(n[0]) - int(block[2]), known.label)
            for n in re.finditer(r"\d+", known.name) if 0 <= int(n[0]) - int(block[2]) <= 1]

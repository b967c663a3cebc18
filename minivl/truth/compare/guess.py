"""Which of somebody's arrays is which stage: a proposal from the numbers, for a person to look through.

Two fingerprints survive any order of rows and of channels: the sorted lengths of all rows, and of all
columns. Rotation keeps the first and changes the second, so that queries before and after it are told
apart.

What a bug has changed has no fingerprint left, and yet seldom is every row of it wrong: text before a
picture is right whatever the tower did. So what is left over is laid beside the stages row by row,
through a few random sums of each row (`Sketch`), and goes where most rows agree. Names help: arrays
that differ by a number alone are one stage of many blocks, and are placed together.

Where two stages hold the same rows (before and after they are put in order) the rows as they stand
decide. Read next: `align.py` (the layouts that are tried), `importers.py` (which takes the table).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..trace.format import Trace, row_axis
from . import align
from .numbers import meant
from .steps import pieces
from .taps import known_rows

CLOSE = 0.03                   # fingerprints this near are one array in another rounding
DOUBT = 3.0                    # another stage that is nearer than so many times is named too
OUTSIDE = ("picture.", "video.", "prompt.")                      # pixels and text are no taps of a model
ALL_ROWS = "decoder.select_rows"
SUMS = 32                      # random sums of a row
TIE = 0.004                    # two stages that agree this nearly cannot be told apart
OTHER_BLOCK = 0.05             # what a number in a name counts, that is not the block's
APART = 0.93                   # rows that agree less than this with a stage say nothing
TURNED = 1e-3                  # what another order of rows counts
SEVERAL = 2                    # names of one family, before a name alone says what an array is
BESIDE = 1.1                   # another stage that is off by so many times as much fits as well


class Print(NamedTuple):
    """Sorted lengths of rows and of columns."""
    rows: np.ndarray
    columns: np.ndarray


class Target(NamedTuple):
    """A stage that can be tapped: its array with rows first, what is known of these, and its print."""
    array: np.ndarray
    rows: align.Rows
    print: Print


@dataclass(frozen=True)
class Guess:
    """One proposal. `distance` is that of the fingerprints, None where name and shape alone said so;
    `instead`: other labels that are nearly as near; `dtype`: what integers hold; `rows` that agree."""
    name: str
    label: str
    distance: float | None
    instead: tuple[str, ...] = ()
    dtype: str = ""
    tokens: tuple[int, int] | None = None  # of a step of decoding: the golden rows that it has
    off: float | None = None               # how far its rows are off, 0..1, where fingerprints are gone


def guess(arrays: Mapping[str, np.ndarray], golden: Trace) -> list[Guess]:
    """Proposals, in the golden order; each array and each label at most once."""
    # 1. every array beside every stage
    targets = targets_of(golden)
    read = {name: meant(array) for name, array in arrays.items()}
    floats = {name: array for name, (array, dtype) in read.items() if array.dtype.kind in "fV"}
    scored = [(score, name, label) for name, array in floats.items()
              for label, score in scores(array, targets).items()]
    # 2. the nearest pairs first; what is taken is taken
    chosen: dict[str, Guess] = {}
    for score, name, label in sorted(scored):
        if score < CLOSE and name not in chosen and label not in {g.label for g in chosen.values()}:
            near = tuple(other for s, n, other in scored if n == name and other != label
                         and s < DOUBT * score and not same(targets, label, other))
            chosen[name] = Guess(name, last_alike(floats[name], label, targets, chosen.values()), score,
                                 near[:3])
    chosen |= by_family(chosen, {(name, label): score for score, name, label in scored})
    # 3. what a bug has changed beyond recognition: by its name, then by the rows that are still right
    parts = steps_of(floats, targets, chosen)
    chosen = {name: g for name, g in chosen.items() if name not in parts and g.label not in
              {one.label for one in parts.values()}}
    floats = {name: array for name, array in floats.items() if name not in parts}
    found = [*chosen.values(), *by_name(floats, targets, list(chosen.values()))]
    # what is no float, or has another shape, and is called like several others: the broken one of them
    left = {name: array for name, (array, _) in read.items() if name not in parts}
    found += by_name(left, targets, found, SEVERAL)
    # a second copy of what is placed already is no other stage
    copies = {name for score, name, _ in scored if score < CLOSE}
    found += by_rows({name: array for name, array in floats.items() if name not in copies}, targets,
                     found)
    place = {label: n for n, label in enumerate(targets)}
    ordered = sorted([*parts.values(), *found], key=lambda g: place[g.label])
    return [replace(g, dtype=read[g.name][1]) for g in ordered]


def steps_of(arrays: Mapping[str, np.ndarray], targets: Mapping[str, Target], chosen: Mapping[str, Guess]
             ) -> dict[str, Guess]:
    """Arrays that hold some rows of a stage: those of the prompt, and of each step of decoding."""
    left = {name: array for name, array in arrays.items()
            if name not in chosen or array.size < targets[chosen[name].label].array.size}
    return {name: Guess(name, one.label, one.off if one.off < CLOSE else None,
                        tokens=(one.first, one.end))
            for name, one in pieces(left, targets).items()}


def table_of(found: Iterable[Guess]) -> dict[str, Any]:
    """Proposals as a table of names, as `--names` takes it."""
    table: dict[str, Any] = {}
    for g in found:
        entry: dict[str, Any] = {"label": g.label}
        if g.dtype:
            entry["dtype"] = g.dtype
        if g.tokens:
            entry["tokens"] = list(g.tokens)
        if g.instead:
            entry["instead"] = list(g.instead)
        table[g.name] = entry if len(entry) > 1 else g.label
    return table


def targets_of(golden: Trace) -> dict[str, Target]:
    """Every array of floats that can be tapped, rows first: label, or label:n -> array; queries, keys
    and values also side by side."""
    found: dict[str, np.ndarray] = {}
    letters: dict[str, str] = {}
    for key in golden.recorded():
        stage, exact = golden.stages[key], golden.arrays(key)
        if exact[0].dtype.kind != "f" or key.startswith(OUTSIDE):
            continue
        moved = [np.moveaxis(a, row_axis(axes), 0) for a, axes in zip(exact, stage.axes, strict=True)]
        if stage.label == ALL_ROWS and found and any(np.array_equal(exact[0], other) for other in
                                                     list(found.values())[-1:]):
            continue                          # every row was asked for: it is what the last layer gave
        letters[key] = (stage.axes[0].split() or ["n"])[row_axis(stage.axes[0])]
        for n, array in enumerate(moved):
            found[f"{key}:{n}" if len(moved) > 1 else key] = array
        if len(moved) == 3:
            # q k v side by side: n x
            found[key] = np.concatenate([a.reshape(len(a), -1) for a in moved], axis=1)
    known = known_rows(golden)

    def rows(label: str) -> align.Rows:
        key = label.partition(":")[0]
        return known(letters[key], golden.stages[key].label)
    return {label: Target(array, rows(label), fingerprint(array)) for label, array in found.items()}


def same(targets: Mapping[str, Target], one: str, other: str) -> bool:
    """Whether two stages hold the very same rows, in whatever order, so that it does not matter which is
    meant."""
    return distance(targets[one].print, targets[other].print) < 1e-12


def last_alike(array: np.ndarray, label: str, targets: Mapping[str, Target],
               chosen: Iterable[Guess]) -> str:
    """Of stages that hold the same rows in other orders the last, where an array has them in an order of
    none: whoever put them in order is then among those that may be guilty."""
    taken = {g.label for g in chosen}
    alike = [other for other in targets if same(targets, label, other) and other not in taken]
    if len(alike) < 2:
        return label
    off = {other: error_at(array, targets[other]) for other in alike}
    plain = {other: error_at(array, targets[other]._replace(rows=align.NOTHING)) for other in alike}
    if min(off.values()) >= align.CLEARLY:
        return alike[-1]
    # in an order that is in use: of the stages as they stand, or of the first, before anything was
    # ordered
    stands = min(alike, key=lambda other: plain[other])
    return stands if plain[stands] < align.CLEARLY else next(o for o in alike if off[o] < align.CLEARLY)


def error_at(array: np.ndarray, target: Target) -> float:
    """The relative error of an array as a stage, in the nearest layout and order."""
    possible = align.ways(array, target.array.shape, target.rows)
    return min((align.in_any_order(way, target.array, target.rows.orders) for way in possible),
               default=float("inf"))


def fingerprint(array: np.ndarray) -> Print:
    """Of an array with rows first."""
    table = array.reshape(len(array), -1).astype(np.float64)                    # n ... -> n x
    with np.errstate(over="ignore", invalid="ignore"):
        squared = table * table
    return Print(np.sort(np.sqrt(squared.sum(axis=1))), np.sort(np.sqrt(squared.sum(axis=0))))  # n, x


def scores(array: np.ndarray, targets: Mapping[str, Target]) -> dict[str, float]:
    """How near an array comes to every label that it could be, in the nearest layout; a little off
    where, of two equal fingerprints, the rows stand otherwise."""
    if array.dtype.kind not in "fVi" or array.size < 2:
        return {}
    made: dict[Any, list[tuple[Print, align.Fitted]]] = {}
    found: dict[str, tuple[float, align.Fitted]] = {}
    for label, target in targets.items():
        kind = (target.array.shape, target.rows.last, target.rows.windows)
        if kind not in made:
            made[kind] = [(fingerprint(way.array), way)
                          for way in align.ways(array, target.array.shape, target.rows)]
        near = [(distance(p, print_of(target, way)), n) for n, (p, way) in enumerate(made[kind])]
        if near:
            best, n = min(near)
            found[label] = (best, made[kind][n][1])
    # stages with the same rows in another order have one fingerprint: there the rows as they stand
    # decide
    least = min((d for d, _ in found.values()), default=0.0)
    return {label: d + 1e-3 * (min(1.0, align.distance(way.array, part(targets[label], way)))
                               if d < DOUBT * least + CLOSE / 10 else 1.0)
            for label, (d, way) in found.items()}


def part(target: Target, way: align.Fitted) -> np.ndarray:
    """The rows of a stage that a way has."""
    return target.array if way.rows is None else target.array[way.rows]


def print_of(target: Target, way: align.Fitted) -> Print:
    """The print of these rows."""
    return target.print if way.rows is None else fingerprint(part(target, way))


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


def by_name(arrays: Mapping[str, np.ndarray], targets: Mapping[str, Target], known: list[Guess],
            several: int = 0) -> Iterable[Guess]:
    """Arrays that are called like known ones of another block, and have the shape that they then
    should have; called like `several` of them, in whatever shape."""
    taken = {g.label for g in known} | {g.name for g in known}
    every = [t for g in known for t in templates(g)]
    alike = Counter((before, after, base, BLOCK.sub(r"\g<1>.*.", label))
                    for before, after, base, label in every)
    for template in sorted(set(every)):
        before, after, base, label = template
        sure = several and alike[before, after, base, BLOCK.sub(r"\g<1>.*.", label)] >= several
        for name, array in arrays.items():
            same = name.startswith(before) and name.endswith(after)
            middle = name[len(before):len(name) - len(after)] if same else ""
            wanted = BLOCK.sub(rf"\g<1>.{int(middle) - base}.", label) if middle.isdecimal() else ""
            if wanted not in targets or {name, wanted} & taken:
                continue
            if sure or fits(array, targets[wanted]):
                taken |= {name, wanted}
                yield Guess(name, wanted, None)


def by_family(chosen: Mapping[str, Guess], scored: Mapping[tuple[str, str], float]) -> dict[str, Guess]:
    """Arrays that go elsewhere than most that are called like them in other blocks, although they are nearly as
    near to the stage where those go: placed there. A bug makes stages that follow each other look alike."""
    votes = {name: {(before, after, base): BLOCK.sub(r"\g<1>.{}.", label)
                    for before, after, base, label in templates(g)} for name, g in chosen.items()}
    counts = Counter((family, kind) for mine in votes.values() for family, kind in mine.items())
    moved: dict[str, Guess] = {}
    for name, g in chosen.items():
        for family, kind in votes[name].items():
            (wanted, most), *_ = Counter({k: n for (f, k), n in counts.items() if f == family}).most_common(1)
            label = wanted.format(BLOCK.search(g.label)[2]) if most >= SEVERAL else g.label    # type: ignore[index]
            if most > counts[family, kind] and label in g.instead:
                others = tuple(one for one in (g.label, *g.instead) if one != label)
                moved[name] = replace(g, label=label, distance=scored[name, label], instead=others)
    left = {g.label for name, g in chosen.items() if name not in moved}
    return {name: g for name, g in moved.items() if g.label not in left}


def fits(array: np.ndarray, target: Target) -> bool:
    """Whether an array can be laid on a stage in some way."""
    return any(align.ways(array, target.array.shape, target.rows))


def templates(known: Guess) -> list[tuple[str, str, int, str]]:
    """What stands before and after the block's number in a name, the number that block 0 has there,
    and the label."""
    block = BLOCK.search(known.label)
    if not block:
        return []
    return [(known.name[:n.start()], known.name[n.end():], int(n[0]) - int(block[2]), known.label)
            for n in re.finditer(r"\d+", known.name) if 0 <= int(n[0]) - int(block[2]) <= 1]


# ---- by the rows that are still right ----------------------------------------------------------

def by_rows(arrays: Mapping[str, np.ndarray], targets: Mapping[str, Target],
            known: list[Guess]) -> list[Guess]:
    """What is left over, where most of its rows agree: families of names first, then one by one."""
    taken = {g.label for g in known}
    left = {name: array for name, array in arrays.items() if name not in {g.name for g in known}}
    off = {name: agreement(array, targets) for name, array in left.items()}
    found: list[Guess] = []
    for names in sorted_families(off, taken):
        placed = {g.name for g in found} | {g.label for g in found}
        if placed.isdisjoint([*names, *names.values()]):
            found += [Guess(name, label, None, rivals(off[name], label, targets, taken),
                            off=off[name][label])
                      for name, label in names.items()]
    for name, array in left.items():
        free = {label: value for label, value in off[name].items()
                if label not in taken | {g.label for g in found}}
        if free and name not in {g.name for g in found} and (
                best := best_of(name, array.size, free, targets)):
            among = wholes(array.size, free, targets)
            near = rivals(among if best in among else free, best, targets, taken)
            found.append(Guess(name, best, None, near, off=free[best]))
    return found


def best_of(name: str, size: int, free: Mapping[str, float], targets: Mapping[str, Target]) -> str:
    """The stage with which most rows of an array agree, or ""; of those with which as many agree the
    last: what leads to it has all of the others in it. A number in the name is likely that of the
    block."""
    numbers = {int(n) for n in re.findall(r"\d+", name)}

    def cost(label: str) -> float:
        block = BLOCK.search(f"{label}.")
        odd = block and numbers and not {int(block[2]), int(block[2]) + 1} & numbers
        return free[label] + (OTHER_BLOCK if odd else 0.0)
    least = min(map(cost, free))
    if least < APART:
        return [label for label in targets if label in free and cost(label) <= least + TIE][-1]
    # nothing agrees: the shape decides where it is that of one stage alone
    whole = list(wholes(size, free, targets))
    return whole[-1] if all(same(targets, whole[-1], label) for label in whole) else ""


def wholes(size: int, free: Mapping[str, float], targets: Mapping[str, Target]) -> dict[str, float]:
    """Of the stages that an array could be those that it would be as a whole; all where it is none."""
    return {label: value for label, value in free.items() if targets[label].array.size == size} or dict(free)


def rivals(off: Mapping[str, float], label: str, targets: Mapping[str, Target],
           taken: set[str]) -> tuple[str, ...]:
    """Other stages that fit an array nearly as well."""
    near = sorted((value, other) for other, value in off.items()
                  if other != label and other not in taken and value < BESIDE * off[label] + 0.01
                  and not same(targets, label, other))
    return tuple(other for _, other in near[:3])


def sorted_families(off: Mapping[str, Mapping[str, float]], taken: set[str]) -> list[dict[str, str]]:
    """name -> label for arrays whose names differ by a number, as the same stage of blocks by these
    numbers, counted from 0 or from 1; the surest first. Where no kind of stage fits better than the
    next, none."""
    found: list[tuple[float, dict[str, str]]] = []
    for numbered in numbered_names(off):
        rated = sorted(families(off, numbered, taken), key=lambda one: one[0])
        if rated and (rated[0][0] < APART or len(rated) < 2 or rated[0][0] < rated[1][0] - TIE):
            found.append(rated[0])
    return [names for mean, names in sorted(found, key=lambda one: (one[0] - 0.01 * len(one[1])))]


def numbered_names(off: Mapping[str, Any]) -> list[dict[int, str]]:
    """Names that differ by one number: number -> name."""
    members: dict[tuple[str, str], dict[int, str]] = {}
    for name in off:
        for n in re.finditer(r"\d+", name):
            members.setdefault((name[:n.start()], name[n.end():]), {})[int(n[0])] = name
    return [numbered for numbered in members.values() if len(numbered) > 1]


def families(off: Mapping[str, Mapping[str, float]], numbered: Mapping[int, str], taken: set[str]
             ) -> Iterator[tuple[float, dict[str, str]]]:
    """(how far off on average, name -> label) of one family of names, for every kind of stage that its
    shapes allow."""
    kinds = dict.fromkeys(BLOCK.sub(r"\g<1>.*.", label) for one in off.values() for label in one
                          if BLOCK.search(label))
    for kind in kinds:
        for base in (0, 1):
            names = {name: kind.replace("*", str(n - base)) for n, name in numbered.items()}
            if all(label in off[name] and label not in taken for name, label in names.items()):
                mean = float(np.mean([off[name][label] for name, label in names.items()]))
                yield mean + TIE * base, names


def agreement(array: np.ndarray, targets: Mapping[str, Target]) -> dict[str, float]:
    """How far the rows of an array are off from every stage that it could be, 0 (all agree) to 1, in the
    layout and order in which most agree."""
    made: dict[Any, list[tuple[np.ndarray, align.Fitted]]] = {}
    found: dict[str, float] = {}
    for label, target in targets.items():
        kind = (target.array.shape, target.rows.last, target.rows.windows)
        if kind not in made:
            made[kind] = [(sketch(way.array), way)
                          for way in align.ways(array, target.array.shape, target.rows)]
        if not made[kind]:
            continue
        own = sketch(target.array)
        # rows as they stand, or in another order that is in use, which is a little less likely
        near = [apart(rows, own if way.rows is None else own[way.rows]) for rows, way in made[kind]]
        near += [apart(rows[index], own) + TURNED for rows, way in made[kind] if way.rows is None
                 for index in target.rows.orders.values()]
        found[label] = min(near)
    return found


def sketch(array: np.ndarray) -> np.ndarray:
    """A few random sums of each row, of the same signs for every array of this width: n ... -> n
    SUMS."""
    table = array.reshape(len(array), -1)
    signs = np.random.default_rng(table.shape[1]).choice([-1.0, 1.0], (table.shape[1], SUMS))
    with np.errstate(all="ignore"):
        return table.astype(np.float64) @ signs / table.shape[1] ** 0.5


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over rows of how far they are apart, each at most 1; of what is no number 1."""
    with np.errstate(all="ignore"):
        off = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), 1e-300)
    return float(np.minimum(np.nan_to_num(off, nan=1.0, posinf=1.0), 1.0).mean())

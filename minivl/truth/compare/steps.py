"""Steps of decoding beside the rows of a golden prefill.

A port that writes its answer token by token keeps an array for the prompt, and one of a single row for
each step. The golden run has all of these rows in one: the prompt with its answer (`trace record
--answer N`). Row P + t of it is step t after a prompt of P tokens.

    Step(60, 61, array)              an array that holds row 60 alone
    joined(steps, golden, axis)      all of a stage in one, and which golden rows it has
    pieces(arrays, targets)          which stage and rows an array is, by numbers and names

Numbers find the rows first. What agrees on one count of steps ("step_3/..." is row 63) then places the
arrays that a bug has changed: by the step in their name, and by what stands before or behind it.

Read next: `guess.py`, which asks; `importers.py`, where a table of names says the rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import align

NEAR = 0.03                     # rows this near are one row in another rounding: as `guess.CLOSE`
TWO = 2                         # arrays that must agree on a count of steps
NUMBER = re.compile(r"\d+")


class Step(NamedTuple):
    """Rows first..end - 1 of a golden array, as a candidate has them."""
    first: int
    end: int
    array: np.ndarray


class Piece(NamedTuple):
    """What an array is: rows first..end - 1 of a stage; off: how far, 1 where a name alone says it."""
    label: str
    first: int
    end: int
    off: float

    @property
    def single(self) -> bool:
        """Whether it is one row."""
        return self.end - self.first == 1


class Where(NamedTuple):
    """What a name says of a step: the golden row, and what stands before and behind its number."""
    before: str
    row: int
    behind: str


def joined(steps: Sequence[Step], golden: np.ndarray, axis: int) -> align.Fitted | None:
    """The rows of all steps in one array, in the order of the run; None where one fits in no way."""
    found = []
    for step in sorted(steps, key=lambda step: step.first):
        if step.end > golden.shape[axis]:
            return None
        target = np.take(golden, np.arange(step.first, step.end), axis)          # s d -> n d
        found.append(align.fit(step.array, target, axis))
    if any(one is None or one.rows is not None for one in found):
        return None
    rows = np.concatenate([np.arange(step.first, step.end)
                           for step in sorted(steps, key=lambda step: step.first)])
    ones = sum(step.end - step.first == 1 for step in steps)
    said = (f"{len(rows)} of {golden.shape[axis]} rows, from {len(steps)} arrays, {ones} of them "
            "of one row")
    notes = dict.fromkeys(note for one in found if one for note in one.notes)
    return align.Fitted(np.concatenate([one.array for one in found if one], axis), (*notes, said),
                        sum(one.padding for one in found if one), rows)


# ---- which is which ----------------------------------------------------------------------------

def pieces(arrays: Mapping[str, np.ndarray], targets: Mapping[str, Any]) -> dict[str, Piece]:
    """Name -> what it is, of arrays that hold some rows of a stage of the decoder. targets: label ->
    what has an `array` with rows first. Nothing where no two arrays agree on a count of steps."""
    near = {name: list(places(array, targets)) for name, array in arrays.items()}
    # 1. row = number in the name + base: what most arrays say of each text before the number
    votes = Counter(vote for name, found in near.items()
                    for vote in {(before, one.first - t) for one in found if one.single
                                 for before, t, _ in numbered(name)})
    base: dict[str, int] = {}
    for (before, row), count in votes.most_common():
        if count >= TWO:
            base.setdefault(before, row)
    if not base:
        return {}
    steps = {name: step_of(name, base, votes) for name in arrays}
    # 2. arrays whose numbers say which stage they are, in the row that the count of steps says
    found = by_numbers(near, steps)
    # 3. the others by their names; a row without a step is the last one of the prompt
    for name, array in arrays.items():
        if name not in found and (piece := by_name(steps[name], array, found, targets)):
            found[name] = piece
    return found | last_rows({name: near[name] for name in arrays if name not in found
                              and not steps[name]},
                             found)


def by_numbers(near: Mapping[str, Sequence[Piece]], steps: Mapping[str, Where | None]) -> dict[str,
                                                                                               Piece]:
    """What the numbers say, where the step in the name says the same row."""
    agreed = {name: [one for one in all_near if agrees(one, steps[name])]
              for name, all_near in near.items()}
    found = {name: min(good, key=lambda one: one.off) for name, good in agreed.items() if good}
    # Several stages may hold the same in a row of text, as before and after features are placed. In the
    # rows of the prompt they differ.
    prompt = {name: piece.label for name, piece in found.items() if not piece.single}
    for name, piece in found.items():
        step = steps[name]
        if step and step.behind and piece.single:
            labels = {label for other, label in prompt.items() if other.endswith(step.behind)}
            found[name] = next((one for one in agreed[name] if one.label in labels), piece)
    return found


def last_rows(near: Mapping[str, Sequence[Piece]], found: Mapping[str, Piece]) -> dict[str, Piece]:
    """Single rows of the prompt, as of logits, which come before the first step."""
    taken = {(piece.label, piece.first) for piece in found.values()}
    start = min((piece.first for piece in found.values() if piece.single), default=0)
    open_rows = {name: [one for one in all_near if one.single and one.first < start
                        and (one.label, one.first) not in taken] for name, all_near in near.items()}
    return {name: min(rows, key=lambda one: one.off) for name, rows in open_rows.items() if rows}


def numbered(name: str) -> Iterator[tuple[str, int, str]]:
    """Every number in a name, with what stands before and behind it."""
    for one in NUMBER.finditer(name):
        yield name[:one.start()], int(one[0]), name[one.end():]


def step_of(name: str, base: Mapping[str, int], votes: Mapping[tuple[str, int], int]) -> Where | None:
    """By the number in a name that most arrays take for the step."""
    known = [(votes[before, base[before]], Where(before, base[before] + t, behind))
             for before, t, behind in numbered(name) if before in base]
    return max(known)[1] if known else None


def agrees(one: Piece, step: Where | None) -> bool:
    """Whether rows that the numbers give are those that the name gives; of a prompt the first ones."""
    return one.first == 0 if not one.single else step is not None and step.row == one.first


def places(array: np.ndarray, targets: Mapping[str, Any]) -> Iterator[Piece]:
    """Every stage of the decoder some rows of which an array may hold, by the numbers: a single row
    anywhere, several rows from the first on."""
    for label, target in targets.items():
        rows, *shape = target.array.shape
        width = int(np.prod(shape))
        count, rest = divmod(array.size, width)
        if not label.startswith("decoder.") or rest or not 0 < count < rows:
            continue
        golden = target.array.reshape(rows, width).astype(np.float64)                # s a e -> s x
        lengths = np.maximum(np.linalg.norm(golden, axis=1), 1e-300)
        for way in align.ways(array, (count, *shape)):
            mine = way.array.reshape(count, width).astype(np.float64)
            if way.padding or not np.isfinite(mine).all():
                continue
            if count > 1:
                off = float(np.mean(np.linalg.norm(mine - golden[:count], axis=1) / lengths[:count]))
                if off < NEAR:
                    yield Piece(label, 0, count, off)
            else:
                apart = np.linalg.norm(mine - golden, axis=1) / lengths              # s
                yield from (Piece(label, int(n), int(n) + 1, float(apart[n]))
                            for n in np.flatnonzero(apart < NEAR))


def by_name(step: Where | None, array: np.ndarray, found: Mapping[str, Piece], targets: Mapping[str, Any]
            ) -> Piece | None:
    """What an array is that the numbers do not tell: the step in its name says the row, another array
    whose name is the same around the step says the stage."""
    if step is None:
        return None
    behind = step.behind.strip("/_.-")
    labels = Counter(piece.label for other, piece in found.items()
                     if other.endswith(step.behind) and (behind or other.startswith(step.before)))
    # without such a name: a stage that alone has rows of this width, as logits do
    alone = [label for label, target in targets.items() if label.startswith("decoder.")
             and target.array[0].size == array.size]
    label = labels.most_common(1)[0][0] if labels else alone[0] if len(alone) == 1 else None
    if label is None or not 0 <= step.row < len(targets[label].array):
        return None
    return Piece(label, step.row, step.row + 1, 1.0)

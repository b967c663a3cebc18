"""Where in an array the difference sits: which rows, heads, channels, windows, and which region of the
picture.

Along each axis: the fewest places that together hold nine tenths of the squared difference. When that
is most of them, the difference is everywhere and nothing is said; when it is few, they are the answer.
Read next: `compare.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HOLD = 0.9                     # share of the squared difference that the places named hold together
FEW = 0.5                      # places are named when they are at most this share of all
PLACED = "pwcms"               # rows that have a place
MOVED = "rows in other places"
SAME = 1e-4                    # two rows nearer than this are one
MOST = 2048                    # bad rows that are looked at
HEADS = {"a": "query heads", "k": "key-value heads", "e": "channels of a head", "d": "channels",
         "o": "channels",
         "f": "rotary frequencies", "v": "words", "x": "values of a patch"}


@dataclass(frozen=True)
class Slice:
    """`places` of `of` hold HOLD of the difference; `text` says which."""
    by: str
    places: int
    of: int
    text: str


def slices(candidate: np.ndarray, golden: np.ndarray, axes: str, at: Mapping[str, np.ndarray],
           segments: np.ndarray | None = None, patch: int = 14, limit: float = 0.0) -> list[Slice]:
    """The slices of one array that hold its difference. at: coordinates by letter; segments: the
    block's table, g 4; limit: how far off a row may be that still is the row itself."""
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.square(candidate.astype(np.float64) - golden.astype(np.float64))
    squared = np.nan_to_num(squared, nan=1e300, posinf=1e300)
    letters = axes.split()                                                      # "w a e" -> w, a, e
    found = moved(candidate, golden, letters, limit)
    for axis, letter in enumerate(letters[:squared.ndim]):
        # w a e -> w, a, e in turn
        energy = squared.sum(axis=tuple(n for n in range(squared.ndim) if n != axis))
        rows = letter in "pwcms"
        held = holders(energy)
        by = f"rows {letter}" if rows else HEADS.get(letter, f"axis {letter}")
        found += named(held, len(energy), by)
        if rows and letter in at and len(at[letter]) == len(energy):
            found += windows(energy, segments, letter) + places(held, at[letter], patch, letter)
    return found


def moved(candidate: np.ndarray, golden: np.ndarray, letters: Sequence[str],
          limit: float) -> list[Slice]:
    """Rows that hold what another row should: repeated, or in another order."""
    if not letters or letters[0] not in PLACED or candidate.dtype.kind not in "fV" or len(golden) < 2:
        return []
    mine, right = (x.reshape(len(golden), -1).astype(np.float64) for x in (candidate, golden))   # n x
    norms = np.maximum(np.linalg.norm(right, axis=1), 1e-300)
    limit = max(limit, SAME)
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(np.linalg.norm(mine - right, axis=1) > limit * norms)[:MOST]
    # the golden row that points most nearly the same way, and whether it is the very row
    whose, count = np.full(len(bad), -1), 0
    for n, row in enumerate(bad):
        if np.isfinite(mine[row]).all():
            nearest = int(np.argmax(right @ mine[row] / norms))
            if nearest != row and np.linalg.norm(mine[row] - right[nearest]) <= limit * norms[nearest]:
                whose[n], count = nearest, count + 1
    if not count:
        return []
    first, held = int(bad[whose >= 0][0]), whose[whose >= 0]
    # a row comes twice when its own place is right, or when another place holds it as well
    places = np.bincount(held, minlength=len(golden)) + ~np.isin(np.arange(len(golden)), bad)
    again = int((places[held] > 1).sum())
    said = f"{count} rows hold another row's values, as row {first} holds those of row {held[0]}"
    said += f"; {again} of them repeat one" if again else "; none comes twice"
    return [Slice(MOVED, count, len(golden), said)]


def holders(energy: np.ndarray) -> np.ndarray:
    """The fewest places that hold HOLD of all the energy, in their order."""
    total = energy.sum()
    if not total > 0:
        return np.zeros(0, np.int64)
    order = np.argsort(-energy, kind="stable")                                  # largest first
    count = int(np.searchsorted(np.cumsum(energy[order]), HOLD * total)) + 1
    return np.sort(order[:count])


def named(held: np.ndarray, of: int, by: str) -> list[Slice]:
    """One slice when the places are few."""
    return [Slice(by, len(held), of, ranges(held))] if 0 < len(held) <= FEW * of else []


def windows(energy: np.ndarray, segments: np.ndarray | None, letter: str) -> list[Slice]:
    """Windows (or frames) instead of rows, for rows in window order."""
    if segments is None or letter not in "wc":
        return []
    cells = 4 if letter == "c" else 1                               # segments count patches, four a cell
    sums = np.array([energy[a // cells:b // cells].sum() for a, b, *_ in segments.tolist()])  # w -> g
    return named(holders(sums), len(sums), "windows")


def places(held: np.ndarray, table: np.ndarray, patch: int, letter: str) -> list[Slice]:
    """What the rows are: the region of each picture, and text, where rows are tokens."""
    cells = table[held].reshape(len(held), -1, 4)                             # n 4 or n 4 4 -> n cells 4
    text = (cells[:, 0, 0] < 0).sum()                                       # a row of text has medium -1
    every = table.reshape(len(table), -1, 4)
    found = []
    if letter == "s" and text < len(held):
        of = int((every[:, 0, 0] < 0).sum())
        found.append(Slice("text", int(text), of, f"{text} of these {len(held)} rows are text"))
    for medium in np.unique(cells[cells[:, 0, 0] >= 0][:, 0, 0]).tolist():
        own = cells[cells[:, 0, 0] == medium].reshape(-1, 4)  # cells of this picture: medium, time, y, x
        t0, y0, x0 = (int(n) for n in own[:, 1:].min(axis=0))
        t1, y1, x1 = (int(n) for n in own[:, 1:].max(axis=0) + 1)
        inside = every[(every[:, 0, 0] == medium)].reshape(-1, 4)
        if len(own) <= FEW * len(inside):
            time = f"frame pairs {t0}..{t1 - 1}, " if inside[:, 1].max() else ""
            found.append(Slice(f"picture {medium}", len(own), len(inside), (
                f"{time}patch rows {y0}..{y1 - 1}, columns {x0}..{x1 - 1} (pixels x "
                f"{x0 * patch}..{x1 * patch}, y {y0 * patch}..{y1 * patch})")))
    return found


def ranges(numbers: np.ndarray, most: int = 6) -> str:
    """`0..3, 7, 9..12`: at most so many runs, then how many numbers more."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    said = [f"{r[0]}..{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs[:most] if len(r)]
    rest = sum(map(len, runs[most:]))
    return ", ".join(said) + (f" and {rest} more" if rest else "")

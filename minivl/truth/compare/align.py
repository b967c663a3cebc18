"""A candidate's array in the golden array's layout and row order, and what had to be done for that, in
words.

Two questions that are kept apart:

    fit        the layout: batch axes, transposed axes, heads side by side, queries, keys and values
               packed, rows padded to a bucket. What fits in more than one way is laid as it is nearest.
    order      of the rows, for arrays whose rows are patches or cells: by window, in 2x2 blocks, in
               reading order. It is chosen once for all taps that have such rows, by majority: one tap in
               another order is a bug, not a style.

Only arrays of others come here. In a trace whose labels are minivl's, a label says the order, and
another is wrong. Read next: `compare.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from .metrics import relative, row_distances, row_norms

CLEARLY = 0.5           # another layout or order must come this much closer than what was given as it is
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Fitted:
    """A candidate's array in the golden shape; notes say what was done, `padding` how many rows were
    left out."""
    array: np.ndarray
    notes: tuple[str, ...] = ()
    padding: int = 0


def fit(candidate: np.ndarray, golden: np.ndarray, axis: int) -> Fitted | None:
    """The candidate's array in the shape of the golden one, whose rows are counted by `axis`; None
    when none fits."""
    target = np.moveaxis(golden, axis, 0)                                       # n first
    possible = list(ways(np.asarray(candidate), target.shape))
    if not possible:
        return None
    # 1. the plainest way, unless another one comes clearly closer
    best = possible[0]
    if len(possible) > 1:
        errors = [distance(way.array, target) for way in possible]
        nearest = int(np.argmin(errors))
        best = possible[nearest] if errors[nearest] < CLEARLY * errors[0] else best
    return replace(best, array=np.moveaxis(best.array, 0, axis))                # and back to its axis


def distance(array: np.ndarray, target: np.ndarray) -> float:
    """The relative error of two arrays with rows first; infinite where it is no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = relative(row_distances(array, target, 0), row_norms(target, 0))
    return found if np.isfinite(found) else float("inf")


def ways(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[Fitted]:
    """Every way in which an array can be taken for one of `shape`, rows first; the plainest first."""
    if array.shape == shape:
        yield Fitted(array)
    small = np.squeeze(array)                                                   # 1 s d -> s d: the batch
    note = ("batch axis dropped",) if small.ndim < array.ndim else ()
    width = int(np.prod(shape[1:]))                    # numbers of a row, however they are cut into axes
    # every order of axes: a port keeps heads before rows (a s e), or rows last (d s)
    for order in permutations(range(small.ndim)) if small.ndim else ():
        turned = small.transpose(order)
        if turned.shape == array.shape == shape and not note and order == tuple(range(small.ndim)):
            continue                                             # the one that was given first
        said = (*note, f"axes turned {list(order)}") if list(order) != sorted(order) else note
        if turned.size and turned.size // len(turned) == width and len(turned) >= shape[0]:
            # n x -> n a e
            yield from _rows(turned.reshape(len(turned), *shape[1:]), shape[0], turned.shape, shape,
                             said)
    if small.ndim == 0 and width == 1 and shape[0] == 1:
        yield Fitted(small.reshape(shape), note)                          # a number alone is a row alone


def _rows(array: np.ndarray, rows: int, was: tuple[int, ...], shape: tuple[int, ...],
          notes: tuple[str, ...]) -> Iterator[Fitted]:
    """The array itself, or without the rows that fill up its bucket, which may stand behind or before
    the real ones."""
    if was[1:] != shape[1:]:
        notes = (*notes, "heads side by side" if len(was) < len(shape)
                 else f"{list(was)} taken as {list(shape)}")
    spare = len(array) - rows                                    # engines pad to a bucket, left or right
    if not spare:
        yield Fitted(array, notes)
        return
    yield Fitted(array[:rows], (*notes, f"{spare} rows of padding behind left out"), spare)
    yield Fitted(array[spare:], (*notes, f"{spare} rows of padding before left out"), spare)


def unpack(candidate: np.ndarray, golden: Sequence[np.ndarray]) -> list[Fitted | None]:
    """Queries, keys and values out of one array: side by side, head by head, or three in a row; all
    rows first."""
    widths = [int(np.prod(g.shape[1:])) for g in golden]                        # a e, k e, k e
    # n (a e + 2 k e)
    fitted = fit(candidate, np.concatenate([g.reshape(len(g), -1) for g in golden], axis=1), 0)
    if fitted is None:
        return [None] * len(golden)
    # the packing whose parts come closest, all three together
    flat, best = fitted.array, (float("inf"), [np.zeros(0)], "")
    for parts, word in _packings(flat, widths, golden):
        found = sum(distance(p, g) for p, g in zip(parts, golden, strict=True))
        if found < CLEARLY * best[0]:
            best = (found, parts, word)
    return [Fitted(part, (*fitted.notes, best[2]), fitted.padding) for part in best[1]]


def _packings(flat: np.ndarray, widths: Sequence[int], golden: Sequence[np.ndarray]
              ) -> Iterator[tuple[list[np.ndarray], str]]:
    """n x -> three of n a e, by every packing that is in use."""
    def shaped(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [p.reshape(g.shape) for p, g in zip(parts, golden, strict=True)]
    yield shaped(np.split(flat, np.cumsum(widths)[:-1],
                          axis=1)), "packed: queries, then keys, then values"
    heads = golden[-1].shape[1]                                      # groups: as many as key-value heads
    groups = flat.reshape(len(flat), heads, -1)                                    # n k (group + 2) e
    parts = np.split(groups, np.cumsum([w // heads for w in widths])[:-1], axis=2)
    yield shaped(parts), "packed head by head"


# ---- the order of rows -------------------------------------------------------------------------

def orders(letter: str, at: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name of a row order -> index that puts rows in that order into the golden one. Only for patches
    and cells."""
    if letter not in "pwc" or not len(at.get(letter, ())):
        return {}
    own = at[letter].reshape(len(at[letter]), -1)             # p 4, or c 4 4 -> c 16: medium, time, y, x
    others = {"in reading order": own[np.lexsort(own.T[::-1])],
              **({"in prompt order": at["m"].reshape(len(own), -1)} if letter == "c" else
                 {"in 2x2 blocks, as cut": at["p"], "by window": at["w"]})}
    return {word: index for word, table in others.items()
            if not np.array_equal(index := _index(table, own), np.arange(len(own)))}


def _index(table: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where in `table` each row of `wanted` stands; both hold the same rows in some order."""
    # both sorted the same way: the n-th smallest of one is the n-th smallest of the other
    index = np.empty(len(wanted), np.int64)
    index[np.lexsort(wanted.T[::-1])] = np.lexsort(table.T[::-1])
    return index


def vote(array: np.ndarray, golden: np.ndarray, found: Mapping[str, np.ndarray]) -> str:
    """The order in which this array's rows come closest to the golden ones, rows first."""
    errors = {word: distance(array[index], golden) for word, index in found.items()}
    nearest = min(errors, key=lambda word: errors[word], default="")
    return nearest if nearest and errors[nearest] < CLEARLY * distance(array, golden) else AS_IT_IS


def elected(votes: Mapping[str, list[str]]) -> dict[str, str]:
    """Axis letter -> the order that most taps with such rows are in; of equals the plain one."""
    return {letter: max(Counter(words).items(), key=lambda item: (item[1], item[0] == AS_IT_IS))[0]
            for letter, words in votes.items()}

"""A candidate's array in the golden array's layout and row order, and what had to be done for that, in
words.

Two questions that are kept apart:

    fit        the layout: batch axes, transposed axes, heads side by side, pictures with channels first,
               queries, keys and values packed, rows padded to a bucket or window by window, the last row
               alone. What fits in more than one way is laid as it is nearest.
    order      of the rows, for arrays whose rows are patches or cells: by window, in 2x2 blocks, in
               reading order. It is chosen once for all taps that have such rows, by majority, and so is
               a packing: one tap in another order is a bug, not a style.

Which rows are padding an array says itself; one that does not, because a fault has moved all of it, is
read as most of its kind are.

Only arrays of others come here. In a trace whose labels are minivl's, a label says the order, and
another is wrong. Read next: `taps.py`, which asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TypeVar

import numpy as np

from .metrics import relative, row_distances, row_norms

CLEARLY = 0.5           # another layout or order must come this much closer than what was given as it is
NOWHERE = 0.9           # an array that is further off than this in every order says nothing of orders
AS_IT_IS = "as it is"
MOST_PROMPTS = 64       # of one array
MOST_AXES = 5           # arrays of more axes are taken as they lie
Orders = Mapping[str, np.ndarray]
What = TypeVar("What", str, frozenset[str])


@dataclass(frozen=True)
class Fitted:
    """A candidate's array in the golden shape; notes say what was done, `padding` how many rows were
    left out, `rows` which golden rows it has: None for all; `counted`: by how many axes rows came;
    `taken`: which of its rows were taken."""
    array: np.ndarray
    notes: tuple[str, ...] = ()
    padding: int = 0
    rows: np.ndarray | None = None
    counted: int = 1
    taken: str = AS_IT_IS


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a golden array.

    orders: other orders in which they are kept (`orders`); windows: tables of lengths, any of which may
    be padded piece by piece; last: whether an array may hold the last row alone; agreed: all that may
    have been taken of an array's rows -> what most arrays of which this is so say
    """
    orders: Orders
    windows: tuple[tuple[int, ...], ...] = ()
    last: bool = False
    agreed: Mapping[frozenset[str], str] = field(default_factory=dict)


NOTHING = Rows({})


def fit(candidate: np.ndarray, golden: np.ndarray, axis: int, known: Rows = NOTHING) -> Fitted | None:
    """The candidate's array in the shape of the golden one, whose rows are counted by `axis`; None
    when none fits. Rows stay in the order in which they come."""
    target = np.moveaxis(golden, axis, 0)                                       # n first
    possible = list(ways(np.asarray(candidate), target.shape, known))
    if not possible:
        return None
    best = nearest(possible, target, known)
    return replace(best, array=np.moveaxis(best.array, 0, axis))                # and back to its axis


def nearest(possible: Sequence[Fitted], target: np.ndarray, known: Rows) -> Fitted:
    """The plainest way, unless another one comes clearly closer; of those that take the rows that this
    array says itself, or else those that most arrays of its kind say."""
    if len(possible) == 1:
        return possible[0]
    errors = [in_any_order(way, target, known.orders) for way in possible]
    word = spoken_for(possible, errors) or known.agreed.get(frozenset(way.taken for way in possible))
    chosen = [n for n, way in enumerate(possible) if not word or way.taken == word]
    least = min(chosen, key=lambda n: errors[n])
    return possible[least if errors[least] < CLEARLY * errors[chosen[0]] else chosen[0]]


def spoken_for(possible: Sequence[Fitted], errors: Sequence[float]) -> str:
    """Which of its rows an array says to take: those that bring it clearly closest; "" where none do."""
    least: dict[str, float] = {}
    for way, error in zip(possible, errors, strict=True):
        least[way.taken] = min(error, least.get(way.taken, error))
    first, *rest = sorted(least, key=lambda word: least[word])
    return first if rest and least[first] < min(NOWHERE, CLEARLY * least[rest[0]]) else ""


def vote_on_rows(candidate: np.ndarray, golden: np.ndarray, axis: int, known: Rows
                 ) -> tuple[frozenset[str], str] | None:
    """All that may have been taken of an array's rows, and what it says itself; None where there is
    nothing to choose from."""
    target = np.moveaxis(golden, axis, 0)                                       # n first
    possible = list(ways(np.asarray(candidate), target.shape, known))
    words = frozenset(way.taken for way in possible)
    if len(words) < 2:
        return None
    return words, spoken_for(possible, [in_any_order(way, target, known.orders) for way in possible])


def in_any_order(way: Fitted, target: np.ndarray, known: Orders) -> float:
    """The error of an array with rows first, in the order in which it is least."""
    if way.rows is not None:
        return distance(way.array, target[way.rows])
    return min([distance(way.array, target), *(distance(way.array[i], target) for i in known.values())])


def distance(array: np.ndarray, target: np.ndarray) -> float:
    """The relative error of two arrays with rows first; infinite where it is no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = relative(row_distances(array, target, 0), row_norms(target, 0))
    return found if np.isfinite(found) else float("inf")


def ways(array: np.ndarray, shape: tuple[int, ...], known: Rows = NOTHING) -> Iterator[Fitted]:
    """Every way in which an array can be taken for one of `shape`, rows first; the plainest first."""
    whole = False
    for way in _turned(array, shape, known):
        # one that leaves rows out may be chance: 2 prompts of 96 rows are as many numbers as 192 rows
        whole = whole or (way.padding == 0 and way.rows is None)
        yield way
    small = np.squeeze(array)
    if whole or small.ndim < (2 if known.last else 3):
        return
    # several prompts in one array: b s d -> s d, or s b d -> s d; of each the last row: b v -> v
    for axis in range(min(2, small.ndim - 1)):
        each = np.moveaxis(small, axis, 0) if small.shape[axis] <= MOST_PROMPTS else ()
        for n, one in enumerate(each):
            for way in _turned(one, shape, known):
                said = f"element {n} of a batch of {len(each)}" + " behind the rows" * axis
                yield replace(way, notes=(said, *way.notes), taken=f"{said}, {way.taken}")


def _turned(array: np.ndarray, shape: tuple[int, ...], known: Rows) -> Iterator[Fitted]:
    """The ways of one prompt's array: every order of axes, and every number of them that counts rows."""
    if array.shape == shape:
        yield Fitted(array)
    small = np.squeeze(array)                                                   # 1 s d -> s d: the batch
    note = ("batch axis dropped",) if small.ndim < array.ndim else ()
    width = int(np.prod(shape[1:]))                    # numbers of a row, however they are cut into axes
    axes = range(small.ndim)
    # every order of axes: a port keeps heads before rows (a s e), or rows last (d s)
    for order in permutations(axes) if 0 < small.ndim <= MOST_AXES else (tuple(axes),):
        turned = small.transpose(order)
        plain = list(order) == sorted(order)
        if turned.shape == array.shape == shape and not note and plain:
            continue                                             # the one that was given first
        said = note if plain else (*note, f"axes turned {list(order)}")
        # of a single row its axis may have been dropped as a batch: a e
        for count in range(0 if shape[0] == 1 else 1, turned.ndim + 1):
            # how many axes count rows: gh gw d -> p d
            if turned.size and int(np.prod(turned.shape[count:])) == width:
                yield from _rows(turned, count, shape, said, known)
    if small.ndim == 1 and len(shape) > 1 and shape[0] > 1 and small.size == shape[0] * width:
        yield Fitted(small.reshape(shape), (*note, f"numbers in a line taken as {list(shape)}"))
    if small.size == width and shape[0] > 1 and known.last and small.ndim <= 1:
        yield _last(small.reshape(1, *shape[1:]), shape[0], note)  # a row alone: its row axis
        #                                                                       was dropped as a batch


def _rows(turned: np.ndarray, count: int, shape: tuple[int, ...], notes: tuple[str, ...],
          known: Rows) -> Iterator[Fitted]:
    """The array itself; or without the rows that fill up its bucket or its windows; or its last row."""
    table = turned.reshape(-1, *shape[1:])                                      # n x -> n a e
    if count == 1 and turned.shape[1:] != shape[1:]:
        notes = (*notes, "heads side by side" if turned.ndim < len(shape)
                 else f"{list(turned.shape)} taken as {list(shape)}")
    if count > 1:
        notes = (*notes, f"rows counted by {count} axes, {' x '.join(map(str, turned.shape[:count]))}")
    spare = len(table) - shape[0]
    if not spare:
        yield Fitted(table, notes, counted=count)
    elif spare > 0 and count == 1:                               # engines pad to a bucket, left or right
        for part, side in ((table[:shape[0]], "behind"), (table[spare:], "before")):
            said = f"{spare} rows of padding {side} left out"
            yield Fitted(part, (*notes, said), spare, taken=said)
    elif len(table) == 1 and known.last:
        yield _last(table, shape[0], notes)
    for lengths in known.windows:
        if count <= 2 and sum(lengths) == shape[0] < len(table) and len(table) % len(lengths) == 0:
            yield from _windows(table, lengths, turned.shape[:count], notes)


def _windows(table: np.ndarray, lengths: tuple[int, ...], counted: tuple[int, ...],
             notes: tuple[str, ...]) -> Iterator[Fitted]:
    """Windows that are each filled up to one length: (g l) d -> w d."""
    each = len(table) // len(lengths)
    if each < max(lengths) or (len(counted) == 2 and counted != (len(lengths), each)):
        return
    index = np.concatenate([n * each + np.arange(length) for n, length in enumerate(lengths)])
    said = f"each of {len(lengths)} windows padded to {each} rows"
    yield Fitted(table[index], (*notes, said), len(table) - len(index), taken=said)


def _last(row: np.ndarray, rows: int, notes: tuple[str, ...]) -> Fitted:
    """A row alone, which is the last of all."""
    if rows == 1:
        return Fitted(row, notes)
    said = f"the last of {rows} rows alone"
    return Fitted(row, (*notes, said), 0, np.array([rows - 1]), taken=said)


# ---- queries, keys and values in one array -----------------------------------------------------

PLAIN = (0, 1, 2)
PARTS = ("queries", "keys", "values")


def unpack(candidate: np.ndarray, golden: Sequence[np.ndarray], known: Rows = NOTHING,
           packing: str = "") -> list[Fitted | None]:
    """Queries, keys and values out of one array: side by side, head by head, or three in a row, in any
    order; all rows first. `packing` is the one that is taken, without it the nearest."""
    widths = [int(np.prod(g.shape[1:])) for g in golden]                        # a e, k e, k e
    rows = len(golden[0])
    # every layout, in every packing: the plainest unless another comes clearly closer
    best: tuple[float, list[np.ndarray], tuple[str, ...], Fitted] | None = None
    for way in ways(candidate, (rows, sum(widths)), known):
        for parts, word in _packings(way.array, widths, golden):
            if packing in ("", word):
                found = sum(in_any_order(replace(way, array=part), g, known.orders)
                            for part, g in zip(parts, golden, strict=True))
                if best is None or found < CLEARLY * best[0]:
                    best = (found, parts, (*way.notes, word), way)
    if best is None:
        return [None] * len(golden)
    _, parts, notes, way = best
    return [Fitted(part, notes, way.padding, way.rows, taken=way.taken) for part in parts]


def _packings(flat: np.ndarray, widths: Sequence[int], golden: Sequence[np.ndarray]
              ) -> Iterator[tuple[list[np.ndarray], str]]:
    """n x -> three of n a e, by every packing that is in use; the plain ones first."""
    heads = golden[-1].shape[1]                                      # groups: as many as key-value heads
    groups = flat.reshape(len(flat), heads, -1)                                    # n k (group + 2) e
    for order in permutations(PLAIN):
        said = ", then ".join(PARTS[n] for n in order)
        yield _parts(flat, order, widths, golden), f"packed: {said}"
    for order in permutations(PLAIN):
        said = "" if order == PLAIN else f": {', then '.join(PARTS[n] for n in order)}"
        yield (_parts(groups, order, [w // heads for w in widths], golden), f"packed head by head{said}")


def _parts(array: np.ndarray, order: Sequence[int], widths: Sequence[int],
           golden: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The last axis cut into three that lie in `order`, and each in its golden shape, rows apart."""
    cut = np.split(array, np.cumsum([widths[n] for n in order])[:-1], axis=-1)
    found = dict(zip(order, cut, strict=True))
    return [found[n].reshape(-1, *golden[n].shape[1:]) for n in PLAIN]


def packing_of(found: Fitted) -> str:
    """By which packing an array was taken apart; "" for one that came alone."""
    return next((note for note in found.notes if note.startswith("packed")), "")


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
    return {word: index for word, table in others.items() if len(table) == len(own)
            and not np.array_equal(index := _index(table, own), np.arange(len(own)))}


def _index(table: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where in `table` each row of `wanted` stands; both hold the same rows in some order."""
    # both sorted the same way: the n-th smallest of one is the n-th smallest of the other
    index = np.empty(len(wanted), np.int64)
    index[np.lexsort(wanted.T[::-1])] = np.lexsort(table.T[::-1])
    return index


def vote(array: np.ndarray, golden: np.ndarray, found: Mapping[str, np.ndarray]) -> str:
    """The order in which this array's rows come closest to the golden ones, rows first; "" where they
    come close in none."""
    errors = {word: distance(array[index], golden) for word, index in found.items()}
    least = min(errors, key=lambda word: errors[word], default="")
    plain = distance(array, golden)
    if min(plain, errors.get(least, plain)) > NOWHERE:
        return ""
    return least if least and errors[least] < CLEARLY * plain else AS_IT_IS


def elected(votes: Mapping[What, list[str]]) -> dict[What, str]:
    """What is voted on -> the word that most taps gave; of equals the plain one. Empty votes do not
    count."""
    counted = {what: Counter(word for word in words if word) for what, words in votes.items()}
    return {what: max(words.items(), key=lambda item: (item[1], item[0] == AS_IT_IS))[0]
            for what, words in counted.items() if words}

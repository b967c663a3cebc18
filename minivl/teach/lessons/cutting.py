"""The exercises about a model on several machines: lesson 19."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .filing import Trial, array, number, trials

# ---- whose rows


def whole_numbers(value: Any, wanted: Any) -> np.ndarray:
    """Row numbers as one array. AssertionError for other things."""
    found = np.asarray(value)
    assert found.ndim == 1, ("one row of numbers should come out, yours has the shape "
                             f"{list(found.shape)}")
    assert found.size == 0 or found.dtype.kind in "iu", ("row numbers are whole numbers, yours are "
                                                         f"{found.dtype}")
    assert found.shape == np.shape(wanted), (f"this rank has {len(wanted)} rows: a share of q, one of k "
                                             f"and one of v; yours are {found.size}")
    return array(found, np.asarray(wanted))


def by_hand(heads: int, key_heads: int, width: int, rank: int, ranks: int) -> list[int]:
    """The rows of a rank, head by head."""
    owners = [head * ranks // heads for head in range(heads)]
    owners += [head * ranks // key_heads for head in range(key_heads)] * 2
    return [head * width + i for head, owner in enumerate(owners) if owner == rank for i in range(width)]


def differing(got: np.ndarray, wanted: np.ndarray) -> str:
    """The remark about row numbers that are wrong."""
    at = int(np.flatnonzero(got != wanted)[0])
    return f"number {at} of the list should be row {wanted[at]:.0f}, yours is {got[at]:.0f}"


def shares_of_rows(heads: int, key_heads: int, width: int, rank: int, ranks: int) -> Trial:
    """A row of trials, with the usual mistakes."""
    rows = (heads + 2 * key_heads) * width
    wanted = by_hand(heads, key_heads, width, rank, ranks)
    mistakes = {
        "the joined matrix is cut as one: the last rank gets all values; cut q, k and v each by itself":
            list(range(rows * rank // ranks, rows * (rank + 1) // ranks)),
        "yours has every so many-th head; a rank has neighbours, or its query heads miss their key head":
            [head * width + i for head in range(heads + 2 * key_heads) if head % ranks == rank
             for i in range(width)],
        "k begins behind all rows of q, and v behind all rows of k": [
            row - (heads - heads // ranks) * width * (n >= heads // ranks * width)
            for n, row in enumerate(wanted)]}
    told = {remark: np.array(mistake) for remark, mistake in mistakes.items()
            if len(mistake) == len(wanted) and mistake != wanted}
    return Trial((heads, key_heads, width, rank, ranks), np.array(wanted), differing, told, near=(0, 0))


@trials("19.1", "row numbers", whole_numbers)
def rows_of_rank() -> Iterator[Trial]:
    yield shares_of_rows(8, 4, 2, 1, 2)
    yield shares_of_rows(8, 4, 3, 3, 4)
    yield shares_of_rows(4, 4, 5, 0, 1)
    yield shares_of_rows(6, 2, 1, 0, 2)


# ---- what a layer sends

def sendings(tokens: int, width: int, ranks: int, size: int) -> Trial:
    """A row of trials, with the usual mistakes."""
    whole = tokens * width * size
    wanted = 0.0
    for _ in range(2):                                     # sums in a layer
        pieces = [whole / ranks] * ranks
        wanted += sum(pieces[1:])                          # what the others add
        wanted += (ranks - 1) * pieces[0]                  # what this one has added
    mistakes = {
        "a layer has two sums, and in each of them pieces go two ways: to who adds them, and back":
            wanted / 2,
        "that is what all ranks send together; asked is one of them": wanted * ranks,
        "that is every array to everybody; in pieces it is less": 2.0 * (ranks - 1) * whole,
        "a rank sends nothing to itself: ranks - 1 pieces": 4.0 * whole,
        "a number takes `size` bytes": wanted / size}
    told = {remark: value for remark, value in mistakes.items() if not np.isclose(value, wanted)}
    return Trial((tokens, width, ranks, size), wanted, "should be {wanted}, yours is {got}", told)


@trials("19.2", "one number, in bytes", number)
def sent_by_rank() -> Iterator[Trial]:
    yield sendings(10, 192, 4, 4)
    yield sendings(7, 8192, 8, 2)
    yield Trial((5, 64, 1, 4), 0.0, "one rank has nobody to send to, yours sends {got}", near=(0, 1e-9))


# ---- how long it takes

def two_numbers(value: Any, wanted: Any) -> np.ndarray:
    """Steps and bubble as one array."""
    two = isinstance(value, tuple | list) and len(value) == 2
    assert two, "two numbers should come out: steps, bubble"
    return array(value, np.asarray(wanted, float))


@trials("19.3", "steps and bubble", two_numbers)
def steps_of() -> Iterator[Trial]:
    yield Trial((4, 4), [7, 3 / 7], "should be {wanted}, yours is {got}", {
        "the last stage begins when the batch has passed all stages before it: stages - 1 steps later":
            [8, 0.5],
        "that is the share of the busy places; asked is that of the idle ones": [7, 4 / 7],
        "batches follow each other: a stage takes the next one while the others still work": [16, 0.75]})
    yield Trial((3, 1), [3, 2 / 3], "should be {wanted}, yours is {got}")
    yield Trial((1, 5), [5, 0.0], "one stage is never idle: should be {wanted}, yours is {got}")
    yield Trial((16, 64), [79, 15 / 79], "should be {wanted}, yours is {got}")

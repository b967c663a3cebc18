"""The exercises of lesson 12: boxes, points and clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .filing import Trial, array, trials


def counted(a: list[int], b: list[int]) -> float:
    """IoU of two boxes of whole numbers, by counting squares."""
    one, other = ({(x, y) for x in range(x0, x1) for y in range(y0, y1)} for x0, y0, x1, y1 in (a, b))
    return len(one & other) / len(one | other) if one | other else 0.0


def finite(value: Any, wanted: Any) -> np.ndarray:
    table = array(value, wanted)
    assert np.isfinite(table).all(), "a box without area gives NaN: 0 / 0; IoU with nothing is 0"
    return table


def first_wrong_pair(a: list, b: list, got: np.ndarray, wanted: np.ndarray) -> str:
    n, m = np.argwhere(~np.isclose(got, wanted))[0]
    return f"{a[n]} and {b[m]} have IoU {wanted[n, m]:.4f}, yours says {got[n, m]:.4f}"


@trials("12.1", "an array (n, m)", finite)
def iou() -> Iterator[Trial]:
    box = [0, 0, 4, 2]
    yield Trial((np.array([box]), np.array([box])), [[1]], "a box with itself has IoU 1, yours says {got}", {
        "yours divides by both areas; what is shared is in both, and counts once": [[1 / 2]],
        "that is the shared area; divide it by the area that at least one covers": [[8]]})
    yield Trial((np.array([box]), np.array([[2, 1, 6, 4]])), [[2 / 18]],      # shared 2 x 1 = 2, areas 8 and 12
                "two boxes that share 2 of 18 should give {wanted}, yours is {got}", {
        "yours divides by one box's area; divide by what either of them covers": [[2 / 8]],
        "yours divides by one box's area, the second's; divide by what either of them covers": [[2 / 12]],
        "yours adds 1 to each side: borders are distances, 0 to 4 is 4 wide": [[6 / 29]]})
    yield Trial((np.array([box]), np.array([[6, 6, 8, 8]])), [[0]],
                "boxes that are apart both ways have IoU 0, yours says {got}: two negative sides make an area; cut each "
                "at 0 before multiplying")
    for a, b in (([box, [10, 10, 12, 14]], [[2, 1, 6, 4], box, [6, 6, 8, 8]]), many()):
        wanted = np.array([[counted(one, other) for other in b] for one in a])
        yield Trial((np.array(a), np.array(b)), wanted, partial(first_wrong_pair, a, b))


def many() -> tuple[list, list]:
    """Five boxes and six; some are empty."""
    corners = np.random.default_rng(12).integers(0, 9, (2, 5, 2, 2))
    a, b = np.sort(corners, axis=2).reshape(2, 5, 4).tolist()                  # x0 <= x1, y0 <= y1
    return a, [*b, [3, 3, 3, 7]]


def whatever_comes(mine: Callable, answer: str) -> Any:
    try:
        return mine(answer)
    except Exception as error:
        raise AssertionError(f"{answer!r} raises {type(error).__name__}: {error}; give what is complete, whatever comes"
                             ) from error


def labels_and_numbers(value: Any, wanted: Any) -> list[tuple[str, list]]:
    assert isinstance(value, list), f"a list should come out, not {type(value).__name__}"
    odd = [found for found in value if not (isinstance(found, tuple | list) and len(found) == 2)]
    assert not odd, f"each entry is (label, numbers), one of yours is {odd[0]!r}"
    kinds = {type(n).__name__ for _, numbers in value for n in numbers} - {"int"}
    assert not kinds, f"numbers should be int, yours are {', '.join(kinds)}"
    return [(label, list(numbers)) for label, numbers in value]


def what_is_complete(what: str, got: list, wanted: list) -> str:
    many = f"{what}: {len(wanted)} complete, you give {len(got)}"
    if len(got) > len(wanted):
        return f"{many}: {got[-1]}. What is not closed may go on: the next digit makes another number of it"
    return many if len(got) < len(wanted) else f"{what}: should be {wanted}, yours is {got}"


@trials("12.2", "a list of (label, four numbers)", labels_and_numbers, whatever_comes)
def read_boxes() -> Iterator[Trial]:
    one, two = '{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}', '{"bbox_2d": [7, 9, 110, 40], "label": "bar"}'
    first, second = ("red circle", [12, 30, 60, 88]), ("bar", [7, 9, 110, 40])
    whole = f"[{one}, {two}]"
    for answer, wanted, what in [
            (f"[{one}]", [first], "one whole box"), (whole, [first, second], "two whole boxes"),
            ("There is no red circle.", [], "an answer without a box"), ("", [], "an empty answer"),
            (f"Here it is:\n```json\n[{one}]\n```", [first], "a box behind prose, in a fence"),
            (whole[:-1], [first, second], "an answer whose last bracket is missing"),
            (whole.replace(", ", ","), [first, second], "an answer without spaces"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 11', [first], "an answer cut within a number"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40', [first], "an answer cut before the bracket of a box"),
            (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40], "label": "ba', [first], "an answer cut within a label"),
            ('[{"bbox_2d": [7, 9, 110], "label": "bar"}]', [], "a box of three numbers")]:
        yield Trial((answer,), wanted, partial(what_is_complete, what))

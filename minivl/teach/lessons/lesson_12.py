"""The checks of lesson 12: boxes, points and clicks."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


def _counted(a: list[int], b: list[int]) -> float:
    """IoU of two boxes of whole numbers, by counting squares."""
    one, other = ({(x, y) for x in range(x0, x1) for y in range(y0, y1)} for x0, y0, x1, y1 in (a, b))
    return len(one & other) / len(one | other) if one | other else 0.0


@exercise("12.1", "an array (n, m)")
def iou(mine):
    a, b = [[0, 0, 4, 2], [10, 10, 12, 14]], [[2, 1, 6, 4], [0, 0, 4, 2], [6, 6, 8, 8]]
    got = array(mine(np.array(a), np.array(b)), (2, 3), "2 boxes against 3")
    wanted = np.array([[_counted(one, other) for other in b] for one in a])
    one = float(got[0, 0])                                     # shared 2 x 1 = 2, areas 8 and 12
    assert not np.isclose(one, 2 / 20), "yours divides by both areas; what is shared is in both, and counts once"
    assert not np.isclose(one, [2 / 8, 2 / 12]).any(), (
        "yours divides by one box's area; divide by what either of them covers")
    assert not np.isclose(one, 6 / 29), "yours adds 1 to each side: borders are distances, 0 to 4 is 4 wide"
    assert not np.isclose(one, 2), "that is the shared area; divide it by the area that at least one covers"
    assert got[0, 2] >= 0 and np.isclose(got[0, 2], 0), (
        f"boxes that are apart both ways have IoU 0, yours says {got[0, 2]:.3g}: two negative sides make an area; cut "
        "each at 0 before multiplying")
    assert np.isclose(got[0, 1], 1), f"a box with itself has IoU 1, yours says {got[0, 1]:.4f}"
    assert np.allclose(got, wanted), f"should be {wanted.round(4).tolist()}, yours is {got.round(4).tolist()}"
    draw = np.random.default_rng(12)
    corners = draw.integers(0, 9, (2, 5, 2, 2))
    many = np.sort(corners, axis=2).reshape(2, 5, 4).tolist()                  # x0 <= x1, y0 <= y1; some are empty
    with np.errstate(all="ignore"):
        got = array(mine(np.array(many[0]), np.array(many[1] + [[3, 3, 3, 7]])), (5, 6), "5 boxes against 6")
    assert np.isfinite(got).all(), "a box without area gives NaN: 0 / 0; IoU with nothing is 0"
    wanted = np.array([[_counted(one, other) for other in many[1] + [[3, 3, 3, 7]]] for one in many[0]])
    bad = np.argwhere(~np.isclose(got, wanted))
    assert not len(bad), (
        f"{many[0][bad[0][0]]} and {(many[1] + [[3, 3, 3, 7]])[bad[0][1]]} have IoU {wanted[tuple(bad[0])]:.4f}, yours "
        f"says {got[tuple(bad[0])]:.4f}")


@exercise("12.2", "a list of (label, four numbers)")
def read_boxes(mine):
    one, two = '{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}', '{"bbox_2d": [7, 9, 110, 40], "label": "bar"}'
    first, second = ("red circle", [12, 30, 60, 88]), ("bar", [7, 9, 110, 40])
    whole = f"[{one}, {two}]"
    answers = [
        (f"[{one}]", [first], "one whole box"), (whole, [first, second], "two whole boxes"),
        ("There is no red circle.", [], "an answer without a box"), ("", [], "an empty answer"),
        (f"Here it is:\n```json\n[{one}]\n```", [first], "a box behind prose, in a fence"),
        (whole[:-1], [first, second], "an answer whose last bracket is missing"),
        (whole.replace(", ", ","), [first, second], "an answer without spaces"),
        (f"[{one}, " + '{"bbox_2d": [7, 9, 11', [first], "an answer cut within a number"),
        (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40', [first], "an answer cut before the bracket of a box"),
        (f"[{one}, " + '{"bbox_2d": [7, 9, 110, 40], "label": "ba', [first], "an answer cut within a label"),
        ('[{"bbox_2d": [7, 9, 110], "label": "bar"}]', [], "a box of three numbers")]
    for answer, wanted, what in answers:
        try:
            got = mine(answer)
        except Exception as error:
            raise AssertionError(f"{what} raises {type(error).__name__}: {error}; give what is complete, whatever "
                                 "comes") from error
        assert isinstance(got, list), f"{what}: a list should come out, not {type(got).__name__}"
        odd = [found for found in got if not (isinstance(found, tuple | list) and len(found) == 2)]
        assert not odd, f"{what}: each entry is (label, numbers), one of yours is {odd[0]!r}"
        got = [(label, list(numbers)) for label, numbers in got]
        kinds = {type(n).__name__ for _, numbers in got for n in numbers} - {"int"}
        assert not kinds, f"{what}: numbers should be int, yours are {', '.join(kinds)}"
        assert len(got) <= len(wanted), (
            f"{what}: {len(wanted)} complete, you give {len(got)}: {got[-1]}. What is not closed may go on: the next "
            "digit makes another number of it")
        assert len(got) == len(wanted), f"{what}: {len(wanted)} complete, you give {len(got)}: {answer!r}"
        assert got == wanted, f"{what}: should be {wanted}, yours is {got}"

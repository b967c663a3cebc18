"""No variant can be had for nothing: what takes no thought, and what is right for a neighbour, is wrong on every draw.

An exercise is right when all of its drawn inputs are. So it is not enough that an easy answer is wrong on some input:
in each deck that grading could draw, several inputs must tell it from the right one.
"""

from functools import cache

import numpy as np
import pytest

from minivl.door.contract import outputs
from minivl.teach.check.draws import deck
from minivl.teach.check.judge import judge
from minivl.teach.check.stages import EXERCISES
from minivl.teach.course.grade import CASES

VARIED = [exercise for exercise in EXERCISES if exercise.variants]
STUDENTS, DECKS, TELLING = range(120), range(5), 4


@cache
def variants(exercise_name):
    """Every variant of an exercise that is drawn for so many students, by its words."""
    exercise = next(one for one in VARIED if one.name == exercise_name)
    return {varied.asks: varied for n in STUDENTS for varied in [exercise.varied(f"student {n}")]}


def arrays_of(args):
    return [array for arg in args for array in outputs(arg) if isinstance(array, np.ndarray) and array.dtype != object]


def shaped(array, wanted):
    """An input in the form of the result, or None where its size is another."""
    same = array.size == wanted.size
    return array.reshape(wanted.shape).astype(wanted.dtype) if same else None


def down(grids):
    """Cells of each frame column by column, from the grids of a picture; frame after frame."""
    parts, start = [], 0
    for t, h, w in (np.asarray(grids) // [1, 2, 2]).tolist():
        for frame in range(t):
            parts.append(start + frame * h * w + np.arange(h * w).reshape(h, w).T.ravel())
        start += t * h * w
    return np.concatenate(parts)


def easy(args, wanted):
    """Name -> an answer that takes no thought, for one array of a result."""
    numbers = np.arange(wanted.size).reshape(wanted.shape).astype(wanted.dtype)
    found = {"zeros": np.zeros_like(wanted), "ones": np.ones_like(wanted), "reading order": numbers,
             "reading order backwards": wanted.size - 1 - numbers}
    for place, array in enumerate(arrays_of(args)):
        given = shaped(array, wanted)
        if given is not None:
            found |= {f"input {place}": given, f"input {place}, sorted": np.sort(given, axis=0),
                      f"input {place}, backwards": given[::-1], f"minus input {place}": -given}
    if wanted.ndim == 1 and np.ndim(args[0]) == 2 and np.shape(args[0])[1] == 3:
        columns = down(args[0])
        found |= {"column by column": columns} if columns.shape == wanted.shape else {}
    return found


@pytest.mark.parametrize("exercise", VARIED, ids=lambda exercise: exercise.name)
def test_an_answer_that_takes_no_thought_is_wrong(exercise):
    for asks, varied in variants(exercise.name).items():
        def answers(case, varied=varied):
            value = varied.definition(*case.args)
            each = [easy(case.args, np.asarray(one)) for one in outputs(value)]
            names = set.intersection(*map(set, each)) if each else set()
            return {name: tuple(one[name] for one in each) if isinstance(value, tuple) else each[0][name]
                    for name in names}
        for seed in DECKS:
            given = {}
            for case in deck(varied.draw, seed, CASES):
                for name, answer in answers(case).items():
                    right = judge(varied, lambda *args, answer=answer: answer, case).kind == "right"
                    given.setdefault(name, []).append(right)
            for name, right in given.items():
                assert CASES - sum(right) >= TELLING, f"{exercise.name}, {asks}: {name} has full marks with seed {seed}"


# Their inputs tell the size of a cell, so one general function serves two variants that differ in it alone.
GENERAL = {"patchify", "order_by_window"}


@pytest.mark.parametrize("exercise", VARIED, ids=lambda exercise: exercise.name)
def test_what_is_right_for_a_neighbour_is_wrong(exercise):
    every, different = variants(exercise.name), set()
    for asks, varied in every.items():
        decks = deck(varied.draw, 1, CASES)

        def wrong(rule, varied=varied, decks=decks):
            return sum(judge(varied, rule, case).kind != "right" for case in decks)
        assert wrong(exercise.door.definition) >= TELLING, f"{asks}: the model's own rule is right"
        same = frozenset(theirs for theirs, other in every.items() if wrong(other.rule) < TELLING)
        assert asks in same
        assert same == {asks} or exercise.name in GENERAL, same
        different.add(same)
    assert len(different) >= 3 or exercise.name == "narrow_choice"          # which is not graded

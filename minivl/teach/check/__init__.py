"""Grading of what a student writes: a stage of the model, or an exercise of a lesson.

    minivl.check()                                  # what can be checked, a line each
    minivl.check("merge_2x2")                       # one task: arguments, shapes, what they hold
    minivl.check("merge_2x2", my_merge)             # right, or what is wrong in words
    minivl.check("3.1", row_of_patch)               # an exercise; raises AssertionError when it is wrong

Inputs are drawn on awkward shapes, the function runs on them, and what it gives is compared with the
definition in float64. When they differ, the input is made as small as it gets, the difference is put
into words, and the usual mistakes are named. It needs NumPy; with Hypothesis it searches better.

It is no fence: whoever wants to cheat on themselves can call the definition. And a loop that never ends
is ended by its author (interrupt the kernel). Read next: `grade.py`, then `stages/`; `../lessons` for
the exercises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from ...door.errors import ArgumentError
from .arguments import array_words, described
from .draws import deck
from .exercise import Exercise
from .grade import grade
from .judge import ASK_A_WEIGHT, judge


class Page(str):
    """A text that shows itself as it is, in a shell and in a notebook."""

    def __repr__(self) -> str:
        return str(self)


def check(name: str | None = None, function: Callable | None = None, *, seed: int = 0,
          variant: object = None, seconds: float | None = None) -> Any:
    """Grade `function` as a stage: a Result, true when it is right, whose text says what is wrong.

    name: one of `minivl.check()`, a stage's label in the model, or the number of a lesson's exercise,
    which is "right" in print or raises AssertionError. Without a function: the task in words.
    seed: other inputs. variant: any word or number; the same word asks for the same rule, which differs
    from the model's (`minivl.check(name, variant=...)` says how). seconds: when to stop searching for a
    wrong input, 2 unless told. All three are for stages. Raises ArgumentError for a name there is none
    of, and for one of the three beside a lesson's number.
    """
    if name is None:
        return _listing()
    if function is not None and not callable(function):
        raise TypeError(f"the second argument is a {type(function).__name__}, should be the function to "
                        "check (without brackets after its name)")
    if re.fullmatch(r"\d+\.\d+", str(name)):
        if seed or variant is not None or seconds is not None:
            raise ArgumentError(f"seed, variant and seconds are for stages; exercise {name} has its own "
                                "inputs: leave them out")
        return _lesson(str(name), function)
    exercise = find(name)
    if variant is not None:
        exercise = exercise.varied(variant)
    if function is None:
        return _task(exercise)
    return grade(exercise, function, seed, 2.0 if seconds is None else seconds)


def _lesson(number: str, function: Callable | None) -> Any:
    """An exercise of a lesson: the task in words without a function, else whether it is right."""
    from ..lessons import EXERCISES, examine
    if number not in EXERCISES:
        raise ArgumentError(f"there is no exercise {number!r}; they are {', '.join(EXERCISES)}")
    if function is not None:
        return examine(number, function)
    asked = EXERCISES[number]
    return Page("\n".join([f"exercise {number}: {asked.name}, which gives {asked.gives}",
                           *(_example(asked.stage) if asked.stage else [])]))


def all_exercises() -> list[Exercise]:
    """All of them; imported when first asked for, because most who import minivl check nothing."""
    from .stages import EXERCISES
    return EXERCISES


def find(name: str) -> Exercise:
    """The exercise of that name or label."""
    known = all_exercises()
    for exercise in known:
        if name in (exercise.name, exercise.label):
            return exercise
    names = [n for exercise in known for n in (exercise.name, exercise.label)]
    near = get_close_matches(str(name), names, n=1, cutoff=0.4)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise ArgumentError(f"there is no stage {name!r} to check; {meant}minivl.check() lists all "
                     f"{len(known)}")


def _listing() -> Page:
    from ..lessons import EXERCISES
    known = all_exercises()
    wide = max(len(exercise.name) for exercise in known)
    lines = [f"  {e.name:<{wide}}  {'*' if e.variants else ' '} {e.does}" for e in known]
    numbers = [f"  {number:<5} {asked.name}: {asked.gives}" for number, asked in EXERCISES.items()]
    return Page("\n".join(["minivl.check(name, your_function) grades one of these; a * has seeded "
                           "variants:", *lines,
                           'Exercises of the lessons, by number: minivl.check("3.1", your_function)',
                           *numbers]))


def _task(exercise: Exercise) -> Page:
    """The arguments of a stage with an example, its contract and its place."""
    asks = [f"  Your variant: {exercise.asks}."] if exercise.asks else []
    return Page("\n".join([f"{exercise.name}({', '.join(exercise.names)})", f"  {exercise.does}", *asks,
                           f"  contract: {exercise.door.contract}   (letters: minivl.AXES)",
                           f"  in the model: {exercise.label}", *_example(exercise)]))


def _example(exercise: Exercise) -> list[str]:
    case = deck(exercise.draw, 0, 1)[0]
    given = [described(name, arg, exercise.reads)
             for name, arg in zip(exercise.names, case.args, strict=True)]
    gives = " and ".join(array_words(value) for value in judge(exercise, exercise.definition, case).got)
    hint = [f"  {ASK_A_WEIGHT}"] if any(".weight =" in words for words in given) else []
    return ["  for example:", *(f"    {words}" for words in given), f"    gives {gives}", *hint]

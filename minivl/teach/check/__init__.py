"""Grading of what a student writes: a stage of the model, or an exercise of a lesson.

    minivl.check()                                  # what can be checked, a line each
    minivl.check("merge_2x2")                       # one task: arguments, shapes, what they hold
    minivl.check("merge_2x2", my_merge)             # right, or what is wrong in words
    minivl.check("3.1", row_of_patch)               # an exercise; raises AssertionError when it is wrong

Inputs are drawn on awkward shapes, the function runs on them, and what it gives is compared with the
definition in float64. When they differ, the input is made as small as it gets, the difference is put
into words, and the usual mistakes are named. It needs NumPy; with Hypothesis it searches better.

It is no fence: whoever wants to cheat on themselves can call the definition. And a loop that never ends
is ended by its author (interrupt the kernel). Read next: `exercise.py`, then `stages/`; `../lessons` for
the exercises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from time import perf_counter
from typing import Any

from ...door.errors import ArgumentError
from . import result
from .arguments import array_words, described
from .diagnose import same_results, unused
from .draws import Case, deck, search, weight_of
from .exercise import Exercise
from .judge import ASK_A_WEIGHT, Verdict, judge, misfit, run, same_as
from .result import Result

DECK, TRIES = 20, 40         # inputs that everything is tried on; inputs more that are searched


class Page(str):
    """A text that shows itself as it is, in a shell and in a notebook."""

    def __repr__(self) -> str:
        return str(self)


def check(name: str | None = None, function: Callable | None = None, *, seed: int = 0,
          variant: object = None,
          seconds: float = 2.0) -> Any:
    """Grade `function` as a stage: a Result, true when it is right, whose text says what is wrong.

    name: one of `minivl.check()`, a stage's label in the model, or the number of a lesson's exercise,
    which is "right" in print or raises AssertionError. Without a function: the task in words.
    seed: other inputs. variant: any word or number; the same word asks for the same rule, which differs
    from the model's (`minivl.check(name, variant=...)` says how). seconds: when to stop searching for a
    wrong input. All three are for stages. Raises ArgumentError for a name there is none of.
    """
    if name is None:
        return _listing()
    if function is not None and not callable(function):
        raise TypeError(f"the second argument is a {type(function).__name__}, should be the function to "
                        "check (without brackets after its name)")
    if re.fullmatch(r"\d+\.\d+", str(name)):
        return _lesson(str(name), function)
    exercise = find(name)
    if variant is not None:
        exercise = exercise.varied(variant)
    return _task(exercise) if function is None else grade(exercise, function, seed, seconds)


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


def grade(exercise: Exercise, function: Callable, seed: int = 0, seconds: float = 2.0) -> Result:
    """Judge the function on drawn inputs; of those it is wrong on, the smallest found is explained."""
    start = perf_counter()
    words = misfit(function, exercise)
    if words:
        return result.refused(exercise, "signature", words)
    cases, verdicts = _try(exercise, function, deck(exercise.draw, seed, DECK), start + seconds)
    failed = [case for case, verdict in zip(cases, verdicts, strict=True) if verdict.kind != "right"]
    if not failed and len(cases) < DECK:
        return _slow(exercise, cases, perf_counter() - start)
    if not _stable(exercise, function, cases[-1]):
        return result.refused(exercise, "unstable",
                              "called twice on the same input, your function gives two results: "
                              "does it keep something between calls, or draw random numbers?")
    smallest = _smallest(exercise, function, failed, seed, start + seconds)
    if smallest is None:
        return result.right(exercise, len(cases) + TRIES, verdicts[0].remarks)
    verdict = judge(exercise, function, smallest)
    if not failed:  # found by the search alone: it belongs to what was tried
        cases, verdicts, failed = [*cases, smallest], [*verdicts, verdict], [smallest]
    mistake = known_mistake(exercise, [*cases, smallest], [*verdicts, verdict])
    idle = unused(exercise, function, failed[:4]) if verdict.kind == "values" else ""
    return result.wrong(exercise, smallest, verdict, mistake, idle, cases, verdicts)


def _try(exercise: Exercise, function: Callable, cases: Sequence[Case], until: float
         ) -> tuple[list[Case], list[Verdict]]:
    """Judge the function on one case after the other, as far as the time goes."""
    verdicts: list[Verdict] = []
    for case in cases:
        verdicts.append(judge(exercise, function, case))
        if perf_counter() > until:
            break
    return list(cases[: len(verdicts)]), verdicts


def _stable(exercise: Exercise, function: Callable, case: Case) -> bool:
    """Whether two runs on one input give the same."""
    one, two = (judge(exercise, function, case) for _ in range(2))
    return one.kind == two.kind and same_results(one.got, two.got)


def _smallest(exercise: Exercise, function: Callable, failed: Sequence[Case], seed: int,
              until: float) -> Case | None:
    """The smallest input that is found wrong, in the way that the first one was wrong."""
    kinds = {judge(exercise, function, failed[0]).kind} if failed else None

    def fails(case: Case) -> bool:
        kind = judge(exercise, function, case).kind
        return kind != "right" and (kinds is None or kind in kinds)
    found = search(exercise.draw, fails, seed, TRIES, until)
    return min([*failed, *([found] if found else [])], key=weight_of, default=None)


def known_mistake(exercise: Exercise, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> str:
    """Words of the first known mistake that gives the student's result on every input, or none."""
    for _, words, version in exercise.mistakes:
        same = [same_as(exercise, version, case, v) for case, v in zip(cases, verdicts, strict=True)]
        shown = [s is True for s, v in zip(same, verdicts, strict=True) if v.kind != "right"]
        if False not in same and 2 * sum(shown) >= len(shown):
            return words
    return ""


def _slow(exercise: Exercise, cases: Sequence[Case], seconds: float) -> Result:
    example = [described(name, arg, exercise.reads) for name, arg in
               zip(exercise.names, cases[-1].args, strict=True)]
    start = perf_counter()
    run(exercise.definition, cases[-1].args)
    own = perf_counter() - start
    return result.refused(exercise, "slow",
                          f"your function was right on {len(cases)} inputs but took {seconds:.1f} s "
                          f"for them, too long to look at the other {DECK - len(cases)}; the definition "
                          f"takes {own:.4f} s on the last one:\n"
                          + "\n".join(f"  {words}" for words in example)
                          + "\nLook for loops inside loops, or give it time: check(..., seconds=60)")


"""One grading: a student's function on drawn inputs, the smallest wrong one explained, the usual mistake named.

Read next: `draws.py` (inputs), `judge.py` (right or wrong), `result.py` (in words).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from . import result
from .arguments import described
from .diagnose import same_results, unused
from .draws import Case, deck, search, weight_of
from .exercise import Exercise
from .judge import Verdict, judge, misfit, run, same_as
from .result import Result

DECK, TRIES = 20, 40         # inputs that everything is tried on; inputs more that are searched


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


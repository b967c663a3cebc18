"""The graded assignments: each a notebook that asks for a few functions, in the student's own variants.

The notebooks' sources are in `notebooks/graded/` of the repository. Read next: `grade.py`.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple

from ...door.errors import ArgumentError


class Asked(NamedTuple):
    """One exercise: a stage of `minivl.check` that has variants, the function asked for, points."""
    stage: str
    function: str
    points: int = 1


class Assignment(NamedTuple):
    """One notebook: its name, the lessons it belongs to, and what it asks for."""
    name: str
    lessons: str
    asked: tuple[Asked, ...]

    @property
    def points(self) -> int:
        return sum(one.points for one in self.asked)


ASSIGNMENTS = {one.name: one for one in (
    Assignment("pictures", "lessons 2 and 3", (
        Asked("target_size", "target_size"), Asked("picture.normalise", "normalise"),
        Asked("patchify", "patchify"))),
    Assignment("windows", "lesson 5", (
        Asked("window_order", "window_order"), Asked("schedule", "schedule"),
        Asked("order_by_window", "order_by_window"))),
    Assignment("positions", "lessons 6 and 10", (
        Asked("spatial_angles", "spatial_angles"), Asked("rotate", "rotate"), Asked("mrope", "mrope"))),
    Assignment("blocks", "lessons 7 and 8", (
        Asked("rms_norm", "rms_norm"), Asked("gated_mlp", "gated_mlp"),
        Asked("merge_2x2", "merge_2x2"))),
    Assignment("decoding", "lessons 9 to 11", (
        Asked("place_features", "place_features"), Asked("advance", "advance"),
        Asked("penalise", "penalise"))),
)}


def find(name: str) -> Assignment:
    """The assignment of that name. Raises ArgumentError with the nearest name when there is none."""
    if name not in ASSIGNMENTS:
        near = get_close_matches(name, ASSIGNMENTS, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ArgumentError(f"there is no assignment {name!r}; {meant}they are {', '.join(ASSIGNMENTS)}")
    return ASSIGNMENTS[name]

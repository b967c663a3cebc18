"""The stages of a run in the order in which they ran first: what each is, and what came out.

A stage that ran several times (a picture each, a token each) is listed once; its arrays are laid one
after the other. Read next: `document.py`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ...door.contract import parse
from ..plot import row_values
from .run import Run

BINS = 24
PASSES = ("picture", "video", "patches", "prompt", "positions", "windows", "vision", "block", "decoder",
          "sampling")
ROOMS = {"vision": "w", "decoder": "s"}            # what `n`, the caller's rows, are in each


class Array(NamedTuple):
    """One array that a stage gives."""
    name: str                    # its axes, by the contract
    dtype: str
    shape: tuple[int, ...]       # of the first run
    least: float
    most: float
    rms: float
    bins: list[int]              # how many values lie in each of BINS equal steps from least to most
    letter: str                  # of its rows, "" when they have no place in the picture or the sequence
    rows: np.ndarray | None      # the rms of each row, or the value itself where a row is one number


class Stage(NamedTuple):
    """One stage of the list."""
    label: str
    contract: str
    what: str                    # the first sentence of its documentation
    runs: int
    arrays: list[Array]


def stages_of(run: Run) -> list[Stage]:
    """Every leaf that was recorded, once each."""
    return [_stage(run, label) for label in run.runs]


@cache
def _doors() -> dict[str, list[Any]]:
    """The last word of a label -> the stages that have it."""
    found: dict[str, list[Any]] = {}
    for name in PASSES:
        module = import_module(f"minivl.passes.{name}")
        for door in vars(module).values():
            if hasattr(door, "contract") and door.__module__ == module.__name__:
                found.setdefault(door.label.rpartition(".")[2], []).append(door)
    return found


def door_of(label: str) -> Any:
    """The stage behind a label, None for one that is not the package's. `attend` and others are there
    for both rooms: the axis letters tell which belongs where."""
    room = ROOMS.get(label.partition(".")[0], "")
    known = [door for door in _doors().get(label.rpartition(".")[2], [])
             if "." not in door.label or door.label == label]
    here = [door for door in known if room in parse(door.contract)[1][0]]
    return next(iter(here or known), None)


def what_of(label: str) -> str:
    """The first sentence of what the package says of a stage; nothing for a stage of somebody else."""
    words = " ".join((getattr(door_of(label), "__doc__", None) or "").split())
    return re.split(r"(?<=[.])\s", words)[0]


def _stage(run: Run, label: str) -> Stage:
    door = door_of(label)
    first = run.runs[label][0]
    terms = parse(door.contract)[1] if door else [["_"]]
    arrays = [_array(run, label, n, terms[min(n, len(terms) - 1)]) for n in range(len(first))]
    return Stage(label, door.contract if door else "", what_of(label), len(run.runs[label]), arrays)


def _array(run: Run, label: str, n: int, axes: list[str]) -> Array:
    first = np.asarray(run.runs[label][0][n])
    name, dtype, values = " ".join(axes), str(first.dtype), first.astype(np.float64).ravel()
    if not values.size:
        return Array(name, dtype, first.shape, 0.0, 0.0, 0.0, [0] * BINS, "", None)
    bins = np.histogram(values[np.isfinite(values)], BINS)[0].tolist()
    least, most, rms = values.min(), values.max(), np.sqrt((values * values).mean())
    return Array(name, dtype, first.shape, float(least), float(most), float(rms), bins,
                 *_rows(run, label, n, axes[0]))


def _rows(run: Run, label: str, n: int, axis: str) -> tuple[str, np.ndarray | None]:
    """One number for each row, when the rows are patches, cells or tokens."""
    letter = ROOMS.get(label.partition(".")[0], axis) if axis == "n" else axis
    if letter not in ("p", "w", "c", "m", "s"):
        return "", None
    whole = run.rows(label, n)
    if len(whole) != len(run.at[letter]):
        return "", None
    return letter, row_values(whole).astype(np.float32)

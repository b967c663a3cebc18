"""How a check is filed under the number of its exercise, and what checks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Exercise(NamedTuple):
    """The name of the function that is asked for, what it should give, and the check."""
    name: str
    gives: str
    examine: Callable[[Callable], None]


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, gives: str) -> Callable[[Callable[[Callable], None]], Callable[[Callable], None]]:
    """File a check under the number of its exercise; its name is the name of the function that is asked for."""
    def file(examine: Callable[[Callable], None]) -> Callable[[Callable], None]:
        EXERCISES[number] = Exercise(examine.__name__, gives, examine)
        return examine
    return file


def array(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """An answer as an array of this shape, or a remark."""
    array = np.asarray(value)
    assert array.shape == shape, f"{what} should give the shape {shape}, yours is {array.shape}"
    return array

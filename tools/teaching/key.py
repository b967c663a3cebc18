"""Answers that are computed: filing them, writing their values, and reading those of a page.

Read next: `questions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PAGES = Path(__file__).parents[2] / "docs" / "teaching"
KEYS: dict[str, dict[str, Callable[[], Any]]] = {"concept-answers": {}, "exam-6-weeks-answers": {},
                                                 "exam-12-weeks-answers": {}}
NUMBERED = re.compile(r"(?m)^(\d+[a-z]?)\. ")
BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)


def answer(page: str, number: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """File the function that computes the values of one answer: a value, or a list of several in the order in which
    they stand on the page."""
    def file(compute: Callable[[], Any]) -> Callable[[], Any]:
        if number in KEYS[page]:
            raise ValueError(f"{page} has two answers {number}")
        KEYS[page][number] = compute
        return compute
    return file


def values(page: str, number: str) -> list[str]:
    """What stands in bold in an answer, one after the other."""
    computed = KEYS[page][number]()
    return [written(value) for value in (computed if isinstance(computed, list) else [computed])]


def written(value: Any) -> str:
    """A value as keys write it: 1,564 and 0.125, at most four digits of a fraction; (391, 5120) for a tuple, which is a
    shape or a position; 0, 1, 1 for an array; text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"({', '.join(str(int(n)) for n in value)})"
    if isinstance(value, np.ndarray) and value.ndim:
        return ", ".join(written(n) for n in value.ravel())
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{float(value):.4g}"


def on_page(page: str) -> dict[str, list[str]]:
    """Number of each answer of a page -> what stands in bold in it."""
    parts = NUMBERED.split((PAGES / f"{page}.md").read_text(encoding="utf-8"))[1:]
    return {number: [" ".join(value.split()) for value in BOLD.findall(text)]
            for number, text in zip(parts[::2], parts[1::2], strict=True)}

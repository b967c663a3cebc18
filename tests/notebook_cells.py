"""Notebooks run in the process of the test, with no figure drawn: a kernel for each would cost more than its cells."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import matplotlib
import matplotlib.pyplot as plt


def failures_of(book: Any, printed: io.StringIO | None = None) -> dict[int, str]:
    """Place of a cell, from 0 -> what its exception says, for every cell that failed. What the cells print goes into
    `printed`."""
    printed = io.StringIO() if printed is None else printed
    matplotlib.use("Agg")
    names, failed = {"__name__": "__main__"}, {}
    for place, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            try:
                with contextlib.redirect_stdout(printed):
                    exec(compile(cell.source, f"cell {place}", "exec"), names)
            except Exception as error:
                failed[place] = f"{type(error).__name__}: {error}"
            plt.close("all")
    return failed

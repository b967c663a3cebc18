"""What `minivl.check` gives back: true or false, the message, and all that is needed to look further.

    result = minivl.check("merge_2x2", mine)
    if not result: mine(*result.args)                 # the smallest input that it is wrong on
    result.figure()                                   # the wrong cells, with matplotlib

Read next: `diagnose.py`, where the sentences come from.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from .arguments import described
from .diagnose import Look, common, first_difference, look_at, number, partly, when, where
from .draws import Case
from .exercise import Exercise
from .judge import Verdict

ROWS, COLUMNS = 12, 24       # of the drawing
LOOKS = 6                    # wrong inputs that are looked at for what they have in common


@dataclass(frozen=True, repr=False)
class Result:
    """A graded function. True when it is right.

    kind: "right", "values" (numbers), "shape", "dtype", "type", "count", "raised", "changed",
    "unstable", "slow", "signature"; mistake: the words for it when it is a known one; input: the
    smallest input found, by argument.
    """
    stage: str
    kind: str
    message: str
    mistake: str | None = None
    input: dict[str, Any] | None = None
    expected: tuple = ()
    got: tuple = ()
    look: Look | None = None

    def __bool__(self) -> bool:
        return self.kind == "right"

    @property
    def args(self) -> tuple:
        """The smallest input as the function takes it."""
        return tuple((self.input or {}).values())

    def __repr__(self) -> str:
        return self.message

    def _repr_html_(self) -> str:
        colour = "#009E73" if self else "#D55E00"
        return (f'<pre style="border-left: 4px solid {colour}; padding-left: 1em; white-space: '
                f'pre-wrap">'
                f"{html.escape(self.message)}</pre>")

    def figure(self) -> Any:
        """Expected, got, and where they differ. ValueError when there is nothing to draw."""
        if self.look is None:
            raise ArgumentError(f"{self.stage}: no numbers differ, so there is nothing to draw")
        from ...show import plot
        right, got = (_pane(array, self.look)[0] for array in (self.look.right, self.look.got))
        wrong, at, rows, columns = _pane(self.look.wrong, self.look)
        return plot.differences(right, got, wrong, rows, columns, f"{self.stage}{at}")


def right(exercise: Exercise, tried: int, remarks: Sequence[str]) -> Result:
    """The result for a function that was right on everything."""
    lines = [f"{exercise.name}: right, on {tried} inputs.",
             *(f"  Note: {remark}." for remark in remarks)]
    if not exercise.asks:
        lines.append(f'  In the model: with minivl.using({{"{exercise.label}": your_function}}): ...')
    return Result(exercise.name, "right", "\n".join(lines))


def refused(exercise: Exercise, kind: str, words: str) -> Result:
    """The result for a function that could not be judged by its numbers."""
    return Result(exercise.name, kind, f"{exercise.name}: not right yet.\n  {_sentence(words)}")


def wrong(exercise: Exercise, case: Case, verdict: Verdict, mistake: str, idle: str,
          cases: Sequence[Case],
          verdicts: Sequence[Verdict]) -> Result:
    """The result for a function that was wrong on `case`, the smallest input found."""
    lines = [f"{exercise.name}: not right yet."]
    if mistake:
        lines.append(f"  {_sentence(mistake)}")
    if verdict.words:
        lines.append(f"  {_sentence(verdict.words)}")
    look = look_at(exercise, case, verdict) if verdict.kind == "values" else None
    if look is not None:
        larger = [look_at(exercise, c, v) for c, v in zip(cases, verdicts, strict=True)
                  if v.kind == "values"]
        found = common(sorted(larger, key=lambda other: -other.right.size)[:LOOKS] or [look])
        hints = () if mistake else (partly(exercise, cases, verdicts), found, idle)
        lines += [f"  {_sentence(said)}" for said in (*hints, first_difference(look), where(look))
                  if said]
    lines.append(f"  {_sentence(when(exercise, cases, [v.kind == 'right' for v in verdicts]))}")
    lines.append("  The smallest input found" + (" (strided arrays)" if case.strided else "") + ":")
    lines += [f"    {described(name, arg, exercise.reads)}" for name, arg in
              zip(exercise.names, case.args, strict=True)]
    lines += [""] * (look is not None) + (drawing(look) if look is not None else [])
    given = dict(zip(exercise.names, case.args, strict=True))
    return Result(exercise.name, verdict.kind, "\n".join(lines), mistake or None, given,
                  verdict.expected,
                  verdict.got, look)


def _sentence(words: str) -> str:
    words = words.strip().replace("\n", "\n  ")
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?", "!")) else ".")


# -------------------------------------------------------------------------------------- the drawing

def drawing(look: Look) -> list[str]:
    """The wrong cells: small arrays with both numbers, larger ones as # (wrong) and . (right)."""
    pane, at, rows, columns = _pane(look.wrong, look)
    right_, got = (_pane(array, look)[0] for array in (look.right, look.got))
    if pane.shape[0] <= ROWS and pane.shape[1] <= 8:
        texts = [[number(b) if not w
                  else f"{number(b)}≠{number(a)}" for a, b, w in zip(*row, strict=True)]
                 for row in zip(right_[:, :], got, pane, strict=True)]
        head = f"  yours; where it is wrong, yours ≠ expected{at}:"
    else:
        texts = [["#" if w else "." for w in row[:COLUMNS]] for row in pane[:ROWS]]
        head = f"  # is wrong, . is right{at}:"
    return [head, *_table(texts, rows, columns), *_rest(pane)]


def _rest(pane: np.ndarray) -> list[str]:
    if pane.shape[0] <= ROWS and pane.shape[1] <= COLUMNS:
        return []
    return [f"    (the first {min(pane.shape[0], ROWS)} x {min(pane.shape[1], COLUMNS)} of "
            f"{pane.shape[0]} x {pane.shape[1]})"]


def _table(texts: list[list[str]], rows: str, columns: str) -> list[str]:
    width = max([len(text) for row in texts for text in row] + [len(str(len(texts[0]) - 1))])
    head = " ".join(f"{n:>{width}}" for n in range(len(texts[0])))
    side = f"{rows}\\{columns}" if rows else columns
    body = [f"    {n:>{len(side)}} "
            f"{' '.join(f'{text:>{width}}' for text in row)}" for n, row in enumerate(texts)]
    return [f"    {side} {head}", *body]


def _pane(array: np.ndarray, look: Look) -> tuple[np.ndarray, str, str, str]:
    """Two axes of an array, the others at the first wrong index: rows x columns, where, and letters."""
    if array.ndim < 2:
        return array.reshape(1, -1), "", "", look.axes[0] if look.axes else ""
    at = tuple(int(n) for n in np.argwhere(look.wrong)[0])
    if array.ndim == 2:
        return array, "", look.axes[0], look.axes[1]
    # a row axis: the first of three, else the last but one
    keep = 0 if array.ndim == 3 else array.ndim - 2
    index = tuple(slice(None) if n in (keep, array.ndim - 1) else at[n] for n in range(array.ndim))
    fixed = ", ".join(f"{look.axes[n]}={at[n]}" for n in range(array.ndim)
                      if n not in (keep, array.ndim - 1))
    return array[index], f" at {fixed}", look.axes[keep], look.axes[-1]

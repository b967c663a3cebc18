"""The contract language: what a stage takes and gives, axis by axis, and the check that executes it.

    "p d, m -> w d"     two arrays come in, one goes out; a letter has one size throughout
    "4c d, _ -> c o"    the first axis is four times the length of the outgoing one
    "i 3 -> _ 4 *"      an axis may be a number, `_` is any size, `*` repeats the term for every further array
    "_, s d -> s d"     a term that is only `_` is not checked: an integer, a text, a table of weights

The letters are the axis names of the whole project (`AXES`). The first letter of what comes out says
what an array's rows are, which is how `run/provenance.py` finds the pixels behind a row; `n` stands
for the caller's rows (`w` in a vision block, `s` in a decoder layer). Arguments after the last term
are not checked.

Read next: `stage.py`, which calls `check` when a session verifies.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from .errors import Error

AXES = {
    "p": "patches as cut, in 2x2 blocks, picture after picture",
    "w": "patches in window order",
    "c": "cells (2x2 patches) in window order",
    "m": "merged cells in prompt order: one visual token each",
    "s": "sequence: one row a token of the prompt, conversation after conversation",
    "r": "rows of the KV cache: all tokens so far",
    "n": "rows of whatever the caller has: w in a vision block, s in a decoder layer",
    "i": "pictures and videos, in prompt order",
    "d": "width of the residual stream",
    "o": "outgoing width",
    "a": "query heads",
    "k": "key-value heads",
    "e": "width of one head",
    "f": "rotary angles of one head: half its width",
    "x": "values of one patch: colour, time, row, column",
    "v": "vocabulary",
    "g": "segments: rows that attend to the same keys",
    "t": "frames, or pairs of frames",
    "h": "height", "y": "height of the source",
    "b": "width of the source", "u": "width of the target",
}


class ContractError(Error):
    """A stage broke its contract; the message names the stage, the axis and both sizes."""


@cache
def parse(contract: str) -> tuple[list[list[str]], list[list[str]]]:
    """Terms of the two sides of a contract, each a list of axes: `"p d -> w d"` is `([["p","d"]],
    [["w","d"]])`."""
    left, arrow, right = contract.partition("->")
    if not arrow:
        raise ContractError(f"contract {contract!r} has no '->'")
    return tuple([term.split() for term in side.split(",")] for side in (left, right))  # type: ignore[return-value]


def outputs(value: Any) -> tuple[Any, ...]:
    """What came out of a stage, always as a tuple of arrays."""
    return value if isinstance(value, tuple) else (value,)


def rows_of(contract: str) -> str:
    """The axis letter of the rows that come out: `"4c d, _ -> c o"` gives `"c"`."""
    return parse(contract)[1][0][0]


def check_inputs(key: str, contract: str, args: tuple[Any, ...]) -> dict[str, int]:
    """Bind the letters of the left side to the sizes of `args`; raise ContractError where they
    disagree."""
    sizes: dict[str, int] = {}
    _check_side(key, "input", parse(contract)[0], args, sizes)
    return sizes


def check_arrays(key: str, value: Any) -> None:
    """Raise ContractError unless a stage gave an array or a tuple of arrays, of whatever machine."""
    for array in outputs(value):
        if not (hasattr(array, "shape") and hasattr(array, "dtype")):
            raise ContractError(f"{key}: gave a {type(array).__name__}; a stage gives an array or a "
                                "tuple of arrays"
                                + " (is its `return` missing?)" * (array is None))


def check_outputs(key: str, contract: str, value: Any, sizes: dict[str, int]) -> None:
    """Check what came out against the right side, with the letters as bound by the inputs; floats must
    be finite."""
    terms, arrays = parse(contract)[1], outputs(value)
    # 1. As many arrays as promised, unless the last term repeats (`_ 4 *`: a table for each block).
    if terms[-1][-1] != "*" and len(terms) != len(arrays):
        raise ContractError(f"{key}: gives {len(arrays)} arrays, its contract '{contract}' promises "
                            f"{len(terms)}")
    # 2. Finite numbers. Kind V is bfloat16, which NumPy knows as "void" with functions of its own.
    for n, array in enumerate(arrays):
        if array.dtype.kind in "fV" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ContractError(f"{key}: output {n} {list(array.shape)} is not finite, first at {bad}")
    # 3. Sizes, with the letters as the inputs bound them.
    _check_side(key, "output", terms, arrays, sizes)


def in_place_of(key: str, made: Any, value: Any) -> Any:
    """A value to go on with where a stage made something else: as many arrays of the same shapes, cast
    to the types of what was made. Raises ContractError, naming the stage, for a value that does not
    fit."""
    ours, theirs = outputs(made), outputs(value)
    # Shapes must be the same, not only broadcast: a row vector would pass for a whole array.
    if [np.shape(a) for a in theirs] != [np.shape(a) for a in ours]:
        shapes = [" and ".join(str(list(np.shape(a))) for a in arrays) for arrays in (theirs, ours)]
        raise ContractError(f"{key}: put {shapes[0]} in the place of {shapes[1]}; lay it out as the "
                            "stage does")
    typed = tuple(np.asarray(v).astype(o.dtype, copy=False) for v, o in zip(theirs, ours, strict=True))
    for cast, v in zip(typed, theirs, strict=True):       # 2.9 is not the row number 2
        if cast.dtype.kind in "iu" and not np.array_equal(cast, np.asarray(v)):
            raise ContractError(f"{key}: put numbers that are no integers in the place of "
                                f"{cast.dtype}; round "
                                "them, if they are meant to be row numbers or ids")
    return typed if isinstance(made, tuple) else typed[0]


def _check_side(key: str, side: str, terms: list[list[str]], arrays: tuple[Any, ...],
                sizes: dict[str, int]) -> None:
    if terms[-1][-1] == "*":                              # the last term for every further array
        terms = terms[:-1] + [terms[-1][:-1]] * (len(arrays) - len(terms) + 1)
    for n, (axes, array) in enumerate(zip(terms, arrays, strict=False)):
        if axes not in (["_"], []):
            _check_array(f"{key}: {side} {n}", axes, np.shape(array), sizes)


def _check_array(where: str, axes: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    if len(axes) != len(shape):
        raise ContractError(f"{where} should be [{' '.join(axes)}] but has shape {list(shape)}")
    for axis, size in zip(axes, shape, strict=True):
        # "4c": four rows for each c; "3": a number; "_": any size
        times, letter = re.fullmatch(r"(\d*)([a-z_]?)", axis).groups()  # type: ignore[union-attr]
        if letter == "_":
            continue
        times = int(times or 1)
        wanted = times * (sizes.setdefault(letter, size // times) if letter else 1)
        if wanted != size:
            raise ContractError(f"{where} [{' '.join(axes)}]: axis {axis} has size {size}, should be "
                                f"{wanted}")

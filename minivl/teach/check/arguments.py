"""Arguments of a stage as trees of arrays: arrays, weights, tuples of either, and things that hold none.

Read next: `judge.py`, which copies, widens and compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from ...checkpoint.weight import Stored, weight

FULL = 24               # whole numbers that are written out; of floats a third of that


def changed(change: Callable[[np.ndarray], np.ndarray], thing: Any) -> Any:
    """The same argument with `change` applied to every array in it."""
    if isinstance(thing, np.ndarray):
        return change(thing)
    if isinstance(thing, Stored):
        return weight(change(thing.stored))
    if isinstance(thing, tuple):
        parts = [changed(change, part) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    return thing


def arrays_in(name: str, thing: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of an argument with its name: `merger.inner.weight`."""
    if isinstance(thing, np.ndarray):
        yield name, thing
    elif isinstance(thing, Stored):
        yield name, thing.stored
    elif isinstance(thing, tuple):
        for field, part in zip(getattr(thing, "_fields", range(len(thing))), thing, strict=True):
            yield from arrays_in(f"{name}.{field}" if isinstance(field, str) else f"{name}[{field}]",
                                 part)


def size_of(args: tuple) -> int:
    """How many numbers there are in all arguments; a large whole number counts as more."""
    arrays = [array for arg in args for _, array in arrays_in("", arg)]
    whole = sum(int(np.abs(a).sum()) for a in arrays if a.dtype.kind in "iu" and a.size < 100)
    plain = sum(int(abs(arg)) for arg in args if isinstance(arg, int | float))
    return 10 * sum(a.size for a in arrays) + whole + plain


def widened(thing: Any) -> Any:
    """The argument in float64, for the golden value; a dtype becomes float64 as well."""
    if isinstance(thing, np.dtype):
        return np.dtype(np.float64)
    return changed(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, thing)


def fresh(thing: Any, strided: bool) -> Any:
    """A copy that a student's function may spoil. strided: not contiguous, as slices of arrays are."""
    def copy(array: np.ndarray) -> np.ndarray:
        if not strided or array.ndim < 2:
            return array.copy()
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    # Weights are never strided: a file holds them row after row.
    return copy(thing) if isinstance(thing, np.ndarray) else changed(np.copy, thing)


def nudged(names: list[str], args: tuple, reads: tuple[str, ...]) -> Iterator[tuple[str, tuple]]:
    """The arguments with one thing changed, and its name: who notices no difference does not use it."""
    for n, (name, arg) in enumerate(zip(names, args, strict=True)):
        for path, other in _others(name, arg, reads):
            yield path, (*args[:n], other, *args[n + 1:])


def _others(name: str, thing: Any, reads: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, np.ndarray) and thing.dtype.kind == "f":
        noise = np.asarray(np.random.default_rng(0).normal(size=thing.shape))
        yield name, thing + noise.astype(thing.dtype)
    elif isinstance(thing, np.ndarray) and thing.ndim == 1:
        yield name, thing[::-1]
    elif isinstance(thing, Stored):
        yield name, weight(next(_others(name, thing.stored, reads))[1])
    elif isinstance(thing, bool):
        yield name, not thing
    elif isinstance(thing, float):
        yield name, thing * 1.5 + 0.25
    elif hasattr(thing, "_fields"):
        for field, part in zip(thing._fields, thing, strict=True):
            for path, other in _others(f"{name}.{field}", part, reads):
                yield path, thing._replace(**{field: other})
    elif is_dataclass(thing) and not isinstance(thing, type):
        for field in reads:
            value = getattr(thing, field)
            if isinstance(value, float) or field == "window_size":
                yield f"{name}.{field}", replace(thing, **{field: value * 2})


def described(name: str, thing: Any, reads: tuple[str, ...]) -> str:
    """An argument in a few words: its type and shape, its numbers where they are few."""
    if isinstance(thing, np.ndarray):
        return f"{name} = {array_words(thing)}"
    if isinstance(thing, Stored):
        return f"{name} = {array_words(thing.stored)}"
    if hasattr(thing, "_fields"):
        parts = [described(f".{field}", part, reads)
                 for field, part in zip(thing._fields, thing, strict=True)]
        return f"{name} ({', '.join(parts)})"
    if is_dataclass(thing) and not isinstance(thing, type):
        shown = ", ".join(f".{field} = {getattr(thing, field)}" for field in reads)
        return f"{name} ({shown})"
    if isinstance(thing, tuple) and thing and isinstance(thing[0], np.ndarray):
        return f"{name} = ({', '.join(map(array_words, thing))})"
    return f"{name} = {thing}"


def array_words(array: np.ndarray) -> str:
    """`float32 [2, 3]`, and the numbers themselves where they are few."""
    head = f"{array.dtype} {list(array.shape)}"
    few = array.size <= (FULL if array.dtype.kind in "iu" else FULL // 3)
    plain = np.round(array.astype(np.float64), 4) if array.dtype.kind == "f" else array
    return f"{head} {plain.tolist()}" if few and array.size else head

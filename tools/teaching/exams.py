"""The computed answers of both exams, by question and part. Read next: `syllabus.py`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minivl.kernels import definition as kernels
from minivl.passes import answer as answers
from minivl.passes import picture, positions, sampling, windows

from .key import answer
from .questions import (
    OFFICIAL,
    PHOTOS,
    attended,
    cache_bytes,
    cells_in_windows,
    merged,
    normed,
    pairs,
    penalised,
    place_in_row,
    preference_loss,
    row_of_patch,
    seen,
    shares,
    size_text,
    ticks,
    to_bfloat16,
    tokens_of,
    triples,
)

six = partial(answer, "exam-6-weeks-answers")
twelve = partial(answer, "exam-12-weeks-answers")


def turned(row: list[float], degrees: list[float]) -> tuple[float, ...]:
    """A row of one head turned by an angle for each of its pairs."""
    angles = np.radians([degrees])
    return tuple(kernels.rotate(np.array([[row]]), np.cos(angles), np.sin(angles)).ravel().round(6))


def window_of(row: int, column: int, gh: int, gw: int) -> int:
    """The number of the window that a cell lies in, official windows: where its place falls among the runs."""
    grid = np.array([[1, gh, gw]])
    place = int(np.flatnonzero(windows.window_order(grid, OFFICIAL.vision) == row * (gw // 2) + column)[0])
    return int(np.searchsorted(np.cumsum(cells_in_windows(gh, gw)), place, side="right"))


# ---- six weeks ---------------------------------------------------------------------------------------------

@six("1a")
def _() -> Any:
    return size_text(seen(600, 1000))


@six("1b")
def _() -> Any:
    gh, gw = seen(600, 1000) // 14
    return [f"{gh} x {gw}", int(gh * gw)]


@six("1c")
def _() -> Any:
    return tokens_of(seen(600, 1000))


@six("1d")
def _() -> Any:
    size = seen(600, 1000, 392_000)
    return [size_text(size), tokens_of(size)]


@six("2a")
def _() -> Any:
    return row_of_patch(3, 4, 6, 8)


@six("2b")
def _() -> Any:
    return place_in_row(2, 0, 10, 3)


QUERY, KEYS_ = [2.0, 0, 0, 0], [[np.log(2), 0, 0, 0], [np.log(4), 0, 0, 0], [np.log(8), 0, 0, 0]]
VALUES = [[7.0, 0, 0, 0], [0.0, 0, 0, 0], [14.0, 0, 0, 0]]


@six("3a")
def _() -> Any:
    return [f"{score:.3f}" for score in np.array(KEYS_) @ QUERY / np.sqrt(len(QUERY))]


@six("3b")
def _() -> Any:
    return [f"{round(share * 7)}/7" for share in shares(np.array(KEYS_) @ QUERY / 2)]


@six("3c")
def _() -> Any:
    return attended(QUERY, KEYS_, VALUES)[0].round(6)


@six("3d")
def _() -> Any:
    return round(float(attended(QUERY, KEYS_[:2], VALUES[:2])[0]), 2)


@six("4a")
def _() -> Any:
    cells = cells_in_windows(12, 18)
    return [len(cells), cells]


@six("4b")
def _() -> Any:
    return [pairs(12, 18, 0), pairs(12, 18, 7)]


@six("4c")
def _() -> Any:
    return window_of(5, 6, 12, 18)


@six("5a")
def _() -> Any:
    return turned([1.0, 2, 3, 4], [90, 0])


@six("5b")
def _() -> Any:
    return [16 // 2, 16 // 4, positions.inverse_frequencies(8, 10000.0).astype(float).round(6)]


@six("6a")
def _() -> Any:
    return normed([6.0, 8, 0, 0], [1.0, 0.5, 1, 1])


@six("6b")
def _() -> Any:
    return merged(3024, "7B")


@six("7a")
def _() -> Any:
    return tuple(triples(4, (1, 6, 4), 1.0, 3)[:, 6])


@six("7b")
def _() -> Any:
    return triples(4, (1, 6, 4), 1.0, 3)[0, 10]


@six("7c")
def _() -> Any:
    return triples(4, (1, 6, 4), 1.0, 4)[0, -1]


# ---- twelve weeks ------------------------------------------------------------------------------------------

@twelve("1a")
def _() -> Any:
    size = seen(900, 700, 401_408)
    return [size_text(size), tokens_of(size)]


@twelve("1b")
def _() -> Any:
    box = np.array([[133, 175, 266, 350]])
    return answers.boxes_to_original(box, seen(900, 700, 401_408), np.array([900, 700]))[0].round(6)


@twelve("2b")
def _() -> Any:
    return picture.normalise(np.full((1, 1, 3), 128, np.uint8), PHOTOS)[0, 0, 0].round(3)


@twelve("3b")
def _() -> Any:
    return [row_of_patch(5, 2, 8, 10), place_in_row(1, 1, 0, 13)]


@twelve("4a")
def _() -> Any:
    return [cache_bytes("7B"), cache_bytes("7B", 1000)]


@twelve("4b")
def _() -> Any:
    from minivl.config import official_config
    text = official_config("7B").text
    return [17 // (text.heads // text.kv_heads), text.heads // text.kv_heads]


def small_windows() -> Any:
    """Windows of 2 x 2 cells."""
    from dataclasses import replace
    return replace(OFFICIAL.vision, window_size=56)


@twelve("5a")
def _() -> Any:
    return windows.window_order(np.array([[1, 6, 10]]), small_windows())


@twelve("5b")
def _() -> Any:
    return np.argsort(windows.window_order(np.array([[1, 6, 10]]), small_windows()))


@twelve("6a")
def _() -> Any:
    return [ticks(2.0), tuple(triples(3, (2, 4, 4), ticks(2.0), 0)[:, 8])]


@twelve("6b")
def _() -> Any:
    return [triples(3, (8, 4, 4), ticks(2.0), 1, rule)[0, -1] for rule in ("max_plus_one", "tf5")]


@twelve("7a")
def _() -> Any:
    return [to_bfloat16(257), to_bfloat16(259)]


@twelve("7b")
def _() -> Any:
    return float(np.finfo(np.float16).max)


@twelve("8a")
def _() -> Any:
    return list(penalised([3.0, 1.2, -1.2], 1.2))


@twelve("8b")
def _() -> Any:
    return [float(share) for share in shares(np.log([1.0, 4, 9]) / 0.5).round(4)]


@twelve("8c")
def _() -> Any:
    kept = sampling.narrow_choice(np.log([[0.4, 0.3, 0.2, 0.1]]), 1.0, None, 0.65)[0]
    chances = np.exp(kernels.log_softmax(kept[None]))[0]
    return [int((chances > 0).sum()), *(f"{round(p * 7)}/7" for p in chances[chances > 0])]


@twelve("9a")
def _() -> Any:
    surprise = [-kernels.log_softmax(np.log([[p, 1 - p]]))[0, 0] for p in (1 / 2, 1 / 4, 1 / 8)]
    return round(float(np.mean(surprise)), 3)


@twelve("9b")
def _() -> Any:
    return round(preference_loss(-8, -10, -9, -8, 0.1), 3)

"""Where things are: what an answer names, in pixels of the picture as it came.

    found = minivl.load().ground("photo.jpg", "Find the red circle.")
    found[0].label, found[0].box            # "red circle", (x0, y0, x1, y1); a point has .point instead
    found.answer, found.notes               # the model's own words, and what was mended in them or left out

The order of things: `answers.read` (text to numbers), `settle` (numbers that lie in the picture),
`passes.answer.boxes_to_original` (numbers to the picture's own pixels). Read next: `show/draw.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..passes.answer import boxes_to_original
from .answers import Said, read

TOKEN = 28            # pixels across and down that one token of a picture stands for


@dataclass(frozen=True)
class Found:
    """One box or point. Coordinates are distances from the left and the upper border in pixels of the
    picture as it came (turned upright), with fractions: the last pixel of a row ends at its width."""
    label: str
    box: tuple[float, float, float, float] | None         # x0, y0, x1, y1
    point: tuple[float, float] | None                     # x, y
    said: tuple[float, ...]                               # as the answer has it, in the resized picture


class Grounding(list[Found]):
    """What an answer names, in its order: a list of Found. It may be empty: `.answer` and `.notes` say
    why.

    .answer: the answer as it was written         .notes: what was mended, left out or could not be read
    .size, .source_size: (height, width) of the picture as the model saw it and as it came
    """

    def __init__(self, found: Iterable[Found], answer: str, notes: Sequence[str], size: tuple[int, int],
                 source_size: tuple[int, int]):
        super().__init__(found)
        self.answer, self.notes, self.size, self.source_size = answer, list(notes), size, source_size


def locate(answer: str, size: tuple[int, int], source_size: tuple[int, int]) -> Grounding:
    """What an answer about a picture of `source_size`, seen at `size` (both height, width), names.
    Whatever the answer is, nothing is raised."""
    said, notes = read(answer)
    settled = [(one, settle(one, size, notes, source_size)) for one in said]
    kept = [(one, place) for one, place in settled if place]
    places = np.array([place for _, place in kept], np.float64).reshape(-1, 4)
    boxes = boxes_to_original(places, np.array(size), np.array(source_size))                 # n 4 -> n 4
    found = [_found(one, row) for (one, _), row in zip(kept, boxes, strict=True)]
    return Grounding(found, answer, notes, size, source_size)


def _found(said: Said, row: np.ndarray) -> Found:
    x0, y0, x1, y1 = row.tolist()
    if len(said.numbers) == 2:
        return Found(said.label, None, (x0, y0), said.numbers)
    return Found(said.label, (x0, y0, x1, y1), None, said.numbers)


def settle(said: Said, size: tuple[int, int], notes: list[str],
           source_size: tuple[int, int] | None = None) -> tuple[float, float, float, float] | None:
    """Corners in order and inside of the picture; None, with a note, when nothing of it lies there. A
    point comes as a box whose corners coincide.

    Corners the wrong way round are put right, what reaches over the border is clipped (models
    overshoot by some pixels: QwenLM/Qwen3-VL#1035). A box without area is left out, and so is a point
    beyond the border: [-1, -1] and [0, 0, 0, 0] are ways to say that a thing is not there. Fractions of
    the picture are left out, and numbers that are no pixels for another reason get a word about it:
    which unit was meant is for the reader to say, so nothing is rescaled.
    """
    height, width = size
    a, b, c, d = said.numbers * 2 if len(said.numbers) == 2 else said.numbers
    x0, x1, y0, y1 = min(a, c), max(a, c), min(b, d), max(b, d)
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    seen, unit = f"the picture as the model saw it, {width} wide and {height} high", ""
    if not fits((x1, y1), (width + TOKEN, height + TOKEN)):
        unit = other_units((x1, y1), source_size)
    if fraction(said.numbers):
        notes.append(f"left out: {said} are fractions, not pixels; nothing was rescaled")
        return None
    if len(said.numbers) == 2:
        if inside != (x0, y0, x1, y1):
            notes.append(f"left out: {said} lies outside of {seen}{unit}")
            return None
        return inside
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        outside = f" inside of {seen}{unit}" * (x0 < x1 and y0 < y1)
        notes.append(f"left out: {said} has no area{outside}")
        return None
    if (x0, y0) != (a, b):
        notes.append(f"corners put in order: {said}")
    if inside != (x0, y0, x1, y1):
        notes.append(f"clipped: {said} reaches beyond {seen}{unit}")
    if max(said.numbers) <= 1:
        notes.append(f"{said} is one pixel, or the whole picture in fractions: read as pixels")
    return inside


def fits(corner: Sequence[float], size: Sequence[float]) -> bool:
    return corner[0] <= size[0] and corner[1] <= size[1]


def fraction(numbers: Sequence[float]) -> bool:
    """Numbers from 0 to 1, not all of them whole: no model names a part of one pixel."""
    return all(0 <= n <= 1 for n in numbers) and any(n % 1 for n in numbers)


def other_units(corner: tuple[float, float], source_size: tuple[int, int] | None) -> str:
    """What numbers may count that lie further than a token beyond the picture (x, y of a corner)."""
    units = ["thousandths of it"] * fits(corner, (1000, 1000))
    if source_size and fits(corner, source_size[::-1]):
        height, width = source_size
        units.append(f"pixels of the picture as it came, {width} wide and {height} high")
    return f"; they may be {' or '.join(units)}, and nothing was rescaled" if units else ""

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
    settled = [(one, settle(one, size, notes)) for one in said]
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


def settle(said: Said, size: tuple[int, int], notes: list[str]) -> tuple[float, float, float,
                                                                         float] | None:
    """Corners in order and inside of the picture; None, with a note, when nothing of it lies there. A
    point comes as a box whose corners coincide.

    Corners the wrong way round are put right, what reaches over the border is clipped (models
    overshoot by some pixels: QwenLM/Qwen3-VL#1035). A box without area is left out, and so is a point
    beyond the border: [-1, -1] and [0, 0, 0, 0] are ways to say that a thing is not there.
    """
    height, width = size
    a, b, c, d = said.numbers * 2 if len(said.numbers) == 2 else said.numbers
    x0, x1, y0, y1 = min(a, c), max(a, c), min(b, d), max(b, d)
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    seen = f"the picture as the model saw it, {width} wide and {height} high"
    if len(said.numbers) == 2:
        if inside != (x0, y0, x1, y1):
            notes.append(f"left out: {said} lies outside of {seen}")
            return None
        return inside
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        notes.append(f"left out: {said} has no area" + f" inside of {seen}" * (x0 < x1 and y0 < y1))
        return None
    if (x0, y0) != (a, b):
        notes.append(f"corners put in order: {said}")
    if inside != (x0, y0, x1, y1):
        notes.append(f"clipped: {said} reaches beyond {seen}")
    return inside

"""Boxes and points on a picture, as a new picture. Needs Pillow only; `plot.found` draws on axes.

    draw.found(load_picture("photo.jpg"), vlm.ground("photo.jpg", "Locate the cat.")).save("cat.png")

Lines grow with the picture. A small picture is enlarged first, by a whole factor and without smoothing,
so that its own pixels can be told and labels be read (`scale_of`). Read next: `run/grounding.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..run.grounding import Found
from .plot import COLOURS, INK, PAPER

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

READABLE, LARGE = 336, 1200            # what a short side is enlarged to; what no long side passes then
Place = tuple[float, float, float, float]


def scale_of(shape: Sequence[int]) -> int:
    """By what whole number a picture (y, b, ...) is enlarged before it is drawn on: 1 unless small."""
    short, long = sorted(shape[:2])
    return max(1, min(math.ceil(READABLE / short), LARGE // long))


def thickness_of(shape: Sequence[int]) -> int:
    """Pixels of a line on a picture of this shape: about a 200th of its side."""
    return max(2, round(math.sqrt(shape[0] * shape[1]) / 200))


def found(pixels: np.ndarray, things: Sequence[Found]) -> Image.Image:
    """A picture (y, b, 3) uint8 with its boxes and points, numbered from 1 in order, as a Pillow image.

    The font that comes with Pillow has Latin letters; for others the number says which is meant.
    """
    from PIL import Image, ImageDraw, ImageFont
    scale = scale_of(pixels.shape)
    image = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    pen, line = ImageDraw.Draw(image), thickness_of((image.height, image.width))
    pen.font = ImageFont.load_default(max(12, 5 * line))
    marks = [(one, _place(one, scale), COLOURS[n % len(COLOURS)]) for n, one in enumerate(things)]
    covered = [(_box if one.box else _point)(pen, place, line, colour) for one, place, colour in marks]
    taken: list[Place] = []
    for n, (one, _, colour) in enumerate(marks):                       # names last: no line crosses one
        taken.append(_name(pen, f"{n + 1} {one.label}".strip(), covered[n], line, colour, taken))
    return image


def _place(one: Found, scale: int) -> Place:
    x0, y0, x1, y1 = one.box or (one.point or (0.0, 0.0)) * 2
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def _box(pen: ImageDraw.ImageDraw, place: Place, line: int, colour: str) -> Place:
    """A frame just inside of the box, so that the border of a box is the outer edge of its line."""
    x0, y0, x1, y1 = map(round, place)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)               # Pillow's last pixel belongs to the frame
    pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=PAPER)
    pen.rectangle((x0, y0, x1, y1), outline=colour, width=line)
    return place


def _point(pen: ImageDraw.ImageDraw, place: Place, line: int, colour: str) -> Place:
    """A disc with a bright rim; its middle pixel is the one that the point lies in."""
    x, y = math.floor(place[0]), math.floor(place[1])
    outer, inner = ((x - r, y - r, x + r, y + r) for r in (3 * line + 1, 2 * line + 1))
    pen.ellipse(outer, fill=PAPER)
    pen.ellipse(inner, fill=colour)
    return outer


def _name(pen: ImageDraw.ImageDraw, text: str, place: Place, line: int, colour: str,
          taken: Sequence[Place]) -> Place:
    """A label on its colour: above the thing, below it or inside, wherever it covers no other label."""
    width, height = pen.im.size
    text = _fitting(pen, text, width - 4 * line)
    left, top, right, bottom = pen.textbbox((0, 0), text)
    wide, high = right - left + 4 * line, bottom - top + 4 * line
    x = max(0.0, min(place[0], width - wide))
    spots = [(x, y, x + wide, y + high) for y in (place[1] - high, place[3], place[1])]
    inside = [spot for spot in spots if spot[1] >= 0 and spot[3] <= height] or [(x, 0.0, x + wide, high)]
    spot = next((one for one in inside if not any(_overlap(one, other) for other in taken)), inside[0])
    pen.rectangle(spot, fill=colour)
    pen.text((spot[0] + 2 * line - left, spot[1] + 2 * line - top), text, fill=PAPER,
             stroke_width=max(1, line // 2), stroke_fill=INK)
    return spot


def _fitting(pen: ImageDraw.ImageDraw, text: str, width: float) -> str:
    """One line of a text, cut where it would leave the picture."""
    text = "".join(c if c.isprintable() else " " for c in text)[:200]
    if pen.textlength(text) <= width:
        return text
    while text and pen.textlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _overlap(a: Place, b: Place) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

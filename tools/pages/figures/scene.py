"""What the figures look at: the embedded model, a picture of two discs, and one recorded run.

Read next: `pixels.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

import minivl

QUESTION = "Describe the image."


class Scene(NamedTuple):
    """A model, one prepared conversation, the pixels of its picture (y b 3), and what every pass gave."""
    vlm: Any
    inputs: Any
    pixels: np.ndarray
    trace: dict[str, Any]
    at: dict[str, np.ndarray]


def two_discs(height: int = 140, width: int = 196, radius: int = 28) -> np.ndarray:
    """A red and a blue disc on light grey: height width 3, uint8."""
    pixels = np.full((height, width, 3), 205, np.uint8)
    y, x = np.ogrid[:height, :width]
    for column, colour in ((width // 4, (222, 40, 40)), (3 * width // 4, (45, 75, 225))):
        pixels[np.hypot(y - height // 2, x - column) < radius] = colour
    return pixels


@cache
def model(precision: str = "float32") -> Any:
    """The embedded model."""
    return minivl.load(precision=precision)


def asked(content: list[dict[str, Any]], precision: str = "float32") -> Any:
    """One message of these pictures, videos and texts, as inputs of the model."""
    return model(precision).prepare([{"role": "user", "content": content}])


@cache
def scene() -> Scene:
    """One run about two discs. Both sides of the picture are multiples of 28 and leave ragged windows."""
    pixels = two_discs()
    inputs = asked([{"type": "image", "image": pixels}, {"type": "text", "text": QUESTION}])
    with minivl.session(record="*") as session:
        model().generate(inputs, max_new_tokens=1)
    return Scene(model(), inputs, pixels, session.trace, minivl.provenance(inputs, model().config))


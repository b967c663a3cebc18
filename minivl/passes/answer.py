"""Boxes of an answer: from pixels of the picture that the model saw to pixels of the one it was given.

The model speaks of the *resized* picture in absolute pixels, x before y. Drawn on the original as they
are, its boxes stand in the wrong place whenever resizing changed a side, and a tool with other pixel
limits resizes to another size (QwenLM/Qwen3-VL#1355). Qwen2-VL and Qwen3-VL speak in thousandths of
the sides instead.

Not here: reading the answer's text and clipping at the border. Read next: `run/answers.py`,
`run/grounding.py`.
"""

from __future__ import annotations

import numpy as np

from ..door.stage import stage


@stage("answer.boxes_to_original", "n 4, 2, 2 -> n 4")
def boxes_to_original(boxes: np.ndarray, size: np.ndarray, source_size: np.ndarray) -> np.ndarray:
    """x0 y0 x1 y1 in pixels of the resized picture -> of the original: n 4 -> n 4, float64, not rounded.

    size and source_size are (height, width), as everywhere; a point is a box whose corners coincide. A
    coordinate is the distance from the left or upper border, so the resized picture's own box is the
    original's, exactly. Each axis has a scale of its own: the sides are rounded to multiples of 28 one
    by one (QwenLM/Qwen3-VL#676).
    """
    return _scaled(boxes, size, source_size)


def boxes_to_resized(boxes: np.ndarray, size: np.ndarray, source_size: np.ndarray) -> np.ndarray:
    """The inverse: what the model should say about boxes of the original. The same arguments, n 4 -> n
    4."""
    return _scaled(boxes, source_size, size)


def _scaled(boxes: np.ndarray, size: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    # 2 -> 4: x y x y
    have, want = (np.array([side[1], side[0]] * 2, np.float64) for side in (size, wanted))
    return boxes * want / have               # the product first: 84 * (100 / 84) need not be 100

"""The pictures of docs/questions.md, drawn by the functions that the lessons use.

    python -m tools.question_pictures        writes docs/pictures/*.png

What they show of the model's numbers is of the embedded model as it is now: run it again when that changes.
Read next: `minivl/plot.py`, docs/questions.md.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

import minivl
from minivl import plot
from minivl.files import write_whole
from minivl.passes.picture import bicubic_weights
from minivl.passes.windows import schedule
from minivl.provenance import provenance

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"


@cache
def scene() -> tuple[Any, Any, np.ndarray]:
    """The embedded model, a conversation about a picture of two discs, and its pixels."""
    vlm = minivl.load()
    pixels = np.full((140, 196, 3), 205, np.uint8)
    y, x = np.ogrid[:140, :196]
    for column, colour in ((50, (222, 40, 40)), (146, (45, 75, 225))):
        pixels[np.hypot(y - 70, x - column) < 28] = colour
    content = [{"type": "image", "image": pixels}, {"type": "text", "text": "Describe the image."}]
    return vlm, vlm.prepare([{"role": "user", "content": content}]), pixels


def patch_order() -> Any:
    vlm, inputs, _ = scene()
    figure = plot.board(1, 1, (7, 5))
    plot.patches(inputs.pixel_values, inputs.image_grid_thw[0], vlm.processor.preprocessor, figure.axes[0])
    return figure


def resize_weights() -> Any:
    figure = plot.board(1, 2, (10, 3))
    plot.resize_weights(*bicubic_weights(10, 16), ax=figure.axes[0])
    plot.resize_weights(*bicubic_weights(30, 12), ax=figure.axes[1])
    return figure


def kinds_of_block(vision: Any) -> dict[str, int]:
    """One windowed and one full block."""
    windowed = next(n for n in range(vision.depth) if n not in vision.fullatt_block_indexes)
    return {"a windowed block": windowed, "a full block": vision.fullatt_block_indexes[0]}


def windows() -> Any:
    vlm, inputs, pixels = scene()
    figure = plot.board(1, 3, (13, 4), width_ratios=[1.5, 1, 1])
    plot.windows(pixels, inputs.image_grid_thw[0], vlm.config, figure.axes[0])
    tables = schedule(inputs.grids, vlm.config.vision)
    for axis, (kind, block) in zip(figure.axes[1:], kinds_of_block(vlm.config.vision).items(), strict=True):
        plot.segments(tables[block], axis)
        axis.set_title(f"{kind}: {axis.get_title()}", size=9)
    return figure


def attention() -> Any:
    vlm, inputs, pixels = scene()
    at = provenance(inputs, vlm.config)
    with minivl.session(record="vision.*") as session:
        vlm.vision(inputs)
    row = int(np.flatnonzero((at["w"][:, 2:] == (4, 3)).all(axis=1))[0])
    figure = plot.board(1, 2, (11, 3.8))
    for axis, (kind, block) in zip(figure.axes, kinds_of_block(vlm.config.vision).items(), strict=True):
        q, k = session.trace[f"vision.blocks.{block}.rotate"]
        plot.attention(q, k, session.trace["vision.schedule"][block], row, "w", at, axis, pixels=pixels)
        axis.plot(3, 4, "w+", ms=12, mew=2)
        axis.set_title(f"what the patch at the cross looks at in {kind}", size=9)
    return figure


def mrope() -> Any:
    vlm, _, pixels = scene()
    content = [{"type": "video", "video": [pixels[:56, :84]] * 6, "fps": 2.0}, {"type": "text", "text": "What moves?"}]
    figure = plot.board(1, 1, (9, 3))
    plot.positions(vlm.prepare([{"role": "user", "content": content}]).position_ids, figure.axes[0])
    return figure


PICTURES: dict[str, Callable[[], Any]] = {
    "patch-order": patch_order, "resize-weights": resize_weights, "windows": windows, "attention": attention,
    "mrope": mrope}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        buffer = io.BytesIO()
        draw().savefig(buffer, format="png", metadata={"Software": None})
        write_whole(FOLDER / f"{name}.png", methodcaller("write", buffer.getvalue()))
        print(FOLDER / f"{name}.png", len(buffer.getvalue()))


if __name__ == "__main__":
    main()

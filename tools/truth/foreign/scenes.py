"""What the port and minivl are asked: a few prompts, and the golden trace of each.

Read next: `variants.py`, which names the scene on which a fault shows and the one on which it hides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import minivl
from minivl.api import VLM
from minivl.run.inputs import Inputs
from minivl.truth.museum import cases
from minivl.truth.trace.record import record

YARDSTICKS = ("float32", "float16", "bfloat16", "int8")
Messages = list[dict[str, Any]]


def _long(vlm: VLM) -> Messages:
    return cases.user(cases.picture(3, 5), cases.said("one two three " * 60))


SCENES: dict[str, Callable[[VLM], Messages]] = {
    # windows of 2 x 2 cells, cut off at both edges
    "ragged": lambda vlm: cases.user(cases.picture(5, 7)),
    "one window": lambda vlm: cases.user(cases.picture(*[vlm.config.vision.window_cells] * 2)),
    "text": lambda vlm: cases.user(cases.said("Two red circles and a blue square.")),
    "two pictures": lambda vlm: cases.user(cases.picture(3, 2), cases.said("and"), cases.picture(2, 5, 9)),
    "long": _long,
    "mostly text": lambda vlm: cases.user(cases.picture(1, 1), cases.said("one two three " * 60)),
}


def model(folder: str | Path | None = None) -> VLM:
    """The model that both compute; without a folder the embedded one."""
    return minivl.load(folder and str(folder), precision="float64")


def golden(vlm: VLM, scene: str, path: str | Path) -> Inputs:
    """Write the golden trace of a scene; its inputs."""
    messages = SCENES[scene](vlm)
    record(vlm, messages, path, yardsticks=YARDSTICKS)
    return vlm.prepare(messages)

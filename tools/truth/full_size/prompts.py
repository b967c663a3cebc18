"""Twenty prompts for a model of noise: pictures of awkward sizes, several of them, videos, and text
alone.

Sizes are in pixels and hardly ever whole cells of 28; windows of 112 are cut off on either side, met
exactly, or not filled. Words are drawn from the whole vocabulary, so that every part of the table of
words is read.
Read next: `sides.py`.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from minivl.api import VLM
from minivl.config import ModelConfig
from minivl.run.inputs import Inputs

AFTER_VIDEO = "tf5"  # positions after a video as transformers 5 itself counts them


class Video(NamedTuple):
    """So many frames of rows x columns pixels, at a rate."""

    frames: int
    rows: int
    columns: int
    fps: float


Item = tuple[int, int] | Video | str  # a picture's rows and columns, a video, or text

PROMPTS: dict[str, tuple[Item, ...]] = {
    "a strip of one row": ((28, 131), "What is in this picture?"),
    "a strip of one column": ((211, 33), "What is it?"),
    "smaller than a window": ((61, 67), "Describe it."),
    "one whole window": ((112, 112), "Describe it."),
    "cut off on both sides": ((147, 173), "What is on the left?"),
    "cut off below": ((230, 112), "What is this?"),
    "cut off on the right": ((110, 301), "Read the text."),
    "four whole windows": ((224, 224), "How many are there?"),
    "wide": ((87, 402), "What is written here?"),
    "tall": ((389, 97), "Is this a tower?"),
    "text before": ("Look at this, and tell me what you think of it:", (141, 199)),
    "two pictures": ((99, 160), (155, 90), "What is different?"),
    "text between": ("First", (84, 84), "then", (70, 200), "which came first?"),
    "three pictures": ((57, 57), (113, 140), (200, 60), "Which is the largest?"),
    "a video": (Video(4, 112, 84, 2.0), "What happens?"),
    "an odd number of frames": (Video(5, 84, 113, 1.0), "What happens at the end?"),
    "a fast video": (Video(6, 56, 112, 4.0), "How fast is it?"),
    "a video, then a picture": (Video(4, 84, 84, 2.0), "and", (90, 145), "Is this from the video?"),
    "a short text": ("Hello",),
    "a longer text": ("Explain in a few sentences how a picture becomes words, " * 6,),
}


def prompts(vlm: VLM, count: int = len(PROMPTS), seed: int = 0) -> dict[str, Inputs]:
    """The first `count` of them, spread evenly over the list, by name."""
    names = list(PROMPTS)
    chosen = [names[n * len(names) // count] for n in range(count)]
    return {
        name: _worded(
            _prepared(vlm, PROMPTS[name], seed + names.index(name)), vlm.config, names.index(name)
        )
        for name in chosen
    }


def _prepared(vlm: VLM, items: tuple[Item, ...], seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    content: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, str):
            content.append({"type": "text", "text": item})
        elif isinstance(item, Video):
            shape = (item.frames, item.rows, item.columns, 3)
            content.append(
                {"type": "video", "video": list(rng.integers(0, 256, shape, np.uint8)), "fps": item.fps}
            )
        else:
            content.append({"type": "image", "image": rng.integers(0, 256, (*item, 3), np.uint8)})
    inputs: Inputs = vlm.prepare([{"role": "user", "content": content}], after_video=AFTER_VIDEO)
    return inputs


def _worded(inputs: Inputs, config: ModelConfig, seed: int) -> Inputs:
    """Every ordinary token is another one, drawn from the whole vocabulary."""
    special = {
        value
        for field in fields(config)
        if field.name.endswith("_token_id")
        for value in np.atleast_1d(getattr(config, field.name)).tolist()
        if value is not None
    }
    ordinary = np.setdiff1d(np.arange(config.text.vocab_size), sorted(special))
    drawn = np.random.default_rng(seed).choice(ordinary, len(inputs.input_ids))
    return replace(
        inputs, input_ids=np.where(np.isin(inputs.input_ids, sorted(special)), inputs.input_ids, drawn)
    )


def answered(inputs: Inputs, tokens: list[int]) -> Inputs:
    """The same prompt with an answer at its end; each token of it stands one further on every axis."""
    at = inputs.position_ids
    further = at[:, -1:] + np.arange(1, len(tokens) + 1)
    return replace(
        inputs,
        input_ids=np.concatenate([inputs.input_ids, np.asarray(tokens, np.int64)]),
        position_ids=np.concatenate([at, further], axis=1),
    )

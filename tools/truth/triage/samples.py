"""Reading samples for triage: a number or a word on a picture, asked for in the ways in which prompts differ.

    for sample in draw(200, seed=0, folder=Path("samples")): ...       # pictures are written into the folder as PNG

One picture before or after its question, two pictures, a video whose writing changes, a number in the text alone; sizes
that fill one window, many, or parts of them, whole cells and others. Read next: `candidates.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...train_tiny.world import Rng, number, picture_of_text, word

Content = list[dict[str, Any]]


@dataclass(frozen=True)
class Reading:
    """A conversation in the official message format, its pictures as names of files in a folder, and the truth."""
    name: str
    messages: list[dict[str, Any]]
    expected: str


def draw(count: int, seed: int, folder: Path) -> list[Reading]:
    """So many samples, the same for a seed on every machine; the n-th does not depend on how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_reading(f"{n:03}", np.random.default_rng([seed, n]), folder) for n in range(count)]


def _reading(name: str, rng: Rng, folder: Path) -> Reading:
    content, expected = LAYOUTS[int(rng.choice(len(LAYOUTS), p=SHARES))](rng)
    saved = [_saved(item, name, n, folder) for n, item in enumerate(content)]
    return Reading(name, [{"role": "user", "content": saved}], expected)


def _saved(item: dict[str, Any], name: str, n: int, folder: Path) -> dict[str, Any]:
    """An item with its pictures in files."""
    def save(pixels: np.ndarray, suffix: str) -> str:
        path = f"{name}-{n}{suffix}.png"
        Image.fromarray(pixels).save(folder / path)
        return path
    if item["type"] == "image":
        return {**item, "image": save(item["image"], "")}
    if item["type"] == "video":
        return {**item, "video": [save(frame, f"-{t}") for t, frame in enumerate(item["video"])]}
    return item


def written(rng: Rng) -> tuple[np.ndarray, str, str]:
    """A picture, what it is a picture of, and what is written there."""
    if rng.random() < 0.5:
        text, what = number(rng, int(rng.integers(1, 5))), "number"
    else:
        text, what = word(rng, 2, 4), "word"
    return picture_of_text(rng, text).frames[0], what, text


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def picture_first(rng: Rng) -> tuple[Content, str]:
    pixels, what, text = written(rng)
    return [{"type": "image", "image": pixels}, _said(f"What {what} is written?")], text


def picture_last(rng: Rng) -> tuple[Content, str]:
    pixels, what, text = written(rng)
    return [_said(f"Read the {what}."), {"type": "image", "image": pixels}], text


def two_pictures(rng: Rng) -> tuple[Content, str]:
    (one, _, _), (other, what, text) = written(rng), written(rng)
    return [{"type": "image", "image": one}, {"type": "image", "image": other}, _said(f"What {what} is written?")], text


def video(rng: Rng) -> tuple[Content, str]:
    """Four to eight frames; the writing appears half-way."""
    pixels, what, text = written(rng)
    half = int(rng.integers(2, 5))
    blank = np.full_like(pixels, pixels[0, 0])
    frames = [*[blank] * half, *[pixels] * half]
    return [{"type": "video", "video": frames, "fps": float(rng.choice([1, 2, 4]))},
            _said(f"What {what} is written?")], text


def text_only(rng: Rng) -> tuple[Content, str]:
    text = number(rng, int(rng.integers(2, 5)))
    return [_said(f"The number is {text}. Read the number.")], text


LAYOUTS: tuple[Callable[[Rng], tuple[Content, str]], ...] = (picture_first, picture_last, two_pictures, video,
                                                             text_only)
SHARES = (0.3, 0.2, 0.2, 0.2, 0.1)

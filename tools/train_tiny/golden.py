"""Golden answers: 200 held-out questions with the tokens that the reference answers, for every interpreter to match.

Chosen so that no honest rounding can change them: at every token the best score leads the second by more than 100
times the error that float32 has there against float64. The pictures are drawn anew from their seeds by whoever tests;
a digest tells a picture that came out otherwise from an answer that did.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minivl
from minivl.door.files import write_whole
from minivl.run.inputs import Inputs

from .evaluate import answer_by_transformers, answers_of
from .packing import Sample
from .rows import ROWS, messages

PATH = Path(__file__).parents[2] / "tests" / "golden_answers.json"
COUNT, SEED, MARGIN = 200, 77, 100
ASKED = [row for row in ROWS if row.tier in "AB"]


def sample(row: str, number: int) -> Sample:
    """The sample of a golden answer."""
    found = next(one for one in ASKED if one.name == row)
    return found.draw(np.random.default_rng([SEED + 10**6, number]))


def digest(one: Sample) -> str:
    """Of the native pixels, to tell a changed picture from a changed answer."""
    return hashlib.sha256(b"".join(clip.frames.tobytes() for clip in one.clips)).hexdigest()[:16]


def forced(inputs: Inputs, answer: list[int], vlm: minivl.VLM) -> np.ndarray:
    """Scores of every token of an answer, after the true ones before it: n v."""
    ids = np.concatenate([inputs.input_ids, answer[:-1]])
    media = {"pixel_values": inputs.pixel_values, "image_grid_thw": inputs.image_grid_thw,
             "pixel_values_videos": inputs.pixel_values_videos, "video_grid_thw": inputs.video_grid_thw,
             "second_per_grid_ts": inputs.second_per_grid_ts}
    longer = Inputs.from_ids(ids, vlm.config, **media)
    return vlm.logits(longer)[len(inputs.input_ids) - 1:].astype(np.float64)


def lead(exact: np.ndarray, rounded: np.ndarray) -> float:
    """The smallest lead of the best score, in float32 errors of its own row."""
    best = np.sort(exact, axis=-1)
    return float(((best[:, -1] - best[:, -2]) / np.maximum(np.abs(exact - rounded).max(axis=-1), 1e-12)).min())


def choose(folder: Path) -> Iterator[dict[str, Any]]:
    """Golden answers, row after row in turn, until there are enough."""
    with minivl.load(folder) as vlm, minivl.load(folder, "float64") as exact:
        engine, found, number = answer_by_transformers(folder), 0, 0
        while found < COUNT:
            drawn = [(row, sample(row.name, number)) for row in ASKED]
            inputs = [vlm.prepare(messages(one.clips, one.turns[0])) for _, one in drawn]
            for (row, one), given, tokens in zip(drawn, inputs, answers_of(engine, inputs), strict=True):
                clear = lead(forced(given, tokens, exact), forced(given, tokens, vlm)) > MARGIN
                if clear and found < COUNT:
                    found += 1
                    yield {"row": row.name, "number": number, "pixels": digest(one), "tokens": tokens}
            number += 1
            if number > 20 * COUNT:
                raise RuntimeError(f"only {found} of {number * len(ASKED)} answers are clear enough to be golden")


def write(folder: Path, path: Path = PATH) -> int:
    """Write the golden answers of a checkpoint; how many there are."""
    rows = list(choose(folder))
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")))
    return len(rows)

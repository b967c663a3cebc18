"""The rows of the evaluation: what each asks, of which tier it is, and the figures that were set for it beforehand.

Read next: `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from . import tasks
from .packing import Sample, Turn
from .world import FPS_UNSEEN, Clip, Rng, fitted, picture_of_shapes


@dataclass(frozen=True)
class Row:
    """measures: name of a score -> (floor, aim). draw gives a sample with one question."""
    tier: str
    name: str
    task: str
    draw: Callable[[Rng], Sample]
    measures: dict[str, tuple[float, float]]

    def samples(self, count: int, seed: int) -> list[Sample]:
        """`count` samples that no training has seen: a run's seeds begin with its own seed, these with a million."""
        return [self.draw(np.random.default_rng([seed + 10**6, i])) for i in range(count)]


def asked(ask: tasks.Ask, rng: Rng, most: int = 6) -> Sample:
    """A picture of shapes about which this can be asked."""
    while True:
        clip = picture_of_shapes(rng, most)
        turn = ask(rng, fitted(clip))
        if turn:
            return Sample([clip], [turn])


def crowded(rng: Rng) -> Sample:
    """A picture of five or six things, to be described."""
    sample = asked(tasks.describe, rng)
    return sample if len(sample.clips[0].things) > 4 else crowded(rng)


def one_of(draw: Callable[[Rng], Sample], task: str, rng: Rng) -> Sample:
    """A sample with the first question of this task that it has."""
    while True:
        sample = draw(rng)
        for turn in sample.turns:
            if turn.task == task:
                return Sample(sample.clips, [turn])


def followed(rng: Rng) -> Sample:
    sample = one_of(tasks.dialogue_sample, "find", rng)
    return sample if sample.turns[0].question == "Where is it?" else followed(rng)


def deny_or_not(rng: Rng) -> Sample:
    """Half of the questions are about what is there: who denies everything is right about the other half only."""
    if rng.random() < 0.5:
        return asked(tasks.deny, rng)
    sample = asked(tasks.find, rng)
    return Sample(sample.clips, [replace(sample.turns[0], task="deny")])


def unseen_rate(rng: Rng) -> Sample:
    return one_of(partial(tasks.video_sample, fps=float(rng.choice(FPS_UNSEEN))), "when", rng)


def _right(floor: float, aim: float) -> dict[str, tuple[float, float]]:
    return {"right": (floor, aim)}


ROWS = (
    Row("A", "describe 1 to 4 objects: exact set", "describe", partial(asked, tasks.describe, most=4),
        _right(0.88, 0.95)),
    Row("A", "count", "count", partial(asked, tasks.count), _right(0.94, 0.97)),
    Row("A", "yes or no, hard negatives", "exists", partial(asked, tasks.exists), _right(0.97, 0.98)),
    Row("A", "find one: IoU above 0.5; mean IoU", "find", partial(asked, tasks.find),
        {"right": (0.85, 0.95), "iou": (0.70, 0.80)}),
    Row("A", "read numbers of 1 to 4 digits", "number", partial(one_of, tasks.number_sample, "number"),
        _right(0.90, 0.95)),
    Row("A", "video: what appears or leaves", "what", partial(one_of, tasks.video_sample, "what"), _right(0.90, 0.95)),
    Row("A", "video: when, within 0.5 s", "when", partial(one_of, tasks.video_sample, "when"), _right(0.90, 0.95)),
    Row("B", "relations", "relation", partial(asked, tasks.relation), _right(0.90, 0.95)),
    Row("B", "detect all: F1 at IoU 0.5", "detect", partial(asked, tasks.detect), {"f1": (0.75, 0.90)}),
    Row("B", "read short words", "word", partial(one_of, tasks.word_sample, "word"), _right(0.70, 0.85)),
    Row("B", "when, at frame rates never seen", "when", unseen_rate, _right(0.85, 0.90)),
    Row("B", "deny what is not there, and only that", "deny", deny_or_not, _right(0.97, 0.98)),
    Row("B", "name what is at a point", "point", partial(asked, tasks.at_point), _right(0.93, 0.97)),
    Row("B", "form into JSON", "form", partial(one_of, tasks.invoice_sample, "form"), _right(0.70, 0.85)),
    Row("B", "screen: where to click", "click", partial(one_of, tasks.screen_sample, "click"), _right(0.85, 0.92)),
    Row("C", "describe 5 or 6 objects: exact set", "describe", crowded, {}),
    Row("C", "name a colour or a shape", "attribute", partial(asked, tasks.attribute), {}),
    Row("C", "two pictures: what differs", "differ", tasks.differ_sample, {}),
    Row("C", "small table into HTML", "table", tasks.table_sample, {}),
    Row("C", "bar chart values", "chart", partial(one_of, tasks.chart_sample, "chart"), {}),
    Row("C", "the odd one out", "odd", tasks.odd_sample, {}),
    Row("C", "dialogue: where is it?", "find", followed, {}),
)


def messages(clips: list[Clip], turn: Turn) -> list[dict]:
    """A sample's question, with its earlier turns, in the official message format."""
    media = [{"type": "image", "image": clip.frames[0]} if clip.fps is None else
             {"type": "video", "video": list(clip.frames), "fps": clip.fps} for clip in clips]
    texts = [text for pair in turn.before for text in pair] + [turn.question]
    out = [{"role": ("user", "assistant")[i % 2], "content": [{"type": "text", "text": text}]}
           for i, text in enumerate(texts)]
    out[0]["content"] = [*media, *out[0]["content"]]      # type: ignore[list-item]
    return out



"""The smallest inputs on which faults show, and those on which they do not: a few pictures, videos and
texts.

    ragged.run(vlm)              # prepares the conversation, runs it, writes `tokens` tokens

Pictures are noise, cut to whole cells whatever the checkpoint's limits are; sizes are taken from the
model's window, so that a case means the same for every checkpoint. Read next: `fault.py`, whose
exhibits name these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...api import VLM
from ...run.grounding import locate
from ...run.inputs import Inputs

CELL = 28                                # pixels
SEED = 5
SEEN = ("prompt.expand", "decoder.logits", "sampling.penalise", "answer.boxes_to_original")
A_BOX = '[{"bbox_2d": [7, 14, 28, 49], "label": "it"}]'


@dataclass(frozen=True)
class Case:
    """One or more conversations and what is asked of the model. `name` goes into sentences."""
    name: str
    build: Callable[[VLM], list[Any]]    # messages, or Inputs where messages cannot say it
    tokens: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""                      # an answer about the first picture whose boxes are to be located

    def prepare(self, vlm: VLM) -> list[Inputs]:
        """The conversations, ready for the model."""
        return [one if isinstance(one, Inputs) else vlm.prepare(one) for one in self.build(vlm)]

    def run(self, vlm: VLM) -> None:
        """From the picture to the last token; whoever wants to see it opens a session."""
        options = {"repetition_penalty": 1.0, **self.options}
        conversations = self.prepare(vlm)
        vlm.generate(conversations, self.tokens, stop_ids=(), **options)
        if self.says:
            medium = conversations[0].media[0]
            assert medium.size is not None and medium.source_size is not None
            locate(self.says, medium.size, medium.source_size)


def noise(rows: int, columns: int, seed: int = SEED) -> np.ndarray:
    """A picture of noise, (y, b, 3) uint8, of so many pixels."""
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def unlimited(kind: str, medium: Any, **more: Any) -> dict[str, Any]:
    """An item that is never resized for its area: the limits of the checkpoint do not count."""
    return {"type": kind, kind: medium, "min_pixels": CELL**2, "max_pixels": 4096 * CELL**2, **more}


def picture(rows: int, columns: int, seed: int = SEED) -> dict[str, Any]:
    """A picture of rows x columns cells."""
    return unlimited("image", noise(CELL * rows, CELL * columns, seed))


def video(pairs: int, rows: int, columns: int, fps: float) -> dict[str, Any]:
    """A video of so many pairs of frames."""
    return unlimited("video", [noise(CELL * rows, CELL * columns, SEED + n) for n in range(2 * pairs)],
                     fps=fps)


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """One user's message: the items, then a question."""
    return [{"role": "user", "content": [*items, said("What is it?")]}]


def side(vlm: VLM) -> int:
    """Cells along a window's side."""
    return vlm.config.vision.window_cells


def _with_patches(vlm: VLM, change: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    inputs = vlm.prepare(user(picture(2, 2)))
    return [replace(inputs, patches=change(inputs.patches))]


def _first_times(patches: np.ndarray, factor: float) -> np.ndarray:
    return np.concatenate([patches[:1] * np.float32(factor), patches[1:]])


def _long(vlm: VLM) -> list[Any]:
    ids = vlm.tokenizer.encode("one two three " * 90)[:262]
    return [Inputs.from_ids(ids, vlm.config)]


text = Case("a text", lambda vlm: [user()])
long_text = Case("a text of 262 tokens", _long)
answered_text = Case("a text and its answer", lambda vlm: [user()], tokens=3)
cell = Case("a picture of one cell", lambda vlm: [user(picture(1, 1))])
small = Case("a picture of 2 x 2 cells", lambda vlm: [user(picture(2, 2))])
wide = Case("a picture of 1 x 2 cells", lambda vlm: [user(picture(1, 2))])
many_cells = Case("a picture of 13 x 13 cells", lambda vlm: [user(picture(13, 13))])
whole_bucket = Case("a picture of 4 x 4 cells", lambda vlm: [user(picture(4, 4))])
one_window = Case("a picture of one window", lambda vlm: [user(picture(side(vlm), side(vlm)))])
two_windows = Case("a picture of two whole windows",
                   lambda vlm: [user(picture(side(vlm), 2 * side(vlm)))])
ragged = Case("a picture with windows cut off at both edges",
              lambda vlm: [user(picture(side(vlm) + 1, 2 * side(vlm) + 1))])
two_pictures = Case("two pictures of different sizes",
                    lambda vlm: [user(picture(1, 2), said("and"), picture(2, 1))])
picture_last = Case("a picture after its question", lambda vlm: [
    [{"role": "user", "content": [said("What is it?"), picture(1, 1)]}]])
two_frames = Case("a video of two pairs of frames", lambda vlm: [user(video(2, 1, 1, 2.0))])
slow_video = Case("a video of 1 frame a second", lambda vlm: [user(video(2, 1, 1, 1.0))])
fast_video = Case("a video of 4 frames a second", lambda vlm: [user(video(3, 1, 1, 4.0))])
video_first = Case("a video, then a picture",
                   lambda vlm: [user(video(1, 1, 1, 2.0), said("and"), picture(1, 2))])
answered = Case("a picture and its answer", lambda vlm: [user(picture(2, 2))], tokens=3)
two_requests = Case("two conversations at once", lambda vlm: [user(), user(picture(2, 2))], tokens=3)
penalised = Case("an answer with a penalty", lambda vlm: [user()], tokens=2,
                 options={"repetition_penalty": 1.3})
shrunk = Case("a picture shrunk to half", lambda vlm: [
    user({"type": "image", "image": noise(4 * CELL, 4 * CELL), "max_pixels": 4 * CELL**2,
          "min_pixels": CELL**2})])
enlarged = Case("a picture that grows by a quarter", lambda vlm: [
    user(unlimited("image", noise(45, 45)))])
located = Case("a box in a picture that was resized", enlarged.build, says=A_BOX)
located_as_it_is = Case("a box in a picture of whole cells", small.build, says=A_BOX)
square = Case("a square picture", small.build)
exact_either_way = Case("a picture of 224 x 224 pixels", lambda vlm: [user(picture(8, 8))])
largest = Case("a picture at the limit of its area", lambda vlm: [
    user({"type": "image", "image": noise(4 * CELL, 4 * CELL), "max_pixels": 16 * CELL**2,
          "min_pixels": CELL**2})])
smaller = Case("a picture of a quarter of its limit", lambda vlm: [
    user({"type": "image", "image": noise(2 * CELL, 2 * CELL), "max_pixels": 16 * CELL**2,
          "min_pixels": CELL**2})])
bright = Case("a patch a million times too bright",
              lambda vlm: _with_patches(vlm, lambda x: _first_times(x, 1e6)))
faint = Case("a patch of very nearly the mean colour",
             lambda vlm: _with_patches(vlm, lambda x: _first_times(x, 1e-4)))

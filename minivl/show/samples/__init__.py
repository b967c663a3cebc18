"""Sample pictures of the small world that the embedded model knows: shapes, writing, short videos.

    for sample in minivl.show.samples.load_samples():
        print(sample.question, sample.answer)
        vlm.chat(sample.messages())

`samples.json` holds question and true answer of each; what a model says is for the model to say. Some
are kept *because* the model was wrong about them. `tools/checkpoints/make_samples.py` makes this folder.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
GOOD_OVERLAP = 0.5              # a box counts as right from this intersection over union on
NEAR = 0.5                      # seconds by which a moment may be off
WORLD = ("coloured shapes on plain, shaded, patterned or grainy ground, numbers and short words in a "
         "few fonts, simple forms, screens, tables and bar charts, and short videos of shapes that "
         "appear or leave")


@dataclass(frozen=True)
class Sample:
    """One picture, or the frames of a video, with a question and its true answer."""
    name: str
    paths: tuple[Path, ...]      # one file, or one for each frame
    fps: float | None            # frames per second of a video; None for a picture
    question: str
    answer: str
    kept_as_failure: bool        # the model was wrong about it when the file was made
    note: str                    # what is special about it

    def messages(self) -> list[dict[str, Any]]:
        """The question in the official message format, ready for `VLM.chat` and `VLM.prepare`."""
        if self.fps is None:
            medium: dict[str, Any] = {"type": "image", "image": self.paths[0]}
        else:
            medium = {"type": "video", "video": list(self.paths), "fps": self.fps}
        return [{"role": "user", "content": [medium, {"type": "text", "text": self.question}]}]

    def is_right(self, said: str) -> bool:
        """Whether an answer is the true one: the same words; for boxes an overlap of at least a half, or
        a point inside; for moments half a second."""
        truth, boxes, points = boxes_in(self.answer), boxes_in(said), points_in(said)
        if truth and points:
            return len(points) == len(truth) and all(map(_inside, points, truth))
        if truth:
            return len(boxes) == len(truth) and all(map(_overlap_enough, boxes, truth))
        moments = moment_in(self.answer), moment_in(said)
        if None not in moments:
            return abs(moments[0] - moments[1]) <= NEAR + 1e-6               # type: ignore[operator]
        return _words(said) == _words(self.answer)


def load_samples(folder: Path = FOLDER) -> list[Sample]:
    """All samples of a folder, in the order of its samples.json."""
    rows = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    return [Sample(paths=tuple(folder / file for file in row.pop("files")), **row) for row in rows]


def boxes_in(text: str) -> list[tuple[int, ...]]:
    """Every [x0, y0, x1, y1] in a text."""
    found = re.findall(r"\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]", text)
    return [tuple(map(int, box)) for box in found]


def points_in(text: str) -> list[tuple[int, ...]]:
    """Every point_2d [x, y] in a text."""
    found = re.findall(r'"point_2d":\s*\[\s*(\d+)\s*,\s*(\d+)\s*\]', text)
    return [tuple(map(int, point)) for point in found]


def moment_in(text: str) -> float | None:
    """The seconds of an answer such as `At 1.5 s.`."""
    found = re.fullmatch(r"At (\d+(?:\.\d+)?) s\.", text.strip())
    return float(found[1]) if found else None


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1; 0 when either is empty."""
    def area(x0: int, y0: int, x1: int, y1: int) -> int:
        return max(0, x1 - x0) * max(0, y1 - y0)
    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(a[0], a[1], a[2], a[3]) + area(b[0], b[1], b[2], b[3]) - shared
    return shared / union if union else 0.0


def _inside(point: tuple[int, ...], box: tuple[int, ...]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def _overlap_enough(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return overlap(a, b) >= GOOD_OVERLAP


def _words(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")

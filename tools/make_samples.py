"""Make minivl/samples anew: small pictures of the embedded model's world, chosen by asking the embedded model.

    python tools/make_samples.py [--seed 15] [--output minivl/samples]

Each slot below says what kind of picture is wanted and whether the model should be right about it; candidates are drawn
until one fits. Slots that want a failure are as much part of the samples as the others: a demonstration that hides
what a model cannot do misleads. The same seed and the same checkpoint give the same files.

Not here: training data. Read next: `minivl/samples/__init__.py`, which reads what is written here.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import minivl
from minivl.samples import FOLDER, Sample, load_samples

COLOURS = {"red": (222, 40, 40), "green": (40, 165, 60), "blue": (45, 75, 225), "yellow": (242, 218, 45),
           "purple": (140, 55, 185), "orange": (247, 135, 25), "cyan": (45, 205, 222), "pink": (247, 135, 190)}
JITTER, TILT, FINE = 18, 0.25, 4      # grey levels, radians, and how many times finer masks are drawn
TRIES = 30                            # a picture found after many more would show luck, not skill
MOST_BYTES = 60_000
Rng = np.random.Generator
Drawn = tuple[list[np.ndarray], str, str]              # frames (one for a picture), question, true answer


# ------------------------------------------------------------------------------------------------- shapes on a ground

def ring(radii: list[float], count: int) -> np.ndarray:
    """`count` corners around the origin, the first on top, at the given radii in turn: count 2."""
    angle = np.arange(count) * 2 * np.pi / count
    radius = np.resize(radii, count)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


ARM = 0.34
OUTLINES = {                          # corners (x, y) for a radius of one, y downwards
    "circle": ring([1.0], 90),
    "square": 0.9 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": np.array([(0, -1), (0.95, 0.75), (-0.95, 0.75)]),
    "star": ring([1.08, 0.45], 10),
    "cross": np.array([(-ARM, -1), (ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM),
                       (ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM), (-1, -ARM), (-ARM, -ARM)]),
}


class Thing(NamedTuple):
    """One shape in a picture. mask: (h, w), 0..1; box: x0 y0 x1 y1 in pixels, ends not included."""
    colour: str
    shape: str
    rgb: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def mask_of(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel a polygon covers: corners (n, 2) in pixels -> h w."""
    fine = Image.new("L", (size[1] * FINE, size[0] * FINE))
    ImageDraw.Draw(fine).polygon([tuple(corner) for corner in corners * FINE], fill=255)
    return np.asarray(fine.reduce(FINE)) / 255


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.5), np.flatnonzero(mask.max(axis=0) > 0.5)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def thing(rng: Rng, size: tuple[int, int], least: float, most: float) -> Thing:
    """A shape of random kind, colour, tilt and place, `least` to `most` pixels across, two off the edge."""
    colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(list(OUTLINES)))
    radius = rng.uniform(min(least, most - 2), most) / 2
    tilt = rng.uniform(-TILT, TILT)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    corners = radius * OUTLINES[shape] @ turn.T
    low, high = 2 - corners.min(axis=0), np.array(size[::-1]) - 2 - corners.max(axis=0)
    mask = mask_of(corners + rng.uniform(low, np.maximum(low, high)), size)
    rgb = np.clip(np.array(COLOURS[colour]) + rng.uniform(-JITTER, JITTER, 3), 0, 255)
    return Thing(colour, shape, rgb, mask, box_of(mask))


def scene(rng: Rng, size: tuple[int, int], count: int, least: float = 16) -> list[Thing]:
    """`count` things, all of different colours and shapes, that do not touch: every question has one answer."""
    most = min(64, min(size) * {1: 0.72, 2: 0.6}.get(count, 0.48))
    things: list[Thing] = []
    while len(things) < count:
        new = thing(rng, size, least, most)
        if all(new.colour != old.colour and new.shape != old.shape and apart(new.box, old.box) for old in things):
            things.append(new)
    return things


def apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[2] + 3 < b[0] or b[2] + 3 < a[0] or a[3] + 3 < b[1] or b[3] + 3 < a[1]


def ground(rng: Rng, size: tuple[int, int], kind: str) -> np.ndarray:
    """A background (h, w, 3), floating: plain, a gradient between two tints, or grainy."""
    first, second = (rng.uniform(30, 225) + rng.uniform(-22, 22, 3) for _ in range(2))
    down, across = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
    if kind == "gradient":
        angle = rng.uniform(0, np.pi / 2)
        mix = (down * np.sin(angle) + across * np.cos(angle)) / (np.sin(angle) + np.cos(angle))
        return first + mix[:, :, None] * (second - first)
    grain = rng.normal(0, 12, size) if kind == "grainy" else np.zeros(size)
    return first + grain[:, :, None]


def paint(canvas: np.ndarray, things: list[Thing]) -> np.ndarray:
    """Things laid over a background, as uint8 (h, w, 3)."""
    for one in things:
        canvas = canvas + one.mask[:, :, None] * (one.rgb - canvas)
    return np.rint(np.clip(canvas, 0, 255)).astype(np.uint8)


# ----------------------------------------------------------------------------------------------- questions and answers

def with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def describe(things: list[Thing]) -> tuple[str, str]:
    names = [with_article(t.name) for t in sorted(things, key=lambda t: t.centre[0])]
    if len(things) == 1:
        return "Describe the image.", sentence(names[0])
    if len(things) > 2:
        return "Describe the image.", f"From left to right: {', '.join(names[:-1])} and {names[-1]}."
    (x0, y0), (x1, y1) = (t.centre for t in things)
    aside = abs(x0 - x1) >= abs(y0 - y1)
    first, second = sorted(things, key=lambda t: t.centre[0 if aside else 1])
    relation = "left of" if aside else "above"
    return "Describe the image.", sentence(f"{with_article(first.name)} is {relation} {with_article(second.name)}")


def count(things: list[Thing]) -> tuple[str, str]:
    return "How many objects are there?", str(len(things))


def colour_of(things: list[Thing]) -> tuple[str, str]:
    return f"What color is the {things[0].shape}?", sentence(things[0].colour)


def shape_of(things: list[Thing]) -> tuple[str, str]:
    return f"What shape is the {things[0].colour} object?", sentence(things[0].shape)


def is_there(things: list[Thing]) -> tuple[str, str]:
    """A question whose answer is no although the colour and the shape both are in the picture."""
    return f"Is there {with_article(f'{things[0].colour} {things[1].shape}')}?", "No."


def locate(things: list[Thing]) -> tuple[str, str]:
    label = json.dumps([{"bbox_2d": list(things[0].box), "label": things[0].name}])
    return f"Locate the {things[0].name}.", label


# ------------------------------------------------------------------------------------------------------------- samples

class Slot(NamedTuple):
    """A picture that is wanted: its size (height, width), its question, and whether the model should be right."""
    name: str
    size: tuple[int, int]
    things: int
    ground: str
    ask: Callable[[list[Thing]], tuple[str, str]]
    right: bool
    note: str
    least: float = 16               # pixels across


SLOTS = [
    Slot("odd-size", (150, 203), 1, "gradient", describe, True, "no multiple of 28: resized to 140 x 196", 52),
    Slot("ragged", (140, 196), 2, "plain", count, True, "5 x 7 cells: windows are cut off at two edges"),
    Slot("tall", (196, 112), 2, "plain", colour_of, True, "7 x 4 cells: windows are cut off below"),
    Slot("thin", (28, 168), 1, "plain", shape_of, True, "lower than a window; thinner than any training picture"),
    Slot("grain", (56, 84), 2, "grainy", shape_of, True, "two windows, one of them half as wide; a grainy background"),
    Slot("left-right", (112, 168), 2, "plain", describe, True, "two objects and their relation"),
    Slot("crowd", (140, 168), 3, "gradient", describe, False, "three objects in order are hard"),
    Slot("mixed", (84, 112), 2, "plain", is_there, False, "colour and shape are both there, on different objects"),
    Slot("box", (112, 112), 1, "plain", locate, False, "where exactly an object is"),
]


def draw_slot(slot: Slot, rng: Rng) -> Drawn:
    things = scene(rng, slot.size, slot.things, slot.least)
    return [paint(ground(rng, slot.size, slot.ground), things)], *slot.ask(things)


def draw_digit(rng: Rng) -> Drawn:
    """One digit in Pillow's own font, far enough in lightness from its background."""
    size, digit = (84, 84), str(rng.integers(10))
    canvas, font = ground(rng, size, "plain"), ImageFont.load_default(int(rng.integers(36, 50)))
    paper = Image.new("L", size[::-1])
    ImageDraw.Draw(paper).text((42, 42), digit, font=font, fill=255, anchor="mm")
    light = canvas.mean() < 128
    ink = rng.uniform(190, 255, 3) if light else rng.uniform(0, 65, 3)
    mask = np.asarray(paper) / 255
    return [paint(canvas, [Thing("", digit, ink, mask, box_of(mask))])], "What number is written?", digit


def draw_video(rng: Rng) -> Drawn:
    """Six frames; one thing is there throughout, another one comes."""
    size = (84, 112)
    first, second = scene(rng, size, 2)
    canvas, comes = ground(rng, size, "plain"), int(rng.integers(2, 5))
    frames = [paint(canvas, [first, second] if n >= comes else [first]) for n in range(6)]
    return frames, "What appears in the video?", sentence(with_article(second.name))


class Job(NamedTuple):
    """What to draw and what is wanted of it; fps for a video."""
    name: str
    draw: Callable[[Rng], Drawn]
    right: bool
    note: str
    fps: float | None = None


def fitting(job: Job, seed: list[int], vlm: minivl.VLM, folder: Path) -> Sample:
    """Draw until the model is right (or wrong, when a failure is wanted); the files lie in `folder`.

    A model that is never wrong where a failure was wanted is kept with its right answer. One that is never right where
    it should be is another model than the slots were made for: SystemExit.
    """
    for attempt in range(TRIES):
        frames, question, answer = job.draw(np.random.default_rng([*seed, attempt]))
        paths = tuple(folder / f"{job.name}{f'-{n}' if job.fps else ''}.png" for n in range(len(frames)))
        for path, frame in zip(paths, frames, strict=True):
            path.write_bytes(png(frame))
        sample = Sample(job.name, paths, job.fps, question, answer, False, job.note)
        said = vlm.chat(sample.messages())
        right = sample.is_right(said)
        if right == job.right or (right and attempt == TRIES - 1):
            print(f"{job.name:12} try {attempt + 1:3}   {question}  {said}" + ("" if right else f"   not {answer}"))
            return replace(sample, kept_as_failure=not right)
    raise SystemExit(f"{job.name}: in {TRIES} tries the model was never right; change the slot")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def make(seed: int, folder: Path) -> list[Sample]:
    """All samples, written into `folder`."""
    with minivl.load() as vlm:
        jobs = [Job(slot.name, partial(draw_slot, slot), slot.right, slot.note) for slot in SLOTS]
        jobs += [Job("digit", draw_digit, True, "one digit, in the one font that the model has seen"),
                 Job("video", draw_video, True, "6 frames at 2 a second: 3 pairs", fps=2.0)]
        samples = [fitting(job, [seed, n], vlm, folder) for n, job in enumerate(jobs)]
    return sorted(samples, key=lambda sample: sample.kept_as_failure)          # failures last


def index_of(samples: list[Sample]) -> str:
    rows = [{"name": s.name, "files": [path.name for path in s.paths], "fps": s.fps, "question": s.question,
             "answer": s.answer, "kept_as_failure": s.kept_as_failure, "note": s.note} for s in samples]
    return json.dumps({"made_by": "tools/make_samples.py", "samples": rows}, indent=1) + "\n"


def put(files: dict[str, bytes], folder: Path) -> None:
    """`files` in place of the samples that `folder` holds; what else lies there stays. All of it or nothing.

    A failure is undone. After a power cut in the middle the old files are all there, some in `.samples-*/old`.
    Exits, with nothing changed, when one of `files` would cover a file that is none of the old samples.
    """
    held = [path for path in old_files(folder) if path.is_file()]
    foreign = [name for name in files if (folder / name).exists() and folder / name not in held]
    if foreign:
        sys.exit(f"{folder / foreign[0]} is no old sample; nothing was written: move it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".samples-", dir=folder))
    with ExitStack() as undo:
        undo.callback(discard, scratch)
        for part in ("new", "old"):
            (scratch / part).mkdir()
        for name, data in files.items():
            (scratch / "new" / name).write_bytes(data)
        moves = [(path, scratch / "old" / path.name) for path in held]
        for source, target in [*moves, *((scratch / "new" / name, folder / name) for name in files)]:
            source.replace(target)
            undo.callback(target.replace, source)
        undo.pop_all()
    shutil.rmtree(scratch)


def old_files(folder: Path) -> list[Path]:
    """The files of a folder's samples, the index last; none where there is no index."""
    index = folder / "samples.json"
    if not index.exists():
        return []
    named = dict.fromkeys(path for sample in load_samples(folder) for path in sample.paths)
    return [*(path for path in named if path.parent == folder), index]


def discard(scratch: Path) -> None:
    """Remove what was written; not when an old file could not be brought back."""
    if not any(scratch.glob("old/*")):
        shutil.rmtree(scratch)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        samples = make(options.seed, Path(scratch))
        files = {path.name: path.read_bytes() for sample in samples for path in sample.paths}
    if not any(sample.kept_as_failure for sample in samples):
        sys.exit("the model was wrong about nothing; add a harder slot, so that the samples show a limit")
    total = sum(map(len, files.values()))
    if total > MOST_BYTES:
        sys.exit(f"the pictures take {total:,} bytes, more than {MOST_BYTES:,}; nothing was written")
    put(files | {"samples.json": index_of(samples).encode("utf-8")}, options.output)
    print(f"{len(files)} pictures, {total:,} bytes, in {options.output}")


if __name__ == "__main__":
    main()

"""Make minivl/samples anew: small pictures of the embedded model's world, chosen by asking the embedded model.

    python -m tools.checkpoints.make_samples [--seed 15] [--output minivl/samples]

Each slot below says what kind of picture is wanted and whether the model should be right about it; candidates are drawn
until one fits. Slots that want a failure are as much part of the samples as the others: a demonstration that hides
what a model cannot do misleads. The same seed and the same checkpoint give the same files.

Not here: the world itself, which is the training's own (`train_tiny/world.py`). Read next:
`minivl/show/samples/__init__.py`, which reads what is written here.
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
from PIL import Image

import minivl
from minivl.show.samples import FOLDER, Sample, load_samples

from ..train_tiny import tasks
from ..train_tiny.packing import Sample as Drawn
from ..train_tiny.rows import one_of
from ..train_tiny.world import Rng, fitted, number, picture_of_shapes, picture_of_text, word

TRIES = 60                            # a picture found after many more would show luck, not skill
MOST_BYTES = 130_000


# ------------------------------------------------------------------------------------------------------------- samples

class Slot(NamedTuple):
    """A picture that is wanted: how it is drawn, and whether the model should be right about it."""
    name: str
    draw: Callable[[Rng], Drawn]
    right: bool
    note: str


def shapes(ask: tasks.Ask, size: tuple[int, int], count: int, rng: Rng) -> Drawn:
    """A picture of this size with so many things, about which this can be asked."""
    while True:
        clip = picture_of_shapes(rng, size=size, names=[tasks.some_name(rng) for _ in range(count)])
        turn = ask(rng, fitted(clip)) if len(clip.things) == count else None
        if turn:
            return Drawn([clip], [turn])


def writing(ask: tasks.Ask, text: Callable[[Rng], str], rng: Rng) -> Drawn:
    clip = picture_of_text(rng, text(rng))
    return Drawn([clip], [ask(rng, fitted(clip))])                       # type: ignore[list-item]


SLOTS = [
    Slot("odd-size", partial(shapes, tasks.describe, (150, 203), 1), True, "no multiple of 28: resized to 140 x 196"),
    Slot("ragged", partial(shapes, tasks.count, (140, 196), 3), True, "5 x 7 cells: windows are cut off at two edges"),
    Slot("tall", partial(shapes, tasks.attribute, (196, 112), 2), True, "7 x 4 cells: windows are cut off below"),
    Slot("thin", partial(shapes, tasks.describe, (28, 168), 1), True, "lower than any picture in training"),
    Slot("left-right", partial(shapes, tasks.relation, (112, 168), 2), True, "two objects and their relation"),
    Slot("box", partial(shapes, tasks.find, (168, 168), 2), True, "where exactly an object is"),
    Slot("number", partial(writing, tasks.read_number, partial(number, digits=3)), True, "three digits in any font"),
    Slot("word", partial(writing, tasks.read_word, partial(word, least=3, most=4)), True, "a made-up word"),
    Slot("screen", partial(one_of, tasks.screen_sample, "click"), True, "where a control is, as a point"),
    Slot("video", partial(one_of, tasks.video_sample, "what"), True, "what happens in a video"),
    Slot("when", partial(one_of, tasks.video_sample, "when"), True, "when it happens, from the frames' positions"),
    Slot("crowd", partial(shapes, tasks.describe, (168, 196), 6), False, "six objects in order are hard"),
    Slot("detect", partial(shapes, tasks.detect, (140, 168), 4), False, "every box must be right"),
    Slot("form", partial(one_of, tasks.invoice_sample, "form"), False, "small writing in three lines"),
]


def fitting(slot: Slot, seed: list[int], vlm: minivl.VLM, folder: Path) -> Sample:
    """Draw until the model is right (or wrong, when a failure is wanted); the files lie in `folder`.

    Where the model never is what was wanted, the last picture is kept with what it is: right or a failure.
    """
    for attempt in range(TRIES):
        drawn = slot.draw(np.random.default_rng([*seed, attempt]))
        (clip,), (turn,) = drawn.clips, drawn.turns
        video = clip.fps is not None
        paths = tuple(folder / f"{slot.name}{f'-{n}' if video else ''}.png" for n in range(len(clip.frames)))
        data = [png(frame) for frame in clip.frames]
        if sum(map(len, data)) > MOST_BYTES // 8:         # a grainy ground does not compress
            continue
        for path, content in zip(paths, data, strict=True):
            path.write_bytes(content)
        sample = Sample(slot.name, paths, clip.fps, turn.question, turn.truth or turn.answer, False, slot.note)
        said = vlm.chat(sample.messages(), 256)
        right = sample.is_right(said)
        if right == slot.right or attempt == TRIES - 1:
            break
    print(f"{slot.name:12} try {attempt + 1:3}   {turn.question}  {said}" + ("" if right else f"   not {turn.answer}"))
    return replace(sample, kept_as_failure=not right)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def make(seed: int, folder: Path) -> list[Sample]:
    """All samples, written into `folder`."""
    with minivl.load() as vlm:
        samples = [fitting(slot, [seed, n], vlm, folder) for n, slot in enumerate(SLOTS)]
    return sorted(samples, key=lambda sample: sample.kept_as_failure)          # failures last


def index_of(samples: list[Sample]) -> str:
    rows = [{"name": s.name, "files": [path.name for path in s.paths], "fps": s.fps, "question": s.question,
             "answer": s.answer, "kept_as_failure": s.kept_as_failure, "note": s.note} for s in samples]
    return json.dumps({"made_by": "tools/checkpoints/make_samples.py", "samples": rows}, indent=1) + "\n"


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

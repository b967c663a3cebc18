"""A prompt as plain data that can be made smaller: pictures, videos and words of one user's message.

    scene = scene_of(messages)
    for words, smaller in simpler(scene): ...  # each scene that is one step simpler, the boldest first

Pictures are cropped by whole cells (28 x 28 pixels), so that what is left over at an edge stays left
over. Nothing here knows why a scene should be smaller. Read next: `reduce.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ...door.errors import ArgumentError
from ...passes.video import FPS
from ...run.open_picture import load_frames, load_picture

CELL = 28                                # pixels
SMALLEST = {"min_pixels": CELL * CELL}   # so that a small picture stays small


@dataclass(frozen=True, eq=False)
class Medium:
    """A picture (one frame, `fps` None) or a video. frames: (y, b, 3) uint8 each; options: of its
    item."""
    frames: tuple[np.ndarray, ...]
    fps: float | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells, those cut off at the edges included."""
        height, width = self.frames[0].shape[:2]
        return -(-height // CELL), -(-width // CELL)


Item = Medium | tuple[str, ...]          # words
Scene = tuple[Item, ...]


class Size(NamedTuple):
    """What is reduced: media, frames, cells of one frame of each, words, and cells of more than one
    colour."""
    media: int
    frames: int
    cells: int
    words: int
    coloured: int

    def __str__(self) -> str:
        media = f"{self.media} {'medium' if self.media == 1 else 'media'}"
        counts = (_counted(self.frames, "frame"), _counted(self.cells, "cell"),
                  _counted(self.words, "word"))
        return f"{media}, {', '.join(counts)}, {_counted(self.coloured, 'cell')} of more than one colour"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def scene_of(messages: Sequence[dict[str, Any]]) -> Scene:
    """One user's message as a scene. Raises ArgumentError for a longer conversation."""
    if len(messages) != 1 or messages[0].get("role") != "user":
        raise ArgumentError("a prompt of one user's message can be reduced; this conversation has "
                            f"{len(messages)} messages from "
                            f"{', '.join(str(m.get('role')) for m in messages)}")
    content = messages[0]["content"]
    items = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return tuple(_item(item) for item in items)


def _item(item: dict[str, Any]) -> Item:
    kind = item.get("type") or ("text" if "text" in item else "video" if "video" in item else "image")
    if kind == "text":
        return tuple(item["text"].split())
    options = tuple((name, value) for name, value in item.items()
                    if name not in ("type", "image", "video", "fps"))
    if kind == "image":
        return Medium((load_picture(item["image"]),), None, options)
    return Medium(tuple(load_frames(item["video"])), float(item.get("fps", FPS)), options)


def messages_of(scene: Scene) -> list[dict[str, Any]]:
    """A scene in the official message format."""
    return [{"role": "user", "content": [_content(item) for item in scene]}]


def _content(item: Item) -> dict[str, Any]:
    if not isinstance(item, Medium):
        return {"type": "text", "text": " ".join(item)}
    if item.fps is None:
        return {"type": "image", "image": item.frames[0], **dict(item.options)}
    return {"type": "video", "video": list(item.frames), "fps": item.fps, **dict(item.options)}


def size_of(scene: Scene) -> Size:
    media = [item for item in scene if isinstance(item, Medium)]
    return Size(len(media), sum(len(m.frames) for m in media),
                sum(m.cells[0] * m.cells[1] for m in media),
                sum(len(item) for item in scene if not isinstance(item, Medium)),
                sum(not _plain(frame[box]) for m in media for frame in m.frames
                    for box in _boxes(m.cells)))


def digest(scene: Scene) -> str:
    """A short name for a scene: equal for equal ones."""
    found = hashlib.sha256()
    for item in scene:
        words = repr((item.fps, item.options)) if isinstance(item, Medium) else repr(item)
        found.update(words.encode())
        for frame in item.frames if isinstance(item, Medium) else ():
            found.update(f"{frame.shape}".encode() + frame.tobytes())
    return found.hexdigest()


# ---- one step simpler --------------------------------------------------------------------------

def simpler(scene: Scene) -> Iterator[tuple[str, Scene]]:
    """(what was done, scene) for every step that is tried, in order: media, sizes, frames, words,
    colours."""
    media = [n for n, item in enumerate(scene) if isinstance(item, Medium)]
    for n in reversed(media):
        yield f"without medium {n}", scene[:n] + scene[n + 1:]
    for steps in (small_stays_small, fewer_frames, cropped):
        for n in media:
            yield from _with(scene, n, steps)
    for n, item in enumerate(scene):
        if not isinstance(item, Medium):
            yield f"without text {n}", scene[:n] + scene[n + 1:]
            yield from _with(scene, n, fewer_words)
    for n in media:
        yield from _with(scene, n, plainer)


def _with(scene: Scene, n: int, steps: Any) -> Iterator[tuple[str, Scene]]:
    for words, item in steps(scene[n]):
        yield f"item {n}: {words}", (*scene[:n], item, *scene[n + 1:])


def small_stays_small(medium: Medium) -> Iterator[tuple[str, Medium]]:
    """Without the least area, which would enlarge a small picture again."""
    if dict(medium.options).get("min_pixels") != SMALLEST["min_pixels"]:
        options = dict(medium.options) | SMALLEST
        yield "one cell may be enough", replace(medium, options=tuple(options.items()))


def fewer_frames(medium: Medium) -> Iterator[tuple[str, Medium]]:
    """Half of the frames, then one pair less; a pair is the least of a video, and a picture has one
    frame."""
    count = len(medium.frames)
    for keep in (slice(0, count // 4 * 2), slice(count // 4 * 2, count)) if count >= 4 else ():
        words = f"frames {keep.start} to {keep.stop - 1} of {count}"
        yield words, replace(medium, frames=medium.frames[keep])
    for n in range(0, count - 2, 2) if count > 2 else ():
        rest = medium.frames[:n] + medium.frames[n + 2:]
        yield f"without frames {n} and {n + 1}", replace(medium, frames=rest)


def cropped(medium: Medium) -> Iterator[tuple[str, Medium]]:
    """Halves in whole cells, then one row or column of cells less."""
    for axis, name in ((0, "row"), (1, "column")):
        length, count = medium.frames[0].shape[axis], medium.cells[axis]
        for cells in dict.fromkeys((count // 2, 1)) if count > 1 else ():
            for keep in (slice(0, length - cells * CELL), slice(cells * CELL, length)):
                if keep.start < keep.stop:
                    side = "last" if keep.start == 0 else "first"
                    what = name if cells == 1 else f"{cells} {name}s"
                    yield f"without its {side} {what} of cells", _cut(medium, axis, keep)


def _cut(medium: Medium, axis: int, keep: slice) -> Medium:
    index = (keep, slice(None)) if axis == 0 else (slice(None), keep)
    return replace(medium, frames=tuple(frame[index] for frame in medium.frames))


def fewer_words(words: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Half of the words, then one less."""
    half = len(words) // 2
    if half:
        yield f"its first {half} words", words[:half]
        yield f"its last {len(words) - half} words", words[half:]
    for n in range(len(words)) if len(words) > 1 else ():
        yield f"without the word {words[n]!r}", words[:n] + words[n + 1:]


def plainer(medium: Medium) -> Iterator[tuple[str, Medium]]:
    """One colour in every cell of every frame, in half of the cells, in one cell."""
    boxes = list(_boxes(medium.cells))
    busy = [box for box in boxes if any(not _plain(frame[box]) for frame in medium.frames)]
    if not busy:
        return
    half = max(1, len(busy) // 2)
    choices = [(f"one colour in all {len(busy)} cells", busy), (f"in the first {half}", busy[:half]),
               (f"in the others than the first {half}", busy[half:])]
    choices += [(f"one colour in cell {box[0].start // CELL}, {box[1].start // CELL}", [box])
                for box in busy]
    for words, chosen in choices:
        if chosen:
            yield words, replace(medium, frames=tuple(_painted(frame, chosen)
                                                      for frame in medium.frames))


def _boxes(cells: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for row in range(cells[0]):
        for column in range(cells[1]):
            yield (slice(row * CELL, (row + 1) * CELL), slice(column * CELL, (column + 1) * CELL))


def _plain(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[:1, :1]).all())


def _painted(frame: np.ndarray, boxes: Sequence[tuple[slice, slice]]) -> np.ndarray:
    """Each box in its mean colour."""
    made = frame.copy()
    for box in boxes:
        made[box] = np.rint(frame[box].mean(axis=(0, 1))).astype(np.uint8)
    return made

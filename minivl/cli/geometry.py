"""`minivl tokens` and `minivl where`: what becomes of a picture's pixels, without any weights.

Read next: `run/provenance.py` of the package, which knows; `given.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import numpy as np

from .. import api
from ..config import (
    OFFICIAL_PICTURES,
    ConfigError,
    PreprocessorConfig,
    VisionConfig,
    official_config,
    read_video_preprocessor,
)
from ..door.errors import ArgumentError, OutOfRange
from ..passes.picture import PictureError
from ..passes.video import PAIR
from ..passes.windows import schedule
from ..run.inputs import Inputs
from ..run.prepare import Processor, prepare
from ..run.provenance import Where, where_pixel, where_token
from .console import box, by, facts, line, print_json, table, working
from .given import check_words, conversation, grid, named, processor, source_size

# ---- tokens --------------------------------------------------------------------------------------

def tokens(images: Sequence[str], sizes: Sequence[str], model: str | None, min_pixels: int | None,
           max_pixels: int | None, as_json: bool, fps: float | None = None) -> None:
    """Print how each picture is resized and cut; with `fps`, the pictures as frames of one video.

    Raises Error or OSError for whatever is wrong with the input.
    """
    if not images and not sizes:
        raise ArgumentError("name a picture, or a size with --size WIDTHxHEIGHT")
    vision, settings = limits(model, min_pixels, max_pixels)
    rows = [(f"{text} pixels", parse_size(text), 1) for text in sizes]
    with working("reading pictures") as say:
        read = []
        for image in images:
            say(f"reading {named(image)}")
            read.append((named(image), source_size(image), 1))
    rows += read if fps is None or not read else [one_video(read)]
    found = document([measured(name, size, settings, vision, frames) for name, size, frames in rows],
                     settings, vision)
    found["videos"] = frame_limits(model)
    print_json(found) if as_json else show_tokens(found)


def one_video(frames: Sequence[tuple[str, tuple[int, int], int]]) -> tuple[str, tuple[int, int], int]:
    """Pictures as frames of one video: what to call it, their size, their number."""
    (first, size, _), *others = frames
    for name, other, _ in others:
        if other != size:
            raise PictureError(f"{name} is {by(other[::-1])}, {first} is {by(size[::-1])}; one video "
                               "has one size")
    return f"video of {len(frames)} frames", size, len(frames)


def measured(name: str, *rest: Any) -> Any:
    """`measure`, whose errors then name the picture."""
    try:
        return measure(name, *rest)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None


def limits(model: str | None, min_pixels: int | None, max_pixels: int | None
           ) -> tuple[VisionConfig, PreprocessorConfig]:
    """The settings of a checkpoint, else of the official releases, with the limits that were given
    instead."""
    if model is None:
        vision, settings = official_config("3B").vision, OFFICIAL_PICTURES
    else:
        path = api.find(model, weights=False)
        config = api.config_of(path)
        vision, settings = config.vision, api.picture_settings(path, config)
    given = (("--min-pixels", min_pixels), ("--max-pixels", max_pixels))
    said = [option for option, value in given if value is not None]
    source = " and ".join([*said, *([settings.source] if len(said) < 2 else [])])
    changed = replace(settings, min_pixels=min_pixels or settings.min_pixels,
                      max_pixels=max_pixels or settings.max_pixels, source=source)
    check_limits(changed, min_pixels is not None, max_pixels is not None,
                 model or "the official releases")
    return vision, changed


def frame_limits(model: str | None) -> dict[str, Any] | None:
    """The checkpoint's limits for each frame of a video; None where no file says any."""
    if model is None:
        return None
    try:
        settings = read_video_preprocessor(api.find(model, weights=False))
    except ConfigError as error:
        return {"min_pixels": None, "max_pixels": None, "limits_from": str(error)}
    return {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels,
            "limits_from": settings.source}


def check_limits(settings: PreprocessorConfig, min_given: bool, max_given: bool, owner: str) -> None:
    """Raise ConfigError for limits that no picture fits, in terms of what was given; the rest are the
    `owner`'s."""
    least = f"--min-pixels {settings.min_pixels:,}" if min_given else f"min_pixels {settings.min_pixels:,} of {owner}"
    most = f"--max-pixels {settings.max_pixels:,}" if max_given else f"max_pixels {settings.max_pixels:,} of {owner}"
    if settings.max_pixels < settings.factor ** 2:
        raise ConfigError(f"{most} is less than one token's {settings.factor ** 2}")
    if settings.min_pixels > settings.max_pixels:
        raise ConfigError(f"{most} is below {least}; give --min-pixels too" if not min_given else
                          f"{least} is above {most}" + ("" if max_given else "; give --max-pixels too"))


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """`640x480` (width first) as (height, width)."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*[xX\N{MULTIPLICATION SIGN}]\s*(\d{1,9})\s*", text, re.ASCII)
    if not found or not (int(found[1]) and int(found[2])):
        raise ArgumentError(f"{option} {text!r}: say WIDTHxHEIGHT in pixels, as in 640x480")
    return int(found[2]), int(found[1])


def measure(name: str, source: tuple[int, int], settings: PreprocessorConfig,
            vision: VisionConfig, frames: int = 1) -> dict[str, Any]:
    """The numbers of one picture, or of a video; sizes are [height, width] in pixels, as arrays have
    them."""
    resized, cut = grid(source, settings, frames)
    cells = vision.spatial_merge_size ** 2
    patches = int(cut.prod())
    windowed = [n for n in range(vision.depth) if n not in vision.fullatt_block_indexes]
    windows = window_tokens(cut, vision) if windowed else np.array([patches // cells])
    return {"name": name, "source_size": list(source), "resized_size": resized.tolist(),
            "grid": cut.tolist(),
            "patches": patches, "windows": len(windows), "smallest_window": int(windows.min()),
            "tokens": patches // cells, "share_of_max": patches // cells / max_tokens(settings)}


def window_tokens(cut: np.ndarray, vision: VisionConfig) -> np.ndarray:
    """Tokens in each window of one picture: the segments of a block that attends inside windows."""
    table = schedule(cut[None], replace(vision, depth=1, fullatt_block_indexes=()))[0]              # g 4
    return (table[:, 1] - table[:, 0]) // vision.spatial_merge_size ** 2


def max_tokens(settings: PreprocessorConfig) -> int:
    """The most tokens that a picture can have."""
    return settings.max_pixels // settings.factor ** 2


def document(pictures: list[dict[str, Any]], settings: PreprocessorConfig,
             vision: VisionConfig) -> dict[str, Any]:
    return {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels,
            "max_tokens": max_tokens(settings), "limits_from": settings.source,
            "window_size": vision.window_size, "pictures": pictures,
            "total": {key: sum(picture[key] for picture in pictures)
                      for key in ("patches", "windows", "tokens")}}


def show_tokens(found: dict[str, Any]) -> None:
    """The document of `tokens` as a table; width before height."""
    line(f"area {found['min_pixels']:,} .. {found['max_pixels']:,} pixels (at most "
         f"{found['max_tokens']:,} tokens; from {found['limits_from']}), windows of "
         f"{found['window_size']} pixels a side")
    frames = found["videos"]
    if frames and frames["min_pixels"] is None:
        line(f"frames of videos: {frames['limits_from']}")
    elif frames and any(frames[key] != found[key] for key in ("min_pixels", "max_pixels")):
        line(f"frames of videos: area {frames['min_pixels']:,} .. {frames['max_pixels']:,} pixels; from "
             f"{frames['limits_from']}")
    rows = [(p["name"], by(p["source_size"][::-1]), by(p["resized_size"][::-1]), by(p["grid"]),
             f"{p['patches']:,}",
             f"{p['windows']:,}", p["smallest_window"], f"{p['tokens']:,}", f"{p['share_of_max']:.1%}")
            for p in found["pictures"]]
    total = found["total"]
    if len(rows) > 1:
        rows.append((f"{len(rows)} pictures", "", "", "", f"{total['patches']:,}",
                     f"{total['windows']:,}", "",
                     f"{total['tokens']:,}", ""))
    names = ("picture", "width x height", "resized", "grid t h w", "patches", "windows", "smallest",
             "tokens", "of max")
    table(names, rows, right=names[4:], droppable=("width x height", "patches", "grid t h w", "of max",
                                                   "smallest"))


# ---- where ---------------------------------------------------------------------------------------

def where(images: Sequence[str], token: int | None, pixel: str | None, model: str | None,
          as_json: bool, fps: float | None = None, picture: int = 0) -> None:
    """Print all places of one visual token. Raises Error, IndexError or OSError for wrong input.

    The pictures are numbered from 0 in the order in which they are given; with `fps` they are the frames
    of one video, and `picture` is a frame.
    """
    if (token is None) == (pixel is None):
        raise ArgumentError("say which token: either --token NUMBER or --pixel X,Y")
    if not 0 <= picture < len(images):
        raise OutOfRange(f"--picture {picture}: {len(images)} were given, numbered from 0")
    at = parse_pixel(pixel) if pixel is not None else (0, 0)
    check_words(images)
    with working("reading the pictures"):
        parts = processor(model)
        inputs = prepare(conversation(images, "", fps), parts, False, True, "max_plus_one")
        found = where_token(inputs, parts.config, token) if token is not None else \
            where_pixel(inputs, parts.config, *at, **_place(picture, fps))
    shown = where_document(images, found, inputs, parts)
    print_json(shown) if as_json else show_where(shown)


def _place(picture: int, fps: float | None) -> dict[str, int]:
    """Medium and time of a picture as it is counted on the command line: a video's frames share one
    medium, two of them a time."""
    return {"medium": picture} if fps is None else {"medium": 0, "time": picture // PAIR}


def parse_pixel(text: str) -> tuple[float, float]:
    """`120,80` as (x, y): columns from the left, rows from the top."""
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*", text, re.ASCII)
    if not found:
        raise ArgumentError(f"--pixel {text!r}: say X,Y in pixels of the picture, as in 120,80")
    x, y = (float(word) if "." in word else int(word) for word in found.groups())
    return x, y


def where_document(images: Sequence[str], found: Where, inputs: Inputs, parts: Processor
                   ) -> dict[str, Any]:
    """`Where` and the picture, or frames, it lies in; sizes are [height, width], boxes x0, y0, x1,
    y1."""
    medium, vision = inputs.media[found.medium], parts.config.vision
    total = sum(m.patches for m in inputs.media) // vision.spatial_merge_size ** 2
    first, count = (found.medium, 1) if medium.kind == "image" else (PAIR * found.time, PAIR)
    shown = [named(one) for one in images[first : first + count]]
    return {"image": shown[0], "images": shown, "given": len(images), "first": first,
            "kind": medium.kind,
            "source_size": medium.source_size, "resized_size": medium.size,
            "grid": medium.grid,
            "tokens": total, "prompt_length": len(inputs.input_ids), **asdict(found),
            "full_attention_blocks": vision.fullatt_block_indexes}


def show_where(found: dict[str, Any]) -> None:
    """The document of `where`, one fact a line; width before height."""
    row, column = found["cell"]
    source, resized = by(found["source_size"][::-1]), by(found["resized_size"][::-1])
    facts([*which(found),
           ("token", f"{found['token']} of 0..{found['tokens'] - 1}: cell row {row}, column {column}"),
           ("in the source", f"{box(found['source_box'])} of {source} pixels"),
           ("resized", f"{box(found['box'])} of {resized} pixels"),
           ("patches (p)", f"rows {spans(found['patches'])} of pixel_values"),
           ("window order (w)", f"rows {spans(found['window_rows'])}"),
           *attends(found),
           ("prompt (s)", f"row {found['sequence']}: it does not depend on the question"),
           ("MRoPE", "time {}, height {}, width {}".format(*found["position"]))])


def which(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The picture or the frames that the token sees, where several were given."""
    if found["given"] == 1:
        return []
    numbers = spans(range(found["first"], found["first"] + len(found["images"])))
    word = "picture" if found["kind"] == "image" else "frames"
    return [(word, f"{numbers} of 0..{found['given'] - 1}: {', '.join(found['images'])}")]


def attends(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Which rows the token's patches attend to, once for each kind of block."""
    full, lines = set(found["full_attention_blocks"]), []
    for kind, word in ((False, "window"), (True, "whole picture")):
        blocks = [n for n in range(len(found["segments"])) if (n in full) is kind]
        if blocks:
            first, end = found["segments"][blocks[0]]
            lines.append((f"attends in {word}",
                          f"rows {first}..{end - 1} (w) in blocks {spans(blocks)}"))
    return lines


def spans(numbers: Sequence[int]) -> str:
    """`0..3, 7`: runs of numbers that follow each other."""
    runs = [list(run) for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0][1]) if len(run) == 1 else f"{run[0][1]}..{run[-1][1]}" for run in runs)

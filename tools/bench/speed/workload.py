"""What every side runs: a random checkpoint of 3B widths with few blocks, and the rows that are timed.

The model is 3B with 6 decoder layers and 8 vision blocks (the last one full), its own vocabulary and a
tied head: 0.97 B parameters, of which a token reads 0.78 B. Under --quick it is the same form at a tiny
width. Read next: `sides.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

import minivl
from minivl.checkpoint.convert import CONFIG, FORMATS, weight_paths
from minivl.checkpoint.instead import SINGLE
from minivl.checkpoint.names import shapes
from minivl.checkpoint.packed_folder import read_packed
from minivl.checkpoint.weight import CheckpointError
from minivl.config import OFFICIAL_PICTURES, ModelConfig
from minivl.door.errors import FileInTheWay
from minivl.door.files import sha256
from minivl.passes.patches import grid_of
from minivl.passes.picture import target_size
from tools.checkpoints.make_checkpoint import config_of, header, make_checkpoint, plan, settings, size_of

Array = np.ndarray
LAYERS, BLOCKS = 6, 8
# in each folder that is made here. `minivl convert` copies no file whose name begins with a dot
MARK = ".made-by-tools-bench-speed.txt"
MARKED = "python -m tools.bench.speed made this folder, and removes it where it needs another one. Keep nothing here.\n"


class Size(NamedTuple):
    """How large the rows are. pictures: (height, width) in pixels; prompts, contexts: tokens; steps:
    decoded tokens that are timed; photo: (height, width) of the picture that is prepared."""
    pictures: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]
    contexts: tuple[int, ...]
    steps: int
    photo: tuple[int, int]
    small: bool


FULL = Size(((448, 448), (966, 1288)), (512, 4096), (512, 8192), 12, (3000, 4000), small=False)
QUICK = Size(((56, 56), (84, 112)), (16, 40), (16, 64), 3, (150, 200), small=True)
GOLDEN_TOKENS, GOLDEN_PICTURE = 12, (112, 112)
LOAD, MEMORY, PHOTO = "load", "memory", "photo"


def rows(size: Size) -> dict[str, str]:
    """Every row of the table, and its unit."""
    pictures = [vision_row(picture) for picture in size.pictures]
    prompts = [f"prefill {tokens}" for tokens in size.prompts]
    decoding = {f"decode at {context}": "s/token" for context in size.contexts}
    return {**dict.fromkeys([LOAD, *pictures, *prompts], "s"), **decoding, MEMORY: "GiB", PHOTO: "s"}


def vision_row(picture: tuple[int, int]) -> str:
    """The name of a picture's row, width first as people say it."""
    return f"vision {picture[1]}x{picture[0]}"


def config(size: Size) -> ModelConfig:
    """3B, with few blocks; the tiny form under --quick."""
    whole = config_of("3B", size.small)
    if size.small:
        return whole
    vision = replace(whole.vision, depth=BLOCKS, fullatt_block_indexes=(BLOCKS - 1,))
    return replace(whole, vision=vision, text=replace(whole.text, num_hidden_layers=LAYERS))


def checkpoint(size: Size, folder: Path) -> Path:
    """The checkpoint in `folder`, made where it is not there yet. One of another form is removed, with its packed
    forms, if it was made here. Raises FileInTheWay, before anything is removed, where one was not."""
    if not holds(folder, config(size)):
        places = (folder, *(packed_folder(folder, format) for format in FORMATS))
        remove([path for path in places if is_taken(path)])
        make_checkpoint(config(size), folder)
        mark(folder)
    return warmed(folder)


def holds(folder: Path, model: ModelConfig) -> bool:
    """Whether this is the checkpoint of a model: its config.json, and its weights in one whole file."""
    wanted = settings(model, nested=False)[CONFIG]
    (tensors,) = plan(model, size_of(shapes(model)))
    start = header(tensors, "hub")
    try:
        if json.loads((folder / CONFIG).read_text(encoding="utf-8")) != json.loads(json.dumps(wanted)):
            return False
        with (folder / SINGLE).open("rb") as file:
            begins = file.read(len(start)) == start
            ends = os.fstat(file.fileno()).st_size == len(start) + size_of(tensors)
    except (OSError, ValueError):
        return False
    return begins and ends and weight_paths(folder) == [folder / SINGLE]


def remove(places: list[Path]) -> None:
    """Remove folders that were made here. Raises FileInTheWay, before anything is removed, where one was not."""
    for path in places:
        check_ours(path)
    for path in places:
        shutil.rmtree(path)


def is_taken(path: Path) -> bool:
    """Whether there is a file here, a link, or a folder that is not empty."""
    return path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir())))


def check_ours(path: Path) -> None:
    """Raise FileInTheWay for what was not made here."""
    if not path.is_symlink() and read_mark(path) == mark_of(path):
        return
    if read_mark(path):
        found = f"its {MARK} is of another folder: it was copied or moved here"
    else:
        found = f"there is no {MARK} in it"
    raise FileInTheWay(f"{path} is in the way of the benchmark's checkpoint, and is not known to be made by this "
                       f"benchmark ({found}). Nothing was removed: remove it yourself if nobody needs it, or name a "
                       "new folder with --folder")


def mark(folder: Path) -> None:
    """Say in a folder that it was made here."""
    (folder / MARK).write_bytes(mark_of(folder))


def mark_of(folder: Path) -> bytes:
    """What the mark of a folder says. It names the folder, so that a copy elsewhere is not taken for it."""
    return os.fsencode(f"{folder.resolve()}\n{MARKED}")


def read_mark(folder: Path) -> bytes:
    """What the mark in a folder says; nothing where there is none."""
    try:
        return (folder / MARK).read_bytes()
    except OSError:
        return b""


def packed_checkpoint(folder: Path, format: str) -> Path:
    """The same weights packed in a format, in a folder beside it; made where it is not there yet. Packed weights of
    another checkpoint or format are removed if they were made here. Raises FileInTheWay where they were not."""
    target = packed_folder(folder, format)
    if not is_packed_from(folder, target, format):
        if is_taken(target):
            remove([target])
        elif target.exists():
            target.rmdir()                     # it is empty
        minivl.convert(folder, target, format)
        mark(target)
    return warmed(target)


def is_packed_from(folder: Path, target: Path, format: str) -> bool:
    """Whether `target` holds the weights of the checkpoint in `folder`, packed in a format."""
    try:
        _, file, about = read_packed(target)   # checks the file's size and tensors, and reads no weight
    except (CheckpointError, OSError):
        return False
    file.close()
    return about.weights == format and about.source.get("sha256") == digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint's weights, by name."""
    found = [(path, path.stat()) for path in weight_paths(folder)]
    return {path.name: digest(path, about.st_size, about.st_mtime_ns) for path, about in found}


@cache
def digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file of this size, which was last changed then: read once, however many formats there are."""
    return sha256(path)


def packed_folder(folder: Path, format: str) -> Path:
    """Where a checkpoint's packed form is kept."""
    return folder.with_name(f"{folder.name}-{format}")


def warmed(folder: Path) -> Path:
    """The folder; its weights have been read once, so their pages are in the system's cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            while file.read(2**24):
                pass
    return folder


# ---- inputs, the same for every side

def tokens(model: ModelConfig, count: int) -> list[int]:
    """Ids of a prompt of words; none of them stands for a picture."""
    draw = np.random.default_rng(count)
    ids: list[int] = draw.integers(0, 500, count).tolist()
    return ids


def patches(model: ModelConfig, picture: tuple[int, int]) -> tuple[Array, Array]:
    """(p, values of a patch) float32 and the grid (1, 3) of a picture of noise."""
    height, width = target_size(picture, OFFICIAL_PICTURES).tolist()
    grid = grid_of((1, 3, height, width), OFFICIAL_PICTURES)
    draw = np.random.default_rng(height)
    return draw.standard_normal((int(grid.prod()), model.vision.patch_values), np.float32), grid[None]


def photo(size: Size) -> Array:
    """A picture of noise: h u 3, uint8."""
    return np.random.default_rng(0).integers(0, 256, (*size.photo, 3), np.uint8)

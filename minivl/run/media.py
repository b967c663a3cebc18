"""Pictures and videos of a prompt: what belongs to which placeholders, checked before anything runs.

Read next: `inputs.py`, which is made of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..config import ModelConfig
from ..door.errors import ArgumentError
from ..passes import positions


@dataclass(frozen=True)
class Medium:
    """One picture or video of a prompt: its grid, and its sizes (height, width) in pixels before and
    after resizing."""
    kind: str                                    # "image" or "video"
    grid: tuple[int, int, int]                   # frame pairs, patch rows, patch columns
    ticks: float                                 # temporal positions from one frame pair to the next
    first_patch: int                             # its rows in `Inputs.patches` start here
    source_size: tuple[int, int] | None = None   # as it came
    size: tuple[int, int] | None = None          # as the model sees it, a multiple of 28 each way
    seconds: float | None = None                 # from one frame pair to the next; None for a picture
    times: tuple[float, ...] | None = None       # of a video file: when each frame that is shown stands, seconds

    @property
    def patches(self) -> int:
        """Number of patches: rows of pixel values."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def rows(self) -> slice:
        """Its rows in `Inputs.patches`."""
        return slice(self.first_patch, self.first_patch + self.patches)


def patches_of(name: str, values: ArrayLike | None, grids: ArrayLike | None,
               config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Patches and grids of one kind as arrays that fit each other; both None means there are none."""
    vision = config.vision
    if (values is None) != (grids is None):
        raise ArgumentError(f"{name} and its grid come together; only one of them was given")
    if values is None:
        return np.zeros((0, vision.patch_values), np.float32), np.zeros((0, 3), np.int64)
    values, grids = np.asarray(values, np.float32), np.asarray(grids, np.int64)
    if grids.ndim != 2 or grids.shape[1] != 3 or (grids < 1).any():
        raise ArgumentError(f"the grid of {name} should be rows of 3 positive numbers (t, h, w), not "
                            f"{grids.tolist()}")
    if (grids[:, 1:] % vision.spatial_merge_size).any():
        raise ArgumentError(f"the grid of {name} {grids.tolist()}: heights and widths must be "
                            f"multiples of {vision.spatial_merge_size} patches, or cells would be cut "
                            "in half")
    wanted = (int(grids.prod(axis=1).sum()), vision.patch_values)
    if values.shape != wanted:
        raise ArgumentError(f"{name} has shape {list(values.shape)}, its grid {grids.tolist()} needs "
                            f"{list(wanted)}")
    if not np.isfinite(values).all():
        raise ArgumentError(f"{name} holds a value that is not finite, first at "
                            f"{np.argwhere(~np.isfinite(values))[0]}")
    return values, grids


def seconds_of(given: Any, videos: int) -> np.ndarray:
    """Seconds from one pair of frames to the next, a number for each video. Raises ArgumentError
    otherwise."""
    if given is None and videos:
        raise ArgumentError(f"{videos} videos came without second_per_grid_ts: say how many seconds "
                            "lie between two pairs of frames (2 / frames per second)")
    seconds = np.asarray([] if given is None else given, np.float64).reshape(-1)
    if len(seconds) != videos or not ((seconds >= 0) & (seconds < 1e6)).all():
        raise ArgumentError(f"second_per_grid_ts is {seconds.tolist()} for {videos} videos: one finite "
                            "number each")
    return seconds


def in_prompt_order(ids: np.ndarray, config: ModelConfig, image_grids: np.ndarray,
                    video_grids: np.ndarray,
                     seconds: np.ndarray) -> tuple[Medium, ...]:
    """Pair each run of placeholders with the grids of its kind, first come first served.

    Raises ArgumentError when a run is not exactly filled: grids in another order, a picture torn
    apart, kinds confused.
    """
    cells = config.vision.spatial_merge_size ** 2
    ticks = positions.ticks(seconds, config.vision.tokens_per_second) if len(seconds) else seconds
    pictures = len(image_grids)
    waiting = {config.image_token_id: _media("image", image_grids, np.ones(pictures), [None] * pictures),
               config.video_token_id: _media("video", video_grids, ticks, seconds.tolist())}
    media: list[Medium] = []
    first = 0                                            # patches of the media before
    for token, start, length in _runs(ids, list(waiting)):
        left = length
        while left:
            medium = waiting[token].pop(0) if waiting[token] else None
            if medium is None or medium.patches // cells > left:
                has = f"the next grid of its kind, {list(medium.grid)}, has {medium.patches // cells}" if medium \
                    else "no grid of its kind is left"
                raise ArgumentError(f"the run of {length} placeholders {token} from row {start} has "
                                    f"{left} to fill, but {has}: grids must come in prompt order, each "
                                    "picture's placeholders in one run")
            media.append(replace(medium, first_patch=first))
            first += medium.patches
            left -= medium.patches // cells
    return tuple(media)


def _runs(ids: np.ndarray, pads: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of one placeholder: its id, where it starts, how long it is."""
    edges = np.flatnonzero(np.diff(ids, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        if ids[start] in pads:
            yield int(ids[start]), int(start), int(stop - start)


def _media(kind: str, grids: np.ndarray, ticks: np.ndarray,
           seconds: list[float] | list[None]) -> list[Medium]:
    return [Medium(kind, (int(t), int(h), int(w)), float(tick), 0, seconds=apart)
            for (t, h, w), tick, apart in zip(grids, ticks, seconds, strict=True)]

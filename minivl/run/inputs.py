"""What the model is given: `Inputs` is one conversation under the reference's names, `Batch` several of them packed.

Packed means: one row after the other in one long sequence, with a table that says who sees whom (`KVCache.segments`).
Nothing is padded, so there is nothing to mask, and a conversation's numbers do not depend on its neighbours' lengths.

Read next: `api.py` (`VLM.prepare` makes Inputs from messages), `model.py` (which takes a Batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..config import ModelConfig
from ..passes import positions
from ..passes.prompt import check_features


@dataclass(frozen=True)
class Medium:
    """One picture or video of a prompt: its grid, and the sizes (height, width) in pixels before and after resizing."""
    kind: str                                    # "image" or "video"
    grid: tuple[int, int, int]                   # frame pairs, patch rows, patch columns
    ticks: float                                 # temporal positions from one frame pair to the next
    first_patch: int                             # its rows in pixel_values (or pixel_values_videos) start here
    source_size: tuple[int, int] | None = None   # as it came
    size: tuple[int, int] | None = None          # as the model sees it, a multiple of 28 each way

    @property
    def patches(self) -> int:
        """Number of patches: rows of pixel values."""
        return self.grid[0] * self.grid[1] * self.grid[2]


@dataclass(frozen=True)
class Inputs:
    """One conversation, ready for the model. The names are those of the reference's processor.

    input_ids (s,) int64                         position_ids (3, s) int64: time, height, width
    pixel_values (p, 1176) float32               image_grid_thw (i, 3) int64
    pixel_values_videos (p, 1176) float32        video_grid_thw (j, 3) int64
    second_per_grid_ts (j,) float64: seconds from one pair of frames to the next
    media: the pictures and videos in prompt order
    """
    input_ids: np.ndarray
    position_ids: np.ndarray
    pixel_values: np.ndarray
    image_grid_thw: np.ndarray
    pixel_values_videos: np.ndarray
    video_grid_thw: np.ndarray
    second_per_grid_ts: np.ndarray
    media: tuple[Medium, ...]

    @classmethod
    def from_ids(cls, ids: Sequence[int] | np.ndarray, config: ModelConfig, pixel_values: np.ndarray | None = None,
                 image_grid_thw: np.ndarray | None = None, pixel_values_videos: np.ndarray | None = None,
                 video_grid_thw: np.ndarray | None = None,
                 second_per_grid_ts: Sequence[float | None] | np.ndarray | None = None,
                 after_video: str = "max_plus_one") -> Inputs:
        """Inputs from token ids with their placeholders already expanded, and patches already cut.

        second_per_grid_ts must come with videos: guessing it puts every event at a wrong time.
        Raises ValueError when ids, grids and patches do not belong together; the message gives both counts.
        """
        ids = np.asarray(ids, np.int64)
        if ids.ndim != 1 or not len(ids):
            raise ValueError(f"input_ids should be one row of token ids, not of shape {list(ids.shape)}")
        if ids.min() < 0 or ids.max() >= config.text.vocab_size:
            bad = int(np.flatnonzero((ids < 0) | (ids >= config.text.vocab_size))[0])
            raise ValueError(f"input_ids[{bad}] is {ids[bad]}, the vocabulary has ids 0..{config.text.vocab_size - 1}")
        images, image_grids = _patches("pixel_values", pixel_values, image_grid_thw, config)
        videos, video_grids = _patches("pixel_values_videos", pixel_values_videos, video_grid_thw, config)
        seconds = _seconds(second_per_grid_ts, len(video_grids))
        pads = (config.image_token_id, config.video_token_id)
        merge = config.vision.spatial_merge_size
        check_features(ids, pads, (len(images) + len(videos)) // merge**2)
        media = _in_prompt_order(ids, config, image_grids, video_grids, seconds)
        grids = np.array([m.grid for m in media], np.int64).reshape(-1, 3)
        ticks = np.array([m.ticks for m in media], np.float32)
        place = positions.mrope(ids, grids, ticks, pads, merge, after_video)
        return cls(ids, place, images, image_grids, videos, video_grids, seconds, media)

    @property
    def grids(self) -> np.ndarray:
        """Grids of all media in prompt order: (i, 3)."""
        return np.array([m.grid for m in self.media], np.int64).reshape(-1, 3)

    @property
    def patches(self) -> np.ndarray:
        """Patches of all media in prompt order: (p, 1176)."""
        held = {"image": self.pixel_values, "video": self.pixel_values_videos}
        parts = [held[m.kind][m.first_patch : m.first_patch + m.patches] for m in self.media]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, self.pixel_values[:0]])

    def with_sizes(self, sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> Inputs:
        """The same with each medium's (source size, resized size) written down, for mapping tokens back to pixels."""
        media = tuple(replace(m, source_size=a, size=b) for m, (a, b) in zip(self.media, sizes, strict=True))
        return replace(self, media=media)


def _patches(name: str, values, grids, config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Patches and grids of one kind as arrays that fit each other; both None means there are none."""
    vision = config.vision
    if (values is None) != (grids is None):
        raise ValueError(f"{name} and its grid come together; only one of them was given")
    if values is None:
        return np.zeros((0, vision.patch_values), np.float32), np.zeros((0, 3), np.int64)
    values, grids = np.asarray(values, np.float32), np.asarray(grids, np.int64)
    if grids.ndim != 2 or grids.shape[1] != 3 or (grids < 1).any():
        raise ValueError(f"the grid of {name} should be rows of 3 positive numbers (t, h, w), not {grids.tolist()}")
    if (grids[:, 1:] % vision.spatial_merge_size).any():
        raise ValueError(f"the grid of {name} {grids.tolist()}: heights and widths must be multiples of "
                         f"{vision.spatial_merge_size} patches, or cells would be cut in half")
    wanted = (int(grids.prod(axis=1).sum()), vision.patch_values)
    if values.shape != wanted:
        raise ValueError(f"{name} has shape {list(values.shape)}, its grid {grids.tolist()} needs {list(wanted)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds a value that is not finite, first at {np.argwhere(~np.isfinite(values))[0]}")
    return values, grids


def _seconds(given, videos: int) -> np.ndarray:
    if given is None and videos:
        raise ValueError(f"{videos} videos came without second_per_grid_ts: say how many seconds lie between two pairs "
                         "of frames (2 / frames per second)")
    seconds = np.asarray([] if given is None else given, np.float64).reshape(-1)
    if len(seconds) != videos or not ((seconds >= 0) & (seconds < 1e6)).all():
        raise ValueError(f"second_per_grid_ts is {seconds.tolist()} for {videos} videos: one finite number each")
    return seconds


def _in_prompt_order(ids: np.ndarray, config: ModelConfig, image_grids: np.ndarray, video_grids: np.ndarray,
                     seconds: np.ndarray) -> tuple[Medium, ...]:
    """Pair each run of placeholders with the grids of its kind, first come first served.

    Raises ValueError when a run is not exactly filled: grids in another order, a picture torn apart, kinds confused.
    """
    cells = config.vision.spatial_merge_size ** 2
    ticks = positions.ticks(seconds, config.vision.tokens_per_second) if len(seconds) else seconds
    waiting = {config.image_token_id: _media("image", image_grids, np.ones(len(image_grids))),
               config.video_token_id: _media("video", video_grids, ticks)}
    media: list[Medium] = []
    for token, start, length in _runs(ids, list(waiting)):
        left = length
        while left:
            medium = waiting[token].pop(0) if waiting[token] else None
            if medium is None or medium.patches // cells > left:
                has = f"the next grid of its kind, {list(medium.grid)}, has {medium.patches // cells}" if medium \
                    else "no grid of its kind is left"
                raise ValueError(f"the run of {length} placeholders {token} from row {start} has {left} to fill, but "
                                 f"{has}: grids must come in prompt order, each picture's placeholders in one run")
            media.append(medium)
            left -= medium.patches // cells
    return tuple(media)


def _runs(ids: np.ndarray, pads: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of one placeholder: its id, where it starts, how long it is."""
    edges = np.flatnonzero(np.diff(ids, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        if ids[start] in pads:
            yield int(ids[start]), int(start), int(stop - start)


def _media(kind: str, grids: np.ndarray, ticks: np.ndarray) -> list[Medium]:
    starts = np.cumsum(grids.prod(axis=1)) - grids.prod(axis=1)
    return [Medium(kind, (int(t), int(h), int(w)), float(tick), int(start))
            for (t, h, w), tick, start in zip(grids, ticks, starts, strict=True)]


def placeholders(ids: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Rows of a sequence that visual tokens take, in prompt order: s -> m."""
    return np.flatnonzero(np.isin(ids, (config.image_token_id, config.video_token_id)))


@dataclass(frozen=True)
class Batch:
    """Conversations packed one after the other: what one run of the model takes.

    ids (s,), positions (3, s), placeholders (m,): rows that visual tokens take, lengths (conversations,),
    asked (n,): rows whose logits are wanted, patches (p, 1176), grids (i, 3), no_features (0, d)
    """
    ids: np.ndarray
    positions: np.ndarray
    placeholders: np.ndarray
    lengths: np.ndarray
    asked: np.ndarray
    patches: np.ndarray
    grids: np.ndarray
    no_features: np.ndarray

    @classmethod
    def of(cls, conversations: Sequence[Inputs], config: ModelConfig, dtype, every_row: bool = False) -> Batch:
        """Pack whole conversations; the last row of each is asked for, or every row."""
        ids = np.concatenate([c.input_ids for c in conversations])
        lengths = np.array([len(c.input_ids) for c in conversations], np.int64)
        return cls(ids, np.concatenate([c.position_ids for c in conversations], axis=1),
                   placeholders(ids, config),
                   lengths, np.arange(len(ids)) if every_row else np.cumsum(lengths) - 1,
                   conversations[0].patches if len(conversations) == 1
                   else np.concatenate([c.patches for c in conversations]),
                   np.concatenate([c.grids for c in conversations]),
                   np.zeros((0, config.text.hidden_size), dtype))

    def followed_by(self, tokens: np.ndarray, positions: np.ndarray, going: np.ndarray) -> Batch:
        """The next step: one token (and its three positions) for each conversation that is still going."""
        none = np.zeros(0, np.int64)
        return replace(self, ids=tokens[going], positions=positions[:, going], placeholders=none,
                       lengths=going.astype(np.int64), asked=np.arange(going.sum()), patches=self.patches[:0],
                       grids=self.grids[:0])

"""What the model is given: `Inputs` is one conversation under the reference's names, `Batch` several
of them packed.

Packed means: one row after the other in one long sequence, with a table that says who sees whom
(`KVCache.segments`). Nothing is padded, so there is nothing to mask, and a conversation's numbers do
not depend on its neighbours' lengths.

Read next: `prepare.py` (which makes Inputs from messages), `model.py` (which takes a Batch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..config import ModelConfig
from ..door.errors import ArgumentError
from ..passes import positions
from ..passes.prompt import check_features
from .media import Medium, in_prompt_order, patches_of, seconds_of

PICTURES = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw",
            "second_per_grid_ts")
NAMES = ("input_ids", "position_ids", *PICTURES)            # the reference's, of everything that goes in
LEAST = 16                   # rows of a part of a prompt: a machine may multiply fewer in another order


@dataclass(frozen=True)
class Inputs:
    """One conversation, ready for the model.

    input_ids (s,) int64          position_ids (3, s) int64: time, height, width
    patches (p, 1176) float32: of all pictures and videos, in prompt order         media: these, in the same order
    The names of the reference's processor are views of these, pictures and videos apart:
    pixel_values (p, 1176)                       image_grid_thw (i, 3) int64
    pixel_values_videos (p, 1176)                video_grid_thw (j, 3) int64
    second_per_grid_ts (j,) float64: seconds from one pair of frames to the next
    """
    input_ids: np.ndarray
    position_ids: np.ndarray
    patches: np.ndarray
    media: tuple[Medium, ...]

    @classmethod
    def from_ids(cls, ids: Sequence[int] | np.ndarray, config: ModelConfig,
                 pixel_values: np.ndarray | None = None,
                 image_grid_thw: np.ndarray | None = None, pixel_values_videos: np.ndarray | None = None,
                 video_grid_thw: np.ndarray | None = None,
                 second_per_grid_ts: Sequence[float | None] | np.ndarray | None = None,
                 after_video: str = "max_plus_one") -> Inputs:
        """Inputs from token ids with their placeholders already expanded, and patches already cut.

        second_per_grid_ts must come with videos: guessing it puts every event at a wrong time.
        Raises ArgumentError when ids, grids and patches do not belong together; the message gives both
        counts.
        """
        ids = checked_ids(ids, config)
        images, image_grids = patches_of("pixel_values", pixel_values, image_grid_thw, config)
        videos, video_grids = patches_of("pixel_values_videos", pixel_values_videos, video_grid_thw,
                                         config)
        seconds = seconds_of(second_per_grid_ts, len(video_grids))
        pads = (config.image_token_id, config.video_token_id)
        merge = config.vision.spatial_merge_size
        check_features(ids, pads, (len(images) + len(videos)) // merge**2)
        media = in_prompt_order(ids, config, image_grids, video_grids, seconds)
        ticks = np.array([m.ticks for m in media], np.float32)
        place = positions.mrope(ids, _grids(media), ticks, pads, merge, after_video)
        return cls(ids, place, _interleaved(media, images, videos), media)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], config: ModelConfig,
                    after_video: str = "max_plus_one"
                    ) -> Inputs:
        """The inverse of `arrays`: Inputs from arrays under the reference's names, such as a trace
        holds. Empty ones count as absent; without position_ids they are made by the rule
        `after_video`."""
        if "input_ids" not in arrays:
            raise ArgumentError(f"input_ids should be among the arrays, which are "
                                f"{', '.join(arrays) or 'none'}")
        given: dict[str, Any] = {name: arrays[name] for name in PICTURES if len(arrays.get(name, ()))}
        made = cls.from_ids(arrays["input_ids"], config, **given, after_video=after_video)
        return made.with_positions(arrays["position_ids"]) if "position_ids" in arrays else made

    def with_positions(self, positions: np.ndarray) -> Inputs:
        """The same with positions (3, s) of somebody else. Raises ArgumentError for another shape,
        such as that of transformers with a row of text positions above the three axes."""
        wanted = (3, len(self.input_ids))
        if np.shape(positions) != wanted:
            raise ArgumentError(f"position_ids should be [3, s] = {list(wanted)}: time, height, width; "
                                f"they have shape {list(np.shape(positions))}")
        return replace(self, position_ids=np.asarray(positions))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that goes into the model, by the reference's names."""
        return {name: getattr(self, name) for name in NAMES}

    @property
    def pixel_values(self) -> np.ndarray:
        """Patches of the pictures: (p, 1176)."""
        return self._patches("image")

    @property
    def pixel_values_videos(self) -> np.ndarray:
        """Patches of the videos: (p, 1176)."""
        return self._patches("video")

    @property
    def image_grid_thw(self) -> np.ndarray:
        """Grids of the pictures: (i, 3)."""
        return _grids(self._of("image"))

    @property
    def video_grid_thw(self) -> np.ndarray:
        """Grids of the videos: (j, 3)."""
        return _grids(self._of("video"))

    @property
    def second_per_grid_ts(self) -> np.ndarray:
        """Seconds from one pair of frames to the next, of each video: (j,) float64."""
        return np.array([m.seconds for m in self._of("video")], np.float64)

    @property
    def grids(self) -> np.ndarray:
        """Grids of all media in prompt order: (i, 3)."""
        return _grids(self.media)

    def _of(self, kind: str) -> tuple[Medium, ...]:
        return tuple(m for m in self.media if m.kind == kind)

    def _patches(self, kind: str) -> np.ndarray:
        """The rows of one kind; all of them, not copied, when there is no other."""
        mine = self._of(kind)
        if len(mine) == len(self.media):
            return self.patches
        return np.concatenate([self.patches[:0], *(self.patches[m.rows] for m in mine)])     # p x -> p x

    def with_sizes(self, sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]],
                   times: Sequence[tuple[float, ...] | None] | None = None) -> Inputs:
        """The same with each medium's (source size, resized size) written down, for mapping tokens
        back to pixels; and, of video files, the seconds at which the shown frames stand."""
        media = tuple(replace(m, source_size=a, size=b, times=when) for m, (a, b), when in
                      zip(self.media, sizes, times or [None] * len(self.media), strict=True))
        return replace(self, media=media)


def checked_ids(ids: Sequence[int] | np.ndarray, config: ModelConfig) -> np.ndarray:
    """Token ids as one row of int64, each in the vocabulary. Raises ArgumentError otherwise."""
    given = np.asarray(ids)
    if given.size and given.dtype.kind not in "iu":
        raise ArgumentError(f"input_ids should be integers, not {given.dtype}")
    ids = given.astype(np.int64)
    if ids.ndim != 1 or not len(ids):
        raise ArgumentError(f"input_ids should be one row of token ids, not of shape {list(ids.shape)}")
    if ids.min() < 0 or ids.max() >= config.text.vocab_size:
        bad = int(np.flatnonzero((ids < 0) | (ids >= config.text.vocab_size))[0])
        raise ArgumentError(f"input_ids[{bad}] is {ids[bad]}, the vocabulary has ids "
                            f"0..{config.text.vocab_size - 1}")
    return ids


def _grids(media: Sequence[Medium]) -> np.ndarray:
    return np.array([m.grid for m in media], np.int64).reshape(-1, 3)


def _interleaved(media: Sequence[Medium], images: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Patches of both kinds in prompt order; not copied when there is one kind only, which is in that
    order."""
    if not len(images) or not len(videos):
        return images if len(images) else videos
    rest = {"image": images, "video": videos}
    parts = []
    for m in media:
        parts.append(rest[m.kind][: m.patches])
        rest[m.kind] = rest[m.kind][m.patches :]
    return np.concatenate(parts)                                                     # p x, p x -> p x


def placeholders(ids: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Rows of a sequence that visual tokens take, in prompt order: s -> m."""
    return np.flatnonzero(np.isin(ids, (config.image_token_id, config.video_token_id)))


def media_rows(inputs: Inputs, config: ModelConfig) -> list[tuple[int, int]]:
    """The rows of a conversation that each of its pictures and videos takes: first and end."""
    at, cells = placeholders(inputs.input_ids, config), config.vision.spatial_merge_size ** 2
    ends = np.cumsum([m.patches // cells for m in inputs.media], dtype=np.int64)
    firsts = at[ends - [m.patches // cells for m in inputs.media]] if len(ends) else ends
    return [(int(first), int(at[end - 1]) + 1) for first, end in zip(firsts, ends, strict=True)]


def after(inputs: Inputs, rows: int, config: ModelConfig) -> Inputs:
    """What follows the first `rows` tokens of a conversation, which end in no picture or video."""
    left = [first >= rows for first, _ in media_rows(inputs, config)]
    media = [m for m, stays in zip(inputs.media, left, strict=True) if stays]
    start = media[0].first_patch if media else len(inputs.patches)
    return Inputs(inputs.input_ids[rows:], inputs.position_ids[:, rows:], inputs.patches[start:],
                  tuple(replace(m, first_patch=m.first_patch - start) for m in media))


@dataclass(frozen=True)
class Batch:
    """Conversations packed one after the other: what one run of the model takes.

    ids (s,), positions (3, s), placeholders (m,): rows that visual tokens take,
    lengths (conversations,), asked (n,): rows whose logits are wanted, patches (p, 1176),
    grids (i, 3), no_features (0, d), seen: which of all features (m, d) belong to these rows
    """
    ids: np.ndarray
    positions: np.ndarray
    placeholders: np.ndarray
    lengths: np.ndarray
    asked: np.ndarray
    patches: np.ndarray
    grids: np.ndarray
    no_features: np.ndarray
    seen: slice = field(default_factory=lambda: slice(None))

    @classmethod
    def of(cls, conversations: Sequence[Inputs], config: ModelConfig, dtype: DTypeLike,
           every_row: bool = False) -> Batch:
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

    def with_answer(self, answer: np.ndarray) -> Batch:
        """One conversation with the k tokens that were written after it; asked are the rows that chose
        them."""
        start, given = len(self.ids), answer[:-1]
        place = self.positions[:, -1:] + 1 + np.arange(len(given))                    # 3 1, k-1 -> 3 k-1
        return replace(self, ids=np.concatenate([self.ids, given]), lengths=self.lengths + len(given),
                       positions=np.concatenate([self.positions, place], axis=1),
                       asked=np.arange(start - 1, start + len(given)))

    def parts(self, rows: int | None) -> Iterator[Batch]:
        """The same in parts of so many rows, one after the other, or whole for None. A part's logits are
        those of the asked rows in it; the features of all pictures are formed once, and a part takes its
        own. A rest of fewer than LEAST rows joins the part before it.
        """
        total, ends = len(self.ids), np.cumsum(self.lengths)
        rows = max(1, total) if rows is None else rows
        starts = range(0, max(1, total - min(rows, LEAST) + 1), rows)
        for start, stop in zip(starts, [*starts[1:], total], strict=True):
            inside = np.clip(ends, start, stop) - np.clip(ends - self.lengths, start, stop)
            seen = slice(*np.searchsorted(self.placeholders, [start, stop]).tolist())
            asked = self.asked[(self.asked >= start) & (self.asked < stop)] - start
            yield replace(self, ids=self.ids[start:stop], positions=self.positions[:, start:stop],
                          placeholders=self.placeholders[seen] - start, lengths=inside, asked=asked, seen=seen)

    def on(self, to_device: Callable[[Any], Any]) -> Batch:
        """The same with its numbers in another machine's memory; tables of rows stay with the host."""
        return replace(self, patches=to_device(self.patches), no_features=to_device(self.no_features))

    def followed_by(self, tokens: np.ndarray, positions: np.ndarray, going: np.ndarray) -> Batch:
        """The next step: one token (and its three positions) for each conversation that is still
        going."""
        none = np.zeros(0, np.int64)
        return replace(self, ids=tokens[going], positions=positions[:, going], placeholders=none,
                       lengths=going.astype(np.int64), asked=np.arange(going.sum()),
                       patches=self.patches[:0],
                       grids=self.grids[:0], seen=slice(0, 0))

"""Where a row stands: positions in the picture for the vision tower, in time, height and width for the
decoder.

Two rotary embeddings live in this model and are often taken for one. The tower's is two-dimensional:
half of a head's angles count patch rows, half patch columns, from 0 in each picture. The decoder's,
MRoPE, has three axes, shared out over the frequencies; text has the same number on all three, which
makes it ordinary rotary embedding.

Frequencies and angles are float32 tables in *every* precision: they are constants that the model was
trained with, and forming them in float64 changes the model (at position 1,000 the cosine moves by
4e-5), not the rounding. In bfloat16 positions beyond 256 cannot even be written
(huggingface/candle#3520).

Read next: `kernels/definition.py` (`rotate`), `run/inputs.py`, which calls `mrope` for a prompt.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from ..config import TextConfig, VisionConfig, Yarn
from ..door.errors import ArgumentError
from ..door.stage import stage
from ..kernels import definition as kernels
from .patches import by_merge_block
from .windows import order_by_window

AFTER_VIDEO = ("max_plus_one", "tf5")


def inverse_frequencies(width: int, theta: float) -> np.ndarray:
    """theta^(-2i/width) for i < width/2, in float32, formed step by step as the reference forms it."""
    return np.float32(1) / powers(width, theta)


def powers(width: int, theta: float) -> np.ndarray:
    """theta^(2i/width) for i < width/2, in float32."""
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return np.power(np.float64(theta), exponent.astype(np.float64)).astype(np.float32)


def text_frequencies(config: TextConfig) -> np.ndarray:
    """The decoder's frequencies, f, float32: as trained, or stretched for a longer context (YaRN:
    Peng et al., 2023), step by step as the reference forms them.

    A frequency that turns often within the trained length tells near tokens apart and stays; one
    that has not turned once is interpolated, divided by the factor. Between them lies a ramp over
    the frequencies.
    """
    trained = inverse_frequencies(config.head_dim, config.rope_theta)                    # f
    if config.yarn is None:
        return trained
    low, high = ramp_ends(config.yarn, config.head_dim, config.rope_theta)
    steps = (np.arange(len(trained), dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    stays = np.float32(1) - np.clip(steps, 0, 1).astype(np.float32)                      # f: 1 .. 0
    factor = np.float32(config.yarn.factor)
    divided = np.float32(1) / (factor * powers(config.head_dim, config.rope_theta))
    return divided * (np.float32(1) - stays) + trained * stays


def ramp_ends(yarn: Yarn, width: int, theta: float) -> tuple[float, float]:
    """The numbers of the last frequency that stays and of the first that is wholly stretched."""
    def turning(times: float) -> float:
        return width * math.log(yarn.original_max_position_embeddings / (times * 2 * math.pi)) \
            / (2 * math.log(theta))
    low, high = turning(yarn.beta_fast), turning(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    return low, high + 0.001 if low == high else high


def patch_coordinates(grids: np.ndarray, merge: int) -> np.ndarray:
    """Row and column of every patch as cut: i 3 -> p 2. Each frame starts at 0; time has no part in
    the tower."""
    return np.concatenate([grid_coordinates(grid, merge)[:, 1:] for grid in grids]
                          or [np.zeros((0, 2), np.int64)])


def grid_coordinates(grid: np.ndarray, merge: int) -> np.ndarray:
    """Time, row and column of the patches of one picture or video, in 2x2 block order: 3 -> p 3."""
    t, gh, gw = (int(n) for n in grid)
    raster = np.moveaxis(np.indices((t, gh, gw)), 0, -1)                 # 3 t gh gw -> t gh gw 3
    return by_merge_block(raster, merge)                                 # -> p 3


@stage("angles", "i 3, c, _ -> w f", composite=True)
def window_angles(grids: np.ndarray, order: np.ndarray, config: VisionConfig) -> np.ndarray:
    """The tower's rotary angles by window: a quarter of the head width counts rows, the next quarter
    columns."""
    at = order_by_window(patch_coordinates(grids, config.spatial_merge_size), order)     # p 2 -> w 2
    return spatial_angles(at, config)


@stage("spatial_angles", "w 2, _ -> w f")
def spatial_angles(at: np.ndarray, config: VisionConfig) -> np.ndarray:
    """Row and column times the frequencies, side by side: w 2 -> w f, float32."""
    frequency = inverse_frequencies(config.head_dim // 2, config.rope_theta)             # e/4 of them
    angles = at.astype(np.float32)[:, :, None] * frequency                               # w 2 -> w 2 e/4
    return angles.reshape(len(at), -1)                                                   # -> w f


@stage("angles", "3 s, _ -> s f")
def mrope_angles(positions: np.ndarray, config: TextConfig) -> np.ndarray:
    """MRoPE: frequency i turns by time, height or width as `mrope_section` says: the first section
    time, and so on.

    The official sections are 16, 24, 24 of 64 frequencies, in *chunks*; Qwen3-VL interleaves them.
    Reading the layout wrongly leaves text untouched (Blaizzy/mlx-vlm#576).
    """
    frequency = text_frequencies(config)                                                 # f
    axis = np.repeat(np.arange(3), config.mrope_section)                        # f: 0 0 .. 1 1 .. 2 2 ..
    return positions.astype(np.float32)[axis].T * frequency                           # 3 s -> f s -> s f


@stage("cos_sin", "n f, _ -> n f, n f")
def cos_sin(angles: np.ndarray, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the angles, rounded to `dtype`. A float64 model is float64 from here on."""
    return kernels.cos_sin(angles, dtype)


@stage("cos_sin", "n f, _, _ -> n f, n f")
def cos_sin_for_long(angles: np.ndarray, dtype: DTypeLike, factor: float
                     ) -> tuple[np.ndarray, np.ndarray]:
    """The same times YaRN's attention factor: scores grow by its square, as over more tokens they
    must."""
    return kernels.cos_sin(angles, dtype, factor)


def turns(angles: np.ndarray, config: TextConfig, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the decoder's angles: s f -> s f, s f."""
    if config.yarn is None:
        return cos_sin(angles, dtype)
    return cos_sin_for_long(angles, dtype, config.yarn.attention)


@stage("positions.ticks", "i, _ -> i")
def ticks(seconds: np.ndarray, per_second: int) -> np.ndarray:
    """Temporal positions from one pair of frames to the next, float32: absolute time, whatever the
    frame rate.

    seconds (i,): between pairs of frames of each video; per_second: `tokens_per_second` of the model.
    Neither factor is rounded: whole seconds made every video above 2 frames a second stand still
    (huggingface/transformers#48669).
    """
    return (per_second * seconds).astype(np.float32)


@stage("positions.mrope", "s, i 3, i, _, _, _ -> 3 s")
def mrope(ids: np.ndarray, grids: np.ndarray, ticks: np.ndarray, pads: tuple[int, ...], merge: int,
          after_video: str) -> np.ndarray:
    """Time, height and width position of every token of one conversation: s -> 3 s.

    grids (i, 3) in prompt order; ticks (i,) float32: temporal positions between two frame pairs, 1 for
    a picture and tokens_per_second x seconds per frame pair for a video: absolute time. pads: the
    placeholder ids. Text counts up on all three axes. A picture starts at the next free number p: row
    t, h, w of its cells is p + floor(t x ticks), p + h, p + w. Text after it goes on at
      "max_plus_one"  the largest number so far plus one: the rule the official models were trained with;
      "tf5"           p + max(h, w), as transformers 5 counts. The same for pictures; after a long video it is smaller.
    Source: technical report, section 2.1.3; huggingface/transformers#35569.
    """
    if after_video not in AFTER_VIDEO:
        raise ArgumentError(f"after_video is {after_video!r}; it can be {' or '.join(AFTER_VIDEO)}")
    starts = np.flatnonzero(np.isin(ids, pads))
    columns, at, p = [np.zeros((3, 0), np.int64)], 0, 0
    for grid, tick in zip(grids, ticks, strict=True):
        start = int(starts[starts >= at][0])
        cells = _cell_positions(grid, tick, merge)                       # 3 n
        text = start - at
        columns += [np.tile(p + np.arange(text), (3, 1)), p + text + cells]
        at, p = start + cells.shape[1], p + text
        p += int(cells.max()) + 1 if after_video == "max_plus_one" else int(max(grid[1:])) // merge
    columns.append(np.tile(p + np.arange(len(ids) - at), (3, 1)))
    return np.concatenate(columns, axis=1)


def _cell_positions(grid: np.ndarray, tick: np.float32, merge: int) -> np.ndarray:
    """Positions of one picture's or video's cells, counted from its start: 3 n."""
    t, h, w = np.indices((int(grid[0]), int(grid[1]) // merge, int(grid[2]) // merge)).reshape(3, -1)
    # The product is formed first and floored then, in float32: flooring seconds first froze videos
    # above 2 frames a second at one moment (huggingface/transformers#48669).
    return np.stack([np.floor(t.astype(np.float32) * np.float32(tick)).astype(np.int64), h, w])


@stage("positions.advance", "n, 3 n -> 3 n")
def advance(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Positions of the token in row `rows` of each of n conversations: on every axis one more than the
    last one's.

    offsets (3, n): how far positions lag behind rows since the prompt, because a picture takes more
        rows than numbers.
    It is kept with the request, never on the model, where it leaks into the next one
    (huggingface/transformers#43952), and never forgotten: that is decoding with ordinary positions
    after a prompt with MRoPE (jundot/omlx#689).
    """
    return rows + offsets                                                # n, 3 n -> 3 n

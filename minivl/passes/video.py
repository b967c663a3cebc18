"""Frames of a video: which ones are shown, at what size, and how much time lies between them.

A video is a list of frames here, or one array [t y b 3]; two frames share one patch.
Which frames those are is part of the model's input, and the two official programs choose different ones:
`sample_official` (qwen-vl-utils, last frame included) and `sample_transformers` (evenly from the
first, last one not included). Both count frames; `sample_times` goes by when they stand.

Not here: opening frames and files (`run/open_picture.py`, `run/footage.py`), and positions in time, which
`positions.py` derives from `seconds_per_grid`. Read next: `patches.py`.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..config import PreprocessorConfig
from ..door.stage import stage
from .picture import PictureError, bicubic, fitted, standardise

FPS = 2.0                       # frames per second that both programs ask for by default
PAIR = 2                        # counts are even: two frames share a patch
MIN_FRAMES, MAX_FRAMES = 4, 768
MIN_TOKENS, MAX_TOKENS = 128, 768           # of one frame pair, one token being 28 x 28 pixels
CONTEXT_TOKENS = 128_000                    # nine tenths of it are the budget of a whole video


# ----------------------------------------------------------------- which frames: total, fps -> indices

def sample_official(total: int, fps: float, wanted_fps: float = FPS, count: int | None = None,
                    min_frames: int = MIN_FRAMES, max_frames: int | None = None) -> np.ndarray:
    """Indices of the frames that qwen-vl-utils shows: evenly spread, first and last included, (n,)
    int64.

    total, fps: frames of the video and how many of them make a second. `count` overrules `wanted_fps`.
    Raises PictureError for a video of fewer than two frames, or a count that it does not have.
    """
    ceiling = min(MAX_FRAMES, total) if max_frames is None else max_frames
    n = _frame_count(total, fps, wanted_fps, count, math.ceil(min_frames / PAIR) * PAIR, ceiling)
    return spread(0, total - 1, n)


def spread(first: int, last: int, n: int) -> np.ndarray:
    """n frames from `first` to `last`, both included, as evenly as integers go: (n,) int64.

    The original rounds `torch.linspace`, float32 that is counted from the nearer end with one rounding
    for each value; beyond some 10,000 frames that shows, and is repeated here.
    """
    step, i = np.float32(last - first) / np.float32(n - 1), np.arange(n)
    low, high = first + np.float64(step) * i, last - np.float64(step) * (n - 1 - i)
    return np.rint(np.where(i < n // 2, low, high).astype(np.float32)).astype(np.int64)


def sample_times(seconds: np.ndarray, wanted_fps: float = FPS, count: int | None = None,
                 min_frames: int = MIN_FRAMES, max_frames: int = MAX_FRAMES) -> np.ndarray:
    """Indices of frames evenly spread in *time*, first and last included, for a video whose frames do not
    come at one rate; seconds (total,): when each stands. Arguments and errors as in `sample_official`.

    A frame that stands for a long while may be taken several times: it is what was seen then.
    """
    total, length = len(seconds), float(seconds[-1] - seconds[0]) if len(seconds) else 0.0
    rate = (total - 1) / length if length > 0 else 0.0
    n = _frame_count(total, rate, wanted_fps, count, math.ceil(min_frames / PAIR) * PAIR,
                     min(max_frames, total))
    times = np.linspace(seconds[0], seconds[-1], n)
    return np.maximum(np.searchsorted(seconds, times + 1e-6, side="right") - 1, 0)


def sample_transformers(total: int, fps: float, wanted_fps: float = FPS, count: int | None = None,
                        min_frames: int = MIN_FRAMES, max_frames: int = MAX_FRAMES) -> np.ndarray:
    """Indices of the frames that transformers 5 shows: multiples of total/n, cut to integers, (n,)
    int64.

    Arguments and errors as in `sample_official`. The float32 is the original's, up to some 10,000
    frames (see there). Trap: its `arange` counts steps in floating point and can take one too many, so
    that 480 of 629 frames come as 481 with 629 at the end, which the video does not have. Here it is
    always n.
    """
    n = _frame_count(total, fps, wanted_fps, count, min_frames, min(max_frames, total))
    return (np.arange(n) * (total / n)).astype(np.float32).astype(np.int64)


def frame_range(total: int, fps: float, start: float | None = None, end: float | None = None
                ) -> tuple[int, int]:
    """First and last frame between two times in seconds, both included, as qwen-vl-utils cuts: at most a
    whole frame is lost at either end. Raises PictureError where fewer than two frames are left."""
    first = 0 if start is None else math.ceil(min(start, total / fps) * fps)
    last = total - 1 if end is None else min(math.floor(min(end, total / fps) * fps), total - 1)
    if total and (start is not None or end is not None) and first >= last:
        raise PictureError(f"video_start {start} and video_end {end} leave no two frames of a video of "
                           f"{total} at {fps} per second, {total / fps:.2f} seconds; move them apart")
    return first, last


def _frame_count(total: int, fps: float, wanted_fps: float, count: int | None, least: int,
                 most: int) -> int:
    """The rule of both programs: seconds times wanted fps, within limits, rounded down to even."""
    if total < PAIR or not (0 < fps < math.inf and 0 < wanted_fps < math.inf):
        raise PictureError(f"video of {total} frames at {fps} per second, {wanted_fps} wanted: sampling "
                           f"takes at least {PAIR} frames and positive rates")
    if count is not None:
        n = round(count / PAIR) * PAIR
    else:
        asked = min(max(total / fps * wanted_fps, least), math.floor(most / PAIR) * PAIR, total)
        n = math.floor(asked / PAIR) * PAIR
    if not PAIR <= n <= total:
        raise PictureError(f"{n} frames asked of a video that has {total}; ask for {PAIR} to {total}")
    return n


def sampled_fps(count: int, total: int, fps: float) -> float:
    """Frames per second among the sampled ones: `count` of `total` frames of a video at `fps`."""
    return count / total * fps


def seconds_per_grid(fps: float, config: PreprocessorConfig) -> float:
    """Seconds from one pair of frames to the next, for *sampled* frames per second: 1.0 at 2 fps.

    Trap: transformers assumes 24 fps when it is given no metadata, hence 0.083 s, and the model's
        clock runs
        12 times too slow (QwenLM/Qwen3-VL#1381); vLLM and SGLang have lost the number on the way
        (sgl-project/sglang#3674).
    """
    if not 0 < fps < math.inf:
        raise PictureError(f"{fps} frames per second: the rate must be positive")
    return config.temporal_patch_size / fps


def timestamps(indices: np.ndarray, fps: float) -> np.ndarray:
    """Seconds into the video at which each sampled frame stands, (n,) float64. For display: the model
    sees none."""
    return np.asarray(indices) / fps


# ---------------------------------------------------------------------------------------- at what size

def video_pixel_limits(count: int, config: PreprocessorConfig) -> PreprocessorConfig:
    """`config` with the pixel limits of one frame in a video of `count` frames; give it to
    `picture.target_size`.

    The rule of qwen-vl-utils, and of transformers with `cap_pixels_per_frame`: 128 to 768 tokens a
    frame, but all frames together within nine tenths of the context, shared evenly. A long video gets
    small frames: 720 x 1280 is seen at 560 x 1008 up to 300 frames, at 336 x 644 with 768. Without the
    cap transformers takes `config` as it is.
    """
    area = config.factor**2
    least = MIN_TOKENS * area
    budget = int(CONTEXT_TOKENS * area * 0.9)
    most = max(min(MAX_TOKENS * area, budget * config.temporal_patch_size // count), int(least * 1.05))
    return dataclasses.replace(config, min_pixels=least, max_pixels=most)


def within_budget(count: int, total_pixels: float, config: PreprocessorConfig,
                  least: int | None = None) -> PreprocessorConfig:
    """`config` with the limits of one frame where all `count` frames together may have `total_pixels`.

    The rule of qwen-vl-utils: at least 128 tokens a frame (or `least` pixels), at most 768, and never
    more than `config` allows, whose own lower limit holds where 128 tokens are too many for it. Two
    frames share their tokens, hence twice the share of each. A budget that the lower limit does not fit
    into is refused: there the original goes beyond it.
    """
    area, pair = config.factor**2, config.temporal_patch_size
    shown = math.ceil(count / pair) * pair
    share = int(total_pixels / max(shown, 1) * pair)
    most = min(MAX_TOKENS * area, share, config.max_pixels)
    usual = MIN_TOKENS * area
    lowest = least or (usual if int(usual * 1.05) <= config.max_pixels else config.min_pixels)
    if share < int(lowest * 1.05):
        raise PictureError(f"total_pixels is {total_pixels:,.0f} for {shown} frames, {share:,} for each "
                           f"pair; a frame has at least {lowest:,}: give a smaller min_pixels as well, "
                           "or fewer frames")
    return dataclasses.replace(config, min_pixels=lowest, max_pixels=most)


def official_size(shape: tuple[int, ...], count: int, factor: int, total_pixels: float | None = None,
                  min_pixels: float | None = None, max_pixels: float | None = None) -> tuple[int, int]:
    """(height, width) to which qwen-vl-utils resizes the `count` frames of a video file, before the
    checkpoint's own settings for videos are applied. shape: (y, b, ...) of a frame.

    128 to 768 tokens a frame, within an even share of `total_pixels` (nine tenths of 128,000 tokens unless
    said), but at least 1.05 times the least; `min_pixels` stands for the 128 tokens, and `max_pixels` can
    only lower the rest. So a budget is exceeded where the least does not fit into it. Raises PictureError
    where max_pixels is below the least.
    """
    area = factor * factor
    least = MIN_TOKENS * area if min_pixels is None else min_pixels
    total = CONTEXT_TOKENS * area * 0.9 if total_pixels is None else total_pixels
    most = max(min(MAX_TOKENS * area, total / count * PAIR), int(least * 1.05))
    most = most if max_pixels is None else min(max_pixels, most)
    if most < least:
        raise PictureError(f"max_pixels is {most:,.0f}, less than the {least:,.0f} that a frame has at "
                           "least; give a smaller min_pixels as well")
    y, b = int(shape[0]), int(shape[1])
    return fitted(max(y, 1), max(b, 1), factor, least, most, lift=True)


@stage("video.resize", "t y b 3, 2 -> t h u 3")
def resize_frames(frames: np.ndarray, size: np.ndarray) -> np.ndarray:
    """`picture.resize` on every frame, to one size. The frames are looped over once: those of a file are
    read one by one.

    qwen-vl-utils 0.0.14 resizes a video that comes as a list of frames twice, the first time to
    multiples of 56 (360 x 640 -> 336 x 616 where one resize gives 364 x 644). That is a slip, and not
    repeated here.
    """
    resized = np.empty((len(frames), int(size[0]), int(size[1]), 3), np.uint8)
    for n, frame in enumerate(frames):
        resized[n] = bicubic(frame, size)                                            # t y b 3 -> t h u 3
    return resized


@stage("video.normalise", "t h u 3 -> t 3 h u")
def normalise_frames(frames: np.ndarray, config: PreprocessorConfig) -> np.ndarray:
    """`picture.normalise` on every frame: float32, ready for `patches.patchify`."""
    return standardise(frames, config)                                               # t h u 3 -> t 3 h u

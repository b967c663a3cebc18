"""Which frames are shown, at what size, how far apart in time. Golden values were observed in the official programs."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minivl.config import PreprocessorConfig
from minivl.door.stage import session
from minivl.passes.patches import grid_of, patchify
from minivl.passes.picture import PictureError, normalise, resize, target_size
from minivl.passes.video import (
    normalise_frames,
    resize_frames,
    sample_official,
    sample_transformers,
    sampled_fps,
    seconds_per_grid,
    timestamps,
    video_pixel_limits,
)
from minivl.run.open_picture import as_frames, load_frames

HUB = PreprocessorConfig(min_pixels=3136, max_pixels=12845056, patch_size=14, temporal_patch_size=2, merge_size=2,
                         image_mean=(0.48145466, 0.4578275, 0.40821073),
                         image_std=(0.26862954, 0.26130258, 0.27577711))
CLIP = np.random.default_rng(3).integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------- which frames

@pytest.mark.parametrize(("total", "fps", "count", "transformers", "official", "rate"), [
    (300, 30, 20, ([0, 15, 30, 45], 285), ([0, 16, 31, 47], 299), 2.0),
    (100, 25, 8, ([0, 12, 25, 37], 87), ([0, 14, 28, 42], 99), 2.0),
    (7, 30, 4, ([0, 1, 3, 5], 5), ([0, 2, 4, 6], 6), 17.142857),
    (60, 24, 4, ([0, 15, 30, 45], 45), ([0, 20, 39, 59], 59), 1.6),
    (48000, 30, 768, ([0, 62, 125], 47937), ([0, 63, 125], 47999), 0.48),
])
def test_golden_samples(total, fps, count, transformers, official, rate):
    for sample, (start, end) in ((sample_transformers, transformers), (sample_official, official)):
        got = sample(total, fps)
        assert len(got) == count and got.dtype == np.int64
        assert got[: len(start)].tolist() == start and got[-1] == end
        assert sampled_fps(len(got), total, fps) == pytest.approx(rate, rel=1e-6)


@given(st.integers(2, 9000), st.floats(0.5, 240), st.floats(0.05, 60))
def test_samples_spread_evenly(total, fps, wanted):
    official, other = sample_official(total, fps, wanted), sample_transformers(total, fps, wanted)
    n = len(official)
    limit = 2 * (min(768, total) // 2)
    assert n % 2 == 0 and n == 2 * int(min(max(Fraction(total / fps * wanted), 4), limit) // 2)
    assert official[0] == 0 and official[-1] == total - 1
    steps = np.arange(n)
    assert (2 * np.abs(official * (n - 1) - steps * (total - 1)) < n - 1).all()       # the nearest, and no ties
    assert len(other) == n and other[0] == 0 and other[-1] < total and (np.diff(other) > 0).all()
    exactly = total * steps // n
    assert ((other == exactly) | (other == exactly + 1)).all()
    assert (other == exactly)[total * steps % n < n - n * total / 2**23].all()        # up only by float32 rounding


@pytest.mark.parametrize(("total", "count"), [(629, 480), (307, 28), (4333, 236)])
def test_no_frame_beyond_the_last(total, count):
    assert len(sample_transformers(total, 30, count=count)) == count
    assert sample_transformers(total, 30, count=count)[-1] < total


def test_a_count_of_frames_is_rounded_to_even_and_bounds_hold():
    for sample in (sample_official, sample_transformers):
        assert [len(sample(100, 25, count=n)) for n in (2, 3, 4, 5, 7)] == [2, 4, 4, 4, 8]   # halves to even pairs
        assert len(sample(1000, 10, min_frames=300)) == 300
        assert len(sample(1000, 10, max_frames=11)) == 10
        assert sample(2, 30).tolist() == ([0, 1])


@pytest.mark.parametrize("arguments", [(1, 30), (0, 30), (-4, 30), (10, 0), (10, -1), (10, float("nan")),
                                       (10, float("inf")), (10, 30, 0.0), (10, 30, -2.0)])
def test_impossible_samples_are_refused(arguments):
    for sample in (sample_official, sample_transformers):
        with pytest.raises(PictureError, match="frames"):
            sample(*arguments)


@pytest.mark.parametrize("count", [0, 1, -2, 12, 1000])
def test_impossible_counts_are_refused(count):
    for sample in (sample_official, sample_transformers):
        with pytest.raises(PictureError, match="a video that has 10; ask for 2 to 10"):
            sample(10, 30, count=count)


# --------------------------------------------------------------------------------------------------------------- time

def test_time():
    assert seconds_per_grid(2.0, HUB) == 1.0
    assert seconds_per_grid(24, HUB) == pytest.approx(1 / 12)
    np.testing.assert_allclose(timestamps(np.array([0, 15, 31]), 30), [0, 0.5, 31 / 30])
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(PictureError, match="positive"):
            seconds_per_grid(rate, HUB)


# --------------------------------------------------------------------------------------------------------------- size

@pytest.mark.parametrize(("count", "expected"), [(2, (560, 1008)), (300, (560, 1008)), (384, (504, 896)),
                                                 (768, (336, 644))])
def test_golden_sizes(count, expected):
    limits = video_pixel_limits(count, HUB)
    assert tuple(target_size((720, 1280), limits)) == expected
    assert limits.min_pixels == 100352 and limits.factor == 28
    if count == 768:
        assert count // 2 * np.prod(expected) // 784 == 105984


def test_a_list_of_frames_is_resized_once():
    assert tuple(target_size((360, 640), video_pixel_limits(8, HUB))) == (364, 644)


@given(st.integers(1, 5000))
def test_the_budget_is_kept(count):
    """Nine tenths of 128,000 tokens for all pairs of frames, but 1.05 times 128 tokens are always allowed."""
    limits = video_pixel_limits(count, HUB)
    assert limits.min_pixels < limits.max_pixels <= 768 * 784
    assert limits.max_pixels * count <= 2 * 115_200 * 784 or limits.max_pixels == 105_369
    assert limits.max_pixels >= video_pixel_limits(count + 1, HUB).max_pixels


# ------------------------------------------------------------------------------------------------------------- frames

def test_frames_come_as_anything_a_picture_is(tmp_path):
    path = tmp_path / "frame 0.png"
    Image.fromarray(CLIP[0]).save(path)
    for frames in ([path, Image.fromarray(CLIP[1]), CLIP[2]], tuple(CLIP), iter(CLIP), CLIP):
        got = load_frames(frames)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, CLIP)


@pytest.mark.parametrize("given", ["a.mp4", Path("a.mp4"), b"\0ftyp", bytearray(4), memoryview(b"\0ftyp"), {"video": 1},
                                   Image.fromarray(CLIP[0]), 2, None])
def test_one_thing_is_no_series_of_frames(given):
    with pytest.raises(PictureError, match=f"a video is a file, or a list of frames, not one {type(given).__name__}"):
        as_frames(given)


def test_frames_of_any_series_can_be_counted_and_chosen():
    for frames in (tuple(CLIP), iter(CLIP), (frame for frame in CLIP), dict(enumerate(CLIP)).values()):
        counted = as_frames(frames)
        assert len(counted) == 3 and counted[2] is not None
        np.testing.assert_array_equal(np.stack(counted), CLIP)
    assert as_frames(CLIP) is CLIP
    with pytest.raises(PictureError, match=r"\[t y b colour\]"):
        as_frames(CLIP[0])


@pytest.mark.parametrize(("frames", "reason"), [
    ([CLIP[0], CLIP[1][:19]], "frame 1 is 19 x 31 .* frame 0 is 20 x 31"),
    ([CLIP[0], b"?"], "frame 1: .*not a picture"),
    ([], "at least one frame"), (CLIP[0], r"\[t y b colour\]"),
    ("holiday.mp4", "list of frames, not one str"),
    (b"\0\0\0 ftypisom", "list of frames, not one bytes"), (Image.fromarray(CLIP[0]), "list of frames"),
    (5, "list of frames"),
    (None, "list of frames"), (CLIP[:0], "at least one frame"),
])
def test_refused_frames(frames, reason):
    with pytest.raises(PictureError, match=reason):
        load_frames(frames)


def test_frames_go_the_way_of_pictures():
    limits = video_pixel_limits(len(CLIP), HUB)
    with session(verify=True, record="*") as s:
        size = target_size(CLIP.shape[1:], limits)
        shown = normalise_frames(resize_frames(CLIP, size), HUB)
        patches = patchify(shown, HUB)
    assert list(s.trace) == ["picture.target_size", "video.resize", "video.normalise", "patches.patchify"]
    alone = np.stack([normalise(resize(frame, size), HUB) for frame in CLIP])
    np.testing.assert_array_equal(shown, alone)
    grid = grid_of(shown.shape, HUB)
    assert grid[0] == 2 and len(patches) == grid.prod()

"""Claims 1 to 5, 14 and 15: sizes, patches, windows, frames and the merger. Read next: `attention.py`."""

from __future__ import annotations

import numpy as np

from minivl.passes.patches import grid_of, patchify
from minivl.passes.picture import target_size
from minivl.passes.video import sample_official, sample_transformers, video_pixel_limits
from minivl.passes.vision import merge_2x2
from minivl.passes.windows import schedule

from .finding import LOOSE, WRONG, Finding, claim, verdict, yes
from .setting import CONFIG, PICTURES, embedded, seeded, sized

ARTICLE_SIZES = ((224, 288), (360, 720), (512, 384))


@claim(1, "pictures enter at their native resolution, without forced resizing (224x288, 360x720, 512x384)")
def native_resolution() -> Finding:
    """There is no *fixed* size, and a picture keeps its scale and very nearly its shape: that is what is
    new, and the claim is right about it. But every picture is still resized: both sides are rounded to
    multiples of 28 pixels, and the area is kept between 3,136 and 12,845,056 pixels. Not one of the
    article's own three sizes passes unchanged. It matters in practice, because the boxes that the model
    writes are pixels of the resized picture (claim 20).
    """
    seen = [sized(*size) for size in ARTICLE_SIZES]
    large = sized(4000, 6000)
    figures = [f"{a} x {b} is seen as {h} x {w}" for (a, b), (h, w) in zip(ARTICLE_SIZES, seen, strict=True)]
    figures.append(f"4000 x 6000 is seen as {large[0]} x {large[1]}: the area is bounded too")
    return Finding(verdict(seen == list(ARTICLE_SIZES), LOOSE), tuple(figures))


@claim(2, "video frames enter at their original size (1280x720)")
def frame_size() -> Finding:
    """Any size may come in, and none is prescribed. But a frame is made smaller than a still picture: at
    most 768 tokens a pair of frames, and all frames together within nine tenths of 128,000 tokens (the
    rule of the authors' own tool, qwen-vl-utils). So 1280 x 720 never enters as it is, and the longer the
    video, the smaller each frame.
    """
    counts = (4, 300, 384, 768)
    seen = {n: target_size((720, 1280), video_pixel_limits(n, PICTURES)).tolist() for n in counts}
    alone = sized(720, 1280)
    figures = (f"720 x 1280 (height x width) as a picture: {alone[0]} x {alone[1]}",
               *(f"the same as one of {n} frames: {h} x {w}" for n, (h, w) in seen.items()))
    return Finding(verdict(all(size == [720, 1280] for size in seen.values()), LOOSE), figures)


@claim(3, "patches are 14 x 14; 224 x 288 gives 16 x 20 = 320 of them")
def patch_count() -> Finding:
    """The numbers are right, and they show the resize that claim 1 denies: 288 pixels are 20.57 patches
    wide. After rounding to 280 there are exactly 20. The decoder then sees a quarter as many tokens, 80
    (claim 15).
    """
    h, w = sized(224, 288)
    grid = grid_of((1, 3, h, w), PICTURES)
    figures = (f"224 x 288 is seen as {h} x {w}: {grid[1]} x {grid[2]} = {grid.prod()} patches",
               f"unresized, 288 / 14 = {288 / 14:.2f} is no whole number of patches",
               f"visual tokens after the 2x2 merger: {grid.prod() // 4}")
    return Finding(verdict(grid.tolist() == [1, 16, 20]), figures)


@claim(4, "two frames form one three-dimensional patch of 14 x 14 x 2")
def frame_pairs() -> Finding:
    """It is the only place in the vision tower where time mixes (claim 7). A still picture is shown
    twice, and an odd last frame is repeated, so that every patch has two halves. With its three colours a
    patch is 1,176 numbers.
    """
    frames = seeded().normal(size=(4, 3, 56, 84)).astype(np.float32)
    rows = patchify(frames, PICTURES).reshape(-1, 3, 2, 14, 14)                      # p x -> p c s py px
    changed = frames.copy()
    changed[1] += 1
    moved = (patchify(changed, PICTURES).reshape(rows.shape) != rows).any(axis=(1, 3, 4))    # p s
    half = len(rows) // 2
    only = bool(moved[:half, 1].all() and not moved[:half, 0].any() and not moved[half:].any())
    still = patchify(frames[:1], PICTURES).reshape(-1, 3, 2, 14, 14)
    twice = np.array_equal(still[:, :, 0], still[:, :, 1])
    figures = (f"4 frames of 56 x 84: {len(rows)} patches of 3 x 2 x 14 x 14 = {rows[0].size} numbers",
               f"changing frame 1 changes the second half of the first pair's patches alone: {yes(only)}",
               f"a still picture fills both halves with the same pixels: {yes(twice)}")
    return Finding(verdict(only and twice and rows[0].size == 3 * 14 * 14 * 2), figures)


@claim(5, 'windows are 112 x 112 "in patch space"')
def window_size() -> Finding:
    """The number is right, the unit is not: a window is 112 x 112 *pixels*, 8 x 8 patches. At 112 patches
    a side, a picture of up to 1568 x 1568 pixels would fit into a single window and windowing would save
    nothing. Programmers meet the same trap: `window_size` in the configuration is in pixels.
    """
    config = CONFIG.vision
    tables = schedule(np.array([[1, 46, 34]]), config)                               # 644 x 476 pixels
    largest = max(int(q1 - q0) for q0, q1, _, _ in tables[0])
    side = int(largest**0.5)
    pixels = side * config.patch_size
    mistaken = 112 * config.patch_size
    figures = (f"644 x 476 pixels: {len(tables[0])} windows, the largest of {largest} patches",
               f"{side} x {side} patches are {pixels} x {pixels} pixels, {largest // 4} visual tokens",
               f"112 x 112 patches would be {mistaken} x {mistaken} pixels")
    return Finding(verdict(side == 112, WRONG), figures)


@claim(14, "frames are sampled dynamically")
def frame_sampling() -> Finding:
    """The number of frames follows the length of the video and a wanted rate (2 a second), in even
    numbers between 4 and 768, so the rate that results varies: in that sense sampling is dynamic. The
    rule is arithmetic on two numbers; it never looks at what is in the frames. The two official programs
    choose different frames under the same rule. That training used many rates rests on the technical
    report (arXiv 2502.13923).
    """
    videos = ((300, 30.0), (100, 25.0), (7, 30.0), (48_000, 30.0))
    counts = [len(sample_official(*video)) for video in videos]
    ours, theirs = sample_official(300, 30.0)[:4], sample_transformers(300, 30.0)[:4]
    figures = (*(f"{total} frames at {fps:g} a second: {n} are shown, {n / total * fps:.2f} a second"
                 for (total, fps), n in zip(videos, counts, strict=True)),
               f"which ones, of 300: qwen-vl-utils {ours.tolist()} ..., transformers {theirs.tolist()} ...")
    return Finding(verdict(counts == [20, 8, 4, 768]), figures)


@claim(15, "an MLP merges 2 x 2 patches into one token")
def merging() -> Finding:
    """First a norm on each patch, then the four patches of a cell side by side through two linear maps
    with a GELU between them. The result has the width of the decoder's word embeddings. So a picture
    costs a quarter as many tokens as it has patches: one for every 28 x 28 pixels.
    """
    merger, config = embedded().weights.vision.merger, embedded().config.vision
    x = seeded().normal(size=(24, config.hidden_size)).astype(np.float32)      # six cells of four patches
    changed = x.copy()
    changed[9] += 1                                                                  # a patch of cell 2
    before, after = merge_2x2(x, merger), merge_2x2(changed, merger)
    moved = np.flatnonzero((before != after).any(axis=1)).tolist()
    width = CONFIG.vision.hidden_size
    figures = (f"{len(x)} patches become {len(before)} tokens",
               f"changing patch 9 (of cell 2) changes tokens {moved} and no other",
               f"official 7B: 4 x {width} = {4 * width} -> {4 * width} -> {CONFIG.text.hidden_size}")
    return Finding(verdict(len(before) * 4 == len(x) and moved == [2]), figures)

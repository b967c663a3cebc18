"""Where a pixel ends up, by the impulse test: light one pixel, and the token that `where_pixel` names changes most."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minivl
from minivl.config import PreprocessorConfig
from minivl.run.inputs import Inputs
from minivl.run.prepare import cut_picture, cut_video

from ..properties.worlds import IMAGE, VIDEO, configs

sides = st.one_of(st.integers(1, 30), st.integers(20, 260))
BLACK = {"min_pixels": 784, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
         "image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}


def made(kind, cut, pixels, limits, before):
    """A prompt of a picture of one cell, when asked for, and of what is looked at."""
    first = cut_picture({"image": np.zeros((28, 28, 3), np.uint8)}, limits)
    last = cut({"image": pixels} if kind == IMAGE else {"video": pixels}, limits)
    return last, ([first] if before else [])


@settings(deadline=None)
@given(configs(), sides, sides, st.integers(2, 24), st.booleans(), st.integers(0, 5), st.booleans(), st.data())
def test_the_token_of_a_pixel_is_the_one_that_an_impulse_moves_most(config, height, width, cells, film, frame, before,
                                                                    data):
    assume(max(height, width) <= 20 * min(height, width))
    limits = PreprocessorConfig(**BLACK, max_pixels=784 * cells)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    frames = np.zeros((6 if film else 1, height, width, 3), np.uint8)
    frame = frame if film else 0
    frames[frame, y, x] = 255
    kind, cut = (VIDEO, cut_video) if film else (IMAGE, cut_picture)
    last, media = made(kind, cut, frames if film else frames[0], limits, before)
    energy = (last.patches.astype(np.float64) ** 2).reshape(-1, 4 * last.patches.shape[1]).sum(1)        # p x -> m
    assume(energy.max() > 0)                                    # a pixel may vanish when a picture shrinks
    counts = [len(one.patches) // 4 for one in [*media, last]]
    ids = [token for one, count in zip([*media, last], counts, strict=True)
           for token in [*[VIDEO if one.kind == "video" else IMAGE] * count, 1]]
    pictures = [one for one in [*media, last] if one.kind == "image"]
    stacked = (np.concatenate([one.patches for one in pictures]), np.stack([one.grid for one in pictures])) \
        if pictures else (None, None)
    shown = (last.patches, last.grid[None], [1.0]) if film else (None, None, None)
    inputs = Inputs.from_ids(ids, config, *stacked, *shown).with_sizes([(one.source_size, one.size)
                                                                        for one in [*media, last]])
    medium, time = len(media), frame // 2
    named = minivl.where_pixel(inputs, config, x, y, medium, time)
    assert named.medium == medium and named.time == time
    found = energy[named.token - sum(counts[:-1])]
    assert found >= 0.999 * energy.max(), (named.cell, np.flatnonzero(energy), energy[energy > 0])
    assert minivl.where_pixel(inputs, config, x + 0.6, y + 0.9, medium, time) == named        # the same pixel

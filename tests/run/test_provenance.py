"""Where a pixel ends up, by the impulse test: light one pixel, and the token that `where_pixel` names changes most."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import minivl
from minivl.config import PreprocessorConfig
from minivl.passes.picture import target_size
from minivl.run.inputs import Inputs
from minivl.run.prepare import cut_picture, cut_video

from ..properties.worlds import IMAGE, VIDEO, configs

sides = st.one_of(st.integers(1, 30), st.integers(31, 260), st.integers(100, 260))
LIMITS = {"min_pixels": 784, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "image_mean": (0.0, 0.0, 0.0),
          "image_std": (1.0, 1.0, 1.0)}                                    # black stays 0


def straddling(whole, seen):
    """Pixels of a side that lie on the border between two cells, where the neighbour is near; and the first."""
    return sorted({n * 28 * whole // seen for n in range(seen // 28)})


def inputs_of(cuts, config):
    """A prompt of pictures, and of one video at the end or none."""
    ids = [token for one in cuts for token in [*[VIDEO if one.kind == "video" else IMAGE] * (len(one.patches) // 4), 1]]
    pictures = [one for one in cuts if one.kind == "image"]
    stacked = (np.concatenate([one.patches for one in pictures]), np.stack([one.grid for one in pictures])) \
        if pictures else (None, None)
    film = (cuts[-1].patches, cuts[-1].grid[None], [1.0]) if cuts[-1].kind == "video" else (None, None, None)
    return Inputs.from_ids(ids, config, *stacked, *film).with_sizes([(one.source_size, one.size) for one in cuts])


@given(configs(), sides, sides, st.integers(2, 24), st.sampled_from([None, 0, 3]), st.integers(0, 1), st.data())
def test_the_token_of_a_pixel_is_the_one_that_an_impulse_moves_most(config, height, width, cells, frame, before, data):
    assume(max(height, width) <= 20 * min(height, width))
    limits = PreprocessorConfig(**LIMITS, max_pixels=784 * cells)
    h, u = target_size((height, width), limits).tolist()
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    media = [cut_picture({"image": np.zeros((28, 56, 3), np.uint8)}, limits)] * before
    behind = sum(len(one.patches) // 4 for one in media)
    for x, y in [(x, y), *((one, y) for one in straddling(width, u)), *((x, one) for one in straddling(height, h))]:  # noqa: B020
        lit = np.zeros((4, height, width, 3), np.uint8)
        lit[frame or 0, y, x] = 255
        last = cut_picture({"image": lit[0]}, limits) if frame is None else cut_video({"video": lit}, limits)
        energy = (last.patches.astype(np.float64) ** 2).reshape(-1, 4 * 1176).sum(1)                     # p x -> m
        inputs = inputs_of([*media, last], config)
        time = (frame or 0) // 2
        named = minivl.where_pixel(inputs, config, x, y, before, time)
        assert (named.medium, named.time) == (before, time)
        if energy.max() > 0:                             # a pixel may vanish when a picture is made much smaller
            assert energy[named.token - behind] >= 0.999 * energy.max(), (x, y, named.cell, np.flatnonzero(energy))
        assert minivl.where_pixel(inputs, config, x + 0.6, y + 0.9, before, time) == named      # the same pixel

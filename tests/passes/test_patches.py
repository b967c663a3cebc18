"""The order of rows and of the values within a row, against index arithmetic written out with loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.config import PreprocessorConfig
from minivl.door.stage import session
from minivl.passes.patches import by_merge_block, from_merge_block, grid_of, patchify, unpatchify

HUB = PreprocessorConfig(min_pixels=3136, max_pixels=12845056, patch_size=14, temporal_patch_size=2, merge_size=2,
                         image_mean=(0.48145466, 0.4578275, 0.40821073),
                         image_std=(0.26862954, 0.26130258, 0.27577711))
ODD = PreprocessorConfig(**{**HUB.__dict__, "patch_size": 3, "temporal_patch_size": 3, "merge_size": 3})

grids = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
videos = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.sampled_from([HUB, ODD]))


def places(t, gh, gw):
    """(t, gh, gw, 3) int64: every cell holds its own coordinates."""
    return np.stack(np.meshgrid(range(t), range(gh), range(gw), indexing="ij"), axis=-1)


def frames_of(count, rows, columns, config, seed=0):
    shape = (count, 3, rows * config.factor, columns * config.factor)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_worked_example_on_a_4_x_6_grid():
    expected = ("00 01 10 11 02 03 12 13 04 05 14 15 "
                "20 21 30 31 22 23 32 33 24 25 34 35")
    rows = by_merge_block(places(1, 4, 6), 2)
    assert " ".join(f"{row}{column}" for _, row, column in rows.tolist()) == expected


@given(grids)
def test_order_of_blocks(sizes):
    t, rows, columns, merge = sizes
    expected = [(i, br * merge + r, bc * merge + c)
                for i in range(t) for br in range(rows) for bc in range(columns)
                for r in range(merge) for c in range(merge)]
    cells = places(t, rows * merge, columns * merge)
    assert list(map(tuple, by_merge_block(cells, merge).tolist())) == expected
    np.testing.assert_array_equal(from_merge_block(by_merge_block(cells, merge), cells.shape[:3], merge), cells)


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.bool_, "U3", object])
def test_any_dtype_and_any_further_axes(dtype):
    plain = places(2, 4, 6).sum(-1)
    for tail in ((), (1,), (2, 3, 1)):
        grid = np.broadcast_to(plain.reshape(2, 4, 6, *[1] * len(tail)), (2, 4, 6, *tail)).astype(dtype)
        rows = by_merge_block(grid, 2)
        assert rows.shape == (48, *tail) and rows.dtype == grid.dtype
        assert (from_merge_block(rows, np.array([2, 4, 6]), 2) == grid).all()


def test_merge_1_is_raster_order_and_needs_no_copy():
    grid = places(2, 3, 5)
    np.testing.assert_array_equal(by_merge_block(grid, 1), grid.reshape(-1, 3))
    assert np.shares_memory(by_merge_block(grid, 1), grid)


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 4, 3)])
def test_blocks_must_fit(shape):
    with pytest.raises(ValueError, match="no whole blocks of 2 x 2"):
        by_merge_block(np.zeros(shape), 2)


@given(videos, st.integers(0, 9))
def test_every_value_stands_where_the_formula_says(video, seed):
    count, rows, columns, config = video
    frames, grid = frames_of(count, rows, columns, config, seed), grid_of((count, 3, rows * config.factor,
                                                                           columns * config.factor), config)
    patches = patchify(frames, config)
    size, pair, merge = config.patch_size, config.temporal_patch_size, config.merge_size
    assert grid.tolist() == [-(-count // pair), rows * merge, columns * merge]
    assert patches.shape == (grid.prod(), 3 * pair * size * size) and patches.dtype == np.float32
    rng = np.random.default_rng(seed)
    for _ in range(20):
        t, row, column = (int(rng.integers(n)) for n in grid)
        c, s, py, px = (int(rng.integers(n)) for n in (3, pair, size, size))
        block = (t * rows + row // merge) * columns + column // merge
        at = block * merge**2 + row % merge * merge + column % merge
        frame = min(t * pair + s, count - 1)                                  # the last one is repeated
        x = ((c * pair + s) * size + py) * size + px
        assert patches[at, x] == frames[frame, c, row * size + py, column * size + px]


@given(videos)
def test_unpatchify_undoes_patchify(video):
    count, rows, columns, config = video
    frames = frames_of(count, rows, columns, config)
    back = unpatchify(patchify(frames, config), grid_of(frames.shape, config), config)
    np.testing.assert_array_equal(back[:count], frames)
    for repeated in back[count:]:
        np.testing.assert_array_equal(repeated, frames[-1])


def test_a_picture_is_shown_twice():
    patches = patchify(frames_of(1, 2, 3, HUB), HUB)
    both = patches.reshape(24, 3, 2, 196)                                     # p x -> p c s pixels
    assert patches.shape == (24, 1176)
    np.testing.assert_array_equal(both[:, :, 0], both[:, :, 1])


@given(st.integers(0, 3), st.integers(0, 2), st.integers(0, 55), st.integers(0, 83))
def test_one_bright_value_lights_one_value(frame, colour, y, x):
    frames = np.zeros((4, 3, 56, 84), np.float32)
    frames[frame, colour, y, x] = 1
    (row, at), = np.argwhere(patchify(frames, HUB))
    assert at == colour * 392 + frame % 2 * 196 + y % 14 * 14 + x % 14
    block = (frame // 2 * 2 + y // 28) * 3 + x // 28
    assert row == block * 4 + y // 14 % 2 * 2 + x // 14 % 2


@pytest.mark.parametrize("shape", [(1, 3, 27, 28), (1, 3, 42, 28), (1, 3, 28, 42), (0, 3, 28, 28), (2, 3, 0, 28)])
def test_sides_must_be_whole_blocks(shape):
    for pass_ in (lambda: grid_of(shape, HUB), lambda: patchify(np.zeros(shape, np.float32), HUB)):
        with pytest.raises(ValueError, match="multiples of 28"):
            pass_()


def test_the_pass_keeps_its_contract():
    with session(verify=True, record="*") as s:
        patchify(frames_of(3, 2, 1, HUB), HUB)
    assert list(s.trace) == ["patches.patchify"] and s.trace["patches.patchify"].shape == (16, 1176)

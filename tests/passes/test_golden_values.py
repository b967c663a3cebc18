"""Worked examples of the model's integer stages, written down from runs of the reference (transformers 5.23)."""

from dataclasses import replace

import numpy as np
import pytest

from minivl.config import official_config
from minivl.passes.positions import inverse_frequencies, mrope, mrope_angles, spatial_angles
from minivl.passes.windows import schedule, window_order

CONFIG = official_config("3B").vision


def runs(text: str) -> list[int]:
    """`"0-3,7"` -> [0, 1, 2, 3, 7]"""
    bounds = [part.split("-") for part in text.split(",")]
    return [n for b in bounds for n in range(int(b[0]), int(b[-1]) + 1)]


def cuts(table):
    return [0, *table[:, 1].tolist()]


@pytest.mark.parametrize(("grids", "order", "windows", "frames"), [
    ([[1, 8, 8]], "0-15", [0, 64], [0, 64]),
    ([[1, 8, 12]], "0-3,6-9,12-15,18-21,4,5,10,11,16,17,22,23", [0, 64, 96], [0, 96]),
    ([[1, 10, 14]], "0-3,7-10,14-17,21-24,4,5,6,11,12,13,18,19,20,25,26,27,28-34", [0, 64, 112, 128, 140], [0, 140]),
    ([[2, 4, 12]], "0-3,6-9,4,5,10,11,12-15,18-21,16,17,22,23", [0, 32, 48, 80, 96], [0, 48, 96]),
    ([[1, 4, 6], [2, 4, 4]], "0-13", [0, 24, 40, 56], [0, 24, 40, 56]),
])
def test_windows(grids, order, windows, frames):
    grids = np.array(grids)
    assert window_order(grids, CONFIG).tolist() == runs(order)
    tables = schedule(grids, CONFIG)
    assert [cuts(tables[block]) for block in (0, 7, 30, 31)] == [windows, frames, windows, frames]


def test_windows_of_a_photo():
    table = schedule(np.array([[1, 34, 46]]), CONFIG)[0]
    assert len(table) == 30
    assert cuts(table)[:8] == [0, 64, 128, 192, 256, 320, 368, 432]
    assert cuts(table)[-5:] == [1504, 1520, 1536, 1552, 1564]


def test_exactly_four_blocks_see_whole_frames():
    """A layer number compared as text has kept full attention from ever being used (nvidia-cosmos/cosmos-rl#171)."""
    lengths = [len(table) for table in schedule(np.array([[1, 34, 46]]), CONFIG)]
    assert [block for block, n in enumerate(lengths) if n == 1] == [7, 15, 23, 31]


PADS = (8, 9)


def positions(ids, grids, ticks, rule="max_plus_one"):
    return mrope(np.array(ids), np.array(grids), np.array(ticks, np.float32), PADS, 2, rule).tolist()


def test_positions_of_a_picture():
    ids = [10, 11, 12, 7, *[8] * 6, 6, 13, 14, 15]
    wanted = [[0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7, 8, 9, 10],
              [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7, 8, 9, 10],
              [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9, 10]]
    assert positions(ids, [[1, 4, 6]], [1]) == positions(ids, [[1, 4, 6]], [1], "tf5") == wanted


def test_text_after_a_video_goes_on_differently_by_the_two_rules():
    ids = [10, 7, *[9] * 12, 6, 13]
    time = [0, 1, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6]
    assert positions(ids, [[3, 4, 4]], [2])[0] == [*time, 7, 8]
    assert positions(ids, [[3, 4, 4]], [2], "tf5")[0] == [*time, 4, 5]
    assert positions(ids, [[3, 4, 4]], [2])[1] == [0, 1, 2, 2, 3, 3, 2, 2, 3, 3, 2, 2, 3, 3, 7, 8]


@pytest.mark.parametrize(("seconds", "offsets"), [
    (0.5, [0, 1, 2]), (0.75, [0, 1, 3]), (2 / 3, [0, 1, 2]), (1 / 12, [0, 0, 0]), (0.33367, [0, 0, 1])])
def test_time_advances_in_real_seconds(seconds, offsets):
    time = positions([9] * 12, [[3, 4, 4]], [2 * seconds])[0]
    assert time == [n for n in offsets for _ in range(4)]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="after_video is 'hf'; it can be max_plus_one or tf5"):
        positions([1], np.zeros((0, 3), int), [], "hf")


def test_mrope_shares_frequencies_out_in_chunks():
    text = official_config("3B").text
    angles = mrope_angles(np.array([[1], [100], [10000]]), text)[0]
    scale = angles / inverse_frequencies(128, 1e6)
    assert np.allclose(scale[:16], 1) and np.allclose(scale[16:40], 100) and np.allclose(scale[40:], 10000)


def test_the_towers_angles_are_rows_then_columns():
    at = np.array([[3, 0], [0, 5]])
    row, column = spatial_angles(at, CONFIG)
    frequency = inverse_frequencies(40, 1e4)
    assert np.array_equal(row[:20], 3 * frequency) and not row[20:].any()
    assert np.array_equal(column[20:], 5 * frequency) and not column[:20].any()


def test_other_windows_and_merges_are_only_numbers():
    config = replace(CONFIG, window_size=56)
    assert cuts(schedule(np.array([[1, 8, 8]]), config)[0]) == [0, 16, 32, 48, 64]

"""Inputs from ids: what belongs together is paired, what does not is refused with both sides named."""

import numpy as np
import pytest

import minivl
from minivl.run.inputs import Batch

CONFIG = minivl.load().config
IMAGE, VIDEO = CONFIG.image_token_id, CONFIG.video_token_id
TEXT, VOCABULARY = 7, CONFIG.text.vocab_size
FOUR = np.zeros((4, 1176), np.float32)


def rows(*grids):
    return np.zeros((sum(t * h * w for t, h, w in grids), 1176), np.float32), np.array(grids)


def inputs(ids, images=(), videos=(), **options):
    pixels = rows(*images) if images else (None, None)
    frames = rows(*videos) if videos else (None, None)
    seconds = options.pop("second_per_grid_ts", [1.0] * len(videos) or None)
    return minivl.Inputs.from_ids(ids, CONFIG, *pixels, *frames, seconds, **options)


def test_media_are_paired_in_prompt_order():
    ids = [VIDEO] * 2 + [TEXT] + [IMAGE] * 2 + [VIDEO] + [IMAGE]
    made = inputs(ids, [(1, 2, 4), (1, 2, 2)], [(2, 2, 2), (1, 2, 2)])
    assert [(m.kind, m.grid) for m in made.media] == [("video", (2, 2, 2)), ("image", (1, 2, 4)), ("video", (1, 2, 2)),
                                                     ("image", (1, 2, 2))]


def test_two_pictures_may_stand_side_by_side():
    assert len(inputs([IMAGE] * 3, [(1, 2, 2), (1, 2, 4)]).media) == 2


@pytest.mark.parametrize(("ids", "images", "videos", "says"), [
    ([IMAGE] * 2 + [VIDEO] * 4, [(1, 4, 4)], [(1, 2, 4)], r"has 2 to fill, .* its kind, \[1, 4, 4\], has 4"),
    ([IMAGE] * 2 + [TEXT] + [IMAGE] * 2, [(1, 4, 4)], [], "run of 2 placeholders .* from row 0 has 2 to fill"),
    ([IMAGE] * 4 + [TEXT] + [IMAGE], [(1, 2, 2), (1, 4, 4)], [], "from row 0 has 3 to fill"),
    ([TEXT] + [VIDEO] * 4, [(1, 4, 4)], [], "no grid of its kind is left"),
    ([TEXT] + [IMAGE] * 3, [(1, 4, 4)], [], "3 placeholder tokens for 4 rows of features"),
    ([TEXT], [(1, 4, 4)], [], "0 placeholder tokens for 4 rows of features"),
    ([IMAGE], [(1, 3, 2)], [], "multiples of 2 patches"),
])
def test_what_does_not_belong_together_is_refused(ids, images, videos, says):
    with pytest.raises(ValueError, match=says):
        inputs(ids, images, videos)


@pytest.mark.parametrize(("options", "says"), [
    ({"pixel_values": np.zeros((4, 1176))}, "only one of them was given"),
    ({"pixel_values": FOUR, "image_grid_thw": np.array([[1, 2, 4]])}, r"shape \[4, 1176\].*needs \[8, 1176\]"),
    ({"pixel_values": np.full((4, 1176), np.nan), "image_grid_thw": np.array([[1, 2, 2]])}, "not finite, first at"),
    ({"pixel_values": np.zeros((4, 1176)), "image_grid_thw": np.array([1, 2, 2])}, "rows of 3 positive numbers"),
    ({"pixel_values_videos": FOUR, "video_grid_thw": np.array([[1, 2, 2]])}, "without second_per_grid_ts"),
    ({"second_per_grid_ts": [1.0]}, "one finite number each"),
])
def test_arrays_that_do_not_fit_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        minivl.Inputs.from_ids([TEXT], CONFIG, **options)


@pytest.mark.parametrize(("ids", "says"), [
    ([], "one row of token ids"), ([[1]], "one row of token ids"), ([-1], r"input_ids\[0\] is -1"),
    ([1, VOCABULARY], rf"input_ids\[1\] is {VOCABULARY}, the vocabulary has ids 0..{VOCABULARY - 1}")])
def test_ids_outside_of_the_vocabulary_are_refused(ids, says):
    with pytest.raises(ValueError, match=says):
        minivl.Inputs.from_ids(ids, CONFIG)


def test_text_only():
    made = inputs([TEXT, TEXT])
    assert made.patches.shape == (0, 1176) and made.grids.shape == (0, 3)
    batch = Batch.of([made, inputs([IMAGE], [(1, 2, 2)])], CONFIG, np.float32)
    assert batch.patches.shape == (4, 1176) and batch.placeholders.tolist() == [2] and batch.asked.tolist() == [1, 2]


def test_places_outside_are_refused():
    made = inputs([IMAGE] * 2, [(1, 2, 4)]).with_sizes([((56, 112), (28, 56))])
    assert minivl.where_pixel(made, CONFIG, 111, 55).token == 1
    for place in ({"x": 112, "y": 0}, {"x": 0, "y": -1}, {"x": 0, "y": 0, "medium": 1}, {"x": 0, "y": 0, "time": 1}):
        with pytest.raises(IndexError, match="lies outside|numbered from 0"):
            minivl.where_pixel(made, CONFIG, **place)
    with pytest.raises(IndexError, match="there is no visual token 2"):
        minivl.where_token(made, CONFIG, 2)
    with pytest.raises(ValueError, match="size of its source is not known"):
        minivl.where_pixel(inputs([IMAGE], [(1, 2, 2)]), CONFIG, 0, 0)


def test_inputs_go_to_arrays_and_back_and_positions_must_be_three_rows():
    made = inputs([IMAGE] * 2, [(1, 2, 4)])
    again = minivl.Inputs.from_arrays(made.arrays(), CONFIG)
    assert all(np.array_equal(a, b) for a, b in zip(made.arrays().values(), again.arrays().values(), strict=True))
    for wrong in (made.position_ids[:, :1], np.vstack([made.position_ids[:1], made.position_ids]),
                  made.position_ids[:, None]):
        with pytest.raises(minivl.Error, match=r"position_ids should be \[3, s\]"):
            minivl.Inputs.from_arrays(made.arrays() | {"position_ids": wrong}, CONFIG)
    with pytest.raises(minivl.Error, match="input_ids should be among the arrays"):
        minivl.Inputs.from_arrays({}, CONFIG)
    with pytest.raises(minivl.Error, match="input_ids should be integers, not float64"):
        minivl.Inputs.from_ids([1.5, 2.0], CONFIG)

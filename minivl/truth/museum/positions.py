"""Faults of the decoder's positions: of a picture, of time, of the text after them, and of the tokens
that are written.

Text alone has the same number on all three axes, so that most of these are right on every text.
"""

from __future__ import annotations

import numpy as np

from ...config import TextConfig
from ...passes.positions import inverse_frequencies
from . import cases
from .fault import fault
from .rounding import to_bfloat16

TICKS_OF_OFFICIAL_MODELS = 2             # `tokens_per_second`


def _runs(ids: np.ndarray, pads) -> list[np.ndarray]:
    """Rows of each picture or video, in order. Text stands between any two of them."""
    rows = np.flatnonzero(np.isin(ids, pads))
    return [run for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run)]


@fault("positions.mrope", ["areal-project/AReaL#217", "gty111/gLLM#115", "ml-explore/mlx-lm#1768"], 2025,
       "where things are is lost, what they are is not",
       shows=cases.wide, passes=("same", cases.text))
def prompt_with_1d_positions(right, ids, *rest):
    """Rows are numbered one after the other, as in every language model. All cells of a picture then
    stand on one line, and the text after it far away. Text alone is numbered just so."""
    return np.tile(np.arange(len(ids)), (3, 1))


@fault("positions.mrope", ["Blaizzy/mlx-vlm#1282", "Blaizzy/mlx-vlm#1135"], 2026,
       "only the first picture is located",
       shows=cases.two_pictures, passes=("same", cases.picture_last))
def second_picture_as_text(right, ids, grids, ticks, *rest):
    """Starts of pictures were looked for with a sum over their indices, which finds one start and no
    two. Every picture after the first got the flat positions of text. No error, and every test had one
    picture."""
    return right(ids, grids[:1], ticks[:1], *rest)


@fault("positions.mrope", ["huggingface/pytorch-image-models#2541"], 2025,
       "left and right, above and below are confused",
       shows=cases.wide, passes=("same", cases.text))
def height_and_width_swapped(right, *args):
    """One library counts (row, column), another (x, y), and a table of positions went from one to the
    other. A picture is read as its mirror image in the diagonal. Square grids have the right shapes
    and the right next position."""
    return right(*args)[[0, 2, 1]]


@fault("positions.mrope", ["huggingface/transformers#45325", "huggingface/lerobot#3648"], 2026,
       "a robot's policy gets worse after an update",
       shows=cases.cell, passes=("same", cases.text))
def pictures_scaled_by_time(right, ids, grids, ticks, pads, *rest):
    """The time axis of videos counts half seconds, and the factor was laid on still pictures too: on the
    number at which they start. A picture late in a conversation is moved far into the future. No test
    compared positions by value."""
    place = right(ids, grids, ticks, pads, *rest).copy()
    place[0, ids == pads[0]] *= TICKS_OF_OFFICIAL_MODELS
    return place


@fault("positions.mrope", ["huggingface/transformers#45381", "huggingface/transformers#45400"], 2026,
       "what happens when in a video is guessed",
       shows=cases.two_frames, passes=("same", cases.ragged))
def video_in_one_moment(right, ids, grids, ticks, pads, *rest):
    """The time of a video's cells was filled with one number instead of counted frame by frame: all
    frames happen at once. The one test with a video used a spacing so small that it rounds to nothing.
    Pictures have one moment."""
    place = right(ids, grids, ticks, pads, *rest).copy()
    for rows in _runs(ids, pads[1:]):
        place[0, rows] = place[0, rows[0]]
    return place


@fault("positions.mrope", ["Blaizzy/mlx-vlm#576", "vllm-project/vllm#16878"], 2025,
       "boxes and counts a little worse",
       shows=cases.cell, passes=("same", cases.text))
def text_after_picture_off_by_one(right, ids, grids, ticks, pads, *rest):
    """After a picture text goes on at the largest number so far plus one, and the one was forgotten.
    Every word after n pictures is n numbers too near. Answers stay fluent, because a distance that is
    off by one is almost the distance."""
    place = right(ids, grids, ticks, pads, *rest).copy()
    for rows in _runs(ids, pads):
        place[:, rows[-1] + 1 :] -= 1
    return place


@fault("positions.ticks", ["sgl-project/sglang#3674", "huggingface/transformers#41152",
                           "vllm-project/vllm#47736"], 2025,
       "the time of an event is wrong by a factor",
       shows=cases.slow_video, passes=("same", cases.two_frames))
def seconds_per_grid_ignored(right, seconds, per_second):
    """The seconds between frames were lost on the way to the positions, and one second was put in their
    place. At two frames a second, the default of every tool, that is right. At other rates the model's
    clock runs too fast or too slow."""
    return right(np.ones_like(seconds), per_second)


@fault("positions.ticks", ["huggingface/transformers#48669", "EvolvingLMMs-Lab/lmms-eval#1393"], 2026,
       "videos above two frames a second stand still",
       shows=cases.fast_video, passes=("same", cases.two_frames))
def seconds_per_grid_truncated(right, seconds, per_second):
    """The seconds between frames were cut to whole seconds before they were used. Half a second became
    none, and all frames of the video got the same time. At two frames a second the number is whole,
    and right."""
    return right(np.floor(seconds), per_second)


@fault("positions.advance", ["jundot/omlx#689", "Blaizzy/mlx-vlm#1619", "Blaizzy/mlx-vlm#1983"], 2026,
       "the answer ends at once, or repeats a word",
       shows=cases.answered, passes=("same", cases.answered_text))
def decoding_with_1d_positions(right, rows, offsets):
    """The prompt was read with three axes, the answer is written by another program, which numbers
    tokens by row. After a picture rows run ahead of positions, so that the first word of the answer
    stands far behind its question. The first token and all text alone are right."""
    return right(rows, 0 * offsets)


@fault("positions.advance", ["Blaizzy/mlx-vlm#1143", "huggingface/transformers#43952",
                             "huggingface/transformers#44873"], 2026,
       "answers change with the load of the server",
       shows=cases.two_requests, passes=("same", cases.answered))
def offset_of_another_request(right, rows, offsets):
    """How far positions lag behind rows was kept on the model, where the next request finds it. Here
    each conversation of a batch gets the first one's. One conversation at a time is right."""
    return right(rows, np.repeat(offsets[:, :1], offsets.shape[1], axis=1))


@fault("decoder.angles", ["Blaizzy/mlx-vlm#576"], 2025,
       "bad OCR and grounding, good prose",
       shows=cases.wide, passes=("same", cases.text))
def mrope_interleaved(right, positions, config: TextConfig):
    """The next model of the family gives its frequencies to time, height and width in turn, this one
    in three chunks; one port took the one for the other. Pictures are rotated by the wrong axis at
    most frequencies. Text has one number on all axes and cannot tell."""
    axis = np.zeros(config.head_dim // 2, np.int64)
    for number, section in enumerate(config.mrope_section[1:], 1):
        axis[number : 3 * section : 3] = number
    frequency = inverse_frequencies(config.head_dim, config.rope_theta)
    return positions.astype(np.float32)[axis].T * frequency                           # 3 s -> f s -> s f


@fault("decoder.angles", ["huggingface/candle#3520", "huggingface/candle#3005"], 2025,
       "long prompts are answered at random",
       shows=cases.long_text, passes=("cosine", cases.text))
def angles_in_bf16(right, positions, config: TextConfig):
    """Positions and frequencies were rounded to the model's own type before they were multiplied. In
    bfloat16 there is no 257, and at 16,000 only every 64th number. Short prompts lose a little in
    every angle, and nobody notices."""
    frequency = to_bfloat16(inverse_frequencies(config.head_dim, config.rope_theta))
    axis = np.repeat(np.arange(3), config.mrope_section)
    return to_bfloat16(to_bfloat16(positions.astype(np.float32))[axis].T * frequency)    # 3 s -> s f

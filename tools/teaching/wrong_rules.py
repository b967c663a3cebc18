"""The usual wrong rules of the questions with numbers, and what comes out by each.

A question is worth asking when a wrong rule gives another number. So each computed part of an exam has at least one
here, in plain arithmetic and not by the package's passes, and a test holds what it gives against the key. Values come
in the form and the order of the key. Read next: `exams.py`, the keys; docs/teaching/exam-6-weeks.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Wrong(NamedTuple):
    """A wrong rule: the page of the key, the part, the mistake in words, and the values that it gives."""
    page: str
    number: str
    words: str
    values: Any


RULES: list[Wrong] = []
SIX, TWELVE, CONCEPT = "exam-6-weeks-answers", "exam-12-weeks-answers", "concept-answers"


def rules(page: str, number: str, **mistakes: Any) -> None:
    """File the mistakes of one part; a value, or a list of several, for each."""
    RULES.extend(Wrong(page, number, words.replace("_", " "), values) for words, values in mistakes.items())


def size(height: float, width: float, to: Callable[[float], int] = round, step: int = 28) -> tuple[int, int]:
    return step * to(height / step), step * to(width / step)


def text(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"


def shrunk(height: int, width: int, scale: float, to: Callable[[float], int] = math.floor) -> list[Any]:
    """Size and tokens of a photo whose sides are divided by a scale."""
    sides = size(height / scale, width / scale, to)
    return [text(sides), sides[0] * sides[1] // 784]


def softmax(scores: Any) -> np.ndarray:
    powers = np.exp(np.asarray(scores, float))
    return powers / powers.sum()


def sevenths(shares: Any) -> list[str]:
    return [f"{share * 7:.3g}/7" for share in shares]


# ---- six weeks ---------------------------------------------------------------------------------------------

rules(SIX, "1a", sides_rounded_down=text(size(600, 1000, math.floor)),
      sides_rounded_up=text(size(600, 1000, math.ceil)), multiples_of_14=text(size(600, 1000, step=14)))
rules(SIX, "1b", cells_for_patches=["21 x 36", 756], of_the_photo_as_it_came=[f"{600 // 14} x {1000 // 14}", 42 * 71])
rules(SIX, "1c", one_for_each_patch=3024, of_the_photo_as_it_came=600 * 1000 // 784)
AREA = 392_000
rules(SIX, "1d", scale_from_the_rounded_area=shrunk(600, 1000, math.sqrt(588 * 1008 / AREA)),
      to_the_nearest=shrunk(600, 1000, math.sqrt(600_000 / AREA), round),
      without_the_root=shrunk(600, 1000, 600_000 / AREA),
      rounded_sides_scaled=shrunk(588, 1008, math.sqrt(588 * 1008 / AREA)))
rules(SIX, "2a", raster_order=3 * 8 + 4, down_inside_the_block=4 * (1 * 4 + 2) + 1, blocks_down=4 * (2 * 3 + 1) + 2)
rules(SIX, "2b", frame_before_colour=2 * 196 + 10 * 14 + 3, pixel_columns_first=2 * 392 + 3 * 14 + 10,
      blue_first=10 * 14 + 3, colour_last=(10 * 14 + 3) * 3 + 2)
KEYS, VALUES = np.log([2.0, 4, 8]), np.array([7.0, 0, 14])
rules(SIX, "3a", no_division=[f"{s:.3f}" for s in 2 * KEYS], divided_by_4=[f"{s:.3f}" for s in KEYS / 2])
rules(SIX, "3b", no_division=sevenths(softmax(2 * KEYS)), in_proportion_to_the_scores=sevenths(KEYS / KEYS.sum()))
rules(SIX, "3c", no_division=softmax(2 * KEYS) @ VALUES, in_proportion=KEYS / KEYS.sum() @ VALUES,
      plain_mean=VALUES.mean(), largest_only=VALUES[-1])
rules(SIX, "3d", not_causal=9.0, itself_left_out=7.0, shares_not_made_anew=7 / 7 + 0,
      no_division=round(float(softmax(2 * KEYS[:2]) @ VALUES[:2]), 2))
rules(SIX, "4a", windows_of_8_cells=[2, np.array([48, 6])], filled_up=[6, np.array([16] * 6)],
      down_the_columns=[6, np.array([16, 8, 16, 8, 4, 2])], rounded_down=[5, np.array([16, 16, 12, 8, 2])])
CELLS = [16, 16, 4, 8, 8, 2]
rules(SIX, "4b", in_cells=[sum(n * n for n in CELLS), 54 * 54], filled_up=[6 * 64**2, 216**2],
      all_windows_alike=[216 * 64, 216**2])
rules(SIX, "4c", down_the_columns=6 // 4 * 2 + 5 // 4, rounded_down=5 // 4 * 2 + 6 // 4, of_8_cells=5 // 8 * 2 + 6 // 8,
      counted_from_one=5)
rules(SIX, "5a", neighbours_paired=(-2, 1, 3, 4), turned_backwards=(3, 2, -1, 4), all_pairs_turned=(-3, -4, 1, 2))
rules(SIX, "5b", over_the_whole_width=[8, 4, 10_000.0 ** (-np.arange(4) / 8)],
      an_angle_for_each_number=[16, 8, 10_000.0 ** (-np.arange(8) / 8)])
ROW, GAIN = np.array([6.0, 8, 0, 0]), np.array([1, 0.5, 1, 1])
rules(SIX, "6a", length_for_rms=ROW / 10 * GAIN, mean_taken_away=((ROW - 3.5) / ROW.std() * GAIN).round(4),
      weights_forgotten=ROW / 5, one_plus_weight=ROW / 5 * (1 + GAIN))
rules(SIX, "6b", mean_of_four=[(756, 1280), (756, 3584)], nothing_joined=[(3024, 1280), (3024, 3584)],
      width_of_3B=[(756, 5120), (756, 2048)])
rules(SIX, "7a", numbered_in_one_line=(6, 6, 6), height_and_width_exchanged=(4, 4, 5), counted_in_patches=(4, 6, 4),
      counted_from_the_picture=(0, 1, 0), time_goes_on=(6, 5, 4))
rules(SIX, "7b", rows_counted=4 + 6, at_the_largest=6, from_the_width=4 + 2)
rules(SIX, "7c", rows_counted=4 + 6 + 3, from_the_width=9, the_last_again=9)

# ---- twelve weeks ------------------------------------------------------------------------------------------

AREA = 401_408
rules(TWELVE, "1a", scale_from_the_rounded_area=shrunk(900, 700, math.sqrt(896 * 700 / AREA)),
      to_the_nearest=shrunk(900, 700, math.sqrt(630_000 / AREA), round), no_limit=["896 x 700", 800])
BOX = np.array([133.0, 175, 266, 350])
FACTORS = np.tile([700 / 532, 900 / 700], 2)                 # of x and y, twice
rules(TWELVE, "1b", as_it_is=BOX, factors_exchanged=BOX * FACTORS[[1, 0, 1, 0]], divided=BOX / FACTORS)
rules(TWELVE, "2b", mean_of_levels=round((128 - 0.4815) / 0.2686, 3), mean_alone=round(128 / 255 - 0.4815, 3),
      one_half_for_all=round((128 / 255 - 0.5) / 0.5, 3))
rules(TWELVE, "3b", raster_order=[5 * 10 + 2, 601], down_inside_the_block=[4 * 11 + 1, 601],
      blocks_down=[4 * (1 * 4 + 2) + 2, 601], frame_before_colour=[46, 588 + 196 + 13],
      pixel_columns_first=[46, 392 + 196 + 13 * 14], frames_forgotten=[46, 196 + 13])
rules(TWELVE, "4a", query_heads=[2 * 28 * 28 * 128 * 2, 2 * 28 * 28 * 128 * 2000],
      keys_alone=[28 * 4 * 256, 28 * 4 * 256_000], one_layer=[2 * 4 * 128 * 2, 2 * 4 * 128 * 2000],
      four_bytes=[114_688, 114_688_000])
rules(TWELVE, "4b", remainder=[17 % 4, 7], divided_by_the_number_of_heads=[17 // 4, 7], remainder_of_seven=[17 % 7, 7])
ORDER = [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]
rules(TWELVE, "5a", reading_order=np.arange(15),
      down_the_columns=np.array([0, 1, 5, 6, 10, 11, 2, 3, 7, 8, 12, 13, 4, 9, 14]),
      inside_down=np.array([0, 5, 1, 6, 2, 7, 3, 8, 4, 9, 10, 11, 12, 13, 14]), the_way_back=np.argsort(ORDER))
rules(TWELVE, "5b", the_order_itself=np.array(ORDER), backwards=np.array(ORDER[::-1]), reading_order=np.arange(15))
rules(TWELVE, "6a", frames_for_pairs=[1, (4, 3, 4)], time_stands_still=[2, (3, 3, 4)], axes_exchanged=[2, (5, 4, 3)],
      one_place_late=[2, (5, 4, 3)])
rules(TWELVE, "6b", frames_for_pairs=[3 + 7 + 1, 5], at_the_largest=[17, 4], rows_counted=[3 + 32, 3 + 32],
      counted_in_patches=[18, 3 + 4])
rules(TWELVE, "7a", cut_off=[256, 258], halves_go_up=[258, 260], exact=[257, 259])
rules(TWELVE, "7b", a_power_of_two=65_536, a_whole_number_of_16_bits=65_535, half_of_it=32_752)
rules(TWELVE, "8a", all_divided=[2.5, 1.0, -1.0], taken_away=[1.8, 0.0, -2.4], all_multiplied=[3.6, 1.44, -1.44])
rules(TWELVE, "8b", times_the_temperature=[round(n / 6, 4) for n in (1, 2, 3)],
      not_at_all=[round(n / 14, 4) for n in (1, 4, 9)])
rules(TWELVE, "8c", at_most_p=[1, "1/1"], not_divided=[2, "0.4", "0.3"], one_more=[3, "4/9", "3/9", "2/9"])
rules(TWELVE, "9a", over_all_ten=round(6 * math.log(2) / 10, 3), the_sum=round(6 * math.log(2), 3), in_bits=2.0,
      of_the_mean_probability=round(-math.log((1 / 2 + 1 / 4 + 1 / 8) / 3), 3),
      the_first_left_out=round(5 * math.log(2) / 2, 3))


def loss(margin: float) -> float:
    return round(math.log(1 + math.exp(-margin)), 3)


rules(TWELVE, "9b", no_reference=loss(0.2), no_beta=loss(3.0), sign_turned=loss(-0.3), added=loss(0.1 * (1 - 2)),
      beta_outside=round(0.1 * math.log(1 + math.exp(-3)), 3))

# ---- concept questions where two rules are easily mixed up ---------------------------------------------------

rules(CONCEPT, "9", rounded_down=[text(size(480, 640, math.floor)), 17 * 22],
      rounded_up=[text(size(480, 640, math.ceil)), 18 * 23])
rules(CONCEPT, "10", halves_go_up=[56, 84])
rules(CONCEPT, "15", raster_order=1 * 6 + 2, blocks_down=4 * 2 + 2)
rules(CONCEPT, "16", frame_before_colour=2 * 196 + 3 * 14 + 5, pixel_columns_first=784 + 5 * 14 + 3)
rules(CONCEPT, "22", filled_up=[4, np.array([16] * 4)], down_the_columns=[4, np.array([16, 4, 12, 3])])
rules(CONCEPT, "23", in_cells=[16**2 + 12**2 + 4**2 + 3**2, 35**2], filled_up=[4 * 64**2, 140**2])
rules(CONCEPT, "30", over_the_whole_width=10_000.0 ** (-np.arange(2) / 4))
rules(CONCEPT, "45", axes_exchanged=[(4, 6, 5), 7], rows_counted=[(4, 5, 6), 10])
rules(CONCEPT, "47", frames_for_pairs=[5, 4], at_the_largest=[6, 3])
rules(CONCEPT, "50", query_heads=2 * 36 * 16 * 128 * 2, keys_alone=36 * 2 * 128 * 2)
rules(CONCEPT, "51", remainder=10 % 2, divided_by_the_number_of_heads=10 // 2)
rules(CONCEPT, "52", both_divided=[1.6, -1.6])
rules(CONCEPT, "53", at_most_p=1, one_more=3)
rules(CONCEPT, "55", over_one_box=1 / 2, over_both_areas=1 / 4)
rules(CONCEPT, "58", no_reference=round(math.log(1 + math.exp(-0.2)), 4), no_beta=round(math.log(1 + math.exp(-3)), 4))

"""Positions and angles: `mrope`, `spatial_angles`, `mrope_angles`, `cos_sin`, `advance`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....passes import positions as passes
from .. import plain
from ..draws import Draws
from ..exercise import Exercise, Variant
from .small import FLOAT32, text, vision

PADS = (60, 61)


# -------------------------------------------------------------------------------------------- mrope

def _draw_mrope(d: Draws) -> tuple:
    """Text, pictures and videos in any order: ids, grids, ticks."""
    rng = d.generator()
    ids, grids, ticks = list(rng.integers(0, 50, d.whole(0, 3))), [], []
    for _ in range(d.whole(0, 3)):
        video = d.flag()
        t, h, w = d.whole(1, 4) if video else 1, d.whole(1, 4), d.whole(1, 4)
        grids.append((t, 2 * h, 2 * w))
        ticks.append(d.pick([1.0, 2.0, 0.5, 1.4, 3.0]) if video else 1.0)
        ids += [PADS[video]] * (t * h * w) + list(rng.integers(0, 50, d.whole(1, 3)))
    ids += list(rng.integers(0, 50, d.whole(0 if ids else 1, 2)))
    return (np.array(ids, np.int64), np.array(grids, np.int64).reshape(-1, 3),
            np.array(ticks, np.float32), PADS, 2,
            d.pick(["max_plus_one", "tf5"]))


def _mrope(ids, grids, ticks, pads, merge, after_video, *, time=None, start=True, order=(0, 1, 2),
           after=None,
           cells=None):
    """Positions token by token, with one thing at a time made another way."""
    out: list[tuple[int, ...]] = []
    p = at = 0
    for grid, tick in zip(grids.tolist(), ticks, strict=True):
        while ids[at] not in pads:
            out.append((p, p, p))
            p, at = p + 1, at + 1
        t, h, w = grid[0], grid[1] // merge, grid[2] // merge
        spots = [(time(a, tick) if time else int(np.float32(a) * tick), b,
                  c) for a in range(t) for b in range(h)
                 for c in range(w)]
        spots = cells(t, h, w, spots) if cells else spots
        out += [tuple((p if start else 0) + spot[n] for n in order) for spot in spots]
        at += t * h * w
        top = max(max(spot) for spot in spots)
        p += after(t, h, w, top) if after else top + 1 if after_video == "max_plus_one" else max(h, w)
    out += [(p + n,) * 3 for n in range(len(ids) - at)]
    return np.array(out, np.int64).reshape(-1, 3).T


def _by_columns(t, h, w, spots):
    """Cells column by column; where frames share a moment there is no telling, and they stay."""
    alone = len(set(spots)) == len(spots)
    return sorted(spots, key=lambda spot: (spot[0], spot[2], spot[1])) if alone else spots


def _mrope_variant(d: Draws) -> Variant:
    order, rate = d.pick([(2, 1, 0), (1, 2, 0), (0, 2, 1)]), d.pick([3, 5])
    names = ("time", "row", "column")
    return Variant(f"the three rows of the result are {', '.join(names[n] for n in order)}; {rate} "
                   f"positions pass from "
                   f"one frame pair to the next, whatever `ticks` says; text after a medium goes on at "
                   f"the largest "
                   "position so far plus one, whatever `after_video` says", plain.placing(order, rate))


MROPE = Exercise(
    "mrope", "positions.mrope", "time, height and width position of every token: s -> 3 s", passes.mrope,
    _draw_mrope,
    facts={"a picture or video": lambda ids, grids, *rest: len(grids) > 0,
           "several pictures or videos": lambda ids, grids, *rest: len(grids) > 1,
           "more than one pair of frames": lambda ids, grids, *rest: bool((grids[:, 0] > 1).any()),
           "ticks that are not whole": lambda ids, grids, ticks, *rest: bool((ticks % 1 != 0).any()),
           "text before the first picture": lambda ids, *rest: bool(len(ids)) and ids[0] not in PADS,
           "a cell grid that is not square": lambda _, g, *rest: bool((g[:, 1] != g[:, 2]).any()),
           'after_video = "tf5"': lambda *args: args[5] == "tf5"},
    variants=_mrope_variant)
MROPE.fault("prompt-with-1d-positions", "your visual tokens count on one by one like text; they have a "
            "time, a row and a column of their own")
MROPE.wrong("ticks_ignored", lambda *args: _mrope(*args, time=lambda t, tick: t),
            "`ticks` is ignored: frame pair t of a video is at floor(t * tick)")
MROPE.wrong("ticks_floored", lambda *args: _mrope(*args, time=lambda t, tick: t * int(tick)),
            "you floor `ticks` before the product; it is the product t * tick that is floored")
MROPE.wrong("ticks_rounded", lambda *args: _mrope(*args, time=lambda t, tick: round(float(t * tick))),
            "you round t * tick to the nearest; it is floored")
MROPE.fault("height-and-width-swapped", "rows and columns are swapped: the result is time, height, "
            "width")
MROPE.wrong("starts_at_zero", lambda *args: _mrope(*args, start=False),
            "each picture starts at 0: it starts at the next free position, on all three axes")
MROPE.wrong("text_after_all_tokens", lambda *args: _mrope(*args, after=lambda t, h, w, top: t * h * w),
            "text after a picture goes on behind the number of its tokens; positions go on at the "
            "largest one plus one, which is far less")
MROPE.wrong("text_off_by_one", lambda *args: _mrope(*args, after=lambda t, h, w, top: top),
            "text after a picture is off by one: it goes on at the largest position so far plus one")
MROPE.wrong("tf5_ignored", lambda *args: _mrope(*(*args[:5], "max_plus_one")),
            '`after_video` is ignored: with "tf5", text goes on at the start plus max(h, w)')
MROPE.wrong("max_plus_one_ignored", lambda *args: _mrope(*(*args[:5], "tf5")),
            '`after_video` is ignored: with "max_plus_one", text goes on at the largest plus one')
MROPE.wrong("cells_by_columns", lambda *args: _mrope(*args, cells=_by_columns),
            "your cells go column by column; visual tokens come in reading order")
MROPE.wrong("time_stands_still", lambda *args: _mrope(*args, time=lambda t, tick: 0),
            "time does not move: all frames of a video are at one moment")


# ------------------------------------------------------------------------------ angles of the tower

def _draw_spatial(d: Draws) -> tuple:
    heads, quarter = d.whole(1, 2), d.whole(1, 4)
    n = d.whole(1, 6)
    at = np.stack([d.generator().integers(0, 40, n) for _ in range(2)], 1)
    return at, vision(hidden_size=heads * 4 * quarter, num_heads=heads, rope_theta=d.pick([1e4, 100.0]))


def _frequencies(width, theta):
    return theta ** -(np.arange(0, width, 2) / width)


def _own(config):
    """Frequencies of each of the tower's two axes, which have half of a head's width."""
    return _frequencies(config.head_dim // 2, config.rope_theta)


def _whole(config):
    """Frequencies of a whole head."""
    return _frequencies(config.head_dim, config.rope_theta)


def _by_rows(at, frequency, columns_first=False):
    row, col = at[:, :1] * frequency, at[:, 1:] * frequency
    return np.concatenate([col, row] if columns_first else [row, col], 1)


def _spatial_variant(d: Draws) -> Variant:
    first, interleaved = d.pick([(True, False), (False, True), (True, True)])
    order = "columns" if first else "rows"
    return Variant(f"angles of {order} come first, "
                   + ("then turn and turn about: one of a row, one of a column" if interleaved
                      else "then the others"),
                   plain.spatial(first, interleaved))


SPATIAL = Exercise(
    "spatial_angles", "vision.angles.spatial_angles",
    "row and column of each patch times the frequencies: w 2 -> w f",
    passes.spatial_angles, _draw_spatial,
    facts={"more than one frequency for each axis": lambda at, c: c.head_dim > 4,
           "more than one head": lambda at, c: c.num_heads > 1},
    reads=("hidden_size", "num_heads", "rope_theta"), variants=_spatial_variant)
SPATIAL.wrong("columns_first", lambda at, c: _by_rows(at, _own(c), True),
              "columns come before rows: the first half of the angles counts rows")
SPATIAL.wrong("axes_in_turn", lambda at, c: (at[:, None] * _own(c)[:, None]).reshape(len(at), -1),
              "rows and columns take turns; all angles of the row come first, then the column's")
SPATIAL.wrong("frequencies_of_the_head", lambda at, c: _by_rows(at, _whole(c)[: c.head_dim // 4]),
              "your frequencies are those of the whole head: rows and columns have half of its width "
              "each, so the exponent is 2i / (head_dim / 2)")
SPATIAL.wrong("frequencies_shared_out", lambda at, c: np.repeat(at, c.head_dim // 4, 1) * _whole(c),
              "your frequencies are shared out as in the decoder: the row has the high ones, the "
              "column the low ones. Both axes have all of them")
SPATIAL.wrong("spatial_theta", lambda at, c: _by_rows(at, _frequencies(c.head_dim // 2, 1e4)),
              "theta is always 10000; it is config.rope_theta")
SPATIAL.wrong("same_axis_twice", lambda at, c: _by_rows(at[:, :1].repeat(2, 1), _own(c)),
              "both halves of your angles are equal; one counts rows, the other columns")
SPATIAL.wrong("frequencies_grow", lambda at, c: _by_rows(at, 1 / _own(c)),
              "your frequencies grow: theta has a negative exponent")
SPATIAL.wrong("width_of_the_row",
              lambda at, c: _by_rows(at, _frequencies(c.hidden_size // 2, c.rope_theta)),
              "you use the width of the whole row; frequencies are those of one head")


# ---------------------------------------------------------------------------- angles of the decoder

def _draw_angles(d: Draws) -> tuple:
    section = tuple(d.whole(1, 3) for _ in range(3))
    heads = d.whole(1, 2)
    positions = d.generator().integers(0, 50, (3, d.whole(1, 5)))
    if d.flag():
        positions = np.repeat(positions[:1], 3, 0)                 # text: the same on all axes
    config = text(hidden_size=heads * 2 * sum(section), num_attention_heads=heads, mrope_section=section,
                  rope_theta=d.pick([1e4, 1e6, 100.0]))
    return positions, config


def _shared(positions, config, axis, frequency=None):
    f = _frequencies(config.head_dim, config.rope_theta) if frequency is None else frequency
    return positions[axis].T * f


def _axis(config, order=(0, 1, 2)):
    return np.repeat(order, config.mrope_section)


def _angles_variant(d: Draws) -> Variant:
    order, turns = d.pick([(2, 1, 0), (1, 0, 2), (0, 2, 1)]), d.flag()
    names = ("time", "height", "width")
    words = ", ".join(names[n] for n in order)
    asks = (f"frequencies go to the axes in turn, {words}, {words}, ..., whatever mrope_section says"
            if turns else
            f"the sections of mrope_section belong to {words}, in this order")
    return Variant(asks, plain.sharing(order, turns))


ANGLES = Exercise(
    "mrope_angles", "decoder.angles", "three axes shared out over the frequencies: 3 s -> s f",
    passes.mrope_angles,
    _draw_angles, facts={"positions that differ between the axes (visual tokens)":
                         lambda p, c: bool((p != p[:1]).any())},
    reads=("hidden_size", "num_attention_heads", "rope_theta", "mrope_section"),
    variants=_angles_variant)
ANGLES.wrong("time_everywhere", lambda at, c: _shared(at, c, _axis(c, (0, 0, 0))),
             "all frequencies turn by time: the three axes are shared out over them")


@ANGLES.mistake("frequencies take the axes in turn, as in Qwen3-VL; here they go in chunks: the first "
                "section time, the next height, the last width")
def axes_in_turn_while_they_last(positions, config):
    left, axis = list(config.mrope_section), []
    while any(left):
        for n in range(3):
            if left[n]:
                left[n] -= 1
                axis.append(n)
    return _shared(positions, config, np.array(axis))


ANGLES.wrong("sections_swapped", lambda at, c: _shared(at, c, _axis(c, (0, 2, 1))),
             "height and width are swapped: sections are time, height, width")
ANGLES.wrong("sections_from_the_start",
             lambda at, c: _shared(at, c, _axis(c),
                                   np.concatenate([_whole(c)[:n] for n in c.mrope_section])),
             "frequencies are counted from the start again in each section; they run through all three")
ANGLES.wrong("equal_sections",
             lambda at, c: _shared(at, c, np.arange(c.head_dim // 2) * 3 // (c.head_dim // 2)),
             "the axes have an equal share; mrope_section says how many frequencies each has")
ANGLES.wrong("theta_ignored", lambda at, c: _shared(at, c, _axis(c), _frequencies(c.head_dim, 1e4)),
             "theta is always 10000; it is config.rope_theta")
ANGLES.wrong("exponent_halved",
             lambda at, c: _shared(at, c, _axis(c),
                                   c.rope_theta ** -(np.arange(c.head_dim // 2) / c.head_dim)),
             "the exponent is i / width where 2i / width belongs: frequencies fall too slowly")
ANGLES.wrong("frequencies_first", lambda at, c: _shared(at, c, _axis(c)).T,
             "you give (f, s): a row for each token")
ANGLES.wrong("sections_backwards", lambda at, c: _shared(at, c, _axis(c, (2, 1, 0))),
             "your sections come in the order width, height, time; it is time, height, width")


# ---------------------------------------------------------------------------------- cosine and sine

COS_SIN = Exercise("cos_sin", "*.cos_sin",
                   "cosine and sine of the angles, in the type asked for: n f -> n f, n f",
                   passes.cos_sin,
                   lambda d: (d.floats(d.whole(1, 5), d.whole(1, 6), scale=8.0), FLOAT32))
COS_SIN.wrong("sine_first", lambda angles, _: (np.sin(angles), np.cos(angles)),
              "sine and cosine are swapped: cosine comes first")
COS_SIN.wrong("degrees", lambda angles, _: (np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))),
              "your angles are taken for degrees; they are radians already")
COS_SIN.wrong("angles_twice", lambda angles, _: (np.cos(np.tile(angles, 2)), np.sin(np.tile(angles, 2))),
              "each angle comes twice (2f numbers a row), as in other implementations")
COS_SIN.wrong("sine_negated", lambda angles, _: (np.cos(angles), -np.sin(angles)),
              "the sine has its sign changed")
COS_SIN.wrong("cosine_twice", lambda angles, _: (np.cos(angles), np.cos(angles)),
              "you give the cosine twice")
COS_SIN.wrong("times_pi", lambda angles, _: (np.cos(np.pi * angles), np.sin(np.pi * angles)),
              "the angles are multiplied by pi")


# ------------------------------------------------------------------------------------------ advance

def _advance_variant(d: Draws) -> Variant:
    steps = d.pick([(2, 1, 1), (1, 0, 0), (3, 2, 1)])
    return Variant(f"time, height and width move by {steps[0]}, {steps[1]} and {steps[2]}",
                   plain.moving_on(steps))


def _draw_advance(d: Draws) -> tuple:
    """Rows of the next tokens, and offsets as a picture leaves them: positions lag behind rows."""
    count = d.whole(1, 4)
    return d.generator().integers(40, 99, count), -d.generator().integers(0, 40, (3, count))


def _after_last(function: Callable) -> Callable:
    """A version that goes on from the last token's positions, under the pass's own arguments."""
    def version(rows, offsets):
        return function(rows - 1 + offsets)
    return version


ADVANCE = Exercise("advance", "positions.advance",
                   "positions of the next token: its row, plus how far positions lag behind rows: n, 3 "
                   "n -> 3 n",
                   passes.advance, _draw_advance,
                   facts={"axes that differ": lambda rows, offsets: bool((offsets != offsets[:1]).any()),
                          "several conversations": lambda rows, offsets: len(rows) > 1},
                   variants=_advance_variant)
ADVANCE.fault("decoding-with-1d-positions", "the offset is forgotten: after a picture, positions lag "
              "behind rows")
ADVANCE.wrong("time_alone_moves", _after_last(lambda last: last + np.array([[1], [0], [0]])),
              "only time moves: text has the same number on all three axes, so each gets one more")
ADVANCE.wrong("largest_axis", _after_last(lambda last: np.tile(last.max(0) + 1, (3, 1))),
              "you go on at the largest of the three axes: each axis gets one more than its own last")
ADVANCE.wrong("nothing_moves", _after_last(lambda last: last + 0),
              "nothing moves: the next token stands one further on")
ADVANCE.wrong("largest_conversation", _after_last(lambda last: last * 0 + last.max() + 1),
              "all conversations go on at the largest position: each has its own")
ADVANCE.wrong("time_for_all", _after_last(lambda last: np.tile(last[0] + 1, (3, 1))),
              "you go on at time: each axis gets one more than its own last")
ADVANCE.wrong("one_back", _after_last(lambda last: last - 1), "you go back by one")
ADVANCE.wrong("time_stays", _after_last(lambda last: last + np.array([[0], [1], [1]])),
              "time stands still: it gets one more too")
ADVANCE.wrong("moved_by_number", _after_last(lambda last: last + np.arange(last.shape[1])),
              "conversation n moves by n: each one moves by one")

EXERCISES = [MROPE, SPATIAL, ANGLES, COS_SIN, ADVANCE]

"""Dense targets: what every 28 x 28 cell of a clip shows, as numbers to predict.

The language side tells the tower little about what a shape looks like (one token of an answer in fifty); these targets
tell it in every cell. Edges in absolute pixels, and what happens in a video, are asked of the decoder's visual tokens.
The heads that predict all this are thrown away at export. Rows are in the order of the model's visual tokens: pair of
frames, row, column.

Read next: `network.py`, whose heads are trained on them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .world import CHARACTERS, COLOUR_NAMES, FACTOR, SHAPES, Clip, Thing, left_to_right

HALF = FACTOR // 2
KINDS = [*SHAPES, "text", "button", "field", "bar", "panel"]   # "field" keeps its place: heads were trained with it
COLOUR_COUNT, KIND_COUNT, GLYPH_COUNT = len(COLOUR_NAMES) + 1, len(KINDS) + 1, len(CHARACTERS) + 1
TENS, UNITS = 32, 10                                      # an edge in pixels as a digit and what stands before it
ACROSS = -(-TENS * UNITS // FACTOR)                       # and as a cell and a pixel in it: 12 cells of 28 pixels
LINE, LINE_COUNT, UNASKED = 10, len(CHARACTERS) + 2, 255    # characters of a line that are asked; 0 is its end
STAYS, APPEARS, LEAVES = range(3)
MOMENTS = 48                                              # quarters of a second
BESIDE = 10                                               # classes of such a count: 0 to 8, and 9 or more
SAMPLED = np.array([1, 5, 8, 12])                         # rows and columns of a patch at which its outline is asked


NOTHING = Thing(KINDS[0], "", (0, 0, 0, 0))               # owns no pixel: an empty picture has targets too


class Targets(NamedTuple):
    """m: one row a visual token (cell and pair of frames)."""
    colour: np.ndarray                                    # m 2 4    of each patch in each frame, 0 for background
    kind: np.ndarray                                      # m 2 4    likewise
    outline: np.ndarray                                   # m 64     is there a thing at this sampled pixel
    edges: np.ndarray                                     # m 4      x0 y0 x1 y1 of the cell's thing, -1 when none
    thing: np.ndarray                                     # m        which of the clip's things it is; likewise
    glyph: np.ndarray                                     # m 8      character in each 14 x 7 slot; 0: none, or an
                                                          #          unknown one; 255: not asked, as in videos
    place: np.ndarray                                     # m 8      its place in its line, from 1; 0 and 255 likewise
    holder: np.ndarray                                    # m 8      the thing that this line is or is on; -1 for none
    line: np.ndarray                                      # m 10     what the whole line says; 255 where none is
    beside: np.ndarray                                    # m 2      shapes that are named before its own, and after it;
                                                          #          255 where none is shown, also in videos and
                                                          #          wherever anything but shapes is shown
    alike: np.ndarray                                     # m 3      other shapes of its colour, of its kind, and all;
                                                          #          likewise
    event: np.ndarray                                     # m 4      which, moment, colour, kind of what appeared, left,
                                                          #          or was in the picture before; 255: not asked


def targets(clip: Clip) -> Targets:
    """The truth about a fitted clip, cell by cell."""
    things = clip.things or (NOTHING,)
    patches, covered = _covered(clip)
    best, seen = covered.argmax(axis=-1), covered.max(axis=-1) >= 20
    in_cell = covered.sum(axis=(1, 2))                                                    # m n
    most = _most(in_cell)
    colours, kinds = _names(things)
    events = _events(clip, colours, kinds, covered) if clip.before is None else _compared(clip.before, clip, most)
    return Targets(np.where(seen, colours[best], 0).astype(np.uint8), np.where(seen, kinds[best], 0).astype(np.uint8),
                   _outline(patches), _edges(things, most), most, *_glyphs(clip, len(patches)),
                   _lines(things, in_cell), *_counted(clip, most), events)


def _most(in_cell: np.ndarray) -> np.ndarray:
    """(m, n) pixels of each thing -> (m,) the thing that a cell shows, or -1."""
    return np.where(in_cell.max(axis=-1) >= 40, in_cell.argmax(axis=-1), -1).astype(np.int16)


def _names(things: tuple[Thing, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Classes of the colours and kinds of things."""
    return (np.array([COLOUR_NAMES.index(t.colour) + 1 if t.colour else 0 for t in things]),
            np.array([KINDS.index(t.kind) + 1 for t in things]))


def _covered(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Who owns each pixel of each patch (m, 2, 4, 14, 14), and how many pixels of it each thing has: (m, 2, 4, n)."""
    frames = clip.owner.shape[0]
    owner = clip.owner if frames % 2 == 0 else np.concatenate([clip.owner, clip.owner[-1:]])     # t h w
    patches = _patches(owner)
    return patches, np.stack([(patches == i).sum(axis=(3, 4)) for i in range(max(1, len(clip.things)))], axis=-1)


def _patches(owner: np.ndarray) -> np.ndarray:
    """(t, h, w) -> (m, 2, 4, 14, 14): cells in raster order, the four patches of each."""
    t, h, w = owner.shape
    cut = owner.reshape(t // 2, 2, h // FACTOR, 2, HALF, w // FACTOR, 2, HALF)
    return cut.transpose(0, 2, 5, 1, 3, 6, 4, 7).reshape(-1, 2, 4, HALF, HALF)


def _outline(patches: np.ndarray) -> np.ndarray:
    return (patches[:, 0][:, :, SAMPLED][:, :, :, SAMPLED] >= 0).reshape(-1, 64).astype(np.uint8)


def _edges(things: tuple[Thing, ...], most: np.ndarray) -> np.ndarray:
    """The thing of each cell (m,) as edges in pixels of the picture: (m, 4)."""
    boxes = np.array([t.box for t in things], np.int16)
    boxes[:, 2:] -= 1                                     # the last pixel that is inside
    boxes = boxes.clip(0, 10 * TENS - 1)
    return np.where((most >= 0)[:, None], boxes[most], -1).astype(np.int16)


def _glyphs(clip: Clip, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The character that each slot of 14 x 7 pixels holds most of, if it has 2 of its 12 votes; its place in its line;
    the thing that it stands on: three of (m, 8), 0, 0 and -1 where none does. A line of 9 pixels on the border of two
    slots fills half of neither: if the ground around it had votes too, nobody would ask what is written there."""
    if clip.glyphs is None:
        asked = np.full((cells, 8), 0 if len(clip.frames) == 1 else UNASKED, np.uint8)
        return asked, asked, np.full((cells, 8), -1, np.int16)
    h, w = clip.size
    slots = clip.glyphs.reshape(3, h // FACTOR, 2, HALF, w // FACTOR, 4, HALF // 2).transpose(0, 1, 4, 2, 5, 3, 6)
    middle = slots[..., 2:12:3, 1:6:2].reshape(3, cells, 8, -1)             # 12 of 98 pixels vote
    which = 256 * middle[2].astype(np.int32) + middle[1]                    # m 8 12   a character of a line
    counts = (which[..., :, None] == which[..., None, :]).sum(axis=-1) * (which > 0)
    first = counts.argmax(axis=-1)[..., None]
    glyph, place, holder = np.take_along_axis(middle, first[None], axis=-1)[..., 0] * (counts.max(axis=-1) >= 2)
    return np.minimum(glyph, GLYPH_COUNT - 1), np.minimum(place, LINE), holder.astype(np.int16) - 1


def _lines(things: tuple[Thing, ...], covered: np.ndarray) -> np.ndarray:
    """What is written on the thing that a cell holds most of, as classes: 0 after the end, the last for others."""
    table = np.array([_line(thing) for thing in things], np.uint8)
    return np.where((covered.max(axis=-1) >= 24)[:, None], table[covered.argmax(axis=-1)], UNASKED).astype(np.uint8)


def _counted(clip: Clip, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`beside` (m, 2): how many things stand before the thing of each cell, from the left, and how many after it; a
    list needs the first. `alike` (m, 3): how many others have its colour, how many its kind, and how many there are; a
    count needs one of them plus one, and the odd one out has none of its own. The decoder reads row by row: at a thing
    it does not know of those that lie below. most: what each cell shows."""
    things = clip.things if clip.fps is None and all(thing.kind in SHAPES for thing in clip.things) else ()
    if not things:
        return tuple(np.full((len(most), n), UNASKED, np.uint8) for n in (2, 3))    # type: ignore[return-value]
    order = left_to_right(things)
    before = np.array([order.index(thing) for thing in things])
    same = [[sum(getattr(other, name) == getattr(thing, name) for other in things) - 1 for thing in things]
            for name in ("colour", "kind")]
    others = np.full(len(things), len(things) - 1)
    beside, alike = (np.stack(columns, axis=1).clip(max=BESIDE - 1)
                     for columns in ((before, others - before), (*same, others)))
    shown = (most >= 0)[:, None]
    return (np.where(shown, beside[most], UNASKED).astype(np.uint8),
            np.where(shown, alike[most], UNASKED).astype(np.uint8))


def _line(thing: Thing) -> list[int]:
    if thing.kind not in ("text", "button"):
        return [UNASKED] * LINE
    said = [CHARACTERS.find(c) + 1 or LINE_COUNT - 1 for c in thing.label[:LINE]]
    return said + [0] * (LINE - len(said))


def _events(clip: Clip, colours: np.ndarray, kinds: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """What happened in a cell between the pair of frames before and this one: (m, 4); 255 where there is no video, and
    but for the first where nothing happened.

    The decoder reads forward, so that a thing that left is told by the first cells without it.
    """
    cells = len(covered)
    if clip.fps is None:
        return np.full((cells, 4), UNASKED, np.uint8)
    pairs = -(-len(clip.frames) // 2)
    by_pair = covered.sum(axis=(1, 2)).reshape(pairs, -1, covered.shape[-1])      # pair, cell, thing
    table, most = np.full((*by_pair.shape[:2], 4), UNASKED, np.uint8), np.zeros(by_pair.shape[:2])
    table[:, :, 0] = STAYS
    for i, thing in enumerate(clip.things):
        if thing.spans is None:
            continue
        came = thing.spans[1] == len(clip.frames)
        frame = thing.spans[0] if came else thing.spans[1]
        pair, full = frame // 2, by_pair[:, :, i].max(axis=0)                 # a thing stands still while it is there
        here = (full >= 40) & (full > most[pair])
        moment = min(MOMENTS - 1, round(4 * frame / clip.fps))
        table[pair, here] = APPEARS if came else LEAVES, moment, colours[i], kinds[i]
        most[pair, here] = full[here]
    return table.reshape(cells, 4)


def _compared(before: Clip, now: Clip, most: np.ndarray) -> np.ndarray:
    """`_events` of a picture that is compared with one before it, of the same size: (m, 4). A cell whose thing is gone
    or is another one says that it left, and each that showed one its colour and kind; there is no moment. most: what
    each cell shows now."""
    things, was = before.things or (NOTHING,), _most(_covered(before)[1].sum(axis=(1, 2)))
    labels = [thing.label for thing in now.things] + [""]
    left = np.array([i >= 0 and things[i].label != labels[j] for i, j in zip(was, most, strict=True)])
    asked = [np.where(was >= 0, classes[was], UNASKED) for classes in _names(things)]
    return np.stack([np.where(left, LEAVES, STAYS), np.full(len(was), UNASKED), *asked], axis=1).astype(np.uint8)

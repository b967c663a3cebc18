"""A half batch as the network's own functions want it: what is attended together lies side by side.

`packing.collate` pads and gathers; here nothing is padded and hardly anything gathered. Patches come in
the order of the windows, all pictures of one size one after the other, so that a window and a frame are
slices. Of two equal frames, which every still picture has, one is kept. Tokens come row after row: the
start of the prompt, which is the same in all rows, stands once in front; then the rest of each prompt
with its branches.

A test holds losses and gradients on both layouts equal. Read next: `fused.py`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .attending import NOWHERE, Plan
from .packing import CELLS, MANY, PATCH, Row, shown, sought, written_on
from .targets import Targets

# The library of products makes code for every number of rows that it meets: half a megabyte, which it
# keeps, and half a millisecond. So there are few of them: rows are filled up.
PATCHES, TOKENS, ASKED = 64, 128, 64
WINDOW = 4 * CELLS**2  # patches of a whole window
SEEN = (*Targets._fields, "corners", "shown", "written_on")  # what is kept of pictures that are looked at once


class Frames(NamedTuple):
    """`count` frames of one size from patch `start` on. windows: (first patch in the frame, windows,
    patches each)."""
    start: int
    count: int
    patches: int
    windows: tuple[tuple[int, int, int], ...]


@functools.lru_cache(maxsize=1024)
def windowed(h: int, w: int) -> tuple[np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Cells of an (h, w) frame in the order of its windows, whole windows first, and what
    `Frames.windows` says."""
    cells = np.arange(h * w).reshape(h, w)
    blocks = [cells[i:i + CELLS, j:j + CELLS].reshape(-1)
              for i in range(0, h, CELLS) for j in range(0, w, CELLS)]
    blocks.sort(key=lambda block: -len(block))
    kinds, start = [], 0
    for size in sorted({len(block) for block in blocks}, reverse=True):
        count = sum(len(block) == size for block in blocks)
        kinds.append((start, count, 4 * size))
        start += 4 * size * count
    return np.concatenate(blocks), tuple(kinds)


def lay(rows: list[Row]) -> dict[str, Any]:
    """Rows as the arrays of one step; dense targets in the order of visual tokens, as in
    `packing.collate`."""
    made = [one for row in rows for one in row.targets]
    dense = {name: np.concatenate([getattr(one, name) for one in made]) for name in Targets._fields}
    things = {"shown": shown(rows), "written_on": written_on(rows)}
    return dense | _pictures(rows) | things | (questions(rows) if len(rows[0].ids) else {})


def questions(rows: list[Row]) -> dict[str, Any]:
    """The half of `lay` that other questions about the same pictures replace."""
    return {"tasks": [task for row in rows for task in row.tasks], **_tokens(rows)}


# ------------------------------------------------------------------------------------------- the tower

def _pictures(rows: list[Row]) -> dict[str, Any]:
    """Patches, where each stands in its picture, the frames, and where each visual token is found."""
    clips = [clip for row in rows for clip in _clips(row)]
    firsts = np.cumsum([0] + [len(patches) // 4 for patches, _ in clips])    # visual tokens before each
    still = [stands_still(patches) for patches, _ in clips]
    order = sorted(range(len(clips)), key=lambda i: (not still[i], clips[i][1][1:]))
    pixels: dict[bool, list[np.ndarray]] = {True: [], False: []}
    places, at, found, frames = np.zeros(firsts[-1], np.int64), [], 0, list[Frames]()
    for i in order:
        if not still[i] and not pixels[False]:
            found += _filled(pixels[True], at, frames, found)
        patches, (t, gh, gw) = clips[i]
        cells, windows = windowed(gh // 2, gw // 2)
        cells = (np.arange(t)[:, None] * len(cells) + cells).reshape(-1)     # of all its frames
        places[firsts[i] + cells] = found // 4 + np.arange(len(cells))
        moved = patches.reshape(len(cells), 4, *patches.shape[1:])[cells].reshape(patches.shape)
        pixels[still[i]].append(moved[:, :, :1] if still[i] else moved)
        row, column = np.divmod(cells % (gh * gw // 4), gw // 2)
        four = [2 * row[:, None] + [0, 0, 1, 1], 2 * column[:, None] + [0, 1, 0, 1]]
        at.append(np.stack(four).reshape(2, -1))
        _add_frames(frames, Frames(found, t, gh * gw, windows))
        found += len(patches)
    _filled(pixels[not pixels[False]], at, frames, found)
    corners = np.concatenate([_corners(*grid) for _, grid in clips])
    flat = {name: np.concatenate(parts).reshape(-1, 3 * count * PATCH**2) if parts
            else np.zeros((0, 3 * count * PATCH**2), np.uint8)
            for name, parts, count in (("still", pixels[True], 1), ("moving", pixels[False], 2))}
    return {**flat, "at": np.concatenate(at, axis=1), "corners": corners, "places": places,
            "frames": frames, "seeing": _plans_of(frames)}


def stands_still(patches: np.ndarray) -> bool:
    """Are both frames of every pair (p, 3, 2, 14, 14) equal?"""
    return bool((patches[:, :, 0] == patches[:, :, 1]).all())


def _filled(pixels: list[np.ndarray], at: list[np.ndarray], frames: list[Frames], found: int) -> int:
    """Add a black frame behind the pictures so that there are whole PATCHES; gives its patches. No
    visual token comes from it."""
    here = sum(map(len, pixels))
    more = -here % PATCHES
    if more:
        whole, rest = divmod(more, WINDOW)
        kinds = ((0, whole, WINDOW), (whole * WINDOW, 1, rest))
        pixels.append(np.zeros((more, *pixels[0].shape[1:]), np.uint8))
        at.append(np.zeros((2, more), np.int64))
        frames.append(Frames(found, 1, more, tuple(kind for kind in kinds if kind[1] and kind[2])))
    return more


def _corners(t: int, gh: int, gw: int) -> np.ndarray:
    """Row and column of each visual token of a clip, in prompt order: (m, 2)."""
    return np.stack(np.divmod(np.arange(t * gh * gw // 4) % (gh * gw // 4), gw // 2), axis=1)


def _clips(row: Row) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Patches and grid of each clip of a row."""
    sizes = [t * gh * gw for t, gh, gw in row.grids]
    return list(zip(np.split(row.patches, np.cumsum(sizes)[:-1]), row.grids, strict=True))


def _add_frames(frames: list[Frames], more: Frames) -> None:
    """Join them to those before when both are of one shape."""
    if frames and frames[-1].windows == more.windows:
        frames[-1] = frames[-1]._replace(count=frames[-1].count + more.count)
    else:
        frames.append(more)


def _plans_of(frames: list[Frames]) -> tuple[Plan, Plan]:
    """Of the blocks that attend in windows, and of those that attend in frames."""
    windows, whole = list[np.ndarray](), list[np.ndarray]()
    for start, count, patches, kinds in frames:
        begins = start + patches * np.arange(count)[:, None]
        whole.append(np.hstack([begins, begins + patches]))
        for first, many, size in kinds:
            each = (begins + first + size * np.arange(many)).reshape(-1, 1)
            windows.append(np.hstack([each, each + size]))
    return _seeing(np.concatenate(windows), False), _seeing(np.concatenate(whole), True)


def _seeing(spans: np.ndarray, wide: bool) -> Plan:
    """Patches that see all of their span, first and last (g, 2), and nothing else."""
    spans = spans[np.argsort(spans[:, 0])]
    count = spans[-1, 1]
    until = np.repeat(spans[:, 1], spans[:, 1] - spans[:, 0])
    queries = np.stack([np.arange(count), until, np.full(count, NOWHERE)], axis=1)
    return Plan(np.concatenate([spans, spans], axis=1), queries, 0, wide)


# ----------------------------------------------------------------------------------------- the decoder

def _tokens(rows: list[Row]) -> dict[str, Any]:
    """Tokens of all rows, the shared start once, and two plans: one that asks all of them, one those
    before an answer's tokens."""
    shared = start_of_all(rows)
    count = shared + sum(len(row.ids) - shared for row in rows)
    blank = _blank(TOKENS - count % TOKENS)  # one at least: queries that nobody asks
    parts = [(rows[0], 0, shared), *((row, shared, len(row.ids)) for row in rows), (blank, 0, None)]
    out = {name: np.concatenate([getattr(row, name)[first:last] for row, first, last in parts])
           for name in ("ids", "target", "weight", "digit", "spot")}
    out["positions"] = np.concatenate([row.positions[:, first:last] for row, first, last in parts],
                                      axis=1)
    visual, answer, at, answers = [], [np.full(shared, -1)], shared, 0
    finds = [np.full((shared, MANY), -1)]
    for number, row in enumerate(rows):
        visual.append(at + row.visual - shared)
        answer.append(np.where(row.answer >= 0, row.answer + answers, -1)[shared:])
        finds.append(sought(row, number)[shared:])
        at, answers = at + len(row.ids) - shared, answers + len(row.tasks)
    asked = np.flatnonzero(out["target"] >= 0)
    flat = {name: out[name][asked] for name in ("target", "weight", "digit", "spot")}
    asking = np.concatenate([asked, np.full(-len(asked) % ASKED, count)])
    return {**out, **flat, "visual": np.concatenate(visual), "asking": asking,
            "answer": np.concatenate(answer)[asked], "sought": np.concatenate(finds)[asked], "asked": asked,
            "reading": _reading([*rows, blank], shared, asking)}


def _blank(count: int) -> Row:
    """Tokens that belong to no row, each of which sees itself and what is before it."""
    zeros = np.zeros(count, np.int64)
    return Row(np.zeros(0, np.uint8), [], [], ids=zeros, branch=zeros, target=zeros - 100,
               weight=np.zeros(count, np.float32), digit=zeros - 1, answer=zeros - 1,
               sought=np.full((count, MANY), -1), spot=zeros, positions=np.zeros((3, count), np.int64))


def start_of_all(rows: list[Row]) -> int:
    """How many tokens at the start are the same in all rows; those are text, before any picture."""
    least = min(int((row.branch == 0).sum()) - 1 if not len(row.visual) else int(row.visual[0])
                for row in rows)
    return least if all(np.array_equal(row.ids[:least], rows[0].ids[:least]) for row in rows) else 0


def _reading(rows: list[Row], shared: int, asking: np.ndarray) -> tuple[Plan, Plan]:
    """Each row is a segment; a token of a prompt sees those before it, one of a branch the prompt and
    its branch up to itself."""
    until, own = [np.arange(shared) + 1], [np.full(shared, NOWHERE)]
    ends, at = [shared], shared
    for row in rows:
        branch = row.branch[shared if row.tasks else 0:]  # rises from 0; blanks hold no shared start
        token, prompt = at + np.arange(len(branch)), branch == 0
        until.append(np.where(prompt, token + 1, at + prompt.sum()))
        own.append(np.where(prompt, NOWHERE, at + np.searchsorted(branch, branch)))
        at += len(branch)
        ends.append(at)
    queries = np.stack([np.arange(at), np.concatenate(until), np.concatenate(own)], axis=1)
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    whole = np.concatenate([[[0, shared]] if shared else np.zeros((0, 2), np.int64), spans])
    found = np.searchsorted(asking, spans)
    return (Plan(np.concatenate([whole, whole], axis=1), queries, shared, True),
            Plan(np.concatenate([spans, found], axis=1), queries[asking], shared, True))

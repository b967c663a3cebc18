"""A half batch as the network's own functions want it: what is attended together lies side by side.

`packing.collate` pads and gathers; here nothing is padded and hardly anything gathered. Patches come in
the order of the windows, all pictures of one size one after the other, so that a window and a frame are
slices. Of two equal frames, which every still picture has, one is kept. Tokens come row after row: the
start of the prompt, which is the same in all rows, stands once in front; then the rest of each prompt
with its branches, those of one length together.

A test holds losses and gradients on both layouts equal. Read next: `fused.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .packing import CELLS, PATCH, Row
from .targets import Targets

SEEN = (*Targets._fields, "corners")  # what is kept of pictures that are looked at once


class Frames(NamedTuple):
    """`count` frames of one size from patch `start` on. windows: (first patch in the frame, windows,
    patches each)."""
    start: int
    count: int
    patches: int
    windows: tuple[tuple[int, int, int], ...]


class Branches(NamedTuple):
    """`count` branches of one length, one after the other, with as many queries each: all of them, or
    those at their end. query: the first one's place among the queries; key: among the tokens."""
    query: int
    count: int
    queries: int
    key: int
    keys: int


class Tree(NamedTuple):
    """One row: tokens start:prompt are the rest of its prompt; queries first:last are asked in it."""
    start: int
    prompt: int
    first: int
    last: int
    asks: int  # queries of the prompt: all of its tokens, or none
    branches: tuple[Branches, ...]


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
    return dense | _pictures(rows) | (questions(rows) if len(rows[0].ids) else {})


def questions(rows: list[Row]) -> dict[str, Any]:
    """The half of `lay` that other questions about the same pictures replace."""
    return {"tasks": [task for row in rows for task in row.tasks], **_tokens(rows)}


# ------------------------------------------------------------------------------------------- the tower

def _pictures(rows: list[Row]) -> dict[str, Any]:
    """Patches, where each stands in its picture, the frames, and where each visual token is found."""
    clips = [clip for row in rows for clip in _clips(row)]
    firsts = np.cumsum([0] + [len(patches) // 4 for patches, _ in clips])    # visual tokens before each
    still = [bool((patches[:, :, 0] == patches[:, :, 1]).all()) for patches, _ in clips]
    order = sorted(range(len(clips)), key=lambda i: (not still[i], clips[i][1][1:]))
    pixels: dict[bool, list[np.ndarray]] = {True: [], False: []}
    places, at, found, frames = np.zeros(firsts[-1], np.int64), [], 0, list[Frames]()
    for i in order:
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
    corners = np.concatenate([_corners(*grid) for _, grid in clips])
    flat = {name: np.concatenate(parts).reshape(-1, 3 * count * PATCH**2) if parts
            else np.zeros((0, 3 * count * PATCH**2), np.uint8)
            for name, parts, count in (("still", pixels[True], 1), ("moving", pixels[False], 2))}
    return {**flat, "at": np.concatenate(at, axis=1), "corners": corners, "places": places,
            "frames": frames}


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


# ----------------------------------------------------------------------------------------- the decoder

def _tokens(rows: list[Row]) -> dict[str, Any]:
    """Tokens of all rows, and two plans: one that asks all of them, one those before an answer's
    tokens."""
    shared = _shared(rows)
    pieces = [(rows[0], np.arange(shared))]
    whole, last, at = [], [], shared
    asked = 0
    for row in rows:
        order, spans = _by_length(row, shared)
        pieces.append((row, order))
        prompt = int((row.branch == 0).sum()) - shared
        tails = [int((row.target[order[start:start + n]] >= 0).sum()) for start, n in spans]
        whole.append(_tree(at, prompt, at, prompt, spans, [n for _, n in spans]))
        last.append(_tree(at, prompt, asked, 0, spans, tails))
        at, asked = at + len(order), asked + sum(tails)
    out = {name: np.concatenate([getattr(row, name)[order] for row, order in pieces])
           for name in ("ids", "target", "weight", "digit")}
    out["positions"] = np.concatenate([row.positions[:, order] for row, order in pieces], axis=1)
    return out | _counted(pieces, out) | {"shared": shared, "trees": (whole, last)}


def _shared(rows: list[Row]) -> int:
    """How many tokens at the start are the same in all rows; those are text, before any picture."""
    least = min(int((row.branch == 0).sum()) - 1 if not len(row.visual) else int(row.visual[0])
                for row in rows)
    return least if all(np.array_equal(row.ids[:least], rows[0].ids[:least]) for row in rows) else 0


def _by_length(row: Row, shared: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A row's tokens after the shared ones, branches sorted by length; (start, length) of each branch in
    that."""
    branches = [np.flatnonzero(row.branch == number) for number in range(1, int(row.branch.max()) + 1)]
    branches.sort(key=lambda one: (len(one), int((row.target[one] >= 0).sum())))
    parts = [np.flatnonzero(row.branch == 0)[shared:], *branches]
    starts = np.cumsum([len(part) for part in parts])
    spans = [(int(start), len(part)) for start, part in zip(starts, parts[1:], strict=False)]
    return np.concatenate(parts), spans


def _tree(start: int, prompt: int, first: int, asks: int, spans: Sequence[tuple[int, int]],
          queries: Sequence[int]) -> Tree:
    """The plan of a row that starts at token `start`, with its queries from `first` on."""
    groups, query = list[Branches](), first + asks
    for (key, keys), many in zip(spans, queries, strict=True):
        if groups and (groups[-1].keys, groups[-1].queries) == (keys, many):
            groups[-1] = groups[-1]._replace(count=groups[-1].count + 1)
        else:
            groups.append(Branches(query, 1, many, start + key, keys))
        query += many
    return Tree(start, start + prompt, first, query, asks, tuple(groups))


def _counted(pieces: list[tuple[Row, np.ndarray]], out: dict[str, np.ndarray]) -> dict[str, Any]:
    """Visual tokens and numbers of answers, counted over the batch; the tokens that are asked, with
    their targets. pieces: the shared start, then each row with the order of its tokens."""
    shared = len(pieces[0][1])
    visual, answer, at, answers = [], [np.full(shared, -1)], shared, 0
    for row, order in pieces[1:]:
        visual.append(at + row.visual - shared)           # a prompt's tokens keep their order
        answer.append(np.where(row.answer[order] >= 0, row.answer[order] + answers, -1))
        at, answers = at + len(order), answers + len(row.tasks)
    asked = np.flatnonzero(out["target"] >= 0)
    flat = {name: out[name][asked] for name in ("target", "weight", "digit")}
    return {"visual": np.concatenate(visual), "asked": asked, **flat,
            "answer": np.concatenate(answer)[asked]}

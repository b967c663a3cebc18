"""From samples to the arrays of a training step: patches, segments of attention, one sequence for each sample.

One row of a batch is one sample: the shared prompt with its pictures, then every question as a *branch* that starts at
the same MRoPE position and sees the prompt and itself alone. That equals separate conversations exactly (a test holds
it against transformers) and lets one pass of the tower serve all questions about a picture.

Read next: `network.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .targets import LINE, Targets, targets
from .world import FACTOR, Clip, fitted

PATCH, CELLS = FACTOR // 2, 2                             # pixels; cells along one side of a window of 56 pixels
GROUPS = 4                                                # of segments of like length
TOKENS_PER_SECOND = 2
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
START, END, PICTURE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
STOP = "<|im_end|>"
LEARNED = ("target", "weight", "digit", "answer", "sought", "spot")      # what a row says of each token but its id
MOST, IN_CLIP = 1000, 200                                 # numbers of things in a row, and of those in a clip
MANY = 6                                                  # things that an answer speaks of at once, at most


@dataclass
class Turn:
    """A question and its answer; `task` names the row of the evaluation.

    before: earlier turns of a dialogue; truth: what a grader compares with, where that is not the answer; read: from
    where to where the answer says what is written in the picture, which is spelled (`spelled`); shows: from where to
    where it speaks of which thing, by its number in the first clip, IN_CLIP more for each clip before it (`about`); of
    several at once where these overlap.
    """
    task: str
    question: str
    answer: str
    before: tuple[tuple[str, str], ...] = ()
    truth: str = ""
    read: tuple[tuple[int, int], ...] = ()
    shows: tuple[tuple[int, int, int], ...] = ()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """What the answer says anyway and what it reads, in turns, up to the stop; is it read?"""
        at = 0
        for start, stop in self.read:
            yield from ((self.answer[at:start], False), (self.answer[start:stop], True))
            at = stop
        yield self.answer[at:] + STOP, False


def spelled(task: str, question: str, *pieces: str) -> Turn:
    """A turn whose answer is made of pieces: what is said anyway and what is read off the picture, in turns."""
    ends = list(itertools.accumulate(map(len, pieces), initial=0))
    return Turn(task, question, "".join(pieces), read=tuple(zip(ends[1:-1:2], ends[2::2], strict=True)))


def about(turn: Turn, *things: tuple[str, int]) -> Turn:
    """The turn, which says where its answer speaks of what: `things` are pieces of the answer, in its order, and
    numbers of things; those with no piece have all of the answer, together."""
    shows, at = list[tuple[int, int, int]](), 0
    for piece, thing in things:
        start = turn.answer.index(piece, at)
        at = start + len(piece)
        shows.append((start, at if piece else len(turn.answer + STOP), thing))
    return replace(turn, shows=tuple(shows))


def _filled(things: list[int], turn: Turn) -> list[int]:
    """MANY numbers, -1 after the last thing. Raises ValueError for more."""
    if len(things) > MANY:
        raise ValueError(f"an answer may speak of {MANY} things at once, and one of {turn.task!r} speaks of "
                         f"{len(things)}: raise MANY")
    return things + [-1] * (MANY - len(things))


@dataclass
class Sample:
    """Clips (pictures or a video, native size) and what is asked about them."""
    clips: list[Clip]
    turns: list[Turn] = field(default_factory=list)


@dataclass
class Row:
    """One sample as token ids and patches. s: tokens; branch 0 is the shared prompt; target -100 is not learned."""
    patches: np.ndarray                                   # p 3 2 14 14, uint8
    grids: list[tuple[int, int, int]]
    targets: list[Targets]
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    branch: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    target: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    weight: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    digit: np.ndarray = field(default_factory=lambda: np.zeros(0, int))       # of a coordinate that is asked; or -1
    answer: np.ndarray = field(default_factory=lambda: np.zeros(0, int))      # which answer a target belongs to
    positions: np.ndarray = field(default_factory=lambda: np.zeros((3, 0), int))
    visual: np.ndarray = field(default_factory=lambda: np.zeros(0, int))      # where the visual tokens stand
    sought: np.ndarray = field(default_factory=lambda: np.zeros((0, MANY), int))        # things it speaks of; -1 after
    spot: np.ndarray = field(default_factory=lambda: np.zeros(0, int))        # and which character of it, from 1; or 0
    tasks: list[str] = field(default_factory=list)


def patches_of(clip: Clip) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Patches of a fitted clip in the official order, uint8, and the grid (t, gh, gw)."""
    frames = clip.frames if len(clip.frames) % 2 == 0 else np.concatenate([clip.frames, clip.frames[-1:]])
    t, h, w, _ = frames.shape
    grid = (t // 2, h // PATCH, w // PATCH)
    cut = frames.reshape(grid[0], 2, h // FACTOR, 2, PATCH, w // FACTOR, 2, PATCH, 3)
    return np.ascontiguousarray(cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3, 2, PATCH, PATCH)), grid


def see(sample: Sample) -> Row:
    """The visual half of a row."""
    clips = [fitted(clip) for clip in sample.clips]
    cut = [patches_of(clip) for clip in clips]
    return Row(np.concatenate([p for p, _ in cut]), [g for _, g in cut], [targets(clip) for clip in clips])


class Packer:
    """Turns samples into rows with one tokenizer. time_axis: False puts all frames of a video at one moment."""

    def __init__(self, tokenizer: Any, time_axis: bool = True):
        self._time_axis = time_axis
        self._encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self._known: dict[str, tuple[list[int], list[int]]] = {}
        self.pads = {False: tokenizer.token_to_id(PICTURE), True: tokenizer.token_to_id(VIDEO)}
        self.digits = {tokenizer.token_to_id(str(digit)): digit for digit in range(10)}

    def ids(self, text: str) -> list[int]:
        return self._tokens(text)[0]

    def _tokens(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and which character is the last of each."""
        found = self._known.get(text)
        if found is None:
            encoded = self._encode(text)
            found = encoded.ids, [end - 1 for _, end in encoded.offsets]
            if len(self._known) < 50_000:
                self._known[text] = found
        return found

    def said(self, turn: Turn) -> tuple[list[int], list[int], list[list[int]], list[int]]:
        """Ids of an answer and its stop, what is read one character at a time; for each token how many are read with
        it, 0 where nothing is: letters that share a token would have to be told apart by what they mean together; of
        which things it speaks, -1 after the last; and which character of it that is, from 1 to LINE, or 0."""
        ids: list[int] = []
        alone: list[int] = []
        lasts: list[int] = []
        spots: list[int] = []
        at = 0
        for text, read in turn.pieces():
            for number, part in enumerate(text if read else [text], 1):
                new, last = self._tokens(part)
                spots += [min(number, LINE) if read else 0] * len(new)
                ids += new
                lasts += [at + one for one in last]
                at += len(part)
            alone += [len(text) if read else 0] * (len(ids) - len(alone))
        spoken = ([thing for start, stop, thing in turn.shows if start <= last < stop] for last in lasts)
        sought = [_filled(things, turn) for things in spoken]
        return ids, alone, sought, spots

    def pack(self, sample: Sample, seen: Row | None = None) -> Row:
        """The whole row: shared prompt, then a branch for each turn. seen: what `see` gave of these clips before."""
        row, build = replace(seen or see(sample)), _Builder()
        build.text(self.ids(SYSTEM + START if sample.clips else SYSTEM))
        for i, (clip, grid) in enumerate(zip(sample.clips, row.grids, strict=True)):
            if i:
                build.text(self.ids(START))
            build.picture(self.pads[clip.fps is not None], grid, clip.fps, self._time_axis)
            build.text(self.ids(END))
        start = build.next
        for number, turn in enumerate(sample.turns):
            build.branch(number + 1, start)
            for question, answer in turn.before:
                build.text(self.ids(question + ANSWER))
                build.text(self.ids(answer + STOP + "\n<|im_start|>user\n"))
            build.text(self.ids(turn.question + ANSWER))
            build.answer(*self.said(turn), number, self.digits, turn.answer)
        build.finish(row)
        row.tasks = [turn.task for turn in sample.turns]
        return row


def outside_quotes(answer: str) -> list[bool]:
    """Of each digit of an answer in the official form of grounding: is it a coordinate, and no part of a name or label?
    Nothing for other answers."""
    parts = answer.split('"') if answer.startswith("[") else []
    return [i % 2 == 0 for i, part in enumerate(parts) for character in part if character.isdigit()]


class _Builder:
    """Grows the arrays of a row, token by token, with the positions of `positions.mrope` (`max_plus_one`)."""

    def __init__(self) -> None:
        self.columns: dict[str, list] = {name: [] for name in ("ids", "branch", *LEARNED)}
        self.positions: list[np.ndarray] = []
        self.visual: list[int] = []
        self.next, self._branch = 0, 0

    def _add(self, ids: list[int], positions: np.ndarray) -> None:
        n = len(ids)
        for name, values in {"ids": ids, "branch": [self._branch] * n, "target": [-100] * n, "weight": [0.0] * n,
                             "digit": [-1] * n, "answer": [-1] * n, "sought": [[-1] * MANY] * n,
                             "spot": [0] * n}.items():
            self.columns[name].extend(values)
        self.positions.append(positions)

    def text(self, ids: list[int]) -> None:
        self._add(ids, np.broadcast_to(self.next + np.arange(len(ids)), (3, len(ids))))
        self.next += len(ids)

    def picture(self, pad: int, grid: tuple[int, int, int], fps: float | None, time_axis: bool = True) -> None:
        t, h, w = grid[0], grid[1] // 2, grid[2] // 2
        seconds = np.float32(1 if fps is None else 2 / fps * TOKENS_PER_SECOND)      # as `positions.mrope`
        at = np.stack(np.meshgrid(np.floor(np.arange(t) * seconds).astype(int), np.arange(h), np.arange(w),
                                  indexing="ij")).reshape(3, -1)
        self.visual.extend(range(len(self.columns["ids"]), len(self.columns["ids"]) + at.shape[1]))
        after = self.next + int(at.max()) + 1
        at[0] *= time_axis
        self._add([pad] * at.shape[1], self.next + at)
        self.next = after

    def branch(self, number: int, start: int) -> None:
        self._branch, self.next = number, start

    def answer(self, ids: list[int], alone: list[int], sought: list[list[int]], spots: list[int], number: int,
               digits: dict[int, int], text: str) -> None:
        """The answer's tokens: each is the target of the token before it; the last one is never read.

        A long answer weighs more than a short one, but its tokens less. What is hard in it keeps its weight, as if its
        piece were an answer by itself: a value that is read (alone: its tokens, `Packer.said`), a box of many, whose
        coordinates count threefold."""
        first, each = len(self.columns["ids"]) - 1, len(ids) / max(1, text.count("{"))
        self.text(ids[:-1])
        stop = first + len(ids)
        left = iter(outside_quotes(text))
        asked = [digits[i] if i in digits and next(left, False) else -1 for i in ids]
        self.columns["target"][first:stop] = ids
        self.columns["weight"][first:stop] = [
            (3 if digit >= 0 else 1) * (read + 1 if read else each) ** -0.75
            for digit, read in zip(asked, alone, strict=True)]
        self.columns["digit"][first:stop] = asked
        self.columns["answer"][first:stop] = [number] * len(ids)
        self.columns["sought"][first:stop] = sought
        self.columns["spot"][first:stop] = spots

    def finish(self, row: Row) -> None:
        for name, values in self.columns.items():
            setattr(row, name, np.array(values, np.float32 if name == "weight" else np.int64))
        row.positions = np.concatenate(self.positions, axis=1)
        row.visual = np.array(self.visual)


def cost(row: Row) -> float:
    """What a row costs, roughly, so that rows of a like size share a batch."""
    return len(row.ids) + 1.1 * len(row.patches)


# ------------------------------------------------------------------------------------------------- batches

def collate(rows: list[Row]) -> dict[str, Any]:
    """Rows as the arrays of one step: all patches and all tokens one after the other, without padding. Only attention
    needs equal lengths; what is attended together stands in tables of indices, those of like length side by side."""
    batch: dict[str, Any] = {"patches": np.concatenate([row.patches for row in rows])}
    for name in Targets._fields:
        batch[name] = np.concatenate([getattr(t, name) for row in rows for t in row.targets])
    batch |= _segments([grid for row in rows for grid in row.grids])
    batch["tasks"] = [task for row in rows for task in row.tasks]
    batch |= {"shown": shown(rows), "written_on": written_on(rows)}
    if len(rows[0].ids):
        batch |= _sequences(rows)
    return batch


def shown(rows: list[Row]) -> np.ndarray:
    """(m,) What each visual token shows: the number of its thing, counted on by IN_CLIP from clip to clip and by MOST
    from row to row; the last number of a row where it shows nothing."""
    return _numbered(rows, lambda one: one.thing)


def written_on(rows: list[Row]) -> np.ndarray:
    """(m, 8) On which thing the character stands that each slot of a visual token shows: numbers as in `shown`."""
    return _numbered(rows, lambda one: one.holder)


def _numbered(rows: list[Row], of: Callable[[Targets], np.ndarray]) -> np.ndarray:
    """Numbers of things, each of one thing of the batch; the last number of a row for -1."""
    return np.concatenate([MOST * i + np.where(of(one) < 0, MOST - 1, IN_CLIP * j + of(one).astype(np.int64))
                           for i, row in enumerate(rows) for j, one in enumerate(row.targets)])


def sought(row: Row, number: int) -> np.ndarray:
    """(s, MANY) Which of the numbers of `shown` each token should find; -1 after the last."""
    return np.where(row.sought < 0, -1, MOST * number + row.sought)


def _segments(grids: list[tuple[int, int, int]]) -> dict[str, np.ndarray]:
    """Windows and frames of all grids as gather tables, rows and columns of all patches."""
    windows, frames, rows, columns, offset = [], [], [], [], 0
    for t, gh, gw in grids:
        cells = np.arange(gh // 2 * (gw // 2)).reshape(gh // 2, gw // 2)
        blocks = [cells[i:i + CELLS, j:j + CELLS].reshape(-1)
                  for i in range(0, gh // 2, CELLS) for j in range(0, gw // 2, CELLS)]
        inside = [(block[:, None] * 4 + np.arange(4)).reshape(-1) for block in blocks]
        row, column = np.divmod(np.arange(gh * gw), gw)
        order = np.arange(gh * gw).reshape(gh // 2, 2, gw // 2, 2).transpose(0, 2, 1, 3).reshape(-1)
        for _ in range(t):
            windows += [offset + one for one in inside]
            frames.append(offset + np.arange(gh * gw))
            rows.append(row[order])
            columns.append(column[order])
            offset += gh * gw
    return {**_named("window", _grouped(windows, offset)[1]), **_named("frame", _grouped(frames, offset)[1]),
            "rows": np.concatenate(rows), "columns": np.concatenate(columns)}


def _sequences(rows: list[Row]) -> dict[str, np.ndarray]:
    """All tokens, row after row. The first group of the table holds the prompts, one a row; the others hold branches,
    and `owner` says whose: a branch sees the prompt of its row, and itself."""
    out = {name: np.concatenate([getattr(row, name) for row in rows])
           for name in ("ids", "target", "weight", "digit", "spot")}
    out["positions"] = np.concatenate([row.positions for row in rows], axis=1)
    out["sought"] = np.concatenate([sought(row, i) for i, row in enumerate(rows)])
    prompts, branches, owner, visual, answer = [], [], [], [], []
    offset = answers = 0
    for i, row in enumerate(rows):
        prompts.append(offset + np.flatnonzero(row.branch == 0))
        for number in range(1, int(row.branch.max()) + 1):
            branches.append(offset + np.flatnonzero(row.branch == number))
            owner.append(i)
        visual.append(offset + row.visual)
        answer.append(np.where(row.answer >= 0, row.answer + answers, -1))
        offset, answers = offset + len(row.ids), answers + len(row.tasks)
    order, tables = _grouped(branches, offset)
    return out | {"visual": np.concatenate(visual), "answer": np.concatenate(answer), "owner": np.array(owner)[order],
                  **_named("text", [_padded(prompts, offset), *tables])}


def _grouped(segments: list[np.ndarray], fill: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Segments sorted by length and cut into `GROUPS` padded tables: their order, and the tables."""
    order = np.argsort([len(segment) for segment in segments], kind="stable")
    return order, [_padded([segments[i] for i in part], fill) for part in np.array_split(order, GROUPS) if len(part)]


def _padded(segments: list[np.ndarray], fill: int) -> np.ndarray:
    """Segments as one (g, n) table; `fill`, the index of a zero row, makes up the length."""
    table = np.full((len(segments), max(map(len, segments))), fill, np.int64)
    for line, segment in zip(table, segments, strict=True):
        line[:len(segment)] = segment
    return table


def _named(name: str, tables: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Tables as one flat array, and their shapes."""
    return {f"{name}_table": np.concatenate([table.reshape(-1) for table in tables]),
            f"{name}_shapes": np.array([table.shape for table in tables])}

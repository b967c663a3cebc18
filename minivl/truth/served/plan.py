"""The questions that are asked: few, and each for a reason. Sizes of pictures are taken from the model's
window and limits, so that windows are whole, ragged, one and several; a picture is resized and is not;
it stands before its question, after it, beside another; there is none, or a video; the prompt is long.

Some are asked again, and some together with others: an answer must not depend on that. How a server
cuts a prompt into pieces, and what it keeps of one, cannot be asked for from outside. What can be had are
prompts with one beginning whose lengths lie around a piece.

Read next: `ask.py`, `invariance.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...api import VLM

MOST_QUESTIONS, TOKENS = 60, 4
ALONE, AGAIN, TOGETHER, LONG = "alone", "again", "together", "long"
PIECE = 512                              # tokens that servers usually read at a time, or a part of that
AROUND = (1, -1, 0)                      # tokens more than a piece
MOST_LONG = 1 / 4                        # of the questions are prompts around a piece
REPEATED = 1 / 8                         # of the questions are asked again, and as many together
Item = dict[str, Any]
WORDS = ("What is it?", "Name its colours.", "How many?", "Left or right?", "Read it.")


@dataclass(frozen=True)
class Question:
    """A conversation in the official form, pictures as arrays (y, b, 3) uint8. asked: alone, again (the
    same question a second time), together (at one time with all others of that kind), or long (a prompt
    around a piece)."""
    name: str
    messages: list[dict[str, Any]]
    asked: str = ALONE
    same_as: str = ""

    @property
    def has_video(self) -> bool:
        return any("video" in item for item in self.messages[0]["content"])


def plan(vlm: VLM, most: int = MOST_QUESTIONS, seed: int = 0, pieces: Sequence[int] = ()
         ) -> list[Question]:
    """At most so many questions, the same for a seed. pieces: lengths in tokens, around which prompts
    lie."""
    repeated = int(most * REPEATED)
    rng = np.random.default_rng(seed)
    long = [one for piece in dict.fromkeys(pieces) for one in around(vlm, piece, rng)][: int(most * MOST_LONG)]
    first = most - 2 * repeated - len(long)
    scenes = list(all_scenes(vlm))
    found = []
    for number in range(first):
        name, build = scenes[number % len(scenes)]
        content = build(rng, WORDS[int(rng.integers(len(WORDS)))])
        found.append(Question(f"{number:02} {name}", [{"role": "user", "content": content}]))
    still = [one for one in found if not one.has_video]
    chosen = still[::max(1, len(still) // max(repeated, 1))][:repeated]
    if long:                                     # in a batch with others it has the longest padding
        chosen[-1:] = long[:1]
    return [*found, *long, *(asked_otherwise(one, how) for how in (AGAIN, TOGETHER) for one in chosen)]


def asked_otherwise(one: Question, how: str) -> Question:
    return Question(f"{one.name}, {how}", one.messages, how, one.name)


def around(vlm: VLM, piece: int, rng: np.random.Generator) -> Iterator[Question]:
    """Prompts with one beginning: of a token more than a piece, a token less, and just one; and that
    beginning with another question."""
    words, (first, other) = sentence(rng, 4 * piece), rng.choice(WORDS, 2, replace=False)

    for length, ends in (*((piece + more, first) for more in AROUND), (piece + 1, other)):
        said = cut_to(vlm, words, f" {ends}", length)
        yield Question(f"{length} tokens, {ends}", [{"role": "user", "content": [text(said)]}], LONG)


def cut_to(vlm: VLM, words: str, ends: str, length: int) -> str:
    """As much of the words as makes a prompt of so many tokens together with its end, or as near to that
    as can be."""
    def size(characters: int) -> int:
        return len(vlm.tokenizer.encode(words[:characters] + ends))
    frame = len(vlm.prepare([{"role": "user", "content": [text(ends)]}]).input_ids) - size(0)
    low, high = 0, len(words)
    while low < high:                                      # the least that is long enough
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) + frame >= length else (middle + 1, high)
    return words[:low] + ends


def all_scenes(vlm: VLM) -> Iterator[tuple[str, Any]]:
    """(name, what makes its content of a generator and a question): the telling first."""
    cell = vlm.config.vision.patch_size * vlm.config.vision.spatial_merge_size
    side = vlm.config.vision.window_cells
    limits = vlm.processor.preprocessor
    fewest = max(1, int(np.ceil(np.sqrt(limits.min_pixels) / cell)))

    def shown(rows: int, columns: int, off: int = 0) -> Any:
        """A picture of so many cells, each side `off` pixels more."""
        return lambda rng, said: [picture(rng, cell * max(rows, fewest) + off,
                                          cell * max(columns, fewest) + off), text(said)]
    yield "ragged windows", shown(side + 1, 2 * side + 1)
    yield "two windows", shown(side, 2 * side)
    yield "one window", shown(side, side)
    yield "small", shown(1, 2)
    yield "text", lambda rng, said: [text(f"{said} {sentence(rng, 6)}")]
    yield "resized", shown(side + 1, side + 1, 9)
    yield "two pictures", lambda rng, said: [*shown(2, 3)(rng, "First this, then")[:1], text("and"),
                                             *shown(3, 2)(rng, said)]
    yield "picture last", lambda rng, said: shown(side, side + 1)(rng, said)[::-1]
    yield "video", lambda rng, said: [video(rng, 4, cell * max(2, fewest), 2.0), text(said)]
    yield "resized and wide", shown(side + 1, 3 * side, 13)
    yield "long text", lambda rng, said: [text(sentence(rng, 260) + " " + said)]
    yield "picture in a long text", lambda rng, said: [text(sentence(rng, 40)), *shown(2, 3)(rng, said)]
    yield "many cells", shown(4 * side, 4 * side - 1)
    yield "slow video", lambda rng, said: [video(rng, 4, cell * max(2, fewest), 1.0), text(said)]
    yield "fast video", lambda rng, said: [video(rng, 6, cell * max(2, fewest), 4.0), text(said)]
    yield "video before picture", lambda rng, said: [video(rng, 2, cell * max(2, fewest), 2.0),
                                                     *shown(2, 3)(rng, said)]
    if limits.max_pixels <= 1 << 20:             # a larger one would take minutes on both sides
        over = int(np.sqrt(limits.max_pixels) * 1.3)
        yield "beyond the limit", lambda rng, said: [picture(rng, over, over + 20), text(said)]


def picture(rng: np.random.Generator, rows: int, columns: int) -> Item:
    """Noise on patches of colour: nothing that a model is sure of, so that small errors show."""
    blocks = rng.integers(0, 256, (-(-rows // 14), -(-columns // 14), 3))
    coloured = np.repeat(np.repeat(blocks, 14, axis=0), 14, axis=1)[:rows, :columns]
    grain = rng.integers(-60, 61, coloured.shape)
    return {"type": "image", "image": np.clip(coloured + grain, 0, 255).astype(np.uint8)}


def video(rng: np.random.Generator, frames: int, side: int, fps: float) -> Item:
    return {"type": "video", "video": [picture(rng, side, side)["image"] for _ in range(frames)],
            "fps": fps}


def text(said: str) -> Item:
    return {"type": "text", "text": said}


def sentence(rng: np.random.Generator, words: int) -> str:
    """Some words that mean nothing."""
    known = ("one", "two", "red", "blue", "left", "right", "box", "line", "and", "of", "small", "large")
    return " ".join(known[int(n)] for n in rng.integers(0, len(known), words))

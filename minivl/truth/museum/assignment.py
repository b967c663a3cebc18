"""A bug hunt for each student: a fault and a picture that belong to a name, and an answer that can be
marked.

    mine = assignment("Ada Lovelace")
    wrong = mine.record()                     # key -> what each pass gave, with the fault in the model
    mine.judge("order-not-inverted")          # "" when that is it, else what is wrong with the answer

The fault is one that shows on a picture and a question: nothing that takes a video, two pictures, or a
long answer. Read next: `hunt.py`, for a fault that is hidden without a picture; `cases.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from zlib import crc32

import numpy as np

from ...api import VLM
from ...door.stage import session
from . import cases
from .cases import CELL, unlimited, user
from .fault import FAULTS, Fault, plain
from .hunt import embedded, get

ON_ONE_PICTURE = (cases.text, cases.cell, cases.wide, cases.two_windows, cases.ragged, cases.enlarged)
SIDES = ((3, 5), (5, 3), (5, 7), (7, 5), (3, 7), (7, 3))     # cells; odd and unequal: ragged, not square


def huntable() -> list[str]:
    """Names of the faults that show on any one picture that is ragged, not square and not of whole
    cells."""
    return sorted(name for name, fault in FAULTS.items()
                  if any(fault.shows is case for case in ON_ONE_PICTURE))


@dataclass(frozen=True)
class Assignment:
    """What belongs to a name. `messages` is the conversation; the fault is not shown."""
    name: str
    messages: list[dict[str, Any]]
    _fault: Fault = field(repr=False)

    def record(self, vlm: VLM | None = None) -> dict[str, Any]:
        """What every pass of a run gave with the fault in the model, key -> array or tuple of arrays."""
        return recorded(self.messages, vlm, self._fault.name)

    def judge(self, answer: str) -> str:
        """What is wrong with an answer, "" when nothing is. Raises ValueError when no fault is called
        so."""
        guess = get(answer)
        if guess is self._fault:
            return ""
        if any(self._fault.is_named_by([leaf.replace("*", "0")]) for leaf in guess.leaves):
            return (f"the pass is the right one, but {answer} is another fault in it: plant it, run "
                    "it on your picture and compare its numbers with yours")
        return f"{answer} lies in {guess.label}, and the first wrong pass of your run is another"

    def is_in(self, key: str) -> bool:
        """Whether the fault lies in the pass that has this key or label."""
        return any(fnmatchcase(plain(key), leaf) for leaf in self._fault.leaves)


def assignment(name: str) -> Assignment:
    """The fault and the picture of a name, the same on every machine; capitals and further blanks do
    not count."""
    draw = np.random.default_rng(crc32(" ".join(name.lower().split()).encode()))
    names = huntable()
    fault = FAULTS[names[int(draw.integers(len(names)))]]
    rows, columns = SIDES[int(draw.integers(len(SIDES)))]
    off = draw.integers(3, 12, 2)                                  # pixels: so that it has to be resized
    colours = draw.integers(0, 256, (rows, columns, 3))
    grain = draw.integers(-40, 41, (rows * CELL - off[0], columns * CELL - off[1], 3))
    blocks = np.repeat(np.repeat(colours, CELL, axis=0), CELL, axis=1)[: len(grain), : grain.shape[1]]
    picture = np.clip(blocks + grain, 0, 255).astype(np.uint8)
    return Assignment(name, user(unlimited("image", picture)), fault)


def recorded(messages: list[dict[str, Any]], vlm: VLM | None = None,
             fault: str | None = None) -> dict[str, Any]:
    """The same of a right run, or of one with a fault whose name is known: what an assignment is
    compared with."""
    model, planted = vlm or embedded(), get(fault).table() if fault else {}
    with np.errstate(all="ignore"), session(replace=planted, record="*", quiet=True) as s:
        model.logits(model.prepare(messages))
    return s.trace

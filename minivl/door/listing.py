"""A run as a list: for every leaf a row that says what came out of it and what it cost, and rows of a
kind folded.

    rows: list[Row] = []
    with minivl.session() as s:
        s.watchers.append(lister(rows))
        vlm.ask(image, "What is this?")
    fold(rows)                                 # the blocks of a tower are one row, and so are all further tokens

Not here: tables; `minivl passes` and the demonstration choose their own columns. Read next: `watch.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .contract import outputs
from .visit import Visit, Watcher

FURTHER = "all further tokens"
BLOCK = re.compile(r"\.(blocks|layers)\.\d+\.")
NEXT_TOKEN = re.compile(r"positions\.advance\b|decoder@")  # with either of these the second token begins


@dataclass(frozen=True)
class Row:
    """One run of a leaf, or `runs` of them; then key and label are a pattern that matches them all, or
    FURTHER."""
    key: str
    label: str
    contract: str
    outputs: tuple[tuple[str, tuple[int, ...]], ...]      # dtype and shape of each array that came out
    seconds: float
    flops: int
    runs: int = 1


def row_of(visit: Visit) -> Row:
    """What is listed of one visit: no array is kept."""
    arrays = tuple((str(a.dtype), tuple(a.shape)) for a in outputs(visit.output))
    return Row(visit.key, visit.label, visit.door.contract, arrays, visit.seconds, visit.flops)


def lister(rows: list[Row]) -> Watcher:
    """Append a row for every leaf, in order of execution."""
    def look(visit: Visit) -> None:
        rows.append(row_of(visit))
    return look


def fold(rows: Iterable[Row]) -> list[Row]:
    """One row for a pass in all blocks, and one for everything after the first token of one
    conversation.

    Runs, seconds and operations add up; contract and shapes are those of the first run.
    """
    folded: dict[str, Row] = {}
    further = False
    for row in rows:
        # Once the first answer token is out, every further pass goes into one row.
        further = further or bool(NEXT_TOKEN.match(row.key))
        # `vision.blocks.7.attend` and its brothers are one row: `vision.blocks.*.attend`
        label = FURTHER if further else BLOCK.sub(r".\1.*.", row.label)
        new = replace(row, key=label, label=label)
        if further:
            new = replace(new, contract="", outputs=())           # of many passes
        folded[label] = joined(folded[label], new) if label in folded else new
    return list(folded.values())


def joined(first: Row, second: Row) -> Row:
    """Two rows as one that has the name of the first."""
    return replace(first, seconds=first.seconds + second.seconds, flops=first.flops + second.flops,
                   runs=first.runs + second.runs)


def total(rows: Iterable[Row], name: str) -> Row:
    """The sum of all rows, under a name."""
    found = Row(name, name, "", (), 0.0, 0, 0)
    for row in rows:
        found = joined(found, row)
    return found

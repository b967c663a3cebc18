"""`minivl passes` and `minivl run`: one question with the door open. What is seen there is the package's session; this
file chooses, folds and prints.

Read next: `labels.py` (labels known beforehand), `stage.py` and `watch.py` of the package.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import watch
from ..api import VLM
from ..contract import outputs
from ..stage import Session, Stopped, Visit
from .ask import write
from .console import count, heading, line, milliseconds, note, print_json, table, working
from .given import check_words, conversation, named, open_model, sample, say_which
from .labels import check_label, check_leaves, labels

STEP = re.compile(r"^decoder@(\d+)\.")
BLOCK = re.compile(r"^(.*?\b(?:blocks|layers))\.(\d+)\.")


@dataclass(frozen=True)
class Row:
    """One leaf, or several folded into one: then `contract` says what they are."""
    key: str
    contract: str
    outputs: tuple[tuple[str, tuple[int, ...]], ...]      # dtype and shape of each array that came out
    seconds: float
    flops: int


# ---- passes ------------------------------------------------------------------------------------------------

def passes(image: str | None, question: str | None, model: str | None, precision: str, max_new_tokens: int,
           everything: bool, as_json: bool) -> None:
    """Print every leaf in order of execution. Raises ValueError or OSError for whatever is wrong with the input."""
    if image is None:
        image, question = sample()
    question = question or "Describe the image."
    check_words([image], question)
    with open_model(model, precision) as vlm, working("looking at the picture") as say:
        rows, answer = follow(vlm, image, question, max_new_tokens, say)
    say_which(model)
    if as_json:
        return print_json(document(image, question, answer, rows))
    heading(f"{question}  {answer}")
    show(rows if everything else fold(rows))


def follow(vlm: VLM, image: str, question: str, max_new_tokens: int, say: Callable[[str], None]
           ) -> tuple[list[Row], str]:
    """Every leaf of one question, greedily answered, and the answer."""
    rows: list[Row] = []
    with Session() as s:
        s.watchers.append(lambda session, visit: rows.append(row_of(visit)))
        s.watchers.append(lambda session, visit: say(visit.key))
        answer = vlm.chat(conversation([image], question), max_new_tokens, temperature=0)
    return rows, answer


def row_of(visit: Visit) -> Row:
    arrays = tuple((str(a.dtype), tuple(a.shape)) for a in outputs(visit.output))
    return Row(visit.key, visit.door.contract, arrays, visit.seconds, visit.flops)


def plain(key: str) -> str:
    """The label of a key: the same without the number of the run."""
    return re.sub(r"@\d+", "", key)


def document(image: str, question: str, answer: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What `--json` prints: never folded."""
    return {"image": named(image), "question": question, "answer": answer,
            "seconds": sum(row.seconds for row in rows), "flops": sum(row.flops for row in rows),
            "passes": [{"key": row.key, "label": plain(row.key), "contract": row.contract,
                        "outputs": [{"dtype": dtype, "shape": shape} for dtype, shape in row.outputs],
                        "seconds": row.seconds, "flops": row.flops} for row in rows]}


def show(rows: Sequence[Row]) -> None:
    """Rows as a table, with their sum."""
    cells = [(row.key, row.contract, "  ".join(f"{dtype} {list(shape)}" for dtype, shape in row.outputs),
              milliseconds(row.seconds), count(row.flops)) for row in rows]
    total = ("together", "", "", milliseconds(sum(row.seconds for row in rows)), count(sum(r.flops for r in rows)))
    table(("pass", "contract", "comes out", "ms", "FLOPs"), [*cells, total], right=("ms", "FLOPs"),
          droppable=("ms", "FLOPs", "contract"))


def fold(rows: Sequence[Row]) -> list[Row]:
    """All decoding steps after the first run of the decoder in one row, all blocks after block 0 in one row each."""
    steps = list(steps_of(rows))
    first = [row for row, step in zip(rows, steps, strict=True) if step == 0]
    later = [row for row, step in zip(rows, steps, strict=True) if step]
    folded = [one for part, group in groupby(first, later_block) for one in (join_blocks(part, list(group)))]
    if later:
        n = steps[-1]
        name = "decoder@1" if n == 1 else f"decoder@1 .. decoder@{n}"
        folded.append(joined(name, f"{n} decoding step{'s' * (n > 1)}, {len(later)} passes; --all shows them", later))
    return folded


def steps_of(rows: Iterable[Row]) -> Iterator[int]:
    """The decoding step of each row: 0 is the run over the prompt; the choice of a token belongs to its step."""
    step = 0
    for row in rows:
        if found := STEP.match(row.key):
            step = int(found[1])
        yield step


def later_block(row: Row) -> str | None:
    """`vision.blocks` for a pass inside any block of the tower but the first, else None."""
    found = BLOCK.match(row.key)
    return found[1] if found and int(found[2]) else None


def join_blocks(part: str | None, rows: list[Row]) -> list[Row]:
    if part is None:
        return rows
    numbers = sorted({int(BLOCK.match(row.key)[2]) for row in rows})                        # type: ignore[index]
    name = f"{part}.{numbers[0]}" + (f" .. {numbers[-1]}" if len(numbers) > 1 else "")
    each = len(rows) // len(numbers)
    return [joined(name, f"{len(numbers)} more of these, {each} passes each; --all shows them", rows)]


def joined(name: str, words: str, rows: Sequence[Row]) -> Row:
    """Several rows as one: the output is that of the last."""
    return Row(name, words, rows[-1].outputs, sum(row.seconds for row in rows), sum(row.flops for row in rows))


# ---- run ---------------------------------------------------------------------------------------------------

def run(image: str, question: str, model: str | None, precision: str, max_new_tokens: int, print_after: list[str],
        record: list[str], dump: Path | None, stop_after: str | None, verify: bool, profile: bool) -> None:
    """One question with a session open; the session's lines, then the answer or what came out at the stop.

    Raises ValueError for a pattern that no stage matches, and for whatever else is wrong with the input.
    """
    printed, kept = (list(watch.patterns(",".join(words))) for words in (print_after, record))
    if kept and dump is None:
        raise ValueError("--record chooses what --dump writes; say where to with --dump FOLDER")
    check_words([image], question)
    with open_model(model, precision) as vlm:
        known = labels(vlm.processor) if printed or kept or stop_after else {}
        check_leaves([*printed, *kept], known)
        if stop_after:
            check_label(stop_after, known)
        s = Session(print_after=printed, stop_after=stop_after, verify=verify)
        rows: list[Row] = []
        s.watchers.append(lambda session, visit: rows.append(row_of(visit)))
        if dump is not None:
            s.watchers.append(only(kept or ["*"], watch.dumper(dump)))
        answer = watched(vlm, conversation([image], question), max_new_tokens, s, bool(printed))
    if answer is not None:
        say_which(model)
        write([answer])
    report(rows, dump, verify, profile)
    if answer is not None:
        check_met([*printed, *kept, *([stop_after] if stop_after else [])], rows)


def only(patterns: Sequence[str], look: watch.Watcher) -> watch.Watcher:
    """A watcher that looks at matching leaves only."""
    def chosen(session: Session, visit: Visit) -> None:
        if any(fnmatchcase(visit.label, p) or fnmatchcase(visit.key, p) for p in patterns):
            look(session, visit)
    return chosen


def check_met(patterns: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise ValueError for a pattern that could have matched but did not: a step after the end of the answer, say."""
    steps = max(steps_of(rows), default=0)
    for pattern in patterns:
        if not any(fnmatchcase(row.key, pattern) or fnmatchcase(plain(row.key), pattern) for row in rows):
            raise ValueError(f"nothing came by under {pattern}: the answer ended after {steps + 1} runs of the decoder")


def watched(vlm: VLM, messages: list[dict[str, Any]], max_new_tokens: int, s: Session, prints: bool) -> str | None:
    """The answer, or None after a stop, which prints what came out there. Printed lines are progress enough."""
    try:
        if prints:
            return quietly(vlm, messages, max_new_tokens, s)
        with working("looking at the picture") as say:
            s.watchers.append(lambda session, visit: say(visit.key))
            return quietly(vlm, messages, max_new_tokens, s)
    except Stopped as stop:
        line(f"stopped after {stop.key}")
        for array in outputs(stop.output):
            line(f"  {watch.summary(array)}")
        return None


def quietly(vlm: VLM, messages: list[dict[str, Any]], max_new_tokens: int, s: Session) -> str:
    """The answer; what the session would warn about is an error here (`check_met`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no stage was called")
        with s:
            return vlm.chat(messages, max_new_tokens, temperature=0)


def report(rows: Sequence[Row], dump: Path | None, verify: bool, profile: bool) -> None:
    """What was done besides."""
    if profile:
        show(fold(rows))
    if verify:
        note(f"verified {len(rows)} passes: contracts, finite numbers, labels")
    if dump is not None:
        note(f"written to {dump}; minivl.read_dump({str(dump)!r}) reads it")

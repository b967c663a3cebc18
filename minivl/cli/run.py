"""`minivl passes` and `minivl run`: one question with the door open. What is seen there is the
package's session; this file chooses and prints.

Read next: `labels.py` (labels known beforehand), `door/stage.py`, `door/watch.py` and
`door/listing.py` of the package.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..api import VLM
from ..door import watch
from ..door.contract import outputs
from ..door.errors import ArgumentError
from ..door.listing import Row, fold, lister, total
from ..door.stage import Session, Stopped
from ..door.visit import Visit, Watcher
from .ask import write
from .console import count, heading, line, milliseconds, note, print_json, table, working
from .given import Chosen, check_words, conversation, named, open_model, sample, say_which
from .labels import check_label, check_leaves, labels

# ---- passes --------------------------------------------------------------------------------------

def passes(image: str | None, question: str | None, chosen: Chosen, max_new_tokens: int,
           everything: bool, as_json: bool, keeping: Mapping[str, Any]) -> None:
    """Print every leaf in order of execution. Raises ArgumentError or OSError for whatever is wrong with
    the input."""
    if image is None:
        image, question = sample()
    question = question or "Describe the image."
    check_words([image], question)
    with open_model(chosen, answers=False) as vlm, working("looking at the picture") as say:
        rows, answer = follow(vlm, image, question, max_new_tokens, say, keeping)
    say_which(chosen.model)
    if as_json:
        return print_json(document(image, question, answer, rows))
    heading(question if chosen.kernels == "shapes" else f"{question}  {answer}")
    show(rows if everything else fold(rows))
    if not everything:
        note("blocks are folded, and so are further tokens; --all shows every run")


def follow(vlm: VLM, image: str, question: str, max_new_tokens: int, say: Callable[[str], None],
           keeping: Mapping[str, Any]) -> tuple[list[Row], str]:
    """Every leaf of one question, greedily answered, and the answer."""
    rows: list[Row] = []
    with Session() as s:
        s.watchers += [lister(rows), lambda visit: say(visit.key)]
        answer = vlm.chat(conversation([image], question), max_new_tokens, temperature=0, **keeping)
    return rows, answer


def document(image: str, question: str, answer: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What `--json` prints: never folded."""
    return {"image": named(image), "question": question, "answer": answer,
            "seconds": sum(row.seconds for row in rows), "flops": sum(row.flops for row in rows),
            "passes": [{"key": row.key, "label": row.label, "contract": row.contract,
                        "outputs": [{"dtype": dtype, "shape": shape} for dtype, shape in row.outputs],
                        "seconds": row.seconds, "flops": row.flops} for row in rows]}


def show(rows: Sequence[Row]) -> None:
    """Rows as a table, with their sum."""
    cells = [(row.key, row.contract, "  ".join(f"{dtype} {list(shape)}"
                                               for dtype, shape in row.outputs), row.runs,
              milliseconds(row.seconds), count(row.flops)) for row in [*rows, total(rows, "together")]]
    table(("pass", "contract", "comes out", "runs", "ms", "FLOPs"), cells, right=("runs", "ms", "FLOPs"),
          droppable=("runs", "ms", "FLOPs", "contract"))


# ---- run ---------------------------------------------------------------------------------------------------

def run(image: str, question: str, chosen: Chosen, max_new_tokens: int, print_after: list[str],
        record: list[str], dump: Path | None, stop_after: str | None, verify: bool,
        profile: bool, keeping: Mapping[str, Any]) -> None:
    """One question with a session open; the session's lines, then the answer or what came out at the
    stop.

    Raises ArgumentError for a pattern that no stage matches, and for whatever else is wrong with the
    input.
    """
    printed, kept = (list(watch.patterns(",".join(words))) for words in (print_after, record))
    if kept and dump is None:
        raise ArgumentError("--record chooses what --dump writes; say where to with --dump FOLDER")
    check_words([image], question)
    with open_model(chosen) as vlm:
        known = labels(vlm.processor) if printed or kept or stop_after else {}
        check_leaves([*printed, *kept], known)
        if stop_after:
            check_label(stop_after, known)
        s = Session(print_after=printed, stop_after=stop_after, verify=verify)
        rows: list[Row] = []
        unmet = [*printed, *kept, *([stop_after] if stop_after else [])]
        s.watchers += [lister(rows), crosser(unmet)]
        if dump is not None:
            s.watchers.append(only(kept or ["*"], watch.dumper(dump)))
        ask = partial(vlm.chat, conversation([image], question), max_new_tokens, temperature=0, **keeping)
        answer = watched(ask, s, bool(printed))
    if answer is not None:
        say_which(chosen.model)
        write([answer])
    report(rows, dump, verify, profile)
    if answer is not None:
        check_met(unmet, rows)


def only(patterns: Sequence[str], look: Watcher) -> Watcher:
    """A watcher that looks at matching leaves only."""
    def chosen(visit: Visit) -> None:
        if watch.wanted(visit, tuple(patterns)):
            look(visit)
    return chosen


def crosser(unmet: list[str]) -> Watcher:
    """A watcher that takes the patterns off the list which a leaf matches."""
    def look(visit: Visit) -> None:
        unmet[:] = [pattern for pattern in unmet if not watch.wanted(visit, (pattern,))]
    return look


def check_met(unmet: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise ArgumentError for a pattern that could have matched but did not: a step after the end of the
    answer, say."""
    runs = {row.key.partition(".")[0] for row in rows if row.label.startswith("decoder.")}
    if unmet:
        raise ArgumentError(f"nothing came by under {unmet[0]}: the answer ended after {len(runs)} runs "
                            "of the decoder")


def watched(ask: Callable[[], str], s: Session, prints: bool) -> str | None:
    """The answer, or None after a stop, which prints what came out there. Printed lines are progress
    enough."""
    try:
        if prints:
            return quietly(ask, s)
        with working("looking at the picture") as say:
            s.watchers.append(lambda visit: say(visit.key))
            return quietly(ask, s)
    except Stopped as stop:
        line(f"stopped after {stop.key}")
        for array in outputs(stop.output):
            line(f"  {watch.summary(array)}")
        return None


def quietly(ask: Callable[[], str], s: Session) -> str:
    """The answer; what the session would warn about is an error here (`check_met`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nothing was met by")
        with s:
            return ask()


def report(rows: Sequence[Row], dump: Path | None, verify: bool, profile: bool) -> None:
    """What was done besides."""
    if profile:
        show(fold(rows))
    if verify:
        note(f"verified {len(rows)} passes: contracts, finite numbers, labels")
    if dump is not None:
        note(f"written to {dump}; minivl.read_dump({str(dump)!r}) reads it")

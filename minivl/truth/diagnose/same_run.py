"""Whether a candidate ran what the golden trace ran, before anything is tried: the same checkpoint, the
same prompt, the same picture. Else every mechanism would be tried in vain, and one might fit.

A trace says what was asked. Arrays of others say it too where the rows of the embedding are tapped:
each is a row of the checkpoint's table.

Read next: `rank.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...api import VLM
from ..compare import align
from ..compare.importers import is_trace
from ..compare.local import check_checkpoint
from ..compare.taps import Candidate
from ..trace.conversation import conversation
from ..trace.format import INPUT, Trace, TraceError

EMBEDDED = "decoder.embed_tokens"
OTHER, NEAR = 0.5, 0.05                  # of a row's length: another row altogether; one of the table
REMEDY = "record the golden trace of what the candidate ran, or the candidate on what the trace ran"
# inputs that the candidate was given where no conversation was recorded
GIVEN = {"input_ids": "prompt", "image_grid_thw": "picture", "video_grid_thw": "video",
         "pixel_values": "picture", "pixel_values_videos": "video"}


def check_same_run(vlm: VLM, golden: Trace, candidate: Candidate) -> None:
    """Raise TraceError that says which is another: checkpoint, prompt or picture."""
    check_checkpoint(vlm, golden)
    theirs = candidate.facts.get("checkpoint", {})
    other = [name for name, was in golden.facts.get("checkpoint", {}).items()
             if theirs.get(name, was) != was]
    if other:
        raise TraceError(differs(golden, candidate, "checkpoint", f"{', '.join(other)} is another file"))
    if is_trace(Path(candidate.source)):
        with Trace(candidate.source) as trace:
            check_asked(golden, candidate, trace)
    if not candidate.native:
        check_words(vlm, golden, candidate)


def differs(golden: Trace, candidate: Candidate, what: str, why: str) -> str:
    """That the candidate ran another thing, which, and what to do."""
    return f"{candidate.source} ran another {what} than {golden.path}: {why}; {REMEDY}"


def check_asked(golden: Trace, candidate: Candidate, trace: Trace) -> None:
    """Conversations side by side where both were recorded, else the inputs that the runs were given."""
    asked, said = conversation(golden), conversation(trace)
    if asked is not None and said is not None:
        found = first_difference(asked, said)
        if found:
            raise TraceError(differs(golden, candidate, *found))
        return
    ours, theirs = (one.facts.get("input_hashes", {}) for one in (golden, trace))
    for name, what in GIVEN.items():
        if name in ours and name in theirs and ours[name] != theirs[name]:
            shapes = [list(one.tables(INPUT)[name].shape) if name in one.tables(INPUT) else "unknown"
                      for one in (trace, golden)]
            why = f"{name} differs (shapes {shapes[0]} and {shapes[1]})"
            raise TraceError(differs(golden, candidate, what, why))


def first_difference(asked: list[dict[str, Any]], said: list[dict[str, Any]]) -> tuple[str, str] | None:
    """(what, in words) of the first item that is not the same in two conversations."""
    ours, theirs = list(items_of(asked)), list(items_of(said))
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        kind = next((name for name in ("image", "video") if name in a and name in b), None)
        if kind is None:
            if a != b:
                return "prompt", f"its item {number} is {shown(b)}, not {shown(a)}"
        elif not np.array_equal(a[kind], b[kind]):
            shapes = [list(np.shape(one[kind])) for one in (b, a)]
            return ("picture" if kind == "image" else "video",
                    f"item {number} of the prompt, of shapes {shapes[0]} and {shapes[1]}")
    if len(ours) != len(theirs):
        return "prompt", f"it has {len(theirs)} items, not {len(ours)}"
    return None


def items_of(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every text, picture and video of a conversation, with the role of its turn."""
    for message in messages:
        content = message["content"]
        for item in [{"text": content}] if isinstance(content, str) else content:
            kept = {name: value for name, value in item.items() if name in ("text", "image", "video")}
            yield {"role": message["role"], **kept}


def shown(item: Mapping[str, Any]) -> str:
    """An item in a few words."""
    said = f"{item['text']!r}" if "text" in item else "a picture or video"
    return f"{item['role']}: {said if len(said) < 60 else said[:57] + '...'}"


def check_words(vlm: VLM, golden: Trace, candidate: Candidate) -> None:
    """The tapped rows of the embedding, where there are: a row that is another row of the table is
    another word."""
    tapped = candidate.taps.get(EMBEDDED, {}).get(None, candidate.taps.get(EMBEDDED, {}).get(0))
    if tapped is None or EMBEDDED not in golden.recorded():
        return
    exact = golden.arrays(EMBEDDED)[0].astype(np.float64)                                       # s d
    found = align.fit(tapped, exact, 0)
    if found is None or found.array.shape != exact.shape:
        return
    rows = np.asarray(found.array, np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    far = np.flatnonzero(np.linalg.norm(rows - exact, axis=1) > OTHER * lengths)
    table = vlm.weights.decoder.embed.dense(np.float32).astype(np.float64) if len(far) else None
    for row in far[:8].tolist():
        assert table is not None
        away = np.linalg.norm(table - rows[row], axis=1)
        if away.min() < NEAR * np.linalg.norm(rows[row]):
            word = vlm.tokenizer.decode([int(away.argmin())], skip_special_tokens=False)
            why = f"row {row} of {EMBEDDED} is the word {word!r}"
            raise TraceError(differs(golden, candidate, "prompt", why))

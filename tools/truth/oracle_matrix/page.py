"""docs/made/oracle-drift.md from the matrix. Words and tables only. Read next: `drift.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill

from .drift import ABSENT, MOVED, ROUNDED, RULES, SAME, WAYS, Matrix, Version

HEAD = """# Where the reference itself moved

Written by `python -m tools.truth.oracle_matrix`; do not edit. Each version of transformers ran the embedded model on
the same prompts, with torch {torch}, in float32 and bfloat16, with sdpa and eager attention. What its stages gave is
compared with the pinned version, {pinned}, on which all golden values rest. So a difference between your port and
"transformers" can be looked up here first: which transformers?

*same bits*: every number is the same. *rounded otherwise*: numbers differ, by no more than rounding does (twice what
`minivl diff` allows one run). *moved*: by more, with the relative error.
"""


EXPLAINED = """The number of each pair of frames (of a picture: its one number), then that of the first text behind the
last picture or video, which starts at the number in brackets. The model was trained with *A*: {max_plus_one}. *B*:
{tf5}; text may then have a smaller number than the video before it. *AB*: both rules give these numbers. *neither*: the
pictures or videos themselves are numbered otherwise."""


def markdown(found: Matrix) -> str:
    """The page."""
    parts = [HEAD.format(torch=found.torch, pinned=found.pinned), *versions(found), *numbering(found), *stages(found),
             *against(found)]
    return "\n".join(parts).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def versions(found: Matrix) -> Iterator[str]:
    """What was tried, and what did not work."""
    yield "## Versions\n"
    yield table(("transformers", "loads", "runs"), [(named(v, found), loads(v), runs(v)) for v in found.versions])


def named(v: Version, found: Matrix) -> str:
    return f"**{v.version}**, pinned" if v.version == found.pinned else v.version


def loads(v: Version) -> str:
    """Whether every key of the checkpoint was used and none was missed."""
    if v.error:
        return v.error
    keys = [f"{word.replace('_', ' ')}: {', '.join(names[:3])} ({len(names)})"
            for way in v.loading.values() for word, names in way.items() if names]
    return keys[0] if keys else "every key used, none missing" if v.loading else "no"


def runs(v: Version) -> str:
    if v.error:
        return "no"
    told = [f"{where}: {text}" for where, text in v.errors.items()]
    return "; ".join(told[:3]) or "all prompts"


def numbering(found: Matrix) -> Iterator[str]:
    """The positions that each version gives by itself."""
    yield "## How a prompt is numbered\n"
    yield fill(EXPLAINED.format(**RULES), 118) + "\n"
    yield table(("transformers", *found.prompts), [
        (named(v, found), *(cell(v, prompt) for prompt in found.prompts)) for v in found.versions if not v.error])


def cell(v: Version, prompt: str) -> str:
    at = v.positions.get(prompt)
    if at is None:
        return "-"
    letters = "".join("AB"[list(RULES).index(rule)] for rule in at.rules)
    return f"{', '.join(map(str, at.time))}; text {at.after} ({at.start}): {letters or '*neither*'}"


def stages(found: Matrix) -> Iterator[str]:
    """Which stages are others than the pinned version's."""
    others = [v for v in found.versions if v.version != found.pinned and not v.error]
    kinds = list(dict.fromkeys(kind for v in found.versions for kind, _, _ in v.drift))
    for precision, attention in WAYS:
        yield f"## Stages, {precision}, {attention}\n"
        rows = [(kind, *(drift(v, kind, precision, attention) for v in others)) for kind in kinds]
        told = [row for row in rows if any(word != SAME for word in row[1:])]
        if told:
            yield table(("stage", *(v.version for v in others)), told)
        same = len(rows) - len(told)
        yield f"{same} of {len(rows)} kinds of stages have the same bits in every version.\n"


def drift(v: Version, kind: str, precision: str, attention: str) -> str:
    word, error = v.drift.get((kind, precision, attention), (ABSENT, 0.0))
    return f"{word}, {error:.1e}" if word in (MOVED, ROUNDED) else word


def against(found: Matrix) -> Iterator[str]:
    """The verdicts of minivl."""
    yield "## Against minivl\n"
    yield fill("What `minivl diff` says of the array that is furthest from minivl, in times the limit of *rounding*, "
               "over all stages and prompts, on the positions that the model was trained with.", 118) + "\n"
    yield table(("transformers", *(" ".join(way) for way in WAYS)), [
        (named(v, found), *(nearness(v, way) for way in WAYS)) for v in found.versions if not v.error])


def nearness(v: Version, way: tuple[str, str]) -> str:
    at = v.against.get(way)
    return "-" if at is None else f"{at.word}, {at.ratio:.2f} x: {at.name}, {at.prompt}"

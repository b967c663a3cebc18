"""What the files of all sides say about each other: errors of scores, tokens that are the same, and
whether that is as good as the reference itself.

Nobody is asked to equal anybody: minivl may be no further from float32 in transformers than 1.5 times
what transformers itself is in bf16, and where two answers part, the two tokens must be too close to
call. In float32 the yardstick is the definitions' float64, on the prompts that were run in it, and an
error is held against nobody that rounding makes however sums are formed.
Read next: `sides.py`, which makes the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivl.config import ModelConfig, read_config

from .sides import FIRST, SIDES, SPREAD, WIDE, Side

SHARE = 1.5  # minivl's error over the reference's may be at most this
TIE = 4.0  # two scores nearer than so many times the reference's largest error are a tie
PASSES = 6  # of a block
CHANCE = 4 * 2.0**-23  # times the root of the passes: below it both round by chance in float32
EXACT = Side("minivl", "definition", "float64", few=True)
SHIPPED = Side("transformers", "sdpa", "bfloat16")


class Found(NamedTuple):
    """One side. scores and tokens: by prompt; peak: bytes that only its process had"""

    side: Side
    scores: dict[str, np.ndarray]
    tokens: dict[str, list[int]]
    peak: int


class Line(NamedTuple):
    """One side beside transformers in float32. errors: of each prompt's scores; same: places of the
    given answer where it would have written that token, of `places`; whole: own answers that are the
    given ones, of `answers`; apart: prompts whose answers part where it was not too close to call"""

    found: Found
    errors: dict[str, float]
    same: int
    places: int
    whole: int
    answers: int
    apart: list[str]


def read(out: Path, side: Side) -> Found | None:
    """A side's file; None when it is not there."""
    path = out / f"{side.name}.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        names = [name.removesuffix(".scores") for name in file.files if name.endswith(".scores")]
        return Found(
            side,
            {name: file[f"{name}.scores"] for name in names},
            {name: file[f"{name}.tokens"].tolist() for name in names},
            int(file["peak"]),
        )


def relative(scores: np.ndarray, exact: np.ndarray) -> float:
    """Length of the difference over the length."""
    difference = scores.astype(np.float64) - exact
    return float(np.linalg.norm(difference) / np.linalg.norm(exact.astype(np.float64)))


def line(found: Found, wide: Found, given: Found, shipped: Found) -> Line:
    """A side beside transformers in float32; `given` is the answer that all have scored."""
    same = places = whole = answers = 0
    errors, apart = {}, []
    for name, scores in found.scores.items():
        errors[name] = relative(scores, wide.scores[name])
        answer, own = given.tokens[name], found.tokens[name]
        chosen = scores[SPREAD:].argmax(-1).tolist()
        same += sum(a == b for a, b in zip(chosen, answer, strict=True))
        places += len(answer)
        whole, answers = whole + (own == answer), answers + bool(own)
        if any(
            not close(at, a, b, wide.scores[name], shipped.scores[name])
            for at, a, b in partings(answer, chosen, own)
        ):
            apart.append(name)
    return Line(found, errors, same, places, whole, answers, apart)


def partings(answer: list[int], chosen: list[int], own: list[int]) -> list[tuple[int, int, int]]:
    """Where a side would write another token than the answer has: (place, token of the answer, its own).
    Every place of the answer it was given; of its own answer the first alone, for the next places are of
    another text."""
    found = [(at, a, b) for at, (a, b) in enumerate(zip(answer, chosen, strict=True)) if a != b]
    first = next(
        ((at, a, b) for at, (a, b) in enumerate(zip(answer, own, strict=False)) if a != b), None
    )
    return found + ([first] if first else [])


def close(at: int, a: int, b: int, wide: np.ndarray, shipped: np.ndarray) -> bool:
    """Whether two tokens' scores are nearer than the reference's own error in bf16 lets anyone tell."""
    exact, error = wide[SPREAD + at], np.abs(shipped[SPREAD + at] - wide[SPREAD + at]).max()
    return bool(abs(float(exact[a]) - float(exact[b])) <= TIE * error)


def lines(out: Path) -> list[Line]:
    """Of every side whose file is there."""
    found = {side: one for side in SIDES if (one := read(out, side))}
    return [line(one, found[WIDE], found[FIRST], found[SHIPPED]) for one in found.values()]


def beside_float64(out: Path) -> dict[str, list[float]]:
    """Errors in float32 on the prompts that were run in float64, by side."""
    exact, found = read(out, EXACT), {}
    for side in SIDES:
        if exact and side.precision == "float32" and (one := read(out, side)):
            found[side.name] = [relative(one.scores[name], exact.scores[name]) for name in exact.scores]
    return found


def rounding(config: ModelConfig) -> float:
    """The relative error that float32 makes of a model of so many blocks, however it sums."""
    return CHANCE * (PASSES * (config.vision.depth + config.text.num_hidden_layers)) ** 0.5


def wrong(table: list[Line], golden: dict[str, list[float]], least: float) -> list[str]:
    """What is not as good as it must be, in words; least: an error in float32 that anyone may have."""
    by_side = {row.found.side: row for row in table}
    said = [
        f"{row.found.side.name}: {name}: answers part where it was not too close to call"
        for row in table
        for name in row.apart
    ]
    for row in table:
        side = row.found.side
        if side.program == "minivl" and side.precision == "bfloat16":
            said += [
                f"{side.name}: {name}: error {error:.2e}, transformers' own is {theirs:.2e}"
                for name, error in row.errors.items()
                if error > SHARE * (theirs := by_side[SHIPPED].errors[name])
            ]
        if side.precision == "float32" and row.same < row.places:
            said += [f"{side.name}: {row.places - row.same} tokens of {row.places} are others"]
    for name, errors in golden.items():
        said += [
            f"{name}: error {error:.2e} in float32, transformers' own is {theirs:.2e}"
            for error, theirs in zip(errors, golden[WIDE.name], strict=True)
            if error > max(SHARE * theirs, least)
        ]
    return said


def report(out: Path, folder: Path) -> bool:
    """Print the table; True when all is as good as it must be."""
    table, golden = lines(out), beside_float64(out)
    print(
        "| side | prompts | error of scores: median | largest | the same tokens | the same answers "
        "| memory of its own |\n|---|---|---|---|---|---|---|"
    )
    for row in table:
        side, errors = row.found.side, list(row.errors.values())
        answers = f"{row.whole} of {row.answers}" if row.answers else "-"
        print(f"| {side.program} {side.kernels} {side.precision} | {len(errors)} "
              f"| {np.median(errors):.2e} | {max(errors):.2e} | {row.same} of {row.places} "
              f"| {answers} | {row.found.peak / 2**30:.2f} GiB |")
    for name, errors in golden.items():
        print(f"{name} beside float64: " + ", ".join(f"{error:.2e}" for error in errors))
    said = wrong(table, golden, rounding(read_config(folder)))
    print("\n".join(said) if said else "as good as the reference everywhere")
    return not said

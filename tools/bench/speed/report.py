"""What was measured as figures, as a Markdown table, and as a picture.

Each side's process gave seconds for every row, once a round. A figure is the median of the rounds; a
ratio is the median of the ratios to the base side *within* a round. Read next: `../record.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record import Figure

Round = dict[str, dict[str, Any]]              # side -> what its process printed
# who is compared with whom: the same precision, or formats of as many bits
PAIRS = (("minivl-jit-bf16-float32", "transformers-float32-sdpa"),
         ("minivl-jit-bf16-bfloat16", "transformers-bfloat16-sdpa"),
         ("minivl-jit-int8-bfloat16", "transformers-bfloat16-sdpa"),
         ("minivl-jit-int4-bfloat16", "transformers-bfloat16-sdpa"),
         ("minivl-jit-bf16-bfloat16", "llama.cpp-bf16"), ("minivl-jit-int8-bfloat16", "llama.cpp-q8_0"),
         ("minivl-jit-int8-int8", "llama.cpp-q8_0"), ("minivl-jit-int8-int8", "transformers-bfloat16-sdpa"),
         ("minivl-jit-int4-bfloat16", "llama.cpp-q4_0"), ("minivl-jit-bf16-bfloat16", "openvino-f16"),
         ("minivl-jit-int8-bfloat16", "openvino-q8_0"), ("minivl-jit-int4-bfloat16", "openvino-q4_0"),
         ("minivl-jit-bf16-float32", "minivl-definition-bf16-float32"))
AS_FAST = "{}: {} as fast as {}"


def median(rounds: Sequence[Round], side: str, part: str, row: str) -> float | None:
    """The median of one number over the rounds in which the side gave it."""
    found = [one[side][part][row] for one in rounds if row in one.get(side, {}).get(part, {})]
    return statistics.median(found) if found else None


def ratio(rounds: Sequence[Round], side: str, base: str, row: str) -> float | None:
    """How many times the base's number this side's is: the median of the pairs of the same round."""
    pairs = [(one[side]["rows"][row], one[base]["rows"][row]) for one in rounds
             if all(row in one.get(name, {}).get("rows", {}) for name in (side, base))]
    return statistics.median(mine / theirs for mine, theirs in pairs if theirs) if pairs else None


def names(rounds: Sequence[Round]) -> list[str]:
    """The sides that gave something, in their order."""
    return list(dict.fromkeys(side for one in rounds for side in one))


def figures(rounds: Sequence[Round], base: str, units: dict[str, str]) -> list[Figure]:
    """Everything that is kept."""
    found = []
    for side in names(rounds):
        for row, unit in units.items():
            value, share = (median(rounds, side, part, row) for part in ("rows", "reads"))
            times = ratio(rounds, side, base, row)
            found += [] if value is None else [Figure(f"{row}, {side}", value, unit)]
            found += [] if times is None or side == base else [
                Figure(f"{row}, {side} over {base}", times, "x")]
            found += [] if share is None else [
                Figure(f"{row}, {side}: share of a plain read", share, "x")]
        for what in ("logits", "vision"):
            error = median(rounds, side, "errors", what)
            found += [] if error is None else [Figure(f"error of {what}, {side}", error, "relative")]
    for row in units:
        for mine, theirs in PAIRS:
            times = ratio(rounds, theirs, mine, row)
            found += [] if times is None else [Figure(AS_FAST.format(row, mine, theirs), times, "x")]
    return found


def as_fast(figures: Sequence[Figure]) -> str:
    """A line for each row of the workload, a column for each pair: how many times as fast minivl is. Nothing
    where no pair was measured."""
    held = {figure.name: figure.value for figure in figures}
    rows = dict.fromkeys(name.partition(":")[0] for name in held if " as fast as " in name)
    pairs = [pair for pair in PAIRS if any(AS_FAST.format(row, *pair) in held for row in rows)]
    if not pairs:
        return ""
    lines = ["| | " + " | ".join(f"{mine} over {theirs}" for mine, theirs in pairs) + " |",
             "|---" * (len(pairs) + 1) + "|"]
    for row in rows:
        cells = [held.get(AS_FAST.format(row, *pair)) for pair in pairs]
        lines.append(f"| {row} | " + " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def table(figures: Sequence[Figure]) -> str:
    """A line for each side; in brackets how many times the base's number that is."""
    held = {figure.name: figure for figure in figures}
    named = [name.split(", ", 1) for name in held if ", " in name]
    own = [(row, side) for row, side in named if " over " not in side and ": " not in side]
    sides = dict.fromkeys(side for _, side in own)
    units = {row: held[f"{row}, {side}"].unit for row, side in own if not row.startswith("error of ")}
    heads = [f"{row}, {unit}" for row, unit in units.items()]
    lines = ["| " + " | ".join(["side", *heads, "error of logits", "error of vision"]) + " |",
             "|---" * (len(heads) + 3) + "|"]
    for side in sides:
        errors = [held.get(f"error of {what}, {side}") for what in ("logits", "vision")]
        cells = [cell(held, row, side) for row in units]
        cells += ["-" if error is None else f"{error.value:.1e}" for error in errors]
        lines.append("| " + " | ".join([side, *cells]) + " |")
    return "\n".join(lines) + "\n"


def cell(held: dict[str, Figure], row: str, side: str) -> str:
    """One number, its ratio to the base, and for decoding its share of the plain read."""
    name = f"{row}, {side}"
    if name not in held:
        return "-"
    value, unit = held[name].value, held[name].unit
    said = f"{1e3 * value:.3g} ms" if unit.startswith("s") and value < 1 else f"{value:.3g}"
    times = [one.value for other, one in held.items() if other.startswith(f"{name} over ")]
    said += f" ({times[0]:.2f} x)" if times else ""
    share = held.get(f"{name}: share of a plain read")
    return said + (f", {share.value:.0%} of a plain read" if share else "")


def page(rounds: Sequence[Round], base: str, units: dict[str, str], about: str,
         photo: float) -> str:
    """The table with what one must know to read it. photo: its megapixels."""
    found = figures(rounds, base, units)
    pairs = as_fast(found)
    times = ["How many times as fast (of `memory`: how many times as small), the median of",
             "the pairs of the same round:", "", pairs] if pairs else []
    return "\n".join([
        "# Speed at 3B widths", "",
        f"Rounds: {len(rounds)}; in each of them every side has its turn, in a process of its own.",
        f"Numbers are medians. In brackets: times the number of {base}",
        "in the same round, the median of the pairs. Weights are random and cold. `load`: to the first",
        "token, from a warm file cache. `memory`: the most that was resident.",
        f"`photo`: {photo:.3g} megapixels into patches. `of a plain read`: how long it takes to read as",
        "many bytes as the token reads weights, over the time of the token. Errors: against the",
        "definitions in float64, on a few tokens and a small picture.",
        "", table(found), *times, about, ""])


def picture(rounds: Sequence[Round], base: str, units: dict[str, str], path: Path) -> None:
    """Bars, a panel for each row. Raises ImportError without Matplotlib."""
    from minivl.show import plot
    sides, shown = names(rounds), [row for row in units if any(row in got["rows"] for one in rounds
                                                               for got in one.values())]
    down = -(-len(shown) // 3)
    figure = plot.board(down, 3, (15, down * (1.2 + 0.22 * len(sides))))
    for axis, row in zip(figure.axes, shown, strict=False):
        values = {side: median(rounds, side, "rows", row) for side in sides}
        there = {side: value for side, value in values.items() if value is not None}
        colours = [plot.BLUE if side.startswith("minivl") else plot.ORANGE for side in there]
        bars = axis.barh(list(there), list(there.values()), color=colours)
        labels = [f"{value:.3g}" for value in there.values()]
        axis.bar_label(bars, labels, size=7, padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(f"{row}, {units[row]}", size=9)
        axis.tick_params(labelsize=7)
    for axis in figure.axes[len(shown):]:
        axis.set_visible(False)
    figure.set_label(f"A panel of bars for each row of the workload: {', '.join(shown)}. A bar for each "
                     f"of {len(sides)} sides; shorter is better.")
    figure.savefig(path, format="png")



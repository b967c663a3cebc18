"""`minivl doctor --measure`: the roof of this machine, and where a 3B model's passes lie on it.

Read next: `run/roofline.py` of the package, which measures.
"""

from __future__ import annotations

from math import log10
from pathlib import Path
from typing import Any

from ..config import official_config
from ..door.errors import ArgumentError
from ..run.roofline import Part, Roof, measured, parts
from .console import count, facts, heading, line, note, print_json, table, working

WIDE, HIGH = 52, 14                            # of the text plot, in letters
MARKS = "ABCDEFGH"
SURE = 1.1                                     # times the plain read; a faster product says that it was held up


def measure(as_json: bool, output: Path | None, wanted: bool = True) -> None:
    """Measure and print; a picture too where one is asked for. Raises ArgumentError for a picture of
    nothing measured, and ImportError for one without Matplotlib."""
    if not wanted:
        raise ArgumentError("--output draws what --measure finds: give both")
    with working("reading memory, multiplying matrices"):
        roof, found = measured(), parts(official_config("3B"))
    if as_json:
        print_json(document(roof, found))
    else:
        show(roof, found)
    if output is not None:
        draw(roof, found, output)
        note(f"drawn in {output}")


def document(roof: Roof, found: list[Part]) -> dict[str, Any]:
    """What `--json` prints."""
    return {**roof._asdict(), "plain": roof.read, "edge": roof.edge,
            "parts": [{**part._asdict(), "intensity": part.intensity, "rate": roof.rate(part.intensity),
                       "waits_for": waits_for(roof, part)} for part in found]}


def waits_for(roof: Roof, part: Part) -> str:
    """What decides how long a part takes."""
    return "memory" if part.intensity < roof.edge else "products"


def show(roof: Roof, found: list[Part]) -> None:
    """The roof in figures, the model's parts as a table and as letters under the roof."""
    facts([("threads", roof.threads), ("memory", f"{roof.read / 1e9:.3g} GB/s, a plain read"),
           *([("weights", weights_words(roof))] if roof.weights else []),
           *((name, f"{peak / 1e9:,.3g} GFLOP/s") for name, peak in roof.peaks.items()),
           ("edge of the roof", f"{roof.edge:.3g} operations for each byte")])
    for why in dict.fromkeys(roof.lacking.values()):
        names = [name for name, other in roof.lacking.items() if other == why]
        note(f"not measured: {'; '.join(names)}: {why}")
    line()
    heading("Qwen2.5-VL-3B, weights in bf16")
    rows = [(mark, part.name, count(part.flops), f"{part.moved / 1e6:,.4g}", f"{part.intensity:.3g}",
             f"{least_seconds(roof, part) * 1e3:,.4g}", waits_for(roof, part))
            for mark, part in zip(MARKS, found, strict=False)]
    table(("", "part", "operations", "MB", "per byte", "ms at the least", "waits for"), rows,
          right=("operations", "MB", "per byte", "ms at the least"), droppable=("MB",))
    line()
    for text in drawing(roof, found):
        line(text)
    note("the figures are this moment's: other programs make them lower")
    if roof.bandwidth > SURE * roof.read:
        note("the plain read was slower than the product, which reads as much: the memory gives at least that, "
             "and perhaps more. Measure again on an idle machine")


def weights_words(roof: Roof) -> str:
    """The compiled product with one row, which is what decoding does, beside the plain read."""
    weights = roof.weights or 0.0
    if weights > roof.read:
        share = "more than that, so the roof is of this figure"
    else:
        share = f"{weights / roof.read:.0%} of that"
    return f"{weights / 1e9:.3g} GB/s in the product with one row: {share}"


def least_seconds(roof: Roof, part: Part) -> float:
    """No machine with this roof does the part in less."""
    return max(part.flops / roof.peak, part.moved / roof.bandwidth)


def drawing(roof: Roof, found: list[Part]) -> list[str]:
    """The roof in letters: across operations for each byte, up operations a second, both logarithmic."""
    reach = [part.intensity for part in found] + [roof.edge]
    low, high = log10(min(reach) / 3), log10(max(reach) * 3)
    top = log10(roof.peak)
    bottom = log10(roof.rate(10**low))

    def row_of(intensity: float) -> int:
        return round((top - log10(roof.rate(intensity))) / (top - bottom) * (HIGH - 1))
    field = [[" "] * WIDE for _ in range(HIGH)]
    for column in range(WIDE):
        intensity = 10 ** (low + (high - low) * column / (WIDE - 1))
        field[row_of(intensity)][column] = "_" if intensity > roof.edge else "/"
    for mark, part in zip(MARKS, found, strict=False):
        column = round((log10(part.intensity) - low) / (high - low) * (WIDE - 1))
        free = [row for row in range(row_of(part.intensity), HIGH) if field[row][column] in " /_"]
        field[(free or [HIGH - 1])[0]][column] = mark
    labels = [f"{roof.peak / 1e9:,.3g} GFLOP/s", *[""] * (HIGH - 2), f"{10 ** bottom / 1e9:,.3g}"]
    side = max(map(len, labels))
    lines = [f"{label:>{side}} |{''.join(row)}".rstrip()
             for label, row in zip(labels, field, strict=True)]
    ends = f"{10**low:.2g}".ljust(WIDE - 6) + f"{10**high:.2g}"
    return [*lines, f"{'':>{side}} +{'-' * WIDE}", f"{'':>{side}}  {ends}  operations for each byte"]


def draw(roof: Roof, found: list[Part], output: Path) -> None:
    """The same as a picture."""
    from ..show import plot
    figure = plot.board(1, 1, (8.5, 5.5))
    plot.roofline(roof.bandwidth, roof.peaks, {part.name: part.intensity for part in found},
                  figure.axes[0])
    figure.set_label(f"Operations a second over operations for each byte: a slope of "
                     f"{roof.bandwidth / 1e9:.3g} GB/s, a roof at {roof.peak / 1e9:.3g} GFLOP/s")
    figure.savefig(output, format="png")

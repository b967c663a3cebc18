"""The learning curve of a run, phase after phase, as a PNG: losses above, held-out answers below.

    python -m tools.train_tiny curve runs/a docs/made/training-curve.png
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .phases import PHASES

INK, GRID = "#222222", "#dddddd"
LOSSES = {"answer": "#000000", "kind": "#0072b2", "glyph": "#d55e00", "tens": "#009e73"}
WORDS = {"answer": "answers", "kind": "which shape, each patch",
         "glyph": "which character (blanks counted apart from `writing` on)",
         "tens": "edges, tens of pixels"}
ROWS = ("describe", "count", "exists", "find", "number", "what", "when", "relation", "word")
HUES = ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#999999", "#8c564b")


def read(run: Path) -> list[dict[str, Any]]:
    """All lines of all phases, with minutes (`at`) and samples (`of`) since the first began. A line that a kill cut
    short is left out, and what a run did after its last checkpoint, and did again, counts once."""
    out: list[dict[str, Any]] = []
    before, seen_before = 0.0, 0
    for phase in PHASES:
        path = run / phase / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        facts: dict[tuple[int, bool], dict[str, Any]] = {}
        for line in lines:
            try:
                one = json.loads(line)
            except ValueError:
                continue
            facts[one["step"], "held_out" in one] = one
        rows = [facts[key] for key in sorted(facts)]
        out += [row | {"at": before + row["minutes"], "of": seen_before + row["samples"]} for row in rows]
        before, seen_before = (out[-1]["at"], out[-1]["of"]) if out else (before, seen_before)
    return out


def seen(lines: list[dict[str, Any]]) -> dict[str, tuple[int, float]]:
    """Samples and minutes of each phase."""
    last = {line["phase"]: line for line in lines}
    return {phase: (line["samples"], line["minutes"]) for phase, line in last.items()}


def points(lines: list[dict[str, Any]], most: int = 40) -> list[dict[str, Any]]:
    """Losses of a run, thinned to `most` points a phase, its last among them: phase, minutes, samples, and those of
    LOSSES that it has."""
    out: list[dict[str, Any]] = []
    for phase in dict.fromkeys(line["phase"] for line in lines):
        mine = [line for line in lines if line["phase"] == phase and any(name in line for name in LOSSES)]
        every = max(1, -(-len(mine) // most))
        out += [{"phase": phase, "minutes": round(line["at"], 2), "samples": line["samples"],
                 **{name: line[name] for name in LOSSES if name in line}} for line in mine[::-every][::-1]]
    return out


def stretches(lines: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Samples and values of one measure. A phase in which it is not measured leaves a gap: NaN."""
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    x, y, last = list[float](), list[float](), None
    for line in lines:
        value = {**line, **line.get("held_out", {})}.get(name)
        if value is not None:
            number = phases.index(line["phase"])
            gap = [float("nan")] if last is not None and number > last + 1 else []
            x, y, last = [*x, *gap, line["of"]], [*y, *gap, value], number
    return x, y


def draw(run: Path, target: Path) -> None:
    """Write the picture. Raises FileNotFoundError when the run has no log."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    lines = read(run)
    if not lines:
        raise FileNotFoundError(f"{run} has no log.jsonl in a phase's folder: nothing was trained there")
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 7.5), sharex=True, constrained_layout=True)
    losses = [line for line in lines if "held_out" not in line]
    for name, colour in LOSSES.items():
        above.plot(*stretches(losses, name), color=colour, label=WORDS[name], linewidth=1.3)
    above.set(yscale="log", ylabel="loss, nats", title="Training of the embedded model")
    looks = [line for line in lines if "held_out" in line]
    for name, colour in zip(ROWS, HUES, strict=True):
        if any(name in line["held_out"] for line in looks):
            below.plot(*stretches(looks, name), color=colour, label=name, linewidth=1.3, marker=".")
    below.set(ylim=(0, 1), ylabel="held-out answers, exactly right", xlabel="samples")
    below.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (above, below):
        axes.grid(color=GRID, linewidth=0.6)
        for i, phase in enumerate(dict.fromkeys(line["phase"] for line in lines)):
            start = next(line["of"] - line["samples"] for line in lines if line["phase"] == phase)
            axes.axvline(start, color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(phase, (start, 1), (3, -3 - 11 * (i % 4)), ("data", "axes fraction"), "offset points",
                          va="top", size=8, color=INK)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, ncol=3, frameon=False, loc="upper center",
                        bbox_to_anchor=(0.5, -0.14 if axes is below else -0.04))
    figure.savefig(target, dpi=110, metadata={"Software": "minivl"})

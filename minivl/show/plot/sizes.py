"""Size along a run: the residual stream, its channels, costs, errors; and the bits of a number.

Read next: `show/demo.py`, where drawings of most kinds stand on one board.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from . import axes
from .axes import BLUE, COLOURS, GREEN, INK, ORANGE, PAPER

# bits of the exponent and of the fraction
FIELDS = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23), "float64": (11, 52)}


def stream(trace: dict[str, Any], part: str = "vision.blocks", ax: Any = None) -> Any:
    """How large the residual stream is after each half of each block: its rms and its largest number.

    trace: what a session recorded, at least `PART.*.add_*`; part: "vision.blocks" or "decoder.layers"
    ("decoder@1.layers" for a step of decoding). Raises ArgumentError when nothing of it is there.
    """
    halves = {".add_attended": " attn", ".add_mlp": " mlp"}
    keys = [key for key in trace if key.startswith(part + ".") and key.endswith(tuple(halves))]
    if not keys:
        raise ArgumentError(f"the trace holds no {part}.N.add_attended or add_mlp: record \"{part}.*\"")
    arrays = [np.asarray(trace[key]).astype(np.float64) for key in keys]
    ax = axes.or_new(ax)
    ax.plot([np.abs(array).max() for array in arrays], "s-", color=ORANGE, ms=4, label="largest")
    ax.plot([np.sqrt((array**2).mean()) for array in arrays], "o-", color=BLUE, ms=4, label="rms")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(axes.matplotlib("ticker").StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(axes.matplotlib("ticker").NullFormatter())
    parts = [key.removeprefix(f"{part}.").rpartition(".") for key in keys]
    axes.thinned(ax, [number + halves[dot + half] for number, dot, half in parts], 24)
    ax.legend(fontsize=8)
    return axes.dress(ax, f"the residual stream of {part}", "after", "size of its numbers")


def channels(array: np.ndarray, ax: Any = None, *, name: int = 3) -> Any:
    """The largest |number| in each channel of (n, d), as bars; the `name` largest channels are numbered.

    Real checkpoints have a few channels far larger than all others (outliers), on which float16 breaks.
    """
    values = np.abs(np.asarray(array).astype(np.float64))
    most = values.reshape(-1, values.shape[-1]).max(axis=0)                   # n d -> d
    ax = axes.or_new(ax)
    ax.vlines(np.arange(len(most)), 0, most, color=BLUE, lw=max(0.5, 180 / len(most)))
    usual = float(np.median(most))
    ax.axhline(usual, color=ORANGE, lw=1, label=f"median {usual:.3g}")
    for channel in np.argsort(-most, kind="stable")[:name]:
        ax.annotate(f"{channel}: {most[channel]:.3g}", (channel, most[channel]), (0, 3),
                    textcoords="offset points", ha="center", size=8)
    ax.set_ylim(0, 1.3 * float(most.max()) or 1.0)          # room for the legend above the labels
    ax.legend(fontsize=8, loc="upper right")
    return axes.dress(ax, f"{len(most)} channels of {len(values)} rows", "channel", "largest |number|")


def costs(profile: dict[str, Any], ax: Any = None) -> Any:
    """Operations of each kind of stage, from a session with profile=True, all blocks together."""
    sums: dict[str, int] = {}
    for key, cost in profile.items():
        part, *_, last = key.split(".")
        name = f"{part.partition('@')[0]}.{last.partition('@')[0]}"
        sums[name] = sums.get(name, 0) + cost.flops
    ranked = sorted(((n, name) for name, n in sums.items() if n), reverse=True)     # the dearest on top
    whole = sum(sums.values())
    ax = axes.or_new(ax)
    bars = ax.barh([name for _, name in ranked], [n for n, _ in ranked], color=BLUE)
    ax.bar_label(bars, [f"{100 * n / whole:.1f} %" for n, _ in ranked], size=8, padding=3)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max((n for n, _ in ranked), default=1))
    return axes.dress(ax, f"{whole:.3g} floating-point operations", "operations")


def bits(numbers: Sequence[Any], ax: Any = None) -> Any:
    """The bits of NumPy numbers of any float type, a line each; sign, exponent, fraction by colour."""
    ax = axes.or_new(ax)
    for line, number in enumerate(numbers):
        for place, (bit, colour) in enumerate(zip(*bits_of(number), strict=True)):
            pale = 1.0 if bit else 0.28
            axes.block(ax, place, place + 1, line, line + 1, colour, edgecolor=PAPER, alpha=pale)
            ax.text(place + 0.5, line + 0.52, str(bit), ha="center", va="center", size=8)
    ax.set_xlim(0, 8 * max(np.asarray(number).dtype.itemsize for number in numbers))
    ax.set_ylim(len(numbers), 0)
    names = [f"{np.asarray(number).dtype.name}  {float(number):.9g}" for number in numbers]
    ax.set_xticks([])
    ax.set_yticks(np.arange(len(numbers)) + 0.5, names, family="monospace")
    axes.without_frame(ax)
    return axes.dress(ax, "sign (green), exponent (orange), fraction (blue); a one is full, a zero pale")


def bits_of(number: Any) -> tuple[list[int], list[str]]:
    """Bits of one number, the highest first, and the colour of its field. Raises ArgumentError."""
    value = np.asarray(number)
    if value.dtype.name not in FIELDS or value.ndim:
        raise ArgumentError(f"{value.dtype} {list(value.shape)} is no single number of "
                            f"{', '.join(FIELDS)}")
    exponent, fraction = FIELDS[value.dtype.name]
    whole = int.from_bytes(value.tobytes(), sys.byteorder)
    digits = [whole >> place & 1 for place in reversed(range(1 + exponent + fraction))]
    return digits, [GREEN] + [ORANGE] * exponent + [BLUE] * fraction


def errors(runs: Mapping[str, Mapping[str, float]], ax: Any = None) -> Any:
    """Relative errors along a run, {name: {stage: error}}, a line for each name, logarithmic.

    The stages of the first line are the axis. An error of 0 is not drawn, one that is infinite or
    NaN is a cross on the upper border.
    """
    ax = axes.or_new(ax)
    stages = list(next(iter(runs.values())))
    for number, (name, found) in enumerate(runs.items()):
        values = np.array([found.get(stage, np.nan) for stage in stages], np.float64)
        broken = np.array([stage in found for stage in stages]) & ~np.isfinite(values)
        drawn = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(drawn, ".-", color=colour, lw=1.2, ms=5, label=name)
        ax.plot(np.flatnonzero(broken), np.ones(broken.sum()), "x", color=colour, ms=6, clip_on=False,
                transform=ax.get_xaxis_transform())
    ax.set_yscale("log")
    axes.thinned(ax, stages, 40)
    ax.grid(axis="y", color=INK, alpha=0.12)
    ax.margins(x=0.01)
    ax.legend(fontsize=8)
    axes.dress(ax, f"error along {len(stages)} stages", "", "relative error")
    ax.tick_params(axis="x", labelsize=8)
    return ax

"""The roof of a machine, and what lies under it. Read next: `run/roofline.py`, which measures it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...door.errors import ArgumentError
from . import axes
from .axes import COLOURS, INK

MARKS = "os^Dv*PX"


def roofline(bandwidth: float, peaks: Mapping[str, float], at: Mapping[str, float], ax: Any = None
             ) -> Any:
    """Operations a second that a machine can reach, over the operations there are for each byte.

    bandwidth: bytes a second; peaks: what multiplies -> operations a second; at: what is done -> its
    operations for each byte, drawn where it meets the highest roof. Raises ArgumentError without a peak.
    """
    if not peaks or bandwidth <= 0:
        raise ArgumentError(f"a roof needs a bandwidth above 0 and one peak or more, got {bandwidth:g} "
                            f"and {len(peaks)} peaks")
    ax = axes.or_new(ax)
    edge = max(peaks.values()) / bandwidth
    low = min([0.25, *(x / 2 for x in at.values())])
    high = max([4 * edge, *(2 * x for x in at.values())])
    x = np.geomspace(low, high, 200)
    for number, (name, peak) in enumerate(peaks.items()):
        ax.plot(x, np.minimum(peak, bandwidth * x) / 1e9, color=COLOURS[number % len(COLOURS)], lw=1.4,
                label=f"{name}: {peak / 1e9:.3g} GFLOP/s")
    for number, (name, intensity) in enumerate(at.items()):
        y = min(max(peaks.values()), bandwidth * intensity) / 1e9
        ax.plot(intensity, y, MARKS[number % len(MARKS)], color=INK, ms=6,
                label=f"{name}: {intensity:.3g}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.grid(color=INK, alpha=0.12)
    ax.legend(fontsize=7, loc="lower right")
    return axes.dress(ax, f"a roof of {bandwidth / 1e9:.3g} GB/s and its peaks",
                      "operations for each byte", "GFLOP/s")

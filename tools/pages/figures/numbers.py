"""Figures of lesson 13 and later: number formats, rounding from stage to stage, faults, cost.

Read next: `sheet.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minivl
from minivl.show import plot
from minivl.truth import museum as faults
from minivl.truth.compare.metrics import measure

from .scene import model, scene
from .sheet import figure

FORMATS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}               # bits: exponent, fraction
FAULTS = ("gelu-by-tanh", "order-not-inverted", "windows-missing")


def path_of_a_run() -> list[str]:
    """Labels of the streams from patches to logits, in order."""
    config = model().config
    return ["vision.embed_patches", *(f"vision.blocks.{n}.add_mlp" for n in range(config.vision.depth)),
            "vision.restore_order", *(f"decoder.layers.{n}.add_mlp" for n in range(config.text.num_hidden_layers)),
            "decoder.logits"]


def run(precision: str, replace: dict | None = None) -> dict[str, Any]:
    """Every array of the scene's conversation, computed in this precision, with these wraps in place."""
    inputs = scene().inputs                           # before the session opens: it would record the scene's run too
    with np.errstate(all="ignore"), minivl.session(record=path_of_a_run(), replace=replace or {}) as session:
        model(precision).logits(inputs)
    return session.trace


def draw_errors(axis: Any, traces: dict[str, dict[str, Any]], golden: dict[str, Any]) -> None:
    """One line a run: the error of each stage against the golden one, on a logarithmic axis."""
    labels = path_of_a_run()
    for (name, trace), colour in zip(traces.items(), plot.COLOURS, strict=False):
        errors = [measure(np.asarray(trace[key]).astype(np.float64), golden[key], 0).error for key in labels]
        axis.plot([error or np.nan for error in errors], "o-", color=colour, ms=4, label=name)
    axis.set_yscale("log")
    axis.set_xticks(range(len(labels)), [_short(key) for key in labels], rotation=90, size=7)
    axis.set_ylabel("error: |difference| / |golden|", size=8)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))


def _short(label: str) -> str:
    part, *middle, last = label.split(".")
    return f"{'block' if part == 'vision' else 'layer'} {middle[-1]}" if middle else last


@figure("number-formats", 13, "Bits of three formats: bfloat16 has float32's range, float16 has finer steps")
def number_formats() -> Any:
    drawn = plot.board(1, 1, (9, 1.9))
    axis = drawn.axes[0]
    for line, (name, (exponent, fraction)) in enumerate(FORMATS.items()):
        for bit in range(1 + exponent + fraction):
            colour = plot.INK if bit == 0 else plot.ORANGE if bit <= exponent else plot.BLUE
            axis.fill([bit, bit + 0.9, bit + 0.9, bit], [-line, -line, -line + 0.7, -line + 0.7], color=colour)
        axis.text(-0.5, -line + 0.35, name, ha="right", va="center", size=9)
        axis.text(1.6 + exponent + fraction, -line + 0.35, f"1 + {exponent} + {fraction} bits", va="center", size=9)
    axis.set_xlim(-5, 38)
    axis.axis("off")
    axis.set_title("sign, exponent (range), fraction (steps)", size=9)
    return drawn


@figure("error-per-stage", 13, "Rounding from stage to stage: three precisions against float64")
def error_per_stage() -> Any:
    drawn = plot.board(1, 1, (8, 3.8))
    draw_errors(drawn.axes[0], {name: run(name) for name in FORMATS}, run("float64"))
    return drawn


@figure("faults-per-stage", 15, "Bug or rounding? Where three faults begin, beside the rounding of two precisions")
def faults_per_stage() -> Any:
    drawn = plot.board(1, 1, (8, 3.8))
    wrong = {name: run("float32", faults.get(name).table()) for name in FAULTS}
    draw_errors(drawn.axes[0], {"float32": run("float32"), "bfloat16": run("bfloat16"), **wrong}, run("float64"))
    return drawn


@figure("where-the-operations-are", 5, "Operations of the official 3B on a photo of 1092 x 1932 pixels, in its tower")
def where_the_operations_are() -> Any:
    from minivl.checkpoint.names import blank_tensors, build
    from minivl.config import official_config
    from minivl.door.stage import running
    from minivl.kernels import interpreter, shapes
    from minivl.model import vision as tower
    config = official_config("3B")
    weights = build(blank_tensors(config), config, "float32").vision
    with minivl.session(profile=True) as session, running(interpreter("shapes")):
        tower(shapes.blank(78 * 138, config.vision.patch_values), np.array([[1, 78, 138]]), weights)
    drawn = plot.board(1, 1, (7, 3))
    plot.costs(session.profile, drawn.axes[0])
    drawn.axes[0].set_title(f"the tower of 3B, 78 x 138 patches: {drawn.axes[0].get_title()}", size=9)
    return drawn

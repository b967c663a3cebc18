"""Claims 6 to 9: what the blocks of the tower cost, who sees whom in them, and what they are made of."""

from __future__ import annotations

import numpy as np

from minivl.checkpoint.names import shapes
from minivl.kernels.definition import gated_mlp, linear, rms_norm, silu
from minivl.model import vision
from minivl.passes.windows import schedule

from .finding import LOOSE, UNTESTED, WRONG, Finding, claim, verdict, yes
from .setting import CONFIG, embedded, seeded, tower_flops

SIDES = (448, 896, 1792, 3584)                   # pixels; multiples of 112, so that every window is whole


def exponent(patches: np.ndarray, flops: np.ndarray) -> float:
    """The n of flops ~ patches^n, by least squares on logarithms."""
    return float(np.polyfit(np.log(patches), np.log(flops), 1)[0])


@claim(6, "window attention makes the cost linear")
def window_cost() -> Finding:
    """This is exactly true of the 28 windowed blocks: a patch attends to the 64 patches of its window at
    most, however large the picture. It is not true of the tower, because 4 of its 32 blocks still attend
    to the whole picture. In small pictures they hardly count and the tower's cost is nearly linear; in
    the largest ones they are half of it and growing. A fair wording: windows remove seven eighths of the
    quadratic part.
    """
    full = CONFIG.vision.fullatt_block_indexes
    costs = [tower_flops(side) for side in SIDES]
    patches = np.array([(side // 14) ** 2 for side in SIDES], float)
    windowed = np.array([cost["blocks.0.attend"] for cost in costs], float)
    framed = np.array([cost[f"blocks.{full[0]}.attend"] for cost in costs], float)
    tower = np.array([sum(cost.values()) for cost in costs], float)
    share = [sum(cost[f"blocks.{n}.attend"] for n in full) / sum(cost.values()) for cost in costs]
    n_windowed, n_framed, n_tower = (exponent(patches, cost) for cost in (windowed, framed, tower))
    last = exponent(patches[-2:], tower[-2:])
    figures = (f"attention of one windowed block grows as patches^{n_windowed:.2f}, of one full block as "
               f"patches^{n_framed:.2f}",
               f"the whole tower grows as patches^{n_tower:.2f}, and between the two largest pictures as "
               f"patches^{last:.2f}")
    table = (("picture", "patches", "attention, windowed block", "attention, full block", "whole tower",
              "share of the 4 full attentions"),
             *((f"{side} x {side}", f"{p:,.0f}", f"{a / 1e9:,.1f} GFLOP", f"{b / 1e9:,.1f} GFLOP",
                f"{c / 1e12:,.2f} TFLOP", f"{s:.0%}")
               for side, p, a, b, c, s in zip(SIDES, patches, windowed, framed, tower, share, strict=True)))
    linear_windows, linear_tower = abs(n_windowed - 1) < 0.01, last < 1.05
    otherwise = LOOSE if linear_windows else WRONG
    return Finding(verdict(linear_windows and linear_tower, otherwise), figures, table)


@claim(7, "four layers of the tower use full attention")
def full_layers() -> Finding:
    """In the official sizes they are blocks 7, 15, 23 and 31, counted from 0. "Full" means the whole of
    one *frame*, or pair of frames; no block of the tower looks from one pair to another. What happens
    between them is left to the decoder.
    """
    tables = schedule(np.array([[2, 16, 16]]), CONFIG.vision)
    full = tuple(n for n, table in enumerate(tables) if len(table) == 2)    # a segment a frame pair
    weights = embedded().weights.vision
    grid = np.array([[3, 8, 12]])
    patches = seeded().normal(size=(int(grid.prod()), weights.config.patch_values)).astype(np.float32)
    changed = patches.copy()
    changed[:96] += 1                                                         # the first of three pairs
    before, after = (vision(x, grid, weights).reshape(3, -1) for x in (patches, changed))   # m o -> t o
    moved = (before != after).any(axis=1).tolist()
    figures = (f"blocks whose segments are whole frames: {list(full)} of {len(tables)}",
               f"changing pair 0 of 3 changes the visual tokens of pairs {np.flatnonzero(moved).tolist()}; "
               "the others are identical to the last bit")
    return Finding(verdict(full == CONFIG.vision.fullatt_block_indexes and len(full) == 4
                           and moved == [True, False, False]), figures)


@claim(8, "RMSNorm stabilises training")
def norms() -> Finding:
    """What can be shown is what the norm does: however large a row has grown, it leaves the norm at the
    same size, and it needs no mean and no bias. That this steadies training is widely accepted (Zhang and
    Sennrich, 2019, report the quality of LayerNorm in less time). It would take training runs with and
    without it, at scale and over several seeds, to show it for this model.
    """
    names = [name for name in shapes(CONFIG) if "norm" in name or ".ln_q" in name]
    biased = [name for name in names if name.endswith("bias")]
    norm = embedded().weights.vision.blocks[0].norm1
    x = seeded().normal(size=(8, norm.weight.shape[0]))
    plain, scaled = rms_norm(x, norm), rms_norm(1000 * x, norm)
    same = bool(np.allclose(plain, scaled, rtol=1e-5))
    figures = (f"norms in the official 7B: {len(names)}, with a bias: {len(biased)}",
               f"rows a thousand times larger give the same output (to 1e-5): {yes(same)}")
    return Finding(UNTESTED, figures)


@claim(9, 'SwiGLU is a "Switchable Gated Linear Unit"')
def swiglu() -> Finding:
    """The first syllable is from *Swish*, the smooth function y * sigmoid(y), also called SiLU; "GLU" is
    gated linear unit (Shazeer, 2020). Nothing is switched: every row goes through the same three
    matrices, and each channel is scaled by an amount that varies without steps. The article is right that
    the model uses it, in the tower as in the decoder.
    """
    mlp = embedded().weights.vision.blocks[0].mlp
    rng = seeded()
    x = rng.normal(size=(16, mlp.down.weight.shape[0]))
    gate, up = np.split(linear(x, mlp.gate_up), 2, axis=1)                           # n d -> n 2h -> n h, n h
    by_hand = linear(gate / (1 + np.exp(-gate)) * up, mlp.down)
    same = bool(np.allclose(gated_mlp(x, mlp), by_hand, rtol=1e-9, atol=1e-9))
    values = silu(np.array([-1.0, 0.0, 1.0]))
    figures = (f"the MLP equals down(swish(gate(x)) * up(x)), swish(y) = y / (1 + exp(-y)): {yes(same)}",
               f"swish(-1), swish(0), swish(1) = {values[0]:.4f}, {values[1]:.0f}, {values[2]:.4f}: nothing "
               "that is on or off")
    return Finding(WRONG if same else LOOSE, figures)

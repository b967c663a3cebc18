"""Figures of lessons 4 to 8: attention, windows, rotary positions, a whole block, the merger.

Read next: `text.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minivl
from minivl.passes.positions import inverse_frequencies
from minivl.passes.windows import schedule, window_order
from minivl.show import plot
from tools.pages.question_pictures import kinds_of_block

from .scene import asked, model, scene, two_discs
from .sheet import figure

PATCH = (3, 2)                                       # row and column of the patch that looks, on the rim of a disc


def shares(scores: np.ndarray) -> np.ndarray:
    """Softmax along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# ---- lesson 4 ----------------------------------------------------------------------------------------------

def six_patches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, key and value of head 0 in lesson 4: it looks for its own colour and hands over its row."""
    red_blue = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1], [0, 1], [1, 0]])           # n e
    top_bottom = np.array([[1.0, 0]] * 3 + [[0, 1]] * 3)
    return 3 * red_blue, red_blue, top_bottom


@figure("scores-and-shares", 4, "Attention on six patches: scores, shares, and the weighted sum")
def scores_and_shares() -> Any:
    q, k, v = six_patches()
    scores = q @ k.T / math.sqrt(q.shape[1])                                          # n e, e n -> n n
    drawn = plot.board(1, 3, (12, 3), width_ratios=[2, 2, 1])
    names = list("ABCDEF")
    plot.table(scores, drawn.axes[0], "scores q k' / sqrt(e)", names, names)
    plot.table(shares(scores), drawn.axes[1], "shares: each row sums to 1", names, names)
    plot.table(shares(scores) @ v, drawn.axes[2], "what each row brings home", names, ["top", "bottom"])
    return drawn


@figure("heads-by-reshape", 4, "Why a reshape alone does not split heads: it cuts the table after half of the patches")
def heads_by_reshape() -> Any:
    number = np.arange(24).reshape(6, 4)                                              # n (a e)
    whose = number % 4 // 2                                                           # the head each number is of
    split = {"split and transposed": whose.reshape(6, 2, 2).transpose(1, 0, 2),
             "reshape alone": whose.reshape(2, 6, 2)}
    drawn = plot.board(1, 2, (8, 3))
    for axis, (name, array) in zip(drawn.axes, split.items(), strict=True):
        lines = [f"head {a}" for a in range(2)]
        plot.table(array.reshape(2, 12), axis, f"{name}: which head's numbers are these?", lines)
        axis.set_xlabel("6 patches x 2 numbers", size=8)
        axis.set_xticks([])
    return drawn


@figure("looking-back-only", 4, "Causal attention: a row sees itself and the rows before it")
def looking_back_only() -> Any:
    q, k, _ = six_patches()
    scores = np.where(np.tri(6, dtype=bool), q @ k.T / math.sqrt(q.shape[1]), -np.inf)
    drawn = plot.board(1, 2, (9, 3.2))
    plot.segments(np.array([[0, 6, 0, 6]]), drawn.axes[0], causal=True)
    plot.table(shares(scores), drawn.axes[1], "shares of head 0, looking back only", list("ABCDEF"), list("ABCDEF"))
    return drawn


@figure("attention-maps", 4, "What one patch looks at, in a windowed and in a full block")
def attention_maps() -> Any:
    s = scene()
    row = int(np.flatnonzero((s.at["w"][:, 2:] == PATCH).all(axis=1))[0])
    drawn = plot.board(1, 2, (11, 3.8))
    for axis, (kind, block) in zip(drawn.axes, kinds_of_block(s.vlm.config.vision).items(), strict=True):
        q, k = s.trace[f"vision.blocks.{block}.rotate"]
        table = s.trace["vision.schedule"][block]
        plot.attention(q, k, table, row, "w", s.at, axis, pixels=s.pixels)
        axis.plot(PATCH[1], PATCH[0], "w+", ms=12, mew=2)
        axis.set_title(f"what the patch at the cross looks at in {kind}", size=9)
    return drawn


# ---- lesson 5 ----------------------------------------------------------------------------------------------

@figure("windows", 5, "A picture under its attention windows; numbers are places in the window order")
def windows() -> Any:
    drawn = plot.board(1, 1, (7, 5))
    plot.windows(scene().pixels, scene().inputs.image_grid_thw[0], model().config, drawn.axes[0])
    return drawn


@figure("window-segments", 5, "Who sees whom: segments of a windowed and of a full block")
def window_segments() -> Any:
    drawn = plot.board(1, 2, (9, 4.4))
    vision = model().config.vision
    tables = schedule(scene().inputs.grids, vision)
    for axis, (kind, block) in zip(drawn.axes, kinds_of_block(vision).items(), strict=True):
        plot.segments(tables[block], axis)
        axis.set_title(f"{kind}: {axis.get_title()}", size=9)
    return drawn


@figure("order-and-its-inverse", 5, "5 x 7 cells in windows of 4 x 4: the window order and the way back")
def order_and_its_inverse() -> Any:
    from minivl.config import official_config
    order = window_order(np.array([[1, 10, 14]]), official_config("3B").vision)
    drawn = plot.board(1, 2, (11, 3))
    plot.table(order.reshape(5, 7), drawn.axes[0], "order[j]: which cell comes at place j", range(0, 35, 7), range(7))
    plot.table(np.argsort(order).reshape(5, 7), drawn.axes[1], "argsort(order)[i]: at which place cell i comes",
               range(0, 35, 7), range(7))
    return drawn


@figure("how-news-travels", 5, "One patch is changed: which rows have heard of it after each block")
def how_news_travels() -> Any:
    s, vision = scene(), model().config.vision
    changed = s.inputs.pixel_values.copy()
    changed[0] += 1.0
    other = minivl.Inputs.from_ids(s.inputs.input_ids, s.vlm.config, changed, s.inputs.image_grid_thw)
    with minivl.session(record="vision.*") as session:
        s.vlm.vision(other)
    drawn = plot.board(2, 3, (9, 4.8))
    for block, axis in zip(range(vision.depth), drawn.axes, strict=False):
        key = f"vision.blocks.{block}.add_mlp"
        reached = (s.trace[key] != session.trace[key]).any(axis=1)                    # w
        plot.rows(reached.astype(float), "w", s.at, axis, label="changed")
        axis.images[-1].set_clim(0, 1)
        kind = "full" if block in vision.fullatt_block_indexes else "windows"
        axis.set_title(f"block {block} ({kind}): {reached.sum()} of {len(reached)}", size=8)
    return drawn


@figure("video-windows", 5, "A video: windows never span two pairs of frames, and neither do full blocks")
def video_windows() -> Any:
    frames = [two_discs(84, 112, 16)] * 4
    inputs = asked([{"type": "video", "video": frames, "fps": 2.0}, {"type": "text", "text": "What moves?"}])
    drawn = plot.board(1, 2, (12, 3.4), width_ratios=[2, 1])
    vision = model().config.vision
    plot.windows(np.stack(frames), inputs.video_grid_thw[0], model().config, drawn.axes[0])
    plot.segments(schedule(inputs.grids, vision)[kinds_of_block(vision)["a full block"]], drawn.axes[1])
    drawn.axes[1].set_title(f"a full block: {drawn.axes[1].get_title()}", size=9)
    return drawn


@figure("pairs-by-size", 5, "Pairs of patches in one head of one block: by area, and by its square")
def pairs_by_size() -> Any:
    from minivl.config import official_config
    vision = official_config("3B").vision
    sides = np.arange(56, 2801, 196) // 28 * 28
    drawn = plot.board(1, 1, (7, 3.4))
    for (kind, block), colour in zip(kinds_of_block(vision).items(), (plot.BLUE, plot.ORANGE), strict=True):
        tables = [schedule(np.array([[1, side // 14, side // 14]]), vision)[block] for side in sides.tolist()]
        pairs = [int(((g[:, 1] - g[:, 0]) * (g[:, 3] - g[:, 2])).sum()) for g in tables]
        drawn.axes[0].loglog(sides, pairs, "o-", color=colour, label=kind)
    drawn.axes[0].set(xlabel="pixels along a side", ylabel="pairs", title="pairs of patches (official tower)")
    drawn.axes[0].legend(fontsize=8)
    return drawn


# ---- lesson 6 ----------------------------------------------------------------------------------------------

@figure("turning-a-pair", 6, "A rotary embedding turns two numbers by an angle that grows with the place")
def turning_a_pair() -> Any:
    drawn = plot.board(1, 4, (11, 2.9))
    before = np.array([1.0, 0.3])
    for place, axis in enumerate(drawn.axes):
        angle = place * math.pi / 6
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        plot.turned(before, turn @ before, axis)
        axis.set_title(f"at place {place}: turned by {30 * place} degrees", size=8)
    return drawn


@figure("rotary-speeds", 6, "Eight pairs turn at eight speeds; equal q and k score high near by")
def rotary_speeds() -> Any:
    angles = np.arange(40)[:, None] * inverse_frequencies(16, 10000.0)                # n f
    drawn = plot.board(1, 2, (11, 3.2))
    plot.angles(angles, drawn.axes[0])
    drawn.axes[0].set_title("angles of 40 places, 8 pairs: fast left, slow right", size=9)
    for pairs, colour in ((1, plot.ORANGE), (2, plot.GREEN), (8, plot.BLUE)):
        name = f"{pairs} pairs" if pairs > 1 else "1 pair"
        drawn.axes[1].plot(np.cos(angles[:, :pairs]).mean(axis=1), color=colour, label=name)
    drawn.axes[1].set_title("score of equal q and k by distance", size=9)
    drawn.axes[1].legend(fontsize=8)
    return drawn


@figure("rotary-in-two-dimensions", 6, "Half of the angles count rows, half columns; rows stand in window order")
def rotary_in_two_dimensions() -> Any:
    drawn = plot.board(1, 1, (7, 3.8))
    quarter = model().config.vision.head_dim // 4
    plot.angles(scene().trace["vision.angles.spatial_angles"], drawn.axes[0],
                sections=[("row", quarter), ("column", quarter)])
    return drawn


@figure("near-me", 6, "Scores of equal q and k around a query: a spot in two dimensions")
def near_me() -> Any:
    at = np.stack(np.indices((15, 21)), axis=-1).reshape(-1, 2) - (7, 10)             # n 2: distances to the query
    speed = inverse_frequencies(16, 10000.0)
    cosine = np.cos(np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1))   # n f
    parts = {"row pairs": cosine[:, :8], "column pairs": cosine[:, 8:], "all pairs": cosine}
    drawn = plot.board(1, 3, (11, 2.8))
    for axis, (name, part) in zip(drawn.axes, parts.items(), strict=True):
        axis.imshow(part.mean(axis=1).reshape(15, 21), cmap=plot.MAGNITUDE, vmin=-0.2, vmax=1)
        axis.plot(10, 7, "w+")
        axis.set_title(name, size=9)
    return drawn


# ---- lessons 7 and 8 ---------------------------------------------------------------------------------------

@figure("residual-stream", 7, "The stream grows: its rms and its largest number after each half of each block")
def residual_stream() -> Any:
    drawn = plot.board(1, 2, (11, 3.4))
    plot.stream(scene().trace, "vision.blocks", drawn.axes[0])
    plot.stream(scene().trace, "decoder.layers", drawn.axes[1])
    return drawn


@figure("rms-norm", 7, "RMS norm: the direction of a row stays, its size is gone")
def rms_norm() -> Any:
    x = np.array([[3.0, 4, 0, 0], [30, 40, 0, 0], [0, 0, 5, -5], [0, 0, 0, 0]])
    normed = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6)
    drawn = plot.board(1, 2, (9, 2.4))
    plot.table(x, drawn.axes[0], "four rows", form="{:g}")
    plot.table(normed, drawn.axes[1], "RMS norm of each", form="{:.2f}")
    return drawn


@figure("soft-switches", 7, "SiLU in the blocks, GELU in the merger, and the hard switch")
def soft_switches() -> Any:
    y = np.linspace(-6, 6, 300)
    bell = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in y])
    drawn = plot.board(1, 1, (6.5, 3.2))
    axis = drawn.axes[0]
    axis.plot(y, y / (1 + np.exp(-y)), color=plot.BLUE, label="SiLU: y / (1 + exp(-y))")
    axis.plot(y, y * bell, color=plot.GREEN, label="GELU: y times the area under the bell curve")
    axis.plot(y, np.maximum(y, 0), "--", color=plot.ORANGE, label="max(y, 0)")
    axis.axhline(0, color="grey", lw=0.5)
    axis.legend(fontsize=8)
    axis.set_title("three switches", size=9)
    return drawn


@figure("outliers", 7, "The largest number in each channel, at the end of the tower and of the decoder")
def outliers() -> Any:
    drawn = plot.board(1, 2, (12, 3.2))
    vision = model().config.vision
    plot.channels(scene().trace[f"vision.blocks.{vision.depth - 1}.add_mlp"], drawn.axes[0])
    drawn.axes[0].set_title("the tower's stream at its end", size=9)
    plot.channels(scene().trace["decoder.select_rows"], drawn.axes[1])
    drawn.axes[1].set_title("the decoder's stream at its end, last row", size=9)
    return drawn


@figure("who-writes-where", 7, "What attention and MLP of the first blocks add to each row, laid on the picture")
def who_writes_where() -> Any:
    s = scene()
    across = min(model().config.vision.depth, 4)
    drawn = plot.board(2, across, (2.9 * across, 4.6))
    before = s.trace["vision.order_by_window"]
    for n in range(across):
        for line, half in enumerate(("add_attended", "add_mlp")):
            after = s.trace[f"vision.blocks.{n}.{half}"]
            axis = drawn.axes[line * across + n]
            plot.rows(after - before, "w", s.at, axis, label="rms added")
            axis.set_title(f"block {n}: {('attention', 'MLP')[line]}", size=9)
            before = after
    return drawn


@figure("four-rows-side-by-side", 8, "The merger's reshape: four rows of a cell become one, nothing is lost")
def four_rows_side_by_side() -> Any:
    corners = ["upper left", "upper right", "lower left", "lower right"]
    toy = np.array([[10 * cell + 2 * place, 10 * cell + 2 * place + 1] for cell in (0, 1) for place in range(4)])
    drawn = plot.board(1, 2, (11, 2.8))
    plot.table(toy, drawn.axes[0], "rows of patches (4c d)", [f"cell {n // 4}, {corners[n % 4]}" for n in range(8)])
    plot.table(toy.reshape(2, 8), drawn.axes[1], "reshape(c, 4 d)", ["cell 0", "cell 1"])
    return drawn


@figure("patches-to-tokens", 8, "The merger: a row for each patch, then a row for each cell")
def patches_to_tokens() -> Any:
    s = scene()
    drawn = plot.board(1, 2, (10, 3.4))
    plot.rows(s.trace[f"vision.blocks.{model().config.vision.depth - 1}.add_mlp"], "w", s.at, drawn.axes[0])
    drawn.axes[0].set_title("before: a row for each patch", size=9)
    plot.rows(s.trace["vision.merge_2x2"], "c", s.at, drawn.axes[1])
    drawn.axes[1].set_title("after: a row for each cell", size=9)
    return drawn


@figure("torn-and-restored", 8, "Visual tokens in window order, drawn as one reads, and restored")
def torn_and_restored() -> Any:
    _, gh, gw = (int(n) for n in scene().inputs.image_grid_thw[0])
    drawn = plot.board(1, 2, (10, 3.4))
    for axis, key, name in zip(drawn.axes, ("vision.merge_2x2", "vision.restore_order"),
                               ("in window order: torn", "restored: the picture again"), strict=True):
        axis.imshow(plot.row_values(scene().trace[key]).reshape(gh // 2, gw // 2), cmap=plot.MAGNITUDE)
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, size=9)
    return drawn

"""Figures of lessons 0 to 3: arrays, what a matrix learned, pixels, patches.

Read next: `tower.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivl.passes import patches, picture
from minivl.show import plot

from .scene import QUESTION, model, scene, two_discs
from .sheet import figure


@figure("picture-as-array", 0, "A picture is a table of pixels, three numbers each")
def picture_as_array() -> Any:
    drawn = plot.board(1, 4, (11, 2.6))
    pixels = scene().pixels
    plot.picture(pixels, ax=drawn.axes[0])
    for colour, name in enumerate(("red", "green", "blue")):
        axis = drawn.axes[colour + 1]
        axis.imshow(pixels[:, :, colour], cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"how much {name}: [:, :, {colour}]", size=9)
        axis.tick_params(labelsize=7)
    return drawn


@figure("prompt-tokens", 0, "The prompt as tokens: text, marks of the template, one placeholder for each visual token")
def prompt_tokens() -> Any:
    vlm, inputs = scene().vlm, scene().inputs
    ids = inputs.input_ids
    pad = ids == vlm.config.image_token_id
    kind = np.where(pad, 2, np.where(np.isin(ids, list(vlm.tokenizer.special_ids)), 1, 0))
    drawn = plot.board(1, 1, (12, 2.2))
    axis = drawn.axes[0]
    paint = np.array([(232, 240, 254), (208, 208, 208), (255, 215, 154)], np.uint8)
    axis.imshow(paint[kind][None], aspect="auto")
    for n, token in enumerate(ids):
        axis.text(n, 0, plot.token_name(vlm.tokenizer, int(token)), rotation=90, ha="center", va="center", size=7)
    axis.set(yticks=[], xlabel="row of the sequence")
    axis.set_title(f"{len(ids)} tokens: text blue, marks grey, {pad.sum()} placeholders orange", size=9)
    return drawn


@figure("next-token", 0, "Logits of the last row as probabilities: the likeliest next tokens")
def next_token() -> Any:
    drawn = plot.board(1, 1, (6, 3.2))
    plot.logits(scene().trace["decoder.logits"][-1], scene().vlm.tokenizer, 8, drawn.axes[0])
    drawn.axes[0].set_title(f"after the prompt: {QUESTION}", size=9)
    return drawn


@figure("linear-map", 1, "A linear map: each new number is the dot product of a row with one question")
def linear_map() -> Any:
    x = np.array([[1.0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])                      # n d
    w = np.array([[1, 0, -1], [0.3, 0.6, 0.1]])                                       # o d
    drawn = plot.board(1, 3, (11, 2.4))
    colours, inputs, questions = ["red", "blue", "white", "black"], ["r", "g", "b"], ["warm?", "bright?"]
    plot.table(x, drawn.axes[0], "x: four rows (n d)", colours, inputs)
    plot.table(w, drawn.axes[1], "W: two questions (o d)", questions, inputs)
    plot.table(x @ w.T, drawn.axes[2], "x W': four answers to each (n o)", colours, questions)
    return drawn


@figure("patch-filters", 1, "Rows of the first matrix as pictures: what each looks for in a patch")
def patch_filters() -> Any:
    drawn = plot.board(1, 1, (11, 2.4))
    matrix = model().weights.vision.patch_embed.weight.dense(np.float32)
    plot.filters(matrix, model().processor.preprocessor, drawn.axes[0])
    return drawn


@figure("softmax", 1, "Softmax: only differences of scores count; a factor sharpens or flattens the choice")
def softmax() -> Any:
    z = np.log([1.0, 2.0, 5.0])
    scores = {"z": z, "z + 100": z + 100, "2 z": 2 * z, "z / 4": z / 4}
    shares = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in scores.values()]
    drawn = plot.board(1, 1, (6, 2.4))
    plot.table(np.array(shares), drawn.axes[0], "softmax of ...  (z = log 1, log 2, log 5)", list(scores),
               ["first", "second", "third"])
    return drawn


@figure("size-rule", 2, "Sides are rounded to multiples of 28; halves go to the even neighbour")
def size_rule() -> Any:
    sides = np.arange(1, 200)
    even = np.array([28 * round(side / 28) for side in sides.tolist()])
    school = 28 * np.floor(sides / 28 + 0.5).astype(int)
    differ = even != school
    drawn = plot.board(1, 1, (8, 3.4))
    axis = drawn.axes[0]
    axis.plot(sides, sides, color="lightgrey", label="no rounding")
    axis.step(sides, even, where="mid", color=plot.BLUE, label="round half to even")
    axis.plot(sides[differ], even[differ], "o", color=plot.BLUE, label="the rule")
    axis.plot(sides[differ], school[differ], "x", color=plot.ORANGE, ms=8, label="floor(x + 0.5)")
    axis.set(xlabel="side in pixels", ylabel="after rounding", title=f"they differ at {sides[differ].tolist()}")
    axis.legend(fontsize=8)
    return drawn


@figure("before-and-after-resizing", 2, "The picture as it came, and as the model sees it: whole cells of 28 pixels")
def before_and_after_resizing() -> Any:
    config = model().processor.preprocessor
    source = two_discs(75, 100, 18)
    seen = picture.resize(source, picture.target_size(source.shape, config))
    drawn = plot.board(1, 2, (9, 3.6))
    plot.picture(source, ax=drawn.axes[0])
    plot.patch_grid(seen, patches.grid_of((1, 3, *seen.shape[:2]), config), config, drawn.axes[1])
    return drawn


@figure("resize-weights", 2, "Resizing is a matrix: which source pixels make one new pixel, growing and shrinking")
def resize_weights() -> Any:
    drawn = plot.board(1, 2, (10, 3.2))
    plot.resize_weights(*picture.bicubic_weights(10, 16), ax=drawn.axes[0])
    plot.resize_weights(*picture.bicubic_weights(30, 12), ax=drawn.axes[1])
    return drawn


@figure("two-cubics", 2, "Two curves that are both called bicubic")
def two_cubics() -> Any:
    x = np.linspace(-2.5, 2.5, 400)
    far = np.abs(x)
    near_part = 1.25 * far**3 - 2.25 * far**2 + 1                                     # a = -0.75 in Keys' formula
    far_part = -0.75 * (far**3 - 5 * far**2 + 8 * far - 4)
    other = np.where(far < 1, near_part, np.where(far < 2, far_part, 0))
    drawn = plot.board(1, 1, (7, 3))
    axis = drawn.axes[0]
    axis.plot(x, picture.cubic(x), color=plot.BLUE, label="a = -0.5: this model")
    axis.plot(x, other, "--", color=plot.ORANGE, label="a = -0.75: others")
    axis.axhline(0, color="grey", lw=0.5)
    axis.set(xlabel="distance in pixels", ylabel="weight", title="both are called bicubic")
    axis.legend(fontsize=8)
    return drawn


@figure("patch-grid", 3, "Patches of 14 pixels (thin lines), cells of 28 (thick lines)")
def patch_grid() -> Any:
    drawn = plot.board(1, 1, (7, 5))
    plot.patch_grid(scene().pixels, scene().inputs.image_grid_thw[0], model().config, drawn.axes[0])
    return drawn


@figure("patch-order", 3, "Patches in the order of their rows: the four of a cell follow each other")
def patch_order() -> Any:
    drawn = plot.board(1, 1, (7, 5))
    grid = scene().inputs.image_grid_thw[0]
    plot.patches(scene().inputs.pixel_values, grid, model().processor.preprocessor, drawn.axes[0])
    return drawn


@figure("raster-and-block-order", 3, "Two ways through 4 x 6 patches; only block order lets a reshape merge squares")
def raster_and_block_order() -> Any:
    grid = np.array([1, 4, 6])
    raster = np.stack(np.indices((4, 6)), axis=-1).reshape(-1, 2)                     # p 2: row and column
    block = patches.by_merge_block(raster.reshape(1, 4, 6, 2), 2)
    drawn = plot.board(1, 2, (11, 3.6))
    for axis, way, name in zip(drawn.axes, (raster, block), ("raster order", "block order"), strict=True):
        tokens = np.repeat(np.arange(6), 4)
        paint = np.empty(grid[1:], int)
        paint[tuple(way.T)] = tokens
        axis.imshow(paint, cmap="Pastel1", vmin=0, vmax=8)
        axis.plot(way[:, 1], way[:, 0], color=plot.INK, lw=1)
        for row, (y, x) in enumerate(way):
            axis.text(x, y, str(row), ha="center", va="center", size=9,
                      bbox={"facecolor": plot.PAPER, "edgecolor": "none", "pad": 1.5})
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{name}: colours are what a merge of four rows joins", size=9)
    return drawn


@figure("one-row-of-numbers", 3, "A row of pixel_values taken apart: 3 colours, 2 frames, 14 x 14 pixels")
def one_row_of_numbers() -> Any:
    number = int(np.flatnonzero((scene().at["p"][:, 2:] == (3, 2)).all(axis=1))[0])   # on the rim of a disc
    row = scene().inputs.pixel_values[number].reshape(3, 2, 14, 14)                   # x -> c t y x
    drawn = plot.board(2, 3, (7, 4.6))
    for axis, (t, c) in zip(drawn.axes, np.ndindex(2, 3), strict=True):
        first = c * row[0].size + t * row[0, 0].size
        axis.imshow(row[c, t], cmap="gray", vmin=-2, vmax=2)
        axis.set_title(f"{('red', 'green', 'blue')[c]}, frame {t}: {first}..{first + row[0, 0].size - 1}", size=8)
        axis.set(xticks=[], yticks=[])
    drawn.suptitle(f"row {number} of pixel_values", size=10)
    return drawn

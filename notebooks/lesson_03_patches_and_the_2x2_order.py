# %% [markdown]
# # Lesson 3: patches and the 2x2 order
#
# **The question.** The model does not read pixels one by one, it reads rows of 1,176 numbers. Which numbers
# are in a row, and in which order do the rows come? (Not in reading order. That is the point of this lesson.)
#
# **You need** NumPy (`reshape`, `transpose`), and from lesson 2: the picture is resized so that both sides
# are multiples of 28 pixels. A *patch* is a square of 14 x 14 pixels, a *cell* is a square of 2 x 2 patches,
# and each cell becomes one *visual token* in the end. Reading takes about 30 minutes, the two exercises
# another 35.
#
# ```
# picture.target_size   picture.resize   picture.normalise     lesson 2
# patches.patchify                                             <== you are here
# prompt.encode   prompt.expand   positions.mrope
# vision.embed_patches   vision.blocks.0.attend                lesson 4
# vision.merge_2x2                                             the pass for whose sake the order is what it is
# vision.restore_order   decoder.embed_tokens   decoder.layers.0.attend   decoder.logits
# sampling.most_likely
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.passes import patches

vlm = minivl.load()
config = vlm.processor.preprocessor

# %% [markdown]
# ## 1. A toy picture whose numbers say where they are
#
# We shrink everything: patches of 2 x 2 pixels instead of 14 x 14, one colour, 4 x 6 patches. Each pixel
# holds *10 times the number of its patch, plus its place in the patch* (0, 1 in the upper row, 2, 3 in the
# lower). Patches are numbered as one reads. So 73 is patch 7, lower right.

# %%
SIZE = 2  # pixels along a side of a toy patch
GH, GW = 4, 6  # rows and columns of patches
toy = np.empty((GH * SIZE, GW * SIZE), int)
for y in range(toy.shape[0]):
    for x in range(toy.shape[1]):
        patch = (y // SIZE) * GW + x // SIZE
        toy[y, x] = 10 * patch + (y % SIZE) * SIZE + x % SIZE


def show(axis, table, title):
    """Draw a table of toy pixels: every patch has its own colour, so that patches can be followed by eye."""
    axis.imshow(table // 10, cmap="turbo", alpha=0.45, vmin=0, vmax=GH * GW - 1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        axis.text(j, i, value, ha="center", va="center", fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])


figure, axis = plt.subplots(figsize=(8, 4))
show(axis, toy, f"the toy picture {toy.shape}")
plt.show()

# %% [markdown]
# ## 2. Cut it: `reshape` names, `transpose` moves
#
# We want a table with one row for each patch. The first idea is wrong:

# %%
print("toy.reshape(24, 4)[0] =", toy.reshape(24, 4)[0], "  four neighbours on one line: no patch")

# %% [markdown]
# `reshape` never moves a number. It reads them in the order in which they lie in memory, the last axis
# fastest, and only puts the brackets elsewhere. But it is good for *naming*: it splits the axis of 8 pixel
# rows into (4 rows of patches, 2 pixels in each), and the axis of 12 pixel columns into (6, 2).
#
# What moves numbers is `transpose`: it changes which axis comes first. So every cutting is the same three
# steps: split the axes, bring together what belongs together, join.

# %%
split = toy.reshape(GH, SIZE, GW, SIZE)  # h u -> gh py gw px
together = split.transpose(0, 2, 1, 3)  # gh py gw px -> gh gw py px
raster = together.reshape(GH * GW, SIZE * SIZE)  # -> p x: one row a patch, x numbers in it
print("split", split.shape, " together", together.shape, " joined", raster.shape)

figure, axes = plt.subplots(1, 2, figsize=(6, 6))
show(axes[0], toy.reshape(24, 4), "reshape alone: wrong")
show(axes[1], raster, "split, transpose, join")
plt.show()

# %% [markdown]
# On the right every row has one colour: it is one patch, and the patches come in reading order, row by row:
# **raster order**. If nothing else were to come, we should be done.
#
# ## 3. Block order
#
# But the model wants them cell by cell: the four patches of a 2 x 2 square one after the other, then the
# next square. This is the **block order**. (Of 2 x 2 blocks, that is: we keep to the word *cell*, since a block is
# also a layer.) The same three steps; the rows of patches are split once more, into (2 rows of cells, 2 patches in
# each), and the columns into (3, 2).

# %%
split = toy.reshape(GH // 2, 2, SIZE, GW // 2, 2, SIZE)  # h u -> cell_row in_row py cell_col in_col px
together = split.transpose(0, 3, 1, 4, 2, 5)  # -> cell_row cell_col in_row in_col py px
block = together.reshape(GH * GW, SIZE * SIZE)  # -> p x
print("split", split.shape, " together", together.shape, " joined", block.shape)
print("patches in raster order:", (raster[:, 0] // 10).tolist())
print("patches in block order: ", (block[:, 0] // 10).tolist())

figure, axes = plt.subplots(1, 2, figsize=(12, 4))
for axis, rows, name in zip(axes, [raster, block], ["raster order", "block order"], strict=True):
    numbers = rows[:, 0] // 10  # which patch each row is
    axis.imshow(np.arange(GH * GW).reshape(GH, GW), cmap="turbo", alpha=0.45, aspect="auto")
    axis.plot(numbers % GW, numbers // GW, color="black", lw=1.2, marker="o", ms=3)
    for place, number in enumerate(numbers):
        axis.text(number % GW - 0.42, number // GW - 0.25, f"row {place}", fontsize=8)
    axis.set(title=f"{name}: where each row of the table comes from", xticks=range(GW), yticks=range(GH))
    for edge in range(0, GW + 1, 2):
        axis.axvline(edge - 0.5, color="white", lw=3)
    for edge in range(0, GH + 1, 2):
        axis.axhline(edge - 0.5, color="white", lw=3)
plt.show()

# %% [markdown]
# In coordinates (row, column) of patches the block order begins (0,0) (0,1) (1,0) (1,1), then (0,2) (0,3)
# (1,2) (1,3).
#
# ## 4. Why: so that merging is a plain reshape
#
# At its end the vision part joins the four patches of a cell to one visual token (`vision.merge_2x2`). It
# does so in the cheapest way there is: take four consecutive rows and put them side by side.
#
# $$ (p \times d) \;\to\; (p/4 \times 4d) $$
#
# By then the $d$ numbers of a row are no pixels any more, but what all blocks have made of them. Still each row
# is that of its patch: blocks do not join rows, and where cells are moved (lesson 5) the four move together. So we
# may ask it of the pixels.
#
# Which pixels come together then? Let us do it to both tables and colour the picture by the token that each
# pixel ends up in.

# %%
def token_of_pixel(rows):
    """For a table of patches: a picture in which every pixel holds the number of its merged row."""
    merged = rows.reshape(len(rows) // 4, 4 * rows.shape[1])  # p x -> p/4 4x: merged by a reshape
    where = np.empty_like(toy)
    for token, values in enumerate(merged):
        where[np.isin(toy, values)] = token
    return where


figure, axes = plt.subplots(1, 2, figsize=(12, 3.6))
for axis, rows, name in zip(axes, [raster, block], ["raster order", "block order"], strict=True):
    where = token_of_pixel(rows)
    axis.imshow(where, cmap="tab10", vmin=0, vmax=9, alpha=0.6)
    for i, j in np.ndindex(GH, GW):
        token = where[i * SIZE, j * SIZE]
        axis.text(j * SIZE + 0.5, i * SIZE + 0.5, f"token {token}", ha="center", va="center", fontsize=8)
    axis.set(title=f"merged from {name}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# In block order each token is a square. In raster order the same code would merge strips of four patches,
# some of them torn at the border. All shapes are the same in both cases, so nothing would complain. (Inside a
# merged row the upper left patch comes first, then upper right, lower left, lower right. That matters as well: the
# weights that read the row have learned it so.)
#
# This answers three questions that readers of the original code have asked:
#
# - *Is the order of axes there a bug?* No: without it, the reshape of `vision.merge_2x2` would be one
#   (QwenLM/Qwen3-VL#263).
# - *It seems to merge only along the width.* It would, if the rows came in raster order (#485, #633).
# - *Is a patch 14 or 28 pixels?* Patches are 14; what is made of four of them covers 28 (#987).
#
# ## 5. The real thing: three colours, two frames, 1,176 numbers
#
# A real row has more in it. The model also reads video, and there a patch covers **two** consecutive frames.
# A picture is treated as a video of one frame shown twice. So a row holds 3 colours x 2 frames x 14 x 14
# pixels = 1,176 numbers, and inside a row the number of colour $c$, frame $t$, pixel row $p_y$, pixel column
# $p_x$ (both counted inside the patch) stands at
#
# $$ c \cdot 392 + t \cdot 196 + p_y \cdot 14 + p_x $$
#
# Frames come before colours in what is cut, colours before frames in a row: for no better reason than that the
# weights were trained so.
#
# We build it by hand: one reshape with eight axes, one transpose, one reshape. Every axis has its name in the
# comment.

# %%
image = Image.new("RGB", (112, 84), (200, 200, 205))
ImageDraw.Draw(image).ellipse([12, 10, 60, 58], fill=(222, 40, 40))
ImageDraw.Draw(image).polygon([(70, 74), (104, 74), (87, 36)], fill=(45, 75, 225))
content = [{"type": "image", "image": image}, {"type": "text", "text": "Describe the image."}]
messages = [{"role": "user", "content": content}]
inputs = vlm.prepare(messages)

mean, std = np.float32(config.image_mean), np.float32(config.image_std)
frame = ((np.asarray(image) / 255).astype(np.float32) - mean) / std  # h u 3, as in lesson 2
frames = np.stack([frame, frame]).transpose(0, 3, 1, 2)  # shown twice: 2 h u 3 -> 2 3 h u
gh, gw = frames.shape[2] // 14, frames.shape[3] // 14


def cut(frames):
    """(2, 3, h, u) -> (p, 1176) in block order."""
    gh, gw = frames.shape[2] // 14, frames.shape[3] // 14
    split = frames.reshape(2, 3, gh // 2, 2, 14, gw // 2, 2, 14)  # t c cell_row in_row py cell_col in_col px
    together = split.transpose(2, 5, 3, 6, 1, 0, 4, 7)  # -> cell_row cell_col in_row in_col c t py px
    return together.reshape(gh * gw, 3 * 2 * 14 * 14)  # -> p x


by_hand = cut(frames)
print("frames", frames.shape, "-> rows", by_hand.shape, "  grid of patches:", (gh, gw))
by_pass = patches.patchify(frames, config)
print("equal to the pass patches.patchify:", np.array_equal(by_hand, by_pass))
print("against what the model was given, largest difference:", np.abs(by_hand - inputs.pixel_values).max())
print("image_grid_thw:", inputs.image_grid_thw.tolist(), " (frame pairs, rows and columns of patches)")

# %%
figure, axes = plt.subplots(2, 3, figsize=(7, 4.4))
row = by_hand[5].reshape(3, 2, 14, 14)  # x -> c t py px
for c, t in np.ndindex(3, 2):
    axes[t, c].imshow(row[c, t], cmap="gray", vmin=-2, vmax=2)
    colour, first = ["red", "green", "blue"][c], c * 392 + t * 196
    axes[t, c].set_title(f"{colour}, frame {t}\nnumbers {first}..{first + 195}", fontsize=8)
    axes[t, c].axis("off")
figure.suptitle("row 5 of pixel_values, taken apart")
plt.tight_layout()
plt.show()

tiles = by_hand.reshape(48, 3, 2, 14, 14)[:, :, 0].transpose(0, 2, 3, 1)  # p x -> p c t py px -> p py px c
tiles = (tiles * std + mean).clip(0, 1)  # frame 0, back to 0..1
tiles = np.pad(tiles, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1)  # a white border of one pixel
puzzle = tiles.reshape(6, 8, 16, 16, 3).transpose(0, 2, 1, 3, 4).reshape(96, 128, 3)  # laid out as one reads
figure, axis = plt.subplots(figsize=(7, 5.2))
axis.imshow(puzzle)
for n in range(48):
    axis.text(16 * (n % 8) + 2, 16 * (n // 8) + 5, n, fontsize=8)
axis.set(xticks=[], yticks=[], title="all rows, drawn in the order in which they lie in memory")
plt.show()

# %% [markdown]
# The second figure looks like a puzzle because we drew the rows as one reads, and that is not how they are
# ordered.
#
# ### One bright pixel
#
# The best way to believe a formula about an order is to send a single 1 through the code and see where it
# comes out.

# %%
c, y, x = 2, 45, 71  # blue, pixel row 45, pixel column 71
dark = np.zeros((1, 3, 84, 112), np.float32)  # one frame; the pass repeats it
dark[0, c, y, x] = 1
found = np.argwhere(patches.patchify(dark, config))

patch_row, patch_col = y // 14, x // 14
row_wanted = ((patch_row // 2) * (8 // 2) + patch_col // 2) * 4 + (patch_row % 2) * 2 + patch_col % 2
for t, (row, place) in enumerate(found):
    place_wanted = c * 392 + t * 196 + (y % 14) * 14 + x % 14
    print(f"frame {t}: found at row {row}, place {place};  the formulas say row {row_wanted}, "
          f"place {c} * 392 + {t} * 196 + {y % 14} * 14 + {x % 14} = {place_wanted}")

# %% [markdown]
# The package has this question as a function. The same pixel, through all later passes too. Read `cell` (row and
# column), `patches` (its four rows, our 27 among them), `token` (the visual token that they become) and `box` (the
# pixels that it covers: left, upper, right, lower border; `source_box` the same in the picture as it came). The
# rest is of later lessons: `window_rows` and `segments` of lessons 4 and 5, `sequence` and `position`, the token's
# place in the prompt, of 9 and 10; `medium` and `time` count pictures and frames.

# %%
print(minivl.where_pixel(inputs, vlm.config, x=71, y=45))

# %% [markdown]
# ## 6. Now break it
#
# What would raster order break? We put our own `patchify` in place of the model's, and ask for every check
# that there is (`verify=True`: each pass gets and gives arrays with the axes that it declares, no label comes
# twice, no NaN). **Predict**: will it be noticed?
#
# The picture is a single disc: the small model errs on crowded ones, and a fault is judged best where the
# model is right without it. "No fault" below is what it says then; compare that with the truth first.

# %%
def cut_raster(frames, config):
    """Everything right except for the order of the rows. t 3 h u -> p x"""
    frames = np.concatenate([frames, frames[-1:]])  # a picture: one frame, shown twice
    gh, gw = frames.shape[2] // 14, frames.shape[3] // 14
    split = frames.reshape(2, 3, gh, 14, gw, 14)  # t c gh py gw px
    return split.transpose(2, 4, 1, 0, 3, 5).reshape(gh * gw, -1)  # -> gh gw c t py px -> p x


disc = Image.new("RGB", (112, 84), (200, 200, 205))
ImageDraw.Draw(disc).ellipse([32, 18, 80, 66], fill=(222, 40, 40))
content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]
about_disc = [{"role": "user", "content": content}]
whole = vlm.prepare(about_disc)

with minivl.using({"patches.patchify": cut_raster}), minivl.session(verify=True):
    broken = vlm.prepare(about_disc)
    print("shape", broken.pixel_values.shape, "and the same numbers in all:",
          np.array_equal(np.sort(broken.pixel_values, axis=None), np.sort(whole.pixel_values, axis=None)))
    print("raster order:", vlm.ask(disc, "Describe the image."))
print("no fault:    ", vlm.ask(disc, "Describe the image."))
print("truth:        A red circle.")

# %% [markdown]
# No check fails: all shapes are right, and it is a permutation, so even the sum of all numbers is right. (Do
# not judge by the answer either: with luck a torn picture gets a right one.) Only what belongs together is
# torn. Here is each token's mean colour, put where the model believes the token to be:

# %%
def token_colours(pixel_values):
    """Mean colour of each token's pixels, arranged as the tokens are: (3, 4, 3), 0..1."""
    four = pixel_values.reshape(12, 4, 3, 2 * 14 * 14)  # p x -> tokens in_cell c (t py px)
    return (four.mean(axis=(1, 3)) * std + mean).reshape(3, 4, 3).clip(0, 1)


shown = {"the picture": disc, "tokens from block order": token_colours(whole.pixel_values),
         "tokens from raster order": token_colours(broken.pixel_values)}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
for axis, title in zip(axes, shown, strict=True):
    axis.imshow(shown[title])
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# More ways to be wrong with all shapes right. How far do the visual tokens move (`vision`, before any text)?
# How far the scores of the next token?

# %%
def cut_with(order):
    """A patchify with other axes at the end; right is cell_row cell_col in_row in_col c t py px."""
    def patchify(frames, config):
        frames = np.concatenate([frames, frames[-1:]])
        gh, gw = frames.shape[2] // 14, frames.shape[3] // 14
        return frames.reshape(2, 3, gh // 2, 2, 14, gw // 2, 2, 14).transpose(order).reshape(gh * gw, -1)
    return patchify


def moved(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


faults = {"no fault": cut_with((2, 5, 3, 6, 1, 0, 4, 7)), "raster order": cut_raster,
          "frame before colour": cut_with((2, 5, 3, 6, 0, 1, 4, 7)),
          "pixel columns first": cut_with((2, 5, 3, 6, 1, 0, 7, 4)),
          "cells read downwards": cut_with((2, 5, 6, 3, 1, 0, 4, 7)),
          "colour last": cut_with((2, 5, 3, 6, 0, 4, 7, 1))}
wanted = vlm.vision(whole), vlm.logits(whole)[-1]
for name, fault in faults.items():
    with minivl.using({"patches.patchify": fault}):
        wrong = vlm.prepare(about_disc)
        answer = vlm.ask(disc, "Describe the image.")
    print(f"{name:22s} visual tokens move {moved(vlm.vision(wrong), wanted[0]):7.1%}   scores "
          f"{moved(vlm.logits(wrong)[-1], wanted[1]):7.1%}   {answer}")

# %% [markdown]
# (Per cent: the length of the difference over that of the right rows, as in lesson 1, section 9.) Two of them look
# harmless. *Frame before colour*: both frames are the same, but where the weights look for the second red frame,
# green stands now. *Cells read downwards*: only the upper right and the lower left patch of a cell change places, so
# each token keeps its own pixels. Nor need a large move make the answer wrong: the answer needs only the best score
# to stay the best.
#
# ## Exercise 3.1: which row is it? (about 15 minutes)
#
# Write `row_of_patch(row, col, gw)`: the row of `pixel_values` that holds the patch at (row, col) of a
# picture that is `gw` patches wide. Try it on paper with the path of section 3 first. (You have seen a
# one-line formula in section 5; write yours so that you could explain every factor.)
#
# <details><summary>Hint 1</summary>Two questions: how many whole cells come before the patch's cell, and
# which of the four in its cell is it?</details>
# <details><summary>Hint 2</summary>Its cell is (row // 2, col // 2), and there are gw // 2 cells in a row
# of cells. Each cell has 4 patches.</details>
# <details><summary>Hint 3</summary>before = (row // 2) * (gw // 2) + col // 2; inside = 2 * (row % 2) + col %
# 2; the answer is 4 * before + inside.</details>

# %%
def row_of_patch(row, col, gw):
    """The row of pixel_values of the patch at (row, col), for a picture gw patches wide."""
    ### BEGIN SOLUTION
    cells_before = (row // 2) * (gw // 2) + col // 2
    inside = 2 * (row % 2) + col % 2
    return 4 * cells_before + inside
    ### END SOLUTION


# %% tags=["check"]
minivl.check("3.1", row_of_patch)

# %% [markdown]
# ## Exercise 3.2: put the puzzle together (about 20 minutes)
#
# Write `to_picture(rows, gh, gw)`: from the rows (p, 1176) of one picture back to its first frame (3, 14 gh,
# 14 gw). With it you can always look at what a model was *really* given.
#
# <details><summary>Hint 1</summary>The three steps again, backwards: split the axes into their names,
# transpose, join. Write down the eight names of rows.reshape(...) in order.</details>
# <details><summary>Hint 2</summary>rows.reshape(gh // 2, gw // 2, 2, 2, 3, 2, 14, 14) is cell_row cell_col
# in_row in_col c t py px. Take frame 0 first, so that only seven axes are left.</details>
# <details><summary>Hint 3</summary>After [:, :, :, :, :, 0] the axes are cell_row 0, cell_col 1, in_row 2,
# in_col 3, c 4, py 5, px 6. Height is (cell_row, in_row, py), so transpose(4, 0, 2, 5, 1, 3, 6), then
# reshape.</details>

# %%
def to_picture(rows, gh, gw):
    """(p, 1176) -> (3, 14 gh, 14 gw): the first frame."""
    ### BEGIN SOLUTION
    split = rows.reshape(gh // 2, gw // 2, 2, 2, 3, 2, 14, 14)  # cell_row cell_col in_row in_col c t py px
    first = split[:, :, :, :, :, 0]  # -> cell_row cell_col in_row in_col c py px
    together = first.transpose(4, 0, 2, 5, 1, 3, 6)  # -> c cell_row in_row py cell_col in_col px
    return together.reshape(3, 14 * gh, 14 * gw)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("3.2", to_picture)
back = to_picture(inputs.pixel_values, 6, 8)  # a look at what the model was given
plt.imshow((back.transpose(1, 2, 0) * std + mean).clip(0, 1))
plt.title(f"to_picture(pixel_values) {back.shape}")
plt.show()

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `patches.patchify` | `patchify` of `Qwen2VLImageProcessor` |
# | rows (p, 1176) | `pixel_values`; for video `pixel_values_videos` |
# | `merge_size` | `merge_size` of the processor, `spatial_merge_size` of the model |
# | two frames in a row | `temporal_patch_size` |
# | the product with a 1,176 wide matrix that follows | `Qwen2_5_VisionPatchEmbed`, written as a `Conv3d` |
# | `vision.merge_2x2` | `Qwen2_5_VLPatchMerger`, its `view(-1, 4 * width)` is the reshape of section 4 |
#
# A port to another framework once got the order wrong twice before it was right, because every wrong version
# runs (kekzl/imp#1167). You now have the two tests that find it: the bright pixel and the puzzle.
#
# ## Read next
#
# - `minivl/passes/patches.py`: the same for any number of frames.
# - Lesson 4: each patch is a row of numbers. How do the rows look at each other?

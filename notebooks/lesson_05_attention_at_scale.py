# %% [markdown]
# # Lesson 5: attention at scale
#
# **The question.** Six patches could all look at each other. A photo has thousands. Who looks at whom then,
# in which order do the rows stand, what happens at the ragged edges, and what does it cost?
#
# **You need** from lesson 3: a *patch* is 14 x 14 pixels, a *cell* is 2 x 2 patches, four consecutive rows;
# from lesson 4: *attention*, a *segment* `q0 q1 k0 k1` ("queries q0 to q1 see keys k0 to k1"). Reading takes
# about 40 minutes, the two exercises another 35.
#
# ```
# picture.target_size   picture.resize   picture.normalise     lesson 2
# patches.patchify                                             lesson 3
# vision.window_order                                          <== you are here: sections 2 and 3
# vision.schedule                                              <== sections 4, 6 and 7
# vision.embed_patches   vision.order_by_window                the rows are moved once, here
# vision.blocks.0.attend                                       lesson 4: what each block does with a segment
# vision.merge_2x2   vision.restore_order                      ... and moved back at the end (lesson 8)
# decoder.layers.0.attend   decoder.logits   sampling.most_likely
# ```

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.passes import windows
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True, linewidth=110)
vlm = minivl.load()
vision = vlm.config.vision  # the sizes of the vision tower of the small model in the package


def scene(height, width):
    """Two red discs on light grey."""
    image = Image.new("RGB", (width, height), (200, 200, 205))
    for x in (width // 4, 3 * width // 4):
        box = [x - 22, height // 2 - 22, x + 22, height // 2 + 22]
        ImageDraw.Draw(image).ellipse(box, fill=(222, 40, 40))
    return image


def about(image, text="Describe the image."):
    return vlm.prepare([{"role": "user", "content": [{"type": "image", "image": image},
                                                     {"type": "text", "text": text}]}])


# %% [markdown]
# ## 1. What all pairs cost
#
# If each of $n$ rows looks at each, there are $n^2$ scores: in every head of every block. Twice as many
# pixels along both sides are four times as many patches and sixteen times as many scores.

# %%
sizes = [(112, 112), (224, 224), (476, 644), (1092, 1932), (2912, 4368)]  # height, width
print("   pixels          patches n          pairs n x n      as float32")
for h, u in sizes:
    n = (h // 14) * (u // 14)
    print(f"{h:5d} x {u:<5d} {n:12,d} {n * n:20,d} {4 * n * n / 2**30:11.3f} GiB for one head")

# %% [markdown]
# The last line is a 12-megapixel photo. The official tower has 16 heads and 32 blocks. So something must be
# left out. But what? Neighbouring patches have most to say to each other, so most blocks look at neighbours
# only.
#
# ## 2. Windows
#
# The picture is cut into **windows**: squares of 112 x 112 pixels in the official models, which is 8 x 8
# patches or 4 x 4 cells. (`window_size` in the configuration is 112: it counts *pixels*. Readers have taken
# it for patches.) A patch looks at the patches of its own window, and at no others.
#
# Windows are counted in cells, since a cell must never be torn. Let a picture have 5 x 7 cells and a window 4
# x 4. Which window is the cell at row $r$, column $c$ in? Windows are numbered as one reads:
#
# $$ \mathrm{window}(r, c) = \lfloor r / 4 \rfloor \cdot \lceil 7 / 4 \rceil + \lfloor c / 4 \rfloor $$
#
# The number of windows in a row is rounded **up**, $\lceil 7/4 \rceil = 2$: three columns are left over, and
# they are a window too, only a smaller one.

# %%
ROWS, COLUMNS, SIDE = 5, 7, 4  # cells, cells, cells along a side of a window
across = -(-COLUMNS // SIDE)  # rounded up
number = np.array([[(r // SIDE) * across + c // SIDE for c in range(COLUMNS)] for r in range(ROWS)])

figure = plot.board(1, 2, (11, 3))
cells = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
table(cells, figure.axes[0], "cells, numbered as one reads", range(ROWS), range(COLUMNS))
table(number, figure.axes[1], "the window of each cell (0 to 3)", range(ROWS), range(COLUMNS))
print("cells in each window:", np.bincount(number.ravel()), "  together:", np.bincount(number.ravel()).sum())
figure

# %% [markdown]
# Four windows of 16, 12, 4 and 3 cells. Check the 3: one row, three columns.
#
# These smaller windows are the **ragged edges**. They are not filled up to whole ones; section 5 shows why.
#
# ## 3. Sort the cells once, and every window is a run
#
# In the picture's order the cells of window 0 are 0 1 2 3, then 7 8 9 10, and so on: torn apart. We sort
# the cells by the number of their window. The sort must be **stable**: cells of one window stay in the
# order in which they came. (Attention inside a window would not care. But rows must be those of the
# reference, or nothing can be compared.) The list of cells in the new order is the **window order**.

# %%
order = np.argsort(number.ravel(), kind="stable")  # c: which cell comes at place 0, 1, 2, ...
print("window order:", order)
print("their windows:", number.ravel()[order])

figure = plot.board(1, 2, (11, 3))
place = np.empty(len(order), int)
place[order] = np.arange(len(order))  # the other way round: at which place a cell comes
table(place.reshape(ROWS, COLUMNS), figure.axes[0], "at which place each cell comes")
figure.axes[1].imshow(number, cmap="Pastel1")
figure.axes[1].plot(order % COLUMNS, order // COLUMNS, "k.-", lw=1)
figure.axes[1].set_title("the way through the picture", size=9)
figure

# %% [markdown]
# Two tables, easily confused. `order[j]` is *which cell comes at place j*. `place[i]` is *at which place cell
# i comes*. Rows are sorted with `rows[order]` and put back with `sorted_rows[place]`. And `place` is
# `np.argsort(order)`.

# %%
print("place == argsort(order):", np.array_equal(place, np.argsort(order)))
rows = np.array([f"cell {i}" for i in range(35)])
print("put back with place:", np.array_equal(rows[order][place], rows))
print("put back with order:", np.array_equal(rows[order][order], rows), " <- the bug")

blind = np.zeros((8, 8), int)
for high in range(1, 9):  # on which pictures, 1 x 1 to 8 x 8 cells, is order its own inverse?
    for wide in range(1, 9):
        r, c = np.indices((high, wide)).reshape(2, -1)  # row and column of each cell
        in_a_row = -(-wide // SIDE)  # windows side by side: rounded up
        sort = np.argsort((r // SIDE) * in_a_row + c // SIDE, kind="stable")
        blind[high - 1, wide - 1] = np.array_equal(sort, np.argsort(sort))
figure = plot.board(1, 1, (4.2, 3.2))
table(blind, figure.axes[0], "1: a picture of this size hides the bug", range(1, 9), range(1, 9))
figure.axes[0].set(xlabel="columns of cells", ylabel="rows of cells")
figure

# %% [markdown]
# Putting back with `order` is right wherever a 1 stands: on every picture that is at most one window wide,
# for instance, whatever its height. (Or on 2 x 8 cells, by luck: two runs of four change places, and doing that
# twice undoes it.) A test with a small or narrow picture passes (lablup/mlxcel#1601).
#
# The order hides another mistake on *every* picture. Round the number of windows in a row down:

# %%
def numbers(high, wide, in_a_row):
    """The number of the window of each cell: c."""
    r, c = np.indices((high, wide)).reshape(2, -1)
    return (r // SIDE) * in_a_row + c // SIDE


down = numbers(ROWS, COLUMNS, COLUMNS // SIDE)
print("rounded up:  ", np.bincount(number.ravel()), "cells in each window")
print("rounded down:", np.bincount(down), "cells in each")
sizes_tried = [(high, wide) for high in range(1, 13) for wide in range(1, 13)]
alike = [np.array_equal(np.argsort(numbers(high, wide, wide // SIDE), kind="stable"),
                        np.argsort(numbers(high, wide, -(-wide // SIDE)), kind="stable"))
         for high, wide in sizes_tried]
print(f"the order is the same on {sum(alike)} of {len(alike)} pictures")

# %% [markdown]
# The last window of a row now has the number of the first window of the next row, so the two are taken for one. But
# the sort is stable, and all cells of the one come before all cells of the other, as one reads: nothing moves. The
# order is right, the lengths are wrong, and the lengths are what section 4 makes the segments of. So an order that
# equals the reference's proves nothing about the windows. (Exercise 5.1 asks for the order alone, and cannot see it
# either; section 9 plants this fault where it shows.)
#
# In the model, whole cells move: four rows of patches at a time. So the four rows of a cell stay together:

# %%
patch_rows = np.arange(4 * 35)  # p: rows of patches as cut (lesson 3: the four of a cell are consecutive)
moved = patch_rows.reshape(35, 4)[order].reshape(-1)  # p -> cells 4 -> cells in window order 4 -> w
print("the first rows after sorting:", moved[:24])
print("as the pass does it:", np.array_equal(moved, windows.order_by_window(patch_rows, order)))

# %% [markdown]
# ## 4. The segments of a windowed block
#
# Now every window is a run of rows. A **schedule** says for each block who sees whom: a table of segments,
# one for each window. Cells times four are patches; the ends are running sums.

# %%
lengths = 4 * np.bincount(number.ravel())  # patches in each window
ends = np.cumsum(lengths)
segments = np.stack([ends - lengths, ends, ends - lengths, ends], axis=1)  # g 4: q0 q1 k0 k1
print("patches in each window:", lengths, "\nsegments q0 q1 k0 k1:\n", segments)

figure = plot.board(1, 1, (4.2, 3.8))
plot.segments(segments, figure.axes[0])
figure

# %% [markdown]
# In blue and orange is what is computed, white is what is left out. There is no array of that shape in the
# model: the table of four lines is all.
#
# We have built by hand what two passes give. Are they equal, for any picture? The passes take a **grid**: frame
# pairs, rows and columns of patches, in one line for each picture. A configuration with windows of 112 pixels
# is made from the model's own.

# %%
official = dataclasses.replace(vision, window_size=112)


def by_hand(gh, gw, side):
    """Window order and segments of a picture of gh x gw patches."""
    r, c = np.indices((gh // 2, gw // 2)).reshape(2, -1)
    window = (r // side) * -(-(gw // 2) // side) + c // side
    ends = np.cumsum(4 * np.bincount(window))
    starts = np.concatenate([[0], ends[:-1]])
    return np.argsort(window, kind="stable"), np.stack([starts, ends, starts, ends], axis=1)


windowed = next(n for n in range(vision.depth) if n not in vision.fullatt_block_indexes)
for gh, gw in [(10, 14), (8, 8), (2, 2), (34, 46), (4, 22)]:
    grid = np.array([[1, gh, gw]])
    order, segments = by_hand(gh, gw, 4)
    same = (np.array_equal(order, windows.window_order(grid, official)),
            np.array_equal(segments, windows.schedule(grid, official)[windowed]))
    print(f"{gh} x {gw} patches: {len(segments)} windows, order and segments equal to the passes: {same}")

# %% [markdown]
# ## 5. Why nothing is filled up
#
# Many programs fill the last windows with zeros, so that all have one size. That is dangerous. A key of zeros
# has the score 0 with every query. And $e^0$ is 1, not 0: softmax gives it a share. Its value is zero as well, so
# what the real ones hand over shrinks. (So it is with zeros put in after `project_qkv`. Zeros put in before it come
# out as the biases: some other score, some share all the same, and a value that nobody has meant.)

# %%
scores = np.array([0.0, 0.0, -1.0])  # three real patches
filled = np.concatenate([scores, np.zeros(13)])  # and thirteen rows of zeros up to 16


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


print("shares of the real ones:", softmax(scores))
print("filled up:              ", softmax(filled)[:3], "; the zeros take", softmax(filled)[3:].sum().round(2))

# %% [markdown]
# So whoever fills up must also mask, and does work for nothing. The reference fills up while it makes the
# *order*, marks the fillers with -100, and takes them out again. Here it is in plain code. The result is the
# same list:

# %%
def order_as_in_the_reference(rows, columns, side):
    """Fill up with -100 to whole windows, cut, leave the -100 out."""
    down, across = side - rows % side, side - columns % side  # a whole extra window if nothing is left over
    index = np.arange(rows * columns).reshape(rows, columns)
    index = np.pad(index, ((0, down), (0, across)), constant_values=-100)
    cut = index.reshape(len(index) // side, side, -1, side)  # window row, row in it, window column, column
    cut = cut.swapaxes(1, 2)  # -> window row, window column, row in it, column in it
    return cut[cut != -100]


print(order_as_in_the_reference(ROWS, COLUMNS, SIDE))
print("equal:", all(np.array_equal(order_as_in_the_reference(r, c, 4), by_hand(2 * r, 2 * c, 4)[0])
                    for r in range(1, 12) for c in range(1, 12)))

# %% [markdown]
# A picture with ragged edges, under the windows of the small model in the package. Its windows are
# `vision.window_size` pixels a side, smaller than the official ones, so that small pictures have several.

# %%
image = scene(140, 196)
inputs = about(image)
grid = inputs.image_grid_thw[0]
pixels = np.asarray(image)  # its sides are multiples of 28 already
figure = plot.board(1, 1, (6.5, 4.8))
plot.windows(pixels, grid, vlm.config, figure.axes[0])
figure

# %% [markdown]
# Numbers are places in the window order. Follow the line with a finger; dotted is a jump.
#
# ## 6. Full blocks: how news travels
#
# With windows alone, a patch would never hear of the other half of the picture. So a few blocks are **full
# blocks**: there every patch sees all patches of its frame. In the official models these are blocks 7, 15,
# 23 and 31 of 32 (`fullatt_block_indexes`; the small model has others, named above each figure).
# The rows stay in window order; only the table of segments is another.
#
# Let us watch it. We change the pixels of *one* patch, run both pictures through the tower, and ask after
# each block: which rows have changed at all?

# %%
print("full blocks:", vision.fullatt_block_indexes, "of", vision.depth)
changed = inputs.pixel_values.copy()
changed[0] += 1.0  # the patch in the upper left corner
touched = minivl.Inputs.from_ids(inputs.input_ids, vlm.config, changed, inputs.image_grid_thw)
traces = []
for one in (inputs, touched):
    with minivl.session(record="vision.*") as session:
        vlm.vision(one)
    traces.append(session.trace)

at = minivl.provenance(inputs, vlm.config)  # the patch behind each row; "w" below: rows in window order
figure = plot.board(2, -(-vision.depth // 2), (12, 5.4))
for block, axis in zip(range(vision.depth), figure.axes, strict=False):
    a, b = (trace[f"vision.blocks.{block}.add_mlp"] for trace in traces)
    reached = (a != b).any(axis=1)  # w: True where any number of the row is another
    plot.rows(reached.astype(float), "w", at, axis, label="changed")
    axis.images[-1].set_clim(0, 1)
    kind = "full" if block in vision.fullatt_block_indexes else "windows"
    axis.set_title(f"after block {block} ({kind}):\n{reached.sum()} of {len(reached)} rows", size=9)
figure

# %% [markdown]
# In a windowed block the news stays inside the window, to the last bit: each window is computed from its own rows
# alone. The first full block carries it everywhere, and leaves nothing to watch. After that
# every row knows a little of every patch. How *much* each knows is another matter; here only "changed or not" is
# drawn.
#
# ## 7. Frames never look at each other
#
# A video is several frames (in pairs, lesson 3). Does a full block see all of them? No. The segments of a
# full block are *frames*. Time meets time only inside a patch, which holds two frames, and later in the
# decoder. Look at the table, and then measure it: we change the first pair and ask whether the second pair
# moved.

# %%
discs = np.asarray(scene(56, 84))
frames = [discs, discs, np.full_like(discs, 90), np.full_like(discs, 160)]
content = [{"type": "video", "video": frames, "fps": 2.0}, {"type": "text", "text": "Describe the video."}]
video = vlm.prepare([{"role": "user", "content": content}])
t, gh, gw = video.video_grid_thw[0]
full_block = vision.fullatt_block_indexes[0]  # (fps: frames a second; lesson 10 makes places in time of it)
print("grid", (int(t), int(gh), int(gw)), "= frame pairs, rows, columns of patches")
print("segments of a full block:", windows.schedule(video.grids, vision)[full_block].tolist())

other = video.pixel_values_videos.copy()
other[: gh * gw] += 1.0  # every patch of the first pair
grown = minivl.Inputs.from_ids(video.input_ids, vlm.config, pixel_values_videos=other,
                               video_grid_thw=video.video_grid_thw,
                               second_per_grid_ts=video.second_per_grid_ts)
a, b = vlm.vision(video), vlm.vision(grown)
cells_a_frame = gh * gw // 4
print("visual tokens of the first pair moved: ", bool((a[:cells_a_frame] != b[:cells_a_frame]).any()))
print("visual tokens of the second pair moved:", bool((a[cells_a_frame:] != b[cells_a_frame:]).any()))

# %% [markdown]
# False means not one bit. The same holds for two pictures in one prompt: they meet in the decoder, not here.
#
# ## 8. What it costs
#
# Windows make the pairs grow with the *area* of the picture, not with its square: each patch sees at most 64
# patches, itself among them. Below, a windowed and a full block for pictures of growing size.

# %%
def pairs_of(g):
    """Pairs of rows that a table of segments makes: g 4 -> one integer."""
    return int(((g[:, 1] - g[:, 0]) * (g[:, 3] - g[:, 2])).sum())


sides = np.arange(56, 2801, 196) // 28 * 28
counts = []
for s in sides:
    tables = windows.schedule(np.array([[1, s // 14, s // 14]]), official)
    counts.append([pairs_of(tables[windowed]), pairs_of(tables[full_block])])
counts = np.array(counts)
figure, axis = plt.subplots(figsize=(7, 3.2))
axis.loglog(sides, counts[:, 0], "o-", color=plot.BLUE, label="a windowed block")
axis.loglog(sides, counts[:, 1], "s-", color=plot.ORANGE, label="a full block")
axis.set(xlabel="pixels along a side", ylabel="pairs of patches", title="pairs in one head of one block")
axis.legend()
plt.show()
n = (1092 // 14) * (1932 // 14)
photo = windows.schedule(np.array([[1, 78, 138]]), official)[windowed]
print(f"1092 x 1932 pixels: {n:,} patches, {n * n:,} pairs in full, {pairs_of(photo):,} in windows")

# %% [markdown]
# And is attention what costs most? Count all operations of the official 3B model, for a photo of 1092 x 1932
# pixels. This runs no arithmetic. (An *interpreter* is a second set of kernels, put behind the same passes. This
# one, `shapes`, carries arrays that hold nothing but their shape, so no weights are needed either. The names come
# from the inside of the package: read the result rather than the cell.) A multiplication and an addition count as
# two operations.

# %%
from minivl.checkpoint.names import blank_tensors, build
from minivl.config import official_config
from minivl.kernels import interpreter, shapes
from minivl.model import vision as vision_tower
from minivl.door.stage import running

config = official_config("3B")
grids = np.array([[1, 78, 138]])
few = config.vision.fullatt_block_indexes
profiles = {}
for name, full in {"as it is: 4 full blocks of 32": few, "every block full": tuple(range(32))}.items():
    tower = dataclasses.replace(config.vision, fullatt_block_indexes=full)
    chosen = dataclasses.replace(config, vision=tower)
    weights = build(blank_tensors(chosen), chosen, "float32").vision
    with minivl.session(profile=True) as session, running(interpreter("shapes")):
        vision_tower(shapes.blank(78 * 138, config.vision.patch_values), grids, weights)
    profiles[name] = session.profile

figure = plot.board(1, 2, (12, 3))
for axis, (name, profile) in zip(figure.axes, profiles.items(), strict=True):
    plot.costs(profile, axis)
    axis.set_title(f"{name}: {axis.get_title()}", size=9)
figure

# %% [markdown]
# `add_mlp` (three matrices, lesson 7), `project_qkv` and `add_attended` are linear maps nearly throughout; `attend`
# is the attention. In windows the linear maps cost most, and they grow with the number of patches. What `attend`
# still costs is the four full blocks: 4 times 115.9 million pairs, beside 28 times 0.67 million in windows. With
# every block full, attention would cost most, and it would grow with the square. The windows are there for large
# pictures.
#
# ## 9. Now break it
#
# Six faults that have been in ports, or are one line away. (`.definition` is a pass's plain function: under its
# own name we should get our replacement back.) Three pictures: one with ragged edges, one that is
# exactly two windows wide and one high, and one that is a single window. **Predict** for each fault: which
# pictures does it move?

# %%
def as_block(block):
    """Every block gets the segments of this one."""
    return lambda grids, config: (windows.schedule.definition(grids, config)[block],) * config.depth


def swapped(grids, config):
    """Windows where full blocks should be, and the other way round."""
    tables = windows.schedule.definition(grids, config)
    full = config.fullatt_block_indexes
    return tuple(tables[windowed if n in full else full_block] for n in range(len(tables)))


def reading_order(grids, config):
    """The rows are never sorted, but the segments believe that they are."""
    return np.arange(int(grids.prod(axis=1).sum()) // 4)


def rounded_down(grids, config):
    """Windows in a row rounded down (section 3): the order stays right, two windows get one segment."""
    _, gh, gw = (int(n) for n in grids[0])
    r, c = np.indices((gh // 2, gw // 2)).reshape(2, -1)
    side = config.window_cells
    lengths = 4 * np.bincount((r // side) * max(1, gw // 2 // side) + c // side)
    ends = np.cumsum(lengths)
    joined = np.stack([ends - lengths, ends, ends - lengths, ends], axis=1)
    right = windows.schedule.definition(grids, config)
    return tuple(right[n] if n in config.fullatt_block_indexes else joined for n in range(config.depth))


faults = {"windows in every block": {"vision.schedule": as_block(windowed)},
          "no windows": {"vision.schedule": as_block(full_block)},
          "the two kinds swapped": {"vision.schedule": swapped},
          "rows not sorted": {"vision.window_order": reading_order},
          "windows in a row rounded down": {"vision.schedule": rounded_down},
          "put back with order": {"vision.restore_order": lambda cells, order: cells[order]}}
side = vision.window_size
shapes_of = {"ragged": scene(side + 28, 2 * side + 28), "whole windows": scene(side, 2 * side),
             "one window": scene(side, side)}
print(f"{'':32s}" + "".join(f"{name:>16s}" for name in shapes_of))
for name, fault in faults.items():
    line = []
    for picture in shapes_of.values():
        given = about(picture)
        wanted = vlm.vision(given)
        with minivl.using(fault), minivl.session(verify=True):
            line.append(np.linalg.norm(vlm.vision(given) - wanted) / np.linalg.norm(wanted))
    print(f"{name:32s}" + "".join(f"{off:16.1%}" for off in line))

# %% [markdown]
# No fault was noticed by `verify=True`: all shapes are right. Read the table by columns. Each 0.0 % is a test
# that would have passed. Only the ragged picture moves under every fault, so a port is tested with a ragged
# picture: more than one window both ways, and cells left over both ways.
#
# ## Exercise 5.1: the window order (about 20 minutes)
#
# Write `cells_by_window(rows, columns, side)`: the numbers of all cells, window after window, for a picture
# of `rows` x `columns` cells and windows of `side` x `side` cells. Cells are numbered as one reads; windows
# too; inside a window cells keep their order. (You have seen it with `argsort`. Try it with loops: no window
# number is needed then. With numbers, it makes no difference to the *order* whether their count in a row is rounded up
# or down: section 3 says why. Exercise 5.2 would notice.)
#
# <details><summary>Hint 1</summary>Two loops over windows, two loops over the cells inside. Or: a number for
# each cell, then a stable sort.</details>
# <details><summary>Hint 2</summary>The upper left cells of the windows are at range(0, rows, side) and
# range(0, columns, side). The last window ends at min(top + side, rows).</details>
# <details><summary>Hint 3</summary>r, c = np.indices((rows, columns)).reshape(2, -1); window = (r // side) *
# -(-columns // side) + c // side; return np.argsort(window, kind="stable")</details>

# %%
def cells_by_window(rows, columns, side):
    """Cell numbers, window after window: (rows * columns,)."""
    ### BEGIN SOLUTION
    r, c = np.indices((rows, columns)).reshape(2, -1)
    window = (r // side) * -(-columns // side) + c // side
    return np.argsort(window, kind="stable")
    ### END SOLUTION


# %% tags=["check"]
minivl.check("5.1", cells_by_window)

# %% [markdown]
# ## Exercise 5.2: count the pairs (about 15 minutes)
#
# Write `pairs_in_windows(rows, columns, side)`: how many pairs of *patches* one windowed block computes, as
# one integer, for a picture of `rows` x `columns` cells. On paper first: 4 x 6 cells, windows of 4 x 4. (One
# window of 64 patches and one of 32: 4096 + 1024 = 5120.)
#
# <details><summary>Hint 1</summary>Add up over windows the square of the number of patches in it.</details>
# <details><summary>Hint 2</summary>Heights of windows: side, side, ..., and what is left over. Widths the
# same. A window of a x b cells has 4ab patches, and 16 a² b² pairs. So the sum of all is a product of two
# sums.</details>
# <details><summary>Hint 3</summary>heights = [min(side, rows - top) for top in range(0, rows, side)], widths
# likewise; return 16 * sum(a * a for a in heights) * sum(b * b for b in widths)</details>

# %%
def pairs_in_windows(rows, columns, side):
    """Pairs of patches in one windowed block."""
    ### BEGIN SOLUTION
    heights = [min(side, rows - top) for top in range(0, rows, side)]
    widths = [min(side, columns - left) for left in range(0, columns, side)]
    return 16 * sum(a * a for a in heights) * sum(b * b for b in widths)  # (4ab)^2, over all a and b
    ### END SOLUTION


# %% tags=["check"]
minivl.check("5.2", pairs_in_windows)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `vision.window_order` | `window_index`, from `get_vision_window_index` |
# | segments of a windowed block | `cu_window_seqlens`: where each run begins, and where the last one ends |
# | segments of a full block | `cu_seqlens`, from `get_vision_attention_seqlens` |
# | full blocks | `fullatt_block_indexes` |
# | a window of 4 x 4 cells | `window_size // spatial_merge_size // patch_size` |
# | `vision.order_by_window` | `permute_input_for_window_attn`, on groups of `spatial_merge_unit` rows |
# | putting back | `reverse_indices = torch.argsort(window_index)` |
#
# "Do you have a visualization for it?" was asked when this was ported (ggml-org/llama.cpp#12402). Sections 3
# to 6 are one.
#
# ## Read next
#
# - `minivl/passes/windows.py`: sections 2 to 4 in forty lines, for several pictures and videos at once.
# - Lesson 6: attention does not care in which order its rows stand. How does a patch know where it is?

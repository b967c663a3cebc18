# %% [markdown]
# # Lesson 2: pixels and resizing
#
# **The question.** A photo has any size. Which size does the model see, which pixels, and in which numbers?
#
# **You need** NumPy, and from lesson 0: a *pass* is a plain function under a label, a *token* is one row of
# the sequence that the language part reads, and a picture is an array (rows, columns, colours) of numbers
# 0..255. Reading takes about 40 minutes, the two exercises another 25. Nothing is downloaded.
#
# ```
# picture.target_size   picture.resize   picture.normalise     <== you are here
# patches.patchify                                             lesson 3: pixels cut into rows of numbers
# prompt.encode   prompt.expand   positions.mrope
# vision.embed_patches   vision.blocks.0.attend   vision.merge_2x2   vision.restore_order
# decoder.embed_tokens   decoder.layers.0.attend   decoder.logits
# sampling.most_likely
# ```
#
# Why care? Because every tool that runs such a model does this part by itself, and many do it a little
# differently. The model then sees other pixels, boxes that it gives are shifted, small text is misread, and
# nothing crashes.

# %%
import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.passes import picture, video

vlm = minivl.load()
config = vlm.processor.preprocessor
print("patch_size", config.patch_size, "  merge_size", config.merge_size)
print(f"min_pixels {config.min_pixels:,}   max_pixels {config.max_pixels:,}   (areas, in pixels)")

# %% [markdown]
# ## 1. Why multiples of 28
#
# The vision part cuts the picture into **patches** of 14 x 14 pixels. Later it joins each square of 2 x 2
# patches, called a **cell**, to one **visual token**. So a side must hold a whole number of cells: 14 x 2 =
# 28 pixels each. (Is the patch 14 or 28 pixels wide? Both numbers are right: patches have 14, tokens have 28.
# Readers have stumbled over this: QwenLM/Qwen3-VL#987.)

# %%
image = Image.new("RGB", (100, 75), (235, 235, 240))
pen = ImageDraw.Draw(image)
pen.ellipse([8, 12, 52, 56], fill=(222, 40, 40))
for x in range(60, 98, 4):
    pen.line([x, 8, x, 66], fill=(45, 75, 225), width=2)
source = np.asarray(image)  # y b 3: as it came
resized = np.asarray(image.resize((112, 84), Image.Resampling.BICUBIC))  # h u 3: as the model sees it

figure, axes = plt.subplots(1, 2, figsize=(11, 4))
axes[0].imshow(source)
axes[0].set_title(f"as it came: {source.shape}")
axes[1].imshow(resized)
for at in range(0, 113, 14):
    axes[1].axvline(at - 0.5, color="black", lw=2 if at % 28 == 0 else 0.4)
for at in range(0, 85, 14):
    axes[1].axhline(at - 0.5, color="black", lw=2 if at % 28 == 0 else 0.4)
axes[1].set_title(f"as the model sees it: {resized.shape}\nthin lines: 6 x 8 patches, thick: 3 x 4 cells")
plt.show()

# %% [markdown]
# ## 2. The rule for the size
#
# Let the picture have height $y$ and width $b$, and let the model see height $h$ and width $u$ (names of axes, as
# in `minivl.AXES`). There are three cases. First round each side to a multiple of 28:
#
# $$ h = 28\,\mathrm{round}(y / 28), \qquad u = 28\,\mathrm{round}(b / 28) $$
#
# Then look at the area $h\,u$. If it lies between `min_pixels` (*least*, below) and `max_pixels` (*most*), that
# is the answer. If not, both sides are divided or multiplied by the same factor $s > 1$, so that the shape of the
# picture stays nearly the same:
#
# $$ h\,u > \mathrm{most}: \qquad s = \sqrt{y\,b / \mathrm{most}}, \qquad
#    h = 28 \max(1, \lfloor y / (28\,s) \rfloor) $$
#
# $$ h\,u < \mathrm{least}: \qquad s = \sqrt{\mathrm{least} / (y\,b)}, \qquad h = 28 \lceil y\,s / 28 \rceil $$
#
# and the same for $u$ with $b$. Rounding *down* when there is too much and *up* when there is too little
# keeps the area on the right side of the limit. (One exception: very thin pictures, where a side is lifted to
# 28.)
#
# ### The traps are in `round`
#
# What does Python do with a half? Predict `round(1.5)` and `round(2.5)` before you run this.

# %%
for side in (14, 42, 70, 98):
    print(f"{side:3d} / 28 = {side / 28}   round -> {round(side / 28)}   side -> {28 * round(side / 28):3d}"
          f"      with floor(x + 0.5): {28 * math.floor(side / 28 + 0.5):3d}")

# %% [markdown]
# Halves go to the *even* neighbour: 42 goes up to 56, but 70 goes **down** to 56, and 14 goes to **0**. C,
# Rust and JavaScript round halves otherwise, so a port (the same model written anew, in another language or for
# another framework) disagrees there on exactly these sides, and on no other.

# %%
sides = np.arange(1, 200)
even = np.array([28 * round(side / 28) for side in sides.tolist()])
school = 28 * np.floor(sides / 28 + 0.5).astype(int)

figure, axis = plt.subplots(figsize=(9, 3.4))
axis.plot(sides, sides, color="lightgrey", label="no rounding")
axis.step(sides, even, where="mid", label="round half to even")
differ = even != school
axis.plot(sides[differ], even[differ], "o", label="the rule")
axis.plot(sides[differ], school[differ], "x", color="red", label="floor(x + 0.5)")
axis.set(xlabel="side in pixels", ylabel="after rounding", title=f"they differ at {sides[differ].tolist()}")
axis.legend()
plt.show()

# %% [markdown]
# The other two traps: the *rounded* area is compared with the limits, but the scale $s$ comes from the
# *original* area. Watch the rule at work, under the small model's low `max_pixels`: it makes small even what an
# official model, with 12,845,056, looks at whole, such as 1080 x 1920. A picture of 14 x 14 rounds to 0 x 0,
# which is too small, so it grows.

# %%
print("   source        rounded       size the model sees       visual tokens")
for y, b in [(75, 100), (480, 640), (42, 42), (70, 70), (14, 14), (10, 30), (1080, 1920), (4000, 6000)]:
    h, u = (28 * round(side / 28) for side in (y, b))
    if h * u > config.max_pixels:
        case = "too big"
    elif h * u < config.min_pixels:
        case = "too small"
    else:
        case = ""
    size = picture.target_size((y, b), config)
    tokens = size.prod() // 28**2
    print(f"{y:5d} x {b:<5d} {h:5d} x {u:<5d} {case:10s} {size[0]:5d} x {size[1]:<5d} {tokens:12,d}")

# %% [markdown]
# The last column is the price: each token is a row in every later computation. `min_pixels` and `max_pixels`
# are the knobs for it, and they are **areas**. (The reference now calls them `shortest_edge` and
# `longest_edge`, yet they are still areas.) Exercise 2.1 is to write the rule.
#
# ### What the limits hold for
#
# One picture. Nothing limits a *prompt*: ten pictures may cost ten times `max_pixels`. In a video they hold for one
# *frame*, all frames have one size, and two frames share their tokens (lesson 3), so the number of frames multiplies.
# A budget for a whole *video* is another rule, on top of them: `qwen-vl-utils` has it, the reference has it behind
# `cap_pixels_per_frame`, and it makes the frames of a long video small.
#
# | a limit on | pictures | videos |
# |---|---|---|
# | one picture or frame | `min_pixels`, `max_pixels` | the same two; by default 128 and 768 tokens a frame |
# | all frames of one video | | `total_pixels` in a message; else nine tenths of 128,000 tokens |
# | a whole prompt | none | none |
#
# With the official limits, for photos and frames of 1080 x 1920 pixels:

# %%
official = dataclasses.replace(config, max_pixels=12_845_056)
each = int(picture.target_size((1080, 1920), official).prod()) // 784
print(f"one photo: {each:,} tokens; ten in one prompt: {10 * each:,}; nothing was limited")
for frames in (4, 64, 256, 768):
    capped = video.video_pixel_limits(frames, official)  # the limits of a frame, from the budget of the video
    plain = dataclasses.replace(official, min_pixels=128 * 784, max_pixels=768 * 784)
    sizes = [picture.target_size((1080, 1920), limits) for limits in (plain, capped)]
    tokens = [int(size.prod()) // 784 * frames // 2 for size in sizes]
    print(f"{frames:3d} frames: without a budget {sizes[0].tolist()} and {tokens[0]:7,d} tokens,",
          f"with one {sizes[1].tolist()} and {tokens[1]:7,d}")

# %% [markdown]
# ## 3. New pixels out of old ones: a table of weights
#
# Now the pixels. We want $n_{out}$ values in place of $n_{in}$ along one axis. Every new value is a
# **weighted sum** of old ones, so the whole step is one matrix, with a row for each new pixel and a column
# for each old one:
#
# $$ \mathrm{out} = A\,\mathrm{in} \qquad (n_{out} \times n_{in}) \cdot (n_{in}) \to (n_{out}) $$
#
# The weights come from one curve, the *cubic* (Keys, 1981). It says how much an old pixel counts at distance
# $x$ from the new one:
#
# $$ k(x) = 1.5|x|^3 - 2.5|x|^2 + 1 \qquad (|x| < 1) $$
#
# $$ k(x) = -0.5|x|^3 + 2.5|x|^2 - 4|x| + 2 \qquad (1 \le |x| < 2), \qquad 0 \text{ beyond.} $$
#
# It is 1 at 0, 0 at 1 and 2, and has no kink. One choice is left, its slope at 1: the formula is that for -0.5,
# the code is for any.

# %%
def cubic(x, slope=-0.5):
    """Weight of a pixel at distance x; slope: of the curve at x = 1."""
    x = np.abs(x)
    near = (slope + 2) * x**3 - (slope + 3) * x**2 + 1
    far = slope * x**3 - 5 * slope * x**2 + 8 * slope * x - 4 * slope
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


x = np.linspace(-2.5, 2.5, 400)
figure, axis = plt.subplots(figsize=(8, 3))
axis.plot(x, cubic(x), label="slope -0.5: Pillow, and so this model")
axis.plot(x, cubic(x, -0.75), "--", label="slope -0.75: another cubic in use")
axis.axhline(0, color="grey", lw=0.5)
axis.set(xlabel="distance in pixels", ylabel="weight", title="both are called bicubic")
axis.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# The weights between 1 and 2 are negative: that sharpens edges (a dark neighbour taken off makes the bright side
# brighter), and it is why results can leave 0..255 and must be cut off (*clipped*).
#
# Where is the new pixel $i$? Pixels are little squares; pixel $j$ covers $j \ldots j+1$ and its centre is at
# $j + 0.5$. So the centre of new pixel $i$, measured in old pixels, is $(i + 0.5)\,n_{in}/n_{out}$.
#
# When the picture *shrinks*, one new pixel covers several old ones, and all of them must count. So the curve
# is stretched by the same factor $n_{in}/n_{out}$. This is the *antialiasing*. When the picture grows,
# nothing is stretched.

# %%
def weight_table(n_in, n_out, stretch=None, slope=-0.5):
    """The matrix A (n_out, n_in) of one axis."""
    scale = n_in / n_out
    stretch = max(scale, 1.0) if stretch is None else stretch
    centre = (np.arange(n_out) + 0.5) * scale  # of each new pixel, in old pixels
    old = np.arange(n_in) + 0.5  # centres of the old pixels
    weights = cubic((old[None, :] - centre[:, None]) / stretch, slope)  # n_out 1, 1 n_in -> n_out n_in
    return weights / weights.sum(axis=1, keepdims=True)  # each row sums to one: a grey picture stays grey


grow, shrink = weight_table(5, 8), weight_table(10, 4)
figure, axes = plt.subplots(1, 2, figsize=(12, 4.4))
for axis, table, title in [(axes[0], grow, "5 pixels grow to 8:\neach new one looks at up to 4 old ones"),
                           (axes[1], shrink, "10 pixels shrink to 4:\nthe curve is 2.5 times as wide")]:
    new, old = table.shape
    plot.table(table, axis, title, range(new), range(old), "{:.2f}")
    axis.set(xlabel="old pixel", ylabel="new pixel")
plt.tight_layout()
plt.show()
print("sums of the rows:", grow.sum(axis=1), shrink.sum(axis=1))

# %% [markdown]
# Read a row aloud: "new pixel 0 is ... of old pixel 0, ... of old pixel 1, ...". At the borders, weights that
# would fall outside are left out and the rest is divided by its sum.
#
# ## 4. Two passes, first in floating point
#
# A picture has two axes, so there are two tables: $A$ for the rows and $B$ for the columns. Each colour is
# treated alone.
#
# $$ \mathrm{out} = A\,\mathrm{in}\,B^\top $$
#
# `np.einsum` says that with a letter for each axis, here with $c$ for the three colours: what stands left of the
# arrow is multiplied, and a letter that is missing on the right is summed over. `"ub,ybc->yuc"` is
# $\mathrm{in}\,B^\top$ for every colour at once.

# %%
a, b = weight_table(75, 84), weight_table(100, 112)  # A: h y, and B: u b
wide = np.einsum("ub,ybc->yuc", b, source.astype(np.float64))  # width first:   75 100 3 -> 75 112 3
both = np.einsum("hy,yuc->huc", a, wide)  # then the height: 75 112 3 -> 84 112 3
other = np.einsum("ub,hbc->huc", b, np.einsum("hy,ybc->hbc", a, source.astype(np.float64)))  # height first
print("shapes:", source.shape, "->", wide.shape, "->", both.shape)
print("the order of the two passes changes the result by", np.abs(both - other).max(), "(float64's rounding)")
print("smallest and largest value:", both.min().round(2), both.max().round(2), " outside of 0..255, so: clip")

by_hand = np.clip(both, 0, 255)
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
for axis, array, title in zip(axes, [source, wide, by_hand, resized],
                              ["source", "after the width", "after both, clipped", "Pillow"], strict=True):
    axis.imshow(np.clip(array, 0, 255).astype(np.uint8))
    axis.set_title(f"{title}\n{array.shape}")
plt.show()
print("difference from Pillow's BICUBIC: at most", np.abs(by_hand - resized).max().round(3), "of 255 levels")

# %% [markdown]
# About one grey level, from twenty lines. Where does the rest come from? Pillow works with whole numbers:
# after the first pass it rounds and clips the *whole picture* to 0..255, and again after the second.

# %%
def to_levels(values):
    """Rounded to whole levels and clipped."""
    return np.clip(np.floor(values + 0.5), 0, 255)


rounded = to_levels(np.einsum("hy,yuc->huc", a, to_levels(wide)))
high = np.einsum("hy,ybc->hbc", a, source.astype(np.float64))  # height first: 75 100 3 -> 84 100 3
wrong_order = to_levels(np.einsum("ub,hbc->huc", b, to_levels(high)))
for name, array in [("floating point throughout", by_hand), ("rounded after each pass", rounded),
                    ("rounded, but height first", wrong_order)]:
    off = np.abs(array - resized)
    count = np.count_nonzero(off > 1e-9)
    print(f"{name:28s} differs from Pillow at {count:6d} of {off.size} values, by up to {off.max():.3f}")

# %% [markdown]
# Once there is rounding in the middle, the order of the axes *shows*. So the order belongs to the definition:
# which axis Pillow takes first depends on its version and on the sizes: now it is the height where that loses more
# than twice as many rows as the width columns, else the width (`picture.height_first`).
#
# And now the pass of the model itself, on the same picture. `picture.resize_float` is no pass: the same filter
# without the rounding, kept to compare with.

# %%
size = picture.target_size(source.shape, config)
by_pass = picture.resize(source, size)
print("size", size, "  equal to Pillow, bit for bit:", np.array_equal(by_pass, resized))
clipped = np.clip(np.einsum("hy,yuc->huc", a, np.clip(wide, 0, 255)), 0, 255)  # after each pass
off = np.abs(clipped - picture.resize_float(source, size)).max()
print("our float version, clipped after each pass, against picture.resize_float:", off)

# %% [markdown]
# > **Optional box: fixed point.** "Whole numbers" can be taken literally. Pillow multiplies every weight by
# > $2^{22}$ and rounds it to an integer. Then a weighted sum needs integers only: add $2^{21}$ (one half) and
# > shift right by 22 bits (divide by $2^{22}$ and round down). The sum is exact, so it is the same on every
# > machine. Why 22? A 32-bit integer must hold 8 bits of the pixel, and 2 more for sums that overshoot, above 255
# > or below zero: 32 - 8 - 2 = 22.

# %%
def pass_fixed(rows, table):
    """One pass on the first axis in integers: (n_in, ...) uint8 -> (n_out, ...) uint8."""
    fixed = np.trunc(table * 2**22 + np.copysign(0.5, table)).astype(np.int64)  # halves away from zero
    total = np.einsum("on,n...->o...", fixed, rows.astype(np.int64))  # exact
    return np.clip((total + 2**21) >> 22, 0, 255).astype(np.uint8)


width_done = pass_fixed(source.swapaxes(0, 1), b).swapaxes(0, 1)  # 75 100 3 -> 75 112 3
in_integers = pass_fixed(width_done, a)  # -> 84 112 3
print("our integers against Pillow, values that differ:", np.count_nonzero(in_integers != resized))

# %% [markdown]
# ## 5. Normalise: numbers around zero
#
# Last, the 0..255 become small numbers around zero, with the *mean* and *standard deviation* (spread) of each
# colour over the pictures of a large collection (not of this picture: a dark one must stay dark). Training goes
# best with inputs of this size:
#
# $$ x' = \frac{x / 255 - \mathrm{mean}_c}{\mathrm{std}_c} $$
#
# and the colour axis moves to the front: (rows, columns, 3) becomes (3, rows, columns).

# %%
mean, std = np.array(config.image_mean), np.array(config.image_std)
normal = ((by_pass / 255 - mean) / std).transpose(2, 0, 1)  # h u 3 -> 3 h u
print("mean", mean.round(3), " std", std.round(3), "  shape", normal.shape)
off = np.abs(normal - picture.normalise(by_pass, config)).max()
print("ours against the pass:", off, "(the pass is float32)")

figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
levels = np.arange(256)
for c, name in enumerate(["red", "green", "blue"]):
    line = (levels / 255 - mean[c]) / std[c]
    axes[0].plot(levels, line, color=name)
    print(f"{name:6s} 0 -> {line[0]:.3f}   255 -> {line[-1]:.3f}")
    shown = axes[c + 1].imshow(normal[c], cmap="RdBu_r", vmin=-2.2, vmax=2.2)
    axes[c + 1].set_title(f"{name}, normalised")
axes[0].set(xlabel="pixel value", ylabel="normalised", title="three straight lines")
figure.colorbar(shown, ax=axes[1:], shrink=0.7)
plt.show()

# %% [markdown]
# ### Is a difference one of pixels?
#
# Two programs give two answers. Before you look at anything else, ask whether they have seen the same pixels:
#
# 1. Compare the grids. Another grid is another *size*: section 2, and no question of filters.
# 2. Undo the normalisation and count in levels of 0..255. A filter differs by a few levels, most of all at edges; a
#    missing normalisation or another order of colours differs everywhere.
# 3. Give the pixels of the one to the other. If the answers agree then, it was the pixels.
#
# The third step proves it. Here a "foreign" program resizes by the float filter and never rounds:

# %%
foreign = picture.normalise(picture.resize_float(source, size), config)  # 3 h u
ours = picture.normalise(by_pass, config)
levels_off = np.abs((foreign - ours) * std[:, None, None] * 255)
print(f"1. sizes {foreign.shape} and {ours.shape}")
print(f"2. off by {levels_off.max():.2f} levels at most, {levels_off.mean():.2f} on average;",
      f"more than half a level at {(levels_off > 0.5).mean():.1%} of the numbers")
inputs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": image},
                                                   {"type": "text", "text": "Describe the image."}]}])
with minivl.using({"picture.normalise": lambda pixels, config: foreign}):
    theirs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": image},
                                                       {"type": "text", "text": "Describe the image."}]}])
exchanged = minivl.Inputs.from_ids(inputs.input_ids, vlm.config, theirs.pixel_values, inputs.image_grid_thw)
ours_scores, theirs_scores = vlm.logits(inputs), vlm.logits(theirs)
print("3. scores differ by", np.abs(ours_scores - theirs_scores).max().round(4), "as they came, and by",
      np.abs(vlm.logits(exchanged) - theirs_scores).max(), "with the same pixels")

# %% [markdown]
# ## 6. Now break it
#
# Predict first, then run. We put other functions in place of `picture.resize` and look at what the model
# sees, and at how far its *logits* (its scores for the next token, see lesson 0) move.

# %%
def resize_nearest(pixels, size):
    """No sum at all: each new pixel copies the old one under its centre."""
    rows, columns = (((np.arange(size[n]) + 0.5) * pixels.shape[n] / size[n]).astype(int) for n in (0, 1))
    return pixels[rows][:, columns]


def resize_with(make_table):
    """The two float passes with other tables, rounded at the end."""
    def resize(pixels, size):
        a, b = make_table(pixels.shape[0], int(size[0])), make_table(pixels.shape[1], int(size[1]))
        out = np.einsum("hy,ub,ybc->huc", a, b, pixels.astype(np.float64), optimize=True)
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return resize


stripes = np.full((400, 520, 3), 240, np.uint8)  # thin stripes that the small picture cannot show
stripes[:, (np.arange(520) // 3) % 2 == 0] = (45, 75, 225)
ways = {"no fault": picture.resize, "nearest": resize_nearest,
        "not stretched": resize_with(lambda n, m: weight_table(n, m, stretch=1.0))}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for axis, (name, way) in zip(axes, ways.items(), strict=True):
    axis.imshow(way(stripes, np.array([84, 112])), interpolation="nearest")
    axis.set_title(f"400 x 520 stripes to 84 x 112:\n{name}")
plt.show()
for stretch in (None, 1.0):
    counts = np.abs(weight_table(520, 112, stretch)).sum(axis=0)  # of each old column, in all new ones together
    print(f"{'not stretched' if stretch else 'stretched':14s} an old column counts {counts.min():.2f} to "
          f"{counts.max():.2f}; {np.count_nonzero(counts == 0)} of 520 count nothing")
print(f"{'nearest':14s} each new column copies one; {520 - 112} of 520 count nothing")

# %% [markdown]
# Where the curve is not stretched, old pixels near the new one's centre count for all, the others little or
# nothing; "nearest" looks at one in each new pixel and at no other. Stripes appear that are not in the picture.
# Text has such stripes: this is how small print is lost.
#
# Now the model itself. It is a small model that errs on crowded pictures, so we give it a single disc. The
# row "no fault" is what it says when nothing is broken; compare that with the truth first.

# %%
disc = Image.new("RGB", (100, 75), (200, 200, 205))
ImageDraw.Draw(disc).ellipse([26, 14, 76, 64], fill=(222, 40, 40))
content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]


def last_scores():
    return vlm.logits(vlm.prepare([{"role": "user", "content": content}]))[-1]


wanted = last_scores()
faults = {
    "nearest": {"picture.resize": resize_nearest},
    "slope -0.75": {"picture.resize": resize_with(lambda n, m: weight_table(n, m, slope=-0.75))},
    "not normalised": {"picture.normalise": lambda x, config: np.float32(x.transpose(2, 0, 1))},
    "only divided by 255": {"picture.normalise": lambda x, config: np.float32(x.transpose(2, 0, 1) / 255)},
    "blue first": {"picture.normalise": lambda x, config: picture.standardise(x[:, :, ::-1], config)},
}
print(f"{'':20s}   scores move by   answer")
print(f"{'(the truth)':20s}   {'':14s}   A red circle.")
print(f"{'no fault':20s}   {0:14.1%}   {vlm.ask(disc, 'Describe the image.')}")
for name, table in faults.items():
    with minivl.using(table):
        moved = np.linalg.norm(last_scores() - wanted) / np.linalg.norm(wanted)
        print(f"{name:20s}   {moved:14.1%}   {vlm.ask(disc, 'Describe the image.')}")

# %% [markdown]
# Some of these are loud. Which is the quietest? That one can live in a port for years: the answers look
# sensible, and some small print is misread, which no single disc can show. Where an answer survives, the numbers
# have moved all the same. (Per cent as in lesson 1, section 9: the length of the difference over that of the right
# scores. A right port in float32 moves them by rounding only, far below 0.1 %.)
# "Blue first" is a classic: OpenCV reads pictures as blue, green,
# red.
#
# ## Exercise 2.1: the size rule (about 15 minutes)
#
# Write `target_size(y, b, least, most)`: height and width, as two integers, from the three cases of section
# 2. (The limit `most` is 12,845,056 here, and was far smaller in the table of section 2. Both are
# `max_pixels`: the first from the official model's file, the second from that of the small model in the
# package, which need not look at large photos.)
#
# <details><summary>Hint 1</summary>Write the rounding first, then two ifs. The ifs test the rounded area,
# their scale uses y and b.</details>
# <details><summary>Hint 2</summary>Evaluate y / s / 28 in this order and then math.floor; for the other case
# y * s / 28 and math.ceil. Python's own round is right for halves.</details>
# <details><summary>Hint 3</summary>if h * u > most: s = math.sqrt(y * b / most); h, u = (max(28,
# math.floor(side / s / 28) * 28) for side in (y, b)) ... and elif h * u < least with s = math.sqrt(least / (y
# * b)).</details>

# %%
def target_size(y, b, least=3136, most=12_845_056):
    """Height and width (two integers) that the model sees, for a picture of height y and width b."""
    ### BEGIN SOLUTION
    h, u = (28 * round(side / 28) for side in (y, b))
    if h * u > most:
        s = math.sqrt(y * b / most)
        h, u = (max(28, math.floor(side / s / 28) * 28) for side in (y, b))
    elif h * u < least:
        s = math.sqrt(least / (y * b))
        h, u = (math.ceil(side * s / 28) * 28 for side in (y, b))
    return h, u
    ### END SOLUTION


# %% tags=["check"]
minivl.check("2.1", target_size)

# %% [markdown]
# ## Exercise 2.2: a box back to the photo (about 10 minutes)
#
# Asked where something is, the model answers with a box `x0, y0, x1, y1` in pixels of the picture **that it
# saw**. You want it in pixels of the photo **as it came**. (The most frequent question of users:
# QwenLM/Qwen3-VL#676, #769, #830.) Write `box_to_photo(box, seen, photo)`, where `seen` and `photo` are
# (height, width). Give back an array of four floats, cut off at the borders of the photo: a model may well
# say 646 where the picture ends at 644. (The right border is at x = width, where the last pixel ends, not at
# width - 1, where it begins.)
#
# <details><summary>Hint 1</summary>Height and width were rounded separately, so there are two factors, not
# one.</details>
# <details><summary>Hint 2</summary>Sizes are (height, width), but boxes are (x, y): x goes with the width.
# The border of the photo is at x = width, not width - 1.</details>
# <details><summary>Hint 3</summary>down, across = photo[0] / seen[0], photo[1] / seen[1]; multiply the box by
# [across, down, across, down]; then np.clip with [width, height, width, height].</details>

# %%
def box_to_photo(box, seen, photo):
    """A box (x0, y0, x1, y1) in the picture that the model saw -> the same box in the photo, 4 floats."""
    ### BEGIN SOLUTION
    down, across = photo[0] / seen[0], photo[1] / seen[1]
    moved = np.asarray(box, np.float64) * [across, down, across, down]
    return np.clip(moved, 0, [photo[1], photo[0], photo[1], photo[0]])
    ### END SOLUTION


# %% tags=["check"]
minivl.check("2.2", box_to_photo)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `picture.target_size` | `smart_resize` in `image_processing_qwen2_vl` |
# | `picture.resize`, `picture.normalise` | `resize`, `rescale` and `normalize` of `Qwen2VLImageProcessor` |
# | `min_pixels`, `max_pixels` | the same, or `shortest_edge`, `longest_edge` in `size`: areas all the same |
# | `patch_size * merge_size` = 28 | `factor` |
#
# There are two back ends there, one on Pillow and one on torchvision, and without a word which of them runs depends
# on what is installed. Their pixels differ a little (huggingface/transformers#39591). This model is bit for bit the
# Pillow one. Ask for one by name, and look which you got, because a back end that is not installed is replaced by
# the other one with no more than a line in the log:
#
# ```python
# processor = AutoImageProcessor.from_pretrained(folder, backend="pil")        # or "torchvision"
# type(processor).__name__           # Qwen2VLImageProcessorPil, or Qwen2VLImageProcessor for torchvision
# ```
#
# ## Read next
#
# - `minivl/passes/picture.py`: everything above, and what it takes to open any picture file.
# - Lesson 3: the pixels have a size that fits. How are they cut into rows, and in which order?

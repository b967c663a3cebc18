# %% [markdown]
# # Lesson 8: the merger
#
# **The question.** The vision tower has one row for each patch. The decoder gets a quarter as many. How do
# four rows become one, and how do these come to the places in the prompt that wait for them?
#
# **You need** from lesson 3: a *cell* is 2 x 2 patches, four consecutive rows; from lesson 5: the *window
# order*, and putting back; from lesson 7: *RMS norm*. Reading takes about 30 minutes, the two exercises
# another 35.
#
# ```
# picture.target_size   patches.patchify   vision.embed_patches   vision.order_by_window
# vision.blocks.0.attend   vision.blocks.0.add_mlp             lessons 4 to 7
# vision.merge_2x2                                             <== you are here: sections 1 to 4
# vision.restore_order                                         <== section 5
# decoder.embed_tokens   decoder.place_features                <== section 6
# decoder.layers.0.attend   decoder.logits   sampling.most_likely
# ```

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.passes import vision as passes
from minivl.show.plot import table

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load()
merger = vlm.weights.vision.merger


def about(*images):
    content = [{"type": "image", "image": image} for image in images]
    content.append({"type": "text", "text": "Describe the image."})
    return vlm.prepare([{"role": "user", "content": content}])


image = Image.new("RGB", (168, 140), (200, 200, 205))
ImageDraw.Draw(image).ellipse([20, 24, 76, 80], fill=(222, 40, 40))
inputs = about(image)
with minivl.session(record="*") as session:
    vlm.logits(inputs)
trace = session.trace
patches = trace[f"vision.blocks.{vlm.config.vision.depth - 1}.add_mlp"]  # w d: the tower's last stream

# %% [markdown]
# ## 1. Four rows side by side
#
# Why fewer rows? Each row is a token in every layer of the decoder, and in the official models the decoder is the
# larger part. A photo of 480 x 640 pixels has 34 x 46 = 1,564 patches, but 17 x 23 = 391 cells.
#
# One could take the *mean* of the four rows of a cell. But then nobody could say any more what was left and
# what was right. The **merger** puts the four rows side by side instead: nothing is lost. Only then a linear
# map makes them as wide as the decoder wants.
#
# $$ (4c \times d) \;\to\; (c \times 4d) \;\to\; (c \times 4d) \;\to\; (c \times o) $$
#
# The first arrow is one `reshape`. It is right only because the four rows of a cell are consecutive (lesson
# 3: that is what the 2x2 order is for). A toy with two cells and rows of two numbers:

# %%
corners = ["up left", "up right", "low left", "low right"]
names = [f"cell {cell}, {place}" for cell in (0, 1) for place in corners]
toy = np.array([[10 * cell + 2 * place, 10 * cell + 2 * place + 1] for cell in (0, 1) for place in range(4)])
figure = plot.board(1, 2, (11, 2.6))
table(toy, figure.axes[0], "rows of patches (4c d)", names, ["0", "1"])
columns = [f"{place}.{n}" for place in ("ul", "ur", "ll", "lr") for n in (0, 1)]
table(toy.reshape(2, 8), figure.axes[1], "reshape(c, 4 d)", ["cell 0", "cell 1"], columns)
figure

# %% [markdown]
# ## 2. Norm first, then two linear maps
#
# The whole merger:
#
# 1. RMS norm of each *patch* (width $d$), before they are joined;
# 2. join four: $(4c \times d) \to (c \times 4d)$;
# 3. a linear map $4d \to 4d$ with bias;
# 4. **GELU**, another soft switch (section 3);
# 5. a linear map $4d \to o$ with bias, where $o$ is the width of the decoder.

# %%
def gelu(y):
    """y * Phi(y), Phi the area under the bell curve up to y."""
    return y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))


def linear(x, w):
    return x @ w.weight.dense(np.float32).T + w.bias.dense(np.float32)


norm = merger.norm.weight.dense(np.float32)
normed = patches / np.sqrt((patches**2).mean(axis=1, keepdims=True) + merger.norm.eps) * norm  # w d
cells = normed.reshape(len(normed) // 4, -1)  # w d -> c 4d
inner = linear(cells, merger.inner)  # c 4d -> c 4d
outer = linear(gelu(inner), merger.outer)  # c 4d -> c o
print("shapes:", patches.shape, "->", cells.shape, "->", inner.shape, "->", outer.shape)
off = np.linalg.norm(outer - trace["vision.merge_2x2"]) / np.linalg.norm(outer)
print(f"against the pass vision.merge_2x2, relative: {off:.1e}")

figure = plot.board(1, 3, (12, 2.8))
stages = {"patches": patches, "normed and joined": cells, "visual tokens": outer}
for axis, (title, array) in zip(figure.axes, stages.items(), strict=True):
    plot.heat(array, axis)
    axis.set_title(f"{title} {array.shape}", size=9)
figure

# %% [markdown]
# The rows on the right are the **visual tokens**: what the decoder gets of the picture, and all it ever gets.
# The size of each row before and after, laid on the picture:

# %%
at = minivl.provenance(inputs, vlm.config)
figure = plot.board(1, 2, (10, 3.4))
plot.rows(patches, "w", at, figure.axes[0])
figure.axes[0].set_title("before: a row for each patch", size=9)
plot.rows(outer, "c", at, figure.axes[1])
figure.axes[1].set_title("after: a row for each cell", size=9)
figure

# %% [markdown]
# ### The same as four matrices
#
# The inner matrix has $4d$ columns: $d$ for each place in the cell. Cut it there, and the joined product is a
# sum of four products, one matrix for each place:
#
# $$ W\,[x_0, x_1, x_2, x_3] = W_0 x_0 + W_1 x_1 + W_2 x_2 + W_3 x_3 $$

# %%
weight = merger.inner.weight.dense(np.float32)  # 4d 4d
four = np.split(weight, 4, axis=1)  # four of (4d, d)
places = normed.reshape(-1, 4, normed.shape[1])  # c 4 d
as_sum = sum(places[:, n] @ four[n].T for n in range(4)) + merger.inner.bias.dense(np.float32)
print("the same, up to rounding:", np.allclose(as_sum, inner, atol=1e-3))

flat = np.stack([w.ravel() for w in four])
figure = plot.board(1, 1, (4.2, 3.4))
plot.similarity(flat, corners, figure.axes[0])
figure.axes[0].set_title("how alike the four matrices are", size=9)
figure

# %% [markdown]
# If all four were equal (cosine 1 everywhere), the merger would be a sum of the patches and could not tell
# their places. Does the figure say so?
#
# ## 3. GELU, exact and approximate
#
# $\mathrm{gelu}(y) = y\,\Phi(y)$, where $\Phi(y)$ is the probability that a normal random number is below
# $y$. There is a shorter formula with tanh that is nearly the same, and programs like it, because it is
# faster. The merger was trained with the exact one. (The blocks have SiLU; the merger is the only place
# with a GELU.)

# %%
def gelu_tanh(y):
    return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


y = np.linspace(-5, 5, 400)
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
axes[0].plot(y, gelu(y), color=plot.BLUE, label="gelu")
axes[0].plot(y, y / (1 + np.exp(-y)), "--", color=plot.ORANGE, label="silu")
axes[0].legend()
axes[0].set_title("two soft switches", fontsize=9)
axes[1].plot(y, gelu_tanh(y) - gelu(y), color=plot.GREEN)
axes[1].set_title("what the tanh formula adds", fontsize=9)
plt.show()
print("largest difference of the two GELUs:", np.abs(gelu_tanh(y) - gelu(y)).max())

# %% [markdown]
# Half a thousandth. Is that much? At $y = 2.7$, where it is largest, it is thousands of roundings in float32, and in
# bfloat16 less than one.
# Section 7 measures what it does.
#
# ## 4. One cell in, one token out
#
# In the merger no cell hears of another. We change one patch and see which tokens move, and by how much, for
# each of the four places:

# %%
def merge(x):
    return passes.merge_2x2(x, merger)


start = merge(patches)
CELL = 5
print(f"row of cell {CELL} that changes: which tokens move, and by how much")
for place in range(4):
    other = patches.copy()
    other[4 * CELL + place] *= 1.5  # the same direction, only longer
    longer = merge(other)
    other[4 * CELL + place] = patches[0]  # the patch of another place in the picture
    replaced = merge(other)
    moved = np.flatnonzero((replaced != start).any(axis=1))
    sizes = [np.linalg.norm(wrong - start) for wrong in (replaced, longer)]
    print(f"   place {place}: tokens {moved.tolist()}; replaced {sizes[0]:8.3f}, only longer {sizes[1]:8.3f}")

# %% [markdown]
# Only token 5. And making a row *longer* does nearly nothing: the norm takes it back. That is what norming
# each patch, and not the whole cell, means: no patch can drown its neighbours by being loud.
#
# ## 5. Back to the order of the prompt
#
# The merger has run in window order: its row 0 is the first cell of the first window. The prompt wants the
# cells as one reads. `vision.restore_order` puts them back. Its input is the window order (lesson 5), and the
# way back is `argsort` of it:

# %%
order = trace["vision.window_order"]  # c: which cell came at place 0, 1, 2, ...
restored = outer[np.argsort(order)]  # c o -> m o
wanted = trace["vision.restore_order"]
print("equal to vision.restore_order, up to rounding:", np.allclose(restored, wanted, rtol=1e-3, atol=1e-2))
print("window order: ", order.tolist())
print("the way back: ", np.argsort(order).tolist())

figure = plot.board(1, 2, (10, 3.4))
_, gh, gw = inputs.image_grid_thw[0]
size = np.sqrt((outer**2).mean(axis=1))
shown = {"in window order, drawn as one reads: torn": size,
         "restored: the picture again": size[np.argsort(order)]}
for axis, (title, values) in zip(figure.axes, shown.items(), strict=True):
    axis.imshow(values.reshape(gh // 2, gw // 2), cmap="viridis")
    axis.set_title(title, size=9)
figure

# %% [markdown]
# ## 6. Into the prompt
#
# The prompt holds one placeholder for each visual token (lesson 0). `decoder.place_features` writes the
# visual tokens over their rows. By hand it is one line:

# %%
words = trace["decoder.embed_tokens"].copy()  # s d
here = np.flatnonzero(inputs.input_ids == vlm.config.image_token_id)  # m: the rows of the placeholders
words[here] = restored  # m d -> s d
wanted = trace["decoder.place_features"]
print("equal to the pass, up to rounding:", np.allclose(words, wanted, rtol=1e-3, atol=1e-2))
print(len(here), "placeholders,", len(restored), "visual tokens =", gh // 2, "x", gw // 2, "cells")

# %% [markdown]
# The two counts must be equal. If a template or a tokenizer has lost placeholders, the reference says
# *"Image features and image tokens do not match"* (QwenLM/Qwen3-VL#556). The right count is simple: height
# times width of the picture *that the model sees*, divided by 28 * 28. Here it is said before anything
# runs:

# %%
try:
    minivl.Inputs.from_ids(np.delete(inputs.input_ids, here[0]), vlm.config, inputs.pixel_values,
                           inputs.image_grid_thw)
except ValueError as error:
    print("one placeholder lost:", error)

# %% [markdown]
# ### The tower alone, and which rows belong to which picture
#
# You can use the tower without the decoder: `vlm.vision` gives the visual tokens of *all* pictures in one
# table, in the order of the prompt. A picture with grid $(t, g_h, g_w)$ has $t\,g_h\,g_w / 4$ of them, so the
# table is cut at running sums. (Asked in QwenLM/Qwen3-VL#1218 and huggingface/transformers#41186. An index
# error there comes from handing over a grid that does not belong to the patches.)

# %%
two = about(image, image.crop((0, 0, 84, 84)))
counts = two.image_grid_thw.prod(axis=1) // 4
each = np.split(vlm.vision(two), np.cumsum(counts)[:-1])
print("grids", two.image_grid_thw.tolist(), "  visual tokens", counts.tolist())
print("cut:", [a.shape for a in each])
alone = vlm.vision(inputs)
print("the first picture alone gives the same:", np.allclose(each[0], alone, rtol=1e-3, atol=1e-2))

# %% [markdown]
# ## 7. Now break it
#
# **Predict** first: which of these is noticed by shapes? Which moves the tokens most, which least?

# %%
def merger_with(act=kernels.gelu, norm_first=True, arrange=lambda x: x):
    """A merge_2x2 with another switch, the norm elsewhere, or rows in another arrangement."""
    def merge_2x2(x, w):
        x = arrange(x)
        width = w.inner.weight.shape[1]
        if norm_first:
            cells = kernels.rms_norm(x, w.norm).reshape(-1, width)
        else:
            gain = np.tile(w.norm.weight.dense(x.dtype), 4)
            cells = x.reshape(-1, width)
            cells = cells / np.sqrt((cells**2).mean(axis=1, keepdims=True) + x.dtype.type(w.norm.eps)) * gain
        return kernels.linear(act(kernels.linear(cells, w.inner)).astype(x.dtype), w.outer)
    return merge_2x2


def in_place(numbers):
    """The four rows of each cell in another order."""
    return lambda x: x.reshape(-1, 4, x.shape[1])[:, numbers].reshape(x.shape)


def averaged(x):
    """All four rows of a cell become their mean."""
    four = x.reshape(-1, 4, x.shape[1])
    return np.repeat(four.mean(axis=1), 4, axis=0)


faults = {"GELU by tanh": {"vision.merge_2x2": merger_with(act=gelu_tanh)},
          "SiLU in place of GELU": {"vision.merge_2x2": merger_with(act=kernels.silu)},
          "norm of the cell": {"vision.merge_2x2": merger_with(norm_first=False)},
          "left and right exchanged": {"vision.merge_2x2": merger_with(arrange=in_place([1, 0, 3, 2]))},
          "read downwards": {"vision.merge_2x2": merger_with(arrange=in_place([0, 2, 1, 3]))},
          "mean of the four": {"vision.merge_2x2": merger_with(arrange=averaged)},
          "not restored": {"vision.restore_order": lambda cells, order: cells},
          "restored with order": {"vision.restore_order": lambda cells, order: cells[order]}}
wanted = vlm.vision(inputs)
print(f"{'':28s} tokens move by   answer")
print(f"{'(the truth)':28s} {'':14s}   A red circle.")
print(f"{'no fault':28s} {0:14.2%}   {vlm.ask(image, 'Describe the image.')}")
for name, fault in faults.items():
    with minivl.using(fault), minivl.session(verify=True):
        off = np.linalg.norm(vlm.vision(inputs) - wanted) / np.linalg.norm(wanted)
        print(f"{name:28s} {off:14.2%}   {vlm.ask(image, 'Describe the image.', max_new_tokens=12)}")

# %% [markdown]
# Shapes say nothing, once more. The last two have every number right and only rows at wrong places: a
# question about the *colour* may be answered rightly, one about *where* cannot.
#
# ## Exercise 8.1: the merger (about 20 minutes)
#
# Write `merge(x, norm, inner, outer)`: `x` (4c, d) in 2x2 order, `norm` (d,) the weight of the RMS norm (its
# eps is 1e-6), `inner` and `outer` each a tuple of matrix and bias. Out comes (c, o). The exact GELU is
# there: `gelu` from section 2.
#
# <details><summary>Hint 1</summary>The five steps of section 2, one line each. The norm comes before the
# reshape, on rows of width d.</details>
# <details><summary>Hint 2</summary>(4c, d) becomes (c, 4d) by y.reshape(len(x) // 4, -1). A linear map is y @
# w.T + b.</details>
# <details><summary>Hint 3</summary>y = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * norm;
# cells = y.reshape(len(x) // 4, -1); return gelu(cells @ inner[0].T + inner[1]) @ outer[0].T +
# outer[1]</details>

# %%
def merge(x, norm, inner, outer):
    """4c d, d, (4d 4d, 4d), (o 4d, o) -> c o."""
    ### BEGIN SOLUTION
    y = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * norm  # each patch by itself
    cells = y.reshape(len(x) // 4, -1)  # 4c d -> c 4d
    return gelu(cells @ inner[0].T + inner[1]) @ outer[0].T + outer[1]  # c 4d -> c 4d -> c o
    ### END SOLUTION


# %% tags=["check"]
minivl.check("8.1", merge)

# %% [markdown]
# ## Exercise 8.2: which token sees this pixel? (about 15 minutes)
#
# You point at a pixel of your photo. Which visual token (which row of `vlm.vision`) was made from it? Write
# `token_of_pixel(y, x, photo, seen)`: row and column of the pixel in the photo, `photo` and `seen` are
# (height, width) of the photo and of the picture that the model sees. One integer. (The tower has mixed news
# from everywhere into that row; asked is only whose place it is.)
#
# <details><summary>Hint 1</summary>Three steps: photo to seen picture (two factors, lesson 2), pixel to cell,
# cell to number.</details>
# <details><summary>Hint 2</summary>A cell is 28 pixels wide, so a row of the picture has seen[1] // 28 of
# them. Tokens are numbered as one reads: restore_order has seen to that.</details>
# <details><summary>Hint 3</summary>row = int(y * seen[0] / photo[0]) // 28; column likewise with index 1;
# return row * (seen[1] // 28) + column</details>

# %%
def token_of_pixel(y, x, photo, seen):
    """The number of the visual token at pixel (y, x) of the photo."""
    ### BEGIN SOLUTION
    row = int(y * seen[0] / photo[0]) // 28
    column = int(x * seen[1] / photo[1]) // 28
    return row * (seen[1] // 28) + column
    ### END SOLUTION


# %% tags=["check"]
minivl.check("8.2", token_of_pixel)
where = minivl.where_pixel(inputs, vlm.config, x=100, y=60)  # the package answers it too
mine = token_of_pixel(60, 100, (140, 168), (140, 168))
print("pixel (60, 100): token", mine, "and the package says", where.token)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `vision.merge_2x2` | `Qwen2_5_VLPatchMerger`, in the tower as `merger` |
# | its norm | `ln_q` (an RMS norm, whatever its name says) |
# | the two linear maps and the GELU | `mlp.0`, `mlp.1`, `mlp.2` |
# | joining four rows | `view(-1, self.hidden_size)`, where `hidden_size` is 4d |
# | `vision.restore_order` | `merged_hidden_states[reverse_indices]` |
# | visual tokens of the whole prompt | `get_image_features`, which cuts them by picture |
# | `decoder.place_features` | `inputs_embeds.masked_scatter(image_mask, image_embeds)` |
#
# ## Read next
#
# - `minivl/passes/vision.py`: `merge_2x2` in three lines.
# - `minivl/run/provenance.py`: "which pixels is this row made from?", for every array of the model.
# - Lesson 9: now the other half of the model. How does a text become tokens, and where do the visual tokens go?

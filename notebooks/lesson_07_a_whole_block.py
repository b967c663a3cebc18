# %% [markdown]
# # Lesson 7: norms, SwiGLU, a whole block
#
# **The question.** Attention moves numbers from row to row. What else is in a block, why are there norms in
# it, and what are the famous outliers?
#
# **You need** from lesson 1: *linear map*, *residual stream*; from lessons 4 to 6: *attention*, *segments*,
# *rotary embedding*. Reading takes about 40 minutes, the two exercises another 25.
#
# ```
# picture.target_size   patches.patchify   vision.embed_patches   vision.order_by_window
# vision.blocks.0.normalise                                    <== you are here: section 2
# vision.blocks.0.project_qkv   vision.blocks.0.rotate         lessons 4 and 6
# vision.blocks.0.attend                                       lessons 4 and 5
# vision.blocks.0.add_attended                                 <== section 4
# vision.blocks.0.add_mlp                                      <== sections 3 and 4
# vision.merge_2x2                                             lesson 8
# decoder.layers.0.normalise   decoder.layers.0.add_mlp        the same passes again
# decoder.normalise   decoder.logits
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.show.plot import table

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load()
vision = vlm.config.vision

image = Image.new("RGB", (168, 140), (200, 200, 205))
ImageDraw.Draw(image).ellipse([20, 24, 76, 80], fill=(222, 40, 40))
content = [{"type": "image", "image": image}, {"type": "text", "text": "Describe the image."}]
inputs = vlm.prepare([{"role": "user", "content": content}])
with minivl.session(record="*") as session:
    vlm.logits(inputs)
trace = session.trace

# %% [markdown]
# ## 1. The stream has no fixed size
#
# Every block adds to the residual stream (lesson 1). Nothing keeps its numbers small or large:

# %%
figure = plot.board(1, 2, (11, 3.2))
plot.stream(trace, "vision.blocks", figure.axes[0])
plot.stream(trace, "decoder.layers", figure.axes[1])
figure

# %% [markdown]
# But a linear map that was trained on numbers around 1 is lost on numbers around 100: its scores would be 100
# times too large, and softmax would put everything on one row. So before each use, a *copy* of the stream is
# brought to one size. That is a **norm**. The stream itself is never normed, or the sizes would be forgotten.
#
# ## 2. RMS norm
#
# **RMS norm**: each row is divided by its rms, the root of the mean of its squares. Then each channel is
# multiplied by a learned weight $g_d$. (A **channel** is one place in the row, the same in all rows: one
# column.)
#
# $$ y_d = \frac{x_d}{\sqrt{\frac1D \sum_{d'} x_{d'}^2 + \varepsilon}}\, g_d \qquad (n \times d \to n \times d) $$
#
# With numbers for the head: the row (3, 4, 0, 0). Squares 9, 16, 0, 0; mean 25/4; root 2.5. Divided: 1.2,
# 1.6, 0, 0.

# %%
def rms_norm(x, weight, eps=1e-6):
    mean_square = (x * x).mean(axis=-1, keepdims=True)  # n d -> n 1
    return x / np.sqrt(mean_square + eps) * weight  # n d


x = np.array([[3.0, 4, 0, 0], [30, 40, 0, 0], [0.003, 0.004, 0, 0], [0, 0, 0, 0]])
normed = rms_norm(x, np.ones(4))
figure = plot.board(1, 2, (9, 2.4))
table(x, figure.axes[0], "four rows", form="{:g}")
table(normed, figure.axes[1], "RMS norm of each", form="{:.4f}")
figure

# %% [markdown]
# The first two rows give the same: only the *direction* of a row is left, its size is gone. The third is a
# little smaller, because there $\varepsilon = 0.000001$ is no longer nothing beside the mean square. And the
# row of zeros stays zero instead of becoming 0/0: that is what $\varepsilon$ is for.
#
# (An older norm, *LayerNorm*, takes the mean of the row away first, and adds a learned bias. This family does
# neither.) The pass of the model, on the first block:

# %%
block = vlm.weights.vision.blocks[0]
stream = trace["vision.order_by_window"]  # w d: what comes into the first block
weight = block.norm1.weight.dense(np.float32)  # d
by_hand = rms_norm(stream, weight, block.norm1.eps)
print("ours against vision.blocks.0.normalise:", np.abs(by_hand - trace["vision.blocks.0.normalise"]).max())

figure = plot.board(1, 3, (12, 2.8))
plot.heat(stream, figure.axes[0])
figure.axes[0].set_title("the stream: rows of different size", size=9)
plot.heat(by_hand, figure.axes[1])
figure.axes[1].set_title("after the norm", size=9)
figure.axes[2].plot(weight, ".", ms=3)
figure.axes[2].set_title("the learned weight of each channel", size=9)
figure

# %% [markdown]
# ## 3. SwiGLU: one number opens another
#
# The second half of a block is an **MLP**: it works on each row alone, with no look at others. It makes a
# row wider, does something that is not linear, and makes it narrow again. The something is this:
#
# $$ g = x\,W_g^\top, \qquad u = x\,W_u^\top \qquad (n \times d) \to (n \times h) $$
#
# $$ y = \big(\mathrm{silu}(g) \cdot u\big)\, W_d^\top \qquad (n \times h) \to (n \times d) $$
#
# The inner width $h$ is some times wider than $d$; `vision.intermediate_size` says how wide. $u$ ("up")
# says *what* could be said, $g$ (the **gate**) *whether* to say it. The two are multiplied number by
# number. And **SiLU** is a soft switch: $\mathrm{silu}(g) = g / (1 + e^{-g})$. For a large $g$ it is nearly
# $g$, for a very negative one nearly 0.

# %%
def silu(g):
    return g / (1 + np.exp(-g))


g = np.linspace(-8, 8, 200)
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.plot(g, silu(g), color=plot.BLUE, label="silu(g)")
axis.plot(g, np.maximum(g, 0), "--", color=plot.ORANGE, label="max(g, 0), the hard switch (relu)")
axis.axhline(0, color="grey", lw=0.5)
axis.legend(fontsize=8)
axis.set(title="the switch", xlabel="g")
plt.show()
print("silu of -10, -1, 0, 1, 10:", silu(np.array([-10.0, -1, 0, 1, 10])))

# %% [markdown]
# A toy: rows of (red, blue, top). Two inner numbers. The first says "red" (up), but only if the patch is on
# top (gate). The second says "blue", and only if it is *not* on top.

# %%
names = ["red, top", "red, bottom", "blue, top", "blue, bottom"]
rows = np.array([[1.0, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]])  # n d: red, blue, top or not
w_gate = np.array([[0.0, 0, 10], [0, 0, -10]])  # h d
w_up = np.array([[1.0, 0, 0], [0, 1, 0]])  # h d
gate, up = rows @ w_gate.T, rows @ w_up.T  # n h

figure = plot.board(1, 4, (12, 2.4))
inner = ["red?", "blue?"]
for axis, array, title in zip(figure.axes, [gate, silu(gate), up, silu(gate) * up],
                              ["gate", "silu(gate)", "up", "silu(gate) * up"], strict=True):
    table(array, axis, title, names, inner, "{:.1f}")
figure

# %% [markdown]
# The last table says "red" for *red and top* and "blue" for *blue and not top*, and nothing else. An "and" of
# two features: no linear map can do that, whatever its weights. (Try: a sum of "red" and "top" cannot tell
# *red and bottom* from *blue and top*.)
#
# The name **SwiGLU** is made of Swish, another name of SiLU, and GLU, gated linear unit.
#
# ## 4. A whole block
#
# Here is a block of the vision tower with nothing left out. You know every line of it.

# %%
def linear(x, w):
    y = x @ w.weight.dense(np.float32).T
    return y if w.bias is None else y + w.bias.dense(np.float32)


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def vision_block(x, cos, sin, segments, w):
    """w d -> w d. cos, sin: w f; segments: g 4; w: the weights of this block."""
    heads, e = w.config.heads, w.config.head_dim

    # first half: what rows gather from each other
    y = rms_norm(x, w.norm1.weight.dense(np.float32), w.norm1.eps)  # normalise
    y = linear(y, w.qkv).reshape(len(x), 3, heads, e)  # project_qkv: w 3d -> w 3 a e
    q, k, v = y[:, 0], y[:, 1], y[:, 2]
    c, s = cos[:, None], sin[:, None]  # rotate: w f -> w 1 f
    q, k = (np.concatenate([z[..., : e // 2] * c - z[..., e // 2 :] * s,
                            z[..., e // 2 :] * c + z[..., : e // 2] * s], axis=-1) for z in (q, k))
    attended = np.empty_like(q)
    for q0, q1, k0, k1 in segments:  # attend: in each segment, all heads
        scores = np.einsum("nae,mae->anm", q[q0:q1], k[k0:k1]) / np.sqrt(e)
        attended[q0:q1] = np.einsum("anm,mae->nae", softmax(scores), v[k0:k1])
    x = x + linear(attended.reshape(len(x), -1), w.out)  # add_attended: w a e -> w (a e) -> w d

    # second half: what each row makes of itself
    y = rms_norm(x, w.norm2.weight.dense(np.float32), w.norm2.eps)
    gate, up = np.split(linear(y, w.mlp.gate_up), 2, axis=1)  # w d -> w 2h -> w h, w h
    return x + linear(silu(gate) * up, w.mlp.down)  # add_mlp: w h -> w d


cos, sin = trace["vision.cos_sin"]
segments = trace["vision.schedule"]
x = vision_block(stream, cos, sin, segments[0], block)
print("one block by hand, largest difference:", np.abs(x - trace["vision.blocks.0.add_mlp"]).max())

x = stream
for n, weights in enumerate(vlm.weights.vision.blocks):
    x = vision_block(x, cos, sin, segments[n], weights)
wanted = trace[f"vision.blocks.{vision.depth - 1}.add_mlp"]
print(f"all {vision.depth} blocks by hand, relative:  ", np.linalg.norm(x - wanted) / np.linalg.norm(wanted))

# %% [markdown]
# Differences of this size are rounding in float32: sums were formed in another order. They grow a little with
# each block and stay far below what a wrong formula would do (section 6).
#
# Two norms, seven matrices (q, k and v, out, gate, up, down) with a bias each, and nothing more: that is a block.
# The decoder's layers are the same, but look back only, and their q, k and v have a bias while the others have
# none.
#
# What do the halves add, and where? For each block, the size of what attention and the MLP add to each row,
# laid on the picture:

# %%
at = minivl.provenance(inputs, vlm.config)
depth = min(vision.depth, 6)
figure = plot.board(2 * -(-depth // 3), 3, (12, 9))  # three blocks beside each other, attention above, MLP below
for n in range(depth):
    before = stream if n == 0 else trace[f"vision.blocks.{n - 1}.add_mlp"]
    middle, after = trace[f"vision.blocks.{n}.add_attended"], trace[f"vision.blocks.{n}.add_mlp"]
    for line, added in enumerate([middle - before, after - middle]):
        axis = figure.axes[(2 * (n // 3) + line) * 3 + n % 3]
        plot.rows(added, "w", at, axis, label="rms added")
        axis.set_title(f"block {n}: {('attention', 'MLP')[line]}", size=9)
figure

# %% [markdown]
# ## 5. Outliers
#
# Look at the stream at the end of the tower channel by channel: the largest number that any row has there.

# %%
last = trace[f"vision.blocks.{vision.depth - 1}.add_mlp"]  # w d
figure = plot.board(1, 2, (12, 3))
plot.channels(last, figure.axes[0])
figure.axes[0].set_title("the tower's stream at its end", size=9)
plot.channels(trace["decoder.select_rows"], figure.axes[1])
figure.axes[1].set_title("the decoder's stream at its end, last row", size=9)
figure

# %% [markdown]
# Large models have a few channels that are far larger than all others, in every picture: **outliers**. In the
# official towers they reach thousands. Whether the small model has some, the figure tells. We can put one
# into a row and see what it does:

# %%
usual = np.ones((1, 8))
odd = usual.copy()
odd[0, 2] = 1000.0
pair = np.concatenate([usual, odd])
figure = plot.board(1, 2, (11, 2.1))
table(pair, figure.axes[0], "a usual row, and one with an outlier", ["usual", "outlier"], form="{:g}")
table(rms_norm(pair, np.ones(8)), figure.axes[1], "after the norm", ["usual", "outlier"], form="{:.4f}")
figure

# %% [markdown]
# The outlier decides the rms alone: 1000 / sqrt(8) = 354. The others become 1/354. In float32 nothing is lost
# by that; the next matrix can have large weights for them. In small types much is lost:

# %%
# 1. Squares in float16 overflow beyond 256 (256 * 256 = 65,536, and the largest float16 is 65,504).
row = np.array([300.0, 1, 1, 1], np.float16)
with np.errstate(over="ignore"):
    square = row * row
print("squares in float16:", square, "  so the row becomes", row / np.sqrt(square.mean(dtype=np.float32)))
print("squares in float32:", kernels.rms_norm(row[None], block.norm1._replace(
    weight=minivl.checkpoint.weight.weight(np.ones(4, np.float16))))[0])

# 2. Eight bits with one scale for the whole row (as crude quantisation does): the outlier takes all steps.
scale = np.abs(odd).max() / 127
print("in 8 bits and back:", np.rint(odd / scale) * scale)

# %% [markdown]
# In the first line a whole row of a picture has become zero, and an object was missing from every caption
# (lablup/mlxcel#1601). So the model's norms form their mean in float32, whatever the type of the rows. It
# does not help where the *stream* itself grows beyond 65,504, as it does in the official towers on some
# pictures: then float16 gives infinity, then NaN, and a row of exclamation marks for an answer
# (huggingface/transformers#33294). bfloat16 has the range of float32 and is what the models were trained
# in.
#
# ## 6. Now break it
#
# We change one formula in every block, of the tower and of the decoder. **Predict** which is loudest. (The
# learned weights were trained around the right formula. A model *trained* with another one might do as well.)

# %%
def layer_norm(x, norm):
    y = x - x.mean(axis=-1, keepdims=True)
    return kernels.rms_norm.definition(y, norm)


def one_plus_weight(x, norm):
    """As other families do: weights stored as differences from 1. Ports have added the 1 twice."""
    bare = kernels.rms_norm.definition(x, norm)
    return bare + kernels.rms_norm.definition(x, norm) / norm.weight.dense(x.dtype)


def no_norm(x, norm):
    return x * norm.weight.dense(x.dtype)


def norm_of_all(x, norm):
    """One rms for the whole table in place of one for each row."""
    return x / np.sqrt((x * x).mean() + x.dtype.type(norm.eps)) * norm.weight.dense(x.dtype)


def mlp_with(gated):
    def mlp(x, w):
        gate, up = np.split(kernels.linear(x, w.gate_up), 2, axis=-1)
        return kernels.linear(gated(gate, up).astype(x.dtype), w.down)
    return mlp


faults = {"LayerNorm in place of RMS norm": {"kernel.rms_norm": layer_norm},
          "1 + weight": {"kernel.rms_norm": one_plus_weight},
          "no norm": {"kernel.rms_norm": no_norm},
          "one rms for all rows": {"kernel.rms_norm": norm_of_all},
          "gate and up exchanged": {"kernel.gated_mlp": mlp_with(lambda gate, up: gate * silu(up))},
          "relu in place of silu": {"kernel.gated_mlp": mlp_with(lambda gate, up: np.maximum(gate, 0) * up)},
          "no gate": {"kernel.gated_mlp": mlp_with(lambda gate, up: silu(up))},
          "no MLP at all": {"kernel.gated_mlp": lambda x, w: np.zeros_like(x)}}
tokens, scores = vlm.vision(inputs), vlm.logits(inputs)[-1]


def moved(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


print(f"{'':32s} visual tokens   scores    answer")
print(f"{'(the truth)':32s} {'':13s} {'':8s}    A red circle.")
print(f"{'no fault':32s} {0:13.1%} {0:8.1%}    {vlm.ask(image, 'Describe the image.')}")
with np.errstate(all="ignore"):
    for name, fault in faults.items():
        with minivl.using(fault):
            try:
                said = repr(vlm.ask(image, "Describe the image.", max_new_tokens=12))
            except minivl.Error:                                    # no word can be chosen among these scores
                said = "(the scores are no numbers)"
            with minivl.session(record="vision.restore_order") as session:
                wrong = vlm.logits(inputs)[-1]
            off = moved(session.trace["vision.restore_order"], tokens)
            print(f"{name:32s} {off:13.1%} {moved(wrong, scores):8.1%}    {said}")

# %% [markdown]
# Look for the quiet ones. A norm that is only a little different from the trained one can give an answer that
# reads well. No check of shapes finds it; a comparison of each pass with the right one does, at the first
# block.
#
# ## Exercise 7.1: RMS norm (about 10 minutes)
#
# Write `rms_norm(x, weight, eps)`: `x` (n, d), `weight` (d,). On paper first: the row (3, 4, 0, 0) with
# weight (1, 2, 1, 1) and eps 0. (The function of section 2 has the same name. Yours takes its place; do not
# look back.)
#
# <details><summary>Hint 1</summary>Three steps: mean of the squares of each row, root, division. Which axis
# is the mean along?</details>
# <details><summary>Hint 2</summary>keepdims=True keeps the shape (n, 1), which divides (n, d) row by row. eps
# is added before the root.</details>
# <details><summary>Hint 3</summary>return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) *
# weight</details>

# %%
def rms_norm(x, weight, eps):
    """n d, d -> n d."""
    ### BEGIN SOLUTION
    mean_square = (x * x).mean(axis=-1, keepdims=True)  # n d -> n 1
    return x / np.sqrt(mean_square + eps) * weight
    ### END SOLUTION


# %% tags=["check"]
minivl.check("7.1", rms_norm)

# %% [markdown]
# ## Exercise 7.2: SwiGLU (about 15 minutes)
#
# Write `swiglu(x, gate, up, down)`: `x` (n, d), the matrices `gate` and `up` (h, d), `down` (o, h), without
# biases. Out comes (n, o).
#
# <details><summary>Hint 1</summary>Three linear maps, one switch, one product. Write the shape behind each
# line.</details>
# <details><summary>Hint 2</summary>silu goes on the gate only, and the product is number by number
# (*).</details>
# <details><summary>Hint 3</summary>g = x @ gate.T; return (g / (1 + np.exp(-g)) * (x @ up.T)) @
# down.T</details>

# %%
def swiglu(x, gate, up, down):
    """n d, h d, h d, o h -> n o."""
    ### BEGIN SOLUTION
    g = x @ gate.T  # n d, d h -> n h
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T  # n h -> n o
    ### END SOLUTION


# %% tags=["check"]
minivl.check("7.2", swiglu)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `rms_norm`, `norm.eps` | `Qwen2_5_VLRMSNorm`, `variance_epsilon` |
# | the norms of a vision block | `norm1`, `norm2` |
# | the norms of a decoder layer | `input_layernorm`, `post_attention_layernorm` (RMS norms all the same) |
# | `gated_mlp` in the tower | `Qwen2_5_VLMLP` with `bias=True` |
# | `gate_up`, one matrix here | `gate_proj` and `up_proj` |
# | `silu` | `hidden_act = "silu"`, also called swish |
# | a block | `Qwen2_5_VLVisionBlock`, `Qwen2_5_VLDecoderLayer` |
# | `add_attended` | `proj` in the tower, `o_proj` in the decoder, and the sum after it |
#
# ## Read next
#
# - `minivl/passes/block.py`: section 4 as six passes, for tower and decoder alike.
# - `minivl/model.py`: `vision_block` is five lines. You can read all of them now.
# - Lesson 8: the tower ends with as many rows as there are patches. How do they become a quarter as many?

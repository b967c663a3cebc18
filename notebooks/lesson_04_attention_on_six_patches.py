# %% [markdown]
# # Lesson 4: attention on six patches
#
# **The question.** Every patch is a row of numbers, and so far each row knows its own 14 x 14 pixels only.
# How do rows exchange what they know? With six rows, so that every number can be printed.
#
# **You need** NumPy (`@`, `reshape`, `transpose`), and from the lessons before: a *patch* is a square of
# pixels and one row of the table; a *linear map* is $y = x\,W^\top$. Reading takes about 45 minutes, the two
# exercises another 35.
#
# ```
# picture.target_size   picture.resize   picture.normalise     lesson 2
# patches.patchify                                             lesson 3
# vision.window_order   vision.schedule                        who may look at whom (section 7)
# vision.embed_patches   vision.order_by_window
# vision.blocks.0.project_qkv                                  section 2
# vision.blocks.0.rotate                                       a later lesson: where a row stands
# vision.blocks.0.attend                                       <== you are here: sections 3 to 8
# vision.blocks.0.add_attended   vision.merge_2x2   vision.restore_order
# decoder.layers.0.attend                                      the same again, looking back only
# decoder.logits   sampling.most_likely
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.kernels import definition as kernels
from minivl.passes import windows
from minivl.show import plot
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## 1. Six patches
#
# Two rows of three patches, named A to F. Each is described by four numbers: is it red, is it blue, is it in
# the top row, is it in the bottom row. (In the model of the package it is 192 numbers, in the official towers 1,280,
# and nobody has named them.)

# %%
names = list("ABCDEF")
says = ["red", "blue", "top", "bottom"]
x = np.array([  # red blue top bottom
    [1, 0, 1, 0],  # A
    [0, 1, 1, 0],  # B
    [1, 0, 1, 0],  # C
    [0, 1, 0, 1],  # D
    [0, 1, 0, 1],  # E
    [1, 0, 0, 1],  # F
], float)

figure, axes = plt.subplots(1, 2, figsize=(10, 2.8))
colours = np.where(x[:, :1] == 1, [222, 40, 40], [45, 75, 225]).astype(np.uint8)
axes[0].imshow(colours.reshape(2, 3, 3), alpha=0.7)
for n, name in enumerate(names):
    axes[0].text(n % 3, n // 3, name, ha="center", va="center", fontsize=18, color="white")
axes[0].set(xticks=[], yticks=[], title="the picture")
table(x, axes[1], f"x {x.shape}: n patches, d = 4 numbers each", names, says)
plt.show()

# %% [markdown]
# ## 2. Query, key, value
#
# Each row makes three things of itself, each by a linear map with learned weights:
#
# - its **query** $q$: what it looks for,
# - its **key** $k$: what it is found by,
# - its **value** $v$: what it hands over to those who found it.
#
# $$ q = x\,W_q^\top, \qquad k = x\,W_k^\top, \qquad v = x\,W_v^\top \qquad (n \times d) \to (n \times d) $$
#
# We choose the weights by hand, so that the first two columns of q, k and v ("head 0", made by the first two rows
# of each $W$) ask *who has my colour?* and bring back *top or bottom*, and the last two ("head 1") ask *who is in
# the other row?* and bring back *which colour*. Columns are named `head.number`: "1.0" is number 0 of head 1. There
# a patch of the bottom row asks with 3, and a patch of the top row is found by 1: so bottom looks for top.

# %%
#               red blue top bottom
wq = np.array([[3, 0, 0, 0], [0, 3, 0, 0],  # head 0 looks for its own colour, three times as loud
               [0, 0, 0, 3], [0, 0, 3, 0]], float)  # head 1: 1.0 asks if I am bottom, 1.1 if I am top
wk = np.array([[1, 0, 0, 0], [0, 1, 0, 0],  # head 0 is found by its colour
               [0, 0, 1, 0], [0, 0, 0, 1]], float)  # head 1 by its place: 1.0 if top, 1.1 if bottom
wv = np.array([[0, 0, 1, 0], [0, 0, 0, 1],  # head 0 hands over its place
               [1, 0, 0, 0], [0, 1, 0, 0]], float)  # head 1 its colour
q, k, v = x @ wq.T, x @ wk.T, x @ wv.T  # n d, d d -> n d

figure, axes = plt.subplots(1, 3, figsize=(12, 2.8))
made = {"q: looks for": q, "k: is found by": k, "v: hands over": v}
for axis, name in zip(axes, made, strict=True):
    table(made[name], axis, f"{name} {made[name].shape}", names, ["0.0", "0.1", "1.0", "1.1"])
    axis.axvline(1.5, color="black")
    axis.set_xlabel("head.number")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## 3. Scores: every query against every key
#
# First head 0 alone: two numbers a row, its width is $e = 2$. How well does key $j$ fit query $i$? Multiply
# number by number and add up (the *dot product*: a **score**), then divide by $\sqrt{e}$:
#
# $$ s_{ij} = \frac{1}{\sqrt e}\sum_{c=1}^{e} q_{ic}\,k_{jc}
#    \qquad (n \times e), (n \times e) \to (n \times n) $$

# %%
q0, k0, v0 = q[:, :2], k[:, :2], v[:, :2]  # n d -> n e
e = q0.shape[1]
print("A asks:")
for j, name in enumerate(names):
    terms = " + ".join(f"{a:g}*{b:g}" for a, b in zip(q0[0], k0[j], strict=True))
    print(f"   A and {name}: ({terms}) / sqrt({e}) = {(q0[0] * k0[j]).sum() / np.sqrt(e):.3f}")

scores = q0 @ k0.T / np.sqrt(e)  # n e, e n -> n n
print("all of them at once:\n", scores)

# %% [markdown]
# Why divide? A dot product of $e$ random numbers has a spread of $\sqrt{e}$ (each of the $e$ terms has a variance
# of 1, and variances add up): wider heads would shout, and softmax would give nearly all to one key. The division
# keeps the scores equally loud for every width. (Trained q and k are not random; what the division does to a real
# model, section 10 measures.) Measured, not believed:

# %%
draw = np.random.default_rng(0)
for width in (2, 8, 32, 80, 128):
    spread = (draw.standard_normal((20000, width)) * draw.standard_normal((20000, width))).sum(axis=1).std()
    print(f"width {width:3d}: spread {spread:6.2f}  sqrt {width**0.5:6.2f}  ratio {spread / width**0.5:.2f}")

# %% [markdown]
# ## 4. Softmax: scores to shares
#
# Scores become shares $w$ (not to be taken for the weights $W$) that are positive and sum to one in every row.
# Large scores get nearly everything:
#
# $$ w_{ij} = \frac{\exp(s_{ij} - m_i)}{\sum_{j'} \exp(s_{ij'} - m_i)}, \qquad m_i = \max_j s_{ij} $$
#
# Subtracting the largest score changes nothing, since the factor $\exp(-m_i)$ stands above and below the
# line, but without it a score of 1000 would give infinity.

# %%
row = scores[0]  # A's
shifted = row - row.max()
powers = np.exp(shifted)
print("scores of A   ", row)
print("minus the max ", shifted)
print("exp           ", powers, "  their sum:", powers.sum().round(3))
print("shares        ", powers / powers.sum(), "  their sum:", (powers / powers.sum()).sum())
with np.errstate(over="ignore"):
    print("without the shift, for a score of 1000: exp gives", np.exp(1000.0))


def softmax(scores):
    """Shares along the last axis: n m -> n m."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


shares = softmax(scores)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4))
table(scores, axes[0], "scores of head 0", names, names)
table(shares, axes[1], "shares of head 0: each row sums to 1", names, names)
for axis in axes:
    axis.set(xlabel="key: who is looked at", ylabel="query: who looks")
plt.show()

# %% [markdown]
# Read row A aloud: "I take the same share of each red patch (myself too), and a little of the blue ones".
#
# ## 5. The weighted sum
#
# Each row now collects the values, in these shares. Query, key, value, scores, shares and this sum together
# are called **attention**:
#
# $$ o_i = \sum_j w_{ij}\,v_j \qquad (n \times n)\,(n \times e) \to (n \times e) $$

# %%
print("A collects (top, bottom):")
for j, name in enumerate(names):
    print(f"   {shares[0, j]:.3f} * {v0[j]}   from {name}")
print("   sum   ", sum(shares[0, j] * v0[j] for j in range(6)))

out0 = shares @ v0  # n n, n e -> n e
figure, axis = plt.subplots(figsize=(4, 3))
table(out0, axis, f"what head 0 brings {out0.shape}", names, ["top", "bottom"])
plt.show()

# %% [markdown]
# So A now knows that patches of its colour are mostly in the top row: about A itself *and* about others,
# with no pixel moved. Note that A and C get the same: their rows were the same. Attention does not know where
# a row stands in the table; if places are to matter, they must be put into q and k (that is `rotate`, a later
# lesson).
#
# ## 6. Heads, and why a reshape alone is wrong
#
# Scores, shares, weighted sum: one such attention, on its own columns, is a **head**. Head 1 does the same
# with columns 2 and 3, at the same time and independently. So we want `a` = 2 heads of width `e` = 2
# instead of one row of 4. Splitting is a reshape: $(n \times d) \to (n \times a \times e)$. To work head by
# head, heads must come first: $(a \times n \times e)$. And here is the trap. Both lines below give the
# shape (2, 6, 2):

# %%
labels = np.array([[f"{name}{h}.{c}" for h in range(2) for c in range(2)] for name in names])  # head.number
right = labels.reshape(6, 2, 2).transpose(1, 0, 2)  # n (a e) -> n a e -> a n e
wrong = labels.reshape(2, 6, 2)  # the shape is right, too
print("head 0, split and transposed:", [" ".join(row) for row in right[0]])
print("head 0, reshape alone:       ", [" ".join(row) for row in wrong[0]])

# %% [markdown]
# `reshape` never moves a number: alone it cuts the table after half of the *patches*. What it calls head 0 is
# both heads of A, B and C. The result has the right shape and is nonsense. The way back has the same trap:
# transpose first, then join. (Below, rows stay in front, `n a e`, and `einsum` goes head by head by itself: no
# transpose, no trap. `m` is the number of keys, which need not be that of the queries.)

# %%
def split_heads(y, heads):
    return y.reshape(len(y), heads, -1)  # n (a e) -> n a e


def attend_all(q, k, v):
    """Everything above, for all heads: n a e, m a e, m a e -> n a e. Letters of einsum are the axes."""
    scores = np.einsum("nae,mae->anm", q, k) / np.sqrt(q.shape[-1])
    return np.einsum("anm,mae->nae", softmax(scores), v)


qh, kh, vh = (split_heads(y, 2) for y in (q, k, v))
out = attend_all(qh, kh, vh)
print("shapes:", q.shape, "->", qh.shape, "-> attention ->", out.shape, "-> joined", out.reshape(6, 4).shape)
print("head 0 as before:", np.allclose(out[:, 0], out0))

figure, axis = plt.subplots(figsize=(6, 3))
table(out.reshape(6, 4), axis, "both heads, side by side", names, ["top", "bottom", "red", "blue"])
axis.set_xlabel("of my colour (head 0)          in the other row (head 1)")
plt.show()

# %% [markdown]
# Check head 1 by eye: B is in the top row. The bottom row is blue, blue, red. Does B's line say "more blue"?
# (In the model one more linear map takes the joined heads, and its result is added to x: lesson 1, section 6.)
#
# ## 7. A window is a segment
#
# Every row looks at every other: $n^2$ scores. A photo of 1092 x 1932 pixels has 10,764 patches and so 116
# million scores, in every head of every block. So most blocks look only inside **windows**, squares of 112
# pixels in the official models, 64 patches: that is 64 scores for each row. A few blocks look everywhere, so
# that news can travel between windows.
#
# In our toy, a window is two patches wide: A B D E in one, C F in the other (it would be wider, but the
# picture ends). As a table of yes and no, a **mask**, that looks scattered. But if we **sort the rows by
# window**, every window is a run of consecutive rows, and all that needs saying is where the runs begin and
# end: a table of **segments**, one line `q0 q1 k0 k1` each: *queries q0 to q1 see keys k0 to k1*, the last
# one not included. (Queries and keys have ends of their own since these may differ: section 8. The real model
# moves whole cells, four rows at a time, so the 2x2 order of lesson 3 survives.)

# %%
window = np.array([0, 0, 1, 0, 0, 1])  # of A B C D E F
order = np.argsort(window, kind="stable")  # stable: inside a window the reading order stays
segments = np.array([[0, 4, 0, 4], [4, 6, 4, 6]])
print("order:", order, "=", [names[n] for n in order], "  segments:", segments.tolist())

mask = window[:, None] == window[None, :]  # n n: may i see j?
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
table(mask.astype(float), axes[0], "who sees whom, in reading order", names, names)
ordered = [names[n] for n in order]
table(mask[order][:, order].astype(float), axes[1], "sorted by window: two segments", ordered, ordered)
plt.show()


def attend_segments(q, k, v, segments):
    """Attention inside segments: n a e, n a e, n a e, g 4 -> n a e. No mask is ever made."""
    out = np.zeros_like(q)
    for q0, q1, k0, k1 in segments:
        out[q0:q1] = attend_all(q[q0:q1], k[k0:k1], v[k0:k1])
    return out


by_segment = attend_segments(qh[order], kh[order], vh[order], segments)  # sorted rows go in and come out
back = by_segment[np.argsort(order)]  # and are put back: argsort(order) says at which place each row stands now

scores = np.einsum("nae,mae->anm", qh, kh) / np.sqrt(2)
by_mask = np.einsum("anm,mae->nae", softmax(np.where(mask, scores, -np.inf)), vh)  # exp(-inf) is 0: no share
print("segments and mask give the same:", np.allclose(back, by_mask))
print("sorting back with `order` instead of argsort(order) gives:", [ordered[n] for n in order], " wrong")

# %% [markdown]
# The last line is a bug that ports have had (lablup/mlxcel#1601). It hides on pictures whose order happens to
# be its own inverse.
#
# ## 8. The same through the model's kernel
#
# A kernel is one of the dozen functions that do all arithmetic of the model. `attend` takes exactly our
# arrays:

# %%
full = np.array([[0, 6, 0, 6]])  # one segment: all see all
print("all see all:   ", np.allclose(kernels.attend(qh, kh, vh, full, False), out))
windowed_out = kernels.attend(qh[order], kh[order], vh[order], segments, False)
print("windows:       ", np.allclose(windowed_out, by_segment))

# %% [markdown]
# Its last argument is `causal`. The language part (the decoder) writes one token after the other, and a
# token may only look *back* (**causal** attention): query $i$ sees key $j$ when $j \le i$. Then the first
# row can only see itself, and the table of shares is a triangle. In a segment with fewer queries than keys the
# queries are the newest rows: the *last query stands at the last key*, so a single new one sees all.

# %%
causal_scores = np.where(np.tri(6, dtype=bool), np.einsum("nae,mae->anm", qh, kh) / np.sqrt(2), -np.inf)
causal_shares = softmax(causal_scores)
figure, axis = plt.subplots(figsize=(5, 3.2))
table(causal_shares[0], axis, "shares of head 0, looking back only", names, names)
plt.show()
by_hand = np.einsum("anm,mae->nae", causal_shares, vh)
print("causal:        ", np.allclose(kernels.attend(qh, kh, vh, full, True), by_hand))
last = kernels.attend(qh[5:], kh, vh, np.array([[0, 1, 0, 6]]), True)  # one query, row 5, and six keys
print("one row at a time, as in writing:", np.allclose(last, by_hand[5:]))

# %% [markdown]
# ## 9. In the real model
#
# We record what goes into `attend` in a windowed block and in a full one, and do the sum by hand. `rotate`
# gives q and k, `project_qkv` gives v.

# %%
vlm = minivl.load()
image = Image.new("RGB", (168, 112), (200, 200, 205))
ImageDraw.Draw(image).ellipse([14, 30, 62, 78], fill=(222, 40, 40))
ImageDraw.Draw(image).ellipse([104, 34, 152, 82], fill=(222, 40, 40))


def inputs_of(image):
    content = [{"type": "image", "image": image}, {"type": "text", "text": "Describe the image."}]
    return vlm.prepare([{"role": "user", "content": content}])


inputs = inputs_of(image)
with minivl.session(record="vision.*") as session:
    vlm.vision(inputs)
trace = session.trace

full_block = vlm.config.vision.fullatt_block_indexes[0]
windowed = next(n for n in range(vlm.config.vision.depth) if n not in vlm.config.vision.fullatt_block_indexes)
print("windowed block:", windowed, "  one without windows:", full_block)
print("a window is", vlm.config.vision.window_size, "pixels wide in this small model")
for block in (windowed, full_block):
    q_real, k_real = trace[f"vision.blocks.{block}.rotate"]
    v_real = trace[f"vision.blocks.{block}.project_qkv"][2]
    segments_real = trace["vision.schedule"][block]
    ours = attend_segments(q_real, k_real, v_real, segments_real)
    print(f"block {block}: q {q_real.shape} (patches, heads, width), {len(segments_real)} segments; "
          f"ours against the model: {np.abs(ours - trace[f'vision.blocks.{block}.attend']).max():.1e}")

# %% [markdown]
# Where does one patch look? Rows are sorted by window, so we need the patch behind each row: `provenance`
# knows (it sends coordinates through the same passes). We ask for a patch on the rim of the left disc.

# %%
at = minivl.provenance(inputs, vlm.config)["w"]  # w 4: picture, time, row, column of the patch behind every row
at = at[:, 2:]  # w 2: row and column (the axis w: patches sorted by window)
other = np.hypot(at[:, 1] * 14 + 7 - 128, at[:, 0] * 14 + 7 - 58) < 31  # w: is it on the right disc, or its rim?
patch = (4, 4)
asking = int(np.flatnonzero((at == patch).all(axis=1))[0])
heads = min(4, vlm.config.vision.heads)
figure, axes = plt.subplots(2, 1 + heads, figsize=(12, 4.6))
for line, block in zip(axes, (windowed, full_block), strict=True):
    q_real, k_real = trace[f"vision.blocks.{block}.rotate"]
    q0, q1, k0, k1 = next(s for s in trace["vision.schedule"][block] if s[0] <= asking < s[1])
    scores = np.einsum("ae,mae->am", q_real[asking], k_real[k0:k1]) / np.sqrt(q_real.shape[-1])
    share = np.zeros((q_real.shape[1], len(at)))  # heads, rows; 0 outside of the segment
    share[:, k0:k1] = softmax(scores)
    line[0].imshow(image)
    line[0].plot(patch[1] * 14 + 7, patch[0] * 14 + 7, "k+", ms=12, mew=2)
    line[0].set_title(f"block {block}: {k1 - k0} of {len(at)} patches are seen", fontsize=9)
    for head, axis in enumerate(line[1:]):
        seen = np.zeros((8, 12))
        seen[at[:, 0], at[:, 1]] = share[head]
        axis.imshow(seen, cmap="magma", vmin=0)
        axis.plot(patch[1], patch[0], "w+")
        axis.set_title(f"head {head}, largest share {share[head].max():.2f}", fontsize=9)
    print(f"block {block}: shares on the other disc, head by head {share[:, other].sum(axis=1).round(3)}; "
          f"if all {k1 - k0} got the same: {other[k0:k1].sum() / (k1 - k0):.3f}")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.tight_layout()
plt.show()

# %% [markdown]
# In the upper line nothing outside the window has a share: not a small one, none. In the lower line the other
# disc is in reach (its rim was in the window too). How much of each head goes there is printed, beside an even
# share: it may well be less. (Not more than four heads are drawn. Beware of reading too much into such maps: a
# share says where numbers came from, not what they were used for.)
#
# ### Why a program may have no shares to show
#
# Fast kernels (SDPA, flash attention) never write the table of shares down: they go through the keys in pieces and
# keep a running sum for each query. That is what makes them fast, and so there is nothing to give back. The
# reference, asked with `output_attentions=True`, gives the decoder's shares under `attn_implementation="eager"` and
# an *empty* tuple with a line in the log under SDPA. Of the tower it gives no shares under any: what it records there
# under the name `attentions` has the shape (rows, width), and is what `attend` hands on. And keeping all shares is
# expensive. For an official tower and a photo of 1092 x 1932 pixels:

# %%
patches, heads_there, without, with_windows = 78 * 138, 16, 4, 28
bytes_without = 4 * heads_there * without * patches**2
bytes_windowed = 4 * heads_there * with_windows * patches * 64  # at most 64 patches in a window
print(f"all shares: {bytes_without / 2**30:.1f} GiB in {without} blocks without windows,",
      f"{bytes_windowed / 2**30:.1f} GiB in {with_windows} with windows")
print(f"those of one query in one block without windows: {4 * heads_there * patches / 2**20:.2f} MiB")

# q and k are small, so keep those, and compute the rows that you want to see
q_real, k_real = trace[f"vision.blocks.{full_block}.rotate"]
one = plot.attention_weights(q_real, k_real, trace["vision.schedule"][full_block], asking)  # a w
print("kept:", q_real.nbytes + k_real.nbytes, "bytes; computed for one query:", one.shape,
      "  as above:", np.allclose(one, share, atol=1e-5))

# %% [markdown]
# ## 10. Now break it
#
# Each fault below has been in somebody's port, or is one keystroke away from it. **Predict** which moves the
# visual tokens most, and whether any is noticed by `verify=True` (shapes, labels, finite numbers). The *pass*
# `attend` takes four arguments, the kernel a fifth, `causal`. A pass's `.definition` is its plain function: called
# by its own name, `windows.schedule` would be our replacement again. (`grids`: a line for each picture, lesson 5.)
#
# The picture is a single disc now: the small model errs on crowded ones, and a fault is judged best where the
# model is right without it. The row "no fault" is what it says then; compare that with the truth first.

# %%
def no_scale(q, k, v, segments):
    return kernels.attend(q * q.dtype.type(np.sqrt(q.shape[-1])), k, v, segments, False)


def reshaped_heads(q, k, v, segments):
    n, a, e = q.shape
    wrong = [y.reshape(a, n, e).transpose(1, 0, 2) for y in (q, k, v)]  # n a e -> "a n e" -> n a e
    return kernels.attend(*wrong, segments, False)


def over_queries(q, k, v, segments):
    """Softmax along the wrong axis: shares sum to one for each key."""
    out = np.zeros_like(q)
    for q0, q1, k0, k1 in segments:
        scores = np.einsum("nae,mae->anm", q[q0:q1], k[k0:k1]) / np.sqrt(q.shape[-1])
        share = softmax(scores.swapaxes(1, 2)).swapaxes(1, 2)
        out[q0:q1] = np.einsum("anm,mae->nae", share, v[k0:k1])
    return out


def looking_back(q, k, v, segments):
    return kernels.attend(q, k, v, segments, True)


def every_block_as(block):
    """All blocks get the segments of this one."""
    return lambda grids, config: (windows.schedule.definition(grids, config)[block],) * config.depth


faults = {
    "no division by sqrt(e)": {"vision.blocks.*.attend": no_scale},
    "heads by reshape alone": {"vision.blocks.*.attend": reshaped_heads},
    "softmax over the queries": {"vision.blocks.*.attend": over_queries},
    "causal in the vision part": {"vision.blocks.*.attend": looking_back},
    "no windows at all": {"vision.schedule": every_block_as(full_block)},
    "windows in every block": {"vision.schedule": every_block_as(windowed)},
    "rows not put back": {"vision.restore_order": lambda cells, order: cells},
    "put back with order": {"vision.restore_order": lambda cells, order: cells[order]},
}


def moves(image):
    """How far each fault moves the visual tokens of a picture, 0 for not at all."""
    inputs = inputs_of(image)
    wanted, off = vlm.vision(inputs), {}
    for name, fault in faults.items():
        with minivl.using(fault), minivl.session(verify=True):
            off[name] = np.linalg.norm(vlm.vision(inputs) - wanted) / np.linalg.norm(wanted)
    return off


disc = Image.new("RGB", (168, 112), (200, 200, 205))
ImageDraw.Draw(disc).ellipse([14, 30, 62, 78], fill=(222, 40, 40))
small = disc.crop((0, 20, 56, 76))  # no larger than one window
large, tiny = moves(disc), moves(small)
print(f"{'':28s} {disc.width} x {disc.height}    {small.width} x {small.height}   answer for the large one")
print(f"{'(the truth)':28s} {'':20s}  A red circle.")
print(f"{'no fault':28s} {0:8.1%}   {0:8.1%}   {vlm.ask(disc, 'Describe the image.')}")
for name, fault in faults.items():
    with minivl.using(fault):
        print(f"{name:28s} {large[name]:8.1%}   {tiny[name]:8.1%}   {vlm.ask(disc, 'Describe the image.')}")

# %% [markdown]
# Every run came to its end: `verify` has found nothing, since all shapes are right. "No windows" and "windows
# in every block" have both been in published ports (Emericen/tiny-qwen, nvidia-cosmos/cosmos-rl#171): they
# answer in good sentences. Where the answer survives, look at the numbers that moved. (Per cent as in lesson 1,
# section 9. They do not say how bad a fault is; but a right port in float32 moves by rounding only, so whatever
# shows here is one.)
#
# And look at the column of the small picture. Wherever it says 0.0 %, a test on small pictures would have
# passed.
#
# ## Exercise 4.1: attention with a mask (about 15 minutes)
#
# Write `attend_masked(q, k, v, seen)`: `q` (n, e), `k` and `v` (m, e), one head; `seen` (n, m) is True where
# query i may look at key j. What may not be seen gets no share at all, whatever its score. Every row sees
# something.
#
# <details><summary>Hint 1</summary>Multiplying the shares by the mask at the end is not enough: then rows no
# longer sum to one. The mask must come before the softmax.</details>
# <details><summary>Hint 2</summary>Which score has the power 0? np.where(seen, scores, ...) puts it there.
# The largest score must be looked for after that.</details>
# <details><summary>Hint 3</summary>scores = np.where(seen, q @ k.T / np.sqrt(q.shape[-1]), -np.inf); then
# softmax(scores) @ v.</details>

# %%
def attend_masked(q, k, v, seen):
    """One head: n e, m e, m e, n m -> n e."""
    ### BEGIN SOLUTION
    scores = np.where(seen, q @ k.T / np.sqrt(q.shape[-1]), -np.inf)  # n m
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True) @ v  # n m, m e -> n e
    ### END SOLUTION


# %% tags=["check"]
minivl.check("4.1", attend_masked)

# %% [markdown]
# ## Exercise 4.2: four query heads, two key-value heads (about 20 minutes)
#
# The decoder saves memory, for it keeps the keys and values of all tokens so far: several query heads share one
# key and value head (**grouped-query attention**). With `a` query heads and `kv` key-value heads, the first
# `a / kv` query heads use key-value head 0, the next `a / kv` use head 1, and so on. Write
# `attend_grouped(q, k, v)`: `q` (n, a, e), `k` and `v` (m, kv, e), everyone sees everyone; out comes (n, a, e).
#
# <details><summary>Hint 1</summary>You have attend_all for equal numbers of heads. Which key-value head
# belongs to query head 0, 1, 2, 3 when there are four and two?</details>
# <details><summary>Hint 2</summary>Query head h reads key-value head h // (a // kv), with a = q.shape[1]
# and kv = k.shape[1]. With % instead of // the shapes are right too, and heads meet the wrong partners.</details>
# <details><summary>Hint 3</summary>a, kv = q.shape[1], k.shape[1]; partner = np.arange(a) // (a // kv);
# attend_all(q, k[:, partner], v[:, partner]).</details>

# %%
def attend_grouped(q, k, v):
    """n a e, m kv e, m kv e -> n a e."""
    ### BEGIN SOLUTION
    heads, shared = q.shape[1], k.shape[1]
    partner = np.arange(heads) // (heads // shared)  # a: 0 0 1 1 for four and two
    return attend_all(q, k[:, partner], v[:, partner])  # m kv e -> m a e
    ### END SOLUTION


# %% tags=["check"]
minivl.check("4.2", attend_grouped)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `project_qkv` in the vision part | `qkv`, one `Linear` for all three, then `reshape(n, 3, heads, -1)` |
# | `project_qkv` in the decoder | `q_proj`, `k_proj`, `v_proj` |
# | `attend` | `eager_attention_forward`, or SDPA, or flash attention: three programs for the same formula |
# | segments | `cu_seqlens` (where runs begin) and `cu_window_seqlens` |
# | `window_order` | `window_index`, made by `get_vision_window_index` |
# | the blocks that see everything | `fullatt_block_indexes` |
# | grouped heads | `num_key_value_heads`, `repeat_kv` |
#
# ## Read next
#
# - `minivl/kernels/definition.py`: `attend` and the other kernels, each in a few lines.
# - `minivl/passes/windows.py`: how the windows of a real picture are found, with ragged borders.
# - `minivl/model.py`: the block around `attend`. You can now read it but for `rotate` (lesson 6), `normalise` and
#   `add_mlp` (lesson 7).
# - Lesson 5: six rows could all look at each other. Thousands cannot. Who looks at whom then?

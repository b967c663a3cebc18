# %% [markdown]
# # Lesson 13: precision
#
# **The question.** The same weights, the same picture, two machines, two answers. What does rounding do at
# each stage, how much of it is normal, and when does it change an answer?
#
# **You need** from lesson 1: *logits*, *bfloat16* and what a checkpoint is; from lesson 7: *RMS norm*,
# *outliers*, the *residual stream*; from lesson 11: how a decoder writes. Reading takes about 45 minutes, the
# two exercises another 30.
#
# ```
# picture.resize                                               whole numbers: no rounding that differs
# patches.patchify   vision.embed_patches                      <== you are here: every stage rounds once
# vision.blocks.0.normalise   vision.blocks.0.attend           <== section 5: what is wide inside
# vision.blocks.0.add_mlp   vision.merge_2x2                   <== sections 6 and 7
# decoder.layers.0.rotate   decoder.layers.0.add_mlp           <== section 8: what adds up
# decoder.logits   sampling.most_likely                        <== section 9: what it does to an answer
# ```

# %%
import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.passes import positions
from minivl.show.samples import load_samples

np.set_printoptions(precision=4, suppress=True, linewidth=110)
bfloat16 = ml_dtypes.bfloat16
TYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}

image = Image.new("RGB", (196, 140), (200, 200, 205))
ImageDraw.Draw(image).ellipse([20, 24, 86, 90], fill=(222, 40, 40))
ImageDraw.Draw(image).rectangle([120, 60, 170, 110], fill=(45, 75, 225))

# %% [markdown]
# ## 1. A number in two, four or eight bytes
#
# A float is a sign, an **exponent** and a **fraction**. The exponent says between which two powers of two the
# number lies, the fraction where between them:
#
# $$ x = (-1)^{s} \cdot 2^{\,e - \text{bias}} \cdot (1 + f / 2^{F}) $$
#
# with $F$ bits of fraction. Four types are in use. They share their bits out differently:

# %%
third = [kind(1 / 3) for kind in TYPES.values()]
figure = plot.board(1, 1, (12, 1.9))
plot.bits(third, figure.axes[0])
figure

# %% [markdown]
# Look at the last line and the second: bfloat16 is the upper half of a float32. **float16** has the same
# sixteen bits, shared out otherwise: less exponent, more fraction. Taken apart by hand, for a float32:

# %%
x = np.float32(-6.5)
whole = int(x.view(np.uint32))
s, e, f = whole >> 31, (whole >> 23) & 0xFF, whole & 0x7FFFFF  # 1, 8 and 23 bits
print(f"{x}: sign {s}, exponent {e} - 127 = {e - 127}, fraction {f} / 2^23 = {f / 2**23}")
print("put together:", (-1) ** s * 2.0 ** (e - 127) * (1 + f / 2**23))

print(f"\n{'':9s} bytes  exponent  fraction        eps      largest   smallest normal")
for name, kind in TYPES.items():
    E, F = plot.FIELDS[name]  # bits of exponent and of fraction
    bias = 2 ** (E - 1) - 1
    eps, largest, smallest = 2.0**-F, (2 - 2.0**-F) * 2.0**bias, 2.0 ** (1 - bias)
    info = ml_dtypes.finfo(kind)
    assert (eps, largest, smallest) == (float(info.eps), float(info.max), float(info.smallest_normal))
    print(f"{name:9s} {np.dtype(kind).itemsize:5d} {E:9d} {F:9d} {eps:10.3g} {largest:12.4g} {smallest:12.4g}")

# %% [markdown]
# The **epsilon** of a type is the distance from 1 to the next number: $2^{-F}$. bfloat16 has the range of
# float32 and an epsilon of almost one percent. float16 is eight times finer, and ends at 65,504. Neither is
# "better": they fail in different places, and section 5 shows both.
#
# ## 2. Rounding
#
# Between two neighbours there is nothing. What falls between is **rounded** to the nearer one. The gap grows
# with the number: it doubles at each power of two. So the *relative* error stays the same: half an epsilon at
# most.

# %%
sizes = 2.0 ** np.arange(-20, 21, 0.5)
figure, axes = plt.subplots(1, 2, figsize=(12, 3.2), layout="constrained")
for (name, kind), colour in zip(TYPES.items(), plot.COLOURS, strict=False):
    with np.errstate(over="ignore", invalid="ignore"):
        here = sizes.astype(kind)
        gap = np.nextafter(here, here.dtype.type(np.inf)).astype(float) - here.astype(float)
    axes[0].loglog(sizes, np.where(np.isfinite(gap), gap, np.nan), color=colour, label=name)
numbers = np.random.default_rng(0).uniform(1, 1000, 100_000)
for (name, kind), colour in zip(TYPES.items(), plot.COLOURS, strict=False):
    off = np.abs(numbers.astype(kind).astype(float) - numbers) / numbers
    eps = float(ml_dtypes.finfo(kind).eps)
    print(f"{name:9s} largest relative error of 100,000 numbers: {off.max():.3g}, half an epsilon: {eps / 2:.3g}")
    if off.max():
        axes[1].hist(off / eps, 60, histtype="step", color=colour, label=name)
axes[0].set(xlabel="size of a number", ylabel="gap to the next one", title="gaps: a step at each power of two")
axes[1].set(xlabel="relative error in epsilons", title="errors of random numbers: never above a half")
for axis in axes:
    axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# (The numbers were made as float64, so float64 shows no error. To the left the gaps of float16 stop shrinking: below
# its smallest normal number there are only a few *subnormal* ones, and then 0.)
#
# A tie goes to the neighbour whose last bit is
# 0: "half to even", so that ties go up as often as down. Simply *cutting off* the lower bits errs twice as far,
# and always downwards, so errors add up where they should cancel:

# %%
small = numbers.astype(np.float32)
cut = (small.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # the upper half, the rest dropped
rounded = small.astype(bfloat16).astype(np.float32)
for name, got in {"rounded": rounded, "cut off": cut}.items():
    off = (got.astype(float) - small) / small
    print(f"{name}: largest error {np.abs(off).max():.5f}, mean with sign {off.mean():+.6f}")

# %% [markdown]
# ## 3. Why bfloat16 is not float16
#
# The same bytes, other failures. **Overflow**: a number beyond the largest becomes infinity, and infinity
# minus infinity is NaN, which nothing gets rid of. **Underflow**: a number too small becomes 0. And a whole
# number is exact only up to $2^{F+1}$: 2,048 in float16, 256 in bfloat16.

# %%
print(f"{'':>10s} {'float16':>10s} {'bfloat16':>10s}")
with np.errstate(over="ignore"):
    for number in (70_000.0, 65_504.0, 1e-8, 2049.0, 257.0, 0.1):
        print(f"{number:10g} {float(np.float16(number)):10.6g} {float(bfloat16(number)):10.6g}")

places = np.arange(0, 1200)
figure, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained")
for kind, colour in ((np.float16, plot.GREEN), (bfloat16, plot.ORANGE)):
    axes[0].plot(places, places.astype(kind).astype(float) - places, color=colour, lw=0.8, label=np.dtype(kind).name)
axes[0].set(xlabel="position of a token", ylabel="error (positions)", title="positions in 16 bits")
axes[0].legend()
turn = np.array([1.0])  # the fastest pair of a rotary embedding turns by one radian a place
axes[1].plot(places, np.cos(places * turn), color=plot.INK, lw=0.4, label="exact")
axes[1].plot(places, np.cos(places.astype(bfloat16).astype(float) * turn), color=plot.ORANGE, lw=0.8, label="bfloat16")
axes[1].set(xlabel="position of a token", title="cosine of the fastest rotary pair", xlim=(244, 290))
axes[1].legend()
plt.show()

# %% [markdown]
# From token 257 on, a program that keeps positions in bfloat16 has neighbours at the *same* place; from 512 on
# four of them. Ports have done that (huggingface/candle#3520), and short tests passed. Positions and angles
# are float32 in the reference, whatever the model's type.
#
# ## 4. Sums
#
# Nearly all of the model is sums: a linear map adds up hundreds of products for each number. What if each
# addition rounds?

# %%
count = 600
figure, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained")
for kind, colour in ((np.float32, plot.ORANGE), (np.float16, plot.GREEN), (bfloat16, plot.BLUE)):
    total, path = kind(0), []
    for _ in range(count):
        total = kind(total + kind(1))
        path.append(float(total))
    axes[0].plot(path, color=colour, label=f"{np.dtype(kind).name}: ends at {path[-1]:g}")
axes[0].set(xlabel="ones added", ylabel="sum", title="counting by adding 1")
axes[0].legend(fontsize=8)

draw, lengths = np.random.default_rng(1), np.array([16, 64, 256, 1176, 4096])
errors = {"rounded after each addition": [], "rounded once, at the end": []}
for n in lengths:
    a, b = draw.standard_normal((2, 100, n)).astype(bfloat16)  # 100 dot products of n terms
    exact = (a.astype(float) * b.astype(float)).sum(axis=1)
    total = np.zeros(100, bfloat16)
    for column in range(n):
        total = total + a[:, column] * b[:, column]  # bfloat16 + bfloat16, rounded each time
    once = (a.astype(np.float32) * b.astype(np.float32)).sum(axis=1).astype(bfloat16)
    for name, got in zip(errors, (total, once), strict=True):
        errors[name].append(np.linalg.norm(got.astype(float) - exact) / np.linalg.norm(exact))
for (name, line), colour in zip(errors.items(), (plot.BLUE, plot.GREEN), strict=True):
    axes[1].loglog(lengths, line, "o-", color=colour, label=name)
axes[1].set(xlabel="terms of a dot product", ylabel="relative error", title="dot products in bfloat16")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# In bfloat16 counting stops at 256: 257 lies between 256 and 258 and is rounded back. On the right: with a
# rounding at each addition the error grows with the length; summed *wide* and rounded once it stays at a quarter of
# an epsilon, whatever the length. Matrix hardware for 16-bit types usually works in the second way, and so does
# minivl's kernel `linear`: widen, multiply and add in float32, round once. By hand, bit for bit:

# %%
models = {name: minivl.load(precision=name) for name in TYPES}
content = [{"type": "image", "image": image}, {"type": "text", "text": "Describe the image."}]
inputs = models["float32"].prepare([{"role": "user", "content": content}])
traces, scores = {}, {}
for name, vlm in models.items():
    with minivl.session(record=["vision.*", "decoder.*"]) as session:
        scores[name] = vlm.logits(inputs)  # s v
    traces[name] = session.trace

vlm, trace = models["bfloat16"], traces["bfloat16"]
block = vlm.weights.vision.blocks[0]
before = trace["vision.blocks.0.normalise"]  # w d, bfloat16
wide = before.astype(np.float32) @ block.qkv.weight.dense(np.float32).T + block.qkv.bias.dense(np.float32)
by_hand = wide.astype(bfloat16).reshape(len(before), 3, block.config.heads, -1)  # w 3d -> w 3 a e
wanted = np.stack(trace["vision.blocks.0.project_qkv"], axis=1)
print("widen, multiply, round once: equal to project_qkv in", (by_hand == wanted).mean().round(6), "of all numbers")

# %% [markdown]
# ## 5. What stays float32 inside a 16-bit model
#
# A model "in bfloat16" *hands on* bfloat16 between its stages. Inside, the reference keeps some things wide.
# These are the places where 16 bits would do harm:
#
# | what | why | the reference |
# |---|---|---|
# | sums of products | section 4 | float32 in the hardware |
# | mean of squares of a norm | squares overflow float16 beyond 256 | float32, then rounded, *then* times the weight |
# | positions, angles, cosine, sine | section 3 | float32; the decoder rounds cosine and sine |
# | turning by the angles | | float32 in the tower, the model's type in the decoder |
# | softmax | shares must sum to 1 | float32 |
# | logits | | the model's type; float32 only for sampling |
# | adding to the stream, SiLU, GELU | | the model's type: they round each time |
#
# The second line by hand. A norm in float16, with the mean formed in float16 and in float32, for rows of
# growing size:

# %%
row = np.random.default_rng(2).standard_normal(64)
scale = 2.0 ** np.arange(-16, 15)
with np.errstate(all="ignore"):
    table = []
    for factor in scale:
        x = (row * factor).astype(np.float16)
        narrow = x / np.sqrt(np.mean(x * x, dtype=np.float16))  # all of it in float16
        y = x.astype(np.float32)
        kept = (y / np.sqrt(np.mean(y * y) + np.float32(1e-12))).astype(np.float16)  # as the reference
        table.append([np.sqrt((z.astype(float) ** 2).mean()) for z in (narrow, kept)])
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.semilogx(scale, np.array(table)[:, 0], "o-", color=plot.ORANGE, label="mean of squares in float16")
axis.semilogx(scale, np.array(table)[:, 1], ".-", color=plot.BLUE, label="in float32")
axis.set(xlabel="rms of the row", ylabel="rms after the norm", title="a norm should always give 1", ylim=(-0.1, 2))
axis.legend()
plt.show()
largest = scale[np.isclose(np.array(table)[:, 0], 1, atol=0.1)].max()
print(f"in float16 the last row that comes out right has an rms of {largest:g}; the next ones become 0")

# %% [markdown]
# To the right the squares are infinite, and the row divided by infinity is 0: it has vanished (lablup/mlxcel#1601).
# To the left the squares are 0, and 0/0 shows as a gap. In float32 neither happens. The pass by hand, with the
# reference's order of roundings, on the stream of the embedded model:

# %%
stream = traces["float16"]["vision.order_by_window"]  # w d, float16
norm = models["float16"].weights.vision.blocks[0].norm1
y = stream.astype(np.float32)
y = y * (1 / np.sqrt((y * y).mean(axis=1, keepdims=True) + np.float32(norm.eps)))  # wide
by_hand = y.astype(np.float16) * norm.weight.dense(np.float16)  # rounded, then a float16 product, rounded again
wanted = traces["float16"]["vision.blocks.0.normalise"]
print("two roundings, as the reference: bits equal in", (by_hand == wanted).mean(), "of all numbers")
once = (y * norm.weight.dense(np.float32)).astype(np.float16)
print("one rounding, at the end:        bits equal in", (once == wanted).mean().round(4))

# %% [markdown]
# Both are good norms. But a comparison to the last bit must know which of the two is meant.
#
# ## 6. The error at each stage
#
# minivl runs the same passes in all four types; float64 is the golden value. The error of a stage is the
# length of the difference over the length of the golden value:
#
# $$ \mathrm{error} = \frac{\lVert x - x_{64} \rVert}{\lVert x_{64} \rVert} $$

# %%
golden = traces["float64"]


def error(x, gold):
    """Relative error of an array, or of the worst of a tuple of arrays."""
    pairs = zip(x, gold, strict=True) if isinstance(gold, tuple) else [(x, gold)]
    return max(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b) for a, b in pairs)


def is_float(value):
    first = value[0] if isinstance(value, tuple) else value
    return isinstance(first, np.ndarray) and first.dtype.kind not in "iu"


stages = [key for key, value in golden.items() if is_float(value) and not key.endswith("angles")]
along = {name: {key: error(traces[name][key], golden[key]) for key in stages}
         for name in ("bfloat16", "float16", "float32")}
figure = plot.board(1, 1, (12, 5))
plot.errors(along, figure.axes[0])
figure

# %%
ends = ["vision.embed_patches", "vision.blocks.0.add_mlp",
        f"vision.blocks.{vlm.config.vision.depth - 1}.add_mlp", "vision.restore_order",
        "decoder.layers.0.add_mlp", f"decoder.layers.{vlm.config.text.num_hidden_layers - 1}.add_mlp",
        "decoder.logits"]
print(f"{'':28s}" + "".join(f"{name:>12s}" for name in along) + "   in epsilons of each")
for key in ends:
    found = [along[name][key] for name in along]
    in_eps = [along[name][key] / float(ml_dtypes.finfo(TYPES[name]).eps) for name in along]
    print(f"{key:28s}" + "".join(f"{one:12.2e}" for one in found) + "   "
          + "  ".join(f"{one:6.2f}" for one in in_eps))

# %% [markdown]
# Three nearly parallel lines. The *shape* is the model's: what it makes of an error, whatever type that came from.
# In epsilons (the columns on the right) the two 16-bit runs are alike. The float32 run has some epsilons more,
# because its sums round in float32 too, at each addition; those of the 16-bit runs are wide, as in section 4. This is
# the fingerprint of rounding: it scales with the type. A bug does not. It jumps at one stage, and by the same amount
# in every type.
#
# So how large an error may be is no matter of taste. The **yardstick**: run the same model in the same type,
# take its distance from float64, and ask of another program whether it is further away than that.
#
# ## 7. Made here, or brought along?
#
# An error at a stage is made there, or it came with the input. To tell them apart, let each stage of the
# bfloat16 run hand its own inputs to a second copy of the same pass, in float64. What differs now was made in
# this stage alone. (A session's `shadow` does this: it runs a candidate beside each stage and goes on with the
# model's own.)

# %%
def in_float64(original):
    """The same pass on the same inputs, computed in float64."""
    def widen(argument):
        if isinstance(argument, np.dtype):  # the type that a stage is told to give
            return np.dtype(np.float64)
        floating = isinstance(argument, np.ndarray) and argument.dtype.kind not in "iu"
        return argument.astype(np.float64) if floating else argument
    return lambda *arguments: original(*map(widen, arguments))


with minivl.session(shadow={"vision.*": in_float64, "decoder.*": in_float64}, tolerance=0) as session:
    vlm.logits(inputs)
made = {key: session.guilty.get(key, 0.0) for key in stages}
figure = plot.board(1, 1, (12, 5))
plot.errors({"up to here": along["bfloat16"], "made here": made}, figure.axes[0])
figure

# %% [markdown]
# What a single stage makes is nearly the same everywhere: about a quarter of an epsilon, the error of *one* rounding
# (a stage that only moves rows makes none, and is not drawn). Norm and MLP make a little more, since they round
# several times inside. There is no guilty stage. The rest is inheritance.
#
# ## 8. How errors grow over layers
#
# If errors are independent, their *squares* add up: after $n$ equal errors the sum is $\sqrt n$ times as
# large, not $n$ times. From the errors made in each half of each block we can predict the error of the
# stream, and compare:
#
# $$ \mathrm{predicted}_k = \frac{1}{\lVert x_k \rVert} \sqrt{\sum_{j \le k} \big(\mathrm{made}_j\,
#    \lVert x_j \rVert\big)^2 } $$

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 3.2), layout="constrained")
parts = {"vision.blocks": "vision.order_by_window", "decoder.layers": "decoder.place_features"}
for axis, (part, start) in zip(axes, parts.items(), strict=True):
    keys = [start] + [key for key in stages if key.startswith(part) and key.endswith((".add_attended", ".add_mlp"))]
    size = np.array([np.linalg.norm(golden[key]) for key in keys])
    own = np.array([along["bfloat16"][start]] + [made[key] for key in keys[1:]])  # what came in, then what was made
    measured = np.array([along["bfloat16"][key] for key in keys])
    predicted = np.sqrt(np.cumsum((own * size) ** 2)) / size
    axis.plot(measured, "o-", color=plot.BLUE, label="measured")
    axis.plot(predicted, "s--", color=plot.ORANGE, ms=4, label="predicted: squares add up")
    axis.plot(np.cumsum(own * size) / size, ":", color="grey", label="if errors never cancelled")
    axis.set(xlabel="half blocks passed", title=f"{part}, bfloat16", ylim=(0, None))
    axis.legend(fontsize=8)
    print(f"{part}: measured over predicted at the end: {measured[-1] / predicted[-1]:.2f}")
axes[0].set_ylabel("relative error of the stream")
plt.show()

# %% [markdown]
# Where the measured line lies above the prediction, blocks make an error larger that came in (or the errors of
# stages inside a block, which the prediction leaves out, count). Where it lies below, they damp it. Either
# way it grows slowly, like a root: a model of 32 blocks has not 32 times the error of one.
#
# ## 9. When an answer changes
#
# All this would not matter if only the largest logit counted. It does: a token changes when the error of a
# *difference of two logits* is larger than the **gap** between the first and the second. We let all four
# models read the sample pictures with their true answers, and look at each place where a token of the answer is
# due.

# %%
rows = {name: [] for name in TYPES}
asked = []
for sample in load_samples():
    if sample.fps is None:
        one = models["float32"].prepare(sample.messages())
        told = models["float32"].tokenizer.encode(sample.answer)
        full = minivl.Inputs.from_ids([*one.input_ids, *told], vlm.config, one.pixel_values, one.image_grid_thw)
        asked += [(sample.name, place) for place in range(len(told))]
        for name, model in models.items():
            rows[name].append(model.logits(full)[len(one.input_ids) - 1 : -1].astype(float))  # an answer token each
rows = {name: np.concatenate(found) for name, found in rows.items()}  # n v

exact = rows["float64"]
n = np.arange(len(exact))
second, first = np.argsort(exact, axis=1)[:, -2:].T  # n, n: ids of the two likeliest tokens
gap = exact[n, first] - exact[n, second]
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for name, colour in (("float32", plot.GREEN), ("float16", plot.BLUE), ("bfloat16", plot.ORANGE)):
    got = rows[name]
    off = np.abs((got[n, first] - got[n, second]) - gap)
    flipped = got.argmax(axis=1) != first
    tied = flipped & (got[n, first] == got.max(axis=1))  # equal after rounding: then the lower id is taken
    axis.loglog(gap, np.maximum(off, 1e-9), ".", color=colour, ms=4, label=name)
    axis.loglog(gap[flipped], off[flipped], "o", mfc="none", mec="red", ms=9)
    print(f"{name:9s} error of the gap: median {np.median(off):.1e}, largest {off.max():.1e}; "
          f"{flipped.sum()} of {len(gap)} tokens change, {tied.sum()} of these by a tie")
    for i in np.flatnonzero(flipped)[:4]:
        names = [plot.token_name(vlm.tokenizer, int(t)) for t in (first[i], got[i].argmax())]
        print(f"      {asked[i][0]}, token {asked[i][1]}: {names[0]!r} becomes {names[1]!r}, gap {gap[i]:.3f}")
line = np.array([gap.min(), gap.max()])
axis.loglog(line, line, color="grey", lw=0.8)
axis.set(xlabel="gap between first and second logit (float64)", ylabel="error of that gap",
         title="above the line a token may change; red: it did")
axis.legend()
plt.show()

# %% [markdown]
# Most tokens have a gap of several units and do not notice anything. Where the model hardly knows (the digits of
# a box, a word it cannot read) the gap is small, and 16 bits may decide. If a red circle lies *on* the line, it is a
# tie: logits are handed on in bfloat16, where numbers between 8 and 16 are 1/16 apart, so the two became equal, and
# `argmax` takes the lower id. From a changed token on, the two answers go different ways, because each reads its own
# words. So "the texts differ" is no proof of a bug, and "the texts are equal" no proof that there is none. Compare
# numbers, at each stage, with the yardstick.
#
# The same happens between a single conversation and a batch, between two kinds of attention, or two graphics
# cards: sums in another order (vllm-project/vllm#9567, QwenLM/Qwen3-VL#1956).
#
# ## 10. Now break it
#
# Roundings that are one line away, in a bfloat16 run. The number is the error of the last row of logits, in units
# of the yardstick: the error of the right bfloat16 run. **Predict** which are loud.

# %%
def low(x):
    return x.astype(bfloat16).astype(np.float32)


def rounded_sums(parts):
    """A linear map whose sum is rounded after each of so many parts."""
    def linear(x, w):
        a, b = kernels.wide(x), kernels.wide(w.weight.dense(x.dtype))
        total = np.zeros((len(x), len(b)), x.dtype)
        for piece in np.array_split(np.arange(a.shape[1]), parts):
            total = total + (a[:, piece] @ b[:, piece].T).astype(x.dtype)
        return total if w.bias is None else total + w.bias.dense(x.dtype)
    return linear


def cut_off(x, w):
    """Lower bits dropped in place of rounding."""
    y = kernels.wide(x) @ kernels.wide(w.weight.dense(x.dtype)).T
    y = y if w.bias is None else y + kernels.wide(w.bias.dense(x.dtype))
    return (np.ascontiguousarray(y).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(x.dtype)


def narrow_norm(x, norm):
    """The mean of squares in the type of the row."""
    mean = np.mean(x * x, axis=-1, keepdims=True, dtype=x.dtype)
    return x / np.sqrt(mean + x.dtype.type(norm.eps)) * norm.weight.dense(x.dtype)


def narrow_positions(place, config):
    return low(positions.mrope_angles.definition(low(place.astype(np.float32)), config))


def narrow_angles(original):
    return lambda *arguments: low(original(*arguments))


faults = {"as it should be": {}, "sums rounded in 8 parts": {"kernel.linear": rounded_sums(8)},
          "sums rounded in 64 parts": {"kernel.linear": rounded_sums(64)},
          "cut off, not rounded": {"kernel.linear": cut_off},
          "mean of squares in bfloat16": {"kernel.rms_norm": narrow_norm},
          "the decoder's angles in bfloat16": {"decoder.angles": narrow_positions},
          "the tower's angles in bfloat16": {"vision.angles.spatial_angles": narrow_angles(
              positions.spatial_angles.definition)}}
wanted = scores["float64"][-1]
yardstick = np.linalg.norm(scores["bfloat16"][-1].astype(float) - wanted)
print(f"{'':36s} error / yardstick   answer")
print(f"{'(the truth)':36s} {'':17s}   A red circle and a blue square.")
for name, fault in faults.items():
    with minivl.using(fault):
        off = np.linalg.norm(vlm.logits(inputs)[-1].astype(float) - wanted)
        print(f"{name:36s} {off / yardstick:17.2f}   {vlm.ask(image, 'Describe the image.', max_new_tokens=32)}")

# %% [markdown]
# Count the lines that say the same sentence as the first: none of these could be found by reading answers. And one
# picture tells little about the quiet ones (a factor of 1.3 may be luck). Angles do little harm here because the prompt
# is short; section 3 has shown what happens beyond 256 places. Now imagine the same faults in a float32 run: those
# that are a matter of *rounding* would stand out by a factor of tens of thousands, because the yardstick is so much
# shorter. **Look for bugs in float32**, whatever type you will run in.
#
# ## Exercise 13.1: float32 to bfloat16 (about 15 minutes)
#
# Write `to_bfloat16(x)`: a float32 array in, the nearest bfloat16 values out, as float32 (the lower 16 bits are
# 0). Ties go to the even neighbour. No `ml_dtypes`: work on the bits. On paper first: 1 + 1/256 and 1 +
# 3/256 (an epsilon is 1/128).
#
# <details><summary>Hint 1</summary>x.view(np.uint32) gives the bits. Cutting them off with & 0xFFFF0000 rounds
# towards zero. What must be added before, so that it rounds to the nearest?</details>
# <details><summary>Hint 2</summary>Half of what is cut: 0x8000 rounds ties up. With 0x7FFF a tie stays below, with
# one more if the last bit that is kept is 1: that is half to even.</details>
# <details><summary>Hint 3</summary>u = x.view(np.uint32); last = (u >> 16) & 1; u = (u + 0x7FFF + last) &
# 0xFFFF0000; return u.view(np.float32). Give the constants the type np.uint32.</details>

# %%
def to_bfloat16(x):
    """float32, any shape -> float32 of the same shape."""
    ### BEGIN SOLUTION
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    last = (u >> np.uint32(16)) & np.uint32(1)  # the last bit that is kept
    return ((u + np.uint32(0x7FFF) + last) & np.uint32(0xFFFF0000)).view(np.float32)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("13.1", to_bfloat16)
many = np.random.default_rng(3).standard_normal(100_000).astype(np.float32)
print("as ml_dtypes rounds:", np.array_equal(to_bfloat16(many), many.astype(bfloat16).astype(np.float32)))

# %% [markdown]
# ## Exercise 13.2: a norm that is safe in float16 (about 15 minutes)
#
# Write `rms_norm_16(x, weight, eps)`: `x` (n, d) and `weight` (d,) are float16, and so is what comes out. Rounded
# as in the reference: mean, root and division wide; *then* rounded; *then* times the weight.
#
# <details><summary>Hint 1</summary>Three types of line: widen, compute, round. Which of them touch the
# weight?</details>
# <details><summary>Hint 2</summary>x.astype(np.float32) first. The product with the weight happens in float16, after
# the division has been rounded to float16.</details>
# <details><summary>Hint 3</summary>y = x.astype(np.float32); y = y / np.sqrt((y * y).mean(axis=-1, keepdims=True) +
# np.float32(eps)); return y.astype(np.float16) * weight</details>

# %%
def rms_norm_16(x, weight, eps):
    """n d, d -> n d, all float16."""
    ### BEGIN SOLUTION
    y = x.astype(np.float32)
    y = y / np.sqrt((y * y).mean(axis=-1, keepdims=True) + np.float32(eps))  # n d: wide
    return y.astype(np.float16) * weight  # rounded, then a product in float16
    ### END SOLUTION


# %% tags=["check"]
minivl.check("13.2", rms_norm_16)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`, PyTorch) |
# |---|---|
# | `minivl.load(precision="bfloat16")` | `from_pretrained(..., dtype=torch.bfloat16)`, earlier `torch_dtype` |
# | epsilon, largest | `torch.finfo(torch.bfloat16).eps`, `.max` |
# | widening in the norm | `hidden_states.to(torch.float32)` in `Qwen2_5_VLRMSNorm` |
# | rounding, then the weight | `self.weight * hidden_states.to(input_dtype)` |
# | float32 while turning | `apply_rotary_pos_emb_vision` casts with `.float()`; the decoder's does not |
# | softmax in float32 | `softmax(..., dtype=torch.float32)` in eager attention; inside of the fused ones |
# | its float64 | not quite: norms, rotary tables and eager softmax still round to float32 there |
#
# ## Read next
#
# - `minivl/kernels/definition.py`: `wide` and `narrow` say where each kernel rounds.
# - `tests/oracle/`: minivl's error against the reference's own, per stage and type.
# - Lesson 14: where the weights come from.

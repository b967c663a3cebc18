# %% [markdown]
# # Lesson 17: kernels
#
# **The question.** The same sum of products can take a second or a thousandth of it. What does a fast kernel do
# that a plain one does not, what can no kernel do, and what does it cost to make the weights smaller?
#
# **You need** from lesson 1: *kernel*, *weights* and *bfloat16*; from lesson 4: attention; from lesson 11: why a
# token reads every weight of the decoder; from lesson 13: rounding and the *yardstick*. Reading takes about 45
# minutes, the three exercises another 45.
#
# ```
# vision.embed_patches   vision.blocks.0.project_qkv           products with weights: sections 2 to 5
# vision.blocks.0.attend                                       <== you are here, in every pass at once
# vision.blocks.0.add_mlp   vision.merge_2x2
# decoder.layers.0.project_qkv   decoder.layers.0.attend       many rows in a prompt, one row in a further token
# decoder.layers.0.add_mlp   decoder.logits                    sections 6 and 7: their weights in fewer bytes
# ```

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import minivl
from minivl.checkpoint.layout import pack, split, tile_shape
from minivl.checkpoint.packed import packed
from minivl.checkpoint.weight import weight
from minivl.config import OFFICIAL_PICTURES, official_config
from minivl.kernels import Interpreter
from minivl.run import roofline
from minivl.show import plot
from minivl.show.samples import load_samples
from minivl.teach import ladder

np.set_printoptions(precision=4, suppress=True, linewidth=110)
try:
    from minivl.kernels.jit.tiers import TIERS, chosen, lacking
    print("compiled kernels are here; this processor runs the tier", chosen().name)
    for tier in TIERS.values():
        print(f"  {tier.name:12s}", f"needs {', '.join(lacking(tier))}" if lacking(tier) else "can be used")
except ImportError as missing:
    print(f"there is no package {missing.name}: this lesson goes on with NumPy, and leaves the compiled kernels out")
    print('to have them: pip install "minivl[jit]"')

# %% [markdown]
# ## 1. What a kernel is asked to do
#
# The passes of this model move rows about. All *arithmetic* is in a dozen kernels, and nearly all of that in two:
# the product of rows with a matrix of weights, and attention. Here are the operations of the official 3B model,
# counted on its shapes (no weight is needed for that): a picture of 448 x 448 pixels, a prompt of 512 tokens, one
# further token.
#
# Beside the operations stand the **bytes** that must come from memory for them: weights in bfloat16, and what goes
# in and out. Their quotient is the **arithmetic intensity**: how many operations there are for each byte.

# %%
parts = roofline.parts(official_config("3B"))
print(f"{'':34s} {'operations':>12s} {'megabytes':>10s} {'per byte':>9s}")
for part in parts:
    print(f"{part.name:34s} {part.flops:12.3g} {part.moved / 1e6:10.0f} {part.intensity:9.1f}")

# %% [markdown]
# Look at the last column. A prompt does hundreds of operations with each byte, a further token *one*. The weights
# are the same ones, and all of them are read in both cases. A prompt has 512 rows that use each weight, a further
# token has one.
#
# ## 2. The ladder of a matrix and one row
#
# The first rung is what is meant, in plain loops:

# %%
print(inspect.getsource(ladder.vector_by_loops))

# %% [markdown]
# `ladder.climb` takes a kernel, checks each way to write it against the loops (with what checks your exercises),
# and lets them take turns at the clock. **Predict** first: how many times as fast as the loops is NumPy? And the
# *same* loops, compiled?

# %%
print(ladder.climb("matrix_vector"))

# %% [markdown]
# - Loops in Python: each number is an object, and each `+` looks up what to do with it.
# - NumPy hands the whole product to a library, which was compiled for your processor.
# - Numba compiles the loops as they stand. What the processor does then is eight or sixteen products by one
#   instruction: a **vector** of numbers.
# - The packed rungs are the model's own. They say something else than the first three: the weights take 2, 1 or
#   half a byte each, not 4. That is why they are faster: not because they calculate faster.
#
# (Times on a busy machine are of little worth. Run the cell again, and look at ratios only.)
#
# ## 3. Two ceilings
#
# A pass with $F$ operations and $B$ bytes takes at the least
#
# $$ t \ge \max\left(\frac{F}{\text{peak}}, \frac{B}{\text{bandwidth}}\right) $$
#
# where the **bandwidth** is what memory can deliver in a second and the **peak** what the units for products can
# do. Both can be measured: read a large array once; multiply two matrices that fit into the caches.

# %%
roof = roofline.measured(seconds=5)
print(f"bandwidth: {roof.bandwidth / 1e9:.1f} GB/s with {roof.threads} threads")
for name, peak in roof.peaks.items():
    print(f"peak: {peak / 1e9:8.1f} GFLOP/s  {name}")
print(f"edge: {roof.edge:.0f} operations for each byte")

figure = plot.board(1, 1, (9, 5))
plot.roofline(roof.bandwidth, roof.peaks, {part.name: part.intensity for part in parts}, figure.axes[0])
figure.set_label("A roof over operations for each byte: it climbs with the bandwidth and is flat at each peak. "
                 "Decoding lies far to the left on the slope, the products of a prompt far to the right under the "
                 "flat part.")
figure

# %% [markdown]
# This is the **roofline** (Williams, Waterman and Patterson, 2009). Left of the edge memory decides: a kernel that
# calculates ten times as fast changes nothing there. Right of it the products decide, and slower memory would not
# be noticed. So:
#
# - **decoding is bandwidth**: to be faster, read fewer bytes;
# - **a prompt is arithmetic**: to be faster, multiply faster.

# %%
print(f"{'':34s} {'at the least':>13s}   decided by")
for part in parts:
    least = max(part.flops / roof.peak, part.moved / roof.bandwidth)
    print(f"{part.name:34s} {1e3 * least:10.1f} ms   {'memory' if part.intensity < roof.edge else 'products'}")

bytes_of = {"float32": 4, "bf16": 2, "int8": 1, "int4": 0.5}
rows = 2 ** np.arange(0, 13)
into, out = 2048, 11008
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
for (name, size), colour in zip(bytes_of.items(), plot.COLOURS, strict=False):
    moved = size * into * out + 4 * rows * (into + out)
    axis.loglog(rows, 2 * rows * into * out / moved, "o-", color=colour, ms=3, label=f"weights in {name}")
axis.axhline(roof.edge, color="grey", lw=1, label="the edge of this machine")
axis.set(xlabel="rows that are multiplied", ylabel="operations for each byte",
         title=f"a matrix of {into} x {out}")
axis.legend(fontsize=8)
figure.set_label("Operations for each byte over the number of rows, both logarithmic: they grow with the rows, "
                 "are larger for smaller weights, and bend where the rows themselves become the bytes.")
plt.show()

# %% [markdown]
# Several conversations at once lie further right than one: they share the reading. That is why a server answers
# many people with one pass, and why a single person at a laptop waits for memory.
#
# ## 4. Many rows: keep in registers what is used again
#
# On the right of the edge a kernel must keep the units busy. The idea is the same on all rungs: a number that was
# fetched is used as often as possible before it is dropped.

# %%
print(ladder.climb("matrix_product"))

# %% [markdown]
# - A block of the *result* stays in registers: on AVX-512 12 rows by 32 columns. A step along $k$ fetches 12 + 32
#   numbers and does 12 x 32 products with them.
# - **Tiles** are registers for whole matrices: 16 rows of 64 bytes. One instruction multiplies two of them: 16 x 16
#   sums of 32 products. Four of them make a block of 32 x 32.
#
# Nothing of this changes what is meant. Which products are summed first does change, and so does the rounding
# (lesson 13, section 4): the check asks for the loops' result *within rounding*.
#
# Attention is two products with a softmax between them. What must not happen is that all scores go out to memory:
# every patch of a photo with every other one, for each head. So scores are made for a block of keys, weighed, summed,
# and forgotten. When a larger score comes, the sums so far shrink:

# %%
high, wide = minivl.passes.picture.target_size((3000, 4000), OFFICIAL_PICTURES)
patches = high * wide // OFFICIAL_PICTURES.patch_size**2
print(f"a photo of 12 megapixels: {patches:,} patches, {4 * patches**2 / 1e9:.1f} GB of float32 scores for one head\n")
print(inspect.getsource(ladder.attention_in_blocks))
print(ladder.climb("attention"))

# %% [markdown]
# In NumPy the blocks cost time, since each line is a trip to memory of its own. In a compiled kernel the block
# never leaves the cache.
#
# ## 5. Packing: in the order of use
#
# A processor fetches 64 bytes at a time, and is fastest when the next ones lie behind them. A matrix that lies row
# by row is read in another order by a kernel that wants 32 rows at once. So weights are **packed** once, when the
# model is loaded: into the order in which they will be asked for. Here for 32 rows of 64 numbers of two bytes: a
# step holds 32 neighbours along $k$; in it are two tiles, of 16 rows each; in a tile stand *pairs* of neighbours,
# because a product of bfloat16 takes two at a time.

# %%
n, k = 32, 64
number = np.arange(n * k).reshape(n, k)  # each number is its own place in the matrix
steps = number.reshape(2, 16, k // 32, 16, 2)  # half row step pair lower-or-upper
in_memory = steps.transpose(2, 0, 3, 1, 4).reshape(-1)  # step half pair row lower-or-upper
place = np.argsort(in_memory).reshape(n, k)  # where each number of the matrix went

figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
axes[0].imshow(place, aspect="auto", cmap=plot.MAGNITUDE)
axes[0].set(title="place in memory of each number of a (32, 64) matrix", xlabel="k", ylabel="row")
axes[1].plot(in_memory[:96] % k, in_memory[:96] // k, "-", lw=0.5, color="grey")
axes[1].scatter(in_memory[:96] % k, in_memory[:96] // k, c=np.arange(96), cmap=plot.MAGNITUDE, s=12)
axes[1].set(title="the first 96 numbers, in the order in which they are read", xlabel="k", ylabel="row", xlim=(-1, 8))
axes[1].invert_yaxis()
figure.set_label("Left: colours show that memory holds the upper left tile of a matrix first, then the lower left "
                 "one, then the right ones. Right: a zigzag through pairs of neighbours, down 16 rows, then the "
                 "next pair.")
plt.show()

tiles = np.zeros(tile_shape(n, k, "bf16"), np.uint32)
pack(number.astype(np.uint16), "bf16", tiles)
print("by hand equal to minivl's packing:", np.array_equal(tiles.reshape(-1).view(np.uint16), in_memory))

# %% [markdown]
# The same bytes serve every processor: a tile is loaded by one instruction, and where there are no tiles a vector
# takes 16 pairs and widens them with a shift and a mask. bfloat16 is the upper half of a float32, so that is all
# there is to it:

# %%
two = np.array([1.5, -0.25], np.float32)
word = (two.view(np.uint32)[1] & np.uint32(0xFFFF0000)) | (two.view(np.uint32)[0] >> np.uint32(16))
lower = np.array([word << np.uint32(16)], np.uint32).view(np.float32)[0]  # the shift
upper = np.array([word & np.uint32(0xFFFF0000)], np.uint32).view(np.float32)[0]  # the mask
print(f"a word {int(word):#010x} holds {lower} and {upper}")

# %% [markdown]
# ## 6. Exact on units for bfloat16: three parts
#
# Tiles multiply bfloat16 only. Rows of the model are float32, with 24 digits; bfloat16 has 8. Rounded to it, a row
# would lose two thirds of its digits. But 24 = 3 x 8: a float32 is the **sum of three bfloat16 numbers**, and
# exactly so. Take the upper half; subtract it; take the upper half of what is left; and once more.

# %%
def three_parts(x):
    """float32 (...) -> three arrays of float32 with bfloat16 values, whose sum is x."""
    rest, parts = x.astype(np.float32), []
    for _ in range(3):
        part = (rest.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # cut off, never up
        parts.append(part)
        rest = rest - part  # exact: the upper digits cancel
    return parts


third = np.float32([1 / 3])
figure = plot.board(1, 1, (13, 2.1))
plot.bits([third[0], *(part[0] for part in three_parts(third))], figure.axes[0])
figure.set_label("The bits of one third as float32, and of its three parts: each part has ones in the upper half "
                 "of the 32 bits only.")
figure

# %%
draw = np.random.default_rng(17)
many = (draw.standard_normal(200_000) * 2.0 ** draw.integers(-30, 30, 200_000)).astype(np.float32)
first, second, last = three_parts(many)
print("the sum of the three parts is equal to x:", np.array_equal(first + (second + last), many))
lower = np.stack([first, second, last]).view(np.uint32) & 0xFFFF
print("numbers among the parts that are no bfloat16:", np.count_nonzero(lower))
ours = split(many[None], 3)[:, 0].astype(np.uint32) << np.uint32(16)
print("the parts are equal to minivl's:", np.array_equal(ours.view(np.float32), np.stack([first, second, last])))

w = ladder.in_bf16(draw.standard_normal((256, 512), np.float32))  # weights as a checkpoint stores them
x = draw.standard_normal((64, 512), np.float32)
exact = x.astype(float) @ w.T.astype(float)


def off(got):
    """Relative error against float64."""
    return np.linalg.norm(got - exact) / np.linalg.norm(exact)


for count in (1, 2, 3):
    total = sum(part @ w.T for part in three_parts(x)[:count])  # each product of two bfloat16 is exact in float32
    print(f"{count} of the parts: relative error {off(total):.1e}")
print(f"float32 by NumPy: relative error {off(x @ w.T):.1e}")

# %% [markdown]
# With three parts the error is that of float32, and no better is asked. It costs three passes over a tile of
# weights that was fetched once. That is how a prompt in `precision="float32"` runs on units that know bfloat16
# alone.
#
# ## 7. Fewer bytes: int8 and int4
#
# Section 3 says: to decode faster, read less. A weight in 8 or 4 bits is a whole number and a **scale** that many
# weights share. **Quantisation** is the rounding of weights to so few steps. The two plainest rules:
#
# $$ \text{int8: } q = \mathrm{round}(w / s),\ s = \max_{\text{row}} |w| / 127 \qquad
#    \text{int4: } q = \mathrm{round}(w / s) + z,\ s = (\max_{\text{group}} w - \min_{\text{group}} w) / 15 $$
#
# A row shares the scale of int8, 128 neighbours that of int4; the zero $z$ says which of the 16 steps stands for 0.

# %%
def to_int8(w):
    """Rows (n, k) -> what 8 bits keep of them."""
    scale = np.maximum(np.abs(w).max(axis=1, keepdims=True), np.float32(1e-30)) / np.float32(127)
    return np.rint(w / scale) * scale


def to_int4(w, group=128):
    """Rows (n, k) -> what 4 bits keep of them, in groups along k."""
    n, k = w.shape
    whole = np.zeros((n, -(-k // group) * group), np.float32)
    whole[:, :k] = w
    g = whole.reshape(n, -1, group)
    least, most = np.minimum(g.min(-1, keepdims=True), 0), np.maximum(g.max(-1, keepdims=True), 0)
    scale = np.maximum(most - least, np.float32(1e-30)) / np.float32(15)
    zero = np.clip(np.rint(-least / scale), 0, 15)
    q = np.clip(np.rint(g / scale) + zero, 0, 15)
    return ((q - zero) * scale).reshape(whole.shape)[:, :k]


vlm = minivl.load()
one = vlm.weights.decoder.layers[0].mlp.down.weight.dense(np.float32)
for name, how in (("int8", to_int8), ("int4", to_int4)):
    kept = how(one)
    print(f"{name}: {len(np.unique(kept[0]))} different numbers in row 0; relative error of the matrix "
          f"{np.linalg.norm(kept - one) / np.linalg.norm(one):.4f}")
    print("      equal to minivl's own:", np.array_equal(packed(weight(one), name).dense(np.float32), kept))

figure, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained", sharey=True)
for axis, (name, how) in zip(axes, (("int8", to_int8), ("int4", to_int4)), strict=True):
    axis.plot(one[0], how(one)[0], ".", ms=3, color=plot.BLUE)
    axis.set(title=f"row 0 of a matrix in {name}", xlabel="weight as stored", ylabel="weight as kept")
figure.set_label("What is kept of each weight over the weight: nearly a line in int8, a staircase of at most 16 "
                 "steps for each group in int4.")
plt.show()

# %% [markdown]
# What becomes of the model? We let the embedded model run in float32, over weights as they are stored (bf16), and
# over the same ones after a trip through int8 and int4, and measure each stage against float64, as in lesson 13. An
# *interpreter* may prepare the weights before the run: that is all that is needed. No pass knows of it.

# %%
def over(how):
    """An interpreter that runs the definitions over weights of the blocks that `how` has rounded."""
    def linear(w):
        return w._replace(weight=weight(np.ascontiguousarray(how(w.weight.dense(np.float32)))))

    def block(b):
        return b._replace(qkv=linear(b.qkv), out=linear(b.out),
                          mlp=b.mlp._replace(gate_up=linear(b.mlp.gate_up), down=linear(b.mlp.down)))

    def prepare(model):
        seeing, speaking = tuple(map(block, model.vision.blocks)), tuple(map(block, model.decoder.layers))
        return model._replace(vision=model.vision._replace(blocks=seeing),
                              decoder=model.decoder._replace(layers=speaking))
    return Interpreter("rounded weights", prepare=prepare)


sample = next(one for one in load_samples() if one.fps is None)
inputs = vlm.prepare(sample.messages())
golden_run = vlm.on("float64", "definition")
runs = {"bf16": vlm.on("float32", "definition"), "int8": vlm.on("float32", over(to_int8)),
        "int4": vlm.on("float32", over(to_int4))}
with minivl.session(record=["vision.*", "decoder.*"]) as session:
    golden_run.logits(inputs)
golden, errors = session.trace, {}


def error(got, gold):
    """Relative error of an array, or of the worst of a tuple of arrays."""
    pairs = zip(got, gold, strict=True) if isinstance(gold, tuple) else [(got, gold)]
    return max(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b) for a, b in pairs)


stages = [key for key, value in golden.items() if not key.endswith(("angles", "cos_sin"))
          and np.asarray(value[0] if isinstance(value, tuple) else value).dtype.kind == "f"]
for name, model in runs.items():
    with minivl.session(record=["vision.*", "decoder.*"]) as session:
        model.logits(inputs)
    errors[name] = {key: error(session.trace[key], golden[key]) for key in stages}

figure = plot.board(1, 1, (14, 5))
plot.errors(errors, figure.axes[0])
figure.set_label("Relative error of every stage, logarithmic, for weights in bf16, int8 and int4: three bands, each "
                 "nearly level, int4 the highest by far.")
figure

# %%
last = [vlm.config.vision.depth - 1, vlm.config.text.num_hidden_layers - 1]
ends = ["vision.embed_patches", "vision.blocks.0.add_mlp", f"vision.blocks.{last[0]}.add_mlp", "vision.restore_order",
        "decoder.layers.0.attend", "decoder.layers.0.add_mlp", f"decoder.layers.{last[1]}.add_mlp", "decoder.logits"]
print(f"{'error against float64':28s}" + "".join(f"{name:>11s}" for name in errors))
for key in ends:
    print(f"{key:28s}" + "".join(f"{errors[name][key]:11.1e}" for name in errors))

# %% [markdown]
# The first column is rounding: the stored weights *are* bfloat16, so nothing is lost. From int8 to int4 a step
# becomes 17 times as wide, 15 steps where there were 254; that groups share a scale in place of whole rows wins a
# little of it back. The error is about level along the run: each stage adds its own, and norms keep it in
# proportion. Whether an answer changes is again a matter of gaps (lesson 13, section 9). We count tokens, over the
# true answers of some sample pictures:

# %%
changed = dict.fromkeys(runs, 0)
total = 0
stills = [one for one in load_samples() if one.fps is None]
for one in sorted(stills, key=lambda one: -len(one.answer))[:3]:  # those with the longest answers
    prompt = vlm.prepare(one.messages())
    told = vlm.tokenizer.encode(one.answer)
    right = golden_run.logits(prompt, told).argmax(axis=1)
    total += len(told)
    for name, model in runs.items():
        changed[name] += int((model.logits(prompt, told).argmax(axis=1) != right).sum())
for name, count in changed.items():
    print(f"weights in {name}: another likeliest token at {count} of {total} places")

# %% [markdown]
# What is gained is on the other axis of section 3. A further token of the 3B model must read all of its decoder:

# %%
decode = next(part for part in parts if part.name.startswith("decode") and part.name.endswith("products"))
for name, size in {"bf16": 2, "int8": 1, "int4": 0.5 + 8 / 128}.items():  # a scale and a zero for each group of int4
    read = decode.moved / 2 * size
    print(f"{name}: {read / 1e9:5.2f} GB a token, {1e3 * read / roof.bandwidth:7.1f} ms at the bandwidth of section 3")

# %% [markdown]
# ## 8. Now break it
#
# A kernel that is nearly right. The number is the relative error of a product of 64 rows with a matrix. **Predict**
# which ones a test with random numbers and a tolerance of one percent would let through.

# %%
def by_parts(x, w, cut=three_parts):
    return sum(part @ w.T for part in cut(x))


def rounded_up(x):
    """Each part rounded to nearest, but only two of them kept."""
    first = ladder.in_bf16(x)
    return [first, ladder.in_bf16(x - first)]


def halves_swapped(w):
    """The pair in each word the wrong way round."""
    return w.reshape(len(w), -1, 2)[:, :, ::-1].reshape(w.shape)


def one_scale(w):
    """int8 with a single scale for the whole matrix."""
    scale = np.abs(w).max() / 127
    return np.rint(w / scale) * scale


def no_zero(w):
    """int4 whose zero is forgotten when it is read."""
    g = w.reshape(len(w), -1, 128)
    least = g.min(-1, keepdims=True)
    scale = (g.max(-1, keepdims=True) - least) / 15
    return (np.rint((g - least) / scale) * scale).reshape(w.shape)


uneven = w * (2.0 ** draw.integers(-6, 1, (len(w), 1))).astype(np.float32)  # rows of different sizes, as in a model
exact = x.astype(float) @ uneven.T.astype(float)
each_row = np.linalg.norm(exact, axis=0)
faults = {"as it should be, three parts": by_parts(x, uneven), "only the first part": three_parts(x)[0] @ uneven.T,
          "two parts, each rounded": by_parts(x, uneven, rounded_up),
          "halves of a word swapped": x @ halves_swapped(uneven).T,
          "the last 8 of k forgotten": x[:, :-8] @ uneven[:, :-8].T, "int8": x @ to_int8(uneven).T,
          "int8, one scale for all rows": x @ one_scale(uneven).T, "int4": x @ to_int4(uneven).T,
          "int4, zero forgotten": x @ no_zero(uneven).T}
print(f"{'':32s} {'of the whole':>12s} {'of the worst column':>20s}")
for name, got in faults.items():
    worst = (np.linalg.norm(got - exact, axis=0) / each_row).max()
    print(f"{name:32s} {off(got):12.1e} {worst:20.1e}")

# %% [markdown]
# Two columns, because the first one is deceived: with one scale for all rows the large rows are fine, and they make
# up the length of the whole. The small ones are nearly noise. "Only the first part" passes a test at one percent,
# and so it does in ports: a kernel that silently rounds its rows to bfloat16 is called "within tolerance". What a
# kernel *claims* must be what is tested: this one claims float32.
#
# ## Exercise 17.1: three parts (about 15 minutes)
#
# Write `in_three(x)`: a float32 array in; an array of three parts out, float32 of shape (3, ...), each part with
# bfloat16 values only (the lower 16 bits are 0), whose sum is `x` *exactly*. Numbers up to 3e38 occur. Section 6
# cuts off. On paper first: how many digits are left after the first part?
#
# <details><summary>Hint 1</summary>The upper 16 bits of a float32 are a bfloat16: x.view(np.uint32) & 0xFFFF0000.
# What is left after it is a float32 again.</details>
# <details><summary>Hint 2</summary>x - first is exact, since both have the same upper digits. Do the same with it,
# and with what is left then.</details>
# <details><summary>Hint 3</summary>rest = x; three times: part = (rest.view(np.uint32) &
# np.uint32(0xFFFF0000)).view(np.float32); keep it; rest = rest - part. np.stack makes one array of three.</details>

# %%
def in_three(x):
    """float32, any shape -> float32 (3, ...)."""
    ### BEGIN SOLUTION
    rest, parts = np.ascontiguousarray(x, np.float32), []
    for _ in range(3):
        parts.append((rest.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
        rest = rest - parts[-1]
    return np.stack(parts)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("17.1", in_three)

# %% [markdown]
# ## Exercise 17.2: rows in int8 (about 15 minutes)
#
# Write `rows_in_int8(w)`: a float32 matrix (n, k) in; the whole numbers (n, k), of type int8, and one scale for
# each row (n,) out. A scale is the row's largest |number| / 127, numbers are rounded to the nearest. A row of zeros
# becomes zeros: no NaN.
#
# <details><summary>Hint 1</summary>np.abs(w).max(axis=1) is one number for each row. Why 127, when int8 goes down
# to -128?</details>
# <details><summary>Hint 2</summary>A row of zeros would divide 0 by 0. Any scale above 0 does for it.</details>
# <details><summary>Hint 3</summary>scale = np.maximum(np.abs(w).max(axis=1), 1e-30) / 127; q = np.rint(w /
# scale[:, None]).astype(np.int8); return q, scale</details>

# %%
def rows_in_int8(w):
    """n k -> (n k int8, n)."""
    ### BEGIN SOLUTION
    scale = np.maximum(np.abs(w).max(axis=1), np.float32(1e-30)) / np.float32(127)
    return np.rint(w / scale[:, None]).astype(np.int8), scale
    ### END SOLUTION


# %% tags=["check"]
minivl.check("17.2", rows_in_int8)

# %% [markdown]
# ## Exercise 17.3: the least time (about 15 minutes)
#
# Write `least_seconds(rows, into, out, size, bandwidth, peak)`: the time that the product of `rows` rows with a
# matrix (out, into) takes at the least. A weight takes `size` bytes; rows go in and come out as float32; all of
# them pass memory once. A multiplication with its addition is two operations. `bandwidth` is in bytes a second,
# `peak` in operations a second.
#
# <details><summary>Hint 1</summary>Three terms of bytes: the weights, what goes in, what comes out.</details>
# <details><summary>Hint 2</summary>Memory and products work at the same time: the slower of the two decides, not
# their sum.</details>
# <details><summary>Hint 3</summary>moved = size * into * out + 4 * rows * (into + out); max(moved / bandwidth, 2 *
# rows * into * out / peak)</details>

# %%
def least_seconds(rows, into, out, size, bandwidth, peak):
    """-> one number, in seconds."""
    ### BEGIN SOLUTION
    moved = size * into * out + 4 * rows * (into + out)
    return max(moved / bandwidth, 2 * rows * into * out / peak)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("17.3", least_seconds)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | a kernel, `kernels="jit"` | an operator of PyTorch, which hands products to oneDNN or MKL |
# | packed weights | `torch.compile` with freezing, "prepacking" in oneDNN |
# | tiles, the tier `amx` | Intel AMX; oneDNN uses it for bfloat16 |
# | attention in blocks | `attn_implementation="sdpa"`, flash attention |
# | int8 with a scale for each row | "per-channel" quantisation; llama.cpp's Q8_0 has one for each 32 numbers |
# | int4 with a scale and a zero for each 128 | AWQ, GPTQ with `group_size=128`, which also search for better numbers |
#
# ## Read next
#
# - `minivl/kernels/jit/products.py`: the innermost loops, on vectors and tiles.
# - `minivl/kernels/jit/emulator.py`: the same instructions, run one by one in NumPy.
# - `minivl doctor --measure`: section 3 for your machine, at any time.
# - Lesson 18: the same ladder on a GPU, and how to find a race without one.

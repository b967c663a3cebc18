# %% [markdown]
# # Lesson 19: how a model is cut
#
# **The question.** A model of 72 billion parameters weighs 147 GB. Hardly a card holds it, and few computers do. How do
# several machines run *one* model together, what must they tell each other, and how much of it?
#
# **You need** from lesson 1: the linear map; from lesson 4: attention and heads; from lesson 7: the norm and the gated
# MLP; from lesson 11: the KV cache, and why a token reads every weight; from lesson 13: that sums in another order
# round otherwise. Reading takes about 45 minutes, the three exercises another 40. Everything runs in this notebook:
# the machines are simulated.
#
# ```
# decoder.embed_tokens                                         section 5: who has which word
# decoder.layers.0.project_qkv   decoder.layers.0.attend       section 3: heads
# decoder.layers.0.add_attended                                <== you are here: the first sum
# decoder.layers.0.add_mlp                                     sections 1, 2: the second sum
# decoder.layers.1.normalise                                   section 7: layers on other machines
# decoder.normalise   decoder.logits                           section 5 again
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivl
from minivl.config import OFFICIAL_PICTURES, official_config
from minivl.kernels import definition as kernels
from minivl.run.cut.job import in_one_process
from minivl.run.cut.plan import Cut
from minivl.run.cut.volume import Run, shares, volume
from minivl.show import plot
from minivl.show.samples import load_samples

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load()
sample = next(one for one in load_samples() if one.fps is None)
inputs = vlm.prepare(sample.messages())
with minivl.session(record="decoder.layers.0.*") as session:
    scores = vlm.logits(inputs)
seen = {key.removeprefix("decoder.layers.0."): value for key, value in session.trace.items()}
layer, text = vlm.weights.decoder.layers[0], vlm.config.text
print("rows of this prompt:", len(inputs.input_ids), "  width:", text.hidden_size, "  heads:", text.heads,
      "  key heads:", text.kv_heads)

# %% [markdown]
# ## 1. Two ways to cut a product
#
# Take a linear map $y = W x$ with $W$ of shape (out, in), and two machines. Each machine that takes part is a
# **rank of the job**, in short a rank, with a number from 0 on; what it has of an array is its **shard**. There are
# two ways to cut a matrix:
#
# - *by rows*: a rank has some rows of $W$. It needs all of $x$, and gives some numbers of $y$, finished.
# - *by columns*: a rank has some columns of $W$. It needs only the numbers of $x$ that meet them, and gives *all*
#   numbers of $y$, but only a part of each: the parts must be added.

# %%
rng = np.random.default_rng(19)
W, x = rng.standard_normal((6, 8)), rng.standard_normal(8)
top, bottom = np.split(W, 2, axis=0)
left, right = np.split(W, 2, axis=1)
first, second = np.split(x, 2)
print("by rows, one after the other:", np.allclose(np.concatenate([top @ x, bottom @ x]), W @ x))
print("by columns, added:           ", np.allclose(left @ first + right @ second, W @ x))

figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
for axis, (name, owner) in zip(axes, (("by rows", np.arange(6)[:, None] // 3 + np.zeros((6, 8))),
                                      ("by columns", np.arange(8)[None] // 4 + np.zeros((6, 8)))), strict=True):
    axis.imshow(owner, cmap=plot.MAGNITUDE, vmin=-1, vmax=2)
    axis.set(title=f"{name}: who has which number", xlabel="in", ylabel="out")
figure.set_label("A matrix of 6 rows and 8 columns twice: cut by rows, rank 0 has the upper three rows; cut by columns "
                 "it has the left four columns.")
plt.show()

# %% [markdown]
# Either way needs a word between the ranks: by rows all of $x$ must be everywhere, by columns the parts of $y$ must be
# added. The trick of this lesson is to do **one after the other**.
#
# ## 2. Rows, then columns: one sum for three matrices
#
# The gated MLP of lesson 7 is $\mathrm{down}(\mathrm{silu}(\mathrm{gate}\,x) \cdot \mathrm{up}\,x)$. Cut gate and
# up by rows, *the same rows of both*: then a rank has some of the inner numbers, of gate and of up, and multiplies
# them without asking anybody. Cut down by columns: those inner numbers are just what it needs. Only at the end must
# parts be added.

# %%
gate, up = np.split(layer.mlp.gate_up.weight.dense(np.float32), 2)  # stored one above the other
down = layer.mlp.down.weight.dense(np.float32)
rows = kernels.rms_norm(seen["add_attended"], layer.norm2)  # s d: what the MLP gets


def mlp(x, gate, up, down):
    """s d -> s d, of whatever part of the inner numbers these matrices have."""
    inner = x @ gate.T
    return (inner / (1 + np.exp(-inner)) * (x @ up.T)) @ down.T


def cuts(size, ranks):
    """The range of each rank, as slices."""
    return [slice(size * r // ranks, size * (r + 1) // ranks) for r in range(ranks)]


whole = seen["add_mlp"] - seen["add_attended"]  # what the model's own MLP has added
print("inner numbers:", len(gate))
for ranks in (1, 2, 4, 8):
    parts = [mlp(rows, gate[cut], up[cut], down[:, cut]) for cut in cuts(len(gate), ranks)]
    got = sum(parts)
    print(f"{ranks} ranks with {len(gate) // ranks:3d} inner numbers each: largest difference from the model "
          f"{np.abs(got - whole).max():.1e} of {np.abs(whole).max():.1f}")

# %% [markdown]
# No number is computed twice, and none is sent but the parts at the end. The difference is rounding (lesson 13), some
# units of the seventh digit: a sum over 512 numbers is now a sum of sums.
#
# What is silently used here: silu and the product look at one inner number at a time. A norm between the two matrices
# would look at all of them, and this way of cutting would end there.
#
# ## 3. Heads
#
# Attention has such a seam too. Heads do not look at each other (lesson 4): they stand side by side, and the output
# matrix mixes them. So a rank gets some *heads*: the rows of $q$, of $k$ and of $v$ that make them, and the columns
# of the output matrix that take them. In between a rank is alone, and the KV cache is cut as well: it holds the
# keys of its own heads.
#
# With grouped heads (lesson 11) a rank needs whole groups: query head $a$ looks at key head
# $\lfloor a / g \rfloor$. So the number of ranks must divide the number of *key* heads, which is small:

# %%
print("key heads:", {size: official_config(size).text.kv_heads for size in ("3B", "7B", "32B", "72B")})
q, k = seen["rotate"]  # s a e, s k e: turned by their positions
v = seen["project_qkv"][2]
out = layer.out.weight.dense(np.float32)
segments, added = np.array([[0, len(q), 0, len(q)]]), []
for rank, (queries, keys) in enumerate(zip(cuts(text.heads, 2), cuts(text.kv_heads, 2), strict=True)):
    mine = kernels.attend(q[:, queries], k[:, keys], v[:, keys], segments, True)  # s a/2 e
    print(f"rank {rank}: query heads {queries.start}..{queries.stop - 1}, key heads {keys.start}..{keys.stop - 1}; "
          "its rows are those of the whole model:", np.array_equal(mine, seen["attend"][:, queries]))
    columns = slice(queries.start * text.head_dim, queries.stop * text.head_dim)
    added.append(mine.reshape(len(mine), -1) @ out[:, columns].T)
whole = kernels.linear.definition(seen["attend"].reshape(len(q), -1), layer.out)
print("largest difference of the sum from the model:", np.abs(sum(added) - whole).max())

# %% [markdown]
# In memory q, k and v lie one above the other in *one* matrix. Whoever cuts that matrix in the middle gives rank 0
# nothing but queries, and rank 1 all keys and values. Each of the three must be cut by itself:

# %%
heights = [text.heads * text.head_dim, *[text.kv_heads * text.head_dim] * 2]  # q, k, v
starts = np.cumsum([0, *heights])
owner, wrong = np.zeros(starts[-1]), np.arange(starts[-1]) * 2 // starts[-1]
for start, height in zip(starts, heights, strict=False):
    for rank, cut in enumerate(cuts(height, 2)):
        owner[start + cut.start:start + cut.stop] = rank
figure, axes = plt.subplots(2, 1, figsize=(10, 2.4), layout="constrained", sharex=True)
for axis, (name, who) in zip(axes, (("each by itself", owner), ("in the middle: wrong", wrong)), strict=True):
    axis.imshow(who[None], aspect="auto", cmap=plot.MAGNITUDE, vmin=-1, vmax=2)
    axis.set(title=name, yticks=[])
    for start in starts[1:-1]:
        axis.axvline(start - 0.5, color="white", lw=2)
axes[1].set(xlabel="rows of the joined matrix: q, then k, then v (white lines)")
figure.set_label("Rows of q, k and v side by side. Cut each by itself, both ranks have half of q, half of k and half "
                 "of v. Cut in the middle, rank 0 has rows of q alone, and rank 1 has all keys and values.")
plt.show()

# %% [markdown]
# This way of cutting, all matrices of a layer at once, is called **tensor parallel** (Shoeybi et al., 2019,
# "Megatron-LM").
#
# ## 4. Why two sums in a layer, and no more
#
# A layer is now: norm, heads, *sum*, add; norm, MLP, *sum*, add. Could we do with fewer? The residual stream must be
# whole in front of each norm, since a norm divides by the root mean square of *all* numbers of a row. So a sum is due
# before each of the two. And not more than that: between the sums each rank works alone.
#
# A sum whose result everybody gets is an **all-reduce**. How much must be sent for it? If everybody sent everything to
# everybody, each of $t$ ranks would send $(t - 1)$ arrays. Better: cut the array into $t$ pieces. Rank $j$ gets piece
# $j$ from everybody, adds, and sends the result to everybody. Each rank sends $(t - 1)$ pieces, twice:
#
# $$ \text{bytes that each rank sends} = 2 \, \frac{t - 1}{t} \cdot \text{bytes of the array} $$
#
# That is less than two arrays, however many ranks there are.

# %%
def all_reduce(arrays):
    """The sum of each rank's array, made from pieces in the order of ranks, and the bytes that all have sent."""
    ranks, sent = len(arrays), 0
    pieces = [np.array_split(a.reshape(-1), ranks) for a in arrays]  # pieces[from][to]
    totals = []
    for to in range(ranks):
        total = pieces[0][to].copy()
        for source in range(1, ranks):  # in this order, whoever comes first
            total += pieces[source][to]
        sent += sum(pieces[source][to].nbytes for source in range(ranks) if source != to)
        totals.append(total)
    sent += sum((ranks - 1) * total.nbytes for total in totals)  # the results, to everybody else
    return np.concatenate(totals).reshape(arrays[0].shape), sent


print(f"{'ranks':>5s} {'sent by all':>12s} {'formula':>12s} {'by each':>10s}")
for ranks in (2, 4, 8, 64):
    arrays = [rng.standard_normal((16, 192)).astype(np.float32) for _ in range(ranks)]
    total, sent = all_reduce(arrays)
    print(f"{ranks:5d} {sent:12,d} {2 * (ranks - 1) * total.nbytes:12,d} {sent // ranks:10,d}")

# %% [markdown]
# Note the order of the additions. If a rank added pieces as they come in, a late message would change the rounding,
# and the same question could get another answer tomorrow. Here they are added in the order of ranks, always.
#
# Would another way of cutting do with less? If all four matrices of a layer are cut by rows, a product's numbers lie
# on several ranks, and the next product needs all of them: a *gather* puts them side by side everywhere, which is
# the second half of an all-reduce, and half its bytes. (The first product may stay where it is: heads work alone.) If
# all are cut by columns, every product ends in a sum. For the 72B, in numbers that a rank sends for each row, but for
# the factor $(t - 1) / t$:

# %%
large = official_config("72B").text
heights = {"qkv": (large.heads + 2 * large.kv_heads) * large.head_dim, "out": large.hidden_size,
           "gate and up": 2 * large.intermediate_size, "down": large.hidden_size}  # numbers that each product gives
ways = {"rows, then columns, twice": {"out": 2, "down": 2},  # 2: a sum
        "all by columns": dict.fromkeys(heights, 2)}
gathers = [large.heads * large.head_dim, heights["out"], large.intermediate_size, heights["down"]]
print(f"{'':28s} {'how often':>12s} {'numbers for a row':>18s}")
for way, sums in ways.items():
    print(f"{way:28s} {len(sums):7d} sums {sum(n * heights[name] for name, n in sums.items()):18,d}")
print(f"{'all by rows':28s} {len(gathers):4d} gathers {sum(gathers):18,d}")

# %% [markdown]
# ## 5. The vocabulary
#
# At both ends stands a table with a row for each word, and the two are no small part of a model. They are cut by
# rows. On the way in, the rank that has a word looks it up, and all others give zeros; the sum is *exact*, since
# there is one number and zeros. On the way out each rank has the scores of its words; they are put side by side.

# %%
seven = official_config("7B")
(alone,) = shares(seven, OFFICIAL_PICTURES, Cut(1, 1))
tables = 2 * 2 * seven.text.vocab_size * seven.text.hidden_size  # two tables, of two bytes a number
print(f"7B: {seven.text.vocab_size:,} words, {tables / alone.weights:.1%} of its weights")
table = vlm.weights.decoder.embed.dense(np.float32)
ids, found = inputs.input_ids[:12], []
for cut in cuts(len(table), 4):
    mine = (ids >= cut.start) & (ids < cut.stop)
    found.append(np.where(mine[:, None], table[np.where(mine, ids, cut.start)], np.float32(0)))
    print(f"words {cut.start:3d}..{cut.stop - 1:3d}: has {mine.sum()} of these {len(ids)}")
print("the sum is the table's rows, to the bit:", np.array_equal(sum(found), table[ids]))
last = kernels.rms_norm(rng.standard_normal((1, text.hidden_size)).astype(np.float32), vlm.weights.decoder.norm)
beside = np.concatenate([last @ table[cut].T for cut in cuts(len(table), 4)], axis=1)
print("scores side by side are those of the whole table:", np.allclose(beside, last @ table.T, atol=1e-5))

# %% [markdown]
# ## 6. The whole model, on ranks that are threads
#
# All of this is an interpreter (lesson 17 had one that rounds weights): it stands around another one, and its
# `linear` sums where a matrix is cut by columns. No pass of the model knows of it. Over MPI a rank is a process, on
# this machine or another:
#
#     mpirun -n 4 minivl ask photo.png "What is this?" --parallel tensor=2,pipeline=2 --costs
#
# Here each rank is a thread, and sends nothing over a wire; what it *would* send is counted. `run` gets what `load`
# takes as `parallel=`. **Predict**: are the tokens of four ranks those of one? And the scores, to the bit?

# %%
answer = vlm.generate(inputs, 12)


def run(rank):
    with minivl.load(parallel=rank) as mine:
        found = mine.generate(inputs, 12)
        sent = dict(mine.rank.sent)
        return found, sent, mine.logits(inputs), mine.rank.seat


results = {}
for cut in (Cut(2, 1), Cut(1, 2), Cut(2, 2)):
    results[cut] = in_one_process(cut, run)
    same = all(found == answer for found, *_ in results[cut])
    off = max(np.abs(got - scores).max() for _, _, got, _ in results[cut])
    print(f"{str(cut):21s} the same tokens: {same}   largest difference of a score: {off:.1e}")
print("they say:", vlm.tokenizer.decode(answer[:-1]))

# %% [markdown]
# The tokens are the same, and so are the scores where only layers were dealt out: nothing is added in another order
# there. Now the count. In a step of $s$ rows the decoder makes $2 L$ sums of $s H$ numbers (H: its width, L: its
# layers); the tower makes two for each of its $B$ blocks, of $p V$ numbers, and the merger one, of $c H$. With
# all-reduce's $2 (t - 1)$ and 4 bytes a number:

# %%
vision, h, t = vlm.config.vision, text.hidden_size, 2
s, p = len(inputs.input_ids), len(inputs.patches)
steps = len(answer) - 1  # the prompt itself gives the first token
prompt = 2 * text.num_hidden_layers * s * h + 2 * vision.depth * p * vision.hidden_size + p // 4 * h
told = 2 * (t - 1) * 4 * (prompt + steps * 2 * text.num_hidden_layers * h)
counted = sum(sent["sums"] for _, sent, _, _ in results[Cut(2, 1)])
print(f"sums of tensor=2: by the formula {told:,} bytes, counted {counted:,}")
package = volume(vlm.config, Cut(2, 1), Run(s, p), vlm.dtype)
print(f"of them for the prompt: {2 * (t - 1) * 4 * prompt:,}, by the package's own formula {package['sums']:,}")

# %% [markdown]
# ## 7. A pipeline, and its bubbles
#
# The other way to cut a model is along its layers: rank 0 has the first ones, rank 1 the next. What goes from one
# to the other is the residual stream, once, $s H$ numbers: almost nothing. Ranks in such a row are stages of a
# **pipeline**. The price is that they wait. A row of one conversation is on one stage at a time, and all others are
# idle.
#
# If there is more to do, it can be filled: cut the work into batches and let batch 2 begin on stage 0 while batch 1
# is on stage 1. What stays idle, at the beginning and at the end, is the **bubble**.

# %%
def schedule(stages, batches):
    """When each stage works on each batch: stage batch, in steps from 0 on."""
    return np.arange(stages)[:, None] + np.arange(batches)[None]


figure, axes = plt.subplots(1, 3, figsize=(12, 2.4), layout="constrained")
for axis, batches in zip(axes, (1, 4, 12), strict=True):
    when = schedule(4, batches)
    for stage, times in enumerate(when):
        axis.barh(stage, 1, left=times, color=[plot.COLOURS[n % len(plot.COLOURS)] for n in range(batches)], height=0.8)
    length = int(when.max()) + 1
    idle = 1 - batches / length
    axis.set(title=f"{batches} batch{'es' * (batches > 1)}: {idle:.0%} idle", xlabel="step", ylabel="stage",
             xlim=(0, length), yticks=range(4))
    axis.invert_yaxis()
figure.set_label("Which stage works when, for 1, 4 and 12 batches on four stages: a staircase, with idle corners at "
                 "both ends that matter less the more batches there are.")
plt.show()

# %% [markdown]
# With $P$ stages and $m$ batches there are $m + P - 1$ steps, and a stage works in $m$ of them: the bubble is
# $(P - 1) / (m + P - 1)$. When *one* conversation writes, $m$ is 1: three of four stages are idle, whatever the code
# does. `minivl` runs one batch at a time; a pipeline buys it memory, not speed.
#
# So machines that are close (cards in one box) share matrices, and machines that are far share layers:
#
# | | tensor parallel | pipeline |
# |---|---|---|
# | what is sent | two arrays a layer, between all ranks | one array a stage, to the next one |
# | needs | a fast wire | a slow one will do |
# | a single conversation | becomes faster | does not |
# | limit | key heads | layers |
#
# ## 8. 72B on sixteen machines, on paper
#
# The interpreter `shapes` computes nothing (lesson 5 counted with it), so the same program tells what each rank of a
# model would hold and send that nobody here can run. A picture of 1280 x 720, then one token:

# %%
big = official_config("72B")
print(f"{'':24s} {'weights of a rank':>18s} {'for the prompt':>15s} {'for each further token':>23s}")
for cut in (Cut(1, 1), Cut(8, 2), Cut(4, 4), Cut(2, 8), Cut(1, 16)):
    ranks = shares(big, OFFICIAL_PICTURES, cut, [(720, 1280)], new_tokens=100)
    heaviest = max(one.weights for one in ranks)
    prompt, token = (max(getattr(one, part).total() for one in ranks) for part in ("prompt", "token"))
    print(f"{str(cut):24s} {heaviest / 2**30:14.1f} GiB {prompt / 1e9:12.2f} GB {token / 1e6:20.3f} MB")

# %% [markdown]
# Is that much? Compare times. Take memory of 100 GB/s and wires of 10 GB/s between machines that need 20 millionths of
# a second for any message, however short. A further token reads the rank's weights once, stage after stage:

# %%
memory, wire, message = 100e9, 10e9, 20e-6
print(f"{'':24s} {'reading weights':>16s} {'sending':>10s} {'messages':>10s}   together")
for cut in (Cut(1, 1), Cut(8, 2), Cut(4, 4), Cut(2, 8), Cut(1, 16)):
    ranks = shares(big, OFFICIAL_PICTURES, cut)
    reading = sum(one.weights for one in ranks if one.seat.shard == 0) / memory
    sending = sum(one.token.total() for one in ranks if one.seat.shard == 0) / wire
    words = 2 * big.text.num_hidden_layers * 2 * (cut.tensor > 1)  # two rounds in a sum
    words += cut.pipeline if cut.pipeline > 1 else 0
    print(f"{str(cut):24s} {1e3 * reading:13.1f} ms {1e3 * sending:7.2f} ms {1e3 * words * message:7.2f} ms "
          f"{1e3 * (reading + sending + words * message):8.1f} ms")

# %% [markdown]
# The last line reads as long as one machine would, the first one, if one could hold it: a pipeline alone makes
# nothing faster.
# With eight shards reading takes an eighth, and what is then felt is not the *volume* of the messages but their
# *number*: 320 short ones for a token. That is why ranks of a layer belong on one machine, or on a network that
# answers quickly.
#
# ## 9. Now break it
#
# Faults of people who cut a model for the first time. **Predict** which ones give an error, which ones nonsense,
# and which one only *slightly* other numbers, so that a test with a tolerance lets it through. (The MLP of section
# 2, with a bias at its end as the tower's has, on four ranks.)

# %%
bias = (0.1 * rng.standard_normal(len(down))).astype(np.float32)
right = mlp(rows.astype(float), gate.astype(float), up.astype(float), down.astype(float)) + bias
ranges = cuts(len(gate), 4)
parts = [mlp(rows, gate[cut], up[cut], down[:, cut]) for cut in ranges]
both = np.concatenate([gate, up])  # as it is stored: gate above up


def joined(cut):
    """A rank's rows of the joined matrix, cut as if it were one: (2 inner / 4), the first half called gate."""
    mine = both[2 * cut.start:2 * cut.stop]
    return mlp(rows, *np.split(mine, 2), down[:, cut])


def in_bf16(x):
    """Rounded to bfloat16, to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


faults = {"as it should be": sum(parts) + bias,
          "no sum: a rank goes on with its part": parts[0] + bias,
          "the bias on every rank": sum(part + bias for part in parts),
          "a mean in place of the sum": sum(parts) / 4 + bias,
          "gate and up cut as one matrix": sum(map(joined, ranges)) + bias,
          "down's columns by another rank": sum(mlp(rows, gate[a], up[a], down[:, b]) for a, b in
                                                zip(ranges, ranges[1:] + ranges[:1], strict=True)) + bias,
          "one rank's part comes twice": sum(parts) + parts[2] + bias,
          "parts rounded to bfloat16, then added": in_bf16(sum(map(in_bf16, parts))) + bias,
          "added, then rounded once": in_bf16(sum(parts)) + bias}
for name, got in faults.items():
    print(f"{name:40s} relative error {np.linalg.norm(got - right) / np.linalg.norm(right):.1e}")

# %% [markdown]
# All of them run. A bias that is added on every rank is the most treacherous: its error is three biases, and where
# these are small beside the rest, an answer survives it. The last two lines are no fault but a choice: parts that are
# rounded before they are added lose a little more than one rounding costs. `minivl` adds in float32 and rounds once,
# as its definitions do.
#
# ## Exercise 19.1: whose rows (about 15 minutes)
#
# Write `rows_of_rank(heads, key_heads, width, rank, ranks)`: the numbers of the rows of the joined matrix (q above
# k above v) that a rank has, as a list or an array of whole numbers, in ascending order. A head is `width` rows.
# `ranks` divides both numbers of heads.
#
# <details><summary>Hint 1</summary>How high are q, k and v? Where does each of them begin?</details>
# <details><summary>Hint 2</summary>A rank has heads / ranks query heads; of the keys, and of the values, key_heads /
# ranks heads.</details>
# <details><summary>Hint 3</summary>For each (start, heads) of (0, heads), (heads * width, key_heads), ((heads +
# key_heads) * width, key_heads): range(start + rank * n, start + (rank + 1) * n) with n = heads // ranks *
# width.</details>

# %%
def rows_of_rank(heads, key_heads, width, rank, ranks):
    """-> whole numbers, ascending."""
    ### BEGIN SOLUTION
    rows = []
    for start, count in ((0, heads), (heads * width, key_heads), ((heads + key_heads) * width, key_heads)):
        mine = count // ranks * width
        rows += range(start + rank * mine, start + (rank + 1) * mine)
    return rows
    ### END SOLUTION


# %% tags=["check"]
minivl.check("19.1", rows_of_rank)

# %% [markdown]
# ## Exercise 19.2: what a layer sends (about 15 minutes)
#
# Write `sent_by_rank(tokens, width, ranks, size)`: the bytes that *one* rank sends for one layer, when `ranks`
# ranks share it, `tokens` rows of `width` numbers go through, and a number takes `size` bytes. The sums are made
# from pieces, as in section 4. With one rank nothing is sent.
#
# <details><summary>Hint 1</summary>How many sums has a layer, and of what shape?</details>
# <details><summary>Hint 2</summary>In a sum a rank sends ranks - 1 pieces of the array, twice; a piece is the array's
# size / ranks.</details>
# <details><summary>Hint 3</summary>2 * 2 * (ranks - 1) * tokens * width * size / ranks</details>

# %%
def sent_by_rank(tokens, width, ranks, size):
    """-> one number, in bytes."""
    ### BEGIN SOLUTION
    return 2 * 2 * (ranks - 1) * tokens * width * size / ranks
    ### END SOLUTION


# %% tags=["check"]
minivl.check("19.2", sent_by_rank)

# %% [markdown]
# ## Exercise 19.3: how long it takes (about 10 minutes)
#
# Write `steps_of(stages, batches)`: the steps that a pipeline needs, when each stage takes one step for a batch and
# passes it on; and the bubble, the share of idle places among all places (stage, step). Two numbers come out.
#
# <details><summary>Hint 1</summary>When does the last stage begin with the first batch? When does it end with the
# last one?</details>
# <details><summary>Hint 2</summary>Places: stages times steps. Busy ones: stages times batches.</details>
# <details><summary>Hint 3</summary>steps = batches + stages - 1; return steps, 1 - batches / steps</details>

# %%
def steps_of(stages, batches):
    """-> steps, bubble."""
    ### BEGIN SOLUTION
    steps = batches + stages - 1
    return steps, 1 - batches / steps
    ### END SOLUTION


# %% tags=["check"]
minivl.check("19.3", steps_of)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | cut by rows | `ColwiseParallel`, "column parallel": PyTorch counts the columns of the transposed matrix |
# | cut by columns | `RowwiseParallel`, "row parallel" |
# | a sum that everybody gets | `all_reduce`, `MPI_Allreduce` |
# | putting scores side by side | `all_gather` |
# | `tensor=2,pipeline=2` | `tp_plan="auto"` of transformers; `tensor_parallel_size`, `pipeline_parallel_size` of vLLM |
# | the words cut by rows | `VocabParallelEmbedding` of Megatron-LM and vLLM |
# | batches that fill a pipeline | micro-batches (GPipe) |
#
# ## Read next
#
# - `minivl/run/cut/machine.py`: the interpreter of one rank.
# - `minivl/checkpoint/shares.py`: which part of each tensor a rank has, and how it is read without the rest.
# - [Larger than memory](../docs/guide/larger-than-memory.md): the same on real machines, and models that are read from
#   the disk while they run.
# - `minivl explain --model 72B --parallel tensor=8,pipeline=2`: section 8 for any size and any cut.

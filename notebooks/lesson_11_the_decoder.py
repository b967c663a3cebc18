# %% [markdown]
# # Lesson 11: the decoder: look back, remember, choose
#
# **The question.** The decoder writes one token, then the next. What is different in its layers, what may it
# keep from one token to the next, what does a token cost, and how is it chosen?
#
# **You need** from lesson 4: *attention*, *heads*, *causal*; from lesson 7: *a whole block*; from lesson 10:
# the *place* of every token. Reading takes about 55 minutes, the three exercises another 45.
#
# ```
# prompt.expand   positions.mrope                              lessons 9 and 10
# vision.merge_2x2   vision.restore_order                      lesson 8
# decoder.embed_tokens   decoder.place_features                lesson 9
# decoder.layers.0.project_qkv   decoder.layers.0.rotate       lessons 6 and 10
# decoder.layers.0.attend                                      <== you are here: sections 1 and 2
# decoder.layers.0.add_mlp   decoder.logits                    <== section 3
# sampling.penalise                                            <== section 7
# sampling.most_likely                                         <== section 6
# sampling.narrow_choice   sampling.draw                       <== section 6: the same choice, by chance
# the next token: all of `decoder` again, for one row          <== sections 4 and 5
# ```

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.config import official_config
from minivl.kernels import definition as kernels
from minivl.passes import sampling
from minivl.show.figures import figure_of
from minivl.show.plot import table

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load()
config, text, weights, tokenizer = vlm.config, vlm.config.text, vlm.weights.decoder, vlm.tokenizer
A, K, E = text.heads, text.kv_heads, text.head_dim  # query heads, key-value heads, width of a head


def about(image, question):
    content = [{"type": "image", "image": image}] * (image is not None)
    return vlm.prepare([{"role": "user", "content": [*content, {"type": "text", "text": question}]}])


image = Image.new("RGB", (112, 84), (200, 200, 205))
ImageDraw.Draw(image).ellipse([20, 18, 68, 66], fill=(222, 40, 40))
inputs = about(image, "Describe the image.")
with minivl.session(record="decoder.*") as session:
    logits = vlm.logits(inputs)
trace = session.trace

# %% [markdown]
# A layer of the decoder is a block as in lesson 7: norm, attention, norm, MLP, and two sums. Three things
# differ from a block of the tower: rows look *back* only, several query heads share one key-value head, and
# the output matrix and the MLP have no bias. (q, k and v have one.) And its rotary embedding is MRoPE.
#
# ## 1. Shared keys and values
#
# There are $a$ query heads, but only $k$ heads of keys and values. Query head $j$ uses number
# $\lfloor j \,/\, (a/k) \rfloor$: the first $a/k$ query heads the first, and so on (lesson 4, exercise 4.2).
# Why? Queries are forgotten at once, but keys and values are *kept* for every token of the conversation, in
# every layer. Fewer of them, less memory:
#
# $$ \text{bytes for a token} = 2 \cdot \text{layers} \cdot k \cdot e \cdot 2 \qquad
#    \text{(key and value, two bytes a number)} $$

# %%
partner = np.arange(A) // (A // K)  # a: which key-value head each query head uses
figure = plot.board(1, 1, (5, 1.6))
table((partner[None] == np.arange(K)[:, None]).astype(int), figure.axes[0], "who uses which",
      [f"key-value head {n}" for n in range(K)], [f"query {n}" for n in range(A)])
figure

# %%
sizes = {"in the package": text} | {size: official_config(size).text for size in ("3B", "7B", "32B", "72B")}
print(f"{'':16s} heads  key-value  bytes a token   without sharing")
for name, c in sizes.items():
    once = 2 * c.num_hidden_layers * c.head_dim * 2
    print(f"{name:16s} {c.heads:5d} {c.kv_heads:10d} {once * c.kv_heads:14,d} {once * c.heads:17,d}")

# %% [markdown]
# ## 2. Looking back only
#
# Query $i$ sees key $j$ when $j \le i$. When new rows come later, their first one does not stand at row 0 of
# the sequence: so the rule needs to know at which row the new queries begin.

# %%
def shares_of(q, k, first=0):
    """Who looks at whom, by how much: n a e, m k e -> a n m. Query 0 stands in row `first` of the sequence."""
    scores = np.einsum("nae,mae->anm", q, k[:, partner]) / np.sqrt(E)  # k: m k e -> m a e
    seen = np.arange(len(k)) <= first + np.arange(len(q))[:, None]  # n m: j <= i
    scores = np.where(seen, scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attend(q, k, v, first=0):
    """n a e, m k e, m k e -> n a e."""
    return np.einsum("anm,mae->nae", shares_of(q, k, first), v[:, partner])


q, k = trace["decoder.layers.0.rotate"]
v = trace["decoder.layers.0.project_qkv"][2]
off = np.abs(attend(q, k, v) - trace["decoder.layers.0.attend"]).max()
print("q", q.shape, " k", k.shape, " v", v.shape, f"  largest difference from the pass: {off:.1e}")

last = text.num_hidden_layers - 1
shares = shares_of(*trace[f"decoder.layers.{last}.rotate"])
figure = plot.board(1, 3, (12, 3.6))
for head, axis in enumerate(figure.axes[:2]):
    plot.heat(np.sqrt(shares[head]), axis)
    axis.set_title(f"layer {last}, head {head}: roots of the shares", size=9)
    axis.set(xlabel="key: row that is looked at", ylabel="query: row that looks")
at = minivl.provenance(inputs, config)
whole = np.array([[0, len(q), 0, len(q)]])  # one segment: queries 0..s, keys 0..s
q_last, k_last = trace[f"decoder.layers.{last}.rotate"]
plot.attention(q_last, k_last, whole, len(q) - 1, "s", at, figure.axes[2], causal=True, pixels=np.asarray(image))
figure.axes[2].set_title("what the last row looks at, on the picture", size=9)
figure

# %% [markdown]
# Above the diagonal there is nothing. (Roots are drawn so that small shares can be seen. In large models nearly
# every head gives a share to the first row: those that have nothing to find look there.)
#
# From the triangle follows the most useful fact of this lesson: **a row never depends on the rows after it.**
# We cut the prompt off after each of its last tokens and run the rest:

# %%
for cut in (3, 2, 1):
    shorter = minivl.Inputs.from_ids(inputs.input_ids[:-cut], config, inputs.pixel_values, inputs.image_grid_thw)
    off = np.abs(vlm.logits(shorter) - logits[:-cut]).max()
    print(f"without the last {cut}: the other rows' scores move by {off:.1e} at most,",
          f"the largest is {np.abs(logits).max():.1f}")

# %% [markdown]
# ## 3. The whole decoder
#
# All layers in plain code. The function takes *new* rows of the sequence, with their places, and what is
# known of the rows before them: `cache`, a list with one pair of keys and values for each layer. It adds the
# new keys and values to the cache, and gives the scores.

# %%
def linear(x, w):
    y = x @ w.weight.dense(np.float32).T
    return y if w.bias is None else y + w.bias.dense(np.float32)


def rms_norm(x, norm):
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + norm.eps) * norm.weight.dense(np.float32)


def swiglu(x, w):
    gate, up = np.split(linear(x, w.gate_up), 2, axis=1)
    return linear(gate / (1 + np.exp(-gate)) * up, w.down)


def turn(x, angles):
    """n a e, n f -> n a e: pair (i, i + e/2) by angle i, the same for all heads."""
    a, b = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


speed = (1 / text.rope_theta ** (np.arange(0, E, 2, dtype=np.float32) / E)).astype(np.float32)
axis_of = np.repeat([0, 1, 2], text.mrope_section)  # f


def run(x, place, cache, attend=attend):
    """New rows through all layers: s d, 3 s -> s v."""
    angles = place.astype(np.float32)[axis_of].T * speed  # 3 s -> s f
    for number, w in enumerate(weights.layers):
        heads = linear(rms_norm(x, w.norm1), w.qkv).reshape(len(x), -1, E)  # s d -> s (a+k+k) e
        q, k, v = heads[:, :A], heads[:, A : A + K], heads[:, A + K :]
        q, k = turn(q, angles), turn(k, angles)
        before = len(cache[number][0])  # rows that are known
        cache[number] = [np.concatenate(pair) for pair in zip(cache[number], (k, v), strict=True)]
        x = x + linear(attend(q, *cache[number], before).reshape(len(x), -1), w.out)
        x = x + swiglu(rms_norm(x, w.norm2), w.mlp)
    return linear(rms_norm(x, weights.norm), weights.head)


def empty():
    return [[np.zeros((0, K, E), np.float32)] * 2 for _ in weights.layers]


rows, place = trace["decoder.place_features"], inputs.position_ids
ours = run(rows, place, empty())
off = np.linalg.norm(ours - logits) / np.linalg.norm(logits)
print("scores", ours.shape, f"  against vlm.logits, relative: {off:.1e}")

# %% [markdown]
# ## 4. The KV cache: prefill, then one row at a time
#
# Section 2 says that earlier rows do not change when a token is added. A new row needs of them only their
# keys and values. So these are computed once and kept: the **KV cache**. Answering then has two parts. The
# **prefill** runs the whole prompt at once. Each step of **decoding** runs *one* row, that of the token
# chosen last, at the next place:

# %%
def next_row(token, place):
    """The embedded row of a token, and its place: one above on all three axes."""
    return weights.embed.dense(np.float32)[[token]], place[:, -1:] + 1  # 1 d, 3 1


def answer_with_cache(rows, place, most, stop=()):
    """Scores of each token of a greedy answer, and the cache at its end."""
    cache = empty()
    scores = [run(rows, place, cache)[-1]]  # prefill
    while len(scores) < most and scores[-1].argmax() not in stop:
        row, place = next_row(scores[-1].argmax(), place)
        scores.append(run(row, place, cache)[-1])  # decoding: one row
    return np.array(scores), cache


def answer_without(rows, place, most):
    """The same with everything anew for each token."""
    scores = [run(rows, place, empty())[-1]]
    while len(scores) < most:
        row, last = next_row(scores[-1].argmax(), place)
        rows, place = np.concatenate([rows, row]), np.concatenate([place, last], axis=1)
        scores.append(run(rows, place, empty())[-1])
    return np.array(scores)


STEPS = 4
cached, cache = answer_with_cache(rows, place, STEPS + 1)
anew = answer_without(rows, place, STEPS + 1)
print("tokens", cached.argmax(axis=1), "and without the cache", anew.argmax(axis=1))
print("the package says", vlm.generate(inputs, max_new_tokens=STEPS + 1, repetition_penalty=1.0, stop_ids=[]))
print("largest difference of the scores:", " ".join(f"{off:.1e}" for off in np.abs(cached - anew).max(axis=1)))

# %% [markdown]
# The same up to rounding, and for a reason, not by luck. (Why not bit for bit? The products have other shapes,
# so sums are formed in another order.) What each step computes, and what lies in the cache at the end:

# %%
s = len(rows)
done = np.zeros((2, STEPS + 1, s + STEPS))
for step in range(STEPS + 1):
    done[0, step, : s + step] = 1  # without: all rows so far, each time
    done[1, step, s + step - 1 if step else 0 : s + step] = 1  # with: the prompt once, then one row
figure = plot.board(1, 3, (12, 3.2), width_ratios=[1, 1, 1.3])
for axis, array, title in zip(figure.axes, done, ("rows computed without a cache", "and with one"), strict=False):
    axis.imshow(array, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    axis.set_title(f"{title}: {int(array.sum())}", size=9)
    axis.set(xlabel="row of the sequence", ylabel="step", yticks=range(STEPS + 1))
plot.heat(cache[0][0], figure.axes[2])
figure.axes[2].axhline(s - 0.5, color=plot.ORANGE)
figure.axes[2].set_title("keys of layer 0 in the cache; below the line: the answer's", size=9)
figure

# %% [markdown]
# Keys are kept *after* they have been turned, because the place of a row does not change. Queries are not
# kept: nobody asks an old row again.
#
# The package does the same with one array for each layer, and one range of rows in it for each conversation.
# So a step is the kernel `attend` with a segment of one query and many keys:

# %%
figure = plot.board(1, 3, (11, 2.8))
tables = {"prefill of 8 rows": [[0, 8, 0, 8]], "step of decoding: one query": [[0, 1, 0, 9]],
          "two conversations in one step": [[0, 1, 0, 9], [1, 2, 12, 17]]}
for axis, (title, segments) in zip(figure.axes, tables.items(), strict=True):
    plot.segments(np.array(segments), axis, causal=True)
    axis.set_title(title, size=9)
figure

# %% [markdown]
# The right one is how a server answers many people at once: rows of several conversations in one table, each
# with keys of its own. Nothing is filled up with empty rows (**padding**), so there is nothing to hide and no
# place to count wrongly. Two together must say what each says alone:

# %%
other = about(None, "What is in this image?")
alone = [vlm.generate(one, max_new_tokens=8) for one in (inputs, other)]
print("together as alone:", vlm.generate([inputs, other], max_new_tokens=8) == alone)

# %% [markdown]
# ### Filled up all the same: on which side?
#
# Most programs fill up: conversations become rows of one table, and the shorter ones get fillers. On the *left*, and
# not because it looks better. The scores of the last row are wanted, for all conversations at once, and new tokens
# are put behind the last row. We fill up our prompt by three rows and compare its scores with those without:

# %%
FILL = 3
filler = weights.embed.dense(np.float32)[np.repeat(tokenizer.encode("\n")[:1], FILL)]  # rows of some token: f d
right_rows, left_rows = np.concatenate([rows, filler]), np.concatenate([filler, rows])
further = place.max() + 1 + np.arange(FILL)
right_place = np.concatenate([place, np.tile(further, (3, 1))], axis=1)  # fillers go on counting
own_place = np.concatenate([np.zeros((3, FILL), int), place], axis=1)  # fillers are not counted
by_row = np.concatenate([np.tile(np.arange(FILL), (3, 1)), place + FILL], axis=1)  # they are


def hidden(q, k, v, first=0):
    """Attention that leaves the first FILL keys out."""
    own = attend(q[FILL:], k[FILL:], v[FILL:], first) if first == 0 else attend(q, k[FILL:], v[FILL:], first - FILL)
    return np.concatenate([np.zeros((len(q) - len(own), A, E), np.float32), own])


padded = {"right, the last row": run(right_rows, right_place, empty())[-1],
          "right, the last row of its own": run(right_rows, right_place, empty())[len(rows) - 1],
          "left, fillers looked at": run(left_rows, own_place, empty())[-1],
          "left, hidden, fillers not counted": run(left_rows, own_place, empty(), hidden)[-1],
          "left, hidden, fillers counted": run(left_rows, by_row, empty(), hidden)[-1]}
print(f"{'fillers':36s} scores of the next token move by")
for name, scores in padded.items():
    print(f"{name:36s} {np.linalg.norm(scores - ours[-1]) / np.linalg.norm(ours[-1]):.1e}")

# %% [markdown]
# On the right the last row is a filler, and what one reads there is nonsense. The row before the fillers is right,
# because nobody looks ahead; but it stands at another place in every conversation, and the answer would go on behind
# the fillers. On the left all last rows are real ones, as long as the fillers are *hidden*. Whether they are counted
# does not matter for the prompt: all places move by the same number, and scores depend on differences. But the
# answer must go on from the same count. (The reference: a `padding_side` of "left" for generating, and
# `attention_mask` to hide; for training, where no row is asked for the next token, the right side serves.)
#
# ## 5. What it costs
#
# A session counts operations. Prefill and each step, and what the steps would cost without a cache:

# %%
with minivl.session(profile=True) as session:
    vlm.generate(inputs, max_new_tokens=STEPS + 1, stop_ids=[])
work, seconds = {}, {}
for key, cost in session.profile.items():
    part = key.split(".")[0]  # vision, decoder, decoder@1, ...
    work[part] = work.get(part, 0) + cost.flops
    seconds[part] = seconds.get(part, 0) + cost.seconds
runs = [n for part, n in work.items() if part.startswith("decoder")]
without = [runs[0] * (s + n) / s for n in range(len(runs))]  # in proportion to the rows
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
names = ["prefill", *(f"step {n}" for n in range(1, len(runs)))]
axis.bar(np.arange(len(runs)) - 0.2, without, 0.4, color=plot.ORANGE, label="without a cache")
axis.bar(np.arange(len(runs)) + 0.2, runs, 0.4, color=plot.BLUE, label="with one")
axis.set(xticks=range(len(runs)), xticklabels=names, ylabel="operations of the decoder")
axis.margins(y=0.3)
axis.legend(fontsize=8, ncols=2)
plt.show()
print("operations:", {part: f"{n:,}" for part, n in work.items() if n})
print(f"prefill over one step: {runs[0] / runs[1]:.0f} times the operations ({s} rows),",
      f"{seconds['decoder'] / seconds['decoder@1']:.1f} times the seconds")

# %% [markdown]
# In operations a step is about *one* row of the prefill. In seconds it is more. The prefill reads every weight
# once for all rows; a step reads every weight once for a single row, and has two operations for each. So
# decoding waits for memory: for the weights, and for the cache, which grows. For the official sizes, weights
# of the decoder in two bytes a number:

# %%
def decoder_weights(c):
    """Numbers in the layers and in the matrix that gives the scores."""
    width, kv, inner = c.hidden_size, c.kv_heads * c.head_dim, c.intermediate_size
    attention = 2 * width * width + 2 * width * kv + width + 2 * kv  # q and out, k and v, biases of q, k, v
    return c.num_hidden_layers * (attention + 3 * width * inner + 2 * width) + c.vocab_size * width


print(f"{'':4s} read for one token   cache of 1,000   of 32,000 tokens   as large as the weights at")
lengths = np.array([1_000, 32_000])
figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
for size in ("3B", "7B", "32B", "72B"):
    c = official_config(size).text
    read, each = 2 * decoder_weights(c), 4 * c.num_hidden_layers * c.kv_heads * c.head_dim
    print(f"{size:4s} {read / 1e9:15.1f} GB" + "".join(f" {n * each / 1e9:13.2f} GB" for n in lengths)
          + f" {read / each:20,.0f} tokens")
    length = np.geomspace(100, 1e6)
    (line,) = axis.loglog(length, length * each / 1e9, label=size)
    axis.axhline(read / 1e9, color=line.get_color(), ls=":")
axis.set(xlabel="tokens of a conversation", ylabel="gigabytes", title="cache, and weights (dotted)")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# One conversation hardly fills the memory. A hundred of them, or one long video, do.
#
# ## 6. Choosing: greedy, or by lot
#
# The scores of the last row say how likely every token is. **Greedy** takes the highest. **Sampling** draws
# one by lot, with the probabilities of softmax. Three knobs change the probabilities before the draw, in this
# order:
#
# - **temperature** $T$: scores divided by $T$. Below 1 the likely become likelier, above 1 all become alike;
# - **top-k**: only the $k$ highest scores stay;
# - **top-p**: only the smallest set of likeliest tokens stays whose probabilities together reach $p$.
#
# For an example we ask for a box, and take the step of the answer at which the probability of the likeliest token
# is nearest to one half:

# %%
def softmax(z):
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def top_k(z, k):
    return np.where(z < np.sort(z)[-k], -np.inf, z)


def top_p(z, p):
    order = np.argsort(-z, kind="stable")  # likeliest first
    share = softmax(z)[order]
    before = np.cumsum(share) - share  # what the likelier ones have together
    kept = np.full_like(z, -np.inf)
    kept[order[before < p]] = z[order[before < p]]
    return kept


found = about(image, "Find the red circle.")
with minivl.session(record="decoder.place_features") as session:
    vlm.logits(found)
steps, _ = answer_with_cache(session.trace["decoder.place_features"], found.position_ids, 40,
                             vlm.generation.eos_token_ids)
print(tokenizer.decode(steps.argmax(axis=1)))
chances = np.array([softmax(z) for z in steps])
unsure = int(np.abs(chances.max(axis=1) - 0.5).argmin())
z = steps[unsure]
settings = {"T = 1": z, "T = 0.5": z / 0.5, "T = 2": z / 2, "T = 0.000001": z / 1e-6,
            "T = 2, top-k 3": top_k(z / 2, 3), "T = 2, top-p 0.8": top_p(z / 2, 0.8)}
ids = np.argsort(-z, kind="stable")[:8]
figure = plot.board(1, 1, (9, 3))
table(np.array([softmax(scores)[ids] for scores in settings.values()]), figure.axes[0],
      f"step {unsure}: probabilities of the eight likeliest tokens", list(settings),
      [plot.token_name(tokenizer, token) for token in ids], "{:.3f}")
figure

# %%
ours = softmax(top_p(top_k(z / np.float32(2), 5), 0.8))
pass_says = sampling.narrow_choice(z[None], 2.0, 5, 0.8)[0]
print("equal to sampling.narrow_choice:", np.allclose(ours, softmax(pass_says), atol=1e-6))

# %% [markdown]
# The official `generation_config.json` asks for sampling at a temperature of 0.000001. Its row in the table
# says what that is: greedy in all but name. So turning top-k or top-p alone changes nothing, as many have
# asked (QwenLM/Qwen3-VL#884): first the temperature must be changed.
#
# **The draw.** Put the probabilities end to end on a line from 0 to 1, and throw a random number at it:

# %%
def draw(z, number):
    """The token in whose part of the line `number` (from 0 to 1) falls."""
    return int(np.searchsorted(np.cumsum(softmax(z.astype(np.float64))), number, side="right"))


warm = z / 2
thrown = np.random.default_rng(0).random(4000)
counts = np.bincount([draw(warm, number) for number in thrown], minlength=len(z)) / len(thrown)
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
axis.bar(np.arange(8) - 0.2, softmax(warm)[ids], 0.4, color=plot.BLUE, label="probability at T = 2")
axis.bar(np.arange(8) + 0.2, counts[ids], 0.4, color=plot.ORANGE, label="share of 4,000 draws")
axis.set_xticks(range(8), [plot.token_name(tokenizer, token) for token in ids], family="monospace")
axis.margins(y=0.25)
axis.legend(fontsize=8, ncols=2)
plt.show()

seed, step = 7, 0  # the package draws number `step` of a seed, whatever was drawn before
number = np.random.default_rng((seed, step)).random()
print("ours", draw(warm, number), "and sampling.draw", sampling.draw(warm[None], seed, step)[0])
for seed in range(4):
    said = vlm.ask(image, "Describe the image.", max_new_tokens=12, temperature=2.0, seed=seed)
    print(f"T = 2, seed {seed}: {said}")

# %% [markdown]
# A model that was right when greedy can be wrong by lot. For facts, boxes and text in pictures greedy is the
# better choice; sampling is for when several answers are wanted.
#
# ### Tokens that must not be written
#
# The vocabulary has tokens that no answer may hold: `<|image_pad|>` and `<|video_pad|>`, which would want visual tokens
# when the answer becomes part of the next prompt (lesson 9, section 8), and the marks of the template. A trained model
# gives them next to nothing, but a lot with a high temperature finds them sooner or later. The place to prevent it is
# here, *before* the choice: their scores become minus infinity, and softmax gives them exactly 0. Patching the visual
# tokens afterwards is no repair: it moves other pictures. (In the reference `suppress_tokens=[...]`.)

# %%
reserved = [token for token in tokenizer.special_ids if token not in vlm.generation.eos_token_ids]


def without_reserved(z):
    out = z.copy()
    out[..., reserved] = -np.inf
    return out


for temperature in (1.0, 2.0, 4.0):
    chance = np.mean([softmax(z / temperature)[reserved].sum() for z in steps])
    none = np.mean([softmax(without_reserved(z) / temperature)[reserved].sum() for z in steps])
    print(f"T = {temperature}: a reserved token at a step of this answer with probability {chance:.1e}, then {none}")

right_draw = sampling.draw.definition
with minivl.using({"sampling.draw": lambda logits, *rest: right_draw(without_reserved(logits), *rest)}):
    ids_drawn = vlm.generate(inputs, max_new_tokens=24, do_sample=True, temperature=4.0, seed=1, stop_ids=[])
print("reserved tokens in an answer at T = 4:", np.isin(ids_drawn, reserved).sum(), "of", len(ids_drawn))

# %% [markdown]
# ## 7. The repetition penalty
#
# A model that reads a page may fall into a loop: a line that was repeated once makes itself likelier, because
# the decoder looks back at it. The **repetition penalty** pushes down every token that was seen, in the
# *prompt* or in the answer, once, however often it came:
#
# $$ z' = \begin{cases} z / r & z \ge 0 \\ z \cdot r & z < 0 \end{cases} \qquad \text{for each seen token} $$
#
# The official models ask for $r = 1.05$, in greedy decoding too. So an official answer is *not* the highest
# raw score.

# %%
def penalise(z, prompt, answer, r):
    out = z.copy()
    seen = np.union1d(prompt, answer).astype(int)  # each id once
    out[seen] = np.where(z[seen] < 0, z[seen] * r, z[seen] / r)
    return out


R, prompt, tokens = np.float32(1.3), found.input_ids, steps.argmax(axis=1)
after = np.array([penalise(z, prompt, tokens[:n], R) for n, z in enumerate(steps)])
theirs = [sampling.penalise(z[None], (prompt,), (tokens[:n],), 1.3)[0] for n, z in enumerate(steps)]
print("equal to the pass in every step:", np.allclose(after, theirs))

most = int(np.abs(np.array([softmax(z) for z in after]) - chances).sum(axis=1).argmax())
z, written = steps[most], tokens[:most]
asked_only = np.setdiff1d(prompt, written)  # in the prompt, not yet in the answer
ids = np.argsort(-z, kind="stable")[:6]
ids = np.append(ids, [token for token in asked_only[np.argsort(-z[asked_only])] if token not in ids][:3])
marks = ["*" if token in written else "+" if token in asked_only else "" for token in ids]
figure = plot.board(1, 1, (9, 2.2))
table(np.stack([z[ids], after[most][ids], penalise(z, [], written, R)[ids]]), figure.axes[0],
      f"step {most}, which it changes most: the six likeliest, and three of the prompt (* answer, + prompt)",
      ["raw", "penalty 1.3", "1.3, answer only"],
      [plot.token_name(tokenizer, token) + mark for token, mark in zip(ids, marks, strict=True)], "{:.2f}")
figure

# %% [markdown]
# Compare the last two rows at a token with a plus: a server that counts the answer's tokens only leaves it alone.
#
# The penalty knows nothing of meaning. Tokens that *must* come again, such as the digits of a box, brackets
# and commas, are pushed down too. One answer about three objects shows how many: we take what the model writes
# without a penalty, and ask at each of its tokens whether that token would still be chosen.

# %%
scene = Image.new("RGB", (168, 112), (200, 200, 205))
ImageDraw.Draw(scene).ellipse([16, 14, 60, 58], fill=(222, 40, 40))
ImageDraw.Draw(scene).rectangle([104, 20, 144, 60], fill=(45, 75, 225))
ImageDraw.Draw(scene).polygon([(50, 100), (80, 66), (110, 100)], fill=(40, 165, 60))
LIST = "Detect all objects."
listed = about(scene, LIST)
with minivl.session(record="decoder.place_features") as session:
    vlm.logits(listed)
plain, _ = answer_with_cache(session.trace["decoder.place_features"], listed.position_ids, 160,
                             vlm.generation.eos_token_ids)
told = plain.argmax(axis=1)
again = sum(token in listed.input_ids or token in told[:n] for n, token in enumerate(told))
print(f"{again} of the {len(told)} tokens of the answer have been seen before they are written")
for r in (1.0, 1.05, 1.2, 1.5, 2.0):
    chosen = [penalise(z, listed.input_ids, told[:n], np.float32(r)).argmax() for n, z in enumerate(plain)]
    print(f"r = {r:4}: another token at {np.sum(chosen != told):3d} of {len(told)} places")
print("without:", vlm.ask(scene, LIST, max_new_tokens=160, repetition_penalty=1.0))
print("r = 2:  ", vlm.ask(scene, LIST, max_new_tokens=160, repetition_penalty=2.0))
print("(the truth) red circle [16, 14, 60, 58], blue square [104, 20, 144, 60], green triangle [50, 66, 110, 100]")
print(f"how often its boxes are right: {figure_of(LIST).sentence()}. Here only the tokens count")

# %% [markdown]
# So a strong penalty against loops in a transcript damages every table in it (QwenLM/Qwen3-VL#1611). And a
# server that ignores the setting, or counts other tokens, gives other answers than the reference with the same
# scores.
#
# ### All steps from the scores to a choice
#
# In this order, here and in the reference. Greedy stops after the second:
#
# 1. the **repetition penalty**, on every token that was seen;
# 2. forbidden tokens become minus infinity;
# 3. divided by the temperature;
# 4. top-k;
# 5. top-p, of what top-k has left, with the probabilities *after* the temperature;
# 6. softmax, and the draw.
#
# The order is part of the result. Top-p before the temperature can keep another set:

# %%
T, K_MOST, P = np.float32(2), 20, 0.9
first_steps = without_reserved(penalise(steps[unsure], found.input_ids, tokens[:unsure], np.float32(1.05)))
in_order = top_p(top_k(first_steps / T, K_MOST), P)
other_order = top_p(top_k(first_steps, K_MOST), P) / T
by_passes = sampling.narrow_choice(first_steps[None], float(T), K_MOST, P)[0]
print("in order, equal to the passes:", np.allclose(softmax(in_order), softmax(by_passes), atol=1e-6))
print("tokens that can be drawn: in order", np.isfinite(in_order).sum(), " temperature last",
      np.isfinite(other_order).sum())

# %% [markdown]
# ### Settings that come with a checkpoint
#
# None of these numbers need stand in your program. They come with the download, in files beside the weights, and
# hold whenever a call does not say otherwise. Two downloads of the same weights (another size, a quantised copy, a
# conversion, a later commit) may bring other files, and nobody tells you. So print them, and compare them before you
# compare two programs:

# %%
for name in ("generation_config.json", "preprocessor_config.json"):
    print(name, json.dumps(json.loads((vlm.folder / name).read_text(encoding="utf-8"))))
print("what this model takes for them:", vlm.generation)

# %% [markdown]
# | setting | file | does nothing when |
# |---|---|---|
# | `do_sample` | `generation_config.json` | never: false makes the next three do nothing |
# | `temperature` | the same | greedy |
# | `top_k`, `top_p` | the same | greedy, or a temperature near 0 (the official 0.000001): one token is left anyway |
# | `repetition_penalty` | the same | it is 1. It works in greedy too |
# | `eos_token_id` | the same | never: without the right one an answer does not end |
# | `min_pixels`, `max_pixels` | `preprocessor_config.json` | a picture in the message brings its own |
# | `size` | the same | `min_pixels` and `max_pixels` stand there too: these win |
# | the chat template | `chat_template.json` or `.jinja`, or `tokenizer_config.json` | you give ids or a finished text |
# | `torch_dtype`, `dtype` | `config.json` | a call names a type |
#
# A setting that does nothing is no error: the reference writes one line in its log, for instance when you give a
# temperature and `do_sample` is false.
#
# ## 8. Now break it
#
# The middle column is how far the scores of the *first* token move: the prefill. **Predict** which faults it
# cannot see.

# %%
def sees_all(q, k, v, segments):
    return kernels.attend(q, k, v, segments, False)


def partner_by_remainder(q, k, v, segments):
    other = np.arange(A) % K
    return kernels.attend(q, k[:, other], v[:, other], segments, True)


def in_decoding(change):
    """Attention with other segments when a single row is asked, as in a step."""
    def attend(q, k, v, segments):
        if len(q) == 1:
            segments = np.array([change(segments[0], len(k))])
        return kernels.attend(q, k, v, segments, True)
    return attend


def keys_as_they_are(q, k, cos, sin):
    return kernels.rotate(q, cos, sin), k


layers = "decoder.layers.*."
faults = {"looks ahead too": {layers + "attend": sees_all},
          "partner by % in place of //": {layers + "attend": partner_by_remainder},
          "keys not turned": {layers + "rotate": keys_as_they_are},
          "first row's scores": {"decoder.select_rows": lambda x, asked: x[asked * 0]},
          "a step sees itself only": {layers + "attend": in_decoding(lambda g, room: [0, 1, g[3] - 1, g[3]])},
          "a step does not see itself": {layers + "attend": in_decoding(lambda g, room: [0, 1, g[2], g[3] - 1])},
          "a step sees empty rows": {layers + "attend": in_decoding(lambda g, room: [0, 1, g[2], room])},
          "a step forgets the picture": {layers + "attend": in_decoding(lambda g, room: [0, 1, s - 8, g[3]])},
          "rows as places in decoding": {"positions.advance": lambda rows, offsets: rows + 0 * offsets}}


def first_scores():
    with minivl.session(record="decoder.logits") as session:
        vlm.generate(inputs, max_new_tokens=1)
    return session.trace["decoder.logits"][0]


wanted = first_scores()
print(f"{'':30s} first scores   answer")
print(f"{'(the truth)':30s} {'':12s}   A red circle.")
print(f"{'no fault':30s} {0:12.1%}   {vlm.ask(image, 'Describe the image.')}")
for name, fault in faults.items():
    with minivl.using(fault):
        off = np.linalg.norm(first_scores() - wanted) / np.linalg.norm(wanted)
        said = vlm.ask(image, "Describe the image.", max_new_tokens=12)
    print(f"{name:30s} {off:12.1%}   {said!r}")

# %% [markdown]
# Every fault of decoding has 0.0 % in the middle. A port is compared token by token over a *whole* answer, not
# by the scores of its prompt. And a prompt without a picture cannot see the last one (lesson 10).
#
# ## Exercise 11.1: one more row (about 20 minutes)
#
# Write `attend_next(q, k, v, keys, values)`: attention of *one* new token with a cache. `q` (a, e), `k` and
# `v` (k, e) are its own; `keys` and `values` (r, k, e) are those of the rows before. Give three things: what
# the new row collects (a, e), and the two longer caches. A row sees itself. The caches that you were given
# must stay as they are.
#
# <details><summary>Hint 1</summary>First the new key and value are put behind the others, then the new query
# looks at all of them. There is nothing to hide: everything in the cache lies before it.</details>
# <details><summary>Hint 2</summary>np.concatenate([keys, k[None]]) makes (r + 1, k, e). Query head j uses
# key-value head j // (a // k).</details>
# <details><summary>Hint 3</summary>partner = np.arange(a) // (a // k.shape[0]); scores =
# np.einsum("ae,rae->ar", q, keys[:, partner]) / np.sqrt(e); softmax along r; np.einsum("ar,rae->ae", share,
# values[:, partner])</details>

# %%
def attend_next(q, k, v, keys, values):
    """a e, k e, k e, r k e, r k e -> a e, r+1 k e, r+1 k e."""
    ### BEGIN SOLUTION
    keys, values = np.concatenate([keys, k[None]]), np.concatenate([values, v[None]])  # r k e -> r+1 k e
    partner = np.arange(len(q)) // (len(q) // len(k))
    scores = np.einsum("ae,rae->ar", q, keys[:, partner]) / np.sqrt(q.shape[1])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    share = powers / powers.sum(axis=1, keepdims=True)
    return np.einsum("ar,rae->ae", share, values[:, partner]), keys, values
    ### END SOLUTION


# %% tags=["check"]
minivl.check("11.1", attend_next)

# %% [markdown]
# ## Exercise 11.2: the repetition penalty (about 10 minutes)
#
# Write `push_down(scores, prompt, answer, r)`: `scores` (v,), `prompt` and `answer` lists of ids, `r` above 1.
# Out come new scores; those given stay as they are. On paper first: scores 2, -2, 1, prompt [0, 1, 0], answer
# [1], r = 2.
#
# <details><summary>Hint 1</summary>Which ids are pushed down? Those of prompt and answer together, each once,
# even when it came ten times. Down means: less likely.</details>
# <details><summary>Hint 2</summary>2 / 2 is less than 2, but -2 / 2 is more than -2. So the sign
# decides.</details>
# <details><summary>Hint 3</summary>seen = np.unique([*prompt, *answer]).astype(int); out = scores.copy();
# out[seen] = np.where(out[seen] < 0, out[seen] * r, out[seen] / r)</details>

# %%
def push_down(scores, prompt, answer, r):
    """v -> v."""
    ### BEGIN SOLUTION
    seen = np.unique([*prompt, *answer]).astype(int)
    out = np.array(scores, float)
    out[seen] = np.where(out[seen] < 0, out[seen] * r, out[seen] / r)
    return out
    ### END SOLUTION


# %% tags=["check"]
minivl.check("11.2", push_down)

# %% [markdown]
# ## Exercise 11.3: top-p (about 15 minutes)
#
# Write `nucleus(scores, p)`: the ids that top-p keeps, likeliest first: the smallest set of likeliest tokens
# whose probabilities together reach `p`. At least one. On paper first: probabilities 0.5, 0.3, 0.2 and p =
# 0.6. (Two: 0.5 alone does not reach it, 0.8 does.)
#
# <details><summary>Hint 1</summary>Sort the probabilities, likeliest first, and add them up as you go. The
# one that reaches p still belongs to the set.</details>
# <details><summary>Hint 2</summary>A token stays when the sum of those *before* it is below p. That sum is
# cumsum minus its own share.</details>
# <details><summary>Hint 3</summary>order = np.argsort(-scores, kind="stable"); share = softmax(scores)[order];
# return order[np.cumsum(share) - share < p]</details>

# %%
def nucleus(scores, p):
    """v, a number from 0 to 1 -> ids, likeliest first."""
    ### BEGIN SOLUTION
    order = np.argsort(-np.asarray(scores), kind="stable")
    share = softmax(np.asarray(scores, float))[order]
    return order[np.cumsum(share) - share < p]
    ### END SOLUTION


# %% tags=["check"]
minivl.check("11.3", nucleus)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | a layer | `Qwen2_5_VLDecoderLayer` |
# | key-value heads, partner | `num_key_value_heads`, `repeat_kv` |
# | looking back | a causal mask, or `is_causal=True` |
# | the cache | `past_key_values`, a `DynamicCache`; shape (batch, heads, rows, width) |
# | prefill and step | both are `forward`; `get_seq_length` of the cache says at which row it begins |
# | several conversations | a batch, padded on the left, with `attention_mask` |
# | temperature, top-k, top-p | `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper` |
# | repetition penalty | `RepetitionPenaltyLogitsProcessor` |
# | greedy | `do_sample=False` |
#
# ## Read next
#
# - `minivl/run/cache.py`: the cache, and who sees whom in it.
# - `minivl/run/generation.py`: the loop of section 4 for several conversations.
# - `minivl/passes/sampling.py`: sections 6 and 7.
# - You can now read all of `minivl/model.py`. Lesson 12 makes use of what is written: boxes and clicks.

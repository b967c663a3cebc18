# %% [markdown]
# # Lesson 1: arrays that learned
#
# **The question.** The program of a model fits on a few pages. What the model *knows* sits in arrays of
# numbers that training has set. Which arrays are these, how can numbers know something, and what is in the
# file that one downloads?
#
# **You need** NumPy (`@`, `sum(axis=...)`), and from lesson 0: a *token* is a piece of text with a number,
# its *id*; the model is a list of *passes*; its last array holds *logits*, a score for each token. Reading
# takes about 35 minutes, the two exercises another 25.
#
# ```
# picture.target_size   picture.resize   picture.normalise     lesson 2: learned nothing
# patches.patchify                                             lesson 3: learned nothing
# prompt.encode   prompt.expand   positions.mrope              learned nothing
# vision.window_order   vision.schedule                        lesson 5: learned nothing
# vision.embed_patches   vision.blocks.0.project_qkv           one learned matrix each
# vision.blocks.0.add_mlp   vision.merge_2x2                   lessons 7 and 8: learned
# decoder.embed_tokens                                         <== you are here: section 5
# decoder.layers.0.add_attended                                <== section 6
# decoder.logits                                               <== sections 4 and 7
# sampling.most_likely
# ```

# %%
import json
import math

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True)
vlm = minivl.load()


def disc(colour, x=56):
    """A disc of this colour on light grey, 84 x 112 pixels."""
    image = Image.new("RGB", (112, 84), (200, 200, 205))
    ImageDraw.Draw(image).ellipse([x - 24, 18, x + 24, 66], fill=colour)
    return image


def about(image, text="Describe the image."):
    content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return vlm.prepare([{"role": "user", "content": content}])


# %% [markdown]
# ## 1. Arrays that learn nothing
#
# First a sorting. We run the model on a red and on a blue disc, and keep what comes out of every pass. An
# array that is the same both times cannot know anything about colours: it depends on the *size* of the
# picture and on the text, and both are the same here.

# %%
traces = []
for colour in ("red", "blue"):
    with minivl.session(record="*") as session:
        vlm.logits(about(disc(colour)))
    traces.append(session.trace)


def arrays(value):
    return value if isinstance(value, tuple) else (value,)


same, differ = [], []
for key in traces[0]:
    pairs = zip(arrays(traces[0][key]), arrays(traces[1][key]), strict=True)
    (same if all(np.array_equal(a, b) for a, b in pairs) else differ).append(key)
print(len(same), "passes give the same for red and blue:")
print("  ", "\n   ".join(same))
print(len(differ), "passes give something else, such as", ", ".join(differ[:3]), "...", differ[-1])

# %% [markdown]
# Nearly all of the first list is bookkeeping: sizes, orders, places, angles. It is computed by rules that a
# person wrote down (what each is for comes in its lesson). No training was needed, and another model of this
# family computes the same. One entry is of another kind: `decoder.embed_tokens` did learn, but it only looks at
# the text (section 5).
#
# The second list mixes pixels with learned numbers. We look at the mixing first.
#
# ## 2. A linear map is a list of dot products
#
# The **dot product** of two rows of numbers: multiply number by number, add up. It is large when both are
# large at the same places.
#
# A **linear map** has a matrix $W$ with $o$ rows of $d$ numbers, and a **bias** $b$ of $o$ numbers. It
# makes $o$ numbers of $d$ numbers: each is the dot product of the input with one row of $W$, plus one
# number of $b$.
#
# $$ y_{no} = \sum_d x_{nd}\,W_{od} + b_o \qquad (n \times d) \to (n \times o) $$
#
# A letter names an axis: below a sum or as an index it runs along that axis, in brackets it is the axis's length.
# In the code, letters in comments name the axes too: `n d` is an array with $n$ rows of $d$ numbers. The letters
# are the same in the whole course (`minivl.AXES` lists them).
#
# Read each row of $W$ as a *question*: how much of this, how much of that? A toy: three inputs "how red, how
# green, how blue", and two questions, "is it warm?" and "is it bright?".

# %%
x = np.array([[1.0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])  # n d: red, blue, white, black
w = np.array([[1, 0, -1], [0.3, 0.6, 0.1]])  # o d: warm? bright?
b = np.array([0, -0.5])  # o: bright must beat 0.5

y = np.zeros((4, 2))
for n in range(4):
    for o in range(2):
        y[n, o] = sum(x[n, d] * w[o, d] for d in range(3)) + b[o]
print("by loops, blue is warm?", " + ".join(f"{x[1, d]:g}*{w[0, d]:g}" for d in range(3)), "=", y[1, 0])
print("the same as x @ w.T + b:", np.allclose(y, x @ w.T + b))

figure = plot.board(1, 3, (11, 2.4))
names, inputs, questions = ["red", "blue", "white", "black"], ["r", "g", "b"], ["warm?", "bright?"]
table(x, figure.axes[0], "x: four rows (n d)", names, inputs)
table(w, figure.axes[1], "w: two questions (o d)", questions, inputs)
table(y, figure.axes[2], "y: four answers to each (n o)", names, questions)
figure

# %% [markdown]
# Why `w.T`? Because $W$ is stored with one *question a row*, $(o \times d)$, and `@` wants the axis that is
# summed, $d$, to come first in its second argument. All models of this family store it so.
#
# And why no loop over the four rows? There is none to write: every row of $x$ meets the same matrix. This is
# so in the whole model. A row is a patch or a token, and the same questions are put to all of them.
#
# ## 3. How a matrix learns
#
# Who chooses the questions? Nobody. We start with random ones, show examples, and move each number a little
# in the direction that makes the error smaller; then again. (A number of $W$ is to blame for the error that it
# led to in proportion to the input that it met: so error times input is taken off, in the line marked below.
# 0.5 says how far each step goes. Lesson 14 derives it.) That is all that **training** means.

# %%
draw = np.random.default_rng(0)
examples = draw.uniform(0, 1, (50, 3))  # n d: fifty random colours
wanted = examples @ w.T + b  # n o: the right answers
guess, bias = draw.standard_normal((2, 3)), np.zeros(2)
errors, at_start = [], guess.copy()
for _ in range(600):
    error = examples @ guess.T + bias - wanted  # n o: how far off each answer is
    guess -= 0.5 * error.T @ examples / 50  # the step: o n, n d -> o d
    bias -= 0.5 * error.mean(axis=0)
    errors.append((error**2).mean())

figure = plot.board(1, 4, (12, 2.5))
table(at_start, figure.axes[0], "w at the start: random", questions, inputs, "{:.2f}")
figure.axes[1].semilogy(errors)
figure.axes[1].set_title("mean squared error, step by step", size=9)
table(guess, figure.axes[2], "w after 600 steps", questions, inputs, "{:.2f}")
table(w, figure.axes[3], "the w that made the answers", questions, inputs)
figure

# %% [markdown]
# The matrix was never told what "warm" is. It has seen fifty examples. The numbers that training sets
# are called **weights** or **parameters**. The small model in the package has millions of them, the official
# ones have 3 to 72 billion; the step is the same in kind.
#
# ## 4. Softmax: scores to probabilities
#
# The last matrix of the model gives a score for each token: the logits. They can be any numbers. To make
# probabilities of them they must become positive and sum to one. **Softmax** raises $e$ to each and divides
# by the sum:
#
# $$ p_i = \frac{e^{z_i}}{\sum_j e^{z_j}} $$
#
# With scores that are logarithms you can check it in your head: $e^{\log 2}$ is 2.

# %%
z = np.log([1.0, 2.0, 5.0])
powers = np.exp(z)
print("scores", z, "  powers", powers, "  their sum", powers.sum())
print("probabilities", powers / powers.sum(), "= 1/8, 2/8, 5/8")


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))  # minus the largest: nothing overflows
    return powers / powers.sum(axis=-1, keepdims=True)


shown = {"z": softmax(z), "z + 100": softmax(z + 100), "2 z": softmax(2 * z), "z / 4": softmax(z / 4)}
figure = plot.board(1, 1, (6, 2.2))
rows = np.array(list(shown.values()))
table(rows, figure.axes[0], "softmax of ...", list(shown), ["first", "second", "third"])
figure

# %% [markdown]
# Two things to keep. Adding the same number to all scores changes nothing: only *differences* count. And
# multiplying all scores sharpens or flattens the choice.
#
# ## 5. The embedding: a learned row for each token
#
# Ids are only names; id 7 is not "more" than id 6. So the first thing that happens to an id is that a row of
# a table is taken in its place: the **embedding** of the token. The table has one row for each token of the
# vocabulary, and each row is learned.
#
# $$ x_s = E_{\mathrm{id}_s} \qquad (s), (v \times d) \to (s \times d) $$
#
# with $s$ tokens in the prompt and $v$ tokens in the vocabulary. (In the code, `.dense(np.float32)` gives a
# weight, which may be stored in fewer bytes, as an ordinary array.)

# %%
inputs = about(disc("red"))
ids = inputs.input_ids  # s
embedding = vlm.weights.decoder.embed.dense(np.float32)  # v d
print("the table", embedding.shape, "= (vocabulary, width);  ids", ids.shape)
rows = embedding[ids]  # s -> s d
print("equal to the pass decoder.embed_tokens:", np.array_equal(rows, traces[0]["decoder.embed_tokens"]))

one_hot = np.zeros((len(ids), len(embedding)))  # s v: a 1 at the place of the id, else 0
one_hot[np.arange(len(ids)), ids] = 1
print("the same as a linear map of rows with a single 1:", np.allclose(one_hot @ embedding, rows))

# %% [markdown]
# So an embedding is a linear map too, only written so that nothing is multiplied by zero.
#
# What have the rows learned? We take the words of this model's world that are one token each, and compare
# their rows. The measure is the **cosine**: the dot product of two rows, divided by both lengths. 1 means the
# same direction, 0 a right angle; two random rows of $d$ numbers give 0, give or take $1 / \sqrt d$. **Predict**:
# which parts of the table should be red?

# %%
groups = {"colours": ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink"],
          "shapes": ["circle", "square", "triangle", "star", "cross"],
          "places": ["left", "right", "above", "below"]}
words, of_group = [], []
for group, members in groups.items():
    for word in members:
        if len(vlm.tokenizer.encode(" " + word)) == 1:  # with a space before it, as in a sentence
            words.append(word)
            of_group.append(group)
word_rows = embedding[[vlm.tokenizer.encode(" " + word)[0] for word in words]]  # n d

figure = plot.board(1, 1, (5.4, 4.6))
plot.similarity(word_rows, words, figure.axes[0])
of_group = np.array(of_group)
cosine = plot.cosines(word_rows)
alike = (of_group[:, None] == of_group) & ~np.eye(len(words), dtype=bool)
print(f"mean cosine inside a group {cosine[alike].mean():.3f}, between groups "
      f"{cosine[of_group[:, None] != of_group].mean():.3f}")
pairs = alike.sum() // 2  # by chance each of these would be 0, give or take 1 / sqrt(d), and their mean less
print(f"random rows: 0, give or take {1 / word_rows.shape[1] ** 0.5:.3f} for one pair, "
      f"{1 / (pairs * word_rows.shape[1]) ** 0.5:.3f} for the mean of {pairs} pairs")
figure

# %% [markdown]
# Nobody has told the table that red and blue are of a kind. If their rows are alike, it is because the two
# words stand in the same places in sentences. (With a small model and a short training the colours may be
# faint. Believe the printed numbers, not the eye: is the mean inside a group many times what chance would give?)
#
# ## 6. The residual stream: every pass adds
#
# What happens to the rows then? They go through **blocks**: the same few passes, again and again, each time
# with weights of their own. (In the decoder a block is called a layer.) Each block *adds* something to
# them, twice. It never replaces them:
#
# $$ x \leftarrow x + f(x) $$
#
# The array $x$ that is handed on from block to block is called the **residual stream**. What stands in a row
# at the end is the row at the start plus all that was added. We record the first layer of the decoder and do
# the first addition by hand. Its $f$ ends with a linear map, `out`, which brings what was gathered back to the
# stream's width $d$. (What `attend` does is the subject of lesson 4. Here it is only an array.)

# %%
trace = traces[0]
layer = vlm.weights.decoder.layers[0]
before = trace["decoder.place_features"]  # s d: words and visual tokens in one sequence
gathered = trace["decoder.layers.0.attend"]  # s a e: what each row has collected from others,
#                                             a lists of e numbers a row (lesson 4)
added = gathered.reshape(len(before), -1) @ layer.out.weight.dense(np.float32).T  # s (a e), (a e) d -> s d
after = trace["decoder.layers.0.add_attended"]
print("before + added = after, up to rounding:", np.allclose(before + added, after, atol=1e-5))

# %% [markdown]
# So the sizes along the way tell who writes how much. A layer has two halves, one tick each: first what a row
# gathers from others (`attn`, `add_attended`), then what it makes of itself (`mlp`, `add_mlp`: linear maps with a
# bend between them, lesson 7). On the left, orange is the largest number anywhere in the stream, blue its rms
# (the root of the mean square); the axis is logarithmic. On the right, a bar for each half: green the first, pink
# the second. A long bar is a half that changes the row much.

# %%
figure = plot.board(1, 2, (11, 3.2))
plot.stream(trace, "decoder.layers", figure.axes[0])
halves = [f"decoder.layers.{n}.{half}" for n in range(len(vlm.weights.decoder.layers))
          for half in ("add_attended", "add_mlp")]
keys = ["decoder.place_features", *halves]
stream = [trace[key][-1].astype(float) for key in keys]  # the last row only: it will say the next token
steps = [np.linalg.norm(b - a) for a, b in zip(stream[:-1], stream[1:], strict=True)]
figure.axes[1].bar(range(len(steps)), steps, color=[plot.GREEN, plot.COLOURS[3]] * (len(steps) // 2))
figure.axes[1].set_title("length of what each half of a layer adds to the last row", size=9)
figure.axes[1].set_xticks(range(len(steps)), [key.split(".", 2)[2] for key in keys[1:]], rotation=90, size=8)
figure

# %% [markdown]
# Why add? A block that has nothing to say can add nearly nothing, and does no harm. And what the first block has
# found is still there for the last one to read, unless a later one takes it away.
#
# ## 7. Logits: the last row asks every word
#
# At the end one more matrix has a row for each token of the vocabulary: how much does the last row of the
# stream look like "and now comes *this* token"? It is a linear map like any other. In small models that
# matrix *is* the embedding table, used a second time (a **tied** head); in large ones it has learned apart.

# %%
last = trace["decoder.normalise"]  # n d: the stream after a last norm (lesson 7), the rows that are asked for
head = vlm.weights.decoder.head.weight.dense(np.float32)  # v d
by_hand = last @ head.T  # n d, d v -> n v
print("logits by hand:", np.allclose(by_hand, trace["decoder.logits"], atol=1e-4),
      "  tied:", vlm.config.tie_word_embeddings)

figure = plot.board(1, 1, (6, 3.2))
plot.logits(by_hand[-1], vlm.tokenizer, 8, figure.axes[0])
figure

# %% [markdown]
# ## 8. What a checkpoint is
#
# A **checkpoint** is a folder with the weights of one training, and what is needed to use them:
#
# - `config.json`: the sizes (how many blocks, how wide) and a few switches (is the head tied?);
# - `*.safetensors`: the weights, a list of names with an array each;
# - `tokenizer.json`, `chat_template.jinja`, `preprocessor_config.json`: text and pictures to arrays.
#
# There is no program in it. The weights file is simple enough to open by hand: 8 bytes say how long the
# heading is; the heading is JSON; then come the numbers, one array after the other.

# %%
path = sorted(vlm.folder.glob("*.safetensors"))[0]
raw = path.read_bytes()
length = int.from_bytes(raw[:8], "little")
heading = json.loads(raw[8 : 8 + length])
tensors = {name: entry for name, entry in heading.items() if name != "__metadata__"}
print(path.name, f"{len(raw):,} bytes, heading {length:,} bytes, {len(tensors)} arrays; three of them:")
for name in sorted(tensors)[:: len(tensors) // 3][:3]:
    print("  ", name, tensors[name])

# %% [markdown]
# The numbers are often stored as **bfloat16**: two bytes each. That is simply the upper half of a four-byte
# float. Put two zero bytes below it, and you have the number. We read one array so:

# %%
name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
entry = tensors[name]
start, stop = entry["data_offsets"]
numbers = raw[8 + length + start : 8 + length + stop]
if entry["dtype"] == "BF16":
    halves = np.frombuffer(numbers, np.uint16).astype(np.uint32)
    values = (halves << 16).view(np.float32)  # the upper half of a float32
else:
    values = np.frombuffer(numbers, {"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
values = values.reshape(entry["shape"])
print(name, values.shape, "  equal to what the model uses:", np.array_equal(values, embedding))

# %% [markdown]
# And where are most of the numbers? Count them by what their names begin with:

# %%
def part(name):
    for key, text in {"visual": "vision tower", "embed_tokens": "embedding table", "lm_head": "output matrix",
                      "mlp": "decoder.mlp"}.items():
        if key in name:
            return text
    return "the rest of the decoder"


counts = {}
for name, entry in tensors.items():
    counts[part(name)] = counts.get(part(name), 0) + math.prod(entry["shape"])
figure, axis = plt.subplots(figsize=(7, 2.2))
bars = axis.barh(list(counts), list(counts.values()), color=plot.BLUE)
axis.bar_label(bars, [f"{n:,}" for n in counts.values()], padding=3, fontsize=8)
axis.set_xlim(0, 1.25 * max(counts.values()))
axis.set_title(f"where the {sum(counts.values()):,} numbers are", fontsize=9)
plt.show()

# %% [markdown]
# ## 9. Now break it
#
# The program stays as it is; we spoil arrays that learned. **Predict** for each: does the run come to an
# end? Is the answer still a sentence? `minivl.using` puts our function in place of a pass or of a
# **kernel** (one of the dozen functions that do all arithmetic). Ours takes the arguments of the one that it
# replaces: `minivl/passes/` and `minivl/kernels/definition.py` show them. (`w` of `linear` is `w.weight` with
# `w.bias`.)
#
# "Scores move by" here and in all lessons: the length of the difference, as a share of the length of the right
# scores. 0 % is the same; 100 % is as far off as if all were zero; two rows of one length that have nothing to do
# with each other are about 141 % apart, $\sqrt 2$.

# %%
def shuffled_embedding(ids, table, dtype):
    """Each token gets the row of another token."""
    rows = table.dense(dtype)
    return rows[np.random.default_rng(0).permutation(len(rows))[ids]]


def random_linear(x, w):
    """Random weights of the same size and spread: a model that was never trained."""
    weight = w.weight.dense(x.dtype)
    noise = np.random.default_rng(weight.size).standard_normal(weight.shape, np.float32)
    return x @ (noise * weight.std()).T.astype(x.dtype)


def no_bias(x, w):
    return x @ w.weight.dense(x.dtype).T


def replaced(x, y):
    """x <- f(x) in place of x <- x + f(x): no residual stream."""
    return y


faults = {"rows of the embedding shuffled": {"decoder.embed_tokens": shuffled_embedding},
          "never trained": {"kernel.linear": random_linear}, "biases left out": {"kernel.linear": no_bias},
          "replaced, not added": {"kernel.add": replaced}}
wanted = vlm.logits(inputs)[-1]
print(f"{'':32s} scores move by   answer")
print(f"{'(the truth)':32s} {'':14s}   A red circle.")
print(f"{'no fault':32s} {0:14.1%}   {vlm.ask(disc('red'), 'Describe the image.')}")
for name, fault in faults.items():
    with minivl.using(fault):
        moved = np.linalg.norm(vlm.logits(inputs)[-1] - wanted) / np.linalg.norm(wanted)
        print(f"{name:32s} {moved:14.1%}   {vlm.ask(disc('red'), 'Describe the image.', max_new_tokens=12)!r}")

# %% [markdown]
# Every run came to its end: shapes are all that a program can check by itself. Knowledge has no shape.
#
# ## Exercise 1.1: a linear map (about 10 minutes)
#
# Write `linear_map(x, weight, bias)`: `x` (n, d), `weight` (o, d) with one question a row, `bias` (o,). Out
# comes (n, o). Loops or `@`, as you like.
#
# <details><summary>Hint 1</summary>Write down the shapes. Which axis of x and which axis of weight have the
# same length and are summed?</details>
# <details><summary>Hint 2</summary>x @ weight.T sums over d: (n, d), (d, o) -> (n, o). NumPy adds a row (o,)
# to every row of (n, o) by itself.</details>
# <details><summary>Hint 3</summary>return x @ weight.T + bias</details>

# %%
def linear_map(x, weight, bias):
    """n d, o d, o -> n o."""
    ### BEGIN SOLUTION
    return x @ weight.T + bias  # n d, d o -> n o
    ### END SOLUTION


# %% tags=["check"]
minivl.check("1.1", linear_map)

# %% [markdown]
# ## Exercise 1.2: how surprised is the model? (about 15 minutes)
#
# Training needs one number that says how wrong a model is. For text it is the **surprise**: minus the
# logarithm of the probability that the model gave to the token that really came. Certain and right is 0.
# Write `surprise(logits, ids)`: `logits` (n, v), `ids` (n,), and out come n numbers. It must also work for logits
# such as 1000, where the probability of another token is too small to be written. The mean of these numbers is
# the **loss** that training makes small. The logarithm is the natural one, and the unit is then called a **nat**; with
# the logarithm to the base 2 it would be bits, and one bit is 0.693 nats. (Read the numbers that come at the end so:
# 2.3 nats are a probability of 1 in 10, 10 nats are 1 in 22,000.)
#
# <details><summary>Hint 1</summary>Softmax along the last axis, then take one probability from each row, then
# minus its logarithm.</details>
# <details><summary>Hint 2</summary>p[np.arange(n), ids] takes number ids[i] of row i. A probability can
# become 0 by underflow, and log 0 is minus infinity: take the logarithm by hand. log(a / b) = log a -
# log b.</details>
# <details><summary>Hint 3</summary>z = logits - logits.max(axis=1, keepdims=True); log_p = z -
# np.log(np.exp(z).sum(axis=1, keepdims=True)); return -log_p[np.arange(len(ids)), ids]</details>

# %%
def surprise(logits, ids):
    """n v, n -> n: minus the log of the probability of each id."""
    ### BEGIN SOLUTION
    z = logits - logits.max(axis=1, keepdims=True)  # the largest is 0: exp never overflows
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))  # n v
    return -log_p[np.arange(len(ids)), ids]
    ### END SOLUTION


# %% tags=["check"]
minivl.check("1.2", surprise)
for text in ("A red circle.", "A blue star.", "Circle red a."):  # how surprised is the model by each answer?
    new = vlm.tokenizer.encode(text)
    whole = minivl.Inputs.from_ids([*ids, *new], vlm.config, inputs.pixel_values, inputs.image_grid_thw)
    before_each = vlm.logits(whole)[len(ids) - 1 : -1]  # the row before a token foretells it
    print(f"   {text:16s} surprise of each token {surprise(before_each, new).round(2)}")

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `kernels.linear`, `weight`, `bias` | `torch.nn.Linear`, with the same (out, in) order of `weight` |
# | `decoder.embed_tokens` | `embed_tokens`, a `torch.nn.Embedding` |
# | `decoder.logits` | `lm_head`; tied when `tie_word_embeddings` is true |
# | the residual stream | `hidden_states` |
# | `vlm.weights` | `model.state_dict()`, by name |
# | surprise, loss | `torch.nn.functional.cross_entropy` |
#
# ## Read next
#
# - `minivl/checkpoint/names.py`: one table says where each array of the file belongs.
# - `minivl/kernels/definition.py`: `linear`, `embed` and `add` in a few lines each.
# - Lesson 2 starts where the picture does: which size, and which pixels, does the model see?

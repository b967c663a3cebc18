# %% [markdown]
# # Lesson 14: how it was trained
#
# **The question.** Where do the weights come from? What is the number that training makes small, what does one
# step do to one matrix, and what is left to do after the model can already answer?
#
# **You need** from lesson 1: *logits*, *softmax*, *surprise*, *loss*, *tied*; from lesson 9: the *chat
# template*; from lesson 11: how a *decoder* writes. Reading takes about 55 minutes, the three exercises another
# 45.
#
# ```
# vision.embed_patches   vision.blocks.0.attend   vision.merge_2x2     trained alone at first (section 1)
# decoder.embed_tokens   decoder.place_features   decoder.layers.0.add_mlp
# decoder.normalise                                                    <== you are here: h, section 4
# decoder.logits                                                       <== the matrix that we train ourselves
# sampling.most_likely                                                 what changes in the end
# ```

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.show.figures import figure_of
from minivl.show.plot import table
from minivl.show.samples import load_samples

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load(precision="float64")  # exact enough for differences of differences (section 4)
record = json.loads((vlm.folder / "training.json").read_text(encoding="utf-8"))

image = Image.new("RGB", (168, 112), (200, 200, 205))
ImageDraw.Draw(image).ellipse([20, 24, 76, 80], fill=(222, 40, 40))
ImageDraw.Draw(image).rectangle([104, 30, 148, 74], fill=(45, 75, 225))

# %% [markdown]
# ## 1. Phases
#
# A model of this kind is not trained in one go. A **phase** of training is a stretch with its own data and its
# own speed, that starts from the weights of the one before. These are the embedded model's, as its
# training wrote them down (`training.json` beside the weights; the model card has the same figures):

# %%
phases = record["phases"]  # a later run goes on from the weights of the one before it
names = [f"{phase['run']} {phase['phase']}" for phase in phases]
for name, phase in zip(names, phases, strict=True):
    print(f"{name:12s} {phase['samples']:8,d} samples {phase['minutes']:6.1f} min  {phase['trains']:8s}{phase['what']}")
total = sum(phase["samples"] for phase in phases)
print(f"together {total:,} samples, {sum(phase['minutes'] for phase in phases):.0f} minutes on two CPU cores")

COLOUR_OF = {"tower": plot.ORANGE, "decoder": plot.GREEN, "all": plot.BLUE}
last = phases[-12:]
kinds = list(dict.fromkeys(kind for phase in last for kind in phase["draws"]))
shares = np.array([[phase["draws"].get(kind, 0.0) for kind in kinds] for phase in last])  # phases kinds
shares /= shares.sum(axis=1, keepdims=True)
figure = plot.board(1, 2, (12, 0.6 + 0.34 * len(phases)), width_ratios=[1, 2])
figure.axes[0].barh(names, [phase["minutes"] for phase in phases],
                    color=[COLOUR_OF[phase["trains"]] for phase in phases])
figure.axes[0].invert_yaxis()
figure.axes[0].set_title("minutes; orange: the tower alone, green: the decoder alone", size=9)
table(shares, figure.axes[1], "what each of the last phases draws (shares)", names[-len(last):], kinds, "{:.2f}")
figure.axes[1].tick_params(axis="x", labelrotation=90)
figure

# %% [markdown]
# The letter in front of a phase names its *run*: a training was interrupted, improved and gone on with, and each run
# begins with the weights at the end of the one before.
#
# The order follows the technical report. First the **vision tower alone**: it learns to say for each cell what is
# there (our `visual` and `writing`). These are **dense targets**: not one label for a picture, but one for each of its
# cells or patches (which shape, which colour, which character), so that one picture teaches a lot. The maps that
# say it are **heads (of training)**: small linear maps on the tower's rows that are trained with it, and thrown away
# before the model is used. Then tower and decoder
# **together**, on questions and answers (`words`, `joint`), and, once the tower sees well, the **decoder alone** while
# the tower holds still (`answers`, a detour of ours: it costs less). Then longer inputs (`long`). After that the model
# can answer, and two short phases are about *how*: dialogues (`sft`, section 3) and preferences (`dpo`, section 5).
#
# One more thing is told: **where to look**. For a click, a word in the question has to meet the button
# that says it. An answer that is wrong says nothing about where the two should have met. So one head of the decoder
# is asked for it, in the last part of `controls` and in all questions from `sought` on: at each token of an answer
# about a thing, how much of its attention on the picture goes to the cells of that thing? Minus the logarithm of that
# share is one more loss. (Where several things are counted, each must get its part.) From `twice` on a head of the
# next layer is asked for the same, since some things can only be found by looking twice: first at all of them, then
# at the odd one out. And from `unlike` on a head of the layer before is asked for the thing that was named last,
# because the next one of a list is found from there. Nothing is thrown away afterwards, and you can watch these heads
# at work (lesson 12). One thing no look tells: at a thing, the decoder, which reads row by row, has not seen what lies
# below, so it cannot know how many things stand further left. The tower sees the whole picture, and from `order` on
# each of its cells says how many are named before its own, and how many after it.
#
# How the loss came down. It is a surprise in nats (lesson 1). A line is drawn for each phase that has left its curve,
# and the cell says which runs have left none:

# %%
curve, before = [], {}
for one in record["curve"]:  # minutes are counted from the beginning of each run; here, one run after the other
    before.setdefault(one["run"], curve[-1]["minutes"] if curve else 0.0)
    curve.append(one | {"minutes": before[one["run"]] + one["minutes"]})
lines = {"answer": "surprise of an answer token", "kind": "which shape, each patch", "glyph": "which character"}
figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
for (name, words), colour in zip(lines.items(), plot.COLOURS, strict=False):
    for stretch in dict.fromkeys((one["run"], one["phase"]) for one in curve if name in one):
        points = [(one["minutes"], one[name]) for one in curve
                  if name in one and (one["run"], one["phase"]) == stretch]
        axis.semilogy(*zip(*points, strict=True), ".-", color=colour, ms=3, lw=1, label=words)
        words = None  # one entry in the legend
for run, name in dict.fromkeys((one["run"], one["phase"]) for one in curve):
    start = next(one["minutes"] for one in curve if (one["run"], one["phase"]) == (run, name))
    axis.axvline(start, color="grey", lw=0.6, ls=":")
    axis.annotate(f"{run} {name}", (start, 1), (2, -3), ("data", "axes fraction"), "offset points", size=8,
                  rotation=90, va="top")
axis.set(xlabel="minutes", ylabel="loss (nats)", title=f"{len(curve)} points of the learning curve")
if curve:
    axis.legend(fontsize=8)
    plt.show()
    without = sorted({phase["run"] for phase in phases} - {one["run"] for one in curve})
    print("runs without a curve:", ", ".join(without) or "none", "(minutes are counted without them)" * bool(without))
else:
    plt.close()
    print("this release has kept no curve as numbers; docs/made/training-curve.png in the repository shows it")

# %% [markdown]
# ## 2. Their data and ours
#
# The report (arXiv 2502.13923) names three phases of pre-training with 4.1 trillion tokens together, then about
# two million dialogues and a preference phase. Ours was drawn by a program: shapes, letters, pages, screens, short
# videos. How far apart is that? (Our tokens are an estimate: samples times the mean length of our sample prompts with
# their answers.)

# %%
lengths = [len(vlm.prepare(sample.messages()).input_ids) + len(vlm.tokenizer.encode(sample.answer)) + 1
           for sample in load_samples()]  # the stop token is one more
each = np.mean(lengths)
late = ("long", "sft", "dpo")
theirs = {"tower alone": 1.5e12, "together": 2.0e12, "long": 0.6e12}
ours = {"tower alone": sum(p["samples"] for p in phases if p["trains"] == "tower") * each,
        "together": sum(p["samples"] for p in phases if p["trains"] != "tower" and p["phase"] not in late) * each,
        "long": sum(p["samples"] for p in phases if p["phase"] == "long") * each}
figure, axis = plt.subplots(figsize=(8, 2.4), layout="constrained")
at = np.arange(3)
axis.barh(at - 0.2, list(theirs.values()), 0.4, color=plot.BLUE, label="Qwen2.5-VL, from the report")
axis.barh(at + 0.2, list(ours.values()), 0.4, color=plot.ORANGE, label="the embedded model, estimated")
axis.set(xscale="log", xlabel="tokens", title="tokens of pre-training")
axis.set_yticks(at, list(theirs))
axis.invert_yaxis()
axis.legend(fontsize=8)
plt.show()
print(f"a sample of ours, prompt and answer, has {min(lengths)} to {max(lengths)} tokens, {each:.0f} on average;")
print(f"theirs have {sum(theirs.values()) / sum(ours.values()):,.0f} times as many tokens in all")

# %% [markdown]
# | | Qwen2.5-VL | the embedded model |
# |---|---|---|
# | tower | from nothing, on captions, knowledge, text in pictures | from nothing, on what each drawn cell holds |
# | decoder | a language model that could speak already | from nothing; it knows the sentences of its answers |
# | together | interleaved text, documents, questions, boxes, video, screens | shapes, numbers, words, videos, pages |
# | long | sequences of 32,768 tokens: long videos, agents | a few hundred tokens: two pictures, forms, tables |
# | fine-tuning | about two million dialogues, tower frozen | short dialogues; in the last run tower frozen |
# | preferences | pairs of answers, one of them preferred | a right answer, and the same with one detail changed |
#
# What is the same is the mechanism. The rest of this lesson is about that.
#
# ## 3. The loss of one dialogue
#
# Training text is the same text that the chat template makes, answers included. **Supervised fine-tuning** (SFT)
# means: make the *assistant's* tokens less surprising, given all that came before. The user's words are read, but
# not learned: nobody wants a model that asks the questions. Which tokens count is said by a **loss mask**, one
# yes or no for each token.
#
# Our dialogue has two turns. The second answer is one that the model has never been taught:

# %%
NEW = "Crimson."
messages = [
    {"role": "user", "content": [{"type": "image", "image": image},
                                 {"type": "text", "text": "Is there a red circle?"}]},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "What color is the circle?"},
    {"role": "assistant", "content": NEW}]
dialogue = vlm.prepare(messages, add_generation_prompt=False)
ids = dialogue.input_ids  # s

opening = vlm.tokenizer.encode("<|im_start|>assistant\n")
(stop,) = vlm.tokenizer.encode("<|im_end|>")
mask = np.zeros(len(ids), bool)  # s: True for what the assistant has written
for start in range(len(ids)):
    if ids[start : start + len(opening)].tolist() == opening:
        place = start + len(opening)
        while not mask[place - 1] or ids[place - 1] != stop:  # the stop token belongs to the answer
            mask[place] = True
            place += 1
print("tokens of the whole dialogue, both turns and the picture:", len(ids))
print("of the assistant:", mask.sum(), repr(vlm.tokenizer.decode(ids[mask], False)))

# %% [markdown]
# The stop token counts: a model that never learned it would never end. Now the **shift**: row $i$ of the logits
# is about token $i + 1$. So the last row is about nothing, and the first token is predicted by nothing.
#
# $$ L = \frac{1}{\sum_i m_{i+1}} \sum_i m_{i+1} \big( -\log \mathrm{softmax}(z_i)_{\,t_{i+1}} \big) $$

# %%
with minivl.session(record=["decoder.normalise", "decoder.logits"]) as session:
    z = vlm.logits(dialogue)  # s v
target, counted = ids[1:], mask[1:]  # s-1: what row i is about, and whether it counts
shifted = z[:-1] - z[:-1].max(axis=1, keepdims=True)  # s-1 v
log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
surprise = -log_p[np.arange(len(target)), target]  # s-1
loss = surprise[counted].mean()
print(f"loss of the dialogue: {loss:.4f} nats a token")
print(f"without the mask:     {surprise.mean():.4f}")
same = -kernels.log_softmax(z[:-1])[np.arange(len(target)), target]
print("the kernel log_softmax gives the same:", np.allclose(same, surprise))

text = np.flatnonzero(target != vlm.config.image_token_id)  # placeholders are left out of the figure
figure = plot.board(1, 1, (12, 3))
plot.token_bars([plot.token_name(vlm.tokenizer, t) for t in target[text]], surprise[text], counted[text],
                figure.axes[0], label="surprise (nats)")
figure

# %% [markdown]
# Blue bars count. "Yes." was practised and costs next to nothing. The new word is expensive: the model expected
# another colour, and then other letters. The pale
# bars are what a missing mask would teach: the system message and the user's questions, which are the same in
# all dialogues, and the rows of placeholders, whose "next token" is a placeholder. They are many, and would drown
# the rest.
#
# (In the embedded model's own training the tokens of an answer of $n$ tokens are weighed with $n^{-3/4}$ each, so
# that a long list of boxes does not drown "Yes.". With a weight in place of yes and no, it is the same formula.)
#
# ## 4. One step, by hand
#
# Which way must the weights go? The **gradient** of the loss says for each weight by how much the loss grows when
# the weight grows. It has the shape of the weights. For the whole model a program works it out, layer by layer
# from the end. For the last linear map it is two lines, and we derive them.
#
# Let $h$ (n, d) be the rows that enter the last map at the places that count, $E$ (v, d) its matrix, $t$ the tokens
# that should come. Then $z = h E^\top$, and
#
# $$ L = \frac1n \sum_i \Big( \log \sum_j e^{z_{ij}} - z_{i t_i} \Big) $$
#
# The derivative of $\log \sum_j e^{z_{ij}}$ with respect to $z_{ij}$ is $e^{z_{ij}} / \sum_k e^{z_{ik}} = p_{ij}$:
# softmax again. The derivative of $-z_{i t_i}$ is $-1$ for the token that came and 0 for the others. So
#
# $$ \frac{\partial L}{\partial z_{ij}} = \frac1n (p_{ij} - [j = t_i]), \qquad
#    \frac{\partial L}{\partial E} = \Big(\frac{\partial L}{\partial z}\Big)^{\!\top} h
#    \qquad (v \times n)(n \times d) \to (v \times d) $$

# %%
head = vlm.weights.decoder.head
E = head.weight.dense(np.float64)  # v d
h = session.trace["decoder.normalise"][:-1][counted]  # n d
t = target[counted]  # n
print("h", h.shape, " E", E.shape, " logits by hand equal to the pass:", np.allclose(h @ E.T, z[:-1][counted]))


def loss_of(E):
    z = h @ E.T  # n v
    z = z - z.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(t)), t]).mean()


def gradient_of(E):
    z = h @ E.T
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)  # n v
    p[np.arange(len(t)), t] -= 1
    dz = p / len(t)  # n v: how the loss depends on each logit
    return dz, dz.T @ h  # n v, v d


dz, dE = gradient_of(E)
print("the loss again:", loss_of(E).round(6), " as in section 3:", loss.round(6))
busy = np.argsort(-np.abs(dz).max(axis=0), kind="stable")[:14]  # tokens whose logits matter most
busy_names = [plot.token_name(vlm.tokenizer, int(j)) for j in busy]
figure = plot.board(1, 2, (12, 3.6))
table(dz[:, busy].round(2), figure.axes[0], "dL/dz: which logits should fall (red) and rise (blue)",
      [plot.token_name(vlm.tokenizer, int(i)) for i in t], busy_names, "{:.2f}")
plot.heat(dE[busy], figure.axes[1])
figure.axes[1].set_yticks(range(len(busy)), busy_names)
figure.axes[1].set_title("dL/dE: the rows of the same tokens", size=9)
figure

# %% [markdown]
# Read the left table along a row: blue under the token that should have come, red under those that came instead,
# and each row sums to 0: probability is only moved. Rows that are right already are nearly 0: what is known
# teaches nothing.
#
# Is it the right gradient? A **finite difference** asks the loss itself: make one weight larger by a little, then
# smaller by as much, and divide the difference of the two losses by the difference of the weights.

# %%
def finite_difference(loss_of, E, j, d, step=1e-5):
    up, down = E.copy(), E.copy()
    up[j, d] += step
    down[j, d] -= step
    return (loss_of(up) - loss_of(down)) / (2 * step)


draw = np.random.default_rng(0)
places = [(int(j), int(draw.integers(E.shape[1]))) for j in busy for _ in range(3)]
by_hand = np.array([dE[place] for place in places])
asked = np.array([finite_difference(loss_of, E, *place) for place in places])
print("largest difference:", np.abs(by_hand - asked).max(), " of gradients up to", np.abs(by_hand).max().round(4))
figure, axis = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
axis.plot(by_hand, asked, "o", color=plot.BLUE, ms=4)
axis.axline((0, 0), slope=1, color="grey", lw=0.8)
axis.set(xlabel="gradient by hand", ylabel="finite difference", title=f"{len(places)} weights")
plt.show()

# %% [markdown]
# A **step** goes against the gradient: $E \leftarrow E - \eta\, \partial L / \partial E$. How far is the **learning
# rate** $\eta$. Too small, and nothing happens; too large, and the step jumps over the valley:

# %%
rates = np.geomspace(1e-4, 3e1, 45)
after = np.array([loss_of(E - rate * dE) for rate in rates])
slope = (dE**2).sum()  # how fast the loss falls at first
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.semilogx(rates, after, color=plot.BLUE, label="loss after one step")
axis.semilogx(rates, np.maximum(loss - rates * slope, 0), ":", color="grey", label="if the slope never changed")
axis.axhline(loss, color=plot.ORANGE, lw=0.8, label="before")
axis.set(xlabel="learning rate", ylabel="loss", ylim=(0, 2.5 * loss), title="one step, of different length")
axis.legend(fontsize=8)
plt.show()
rate = float(rates[after.argmin()]) / 4  # a careful choice: a quarter of the best single step
print(f"before {loss:.4f}, after one step at rate {rate:.3g}: {loss_of(E - rate * dE):.4f}")

# %% [markdown]
# Many steps, and then the model itself with the trained matrix in place of its own, through the door. Nothing else
# is changed. `decoder.logits` is one product, so standing in for it is one line:

# %%
def trained(gradient, steps=40):
    """The matrix after some steps of a gradient, and the loss of the dialogue along the way."""
    now, path = E.copy(), []
    for _ in range(steps):
        path.append(loss_of(now))
        now = now - rate * gradient(now)
    return now, [*path, loss_of(now)]


def with_head(matrix):
    return minivl.using({"decoder.logits": lambda x, head: x @ matrix.T})


def answers(matrix, most=12):
    """What the model says with this matrix to the two questions of the dialogue."""
    with with_head(matrix):
        return [vlm.tokenizer.decode(vlm.generate(vlm.prepare(messages[:n]), max_new_tokens=most), False)
                for n in (1, 3)]


taught, path = trained(lambda now: gradient_of(now)[1])
with with_head(taught):
    z_after = vlm.logits(dialogue)[:-1][counted]
by_model = -kernels.log_softmax(z_after)[np.arange(len(t)), t].mean()
print(f"loss {path[0]:.4f} -> {path[-1]:.4f}; the model's own pass with the new matrix: {by_model:.4f}")
print("before:", answers(E), "\nafter: ", answers(taught))
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(path, ".-", color=plot.BLUE)
axis.set(xlabel="steps", ylabel="loss of the dialogue", title="it learns")
plt.show()

# %% [markdown]
# The same words as before to the first question, the new one to the second. But what else has changed? Forty steps
# on a single dialogue know nothing of all others:

# %%
# only kinds of question that the model is mostly right about: a wrong answer that changes shows nothing
samples = [sample for sample in load_samples() if sample.fps is None and "{" not in sample.answer
           and not figure_of(sample.question, sample.answer).fails][:8]
changed = 0
for sample in samples:
    one = vlm.prepare(sample.messages())
    said = [vlm.tokenizer.decode(vlm.generate(one, max_new_tokens=10))]
    with with_head(taught):
        said.append(vlm.tokenizer.decode(vlm.generate(one, max_new_tokens=10)))
    changed += said[0] != said[1]
    if said[0] != said[1]:
        print(f"{sample.name}: {sample.question}  before {said[0]!r}, after {said[1]!r}, true {sample.answer!r}")
print(f"{changed} of {len(samples)} other answers changed")

# %% [markdown]
# That is why real steps use many samples at once, small rates, and data of all kinds until the end.
#
# And a real step does not use the gradient as it is. Two rules have names of their own. **AdamW** takes the mean of
# the last gradients and divides each number by the rms of its own past, so that all weights move about equally fast;
# then it makes the weights a little smaller. **Muon** takes the mean too, and replaces it, for a whole matrix at once,
# by the nearest matrix whose columns are orthogonal, so that no direction is moved more than another. The embedded
# model was trained with Muon for the matrices inside its blocks and AdamW for the rest:

# %%
def adamw(gradients, rate=1.0, betas=(0.9, 0.98)):
    """The step after these gradients of one weight matrix, without the decay."""
    mean = square = 0.0
    for g in gradients:
        mean, square = betas[0] * mean + (1 - betas[0]) * g, betas[1] * square + (1 - betas[1]) * g**2
    steps = len(gradients)
    return rate * (mean / (1 - betas[0] ** steps)) / (np.sqrt(square / (1 - betas[1] ** steps)) + 1e-12)


def muon(gradients, momentum=0.95):
    """The nearest orthogonal matrix to their mean, from the singular values."""
    mean = sum(momentum ** (len(gradients) - 1 - n) * g for n, g in enumerate(gradients))
    u, _, v = np.linalg.svd(mean, full_matrices=False)
    return u @ v


few = [dE[:, :8] * (1 + 0.1 * n) for n in range(3)]  # three gradients that are alike, of eight columns
for name, step in {"the gradient": few[-1], "AdamW": adamw(few), "Muon": muon(few)}.items():
    found = np.linalg.svd(step, compute_uv=False)
    print(f"{name:13s} numbers from {np.abs(step).min():.1e} to {np.abs(step).max():.1e},",
          f"directions from {found[-1]:.1e} to {found[0]:.1e}")

# %% [markdown]
# ### The tied matrix is used twice
#
# In this model (and in the official 3B) $E$ is also the embedding table. A weight of it then acts at both ends, and
# its gradient has two parts. Ours is the part of the output end. Asked through the whole model:

# %%
def whole_loss(matrix, both):
    """The loss of the dialogue through the whole model, with this matrix at the output end or at both ends."""
    ends = {"decoder.logits": lambda x, head: x @ matrix.T}
    if both:
        ends["decoder.embed_tokens"] = lambda ids, table, dtype: matrix[ids]
    with minivl.using(ends):
        z = vlm.logits(dialogue)[:-1][counted]
    return -kernels.log_softmax(z)[np.arange(len(t)), t].mean()


used = int(t[-3])  # a token of the new word: it is read, and it is to be written
print(f"in the row of {plot.token_name(vlm.tokenizer, used)!r}    by hand   output end    both ends")
for d in np.argsort(-np.abs(dE[used]))[:3]:
    output, both = (finite_difference(lambda m, both=both: whole_loss(m, both), E, used, d) for both in (False, True))
    print(f"   weight {d:4d}     {dE[used, d]:+12.6f} {output:+12.6f} {both:+12.6f}")

# %% [markdown]
# The difference between the last two columns is what went through all the layers. That part needs
# *backpropagation*: the rule of this section, applied to each pass in turn, from the last to the first.
#
# ## 5. Preferences: the DPO loss of one pair
#
# Some faults are not a matter of which token comes next, but of *this answer rather than that one*. **Preference
# optimisation** takes pairs: a right answer and a wrong one to the same question. Direct preference optimisation
# (DPO) needs only four numbers, the log-probabilities of both answers, now and before the phase began:
#
# $$ m = \big(\log p(\text{right}) - \log p_0(\text{right})\big) - \big(\log p(\text{wrong}) - \log p_0(\text{wrong})
#    \big), \qquad L = -\log \sigma(\beta m) $$
#
# $p_0$ is a frozen copy: without it, the cheapest way to widen the gap is to make *everything* else unlikely. The
# log-probability of an answer is the sum over its tokens, stop token included. With the embedded model:

# %%
pair = {"right": "Red.", "wrong": "Blue."}
question = messages[:3]


def told(answer):
    """Rows h that predict the tokens of an answer, and these tokens: n d, n."""
    whole = vlm.prepare([*question, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    words = [*vlm.tokenizer.encode(answer), stop]
    end = int(np.flatnonzero(whole.input_ids == stop)[-1]) + 1  # a line end follows the stop token
    with minivl.session(record="decoder.normalise") as session:
        vlm.logits(whole)
    assert whole.input_ids[end - len(words) : end].tolist() == words
    return session.trace["decoder.normalise"][end - len(words) - 1 : end - 1], np.array(words)


def log_probability(E, h, t):
    z = h @ E.T
    z = z - z.max(axis=1, keepdims=True)
    return (z[np.arange(len(t)), t] - np.log(np.exp(z).sum(axis=1))).sum()


rows = {name: told(answer) for name, answer in pair.items()}
start = {name: log_probability(E, *rows[name]) for name in pair}
print("log-probability of the whole answer, before:", {n: round(float(v), 4) for n, v in start.items()})
BETA = 0.1


def dpo(E):
    """Loss and margin of the pair: four log-probabilities."""
    now = {name: log_probability(E, *rows[name]) for name in pair}
    margin = (now["right"] - start["right"]) - (now["wrong"] - start["wrong"])
    return np.log1p(np.exp(-BETA * margin)), margin, now


print(f"before any step: margin {dpo(E)[1]:.1f}, loss {dpo(E)[0]:.6f} = ln 2 = {np.log(2):.6f}")

# %% [markdown]
# At the start it is always $\ln 2$: nothing has moved yet. The gradient is that of section 4, with a factor. With
# $\sigma(-\beta m)$, "how wrong the pair still is":
#
# $$ \frac{\partial L}{\partial E} = -\beta\, \sigma(-\beta m) \left( \frac{\partial \log p(\text{right})}{\partial E} -
#    \frac{\partial \log p(\text{wrong})}{\partial E} \right) $$

# %%
def slope_of_log_probability(E, h, t):
    """d log p / dE: minus (p - 1 at the token), times h. n v -> v d."""
    z = h @ E.T
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(t)), t] -= 1
    return -p.T @ h


def dpo_gradient(E):
    _, margin, _ = dpo(E)
    apart = slope_of_log_probability(E, *rows["right"]) - slope_of_log_probability(E, *rows["wrong"])
    return -BETA / (1 + np.exp(BETA * margin)) * apart


slope = dpo_gradient(E)
places = [tuple(map(int, np.unravel_index(k, slope.shape))) for k in np.argsort(-np.abs(slope), axis=None)[:300:25]]
asked = np.array([finite_difference(lambda m: dpo(m)[0], E, *place) for place in places])
print("gradient against finite differences, largest difference:",
      np.abs(asked - [slope[place] for place in places]).max(), "of", np.abs(slope).max().round(5))

now, lines = E.copy(), []
for _ in range(30):
    loss_now, margin, chances = dpo(now)
    lines.append((loss_now, chances["right"], chances["wrong"]))
    now = now - 4 * rate * dpo_gradient(now)
lines = np.array(lines)
figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
axes[0].plot(lines[:, 0], ".-", color=plot.BLUE)
axes[0].axhline(np.log(2), color="grey", lw=0.8, ls=":")
axes[0].set(xlabel="steps", title="DPO loss; it starts at ln 2")
axes[1].plot(lines[:, 1] - lines[0, 1], ".-", color=plot.GREEN, label=f"right: {pair['right']}")
axes[1].plot(lines[:, 2] - lines[0, 2], ".-", color=plot.ORANGE, label=f"wrong: {pair['wrong']}")
axes[1].set(xlabel="steps", title="change of log-probability (nats)")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# Look at the right figure, and at which of the two lines has moved more. The loss only asks for the *difference*: once
# the right answer is nearly certain, all that is left is to make the wrong one ever less likely. (In long phases both
# may fall: a known weakness.) No judge and no reward model appears anywhere.
#
# What this phase brought to the embedded model when it last ran, before and after, on the same questions (other phases
# may have come behind it: the card lists them in their order). The bars at the side are one standard error,
# $\sqrt{p(1-p)/n}$: within two of them a difference means nothing.

# %%
kept = record["preference"]
figure, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
at = np.arange(len(kept))
for shift, key, colour in ((-0.2, "before", plot.ORANGE), (0.2, "after", plot.BLUE)):
    p = np.array([row[key] for row in kept])
    n = np.array([row["samples"] for row in kept])
    axis.bar(at + shift, p, 0.4, yerr=np.sqrt(p * (1 - p) / n), color=colour, label=key, error_kw={"lw": 0.8})
axis.set_xticks(at, [row["name"][:26] for row in kept], rotation=60, ha="right", size=8)
axis.set(ylabel="right", ylim=(0, 1), title="the preference phase")
axis.legend(fontsize=8)
plt.show()
beyond = [row["name"] for row in kept
          if abs(row["after"] - row["before"]) > 2 * (2 * max(row["before"] * (1 - row["before"]), 0.01)
                                                      / row["samples"]) ** 0.5]
print("beyond two standard errors of the difference:", beyond or "none")

# %% [markdown]
# ## 6. Ablations: what do these weights rely on?
#
# An **ablation** takes one thing away and measures again. There are two kinds, and they are often confused.
# *Relies on*: take it away from the trained model. A loss shows that these weights, having been trained with it,
# use it. *Good for*: train twice, with and without, on the same budget. Only that says whether the thing is needed.
#
# The first kind, on the embedded model, through the door (in percent of right answers, and the change against the
# first line). The last line is what somebody gets right who never sees the picture and always gives the likeliest
# answer:

# %%
rows_ = record["ablations"]
tasks = [name for name in rows_[0]["figures"] if not name.startswith("blind ")] if rows_ else []
right = np.array([[row["figures"][task] for task in tasks] for row in rows_])
blind = np.array([[rows_[0]["figures"].get(f"blind {task}", np.nan) for task in tasks]] if rows_ else [])
figure = plot.board(2, 1, (11, 6))
table(100 * np.concatenate([right, blind]), figure.axes[0], "percent right",
      [*(row["change"] for row in rows_), "a blind guess"], tasks, "{:.0f}")
table(100 * (right - right[0])[1:], figure.axes[1], "change in points", [row["change"] for row in rows_[1:]], tasks,
      "{:+.0f}")
p, n = right[0], rows_[0]["samples"]
print(f"{n} questions a task: one standard error is {100 * np.sqrt(p * (1 - p) / n).max():.0f} points at most")
figure

# %%
if record["pair"]:
    for one in record["pair"]:
        print(f"trained {one['name']}: {one['right']:.1%} right on 'when' (a blind guess: {one['blind']:.1%}), "
              f"{one['samples']:,} samples")
else:
    print("the second kind, two trainings with and without the time axis, is not part of this release")

# %% [markdown]
# Look for columns that cannot fall: a task with pictures alone does not know a time axis. If such a column moved,
# the measurement would be broken. And a column where the first line is no better than the blind guess cannot show
# anything at all.
#
# ## 7. Now break it
#
# Six wrong losses. We train the matrix with each for as many steps, and ask. *Own loss* is what each run would show
# while it trains; *true loss* is that of section 3. **Predict** what each model says: which ones end, which ones
# stutter, which ones do not notice anything?

# %%
with minivl.session(record="decoder.normalise") as session:
    vlm.logits(dialogue)
every = session.trace["decoder.normalise"]  # s d: all rows of the dialogue
begins = np.flatnonzero(mask & ~np.roll(mask, 1))  # first token of each answer


i = np.flatnonzero(mask)  # places of the assistant's tokens
no_stop = i[ids[i] != stop]
all_but_one = np.arange(len(ids) - 1)


def towards(place, tokens, sign):
    """The gradient of the mean surprise of these tokens at these rows of the dialogue."""
    return lambda E: -sign * slope_of_log_probability(E, every[place], tokens) / len(tokens)


faults = {  # rows of the dialogue, the token that each is trained to predict, and the sign
    "as it should be": (i - 1, ids[i], 1),
    "no mask": (all_but_one, ids[1:], 1),
    "no shift": (i, ids[i], 1),
    "shifted the wrong way": (i, ids[i - 1], 1),
    "the stop token left out": (no_stop - 1, ids[no_stop], 1),
    "only the first token of each answer": (begins - 1, ids[begins], 1),
    "the wrong sign": (i - 1, ids[i], -1)}
print(f"{'':37s}own loss          true loss   {'to the first question':22s} to the second")
for name, (place, tokens, sign) in faults.items():
    matrix, path = trained(towards(place, tokens, sign))
    own = [-sign * log_probability(one, every[place], tokens) / len(tokens) for one in (E, matrix)]
    first, then = answers(matrix, most=8)
    print(f"{name:36s}{own[0]:7.2f} -> {own[1]:8.2f} {path[-1]:8.2f}   {first!r:22s} {then!r}")

# %% [markdown]
# Every one of these runs shows a loss that falls. A falling curve is no proof that the right thing is learned. A
# missing shift is the classic: it looks like a very good model, because to repeat the token that is already there is
# easy. And one is quiet: where the stop token is left out and the answers still end, they do because this model had
# learned to end before. What proves a loss: one dialogue, by hand, as in section 3; and a model that is asked.
#
# ## Exercise 14.1: the loss of a dialogue (about 15 minutes)
#
# Write `sft_loss(logits, ids, mask)`: `logits` (s, v), `ids` (s,), `mask` (s,) of True and False, where `mask[i]`
# says whether *token i* counts. One number: the mean surprise of the tokens that count. A token at place 0 is
# predicted by nothing, and is left out.
#
# <details><summary>Hint 1</summary>Row i of the logits is about token i + 1. Shift ids and mask, drop the last row of
# the logits.</details>
# <details><summary>Hint 2</summary>z = logits[:-1], target = ids[1:], counted = mask[1:]. Subtract the largest before
# exp. The mean is over the counted ones alone.</details>
# <details><summary>Hint 3</summary>z = logits[:-1] - logits[:-1].max(1, keepdims=True); log_p = z -
# np.log(np.exp(z).sum(1, keepdims=True)); return -log_p[np.arange(len(ids) - 1), ids[1:]][mask[1:]].mean()</details>

# %%
def sft_loss(logits, ids, mask):
    """s v, s, s -> one number."""
    ### BEGIN SOLUTION
    z = logits[:-1] - logits[:-1].max(axis=1, keepdims=True)  # s-1 v
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(ids) - 1), ids[1:]][mask[1:]].mean()
    ### END SOLUTION


# %% tags=["check"]
minivl.check("14.1", sft_loss)
print("of the dialogue of section 3:", sft_loss(z, ids, mask), "=", loss)

# %% [markdown]
# ## Exercise 14.2: the DPO loss (about 10 minutes)
#
# Write `dpo_loss(right, wrong, right_before, wrong_before, beta)`, from four log-probabilities. It must hold for
# margins of thousands, both ways.
#
# <details><summary>Hint 1</summary>First the margin: how much has the right answer gained, how much the wrong one?
# </details>
# <details><summary>Hint 2</summary>-log sigmoid(x) = log(1 + exp(-x)). For x = -1000 exp overflows. np.logaddexp(a, b)
# is log(exp(a) + exp(b)) without overflow.</details>
# <details><summary>Hint 3</summary>margin = (right - right_before) - (wrong - wrong_before); return np.logaddexp(0,
# -beta * margin)</details>

# %%
def dpo_loss(right, wrong, right_before, wrong_before, beta):
    """Four log-probabilities -> one number."""
    ### BEGIN SOLUTION
    margin = (right - right_before) - (wrong - wrong_before)
    return np.logaddexp(0, -beta * margin)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("14.2", dpo_loss)

# %% [markdown]
# ## Exercise 14.3: a gradient of your own (about 20 minutes)
#
# Let the logits be divided by a number $\tau$ before the softmax, in training too: $z = h E^\top / \tau$. Write
# `head_gradient(h, E, t, tau)`: the gradient of the mean surprise with respect to `E`. `h` (n, d), `E` (v, d), `t`
# (n,). Derive it on paper; a finite difference will tell you whether it is right.
#
# <details><summary>Hint 1</summary>dL/dz is as in section 4, with p = softmax(z) of the *divided* logits. What is
# dz/dE now?</details>
# <details><summary>Hint 2</summary>z is h E^T / tau, so one factor 1/tau more comes out of the chain rule; and 1/n from
# the mean.</details>
# <details><summary>Hint 3</summary>z = h @ E.T / tau; p = np.exp(z - z.max(1, keepdims=True)); p /= p.sum(1,
# keepdims=True); p[np.arange(len(t)), t] -= 1; return p.T @ h / (len(t) * tau)</details>

# %%
def head_gradient(h, E, t, tau):
    """n d, v d, n, one number -> v d."""
    ### BEGIN SOLUTION
    z = h @ E.T / tau  # n v
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(t)), t] -= 1  # n v: dL/dz, but for 1/n
    return p.T @ h / (len(t) * tau)  # v n, n d -> v d
    ### END SOLUTION


# %% tags=["check"]
minivl.check("14.3", head_gradient)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`, `trl`) |
# |---|---|
# | the loss mask | `labels`: a copy of the ids with -100 wherever nothing is learned |
# | the shift | done inside the model's loss function; labels come unshifted |
# | `sft_loss` | `model(..., labels=labels).loss` |
# | only the assistant's tokens | `assistant_only_loss` of `SFTTrainer`; older scripts find the markers by hand |
# | $p_0$, $\beta$ | `ref_model` of `DPOTrainer`, `beta` of its configuration |
# | right and wrong | `chosen`, `rejected` |
# | the gradient | `loss.backward()`, then `parameter.grad` |
# | a step | `optimizer.step()`, of AdamW or Muon (end of section 4) |
#
# ## Read next
#
# - `tools/train_tiny/` in the repository: the whole training, one command a phase.
# - `docs/made/ablations.md`, and the model card `minivl/tiny/README.md`: the figures of this lesson as pages.
# - `docs/made/the-article.md`, claims 21 to 24: what is written about the training of the official models.
# - Lesson 15: somebody else's program runs these weights, and answers otherwise. Where do the two part?

# %% [markdown]
# # Lesson 0: a run in one minute
#
# **The question.** A picture and a sentence go into a vision-language model, and a sentence comes out. What
# are the arrays in between, and how can I look at them?
#
# **You need** NumPy. Every other word is explained where it first appears. The notebook itself runs in less
# than a minute; reading it takes about 25 minutes, the two exercises another 25. Nothing is downloaded: a
# small trained model comes with the package.
#
# The computation is a list of **passes**. A pass is a plain function: arrays in, arrays out. Each has a
# label, and the label is what you use to look at it, stop after it, or replace it. Labels that begin with
# `vision` belong to the **vision tower**, which reads the picture; those that begin with `decoder` to the
# **decoder**, which reads words and writes the answer.
#
# ```
# picture.target_size   picture.resize   picture.normalise     lesson 2: the pixels that the model sees
# patches.patchify                                             lesson 3: pixels cut into rows of numbers
# prompt.encode   prompt.expand   positions.mrope              words as numbers, and their places
# vision.embed_patches   vision.blocks.0.attend                lesson 4: patches look at each other
# vision.merge_2x2   vision.restore_order                      four patches become one visual token
# decoder.embed_tokens   decoder.place_features                words and visual tokens in one sequence
# decoder.layers.0.attend   decoder.logits                     tokens look back; a score for each next token
# sampling.most_likely                                         one token is chosen, and all again for the next
#                                                              <== you are here: the whole list, once, quickly
# ```

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot

vlm = minivl.load()  # without a name: the small model in the package

# %% [markdown]
# ## 1. A picture and a question
#
# This model has been trained on drawings: six shapes in eight colours, writing, simple pages. So we draw one.
# `draw_scene` takes a list of `(shape, colour, x, y, radius)`, in pixels from the upper left corner.

# %%
COLOURS = {"red": (222, 40, 40), "green": (40, 165, 60), "blue": (45, 75, 225),
           "yellow": (242, 218, 45), "purple": (140, 55, 185), "orange": (247, 135, 25),
           "cyan": (45, 205, 222), "pink": (247, 135, 190)}
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring"]
GROUND = (200, 200, 205)


def outline(shape, r):
    """Corners of a shape of radius r around (0, 0)."""
    if shape in ("circle", "ring"):  # the hole of a ring comes later
        return [(r * math.cos(a), r * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 60)]
    if shape == "square":
        return [(-0.9 * r, -0.9 * r), (0.9 * r, -0.9 * r), (0.9 * r, 0.9 * r), (-0.9 * r, 0.9 * r)]
    if shape == "triangle":
        return [(0, -r), (0.95 * r, 0.75 * r), (-0.95 * r, 0.75 * r)]
    if shape == "star":
        turn = np.linspace(-0.5 * math.pi, 1.3 * math.pi, 10)
        far = r * np.array([1.08, 0.45] * 5)  # every second corner lies further inside
        return list(zip(far * np.cos(turn), far * np.sin(turn), strict=True))
    w = 0.34 * r  # a cross
    return [(-w, -r), (w, -r), (w, -w), (r, -w), (r, w), (w, w),
            (w, r), (-w, r), (-w, w), (-r, w), (-r, -w), (-w, -w)]


def draw_scene(objects, height=84, width=112):
    """A picture of height x width pixels with the given objects on light grey."""
    image = Image.new("RGB", (4 * width, 4 * height), GROUND)  # four times too big ...
    for shape, colour, x, y, r in objects:
        corners = [(4 * (x + dx), 4 * (y + dy)) for dx, dy in outline(shape, r)]
        ImageDraw.Draw(image).polygon(corners, COLOURS[colour])
        if shape == "ring":
            hole = [(4 * (x + dx), 4 * (y + dy)) for dx, dy in outline("circle", 0.55 * r)]
            ImageDraw.Draw(image).polygon(hole, GROUND)
    return image.reduce(4)  # ... then shrunk: smooth edges


image = draw_scene([("circle", "red", 60, 40, 20)])
question = "Describe the image."
print(question, "->", vlm.ask(image, question))

# %% [markdown]
# That was the whole program. Now the same again, slowly.
#
# ## 2. The picture is an array
#
# A picture is a table of pixels; each pixel is three numbers from 0 to 255: red, green, blue. So its array
# has three axes: row, column, colour. Row 0 is the *top* row.

# %%
pixels = np.asarray(image)
print(pixels.dtype, pixels.shape, "(rows, columns, colours)")
print("one pixel of the background:", pixels[0, 0], "   one pixel of the disc:", pixels[40, 60])

figure, axes = plt.subplots(1, 4, figsize=(11, 2.6))
axes[0].imshow(pixels)
axes[0].set_title(f"the picture\n{pixels.shape}")
for colour, name in enumerate(["red", "green", "blue"]):
    shown = axes[colour + 1].imshow(pixels[:, :, colour], cmap="gray", vmin=0, vmax=255)
    axes[colour + 1].set_title(f"how much {name}\npixels[:, :, {colour}]")
figure.colorbar(shown, ax=axes, shrink=0.7, label="0..255")
plt.show()

# %% [markdown]
# ## 3. The text is an array too: tokens
#
# A model computes with numbers, so the text is cut into pieces from a fixed list, the **vocabulary**, and
# each piece is replaced by its number in that list. Such a piece is a **token**, its number is the token's
# **id**. A piece may be a word, part of a word, or a single letter; the space before a word belongs to it.

# %%
ids = vlm.tokenizer.encode(question)
pieces = [vlm.tokenizer.token_bytes(token).decode() for token in ids]
print(question, "->", ids)
print("vocabulary:", vlm.tokenizer.vocab_size, "tokens")

figure, axis = plt.subplots(figsize=(8, 1.2))
for n, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
    axis.text(n, 0, f"{piece!r}\n{token}", ha="center", va="center", fontsize=12,
              bbox={"boxstyle": "round", "fc": "#e8f0fe"})
axis.set(xlim=(-0.6, len(ids) - 0.4), ylim=(-0.5, 0.5), title="the question as tokens (text above, id below)")
axis.axis("off")
plt.show()

# %% [markdown]
# The question is put into a frame that says who speaks, the **chat template**. Its marks, such as
# `<|im_start|>`, are tokens of their own. And where the picture belongs, the prompt has one **placeholder**
# token for each piece of 28 x 28 pixels. Its place will later be taken by a **visual token**: one row of
# numbers that says what the model saw there. The tower itself reads smaller pieces, **patches** of 14 x 14
# pixels.

# %%
def about(image, text):
    """A message about a picture in the official format, as inputs of the model."""
    content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return vlm.prepare([{"role": "user", "content": content}])


inputs = about(image, question)
for name, meaning in {"input_ids": "the prompt, one id a token",
                      "pixel_values": "a row for each 14 x 14 pixels, called a patch",
                      "image_grid_thw": "1, then 84/14 = 6 rows and 112/14 = 8 columns of such squares",
                      "position_ids": "each token's time, row and column"}.items():
    array = getattr(inputs, name)
    print(f"{name:14s} {array.shape!s:12s} {array.dtype!s:8s} {meaning}")
print()
print(vlm.tokenizer.decode(inputs.input_ids, skip_special_tokens=False))

# %%
is_picture = inputs.input_ids == vlm.config.image_token_id
is_mark = np.isin(inputs.input_ids, list(vlm.tokenizer.special_ids)) & ~is_picture
kind = np.where(is_picture, 2, np.where(is_mark, 1, 0))

figure, axis = plt.subplots(figsize=(12, 1.9))
paint = np.array([(232, 240, 254), (208, 208, 208), (255, 215, 154)], np.uint8)  # text, marks, placeholders
axis.imshow(paint[kind][None], aspect="auto")
for n, token in enumerate(inputs.input_ids):
    text = vlm.tokenizer.token_bytes(int(token)).decode().replace("\n", "\\n")
    axis.text(n, 0, text, rotation=90, ha="center", va="center", fontsize=8)
axis.set(yticks=[], xlabel="row of the sequence")
axis.set_title(f"the {len(kind)} tokens: text blue, marks grey, {is_picture.sum()} placeholders orange")
plt.show()

# %% [markdown]
# ## 4. Weights: the numbers that were learned
#
# The program is fixed; what the model *knows* sits in its **weights**, arrays of numbers that training has
# set. Nearly all of them are matrices $W$ used in one way, the **linear map**
#
# $$ y = x\,W^\top + b \qquad (n \times d) \to (n \times o) $$
#
# where each of the $n$ rows of $x$ is a list of $d$ numbers and becomes a row of $o$ numbers ($b$, the bias,
# is often left out). "Learning" means nothing else than choosing $W$ and $b$. (A weight is kept as it lies in
# the file, often in two bytes a number; `.dense(np.float32)` makes an ordinary array of it.)

# %%
def all_weights(tree):
    """Every array of weights in the tree that the passes walk, with its path."""
    if hasattr(tree, "dense"):
        return [tree]
    return [weight for part in tree for weight in all_weights(part)] if isinstance(tree, tuple) else []


unique = {id(weight): weight for weight in all_weights(vlm.weights)}.values()  # one matrix is used twice
count = sum(math.prod(weight.shape) for weight in unique)
size = sum(file.stat().st_size for file in vlm.folder.glob("*.safetensors"))
print(f"{len(unique)} arrays, {count:,} numbers, {size:,} bytes of files: {size / count:.2f} bytes a number")

patch_matrix = vlm.weights.vision.patch_embed.weight.dense(np.float32)
print("the first matrix that a patch meets:", patch_matrix.shape, patch_matrix.dtype)

# %% [markdown]
# Each row of that first matrix has as many numbers as a patch has (14 x 14 pixels x 3 colours, twice because
# of video, as lesson 3 shows). So a row *is* a small picture, and $x\,W^\top$ asks of a patch: how much do
# you look like it?

# %%
figure = plot.board(1, 1, (11, 2.4))
plot.filters(patch_matrix, vlm.processor.preprocessor, figure.axes[0])
figure

# %% [markdown]
# ## 5. Logits: a score for every token of the vocabulary
#
# What comes out of one run of the model is not a sentence. It is a table with one row for each token of the
# prompt and one column for each token of the vocabulary: the score of that token as *the next one*. These
# scores are called **logits**. The other rows foretell tokens that are there already; training learns from
# these. Only the last row is about something that is not there yet. (The table may be wider than the
# vocabulary: official models fill it up to a round number of columns, and the last of them belong to no token.
# The cell counts both for this model.)

# %%
logits = vlm.logits(inputs)
print("logits", logits.shape, logits.dtype, "(tokens of the prompt, columns)")
print(logits.shape[1] - vlm.tokenizer.vocab_size, "columns belong to no token")

figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), width_ratios=[2, 1])
limit = np.abs(logits).max()
shown = axes[0].imshow(logits, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
axes[0].set(title=f"all logits {logits.shape}", xlabel="id of the next token", ylabel="row of the prompt")
figure.colorbar(shown, ax=axes[0])
best = np.argsort(-logits[-1])[:6]
axes[1].barh([repr(vlm.tokenizer.decode([token], False)) for token in best][::-1], logits[-1, best][::-1])
axes[1].set(title="the six highest scores of the last row", xlabel="logit")
plt.tight_layout()
plt.show()

# %% [markdown]
# The rule that turns scores $z$ into probabilities is called **softmax**:
#
# $$ p_i = \frac{e^{z_i}}{\sum_j e^{z_j}} $$
#
# Exercise 0.1 is about it. Here the model simply takes the highest score (**greedy** choice), puts that token
# at the end of the sequence, and runs again: one run for each token of the answer, until the token that means
# "end" comes.

# %%
answer = vlm.generate(inputs, max_new_tokens=20)
for step, token in enumerate(answer):
    print(f"run {step}: id {token:3d}  {vlm.tokenizer.decode([token], skip_special_tokens=False)!r}")
print("together:", repr(vlm.tokenizer.decode(answer)))

# %% [markdown]
# ## 6. Open the door
#
# Between the arrays above lie the passes. `minivl.session` lets you look at what comes out of each, without
# changing the model's code. Print one line after every pass whose label fits a pattern: type, shape, smallest
# and largest value, and **rms**, the root of the mean square, the usual measure of how big the numbers are.

# %%
with minivl.session(print_after=["picture.*", "patches.*", "vision.blocks.0.*"]):
    vlm.ask(image, question, max_new_tokens=1)

# %% [markdown]
# Or keep the arrays. `trace` maps labels to arrays, in the order in which they were made. So every array of
# the model is one line away:

# %%
with minivl.session(record="*") as session:
    vlm.ask(image, question, max_new_tokens=1)

trace = session.trace
print(len(trace), "arrays from one run; the first and the last:")
for key in [*list(trace)[:8], None, *list(trace)[-5:]]:
    value = trace.get(key)
    shapes = [array.shape for array in (value if isinstance(value, tuple) else (value,))] if key else ""
    print(f"   {key or '...':32s}", *shapes)

# %%
seen = trace["vision.restore_order"]  # what the vision part hands to the language part
figure, axes = plt.subplots(1, 2, figsize=(12, 2.8), width_ratios=[3, 1])
axes[0].imshow(seen, aspect="auto", cmap="RdBu_r", vmin=-np.abs(seen).max(), vmax=np.abs(seen).max())
axes[0].set(title=f"vision.restore_order {seen.shape}: one row for each 28 x 28 pixels",
            xlabel="number in the row", ylabel="visual token")
background = seen[0]  # the upper left corner: nothing is there
axes[1].imshow(np.linalg.norm(seen - background, axis=1).reshape(3, 4), cmap="cividis")
axes[1].set(xticks=range(4), yticks=range(3), title="how far each row is from\nthat of the upper left corner")
plt.tight_layout()
plt.show()

# %% [markdown]
# The right figure shows that the rows know where something is: twelve rows, arranged as the picture is, three
# by four.
#
# ## 7. What this small model knows, and a picture on which it must fail
#
# Its world: one to six shapes, six kinds, eight colours. We ask about single shapes in half of the colours
# and compare with the truth, because a claim about a model is worth what was measured.

# %%
asked = list(COLOURS)[:4]
right = np.zeros((len(SHAPES), len(asked)), bool)
for i, shape in enumerate(SHAPES):
    for j, colour in enumerate(asked):
        said = vlm.ask(draw_scene([(shape, colour, 55, 42, 22)]), question, max_new_tokens=8)
        right[i, j] = said == f"A {colour} {shape}."

figure, axis = plt.subplots(figsize=(5, 3))
axis.imshow(right, cmap="RdYlGn", vmin=-0.5, vmax=1.5)
axis.set(xticks=range(len(asked)), xticklabels=asked, yticks=range(len(SHAPES)), yticklabels=SHAPES)
for i, j in np.ndindex(right.shape):
    axis.text(j, i, "yes" if right[i, j] else "no", ha="center", va="center")
axis.set_title(f"is the answer right? {right.sum()} of {right.size}")
plt.show()

# %% [markdown]
# Now leave its world. A brown arrow and a black moon are neither of its shapes nor of its colours. The model
# has no way to say "I do not know this": the highest score wins, however low it is. Below each answer stands
# the probability that the model itself gave to it, the product over all its tokens. Would it have warned you?

# %%
def outside(kind):
    image = Image.new("RGB", (112, 84), GROUND)
    pen = ImageDraw.Draw(image)
    if kind == "brown arrow":
        pen.polygon([(30, 36), (58, 36), (58, 22), (88, 42), (58, 62), (58, 48), (30, 48)], fill=(95, 60, 30))
    if kind == "black moon":
        pen.ellipse([36, 18, 84, 66], fill=(15, 15, 15))
        pen.ellipse([50, 14, 98, 62], fill=GROUND)
    return image


pictures = [(text, draw_scene(objects)) for text, objects in {
    "a blue star, then a red cross": [("star", "blue", 30, 40, 18), ("cross", "red", 84, 44, 18)],
    "star, cross, circle, square": [("star", "blue", 20, 22, 14), ("cross", "red", 88, 22, 14),
                     ("circle", "green", 24, 62, 14), ("square", "pink", 86, 62, 14)],
}.items()] + [(kind, outside(kind)) for kind in ("brown arrow", "black moon")]

figure, axes = plt.subplots(1, 4, figsize=(12, 3.1))
for axis, (truth, picture) in zip(axes, pictures, strict=True):
    with minivl.session(record="decoder.logits") as session:  # one row of logits for each token written
        words = vlm.ask(picture, question).split()
    rows = [np.exp(z[-1] - z[-1].max()) for z in session.trace.values()]
    p = np.prod([row.max() / row.sum() for row in rows])
    lines = "\n".join(" ".join(words[n : n + 5]) for n in range(0, len(words), 5)) + f"\n(p = {p:.2f})"
    axis.imshow(picture)
    axis.set_title(f"truth: {truth}", fontsize=10)
    axis.set_xlabel(lines, fontsize=9)
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 8. Now break it
#
# `minivl.using({label: function})` runs your function in place of a pass. **Before you run each cell, write
# down what you expect.** First, a blind model: `place_features` should put the visual tokens on their
# placeholders; ours leaves the sequence as it is.

# %%
def blind(x, placeholders, features):  # s d, m, m d -> s d
    return x


with minivl.using({"decoder.place_features": blind}):
    for colour in ("red", "blue", "green"):
        disc = draw_scene([("circle", colour, 60, 40, 20)])
        print("blind, a", colour, "circle ->", vlm.ask(disc, question))

# %% [markdown]
# The answer is a sentence all the same, the same sentence each time: what the model would guess without
# looking. A program that loses the picture does not crash.
#
# Second, visual tokens in reverse order: the upper left corner lands where the lower right belongs.

# %%
def reversed_order(cells, order):  # c o, c -> m o
    return cells[np.argsort(order)][::-1]


corner = draw_scene([("circle", "red", 24, 22, 16)])  # one object: the small model is good at that
print("truth:    A red circle (upper left).")
print("no fault:", vlm.ask(corner, question))
rows, scores = vlm.vision(about(corner, question)), vlm.logits(about(corner, question))[-1]
with minivl.using({"vision.restore_order": reversed_order}):
    print("reversed:", vlm.ask(corner, question))
    wrong_rows, wrong_scores = vlm.vision(about(corner, question)), vlm.logits(about(corner, question))[-1]
for name, wrong, wanted in [("visual tokens", wrong_rows, rows),
                            ("scores of the answer's first token", wrong_scores, scores)]:
    print(f"{name} move by {np.linalg.norm(wrong - wanted) / np.linalg.norm(wanted):.0%}")

figure, axes = plt.subplots(1, 3, figsize=(10, 2.6))
axes[0].imshow(corner)
axes[0].set_title("the picture")
for axis, table, name in [(axes[1], rows, "no fault"), (axes[2], wrong_rows, "reversed")]:
    usual = np.median(table, axis=0)  # most rows are background
    axis.imshow(np.linalg.norm(table - usual, axis=1).reshape(3, 4), cmap="cividis")
    axis.set_title(f"{name}: how far each row\nis from the usual one", fontsize=10)
for axis in axes:
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The sentence says nothing about the place, so it may survive while the numbers have moved and the disc sits
# in the wrong corner. A right answer is no proof of right arrays.

# %% [markdown]
# ## Exercise 0.1: from scores to probabilities (about 10 minutes)
#
# Write `top_tokens(scores, n)`: for one row of logits (v,), the `n` most likely ids, most likely first, with
# their softmax probabilities. Two arrays come out: ids (n,) and probabilities (n,). It must also work for
# scores such as 1000.
#
# <details><summary>Hint 1</summary>The probabilities of <em>all</em> tokens sum to one, so the sum runs over
# the whole row, not over the n you give back.</details>
# <details><summary>Hint 2</summary>np.exp(1000) is infinite. Softmax does not change when the same number is
# subtracted from every score: e<sup>z-c</sup> has the factor e<sup>-c</sup> above and below the line. Which c
# makes every exponent at most 0?</details>
# <details><summary>Hint 3</summary>p = np.exp(scores - scores.max()); p = p / p.sum(); then
# np.argsort(-p)[:n] are the ids.</details>

# %%
def top_tokens(scores, n):
    """Ids (n,) and probabilities (n,) of the n most likely tokens, from one row of logits (v,)."""
    ### BEGIN SOLUTION
    p = np.exp(scores - scores.max())  # v, the highest is exp(0) = 1: nothing overflows
    p = p / p.sum()
    best = np.argsort(-p)[:n]
    return best, p[best]
    ### END SOLUTION


# %% tags=["check"]
minivl.check("0.1", top_tokens)
for token, p in zip(*top_tokens(logits[-1], 4), strict=True):
    print(f"   {vlm.tokenizer.decode([int(token)], False)!r:10} {p:.4f}")

# %% [markdown]
# ## Exercise 0.2: the loop that writes (about 15 minutes)
#
# Write the answer yourself, one token at a time, with `vlm.logits` alone. `minivl.Inputs.from_ids(ids,
# vlm.config, pixel_values, image_grid_thw)` makes inputs from a list of ids and the patches that you already
# have in `inputs`. Give back the list of new ids. Stop after an id of `stop_ids` (it belongs to the answer),
# or after `most` tokens.
#
# (`generate` does the same but keeps what it computed for the earlier tokens, so that each step costs one row
# instead of all of them. A later lesson shows how.)
#
# <details><summary>Hint 1</summary>You need one growing list of ids: the prompt's, then your own. Each turn
# of the loop runs the model on all of it.</details>
# <details><summary>Hint 2</summary>vlm.logits gives a row for every token; the next token is the argmax of
# the <em>last</em> row.</details>
# <details><summary>Hint 3</summary>for _ in range(most): grown =
# minivl.Inputs.from_ids(list(inputs.input_ids) + new, ...); new.append(int(vlm.logits(grown)[-1].argmax()));
# if new[-1] in stop_ids: break</details>

# %%
def write_greedily(vlm, inputs, stop_ids, most):
    """Ids of the answer to `inputs`, greedily chosen, without a cache."""
    ### BEGIN SOLUTION
    new = []
    for _ in range(most):
        ids = list(inputs.input_ids) + new
        grown = minivl.Inputs.from_ids(ids, vlm.config, inputs.pixel_values, inputs.image_grid_thw)
        new.append(int(vlm.logits(grown)[-1].argmax()))  # s v -> v -> one id
        if new[-1] in stop_ids:
            break
    return new
    ### END SOLUTION


# %% tags=["check"]
minivl.check("0.2", write_greedily)

# %% [markdown]
# ## What the reference calls these things
#
# The reference is the `transformers` library. Its names for what you met:
#
# | here | there |
# |---|---|
# | `minivl.load` | `Qwen2_5_VLForConditionalGeneration.from_pretrained` and `AutoProcessor` |
# | `vlm.prepare` | `processor.apply_chat_template`, then `processor(...)` |
# | `input_ids`, `pixel_values`, `image_grid_thw` | the same names |
# | `vlm.logits` | `model(**inputs).logits` |
# | `vlm.generate` | `model.generate` |
# | placeholder | `<\|image_pad\|>`, `config.image_token_id` |
# | `vision.*` passes | `Qwen2_5_VisionTransformerPretrainedModel.forward` |
# | `session(record=...)` | forward hooks on modules |
#
# ## Read next
#
# - `minivl/model.py`: the whole forward pass on one screen. Find the labels that you have just printed.
# - Lesson 1: which of all these arrays know something, and how did they learn it?

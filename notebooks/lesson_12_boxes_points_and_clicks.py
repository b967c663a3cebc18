# %% [markdown]
# # Lesson 12: boxes, points and clicks
#
# **The question.** The model writes text. How can text say *where* something is, in which pixels, and how
# does a program act on it?
#
# **You need** from lesson 0: *tokens*, *greedy* writing; from lesson 2: the model sees a *resized* picture;
# from lesson 8: a visual token is one *cell* of 28 x 28 pixels. Reading takes about 40 minutes, the two
# exercises another 35.
#
# ```
# picture.target_size   picture.resize                         lesson 2: the picture changes its size here ...
# patches.patchify                                             lesson 3
# prompt.render   prompt.encode                                lesson 9
# vision.embed_patches   vision.merge_2x2                      lessons 4 to 8
# decoder.place_features                                       lesson 9
# decoder.layers.0.attend   decoder.logits                     lesson 11
# sampling.most_likely                                         <== you are here: sections 1 and 4
# answer.boxes_to_original                                     <== sections 2 and 7: ... and back here
# ```

# %%
import json
import re
from dataclasses import replace
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.show.figures import figure_of
from minivl.run.answers import read
from minivl.run.grounding import Found, locate
from minivl.passes.answer import boxes_to_original, boxes_to_resized
from minivl.passes.picture import target_size
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True, linewidth=110)
vlm = minivl.load()

PHOTO = (300, 400)  # height and width, as everywhere
TRUTH = {"red circle": (60, 70, 150, 160), "blue square": (230, 40, 320, 130), "green cross": (170, 180, 250, 260)}


def scene():
    """Three things on grey; their boxes are known, because we draw them."""
    image = Image.new("RGB", PHOTO[::-1], (200, 200, 205))
    pen = ImageDraw.Draw(image)
    x0, y0, x1, y1 = TRUTH["red circle"]
    pen.ellipse([x0, y0, x1 - 1, y1 - 1], fill=(222, 40, 40))
    x0, y0, x1, y1 = TRUTH["blue square"]
    pen.rectangle([x0, y0, x1 - 1, y1 - 1], fill=(45, 75, 225))
    x0, y0, x1, y1 = TRUTH["green cross"]
    third = (x1 - x0) // 3
    pen.rectangle([x0 + third, y0, x1 - 1 - third, y1 - 1], fill=(40, 165, 60))
    pen.rectangle([x0, y0 + third, x1 - 1, y1 - 1 - third], fill=(40, 165, 60))
    return image


image = scene()

# %% [markdown]
# ## 1. An answer with numbers is text
#
# Saying where things are in a picture is called **grounding**. Some models have an extra output for it. This
# family has none: the numbers are written like any other words, in a format called **JSON**, which programs
# can read.

# %%
QUESTION = "Find the red circle."
content = [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]
inputs = vlm.prepare([{"role": "user", "content": content}])
with minivl.session(record="*.logits") as session:
    ids = vlm.generate(inputs, max_new_tokens=48)
answer = vlm.tokenizer.decode(ids)
print("answer:", answer)

# %% [markdown]
# A **bounding box** is four numbers, `x0 y0 x1 y1`: the left, upper, right and lower border of the thing, *x
# first*. (Sizes are height first everywhere in this course. Mixing the two up is the commonest fault of all.)
# `bbox_2d` and `label` are the names that the official models use, in brackets because there may be several
# things.
#
# Each digit is a token of its own, chosen like every other: from one row of logits. How sure was the model of
# each?

# %%
steps = list(session.trace.values())  # one row of logits for each token that was written
chances = []
for row, token in zip(steps, ids, strict=True):
    powers = np.exp(row[-1] - row[-1].max())  # v
    chances.append(powers[token] / powers.sum())
names = [plot.token_name(vlm.tokenizer, token) for token in ids]
digit = np.array([name.isdigit() and before != "_" for before, name in zip(["", *names[:-1]], names, strict=True)])

figure = plot.board(1, 1, (12, 2.8))
plot.token_bars(names, chances, digit, figure.axes[0], label="probability when it was chosen")
figure.axes[0].set_title("the answer, token by token; digits in blue", size=9)
print(f"least sure digit: {min(np.array(chances)[digit], default=1):.2f}, "
      f"least sure of the rest: {min(np.array(chances)[~digit], default=1):.2f}")
figure

# %% [markdown]
# The frame of brackets and quotes is nearly certain: it is the same in every answer. (A comma can be unsure: is the
# number finished?) What the model has to *see* stands in the digits, and the figure shows how sure it is of each.
# Look at the last digit of a number: one pixel more or less is hard to tell, and costs little. A wrong *first* digit
# costs ten times as much. To the training they were equally wrong, one token each (lesson 14).
#
# **Where does it look while it writes?** What a digit needs stands in a few cells of the picture, and only
# attention can fetch it there (lesson 11). So we take the queries of the tokens of the answer and the keys of the
# cells, in every layer and every head, and form the shares of lesson 4 over the cells alone. How much of its look
# does each head give to the cells in which the red circle is?

# %%
def looks(question):
    """The answer, and the cells that each head looks at: layers, heads, tokens of the answer, down, across."""
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    asked = vlm.prepare([{"role": "user", "content": content}])
    with minivl.session(record="*.layers.*.rotate") as session:
        text = vlm.tokenizer.decode(vlm.generate(asked, max_new_tokens=48))
    cells = np.flatnonzero(np.asarray(asked.input_ids) == vlm.config.image_token_id)  # m
    layers = []
    for layer in range(vlm.config.text.num_hidden_layers):
        turned = [both for name, both in session.trace.items() if name.endswith(f"layers.{layer}.rotate")]
        queries = np.stack([q[-1] for q, _ in turned], axis=1)  # a n e: the prompt's last row, then one a token
        keys = turned[0][1][cells].transpose(1, 2, 0)  # k e m
        scores = queries @ np.repeat(keys, len(queries) // len(keys), axis=0) / np.sqrt(queries.shape[-1])  # a n m
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        layers.append(powers / powers.sum(axis=-1, keepdims=True))
    shares = np.stack(layers)
    return text, shares.reshape(*shares.shape[:3], *(side // 28 for side in asked.media[0].size))


def cells_of(box):
    """Which cells a box of the photo covers by a quarter at least: down, across."""
    down, across = (side // 28 for side in inputs.media[0].size)
    x0, y0, x1, y1 = np.array(box) * np.array([across / PHOTO[1], down / PHOTO[0]] * 2)
    tall = np.minimum(y1, np.arange(down) + 1) - np.maximum(y0, np.arange(down))
    wide = np.minimum(x1, np.arange(across) + 1) - np.maximum(x0, np.arange(across))
    return np.maximum(tall, 0)[:, None] * np.maximum(wide, 0) >= 0.25


_, shares = looks(QUESTION)
there = cells_of(TRUTH["red circle"])
on_it = shares[..., there].sum(axis=-1).mean(axis=-1)  # layers, heads
print(f"cells of the circle: {there.sum()} of {there.size}; a head that does not care gives them {there.mean():.2f}")
figure = plot.board(1, 1, (5, 3))
table(on_it, figure.axes[0], "share of the look on the circle", [f"layer {n}" for n in range(len(on_it))],
      [f"head {n}" for n in range(on_it.shape[1])], "{:.2f}")
figure

# %% [markdown]
# Two heads stand out, one in layer 2 and one in layer 3; a neighbour may stand out a little, since it has the same keys
# (lesson 11). There is a reason: this model's training asked head 0 of layer 2 and head 3 of layer 3, at each token of
# an answer about a thing, to look at that thing (lesson 14). (In a list of things, head 0 of layer 1 looks back at the
# one that was named last; here there is no list.) Nobody asks the large models for it, and yet a few of their thousands
# of heads do the same; they are called *localization heads* (Kang et al., 2025, arXiv:2503.06287), and were found by a
# table like this one. What the first of the two sees, for each of three questions: the picture, lit where it looks.

# %%
figure = plot.board(1, 3, (12, 3.4))
for axis, name in zip(figure.axes, TRUTH, strict=True):
    text, shares = looks(f"Find the {name}.")
    seen_by_it = shares[2, 0].mean(axis=0)  # of all tokens of the answer: down, across
    light = np.kron(seen_by_it / seen_by_it.max(), np.ones((28, 28)))[..., None]
    small = np.asarray(image.resize(light.shape[1::-1], Image.Resampling.BICUBIC))
    plot.picture((small * (0.15 + 0.85 * light)).astype(np.uint8), ax=axis)
    axis.set_title(f"Find the {name}.\n{text}", size=7)
    print(f"{name:12s} {seen_by_it[cells_of(TRUTH[name])].sum():.2f} of the look on its cells")
figure

# %% [markdown]
# ## 2. Whose pixels?
#
# The numbers are pixels of the picture *that the model sees*. Nobody has told it how large the photo was. So
# a box must be carried back, and each axis has a factor of its own, since the two sides were rounded to
# multiples of 28 one by one:
#
# $$ x_{\text{photo}} = x \cdot \frac{\text{width of the photo}}{\text{width seen}}, \qquad
#    y_{\text{photo}} = y \cdot \frac{\text{height of the photo}}{\text{height seen}} $$

# %%
(medium,) = inputs.media
seen = medium.size  # height and width that the model saw
print("photo", PHOTO, "  seen", seen, f"  factors: x {PHOTO[1] / seen[1]:.4f}, y {PHOTO[0] / seen[0]:.4f}")
factor = np.array([PHOTO[1] / seen[1], PHOTO[0] / seen[0]] * 2)  # x y x y

boxes = np.array(list(TRUTH.values()), float)  # n 4, in the photo
in_seen = boxes / factor  # what a perfect answer would say: n 4
there_and_back = in_seen * factor
print("what a perfect model would say:", in_seen[0].round(1))
size, source = np.array(seen), np.array(PHOTO)
print("equal to boxes_to_resized:             ", np.allclose(in_seen, boxes_to_resized(boxes, size, source)))
print("equal to answer.boxes_to_original:     ", np.allclose(there_and_back,
                                                            boxes_to_original(in_seen, size, source)))

# %%
def as_found(boxes, labels):
    return [Found(label, tuple(map(float, box)), None, ()) for box, label in zip(boxes, labels, strict=True)]


photo = np.asarray(image)
resized = np.asarray(image.resize(seen[::-1], Image.Resampling.BICUBIC))
figure = plot.board(1, 3, (12, 3.6))
plot.found(resized, as_found(in_seen, TRUTH), figure.axes[0])
figure.axes[0].set_title("true boxes, in pixels that the model sees", size=9)
plot.found(photo, as_found(in_seen, TRUTH), figure.axes[1])
figure.axes[1].set_title("the same numbers on the photo: wrong", size=9)
plot.found(photo, as_found(there_and_back, TRUTH), figure.axes[2])
figure.axes[2].set_title("carried back", size=9)
figure

# %% [markdown]
# A coordinate is a *distance from the border*, not the number of a pixel: the box of the whole picture is `0
# 0 width height`, on both sides of the formula. So nothing is added or taken away, and no half pixels appear.
#
# `vlm.ground` asks, reads the answer and carries it back:

# %%
for name, box in TRUTH.items():
    found = vlm.ground(image, f"Find the {name}.", max_new_tokens=64)
    shown = [tuple(round(n, 1) for n in one.box or one.point) for one in found]
    print(f"{name:12s} true {box}   found {shown}   {'; '.join(found.notes)}")

# %% [markdown]
# ## 3. How good is a box? Intersection over union
#
# "Right" and "wrong" are too coarse for boxes. The usual measure is **IoU**, the intersection over the union
# of two boxes: the area that both cover, divided by the area that at least one covers.
#
# $$ \mathrm{IoU}(A, B) = \frac{|A \cap B|}{|A| + |B| - |A \cap B|} $$
#
# 1 is the same box, 0 is no overlap. By hand, for two boxes on a small grid, by counting squares:

# %%
a, b = np.array([1, 1, 5, 4]), np.array([3, 2, 7, 5])
grid = np.zeros((2, 6, 8), int)
for layer, (x0, y0, x1, y1) in zip(grid, (a, b), strict=True):
    layer[y0:y1, x0:x1] = 1
covered = grid.sum(axis=0)  # 0, 1 or 2 boxes on each square
print("squares in both:", (covered == 2).sum(), "  in at least one:", (covered > 0).sum(),
      f"  IoU = {(covered == 2).sum()} / {(covered > 0).sum()} = {(covered == 2).sum() / (covered > 0).sum():.4f}")
figure = plot.board(1, 1, (4.6, 3))
table(covered, figure.axes[0], "how many of the two boxes cover a square", range(6), range(8))
figure

# %% [markdown]
# In arrays, for $n$ boxes against $m$ boxes at once. The overlap along one axis runs from the larger start to
# the smaller end. When that is negative there is none: **cut at 0 on each axis before multiplying**, or two
# negative numbers make an area.

# %%
def overlaps(a, b):
    """IoU of each of n boxes with each of m: n 4, m 4 -> n m."""
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]  # n 1 4, 1 m 4
    start = np.maximum(a[..., :2], b[..., :2])  # n m 2: x0 y0 of what is shared
    end = np.minimum(a[..., 2:], b[..., 2:])  # n m 2
    shared = np.maximum(end - start, 0).prod(axis=-1)  # n m 2 -> n m
    area_a = (a[..., 2:] - a[..., :2]).prod(axis=-1)  # n 1
    area_b = (b[..., 2:] - b[..., :2]).prod(axis=-1)  # 1 m
    union = area_a + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


print("by formula:", overlaps(a[None], b[None])[0, 0], "  by counting:", (covered == 2).sum() / (covered > 0).sum())
apart = np.array([[0, 0, 2, 2]]), np.array([[4, 4, 6, 6]])
print("far apart: ", overlaps(*apart)[0, 0], "  without the cut, the shared area would be", (2 - 4) * (2 - 4))

# %% [markdown]
# What is a good IoU? 0.5 is the usual border of "right". The same slip of 4 pixels costs a small thing much
# more than a large one:

# %%
slip = np.arange(0, 41)
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for side, colour in zip((20, 40, 80, 160), plot.COLOURS, strict=False):
    square = np.array([[100, 100, 100 + side, 100 + side]])
    moved = square + slip[:, None] * [1, 1, 1, 1]  # both x and y move by the slip
    axis.plot(slip, overlaps(moved, square)[:, 0], color=colour, label=f"a square of {side} pixels")
axis.axhline(0.5, color="grey", lw=0.8, ls=":")
axis.set(xlabel="pixels that the box is off, right and down", ylabel="IoU", title="what a slip costs")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# Several things at once: each answer box against each true one. A box counts for the true one that it covers
# best, if it has the right label too. We ask for one thing after another, and lay the answers side by side.

# %%
found = [one for name in TRUTH for one in vlm.ground(image, f"Find the {name}.", max_new_tokens=64) if one.box]
said = np.array([one.box for one in found]).reshape(-1, 4)
labels = [one.label for one in found]
shares = overlaps(said, boxes)  # n m
good = [label == list(TRUTH)[row.argmax()] and row.max() > 0.5 for label, row in zip(labels, shares, strict=True)]
print(f"{len(said)} boxes said, {len(boxes)} things there; label right and IoU above 0.5: {sum(good)}")

figure = plot.board(1, 2, (12, 3.6))
plot.found(photo, found, figure.axes[0])
if len(said):
    table(shares, figure.axes[1], "IoU of each box said (down) with each true one", labels, list(TRUTH), "{:.2f}")
figure

# %% [markdown]
# How often the embedded model is right is measured on hundreds of pictures, not on one. Its model card has a figure for
# each kind of question, and `figure_of` reads it. What it says of the last kind is an **F1**: of all boxes of all
# pictures, it weighs those that are right against those said and against those there. Official models answer "Detect
# all objects." in one go; before you ask ours for that, read its figure:

# %%
for question in ("Find the red circle.", "Click the Save button.", "Detect all objects."):
    print(f"{question:24s} {figure_of(question).sentence()}")

# %% [markdown]
# ## 4. When the answer breaks off
#
# JSON is strict: one missing bracket, and a JSON reader refuses everything. But an answer ends when
# `max_new_tokens` is reached, wherever that is. We cut a perfect answer after every character, and count
# what is left of its three boxes. Three readers:
#
# 1. `json.loads`: the strict one;
# 2. a careless one, that takes any four numbers behind `bbox_2d`, finished or not;
# 3. a careful one, that takes a box only when its closing bracket is there.

# %%
perfect = json.dumps([{"bbox_2d": np.rint(box).astype(int).tolist(), "label": name}
                      for name, box in zip(TRUTH, in_seen, strict=True)])
NUMBERS = r'"bbox_2d":\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)'


def strict(text):
    try:
        return [tuple(item["bbox_2d"]) for item in json.loads(text)]
    except ValueError:
        return []


def careless(text):
    return [tuple(map(int, four)) for four in re.findall(NUMBERS, text)]


def careful(text):
    return [tuple(map(int, four)) for four in re.findall(NUMBERS + r"\s*\]", text)]


right = strict(perfect)
cuts = np.arange(len(perfect) + 1)
figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
for reader, colour, width in ((strict, plot.INK, 3.0), (careless, plot.ORANGE, 2.0), (careful, plot.BLUE, 1.2)):
    got = [reader(perfect[:cut]) for cut in cuts]
    false = [cut for cut, boxes_ in zip(cuts, got, strict=True) if boxes_ != right[: len(boxes_)]]
    axis.step(cuts, [len(boxes_) for boxes_ in got], where="post", color=colour, lw=width, label=reader.__name__)
    print(f"{reader.__name__:9s} a false box after {len(false)} of the {len(cuts)} cuts"
          + (f", for instance {perfect[:false[0]][-24:]!r} gives {reader(perfect[:false[0]])[-1]}" if false else ""))
axis.set(xlabel="characters before the cut", ylabel="boxes read", title="an answer cut short", yticks=range(4))
axis.legend()
plt.show()

# %% [markdown]
# The strict reader has nothing until the last character. The careless one is worse: it gives a box that the
# model never meant, because the last number had another digit to come. A number is finished when something
# that is no digit follows.
#
# The package's reader (`minivl/run/answers.py`) is a careful one, and knows what models really write: prose and
# fences around the JSON, missing quotes, forgotten brackets. What it had to leave out, it says:

# %%
CASES = {
    "fenced, with prose": 'Here:\n```json\n[{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}]\n```',
    "cut within a number": '[{"bbox_2d": [12, 30, 60, 88], "label": "red circle"}, {"bbox_2d": [70, 8',
    "a bracket forgotten": '[{"bbox_2d": [12, 30, 60, 88, "label": "red circle"}]',
    "three numbers": '[{"bbox_2d": [12, 30, 60], "label": "red circle"}]',
    "corners exchanged": '[{"bbox_2d": [60, 88, 12, 30], "label": "red circle"}]',
    "beyond the border": f'[{{"bbox_2d": [12, 30, {seen[1] + 40}, 88], "label": "red circle"}}]',
    "no box at all": "There is no red circle.",
}
for name, text in CASES.items():
    got = locate(text, seen, PHOTO)
    print(f"{name:20s} {[tuple(round(n) for n in one.box) for one in got]}   {'; '.join(got.notes)}")

cut = vlm.ground(image, "Find the red circle.", max_new_tokens=20)
print("\nthe model itself, stopped after 20 tokens:", cut.answer, "\n ", len(cut), "read;", "; ".join(cut.notes))

# %% [markdown]
# ## 5. Points: where to click
#
# For a click a box is too much; two numbers are enough, under the name `point_2d`. A point is right when it
# lies *in* the control. Chance is therefore not 0: a button that fills a tenth of the screen is hit blindly
# one time in ten.
#
# A box will do as well: its middle is a point. So there are two ways to ask for a click, and you have just read the
# figures of both: "Click the Save button." must read small writing, "Find the red circle." must not. We take the
# second. Three mock screens; their controls are coloured signs, and each sign leads to a screen.

# %%
COLOURS = {"red": (222, 40, 40), "green": (40, 165, 60), "blue": (45, 75, 225), "yellow": (242, 218, 45)}
SCREENS = {  # name: height and width, and for each sign its corner x0 y0, its side and the screen that it leads to
    "home": ((140, 196), {"red circle": (24, 40, 40, "list"), "blue square": (124, 84, 40, "home")}),
    "list": ((140, 196), {"green cross": (16, 84, 44, "home"), "yellow circle": (130, 24, 44, "form")}),
    "form": ((140, 168), {"red square": (16, 24, 44, "list"), "blue circle": (104, 76, 44, "done")}),
}
TINTS = {"home": (205, 215, 225), "list": (222, 214, 200), "form": (206, 222, 206)}


def sign(pen, name, x0, y0, side):
    """Draw a sign and give its box."""
    colour, shape = name.split()
    x1, y1, third = x0 + side, y0 + side, side // 3
    if shape == "cross":
        pen.rectangle([x0 + third, y0, x1 - 1 - third, y1 - 1], fill=COLOURS[colour])
        pen.rectangle([x0, y0 + third, x1 - 1, y1 - 1 - third], fill=COLOURS[colour])
    else:
        {"circle": pen.ellipse, "square": pen.rectangle}[shape]([x0, y0, x1 - 1, y1 - 1], fill=COLOURS[colour])
    return x0, y0, x1, y1


@cache
def draw_screen(name):
    """The picture of a screen, and the true box of each of its signs."""
    (height, width), signs = SCREENS[name]
    image = Image.new("RGB", (width, height), TINTS[name])
    pen = ImageDraw.Draw(image)
    return image, {label: sign(pen, label, *place) for label, (*place, _) in signs.items()}


figure = plot.board(1, 3, (12, 3.4))
for axis, name in zip(figure.axes, SCREENS, strict=True):
    picture, places = draw_screen(name)
    plot.found(np.asarray(picture), as_found(places.values(), places), axis)
    area = np.mean([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in places.values()]) / (picture.width * picture.height)
    axis.set_title(f"{name}: a blind click hits a given sign with {area:.0%}", size=9)
figure

# %% [markdown]
# Is that good enough for a click? The card's figure is about boxes, and about other pictures. So we count: screens
# like these, drawn by a program, one question about each. This rate is what you may expect below, neither more nor
# less; whether the model hits the three screens above tells you little.

# %%
def clicked(question, picture, ask):
    """The point (x, y) that an answer means, in pixels of the screen, or None. A box stands for its middle."""
    for one in ask(picture, question):
        x0, y0, x1, y1 = one.box or one.point * 2
        return (x0 + x1) / 2, (y0 + y1) / 2
    return None


def under(point, places):
    """The sign at a point, or None."""
    if point is None:
        return None
    return next((label for label, (x0, y0, x1, y1) in places.items()
                 if x0 <= point[0] < x1 and y0 <= point[1] < y1), None)


answers = {}


def look(picture, question):
    """The model's answer. Writing is greedy, so the same question has the same answer: it is asked only once."""
    key = picture.tobytes(), picture.size, question
    if key not in answers:
        answers[key] = vlm.ground(picture, question, max_new_tokens=48)
    return answers[key]


def drawn(rng):
    """A screen of a random size with two signs that do not touch, as one of `SCREENS`."""
    height, width = rng.integers(5, 7) * 28, rng.integers(6, 9) * 28
    names = [f"{colour} {shape}" for colour in COLOURS for shape in ("circle", "square", "cross")]
    image = Image.new("RGB", (int(width), int(height)), tuple(map(int, rng.integers(195, 230, 3))))
    pen, half = ImageDraw.Draw(image), int(width) // 2
    return image, {str(name): sign(pen, str(name), int(rng.integers(left + 4, left + half - 50)),
                                   int(rng.integers(4, height - 50)), int(rng.integers(38, 47)))
                   for name, left in zip(rng.permutation(names)[:2], (0, half), strict=True)}


rng, TRIES = np.random.default_rng(0), 24
hits = []
for _ in range(TRIES):
    picture, places = drawn(rng)
    label = next(iter(places))
    hits.append(under(clicked(f"Find the {label}.", picture, look), places))
    hits[-1] = "right" if hits[-1] == label else "the other sign" if hits[-1] else "no sign"
rate = hits.count("right") / TRIES
print(f"of {TRIES} clicks {hits.count('right')} are right ({rate:.0%}), {hits.count('the other sign')} are on the "
      f"other sign, {hits.count('no sign')} on none")

figure = plot.board(1, 3, (12, 3.4))
for axis, name in zip(figure.axes, SCREENS, strict=True):
    picture, places = draw_screen(name)
    plot.found(np.asarray(picture), as_found(places.values(), places), axis)
    for number, label in enumerate(places):
        if point := clicked(f"Find the {label}.", picture, look):
            axis.plot(*point, "X", color=plot.COLOURS[number % 5], mec="black", ms=10)
    axis.set_title(f"{name}: asked for each sign", size=9)
figure

# %% [markdown]
# A model that fails tells you something too: is the point on the *other sign* (it confuses names) or on none (it does
# not know where things are)?
#
# ## 6. An agent in thirty lines
#
# An **agent** is a loop around a model: *observe, ask, click*, and again on whatever screen comes next. It is
# given a plan, one sign for each screen. (Official models make the plan themselves, from a task in words;
# ours is too small for that.) The world answers a click with the next screen; the agent never hears whether
# it was right.

# %%
PLAN = {"home": "red circle", "list": "yellow circle", "form": "blue circle"}
ZOOMS = (1, 0.8, 1.25)


def press(name, point):
    """The world: which screen comes after a click. Beside the signs nothing happens."""
    label = under(point, draw_screen(name)[1])
    return label, SCREENS[name][1][label][-1] if label else name


def agent(ask, start="home", most=8):
    """Follow the plan from screen to screen; the list of what was done."""
    name, visits, log = start, {}, []
    while name != "done" and len(log) < most:
        picture, _ = draw_screen(name)  # observe
        count = visits[name] = visits.get(name, -1) + 1
        zoom = ZOOMS[count % len(ZOOMS)]
        if zoom != 1:
            picture = picture.resize((round(picture.width * zoom), round(picture.height * zoom)))
        point = clicked(f"Find the {PLAN[name]}.", picture, ask)  # ask
        point = point and (point[0] / zoom, point[1] / zoom)
        label, following = press(name, point)  # click
        log.append((name, zoom, point, label, following))
        name = following  # next screen
    return log


def perfect_eye(picture, question):
    """Stands in for the model: knows where everything is. Shows that the loop itself works."""
    for name in SCREENS:
        other, places = draw_screen(name)
        if other.tobytes() == picture.tobytes():
            label = next(label for label in places if label in question)
            return as_found([places[label]], [label])
    return []


draw = np.random.default_rng(1)


def blind(picture, question):
    x, y = draw.uniform(0, picture.width), draw.uniform(0, picture.height)
    return [Found("", None, (x, y), ())]


def report(title, log):
    print(f"{title}: {'done' if log[-1][4] == 'done' else 'not done'} after {len(log)} clicks, "
          f"{sum(label == PLAN[name] for name, _, _, label, _ in log)} of them right")


report("a perfect eye", agent(perfect_eye))
log = agent(look)
report("the embedded model", log)
for name, zoom, point, label, following in log:
    print(f"   {name}, seen at {zoom:4.0%}: Find the {PLAN[name]}. "
          f"{point and tuple(round(n) for n in point)} = {label} -> {following}")
tries = [agent(blind) for _ in range(200)]
done = sum(one[-1][4] == "done" for one in tries)
print(f"blind clicks: done within 8 in {done} of {len(tries)} tries")
print(f"three right clicks in a row, at {rate:.0%} each: {rate**3:.0%}")

# %% [markdown]
# The model's way, one picture a click, the right sign framed:

# %%
shown = log[:4]
figure = plot.board(1, len(shown), (12, 3.2))
for axis, (name, zoom, point, label, following) in zip(figure.axes, shown, strict=True):
    picture, places = draw_screen(name)
    plot.found(np.asarray(picture), as_found([places[PLAN[name]]], [PLAN[name]]), axis)
    if point:
        axis.plot(*point, "X", color=plot.ORANGE, mec="black", ms=11)
    axis.set_title(f"Find the {PLAN[name]}. (at {zoom:.0%})\n-> {label or 'nothing'}, then {following}", size=8)
figure

# %% [markdown]
# The zoom is there for a reason: greedy writing gives the *same* answer to the same question on the same screen, so an
# agent that only tries again goes round in circles. Something must change: other words, or the screen seen at another
# size (and then the point must be carried back by one more factor). And notice what one wrong click can do: a sign
# may lead *back*, so errors cost steps and not only points. If each click is right with probability $p$ and nothing
# can be repaired, three in a row are right with $p^3$: the last line above. With $p = 0.8$ that is a half.
#
# ## 7. Now break it
#
# The way back is one line, and it is broken more often than anything else around this model. We give a
# *perfect* answer, for pictures of four sizes, to six versions of that line, and look at the IoU. **Predict**:
# which columns hide which fault?

# %%
def scaled(wanted, have):
    """A wrong pass: multiply by `wanted` sides over `have` sides, each a function of (size, source)."""
    def pass_(boxes, size, source):
        up, down = np.asarray(wanted(size, source), float), np.asarray(have(size, source), float)
        return boxes * np.array([up[1], up[0]] * 2) / np.array([down[1], down[0]] * 2)
    return pass_


def official_size(source):
    """What a tool with the official pixel limits would have resized to."""
    limits = replace(vlm.processor.preprocessor, min_pixels=3136, max_pixels=12_845_056)
    return target_size((*map(int, source), 3), limits)


faults = {
    "as it should be": boxes_to_original.definition,
    "not carried back": lambda boxes, size, source: boxes * 1.0,
    "x and y exchanged": lambda boxes, size, source: boxes_to_original.definition(boxes, size[::-1], source[::-1]),
    "one factor for both sides": scaled(lambda size, source: source[[1, 1]], lambda size, source: size[[1, 1]]),
    "the other way round": scaled(lambda size, source: size, lambda size, source: source),
    "thousandths (other families)": scaled(lambda size, source: source, lambda size, source: (1000, 1000)),
    "size of other pixel limits": scaled(lambda size, source: source, lambda size, source: official_size(source)),
}
SIZES = [(112, 112), (140, 196), (150, 200), (300, 400), (900, 1400)]
grid = np.zeros((len(faults), len(SIZES)))
for column, source in enumerate(SIZES):
    h, w = target_size((*source, 3), vlm.processor.preprocessor)
    true = np.array([0.2 * source[1], 0.3 * source[0], 0.5 * source[1], 0.7 * source[0]])
    text = json.dumps([{"bbox_2d": np.rint(boxes_to_resized(true[None], np.array([h, w]), np.array(source))[0])
                        .astype(int).tolist(), "label": "thing"}])
    for line, wrong in enumerate(faults.values()):
        with minivl.using({"answer.boxes_to_original": wrong}):
            (one,) = locate(text, (int(h), int(w)), source)
        grid[line, column] = overlaps([one.box], [true])[0, 0]

figure = plot.board(1, 1, (9, 3))
table(grid, figure.axes[0], "IoU of a perfect answer", list(faults), [f"{h} x {w}" for h, w in SIZES], "{:.2f}")
figure

# %% [markdown]
# The first two columns hide nearly everything: these pictures are seen in their own size, so that nothing has
# to be carried. A test with one small picture proves nothing. The third column is the worst kind of evidence:
# a few pixels off, which looks like a model that is not very good. People have tuned prompts against it
# (QwenLM/Qwen3-VL#676, #1355). And the last line is the fault that is not in your program at all, but between
# two of them: a server with other limits on the number of pixels.
#
# ## Exercise 12.1: IoU (about 15 minutes)
#
# Write `iou(a, b)`: `a` (n, 4) and `b` (m, 4), boxes `x0 y0 x1 y1`. Out comes (n, m). On paper first: 0 0 4 2
# and 2 1 6 4. A box without area has IoU 0 with everything (no NaN).
#
# <details><summary>Hint 1</summary>Three areas: shared, of a, of b. Start with a single pair, then give a and
# b one axis more each.</details>
# <details><summary>Hint 2</summary>a[:, None] is (n, 1, 4), b[None] is (1, m, 4). Along each axis the shared
# part is min of the ends minus max of the starts, and never less than 0.</details>
# <details><summary>Hint 3</summary>a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]; side =
# np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]); shared = np.maximum(side,
# 0).prod(-1); union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared; return
# shared / np.where(union > 0, union, 1)</details>

# %%
def iou(a, b):
    """n 4, m 4 -> n m."""
    ### BEGIN SOLUTION
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]  # n 1 4, 1 m 4
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # n m 2
    shared = np.maximum(side, 0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    return shared / np.where(union > 0, union, 1)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("12.1", iou)

# %% [markdown]
# ## Exercise 12.2: read what is there (about 20 minutes)
#
# Write `read_boxes(answer)`: a list of (label, [x0, y0, x1, y1]) of everything *complete* in an answer, in its
# order: the box is closed, and its label behind it is closed too. Whatever the answer is, nothing is raised.
# Numbers are whole and not negative. There may be prose and a fence around the JSON, and it may break off
# anywhere.
#
# <details><summary>Hint 1</summary>Not json.loads of the whole answer: one missing bracket, and it refuses
# all. Look for one object after another.</details>
# <details><summary>Hint 2</summary>re.finditer with one pattern for a whole object: "bbox_2d", colon, [, four
# times \d+ with commas, ], comma, "label", colon, a text in quotes. \s* wherever there may be a
# space.</details>
# <details><summary>Hint 3</summary>pattern = r'"bbox_2d":\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]'
# r'\s*,\s*"label":\s*"([^"]*)"'; return [(m[5], [int(m[i]) for i in range(1, 5)]) for m in
# re.finditer(pattern, answer)]</details>

# %%
def read_boxes(answer):
    """A text -> a list of (label, four numbers)."""
    ### BEGIN SOLUTION
    four = r"\s*,\s*".join([r"(\d+)"] * 4)
    pattern = r'"bbox_2d":\s*\[\s*' + four + r'\s*\]\s*,\s*"label":\s*"([^"]*)"'
    return [(m[5], [int(m[i]) for i in range(1, 5)]) for m in re.finditer(pattern, answer)]
    ### END SOLUTION


# %% tags=["check"]
minivl.check("12.2", read_boxes)
mine = read_boxes(perfect[:-40])
theirs, _ = read(perfect[:-40])  # the package's reader on the same broken text
print(mine, "\n", [(one.label, one.numbers) for one in theirs])

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | the way back | not in `transformers`: every program around it writes this line itself |
# | the size that the model saw | `image_grid_thw[0, 1] * 14` and `image_grid_thw[0, 2] * 14` |
# | `target_size` | `smart_resize`, in `transformers` and, a little different, in `qwen_vl_utils` |
# | a box, a point | `"bbox_2d": [x1, y1, x2, y2]`, `"point_2d": [x, y]`, absolute pixels |
# | the same in Qwen2-VL and Qwen3-VL | numbers from 0 to 1000, whatever the size |
# | reading the answer | left to the program around it, too |
# | an agent | a loop in your own program; the model is only ever asked |
#
# ## Read next
#
# - `minivl/passes/answer.py`: the way back, in ten lines.
# - `minivl/run/answers.py` and `minivl/run/grounding.py`: what else models write.
# - Lesson 13: two machines give two answers. Is that a bug, or rounding?

# %% [markdown]
# # Lesson 6: rotary positions in one and two dimensions
#
# **The question.** Attention does not care in which order its rows stand. How does a patch know where it is,
# and how can a score depend on the *distance* of two patches?
#
# **You need** from lesson 4: *query*, *key*, *score*, *head*; from lesson 5: the *window order*; from school:
# sine and cosine. Reading takes about 40 minutes, the two exercises another 30.
#
# ```
# picture.target_size   patches.patchify                       lessons 2 and 3
# positions.mrope                                              section 7: places for the decoder
# vision.angles.order_by_window                                row and column of each patch, by window
# vision.angles.spatial_angles   vision.cos_sin                <== you are here: sections 3 to 5
# vision.blocks.0.project_qkv                                  lesson 4
# vision.blocks.0.rotate                                       <== sections 2 and 6
# vision.blocks.0.attend   vision.merge_2x2
# decoder.angles   decoder.cos_sin                             <== section 7: the same with three axes
# decoder.layers.0.rotate   decoder.layers.0.attend   decoder.logits
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.passes import positions, windows
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True, linewidth=110)
vlm = minivl.load()
vision, text = vlm.config.vision, vlm.config.text


def about(image):
    return vlm.prepare([{"role": "user", "content": [{"type": "image", "image": image},
                                                     {"type": "text", "text": "Describe the image."}]}])


image = Image.new("RGB", (140, 112), (200, 200, 205))
ImageDraw.Draw(image).ellipse([16, 14, 64, 62], fill=(222, 40, 40))
inputs = about(image)

# %% [markdown]
# ## 1. Attention forgets the order
#
# Take lesson 4's attention and shuffle the rows that go in. The rows that come out are the same ones,
# shuffled in the same way. Nothing in them can tell the left from the right:

# %%
def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attend(q, k, v):
    """One head: n e, n e, n e -> n e."""
    return softmax(q @ k.T / np.sqrt(q.shape[-1])) @ v


draw = np.random.default_rng(0)
q, k, v = draw.standard_normal((3, 6, 4))
shuffle = np.array([4, 2, 0, 5, 1, 3])
shuffled = attend(q[shuffle], k[shuffle], v[shuffle])
print("shuffled in = shuffled out:", np.allclose(shuffled, attend(q, k, v)[shuffle]))

# %% [markdown]
# So the place must be put *into* q and k. What would we like? The score of two patches should depend on how
# far apart they are, and not on where in the picture the pair stands. (Numbers for the place that are *added* to a
# row, as older models have them, do not give that: each score then depends on both places.)
#
# ## 2. Turn two numbers by an angle
#
# Take two numbers of a query as an arrow in the plane, $(a, b)$. Turn it by an angle $\varphi$:
#
# $$ (a, b) \;\to\; (a \cos\varphi - b \sin\varphi,\; b \cos\varphi + a \sin\varphi) $$
#
# Turn the query at place $m$ by $m$ times some angle, and the key at place $n$ by $n$ times the same angle.
# The dot product of two arrows is the product of their lengths times $\cos$ of the angle *between* them. And the
# angle between them has changed by $m - n$ times that angle: by the **distance**.

# %%
def turn_pair(pair, angle):
    a, b = pair
    return np.array([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)])


query, key, step = np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.pi / 6  # 30 degrees for each place
for m, n in [(0, 0), (2, 1), (7, 6), (3, 0), (9, 6), (5, 8)]:
    score = turn_pair(query, m * step) @ turn_pair(key, n * step)
    print(f"query at {m}, key at {n}: distance {m - n:2d}   score {score:6.3f}   cos({m - n} * 30) = "
          f"{np.cos((m - n) * step):6.3f}")

# %% [markdown]
# Pairs with the same distance have the same score. (Here query and key are the same arrow. If they are not,
# the curve is shifted: the angle that they have between them from the start is added. It is still the
# distance that counts.) This is a **rotary embedding** (RoPE): a place is an angle by which q and k are
# turned. Nothing is added to the rows, nothing is learned here, and the length of an arrow stays. Values
# are not turned: *what* is handed over does not depend on the place.
#
# In the picture: the dotted arrow is the query before, the solid one after turning, at four places. ("Number i" is
# $a$, "number i + e/2" is $b$: section 3 tells why they are named so.)

# %%
figure = plot.board(1, 4, (11, 2.9))
for place, axis in enumerate(figure.axes):
    plot.turned(np.array([1.0, 0.3]), turn_pair([1.0, 0.3], place * step), axis)
    axis.set_title(f"at place {place}: turned by {30 * place} degrees", size=8)
figure

# %% [markdown]
# ## 3. Many pairs, fast and slow hands
#
# One angle is not enough: after 12 places of 30 degrees all begins again. So a head of width $e$ is $e/2$
# pairs, and each pair turns at a **speed** of its own, like the hands of a clock:
#
# $$ \mathrm{speed}_i = \mathrm{base}^{-2i/e}, \qquad \varphi_{ni} = n \cdot \mathrm{speed}_i
#    \qquad i = 0 \ldots e/2 - 1 $$
#
# for any place $n$, a query's or a key's. In comments, `n` rows are one for each place, and `f` is the number
# of angles, $e/2$. The first pair turns by 1 radian (57 degrees) a place, the last one by almost nothing. The
# **base** is 10,000 in the vision tower: chosen, not learned, and so large that the slowest hands never come
# round. For equal q and k whose pairs all have the length 1, each pair adds
# $\cos(\mathrm{distance} \cdot \mathrm{speed}_i)$ to the score; below is the mean of these.

# %%
def speeds(width, base=10000.0):
    """Radians a place, one for each pair: width / 2 of them."""
    return base ** (-np.arange(0, width, 2) / width)


print("speeds for a head of width 8:", speeds(8))
places = np.arange(40)
angles = places[:, None] * speeds(16)  # n f
figure = plot.board(1, 2, (11, 3.2))
plot.angles(angles, figure.axes[0])
figure.axes[0].set_title("angles of 40 places, 8 pairs: fast left, slow right", size=9)
for pairs in (1, 2, 8):
    figure.axes[1].plot(places, np.cos(angles[:, :pairs]).mean(axis=1), label=f"{pairs} pairs")  # of n f: n
figure.axes[1].set_title("score of equal q and k by distance: mean over the pairs", size=9)
figure.axes[1].set_xlabel("distance")
figure.axes[1].legend(fontsize=8)
figure

# %% [markdown]
# Distance 0 scores highest, since only there all hands agree: a head can prefer its own place by having equal q
# and k. Beyond, the curve does not simply fall: each hand comes round again in its own time, the fastest after 6
# places, 13 and 19, and lifts it. More pairs smooth the ripples and do not remove them. (A head may also
# learn to look three places to one side: with $W_k$ it can turn the pairs of its keys against those of its queries,
# and the highest score is where the place turns them back.)
#
# ### Which numbers are a pair?
#
# There are two customs. *Neighbours*: (0, 1), (2, 3), ... Or *halves*: number $i$ with number $i + e/2$. Both
# are as good. But a checkpoint was trained with one of them, and this family uses halves. In code that is two
# slices:

# %%
def rotate(x, angles):
    """Rows of one head and their angles: n e, n f -> n e, where e = 2 f."""
    first, second = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]  # n e -> n f, n f
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


x = draw.standard_normal((40, 16))
by_kernel = kernels.rotate(x[:, None], np.cos(angles), np.sin(angles))[:, 0]  # it takes n a e: all heads
print("ours equals the model's kernel:", np.allclose(rotate(x, angles), by_kernel))

figure = plot.board(1, 1, (3.8, 3.6))
plot.turned(x[3], rotate(x, angles)[3], figure.axes[0])
figure.axes[0].set_title("row 3: eight pairs, each turned by its own angle", size=8)
figure

# %% [markdown]
# ## 4. Two dimensions: half of the pairs count rows, half count columns
#
# A patch has a row and a column. So the pairs are shared out: the first half of the angles comes from the
# row, the second half from the column. Each is a rotary embedding of its own, for a width of $e/2$:
#
# $$ \varphi = \big[\; \mathrm{row} \cdot \mathrm{speed}_0, \ldots, \mathrm{row} \cdot \mathrm{speed}_{e/4-1},
#    \mathrm{column} \cdot \mathrm{speed}_0, \ldots \;\big], \qquad \mathrm{speed}_i = 10000^{-2i/(e/2)} $$
#
# Check the count: $e/4$ angles for rows, $e/4$ for columns, $e/2$ together, and each turns two numbers: number $i$
# and number $i + e/2$ of the whole head, as before. So with $e = 8$ the row turns the pairs (0, 4) and (1, 5), and
# the column (2, 6) and (3, 7).

# %%
def two_dimensions(at, width):
    """Row and column of n patches -> their angles: n 2 -> n f, f = width / 2."""
    speed = speeds(width // 2)  # e/4 of them
    return np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1)


at = np.array([[0, 0], [0, 1], [1, 0], [2, 3]])
figure = plot.board(1, 1, (5, 2.4))
table(two_dimensions(at, 8), figure.axes[0], "a head of width 8: 4 angles",
      [str(tuple(place)) for place in at.tolist()],
      ["row, fast", "row, slow", "column, fast", "column, slow"])
figure

# %% [markdown]
# What does a head with equal q and k see then? We put a query in the middle of a picture of 15 x 21 patches
# and ask for the score of every place. First with the row pairs alone, then the column pairs, then all.

# %%
rows, columns = np.indices((15, 21)).reshape(2, -1)
everywhere = np.stack([rows, columns], axis=1)  # n 2
angle = two_dimensions(everywhere, 32)
middle = two_dimensions(np.array([[7, 10]]), 32)
cosine = np.cos(angle - middle)  # n f: what each pair of equal arrows adds to the score

figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
parts = {"row pairs": cosine[:, :8], "column pairs": cosine[:, 8:], "all": cosine}
for axis, (name, part) in zip(axes, parts.items(), strict=True):
    shown = axis.imshow(part.mean(axis=1).reshape(15, 21), cmap="viridis", vmin=-0.2, vmax=1)
    axis.plot(10, 7, "w+")
    axis.set_title(name, fontsize=9)
figure.colorbar(shown, ax=axes, label="score")
plt.show()

# %% [markdown]
# A bright spot around the query: "near me" in two dimensions. (The ripples are the fast hands that come round
# again. With more pairs they fade.) And it is the same spot wherever the query stands,
# because only differences of rows and of columns count. Measured: move both by 3 rows and 5 columns.

# %%
width = vision.head_dim
q, k = draw.standard_normal((2, 1, width))
here, there = np.array([[2, 4]]), np.array([[6, 1]])
scores = []
for move in ([0, 0], [3, 5], [40, 7]):
    turned_q = rotate(q, two_dimensions(here + move, width))
    turned_k = rotate(k, two_dimensions(there + move, width))
    scores.append((turned_q @ turned_k.T).item())
print("score before and after both have moved:", np.array(scores))

# %% [markdown]
# ## 5. The angles must be sorted like the rows
#
# In the model the rows stand in window order (lesson 5), whole cells at a time, and inside a cell the four
# patches in 2x2 order (lesson 3). An angle belongs to a patch, wherever its numbers stand in the table. So the
# patches' coordinates go through exactly the same sorting. By hand, for our picture (`w`: patches in window order):

# %%
_, gh, gw = (int(n) for n in inputs.image_grid_thw[0])
raster = np.stack(np.indices((gh, gw)), axis=-1)  # gh gw 2: row and column, as one reads
split = raster.reshape(gh // 2, 2, gw // 2, 2, 2)  # -> cell_row in_row cell_col in_col 2, as in lesson 3
blocks = split.swapaxes(1, 2).reshape(-1, 2)  # -> cell_row cell_col in_row in_col 2 -> p 2: in 2x2 order
order = windows.window_order(inputs.grids, vision)  # c
sorted_at = blocks.reshape(-1, 4, 2)[order].reshape(-1, 2)  # p 2 -> cells 4 2 -> w 2
angles = two_dimensions(sorted_at, vision.head_dim)  # w f

with minivl.session(record="*") as session:
    vlm.logits(inputs)
trace = session.trace
print("the first eight (row, column):", [tuple(place) for place in sorted_at[:8].tolist()])
print("coordinates equal to the pass:", np.array_equal(sorted_at, trace["vision.angles.order_by_window"]))
off = np.abs(angles - trace["vision.angles.spatial_angles"]).max()
print(f"angles, largest difference: {off:.1e} (float32)")

quarter = vision.head_dim // 4
figure = plot.board(1, 1, (7, 3.6))
plot.angles(angles, figure.axes[0], sections=[("row", quarter), ("column", quarter)])
figure

# %% [markdown]
# Read the first column of each half downwards (it is drawn within one turn, so the colours begin again after 6):
# the steps are the way through the picture, four patches at a time, as in the printed line.
#
# Where does counting begin? At 0 in every picture and in every frame of a video. Two pictures in a prompt
# both have a patch (0, 0), and that does no harm: they never see each other in the tower.
#
# ## 6. In the real model
#
# `project_qkv` gives q and k as the linear maps made them, `rotate` gives them turned. We turn the first
# ourselves:

# %%
q, k, v = trace["vision.blocks.0.project_qkv"]  # w a e
turned_q, turned_k = trace["vision.blocks.0.rotate"]
by_hand = np.stack([rotate(q[:, head], angles) for head in range(q.shape[1])], axis=1)  # same angles
print("q turned by hand:", np.allclose(by_hand, turned_q, atol=1e-4))
print("lengths before and after:", np.linalg.norm(q[5, 0]).round(4), np.linalg.norm(turned_q[5, 0]).round(4))

figure = plot.board(1, 2, (8, 3.8))
for axis, row in zip(figure.axes, (0, len(q) - 1), strict=True):
    plot.turned(q[row, 0], turned_q[row, 0], axis)
    axis.set_title(f"row {row}, head 0: patch {tuple(sorted_at[row].tolist())}", size=9)
figure

# %% [markdown]
# The patch (0, 0) is not turned at all: dotted and solid lines cover each other.
#
# ## 7. The decoder's rotary embedding is another one: MRoPE
#
# Two rotary embeddings live in this model, and they are often taken for one. The decoder reads words *and*
# visual tokens in one sequence. Its rotary embedding, **MRoPE**, has three axes: **time, height and width**.
#
# | | vision tower | decoder (MRoPE) |
# |---|---|---|
# | rows | patches | tokens: words and cells |
# | axes | row, column | time, height, width |
# | speeds | each axis has a full set, fast to slow | *one* set, shared out among the axes |
# | shares | half of the pairs each | sections; official 16, 24, 24 of 64 |
# | base | 10,000 | 1,000,000 in the official models |
# | counting | from 0 in each picture and frame | goes on through the whole prompt |
# | time | none | seconds, in a video |
#
# A word has the same number on all three axes. So for words MRoPE is ordinary rotary embedding.

# %%
place = inputs.position_ids  # 3 s: time, height, width of each token
figure = plot.board(1, 1, (9, 3))
plot.positions(place, figure.axes[0])
figure

# %% [markdown]
# Left and right of the grey part are words: three lines in one. In the grey part are the visual tokens, all but
# the first, whose three numbers are the same: time stands still, height climbs once a row of cells, width runs
# and starts again. The text after the picture goes on above the largest number so far. Where these numbers come
# from is lesson 10. Here: what is done with them.
#
# Every speed belongs to *one* axis, in blocks: the first **section** of speeds turns by time, the next by
# height, the last by width.

# %%
base, sections = text.rope_theta, text.mrope_section
speed = speeds(text.head_dim, base)  # f
axis_of = np.repeat([0, 1, 2], sections)  # f: 0 0 .. 1 1 .. 2 2 ..
angles = place[axis_of].T * speed  # 3 s -> f s -> s f
print("sections", sections, "of", len(speed), "speeds, base", base)
print("largest difference from the pass decoder.angles:", np.abs(angles - trace["decoder.angles"]).max())

last = place.shape[1] - 1  # the last token of the prompt, text: three equal numbers
ordinary = place[0, last] * speed  # rotary embedding in one dimension
print("for text, the same as one-dimensional:", np.allclose(angles[last], ordinary))

figure = plot.board(1, 1, (7.5, 3.8))
plot.angles(angles, figure.axes[0], sections=list(zip(("time", "height", "width"), sections, strict=True)))
figure

# %% [markdown]
# Note what follows from sharing: time has the fast hands only, width the slow ones only, so that its part of the
# figure hardly changes its colour. Left and right can be told all the same: where an arrow of q stands across the
# arrow of k, the score changes with the sine of even a small turn, and long arrows make it count. Besides, the rows
# come from the tower, where rows and columns have fast and slow hands both. (A later model, Qwen3-VL, deals the
# speeds out in turn, 0 1 2 0 1 2, instead of in blocks. Reading one checkpoint with the other's rule leaves text
# untouched, whose three numbers are equal, and moves pictures: Blaizzy/mlx-vlm#576.)
#
# > **Optional box: positions do not fit into 16 bits.** bfloat16 has 8 bits for the digits of a number, so
# > beyond 256 not every integer can be written. A position of 257 becomes 256 or 258, and two tokens stand at
# > one place (huggingface/candle#3520). So angles are float32 in every precision of the model.

# %%
def to_bfloat16(x):
    """Rounded to the upper half of a float32, to the nearest, halves to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


print("255 to 262 in bfloat16:", to_bfloat16(np.arange(255, 263)).astype(int))

# %% [markdown]
# ## 8. Now break it
#
# All of these run, and all shapes are right. **Predict**: which moves the visual tokens most? (Per cent as in
# lesson 1, section 9. `.definition` is the plain function of a pass.)

# %%
def rotate_with(way):
    """A rotate pass that turns q and k in its own way: n a e, n k e, n f, n f."""
    return lambda q, k, cos, sin: (way(q, cos, sin), way(k, cos, sin))


def neighbours(x, cos, sin):
    """Pairs (0, 1), (2, 3), ... in place of halves."""
    even, odd, c, s = x[..., ::2], x[..., 1::2], cos[:, None], sin[:, None]
    return np.stack([even * c - odd * s, odd * c + even * s], axis=-1).reshape(x.shape).astype(x.dtype)


def backwards(x, cos, sin):
    return kernels.rotate(x, cos, -sin)


def columns_first(at, config):
    return positions.spatial_angles.definition(at[:, ::-1], config)


def one_dimension(at, config):
    """One number, counted down the table, in place of the patch's row and column."""
    count = np.arange(len(at))
    return positions.spatial_angles.definition(np.stack([count, count], axis=1), config)


def as_cut(rows, order):
    """Coordinates that were not sorted by window."""
    return rows


faults = {"not turned": {"vision.blocks.*.rotate": rotate_with(lambda x, cos, sin: x)},
          "pairs of neighbours": {"vision.blocks.*.rotate": rotate_with(neighbours)},
          "turned backwards": {"vision.blocks.*.rotate": rotate_with(backwards)},
          "columns before rows": {"vision.angles.spatial_angles": columns_first},
          "place in the table for both": {"vision.angles.spatial_angles": one_dimension},
          "angles not in window order": {"vision.angles.order_by_window": as_cut}}
wanted = vlm.vision(inputs)
print(f"{'':28s} tokens move by   answer")
print(f"{'(the truth)':28s} {'':14s}   A red circle.")
print(f"{'no fault':28s} {0:14.1%}   {vlm.ask(image, 'Describe the image.')}")
tokens = {}
for name, fault in faults.items():
    with minivl.using(fault), minivl.session(verify=True):
        tokens[name] = vlm.vision(inputs)
        moved = np.linalg.norm(tokens[name] - wanted) / np.linalg.norm(wanted)
        print(f"{name:28s} {moved:14.1%}   {vlm.ask(image, 'Describe the image.')}")
apart = np.linalg.norm(tokens["not turned"] - tokens["turned backwards"]) / np.linalg.norm(wanted)
print(f"not turned and turned backwards are {apart:.1%} apart from each other")

# %% [markdown]
# `verify=True` saw nothing. "Turned backwards" is worth a thought: if both q and k turn the other way, scores
# depend on the distance all the same, only with left for right. A model *trained* so would be as good. But these
# weights were trained the other way, and a wrong place can be as bad for them as none. (If both lines give the same
# per cent, that is chance: the line below them says how far the two are apart.)
#
# And look at the answers that survive. A port with one of these faults may name a single object rightly for
# years, and misplace things in a crowded picture.
#
# ## Exercise 6.1: turn one row (about 10 minutes)
#
# Write `turn(row, angles)`: `row` (e,) is one query of one head, `angles` (e/2,) in radians; pair `i` is made
# of numbers `i` and `i + e/2`. On paper first: turn (1, 2, 3, 4) by 90 and 0 degrees.
#
# <details><summary>Hint 1</summary>The pairs are (1, 3) and (2, 4). By 90 degrees (a, b) becomes (-b,
# a). On paper: (-3, 2, 1, 4).</details>
# <details><summary>Hint 2</summary>Split row into two halves of e/2 numbers. Then the formula of section 2
# works on all pairs at once.</details>
# <details><summary>Hint 3</summary>a, b = np.split(row, 2); np.concatenate([a * cos - b * sin, b * cos + a *
# sin])</details>

# %%
def turn(row, angles):
    """e, e/2 -> e."""
    ### BEGIN SOLUTION
    a, b = np.split(row, 2)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)])
    ### END SOLUTION


# %% tags=["check"]
minivl.check("6.1", turn)

# %% [markdown]
# ## Exercise 6.2: angles of a patch (about 20 minutes)
#
# Write `angles_2d(at, width)`: `at` (n, 2) holds row and column of n patches, `width` is the width of a head;
# out come (n, width / 2) angles: first those of the row, then those of the column. The base is 10,000. (You
# have seen it in section 4. Write it from the formula, with the shapes in comments.)
#
# <details><summary>Hint 1</summary>How many speeds are there for the rows? A quarter of the width. For width
# 8: two, 1 and 0.01.</details>
# <details><summary>Hint 2</summary>Each axis is a rotary embedding of width / 2, so the exponents are -2i /
# (width / 2) for i below width / 4. at[:, :1] * speed has the shape (n, width / 4).</details>
# <details><summary>Hint 3</summary>speed = 10000.0 ** (-np.arange(0, width // 2, 2) / (width // 2)); then
# np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1)</details>

# %%
def angles_2d(at, width):
    """Row and column of n patches: n 2 -> n width/2."""
    ### BEGIN SOLUTION
    speed = 10000.0 ** (-np.arange(0, width // 2, 2) / (width // 2))  # width/4 of them
    return np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1)  # n 1 * width/4, twice
    ### END SOLUTION


# %% tags=["check"]
minivl.check("6.2", angles_2d)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | speeds | `inv_freq` |
# | base | `rope_theta` in `rope_parameters`: 10,000 in the tower, 1,000,000 in the decoder |
# | `vision.angles` | `get_vision_position_ids`, then `Qwen2_5_VLVisionRotaryEmbedding` |
# | cosine and sine | `position_embeddings`; `recomposition_frequencies` writes both halves out |
# | the two slices of section 3 | `rotate_half` |
# | `vision.blocks.N.rotate` | `apply_rotary_pos_emb_vision` |
# | `decoder.layers.N.rotate` | `apply_rotary_pos_emb` |
# | `positions.mrope` | `get_rope_index` |
# | sections | `mrope_section` in `rope_scaling` or `rope_parameters` |
#
# ## Read next
#
# - `minivl/passes/positions.py`: both embeddings, and the trap with float32.
# - `minivl/kernels/definition.py`: `rotate`, in a few lines.
# - Lesson 7: you can now read every pass of a block but two. What do these do?

# %% [markdown]
# # Lesson 10: MRoPE: places of words, pictures and seconds
#
# **The question.** The decoder reads words, cells of pictures and cells of a video in one sequence. Which
# numbers does each row get as its place, how does a second become a number, and where does the text go on?
#
# **You need** from lesson 6: *rotary embedding*, *MRoPE* and its *sections*; from lesson 9: the *placeholders*
# of the prompt. Reading takes about 45 minutes, the two exercises another 30.
#
# ```
# prompt.render   prompt.encode   prompt.expand                lesson 9
# positions.ticks                                              <== you are here: section 3
# positions.mrope                                              <== sections 2 to 6
# vision.merge_2x2   vision.restore_order                      lesson 8
# decoder.angles                                               <== section 7
# decoder.embed_tokens   decoder.place_features
# decoder.layers.0.rotate   decoder.layers.0.attend            lessons 6 and 11
# decoder.logits   sampling.most_likely
# positions.advance                                            <== section 8
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.show import plot
from minivl.config import official_config
from minivl.passes import positions
from minivl.show.plot import table

np.set_printoptions(precision=3, suppress=True, linewidth=110)
vlm = minivl.load()
config, text = vlm.config, vlm.config.text
PADS = (config.image_token_id, config.video_token_id)


def frame(seen, height=84, width=112):
    """A grey picture, with a red disc or without."""
    image = Image.new("RGB", (width, height), (200, 200, 205))
    if seen:
        ImageDraw.Draw(image).ellipse([20, 18, 68, 66], fill=(222, 40, 40))
    return image


def picture(image):
    return {"type": "image", "image": image}


def video(frames, fps):
    return {"type": "video", "video": frames, "fps": fps}


def about(*items, **options):
    """A message of pictures, videos and texts, as inputs of the model."""
    content = [{"type": "text", "text": item} if isinstance(item, str) else item for item in items]
    return vlm.prepare([{"role": "user", "content": content}], **options)


inputs = about(picture(frame(True)), "Describe the image.")
is_cell = np.isin(inputs.input_ids, PADS)  # s: which rows are visual tokens

# %% [markdown]
# ## 1. Why not simply number the rows?
#
# A language model numbers its tokens 0, 1, 2, ..., and scores depend on the difference of two numbers (lesson
# 6). Cells of a picture stand in the sequence as one reads, row of cells after row of cells. Number them in
# this way, and the cell *below* is as far away as the picture is wide; the last cell of a line and the first
# of the next are neighbours. From the cell marked 0, how far is each of the others?

# %%
rows, columns = np.indices((3, 6))
line = 6 * rows + columns  # numbered as one reads
figure = plot.board(1, 2, (11, 2.2))
table(np.abs(line - line[1, 2]), figure.axes[0], "numbered in one line")
table(np.abs(rows - 1) + np.abs(columns - 2), figure.axes[1], "rows and columns counted apart")
figure

# %% [markdown]
# So every token gets *three* numbers: time, height and width. What rotary embedding does with them is in
# lesson 6, section 7; here is where they come from.
#
# ## 2. Text, pictures, and text again
#
# **Text**: three equal numbers, one more for each token. **A picture** that begins at number $p$ with a grid
# of $g_h \times g_w$ patches: the cell in row $r$ and column $c$ gets
#
# $$ (t, h, w) = (p,\; p + r,\; p + c), \qquad r < g_h/2, \quad c < g_w/2 $$
#
# Time stands still, because a picture is one moment. **Text after it** goes on at the largest number so far
# plus one, on all three axes, so that no later token stands where a cell stands:
#
# $$ p_{\text{next}} = \max(t, h, w) + 1 $$

# %%
def cell_places(grid, tick=1.0):
    """Places of the cells of one picture or video, counted from its start: (t, rows, columns) -> 3 n."""
    t, h, w = np.indices((grid[0], grid[1] // 2, grid[2] // 2)).reshape(3, -1)
    return np.stack([np.floor(np.float32(tick) * t.astype(np.float32)).astype(int), h, w])  # section 3: tick


cells = 4 + cell_places((1, 4, 6))  # four tokens come before: p = 4
before, after = np.arange(4), cells.max() + 1 + np.arange(4)
place = np.concatenate([[before] * 3, cells, [after] * 3], axis=1)  # 3 s
for name, row in zip(("time  ", "height", "width "), place, strict=True):
    print(name, row)
print("14 tokens, and the next number is", place.max() + 1)

# %% [markdown]
# Six cells have used up three numbers only: a picture is *short* for the text around it. In the model's own
# prompt, laid on the picture and along the sequence:

# %%
figure = plot.board(1, 2, (12, 3.2), width_ratios=[1, 1.6])
pixels = np.asarray(frame(True))
plot.cell_positions(inputs.position_ids[:, is_cell], inputs.grids[0], config, figure.axes[0], pixels=pixels)
plot.positions(inputs.position_ids, figure.axes[1])
figure

# %%
start = int(np.flatnonzero(is_cell)[0])
cells = start + cell_places(inputs.grids[0])
print("cells, equal to those of the inputs:", np.array_equal(cells, inputs.position_ids[:, is_cell]))
following = inputs.position_ids[:, start + cells.shape[1]]
print("the text after them begins at", following, "= max + 1 =", cells.max() + 1)

# %% [markdown]
# ## 3. Seconds become numbers
#
# A video is cut into pairs of frames (lesson 3). If the time axis counted *pairs*, the same event would stand
# at another number whenever the video is sampled more densely. So it counts **seconds**, a fixed number of
# steps for each: `tokens_per_second`, 2 in the official models. That is all that **absolute time** means
# here. No time is written into the prompt, and the tower has no clock at all.
#
# From one pair to the next there are $2 / \mathrm{fps}$ seconds. Times the steps for a second that is the
# **tick** of the video, and the pair number $k$ gets
#
# $$ t_k = p + \lfloor k \cdot \mathrm{tick} \rfloor, \qquad
#    \mathrm{tick} = \text{tokens per second} \cdot \frac{2}{\mathrm{fps}} $$
#
# The product is formed first and cut to an integer then.

# %%
per_second = config.vision.tokens_per_second
PAIRS = np.arange(6)
rates = (0.5, 1, 1.5, 2, 3, 4, 6)
ticks = {fps: np.float32(per_second * 2 / fps) for fps in rates}
times = {fps: np.floor(PAIRS.astype(np.float32) * tick).astype(int) for fps, tick in ticks.items()}
figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
table(np.array([times[fps] for fps in rates]), axes[0], "time number of each pair of frames",
      [f"{fps:g} frames a second, tick {tick:.3g}" for fps, tick in ticks.items()], [f"pair {k}" for k in PAIRS])
for n, fps in enumerate(rates[1:6]):
    axes[1].plot(PAIRS * 2 / fps, times[fps], "osv^D"[n], ms=9 - n, label=f"{fps:g} frames a second")
seconds = np.linspace(0, 10, 50)
axes[1].plot(seconds, per_second * seconds, color="gray", lw=0.8)
axes[1].set(xlabel="seconds into the video", ylabel="time number", title="all rates lie on one line")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# Two things to see. A pair that falls between two steps is moved to the lower one. And at more than 4 frames a
# second, pairs are less than half a second apart: then two pairs *share* a number, and the decoder cannot
# order them by their place (QwenLM/Qwen3-VL#1031).
#
# We check this against the model's own positions, on a disc that appears after four of eight frames:

# %%
frames = [frame(n >= 4) for n in range(8)]
for fps in rates:
    given = about(video(frames, fps), "When does the red circle appear?")
    t = given.position_ids[0, np.isin(given.input_ids, PADS)]
    ours = start + times[fps][:4]
    assert np.array_equal(np.unique(t), np.unique(ours)), fps
print("equal for all rates; the last:", np.unique(t))

figure = plot.board(1, 1, (12, 2.6))
given = about(video(frames, 1.5), "When does the red circle appear?")
here = np.isin(given.input_ids, PADS)
plot.cell_positions(given.position_ids[:, here], given.grids[0], config, figure.axes[0],
                    pixels=np.stack([np.asarray(f) for f in frames]))
figure

# %% [markdown]
# Eight frames, four pairs, 1.5 frames a second: read the first number of the cells. Now the same pixels with
# another clock. The tower gives the same visual tokens, bit for bit; only the time numbers differ. Does the
# answer follow? (The small model may err. Compare with the truth.)

# %%
asked = "When does the red circle appear?"
slow, fast = about(video(frames, 1), asked), about(video(frames, 4), asked)
print("the tower's rows are the same:", np.array_equal(vlm.vision(slow), vlm.vision(fast)))
for fps in (1, 2, 3, 4):
    said = vlm.chat([{"role": "user", "content": [video(frames, fps), {"type": "text", "text": asked}]}])
    print(f"{fps} frames a second: the truth is {4 / fps:.1f} s, the answer {said!r}")

# %% [markdown]
# ### How clocks go wrong
#
# The frame rate must travel with the frames to this place, and in many programs it got lost. One video of two
# pairs a second (tick 1), read by four clocks: the right one and three famous wrong ones:

# %%
second = 0.5  # from pair to pair: 4 frames a second
wrong = {"right": per_second * second,
         "cut to whole seconds first (huggingface/transformers#48669)": per_second * int(second),
         "one second taken for granted (sgl-project/sglang#3674)": per_second * 1.0,
         "24 frames a second guessed": per_second * 2 / 24}
for name, tick in wrong.items():
    print(f"{name:60s} tick {tick:.3g}: {np.floor(np.arange(8) * tick).astype(int)}")
try:
    minivl.Inputs.from_ids(given.input_ids, config, pixel_values_videos=given.pixel_values_videos,
                           video_grid_thw=given.video_grid_thw)
except ValueError as error:
    print("minivl does not guess:", error)

# %% [markdown]
# At 2 frames a second and one second from pair to pair, the first three agree. That is the default of most
# tools, and so the only case that was tested.
#
# ## 4. Text after a video, and a drift in the reference
#
# The rule "largest number plus one" holds after a video too. Its largest number is mostly a time. A release
# of the reference (transformers 5) goes on at $p + \max(g_h, g_w)/2$ instead: the same for pictures, and too
# small for a video that is longer than it is wide. Then the question stands *before* the end of the video:

# %%
figure = plot.board(1, 2, (12, 3.2))
for axis, rule in zip(figure.axes, ("max_plus_one", "tf5"), strict=True):
    ruled = about(video(frames, 1), asked, after_video=rule)
    plot.positions(ruled.position_ids, axis)
    axis.set_title(f"after_video={rule!r}", size=9)
    end = int(np.flatnonzero(np.isin(ruled.input_ids, PADS))[-1])  # row of the last cell
    said = vlm.tokenizer.decode(vlm.generate(ruled, max_new_tokens=12))
    print(f"{rule:14s} time of the last cells {ruled.position_ids[0, end]},",
          f"text goes on at {ruled.position_ids[0, end + 1]}; answer {said!r} (the truth: 4.0 s)")
figure

# %% [markdown]
# The official models were trained with the first rule, and so was ours. The second is there to compare runs
# with transformers 5 number by number. How far apart are they, for a video of 28 x 52 patches at two steps a
# second?

# %%
for minutes in (0, 1, 2, 10):
    long = cell_places((1 + 60 * minutes, 28, 52), tick=2.0)
    ours, theirs = long.max() + 1, 52 // 2
    print(f"{minutes:2d} minutes: text goes on at p + {ours:4d} by the first rule, at p + {theirs} by the second:",
          f"{ours - theirs:4d} apart")

# %% [markdown]
# Each minute makes the difference 120 larger, but for the first: the width alone takes 26 numbers by both rules, so
# the first minute makes it 95.

# %% [markdown]
# ## 5. The whole rule
#
# Walk along the ids. Text counts up; a run of placeholders takes the places of its cells; then text goes on
# above. Several pictures and videos are the same again, one after the other.

# %%
def places(ids, grids, ticks):
    """Time, height and width of every token: s, i 3, i -> 3 s."""
    parts, row, p = [], 0, 0
    for grid, tick in zip(grids, ticks, strict=True):
        words = int(np.flatnonzero(np.isin(ids[row:], PADS))[0])  # tokens of text before this one
        cells = p + words + cell_places(grid, tick)  # 3 n
        parts += [np.tile(p + np.arange(words), (3, 1)), cells]
        row, p = row + words + cells.shape[1], int(cells.max()) + 1
    parts.append(np.tile(p + np.arange(len(ids) - row), (3, 1)))
    return np.concatenate(parts, axis=1)


small, wide = frame(True, 56, 56), frame(False, 56, 140)
prompts = {"text alone": about("What is this?"),
           "a picture": inputs,
           "two pictures, text between": about(picture(wide), "and", picture(small), "What differs?"),
           "a video, then a picture": about(video(frames[:6], 1), "Is this in it?", picture(small))}
for name, given in prompts.items():
    ours = places(given.input_ids, given.grids, [medium.ticks for medium in given.media])
    print(f"{name:28s} {len(given.input_ids):3d} tokens, largest number {ours.max():3d};",
          "equal to the pass:", np.array_equal(ours, given.position_ids))

given = prompts["a video, then a picture"]
figure = plot.board(1, 1, (11, 3))
plot.positions(given.position_ids, figure.axes[0])
figure

# %% [markdown]
# ### From visual tokens back to frames
#
# Which rows of a video belong to which frame? The visual tokens stand pair by pair, so a reshape by the *grid* gives
# them back: pairs, rows and columns of cells. Not by the number of frames: two frames share one pair, and both get
# what the pair has. (A grid of 4 x 24 x 46 patches has been read as 8 frames of 138 tokens, and 138 is no
# rectangle of that picture. It is 4 pairs of 12 x 23 = 276: QwenLM/Qwen3-VL#1097.)

# %%
film = about(video(frames, 2), "What appears in the video?")
pairs, high, wide = film.video_grid_thw[0] // [1, 2, 2]  # from patches to cells
visual = vlm.vision(film)  # m d
print("visual tokens", visual.shape, "= pairs x rows x columns of cells", (int(pairs), int(high), int(wide)))
by_pair = visual.reshape(pairs, high, wide, -1)  # m d -> t gh/2 gw/2 d
by_frame = np.repeat(by_pair, 2, axis=0)  # a frame has what its pair has
print("by frame:", by_frame.shape, " for", len(frames), "frames")
far = np.linalg.norm(by_frame - by_frame[0], axis=-1)  # how far each cell is from that of the first frame
figure = plot.board(1, len(frames), (12, 1.7))
for n, axis in enumerate(figure.axes):
    axis.imshow(far[n], vmin=0, vmax=far.max(), cmap="cividis")
    axis.set_title(f"frame {n}, pair {n // 2}", size=8)
    axis.set(xticks=[], yticks=[])
figure

# %% [markdown]
# The same in space: a picture and a video, each with a few words around it. Text climbs the diagonal, where
# all three numbers are equal; a picture is a sheet with one time, a video several sheets, one after the other:

# %%
figure = plot.board(1, 2, (12, 5), subplot_kw={"projection": "3d"})
for axis, one in zip(figure.axes, (inputs, given), strict=True):
    many = one.media[0].patches // 4
    plot.position_space(one.position_ids[:, start - 4 : start + many + 5], axis)
figure

# %% [markdown]
# ## 6. Looking back goes by row, not by place
#
# A token may look at itself and at what comes *before* it: lower **rows** of the sequence. Do not take the
# time numbers for that. All cells of a picture have the same one, and by the second rule of section 4 text can
# have smaller ones than the video in front of it. For four tokens of text, six cells, four tokens:

# %%
by_row = np.tri(place.shape[1], dtype=int)  # s s: query i sees key j <= i
by_time = (place[0][:, None] >= place[0][None, :]).astype(int)
figure = plot.board(1, 2, (9, 4))
names = [*"abcd", *(f"cell {n}" for n in range(6)), *"efgh"]
tables = {"by row: right": by_row, "by time number: wrong": by_time}
for axis, (title, seen) in zip(figure.axes, tables.items(), strict=True):
    table(seen, axis, title, names, ["" if len(name) > 1 else name for name in names])
    axis.set(xlabel="key: who is looked at", ylabel="query: who looks")
figure

# %% [markdown]
# In the wrong table every cell sees the cells after it. The model was not trained so, and boxes drift
# (ggml-org/llama.cpp#15474).
#
# ## 7. Three axes in one head
#
# A head of width $e$ has $e/2$ speeds (lesson 6). They are shared out in **sections**: the first turn by
# time, the next by height, the last by width. By hand:

# %%
def speeds(width, base):
    return (1 / base ** (np.arange(0, width, 2, dtype=np.float32) / width)).astype(np.float32)


speed, sections = speeds(text.head_dim, text.rope_theta), text.mrope_section
axis_of = np.repeat([0, 1, 2], sections)  # f: which axis turns this pair
angles = given.position_ids.astype(np.float32)[axis_of].T * speed  # 3 s -> f s -> s f
with minivl.session(record=["decoder.angles"]) as session:
    vlm.logits(given)
off = np.abs(angles - session.trace["decoder.angles"]).max()
print(f"sections {sections}, base {text.rope_theta:g}; largest difference from decoder.angles: {off:.1e}")

near = slice(start - 3, start + 27)  # three words, a pair of frames, and most of the next
figure = plot.board(1, 2, (12, 4.2))
plot.heat(given.position_ids[axis_of].T[near], figure.axes[0])
figure.axes[0].set_title("what each pair counts: time, height, width", size=9)
named = list(zip(("time", "height", "width"), sections, strict=True))
plot.angles(angles[near], figure.axes[1], sections=named)
figure

# %% [markdown]
# Text has the same number on all axes, so each of its rows is the ordinary rotary embedding. Look at the
# cells on the left: in the time part a whole sheet has one colour, in the height part a line of cells, in the
# width part colours repeat line by line. On the right each column is multiplied by its speed. In the width
# part hardly anything is left to be seen: its speeds are so slow that neighbours have nearly the same angle.
#
# What does a section feel of a distance? Take q and k with all arrows equal (lesson 6, section 3). Each pair
# adds the cosine of its angle to the score:

# %%
official = official_config("7B").text
distance = np.arange(0, 65)
figure, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained", sharey=True)
for axis, part, name in zip(axes, (text, official), ("the model in the package", "official models"), strict=True):
    every, begin = speeds(part.head_dim, part.rope_theta), 0
    for label, many in zip(("time", "height", "width"), part.mrope_section, strict=True):
        share = np.cos(distance[:, None] * every[begin : begin + many]).mean(axis=1)
        axis.plot(distance, share, label=f"{label}: {many} pairs")
        begin += many
    axis.set(title=f"{name}: sections {list(part.mrope_section)} of {len(every)}", xlabel="distance on one axis")
    axis.legend(fontsize=8)
axes[0].set_ylabel("mean cosine of its pairs")
plt.show()
for label, begin, many in zip(("time", "height", "width"), np.cumsum((0, *official.mrope_section[:2])),
                              official.mrope_section, strict=True):
    turns = 2 * np.pi / speeds(official.head_dim, official.rope_theta)[begin : begin + many]
    print(f"official, {label:6s}: once round after {turns[0]:12,.1f} steps (the fastest) to {turns[-1]:12,.1f}")

# %% [markdown]
# Time has the fast pairs: it tells one step from the next, and all of it has come round after some 160 steps, that
# is 80 seconds. Width has the slow ones only: neighbours look nearly alike to it, and far and near differ
# little by little. So the axes are unequal in kind, not only in number. (The next model, Qwen3-VL, deals the
# speeds out in turn.)
#
# ## 8. The answer goes on above the prompt
#
# Each new token gets the last number plus one on every axis. Its *row* and its number are no longer the same,
# because pictures took fewer numbers than rows. The difference is kept:
#
# $$ \text{offset} = \max(t, h, w) + 1 - s, \qquad \text{place of row } n = n + \text{offset} $$
#
# It is a property of *this* conversation: the **offset** (the reference says `rope_deltas`).

# %%
offset = inputs.position_ids.max() + 1 - len(inputs.input_ids)
with minivl.session(record=["positions.advance"]) as session:
    answer = vlm.generate(inputs, max_new_tokens=4)
advanced = np.concatenate(list(session.trace.values()), axis=1)  # 3 n: the places of the tokens of the answer
rows = len(inputs.input_ids) + np.arange(len(answer))
print("offset", offset, "; rows", rows, "-> places", rows + offset)
print("equal to the pass:", (advanced == rows + offset).all())

# %% [markdown]
# Forget the offset, and the answer stands far behind its question. Keep it on the *model* instead of with the
# conversation, and the next conversation gets it (huggingface/transformers#43952): answers then depend on who
# asked before.
#
# ## 9. Now break it
#
# **Predict** first: on which of the four prompts is each of these invisible?

# %%
def runs(ids):
    """Rows of each picture or video, one array for each."""
    rows = np.flatnonzero(np.isin(ids, PADS))
    return [run for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run)]


def places_with(change):
    """A `positions.mrope` whose numbers are changed afterwards."""
    return {"positions.mrope": lambda ids, *rest: change(positions.mrope.definition(ids, *rest).copy(), ids)}


def one_less(place, ids):
    for run in runs(ids):
        place[:, run[-1] + 1 :] -= 1
    return place


def one_moment(place, ids):
    for run in runs(ids):
        place[0, run] = place[0, run[0]]
    return place


def as_long_as_its_rows(place, ids):
    """Text goes on after as many numbers as the picture has cells."""
    for run in runs(ids):
        place[:, run[-1] + 1 :] += len(run) + place[0, run[0]] - place[0, run[-1] + 1]
    return place


def in_turn(place, config):
    """Speeds dealt out 0 1 2 0 1 2, as far as the sections go."""
    axis = np.zeros(config.head_dim // 2, int)
    for number, many in enumerate(config.mrope_section[1:], 1):
        axis[number : 3 * many : 3] = number
    return place.astype(np.float32)[axis].T * speeds(config.head_dim, config.rope_theta)


faults = {"rows numbered in one line": places_with(lambda place, ids: np.tile(np.arange(len(ids)), (3, 1))),
          "height and width exchanged": places_with(lambda place, ids: place[[0, 2, 1]]),
          "text goes on at max, not max + 1": places_with(one_less),
          "a picture as long as its rows": places_with(as_long_as_its_rows),
          "a video as one moment": places_with(one_moment),
          "one second taken for granted": {"positions.ticks": lambda seconds, per: np.float32(per + 0 * seconds)},
          "cut to whole seconds": {"positions.ticks": lambda seconds, per: np.float32(per * np.floor(seconds))},
          "sections dealt out in turn": {"decoder.angles": in_turn},
          "offset forgotten": {"positions.advance": lambda rows, offsets: rows + 0 * offsets}}
messages = {"text": ["How are you?"], "picture": [picture(frame(True)), "Describe the image."],
            "video, 2/s": [video(frames, 2), asked], "video, 4/s": [video(frames, 4), asked]}


def scores():
    return {name: vlm.logits(about(*items))[-1] for name, items in messages.items()}


right = scores()
film = [{"role": "user", "content": [messages["video, 4/s"][0], {"type": "text", "text": asked}]}]
print(f"{'':34s}" + "".join(f"{name:>12s}" for name in messages) + "   answer to the last (the truth: 1.0 s)")
print(f"{'no fault':34s}" + f"{0:12.1%}" * 4 + "   " + vlm.chat(film))
for name, fault in faults.items():
    with minivl.using(fault):
        wrong = scores()
        said = vlm.chat(film, max_new_tokens=12)
    off = [np.linalg.norm(wrong[key] - right[key]) / np.linalg.norm(right[key]) for key in messages]
    print(f"{name:34s}" + "".join(f"{share:12.1%}" for share in off) + f"   {said!r}")

# %% [markdown]
# The column of text is zero everywhere: with three equal numbers MRoPE cannot be wrong. The third column has
# zeros that the fourth has not. And the last line moves no score of the *prompt*: it is wrong from the second
# token of the answer on. A test of positions needs a picture that is not square, a video that is not at 2
# frames a second, and an answer of several tokens.
#
# ## Exercise 10.1: places of a video (about 15 minutes)
#
# Write `cells_of(grid, tick, start)`: `grid` is (pairs of frames, patch rows, patch columns), all cells in
# the order pair, row, column; `start` is the first free number. Out comes (3, n), integers. (You have seen it
# in sections 2 and 3. Write it from the formulas.) On paper first: grid (2, 4, 4), tick 1.5, start 10.
#
# <details><summary>Hint 1</summary>How many cells are there? Half as many rows and half as many columns as
# patches. A loop over pairs, rows and columns gives them in the right order.</details>
# <details><summary>Hint 2</summary>np.indices((pairs, rows, columns)).reshape(3, -1) gives the three
# counters. Only the first is multiplied by tick, and then cut to an integer.</details>
# <details><summary>Hint 3</summary>k, r, c = np.indices((grid[0], grid[1] // 2, grid[2] // 2)).reshape(3,
# -1); return start + np.stack([np.floor(k * tick).astype(int), r, c])</details>

# %%
def cells_of(grid, tick, start):
    """(t, rows, columns), steps from pair to pair, first number -> 3 n."""
    ### BEGIN SOLUTION
    k, r, c = np.indices((grid[0], grid[1] // 2, grid[2] // 2)).reshape(3, -1)
    return start + np.stack([np.floor(k * tick).astype(int), r, c])
    ### END SOLUTION


# %% tags=["check"]
minivl.check("10.1", cells_of)

# %% [markdown]
# ## Exercise 10.2: the offset (about 15 minutes)
#
# Write `offset_of(grids, ticks)`: how far numbers lag behind rows after a prompt with these pictures and
# videos, as one integer. `grids` is a list of (pairs, patch rows, patch columns), `ticks` has one number for
# each (1 for a picture). You need no ids: text adds as many numbers as rows. On paper first: one picture with
# grid (1, 4, 6). (Six rows, three numbers: -3.)
#
# <details><summary>Hint 1</summary>Each picture or video adds two things: rows (how many cells?) and numbers
# (by the rule max + 1, counted from its start).</details>
# <details><summary>Hint 2</summary>The largest number of one is the largest of three: the floor of (pairs -
# 1) times tick, rows of cells - 1, columns of cells - 1.</details>
# <details><summary>Hint 3</summary>sum over all of max(int((t - 1) * tick), h // 2 - 1, w // 2 - 1) + 1 - t *
# h * w // 4</details>

# %%
def offset_of(grids, ticks):
    """i 3, i -> one integer, never above 0 for pictures."""
    ### BEGIN SOLUTION
    total = 0
    for (t, h, w), tick in zip(grids, ticks, strict=True):
        largest = max(int((t - 1) * tick), h // 2 - 1, w // 2 - 1)
        total += largest + 1 - t * h * w // 4  # numbers used minus rows used
    return total
    ### END SOLUTION


# %% tags=["check"]
minivl.check("10.2", offset_of)
for name, given in prompts.items():
    theirs = given.position_ids.max() + 1 - len(given.input_ids)
    yours = offset_of(given.grids.tolist(), [medium.ticks for medium in given.media])
    print(f"{name:28s} offset {theirs:4d}, yours {yours:4d}")

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `positions.mrope` | `get_rope_index`, which also gives `rope_deltas` |
# | seconds from pair to pair | `second_per_grid_ts` |
# | steps for a second | `tokens_per_second` in `vision_config` |
# | `positions.ticks` | `time_interval`, inside `get_rope_index` |
# | offset | `rope_deltas` |
# | `positions.advance` | `_update_model_kwargs_for_generation`: the last of `position_ids` plus one |
# | `decoder.angles` | `Qwen2_5_VLRotaryEmbedding` |
# | sections | `mrope_section`; `recomposition_frequencies` picks the axis of each angle, and repeats both halves |
# | `after_video="tf5"` | what 5.x does; earlier releases and the report have max + 1 |
#
# ## Read next
#
# - `minivl/passes/positions.py`: sections 2 to 8, with the traps named.
# - `docs/made/bug-museum.md`: the faults of section 9, each with the thread in which it was found.
# - Lesson 11: every row has its numbers and its place. What does the decoder do with them, and what may it
#   keep from one token to the next?

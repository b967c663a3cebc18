# %% [markdown]
# # Lesson 16: a bug hunt
#
# **The question.** Programs that run this model have been wrong for months, and their tests passed. What were
# these bugs, how could they hide, and can you find one that nobody tells you?
#
# **You need** from lesson 15: *golden value*, *candidate*, *tap*, the *first bad tap*; from the other lessons: what
# the passes do. Reading takes about 30 minutes, the two exercises another 50.
#
# ```
# picture.target_size   picture.resize   patches.patchify      <== you are here: one of them all is wrong
# prompt.render   positions.mrope
# vision.schedule   vision.blocks.0.attend   vision.merge_2x2
# vision.restore_order
# decoder.angles   decoder.place_features   decoder.layers.0.project_qkv
# decoder.layers.0.rotate   decoder.layers.0.attend   decoder.logits
# ```

# %%
import textwrap
from collections import Counter

import numpy as np

import minivl
from minivl.truth import museum as faults
from minivl.show import plot
from minivl.truth.museum import cases
from minivl.truth.museum.hunt import TOLERANCE, code_of, right_of
from minivl.truth.museum.world import world

vlm = minivl.load()
print(len(faults.FAULTS), "faults in the museum, of the years", min(f.year for f in faults.FAULTS.values()), "to",
      max(f.year for f in faults.FAULTS.values()))
parts = Counter(fault.label.split(".")[0] for fault in faults.FAULTS.values())
figure = plot.board(1, 1, (7, 2.4))
figure.axes[0].bar(list(parts), list(parts.values()), color=plot.BLUE)
figure.axes[0].set_title("where they were", size=9)
figure

# %% [markdown]
# ## 1. A museum of bugs
#
# `minivl.truth.museum` holds wrong passes: each was learnt from a public report, and each stands *under the label of
# the pass that it replaces*. Nothing else in the model changes. One of them, in full:

# %%
exhibit = faults.get("order-not-inverted")
print(exhibit.name, "in", exhibit.label, "  ", ", ".join(exhibit.incidents), exhibit.year)
print(textwrap.fill(" ".join(exhibit.story.split()), 105))
print("\nright:\n" + code_of(right_of(exhibit)) + "\n\nwrong:\n" + code_of(exhibit.wrong))

# %% [markdown]
# ## 2. Why tests pass
#
# A fault shows on some inputs, and on others it *is* the right pass. Whoever tests with a square picture of one
# window tests no window at all. The number is how much the logits change; `-` is not at all. (The model here is a
# small one with random weights: which inputs show a fault does not depend on what was learnt.)

# %%
small = world()
names = ("order-not-inverted", "windows-missing", "height-and-width-swapped", "gelu-by-tanh", "qkv-bias-dropped")
inputs = (cases.text, cases.one_window, cases.two_windows, cases.ragged)
print(" " * 28 + "".join(f"{case.name[:30]:>32s}" for case in inputs))
for name in names:
    sizes = [faults.changes(faults.get(name), small, case) for case in inputs]
    print(f"{name:28s}" + "".join(f"{size:32.1e}" if size > TOLERANCE else f"{'-':>32s}" for size in sizes))

# %% [markdown]
# Read it line by line. What a fault needs in order to show is the best description of it. So the first rule of the
# hunt: **take an input that is awkward in every way at once**. Not square, cut off at both edges, not a
# multiple of 28, text behind the picture.
#
# ## 3. Three ways to find it
#
# A fault is planted, and we pretend not to know it. `faults.recorded` gives what every pass of a run gave:

# %%
messages = faults.assignment("a practice hunt").messages
right = faults.recorded(messages)
wrong = faults.recorded(messages, fault="mrope-interleaved")


def flat(value):
    """All numbers of what a pass gave, in one row, float64."""
    parts = value if isinstance(value, tuple) else (value,)
    return np.concatenate([np.asarray(part).astype(np.float64).ravel() for part in parts])


errors = {}
for key in right:
    a, b = flat(wrong[key]), flat(right[key])
    errors[key] = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300) if a.shape == b.shape else np.inf

figure = plot.board(1, 1, (11, 2.8))
figure.axes[0].semilogy(np.array(list(errors.values())) + 1e-9, color=plot.ORANGE)
figure.axes[0].set_title("error of each pass, in order of execution", size=9)
figure

# %% [markdown]
# **First: where do the two runs part?** (Exercise 16.1 is that.) It needs the arrays of both, and nothing of
# the wrong program but its arrays.
#
# **Second: a shadow run.** When the wrong passes can be *called*, run each beside the right one on the right one's
# inputs, and go on with the right output. A **shadow run** names every guilty pass at once, and none that only
# suffers:

# %%
with minivl.session(shadow=faults.get("mrope-interleaved").table()) as session:
    vlm.logits(vlm.prepare(messages))
print("guilty:", session.guilty)

# %% [markdown]
# **Third: a law**, when there is no right model at all. What must be true, whatever the numbers are? A row of the
# decoder never depends on the rows after it. So change the last token, and no earlier row may move:

# %%
def rows_that_move(fault=None):
    """Rows of the last decoder layer that move when the last token is exchanged."""
    key = f"decoder.layers.{vlm.config.text.num_hidden_layers - 1}.add_mlp"
    table = faults.get(fault).table() if fault else {}
    prompt = vlm.prepare(messages)
    ids = prompt.input_ids.copy()
    ids[-1] = (ids[-1] + 1) % 50
    parts = {name: getattr(prompt, name) for name in ("pixel_values", "image_grid_thw")}
    seen = []
    for one in (prompt.input_ids, ids):
        with minivl.session(replace=table, record=key) as session:
            vlm.logits(minivl.Inputs.from_ids(one, vlm.config, **parts))
        seen.append(session.trace[key])
    return np.flatnonzero(np.abs(seen[0] - seen[1]).max(axis=1) > 1e-3)


print("the right model:", rows_that_move().tolist(), "of", len(right["prompt.expand"]), "rows")
print("a mask from positions:", rows_that_move("causal-mask-from-positions").tolist())

# %% [markdown]
# The mask from positions passes this law: the last row is text, and for text a position *is* a row. Its law is
# about the cells of a picture. Laws are strong where they look and blind elsewhere, so it takes several. The
# museum has some two dozen, and together they find every fault (`minivl faults --score`).
#
# ## 4. Which fault is it?
#
# The pass is known, and several known faults lie in it. Which of them? Plant each, run it on the same picture, and
# compare what comes out with what the wrong program gave. A fault does something else on every picture and in
# every checkpoint, so there is no list of pictures to look it up in. But there is the model:

# %%
first = next(key for key in errors if errors[key] > TOLERANCE)
suspects = [name for name, fault in faults.FAULTS.items() if fault.is_named_by([first])]
print("the first wrong pass is", first, "and there the museum has", ", ".join(suspects))
for name in suspects:
    tried = flat(faults.recorded(messages, fault=name)[first])
    distance = np.linalg.norm(tried - flat(wrong[first])) / np.linalg.norm(flat(wrong[first]))
    print(f"   {name:24s} differs from the wrong run by {distance:.1e}")

# %% [markdown]
# One of them gives the very numbers. Such a fault's numbers are its **signature** (of a fault). `minivl diagnose`
# does this with all faults, for traces with few taps and in bfloat16 too, and says "none of the known" when no
# signature fits.
#
# ## 5. Now break it
#
# **Predict**: which pass does each of these show first in? One of them does not show on this picture at all. Two change
# a table of whole numbers, where there is no rounding to hide in.

# %%
for name in ("padded-rows-attended", "second-picture-as-text", "norm-plus-one", "resize-bilinear", "windows-missing"):
    run = faults.recorded(messages, fault=name)
    parted = [key for key in right if flat(run[key]).shape != flat(right[key]).shape
              or np.abs(flat(run[key]) - flat(right[key])).max() > 1e-3]
    print(f"{name:26s} {parted[0] if parted else 'nowhere: this picture does not show it'}")

# %% [markdown]
# ## Exercise 16.1: where two runs part (about 20 minutes)
#
# Write `first_wrong(right, wrong)`: two dictionaries, key of a pass -> what it gave, an array or a tuple of
# arrays, in order of execution. Give the key of the first pass of `right` that is wrong, `"none"` when there is
# none. A pass is wrong when one of its arrays has another shape, or a relative error of at least 1e-5 (length of
# the difference over length of the right array), or a number that is not finite; and when the wrong run does
# not have it at all.
#
# <details><summary>Hint 1</summary>Go through right in its order. Make a tuple of what is none:
# parts = value if isinstance(value, tuple) else (value,).</details>
# <details><summary>Hint 2</summary>NaN compares with nothing. So ask "is it right?": not error < 1e-5 is true for
# NaN as well.</details>
# <details><summary>Hint 3</summary>For each key: if key not in wrong, return key. For a, b in zip(parts of both): if
# a.shape != b.shape or not np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b) (and a is not equal to b), return
# key. At the end return "none".</details>

# %%
def first_wrong(right, wrong):
    """The key of the first pass that is wrong, or "none"."""
    ### BEGIN SOLUTION
    def parts(value):
        return [np.asarray(x) for x in (value if isinstance(value, tuple) else (value,))]

    def same(a, b):
        if a.shape != b.shape:
            return False
        a, b = a.astype(np.float64), b.astype(np.float64)
        return np.array_equal(a, b) or np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)

    for key in right:
        if key not in wrong or len(parts(wrong[key])) != len(parts(right[key])):
            return key
        if not all(same(a, b) for a, b in zip(parts(wrong[key]), parts(right[key]), strict=True)):
            return key
    return "none"
    ### END SOLUTION


# %% tags=["check"]
minivl.check("16.1", first_wrong)

# %% [markdown]
# ## Exercise 16.2: your own fault (about 30 minutes)
#
# `faults.assignment("your name")` is a picture and a fault that belong to your name, and to nobody else's. Its
# `messages` are the picture and a question, its `record()` is a run with the fault in it. Find the fault, and write
# `my_fault()`, which gives your name and the name of the fault. How you find it is up to you: section 4
# shows one way, and the hints follow it. You may look at `minivl faults`, at the arrays, at the picture.
#
# <details><summary>Hint 1</summary>faults.recorded(mine.messages) is the right run of your picture. Where do the two
# part?</details>
# <details><summary>Hint 2</summary>The faults that lie in a pass: those with fault.is_named_by([key]). There may be
# one, and you are done, or several.</details>
# <details><summary>Hint 3</summary>For each of them faults.recorded(mine.messages, fault=name) is a run with that
# fault; it is yours when its array at the first wrong pass is the one of your run.</details>

# %%
def my_fault():
    """-> (your name, name of the fault)."""
    ### BEGIN SOLUTION
    name = "A. Student"
    mine = faults.assignment(name)
    theirs, ours = mine.record(), faults.recorded(mine.messages)
    here = first_wrong(ours, theirs)
    for fault in faults.huntable():
        if faults.get(fault).is_named_by([here]):
            tried = faults.recorded(mine.messages, fault=fault)
            if np.array_equal(flat(tried[here]), flat(theirs[here]), equal_nan=True):
                return name, fault
    ### END SOLUTION


# %% tags=["check"]
minivl.check("16.2", my_fault)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | a fault | an issue of a tracker: `faults.get(name).incidents` are the threads |
# | a shadow run | "layer by layer comparison" |
# | a law | a property, an invariance test |
# | the first wrong pass | "first divergence"; in compilers `-opt-bisect-limit` looks for the same |
#
# ## Read next
#
# - `docs/made/bug-museum.md`: all faults, and which check finds which.
# - `minivl/truth/museum/checks.py`: the laws.
# - `minivl/truth/diagnose/`: signatures made on the spot.
# - `CONTRIBUTING.md`: how to put a fault into the museum, if you have met one.
# - Lesson 17: of two programs that are both right, one is a thousand times as fast. What does it do?

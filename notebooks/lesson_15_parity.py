# %% [markdown]
# # Lesson 15: parity: your port is wrong, find out where
#
# **The question.** You have written this model again, in another language or for another chip. It loads, it
# answers, and the answers are a little worse. Which of its passes is wrong, or is it only rounding?
#
# **You need** from lesson 4: *attention*, *segments*; from lesson 5: *windows*, *ragged edges*; from lesson 13:
# what *bfloat16* rounds away. Reading takes about 40 minutes, the two exercises another 35.
#
# ```
# picture.resize   patches.patchify   prompt.expand            what goes in: compared exactly
# vision.embed_patches   vision.blocks.0.attend                <== you are here: every pass, beside another program's
# vision.blocks.0.add_mlp   vision.merge_2x2   vision.restore_order
# decoder.place_features   decoder.layers.0.attend
# decoder.layers.0.add_mlp   decoder.normalise   decoder.logits
# ```

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minivl
from minivl.show import plot
from minivl.kernels import definition as kernels
from minivl.truth.compare.compare import compare
from minivl.truth.trace.format import Trace
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.trace.record import Selection, record
from minivl.truth.compare.report import headline

np.set_printoptions(precision=4, suppress=True, linewidth=110)
vlm = minivl.load(precision="float64")
side = vlm.config.vision.window_size  # pixels: the picture below has windows cut off at both edges
picture = np.random.default_rng(15).integers(0, 256, (side + 28, 3 * side + 28, 3), np.uint8)
messages = [{"role": "user", "content": [{"type": "image", "image": picture},
                                         {"type": "text", "text": "Describe the image."}]}]
inputs = vlm.prepare(messages)
print("a picture of", picture.shape, "pixels:", inputs.image_grid_thw[0].tolist(), "patches, and",
      len(inputs.input_ids), "tokens")

# %% [markdown]
# ## 1. A port, and what its tests say
#
# Here is somebody's port. It runs in bfloat16, as such ports do, and one of its passes is wrong. Its attention
# takes windows of one length only, because that is what the chip likes. For windows that are cut off at an
# edge it gives zeros. (You would not know that. You know: `vision.blocks.*.attend` is one of some hundred passes.)

# %%
def attend_whole_windows(q, k, v, segments):
    length = segments[:, 1] - segments[:, 0]
    return kernels.attend(q, k, v, segments[length == length.max()], False)  # rows of no segment stay zero


PORT = {"vision.blocks.*.attend": attend_whole_windows}


def run(precision, passes=None):
    """Every array of one run, key -> array or tuple."""
    with minivl.load(precision=precision) as model, minivl.using(passes or {}), minivl.session(record="*") as s:
        model.logits(inputs)
    return s.trace


right, port = run("bfloat16"), run("bfloat16", PORT)


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


for name in ("vision.blocks.0.add_mlp", "vision.restore_order", "decoder.logits"):
    print(f"{name:26s} cosine to the right model {cosine(port[name], right[name]):.4f}")

# %% [markdown]
# Shapes are right, numbers are finite. The usual test is a cosine (or its cousin, the correlation PCC) above
# 0.99, at the first block if anywhere. Look at how near a model with holes in it comes at some of these places.
# Section 3 says why.
#
# ## 2. Three runs, not two
#
# Comparing the port with the right model in bfloat16 asks the wrong question: two right programs in bfloat16
# differ as well. (Sums in another order, lesson 13.) How large may a difference be? It takes a third run.
#
# - The **golden value** of a stage: what it gives in float64, where rounding is next to nothing ($2^{45}$ times
#   smaller than in bfloat16).
# - The **candidate**: the program in question. How far is it from the golden value?
# - The **yardstick**: a program that is known to be right, in the *candidate's* type. How far is that one?
#
# A candidate is good when it is no further from the golden value than the yardstick is, times a small factor.
# No threshold has to be invented: the type and the length of the sums make it, at every stage anew.

# %%
golden = run("float64")


def error(candidate, exact):
    """Length of the difference over length of the exact value."""
    candidate, exact = (np.asarray(x, np.float64) for x in (candidate, exact))
    return np.linalg.norm(candidate - exact) / np.linalg.norm(exact)


def first_of(value):
    return value[0] if isinstance(value, tuple) else value


floats = [key for key in golden if first_of(golden[key]).dtype == np.float64]
yardstick = np.array([error(first_of(right[key]), first_of(golden[key])) for key in floats])
candidate = np.array([error(first_of(port[key]), first_of(golden[key])) for key in floats])
print("the stages at which the port is more than 3 times as far away begin with",
      floats[int(np.flatnonzero(candidate > 3 * yardstick)[0])])

figure, axis = plt.subplots(figsize=(11, 3.2))
axis.semilogy(yardstick + 1e-9, color=plot.BLUE, label="the right model in bfloat16")
axis.semilogy(candidate + 1e-9, color=plot.ORANGE, label="the port in bfloat16")
axis.axvline(floats.index("decoder.embed_tokens"), color="grey", lw=0.6)
axis.set(xlabel="stage, in order of execution (the grey line: the decoder begins)", ylabel="error")
axis.legend()
plt.show()

# %% [markdown]
# Both lines go up: errors are carried along and added to. But one goes up at once, in one pass. Not where the
# error is largest is the bug, but where the two lines *part*.
#
# ## 3. Averages hide holes
#
# Error and cosine are averages over all rows. The more rows are right, the less one hole shows. Let one of
# $n$ equal windows be all zeros. The squared error is then $1/n$ of the squared size, and the cosine is
# $\sqrt{1 - 1/n}$:

# %%
number = np.array([4, 10, 30, 100, 400])
print("windows       ", number)
print("error         ", np.sqrt(1 / number))
print("cosine        ", np.sqrt(1 - 1 / number))

exact, wrong = (first_of(x["vision.blocks.0.attend"]).astype(np.float64) for x in (golden, port))
by_row = np.linalg.norm((wrong - exact).reshape(len(exact), -1), axis=1)  # w a e -> w
by_row /= np.linalg.norm(exact.reshape(len(exact), -1), axis=1)
at = minivl.provenance(inputs, vlm.config)
print(f"rows that are right: {(by_row < 0.1).mean():.0%}, rows of which nothing is left: {(by_row > 0.9).mean():.0%}")
figure = plot.board(1, 2, (11, 2.8))
figure.axes[0].plot(by_row, ".", color=plot.ORANGE)
figure.axes[0].set(title="error of each row of vision.blocks.0.attend", xlabel="row, by window")
plot.rows(by_row[:, None], "w", at, figure.axes[1])
figure.axes[1].set_title("the same on the picture", size=9)
figure

# %% [markdown]
# Some rows are as good as they can be, and of the others nothing is left: an error of 1. So the *worst row* is
# looked at besides the whole: a hole in one window of a hundred has a worst row of 1, whatever the average says. And
# the rows say more than a number could: they are those of the windows at the right and lower edge. Whoever knows what
# a ragged edge is needs no more.
#
# ## 4. The first bad tap
#
# A **tap** (in a program) is a place where you can read an array out. A **trace** (of a run) is a file with the
# arrays of all taps. minivl writes a golden one, with yardsticks, and compares any other with it:

# %%
folder = Path(tempfile.mkdtemp())
record(vlm, inputs, folder / "golden.safetensors", yardsticks=("float32", "bfloat16"))


def write(name, passes, precision="bfloat16", only=("*",)):
    """The trace of a port, as a file."""
    with minivl.load(precision=precision) as model, minivl.using(passes):
        record(model, inputs, folder / name, Selection(only))
    return folder / name


def look(path):
    """What `minivl diff` finds."""
    with Trace(folder / "golden.safetensors") as trace:
        return compare(trace, read_candidate(path, trace))


found = look(write("port.safetensors", PORT))
for said in headline(found)[1:]:
    print(said[:150])

# %% [markdown]
# The commands for that are `minivl trace record` and `minivl diff`. `look` sees the same as our curves, and
# something besides: *which stage comes from which*. A bad stage that comes from another bad one is no news.
# The first bad tap is one that comes from no other.
#
# ### Few taps
#
# A chip's toolchain may let you see nine arrays, not a hundred. Then the answer is an interval: everything
# between the bad tap and the right ones that it comes from.

# %%
last = vlm.config.vision.depth - 1
NINE = ("vision.embed_patches", "vision.blocks.0.add_mlp", "vision.blocks.1.add_mlp", f"vision.blocks.{last}.add_mlp",
        "vision.restore_order", "decoder.place_features", "decoder.layers.0.add_mlp", "decoder.normalise",
        "decoder.logits")
few = look(write("few.safetensors", PORT, only=NINE))
print("first bad tap:", few.first_bad)
print(len(few.suspects), "passes may be guilty:", ", ".join(few.suspects))

# %% [markdown]
# ## 5. Each stage by itself
#
# Behind the first bad stage all is bad, and a second bug there would go unseen. The way out: give each stage of
# the *right* model what the candidate had in front of it, and compare what comes out. An error then cannot be
# carried along. Every stage answers for itself:

# %%
with Trace(folder / "golden.safetensors") as trace:
    theirs = read_candidate(folder / "port.safetensors", trace)
    with local_golden(vlm, trace, theirs) as local:
        each = compare(local, theirs)
print("guilty:", [key for key, word in each.words.items() if word in ("wrong", "suspicious")])

# %% [markdown]
# These are the windowed blocks, and the full ones (lesson 5) are not among them: a picture has one frame, and
# that has one length. This is `minivl diff --local`.
#
# ## 6. Now break it
#
# Five ports with one fault each. **Predict** the first bad tap of each, and in which type it is seen. (What is
# smaller than the rounding that has added up until there is not seen.)

# %%
def not_inverted(cells, order):
    return cells[order]


def no_bias(x, linear, config):
    return minivl.passes.block.project_qkv.definition(x, linear._replace(bias=None), config)


def tanh_gelu(x):
    y = kernels.wide(x)
    return kernels.narrow(0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))), x.dtype)


def sees_ahead(q, k, v, segments):
    return kernels.attend(q, k, v, segments, False)


ports = {"restored by the order itself": {"vision.restore_order": not_inverted},
         "no bias in the tower": {"vision.blocks.*.project_qkv": no_bias},
         "not causal": {"decoder.layers.*.attend": sees_ahead},
         "one norm 1 percent too strong": {"decoder.layers.0.normalise": lambda x, norm: (
             minivl.passes.block.normalise.definition(x, norm) * x.dtype.type(1.01))},
         "GELU by tanh": {"kernel.gelu": tanh_gelu}}
print(f"{'':30s} {'float32':28s} bfloat16")
for name, passes in ports.items():
    seen = [look(write("broken.safetensors", passes, precision)).first_bad for precision in ("float32", "bfloat16")]
    print(f"{name:30s} {seen[0] or 'nothing':28s} {seen[1] or 'nothing'}")

# %% [markdown]
# Hence a rule: **hunt in float32**, even when the port will run in bfloat16. What a fault does is the same, and
# rounding is 65,536 times smaller.
#
# ## Exercise 15.1: the worst row (about 15 minutes)
#
# Write `worst_row(candidate, golden)`: both (n, d). Give the number of the row whose relative error is largest,
# and that error. A row's error is the length of its difference over the length of its golden row. But a row
# that is nearly nothing would make a mountain of a grain: measure it against a tenth of the median length
# instead, where it is shorter than that. A row with a number that is not finite is the worst of all, with the
# error infinity.
#
# <details><summary>Hint 1</summary>Lengths of rows: np.linalg.norm(x, axis=1). The difference first, then its
# length.</details>
# <details><summary>Hint 2</summary>The divisor is np.maximum(size, 0.1 * np.median(size)). Not finite: NaN
# compares with nothing, so replace it before you look for the largest.</details>
# <details><summary>Hint 3</summary>e = np.linalg.norm(candidate - golden, axis=1) / divisor; e = np.where(
# np.isfinite(e), e, np.inf); return int(e.argmax()), float(e.max())</details>

# %%
def worst_row(candidate, golden):
    """n d, n d -> (row number, its error)."""
    ### BEGIN SOLUTION
    size = np.linalg.norm(golden, axis=1)  # n
    size = np.maximum(size, 0.1 * np.median(size))
    errors = np.linalg.norm(candidate - golden, axis=1) / size
    errors = np.where(np.isfinite(errors), errors, np.inf)
    return int(errors.argmax()), float(errors.max())
    ### END SOLUTION


# %% tags=["check"]
minivl.check("15.1", worst_row)

# %% [markdown]
# ## Exercise 15.2: the first bad tap (about 20 minutes)
#
# Write `first_bad(errors, yardsticks, parents)`: three dictionaries with the same names. `errors` and
# `yardsticks` hold a number for each stage: how far the candidate is from the golden value, and how far the
# yardstick is. `parents` holds a list: the stages that a stage comes from. A stage is bad when its error is more
# than 3 times its yardstick. Give the name of a bad stage that comes from no bad stage, neither directly nor
# over others; `"none"` when no stage is bad. The dictionaries are in no order that you could rely on.
#
# <details><summary>Hint 1</summary>Two questions for each stage: is it bad, and is any of its forefathers? A
# forefather is a parent, or a forefather of a parent: a function that calls itself.</details>
# <details><summary>Hint 2</summary>def before(name): all parents, and for each of them before(parent). A good
# stage may lie between two bad ones; go on through it.</details>
# <details><summary>Hint 3</summary>bad = {n for n in errors if errors[n] > 3 * yardsticks[n]}; then the first n
# in bad with not bad & before(n), else "none"</details>

# %%
def first_bad(errors, yardsticks, parents):
    """The name of a bad stage that comes from no bad one, or "none"."""
    ### BEGIN SOLUTION
    bad = {name for name in errors if errors[name] > 3 * yardsticks[name]}

    def before(name):
        return set(parents[name]).union(*(before(parent) for parent in parents[name]))
    return next((name for name in bad if not bad & before(name)), "none")
    ### END SOLUTION


# %% tags=["check"]
minivl.check("15.2", first_bad)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | a tap | a forward hook, `register_forward_hook` in PyTorch; `minivl/truth/trace/torch_recorder.py` sets them all |
# | golden value | "reference output"; the reference in float64 still rounds to float32 in its norms and softmax |
# | error | relative L2 error; `torch.allclose` asks about single numbers and has no yardstick |
# | worst row | "per-token error" |
# | `decoder.layers.N.add_mlp` | `model.model.language_model.layers[N]`, its output |
# | `vision.blocks.N.attend` | what goes into `visual.blocks[N].attn.proj` |
#
# ## Read next
#
# - `docs/guide/walk-through.md`: the same hunt on the command line, with a PyTorch model that is broken on purpose.
# - `docs/reference/trace-format.md`: what a trace holds, and how arrays of other programs are read.
# - `minivl/truth/compare/verdict.py`: the factors, and where they come from.
# - Lesson 16: faults that really happened, one of them yours.

# %% [markdown]
# # Lesson 18: GPU without a GPU
#
# **The question.** A GPU runs ten thousand copies of one small function at once. How do you write that function,
# how do the copies work together, and who tells you that they got in each other's way, when you have no GPU?
#
# **You need** from lesson 4: attention; from lesson 7: the RMS norm; from lesson 17: the *roofline* and attention in
# blocks. Some C helps; all that is needed is shown. Reading takes about 50 minutes, the three exercises another 60.
#
# ```
# vision.embed_patches   vision.blocks.0.project_qkv           on a GPU: cuBLAS, many rows
# vision.blocks.0.attend                                       <== you are here: sections 6 and 7
# vision.blocks.0.add_mlp   vision.merge_2x2
# decoder.layers.0.project_qkv   decoder.layers.0.attend       one row in a further token: section 5
# decoder.layers.0.add_mlp   decoder.logits
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivl
from minivl.kernels.cuda import check
from minivl.kernels.cuda.build import NoCompiler, compiler
from minivl.kernels.cuda.faults import KernelFault
from minivl.kernels.cuda.runner import RawModule
from minivl.config import official_config
from minivl.run import roofline
from minivl.show import plot
from minivl.teach import gpu_ladder

np.set_printoptions(precision=4, suppress=True, linewidth=110)
try:
    print("kernels run on this processor, compiled by", compiler().version)
    HERE = True
except NoCompiler as lacking:
    print("no kernel runs in this lesson, and the exercises cannot be checked:", lacking)
    HERE = False

# %% [markdown]
# **No GPU is used in this lesson.** The kernels are CUDA C, as a GPU takes it, and run on your processor: a *runner*
# gives each word of CUDA the meaning that it has on a GPU, and looks at what every copy reads and writes. It can tell
# you whether a kernel is right. It says nothing about speed: what is said of that below follows from shapes, by
# division.
#
# ## 1. From a loop to a kernel
#
# A loop does one thing for each `i`. On a GPU nobody counts `i` up: there is a copy of the body for each `i`, a
# **thread**, and it asks which one it is.

# %%
def scaled_by_loop(x, a):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = a * x[i]
    return y


SCALED = r"""
extern "C" __global__ void scaled(const float* x, float* y, float a) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = a * x[i];
}
"""


def run(code, kernel, grid, block, *args, **how):
    """Run a kernel on the processor; its arrays are written in place."""
    if HERE:
        RawModule(code, **how).get_function(kernel)(grid, block, args)


x = np.arange(500, dtype=np.float32)
y = np.zeros(512, np.float32)
run(SCALED, "scaled", (4,), (128,), np.resize(x, 512), y, np.float32(2))  # 4 x 128 threads
if HERE:
    print("y:", y[:6], "...")
    print("the kernel is equal to the loop:", np.array_equal(y[:500], scaled_by_loop(x, np.float32(2))))

# %% [markdown]
# `__global__` marks a kernel. Pointers are arrays without a length, and `x[i]` is the number behind the pointer:
# nobody looks whether `i` is below it. The call says how many threads there are, `<<<4, 128>>>` in CUDA: four groups
# of 128. Threads come in groups because a GPU is built of them; section 2 says how.
#
# 500 is not 4 x 128, so above we made the arrays longer. **Predict**: what happens with arrays of 500?

# %%
def say(code, kernel, grid, block, values, expected=None):
    """What the runner says of a kernel, in every build and several orders of threads."""
    if HERE:
        print(check(code, kernel, grid, block, values, expected))


values = {"x": x, "y": np.full(500, np.nan), "a": 2.0}
say(SCALED, "scaled", (4,), (128,), values)

# %% [markdown]
# On a GPU this often goes unseen: behind the 500 numbers lies somebody else's array, and thread 500 writes there. The
# runner knows where each argument ends. The mend is a line that every kernel has: who has nothing to do, leaves.

# %%
GUARDED = SCALED.replace("float a)", "float a, int n)").replace("  y[i]", "  if (i >= n) return;\n  y[i]")
print(GUARDED)
say(GUARDED, "scaled", (4,), (128,), {**values, "n": 500}, {"y": 2 * x})

# %% [markdown]
# ## 2. Blocks and warps
#
# A GPU has a hundred processors or so (*streaming multiprocessors*). A **block of threads** runs on one of them,
# from its beginning to its end; which one, and when, is not said. Inside, 32 neighbours are a **warp**: they go through
# the program together, one instruction for all 32. A thread's place in its warp is its **lane**.

# %%
WHERE = r"""
extern "C" __global__ void where(int* block, int* warp, int* lane) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  block[i] = blockIdx.x, warp[i] = threadIdx.x / 32, lane[i] = threadIdx.x % 32;
}
"""
found = np.zeros((3, 160), np.int32)
run(WHERE, "where", (2,), (80,), *found)
for i in (0, 31, 32, 79, 80, 159) if HERE else ():
    print(f"thread {i:3d} of all: block {found[0, i]}, warp {found[1, i]}, lane {found[2, i]:2d}")

# %% [markdown]
# (80 threads are two and a half warps: the lanes 16 to 31 of the third are idle.) Lanes of a warp can hand each other
# numbers, without any memory: `__shfl_xor_sync(mask, x, step)` gives the `x` of the lane whose number differs in the
# bit `step`. Five of those are a sum over 32 lanes, which every lane has in the end:

# %%
SUM = r"""
extern "C" __global__ void sum_of_32(const float* x, float* y) {
  float sum = x[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  y[threadIdx.x] = sum;
}
"""
numbers = np.arange(32, dtype=np.float32)
sums = np.zeros(32, np.float32)
run(SUM, "sum_of_32", (1,), (32,), numbers, sums)
if HERE:
    print("the sum is", numbers.sum(), "and the lanes have", np.unique(sums))

# by hand: what lane 0 has after each step
lanes = numbers.copy()
for step in (16, 8, 4, 2, 1):
    lanes = lanes + lanes[np.arange(32) ^ step]
    print(f"after step {step:2d}: lane 0 has {lanes[0]:.0f}, and {len(np.unique(lanes))} different sums are left")

# %% [markdown]
# ## 3. Shared memory, and the race
#
# Warps of a block hand each other numbers through **shared memory**: some ten thousand bytes.
#
# It lies beside the processor, for this block alone, and is about as fast as registers. A piece of it holds a *tile*
# of what lies in the large memory. Each thread of this block goes through a row of 256 numbers, 64 at a time, and
# takes the number that its *partner*, thread `63 - t`, fetched. `__syncthreads()` is a **barrier**: nobody goes on
# before all of the block are there. It makes sure that the partner has written. **Before you run the cell**: is one
# enough?

# %%
MIRRORED = r"""
extern "C" __global__ void mirrored(const float* x, float* y) {
  __shared__ float tile[64];
  int t = threadIdx.x;
  float sum = 0.f;
  for (int start = 0; start < 256; start += 64) {
    tile[t] = x[start + t];
    __syncthreads();
    sum += tile[63 - t];
  }
  y[t] = sum;
}
"""
x = np.random.default_rng(18).standard_normal(256).astype(np.float32)
right = x.reshape(4, 64)[:, ::-1].sum(0)
say(MIRRORED, "mirrored", (1,), (64,), {"x": x, "y": np.full(64, np.nan)})

# %% [markdown]
# A **race**: two threads touch the same place, one of them writes, and nothing says who is first. The report names
# both, and both lines. A thread that has read its number begins the next round and writes into the tile, while its
# partner still waits to read the last one.
#
# What would a test have said, that looks at the numbers only? That depends on who runs first. The runner can play
# several orders of threads; a GPU plays whichever it likes:

# %%
def wrong_numbers(code, kernel, block, order, seed=0):
    """How many of the 64 sums are wrong, with the threads in one order."""
    y = np.full(64, np.nan, np.float32)
    run(code, kernel, (1,), block, x, y, schedule=order, seed=seed)
    return int((~np.isclose(y, right, atol=1e-5)).sum())


if HERE:
    for order, seed in (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)):
        wrong = wrong_numbers(MIRRORED, "mirrored", (64,), order, seed)
        print(f"threads in order {order} {seed}: {wrong:2d} of 64 are wrong")

# %% [markdown]
# How many are wrong depends on the order. On a GPU the 32 lanes of a warp mostly go together, so that a race may show
# once in a million launches: on another card, or when the course is over. The runner does not wait for bad luck. It
# asks of every two accesses of a byte whether a barrier stands *between* them, whatever order was played.
#
# The mend is a second barrier: nobody writes the next tile before all have read this one.

# %%
MENDED = MIRRORED.replace("sum += tile[63 - t];", "sum += tile[63 - t];\n    __syncthreads();")
say(MENDED, "mirrored", (1,), (64,), {"x": x, "y": np.full(64, np.nan)}, {"y": right})

# %% [markdown]
# ## 4. What nobody wrote, and who never comes
#
# Two more things go wrong with tiles. The row may end inside of one. Of 100 numbers the second tile, the only one that
# this block looks at, holds 36:

# %%
RAGGED = (MENDED.replace("float* y)", "float* y, int n)").replace("start < 256", "start < n")
          .replace("tile[t] = x[start + t];", "if (start + t < n) tile[t] = x[start + t];"))
SECOND = RAGGED.replace("start = 0", "start = 64")
print(next(line for line in SECOND.splitlines() if "start + t < n" in line))
say(SECOND, "mirrored", (1,), (64,), {"x": x[:100], "y": np.full(64, np.nan), "n": 100})

# %% [markdown]
# Shared memory begins with what the block before left in it: not with zeros. A test on a quiet machine may well find
# zeros there. (Begun at 0, as it should be, the loop finds the *former tile* there instead, which somebody did write:
# the runner is content, and only the numbers tell. Fill up a tile with zeros, always.)
#
# And a barrier waits for *all* threads of its block. The line of section 1, "who has nothing to do, leaves", must not
# stand in front of one:

# %%
LEAVING = MENDED.replace("float* y)", "float* y, int n)").replace("  float sum", "  if (t >= n) return;\n  float sum")
say(LEAVING, "mirrored", (1,), (64,), {"x": x, "y": np.full(64, np.nan), "n": 40})

# %% [markdown]
# ## 5. The ladder of a matrix and one row
#
# Now the model's own kernels, in `cuda/`. A further token is a row times one matrix after the other (lesson 17): here
# is the first rung, a thread for each row of weights. `real` and `weight` are bfloat16, `widen` makes a float of it:

# %%
print(gpu_ladder.source("gemv_naive"))

# %% [markdown]
# `gpu_ladder.climb` runs each rung, in the build that looks at every access, on sizes that fit no block, and compares
# it with float64. Beside it stands what it must move and do for a matrix of the official 3B model.

# %%
print(gpu_ladder.climb("matrix_vector"))

# %% [markdown]
# All rungs move the same bytes and do the same operations. What differs is *how they ask*. Memory comes in pieces of
# 32 bytes, and the 32 lanes of a warp ask at once. Here is which pieces one such request needs, from the places that
# the lanes read:

# %%
k, lane = 2048, np.arange(32)  # numbers in a row of the matrix; two bytes each
asked = {"naive": 2 * k * lane,  # lane's own row, the same column
         "warp": 2 * lane,  # one row, neighbours
         "vectorised": 16 * lane}  # eight neighbours each
each = {"naive": 2, "warp": 2, "vectorised": 16}
print(f"{'rung':12s} {'bytes used':>10s} {'pieces':>7s} {'bytes fetched':>14s}")
for rung, places in asked.items():
    pieces = len(np.unique(places // 32))
    print(f"{rung:12s} {32 * each[rung]:10d} {pieces:7d} {32 * pieces:14d}")

figure, axes = plt.subplots(1, 3, figsize=(12, 2.6), layout="constrained")
for axis, (rung, places) in zip(axes, asked.items(), strict=True):
    axis.scatter(places // 32, lane, s=12, color=plot.BLUE)
    axis.set(title=rung, xlabel="piece of 32 bytes", ylabel="lane")
    axis.xaxis.get_major_locator().set_params(integer=True)
figure.set_label("Which piece of memory each of 32 lanes asks for: far apart in the naive rung, one for each lane; two "
                 "pieces for all in the rung of a warp; sixteen neighbouring ones in the vectorised rung.")
plt.show()

# %% [markdown]
# The naive rung fetches 16 times what it uses, and hopes that the rest is still in a cache when the next columns are
# asked for. The second uses all that it fetches. The third asks for eight times as much at once, so that fewer
# requests keep the memory busy. That is *coalescing*, and it is most of what this ladder is about: one row has nothing
# that could be used twice.
#
# ## 6. The ladder of attention
#
# In attention there is something to use twice: all queries read the same keys and values. The second rung brings a
# tile of 32 keys into shared memory once, for 32 queries. Look for its two barriers, and for the softmax of lesson 17
# that needs no second pass:

# %%
print(gpu_ladder.source("attend_tiled"))

# %%
print(gpu_ladder.climb("attention"))

# %% [markdown]
# Look at the megabytes. The naive rung asks for all keys and values for every query; a tile divides that by 32. (What
# a cache gives back is not counted, since nobody promises it.) The last rung hands 16 x 16 x 16 products to a
# **tensor core**, a unit that takes whole tiles from a warp: `mma_sync` below. The runner knows what it means, too:

# %%
tensor = gpu_ladder.source("attend_tensor").splitlines()
for number, line in enumerate(tensor):
    if "mma_sync" in line or "load_matrix_sync" in line:
        print(f"line {number:3d} of {len(tensor)}: {line.strip()}")

# %% [markdown]
# The operations of an attention are the definition's: two products. We count them once more, with loops that only
# count, on a size that loops can do:

# %%
def counted(n, e):
    """Multiplications and additions of one head: every query by every key, then the values."""
    operations = 0
    for _ in range(n):
        for _ in range(n):
            operations += 2 * e  # the score
            operations += 2 * e  # the value, weighed and added
    return operations


small = gpu_ladder.work("attention", "tiled", 48, 1, 1, 16)
print("operations by counting equal to the plan's:", counted(48, 16) == small.operations)
queries = [gpu_ladder.work("attention", rung.name).bytes for rung in gpu_ladder.ladder("attention").rungs]
print("bytes of the naive rung over those of the tiled one:", round(queries[0] / queries[1], 1))

# %% [markdown]
# ## 7. A prediction, and what it is worth
#
# What would a card do? From its data sheet we take three numbers (an H200: 4.8 TB/s; 67 TFLOP/s in float32; 989
# TFLOP/s on tensor cores in bfloat16), from the shapes bytes and operations, and from lesson 17 the roofline: the
# slower of both decides.

# %%
bandwidth, plain, cores = 4.8e12, 67e12, 989e12
print(f"{'':28s} {'bytes':>9s} {'products':>9s}   microseconds, at the least")
for name in ("matrix_vector", "attention"):
    for rung in gpu_ladder.ladder(name).rungs:
        must, peak = gpu_ladder.work(name, rung.name), cores if rung.name == "tensor" else plain
        print(f"{rung.kernel:28s} {1e6 * must.bytes / bandwidth:9.1f} {1e6 * must.operations / peak:9.1f}   "
              f"decided by {'memory' if must.bytes / bandwidth > must.operations / peak else 'products'}")

at = {rung.name: gpu_ladder.work("attention", rung.name).intensity for rung in gpu_ladder.ladder("attention").rungs}
figure = plot.board(1, 2, (12, 4.2))
plot.roofline(bandwidth, {"float32": plain}, {rung: at[rung] for rung in ("naive", "tiled")}, figure.axes[0])
plot.roofline(bandwidth, {"tensor cores": cores}, {"tensor": at["tensor"]}, figure.axes[1])
figure.set_label("Two roofs of a card. In float32 the naive rung of attention lies far down the slope, at one "
                 "operation for each byte, and the tiled one under the flat part. On tensor cores the flat part is "
                 "fifteen times as high, and the last rung is on the slope again.")
figure

# %% [markdown]
# And a whole token of the 3B model, all of whose weights must pass:

# %%
decode = next(part for part in roofline.parts(official_config("3B"))
              if part.name.startswith("decode") and part.name.endswith("products"))
print(f"{decode.moved / 1e9:.2f} GB of weights for a token: {1e3 * decode.moved / bandwidth:.2f} ms at the least, "
      f"{bandwidth / decode.moved:.0f} tokens a second at most")

# %% [markdown]
# These are floors and no measurements. No card was asked: not how much of its bandwidth a kernel really gets, what the
# caches give back, how long it takes to begin one. In a checkout `python -m tools.gpu_check plan` prints the same for
# every kernel, with registers, shared memory and the two assumptions that make a prediction of a floor, and
# `python -m tools.gpu_check` measures all of it on a machine that has a card.
#
# ## 8. Now break it
#
# A product of a matrix with one row, eight rows a block and a warp for each, `x` in a tile. It is right. Each fault
# changes one thing. **Predict** for each: would a test see it that compares numbers, with the threads in one order?

# %%
PRODUCT = r"""
extern "C" __global__ void product(const float* w, const float* x, float* y, int n, int k) {
  __shared__ float tile[32];
  int row = blockIdx.x * 8 + threadIdx.y, lane = threadIdx.x;
  float sum = 0.f;
  for (int k0 = 0; k0 < k; k0 += 32) {
    __syncthreads();
    if (threadIdx.y == 0) tile[lane] = k0 + lane < k ? x[k0 + lane] : 0.f;
    __syncthreads();
    if (row < n && k0 + lane < k) sum += w[row * k + k0 + lane] * tile[lane];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (row < n && lane == 0) y[row] = sum;
}
"""
first, second = "    __syncthreads();\n    if (threadIdx.y", "    __syncthreads();\n    if (row"
faults = {
    "as it should be": ("", ""),
    "no barrier before the tile": (first, "    if (threadIdx.y"),
    "no barrier behind it": (second, "    if (row"),
    "the last row looked for once more": ("if (row < n && k0", "if (row <= n && k0"),
    "a column too many": ("k0 + lane < k) sum", "k0 + lane <= k) sum"),
    "every lane writes the sum": ("row < n && lane == 0", "row < n"),
    "16 lanes in the mask": ("0xffffffffu", "0x0000ffffu"),
    "a step of the sum too few": ("step = 16", "step = 8"),
}
draw = np.random.default_rng(181)
w, one = (draw.standard_normal(shape).astype(np.float32) for shape in ((13, 75), (75,)))
given = {"w": w, "x": one, "n": 13, "k": 75}


def by_numbers(code):
    """What a test says that compares numbers, in one order of threads."""
    y = np.full(13, np.nan, np.float32)
    try:
        run(code, "product", (2,), (32, 8), w, one, y, np.int32(13), np.int32(75), schedule="reverse", isolated=True)
    except KernelFault as fault:
        return fault.kind
    return "right" if np.allclose(y, w @ one, atol=1e-4) else "wrong"


if HERE:
    print(f"{'':36s} {'by numbers':12s} by the runner")
    for name, (old, new) in faults.items():
        code = PRODUCT.replace(old, new) if old else PRODUCT
        verdict = check(code, "product", (2,), (32, 8), {**given, "y": np.full(13, np.nan)}, {"y": w @ one})
        told = [f"{one.kind}{f' in line {one.line}' if one.line else ''}" for one in verdict.findings[:1]]
        print(f"{name:36s} {by_numbers(code):12s} {', '.join(told) or 'nothing is wrong'}")

# %% [markdown]
# Several faults give the right numbers here. A test of numbers asks whether it went well this once; whether it *must*
# go well is another question. (That all lanes write one and the same sum does no harm on today's cards. It costs 32
# writes, and the runner takes the strict side.)
#
# The runner has an answer to that only for what it sees: for the sizes that you give it. Give it sizes that fit no
# tile, no warp and no block, as the last row and the last column here.
#
# ## Exercise 18.1: the RMS norm of rows (about 20 minutes)
#
# Write the *body* of
#
# ```
# extern "C" __global__ void norm_of_rows(const float* x, const float* w, float* y, int d, float eps) {
# ```
#
# It is launched with a block of 64 threads for each row of `x` (n, d): `y = x / sqrt(mean(x^2) + eps) * w`, the mean
# over the row. `d` may be anything, 1 or 150. Your function gives the body as a text; line numbers in a report
# are those of this text, the first line being the one with the three quotes.
#
# <details><summary>Hint 1</summary>A thread takes the numbers i = threadIdx.x, i + 64, ... of its block's row, and
# adds up their squares. The row begins at x + blockIdx.x * d.</details>
# <details><summary>Hint 2</summary>A sum over the 32 lanes as in section 2; there are two warps, so each leaves its
# sum in a shared array of two numbers. What must stand between writing and reading it?</details>
# <details><summary>Hint 3</summary>__shared__ float parts[2]; ... if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32]
# = sum; __syncthreads(); float turn = 1.f / sqrtf((parts[0] + parts[1]) / d + eps); then the loop once more, with
# y[blockIdx.x * d + i] = row[i] * turn * w[i].</details>

# %%
def norm_of_rows():
    """-> the body of norm_of_rows(const float* x, const float* w, float* y, int d, float eps), 64 threads a row."""
    ### BEGIN SOLUTION
    return r"""
      __shared__ float parts[2];
      const float* row = x + blockIdx.x * d;
      float sum = 0.f;
      for (int i = threadIdx.x; i < d; i += 64) sum += row[i] * row[i];
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
      if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
      __syncthreads();
      float turn = 1.f / sqrtf((parts[0] + parts[1]) / d + eps);
      for (int i = threadIdx.x; i < d; i += 64) y[blockIdx.x * d + i] = row[i] * turn * w[i];
    """
    ### END SOLUTION


# %% tags=["check"]
minivl.check("18.1", norm_of_rows)

# %% [markdown]
# ## Exercise 18.2: a matrix times one row, in tiles (about 20 minutes)
#
# Write the body of
#
# ```
# extern "C" __global__ void matrix_vector(const float* w, const float* x, float* y, int n, int k) {
# ```
#
# for `y = w x`, `w` (n, k). A block is (32, 4): `threadIdx.x` is the lane, `threadIdx.y` one of four rows of `w`;
# block b has the rows 4 b to 4 b + 3. `x` comes through a tile of 32 numbers in shared memory, so that it is
# read once a block. Neither `n` nor `k` fits. Section 8 has a kernel with eight rows: write yours without looking,
# then compare.
#
# <details><summary>Hint 1</summary>A loop over k0 = 0, 32, 64, ...: fetch the tile, wait, multiply, and wait again
# before the next one is fetched. One of the four warps fetches.</details>
# <details><summary>Hint 2</summary>A thread whose row does not exist must still come to every barrier: no return
# before them; it only leaves out the product and the writing. What is behind the end of x is 0 in the tile.</details>
# <details><summary>Hint 3</summary>In the loop: __syncthreads(); if (threadIdx.y == 0) tile[t] = k0 + t < k ? x[k0 +
# t] : 0.f; __syncthreads(); if (row < n && k0 + t < k) sum += w[row * k + k0 + t] * tile[t]; behind it the sum over
# the lanes, and lane 0 writes.</details>

# %%
def matrix_vector():
    """-> the body of matrix_vector(const float* w, const float* x, float* y, int n, int k), 32 x 4 threads."""
    ### BEGIN SOLUTION
    return r"""
      __shared__ float tile[32];
      int row = blockIdx.x * 4 + threadIdx.y, t = threadIdx.x;
      float sum = 0.f;
      for (int k0 = 0; k0 < k; k0 += 32) {
        __syncthreads();
        if (threadIdx.y == 0) tile[t] = k0 + t < k ? x[k0 + t] : 0.f;
        __syncthreads();
        if (row < n && k0 + t < k) sum += w[row * k + k0 + t] * tile[t];
      }
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
      if (row < n && t == 0) y[row] = sum;
    """
    ### END SOLUTION


# %% tags=["check"]
minivl.check("18.2", matrix_vector)

# %% [markdown]
# ## Exercise 18.3: parts of attention, put together (about 20 minutes)
#
# One token has too few heads to fill a card, so its keys are split, and each split is a block of its own. It gives,
# for its keys alone, the largest score `most`, `total` = the sum of exp(score - most), and `sums` = the sum of
# exp(score - most) times the value. Write the body of
#
# ```
# extern "C" __global__ void merge_splits(const float* most, const float* total, const float* sums, float* y,
#                                         int splits, int e) {
# ```
#
# which makes of them what a softmax over *all* keys gives. `most` and `total` are (heads, splits), `sums` is (heads,
# splits, e), `y` is (heads, e). There is a block of 32 threads for each head. Scores may be in the hundreds. A
# split without keys has `most` -1e30 and zeros.
#
# <details><summary>Hint 1</summary>Section 4 of lesson 17: when a larger score comes, what was summed so far shrinks.
# The largest of all splits is the one that counts.</details>
# <details><summary>Hint 2</summary>A split's total and sums are both too large by exp(largest - most) beside the
# others: multiply both with expf(most - largest), which is at most 1. e may be more than 32.</details>
# <details><summary>Hint 3</summary>whole = the sum over s of expf(most[head * splits + s] - largest) * total[head *
# splits + s]; for each c = threadIdx.x, c + 32, ... below e the same sum with sums[(head * splits + s) * e + c],
# divided by whole. No thread needs another: no shared memory, no barrier.</details>

# %%
def merge_splits():
    """-> the body of merge_splits(most, total, sums, y, int splits, int e), all float*, 32 threads a head."""
    ### BEGIN SOLUTION
    return r"""
      const float* its = most + blockIdx.x * splits;
      float largest = its[0], whole = 0.f;
      for (int s = 1; s < splits; s++) largest = fmaxf(largest, its[s]);
      for (int s = 0; s < splits; s++) whole += expf(its[s] - largest) * total[blockIdx.x * splits + s];
      for (int c = threadIdx.x; c < e; c += 32) {
        float sum = 0.f;
        for (int s = 0; s < splits; s++)
          sum += expf(its[s] - largest) * sums[(blockIdx.x * splits + s) * e + c];
        y[blockIdx.x * e + c] = sum / whole;
      }
    """
    ### END SOLUTION


# %% tags=["check"]
minivl.check("18.3", merge_splits)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there |
# |---|---|
# | the runner | on a GPU, `compute-sanitizer`: `memcheck`, `racecheck`, `initcheck`, `synccheck` |
# | a tile, two barriers | double buffering and `cp.async` let the next tile come while this one is used |
# | attention in tiles | `attn_implementation="flash_attention_2"`, or `"sdpa"` on a GPU |
# | parts, put together | flash decoding, "split-KV" |
# | a matrix times one row | GEMV; a large product is GEMM, and cuBLAS's |
# | `mma_sync` | WMMA; the instruction is `mma.sync`, later `wgmma` |
#
# ## Read next
#
# - `cuda/attention.cu` and `cuda/gemv.cu`: all rungs, and what each of their lines is for.
# - `docs/guide/cuda.md`: how a processor runs CUDA, and what it cannot say.
# - `minivl cuda check FILE.cu`: a kernel of your own.
# - Lesson 19: a model that is too large for one machine.

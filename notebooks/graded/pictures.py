# %% [markdown]
# # Graded: pictures and patches
#
# From a picture's size to the rows that the model reads (lessons 2 and 3).
#
# You are graded on your own variant of each stage: the same stage with another rule (other sizes, orders or rates).
# The variant follows from your name, so write it exactly as your teacher does. Each exercise first prints what yours
# asks for.
#
# What is graded are the functions alone. They run without the rest of minivl and on inputs that you have not seen, so
# write them with NumPy and what the arguments offer. A function must not change its arguments. The check below each
# exercise draws inputs too, and says what is wrong.

# %%
import numpy as np

import minivl

STUDENT = "instructor"

# %% [markdown]
# ## 1. `target_size` (about 10 minutes)
#
# The height and width that a picture is resized to.

# %%
minivl.check("target_size", variant=STUDENT)


# %%
def target_size(shape, config):
    """The size (height, width) as whole numbers, for a picture of this shape."""
    ### BEGIN SOLUTION
    step = config.patch_size * config.merge_size
    sides = np.ceil(np.array(shape[:2]) / step).astype(int) * step
    return np.repeat(max(sides.max(), step), 2)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("target_size", target_size, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("target_size", target_size, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 2. `normalise` (about 10 minutes)
#
# Grey levels to the numbers that the model was trained with, colour first.

# %%
minivl.check("picture.normalise", variant=STUDENT)


# %%
def normalise(pixels, config):
    """h u 3 -> 3 h u"""
    ### BEGIN SOLUTION
    levels = (pixels / 255 - np.array(config.image_mean)) / config.image_std
    return -levels[:, :, [2, 0, 1]].transpose(2, 0, 1)  # h u 3 -> 3 h u
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("picture.normalise", normalise, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("picture.normalise", normalise, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 3. `patchify` (about 25 minutes)
#
# Frames into patches: a row for each, its values and the rows in the order of your variant.

# %%
minivl.check("patchify", variant=STUDENT)


# %%
def patchify(frames, config):
    """t 3 h u -> p x"""
    ### BEGIN SOLUTION
    pair, size = config.temporal_patch_size, config.patch_size
    missing = -len(frames) % pair
    whole = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    t, _, h, u = whole.shape
    split = whole.reshape(t // pair, pair, 3, h // size, size, u // size, size)  # t frame colour row y column x
    rows = split.transpose(0, 3, 5, 2, 4, 6, 1)  # -> t row column, colour y x frame
    return rows.reshape(-1, 3 * size * size * pair)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("patchify", patchify, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("patchify", patchify, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

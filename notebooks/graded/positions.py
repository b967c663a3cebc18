# %% [markdown]
# # Graded: positions
#
# Where a patch and a token stand, and how attention is told (lessons 6 and 10).
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
# ## 1. `spatial_angles` (about 15 minutes)
#
# Row and column of each patch times the frequencies.

# %%
minivl.check("spatial_angles", variant=STUDENT)


# %%
def spatial_angles(at, config):
    """w 2 -> w f"""
    ### BEGIN SOLUTION
    count = config.head_dim // 4
    frequencies = config.rope_theta ** -(np.arange(count) / count)
    return np.hstack([at[:, 1:] * frequencies, at[:, :1] * frequencies])
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("spatial_angles", spatial_angles, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("spatial_angles", spatial_angles, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 2. `rotate` (about 15 minutes)
#
# Pairs of numbers of each head, turned by the angles of their row.

# %%
minivl.check("rotate", variant=STUDENT)


# %%
def rotate(x, cos, sin):
    """n a e -> n a e"""
    ### BEGIN SOLUTION
    one, two = x[..., 0::2], x[..., 1::2]
    c, s = cos[:, None], -sin[:, None]  # the same for all heads
    return np.stack([one * c - two * s, two * c + one * s], axis=-1).reshape(x.shape)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("rotate", rotate, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("rotate", rotate, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 3. `mrope` (about 30 minutes)
#
# The three positions of every token of a prompt with pictures and videos in it.

# %%
minivl.check("mrope", variant=STUDENT)


# %%
def mrope(ids, grids, ticks, pads, merge, after_video):
    """s -> 3 s"""
    ### BEGIN SOLUTION
    media, columns, at, free = iter(grids.tolist()), [], 0, 0
    while at < len(ids):
        if ids[at] in pads:
            t, h, w = next(media)
            place = np.indices((t, h // merge, w // merge)).reshape(3, -1) * [[5], [1], [1]] + free
        else:
            place = np.full((3, 1), free)
        columns.append(place)
        at, free = at + place.shape[1], place.max() + 1
    return np.concatenate(columns, axis=1)[::-1]
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("mrope", mrope, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("mrope", mrope, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# # Graded: inside a block, and the merger
#
# Norm, gated network and merger (lessons 7 and 8).
#
# You are graded on your own variant of each stage: the same stage with another rule (other sizes, orders or rates).
# The variant follows from your name, so write it exactly as your teacher does. Each exercise first prints what yours
# asks for.
#
# What is graded are the functions alone. They run without the rest of minivl and on inputs that you have not seen, so
# write them with NumPy and what the arguments offer. A function must not change its arguments. The check below each
# exercise draws inputs too, and says what is wrong.

# %%
import math

import numpy as np

import minivl

STUDENT = "instructor"

# %% [markdown]
# ## 1. `rms_norm` (about 15 minutes)
#
# Each row over its mean size, times the weight.

# %%
minivl.check("rms_norm", variant=STUDENT)


# %%
def rms_norm(x, norm):
    """n d -> n d"""
    ### BEGIN SOLUTION
    weighted = x * norm.weight.dense(np.float64)
    mean = (np.abs(weighted) ** 3).mean(axis=-1, keepdims=True)
    return weighted / np.cbrt(mean + norm.eps)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("rms_norm", rms_norm, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("rms_norm", rms_norm, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 2. `gated_mlp` (about 20 minutes)
#
# Two maps up, one of them through a gate, and one map down.

# %%
minivl.check("gated_mlp", variant=STUDENT)


# %%
def gated_mlp(x, w):
    """n d -> n d"""
    ### BEGIN SOLUTION
    def mapped(rows, linear):
        bias = 0 if linear.bias is None else linear.bias.dense(np.float64)
        return rows @ linear.weight.dense(np.float64).T + bias

    gate, up = np.split(mapped(x, w.gate_up), 2, axis=1)
    return mapped(up / (1 + np.exp(-gate)), w.down)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("gated_mlp", gated_mlp, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("gated_mlp", gated_mlp, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 3. `merge_2x2` (about 25 minutes)
#
# Four rows of a cell become one visual token.

# %%
minivl.check("merge_2x2", variant=STUDENT)


# %%
def merge_2x2(x, merger):
    """4c d -> c o"""
    ### BEGIN SOLUTION
    def mapped(rows, linear):
        return rows @ linear.weight.dense(np.float64).T + linear.bias.dense(np.float64)

    root = np.sqrt((x.astype(np.float64) ** 2).mean(axis=-1, keepdims=True) + merger.norm.eps)
    normed = x / root * merger.norm.weight.dense(np.float64)
    cells = normed.reshape(len(x) // 4, 4, -1)[:, [3, 2, 1, 0]].reshape(len(x) // 4, -1)
    inner = mapped(cells, merger.inner)
    gelu = inner / 2 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    return mapped(gelu, merger.outer)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("merge_2x2", merge_2x2, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("merge_2x2", merge_2x2, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

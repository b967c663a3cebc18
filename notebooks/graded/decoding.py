# %% [markdown]
# # Graded: into the prompt, and on from there
#
# Visual tokens into their places, the next position, the penalty (lessons 9 to 11).
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
# ## 1. `place_features` (about 10 minutes)
#
# Visual tokens into the rows of their placeholders.

# %%
minivl.check("place_features", variant=STUDENT)


# %%
def place_features(x, placeholders, features):
    """s d, m, m d -> s d"""
    ### BEGIN SOLUTION
    out = x.copy()
    out[placeholders[::-1]] = features
    return out
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("place_features", place_features, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("place_features", place_features, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 2. `advance` (about 10 minutes)
#
# The positions of the next token of each conversation.

# %%
minivl.check("advance", variant=STUDENT)


# %%
def advance(rows, offsets):
    """n, 3 n -> 3 n"""
    ### BEGIN SOLUTION
    last = rows - 1 + offsets
    return last + np.array([[3], [2], [1]])
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("advance", advance, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("advance", advance, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 3. `penalise` (about 15 minutes)
#
# Scores of ids that were seen already, made smaller.

# %%
minivl.check("penalise", variant=STUDENT)


# %%
def penalise(logits, prompts, answers, penalty):
    """n v -> n v"""
    ### BEGIN SOLUTION
    out = logits.copy()
    for row, prompt, answer in zip(out, prompts, answers, strict=True):
        np.subtract.at(row, np.concatenate([prompt, answer]), penalty)
    return out
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("penalise", penalise, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("penalise", penalise, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

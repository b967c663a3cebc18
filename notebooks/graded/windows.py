# %% [markdown]
# # Graded: order and windows
#
# Which rows see which in the vision tower, and in which order they stand (lesson 5).
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
# ## 1. `window_order` (about 20 minutes)
#
# The numbers of the cells, window after window.

# %%
minivl.check("window_order", variant=STUDENT)


# %%
def window_order(grids, config):
    """i 3 -> c"""
    ### BEGIN SOLUTION
    merge, parts, start = config.spatial_merge_size, [], 0
    for t, h, w in grids.tolist():
        frame, row, column = np.indices((t, h // merge, w // merge)).reshape(3, -1)
        order = np.lexsort((row, column, row // 3, column // 2, frame))  # the last key counts most
        parts.append(start + order)
        start += len(order)
    return np.concatenate(parts)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("window_order", window_order, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("window_order", window_order, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 2. `schedule` (about 25 minutes)
#
# For each block a table of segments: rows `q0 q1` see rows `k0 k1`.

# %%
minivl.check("schedule", variant=STUDENT)


# %%
def schedule(grids, config):
    """for each block an array (segments, 4)"""
    ### BEGIN SOLUTION
    merge, windowed, full = config.spatial_merge_size, [], []
    for t, h, w in grids.tolist():
        rows, columns = h // merge, w // merge
        widths = [min(2, columns - column) for column in range(0, columns, 2)]
        windowed += [merge * merge * width for width in widths] * (rows * t)
        full += [h * w] * t

    def table(lengths):
        ends = np.cumsum(lengths)
        return np.stack([ends - lengths, ends, ends - lengths, ends], axis=1)

    return tuple(table(windowed if block % 2 else full) for block in range(config.depth))
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("schedule", schedule, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("schedule", schedule, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

# %% [markdown]
# ## 3. `order_by_window` (about 10 minutes)
#
# Rows into the order of the cells.

# %%
minivl.check("order_by_window", variant=STUDENT)


# %%
def order_by_window(rows, order):
    """p d -> w d"""
    ### BEGIN SOLUTION
    cells = rows.reshape(len(order), 3, -1)  # p d -> c 3 d
    return cells[order][:, ::-1].reshape(rows.shape)
    ### END SOLUTION


# %% tags=["check"]
result = minivl.check("order_by_window", order_by_window, variant=STUDENT)
assert result, result.message
### BEGIN HIDDEN TESTS
result = minivl.check("order_by_window", order_by_window, variant=STUDENT, seed=20)
assert result, result.kind
### END HIDDEN TESTS

"""The checks of lesson 7: a whole block."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


@exercise("7.1", "an array (n, d)")
def rms_norm(mine):
    x, weight = np.array([[3.0, 4, 0, 0], [0, 0, 0, 2]]), np.array([1.0, 2, 1, 1])
    got = array(mine(x, weight, 0.0), (2, 4), "two rows of four")
    wanted = np.array([[1.2, 3.2, 0, 0], [0, 0, 0, 2]])        # mean squares 25/4 and 1
    centred = x - x.mean(axis=1, keepdims=True)
    assert not np.allclose(got, centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)) * weight), (
        "yours takes the mean away first; that is LayerNorm, RMS norm only divides")
    assert not np.allclose(got, x / np.linalg.norm(x, axis=1, keepdims=True) * weight), (
        "yours divides by the length, the root of the sum; take the mean of the squares")
    assert not np.allclose(got, wanted / weight), "the learned weight is missing: one factor for each channel"
    assert not np.allclose(got, wanted / weight * (1 + weight)), (
        "yours multiplies by 1 + weight, as some other models do; here it is the weight itself")
    with np.errstate(all="ignore"):
        assert not np.allclose(got, x / np.sqrt((x**2).mean(axis=0)) * weight, equal_nan=True), (
            "yours takes the mean down the columns; every row is normalised by itself, along the last axis")
    assert not np.allclose(got, x / (x**2).mean(axis=1, keepdims=True) * weight), "the root is missing"
    assert np.allclose(got, wanted), f"should be {wanted.tolist()}, yours is {got.round(4).tolist()}"
    with np.errstate(all="ignore"):
        dark = np.asarray(mine(np.zeros((1, 4)), weight, 1e-6))
    assert np.isfinite(dark).all(), "a row of zeros gives NaN: eps must be added to the mean square, inside the root"
    small = np.asarray(mine(np.full((1, 4), 1e-3), np.ones(4), 1e-6))   # mean square 1e-6: eps doubles it
    assert np.allclose(small, 2**-0.5), (
        f"a row of 0.001 with eps 1e-6 should give {2**-0.5:.4f}, yours is {small[0, 0]:.4f}; eps is added to the mean "
        "square, before the root")


@exercise("7.2", "an array (n, d)")
def swiglu(mine):
    draw = np.random.default_rng(3)
    x, gate, up = draw.standard_normal((3, 4)), draw.standard_normal((6, 4)), draw.standard_normal((6, 4))
    down = draw.standard_normal((5, 6))
    got = array(mine(x, gate, up, down), (3, 5), "x (3, 4), gate and up (6, 4), down (5, 6)")
    g, u = x @ gate.T, x @ up.T

    def sigmoid(y):
        return 1 / (1 + np.exp(-y))
    wanted = (g * sigmoid(g) * u) @ down.T
    mistakes = {
        "yours puts silu on up; it belongs on gate": (g * u * sigmoid(u)) @ down.T,
        "that gate is a plain sigmoid; silu(g) is g times sigmoid(g)": (sigmoid(g) * u) @ down.T,
        "up is missing: the opened gate is multiplied by it": (g * sigmoid(g)) @ down.T,
        "yours multiplies first and then applies silu; only gate goes through silu": (g * u * sigmoid(g * u)) @ down.T,
        "yours adds gate and up; they are multiplied": (g * sigmoid(g) + u) @ down.T,
        "there is no silu in yours": (g * u) @ down.T,
        "yours cuts negative numbers off (relu); silu is smooth": (np.maximum(g, 0) * u) @ down.T,
    }
    for remark, wrong in mistakes.items():
        assert not np.allclose(got, wrong), remark
    assert np.allclose(got, wanted), f"the first number should be {wanted[0, 0]:.4f}, yours is {got[0, 0]:.4f}"

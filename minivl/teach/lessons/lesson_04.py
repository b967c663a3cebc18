"""The checks of lesson 4: attention on six patches."""

from __future__ import annotations

import numpy as np

from .filing import exercise


@exercise("4.1", "an array (n, e)")
def attend_masked(mine):
    q = np.array([[2.0, 0, 0, 0], [0, 0, 0, 0]])
    k = np.array([[np.log(3), 0, 0, 0], [0, 0, 0, 0], [9, 0, 0, 0]])
    v, seen = np.array([[4.0], [8.0], [100.0]]), np.array([[True, True, False], [True, False, False]])
    got = mine(q, k, v, seen)
    got = np.asarray(got)
    assert got.shape == (2, 1), (
        f"two queries and values of width 1 should give (2, 1), yours is {got.shape}")
    everything = np.ones((2, 3), bool)
    with np.errstate(all="ignore"):
        shares = np.asarray(mine(q, k, np.eye(3), everything))  # such values give the shares
    assert not np.allclose(shares.sum(axis=0), 1), (
        "your shares sum to one for each key, down the columns; they should for each query, "
        "along the rows")
    assert np.isfinite(got).all(), (
        "NaN or infinity comes out; print the scores and the powers: where does it begin?")
    hidden = np.asarray(mine(q, k, np.array([[4.0], [8.0], [0.0]]), seen))
    assert np.allclose(hidden, got), (
        "a forbidden key has a share: your result changes with its value (100, then 0)")
    # the exact answers: scores log 3 and 0 give shares 3/4 and 1/4; a single key has all of it
    assert not np.isclose(got[0, 0], (4 * 9 + 8) / 10), (
        "divide the scores by sqrt(e); the width e is 4")
    assert np.isclose(got[1, 0], 4), (f"a row that sees one key must give its value, 4, not "
                                      f"{got[1, 0]:.3g}; do the shares sum to one?")
    assert np.isclose(got[0, 0], 5), (
        f"shares 3/4 and 1/4 of 4 and 8 are 5, yours is {got[0, 0]:.3g}")
    with np.errstate(all="ignore"):
        far, far_open = (np.asarray(mine(1e4 * q, k, v, mask)) for mask in (seen, everything))
        low = np.asarray(mine(np.array([[-4e30, 0, 0, 0]]), np.eye(4)[[0, 0, 1]], v, seen[:1]))
    assert np.isfinite(far_open).all(), "large scores overflow; subtract the largest of the row"
    assert np.isfinite(far).all(), (
        "NaN where a forbidden key has by far the largest score: mask before the softmax, and "
        "take the largest after masking")
    assert np.isclose(far[0, 0], 4), (
        f"with q 10,000 times as large the first row should give 4, yours is {far[0, 0]:.3g}")
    assert np.allclose(low, 6), (
        f"two seen keys with scores of -2e30 each should give (4 + 8) / 2 = 6, yours is "
        f"{low.ravel()[0]:.3g}: no finite number is low enough for a mask; which score has the power 0?")


@exercise("4.2", "an array (n, a, e)")
def attend_grouped(mine):
    draw = np.random.default_rng(1)
    q, k = draw.standard_normal((5, 4, 3)), draw.standard_normal((7, 2, 3))
    only = np.zeros((7, 2, 3)) + np.array([10.0, 20.0])[None, :, None]  # head 0 holds tens, head 1 twenties
    got = mine(q, k, only)
    got = np.asarray(got)
    assert got.shape == (5, 4, 3), (
        f"q of (5, 4, 3) should give (5, 4, 3), yours is {got.shape}")
    partners = got.mean(axis=(0, 2)).round(6).tolist()
    assert partners != [10, 20, 10, 20], (
        "heads 0 1 2 3 read heads 0 1 0 1: that is %, it should be // : 0 0 1 1")
    assert partners == [10, 10, 20, 20], (
        f"values of heads 0 0 1 1 are 10 10 20 20, yours are {partners}")
    v = draw.standard_normal((7, 2, 3))
    got = np.asarray(mine(q, k, v))
    for head in range(4):
        powers = np.exp(q[:, head] @ k[:, head // 2].T / 3**0.5)
        wanted = powers / powers.sum(axis=1, keepdims=True) @ v[:, head // 2]
        assert np.allclose(got[:, head], wanted), (
            f"query head {head} has the right values but wrong shares; which keys are used?")

"""The checks of lesson 1: arrays that learned."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


@exercise("1.1", "an array (n, o)")
def linear_map(mine):
    x, weight, bias = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1.0, 0, 0], [0, 10, 1]]), np.array([0.5, 0])
    got = array(mine(x, weight, bias), (2, 2), "x (2, 3) and a weight (2, 3)")
    wanted = np.array([[1.5, 23], [4.5, 56]])                             # by hand: 10*2 + 1*3, 10*5 + 1*6
    assert not np.allclose(got, wanted - bias), "the bias is missing: it is added to every row"
    assert not np.allclose(got, wanted - bias + bias[:, None]), (
        "the bias was added down the columns: number o of the bias belongs to column o of every row")
    assert np.allclose(got, wanted), f"should be {wanted.tolist()}, yours is {got.tolist()}"
    square = np.array([[1.0, 2], [3, 4]])
    got = np.asarray(mine(np.eye(2), square, np.zeros(2)))
    assert not np.allclose(got, square), (
        "right here, but with a square weight yours gives x @ W: row o of the weight belongs to number o of the result")
    assert np.allclose(got, square.T), f"the rows 1 0 and 0 1 should give {square.T.tolist()}, yours {got.tolist()}"
    x, weight = np.random.default_rng(0).standard_normal((2, 4, 5))
    wanted = np.array([[sum(a * b for a, b in zip(row, line, strict=True)) for line in weight] for row in x])
    got = array(mine(x, weight, np.zeros(4)), (4, 4), "x (4, 5) and a weight (4, 5)")
    assert np.allclose(got, wanted), "right on small numbers, but not on four random rows"


@exercise("1.2", "one number for each row")
def surprise(mine):
    logits, ids = np.log(np.array([[1.0, 2, 5], [6, 1, 1]])), np.array([2, 1])
    got = array(mine(logits, ids), (2,), "two rows and two ids")
    wanted = -np.log([5 / 8, 1 / 8])                                      # the rows sum to 8
    assert not np.allclose(got, np.exp(-wanted)), "those are the probabilities; the surprise is minus their logarithm"
    assert not np.allclose(got, -wanted), "the sign: a probability is at most 1, so its logarithm is at most 0"
    assert not np.allclose(got, wanted / np.log(2)), "that is log2; take the natural logarithm, np.log"
    assert not np.allclose(got, -logits[[0, 1], ids]), "those are logits; softmax makes probabilities of them first"
    assert not np.allclose(got, -np.log([5 / 8, 6 / 8])), (
        "that is about the likeliest token of each row; take the token that really came, ids[i]")
    assert np.allclose(got, wanted), (
        f"5 of 8 and 1 of 8 give {wanted.round(4).tolist()}, yours is {got.round(4).tolist()}")
    with np.errstate(all="ignore"):
        far = np.asarray(mine(np.array([[1000.0, 0.0], [1000.0, 0.0]]), np.array([0, 1])))
    assert np.isfinite(far).all(), (
        "logits of 1000 and 0 give NaN or infinity: subtract the largest, and never take the log of a probability that "
        "has become 0: log p = (z - max) - log(sum(exp(z - max)))")
    assert np.allclose(far, [0, 1000]), f"logits of 1000 and 0 should give 0 and 1000, yours are {far.tolist()}"

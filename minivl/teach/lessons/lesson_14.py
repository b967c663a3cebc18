"""The checks of lesson 14: how it was trained."""

from __future__ import annotations

import math

import numpy as np

from .filing import array, exercise


def _surprises(logits: np.ndarray, ids: list[int]) -> list[float]:
    """The surprise of each token but the first, by loops."""
    found = []
    for row, token in zip(logits.tolist(), ids[1:], strict=False):
        most = max(row)
        found.append(math.log(sum(math.exp(z - most) for z in row)) + most - row[token])
    return found


@exercise("14.1", "one number")
def sft_loss(mine):
    draw = np.random.default_rng(141)
    logits, ids = 2 * draw.standard_normal((7, 5)), draw.integers(0, 5, 7)
    mask = np.array([1, 0, 0, 1, 1, 0, 1], bool)
    got = float(array(mine(logits.copy(), ids.copy(), mask.copy()), (), "the loss of a dialogue"))
    each = np.array(_surprises(logits, ids.tolist()))                     # of tokens 1 to 6
    wanted = each[mask[1:]].mean()
    here = np.array(_surprises(logits, [0, *ids.tolist()]))               # of token i at row i
    mistakes = [
        (each.mean(), "yours counts all tokens; the mask says which ones"),
        (here[mask].mean(), "yours asks row i about token i, which it has read already; row i is about token i + 1"),
        (each[mask[:-1]].mean(), "the mask is not shifted: mask[i] is about token i, so it goes with ids[1:]"),
        (each[mask[1:]].sum(), "that is the sum; give the mean over the tokens that count"),
        (each[mask[1:]].sum() / len(each), "yours divides by all tokens; divide by those that count"),
        (each[mask[1:]].sum() / mask.sum(), "yours divides by one too many: nothing predicts token 0"),
        (-wanted, "the sign: a surprise is minus the logarithm of a probability, so never negative"),
        (wanted / math.log(2), "that is log2; take the natural logarithm"),
        (-logits[np.arange(6), ids[1:]][mask[1:]].mean(), "those are logits; softmax comes first")]
    for wrong, remark in mistakes:
        assert not np.isclose(got, wrong) or np.isclose(wrong, wanted), remark
    assert np.isclose(got, wanted), f"should be {wanted:.4f}, yours is {got:.4f}"
    with np.errstate(all="ignore"):
        far = float(np.asarray(mine(np.array([[2000.0, 0], [0, 0]]), np.array([0, 1]), np.array([False, True]))))
    assert np.isclose(far, 2000), (
        f"logits of 2000 and 0 should give a surprise of 2000, yours is {far}: subtract the largest before exp, and "
        "never take the logarithm of a probability that has become 0")


@exercise("14.2", "one number")
def dpo_loss(mine):
    numbers = (-3.0, -2.0, -3.5, -4.0, 0.1)                               # margin 0.5 - 2 = -1.5
    got = float(array(mine(*numbers), (), "the loss of a pair"))

    def loss(margin: float, beta: float = 0.1) -> float:
        return math.log(1 + math.exp(-beta * margin))
    wanted = loss(-1.5)
    mistakes = [
        (loss(1.5), "the sign: when the right answer gains less than the wrong one, the loss is above ln 2 = 0.6931"),
        (loss(-1.0), "yours leaves the log-probabilities from before out; it is about what each answer has gained"),
        (loss(-1.5, 1.0), "beta is missing: it is multiplied by the margin"),
        (loss(-1.5, 10.0), "yours divides by beta; the margin is multiplied by it"),
        (-loss(-1.5), "the sign: the loss is minus the logarithm of a probability, so never negative"),
        (loss(2.5), "yours adds what the two answers have gained; take the difference"),
        (1 / (1 + math.exp(0.1 * -1.5)), "that is a sigmoid; the loss is minus its logarithm"),
        (1 / (1 + math.exp(-0.1 * -1.5)), "that is sigmoid(beta m); the loss is minus its logarithm")]
    for wrong, remark in mistakes:
        assert not np.isclose(got, wrong), remark
    assert np.isclose(got, wanted), f"a margin of -1.5 and beta 0.1 should give {wanted:.4f}, yours is {got:.4f}"
    start = float(np.asarray(mine(-7.0, -9.0, -7.0, -9.0, 0.5)))
    assert np.isclose(start, math.log(2)), f"before any step the loss is ln 2 = 0.6931, yours is {start:.4f}"
    with np.errstate(all="ignore"):
        try:
            far = [float(np.asarray(mine(0.0, margin, 0.0, 0.0, 1.0))) for margin in (5000.0, -5000.0)]
        except OverflowError:
            far = [math.inf, math.inf]
    assert np.allclose(far, [5000, 0]), (
        f"margins of -5000 and 5000 should give 5000 and 0, yours are {far}: exp overflows; use np.logaddexp(0, x)")


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two gradients agree as far as a finite difference can tell."""
    return np.isclose(a, b, rtol=1e-4, atol=1e-7)


@exercise("14.3", "an array (v, d)")
def head_gradient(mine):
    draw = np.random.default_rng(143)
    h, table, tokens = draw.standard_normal((3, 4)), draw.standard_normal((6, 4)), np.array([2, 5, 2])

    def loss(weights: np.ndarray, tau: float) -> float:
        return float(np.mean(_surprises(h @ weights.T / tau, [0, *tokens.tolist()])))

    def slope(tau: float) -> np.ndarray:
        out = np.zeros_like(table)
        for place in np.ndindex(*table.shape):
            up, down = table.copy(), table.copy()
            up[place] += 1e-5
            down[place] -= 1e-5
            out[place] = (loss(up, tau) - loss(down, tau)) / 2e-5
        return out
    for tau in (1.0, 2.0):
        got = array(mine(h.copy(), table.copy(), tokens.copy(), tau), (6, 4), "h (3, 4) and E (6, 4)")
        wanted = slope(tau)
        mistakes = [
            (-wanted, "the sign: this is the way down; the gradient is the way up"),
            (wanted * 3, "yours is the gradient of the sum; the mean divides by n"),
            (wanted * tau, "the factor 1/tau of the chain rule is missing: dz/dE is h / tau"),
            (wanted * 3 * tau, "the factors 1/tau of the chain rule and 1/n of the mean are missing"),
            (slope(1.0), "your softmax is of the undivided logits")]
        for wrong, remark in mistakes:
            assert not _near(got, wrong).all() or _near(wrong, wanted).all(), remark
        z = h @ table.T / tau
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        assert not _near(got, p.T @ h / (3 * tau)).all(), "yours has p alone; the token that came has p - 1"
        bad = np.argwhere(~_near(got, wanted))
        assert not len(bad), (
            f"tau {tau:g}: a finite difference at row {bad[0][0]}, column {bad[0][1]} gives "
            f"{wanted[tuple(bad[0])]:.5f}, yours is {got[tuple(bad[0])]:.5f}")

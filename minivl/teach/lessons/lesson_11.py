"""The checks of lesson 11: the decoder."""

from __future__ import annotations

import numpy as np

from .filing import array, exercise


def _collected(q, keys, values, partner=None, scale=True) -> np.ndarray:
    """What one query row of each head collects, head by head: a e, r k e, r k e -> a e."""
    partner = [head // (len(q) // keys.shape[1]) for head in range(len(q))] if partner is None else partner
    out = []
    for head, shared in enumerate(partner):
        score = keys[:, shared] @ q[head] / (q.shape[1] ** 0.5 if scale else 1)
        power = np.exp(score - score.max())
        out.append(power / power.sum() @ values[:, shared])
    return np.array(out)


@exercise("11.1", "what the row collects and both longer caches")
def attend_next(mine):
    draw = np.random.default_rng(11)
    q, k, v = draw.standard_normal((4, 3)), draw.standard_normal((2, 3)), draw.standard_normal((2, 3))
    keys, values = draw.standard_normal((5, 2, 3)), draw.standard_normal((5, 2, 3))
    old = keys.copy(), values.copy()
    got = mine(q, k, v, keys, values)
    assert isinstance(got, list | tuple) and len(got) == 3, "three arrays should come out: collected, keys, values"
    assert np.array_equal(keys, old[0]) and np.array_equal(values, old[1]), (
        "the caches that were given have changed; make longer ones, as np.concatenate does")
    more_keys = array(got[1], (6, 2, 3), "5 cached keys and a new one")
    more_values = array(got[2], (6, 2, 3), "5 cached values and a new one")
    assert not np.allclose(more_keys[0], k), "the new key stands first in yours; rows are in the order of the text"
    assert np.allclose(more_keys, [*keys, k]), "the cache of keys should be the old rows and then the new key"
    assert not np.allclose(more_values[-1], k), "the new key was put into the cache of values"
    assert np.allclose(more_values, [*values, v]), "the cache of values should be the old rows and then the new value"
    out = array(got[0], (4, 3), "four query heads of width 3")
    mistakes = {
        "yours looks at the old rows only; a row sees itself too": _collected(q, keys, values),
        "heads 0 1 2 3 read heads 0 1 0 1: that is %, it should be // : 0 0 1 1":
            _collected(q, more_keys, more_values, [0, 1, 0, 1]),
        "all heads read key-value head 0": _collected(q, more_keys, more_values, [0, 0, 0, 0]),
        "divide the scores by sqrt(e)": _collected(q, more_keys, more_values, scale=False),
        "yours sees itself only; the rows in the cache are what it is kept for": np.repeat(v, 2, axis=0),
        "yours collects keys; keys give the shares, values are collected": _collected(q, more_keys, more_keys),
    }
    for remark, wrong in mistakes.items():
        assert not np.allclose(out, wrong), remark
    wanted = _collected(q, more_keys, more_values)
    bad = np.flatnonzero(~np.isclose(out, wanted).all(axis=1))
    assert not len(bad), f"head {bad[0]} should collect {wanted[bad[0]].round(3)}, yours {out[bad[0]].round(3)}"
    loud = mine(1e4 * q, k, v, keys, values)[0]
    assert np.isfinite(loud).all(), "large scores overflow; subtract the largest of each head"
    first = mine(q, k, v, keys[:0], values[:0])[0]
    assert np.allclose(first, np.repeat(v, 2, axis=0)), "with an empty cache the first row collects its own value"


@exercise("11.2", "an array (v,)")
def push_down(mine):
    scores = np.array([2.0, -2, 1, 0.5, 3])
    old = scores.copy()
    got = array(mine(scores, [0, 1, 0], [4], 2.0), (5,), "five scores")
    assert np.array_equal(scores, old), "the scores that were given have changed; work on a copy"
    for remark, wrong in {
        "a negative score over r comes nearer to zero, that is likelier; it is multiplied": [1, -1, 1, 0.5, 1.5],
        "token 0 comes twice in the prompt, but each seen token is pushed down once": [0.5, -4, 1, 0.5, 1.5],
        "the prompt counts too: tokens 0 and 1 are in it": [2, -2, 1, 0.5, 1.5],
        "the answer so far counts too: token 4 is in it": [1, -4, 1, 0.5, 3],
        "yours pushes tokens up; likely ones are divided by r": [4, -1, 1, 0.5, 6],
        "only seen tokens are pushed down": [1, -4, 0.5, 0.25, 1.5],
        "r is a factor, it is not subtracted": [0, -4, 1, 0.5, 1],
    }.items():
        assert not np.allclose(got, wrong), remark
    wanted = [1, -4, 1, 0.5, 1.5]
    assert np.allclose(got, wanted), f"scores {old.tolist()}, seen 0, 1 and 4, r 2: {wanted}, yours is {got.tolist()}"
    assert np.allclose(mine(scores, [2], [2], 4.0), [2, -2, 0.25, 0.5, 3]), (
        "token 2 is in prompt and answer: it is pushed down once all the same")
    assert np.allclose(mine(scores, [], [], 2.0), scores), "where nothing was seen, nothing changes"


@exercise("11.3", "ids, likeliest first")
def nucleus(mine):
    chances = np.array([0.2, 0.5, 0.25, 0.05])
    scores = np.log(chances) + 3                               # a shift of all scores changes no probability

    def kept(p: float) -> list[int]:
        got = np.asarray(mine(scores.copy(), p))
        assert got.ndim == 1 and got.dtype.kind in "iu", f"ids should come out, integers in one row, not {got!r}"
        return got.tolist()

    got = kept(0.6)
    said = "probabilities 0.2, 0.5, 0.25, 0.05 and p = 0.6"
    for remark, wrong in {
        f"{said}: the token that reaches p belongs to the set; 0.5 alone is not enough": [1],
        f"{said}: ids should come likeliest first": [2, 1],
        f"{said}: yours begins with the least likely": [3, 0, 2],
        f"{said}: the set is the smallest one, and 0.5 + 0.25 reach 0.6 already": [1, 2, 0],
        f"{said}: yours gives places in the sorted row; what is asked are ids": [0, 1],
    }.items():
        assert got != wrong, remark
    assert got == [1, 2], f"{said}: tokens 1 and 2, yours are {got}"
    assert kept(0.01) == [1], f"p = 0.01: at least the likeliest token stays, yours are {kept(0.01)}"
    assert kept(0.9) == [1, 2, 0], f"p = 0.9: tokens 1, 2 and 0 reach 0.95, yours are {kept(0.9)}"
    assert kept(0.96) == [1, 2, 0, 3], f"p = 0.96: all four are needed, yours are {kept(0.96)}"
    high = np.asarray(mine(scores + 1000, 0.6))
    assert high.tolist() == [1, 2], "large scores overflow; subtract the largest"

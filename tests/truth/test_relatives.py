"""Relatives of the museum's exhibits: each runs on a model of any size, spoils the passes that it says and no other,
and is not its exhibit."""

import numpy as np
import pytest

from minivl.truth import museum as faults
from minivl.truth.museum.cases import Case, picture, said, user
from minivl.truth.museum.relatives import relatives
from minivl.truth.museum.relatives.looking import attention_as
from minivl.truth.museum.relatives.order import by_narrow_index
from minivl.truth.museum.world import world

ALL = relatives(world().config)
WIDE = Case("a ragged picture in a text", lambda vlm: [user(said("one two three"), picture(5, 7), said("and so on"))])


def spoilt(one):
    with np.errstate(all="ignore"):
        return faults.guilty(one, world(), WIDE)


def test_there_are_many_and_each_says_in_what_it_differs():
    assert len(ALL) > 150 and len({(one.name, one.says) for one in ALL}) == len(ALL)
    assert {one.name for one in ALL} <= set(faults.FAULTS) and all(one.says for one in ALL)
    names = {one.name for one in ALL}
    for name in ("height-and-width-swapped", "order-not-inverted", "windows-swapped-with-full", "norm-overflows-in-f16",
                 "gather-index-too-narrow", "qkv-bias-dropped", "softmax-in-half-precision"):
        assert name in names


@pytest.mark.parametrize("one", ALL[::7], ids=lambda one: f"{one.name}: {one.says}")
def test_it_spoils_the_passes_that_it_says(one):
    found = spoilt(one)
    assert not found or one.is_named_by(found), found


@pytest.mark.full
@pytest.mark.parametrize("one", ALL, ids=lambda one: f"{one.name}: {one.says}")
def test_each_spoils_the_passes_that_it_says(one):
    found = spoilt(one)
    assert not found or one.is_named_by(found), found


@pytest.mark.parametrize("family", sorted({one.name for one in ALL}))
def test_some_of_each_mechanism_show_on_one_picture(family):
    each = [one for one in ALL if one.name == family]
    assert any(spoilt(one) for one in each[:6] + each[-6:])


def test_attention_with_nothing_done_to_it_is_attention():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(9, heads, 8)).astype(np.float32) for heads in (4, 2, 2))
    segments = np.array([[0, 4, 0, 4], [4, 9, 2, 9]])
    for causal in (True, False):
        right = np.zeros_like(q, np.float64)
        for q0, q1, k0, k1 in segments:
            for row in range(q0, q1):
                last = row - q0 + (k1 - k0) - (q1 - q0) if causal else k1 - k0 - 1
                for head in range(4):
                    keys = k[k0:k0 + last + 1, head // 2].astype(np.float64)
                    weight = np.exp(keys @ q[row, head] / np.sqrt(8))
                    right[row, head] = weight / weight.sum() @ v[k0:k0 + last + 1, head // 2]
        np.testing.assert_allclose(attention_as(q, k, v, segments, causal), right, atol=1e-5)


def test_an_index_of_few_bits_is_exact_below_and_rounds_above():
    rows = np.arange(100)
    found = by_narrow_index(lambda x, index: x[index], rows, rows, 5)
    assert np.array_equal(found[:33], rows[:33]) and found[33] in (32, 34) and found[99] in (96, 99, 100)
    assert len(set(found.tolist())) < 100



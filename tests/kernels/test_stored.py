"""Rows of the KV cache as bytes with scales: how far they lie from the numbers, and that kernels
read them as they lie.

Read next: `test_rows.py`, attention of numbers.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivl.door.errors import ArgumentError
from minivl.kernels import definition, jit
from minivl.kernels.jit import tiers
from minivl.kernels.stored import FORMATS, INT8, ByteRows, in_bytes, stored_as, stored_bytes, zeros

from .compiled import BF16, PRECISIONS, Quick, running
from .test_rows import LONG, SEGMENTS, heads_of, random

F32 = np.float32


@given(
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(1, 7),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
    st.integers(0, 99),
)
def test_a_number_that_is_read_is_half_a_scale_from_the_one_that_was_written(n, heads, e, size, seed):
    x = random((n, heads, e), "float32", seed, size)
    rows = zeros((2, n + 3, heads, e), INT8)
    index = np.random.default_rng(seed).permutation(n + 3)[:n]
    rows[1][index] = x
    assert rows[1].shape == (n + 3, heads, e) and rows.nbytes == stored_bytes(rows.shape, INT8)
    for i, head in itertools.product(range(n), range(heads)):
        read = rows[1][index[i] : index[i] + 1, head][0]
        largest = np.abs(x[i, head]).max()
        assert (
            read.dtype == F32 and np.abs(read.astype(np.float64) - x[i, head]).max() <= largest / 253.99
        )
        assert np.abs(read).max() == pytest.approx(largest, rel=1e-6)  # the largest one is kept
    others = np.setdiff1d(np.arange(n + 3), index)
    assert not np.asarray(rows[0]).any() and not np.asarray(rows[1])[others].any()


def test_zeros_stay_zeros_and_what_is_no_number_spoils_its_own_head():
    x = np.ones((3, 2, 4), F32)
    x[0, 0], x[1, 1, 2], x[2, 0, 3] = 0, np.inf, np.nan
    back = np.asarray(in_bytes(x))
    assert not back[0, 0].any() and np.isnan(back[1, 1]).all() and np.isnan(back[2, 0]).all()
    whole = np.ones((3, 2), bool)
    whole[[1, 2], [1, 0]] = False
    assert np.isfinite(back[whole]).all() and (back[whole].ravel()[4:] == 1).all()


def test_channels_are_measured_by_their_own_sizes():
    """A channel a thousand times as large as the others no longer takes their bytes; reading gives
    numbers again, one head, one layer or all of a table."""
    x = random((50, 2, 6), "float32")
    x[:, 0, 3] *= 1000
    size = np.ones((3, 2, 6), F32)
    size[1, 0, 3] = 1000
    rows = zeros((3, 50, 2, 6), INT8)
    rows.channels = size
    rows[1][np.arange(50)] = x
    for head in (0, 1):
        largest = np.abs(x[:, head] / size[1, head]).max(axis=-1, keepdims=True)  # n 1
        read = rows[1][:, head]
        assert (np.abs(read - x[:, head]) <= largest * size[1, head] / 253.9).all()
        assert np.array_equal(read, np.asarray(rows[1])[:, head]) and np.array_equal(
            read, np.asarray(rows)[1, :, head]
        )
    plain = in_bytes(x)
    apart = [np.delete(np.asarray(kept)[:, 0] - x[:, 0], 3, axis=1) for kept in (rows[1], plain)]
    assert 100 * np.linalg.norm(apart[0]) < np.linalg.norm(apart[1])
    part = rows[:, 10:20].copy()
    assert np.array_equal(np.asarray(part), np.asarray(rows)[:, 10:20]) and np.array_equal(
        part[1].channels, size[1]
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiled_attention_to_keys_measured_by_channels(precision):
    """Sizes meet the queries: the same products, rounded otherwise."""
    q, k, v = heads_of(40, 90, 4, 2, 6, "float32")
    q, segments = q.astype(PRECISIONS[precision]), np.array([[0, 40, 0, 90]])
    size = np.exp(random((2, 6), "float32", 5))
    made = jit.attend(q, in_bytes(k, size), in_bytes(v), segments, True)
    right = definition.attend.definition(
        q.astype(np.float64), in_bytes(k, size), in_bytes(v), segments, True
    )
    assert made.dtype == q.dtype
    assert np.linalg.norm(made - right) <= np.linalg.norm(right) * (
        1e-6 if precision == "float32" else 2.0**-8
    )


def test_rows_are_copied_as_they_are():
    x = random((6, 2, 4), "float32")
    rows, other = in_bytes(x), zeros((8, 2, 4), INT8)
    other[np.arange(2, 5)] = rows[1:4]
    kept = rows.copy()
    rows.codes[:], rows.scales[:] = 0, 0
    assert np.array_equal(other.codes[2:5], kept.codes[1:4]) and np.array_equal(
        other.scales[2:5], kept.scales[1:4]
    )


@pytest.mark.parametrize("precision", ["float64", *PRECISIONS])
def test_the_definition_attends_to_the_numbers_that_bytes_stand_for(precision):
    q, k, v = (random((40, heads, 6), "float32", seed) for seed, heads in ((1, 4), (2, 2), (3, 2)))
    q = q.astype(BF16 if precision == "bfloat16" else precision)
    segments = np.array([[0, 20, 0, 30], [20, 40, 12, 40]])
    bytes_, numbers = (in_bytes(k), in_bytes(v)), [np.asarray(in_bytes(x)) for x in (k, v)]
    made = definition.attend.definition(q, *bytes_, segments, True)
    assert made.dtype == q.dtype
    assert np.array_equal(made, definition.attend.definition(q, *numbers, segments, True))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiled_attention_to_bytes_is_attention_to_their_numbers_bit_for_bit(precision):
    """float32 numbers of a block are the same whether they were bytes before or not; so are those
    of bfloat16. A token of bfloat16 meets bytes by pairs of numbers, in another order."""
    tables = [*SEGMENTS.values(), *(where for where, _ in LONG.values())]
    with running(tiers.best().name, False, threads=2):
        for e, where, causal in itertools.product((2, 6, 80, 128), tables, (False, True)):
            q, k, v = heads_of(97, 200, 4, 2, e, "float32")
            q, segments = q.astype(PRECISIONS[precision]), np.array(where, np.int64).reshape(-1, 4)
            for kept in ((in_bytes(k), in_bytes(v)), (k.astype(BF16), v.astype(BF16))):
                if precision == "bfloat16" and kept[0].dtype == BF16:
                    continue  # by pairs of numbers: `test_rows.py`
                numbers = [np.asarray(x).astype(F32) for x in kept]
                made, right = (jit.attend(q, *x, segments, causal) for x in (kept, numbers))
                if not (jit.in_pairs(q, *kept) and (np.diff(segments[:, :2]) <= 8).all()):
                    assert np.array_equal(made, right)
                near = 2.0**-7 * np.abs(right.astype(F32)).max(initial=0)
                assert np.abs(made.astype(F32) - right.astype(F32)).max(initial=0) <= near


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("tier", ["avx512-bf16", "amx"])
def test_a_token_meets_bytes_by_pairs_on_the_emulator(tier):
    """As exactly as bfloat16 numbers: against float64, over keys measured by channels too; a row that is NaN spoils
    who sees it and nobody else."""
    q, k, v = heads_of(3, 90, 6, 2, 34, "float32")
    q, segments = q.astype(BF16), np.array([[0, 1, 0, 89], [1, 3, 5, 9]])
    for size in (None, np.exp(random((2, 34), "float32", 5))):
        kept = in_bytes(k, size), in_bytes(v)
        with running(tier, True, kind=Quick):
            assert jit.in_pairs(q, *kept) and not jit.in_pairs(q, k, kept[1])
            made = jit.attend(q, *kept, segments, True)
        exact = definition.attend.definition(q.astype(np.float64), *kept, segments, True)
        assert np.abs(made - exact).max() <= 2.0**-7 * np.abs(exact).max()
    kept[1].scales[70, 1] = np.nan
    with running(tier, True, kind=Quick):
        spoiled = np.isnan(jit.attend(q, *kept, segments, True).astype(F32)).any(axis=2)
    assert spoiled.tolist() == [[False] * 3 + [True] * 3, [False] * 6, [False] * 6]


@pytest.mark.parametrize("tier", ["portable", "avx2", "avx512"])
def test_attention_to_bytes_on_the_emulator(tier):
    with running(tier, True, kind=Quick):
        q, k, v = heads_of(3, 70, 4, 2, 6, "float32")
        segments, kept = np.array([[0, 2, 0, 70], [2, 3, 5, 9]]), (in_bytes(k), in_bytes(v))
        numbers = [np.asarray(x) for x in kept]
        assert np.array_equal(
            jit.attend(q, *kept, segments, True), jit.attend(q, *numbers, segments, True)
        )


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(0, 60),
    st.integers(1, 8),
    st.sampled_from([0.3, 1.0, 4.0]),
    st.booleans(),
    st.integers(0, 999),
)
def test_how_far_attention_to_bytes_may_lie_from_attention_to_numbers(
    queries, more, e, size, byte, seed
):
    """A key that moves by d moves its score by at most |q| |d| / sqrt(e), and weights by at most
    exp(2 of that); a value that moves, moves the sum by no more. Rows of bytes move by 1/254 of
    their largest number, bfloat16 by 1/256 of each."""
    q, k, v = heads_of(queries, queries + more, 1, 1, e, "float32", size)
    segments = np.array([[0, queries, 0, queries + more]])
    kept = [in_bytes(x) if byte else x.astype(BF16) for x in (k, v)]
    wide = [x.astype(np.float64) for x in (q, k, v)]
    found = definition.attend.definition(wide[0], *kept, segments, True)
    exact = definition.attend.definition(*wide, segments, True)
    moved_k, moved_v = (np.abs(x).max(axis=-1) * (1 / 254 if byte else 1 / 256) for x in (k, v))  # r 1
    score = np.linalg.norm(q, axis=-1).max() * (moved_k * e**0.5).max() / e**0.5
    bound = (np.exp(2 * score) - 1) * np.abs(v).max() + moved_v.max()
    assert np.abs(found - exact).max() <= bound * (1 + 1e-6)


def test_names_of_formats():
    assert {stored_as(name, np.dtype("float64")) for name in (None, "float64")} == {np.dtype("float64")}
    assert [stored_as(name, np.dtype(F32)).name for name in FORMATS] == list(FORMATS)
    for wrong in ("int4", "float64", 8):
        with pytest.raises(ArgumentError, match="float32, bfloat16, int8"):
            stored_as(wrong, np.dtype(F32))
    with pytest.raises(ArgumentError, match="leave it out"):
        stored_as("int8", np.dtype(F32), ())


def test_bytes_of_rows():
    for kind in (INT8, BF16, np.dtype(F32), np.dtype("float64")):
        made = zeros((3, 5, 2, 8), kind)
        assert made.nbytes == stored_bytes((3, 5, 2, 8), kind) and isinstance(made, ByteRows) == (
            kind == INT8
        )
    assert stored_bytes((1, 1, 1, 128), INT8) == 132

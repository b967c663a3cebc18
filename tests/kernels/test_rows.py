"""Kernels that go through rows once, attention, and the exponential: against the definitions in float64.

Read next: `compiled.py`, how a tier is run.
"""

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivl.checkpoint.tree import Norm
from minivl.checkpoint.weight import weight
from minivl.kernels import definition, jit
from minivl.kernels.jit import attention_bf16, numbers, tiers

from .compiled import BF16, HALF_STEP, HERE, PRECISIONS, Quick, running

WIDTHS = {name: tier.lanes for name, tier in tiers.TIERS.items()}
ONE_OF_EACH_WIDTH = [name for name in HERE if name in ("portable", "avx2", "avx512")]
BY_PAIRS = [name for name, tier in tiers.TIERS.items() if tier.pair_rows]              # attention of bfloat16
precisions = pytest.mark.parametrize("precision", PRECISIONS)
F32 = np.float32


def random(shape, precision, seed=0, scale=1.0):
    return (np.random.default_rng([seed, *shape]).normal(size=shape) * scale).astype(PRECISIONS[precision])


def wide(value):
    """The same numbers in float64, weights of norms too."""
    if isinstance(value, np.ndarray) and value.dtype in (F32, BF16):
        return value.astype(np.float64)
    return value


def no_further_than_the_definition(name, *args):
    """The compiled kernel's error against float64: 1.5 times that of the definition in the same precision at most, or
    half a step of the precision, where both are right by chance."""
    ours, theirs = getattr(jit, name)(*args), getattr(definition, name).definition(*args)
    exact = getattr(definition, name).definition(*map(wide, args))
    assert ours.dtype == args[0].dtype and ours.shape == exact.shape
    a, b = (np.linalg.norm(made.astype(np.float64) - exact) for made in (ours, theirs))
    assert a <= 1.5 * b + HALF_STEP[ours.dtype.name] * np.linalg.norm(exact), (a, b)
    return ours, exact


def held(product, exact, roundings):
    """Each number within so many roundings of the exact one."""
    bound = roundings * HALF_STEP[product.dtype.name] * np.abs(exact)
    assert (np.abs(product.astype(np.float64) - exact) <= 1.01 * bound + 1e-37).all()


@precisions
@pytest.mark.parametrize("shape", [(1, 1), (3, 15), (5, 16), (4, 17), (2, 1280), (70, 33)])
def test_rms_norm(precision, shape):
    x, w = random(shape, precision), random(shape[1:], precision, 1)
    norm = Norm(weight(w), 1e-6)
    ours, exact = no_further_than_the_definition("rms_norm", x, norm)
    held(ours, exact, 2 if precision == "bfloat16" else 6)
    jit.rms_norm(np.zeros((0, shape[1]), x.dtype), norm)
    rows = x.copy()
    rows[0] = np.nan
    spoilt = jit.rms_norm(rows, norm)
    assert np.isnan(spoilt[0].astype(F32)).all() and spoilt[1:].tobytes() == ours[1:].tobytes()


@precisions
def test_rms_norm_of_large_and_small_rows(precision):
    """Squares of 1e18 and of 1e-18 are still float32; a row of zeros stays one."""
    x = random((3, 40), precision) * np.array([[1e18], [1e-18], [0]], F32).astype(PRECISIONS[precision])
    ours, exact = no_further_than_the_definition("rms_norm", x, Norm(weight(random((40,), precision)), 1e-6))
    held(ours, exact, 2 if precision == "bfloat16" else 6)
    assert not ours[2].any()


@precisions
@pytest.mark.parametrize(("heads", "e"), [(1, 2), (3, 6), (16, 80), (2, 128)])
def test_rotate(precision, heads, e):
    """In the type of the tables: float32 ones in the tower, whatever x is."""
    x = random((5, heads, e), precision)
    angles = random((5, e // 2), "float32", 1)
    for tables in {precision, "float32"}:
        cos, sin = definition.cos_sin.definition(angles, PRECISIONS[tables])
        ours, exact = no_further_than_the_definition("rotate", x, cos, sin)
        size = np.abs(wide(x)).max() * 2
        assert np.abs(ours.astype(np.float64) - exact).max() <= 4 * HALF_STEP[precision] * size


@precisions
def test_swiglu_and_gelu_and_add(precision):
    for h, height in itertools.product((1, 15, 16, 67), (1, 4)):
        x = random((height, 2 * h), precision, scale=4)
        held(*no_further_than_the_definition("swiglu", x), 2 if precision == "bfloat16" else 6)
        no_further_than_the_definition("gelu", x)
        y = random(x.shape, precision, 1)
        assert np.array_equal(jit.add(x, y), x + y)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf, 1.0, 0.0, -1.5]


@precisions
@given(st.lists(st.lists(st.sampled_from(SPECIAL) | st.floats(-9, 9, width=32), min_size=5, max_size=5), max_size=4))
def test_least_first_is_a_stable_order(precision, rows):
    x = np.array(rows, F32).reshape(len(rows), 5).astype(PRECISIONS[precision])
    made = jit.least_first(x)
    assert made.dtype == np.int64 and np.array_equal(made, np.argsort(x.astype(F32), axis=-1, kind="stable"))


@precisions
def test_least_first_of_a_vocabulary(precision):
    x = random((2, 30_011), precision)
    x[:, ::7] = x[:, :1]                                                   # many equal ones
    assert np.array_equal(jit.least_first(x), np.argsort(x.astype(F32), axis=-1, kind="stable"))


@precisions
def test_activations_of_numbers_at_the_ends(precision):
    ends = np.array([0, -0.0, 1e-38, -88, -90, -104, -1e5, 88, 100, 1e5, np.inf, np.nan], PRECISIONS[precision])
    one = np.ones_like(ends)
    gated = jit.swiglu(np.concatenate([ends, one])[None])[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = definition.swiglu.definition(np.concatenate([ends, one])[None].astype(np.float64))[0]
    np.testing.assert_allclose(gated, exact, rtol=2 * HALF_STEP[precision] + 1e-6, atol=1e-36)
    finite = ends[:-2]
    made = jit.gelu(finite[None])[0].astype(np.float64)
    np.testing.assert_allclose(made, definition.gelu.definition(finite[None].astype(np.float64))[0],
                               rtol=HALF_STEP[precision] + 1e-6, atol=1e-7 * 1e5)


def test_the_number_of_threads_changes_no_row():
    x, norm = random((7, 66), "float32"), Norm(weight(random((33,), "float32")), 1e-6)
    q, k = random((9, 4, 6), "float32"), random((50, 2, 6), "float32")
    tables = definition.cos_sin.definition(random((9, 3), "float32"), F32)
    found = []
    for threads in (1, 2, 3, 4):
        with running(tiers.best().name, False, threads):
            segments = np.array([[0, 5, 0, 50], [5, 9, 3, 40]])
            found.append([jit.swiglu(x), jit.gelu(x), jit.add(x, x), jit.rms_norm(x[:, :33], norm),
                          jit.rotate(q, *tables), jit.attend(q, k, k, segments, True)])
    for same in zip(*found, strict=True):
        assert len({made.tobytes() for made in same}) == 1


# ----------------------------------------------------------------------------------------------- attention

SEGMENTS = {"one": [[0, 7, 0, 7]], "one query": [[0, 1, 0, 131]], "several": [[0, 3, 0, 3], [3, 3, 3, 3], [3, 7, 3, 9]],
            "long keys": [[0, 5, 0, 200]], "rows that nobody asks for": [[2, 4, 5, 9]], "none": []}


def attended(q, k, v, segments, causal):
    """Errors of ours and of the definition in the same precision, against float64."""
    segments = np.array(segments, np.int64).reshape(-1, 4)
    ours, theirs = jit.attend(q, k, v, segments, causal), definition.attend.definition(q, k, v, segments, causal)
    exact = definition.attend.definition(wide(q), wide(k), wide(v), segments, causal)
    assert ours.dtype == q.dtype and ours.shape == q.shape
    return np.abs(ours.astype(np.float64) - exact), np.abs(theirs.astype(np.float64) - exact), exact


def assert_attended(q, k, v, segments, causal):
    ours, theirs, exact = attended(q, k, v, segments, causal)
    eps = HALF_STEP[q.dtype.name]
    assert ours.max(initial=0) <= 1.5 * theirs.max(initial=0) + eps * np.abs(exact).max(initial=0) + 8e-7
    untouched = np.ones(len(q), bool)
    for q0, q1, _, _ in segments:
        untouched[q0:q1] = False
    assert not ours[untouched].any()


def heads_of(queries, keys, heads, kv_heads, e, precision, scale=1.0):
    q = random((queries, heads, e), precision, 1, scale)
    return q, random((keys, kv_heads, e), precision, 2, scale), random((keys, kv_heads, e), precision, 3)


@precisions
@pytest.mark.parametrize("tier", [*ONE_OF_EACH_WIDTH, *(name for name in BY_PAIRS if name in HERE)])
def test_attention_of_every_width_of_heads(tier, precision):
    with running(tier, False):
        for e, segments, causal in itertools.product((2, 4, 6, 48, 80, 128), SEGMENTS.values(), (False, True)):
            queries, keys = 7, 200
            assert_attended(*heads_of(queries, keys, 4, 2, e, precision), segments, causal)


@pytest.mark.parametrize("tier", ONE_OF_EACH_WIDTH)
def test_attention_of_every_size_of_groups(tier):
    """Up to eight, and one that no vector holds, which the definition does; queries beyond one block."""
    with running(tier, False):
        lanes = 2 * WIDTHS[tier]
        for group in (*range(1, 9), lanes, lanes + 1):
            for segments in ([[0, 40, 0, 70]], [[0, 1, 0, 66], [1, 2, 0, 1]]):
                assert_attended(*heads_of(40, 70, 2 * group, 2, 6, "float32"), segments, True)


@precisions
@pytest.mark.parametrize("tier", ["portable", "avx2", "avx512"])
def test_attention_on_the_emulator(tier, precision):
    with running(tier, True, kind=Quick):
        assert_attended(*heads_of(3, 70, 4, 2, 6, precision), [[0, 2, 0, 70], [2, 3, 5, 9]], True)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(0, 150), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_attention_of_any_segments(queries, more, kv_heads, group, causal, seed):
    """A causal segment has at least as many keys as queries; keys may begin anywhere."""
    rng = np.random.default_rng(seed)
    cuts = np.unique([0, *rng.integers(0, queries, 3), queries])
    segments = []
    for q0, q1 in itertools.pairwise(cuts.tolist()):
        k0 = int(rng.integers(0, more + 1))
        segments.append([q0, q1, k0, int(rng.integers(k0 + q1 - q0, queries + more + 1))
                         if k0 + q1 - q0 <= queries + more else k0])
    segments = [row for row in segments if row[3] > row[2]]
    assert_attended(*heads_of(queries, queries + more, kv_heads * group, kv_heads, 4, "float32"), segments, causal)


LONG = {"windows": ([[0, 64, 0, 64], [64, 70, 64, 70], [70, 97, 70, 97]], False), "causal": ([[0, 97, 0, 97]], True),
        "later": ([[0, 20, 3, 96], [20, 60, 3, 96], [60, 97, 30, 97]], True), "odd": ([[5, 38, 7, 70]], False),
        "tokens": ([[0, 1, 0, 97], [1, 2, 3, 68], [2, 3, 96, 97]], True), "two": ([[3, 5, 1, 66]], True)}


@pytest.mark.parametrize(("tier", "emulated"), [(name, True) for name in BY_PAIRS] +
                         [(name, False) for name in BY_PAIRS if name in HERE])
@pytest.mark.parametrize("segments", LONG)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_attention_by_pairs(tier, emulated, segments):
    """Groups that leave lanes empty, heads that are no whole tile, blocks of keys that are not full, and keys that
    several segments see, which are packed once; tokens that are decoded, whose keys are not packed."""
    where, causal = LONG[segments]
    kinds = ((2, 2, 80), (3, 1, 6)) if emulated else ((2, 2, 80), (3, 1, 6), (8, 1, 128), (7, 7, 48), (5, 1, 2))
    with running(tier, emulated, threads=3, kind=Quick):
        for heads, kv_heads, e in kinds:
            q, k, v = heads_of(97, 97, heads, kv_heads, e, "bfloat16")
            assert jit.in_pairs(q, k, v)
            assert_attended(q, k, v, where, causal)


@pytest.mark.parametrize("tier", [name for name in BY_PAIRS if name in HERE])
def test_attention_by_pairs_spoils_no_other_row(tier):
    """A query that is NaN spoils its own row; a key or a value that is, every row that sees it and no other. Scores of
    thousands never overflow, and memory that was used before is not read again."""
    with running(tier, False):
        jit.attend(*heads_of(200, 200, 2, 2, 80, "bfloat16", scale=9.0), np.array([[0, 200, 0, 200]]), False)
        q, k, v = heads_of(90, 90, 2, 1, 16, "bfloat16", scale=20.0)
        segments = np.array([[0, 40, 0, 40], [40, 90, 40, 90]])
        assert_attended(q, k, v, segments, False)
        for x, at, rows in ((q, 2, [2]), (k, 7, range(40)), (v, 66, range(40, 90))):
            kept, x[at] = x[at].copy(), np.nan
            made = jit.attend(q, k, v, segments, False)
            assert set(np.flatnonzero(np.isnan(made).any(axis=(1, 2)))) == set(rows)
            x[at] = kept


def test_what_pairs_cannot_hold_goes_the_other_way():
    """Odd widths of heads, keys of another precision, and nothing at all."""
    with running("avx512-bf16", True, kind=Quick):
        q, k, v = heads_of(3, 70, 2, 2, 6, "bfloat16")
        assert jit.in_pairs(q, k, v)
        for others in ((q[..., :5], k[..., :5], v[..., :5]), (q, k.astype(np.float32), v),
                       (q, k, v.astype(np.float32)), (q[..., :0], k[..., :0], v[..., :0])):
            assert not jit.in_pairs(*others)
        assert_attended(q[..., :5], k[..., :5], v[..., :5], [[0, 1, 0, 70], [1, 3, 2, 9]], True)
    with running("avx512", True, kind=Quick):
        assert not jit.in_pairs(q, k, v)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_token_and_a_prompt_find_the_same_by_pairs():
    """Bit for bit: keys are packed for the one and not for the other."""
    with running("avx512-bf16", True, kind=Quick):
        q, k, v = heads_of(33, 71, 2, 1, 6, "bfloat16")
        whole = jit.attend(q, k, v, np.array([[0, 33, 0, 71]]), False)
        for row in (0, 32):
            alone = jit.attend(q[row:row + 1], k, v, np.array([[0, 1, 0, 71]]), False)
            assert alone.tobytes() == whole[row:row + 1].tobytes()


def test_powers_of_two():
    """Within 3e-6 for all numbers from 0 down to where they vanish; NaN stays, and what is masked weighs nothing."""
    power = attention_bf16.power_of_two

    @numba.njit
    def compiled(x, out):
        for i in range(len(x)):
            out[i] = power(x[i])
    t = np.concatenate([-np.linspace(0, 125, 100_001), [-125.01, -200, -1e30, -np.inf, np.nan]]).astype(np.float32)
    out = np.empty_like(t)
    compiled(t, out)
    np.testing.assert_allclose(out[:100_001], np.exp2(t[:100_001].astype(np.float64)), rtol=3e-6)
    assert (out[100_001:-1] == 0).all() and np.isnan(out[-1])


def test_scores_of_any_size_and_rows_that_are_not_finite():
    """Scores of thousands never overflow; a query that is NaN spoils its own row alone."""
    q, k, v = heads_of(6, 70, 2, 2, 8, "float32", scale=60.0)
    segments = np.array([[0, 6, 0, 70]])
    ours, _, exact = attended(q, k, v, segments, False)
    assert ours.max() <= 2e-3 * np.abs(exact).max()                       # a score of 1e4 has an error of 1e-3
    clean = jit.attend(q, k, v, segments, False)
    q[2, 1] = np.nan
    spoilt = jit.attend(q, k, v, segments, False)
    changed = np.argwhere(np.isnan(spoilt).any(axis=-1)).tolist()
    assert changed == [[2, 1]]
    spoilt[2, 1] = clean[2, 1]
    assert spoilt.tobytes() == clean.tobytes()


# --------------------------------------------------------------------------------------------- exponential

@pytest.fixture(scope="module")
def exponentials():
    import numba

    @numba.njit
    def run(x, out):
        for i in range(len(x)):
            out[i] = numbers.exponential(x[i])
    return run


def test_the_exponential_is_within_two_units_in_the_last_place(exponentials):
    """Over every exponent of float32: each 1021st number there is, the ends, and steps of the reduction."""
    x = np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32).view(F32)
    steps = (np.arange(-260, 260) * np.log(2) / 2).astype(F32)
    x = np.concatenate([x, steps, np.nextafter(steps, F32(9)), np.nextafter(steps, F32(-9)),
                        np.array([-87.33, 88.72, -0.0, np.inf, -np.inf, np.nan], F32)])
    y = np.empty_like(x)
    exponentials(x, y)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.exp(x.astype(np.float64))
    assert np.array_equal(np.isnan(y), np.isnan(x))
    inside = (x >= F32(-87.33)) & (x <= F32(88.72))
    away = np.abs(y[inside] - exact[inside]) / np.spacing(exact[inside].astype(F32)).astype(np.float64)
    assert away.max() <= 2
    assert not y[x < F32(-87.33)].any() and np.isposinf(y[x > F32(88.72)]).all()
    assert exact[x < F32(-87.33)].max() < 2.0**-126 * 1.01 and exact[x > F32(88.72)].min() > 0.99 * np.finfo(F32).max


def test_the_exponential_in_plain_python_is_the_same_function():
    """As the emulator runs it."""
    x = np.concatenate([np.linspace(-90, 90, 500), [np.inf, -np.inf]]).astype(F32)
    with np.errstate(all="ignore"):
        y = np.array([numbers.exponential(number) for number in x])
        np.testing.assert_allclose(y, np.exp(x.astype(np.float64)).astype(F32), rtol=3e-7, atol=1.2e-38)

"""Activations of 8 bits: what they mean is written here in float64, and every tier gives it, on the emulator too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivl
from minivl.checkpoint.packed import packed
from minivl.checkpoint.tree import Linear
from minivl.checkpoint.weight import weight
from minivl.kernels.jit import int8
from minivl.show.samples import load_samples

from .compiled import BF16, everywhere_with_bytes, meant, running


def linear_of(n, k, seed, bias=True):
    rng = np.random.default_rng(seed)
    return Linear(packed(weight(rng.normal(size=(n, k)).astype(np.float32)), "int8"),
                  weight(rng.normal(size=n).astype(np.float32)) if bias else None)


@everywhere_with_bytes
@settings(max_examples=8)
@given(rows=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 200), seed=st.integers(0, 99),
       bias=st.booleans())
def test_rows_of_8_bits_are_multiplied_as_they_are_meant(tier, emulated, rows, n, k, seed, bias):
    w = linear_of(n, k, seed, bias)
    x = np.random.default_rng(seed).normal(size=(rows, k)).astype(np.float32)
    x[rows // 2] *= 1e-20                                                        # every row has a scale of its own
    with running(tier, emulated):
        y = int8.linear(x, w)
    size = np.abs(x).max(axis=1, keepdims=True) * k * np.abs(w.weight.dense("float64")).max() + 1
    assert y.dtype == x.dtype and (np.abs(y - meant(x, w)) <= 2e-6 * size).all()


def test_a_row_of_zeros_stays_one_and_a_row_of_bfloat16_is_rounded_once():
    w = linear_of(40, 96, 1, bias=False)
    x = np.random.default_rng(1).normal(size=(9, 96)).astype(BF16)
    x[3] = 0
    y = int8.linear(x, w)
    assert y.dtype == BF16 and not y[3].any()
    assert np.abs(y.astype(np.float64) - meant(x, w)).max() <= 2.0**-8 * np.abs(meant(x, w)).max()


@everywhere_with_bytes
@pytest.mark.parametrize("rows", [3, 40])
def test_a_row_that_is_not_finite_has_no_number_and_the_smallest_keep_their_sign(tier, emulated, rows):
    w = linear_of(40, 96, 2)
    x = np.random.default_rng(2).normal(size=(rows, 96)).astype(np.float32)
    x[0, 5], x[1, 7] = np.nan, -np.inf
    x[2] = np.where(np.arange(96) % 2, -2e-43, 2e-43)                            # its scale has one bit
    with running(tier, emulated), np.errstate(all="ignore"):
        y = int8.linear(x, w)
        few = int8.linear(x[2:3], Linear(w.weight, None))
    assert np.isnan(y[:2]).all() and np.isfinite(y[2:]).all()
    plain = x[2].astype(np.float64) @ w.weight.dense("float64").T
    assert np.abs(few[0] - plain).max() <= 96 * 1e-43


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


def test_the_model_answers_with_8_bits_and_only_when_asked_to(vlm):
    sample = next(one for one in load_samples() if one.fps is None)
    inputs = vlm.prepare(sample.messages())
    exact = vlm.on("float64", "definition").logits(inputs)
    error = {kernels: np.linalg.norm(vlm.on(kernels=kernels).logits(inputs) - exact) / np.linalg.norm(exact)
             for kernels in ("jit", "jit-int8")}
    assert error["jit"] < 1e-6 and 1e-4 < error["jit-int8"] < 0.1
    assert vlm.on(kernels="jit-int8").interpreter.name == "jit-int8"


@pytest.mark.parametrize("precision", ["float64", "float16"])
def test_a_precision_whose_rows_are_not_rounded_is_refused(precision, vlm):
    with pytest.raises(minivl.Error, match=f"and this model runs in {precision}: take one of those, or other kernels"):
        vlm.on(precision, "jit-int8")
    with pytest.raises(minivl.Error, match=f"this model runs in {precision}"):
        minivl.load(precision=precision, kernels="jit-int8")
    with pytest.raises(minivl.Error, match=f"this model runs in {precision}"):
        vlm.on(kernels="jit-int8").on(precision)


def test_weights_that_are_packed_otherwise_are_refused(vlm, tmp_path):
    minivl.convert(None, tmp_path / "packed", "bf16")
    with pytest.raises(minivl.Error, match="need int8 weights, and .* is packed as bf16: convert"):
        minivl.load(tmp_path / "packed", kernels="jit-int8")
    minivl.convert(None, tmp_path / "small", "int8")
    with minivl.load(tmp_path / "small", kernels="jit-int8") as small:
        assert small.weights.decoder.layers[0].qkv.weight.format == "int8"


def changed(tree, place, change):
    """A tree of weights with another one at a place, such as "decoder.layers.2.down.weight"."""
    first, _, rest = place.partition(".")
    if not first:
        return change(tree)
    if first.isdigit():
        return (*tree[:int(first)], changed(tree[int(first)], rest, change), *tree[int(first) + 1:])
    if first not in tree._fields:
        return tree._replace(mlp=changed(tree.mlp, place, change))
    return tree._replace(**{first: changed(getattr(tree, first), rest, change)})


@pytest.mark.parametrize(("place", "format"), [("vision.merger.outer.weight", "bf16"), ("decoder.embed", "bf16"),
                                               ("decoder.layers.2.down.weight", "int4")])
def test_one_matrix_that_is_packed_otherwise_is_refused_by_its_place(place, format, vlm):
    """The first matrix of a block says nothing of the others: AWQ leaves some in 16 bits."""
    wrong = changed(vlm.weights, place, lambda weight: packed(weight, format))
    with pytest.raises(minivl.Error, match=f"need int8 weights, and {place} is packed as {format}: convert"):
        int8.prepare_int8(wrong)
    assert int8.prepare_int8(vlm.weights).decoder.embed.format == "int8"

"""Weights, files and names: what is read is what another reader reads, every tensor lands in its place and only once,
and whatever disagrees is refused with the names of the file and the tensor."""

from __future__ import annotations

import json
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from minivl.checkpoint import read
from minivl.checkpoint.names import audit, blank_tensors, build, shapes
from minivl.checkpoint.read import load_model, read_tensors
from minivl.checkpoint.safetensors import File
from minivl.checkpoint.tree import Weight
from minivl.checkpoint.weight import Blank, CheckpointError, Joined, Stored, precision, reshaped, weight
from minivl.config import ConfigError, config_from, official_config

from . import checkpoint_files as files

BF16 = ml_dtypes.bfloat16
CONFIG = config_from(files.CONFIG)
TIED = config_from({**files.CONFIG, "tie_word_embeddings": True})
DTYPES = [np.float64, np.float32, np.float16, BF16]


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.itemsize}")


def in_memory(arrays: dict[str, np.ndarray]) -> dict[str, Weight]:
    return {name: weight(array) for name, array in arrays.items()}


# Weights

@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")             # signalling NaNs are among them
def test_every_bf16_pattern_widens_to_its_value():
    patterns = np.arange(1 << 16, dtype=np.uint16)
    stored = Stored(patterns, "bf16")
    wide = patterns.view(BF16).astype(np.float32)             # the values as ml_dtypes has them
    number = ~np.isnan(wide)
    for dtype in (np.float64, np.float32):
        assert np.array_equal(stored.dense(dtype)[number], wide[number].astype(dtype))
        assert np.isnan(stored.dense(dtype)[~number]).all()
    assert np.array_equal(bits(stored.dense(BF16)), patterns)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126)


@given(st.lists(floats, min_size=1, max_size=20))
def test_float32_asked_in_bf16_is_rounded_to_nearest_even(values):
    array = np.array(values, np.float32)
    found = weight(array).dense(BF16)
    for exact, pattern, rounded in zip(map(Fraction, array.tolist()), bits(found), found, strict=True):
        near = [int(pattern) + step for step in (-1, 0, 1) if 0 <= int(pattern) + step < 1 << 16]
        near = np.array(near, np.uint16).view(BF16).astype(np.float64)
        distances = [abs(Fraction(x) - exact) for x in near if np.isfinite(x)]
        distance = abs(Fraction(float(rounded)) - exact)
        assert distance == min(distances)
        if distances.count(distance) > 1 and distance:
            assert pattern % 2 == 0                                           # a tie: the last bit is zero


@pytest.mark.parametrize("dtype", DTYPES)
def test_bf16_asked_in_another_precision_is_rounded_once(dtype):
    array = np.random.default_rng(0).standard_normal((5, 3)).astype(BF16)
    found = weight(array).dense(dtype)
    assert found.dtype == dtype
    assert np.array_equal(bits(found), bits(array.astype(np.float32).astype(dtype)))


def test_what_is_stored_is_not_copied():
    for dtype in DTYPES:
        array = np.ones((4, 2), dtype)
        assert np.shares_memory(weight(array).dense(dtype), array)
    with pytest.raises(ValueError, match="int32"):
        weight(np.ones(3, np.int32))
    with pytest.raises(ValueError, match="bf16"):
        Stored(np.ones(3, np.float32), "bf16")


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_precision_by_name(name):
    assert precision(name).name == name == precision(precision(name)).name


@pytest.mark.parametrize("name", ["int8", "bf16!", "float8", "complex64"])
def test_no_other_precision(name):
    with pytest.raises((ValueError, TypeError)):
        precision(name)


arrays_of = st.sampled_from(DTYPES).flatmap(lambda dtype: st.integers(0, 4).map(
    lambda n: np.random.default_rng(n).standard_normal((n, 3)).astype(dtype)))


@given(st.lists(arrays_of, min_size=1, max_size=4), st.sampled_from(DTYPES))
def test_joined_parts_are_stacked_in_order(parts, dtype):
    joined = Joined([weight(part) for part in parts])
    expected = np.concatenate([weight(part).dense(dtype) for part in parts])
    assert joined.shape == expected.shape
    assert np.array_equal(bits(joined.dense(dtype)), bits(expected))
    one = {part.dtype for part in parts}
    widest = "f64" if np.dtype(np.float64) in one else "f32"           # no part loses digits
    assert joined.format == (weight(parts[0]).format if len(one) == 1 else widest)
    if len(expected):
        index = np.array([[0, len(expected) - 1]])
        assert np.array_equal(bits(joined.rows(index, np.float32)),
                              bits(np.concatenate([p.astype(np.float32) for p in parts])[index]))


def test_only_equal_widths_are_joined_and_only_equal_sizes_reshaped():
    with pytest.raises(ValueError, match=r"\[2, 3\], \[2, 4\]"):
        Joined([weight(np.ones((2, 3), np.float32)), weight(np.ones((2, 4), np.float32))])
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2, 1)
    assert np.array_equal(reshaped(weight(kernel), (2, 12)).dense(np.float32), kernel.reshape(2, 12))
    with pytest.raises(ValueError, match=r"\[2, 11\]"):
        reshaped(weight(kernel), (2, 11))


@given(st.lists(st.integers(0, 6), max_size=9), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_rows_are_rows_of_the_dense_weight(index, stored, asked):
    table = weight(np.random.default_rng(1).standard_normal((7, 2)).astype(stored))
    index = np.array(index, np.int64)
    assert np.array_equal(bits(table.rows(index, asked)), bits(table.dense(asked)[index]))


@pytest.mark.parametrize("index", [[-1], [7], [0, 7], [[3, -7]]])
def test_rows_outside_the_table_are_refused(index):
    with pytest.raises(IndexError, match="7 rows"):
        weight(np.ones((7, 2), np.float32)).rows(np.array(index), np.float32)


def test_blank_weights_take_no_memory():
    blank = Blank((1 << 20, 1 << 20))
    assert blank.dense(np.float64).shape == blank.shape and blank.dense(np.float64).strides == (0, 0)
    assert blank.rows(np.array([5]), BF16).shape == (1, 1 << 20)


# One file

@st.composite
def tensor_files(draw) -> dict[str, np.ndarray]:
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda n: n != "__metadata__"),
                          unique=True, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    sizes = st.lists(st.integers(0, 5), max_size=4)
    return {name: random.standard_normal(draw(sizes)).astype(draw(st.sampled_from(DTYPES[:3]))) for name in names}


@given(tensor_files())
def test_our_reader_reads_what_the_library_wrote(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("written") / "model.safetensors"
    save_file(arrays, path, metadata={"format": "pt"})
    file = File(path)
    assert file.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        found = file.tensors[name]
        assert found.shape == array.shape
        assert np.array_equal(bits(found.dense(array.dtype)), bits(array))
    file.close()


def test_our_files_are_read_alike_by_the_library(tmp_path):
    arrays = files.tensors(np.float32)
    files.write(tmp_path, files.single(arrays))
    theirs = load_file(tmp_path / "model.safetensors")
    with read_tensors(tmp_path) as ours:
        assert ours.keys() == theirs.keys() == files.shapes().keys()
        assert all(np.array_equal(ours[name].dense(np.float32), theirs[name]) for name in theirs)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LIES = [
    ({"a": {**ENTRY, "dtype": "F31"}}, 8, "dtype 'F31'"), ({"a": {**ENTRY, "dtype": ["F32"]}}, 8, "dtype"),
    ({"a": {**ENTRY, "dtype": "F64"}}, 8, "16 bytes"), ({"a": {**ENTRY, "shape": [3]}}, 8, "12 bytes"),
    ({"a": {**ENTRY, "shape": [-2]}}, 8, "sizes"), ({"a": {**ENTRY, "shape": [2.0]}}, 8, "sizes"),
    ({"a": {**ENTRY, "shape": [True, 2]}}, 8, "sizes"), ({"a": {**ENTRY, "shape": 2}}, 8, "sizes"),
    ({"a": {**ENTRY, "shape": [1 << 31, 1 << 31]}}, 8, "sizes"), ({"a": {**ENTRY, "shape": [0, 1 << 62]}}, 8, "sizes"),
    ({"a": {**ENTRY, "shape": [1] * 33}}, 8, "sizes"), ({"a": {**ENTRY, "data_offsets": [8, 0]}}, 8, "begin"),
    ({"a": {**ENTRY, "data_offsets": [-8, 0]}}, 8, "begin"), ({"a": {**ENTRY, "data_offsets": [0]}}, 8, "begin"),
    ({"a": {**ENTRY, "data_offsets": [0, 8.0]}}, 8, "begin"), ({"a": {**ENTRY, "data_offsets": "08"}}, 8, "begin"),
    ({"a": {**ENTRY, "data_offsets": [8, 16]}}, 16, "begins at byte 8"),
    ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, 12, "begins at byte 4"),
    ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, 20, "begins at byte 12"),
    ({"a": ENTRY, "b": ENTRY}, 8, "begins at byte 0"), ({"a": ENTRY}, 9, "fetch it again"),
    ({"a": ENTRY}, 7, "fetch it again"), ({}, 1, "fetch it again"), ({"a": [0, 8]}, 8, "data_offsets"),
    ({"a": {"dtype": "F32", "shape": [2]}}, 8, "data_offsets"), ({"a": {**ENTRY, "more": 1}}, 8, "data_offsets"),
    ({"__metadata__": [1], "a": ENTRY}, 8, "__metadata__"), ({"__metadata__": {"n": 1}, "a": ENTRY}, 8, "__metadata__"),
    (b'{"a": 1, "a": 2}', 0, "given twice"), (b"[]", 0, "begin with"), (b"\xff\xfe{}", 0, "begin with"),
    (b'{"\xe4": 1}', 0, "UTF-8"), (b"{}}", 0, "JSON"),
    (b'{"a":' + b"[" * 100_000, 0, "nested"), (b" {}", 0, "begin with"),
]


@pytest.mark.parametrize(("header", "size", "words"), LIES)
def test_lying_headers_are_refused(header, size, words, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(files.pack(header, bytes(size)))
    with pytest.raises(CheckpointError, match=words) as error:
        File(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("data", [
    b"", b"1234567", bytes(8), (1 << 63).to_bytes(8, "little") + b"{}", (3).to_bytes(8, "little") + b"{}",
    (1 << 40).to_bytes(8, "little") + b"{}", b"version https://git-lfs.github.com/spec/v1\n", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(data, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="safetensors"):
        File(path)


def test_tensors_may_begin_anywhere_and_be_empty(tmp_path):
    header = {"b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
              "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
              "c": {"dtype": "F16", "shape": [0, 3], "data_offsets": [9, 9]},
              "d": {"dtype": "F16", "shape": [], "data_offsets": [9, 11]}}
    (tmp_path / "model.safetensors").write_bytes(
        files.pack(header, b"\7" + np.array([1.5, -2], np.float32).tobytes() + np.float16(0.25).tobytes()))
    with read_tensors(tmp_path) as found:
        assert found["b"].dense(np.float64).tolist() == [1.5, -2]
        assert found["c"].dense(np.float32).shape == (0, 3)
        assert found["d"].dense(np.float32) == 0.25
        with pytest.raises(CheckpointError, match="u8"):
            found["a"].dense(np.float32)


def test_opening_and_reading_rows_touches_nothing_else(tmp_path):
    """A table of 256 MiB, with no bytes on the disk: opening it and taking three rows takes next to no memory."""
    rows, width = 1 << 16, 1 << 11
    header = {"table": {"dtype": "BF16", "shape": [rows, width], "data_offsets": [0, rows * width * 2]}}
    path = tmp_path / "model.safetensors"
    path.write_bytes(files.pack(header, b""))
    os.truncate(path, path.stat().st_size + rows * width * 2)
    tracemalloc.start()
    with read_tensors(tmp_path) as found:
        taken = found["table"].rows(np.array([0, 70, rows - 1]), np.float32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken.shape == (3, width) and not taken.any()
    assert peak < 1 << 20


def test_a_huge_header_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((1 << 28).to_bytes(8, "little"))
    os.truncate(path, (1 << 28) + 8)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="at most"):
        File(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_closed_files_can_be_replaced_and_say_so_when_read(tmp_path):
    files.write(tmp_path, files.single(files.tensors(np.float32)))
    model, found = load_model(tmp_path, np.float32)
    view = found["model.norm.weight"].dense(np.float32)
    kept = view.copy()
    found.close()
    found.close()
    assert np.array_equal(view, kept)                       # a view outlives the closing
    with pytest.raises(CheckpointError, match="was closed"):
        model.decoder.norm.weight.dense(np.float32)
    del view
    (tmp_path / "model.safetensors").unlink()


# Names

def leaves(model) -> list[Weight]:
    """Every weight in the tree, joined and reshaped ones taken apart; a tied head is the same object twice."""
    found, todo = [], [model]
    while todo:
        item = todo.pop()
        if isinstance(item, Weight):
            inner = [*getattr(item, "parts", ()), *([item.weight] if hasattr(item, "weight") else [])]
            todo += inner
            found += [] if inner else [item]
        elif isinstance(item, tuple):
            todo += item
    return found


def test_each_tensor_is_used_exactly_once():
    tensors = in_memory(files.tensors())
    used = leaves(build(tensors, CONFIG, BF16))
    assert sorted(map(id, used)) == sorted(map(id, tensors.values()))
    del tensors["lm_head.weight"]
    tied = build(tensors, TIED, BF16)
    assert tied.decoder.head.weight is tied.decoder.embed
    assert {id(w) for w in leaves(tied)} == {id(w) for w in tensors.values()}


def expected_places(arrays: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Some places of the tree, by hand: found in the tree by path, expected as stacked source arrays."""
    block, layer = "visual.blocks.1.", "model.layers.2."
    q, k, v = (layer + f"self_attn.{x}_proj" for x in "qkv")
    return {
        "vision.patch_embed.weight": (arrays["visual.patch_embed.proj.weight"].reshape(16, 24),),
        "vision.blocks.1.norm1.weight": (arrays[block + "norm1.weight"],),
        "vision.blocks.1.norm2.weight": (arrays[block + "norm2.weight"],),
        "vision.blocks.1.qkv.weight": (arrays[block + "attn.qkv.weight"],),
        "vision.blocks.1.qkv.bias": (arrays[block + "attn.qkv.bias"],),
        "vision.blocks.1.out.weight": (arrays[block + "attn.proj.weight"],),
        "vision.blocks.1.out.bias": (arrays[block + "attn.proj.bias"],),
        "vision.blocks.1.mlp.gate_up.weight": (arrays[block + "mlp.gate_proj.weight"],
                                               arrays[block + "mlp.up_proj.weight"]),
        "vision.blocks.1.mlp.gate_up.bias": (arrays[block + "mlp.gate_proj.bias"], arrays[block + "mlp.up_proj.bias"]),
        "vision.blocks.1.mlp.down.weight": (arrays[block + "mlp.down_proj.weight"],),
        "vision.blocks.1.mlp.down.bias": (arrays[block + "mlp.down_proj.bias"],),
        "vision.merger.norm.weight": (arrays["visual.merger.ln_q.weight"],),
        "vision.merger.inner.weight": (arrays["visual.merger.mlp.0.weight"],),
        "vision.merger.inner.bias": (arrays["visual.merger.mlp.0.bias"],),
        "vision.merger.outer.weight": (arrays["visual.merger.mlp.2.weight"],),
        "vision.merger.outer.bias": (arrays["visual.merger.mlp.2.bias"],),
        "decoder.embed": (arrays["model.embed_tokens.weight"],),
        "decoder.layers.2.norm1.weight": (arrays[layer + "input_layernorm.weight"],),
        "decoder.layers.2.norm2.weight": (arrays[layer + "post_attention_layernorm.weight"],),
        "decoder.layers.2.qkv.weight": tuple(arrays[name + ".weight"] for name in (q, k, v)),
        "decoder.layers.2.qkv.bias": tuple(arrays[name + ".bias"] for name in (q, k, v)),
        "decoder.layers.2.out.weight": (arrays[layer + "self_attn.o_proj.weight"],),
        "decoder.layers.2.mlp.gate_up.weight": (arrays[layer + "mlp.gate_proj.weight"],
                                                arrays[layer + "mlp.up_proj.weight"]),
        "decoder.layers.2.mlp.down.weight": (arrays[layer + "mlp.down_proj.weight"],),
        "decoder.norm.weight": (arrays["model.norm.weight"],),
        "decoder.head.weight": (arrays["lm_head.weight"],),
    }


@pytest.mark.parametrize("rename", [str, files.in_memory_name])
def test_each_place_holds_its_tensors(rename):
    arrays = files.tensors()
    model = build(in_memory({rename(name): array for name, array in arrays.items()}), CONFIG, "bfloat16")
    for place, parts in expected_places(arrays).items():
        found = model
        for step in place.split("."):
            found = found[int(step)] if step.isdigit() else getattr(found, step)
        assert np.array_equal(found.dense(BF16), np.concatenate(parts)), place
    assert model.vision.patch_embed.bias is model.decoder.layers[0].out.bias is model.decoder.head.bias is None
    assert model.decoder.layers[0].mlp.gate_up.bias is model.decoder.layers[0].mlp.down.bias is None
    assert (model.vision.blocks[0].norm1.eps, model.decoder.norm.eps) == (1e-6, 1e-6)
    assert model.vision.dtype == model.decoder.dtype == BF16
    assert (model.config, model.vision.config, model.decoder.config) == (CONFIG, CONFIG.vision, CONFIG.text)
    assert model.vision.blocks[1].config is CONFIG.vision and model.decoder.layers[0].config is CONFIG.text


def test_names_and_shapes_are_those_spelled_out_by_hand():
    assert shapes(CONFIG) == files.shapes()
    assert shapes(TIED) == {name: s for name, s in files.shapes().items() if name != "lm_head.weight"}


@pytest.mark.parametrize(("name", "parameters", "tensors"), [
    ("3B", 3_754_622_976, 824), ("7B", 8_292_166_656, 729), ("32B", 33_452_718_336, 1161),
    ("72B", 73_410_777_344, 1353)])
def test_released_sizes_have_their_published_numbers(name, parameters, tensors):
    config = official_config(name)
    found = shapes(config)
    assert (sum(int(np.prod(shape)) for shape in found.values()), len(found)) == (parameters, tensors)
    model = build(blank_tensors(config), config, "float32")
    assert len(leaves(model)) == tensors + config.tie_word_embeddings


def changed(**changes) -> dict[str, np.ndarray]:
    """CONFIG's tensors with some replaced, or removed by None. `__` stands for a dot."""
    arrays = files.tensors()
    for name, array in changes.items():
        arrays[name.replace("__", ".")] = array
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({"model__norm__weight": None}, "missing", "model.norm.weight [24]"),
    ({"lm_head__weight": None}, "missing", "lm_head.weight [29, 24]"),
    ({"visual__blocks__2__norm1__weight": np.ones(16, BF16)}, "unexpected", "visual.blocks.2.norm1.weight"),
    ({"extra": np.ones(1, BF16)}, "unexpected", "extra"),
    ({"model__norm__weight": np.ones(23, BF16)}, "wrong_shape", "model.norm.weight [23], should be [24]"),
    ({"model__layers__0__mlp__down_proj__weight": np.ones((10, 24), BF16)}, "wrong_shape", "should be [24, 10]"),
    ({"model__language_model__norm__weight": np.ones(24, BF16)}, "conflicting", "model.norm.weight is there 2 times"),
])
def test_the_audit_names_what_is_wrong(changes, kind, words):
    tensors = in_memory(changed(**changes))
    report = audit(tensors, CONFIG)
    assert not report.ok and words in " ".join(getattr(report, kind)) and words in str(report)
    with pytest.raises(CheckpointError) as error:
        build(tensors, CONFIG, BF16)
    assert words in str(error.value)


def test_one_audit_lists_everything():
    arrays = changed(extra=np.ones(1, BF16), model__norm__weight=np.ones(3, BF16), lm_head__weight=None)
    report = audit(in_memory(arrays), CONFIG)
    assert (len(report.missing), len(report.unexpected), len(report.wrong_shape)) == (1, 1, 1)
    assert str(audit(in_memory(files.tensors()), CONFIG)) == "every tensor in its place, each used once"
    many = audit(in_memory({f"x{n}": np.ones(1, BF16) for n in range(99)}), CONFIG)
    assert "... and 89 more" in str(many)


def test_integers_are_no_weights(tmp_path):
    arrays = changed(model__norm__weight=np.ones(24, np.int32))
    files.write(tmp_path, files.single(arrays))
    with pytest.raises(CheckpointError, match="wrong dtype") as error:
        load_model(tmp_path, "float32")
    assert "model.norm.weight i32" in str(error.value) and str(tmp_path) in str(error.value)


def test_a_load_that_fails_leaves_no_file_open(tmp_path, monkeypatch):
    files.write(tmp_path, files.single(changed(extra=np.ones(1, BF16))))
    opened = []
    monkeypatch.setattr(read, "read_tensors", lambda folder: opened.append(read_tensors(folder)) or opened[0])
    with pytest.raises(CheckpointError, match="extra"):
        load_model(tmp_path, "float32")
    with pytest.raises(CheckpointError, match="was closed"):
        opened[0]["extra"].dense(BF16)


def test_a_head_beside_a_tie():
    arrays = files.tensors()
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].copy()
    report = audit(in_memory(arrays), TIED)
    assert report.ok and "lm_head.weight: an equal copy" in str(report)
    model = build(in_memory(arrays), TIED, BF16)
    assert model.decoder.head.weight is model.decoder.embed
    bits(arrays["lm_head.weight"])[28, 23] ^= 1                        # the last bit of the last value
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        build(in_memory(arrays), TIED, BF16)


def test_harmless_buffers_are_tolerated_and_reported():
    arrays = changed(visual__rotary_pos_emb__inv_freq=np.ones(4, np.float32))
    report = audit(in_memory(arrays), CONFIG)
    assert report.ok and report.unused == ["visual.rotary_pos_emb.inv_freq"]


@pytest.mark.parametrize(("name", "words"), [
    ("model.layers.0.mlp.up_proj.qweight", "quantised"), ("base.q_proj.lora_A.weight", "merge them")])
def test_the_audit_knows_other_kinds_of_checkpoint(name, words):
    assert words in str(audit(in_memory({name: np.ones(1, np.float32)}), CONFIG))


# Folders

@pytest.mark.parametrize("make", [files.single, files.sharded])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_folders_load_with_every_tensor_equal(make, dtype, tmp_path):
    arrays = files.tensors(dtype)
    files.write(tmp_path, make(arrays))
    model, found = load_model(str(tmp_path), dtype)
    with found:
        assert found.keys() == arrays.keys() and len(found) == len(arrays)
        assert all(np.array_equal(bits(found[name].dense(dtype)), bits(arrays[name])) for name in arrays)
        assert np.array_equal(model.decoder.embed.dense(dtype), arrays["model.embed_tokens.weight"])
        assert len(leaves(model)) == len(arrays)


def sharded_with(tmp_path: Path, **index) -> Path:
    """A sharded checkpoint whose index has some places replaced (None removes one)."""
    parts = files.sharded(files.tensors())
    places = json.loads(parts["model.safetensors.index.json"])["weight_map"]
    places |= {name.replace("__", "."): place for name, place in index.items()}
    places = {name: place for name, place in places.items() if place is not None}
    parts["model.safetensors.index.json"] = files.as_json({"weight_map": places})
    return files.write(tmp_path / "folder", parts)


@pytest.mark.parametrize("shard", [
    "../outside.safetensors", "/etc/passwd", "/outside.safetensors", "C:\\outside.safetensors", "C:outside.safetensors",
    "..\\outside.safetensors", "sub/inside.safetensors", "..", ".", "", "a\0b.safetensors", "model.bin",
    "x" * 300 + ".safetensors", "\\\\host\\share\\x.safetensors", "~/outside.safetensors"])
def test_an_index_names_no_file_outside_its_folder(shard, tmp_path):
    (tmp_path / "outside.safetensors").write_bytes(files.safetensors(files.tensors()))
    with pytest.raises(CheckpointError, match="in the same folder") as error:
        read_tensors(sharded_with(tmp_path, model__norm__weight=shard))
    assert "index.json" in str(error.value)


def can_link(folder: Path) -> bool:
    try:
        (folder / "probe").symlink_to(folder)
    except OSError:
        return False
    return True


def test_a_link_out_of_the_folder_is_refused_but_a_hub_cache_is_read(tmp_path):
    if not can_link(tmp_path):                              # Windows lets only some users make links
        return
    parts = files.sharded(files.tensors())
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    files.write(blobs, parts)
    snapshot.mkdir(parents=True)
    for name in parts:
        (snapshot / name).symlink_to(Path("..") / ".." / "blobs" / name)
    with read_tensors(snapshot) as found:
        assert found.keys() == files.shapes().keys()
    elsewhere = files.write(tmp_path / "elsewhere", parts)
    name = "model-00002-of-00003.safetensors"
    (elsewhere / name).unlink()
    (elsewhere / name).symlink_to(blobs / name)
    with pytest.raises(CheckpointError, match="outside the folder"):
        read_tensors(elsewhere)
    (elsewhere / name).unlink()
    (elsewhere / name).symlink_to(elsewhere / name)         # a link to itself
    with pytest.raises(CheckpointError, match="is not there"):
        read_tensors(elsewhere)


def test_index_and_shards_must_agree(tmp_path):
    first, second = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
    folder = sharded_with(tmp_path, model__norm__weight=None)
    with pytest.raises(CheckpointError, match=r"model.norm.weight.*does not place"):
        read_tensors(folder)
    folder = sharded_with(tmp_path, ghost=first)
    with pytest.raises(CheckpointError, match=rf"'ghost' should be in {first}"):
        read_tensors(folder)
    folder = sharded_with(tmp_path)
    (folder / second).unlink()
    with pytest.raises(CheckpointError, match=rf"{second} is not there"):
        read_tensors(folder)
    (folder / second).mkdir()
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_tensors(folder)


@pytest.mark.parametrize("index", [
    b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}',
    b'{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}', b'{"weight_map": {"a": null}}'])
def test_broken_indexes_are_refused(index, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        read_tensors(tmp_path)


def test_what_is_there_instead_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        read_tensors(tmp_path / "none")
    with pytest.raises(CheckpointError, match="neither"):
        read_tensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin is a pickle.*save_pretrained"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("method", [{"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes"}, "fp8"])
def test_quantised_checkpoints_are_refused_with_advice(method, tmp_path):
    files.write(tmp_path, files.single(files.tensors(), {**files.CONFIG, "quantization_config": method}))
    with pytest.raises(CheckpointError, match="bf16 release") as error:
        load_model(tmp_path, "float32")
    assert (method if isinstance(method, str) else method["quant_method"]) in str(error.value)


def test_a_pipe_is_never_waited_for(tmp_path):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match="not a regular file"):
            read_tensors(tmp_path)
        os.mkfifo(tmp_path / "config.json")
        with pytest.raises(ConfigError, match="not a regular file"):
            load_model(tmp_path, "float32")


def test_a_git_lfs_pointer_is_told_as_such(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer.*git lfs pull"):
        File(path)


def test_a_place_is_given_every_tensor_once_before_parts_are_joined():
    """A rank's share: half of the rows of q, k and v, each taken before they stand in one table."""
    config, seen = config_from(files.CONFIG), []
    tensors = in_memory(files.tensors())

    def place(name, one):
        seen.append(name)
        return weight(one.dense(np.float32)[: one.shape[0] // 2]) if "k_proj" in name else one
    model = build(tensors, config, np.float32, place)
    assert sorted(seen) == sorted(shapes(config))
    whole, mine = (m.decoder.layers[0].qkv.weight for m in (build(tensors, config, np.float32), model))
    q, k = config.text.heads * config.text.head_dim, config.text.kv_heads * config.text.head_dim
    assert mine.shape[0] == whole.shape[0] - k // 2
    assert np.array_equal(mine.dense(np.float32), np.delete(whole.dense(np.float32), np.s_[q + k // 2 : q + k], axis=0))


@given(st.lists(st.integers(0, 9), max_size=6), st.sampled_from([np.float32, np.float64]))
def test_rows_of_joined_and_reshaped_weights_are_rows_of_the_whole(index, dtype):
    parts = [weight(np.arange(n * 4, dtype=np.float32).reshape(n, 2, 2) + n) for n in (3, 1, 6)]
    for one in (Joined(parts), reshaped(Joined(parts), (10, 4))):
        assert np.array_equal(one.rows(np.array(index, int), dtype), one.dense(dtype)[index])
    with pytest.raises(IndexError, match="asked of a table of 10 rows"):
        Joined(parts).rows(np.array([10]), dtype)

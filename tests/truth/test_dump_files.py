"""Files that toolchains leave behind: every usual way to write types, shapes and names is read, or refused with file,
line and what to write; layouts that ports have are taken off.

Read next: `test_foreign.py` (whole dumps)."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.truth.compare import align
from minivl.truth.compare.files import listed, read_arrays, sizes
from minivl.truth.compare.numbers import kind_of, meant
from minivl.truth.compare.stored import shown
from minivl.truth.trace.format import TraceError
from tools.truth.foreign.port import cut


@pytest.mark.parametrize(("word", "kind"), [
    ("fp32", "float32"), ("F32", "float32"), ("torch.bfloat16", "bfloat16"), ("bf16", "bfloat16"), ("half", "float16"),
    ("np.float16", "float16"), ("<f4", "float32"), ("double", "float64"), ("u8", "uint8"), ("int", "int32"),
    ("fp8", None), ("[2]", None), ("complex64", None)])
def test_types_by_every_name(word, kind):
    assert kind_of(word) == kind


@pytest.mark.parametrize("shape", ["1x80x512", "1,80,512", "[1, 80, 512]", "(1, 80, 512)", "1 80 512", [1, 80, 512]])
def test_shapes_as_they_are_written(shape):
    assert sizes(shape, "here") == (1, 80, 512)


@pytest.mark.parametrize(("line", "words"), [
    ("a.b fp32 2x3", None), ("a.b: fp32, [2, 3]", None), ("a.b\t2x3\tfloat32", None), ("a.b f32 2 3  # a remark", None),
    ("a.b 2x3", "line 2: should have one type"), ("a.b fp32 f16 2x3", "line 2: should have one type"),
    ("a.b fp32 2x-3", "line 2: '2x-3' is no shape; write it as"), ("a.b fp8 2x3", "line 2: should have one type"),
    ("x fp32 2x3", "line 2: 'x' comes a second time"), ("a.b fp32 9999999x9999999999", "line 2: .* is no shape")])
def test_a_list_as_text(tmp_path, line, words):
    (tmp_path / "shapes.txt").write_text(f"x fp32 1\n{line}\n", encoding="utf-8")
    if words is None:
        assert [row[:3] for row in listed(tmp_path / "shapes.txt")][1] == ("a.b", "float32", (2, 3))
        return
    with pytest.raises(TraceError, match=words) as refused:
        list(listed(tmp_path / "shapes.txt"))
    assert str(tmp_path / "shapes.txt") in str(refused.value)


@pytest.mark.parametrize(("found", "words"), [
    ('[{"name": "a", "dtype": "fp32", "shape": "2x3"}]', None), ('{"a": {"dtype": "f32", "shape": [2, 3]}}', None),
    ('{"a": [2, 3]}', "entry 1: should be a list of name, dtype and shape"), ("[", "line 1: should be a list"),
    ('[{"name": "a", "dtype": "q4_0", "shape": [2, 3]}]', "entry 1: 'q4_0' is no type; it can be float64"),
    ('[{"name": 3, "dtype": "f32", "shape": [2]}]', "entry 1: the name is 3"),
    ('[{"name": "a", "dtype": "f32", "shape": [2.5]}]', "entry 1: .* is no shape"),
    ('[{"name": "a", "dtype": "f32", "shape": null}]', "entry 1: .* is no shape"),
    ('[{"name": "../a", "dtype": "f32", "shape": [2]}]', "leads out of the folder"),
    ('[{"name": "b", "dtype": "f32", "shape": [2, 3]}]', "there is no .*b.bin for 'b'; name the file")])
def test_a_list_as_json(tmp_path, found, words):
    np.arange(6, dtype=np.float32).tofile(tmp_path / "a.bin")
    (tmp_path / "shapes.json").write_text(found, encoding="utf-8")
    if words is None:
        np.testing.assert_array_equal(read_arrays(tmp_path)["a"], np.arange(6, dtype=np.float32).reshape(2, 3))
        return
    with pytest.raises(TraceError, match=words):
        read_arrays(tmp_path)


@pytest.mark.parametrize("slash", ["/", "_", ".", "__"])
def test_names_with_slashes_are_files_in_folders_or_with_another_character(tmp_path, slash):
    path = tmp_path / f"{'blk/0/out'.replace('/', slash)}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.arange(6, dtype=np.float16).tofile(path)
    (tmp_path / "shapes.json").write_text(json.dumps([{"name": "blk/0/out", "dtype": "half", "shape": "6"}]))
    assert read_arrays(tmp_path)["blk/0/out"].tolist() == list(range(6))
    np.save(tmp_path / "b.npy", np.ones(3))
    assert set(read_arrays(tmp_path)) == {"blk/0/out", "b"}


def test_raw_numbers_without_a_list_are_refused_with_what_to_write(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(8))
    with pytest.raises(TraceError, match=r"write .*a.txt, where a line is NAME DTYPE SHAPE"):
        read_arrays(tmp_path / "a.bin")
    (tmp_path / "a.txt").write_text("x fp16 4\n")
    assert read_arrays(tmp_path / "a.bin")["x"].tolist() == [0, 0, 0, 0]


@given(st.integers(0, 99), st.sampled_from(["bfloat16", "float16", "float32"]), st.sampled_from(["wide", "native"]))
def test_the_type_that_an_array_shows(seed, kind, way):
    x = cut(np.random.default_rng(seed).normal(size=200), kind)
    if way == "native" and kind == "bfloat16":
        array, word = meant((x.view(np.uint32) >> 16).astype(np.uint16))
        assert word == "bfloat16"
    else:
        array = x.astype(np.float16) if way == "native" and kind == "float16" else x.astype(np.float64)
    assert shown(array) == kind


# ---- layouts -------------------------------------------------------------------------------------------------

@given(st.integers(0, 99), st.permutations(range(3)), st.booleans())
def test_packed_in_any_order(seed, order, grouped):
    random = np.random.default_rng(seed)
    q, k, v = (random.normal(size=(9, n, 4)) for n in (4, 2, 2))
    if grouped:                                                                # n k (group + 2) e, parts in any order
        packed = np.concatenate([[x.reshape(9, 2, -1) for x in (q, k, v)][n] for n in order], axis=2).reshape(9, -1)
    else:
        packed = np.concatenate([[x.reshape(9, -1) for x in (q, k, v)][n] for n in order], axis=1)
    for ours, exact in zip(align.unpack(packed, (q, k, v)), (q, k, v), strict=True):
        np.testing.assert_array_equal(ours.array, exact)


@given(st.integers(0, 99), st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 3), st.booleans())
def test_windows_that_are_each_filled_up(seed, lengths, more, flat):
    x = np.random.default_rng(seed).normal(size=(sum(lengths), 5))
    each = max(lengths) + more
    parts = [np.pad(part, ((0, each - len(part)), (0, 0))) for part in np.split(x, np.cumsum(lengths)[:-1])]
    array = np.concatenate(parts) if flat else np.stack(parts)
    found = align.fit(array, x, 0, align.Rows({}, (tuple(lengths),)))
    np.testing.assert_array_equal(found.array, x)
    assert found.padding == len(parts) * each - len(x)


@given(st.integers(0, 99), st.integers(2, 5), st.integers(2, 5))
def test_pictures_with_channels_first_in_reading_order(seed, rows, columns):
    x = np.random.default_rng(seed).normal(size=(rows * columns, 7))           # golden: columns first, say
    index = np.arange(rows * columns).reshape(rows, columns).T.reshape(-1)
    reading = np.empty_like(x)
    reading[index] = x
    array = reading.reshape(rows, columns, 7).transpose(2, 0, 1)[None]
    found = align.fit(array, x, 0, align.Rows({"in reading order": index}))
    np.testing.assert_array_equal(found.array[index], x)


def test_one_prompt_of_several_and_the_last_row_alone():
    x = np.random.default_rng(0).normal(size=(9, 6))
    batch = np.stack([np.zeros((12, 6)), np.pad(x, ((3, 0), (0, 0)))])
    found = align.fit(batch, x, 0)
    np.testing.assert_array_equal(found.array, x)
    assert found.notes[0] == "element 1 of a batch of 2"
    found = align.fit(batch.swapaxes(0, 1), x, 0)                              # rows first, then prompts
    np.testing.assert_array_equal(found.array, x)
    assert found.notes[0] == "element 1 of a batch of 2 behind the rows"
    found = align.fit(batch[:, -1], x, 0, align.Rows({}, last=True))           # of each prompt the last row
    np.testing.assert_array_equal(found.array, x[-1:])
    assert found.rows.tolist() == [8] and align.fit(batch[:, -1], x, 0) is None
    found = align.fit(x[-1], x, 0, align.Rows({}, last=True))
    np.testing.assert_array_equal(found.array, x[-1:])
    assert found.rows.tolist() == [8] and align.fit(x[-1], x, 0) is None

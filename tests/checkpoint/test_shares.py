"""A rank's share of a tensor: rows and columns of it, in every way that weights are kept."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivl.checkpoint.awq import FourBit
from minivl.checkpoint.layout import COLUMNS, depth
from minivl.checkpoint.names import wanted
from minivl.checkpoint.packed import packed
from minivl.checkpoint.safetensors import File
from minivl.checkpoint.shares import columns_of, part, rows_of, share, stacks
from minivl.checkpoint.weight import CheckpointError, weight
from minivl.config import official_config
from tests.checkpoint.checkpoint_files import safetensors
from tests.run.cut_models import config

FORMATS = ("bf16", "f32", "int8", "int4")


def table(seed, n, k):
    return weight(np.random.default_rng(seed).normal(size=(n, k)).astype(ml_dtypes.bfloat16))


@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))
def test_parts_are_equal_and_cover_everything(seed, of, unit, blocks):
    size = of * unit
    found = [part(size, shard, of) for shard in range(of)]
    assert [at for a, b in found for at in range(a, b)] == list(range(size))
    assert {b - a for a, b in found} == {unit}


@settings(max_examples=60)
@given(st.integers(0, 99), st.sampled_from(FORMATS), st.integers(1, 150), st.integers(1, 300), st.data())
def test_tiles_are_cut_anywhere(seed, format, n, k, data):
    """Numbers of a part are those of the whole, to the bit, whether it begins with a block or within
    one."""
    whole = packed(table(seed, n, k), format)
    right = whole.dense(np.float32)
    edge = st.one_of(st.integers(0, n), st.sampled_from(range(0, n + 1, COLUMNS)))
    spans = [tuple(sorted(data.draw(st.tuples(edge, edge)))) for _ in range(data.draw(st.integers(1, 3)))]
    spans = [span for span in spans if span[0] < span[1]] or [(0, n)]
    mine = rows_of(whole, spans)
    assert mine.tiles.shape == packed(table(0, *mine.shape), format).tiles.shape
    assert np.array_equal(mine.dense(np.float32), np.concatenate([right[a:b] for a, b in spans]))
    unit = depth("int4") if format == "int4" else 1
    a, b = sorted(data.draw(st.tuples(st.integers(0, k // unit), st.integers(0, k // unit))))
    a, b = (a * unit, b * unit) if a < b else (0, k)
    assert np.array_equal(columns_of(whole, (a, b), "place").dense(np.float32), right[:, a:b])


def test_one_range_of_whole_blocks_is_not_copied():
    whole = packed(table(0, 96, 64), "int8")
    assert np.shares_memory(rows_of(whole, [(32, 96)]).tiles, whole.tiles)
    assert not np.shares_memory(rows_of(whole, [(0, 32), (64, 96)]).tiles, whole.tiles)


def test_four_bits_are_not_cut_inside_of_a_group():
    with pytest.raises(CheckpointError, match="down would be cut at 0 and 100, inside of a group of 128"):
        columns_of(packed(table(0, 32, 256), "int4"), (0, 100), "down")


@given(st.integers(0, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.sampled_from(["rows", "columns"]))
def test_parts_of_a_mapped_tensor_stay_mapped(seed, of, unit, other, way):
    import tempfile
    from pathlib import Path
    array = np.random.default_rng(seed).normal(size=(of * unit, of * other)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(safetensors({"x": array}))
        file = File(path)
        for shard in range(of):
            if way == "rows":
                a, b = part(len(array), shard, of)
                mine, right = rows_of(file.tensors["x"], [(a, b)]), array[a:b]
                assert mine.size == right.nbytes
            else:
                a, b = part(array.shape[1], shard, of)
                mine, right = columns_of(file.tensors["x"], (a, b), "x"), array[:, a:b]
            assert np.array_equal(mine.dense(np.float32), right)
            assert np.array_equal(mine.rows(np.array([0, len(right) - 1]), np.float32), right[[0, -1]])
            mine.let_go()
            assert np.array_equal(mine.dense(np.float32), right)
        file.close()
        with pytest.raises(CheckpointError, match="was closed"):
            mine.dense(np.float32)


def test_query_key_and_value_are_cut_each_by_itself():
    made = official_config("7B")
    table_of = wanted(made)["decoder.layers.3.qkv.weight"]
    assert stacks("decoder.layers.3.qkv.weight", made, table_of, -1) == [3584, 512, 512]
    assert [stacks("decoder.layers.3.qkv.weight", made, table_of, i) for i in range(3)] == [[3584], [512], [512]]
    seen = wanted(made)["vision.blocks.0.qkv.weight"]
    assert stacks("vision.blocks.0.qkv.weight", made, seen, 0) == [1280] * 3
    assert stacks("vision.blocks.0.gate_up.bias", made, wanted(made)["vision.blocks.0.gate_up.bias"], 1) == [3420]


def test_heads_of_a_rank_are_whole_heads_with_their_key_heads():
    """Rows are numbered, so that every number of a share says where it came from."""
    made = config(2, kv=2, group=3, half=4)
    e, heads, kv = made.text.head_dim, made.text.heads, made.text.kv_heads
    rows = (heads + 2 * kv) * e
    whole = weight(np.repeat(np.arange(rows, dtype=np.float32)[:, None], made.text.hidden_size, 1))
    where = "decoder.layers.0.qkv.weight"
    mine = share(where, whole, stacks(where, made, wanted(made)[where], -1), 1, 2)
    got = mine.dense(np.float32)[:, 0].astype(int).tolist()
    q = list(range(heads // 2 * e, heads * e))
    k = list(range(heads * e + kv // 2 * e, heads * e + kv * e))
    v = list(range(heads * e + kv * e + kv // 2 * e, rows))
    assert got == q + k + v


def test_what_cannot_be_cut_is_named():
    four = FourBit.__new__(FourBit)
    four.shape = (64, 64)
    with pytest.raises(CheckpointError, match="down.weight is kept as awq, which cannot be cut: pack the checkpoint"):
        share("decoder.layers.0.down.weight", four, [64], 0, 2)
    assert share("decoder.layers.0.norm1", four, [64], 0, 2) is four
    assert share("decoder.layers.0.down.weight", four, [64], 0, 1) is four

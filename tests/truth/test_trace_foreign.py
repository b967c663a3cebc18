"""Arrays of others: whatever layout, order, type and names they come in, they are laid right or refused in words.

The disguises are put on here and taken off by `align.py`, `importers.py` and `guess.py`. Read next: `test_trace.py`.
"""

import json
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl.truth.compare import align
from minivl.truth.compare.compare import compare
from minivl.truth.compare.guess import guess
from minivl.truth.compare.importers import precision_of, read_candidate
from minivl.truth.trace.format import COORDINATES, TraceError
from minivl.truth.trace.recorder import Recorder
from minivl.truth.trace.torch_recorder import listening

from .test_trace import FAULTS, MESSAGES, VLM, candidate_of, golden  # noqa: F401 - a fixture

DEPTH, LAYERS = VLM.config.vision.depth, VLM.config.text.num_hidden_layers


# ---- layouts --------------------------------------------------------------------------------------------------

@given(st.integers(0, 99), st.integers(2, 7), st.integers(1, 3), st.integers(2, 5), st.data())
def test_every_disguise_of_a_layout_is_taken_off(seed, rows, heads, width, data):
    """Batch axes, padding on either side, turned axes and heads side by side, in any combination."""
    random = np.random.default_rng(seed)
    exact = random.normal(size=(rows, heads, width))
    array = exact
    before, after = data.draw(st.sampled_from([(0, 0), (0, 3), (2, 0)]))
    array = np.concatenate([random.normal(size=(before, *array.shape[1:])), array,
                            random.normal(size=(after, *array.shape[1:]))])
    if data.draw(st.booleans()):
        array = array.reshape(len(array), -1)
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    for _ in range(data.draw(st.integers(0, 2))):
        array = np.expand_dims(array, data.draw(st.integers(0, array.ndim)))
    found = align.fit(array, exact, 0)
    assert found is not None
    np.testing.assert_array_equal(found.array, exact)
    assert found.padding == before + after


def test_what_fits_in_no_way_is_said(golden):  # noqa: F811
    key = "vision.blocks.0.attend"
    path = golden.path.parent / "odd.npz"
    np.savez(path, **{key: np.zeros((3, 5, 7)), "decoder.logits": golden.arrays("decoder.logits")[0]})
    found = compare(golden, read_candidate(path, golden))
    assert found.words[key] == "wrong" and found.words["decoder.logits"] == "exact"
    assert "shape [3, 5, 7] cannot be laid on" in next(row for row in found.judged if row.key == key).notes[0]


@given(st.integers(0, 99), st.sampled_from(["side by side", "head by head"]), st.integers(1, 3), st.integers(1, 3))
def test_packed_queries_keys_and_values(seed, packing, kv, group):
    random = np.random.default_rng(seed)
    q, k, v = (random.normal(size=(9, n, 4)) for n in (kv * group, kv, kv))
    if packing == "side by side":
        packed = np.concatenate([x.reshape(9, -1) for x in (q, k, v)], axis=1)
    else:
        grouped = [x.reshape(9, kv, -1, 4) for x in (q, k, v)]
        packed = np.concatenate(grouped, axis=2).reshape(9, -1)
    for ours, exact in zip(align.unpack(packed[None], (q, k, v)), (q, k, v), strict=True):
        np.testing.assert_array_equal(ours.array, exact)


def test_orders_put_other_orders_into_the_golden_one(golden):  # noqa: F811
    at = golden.tables(COORDINATES)
    for letter in "pwc":
        own = at[letter].reshape(len(at[letter]), -1)
        others = {"in reading order": own[np.lexsort(own.T[::-1])], "by window": at["w"],
                  "in 2x2 blocks, as cut": at["p"], "in prompt order": at["m"].reshape(len(at["m"]), -1)}
        found = align.orders(letter, at)
        assert found
        for word, index in found.items():
            np.testing.assert_array_equal(others[word][index], own)


# ---- a whole port in another dress ----------------------------------------------------------------------------

def disguised(golden, folder, replace=None):  # noqa: F811
    """A float16 run under other names: rows in reading order, packed and padded qkv, heads first, few taps."""
    from minivl.truth.trace.format import Trace
    path = candidate_of(folder / "run.safetensors", "float16", replace)
    index = np.argsort(align.orders("w", golden.tables(COORDINATES))["in reading order"])
    out = {}
    with Trace(path) as run:
        for n in range(DEPTH):
            at = f"vision.blocks.{n}."
            packed = np.concatenate([a.reshape(len(a), -1) for a in run.arrays(at + "project_qkv")], axis=1)[index]
            out[f"vis.{n}.qkv"] = np.pad(packed, ((0, 24), (0, 0)))[None]
            out[f"vis.{n}.attn"] = run.arrays(at + "attend")[0][index].transpose(1, 0, 2)[None]
            out[f"vis.{n}.out"] = run.arrays(at + "add_mlp")[0][index]
        for n in range(LAYERS):
            at = f"decoder.layers.{n}."
            out[f"blk.{n + 1}.k"] = run.arrays(at + "rotate")[1]
            out[f"blk.{n + 1}.out"] = run.arrays(at + "add_mlp")[0][None]
        out["mm"], out["lm"] = run.arrays("vision.restore_order")[0], run.arrays("decoder.logits")[0][None]
    return out | {"junk": np.ones((3, 5))}


NAMES = {f"vis.{n}.{a}": f"vision.blocks.{n}.{b}" for n in range(DEPTH)
         for a, b in (("qkv", "project_qkv"), ("attn", "attend"), ("out", "add_mlp"))}
NAMES |= {f"blk.{n + 1}.{a}": f"decoder.layers.{n}.{b}" for n in range(LAYERS)
          for a, b in (("k", "rotate:1"), ("out", "add_mlp"))}
NAMES |= {"mm": "vision.restore_order", "lm": "decoder.logits"}


def test_a_port_in_another_dress_is_recognised_and_is_rounding(golden, tmp_path):  # noqa: F811
    arrays = disguised(golden, tmp_path)
    np.savez(tmp_path / "port.npz", **arrays)
    assert {g.name: g.label for g in guess(arrays, golden)} == NAMES
    found = compare(golden, read_candidate(tmp_path / "port.npz", golden, NAMES))
    assert found.precision == "float16" and found.first_bad is None and found.unused == ["junk"]
    said = " ".join(found.aligned)
    for words in ("batch axis dropped", "24 rows of padding behind left out", "packed", "rows w came in reading order"):
        assert words in said


@pytest.mark.parametrize("name", ["windows missing", "bias dropped", "not causal"])
def test_its_fault_is_found_through_the_dress(golden, tmp_path, name):  # noqa: F811
    replace, blamed = FAULTS[name]
    np.savez(tmp_path / "port.npz", **disguised(golden, tmp_path, replace))
    found = compare(golden, read_candidate(tmp_path / "port.npz", golden, NAMES))
    assert blamed in found.suspects and found.first_bad.startswith(blamed.partition(".")[0])


def test_names_carry_the_guess_past_a_bug(golden, tmp_path):  # noqa: F811
    """What a bug has touched may have no fingerprint left; noise certainly has none."""
    arrays = disguised(golden, tmp_path, FAULTS["windows missing"][0])
    last = f"vis.{DEPTH - 1}.qkv"
    arrays[last] = np.random.default_rng(0).normal(size=arrays[last].shape)
    found = {g.name: g for g in guess(arrays, golden)}
    assert found[last].label == NAMES[last] and found[last].distance is None
    assert all(g.label == NAMES[g.name] for g in found.values())


def test_one_tap_in_another_order_is_a_bug_and_no_style(golden, tmp_path):  # noqa: F811
    arrays = {key: golden.arrays(key)[0] for key in golden.recorded(["vision.blocks.*.add_mlp"])}
    index = align.orders("w", golden.tables(COORDINATES))["in 2x2 blocks, as cut"]
    odd = f"vision.blocks.{DEPTH - 1}.add_mlp"
    arrays[odd] = arrays[odd][np.argsort(index)]                           # golden order -> as cut
    np.savez(tmp_path / "odd.npz", **arrays)
    found = compare(golden, read_candidate(tmp_path / "odd.npz", golden))
    assert found.words[odd] == "wrong" and set(found.words.values()) == {"wrong", "exact"} and found.first_bad == odd


def test_a_tap_that_does_not_say_how_it_is_filled_up_is_read_as_the_others_are(golden, tmp_path):  # noqa: F811
    """One that says it may have its padding elsewhere."""
    table = golden.arrays("vision.schedule")[0]
    lengths = np.diff(table[:, :2]).ravel()
    spare = len(lengths) * max(lengths) - lengths.sum()
    assert spare > 0 and len(lengths) > 1
    keys = golden.recorded(["vision.blocks.*.add_mlp"])
    arrays = {key: np.pad(golden.arrays(key)[0], ((spare, 0), (0, 0)), constant_values=0.3) for key in keys}
    arrays[keys[0]] = np.roll(arrays[keys[0]], -spare, axis=0)
    arrays[keys[-1]] = np.random.default_rng(0).normal(size=arrays[keys[-1]].shape)
    np.savez(tmp_path / "odd.npz", **arrays)
    found = compare(golden, read_candidate(tmp_path / "odd.npz", golden, {name: name for name in arrays}))
    assert [key for key, word in found.words.items() if word != "exact"] == keys[-1:]
    notes = {row.key: row.notes for row in found.judged}
    assert notes.pop(keys[0]) == (f"{spare} rows of padding behind left out",)
    assert set(notes.values()) == {(f"{spare} rows of padding before left out",)}


# ---- files ----------------------------------------------------------------------------------------------------

KEYS = ("vision.merge_2x2", "decoder.layers.0.attend", "decoder.logits")


def written(folder, form, arrays):
    """The same arrays in one of the forms that toolchains leave behind."""
    if form == "npz":
        np.savez(folder / "a.npz", **arrays)
    elif form == "safetensors":
        with Recorder(folder / "a.safetensors") as out:
            for name, array in arrays.items():
                out.put(name, array)
    elif form == "npy":
        (folder / "a").mkdir()
        for name, array in arrays.items():
            np.save(folder / "a" / f"{name}.npy", array)
        return folder / "a"
    elif form == "bin":
        (folder / "a.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
        (folder / "a.json").write_text(json.dumps([
            {"name": n, "dtype": str(a.dtype), "shape": a.shape} for n, a in arrays.items()]), encoding="utf-8")
    return folder / f"a.{form}"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("form", ["npz", "safetensors", "npy", "bin"])
def test_every_form_of_file_is_read(golden, tmp_path, form, dtype):  # noqa: F811
    arrays = {key: golden.arrays(key)[0].astype(dtype) for key in KEYS}
    candidate = read_candidate(written(tmp_path, form, arrays), golden)
    assert candidate.precision == dtype and not candidate.native
    assert set(compare(golden, candidate).words.items()) == {(key, "exact") for key in KEYS}


def test_bfloat16_as_integers_and_int8_with_scales(golden, tmp_path):  # noqa: F811
    exact = golden.arrays("decoder.logits")[0]
    scale = np.abs(exact).max(axis=0) / 127
    np.savez(tmp_path / "q.npz", b=golden.arrays("vision.merge_2x2")[0].astype(ml_dtypes.bfloat16).view(np.uint16),
             q=np.round(exact / scale).astype(np.int8), s=scale)
    names = {"b": {"label": "vision.merge_2x2", "dtype": "bfloat16"}, "q": {"label": "decoder.logits", "scale": "s"}}
    candidate = read_candidate(tmp_path / "q.npz", golden, names, "bfloat16")
    found = compare(golden, candidate)
    assert found.words["vision.merge_2x2"] == "rounding"
    assert next(row for row in found.judged if row.key == "decoder.logits").measure.error < 0.01
    assert candidate.unused == []


def test_a_dump_of_minivl_is_a_candidate(golden, tmp_path):  # noqa: F811
    with minivl.load(precision="float32") as vlm, minivl.session(dump=tmp_path / "dump"):
        vlm.logits(vlm.prepare(MESSAGES))
    candidate = read_candidate(tmp_path / "dump", golden)
    assert candidate.native and compare(golden, candidate).first_bad is None


@pytest.mark.parametrize(("arrays", "precision"), [
    (np.float32([1 + 2.0**-11]), "float32"), (np.float32([1 + 2.0**-10]), "float16"),
    (np.float64([1 / 3]), "float64"), (np.float32([1 / 3]), "float32"), (np.float16([1 / 3]), "float16"),
    (np.float16([1 / 3]).astype(np.float32), "float16"),
    (np.array([1 / 3], ml_dtypes.bfloat16).astype(np.float32), "bfloat16")])
def test_the_type_that_numbers_show(arrays, precision):
    assert precision_of([arrays]) == precision


def test_wrong_input_is_refused_in_words(golden, tmp_path):  # noqa: F811
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    for names, words in [(None, "none of its 2 names is a label"),
                         ({"z": "decoder.logits"}, "'z' is not in the file, which holds x, y"),
                         ({"x": None, "y": None}, "leaves out all of its 2 arrays"),
                         ({"x": "decoder.lost"}, "'x' means 'decoder.lost', no label")]:
        with pytest.raises(TraceError, match=words):
            read_candidate(tmp_path / "a.npz", golden, names)
    (tmp_path / "a.bin").write_bytes(bytes(10))
    for size, words in (3, "ends within a"), (1, "has 10 bytes, the list of shapes speaks of 4"):
        (tmp_path / "a.json").write_text(json.dumps([{"name": "a", "dtype": "float32", "shape": [size]}]))
        with pytest.raises(TraceError, match=words):
            read_candidate(tmp_path / "a.bin", golden)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TraceError, match="holds no .npy files"):
        read_candidate(tmp_path / "folder", golden)
    with pytest.raises(TraceError, match="a.onnx: there is no such file; give a trace"):
        read_candidate(tmp_path / "a.onnx", golden)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(TraceError, match="is neither"):
        read_candidate(tmp_path / "a.onnx", golden)
    np.save(tmp_path / "folder" / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(TraceError, match="cannot be read as .npy"):
        read_candidate(tmp_path / "folder", golden)


# ---- any module tree ------------------------------------------------------------------------------------------

class Module:
    """What the recorder asks of a torch module, and no more."""

    def __init__(self, **children):
        self.children, self.hooks = children, []

    def named_modules(self, prefix=""):
        yield prefix, self
        for name, child in self.children.items():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def get_submodule(self, name):
        for part in name.split("."):
            self = self.children[part]
        return self

    def register_forward_hook(self, hook):
        self.hooks.append(lambda x, y: hook(self, (x,), y))
        return SimpleNamespace(remove=self.hooks.clear)

    def register_forward_pre_hook(self, hook, with_kwargs):
        self.hooks.append(lambda x, y: hook(self, (x,), {}))
        return SimpleNamespace(remove=self.hooks.clear)


class Tensor:
    def __init__(self, array):
        self.array, self.dtype = array, f"torch.{array.dtype}"

    detach = cpu = lambda self: self

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        assert self.array.dtype != ml_dtypes.bfloat16, "torch gives no NumPy array of it"
        return self.array


def test_a_module_tree_is_recorded_under_labels(golden, tmp_path):  # noqa: F811
    head, mlp, other = Module(), Module(), Module()
    tree = Module(visual=Module(merger=mlp), lm_head=head, other=other)
    with listening(tree, tmp_path / "tree.safetensors") as coverage:
        for module, key in ((mlp, "vision.merge_2x2"), (head, "decoder.logits")):
            y = Tensor(golden.arrays(key)[0].astype(ml_dtypes.bfloat16)[None])
            for hook in list(module.hooks):
                hook(None, y)
    assert "2 arrays written" in str(coverage) and coverage.others == ["visual", "other"]
    found = compare(golden, read_candidate(tmp_path / "tree.safetensors", golden))
    # golden values that were only stored in bfloat16: no run in that type comes so near
    assert "bfloat16" not in found.computed.values() and {row.stored for row in found.judged} == {"bfloat16"}
    assert set(found.words) == {"vision.merge_2x2", "decoder.logits"} and not found.differs
    assert not mlp.hooks and not head.hooks

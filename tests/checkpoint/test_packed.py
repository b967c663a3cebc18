"""Packed weights: what they give back is held to rules that are written out here, number by number; compiled packing
to the definition; what a folder of them says to what its file holds.
"""

import json
import os
import random
import shutil

import ml_dtypes
import numpy as np
import pytest

import minivl
from minivl.checkpoint import layout
from minivl.checkpoint.convert import convert, headed
from minivl.checkpoint.names import formats, parameters, place_shapes, weights_of
from minivl.checkpoint.packed import Packed, array_shapes, pack_rows, packed
from minivl.checkpoint.packed_folder import ABOUT, KIND, TILES, MappedPacked, damaged, read_packed
from minivl.checkpoint.read import load_model
from minivl.checkpoint.weight import CheckpointError, Joined, reshaped, weight

from . import checkpoint_files as files

BF16 = ml_dtypes.bfloat16
F32 = np.float32
SHAPES = [(1, 1), (32, 32), (37, 50), (100, 129), (64, 256), (33, 300)]


def drawn(n, k, kind=F32, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k)).astype(kind)


# ---- one weight

def by_rule(x, format):
    """What a weight gives back, one number after the other, in Python."""
    out = np.zeros(x.shape, F32)
    for row in range(len(x)):
        for start in range(0, x.shape[1], 128 if format == "int4" else x.shape[1]):
            group = x[row, start:start + 128] if format == "int4" else x[row]
            if format == "int8":
                scale, zero, least, most = F32(max(abs(group).max(), F32(1e-30)) / F32(127)), F32(0), -127, 127
            else:
                low, high = min(group.min(), F32(0)), max(group.max(), F32(0))
                scale = F32(max(high - low, F32(1e-30)) / F32(15))
                zero, least, most = F32(min(max(round(-low / scale), 0), 15)), 0, 15
            for i, number in enumerate(group):
                step = min(max(round(float(F32(number / scale))) + zero, least), most)     # Python rounds to even
                out[row, start + i] = F32(F32(step) - zero) * scale
    return out


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_smaller_weight_gives_back_what_its_rule_says(shape, format):
    x = drawn(*shape)
    found = packed(weight(x), format)
    assert np.array_equal(found.dense(F32), by_rule(x, format))
    index = np.array([[shape[0] - 1, 0]])
    assert np.array_equal(found.rows(index, F32), found.dense(F32)[index])
    assert found.nbytes == sum(found.array(name).nbytes for name in array_shapes(shape, format))


@pytest.mark.parametrize("kind, format", [(BF16, "bf16"), (F32, "f32"), (BF16, "f32")])
@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_and_f32_are_given_back_bit_for_bit(shape, kind, format):
    x = drawn(*shape, kind)
    found = packed(weight(x), format)
    assert isinstance(found, Packed) and found.format == format
    assert found.dense(kind).tobytes() == x.tobytes()


def test_joined_and_reshaped_weights_are_packed_as_the_whole_of_them():
    parts = [drawn(n, 24, BF16, n) for n in (32, 64, 7)]
    odd = [drawn(n, 24, BF16, n) for n in (30, 64)]                      # a part begins within a block
    for made in (parts, odd, [parts[0], drawn(32, 24, F32)]):
        whole = Joined([weight(part) for part in made])
        for format in ("bf16", "int8", "int4"):
            alone = packed(weight(whole.dense(F32)), format) if format != "bf16" else whole
            assert np.array_equal(packed(whole, format).dense(F32), alone.dense(BF16 if format == "bf16" else F32))
    kernel = drawn(6, 24, BF16).reshape(6, 3, 8)
    assert np.array_equal(packed(reshaped(weight(kernel), (6, 24))).dense(BF16), kernel.reshape(6, 24))


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_not_rounded_in_silence(format, bad):
    x = drawn(40, 200)
    x[33, 150] = bad
    with pytest.raises(minivl.Error, match="infinity or NaN"):
        packed(weight(x), format)
    assert np.array_equal(packed(weight(x), "f32").dense(F32), x, equal_nan=True)


def test_formats_that_are_none_are_refused_and_others_stay():
    assert packed(weight(drawn(4, 4, np.float64))).format == "f64"
    with pytest.raises(minivl.Error, match="int2"):
        packed(weight(drawn(4, 4)), "int2")


@pytest.mark.parametrize("format", list(layout.IN_WORD))
def test_compiled_packing_gives_the_bits_of_the_definition(format, monkeypatch):
    jit = pytest.importorskip("minivl.kernels.jit", reason="the package numba is not installed")
    monkeypatch.setattr(jit, "LITTLE", 0)
    compiled = []
    monkeypatch.setattr(jit, "pack_rows", lambda *args: (compiled.append(args[2].shape), pack_rows(*args)))
    for shape in SHAPES:
        for kind in (BF16, F32):
            x = weight(drawn(*shape, kind))
            ours, theirs = packed(x, format, jit.pack), packed(x, format)
            for name in ("tiles", "scales", "zeros"):
                assert ours.array(name).tobytes() == theirs.array(name).tobytes(), (shape, kind, name)
    native = BF16 if format == "bf16" else F32
    assert (32, 32) not in compiled if format not in ("bf16", "f32") else len(compiled) < 2 * len(SHAPES), native
    for bad in (np.inf, np.nan):
        x = drawn(40, 200)
        x[33, 150] = bad
        if format in ("int8", "int4"):
            with pytest.raises(minivl.Error, match="infinity or NaN"):
                packed(weight(x), format, jit.pack)


def test_pages_of_a_file_are_given_back_when_its_weight_is_packed(tmp_path, monkeypatch):
    from minivl.checkpoint.safetensors import Mapped
    folder = files.write(tmp_path, files.single(files.tensors()))
    model, tensors = load_model(folder, F32)
    gone = []
    monkeypatch.setattr(Mapped, "let_go", lambda self: gone.append(self.start))
    with tensors:
        for one in weights_of(model).values():
            packed(one, "int8" if len(one.shape) == 2 else None)
        wide = {tensors[name].start for name, shape in files.shapes().items() if len(shape) > 1}
    assert {start for start in gone if start in wide} == set(gone) and len(set(gone)) > len(wide) // 2


# ---- a folder of them

@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("source"), files.single(files.tensors()))


@pytest.fixture(scope="module")
def folders(source, tmp_path_factory):
    """Format -> a packed folder of the small checkpoint."""
    home = tmp_path_factory.mktemp("packed")
    return {format: convert(source, home / format, format) for format in ("bf16", "int8", "int4")}


def test_places_are_those_of_the_tree(source):
    model, tensors = load_model(source, F32)
    with tensors:
        assert place_shapes(model.config) == {place: one.shape for place, one in weights_of(model).items()}
        assert parameters(model) == sum(int(np.prod(shape)) for shape in files.shapes().values())
        assert formats(model) == "bf16"


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_a_packed_folder_is_the_model_that_it_was_made_of(source, folders, format):
    was, first = load_model(source, F32)
    now, second = load_model(folders[format], F32)
    with first, second:
        ends = "int8" if format == "int4" else format
        for place, one in weights_of(was).items():
            found = weights_of(now)[place]
            if len(one.shape) == 1:
                assert found.dense(F32).tobytes() == one.dense(F32).tobytes()
                continue
            wanted = format if ".blocks." in place or ".layers." in place else ends
            right = one.dense(F32) if wanted == "bf16" else by_rule(one.dense(F32), wanted)
            assert isinstance(found, MappedPacked) and found.format == wanted
            assert found.dense(F32).tobytes() == right.tobytes(), place
        assert now.config == was.config and now.decoder.head.weight is not now.decoder.embed


def test_tiles_begin_at_cache_lines_and_come_first(folders):
    for folder in folders.values():
        data = (folder / TILES).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        header.pop("__metadata__")
        assert end % 64 == 0
        kinds = [name.endswith(".tiles") for name in sorted(header, key=lambda n: header[n]["data_offsets"])]
        assert kinds == sorted(kinds, reverse=True)
        assert all(entry["data_offsets"][0] % 64 == 0 for name, entry in header.items() if name.endswith(".tiles"))
        import safetensors.numpy  # another reader finds the same
        assert safetensors.numpy.load_file(folder / TILES).keys() == header.keys()


def test_mapped_tiles_are_used_where_they_lie(folders):
    jit = pytest.importorskip("minivl.kernels.jit", reason="the package numba is not installed")
    model, tensors = load_model(folders["int4"], F32)
    with tensors:
        made = weights_of(jit.prepare(model))
        for place, one in weights_of(model).items():
            assert made[place] is one
        one = made["decoder.layers.0.qkv.weight"]
        for array, given in zip((one.tiles, one.scales, one.zeros), jit.tables_of(one), strict=True):
            assert not array.flags.writeable and given.flags.writeable
            assert np.shares_memory(array, given) or not array.size
            del array, given
    with pytest.raises(CheckpointError, match="was closed"):
        one.dense(F32)


def test_a_tied_head_is_packed_once(tmp_path):
    arrays = files.tensors()
    arrays.pop("lm_head.weight")
    source = files.write(tmp_path / "source", files.single(arrays, {**files.CONFIG, "tie_word_embeddings": True}))
    model, tensors = load_model(convert(source, tmp_path / "packed", "int8"), F32)
    with tensors:
        assert model.decoder.head.weight is model.decoder.embed


# ---- folders that lie

def respoken(folder, target, change):
    """A copy of a packed folder with another packed.json."""
    shutil.copytree(folder, target)
    said = json.loads((target / ABOUT).read_text(encoding="utf-8"))
    change(said)
    (target / ABOUT).write_text(json.dumps(said), encoding="utf-8")
    return target


QKV = "decoder.layers.0.qkv.weight"
LIES = [
    (lambda s: s.update(kind="other"), "kind should be"), (lambda s: s.update(version=2), "version is 2"),
    (lambda s: s.update(version=True), "version is True"), (lambda s: s.update(matrices=[]), r"matrices is \[\]"),
    (lambda s: s.update(digests=None), "digests is None"), (lambda s: s.pop("source"), "source is None"),
    (lambda s: s["matrices"][QKV].update(shape=[-48, 24]), "two sizes"),
    (lambda s: s["matrices"][QKV].update(shape=[1 << 60, 24]), "two sizes"),
    (lambda s: s["matrices"][QKV].update(shape=[True, 24]), "two sizes"),
    (lambda s: s["matrices"][QKV].update(shape=[(1 << 39) + 1, (1 << 39) + 1]), "should be u32"),
    (lambda s: s["matrices"][QKV].update(shape=[48.0, 24]), "two sizes"),
    (lambda s: s["matrices"][QKV].update(shape=[48, 24, 1]), "two sizes"),
    (lambda s: s["matrices"][QKV].update(shape=[65, 24]), "should be u32"),
    (lambda s: s["matrices"][QKV].update(shape=[40, 24]), "should be"),
    (lambda s: s["matrices"][QKV].update(format="int2"), "format is 'int2'"),
    (lambda s: s["matrices"][QKV].update(format=["int8"]), "format is"),
    (lambda s: s["matrices"][QKV].update(format="int4"), "should be f32"),
    (lambda s: s["matrices"].update({QKV: 7}), "two sizes"),
    (lambda s: s["matrices"].pop(QKV), "decoder.layers.0.qkv.weight"),
    (lambda s: s["matrices"].update(ghost=s["matrices"][QKV]), "ghost.tiles.* is not there"),
    (lambda s: s["digests"].pop("decoder.norm"), "decoder.norm"),
    (lambda s: s["digests"].update(ghost="00"), "ghost"), (lambda s: s["digests"].update({"decoder.norm": 7}), "SHA"),
]


@pytest.mark.parametrize("lie, words", LIES)
def test_what_packed_json_says_is_held_against_the_file(folders, tmp_path, lie, words):
    with pytest.raises(CheckpointError, match=words):
        load_model(respoken(folders["int8"], tmp_path / "lying", lie), F32)[1].close()


def test_a_matrix_of_another_size_than_the_configuration_asks_for_is_refused(folders, tmp_path):
    """(41, 24) takes the same tiles as (48, 24) does; only the audit can tell."""
    folder = respoken(folders["bf16"], tmp_path / "x", lambda s: s["matrices"][QKV].update(shape=[41, 24]))
    with pytest.raises(CheckpointError, match=rf"{QKV} \[41, 24\], should be \[48, 24\]"):
        load_model(folder, F32)


def test_tiles_that_begin_elsewhere_are_refused(tmp_path):
    """A header whose length is not padded: the numbers would be read from odd addresses."""
    shapes = array_shapes((4, 4), "bf16")
    header, starts, size = headed({f"a.{name}": about for name, about in shapes.items()})
    text = header[8:].rstrip() + b"  "
    (tmp_path / TILES).write_bytes(len(text).to_bytes(8, "little") + text + bytes(size - len(header)))
    said = {"kind": KIND, "version": 1, "minivl": "0", "weights": "bf16", "source": {},
            "matrices": {"a": {"format": "bf16", "shape": [4, 4]}}, "digests": dict.fromkeys(starts, "00")}
    (tmp_path / ABOUT).write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no multiple of 64"):
        read_packed(tmp_path)


def test_spoilt_packed_folders_are_refused_or_read_right(folders, tmp_path):
    """Truncated files, flipped bits, edited JSON: an error of ours, or what was packed."""
    from .test_hostile import BYTE_WAYS, JSON_WAYS, spoil_header
    outcomes = {"refused": 0, "read": 0}
    for number in range(150):
        r = random.Random(f"packed {number}")
        folder = tmp_path / str(number)
        shutil.copytree(folders[r.choice(list(folders))], folder)
        path = folder / r.choice([ABOUT, TILES])
        way = r.choice(JSON_WAYS if path.name == ABOUT else [*BYTE_WAYS, spoil_header, spoil_header])
        path.write_bytes(way(path.read_bytes(), r))
        try:
            model, tensors = load_model(folder, F32)
            with tensors:
                model.decoder.embed.rows(np.arange(3), F32), model.decoder.layers[0].qkv.weight.dense(F32)
            outcomes["read"] += 1
        except minivl.Error as error:
            assert 10 < len(str(error)) < 3_000
            outcomes["refused"] += 1
        shutil.rmtree(folder)
    assert outcomes["refused"] > 75, outcomes


@pytest.mark.parametrize("left", [-100, 100, 4])
def test_truncated_tiles_are_made_anew_and_not_fetched(folders, tmp_path, left):
    folder = shutil.copytree(folders["int8"], tmp_path / "cut")
    os.truncate(folder / TILES, left if left > 0 else (folder / TILES).stat().st_size + left)
    with pytest.raises(CheckpointError, match="; make the folder anew with minivl convert$") as error:
        read_packed(folder)
    assert "fetch" not in str(error.value)


def test_a_flipped_byte_is_found_and_named(folders, tmp_path):
    folder = shutil.copytree(folders["int4"], tmp_path / "flipped")
    assert damaged(folder) == []
    tensors, file, _ = read_packed(folder)
    place = "decoder.layers.1.down.weight"
    at = tensors[place].parts["tiles"].start + 77
    file.close()
    data = bytearray((folder / TILES).read_bytes())
    data[at] ^= 16
    (folder / TILES).write_bytes(data)
    (found,) = damaged(folder)
    assert found.startswith(f"{place}.tiles: ")


def of_weights(found):
    """What `minivl inspect` finds broken, but for the tokenizer that the small checkpoint does without."""
    return [problem for problem in found["problems"] if "tokenizer.json" not in problem]


def test_inspect_says_of_truncated_tiles_what_is_broken_and_not_what_is_there(folders, tmp_path):
    from minivl.cli import inspect
    shutil.copytree(folders["int4"], tmp_path / "cut")
    os.truncate(tmp_path / "cut" / TILES, (tmp_path / "cut" / TILES).stat().st_size - 100)
    found = inspect.examine(tmp_path / "cut")
    assert not found["ok"] and all("packed.safetensors: the header" in one for one in of_weights(found))
    assert inspect.not_audited(found).endswith("the configuration, and the weights could not be read; see below")
    (tmp_path / "cut" / "config.json").unlink()
    found = inspect.examine(tmp_path / "cut")
    assert "the configuration and the weights could not be read" in inspect.not_audited(found)


def test_half_a_packed_folder_and_two_in_one_are_named(folders, source, tmp_path):
    shutil.copytree(folders["bf16"], tmp_path / "half")
    (tmp_path / "half" / ABOUT).unlink()
    with pytest.raises(CheckpointError, match=r"packed.safetensors without packed.json"):
        load_model(tmp_path / "half", F32)
    from minivl.cli import inspect
    found = inspect.examine(tmp_path / "half")
    (problem,) = of_weights(found)
    assert "packed.safetensors without packed.json" in problem
    assert inspect.not_audited(found).endswith("the weights could not be read; see below")
    shutil.copytree(folders["bf16"], tmp_path / "two")
    shutil.copy(source / "model.safetensors", tmp_path / "two")
    with pytest.raises(CheckpointError, match="move one of them away"):
        load_model(tmp_path / "two", F32)
    shutil.copytree(folders["bf16"], tmp_path / "lone")
    (tmp_path / "lone" / TILES).unlink()
    with pytest.raises(CheckpointError, match=r"packed.json without packed.safetensors, .*: copy both, or make"):
        load_model(tmp_path / "lone", F32)
    shutil.copytree(folders["bf16"], tmp_path / "spoilt")
    (tmp_path / "spoilt" / ABOUT).write_text("{")
    with pytest.raises(CheckpointError, match=r"packed.json: not valid JSON.*; make the folder anew with minivl"):
        load_model(tmp_path / "spoilt", F32)

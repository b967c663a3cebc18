"""AWQ checkpoints: the numbers that an independent packer put into them, natively in tiles of four bits, and every
departure from the format named. The packer follows the public description (`quantised_files.py`).
"""

import json
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minivl
from minivl.checkpoint.awq import four_bit
from minivl.checkpoint.names import weights_of
from minivl.checkpoint.packed import packed
from minivl.checkpoint.read import load_model
from minivl.checkpoint.safetensors import File
from minivl.checkpoint.weight import CheckpointError

from . import quantised_files as files

PROJ = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("awq")
    return folder, files.awq_folder(folder)


def test_every_number_is_what_was_packed(released):
    folder, meant = released
    model, tensors = load_model(folder, "float32")
    with tensors:
        for i, layer in enumerate(model.decoder.layers):
            name = f"model.layers.{i}."
            qkv = np.concatenate([meant[f"{name}self_attn.{part}_proj.weight"] for part in "qkv"])
            assert layer.qkv.weight.format == "awq"
            assert np.array_equal(layer.qkv.weight.dense(np.float32), qkv)
            assert np.array_equal(layer.mlp.down.weight.dense(np.float16), meant[f"{name}mlp.down_proj.weight"].astype(
                np.float16))
        index = np.array([[5, 0], [511, 5]])
        down = model.decoder.layers[1].mlp.down.weight
        assert np.array_equal(down.rows(index, np.float32), meant[f"{PROJ}.weight"][index])
        with pytest.raises(IndexError):
            down.rows(np.array([512]), np.float32)


def test_tiles_hold_the_same_numbers_and_nothing_is_rounded_again(released):
    folder, _ = released
    model, tensors = load_model(folder, "float32")
    with tensors:
        for place, weight in weights_of(model).items():
            tiles = packed(weight)
            if weight.format == "awq":
                assert tiles.format == "int4"
                assert np.array_equal(tiles.dense(np.float32), weight.dense(np.float32)), place
            elif len(weight.shape) == 2:
                assert tiles.format == "f32"                       # float16, widened
                assert np.array_equal(tiles.dense(np.float32), weight.dense(np.float32)), place


@pytest.mark.parametrize("group", [64, 256, 768, -1])
def test_other_groups_are_read_and_those_that_tiles_have_stay_four_bits(group, tmp_path):
    array = np.random.default_rng(3).standard_normal((40, 768)).astype(np.float32)
    parts, meant = files.awq_of(array, 768 if group == -1 else group)
    save_file({f"x.{part}": value for part, value in parts.items()}, tmp_path / "x.safetensors")
    file = File(tmp_path / "x.safetensors")
    weight = four_bit(file.tensors, files.QUANTISATION | {"group_size": group})["x.weight"]
    tiles = packed(weight)
    assert tiles.format == ("f32" if group == 64 else "int4")
    assert np.array_equal(weight.dense(np.float32), meant)
    assert np.array_equal(tiles.dense(np.float32), meant)
    file.close()


def test_heads_that_begin_within_a_block_of_tiles_are_packed_as_they_are(released):
    from minivl.checkpoint.weight import Joined
    folder, _ = released
    model, tensors = load_model(folder, "float32")
    with tensors:
        parts = model.decoder.layers[0].qkv.weight.parts

        class Cut(type(parts[0])):
            """The first rows of a matrix."""
            def __init__(self, whole, rows):
                self.parts, self.group, self.shape = whole.parts, whole.group, (rows, whole.shape[1])
        ragged = Joined([Cut(parts[0], 40), Cut(parts[1], 24), Cut(parts[2], 56)])
        tiles = packed(ragged)
        assert tiles.format == "int4" and tiles.shape == (120, 512)
        assert np.array_equal(tiles.dense(np.float32), ragged.dense(np.float32))


def test_scores_are_those_of_the_plain_checkpoint(released, tmp_path):
    folder, meant = released
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    with minivl.load(folder) as vlm, minivl.load(files.plain(tmp_path / "plain", meant)) as plain:
        inputs = vlm.prepare([{"role": "user", "content": [{"type": "image", "image": noise},
                                                           {"type": "text", "text": "Two?"}]}])
        expected = plain.logits(inputs)
        assert np.array_equal(vlm.logits(inputs), expected)
        pytest.importorskip("numba", reason="Numba is not installed")
        fast = vlm.on(kernels="jit").logits(inputs)
        assert np.linalg.norm(fast - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_order_is_the_librarys(released, monkeypatch):
    """AutoAWQ's own packer and its own unpacker. Its package imports much that is not needed for them."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found = find_spec("awq")
    if found is None:
        pytest.skip("the package autoawq is not installed: tests/real/requirements.txt")
    for name in ("awq", "accelerate"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["awq"].__path__ = list(found.submodule_search_locations)
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm
    file, _ = files.awq_tensors()
    parts = [file[f"{PROJ}.{part}"] for part in ("qweight", "qzeros", "scales")]
    theirs = dequantize_gemm(*map(torch.tensor, parts), 4, 128).numpy().T                  # float16
    folder, _ = released
    model, tensors = load_model(folder, "float32")
    with tensors:
        down = model.decoder.layers[1].mlp.down.weight
        assert np.array_equal(down.dense(np.float16), theirs)
        _, scales, zeros = down.numbers(np.arange(512))
        linear = torch.nn.Linear(768, 512, bias=False)
        linear.weight.data = torch.tensor(down.dense(np.float32))
        made = WQLinear_GEMM.from_linear(linear, 4, 128, scales=torch.tensor(scales.T.copy()),
                                         zeros=torch.tensor(zeros.T.copy()))
        for name, part in zip(("qweight", "qzeros", "scales"), parts, strict=True):
            assert np.array_equal(getattr(made, name).numpy(), part), name


def spoilt(folder, target, tensors=(), **said):
    """The checkpoint with other tensors (None takes one away) and another quantization_config."""
    file = load_file(folder / "model.safetensors") | dict(tensors)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] |= said
    return files.plain(target, {name: array for name, array in file.items() if array is not None}, config)


@pytest.mark.parametrize(("said", "words"), [
    ({"bits": 3}, "bits = 3, should be 4"),
    ({"version": "gemv"}, "version = 'gemv', should be 'gemm'"),
    ({"zero_point": False}, "zero_point = False, should be True"),
    ({"group_size": 96}, r"qzeros' is \[6, 64\], should be"),
    ({"group_size": 0}, "group_size = 0, should be a count"),
    ({"group_size": "128"}, "group_size = '128'"),
    ({"group_size": True}, "group_size = True"),
    ({"quant_method": "gptq"}, "quantization_config says 'gptq': of quantised checkpoints AWQ and GGUF are read"),
])
def test_another_version_of_the_format_is_named(released, tmp_path, said, words):
    with pytest.raises(CheckpointError, match=words):
        minivl.load(spoilt(released[0], tmp_path / "x", **said))


@pytest.mark.parametrize(("name", "array", "words"), [
    ("scales", None, "scales' is missing"),
    ("qzeros", None, "qzeros' is missing"),
    ("qweight", None, r"down_proj.weight .*\n|missing"),
    ("qzeros", np.zeros((5, 64), np.int32), r"qzeros' is \[5, 64\], should be \[6.0, 64\]|should be \[6, 64\]"),
    ("scales", np.zeros((6, 512), np.int32), r"scales' is i32 \[6, 512\], should be a matrix in f16 or bf16 or f32"),
    ("qweight", np.zeros((768, 64), np.float32), r"qweight' is f32 \[768, 64\], should be a matrix in i32"),
    ("qweight", np.zeros((768, 64, 1), np.int32), r"qweight' is i32 \[768, 64, 1\]"),
    ("weight", np.zeros((512, 768), np.float32), "down_proj.weight' is there as well"),
    ("g_idx", np.zeros(768, np.int32), "unexpected"),
])
def test_tensors_that_do_not_belong_together_are_named(released, tmp_path, name, array, words):
    with pytest.raises(CheckpointError, match=words):
        minivl.load(spoilt(released[0], tmp_path / "x", {f"{PROJ}.{name}": array}))


def test_without_its_config_it_is_told_what_lacks(released, tmp_path):
    folder = files.plain(tmp_path / "x", load_file(released[0] / "model.safetensors"))
    with pytest.raises(CheckpointError, match="of AWQ config.json should have the quantization_config"):
        minivl.load(folder)


def test_a_scale_that_is_no_number_is_refused_where_tiles_are_made(released, tmp_path):
    scales = load_file(released[0] / "model.safetensors")[f"{PROJ}.scales"].copy()
    scales[2, 7] = np.inf
    model, tensors = load_model(spoilt(released[0], tmp_path / "x", {f"{PROJ}.scales": scales}), "float32")
    with tensors, pytest.raises(minivl.Error, match="infinity or NaN"):
        packed(model.decoder.layers[1].mlp.down.weight)



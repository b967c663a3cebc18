"""The reader of .gguf: every type bit-equal to the package `gguf`, a model and its tower read as they were, and
whatever does not fit named by key. Files are written by that package (`quantised_files.py`).
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl.checkpoint.gguf import KINDS
from minivl.checkpoint.gguf_names import LANGUAGE, TOWER, halves_apart
from minivl.checkpoint.read import load_model, read_tensors
from minivl.checkpoint.weight import CheckpointError
from minivl.config import ConfigError, config_from

from . import quantised_files as files

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
QUANTISED = [number for number, kind in KINDS.items() if kind.unpack]
KIND_NAMES = [gguf.GGMLQuantizationType(number).name for number in KINDS]


# ---- numbers

@given(number=st.sampled_from(QUANTISED), seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_blocks_mean_what_the_package_reads_bit_for_bit(number, seed, count):
    """Whatever the bytes are: scales may be zero, infinite or no number at all."""
    kind = KINDS[number]
    blocks = np.random.default_rng(seed).integers(0, 256, (count, kind.size), np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        ours = kind.unpack(blocks)
        theirs = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(number))
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_sizes_of_blocks_are_the_packages():
    for number, kind in KINDS.items():
        theirs = gguf.GGMLQuantizationType(number)
        assert (kind.length, kind.size) == gguf.GGML_QUANT_SIZES[theirs] and kind.name == theirs.name.lower()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Type of the language model -> its folder, and what the package reads in it."""
    made = {}

    def pair(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder, files.gguf_pair(folder, kind, "Q8_0" if kind == "Q8_0" else "F16")
        return made[kind]
    return pair


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_model_and_its_tower_are_read_as_they_were_written(pairs, kind):
    folder, expected = pairs(kind)
    model, tensors = load_model(folder, "float32")
    with tensors:
        assert tensors.keys() == expected.keys()
        assert tensors["model.layers.0.mlp.up_proj.weight"].format == kind.lower()
        for name, array in expected.items():
            weight = tensors[name]
            assert weight.shape == array.shape
            assert np.array_equal(weight.dense(np.float32).view(np.uint32), array.view(np.uint32)), name
            index = np.array([[1, 0], [len(array) - 1, 1]])
            assert np.array_equal(weight.rows(index, np.float32), array[index]), name
            filled = np.empty(array.shape, np.float16)
            weight.fill(filled)
            assert np.array_equal(filled, array.astype(np.float16)), name
        with pytest.raises(IndexError):
            tensors["model.layers.0.mlp.up_proj.weight"].rows(np.array([-1]), np.float32)
    assert model.config == config_from(files.CONFIG)


def test_closed_files_are_read_no_more(pairs):
    tensors = read_tensors(pairs("Q4_K")[0])
    tensors.close()
    with pytest.raises(CheckpointError, match="was closed"):
        tensors["model.layers.0.mlp.up_proj.weight"].dense(np.float32)


# ---- names and what the metadata say

def test_the_table_of_names_is_the_packages():
    for table, arch, layers in ((LANGUAGE, gguf.MODEL_ARCH.QWEN2VL, 3), (TOWER, gguf.MODEL_ARCH.MMPROJ, 4)):
        for name, ours in table.items():
            theirs = [part for part, _ in files.cut(name.replace("*", "1"), np.zeros((3, 1, 2)))] \
                if table is TOWER else [files.hub_to_gguf(arch, name.replace("*", "1"), layers)]
            assert [one.replace("*", "1") for one in ours] == theirs, name
    sources = {name.replace("*", "0") for name in (*LANGUAGE, *TOWER)}
    assert sources == {name for name in files.shapes() if not any(f".{i}." in name for i in (1, 2, 3))
                       or "merger" in name}


def test_rows_of_llama_go_back_to_where_they_were():
    """The converter: heads of (2, half) rows as (half, 2)."""
    rows = np.arange(3 * 8)
    written = rows.reshape(3, 2, 4).swapaxes(1, 2).reshape(-1)
    assert np.array_equal(written[halves_apart(3, 8)], rows)


def test_a_pair_answers_as_the_same_numbers_of_a_plain_checkpoint(pairs, tmp_path):
    folder, expected = pairs("Q4_0")
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    with minivl.load(folder) as vlm, minivl.load(files.plain(tmp_path / "plain", expected)) as plain:
        question = [{"role": "user", "content": [{"type": "image", "image": noise}, {"type": "text", "text": "Two?"}]}]
        inputs, theirs = vlm.prepare(question), plain.prepare(question)
        assert np.array_equal(inputs.input_ids, theirs.input_ids) and len(inputs.input_ids) > 20
        assert np.array_equal(inputs.patches, theirs.patches)
        assert np.array_equal(vlm.logits(inputs), plain.logits(theirs))
        assert vlm.generation.eos_token_ids == (620,) and not vlm.generation.do_sample
        for text in ("A red circle, 4071 été<|im_end|>\n<|vision_start|>it's", "e\u0301 \U0001f600  \n\n x", ""):
            assert vlm.tokenizer.encode(text) == plain.tokenizer.encode(text)
        assert vlm.tokenizer.special_ids == plain.tokenizer.special_ids


def test_a_language_model_alone_reads_text_and_refuses_pictures(tmp_path):
    expected = files.gguf_pair(tmp_path, "Q8_0", write_tower=False, tied=True)
    noise = np.zeros((60, 90, 3), np.uint8)
    with minivl.load(tmp_path / "model-Q8_0.gguf") as vlm:
        assert vlm.config.tie_word_embeddings and not vlm.config.vision.depth
        answer = vlm.chat([{"role": "user", "content": "Hello"}], 3)
        assert isinstance(answer, str)
        with pytest.raises(minivl.Error, match="no vision tower and reads text alone"):
            vlm.ask(noise, "Which?")
        patches, grid = np.zeros((4, 1176), np.float32), np.array([[1, 2, 2]])
        inputs = minivl.Inputs.from_ids([1, 630], vlm.config, patches, grid)
        with pytest.raises(CheckpointError, match="no vision tower"):
            vlm.vision(inputs)
    assert "lm_head.weight" not in expected


def test_what_is_in_a_folder_decides_and_is_named_when_it_cannot(pairs, tmp_path):
    import shutil
    folder = shutil.copytree(pairs("Q8_0")[0], tmp_path / "two")
    shutil.copy(pairs("Q4_0")[0] / "model-Q4_0.gguf", folder)
    with pytest.raises(CheckpointError, match=r"2 language models \(model-Q4_0.gguf, model-Q8_0.gguf\): name the file"):
        minivl.load(folder)
    with minivl.load(folder / "model-Q4_0.gguf") as vlm:
        assert vlm.config.vision.depth == 4
    shutil.copy(folder / "mmproj-model-Q8_0.gguf", folder / "mmproj-b.gguf")
    with pytest.raises(CheckpointError, match="2 vision towers"):
        minivl.load(folder / "model-Q4_0.gguf")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "mmproj-b.gguf", alone)
    for path in (alone, alone / "mmproj-b.gguf"):
        with pytest.raises(CheckpointError, match="a vision tower without its language model"):
            minivl.load(path)
    (alone / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"x.gguf: version should have 4 bytes from byte 4 on, of 4; fetch"):
        minivl.load(alone)


YARN = {"qwen2vl.rope.scaling.type": "yarn", "qwen2vl.rope.scaling.factor": 4.0,
        "qwen2vl.rope.scaling.original_context_length": 64}


@pytest.mark.parametrize(("change", "said"), [
    ({}, {}), ({"qwen2vl.rope.scaling.yarn_beta_fast": 16.0, "qwen2vl.rope.scaling.yarn_beta_slow": 2.0},
               {"beta_fast": 16.0, "beta_slow": 2.0}),
    ({"qwen2vl.rope.scaling.attn_factor": 0.5}, {"attention_factor": 0.5 * (0.1 * math.log(4) + 1)}),
    ({"qwen2vl.rope.scaling.yarn_ext_factor": 1.0, "qwen2vl.rope.scaling.finetuned": True}, {})])
def test_yarn_of_the_metadata_is_that_of_a_config(tmp_path, change, said):
    """The same tensors as a plain checkpoint whose config.json says YaRN, and another answer than without."""
    rewritten(tmp_path / "file", YARN | change)
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, **said,
               "mrope_section": files.CONFIG["rope_scaling"]["mrope_section"]}
    config = config_from(files.CONFIG | {"rope_scaling": scaling})
    with minivl.load(tmp_path / "file", "float64") as vlm:
        assert vlm.config.text == config.text
        inputs = minivl.Inputs.from_ids(np.arange(200) % 600, vlm.config)
        stretched = vlm.logits(inputs)
    rewritten(tmp_path / "none", {})
    with minivl.load(tmp_path / "none", "float64") as vlm:
        assert np.abs(vlm.logits(inputs) - stretched).max() > 1e-3


@pytest.mark.parametrize(("change", "words"), [
    ({"general.architecture": "gemma3"}, r"architecture is 'gemma3', can be qwen2vl, qwen2, llama .*another model"),
    ({"qwen2vl.block_count": None}, "qwen2vl.block_count is missing"),
    ({"qwen2vl.block_count": 4}, r"missing .*\n.*model.layers.3"),
    ({"qwen2vl.rope.scaling.type": "longrope"}, "rope.scaling.type = 'longrope', should be None or 'none' or 'yarn'"),
    ({"qwen2vl.rope.scale_linear": 4.0}, "rope.scale_linear = 4.0, should be None or 1.0"),
    ({"qwen2vl.rope.scaling.type": "yarn"}, "rope.scaling.factor is missing"),
    (YARN | {"qwen2vl.rope.scaling.factor": "x"}, "factor"),
    (YARN | {"qwen2vl.rope.scaling.factor": 0.5}, "factor"),
    (YARN | {"qwen2vl.rope.scaling.attn_factor": float("nan")}, "attn_factor and yarn_attn_factor must be positive"),
    (YARN | {"qwen2vl.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor = 0.5, should be None or 1.0"),
    (YARN | {"qwen2vl.rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier = 0.1"),
    ({"qwen2vl.rope.dimension_sections": [8, 12, 12]}, "dimension_sections should be four counts"),
    ({"qwen2vl.attention.head_count": 7}, "num_attention_heads"),
    ({"qwen2vl.rope.freq_base": float("nan")}, "rope_theta"),
    ({"split.count": 3}, "one of several parts of a model; join them first with llama-gguf-split"),
    ({"general.alignment": 33}, "general.alignment is 33, should be a power of two"),
])
def test_metadata_that_do_not_fit_are_named(tmp_path, change, words):
    rewritten(tmp_path, change)
    with pytest.raises((ConfigError, CheckpointError), match=words):
        minivl.load(tmp_path)


@pytest.mark.parametrize(("change", "words"), [
    ({"tokenizer.ggml.pre": "llama-bpe"}, "'gpt2' and 'llama-bpe'; read are 'gpt2' with 'qwen2', 'smollm', 'gpt-2'"),
    ({"tokenizer.ggml.model": "llama"}, "are 'llama' and 'qwen2'"),
    ({"tokenizer.ggml.token_type": [1, 2]}, "a number for each of the 640 tokens"),
    ({"tokenizer.ggml.merges": None}, "merges should be a list of texts, is None"),
])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path, change, words):
    rewritten(tmp_path, change)
    with pytest.raises(minivl.Error, match=words):
        minivl.load(tmp_path)


def rewritten(folder, change):
    """A small language model with other metadata; None takes a key away."""
    files.gguf_pair(folder / "source", "F16", write_tower=False)
    reader = gguf.GGUFReader(folder / "source" / "model-F16.gguf")
    said = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")} | change
    out = gguf.GGUFWriter(str(folder / "model.gguf"), said.pop("general.architecture"))
    for key, value in said.items():
        if value is not None:
            add = {bool: out.add_bool, int: out.add_uint32, float: out.add_float32, str: out.add_string}
            add.get(type(value), out.add_array)(key, value)
    for tensor in reader.tensors:
        out.add_tensor(tensor.name, np.array(tensor.data))
    if said.get("general.alignment") == 33:
        out.data_alignment = 32
    files.finish(out)

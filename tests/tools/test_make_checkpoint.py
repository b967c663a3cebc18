"""A made checkpoint is one: another reader, our loader and the reference take it, and it is as promised."""

import json
import shutil
import signal
from collections import namedtuple
from itertools import pairwise

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl.config import read_config, read_generation, read_preprocessor
from tools.checkpoints import make_checkpoint as tool

SMALL_SHARDS = 200_000
PICTURE = np.random.default_rng(5).integers(0, 256, (84, 140, 3), np.uint8)
CONTENT = [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is it?"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One small checkpoint of each tie, in many shards."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("3B", "7B"):
        tool.make_checkpoint(tool.config_of(name, small=True), folder / name, seed=3, max_bytes=SMALL_SHARDS)
    return folder


def stored(folder):
    """Every tensor as float32, by another reader than ours."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}     # noqa: SIM118 (not a mapping)
    assert {str(tensor.dtype) for tensor in found.values()} == {"torch.bfloat16"}
    return {name: tensor.float().numpy() for name, tensor in found.items()}


# ---- the files ---------------------------------------------------------------------------------------------

def test_full_width_plan_has_the_published_sizes():
    counts = {"3B": (824, 7_509_245_952), "7B": (729, 16_584_333_312), "32B": (1161, 66_905_436_672),
              "72B": (1353, 146_821_554_688)}                              # of the releases' own indexes
    for name, (tensors, total) in counts.items():
        shards = tool.plan(tool.config_of(name), 5 * 10**9)
        assert (sum(map(len, shards)), sum(map(tool.size_of, shards))) == (tensors, total)
        assert all(tool.size_of(shard) <= 5 * 10**9 for shard in shards)
    assert len(tool.plan(tool.config_of("3B"), 5 * 10**9)) == 2


@given(st.integers(1, 1_000_000))
def test_every_tensor_is_in_one_shard_and_no_shard_is_too_large(max_bytes):
    config = tool.config_of("7B", small=True)
    shards = tool.plan(config, max_bytes)
    assert sorted(name for shard in shards for name in shard) == sorted(tool.shapes(config))
    assert all(tool.size_of(shard) <= max_bytes or len(shard) == 1 for shard in shards)
    for shard, following in pairwise(shards):                           # none is closed before it is full
        name, shape = next(iter(following.items()))
        assert tool.size_of(shard | {name: shape}) > max_bytes


def test_index_and_shards_agree(made):
    index = json.loads((made / "3B" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shards = sorted(path.name for path in (made / "3B").glob("*.safetensors"))
    assert len(shards) > 3 and sorted(set(index["weight_map"].values())) == shards
    tensors = stored(made / "3B")
    assert index["metadata"]["total_size"] == 2 * sum(tensor.size for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    assert "lm_head.weight" not in tensors and "lm_head.weight" in stored(made / "7B")


def test_layout_config_form_and_shards_change_no_number(made, tmp_path):
    config = tool.config_of("7B", small=True)
    tool.make_checkpoint(config, tmp_path / "one", seed=3, layout="memory", nested=True)
    assert [path.name for path in (tmp_path / "one").glob("model*")] == ["model.safetensors"]
    one, many = stored(tmp_path / "one"), stored(made / "7B")
    assert {"model.visual.merger.ln_q.weight", "model.language_model.norm.weight"} <= one.keys()
    renamed = {name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): tensor
               for name, tensor in one.items()}
    assert renamed.keys() == many.keys()
    assert all(np.array_equal(renamed[name], many[name]) for name in many)
    assert read_config(tmp_path / "one") == read_config(made / "7B") == config


def test_the_small_settings_are_a_release_s(made):
    config, generation = read_config(made / "3B"), read_generation(made / "3B", read_config(made / "3B"))
    assert (generation.do_sample, generation.temperature, generation.repetition_penalty) == (True, 1e-6, 1.05)
    assert len(generation.eos_token_ids) == 2 and generation.pad_token_id in generation.eos_token_ids
    assert read_preprocessor(made / "3B", config).max_pixels == 12_845_056
    tokenizer = minivl.load(made / "3B").tokenizer
    assert tokenizer.id("<|image_pad|>") == config.image_token_id != tool.official_config("3B").image_token_id


# ---- the numbers -------------------------------------------------------------------------------------------

def test_numbers_have_the_promised_scale_and_no_two_tensors_are_equal(made):
    tensors = stored(made / "7B")
    for name, tensor in tensors.items():
        mean, deviation = (0, 0.05) if name.endswith("bias") else (1, 0.1)
        if tensor.ndim > 1:
            mean, deviation = 0, 1 / np.sqrt(tensor[0].size)
        sampling = 6 * deviation / np.sqrt(tensor.size)
        assert abs(tensor.mean() - mean) < sampling, name
        assert abs(tensor.std() / deviation - 1) < 6 / np.sqrt(2 * tensor.size) + 1e-3, name
    assert len({tensor.tobytes() for tensor in tensors.values()}) == len(tensors)


def test_the_seed_decides_the_numbers(made, tmp_path):
    config = tool.config_of("3B", small=True)
    for seed in (3, 4):
        tool.make_checkpoint(config, tmp_path / str(seed), seed)
    first, same, other = stored(made / "3B"), stored(tmp_path / "3"), stored(tmp_path / "4")
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


@given(st.integers(1, 400), st.integers(1, 9), st.sampled_from([7, 101, 997]))
def test_a_tensor_reads_on_around_the_block(rows, width, size):
    block = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    bits = np.concatenate(list(tool.numbers("a.weight", (rows, width), block, 1)))
    first = next(i for i in range(size) if bits[0] == tool.to_bf16(block * np.float32(width**-0.5))[i])
    wanted = np.resize(np.roll(block * np.float32(width**-0.5), -first), rows * width)
    assert np.array_equal(bits, tool.to_bf16(wanted))


LOWER = st.sampled_from([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
HALVES = st.tuples(st.integers(0, 0x7F7F), st.booleans(), LOWER)


@given(st.lists(HALVES, min_size=1, max_size=50))
def test_rounding_is_torch_s(halves):
    """Ties too: the lower half exactly in the middle, above an even and above an odd upper half."""
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed")
    bits = np.array([upper << 16 | negative << 31 | lower for upper, negative, lower in halves], np.uint32)
    wanted = torch.from_numpy(bits.view(np.float32)).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(tool.to_bf16(bits.view(np.float32)), wanted)


# ---- loading -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["3B", "7B"])
def test_reference_loads_it_and_gives_the_same_logits(made, name):
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed")
    from transformers import Qwen2_5_VLForConditionalGeneration as Reference
    vlm = minivl.load(made / name)
    inputs = vlm.prepare([{"role": "user", "content": CONTENT}])
    model, loading = Reference.from_pretrained(made / name, dtype=torch.float32, attn_implementation="eager",
                                               output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.from_numpy(inputs.input_ids)[None]
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids, pixel_values=torch.from_numpy(inputs.pixel_values),
                              image_grid_thw=torch.from_numpy(inputs.image_grid_thw),
                              mm_token_type_ids=(ids == vlm.config.image_token_id).int()).logits[0].numpy()
    found = vlm.logits(inputs)
    assert 0.3 < wanted.std() < 3                                       # healthy, neither faded nor exploding
    assert np.abs(found - wanted).max() < 1e-4


# ---- what goes wrong ---------------------------------------------------------------------------------------

def test_a_target_in_use_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for target in ("out", "file"):
        assert tool.main(["3B", str(tmp_path / target), "--small"]) == 1
        assert "not an empty folder" in capsys.readouterr().err
    assert tool.main(["3B", str(tmp_path / "no" / "parent"), "--small"]) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine.txt", "out"]


def test_an_empty_target_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert tool.main(["3B", str(tmp_path / "out"), "--small", "--max-shard-size", "200KB"]) == 0
    assert len(minivl.load(tmp_path / "out").weights.decoder.layers) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**11, 93 * 10**9, 7 * 10**9))
    assert tool.main(["3B", str(tmp_path / "out")]) == 1
    assert "7.00 GB free, the checkpoint needs 7.58" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("way", ["interrupt", "terminate", "disk"])
def test_a_run_that_ends_early_leaves_nothing(tmp_path, monkeypatch, way):
    before = signal.getsignal(signal.SIGTERM)

    def end(done, total):
        assert list((tmp_path / "out.partial").glob("*.safetensors"))       # it is in the middle of writing
        if way == "disk":
            raise OSError(28, "No space left on device")
        signal.raise_signal(signal.SIGINT if way == "interrupt" else signal.SIGTERM)

    monkeypatch.setattr(tool, "percent_bar", lambda: end)
    try:
        if way == "terminate":
            with pytest.raises(SystemExit):
                tool.main(["3B", str(tmp_path / "out"), "--small"])
        else:
            assert tool.main(["3B", str(tmp_path / "out"), "--small"]) == {"interrupt": 130, "disk": 1}[way]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list(tmp_path.iterdir())


@given(st.integers(1, 10**6), st.sampled_from([("", 1), ("KB", 1000), ("gb", 10**9), (" MiB", 1 << 20)]))
def test_sizes_are_read_with_their_units(number, unit):
    assert tool.bytes_of(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize("text", ["", "0", "5 TB", "-5GB", "five", "5GB5", "nan"])
def test_a_wrong_size_is_refused(text, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool.main(["3B", str(tmp_path / "out"), f"--max-shard-size={text}", "--small"])
    assert "is no size" in capsys.readouterr().err

"""Costs without weights are those of a run with them, and the sums that are known from elsewhere."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import minivl
from minivl.cli import app
from minivl.config import OFFICIAL_PICTURES, official_config
from minivl.door.listing import BLOCK
from minivl.passes.picture import target_size
from minivl.run.costs import costs, prompt_of
from minivl.run.inputs import Inputs

from ..checkpoint import quantised_files as files


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


def profiled(vlm, inputs, tokens):
    """Operations of a real run by kind of pass: of the prompt, and of the step of its last token."""
    with minivl.session(profile=True) as s:
        vlm.generate(inputs, tokens, stop_ids=())
    prompt, last = {}, {}
    for key, cost in s.profile.items():
        run = key.partition(".")[0]
        part = last if "@" in key or run in ("sampling", "positions") else prompt
        if part is last and run != f"decoder@{tokens - 1}":
            continue
        label = BLOCK.sub(r".\1.*.", key.replace(run, "decoder" if run.startswith("decoder") else run))
        part[label] = part.get(label, 0) + cost.flops
    return prompt, last


def test_operations_are_those_of_a_run_with_weights(vlm):
    pictures = vlm.processor.preprocessor
    found = costs(vlm.config, pictures, [(60, 130), (90, 40)], text_tokens=9, new_tokens=5)
    blank = prompt_of(vlm.config, pictures, [(60, 130), (90, 40)], 9)
    pixels = np.random.default_rng(0).normal(size=blank.patches.shape).astype(np.float32)
    inputs = Inputs.from_ids(blank.input_ids, vlm.config, pixels, blank.image_grid_thw)
    prompt, last = profiled(vlm, inputs, 5)
    assert {row.label: row.flops for row in found.prefill} == prompt
    assert {row.label: row.flops for row in found.last} == last            # of the fifth token
    assert found.tokens == len(inputs.input_ids) and found.visual_tokens == len(vlm.vision(inputs))


@pytest.mark.parametrize(("name", "parameters"), [("3B", 3_754_622_976), ("7B", 8_292_166_656)])
def test_known_sums(name, parameters):
    config = official_config(name)
    found = costs(config, OFFICIAL_PICTURES, [(720, 1280)], new_tokens=200)
    assert found.parameters == parameters and found.weight_bytes == 2 * parameters
    height, width = target_size((720, 1280), OFFICIAL_PICTURES)
    assert found.visual_tokens == height * width // 28**2 and found.tokens == found.visual_tokens + 34
    text = config.text
    assert found.cache_bytes == 2 * 4 * text.num_hidden_layers * text.kv_heads * text.head_dim * (found.tokens + 200)
    rows = {row.label: row for row in found.prefill}
    assert rows["decoder.layers.*.attend"].flops == 4 * found.tokens**2 * text.hidden_size * text.num_hidden_layers
    ends = [next(r.flops for r in part if r.label.endswith("attend")) for part in (found.first, found.last)]
    assert ends == [4 * (found.tokens + n) * text.hidden_size * text.num_hidden_layers for n in (1, 199)]


def test_steps_between_the_first_and_the_last_add_up(vlm):
    pictures = vlm.processor.preprocessor
    each = [sum(row.flops for row in costs(vlm.config, pictures, [], 7, n).last) for n in range(1, 7)]
    assert each[0] == 0                                   # the prompt gives the scores of the first token
    assert costs(vlm.config, pictures, [], 7, 6).decode_flops == sum(each)


def test_all_steps_are_those_of_a_generation(vlm):
    inputs = Inputs.from_ids([1] * 7, vlm.config)
    with minivl.session(profile=True) as s:
        vlm.generate(inputs, 6, stop_ids=())
    real = sum(cost.flops for key, cost in s.profile.items() if key.startswith("decoder@"))
    assert costs(vlm.config, vlm.processor.preprocessor, [], 7, 6).decode_flops == real


def test_a_table_of_embeddings_is_read_by_rows(vlm):
    found = costs(vlm.config, vlm.processor.preprocessor, [], 10)
    row = next(row for row in found.prefill if row.label == "decoder.embed_tokens")
    assert row.moved == row.held + 10 * vlm.config.text.hidden_size * 2


def test_the_largest_release_takes_no_memory_and_its_prompt_no_weights():
    words = ["explain", "--model", "72B", "--image", "1280x720", "--new-tokens", "200", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["parameters"] == 73_410_777_344 and found["peak_bytes"] > found["weight_bytes"] + found["cache_bytes"]


def test_the_command_says_what_it_cannot_take():
    def said(*words):
        result = CliRunner().invoke(app, ["explain", *words])
        return result.exit_code, result.stderr
    assert said("--image", "12") == (2, "minivl: --image '12': say WIDTHxHEIGHT in pixels, as in 640x480\n")
    assert said("--model", "3b")[0] == 2
    assert "at most 200 times" in said("--model", "3B", "--image", "9000x20")[1]


def test_costs_of_chunks_and_of_a_cache_in_bytes():
    """The same products for the prompt, memory of a chunk, and what `KVCache` really takes."""
    config = official_config("3B")
    whole, parts = (costs(config, OFFICIAL_PICTURES, [(720, 1280)], 3000, chunk=chunk) for chunk in (None, 256))
    assert {row.label: row.flops for row in whole.prefill if not row.label.endswith(("attend", "logits"))} == \
        {row.label: row.flops for row in parts.prefill if not row.label.endswith(("attend", "logits"))}
    held = [max(row.held for row in one.prefill if row.label == "decoder.layers.*.add_mlp")
            for one in (whole, parts)]
    assert held[1] <= held[0] * 272 / whole.tokens and parts.peak_bytes <= whole.peak_bytes
    per_row = 2 * config.text.num_hidden_layers * config.text.kv_heads * (128 + 4)
    assert costs(config, OFFICIAL_PICTURES, (), 100, 29, stored="int8").cache_bytes == 129 * per_row


def test_bytes_of_quantised_sources_are_those_of_their_files(tmp_path):
    """Blocks of .gguf files and AWQ's three tensors, added up by other packages."""
    gguf = pytest.importorskip("gguf")
    pair, awq = tmp_path / "pair", tmp_path / "awq"
    files.gguf_pair(pair, "Q4_K")
    files.awq_folder(awq)
    blocks = sum(one.n_bytes for path in pair.iterdir() for one in gguf.GGUFReader(path).tensors)
    tensors = sum(one.nbytes for one in load_file(awq / "model.safetensors").values())
    for source, right in ((pair, blocks), (awq, tensors)):
        done = CliRunner().invoke(app, ["explain", "--model", str(source), "--new-tokens", "3", "--json"])
        found = json.loads(done.stdout)
        assert found["weight_bytes"] == right, source
    with minivl.load(pair) as vlm:
        assert found["parameters"] == sum(np.prod(one.shape) for one in vlm._tensors.values())


def test_explain_says_how_the_cache_is_kept():
    run = CliRunner().invoke(app, ["explain", "--model", "7B", "--text-tokens", "1000", "--new-tokens", "24",
                                   "--cache", "int8", "--chunk", "500", "--json"])
    found = json.loads(run.stdout)
    assert (found["cache"], found["chunk"], found["cache_bytes"]) == ("int8", 500, 1024 * 28 * 2 * 4 * 132)
    text = CliRunner().invoke(app, ["explain", "--model", "3B", "--cache", "bfloat16"]).stdout
    assert "KV cache in bfloat16" in text and "36 KiB a token" in text
    assert CliRunner().invoke(app, ["explain", "--model", "3B", "--cache", "int3"]).exit_code != 0

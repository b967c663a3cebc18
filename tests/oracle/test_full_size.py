"""`python -m tools.truth.full_size` at a small size: what it says of a released size is what it measures
here.

The real sizes take minutes and gigabytes, and are run by hand; docs/guide/checkpoints.md and
docs/guide/quantised.md have their figures.
"""

import shutil
import sys

import numpy as np
import pytest
import torch

import minivl
from minivl.config import read_config
from minivl.truth.trace import oracle
from tools.checkpoints.make_checkpoint import main as make
from tools.truth.full_size import __main__ as command
from tools.truth.full_size import converted, kills, report, sides
from tools.truth.full_size.prompts import PROMPTS, answered, prompts
from tools.truth.full_size.wide import float32_by_blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("full") / "small"
    assert make(["3B", str(target), "--small"]) == 0
    return target


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    """The files of all sides, on three prompts."""
    target = tmp_path_factory.mktemp("out")
    for side in sides.SIDES:
        sides.run(side, folder, target, count=3, few=1, tokens=2, memory=None)
    return target


def changed(out, tmp_path, side, name, change):
    """The same files, in which one array of one side is another."""
    for path in out.glob("*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(out / f"{side.name}.npz") as file:
        arrays = dict(file)
    arrays[name] = change(arrays[name])
    np.savez(tmp_path / f"{side.name}.npz", **arrays)
    return tmp_path


def test_blocks_that_are_widened_while_they_run_are_the_reference_in_float32(folder):
    whole, blocks = oracle.reference(folder, torch.float32), float32_by_blocks(folder)
    stored = {
        name: value.clone()
        for name, value in blocks.state_dict().items()
        if value.dtype == torch.bfloat16
    }
    with minivl.load(folder) as vlm:
        for inputs in prompts(vlm, 4).values():
            right, found = (
                oracle.logits(model, inputs, inputs.position_ids) for model in (whole, blocks)
            )
            assert found.dtype == np.float32 and np.array_equal(found, right)
    assert len(stored) > 50 and all(
        torch.equal(blocks.state_dict()[name], value) for name, value in stored.items()
    )


def test_the_prompts_have_every_kind_and_read_the_whole_vocabulary(folder):
    config = read_config(folder)
    with minivl.load(folder) as vlm:
        asked = prompts(vlm)
    assert list(asked) == list(PROMPTS) and len(asked) == 20
    kinds = [tuple(medium.kind for medium in inputs.media) for inputs in asked.values()]
    assert {(), ("image",), ("image", "image"), ("image",) * 3, ("video",), ("video", "image")} == set(
        kinds
    )
    words = np.unique(np.concatenate([inputs.input_ids for inputs in asked.values()]))
    assert len(words) > 300 and words.max() > 0.95 * config.text.vocab_size
    for inputs in asked.values():
        cells = sum(int(np.prod(grid)) // 4 for grid in inputs.grids)
        assert np.isin(inputs.input_ids, [config.image_token_id, config.video_token_id]).sum() == cells


def test_an_answer_stands_where_decoding_puts_it(folder):
    with minivl.load(folder) as vlm:
        for inputs in prompts(vlm, 5).values():
            tokens = vlm.generate(inputs, 3, repetition_penalty=1.0, stop_ids=())
            found = vlm.logits(answered(inputs, tokens))[-4:-1].argmax(-1)
            assert found.tolist() == tokens


def test_a_healthy_model_passes_and_every_side_is_in_the_table(folder, out, capsys):
    assert report.report(out, folder)
    said = capsys.readouterr().out
    assert said.count("\n| ") == len(sides.SIDES) and "as good as the reference everywhere" in said
    assert "transformers-sdpa-float32 beside float64: " in said


@pytest.mark.parametrize(
    ("side", "change", "words"),
    [
        (sides.Side("minivl", "jit", "bfloat16"), lambda scores: scores * np.float32(1.1), "error 1.0"),
        (sides.FIRST, lambda scores: scores[:, ::-1], "tokens of 6 are others"),
        (sides.FIRST, lambda scores: scores * np.float32(1.0001), "minivl-jit-float32: error 1.0"),
    ],
)
def test_worse_scores_are_found(folder, out, tmp_path, capsys, side, change, words):
    name = next(iter(report.read(out, side).scores))
    assert not report.report(changed(out, tmp_path, side, f"{name}.scores", change), folder)
    assert words in capsys.readouterr().out


def test_an_answer_that_parts_without_a_tie_is_found(folder, out, tmp_path, capsys):
    side = sides.Side("minivl", "jit", "bfloat16")
    name = next(iter(report.read(out, side).scores))
    worst = int(report.read(out, sides.WIDE).scores[name][sides.SPREAD].argmin())
    other = changed(out, tmp_path, side, f"{name}.tokens", lambda tokens: np.array([worst, *tokens[1:]]))
    assert not report.report(other, folder)
    assert (
        f"{side.name}: {name}: answers part where it was not too close to call"
        in capsys.readouterr().out
    )


def test_every_format_is_converted_and_scored(folder, out, capsys):
    words = type("Words", (), {"folder": folder, "out": out, "weights": None})
    assert converted.main(words) == 0
    rows = [
        line.split(" | ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("| b", "| i"))
    ]
    errors = {row[0].strip("| "): float(row[5]) for row in rows}
    assert errors["bf16"] == 0 < errors["int8"] < errors["int4"] < 1


def test_conversions_need_the_answers_first(folder, tmp_path):
    words = type("Words", (), {"folder": folder, "out": tmp_path, "weights": None})
    with pytest.raises(SystemExit, match="has no minivl-jit-float32, .*run the command parity first"):
        converted.main(words)


def test_a_conversion_that_is_killed_goes_on(folder, tmp_path, monkeypatch, capsys):
    words = ["full_size", "kills", str(folder), "-o", str(tmp_path), "--times", "3", "--weights", "int4"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(kills, "LATE", 0.0)  # a small conversion takes no longer than that
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "3 kills, " in said and "with the bytes of one that nothing stopped" in said


@pytest.mark.parametrize(
    ("harm", "words"),
    [("target", "not what nothing"), ("beside", "there is half"), ("end", "not what nothing stopped")],
)
def test_what_a_kill_leaves_behind_is_found(folder, tmp_path, monkeypatch, capsys, harm, words):
    run = kills.run

    def careless(source, target, *more):
        stop = run(source, target, *more)
        if harm == "beside" and stop.killed:
            (target.parent / "half").mkdir(exist_ok=True)
        elif harm == "target" and stop.killed:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()  # as a conversion that writes into its target would
        elif harm == "end" and target.name == "target" and target.exists():
            (target / "config.json").write_text("{}")
        return stop

    monkeypatch.setattr(kills, "run", careless)
    words_given = ["full_size", "kills", str(folder), "-o", str(tmp_path), "--times", "1"]
    monkeypatch.setattr(sys, "argv", words_given)
    assert command.main() == 1
    assert words in capsys.readouterr().out


def test_a_side_of_other_positions_is_refused(folder, out, monkeypatch):
    honest = sides.opened

    def shifted(side, *more):
        write, score, places = honest(side, *more)
        return write, score, lambda inputs: places(inputs) + 1

    monkeypatch.setattr(sides, "opened", shifted)
    with pytest.raises(SystemExit, match="transformers counts other positions"):
        sides.run(sides.WIDE, folder, out, 3, 1, 2, None)

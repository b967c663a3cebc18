"""The command for a machine with a GPU, on the processor: its whole way, and that it tells what is wrong."""

from __future__ import annotations

import json
import re

import pytest

from minivl.config import official_config
from minivl.kernels.cuda import sources
from minivl.kernels.cuda.device import Launcher, Processor
from tests.kernels.cuda.machines import needs_compiler
from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import cubins, parity, plan, speed
from tools.gpu_check.sizes import on_a_card, on_the_processor


@pytest.mark.full
@needs_compiler
def test_the_whole_way_on_the_processor(tmp_path, capsys):
    assert gpu_check.main(["--device", "runner", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert all("found" in part for part in found.values()), found
    assert found["kernels"]["found"]["cases"] > 150 and found["stages in float32"]["found"]["stages"] > 40
    said = capsys.readouterr().out
    assert "0 wrong" in said and "tokens a second" in said and "| decode_attend |" in said


@needs_compiler
def test_every_measured_call_can_be_launched():
    """And every kernel of the plan is one that is there."""
    sizes, machine = on_the_processor(), Launcher(Processor())
    wanted = {call.kernel: call for call in plan.calls_of(sizes)}
    assert set(wanted) == set(speed.WORK)
    for name in ("gemv_qkv", "gemv_gate_up", "decode_attend", "add_rms_norm", "best_of_parts", "rotate_into_cache"):
        speed.work_of(machine, wanted[name])()
    assert set(wanted) | {call.kernel for call in plan.small_calls(sizes)} == set(cubins.CEILINGS)
    texts = "".join(sources.text(name) for name in sources.names())
    assert all(re.search(rf"\b{name}\(", texts) for name in [*wanted, "embed"])


@needs_compiler
def test_a_wrong_kernel_fails_the_check():
    """Stages: a kernel that is half a per cent off is over its bound, under its own name."""
    text = sources.text("norm.cu")
    broken = text.replace("rounded(a[c] * turn) * w[", "1.005f * rounded(a[c] * turn) * w[")
    assert broken != text
    device = Processor(text=lambda file: broken if file == "norm.cu" else sources.text(file))
    found = parity.stages(device, on_the_processor(), "float32")
    assert any(key.endswith("normalise") for key in found["over"]), found
    assert not any(key.endswith("attend") for key in found["over"])


def test_what_fails_is_told_and_the_next_part_runs(monkeypatch):
    def fails():
        raise ValueError("no memory")

    monkeypatch.setattr(
        gpu_check,
        "parts",
        lambda device, sizes: {
            "kernels": lambda: {"cases": 3, "wrong": ["gemv: off"]},
            "embedded model": fails,
            "stages in float32": lambda: {"bound": 1e-6, "over": {"vision.x": 1e-3}},
            "stages in bfloat16": lambda: {"over": {}},
            "ceilings": fails,
            "speed": list,
            "ours": fails,
            "torch": fails,
            "not early": fails,
        },
    )
    found = gpu_check.run(Processor(), on_the_processor(), tell=lambda said: None)
    said = "\n".join(gpu_check.wrongs(found))
    assert (
        "embedded model: ValueError: no memory" in said and "gemv: off" in said and "vision.x is 1.00e-03 off" in said
    )
    assert gpu_check.table(found)[0] == "3 cases of kernels, 1 wrong"
    late = gpu_check.run(Processor(), on_the_processor(), limit=-1.0, tell=lambda said: None)
    assert all("left_out" in part for part in late.values()) and len(gpu_check.wrongs(late)) == len(late)


def test_without_a_gpu_the_command_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("minivl.kernels.cuda.device.missing", lambda: ["no NVIDIA driver"])
    assert gpu_check.main([]) == 2
    assert "no NVIDIA driver" in capsys.readouterr().err


def test_the_planned_bytes_of_a_token_are_the_models_weights():
    """bfloat16: two bytes for each weight of the decoder, and the cache; counted here from the configuration alone."""
    config = official_config("3B")
    c = config.text
    layer = (
        c.hidden_size * (c.heads + 2 * c.kv_heads) * c.head_dim
        + c.heads * c.head_dim * c.hidden_size
        + 3 * c.hidden_size * c.intermediate_size
    )
    weights = 2 * (c.num_hidden_layers * layer + c.vocab_size * c.hidden_size)
    cache = 4 * 2048 * c.kv_heads * c.head_dim * c.num_hidden_layers
    one = plan.predicted(config, 2048)
    assert weights + cache < one.bytes < 1.005 * (weights + cache)
    assert one.launches == 5 * c.num_hidden_layers + 3 and 0.85 < one.share < plan.STREAMED
    assert plan.predicted(config, 2048, "int4").bytes < 0.35 * one.bytes
    assert len(list(plan.rows(on_a_card(), []))) > 40


def test_what_is_asked_for_early_fills_gaps_and_no_more():
    """Without it every gap is lost; with it at most all of them are filled, and a token's bytes stay the same."""
    config = official_config("3B")
    for kind in ("bf16", "int8", "int4"):
        late, early = (plan.predicted(config, 2048, kind, early=early) for early in (False, True))
        assert late.bytes == early.bytes and late.between == late.launches * plan.GAP
        assert 0 < early.between < late.between and late.share < early.share
    assert all(call.ahead <= call.bytes for call in plan.step_of(config, 2048))

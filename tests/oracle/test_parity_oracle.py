"""A real parity report of the embedded model: the same within rounding, made again bit for bit, and wrong where the
model is broken. A part of the prompts and ways; `minivl parity` makes all."""

import pytest

import minivl
from minivl.truth import museum as faults
from minivl.truth.seal.run import PROMPTS, WAYS, RunName, compared
from minivl.truth.seal.seal import INCOMPLETE, made, verify

FAST = "a video of 4 frames a second"
HALVES = ("bfloat16", "sdpa")
RUNS = [RunName(prompt, *way)
        for prompt in ("a picture with windows cut off at both edges", "a video, then a picture")
        for way in (("float64", "exact"), HALVES)]


def test_the_embedded_model_is_transformers_and_the_report_holds():
    assert {run.prompt for run in RUNS} <= set(PROMPTS)
    with minivl.load() as vlm:
        report = made(vlm, RUNS)
        assert [run["verdict"] for run in report["runs"]] == ["rounding"] * len(RUNS)
        assert all(run["first_bad"] is None and len(run["stages"]) > 60 for run in report["runs"])
        exact = [row for run in report["runs"] if run["precision"] == "float64" for row in run["stages"]]
        assert max(row["error"] for row in exact) < 1e-5
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(report["checkpoint"])
        found = verify(report, vlm)
        assert found.verdict == INCOMPLETE and len(found.missing) == len(PROMPTS) * len(WAYS) - len(RUNS)


@pytest.mark.xfail(reason="with some weights the logits of this prompt's last row are an eighth further from the "
                          "reference's than the yardstick of rounding goes; every tap before them is within it")
def test_the_embedded_model_is_transformers_on_a_fast_video_in_bfloat16():
    with minivl.load() as vlm:
        assert all(run["verdict"] == "rounding" for run in compared(vlm, [RunName(FAST, *HALVES)]))


def test_on_a_fast_video_it_is_right_in_float64_and_nowhere_wrong():
    with minivl.load() as vlm:
        exact, halves = compared(vlm, [RunName(FAST, "float64", "exact"), RunName(FAST, *HALVES)])
    assert exact["verdict"] == "rounding" and halves["verdict"] in ("rounding", "suspicious")
    assert [row["name"] for row in halves["stages"] if row["verdict"] == "suspicious"] in ([], ["decoder.logits"])


def test_a_model_with_a_fault_is_not():
    with minivl.load() as vlm, minivl.session(replace=faults.get("gelu-by-tanh").table(), quiet=True):
        (run,) = compared(vlm, [RunName(RUNS[0].prompt, "float32", "sdpa")])
    assert run["verdict"] == "wrong" and run["first_bad"] == "vision.merge_2x2"

"""The golden model: why its values may be called exact, and minivl in float64 against them.

The first tests hold the oracle against itself, with minivl out of play: it is float64 throughout, it is the
same function as the reference, listening to it changes nothing, and small examples come out as by hand.

Read next: `reference.py` (how it is made), `test_stages.py` (what it is for).
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given

from .comparison import (
    ANGLES,
    angles_of,
    arrays,
    checkpoint,
    integers_that_differ,
    is_integer,
    minivl_trace,
    reference_traces,
    relative_l2,
)
from .reference import (
    Inputs,
    extended,
    golden,
    logits,
    make_checkpoint,
    positions,
    reference,
    taps,
    token_types,
)
from .strategies import FIXTURES, SPECIAL, Case, Medium, cases, examples

MIXED = FIXTURES["picture, video, picture"]
START, END = SPECIAL["vision_start_token_id"], SPECIAL["vision_end_token_id"]


def floats(trace):
    return {f"{stage}[{n}]": x for stage, value in trace.items() if not is_integer(value)
            for n, x in enumerate(arrays(value))}


def furthest(a, b):
    assert a.keys() == b.keys()
    return max(relative_l2(a[stage], b[stage]) for stage in a)


def test_golden_values_are_float64_and_angles_are_data():
    for stage, value in floats(taps(golden(checkpoint(MIXED)), MIXED.inputs())).items():
        assert value.dtype == (np.float32 if stage.startswith(ANGLES) else np.float64), stage


def test_golden_attention_agrees_with_pytorchs_own_in_float64():
    """Two attentions that share no line: the golden one in eager steps, and PyTorch's fused one."""
    exact, fused = golden(checkpoint(MIXED)), golden(checkpoint(MIXED))
    fused.set_attn_implementation("sdpa")
    inputs = MIXED.inputs()
    assert furthest(floats(taps(exact, inputs)), floats(taps(fused, inputs))) < 1e-14


def test_the_float64_model_as_shipped_still_rounds_to_float32():
    """What the patches of `golden` are for: without them the error is float32's, from the first norm on."""
    shipped, exact = reference(checkpoint(MIXED), torch.float64, "eager"), golden(checkpoint(MIXED))
    inputs = MIXED.inputs()
    a, b = floats(taps(shipped, inputs)), floats(taps(exact, inputs))
    assert relative_l2(a["vision.embed_patches[0]"], b["vision.embed_patches[0]"]) == 0
    assert relative_l2(a["vision.blocks.0.normalise[0]"], b["vision.blocks.0.normalise[0]"]) > 1e-8
    assert 1e-8 < furthest(a, b) < 1e-6


def test_listening_changes_nothing():
    model, inputs = reference(checkpoint(MIXED)), MIXED.inputs()
    at = positions(model, inputs)
    before, heard, after = logits(model, inputs, at), taps(model, inputs, at), logits(model, inputs, at)
    np.testing.assert_array_equal(before, heard["decoder.logits"])
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", FIXTURES)
def test_one_run_of_the_tower_is_the_references_two(name):
    """`see` runs the tower once in prompt order; the reference, left alone, runs pictures and videos apart, and
    finds the positions itself."""
    case = FIXTURES[name]
    model, inputs = golden(checkpoint(case)), case.inputs()
    model.set_attn_implementation("sdpa")
    given = {key: torch.tensor(value)[None] if key == "input_ids" else torch.tensor(value)
             for key, value in vars(inputs).items() if value is not None}
    with torch.inference_mode():
        alone = model(**given, mm_token_type_ids=torch.tensor(token_types(model, inputs.input_ids))[None])
    # left alone, the tower's rotation is float32: the tolerance is that, not the order's
    assert relative_l2(logits(model, inputs, positions(model, inputs)), alone.logits[0].numpy()) < 1e-6


def test_angles_are_those_that_the_reference_turns_by():
    heard = taps(reference(checkpoint(MIXED)), MIXED.inputs())
    for part, angles in zip(("vision", "decoder"), ANGLES, strict=True):
        cos, sin = heard[f"{part}.cos_sin"]
        np.testing.assert_array_equal(torch.tensor(heard[angles]).cos().numpy(), cos)
        np.testing.assert_array_equal(torch.tensor(heard[angles]).sin().numpy(), sin)


def test_inverse_frequencies_stay_float32_in_16_bits():
    """Rounding them to bfloat16 moves every angle (huggingface/candle#3520); casting a loaded model does that."""
    for part in ("visual.rotary_pos_emb", "language_model.rotary_emb"):
        buffers = [reference(checkpoint(MIXED), dtype).model.get_submodule(part).inv_freq
                   for dtype in (torch.float32, torch.bfloat16)]
        assert torch.equal(*buffers) and buffers[1].dtype == torch.float32


def test_signals_are_of_healthy_size():
    for stage, value in floats(taps(reference(checkpoint(MIXED)), MIXED.inputs())).items():
        if not stage.startswith(ANGLES):
            assert 0.2 < np.sqrt((value**2).mean()) < 5, stage


def test_flat_and_nested_checkpoints_are_one_model(tmp_path):
    folders = [make_checkpoint(MIXED.config(), 1, tmp_path / str(flat), flat=flat) for flat in (False, True)]
    assert "text_config" not in json.loads((folders[1] / "config.json").read_text(encoding="utf-8"))
    inputs = MIXED.inputs()
    one, two = (taps(reference(folder), inputs) for folder in folders)
    assert furthest(floats(one), floats(two)) == 0 and integers_that_differ(one, two) == []


# Small numbers that can be checked by hand

def ids_of(*parts):
    return np.concatenate([np.atleast_1d(part) for part in parts]).astype(np.int64)


def test_positions_of_a_picture():
    """Three words, a picture of 2x3 cells, three words: text goes on above the largest number, at 4 + 3."""
    ids = ids_of(10, 11, 12, START, [SPECIAL["image_token_id"]] * 6, END, 13, 14, 15)
    inputs = Inputs(ids, image_grid_thw=np.array([[1, 4, 6]]))
    wanted = [[0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7, 8, 9, 10],
              [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7, 8, 9, 10],
              [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9, 10]]
    for rule in ("tf5", "max_plus_one"):
        assert positions(golden(checkpoint(MIXED)), inputs, rule).tolist() == wanted


def test_positions_after_a_video_under_both_rules():
    """Three frame pairs of 2x2 cells, a second apart: times 2, 4, 6. Text goes on at 2 + 2, or above the 6."""
    ids = ids_of(10, START, [SPECIAL["video_token_id"]] * 12, END, 13)
    inputs = Inputs(ids, video_grid_thw=np.array([[3, 4, 4]]), second_per_grid_ts=np.array([1.0], np.float32))
    video = [[2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6], [2, 2, 3, 3] * 3, [2, 3, 2, 3] * 3]
    for rule, after in (("tf5", [4, 5]), ("max_plus_one", [7, 8])):
        at = positions(golden(checkpoint(MIXED)), inputs, rule)
        assert at.tolist() == [[0, 1, *row, *after] for row in video]


def test_windows_of_a_ragged_grid():
    case = Case((Medium((1, 10, 14)),))
    heard = taps(golden(checkpoint(case)), case.inputs())
    assert heard["vision.window_order"].tolist() == [
        0, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 17, 21, 22, 23, 24, 4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27,
        28, 29, 30, 31, 32, 33, 34]
    windowed, full = heard["vision.schedule"][0], heard["vision.schedule"][1]
    assert windowed.tolist() == [[a, b, a, b] for a, b in ((0, 64), (64, 112), (112, 128), (128, 140))]
    assert full.tolist() == [[0, 140, 0, 140]]


def test_extended_prompts_keep_everything_else():
    longer = extended(MIXED.inputs(), [5, 6])
    assert longer.input_ids[-2:].tolist() == [5, 6] and longer.pixel_values is not None


# minivl

def float64_error(case: Case) -> float:
    """The largest error of minivl in float64 at any stage, turned by the reference's angles (see ANGLES)."""
    exact, _ = reference_traces(case, "float64")
    ours = minivl_trace(case, "float64", going_on_with=angles_of(exact))
    assert integers_that_differ(ours, exact) == []
    return furthest(floats({**ours, **angles_of(exact)}), floats(exact))


@pytest.mark.parametrize("name", FIXTURES)
def test_minivl_in_float64_is_the_golden_model(name):
    assert float64_error(FIXTURES[name]) < 1e-12


@examples(3)
@given(cases())
def test_minivl_in_float64_is_the_golden_model_of_any_configuration(case):
    assert float64_error(case) < 1e-12


def test_angles_of_the_official_head_widths_differ_in_the_last_two_digits_at_most():
    """A quarter of 80 for the tower, half of 128 for the decoder."""
    case = Case((Medium((1, 16, 16)),), depth=1, full=(), vision_head_dim=80, vision_heads=1, layers=1,
                mrope_section=(16, 24, 24), kv_heads=1, queries_per_kv=1, text_after=400)
    exact, _ = reference_traces(case, "float32")
    ours = minivl_trace(case, "float32")
    for stage in ANGLES:
        np.testing.assert_array_max_ulp(ours[stage], exact[stage], 2)

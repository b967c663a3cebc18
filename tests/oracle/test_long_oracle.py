"""Long prompts and stretched angles against the reference: the same scores within rounding, and the
same tokens.

Read next: `test_generate.py`, short prompts; `tests/run/test_long_contexts.py`, what needs no reference.
"""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minivl
from minivl.passes.positions import text_frequencies

from .comparison import minivl_inputs, most, relative_l2
from .reference import golden, greedy, logits, make_checkpoint, positions, reference
from .strategies import Case, Medium, cases, examples
from .test_generate import near_tie

SMALL = Case(depth=2, full=(1,), layers=2, vision_heads=2, vision_intermediate=40, intermediate=64)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
STEPS = 8


def folder_of(case: Case, folder, longest: int = 32_768, flat: bool = False, **rope):
    """A random checkpoint of a case that counts positions so far, with rotary settings over its own."""
    config = case.config()
    config["text_config"]["max_position_embeddings"] = longest
    config["text_config"]["rope_parameters"] |= rope
    make_checkpoint(config, case.seed, folder)
    if flat:  # as the official README says it, in the hub's layout
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = values.pop("text_config")
        said = text.pop("rope_parameters")
        values |= text | {"model_type": "qwen2_5_vl", "rope_theta": said.pop("rope_theta")}
        values["rope_scaling"] = {"type": said.pop("rope_type"), **said}
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def long_case(tokens: int) -> Case:
    """A picture, a video, and text until there are so many tokens."""
    case = replace(SMALL, media=(Medium((1, 40, 46)), Medium((4, 16, 20), 0.5)))
    return replace(case, text_after=tokens - len(replace(case, text_after=0).inputs().input_ids))


def last_scores(model, inputs):
    """The reference's scores after the whole prompt."""
    return logits(model, inputs, positions(model, inputs, "tf5"))[-1]


def as_exact_as_the_reference(folder, case, kernels, **options):
    """Our error after a long prompt against the reference's own, both from float64; and whether
    tokens agree."""
    vlm, inputs = minivl.load(folder, kernels=kernels), case.inputs()
    ours = minivl_inputs(inputs, vlm.config, "tf5")
    exact, theirs = last_scores(golden(folder), inputs), last_scores(reference(folder), inputs)
    tokens = vlm.generate(ours, STEPS, stop_ids=(), do_sample=False, repetition_penalty=1.0, **options)
    with minivl.session(record="decoder*.logits") as seen:
        vlm.generate(ours, 1, stop_ids=(), repetition_penalty=1.0, **options)
    made = next(value for value in seen.trace.values() if len(value))[-1]
    mine, own = relative_l2(made, exact), relative_l2(theirs, exact)
    assert mine <= most(own, 40, "float32"), (mine, own)
    written = greedy(reference(folder), inputs, STEPS)
    assert tokens[: len(written)] == written or near_tie(folder, inputs, tokens, written, 1.0)


@pytest.mark.parametrize(("tokens", "kernels"), [(4096, "definition"), (2700, "jit"),
                                                  pytest.param(6000, "jit", marks=pytest.mark.full)])
def test_thousands_of_tokens_in_chunks_are_the_references(tokens, kernels, tmp_path):
    case = long_case(tokens)
    assert len(case.inputs().input_ids) == tokens
    as_exact_as_the_reference(folder_of(case, tmp_path / "a"), case, kernels)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kernels", ["definition", "jit"])
def test_stretched_angles_are_the_references(kernels, flat, tmp_path):
    """Beyond the trained length, with pictures; nested as transformers writes it, flat as the
    README says it."""
    case = long_case(1500)
    folder = folder_of(case, tmp_path / "a", 4096, flat, **YARN)
    assert minivl.load(folder).config.text.yarn is not None
    as_exact_as_the_reference(folder, case, kernels)


@cache
def rotary():
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

    return lambda config: Qwen2_5_VLRotaryEmbedding(Qwen2_5_VLConfig(**config).text_config)


@given(
    case=cases(patches=8),
    factor=st.floats(1, 40),
    trained=st.integers(16, 65536),
    fast=st.none() | st.floats(4, 64),
    slow=st.none() | st.floats(0.25, 4),
    scale=st.none() | st.floats(0.5, 2),
    truncate=st.none() | st.booleans(),
    mscales=st.none() | st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)),
)
def test_any_yarn_gives_the_references_frequencies_and_factor(
    case, factor, trained, fast, slow, scale, truncate, mscales
):
    """Within a unit in the last place of each power, which two libraries round differently, times
    what a ramp keeps."""
    said = {"beta_fast": fast, "beta_slow": slow, "attention_factor": scale, "truncate": truncate}
    rope = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": trained,
        **{key: value for key, value in said.items() if value is not None},
    }
    if mscales:
        rope |= dict(zip(("mscale", "mscale_all_dim"), mscales, strict=True))
    config = case.config()
    config["text_config"]["rope_parameters"] |= rope
    theirs, ours = rotary()(config), minivl.config.config_from({**config, "model_type": "qwen2_5_vl"})
    assert theirs.attention_scaling == ours.text.yarn.attention
    np.testing.assert_allclose(text_frequencies(ours.text), theirs.inv_freq.numpy(), rtol=4e-7, atol=0)


@examples(4)
@given(cases(patches=40), st.floats(1, 16), st.integers(8, 64))
def test_models_with_yarn_give_the_references_scores(case, factor, trained):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as where:
        folder = folder_of(
            case,
            Path(where) / "a",
            rope_type="yarn",
            factor=factor,
            original_max_position_embeddings=trained,
        )
        as_exact_as_the_reference(folder, case, "definition")


@pytest.mark.full
def test_32768_tokens_are_the_references(tmp_path):
    """The whole default context, less the tokens that are written."""
    case = long_case(32_768 - STEPS)
    folder = folder_of(case, tmp_path / "a", 32_768)
    vlm, inputs = minivl.load(folder, kernels="jit"), case.inputs()
    theirs = last_scores(reference(folder, torch.float32, "sdpa"), inputs)
    ours = minivl_inputs(inputs, vlm.config, "tf5")
    with minivl.session(record="decoder*.logits") as seen:
        vlm.generate(ours, 1, stop_ids=(), repetition_penalty=1.0)
    made = next(value for value in seen.trace.values() if len(value))[-1]
    assert relative_l2(made, theirs) < 1e-4

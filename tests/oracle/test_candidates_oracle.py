"""Torch modules as candidates: transformers' class, healthy and broken on purpose, entered and left through hooks."""

import copy

import pytest
import torch
from torch import nn

import minivl
from minivl.truth.candidates.bisect import bisect, healer
from minivl.truth.candidates.judge import END, golden_of
from minivl.truth.candidates.module import PLACES, Module
from minivl.truth.candidates.runnable import CandidateError, Checked
from minivl.truth.candidates.shadow import shadow
from minivl.truth.museum import cases

from .reference import reference

VLM = minivl.load()
FULL = VLM.config.vision.fullatt_block_indexes


@pytest.fixture(scope="module")
def model():
    return reference(VLM.folder)


@pytest.fixture(scope="module")
def golden():
    with golden_of(VLM, cases.two_windows.build(VLM)[0], "float32") as trace:
        yield trace


def full_attention_never_used(broken):
    broken.model.visual.fullatt_block_indexes = []
    return [f"vision.blocks.{n}.attend" for n in FULL]


def gelu_by_tanh_and_a_bias_dropped(broken):
    """The merger's GELU, and one layer's bias of the queries."""
    broken.model.visual.merger.mlp[1] = nn.GELU(approximate="tanh")
    with torch.no_grad():
        broken.model.language_model.layers[1].self_attn.q_proj.bias.zero_()
    return ["vision.merge_2x2", "decoder.layers.1.attend"]


def another_head(broken):
    broken.lm_head = copy.deepcopy(broken.lm_head)
    with torch.no_grad():
        broken.lm_head.weight *= 1.01
    return [END]


@pytest.mark.parametrize("breaking", [full_attention_never_used, gelu_by_tanh_and_a_bias_dropped, another_head])
def test_what_was_broken_is_named_by_both(model, golden, breaking):
    broken = copy.deepcopy(model)
    until = breaking(broken)
    found = bisect(golden, Checked(Module(broken), "copy"), healer(VLM, golden))
    assert [one.until for one in found.guilty] == until[::-1] and found.settled
    assert all(len(one.passes) < 10 for one in found.guilty)
    assert set(shadow(golden, Checked(Module(broken), "copy"), VLM).errors) == set(until)


@pytest.mark.parametrize(("dtype", "attention"), [(torch.float32, "sdpa"), (torch.bfloat16, "sdpa"),
                                                  (torch.bfloat16, "eager")])
def test_a_healthy_module_is_clean(dtype, attention):
    mine = Checked(Module(reference(VLM.folder, dtype, attention)), "transformers")
    with golden_of(VLM, cases.two_windows.build(VLM)[0], mine.precision) as trace:
        found = bisect(trace, mine, healer(VLM, trace))
        assert found.settled and not found.guilty and found.runs == 2
        beside = shadow(trace, mine, VLM)
    assert not beside.errors and not beside.silent and len(beside.compared) == len(mine.cuts()) + 1


def test_every_place_is_one_of_the_models(model):
    labels = {place.label for place in PLACES.values()}
    depth, layers = VLM.config.vision.depth, VLM.config.text.num_hidden_layers
    cuts = Module(model).cuts()
    assert len(cuts) == 3 * (depth + layers) + 6 and len(labels) == 12
    with pytest.raises(CandidateError, match="none of its modules"):
        Module(nn.Sequential(nn.Linear(2, 2)))

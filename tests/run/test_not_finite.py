"""Scores that are no numbers end the run: the error names the first stage and a precision that holds it."""

from __future__ import annotations

import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import minivl
from minivl.api import TINY
from minivl.run.generation import NotFiniteError
from minivl.show.samples import FOLDER

BLOCK = "visual.blocks.4.mlp."
PICTURE, QUESTION = FOLDER / "number.png", "What number is written?"


def scaled(folder, names, inf=False):
    """The embedded model, some of whose rows go up and down again by a power of two, which bfloat16 holds exactly."""
    shutil.copytree(TINY, folder)
    own = safetensors.numpy.load_file(TINY / "model.safetensors")
    for name, power in names.items():
        own[name] = (own[name].astype(np.float32) * np.float32(2.0**power)).astype(ml_dtypes.bfloat16)
        if inf:
            own[name][0] = np.inf
    safetensors.numpy.save_file(own, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return scaled(
        tmp_path_factory.mktemp("wide") / "a",
        {BLOCK + "up_proj.weight": 10, BLOCK + "up_proj.bias": 10, BLOCK + "down_proj.weight": -10},
    )


WAYS = {
    "ask": lambda vlm: vlm.ask(PICTURE, QUESTION, max_new_tokens=4),
    "ground": lambda vlm: vlm.ground(PICTURE, QUESTION, max_new_tokens=4),
    "drawn": lambda vlm: vlm.ask(PICTURE, QUESTION, max_new_tokens=4, temperature=0.7),
    "stream": lambda vlm: list(vlm.chat(messages(), max_new_tokens=4, stream=True)),
    "generate": lambda vlm: vlm.generate(vlm.prepare(messages()), 4),
    "packed": lambda vlm: vlm.generate([vlm.prepare(messages()), vlm.prepare(messages()[1:])], 4),
    "penalised": lambda vlm: vlm.generate(vlm.prepare(messages()), 4, repetition_penalty=1.2),
}


def messages():
    return [
        {
            "role": "user",
            "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": QUESTION}],
        },
        {"role": "user", "content": "and without?"},
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_way_of_writing_ends_with_the_first_stage_and_a_remedy(way, wide):
    with minivl.load(wide, "float16") as vlm, pytest.raises(NotFiniteError, match="float32") as error:
        WAYS[way](vlm)
    assert "vision.blocks.4.add_mlp" in str(error.value) and isinstance(error.value, minivl.Error)


def test_the_precision_that_is_named_holds_it(wide):
    answers = [
        minivl.load(folder, precision).ask(PICTURE, QUESTION, max_new_tokens=8)
        for folder, precision in ((TINY, "float32"), (wide, "float32"), (wide, "bfloat16"))
    ]
    assert answers[1] == answers[0] and answers[1] == answers[2]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_are_no_numbers_are_blamed_themselves(tmp_path):
    folder = scaled(tmp_path / "a", {"model.layers.1.mlp.down_proj.weight": 0}, inf=True)
    words = r"decoder\.layers\.1\.add_mlp.*its weights hold some"
    with minivl.load(folder) as vlm, pytest.raises(NotFiniteError, match=words):
        vlm.ask(None, "Hello?", max_new_tokens=2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_later_token_is_traced_too():
    vlm = minivl.load()
    inputs = vlm.prepare([{"role": "user", "content": "Hello?"}])

    def spoilt(right):
        def add(*args):
            found = right(*args)
            return found * np.float32(np.inf) if len(found) == 1 else found     # a token, no prompt

        return add

    planted = minivl.session(replace={"decoder.layers.2.add_attended": spoilt})
    words = r"finite: decoder(@\d)?\.layers\.2\.add_attended"
    with planted, pytest.raises(NotFiniteError, match=words):
        vlm.generate(inputs, 3, stop_ids=[])

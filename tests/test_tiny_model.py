"""The embedded model itself: golden answers of the reference under every interpreter, and the figures of its card.

The golden answers were chosen so that no honest rounding changes them (`tools/train_tiny/golden.py`); the figures
of the card come from 1,000 questions a row, so that 100 of the same kind must come near them.
"""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the embedded model's questions are drawn with the extra `oracle`")

import minivl
from minivl.api import TINY
from minivl.kernels import INTERPRETERS
from tools.train_tiny import card, golden, record, targets, tasks, world
from tools.train_tiny.evaluate import answer_by_minivl, answer_by_transformers, answers_of, row_of
from tools.train_tiny.network import EARLY, LOOKS
from tools.train_tiny.rows import ROWS, messages

GOLDEN = json.loads(golden.PATH.read_text(encoding="utf-8"))
EVALUATION = json.loads((card.RESULTS / "evaluation.json").read_text(encoding="utf-8"))
SAMPLES, SEED = 100, 5                                    # another seed than the card's


@pytest.fixture(scope="module")
def asked():
    """The golden questions, drawn anew. A digest that differs means another picture, not another answer."""
    drawn = [golden.sample(row["row"], row["number"]) for row in GOLDEN]
    changed = [row for row, one in zip(GOLDEN, drawn, strict=True) if golden.digest(one) != row["pixels"]]
    assert not changed, f"{len(changed)} pictures came out otherwise than when the answers were written: other fonts?"
    return drawn


def test_there_are_as_many_golden_answers_as_said():
    assert len(GOLDEN) == golden.COUNT
    assert {row["row"] for row in GOLDEN} >= {row.name for row in golden.ASKED if row.tier == "A"}


OTHER = ("shapes", "jit-int8", "cuda")         # no numbers; rows of 8 bits, and so other answers; a GPU
SLOW = ("cuda-runner",)                        # some of these questions are asked in tests/kernels/cuda


@pytest.mark.parametrize("kernels", [pytest.param(name, marks=pytest.mark.full) if name in SLOW else name
                                     for name in INTERPRETERS if name not in OTHER])
def test_every_interpreter_gives_the_golden_answers(asked, kernels):
    with minivl.load(kernels=kernels) as vlm:
        inputs = [vlm.prepare(messages(one.clips, one.turns[0])) for one in asked]
        answers = answers_of(answer_by_minivl(vlm), inputs)
    wrong = [row for row, ids in zip(GOLDEN, answers, strict=True) if ids != row["tokens"]]
    assert not wrong, f"{len(wrong)} answers differ, first {wrong[0]}"


def test_the_reference_still_gives_the_golden_answers(asked):
    """The other side of the comparison: should transformers change, this fails and not only ours."""
    some = slice(0, None, 5)
    with minivl.load() as vlm:
        inputs = [vlm.prepare(messages(one.clips, one.turns[0])) for one in asked[some]]
    assert answers_of(answer_by_transformers(TINY), inputs) == [row["tokens"] for row in GOLDEN[some]]


@pytest.mark.parametrize("row", [row for row in ROWS if row.tier in "AB"], ids=lambda row: row.name)
def test_the_card_says_what_the_model_can_do(row):
    """A figure of 100 fresh questions lies no more than four standard errors below the card's."""
    said = next(one for one in EVALUATION["rows"] if one["name"] == row.name)
    with minivl.load() as vlm:
        found = row_of(row, row.samples(SAMPLES, SEED), vlm, {"minivl": answer_by_minivl(vlm)})["figures"]["minivl"]
    for name in row.measures:
        figure = said["figures"]["minivl"][name]
        room = 4 * sqrt(max(figure * (1 - figure), 0.01) * (1 / SAMPLES + 1 / said["samples"]))
        assert found[name] >= figure - room, f"{name}: {found[name]:.3f}, the card says {figure:.3f}"


def test_two_heads_look_at_the_thing_that_the_answer_speaks_of():
    """What training asked of them (`Lean.looks`), as arrays of the package show it: lesson 12 draws the same."""
    shares = []
    with minivl.load() as vlm:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            clip = world.picture_of_shapes(rng, most=4)
            turn = tasks.find(rng, world.fitted(clip))
            if turn is None:
                continue
            inputs = vlm.prepare(messages([clip], turn))
            with minivl.session(record="*.layers.*.rotate") as session:
                vlm.generate(inputs, max_new_tokens=12)
            cells = np.flatnonzero(np.asarray(inputs.input_ids) == vlm.config.image_token_id)
            there = targets.targets(world.fitted(clip)).thing == turn.shows[0][2]
            turned = {layer: [both for name, both in session.trace.items() if name.endswith(f"layers.{layer}.rotate")]
                      for layer in range(vlm.config.text.num_hidden_layers)}
            shares.append([_shares(steps, cells, there) for steps in turned.values()])
    middle = np.median(shares, axis=0)                                     # layer, head
    told = tuple(np.transpose([LOOKS["sought"], LOOKS["again"]]))
    others = np.ones(middle.shape, bool)
    others[told] = False
    assert len(shares) > 10 and middle[told].min() > 0.9 > middle[others].max()
    assert np.delete(middle[:, 0], EARLY).max() < 0.7


def _shares(steps, cells, there):
    """Of what each head of a layer looks at on the picture, from each token that was written, the share on some
    cells."""
    queries = np.stack([q[-1] for q, _ in steps], axis=1)                  # heads, tokens, e
    keys = steps[0][1][cells].transpose(1, 2, 0)                           # heads of keys, e, cells
    scores = queries @ np.repeat(keys, len(queries) // len(keys), axis=0) / np.sqrt(queries.shape[-1])
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (powers[..., there].sum(axis=-1) / powers.sum(axis=-1)).mean(axis=1)


def test_the_card_is_written_from_the_results():
    text = (TINY / "README.md").read_text(encoding="utf-8")
    size = (TINY / "model.safetensors").stat().st_size
    assert text == card.card(EVALUATION, card.kept("history"), card.kept("dpo"), size)


def test_the_record_of_the_training_is_written_from_the_results():
    assert (TINY / record.NAME).read_text(encoding="utf-8") == record.text(), "python -m tools.train_tiny record"
    told = json.loads(record.text())
    assert [(row["name"], row["figure"]) for row in told["evaluation"]] == [
        (row["name"], next(iter(row["figures"]["minivl"].values()))) for row in EVALUATION["rows"]]
    assert [one["phase"] for one in told["phases"]] == [one["phase"] for one in card.kept("history")]


def test_the_checkpoint_uses_every_mechanism():
    """Both kinds of blocks, at least two full ones, grouped heads, three axes, a tied head, at most 12 MB."""
    with minivl.load() as vlm:
        vision, text = vlm.config.vision, vlm.config.text
        assert 2 <= len(vision.fullatt_block_indexes) < vision.depth
        assert text.num_key_value_heads < text.num_attention_heads
        assert len(text.mrope_section) == 3 and all(text.mrope_section)
        assert vlm.config.tie_word_embeddings
    assert Path(TINY / "model.safetensors").stat().st_size <= 12_000_000
    assert "rope_scaling" in json.loads((TINY / "config.json").read_text(encoding="utf-8"))      # flat, as on the hub

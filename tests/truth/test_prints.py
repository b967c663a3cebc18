"""`--no-pixels`: what is in the file, what somebody who gets it can do with it, and what it is still good for.

The attackers here have the checkpoint and know how the file was made. What they can do is in the docs too
(`minivl/truth/trace/prints.py`).
"""

from fnmatch import fnmatchcase

import numpy as np
import pytest
from safetensors import safe_open

import minivl
from minivl.truth.compare.by_prints import compare_prints
from minivl.truth.trace.format import PRINTS, Trace
from minivl.truth.trace.prints import GRAIN, NUMBERS, TELLING, apart, prints_of, sums, write_prints
from minivl.truth.trace.record import Selection, record

from .test_trace import FAULTS, MESSAGES, VLM, candidate_of, golden  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    path = tmp_path_factory.mktemp("private") / "private.safetensors"
    record(VLM, MESSAGES, path, Selection(pixels=False), ("float32", "bfloat16"))
    with Trace(path) as trace:
        yield trace


def test_no_array_is_in_the_file_and_fewer_numbers_than_the_picture_has(private):
    inputs = VLM.prepare(MESSAGES)
    with safe_open(private.path, "np") as found:
        assert list(found.keys()) == []
    assert private.path.stat().st_size < 100_000
    for word in ("inputs", "input_hashes", "messages", "pictures", "coordinates", "rows"):
        assert word not in private.facts
    kept = private.facts[PRINTS]
    assert kept and not any(fnmatchcase(one["key"], pattern) for one in kept.values() for pattern in TELLING)
    assert NUMBERS * len(kept) < inputs.pixel_values.size / 10


def test_an_attacker_with_rows_has_text_and_pixels_and_with_prints_has_no_rows(golden, private):  # noqa: F811
    """What a trace without its first stages gave away, and why: the attack is real, and has nothing to work on."""
    inputs = VLM.prepare(MESSAGES)
    # text: rows of the first norm of the decoder are rows of the table, normalised
    rows, table = golden.arrays("decoder.layers.0.normalise")[0], VLM.weights.decoder.embed.dense(np.float64)
    weight = VLM.weights.decoder.layers[0].norm1.weight.dense(np.float64)
    found = np.argmax((rows / weight) @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T, axis=1)
    text = inputs.input_ids != VLM.config.image_token_id
    assert np.mean(found[text] == inputs.input_ids[text]) > 0.95
    # prints have no rows to look at: all rows of a stage are in each number
    with pytest.raises(KeyError):
        private.array("decoder.layers.0.normalise")
    assert "decoder.layers.0.normalise" not in private.facts[PRINTS]
    words = {"key", "shape", "rows", "size", "sums", "rounding"}
    assert all(set(one) == words for one in private.facts[PRINTS].values())


def small(seed: int) -> np.ndarray:
    """A picture of 3 x 4 cells, each of one grey."""
    grey = np.random.default_rng(seed).integers(0, 256, (3, 4))
    return np.repeat(np.repeat(grey, 28, axis=0), 28, axis=1)[:, :, None].repeat(3, axis=2).astype(np.uint8)


def numbers_of(seed: int, folder) -> np.ndarray:
    """All numbers of the prints of one such picture."""
    message = [{"role": "user", "content": [{"type": "image", "image": small(seed)}, {"type": "text", "text": "?"}]}]
    with minivl.load(precision="float32") as vlm:
        record(vlm, message, folder / "p.safetensors", Selection(pixels=False))
    with Trace(folder / "p.safetensors") as trace:
        return np.concatenate([[n * one["size"] for n in one["sums"]] for one in trace.facts[PRINTS].values()])


@pytest.mark.full
def test_an_attacker_who_learns_from_many_pictures_does_not_see_this_one(tmp_path):
    """Prints of 150 pictures of the plainest kind, and their greys: a linear guess from the one to the other says
    little of a picture that it has not learnt from."""
    prints = np.stack([numbers_of(seed, tmp_path) for seed in range(160)])
    greys = np.stack([small(seed)[::28, ::28, 0].reshape(-1) for seed in range(160)]).astype(np.float64)
    x, y = prints - prints[:150].mean(axis=0), greys - greys[:150].mean(axis=0)
    scale = x[:150].std(axis=0) + 1e-9
    x = x / scale
    kernel = x[:150] @ x[:150].T
    weights = np.linalg.solve(kernel + 0.1 * np.trace(kernel) / 150 * np.eye(150), y[:150])
    guessed = x[150:] @ x[:150].T @ weights
    seen = 1 - np.square(guessed - y[150:]).sum() / np.square(y[150:]).sum()
    assert seen < 0.5, seen


def test_a_guess_can_be_confirmed_as_the_docs_say(private, tmp_path):
    """Who guesses the whole prompt sees that it is right, and that every other guess is wrong."""
    right = candidate_of(tmp_path / "right.safetensors")
    other = [{**MESSAGES[0], "content": [MESSAGES[0]["content"][0], {"type": "text", "text": "What is that?"}]}]
    with minivl.load(precision="float32") as vlm:
        record(vlm, other, tmp_path / "other.safetensors")
    with Trace(right) as a, Trace(tmp_path / "other.safetensors") as b:
        assert not compare_prints(private, a).differs
        assert compare_prints(private, b).first_bad is not None


@pytest.mark.parametrize("name", ["windows missing", "inverse order is the order", "bias dropped", "not causal"])
def test_prints_say_where_two_runs_part(private, tmp_path, name):
    replace, blamed = FAULTS[name]
    path = candidate_of(tmp_path / "wrong.safetensors", "bfloat16", replace)
    with Trace(path) as whole:
        write_prints(whole, tmp_path / "prints.safetensors")
    with Trace(tmp_path / "prints.safetensors") as theirs:
        found = compare_prints(private, theirs)
    assert found.first_bad and (blamed in found.suspects or blamed.startswith("vision.blocks.0"))


def test_a_healthy_run_is_the_same_by_its_prints(private, tmp_path):
    with Trace(candidate_of(tmp_path / "right.safetensors", "bfloat16")) as whole:
        found = compare_prints(private, whole)
    assert not found.differs and "are not seen" in found.warnings[0]


@pytest.mark.parametrize("size", [1e-3, 0.02, 0.3])
def test_a_print_tells_how_far_two_arrays_are_apart(size):
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 50))
    y = x + size * random.normal(size=x.shape)
    a, b = ({"shape": [80, 50], **sums(z)} for z in (y, x))
    assert 0.5 * size - GRAIN < apart(a, b) < 1.8 * size + GRAIN
    assert apart({**a, "size": None}, b) == apart({**a, "shape": [1]}, b) == float("inf")


def test_prints_of_a_trace_name_every_stage_that_mixes_rows(golden):  # noqa: F811
    kept = dict(prints_of(golden))
    assert {"vision.merge_2x2", "decoder.layers.0.attend", "decoder.logits"} <= set(kept)
    assert kept["decoder.logits"]["rounding"].keys() == {"float64", "float32", "bfloat16"}

"""The checks of lesson 0: a run."""

from __future__ import annotations

import numpy as np

from ... import api
from .filing import exercise


@exercise("0.1", "two arrays: ids and probabilities")
def top_tokens(mine):
    got = mine(np.log([1.0, 5.0, 4.0]), 2)
    assert isinstance(got, tuple) and len(got) == 2, "return two arrays: ids, probabilities"
    ids, p = map(np.asarray, got)
    assert ids.shape == (2,), f"n = 2 asks for ids of shape (2,), yours have {ids.shape}"
    assert ids.tolist() == [1, 2], (
        "of scores log 1, log 5, log 4 the two most likely ids are 1, 2; yours are "
        f"{ids.tolist()}")
    assert p.shape == (2,) and p.dtype.kind in "fiu", (
        f"two ids need two probabilities, theirs; yours have shape {p.shape} and are {p.dtype}")
    assert not np.allclose(p, [5 / 9, 4 / 9]), (
        "your probabilities sum to one over the n tokens; they should over the whole row")
    assert np.allclose(p, [0.5, 0.4]), (
        f"the probabilities should be 0.5 and 0.4, yours are {p.round(4).tolist()}")
    with np.errstate(all="ignore"):
        p = np.asarray(mine(np.array([1000.0, 999.0]), 2)[1])
    assert np.isfinite(p).all(), (
        "scores of 1000 give NaN: exp overflows; subtract the largest score first")
    assert np.allclose(p, [0.7310586, 0.2689414]), (
        f"scores 1000 and 999 should give 0.731 and 0.269, not {p.round(4).tolist()}")


@exercise("0.2", "a list of ids")
def write_greedily(mine):
    vlm = api.load()
    disc = np.full((84, 112, 3), 200, np.uint8)
    disc[np.hypot(*np.ogrid[-40:44, -60:52]) < 20] = (222, 40, 40)
    content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]
    inputs = vlm.prepare([{"role": "user", "content": content}])
    stop_ids = vlm.generation.eos_token_ids
    wanted = vlm.generate(inputs, max_new_tokens=20, repetition_penalty=1.0)
    got = mine(vlm, inputs, stop_ids, 20)
    assert isinstance(got, list | tuple | np.ndarray), (
        f"return a list of ids, one integer a token, not {type(got).__name__}")
    got = list(got)
    odd = [token for token in got if not isinstance(token, int | np.integer)]
    assert not odd, f"each id should be an integer, one of yours is {type(odd[0]).__name__}"
    got = [int(token) for token in got]
    assert got, "your list is empty; does the loop run, and append each id?"
    assert got != wanted[:-1], (
        "all tokens are right but the stop token is missing: it belongs to the answer")
    assert got[: len(inputs.input_ids)] != inputs.input_ids.tolist(), (
        "give back the new ids only, without the prompt")
    for n, (a, b) in enumerate(zip(got, wanted, strict=False)):
        assert a == b, (
            f"token {n} should be {b} ({vlm.tokenizer.decode([b], False)!r}), yours is {a}; "
            "which row did you take the argmax of?")
    assert len(got) >= len(wanted), (
        f"{len(got)} tokens where {len(wanted)} are right: yours ends too early")
    assert len(got) == len(wanted), (
        f"{len(got)} tokens where {len(wanted)} are right; do you stop after a stop id?")
    assert len(mine(vlm, inputs, stop_ids, 2)) == 2, "with most=2 there should be two tokens"

"""The exercises of lesson 0: a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import api
from .filing import Trial, trials


def ids_and_probabilities(value: Any, wanted: Any) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(value, tuple) and len(value) == 2, "return two arrays: ids, probabilities"
    ids, p = map(np.asarray, value)
    assert ids.shape == (2,), f"n = 2 asks for ids of shape (2,), yours have {ids.shape}"
    assert ids.tolist() == wanted[0], f"the two most likely ids are {wanted[0]}; yours are {ids.tolist()}"
    assert p.shape == (2,) and p.dtype.kind in "fiu", (
        f"two ids need two probabilities, theirs; yours have shape {p.shape} and are {p.dtype}")
    return ids, p


@trials("0.1", "two arrays: ids and probabilities", ids_and_probabilities)
def top_tokens() -> Iterator[Trial]:
    said = "ids and probabilities should be {wanted}, yours are {got}"
    yield Trial((np.log([1.0, 5.0, 4.0]), 2), ([1, 2], [0.5, 0.4]), said, {
        "your probabilities sum to one over the n tokens; they should over the whole row": ([1, 2], [5 / 9, 4 / 9])})
    yield Trial((np.array([1000.0, 999.0]), 2), ([0, 1], [0.7310586, 0.2689414]), said, {
        "scores of 1000 give NaN: exp overflows; subtract the largest score first": ([0, 1], [np.nan, np.nan])})


def token_ids(value: Any, wanted: Any) -> list[int]:
    assert isinstance(value, list | tuple | np.ndarray), (
        f"return a list of ids, one integer a token, not {type(value).__name__}")
    odd = [token for token in value if not isinstance(token, int | np.integer)]
    assert not odd, f"each id should be an integer, one of yours is {type(odd[0]).__name__}"
    assert len(value), "your list is empty; does the loop run, and append each id?"
    return [int(token) for token in value]


def without_prompt(mine: Any, vlm: Any, inputs: Any, *rest: Any) -> Any:
    """What the student's function gives, unless it gives the prompt too."""
    ids, prompt = mine(vlm, inputs, *rest), inputs.input_ids.tolist()
    assert not isinstance(ids, list) or ids[: len(prompt)] != prompt, "give back the new ids only, without the prompt"
    return ids


def what_differs(got: list[int], wanted: list[int]) -> str:
    n = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
    if n is not None:
        return f"token {n} should be {wanted[n]}, yours is {got[n]}; which row did you take the argmax of?"
    many = f"{len(got)} tokens where {len(wanted)} are right"
    return f"{many}: yours ends too early" if len(got) < len(wanted) else f"{many}; do you stop after a stop id?"


@trials("0.2", "a list of ids", token_ids, without_prompt)
def write_greedily() -> Iterator[Trial]:
    vlm = api.load()
    disc = np.full((84, 112, 3), 200, np.uint8)
    disc[np.hypot(*np.ogrid[-40:44, -60:52]) < 20] = (222, 40, 40)
    content = [{"type": "image", "image": disc}, {"type": "text", "text": "Describe the image."}]
    inputs, stop_ids = vlm.prepare([{"role": "user", "content": content}]), vlm.generation.eos_token_ids
    wanted = vlm.generate(inputs, max_new_tokens=20, repetition_penalty=1.0)
    yield Trial((vlm, inputs, stop_ids, 20), wanted, what_differs, {
        "all tokens are right but the stop token is missing: it belongs to the answer": wanted[:-1]})
    yield Trial((vlm, inputs, stop_ids, 2), wanted[:2], "with most=2 there should be two tokens, {wanted}")

"""Greedy decoding against transformers' own `generate`, token by token, and what stands between logits and tokens.

Prefill and decoding are one program in minivl; here the cache, the positions of each step and the penalty over
everything seen are held to the reference. Sampling draws other random numbers, so its filters are compared instead.

Read next: `test_stages.py` for the prompt's part of the computation.
"""

from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import minivl
from minivl.passes.sampling import most_likely, narrow_choice, penalise

from .comparison import checkpoint, minivl_inputs, most, relative_l2
from .reference import Inputs, extended, golden, greedy, logits, positions, reference
from .strategies import EOS, FIXTURES, SPECIAL, VOCABULARY, Case, cases, examples

STEPS = 32
PENALTIES = (1.0, 1.05)                          # none, and that of the official generation_config.json


def continued(at: np.ndarray, steps: int) -> np.ndarray:
    """Positions of a prompt and of so many generated tokens, each one more on every axis: 3 s -> 3 (s + steps)."""
    return np.concatenate([at, at[:, -1:] + np.arange(1, steps + 1)], axis=1)


def next_logits(model, inputs: Inputs, tokens: list[int], after_video: str) -> np.ndarray:
    """Logits after the prompt and after each of the tokens, without a cache, all in one run: steps v."""
    at = continued(positions(model, inputs, after_video), len(tokens))
    return logits(model, extended(inputs, tokens), at)[len(inputs.input_ids) - 1:]


def without_placeholders(tokens: list[int]) -> list[int]:
    """The tokens up to the first that a random model writes for a picture: PyTorch's long run would ask for one."""
    pads = (SPECIAL["image_token_id"], SPECIAL["video_token_id"])
    return list(takewhile(lambda token: token not in pads, tokens))


def penalised(row: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    known = np.isin(np.arange(len(row)), seen)
    return np.where(known, np.where(row < 0, row * penalty, row / penalty), row)


def near_tie(folder, inputs: Inputs, ours: list[int], theirs: list[int], penalty: float) -> bool:
    """Whether the two answers part where the golden model's best two tokens are too close to call.

    Too close: nearer than four times the reference's own largest error there. The tokens have to be these two.
    """
    step = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    same = theirs[:step]
    exact, rounded = (next_logits(model, inputs, same, "tf5")[-1] for model in (golden(folder), reference(folder)))
    row = penalised(exact, np.concatenate([inputs.input_ids, same]), penalty)
    first, second = np.argsort(row)[::-1][:2]
    close = row[first] - row[second] < 4 * np.abs(exact - rounded).max()
    return bool(close and {ours[step], theirs[step]} == {first, second})


def ties(folder, prompts: list[Inputs], penalty: float, kernels: str = "definition") -> tuple[int, int]:
    """Number of tokens that the reference wrote after these prompts, and of answers that part from it at a near tie.

    Raises AssertionError where an answer parts from the reference without one.
    """
    vlm = minivl.load(folder, kernels=kernels)
    batch = [minivl_inputs(inputs, vlm.config, "tf5") for inputs in prompts]
    answers = vlm.generate(batch, max_new_tokens=STEPS, do_sample=False, repetition_penalty=penalty)
    model, written, found = reference(folder), 0, 0
    for inputs, ours in zip(prompts, answers, strict=True):
        theirs = greedy(model, inputs, STEPS, penalty)
        written += len(theirs)
        if ours != theirs:
            assert near_tie(folder, inputs, ours, theirs, penalty), (ours, theirs)
            found += 1
    return written, found


@pytest.mark.parametrize("kernels", ["definition", "jit"])
def test_greedy_tokens_are_the_references(kernels):
    """Every kind of prompt, with the penalty and without; at most one token in a hundred at a near tie."""
    runs = [ties(checkpoint(case), [case.inputs()], penalty, kernels)
            for case in FIXTURES.values() for penalty in PENALTIES]
    written, found = (sum(column) for column in zip(*runs, strict=True))
    print(f"{found} near ties in {written} tokens")
    assert written > 400
    assert found <= written / 100


@pytest.mark.parametrize("penalty", PENALTIES)
def test_conversations_packed_together_answer_as_the_reference_does_one_by_one(penalty):
    """Different lengths, pictures and videos in one run. Answers of one model, so the prompts share its config."""
    one = FIXTURES["two pictures"]
    prompts = [case.inputs() for case in FIXTURES.values()]
    written, found = ties(checkpoint(one), prompts, penalty)
    assert written > len(prompts) and found <= max(1, written / 100)


@examples(6)
@given(cases(patches=80), st.sampled_from(PENALTIES))
def test_greedy_tokens_of_any_model_are_the_references(case, penalty):
    ties(checkpoint(case), [case.inputs()], penalty)


@examples(6)
@given(cases(patches=80), st.sampled_from(PENALTIES))
def test_compiled_greedy_tokens_of_any_model_are_the_references(case, penalty):
    ties(checkpoint(case), [case.inputs()], penalty, "jit")


def test_answers_end_with_the_stop_token():
    """The embedding of one text token is made the stop token's score: both stop there, and say so."""
    case = replace(FIXTURES["text only"], seed=5)
    vlm = minivl.load(checkpoint(case))
    inputs = minivl_inputs(case.inputs(), vlm.config, "tf5")
    free = vlm.generate(inputs, max_new_tokens=STEPS, stop_ids=(), repetition_penalty=1.0)
    stop = free[7]
    model = reference(checkpoint(case))
    model.generation_config.eos_token_id = [EOS, stop]
    theirs = greedy(model, case.inputs(), STEPS)
    assert theirs[-1] == stop
    assert vlm.generate(inputs, max_new_tokens=STEPS, stop_ids=(EOS, stop), repetition_penalty=1.0) == theirs


def decoding_errors(case: Case) -> tuple[float, float]:
    """Relative L2 errors of minivl's logits at the first steps of decoding, and of the reference's in one long run."""
    folder, inputs = checkpoint(case), case.inputs()
    vlm = minivl.load(folder)
    with minivl.session(record="decoder*.logits", verify=True) as seen:
        answer = vlm.generate(minivl_inputs(inputs, vlm.config, case.after_video), max_new_tokens=7, stop_ids=())
    tokens = without_placeholders(answer[:-1])
    steps = np.concatenate(list(seen.trace.values())[: len(tokens) + 1])         # the first comes before any token
    exact, theirs = (next_logits(model, inputs, tokens, case.after_video)
                     for model in (golden(folder), reference(folder)))
    return relative_l2(steps, exact), relative_l2(theirs, exact)


@pytest.mark.parametrize("name", FIXTURES)
def test_each_step_of_decoding_is_within_5e_6_of_one_long_golden_run(name):
    """After a video too, under the rule of the trained models: the next token is one above all before it."""
    ours, theirs = decoding_errors(FIXTURES[name])
    assert ours < 5e-6 and ours <= most(theirs, 30, "float32")


@examples(6)
@given(cases(patches=80))
def test_each_step_of_decoding_of_any_model(case):
    ours, theirs = decoding_errors(case)
    assert ours <= most(theirs, 30, "float32")


# Between logits and token. The reference's are lists of processors, applied in this order.

rows = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).standard_normal((3, 40)) * 5)


@given(rows.map(lambda x: x.astype(np.float32)), st.floats(0.5, 2.0), st.integers(0, 2**32 - 1))
def test_repetition_penalty(x, penalty, seed):
    seen = np.random.default_rng(seed).integers(0, 40, (3, 25))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor(seen), torch.tensor(x)).numpy()
    prompts, answers = zip(*((ids[:20], ids[20:]) for ids in seen), strict=True)
    np.testing.assert_array_equal(penalise(x, prompts, answers, penalty), theirs)


@given(rows.map(lambda x: x.astype(np.float32)), st.sampled_from([1e-6, 0.3, 1.0, 1.7]),
       st.none() | st.integers(1, 50), st.none() | st.floats(0.05, 1.0))
def test_temperature_top_k_and_top_p(x, temperature, top_k, top_p):
    given = [TemperatureLogitsWarper(temperature), top_k and TopKLogitsWarper(top_k),
             top_p and top_p < 1 and TopPLogitsWarper(top_p)]
    theirs = torch.tensor(x)
    for warper in filter(None, given):
        before, theirs = theirs, warper(None, theirs)
    if given[2]:                                  # no share may lie so near to p that rounding decides
        share = np.sort(before.double().softmax(-1).numpy()).cumsum(-1)
        assume(np.abs(share - (1 - top_p)).min() > 1e-6)
    ours = narrow_choice(x, temperature, top_k, top_p)
    kept = np.isfinite(theirs.numpy())
    np.testing.assert_array_equal(ours > np.finfo(np.float32).min, kept)
    np.testing.assert_array_equal(ours[kept], theirs.numpy()[kept])


def test_the_likeliest_token_is_the_first_among_equals():
    x = np.zeros((2, VOCABULARY), np.float32)
    x[1, [7, 9]] = 1
    assert most_likely(x).tolist() == torch.tensor(x).argmax(-1).tolist() == [0, 7]

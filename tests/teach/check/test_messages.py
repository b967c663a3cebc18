"""What is said: of functions that fail before their numbers count, of wrong numbers that nobody has foreseen, and the
same with and without Hypothesis."""

import sys
import time

import numpy as np
import pytest

import minivl
from minivl.show.plot import board
from minivl.teach.check.draws import search
from minivl.teach.check.stages import EXERCISES
from minivl.teach.lessons import EXERCISES as LESSONS

from .versions import load
from .versions_arithmetic import attention, gated, mapped, numbers, rms, turned
from .versions_blocks import merged
from .versions_pictures import patched, positions, window_by_window

RIGHT, WRONG = load()
NORM = RIGHT["rms_norm"][0]


def in_place(x, norm):
    x /= np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps)
    x *= numbers(norm.weight)
    return x


def into_the_weight(x, norm):
    weight = norm.weight.dense(np.float32)
    out = rms(x, norm)
    weight[0] += 1
    return out


def raising(x, norm):
    return rms(x, norm) + x[99]


def slow(x, norm):
    time.sleep(0.1)
    return rms(x, norm)


def restless():
    calls = []

    def function(x, norm):
        calls.append(1)
        return rms(x, norm) * (1 if len(calls) % 2 else 1.5)
    return function


@pytest.mark.parametrize("function, kind, words", [
    (lambda x: x, "signature", "takes (x), but rms_norm is given (x, norm)"),
    (raising, "raised", "IndexError: index 99"),
    (raising, "raised", "return rms(x, norm) + x[99]"),
    (lambda x, norm: x * norm.weight, "raised", "ask it for its numbers: `.weight.dense(x.dtype)`"),
    (lambda x, norm: None, "type", "is its `return` missing?"),
    (lambda x, norm: rms(x, norm).tolist(), "type", "is a list"),
    (lambda x, norm: (rms(x, norm), x), "count", "gives 2 values"),
    (lambda x, norm: rms(x, norm)[None], "shape", "3 axes instead of 2"),
    (lambda x, norm: rms(x, norm)[:, :-1], "shape", "axis 1, d, is 0 instead of 1"),
    (lambda x, norm: rms(x, norm).astype(int), "dtype", "the fractions are cut off"),
    (lambda x, norm: rms(x, norm) + 0j, "dtype", "is complex"),
    (in_place, "changed", "changes its input x"),
    (into_the_weight, "changed", "changes its input norm.weight"),
    (slow, "slow", "too long"),
    (restless(), "unstable", "called twice"),
    (lambda x, norm: np.sqrt(-abs(x) - 1), "values", "nan"),
    (lambda x, norm: rms(x, norm).astype(np.float16), "values", "You are close"),
])
def test_each_way_to_fail_has_its_own_message(function, kind, words):
    result = minivl.check("rms_norm", function, seconds=1 if function is slow else 30)
    assert not result and result.kind == kind
    assert words.lower() in result.message.lower(), result.message


def test_other_forms_are_refused_too():
    assert "tuple of 2" in minivl.check("cos_sin", lambda a, d: [np.cos(a), np.sin(a)]).message
    assert "whole numbers" in minivl.check("window_order", lambda g, c: window_by_window(g, c) + 0.0).message
    swapped = minivl.check("embed_patches", lambda p, w, dtype: mapped(p, w).T)
    assert "in another order" in swapped.message or swapped.kind == "values"


def test_what_is_right_but_worth_knowing_is_said():
    wide = minivl.check("rms_norm", lambda x, norm: rms(x.astype(np.float64), norm))
    assert wide and "float64 for float32" in wide.message
    view = minivl.check("take_rows", lambda x, index: x[:1] if len(index) < 0 else x[index])
    assert view and "Note" not in view.message
    parts = minivl.check("project_qkv", RIGHT["project_qkv"][0])
    assert parts and 'minivl.using({"*.project_qkv"' in parts.message


# Versions whose mistake is on no list: the message must still say what they have in common.
@pytest.mark.parametrize("stage, function, words", [
    ("rms_norm", lambda x, n: 3 * rms(x, n), "every number is 3 times the right one"),
    ("rms_norm", lambda x, n: -rms(x, n), "the sign alone is wrong"),
    ("rms_norm", lambda x, n: rms(x, n) + 0.5, "every number is too large by 0.5"),
    ("rms_norm", lambda x, n: rms(x, n, weight=lambda w: w[::-1]), "each place along axis d"),
    ("rms_norm", lambda x, n: x, "the argument x, unchanged"),
    ("rms_norm", lambda x, n: rms(x, n._replace(eps=1e-6)), "does not depend on norm.eps"),
    ("rms_norm", lambda x, n: rms(x, n, weight=np.zeros_like), "are all 0"),
    ("linear", lambda x, w: mapped(x, w)[::-1], "along axis n you give right slices in the wrong order"),
    ("linear", lambda x, w: np.roll(mapped(x, w), 1, 1), "along axis o you give right slices in the wrong order"),
    ("attend", lambda q, k, v, s, c: attention(q, k, v, s, c, share=lambda a, g, n: n - 1 - a // g),
     "all are wrong"),
    ("attend", lambda q, k, v, s, c: attention(q, k, v, s[:1], c), "exactly on those with several segments"),
    ("patchify", lambda f, c: patched(f[:1], c) if len(f) < 3 else patched(f, c), "more than one frame"),
    ("patchify", lambda f, c: patched(f, c, row="cspq"[::-1]), "along axis x you give right slices in the wrong order"),
    ("mrope", lambda i, g, t, *r: positions(i, g[::-1], t[::-1], *r), "several pictures or videos"),
    ("window_order", lambda g, c: window_by_window(g, c)[::-1], "in the wrong order"),
    ("rotate", lambda x, c, s: turned(x, c[:1] + 0 * c, s[:1] + 0 * s), "n ="),
    ("gated_mlp", lambda x, w: 2 * gated(x, w), "every number is 2 times"),
    ("merge_2x2", lambda x, m: merged(x, m)[::-1], "exactly on those with more than one cell"),
])
def test_mistakes_that_are_on_no_list_are_described(stage, function, words):
    result = minivl.check(stage, function, seconds=30)
    assert not result and words.lower() in result.message.lower(), result.message


def test_two_mistakes_at_once_are_told_apart():
    def both(x, norm):                        # eps outside the root, and the last row of several forgotten
        out = rms(x, norm, eps_inside=False)
        out[3:] = 0
        return out
    assert "one of them explains" in minivl.check("rms_norm", both, seconds=30).message


def test_a_mistake_on_some_inputs_only_is_not_called_two():
    """It gives what the known mistake gives wherever it is wrong, and that is said of one mistake."""
    def rounding(shape, config):
        size, step = np.array(shape[:2], dtype=np.float64), config.patch_size * config.merge_size
        near = np.round(size / step) * step
        if near.prod() > config.max_pixels:
            return np.maximum(step, np.floor(size / np.sqrt(size.prod() / config.max_pixels) / step) * step).astype(int)
        if near.prod() < config.min_pixels:
            grown = size * np.sqrt(config.min_pixels / size.prod())
            return np.maximum(step, np.round(grown / step) * step).astype(int)
        return near.astype(int)
    said = minivl.check("target_size", rounding, seconds=30).message
    assert "round to the nearest" in said and "two mistakes" not in said


# ---- the result and the front door

def test_a_wrong_result_can_be_run_again_and_drawn():
    def version(x, norm):
        return rms(x, norm) * np.where(np.arange(x.shape[1]) > 0, 2, 1)
    result = minivl.check("rms_norm", version)
    assert not result and list(result.input) == ["x", "norm"] and result.input["x"].shape == (1, 2)
    assert not np.allclose(version(*result.args), result.expected[0])
    assert "Only d = 1 of 2" in result.message and "≠" in result.message
    assert result._repr_html_().startswith("<pre") and repr(result) == result.message
    assert type(result.figure()) is type(board()) and len(result.figure().axes) == 3


def test_large_arrays_are_drawn_with_a_mark_for_each_cell():
    result = minivl.check("patchify", lambda f, c: patched(f, c) + (np.arange(len(f) * 0 + 1) + 1))
    assert "≠" in result.message or "#" in result.message
    with pytest.raises(ValueError, match="nothing to draw"):
        minivl.check("rms_norm", NORM).figure()


def test_the_front_door_lists_describes_and_corrects():
    listing = str(minivl.check())
    assert all(exercise.name in listing for exercise in EXERCISES) and len(EXERCISES) >= 20
    assert "contract: 4c d, _ -> c o" in repr(minivl.check("merge_2x2"))
    assert minivl.check("vision.merge_2x2", RIGHT["merge_2x2"][0])
    with pytest.raises(ValueError, match="did you mean 'merge_2x2'"):
        minivl.check("merge2x2")
    with pytest.raises(TypeError, match="should be the function"):
        minivl.check("merge_2x2", 3)


def test_the_front_door_takes_the_lessons_exercises_by_number(capsys):
    listing = str(minivl.check())
    assert all(f"\n  {number} " in listing for number in LESSONS) and len(LESSONS) == 45
    assert sum(asked.stage is not None for asked in LESSONS.values()) == 20
    assert list(LESSONS) == sorted(LESSONS, key=float)
    said = str(minivl.check("7.1"))
    assert said.startswith("exercise 7.1: rms_norm, which gives an array (n, d)\n  for example:\n    x = float64")
    assert str(minivl.check("16.1")) == 'exercise 16.1: first_wrong, which gives the key of a pass, or "none"'
    with pytest.raises(ValueError, match=r"no exercise '7\.9'; they are 0\.1, "):
        minivl.check("7.9", NORM)
    with pytest.raises(TypeError, match="should be the function"):
        minivl.check("7.1", 3)
    with pytest.raises(AssertionError, match="exercise 7.1: Your function takes .x., but exercise 7.1 is given"):
        minivl.check("7.1", lambda x: x)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stage", ["rms_norm", "window_order", "mrope", "narrow_choice"])
def test_without_hypothesis_it_works_as_well(stage, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert minivl.check(stage, RIGHT[stage][0])
    for words, version in WRONG[stage][:2]:
        result = minivl.check(stage, version)
        assert not result and all(word in result.mistake for word in words)
    if stage == "rms_norm":
        assert minivl.check(stage, WRONG[stage][0][1]).input["x"].shape == (1, 1)        # as small as it gets


@pytest.mark.parametrize("without", [False, True])
def test_the_search_ends_at_the_smallest_input(without, monkeypatch):
    if without:
        monkeypatch.setitem(sys.modules, "hypothesis", None)

    def draw(d):
        return d.whole(1, 40), d.whole(1, 40), d.pick(["plain", "odd"]), d.floats(2)
    found = search(draw, lambda case: case.args[0] >= 7 and case.args[1] >= 13, 0, 100, time.perf_counter() + 60)
    assert found.args[:3] == (7, 13, "plain") and not found.strided


def test_another_seed_draws_other_inputs_and_the_same_seed_the_same():
    one, two = (minivl.check("linear", lambda x, w: mapped(x, w) * 2, seed=5) for _ in range(2))
    assert one.message == two.message
    assert "right" in minivl.check("linear", mapped, seed=6).message


def test_an_open_session_does_not_see_a_check():
    with minivl.session(record="*", replace={"kernel.*": lambda original: None}) as session:
        assert minivl.check("merge_2x2", RIGHT["merge_2x2"][0])
        minivl.Inputs                                             # the session itself meets nothing
    assert not session.trace and not session.met


@pytest.mark.parametrize("option", [{"seed": 1}, {"variant": "ada"}, {"seconds": 1.0}])
def test_an_option_of_stages_beside_a_lessons_number_is_refused(option):
    with pytest.raises(minivl.Error, match="are for stages"):
        minivl.check("3.1", lambda row: row, **option)

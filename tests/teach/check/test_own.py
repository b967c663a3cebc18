"""The final project: the students' functions run the embedded model, and nothing of the package's passes does."""

import functools
from fnmatch import fnmatchcase

import numpy as np
import pytest

import minivl
from minivl.teach.check.own import OPTIONAL, PLACES, NotYours, missing, only

from .versions import load
from .versions_arithmetic import gated, rms, turned

RIGHT, _ = load()


@functools.cache
def vlm():
    return minivl.load()


def attend(q, k, v, segments, causal):
    return RIGHT["attend"][2](q, k, v, segments, causal).astype(q.dtype)


def narrow(function):
    """The same function, float32 where it gave float64."""
    def cast(*args):
        out = function(*args)
        return out if isinstance(out, tuple) or out.dtype != np.float64 else out.astype(np.float32)
    return cast


def table():
    fast = {"target_size": 1, "patchify": 1, "mrope": 1, "merge_2x2": 0, "place_features": 0, "project_qkv": 0,
            "resize": 1, "embed_tokens": 0, "embed_patches": 0, "cos_sin": 0, "spatial_angles": 2}
    mine = {name: RIGHT[name][fast.get(name, 0)] for name in PLACES if name in RIGHT}
    mine = {name: f if name in ("cos_sin", "project_qkv") else narrow(f) for name, f in mine.items()}
    mine["cos_sin"] = lambda angles, dtype: (np.cos(angles).astype(dtype), np.sin(angles).astype(dtype))
    mine["rotate"] = lambda q, k, cos, sin: (turned(q, cos, sin), turned(k, cos, sin))
    mine["attend_inside"] = lambda q, k, v, segments: attend(q, k, v, segments, False)
    mine["attend_backwards"] = lambda q, k, v, segments: attend(q, k, v, segments, True)
    mine["add_mlp"] = lambda x, norm, mlp: x + gated(rms(x, norm), mlp)
    mine["select_rows"] = lambda x, rows: x[rows]
    return mine


def picture():
    return np.random.default_rng(0).integers(0, 256, (56, 84, 3)).astype(np.uint8)


def test_a_students_functions_alone_run_the_model_to_the_same_answer():
    mine = table()
    assert missing(mine) == []
    expected = vlm().ask(picture(), "What is this?", max_new_tokens=3)
    with only(mine):
        assert vlm().ask(picture(), "What is this?", max_new_tokens=3) == expected


@pytest.mark.parametrize("name", ["patchify", "attend_inside", "add_mlp", "logits", "advance"])
def test_what_is_not_written_is_named_where_the_run_reaches_it(name):
    mine = table()
    del mine[name]
    assert missing(mine) == [name]
    with pytest.raises(NotYours, match=name), only(mine):
        vlm().ask(picture(), "What is this?", max_new_tokens=2)


def test_a_students_pass_that_calls_a_kernel_of_the_package_is_stopped():
    from minivl.passes.vision import merge_2x2
    with pytest.raises(NotYours, match=r"kernel\.rms_norm"), only({**table(), "merge_2x2": merge_2x2.definition}):
        vlm().ask(picture(), "What is this?", max_new_tokens=1)
    mine = {name: f for name, f in table().items() if name != "logits"}
    with only(mine, lend=("render", "encode", "logits", "kernel.linear")):
        vlm().ask(picture(), "What is this?", max_new_tokens=1)


def test_every_leaf_of_a_run_has_one_place():
    with minivl.session(record="*") as session:
        vlm().ask(picture(), "What is this?", max_new_tokens=2, repetition_penalty=1.1)
    leaves = [label for label, kind in session.met.items() if kind == "leaf" and "@" not in label]
    places = {label: [name for name, (patterns, _) in PLACES.items()
                      if any(fnmatchcase(label, pattern) for pattern in patterns.split())] for label in leaves}
    assert all(len(names) == 1 for names in places.values()), places
    assert {names[0] for names in places.values()} == set(PLACES) - set(OPTIONAL)


def test_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no pass 'merge'"):
        only({"merge": lambda x: x})


def test_a_checked_function_goes_into_the_model_by_its_label():
    with minivl.using({"vision.merge_2x2": narrow(RIGHT["merge_2x2"][0])}):
        assert vlm().ask(picture(), "What is this?", max_new_tokens=3) == vlm().ask(
            picture(), "What is this?", max_new_tokens=3)

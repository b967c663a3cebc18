"""Variants for graded work: at the model's own sizes their plain definitions equal the passes, and each asks for a rule
other than the model's."""

import numpy as np
import pytest

import minivl
from minivl.teach.check import find, plain
from minivl.teach.check.draws import deck
from minivl.teach.check.stages import EXERCISES

from .versions import load
from .versions_arithmetic import gated, turned
from .versions_pictures import (
    after_last,
    patched,
    plane,
    positions,
    repeated,
    sections,
    seen_by,
    window_by_window,
    zipped,
)
from .versions_text import of_all, placed, punished

RIGHT, _ = load()
VARIED = [exercise for exercise in EXERCISES if exercise.variants]
OWN = {
    "picture.normalise": plain.colouring((0, 1, 2), 1),
    "patchify": plain.cutting("csyx"),
    "spatial_angles": plain.spatial(False, False),
    "mrope_angles": plain.sharing((0, 1, 2), False),
    "advance": plain.moving_on((1, 1, 1)),
    "window_order": plain.window_ordering(None, None, False),
    "schedule": plain.scheduling(None, None, None),
    "order_by_window": plain.moving(4, False, False),
    "restore_order": plain.restoring(0),
    "merge_2x2": plain.merging((0, 1, 2, 3)),
    "rms_norm": plain.power_norm(2, False),
    "rotate": plain.rotation(False, False),
    "gated_mlp": plain.gating("silu", False),
    "place_features": plain.filling(False, False),
}


@pytest.mark.parametrize("name", OWN)
def test_the_plain_definition_with_the_models_sizes_is_the_pass(name):
    result = minivl.check(name, OWN[name], seconds=30)
    assert result, result.message


def neighbours(x, cos, sin):
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * (cos + 1j * sin)[:, None]
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


@pytest.mark.parametrize("name, rule, other", [
    ("patchify", plain.cutting("scyx"), lambda f, c: patched(f, c, row="scpq")),
    ("patchify", plain.cutting("yxcs"), lambda f, c: patched(f, c, row="pqcs")),
    ("window_order", plain.window_ordering(None, None, True),
     lambda g, c: window_by_window(g, c, down=True, inner_down=True)),
    ("window_order", plain.window_ordering(3, 3, False), lambda g, c: window_by_window(g, c, side=3)),
    ("schedule", plain.scheduling(2, None, None), lambda g, c: seen_by(g, c, lambda block: block % 2 == 0)),
    ("spatial_angles", plain.spatial(True, False), lambda at, c: plane(at, c, turn=lambda a, b: np.hstack([b, a]))),
    ("spatial_angles", plain.spatial(False, True), lambda at, c: plane(at, c, turn=zipped)),
    ("mrope_angles", plain.sharing((2, 1, 0), False), lambda p, c: sections(p, c, repeated(c, (2, 1, 0)))),
    ("mrope_angles", plain.sharing((1, 0, 2), True),
     lambda p, c: sections(p, c, ([1, 0, 2] * c.head_dim)[: c.head_dim // 2])),
    ("mrope", plain.placing((0, 2, 1), None), lambda *a: positions(*a[:5], "max_plus_one", swap=True)),
    ("mrope", plain.placing((0, 1, 2), 3), lambda *a: positions(*a[:5], "max_plus_one", moment=lambda t, _: 3 * t)),
    ("rotate", plain.rotation(True, False), neighbours),
    ("rotate", plain.rotation(False, True), lambda x, c, s: turned(x, c, -s)),
    ("order_by_window", plain.moving(4, True, False),
     lambda r, o: r[np.add.outer(4 * np.argsort(o), range(4)).ravel()]),
    ("order_by_window", plain.moving(4, False, True), lambda r, o: r[np.add.outer(4 * o, [3, 2, 1, 0]).ravel()]),
    ("restore_order", plain.restoring(2), lambda c, o: np.roll(c[np.argsort(o)], 2, axis=0)),
    ("place_features", plain.filling(False, True), lambda *a: placed(*a, row=np.add)),
    ("place_features", plain.filling(True, False), lambda *a: placed(*a, where=lambda n, at: at[len(at) - 1 - n])),
    ("gated_mlp", plain.gating("silu", True), lambda x, w: gated(x, w, split=lambda y: np.split(y, 2, 1)[::-1])),
    ("gated_mlp", plain.gating("sigmoid", False), lambda x, w: gated(x, w, gate=lambda g: 1 / (1 + np.exp(-g)))),
    ("advance", plain.moving_on((1, 0, 0)), after_last(lambda last: np.stack([last[0] + 1, last[1], last[2]]))),
    ("penalise", plain.charging(True, 1),
     of_all(lambda *a: punished(*a, low=lambda v, p: v - p, high=lambda v, p: v - p, ids=lambda s: s))),
    ("target_size", plain.stepping(True, False),
     lambda s, c: np.array([-(-s[0] // c.factor) * c.factor, -(-s[1] // c.factor) * c.factor])),
])
def test_the_rule_of_a_variant_is_what_its_words_say(name, rule, other):
    for case in deck(find(name).draw, 3, 12):
        one, two = rule(*case.args), other(*case.args)
        pairs = zip(one, two, strict=True) if isinstance(one, tuple) else [(one, two)]
        assert all(np.shape(a) == np.shape(b) and np.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("exercise", VARIED, ids=lambda exercise: exercise.name)
@pytest.mark.parametrize("student", ["ada", 7])
def test_a_variant_takes_its_own_rule_and_refuses_the_models(exercise, student):
    varied = exercise.varied(student)
    assert minivl.check(exercise.name, varied.rule, variant=student, seconds=30)
    remembered = minivl.check(exercise.name, exercise.door.definition, variant=student, seconds=30)
    assert not remembered and "the model's own rule" in remembered.mistake, remembered.message
    assert varied.asks in str(minivl.check(exercise.name, variant=student))


@pytest.mark.parametrize("exercise", VARIED, ids=lambda exercise: exercise.name)
def test_students_get_different_variants_and_each_the_same_again(exercise):
    asked = [exercise.varied(f"student {n}").asks for n in range(12)]
    assert len(set(asked)) > 1
    assert asked == [exercise.varied(f"student {n}").asks for n in range(12)]


def test_a_stage_without_variants_says_so():
    with pytest.raises(ValueError, match="no variants"):
        minivl.check("linear", lambda x, w: x, variant=1)

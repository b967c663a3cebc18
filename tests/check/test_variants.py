"""Variants for graded work: at the model's own sizes their plain definitions equal the passes, and each asks for a rule
other than the model's."""

import pytest

import minivl
from minivl.check import plain
from minivl.check.exercises import EXERCISES

from .versions import load

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

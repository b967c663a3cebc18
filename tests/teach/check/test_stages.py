"""Each stage takes right versions in other styles and names the mistakes of wrong ones."""

import pytest

import minivl
from minivl.teach.check.stages import EXERCISES

from .versions import load

RIGHT, WRONG = load()
NAMES = [exercise.name for exercise in EXERCISES]


@pytest.mark.parametrize("name", NAMES)
def test_there_are_versions_enough(name):
    assert len(RIGHT[name]) >= 3 and len(WRONG[name]) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_right_versions_in_other_styles_are_accepted(name):
    for version in RIGHT[name]:
        result = minivl.check(name, version, seconds=30)
        assert result, result.message


@pytest.mark.parametrize("name", NAMES)
def test_wrong_versions_are_refused_and_their_mistake_named(name):
    for words, version in WRONG[name]:
        result = minivl.check(name, version, seconds=30)
        assert not result, f"{words}: taken for right"
        assert all(word in (result.mistake or "") for word in words), f"{words}: {result.message}"

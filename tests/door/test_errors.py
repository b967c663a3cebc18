"""What a message holds of a value from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivl.door.errors import LONGEST_VALUE, brief

ANYTHING = st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)
NESTED = {key: {key: dict.fromkeys("abcd", "x" * 99) for key in "efgh"} for key in "ijkl"}


@given(ANYTHING)
def test_a_value_is_short_in_a_message(value):
    assert len(brief(value)) <= LONGEST_VALUE


def test_of_a_long_value_both_ends_stand_there():
    assert len(brief(NESTED)) == len(brief("\0" * 99)) == LONGEST_VALUE
    assert brief(NESTED)[:5] == repr(NESTED)[:5] and brief(NESTED)[-3:] == repr(NESTED)[-3:]
    assert brief("<" + "x" * 999 + ">")[:2] == "'<" and brief("<" + "x" * 999 + ">")[-2:] == ">'"


def test_of_a_text_that_may_be_a_payload_there_are_thirty_characters():
    assert len(brief("x" * (LONGEST_VALUE + 1))) == 30 and len(brief(b"x" * 9999)) == 30


@pytest.mark.parametrize("value", ["a", None, 3, [1, "b"], "model.language_model.layers.35.mlp.down_proj.qweight"])
def test_a_short_value_stands_there_whole(value):
    assert brief(value) == repr(value)

"""`put`: a stage runs, what it made is kept, and the run goes on with somebody else's value."""

import numpy as np
import pytest

from minivl.door.contract import ContractError
from minivl.door.errors import ArgumentError
from minivl.door.stage import functions, session, stage, using

from .test_stage import LEAVES, X, recorded, tower


def test_the_run_goes_on_with_the_value_and_keeps_what_was_made():
    own, value = recorded(), 100 + np.zeros_like(X)
    with session(put={LEAVES[2]: value}, record="*") as s:
        tower(X)
    assert np.array_equal(s.made[LEAVES[2]], own[LEAVES[2]])                # the stage did run
    assert np.array_equal(s.trace[LEAVES[2]], value)                        # watchers see what the run goes on with
    assert np.array_equal(s.trace[LEAVES[3]], value + 1)                    # tower.blocks.1.shift of the value


def test_a_value_takes_the_type_of_what_was_made():
    with session(put={LEAVES[0]: np.full(X.shape, 0.1)}, record="*") as s:  # float64 into a float32 run
        tower(X)
    assert s.trace[LEAVES[0]].dtype == np.float32 == s.trace[LEAVES[-1]].dtype


def test_none_keeps_what_was_made_and_changes_nothing():
    own = recorded()
    with session(put=dict.fromkeys(LEAVES)) as s:
        out = tower(X)
    assert np.array_equal(out, own[LEAVES[-1]]) and list(s.made) == LEAVES


def test_a_value_for_a_stage_that_gives_two_arrays():
    with session(put={LEAVES[1]: (0 * X[:, :2], 0 * X[:, 2:])}, record="*") as s:
        tower(X)
    assert isinstance(s.made[LEAVES[1]], tuple) and not s.trace[LEAVES[2]].any()
    with session(put={LEAVES[0]: (0 * X,)}, record="*") as s:               # one array in a tuple is an array
        tower(X)
    assert not s.trace[LEAVES[0]].any() and not isinstance(s.trace[LEAVES[0]], tuple)


def test_a_composite_can_be_put_and_is_run():
    with session(put={"tower.blocks.0": 0 * X}, record="*") as s:
        tower(X)
    assert list(s.trace) == LEAVES and s.made["tower.blocks.0"].any() and np.array_equal(s.trace[LEAVES[3]], 0 * X + 1)


def test_a_value_of_another_shape_is_refused_by_the_name_of_the_stage():
    with pytest.raises(ContractError, match=r"tower.blocks.0.join: put \[3, 3\] in the place of \[3, 4\]"), \
            session(put={LEAVES[2]: X[:, :3]}):
        tower(X)


def test_each_session_keeps_what_was_made_and_the_innermost_value_goes_on():
    with session(put={LEAVES[0]: 1 + 0 * X}) as outer, session(put={LEAVES[0]: 2 + 0 * X}, record="*") as inner:
        tower(X)
    assert np.array_equal(outer.made[LEAVES[0]], inner.made[LEAVES[0]]) and (inner.trace[LEAVES[0]] == 2).all()


def test_what_replaces_a_stage_is_what_made_it():
    with using({LEAVES[2]: lambda a, b: np.full_like(X, 7)}), session(put={LEAVES[2]: 0 * X}) as s:
        tower(X)
    assert (s.made[LEAVES[2]] == 7).all()


def test_keys_that_no_stage_has_are_said_unless_the_session_is_quiet(recwarn):
    with session(put={"nowhere": X}, quiet=True):
        tower(X)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="no stage was run under a key of `put`, such as nowhere"), \
            session(put={"nowhere": X}):
        tower(X)


def test_functions_are_wraps_of_a_stages_own_arguments():
    with session(shadow=functions({"*.shift": lambda x, by: x + by})) as s:
        tower(X)
    assert not s.guilty
    with session(shadow=functions({"*.shift": lambda x, by: x - by})) as s:
        tower(X)
    assert list(s.guilty) == ["tower.blocks.1.shift"]                       # by is 0 in the first block


def test_one_misspelt_key_among_right_ones_is_said():
    with pytest.warns(UserWarning, match="no stage was run under a key of `put`, such as tower.typo"), \
            session(put={LEAVES[0]: None, "tower.typo": X}):
        tower(X)
    for option in ("put", "given"):
        with pytest.raises(ArgumentError, match=r"given and put hold outputs of stages, got kernel.plus"):
            session(**{option: {"kernel.plus": X}})


def test_fractions_are_not_cut_to_row_numbers():
    @stage("order", "n d -> n")
    def order(x):
        return np.arange(len(x))
    with session(put={"order": np.array([2.0, 1.0, 0.0])}):
        assert order(X).tolist() == [2, 1, 0]
    with pytest.raises(ContractError, match="order: put numbers that are no integers"), \
            session(put={"order": np.array([0.9, 1.9, 2.9])}):
        order(X)

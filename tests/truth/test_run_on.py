"""minivl's own stages on somebody's values: what each made is given back, and the run goes on with the values."""

import numpy as np
import pytest

from minivl.door.contract import ContractError
from minivl.door.stage import Stopped, session
from minivl.kernels import Interpreter, definition
from minivl.truth.compare.run_on import POSITIONS, run_on
from minivl.truth.museum import cases, get
from minivl.truth.museum.world import world

FEATURES, PLACED, LAST = "vision.restore_order", "decoder.place_features", "decoder.logits"


@pytest.fixture(scope="module")
def inputs():
    return cases.small.prepare(world())[0]


@pytest.fixture(scope="module")
def right(inputs):
    with session(record="*") as s:
        world().on("float64", "definition").logits(inputs)
    return s.trace


def test_the_run_goes_on_with_the_value_and_the_stages_own_is_given_back(inputs, right):
    own = run_on(world(), inputs, {FEATURES: 2 * right[FEATURES], PLACED: None}, "float64")
    assert list(own) == [FEATURES, PLACED] and np.array_equal(own[FEATURES][0], right[FEATURES])
    features = np.isin(inputs.input_ids, world().config.image_token_id)
    assert np.array_equal(own[PLACED][0][features], 2 * right[FEATURES])


def test_it_ends_behind_the_stage_that_is_named(inputs, right):
    own = run_on(world(), inputs, {FEATURES: None, LAST: None}, "float64", until=FEATURES)
    assert list(own) == [FEATURES]
    with pytest.raises(Stopped, match=PLACED), session(stop_after=PLACED):     # of a session around it
        run_on(world(), inputs, {LAST: None}, "float64", until=LAST)


def test_what_is_told_as_it_comes_is_not_kept(inputs):
    told = []
    keys = ["vision.embed_patches", FEATURES, LAST]
    assert run_on(world(), inputs, dict.fromkeys(keys), "float32", take=lambda *said: told.append(said)) == {}
    assert [key for key, _ in told] == keys and told[0][1][0].dtype == np.float32


def test_whatever_the_model_runs_on_the_definitions_are_asked(inputs, right):
    wrong = Interpreter("wrong", {definition.gelu.definition: lambda x: 0 * x})
    own = run_on(world().on(kernels=wrong), inputs, {LAST: None}, "float64")
    assert np.array_equal(own[LAST][0], right[LAST])


def test_a_fault_shows_in_what_its_own_stage_makes_and_not_behind_it(inputs, right):
    keys = ["vision.blocks.0.add_mlp", "vision.merge_2x2", FEATURES]
    own = run_on(world(), inputs, {key: right[key] for key in keys}, "float64", get("gelu-by-tanh").table())
    same = {key: np.allclose(own[key][0], right[key], rtol=1e-6, atol=1e-8) for key in keys}
    assert same == {keys[0]: True, keys[1]: False, keys[2]: True}


def test_a_value_that_does_not_fit_is_refused_after_its_stage_was_told(inputs, right):
    told = {}
    with pytest.raises(ContractError, match=f"{FEATURES}: put .* in the place of"):
        run_on(world(), inputs, {"vision.merge_2x2": None, FEATURES: right[FEATURES][1:], LAST: None}, "float64",
               take=told.__setitem__)
    assert list(told) == ["vision.merge_2x2", FEATURES]


def test_positions_of_a_trace_are_somebodys_where_they_are_there(tmp_path, inputs):
    from minivl.truth.trace.format import Trace
    from minivl.truth.trace.record import record
    record(world().on("float64", "definition"), inputs, tmp_path / "golden.safetensors")
    with Trace(tmp_path / "golden.safetensors") as golden:
        mine = run_on(world(), golden, {"decoder.angles": None}, "float64")
        moved = run_on(world(), golden, {POSITIONS: inputs.position_ids + 1, "decoder.angles": None}, "float64")
    assert mine["decoder.angles"][0][0, 0] == 0 and moved["decoder.angles"][0][0, 0] == 1

"""An interpreter's part of the bargain: another machine's arrays are never taken for NumPy's, fused functions give way
when somebody looks inside, and golden values do not come from what they measure."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import minivl
from minivl import kernels, model
from minivl.checkpoint.names import blank_tensors, build
from minivl.checkpoint.names import parameters as count
from minivl.kernels import COMPILED_FROM, Interpreter, definition, fitting, interpreter
from minivl.passes import block
from minivl.passes import vision as passes
from minivl.run.inputs import Inputs
from minivl.show.samples import load_samples
from minivl.truth.trace.format import Trace
from minivl.truth.trace.record import record

from .device import Far, machine, near, to_device, to_host


@pytest.fixture(scope="module")
def vlm():
    return minivl.load()


@pytest.fixture(scope="module")
def messages():
    sample = next(one for one in load_samples() if one.fps is None)
    content = [{"type": "image", "image": str(sample.paths[0])}, {"type": "text", "text": sample.question}]
    return [{"role": "user", "content": content}]


def test_the_embedded_model_runs_on_another_machines_arrays(vlm, messages):
    other, inputs = vlm.on(kernels=machine()), vlm.prepare(messages)
    assert np.array_equal(other.vision(inputs), vlm.vision(inputs))
    assert np.array_equal(other.logits(inputs), vlm.logits(inputs))
    assert other.generate(inputs, 6) == vlm.generate(inputs, 6)
    drawn = {"do_sample": True, "temperature": 0.8, "top_k": 5, "repetition_penalty": 1.1}
    assert other.generate(inputs, 4, **drawn) == vlm.generate(inputs, 4, **drawn)


def test_a_silent_conversion_is_noticed(vlm, messages):
    """The stand-in can fail: an interpreter without one of the kernels runs its definition on foreign arrays."""
    lacking = machine()
    functions = {key: value for key, value in lacking.functions.items() if key is not definition.gelu.definition}
    with pytest.raises((AssertionError, TypeError)):
        vlm.on(kernels=lacking._replace(functions=functions)).vision(vlm.prepare(messages))


def test_watchers_see_the_hosts_arrays_and_given_values_travel(vlm, messages):
    other, inputs = vlm.on(kernels=machine()), vlm.prepare(messages)
    with minivl.session(record="*", verify=True, profile=True) as s:
        whole = other.logits(inputs)
    assert all(isinstance(a, np.ndarray) for v in s.trace.values() for a in (v if isinstance(v, tuple) else (v,)))
    with minivl.session(given=minivl.until(s.trace, "vision.restore_order")):
        assert np.array_equal(other.logits(inputs), whole)
    key = "decoder.layers.1.add_mlp"
    with minivl.session(put={key: 0 * s.trace[key]}, record="decoder.layers.2.normalise") as t:
        other.logits(inputs)
    assert isinstance(t.made[key], np.ndarray) and not t.trace["decoder.layers.2.normalise"].any()
    with minivl.session(shadow={"vision.merge_2x2": lambda f: lambda x, w: f(x, w)[::-1]}) as t:
        other.logits(inputs)
    assert list(t.guilty) == ["vision.merge_2x2"]


def test_what_a_watcher_keeps_is_not_written_to_again(vlm, messages):
    """A machine that reuses its buffers: what `add` gave is overwritten by the next kernel."""
    buffer = {}

    def reusing(x, y):
        made = buffer.setdefault(x.shape, Far(np.zeros(x.shape, x.dtype)))
        np.add(near(x), near(y), out=made.near)
        return made
    inputs = vlm.prepare(messages)
    fast = vlm.on(kernels=machine(functions={definition.add.definition: reusing}))
    with minivl.session(record="*.add_mlp") as s:
        fast.logits(inputs)
    with minivl.session(record="*.add_mlp") as right:
        vlm.logits(inputs)
    assert all(np.array_equal(s.trace[key], right.trace[key]) for key in right.trace)


def fused(i, x, turn, segments, w):
    """A whole vision block in one function, on any arrays: the definitions on what lies inside."""
    parts = [model.vision_block.definition]
    with minivl.door.stage.unwatched():
        return parts[0](i, x, turn, segments, w)


def fusing(log):
    """An interpreter that has the vision block as one function, noted in `log`."""
    def run(i, x, turn, segments, w):
        log.append(i)
        return fused(i, x, turn, segments, w)
    return Interpreter("fusing", {model.vision_block.definition: run})


def test_a_fused_stage_gives_way_when_somebody_looks_inside(vlm, messages):
    log: list[int] = []
    inputs = vlm.prepare(messages)
    fast, right = vlm.on(kernels=fusing(log)), vlm.logits(inputs)
    depth = vlm.config.vision.depth
    assert np.array_equal(fast.logits(inputs), right) and log == list(range(depth))
    cases = [({"record": "vision.blocks.1.attend"}, set(range(depth)) - {1}),
             ({"record": "decoder.layers.0.attend"}, set(range(depth))),
             ({"record": "vision.merge_2x2"}, set(range(depth))),
             ({"record": "vision.*"}, set()), ({"profile": True}, set()),
             ({"replace": {"kernel.add": lambda f: f}}, set()),
             ({"stop_after": "vision.blocks.2"}, {0, 1, 2}), ({"stop_after": "vision.blocks.2.rotate"}, {0, 1}),
             ({"put": {"vision.blocks.0.add_mlp": None}}, set(range(depth)) - {0})]
    for options, wanted in cases:
        log.clear()
        try:
            with minivl.session(**options) as s:
                fast.logits(inputs)
        except minivl.Stopped:
            pass
        assert set(log) == wanted, options
        looked = set(range(depth)) - wanted if "stop_after" not in options else (s.unfused and {2}) or set()
        assert {int(label.rpartition(".")[2]) for label in s.unfused} == looked, options


def test_a_watcher_of_ones_own_sees_every_leaf(vlm, messages):
    seen: list[str] = []
    with minivl.session() as s:
        s.watchers.append(lambda visit: seen.append(visit.label))
        vlm.on(kernels=fusing([])).vision(vlm.prepare(messages))
    assert "vision.blocks.0.attend" in seen


def test_the_manifest_says_what_was_unfused(vlm, messages, tmp_path):
    record(vlm.on(kernels=fusing([])), messages, tmp_path / "fast.safetensors")
    with Trace(tmp_path / "fast.safetensors") as trace:
        assert trace.facts["unfused"] == [f"vision.blocks.{n}" for n in range(vlm.config.vision.depth)]
    record(vlm, messages, tmp_path / "plain.safetensors")
    with Trace(tmp_path / "plain.safetensors") as trace:
        assert trace.facts["unfused"] == []


def wrong_gelu():
    return Interpreter("wrong", {definition.gelu.definition: lambda x: 2 * definition.gelu.definition(x)})


def test_golden_values_do_not_come_from_what_they_measure(vlm, messages, tmp_path):
    wrong = vlm.on("float64", wrong_gelu())
    record(vlm.on("float64"), messages, tmp_path / "right.safetensors", yardsticks=("float32",))
    record(wrong, messages, tmp_path / "again.safetensors", yardsticks=("float32",))
    with Trace(tmp_path / "right.safetensors") as a, Trace(tmp_path / "again.safetensors") as b:
        assert np.array_equal(a.arrays("decoder.logits")[0], b.arrays("decoder.logits")[0])
        yards = [t.tables("yardstick.float32") for t in (a, b)]
        assert all(np.array_equal(yards[0][name], yards[1][name]) for name in yards[0])
    inputs = vlm.prepare(messages)
    assert not np.allclose(wrong.logits(inputs), vlm.on("float64").logits(inputs))       # it is wrong
    assert np.array_equal(wrong.on(kernels="definition").logits(inputs), vlm.on("float64").logits(inputs))


def test_on_goes_back_to_the_stored_weights(vlm, messages):
    """Another machine's layout is made of the stored weights, never of this machine's."""
    def spoil(tree):
        return tree._replace(decoder=tree.decoder._replace(layers=()))
    other = vlm.on(kernels=Interpreter("spoiling", prepare=spoil))
    assert other.weights.decoder.layers == () and vlm.weights.decoder.layers
    inputs = vlm.prepare(messages)
    assert np.array_equal(other.on(kernels="definition").logits(inputs), vlm.logits(inputs))
    assert vlm.on("bfloat16").dtype.name == "bfloat16" and vlm.on("bfloat16").interpreter is vlm.interpreter


def test_an_unknown_interpreter_is_named():
    known = (r"kernels must be 'auto' or 'definition' or 'jit' or 'jit-int8' or 'cuda' or "
             r"'cuda-runner' or 'shapes' or an Interpreter, got 'nonsense'")
    with pytest.raises(minivl.Error, match=known):
        interpreter("nonsense")
    with pytest.raises(minivl.Error, match="got 'nonsense'"):
        minivl.load(kernels="nonsense")
    with pytest.raises(minivl.Error, match="got 'jit_int8'; did you mean 'jit-int8'"):
        interpreter("jit_int8")


def test_inputs_of_an_interpreters_run_are_what_prepare_gives(vlm, messages):
    made = vlm.on(kernels=machine()).prepare(messages)
    assert isinstance(made, Inputs) and np.array_equal(made.patches, vlm.prepare(messages).patches)


def test_the_gated_mlp_is_made_of_kernels(vlm):
    """A fault in a kernel shows inside of a composite kernel too, whoever runs it."""
    layer = vlm.weights.decoder.layers[0]
    x = np.random.default_rng(0).normal(size=(3, vlm.config.text.hidden_size)).astype(np.float32)
    fast = Interpreter("fast", {definition.gated_mlp.definition: lambda x, w: 0 * x})
    with minivl.door.stage.running(fast):
        assert not block.gated_mlp(x, layer.mlp).any()
        with minivl.session(replace={"kernel.swiglu": lambda f: f}) as s:
            assert block.gated_mlp(x, layer.mlp).any()
    assert s.unfused == {"kernel.gated_mlp"}


def test_the_stand_in_carries_arrays_there_and_back():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(to_host(to_device(x)), x) and isinstance(to_device(x), Far)
    with pytest.raises(AssertionError, match="without being asked"):
        np.asarray(to_device(x))


def test_the_definitions_do_not_inherit_the_machine_that_runs_around_them(vlm, messages):
    """A yardstick that is asked for from inside of somebody's run."""
    inputs, exact = vlm.prepare(messages), vlm.on("float64", "definition")
    right, seen = exact.logits(inputs), []

    def asking(original):
        def merge(*args):
            seen.append(exact.logits(inputs))
            return original(*args)
        return merge
    with minivl.session(replace={"vision.merge_2x2": asking}):
        vlm.on(kernels=wrong_gelu()).logits(inputs)
    assert np.array_equal(seen[0], right)


def test_an_interpreter_without_functions_still_has_its_way_to_the_host(vlm, messages):
    ways = []

    def counted(value):
        ways.append(value)
        return value
    with minivl.session(record="vision.*"):
        vlm.on(kernels=Interpreter("plain", to_host=counted)).vision(vlm.prepare(messages))
    assert len(ways) > 10


def test_a_leaf_has_no_inside_so_looking_at_it_shows_what_stands_in(vlm, messages):
    wrong = Interpreter("wrong", {passes.merge_2x2: lambda x, w: 2 * passes.merge_2x2.definition(x, w)})
    inputs, other = vlm.prepare(messages), vlm.on(kernels=wrong)
    right = vlm.vision(inputs)
    for options in ({"record": "*"}, {"verify": True}, {"profile": True}, {"put": {"vision.merge_2x2": None}}):
        with minivl.session(**options):
            assert not np.allclose(other.vision(inputs), right), options


@pytest.mark.parametrize("key", ["gelu", np.add, 3, lambda x: x])
def test_functions_of_an_interpreter_stand_in_for_kernels_and_stages_alone(vlm, key):
    with pytest.raises(minivl.Error, match="are keyed by kernels or stages, got"):
        vlm.on(kernels=Interpreter("mine", {key: lambda x: x}))


def test_the_kernel_itself_is_a_key_too(vlm, messages):
    inputs = vlm.prepare(messages)
    function = wrong_gelu().functions[definition.gelu.definition]
    by_door = vlm.on(kernels=Interpreter("wrong", {definition.gelu: function}))
    assert np.array_equal(by_door.logits(inputs), vlm.on(kernels=wrong_gelu()).logits(inputs))


def test_a_shadow_cannot_write_into_another_machines_run(vlm, messages):
    def spoiling(original):
        def merge(x, merger):
            made = original(x, merger)
            x.near[:] = 0
            return made
        return merge
    inputs, other = vlm.prepare(messages), vlm.on(kernels=machine())
    right = vlm.vision(inputs)
    with minivl.session(shadow={"vision.merge_2x2": spoiling}, record="vision.blocks.5.add_mlp") as s:
        assert np.array_equal(other.vision(inputs), right)
    assert not s.guilty and s.trace["vision.blocks.5.add_mlp"].any()


def sized(parameters, dtype="float32"):
    """A blank model with the embedded one's form and at least so many parameters."""
    config = minivl.load().config
    blank = build(blank_tensors(config), config, dtype)
    short = max(0, parameters - count(blank))
    wide = replace(config.text, vocab_size=config.text.vocab_size + -(-short // config.text.hidden_size))
    config = replace(config, text=wide)
    return build(blank_tensors(config), config, dtype)


def test_auto_compiles_big_models_in_the_precisions_that_are_compiled(monkeypatch):
    small, big = sized(0), sized(COMPILED_FROM)
    assert count(small) < 10_000_000 and COMPILED_FROM <= count(big) < COMPILED_FROM + 10_000
    for there in (True, False):
        monkeypatch.setattr(kernels, "has_compiler", lambda there=there: there)
        assert fitting(small) == "definition" == fitting(None)
        assert fitting(big) == ("jit" if there else "definition")
        assert fitting(sized(COMPILED_FROM, "bfloat16")) == fitting(big)
        assert fitting(sized(COMPILED_FROM, "float64")) == "definition" == fitting(sized(COMPILED_FROM, "float16"))


def test_what_auto_chose_is_told_and_golden_values_never_are_of_it(vlm, monkeypatch):
    pytest.importorskip("numba")
    assert vlm.interpreter.name == "definition"
    monkeypatch.setattr(kernels, "COMPILED_FROM", 1)
    with minivl.load() as fast:
        assert fast.interpreter.name == "jit" == fast.on("bfloat16").interpreter.name
        assert fast.on("float64", "auto").interpreter.name == "definition"
        assert fast.on("float64", "definition").interpreter.name == "definition"
        assert vlm.on(kernels="auto").interpreter.name == "jit"


def test_a_small_model_is_loaded_without_a_compiler():
    code = ("import sys, minivl; minivl.load(); "
            "assert not {'numba', 'hashlib', 'shutil'} & sys.modules.keys(), 'imported'")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

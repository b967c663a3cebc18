"""The door on a toy of its own: labels, looking, stopping, resuming, replacing, shadowing, verifying, costing."""

import threading
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from minivl.door import stage as door
from minivl.door.contract import ContractError, check_inputs, check_outputs, parse, rows_of
from minivl.door.stage import Session, Stopped, kernel, session, stage, until, using
from minivl.door.watch import read_dump
from minivl.kernels import Interpreter

ran: list[str] = []


@kernel("n d, _ -> n d", flops=lambda x, y: x.size)
def plus(x, y):
    ran.append("plus")
    return x + y


@kernel("n d, _ -> n d", flops=lambda x, y: 10 * x.size)
def times(x, y):
    ran.append("times")
    return x * y


@stage("shift", "n d, _ -> n d")
def shift(x, by):
    return plus(x, by)


@stage("split", "n 2d -> n d, n d")
def split(x):
    half = x.shape[1] // 2
    return times(x[:, :half], 1), times(x[:, half:], 1)


@stage("blocks.{0}", "_, n d -> n d", composite=True)
def block(i, x):
    a, b = split(shift(x, i))
    return join(a, b)


@stage("join", "n d, n d -> n 2d")
def join(a, b):
    return times(np.concatenate([a, b], axis=1), 2)


@stage("tower", "n d -> n d", composite=True)
def tower(x):
    for i in range(2):
        x = block(i, x)
    return x


@stage("again", "n d -> n d")
def again(x):
    return shift(shift(x, 1), 1)


X = np.arange(12, dtype=np.float32).reshape(3, 4)
LEAVES = ["tower.blocks.0.shift", "tower.blocks.0.split", "tower.blocks.0.join",
          "tower.blocks.1.shift", "tower.blocks.1.split", "tower.blocks.1.join"]


def recorded(run=lambda: tower(X), **options):
    with session(record="*", **options) as s:
        run()
    return s.trace


def test_labels_come_from_nesting_and_only_leaves_are_recorded():
    assert list(recorded()) == LEAVES


def test_the_same_label_at_the_root_is_a_new_run():
    keys = list(recorded(lambda: (tower(X), shift(X, 1), tower(X), shift(X, 1))))
    assert keys[:7] == [*LEAVES, "shift"]
    assert keys[7] == "tower@1.blocks.0.shift" and keys[-1] == "shift@1"


def test_the_same_label_twice_in_a_parent_is_a_defect():
    with pytest.raises(ContractError, match=r"again.shift@1: label comes twice inside again"), session(verify=True):
        again(X)


def test_patterns_meet_labels_and_keys():
    with session(record="tower.*.join") as s:
        tower(X), tower(X)
    assert len(s.trace) == 4
    with session(record="tower@1.*.join") as s:
        tower(X), tower(X)
    assert list(s.trace) == ["tower@1.blocks.0.join", "tower@1.blocks.1.join"]


def test_print_after(capsys):
    with session(print_after="*.split"):
        tower(X)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["tower.blocks.0.split", "tower.blocks.1.split"]
    assert lines[0].count("float32 [3, 2]") == 2 and "rms" in lines[0]


@pytest.mark.parametrize("key", [*LEAVES, "tower.blocks.0", "tower"])
def test_stop_after_stops_there_and_leaves_a_clean_door(key):
    with pytest.raises(Stopped) as stop, session(stop_after=key, record="*") as s:
        tower(X)
    assert stop.value.key == key and door._session.get() is None
    if key in LEAVES:
        assert list(s.trace)[-1] == key
    assert [frame.key for frame in s.frames] == [""]


@pytest.mark.parametrize("n", range(len(LEAVES)))
def test_resuming_gives_the_rest_bit_for_bit_and_runs_no_earlier_kernel(n):
    trace = recorded()
    whole = len(ran_by(lambda: tower(X)))
    with session(given=until(trace, LEAVES[n]), record="*") as s:
        kernels = ran_by(lambda: tower(np.full_like(X, np.nan)))
    per_leaf = [1, 2, 1] * 2
    assert len(kernels) == whole - sum(per_leaf[: n + 1])
    assert all(np.array_equal(a, b) for key in LEAVES for a, b in zip(_t(s.trace[key]), _t(trace[key]), strict=True))


def ran_by(run):
    ran.clear()
    run()
    return list(ran)


def _t(x):
    return x if isinstance(x, tuple) else (x,)


def test_until_names_what_is_there():
    with pytest.raises(KeyError, match="6 leaves start with"):
        until(recorded(), "tower.nonsense")


@pytest.mark.parametrize("label", [*LEAVES, "tower.blocks.0", "tower", "kernel.plus", "kernel.times"])
def test_what_replaces_a_label_is_what_runs(label):
    calls = []

    def mine(*args):
        calls.append(label)
        return (args[-1][:, :2] + 7, args[-1][:, 2:]) if label.endswith("split") else \
            np.concatenate(args, 1) if label.endswith("join") else args[0] if label != "tower.blocks.0" else args[1]
    with using({label: mine}):
        tower(X)
    assert calls


def test_wraps_get_the_original_and_the_last_one_is_outermost():
    def tell(text):
        return lambda original: lambda *args: [calls.append(text), original(*args)][1]
    calls: list[str] = []
    with session(replace={"*.shift": tell("inner")}), session(replace={"*.shift": tell("outer")}):
        tower(X)
    assert calls == ["outer", "inner"] * 2


def test_each_session_replaces_by_its_own_keys():
    """An interpreter's session, entered anew by each call, counts from its start; the outer one counts on."""
    with session(replace={"shift@1": lambda f: lambda x, y: 10 * f(x, y)}):
        got = []
        for _ in range(3):
            with door.running(Interpreter("none")):
                got.append(shift(X, 1))
    assert [np.array_equal(x, X + 1) for x in got] == [True, False, True] and np.array_equal(got[1], 10 * (X + 1))


def test_the_interpreter_lies_under_replacements():
    calls = []
    with session(replace={"kernel.plus": lambda original: lambda x, y: [calls.append("fault"), original(x, y)][1]}), \
            door.running(Interpreter("toy", {plus.definition: lambda x, y: [calls.append("interpreter"), x + y][1]})):
        shift(X, 1)
    assert calls == ["fault", "interpreter"]


def test_before_is_called_for_every_stage_and_ends_a_run_but_changes_nothing():
    """It looks inside nothing: what an interpreter has for a composite still runs, and rows of such a run are kept."""
    seen, right = [], tower(X)
    with session(before=seen.append):
        assert not door.altered() and np.array_equal(tower(X), right)
    assert seen == ["tower", "tower.blocks.0", *LEAVES[:3], "tower.blocks.1", *LEAVES[3:]]
    fused = Interpreter("toy", {tower.definition: lambda x: x + 5})
    with door.running(fused), session(before=seen.append) as inner:
        assert np.array_equal(tower(X), X + 5) and seen[-1] == "tower" and not inner.unfused

    def ends(label):
        if label == "tower.blocks.1":
            raise KeyError(label)
    ran.clear()
    with session(before=ends), session(record="*") as s, pytest.raises(KeyError, match="tower.blocks.1"):
        tower(X)
    assert list(s.trace) == LEAVES[:3]
    with session(record="*") as s:                                      # the door is clean behind it
        tower(X)
    assert list(s.trace) == LEAVES


def test_a_pattern_that_matches_nothing_is_said():
    with pytest.warns(UserWarning, match="nothing was met by nonsense"), session(record="nonsense"):
        tower(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with session(record="nonsense"):
            pass                                                    # nothing ran: nothing to say


@pytest.mark.parametrize("options", [{"record": "tower"}, {"print_after": "tower.blocks.0"}, {"record": "kernel.*"},
                                     {"stop_after": "kernel.plus"},
                                     {"shadow": {"tower.blocks.0": lambda f: lambda i, x: 100 * f(i, x)}}])
def test_a_pattern_that_meets_only_what_it_cannot_act_on_is_said(options):
    with pytest.warns(UserWarning, match="nothing was met by"), session(**options):
        tower(X)


def test_given_keys_that_no_stage_has_are_said():
    with pytest.warns(UserWarning, match="no stage was run under a key of `given`, such as tower.blocks.9.join"), \
            session(given={"tower.blocks.9.join": X}):
        tower(X)


def test_what_is_given_for_a_composite_is_refused():
    """Its state (a cache) would not change: decoding would go wrong without a word."""
    with pytest.raises(ValueError, match=r"given holds tower.blocks.0, which is made of other stages"), \
            session(given={"tower.blocks.0": X}):
        tower(X)


def test_an_inner_session_counts_runs_from_its_own_start():
    with session(record="*") as outer:
        whole = tower(X)
        with session(record="*") as inner:
            tower(X)
        with session(given={"tower.blocks.1.join": 0 * X}):
            assert not tower(X).any()
    assert list(inner.trace) == LEAVES and len(outer.trace) == 18
    assert np.array_equal(whole, inner.trace[LEAVES[-1]]) and "tower@2.blocks.1.join" in outer.trace


def test_a_pass_without_return_is_named():
    with pytest.raises(ContractError, match=r"tower.blocks.0.join: gave a NoneType.*is its `return` missing"), \
            using({"*.blocks.0.join": lambda a, b: None}):
        tower(X)


def test_stages_and_kernels_take_keywords():
    with session(record="*", verify=True) as s:
        assert np.array_equal(join(b=X, a=X), join(X, X)) and np.array_equal(plus(X, y=X), 2 * X)
    assert list(s.trace) == ["join", "join@1"]
    with pytest.raises(TypeError, match="missing a required argument"):
        join(a=X)


def test_a_keyword_after_a_default_that_was_left_out_arrives():
    @stage("scale", "n d, _, _ -> n d")
    def scale(x, by=1.0, plus=0.0):
        return x * by + plus
    assert np.array_equal(scale(X, plus=2.0), X + 2)
    with session(record="scale") as s:
        scale(X, plus=2.0)
    assert np.array_equal(s.trace["scale"], X + 2)


def test_verifying_leaves_the_callers_arrays_alone():
    mine = X.copy()
    with session(verify=True, given={"tower.blocks.0.join": mine}):
        tower(X)
    assert mine.flags.writeable


def test_shadow_names_every_guilty_stage_in_one_run_and_goes_on_with_ours():
    wrong = {"*.blocks.0.split": lambda f: lambda x: f(x)[::-1], "*.blocks.1.join": lambda f: lambda a, b: f(a, b) + 1}
    with session(shadow=wrong, record="*") as s:
        out = tower(X)
    assert list(s.guilty) == ["tower.blocks.0.split", "tower.blocks.1.join"]
    assert np.array_equal(out, tower(X)) and list(s.trace) == LEAVES


def test_shadow_of_a_kernel_finds_the_stages_that_use_it():
    with session(shadow={"kernel.plus": lambda f: lambda x, y: f(x, y) * 1.001}) as s:
        tower(X)
    assert list(s.guilty) == ["tower.blocks.0.shift", "tower.blocks.1.shift"]
    with session(shadow={"kernel.plus": lambda f: f}) as s:
        tower(X)
    assert not s.guilty


def test_shadow_by_key_and_of_a_run_of_its_own():
    off = {"tower@1.blocks.0.join": lambda f: lambda a, b: f(a, b) + 1, "shift@1": lambda f: lambda x, y: f(x, y) + 1}
    with session(shadow=off) as s:
        tower(X), tower(X), shift(X, 1), shift(X, 1)
    assert list(s.guilty) == ["tower@1.blocks.0.join", "shift@1"]


def test_a_candidate_that_raises_or_writes_to_its_inputs_is_guilty_and_harms_nothing():
    def raises(*args):
        raise ZeroDivisionError("mine")

    def writes(a, b):
        a *= 0
        return np.concatenate([a, b], 1)
    table = {"*.0.shift": lambda f: raises, "*.0.join": lambda f: writes, "*.1.join": lambda f: lambda a, b: None}
    right = tower(X)
    with session(shadow=table, record="*") as s:
        assert np.array_equal(tower(X), right)
    assert list(s.guilty) == ["tower.blocks.0.shift", "tower.blocks.0.join", "tower.blocks.1.join"]
    assert isinstance(s.failures["tower.blocks.0.shift"], ZeroDivisionError)
    assert "read-only" in str(s.failures["tower.blocks.0.join"])
    assert str(s.failures["tower.blocks.1.join"]) == "gave a NoneType, the model's own pass an array [3, 4]"


def test_a_candidate_runs_under_all_replacements():
    twice = {"kernel.plus": lambda f: lambda x, y: 2 * f(x, y)}
    with session(replace=twice), session(replace=twice), session(shadow={"*.0.shift": lambda f: f}) as s:
        tower(X)
    assert not s.guilty


def test_verify_checks_shapes_in_and_out_finiteness_and_freezes():
    with session(verify=True):
        assert not tower(X).flags.writeable
    with pytest.raises(ContractError, match=r"tower.blocks.0.join: output 0 .*axis 2d has size 3, should be 4"), \
            session(verify=True, replace={"*.join": lambda f: lambda a, b: f(a, b)[:, :3]}):
        tower(X)
    with pytest.raises(ContractError, match="kernel.plus: output 0 .* is not finite, first at"), session(verify=True):
        tower(np.full_like(X, np.inf))
    with pytest.raises(ContractError, match="gave a int; a stage gives an array"), session(verify=True), \
            using({"*.shift": lambda x, i: 3}):
        tower(X)


def test_an_error_inside_a_stage_names_the_stage():
    with pytest.raises(ValueError) as error, session(), using({"*.blocks.1.join": lambda a, b: a @ b}):
        tower(X)
    assert error.value.__notes__ == ["in stage tower.blocks.1.join"]


def test_dump_can_be_read_back(tmp_path):
    with session(dump=tmp_path / "new" / "dump", record="*") as s:
        tower(X)
    back = read_dump(tmp_path / "new" / "dump")
    assert list(back) == list(s.trace)
    assert all(np.array_equal(a, b) for k in back for a, b in zip(_t(back[k]), _t(s.trace[k]), strict=True))
    assert isinstance(back["tower.blocks.0.split"], tuple)
    assert not list(tmp_path.rglob("*.partial"))
    with pytest.raises(FileExistsError, match="name a new folder"):
        session(dump=tmp_path / "new" / "dump")


def test_a_dump_that_was_cut_off_is_read_up_to_there(tmp_path):
    with session(dump=tmp_path / "d"):
        tower(X)
    index = tmp_path / "d" / "index.jsonl"
    whole = index.read_bytes()
    index.write_bytes(whole[:-20])
    with pytest.warns(UserWarning, match="cut off after 5 outputs"):
        assert list(read_dump(tmp_path / "d")) == LEAVES[:-1]
    with pytest.raises(FileNotFoundError, match="is no dump: it has no index.jsonl"):
        read_dump(tmp_path)
    index.write_bytes(whole.replace(b'"key"', b'"kei"', 1))
    with pytest.raises(ValueError, match=r"index.jsonl, line 1: not a line of a dump"):
        read_dump(tmp_path / "d")


def test_a_dump_that_cannot_be_written_leaves_no_partial_file(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"), session(dump=tmp_path / "d"):
        tower(X)
    assert not list((tmp_path / "d").iterdir())


def test_a_dump_of_nothing_makes_no_folder(tmp_path):
    with session(dump=tmp_path / "d"):
        pass
    assert not (tmp_path / "d").exists()


def test_dump_of_bfloat16_comes_back_as_such(tmp_path):
    x = X.astype(bfloat16)
    with session(dump=tmp_path / "d"):
        shift(x, bfloat16(1))
    back = read_dump(tmp_path / "d")["shift"]
    assert back.dtype == bfloat16 and np.array_equal(back, x + bfloat16(1))


def test_profile_counts_the_operations_of_the_kernels():
    with session(profile=True) as s:
        tower(X)
    assert [s.profile[k].flops for k in LEAVES] == [12, 2 * 60, 120] * 2
    assert all(cost.seconds > 0 for cost in s.profile.values())


def test_sessions_add_up_and_close_in_order():
    with session(record="*.shift") as outer:
        with session(record="*.join") as inner:
            tower(X)
        tower(X)
    assert len(outer.trace) == 4 and len(inner.trace) == 2
    assert door._session.get() is None


def test_a_session_is_opened_once():
    with session() as s, pytest.raises(RuntimeError, match="opened once"):
        s.__enter__()
    with pytest.raises(RuntimeError, match="opened once"), s:
        pass


def test_another_thread_is_not_watched():
    with session(record="*") as s:
        thread = threading.Thread(target=lambda: tower(X))
        thread.start(), thread.join()
    assert not s.trace


def test_an_unwatched_pass_is_not_seen():
    with warnings.catch_warnings(), session(record="*") as s:
        with door.unwatched():
            tower(X)
        assert door._session.get() is s and not s.trace


# ---- the contract language ---------------------------------------------------------------------------------------

def test_contracts_are_parsed():
    assert parse("p d, m -> w d") == ([["p", "d"], ["m"]], [["w", "d"]])
    assert rows_of("4c d -> c o") == "c"
    with pytest.raises(ContractError, match="has no '->'"):
        parse("p d")


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_contract_holds_exactly_for_its_shapes(p, d, wrong):
    sizes = check_inputs("k", "4p d, p -> p d *", (np.zeros((4 * p, d)), np.zeros(p)))
    check_outputs("k", "4p d, p -> p d *", (np.zeros((p, d)),) * 3, dict(sizes))
    fails = pytest.raises(ContractError) if wrong != d else nullcontext()
    with fails:
        check_outputs("k", "4p d, p -> p d *", (np.zeros((p, d)), np.zeros((p, wrong))), dict(sizes))
    with pytest.raises(ContractError, match=r"axis 4p has size|axis p has size"):
        check_inputs("k", "4p d, p -> p d", (np.zeros((4 * p + 1, d)), np.zeros(p + 1)))


def test_the_message_names_stage_axis_and_both_sizes():
    with pytest.raises(ContractError, match=r"^a\.b: input 1 \[p e\]: axis p has size 2, should be 3$"):
        check_inputs("a.b", "p d, p e -> p d", (np.zeros((3, 4)), np.zeros((2, 4))))
    with pytest.raises(ContractError, match=r"^a: output 0 should be \[p d\] but has shape \[3\]$"):
        check_outputs("a", "_ -> p d", np.zeros(3), {})
    with pytest.raises(ContractError, match="gives 2 arrays, its contract .* promises 1"):
        check_outputs("a", "_ -> p", (np.zeros(3), np.zeros(3)), {})


def test_a_session_needs_no_options():
    with Session() as s:
        assert np.array_equal(tower(X), tower.definition(X)) and s.trace == {}

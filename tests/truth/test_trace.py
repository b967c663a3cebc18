"""Traces and `minivl diff`: the file, the comparison, and faults that are planted to be found.

Everything here runs without PyTorch, on the embedded model and a picture that is ragged both ways; what the reference
says is in `oracle/test_diff_oracle.py`. Read next: `test_trace_foreign.py` (arrays of others).
"""

import ast
import json
import math
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import minivl
from minivl.cli.words import app
from minivl.kernels import definition as kernels
from minivl.passes import windows
from minivl.truth.compare import compare as comparing
from minivl.truth.compare import report
from minivl.truth.compare.compare import compare
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.local import local_golden
from minivl.truth.compare.metrics import measure, measure_logits
from minivl.truth.compare.slices import ranges, slices
from minivl.truth.compare.verdict import SUSPICIOUS, WRONG, first_bad, suspects
from minivl.truth.trace import recorder
from minivl.truth.trace.format import COORDINATES, Stage, Trace, TraceError, Writer
from minivl.truth.trace.record import Selection, record, skeleton

VLM = minivl.load(precision="float64")
SIDE = VLM.config.vision.window_size                                       # pixels: the picture is ragged both ways
PICTURE = np.random.default_rng(1).integers(0, 256, (2 * SIDE + 28, 3 * SIDE + 28, 3), np.uint8)
MESSAGES = [{"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is it?"}]}]
NARROW = [d for d in range(VLM.config.vision.depth) if d not in VLM.config.vision.fullatt_block_indexes]


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
    record(VLM, MESSAGES, path, yardsticks=("float64", "float32", "bfloat16"))
    with Trace(path) as trace:
        yield trace


def candidate_of(path: Path, precision: str = "float32", replace=None, selection=None):
    """A run of minivl with some passes replaced, as a trace."""
    with minivl.load(precision=precision) as vlm, minivl.session(replace=replace or {}):
        record(vlm, MESSAGES, path, selection)
    return path


def judged(golden, path, **options):
    return compare(golden, read_candidate(path, golden, **options))


# ---- the recorder that is carried to a device -----------------------------------------------------------------

def test_the_recorder_is_short_and_needs_numpy_only():
    source = Path(recorder.__file__).read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(source)))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert len(source.splitlines()) <= 80
    assert imported <= {"json", "pathlib", "numpy"}


arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 100, shape).astype(dtype),
    st.sampled_from(["float64", "<f4", ">f4", "float16", "int64", ">i2", "uint8", "bool", ml_dtypes.bfloat16]),
    st.lists(st.integers(0, 4), max_size=3).map(tuple), st.integers(0, 9))


@given(st.lists(arrays, max_size=5), st.sampled_from([16, 1 << 12]))
def test_others_read_what_the_recorder_writes(tmp_path_factory, values, room):
    """The header may outgrow the room that was kept for it; the arrays then move."""
    path = tmp_path_factory.mktemp("r") / "out.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "ROOM", room)
        patch.setattr(recorder.Recorder._move, "__defaults__", (8,))       # bytes moved at a time
        with recorder.Recorder(path, {"who": "a test"}) as out:
            names = [out.put("same name", value) for value in values]
    assert names == ["same name", *(f"same name@{n}" for n in range(1, len(values)))][:len(values)]
    with safe_open(path, "np") as found:
        assert found.metadata() == {"who": "a test"}
        assert set(found.keys()) == set(names)
        for name, value in zip(names, values, strict=True):
            if value.dtype != ml_dtypes.bfloat16:                          # the library for NumPy has none
                np.testing.assert_array_equal(found.get_tensor(name), value)
                assert found.get_tensor(name).shape == value.shape


def test_a_recording_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(TypeError, match="complex128 has no place"), recorder.Recorder(path) as out:
        out.put("a", np.zeros(2))
        out.put("b", np.zeros(2, complex))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_get_its_name_leaves_nothing_and_says_where(tmp_path):
    path = tmp_path / "a.safetensors"
    path.mkdir()
    with pytest.raises(OSError) as error, recorder.Recorder(path) as out:
        out.put("a", np.zeros(2))
    assert error.value.filename == str(path) and list(tmp_path.iterdir()) == [path]


# ---- the file -------------------------------------------------------------------------------------------------

def test_a_trace_holds_the_run_with_contracts_and_coordinates(golden):
    with minivl.session(record="*") as s:
        inputs = VLM.prepare(MESSAGES)
    with minivl.session(record="*") as t:
        VLM.logits(inputs)
    run = {**s.trace, **t.trace}
    assert list(golden.stages) == list(run)
    for key, value in run.items():
        for ours, kept in zip(value if isinstance(value, tuple) else (value,), golden.arrays(key), strict=True):
            np.testing.assert_array_equal(ours, kept)
            assert ours.dtype == kept.dtype
    for letter, table in minivl.provenance(inputs, VLM.config).items():
        np.testing.assert_array_equal(golden.tables(COORDINATES)[letter], table)
    stage = golden.stages["vision.blocks.0.attend"]
    assert stage.axes == ("w a e",) and stage.contract == "w a e, w k e, w k e, g 4 -> w a e"
    with safe_open(golden.path, "np") as others:
        np.testing.assert_array_equal(others.get_tensor("decoder.logits"), golden.arrays("decoder.logits")[0])


def test_parents_are_what_went_in(golden):
    parents = {key: set(stage.parents) for key, stage in golden.stages.items()}
    assert parents["vision.blocks.0.rotate"] == {"vision.blocks.0.project_qkv", "vision.cos_sin"}
    assert parents["vision.restore_order"] == {"vision.merge_2x2", "vision.window_order"}
    assert parents["decoder.layers.1.attend"] == {"decoder.layers.1.rotate", "decoder.layers.1.project_qkv"}
    assert parents["decoder.place_features"] == {"decoder.embed_tokens", "vision.restore_order", "prompt.expand"}
    assert parents["decoder.angles"] == {"positions.mrope"}


def test_the_shapes_of_a_run_tell_its_stages_without_computing(golden):
    blank = skeleton(VLM, VLM.prepare(MESSAGES))
    for key, stage in blank.items():
        known = golden.stages[key]
        assert (stage.label, stage.contract, stage.axes) == (known.label, known.contract, known.axes)


def test_a_selection_keeps_matching_stages_layers_and_rows(golden, tmp_path):
    rows = {"s": np.array([0, 7]), "w": np.arange(5)}
    chosen = Selection(("vision.blocks.*", "decoder.*"), (0, 1), rows)
    path = candidate_of(tmp_path / "few.safetensors", selection=chosen)
    with Trace(path) as few:
        kept = few.recorded()
        assert kept and not any(key.startswith(("picture", "vision.blocks.2")) for key in kept)
        assert list(few.stages) == list(golden.stages)                     # what was left out is listed all the same
        (attended,), (whole,) = few.arrays("vision.blocks.1.attend"), golden.arrays("vision.blocks.1.attend")
        assert attended.shape == (5, *whole.shape[1:])
        assert few.tables("rows")["s"].tolist() == [0, 7]
        (logits,), (every,) = few.arrays("decoder.logits"), golden.arrays("decoder.logits")
        assert np.abs(logits - every[[0, 7]]).max() < 1e-3
        found = compare(few, read_candidate(golden.path, golden))          # a whole run against rows of another
    assert set(found.words.values()) <= {"exact", "rounding"}


def test_a_prompt_without_pictures_has_a_trace_too(tmp_path):
    record(VLM, [{"role": "user", "content": "How many?"}], tmp_path / "text.safetensors", yardsticks=("bfloat16",))
    with Trace(tmp_path / "text.safetensors") as trace:
        (ids,), at = trace.arrays("prompt.expand"), trace.tables(COORDINATES)
        assert (at["s"] == -1).all() and len(at["s"]) == len(ids) and all(len(at[letter]) == 0 for letter in "pwcm")
        assert not any(key.startswith("vision") for key in trace.stages)


def test_rows_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(IndexError, match="rows s=0..99999 asked for; there are"):
        record(VLM, MESSAGES, tmp_path / "x.safetensors", Selection(rows={"s": np.array([0, 99999])}))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_trace_is_refused_in_words(golden, tmp_path):
    with recorder.Recorder(tmp_path / "plain.safetensors") as out:
        out.put("a", np.zeros(2))
    with pytest.raises(TraceError, match="no manifest of a trace; give one that `minivl trace record` wrote"):
        Trace(tmp_path / "plain.safetensors")
    with Writer(tmp_path / "new.safetensors", {"precision": "float64"}) as writer:
        writer.facts["version"] = 99
    with pytest.raises(TraceError, match="version 99; this minivl reads"):
        Trace(tmp_path / "new.safetensors")
    with Writer(tmp_path / "lost.safetensors") as writer:
        writer.stages.append(Stage("a", "a", arrays=("gone",)))
    with pytest.raises(TraceError, match="names 'gone', which is not in the file"):
        Trace(tmp_path / "lost.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(golden.path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="the header speaks of"):
        Trace(tmp_path / "cut.safetensors")


def test_what_is_not_there_is_asked_for_as_a_trace(golden, tmp_path, capsys):
    for words in (["trace", "show", tmp_path / "none"], ["trace", "show", tmp_path], ["diff", tmp_path / "none", "a"],
                  ["diff", golden.path, tmp_path / "none.safetensors"], ["diff", golden.path, tmp_path / "none"]):
        with pytest.raises(SystemExit) as left:
            app(list(map(str, words)))
        said = capsys.readouterr().err
        assert left.value.code == 2 and "give a trace that `minivl trace record` wrote" in said, said
        assert "checkpoint" not in said


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", b"nothing", np.array([{}], object)])
def test_a_file_that_numpy_cannot_read_brings_no_advice_to_unpickle(golden, tmp_path, content):
    path = tmp_path / "a.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, a=content)
    with pytest.raises(TraceError, match="cannot be read as .npz; it should hold numbers") as error:
        read_candidate(path, golden)
    assert "pickle" not in str(error.value)


# ---- measures -------------------------------------------------------------------------------------------------

def test_a_dead_window_hides_from_pcc_and_not_from_the_worst_row():
    exact = np.random.default_rng(0).normal(size=(1600, 24))
    dead = exact.copy()
    dead[160:176] = 0
    found = measure(dead, exact, 0)
    assert found.pcc > 0.99 and found.cosine > 0.99
    assert found.worst == pytest.approx(1) and 160 <= found.worst_row < 176


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 5), st.integers(0, 1))
def test_measures_are_those_of_the_whole_arrays(seed, rows, width, axis):
    """Formed block by block, they are what NumPy says of all numbers at once."""
    random = np.random.default_rng(seed)
    exact = random.normal(size=(rows, width))
    other = (exact + 0.1 * random.normal(size=exact.shape)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minivl.truth.compare.metrics.BLOCK", 4)
        found = measure(other, exact, axis)
    assert found.error == pytest.approx(np.linalg.norm(other - exact) / np.linalg.norm(exact))
    assert found.largest == pytest.approx(np.abs(other - exact).max())
    assert found.cosine == pytest.approx(np.vdot(other, exact) / np.linalg.norm(other) / np.linalg.norm(exact))
    if rows * width > 1:
        assert found.pcc == pytest.approx(np.corrcoef(other.ravel(), exact.ravel())[0, 1])


def test_numbers_that_are_not_finite_are_an_infinite_error():
    exact = np.ones((3, 4))
    for value in (np.nan, np.inf):
        other = exact.copy()
        other[1, 2] = value
        found = measure(other, exact, 0)
        assert found.error == math.inf and found.worst == math.inf and found.worst_row == 1 and not found.finite


def test_logits_say_what_changes_for_the_words():
    golden = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 2.5]])
    found = measure_logits(golden + 7, golden, k=2)                        # a constant changes nothing
    assert found.kl_worst < 1e-12 and found.differing_rows == 0 and found.top_overlap == 1
    found = measure_logits(golden[:, [1, 0, 2]], golden, k=2)
    assert (found.first_differing_row, found.differing_rows, found.margin) == (0, 2, 2.0)
    assert found.kl_worst > 0.5 and found.top_overlap == 0.5


# ---- verdicts -------------------------------------------------------------------------------------------------

STAGES = {key: Stage(key, key, parents=parents) for key, parents in {
    "a": (), "b": ("a",), "c": ("b",), "side": (), "d": ("c", "side"), "e": ("d",)}.items()}


def test_suspects_are_what_no_right_tap_shields():
    assert suspects("e", {"b": "exact", "e": "wrong"}, STAGES) == ["c", "side", "d", "e"]
    assert suspects("e", {"c": "rounding", "side": "exact", "e": "wrong"}, STAGES) == ["d", "e"]
    assert suspects("e", {"d": "wrong", "e": "wrong"}, STAGES, local=True) == ["e"]


def test_the_first_bad_tap_is_one_that_comes_from_no_other():
    assert first_bad({"b": "exact", "d": "wrong", "e": "wrong"}, STAGES) == "d"
    assert first_bad({"c": "suspicious", "side": "suspicious", "d": "wrong"}, STAGES) == "c"
    assert first_bad({"side": "wrong", "b": "suspicious"}, STAGES) == "side"      # b is no cause of side
    assert first_bad({"a": "exact", "b": "rounding"}, STAGES) is None


# ---- faults that are planted ----------------------------------------------------------------------------------

def of_blocks(choose):
    """The schedule with other blocks full."""
    def schedule(grids, config):
        every = range(config.depth)
        changed = {n for n in every if choose(n in config.fullatt_block_indexes)}
        return tuple(windows.schedule.definition(grids, with_full(config, changed)))
    return lambda original: schedule


def with_full(config, blocks):
    return config.__class__(**{**vars(config), "fullatt_block_indexes": tuple(sorted(blocks))})


def dead_window(original):
    def attend(q, k, v, segments):
        out = original(q, k, v, segments).copy()
        out[slice(*segments[1, :2])] = 0
        return out
    return attend


def tanh_gelu(original):
    def gelu(x):
        y = kernels.wide(x)
        return kernels.narrow(0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))), x.dtype)
    return gelu


def no_bias(original):
    return lambda x, linear, config: original(x, linear._replace(bias=None), config)


FAULTS = {                                                                 # name: (replace, the pass to blame)
    "windows missing": ({"vision.schedule": of_blocks(lambda full: True)}, "vision.schedule"),
    "window and full swapped": ({"vision.schedule": of_blocks(lambda full: not full)}, "vision.schedule"),
    "inverse order is the order": ({"vision.restore_order": lambda original: lambda c, order: c[order]},
                                   "vision.restore_order"),
    "rows never put in order": ({"vision.order_by_window": lambda original: lambda rows, order: rows},
                                "vision.order_by_window"),
    "h and w swapped": ({"positions.mrope": lambda original: lambda *a: original(*a)[[0, 2, 1]]}, "positions.mrope"),
    "bias dropped": ({"vision.blocks.*.project_qkv": no_bias}, "vision.blocks.0.project_qkv"),
    "not causal": ({"decoder.layers.*.attend": lambda original: lambda q, k, v, s: kernels.attend(q, k, v, s, False)},
                   "decoder.layers.0.attend"),
    "dead window": ({f"vision.blocks.{NARROW[-1]}.attend": dead_window}, f"vision.blocks.{NARROW[-1]}.attend"),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_healthy_run_is_no_more_than_rounding(golden, tmp_path, precision):
    found = judged(golden, candidate_of(tmp_path / "good.safetensors", precision))
    assert set(found.words.values()) <= {"exact", "rounding"} and found.first_bad is None
    assert not found.warnings and not found.untapped


def test_a_golden_trace_is_exactly_itself(golden):
    assert set(judged(golden, golden.path).words.values()) == {"exact"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_first_bad_tap_is_the_faulty_pass(golden, tmp_path, name, precision):
    replace, blamed = FAULTS[name]
    found = judged(golden, candidate_of(tmp_path / "bad.safetensors", precision, replace))
    assert found.first_bad == blamed and found.words[blamed] == WRONG
    assert found.suspects == [blamed]


def test_a_gelu_by_tanh_is_seen_in_float32(golden, tmp_path):
    """Its error is smaller than one rounding to bfloat16."""
    found = judged(golden, candidate_of(tmp_path / "bad.safetensors", "float32", {"kernel.gelu": tanh_gelu}))
    assert found.first_bad == "vision.merge_2x2"


def test_angles_rounded_to_bfloat16_are_suspicious_in_bfloat16_too(golden, tmp_path):
    def rounded(original):
        return lambda *args: original(*args).astype(ml_dtypes.bfloat16).astype(np.float32)
    path = candidate_of(tmp_path / "bad.safetensors", "bfloat16", {"decoder.angles": rounded})
    found = judged(golden, path)
    assert found.first_bad == "decoder.angles" and found.words["decoder.angles"] in (SUSPICIOUS, WRONG)


NINE = ("vision.embed_patches", "vision.blocks.0.add_mlp", "vision.blocks.1.add_mlp", "vision.restore_order",
        "decoder.place_features", "decoder.layers.0.add_mlp", "decoder.layers.1.add_mlp", "decoder.normalise",
        "decoder.logits")


@pytest.mark.parametrize("name", FAULTS)
def test_with_few_taps_the_fault_is_in_the_interval(golden, tmp_path, name):
    replace, blamed = FAULTS[name]
    found = judged(golden, candidate_of(tmp_path / "nine.safetensors", "float32", replace, Selection(NINE)))
    assert blamed in found.suspects
    assert found.first_bad in NINE and len(found.suspects) < len(golden.stages) / 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["window and full swapped", "bias dropped", "dead window", "not causal"])
def test_local_names_all_guilty_stages_and_no_other(golden, tmp_path, name, precision):
    replace, blamed = FAULTS[name]
    path = candidate_of(tmp_path / "bad.safetensors", precision, replace,
                        Selection(tuple(key for key in golden.stages if key != "vision.schedule")))
    candidate = read_candidate(path, golden)
    with local_golden(VLM, golden, candidate) as local:
        found = compare(local, candidate)
    bad = {key for key, word in found.words.items() if word in (SUSPICIOUS, WRONG)}
    part, count = ("decoder.layers", VLM.config.text.num_hidden_layers) if name == "not causal" else \
        ("vision.blocks", VLM.config.vision.depth)
    stage = blamed.rpartition(".")[2] if name != "window and full swapped" else "attend"
    assert bad == ({blamed} if name == "dead window" else {f"{part}.{n}.{stage}" for n in range(count)})


def test_local_needs_the_inputs_and_the_same_checkpoint(golden, tmp_path):
    path = tmp_path / "private.safetensors"
    record(VLM, MESSAGES, path, Selection(pixels=False))
    with Trace(path) as private, pytest.raises(TraceError, match="record the golden trace without --no-pixels"), \
            local_golden(VLM, private, read_candidate(golden.path, private)):
        pass
    golden.facts["checkpoint"]["config.json"], kept = "another", golden.facts["checkpoint"]["config.json"]
    with pytest.raises(TraceError, match="another checkpoint"), local_golden(VLM, golden, read_candidate(path, golden)):
        pass
    golden.facts["checkpoint"]["config.json"] = kept


# ---- where in the array ---------------------------------------------------------------------------------------

def test_a_dead_window_is_named_with_its_place_in_the_picture(golden, tmp_path):
    replace, blamed = FAULTS["dead window"]
    found = judged(golden, candidate_of(tmp_path / "bad.safetensors", "float32", replace))
    by = {row.by: row for row in found.slices[blamed]}
    assert (by["windows"].places, by["windows"].text) == (1, "1")
    assert f"(pixels x {SIDE}..{2 * SIDE}, y 0..{SIDE})" in by["picture 0"].text


@given(st.integers(0, 5), st.integers(0, 2), st.integers(0, 8))
def test_slices_find_row_head_and_channel(row, head, channel):
    exact = np.ones((12, 6, 18))
    other = exact.copy()
    other[row, head, channel] = 9
    found = {one.by: one.text for one in slices(other, exact, "w a e", {})}
    assert found == {"rows w": str(row), "query heads": str(head), "channels of a head": str(channel)}
    assert slices(exact + 1, exact, "w a e", {}) == []                     # everywhere is nowhere


def test_windows_of_cells_are_a_quarter_of_those_of_patches():
    exact = np.ones((12, 3))
    other = exact.copy()
    other[4:8] = 2
    at = {"c": np.zeros((12, 4, 4), np.int64)}
    segments = np.array([[0, 16, 0, 16], [16, 32, 16, 32], [32, 48, 32, 48]])
    found = {one.by: one.text for one in slices(other, exact, "c o", at, segments)}
    assert found["windows"] == "1" and found["rows c"] == "4..7"


def test_the_yardstick_takes_the_liberties_of_others(golden, tmp_path):
    """Its attention rounds scores and probabilities as well; ours does not, and stays well below it."""
    found = judged(golden, candidate_of(tmp_path / "good.safetensors", "bfloat16"))
    row = next(row for row in found.judged if row.key == "vision.blocks.0.attend")
    assert row.yard.error > 1.02 * row.measure.error
    row = next(row for row in found.judged if row.key == "decoder.angles")
    assert row.yard.error > 0 and row.word == "exact"


def test_ranges_read_as_runs():
    assert ranges(np.array([0, 1, 2, 7, 9, 10])) == "0..2, 7, 9..10"
    assert ranges(np.arange(0, 20, 2), most=2) == "0, 2 and 8 more"


# ---- command line ------------------------------------------------------------------------------------

def minivl_says(capsys, *words) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        app(list(map(str, words)))
    return left.value.code, capsys.readouterr().out


def test_exit_codes_and_baseline(golden, tmp_path, capsys):
    good = candidate_of(tmp_path / "good.safetensors")
    bad = candidate_of(tmp_path / "bad.safetensors", replace=FAULTS["dead window"][0])
    code, said = minivl_says(capsys, "diff", golden.path, good)
    assert code == 0 and "no difference beyond rounding" in said
    known = tmp_path / "known.json"
    code, said = minivl_says(capsys, "diff", golden.path, bad, "--write-baseline", known)
    assert code == 1 and f"first bad tap: {FAULTS['dead window'][1]}" in said
    assert minivl_says(capsys, "diff", golden.path, bad, "--baseline", known)[0] == 0
    worse = candidate_of(tmp_path / "worse.safetensors", replace=FAULTS["h and w swapped"][0])
    assert minivl_says(capsys, "diff", golden.path, worse, "--baseline", known)[0] == 1
    assert minivl_says(capsys, "diff", golden.path, tmp_path / "nothing.npz")[0] == 2
    code, said = minivl_says(capsys, "diff", golden.path, bad, "--json", "--local")
    assert code == 1 and json.loads(said)["local"] and json.loads(said)["first_bad"] == FAULTS["dead window"][1]


@pytest.mark.parametrize(("option", "text", "said"), [
    ("--html", None, "none/a.html: its folder is not there"), ("--write-baseline", None, "its folder is not there"),
    ("--guess", None, "its folder is not there"), ("--html", "", "ends in .html or .htm"),
    ("--baseline", "a,b", "a.json: not valid JSON"), ("--baseline", '{"a": 1}', "give what --write-baseline wrote"),
    ("--names", "a,b", "a.json: not valid JSON"), ("--names", '{"a": 1}', "map their names to labels")])
def test_what_diff_cannot_read_or_write_is_told_by_its_name(golden, tmp_path, capsys, monkeypatch, option, text, said):
    monkeypatch.setattr("minivl.cli.trace.compare", lambda *a: pytest.fail("it ran"))
    path = tmp_path / ("a.json" if text is not None else "none/a.html")
    if text:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        app(["diff", str(golden.path), str(golden.path), option, str(path)])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("words", "over"), [
    (["diff", "g.safetensors", "c.npz", "--guess", "g.safetensors"], "g.safetensors"),
    (["diff", "g.safetensors", "c.npz", "--guess", "./c.npz"], "c.npz"),
    (["diff", "g.safetensors", "c.npz", "--names", "n.json", "--write-baseline", "n.json"], "n.json"),
    (["diff", "g.safetensors", "c.npz", "--junit", "c.npz"], "c.npz"),
    (["trace", "import", "c.npz", "--golden", "g.safetensors", "-o", "g.safetensors"], "g.safetensors"),
    (["trace", "fingerprint", "g.safetensors", "-o", "g.safetensors"], "g.safetensors"),
    (["trace", "record", "p.png", "What?", "-o", "p.png"], "p.png"), (["parse", "p.png", "-o", "p.png"], "p.png")])
def test_what_is_read_is_not_written_over(tmp_path, capsys, monkeypatch, words, over):
    monkeypatch.chdir(tmp_path)
    for name in ("g.safetensors", "c.npz", "n.json", "p.png"):
        (tmp_path / name).write_bytes(b"as it was")
    with pytest.raises(SystemExit) as left:
        app(words)
    assert left.value.code == 2 and "would be written over" in capsys.readouterr().err
    assert (tmp_path / over).read_bytes() == b"as it was"


@pytest.mark.parametrize(("words", "said"), [
    (["g.safetensors", "c.npz", "--names", "none.json"], "no such file; name a table"),
    (["g.safetensors", "c.npz", "--baseline", "none.json"], "no such file; --write-baseline makes one"),
    (["c.npz", "g.safetensors"], "c.npz: is a dump, and here a trace is read")])
def test_a_remedy_is_that_of_the_file_that_is_missing(golden, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    shutil.copy(golden.path, "g.safetensors")
    np.savez("c.npz", x=np.zeros((3, 4), np.float32))
    with pytest.raises(SystemExit) as left:
        app(["diff", *words])
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_record_and_show_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    code, _ = minivl_says(capsys, "trace", "record", "-o", out, "--select", "vision.blocks.*", "--layers", "0-1",
                          "--rows", "w=0,2-3", "--yardstick", "float32")
    assert code == 0
    code, said = minivl_says(capsys, "trace", "show", out, "*.attend", "--json")
    found = json.loads(said)
    assert [stage["key"] for stage in found["stages"]] == ["vision.blocks.0.attend", "vision.blocks.1.attend"]
    assert minivl_says(capsys, "trace", "record", "-o", out, "--rows", "q=1")[0] == 2
    assert minivl_says(capsys, "trace", "record", "-o", out, "--from", "elsewhere")[0] == 2


@pytest.mark.parametrize(("words", "said"), [
    (["--layers", "99"], "layer 99 is asked for; the tower has"), (["--layers", "0,99"], "layer 99 is asked for"),
    (["--layers", "3-1"], "no list of numbers"), (["-o", "folder"], "folder: is a folder"),
    (["-o", "none/a.safetensors"], "none/a.safetensors: its folder is not there")])
def test_a_record_that_could_not_be_written_is_refused_before_the_run(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minivl.truth.trace.record.taker", lambda *a: pytest.fail("it ran"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as left:
        app(["trace", "record", "-o", "a.safetensors", *words])
    assert left.value.code == 2 and said.replace("/", os.sep) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_layers_that_no_model_has_are_refused_in_a_program_too(tmp_path):
    with pytest.raises(ValueError, match="layer 99 is asked for"):
        record(VLM, MESSAGES, tmp_path / "a.safetensors", Selection(layers=(99,)))


def test_the_answer_can_be_part_of_the_prompt(tmp_path):
    record(VLM, MESSAGES, tmp_path / "a.safetensors", Selection(("prompt.*", "decoder.logits")), answer=3)
    with Trace(tmp_path / "a.safetensors") as trace:
        (ids,) = trace.arrays("prompt.expand")
        assert len(ids) > len(VLM.prepare(MESSAGES).input_ids)


def test_the_report_is_json_even_of_infinity(golden, tmp_path):
    path = candidate_of(tmp_path / "bad.safetensors", replace={
        "vision.blocks.0.attend": lambda original: lambda *args: original(*args) * np.float32(np.nan)})
    with np.errstate(all="ignore"):
        found = judged(golden, path)
    assert found.first_bad == "vision.blocks.0.attend"
    json.dumps(report.document(found), allow_nan=False)
    assert any("not finite" in line for line in report.headline(found))


def test_no_function_is_long():
    for path in Path(comparing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 45, (path.name, node.name)

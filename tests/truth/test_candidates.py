"""Candidates that run: bisected at their cuts, shadowed, and their prompts reduced. The truth is what was planted.

All on the embedded model, whatever its sizes are, without PyTorch; torch modules are in
`oracle/test_candidates_oracle.py`.
"""

import json
import sys
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import minivl
import minivl.passes.windows
from minivl.cli import words as cli
from minivl.show.samples import load_samples
from minivl.truth import museum as faults
from minivl.truth.candidates.bisect import CRASHED, bisect, healer
from minivl.truth.candidates.engine import Engine, flat, grouped
from minivl.truth.candidates.judge import END, golden_of
from minivl.truth.candidates.load import as_candidate
from minivl.truth.candidates.ours import Ours
from minivl.truth.candidates.reduce import reduce
from minivl.truth.candidates.runnable import LOGITS, CandidateError, Checked
from minivl.truth.candidates.scene import digest, messages_of, scene_of, simpler, size_of
from minivl.truth.candidates.shadow import shadow, shadow_passes
from minivl.truth.candidates.smallest import write
from minivl.truth.museum import cases
from minivl.truth.trace.format import Trace, TraceError
from minivl.truth.trace.record import Selection, record

VLM = minivl.load()
DEPTH, LAYERS = VLM.config.vision.depth, VLM.config.text.num_hidden_layers
FULL = VLM.config.vision.fullatt_block_indexes
NARROW = [n for n in range(DEPTH) if n not in FULL]
TOWER, DECODER = "vision.blocks.{}.add_mlp", "decoder.layers.{}.add_mlp"
SPLIT = cases.Case("two windows and text behind", lambda vlm: [cases.user(cases.picture(
    cases.side(vlm), 2 * cases.side(vlm)))])


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden trace of a case, recorded once."""
    known = {}

    def of(case):
        if case.name not in known:
            path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
            record(minivl.load(precision="float64"), case.build(VLM)[0], path, yardsticks=("float32",))
            known[case.name] = Trace(path)
        return known[case.name]
    return of


def table(*names):
    """Several faults together, each under its own label."""
    return {label: wrap for name in names for label, wrap in faults.get(name).table().items()}


def bisected(trace, candidate):
    return bisect(trace, Checked(candidate, "mine"), healer(VLM, trace))


# ---- bisect --------------------------------------------------------------------------------------------------------

PLANTED = [
    (("order-not-inverted",), cases.ragged, ["vision.restore_order"]),
    (("gelu-by-tanh",), cases.cell, ["vision.restore_order"]),
    (("text-after-picture-off-by-one",), cases.cell, ["positions.mrope"]),
    (("placeholders-mixed",), cases.video_first, ["decoder.place_features"]),
    (("nan-from-a-masked-row",), SPLIT, [TOWER.format(n) for n in NARROW[::-1]]),
    (("qkv-bias-dropped",), cases.text, [DECODER.format(n) for n in reversed(range(LAYERS))]),
    (("head-not-tied", "order-not-inverted"), cases.ragged, [END, "vision.restore_order"]),
    (("windows-missing", "height-and-width-swapped"), SPLIT, [TOWER.format(n) for n in NARROW[::-1]]
     + ["positions.mrope"]),
]


@pytest.mark.parametrize(("names", "case", "until"), PLANTED, ids=[" and ".join(row[0]) for row in PLANTED])
def test_every_guilty_stretch_is_named_the_last_one_first(golden, names, case, until):
    found = bisected(golden(case), Ours(VLM, table(*names)))
    assert [one.until for one in found.guilty] == until and found.settled
    named = [name for one in found.guilty for name in one.passes]
    for name in names:                                    # the pass at fault is among those of a stretch
        leaves = faults.get(name).leaves
        assert any(fnmatchcase(label, leaf) for label in named for leaf in leaves), name
    assert found.trials[0].cut is None and found.trials[0].runs == 0 and found.trials[0].word in ("wrong", "suspicious")
    assert sum(trial.runs for trial in found.trials) + 2 == found.runs          # two tell whether it repeats itself


def test_a_search_is_a_binary_one(golden):
    trace = golden(cases.cell)
    found = bisected(trace, Ours(VLM, table("gelu-by-tanh")))
    first_round = [trial for trial in found.trials if not trial.healed and trial.cut]
    assert len(first_round) <= np.ceil(np.log2(len(found.cuts) + 1))


def test_a_candidate_without_fault_is_clean(golden):
    found = bisected(golden(SPLIT), Ours(VLM))
    assert found.settled and not found.guilty and found.runs == 2 and not found.notes


class Half:
    """A candidate of which something is taken away."""

    def __init__(self, inner, at=(), silent=False, noise=0.0):
        self.inner, self.at, self.silent, self.noise = inner, at, silent, noise
        self.random = np.random.default_rng(0)

    def cuts(self):
        return self.inner.cuts()

    def run(self, inputs, given):
        if given and list(given)[-1] in self.at:
            raise RuntimeError("no entry")
        made = self.inner.run(inputs, given)
        logits = made[LOGITS] * (1 + self.noise * self.random.standard_normal(made[LOGITS].shape))
        return {LOGITS: logits} if self.silent else {**made, LOGITS: logits}


def test_where_it_crashes_when_entered_the_stretch_spans_that_cut(golden):
    at = [TOWER.format(DEPTH - 1), TOWER.format(DEPTH - 2)]
    found = bisected(golden(cases.ragged), Half(Ours(VLM, table("order-not-inverted")), at))
    (one,) = found.guilty
    assert one.until == "vision.restore_order" and set(one.skipped) <= set(at) and one.skipped and found.settled
    crashed = [trial for trial in found.trials if trial.word == CRASHED]
    assert crashed and all(trial.note == "RuntimeError: no entry" for trial in crashed)


def test_without_values_to_read_the_last_stretch_is_named_and_the_end_is_told(golden):
    found = bisected(golden(cases.ragged), Half(Ours(VLM, table("head-not-tied", "order-not-inverted")), silent=True))
    assert [one.until for one in found.guilty] == [END] and not found.settled
    assert "run gives no value at " + DECODER.format(LAYERS - 1) in found.notes[-1]


def test_a_candidate_that_does_not_repeat_itself(golden):
    fault = Ours(VLM, table("order-not-inverted"))
    found = bisected(golden(cases.ragged), Half(fault, noise=1e-8))
    assert [one.until for one in found.guilty] == ["vision.restore_order"]
    assert "two runs on the same inputs are" in found.notes[0]
    with pytest.raises(CandidateError, match="cannot be bisected before it repeats itself"):
        bisected(golden(cases.ragged), Half(fault, noise=1e-2))


def test_cuts_that_are_not_there_are_told(golden, tmp_path):
    mine = Ours(VLM, table("order-not-inverted"), ["vision.restore_order", "vision.blocks.99.add_mlp"])
    found = bisected(golden(cases.ragged), mine)
    assert found.cuts == ["vision.restore_order"] and "vision.blocks.99.add_mlp" in found.notes[0]
    assert [(one.after, one.until) for one in found.guilty] == [(None, "vision.restore_order")]
    with pytest.raises(CandidateError, match="none of its 1 cuts"):
        bisected(golden(cases.ragged), Ours(VLM, {}, ["layer3"]))


@pytest.mark.parametrize(("candidate", "said"), [
    (object(), "without cuts and run"),
    (type("C", (), {"cuts": lambda s: None, "run": lambda s, i, g: {}})(), "cuts.. gave None"),
    (type("C", (), {"cuts": lambda s: 1 / 0, "run": lambda s, i, g: {}})(), "cuts.. raised ZeroDivisionError"),
    (type("C", (), {"cuts": lambda s: sys.exit(3), "run": lambda s, i, g: {}})(), "cuts.. raised SystemExit: 3"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: {LOGITS: np.float32(1)}})(),
     r"gave shape \[\]"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: {LOGITS: [[1], [2, 3]]}})(),
     "logits is a list of 2"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: {1: 2}})(), "run gave 1"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: sys.exit(3)})(),
     "does not run on the golden inputs: SystemExit: 3"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: [1]})(), "run gave a list"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: {"out": 1}})(), "run gave out"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"], "run": lambda s, i, g: 1 / 0})(),
     "does not run on the golden inputs: ZeroDivisionError"),
    (type("C", (), {"cuts": lambda s: "vision", "run": lambda s, i, g: {}})(), "list of labels"),
    (type("C", (), {"precision": "int3", "cuts": lambda s: [], "run": lambda s, i, g: {}})(), "precision is 'int3'"),
    (type("C", (), {"cuts": lambda s: ["vision.restore_order"],
                    "run": lambda s, i, g: {LOGITS: np.zeros((2, 3))}})(), r"gave shape \[2, 3\]")])
def test_what_is_no_candidate_is_refused(golden, candidate, said):
    with pytest.raises(CandidateError, match=said):
        bisected(golden(cases.ragged), candidate)


def test_a_trace_that_cannot_be_run_from_is_refused(tmp_path):
    path = tmp_path / "few.safetensors"
    record(VLM, cases.cell.build(VLM)[0], path, Selection(("vision.*",), pixels=False))
    with Trace(path) as trace, pytest.raises(TraceError, match="lacks its inputs.*the logits"):
        bisected(trace, Ours(VLM))


# ---- shadow --------------------------------------------------------------------------------------------------------

def test_functions_for_stages_are_shadowed_from_the_picture_on():
    def gelu(x):                                          # by its tanh
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
    right = minivl.passes.windows.window_order.definition
    mine = Ours.of_functions(VLM, {"kernel.gelu": gelu, "vision.window_order": right,
                                   "positions.mrope": lambda ids, *rest: np.zeros((3, len(ids)), np.int64)})
    found = shadow_passes(VLM, cases.cell.build(VLM)[0], mine.table)
    assert set(found.errors) == {"vision.merge_2x2", "positions.mrope"} and "vision.window_order" in found.compared


def test_a_candidate_that_computes_on_is_shadowed_at_its_cuts(golden):
    mine = Ours(VLM, table("windows-missing", "head-not-tied"))
    found = shadow(golden(SPLIT), Checked(mine, "mine"), VLM)
    assert set(found.errors) == {TOWER.format(n) for n in NARROW} | {END} and not found.silent
    assert not shadow(golden(SPLIT), Checked(Ours(VLM), "mine"), VLM).errors
    with pytest.raises(CandidateError, match="use `minivl bisect`"):
        shadow(golden(SPLIT), Checked(Half(mine, silent=True), "mine"), VLM)


class Shaped:
    """A candidate whose values come in another shape: {name: function of the right value}."""

    def __init__(self, inner, table):
        self.inner, self.table = inner, table

    def cuts(self):
        return self.inner.cuts()

    def run(self, inputs, given):
        made = self.inner.run(inputs, given)
        return {name: self.table.get(name, lambda value: value)(value) for name, value in made.items()}


def test_a_value_that_cannot_be_measured_is_told_why(golden):
    trace = golden(SPLIT)
    mine = Shaped(Ours(VLM), {LOGITS: lambda a: a[-1:], "vision.restore_order": lambda a: np.zeros((3, 3), np.float32),
                              TOWER.format(0): lambda a: a * np.nan, "decoder.place_features": lambda a: a[0, 0]})
    found = shadow(trace, Checked(mine, "mine"), VLM)
    shape = {key: list(trace.arrays(key)[0].shape) for key in (END, "vision.restore_order", "decoder.place_features")}
    assert found.failures == {
        END: f"shape [1, {shape[END][1]}], ours {shape[END]}",
        "vision.restore_order": f"shape [3, 3], ours {shape['vision.restore_order']}",
        "decoder.place_features": f"shape [], ours {shape['decoder.place_features']}",
        TOWER.format(0): "gave a number that is not finite"}


def test_only_what_came_from_the_table_counts_as_compared():
    same = minivl.passes.windows.restore_order.definition
    prompt = cases.cell.build(VLM)[0]
    mine = Ours.of_functions(VLM, {"vision.restore_order": same, "video.resize": same})
    found = shadow_passes(VLM, prompt, mine.table)
    assert found.compared == ["vision.restore_order"] and not found.errors
    assert found.notes == ["this run never came to video.resize"]
    found = shadow_passes(VLM, prompt, Ours.of_functions(VLM, {"kernel.gelu": lambda x: sys.exit(4)}).table)
    assert found.compared == ["vision.merge_2x2"] and found.failures == {"vision.merge_2x2": "it called sys.exit(4)"}
    for table, said in [({}, "replaces no pass"), ({"video.resize": same}, "never came to video.resize"),
                        ({"vision": same}, "vision is made of other stages")]:
        with pytest.raises(CandidateError, match=said):
            shadow_passes(VLM, prompt, Ours.of_functions(VLM, table).table)


# ---- reduce --------------------------------------------------------------------------------------------------------

def large(*more):
    """A prompt with more of everything than any fault needs."""
    side = cases.side(VLM)
    return cases.user(cases.picture(side + 1, 2 * side + 1), cases.said("and here"), *more)


REDUCED = ["text-after-picture-off-by-one", "windows-missing", "order-not-inverted", "picture-padded-to-square",
           "second-picture-as-text", "qkv-bias-dropped"]


@pytest.mark.parametrize("name", REDUCED)
def test_a_reduced_prompt_is_no_larger_than_the_museums(name):
    fault = faults.get(name)
    least = size_of(scene_of(fault.shows.build(VLM)[0]))
    more = [cases.picture(1, 2)] if name == "second-picture-as-text" else []
    found = reduce(VLM, Checked(Ours(VLM, fault.table()), "mine"), large(*more))
    last = size_of(found.scene)
    assert found.whole and all(a <= b for a, b in zip(last, least, strict=True)), (last, least)
    assert last < found.first and found.steps


def test_a_video_loses_frames_and_keeps_what_it_needs():
    fault = faults.get("video-in-one-moment")
    found = reduce(VLM, Checked(Ours(VLM, fault.table()), "mine"), cases.user(cases.video(4, 1, 2, 2.0)))
    assert size_of(found.scene)[:4] == (1, 4, 1, 0)


def test_reducing_is_deterministic_and_stays_with_its_bug():
    """A prompt whose inputs differ is never reduced to one whose logits do."""
    def once():
        mine = Ours(VLM, table("text-after-picture-off-by-one", "qkv-bias-dropped"))
        return reduce(VLM, Checked(mine, "mine"), large())
    first, again = once(), once()
    assert first.failure.kind == "inputs" and digest(first.scene) == digest(again.scene)
    assert [step.text for step in first.steps] == [step.text for step in again.steps]
    assert size_of(first.scene).media == 1


def test_no_step_makes_a_scene_larger():
    scene = scene_of(large(cases.video(2, 2, 1, 2.0)))
    size = size_of(scene)
    steps = list(simpler(scene))
    assert len({digest(one) for _, one in steps}) > 20 and digest(scene) not in {digest(one) for _, one in steps}
    assert all(all(a <= b for a, b in zip(size_of(one), size, strict=True)) for _, one in steps)
    assert digest(scene_of(messages_of(scene))) == digest(scene)


def test_a_candidate_that_does_not_fail_is_not_reduced():
    assert reduce(VLM, Checked(Ours(VLM), "mine"), large()) is None
    with pytest.raises(ValueError, match="2 messages"):
        reduce(VLM, Checked(Ours(VLM), "mine"), [*large(), {"role": "assistant", "content": "a"}])


def test_one_of_a_thing_is_told_in_the_singular():
    scene = scene_of(cases.user(cases.picture(2, 1), cases.said("a")))
    assert str(size_of(scene)).startswith("1 medium, 1 frame, 2 cells, 4 words, ")
    steps = [text for text, _ in simpler(scene)]
    assert "item 0: without its first row of cells" in steps and not [text for text in steps if "1 rows" in text]


@pytest.mark.parametrize("raised", [ZeroDivisionError(), SystemExit(5)])
def test_a_pass_that_raises_is_reduced_and_leaves_no_trace_of_its_own(tmp_path, raised):
    def restore(*args):
        raise raised
    mine = Checked(as_candidate({"vision.restore_order": restore}, VLM), "mine")
    found = reduce(VLM, mine, cases.cell.build(VLM)[0], most=2)
    assert found.failure.text.startswith(type(raised).__name__)
    assert write(found, VLM, mine, tmp_path / "a") == ["golden.safetensors", "item-0.png", "prompt.json"]


def test_trials_that_run_out_are_told(tmp_path):
    mine = Checked(Ours(VLM, table("order-not-inverted")), "mine")
    found = reduce(VLM, mine, large(), most=3)
    assert not found.whole and found.trials == 3
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not empty"):
        write(found, VLM, mine, tmp_path / "there")


# ---- programs ------------------------------------------------------------------------------------------------------

PROGRAM = '''
import sys
import numpy as np
import minivl
from minivl import faults
from minivl.truth.candidates.engine import flat, grouped, write
from minivl.truth.candidates.ours import Ours
from minivl.truth.compare.importers import read_arrays
from pathlib import Path
mine = Ours(minivl.load(), faults.get("order-not-inverted").table(), ["vision.restore_order", "decoder.place_features"])
if sys.argv[1] == "cuts":
    print(*mine.cuts(), sep="\\n")
elif sys.argv[1] == "run":
    asked = {name: np.array(array) for name, array in read_arrays(Path(sys.argv[2])).items()}
    part = lambda word: {n.removeprefix(word): a for n, a in asked.items() if n.startswith(word)}
    write(Path(sys.argv[3]), flat(mine.run(part("inputs."), grouped(part("given.")))))
'''


@contextmanager
def program(tmp_path, text):
    path = tmp_path / "engine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(minivl.__file__).parent.parent))
        yield f'"{sys.executable}" "{path}"'


@pytest.mark.parametrize("exchange", ["safetensors", "npz"])
def test_a_program_is_bisected_through_files(golden, tmp_path, exchange):
    with program(tmp_path, PROGRAM) as words:
        found = bisected(golden(cases.ragged), Engine(words, exchange=exchange))
    assert [(one.after, one.until) for one in found.guilty] == [(None, "vision.restore_order")] and found.settled


def test_a_program_that_fails_is_told(golden, tmp_path):
    text = "import sys\nprint('vision.restore_order')\nif sys.argv[1] == 'run': sys.exit('no such kernel')"
    with program(tmp_path, text) as words, pytest.raises(CandidateError, match="ended with code 1: no such kernel"):
        bisected(golden(cases.ragged), Engine(words))
    with program(tmp_path, "import sys; sys.exit('busy')") as words, pytest.raises(CandidateError, match="busy; asked"):
        Engine(words).cuts()
    text = "print('vision.restore_order')"
    with program(tmp_path, text) as words, pytest.raises(CandidateError, match="wrote no out"):
        bisected(golden(cases.ragged), Engine(words))
    with pytest.raises(CandidateError, match="no such program"):
        Engine("a-program-that-is-not-there").cuts()
    with pytest.raises(CandidateError, match="--command is .*: no closing quotation"):
        Engine("'unclosed")
    with pytest.raises(CandidateError, match="--exchange 'zip'"):
        Engine("a", exchange="zip")


def test_arrays_of_one_stage_travel_together():
    values = {"a": np.zeros(2), "b": (np.ones(1), np.ones(3)), LOGITS: np.zeros((1, 2))}
    again = grouped(flat(values))
    assert again.keys() == values.keys() and isinstance(again["b"], tuple)
    assert all(np.array_equal(x, y) for x, y in zip(again["b"], values["b"], strict=True))


# ---- commands ------------------------------------------------------------------------------------------------------

def command(*words, code=0):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout, result.stderr


MINE = '''
from minivl import faults, load
from minivl.truth.candidates.ours import Ours

fault = faults.get("order-not-inverted")
functions = {"vision.restore_order": lambda cells, order: cells}
whole = Ours(load())

def made():
    return {"vision.restore_order": lambda cells, order: cells}

broken = 7
nosuch = {"vision.nosuch": lambda *a: a}
empty = {}
tables = type("T", (), {"table": lambda self: {}})()
raising = type("T", (), {"table": lambda self: 1 / 0})()
modules = type("T", (), {"named_modules": lambda self: []})()
frames = {"video.resize": lambda *a: a}
some = {**functions, **frames}

def ends():
    raise SystemExit(7)
'''


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_bisect_on_the_command_line(golden, mine):
    path = golden(cases.ragged).path
    out = command("bisect", path, "--candidate", f"{mine}:fault", code=1)[0]
    assert "guilty stretches: 1" in out and "up to vision.restore_order" in out and "with these healed" in out
    found = json.loads(command("bisect", path, "--candidate", f"{mine}:made", "--json", code=1)[0])
    assert [one["until"] for one in found["guilty"]] == ["vision.restore_order"] and found["verdict"] == "guilty"
    assert set(found["trials"][0]) == {"cut", "healed", "word", "ratio", "runs", "note"}
    assert "clean" in command("bisect", path, "--candidate", f"{mine}:whole")[0]
    for words, said in [(["--candidate", f"{mine}:broken"], "without cuts and run"), ([], "name one candidate"),
                        (["--candidate", f"{mine}:nobody"], "has no nobody"), (["--candidate", "mine"], "FILE.py:NAME"),
                        (["--candidate", "there-is-none.py:a"], "no such file"),
                        (["--fault", "gelu-by-tanh", "--precision", "float32"], "--precision is for --command"),
                        (["--candidate", f"{mine}:made", "--exchange", "npz"], "--exchange is for --command"),
                        (["--command", "'unclosed"], "--command is \"'unclosed\": no closing quotation"),
                        (["--candidate", f"{mine}:nosuch"], "no stage is called vision.nosuch"),
                        (["--candidate", f"{mine}:empty"], "table is empty"),
                        (["--candidate", f"{mine}:tables"], "table is empty"),
                        (["--candidate", f"{mine}:raising"], "raised ZeroDivisionError"),
                        (["--candidate", f"{mine}:modules"], "raised AttributeError"),
                        (["--candidate", f"{mine}:ends"], "SystemExit: 7"),
                        (["--candidate", f"{mine}:frames"], "never came to video.resize")]:
        out, err = command("bisect", path, *words, code=2)
        assert said in err and err.count("\n") == 1 and not out


def test_a_file_that_ends_the_program_is_told(tmp_path):
    path = tmp_path / "ends.py"
    path.write_text("import sys\nsys.exit(5)\n", encoding="utf-8")
    assert "ends.py: SystemExit: 5" in command("shadow", "--candidate", f"{path}:a", code=2)[1]


def test_a_table_of_which_a_part_is_never_reached(golden, mine, tmp_path):
    for words in (["shadow"], ["bisect", golden(cases.ragged).path]):
        assert "note: this run never came to video.resize" in command(*words, "--candidate", f"{mine}:some", code=1)[0]
    for words in (["shadow"], ["reduce", "-o", tmp_path / "a"]):
        for name, said in [("nosuch", "no stage is called vision.nosuch"), ("empty", "table is empty"),
                           ("frames", "never came to video.resize")]:
            assert said in command(*words, "--candidate", f"{mine}:{name}", code=2)[1]
    assert "(float32): 1 stage compared in one run" in command("shadow", "--candidate", f"{mine}:made", code=1)[0]


def test_a_place_that_cannot_be_written_is_told_before_the_work(mine, tmp_path, monkeypatch):
    monkeypatch.setattr("minivl.cli.candidate.open_model", lambda model: pytest.fail("the work has begun"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for place, said in [(mine, "is a file"), (mine / "a", "is no folder"), (tmp_path / "b" / "a", "is no folder"),
                        (".", "the folder in which this runs"), (tmp_path, "is there and is not empty")]:
        err = command("reduce", "--candidate", f"{mine}:fault", "-o", place, code=2)[1]
        assert said in err and f"minivl: {place}" in err

    def refuse(**options):
        raise PermissionError(13, "Permission denied", "/somewhere/.a.tmp")
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    err = command("reduce", "--candidate", f"{mine}:fault", "-o", tmp_path / "c", code=2)[1]
    assert err == f"minivl: {tmp_path / 'c'} cannot be made: Permission denied\n"


PAGE = Path(__file__).parent.parent.parent / "docs" / "guide" / "when-the-candidate-runs.md"


def test_the_example_of_the_page_works(golden, tmp_path):
    (text,) = [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:]
               if "class Wrong" in part]
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    out = command("bisect", golden(cases.ragged).path, "--candidate", f"{path}:Wrong", code=1)[0]
    assert "after the inputs, up to vision.restore_order" in out and "with these healed" in out
    assert "use `minivl bisect`" in command("shadow", "--candidate", f"{path}:Wrong", code=2)[1]


def test_shadow_on_the_command_line(mine):
    found = json.loads(command("shadow", "--candidate", f"{mine}:functions", "--json", code=1)[0])
    assert list(found["errors"]) == ["vision.restore_order"]
    out = command("shadow", "--fault", "gelu-by-tanh", code=1)[0]
    assert "guilty stages: 1" in out and "vision.merge_2x2" in out
    frames = next(sample.paths for sample in load_samples() if sample.fps)[:4]
    out = command("shadow", *frames, "What happens?", "--fps", "1", "--fault", "seconds-per-grid-ignored", code=1)[0]
    assert "guilty stages: 1" in out and "positions.ticks" in out


def test_reduce_on_the_command_line_leaves_what_diff_takes(mine, tmp_path):
    picture, side = tmp_path / "ragged.png", cases.side(VLM)
    Image.fromarray(cases.noise(cases.CELL * (side + 1), cases.CELL * (2 * side + 1))).save(picture)
    folder = tmp_path / "smallest"
    out = command("reduce", picture, "What is in it?", "--candidate", f"{mine}:fault", "-o", folder, code=1)[0]
    assert "its logits differ" in out and str(folder / "golden.safetensors") in out
    names = {path.name for path in folder.iterdir()}
    assert names == {"golden.safetensors", "candidate.safetensors", "item-0.png", "prompt.json"}
    assert json.loads((folder / "prompt.json").read_text(encoding="utf-8"))[0]["content"][0]["image"] == "item-0.png"
    out = command("diff", folder / "golden.safetensors", folder / "candidate.safetensors", code=1)[0]
    assert "first bad tap: vision.restore_order" in out
    assert "not empty" in command("reduce", "--candidate", f"{mine}:fault", "-o", folder, code=2)[1]
    found = json.loads(command("reduce", "--candidate", f"{mine}:whole", "-o", tmp_path / "b", "--json")[0])
    assert found == {"verdict": "clean"} and not (tmp_path / "b").exists()


def test_an_object_becomes_a_candidate():
    private = faults.private(3)
    assert isinstance(as_candidate(private, VLM), Ours) and isinstance(as_candidate({"kernel.add": np.add}, VLM), Ours)
    mine = Ours(VLM)
    assert as_candidate(mine, VLM) is mine


def test_a_golden_trace_of_one_prompt_is_gone_afterwards():
    with golden_of(VLM, cases.text.build(VLM)[0], "float32") as trace:
        assert trace.precision == "float64" and trace.path.is_file()
    assert not trace.path.exists()

"""`minivl diagnose`: planted faults are named, from all taps and from nine, in float32 and below bfloat16's rounding;
what is healthy, and what the museum does not have, is none of the known.

On a small random model of windows, several kinds of blocks and shared heads. Faults written anew in PyTorch are in
`oracle/test_diagnose_oracle.py`. Read next: `test_museum_traces.py`.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint.tree import Linear
from minivl.checkpoint.weight import weight as as_weight
from minivl.cli.words import app
from minivl.door.contract import outputs
from minivl.show.samples import load_samples
from minivl.truth import museum as faults
from minivl.truth.compare.coarse import nearest
from minivl.truth.compare.importers import read_candidate
from minivl.truth.compare.taps import fitted
from minivl.truth.diagnose import diagnose, report
from minivl.truth.diagnose.evidence import Lean, akin, lean, nearer
from minivl.truth.diagnose.rank import Suspect, believed
from minivl.truth.diagnose.replay import Replay, Tapped, cut_again, tapped
from minivl.truth.diagnose.same_run import check_same_run
from minivl.truth.museum.cases import picture, said, user, video
from minivl.truth.museum.world import world
from minivl.truth.trace.conversation import conversation
from minivl.truth.trace.format import Stage, Trace, TraceError
from minivl.truth.trace.record import Selection, record

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
MESSAGES = faults.assignment("a picture for tests").messages            # ragged, not square, resized
NINE = ("vision.embed_patches", "vision.blocks.0.add_mlp", "vision.blocks.1.add_mlp", "vision.restore_order",
        "decoder.place_features", "decoder.layers.0.add_mlp", "decoder.layers.1.add_mlp", "decoder.normalise",
        "decoder.logits")


def golden_of(folder, prompt):
    path = folder / "golden.safetensors"
    record(world().on("float64", "definition"), prompt, path, yardsticks=("float32", "bfloat16"))
    return path


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    with Trace(golden_of(tmp_path_factory.mktemp("golden"), MESSAGES)) as trace:
        yield trace


def diagnosed(golden, folder, table, precision="float32", taps=None, prompt=MESSAGES):
    """What is said about a run of minivl with some passes replaced."""
    path = folder / "candidate.safetensors"
    with np.errstate(all="ignore"), minivl.session(replace=table, quiet=True):
        record(world().on(precision, "definition"), prompt, path, Selection(taps) if taps else None)
    return diagnose(world(), golden, read_candidate(path, golden))


# ---- what is named -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "precision", "taps"), [
    ("resize-with-another-cubic", "bfloat16", NINE), ("patches-in-raster-order", "float32", None),
    ("windows-wrong-at-the-edges", "bfloat16", NINE), ("text-after-picture-off-by-one", "float32", None),
    ("text-after-picture-off-by-one", "bfloat16", NINE), ("wrong-kv-head", "bfloat16", None),
    ("nan-from-a-masked-row", "float32", NINE), ("norm-plus-one", "float32", NINE)])
def test_a_fault_of_the_museum_is_named(golden, tmp_path, name, precision, taps):
    found = diagnosed(golden, tmp_path, faults.get(name).table(), precision, taps)
    assert [one.fault.name for one in found.known] == [name]
    assert found.known[0].left == 0 and not found.healthy


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(faults.FAULTS))
def test_the_whole_museum_with_nine_taps(tmp_path, name, precision):
    fault = faults.get(name)
    exact, vlm = (world().on(kind, "definition") for kind in ("float64", precision))
    with Trace(golden_of(tmp_path, fault.shows.build(exact)[0])) as golden:
        found = diagnosed(golden, tmp_path, fault.table(), precision, NINE, fault.shows.build(vlm)[0])
    assert found.healthy or name in [one.fault.name for one in found.known], report.headline(found)


def test_a_softmax_in_sixteen_bits_shows_among_numbers_of_sixteen_bits(golden, tmp_path):
    """The sum of many weights loses the small ones, which the reference's own rounding does not."""
    fault = faults.get("softmax-in-half-precision")
    found = diagnosed(golden, tmp_path, fault.table(), "bfloat16")
    assert found.comparison.first_bad == "vision.blocks.1.attend" and [one.fault for one in found.known] == [fault]


def test_a_gelu_by_tanh_leans_on_a_picture_that_is_large_enough(tmp_path):
    """What is smaller than rounding leans its way: a trace and --local say nothing."""
    prompt = user(picture(13, 13))
    with Trace(golden_of(tmp_path, prompt)) as golden:
        found = diagnosed(golden, tmp_path, faults.get("gelu-by-tanh").table(), "bfloat16", prompt=prompt)
        assert [one.fault.name for one in found.known] == ["gelu-by-tanh"] and found.comparison.first_bad is None
        assert "suspicious: " in report.headline(found)[1] and "all together lean" in report.headline(found)[1]
        assert diagnosed(golden, tmp_path, {}, "bfloat16", prompt=prompt).healthy


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_healthy_run_is_none_of_the_known(golden, tmp_path, precision):
    found = diagnosed(golden, tmp_path, {}, precision)
    assert found.healthy and found.known == []
    assert report.headline(found) == [
        "none of the known: no difference beyond rounding, and none that leans the way of a known fault"]


def keys_as_values(right):
    return lambda q, k, v, segments: right(q, k, k, segments)


def half_a_residual(right):
    return lambda x, *rest: right(x, *rest) - x / 2


@pytest.mark.parametrize(("label", "wrap"), [
    ("vision.blocks.*.attend", keys_as_values), ("decoder.layers.1.add_mlp", half_a_residual)])
@pytest.mark.parametrize("taps", [None, NINE])
def test_a_fault_that_the_museum_does_not_have_is_none_of_the_known(golden, tmp_path, label, wrap, taps):
    found = diagnosed(golden, tmp_path, {label: wrap}, "float32", taps)
    assert found.known == [] and not found.healthy
    assert report.headline(found)[0].startswith("none of the known: the first bad tap is ")


def test_a_diagnosis_is_plain_data(golden, tmp_path):
    found = report.document(diagnosed(golden, tmp_path, faults.get("mrope-interleaved").table(), taps=NINE))
    assert json.loads(json.dumps(found, allow_nan=False))["known"] == ["mrope-interleaved"]
    assert found["ranking"][0]["fault"] == "mrope-interleaved" and found["first_bad"] == "decoder.layers.0.add_mlp"


def test_two_faults_that_do_the_same_on_an_input_are_both_named(tmp_path):
    """One video and nothing else: frames that see each other are media that see each other."""
    prompt = user(video(2, 2, 2, 2.0), said("and"))
    with Trace(golden_of(tmp_path, prompt)) as golden:
        found = diagnosed(golden, tmp_path, faults.get("frames-see-each-other").table(), taps=NINE, prompt=prompt)
    assert {one.fault.name for one in found.known} == {"frames-see-each-other", "pictures-see-each-other"}
    assert "cannot be told from it on this input" in report.headline(found)[-1]


# ---- how it is weighed -----------------------------------------------------------------------------------------------

def test_nearer_counts_taps_that_one_of_both_has_wrong():
    assert nearer({"a": 100.0, "b": 0.1}, {"a": 0.1, "b": 0.1}) == pytest.approx(np.log10(400))
    assert nearer({"a": 0.1}, {"a": 100.0}) == pytest.approx(-np.log10(400))        # it predicts what is not there
    assert nearer({"a": 0.9}, {"a": 0.2}) == 0


def taps_of(**arrays):
    return {key: Tapped(Stage(key, key, axes=("s d",), arrays=(key,)), outputs(a), True) for key, a in arrays.items()}


def test_what_moves_whole_rows_is_chance_as_often_as_there_are_rows():
    """A norm that rounds makes a row longer or shorter; thousands of numbers are then no thousand witnesses."""
    for seed in range(100):
        draw = np.random.default_rng(seed)
        right = draw.normal(size=(60, 500))
        way, honest = ((1e-3 * draw.normal(size=(60, 1))) * right for _ in range(2))
        runs = {"a": (right,)}, {"a": (right + way,)}, {"a": (right,)}
        assert lean(taps_of(a=right + honest), *runs).sigmas < 6
        found = lean(taps_of(a=right + way + 1e-3 * draw.normal(size=right.shape)), *runs)
        assert found.share == pytest.approx(1, abs=0.3) and found.sigmas > 6


def test_lean_finds_a_share_of_a_way_below_the_rounding():
    draw = np.random.default_rng(0)
    right, way = draw.normal(size=(2000, 32)), 1e-3 * draw.normal(size=(2000, 32))
    noise = 0.02 * draw.normal(size=right.shape)
    runs = {"a": (right,)}, {"a": (right + way,)}, {"a": (right + 0.1,)}       # all honest rounding goes up by 0.1
    found = lean(taps_of(a=right + 0.1 + way + noise), *runs)
    assert found.share == pytest.approx(1, abs=0.3) and found.sigmas > 6
    found = lean(taps_of(a=right + 0.1 + noise), *runs)
    assert abs(found.share) < 0.3
    assert lean(taps_of(a=right + noise), {"a": (right,)}, {"a": (right * (1 + 1e-7),)}, {"a": (right,)}) == Lean(0, 0)


def test_errors_are_akin_when_they_are_small_and_of_one_size():
    draw = np.random.default_rng(0)
    right = draw.normal(size=(50, 20))

    def off(size):
        return right + size * draw.normal(size=right.shape)
    for theirs, fault, wanted in ((1e-3, 1e-3, True), (1e-3, 3e-3, False), (0.5, 0.5, False), (0.0, 0.0, False)):
        wrong = {"a": (off(fault),), "b": (off(fault),)}
        taps = taps_of(a=off(theirs), b=off(theirs))
        assert akin(taps, {"a": (right,), "b": (right,)}, wrong, ["a", "b"]) == wanted
    assert not akin(taps_of(a=right), {"a": (right,)}, {}, ["a"]) and not akin({}, {}, {}, [])


def test_only_a_clear_first_is_believed():
    def one(name, nearer, akin=False):
        return Suspect(faults.get(name), nearer, 0, 1, ("a", 10.0, 1.0), None, akin)
    a, b, c = one("gelu-by-tanh", 2.0), one("windows-missing", 1.99), one("norm-plus-one", 0.6)
    assert believed([a, b, c]) == [a, b] and believed([c]) == [c]
    assert believed([one("gelu-by-tanh", 0.2)]) == [] == believed([])
    kin = one("softmax-in-half-precision", -0.1, True)
    assert believed([kin, one("gelu-by-tanh", 0.0)]) == [kin]


# ---- another run is refused, and quantised weights are none ----------------------------------------------------------

def other(golden, folder, prompt, vlm=None):
    path = folder / "other.safetensors"
    record(vlm or world(), prompt, path, Selection(("decoder.logits",)))
    with pytest.raises(TraceError) as error:
        diagnose(world(), golden, read_candidate(path, golden))
    return str(error.value)


def test_another_prompt_or_picture_is_refused_by_name_before_anything_runs(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(Replay, "own", lambda *args, **more: pytest.fail("it ran"))
    (turn,) = MESSAGES
    media = [item for item in turn["content"] if "text" not in item]
    asked = [{"role": "user", "content": [*media, said("What is that?")]}]
    words = other(golden, tmp_path, asked)
    assert "ran another prompt than" in words and "item 1 is user: 'What is that?', not user: 'What is it?'" in words
    painted = {**media[0], "image": 255 - np.asarray(media[0]["image"])}
    words = other(golden, tmp_path, [{"role": "user", "content": [painted, *turn["content"][1:]]}])
    assert "ran another picture than" in words and "record the golden trace of what the candidate ran" in words
    turns = [*MESSAGES, {"role": "assistant", "content": "A"}, {"role": "user", "content": "B"}]
    words = other(golden, tmp_path, turns)
    assert "another prompt" in words and "items, not 2" in words


def test_words_of_another_prompt_are_read_off_the_rows_of_the_embedding(golden, tmp_path):
    embedded = golden.arrays("decoder.embed_tokens")[0].astype(np.float32)
    table = world().weights.decoder.embed.dense(np.float32)
    word = world().tokenizer.encode("7")[0]
    changed = embedded.copy()
    changed[2] = table[word]
    for array, refused in ((embedded, False), (changed, True), (embedded + 0.01, False)):
        np.savez(tmp_path / "mine.npz", rows=array)
        theirs = read_candidate(tmp_path / "mine.npz", golden, {"rows": "decoder.embed_tokens"})
        if refused:
            with pytest.raises(TraceError, match="another prompt .*row 2 of decoder.embed_tokens is the word '7'"):
                check_same_run(world(), golden, theirs)
        else:
            check_same_run(world(), golden, theirs)


def in_eight_bits(right):
    """A scale for each row, by loops of its own."""
    def linear(x, w):
        table = w.weight.dense(np.float32)
        rows = [np.round(row / max(np.abs(row).max() / 127, 1e-12)) * max(np.abs(row).max() / 127, 1e-12)
                for row in table]
        return right(x, Linear(as_weight(np.stack(rows).astype(np.float32)), w.bias))
    return linear


def test_weights_of_eight_bits_cost_what_they_must_and_a_fault_beside_them_is_told(golden, tmp_path):
    found = diagnosed(golden, tmp_path, {"kernel.linear": in_eight_bits})
    assert found.healthy and found.cost and found.cost.way.startswith("8 bits") and not found.known
    assert report.headline(found)[0].startswith("quantised, and no fault beyond it")
    found = diagnosed(golden, tmp_path, {"kernel.linear": in_eight_bits, **faults.get("windows-missing").table()})
    assert not found.healthy and [one.fault.name for one in found.known] == ["windows-missing"]


def test_rounding_to_few_bits_is_to_the_nearest_step():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 70)).astype(np.float32)
    for bits, group in ((8, 32), (8, None), (4, 32), (4, 128), (4, None)):
        rounded = nearest(table, bits, group)
        size = group or 70
        for at in range(0, 70, size):
            part, kept = table[:, at:at + size], rounded[:, at:at + size]
            step = np.abs(part).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
            assert (np.abs(part - kept) <= step * 0.5001).all() and len(np.unique(np.rint(kept / step))) <= 2**bits


# ---- the run that is repeated ---------------------------------------------------------------------------------------

def test_a_golden_trace_holds_its_conversation_unless_pixels_are_left_out(golden, tmp_path):
    kept = conversation(golden)
    again = world().prepare(kept)
    first = world().prepare(MESSAGES)
    assert np.array_equal(again.pixel_values, first.pixel_values) and np.array_equal(again.input_ids, first.input_ids)
    record(world(), MESSAGES, tmp_path / "private.safetensors", Selection(pixels=False))
    with Trace(tmp_path / "private.safetensors") as private:
        assert conversation(private) is None and "messages" not in private.facts and "pictures" not in private.facts
        with pytest.raises(TraceError, match="record the golden trace without --no-pixels"):
            Replay(world(), private, {})


def test_videos_and_several_messages_are_kept_too(tmp_path):
    prompt = [*user(video(1, 1, 2, 4.0)), {"role": "assistant", "content": "A film."},
              {"role": "user", "content": [said("And?")]}]
    with Trace(golden_of(tmp_path, prompt)) as trace:
        kept = conversation(trace)
    assert [message["role"] for message in kept] == ["user", "assistant", "user"] and kept[1]["content"] == "A film."
    assert kept[0]["content"][0]["fps"] == 4.0 and np.asarray(kept[0]["content"][0]["video"]).shape == (2, 28, 56, 3)


def test_a_run_goes_on_with_what_the_candidate_has(golden):
    """So that what lies behind a tap is judged by itself: a second fault behind the first is a fault of its own."""
    candidate = read_candidate(golden.path, golden)
    taps = tapped(golden, candidate, list(fitted(golden, candidate)))
    moved = {key: taps[key] for key in ("vision.restore_order", "decoder.place_features")}
    moved["vision.restore_order"] = replace(moved["vision.restore_order"], arrays=tuple(
        2 * array for array in moved["vision.restore_order"].arrays))
    own = Replay(world(), golden, moved).own()
    features = np.isin(golden.tables("inputs")["input_ids"], world().config.image_token_id)
    (right,), (rows,) = golden.arrays("vision.restore_order"), own["decoder.place_features"]
    np.testing.assert_allclose(own["vision.restore_order"][0], right, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rows[features], 2 * right, rtol=1e-6)


def test_patches_are_cut_again_as_they_were():
    inputs = world().prepare(MESSAGES)
    assert np.array_equal(cut_again(inputs.pixel_values, inputs.image_grid_thw, world().config.vision),
                          inputs.pixel_values)


# ---- the command line ------------------------------------------------------------------------------------------------

def minivl_says(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        app(list(map(str, words)))
    return left.value.code, *capsys.readouterr()


def test_the_command_names_a_fault_and_makes_its_own_golden_run(tmp_path, capsys):
    path = tmp_path / "mine.safetensors"
    with minivl.load() as vlm, minivl.session(replace=faults.get("mrope-interleaved").table()):
        record(vlm, MESSAGES, path, Selection(("decoder.layers.0.*", "decoder.logits")))
    code, said, _ = minivl_says(capsys, "diagnose", path)
    assert code == 1 and said.splitlines()[0] == "looks like: mrope interleaved (Blaizzy/mlx-vlm#576)"
    assert re.search(r"because .*decoder\.layers\.0\.rotate", said)


def test_a_dump_of_a_whole_run_has_the_last_row_of_its_scores_alone(tmp_path, capsys):
    """The commands of README, on the picture that it names: what it shows of a wrong run, and a right one."""
    picture, golden = load_samples()[0].paths[0], tmp_path / "golden.safetensors"
    question = "Describe the image."
    assert minivl_says(capsys, "trace", "record", picture, question, "-o", golden)[0] == 0
    assert minivl_says(capsys, "run", picture, question, "--dump", tmp_path / "right")[0] == 0
    code, said, _ = minivl_says(capsys, "diff", golden, tmp_path / "right")
    assert code == 0 and said.startswith("the same within rounding") and "logits: KL" in said
    code, said, _ = minivl_says(capsys, "diagnose", tmp_path / "right", "--golden", golden)
    assert code == 0 and "no difference beyond rounding" in said

    fault = ("--fault", "order-not-inverted", "--dump", tmp_path / "theirs")
    assert minivl_says(capsys, "run", picture, question, *fault)[0] == 0
    code, said, _ = minivl_says(capsys, "diff", golden, tmp_path / "theirs")
    shown = re.findall(r"(?m)^    (\d+ stages compared.*|first bad tap: .*?),", README)
    assert code == 1 and len(shown) == 2 and all(line in said for line in shown)
    code, said, _ = minivl_says(capsys, "diagnose", tmp_path / "theirs", "--golden", golden)
    assert code == 1 and said.splitlines()[0] in README
    assert json.loads(minivl_says(capsys, "diagnose", tmp_path / "theirs", "--golden", golden, "--json")[1]
                      )["ranking"][0]["wrong_taps_left"] == 0


@pytest.mark.filterwarnings("error")
def test_an_array_that_does_not_fit_is_no_cost_of_quantised_weights(golden, tmp_path):
    path = tmp_path / "candidate.safetensors"
    record(world().on("float32", "definition"), MESSAGES, path)
    candidate = read_candidate(path, golden)
    for key in ("decoder.layers.0.attend", "decoder.logits"):
        candidate.taps[key] = {0: candidate.taps[key][0][:-3]}
    found = diagnose(world(), golden, candidate)
    assert not found.healthy and not found.known and found.cost is None


def test_what_cannot_be_diagnosed_is_refused_in_a_line(tmp_path, capsys):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    code, out, said = minivl_says(capsys, "diagnose", tmp_path / "arrays.npz")
    assert code == 2 and out == "" and "name it with --golden" in said
    code, out, said = minivl_says(capsys, "diagnose", tmp_path / "nothing.npz")
    assert code == 2 and out == ""
    with minivl.load() as vlm:
        record(vlm, MESSAGES, tmp_path / "private.safetensors", Selection(("decoder.logits",), pixels=False))
    code, out, said = minivl_says(capsys, "diagnose", tmp_path / "private.safetensors")
    assert code == 2 and "holds no inputs" in said

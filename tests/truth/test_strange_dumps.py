"""Dumps as an engineer leaves them who has not read a page: what is healthy is not accused, what is broken is not
cleared because it has another type, another shape, no numbers, or comes step by step; nothing ends in a traceback.

Read next: `test_foreign.py` (a whole port), `test_dump_files.py` (files one by one)."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import minivl
from minivl.cli.words import app
from minivl.truth.compare.compare import compare
from minivl.truth.compare.guess import guess, table_of
from minivl.truth.compare.importers import read_arrays, read_candidate
from minivl.truth.compare.report import headline
from minivl.truth.trace import record
from minivl.truth.trace.format import Trace, TraceError
from minivl.truth.triage.lines import read_lines

PROMPT = 40                                                                     # rows of it, the rest is written
BROKEN = "vit/blk_2/attn"


def run_of(path, precision, yardsticks=()):
    picture = np.random.default_rng(3).integers(0, 256, (104, 171, 3), np.uint8)
    messages = [{"role": "user", "content": [{"type": "image", "image": picture},
                                             {"type": "text", "text": "Describe the image."}]}]
    record.record(minivl.load(precision=precision), messages, path, yardsticks=yardsticks)
    return Trace(path)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
    return run_of(path, "float64", ("float32", "float16", "bfloat16"))


def tapped(trace):
    """The taps of a port under names of its own."""
    found = {"patch_embed": trace.array("vision.embed_patches"), "visual/out": trace.array("vision.restore_order"),
             "embeds": trace.array("decoder.place_features"), "logits": trace.array("decoder.logits")}
    for n in range(6):
        found[f"vit/blk_{n}/attn"] = trace.array(f"vision.blocks.{n}.attend")
        found[f"vit/blk_{n}/out"] = trace.array(f"vision.blocks.{n}.add_mlp")
    for n in range(5):
        found[f"llm/{n}/hidden"] = trace.array(f"decoder.layers.{n}.add_mlp")
        found[f"llm/{n}/q"] = trace.array(f"decoder.layers.{n}.project_qkv:0")
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


@pytest.fixture(scope="module")
def taps(tmp_path_factory):
    return tapped(run_of(tmp_path_factory.mktemp("mine") / "mine.safetensors", "float32"))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return tapped(run_of(tmp_path_factory.mktemp("short") / "short.safetensors", "bfloat16"))


def judged(golden, arrays, folder):
    np.savez(folder / "dump.npz", **arrays)
    table = table_of(guess(read_arrays(folder / "dump.npz"), golden))
    return compare(golden, read_candidate(folder / "dump.npz", golden, table))


def bits(array):
    """bfloat16 as the integers that hold it: rounded already, so that the upper half is all."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("dress", [
    lambda a: a.astype(">f4"), lambda a: bits(a).astype(">u2"), lambda a: a.astype(np.longdouble),
    lambda a: a.reshape(-1), lambda a: np.stack([1.1 * np.roll(a, 3, 0), a])],
    ids=["highest-byte-first", "bf16-highest-byte-first", "long-double", "numbers-in-a-line", "two-prompts"])
def test_a_healthy_dump_in_a_strange_dress_is_not_accused(golden, short, tmp_path, dress):
    found = judged(golden, {name: dress(array) for name, array in short.items()}, tmp_path)
    assert not found.differs and found.precision == "bfloat16" and len(found.words) >= 22


@pytest.mark.parametrize(("after", "words"), [
    (lambda x: x - np.log(np.exp(x).sum(axis=1, keepdims=True)), "off by one number alone, the same for every word"),
    (lambda x: x - x.max(axis=1, keepdims=True), "off by one number alone, the same for every word"),
    (lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), "adds up to 1: these are probabilities"),
    (lambda x: 8 * np.tanh(x / 8), ""), (lambda x: x[:, ::-1], ""), (lambda x: x, "")])
def test_scores_after_a_softmax_are_told_from_wrong_ones(golden, taps, tmp_path, after, words):
    np.savez(tmp_path / "c.npz", logits=after(taps["logits"].astype(np.float64)).astype(np.float32))
    found = compare(golden, read_candidate(tmp_path / "c.npz", golden, {"logits": "decoder.logits"}))
    said = [one for one in found.warnings if one.startswith("decoder.logits: each row")]
    assert len(said) == bool(words) and all(words in one for one in said)


@pytest.mark.parametrize("store", [lambda a: a, lambda a: a.astype(np.float16)], ids=["float32", "float16"])
def test_a_second_copy_of_a_tap_is_no_other_stage(golden, taps, tmp_path, store):
    twice = {name.replace("out", "in_next"): array for name, array in taps.items() if name.startswith("vit")}
    found = judged(golden, {name: store(array) for name, array in {**taps, **twice}.items()}, tmp_path)
    assert not found.differs and all(one.known for one in found.unplaced) and len(found.unplaced) == 6


@pytest.mark.parametrize("broken", [
    lambda a: a[:-1], lambda a: a[:0], lambda a: a[:1], lambda a: (10 * a).astype(np.int32),
    lambda a: (10 * a).astype(np.uint8), lambda a: a > 0, lambda a: np.float32(0), lambda a: 1.1 * a.reshape(-1)],
    ids=["a-row-less", "empty", "a-row", "whole", "bytes", "truth", "a-number", "in-a-line"])
def test_a_broken_tap_is_told_by_the_names_of_its_fellows(golden, taps, tmp_path, broken):
    found = judged(golden, {**taps, BROKEN: broken(taps[BROKEN])}, tmp_path)
    assert found.first_bad == "vision.blocks.2.attend"
    assert "error inf" not in "\n".join(headline(found))


@pytest.mark.parametrize("broken", [
    lambda a: (10 * a).astype(np.int8), lambda a: a[:0], lambda a: a + 1j, lambda a: a[:5]],
    ids=["whole", "empty", "complex", "some-rows"])
def test_a_lone_broken_tap_is_no_clean_bill(golden, taps, tmp_path, broken):
    kept = {name: array for name, array in taps.items() if not name.endswith("attn")}
    found = judged(golden, {**kept, "strange": broken(taps[BROKEN])}, tmp_path)
    assert found.first_bad is None and found.differs and [one.name for one in found.unplaced] == ["strange"]


def test_positions_are_whole_numbers_that_are_compared(golden, taps, tmp_path):
    right = golden.array("positions.mrope")
    ids = {"ids": np.arange(49)[None], "mask": np.ones((1, 49), np.int64)}
    assert not judged(golden, {**taps, **ids, "position_ids": right[:, None].astype(np.int32)}, tmp_path).differs
    assert judged(golden, {**taps, "position_ids": right[:, None] + 1}, tmp_path).differs


def test_a_stage_that_the_golden_trace_lacks_is_told(golden, taps, tmp_path):
    few = tmp_path / "few.safetensors"
    record.record(minivl.load(precision="float64"), [{"role": "user", "content": "Hello."}], few,
                  record.Selection(("decoder.logits",)))
    mine = tmp_path / "mine.npz"
    with Trace(few) as trace:
        logits = trace.array("decoder.logits").astype(np.float32)
        for value, differs in ((0.5, False), (np.nan, True)):
            np.savez(mine, **{"decoder.logits": logits, "decoder.layers.1.attend": np.full((9, 4, 48), value)})
            found = compare(trace, read_candidate(mine, trace))
            assert found.differs == differs
            assert any("decoder.layers.1.attend" in said for said in found.warnings)


# ---- steps of decoding ----------------------------------------------------------------------------------------------

def stepwise(taps, change=lambda name, array: array):
    """The same run with a prompt of PROMPT rows, and then a row a step."""
    found = {name: array for name, array in taps.items() if name.startswith(("vit", "patch", "visual"))}
    for name in taps.keys() - found.keys():
        array, written = taps[name], change(name, taps[name])
        found[f"prefill/{name}"] = array[None, :PROMPT] if name != "logits" else array[PROMPT - 1:PROMPT]
        for n, row in enumerate(written[PROMPT:]):
            found[f"step_{n}/{name}"] = row[None, None]
    return found


def test_steps_of_decoding_are_rows_of_the_golden_prefill(golden, taps, tmp_path):
    found = judged(golden, stepwise(taps), tmp_path)
    assert not found.differs and not found.unplaced and found.precision == "float32"
    assert {"decoder.layers.0.project_qkv", "decoder.layers.4.add_mlp", "decoder.logits"} <= set(found.words)
    assert any(note.startswith("49 of 49 rows, from 10 arrays") for note in found.aligned)


def test_the_first_bad_step_is_named(golden, taps, tmp_path):
    """A cache that goes wrong from the third layer on: the prompt is right, no number of a later step is."""
    late = ("llm/2/hidden", "llm/3", "llm/4", "logits")
    found = judged(golden, stepwise(taps, lambda name, a: 1.2 * a if name.startswith(late) else a), tmp_path)
    assert found.first_bad == "decoder.layers.2.add_mlp" and not found.unplaced
    bad = {row.name: row for row in found.judged if row.bad}
    assert len(bad) == 6 and all(row.measure.worst_row >= PROMPT for row in bad.values())


def test_steps_are_imported_and_read_back(golden, taps, tmp_path, capsys):
    np.savez(tmp_path / "dump.npz", **stepwise(taps))
    place = tmp_path / "c.safetensors"
    assert says(capsys, "trace", "import", tmp_path / "dump.npz", "-o", place, "--golden", golden.path)[0] == 0
    assert says(capsys, "diff", golden.path, place)[0] == 0
    assert says(capsys, "diff", golden.path, place, "--local")[0] == 0


@pytest.mark.parametrize(("tokens", "words"), [
    ([[0, 40], [40, 41]], None), ([[0, 40], [39, 40]], "each row can come once"),
    ([[0, 40], [41, 41]], "write the first"), ([[0, 40], "40"], "write the first"),
    ([[0, 40], [True, 41]], "write the first")])
def test_rows_are_said_by_hand(golden, taps, tmp_path, tokens, words):
    np.savez(tmp_path / "d.npz", a=taps["embeds"][:40], b=taps["embeds"][40:41])
    names = {name: {"label": "decoder.place_features", "tokens": one} for name, one in zip("ab", tokens, strict=True)}
    if words:
        with pytest.raises(TraceError, match=words):
            read_candidate(tmp_path / "d.npz", golden, names)
    else:
        assert not compare(golden, read_candidate(tmp_path / "d.npz", golden, names)).differs


# ---- the commands ---------------------------------------------------------------------------------------------------

def says(capsys, *words):
    with pytest.raises(SystemExit) as left:
        app(list(map(str, words)))
    return left.value.code, *capsys.readouterr()


def test_what_has_no_label_counts_in_every_output(golden, taps, tmp_path, capsys):
    np.savez(tmp_path / "d.npz", **taps, mask=np.where(np.tri(49) > 0, 0, -np.inf))
    place = tmp_path / "c.safetensors"
    assert says(capsys, "trace", "import", tmp_path / "d.npz", "-o", place, "--golden", golden.path)[0] == 0
    code, said, _ = says(capsys, "diff", golden.path, place, "--junit", tmp_path / "j.xml", "--sarif",
                         tmp_path / "s.sarif")
    assert code == 1 and "no label: mask [49, 49], holds numbers that are not finite" in said
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == "1"
    results = json.loads((tmp_path / "s.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert [one["ruleId"] for one in results] == ["unplaced"]
    code, said, _ = says(capsys, "diff", golden.path, place, "--local")
    assert code == 1 and "mask" in said
    code, said, _ = says(capsys, "diagnose", place, "--golden", golden.path)
    assert code == 1 and "nothing is known of 1 array" in said and "mask" in said


def test_fingerprints_of_what_was_imported(golden, taps, tmp_path, capsys):
    dump, place, prints = tmp_path / "d.npz", tmp_path / "c.safetensors", tmp_path / "p.safetensors"
    np.savez(dump, **{**taps, "logits": 1.05 * taps["logits"]})
    assert says(capsys, "trace", "fingerprint", dump)[0] == 2
    assert says(capsys, "trace", "import", dump, "-o", place, "--golden", golden.path)[0] == 0
    assert says(capsys, "trace", "fingerprint", place, "-o", prints, "--key", "k")[0] == 0
    code, said, _ = says(capsys, "diff", golden.path, prints, "--key", "k")
    assert code == 1 and "first bad tap: decoder.logits" in said and "nan" not in said and "row 0" not in said
    code, _, why = says(capsys, "trace", "import", prints, "-o", place, "--golden", golden.path)
    assert code == 2 and "holds no arrays of stages" in why


@pytest.mark.parametrize(("precision", "code"), [("bf16", 0), ("torch.float16", 0), ("int8", 2), ("float8", 2)])
def test_a_precision_goes_by_its_usual_names(golden, short, tmp_path, capsys, precision, code):
    np.savez(tmp_path / "d.npz", **{"decoder.logits": short["logits"]})
    left, _, why = says(capsys, "diff", golden.path, tmp_path / "d.npz", "--precision", precision)
    assert left in (code, 1) if precision == "torch.float16" else left == code
    assert code == 0 or "--precision must be float64" in why


def test_strange_files_are_refused_in_words(golden, taps, tmp_path):
    folder = tmp_path / "dump"
    folder.mkdir()
    for name in ("a", "b"):
        np.arange(6, dtype=np.float32).tofile(folder / f"{name}.bin")
    (folder / "shapes.txt").write_text("a fp32 2x3\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"b\.bin: is in no list of shapes"):
        read_arrays(folder)
    np.save(tmp_path / "large.npy", taps["logits"])
    large = (tmp_path / "large.npy").read_bytes().replace(b"(49, 640), }" + b" " * 11, b"(99999999999, 640), }  ")
    (folder / "large.npy").write_bytes(large)
    with pytest.raises(TraceError, match=r"large\.npy: cannot be read"):
        read_arrays(folder)


@pytest.mark.parametrize(("entry", "words"), [
    ({"label": "decoder.logits", "scale": {"a": 1}}, "write a number, or the name"),
    ({"label": None}, "write null instead"), ("decoder.logits", "complex64")])
def test_a_table_of_names_that_says_what_cannot_be(golden, tmp_path, entry, words):
    np.savez(tmp_path / "d.npz", x=np.ones((49, 640), np.complex64 if isinstance(entry, str) else np.float32))
    with pytest.raises(TraceError, match=words):
        read_candidate(tmp_path / "d.npz", golden, {"x": entry})


@pytest.mark.parametrize(("said", "kind"), [("bf16", "bfloat16"), ("torch.float16", "float16"), ("float32", "float32")])
def test_triage_takes_the_same_names_of_types(tmp_path, said, kind):
    row = {"prompt": "Hello.", "text": "Hello.", "settings": {"precision": said}}
    (tmp_path / "c.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert read_lines(tmp_path / "c.jsonl")[0].settings["precision"] == kind

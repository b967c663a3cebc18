"""The command line: what it prints, what it refuses and how, and that its output survives pipes and code pages.

Expected numbers come from arithmetic done here, from the file itself or from published figures, not from the commands.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import minivl
from minivl import api
from minivl.cli import console, doctor
from minivl.cli import options as shared
from minivl.cli import words as cli
from minivl.config import official_config, read_config, to_flat_json
from minivl.show.samples import load_samples

TINY = Path(minivl.__file__).parent / "tiny"
VISION = read_config(TINY).vision
WIDE = {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """112 wide, 84 high, with a space and letters outside of every code page in its name: 4 x 3 cells."""
    path = tmp_path_factory.mktemp("a picture") / "кот \N{SNOWMAN} é [red].png"
    pixels = np.full((84, 112, 3), 255, np.uint8)
    pixels[20:60, 30:70] = (222, 40, 40)
    Image.fromarray(pixels).save(path)
    return str(path)


def minivl_(*words, code=0, env=WIDE):
    """Run a command; its stdout and stderr. An error must be one line, and nothing on stdout with it."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={**WIDE, **env})
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def refused(*words):
    """The line that a wrong command gets on stderr."""
    out, err = minivl_(*words, code=2)
    assert out == "" and err.startswith("minivl: ") and err.count("\n") == 1 and err.endswith("\n"), (out, err)
    return err


# ---- words and errors --------------------------------------------------------------------------------------

def test_version_and_help_name_every_command():
    assert minivl_("--version")[0] == f"minivl {minivl.__version__}\n"
    out = minivl_("--help")[0]
    assert minivl_()[0] == out
    for name in ("demo", "ask", "ground", "explore", "passes", "run", "inspect", "tokens", "where", "faults",
                 "shadow", "bisect", "reduce", "parity", "course", "doctor"):
        assert f"  {name} " in out
        assert "Usage: " in minivl_(name, "--help")[0]


def test_the_words_themselves_import_nothing_heavy():
    light = {"__future__", "sys", "collections", "pathlib", "typing", "typer", "inspect"}
    for module, own in ((cli, {"options"}), (shared, set())):
        body = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= light | own


@pytest.mark.parametrize(("words", "said"), [
    (["nothing"], "nothing"), (["ask", "--colour", "a", "b"], "--colour"), (["ask"], "IMAGE"), (["ask", "a"], "IMAGE"),
    (["where"], "IMAGE"), (["tokens"], "name a picture"),
    (["ask", "a", "b", "--max-new-tokens", "0"], "max-new-tokens"),
    (["ask", "a", "b", "--temperature", "-1"], "--temperature"), (["doctor", "--json=yes"], "--json"),
    (["tokens", "--size", "640"], "640"), (["tokens", "--size", "0x3"], "0x3"), (["tokens", "--size", "9x9999"], "200"),
    (["tokens", "--size", "9x9", "--min-pixels", "9000", "--max-pixels", "8000"], "9,000"),
    (["tokens", "--size", "9x9", "--min-pixels", "5", "--max-pixels", "10"], "784"),
    (["inspect", "nowhere"], "nowhere"), (["inspect", "Qwen/none-such"], "Qwen/none-such"),
])
def test_wrong_words_are_refused_in_one_line(words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(("options", "blamed", "own"), [
    (["--max-pixels", "100"], "--max-pixels 100 is less than one token's 784", None),
    (["--max-pixels", "2000"], "--max-pixels 2,000 is below", "min_pixels 3,136 of the official releases"),
    (["--min-pixels", "20000000"], "--min-pixels 20,000,000 is above",
     "max_pixels 12,845,056 of the official releases"),
    (["--max-pixels", "800", "--model", TINY], "--max-pixels 800 is below", f"min_pixels 3,136 of {TINY}"),
])
def test_limits_are_refused_for_what_was_given(options, blamed, own):
    """An option that was not given is not blamed: its value is told as whose it is, and asked for."""
    said = refused("tokens", "--size", "640x480", *options)
    other = "--min-pixels" if "--max-pixels" in options else "--max-pixels"
    assert said.startswith(f"minivl: {blamed}") and f"{other} 3" not in said and f"{other} 1" not in said
    assert own is None or (own in said and f"give {other} too" in said)


@pytest.mark.parametrize("command", [["ask", None, "what?"], ["passes", None], ["run", None, "what?"], ["tokens", None],
                                     ["ground", None, "what?"], ["where", None, "--token", "0"]])
def test_what_is_no_picture_is_refused_by_name(command, tmp_path):
    words = tmp_path / "a note é.txt"
    words.write_text("not a picture", encoding="utf-8")
    for path, why in ((tmp_path / "none.png", "no such file"), (tmp_path, "folder"), (words, "not a picture")):
        said = refused(*(str(path) if word is None else word for word in command))
        assert why in said and path.name in said


def test_refused_after_the_model_is_there(picture):
    assert "float8" in refused("ask", picture, "what?", "--precision", "float8")
    assert "question is missing" in refused("ask", picture, picture)
    assert "question is missing" in refused("ask", picture, picture, "--model", TINY)


def test_debug_shows_the_traceback_wherever_it_stands():
    for words in (["--debug", "inspect", "nowhere"], ["inspect", "nowhere", "--debug"]):
        result = CliRunner().invoke(cli.app, words)
        assert isinstance(result.exception, FileNotFoundError)


@pytest.mark.parametrize(("error", "code", "said"), [
    (KeyboardInterrupt(), 130, ""), (BrokenPipeError(), 1, ""), (MemoryError("12 GB"), 1, "out of memory"),
    (minivl.ContractError("vision: axis p has size 3, should be 4"), 1, "axis p"),
    (ZeroDivisionError("x"), 1, "defect"), (ValueError("a\nb\nc\nd\ne"), 2, "--debug"),
    (PermissionError(13, "Permission denied", "x.npy"), 2, "x.npy: Permission denied"),
])
def test_every_way_out_has_its_code(monkeypatch, error, code, said):
    def fail(*args):
        raise error
    monkeypatch.setattr(doctor, "doctor", fail)
    monkeypatch.setattr(cli, "_silence", lambda: None)
    out, err = minivl_("doctor", code=code)
    assert out == "" and said in err and err.count("\n") == bool(said)
    assert cli._guarded(fail, debug=False) == code     # also where typer does not see it first


def test_control_characters_from_elsewhere_do_not_reach_the_terminal():
    assert console.clean("a\x1b[2Jb\r\x07c\td\n") == "a\ufffd[2Jb\ufffd\ufffdc\td\n"


# ---- ask, passes, run --------------------------------------------------------------------------------------

def test_ask_takes_the_frames_of_a_video():
    film = next(one for one in load_samples() if one.fps is not None)
    with minivl.load() as vlm:
        wanted = vlm.chat(film.messages(), temperature=0)
    frames = [str(path) for path in film.paths]
    out, _ = minivl_("ask", *frames, film.question, "--fps", str(film.fps), "--temperature", "0")
    assert out.rstrip("\n") == wanted
    assert "fps" in refused("ask", frames[0], "what?", "--fps", "0")


def test_a_video_file_is_asked_about(picture, tmp_path):
    """By its ending; its frames are chosen, not all of them shown."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), n, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    wanted = minivl.load().ask(str(path), "What is this?", max_new_tokens=3, temperature=0)
    options = ["--temperature", "0", "--max-new-tokens", "3"]
    out, _ = minivl_("ask", str(path), "What is this?", *options)
    assert out.rstrip("\n") == wanted
    where = json.loads(minivl_("where", str(path), "--token", "0", "--json")[0])
    assert where and "is a video itself" in refused("ask", str(path), picture, "What is this?", "--fps", "2")
    (tmp_path / "broken.mp4").write_bytes(path.read_bytes()[:300])
    assert "broken.mp4: not a video that can be read" in refused("ask", str(tmp_path / "broken.mp4"), "What is this?")


def test_ask_says_how_rows_are_kept(picture):
    options = ["--temperature", "0", "--max-new-tokens", "5"]
    plain = minivl_("ask", picture, "What is this?", *options)[0]
    assert minivl_("ask", picture, "What is this?", *options, "--chunk", "16", "--cache", "float32")[0] == plain
    assert minivl_("ask", picture, "What is this?", *options, "--cache", "int8")[0]
    assert "--context" in refused("ask", picture, "What is this?", "--context", "20")
    assert "bfloat16, int8" in refused("ask", picture, "What is this?", "--cache", "fp8")


def test_ask_gives_the_answer_alone_on_stdout(picture):
    with minivl.load() as vlm:
        wanted = vlm.ask(picture, "Describe the image.", temperature=0), vlm.ask([picture] * 2, "How many?", 3)
    out, err = minivl_("ask", picture, "Describe the image.", "--temperature", "0")
    assert out == wanted[0] + "\n" and "embedded" in err
    assert minivl_("ask", picture, "Describe the image.", "--stream", "--temperature", "0")[0] == out
    out, err = minivl_("ask", picture, picture, "How many?", "--max-new-tokens", "3", "--model", TINY)
    assert out == wanted[1] + "\n" and err == ""


def test_passes_lists_every_leaf_in_order(picture):
    out = minivl_("passes", picture, "What?", "--json", "--max-new-tokens", "3", env={"FORCE_COLOR": "1"})[0]
    found = json.loads(out)                            # with a terminal's progress on stderr
    keys = [row["key"] for row in found["passes"]]
    assert found["question"] == "What?" and keys[:2] == ["picture.target_size", "picture.resize"]
    assert len(set(keys)) == len(keys) and "decoder@1.logits" in keys
    assert sum(key.startswith("vision.blocks.") for key in keys) == 6 * VISION.depth
    embed = found["passes"][keys.index("vision.embed_patches")]
    assert embed["contract"].endswith("-> p d") and embed["seconds"] >= 0
    assert embed["outputs"] == [{"dtype": "float32", "shape": [48, VISION.hidden_size]}]
    assert embed["flops"] == 2 * 48 * 1176 * VISION.hidden_size


def test_passes_folds_blocks_and_steps_and_unfolds_them(picture):
    folded = minivl_("passes", picture, "--max-new-tokens", "3")[0]
    runs = {row.split()[0]: row for row in folded.splitlines()[2:]}
    assert re.search(rf" {VISION.depth} +[\d,.]+ +[\d,.]+$", runs["vision.blocks.*.attend"])
    assert "vision.blocks.0" not in folded and "decoder@" not in folded and "all further tokens" in folded
    unfolded = minivl_("passes", picture, "--max-new-tokens", "3", "--all")[0]
    assert "vision.blocks.1.attend" in unfolded and "decoder@2.logits" in unfolded
    together = [out.splitlines()[-1].split() for out in (folded, unfolded)]
    assert together[0][0] == "together" and together[0][-2:] == together[1][-2:]        # the same sum of FLOPs


def test_passes_has_a_sample_and_fits_a_narrow_terminal():
    out, err = minivl_("passes", "--max-new-tokens", "1", env={"COLUMNS": "50"})
    assert max(map(len, out.splitlines()[1:])) <= 50 and "left out" in err and "contract" in err


def test_run_prints_stops_verifies_and_profiles(picture):
    run = ("run", picture, "Describe the image.")
    out, err = minivl_(*run, "--print-after", "vision.blocks.*.attend", "--verify-each", "--profile")
    assert out.count(".attend  ") == VISION.depth + 2 and "together" in out and "verified" in err    # 2: in the profile
    out, err = minivl_(*run, "--stop-after", "vision.merge_2x2")
    assert out.startswith(f"stopped after vision.merge_2x2\n  float32 [12, {VISION.out_hidden_size}] ")
    assert "attend" in minivl_(*run, "--stop-after", "vision.blocks.0", "--print-after", "*.attend")[0]
    assert minivl_(*run, "--max-new-tokens", "2")[0] == minivl_("ask", *run[1:], "--max-new-tokens", "2",
                                                               "--temperature", "0")[0]


def test_run_dumps_what_is_recorded(picture, tmp_path):
    folder = tmp_path / "new" / "dump é"
    chosen = "*.merge_2x2,vision.schedule"
    minivl_("run", picture, "What?", "--dump", folder, "--record", chosen, "--max-new-tokens", "1")
    assert list(minivl.read_dump(folder)) == ["vision.schedule", "vision.merge_2x2"]
    assert "not empty" in refused_after_note("run", picture, "What?", "--dump", folder)
    assert "--dump" in refused("run", picture, "What?", "--record", "vision.*")


def refused_after_note(*words):
    return minivl_(*words, code=2)[1].splitlines()[-1]


@pytest.mark.parametrize(("options", "said"), [
    (["--print-after", "attend"], "vision.blocks.0.attend"), (["--print-after", "vision"], "'vision.*'"),
    (["--print-after", "visoin.merge_2x2"], "vision.merge_2x2"), (["--stop-after", "vision.blocks"], "no stage"),
    (["--stop-after", "vision.merge2x2"], "vision.merge_2x2"), (["--print-after", "kernel.gelu"], "no stage"),
    (["--print-after", f"vision.blocks.{VISION.depth}.attend"], "no stage"),
])
def test_run_refuses_a_label_that_no_stage_has(picture, options, said):
    assert said in refused("run", picture, "What?", *options)


def test_run_says_when_a_step_never_came(picture, recwarn):
    for option in ("--print-after", "--stop-after"):
        err = minivl_("run", picture, "What?", option, "decoder@30.logits", "--max-new-tokens", "2", code=2)[1]
        assert "nothing came by under decoder@30.logits" in err and "2 runs" in err
    assert not recwarn.list                            # said once, as an error


# ---- tokens, where -----------------------------------------------------------------------------------------

def test_tokens_of_a_photo_are_the_published_ones():
    """480 x 640: 476 x 644, grid 1 34 46, 17 x 23 cells, so 5 x 6 windows of 4 x 4 cells, the last 1 x 3."""
    found = json.loads(minivl_("tokens", "--size", "640x480", "--size", "56x84", "--json")[0])
    photo, small = found["pictures"]
    assert (photo["source_size"], photo["resized_size"], photo["grid"]) == ([480, 640], [476, 644], [1, 34, 46])
    assert (photo["patches"], photo["windows"], photo["smallest_window"], photo["tokens"]) == (1564, 30, 3, 391)
    assert photo["share_of_max"] == pytest.approx(391 / 16384) and small["tokens"] == 6
    assert found["total"] == {"patches": 1588, "windows": 31, "tokens": 397}


def test_tokens_with_other_limits_and_settings(picture, tmp_path):
    out = minivl_("tokens", picture, "--max-pixels", str(4 * 784), "--min-pixels", "784")[0]
    assert "56 x 28" in out                            # 112 x 84 within 4 cells: 0.577 of it, rounded down
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(TINY / name, tmp_path)             # no weights there, and none needed
    found = json.loads(minivl_("tokens", picture, "--model", tmp_path, "--json")[0])
    side = VISION.window_size // 28
    assert found["window_size"] == VISION.window_size
    assert found["pictures"][0]["windows"] == -(-4 // side) * -(-3 // side)
    assert len(minivl_("tokens", picture, picture, env={"COLUMNS": "40"})[0].splitlines()) > 4


@pytest.mark.parametrize("token", range(12))
def test_where_agrees_with_counting_by_hand(picture, token):
    found = json.loads(minivl_("where", picture, "--token", token, "--json")[0])
    row, column = divmod(token, 4)
    assert found["box"] == found["source_box"] == [28 * column, 28 * row, 28 * column + 28, 28 * row + 28]
    assert found["patches"] == [4 * token + n for n in range(4)]
    start = found["sequence"] - token                  # row of the first visual token: only text before it
    assert found["position"] == [start, start + row, start + column]
    side = VISION.window_size // 28
    width, height = (min(side, whole - at // side * side) for at, whole in ((column, 4), (row, 3)))
    for block, (first, end) in enumerate(found["segments"]):
        assert end - first == (48 if block in VISION.fullatt_block_indexes else 4 * width * height)
        assert first <= found["window_rows"][0] < end
    at = f"{28 * column + 27},{28 * row}"
    assert json.loads(minivl_("where", picture, "--pixel", at, "--json")[0]) == found


def test_where_and_tokens_of_several_pictures_and_of_frames(picture, tmp_path):
    """112 x 84 is 12 tokens: the second picture's begin at 12, the second pair of frames' too."""
    alone = json.loads(minivl_("where", picture, "--pixel", "30,40", "--json")[0])
    for options, medium, time, shown in (((), 1, 0, 1), (("--fps", "2"), 0, 0, 2)):
        found = json.loads(minivl_("where", picture, picture, picture, "--pixel", "30,40", "--picture", "1", *options,
                                   "--json")[0])
        assert (found["medium"], found["time"], len(found["images"])) == (medium, time, shown)
        assert found["token"] == alone["token"] + 12 * medium and found["cell"] == alone["cell"]
    found = json.loads(minivl_("where", picture, picture, picture, "--pixel", "30,40", "--picture", "2", "--fps", "2",
                               "--json")[0])
    assert (found["time"], found["token"], found["tokens"], found["first"]) == (1, alone["token"] + 12, 24, 2)
    out = minivl_("where", picture, picture, "--token", "13")[0]
    assert "1 of 0..1" in out and "13 of 0..23" in out
    assert "numbered from 0" in refused("where", picture, "--pixel", "0,0", "--picture", "1")
    film = json.loads(minivl_("tokens", picture, picture, picture, "--fps", "1", "--json")[0])["pictures"]
    assert [(one["grid"], one["tokens"]) for one in film] == [([2, 6, 8], 24)]
    Image.new("RGB", (28, 28)).save(tmp_path / "small.png")
    assert "one size" in refused("tokens", picture, str(tmp_path / "small.png"), "--fps", "1")


def test_where_in_words_and_what_it_refuses(picture):
    out = minivl_("where", picture, "--pixel", "30,10")[0]
    assert "x 28..56, y 0..28 of 112 x 84 pixels" in out and "rows 4..7 of pixel_values" in out
    assert "12" in refused("where", picture, "--token", "12")
    assert "112 wide" in refused("where", picture, "--pixel", "112,0")
    assert "outside" in refused("where", picture, "--pixel", "0,-1")
    assert "'3;4'" in refused("where", picture, "--pixel", "3;4")
    for both in ([], ["--token", "1", "--pixel", "1,1"]):
        assert "either --token" in refused("where", picture, *both)


# ---- inspect -----------------------------------------------------------------------------------------------

def header(folder):
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length])


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the embedded checkpoint, to be broken."""
    return Path(shutil.copytree(TINY, tmp_path / "a copy"))


def test_inspect_counts_what_the_file_holds():
    found = json.loads(minivl_("inspect", "--json")[0])
    tensors = [entry for name, entry in header(TINY).items() if name != "__metadata__"]
    numbers = sum(int(np.prod(entry["shape"])) for entry in tensors)
    assert found["ok"] and found["audit"]["ok"] and found["problems"] == []
    assert found["tensors"]["count"] == found["tensors"]["expected"] == len(tensors)
    assert found["tensors"]["parameters"] == sum(part["parameters"] for part in found["parts"]) == numbers
    assert found["tensors"]["bytes"] == max(entry["data_offsets"][1] for entry in tensors)
    out = minivl_("inspect")[0]
    assert f"{numbers:,}" in out and "tied" in out and out.endswith("\nok\n")


@pytest.mark.parametrize("method", [{"quant_method": "gptq"}, "fp8"])
def test_inspect_says_of_a_quantised_release_what_loading_it_says(checkpoint, method):
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    (checkpoint / "config.json").write_text(json.dumps({**config, "quantization_config": method}), encoding="utf-8")
    with pytest.raises(ValueError, match="bf16 release") as error:
        minivl.load(checkpoint)
    found = json.loads(minivl_("inspect", checkpoint, "--json", code=1)[0])
    assert found["problems"] == [str(error.value)]


def test_inspect_knows_official_sizes_by_their_published_counts(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_flat_json(official_config("7B"))), encoding="utf-8")
    found = json.loads(minivl_("inspect", tmp_path, "--json", code=1)[0])
    expected = {part["part"]: part["expected"] for part in found["parts"]}
    assert found["official_size"] == "7B" and found["tensors"]["expected"] == 729 and not found["ok"]
    assert sum(n for part, n in expected.items() if part.startswith("vision")) == 676_550_144
    assert expected["decoder.layers"] == 6_525_618_176 and sum(expected.values()) == 8_292_166_656
    assert [f["file"] for f in found["files"] if f["needed"] and not f["present"]] == [
        "model.safetensors or model.safetensors.index.json or packed.safetensors",
        "tokenizer.json or vocab.json"]
    assert "MISSING" in minivl_("inspect", tmp_path, code=1)[0]


def test_inspect_says_what_is_broken_and_goes_on(checkpoint):
    (checkpoint / "config.json").write_text('{"model_type": "qwen2_5_vl"', encoding="utf-8")
    for name in ("tokenizer.json", "merges.txt"):
        (checkpoint / name).unlink()
    found = json.loads(minivl_("inspect", checkpoint, "--json", code=1)[0])
    assert found["config"] is None and found["audit"] is None and len(found["problems"]) == 2
    assert found["tensors"]["count"] == len([name for name in header(TINY) if name != "__metadata__"])
    out = minivl_("inspect", checkpoint, code=1)[0]
    assert "config.json" in out and "tokenizer.json" in out and out.endswith("NOT OK\n")


def test_inspect_finds_a_tensor_of_another_name_and_a_file_cut_short(checkpoint):
    weights = checkpoint / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data.replace(b'"model.norm.weight"', b'"model.n\x5cu001b.wei"'))       # \u001b: an escape
    out = minivl_("inspect", checkpoint, code=1)[0]
    assert "missing (1)" in out and "model.norm.weight" in out and "unexpected (1)" in out and "\x1b" not in out
    assert "`minivl inspect`" in refused("ask", "a.png", "?", "--model", checkpoint)
    weights.write_bytes(data[:-2])
    assert f"{len(data) - 2}" in minivl_("inspect", checkpoint, code=1)[0].split("audit")[1]


def test_inspect_reads_the_shards_that_are_there(checkpoint):
    weights = checkpoint / "model.safetensors"
    names = [name for name in header(TINY) if name != "__metadata__"]
    places = dict.fromkeys(names, "model-00001-of-00002.safetensors") | {"x": "model-00002-of-00002.safetensors"}
    weights.rename(checkpoint / "model-00001-of-00002.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    found = json.loads(minivl_("inspect", checkpoint, "--json", code=1)[0])
    assert found["tensors"]["count"] == len(names) and any("00002" in problem for problem in found["problems"])


# ---- doctor, demo ------------------------------------------------------------------------------------------

def test_doctor_finds_this_installation():
    found = json.loads(minivl_("doctor", "--json", env={"HF_HUB_CACHE": "/none/such"})[0])
    packages = {row["package"]: row["version"] for row in found["packages"]}
    assert found["usable"] and packages["numpy"] == np.__version__ and found["python"] == sys.version.split()[0]
    assert found["hub"] == {"folder": str(Path("/none/such")), "exists": False, "checkpoints": []}
    assert found["embedded_model"]["answer"] and found["embedded_model"]["seconds"] > 0
    assert found["resize"]["equal"] == (int(packages["pillow"].split(".")[0]) >= 13)


def test_doctor_tells_the_tier_and_what_others_need(monkeypatch):
    pytest.importorskip("numba")
    from minivl.cli import kernels
    from minivl.kernels.jit import tiers
    found = kernels.examine()
    assert found["tier"] == tiers.chosen().name and found["needs"][found["tier"]] == []
    monkeypatch.setattr(tiers, "lacking", lambda tier: ["amx_tile"] if tier.tiles else [])
    monkeypatch.setenv("MINIVL_TIER", "portable")
    monkeypatch.setenv("MINIVL_CACHE", "off")
    found = kernels.examine()
    assert found["tier"] == "portable" and found["because"] == "MINIVL_TIER asks for it"
    rows = dict(kernels.rows(found))
    others = [name for name, tier in tiers.TIERS.items() if name != "portable" and not tier.tiles]
    assert rows["  other tiers"] == f"also here: {', '.join(others)}; amx needs amx_tile"
    assert rows["  jit-int8"] == "rows rounded to 8 bits, then multiplied as float32"
    assert rows["  compiled code"].startswith('none (MINIVL_CACHE is "off")')
    for name, form in (("avx512-bf16", "rows by VPDPBUSD"), ("amx", "rows on tiles, up to four rows by VPDPBUSD")):
        monkeypatch.setattr(tiers, "lacking", lambda tier: [])
        monkeypatch.setenv("MINIVL_TIER", name)
        assert dict(kernels.rows(kernels.examine()))["  jit-int8"] == form


def test_a_wrong_setting_of_kernels_is_told_in_its_own_row(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    from minivl.cli import kernels
    from minivl.kernels.jit import tiers
    (tmp_path / "kernels").write_text("no folder", encoding="utf-8")
    right = dict(kernels.rows(doctor.tried(kernels.examine)))
    threads = sys.modules["minivl.kernels.jit.team"]
    unread = f"{tmp_path / 'kernels'} cannot be read"
    for name, value, row, words in (
            ("MINIVL_TIER", "sse", "  tier", ["MINIVL_TIER must be portable, avx2", "got 'sse'"]),
            ("MINIVL_THREADS", "0", "  threads", ["MINIVL_THREADS must be", "from 1 to 1024", "'0'"]),
            ("MINIVL_CACHE", str(tmp_path), "  compiled code", [unread, "MINIVL_CACHE"])):
        with monkeypatch.context() as patch:
            patch.setattr(threads, "_team", None)
            patch.setenv(name, value)
            found = kernels.rows(doctor.tried(kernels.examine))
            rows = dict(found)
            assert rows[row].startswith("failed: ") and all(word in rows[row] for word in words)
            same = right.keys() - {row, "  jit-int8", "  other tiers"}
            assert {key: rows[key] for key in same} == {key: right[key] for key in same}
            lacking = [one for one in tiers.TIERS.values() if tiers.lacking(one)]
            assert all(f"{one.name} needs " in rows["  other tiers"] for one in lacking)
            out, _ = minivl_("doctor")
            assert "usable, but for what failed above: kernels" in out


def test_every_finding_that_failed_is_told_in_the_same_words():
    """One function for all rows; names that other files use for something else are not used again."""
    from minivl.cli import cuda, kernels
    own = [name for name, value in vars(kernels).items() if getattr(value, "__module__", "") == kernels.__name__]
    assert "said" not in own and not [name for name in own if hasattr(cuda, name) and name not in ("examine", "rows")]
    found = {**kernels.examine(), "threads": {"error": "too many"}}
    if found["installed"]:
        assert dict(kernels.rows(found))["  threads"] == "failed: too many"


def test_doctor_says_how_to_get_compiled_kernels(monkeypatch):
    from minivl.cli import kernels
    monkeypatch.setattr(kernels, "has_compiler", lambda: False)
    ((_, said),) = kernels.rows(kernels.examine())
    assert 'pip install "minivl[jit]"' in said


def test_the_folder_of_compiled_code_is_counted(tmp_path):
    from minivl.cli import kernels
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"12")
    words = kernels.cache_words(kernels.cache_findings(tmp_path), 2)
    assert words.startswith(f"{tmp_path}: 2 files, ") and "kernels" not in words.removeprefix(str(tmp_path))
    assert kernels.cache_findings(tmp_path) == {"cache": str(tmp_path), "cached": 2, "cache_bytes": 7}
    assert kernels.cache_findings(tmp_path / "none")["cached"] == 0


def test_doctor_speaks_of_no_package_that_nothing_imports():
    root = Path(__file__).parent.parent.parent
    code = "\n".join(path.read_text(encoding="utf-8") for part in ("minivl", "tools", "tests")
                     for path in (root / part).rglob("*.py"))
    for name in (*doctor.NEEDED, *doctor.OPTIONAL):
        module = {"pillow": "PIL"}.get(name, name)
        assert re.search(rf'^\s*(import|from) {module}\b|import_module\(f?"{module}\b', code, re.M), name


def test_doctor_says_when_the_embedded_model_does_not_answer(monkeypatch):
    def fail(*args):
        raise ImportError("no multiarray")
    monkeypatch.setattr(api, "load", fail)
    out = minivl_("doctor", code=1)[0]
    assert "no multiarray" in out and out.rstrip().splitlines()[-1].startswith("NOT USABLE")


def test_doctor_measures_this_machine(monkeypatch, tmp_path):
    from minivl.cli import measure
    from minivl.run.roofline import Roof
    roof = Roof(20e9, {"NumPy, float32": 100e9, "amx, float32": 300e9}, 15e9, 2, {"avx2": "this machine lacks avx2"})
    monkeypatch.setattr(measure, "measured", lambda: roof)
    out, err = minivl_("doctor", "--measure", "-o", tmp_path / "roof.png")
    assert "75% of that" in out and "decode at 512, products" in out and "not measured: avx2" in err
    assert (tmp_path / "roof.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads(minivl_("doctor", "--measure", "--json")[0])
    assert found["edge"] == 15 and [part["waits_for"] for part in found["parts"]][-1] == "memory"
    assert "give both" in minivl_("doctor", "-o", tmp_path / "x.png", code=2)[1]


def test_demo_is_given_the_file_and_a_console(monkeypatch, tmp_path):
    class Demo:
        @staticmethod
        def main(output, console):
            console.print(f"drawn [red] to {output.name}")
    monkeypatch.setitem(sys.modules, "minivl.show.demo", Demo)
    monkeypatch.setattr(minivl, "demo", Demo, raising=False)
    assert minivl_("demo", "-o", tmp_path / "d.png")[0] == "drawn [red] to d.png\n"
    for path, why in ((tmp_path, "ends in"), (tmp_path / "n" / "d.png", "its folder"), (tmp_path / "d.jpg", ".png")):
        assert why in refused("demo", "-o", path)


def test_one_word_where_two_are_needed(picture):
    assert "question comes last" in refused("ask", picture)


def test_the_picture_that_cannot_be_sized_is_named(picture, tmp_path):
    Image.new("RGB", (5000, 20)).save(tmp_path / "thin.png")
    assert "thin.png: picture of 20 x 5000" in refused("tokens", picture, tmp_path / "thin.png")


# ---- as a process ------------------------------------------------------------------------------------------

def process(*words):
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    env.pop("COLUMNS", None)
    return subprocess.run([sys.executable, "-m", "minivl.cli", *words], capture_output=True, env=env, check=False)


def test_a_code_page_without_the_letters_does_no_harm(picture):
    result = process("tokens", picture)
    out = result.stdout.decode("cp1252")
    assert result.returncode == 0 and "??? ? é [red].png" in out and "\x1b" not in out
    assert json.loads(process("where", picture, "--token", "3", "--json").stdout)["image"] == picture


def test_errors_of_a_process_go_to_stderr_alone(picture):
    result = process("ask", f"{picture}.gif", "what?")
    assert result.returncode == 2 and result.stdout == b"" and b"no such file" in result.stderr
    assert result.stderr.decode("cp1252").startswith("minivl: ")

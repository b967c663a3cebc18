"""Writing a packed folder: whatever stops it, the target is not there or is whole, and the same command goes on.

What a whole one must hold is compared with one that nothing stopped. `test_packed.py` says what that is.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint import convert as writing
from minivl.checkpoint.convert import JOURNAL, convert, work_folder
from minivl.checkpoint.packed_folder import ABOUT, TILES, damaged
from minivl.checkpoint.weight import CheckpointError

from . import checkpoint_files as files

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    parts = files.single(files.tensors()) | {"tokenizer.json": b"{}", "README.md": b"text", "old.bin": b"weights",
                                             ".hidden": b"no"}
    folder = files.write(tmp_path_factory.mktemp("source"), parts)
    (folder / "original").mkdir()
    return folder


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The int8 folder that nothing stopped, by file name."""
    return bytes_of(convert(source, tmp_path_factory.mktemp("whole") / "int8", "int8"))


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_everything_beside_the_weights_is_copied(source, whole):
    assert whole.keys() == {ABOUT, TILES, "config.json", "preprocessor_config.json", "generation_config.json",
                            "tokenizer.json", "README.md"}
    for name in whole.keys() - {ABOUT, TILES}:
        assert whole[name] == (source / name).read_bytes()


def test_packed_json_says_what_was_packed(source, whole, tmp_path):
    said = json.loads(whole[ABOUT])
    assert said["weights"] == "int8" and said["minivl"] == minivl.__version__
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    assert said["source"] == {"name": source.name, "sha256": {"model.safetensors": digest}}


# ---- refusals, before anything is written

def refused(source, target, weights="int8", words=""):
    before = sorted(path.name for path in target.parent.iterdir()) if target.parent.is_dir() else None
    with pytest.raises(minivl.Error, match=words):
        convert(source, target, weights)
    if before is not None:
        assert sorted(path.name for path in target.parent.iterdir()) == before


def test_what_stands_in_the_way_is_named(source, tmp_path):
    refused(source, tmp_path / "x", "f16", "weights must be bf16, int8, int4, got 'f16'")
    refused(source, tmp_path / "none" / "x", words="none is no folder; make it first")
    (tmp_path / "file").write_text("")
    refused(source, tmp_path / "file", words="is a file; name a new folder")
    (tmp_path / "empty").mkdir()
    refused(source, tmp_path / "empty", words="is there; remove it, or name a new folder")
    refused(source, source, words="is there and is not empty")
    done = convert(source, tmp_path / "done", "bf16")
    refused(source, done, words="is there and is not empty")
    refused(done, tmp_path / "again", words="packed already, as bf16: name the folder of the checkpoint")


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "x", words="config.json: there is no such file")
    files.write(tmp_path / "gguf", {"model.gguf": b"GGUF"})
    refused(tmp_path / "gguf", tmp_path / "x", words="model.gguf: version should have 4 bytes .*fetch it again")
    files.write(tmp_path / "lacking", files.single({"model.norm.weight": np.ones(24, np.float32)}))
    refused(tmp_path / "lacking", tmp_path / "x", words="missing")


def test_a_disk_without_room_is_named_before_anything_is_written(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(source, tmp_path / "x", words="must have 0.0 GB of room, has 0.0: make room, or name a folder")


def test_numbers_that_int8_has_none_for_are_named(tmp_path):
    arrays = files.tensors()
    arrays["model.layers.1.mlp.down_proj.weight"][3, 4] = np.inf
    source = files.write(tmp_path / "source", files.single(arrays))
    with pytest.raises(minivl.Error, match=r"decoder.layers.1.down.weight: .*infinity or NaN.*keep it in bf16"):
        convert(source, tmp_path / "x", "int8")
    convert(source, tmp_path / "y", "bf16")


def test_two_at_a_time_do_not_write_the_same(source, tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    work = work_folder(tmp_path / "x")
    work.mkdir()
    with (work / JOURNAL).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(minivl.Error, match="being written by another process"):
            convert(source, tmp_path / "x", "int8")
    convert(source, tmp_path / "x", "int8")


# ---- whatever stops it

PROGRAM = """
import os, random, signal, sys, time
from pathlib import Path
from minivl.checkpoint import convert as writing
os.fsync = lambda file: None                               # a kill loses nothing that was written; it is slow
source, target, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if seed == "once":
    sys.exit(writing.convert(source, target, "int8") != target)
r, writing.SAFE, journal = random.Random(seed), 1, writing.work_folder(target) / writing.JOURNAL
for _ in range(20):
    if not (child := os.fork()):
        writing.convert(source, target, "int8", tell=lambda *said: time.sleep(0.003))
        os._exit(0)
    time.sleep(r.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] == 0 or target.exists():
        break
    beside = sorted(path.name for path in target.parent.iterdir())
    print(journal.read_bytes().count(b"\\n") if journal.exists() else 0, *beside, flush=True)
"""


def run(*words, **options):
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], cwd=ROOT, encoding="utf-8",
                          capture_output=True, **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_kill_at_any_moment_leaves_nothing_or_all_of_it(source, whole, tmp_path):
    """Killed again and again by a seeded clock, the same command comes to the same folder."""
    stopped = []
    for seed in range(3):
        target = tmp_path / str(seed) / "int8"
        target.parent.mkdir()
        done = run(source, target, seed)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            lines, *beside = line.split()
            stopped.append(int(lines))
            assert beside in ([], [work_folder(target).name])
        if not target.exists():
            convert(source, target, "int8")
        assert bytes_of(target) == whole and [path.name for path in target.parent.iterdir()] == ["int8"]
    assert len(stopped) >= 3 and max(stopped) > 10, stopped             # it was stopped in the middle, and went on


@pytest.mark.parametrize("moment", range(6))
def test_what_stops_it_between_any_two_tensors_costs_only_what_was_not_yet_written(source, whole, tmp_path, moment,
                                                                                   monkeypatch):
    monkeypatch.setattr(writing, "SAFE", 1)
    total = 35                                              # places of the small checkpoint, and more
    stop, target, seen = random.Random(moment).randrange(1, total), tmp_path / "x", []

    def tell(what, done, all):
        seen.append(what)
        if len(seen) == stop:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, "int8", tell=tell)
    packed = []
    arrays_of = writing.arrays_of
    monkeypatch.setattr(writing, "arrays_of", lambda *args: packed.append(args[0]) or arrays_of(*args))
    convert(source, target, "int8")
    assert bytes_of(target) == whole
    places = len({name.removesuffix(".tiles").removesuffix(".scales")
                  for name in json.loads(whole[ABOUT])["digests"]})
    assert len(packed) == places - (stop - 1)


def test_a_full_disk_is_an_error_and_more_room_goes_on(source, whole, tmp_path):
    resource = pytest.importorskip("resource", reason="this system limits no files")

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    done = run(source, tmp_path / "x", "once", preexec_fn=little_room)
    assert done.returncode == 1 and "File too large" in done.stderr and not (tmp_path / "x").exists(), done.stderr
    convert(source, tmp_path / "x", "int8")
    assert bytes_of(tmp_path / "x") == whole


def stopped(source, target, monkeypatch, weights="int8"):
    """A conversion that stops when all is packed and nothing is copied."""
    monkeypatch.setattr(writing, "finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, weights)
    monkeypatch.undo()
    return work_folder(target)


def spoil(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["tiles", "tail", "more", "journal", "cut journal", "no journal", "no tiles",
                                  "stray file", "other source"])
def test_what_was_written_before_is_not_believed(source, whole, tmp_path, harm, monkeypatch):
    source = shutil.copytree(source, tmp_path / "source")
    work = stopped(source, tmp_path / "x", monkeypatch)
    if harm == "tiles":
        spoil(work / TILES, 30_000)
    elif harm == "tail":
        os.truncate(work / TILES, (work / TILES).stat().st_size - 100)
    elif harm == "more":
        (work / TILES).write_bytes((work / TILES).read_bytes() + b"more")
    elif harm == "stray file":
        (work / ".packed.json.k1alf2d5").write_bytes(b"half of it")
    elif harm == "journal":
        (work / JOURNAL).write_bytes((work / JOURNAL).read_bytes().replace(b": \"", b": \"0", 9))
    elif harm == "cut journal":
        os.truncate(work / JOURNAL, (work / JOURNAL).stat().st_size - 30)
    elif harm == "other source":
        arrays = files.tensors(seed=8)
        (source / "model.safetensors").write_bytes(files.safetensors(arrays))
    else:
        (work / (JOURNAL if harm == "no journal" else TILES)).unlink()
    found = bytes_of(convert(source, tmp_path / "x", "int8"))
    if harm == "other source":
        assert found[TILES] == bytes_of(convert(source, tmp_path / "y", "int8"))[TILES] != whole[TILES]
    else:
        assert found[TILES] == whole[TILES] and found.keys() == whole.keys() and not damaged(tmp_path / "x")


def test_another_command_begins_anew_and_can_be_gone_on_with(source, whole, tmp_path, monkeypatch):
    stopped(source, tmp_path / "x", monkeypatch, "int4")
    stopped(source, tmp_path / "x", monkeypatch)
    monkeypatch.setattr(writing, "arrays_of", None)                     # nothing is packed again
    assert bytes_of(convert(source, tmp_path / "x", "int8")) == whole


def test_a_byte_that_the_disk_changed_is_found_before_the_folder_is_there(source, whole, tmp_path, monkeypatch):
    check = writing.damaged

    def after_harm(folder, tell=None):
        spoil(folder / TILES, 40_000)
        return check(folder, tell)
    monkeypatch.setattr(writing, "damaged", after_harm)
    with pytest.raises(CheckpointError, match=r"1 of \d+ tensors are not what was written .*run the command again"):
        convert(source, tmp_path / "x", "int8")
    assert not (tmp_path / "x").exists()
    monkeypatch.undo()
    assert bytes_of(convert(source, tmp_path / "x", "int8")) == whole


# ---- the embedded model, through the front door

def test_the_embedded_model_packed_answers_as_it_does(tmp_path):
    from minivl.show.samples import load_samples
    sample = next(one for one in load_samples() if one.fps is None)
    seen = []
    folder = minivl.convert(None, tmp_path / "tiny", tell=lambda what, done, all: seen.append(done / all))
    assert seen == sorted(seen) and seen[-1] == 1
    with minivl.load() as vlm, minivl.load(folder) as packed:
        inputs = vlm.prepare([{"role": "user", "content": [
            {"type": "image", "image": str(sample.paths[0])}, {"type": "text", "text": sample.question}]}])
        assert packed.interpreter.name == "definition"
        assert np.array_equal(packed.logits(inputs), vlm.logits(inputs))
        with minivl.load(folder, kernels="jit") as fast:
            again = vlm.on(kernels="jit")
            assert np.array_equal(fast.logits(inputs), again.logits(inputs))
            assert fast.generate(inputs, 3) == again.generate(inputs, 3)


def test_every_command_takes_a_packed_folder_and_says_its_format(tmp_path, capsys):
    from minivl.cli.words import app
    from minivl.show.samples import load_samples

    def ran(*words):
        with pytest.raises(SystemExit) as end:
            app(list(map(str, words)), prog_name="minivl")
        out, err = capsys.readouterr()
        return end.value.code, out, err
    folder, picture = tmp_path / "int4", load_samples()[0].paths[0]
    code, out, _ = ran("convert", minivl.api.TINY, folder, "--weights", "int4")
    assert code == 0 and "int4, 4.4" in out and "every tensor was read back" in out
    code, out, _ = ran("inspect", folder, "--json")
    found = json.loads(out)
    assert code == 0 and found["packed"]["weights"] == "int4" and found["packed"]["source"] == "tiny"
    assert found["tensors"]["formats"].keys() == {"int4", "int8", "bf16"} and found["tensors"]["bytes"] < 4.5e6
    assert [part["part"] for part in found["parts"] if part["parameters"] != part["expected"]] == []
    code, out, err = ran("ask", picture, "Describe the image.", "--model", folder, "--max-new-tokens", 2)
    assert code == 0 and out.strip() and "packed weights, in int4, int8, bf16" in err
    code, out, _ = ran("explain", "--model", folder, "--json")
    document = json.loads(out)
    assert document["weights"] == "int4, int8, bf16" and document["weight_bytes"] == found["tensors"]["bytes"]
    trace = tmp_path / "t.safetensors"
    assert ran("trace", "record", "--model", folder, "-o", trace, "--yardstick", "float32")[0] == 0
    assert "weights in int4, int8, bf16" in ran("trace", "show", trace)[1]
    code, _, err = ran("convert", folder, tmp_path / "again")
    assert code == 2 and "packed already, as int4" in err
    spoil(folder / TILES, 2_000_000)
    code, out, _ = ran("inspect", folder)
    assert code == 1 and "its bytes are not those that were packed" in out

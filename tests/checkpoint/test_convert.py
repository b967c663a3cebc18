"""Writing a packed folder: whatever stops it, the target is not there or is whole, and the same command goes on.

What a whole one must hold is compared with one that nothing stopped. `test_packed.py` says what that is.
"""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint import convert as writing
from minivl.checkpoint.convert import JOURNAL, convert, work_folder
from minivl.checkpoint.packed_folder import ABOUT, TILES, damaged
from minivl.checkpoint.read import load_model, read_tensors
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
    """A folder's files; the journal, which a kill may leave behind the last moment, is none of them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL}


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
    refused(source, tmp_path / "x", "q4_k", "weights must be bf16, f32, int8 or int4, got 'q4_k'$")
    refused(source, tmp_path / "x", "BF16", r"got 'BF16'; did you mean 'bf16'\?")
    refused(source, tmp_path / "x", "int5", r"got 'int5'; did you mean 'int[48]'\?")
    refused(source, tmp_path / "x", "x" * 500, "int8 or int4, got 'xxx.*[.]{3}")
    refused(source, tmp_path / "none" / "x", words="none is no folder; make it first")
    (tmp_path / "file").write_text("")
    refused(source, tmp_path / "file", words="is a file; name a new folder")
    (tmp_path / "empty").mkdir()
    refused(source, tmp_path / "empty", words="is there; remove it, or name a new folder")
    refused(source, source, words="is there and is not empty")
    done = convert(source, tmp_path / "done", "bf16")
    refused(source, done, words="is there and is not empty")
    refused(done, tmp_path / "again", words="packed already, as bf16: name the folder of the checkpoint")


def no_work(monkeypatch):
    """Reading a source fails the test: what is refused is refused before the work."""
    monkeypatch.setattr(writing, "load_model", None)


def test_a_link_to_nothing_is_named_before_the_work(source, tmp_path, monkeypatch):
    no_work(monkeypatch)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    refused(source, tmp_path / "dangling", words="dangling is a link to nothing; remove it, or name a new folder")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(source, tmp_path / "loop", words="loop is a link to nothing")


@pytest.mark.skipif(os.name == "nt", reason="this system tells long names in another way")
def test_a_name_that_is_too_long_is_named_before_the_work(source, tmp_path, monkeypatch):
    no_work(monkeypatch)
    for length in (250, 300):                               # the name of the work's folder alone, and both
        refused(source, tmp_path / ("x" * length), words=r"'xxx.*' is too long: name a shorter one")


def test_a_folder_that_cannot_be_written_to_is_named(source, tmp_path, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    refused(source, tmp_path / "x", words=f"{tmp_path.name} must be a folder that may be written to, and is not: .* "
                                          "name a new folder elsewhere")
    monkeypatch.undo()                                      # some systems tell it only when one writes

    def denied(path, *more, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr(Path, "mkdir", denied)
    refused(source, tmp_path / "x", words=f"{tmp_path.name} must be a folder that may be written to")


def test_a_file_where_the_work_is_done_is_named(source, tmp_path):
    work_folder(tmp_path / "x").write_text("mine")
    refused(source, tmp_path / "x", words="x.converting is where the work is done, and is no folder; remove it")


FOREIGN = "is where the work is done; it must"


def test_a_folder_of_somebody_elses_where_the_work_is_done_is_left_alone(source, tmp_path):
    work = work_folder(tmp_path / "x")
    work.mkdir()
    (work / "letter.txt").write_text("mine")
    refused(source, tmp_path / "x", words=f"x.converting {FOREIGN} be empty or left by minivl convert, and holds "
                                          "something else: move it away, or name another new folder")
    (work / JOURNAL).write_text("of a training\n")
    refused(source, tmp_path / "x", words="must be empty or left by minivl convert")
    assert sorted(path.name for path in work.iterdir()) == [JOURNAL, "letter.txt"]
    assert (work / "letter.txt").read_text() == "mine" and (work / JOURNAL).read_text() == "of a training\n"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners as Unix has")
def test_a_folder_of_another_user_is_left_alone(source, tmp_path, monkeypatch):
    work = work_folder(tmp_path / "x")
    work.mkdir()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    refused(source, tmp_path / "x", words=f"{FOREIGN} belong to you, and belongs to another user")
    assert list(work.iterdir()) == []


def test_a_folder_inside_the_work_is_named(source, tmp_path, monkeypatch):
    work = stopped(source, tmp_path / "x", monkeypatch)
    (work / "pictures").mkdir()
    refused(source, tmp_path / "x", words=f"{FOREIGN} hold no folder, and holds pictures")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot tell links when it opens a file")
@pytest.mark.parametrize("name", [JOURNAL, TILES])
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_written_through_a_link(source, tmp_path, monkeypatch, name, late):
    """late: it appears behind the check."""
    work, victim = stopped(source, tmp_path / "x", monkeypatch), tmp_path / "victim"
    victim.write_bytes((work / name).read_bytes()[:-5])
    before = victim.read_bytes()
    (work / name).unlink()
    (work / name).symlink_to(victim)
    if late:
        monkeypatch.setattr(writing, "check_ours", lambda work: None)
    refused(source, tmp_path / "x", words=f"{FOREIGN} hold {name} as a plain file, and holds a link")
    assert victim.read_bytes() == before


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
    refused(source, tmp_path / "x", words=r"must have \d+\.\d kB of room, has 1.0 kB: make room, or name a folder")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    refused(source, tmp_path / "x", words="kB of room, has 0 bytes: make room")


@pytest.mark.parametrize("size, words", [(0, "0 bytes"), (99, "99 bytes"), (100, "0.1 kB"), (99_999, "100.0 kB"),
                                         (100_000, "0.1 MB"), (2 * 10 ** 8, "0.2 GB"), (75 * 10 ** 8, "7.5 GB")])
def test_no_size_is_told_as_nothing(size, words):
    assert writing.size_in_words(size) == words


def test_a_folder_with_the_name_of_a_file_of_weights_is_none(source, whole, tmp_path):
    source = shutil.copytree(source, tmp_path / "source")
    (source / "m.safetensors").mkdir()
    found = bytes_of(convert(source, tmp_path / "x", "int8"))
    assert found[TILES] == whole[TILES] and found.keys() == whole.keys()


def test_numbers_that_int8_has_none_for_are_named(tmp_path):
    arrays = files.tensors()
    arrays["model.layers.1.mlp.down_proj.weight"][3, 4] = np.inf
    source = files.write(tmp_path / "source", files.single(arrays))
    with pytest.raises(minivl.Error, match=r"decoder.layers.1.down.weight: .*infinity or NaN.*keep it in bf16"):
        convert(source, tmp_path / "x", "int8")
    convert(source, tmp_path / "y", "bf16")


def test_a_wrong_setting_of_the_machine_is_no_fault_of_a_tensor(source, tmp_path):
    def packer(numbers, first, out):
        raise minivl.door.errors.ArgumentError("MINIVL_THREADS must be a number from 1 to 1024, got '0'")
    with pytest.raises(minivl.Error, match=r"^MINIVL_THREADS must be"):
        convert(source, tmp_path / "x", "bf16", packer)


def test_two_at_a_time_do_not_write_the_same(source, tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    work = work_folder(tmp_path / "x")
    work.mkdir()
    with (work / JOURNAL).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(minivl.Error, match="being written by another process"):
            convert(source, tmp_path / "x", "int8")
    convert(source, tmp_path / "x", "int8")


def test_who_comes_when_another_one_ends_leaves_its_folder_alone(source, whole, tmp_path, monkeypatch):
    """It has the journal open when the other process moves the folder and lets go."""
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    target, lock = tmp_path / "x", fcntl.flock
    work = work_folder(target)

    def late(file, flags):
        if not target.exists():
            for name, data in whole.items():
                (work / name).write_bytes(data)
            work.rename(target)
            (target / JOURNAL).unlink()
        return lock(file, flags)
    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(minivl.door.errors.FileInTheWay, match="x is there and is not empty"):
        convert(source, target, "int8")
    assert bytes_of(target) == whole and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_who_looked_before_another_one_ended_leaves_no_folder_of_its_own(source, whole, tmp_path, monkeypatch):
    """The target is there by the time that its own folder of work is."""
    target, begun = tmp_path / "x", writing.begun

    def late(work):
        target.mkdir(exist_ok=True)
        (target / ABOUT).write_bytes(whole[ABOUT])
        return begun(work)
    monkeypatch.setattr(writing, "begun", late)
    with pytest.raises(minivl.door.errors.FileInTheWay):
        convert(source, target, "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_journal_of_the_source_is_copied(tmp_path):
    source = files.write(tmp_path / "source", files.single(files.tensors()) | {"journal.jsonl": b"of a training"})
    made = convert(source, tmp_path / "x", "int8")
    assert (made / "journal.jsonl").read_bytes() == b"of a training" and not (made / JOURNAL).exists()


# ---- whatever stops it

PROGRAM = """
import os, random, shutil, signal, sys
from pathlib import Path
from minivl.checkpoint import convert as writing
os.fsync = lambda file: None                               # a kill loses nothing that was written; it is slow
source, target, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if seed == "once":
    sys.exit(writing.convert(source, target, "int8") != target)
r, writing.SAFE, journal = random.Random(seed), 1, writing.work_folder(target) / writing.JOURNAL
lines = 0                                                  # of convert.py that were executed
def trace(last):
    def local(frame, event, arg):
        global lines
        lines += event == "line"
        if lines == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return local
    return lambda frame, event, arg: local if frame.f_code.co_filename == writing.__file__ else None
def convert(target, last=None):
    sys.settrace(trace(last))
    writing.convert(source, target, "int8")
    sys.settrace(None)
other = target.with_name("counted")
convert(other)
shutil.rmtree(other)
whole, lines = lines, 0
for _ in range(10):                                        # seldom is one of them the end
    last = r.randint(1, whole)
    child = os.fork()
    if not child:
        convert(target, last)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    if ended == 0 or target.exists():
        break
    assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL, ended
    beside = sorted(path.name for path in target.parent.iterdir())
    print(journal.read_bytes().count(b"\\n") if journal.exists() else 0, *beside, flush=True)
"""


def run(*words, **options):
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], cwd=ROOT, encoding="utf-8",
                          capture_output=True, **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_kill_at_any_moment_leaves_nothing_or_all_of_it(source, whole, tmp_path):
    """Killed again and again at a line of convert.py that the seed draws, the same command comes to the same
    folder."""
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


AT_THE_END = """
import os, signal, sys
from pathlib import Path
from minivl.checkpoint.convert import convert, work_folder
source, target, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
rename = Path.rename
def killed(path, to):
    if path == work_folder(target):
        if when == "after":
            rename(path, to)
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, to)
Path.rename = killed
convert(source, target, "int8")
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGKILL")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_beside_the_last_move_costs_nothing(source, whole, tmp_path, when, monkeypatch):
    """Before it: the next run packs nothing again. After it: the folder is a finished one, with the journal or
    without."""
    target = tmp_path / "x"
    done = subprocess.run([sys.executable, "-c", AT_THE_END, str(source), str(target), when], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    if when == "before":
        assert left == work_folder(target)
        monkeypatch.setattr(writing, "arrays_of", None)
        convert(source, target, "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and bytes_of(target) == whole
    assert (target / JOURNAL).exists() == (when == "after") and damaged(target) == []
    load_model(target, "float32")[1].close()
    refused(source, target, words="is there and is not empty")
    assert JOURNAL not in writing.others(target)


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
    assert done.stderr.rstrip().endswith("x.converting was left and may be removed")      # nothing was kept yet
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


@pytest.mark.parametrize("harm", ["tiles", "tail", "more", "journal", "cut journal", "empty journal", "no tiles",
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
    elif harm == "empty journal":
        os.truncate(work / JOURNAL, 0)
    else:
        (work / TILES).unlink()
    found = bytes_of(convert(source, tmp_path / "x", "int8"))
    if harm == "other source":
        assert found[TILES] == bytes_of(convert(source, tmp_path / "y", "int8"))[TILES] != whole[TILES]
    else:
        assert found[TILES] == whole[TILES] and found.keys() == whole.keys() and not damaged(tmp_path / "x")


def packing(monkeypatch):
    """Places that are packed from now on, in order."""
    packed, arrays_of = [], writing.arrays_of
    monkeypatch.setattr(writing, "arrays_of", lambda *args: packed.append(args[0]) or arrays_of(*args))
    return packed


def interrupted_after(source, target, places):
    """A conversion that stops when so many places more are packed."""
    def tell(what, done, all):
        if what.startswith("packing"):
            seen.append(what)
        if len(seen) == places:
            raise KeyboardInterrupt
    seen = []
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, "int8", tell=tell)


def test_half_a_line_of_the_journal_costs_what_it_tells_and_no_more_at_the_next_stop(source, whole, tmp_path,
                                                                                     monkeypatch):
    monkeypatch.setattr(writing, "SAFE", 1)
    interrupted_after(source, tmp_path / "x", 20)
    journal = work_folder(tmp_path / "x") / JOURNAL
    os.truncate(journal, journal.stat().st_size - 30)
    lines = journal.read_bytes().count(b"\n")
    interrupted_after(source, tmp_path / "x", 25)
    assert journal.read_bytes().count(b"\n") > lines and all(map(json.loads, journal.read_bytes().splitlines()))
    packed = packing(monkeypatch)
    assert bytes_of(convert(source, tmp_path / "x", "int8")) == whole
    places = {name.removesuffix(".tiles").removesuffix(".scales") for name in json.loads(whole[ABOUT])["digests"]}
    assert len(packed) == len(places) - 24                              # the last one was not yet kept


BAD_LINES = {"list": b"[1]", "number": b"5", "null": b"null", "text": b'"x"', "deep": b"[" * 100_000,
             "no digest": b'{"a": 1}', "other bytes": b"\xff\x00", "carriage": b'{"a":\r"b"}', "empty": b""}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_of_the_journal_that_no_run_wrote_ends_it(source, whole, tmp_path, line, monkeypatch):
    work = stopped(source, tmp_path / "x", monkeypatch)
    lines = (work / JOURNAL).read_bytes().splitlines(keepends=True)
    (work / JOURNAL).write_bytes(b"".join([*lines[:9], line + b"\n", *lines[9:]]))
    said, end = writing.said_before(work, json.loads(lines[0])["key"])
    assert len(said) == 8 and end == sum(map(len, lines[:9]))
    packed = packing(monkeypatch)
    assert bytes_of(convert(source, tmp_path / "x", "int8")) == whole
    assert 0 < len(packed) < len(lines) - 1


def test_a_journal_whose_first_line_is_cut_off_is_begun_anew(source, whole, tmp_path, monkeypatch):
    work = stopped(source, tmp_path / "x", monkeypatch)
    os.truncate(work / JOURNAL, 30)
    assert bytes_of(convert(source, tmp_path / "x", "int8")) == whole


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


def ran(capsys, *words):
    """A command: exit code, stdout, stderr."""
    from minivl.cli.words import app
    with pytest.raises(SystemExit) as end:
        app(list(map(str, words)), prog_name="minivl")
    out, err = capsys.readouterr()
    return end.value.code, out, err


GOES_ON, LEFT = "the same command goes on where this one was stopped", "x.converting was left and may be removed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"),
                                   OSError(errno.ENOSPC, "No space left on device", "some file"), MemoryError()])
def test_what_need_not_come_again_is_gone_on_with(source, tmp_path, capsys, error, monkeypatch):
    def stopped(*args):
        raise error
    monkeypatch.setattr(writing, "damaged", stopped)
    code, _, err = ran(capsys, "convert", source, tmp_path / "x", "--weights", "int8")
    assert code in (1, 2, 130) and err.count(GOES_ON) == 1 and LEFT not in err, err
    monkeypatch.undo()
    monkeypatch.setattr(writing, "arrays_of", None)                     # nothing is packed again
    assert ran(capsys, "convert", source, tmp_path / "x", "--weights", "int8")[0] == 0


@pytest.mark.parametrize("code", ["EDQUOT", "EIO", "EFBIG"])
def test_what_passes_when_its_user_acts_is_gone_on_with(source, tmp_path, monkeypatch, code):
    monkeypatch.setattr(writing, "damaged", lambda *args: (_ for _ in ()).throw(OSError(getattr(errno, code), "x")))
    with pytest.raises(OSError) as error:
        convert(source, tmp_path / "x", "int8")
    assert error.value.__notes__ == [GOES_ON]


@pytest.mark.parametrize("code", [errno.EISDIR, errno.EACCES, errno.ENOENT])
def test_what_would_come_again_is_not_gone_on_with(source, tmp_path, monkeypatch, code):
    monkeypatch.setattr(writing, "damaged", lambda *args: (_ for _ in ()).throw(OSError(code, "x")))
    with pytest.raises(OSError) as error:
        convert(source, tmp_path / "x", "int8")
    (note,) = error.value.__notes__
    assert note.endswith(LEFT)


def test_an_interruption_before_anything_was_kept_leaves_a_folder_that_may_go(source, tmp_path, capsys, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(writing, "arrays_of", stopped)
    code, _, err = ran(capsys, "convert", source, tmp_path / "x")
    assert code == 130 and err.count(LEFT) == 1 and GOES_ON not in err


def test_a_refusal_that_would_come_again_says_what_may_be_removed(source, tmp_path, capsys):
    arrays = files.tensors()
    arrays["model.layers.1.mlp.down_proj.weight"][3, 4] = np.nan
    bad = files.write(tmp_path / "bad", files.single(arrays))
    for _ in range(2):
        code, _, err = ran(capsys, "convert", bad, tmp_path / "x", "--weights", "int8")
        assert code == 2 and "infinity or NaN" in err and err.count(LEFT) == 1 and GOES_ON not in err, err
    assert work_folder(tmp_path / "x").exists()
    for words in ((source, tmp_path / "x", "--weights", "int7"), (tmp_path / "none", tmp_path / "x")):
        code, _, err = ran(capsys, "convert", *words)                   # of these nothing is left
        assert code == 2 and GOES_ON not in err and LEFT not in err, err


# ---- what is rounded

WIDE = {"float32": np.float32, "float16": np.float16}


@pytest.mark.parametrize("kind", WIDE)
def test_numbers_that_bf16_rounds_are_told_and_f32_keeps_them(tmp_path, capsys, kind):
    source = files.write(tmp_path / "source", files.single(files.tensors(WIDE[kind])))
    code, out, _ = ran(capsys, "convert", source, tmp_path / "bf16")
    matrices = len(json.loads((tmp_path / "bf16" / ABOUT).read_text())["matrices"])
    said = f"rounded from {kind} to bfloat16: {matrices} matrices; --weights f32 keeps them"
    assert code == 0 and out.splitlines()[1:] == [said], out
    code, out, _ = ran(capsys, "convert", source, tmp_path / "f32", "--weights", "f32")
    assert code == 0 and "rounded" not in out and "f32, " in out
    was, first = load_model(source, "float32")
    now, second = load_model(tmp_path / "f32", "float32")
    with first, second:
        theirs = writing.weights_of(was)
        for place, weight in writing.weights_of(now).items():
            assert weight.format == ("f32" if len(weight.shape) == 2 else WIDE[kind](0).dtype.str[1:].replace(
                "f4", "f32").replace("f2", "f16")), place
            assert np.array_equal(weight.dense("float32"), theirs[place].dense("float32")), place


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_tables_begin_at_cache_lines_beside_biases_of_float32(tmp_path, weights):
    """A bias of 48 float32 is no multiple of a cache line, and is as wide as a scale."""
    source = files.write(tmp_path / "source", files.single(files.tensors(np.float32)))
    assert damaged(convert(source, tmp_path / "x", weights)) == []


def test_only_matrices_that_lost_something_are_counted(tmp_path, capsys):
    arrays = {name: array.astype(np.float32) for name, array in files.tensors().items()}
    source = files.write(tmp_path / "exact", files.single(arrays))
    _, out, _ = ran(capsys, "convert", source, tmp_path / "x")
    assert len(out.splitlines()) == 1 and "rounded" not in (tmp_path / "x" / ABOUT).read_text()
    arrays["model.layers.1.self_attn.k_proj.weight"][11, 23] = 1 + 2 ** -20
    arrays["model.embed_tokens.weight"] = arrays["model.embed_tokens.weight"].astype(np.float64) / 3
    source = files.write(tmp_path / "two", files.single(arrays))
    for weights, types, kept in (("bf16", "float32 and float64", "bfloat16: 2 matrices"),
                                 ("f32", "float64", "float32: 1 matrix")):
        _, out, _ = ran(capsys, "convert", source, tmp_path / weights, "--weights", weights)
        assert out.splitlines()[1:] == [f"rounded from {types} to {kept}"]
    _, out, _ = ran(capsys, "convert", source, tmp_path / "int8", "--weights", "int8")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("count, words", [(1, "1 number is beyond the range of bfloat16 and became infinity: pack "
                                              "them as f32, which keeps them"), (3, "3 numbers are beyond")])
def test_numbers_that_became_infinity_are_counted_and_said(tmp_path, capsys, count, words):
    arrays = {name: array.astype(np.float32) for name, array in files.tensors().items()}
    arrays["model.embed_tokens.weight"][0, 0] = 1 + 2 ** -20             # behind the first difference it reads on
    for i, name in enumerate(("mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj")[:count]):
        arrays[f"model.layers.{i}.{name}.weight"][-1, -1] = 3.4e38
    arrays["lm_head.weight"][0, 0] = np.inf                              # is one already, and stays one
    source = files.write(tmp_path / "source", files.single(arrays))
    with pytest.warns(UserWarning, match=f"^{words}"):
        convert(source, tmp_path / "x", "bf16")
    about = json.loads((tmp_path / "x" / ABOUT).read_text(encoding="utf-8"))
    assert about["rounded"] == {"from": ["float32"], "to": "bfloat16", "matrices": count + 1, "infinite": count}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(source, tmp_path / "f32", "f32")


def test_what_was_rounded_is_told_after_an_interruption_too(tmp_path, capsys, monkeypatch):
    source = files.write(tmp_path / "source", files.single(files.tensors(np.float32)))
    stopped(source, tmp_path / "x", monkeypatch, "bf16")
    _, out, _ = ran(capsys, "convert", source, tmp_path / "x")
    assert "rounded from float32 to bfloat16" in out


# ---- the embedded model, through the front door

@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The embedded model in float32, with numbers that bfloat16 does not have; and its packed folder."""
    source = tmp_path_factory.mktemp("wide") / "source"
    shutil.copytree(minivl.api.TINY, source, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    with read_tensors(minivl.api.TINY) as tensors:
        arrays = {name: one.dense("float32") * np.float32(1 + 2 ** -10) for name, one in tensors.items()}
    (source / "model.safetensors").write_bytes(files.safetensors(arrays))
    return source, minivl.convert(source, source.parent / "f32", "f32")


@pytest.mark.parametrize("kernels", ["definition", "jit"])
def test_a_float32_checkpoint_packed_as_f32_answers_as_it_does(wide, kernels):
    from minivl.show.samples import load_samples
    if kernels == "jit":
        pytest.importorskip("minivl.kernels.jit", reason="the package numba is not installed")
    sample = next(one for one in load_samples() if one.fps is None)
    source, folder = wide
    with minivl.load(source, kernels=kernels) as vlm, minivl.load(folder, kernels=kernels) as packed, \
            minivl.load(folder, kernels=kernels, memory="1GiB") as streamed:
        inputs = vlm.prepare([{"role": "user", "content": [
            {"type": "image", "image": str(sample.paths[0])}, {"type": "text", "text": sample.question}]}])
        theirs, ours = vlm.logits(inputs), packed.logits(inputs)
        assert np.abs(ours - theirs).max() <= (0 if kernels == "definition" else 1e-5 * np.abs(theirs).max())
        assert np.array_equal(streamed.logits(inputs), ours)
        assert packed.generate(inputs, 5) == vlm.generate(inputs, 5) == streamed.generate(inputs, 5)


def test_inspect_takes_f32(wide):
    from minivl.cli.inspect import examine
    found = examine(wide[1])
    assert found["ok"] and found["packed"]["weights"] == "f32" and "f32" in found["tensors"]["formats"]


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
    assert code == 0 and out.strip() and "packed weights, in int4, int8, bf16" in err and "definitions" not in err
    code, out, err = ran("ask", picture, "Describe the image.", "--model", folder, "--max-new-tokens", 2,
                         "--kernels", "jit", "--precision", "float64")
    assert code == 0 and "--kernels jit: float64 runs by the definitions; compiled kernels are for float32 and" in err
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

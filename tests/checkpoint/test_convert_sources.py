"""Packing a quantised checkpoint: what comes out is loaded like any other, holds what packing its numbers would give,
and a kill at any moment leaves nothing or all of it. `test_convert.py` says the same of plain checkpoints, and more.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.checkpoint.convert import JOURNAL, work_folder
from minivl.checkpoint.names import weights_of
from minivl.checkpoint.packed import packed
from minivl.checkpoint.packed_folder import ABOUT
from minivl.checkpoint.read import load_model

from . import quantised_files as files

ROOT = Path(__file__).parents[2]
SOURCES, FORMATS = ("gguf", "awq", "text"), ("bf16", "f32", "int8", "int4")
FILES = {"config.json", "preprocessor_config.json", "tokenizer.json", "chat_template.json", "packed.json",
         "packed.safetensors"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Kind of source -> its path: a pair of .gguf files, an AWQ folder, a language model alone."""
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    home = tmp_path_factory.mktemp("sources")
    files.gguf_pair(home / "gguf", "Q4_K", seed=6)
    files.awq_folder(home / "awq", seed=7)
    files.gguf_pair(home / "text", "Q6_K", seed=8, write_tower=False)
    return {"gguf": home / "gguf", "awq": home / "awq", "text": home / "text" / "model-Q6_K.gguf"}


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory):
    """What nothing stopped, by source and format."""
    made = {}

    def folder(kind, format):
        if (kind, format) not in made:
            made[kind, format] = minivl.convert(sources[kind], tmp_path_factory.mktemp("whole") / "x", format)
        return made[kind, format]
    return folder


def formats_of(kind, format, place, weight):
    """What a matrix should become: the ends stay finer, and AWQ's own four bits are kept."""
    inside = ".blocks." in place or ".layers." in place
    if format == "int4" and kind == "awq":
        return "int4" if weight.format == "awq" else "int8"
    return "int8" if format == "int4" and not inside else format


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_converted_checkpoint_holds_what_packing_its_numbers_gives(sources, whole, kind, format):
    folder = whole(kind, format)
    before, first = load_model(sources[kind], "float32")
    after, second = load_model(folder, "float32")
    with first, second:
        assert before.config == after.config
        theirs = weights_of(before)
        assert weights_of(after).keys() == theirs.keys()
        for place, weight in weights_of(after).items():
            if len(weight.shape) == 2:
                wanted = formats_of(kind, format, place, theirs[place])
                assert weight.format == wanted, place
                expected = packed(theirs[place], wanted)
                assert np.array_equal(weight.array("tiles"), expected.array("tiles")), place
                assert np.array_equal(weight.array("scales"), expected.array("scales")), place
                if weight.format == "int4" and kind == "awq":
                    assert np.array_equal(weight.dense(np.float32), theirs[place].dense(np.float32)), place
            else:
                assert np.array_equal(weight.dense(np.float32), theirs[place].dense(np.float32)), place


@pytest.mark.parametrize("kind", SOURCES)
def test_a_converted_checkpoint_is_prepared_for_and_answers_as_its_source(sources, whole, kind):
    messages = [{"role": "user", "content": "Two red circles?"}]
    if kind != "text":
        noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
        messages[0]["content"] = [{"type": "image", "image": noise}, {"type": "text", "text": "Two?"}]
    with minivl.load(sources[kind]) as source, minivl.load(whole(kind, "bf16")) as made:
        theirs, inputs = source.prepare(messages), made.prepare(messages)
        assert np.array_equal(inputs.input_ids, theirs.input_ids)
        assert np.array_equal(inputs.patches, theirs.patches)
        assert made.generation.eos_token_ids == source.generation.eos_token_ids
        expected = source.logits(theirs)
        assert np.linalg.norm(made.logits(inputs) - expected) < 0.03 * np.linalg.norm(expected)
    said = json.loads((whole(kind, "bf16") / ABOUT).read_text(encoding="utf-8"))
    assert len(said["source"]["sha256"]) == (2 if kind == "gguf" else 1)
    config = json.loads((whole(kind, "bf16") / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config
    names = {path.name for path in whole(kind, "bf16").iterdir()}
    assert names >= FILES and not any(name.endswith(".gguf") for name in names)


PROGRAM = """
import os, random, signal, sys, time
from pathlib import Path
import minivl
from minivl.checkpoint import convert as writing
os.fsync = lambda file: None                               # a kill loses nothing that was written; it is slow
source, target, format, seed, kills = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])
r, writing.SAFE = random.Random(seed), 1
journal = writing.work_folder(target) / writing.JOURNAL
for _ in range(kills):
    started, go = os.pipe()
    if not (child := os.fork()):
        os.write(go, b".")
        minivl.convert(source, target, format, tell=lambda *said: time.sleep(0.004))
        os._exit(0)
    os.read(started, 1)
    time.sleep(r.uniform(0, 1))
    os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1] == 0
    beside = sorted(path.name for path in target.parent.iterdir())
    print(journal.read_bytes().count(b"\\n") if journal.exists() else 0, *beside, flush=True)
    if ended or target.exists():
        break
"""


def killed(source, target, format, seed, kills):
    """Kill a conversion again and again, then let it end; gives how far it was each time."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, (source, target, format, seed, kills))], cwd=ROOT,
                          encoding="utf-8", capture_output=True)
    assert done.returncode == 0, done.stderr
    stopped = []
    for line in done.stdout.splitlines():
        lines, *beside = line.split()
        stopped.append(int(lines))
        assert beside in ([], [work_folder(target).name], [target.name]), beside
    if not target.exists():
        minivl.convert(source, target, format)
    return stopped


def bytes_of(folder):
    """A folder's files; the journal, which a kill may leave behind the last moment, is none of them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("kind", "format", "kills"), [
    ("gguf", "int8", 2), *[pytest.param(kind, format, 40, marks=pytest.mark.full)
                           for kind, format in (("gguf", "int8"), ("awq", "int4"), ("text", "bf16"))]])
def test_a_kill_at_any_moment_leaves_nothing_or_all_of_it(sources, whole, tmp_path, kind, format, kills):
    expected, moments = bytes_of(whole(kind, format)), 0
    for seed in random.Random(kind).sample(range(1000), 40):
        target = tmp_path / str(seed) / "x"
        target.parent.mkdir()
        moments += len(killed(sources[kind], target, format, seed, min(kills - moments, 8)))
        assert bytes_of(target) == expected and [path.name for path in target.parent.iterdir()] == ["x"]
        shutil.rmtree(target.parent)
        if moments >= kills:
            break
    assert moments >= kills


def test_what_is_not_there_or_cannot_be_packed_is_named_before_anything_is_written(sources, tmp_path):
    with pytest.raises(minivl.Error, match="weights must be bf16, f32, int8 or int4, got 'q4_k'"):
        minivl.convert(sources["gguf"], tmp_path / "x", "q4_k")
    shutil.copy(sources["text"], tmp_path / "cut.gguf")
    os.truncate(tmp_path / "cut.gguf", 700_000)
    with pytest.raises(minivl.Error, match=r"cut.gguf: tensor .* the file ends at 700000; fetch it again"):
        minivl.convert(tmp_path / "cut.gguf", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gguf"]
